//! Reads packed rows: the plain counterpart of what `lib/rows.ts` does, after the description in zqlite-store's `rows.rs`.

use rusqlite::types::Value;
use zqlite_store::Chunk;

/// More than a chunk has: it ends at some 64 KiB, and a row without any content counts for something too.
const MOST_ROWS: usize = 1 << 20;

/// The rows of a chunk; `None` when its bytes are not as described.
pub fn rows(chunk: &Chunk) -> Option<Vec<Vec<Value>>> {
    let mut words = Words { rest: &chunk.words };
    let mut text = std::str::from_utf8(&chunk.text).ok()?;
    let count = words.u32()? as usize;
    let width = words.u32()? as usize;
    if count > MOST_ROWS {
        return None;
    }
    let mut rows: Vec<Vec<Value>> = vec![Vec::new(); count];
    for _ in 0..width {
        let (tag, extra) = (words.u32()?, words.u32()? as usize);
        match tag {
            0 => rows.iter_mut().for_each(|row| row.push(Value::Null)),
            1 => {
                for row in &mut rows {
                    row.push(number(f64::from_le_bytes(words.array()?)));
                }
            }
            2 => {
                let lengths = words.ints(count)?;
                for (row, length) in rows.iter_mut().zip(lengths) {
                    row.push(match usize::try_from(length) {
                        Ok(units) => Value::Text(cut(&mut text, units)?.to_owned()),
                        Err(_) => Value::Null,
                    });
                }
            }
            3 => {
                let lengths = words.ints(count)?;
                let mut bytes = words.padded(extra)?;
                for (row, length) in rows.iter_mut().zip(lengths) {
                    row.push(match usize::try_from(length) {
                        Ok(length) => Value::Blob(split(&mut bytes, length)?.to_vec()),
                        Err(_) => Value::Null,
                    });
                }
            }
            4 => {
                let kinds = words.padded(count)?.to_vec();
                let slots: Vec<[u8; 8]> = (0..count).map(|_| words.array()).collect::<Option<_>>()?;
                let mut bytes = words.padded(extra)?;
                for ((row, kind), slot) in rows.iter_mut().zip(kinds).zip(slots) {
                    let length = f64::from_le_bytes(slot);
                    row.push(match kind {
                        0 => Value::Null,
                        1 => number(length),
                        2 => Value::Integer(i64::from_le_bytes(slot)),
                        3 => Value::Text(cut(&mut text, length as usize)?.to_owned()),
                        4 => Value::Blob(split(&mut bytes, length as usize)?.to_vec()),
                        _ => return None,
                    });
                }
            }
            5 => {
                let values = words.ints(count)?;
                rows.iter_mut().zip(values).for_each(|(row, value)| row.push(Value::Integer(value.into())));
            }
            _ => return None,
        }
    }
    (words.rest.is_empty() && text.is_empty()).then_some(rows)
}

/// JavaScript knows one kind of number, so whole ones come back as integers.
fn number(value: f64) -> Value {
    let whole = value as i64;
    let exact = whole as f64 == value && whole.unsigned_abs() < 1 << 53 && !(value == 0.0 && value.is_sign_negative());
    if exact { Value::Integer(whole) } else { Value::Real(value) }
}

/// The first `units` UTF-16 units of a text.
fn cut<'a>(text: &mut &'a str, units: usize) -> Option<&'a str> {
    let (mut left, mut end) = (units, 0);
    for c in text.chars() {
        if left == 0 {
            break;
        }
        left = left.checked_sub(c.len_utf16())?;
        end += c.len_utf8();
    }
    let (head, tail) = text.split_at(end);
    *text = tail;
    (left == 0).then_some(head)
}

fn split<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(length)?;
    *bytes = tail;
    Some(head)
}

struct Words<'a> {
    rest: &'a [u8],
}

impl<'a> Words<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        split(&mut self.rest, N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn padded(&mut self, length: usize) -> Option<&'a [u8]> {
        split(&mut self.rest, length.next_multiple_of(8))?.get(..length)
    }

    fn ints(&mut self, count: usize) -> Option<Vec<i32>> {
        let bytes = self.padded(4 * count)?;
        bytes.chunks_exact(4).map(|b| b.try_into().ok().map(i32::from_le_bytes)).collect()
    }
}

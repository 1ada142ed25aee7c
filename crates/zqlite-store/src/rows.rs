//! Packed columns: the rows of a result on their way to the caller, column by column.
//!
//! A [`Chunk`] is `words` (little-endian, a multiple of 8 bytes, everything aligned to 8) and `text` (UTF-8). `words`:
//!
//! ```text
//! u32 rows, u32 columns
//! for each column:
//!   u32 tag, u32 extra      extra: UTF-16 units of a TEXT column, bytes of blob data of the others
//!   NULLS  (0)  nothing
//!   NUMBER (1)  f64 × rows
//!   TEXT   (2)  i32 × rows: length in UTF-16 units, -1 for NULL; padded to 8
//!   BLOB   (3)  i32 × rows: length in bytes, -1 for NULL; padded to 8; then the bytes, padded to 8
//!   MIXED  (4)  u8 × rows: kind; padded to 8; then 8 bytes × rows; then the blobs' bytes, padded to 8
//!               kind 0 NULL, 1 f64, 2 i64 outside ±(2^53-1), 3 text (f64 length in UTF-16 units), 4 blob (f64 length in bytes)
//!   INT32  (5)  i32 × rows; padded to 8
//! ```
//!
//! INT32 is a tag of its own because a decoder then knows that the values need no objects: V8 keeps whole numbers of 32 bits in
//! the row itself, while it makes an object of 16 bytes of any number that it reads as f64 into a column that is not whole throughout.
//!
//! The texts of a chunk stand in `text` in column order, row order within a column, so that a decoder cuts them off one
//! after another. Bytes that are not UTF-8 arrive as U+FFFD, as everywhere in JavaScript.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::types::ValueRef;

use crate::{Error, ErrorCode, Result};

/// The names of a result's columns, in order. Two shapes with one `id` are the same.
#[derive(Debug)]
pub struct Shape {
    /// Never reused within a process.
    pub id: u32,
    /// In result order; may repeat.
    pub columns: Vec<String>,
}

impl Shape {
    pub(crate) fn new(columns: Vec<String>) -> Arc<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Arc::new(Self { id: NEXT.fetch_add(1, Ordering::Relaxed), columns })
    }
}

/// Some rows of a result, packed.
#[derive(Debug, Default)]
pub struct Chunk {
    /// As the module's description says.
    pub words: Vec<u8>,
    /// Every text of the chunk, valid UTF-8.
    pub text: Vec<u8>,
    /// Length of `text` in UTF-16 units.
    pub units: u32,
}

impl Chunk {
    /// One row of one number.
    pub(crate) fn number(value: f64) -> Self {
        let mut words = Vec::with_capacity(24);
        for half in [1, 1, NUMBER, 0] {
            words.extend_from_slice(&half.to_le_bytes());
        }
        words.extend_from_slice(&value.to_le_bytes());
        Self { words, ..Self::default() }
    }

    /// The value in the first row and column, if the column is of numbers.
    pub(crate) fn number_at_first(&self) -> Option<f64> {
        let word = |at: usize| -> Option<[u8; 8]> { self.words.get(at..at + 8)?.try_into().ok() };
        // The tag, and beside it 0 bytes of blobs.
        match u64::from_le_bytes(word(8)?) as u32 {
            NUMBER => word(16).map(f64::from_le_bytes),
            INT32 => word(16).map(|[a, b, c, d, ..]| i32::from_le_bytes([a, b, c, d]).into()),
            _ => None,
        }
    }
}

/// What one statement did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Item {
    /// Rows inserted, updated or deleted by the statement itself, not by its triggers.
    pub changes: u64,
    /// The rowid of the last row inserted, 0 when there was none.
    pub last_insert_rowid: i64,
}

/// A piece of an answer. An answer is some records, of which the last is marked when it is delivered; in a batch each
/// record with an `item` ends a statement.
#[derive(Debug, Default)]
pub struct Record {
    /// Rows, where the piece has any.
    pub rows: Option<(Arc<Shape>, Chunk)>,
    /// The end of a statement.
    pub item: Option<Item>,
}

/// A chunk is cut off when its text or its numbers reach this many bytes: long substrings pin their block.
const CHUNK_BYTES: usize = 64 << 10;
/// UTF-16 units of text in a chunk, which becomes one string: V8's end at 2^29 - 24, of which a little is left to the chunks
/// before it.
const MAX_TEXT: usize = if cfg!(test) { 1 << 20 } else { (1 << 29) - (1 << 20) };
/// Integers up to this one are exact as a JavaScript number.
pub(crate) const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

const NULLS: u32 = 0;
const NUMBER: u32 = 1;
const TEXT: u32 = 2;
const BLOB: u32 = 3;
const MIXED: u32 = 4;
const INT32: u32 = 5;

const KIND_NULL: u8 = 0;
const KIND_NUMBER: u8 = 1;
const KIND_INTEGER: u8 = 2;
const KIND_TEXT: u8 = 3;
const KIND_BLOB: u8 = 4;

/// Gathers rows; its buffers are kept from one result to the next.
#[derive(Default)]
pub(crate) struct Packer {
    columns: Vec<Column>,
    width: usize,
    rows: u32,
    bytes: usize,
}

#[derive(Default)]
struct Column {
    tag: u32,
    kinds: Vec<u8>,
    slots: Vec<[u8; 8]>,
    /// The lengths of texts or blobs; of INT32 the values.
    ints: Vec<i32>,
    text: Vec<u8>,
    units: u32,
    blob: Vec<u8>,
}

impl Packer {
    /// Starts a result of `width` columns.
    pub(crate) fn start(&mut self, width: usize) {
        if self.columns.len() < width {
            self.columns.resize_with(width, Column::default);
        }
        self.width = width;
        self.clear();
    }

    fn clear(&mut self) {
        self.columns.iter_mut().take(self.width).for_each(Column::clear);
        self.rows = 0;
        self.bytes = 0;
    }

    /// Adds the current row of a statement.
    ///
    /// # Errors
    /// `ERR_TOO_LARGE` for more text than can be handed over; and as SQLite tells.
    pub(crate) fn push(&mut self, row: &rusqlite::Row<'_>) -> Result<()> {
        let before = self.bytes;
        for (i, column) in self.columns.iter_mut().take(self.width).enumerate() {
            self.bytes += column.push(row.get_ref(i)?, self.rows as usize);
        }
        self.rows += 1;
        if self.bytes - before > MAX_TEXT {
            let units: usize = self.columns.iter().take(self.width).map(|column| column.units as usize).sum();
            if units > MAX_TEXT {
                let message = format!(
                    "the texts up to a row have {units} characters together; a string of JavaScript takes {MAX_TEXT}"
                );
                return Err(Error::new(ErrorCode::TooLarge, message));
            }
        }
        Ok(())
    }

    /// Whether the rows so far should leave before more are added.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= CHUNK_BYTES
    }

    /// The rows so far; the packer starts anew with the same width.
    pub(crate) fn finish(&mut self) -> Chunk {
        let columns = &self.columns[..self.width];
        let size: usize = 8 + columns.iter().map(|c| c.size()).sum::<usize>();
        let mut words = Vec::with_capacity(size);
        let mut text = Vec::with_capacity(columns.iter().map(|c| c.text.len()).sum());
        words.extend_from_slice(&self.rows.to_le_bytes());
        words.extend_from_slice(&(self.width as u32).to_le_bytes());
        let mut units = 0u32;
        for column in columns {
            column.write(&mut words);
            text.extend_from_slice(&column.text);
            units = units.saturating_add(column.units);
        }
        self.clear();
        Chunk { words, text, units }
    }
}

impl Column {
    fn clear(&mut self) {
        self.tag = NULLS;
        self.kinds.clear();
        self.slots.clear();
        self.ints.clear();
        self.text.clear();
        self.units = 0;
        self.blob.clear();
        // A result with one huge value must not keep its memory for ever.
        self.text.shrink_to(4 * CHUNK_BYTES);
        self.blob.shrink_to(4 * CHUNK_BYTES);
    }

    /// Adds a value as row `row`; returns about how many bytes it takes.
    fn push(&mut self, value: ValueRef<'_>, row: usize) -> usize {
        match value {
            ValueRef::Null => {
                match self.tag {
                    NULLS => {}
                    TEXT | BLOB => self.ints.push(-1),
                    _ => {
                        self.mix(row);
                        self.mixed(KIND_NULL, [0; 8]);
                    }
                }
                4
            }
            ValueRef::Integer(v) if v.unsigned_abs() > MAX_SAFE_INTEGER => {
                self.mix(row);
                self.mixed(KIND_INTEGER, v.to_le_bytes());
                8
            }
            ValueRef::Integer(v) => match i32::try_from(v) {
                Ok(v) => self.int(v, row),
                Err(_) => self.number(v as f64, row),
            },
            ValueRef::Real(v) => self.number(v, row),
            ValueRef::Text(bytes) => {
                let units = self.append_text(bytes);
                match self.tag {
                    TEXT => self.ints.push(units as i32),
                    NULLS => {
                        self.tag = TEXT;
                        self.ints.resize(row, -1);
                        self.ints.push(units as i32);
                    }
                    _ => {
                        self.mix(row);
                        self.mixed(KIND_TEXT, f64::from(units).to_le_bytes());
                    }
                }
                8 + bytes.len()
            }
            ValueRef::Blob(bytes) => {
                self.blob.extend_from_slice(bytes);
                match self.tag {
                    BLOB => self.ints.push(bytes.len() as i32),
                    NULLS => {
                        self.tag = BLOB;
                        self.ints.resize(row, -1);
                        self.ints.push(bytes.len() as i32);
                    }
                    _ => {
                        self.mix(row);
                        self.mixed(KIND_BLOB, (bytes.len() as f64).to_le_bytes());
                    }
                }
                8 + bytes.len()
            }
        }
    }

    fn int(&mut self, v: i32, row: usize) -> usize {
        match self.tag {
            INT32 => self.ints.push(v),
            NULLS if row == 0 => {
                self.tag = INT32;
                self.ints.push(v);
            }
            _ => return self.number(v.into(), row),
        }
        // As much as any number, which is what the caller makes room for.
        8
    }

    fn number(&mut self, v: f64, row: usize) -> usize {
        self.widen();
        match self.tag {
            NUMBER => self.slots.push(v.to_le_bytes()),
            NULLS if row == 0 => {
                self.tag = NUMBER;
                self.slots.push(v.to_le_bytes());
            }
            _ => {
                self.mix(row);
                self.mixed(KIND_NUMBER, v.to_le_bytes());
            }
        }
        8
    }

    /// Turns INT32 into NUMBER.
    fn widen(&mut self) {
        if self.tag == INT32 {
            self.tag = NUMBER;
            self.slots.extend(self.ints.drain(..).map(|v| f64::from(v).to_le_bytes()));
        }
    }

    fn mixed(&mut self, kind: u8, slot: [u8; 8]) {
        self.kinds.push(kind);
        self.slots.push(slot);
    }

    /// Turns the `row` values so far into kinds and slots.
    fn mix(&mut self, row: usize) {
        self.widen();
        match self.tag {
            MIXED => return,
            NUMBER => self.kinds.resize(row, KIND_NUMBER),
            TEXT | BLOB => {
                let kind = if self.tag == TEXT { KIND_TEXT } else { KIND_BLOB };
                for &length in &self.ints {
                    self.kinds.push(if length < 0 { KIND_NULL } else { kind });
                    self.slots.push(f64::from(length.max(0)).to_le_bytes());
                }
                self.ints.clear();
            }
            _ => {
                self.kinds.resize(row, KIND_NULL);
                self.slots.resize(row, [0; 8]);
            }
        }
        self.tag = MIXED;
    }

    /// Returns the length in UTF-16 units.
    fn append_text(&mut self, bytes: &[u8]) -> u32 {
        let units = if bytes.is_ascii() {
            self.text.extend_from_slice(bytes);
            bytes.len()
        } else {
            let text = String::from_utf8_lossy(bytes);
            self.text.extend_from_slice(text.as_bytes());
            text.encode_utf16().count()
        } as u32;
        self.units = self.units.saturating_add(units);
        units
    }

    fn size(&self) -> usize {
        8 + pad(self.kinds.len()) + self.slots.len() * 8 + pad(self.ints.len() * 4) + pad(self.blob.len())
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.tag.to_le_bytes());
        let extra = if self.tag == TEXT { self.units } else { self.blob.len() as u32 };
        out.extend_from_slice(&extra.to_le_bytes());
        out.extend_from_slice(&self.kinds);
        align(out);
        out.extend_from_slice(self.slots.as_flattened());
        for int in &self.ints {
            out.extend_from_slice(&int.to_le_bytes());
        }
        align(out);
        out.extend_from_slice(&self.blob);
        align(out);
    }
}

fn pad(n: usize) -> usize {
    n.next_multiple_of(8)
}

fn align(out: &mut Vec<u8>) {
    out.resize(pad(out.len()), 0);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use rusqlite::types::Value;

    /// The plain reading of the layout above.
    pub(crate) fn decode(chunk: &Chunk) -> Vec<Vec<Value>> {
        let w = &chunk.words;
        let u32_at = |at: usize| u32::from_le_bytes(w[at..at + 4].try_into().unwrap());
        let f64_at = |at: usize| f64::from_le_bytes(w[at..at + 8].try_into().unwrap());
        let units: Vec<u16> = std::str::from_utf8(&chunk.text).unwrap().encode_utf16().collect();
        assert_eq!(units.len(), chunk.units as usize);
        let (rows, width) = (u32_at(0) as usize, u32_at(4) as usize);
        let (mut at, mut text_at) = (8, 0);
        let mut columns: Vec<Vec<Value>> = Vec::new();
        let cut = |text_at: &mut usize, length: usize| {
            *text_at += length;
            Value::Text(String::from_utf16(&units[*text_at - length..*text_at]).unwrap())
        };
        for _ in 0..width {
            let (tag, extra) = (u32_at(at), u32_at(at + 4) as usize);
            at += 8;
            let mut column = Vec::new();
            match tag {
                NULLS => column.resize(rows, Value::Null),
                NUMBER => {
                    column.extend((0..rows).map(|i| Value::Real(f64_at(at + 8 * i))));
                    at += 8 * rows;
                }
                INT32 => {
                    column.extend((0..rows).map(|i| Value::Real((u32_at(at + 4 * i) as i32).into())));
                    at += pad(4 * rows);
                }
                TEXT | BLOB => {
                    let mut blob_at = at + pad(4 * rows);
                    let text_from = text_at;
                    for i in 0..rows {
                        let length = u32_at(at + 4 * i) as i32;
                        column.push(match (length, tag) {
                            (-1, _) => Value::Null,
                            (n, TEXT) => cut(&mut text_at, n as usize),
                            (n, _) => {
                                blob_at += n as usize;
                                Value::Blob(w[blob_at - n as usize..blob_at].to_vec())
                            }
                        });
                    }
                    let blob_bytes = if tag == TEXT {
                        assert_eq!(extra, text_at - text_from);
                        0
                    } else {
                        extra
                    };
                    at += pad(4 * rows) + pad(blob_bytes);
                }
                _ => {
                    let slots = at + pad(rows);
                    let mut blob_at = slots + 8 * rows;
                    for i in 0..rows {
                        let slot = slots + 8 * i;
                        column.push(match w[at + i] {
                            KIND_NULL => Value::Null,
                            KIND_NUMBER => Value::Real(f64_at(slot)),
                            KIND_INTEGER => Value::Integer(i64::from_le_bytes(w[slot..slot + 8].try_into().unwrap())),
                            KIND_TEXT => cut(&mut text_at, f64_at(slot) as usize),
                            _ => {
                                let n = f64_at(slot) as usize;
                                blob_at += n;
                                Value::Blob(w[blob_at - n..blob_at].to_vec())
                            }
                        });
                    }
                    at = slots + 8 * rows + pad(extra);
                }
            }
            columns.push(column);
        }
        assert_eq!(at, w.len());
        (0..rows).map(|i| columns.iter().map(|c| c[i].clone()).collect()).collect()
    }

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            (-1000i64..1000).prop_map(Value::Integer),
            any::<i64>().prop_map(Value::Integer),
            (-1e9f64..1e9).prop_map(Value::Real),
            ".{0,12}".prop_map(Value::Text),
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(Value::Blob),
        ]
    }

    /// Whole numbers about the ends of 32 bits.
    fn whole() -> impl Strategy<Value = Value> {
        (prop_oneof![Just(i64::from(i32::MIN)), Just(0), Just(i64::from(i32::MAX))], -1i64..=1)
            .prop_map(|(near, off)| Value::Integer(near + off))
    }

    /// Columns of one type are as likely as mixed ones.
    fn table() -> impl Strategy<Value = Vec<Vec<Value>>> {
        (1usize..5, 0usize..20).prop_flat_map(|(width, rows)| {
            let column = prop_oneof![
                proptest::collection::vec(value(), rows),
                proptest::collection::vec((0i64..100).prop_map(Value::Integer), rows),
                proptest::collection::vec(whole(), rows),
                (proptest::collection::vec((0i64..100).prop_map(Value::Integer), rows), value(), 0..rows.max(1))
                    .prop_map(|(mut column, odd, at)| {
                        column.iter_mut().skip(at).take(1).for_each(|value| *value = odd.clone());
                        column
                    }),
                proptest::collection::vec(prop_oneof![Just(Value::Null), "[a-zé🦀]{0,6}".prop_map(Value::Text)], rows),
            ];
            proptest::collection::vec(column, width)
        })
    }

    proptest! {
        #[test]
        fn what_is_packed_is_what_is_read(columns in table()) {
            let rows = columns[0].len();
            let mut packer = Packer::default();
            packer.start(columns.len());
            for i in 0..rows {
                for (c, column) in columns.iter().enumerate() {
                    let bytes = packer.columns[c].push(ValueRef::from(&column[i]), i);
                    packer.bytes += bytes;
                }
                packer.rows += 1;
            }
            let chunk = packer.finish();
            let expected: Vec<Vec<Value>> = (0..rows).map(|i| columns.iter().map(|c| match &c[i] {
                Value::Integer(v) if v.unsigned_abs() <= MAX_SAFE_INTEGER => Value::Real(*v as f64),
                other => other.clone(),
            }).collect()).collect();
            prop_assert_eq!(decode(&chunk), expected);
            prop_assert_eq!(chunk.words.len(), chunk.words.capacity());
        }
    }

    #[test]
    fn whole_numbers_of_32_bits_are_told_as_such() {
        let tag = |values: &[Value]| {
            let mut packer = Packer::default();
            packer.start(1);
            for (i, value) in values.iter().enumerate() {
                packer.columns[0].push(ValueRef::from(value), i);
                packer.rows += 1;
            }
            let chunk = packer.finish();
            (u32::from_le_bytes(chunk.words[8..12].try_into().unwrap()), chunk.number_at_first())
        };
        let (least, most) = (i64::from(i32::MIN), i64::from(i32::MAX));
        assert_eq!(tag(&[Value::Integer(least), Value::Integer(most)]), (INT32, Some(least as f64)));
        assert_eq!(tag(&[Value::Integer(7), Value::Integer(most + 1)]), (NUMBER, Some(7.0)));
        assert_eq!(tag(&[Value::Integer(least - 1), Value::Integer(7)]), (NUMBER, Some(least as f64 - 1.0)));
        // A REAL may be whole by chance, but the next row's is not.
        assert_eq!(tag(&[Value::Real(7.0)]), (NUMBER, Some(7.0)));
        assert_eq!(tag(&[Value::Integer(7), Value::Null]), (MIXED, None));
    }

    #[test]
    fn a_row_of_more_text_than_one_string_holds_is_refused() {
        let connection = rusqlite::Connection::open_in_memory().unwrap();
        let push = |sql: &str| {
            let mut statement = connection.prepare(sql).unwrap();
            let mut packer = Packer::default();
            packer.start(2);
            let mut rows = statement.query([]).unwrap();
            packer.push(rows.next().unwrap().unwrap()).map(|()| packer.finish().units).map_err(|e| e.code)
        };
        let half = MAX_TEXT / 2;
        assert_eq!(
            push(&format!("SELECT printf('%.*c', {half}, 'x'), printf('%.*c', {half}, 'y')")),
            Ok(MAX_TEXT as u32)
        );
        assert_eq!(
            push(&format!("SELECT printf('%.*c', {half}, 'x'), printf('%.*c', {}, 'y')", half + 1)),
            Err(ErrorCode::TooLarge)
        );
        assert_eq!(push(&format!("SELECT 'x', zeroblob({})", 2 * MAX_TEXT)), Ok(1));
    }
}

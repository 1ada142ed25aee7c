//! Values in SQLite's order (<https://sqlite.org/datatype3.html#sort_order>): numbers, then text by the column's collation,
//! then blobs. NULL is no key.

use std::cmp::Ordering;
use std::sync::Arc;

use rusqlite::types::ValueRef;

use crate::index::source::{Affinity, Column};

/// A value that is not NULL. Numbers that are equal are one key, whether integer or real.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Key {
    Integer(i64),
    /// Never one that an integer equals, and never NaN.
    Real(f64),
    Text(Arc<[u8]>),
    Blob(Arc<[u8]>),
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => a.cmp(b),
            (Self::Real(a), Self::Real(b)) => a.total_cmp(b),
            (Self::Integer(a), Self::Real(b)) => integer_to_real(*a, *b),
            (Self::Real(a), Self::Integer(b)) => integer_to_real(*b, *a).reverse(),
            (Self::Text(a), Self::Text(b)) | (Self::Blob(a), Self::Blob(b)) => a.cmp(b),
            _ => self.class().cmp(&other.class()),
        }
    }
}

/// 2^63, the least real above all integers.
const ABOVE: f64 = 9_223_372_036_854_775_808.0;

/// Compares without rounding; the two are never equal.
fn integer_to_real(integer: i64, real: f64) -> Ordering {
    if real >= ABOVE {
        Ordering::Less
    } else if real < -ABOVE {
        Ordering::Greater
    } else {
        // The whole part fits an integer; where it is equal, the fraction decides.
        integer.cmp(&(real.trunc() as i64)).then(if real.fract() > 0.0 { Ordering::Less } else { Ordering::Greater })
    }
}

impl Key {
    fn class(&self) -> u8 {
        match self {
            Self::Integer(_) | Self::Real(_) => 0,
            Self::Text(_) => 1,
            Self::Blob(_) => 2,
        }
    }

    pub(crate) fn real(value: f64) -> Option<Self> {
        if value.is_nan() {
            None
        } else if value.fract() == 0.0 && (-ABOVE..ABOVE).contains(&value) {
            Some(Self::Integer(value as i64))
        } else {
            Some(Self::Real(value))
        }
    }

    /// A stored value; `None` is NULL.
    pub(crate) fn of(value: ValueRef<'_>, column: &Column) -> Option<Self> {
        match value {
            ValueRef::Null => None,
            ValueRef::Integer(value) => Some(Self::Integer(value)),
            ValueRef::Real(value) => Self::real(value),
            ValueRef::Text(text) => Some(Self::Text(collate(text, &column.collation))),
            ValueRef::Blob(bytes) => Some(Self::Blob(bytes.into())),
        }
    }

    /// A literal that is compared with a column, which converts it to its affinity
    /// (<https://sqlite.org/datatype3.html#type_conversions_prior_to_comparison>); `None` is NULL.
    ///
    /// # Errors
    /// Why it cannot be compared.
    pub(crate) fn literal(value: ValueRef<'_>, column: &Column) -> Result<Option<Self>, &'static str> {
        match (value, column.affinity) {
            (ValueRef::Integer(value), Affinity::Text) => {
                Ok(Self::of(ValueRef::Text(value.to_string().as_bytes()), column))
            }
            (ValueRef::Real(_), Affinity::Text) => {
                Err("the column holds text; write the number as text, which depends on how it is to be spelled")
            }
            (ValueRef::Text(text), Affinity::Integer | Affinity::Real | Affinity::Numeric) => {
                Ok(number(text).or_else(|| Self::of(value, column)))
            }
            _ => Ok(Self::of(value, column)),
        }
    }
}

/// Two texts are equal to the collation exactly when these are equal, and in its order.
fn collate(text: &[u8], collation: &str) -> Arc<[u8]> {
    match collation {
        "NOCASE" => text.to_ascii_lowercase().into(),
        "RTRIM" => text[..text.len() - text.iter().rev().take_while(|b| **b == b' ').count()].into(),
        _ => text.into(),
    }
}

/// The number that a text wholly is, blanks around it aside.
fn number(text: &[u8]) -> Option<Key> {
    let text = std::str::from_utf8(text).ok()?.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let number = |b: u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
    if !unsigned.bytes().all(number) || !unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    text.parse().map(Key::Integer).ok().or_else(|| text.parse().ok().and_then(Key::real))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_without_rounding() {
        let real = |v: f64| Key::real(v).unwrap();
        let sorted = [
            real(f64::NEG_INFINITY),
            real(-1e19),
            Key::Integer(i64::MIN),
            real(-2.5),
            Key::Integer(-2),
            real(-0.5),
            real(-0.0),
            real(0.5),
            Key::Integer(1),
            Key::Integer((1 << 53) + 1),
            Key::Integer(i64::MAX),
            real(9_223_372_036_854_775_808.0),
            real(f64::INFINITY),
            Key::Text(b""[..].into()),
            Key::Blob(b""[..].into()),
        ];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(a.cmp(b), i.cmp(&j), "{a:?} {b:?}");
            }
        }
        assert_eq!(real(3.0), Key::Integer(3));
    }
}

//! Packed parameters: values as the caller's side wrote them, bound by the lane without a copy in between.
//!
//! Layout, little-endian, nothing aligned. Positional: values one after another. Named: each value behind its name
//! (`u16` length, UTF-8 bytes; without `:`, `@` or `$`). A value is a tag byte and its data:
//!
//! | tag | value | data |
//! |---|---|---|
//! | 0 | NULL | |
//! | 1 | INTEGER | `i32` |
//! | 2 | REAL | `f64` |
//! | 3 | INTEGER | `i64` |
//! | 4 | TEXT | `u32` length, UTF-8 bytes |
//! | 5 | BLOB | `u32` length, bytes |

use bytes::Bytes;
use rusqlite::Statement;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};

use crate::{Error, ErrorCode, Result};

/// The parameters of one execution of a statement.
#[derive(Debug, Clone, Default)]
pub struct Params {
    bytes: Bytes,
    count: u32,
    named: bool,
}

/// A value borrowed from packed parameters.
struct Borrowed<'a>(ValueRef<'a>);

impl ToSql for Borrowed<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0))
    }
}

impl Params {
    /// Wraps `count` packed values. The bytes are checked when they are bound, not here.
    pub fn new(bytes: Bytes, count: u32, named: bool) -> Self {
        Self { bytes, count, named }
    }

    /// Bytes that the values take, about.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// For statements without parameters.
    pub(crate) fn expect_none(&self) -> Result<()> {
        if self.count == 0 {
            return Ok(());
        }
        Err(Error::new(ErrorCode::Parameters, format!("the statement has no parameters, {} were given", self.count)))
    }

    /// Packs positional values; for callers in Rust.
    pub fn from_values(values: &[rusqlite::types::Value]) -> Self {
        use rusqlite::types::Value;
        let mut out = Vec::new();
        for value in values {
            match value {
                Value::Null => out.push(0),
                Value::Integer(v) => {
                    out.push(3);
                    out.extend_from_slice(&v.to_le_bytes());
                }
                Value::Real(v) => {
                    out.push(2);
                    out.extend_from_slice(&v.to_le_bytes());
                }
                Value::Text(v) => push_bytes(&mut out, 4, v.as_bytes()),
                Value::Blob(v) => push_bytes(&mut out, 5, v),
            }
        }
        Self::new(out.into(), values.len() as u32, false)
    }

    /// Binds every value to the statement; the statement's parameters and the values must match one to one.
    ///
    /// # Errors
    /// `ERR_PARAMETERS` when they do not, `ERR_INTERNAL` when the bytes are not as described above.
    pub(crate) fn bind(&self, statement: &mut Statement<'_>) -> Result<()> {
        let expected = statement.parameter_count();
        if self.count as usize != expected {
            return Err(Error::new(
                ErrorCode::Parameters,
                format!("the statement takes {expected} parameters, {} were given", self.count),
            ));
        }
        let mut reader = Reader { rest: &self.bytes };
        for position in 1..=expected {
            let index = if self.named { named_index(statement, reader.name()?)? } else { position };
            let value = reader.value()?;
            statement.raw_bind_parameter(index, Borrowed(value))?;
        }
        if !reader.rest.is_empty() {
            return Err(malformed());
        }
        Ok(())
    }
}

fn push_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// SQLite names a parameter with its prefix; callers leave the prefix out.
fn named_index(statement: &Statement<'_>, name: &str) -> Result<usize> {
    for prefix in [':', '@', '$'] {
        if let Some(index) = statement.parameter_index(&format!("{prefix}{name}"))? {
            return Ok(index);
        }
    }
    let known: Vec<_> = (1..=statement.parameter_count()).filter_map(|i| statement.parameter_name(i)).collect();
    Err(Error::new(
        ErrorCode::Parameters,
        format!("the statement has no parameter named {name:?}; it has {}", known.join(", ")),
    ))
}

fn malformed() -> Error {
    Error::new(ErrorCode::Internal, "the packed parameters are malformed")
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or_else(malformed)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(malformed)?;
        self.rest = rest;
        Ok(*head)
    }

    fn name(&mut self) -> Result<&'a str> {
        let length = u16::from_le_bytes(self.array()?);
        std::str::from_utf8(self.take(length.into())?).map_err(|_| malformed())
    }

    fn value(&mut self) -> Result<ValueRef<'a>> {
        Ok(match self.array::<1>()?[0] {
            0 => ValueRef::Null,
            1 => ValueRef::Integer(i32::from_le_bytes(self.array()?).into()),
            2 => ValueRef::Real(f64::from_le_bytes(self.array()?)),
            3 => ValueRef::Integer(i64::from_le_bytes(self.array()?)),
            4 => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                ValueRef::Text(self.take(length)?)
            }
            5 => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                ValueRef::Blob(self.take(length)?)
            }
            _ => return Err(malformed()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rusqlite::Connection;
    use rusqlite::types::Value;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Integer),
            any::<f64>().prop_filter("SQLite stores NaN as NULL", |f| !f.is_nan()).prop_map(Value::Real),
            ".*".prop_map(Value::Text),
            proptest::collection::vec(any::<u8>(), 0..50).prop_map(Value::Blob),
        ]
    }

    proptest! {
        #[test]
        fn every_value_arrives_as_it_was_packed(values in proptest::collection::vec(value(), 1..6)) {
            let connection = Connection::open_in_memory().unwrap();
            let marks = vec!["?"; values.len()].join(",");
            let mut statement = connection.prepare(&format!("SELECT {marks}")).unwrap();
            Params::from_values(&values).bind(&mut statement).unwrap();
            let mut rows = statement.raw_query();
            let row = rows.next().unwrap().unwrap();
            for (i, value) in values.iter().enumerate() {
                prop_assert_eq!(&row.get::<_, Value>(i).unwrap(), value);
            }
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64), named: bool) {
            let connection = Connection::open_in_memory().unwrap();
            let mut statement = connection.prepare("SELECT :a, :b").unwrap();
            let _ = Params::new(bytes.into(), 2, named).bind(&mut statement);
        }
    }

    #[test]
    fn names_find_their_parameter_whatever_the_prefix() {
        let connection = Connection::open_in_memory().unwrap();
        let mut statement = connection.prepare("SELECT :a, @b, $c").unwrap();
        let mut bytes = Vec::new();
        for (name, number) in [("c", 3i32), ("a", 1), ("b", 2)] {
            bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(1);
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        Params::new(bytes.into(), 3, true).bind(&mut statement).unwrap();
        let mut rows = statement.raw_query();
        let row = rows.next().unwrap().unwrap();
        assert_eq!([1, 2, 3], [0, 1, 2].map(|i| row.get::<_, i32>(i).unwrap()));
    }

    #[test]
    fn a_wrong_number_of_values_is_named() {
        let connection = Connection::open_in_memory().unwrap();
        let mut statement = connection.prepare("SELECT ?, ?").unwrap();
        let error = Params::from_values(&[Value::Null]).bind(&mut statement).unwrap_err();
        assert_eq!(error.code, ErrorCode::Parameters);
        assert_eq!(error.message, "the statement takes 2 parameters, 1 were given");
    }
}

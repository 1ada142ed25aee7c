//! What an index answers from, of whichever kind. A clone is a snapshot and cheap.

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::Result;
use crate::index::bitmap::Bitmap;
use crate::index::cidr::Cidr;
use crate::index::definition::{Definition, KindName};
use crate::index::source::{Fault, Source};

/// The kinds.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Cidr(Cidr),
    Bitmap(Bitmap),
}

/// Calls `f` with each row of a source: its id and what its columns hold.
pub(crate) type Scan<'a> = &'a mut dyn FnMut(
    usize,
    &mut dyn FnMut(&rusqlite::Row<'_>) -> std::result::Result<(), BuildError>,
) -> std::result::Result<(), BuildError>;

/// Why an index could not be made.
#[derive(Debug)]
pub(crate) enum BuildError {
    /// A row.
    Row(Fault, Vec<Value>),
    /// Reading failed.
    Read(crate::Error),
}

impl From<rusqlite::Error> for BuildError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Read(error.into())
    }
}

impl From<crate::Error> for BuildError {
    fn from(error: crate::Error) -> Self {
        Self::Read(error)
    }
}

impl Content {
    /// The tables and columns that `definition` is about, as they are now.
    pub(crate) fn bind(connection: &Connection, definition: &Definition) -> Result<Vec<Source>> {
        let source = Source::bind(connection, definition, &definition.table, &definition.columns)?;
        match definition.kind {
            KindName::Cidr => {}
            KindName::Bitmap => Bitmap::check(connection, definition, &source)?,
            KindName::Acl => return Err(definition.kind.wrong(&definition.name, "this kind is not available yet")),
        }
        Ok(vec![source])
    }

    /// Made of all rows.
    pub(crate) fn build(
        definition: &Definition,
        sources: &[Source],
        scan: Scan<'_>,
    ) -> std::result::Result<Self, BuildError> {
        Ok(match definition.kind {
            KindName::Bitmap => Self::Bitmap(Bitmap::build(sources, scan)?),
            KindName::Cidr | KindName::Acl => Self::Cidr(Cidr::build(definition, scan)?),
        })
    }

    /// Follows one row of a source from what it held to what it holds. False when the index did not hold it so, and has to
    /// be made anew.
    pub(crate) fn change(
        &mut self,
        _source: usize,
        row: i64,
        old: Option<&[Value]>,
        new: Option<&[Value]>,
    ) -> std::result::Result<bool, Fault> {
        match self {
            Self::Cidr(index) => index.change(row, old, new),
            Self::Bitmap(index) => Ok(index.change(row, old, new)),
        }
    }
}

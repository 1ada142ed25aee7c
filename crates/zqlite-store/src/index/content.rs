//! What an index answers from, of whichever kind. A clone is a snapshot and cheap.

use rusqlite::Connection;
use rusqlite::types::Value;

use crate::Result;
use crate::index::acl::{self, Acl};
use crate::index::bitmap::Bitmap;
use crate::index::cidr::Cidr;
use crate::index::definition::{Definition, KindName};
use crate::index::source::{Fault, Source};

/// The kinds.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Cidr(Box<Cidr>),
    Bitmap(Bitmap),
    Acl(Box<Acl>),
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
    Row(Fault),
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
        if definition.kind == KindName::Acl {
            return acl::bind(connection, definition);
        }
        let source = Source::bind(connection, definition, &definition.table, &definition.columns)?;
        if definition.kind == KindName::Bitmap {
            Bitmap::check(connection, definition, &source)?;
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
            KindName::Cidr => Self::Cidr(Box::new(Cidr::build(definition, scan)?)),
            KindName::Acl => Self::Acl(Box::new(Acl::build(definition, scan)?)),
        })
    }

    /// Follows one row of a source from what it held to what it holds. False when the index did not hold it so, and has to
    /// be made anew.
    pub(crate) fn change(
        &mut self,
        source: usize,
        row: i64,
        old: Option<&[Value]>,
        new: Option<&[Value]>,
    ) -> std::result::Result<bool, Fault> {
        match self {
            Self::Cidr(index) => index.change(row, old, new),
            Self::Bitmap(index) => Ok(index.change(row, old, new)),
            Self::Acl(index) => index.change(source, row, old, new),
        }
    }

    /// Rows may fit alone and not together: called when all have changed.
    pub(crate) fn settle(&mut self) -> std::result::Result<(), Fault> {
        match self {
            Self::Acl(index) => index.settle(),
            Self::Cidr(_) | Self::Bitmap(_) => Ok(()),
        }
    }

    /// Whether [`Self::settle`] has something to do.
    pub(crate) fn is_unsettled(&self) -> bool {
        matches!(self, Self::Acl(index) if index.is_unsettled())
    }
}

//! Indexes as a caller outside SQL sees them: the latest committed snapshot, at once, on any thread.

use std::sync::Arc;

use zqlite_acl::{Decision, Engine, Explanation};
use zqlite_cidr::Address;

use crate::index::acl::{Acl, Question};
use crate::index::bitmap::Bitmap;
use crate::index::cidr::{Cidr, address};
use crate::index::content::Content;
use crate::index::definition::KindName;
use crate::index::shelf::{Shelf, find};
use crate::{Error, ErrorCode, Result};

/// The indexes of a store. Clones share them.
#[derive(Debug, Clone)]
pub struct Indexes {
    pub(crate) shelf: Arc<Shelf>,
}

/// A row by its prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CidrRow {
    /// In its canonical text.
    pub prefix: String,
    /// The row id.
    pub row: i64,
}

impl Indexes {
    /// The index of kind `cidr` with this name.
    pub fn cidr(&self, name: impl Into<String>) -> CidrIndex {
        CidrIndex { indexes: self.clone(), name: name.into() }
    }

    /// The index of kind `bitmap` with this name.
    pub fn bitmap(&self, name: impl Into<String>) -> BitmapIndex {
        BitmapIndex { indexes: self.clone(), name: name.into() }
    }

    /// The index of kind `acl` with this name.
    pub fn acl(&self, name: impl Into<String>) -> AclIndex {
        AclIndex { indexes: self.clone(), name: name.into() }
    }

    fn with<T>(&self, name: &str, kind: KindName, f: impl FnOnce(&Content) -> Result<T>) -> Result<T> {
        find(&self.shelf.published().indexes, name, kind).and_then(f)
    }
}

fn other_kind() -> Error {
    Error::new(ErrorCode::Internal, "an index of another kind was asked")
}

/// Rows by prefix. Each call is about what is committed when it is made.
///
/// All calls fail with `ERR_INDEX_UNKNOWN` and `ERR_INDEX_UNUSABLE`, those that take a text with `ERR_CIDR_SYNTAX`.
#[derive(Debug, Clone)]
pub struct CidrIndex {
    indexes: Indexes,
    name: String,
}

impl CidrIndex {
    fn with<T>(&self, f: impl FnOnce(&Cidr) -> Result<T>) -> Result<T> {
        self.indexes.with(&self.name, KindName::Cidr, |content| match content {
            Content::Cidr(index) => f(index),
            _ => Err(other_kind()),
        })
    }

    /// Whether the index is there and can answer.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<()> {
        self.with(|_| Ok(()))
    }

    /// The longest prefix that holds `address`, with its rows in order.
    ///
    /// # Errors
    /// See [`CidrIndex`].
    pub fn lookup(&self, text: impl AsRef<[u8]>) -> Result<Option<(String, Vec<i64>)>> {
        let address = address(text)?;
        self.with(|index| Ok(index.lookup(address).map(|(prefix, rows)| (prefix.to_string(), rows))))
    }

    /// Each row whose prefix holds `address`, shortest prefix first.
    ///
    /// # Errors
    /// See [`CidrIndex`].
    pub fn matches(&self, text: impl AsRef<[u8]>) -> Result<Vec<CidrRow>> {
        let address = address(text)?;
        self.with(|index| {
            let row = |(prefix, row): (zqlite_cidr::Prefix, i64)| CidrRow { prefix: prefix.to_string(), row };
            Ok(index.matches(address).into_iter().map(row).collect())
        })
    }

    /// Calls `put` with the place of each address and the first row of the longest prefix that holds it, all of one moment.
    ///
    /// # Errors
    /// See [`CidrIndex`].
    pub fn lookup_batch(
        &self,
        addresses: impl IntoIterator<Item = Address>,
        mut put: impl FnMut(usize, Option<i64>),
    ) -> Result<()> {
        self.with(|index| {
            addresses.into_iter().enumerate().for_each(|(at, address)| put(at, index.lookup_row(address)));
            Ok(())
        })
    }
}

/// Rows by what their columns hold. Each call is about what is committed when it is made.
///
/// All calls fail with `ERR_INDEX_UNKNOWN`, `ERR_INDEX_UNUSABLE` and `ERR_FILTER_SYNTAX`.
#[derive(Debug, Clone)]
pub struct BitmapIndex {
    indexes: Indexes,
    name: String,
}

impl BitmapIndex {
    fn with<T>(&self, f: impl FnOnce(&Bitmap) -> Result<T>) -> Result<T> {
        self.indexes.with(&self.name, KindName::Bitmap, |content| match content {
            Content::Bitmap(index) => f(index),
            _ => Err(other_kind()),
        })
    }

    /// Whether the index is there and can answer.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<()> {
        self.with(|_| Ok(()))
    }

    /// The ids of the rows of which `filter` is true, ascending.
    ///
    /// # Errors
    /// See [`BitmapIndex`].
    pub fn rows(&self, filter: &str) -> Result<Vec<i64>> {
        self.with(|index| index.ids(filter))
    }

    /// How many they are.
    ///
    /// # Errors
    /// See [`BitmapIndex`].
    pub fn count(&self, filter: &str) -> Result<u64> {
        self.with(|index| index.count(filter).map(|count| count as u64))
    }
}

/// Access rules. Each call is about what is committed when it is made.
///
/// All calls fail with `ERR_INDEX_UNKNOWN` and `ERR_INDEX_UNUSABLE`; those that ask with `ERR_ACL_UNKNOWN`.
#[derive(Debug, Clone)]
pub struct AclIndex {
    indexes: Indexes,
    name: String,
}

impl AclIndex {
    fn with<T>(&self, f: impl FnOnce(&Acl) -> Result<T>) -> Result<T> {
        self.indexes.with(&self.name, KindName::Acl, |content| match content {
            Content::Acl(index) => f(index),
            _ => Err(other_kind()),
        })
    }

    /// Whether the index is there and can answer.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<()> {
        self.with(|_| Ok(()))
    }

    /// May one reach the other?
    ///
    /// # Errors
    /// See [`AclIndex`].
    pub fn decide(&self, question: &Question) -> Result<Decision> {
        self.with(|index| index.decide(question))
    }

    /// The rules and peers of this moment, for many questions, or others than these. It costs microseconds; neither sees
    /// later changes of the other.
    ///
    /// # Errors
    /// See [`AclIndex`].
    pub fn engine(&self) -> Result<Engine> {
        self.with(|index| Ok(index.engine().clone()))
    }

    /// As [`Self::decide`], with every rule that matches.
    ///
    /// # Errors
    /// See [`AclIndex`].
    pub fn explain(&self, question: &Question) -> Result<Explanation> {
        self.with(|index| index.explain(question))
    }
}

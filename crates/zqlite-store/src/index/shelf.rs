//! Snapshots of all indexes by commit number: the latest for whoever asks from outside, earlier ones for readers whose
//! read transaction began before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::index::content::Content;
use crate::index::definition::{Definition, KindName};
use crate::index::source::Source;
use crate::{Error, ErrorCode, Result};

/// Snapshots that are kept. Each holds little of its own: what its commit changed, at most some 64 KiB for one row.
const KEPT: usize = 256;

/// An index at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    pub(crate) definition: Arc<Definition>,
    pub(crate) sources: Arc<[Source]>,
    /// What it answers from, or why it cannot.
    pub(crate) content: std::result::Result<Content, Broken>,
}

/// Why an index cannot answer.
#[derive(Debug, Clone)]
pub(crate) struct Broken {
    pub(crate) error: Arc<Error>,
    /// The row that does not fit, by source, unless the definition itself does not.
    pub(crate) row: Option<(usize, i64)>,
}

/// All indexes at one moment, by name in lower case.
pub(crate) type Indexes = BTreeMap<String, Index>;

/// A moment: the indexes that belong to the commit with this number.
#[derive(Debug, Default)]
pub(crate) struct Generation {
    pub(crate) number: i64,
    pub(crate) indexes: Arc<Indexes>,
}

/// Finds an index that can answer.
///
/// # Errors
/// `ERR_INDEX_UNKNOWN`, `ERR_INDEX_UNUSABLE`.
pub(crate) fn find<'a>(indexes: &'a Indexes, name: &str, kind: KindName) -> Result<&'a Content> {
    // Most callers write a name as it is kept.
    let index = indexes.get(name).or_else(|| indexes.get(&name.to_ascii_lowercase()));
    let Some(index) = index.filter(|index| index.definition.kind == kind) else {
        let message = match index {
            Some(index) => format!("{name} is an index of kind {}, not {}", index.definition.kind.text(), kind.text()),
            None => {
                let excerpt: String = name.chars().take(64).collect();
                format!("there is no {} index {excerpt:?}", kind.text())
            }
        };
        return Err(Error::new(ErrorCode::IndexUnknown, message));
    };
    index.content.as_ref().map_err(|broken| {
        Error::new(ErrorCode::IndexUnusable, format!("index {name} cannot answer: {}", broken.error.message))
    })
}

/// The snapshots of a store.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    published: RwLock<Arc<Generation>>,
    kept: Mutex<VecDeque<Arc<Generation>>>,
}

impl Shelf {
    /// The latest that is committed.
    pub(crate) fn published(&self) -> Arc<Generation> {
        self.published.read().clone()
    }

    /// Makes a snapshot known by its number, before its COMMIT.
    pub(crate) fn register(&self, generation: &Arc<Generation>) {
        let mut kept = self.kept.lock();
        // One that has this number already was of a COMMIT that failed.
        kept.retain(|known| known.number < generation.number);
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(generation.clone());
    }

    /// Makes it the latest, after its COMMIT. Cannot fail.
    pub(crate) fn publish(&self, generation: Arc<Generation>) {
        *self.published.write() = generation;
    }

    /// The snapshot of a commit.
    ///
    /// # Errors
    /// `ERR_SNAPSHOT_TOO_OLD` when it is kept no longer.
    pub(crate) fn get(&self, number: i64) -> Result<Arc<Generation>> {
        let published = self.published();
        if published.number == number {
            return Ok(published);
        }
        self.kept.lock().iter().rev().find(|kept| kept.number == number).cloned().ok_or_else(|| {
            let message =
                "the read began before the last 256 changes of indexes, whose earlier states are kept no longer";
            Error::new(ErrorCode::SnapshotTooOld, message)
        })
    }
}

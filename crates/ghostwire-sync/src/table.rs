//! Records by handle, in a table that can be copied for the price of a pointer.
//!
//! A frame is encoded from such a copy after the lock on the state is released. Writing to a table that has copies
//! copies the list of pages and the page concerned, nothing else.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::view::Stamp;
use crate::{Digest, Handle};

const PAGE: u32 = 64;

type Page = [Option<Arc<Record>>; PAGE as usize];

/// A record and when it changed, on both axes of time (see `State`).
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) id: Arc<str>,
    pub(crate) digest: Digest,
    pub(crate) element: Bytes,
    pub(crate) seq: u64,
    pub(crate) stamp: Stamp,
}

/// Pages of records, keyed by handle / [`PAGE`]: handles may be anything, so nothing is sized by the largest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pages: Arc<BTreeMap<u32, Arc<Page>>>,
    len: usize,
}

impl Table {
    pub(crate) fn get(&self, handle: Handle) -> Option<&Arc<Record>> {
        self.pages.get(&(handle / PAGE))?[(handle % PAGE) as usize].as_ref()
    }

    pub(crate) fn insert(&mut self, handle: Handle, record: Record) {
        let pages = Arc::make_mut(&mut self.pages);
        let page = pages.entry(handle / PAGE).or_insert_with(|| Arc::new([const { None }; PAGE as usize]));
        let before = Arc::make_mut(page)[(handle % PAGE) as usize].replace(Arc::new(record));
        self.len += usize::from(before.is_none());
    }

    pub(crate) fn remove(&mut self, handle: Handle) -> Option<Arc<Record>> {
        self.get(handle)?;
        let pages = Arc::make_mut(&mut self.pages);
        let page = pages.get_mut(&(handle / PAGE))?;
        let removed = Arc::make_mut(page)[(handle % PAGE) as usize].take();
        if page.iter().all(Option::is_none) {
            pages.remove(&(handle / PAGE));
        }
        self.len -= usize::from(removed.is_some());
        removed
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> Record {
        let element = Bytes::copy_from_slice(id.as_bytes());
        Record { id: id.into(), digest: Digest::of(id), element, seq: 1, stamp: Stamp::default() }
    }

    #[test]
    fn a_copy_does_not_change() {
        let mut table = Table::default();
        table.insert(1, record("a"));
        table.insert(u32::MAX, record("z"));
        let copy = table.clone();
        table.insert(1, record("b"));
        assert!(table.remove(u32::MAX).is_some());
        assert_eq!((table.len(), copy.len()), (1, 2));
        assert_eq!(&*copy.get(1).unwrap().id, "a");
        assert_eq!(&*copy.get(u32::MAX).unwrap().id, "z");
        assert_eq!(&*table.get(1).unwrap().id, "b");
        assert!(table.get(u32::MAX).is_none() && table.remove(u32::MAX).is_none());
        assert_eq!(table.pages.len(), 1);
    }
}

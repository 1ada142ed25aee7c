//! Values by key, sorted, in pages that copies share: a change copies one page, the list of some hundred pages that it is
//! in, and the list of those, however many keys there are.

use std::ops::Bound;
use std::sync::Arc;

/// Entries of a page, and pages of a list.
const MOST: usize = 128;

type Page<K, V> = Arc<Vec<(K, V)>>;
type List<K, V> = Arc<Vec<Page<K, V>>>;

/// A sorted map. A clone is a snapshot.
#[derive(Debug)]
pub(crate) struct Sorted<K, V> {
    /// Neither a list nor a page is empty.
    lists: Arc<Vec<List<K, V>>>,
}

impl<K, V> Clone for Sorted<K, V> {
    fn clone(&self) -> Self {
        Self { lists: self.lists.clone() }
    }
}

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Self { lists: Arc::default() }
    }
}

impl<K: Clone + Ord, V: Clone> Sorted<K, V> {
    /// The list and page that `key` belongs to. There must be one.
    fn page(&self, key: &K) -> (usize, usize) {
        let starts = |page: &Page<K, V>| page.first().is_some_and(|entry| entry.0 <= *key);
        let list = self.lists.partition_point(|list| list.first().is_some_and(starts)).saturating_sub(1);
        let page = self.lists.get(list).map_or(0, |list| list.partition_point(starts).saturating_sub(1));
        (list, page)
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let (list, page) = self.page(key);
        let page = self.lists.get(list)?.get(page)?;
        page.binary_search_by(|entry| entry.0.cmp(key)).ok().and_then(|at| page.get(at)).map(|entry| &entry.1)
    }

    /// Changes the value of `key`: `f` gets the one that there is, and returns the one that shall be.
    pub(crate) fn alter(&mut self, key: K, f: impl FnOnce(Option<V>) -> Option<V>) {
        let (list_at, page_at) = self.page(&key);
        let lists = Arc::make_mut(&mut self.lists);
        if lists.is_empty() {
            lists.extend(f(None).map(|value| Arc::new(vec![Arc::new(vec![(key, value)])])));
            return;
        }
        let list = Arc::make_mut(&mut lists[list_at]);
        let last_page = page_at + 1 == list.len();
        let page = Arc::make_mut(&mut list[page_at]);
        match page.binary_search_by(|entry| entry.0.cmp(&key)) {
            Ok(at) => {
                let (key, value) = page.remove(at);
                if let Some(value) = f(Some(value)) {
                    page.insert(at, (key, value));
                }
            }
            Err(at) => {
                let Some(value) = f(None) else { return };
                page.insert(at, (key, value));
            }
        }
        if page.is_empty() {
            list.remove(page_at);
        } else if page.len() > MOST {
            // What grows at its end, as row ids do, leaves full pages behind.
            let keep = if last_page { MOST } else { MOST / 2 };
            let upper = page.split_off(keep);
            list.insert(page_at + 1, Arc::new(upper));
        }
        if list.is_empty() {
            lists.remove(list_at);
        } else if list.len() > MOST {
            let keep = if list_at + 1 == lists.len() { MOST } else { MOST / 2 };
            let upper = lists[list_at].split_at(keep).1.to_vec();
            Arc::make_mut(&mut lists[list_at]).truncate(keep);
            lists.insert(list_at + 1, Arc::new(upper));
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.lists.iter().flat_map(|list| list.iter()).flat_map(|page| page.iter())
    }

    /// The entries between two bounds.
    pub(crate) fn range<'a>(&'a self, low: Bound<&'a K>, high: Bound<&'a K>) -> impl Iterator<Item = &'a (K, V)> + 'a {
        let (list, page) = match low {
            Bound::Included(key) | Bound::Excluded(key) => self.page(key),
            Bound::Unbounded => (0, 0),
        };
        let first = self.lists.get(list).into_iter().flat_map(move |list| list.iter().skip(page));
        let others = self.lists.iter().skip(list + 1).flat_map(|list| list.iter());
        let entries = first.chain(others).flat_map(|page| page.iter());
        let below = move |key: &K| match low {
            Bound::Included(low) => key < low,
            Bound::Excluded(low) => key <= low,
            Bound::Unbounded => false,
        };
        let within = move |key: &K| match high {
            Bound::Included(high) => key <= high,
            Bound::Excluded(high) => key < high,
            Bound::Unbounded => true,
        };
        entries.skip_while(move |entry| below(&entry.0)).take_while(move |entry| within(&entry.0))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_sorted_map(changes in proptest::collection::vec((0u32..600, proptest::option::of(0u8..9)), 0..900), bounds in (0u32..600, 0u32..600)) {
            let (mut sorted, mut plain) = (Sorted::default(), BTreeMap::new());
            let mut old = (sorted.clone(), plain.clone());
            for (i, (key, value)) in changes.into_iter().enumerate() {
                // Most keys go up, so that pages fill.
                let key = if i % 3 == 0 { key } else { i as u32 };
                sorted.alter(key, |before| {
                    assert_eq!(before, plain.get(&key).copied());
                    value
                });
                match value {
                    Some(value) => plain.insert(key, value),
                    None => plain.remove(&key),
                };
                if i == 400 {
                    old = (sorted.clone(), plain.clone());
                }
            }
            let pairs = |sorted: &Sorted<u32, u8>| sorted.iter().copied().collect::<Vec<_>>();
            prop_assert_eq!(pairs(&old.0), old.1.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(pairs(&sorted), plain.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
            let (low, high) = (bounds.0.min(bounds.1), bounds.0.max(bounds.1));
            let found: Vec<_> = sorted.range(Bound::Excluded(&low), Bound::Included(&high)).copied().collect();
            prop_assert_eq!(found, plain.iter().filter(|(k, _)| **k > low && **k <= high).map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
            for key in 0..600 {
                prop_assert_eq!(sorted.get(&key), plain.get(&key));
            }
        }
    }
}

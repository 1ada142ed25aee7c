//! From a number (a port, an address) to the value of the interval that it lies in.
//!
//! Intervals are kept by where they begin, sorted, in pages: two short binary searches find one, and a change copies
//! one page. From the last beginning to the end of the space is an interval too.

use std::sync::Arc;

#[derive(Clone, Debug)]
struct Page<K, V> {
    starts: Vec<K>,
    values: Vec<V>,
}

#[derive(Clone, Debug)]
pub(crate) struct Intervals<K, V> {
    /// Where each page begins, the first at the beginning of the space. There is at least one page, and none is empty.
    firsts: Vec<K>,
    pages: Vec<Arc<Page<K, V>>>,
}

/// A full page is cut in two.
const FULL: usize = 128;

impl<K: Copy + Ord + Default, V: Copy + PartialEq> Intervals<K, V> {
    /// One interval, the whole space, which begins at `K::default()`.
    pub(crate) fn new(value: V) -> Self {
        Self::from_sorted(vec![(K::default(), value)])
    }

    /// `entries` begin at the beginning of the space and ascend.
    pub(crate) fn from_sorted(entries: Vec<(K, V)>) -> Self {
        let mut this = Self { firsts: Vec::new(), pages: Vec::new() };
        // Room is left for changes.
        for entries in entries.chunks(FULL * 3 / 4) {
            let (starts, values): (Vec<K>, Vec<V>) = entries.iter().copied().unzip();
            this.firsts.extend(starts.first());
            this.pages.push(Arc::new(Page { starts, values }));
        }
        this
    }

    #[inline]
    fn locate(&self, key: K) -> (usize, usize) {
        let page = self.firsts.partition_point(|&first| first <= key).saturating_sub(1);
        let at = self.pages.get(page).map_or(0, |page| page.starts.partition_point(|&start| start <= key));
        (page, at.saturating_sub(1))
    }

    #[inline]
    pub(crate) fn get(&self, key: K) -> Option<V> {
        let (page, at) = self.locate(key);
        self.pages.get(page)?.values.get(at).copied()
    }

    /// Makes an interval begin at `key`, with the value that holds there already.
    fn cut(&mut self, key: K) {
        let (index, at) = self.locate(key);
        let Some(shared) = self.pages.get_mut(index) else {
            return;
        };
        if shared.starts.get(at) == Some(&key) {
            return;
        }
        let page = Arc::make_mut(shared);
        let Some(&value) = page.values.get(at) else {
            return;
        };
        page.starts.insert(at + 1, key);
        page.values.insert(at + 1, value);
        if page.starts.len() >= FULL {
            let starts = page.starts.split_off(FULL / 2);
            let values = page.values.split_off(FULL / 2);
            if let Some(&first) = starts.first() {
                self.firsts.insert(index + 1, first);
                self.pages.insert(index + 1, Arc::new(Page { starts, values }));
            }
        }
    }

    /// Changes the values from `first` to `end`, exclusive, or to the end of the space.
    pub(crate) fn update(&mut self, first: K, end: Option<K>, mut change: impl FnMut(V) -> V) {
        self.cut(first);
        if let Some(end) = end {
            self.cut(end);
        }
        let (page, mut at) = self.locate(first);
        for page in self.pages.iter_mut().skip(page) {
            let last = end.map_or(page.starts.len(), |end| page.starts.partition_point(|&start| start < end));
            if last <= at {
                return;
            }
            for value in Arc::make_mut(page).values.iter_mut().take(last).skip(at) {
                *value = change(*value);
            }
            at = 0;
        }
    }

    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.pages.iter_mut().flat_map(|page| Arc::make_mut(page).values.iter_mut())
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.pages.iter().map(|page| page.starts.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn updates_meet_exactly_their_interval() {
        let mut intervals = Intervals::new(0u32);
        let mut plain = [0u32; 2000];
        for step in 0u32..1500 {
            let first = step.wrapping_mul(2_654_435_761) as usize % 2000;
            let end = first + 1 + step as usize % 37;
            intervals.update(first as u16, (end < 2000).then_some(end as u16), |value| value ^ step);
            plain.iter_mut().take(end).skip(first).for_each(|value| *value ^= step);
        }
        assert!(intervals.len() > FULL);
        for (key, &value) in plain.iter().enumerate() {
            assert_eq!(intervals.get(key as u16), Some(value), "{key}");
        }
    }
}

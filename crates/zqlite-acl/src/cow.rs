//! Containers whose copies are cheap: a copy shares all pages, and a change copies the page that it touches if it is
//! shared. An engine made of them is its own snapshot.

use std::borrow::Borrow;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::Arc;

use ahash::RandomState;

type HashMap<K, V> = std::collections::HashMap<K, V, RandomState>;

/// A list in pages of 512 items.
#[derive(Clone, Debug)]
pub(crate) struct Pages<T> {
    pages: Vec<Arc<Vec<T>>>,
    len: usize,
}

const PAGE: usize = 512;

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self { pages: Vec::new(), len: 0 }
    }
}

impl<T: Clone> Pages<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.pages.get(index as usize / PAGE)?.get(index as usize % PAGE)
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        Arc::make_mut(self.pages.get_mut(index as usize / PAGE)?).get_mut(index as usize % PAGE)
    }

    /// Returns the index of the new item.
    pub(crate) fn push(&mut self, item: T) -> u32 {
        if self.len.is_multiple_of(PAGE) {
            self.pages.push(Arc::new(Vec::with_capacity(PAGE)));
        }
        if let Some(page) = self.pages.last_mut() {
            Arc::make_mut(page).push(item);
        }
        self.len += 1;
        (self.len - 1) as u32
    }
}

/// A list that takes no memory while it is empty, as a whole.
#[derive(Clone, Debug)]
pub(crate) struct List<T>(Option<Arc<Vec<T>>>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        self.0.as_ref().map_or(&[], |items| items)
    }
}

impl<T: Clone> List<T> {
    /// To be changed; copied if it is shared.
    pub(crate) fn make_mut(&mut self) -> &mut Vec<T> {
        Arc::make_mut(self.0.get_or_insert_default())
    }
}

impl<T: Clone> From<&[T]> for List<T> {
    fn from(items: &[T]) -> Self {
        Self((!items.is_empty()).then(|| Arc::new(items.to_vec())))
    }
}

/// A hash map in shards of a few hundred entries. Its keys come from outside, so the hash has a random key.
#[derive(Clone, Debug)]
pub(crate) struct Map<K, V> {
    shards: Vec<Arc<HashMap<K, V>>>,
    hasher: RandomState,
    len: usize,
}

const SHARD: usize = 256;

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        let hasher = RandomState::new();
        Self { shards: vec![Arc::new(HashMap::with_hasher(hasher.clone()))], hasher, len: 0 }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Map<K, V> {
    /// A map that does not grow before it has so many entries.
    pub(crate) fn for_entries(count: usize) -> Self {
        let hasher = RandomState::new();
        let shards = (count / SHARD + 1).next_power_of_two();
        let empty = || Arc::new(HashMap::with_hasher(hasher.clone()));
        Self { shards: (0..shards).map(|_| empty()).collect(), hasher, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The number of shards is a power of two. The tables use the highest and lowest bits of a hash.
    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        (self.hasher.hash_one(key) >> 24) as usize & (self.shards.len() - 1)
    }

    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards.get(self.shard(key))?.get(key)
    }

    pub(crate) fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let shard = self.shard(key);
        let shard = self.shards.get_mut(shard)?;
        if shard.contains_key(key) { Arc::make_mut(shard).get_mut(key) } else { None }
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.len >= self.shards.len() * SHARD {
            self.grow();
        }
        let shard = self.shard(&key);
        let old = Arc::make_mut(self.shards.get_mut(shard)?).insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let shard = self.shard(key);
        let shard = self.shards.get_mut(shard)?;
        if !shard.contains_key(key) {
            return None;
        }
        self.len -= 1;
        Arc::make_mut(shard).remove(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    fn grow(&mut self) {
        let count = (self.shards.len() * 4).max(1);
        let old = std::mem::take(&mut self.shards);
        let capacity = SHARD / 2;
        let mut shards: Vec<HashMap<K, V>> =
            (0..count).map(|_| HashMap::with_capacity_and_hasher(capacity, self.hasher.clone())).collect();
        for shard in old {
            for (key, value) in Arc::unwrap_or_clone(shard) {
                let target = (self.hasher.hash_one(&key) >> 24) as usize & (count - 1);
                if let Some(shard) = shards.get_mut(target) {
                    shard.insert(key, value);
                }
            }
        }
        self.shards = shards.into_iter().map(Arc::new).collect();
    }
}

/// Values by key, sorted, in pages of up to 256.
#[derive(Clone, Debug)]
pub(crate) struct Sorted<K, V> {
    /// No page is empty.
    pages: Vec<Arc<Vec<(K, V)>>>,
}

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Self { pages: Vec::new() }
    }
}

impl<K: Copy + Ord, V: Copy> Sorted<K, V> {
    /// The page that `key` belongs to.
    fn page(&self, key: K) -> usize {
        self.pages.partition_point(|page| page.first().is_some_and(|entry| entry.0 <= key)).saturating_sub(1)
    }

    pub(crate) fn insert(&mut self, key: K, value: V) {
        let index = self.page(key);
        let Some(page) = self.pages.get_mut(index).map(Arc::make_mut) else {
            self.pages.push(Arc::new(vec![(key, value)]));
            return;
        };
        match page.binary_search_by_key(&key, |entry| entry.0) {
            Ok(at) => page[at].1 = value,
            Err(at) => page.insert(at, (key, value)),
        }
        if page.len() > 256 {
            let upper = page.split_off(128);
            self.pages.insert(index + 1, Arc::new(upper));
        }
    }

    pub(crate) fn remove(&mut self, key: K) {
        let index = self.page(key);
        let Some(page) = self.pages.get_mut(index) else {
            return;
        };
        if let Ok(at) = page.binary_search_by_key(&key, |entry| entry.0) {
            Arc::make_mut(page).remove(at);
            if page.is_empty() {
                self.pages.remove(index);
            }
        }
    }

    /// The entries from `first` to `last`, both included.
    pub(crate) fn range(&self, first: K, last: K) -> impl Iterator<Item = (K, V)> + '_ {
        let entries = self.pages.iter().skip(self.page(first)).flat_map(|page| page.iter().copied());
        entries.skip_while(move |entry| entry.0 < first).take_while(move |entry| entry.0 <= last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who knows which keys collide in one map, of this process or another, knows nothing of the next.
    #[test]
    fn keys_that_collide_in_one_map_do_not_in_another() {
        let filled = || {
            let mut map = Map::default();
            for i in 0..100_000 {
                map.insert(format!("tag:{i}"), i);
            }
            map
        };
        let (one, other) = (filled(), filled());
        assert!(one.shards.len() >= 256 && one.shards.len() == other.shards.len());
        let colliding = || (0..).map(|i| format!("user:{i}")).filter(|key| one.shard(key) == 0).take(1000);
        let together = colliding().filter(|key| other.shard(key) == 0).count();
        assert!(together < 50, "{together} of 1,000 keys collide again");
    }
}

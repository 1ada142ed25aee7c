//! Values by prefix: a trie of six-bit strides without chains.
//!
//! A node exists where a prefix ends within its stride or where paths part; what lies between is skipped, and the bits
//! skipped are compared on the way. So the shape follows from the set of prefixes alone, there are fewer nodes than two
//! for each prefix, and a path has at most 6 (IPv4) or 22 (IPv6) of them.

use std::iter::FusedIterator;

use crate::address::{Address, Family};
use crate::arena::Arena;
use crate::node::{ABOVE, DEPTHS, Key, Node, Place, STRIDE, key_of, masked, owner_depth, slot};
use crate::pool;
use crate::prefix::Prefix;
use crate::range::AddressRange;
use crate::walk::Walk;

/// Values by prefix, IPv4 and IPv6 side by side. Each prefix has one value; for several rows of one prefix see
/// [`RowTable`](crate::RowTable).
///
/// A clone is a snapshot: it takes a few microseconds, shares all memory, and does not see what is changed after it. The
/// first change of a page of 4 KiB after that copies the page. So readers on other threads keep a clone each and never
/// wait, and publishing one change costs a few pages.
///
/// One prefix costs O(w/6) steps, where w is the width of its address family, and never depends on the number of prefixes.
#[derive(Clone, Debug)]
pub struct Table<V> {
    pub(crate) nodes: Arena<Node, 64>,
    pub(crate) values: Arena<V, 256>,
    pub(crate) len: usize,
}

/// The node that everything of this family hangs from, at depth 0. It always exists.
#[inline(always)]
pub(crate) const fn root(family: Family) -> u32 {
    family as u32
}

impl<V: Clone + Default> Default for Table<V> {
    fn default() -> Self {
        let mut nodes = Arena::new();
        nodes.store(&[Node::new(0, 0); 2]);
        Self { nodes, values: Arena::new(), len: 0 }
    }
}

impl<V: Clone + Default> FromIterator<(Prefix, V)> for Table<V> {
    fn from_iter<I: IntoIterator<Item = (Prefix, V)>>(entries: I) -> Self {
        let mut table = Self::default();
        for (prefix, value) in entries {
            table.insert(prefix, value);
        }
        table
    }
}

/// The nodes from a root down.
struct Path {
    nodes: [u32; DEPTHS],
    len: usize,
}

impl Path {
    fn from(root: u32) -> Self {
        let mut nodes = [0; DEPTHS];
        nodes[0] = root;
        Self { nodes, len: 1 }
    }

    fn last(&self) -> u32 {
        self.nodes[self.len - 1]
    }

    fn push(&mut self, node: u32) {
        self.nodes[self.len] = node;
        self.len += 1;
    }

    fn pop(&mut self) -> Option<u32> {
        (self.len > 1).then(|| {
            self.len -= 1;
            self.nodes[self.len]
        })
    }
}

impl<V: Clone + Default> Table<V> {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many prefixes the table holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the table holds no prefix.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory that the table takes, those that it shares with snapshots included.
    pub fn memory(&self) -> usize {
        self.nodes.memory() + self.values.memory()
    }

    /// Gives `prefix` this value; returns the one that it had.
    pub fn insert(&mut self, prefix: Prefix, value: V) -> Option<V> {
        let (key, length) = (prefix.key(), u32::from(prefix.length()));
        let depth = owner_depth(length);
        let mut path = Path::from(root(prefix.family()));
        self.descend_making(&mut path, key, depth);
        let place = Place::of(key, length, depth);
        let node = *self.nodes.get(path.last());
        if node.has(place) {
            return Some(std::mem::replace(self.values.get_mut(node.value_index(place)), value));
        }
        let values = self.values.insert(node.values, node.value_count(), node.value_rank(place), value);
        let node = self.nodes.get_mut(path.last());
        node.values = values;
        node.flip(place);
        self.len += 1;
        self.measure(&path);
        None
    }

    /// Extends `path` to the node at `depth` that owns `key`, which is made if there is none.
    fn descend_making(&mut self, path: &mut Path, key: Key, depth: u32) {
        loop {
            let at = path.last();
            let node = *self.nodes.get(at);
            if node.depth() == depth {
                return;
            }
            let slot = slot(key, node.depth());
            let Some(index) = node.child_at(slot) else {
                let children =
                    self.nodes.insert(node.children, node.child_count(), node.child_rank(slot), Node::new(key, depth));
                let node = self.nodes.get_mut(at);
                node.children = children;
                node.child |= 1 << slot;
                path.push(children + node.child_rank(slot) as u32);
                return;
            };
            let child = *self.nodes.get(index);
            let parting = (child.key() ^ key).leading_zeros() / STRIDE * STRIDE;
            let parting = parting.min(depth);
            if parting < child.depth() {
                // The paths part before the child, or what is wanted lies before it: a node there takes its place.
                let mut middle = Node::new(key, parting);
                middle.child = 1 << crate::node::slot(child.key(), parting);
                middle.children = self.nodes.store(&[child]);
                *self.nodes.get_mut(index) = middle;
            }
            path.push(index);
        }
    }

    /// Removes `prefix` itself, not those that it covers; returns its value.
    pub fn remove(&mut self, prefix: Prefix) -> Option<V> {
        let (mut path, place) = self.find(prefix)?;
        let at = path.last();
        let node = *self.nodes.get(at);
        let (values, value) = self.values.remove(node.values, node.value_count(), node.value_rank(place));
        let node = self.nodes.get_mut(at);
        node.values = values;
        node.flip(place);
        self.len -= 1;
        if self.nodes.get(at).value_count() == 0 {
            self.prune(&mut path, prefix.key());
        }
        self.measure(&path);
        Some(value)
    }

    /// Takes the last node of `path`, which has no value, out of the trie unless paths part there; then its parent, if
    /// that has nothing else.
    fn prune(&mut self, path: &mut Path, key: Key) {
        while path.len > 1 {
            let at = path.last();
            let node = *self.nodes.get(at);
            if node.value_count() > 0 || node.child_count() > 1 {
                return;
            }
            path.pop();
            if node.child_count() == 1 {
                // The only child moves up.
                *self.nodes.get_mut(at) = *self.nodes.get(node.children);
                self.nodes.release(node.children, 1);
                return;
            }
            let parent = *self.nodes.get(path.last());
            let slot = slot(key, parent.depth());
            let (children, _) = self.nodes.remove(parent.children, parent.child_count(), parent.child_rank(slot));
            let parent = self.nodes.get_mut(path.last());
            parent.children = children;
            parent.child ^= 1 << slot;
        }
    }

    /// Brings the free room that nodes note up to date, from the end of `path` as far up as it changes.
    fn measure(&mut self, path: &Path) {
        for &index in path.nodes[..path.len].iter().rev() {
            let room = pool::room(self, self.nodes.get(index));
            if self.nodes.get(index).room == room {
                return;
            }
            self.nodes.get_mut(index).room = room;
        }
    }

    /// The path to the node of `prefix`, and its place there, if it is in the table.
    fn find(&self, prefix: Prefix) -> Option<(Path, Place)> {
        let (key, length) = (prefix.key(), u32::from(prefix.length()));
        let depth = owner_depth(length);
        let mut path = Path::from(root(prefix.family()));
        loop {
            let node = self.nodes.get(path.last());
            if node.depth() == depth {
                let place = Place::of(key, length, depth);
                return node.has(place).then_some((path, place));
            }
            let index = node.child_at(slot(key, node.depth()))?;
            let child = self.nodes.get(index);
            if child.depth() > depth || masked(key, child.depth()) != child.key() {
                return None;
            }
            path.push(index);
        }
    }

    /// The value of `prefix` itself.
    pub fn get(&self, prefix: Prefix) -> Option<&V> {
        let (path, place) = self.find(prefix)?;
        Some(self.values.get(self.nodes.get(path.last()).value_index(place)))
    }

    /// The value of `prefix` itself, to be changed in place.
    pub fn get_mut(&mut self, prefix: Prefix) -> Option<&mut V> {
        let (path, place) = self.find(prefix)?;
        let index = self.nodes.get(path.last()).value_index(place);
        Some(self.values.get_mut(index))
    }

    /// The longest prefix that holds `address`: the route that a packet takes.
    pub fn longest_match(&self, address: Address) -> Option<(Prefix, &V)> {
        let key = key_of(address.family(), address.bits());
        let mut best = None;
        for node in self.path(address.family(), key) {
            if node.depth() < 128
                && let Some(place) = node.longest(slot(key, node.depth()))
            {
                best = Some((node, place));
            }
        }
        best.map(|(node, place)| self.entry(address.family(), node, place))
    }

    /// Each prefix that holds `address`, shortest to longest.
    pub fn matches(&self, address: Address) -> Vec<(Prefix, &V)> {
        self.covering(Prefix::from(address))
    }

    /// Each prefix that covers `prefix`, itself included, shortest to longest.
    pub fn covering(&self, prefix: Prefix) -> Vec<(Prefix, &V)> {
        let (family, key, length) = (prefix.family(), prefix.key(), u32::from(prefix.length()));
        let mut found = Vec::new();
        for node in self.path(family, key).take_while(|node| node.depth() <= owner_depth(length)) {
            let slot = slot(key, node.depth());
            let mut inner = node.inner & ABOVE[slot as usize];
            while inner != 0 {
                let position = inner.trailing_zeros();
                inner &= inner - 1;
                if node.depth() + position.ilog2() <= length {
                    found.push(self.entry(family, node, Place::Inner(position)));
                }
            }
            if node.full >> slot & 1 == 1 && node.depth() + STRIDE <= length {
                found.push(self.entry(family, node, Place::Full(slot)));
            }
        }
        found
    }

    /// The nodes whose bits begin `key`, from the root down.
    pub(crate) fn path(&self, family: Family, key: Key) -> impl Iterator<Item = &Node> {
        std::iter::successors(Some(self.nodes.get(root(family))), move |node| {
            let child = self.nodes.get(node.child_at(slot(key, node.depth()))?);
            (masked(key, child.depth()) == child.key()).then_some(child)
        })
    }

    pub(crate) fn entry(&self, family: Family, node: &Node, place: Place) -> (Prefix, &V) {
        (node.prefix(family, place), self.values.get(node.value_index(place)))
    }

    /// Each prefix that `prefix` covers, itself included, sorted.
    pub fn covered(&self, prefix: Prefix) -> Walk<'_, V> {
        Walk::within(self, prefix)
    }

    /// Each prefix that lies in `range`, sorted.
    pub fn within(&self, range: AddressRange) -> impl FusedIterator<Item = (Prefix, &V)> {
        // A prefix within a range lies in exactly one of its largest blocks.
        range.to_prefixes().into_iter().flat_map(|block| self.covered(block)).fuse()
    }

    /// All of the table, sorted: IPv4 first, a prefix before those that it covers.
    pub fn iter(&self) -> impl FusedIterator<Item = (Prefix, &V)> {
        let all = |family| self.covered(Prefix::from_key(family, 0, 0));
        all(Family::V4).chain(all(Family::V6))
    }

    /// Whether a prefix of the table covers `prefix` or is covered by it.
    pub fn overlaps(&self, prefix: Prefix) -> bool {
        !self.covering(prefix).is_empty() || self.covered(prefix).next().is_some()
    }

    /// Whether some address lies in a prefix of each table. Takes O(n) of the smaller table.
    pub fn overlaps_table(&self, other: &Self) -> bool {
        let (few, many) = if self.len <= other.len { (self, other) } else { (other, self) };
        few.iter().any(|(prefix, _)| many.overlaps(prefix))
    }

    /// Gives each of the fewest prefixes that make up `range` this value.
    pub fn insert_range(&mut self, range: AddressRange, value: V) {
        for prefix in range.to_prefixes() {
            self.insert(prefix, value.clone());
        }
    }

    /// The addresses that lie in some prefix, as the fewest ranges, sorted.
    pub fn ranges(&self) -> Vec<AddressRange> {
        let mut ranges: Vec<AddressRange> = Vec::new();
        for (prefix, _) in self.iter() {
            let next = AddressRange::from(prefix);
            match ranges.last_mut() {
                Some(last) if last.last() >= next.first() || last.last().next() == Some(next.first()) => {
                    last.extend_to(next.last());
                }
                _ => ranges.push(next),
            }
        }
        ranges
    }

    /// The first prefix of `length` bits within `pool` that overlaps no longer prefix than the pool; with `length` at the
    /// width of the family, the next free address. Prefixes that cover the pool, itself included, do not count as taken.
    ///
    /// Each node notes how much room is left below it, so this is one way down: O(w/6) nodes, however full the pool is.
    pub fn next_free(&self, pool: Prefix, length: u8) -> Option<Prefix> {
        pool::next_free(self, pool, length)
    }
}

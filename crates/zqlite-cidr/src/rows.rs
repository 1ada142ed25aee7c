//! Rows by prefix: what an index of a database keeps. A prefix may have any number of rows.

use std::sync::Arc;

use crate::address::Address;
use crate::prefix::Prefix;
use crate::range::AddressRange;
use crate::table::Table;

/// Row ids of one prefix, sorted: one in place, more of them in shared chunks, so that a change copies one chunk and the
/// list of chunks however many rows there are.
#[derive(Clone, Debug)]
enum Rows {
    One(i64),
    Many(Arc<Vec<Arc<Vec<i64>>>>),
}

impl Default for Rows {
    fn default() -> Self {
        Self::One(0)
    }
}

/// Rows of a chunk: 4 KiB. With two million rows of one prefix the list of chunks takes 64 KiB at most.
const CHUNK: usize = 512;

impl Rows {
    fn iter(&self) -> impl Iterator<Item = i64> {
        let (one, many) = match self {
            Self::One(row) => (Some(*row), None),
            Self::Many(chunks) => (None, Some(chunks)),
        };
        one.into_iter().chain(many.into_iter().flat_map(|chunks| chunks.iter()).flat_map(|chunk| chunk.iter().copied()))
    }

    /// The chunk that holds `row`, or would.
    fn chunk(chunks: &[Arc<Vec<i64>>], row: i64) -> usize {
        chunks.partition_point(|chunk| chunk.first().is_some_and(|&first| first <= row)).saturating_sub(1)
    }

    fn insert(&mut self, row: i64) -> bool {
        let chunks = match self {
            Self::One(only) if *only == row => return false,
            Self::One(only) => {
                *self = Self::Many(Arc::new(vec![Arc::new(vec![row.min(*only), row.max(*only)])]));
                return true;
            }
            Self::Many(chunks) => chunks,
        };
        let at = Self::chunk(chunks, row);
        let Err(place) = chunks[at].binary_search(&row) else { return false };
        let chunks = Arc::make_mut(chunks);
        let chunk = Arc::make_mut(&mut chunks[at]);
        chunk.insert(place, row);
        if chunk.len() > CHUNK {
            let upper = chunk.split_off(CHUNK / 2);
            chunks.insert(at + 1, Arc::new(upper));
        }
        true
    }

    /// Whether `row` was there; it must not be the only one.
    fn remove(&mut self, row: i64) -> bool {
        let Self::Many(chunks) = self else { return false };
        let at = Self::chunk(chunks, row);
        let Ok(place) = chunks[at].binary_search(&row) else { return false };
        let list = Arc::make_mut(chunks);
        let chunk = Arc::make_mut(&mut list[at]);
        chunk.remove(place);
        if chunk.is_empty() {
            list.remove(at);
        }
        if let [chunk] = list.as_slice()
            && let [only] = chunk.as_slice()
        {
            *self = Self::One(*only);
        }
        true
    }
}

/// A [`Table`] of 64-bit row ids that keeps every row of a prefix. A clone is a snapshot, as there.
#[derive(Clone, Debug, Default)]
pub struct RowTable {
    table: Table<Rows>,
    len: usize,
}

impl RowTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many rows the table holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the table holds no row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a row; whether it was not there yet.
    pub fn insert(&mut self, prefix: Prefix, row: i64) -> bool {
        let added = match self.table.get_mut(prefix) {
            Some(rows) => rows.insert(row),
            None => self.table.insert(prefix, Rows::One(row)).is_none(),
        };
        self.len += usize::from(added);
        added
    }

    /// Removes a row; whether it was there.
    pub fn remove(&mut self, prefix: Prefix, row: i64) -> bool {
        let removed = match self.table.get_mut(prefix) {
            Some(Rows::One(only)) if *only == row => self.table.remove(prefix).is_some(),
            Some(rows) => rows.remove(row),
            None => false,
        };
        self.len -= usize::from(removed);
        removed
    }

    /// The rows of `prefix` itself, sorted.
    pub fn get(&self, prefix: Prefix) -> impl Iterator<Item = i64> {
        self.table.get(prefix).into_iter().flat_map(Rows::iter)
    }

    /// The rows of the longest prefix that holds `address`.
    pub fn longest_match(&self, address: Address) -> Option<(Prefix, impl Iterator<Item = i64>)> {
        self.table.longest_match(address).map(|(prefix, rows)| (prefix, rows.iter()))
    }

    /// The rows of each prefix that holds `address`, shortest to longest.
    pub fn matches(&self, address: Address) -> impl Iterator<Item = (Prefix, i64)> {
        self.table.matches(address).into_iter().flat_map(each)
    }

    /// The rows of each prefix that `prefix` covers, itself included, sorted.
    pub fn covered(&self, prefix: Prefix) -> impl Iterator<Item = (Prefix, i64)> {
        self.table.covered(prefix).flat_map(each)
    }

    /// The rows of each prefix that lies within `range`, sorted.
    pub fn within(&self, range: AddressRange) -> impl Iterator<Item = (Prefix, i64)> {
        self.table.within(range).flat_map(each)
    }

    /// The rows of each prefix that covers `prefix`, itself included, shortest to longest.
    pub fn covering(&self, prefix: Prefix) -> impl Iterator<Item = (Prefix, i64)> {
        self.table.covering(prefix).into_iter().flat_map(each)
    }
}

fn each((prefix, rows): (Prefix, &Rows)) -> impl Iterator<Item = (Prefix, i64)> {
    rows.iter().map(move |row| (prefix, row))
}

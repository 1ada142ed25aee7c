//! Items of one size that are named by number, in memory of huge pages.

use crate::huge;

/// Items by number, with the numbers of those that are free.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    pub(crate) items: Vec<T>,
    pub(crate) free: Vec<u32>,
}

impl<T> Slab<T> {
    /// With room for `count` items; what is not used takes no memory.
    pub(crate) fn with_room(count: usize) -> Self {
        Self { items: huge::with_capacity(count), free: Vec::new() }
    }

    /// The number of a new item; `None` when `limit` are in use.
    pub(crate) fn add(&mut self, item: T, limit: usize) -> Option<u32> {
        if let Some(index) = self.free.pop() {
            self.items[index as usize] = item;
            return Some(index);
        }
        if self.items.len() >= limit {
            return None;
        }
        // A quarter more, not twice as much: this is most of the memory of a large table.
        if self.items.len() == self.items.capacity() {
            let mut items = huge::with_capacity(self.items.len() / 4 * 5 + 4);
            items.append(&mut self.items);
            self.items = items;
        }
        self.items.push(item);
        Some(self.items.len() as u32 - 1)
    }

    #[cfg(test)]
    pub(crate) fn in_use(&self) -> usize {
        self.items.len() - self.free.len()
    }

    /// Bytes that are in use or were; room behind them has not been written, so that no memory is behind it.
    pub(crate) fn memory(&self) -> usize {
        self.items.len() * size_of::<T>() + self.free.capacity() * size_of::<u32>()
    }
}

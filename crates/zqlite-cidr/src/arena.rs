//! Blocks of items in pages that snapshots share: cloning an arena copies no item, and a write copies the page that it
//! touches if a clone still holds it.
//!
//! Two levels of pointers lead to a page, so that a clone and the first write after it cost little at any size: of a
//! million items a write copies one page and the 64 pointers beside it.

use std::sync::Arc;

/// Pages of a directory.
const FAN: usize = 64;

type Directory<T, const PAGE: usize> = [Arc<[T; PAGE]>; FAN];

/// An arena of pages of `PAGE` items, a power of two. A block is a run of items within one page, named by the number of
/// its first.
#[derive(Clone, Debug)]
pub(crate) struct Arena<T, const PAGE: usize> {
    directories: Vec<Arc<Directory<T, PAGE>>>,
    /// Where the unused rest begins.
    end: u32,
    /// Freed blocks by size class, for the writer; a snapshot takes none along.
    free: Free,
    /// What a page is made of before it is written.
    blank: Arc<[T; PAGE]>,
}

/// First items of freed blocks, by class.
#[derive(Debug, Default)]
struct Free([Vec<u32>; CAPACITIES.len()]);

/// A clone is a snapshot, which is only read.
impl Clone for Free {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// How large blocks are, so that most that grow by one stay where they are and less than a quarter is unused.
const CAPACITIES: [u8; 20] = [1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 64, 96, 128];

/// The class of a block of `count` items, from 1 to 128.
fn class(count: usize) -> usize {
    CAPACITIES.partition_point(|&capacity| usize::from(capacity) < count)
}

impl<T: Clone + Default, const PAGE: usize> Arena<T, PAGE> {
    pub(crate) fn new() -> Self {
        let blank = Arc::new(std::array::from_fn(|_| T::default()));
        Self { directories: Vec::new(), end: 0, free: Free::default(), blank }
    }

    /// The item with this number, which must have been allocated.
    #[inline(always)]
    pub(crate) fn get(&self, index: u32) -> &T {
        let index = index as usize;
        &self.directories[index / PAGE / FAN][index / PAGE % FAN][index % PAGE]
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> &mut T {
        let index = index as usize;
        &mut self.page_mut(index)[index % PAGE]
    }

    /// A block of `count` items.
    pub(crate) fn block(&self, base: u32, count: usize) -> &[T] {
        if count == 0 {
            return &[];
        }
        let base = base as usize;
        let page = &self.directories[base / PAGE / FAN][base / PAGE % FAN];
        &page[base % PAGE..base % PAGE + count]
    }

    fn page_mut(&mut self, index: usize) -> &mut [T; PAGE] {
        let directory = Arc::make_mut(&mut self.directories[index / PAGE / FAN]);
        Arc::make_mut(&mut directory[index / PAGE % FAN])
    }

    /// A block for `count` items, from 0 to 128. What is in it is not defined.
    pub(crate) fn allocate(&mut self, count: usize) -> u32 {
        if count == 0 {
            return 0;
        }
        let class = class(count);
        if let Some(base) = self.free.0[class].pop() {
            return base;
        }
        let size = usize::from(CAPACITIES[class]);
        let room = PAGE - self.end as usize % PAGE;
        if room < size {
            self.donate(room);
        }
        let base = self.end;
        while self.directories.len() * FAN * PAGE < base as usize + size {
            self.directories.push(Arc::new(std::array::from_fn(|_| self.blank.clone())));
        }
        self.end += size as u32;
        base
    }

    /// Makes free blocks of the last `room` items of the page, which are too few for what is needed.
    fn donate(&mut self, mut room: usize) {
        while room > 0 {
            let class = CAPACITIES.partition_point(|&capacity| usize::from(capacity) <= room) - 1;
            self.free.0[class].push(self.end);
            self.end += u32::from(CAPACITIES[class]);
            room -= usize::from(CAPACITIES[class]);
        }
    }

    /// Gives a block back.
    pub(crate) fn release(&mut self, base: u32, count: usize) {
        if count > 0 {
            let class = class(count);
            // So that what the items hold does not outlive them.
            self.page_mut(base as usize)[base as usize % PAGE..][..count].fill(T::default());
            self.free.0[class].push(base);
        }
    }

    /// Puts `item` at place `at` of a block of `count`; returns where the block is then.
    pub(crate) fn insert(&mut self, base: u32, count: usize, at: usize, item: T) -> u32 {
        if count > 0 && class(count) == class(count + 1) {
            let block = &mut self.page_mut(base as usize)[base as usize % PAGE..][..=count];
            block[at..].rotate_right(1);
            block[at] = item;
            return base;
        }
        let mut items = self.block(base, count).to_vec();
        items.insert(at, item);
        self.replace(base, count, &items)
    }

    /// Takes the item at place `at` out of a block of `count`; returns where the block is then.
    pub(crate) fn remove(&mut self, base: u32, count: usize, at: usize) -> (u32, T) {
        if count > 1 && class(count) == class(count - 1) {
            let block = &mut self.page_mut(base as usize)[base as usize % PAGE..][..count];
            let item = std::mem::take(&mut block[at]);
            block[at..].rotate_left(1);
            return (base, item);
        }
        let mut items = self.block(base, count).to_vec();
        let item = items.remove(at);
        (self.replace(base, count, &items), item)
    }

    fn replace(&mut self, base: u32, count: usize, items: &[T]) -> u32 {
        self.release(base, count);
        self.store(items)
    }

    /// A new block with these items.
    pub(crate) fn store(&mut self, items: &[T]) -> u32 {
        let base = self.allocate(items.len());
        if !items.is_empty() {
            self.page_mut(base as usize)[base as usize % PAGE..][..items.len()].clone_from_slice(items);
        }
        base
    }

    /// Bytes of memory that this arena takes; pages shared with clones count for each.
    pub(crate) fn memory(&self) -> usize {
        let pages = (self.end as usize).div_ceil(PAGE);
        let free: usize = self.free.0.iter().map(|list| list.capacity() * size_of::<u32>()).sum();
        pages * size_of::<[T; PAGE]>() + self.directories.len() * size_of::<Directory<T, PAGE>>() + free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_keeps_what_it_saw() {
        let mut arena = Arena::<u32, 256>::new();
        let mut base = 0;
        for count in 0..100 {
            base = arena.insert(base, count, count / 2, count as u32);
        }
        let snapshot = arena.clone();
        let before = arena.block(base, 100).to_vec();
        let (moved, item) = arena.remove(base, 100, 7);
        assert_eq!(item, before[7]);
        assert_eq!(snapshot.block(base, 100), before);
        assert_eq!(arena.block(moved, 99), [&before[..7], &before[8..]].concat());
    }

    #[test]
    fn released_blocks_are_used_again() {
        let mut arena = Arena::<u32, 256>::new();
        for round in 0..1000 {
            let blocks = [3, 60, 127, 1].map(|count| (arena.allocate(count), count));
            for (base, count) in blocks {
                assert!(base as usize % 256 + count <= 256, "a block lies within a page");
                arena.release(base, count);
            }
            assert!(arena.end <= 512, "round {round}");
        }
    }
}

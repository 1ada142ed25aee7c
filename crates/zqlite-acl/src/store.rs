//! Lists of rules as they lie in memory, and the search in one.

use crate::lanes::{LANES, Lanes};

/// Numbers of an item: a range of intervals of the other side, a range of services, a slot.
pub(crate) const PAIRED: usize = 5;

/// Numbers of an item without the other side.
pub(crate) const ALONE: usize = 3;

/// A range of numbers as its first one and how many follow.
pub(crate) type Range = (u32, u32);

pub(crate) const ALL: Range = (0, u32::MAX);

/// An item of a list as it is written.
#[derive(Clone, Copy)]
pub(crate) struct Item {
    pub(crate) other: Range,
    pub(crate) service: Range,
    pub(crate) mark: u32,
}

/// A list: where its numbers begin, and how many items it has. Items lie sixteen together, number by number.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct List {
    pub(crate) at: u32,
    pub(crate) len: u32,
}

impl List {
    /// In place of a length: a list that is *turned*. For each interval of the other side it has a list of what holds that,
    /// so that the other side needs no comparison. `at` is where among [`Store::turned`] the first interval stands.
    pub(crate) const TURNED: u32 = u32::MAX;

    /// How many items a question compares, about.
    pub(crate) fn cost(self) -> u32 {
        if self.len == Self::TURNED { LANES as u32 } else { self.len }
    }
}

/// The items of lists.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) numbers: Vec<u32>,
    /// For each interval of a [turned](List::TURNED) list where in `numbers` the length of its list stands, and its items behind.
    pub(crate) turned: Vec<u32>,
}

impl Store {
    /// The first number stands for the list without items.
    pub(crate) fn new() -> Self {
        Self { numbers: vec![0], turned: Vec::new() }
    }

    pub(crate) fn bytes(&self) -> usize {
        4 * (self.numbers.capacity() + self.turned.capacity())
    }

    /// Writes a list of items of [`PAIRED`] or [`ALONE`] numbers.
    pub(crate) fn put(&mut self, items: &[Item], numbers: usize) -> List {
        let at = self.numbers.len() as u32;
        for items in items.chunks(LANES) {
            if numbers == PAIRED {
                self.numbers.extend(items.iter().map(|item| item.other.0));
                self.numbers.extend(items.iter().map(|item| item.other.1));
            }
            self.numbers.extend(items.iter().map(|item| item.service.0));
            self.numbers.extend(items.iter().map(|item| item.service.1));
            self.numbers.extend(items.iter().map(|item| item.mark));
        }
        List { at, len: items.len() as u32 }
    }

    /// The items of a list of [`PAIRED`] numbers that fit one comparison.
    pub(crate) fn items(&self, list: List) -> impl Iterator<Item = Item> {
        let count = list.len as usize;
        let numbers =
            self.numbers.get(list.at as usize..).and_then(|numbers| numbers.get(..PAIRED * count)).unwrap_or(&[]);
        let column = |number: usize| numbers.iter().copied().skip(number * count);
        let others = column(0).zip(column(1));
        let services = column(2).zip(column(3));
        let items = others.zip(services).zip(column(4));
        items.map(|((other, service), mark)| Item { other, service, mark })
    }

    #[inline(always)]
    pub(crate) fn turned_at(&self, list: List, rank: u32) -> u32 {
        self.turned.get(list.at as usize + rank as usize).copied().unwrap_or(0)
    }

    /// The lowest mark from `after` on among those that match, and `best`.
    #[inline(always)]
    pub(crate) fn search_alone(&self, lanes: impl Lanes, list: List, service: u32, mut best: u32, after: u32) -> u32 {
        let (mut at, mut left) = (list.at as usize, list.len as usize);
        loop {
            let count = left.min(LANES);
            let Some(items) = self.numbers.get(at..at + ALONE * count) else { return best };
            let (lows, rest) = items.split_at(count);
            let (spans, marks) = rest.split_at(count);
            let found = lanes.pick(lanes.within(lows, spans, service) & from(lanes, marks, after), marks);
            best = best.min(found);
            left -= count;
            // They ascend, so that the first of a list is its best.
            if left == 0 || found != u32::MAX || marks.first().is_none_or(|mark| *mark >= best) {
                return best;
            }
            at += ALONE * count;
        }
    }

    /// The same in a list with the other side, where the question has this number.
    #[inline(always)]
    pub(crate) fn search_paired(
        &self,
        lanes: impl Lanes,
        list: List,
        rank: u32,
        service: u32,
        mut best: u32,
        after: u32,
    ) -> u32 {
        if list.len == List::TURNED {
            let at = self.turned_at(list, rank);
            let len = self.numbers.get(at as usize).copied().unwrap_or(0);
            return self.search_alone(lanes, List { at: at + 1, len }, service, best, after);
        }
        let (mut at, mut left) = (list.at as usize, list.len as usize);
        loop {
            let count = left.min(LANES);
            let Some(items) = self.numbers.get(at..at + PAIRED * count) else { return best };
            let (lows, rest) = items.split_at(count);
            let (spans, rest) = rest.split_at(count);
            let (service_lows, rest) = rest.split_at(count);
            let (service_spans, marks) = rest.split_at(count);
            let bits = lanes.within(lows, spans, rank) & lanes.within(service_lows, service_spans, service);
            let found = lanes.pick(bits & from(lanes, marks, after), marks);
            best = best.min(found);
            left -= count;
            if left == 0 || found != u32::MAX || marks.first().is_none_or(|mark| *mark >= best) {
                return best;
            }
            at += PAIRED * count;
        }
    }
}

/// The bits of marks from `after` on. Nearly always all are, as the best rule is live.
#[inline(always)]
fn from(lanes: impl Lanes, marks: &[u32], after: u32) -> u32 {
    match after.checked_sub(1) {
        None => u32::MAX,
        Some(last) => !lanes.within(marks, &[last; LANES], last),
    }
}

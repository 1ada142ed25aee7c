//! Long lists turned: by intervals of the other side, so that it needs no comparison.

use crate::lanes::LANES;
use crate::store::{ALONE, Item, List, PAIRED, Store};

/// A list with more items is turned.
const TURNED: usize = 2 * LANES;

/// A list is not turned when that would take more intervals than this for each of its items, nor when it would take more items
/// than this for each.
const WORTH: usize = 64;
const COPIES: usize = 16;

impl Store {
    /// A list with the other side, which has so many intervals: turned when it is long and that takes little memory.
    pub(crate) fn put_paired(&mut self, items: &[Item], intervals: usize, room: usize) -> List {
        // Half of the room stays for lists as they are.
        let has_room = self.turned.len() + self.numbers.len() + intervals <= room / 2;
        if items.len() > TURNED && intervals <= WORTH * items.len() && has_room {
            let (numbers, turned) = (self.numbers.len(), self.turned.len());
            if self.turn(items, intervals, room) {
                return List { at: turned as u32, len: List::TURNED };
            }
            self.numbers.truncate(numbers);
            self.turned.truncate(turned);
        }
        self.put(items, PAIRED)
    }

    /// For each interval of the other side a list of the items that hold it; `false` when that takes too much.
    fn turn(&mut self, items: &[Item], intervals: usize, room: usize) -> bool {
        let mut events: Vec<(u32, bool, u32)> = Vec::with_capacity(2 * items.len());
        for (at, item) in (0..).zip(items) {
            events.push((item.other.0, true, at));
            events.extend(
                item.other.0.checked_add(item.other.1).and_then(|last| Some((last.checked_add(1)?, false, at))),
            );
        }
        events.sort_unstable();
        let (start, mut written) = (self.turned.len(), 0);
        let mut holding: Vec<u32> = Vec::new();
        for events in events.chunk_by(|a, b| a.0 == b.0) {
            let Some(&(rank, ..)) = events.first() else { continue };
            let end = (start + rank as usize).min(start + intervals);
            let list = self.turned.last().copied().filter(|_| self.turned.len() > start).unwrap_or(0);
            self.turned.resize(end, list);
            // In one go: of many that end or begin together, each would move all behind it.
            let (ends, begins) = events.split_at(events.partition_point(|&(_, begins, _)| !begins));
            let mut ended = ends.iter().map(|&(.., at)| at).peekable();
            holding.retain(|at| ended.next_if_eq(at).is_none());
            holding.extend(begins.iter().map(|&(.., at)| at));
            // Two ascending runs: the stable sort merges them.
            holding.sort();
            if end == start + intervals {
                break;
            }
            written += holding.len();
            if written > COPIES * items.len() || self.numbers.len() > room {
                return false;
            }
            let list = if holding.is_empty() { 0 } else { self.numbers.len() as u32 };
            self.turned.push(list);
            if list != 0 {
                self.numbers.push(holding.len() as u32);
                let holding: Vec<Item> = holding.iter().filter_map(|&at| items.get(at as usize).copied()).collect();
                self.put(&holding, ALONE);
            }
        }
        let list = self.turned.last().copied().filter(|_| self.turned.len() > start).unwrap_or(0);
        self.turned.resize(start + intervals, list);
        true
    }
}

//! The flat form of IPv6 in steps of eight bits: a table of the first 16, then rows of 256 slots down to a depth of 48.
//!
//! Most prefixes of a routing table end there, so that an address takes at most five loads, and no bits are compared. A row
//! is four times as large as those of six bits; so it stands only where more than a few prefixes part, and gates
//! stand elsewhere. What is longer than 48 bits goes on in the rows and gates of [`Flat`]; 24 and 48 are the depths that
//! both have.

use std::hint::select_unpredictable;

use crate::address::Family;
use crate::batch::{LANES, Lane, prefetch};
#[cfg(target_arch = "x86_64")]
use crate::flat::highs;
use crate::flat::{self, ASK, Flat, Kind, REACH, ROW, SHORT, Slot, answer, kind};
use crate::node::{Key, masked};
use crate::prefix::Prefix;
#[cfg(target_arch = "x86_64")]
use crate::simd;
use crate::slab::Slab;
use crate::table::Table;
#[cfg(target_arch = "x86_64")]
use crate::wide;

/// The bits that lead to the first row, those of a step, and all of them.
const FIRST: u32 = 16;
const STEP: u32 = 8;
pub(crate) const END: u32 = 48;
const STEPS: usize = ((END - FIRST) / STEP) as usize;

/// The most prefixes below a slot that are asked one by one instead of having a row.
const SPARSE: usize = 3;

/// What the 256 blocks of a step say.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Row([Slot; 1 << STEP]);

/// See the top of this file.
#[derive(Debug)]
pub(crate) struct Octets {
    root: Box<[Slot]>,
    pub(crate) rows: Slab<Row>,
}

/// Where a slot is: by its number in the root, or in a row.
#[derive(Clone, Copy)]
pub(crate) enum At {
    Root(usize),
    Row(usize, usize),
}

/// A prefix: its key, length and answer.
type Entry = (Key, u32, Slot);

impl Octets {
    /// For so many prefixes.
    pub(crate) fn with_room(prefixes: usize) -> Self {
        let mut rows = Slab::with_room(limit(prefixes).min(prefixes + 1));
        // Row 0 is read for lanes that are at none.
        rows.add(Row([0; 1 << STEP]), 1);
        Self { root: vec![0; 1 << FIRST].into(), rows }
    }

    pub(crate) fn memory(&self) -> usize {
        size_of_val(&*self.root) + self.rows.memory()
    }

    pub(crate) fn get(&self, at: At) -> Slot {
        match at {
            At::Root(index) => self.root[index],
            At::Row(row, place) => self.rows.items[row].0[place],
        }
    }

    pub(crate) fn set(&mut self, at: At, slot: Slot) {
        match at {
            At::Root(index) => self.root[index] = slot,
            At::Row(row, place) => self.rows.items[row].0[place] = slot,
        }
    }

    /// See [`Flat::ask_for`].
    #[inline(always)]
    pub(crate) fn ask_for(&self, high: u64) {
        let mut slot = self.root[(high >> (REACH - FIRST)) as usize];
        for depth in (FIRST..END).step_by(STEP as usize) {
            let row = select_unpredictable(slot >> 30 == 2, slot ^ ROW, 0) as usize;
            slot = self.rows.items[row].0[place_in(high, depth)];
        }
        std::hint::black_box(slot);
    }

    /// Where one address is behind all rows, and how deep that is.
    #[inline(always)]
    pub(crate) fn pass(&self, high: u64) -> (Slot, u32) {
        let mut slot = self.root[(high >> (REACH - FIRST)) as usize];
        for depth in (FIRST..END).step_by(STEP as usize) {
            let Kind::Row(row) = kind(slot) else { break };
            slot = self.rows.items[row].0[place_in(high, depth)];
        }
        (slot, END)
    }

    /// Where at most [`LANES`] addresses are behind all rows, all lanes together: a lane that has no row reads row 0.
    #[inline(always)]
    pub(crate) fn descend<L: Lane>(&self, addresses: &[L], slots: &mut [Slot; LANES]) {
        let rows = &self.rows.items[..];
        let row_of = |slot: Slot| select_unpredictable(slot >> 30 == 2, slot ^ ROW, 0) as usize;
        let ask_for = |slot: Slot, high: u64, depth: u32| {
            prefetch(rows.as_ptr().wrapping_add(row_of(slot)).cast::<Slot>().wrapping_add(place_in(high, depth)));
        };
        for (slot, address) in slots.iter_mut().zip(addresses) {
            let high = address.high();
            *slot = self.root[(high >> (REACH - FIRST)) as usize];
            ask_for(*slot, high, FIRST);
        }
        for depth in (FIRST..END).step_by(STEP as usize) {
            for (slot, address) in slots.iter_mut().zip(addresses) {
                let high = address.high();
                let below = rows[row_of(*slot)].0[place_in(high, depth)];
                *slot = select_unpredictable(*slot >> 30 == 2, below, *slot);
                if depth + STEP < END {
                    ask_for(*slot, high, depth + STEP);
                }
            }
        }
    }

    /// Where the processor has AVX-512: as [`descend`](Self::descend), eight addresses an instruction. False where it
    /// was not done.
    #[inline(always)]
    pub(crate) fn descend_wide<L: Lane>(&self, addresses: &[L], slots: &mut [Slot; LANES]) -> bool {
        #[cfg(target_arch = "x86_64")]
        if simd::avx512() {
            let highs = highs(addresses);
            let form = wide::Form { root: &self.root, rows: self.rows.items.as_ptr().cast() };
            // SAFETY: `avx512` is true only if the processor was asked for each of the instructions. Every slot above END
            // that names a row names one of these rows: `add` made its number, and what is released is unlinked
            // in the same step. The root has 2^FIRST slots and a row 2^STEP. The steps lead to END, which is below REACH.
            unsafe { wide::descend::<FIRST, STEP, false>(&form, &highs, addresses.len(), STEPS, slots) };
            return true;
        }
        let _ = (addresses, slots);
        false
    }
}

/// The place of an address in a row of this depth.
#[inline(always)]
fn place_in(high: u64, depth: u32) -> usize {
    (high >> (REACH - STEP - depth)) as usize & ((1 << STEP) - 1)
}

/// How many rows a table of so many prefixes may have: 64 MiB of them, or half a KiB for each prefix. Where that is
/// not enough the trie is asked.
fn limit(prefixes: usize) -> usize {
    (prefixes / 2).clamp(1 << 16, ASK as usize >> 2)
}

fn block(key: Key, length: u32) -> Prefix {
    Prefix::from_key(Family::V6, masked(key, length), length)
}

/// The prefixes longer than `depth` that begin with so many bits of `key`, sorted.
fn below(table: &Table<u32>, key: Key, depth: u32) -> impl Iterator<Item = Entry> {
    let covered = table.covered(block(key, depth));
    let entries = covered.map(|(prefix, &value)| (prefix.key(), u32::from(prefix.length()), answer(value)));
    entries.filter(move |&(_, length, _)| length > depth)
}

impl Flat {
    pub(crate) fn derive_all_octets(&mut self, table: &Table<u32>) {
        let mut prefixes = table.covered(Prefix::from_key(Family::V6, 0, 0)).peekable();
        let mut index = 0;
        // Only where there is something.
        while let Some((prefix, _)) = prefixes.peek() {
            index = index.max((prefix.key() >> (128 - FIRST)) as usize);
            let length = u32::from(prefix.length());
            let count = if length <= SHORT { 0 } else { 1 << FIRST.saturating_sub(length) };
            for index in index..index + count {
                self.derive_octets_again(table, At::Root(index), (index as Key) << (128 - FIRST), FIRST);
            }
            if count == 0 {
                prefixes.next();
                continue;
            }
            index += count;
            while prefixes.next_if(|(prefix, _)| ((prefix.key() >> (128 - FIRST)) as usize) < index).is_some() {}
        }
    }

    /// Follows a change of `prefix`, which has more than SHORT bits, in the octets.
    pub(crate) fn update_octets(&mut self, table: &Table<u32>, prefix: Prefix) {
        let (key, length) = (prefix.key(), u32::from(prefix.length()));
        let index = (key >> (128 - FIRST)) as usize;
        if length <= FIRST {
            for index in index..index + (1 << (FIRST - length)) {
                self.derive_octets_again(table, At::Root(index), (index as Key) << (128 - FIRST), FIRST);
            }
            return;
        }
        let grows = table.get(prefix).is_some();
        let (mut at, mut depth) = (At::Root(index), FIRST);
        while depth < END {
            let slot = self.octets.as_ref().map_or(0, |octets| octets.get(at));
            let Kind::Row(row) = kind(slot) else { return self.derive_octets_again(table, at, key, depth) };
            // What was removed may have been what made the row worth it.
            if !grows && below(table, key, depth).nth(SPARSE).is_none() {
                return self.derive_octets_again(table, at, key, depth);
            }
            let (place, end) = (place_in((key >> 64) as u64, depth), depth + STEP);
            if length <= end {
                for place in place..place + (1 << (end - length)) {
                    let key = masked(key, depth) | (place as Key) << (128 - end);
                    self.derive_octets_again(table, At::Row(row, place), key, end);
                }
                return;
            }
            (at, depth) = (At::Row(row, place), end);
        }
        self.update_behind(table, prefix, flat::At::Octets(at), END);
    }

    /// Derives the slot of the first `depth` bits of `key`, and all that hangs from it.
    fn derive_octets_again(&mut self, table: &Table<u32>, at: At, key: Key, depth: u32) {
        let Some(octets) = &self.octets else { return };
        self.release_octets(octets.get(at), depth);
        let covering = table.covering(block(key, depth));
        let longest = covering.last().filter(|(prefix, _)| u32::from(prefix.length()) > SHORT);
        let longest = longest.map_or(0, |entry| answer(*entry.1));
        let below: Vec<Entry> = below(table, key, depth).collect();
        let slot = self.form_octets(table, &below, masked(key, depth), depth, longest);
        if let Some(octets) = &mut self.octets {
            octets.set(at, slot);
        }
    }

    /// The slot of the first `depth` bits, which are `key`, where `below` are all longer prefixes that begin with them.
    fn form_octets(&mut self, table: &Table<u32>, below: &[Entry], key: Key, depth: u32, longest: Slot) -> Slot {
        if below.is_empty() {
            return longest;
        }
        if depth == END {
            return self.derive(table, Family::V6, key, END);
        }
        if below.len() <= SPARSE {
            // A longer prefix is asked before those that cover it.
            let gates = below.iter();
            return gates.fold(longest, |otherwise, &(key, length, then)| self.gate(key, length, then, otherwise));
        }
        let limit = limit(table.len());
        let Some(octets) = &mut self.octets else { return ASK };
        let Some(row) = octets.rows.add(Row([longest; 1 << STEP]), limit) else { return ASK };
        let end = depth + STEP;
        let mut rest = below;
        while let Some(&(key, length, slot)) = rest.first() {
            let Some(octets) = &mut self.octets else { return ASK };
            let place = place_in((key >> 64) as u64, depth);
            let slots = &mut octets.rows.items[row as usize].0[place..];
            if length <= end {
                slots[..1 << (end - length)].fill(slot);
                rest = &rest[1..];
                continue;
            }
            let longest = slots[0];
            let (here, behind) = rest.split_at(rest.partition_point(|other| masked(other.0 ^ key, end) == 0));
            let slot = self.form_octets(table, here, masked(key, end), end, longest);
            if let Some(octets) = &mut self.octets {
                octets.set(At::Row(row as usize, place), slot);
            }
            rest = behind;
        }
        ROW | row
    }

    fn release_octets(&mut self, slot: Slot, depth: u32) {
        match (kind(slot), &mut self.octets) {
            (Kind::Row(row), Some(octets)) if depth < END => {
                octets.rows.free.push(row as u32);
                for below in octets.rows.items[row].0 {
                    self.release_octets(below, depth + STEP);
                }
            }
            _ => self.release(slot),
        }
    }
}

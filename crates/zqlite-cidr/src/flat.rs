//! The flat form of a table: rows of 64 answers, so that a step is one load and no counting of bits.
//!
//! A row stands for a node of the trie. Each of its slots says what the longest prefix there is, so far as prefixes of
//! more than 12 bits go (what controlled prefix expansion makes of a trie: Srinivasan and Varghese, 1999), or where to go
//! on. Twelve bits lead straight to the first row. Prefixes of up to 12 bits have a table of their own, or a default
//! route would be in every row. The form covers the upper 64 bits; what is longer is left to the trie.
//!
//! After each change of the trie the slots that lie under the changed prefix are derived again, so the form is at any time
//! what it would be if it were built anew.

use std::hint::select_unpredictable;

use crate::address::Family;
use crate::batch::{Found, LANES, Lane, find_all, prefetch};
use crate::huge;
use crate::node::{Key, Node, Place, STRIDE, masked, slot};
use crate::octets::{self, Octets};
use crate::prefix::Prefix;
#[cfg(target_arch = "x86_64")]
use crate::simd;
use crate::slab::Slab;
use crate::table::{Table, root};
#[cfg(target_arch = "x86_64")]
use crate::wide;

/// The bits that lead to the first row.
pub(crate) const ROOT: u32 = 3 * STRIDE;
/// The bits of the longest prefix that is kept apart.
pub(crate) const SHORT: u32 = 2 * STRIDE;
/// Bits of an address that the form can look at.
pub(crate) const REACH: u32 = 64;

/// What a slot says: nothing (0), a value plus one (below 2^31), a row, a gate, or that only the trie knows.
pub(crate) type Slot = u32;
pub(crate) const ROW: Slot = 1 << 31;
pub(crate) const GATE: Slot = 3 << 30;
pub(crate) const ASK: Slot = Slot::MAX;

pub(crate) enum Kind {
    Row(usize),
    Gate(usize),
    Answer,
}

pub(crate) fn kind(slot: Slot) -> Kind {
    match slot >> 30 {
        2 => Kind::Row((slot ^ ROW) as usize),
        3 if slot != ASK => Kind::Gate((slot ^ GATE) as usize),
        _ => Kind::Answer,
    }
}

pub(crate) fn answer(value: u32) -> Slot {
    if value < ROW - 1 { value + 1 } else { ASK }
}

/// What the 64 blocks of a stride say.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Row([Slot; 64]);

/// A place where bits are skipped: goes on only for addresses that have them.
#[derive(Clone, Copy, Debug)]
struct Gate {
    /// The upper half of the key that an address must begin with.
    key: u64,
    /// How many bits of it: 1 to 64.
    length: u32,
    then: Slot,
    otherwise: Slot,
}

impl Gate {
    #[inline(always)]
    fn admits(&self, high: u64) -> bool {
        (high ^ self.key) >> (REACH - self.length) == 0
    }
}

/// The tables that the first twelve bits of an address lead into.
#[derive(Debug)]
struct Roots {
    /// What is longer than 12 bits.
    long: Box<[Slot]>,
    /// The longest prefix of up to 12 bits.
    short: Box<[Slot]>,
}

impl Roots {
    /// Without the table of longer ones where octets take its place.
    fn new(by_octets: bool) -> Self {
        let count = if by_octets { 0 } else { 1 << ROOT };
        let mut long = huge::with_capacity(count);
        long.resize(count, 0);
        Self { long: long.into(), short: vec![0; 1 << SHORT].into() }
    }
}

/// See the top of this file.
#[derive(Debug)]
pub(crate) struct Flat {
    roots: [Roots; 2],
    rows: Slab<Row>,
    gates: Slab<Gate>,
    /// Where IPv6 has steps of eight bits.
    pub(crate) octets: Option<Octets>,
    /// The most prefixes of a node without children that is a chain of gates.
    sparse: usize,
}

/// Where a slot is.
#[derive(Clone, Copy)]
pub(crate) enum At {
    Root(usize),
    Row(usize, usize),
    /// Of [`Octets`].
    Octets(octets::At),
}

impl Flat {
    /// With steps of eight bits for IPv6, if `by_octets`.
    pub(crate) fn of(table: &Table<u32>, sparse: usize, by_octets: bool) -> Self {
        // Each row is of a node and each gate of a node or prefix; room that is not used takes no memory.
        let room = table.nodes.memory() / size_of::<Node>();
        let (rows, gates) = (Slab::with_room(room), Slab::with_room(room));
        let roots = [Roots::new(false), Roots::new(by_octets)];
        let octets = by_octets.then(|| Octets::with_room(table.len()));
        let mut flat = Self { roots, rows, gates, octets, sparse };
        // Row 0 is read for lanes that are at none.
        flat.rows.add(Row([0; 64]), 1);
        for family in [Family::V4, Family::V6] {
            flat.derive_short(table, family, 0, 1 << SHORT);
            if by_octets && family == Family::V6 {
                flat.derive_all_octets(table);
                continue;
            }
            let top = table.nodes.get(root(family));
            // Of most of the address space the trie has nothing.
            for index in (0..1 << ROOT).filter(|index| top.child >> (index >> (ROOT - STRIDE)) & 1 == 1) {
                let slot = flat.derive(table, family, (index as Key) << (128 - ROOT), ROOT);
                flat.roots[family as usize].long[index] = slot;
            }
        }
        flat
    }

    pub(crate) fn memory(&self) -> usize {
        let roots = self.roots.iter().map(|roots| size_of_val(&*roots.long) + size_of_val(&*roots.short));
        let octets = self.octets.as_ref().map_or(0, Octets::memory);
        roots.sum::<usize>() + self.rows.memory() + self.gates.memory() + octets
    }

    /// Rows, gates and rows of octets in use.
    #[cfg(test)]
    pub(crate) fn in_use(&self) -> (usize, usize, usize) {
        let octets = self.octets.as_ref().map_or(0, |octets| octets.rows.in_use());
        (self.rows.in_use(), self.gates.in_use(), octets)
    }

    /// Follows a change of `prefix`, which the trie has seen already.
    pub(crate) fn update(&mut self, table: &Table<u32>, prefix: Prefix) {
        let (family, key, length) = (prefix.family(), prefix.key(), u32::from(prefix.length()));
        if length <= SHORT {
            let index = (key >> (128 - SHORT)) as usize;
            return self.derive_short(table, family, index, 1 << (SHORT - length));
        }
        if self.octets.is_some() && family == Family::V6 {
            return self.update_octets(table, prefix);
        }
        let index = (key >> (128 - ROOT)) as usize;
        if length <= ROOT {
            for index in index..index + (1 << (ROOT - length)) {
                let key = (index as Key) << (128 - ROOT);
                self.derive_again(table, family, At::Root(index), key, ROOT);
            }
            return;
        }
        self.update_behind(table, prefix, At::Root(index), ROOT);
    }

    /// Follows a change of `prefix`, which is longer than `end`, from the slot of its first `end` bits on.
    pub(crate) fn update_behind(&mut self, table: &Table<u32>, prefix: Prefix, mut at: At, mut end: u32) {
        let (family, key, length) = (prefix.family(), prefix.key(), u32::from(prefix.length()));
        let rows = self.rows_on_the_way(table, family, key);
        // Down to the row that the prefix ends in, as long as rows are where nodes are.
        let (row, depth) = loop {
            let (row, depth) = match kind(self.get(family, at)) {
                Kind::Row(row) => (row, end),
                Kind::Gate(gate) => match (self.gates.items[gate], kind(self.gates.items[gate].then)) {
                    (gate, Kind::Row(row)) if gate.admits((key >> 64) as u64) => (row, gate.length),
                    _ => return self.derive_again(table, family, at, key, end),
                },
                Kind::Answer => return self.derive_again(table, family, at, key, end),
            };
            if length <= depth || rows >> (depth / STRIDE) & 1 == 0 {
                return self.derive_again(table, family, at, key, end);
            }
            if length <= depth + STRIDE {
                break (row, depth);
            }
            at = At::Row(row, slot(key, depth) as usize);
            end = depth + STRIDE;
        };
        let first = slot(key, depth);
        for slot in first..first + (1 << (depth + STRIDE - length)) {
            let key = masked(key, depth) | Key::from(slot) << (128 - STRIDE - depth);
            self.derive_again(table, family, At::Row(row, slot as usize), key, depth + STRIDE);
        }
    }

    fn get(&self, family: Family, at: At) -> Slot {
        match at {
            At::Root(index) => self.roots[family as usize].long[index],
            At::Row(row, slot) => self.rows.items[row].0[slot],
            At::Octets(at) => self.octets.as_ref().map_or(0, |octets| octets.get(at)),
        }
    }

    /// Derives the slot of the first `end` bits of `key`, and all that hangs from it.
    fn derive_again(&mut self, table: &Table<u32>, family: Family, at: At, key: Key, end: u32) {
        self.release(self.get(family, at));
        let slot = self.derive(table, family, masked(key, end), end);
        match at {
            At::Root(index) => self.roots[family as usize].long[index] = slot,
            At::Row(row, place) => self.rows.items[row].0[place] = slot,
            At::Octets(at) => {
                if let Some(octets) = &mut self.octets {
                    octets.set(at, slot);
                }
            }
        }
    }

    pub(crate) fn release(&mut self, slot: Slot) {
        match kind(slot) {
            Kind::Row(row) => {
                for below in self.rows.items[row].0 {
                    self.release(below);
                }
                self.rows.free.push(row as u32);
            }
            Kind::Gate(gate) => {
                let Gate { then, otherwise, .. } = self.gates.items[gate];
                self.release(then);
                self.release(otherwise);
                self.gates.free.push(gate as u32);
            }
            Kind::Answer => {}
        }
    }

    /// The slot of the first `end` bits, which are `key`.
    pub(crate) fn derive(&mut self, table: &Table<u32>, family: Family, key: Key, end: u32) -> Slot {
        let mut node = table.nodes.get(root(family));
        let mut longest = 0;
        while node.depth() < end {
            let slot = slot(key, node.depth());
            if node.depth() >= SHORT
                && let Some(place) = node.longest(slot)
            {
                longest = answer_at(table, node, place);
            }
            let Some(child) = node.child_at(slot) else { return longest };
            node = table.nodes.get(child);
            if masked(key ^ node.key(), node.depth().min(end)) != 0 {
                return longest;
            }
        }
        self.form(table, node, end, longest)
    }

    /// The slot that `end` bits lead to, where `node` is all that lies behind them.
    fn form(&mut self, table: &Table<u32>, node: &Node, end: u32, default: Slot) -> Slot {
        let depth = node.depth();
        if self.is_sparse(node) {
            // A longer prefix is asked before those that cover it.
            return node.places().fold(default, |otherwise, place| {
                let length = depth + place.length_and_slot().0;
                let key = node.prefix(Family::V6, place).key();
                self.gate(key, length, answer_at(table, node, place), otherwise)
            });
        }
        if depth + STRIDE > REACH {
            return ASK;
        }
        let Some(row) = self.rows.add(Row([default; 64]), (GATE - ROW) as usize) else { return ASK };
        for slot in 0..64 {
            let longest = node.longest(slot).map_or(default, |place| answer_at(table, node, place));
            let below = match node.child_at(slot) {
                Some(child) => self.form(table, table.nodes.get(child), depth + STRIDE, longest),
                None => longest,
            };
            self.rows.items[row as usize].0[slot as usize] = below;
        }
        if depth == end { ROW | row } else { self.gate(node.key(), depth, ROW | row, default) }
    }

    /// Whether a node is a few gates rather than a row.
    fn is_sparse(&self, node: &Node) -> bool {
        node.child == 0 && node.value_count() <= self.sparse
    }

    /// The depths on the way of `key` at which the trie has nodes that rows stand for: bit `depth / STRIDE`.
    fn rows_on_the_way(&self, table: &Table<u32>, family: Family, key: Key) -> u32 {
        let nodes = table.path(family, key).filter(|node| !self.is_sparse(node));
        nodes.fold(0, |depths, node| depths | 1 << (node.depth() / STRIDE))
    }

    /// A gate that leads addresses with the first `length` bits of `key` on to `then`. Of a longer prefix than the form
    /// can look at, the trie is asked.
    pub(crate) fn gate(&mut self, key: Key, length: u32, then: Slot, otherwise: Slot) -> Slot {
        let (length, then) = if length > REACH { (REACH, ASK) } else { (length, then) };
        let gate = Gate { key: (key >> 64) as u64, length, then, otherwise };
        match self.gates.add(gate, (ASK - GATE) as usize) {
            Some(gate) => GATE | gate,
            None => {
                self.release(then);
                self.release(otherwise);
                ASK
            }
        }
    }

    /// Derives the answers of prefixes of up to 12 bits for `count` addresses of so many.
    fn derive_short(&mut self, table: &Table<u32>, family: Family, first: usize, count: usize) {
        for index in first..first + count {
            let key = (index as Key) << (128 - SHORT);
            let node = table.nodes.get(root(family));
            let upper = slot(key, 0);
            let mut short = node.longest(upper).map_or(0, |place| answer_at(table, node, place));
            if let Some(child) = node.child_at(upper)
                && let node = table.nodes.get(child)
                && node.depth() == STRIDE
                && let Some(place) = node.longest(slot(key, STRIDE))
            {
                short = answer_at(table, node, place);
            }
            self.roots[family as usize].short[index] = short;
        }
    }

    /// Looks up at most [`LANES`] addresses.
    ///
    /// Which way an address goes cannot be predicted, so nothing branches on it: a lane that has no row reads row 0.
    #[inline(always)]
    pub(crate) fn find_all<L: Lane>(&self, table: &Table<u32>, addresses: &[L], found: &mut [Found; LANES]) {
        let count = addresses.len().min(LANES);
        let mut slots = [0 as Slot; LANES];
        let depth = self.pass_rows(&addresses[..count], &mut slots);
        self.settle(&addresses[..count], &mut slots, depth);
        for (found, &slot) in found.iter_mut().zip(&slots[..count]) {
            *found = slot.into();
        }
        if slots[..count].iter().fold(false, |any, &slot| any | (slot == ASK)) {
            let mut asking = 0;
            let mut asked = [0u8; LANES];
            for (lane, &slot) in slots[..count].iter().enumerate() {
                asked[asking] = lane as u8;
                asking += usize::from(slot == ASK);
            }
            let lane_of = |at: usize| usize::from(asked[at]) % LANES;
            let addresses: [L; LANES] = std::array::from_fn(|at| addresses[lane_of(at).min(count - 1)]);
            let mut answers = [0; LANES];
            find_all(table, &addresses[..asking], &mut answers);
            for at in 0..asking {
                found[lane_of(at)] = answers[at];
            }
        }
    }

    /// Takes at most [`LANES`] addresses past the rows that most of them pass; returns how deep.
    #[inline(always)]
    fn pass_rows<L: Lane>(&self, addresses: &[L], slots: &mut [Slot; LANES]) -> u32 {
        if L::FAMILY == Family::V6
            && let Some(octets) = &self.octets
        {
            if !octets.descend_wide(addresses, slots) {
                octets.descend(addresses, slots);
            }
            return octets::END;
        }
        // One row is passed as fast without gathers, or faster.
        let descended = L::TOGETHER > 1 && self.descend_wide(addresses, slots);
        if !descended {
            self.descend(addresses, slots);
        }
        ROOT + STRIDE * L::TOGETHER as u32
    }

    /// Where the processor has AVX-512: as [`descend`](Self::descend), eight addresses an instruction. False where it
    /// was not done.
    #[inline(always)]
    pub(crate) fn descend_wide<L: Lane>(&self, addresses: &[L], slots: &mut [Slot; LANES]) -> bool {
        #[cfg(target_arch = "x86_64")]
        if simd::avx512() {
            let highs = highs(addresses);
            let rows = self.rows.items.as_ptr().cast();
            let form = wide::Form { root: &self.roots[L::FAMILY as usize].long, rows };
            // SAFETY: `avx512` is true only if the processor was asked for each of the instructions. Every slot of this
            // form that names a row names one that exists: `add` made its number, and what is released is unlinked in
            // the same step. The root has 2^ROOT slots and a row 2^STRIDE. No family takes more than three steps, to a
            // depth of 36.
            unsafe { wide::descend::<ROOT, STRIDE, true>(&form, &highs, addresses.len(), L::TOGETHER, slots) };
            return true;
        }
        let _ = (addresses, slots);
        false
    }

    /// Where at most [`LANES`] addresses are behind the rows that most of them pass, all lanes together.
    #[inline(always)]
    pub(crate) fn descend<L: Lane>(&self, addresses: &[L], slots: &mut [Slot; LANES]) {
        let count = addresses.len().min(LANES);
        let roots = &self.roots[L::FAMILY as usize];
        let rows = &self.rows.items[..];
        let row_of = |slot: Slot| select_unpredictable(slot >> 30 == 2, slot ^ ROW, 0) as usize;
        let place_in = |high: u64, depth: u32| (high >> (REACH - STRIDE - depth)) as usize & 63;
        let prefetch_row = |slot: Slot, high: u64, depth: u32| {
            prefetch(rows.as_ptr().wrapping_add(row_of(slot)).cast::<Slot>().wrapping_add(place_in(high, depth)));
        };
        for lane in 0..count {
            let high = addresses[lane].high();
            slots[lane] = roots.long[(high >> (REACH - ROOT)) as usize];
            prefetch_row(slots[lane], high, ROOT);
        }
        let mut depth = ROOT;
        for _ in 0..L::TOGETHER {
            for lane in 0..count {
                let (high, slot) = (addresses[lane].high(), slots[lane]);
                let below = rows[row_of(slot)].0[place_in(high, depth)];
                let slot = select_unpredictable(slot >> 30 == 2, below, slot);
                slots[lane] = slot;
                prefetch_row(slot, high, depth + STRIDE);
            }
            depth += STRIDE;
        }
    }

    /// The slots at which the ways of at most [`LANES`] addresses end, from where they are after `depth` bits.
    #[inline(always)]
    fn settle<L: Lane>(&self, addresses: &[L], slots: &mut [Slot; LANES], depth: u32) {
        let count = addresses.len().min(LANES);
        let roots = &self.roots[L::FAMILY as usize];
        let rows = &self.rows.items[..];
        let gates = &self.gates.items[..];
        // The lanes that are at a row still, and those at a gate.
        let place_in = |high: u64, depth: u32| (high >> (REACH - STRIDE - depth)) as usize & 63;
        let mut depths = [depth as u8; LANES];
        let (mut at_row, mut at_gate) = ([0u8; LANES], [0u8; LANES]);
        let (mut row_count, mut gate_count) = (0, 0);
        // Notes which way a lane goes on; one that has arrived is overwritten by the next.
        macro_rules! go_on {
            ($lane:ident, $slot:ident) => {
                at_row[row_count] = $lane as u8;
                row_count += usize::from($slot >> 30 == 2);
                at_gate[gate_count] = $lane as u8;
                gate_count += usize::from(($slot >> 30 == 3) & ($slot != ASK));
            };
        }
        for (lane, &slot) in slots.iter().enumerate().take(count) {
            go_on!(lane, slot);
        }
        while row_count + gate_count > 0 {
            let pending = std::mem::take(&mut row_count);
            for at in 0..pending {
                let lane = usize::from(at_row[at]) % LANES;
                let depth = u32::from(depths[lane]) % REACH;
                let slot =
                    rows[(slots[lane] ^ ROW) as usize].0[place_in(addresses[lane].high(), depth.min(REACH - STRIDE))];
                slots[lane] = slot;
                depths[lane] = (depth + STRIDE) as u8;
                go_on!(lane, slot);
            }
            if row_count > 0 {
                continue;
            }
            let pending = std::mem::take(&mut gate_count);
            for at in 0..pending {
                let lane = usize::from(at_gate[at]) % LANES;
                let gate = &gates[(slots[lane] ^ GATE) as usize];
                let slot = select_unpredictable(gate.admits(addresses[lane].high()), gate.then, gate.otherwise);
                slots[lane] = slot;
                depths[lane] = gate.length as u8;
                go_on!(lane, slot);
            }
        }
        if slots[..count].iter().fold(false, |any, &slot| any | (slot == 0)) {
            for lane in 0..count {
                let short = roots.short[(addresses[lane].high() >> (REACH - SHORT)) as usize];
                slots[lane] = select_unpredictable(slots[lane] == 0, short, slots[lane]);
            }
        }
    }

    /// Asks for the lines that an address goes through first, without waiting for them: nothing here branches on what they
    /// say, so that what follows goes on meanwhile.
    #[inline(always)]
    pub(crate) fn ask_for(&self, family: Family, high: u64) {
        if family == Family::V6
            && let Some(octets) = &self.octets
        {
            return octets.ask_for(high);
        }
        let slot = self.roots[family as usize].long[(high >> (REACH - ROOT)) as usize];
        let row = select_unpredictable(slot >> 30 == 2, slot ^ ROW, 0) as usize;
        let slot = self.rows.items[row].0[(high >> (REACH - STRIDE - ROOT)) as usize & 63];
        // If it is a gate; of any other slot this is no place, which a prefetch may be.
        prefetch(self.gates.items.as_ptr().wrapping_add((slot ^ GATE) as usize));
    }

    /// Looks up one address; `None` where only the trie knows.
    #[inline(always)]
    pub(crate) fn find_one(&self, family: Family, high: u64) -> Option<Found> {
        let roots = &self.roots[family as usize];
        let (mut slot, mut depth) = match &self.octets {
            Some(octets) if family == Family::V6 => octets.pass(high),
            _ => (roots.long[(high >> (REACH - ROOT)) as usize], ROOT),
        };
        loop {
            match kind(slot) {
                Kind::Row(row) => {
                    slot = self.rows.items[row].0[(high >> (REACH - STRIDE - depth)) as usize & 63];
                    depth += STRIDE;
                }
                Kind::Gate(gate) => {
                    let gate = &self.gates.items[gate];
                    slot = if gate.admits(high) { gate.then } else { gate.otherwise };
                    depth = gate.length;
                }
                Kind::Answer => break,
            }
        }
        if slot == 0 {
            slot = roots.short[(high >> (REACH - SHORT)) as usize];
        }
        (slot != ASK).then_some(slot.into())
    }
}

/// The upper halves of the keys of at most [`LANES`] addresses.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn highs<L: Lane>(addresses: &[L]) -> [u64; LANES] {
    std::array::from_fn(|at| addresses.get(at).map_or(0, |address| address.high()))
}

fn answer_at(table: &Table<u32>, node: &Node, place: Place) -> Slot {
    answer(*table.values.get(node.value_index(place)))
}

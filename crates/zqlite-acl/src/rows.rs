//! Sets of rules as rows of bits, compressed and shared.
//!
//! A row is a tree of fixed height. A *group* stands for 4096 slots: a word that says which of its 64 words are not zero,
//! and those words. A *row* is a word for every 64 groups that says which are not empty, and where those lie, two places
//! to a word. So the place of a word is found by counting bits (Bagwell's array mapped trie; as in Poptrie), and two rows
//! are compared by their summaries before any of their words is read.
//!
//! Rows are never changed: one with a bit more is a new row that shares all groups but one, and so the rows of n nested
//! prefixes take O(n). What nobody needs any more stays until [`Rows::compact`], as in any log.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use ahash::RandomState;

/// A place for a rule.
pub(crate) type Slot = u32;

/// Where a row lies.
pub(crate) type RowId = u32;

/// The row without bits.
pub(crate) const EMPTY: RowId = 0;

/// Not a row: the set was not built, as memory is short, and is worked out when it is asked for.
pub(crate) const FACTORED: RowId = u32::MAX;

/// Slots to a word, words to a group, groups to a word of a row.
const FAN: usize = 64;
pub(crate) const GROUP_SLOTS: usize = FAN * FAN;

/// Words to a page. What lies in a page does not reach into the next.
const PAGE: usize = 1 << 15;

/// A set of slots without compression, with a word for every 64 words that says which are not zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dense {
    pub(crate) masks: Vec<u64>,
    pub(crate) words: Vec<u64>,
}

impl Dense {
    pub(crate) fn insert(&mut self, slot: Slot) {
        let word = slot as usize / FAN;
        if word >= self.words.len() {
            self.words.resize(word + 1, 0);
            self.masks.resize(word / FAN + 1, 0);
        }
        self.words[word] |= 1 << (slot as usize % FAN);
        self.masks[word / FAN] |= 1 << (word % FAN);
    }

    pub(crate) fn remove(&mut self, slot: Slot) {
        let word = slot as usize / FAN;
        if let Some(bits) = self.words.get_mut(word) {
            *bits &= !(1 << (slot as usize % FAN));
            if *bits == 0
                && let Some(mask) = self.masks.get_mut(word / FAN)
            {
                *mask &= !(1 << (word % FAN));
            }
        }
    }

    pub(crate) fn contains(&self, slot: Slot) -> bool {
        self.view().contains(slot)
    }

    #[inline]
    pub(crate) fn view(&self) -> DenseView<'_> {
        DenseView { masks: &self.masks, words: &self.words }
    }

    #[inline]
    pub(crate) fn mask(&self, group: usize) -> u64 {
        self.view().mask(group)
    }

    #[inline]
    pub(crate) fn word(&self, word: usize) -> u64 {
        self.view().word(word)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.masks.iter().all(|&mask| mask == 0)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        let words = self.masks.iter().enumerate().flat_map(|(group, &mask)| ones(mask).map(move |at| group * FAN + at));
        words.flat_map(|word| ones(self.word(word)).map(move |bit| (word * FAN + bit) as Slot))
    }
}

/// A [`Dense`] for loops, which find its memory once.
#[derive(Clone, Copy)]
pub(crate) struct DenseView<'a> {
    masks: &'a [u64],
    words: &'a [u64],
}

impl DenseView<'_> {
    #[inline]
    pub(crate) fn contains(self, slot: Slot) -> bool {
        self.word(slot as usize / FAN) >> (slot as usize % FAN) & 1 == 1
    }

    #[inline]
    pub(crate) fn mask(&self, group: usize) -> u64 {
        self.masks.get(group).copied().unwrap_or(0)
    }

    #[inline]
    pub(crate) fn word(&self, word: usize) -> u64 {
        self.words.get(word).copied().unwrap_or(0)
    }
}

impl FromIterator<Slot> for Dense {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut dense = Self::default();
        slots.into_iter().for_each(|slot| dense.insert(slot));
        dense
    }
}

/// The numbers of the bits that are set, ascending.
pub(crate) fn ones(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
        bits &= bits - 1;
        Some(bit)
    })
}

/// A group of a row, as it lies in memory.
#[derive(Clone, Copy)]
pub(crate) struct Group<'a> {
    pub(crate) mask: u64,
    words: &'a [u64],
}

impl Group<'_> {
    const NONE: Group<'static> = Group { mask: 0, words: &[] };

    #[inline]
    pub(crate) fn word(&self, at: usize) -> u64 {
        if self.mask >> at & 1 == 0 {
            return 0;
        }
        let below = self.mask & ((1 << at) - 1);
        self.words.get(below.count_ones() as usize).copied().unwrap_or(0)
    }
}

/// The memory of all rows.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pages: Vec<Arc<Vec<u64>>>,
    /// How many slots a row can hold, in units of 64 groups.
    crowns: usize,
    /// What was in use after the last compaction, in words.
    settled: usize,
    /// Words that may be in use.
    budget: usize,
    /// Words of these that others have taken.
    lent: usize,
}

impl Rows {
    /// Rows of at least `slots` slots, in at most about `budget` bytes.
    pub(crate) fn new(slots: usize, budget: usize) -> Self {
        let crowns = slots.div_ceil(GROUP_SLOTS * FAN).max(1);
        let mut this = Self { pages: Vec::new(), crowns, settled: 0, budget: budget / 8, lent: 0 };
        this.append(crowns).fill(0);
        this
    }

    /// How many slots a row can hold.
    pub(crate) fn capacity(&self) -> usize {
        self.crowns * FAN * GROUP_SLOTS
    }

    /// Bytes that are taken.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.iter().map(|page| page.capacity() * 8).sum()
    }

    fn used(&self) -> usize {
        self.pages.len().saturating_sub(1) * PAGE + self.pages.last().map_or(0, |page| page.len())
    }

    /// Says how many bytes of the budget something else takes.
    pub(crate) fn lend(&mut self, bytes: usize) {
        self.lent = bytes / 8;
    }

    /// Whether no more rows should be built.
    fn is_full(&self) -> bool {
        self.used() + self.lent > self.budget
    }

    /// Whether compaction would be worth its time.
    pub(crate) fn wants_compaction(&self) -> bool {
        self.used() > 2 * self.settled + 16 * PAGE
    }

    fn at(&self, place: u32) -> &[u64] {
        self.pages.get(place as usize / PAGE).and_then(|page| page.get(place as usize % PAGE..)).unwrap_or(&[])
    }

    /// Where the next words go that do not reach over the end of a page.
    fn place(&mut self, words: usize) -> u32 {
        if self.pages.last().is_none_or(|page| page.len() + words > PAGE) {
            // Another page will be filled, mostly; the first may be all that there is.
            let capacity = if self.pages.is_empty() { 0 } else { PAGE };
            self.pages.push(Arc::new(Vec::with_capacity(capacity)));
        }
        ((self.pages.len() - 1) * PAGE + self.pages.last().map_or(0, |page| page.len())) as u32
    }

    fn append(&mut self, words: usize) -> &mut [u64] {
        self.place(words);
        let page = self.pages.last_mut().map(Arc::make_mut);
        page.map_or(&mut [], |page| {
            let start = page.len();
            page.resize(start + words, 0);
            &mut page[start..]
        })
    }

    fn put(&mut self, words: &[u64]) -> u32 {
        let place = self.place(words.len());
        if let Some(page) = self.pages.last_mut() {
            Arc::make_mut(page).extend_from_slice(words);
        }
        place
    }

    #[inline]
    pub(crate) fn view(&self, row: RowId) -> Row<'_> {
        Row { rows: self, data: self.at(row) }
    }

    fn put_group(&mut self, words: &[u64; FAN], interned: Option<&mut Interned>) -> u32 {
        let mut packed = [0u64; FAN + 1];
        let mut len = 1;
        for (at, &word) in words.iter().enumerate().filter(|(_, word)| **word != 0) {
            packed[0] |= 1 << at;
            packed[len] = word;
            len += 1;
        }
        self.put_once(&packed[..len], interned)
    }

    fn put_crown(&mut self, groups: &[u32], mut interned: Option<&mut Interned>) -> RowId {
        let mut packed = interned.as_mut().map_or_else(Vec::new, |interned| std::mem::take(&mut interned.scratch));
        packed.clear();
        packed.resize(self.crowns, 0);
        let mut at = 0;
        for (group, &place) in groups.iter().enumerate().filter(|(_, place)| **place != NONE) {
            packed[group / FAN] |= 1 << (group % FAN);
            if at % 2 == 0 {
                packed.push(u64::from(place));
            } else if let Some(last) = packed.last_mut() {
                *last |= u64::from(place) << 32;
            }
            at += 1;
        }
        if at == 0 {
            return EMPTY;
        }
        let place = self.put_once(&packed, interned.as_deref_mut());
        if let Some(interned) = interned {
            interned.scratch = packed;
        }
        place
    }

    fn put_once(&mut self, words: &[u64], interned: Option<&mut Interned>) -> u32 {
        let Some(interned) = interned else {
            return self.put(words);
        };
        let hash = interned.hasher.hash_one(words);
        if let Some(&place) = interned.places.get(&hash)
            && self.at(place).get(..words.len()) == Some(words)
        {
            return place;
        }
        let place = self.put(words);
        interned.places.insert(hash, place);
        place
    }

    fn groups(&self, row: RowId) -> Vec<u32> {
        let view = self.view(row);
        let mut groups = vec![NONE; self.crowns * FAN];
        let taken = view
            .data
            .iter()
            .take(self.crowns)
            .enumerate()
            .flat_map(|(at, &mask)| ones(mask).map(move |bit| at * FAN + bit));
        for (index, group) in taken.enumerate() {
            if let (Some(place), Some(pair)) = (groups.get_mut(group), view.data.get(self.crowns + index / 2)) {
                *place = (pair >> (index % 2 * 32)) as u32;
            }
        }
        groups
    }

    /// The row with this slot too, which it does not have.
    pub(crate) fn with(&mut self, row: RowId, slot: Slot) -> RowId {
        if row == FACTORED || self.is_full() {
            return FACTORED;
        }
        let index = slot as usize / GROUP_SLOTS;
        let (at, bit) = (slot as usize / FAN % FAN, 1 << (slot as usize % FAN));
        let view = self.view(row);
        let group = view.group(index);
        let len = group.mask.count_ones() as usize;
        let below = (group.mask & ((1 << at) - 1)).count_ones() as usize;
        let old = group.words.get(..len).unwrap_or(&[]);
        let mut packed = [0u64; FAN + 1];
        packed[0] = group.mask | 1 << at;
        packed[1..=below].copy_from_slice(&old[..below]);
        let had = group.mask >> at & 1 == 1;
        packed[below + 1] = bit | if had { old[below] } else { 0 };
        let rest = &old[below + usize::from(had)..];
        packed[below + 2..below + 2 + rest.len()].copy_from_slice(rest);
        let rank = view.rank(index);
        let place = self.put(&packed[..below + 2 + rest.len()]);
        let Some(rank) = rank else {
            let mut groups = self.groups(row);
            if let Some(group) = groups.get_mut(index) {
                *group = place;
            }
            return self.put_crown(&groups, None);
        };
        // Only the place of the one group is another.
        let view = self.view(row);
        let groups: usize = view.data.iter().take(self.crowns).map(|mask| mask.count_ones() as usize).sum();
        let mut crown = view.data.get(..self.crowns + groups.div_ceil(2)).unwrap_or(&[]).to_vec();
        if let Some(pair) = crown.get_mut(self.crowns + rank / 2) {
            let shift = rank % 2 * 32;
            *pair = *pair & !(u64::from(u32::MAX) << shift) | u64::from(place) << shift;
        }
        self.put(&crown)
    }

    /// The row of these slots, in any order, each any number of times. What is interned is not put again.
    pub(crate) fn build(&mut self, mut slots: Vec<Slot>, mut interned: Option<&mut Interned>) -> RowId {
        if slots.is_empty() {
            return EMPTY;
        }
        if self.is_full() {
            return FACTORED;
        }
        slots.sort_unstable();
        let mut groups = vec![NONE; self.crowns * FAN];
        for slots in slots.chunk_by(|a, b| *a as usize / GROUP_SLOTS == *b as usize / GROUP_SLOTS) {
            let mut words = [0; FAN];
            for &slot in slots {
                words[slot as usize / FAN % FAN] |= 1 << (slot as usize % FAN);
            }
            let place = self.put_group(&words, interned.as_deref_mut());
            if let Some(group) = slots.first().and_then(|slot| groups.get_mut(*slot as usize / GROUP_SLOTS)) {
                *group = place;
            }
        }
        self.put_crown(&groups, interned)
    }

    /// Notes that all that is there is of use.
    pub(crate) fn settle(&mut self) {
        self.settled = self.used();
    }

    /// Moves all rows that `each` visits together; all others are gone.
    pub(crate) fn compact(&mut self, each: impl FnOnce(&mut dyn FnMut(&mut RowId))) {
        let mut fresh = Rows { pages: Vec::new(), settled: 0, ..*self };
        fresh.append(self.crowns).fill(0);
        let mut moved_groups: HashMap<u32, u32> = HashMap::new();
        let mut moved_rows: HashMap<RowId, RowId> = HashMap::from([(EMPTY, EMPTY), (FACTORED, FACTORED)]);
        let mut interned = Interned::default();
        each(&mut |row| {
            *row = *moved_rows.entry(*row).or_insert_with(|| {
                let mut groups = self.groups(*row);
                for place in groups.iter_mut().filter(|place| **place != NONE) {
                    *place = *moved_groups.entry(*place).or_insert_with(|| {
                        let group = self.at(*place);
                        let len = 1 + group.first().map_or(0, |mask| mask.count_ones() as usize);
                        fresh.put_once(group.get(..len).unwrap_or(&[]), Some(&mut interned))
                    });
                }
                fresh.put_crown(&groups, Some(&mut interned))
            });
        });
        fresh.settle();
        *self = fresh;
    }
}

/// No group here.
const NONE: u32 = u32::MAX;

/// What was put already, so that equal groups and rows are put once. Rule texts decide what is put: the hash is keyed.
#[derive(Default)]
pub(crate) struct Interned {
    hasher: RandomState,
    /// By hash.
    places: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    scratch: Vec<u64>,
}

/// The hash of what is a keyed hash already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = self.0.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// A row, as it lies in memory.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a> {
    rows: &'a Rows,
    data: &'a [u64],
}

impl<'a> Row<'a> {
    /// How many groups of the row stand before this one, if the row has it.
    #[inline]
    fn rank(&self, group: usize) -> Option<usize> {
        let crown = group / FAN;
        let mask = *self.data.get(crown)?;
        if mask >> (group % FAN) & 1 == 0 {
            return None;
        }
        let earlier: usize = self.data.iter().take(crown).map(|mask| mask.count_ones() as usize).sum();
        Some(earlier + (mask & ((1 << (group % FAN)) - 1)).count_ones() as usize)
    }

    #[inline]
    fn place(&self, group: usize) -> Option<u32> {
        let index = self.rank(group)?;
        let pair = *self.data.get(self.rows.crowns + index / 2)?;
        Some((pair >> (index % 2 * 32)) as u32)
    }

    #[inline]
    pub(crate) fn group(&self, group: usize) -> Group<'a> {
        let data = self.place(group).map_or(&[][..], |place| self.rows.at(place));
        data.split_first().map_or(Group::NONE, |(&mask, words)| Group { mask, words })
    }

    pub(crate) fn contains(&self, slot: Slot) -> bool {
        self.group(slot as usize / GROUP_SLOTS).word(slot as usize / FAN % FAN) >> (slot as usize % FAN) & 1 == 1
    }
}

/// Rows under construction that differ little from one to the next: the sweep over intervals.
pub(crate) struct Sweep<'a> {
    rows: &'a mut Rows,
    interned: &'a mut Interned,
    words: Vec<u64>,
    /// As many as there have been slots for.
    groups: Vec<u32>,
    changed: Vec<usize>,
    row: RowId,
}

impl<'a> Sweep<'a> {
    pub(crate) fn new(rows: &'a mut Rows, interned: &'a mut Interned) -> Self {
        Self { rows, interned, words: Vec::new(), groups: Vec::new(), changed: Vec::new(), row: EMPTY }
    }

    pub(crate) fn flip(&mut self, slot: Slot) {
        let group = slot as usize / GROUP_SLOTS;
        if group >= self.groups.len() {
            self.groups.resize(group + 1, NONE);
            self.words.resize((group + 1) * FAN, 0);
        }
        self.words[slot as usize / FAN] ^= 1 << (slot as usize % FAN);
        if !self.changed.contains(&group) {
            self.changed.push(group);
        }
    }

    /// The row as it is now.
    pub(crate) fn row(&mut self) -> RowId {
        if self.rows.is_full() {
            return FACTORED;
        }
        if self.changed.is_empty() {
            return self.row;
        }
        for group in self.changed.drain(..) {
            let mut words = [0; FAN];
            words.copy_from_slice(&self.words[group * FAN..(group + 1) * FAN]);
            let empty = words.iter().all(|&word| word == 0);
            self.groups[group] = if empty { NONE } else { self.rows.put_group(&words, Some(&mut *self.interned)) };
        }
        self.row = self.rows.put_crown(&self.groups, Some(&mut *self.interned));
        self.row
    }
}

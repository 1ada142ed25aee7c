//! Sets of row ids: blocks of 4,096 ids, each a list while it is short and bits from then on.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::index::bitmap::sorted::Sorted;

/// Ids of a block, as a power of two.
const SHIFT: u32 = 12;
const WORDS: usize = 64;
/// Longer lists become bits, which take 512 bytes.
const FEW: usize = 64;

type Words = [u64; WORDS];

/// The ids of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Block {
    Few(Arc<[u16]>),
    Bits(Arc<Words>),
}

impl Block {
    fn words(&self) -> Words {
        match self {
            Self::Bits(words) => **words,
            Self::Few(places) => {
                let mut words = [0; WORDS];
                for place in places.iter() {
                    words[usize::from(*place) / 64] |= 1 << (place % 64);
                }
                words
            }
        }
    }

    /// `None` when there is none.
    fn of(words: &Words) -> Option<Self> {
        match count(words) {
            0 => None,
            1..=FEW => Some(Self::Few(places(words).collect())),
            _ => Some(Self::Bits(Arc::new(*words))),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Few(places) => places.len(),
            Self::Bits(words) => count(words),
        }
    }

    /// With one id more or fewer; whether that changed it.
    fn with(&self, place: u16, present: bool) -> (Option<Self>, bool) {
        let mut words = self.words();
        let word = &mut words[usize::from(place) / 64];
        let bit = 1u64 << (place % 64);
        let changed = (*word & bit != 0) != present;
        *word = if present { *word | bit } else { *word & !bit };
        (Self::of(&words), changed)
    }
}

fn count(words: &Words) -> usize {
    words.iter().map(|word| word.count_ones() as usize).sum()
}

fn places(words: &Words) -> impl Iterator<Item = u16> + '_ {
    words.iter().enumerate().flat_map(|(i, word)| {
        let mut rest = *word;
        std::iter::from_fn(move || {
            let place = (rest != 0).then(|| i as u16 * 64 + rest.trailing_zeros() as u16)?;
            rest &= rest - 1;
            Some(place)
        })
    })
}

fn split(row: i64) -> (i64, u16) {
    (row >> SHIFT, (row & ((1 << SHIFT) - 1)) as u16)
}

/// A set that lasts and changes. A clone is a snapshot.
#[derive(Debug, Clone)]
pub(crate) enum Rows {
    One(i64),
    Many(Sorted<i64, Block>),
}

impl Default for Rows {
    fn default() -> Self {
        Self::Many(Sorted::default())
    }
}

impl Rows {
    pub(crate) fn one(row: i64) -> Self {
        Self::One(row)
    }

    /// Adds or removes a row; whether that changed the set.
    pub(crate) fn set(&mut self, row: i64, present: bool) -> bool {
        if let Self::One(only) = *self {
            match (only == row, present) {
                (same, true) if same => return false,
                (false, false) => return false,
                _ => {}
            }
            *self = Self::default();
            if only != row {
                self.set(only, true);
            } else {
                return true;
            }
        }
        let Self::Many(blocks) = self else { return false };
        let (block, place) = split(row);
        let mut changed = false;
        blocks.alter(block, |old| match old {
            Some(old) => {
                let (new, differs) = old.with(place, present);
                changed = differs;
                new
            }
            None => {
                changed = present;
                present.then(|| Block::Few([place].into()))
            }
        });
        changed
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::One(_) => false,
            Self::Many(blocks) => blocks.iter().next().is_none(),
        }
    }

    /// Of ascending ids.
    pub(crate) fn of_sorted(ids: &[i64]) -> Self {
        if let [only] = ids {
            return Self::One(*only);
        }
        let mut blocks = Sorted::default();
        for run in ids.chunk_by(|a, b| split(*a).0 == split(*b).0) {
            let mut words = [0; WORDS];
            for id in run {
                let (_, place) = split(*id);
                words[usize::from(place) / 64] |= 1 << (place % 64);
            }
            blocks.alter(split(run[0]).0, |_| Block::of(&words));
        }
        Self::Many(blocks)
    }
}

/// A set that is joined of many.
#[derive(Debug, Default)]
pub(crate) struct Union(BTreeMap<i64, Gathered>);

/// A block as it comes, bits from the second on.
#[derive(Debug)]
enum Gathered {
    First(Block),
    Bits(Box<Words>),
}

impl Union {
    pub(crate) fn add(&mut self, rows: &Rows) {
        match rows {
            Rows::One(row) => {
                let (block, place) = split(*row);
                self.merge(block, &Block::Few([place].into()));
            }
            Rows::Many(blocks) => blocks.iter().for_each(|(at, block)| self.merge(*at, block)),
        }
    }

    fn merge(&mut self, at: i64, block: &Block) {
        use std::collections::btree_map::Entry;
        let gathered = match self.0.entry(at) {
            Entry::Vacant(entry) => {
                entry.insert(Gathered::First(block.clone()));
                return;
            }
            Entry::Occupied(entry) => entry.into_mut(),
        };
        if let Gathered::First(first) = gathered {
            *gathered = Gathered::Bits(Box::new(first.words()));
        }
        let Gathered::Bits(words) = gathered else { return };
        match block {
            Block::Few(places) => places.iter().for_each(|place| words[usize::from(*place) / 64] |= 1 << (place % 64)),
            Block::Bits(bits) => words.iter_mut().zip(bits.iter()).for_each(|(a, b)| *a |= b),
        }
    }

    pub(crate) fn finish(self) -> Found {
        let block = |gathered| match gathered {
            Gathered::First(block) => Some(block),
            Gathered::Bits(words) => Block::of(&words),
        };
        Found(self.0.into_iter().filter_map(|(at, gathered)| Some((at, block(gathered)?))).collect())
    }
}

/// A set that a question builds up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found(BTreeMap<i64, Block>);

impl Found {
    pub(crate) fn of(rows: &Rows) -> Self {
        let mut union = Union::default();
        union.add(rows);
        union.finish()
    }

    pub(crate) fn or(self, other: Self) -> Self {
        let mut union = Union(self.0.into_iter().map(|(at, block)| (at, Gathered::First(block))).collect());
        other.0.iter().for_each(|(at, block)| union.merge(*at, block));
        union.finish()
    }

    pub(crate) fn and(self, other: &Self) -> Self {
        self.each(other, |a, b| b.map_or([0; WORDS], |b| std::array::from_fn(|i| a[i] & b[i])))
    }

    pub(crate) fn without(self, other: &Self) -> Self {
        self.each(other, |a, b| b.map_or(*a, |b| std::array::from_fn(|i| a[i] & !b[i])))
    }

    fn each(mut self, other: &Self, f: impl Fn(&Words, Option<Words>) -> Words) -> Self {
        self.0.retain(|at, block| {
            let words = f(&block.words(), other.0.get(at).map(Block::words));
            Block::of(&words).map(|left| *block = left).is_some()
        });
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.0.values().map(Block::len).sum()
    }

    /// The ids, ascending.
    pub(crate) fn ids(&self) -> Vec<i64> {
        let mut ids = Vec::with_capacity(self.len());
        for (at, block) in &self.0 {
            ids.extend(places(&block.words()).map(|place| (at << SHIFT) + i64::from(place)));
        }
        ids
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ids() -> impl Strategy<Value = Vec<i64>> {
        proptest::collection::vec(prop_oneof![-200i64..9000, Just(i64::MIN), Just(i64::MAX), any::<i64>()], 0..400)
    }

    fn found(rows: &Rows) -> Found {
        Found::of(rows)
    }

    proptest! {
        #[test]
        fn sets_are_sets(a in ids(), b in ids(), gone in ids()) {
            let (mut plain, mut rows) = (BTreeSet::new(), Rows::default());
            for id in &a {
                prop_assert_eq!(rows.set(*id, true), plain.insert(*id));
            }
            let snapshot = (rows.clone(), plain.clone());
            for id in gone.iter().chain(a.iter().step_by(2)) {
                prop_assert_eq!(rows.set(*id, false), plain.remove(id));
            }
            prop_assert_eq!(rows.is_empty(), plain.is_empty());
            let all = |set: &BTreeSet<i64>| set.iter().copied().collect::<Vec<_>>();
            prop_assert_eq!(found(&rows).ids(), all(&plain));
            prop_assert_eq!(found(&snapshot.0).ids(), all(&snapshot.1));
            let other: BTreeSet<i64> = b.iter().copied().chain(a.iter().copied().step_by(3)).collect();
            let theirs = found(&Rows::of_sorted(&all(&other)));
            prop_assert_eq!(theirs.ids(), all(&other));
            prop_assert_eq!(found(&rows).or(theirs.clone()).ids(), all(&plain.union(&other).copied().collect()));
            prop_assert_eq!(found(&rows).and(&theirs).ids(), all(&plain.intersection(&other).copied().collect()));
            prop_assert_eq!(found(&rows).without(&theirs).ids(), all(&plain.difference(&other).copied().collect()));
            prop_assert_eq!(theirs.len(), other.len());
        }
    }
}

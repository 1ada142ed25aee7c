//! A node of the trie: six bits of the address, as four bitmaps of one machine word.
//!
//! The prefixes that end within a stride form a binary tree of lengths 0 to 6. Lengths 0 to 5 are numbered as a heap is,
//! `1 << length | bits`, so that one word holds them and a longer one has a higher number; the 64 of length 6 are a
//! second word, the children a third. The place of a value or child in its block is the count of bits before its own.
//! This is the tree bitmap of Eatherton, Varghese and Dittia (2004), in the width of `popcnt`.

use crate::address::Family;
use crate::prefix::Prefix;

/// Bits of a stride.
pub(crate) const STRIDE: u32 = 6;

/// An address or the bits of a prefix, from the highest bit down, whatever the family: IPv4 fills the upper 32.
pub(crate) type Key = u128;

pub(crate) fn key_of(family: Family, bits: u128) -> Key {
    bits << (128 - family.width() as u32)
}

/// The bits in front of `depth`, from 0 to 128.
pub(crate) fn masked(key: Key, depth: u32) -> Key {
    if depth == 0 { 0 } else { key & (u128::MAX << (128 - depth)) }
}

/// The six bits of `key` behind `depth`, from 0 to 126.
#[inline(always)]
pub(crate) fn slot(key: Key, depth: u32) -> u32 {
    // At depth 126 two bits are left; they are the upper ones of the slot.
    if depth <= 122 { (key >> (122 - depth)) as u32 & 63 } else { (key << (depth - 122)) as u32 & 63 }
}

/// The depth of the node that owns prefixes of this length.
pub(crate) fn owner_depth(length: u32) -> u32 {
    length.saturating_sub(1) / STRIDE * STRIDE
}

/// Bits of the longest address.
const LONGEST: u32 = 128;

/// How many nodes a path has at most: one for each stride.
pub(crate) const DEPTHS: usize = LONGEST.div_ceil(STRIDE) as usize;

/// The positions that hold each slot, of lengths 0 to 5.
pub(crate) const ABOVE: [u64; 64] = {
    let mut above = [0; 64];
    let mut slot = 0;
    while slot < 64 {
        let mut length = 0;
        while length < STRIDE {
            above[slot] |= 1 << (1 << length | slot >> (STRIDE as usize - length as usize));
            length += 1;
        }
        slot += 1;
    }
    above
};

/// One node. 64 bytes: a cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
pub(crate) struct Node {
    /// Prefixes of lengths 0 to 5 behind the depth, by position.
    pub(crate) inner: u64,
    /// Prefixes of length 6, by slot.
    pub(crate) full: u64,
    /// Children, by slot.
    pub(crate) child: u64,
    /// The bits in front of the depth, as two words: a `u128` would claim an alignment that the node has no room for.
    key: [u64; 2],
    /// Block of the children, in the order of their slots.
    pub(crate) children: u32,
    /// Block of the values, those of `inner` first.
    pub(crate) values: u32,
    /// Bits of an address that lie in front of this node: a multiple of 6.
    pub(crate) depth: u8,
    /// The length of the shortest free prefix within this node, `FULL` if there is none: see `pool.rs`.
    pub(crate) room: u8,
}

/// A prefix within a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Of length 0 to 5: the position.
    Inner(u32),
    /// Of length 6: the slot.
    Full(u32),
}

impl Place {
    /// The place of the prefix of `length` with these bits, in the node at `depth` that owns it.
    pub(crate) fn of(key: Key, length: u32, depth: u32) -> Self {
        let (slot, length) = (slot(key, depth), length - depth);
        if length == STRIDE { Self::Full(slot) } else { Self::Inner(1 << length | slot >> (STRIDE - length)) }
    }

    /// Bits behind the depth, and the first slot.
    pub(crate) fn length_and_slot(self) -> (u32, u32) {
        match self {
            Self::Full(slot) => (STRIDE, slot),
            Self::Inner(position) => {
                let length = position.ilog2();
                (length, (position << (STRIDE - length)) & 63)
            }
        }
    }

    /// The slots that this prefix covers.
    pub(crate) fn slots(self) -> u64 {
        let (length, slot) = self.length_and_slot();
        (u64::MAX >> (64 - (1u32 << (STRIDE - length)))) << slot
    }
}

/// The bits below bit `n`, from 0 to 63.
#[inline(always)]
fn below(n: u32) -> u64 {
    (1 << n) - 1
}

impl Node {
    pub(crate) fn new(key: Key, depth: u32) -> Self {
        let key = masked(key, depth);
        Self { key: [(key >> 64) as u64, key as u64], depth: depth as u8, ..Self::default() }
    }

    pub(crate) fn key(&self) -> Key {
        u128::from(self.key[0]) << 64 | u128::from(self.key[1])
    }

    /// The upper half of the key.
    #[inline(always)]
    pub(crate) fn high(&self) -> u64 {
        self.key[0]
    }

    pub(crate) fn depth(&self) -> u32 {
        self.depth.into()
    }

    /// The slots at which a prefix or a child begins.
    pub(crate) fn begins(&self) -> u64 {
        let (mut begins, mut inner) = (self.full | self.child, self.inner);
        while inner != 0 {
            begins |= 1 << Place::Inner(inner.trailing_zeros()).length_and_slot().1;
            inner &= inner - 1;
        }
        begins
    }

    pub(crate) fn value_count(&self) -> usize {
        (self.inner.count_ones() + self.full.count_ones()) as usize
    }

    pub(crate) fn child_count(&self) -> usize {
        self.child.count_ones() as usize
    }

    pub(crate) fn has(&self, place: Place) -> bool {
        match place {
            Place::Inner(position) => self.inner >> position & 1 == 1,
            Place::Full(slot) => self.full >> slot & 1 == 1,
        }
    }

    pub(crate) fn flip(&mut self, place: Place) {
        match place {
            Place::Inner(position) => self.inner ^= 1 << position,
            Place::Full(slot) => self.full ^= 1 << slot,
        }
    }

    /// How many values come before that of `place`.
    #[inline(always)]
    pub(crate) fn value_rank(&self, place: Place) -> usize {
        (match place {
            Place::Inner(position) => (self.inner & below(position)).count_ones(),
            Place::Full(slot) => self.inner.count_ones() + (self.full & below(slot)).count_ones(),
        }) as usize
    }

    /// The number of the value at `place`.
    #[inline(always)]
    pub(crate) fn value_index(&self, place: Place) -> u32 {
        self.values + self.value_rank(place) as u32
    }

    /// How many children come before that of `slot`.
    #[inline(always)]
    pub(crate) fn child_rank(&self, slot: u32) -> usize {
        (self.child & below(slot)).count_ones() as usize
    }

    /// The number of the child at `slot`.
    #[inline(always)]
    pub(crate) fn child_at(&self, slot: u32) -> Option<u32> {
        (self.child >> slot & 1 == 1).then(|| self.children + self.child_rank(slot) as u32)
    }

    /// The longest prefix of this node that holds `slot`.
    #[inline(always)]
    pub(crate) fn longest(&self, slot: u32) -> Option<Place> {
        if self.full >> slot & 1 == 1 {
            return Some(Place::Full(slot));
        }
        (self.inner & ABOVE[slot as usize]).checked_ilog2().map(Place::Inner)
    }

    /// The prefixes of this node, a shorter one before a longer one.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place> + use<> {
        let bits = |mut word: u64| {
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros();
                word &= word.checked_sub(1)?;
                Some(bit)
            })
        };
        bits(self.inner).map(Place::Inner).chain(bits(self.full).map(Place::Full))
    }

    /// The prefix at `place`.
    pub(crate) fn prefix(&self, family: Family, place: Place) -> Prefix {
        let (length, slot) = place.length_and_slot();
        Prefix::from_key(family, self.slot_key(slot), self.depth() + length)
    }

    /// The first address of `slot`.
    pub(crate) fn slot_key(&self, slot: u32) -> Key {
        let (slot, depth) = (Key::from(slot), self.depth());
        self.key() | if depth <= 122 { slot << (122 - depth) } else { slot >> (depth - 122) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_a_cache_line() {
        assert_eq!((size_of::<Node>(), align_of::<Node>()), (64, 64));
    }

    #[test]
    fn places_are_numbered_as_a_heap() {
        for depth in [0, 6, 60, 120, 126] {
            for length in 0..=STRIDE.min(128 - depth) {
                for bits in 0..1u128 << length {
                    let key = if depth + length == 0 { 0 } else { bits << (128 - depth - length) };
                    let place = Place::of(key, depth + length, depth);
                    assert_eq!(place.length_and_slot().0, length);
                    let slots = place.slots();
                    for slot in 0..64 {
                        let held = slot >> (STRIDE - length) == bits as u32;
                        assert_eq!(slots >> slot & 1 == 1, held, "{depth} {length} {bits} {slot}");
                        let mut node = Node::new(key, depth);
                        node.flip(place);
                        assert_eq!(node.longest(slot), held.then_some(place));
                    }
                }
            }
        }
    }
}

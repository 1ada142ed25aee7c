//! Longest matches of many addresses at once: some lanes go down the trie side by side, so that their cache misses
//! overlap. One address alone waits for memory most of the time.

use crate::address::{Address, Family};
use crate::node::{Node, slot};
use crate::table::{Table, root};

/// How many addresses go side by side: enough to keep the memory busy, few enough for their state to stay in L1. 64 were
/// measured to be slower by a sixth, 256 no faster.
pub(crate) const LANES: usize = 128;

/// A value found, plus one; 0 where no prefix holds the address.
pub(crate) type Found = u64;

/// An address as a batch holds it: in as few bits as its family needs.
pub(crate) trait Lane: Copy {
    const FAMILY: Family;
    /// How many rows of the flat form most addresses pass.
    const TOGETHER: usize;
    /// The upper 64 bits of the key.
    fn high(self) -> u64;
    /// The six bits behind `depth`.
    fn slot(self, depth: u32) -> u32;
    /// Whether the bits in front of the depth of `node` are those of the address.
    fn begins_with(self, node: &Node) -> bool;
}

impl Lane for u32 {
    const FAMILY: Family = Family::V4;
    const TOGETHER: usize = 1;

    #[inline(always)]
    fn high(self) -> u64 {
        u64::from(self) << 32
    }

    #[inline(always)]
    fn slot(self, depth: u32) -> u32 {
        (self.high() >> (58 - depth)) as u32 & 63
    }

    #[inline(always)]
    fn begins_with(self, node: &Node) -> bool {
        (self.high() ^ node.high()) >> 1 >> (63 - node.depth()) == 0
    }
}

impl Lane for u128 {
    const FAMILY: Family = Family::V6;
    const TOGETHER: usize = 3;

    #[inline(always)]
    fn high(self) -> u64 {
        (self >> 64) as u64
    }

    #[inline(always)]
    fn slot(self, depth: u32) -> u32 {
        slot(self, depth)
    }

    #[inline(always)]
    fn begins_with(self, node: &Node) -> bool {
        (self ^ node.key()) >> 1 >> (127 - node.depth()) == 0
    }
}

/// 16 bytes in network order, whose bits are taken out only where they are asked for.
impl Lane for [u8; 16] {
    const FAMILY: Family = Family::V6;
    const TOGETHER: usize = <u128 as Lane>::TOGETHER;

    #[inline(always)]
    fn high(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    #[inline(always)]
    fn slot(self, depth: u32) -> u32 {
        u128::from_be_bytes(self).slot(depth)
    }

    #[inline(always)]
    fn begins_with(self, node: &Node) -> bool {
        u128::from_be_bytes(self).begins_with(node)
    }
}

/// Asks the processor for the cache line of `item`, which need not exist.
#[inline(always)]
pub(crate) fn prefetch<T>(item: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint: it reads nothing that the program sees and cannot fault, whatever the address.
        // The instruction is part of SSE, which every x86-64 processor has.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(item.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = item;
}

/// Runs `$body`, compiled once for the bit-counting instructions that x86-64 processors have had since 2013 and once
/// without them; counting the bits of a word takes one instruction or a dozen.
macro_rules! with_bit_counting {
    ($(#[$doc:meta])* $vis:vis fn $name:ident[$($generics:tt)*]($($arg:ident: $type:ty),*) $(-> $result:ty)? = $body:ident) => {
        $(#[$doc])*
        $vis fn $name<$($generics)*>($($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "popcnt,lzcnt,bmi1,bmi2")]
                fn counting<$($generics)*>($($arg: $type),*) $(-> $result)? {
                    $body($($arg),*)
                }
                if $crate::simd::bit_counting() {
                    // SAFETY: the function is safe but for the instructions that it was compiled for, and
                    // `bit_counting` is true only if the processor was asked for each of them.
                    return unsafe { counting($($arg),*) };
                }
            }
            $body($($arg),*)
        }
    };
}

with_bit_counting! {
    /// Looks up at most [`LANES`] addresses.
    pub(crate) fn find_all[L: Lane](table: &Table<u32>, addresses: &[L], found: &mut [Found; LANES]) = find_all_plainly
}

/// As [`find_all`], with the instructions that every processor has.
#[inline(always)]
pub(crate) fn find_all_plainly<L: Lane>(table: &Table<u32>, addresses: &[L], found: &mut [Found; LANES]) {
    let count = addresses.len().min(LANES);
    let mut nodes = [table.nodes.get(root(L::FAMILY)); LANES];
    // The number of the value of the longest prefix yet, plus one.
    let mut best = [0u32; LANES];
    // The lanes still on their way, from the front.
    let mut lanes: [u8; LANES] = std::array::from_fn(|lane| lane as u8);
    let mut pending = count;
    while pending > 0 {
        let mut left = 0;
        for at in 0..pending {
            let lane = usize::from(lanes[at]) % LANES;
            let (node, address) = (nodes[lane], addresses[lane]);
            let slot = address.slot(node.depth());
            let here = address.begins_with(node);
            if here && let Some(place) = node.longest(slot) {
                best[lane] = node.value_index(place) + 1;
            }
            let down = here && node.child >> slot & 1 == 1;
            if down {
                let child = table.nodes.get(node.children + node.child_rank(slot) as u32);
                prefetch(child);
                nodes[lane] = child;
            }
            lanes[left] = lane as u8;
            left += usize::from(down);
        }
        pending = left;
    }
    for lane in 0..count {
        found[lane] = best[lane].checked_sub(1).map_or(0, |index| Found::from(*table.values.get(index)) + 1);
    }
}

with_bit_counting! {
    /// Looks up one address.
    pub(crate) fn find_one[](table: &Table<u32>, address: Address) -> Found = find_one_plainly
}

#[inline(always)]
fn find_one_plainly(table: &Table<u32>, address: Address) -> Found {
    match address.family() {
        Family::V4 => find_lane(table, address.bits() as u32),
        Family::V6 => find_lane(table, address.bits()),
    }
}

#[inline(always)]
fn find_lane<L: Lane>(table: &Table<u32>, address: L) -> Found {
    let mut node = table.nodes.get(root(L::FAMILY));
    let mut best = None;
    while address.begins_with(node) {
        let slot = address.slot(node.depth());
        if let Some(place) = node.longest(slot) {
            best = Some(node.value_index(place));
        }
        let Some(child) = node.child_at(slot) else { break };
        node = table.nodes.get(child);
    }
    best.map_or(0, |index| Found::from(*table.values.get(index)) + 1)
}

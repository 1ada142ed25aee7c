//! From an address to the number of the interval that it lies in, all intervals counted in order.
//!
//! For IPv4 the upper half of an address leads to where its intervals begin in one sorted list, of which a few lower halves
//! are then compared at once: DXR (Zec, Rizzo, Mikuc, SIGCOMM CCR 2012). IPv6 is a binary search.

use zqlite_cidr::{Address, Family};

use crate::lanes::{Lanes, SORTED};

/// Fewer beginnings are searched without the table of upper halves.
const FEW: usize = 256;

/// Half as wide where the numbers are small: the narrow ones of both sides leave more of the caches nearby to what follows.
#[derive(Debug)]
enum Table {
    Narrow(Vec<u16>),
    Wide(Vec<u32>),
}

impl Table {
    fn new(items: Vec<u32>) -> Self {
        match items.iter().map(|&item| u16::try_from(item)).collect() {
            Ok(narrow) => Table::Narrow(narrow),
            Err(_) => Table::Wide(items),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Table::Narrow(items) => 2 * items.len(),
            Table::Wide(items) => 4 * items.len(),
        }
    }

    #[inline(always)]
    fn pair(&self, at: usize) -> (u32, u32) {
        match self {
            Table::Narrow(items) => match items.get(at..at + 2) {
                Some(&[from, to]) => (from.into(), to.into()),
                _ => (0, 0),
            },
            Table::Wide(items) => match items.get(at..at + 2) {
                Some(&[from, to]) => (from, to),
                _ => (0, 0),
            },
        }
    }
}

#[derive(Debug)]
pub(crate) struct Ranks {
    /// Where IPv4 intervals begin, ascending, from 0 on; empty when there is a table.
    few: Vec<u32>,
    /// For each upper half, how many intervals begin below it; one more item closes the list.
    table: Table,
    /// The lower halves of all beginnings.
    lows: Vec<u16>,
    /// How many IPv4 intervals there are; those of IPv6 follow.
    v4: u32,
    v6: Vec<u128>,
}

impl Ranks {
    /// From where intervals begin, in any order, each any number of times.
    pub(crate) fn new(mut v4: Vec<u32>, mut v6: Vec<u128>) -> Self {
        v4.push(0);
        v4.sort_unstable();
        v4.dedup();
        v6.push(0);
        v6.sort_unstable();
        v6.dedup();
        let count = v4.len() as u32;
        if v4.len() < FEW {
            return Self { few: v4, table: Table::Narrow(Vec::new()), lows: Vec::new(), v4: count, v6 };
        }
        let mut table = vec![0u32; (1 << 16) + 1];
        for &first in &v4 {
            table[(first >> 16) as usize + 1] += 1;
        }
        let mut below = 0;
        for item in &mut table {
            below += *item;
            *item = below;
        }
        let table = Table::new(table);
        Self { few: Vec::new(), table, lows: v4.iter().map(|&first| first as u16).collect(), v4: count, v6 }
    }

    /// How many intervals there are.
    pub(crate) fn len(&self) -> usize {
        self.v4 as usize + self.v6.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        4 * self.few.len() + self.table.bytes() + 2 * self.lows.len() + 16 * self.v6.len()
    }

    /// The interval of an address.
    #[inline(always)]
    pub(crate) fn of(&self, lanes: impl Lanes, address: Address) -> u32 {
        match address.family() {
            Family::V4 => self.v4(lanes, self.part(address.bits() as u32), address.bits() as u32),
            Family::V6 => self.v4 + self.v6.partition_point(|&first| first <= address.bits()).saturating_sub(1) as u32,
        }
    }

    /// Where the beginnings lie that share the upper half of an address.
    #[inline(always)]
    pub(crate) fn part(&self, address: u32) -> (u32, u32) {
        self.table.pair((address >> 16) as usize)
    }

    /// Asks for the memory of a part.
    #[inline(always)]
    pub(crate) fn prefetch(&self, part: (u32, u32)) {
        crate::lanes::prefetch(&self.lows, part.0 as usize);
    }

    /// The interval of an IPv4 address whose [part](Self::part) is known.
    #[inline(always)]
    pub(crate) fn v4(&self, lanes: impl Lanes, part: (u32, u32), address: u32) -> u32 {
        if !self.few.is_empty() {
            return self.few.partition_point(|&first| first <= address).saturating_sub(1) as u32;
        }
        let value = address as u16;
        let Some(mut lows) = self.lows.get(part.0 as usize..part.1 as usize) else { return 0 };
        let mut passed = part.0;
        while lows.len() > SORTED {
            let (left, right) = lows.split_at(lows.len() / 2);
            let further = right.first().is_some_and(|&first| first <= value);
            passed += if further { left.len() as u32 } else { 0 };
            lows = if further { right } else { left };
        }
        (passed + lanes.at_most(lows, value) as u32).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lanes::Scalar;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_interval_is_the_last_that_begins_at_or_before(
            clustered in proptest::collection::vec(0x0a00_0000u32..0x0a03_0000, 0..600),
            spread in proptest::collection::vec(any::<u32>(), 0..300),
            v6 in proptest::collection::vec(any::<u128>(), 0..20),
        ) {
            let firsts: Vec<u32> = clustered.into_iter().chain(spread).collect();
            let ranks = Ranks::new(firsts.clone(), v6.clone());
            let mut sorted = firsts;
            sorted.push(0);
            sorted.sort_unstable();
            sorted.dedup();
            for probe in sorted.iter().flat_map(|&first| [first, first.wrapping_add(1), first.wrapping_sub(1)]) {
                let plain = sorted.iter().filter(|&&first| first <= probe).count() as u32 - 1;
                prop_assert_eq!(ranks.of(Scalar, Address::v4(probe)), plain);
                #[cfg(target_arch = "x86_64")]
                if let Some(lanes) = crate::lanes::x86::Avx512::detected() {
                    prop_assert_eq!(ranks.v4(lanes, ranks.part(probe), probe), plain);
                }
            }
            for probe in v6.iter().copied().chain([0, u128::MAX]) {
                let mut all = v6.clone();
                all.push(0);
                all.sort_unstable();
                all.dedup();
                let plain = sorted.len() + all.iter().filter(|&&first| first <= probe).count() - 1;
                let address = Address::v6(probe);
                if address.family() == Family::V6 {
                    prop_assert_eq!(ranks.of(Scalar, address) as usize, plain);
                }
            }
        }
    }
}

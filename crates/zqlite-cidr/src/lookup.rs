//! A table of numbers made for lookups, in one of two forms.

use std::ops::Deref;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::address::{Address, Family, is_mapped};
use crate::batch::{Found, LANES, Lane, find_all, find_one};
use crate::flat::Flat;
use crate::node::key_of;
use crate::prefix::Prefix;
use crate::table::Table;

/// What a [`LookupTable`] spends memory on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The trie alone for small tables; rows of answers beside it for large ones, where they pay.
    #[default]
    Compact,
    /// Rows of answers always and in more places: lookups are faster, changes slower; at least 2 MiB.
    Fast,
}

impl Mode {
    /// The most prefixes of a node that are asked one by one instead of having a row.
    const fn sparse(self) -> usize {
        match self {
            Mode::Compact => 3,
            Mode::Fast => 1,
        }
    }

    fn flat(self, table: &Table<u32>) -> Flat {
        Flat::of(table, self.sparse(), self == Mode::Fast)
    }
}

/// From how many prefixes on a compact table has rows, and below how many no longer. Until then all of the trie is in the
/// processor's caches.
const LARGE: usize = 16_384;
const SMALL: usize = LARGE / 2;
/// Lookups by the trie alone until rows that are due are made: to make them for a million prefixes takes as long as some hundred
/// thousand lookups, which is lost on a table that is loaded and asked little.
const PAYS: u32 = 8192;

/// A [`Table`] of numbers with lookups of one address or many. Reads of other kinds are those of the table.
#[derive(Debug, Default)]
pub struct LookupTable {
    table: Table<u32>,
    mode: Mode,
    /// Set where there are rows.
    flat: OnceLock<Flat>,
    /// Rows are to be made when they pay.
    rows_due: bool,
    /// Addresses that were asked for since they are due.
    asked: AtomicU32,
}

impl Deref for LookupTable {
    type Target = Table<u32>;

    fn deref(&self) -> &Table<u32> {
        &self.table
    }
}

impl LookupTable {
    /// A table with the entries of `table`.
    pub fn of(table: Table<u32>, mode: Mode) -> Self {
        let table = Self::lazily_of(table, mode);
        table.flat(PAYS);
        table
    }

    /// As [`of`](Self::of), at once: the rows of answers, most of the time that it takes, are made when some thousand addresses
    /// were asked for.
    pub fn lazily_of(table: Table<u32>, mode: Mode) -> Self {
        let rows_due = mode == Mode::Fast || table.len() >= LARGE;
        Self { table, mode, flat: OnceLock::new(), rows_due, asked: AtomicU32::new(0) }
    }

    /// The rows for so many addresses, made now if they are due and pay.
    #[inline(always)]
    fn flat(&self, addresses: u32) -> Option<&Flat> {
        match self.flat.get() {
            None if self.rows_due => self.due(addresses),
            flat => flat,
        }
    }

    #[cold]
    fn due(&self, addresses: u32) -> Option<&Flat> {
        let asked = self.asked.fetch_add(addresses, Relaxed).saturating_add(addresses);
        (asked >= PAYS).then(|| self.flat.get_or_init(|| self.mode.flat(&self.table)))
    }

    /// Asks for the memory of the rows that a change of `prefix` will touch, so that it comes while the trie is changed.
    fn ask_for(&self, prefix: Prefix) {
        if let Some(flat) = self.flat.get() {
            flat.ask_for(prefix.family(), (prefix.key() >> 64) as u64);
        }
    }

    /// Gives `prefix` this value; returns the one that it had.
    pub fn insert(&mut self, prefix: Prefix, value: u32) -> Option<u32> {
        self.ask_for(prefix);
        let before = self.table.insert(prefix, value);
        match self.flat.get_mut() {
            Some(flat) if before != Some(value) => flat.update(&self.table, prefix),
            _ => self.rows_due |= self.table.len() >= LARGE,
        }
        before
    }

    /// Removes `prefix` itself, not those that it covers; returns its value.
    pub fn remove(&mut self, prefix: Prefix) -> Option<u32> {
        self.ask_for(prefix);
        let before = self.table.remove(prefix)?;
        if self.mode == Mode::Compact && self.table.len() < SMALL {
            self.flat = OnceLock::new();
            self.rows_due = false;
            self.asked = AtomicU32::new(0);
        }
        if let Some(flat) = self.flat.get_mut() {
            flat.update(&self.table, prefix);
        }
        Some(before)
    }

    /// Bytes of memory that the table takes.
    pub fn memory(&self) -> usize {
        self.table.memory() + self.flat.get().map_or(0, Flat::memory)
    }

    /// The value of the longest prefix that holds `address`.
    #[inline]
    pub fn lookup(&self, address: Address) -> Option<u32> {
        value(self.find(address))
    }

    #[inline]
    fn find(&self, address: Address) -> Found {
        let high = (key_of(address.family(), address.bits()) >> 64) as u64;
        match self.flat(1).and_then(|flat| flat.find_one(address.family(), high)) {
            Some(found) => found,
            None => find_one(&self.table, address),
        }
    }

    /// Looks up IPv4 addresses; gives `put` the place of each, from 0, and the value of the longest prefix that holds it.
    /// All of a batch is answered from the table as it is; one address costs a fraction of what it costs alone.
    pub fn lookup_v4(&self, addresses: &[u32], mut put: impl FnMut(usize, Option<u32>)) {
        let mut found = [0; LANES];
        for (chunk, addresses) in addresses.chunks(LANES).enumerate() {
            self.find_all(addresses, &mut found);
            for (at, &found) in found[..addresses.len()].iter().enumerate() {
                put(chunk * LANES + at, value(found));
            }
        }
    }

    /// As [`lookup_v4`](Self::lookup_v4), for IPv6 addresses in network byte order. IPv4-mapped ones are IPv4.
    pub fn lookup_v6(&self, addresses: &[[u8; 16]], mut put: impl FnMut(usize, Option<u32>)) {
        let mut found = [0; LANES];
        for (chunk, addresses) in addresses.chunks(LANES).enumerate() {
            self.find_all(addresses, &mut found);
            // The first half of a mapped address is zero, and hardly one of another.
            if addresses.iter().fold(false, |any, address| any | (address.high() == 0)) {
                for (found, &address) in found.iter_mut().zip(addresses) {
                    let bits = u128::from_be_bytes(address);
                    if is_mapped(bits) {
                        *found = self.find(Address::v6(bits));
                    }
                }
            }
            for (at, &found) in found[..addresses.len()].iter().enumerate() {
                put(chunk * LANES + at, value(found));
            }
        }
    }

    #[inline(always)]
    fn find_all<L: Lane>(&self, addresses: &[L], found: &mut [Found; LANES]) {
        match self.flat(addresses.len() as u32) {
            Some(flat) => flat.find_all(&self.table, addresses, found),
            None => find_all(&self.table, addresses, found),
        }
    }

    /// As [`lookup_v4`](Self::lookup_v4), for addresses of either family.
    pub fn lookup_all(&self, addresses: &[Address], mut put: impl FnMut(usize, Option<u32>)) {
        let v4: Vec<(usize, u32)> = places(addresses, Family::V4).map(|(at, bits)| (at, bits as u32)).collect();
        let v6: Vec<(usize, u128)> = places(addresses, Family::V6).collect();
        self.lookup_places(&v4, &mut put);
        self.lookup_places(&v6, &mut put);
    }

    fn lookup_places<L: Lane>(&self, addresses: &[(usize, L)], put: &mut impl FnMut(usize, Option<u32>)) {
        let mut found = [0; LANES];
        for chunk in addresses.chunks(LANES) {
            let lanes: [L; LANES] = std::array::from_fn(|at| chunk[at.min(chunk.len() - 1)].1);
            self.find_all(&lanes[..chunk.len()], &mut found);
            for (&(at, _), &found) in chunk.iter().zip(&found) {
                put(at, value(found));
            }
        }
    }
}

fn places(addresses: &[Address], family: Family) -> impl Iterator<Item = (usize, u128)> {
    let bits = addresses.iter().enumerate().filter(move |(_, address)| address.family() == family);
    bits.map(|(at, address)| (at, address.bits()))
}

#[inline(always)]
fn value(found: Found) -> Option<u32> {
    found.checked_sub(1).map(|value| value as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::find_all_plainly;
    use crate::prefix::HostBits;

    /// Numbers that look random, the same each time.
    fn numbers() -> impl Iterator<Item = u64> {
        let mut state = 0u64;
        std::iter::repeat_with(move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb)
        })
    }

    fn prefixes(count: usize) -> Vec<Prefix> {
        let mut numbers = numbers();
        let mut next = || numbers.next().unwrap_or_default();
        let mut prefixes = Vec::new();
        for _ in 0..count {
            let (bits, length) = (next(), next() as u8);
            let prefix = match next() % 4 {
                0 => Prefix::new(Address::v4(bits as u32), 8 + length % 25, HostBits::Mask),
                1 => Prefix::new(Address::v4(0x0a00_0000 | bits as u32 & 0xffff), 14 + length % 19, HostBits::Mask),
                2 => Prefix::new(Address::v6(u128::from(bits & 0xff_ffff) << 88), 10 + length % 60, HostBits::Mask),
                _ => {
                    Prefix::new(Address::v6(0xfd << 120 | u128::from(bits & 0xffff)), 100 + length % 29, HostBits::Mask)
                }
            };
            prefixes.extend(prefix);
        }
        prefixes
    }

    #[test]
    fn both_ways_of_counting_bits_agree() {
        let table: Table<u32> = prefixes(20_000).into_iter().zip(0..).collect();
        for addresses in numbers().take(6400).collect::<Vec<_>>().chunks(LANES) {
            let (mut one, mut other) = ([0; LANES], [0; LANES]);
            let v4: Vec<u32> = addresses.iter().map(|bits| *bits as u32).collect();
            find_all(&table, &v4, &mut one);
            find_all_plainly(&table, &v4, &mut other);
            assert_eq!(one, other);
            let v6: Vec<u128> = addresses.iter().map(|bits| u128::from(bits & 0xff_ffff) << 88).collect();
            find_all(&table, &v6, &mut one);
            find_all_plainly(&table, &v6, &mut other);
            assert_eq!(one, other);
        }
    }

    /// The plain way through the flat form and the one of AVX-512, at every size of a batch.
    #[test]
    fn every_way_through_the_flat_form_agrees() {
        for mode in [Mode::Compact, Mode::Fast] {
            let entries = prefixes(40_000).into_iter().zip(0..).map(|(prefix, at)| (prefix, at * 71_993));
            let table = LookupTable::of(entries.collect(), mode);
            let Some(flat) = table.flat.get() else { unreachable!("a table of this size has rows") };
            let bits: Vec<u64> = numbers().take(40_000).collect();
            let v4 = bits
                .iter()
                .map(|bits| if bits >> 63 == 0 { *bits as u32 } else { 0x0a00_0000 | *bits as u32 & 0xffff });
            let v6 = bits.iter().map(|bits| match bits >> 62 {
                0 => u128::from(*bits) << 64 | 1,
                1 => 0xfd << 120 | u128::from(bits & 0xffff),
                _ => u128::from(bits & 0xff_ffff) << 88,
            });
            agree(flat, &v4.collect::<Vec<u32>>());
            agree(flat, &v6.collect::<Vec<u128>>());
        }
    }

    fn agree<L: Lane>(flat: &Flat, addresses: &[L]) {
        let mut rest = addresses;
        for count in (1..=LANES).cycle() {
            let Some((batch, behind)) = rest.split_at_checked(count) else { break };
            rest = behind;
            let (mut plain, mut wide) = ([0; LANES], [0; LANES]);
            let descended = match &flat.octets {
                Some(octets) if L::FAMILY == Family::V6 => {
                    octets.descend(batch, &mut plain);
                    octets.descend_wide(batch, &mut wide)
                }
                _ => {
                    flat.descend(batch, &mut plain);
                    flat.descend_wide(batch, &mut wide)
                }
            };
            if !descended {
                eprintln!("SKIPPED: no AVX-512 here, or ZQLITE_SIMD forbids it");
                return;
            }
            assert_eq!(plain[..count], wide[..count]);
        }
    }

    #[test]
    fn the_flat_form_is_what_it_would_be_if_built_anew() {
        for mode in [Mode::Compact, Mode::Fast] {
            let flat = OnceLock::from(mode.flat(&Table::new()));
            let mut table = LookupTable { flat, mode, rows_due: true, ..LookupTable::default() };
            let prefixes = prefixes(6000);
            let in_use = |table: &LookupTable| table.flat.get().map(Flat::in_use);
            let fresh = |table: &LookupTable| Some(mode.flat(table).in_use());
            for (value, &prefix) in prefixes.iter().enumerate() {
                table.insert(prefix, value as u32);
            }
            assert_eq!(in_use(&table), fresh(&table));
            let mut flat = table.flat.take();
            for &prefix in prefixes.iter().step_by(2) {
                if table.table.remove(prefix).is_some()
                    && let Some(flat) = &mut flat
                {
                    flat.update(&table.table, prefix);
                }
            }
            table.flat = flat.map(OnceLock::from).unwrap_or_default();
            assert_eq!(in_use(&table), fresh(&table));
            let (Some(changed), fresh) = (table.flat.get(), mode.flat(&table)) else { unreachable!("set above") };
            for &prefix in &prefixes {
                for high in [prefix.key(), Prefix::from(prefix.last()).key()].map(|key| (key >> 64) as u64) {
                    assert_eq!(
                        changed.find_one(prefix.family(), high),
                        fresh.find_one(prefix.family(), high),
                        "{prefix}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_compact_table_has_rows_while_it_is_large() {
        let mut table = LookupTable::default();
        let hosts: Vec<Prefix> = (0..LARGE as u32).map(|n| Prefix::from(Address::v4(n << 12))).collect();
        for &host in &hosts {
            assert!(table.flat(PAYS).is_none());
            table.insert(host, 1);
        }
        assert!(table.flat(PAYS).is_some());
        for &host in &hosts {
            table.remove(host);
        }
        assert!(table.flat(PAYS).is_none());
        assert_eq!(table.lookup(Address::v4(0)), None);
    }

    #[test]
    fn rows_are_made_when_they_pay() {
        let table = Table::from_iter([(Prefix::from(Address::v4(0x0a00_0001)), 7)]);
        let table = LookupTable::lazily_of(table, Mode::Fast);
        let batch = [0x0a00_0001; 100];
        let ask = || table.lookup_v4(&batch, |_, found| assert_eq!(found, Some(7)));
        for _ in 0..PAYS / 200 {
            ask();
            (0..100).for_each(|_| assert_eq!(table.lookup(Address::v4(batch[0])), Some(7)));
        }
        ask();
        assert!(table.flat.get().is_none());
        ask();
        assert!(table.flat.get().is_some());
        ask();
    }
}

//! The trie against the plain table, on tables whose prefixes nest and fill each other.

mod common;

use common::{address, crowded_prefix, settled, steps};
use proptest::prelude::*;
use zqlite_cidr::plain::PrefixTable;
use zqlite_cidr::{Address, AddressRange, HostBits, Prefix, Table};

/// Addresses to ask for: at and around the ends of the table's prefixes.
fn probes(plain: &PrefixTable<u32>) -> Vec<Address> {
    let ends = plain.walk().into_iter().flat_map(|(prefix, _)| {
        let behind = prefix.last().next().unwrap_or(prefix.first());
        [prefix.first(), prefix.last(), behind]
    });
    ends.collect()
}

/// The first free prefix of `length` in `pool`, by trying all.
fn free_by_trying(plain: &PrefixTable<u32>, pool: Prefix, length: u8) -> Option<Prefix> {
    let mut next = Some(pool.first());
    while let Some(candidate) = next.filter(|&address| pool.contains(address)) {
        let Ok(candidate) = Prefix::new(candidate, length, HostBits::Reject) else {
            // Right behind the mapped block, which is aligned to less than shorter prefixes are.
            next = candidate.next();
            continue;
        };
        let above = plain.covering(candidate).iter().any(|(prefix, _)| prefix.length() > pool.length());
        if !above && plain.covered(candidate).iter().all(|(prefix, _)| prefix.length() <= pool.length()) {
            return Some(candidate);
        }
        next = candidate.last().next();
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn answers_as_the_plain_table(steps in steps(120), asked in crowded_prefix(), a in address(), b in address()) {
        let mut plain = PrefixTable::new();
        let mut table = Table::new();
        let mut snapshots = Vec::new();
        for (at, (prefix, value)) in settled(steps).into_iter().enumerate() {
            if at % 16 == 7 {
                snapshots.push((plain.clone(), table.clone()));
            }
            match value {
                Some(value) => prop_assert_eq!(table.insert(prefix, value), plain.insert(prefix, value)),
                None => prop_assert_eq!(table.remove(prefix), plain.remove(prefix)),
            }
            prop_assert_eq!(table.get(prefix), plain.get(prefix));
        }
        prop_assert_eq!(table.len(), plain.len());
        let owned = |entries: Vec<(Prefix, &u32)>| -> Vec<(Prefix, u32)> {
            entries.into_iter().map(|(prefix, value)| (prefix, *value)).collect()
        };
        prop_assert_eq!(owned(table.iter().collect()), owned(plain.walk()));
        for (plain, table) in snapshots {
            prop_assert_eq!(owned(table.iter().collect()), owned(plain.walk()), "a snapshot changed");
        }
        for address in probes(&plain).into_iter().chain([a, b]) {
            prop_assert_eq!(table.longest_match(address), plain.longest_match(address));
            prop_assert_eq!(table.matches(address), plain.matches(address));
        }
        let mut prefixes: Vec<Prefix> = plain.walk().into_iter().map(|entry| entry.0).collect();
        prefixes.push(asked);
        for prefix in prefixes {
            prop_assert_eq!(table.get(prefix), plain.get(prefix));
            prop_assert_eq!(table.covering(prefix), plain.covering(prefix));
            prop_assert_eq!(table.covered(prefix).collect::<Vec<_>>(), plain.covered(prefix));
            prop_assert_eq!(table.overlaps(prefix), plain.walk().iter().any(|(other, _)| prefix.covers(*other) || other.covers(prefix)));
        }
        if let Ok(range) = AddressRange::new(a.min(b), a.max(b)) {
            let inside: Vec<_> = plain.walk().into_iter()
                .filter(|(prefix, _)| range.contains(prefix.first()) && range.contains(prefix.last())).collect();
            // ::fffe:0:0/95 holds no address of its upper half, so it lies in ranges of which it is no block.
            let is_odd = |prefix: &Prefix| (80..96).contains(&prefix.length()) && prefix.last() == Address::v6(0xfffe_ffff_ffff);
            let found: Vec<_> = table.within(range).filter(|(prefix, _)| !is_odd(prefix)).collect();
            prop_assert_eq!(found, inside.into_iter().filter(|(prefix, _)| !is_odd(prefix)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn free_prefixes_are_the_lowest(steps in steps(100), pool in crowded_prefix(), above in 0u8..=9) {
        let mut plain = PrefixTable::new();
        let mut table = Table::new();
        for (prefix, value) in settled(steps) {
            match value {
                Some(value) => { table.insert(prefix, value); plain.insert(prefix, value); }
                None => { table.remove(prefix); plain.remove(prefix); }
            }
        }
        // All pools of the table that trying can go through, and one more.
        let pools: Vec<Prefix> = plain.walk().into_iter().map(|entry| entry.0).chain([pool]).collect();
        for pool in pools {
            let length = (pool.length() + above).min(pool.family().width());
            prop_assert_eq!(table.next_free(pool, length), free_by_trying(&plain, pool, length), "{} /{}", pool, length);
        }
    }

    #[test]
    fn a_pool_fills_in_order_and_reopens(taken in proptest::collection::vec(0u32..128, 0..40), freed in 0u32..128) {
        let pool: Prefix = Prefix::new(Address::v4(0x0a00_0000), 25, HostBits::Reject).unwrap_or_else(|_| unreachable!());
        let mut table = Table::new();
        table.insert(pool, 0);
        for &low in &taken {
            table.insert(Prefix::from(Address::v4(0x0a00_0000 | low)), 1);
        }
        let mut given = Vec::new();
        while let Some(prefix) = table.next_free(pool, 32) {
            prop_assert!(given.last().is_none_or(|last| *last < prefix));
            prop_assert_eq!(table.insert(prefix, 2), None);
            given.push(prefix);
        }
        let distinct: std::collections::BTreeSet<_> = taken.iter().collect();
        prop_assert_eq!(given.len() + distinct.len(), 128);
        let freed = Prefix::from(Address::v4(0x0a00_0000 | freed));
        table.remove(freed);
        prop_assert_eq!(table.next_free(pool, 32), Some(freed));
    }

    #[test]
    fn ranges_hold_what_some_prefix_holds(steps in steps(60), a in address()) {
        let mut table = Table::new();
        let mut plain = PrefixTable::new();
        for (prefix, value) in settled(steps) {
            if let Some(value) = value {
                table.insert(prefix, value);
                plain.insert(prefix, value);
            }
        }
        let ranges = table.ranges();
        for pair in ranges.windows(2) {
            prop_assert!(pair[0].last() < pair[1].first());
            prop_assert_ne!(pair[0].last().next(), Some(pair[1].first()), "touching ranges are one");
        }
        for address in probes(&plain).into_iter().chain([a]) {
            prop_assert_eq!(ranges.iter().any(|range| range.contains(address)), plain.longest_match(address).is_some());
        }
    }

    #[test]
    fn tables_overlap_where_prefixes_do(a in steps(8), b in steps(8)) {
        let table = |steps| settled(steps).into_iter().filter_map(|(prefix, value)| Some((prefix, value?))).collect::<Table<u32>>();
        let (a, b) = (table(a), table(b));
        let expected = a.iter().any(|(one, _)| b.iter().any(|(other, _)| one.covers(other) || other.covers(one)));
        prop_assert_eq!(a.overlaps_table(&b), expected);
        prop_assert_eq!(b.overlaps_table(&a), expected);
    }
}

#[test]
fn a_table_emptied_takes_no_more_than_before() {
    let mut table = Table::new();
    let prefixes: Vec<Prefix> = (0..50_000u32)
        .map(|n| {
            Prefix::from(if n % 2 == 0 {
                Address::v4(n.wrapping_mul(0x9e37_79b9))
            } else {
                Address::v6(u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c) << 32)
            })
        })
        .collect();
    let mut first = 0;
    for round in 0..4 {
        for &prefix in &prefixes {
            assert_eq!(table.insert(prefix, round), None);
        }
        if round == 0 {
            first = table.memory();
        }
        for &prefix in &prefixes {
            assert_eq!(table.remove(prefix), Some(round));
        }
        assert_eq!(table.iter().count(), 0);
    }
    assert!(table.memory() < first * 3 / 2, "{} and then {}", first, table.memory());
}

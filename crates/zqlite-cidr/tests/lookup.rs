//! Lookups of both forms, one by one and in batches, against the plain table; and on a real routing table.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};

use common::{address, settled, steps};
use proptest::prelude::*;
use zqlite_cidr::plain::PrefixTable;
use zqlite_cidr::{Address, Family, HostBits, LookupTable, Mode, Prefix, Table};

/// Everything that the table can be asked for these addresses, which must agree.
fn answers(table: &LookupTable, addresses: &[Address]) -> Vec<Option<u32>> {
    let singles: Vec<_> = addresses.iter().map(|&address| table.lookup(address)).collect();
    let longest: Vec<_> = addresses.iter().map(|&address| table.longest_match(address).map(|found| *found.1)).collect();
    assert_eq!(singles, longest);
    let mut batch = vec![None; addresses.len()];
    table.lookup_all(addresses, |at, found| batch[at] = found);
    assert_eq!(singles, batch);
    let v4: Vec<_> = addresses
        .iter()
        .filter(|address| address.family() == Family::V4)
        .map(|address| address.bits() as u32)
        .collect();
    let mut put = 0;
    table.lookup_v4(&v4, |at, found| {
        assert_eq!((at, found), (put, table.lookup(Address::v4(v4[at]))));
        put += 1;
    });
    assert_eq!(put, v4.len());
    // In 16 bytes an IPv4 address is a mapped one.
    let bytes = |address: &Address| match address.family() {
        Family::V4 => (0xffff << 32 | address.bits()).to_be_bytes(),
        Family::V6 => address.bits().to_be_bytes(),
    };
    let v6: Vec<[u8; 16]> = addresses.iter().map(bytes).collect();
    table.lookup_v6(&v6, |at, found| assert_eq!(found, singles[at]));
    singles
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn both_forms_answer_as_the_plain_table(steps in steps(120), others in proptest::collection::vec(address(), 0..80)) {
        let mut plain = PrefixTable::new();
        let mut fast = LookupTable::of(Table::new(), Mode::Fast);
        let mut compact = LookupTable::of(Table::new(), Mode::Compact);
        for (prefix, value) in settled(steps) {
            match value {
                Some(value) => {
                    let before = plain.insert(prefix, value);
                    prop_assert_eq!(fast.insert(prefix, value), before);
                    prop_assert_eq!(compact.insert(prefix, value), before);
                }
                None => {
                    let before = plain.remove(prefix);
                    prop_assert_eq!(fast.remove(prefix), before);
                    prop_assert_eq!(compact.remove(prefix), before);
                }
            }
        }
        let ends = plain.walk().into_iter().flat_map(|(prefix, _)| [Some(prefix.first()), Some(prefix.last()), prefix.last().next()]);
        let addresses: Vec<Address> = ends.flatten().chain(others).collect();
        let expected: Vec<_> = addresses.iter().map(|&address| plain.longest_match(address).map(|found| *found.1)).collect();
        prop_assert_eq!(&answers(&fast, &addresses), &expected);
        prop_assert_eq!(&answers(&compact, &addresses), &expected);
        prop_assert_eq!(answers(&LookupTable::of((*fast).clone(), Mode::Fast), &addresses), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn what_was_saved_loads(steps in steps(80)) {
        let table: Table<u32> = settled(steps).into_iter().filter_map(|(prefix, value)| Some((prefix, value?))).collect();
        let bytes = table.save();
        let loaded = Table::load(&bytes);
        prop_assert!(loaded.is_ok(), "{:?}", loaded.err());
        let mut loaded = loaded.unwrap_or_default();
        prop_assert_eq!(loaded.len(), table.len());
        prop_assert_eq!(loaded.save(), bytes);
        for (prefix, value) in table.iter() {
            prop_assert_eq!(loaded.next_free(prefix, prefix.length()), table.next_free(prefix, prefix.length()));
            prop_assert_eq!(loaded.remove(prefix), Some(*value));
        }
        prop_assert!(loaded.is_empty());
    }

    /// Whatever the bytes say: a table that works, or an error; never a panic.
    #[test]
    fn changed_bytes_are_an_error_or_a_table(
        steps in steps(40),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        mends_checksum in any::<bool>(),
    ) {
        let table: Table<u32> = settled(steps).into_iter().filter_map(|(prefix, value)| Some((prefix, value?))).collect();
        let saved = table.save();
        let mut bytes = saved.clone();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if mends_checksum && bytes.len() >= 32 {
            let sum = checksum(&bytes[16..]);
            bytes[8..16].copy_from_slice(&sum.to_le_bytes());
        }
        if let Ok(mut loaded) = Table::load(&bytes) {
            prop_assert!(bytes == saved || mends_checksum, "the checksum missed a change");
            let entries: BTreeMap<Prefix, u32> = loaded.iter().map(|(prefix, value)| (prefix, *value)).collect();
            prop_assert_eq!(entries.len(), loaded.len());
            for (&prefix, &value) in &entries {
                prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
                prop_assert_eq!(loaded.longest_match(prefix.first()).is_some(), true);
                prop_assert_eq!(loaded.remove(prefix), Some(value));
            }
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Table::load(&bytes).is_err());
    }
}

/// The checksum as `docs/cidr.md` describes it.
fn checksum(bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x100_0000_01b3;
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let mut chunks = bytes.chunks_exact(8);
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
    for chunk in &mut chunks {
        sum = (sum ^ number(chunk)).wrapping_mul(PRIME).rotate_left(23);
    }
    (sum ^ number(chunks.remainder()) ^ (bytes.len() as u64) << 56).wrapping_mul(PRIME)
}

/// The oracle of a large table: all prefixes of an address by length, longest first, in an ordinary map.
fn by_length(map: &BTreeMap<Prefix, u32>, address: Address) -> Option<u32> {
    let lengths = (0..=address.family().width()).rev();
    lengths
        .filter_map(|length| Prefix::new(address, length, HostBits::Mask).ok())
        .find_map(|prefix| map.get(&prefix).copied())
}

#[test]
fn a_real_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/prefixes/bgp-table.txt.gz");
    let Ok(file) = std::fs::File::open(path) else {
        eprintln!("SKIPPED: {path} is absent");
        return;
    };
    let lines = BufReader::new(flate2::read::GzDecoder::new(file)).lines();
    let prefixes: Vec<Prefix> = lines
        .map(|line| {
            Prefix::parse(line.expect("the file can be read").trim(), HostBits::Reject).expect("each line is a prefix")
        })
        .collect();
    let map: BTreeMap<Prefix, u32> = prefixes.iter().copied().zip(0..).collect();
    let mut plain = PrefixTable::new();
    let table: Table<u32> = map.iter().map(|(prefix, value)| (*prefix, *value)).collect();
    assert!(
        table.iter().map(|(prefix, value)| (prefix, *value)).eq(map.iter().map(|(prefix, value)| (*prefix, *value)))
    );
    for (&prefix, &value) in map.iter().step_by(4999) {
        plain.insert(prefix, value);
    }
    let sample: Table<u32> = plain.walk().into_iter().map(|(prefix, value)| (prefix, *value)).collect();

    // One address in some prefix and one anywhere, from numbers that look random.
    let mut addresses = Vec::new();
    for (at, prefix) in prefixes.iter().enumerate().step_by(151) {
        let noise = (at as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        let inside = prefix.first().bits() | noise & (prefix.last().bits() - prefix.first().bits());
        addresses.push(if prefix.family() == Family::V4 { Address::v4(inside as u32) } else { Address::v6(inside) });
        addresses.push(Address::v4(noise as u32));
    }
    let bytes = table.save();
    let loaded = Table::load(&bytes).expect("what was saved loads");
    for (mode, budget, table) in [(Mode::Compact, 40, table), (Mode::Fast, 110, loaded)] {
        let mut table = LookupTable::of(table, mode);
        assert!(table.memory() < budget * 1_000_000, "{mode:?} takes {} bytes", table.memory());
        let found = answers(&table, &addresses);
        for (&address, found) in addresses.iter().zip(found) {
            assert_eq!(found, by_length(&map, address), "{address}");
        }
        for &prefix in prefixes.iter().step_by(3) {
            table.remove(prefix);
        }
        for (value, &prefix) in (0..).zip(&prefixes).step_by(3) {
            table.insert(prefix, value);
        }
        for &address in addresses.iter().step_by(5) {
            assert_eq!(table.lookup(address), by_length(&map, address), "{address} after changes");
        }
    }
    for &address in addresses.iter().step_by(101) {
        assert_eq!(sample.matches(address), plain.matches(address));
    }
}

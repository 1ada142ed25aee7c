//! Addresses and prefixes for property tests: often near each other, often at the edges.
#![allow(dead_code, reason = "not each test file uses each of these")]

use proptest::prelude::*;
use zqlite_cidr::{Address, HostBits, Prefix};

/// Any address; half of them from a handful of narrow neighbourhoods, so that prefixes nest and ranges touch.
pub(crate) fn address() -> impl Strategy<Value = Address> {
    prop_oneof![
        any::<u32>().prop_map(Address::v4),
        (0u32..8).prop_map(|low| Address::v4(0x0a00_0000 + low)),
        (0u32..8).prop_map(|back| Address::v4(u32::MAX - back)),
        any::<u128>().prop_map(Address::v6),
        (0u128..8).prop_map(Address::v6),
        (0u128..8).prop_map(|back| Address::v6(u128::MAX - back)),
        // Around the mapped block, which belongs to IPv4.
        (0u128..16).prop_map(|offset| Address::v6(0xfffe_ffff_fff8 + offset)),
        (0u128..16).prop_map(|offset| Address::v6(0xffff_ffff_fff8 + offset)),
    ]
}

pub(crate) fn prefix() -> impl Strategy<Value = Prefix> {
    (address(), any::<u8>()).prop_map(|(address, length)| {
        let length = length % (address.family().width() + 1);
        Prefix::new(address, length, HostBits::Mask).unwrap_or(Prefix::from(address))
    })
}

/// Prefixes of a few neighbourhoods, so that they nest, touch and fill each other.
pub(crate) fn crowded_prefix() -> impl Strategy<Value = Prefix> {
    let near = prop_oneof![
        (0u32..64, 24u8..=32).prop_map(|(low, length)| (Address::v4(0x0a00_0000 | low << 2), length)),
        (any::<u16>(), 8u8..=26).prop_map(|(high, length)| (Address::v4(u32::from(high & 0x3ff) << 16), length)),
        (0u128..16, 0u128..16, 28u8..=64)
            .prop_map(|(a, b, length)| (Address::v6(0x2001 << 112 | a << 90 | b << 66), length)),
        // Around the steps of the flat forms: 16, 24, 32, 40 and 48 bits.
        (0u128..4, 0u128..4, 0u128..4, 13u8..=50)
            .prop_map(|(a, b, c, length)| (Address::v6(0x2a00 << 112 | a << 102 | b << 94 | c << 79), length)),
        (0u128..64, 118u8..=128).prop_map(|(low, length)| (Address::v6(0xfd00 << 112 | low << 2), length)),
    ];
    prop_oneof![
        3 => near.prop_map(|(address, length)| Prefix::new(address, length, HostBits::Mask).unwrap_or(Prefix::from(address))),
        1 => prefix(),
    ]
}

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Insert(Prefix, u32),
    Remove(Prefix),
    /// Removes one of those inserted before.
    RemoveInserted(prop::sample::Index),
}

/// Changes to a table; values often at the edges of what is stored inline.
pub(crate) fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let value = prop_oneof![4 => 0u32..100, 1 => any::<u32>(), 1 => (0u32..4).prop_map(|low| 0x7fff_fffe + low)];
    let step = prop_oneof![
        6 => (crowded_prefix(), value).prop_map(|(prefix, value)| Step::Insert(prefix, value)),
        1 => crowded_prefix().prop_map(Step::Remove),
        2 => any::<prop::sample::Index>().prop_map(Step::RemoveInserted),
    ];
    proptest::collection::vec(step, 0..most)
}

/// Steps with their prefixes settled: what is inserted (`Some`) or removed.
pub(crate) fn settled(steps: Vec<Step>) -> Vec<(Prefix, Option<u32>)> {
    let mut inserted = Vec::new();
    let mut settled = Vec::new();
    for step in steps {
        match step {
            Step::Insert(prefix, value) => {
                inserted.push(prefix);
                settled.push((prefix, Some(value)));
            }
            Step::Remove(prefix) => settled.push((prefix, None)),
            Step::RemoveInserted(index) if !inserted.is_empty() => settled.push((*index.get(&inserted), None)),
            Step::RemoveInserted(_) => {}
        }
    }
    settled
}

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

//! The parsers of addresses, prefixes and ranges: no text makes them panic, and what they accept is written as text that
//! means the same. The standard library accepts the same addresses.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use zqlite_cidr::{Address, AddressRange, HostBits, Prefix};

fuzz_target!(|data: &[u8]| {
    let by_std = str::from_utf8(data).ok().and_then(|text| text.parse::<IpAddr>().ok());
    assert_eq!(Address::parse(data).ok().map(IpAddr::from), by_std.map(|address| address.to_canonical()));
    if let Ok(address) = Address::parse(data) {
        assert_eq!(Address::parse(address.to_string()), Ok(address));
    }
    if let Ok(prefix) = Prefix::parse(data, HostBits::Reject) {
        assert_eq!(Prefix::parse(prefix.to_string(), HostBits::Reject), Ok(prefix));
        assert_eq!(Prefix::parse(data, HostBits::Mask), Ok(prefix));
    }
    if let Ok(masked) = Prefix::parse(data, HostBits::Mask) {
        assert_eq!(Prefix::parse(masked.to_string(), HostBits::Reject), Ok(masked));
    }
    if let Ok(range) = AddressRange::parse(data) {
        assert_eq!(AddressRange::parse(range.to_string()), Ok(range));
        let prefixes = range.to_prefixes();
        assert!(prefixes.len() <= 256);
    }
});

//! Ranges against a second way to divide them: down the binary tree of all blocks.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod common;

use common::{address, prefix};
use proptest::prelude::*;
use zqlite_cidr::{Address, AddressRange, HostBits, Prefix};

/// The blocks at or below `block` that make up its part of `range`; each as large as can be, hence the fewest.
fn blocks(range: AddressRange, block: Prefix, found: &mut Vec<Prefix>) {
    if range.contains(block.first()) && range.contains(block.last()) {
        found.push(block);
    } else if block.last() >= range.first() && block.first() <= range.last() {
        let length = block.length() + 1;
        let middle = block.first().bits() | 1 << (block.family().width() - length);
        let upper = match block.family() {
            zqlite_cidr::Family::V4 => Address::v4(middle as u32),
            zqlite_cidr::Family::V6 => Address::v6(middle),
        };
        for half in [block.first(), upper] {
            // The upper half of ::fffe:0:0/95 is the mapped block, which holds no IPv6 address.
            if half.family() == block.family() {
                blocks(range, Prefix::new(half, length, HostBits::Reject).unwrap(), found);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_range_is_exactly_and_minimally_its_prefixes(a in address(), b in address(), probe in address()) {
        let Ok(range) = AddressRange::new(a.min(b), a.max(b)) else { return Ok(()) };
        let prefixes = range.to_prefixes();

        let whole: Prefix = if a.family().width() == 32 { "0.0.0.0/0" } else { "::/0" }.parse().unwrap();
        let mut fewest = Vec::new();
        blocks(range, whole, &mut fewest);
        prop_assert_eq!(&prefixes, &fewest);

        // Back to back from the first address to the last: nothing missing, nothing twice.
        let mut next = Some(range.first());
        for prefix in &prefixes {
            prop_assert_eq!(next, Some(prefix.first()));
            next = prefix.last().next();
        }
        prop_assert_eq!(prefixes.last().map(|prefix| prefix.last()), Some(range.last()));
        prop_assert_eq!(range.contains(probe), prefixes.iter().any(|prefix| prefix.contains(probe)));
    }

    #[test]
    fn a_prefix_holds_what_lies_between_its_ends(prefix in prefix(), probe in address()) {
        prop_assert_eq!(prefix.contains(probe), AddressRange::from(prefix).contains(probe));
    }

    #[test]
    fn a_prefix_covers_what_has_both_ends_in_it(a in prefix(), b in prefix()) {
        let both_ends = a.contains(b.first()) && a.contains(b.last());
        // ::fffe:0:0/95 has the addresses of its own lower half, and is still the wider prefix.
        prop_assert_eq!(a.covers(b), both_ends && a.length() <= b.length());
    }
}

#[test]
fn the_worst_ranges() {
    let count = |text: &str| text.parse::<AddressRange>().unwrap().to_prefixes().len();
    assert_eq!(count("0.0.0.1-255.255.255.254"), 62);
    assert_eq!(count("::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"), 254);
    assert_eq!(count("0.0.0.0-255.255.255.255"), 1);
    assert_eq!(count("10.0.0.1-10.0.0.1"), 1);
}

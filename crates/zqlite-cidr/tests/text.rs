//! Addresses, prefixes and ranges as text: against the standard library, and each refusal with its place and reason.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod common;

use std::net::{IpAddr, Ipv6Addr};

use common::{address, prefix};
use proptest::prelude::*;
use zqlite_cidr::{Address, AddressRange, Expected, HostBits, ParseError, Prefix, Reason};

/// Texts made of the pieces of addresses, a good part of them valid.
fn almost_an_address() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[0-9]{1,3}", 4 => "[0-9a-fA-F]{1,4}", 6 => Just(".".to_owned()), 6 => Just(":".to_owned()),
        3 => Just("::".to_owned()), 1 => "[/%+ -]", 1 => Just("ffff".to_owned()), 1 => "[0-9a-f]{5}",
    ];
    prop_oneof![
        proptest::collection::vec(piece, 0..18).prop_map(|pieces| pieces.concat()),
        proptest::collection::vec("[0-9a-f]{1,4}", 6..10).prop_map(|groups| groups.join(":")),
        proptest::collection::vec("[0-9]{1,3}", 3..6).prop_map(|octets| octets.join(".")),
        (0usize..5, 0usize..5, 0u32..300).prop_map(|(before, after, octet)| {
            format!("{}::{}{octet}.0.2.1", "1:".repeat(before).trim_end_matches(':'), "2:".repeat(after))
        }),
        any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits & 0xffff_0000_ffff_0000_0000).to_string()),
        any::<String>(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    /// The standard library refuses zones, leading zeros and short forms too, so the two must agree on every text.
    #[test]
    fn accepts_what_the_standard_library_accepts(text in almost_an_address()) {
        let expected = text.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let parsed = Address::parse(&text);
        prop_assert_eq!(parsed.as_ref().ok().map(|&address| IpAddr::from(address)), expected);
        if let Err(error) = parsed {
            prop_assert!(error.position <= text.len());
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for error in [
            Address::parse(&bytes).err(),
            Prefix::parse(&bytes, HostBits::Mask).err(),
            AddressRange::parse(&bytes).err(),
        ].into_iter().flatten() {
            prop_assert!(error.position <= bytes.len());
            prop_assert!(error.to_string().len() < 1000);
        }
    }

    #[test]
    fn addresses_print_as_the_standard_library_prints_them(address in address()) {
        prop_assert_eq!(address.to_string(), IpAddr::from(address).to_string());
        prop_assert_eq!(Address::parse(address.to_string()), Ok(address));
        prop_assert_eq!(Address::from(IpAddr::from(address)), address);
    }

    #[test]
    fn prefixes_and_ranges_read_back_as_printed(prefix in prefix(), a in address(), b in address()) {
        prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
        if let Ok(range) = AddressRange::new(a.min(b), a.max(b)) {
            prop_assert_eq!(range.to_string().parse(), Ok(range));
        }
    }

    #[test]
    fn masking_clears_what_strictness_refuses(address in address(), length in any::<u8>()) {
        let text = format!("{address}/{length}");
        let strict = Prefix::parse(&text, HostBits::Reject);
        let masked = Prefix::parse(&text, HostBits::Mask);
        match (strict, masked) {
            (Ok(strict), masked) => prop_assert_eq!(Ok(strict), masked),
            (Err(error), Ok(masked)) => {
                prop_assert_eq!(error.reason, Reason::HostBits);
                prop_assert!(masked.contains(address));
                prop_assert_ne!(masked.first(), address);
            }
            (Err(error), Err(_)) => {
                let longest = address.family().width();
                prop_assert_eq!(error.reason, Reason::LengthTooLong { longest });
                prop_assert!(length > longest);
            }
        }
    }
}

fn address_error(text: &str) -> (usize, Reason) {
    place(Expected::Address, Address::parse(text).unwrap_err())
}

fn prefix_error(text: &str) -> (usize, Reason) {
    place(Expected::Prefix, text.parse::<Prefix>().unwrap_err())
}

fn range_error(text: &str) -> (usize, Reason) {
    place(Expected::Range, text.parse::<AddressRange>().unwrap_err())
}

fn place(expected: Expected, error: ParseError) -> (usize, Reason) {
    assert_eq!(error.expected, expected);
    (error.position, error.reason)
}

#[test]
fn addresses_are_refused_at_their_first_fault() {
    use Reason::*;
    for (text, position, reason) in [
        ("", 0, Empty),
        ("10", 2, Incomplete),
        ("10.0.1", 6, Incomplete),
        ("10.0.0.", 7, Incomplete),
        ("10.0.0.1.2", 8, UnexpectedCharacter),
        ("10..0.1", 3, UnexpectedCharacter),
        ("010.0.0.1", 0, LeadingZero),
        ("10.0.0.00", 7, LeadingZero),
        ("0x0a.0.0.1", 1, UnexpectedCharacter),
        ("10.0.256.1", 5, OctetTooLarge),
        ("10.0.0.99999999999999999999", 7, OctetTooLarge),
        (" 10.0.0.1", 0, UnexpectedCharacter),
        ("10.0.0.1 ", 8, UnexpectedCharacter),
        ("10.0.0.1\0", 8, UnexpectedCharacter),
        ("10.0.0.1/32", 8, UnexpectedCharacter),
        ("10.0.0.1%eth0", 8, Zone),
        ("-1.0.0.1", 0, UnexpectedCharacter),
        ("١.0.0.1", 0, UnexpectedCharacter),
        (":", 1, Incomplete),
        (":1", 1, UnexpectedCharacter),
        (":::", 2, UnexpectedCharacter),
        ("1:2", 3, Incomplete),
        ("1:2:3:4:5:6:7:", 14, Incomplete),
        ("1:2:3:4:5:6:7:8:9", 16, TooManyGroups),
        ("1:2:3:4:5:6:7:8::", 15, TooManyGroups),
        ("::1:2:3:4:5:6:7:8", 16, TooManyGroups),
        ("1:2:3:4:5:6:7:1.2.3.4", 14, TooManyGroups),
        ("::1:2:3:4:5:6:1.2.3.4", 14, TooManyGroups),
        ("1::2::3", 4, SecondGap),
        ("::12345", 2, GroupTooLong),
        ("::g", 2, UnexpectedCharacter),
        ("fe80::1%eth0", 7, Zone),
        ("[::1]", 0, UnexpectedCharacter),
        ("::1.2.3", 7, Incomplete),
        ("::1.2.3.04", 8, LeadingZero),
        ("::1.2.3.4:5", 9, UnexpectedCharacter),
    ] {
        assert_eq!(address_error(text), (position, reason), "{text:?}");
    }
}

#[test]
fn prefixes_are_refused_at_their_first_fault() {
    use Reason::*;
    for (text, position, reason) in [
        ("", 0, Empty),
        ("10.0.0.0/", 9, Incomplete),
        ("10.0.0.0/33", 9, LengthTooLong { longest: 32 }),
        ("10.0.0.0/4294967328", 9, LengthTooLong { longest: 32 }),
        ("::/129", 3, LengthTooLong { longest: 128 }),
        ("10.0.0.0/08", 9, LeadingZero),
        ("10.0.0.0/+8", 9, UnexpectedCharacter),
        ("10.0.0.0/-1", 9, UnexpectedCharacter),
        ("10.0.0.0/8/8", 10, UnexpectedCharacter),
        ("10.0.0.0/255.0.0.0", 9, LengthTooLong { longest: 32 }),
        ("10/8", 2, UnexpectedCharacter),
        ("10.0.0.1/8", 9, HostBits),
        ("2001:db8::1/32", 12, HostBits),
        ("::ffff:10.0.0.0/24", 16, HostBits),
        ("::ffff:10.0.0.0/129", 16, LengthTooLong { longest: 128 }),
    ] {
        assert_eq!(prefix_error(text), (position, reason), "{text:?}");
    }
}

#[test]
fn ranges_are_refused_at_their_first_fault() {
    use Reason::*;
    for (text, position, reason) in [
        ("", 0, Empty),
        ("10.0.0.1", 8, Incomplete),
        ("10.0.0.1-", 9, Incomplete),
        ("10.0.0.1 - 10.0.0.2", 8, UnexpectedCharacter),
        ("10.0.0.2-10.0.0.1", 9, InvertedRange),
        ("10.0.0.1-::2", 9, MixedFamilies),
        ("::1-::ffff:10.0.0.1", 4, MixedFamilies),
        ("10.0.0.1-10.0.0.2-10.0.0.3", 17, UnexpectedCharacter),
        ("10.0.0.0/8-11.0.0.0/8", 8, UnexpectedCharacter),
    ] {
        assert_eq!(range_error(text), (position, reason), "{text:?}");
    }
}

#[test]
fn an_error_quotes_a_bounded_piece_of_the_text() {
    let error = Prefix::parse("10.0.0.0/33", HostBits::Reject).unwrap_err();
    assert_eq!(error.to_string(), r#"not an IP prefix: "10.0.0.0/33", byte 9: a prefix length is at most 32 here"#);
    let error = Address::parse("1".repeat(1 << 20)).unwrap_err();
    assert_eq!(error.reason, Reason::OctetTooLarge);
    assert_eq!(error.excerpt.to_string(), format!("\"{}\"…", "1".repeat(64)));
    let error = Address::parse(format!("10.0.0.1\n\u{1b}[31m{}", "\u{7f}é".repeat(1 << 19))).unwrap_err();
    assert_eq!(error.position, 8);
    assert!(error.excerpt.to_string().starts_with(r#""10.0.0.1\n\u{1b}[31m\u{7f}é"#), "{error}");
    assert!(error.to_string().len() < 1000);
    // Leading zeros of a group are no reason to read on: the fifth digit ends it.
    assert_eq!(address_error(&format!("::{}1", "0".repeat(1 << 20))), (2, Reason::GroupTooLong));
}

#[test]
fn an_excerpt_shows_the_place() {
    let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
    let excerpt = zqlite_cidr::Excerpt::around(text.as_bytes(), 500).to_string();
    assert_eq!(excerpt, format!("…\"{}X{}\"…", "a".repeat(32), "b".repeat(31)));
    let excerpt = zqlite_cidr::Excerpt::around(text.as_bytes(), 1 << 30).to_string();
    assert_eq!(excerpt, format!("…\"{}\"", "b".repeat(64)));
}

#[test]
fn mapped_addresses_are_ipv4() {
    let parse = |text: &str| text.parse::<Prefix>().unwrap();
    assert_eq!("::ffff:10.0.0.1".parse(), Ok(Address::v4(0x0a00_0001)));
    assert_eq!("::FFFF:a00:1".parse(), Ok(Address::v4(0x0a00_0001)));
    assert_eq!(Address::v6(0xffff_0a00_0001), Address::v4(0x0a00_0001));
    assert_eq!(parse("::ffff:10.0.0.0/104"), parse("10.0.0.0/8"));
    assert_eq!(parse("::ffff:10.0.0.1"), parse("10.0.0.1/32"));
    assert_eq!(parse("::ffff:0.0.0.0/96"), parse("0.0.0.0/0"));
    assert_eq!("::ffff:1.2.3.4-1.2.3.9".parse::<AddressRange>(), "1.2.3.4-1.2.3.9".parse());
    assert_eq!(Prefix::parse("::ffff:1.2.3.4/95", HostBits::Mask).unwrap().to_string(), "::fffe:0:0/95");
    // Other forms that embed an IPv4 address are IPv6 addresses like any other.
    assert_eq!("::1.2.3.4".parse(), Ok(Address::v6(0x0102_0304)));
    assert_eq!(parse("64:ff9b::10.0.0.0/104").to_string(), "64:ff9b::a00:0/104");
}

#[test]
fn the_ipv6_space_goes_on_behind_the_mapped_block() {
    let before: Address = "::fffe:ffff:ffff".parse().unwrap();
    let behind: Address = "::1:0:0:0".parse().unwrap();
    assert_eq!(before.next(), Some(behind));
    for text in ["::fffe:0:0/95", "::/80"] {
        let prefix: Prefix = text.parse().unwrap();
        assert_eq!(prefix.last(), before);
        assert!(!prefix.contains(Address::v4(0)));
        assert_eq!(AddressRange::from(prefix).to_prefixes(), [prefix]);
    }
    let all: AddressRange = "::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
    assert_eq!(all.to_prefixes(), ["::/0".parse().unwrap()]);
    let across: AddressRange = "::fffe:ffff:ffff-::1:0:0:1".parse().unwrap();
    assert_eq!(across.to_prefixes(), ["::fffe:ffff:ffff/128", "::1:0:0:0/127"].map(|text| text.parse().unwrap()));
    assert_eq!(Address::v4(u32::MAX).next(), None);
    assert_eq!(Address::v6(u128::MAX).next(), None);
}

#[test]
fn text_is_canonical() {
    for (written, canonical) in [
        // RFC 5952, section 4: lower case, no leading zeros, the longest run of zeros, the first of equals, no single one.
        ("2001:DB8:0:0:8:800:200C:417A", "2001:db8::8:800:200c:417a"),
        ("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"),
        ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
        ("2001:0db8::0001", "2001:db8::1"),
        ("0:0:0:0:0:0:0:0", "::"),
        ("::192.0.2.1", "::c000:201"),
        ("255.255.255.255", "255.255.255.255"),
    ] {
        assert_eq!(Address::parse(written).unwrap().to_string(), canonical);
    }
}

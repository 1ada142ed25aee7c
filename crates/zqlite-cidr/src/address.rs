//! An IP address of either family.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::error::{Expected, ParseError};
use crate::ordinary;
use crate::parse::{Cursor, Written};

/// More characters than any address has.
const LONGEST: usize = 48;

/// An address family. IPv4 sorts before IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// 32 bits.
    V4,
    /// 128 bits.
    V6,
}

impl Family {
    /// Bits of an address: 32 or 128.
    pub const fn width(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

/// An IPv4 or IPv6 address. Sorts by family, then by number.
///
/// An IPv4-mapped IPv6 address cannot be held: each way to make an address turns it into the IPv4 address that it maps.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    family: Family,
    bits: u128,
}

impl Address {
    /// The IPv4 address with these bits, the first octet highest.
    pub const fn v4(bits: u32) -> Self {
        Self { family: Family::V4, bits: bits as u128 }
    }

    /// The IPv6 address with these bits, or the IPv4 address that it maps.
    pub const fn v6(bits: u128) -> Self {
        if is_mapped(bits) { Self::v4(bits as u32) } else { Self { family: Family::V6, bits } }
    }

    /// Reads an address. See [`Reason`](crate::Reason) for what is refused.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, ParseError> {
        let text = text.as_ref();
        let mut cursor = Cursor::new(text);
        cursor
            .address()
            .and_then(|written| cursor.expect_end().map(|()| written.into()))
            .map_err(|stop| stop.in_text(text, Expected::Address))
    }

    /// As [`parse`](Self::parse), of a text in UTF-16, as JavaScript has it. What is ill-formed there is a character that no
    /// address has.
    #[inline]
    pub fn parse_utf16(units: &[u16]) -> Result<Self, ParseError> {
        match ordinary::ipv4_of_utf16(units) {
            Some(bits) => Ok(Self::v4(bits)),
            None => Self::parse_other_utf16(units),
        }
    }

    #[inline(never)]
    fn parse_other_utf16(units: &[u16]) -> Result<Self, ParseError> {
        let mut bytes = [0; LONGEST];
        if units.len() > LONGEST || units.iter().any(|&unit| unit >= 0x80) {
            return Self::parse(String::from_utf16_lossy(units));
        }
        bytes.iter_mut().zip(units).for_each(|(byte, &unit)| *byte = unit as u8);
        Self::parse(bytes.get(..units.len()).unwrap_or_default())
    }

    /// IPv4 or IPv6.
    pub const fn family(self) -> Family {
        self.family
    }

    /// The address as a number: below 2^32 for IPv4.
    pub const fn bits(self) -> u128 {
        self.bits
    }

    /// The following address of the same family; `None` behind the last one.
    pub fn next(self) -> Option<Self> {
        match self.family {
            Family::V4 => u32::try_from(self.bits + 1).ok().map(Self::v4),
            Family::V6 if self.bits == BEFORE_MAPPED => Some(Self { bits: AFTER_MAPPED, ..self }),
            Family::V6 => self.bits.checked_add(1).map(|bits| Self { bits, ..self }),
        }
    }

    /// The last address of `family` that is at most `bits`, where `bits` may lie in the mapped block.
    pub(crate) const fn at_most(family: Family, bits: u128) -> Self {
        let bits = if matches!(family, Family::V6) && is_mapped(bits) { BEFORE_MAPPED } else { bits };
        Self { family, bits }
    }
}

/// The last IPv6 address before the mapped block, and the first behind it.
const BEFORE_MAPPED: u128 = 0xfffe_ffff_ffff;
const AFTER_MAPPED: u128 = 0x1_0000_0000_0000;

pub(crate) const fn is_mapped(bits: u128) -> bool {
    bits > BEFORE_MAPPED && bits < AFTER_MAPPED
}

impl From<Written> for Address {
    fn from(written: Written) -> Self {
        match written.family {
            Family::V4 => Self { family: Family::V4, bits: written.bits },
            Family::V6 => Self::v6(written.bits),
        }
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::v4(v4.to_bits()),
            IpAddr::V6(v6) => Self::v6(v6.to_bits()),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        match address.family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(address.bits as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(address.bits)),
        }
    }
}

impl FromStr for Address {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

/// The canonical text: RFC 5952 for IPv6.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The standard library follows RFC 5952; the mapped form that it prints with dots does not occur.
        IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

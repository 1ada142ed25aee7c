//! A prefix: the addresses that share their first bits.

use std::fmt;
use std::str::FromStr;

use crate::address::{Address, Family, is_mapped};
use crate::error::{Expected, ParseError, Reason};
use crate::parse::{Cursor, Stop, Written};

/// What to do about bits behind the prefix length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostBits {
    /// `10.0.0.1/8` is an error.
    #[default]
    Reject,
    /// `10.0.0.1/8` is `10.0.0.0/8`.
    Mask,
}

/// An address, and how many of its first bits count; all others are zero.
///
/// Sorts by family, first address, length: so a prefix comes right before those that it covers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: Address,
    length: u8,
}

impl Prefix {
    /// The prefix of `length` bits that `address` begins.
    ///
    /// # Errors
    /// [`Reason::LengthTooLong`], and [`Reason::HostBits`] unless they are to be masked.
    pub fn new(address: Address, length: u8, host_bits: HostBits) -> Result<Self, Reason> {
        Self::from_written(Written { family: address.family(), bits: address.bits() }, length, host_bits)
    }

    /// Reads a prefix; an address alone is the prefix of its full length. The length of an IPv4-mapped prefix counts
    /// from the first IPv6 bit: `::ffff:10.0.0.0/104` is `10.0.0.0/8`. See [`Reason`] for what is refused.
    pub fn parse(text: impl AsRef<[u8]>, host_bits: HostBits) -> Result<Self, ParseError> {
        let text = text.as_ref();
        read(text, host_bits).map_err(|stop| stop.in_text(text, Expected::Prefix))
    }

    /// The prefix with the first `length` bits of `key`, whose others are zero; an address fills `key` from the top.
    pub(crate) const fn from_key(family: Family, key: u128, length: u32) -> Self {
        Self { address: Address::at_most(family, key >> (128 - family.width() as u32)), length: length as u8 }
    }

    /// The first address, from the highest bit down.
    pub(crate) const fn key(self) -> u128 {
        self.address.bits() << (128 - self.family().width() as u32)
    }

    fn from_written(written: Written, length: u8, host_bits: HostBits) -> Result<Self, Reason> {
        let Written { family, bits } = written;
        let longest = family.width();
        if length > longest {
            return Err(Reason::LengthTooLong { longest });
        }
        let masked = bits & !host_mask(family, length);
        if masked != bits && host_bits == HostBits::Reject {
            return Err(Reason::HostBits);
        }
        // Below length 96 the mask clears the last bit of `ffff`, so what is mapped here is 96 bits or longer.
        let mapped = family == Family::V6 && is_mapped(masked);
        Ok(Self { address: Written { family, bits: masked }.into(), length: if mapped { length - 96 } else { length } })
    }

    /// The first address.
    pub const fn first(self) -> Address {
        self.address
    }

    /// The last address.
    pub const fn last(self) -> Address {
        let family = self.address.family();
        Address::at_most(family, self.address.bits() | host_mask(family, self.length))
    }

    /// How many bits count: 0 to 32 or 0 to 128.
    pub const fn length(self) -> u8 {
        self.length
    }

    /// IPv4 or IPv6.
    pub const fn family(self) -> Family {
        self.address.family()
    }

    /// Whether `address` lies in this prefix.
    pub fn contains(self, address: Address) -> bool {
        address.family() == self.family()
            && address.bits() & !host_mask(self.family(), self.length) == self.address.bits()
    }

    /// Whether each address of `other` lies in this prefix; true of itself.
    pub fn covers(self, other: Prefix) -> bool {
        self.length <= other.length && self.contains(other.address)
    }
}

/// The bits behind the first `length`, which is at most the width of `family`.
const fn host_mask(family: Family, length: u8) -> u128 {
    match (family.width() - length) as u32 {
        0 => 0,
        host_bits => u128::MAX >> (128 - host_bits),
    }
}

fn read(text: &[u8], host_bits: HostBits) -> Result<Prefix, Stop> {
    let mut cursor = Cursor::new(text);
    let written = cursor.address()?;
    let mut length = written.family.width();
    let mut position = cursor.position();
    if cursor.eat(b'/') {
        position = cursor.position();
        length = cursor.length(length)?;
    }
    cursor.expect_end()?;
    Prefix::from_written(written, length, host_bits).map_err(|reason| Stop { position, reason })
}

impl From<Address> for Prefix {
    fn from(address: Address) -> Self {
        Self { address, length: address.family().width() }
    }
}

impl FromStr for Prefix {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text, HostBits::Reject)
    }
}

/// The canonical text, always with the length.
impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

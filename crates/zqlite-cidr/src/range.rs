//! A range of addresses, from a first to a last, both within it.

use std::fmt;
use std::str::FromStr;

use crate::address::Address;
use crate::error::{Expected, ParseError, Reason};
use crate::parse::{Cursor, Stop};
use crate::prefix::{HostBits, Prefix};

/// The addresses of one family from `first` to `last`, which is never below `first`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    first: Address,
    last: Address,
}

impl AddressRange {
    /// The range from `first` to `last`, both within it.
    ///
    /// # Errors
    /// [`Reason::MixedFamilies`] and [`Reason::InvertedRange`].
    pub fn new(first: Address, last: Address) -> Result<Self, Reason> {
        if first.family() != last.family() {
            Err(Reason::MixedFamilies)
        } else if last < first {
            Err(Reason::InvertedRange)
        } else {
            Ok(Self { first, last })
        }
    }

    /// Reads `first-last`, without blanks. See [`Reason`] for what is refused.
    pub fn parse(text: impl AsRef<[u8]>) -> Result<Self, ParseError> {
        let text = text.as_ref();
        read(text).map_err(|stop| stop.in_text(text, Expected::Range))
    }

    /// The first address.
    pub const fn first(self) -> Address {
        self.first
    }

    /// The last address.
    pub const fn last(self) -> Address {
        self.last
    }

    /// Makes the range end at `last` if that is further.
    pub(crate) fn extend_to(&mut self, last: Address) {
        self.last = self.last.max(last);
    }

    /// Whether `address` lies in this range.
    pub fn contains(self, address: Address) -> bool {
        self.first <= address && address <= self.last
    }

    /// The fewest prefixes that together hold exactly these addresses, in order: at most 62 for IPv4, 254 for IPv6.
    pub fn to_prefixes(self) -> Vec<Prefix> {
        let mut prefixes = Vec::new();
        let mut rest = Some(self.first);
        while let Some(first) = rest.filter(|&first| first <= self.last) {
            // The largest block that begins here and does not reach behind the end: the fewest blocks follow from it,
            // as blocks are nested or apart, never crossing.
            let mut block = Prefix::from(first);
            for length in (0..block.length()).rev() {
                match Prefix::new(first, length, HostBits::Reject) {
                    Ok(larger) if larger.last() <= self.last => block = larger,
                    _ => break,
                }
            }
            prefixes.push(block);
            rest = block.last().next();
        }
        prefixes
    }
}

fn read(text: &[u8]) -> Result<AddressRange, Stop> {
    let mut cursor = Cursor::new(text);
    let first = cursor.address()?;
    cursor.expect(b'-')?;
    let position = cursor.position();
    let last = cursor.address()?;
    cursor.expect_end()?;
    AddressRange::new(first.into(), last.into()).map_err(|reason| Stop { position, reason })
}

impl From<Prefix> for AddressRange {
    fn from(prefix: Prefix) -> Self {
        Self { first: prefix.first(), last: prefix.last() }
    }
}

impl FromStr for AddressRange {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl fmt::Debug for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

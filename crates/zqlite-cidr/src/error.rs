//! What is wrong with a text that should be an address, a prefix or a range: what was expected, where, why.

use std::fmt;

/// A text that is not what it should be. Its size does not depend on the size of the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {expected}: {excerpt}, byte {position}: {reason}")]
pub struct ParseError {
    /// What the text should have been.
    pub expected: Expected,
    /// Offset in bytes, from 0, of what is wrong.
    pub position: usize,
    /// Why it is wrong.
    pub reason: Reason,
    /// The text near `position`.
    pub excerpt: Excerpt,
}

/// What a text should have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expected {
    /// `10.0.0.1`, `2001:db8::1`
    Address,
    /// `10.0.0.0/8`, `2001:db8::/32`, or an address
    Prefix,
    /// `10.0.0.1-10.0.0.9`
    Range,
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Expected::Address => "an IP address",
            Expected::Prefix => "an IP prefix",
            Expected::Range => "a range of IP addresses",
        })
    }
}

/// Why a text, or a pair of values, is no address, prefix or range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Reason {
    /// Nothing at all.
    #[error("the text is empty")]
    Empty,
    /// The text ends where more was needed; `10.1` is such a text.
    #[error("the text ends too early")]
    Incomplete,
    /// A character that cannot stand there.
    #[error("unexpected character")]
    UnexpectedCharacter,
    /// `%eth0`: a zone names an interface of one machine, so it means nothing elsewhere.
    #[error("zone ids are not accepted")]
    Zone,
    /// `010`: octal to some parsers and decimal to others.
    #[error("a number must not begin with 0")]
    LeadingZero,
    /// A decimal octet above 255.
    #[error("an octet is at most 255")]
    OctetTooLarge,
    /// A group of IPv6 has one to four hexadecimal digits.
    #[error("a group has at most four hexadecimal digits")]
    GroupTooLong,
    /// More than eight groups, or eight and a `::`, which stands for at least one.
    #[error("too many groups for an IPv6 address")]
    TooManyGroups,
    /// A second `::`.
    #[error("only one :: is allowed")]
    SecondGap,
    /// The prefix is longer than an address of its family.
    #[error("a prefix length is at most {longest} here")]
    LengthTooLong {
        /// 32 or 128.
        longest: u8,
    },
    /// Bits are set behind the prefix, as in `10.0.0.1/8`.
    #[error("bits are set behind the prefix length")]
    HostBits,
    /// One end of the range is IPv4 and the other IPv6.
    #[error("a range does not go from one address family to the other")]
    MixedFamilies,
    /// The range ends before it begins.
    #[error("the range ends before it begins")]
    InvertedRange,
}

/// A piece of a text around a position, safe to print: quoted, at most 64 bytes of the text, control characters escaped,
/// `…` where something was cut.
#[derive(Clone, PartialEq, Eq)]
pub struct Excerpt(Box<str>);

impl Excerpt {
    /// Bytes of the text that an excerpt may show.
    const LONGEST: usize = 64;

    /// The part of `text`, which need not be UTF-8, around the byte `position`.
    pub fn around(text: &[u8], position: usize) -> Self {
        let mut start = 0;
        if text.len() > Self::LONGEST {
            start = position.min(text.len()).saturating_sub(Self::LONGEST / 2);
            start = start.min(text.len() - Self::LONGEST);
        }
        let end = text.len().min(start + Self::LONGEST);
        let mut shown = String::new();
        if start > 0 {
            shown.push('…');
        }
        shown.push('"');
        shown.extend(String::from_utf8_lossy(&text[start..end]).chars().flat_map(char::escape_debug));
        shown.push('"');
        if end < text.len() {
            shown.push('…');
        }
        Self(shown.into())
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

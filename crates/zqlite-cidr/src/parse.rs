//! The grammar of addresses, read from bytes, left to right.
//!
//! Strict where programs disagree: four decimal octets, no leading zero in a number, no zone id, no blanks. Every loop
//! is bounded by the grammar, not by the text, so a text of any size is refused after at most some fifty bytes.

use crate::address::Family;
use crate::error::{Excerpt, Expected, ParseError, Reason};

/// Why reading stopped, and at which byte.
#[derive(Clone, Copy)]
pub(crate) struct Stop {
    pub(crate) position: usize,
    pub(crate) reason: Reason,
}

impl Stop {
    pub(crate) fn in_text(self, text: &[u8], expected: Expected) -> ParseError {
        let Stop { position, reason } = self;
        ParseError { expected, position, reason, excerpt: Excerpt::around(text, position) }
    }
}

/// An address as it was written: an IPv4-mapped one is still IPv6 here, as the length of its prefix counts from there.
#[derive(Clone, Copy)]
pub(crate) struct Written {
    pub(crate) family: Family,
    pub(crate) bits: u128,
}

/// A place in the text; everything before it has been read.
pub(crate) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Reads `byte` if it stands here.
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let stands_here = self.peek() == Some(byte);
        self.at += usize::from(stands_here);
        stands_here
    }

    pub(crate) fn expect(&mut self, byte: u8) -> Result<(), Stop> {
        if self.eat(byte) { Ok(()) } else { Err(self.unexpected()) }
    }

    pub(crate) fn expect_end(&self) -> Result<(), Stop> {
        if self.at == self.text.len() { Ok(()) } else { Err(self.unexpected()) }
    }

    pub(crate) fn address(&mut self) -> Result<Written, Stop> {
        if self.at == 0
            && let Some(bits) = dotted_quad(self.text)
        {
            self.at = self.text.len();
            return Ok(Written { family: Family::V4, bits: bits.into() });
        }
        // An IPv6 address has a colon behind at most four digits.
        if self.text.iter().skip(self.at).take(5).any(|&byte| byte == b':') {
            Ok(Written { family: Family::V6, bits: self.ipv6()? })
        } else {
            Ok(Written { family: Family::V4, bits: self.ipv4()?.into() })
        }
    }

    /// The digits of a prefix length of at most `longest`.
    pub(crate) fn length(&mut self, longest: u8) -> Result<u8, Stop> {
        self.decimal(longest, Reason::LengthTooLong { longest })
    }

    fn ipv4(&mut self) -> Result<u32, Stop> {
        let mut octets = [0; 4];
        for (index, octet) in octets.iter_mut().enumerate() {
            if index > 0 {
                self.expect(b'.')?;
            }
            *octet = self.decimal(u8::MAX, Reason::OctetTooLarge)?;
        }
        Ok(u32::from_be_bytes(octets))
    }

    fn ipv6(&mut self) -> Result<u128, Stop> {
        let mut groups = [0u16; 8];
        let mut count = 0;
        // How many groups stand before the `::`.
        let mut gap = None;
        if self.eat(b':') {
            self.expect(b':')?;
            gap = Some(0);
        }
        loop {
            let ends_with_gap = gap == Some(count) && !self.peek().is_some_and(|byte| byte.is_ascii_hexdigit());
            if ends_with_gap {
                break;
            }
            let needed = if self.octet_follows() { 2 } else { 1 };
            if count + needed > 8 - usize::from(gap.is_some()) {
                return Err(self.stop(self.at, Reason::TooManyGroups));
            }
            if needed == 2 {
                let [a, b, c, d] = self.ipv4()?.to_be_bytes();
                groups[count] = u16::from_be_bytes([a, b]);
                groups[count + 1] = u16::from_be_bytes([c, d]);
                count += 2;
                break;
            }
            groups[count] = self.group()?;
            count += 1;
            if !self.eat(b':') {
                break;
            }
            if self.eat(b':') {
                if gap.is_some() {
                    return Err(self.stop(self.at - 2, Reason::SecondGap));
                }
                if count == 8 {
                    return Err(self.stop(self.at - 2, Reason::TooManyGroups));
                }
                gap = Some(count);
            }
        }
        match gap {
            Some(before) => groups[before..].rotate_right(8 - count),
            None if count < 8 => return Err(self.unexpected()),
            None => {}
        }
        Ok(groups.iter().fold(0, |bits, &group| bits << 16 | u128::from(group)))
    }

    fn group(&mut self) -> Result<u16, Stop> {
        let start = self.at;
        let mut value = 0;
        while let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(16)) {
            if self.at == start + 4 {
                return Err(self.stop(start, Reason::GroupTooLong));
            }
            value = value << 4 | digit as u16;
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected()) } else { Ok(value) }
    }

    fn decimal(&mut self, largest: u8, too_large: Reason) -> Result<u8, Stop> {
        let start = self.at;
        let mut value: u32 = 0;
        while let Some(digit) = self.peek().and_then(|byte| char::from(byte).to_digit(10)) {
            if self.at > start && value == 0 {
                return Err(self.stop(start, Reason::LeadingZero));
            }
            value = value * 10 + digit;
            if value > largest.into() {
                return Err(self.stop(start, too_large));
            }
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected()) } else { Ok(value as u8) }
    }

    /// Whether decimal digits and a dot stand here, so that the rest is the IPv4 form of the last two groups.
    fn octet_follows(&self) -> bool {
        let mut rest = self.text.iter().skip(self.at).take(5).skip_while(|byte| byte.is_ascii_digit());
        self.peek() != Some(b'.') && rest.next() == Some(&b'.')
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn unexpected(&self) -> Stop {
        self.stop(
            self.at,
            match self.peek() {
                None if self.text.is_empty() => Reason::Empty,
                None => Reason::Incomplete,
                Some(b'%') => Reason::Zone,
                Some(_) => Reason::UnexpectedCharacter,
            },
        )
    }

    fn stop(&self, position: usize, reason: Reason) -> Stop {
        Stop { position, reason }
    }
}

/// A text that is an IPv4 address and nothing else, without a branch for each character: lengths of octets are random, and
/// mispredicted branches would take most of the time. All four octets are taken out of one word, as in Lemire's "Parsing IP
/// addresses crazily fast" (2023), without instructions that not every processor has. `None` leaves it to [`Cursor`] to say why.
fn dotted_quad(text: &[u8]) -> Option<u32> {
    // Two parts that overlap: bytes written one by one could not be read as one word at once.
    let word = match (text.first_chunk(), text.last_chunk()) {
        (Some(first), Some(last)) if text.len() <= 15 => {
            u128::from(u64::from_le_bytes(*first)) | u128::from(u64::from_le_bytes(*last)) << (8 * (text.len() - 8))
        }
        _ => {
            let seven: &[u8; 7] = text.try_into().ok()?;
            let [a, b, c, d, e, f, g] = *seven;
            u128::from(u64::from_le_bytes([a, b, c, d, e, f, g, 0]))
        }
    };
    // The high bit of each byte that is a dot: exact, as no sum carries into the next byte.
    const EACH: u128 = u128::MAX / 255;
    let other = word ^ (EACH * u128::from(b'.'));
    let mut dots = !(((other & (EACH * 0x7f)) + EACH * 0x7f) | other | (EACH * 0x7f));
    if dots.count_ones() != 3 {
        return None;
    }
    dots |= 0x80 << (8 * text.len());
    // Read again four bytes at a time, from wherever an octet begins.
    let mut digits = [0; 20];
    digits[..16].copy_from_slice(&(word ^ (EACH * u128::from(b'0'))).to_le_bytes());
    let (mut start, mut bits, mut wrong) = (0, 0, false);
    for _ in 0..4 {
        let end = dots.trailing_zeros() / 8;
        dots &= dots - 1;
        let length = end - start;
        wrong |= !(1..=3).contains(&length);
        // Three bytes, hundreds first, zeros for digits that are not there.
        let missing = 3u32.wrapping_sub(length).min(3);
        let octet = u32::from_le_bytes(*digits.get(start as usize..)?.first_chunk()?) << (8 * missing) & 0x00ff_ffff;
        wrong |= (octet.wrapping_add(0x0076_7676) | octet) & 0x0080_8080 != 0;
        let value = (octet & 0xff) * 100 + (octet >> 8 & 0xff) * 10 + (octet >> 16);
        // No leading zeros, not above 255.
        let least = [100, 10, 0, 0][missing as usize];
        wrong |= value < least || value > 255;
        bits = bits << 8 | value & 0xff;
        start = end + 1;
    }
    (!wrong).then_some(bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        /// Numbers near every limit, dots too many and too few, strange characters.
        #[test]
        fn dotted_quads_are_what_the_grammar_takes(
            parts in proptest::collection::vec(
                prop_oneof![
                    8 => (0u32..260).prop_map(|number| number.to_string()),
                    1 => "[0-9]{0,4}",
                    1 => "[0-9./:;\\-]{0,3}",
                    1 => "[\\x00-\\x7f]",
                    1 => any::<char>().prop_map(String::from),
                ],
                3..6,
            ),
            four in any::<bool>(),
        ) {
            let parts = if four { &parts[..parts.len().min(4)] } else { &parts[..] };
            let text = parts.join(".");
            let mut cursor = Cursor::new(text.as_bytes());
            let plain = cursor.ipv4().and_then(|bits| cursor.expect_end().map(|()| bits)).ok();
            prop_assert_eq!(dotted_quad(text.as_bytes()), plain, "{:?}", text);
        }
    }
}

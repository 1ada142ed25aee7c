//! Addresses in their ordinary forms, read without a branch for each character.
//!
//! How many digits a group has cannot be predicted, and a wrong guess costs as much as a lookup. So the characters are
//! sorted into digits and separators first, and then each group is taken whole. What is not of these forms, right or
//! wrong, is left to [`Cursor`](crate::parse::Cursor), which reads all of the grammar and says what is wrong.

use crate::address::Family;
use crate::parse::Written;

/// The longest text of IPv6 without dots.
const LONGEST: usize = 39;
/// Digits of the longest group.
const GROUP: usize = 4;

/// What is looked at of a text: the longest address, and what stands behind it.
const ROOM: usize = 48;

/// The characters of a text, each on its own: loops over all of them that are compiled to vector instructions.
struct Characters {
    /// Values of hexadecimal digits, behind as much room as a group takes. Of other characters they mean nothing.
    digits: [u8; GROUP + ROOM],
    /// Bit by bit, from the first character on.
    colons: u64,
    dots: u64,
    /// Neither these nor digits.
    others: u64,
}

impl Characters {
    #[inline(always)]
    fn of(text: &[u8]) -> Self {
        let mut bytes = [0u8; ROOM];
        let count = text.len().min(ROOM);
        bytes[..count].copy_from_slice(&text[..count]);
        let mut digits = [0u8; GROUP + ROOM];
        let [mut colons, mut dots, mut others] = [[0u8; ROOM]; 3];
        for at in 0..ROOM {
            let byte = bytes[at];
            let (decimal, letter) = (byte.wrapping_sub(b'0'), (byte | 0x20).wrapping_sub(b'a'));
            let (is_decimal, is_letter) = (u8::from(decimal < 10), u8::from(letter < 6));
            digits[GROUP + at] = if is_decimal == 1 { decimal } else { letter.wrapping_add(10) };
            colons[at] = u8::from(byte == b':');
            dots[at] = u8::from(byte == b'.');
            others[at] = 1 ^ (is_decimal | is_letter | colons[at] | dots[at]);
        }
        Self { digits, colons: bits(&colons), dots: bits(&dots), others: bits(&others) }
    }
}

/// The lowest bits of bytes, as one number.
#[inline(always)]
fn bits(bytes: &[u8; ROOM]) -> u64 {
    let words = bytes.as_chunks::<8>().0.iter().enumerate();
    // The product has the lowest bit of each byte, in their order, at the top.
    let bits = |word: &[u8; 8]| u64::from_le_bytes(*word).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    words.fold(0, |all, (at, word)| all | bits(word) << (8 * at))
}

/// The address that `text` begins with, up to a character that none of its family can have, and its length; `None` if it is
/// of another form than four groups between dots or groups between colons, or of none.
#[inline]
pub(crate) fn address(text: &[u8]) -> Option<(Written, usize)> {
    if let Some((bits, length)) = ipv4(text) {
        return Some((Written { family: Family::V4, bits: bits.into() }, length));
    }
    let Characters { digits, colons, dots, others } = Characters::of(text);
    let length = (others | 1 << ROOM).trailing_zeros() as usize;
    let text = (1 << length) - 1;
    let (colons, dots) = (colons & text, dots & text);
    if colons == 0 || dots > 0 || length > LONGEST {
        return None;
    }
    Some((Written { family: Family::V6, bits: ipv6(&digits, colons, length)? }, length))
}

/// All four octets are taken out of one word, as in Lemire's "Parsing IP addresses crazily fast" (2023), without
/// instructions that not every processor has.
#[inline(always)]
fn ipv4(text: &[u8]) -> Option<(u32, usize)> {
    ipv4_word(first_bytes(text)?)
}

/// The IPv4 address that a text in UTF-16 is; `None` if it is none.
#[inline]
pub(crate) fn ipv4_of_utf16(units: &[u16]) -> Option<u32> {
    let (bits, length) = ipv4_word(first_units(units)?)?;
    (length == units.len()).then_some(bits)
}

/// `word` is the first characters, the first one lowest, and zeros behind them.
#[inline(always)]
fn ipv4_word(word: u128) -> Option<(u32, usize)> {
    // In the high bit of each byte; exact, as no sum carries into the next one.
    const EACH: u128 = u128::MAX / 255;
    let (low, high) = (EACH * 0x7f, EACH * 0x80);
    let other = word ^ (EACH * u128::from(b'.'));
    let digits = word ^ (EACH * u128::from(b'0'));
    let dots = !(((other & low) + low) | other) & high;
    let no_digits = (((digits & low) + EACH * 0x76) | digits) & high;
    let others = no_digits & !dots;
    // Where the address ends: 15 characters at most leave a byte for it.
    let end_bit = others & others.wrapping_neg();
    let mut ends = dots & end_bit.wrapping_sub(1) | end_bit;
    if ends.count_ones() != 4 || end_bit == 0 {
        return None;
    }
    let length = (end_bit.trailing_zeros() / 8) as usize;
    // Read again four bytes at a time, from wherever an octet begins.
    let mut room = [0; 20];
    room[..16].copy_from_slice(&digits.to_le_bytes());
    let (mut start, mut bits, mut wrong) = (0, 0, false);
    for _ in 0..4 {
        let end = ends.trailing_zeros() / 8;
        ends &= ends - 1;
        let count = end - start;
        wrong |= !(1..=3).contains(&count);
        // Three bytes, hundreds first, zeros for digits that are not there.
        let missing = 3u32.wrapping_sub(count).min(3);
        let octet = u32::from_le_bytes(*room.get(start as usize..)?.first_chunk()?) << (8 * missing) & 0x00ff_ffff;
        let value = (octet & 0xff) * 100 + (octet >> 8 & 0xff) * 10 + (octet >> 16);
        // No leading zeros, not above 255.
        let least = [100, 10, 0, 0][missing as usize];
        wrong |= value < least || value > 255;
        bits = bits << 8 | value & 0xff;
        start = end + 1;
    }
    (!wrong).then_some((bits, length))
}

/// Up to 16 bytes, and zeros behind them; `None` for fewer than the shortest address has. Read as a whole or in two parts that
/// overlap: bytes written one by one could not be read as one word at once.
#[inline(always)]
fn first_bytes(text: &[u8]) -> Option<u128> {
    if let Some(all) = text.first_chunk() {
        return Some(u128::from_le_bytes(*all));
    }
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        let last = u128::from(u64::from_le_bytes(*last)) << (8 * (text.len() - 8));
        return Some(u128::from(u64::from_le_bytes(*first)) | last);
    }
    let &[a, b, c, d, e, f, g] = text else { return None };
    Some(u64::from_le_bytes([a, b, c, d, e, f, g, 0]).into())
}

/// As [`first_bytes`], of all of a text in UTF-16; `None` where it has more than 15 characters, or others than ASCII.
#[inline(always)]
fn first_units(units: &[u16]) -> Option<u128> {
    if units.len() > 15 {
        return None;
    }
    if let (Some(first), Some(last)) = (units.first_chunk(), units.last_chunk()) {
        let last = u128::from(narrow(last)?) << (8 * (units.len() - 8));
        return Some(u128::from(narrow(first)?) | last);
    }
    let &[a, b, c, d, e, f, g] = units else { return None };
    narrow(&[a, b, c, d, e, f, g, 0]).map(u128::from)
}

/// Eight ASCII characters as bytes, the first one lowest: in two words, which costs less than to go by vectors.
#[inline(always)]
fn narrow(units: &[u16; 8]) -> Option<u64> {
    let [a, b, c, d, e, f, g, h] = units.map(u64::from);
    let halves = [a | b << 16 | c << 32 | d << 48, e | f << 16 | g << 32 | h << 48];
    if (halves[0] | halves[1]) & 0xff80_ff80_ff80_ff80 != 0 {
        return None;
    }
    let [low, high] = halves.map(|half| {
        let pairs = (half | half >> 8) & 0x0000_ffff_0000_ffff;
        (pairs | pairs >> 16) & 0xffff_ffff
    });
    Some(low | high << 32)
}

/// The four characters in front of one, the last in the lowest byte.
#[inline(always)]
fn before(digits: &[u8; GROUP + ROOM], at: usize) -> u32 {
    let mut four = [0; GROUP];
    if let Some(there) = digits.get(at..at + GROUP) {
        four.copy_from_slice(there);
    }
    u32::from_be_bytes(four)
}

#[inline(always)]
fn ipv6(digits: &[u8; GROUP + ROOM], colons: u64, length: usize) -> Option<u128> {
    let count = colons.count_ones() as usize;
    let gaps = colons & colons >> 1;
    if count > 8 || !(gaps == 0 || gaps.is_power_of_two()) {
        return None;
    }
    let mut groups = [0u16; 16];
    let (mut ends, mut start, mut filled, mut wrong) = (colons | 1 << length, 0, 0, false);
    for _ in 0..=count {
        let end = ends.trailing_zeros() as usize;
        ends &= ends - 1;
        let width = end - start;
        let nibbles = before(digits, end) & ((1u64 << (8 * width.min(GROUP))) - 1) as u32;
        let bytes = (nibbles | nibbles >> 4) & 0x00ff_00ff;
        groups[filled % 16] = (bytes | bytes >> 8) as u16;
        filled += usize::from(width > 0);
        wrong |= width > GROUP;
        start = end + 1;
    }
    // What a gap leaves empty: the field between its colons, and the end of the text that it stands at.
    let gap = gaps.trailing_zeros() as usize;
    let empty = if gaps == 0 { 0 } else { 1 + usize::from(gap == 0) + usize::from(gap + 2 == length) };
    let most = if gaps == 0 { 8..=8 } else { 0..=7 };
    if wrong || filled + empty != count + 1 || !most.contains(&filled) {
        return None;
    }
    let all = groups[..8].iter().fold(0, |bits: u128, &group| bits << 16 | u128::from(group));
    if gaps == 0 {
        return Some(all);
    }
    // How many groups stand before the gap, and the others at the end.
    let head = if gap == 0 { 0 } else { (colons & ((1 << gap) - 1)).count_ones() + 1 };
    let behind = u128::MAX.checked_shr(16 * head).unwrap_or(0);
    let tail = (all & behind) >> (16 * (8 - filled as u32) - u32::from(filled == 0));
    Some(all & !behind | tail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::parse::Cursor;

    /// Whatever is read here the grammar reads as well, to the same place.
    fn agree(text: &[u8]) -> bool {
        let Some((written, length)) = address(text) else { return false };
        let mut cursor = Cursor::new(text);
        let by_grammar = cursor.any_address().ok().map(|read| (read.family, read.bits, cursor.position()));
        let text = text.escape_ascii();
        assert_eq!(by_grammar, Some((written.family, written.bits, length)), "{text}");
        true
    }

    #[test]
    fn every_short_text_is_read_as_by_the_grammar() {
        let alphabet = b"0f1:./";
        let mut read = 0;
        for length in 0..=8u32 {
            for number in 0..6usize.pow(length) {
                let text: Vec<u8> = (0..length).map(|at| alphabet[number / 6usize.pow(at) % 6]).collect();
                read += usize::from(agree(&text));
            }
        }
        assert!(read > 5000, "only {read} texts were read");
    }

    #[test]
    fn ordinary_forms_are_read() {
        for text in ["1.2.3.4", "255.255.255.255/32", "::", "::1", "1::", "2001:db8::7:0/64", "1:2:3:4:5:6:7:8"] {
            assert!(agree(text.as_bytes()), "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn texts_are_read_as_by_the_grammar(
            fields in proptest::collection::vec("[0-9a-fA-F]{0,5}|[0-9]{1,3}", 1..10),
            separator in "[:.]",
            rest in "|/[0-9]{1,3}|%eth0|-|:|::|\\.|g|é",
        ) {
            agree(format!("{}{rest}", fields.join(&separator)).as_bytes());
        }

        #[test]
        fn bytes_are_read_as_by_the_grammar(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            agree(&bytes);
        }

        #[test]
        fn what_is_printed_is_read(bits in any::<u128>(), zeros in 0u32..128, at in 0u32..128) {
            let bits = bits & !(u128::MAX >> zeros).checked_shr(at).unwrap_or(0);
            prop_assert!(agree(std::net::Ipv4Addr::from_bits(bits as u32).to_string().as_bytes()));
            let text = std::net::Ipv6Addr::from_bits(bits).to_string();
            prop_assert!(agree(text.as_bytes()) || text.contains('.'), "{text}");
        }
    }
}

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
    words.fold(0, |all, (at, word)| all | lowest_bits(u64::from_le_bytes(*word)) << (8 * at))
}

/// The same, of a word of bytes that are 0 or 1.
#[inline(always)]
fn lowest_bits(word: u64) -> u64 {
    // The product has the lowest bit of each byte, in their order, at the top.
    word.wrapping_mul(0x0102_0408_1020_4080) >> 56
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
    let Kinds { dots, digits, zeros } = Kinds::of(word);
    // Where the address ends, at most behind the 16 characters.
    let length = (!(dots | digits)).trailing_zeros();
    let text = (1 << length) - 1;
    let (ends, digits) = (dots & text | 1 << length, digits & text);
    let starts = ends << 1 | 1;
    let empty = ends & starts;
    let too_long = digits & digits >> 1 & digits >> 2 & digits >> 3;
    let leading_zeros = zeros & starts & digits >> 1;
    let fourth = (0..3).fold(ends, |left, _| left & left.wrapping_sub(1));
    if (empty | too_long | leading_zeros) != 0 || fourth != 1 << length {
        return None;
    }
    // Taken out by shifts: bytes that were stored as two words could not be read across them at once.
    let word = word ^ (u128::MAX / 255 * u128::from(b'0'));
    let (mut ends, mut start, mut bits, mut all) = (ends, 0, 0, 0);
    for _ in 0..4 {
        let end = ends.trailing_zeros();
        ends &= ends.wrapping_sub(1);
        // One to three digits, zeros before them.
        let octet = ((word >> (8 * start)) as u32) << (8 * (3 - (end - start))) & 0x00ff_ffff;
        let value = (octet & 0xff) * 100 + (octet >> 8 & 0xff) * 10 + (octet >> 16);
        all |= value;
        bits = bits << 8 | value;
        start = end + 1;
    }
    (all < 256).then_some((bits, length as usize))
}

/// Which of 16 characters are what, bit by bit from the first character on.
#[derive(Debug, PartialEq)]
struct Kinds {
    dots: u32,
    digits: u32,
    /// Of the digits.
    zeros: u32,
}

impl Kinds {
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn of(word: u128) -> Self {
        use std::arch::x86_64::{
            _mm_cmpeq_epi8, _mm_min_epu8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8, _mm_setzero_si128,
            _mm_sub_epi8,
        };
        // SAFETY: these are SSE2, which every x86-64 has, and touch no memory.
        unsafe {
            let characters = _mm_set_epi64x((word >> 64) as i64, word as i64);
            let values = _mm_sub_epi8(characters, _mm_set1_epi8(b'0' as i8));
            let dots = _mm_cmpeq_epi8(characters, _mm_set1_epi8(b'.' as i8));
            let digits = _mm_cmpeq_epi8(_mm_min_epu8(values, _mm_set1_epi8(9)), values);
            let zeros = _mm_cmpeq_epi8(values, _mm_setzero_si128());
            let [dots, digits, zeros] = [dots, digits, zeros].map(|bytes| _mm_movemask_epi8(bytes) as u32);
            Self { dots, digits, zeros }
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    #[inline(always)]
    fn of(word: u128) -> Self {
        Self::by_words(word)
    }

    /// [`of`](Self::of) without vectors: in the high bit of each byte, exact, as no sum carries into the next one.
    #[cfg(any(test, not(target_arch = "x86_64")))]
    #[inline(always)]
    fn by_words(word: u128) -> Self {
        const EACH: u64 = u64::MAX / 255;
        let (low, high) = (EACH * 0x7f, EACH * 0x80);
        let of_half = |half: u64| {
            let (other, value) = (half ^ (EACH * u64::from(b'.')), half ^ (EACH * u64::from(b'0')));
            let no_dots = ((other & low) + low) | other;
            let no_digits = ((value & low) + EACH * 0x76) | value;
            let no_zeros = ((value & low) + low) | value;
            [no_dots, no_digits, no_zeros].map(|bits| lowest_bits((!bits & high) >> 7) as u32)
        };
        let (first, last) = (of_half(word as u64), of_half((word >> 64) as u64));
        let [dots, digits, zeros] = [0, 1, 2].map(|kind| first[kind] | last[kind] << 8);
        Self { dots, digits, zeros }
    }
}

/// Up to 16 bytes, and zeros behind them; `None` for fewer than the shortest address has. Read as a whole or in two parts that
/// overlap: bytes written one by one could not be read as one word at once.
#[inline(always)]
fn first_bytes(text: &[u8]) -> Option<u128> {
    if let Some(all) = text.first_chunk() {
        return Some(u128::from_le_bytes(*all));
    }
    if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
        return Some(joined(u64::from_le_bytes(*first), u64::from_le_bytes(*last), text.len()));
    }
    let &[a, b, c, d, e, f, g] = text else { return None };
    Some(u64::from_le_bytes([a, b, c, d, e, f, g, 0]).into())
}

/// As [`first_bytes`], of all of a text in UTF-16; `None` where it has more than 15 characters. What is not Latin-1 becomes a
/// byte that no address has.
#[inline(always)]
fn first_units(units: &[u16]) -> Option<u128> {
    if units.len() > 15 {
        return None;
    }
    if let (Some(first), Some(last)) = (units.first_chunk(), units.last_chunk()) {
        return Some(joined(narrow(first), narrow(last), units.len()));
    }
    let &[a, b, c, d, e, f, g] = units else { return None };
    Some(narrow(&[a, b, c, d, e, f, g, 0]).into())
}

/// Eight units as bytes. What is not Latin-1 becomes 255, or 0.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn narrow(units: &[u16; 8]) -> u64 {
    use std::arch::x86_64::{_mm_cvtsi128_si64, _mm_loadu_si128, _mm_packus_epi16};
    // SAFETY: these are SSE2, which every x86-64 has; what is loaded are the 16 bytes of the array.
    unsafe {
        let units = _mm_loadu_si128(units.as_ptr().cast());
        _mm_cvtsi128_si64(_mm_packus_epi16(units, units)) as u64
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn narrow(units: &[u16; 8]) -> u64 {
    u64::from_le_bytes(units.map(|unit| unit.min(0xff) as u8))
}

/// The first and the last eight of 8 to 15 characters, as one word.
#[inline(always)]
fn joined(first: u64, last: u64, length: usize) -> u128 {
    // In two steps, as none but those of `first` may be left.
    let behind = last >> (8 * (15 - length)) >> 8;
    u128::from(first) | u128::from(behind) << 64
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
    use crate::address::Address;
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
    fn characters_are_sorted_alike_with_and_without_vectors() {
        for byte in 0..=u8::MAX {
            for at in 0..16 {
                let word = (u128::MAX / 255 * u128::from(b'1')) & !(0xff << (8 * at)) | u128::from(byte) << (8 * at);
                let bit = |is: bool| u32::from(is) << at;
                let sorted = Kinds {
                    dots: bit(byte == b'.'),
                    digits: 0xffff & !(1 << at) | bit(byte.is_ascii_digit()),
                    zeros: bit(byte == b'0'),
                };
                assert_eq!(Kinds::of(word), sorted, "{byte} at {at}");
                assert_eq!(Kinds::by_words(word), sorted, "{byte} at {at}");
            }
        }
    }

    /// The same as of the text in UTF-8, or no address either.
    fn agree_in_utf16(units: &[u16]) {
        let by_bytes = Address::parse(String::from_utf16_lossy(units));
        assert_eq!(Address::parse_utf16(units), by_bytes, "{units:?}");
    }

    #[test]
    fn each_character_at_each_place_is_read_alike_in_utf16() {
        // What is left of a unit when it is cut to a byte must not count.
        let cut = [b'.', b'0', b'1', b'9', b':'].map(u16::from);
        let others: Vec<u16> = (0..0x180).chain((1..0x100).flat_map(|high| cut.map(|low| high << 8 | low))).collect();
        for text in ["1.2.3.4", "10.20.30.4", "255.255.255.255", "2001:db8::7:0"] {
            let units: Vec<u16> = text.encode_utf16().collect();
            for at in 0..units.len() {
                let mut changed = units.clone();
                for &other in &others {
                    changed[at] = other;
                    agree_in_utf16(&changed);
                }
            }
        }
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
        fn texts_are_read_alike_in_utf16(
            fields in proptest::collection::vec("[0-9a-fA-F]{0,4}|[0-9]{1,3}|[0-9]{1,3}", 1..9),
            separator in "[:.]",
            around in ("|\\PC", "|/[0-9]{1,3}|%eth0|-|:|::|\\.|\\PC|\\PC{60}"),
        ) {
            let text = format!("{}{}{}", around.0, fields.join(&separator), around.1);
            agree_in_utf16(&text.encode_utf16().collect::<Vec<u16>>());
        }

        #[test]
        fn units_are_read_as_text(units in proptest::collection::vec(any::<u16>(), 0..60)) {
            agree_in_utf16(&units);
        }

        #[test]
        fn addresses_are_read_in_utf16(bits in any::<u32>(), cut in 0usize..16) {
            let text = std::net::Ipv4Addr::from_bits(bits).to_string();
            let units: Vec<u16> = text.encode_utf16().collect();
            prop_assert_eq!(Address::parse_utf16(&units), Ok(Address::v4(bits)));
            agree_in_utf16(&units[cut.min(units.len())..]);
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

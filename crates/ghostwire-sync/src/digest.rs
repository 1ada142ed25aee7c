//! A digest of a set of ids that does not depend on their order and is kept up to date one id at a time.
//!
//! Each id counts as the first 8 bytes (big endian) of its SHA-256, and a set as the XOR of its ids. It tells a
//! server whether a client holds the set that it should; it is not a defence, since a client can only deceive itself.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// The digest of a set of ids; `Digest::default()` is that of the empty set. Written as 16 lower-case hex digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Digest(u64);

impl Digest {
    /// The digest of the set that holds `id` alone.
    pub fn of(id: &str) -> Self {
        let hash = Sha256::digest(id.as_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash[..8]);
        Self(u64::from_be_bytes(first))
    }

    /// Adds the ids of `other` if they were not in the set, takes them away if they were.
    #[must_use]
    pub fn toggled(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Digest {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        // `from_str_radix` alone would take a sign and fewer digits.
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(());
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_sha256_of_fips_180_4() {
        // SHA-256("abc") = ba7816bf 8f01cfea …
        assert_eq!(Digest::of("abc").to_string(), "ba7816bf8f01cfea");
        assert_eq!(Digest::default().to_string(), "0000000000000000");
    }

    #[test]
    fn order_does_not_matter_and_twice_is_none() {
        let (a, b) = (Digest::of("a"), Digest::of("b"));
        assert_eq!(a.toggled(b), b.toggled(a));
        assert_eq!(a.toggled(b).toggled(a), b);
        assert_ne!(a, b);
    }

    #[test]
    fn parses_only_its_own_form() {
        let digest = Digest::of("abc");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for bad in ["", "ba78", "+a7816bf8f01cfea", "ba7816bf8f01cfeg", "ba7816bf8f01cfea0"] {
            assert_eq!(bad.parse::<Digest>(), Err(()), "{bad}");
        }
    }
}

//! Connection tokens: 256 random bits, good once and for a short time, of which only the hash is kept.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::{Handle, SyncError};

/// One recipient cannot crowd out the others: its oldest token gives way to its newest.
const PER_HANDLE: usize = 4;
/// A token bridges the moment between asking for it and connecting.
const LONGEST: Duration = Duration::from_secs(3600);

type Hash = [u8; 32];

/// The outstanding tokens. The time is an argument, so that expiry can be tested.
///
/// A token is looked up by its hash: how long that takes tells nothing about the secrets that are stored.
#[derive(Debug)]
pub struct Tokens {
    limit: usize,
    by_hash: HashMap<Hash, (Handle, Instant)>,
    by_expiry: BTreeSet<(Instant, Hash)>,
    by_handle: HashMap<Handle, VecDeque<Hash>>,
}

impl Tokens {
    /// Holds at most `limit` tokens at a time.
    pub fn new(limit: usize) -> Self {
        Self { limit, by_hash: HashMap::new(), by_expiry: BTreeSet::new(), by_handle: HashMap::new() }
    }

    /// Makes a token (64 hex digits) for `handle` that can be redeemed until `now + lifetime`.
    ///
    /// # Errors
    /// [`SyncError::TokensFull`], [`SyncError::InvalidOption`] for a lifetime of nothing or above an hour, and
    /// [`SyncError::System`] when there is no randomness to be had.
    pub fn issue(&mut self, handle: Handle, lifetime: Duration, now: Instant) -> Result<String, SyncError> {
        if lifetime.is_zero() || lifetime > LONGEST {
            let reason = format!("{} ms is not above 0 and at most an hour", lifetime.as_millis());
            return Err(SyncError::InvalidOption { option: "ttlMs", reason });
        }
        self.expire(now);
        let oldest = self.by_handle.get(&handle).filter(|own| own.len() >= PER_HANDLE);
        if let Some(oldest) = oldest.and_then(|own| own.front().copied()) {
            self.forget(&oldest);
        }
        if self.by_hash.len() >= self.limit {
            return Err(SyncError::TokensFull { limit: self.limit });
        }
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|error| SyncError::System(error.into()))?;
        let mut token = String::with_capacity(64);
        for byte in secret {
            let _ = write!(token, "{byte:02x}");
        }
        let (hash, expires) = (hash(&token), now + lifetime);
        self.by_hash.insert(hash, (handle, expires));
        self.by_expiry.insert((expires, hash));
        self.by_handle.entry(handle).or_default().push_back(hash);
        Ok(token)
    }

    /// Uses `token` up and tells whose it was; `None` if it is unknown, used or expired.
    pub fn redeem(&mut self, token: &str, now: Instant) -> Option<Handle> {
        let (handle, expires) = self.forget(&hash(token))?;
        (now < expires).then_some(handle)
    }

    /// Makes all the tokens of `handle` void.
    pub fn revoke(&mut self, handle: Handle) {
        for hash in self.by_handle.remove(&handle).unwrap_or_default() {
            self.forget(&hash);
        }
    }

    /// How many are outstanding, expired ones that were not yet cleared away included.
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Whether none are outstanding.
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    fn expire(&mut self, now: Instant) {
        while let Some(&(expires, hash)) = self.by_expiry.first() {
            if expires > now {
                break;
            }
            self.forget(&hash);
        }
    }

    fn forget(&mut self, hash: &Hash) -> Option<(Handle, Instant)> {
        let (handle, expires) = self.by_hash.remove(hash)?;
        self.by_expiry.remove(&(expires, *hash));
        if let Some(own) = self.by_handle.get_mut(&handle) {
            own.retain(|other| other != hash);
            if own.is_empty() {
                self.by_handle.remove(&handle);
            }
        }
        Some((handle, expires))
    }
}

fn hash(token: &str) -> Hash {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn good_once() {
        let (mut tokens, now) = (Tokens::new(10), Instant::now());
        let token = tokens.issue(7, MINUTE, now).unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(tokens.redeem("something else", now), None);
        assert_eq!(tokens.redeem(&token, now), Some(7));
        assert_eq!(tokens.redeem(&token, now), None);
        assert!(tokens.is_empty());
    }

    #[test]
    fn good_until_it_expires() {
        let (mut tokens, now) = (Tokens::new(10), Instant::now());
        let token = tokens.issue(7, MINUTE, now).unwrap();
        assert_eq!(tokens.redeem(&token, now + MINUTE), None);
        let token = tokens.issue(7, MINUTE, now).unwrap();
        assert_eq!(tokens.redeem(&token, now + MINUTE - Duration::from_millis(1)), Some(7));
    }

    #[test]
    fn bounded_and_freed_by_expiry() {
        let (mut tokens, now) = (Tokens::new(3), Instant::now());
        for handle in 0..3 {
            tokens.issue(handle, MINUTE, now).unwrap();
        }
        assert!(matches!(tokens.issue(3, MINUTE, now), Err(SyncError::TokensFull { limit: 3 })));
        tokens.issue(3, MINUTE, now + MINUTE).unwrap();
        assert_eq!(tokens.len(), 1);
        assert_eq!((tokens.by_expiry.len(), tokens.by_handle.len()), (1, 1));
    }

    #[test]
    fn a_recipient_keeps_its_newest_few() {
        let (mut tokens, now) = (Tokens::new(100), Instant::now());
        let issued: Vec<_> = (0..=PER_HANDLE).map(|_| tokens.issue(7, MINUTE, now).unwrap()).collect();
        assert_eq!(tokens.len(), PER_HANDLE);
        assert_eq!(tokens.redeem(&issued[0], now), None);
        assert_eq!(tokens.redeem(&issued[PER_HANDLE], now), Some(7));
    }

    #[test]
    fn revoking_voids_all_of_a_recipient_and_no_others() {
        let (mut tokens, now) = (Tokens::new(10), Instant::now());
        let gone = [tokens.issue(7, MINUTE, now).unwrap(), tokens.issue(7, MINUTE, now).unwrap()];
        let stays = tokens.issue(8, MINUTE, now).unwrap();
        tokens.revoke(7);
        assert!(gone.iter().all(|token| tokens.redeem(token, now).is_none()));
        assert_eq!(tokens.redeem(&stays, now), Some(8));
    }

    #[test]
    fn lifetimes_have_bounds() {
        let (mut tokens, now) = (Tokens::new(10), Instant::now());
        for lifetime in [Duration::ZERO, LONGEST + Duration::from_millis(1)] {
            assert!(matches!(tokens.issue(1, lifetime, now), Err(SyncError::InvalidOption { .. })));
        }
    }

    #[test]
    fn secrets_are_not_kept() {
        let (mut tokens, now) = (Tokens::new(10), Instant::now());
        let token = tokens.issue(7, MINUTE, now).unwrap();
        assert!(!format!("{tokens:?}").contains(&token));
    }
}

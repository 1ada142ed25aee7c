//! What all the recipients of a view are told beside its records: a packet filter, encoded and held once for all of them.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use serde::de::IgnoredAny;
use sha2::{Digest as _, Sha256};

use crate::SyncError;

/// The largest filter, in bytes.
const MAX_FILTER: usize = 8 * 1024 * 1024;
/// The member of a message that says that there is none.
const NONE: &[u8] = b",\"packetFilter\":null";
/// Filters that nobody holds any more are looked for when there are this many.
const SWEEP_AT: usize = 64;

/// A JSON list, checked. What it says is not this crate's business.
#[derive(Debug)]
pub struct Filter {
    digest: String,
    /// `,"packetFilter":{"digest":"…","rules":[…]}`
    member: Bytes,
}

impl Filter {
    /// # Errors
    /// [`SyncError::InvalidFilter`] when `json` is not a JSON list or is too large.
    pub fn new(json: &[u8]) -> Result<Self, SyncError> {
        let invalid = |reason: String| SyncError::InvalidFilter { reason };
        if json.len() > MAX_FILTER {
            return Err(invalid(format!("{} bytes are over the limit of {MAX_FILTER}", json.len())));
        }
        let text = std::str::from_utf8(json).map_err(|error| invalid(error.to_string()))?.trim_ascii();
        if !text.starts_with('[') {
            return Err(invalid("not a JSON list".into()));
        }
        serde_json::from_str::<IgnoredAny>(text).map_err(|error| invalid(error.to_string()))?;
        let digest: String = Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect();
        let member = format!(",\"packetFilter\":{{\"digest\":\"{digest}\",\"rules\":{text}}}").into();
        Ok(Self { digest, member })
    }

    /// The SHA-256 of its text, 64 lower-case hex digits. By it a client says which filter it holds.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

/// The member of a message that tells of a filter, or that there is none.
pub(crate) fn member(filter: Option<&Arc<Filter>>) -> Bytes {
    filter.map_or(Bytes::from_static(NONE), |filter| filter.member.clone())
}

/// Whether one who holds the filter of digest `held` holds this one.
pub(crate) fn is_held(filter: Option<&Arc<Filter>>, held: Option<&str>) -> bool {
    filter.map(|filter| filter.digest()) == held
}

/// The filters that something still holds, so that views of equal filters hold one.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    by_digest: HashMap<String, Weak<Filter>>,
    sweep_at: usize,
}

impl Filters {
    /// The filter like this one that is held already, else this one.
    pub(crate) fn shared(&mut self, filter: Arc<Filter>) -> Arc<Filter> {
        if let Some(known) = self.by_digest.get(&filter.digest).and_then(Weak::upgrade) {
            return known;
        }
        if self.by_digest.len() >= self.sweep_at.max(SWEEP_AT) {
            self.by_digest.retain(|_, filter| filter.strong_count() > 0);
            self.sweep_at = 2 * self.by_digest.len();
        }
        self.by_digest.insert(filter.digest.clone(), Arc::downgrade(&filter));
        filter
    }

    /// How many different filters are held, and the bytes of their messages.
    pub(crate) fn held(&self) -> (usize, usize) {
        let held = self.by_digest.values().filter_map(Weak::upgrade);
        held.fold((0, 0), |(count, bytes), filter| (count + 1, bytes + filter.member.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_a_list() {
        let filter = Filter::new(b" [1,{\"a\":[]}]\n").unwrap();
        // printf '[1,{"a":[]}]' | sha256sum
        assert_eq!(filter.digest(), "b38cb5ce5cc58e10ef4b63b271dce08f32f5c95a44ff72b1c1e34c4f2e2da631");
        let text = String::from_utf8(filter.member.to_vec()).unwrap();
        assert_eq!(
            text,
            format!(",\"packetFilter\":{{\"digest\":\"{}\",\"rules\":[1,{{\"a\":[]}}]}}", filter.digest())
        );
        for bad in [&b""[..], b"{}", b"null", b"[", b"[]]", b"[1],[2]", b"[\"\xff\"]", b"[01]"] {
            assert!(matches!(Filter::new(bad), Err(SyncError::InvalidFilter { .. })), "{bad:?}");
        }
        let long = |length: usize| format!("[\"{}\"]", "x".repeat(length));
        assert!(Filter::new(long(MAX_FILTER - 4).as_bytes()).is_ok());
        assert!(Filter::new(long(MAX_FILTER).as_bytes()).is_err());
    }

    #[test]
    fn equal_filters_are_one_and_unused_ones_none() {
        let mut filters = Filters::default();
        let filter = |number: u32| Arc::new(Filter::new(format!("[{number}]").as_bytes()).unwrap());
        let first = filters.shared(filter(1));
        assert!(Arc::ptr_eq(&first, &filters.shared(filter(1))));
        assert_eq!(filters.held().0, 1);
        for number in 0..10_000 {
            filters.shared(filter(number));
        }
        assert!(filters.by_digest.len() <= 2 * SWEEP_AT, "{}", filters.by_digest.len());
        assert!(Arc::ptr_eq(&first, &filters.shared(filter(1))));
        drop(first);
        assert_eq!(filters.held(), (0, 0));
    }
}

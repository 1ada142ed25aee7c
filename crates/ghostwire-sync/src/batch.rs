//! What the owner publishes: records, views and recipients that change together at one revision.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use roaring::RoaringBitmap;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::{Digest, Filter, Handle, SyncError, ViewId};

/// The longest id, in bytes.
const MAX_ID: usize = 128;
/// The largest record, in bytes.
const MAX_RECORD: usize = 256 * 1024;
/// The largest object that a recipient is told of itself.
const MAX_OWN: usize = 256 * 1024;

/// Changes that become visible together. Applied whole or, on an error, not at all.
///
/// In effect the order is: removes, puts, view edits, recipients, view drops.
#[derive(Debug, Default)]
pub struct Batch {
    /// Never below that of an earlier batch; the same revision again is allowed (for state that is not journalled).
    pub revision: u64,
    /// New and changed records.
    pub puts: Vec<Put>,
    /// Records that are gone; they leave every view. Unknown ones are ignored.
    pub removes: Vec<Handle>,
    /// Changes of who sees what.
    pub views: Vec<ViewChange>,
    /// New, changed and revoked recipients.
    pub recipients: Vec<RecipientChange>,
    /// Sends the batch on without waiting for the flush tick. What takes something away always goes at once.
    pub urgent: bool,
}

/// One record, checked: a JSON object whose member `id` is its public id.
#[derive(Debug, Clone)]
pub struct Put {
    pub(crate) handle: Handle,
    pub(crate) id: Arc<str>,
    pub(crate) digest: Digest,
    /// `,` and the record: an element of a JSON list, whose first element is written without its first byte.
    pub(crate) element: Bytes,
    pub(crate) changed_at: Option<u64>,
}

impl Put {
    /// `changed_at` is the revision at which the record last changed, for records loaded at a start: a client that was told of
    /// this revision by an earlier process has the record as it is. Without it the record counts as changed now, as does
    /// one whose handle has a record already.
    ///
    /// # Errors
    /// [`SyncError::InvalidRecord`] when `json` is not an object with the member `"id": id`, or is too large.
    pub fn new(handle: Handle, id: &str, json: &[u8], changed_at: Option<u64>) -> Result<Self, SyncError> {
        #[derive(Deserialize)]
        struct Head<'a> {
            #[serde(borrow)]
            id: Cow<'a, str>,
        }
        let invalid = |reason: String| SyncError::InvalidRecord { handle, reason };
        if id.is_empty() || id.len() > MAX_ID {
            return Err(invalid(format!("its id has {} bytes, not 1 to {MAX_ID}", id.len())));
        }
        let text = object_text(json, MAX_RECORD).map_err(invalid)?;
        let head: Head<'_> = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        if head.id != id {
            return Err(invalid(format!("its member id is {:?}, not {id:?}", head.id)));
        }
        Ok(Self { handle, id: id.into(), digest: Digest::of(id), element: element(text.as_bytes()), changed_at })
    }
}

/// A change of one view.
#[derive(Debug, Clone)]
pub enum ViewChange {
    /// Makes the view if there is none, takes `remove` out and puts `add` in.
    Edit {
        /// Which view.
        view: ViewId,
        /// Records to show; each must exist.
        add: RoaringBitmap,
        /// Records to hide; ones that are not shown are ignored.
        remove: RoaringBitmap,
        /// What its recipients are told beside the records; as before if absent.
        filter: Option<Arc<Filter>>,
    },
    /// Forgets the view, which no recipient may see any more. An unknown view is ignored.
    Drop {
        /// Which view.
        view: ViewId,
    },
}

/// A change of one recipient.
#[derive(Debug, Clone)]
pub enum RecipientChange {
    /// Makes the recipient if there is none, and shows it `view`, without the recipient's own record if that is in it.
    Set {
        /// The recipient.
        handle: Handle,
        /// What it sees.
        view: ViewId,
        /// What it is told of itself; unchanged if absent. See [`RecipientChange::set`].
        own: Option<Bytes>,
    },
    /// Forgets the recipient, makes its tokens void and ends its connection. An unknown one is ignored.
    Revoke {
        /// The recipient.
        handle: Handle,
    },
}

impl RecipientChange {
    /// A [`RecipientChange::Set`] with `own`, a JSON object, checked.
    ///
    /// # Errors
    /// [`SyncError::InvalidSelf`] when `own` is not a JSON object or is too large.
    pub fn set(handle: Handle, view: ViewId, own: Option<&[u8]>) -> Result<Self, SyncError> {
        let invalid = |reason: String| SyncError::InvalidSelf { handle, reason };
        let own = match own {
            None => None,
            Some(json) => {
                let text = object_text(json, MAX_OWN).map_err(invalid)?;
                serde_json::from_str::<IgnoredAny>(text).map_err(|error| invalid(error.to_string()))?;
                Some(Bytes::copy_from_slice(text.as_bytes()))
            }
        };
        Ok(Self::Set { handle, view, own })
    }
}

/// `json` as text that starts like an object. The parser alone would take a list for a struct, and let broken UTF-8
/// pass inside of members that it skips.
fn object_text(json: &[u8], limit: usize) -> Result<&str, String> {
    if json.len() > limit {
        return Err(format!("{} bytes are over the limit of {limit}", json.len()));
    }
    let text = std::str::from_utf8(json).map_err(|error| error.to_string())?.trim_ascii();
    if text.starts_with('{') { Ok(text) } else { Err("not a JSON object".into()) }
}

/// `,` and `json`, one allocation.
pub(crate) fn element(json: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(json.len() + 1);
    out.push(b',');
    out.extend_from_slice(json);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_objects_that_carry_their_id() {
        let put = Put::new(1, "p_a", br#"{"x":[1,{"id":"no"}],"id":"p_a"}"#, None).unwrap();
        assert_eq!(&put.element[..], br#",{"x":[1,{"id":"no"}],"id":"p_a"}"#);
        Put::new(1, "é", r#"{"id":"\u00e9"}"#.as_bytes(), None).unwrap();
        let bad: &[(&str, &[u8])] = &[
            ("p_a", b""),
            ("p_a", b"{}"),
            ("p_a", b"\"p_a\""),
            ("p_a", br#"{"id":"p_b"}"#),
            ("p_a", br#"["p_a"]"#),
            ("p_a", br#"{"id":"p_a"}}"#),
            ("p_a", br#"{"id":"p_a"},{"id":"p_c"}"#),
            ("p_a", br#"{"id":"p_a","id":"p_a"}"#),
            ("p_a", b"{\"id\":\"p_a\",\"x\":\"\xff\"}"),
            ("p_a", br#"{"id":"p_a","x":01}"#),
            ("", br#"{"id":""}"#),
        ];
        for (id, json) in bad {
            let error = Put::new(1, id, json, None).unwrap_err();
            assert!(matches!(error, SyncError::InvalidRecord { handle: 1, .. }), "{json:?}: {error}");
        }
        let long = "x".repeat(MAX_ID + 1);
        assert!(Put::new(1, &long, format!("{{\"id\":\"{long}\"}}").as_bytes(), None).is_err());
        let large = format!("{{\"id\":\"p\",\"x\":\"{}\"}}", "x".repeat(MAX_RECORD));
        assert!(Put::new(1, "p", large.as_bytes(), None).is_err());
    }

    #[test]
    fn own_is_an_object() {
        assert!(RecipientChange::set(1, 1, Some(br#"{"addresses":["100.64.0.1"]}"#)).is_ok());
        assert!(RecipientChange::set(1, 1, Some(b"{\"\\u0061\":1}")).is_ok());
        for bad in [&b"[]"[..], b"", b"{", b"null", b"{}{}", b"{\"a\":\"\xff\"}"] {
            assert!(matches!(RecipientChange::set(1, 1, Some(bad)), Err(SyncError::InvalidSelf { .. })), "{bad:?}");
        }
        let own = |length: usize| format!("{{\"x\":\"{}\"}}", "x".repeat(length));
        assert!(RecipientChange::set(1, 1, Some(own(MAX_OWN - 8).as_bytes())).is_ok());
        assert!(RecipientChange::set(1, 1, Some(own(MAX_OWN).as_bytes())).is_err());
    }
}

//! What the rule engine answers, as JavaScript takes it.

use napi::bindgen_prelude::Uint32Array;
use napi_derive::napi;
use zqlite_acl::{Decision, Difference, Explanation, PairCounts, Party, Passage};
use zqlite_cidr::AddressRange;

/// See `AclExplanation` of `lib/acl.ts`.
#[napi(object, use_nullable = true)]
pub struct NativeAclExplanation {
    pub allowed: bool,
    pub rule: Option<f64>,
    pub routed: Option<String>,
    pub matching: Vec<NativeAclMatch>,
}

/// See `AclMatch` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclMatch {
    pub rule: f64,
    pub action: String,
    pub priority: i32,
    pub shadowed: bool,
}

/// See `AclFilterRule` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclFilterRule {
    pub sources: Vec<String>,
    pub destinations: Vec<String>,
    pub protocols: Vec<u32>,
    pub ports: Vec<(u32, u32)>,
}

/// See `AclUnusedRule` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclUnusedRule {
    pub rule: f64,
    pub reason: String,
    pub by: Option<f64>,
}

/// See `AclConflict` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclConflict {
    pub deny: f64,
    pub allow: f64,
}

/// See `AclPassage` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclPassage {
    pub protocols: Vec<u32>,
    pub ports: Vec<(u32, u32)>,
}

/// See `AclParty` of `lib/acl.ts`; one of the two is there.
#[napi(object)]
pub struct NativeAclParty {
    pub peers: Option<Uint32Array>,
    pub addresses: Option<String>,
}

/// See `AclDifferenceRow` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclDifferenceRow {
    pub sources: Vec<u32>,
    pub destinations: Vec<u32>,
    pub gained: Vec<NativeAclPassage>,
    pub lost: Vec<NativeAclPassage>,
}

/// See `AclPairCounts` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclPairCounts {
    pub gaining: f64,
    pub losing: f64,
    pub opened: f64,
    pub closed: f64,
}

/// See `AclDifference` of `lib/acl.ts`.
#[napi(object)]
pub struct NativeAclDifference {
    pub pairs: NativeAclPairCounts,
    pub behind: NativeAclPairCounts,
    pub concerned: Uint32Array,
    pub parties: Vec<NativeAclParty>,
    pub rows: Vec<NativeAclDifferenceRow>,
    pub complete: bool,
}

/// A range as few prefixes if they are few, or as a range.
pub(super) fn range_texts(range: AddressRange) -> Vec<String> {
    match range.to_prefixes().as_slice() {
        [prefix] => vec![prefix.to_string()],
        _ => vec![range.to_string()],
    }
}

impl From<Explanation> for NativeAclExplanation {
    fn from(explanation: Explanation) -> Self {
        let Decision { allowed, rule } = explanation.decision;
        let matching = explanation.matching.into_iter().map(|matching| NativeAclMatch {
            rule: matching.rule as f64,
            action: matching.action.to_string(),
            priority: matching.priority,
            shadowed: matching.shadowed,
        });
        Self {
            allowed,
            rule: rule.map(|id| id as f64),
            routed: explanation.routed.map(|address| address.to_string()),
            matching: matching.collect(),
        }
    }
}

impl From<Difference> for NativeAclDifference {
    fn from(difference: Difference) -> Self {
        let parties = difference.parties.into_iter().map(|party| match party {
            Party::Peers(ids) => NativeAclParty { peers: Some(ids.into()), addresses: None },
            Party::Behind(range) => NativeAclParty { peers: None, addresses: Some(range_texts(range).join(",")) },
        });
        let passages = |passages: Vec<Passage>| passages.into_iter().map(Into::into).collect();
        let rows = difference.rows.into_iter().map(|row| NativeAclDifferenceRow {
            sources: row.sources,
            destinations: row.destinations,
            gained: passages(row.gained),
            lost: passages(row.lost),
        });
        Self {
            pairs: difference.pairs.into(),
            behind: difference.behind.into(),
            concerned: difference.concerned.into(),
            parties: parties.collect(),
            rows: rows.collect(),
            complete: difference.complete,
        }
    }
}

impl From<PairCounts> for NativeAclPairCounts {
    fn from(counts: PairCounts) -> Self {
        let PairCounts { gaining, losing, opened, closed } = counts;
        Self { gaining: gaining as f64, losing: losing as f64, opened: opened as f64, closed: closed as f64 }
    }
}

impl From<Passage> for NativeAclPassage {
    fn from(passage: Passage) -> Self {
        Self {
            protocols: passage.protocols.into_iter().map(u32::from).collect(),
            ports: passage.ports.into_iter().map(|range| (range.low.into(), range.high.into())).collect(),
        }
    }
}

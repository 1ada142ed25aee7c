//! A rule: whom it concerns, on which protocols and ports, and whether it allows or denies.

use std::fmt;
use std::str::FromStr;

use zqlite_cidr::{Excerpt, Family};

use crate::selector::{Label, Selector};

/// The caller's number of a rule.
pub type RuleId = u64;

/// One rule. The crate's documentation says when it matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Unique among the rules.
    pub id: RuleId,
    /// Higher goes first.
    pub priority: i32,
    /// What happens to traffic that this rule decides.
    pub action: Action,
    /// A disabled rule never matches.
    pub enabled: bool,
    /// Where traffic comes from: any one of these; at least one.
    pub sources: Vec<Selector>,
    /// Where traffic goes: any one of these; at least one.
    pub destinations: Vec<Selector>,
    /// IANA protocol numbers: 1 ICMP, 6 TCP, 17 UDP. Empty: all.
    pub protocols: Vec<u8>,
    /// Destination ports: any one of these ranges. Empty: all, and no port at all.
    pub ports: Vec<PortRange>,
    /// Milliseconds since 1970 from which on the rule no longer matches.
    pub expires_at: Option<i64>,
    /// Match only peers that have the same owner; a peer or address without one is never matched.
    pub same_owner: bool,
    /// Match only what arrives at a peer that bears one of these: as its own, or as a router's. Empty: any. Not for denies.
    pub through: Vec<Label>,
    /// Match only packets of this family, from one of its addresses to another. Not for denies.
    pub family: Option<Family>,
}

impl Rule {
    /// Whether the rule takes part in decisions at the time `at`, in milliseconds since 1970.
    pub fn is_live(&self, at: i64) -> bool {
        self.enabled && self.expires_at.is_none_or(|end| at < end)
    }

    /// Whether protocol and port are among those of the rule.
    pub fn covers(&self, protocol: u8, port: u16) -> bool {
        (self.protocols.is_empty() || self.protocols.contains(&protocol))
            && (self.ports.is_empty() || self.ports.iter().any(|range| range.contains(port)))
    }
}

/// What happens to traffic that a rule decides. Deny sorts first, as it decides first at equal priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It is dropped.
    Deny,
    /// It passes.
    Allow,
}

impl FromStr for Action {
    type Err = UnknownAction;

    fn from_str(text: &str) -> Result<Self, UnknownAction> {
        match text {
            "allow" => Ok(Action::Allow),
            "deny" => Ok(Action::Deny),
            _ => Err(UnknownAction(Excerpt::around(text.as_bytes(), 0))),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Allow => "allow",
            Action::Deny => "deny",
        })
    }
}

/// A text that is neither `allow` nor `deny`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is neither allow nor deny")]
pub struct UnknownAction(pub Excerpt);

/// Ports from `low` to `high`, both within it. A rule with `low` above `high` is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The first port.
    pub low: u16,
    /// The last port.
    pub high: u16,
}

impl PortRange {
    /// Whether `port` lies in this range.
    pub fn contains(self, port: u16) -> bool {
        self.low <= port && port <= self.high
    }
}

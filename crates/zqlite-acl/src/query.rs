//! Questions and answers.

use zqlite_cidr::Address;

use crate::rule::{Action, RuleId};

/// May `source` reach `destination`? Both are peer ids, or both addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Query<E> {
    /// Where the traffic comes from.
    pub source: E,
    /// Where it goes.
    pub destination: E,
    /// IANA protocol number: 1 ICMP, 6 TCP, 17 UDP.
    pub protocol: u8,
    /// Destination port; 0 for protocols that have none.
    pub port: u16,
    /// When, in milliseconds since 1970.
    pub at: i64,
}

/// Many questions about IPv4 addresses, a slice for each part of a [`Query`]; addresses as numbers, the first octet highest.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// See [`Query::source`].
    pub sources: &'a [u32],
    /// See [`Query::destination`].
    pub destinations: &'a [u32],
    /// See [`Query::protocol`].
    pub protocols: &'a [u8],
    /// See [`Query::port`].
    pub ports: &'a [u16],
}

impl Columns<'_> {
    /// How many questions there are: as many as the shortest slice has.
    pub fn len(&self) -> usize {
        self.sources.len().min(self.destinations.len()).min(self.protocols.len()).min(self.ports.len())
    }

    /// Whether there is no question.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The answer, and the rule that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// Whether the traffic may pass.
    pub allowed: bool,
    /// The deciding rule; `None` when no rule matches, which denies.
    pub rule: Option<RuleId>,
}

/// A decision with all the rules that had a say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Explanation {
    /// The same as `decide` answers.
    pub decision: Decision,
    /// The routed address behind the destination that the decision is about; `None` when it is about the peer itself.
    pub routed: Option<Address>,
    /// Each matching rule, the deciding one first, then in the order in which they would decide.
    pub matching: Vec<MatchingRule>,
}

/// A rule that matches a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MatchingRule {
    /// Its id.
    pub rule: RuleId,
    /// What it would do.
    pub action: Action,
    /// Its priority.
    pub priority: i32,
    /// Whether another rule decides before it.
    pub shadowed: bool,
}

/// Which way traffic must be allowed for one peer to see another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The peer may reach the other.
    To,
    /// The other may reach the peer.
    From,
    /// One of the two.
    #[default]
    Either,
}

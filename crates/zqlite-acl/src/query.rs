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

/// Many questions, a slice for each part of a [`Query`].
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a, E> {
    /// See [`Query::source`].
    pub sources: &'a [E],
    /// See [`Query::destination`].
    pub destinations: &'a [E],
    /// See [`Query::protocol`].
    pub protocols: &'a [u8],
    /// See [`Query::port`].
    pub ports: &'a [u16],
}

impl<'a, E: Copy> Columns<'a, E> {
    /// How many questions there are: as many as the shortest slice has.
    pub fn len(&self) -> usize {
        self.sources.len().min(self.destinations.len()).min(self.protocols.len()).min(self.ports.len())
    }

    /// Whether there is no question.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `count` questions from one on, or fewer at the end, in slices of one length.
    #[inline(always)]
    pub(crate) fn part(&self, from: usize, count: usize) -> Self {
        let part = from..self.len().min(from + count);
        Self {
            sources: self.sources.get(part.clone()).unwrap_or(&[]),
            destinations: self.destinations.get(part.clone()).unwrap_or(&[]),
            protocols: self.protocols.get(part.clone()).unwrap_or(&[]),
            ports: self.ports.get(part).unwrap_or(&[]),
        }
    }

    /// A question by its number.
    #[inline(always)]
    pub(crate) fn query(&self, index: usize, at: i64) -> Option<Query<E>> {
        let (source, destination) = (*self.sources.get(index)?, *self.destinations.get(index)?);
        Some(Query { source, destination, protocol: *self.protocols.get(index)?, port: *self.ports.get(index)?, at })
    }
}

impl<E> Query<E> {
    /// The same question with other ends.
    #[inline(always)]
    pub(crate) fn map<F>(self, end: impl Fn(E) -> F) -> Query<F> {
        let Self { source, destination, protocol, port, at } = self;
        Query { source: end(source), destination: end(destination), protocol, port, at }
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

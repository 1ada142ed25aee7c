//! What one engine lets pass and another does not: who gains and who loses what, between which peers.

use zqlite_cidr::AddressRange;

use crate::comparison::Comparison;
use crate::engine::Engine;
use crate::peer::PeerId;
use crate::rule::PortRange;

/// Protocols and ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Passage {
    /// IANA protocol numbers, ascending. Empty: all.
    pub protocols: Vec<u8>,
    /// Ascending; no two overlap or touch. Empty: all, and no port at all.
    pub ports: Vec<PortRange>,
}

/// Peers that fare alike, or addresses behind routers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Party {
    /// Ascending.
    Peers(Vec<PeerId>),
    /// Addresses that some peer routes; those of them that belong to peers are not meant.
    Behind(AddressRange),
}

/// From each source to each destination that is another peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DifferenceRow {
    /// Indexes of parties.
    pub sources: Vec<u32>,
    /// Indexes of parties.
    pub destinations: Vec<u32>,
    /// What passes that did not.
    pub gained: Vec<Passage>,
    /// What passed and does not.
    pub lost: Vec<Passage>,
}

/// Ordered pairs, sender first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PairCounts {
    /// Something passes that did not.
    pub gaining: u64,
    /// Something no longer passes.
    pub losing: u64,
    /// Of the gaining ones, those where nothing passed.
    pub opened: u64,
    /// Of the losing ones, those where nothing passes any more.
    pub closed: u64,
}

/// What [`Engine::difference`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Between peers.
    pub pairs: PairCounts,
    /// Between a peer, or a range behind a router, and a range behind a router: each range counts as one.
    pub behind: PairCounts,
    /// Peers that may send or be sent something else, or carry something else for others; ascending.
    pub concerned: Vec<PeerId>,
    /// What the rows name.
    pub parties: Vec<Party>,
    /// Each pair of parties between which something else passes is in one row.
    pub rows: Vec<DifferenceRow>,
    /// Whether the rows hold everything; they are cut at a limit. Counts and `concerned` are not.
    pub complete: bool,
}

impl Engine {
    /// What passes in `after` and not here, and the reverse, at the time `at`. Made for two snapshots of one engine, whose
    /// peers are then compared by looking at pointers, but right for any two. A peer that one of them does not have can
    /// there neither send nor be sent anything.
    ///
    /// The rows name at most about `limit` parties together.
    pub fn difference(&self, after: &Engine, at: i64, limit: usize) -> Difference {
        let mut comparison = Comparison::new([self, after], at, limit);
        comparison.run();
        comparison.finish()
    }
}

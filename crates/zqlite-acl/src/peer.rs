//! A peer as the rules see it.

use zqlite_cidr::{Address, Prefix};

use crate::selector::Label;

/// The caller's number of a peer.
pub type PeerId = u32;

/// One machine of the network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Unique among the peers.
    pub id: PeerId,
    /// Its own addresses. No two peers share one.
    pub addresses: Vec<Address>,
    /// What rules may select it by. A label for its owner is not implied.
    pub labels: Vec<Label>,
    /// Whose it is; compared only by rules with `same_owner`.
    pub owner: Option<Box<str>>,
    /// Prefixes that it forwards to. Peers may share them.
    pub routes: Vec<Prefix>,
}

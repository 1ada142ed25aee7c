//! Peers that no rule can tell apart, gathered in classes.

use std::collections::{BTreeMap, BTreeSet};

use crate::peer::PeerId;

/// The number of a class. It names the same class while the rules stay and the class has a peer; then it is not used
/// again for another, short of 2^32 classes having come and gone.
pub type ClassId = u32;

/// All that the rules can know of a peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Signature {
    /// Which of the selectors that rules mention match the peer itself, by number.
    pub(crate) selectors: BTreeSet<usize>,
    /// Which of them match an address that it routes: a set for each kind of such address.
    pub(crate) routed: BTreeSet<BTreeSet<usize>>,
    /// Its owner, if some rule compares owners.
    pub(crate) owner: Option<Box<str>>,
}

/// The classes that have peers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Classes {
    by_signature: BTreeMap<Signature, ClassId>,
    by_peer: BTreeMap<PeerId, ClassId>,
    /// No set is empty.
    members: BTreeMap<ClassId, BTreeSet<PeerId>>,
    next: ClassId,
}

impl Classes {
    /// Puts a peer into the class of its signature, and out of the one that it was in.
    pub(crate) fn put(&mut self, peer: PeerId, signature: Signature) {
        let class = match self.by_signature.get(&signature) {
            Some(&class) => class,
            None => {
                let class = self.unused();
                self.by_signature.insert(signature, class);
                class
            }
        };
        // If it was alone in this very class, the class must not go and come back under another number.
        if self.of(peer) != Some(class) {
            self.leave(peer);
            self.by_peer.insert(peer, class);
            self.members.entry(class).or_default().insert(peer);
        }
    }

    /// Takes a peer out of its class, and the class away if it was the last.
    pub(crate) fn leave(&mut self, peer: PeerId) {
        let Some(class) = self.by_peer.remove(&peer) else {
            return;
        };
        let Some(members) = self.members.get_mut(&class) else {
            return;
        };
        members.remove(&peer);
        if members.is_empty() {
            self.members.remove(&class);
            self.by_signature.retain(|_, id| *id != class);
        }
    }

    pub(crate) fn of(&self, peer: PeerId) -> Option<ClassId> {
        self.by_peer.get(&peer).copied()
    }

    /// One peer that can speak for all of the class.
    pub(crate) fn representative(&self, class: ClassId) -> Option<PeerId> {
        self.members.get(&class)?.first().copied()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = ClassId> {
        self.members.keys().copied()
    }

    fn unused(&mut self) -> ClassId {
        loop {
            let class = self.next;
            self.next = class.wrapping_add(1);
            if !self.members.contains_key(&class) {
                return class;
            }
        }
    }
}

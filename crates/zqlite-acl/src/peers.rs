//! How peers change, and which class each belongs to.

use std::collections::BTreeSet;
use std::sync::Arc;

use zqlite_cidr::{Address, AddressRange, Prefix};

use crate::cow::List;
use crate::engine::{Bearers, Behind, Class, ClassRef, DESTINATION, Engine, Member, Named, SOURCE, Signature};
use crate::error::PeerError;
use crate::peer::{Peer, PeerId};
use crate::plain::check_peers;
use crate::rows::{Interned, Slot};
use crate::selector::{Label, Selector};

/// More kinds of addresses than this within a route, and it stands for itself in a signature.
const KINDS: usize = 64;

/// A list of peers up to this long is kept exact; a longer one is cleared up when half of it is out of date, which takes a
/// look at the labels of each.
const FEW: usize = 64;

impl Engine {
    /// Adds peers, or replaces those with the same ids.
    ///
    /// # Errors
    /// A peer that cannot be used, or an address that would belong to two; then the peers stay as they were.
    pub fn put_peers(&mut self, peers: Vec<Peer>) -> Result<(), PeerError> {
        check_peers(&peers, |address| self.by_address.get(&address).copied())?;
        self.rows.lend(self.list_bytes());
        // An address may go from one of them to another, so all give up theirs before the first takes some.
        let forgotten: Vec<Arc<Peer>> = peers.iter().filter_map(|peer| self.forget(peer.id)).collect();
        for peer in peers {
            let id = peer.id;
            for &address in &peer.addresses {
                self.by_address.insert(address, id);
                self.addresses.insert(address, id);
            }
            for label in &peer.labels {
                self.bear(label, id);
            }
            if !peer.routes.is_empty() {
                self.routers.insert(id, ());
            }
            self.classify(id, Arc::new(peer), None);
        }
        forgotten.iter().for_each(|peer| self.clear_up(&peer.labels));
        self.tidy();
        Ok(())
    }

    /// Removes peers; ids of none are passed over. Returns how many there were.
    pub fn remove_peers(&mut self, ids: &[PeerId]) -> usize {
        let before = self.peers.len();
        for &id in ids {
            let forgotten = self.forget(id);
            if let Some(member) = self.peers.remove(&id) {
                self.leave(&member);
            }
            forgotten.iter().for_each(|peer| self.clear_up(&peer.labels));
        }
        before - self.peers.len()
    }

    pub(crate) fn bears(&self, id: PeerId, label: &Label) -> bool {
        self.peer(id).is_some_and(|peer| peer.labels.contains(label))
    }

    fn bear(&mut self, label: &Label, id: PeerId) {
        if self.bearers.get(label).is_none() {
            self.bearers.insert(label.clone(), Bearers::default());
        }
        if let Some(bearers) = self.bearers.get_mut(label) {
            bearers.count += 1;
            Arc::make_mut(&mut bearers.peers).push(id);
        }
    }

    /// Takes from a peer all but its class. Returns it as it was: when it has been put or removed, its labels are to be
    /// [cleared up](Self::clear_up).
    fn forget(&mut self, id: PeerId) -> Option<Arc<Peer>> {
        let peer = self.peers.get(&id).map(|member| Arc::clone(&member.peer))?;
        for &address in &peer.addresses {
            self.by_address.remove(&address);
            self.addresses.remove(address);
        }
        self.routers.remove(&id);
        for label in &peer.labels {
            let Some(bearers) = self.bearers.get_mut(label) else { continue };
            bearers.count -= 1;
            if bearers.count == 0 {
                self.bearers.remove(label);
            } else if bearers.peers.len() <= FEW {
                Arc::make_mut(&mut bearers.peers).retain(|other| *other != id);
            }
        }
        Some(peer)
    }

    /// Shortens the lists of who bears these labels where half of one is out of date.
    fn clear_up(&mut self, labels: &[Label]) {
        for label in labels {
            let Some(bearers) = self.bearers.get(label) else { continue };
            if bearers.peers.len() <= FEW || bearers.peers.len() <= 2 * bearers.count + 16 {
                continue;
            }
            let mut peers = bearers.peers.as_ref().clone();
            peers.sort_unstable();
            peers.dedup();
            peers.retain(|&other| self.bears(other, label));
            if let Some(bearers) = self.bearers.get_mut(label) {
                bearers.peers = Arc::new(peers);
            }
        }
    }

    /// The selectors that select an address which belongs to nobody.
    pub(crate) fn selecting(&self, address: Address) -> Vec<u32> {
        let mut found = Vec::new();
        self.spans.meeting(AddressRange::from(Prefix::from(address)), &mut |_, id| found.push(id));
        found
    }

    /// Where within a route the rules may begin to tell addresses apart, ascending, its own beginning included.
    pub(crate) fn kinds(&self, route: Prefix) -> BTreeSet<Address> {
        let mut kinds = BTreeSet::from([route.first()]);
        self.spans.meeting(route.into(), &mut |range, _| {
            kinds.insert(range.first());
            kinds.extend(range.last().next());
        });
        kinds.retain(|kind| route.contains(*kind));
        kinds
    }

    fn signature(&mut self, peer: &Peer) -> Signature {
        let mut selectors: Vec<u32> = Vec::new();
        for &address in &peer.addresses {
            selectors.extend(self.selecting(address));
        }
        for label in &peer.labels {
            selectors.extend(self.by_selector.get(&Selector::Label(label.clone())));
        }
        selectors.sort_unstable();
        selectors.dedup();
        let mut routed = BTreeSet::new();
        for &route in &peer.routes {
            let kinds = self.kinds(route);
            if kinds.len() > KINDS {
                routed.insert(Behind::Route(route));
                continue;
            }
            for kind in kinds {
                let mut alike = self.selecting(kind);
                alike.sort_unstable();
                routed.insert(Behind::Alike(alike.into()));
            }
        }
        let owner = peer.owner.as_ref().filter(|_| !self.compares_owners.is_empty());
        let owner = owner.map_or(0, |owner| match self.owners.get(owner) {
            Some(&number) => number,
            None => {
                let number = self.owners.len() as u32 + 1;
                self.owners.insert(owner.clone(), number);
                number
            }
        });
        Signature { selectors: selectors.into(), routed, owner }
    }

    /// Puts a peer into the class that it now belongs to.
    pub(crate) fn classify(&mut self, id: PeerId, peer: Arc<Peer>, interned: Option<&mut Interned>) {
        let signature = self.signature(&peer);
        let class = self.by_signature.get(&signature).copied();
        if let Some(member) = self.peers.get_mut(&id)
            && class == Some(member.class)
        {
            member.peer = peer;
            return;
        }
        let class = match class {
            Some(class) => class,
            None => self.found(Arc::new(signature), &peer, interned),
        };
        if let Some(member) = self.peers.get(&id).cloned() {
            self.leave(&member);
        }
        let Some(joined) = self.classes.get_mut(class) else {
            return;
        };
        let members = Arc::make_mut(&mut joined.members);
        let at = members.len() as u32;
        members.push(id);
        self.peers.insert(id, Member { class, at, peer });
    }

    /// A new class for peers like this one.
    fn found(&mut self, signature: Arc<Signature>, peer: &Peer, mut interned: Option<&mut Interned>) -> u32 {
        let number = self.next_class;
        self.next_class = number.wrapping_add(1);
        let rows = [SOURCE, DESTINATION].map(|side| {
            let slots = self.slots(side, &signature.selectors);
            self.rows.build(slots, interned.as_deref_mut())
        });
        let class = Class {
            rows,
            owner: signature.owner,
            routes: !peer.routes.is_empty(),
            number,
            signature: Arc::clone(&signature),
            members: Arc::default(),
        };
        let index = match self.free_classes.pop() {
            Some(index) => {
                if let Some(place) = self.classes.get_mut(index) {
                    *place = class;
                }
                index
            }
            None => self.classes.push(class),
        };
        let this = ClassRef { index, number };
        for &id in &signature.selectors {
            self.note(id, this, |named| &mut named.classes);
        }
        let mut behind: Vec<u32> = Vec::new();
        for &route in &peer.routes {
            self.spans.meeting(route.into(), &mut |_, id| behind.push(id));
        }
        behind.sort_unstable();
        behind.dedup();
        for id in behind {
            self.note(id, this, |named| &mut named.routers);
        }
        self.by_signature.insert(signature, index);
        self.by_class.insert(number, index);
        index
    }

    /// Adds a class to a selector's list, and drops those that have gone when the list is to grow anyway.
    fn note(&mut self, selector: u32, class: ClassRef, list: fn(&mut Named) -> &mut List<ClassRef>) {
        let Self { selectors, classes, .. } = self;
        if let Some(named) = selectors.get_mut(selector) {
            let list = list(named).make_mut();
            if list.len() == list.capacity() {
                list.retain(|class| classes.get(class.index).is_some_and(|found| found.is(*class)));
            }
            list.push(class);
        }
    }

    /// The rules that name one of these selectors on a side; some may be there several times, or removed.
    pub(crate) fn slots(&self, side: usize, selectors: &[u32]) -> Vec<Slot> {
        let named = selectors.iter().filter_map(|&id| self.selectors.get(id));
        named.flat_map(|named| named.uses[side].iter().copied()).collect()
    }

    /// Takes a peer out of its class, and the class away if it was the last.
    fn leave(&mut self, member: &Member) {
        let Some(class) = self.classes.get_mut(member.class) else {
            return;
        };
        let members = Arc::make_mut(&mut class.members);
        members.swap_remove(member.at as usize);
        if let Some(moved) = members.get(member.at as usize) {
            let moved = *moved;
            if let Some(moved) = self.peers.get_mut(&moved) {
                moved.at = member.at;
            }
        } else if members.is_empty() {
            self.by_signature.remove(&class.signature);
            self.by_class.remove(&class.number);
            *class = Class::default();
            self.free_classes.push(member.class);
        }
    }
}

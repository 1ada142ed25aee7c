//! The rule engine in its plainest form: every question goes through all rules, one after the other.
//!
//! It is the definition of what the rules mean, and the oracle that faster engines are compared with.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::slice;

use ahash::RandomState;
use zqlite_cidr::Address;

use crate::classes::{ClassId, Classes, Signature};
use crate::error::{PeerError, PeerFault, PeerField, RuleError, RuleFault, RuleField, UnknownId};
use crate::peer::{Peer, PeerId};
use crate::query::{Decision, Direction, Explanation, MatchingRule, Query};
use crate::rule::{Action, Rule};
use crate::selector::{Label, Selector};

/// Rules, peers, and the answers that follow from them.
///
/// With r rules and p peers, and lists within a rule or a peer taken as short, a decision takes O(r), `visible_peers`
/// O(p·r·k) where k is the protocols times the ports that rules mention, and `visible_classes` the same with the
/// number of classes for p.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    /// In the order in which they decide.
    rules: Vec<Rule>,
    /// Each selector of a rule, enabled or not, once, and each label that one goes through.
    selectors: Vec<Selector>,
    /// The first address of each selector, and the first one behind it. From one of these to the next all addresses are
    /// alike to the rules.
    boundaries: BTreeSet<Address>,
    peers: BTreeMap<PeerId, Peer>,
    by_address: BTreeMap<Address, PeerId>,
    classes: Classes,
}

/// One side of the traffic, as selectors see it.
#[derive(Clone, Copy)]
enum Endpoint<'a> {
    Peer(&'a Peer),
    Address(Address),
    /// An address that this peer routes, sent through it.
    Behind(Address, &'a Peer),
}

impl Endpoint<'_> {
    fn addresses(&self) -> &[Address] {
        match self {
            Endpoint::Peer(peer) => &peer.addresses,
            Endpoint::Address(address) | Endpoint::Behind(address, _) => slice::from_ref(address),
        }
    }

    fn labels(&self) -> &[Label] {
        match self {
            Endpoint::Peer(peer) => &peer.labels,
            Endpoint::Address(_) | Endpoint::Behind(..) => &[],
        }
    }

    fn owner(&self) -> Option<&str> {
        match self {
            Endpoint::Peer(peer) => peer.owner.as_deref(),
            Endpoint::Address(_) | Endpoint::Behind(..) => None,
        }
    }

    fn is_matched_by(&self, selector: &Selector) -> bool {
        match selector {
            Selector::Any => true,
            Selector::Prefix(prefix) => self.addresses().iter().any(|&address| prefix.contains(address)),
            Selector::Range(range) => self.addresses().iter().any(|&address| range.contains(address)),
            Selector::Label(label) => self.labels().contains(label),
        }
    }

    fn is_matched_by_any(&self, selectors: &[Selector]) -> bool {
        selectors.iter().any(|selector| self.is_matched_by(selector))
    }
}

impl Engine {
    /// Without rules and peers: everything is denied.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces all rules. Class ids start afresh.
    ///
    /// # Errors
    /// A rule that cannot be used; then the rules stay as they were.
    pub fn set_rules(&mut self, mut rules: Vec<Rule>) -> Result<(), RuleError> {
        check_rules(&rules)?;
        rules.sort_by_key(|rule| (Reverse(rule.priority), rule.action, rule.id));
        let sides = rules.iter().flat_map(|rule| rule.sources.iter().chain(&rule.destinations)).cloned();
        let ways = rules.iter().flat_map(|rule| &rule.through).cloned().map(Selector::Label);
        self.selectors = sides.chain(ways).collect::<BTreeSet<Selector>>().into_iter().collect();
        self.boundaries = self
            .selectors
            .iter()
            .filter_map(Selector::addresses)
            .flat_map(|range| [Some(range.first()), range.last().next()])
            .flatten()
            .collect();
        self.rules = rules;
        self.classes = Classes::default();
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            self.classify(id);
        }
        Ok(())
    }

    /// Adds peers, or replaces those with the same ids.
    ///
    /// # Errors
    /// A peer that cannot be used, or an address that would belong to two; then the peers stay as they were.
    pub fn put_peers(&mut self, peers: Vec<Peer>) -> Result<(), PeerError> {
        check_peers(&peers, |address| self.by_address.get(&address).copied())?;
        // An address may go from one of them to another, so all give up theirs before the first takes some.
        for peer in &peers {
            self.forget(peer.id);
        }
        for peer in peers {
            let id = peer.id;
            self.by_address.extend(peer.addresses.iter().map(|&address| (address, id)));
            self.peers.insert(id, peer);
            self.classify(id);
        }
        Ok(())
    }

    /// Removes peers; ids of none are passed over. Returns how many there were.
    pub fn remove_peers(&mut self, ids: &[PeerId]) -> usize {
        let before = self.peers.len();
        for &id in ids {
            self.forget(id);
            self.classes.leave(id);
        }
        before - self.peers.len()
    }

    /// May one peer reach the other, or an address that it routes?
    pub fn decide(&self, query: &Query<PeerId>) -> Result<Decision, UnknownId> {
        Ok(self.explain(query)?.decision)
    }

    /// May one address reach the other? An address of a peer stands for that peer, without its routes.
    pub fn decide_addresses(&self, query: &Query<Address>) -> Decision {
        self.explain_addresses(query).decision
    }

    /// As [`decide`](Self::decide), with each rule that matches. If the peer itself may not be reached but an address
    /// that it routes may, the explanation is of that address.
    pub fn explain(&self, query: &Query<PeerId>) -> Result<Explanation, UnknownId> {
        let source = Endpoint::Peer(self.peer(query.source)?);
        let destination = self.peer(query.destination)?;
        let itself = self.explain_endpoints(source, Endpoint::Peer(destination), query);
        if itself.decision.allowed {
            return Ok(itself);
        }
        let routed = self.routed(destination).into_iter().find_map(|address| {
            let explanation = self.explain_endpoints(source, Endpoint::Behind(address, destination), query);
            explanation.decision.allowed.then_some(Explanation { routed: Some(address), ..explanation })
        });
        Ok(routed.unwrap_or(itself))
    }

    /// As [`decide_addresses`](Self::decide_addresses), with each rule that matches.
    pub fn explain_addresses(&self, query: &Query<Address>) -> Explanation {
        let mut rules = self.rules_between(self.at_address(query.source), self.at_address(query.destination), query.at);
        let families = [query.source.family(), query.destination.family()];
        rules.retain(|rule| rule.family.is_none_or(|family| families == [family; 2]));
        explanation(rules, query)
    }

    /// Whether some protocol and port is allowed from one peer to the other, or to an address that it routes.
    pub fn reachable(&self, source: PeerId, destination: PeerId, at: i64) -> Result<bool, UnknownId> {
        let source = Endpoint::Peer(self.peer(source)?);
        let destination = self.peer(destination)?;
        let routed = self.routed(destination).into_iter().map(|address| Endpoint::Behind(address, destination));
        Ok(std::iter::once(Endpoint::Peer(destination))
            .chain(routed)
            .any(|endpoint| self.some_traffic_passes(source, endpoint, at)))
    }

    /// The other peers that a peer sees, by ascending id.
    pub fn visible_peers(&self, peer: PeerId, direction: Direction, at: i64) -> Result<Vec<PeerId>, UnknownId> {
        let mut visible = Vec::new();
        for &other in self.peers.keys().filter(|&&other| other != peer) {
            if self.sees(peer, other, direction, at)? {
                visible.push(other);
            }
        }
        // Also when there is no other peer to ask about.
        self.peer(peer).map(|_| visible)
    }

    /// The class of a peer. Peers of a class get the same answer to each question at each time.
    pub fn peer_class(&self, peer: PeerId) -> Result<ClassId, UnknownId> {
        self.classes.of(peer).ok_or(UnknownId::Peer(peer))
    }

    /// The classes whose peers a peer of this class sees, by ascending id. The class itself is one of them if its peers
    /// see each other, however many there are.
    pub fn visible_classes(&self, class: ClassId, direction: Direction, at: i64) -> Result<Vec<ClassId>, UnknownId> {
        let peer = self.representative(class)?;
        let mut visible = Vec::new();
        for other in self.classes.ids() {
            if self.sees(peer, self.representative(other)?, direction, at)? {
                visible.push(other);
            }
        }
        Ok(visible)
    }

    fn sees(&self, peer: PeerId, other: PeerId, direction: Direction, at: i64) -> Result<bool, UnknownId> {
        Ok(match direction {
            Direction::To => self.reachable(peer, other, at)?,
            Direction::From => self.reachable(other, peer, at)?,
            Direction::Either => self.reachable(peer, other, at)? || self.reachable(other, peer, at)?,
        })
    }

    fn peer(&self, id: PeerId) -> Result<&Peer, UnknownId> {
        self.peers.get(&id).ok_or(UnknownId::Peer(id))
    }

    fn representative(&self, class: ClassId) -> Result<PeerId, UnknownId> {
        self.classes.representative(class).ok_or(UnknownId::Class(class))
    }

    fn at_address(&self, address: Address) -> Endpoint<'_> {
        let peer = self.by_address.get(&address).and_then(|id| self.peers.get(id));
        peer.map_or(Endpoint::Address(address), Endpoint::Peer)
    }

    /// An address of each kind that the rules can tell apart among those that the peer routes.
    fn routed(&self, peer: &Peer) -> BTreeSet<Address> {
        let mut kinds = BTreeSet::new();
        for route in &peer.routes {
            kinds.insert(route.first());
            kinds.extend(self.boundaries.range(route.first()..=route.last()));
        }
        kinds
    }

    /// The rules that match at some protocol and port, in the order in which they decide.
    fn rules_between(&self, source: Endpoint<'_>, destination: Endpoint<'_>, at: i64) -> Vec<&Rule> {
        let same_owner = source.owner().is_some() && source.owner() == destination.owner();
        self.rules
            .iter()
            .filter(|rule| {
                rule.is_live(at)
                    && source.is_matched_by_any(&rule.sources)
                    && destination.is_matched_by_any(&rule.destinations)
                    && (same_owner || !rule.same_owner)
                    && self.arrives(destination, rule)
            })
            .collect()
    }

    /// Whether what the rule matches arrives at a peer that it may go through. An address for itself may be sent to through
    /// any peer that routes it.
    fn arrives(&self, destination: Endpoint<'_>, rule: &Rule) -> bool {
        let bears = |peer: &Peer| peer.labels.iter().any(|label| rule.through.contains(label));
        rule.through.is_empty()
            || match destination {
                Endpoint::Peer(peer) | Endpoint::Behind(_, peer) => bears(peer),
                Endpoint::Address(address) => {
                    self.peers.values().any(|peer| bears(peer) && peer.routes.iter().any(|it| it.contains(address)))
                }
            }
    }

    fn explain_endpoints<E>(&self, source: Endpoint<'_>, destination: Endpoint<'_>, query: &Query<E>) -> Explanation {
        explanation(self.rules_between(source, destination, query.at), query)
    }

    /// Looks at each protocol and port where the answer may change: every protocol that a rule mentions and one that none
    /// does, port 0, and both ends of every range of ports.
    fn some_traffic_passes(&self, source: Endpoint<'_>, destination: Endpoint<'_>, at: i64) -> bool {
        let rules = self.rules_between(source, destination, at);
        let mut protocols: BTreeSet<u8> = rules.iter().flat_map(|rule| &rule.protocols).copied().collect();
        protocols.extend((0..=u8::MAX).find(|protocol| !protocols.contains(protocol)));
        let mut ports = BTreeSet::from([0]);
        for range in rules.iter().flat_map(|rule| &rule.ports) {
            ports.insert(range.low);
            ports.extend(range.high.checked_add(1));
        }
        protocols.iter().any(|&protocol| {
            ports.iter().any(|&port| {
                let deciding = rules.iter().find(|rule| rule.covers(protocol, port));
                deciding.is_some_and(|rule| rule.action == Action::Allow)
            })
        })
    }

    /// Takes a peer away, but not out of its class.
    fn forget(&mut self, id: PeerId) {
        for address in self.peers.remove(&id).map_or(Vec::new(), |peer| peer.addresses) {
            self.by_address.remove(&address);
        }
    }

    /// Puts a peer into the class that it now belongs to.
    fn classify(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get(&id) else {
            return;
        };
        let matching = |endpoint: Endpoint<'_>| -> BTreeSet<usize> {
            let matching = self.selectors.iter().enumerate().filter(|(_, selector)| endpoint.is_matched_by(selector));
            matching.map(|(number, _)| number).collect()
        };
        let signature = Signature {
            selectors: matching(Endpoint::Peer(peer)),
            routed: self.routed(peer).into_iter().map(|address| matching(Endpoint::Address(address))).collect(),
            owner: peer.owner.clone().filter(|_| self.rules.iter().any(|rule| rule.same_owner)),
        };
        self.classes.put(id, signature);
    }
}

/// Of the rules that match two ends, in the order in which they decide, those of a protocol and port.
fn explanation<E>(mut rules: Vec<&Rule>, query: &Query<E>) -> Explanation {
    rules.retain(|rule| rule.covers(query.protocol, query.port));
    let decision = Decision {
        allowed: rules.first().is_some_and(|rule| rule.action == Action::Allow),
        rule: rules.first().map(|rule| rule.id),
    };
    let matching = rules.iter().enumerate().map(|(index, rule)| MatchingRule {
        rule: rule.id,
        action: rule.action,
        priority: rule.priority,
        shadowed: index > 0,
    });
    Explanation { decision, routed: None, matching: matching.collect() }
}

/// What is wrong with rules that are to be used together.
pub(crate) fn check_rules(rules: &[Rule]) -> Result<(), RuleError> {
    let mut ids = HashSet::with_capacity_and_hasher(rules.len(), RandomState::new());
    for rule in rules {
        let fail = |field, index, fault| RuleError { rule: rule.id, field, index, fault };
        if !ids.insert(rule.id) {
            return Err(fail(RuleField::Id, None, RuleFault::Duplicate));
        }
        if rule.sources.is_empty() {
            return Err(fail(RuleField::Sources, None, RuleFault::Empty));
        }
        if rule.destinations.is_empty() {
            return Err(fail(RuleField::Destinations, None, RuleFault::Empty));
        }
        if rule.action == Action::Deny && !rule.through.is_empty() {
            return Err(fail(RuleField::Through, None, RuleFault::AllowOnly));
        }
        if rule.action == Action::Deny && rule.family.is_some() {
            return Err(fail(RuleField::Family, None, RuleFault::AllowOnly));
        }
        if let Some(index) = rule.ports.iter().position(|range| range.high < range.low) {
            return Err(fail(RuleField::Ports, Some(index), RuleFault::InvertedPorts(rule.ports[index])));
        }
    }
    Ok(())
}

/// What is wrong with peers that are to be put. `holder` says which peer has an address at present.
pub(crate) fn check_peers(peers: &[Peer], holder: impl Fn(Address) -> Option<PeerId>) -> Result<(), PeerError> {
    let mut given = BTreeSet::new();
    for peer in peers {
        let fail = |field, fault| PeerError { peer: peer.id, field, index: None, fault };
        if !given.insert(peer.id) {
            return Err(fail(PeerField::Id, PeerFault::Duplicate));
        }
        if peer.owner.as_deref() == Some("") {
            return Err(fail(PeerField::Owner, PeerFault::NamelessOwner));
        }
    }
    // Peers that are being replaced give up their addresses.
    let mut holders: BTreeMap<Address, PeerId> = BTreeMap::new();
    for peer in peers {
        for (index, &address) in peer.addresses.iter().enumerate() {
            let stays = holder(address).filter(|id| !given.contains(id));
            let holder = holders.insert(address, peer.id).filter(|&id| id != peer.id).or(stays);
            if let Some(by) = holder {
                let fault = PeerFault::AddressTaken { address, by };
                return Err(PeerError { peer: peer.id, field: PeerField::Addresses, index: Some(index), fault });
            }
        }
    }
    Ok(())
}

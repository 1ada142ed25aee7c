//! What one engine lets pass and another does not: who gains and who loses what, between which peers.
//!
//! Peers that neither engine can tell apart are one *party*, and so is each range of addresses behind routers that the
//! rules of neither cut. Work is per pair of parties that some changed rule joins, or any rule if a party itself has
//! changed. Rules with `*` as destination are not followed to everybody: what they alone let pass is the same for all
//! whom no other rule of the sender names, so those are one comparison.

use std::collections::hash_map::Entry as Slots;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use zqlite_cidr::{Address, AddressRange};

use crate::decide::Endpoint;
use crate::engine::{DESTINATION, Engine, SOURCE};
use crate::filter::{cut, merge};
use crate::peer::{Peer, PeerId};
use crate::rows::{Dense, Slot};
use crate::rule::{PortRange, Rule};
use crate::selector::Selector;
use crate::traffic::Traffic;

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

/// Of [`Comparison::lists`].
const EVERYBODY: u32 = 0;

/// Lists of rules whose meaning is remembered; then it is worked out anew.
const REMEMBERED: usize = 1 << 18;

const BEFORE: usize = 0;
const AFTER: usize = 1;

/// A [`Party`] as both engines see it.
struct Seen<'a> {
    party: Party,
    /// By engine and side; `None` where an engine does not know it.
    ends: [[Option<Endpoint>; 2]; 2],
    /// Whether not only rules, but what they see of it has changed.
    moved: bool,
    owners: [Option<&'a str>; 2],
}

impl Seen<'_> {
    fn size(&self) -> u64 {
        match &self.party {
            Party::Peers(ids) => ids.len() as u64,
            Party::Behind(_) => 1,
        }
    }

    fn is_peers(&self) -> bool {
        matches!(self.party, Party::Peers(_))
    }
}

/// What passes with one rule less or more, by numbers of [`Comparison::traffics`].
type Change = (u32, u32);

struct Comparison<'a> {
    engines: [&'a Engine; 2],
    at: i64,
    parties: Vec<Seen<'a>>,
    /// Parties by the index of a class, for each engine.
    of_class: [Vec<Vec<u32>>; 2],
    of_owner: HashMap<&'a str, Vec<u32>>,
    /// Ranges behind routers, ascending.
    ranges: Vec<(AddressRange, u32)>,
    /// Live rules that the other engine does not have.
    changed: [Dense; 2],
    moved: Vec<u32>,
    /// Parties that one of the engines does not know.
    odd: Vec<u32>,

    known: [HashMap<Vec<Slot>, u32>; 2],
    traffics: Vec<Traffic>,
    numbers: HashMap<Traffic, u32>,

    pairs: PairCounts,
    behind: PairCounts,
    concerned: Vec<bool>,
    /// Those that are not concerned yet; some are by now.
    unconcerned: Vec<u32>,
    /// How many peers there are, and ranges.
    sizes: [u64; 2],
    /// Senders by list of receivers and what changes.
    rows: HashMap<(u32, Change), Vec<u32>>,
    order: Vec<(u32, Change)>,
    /// Lists of receivers; the first is everybody.
    lists: Vec<Vec<u32>>,
    list_numbers: HashMap<Vec<u32>, u32>,
    room: usize,
    complete: bool,
    /// When a party was last looked at.
    stamps: Vec<u32>,
    stamp: u32,
}

impl<'a> Comparison<'a> {
    fn new(engines: [&'a Engine; 2], at: i64, limit: usize) -> Self {
        let mut this = Self {
            engines,
            at,
            parties: Vec::new(),
            of_class: engines.map(|engine| vec![Vec::new(); engine.classes.len()]),
            of_owner: HashMap::new(),
            ranges: Vec::new(),
            changed: changed_rules(engines, at),
            moved: Vec::new(),
            odd: Vec::new(),
            known: Default::default(),
            traffics: vec![Traffic::default()],
            numbers: HashMap::from([(Traffic::default(), 0)]),
            pairs: PairCounts::default(),
            behind: PairCounts::default(),
            concerned: Vec::new(),
            unconcerned: Vec::new(),
            sizes: [0; 2],
            rows: HashMap::new(),
            order: Vec::new(),
            lists: Vec::new(),
            list_numbers: HashMap::new(),
            room: limit,
            complete: true,
            stamps: Vec::new(),
            stamp: 0,
        };
        this.gather_peers();
        this.gather_ranges();
        for (index, party) in this.parties.iter().enumerate() {
            let index = index as u32;
            if party.moved {
                this.moved.push(index);
            }
            if party.ends.iter().any(|ends| ends[SOURCE].is_none()) {
                this.odd.push(index);
            }
            for owner in BTreeSet::from(party.owners).into_iter().flatten() {
                this.of_owner.entry(owner).or_default().push(index);
            }
        }
        this.concerned = vec![false; this.parties.len()];
        this.unconcerned = (0..this.parties.len() as u32).collect();
        this.lists.push(this.unconcerned.clone());
        for party in &this.parties {
            this.sizes[usize::from(!party.is_peers())] += party.size();
        }
        this.stamps = vec![0; this.parties.len()];
        this
    }

    fn gather_peers(&mut self) {
        let [before, after] = self.engines;
        type Key = (Option<u32>, Option<u32>, bool);
        let mut groups: HashMap<Key, Vec<PeerId>> = HashMap::new();
        for (&id, member) in before.peers.iter() {
            let other = after.peers.get(&id);
            let same = other.is_some_and(|other| same_peer(&member.peer, &other.peer));
            groups.entry((Some(member.class), other.map(|other| other.class), !same)).or_default().push(id);
        }
        for (&id, member) in after.peers.iter().filter(|(id, _)| before.peers.get(*id).is_none()) {
            groups.entry((None, Some(member.class), true)).or_default().push(id);
        }
        let mut groups: Vec<(Key, Vec<PeerId>)> = groups.into_iter().collect();
        groups.iter_mut().for_each(|(_, ids)| ids.sort_unstable());
        groups.sort_unstable_by_key(|(_, ids)| ids.first().copied());
        for ((first, second, moved), ids) in groups {
            let index = self.parties.len() as u32;
            let mut ends = [[None; 2]; 2];
            let mut owners = [None; 2];
            for (at, class) in [(BEFORE, first), (AFTER, second)] {
                let (engine, Some(class)) = (self.engines[at], class) else { continue };
                ends[at] = [SOURCE, DESTINATION].map(|side| Some(engine.class(side, class)));
                owners[at] = ids.first().and_then(|id| engine.peer(*id)).and_then(|peer| peer.owner.as_deref());
                if let Some(list) = self.of_class[at].get_mut(class as usize) {
                    list.push(index);
                }
            }
            self.parties.push(Seen { party: Party::Peers(ids), ends, moved, owners });
        }
    }

    fn gather_ranges(&mut self) {
        let engines = self.engines;
        let routed = engines.map(|engine| {
            let routers = engine.routers().filter_map(|id| engine.peer(id));
            merge(routers.flat_map(|peer| &peer.routes).map(|&route| route.into()).collect())
        });
        let within = |ranges: &[AddressRange], address: Address| {
            let next = ranges.partition_point(|range| range.first() <= address);
            next.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|range| range.contains(address))
        };
        let edges: BTreeSet<Address> =
            routed.iter().flatten().flat_map(|range| [Some(range.first()), range.last().next()]).flatten().collect();
        for route in merge(routed.concat()) {
            let mut ends: BTreeSet<Address> = edges.range(route.first()..=route.last()).copied().collect();
            for engine in engines {
                engine.spans.meeting(route, &mut |range, _| {
                    ends.extend([Some(range.first()), range.last().next()].into_iter().flatten());
                });
            }
            for part in cut(route, ends) {
                let held = [BEFORE, AFTER].map(|at| within(&routed[at], part.first()));
                let ends = [BEFORE, AFTER].map(|at| {
                    [SOURCE, DESTINATION].map(|side| held[at].then(|| engines[at].nobody(side, part.first())))
                });
                let index = self.parties.len() as u32;
                self.ranges.push((part, index));
                let moved = held[BEFORE] != held[AFTER];
                self.parties.push(Seen { party: Party::Behind(part), ends, moved, owners: [None; 2] });
            }
        }
        self.ranges.sort_unstable_by_key(|(range, _)| range.first());
    }

    fn run(&mut self) {
        if self.moved.is_empty() && self.changed.iter().all(Dense::is_empty) {
            return;
        }
        for source in self.senders() {
            self.compare_from(source);
        }
    }

    /// The parties that a changed rule, or a changed party, can make a difference to as senders.
    fn senders(&mut self) -> Vec<u32> {
        let all = (0..self.parties.len() as u32).collect();
        if !self.moved.is_empty() {
            return all;
        }
        let mut senders = BTreeSet::new();
        for at in [BEFORE, AFTER] {
            for slot in self.changed[at].iter() {
                if self.engines[at].sides[SOURCE].any.contains(slot) {
                    return all;
                }
                self.named(at, SOURCE, slot, &mut |party| {
                    senders.insert(party);
                });
            }
        }
        senders.into_iter().collect()
    }

    /// The parties that a rule names on a side, other than by `*`; some may come several times.
    fn named(&self, at: usize, side: usize, slot: Slot, visit: &mut impl FnMut(u32)) {
        let engine = self.engines[at];
        let Some(entry) = engine.entries.get(slot) else { return };
        for class in engine.selected(&entry.named[side]) {
            for &party in self.of_class[at].get(class as usize).into_iter().flatten() {
                visit(party);
            }
        }
        if self.ranges.is_empty() || entry.rule.same_owner {
            return;
        }
        let selectors = if side == SOURCE { &entry.rule.sources } else { &entry.rule.destinations };
        for range in selectors.iter().filter_map(Selector::addresses) {
            let from = self.ranges.partition_point(|(part, _)| part.first() < range.first());
            for (_, party) in self.ranges.iter().skip(from).take_while(|(part, _)| part.first() <= range.last()) {
                visit(*party);
            }
        }
    }

    fn compare_from(&mut self, source: u32) {
        let Some(seen) = self.parties.get(source as usize) else { return };
        let (sender_moved, owners) = (seen.moved, seen.owners);
        let ends = seen.ends.map(|ends| ends[SOURCE]);
        let rules = [BEFORE, AFTER].map(|at| match ends[at] {
            Some(end) => self.engines[at].one_sided(SOURCE, end, self.at).collect::<Vec<Slot>>(),
            None => Vec::new(),
        });
        let to_all = [BEFORE, AFTER].map(|at| {
            let engine = self.engines[at];
            let any = |slot: &Slot| {
                engine.sides[DESTINATION].any.contains(*slot) && engine.rule_in(*slot).is_some_and(|it| !it.same_owner)
            };
            rules[at].iter().copied().filter(any).collect::<Vec<Slot>>()
        });
        let differs = |at: usize, slot: &Slot| self.changed[at].contains(*slot);
        let everybody =
            sender_moved || [BEFORE, AFTER].iter().any(|&at| to_all[at].iter().any(|slot| differs(at, slot)));

        // Whom to look at one by one.
        self.stamp += 1;
        let mut receivers: Vec<u32> = Vec::new();
        let mut stamps = std::mem::take(&mut self.stamps);
        let mut note = |party: u32| {
            if let Some(stamp) = stamps.get_mut(party as usize)
                && *stamp != self.stamp
            {
                *stamp = self.stamp;
                receivers.push(party);
            }
        };
        for at in [BEFORE, AFTER] {
            for &slot in &rules[at] {
                let follow = everybody || self.changed[at].contains(slot);
                if !follow && self.moved.is_empty() {
                    continue;
                }
                let mut visit = |party: u32| {
                    if follow || self.parties.get(party as usize).is_some_and(|it| it.moved) {
                        note(party);
                    }
                };
                self.named(at, DESTINATION, slot, &mut visit);
                let owned = self.engines[at].rule_in(slot).is_some_and(|rule| rule.same_owner);
                if owned && self.engines[at].sides[DESTINATION].any.contains(slot) {
                    let same = owners[at].and_then(|owner| self.of_owner.get(owner));
                    same.into_iter().flatten().for_each(|&party| visit(party));
                }
            }
        }
        if rules.iter().any(|rules| !rules.is_empty()) {
            self.odd.iter().for_each(|&party| note(party));
        }
        self.stamps = stamps;

        let mut found: BTreeMap<Change, Vec<u32>> = BTreeMap::new();
        for &receiver in &receivers {
            let Some(there) = self.parties.get(receiver as usize).map(|it| it.ends) else { continue };
            if receiver == source && self.is_one_peer(source) {
                continue;
            }
            let passing = [BEFORE, AFTER].map(|at| match (ends[at], there[at][DESTINATION]) {
                (Some(from), Some(to)) => {
                    let rules = self.engines[at].between(from, to, self.at);
                    self.traffic(at, rules)
                }
                _ => 0,
            });
            if passing[BEFORE] != passing[AFTER] {
                self.count(source, receiver, (passing[BEFORE], passing[AFTER]));
                found.entry((passing[BEFORE], passing[AFTER])).or_default().push(receiver);
            }
        }
        if everybody {
            let [before, after] = [BEFORE, AFTER].map(|at| self.traffic(at, to_all[at].clone()));
            if before != after {
                self.count_rest(source, &receivers, (before, after));
                if receivers.is_empty() {
                    self.add_row(source, EVERYBODY, (before, after));
                } else if self.room > 0 {
                    let rest = (0..self.parties.len() as u32).filter(|it| self.stamps[*it as usize] != self.stamp);
                    let rest: Vec<u32> = rest.collect();
                    found.entry((before, after)).or_default().extend(rest);
                } else {
                    self.complete = false;
                }
            }
        }
        for (change, mut receivers) in found {
            receivers.sort_unstable();
            if let Some(list) = self.list(source, receivers) {
                self.add_row(source, list, change);
            }
        }
    }

    /// The number of a list of receivers, unless there is no room for it, or it says nothing.
    fn list(&mut self, source: u32, receivers: Vec<u32>) -> Option<u32> {
        if receivers.is_empty() || (receivers == [source] && self.is_one_peer(source)) {
            return None;
        }
        if let Some(&known) = self.list_numbers.get(&receivers) {
            return Some(known);
        }
        if !self.take(receivers.len()) {
            return None;
        }
        let number = self.lists.len() as u32;
        self.lists.push(receivers.clone());
        self.list_numbers.insert(receivers, number);
        Some(number)
    }

    /// Room for so many names, after which there is no more if they do not fit.
    fn take(&mut self, names: usize) -> bool {
        match self.room.checked_sub(names) {
            Some(room) => self.room = room,
            None => {
                self.room = 0;
                self.complete = false;
                return false;
            }
        }
        true
    }

    /// It has nobody to send to in its own party.
    fn is_one_peer(&self, party: u32) -> bool {
        self.parties.get(party as usize).is_some_and(|party| party.is_peers() && party.size() == 1)
    }

    /// The number of what these rules let pass.
    fn traffic(&mut self, at: usize, rules: Vec<Slot>) -> u32 {
        if rules.is_empty() {
            return 0;
        }
        if self.known[at].len() >= REMEMBERED {
            self.known[at].clear();
        }
        match self.known[at].entry(rules) {
            Slots::Occupied(known) => *known.get(),
            Slots::Vacant(place) => {
                let traffic = self.engines[at].traffic(place.key());
                let next = self.traffics.len() as u32;
                let number = *self.numbers.entry(traffic).or_insert_with_key(|traffic| {
                    self.traffics.push(traffic.clone());
                    next
                });
                *place.insert(number)
            }
        }
    }

    /// Counts pairs by what (gains, loses, was open, is open) they do.
    fn kind(&self, (before, after): Change) -> [bool; 4] {
        let of = |number: u32| self.traffics.get(number as usize);
        let (Some(before_is), Some(after_is)) = (of(before), of(after)) else { return [false; 4] };
        let gains = !after_is.without(before_is).is_empty();
        let loses = !before_is.without(after_is).is_empty();
        [gains, loses, before != 0, after != 0]
    }

    fn add(counts: &mut PairCounts, pairs: u64, [gains, loses, was_open, is_open]: [bool; 4]) {
        counts.gaining += pairs * u64::from(gains);
        counts.losing += pairs * u64::from(loses);
        counts.opened += pairs * u64::from(!was_open);
        counts.closed += pairs * u64::from(!is_open);
    }

    fn count(&mut self, source: u32, receiver: u32, change: Change) {
        let kind = self.kind(change);
        let (Some(from), Some(to)) = (self.parties.get(source as usize), self.parties.get(receiver as usize)) else {
            return;
        };
        let itself = u64::from(source == receiver && from.is_peers());
        let pairs = from.size() * (to.size() - itself);
        let counts = if from.is_peers() && to.is_peers() { &mut self.pairs } else { &mut self.behind };
        Self::add(counts, pairs, kind);
        for party in [source, receiver] {
            self.concerned[party as usize] = true;
        }
    }

    /// Counts the pairs with all who were not looked at one by one.
    fn count_rest(&mut self, source: u32, looked_at: &[u32], change: Change) {
        let kind = self.kind(change);
        let Some(from) = self.parties.get(source as usize) else { return };
        let [mut peers, mut ranges] = self.sizes;
        for party in looked_at.iter().filter_map(|&party| self.parties.get(party as usize)) {
            *(if party.is_peers() { &mut peers } else { &mut ranges }) -= party.size();
        }
        let (size, among_peers) = (from.size(), from.is_peers());
        let itself = among_peers && self.stamps[source as usize] != self.stamp;
        peers -= u64::from(itself);
        if peers + ranges > 0 {
            self.concerned[source as usize] = true;
            let alone = itself && size == 1;
            let Self { concerned, unconcerned, stamps, stamp, .. } = self;
            unconcerned.retain(|&party| {
                let reached = stamps[party as usize] != *stamp && !(alone && party == source);
                concerned[party as usize] |= reached;
                !concerned[party as usize]
            });
        }
        Self::add(if among_peers { &mut self.pairs } else { &mut self.behind }, size * peers, kind);
        Self::add(&mut self.behind, size * ranges, kind);
    }

    fn add_row(&mut self, source: u32, list: u32, change: Change) {
        if !self.take(1) {
            return;
        }
        match self.rows.entry((list, change)) {
            Slots::Occupied(mut known) => known.get_mut().push(source),
            Slots::Vacant(place) => {
                self.order.push(*place.key());
                place.insert(vec![source]);
            }
        }
    }

    fn finish(mut self) -> Difference {
        let mut concerned: BTreeSet<PeerId> = BTreeSet::new();
        let mut carried: Vec<AddressRange> = Vec::new();
        for (party, _) in self.parties.iter().zip(&self.concerned).filter(|(_, concerned)| **concerned) {
            match &party.party {
                Party::Peers(ids) => concerned.extend(ids),
                Party::Behind(range) => carried.push(*range),
            }
        }
        let carried = merge(carried);
        for engine in self.engines.iter().filter(|_| !carried.is_empty()) {
            for peer in engine.routers().filter_map(|id| engine.peer(id)) {
                let meets = |route: AddressRange| {
                    let next = carried.partition_point(|range| range.last() < route.first());
                    carried.get(next).is_some_and(|range| range.first() <= route.last())
                };
                if peer.routes.iter().any(|&route| meets(route.into())) {
                    concerned.insert(peer.id);
                }
            }
        }
        // Parties are numbered anew: those that rows name, in the order in which they do.
        let mut numbers: HashMap<u32, u32> = HashMap::new();
        let mut parties: Vec<Party> = Vec::new();
        let mut rows = Vec::new();
        for key in std::mem::take(&mut self.order) {
            let Some(sources) = self.rows.remove(&key) else { continue };
            let (list, (before, after)) = key;
            let destinations = self.lists.get(list as usize).cloned().unwrap_or_default();
            let (Some(before), Some(after)) = (self.traffics.get(before as usize), self.traffics.get(after as usize))
            else {
                continue;
            };
            let mut renumber = |old: Vec<u32>| -> Vec<u32> {
                let number = |old: u32| {
                    *numbers.entry(old).or_insert_with(|| {
                        parties.extend(self.parties.get(old as usize).map(|seen| seen.party.clone()));
                        parties.len() as u32 - 1
                    })
                };
                old.into_iter().map(number).collect()
            };
            let sources = renumber(sources);
            let destinations = renumber(destinations);
            let passages = |traffic: Traffic| {
                traffic.parts().map(|(protocols, ports)| Passage { protocols, ports }).collect::<Vec<_>>()
            };
            rows.push(DifferenceRow {
                sources,
                destinations,
                gained: passages(after.without(before)),
                lost: passages(before.without(after)),
            });
        }
        Difference {
            pairs: self.pairs,
            behind: self.behind,
            concerned: concerned.into_iter().collect(),
            parties,
            rows,
            complete: self.complete,
        }
    }
}

/// Whether rules must see the same in both.
fn same_peer(a: &Arc<Peer>, b: &Arc<Peer>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

/// A rule by what it does, whatever its number. Both are live when they are compared, so expiry does not matter.
struct Content<'a>(&'a Rule);

impl<'a> Content<'a> {
    fn parts(&self) -> impl PartialEq + Hash + use<'a> {
        let Rule { priority, action, sources, destinations, protocols, ports, same_owner, .. } = self.0;
        (*priority, *action, sources, destinations, protocols, ports, *same_owner)
    }
}

impl PartialEq for Content<'_> {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.0, other.0);
        (a.priority, a.action, a.same_owner) == (b.priority, b.action, b.same_owner)
            && (&a.sources, &a.destinations) == (&b.sources, &b.destinations)
            && (&a.protocols, &a.ports) == (&b.protocols, &b.ports)
    }
}

impl Eq for Content<'_> {}

impl Hash for Content<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

/// The slots of live rules in each engine whose like the other does not have.
fn changed_rules(engines: [&Engine; 2], at: i64) -> [Dense; 2] {
    let live = |engine: &'_ Engine| -> Vec<Slot> {
        let slots = engine.by_rule.iter().map(|(_, &slot)| slot).filter(|slot| engine.enabled.contains(*slot));
        slots.filter(|slot| engine.entries.get(*slot).is_some_and(|entry| at < entry.expires_at)).collect()
    };
    let mut before: HashMap<Content<'_>, Vec<Slot>> = HashMap::new();
    for slot in live(engines[BEFORE]) {
        if let Some(rule) = engines[BEFORE].rule_in(slot) {
            before.entry(Content(rule)).or_default().push(slot);
        }
    }
    let mut after = Dense::default();
    for slot in live(engines[AFTER]) {
        let Some(rule) = engines[AFTER].rule_in(slot) else { continue };
        // One of each like is enough: several of the same do what one does.
        match before.get_mut(&Content(rule)) {
            Some(slots) => slots.clear(),
            None => after.insert(slot),
        }
    }
    [before.into_values().flatten().collect(), after]
}

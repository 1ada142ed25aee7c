//! How two engines are compared: see [`Engine::difference`](crate::Engine::difference).
//!
//! Peers that neither engine can tell apart are one *party*, and so is each range of addresses behind routers that the
//! rules of neither cut. Work is per pair of parties that some changed rule joins, or any rule if a party itself has
//! changed. Rules with `*` as destination are not followed to everybody: what they alone let pass is the same for all
//! whom no other rule of the sender names, so those are one comparison.

use std::collections::hash_map::Entry as Slots;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use zqlite_cidr::AddressRange;

use crate::decide::Packets;
use crate::difference::{Difference, DifferenceRow, PairCounts, Party, Passage};
use crate::engine::{DESTINATION, Engine, SOURCE};
use crate::filter::merge;
use crate::parties::{AFTER, BEFORE, Parties};
use crate::peer::PeerId;
use crate::rows::{Dense, Slot};
use crate::rule::Rule;
use crate::traffic::Traffic;

/// Of [`Comparison::lists`].
const EVERYBODY: u32 = 0;

/// Lists of rules whose meaning is remembered; then it is worked out anew.
const REMEMBERED: usize = 1 << 18;

/// What passes with one rule less or more, by numbers of [`Comparison::traffics`].
type Change = (u32, u32);

pub(crate) struct Comparison<'a> {
    engines: [&'a Engine; 2],
    at: i64,
    parties: Parties<'a>,

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
    pub(crate) fn new(engines: [&'a Engine; 2], at: i64, limit: usize) -> Self {
        let mut this = Self {
            engines,
            at,
            parties: Parties::new(engines, at),
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
        this.concerned = vec![false; this.parties.all.len()];
        this.unconcerned = (0..this.parties.all.len() as u32).collect();
        this.lists.push(this.unconcerned.clone());
        for party in &this.parties.all {
            this.sizes[usize::from(!party.is_peers())] += party.size();
        }
        this.stamps = vec![0; this.parties.all.len()];
        this
    }

    pub(crate) fn run(&mut self) {
        if self.parties.moved.is_empty() && self.parties.changed.iter().all(Dense::is_empty) {
            return;
        }
        for source in self.senders() {
            self.compare_from(source);
        }
    }

    /// The parties that a changed rule, or a changed party, can make a difference to as senders.
    fn senders(&mut self) -> Vec<u32> {
        let all = (0..self.parties.all.len() as u32).collect();
        if !self.parties.moved.is_empty() {
            return all;
        }
        let mut senders = BTreeSet::new();
        for at in [BEFORE, AFTER] {
            for slot in self.parties.changed[at].iter() {
                if self.engines[at].sides[SOURCE].any.contains(slot) {
                    return all;
                }
                self.parties.named(at, SOURCE, slot, &mut |party| {
                    senders.insert(party);
                });
            }
        }
        senders.into_iter().collect()
    }

    fn compare_from(&mut self, source: u32) {
        let Some(seen) = self.parties.get(source) else { return };
        let (sender_moved, owners) = (seen.moved, seen.owners);
        let ends = seen.ends.map(|ends| ends[SOURCE]);
        let rules = [BEFORE, AFTER].map(|at| match ends[at] {
            Some(end) => self.engines[at].one_sided(SOURCE, end, self.at).collect::<Vec<Slot>>(),
            None => Vec::new(),
        });
        let to_all = [BEFORE, AFTER].map(|at| {
            let engine = self.engines[at];
            let any = |slot: &Slot| {
                let chooses = |it: &Rule| it.same_owner || !it.through.is_empty();
                engine.sides[DESTINATION].any.contains(*slot) && engine.rule_in(*slot).is_some_and(|it| !chooses(it))
            };
            rules[at].iter().copied().filter(any).collect::<Vec<Slot>>()
        });
        let differs = |at: usize, slot: &Slot| self.parties.changed[at].contains(*slot);
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
                let follow = everybody || self.parties.changed[at].contains(slot);
                if !follow && self.parties.moved.is_empty() {
                    continue;
                }
                let mut visit = |party: u32| {
                    if follow || self.parties.get(party).is_some_and(|it| it.moved) {
                        note(party);
                    }
                };
                self.parties.named(at, DESTINATION, slot, &mut visit);
                let Some(rule) = self.engines[at].rule_in(slot) else { continue };
                if !self.engines[at].sides[DESTINATION].any.contains(slot) {
                    continue;
                }
                if !rule.through.is_empty() {
                    (0..self.parties.all.len() as u32).for_each(&mut visit);
                } else if rule.same_owner {
                    let same = owners[at].and_then(|owner| self.parties.of_owner.get(owner));
                    same.into_iter().flatten().for_each(|&party| visit(party));
                }
            }
        }
        if rules.iter().any(|rules| !rules.is_empty()) {
            self.parties.odd.iter().for_each(|&party| note(party));
        }
        self.stamps = stamps;

        let mut found: BTreeMap<Change, Vec<u32>> = BTreeMap::new();
        for &receiver in &receivers {
            let Some(there) = self.parties.get(receiver).map(|it| it.ends) else { continue };
            if receiver == source && self.parties.is_one_peer(source) {
                continue;
            }
            let passing = [BEFORE, AFTER].map(|at| match (ends[at], there[at][DESTINATION]) {
                (Some(from), Some(to)) => {
                    let rules = self.engines[at].between(from, to, Packets::Any, self.at);
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
                    let rest = (0..self.parties.all.len() as u32).filter(|it| self.stamps[*it as usize] != self.stamp);
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
        if receivers.is_empty() || (receivers == [source] && self.parties.is_one_peer(source)) {
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
        let (Some(from), Some(to)) = (self.parties.get(source), self.parties.get(receiver)) else {
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
        let Some(from) = self.parties.get(source) else { return };
        let [mut peers, mut ranges] = self.sizes;
        for party in looked_at.iter().filter_map(|&party| self.parties.get(party)) {
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

    pub(crate) fn finish(mut self) -> Difference {
        let mut concerned: BTreeSet<PeerId> = BTreeSet::new();
        let mut carried: Vec<AddressRange> = Vec::new();
        for (party, _) in self.parties.all.iter().zip(&self.concerned).filter(|(_, concerned)| **concerned) {
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
                        parties.extend(self.parties.get(old).map(|seen| seen.party.clone()));
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

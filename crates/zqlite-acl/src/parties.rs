//! The parties of a [difference](crate::Difference): whom two engines have, sorted by what either can tell apart, and which
//! rules only one of them has.

use std::collections::{BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use zqlite_cidr::{Address, AddressRange};

use crate::decide::Endpoint;
use crate::difference::Party;
use crate::engine::{DESTINATION, Engine, SOURCE};
use crate::filter::{cut, merge};
use crate::peer::{Peer, PeerId};
use crate::rows::{Dense, Slot};
use crate::rule::Rule;
use crate::selector::{Label, Selector};

pub(crate) const BEFORE: usize = 0;
pub(crate) const AFTER: usize = 1;

/// A [`Party`] as both engines see it.
pub(crate) struct Seen<'a> {
    pub(crate) party: Party,
    /// By engine and side; `None` where an engine does not know it.
    pub(crate) ends: [[Option<Endpoint>; 2]; 2],
    /// Whether not only rules, but what they see of it has changed.
    pub(crate) moved: bool,
    pub(crate) owners: [Option<&'a str>; 2],
}

impl Seen<'_> {
    pub(crate) fn size(&self) -> u64 {
        match &self.party {
            Party::Peers(ids) => ids.len() as u64,
            Party::Behind(_) => 1,
        }
    }

    pub(crate) fn is_peers(&self) -> bool {
        matches!(self.party, Party::Peers(_))
    }
}

pub(crate) struct Parties<'a> {
    pub(crate) engines: [&'a Engine; 2],
    pub(crate) all: Vec<Seen<'a>>,
    /// Parties by the index of a class, for each engine.
    of_class: [Vec<Vec<u32>>; 2],
    pub(crate) of_owner: HashMap<&'a str, Vec<u32>>,
    /// Ranges behind routers, ascending.
    ranges: Vec<(AddressRange, u32)>,
    /// Live rules that the other engine does not have.
    pub(crate) changed: [Dense; 2],
    pub(crate) moved: Vec<u32>,
    /// Parties that one of the engines does not know.
    pub(crate) odd: Vec<u32>,
}

impl<'a> Parties<'a> {
    pub(crate) fn new(engines: [&'a Engine; 2], at: i64) -> Self {
        let mut this = Self {
            engines,
            all: Vec::new(),
            of_class: engines.map(|engine| vec![Vec::new(); engine.classes.len()]),
            of_owner: HashMap::new(),
            ranges: Vec::new(),
            changed: changed_rules(engines, at),
            moved: Vec::new(),
            odd: Vec::new(),
        };
        this.gather_peers();
        this.gather_ranges();
        for (index, party) in this.all.iter().enumerate() {
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
        this
    }

    pub(crate) fn get(&self, party: u32) -> Option<&Seen<'a>> {
        self.all.get(party as usize)
    }

    /// It has nobody to send to in its own party.
    pub(crate) fn is_one_peer(&self, party: u32) -> bool {
        self.get(party).is_some_and(|party| party.is_peers() && party.size() == 1)
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
            let index = self.all.len() as u32;
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
            self.all.push(Seen { party: Party::Peers(ids), ends, moved, owners });
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
        // Rules that say through whom tell addresses apart by who routes them.
        let steering = engines.iter().any(|engine| !engine.steers.is_empty());
        let routers = |engine: &'a Engine| engine.routers().filter_map(|id| engine.peer(id)).filter(|_| steering);
        let routes = engines.into_iter().flat_map(routers).flat_map(|peer| &peer.routes).map(|&route| route.into());
        let edges: BTreeSet<Address> = (routed.iter().flatten().copied().chain(routes))
            .flat_map(|range: AddressRange| [Some(range.first()), range.last().next()])
            .flatten()
            .collect();
        let ways = |engine: &'a Engine, address: Address| -> BTreeSet<&'a Label> {
            let through = routers(engine).filter(|peer| peer.routes.iter().any(|route| route.contains(address)));
            through.flat_map(|peer| &peer.labels).collect()
        };
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
                let index = self.all.len() as u32;
                self.ranges.push((part, index));
                let [before, after] = engines.map(|engine| ways(engine, part.first()));
                let moved = held[BEFORE] != held[AFTER] || before != after;
                self.all.push(Seen { party: Party::Behind(part), ends, moved, owners: [None; 2] });
            }
        }
        self.ranges.sort_unstable_by_key(|(range, _)| range.first());
    }

    /// The parties that a rule names on a side, other than by `*`; some may come several times.
    pub(crate) fn named(&self, at: usize, side: usize, slot: Slot, visit: &mut impl FnMut(u32)) {
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
}

/// Whether rules must see the same in both.
fn same_peer(a: &Arc<Peer>, b: &Arc<Peer>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

/// A rule by what it does, whatever its number. Both are live when they are compared, so expiry does not matter.
struct Content<'a>(&'a Rule);

impl<'a> Content<'a> {
    fn parts(&self) -> impl PartialEq + Hash + use<'a> {
        let Rule { priority, action, sources, destinations, protocols, ports, same_owner, through, family, .. } =
            self.0;
        (*priority, *action, sources, destinations, protocols, ports, *same_owner, through, *family)
    }
}

impl PartialEq for Content<'_> {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (self.0, other.0);
        (a.priority, a.action, a.same_owner, a.family) == (b.priority, b.action, b.same_owner, b.family)
            && (&a.sources, &a.destinations) == (&b.sources, &b.destinations)
            && (&a.protocols, &a.ports, &a.through) == (&b.protocols, &b.ports, &b.through)
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

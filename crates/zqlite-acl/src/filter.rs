//! What a peer must let in: the rules without denies.
//!
//! Sources that the rules treat alike are taken together; of each the protocols and ports that pass are worked out once,
//! denies subtracted. The result has one form for one meaning: two filters are equal exactly when they let in the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use zqlite_cidr::{Address, AddressRange, Family};

use crate::decide::{Endpoint, Packets, Question};
use crate::engine::{DESTINATION, Engine, SOURCE};
use crate::error::UnknownId;
use crate::peer::PeerId;
use crate::rows::Slot;
use crate::rule::{Action, PortRange};
use crate::selector::Selector;
use crate::traffic::{Traffic, allowed};

/// What may come in: from one of the sources to one of the destinations, on one of the protocols and ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterRule {
    /// Ascending; no two overlap or touch.
    pub sources: Vec<AddressRange>,
    /// Addresses of the peer, or that it routes; ascending, no two overlap or touch.
    pub destinations: Vec<AddressRange>,
    /// IANA protocol numbers, ascending. Empty: all.
    pub protocols: Vec<u8>,
    /// Ascending; no two overlap or touch. Empty: all, and no port at all.
    pub ports: Vec<PortRange>,
}

/// Who may come in, by what passes.
pub(crate) type Entrance = BTreeMap<Traffic, Vec<AddressRange>>;

impl Engine {
    /// What a peer and what it routes may be sent: of the traffic that [`decide_addresses`](Self::decide_addresses) allows
    /// exactly what may go through this peer. Rules that compare owners concern peers only, not what they route.
    pub fn packet_filter(&self, peer: PeerId, at: i64) -> Result<Vec<FilterRule>, UnknownId> {
        let class = self.member(peer)?;
        let mut by_entrance: BTreeMap<(Traffic, Vec<AddressRange>), Vec<AddressRange>> = BTreeMap::new();
        let mut add = |entrance: &Entrance, destinations: &[AddressRange]| {
            for (traffic, sources) in entrance {
                let known = by_entrance.entry((traffic.clone(), sources.clone())).or_default();
                known.extend(destinations);
            }
        };
        let peer = self.peer(peer).ok_or(UnknownId::Peer(peer))?;
        let itself = self.class(DESTINATION, class);
        let mut same: Option<Entrance> = None;
        for family in FAMILIES {
            let own = peer.addresses.iter().filter(|address| address.family() == family);
            let own: Vec<AddressRange> = own.map(|&address| one(address)).collect();
            if own.is_empty() {
                continue;
            }
            // Without rules of one family there is no difference.
            let entrance = same.take().unwrap_or_else(|| self.entrance(itself, family, at));
            add(&entrance, &own);
            same = Some(entrance).filter(|_| !self.compares_families());
        }
        let mut known: HashMap<(Family, Vec<Slot>), Entrance> = HashMap::new();
        for route in merge(peer.routes.iter().map(|&route| route.into()).collect()) {
            let mut kinds = BTreeSet::from([route.first()]);
            self.spans.meeting(route, &mut |range, _| {
                kinds.extend([Some(range.first()), range.last().next()].into_iter().flatten())
            });
            for part in cut(route, kinds) {
                let destination = self.behind(part.first(), class);
                let rules: Vec<Slot> = self.one_sided(DESTINATION, destination, at).collect();
                let family = part.first().family();
                let entrance = known.entry((family, rules)).or_insert_with(|| self.entrance(destination, family, at));
                add(entrance, &[part]);
            }
        }
        let mut filter: Vec<FilterRule> = Vec::new();
        for ((traffic, sources), destinations) in by_entrance {
            let destinations = merge(destinations);
            filter.extend(traffic.parts().map(|(protocols, ports)| FilterRule {
                sources: sources.clone(),
                destinations: destinations.clone(),
                protocols,
                ports,
            }));
        }
        filter.sort_unstable();
        Ok(filter)
    }

    /// Who may send what to a destination's addresses of a family.
    fn entrance(&self, destination: Endpoint, family: Family, at: i64) -> Entrance {
        let mut entrance = self.strangers(destination, family, at);
        let ways: Vec<(Packets, &[Family])> = if self.compares_families() {
            FAMILIES.chunks(1).zip(FAMILIES).map(|(from, one)| (Packets::between(one, family), from)).collect()
        } else {
            vec![(Packets::Any, &FAMILIES)]
        };
        let mut known: HashMap<Vec<Slot>, Traffic> = HashMap::new();
        for class in self.senders(destination, at) {
            for (packets, from) in &ways {
                let rules: Vec<Slot> = self.between(self.class(SOURCE, class), destination, *packets, at);
                let traffic = known.entry(rules).or_insert_with_key(|rules| self.traffic(rules));
                if !traffic.is_empty() {
                    let members = self.classes.get(class).into_iter().flat_map(|class| class.members.iter());
                    let addresses = members.filter_map(|id| self.peer(*id)).flat_map(|peer| &peer.addresses);
                    let addresses = addresses.filter(|address| from.contains(&address.family()));
                    entrance.entry(traffic.clone()).or_default().extend(addresses.map(|&address| one(address)));
                }
            }
        }
        entrance.retain(|_, sources| {
            *sources = merge(std::mem::take(sources));
            !sources.is_empty()
        });
        entrance
    }

    /// The rules between two endpoints, in the order in which they decide.
    pub(crate) fn between(&self, source: Endpoint, destination: Endpoint, packets: Packets, at: i64) -> Vec<Slot> {
        let question = Question { source: Some(source), destination: Some(destination), service: None, packets, at };
        self.matching(&question).collect()
    }

    pub(crate) fn traffic(&self, rules: &[Slot]) -> Traffic {
        allowed(&rules.iter().filter_map(|&slot| self.rule_in(slot)).collect::<Vec<_>>())
    }

    /// The classes that some allow lets send to a destination, unless a deny stands before it.
    fn senders(&self, destination: Endpoint, at: i64) -> BTreeSet<u32> {
        let mut classes = BTreeSet::new();
        for slot in self.one_sided(DESTINATION, destination, at) {
            let Some(entry) = self.entries.get(slot).filter(|entry| entry.rule.action == Action::Allow) else {
                continue;
            };
            if self.sides[SOURCE].any.contains(slot) {
                return (0..self.classes.len() as u32).filter(|&index| self.is_class(index)).collect();
            }
            classes.extend(self.selected(&entry.named[SOURCE]));
        }
        classes
    }

    /// Which addresses that belong to no peer may send what to a destination's addresses of a family.
    pub(crate) fn strangers(&self, destination: Endpoint, family: Family, at: i64) -> Entrance {
        let mut entrance = Entrance::new();
        let rules: Vec<Slot> = self.one_sided(DESTINATION, destination, at).collect();
        let mut allowed = Vec::new();
        let mut ends = BTreeSet::new();
        for rule in rules.iter().filter_map(|&slot| self.rule_in(slot)).filter(|rule| !rule.same_owner) {
            for selector in &rule.sources {
                if let Some(range) = selector.addresses() {
                    ends.extend([Some(range.first()), range.last().next()].into_iter().flatten());
                }
                if rule.action == Action::Allow {
                    allowed.extend(selector.addresses());
                    if *selector == Selector::Any {
                        allowed.extend(everything());
                    }
                }
            }
        }
        let mut known: HashMap<Vec<Slot>, Traffic> = HashMap::new();
        for range in merge(allowed) {
            for part in cut(range, ends.range(range.first()..=range.last()).copied().chain([range.first()]).collect()) {
                let packets = Packets::between(part.first().family(), family);
                let rules = self.between(self.nobody(SOURCE, part.first()), destination, packets, at);
                let traffic = known.entry(rules).or_insert_with_key(|rules| self.traffic(rules));
                if !traffic.is_empty() {
                    let free = self.without_peers(part);
                    if !free.is_empty() {
                        entrance.entry(traffic.clone()).or_default().extend(free);
                    }
                }
            }
        }
        entrance.values_mut().for_each(|sources| *sources = merge(std::mem::take(sources)));
        entrance
    }

    /// What of a range belongs to no peer.
    fn without_peers(&self, range: AddressRange) -> Vec<AddressRange> {
        let mut free = Vec::new();
        let mut next = Some(range.first());
        for (taken, _) in self.addresses.range(range.first(), range.last()) {
            if let Some(first) = next.filter(|first| *first < taken)
                && let Ok(part) = AddressRange::new(first, before(taken))
            {
                free.push(part);
            }
            next = taken.next();
        }
        free.extend(next.and_then(|first| AddressRange::new(first, range.last()).ok()));
        free
    }
}

pub(crate) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn one(address: Address) -> AddressRange {
    zqlite_cidr::Prefix::from(address).into()
}

fn everything() -> impl Iterator<Item = AddressRange> {
    let v4 = AddressRange::new(Address::v4(0), Address::v4(u32::MAX));
    let v6 = AddressRange::new(Address::v6(0), Address::v6(u128::MAX));
    [v4, v6].into_iter().flatten()
}

/// The address before one that is not the first of its family. `Address` has no way back over the mapped block.
fn before(address: Address) -> Address {
    let bits = address.bits().saturating_sub(1);
    match address.family() {
        Family::V4 => Address::v4(bits as u32),
        Family::V6 if Address::v6(bits).family() == Family::V4 => Address::v6(bits - u128::from(u32::MAX) - 1),
        Family::V6 => Address::v6(bits),
    }
}

/// The parts of a range that begin at `ends`, one of which is its own beginning; those outside count for nothing.
pub(crate) fn cut(range: AddressRange, ends: BTreeSet<Address>) -> Vec<AddressRange> {
    let ends: Vec<Address> = ends.into_iter().filter(|end| range.contains(*end)).collect();
    let lasts = ends.iter().skip(1).map(|&end| before(end)).chain([range.last()]);
    ends.iter().zip(lasts).filter_map(|(&first, last)| AddressRange::new(first, last).ok()).collect()
}

/// The same addresses in ascending ranges that neither overlap nor touch.
pub(crate) fn merge(mut ranges: Vec<AddressRange>) -> Vec<AddressRange> {
    ranges.sort_unstable();
    let mut merged: Vec<AddressRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.first() <= last.last() || last.last().next() == Some(range.first()) => {
                if let Ok(both) = AddressRange::new(last.first(), last.last().max(range.last())) {
                    *last = both;
                }
            }
            _ => merged.push(range),
        }
    }
    merged
}

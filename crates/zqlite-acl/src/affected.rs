//! Whom a change concerns: peers whose visible peers or packet filter it would change.
//!
//! The change is made to a copy of the engine. Between peers that stay as they are, only pairs that a changed rule matches
//! can fare otherwise; they are compared class by class, and no further once both sides are known to be concerned. What a
//! changed peer does to others shows in what its addresses may send before and after.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::decide::{Endpoint, Packets};
use crate::engine::{DESTINATION, Engine, SOURCE};
use crate::error::{ChangeError, UnknownId};
use crate::filter::FAMILIES;
use crate::peer::{Peer, PeerId};
use crate::query::Direction;
use crate::rows::Slot;
use crate::rule::{Rule, RuleId};
use crate::traffic::Traffic;
use zqlite_cidr::Family;

/// Several changes in one, made in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// As [`Engine::remove_rules`].
    pub remove_rules: Vec<RuleId>,
    /// As [`Engine::put_rules`].
    pub put_rules: Vec<Rule>,
    /// As [`Engine::set_enabled`].
    pub set_enabled: Vec<(RuleId, bool)>,
    /// As [`Engine::remove_peers`].
    pub remove_peers: Vec<PeerId>,
    /// As [`Engine::put_peers`].
    pub put_peers: Vec<Peer>,
}

impl Change {
    fn is_of_rules_alone(&self) -> bool {
        self.put_peers.is_empty() && self.remove_peers.is_empty()
    }

    fn is_of_peers_alone(&self) -> bool {
        self.put_rules.is_empty() && self.remove_rules.is_empty() && self.set_enabled.is_empty()
    }
}

impl Engine {
    /// Makes a change.
    ///
    /// # Errors
    /// The first part of it that cannot be made; then nothing has changed.
    pub fn apply(&mut self, change: Change) -> Result<(), ChangeError> {
        let mut next = self.clone();
        next.remove_rules(&change.remove_rules);
        next.put_rules(change.put_rules)?;
        for (id, enabled) in change.set_enabled {
            next.set_enabled(id, enabled)?;
        }
        next.remove_peers(&change.remove_peers);
        next.put_peers(change.put_peers)?;
        *self = next;
        Ok(())
    }

    /// The peers, by ascending id, whose visible peers in either direction or whose packet filter would be others at the
    /// time `at` after a change. A peer that is not there sees nobody and lets nothing in.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn affected(&self, change: &Change, at: i64) -> Result<Vec<PeerId>, ChangeError> {
        let mut after = self.clone();
        after.apply(change.clone())?;
        let moved: BTreeSet<PeerId> =
            change.put_peers.iter().map(|peer| peer.id).chain(change.remove_peers.iter().copied()).collect();
        let rules: BTreeSet<RuleId> = change
            .put_rules
            .iter()
            .map(|rule| rule.id)
            .chain(change.remove_rules.iter().copied())
            .chain(change.set_enabled.iter().map(|(id, _)| *id))
            .collect();
        let mut comparison = Comparison {
            sides: [self, &after],
            at,
            moved,
            known: Default::default(),
            visible: BTreeSet::new(),
            filter: BTreeSet::new(),
        };
        for rule in rules {
            comparison.rule(rule);
        }
        for peer in comparison.moved.clone() {
            comparison.peer(peer);
        }
        // Where rules and peers change at once, one may make up for the other: what is left is found by comparing.
        let both = !change.is_of_rules_alone() && !change.is_of_peers_alone();
        let Comparison { sides, mut visible, filter, .. } = comparison;
        visible.extend(filter);
        if both {
            visible.retain(|id| {
                let [before, after] = sides.map(|engine| {
                    let visible = engine.visible_peers(*id, Direction::Either, at).unwrap_or_default();
                    (visible, engine.packet_filter(*id, at).unwrap_or_default())
                });
                before != after
            });
        }
        Ok(visible.into_iter().collect())
    }
}

const ALL: [Packets; 4] = [Packets::Any, Packets::Of(Family::V4), Packets::Of(Family::V6), Packets::Mixed];

const BEFORE: usize = 0;
const AFTER: usize = 1;

struct Comparison<'a> {
    sides: [&'a Engine; 2],
    at: i64,
    /// Peers that the change concerns themselves.
    moved: BTreeSet<PeerId>,
    /// What passes by lists of rules, before and after.
    known: [HashMap<Vec<Slot>, Traffic>; 2],
    /// Whose visible peers change.
    visible: BTreeSet<PeerId>,
    /// Whose filter changes.
    filter: BTreeSet<PeerId>,
}

/// Peers that stay as they are, by the index of their class before and after.
type Groups = BTreeMap<(u32, u32), Vec<PeerId>>;

impl Comparison<'_> {
    /// Compares all pairs of peers that a rule matches, before or after.
    fn rule(&mut self, id: RuleId) {
        let (mut sources, mut destinations) = (Groups::new(), Groups::new());
        let mut from_strangers = false;
        for engine in self.sides {
            let Some(slot) = engine.by_rule.get(&id).copied().filter(|slot| engine.enabled.contains(*slot)) else {
                continue;
            };
            let Some(entry) = engine.entries.get(slot).filter(|entry| self.at < entry.expires_at) else { continue };
            let all = || (0..engine.classes.len() as u32).filter(|&index| engine.is_class(index));
            let select = |side: usize| -> BTreeSet<u32> {
                if engine.sides[side].any.contains(slot) {
                    all().collect()
                } else {
                    let routing = engine.routing(&entry.named[side]).filter(|_| side == DESTINATION);
                    engine.selected(&entry.named[side]).chain(routing).collect()
                }
            };
            self.gather(engine, select(SOURCE), &mut sources);
            self.gather(engine, select(DESTINATION), &mut destinations);
            from_strangers |= entry.rule.sources.iter().any(|selector| !matches!(selector, crate::Selector::Label(_)));
        }
        for (&to, receivers) in &destinations {
            let routes = self.sides.iter().zip([to.0, to.1]).any(|(engine, class)| engine.routes(class));
            let addressed = self.addressed(receivers);
            if routes {
                for &id in receivers {
                    self.compare_filters(id);
                }
            }
            let mut filter_known = routes || addressed.iter().all(|id| self.filter.contains(id));
            for (&from, senders) in &sources {
                let seen = |comparison: &Self, ids: &[PeerId]| ids.iter().all(|id| comparison.visible.contains(id));
                let visible_known = seen(self, receivers) && seen(self, senders);
                if filter_known && visible_known {
                    continue;
                }
                let ends = |engine: usize, from: u32, to: u32| {
                    let engine: &Engine = self.sides[engine];
                    (engine.class(SOURCE, from), engine.class(DESTINATION, to))
                };
                let (before, after) = (ends(BEFORE, from.0, to.0), ends(AFTER, from.1, to.1));
                if !routes {
                    let differing = self.differing(before, after);
                    if differing.is_empty() {
                        continue;
                    }
                    if !filter_known && differing.len() == ALL.len() && !self.addressed(senders).is_empty() {
                        self.filter.extend(&addressed);
                        filter_known = true;
                    } else if !filter_known {
                        let families: BTreeSet<Family> = senders.iter().flat_map(|id| self.families(*id)).collect();
                        self.note(&families, &differing, &addressed);
                    }
                }
                let alone = from == to && receivers.len() == 1;
                if !visible_known && !alone {
                    let either = |engine: usize, from: u32, to: u32| {
                        let engine: &Engine = self.sides[engine];
                        engine.reaches(from, to, self.at) || engine.reaches(to, from, self.at)
                    };
                    if either(BEFORE, from.0, to.0) != either(AFTER, from.1, to.1) {
                        self.visible.extend(senders.iter().chain(receivers));
                    }
                }
            }
            if from_strangers && !filter_known {
                let strangers = |engine: usize, to: u32, family: Family| {
                    let engine: &Engine = self.sides[engine];
                    engine.strangers(engine.class(DESTINATION, to), family, self.at)
                };
                // Without rules of one family there is no difference.
                if !self.compare_families() && strangers(BEFORE, to.0, Family::V4) != strangers(AFTER, to.1, Family::V4)
                {
                    self.filter.extend(&addressed);
                }
                let families: &[Family] = if self.compare_families() { &FAMILIES } else { &[] };
                for &family in families {
                    if strangers(BEFORE, to.0, family) != strangers(AFTER, to.1, family) {
                        let having = addressed.iter().copied().filter(|id| self.families(*id).contains(&family));
                        let having: Vec<PeerId> = having.collect();
                        self.filter.extend(having);
                    }
                }
            }
        }
    }

    /// Sorts the peers of some classes by their classes before and after.
    fn gather(&self, engine: &Engine, classes: BTreeSet<u32>, groups: &mut Groups) {
        let mut ids: Vec<PeerId> = Vec::new();
        for class in classes.into_iter().filter_map(|index| engine.classes.get(index)) {
            ids.extend(class.members.iter().filter(|id| !self.moved.contains(id)));
        }
        let mut present: HashSet<PeerId> = groups.values().flatten().copied().collect();
        for id in ids {
            let [before, after] = self.sides.map(|engine| engine.member(id));
            if let (Ok(before), Ok(after)) = (before, after)
                && present.insert(id)
            {
                groups.entry((before, after)).or_default().push(id);
            }
        }
    }

    fn addressed(&self, ids: &[PeerId]) -> Vec<PeerId> {
        let has = |id: &PeerId| self.sides[AFTER].peer(*id).is_some_and(|peer| !peer.addresses.is_empty());
        ids.iter().copied().filter(has).collect()
    }

    fn families(&self, id: PeerId) -> BTreeSet<Family> {
        let addresses = self.sides[AFTER].peer(id).into_iter().flat_map(|peer| &peer.addresses);
        addresses.map(|address| address.family()).collect()
    }

    fn compare_families(&self) -> bool {
        self.sides.iter().any(|engine| engine.compares_families())
    }

    /// Notes the receivers that have an address to which something else passes from one of these families.
    fn note(&mut self, senders: &BTreeSet<Family>, differing: &[Packets], receivers: &[PeerId]) {
        for &id in receivers {
            let own = self.families(id);
            let mut ways = senders.iter().flat_map(|from| own.iter().map(|to| Packets::between(*from, *to)));
            if ways.any(|way| differing.contains(&way)) {
                self.filter.insert(id);
            }
        }
    }

    /// Of which packets something else passes between two endpoints after than before; empty is of none.
    fn differing(&mut self, before: (Endpoint, Endpoint), after: (Endpoint, Endpoint)) -> Vec<Packets> {
        let compare =
            |this: &mut Self, packets| this.passing(BEFORE, before, packets) != this.passing(AFTER, after, packets);
        if self.compare_families() {
            ALL.into_iter().filter(|packets| compare(self, *packets)).collect()
        } else if compare(self, Packets::Any) {
            ALL.to_vec()
        } else {
            Vec::new()
        }
    }

    fn passing(&mut self, side: usize, (source, destination): (Endpoint, Endpoint), packets: Packets) -> Traffic {
        let engine = self.sides[side];
        let rules = engine.between(source, destination, packets, self.at);
        self.known[side].entry(rules).or_insert_with_key(|rules| engine.traffic(rules)).clone()
    }

    /// Compares all that a peer sees, lets in and sends.
    fn peer(&mut self, id: PeerId) {
        let [before, after] = self.sides.map(|engine| match engine.visible_peers(id, Direction::Either, self.at) {
            Ok(visible) => visible.into_iter().collect::<BTreeSet<PeerId>>(),
            Err(UnknownId::Peer(_) | UnknownId::Rule(_) | UnknownId::Class(_)) => BTreeSet::new(),
        });
        if before != after {
            self.visible.insert(id);
            self.visible.extend(before.symmetric_difference(&after));
        }
        self.compare_filters(id);
        let addresses = self.sides.into_iter().filter_map(|engine| engine.peer(id)).flat_map(|peer| &peer.addresses);
        let addresses: BTreeSet<_> = addresses.copied().collect();
        for address in addresses {
            let [before, after] = self.sides.map(|engine| engine.at_address(SOURCE, address));
            let mut groups = Groups::new();
            for (engine, source) in self.sides.into_iter().zip([before, after]) {
                self.gather(engine, engine.reached(source, self.at).iter().collect(), &mut groups);
            }
            for (to, receivers) in groups {
                let engines = self.sides;
                if engines[BEFORE].routes(to.0) || engines[AFTER].routes(to.1) {
                    receivers.into_iter().for_each(|id| self.compare_filters(id));
                    continue;
                }
                let [there_before, there_after] =
                    [engines[BEFORE].class(DESTINATION, to.0), engines[AFTER].class(DESTINATION, to.1)];
                let differing = self.differing((before, there_before), (after, there_after));
                if differing.len() == ALL.len() {
                    let addressed = self.addressed(&receivers);
                    self.filter.extend(addressed);
                } else {
                    self.note(&BTreeSet::from([address.family()]), &differing, &receivers);
                }
            }
        }
    }

    fn compare_filters(&mut self, id: PeerId) {
        let [before, after] = self.sides.map(|engine| engine.packet_filter(id, self.at).unwrap_or_default());
        if before != after {
            self.filter.insert(id);
        }
    }
}

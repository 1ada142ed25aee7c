//! The engine's state and how it changes.
//!
//! Each rule has a slot; sets of rules are rows of bits (`rows`). Bulk changes put the rules into slots in the order in
//! which they decide. A rule that is added alone takes a slot behind those, in the *tail*, where order means nothing and
//! priorities are compared; when the tail has grown to a share of the rules, everything is put in order again. A rule
//! that is removed leaves its slot empty until then. What a rule says of time and of being enabled is in none of the
//! rows, so that switching it is one bit.
//!
//! Peers that no rule can tell apart share a class, and a class has a row for each side.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use zqlite_cidr::{Address, AddressRange, Family, Prefix};

use crate::classes::ClassId;
use crate::cow::{Map, Pages, Sorted};
use crate::error::RuleError;
use crate::error::{PeerError, UnknownId};
use crate::intervals::Intervals;
use crate::lists::LazyLists;
use crate::peer::{Peer, PeerId};
use crate::plain::{check_peers, check_rules};
use crate::rows::{Dense, EMPTY, FACTORED, RowId, Rows, Slot};
use crate::rule::{Action, Rule, RuleId};
use crate::selector::{Label, Selector};
use crate::side::{Side, sweep};
use crate::spans::Spans;

pub(crate) const SOURCE: usize = 0;
pub(crate) const DESTINATION: usize = 1;

/// How an [`Engine`] is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes that the rows of rules, and what lists are made of them, may take. A peer or address that comes when they are
    /// taken has no row; its rules are gathered for each question, which takes time in proportion to how many name it.
    pub row_memory: usize,
}

impl Default for Options {
    /// 256 MiB.
    fn default() -> Self {
        Self { row_memory: 256 << 20 }
    }
}

/// Rules, peers, and the answers that follow from them: the same as [`plain::Engine`](crate::plain::Engine) gives.
///
/// A clone is a snapshot: it takes microseconds, shares what neither changes, and never sees a change of the other.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(crate) options: Options,
    pub(crate) entries: Pages<Entry>,
    pub(crate) by_rule: Map<RuleId, Slot>,
    /// Slots below, a multiple of 64, stand in the order in which they decide.
    pub(crate) ordered: usize,
    /// Rules that exist and are enabled.
    pub(crate) enabled: Arc<Dense>,
    /// Rules that have expired by `horizon`.
    pub(crate) expired: Arc<Dense>,
    pub(crate) horizon: i64,
    /// Rules that expire at some time.
    pub(crate) expiring: Arc<Dense>,
    pub(crate) denies: Arc<Dense>,
    pub(crate) compares_owners: Arc<Dense>,
    /// Rules that say through whom.
    pub(crate) steers: Arc<Dense>,
    /// Rules of IPv4 packets, and of IPv6.
    pub(crate) families: [Arc<Dense>; 2],
    pub(crate) rows: Rows,
    pub(crate) sides: [Side; 2],
    /// Rules with `*` on both sides.
    pub(crate) any_both: Arc<Dense>,
    /// For each protocol the index of its rules in `protocol_sets`; 0 has those for all protocols.
    pub(crate) protocols: Arc<Vec<u16>>,
    pub(crate) protocol_sets: Vec<Arc<Dense>>,
    pub(crate) any_port: Arc<Dense>,
    pub(crate) ports: Intervals<u16, RowId>,
    pub(crate) selectors: Pages<Named>,
    pub(crate) by_selector: Map<Selector, u32>,
    pub(crate) spans: Spans,
    /// Of the rules in order.
    pub(crate) lists: Arc<LazyLists>,

    pub(crate) peers: Map<PeerId, Member>,
    pub(crate) by_address: Map<Address, PeerId>,
    pub(crate) addresses: Sorted<Address, PeerId>,
    bearers: Map<Label, Bearers>,
    routers: Map<PeerId, ()>,
    pub(crate) classes: Pages<Class>,
    free_classes: Vec<u32>,
    by_signature: Map<Arc<Signature>, u32>,
    pub(crate) by_class: Map<ClassId, u32>,
    next_class: ClassId,
    owners: Map<Box<str>, u32>,
}

/// A rule in its slot.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The lower decides first.
    pub(crate) order: (u64, RuleId),
    /// `i64::MAX` for never; nothing is asked about that time.
    pub(crate) expires_at: i64,
    /// `enabled` is not kept here.
    pub(crate) rule: Arc<Rule>,
    /// The selectors that each side names, without `*`.
    pub(crate) named: [Arc<[u32]>; 2],
    /// The labels that it goes through, as selectors.
    pub(crate) through: Arc<[u32]>,
}

/// A selector that rules name, without `*`.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// The rules that name it on each side.
    pub(crate) uses: [Arc<Vec<Slot>>; 2],
    /// Classes that it selects; some have gone since.
    pub(crate) classes: Arc<Vec<ClassRef>>,
    /// Classes that route an address that it selects; some have gone since.
    pub(crate) routers: Arc<Vec<ClassRef>>,
}

/// A class, or one that was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClassRef {
    pub(crate) index: u32,
    number: ClassId,
}

/// A peer and its place among the members of its class.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) class: u32,
    at: u32,
    pub(crate) peer: Arc<Peer>,
}

/// Peers that the rules cannot tell apart. Without members the place is free.
#[derive(Clone, Debug, Default)]
pub(crate) struct Class {
    pub(crate) rows: [RowId; 2],
    /// 0: none, or no rule compares owners.
    pub(crate) owner: u32,
    pub(crate) routes: bool,
    pub(crate) number: ClassId,
    pub(crate) signature: Arc<Signature>,
    pub(crate) members: Arc<Vec<PeerId>>,
}

/// All that the rules can know of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Signature {
    /// The selectors that select it, ascending.
    pub(crate) selectors: Box<[u32]>,
    routed: BTreeSet<Behind>,
    owner: u32,
}

/// What lies behind a router.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Behind {
    /// Addresses that these selectors select.
    Alike(Box<[u32]>),
    /// A route in which the rules tell many kinds of addresses apart: working out whether two such are alike would take
    /// longer than keeping them apart.
    Route(Prefix),
}

/// More kinds of addresses than this within a route, and it stands for itself in a signature.
const KINDS: usize = 64;

/// A list of peers up to this long is kept exact; a longer one is cleared up when half of it is out of date, which takes a
/// look at the labels of each.
const FEW: usize = 64;

/// The peers that bear a label, and some that no longer do.
#[derive(Clone, Debug, Default)]
struct Bearers {
    count: usize,
    peers: Arc<Vec<PeerId>>,
}

impl Default for Engine {
    fn default() -> Self {
        Self::with_options(Options::default())
    }
}

impl Engine {
    /// Without rules and peers: everything is denied.
    pub fn new() -> Self {
        Self::default()
    }

    /// As [`new`](Self::new), with other options.
    pub fn with_options(options: Options) -> Self {
        Self {
            options,
            entries: Pages::default(),
            by_rule: Map::default(),
            ordered: 0,
            enabled: Arc::default(),
            expired: Arc::default(),
            horizon: i64::MIN,
            expiring: Arc::default(),
            denies: Arc::default(),
            compares_owners: Arc::default(),
            steers: Arc::default(),
            families: Default::default(),
            rows: Rows::new(0, options.row_memory),
            sides: Default::default(),
            any_both: Arc::default(),
            protocols: Arc::new(vec![0; 256]),
            protocol_sets: vec![Arc::default()],
            any_port: Arc::default(),
            ports: Intervals::new(EMPTY),
            selectors: Pages::default(),
            by_selector: Map::default(),
            spans: Spans::default(),
            lists: Arc::default(),
            peers: Map::default(),
            by_address: Map::default(),
            addresses: Sorted::default(),
            bearers: Map::default(),
            routers: Map::default(),
            classes: Pages::default(),
            free_classes: Vec::new(),
            by_signature: Map::default(),
            by_class: Map::default(),
            next_class: 0,
            owners: Map::default(),
        }
    }

    /// How many rules there are.
    pub fn rule_count(&self) -> usize {
        self.by_rule.len()
    }

    /// The peers that route something, in no order.
    pub(crate) fn routers(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.routers.iter().map(|(id, ())| *id)
    }

    /// How many peers there are.
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// Bytes that the rows and lists of rules take.
    pub fn row_bytes(&self) -> usize {
        self.rows.bytes() + self.lists.bytes()
    }

    /// A rule as it is now.
    pub fn rule(&self, id: RuleId) -> Option<Rule> {
        let slot = *self.by_rule.get(&id)?;
        let rule = self.entries.get(slot)?.rule.as_ref().clone();
        Some(Rule { enabled: self.enabled.contains(slot), ..rule })
    }

    /// A peer.
    pub fn peer(&self, id: PeerId) -> Option<&Peer> {
        self.peers.get(&id).map(|member| member.peer.as_ref())
    }

    /// Replaces all rules. Class ids start afresh.
    ///
    /// # Errors
    /// A rule that cannot be used; then the rules stay as they were.
    pub fn set_rules(&mut self, rules: Vec<Rule>) -> Result<(), RuleError> {
        check_rules(&rules)?;
        self.rebuild(rules.into_iter().map(Arc::new).collect());
        Ok(())
    }

    /// Adds rules, or replaces those with the same ids.
    ///
    /// One rule takes microseconds, and time in proportion to the classes and intervals of addresses that it selects;
    /// many take as long as all of the rules do.
    ///
    /// # Errors
    /// A rule that cannot be used; then the rules stay as they were.
    pub fn put_rules(&mut self, rules: Vec<Rule>) -> Result<(), RuleError> {
        check_rules(&rules)?;
        let comparing = !self.compares_owners.is_empty() || rules.iter().all(|rule| !rule.same_owner);
        let slots = self.entries.len() + rules.len();
        let tail = slots - self.ordered.min(slots);
        let room = slots <= self.rows.capacity() && tail <= 1024.max(self.by_rule.len() / 4);
        if rules.len() <= 16.max(self.by_rule.len() / 64) && room && comparing {
            for rule in rules {
                self.remove_rules(&[rule.id]);
                self.add(rule);
            }
            self.tidy();
        } else {
            let replaced: HashSet<RuleId> = rules.iter().map(|rule| rule.id).collect();
            let mut all = self.current_rules();
            all.retain(|rule| !replaced.contains(&rule.id));
            all.extend(rules.into_iter().map(Arc::new));
            self.rebuild(all);
        }
        Ok(())
    }

    /// Removes rules; ids of none are passed over. Returns how many there were. Each is one bit, and its place is used
    /// again when the rules are put in order.
    pub fn remove_rules(&mut self, ids: &[RuleId]) -> usize {
        let before = self.by_rule.len();
        for id in ids {
            if let Some(slot) = self.by_rule.remove(id) {
                Arc::make_mut(&mut self.enabled).remove(slot);
            }
        }
        before - self.by_rule.len()
    }

    /// Enables or disables a rule: one bit.
    pub fn set_enabled(&mut self, id: RuleId, enabled: bool) -> Result<(), UnknownId> {
        let slot = *self.by_rule.get(&id).ok_or(UnknownId::Rule(id))?;
        let bits = Arc::make_mut(&mut self.enabled);
        if enabled {
            bits.insert(slot)
        } else {
            bits.remove(slot)
        }
        Ok(())
    }

    /// Notes which rules have expired at the time `at`, so that questions about this time and later ones need not look.
    /// No answer depends on it.
    pub fn expire(&mut self, at: i64) {
        let past = |slot: &Slot| self.entries.get(*slot).is_some_and(|entry| entry.expires_at <= at);
        let slots = (0..self.entries.len() as Slot).filter(past);
        self.expired = Arc::new(slots.collect());
        self.horizon = at;
    }

    /// Adds peers, or replaces those with the same ids.
    ///
    /// # Errors
    /// A peer that cannot be used, or an address that would belong to two; then the peers stay as they were.
    pub fn put_peers(&mut self, peers: Vec<Peer>) -> Result<(), PeerError> {
        check_peers(&peers, |address| self.by_address.get(&address).copied())?;
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
            self.classify(id, Arc::new(peer));
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

    /// The rules as they are now, in no order.
    pub(crate) fn current_rules(&self) -> Vec<Arc<Rule>> {
        let rules = self.by_rule.iter().filter_map(|(_, &slot)| {
            let mut rule = Arc::clone(&self.entries.get(slot)?.rule);
            let enabled = self.enabled.contains(slot);
            if rule.enabled != enabled {
                Arc::make_mut(&mut rule).enabled = enabled;
            }
            Some(rule)
        });
        rules.collect()
    }

    /// Makes everything that follows from the rules anew.
    fn rebuild(&mut self, mut rules: Vec<Arc<Rule>>) {
        rules.sort_by_key(|rule| (Reverse(rule.priority), rule.action, rule.id));
        let room = rules.len() + 1024.max(rules.len() / 4) + 64;
        let options = self.options;
        let members: Vec<(PeerId, Arc<Peer>)> = {
            let mut members: Vec<_> = self.peers.iter().map(|(&id, member)| (id, Arc::clone(&member.peer))).collect();
            members.sort_unstable_by_key(|member| member.0);
            members
        };
        // What concerns peers alone stays.
        *self = Self {
            by_address: std::mem::take(&mut self.by_address),
            addresses: std::mem::take(&mut self.addresses),
            bearers: std::mem::take(&mut self.bearers),
            routers: std::mem::take(&mut self.routers),
            rows: Rows::new(room, options.row_memory),
            ordered: rules.len().next_multiple_of(64),
            ..Self::with_options(options)
        };
        let mut any: [Dense; 2] = Default::default();
        let mut uses: [Vec<Vec<Slot>>; 2] = Default::default();
        let mut ranges = Vec::new();
        let mut ports: Vec<(u16, Option<u16>, [Slot; 1])> = Vec::new();
        for rule in rules {
            let named = [&rule.sources, &rule.destinations].map(|selectors| {
                let named = distinct(selectors).map(|selector| {
                    let id = self.name(selector).0;
                    if id as usize == ranges.len() {
                        ranges.push(selector.addresses());
                        uses.iter_mut().for_each(|uses| uses.push(Vec::new()));
                    }
                    id
                });
                named.collect::<Arc<[u32]>>()
            });
            let through = rule.through.iter().map(|label| {
                let id = self.name(&Selector::Label(label.clone())).0;
                if id as usize == ranges.len() {
                    ranges.push(None);
                    uses.iter_mut().for_each(|uses| uses.push(Vec::new()));
                }
                id
            });
            let through = through.collect();
            let slot = self.enter(Arc::clone(&rule), named.clone(), through);
            for (side, named) in named.iter().enumerate() {
                named.iter().for_each(|&id| uses[side][id as usize].push(slot));
                if [&rule.sources, &rule.destinations][side].contains(&Selector::Any) {
                    any[side].insert(slot);
                }
            }
            ports.extend(rule.ports.iter().map(|range| (range.low, range.high.checked_add(1), [slot])));
        }
        self.ports = sweep(ports.iter().map(|(low, end, slot)| (*low, *end, slot.as_slice())), &mut self.rows);
        let gap = Entry {
            order: (u64::MAX, 0),
            expires_at: i64::MIN,
            rule: Arc::new(nothing()),
            named: [Arc::default(), Arc::default()],
            through: Arc::default(),
        };
        // Places without a rule before the tail keep the two apart.
        while self.entries.len() < self.ordered {
            self.entries.push(gap.clone());
        }
        for (side, uses) in uses.into_iter().enumerate() {
            let uses: Vec<Arc<Vec<Slot>>> = uses.into_iter().map(Arc::new).collect();
            for (id, uses) in uses.iter().enumerate() {
                if let Some(named) = self.selectors.get_mut(id as u32) {
                    named.uses[side] = Arc::clone(uses);
                }
            }
            let used: Vec<_> = ranges
                .iter()
                .zip(uses)
                .filter_map(|(range, uses)| Some(((*range)?, uses)).filter(|(_, uses)| !uses.is_empty()))
                .collect();
            self.sides[side] = Side::build(std::mem::take(&mut any[side]), &used, &mut self.rows);
        }
        self.spans = Spans::new(
            ranges
                .iter()
                .enumerate()
                .filter_map(|(id, range)| range.map(|range| (range, id as u32)))
                .collect::<Vec<_>>(),
        );
        for (id, peer) in members {
            self.classify(id, peer);
        }
        self.settle();
    }

    /// Gives a rule a slot and notes what is not in rows.
    fn enter(&mut self, rule: Arc<Rule>, named: [Arc<[u32]>; 2], through: Arc<[u32]>) -> Slot {
        let order = u64::from((i64::from(i32::MAX) - i64::from(rule.priority)) as u32) << 1;
        let order = order | u64::from(rule.action == Action::Allow);
        let expires_at = rule.expires_at.unwrap_or(i64::MAX);
        let entry = Entry { order: (order, rule.id), expires_at, rule: Arc::clone(&rule), named, through };
        let slot = self.entries.push(entry);
        self.by_rule.insert(rule.id, slot);
        if rule.enabled {
            Arc::make_mut(&mut self.enabled).insert(slot);
        }
        if expires_at != i64::MAX {
            Arc::make_mut(&mut self.expiring).insert(slot);
        }
        if expires_at <= self.horizon {
            Arc::make_mut(&mut self.expired).insert(slot);
        }
        if rule.sources.contains(&Selector::Any) && rule.destinations.contains(&Selector::Any) {
            Arc::make_mut(&mut self.any_both).insert(slot);
        }
        if rule.action == Action::Deny {
            Arc::make_mut(&mut self.denies).insert(slot);
        }
        if rule.same_owner {
            Arc::make_mut(&mut self.compares_owners).insert(slot);
        }
        if !rule.through.is_empty() {
            Arc::make_mut(&mut self.steers).insert(slot);
        }
        if let Some(family) = rule.family {
            Arc::make_mut(&mut self.families[usize::from(family == Family::V6)]).insert(slot);
        }
        if rule.ports.is_empty() {
            Arc::make_mut(&mut self.any_port).insert(slot);
        }
        if rule.protocols.is_empty() {
            self.protocol_sets.iter_mut().for_each(|set| Arc::make_mut(set).insert(slot));
        }
        for &protocol in &rule.protocols {
            let sets = Arc::make_mut(&mut self.protocols);
            if sets[usize::from(protocol)] == 0 {
                sets[usize::from(protocol)] = self.protocol_sets.len() as u16;
                self.protocol_sets.push(Arc::clone(&self.protocol_sets[0]));
            }
            Arc::make_mut(&mut self.protocol_sets[usize::from(sets[usize::from(protocol)])]).insert(slot);
        }
        slot
    }

    /// The number of a selector, and whether it is new.
    fn name(&mut self, selector: &Selector) -> (u32, bool) {
        if let Some(&id) = self.by_selector.get(selector) {
            return (id, false);
        }
        let id =
            self.selectors.push(Named { uses: Default::default(), classes: Arc::default(), routers: Arc::default() });
        self.by_selector.insert(selector.clone(), id);
        (id, true)
    }

    /// Adds one rule to the tail.
    fn add(&mut self, rule: Rule) {
        let rule = Arc::new(rule);
        let sides = [&rule.sources, &rule.destinations];
        let mut moving: BTreeSet<PeerId> = BTreeSet::new();
        let mut name = |selector: &Selector| {
            let (id, new) = self.name(selector);
            if new {
                self.spans_and_peers(selector, id, &mut moving);
            }
            id
        };
        let named = sides.map(|selectors| distinct(selectors).map(&mut name).collect::<Arc<[u32]>>());
        let through = rule.through.iter().map(|label| name(&Selector::Label(label.clone()))).collect();
        let slot = self.enter(Arc::clone(&rule), named.clone(), through);
        for (side, selectors) in sides.into_iter().enumerate() {
            if selectors.contains(&Selector::Any) {
                Arc::make_mut(&mut self.sides[side].any).insert(slot);
            }
            for &id in named[side].iter() {
                if let Some(named) = self.selectors.get_mut(id) {
                    Arc::make_mut(&mut named.uses[side]).push(slot);
                }
            }
            let mut grow = Grow { rows: &mut self.rows, slot, last: (EMPTY, EMPTY), fresh: true };
            for range in selectors.iter().filter_map(Selector::addresses) {
                self.sides[side].update(range, |row| grow.row(row));
            }
        }
        // Ports: overlapping ranges of one rule meet rows that have it already.
        let mut grow = Grow { rows: &mut self.rows, slot, last: (EMPTY, EMPTY), fresh: true };
        for range in &rule.ports {
            self.ports.update(range.low, range.high.checked_add(1), |row| grow.row(row));
        }
        for id in moving {
            if let Some(peer) = self.peers.get(&id).map(|member| Arc::clone(&member.peer)) {
                self.classify(id, peer);
            }
        }
        let named = named.iter().enumerate().flat_map(|(side, named)| named.iter().map(move |&id| (side, id)));
        for (side, id) in named {
            let Some(selected) = self.selectors.get(id).map(|named| Arc::clone(&named.classes)) else { continue };
            let mut grow = Grow { rows: &mut self.rows, slot, last: (EMPTY, EMPTY), fresh: true };
            for class in selected.iter() {
                if let Some(class) = self.classes.get_mut(class.index).filter(|found| found.is(*class)) {
                    class.rows[side] = grow.row(class.rows[side]);
                }
            }
        }
    }

    /// Notes a new selector among the ranges, and the peers that it tells apart from others.
    fn spans_and_peers(&mut self, selector: &Selector, id: u32, moving: &mut BTreeSet<PeerId>) {
        if let Selector::Label(label) = selector {
            let bearers = self.bearers.get(label).map(|bearers| Arc::clone(&bearers.peers)).unwrap_or_default();
            moving.extend(bearers.iter().filter(|id| self.bears(**id, label)));
        }
        if let Some(range) = selector.addresses() {
            self.spans.insert(range, id);
            moving.extend(self.addresses.range(range.first(), range.last()).map(|(_, peer)| peer));
            let meets = |route: &Prefix| route.first() <= range.last() && range.first() <= route.last();
            let routers = self.routers.iter().map(|(id, ())| *id);
            moving.extend(routers.filter(|id| self.peer(*id).is_some_and(|peer| peer.routes.iter().any(meets))));
        }
    }

    /// Brings rows together when most of them are of no use any more.
    fn tidy(&mut self) {
        if self.rows.wants_compaction() {
            self.settle();
        }
    }

    fn settle(&mut self) {
        let Self { rows, sides, ports, classes, .. } = self;
        rows.compact(|visit| {
            sides.iter_mut().flat_map(Side::rows_mut).chain(ports.values_mut()).for_each(&mut *visit);
            for index in 0..classes.len() as u32 {
                if let Some(class) = classes.get_mut(index) {
                    class.rows.iter_mut().for_each(&mut *visit);
                }
            }
        });
    }

    fn bears(&self, id: PeerId, label: &Label) -> bool {
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
    fn classify(&mut self, id: PeerId, peer: Arc<Peer>) {
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
            None => self.found(Arc::new(signature), &peer),
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
    fn found(&mut self, signature: Arc<Signature>, peer: &Peer) -> u32 {
        let number = self.next_class;
        self.next_class = number.wrapping_add(1);
        let rows = [SOURCE, DESTINATION].map(|side| {
            let slots = self.slots(side, &signature.selectors);
            self.rows.build(slots)
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
    fn note(&mut self, selector: u32, class: ClassRef, list: fn(&mut Named) -> &mut Arc<Vec<ClassRef>>) {
        let Self { selectors, classes, .. } = self;
        if let Some(named) = selectors.get_mut(selector) {
            let list = Arc::make_mut(list(named));
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

impl Entry {
    /// The last bit of the order, which is at hand when the rule itself may be far in memory.
    #[inline]
    pub(crate) fn allows(&self) -> bool {
        self.order.0 & 1 == 1
    }
}

impl Class {
    pub(crate) fn is(&self, class: ClassRef) -> bool {
        self.number == class.number && !self.members.is_empty()
    }
}

/// Adds a slot to rows. Neighbours often have the same row, which then gets the same successor.
struct Grow<'a> {
    rows: &'a mut Rows,
    slot: Slot,
    last: (RowId, RowId),
    fresh: bool,
}

impl Grow<'_> {
    fn row(&mut self, row: RowId) -> RowId {
        if row == FACTORED || (row == self.last.0 && !self.fresh) {
            return if row == FACTORED { FACTORED } else { self.last.1 };
        }
        if self.rows.view(row).contains(self.slot) {
            return row;
        }
        self.last = (row, self.rows.with(row, self.slot));
        self.fresh = false;
        self.last.1
    }
}

/// Each selector once, without `*`.
fn distinct(selectors: &[Selector]) -> impl Iterator<Item = &Selector> {
    // Short lists are compared, long ones hashed.
    let mut seen: HashSet<&Selector> = HashSet::new();
    selectors.iter().enumerate().filter(|(_, selector)| **selector != Selector::Any).filter_map(
        move |(index, selector)| {
            let new = if selectors.len() <= 8 { !selectors[..index].contains(selector) } else { seen.insert(selector) };
            new.then_some(selector)
        },
    )
}

/// A rule for places that have none.
fn nothing() -> Rule {
    Rule {
        id: 0,
        priority: 0,
        action: Action::Deny,
        enabled: false,
        sources: Vec::new(),
        destinations: Vec::new(),
        protocols: Vec::new(),
        ports: Vec::new(),
        expires_at: None,
        same_owner: false,
        through: Vec::new(),
        family: None,
    }
}

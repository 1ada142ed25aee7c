//! How rules change.
//!
//! Bulk changes put the rules into slots in the order in which they decide, and make everything that follows from them anew.
//! A rule that is added alone takes a slot in the tail.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use zqlite_cidr::{Family, Prefix};

use crate::cow::Map;
use crate::engine::{Engine, Entry, Named};
use crate::error::{RuleError, UnknownId};
use crate::peer::{Peer, PeerId};
use crate::plain::check_rules;
use crate::rows::{Dense, EMPTY, FACTORED, Interned, RowId, Rows, Slot};
use crate::rule::{Action, Rule, RuleId};
use crate::selector::Selector;
use crate::side::{Side, sweep};
use crate::spans::Spans;

impl Engine {
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
            self.rows.lend(self.list_bytes());
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
        rules.sort_by_cached_key(|rule| order(rule));
        let room = rules.len() + 1024.max(rules.len() / 4) + 64;
        let options = self.options;
        let members: Vec<(PeerId, Arc<Peer>)> = {
            let mut members: Vec<_> = self.peers.iter().map(|(&id, member)| (id, Arc::clone(&member.peer))).collect();
            members.sort_unstable_by_key(|member| member.0);
            members
        };
        let selectors = rules.iter().map(|rule| rule.sources.len() + rule.destinations.len()).sum();
        // What concerns peers alone stays.
        *self = Self {
            by_address: std::mem::take(&mut self.by_address),
            addresses: std::mem::take(&mut self.addresses),
            bearers: std::mem::take(&mut self.bearers),
            routers: std::mem::take(&mut self.routers),
            rows: Rows::new(room, options.row_memory),
            ordered: rules.len().next_multiple_of(64),
            by_rule: Map::for_entries(rules.len()),
            by_selector: Map::for_entries(selectors),
            ..Self::with_options(options)
        };
        let mut any: [Dense; 2] = Default::default();
        let mut uses: [Vec<(u32, Slot)>; 2] = Default::default();
        let mut ports: Vec<(u16, Option<u16>, [Slot; 1])> = Vec::new();
        let mut ids = Vec::new();
        for rule in rules {
            let name = |ids: &mut Vec<u32>| {
                let named = Arc::from(ids.as_slice());
                ids.clear();
                named
            };
            let named = [&rule.sources, &rule.destinations].map(|selectors| {
                ids.extend(distinct(selectors).map(|selector| self.name(selector).0));
                name(&mut ids)
            });
            ids.extend(rule.through.iter().map(|label| self.name(&Selector::Label(label.clone())).0));
            let slot = self.enter(Arc::clone(&rule), named.clone(), name(&mut ids));
            for (side, named) in named.iter().enumerate() {
                uses[side].extend(named.iter().map(|&id| (id, slot)));
                if [&rule.sources, &rule.destinations][side].contains(&Selector::Any) {
                    any[side].insert(slot);
                }
            }
            ports.extend(rule.ports.iter().map(|range| (range.low, range.high.checked_add(1), [slot])));
        }
        // Places without a rule before the tail keep the two apart.
        let gap = Entry {
            order: (u64::MAX, 0),
            expires_at: i64::MIN,
            rule: Arc::new(nothing()),
            named: [Arc::default(), Arc::default()],
            through: Arc::default(),
        };
        while self.entries.len() < self.ordered {
            self.entries.push(gap.clone());
        }
        // Rows of both sides, of ports and of peers are often the same.
        let mut interned = Interned::default();
        let ranges = ports.iter().map(|(low, end, slot)| (*low, *end, slot.as_slice()));
        self.ports = sweep(ranges, &mut self.rows, &mut interned);
        let mut ranges = vec![None; self.selectors.len()];
        for (selector, &id) in self.by_selector.iter() {
            if let Some(range) = ranges.get_mut(id as usize) {
                *range = selector.addresses();
            }
        }
        for (side, uses) in uses.into_iter().enumerate() {
            let uses = Uses::new(&uses, ranges.len());
            for id in 0..ranges.len() {
                if let Some(named) = self.selectors.get_mut(id as u32) {
                    named.uses[side] = uses.of(id).into();
                }
            }
            let used = ranges.iter().enumerate().filter_map(|(id, range)| Some(((*range)?, uses.of(id))));
            let used: Vec<_> = used.filter(|(_, uses)| !uses.is_empty()).collect();
            self.sides[side] = Side::build(std::mem::take(&mut any[side]), &used, &mut self.rows, &mut interned);
        }
        let spans = ranges.iter().enumerate().filter_map(|(id, range)| range.map(|range| (range, id as u32)));
        self.spans = Spans::new(spans);
        for (id, peer) in members {
            self.classify(id, peer, Some(&mut interned));
        }
        self.rows.settle();
    }

    /// Gives a rule a slot and notes what is not in rows.
    fn enter(&mut self, rule: Arc<Rule>, named: [Arc<[u32]>; 2], through: Arc<[u32]>) -> Slot {
        let expires_at = rule.expires_at.unwrap_or(i64::MAX);
        let entry = Entry { order: order(&rule), expires_at, rule: Arc::clone(&rule), named, through };
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
        let id = self.selectors.push(Named::default());
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
                    named.uses[side].make_mut().push(slot);
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
                self.classify(id, peer, None);
            }
        }
        let named = named.iter().enumerate().flat_map(|(side, named)| named.iter().map(move |&id| (side, id)));
        for (side, id) in named {
            let Some(selected) = self.selectors.get(id).map(|named| named.classes.clone()) else { continue };
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
    pub(crate) fn tidy(&mut self) {
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
}

/// What stands where among rules: see [`Entry::order`].
fn order(rule: &Rule) -> (u64, RuleId) {
    let order = u64::from((i64::from(i32::MAX) - i64::from(rule.priority)) as u32) << 1;
    (order | u64::from(rule.action == Action::Allow), rule.id)
}

/// The rules that name each selector, in one list.
struct Uses {
    /// Where those of each selector begin, and where the last ones end.
    starts: Vec<u32>,
    slots: Vec<Slot>,
}

impl Uses {
    /// Counts, then puts each to its place; the order of slots stays.
    fn new(pairs: &[(u32, Slot)], selectors: usize) -> Self {
        let mut starts = vec![0u32; selectors + 1];
        pairs.iter().for_each(|&(id, _)| starts[id as usize + 1] += 1);
        for id in 0..selectors {
            starts[id + 1] += starts[id];
        }
        let (mut next, mut slots) = (starts.clone(), vec![0; pairs.len()]);
        for &(id, slot) in pairs {
            slots[next[id as usize] as usize] = slot;
            next[id as usize] += 1;
        }
        Self { starts, slots }
    }

    fn of(&self, id: usize) -> &[Slot] {
        &self.slots[self.starts[id] as usize..self.starts[id + 1] as usize]
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

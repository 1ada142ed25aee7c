//! What may be wrong with a set of rules: those that have no effect, and those that only their action tells apart.

use std::collections::BTreeSet;

use crate::engine::{DESTINATION, Engine, Entry, SOURCE};
use crate::rows::{Dense, Slot};
use crate::rule::{Action, Rule, RuleId};
use crate::selector::Selector;
use zqlite_cidr::AddressRange;

/// A rule without effect, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnusedRule {
    /// Its id.
    pub rule: RuleId,
    /// The first of the reasons that holds.
    pub reason: UnusedReason,
}

/// Why a rule has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UnusedReason {
    /// It is disabled.
    Disabled,
    /// It has expired.
    Expired,
    /// One side names nothing but labels that no peer bears, or the labels to go through are such.
    SelectsNobody,
    /// This one rule decides before it and matches wherever it does.
    Shadowed(RuleId),
}

/// An allow and a deny of equal priority that can match the same traffic. The deny decides, whoever meant what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conflict {
    /// The rule that decides.
    pub deny: RuleId,
    /// The rule that does not.
    pub allow: RuleId,
}

impl Engine {
    /// The rules that have no effect at the time `at`, by ascending id. Rules that only several others together shadow
    /// are not among them.
    pub fn unused_rules(&self, at: i64) -> Vec<UnusedRule> {
        let mut unused: Vec<UnusedRule> = self
            .by_rule
            .iter()
            .filter_map(|(&rule, &slot)| {
                let entry = self.entries.get(slot)?;
                Some(UnusedRule { rule, reason: self.unused(slot, entry, at)? })
            })
            .collect();
        unused.sort_unstable_by_key(|unused| unused.rule);
        unused
    }

    fn unused(&self, slot: Slot, entry: &Entry, at: i64) -> Option<UnusedReason> {
        if !self.enabled.contains(slot) {
            return Some(UnusedReason::Disabled);
        }
        if entry.expires_at <= at {
            return Some(UnusedReason::Expired);
        }
        let rule = &entry.rule;
        let selects = |side: usize, selectors: &[Selector]| {
            selectors.iter().any(|selector| !matches!(selector, Selector::Label(_)))
                || self.selected(&entry.named[side]).next().is_some()
        };
        let nowhere = !rule.through.is_empty() && self.selected(&entry.through).next().is_none();
        if nowhere || !selects(SOURCE, &rule.sources) || !selects(DESTINATION, &rule.destinations) {
            return Some(UnusedReason::SelectsNobody);
        }
        // What covers the whole rule covers its first selectors, and few rules do.
        let [sources, destinations] = [(SOURCE, &rule.sources), (DESTINATION, &rule.destinations)]
            .map(|(side, selectors)| selectors.first().map(|first| self.covering(side, first)).unwrap_or_default());
        let earlier = sources
            .iter()
            .filter(|&other| destinations.contains(other) && self.enabled.contains(other))
            .filter_map(|other| self.entries.get(other))
            .filter(|other| other.order < entry.order && at < other.expires_at && covers(&other.rule, rule));
        earlier.min_by_key(|other| other.order).map(|other| UnusedReason::Shadowed(other.order.1))
    }

    /// The rules one of whose selectors on a side selects all that this one does.
    fn covering(&self, side: usize, selector: &Selector) -> Dense {
        let mut slots: Vec<Slot> = self.sides[side].any.iter().collect();
        if let Some(&id) = self.by_selector.get(selector) {
            slots.extend(self.slots(side, &[id]));
        }
        if let Some(range) = selector.addresses() {
            self.spans.meeting(range, &mut |other, id| {
                if holds(other, range) {
                    slots.extend(self.slots(side, &[id]));
                }
            });
        }
        slots.into_iter().collect()
    }

    /// Pairs of an allow and a deny of equal priority that can match the same traffic at the time `at`, ascending; at
    /// most `limit` of them. Two labels can meet when a peer bears both.
    pub fn conflicts(&self, at: i64, limit: usize) -> Vec<Conflict> {
        let mut conflicts = BTreeSet::new();
        let mut denies: Vec<&Entry> = self
            .denies
            .iter()
            .filter(|slot| self.enabled.contains(*slot))
            .filter_map(|slot| self.entries.get(slot))
            .filter(|entry| at < entry.expires_at)
            .collect();
        denies.sort_unstable_by_key(|entry| entry.order.1);
        for deny in denies {
            if conflicts.len() >= limit {
                break;
            }
            let sources = self.meeting(SOURCE, &deny.rule.sources);
            let destinations = self.meeting(DESTINATION, &deny.rule.destinations);
            for slot in sources.iter().filter(|&slot| destinations.contains(slot) && self.enabled.contains(slot)) {
                let Some(allow) = self.entries.get(slot).filter(|entry| at < entry.expires_at) else { continue };
                if allow.rule.action == Action::Allow
                    && allow.rule.priority == deny.rule.priority
                    && share_service(&allow.rule, &deny.rule)
                {
                    conflicts.insert(Conflict { deny: deny.order.1, allow: allow.order.1 });
                }
            }
        }
        conflicts.into_iter().take(limit).collect()
    }

    /// The rules that can match what one of these selectors does, on a side.
    fn meeting(&self, side: usize, selectors: &[Selector]) -> Dense {
        if selectors.contains(&Selector::Any) {
            return (0..self.entries.len() as Slot).collect();
        }
        let mut ids: BTreeSet<u32> = BTreeSet::new();
        for selector in selectors {
            if let Some(&id) = self.by_selector.get(selector) {
                ids.insert(id);
                // What else selects a peer that this one selects.
                for class in self.selected(&[id]).filter_map(|index| self.classes.get(index)) {
                    ids.extend(class.signature.selectors.iter());
                }
            }
            if let Some(range) = selector.addresses() {
                self.spans.meeting(range, &mut |_, id| {
                    ids.insert(id);
                });
            }
        }
        let ids: Vec<u32> = ids.into_iter().collect();
        self.sides[side].any.iter().chain(self.slots(side, &ids)).collect()
    }
}

fn holds(outer: AddressRange, inner: AddressRange) -> bool {
    outer.first() <= inner.first() && inner.last() <= outer.last()
}

/// Whether `outer` matches wherever `inner` does.
fn covers(outer: &Rule, inner: &Rule) -> bool {
    let selects = |outer: &[Selector], inner: &Selector| {
        outer.iter().any(|outer| {
            *outer == Selector::Any
                || outer == inner
                || outer.addresses().zip(inner.addresses()).is_some_and(|(outer, inner)| holds(outer, inner))
        })
    };
    let through = |label| outer.through.contains(label);
    (inner.same_owner || !outer.same_owner)
        && (outer.family.is_none() || outer.family == inner.family)
        && (outer.through.is_empty() || !inner.through.is_empty() && inner.through.iter().all(through))
        && inner.sources.iter().all(|selector| selects(&outer.sources, selector))
        && inner.destinations.iter().all(|selector| selects(&outer.destinations, selector))
        && (outer.protocols.is_empty()
            || !inner.protocols.is_empty() && inner.protocols.iter().all(|it| outer.protocols.contains(it)))
        && (outer.ports.is_empty()
            || !inner.ports.is_empty()
                && inner.ports.iter().all(|it| outer.ports.iter().any(|by| by.low <= it.low && it.high <= by.high)))
}

fn share_service(a: &Rule, b: &Rule) -> bool {
    (a.protocols.is_empty() || b.protocols.is_empty() || a.protocols.iter().any(|it| b.protocols.contains(it)))
        && (a.ports.is_empty()
            || b.ports.is_empty()
            || a.ports.iter().any(|a| b.ports.iter().any(|b| a.low <= b.high && b.low <= a.high)))
}

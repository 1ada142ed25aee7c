//! Rules that have no effect.
//!
//! What covers a rule holds the ends of all ranges that the rule names. So the rules that may cover it are those of a question about
//! such ends, and are found as the rules that match one are: by intersecting rows. What is found is compared in full.

use std::collections::{BTreeSet, HashMap};
use std::ops::{ControlFlow, Range};
use std::rc::Rc;

use zqlite_cidr::{Address, AddressRange};

use crate::engine::{DESTINATION, Engine, Entry, SOURCE};
use crate::filter::merge;
use crate::rows::{Dense, FACTORED, GROUP_SLOTS, Row, RowId, Slot, ones};
use crate::rule::{Rule, RuleId};
use crate::selector::{Label, Selector};
use crate::traffic::Services;

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

/// So many sets are remembered; then it is begun anew.
const REMEMBERED: usize = 256;

impl Engine {
    /// The rules that have no effect at the time `at`, by ascending id. Rules that only several others together shadow
    /// are not among them.
    pub fn unused_rules(&self, at: i64) -> Vec<UnusedRule> {
        let mut audit = Audit { engine: self, live: Dense::default(), naming: HashMap::new(), extents: HashMap::new() };
        let is_live = |slot: &Slot| self.entries.get(*slot).is_some_and(|entry| at < entry.expires_at);
        audit.live = self.enabled.iter().filter(is_live).collect();
        let mut unused: Vec<UnusedRule> = Vec::new();
        for (&rule, &slot) in self.by_rule.iter() {
            let Some(entry) = self.entries.get(slot) else { continue };
            unused.extend(audit.reason(slot, entry).map(|reason| UnusedRule { rule, reason }));
        }
        unused.sort_unstable_by_key(|unused| unused.rule);
        unused
    }

    /// The rules that name `*` or one of these selectors on a side; some may have been removed.
    fn with_any(&self, side: usize, selectors: &[u32]) -> Dense {
        let mut rules = self.sides[side].any.as_ref().clone();
        self.slots(side, selectors).into_iter().for_each(|slot| rules.insert(slot));
        rules
    }
}

struct Audit<'a> {
    engine: &'a Engine,
    /// Rules that are enabled and have not expired.
    live: Dense,
    /// By side, the rules that name a selector or `*`.
    naming: HashMap<(usize, u32), Rc<Dense>>,
    extents: HashMap<Slot, Rc<Extent<'a>>>,
}

impl<'a> Audit<'a> {
    fn reason(&mut self, slot: Slot, entry: &'a Entry) -> Option<UnusedReason> {
        let engine = self.engine;
        if !engine.enabled.contains(slot) {
            return Some(UnusedReason::Disabled);
        }
        if !self.live.contains(slot) {
            return Some(UnusedReason::Expired);
        }
        let rule = &entry.rule;
        let selects = |side: usize, selectors: &[Selector]| {
            selectors.iter().any(|selector| !matches!(selector, Selector::Label(_)))
                || engine.selected(&entry.named[side]).next().is_some()
        };
        let nowhere = !rule.through.is_empty() && engine.selected(&entry.through).next().is_none();
        if nowhere || !selects(SOURCE, &rule.sources) || !selects(DESTINATION, &rule.destinations) {
            return Some(UnusedReason::SelectsNobody);
        }
        self.covering(slot, entry).map(|by| UnusedReason::Shadowed(by.order.1))
    }

    /// The first of the live rules that decides before this one and covers it.
    fn covering(&mut self, slot: Slot, entry: &'a Entry) -> Option<&'a Entry> {
        let engine = self.engine;
        let extent = Extent::of(&entry.rule);
        let mut among = Vec::new();
        for side in [SOURCE, DESTINATION] {
            self.among_sides(side, &extent.sides[side], &mut among);
        }
        let ends = extent.services.ports.0.iter().flat_map(|range| [range.low, range.high]);
        let rows: BTreeSet<RowId> = ends.filter_map(|port| engine.ports.get(port)).collect();
        // Where there is no row, the others must tell.
        let rows = rows.into_iter().filter(|row| *row != FACTORED);
        among.extend(rows.map(|row| Among::Row(engine.rows.view(row), &engine.any_port)));
        let named = (0..=u8::MAX).filter(|protocol| extent.services.has(*protocol));
        let sets: BTreeSet<u16> = named.filter_map(|it| engine.protocols.get(usize::from(it))).copied().collect();
        let sets = sets.into_iter().filter_map(|set| engine.protocol_sets.get(usize::from(set)));
        among.extend(sets.map(|set| Among::Shared(set)));

        // Where slots are in order, the first that covers decides first; in the tail any may.
        let (ordered, end) = (engine.ordered as Slot, engine.entries.len() as Slot);
        let mut best: Option<&Entry> = None;
        for (slots, in_order) in [(0..ordered.min(slot), true), (ordered..end, false)] {
            let live = std::mem::take(&mut self.live);
            let _ = each_common(&among, &live, slots, &mut |at| {
                let Some(other) = engine.entries.get(at) else { return ControlFlow::Continue(()) };
                let first = other.order < best.unwrap_or(entry).order;
                if first && self.extent(at, other).cover(&extent) {
                    best = Some(other);
                }
                if in_order && best.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            self.live = live;
        }
        best
    }

    /// Of which rules those are that select, on a side, all that this one does.
    fn among_sides(&mut self, side: usize, reach: &Reach<'_>, among: &mut Vec<Among<'a>>) {
        let engine = self.engine;
        let any = &engine.sides[side].any;
        if reach.any {
            return among.push(Among::Shared(any));
        }
        for end in reach.addresses.iter().flat_map(|range| [range.first(), range.last()]) {
            among.push(match engine.nobody(side, end).row {
                FACTORED => Among::Set(self.holding(side, end)),
                row => Among::Row(engine.rows.view(row), any),
            });
        }
        for &label in &reach.labels {
            let Some(&id) = engine.by_selector.get(&Selector::Label(label.clone())) else { continue };
            if self.naming.len() >= REMEMBERED {
                self.naming.clear();
            }
            let set = self.naming.entry((side, id)).or_insert_with(|| Rc::new(engine.with_any(side, &[id])));
            among.push(Among::Set(Rc::clone(set)));
        }
    }

    /// The rules that hold an address which has no row.
    fn holding(&self, side: usize, address: Address) -> Rc<Dense> {
        let mut ids = Vec::new();
        self.engine.spans.meeting(zqlite_cidr::Prefix::from(address).into(), &mut |_, id| ids.push(id));
        Rc::new(self.engine.with_any(side, &ids))
    }

    fn extent(&mut self, slot: Slot, entry: &'a Entry) -> Rc<Extent<'a>> {
        Rc::clone(self.extents.entry(slot).or_insert_with(|| Rc::new(Extent::of(&entry.rule))))
    }
}

/// Rules of which those that are looked for must be.
enum Among<'a> {
    /// Those of a row, and others.
    Row(Row<'a>, &'a Dense),
    Shared(&'a Dense),
    Set(Rc<Dense>),
}

impl Among<'_> {
    fn mask(&self, group: usize) -> u64 {
        match self {
            Among::Row(row, others) => row.group(group).mask | others.mask(group),
            Among::Shared(set) => set.mask(group),
            Among::Set(set) => set.mask(group),
        }
    }

    fn word(&self, word: usize) -> u64 {
        match self {
            Among::Row(row, others) => row.group(word / 64).word(word % 64) | others.word(word),
            Among::Shared(set) => set.word(word),
            Among::Set(set) => set.word(word),
        }
    }
}

/// Visits the live slots that are in all of these, ascending, within `slots`.
fn each_common(
    among: &[Among<'_>],
    live: &Dense,
    slots: Range<Slot>,
    visit: &mut impl FnMut(Slot) -> ControlFlow<()>,
) -> ControlFlow<()> {
    for group in slots.start as usize / GROUP_SLOTS..(slots.end as usize).div_ceil(GROUP_SLOTS) {
        let mask = among.iter().fold(live.mask(group), |mask, set| if mask == 0 { 0 } else { mask & set.mask(group) });
        for at in ones(mask) {
            let word = 64 * group + at;
            let bits =
                among.iter().fold(live.word(word), |bits, set| if bits == 0 { 0 } else { bits & set.word(word) });
            for bit in ones(bits) {
                let slot = (64 * word + bit) as Slot;
                if slots.contains(&slot) {
                    visit(slot)?;
                }
            }
        }
    }
    ControlFlow::Continue(())
}

/// Where a rule matches, in a form that is quickly compared.
struct Extent<'a> {
    rule: &'a Rule,
    sides: [Reach<'a>; 2],
    services: Services,
}

/// One side of it.
struct Reach<'a> {
    any: bool,
    /// Ascending.
    labels: Vec<&'a Label>,
    /// Ascending; no two overlap or touch.
    addresses: Vec<AddressRange>,
}

impl<'a> Extent<'a> {
    fn of(rule: &'a Rule) -> Self {
        let sides = [&rule.sources, &rule.destinations].map(|selectors| Reach::of(selectors));
        Self { rule, sides, services: Services::of(rule) }
    }

    /// Whether the rule matches wherever the other does.
    fn cover(&self, other: &Extent<'_>) -> bool {
        let (outer, inner) = (self.rule, other.rule);
        let through = |label| outer.through.contains(label);
        (inner.same_owner || !outer.same_owner)
            && (outer.family.is_none() || outer.family == inner.family)
            && (outer.through.is_empty() || !inner.through.is_empty() && inner.through.iter().all(through))
            && self.services.cover(&other.services)
            && self.sides.iter().zip(&other.sides).all(|(outer, inner)| outer.cover(inner))
    }
}

impl<'a> Reach<'a> {
    fn of(selectors: &'a [Selector]) -> Self {
        let mut labels: Vec<&Label> = Vec::new();
        for selector in selectors {
            if let Selector::Label(label) = selector {
                labels.push(label);
            }
        }
        labels.sort_unstable();
        let addresses = merge(selectors.iter().filter_map(Selector::addresses).collect());
        Self { any: selectors.contains(&Selector::Any), labels, addresses }
    }

    fn cover(&self, other: &Reach<'_>) -> bool {
        let held = |range: &AddressRange| {
            let next = self.addresses.partition_point(|outer| outer.last() < range.first());
            self.addresses.get(next).is_some_and(|outer| outer.first() <= range.first() && range.last() <= outer.last())
        };
        self.any
            || !other.any
                && other.labels.iter().all(|label| self.labels.binary_search(label).is_ok())
                && other.addresses.iter().all(held)
    }
}

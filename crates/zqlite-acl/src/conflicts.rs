//! Pairs of rules that only their action tells apart.
//!
//! Of all allows of its priority a deny may meet few by protocols and ports, few by sources, or few by destinations. Those that it
//! meets by the fewest are gone through.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use zqlite_cidr::{Address, AddressRange};

use crate::engine::{DESTINATION, Engine, Entry, SOURCE};
use crate::filter::merge;
use crate::rows::Dense;
use crate::rule::{Action, Rule, RuleId};
use crate::selector::Selector;
use crate::spans::Spans;
use crate::traffic::Services;

/// An allow and a deny of equal priority that can match the same traffic. The deny decides, whoever meant what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conflict {
    /// The rule that decides.
    pub deny: RuleId,
    /// The rule that does not.
    pub allow: RuleId,
}

/// What is known of so many lists of selectors is remembered; then it is begun anew.
const REMEMBERED: usize = 256;

/// A rule with more combinations of protocols and ranges of ports is only found by its ports.
const COMBINATIONS: usize = 16;

/// The selectors of more classes than these are put together.
const FEW_CLASSES: usize = 8;

/// So few are gone through without looking for fewer.
const FEW: usize = 16;

impl Engine {
    /// Pairs of an allow and a deny of equal priority that can match the same traffic at the time `at`, ascending; at
    /// most `limit` of them. Two labels can meet when a peer bears both.
    ///
    /// There can be as many pairs as allows times denies; looking for them ends with the deny that reaches the limit.
    pub fn conflicts(&self, at: i64, limit: usize) -> Vec<Conflict> {
        let (mut denies, mut allows) = (Vec::new(), HashMap::<i32, Vec<&Entry>>::new());
        let live = self.enabled.iter().filter_map(|slot| self.entries.get(slot));
        for entry in live.filter(|entry| at < entry.expires_at) {
            match entry.rule.action {
                Action::Deny => denies.push(entry),
                Action::Allow => allows.entry(entry.rule.priority).or_default().push(entry),
            }
        }
        let mut indexes: HashMap<i32, Allows<'_>> = HashMap::new();
        let mut known = HashMap::new();
        let mut conflicts: Vec<Conflict> = Vec::new();
        denies.sort_unstable_by_key(|entry| entry.order.1);
        for deny in denies {
            if conflicts.len() >= limit {
                break;
            }
            let priority = deny.rule.priority;
            let Some(candidates) = allows.get(&priority) else { continue };
            let index = indexes.entry(priority).or_insert_with(|| Allows::new(candidates));
            let services = Services::of(&deny.rule);
            let by_service = index.count(&services);
            if by_service == 0 {
                continue;
            }
            let whom = [SOURCE, DESTINATION].map(|side| self.whom(side, deny, &mut known));
            let mut met: Vec<RuleId> = Vec::new();
            let mut look = |place: u32| {
                if let Some((allow, theirs)) = index.rules.get(place as usize)
                    && theirs.meet(&services)
                    && whom.iter().enumerate().all(|(side, whom)| whom.meets(self, side, allow))
                {
                    met.push(allow.order.1);
                }
            };
            let sides = [SOURCE, DESTINATION].into_iter().filter(|_| by_service > FEW);
            let fewest = sides.map(|side| (index.sides[side].count(self, &whom[side]), side)).min();
            match fewest.filter(|(count, _)| *count < by_service) {
                Some((_, side)) => index.sides[side].meeting(self, &whom[side], &mut look),
                None => index.meeting(&services, &mut look),
            }
            met.sort_unstable();
            met.dedup();
            conflicts.extend(met.into_iter().map(|allow| Conflict { deny: deny.order.1, allow }));
        }
        conflicts.truncate(limit);
        conflicts
    }

    fn whom<'a>(&self, side: usize, entry: &'a Entry, known: &mut Known<'a>) -> Rc<Whom> {
        if known.len() >= REMEMBERED {
            known.clear();
        }
        let selectors = selectors(&entry.rule, side);
        let any = selectors.contains(&Selector::Any);
        let named = &entry.named[side];
        let whom = known.entry((side, any, named)).or_insert_with(|| {
            let mut classes: Vec<u32> = self.selected(named).collect();
            classes.sort_unstable();
            classes.dedup();
            let mut ids: Dense = named.iter().copied().collect();
            if classes.len() > FEW_CLASSES {
                for class in classes.drain(..).filter_map(|index| self.classes.get(index)) {
                    class.signature.selectors.iter().for_each(|&id| ids.insert(id));
                }
            }
            let addresses = merge(selectors.iter().filter_map(Selector::addresses).collect());
            Rc::new(Whom { any, ids, classes, addresses })
        });
        Rc::clone(whom)
    }
}

/// By side, whether there is `*`, and the other selectors.
type Known<'a> = HashMap<(usize, bool, &'a [u32]), Rc<Whom>>;

fn selectors(rule: &Rule, side: usize) -> &[Selector] {
    if side == SOURCE { &rule.sources } else { &rule.destinations }
}

/// What one side of a rule can meet.
struct Whom {
    any: bool,
    /// Selectors of which each selects what this side does, or a peer that it does, but for those of `classes`.
    ids: Dense,
    /// Few classes, each of which many selectors may select.
    classes: Vec<u32>,
    /// Ascending; no two overlap or touch.
    addresses: Vec<AddressRange>,
}

impl Whom {
    /// The selectors that select each class, ascending.
    fn of_classes<'a>(&'a self, engine: &'a Engine) -> impl Iterator<Item = &'a [u32]> {
        self.classes
            .iter()
            .filter_map(|&index| engine.classes.get(index))
            .map(|class| class.signature.selectors.as_ref())
    }

    fn meets(&self, engine: &Engine, side: usize, other: &Entry) -> bool {
        let meets = |range: AddressRange| {
            let next = self.addresses.partition_point(|own| own.last() < range.first());
            self.addresses.get(next).is_some_and(|own| own.first() <= range.last())
        };
        let others = selectors(&other.rule, side);
        self.any
            || others.contains(&Selector::Any)
            || other.named[side]
                .iter()
                .any(|id| self.ids.contains(*id) || self.of_classes(engine).any(|it| it.binary_search(id).is_ok()))
            || others.iter().filter_map(Selector::addresses).any(meets)
    }
}

/// Allows of one priority, to be found by protocol and port and by whom they select. Each is known by its place.
struct Allows<'a> {
    rules: Vec<(&'a Entry, Services)>,
    /// Protocols and ports of those that name few protocols.
    naming: Ranges,
    /// Ports of all others.
    others: Ranges,
    /// Ports of all.
    all: Ranges,
    sides: [Side; 2],
}

impl<'a> Allows<'a> {
    fn new(allows: &[&'a Entry]) -> Self {
        let (mut naming, mut others, mut all) = (Vec::new(), Vec::new(), Vec::new());
        let mut rules = Vec::with_capacity(allows.len());
        for (place, &entry) in (0..).zip(allows) {
            let services = Services::of(&entry.rule);
            let ports = || services.ports.0.iter().filter_map(|range| numbers(0, range.low, range.high));
            all.extend(ports().map(|range| (range, place)));
            match combinations(&services) {
                Some(few) => naming.extend(few.into_iter().map(|range| (range, place))),
                None => others.extend(ports().map(|range| (range, place))),
            }
            rules.push((entry, services));
        }
        let [naming, others, all] = [naming, others, all].map(Ranges::new);
        let sides = [SOURCE, DESTINATION].map(|side| Side::new(side, allows));
        Self { rules, naming, others, all, sides }
    }

    /// By which ranges of which rules are those found that meet these services?
    fn search(&self, services: &Services, mut ask: impl FnMut(&Ranges, AddressRange)) {
        let few = combinations(services);
        for range in services.ports.0.iter().filter_map(|range| numbers(0, range.low, range.high)) {
            ask(if few.is_some() { &self.others } else { &self.all }, range);
        }
        few.into_iter().flatten().for_each(|range| ask(&self.naming, range));
    }

    /// How many [`meeting`](Self::meeting) visits.
    fn count(&self, services: &Services) -> usize {
        let mut count = 0;
        self.search(services, |ranges, range| count += ranges.count(range));
        count
    }

    /// Visits those that may meet these services, some several times.
    fn meeting(&self, services: &Services, visit: &mut impl FnMut(u32)) {
        self.search(services, |ranges, range| ranges.spans.meeting(range, &mut |_, place| visit(place)));
    }
}

/// The places of rules by what they select on a side.
struct Side {
    rules: u32,
    any: Vec<u32>,
    naming: HashMap<u32, Vec<u32>>,
    addresses: Ranges,
    /// How many of the rules name selectors of a class.
    of_class: RefCell<HashMap<u32, usize>>,
}

impl Side {
    fn new(side: usize, rules: &[&Entry]) -> Self {
        let (mut any, mut naming, mut addresses) = (Vec::new(), HashMap::<u32, Vec<u32>>::new(), Vec::new());
        for (place, entry) in (0..).zip(rules) {
            let selectors = selectors(&entry.rule, side);
            if selectors.contains(&Selector::Any) {
                any.push(place);
            }
            entry.named[side].iter().for_each(|&id| naming.entry(id).or_default().push(place));
            addresses.extend(selectors.iter().filter_map(Selector::addresses).map(|range| (range, place)));
        }
        Self { rules: rules.len() as u32, any, naming, addresses: Ranges::new(addresses), of_class: RefCell::default() }
    }

    /// How many [`meeting`](Self::meeting) visits.
    fn count(&self, engine: &Engine, whom: &Whom) -> usize {
        if whom.any {
            return self.rules as usize;
        }
        let of = |id: &u32| self.naming.get(id).map_or(0, Vec::len);
        let mut naming: usize = whom.ids.iter().map(|id| of(&id)).sum();
        let mut known = self.of_class.borrow_mut();
        for (&class, ids) in whom.classes.iter().zip(whom.of_classes(engine)) {
            naming += *known.entry(class).or_insert_with(|| ids.iter().map(of).sum());
        }
        let addresses: usize = whom.addresses.iter().map(|&range| self.addresses.count(range)).sum();
        self.any.len() + naming + addresses
    }

    /// Visits those that this side of a rule can meet, some several times.
    fn meeting(&self, engine: &Engine, whom: &Whom, visit: &mut impl FnMut(u32)) {
        if whom.any {
            return (0..self.rules).for_each(visit);
        }
        let of_classes = whom.of_classes(engine).flatten().copied();
        let naming = whom.ids.iter().chain(of_classes).filter_map(|id| self.naming.get(&id)).flatten();
        self.any.iter().chain(naming).for_each(|&place| visit(place));
        for &range in &whom.addresses {
            self.addresses.spans.meeting(range, &mut |_, place| visit(place));
        }
    }
}

/// Protocols with ports as ranges of numbers, if they are few.
fn combinations(services: &Services) -> Option<Vec<AddressRange>> {
    let protocols: u32 = services.protocols.iter().map(|bits| bits.count_ones()).sum();
    if protocols as usize * services.ports.0.len() > COMBINATIONS {
        return None;
    }
    let protocols = (0..=u8::MAX).filter(|protocol| services.has(*protocol));
    let ports = |protocol| services.ports.0.iter().filter_map(move |range| numbers(protocol, range.low, range.high));
    Some(protocols.flat_map(ports).collect())
}

/// A protocol and its ports as numbers of 24 bits, for which IPv4 addresses stand.
fn numbers(protocol: u8, low: u16, high: u16) -> Option<AddressRange> {
    let number = |port: u16| Address::v4(u32::from(protocol) << 16 | u32::from(port));
    AddressRange::new(number(low), number(high)).ok()
}

/// Ranges that are counted before they are visited.
struct Ranges {
    spans: Spans,
    firsts: Vec<Address>,
    lasts: Vec<Address>,
}

impl Ranges {
    fn new(ranges: Vec<(AddressRange, u32)>) -> Self {
        let mut firsts: Vec<Address> = ranges.iter().map(|(range, _)| range.first()).collect();
        let mut lasts: Vec<Address> = ranges.iter().map(|(range, _)| range.last()).collect();
        firsts.sort_unstable();
        lasts.sort_unstable();
        Self { spans: Spans::new(ranges), firsts, lasts }
    }

    /// How many meet a range: those that have begun by its end, but not ended before it.
    fn count(&self, range: AddressRange) -> usize {
        let begun = self.firsts.partition_point(|first| *first <= range.last());
        begun - self.lasts.partition_point(|last| *last < range.first())
    }
}

//! Pairs of rules that only their action tells apart.
//!
//! A deny meets few rules by its protocols and ports, or few by whom it selects. Those that meet it by the fewer of both are looked at.

use std::collections::HashMap;
use std::rc::Rc;

use zqlite_cidr::{Address, AddressRange};

use crate::engine::{DESTINATION, Engine, Entry, SOURCE};
use crate::rows::{Dense, Slot, ones};
use crate::rule::{Action, RuleId};
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

/// So many sets are remembered; then it is begun anew.
const REMEMBERED: usize = 256;

/// A rule with more combinations of protocols and ranges of ports is only found by its ports.
const COMBINATIONS: usize = 16;

impl Engine {
    /// Pairs of an allow and a deny of equal priority that can match the same traffic at the time `at`, ascending; at
    /// most `limit` of them. Two labels can meet when a peer bears both.
    ///
    /// There can be as many pairs as allows times denies, and all of them are found where `limit` lets them.
    pub fn conflicts(&self, at: i64, limit: usize) -> Vec<Conflict> {
        let live = self.enabled.iter().filter_map(|slot| self.entries.get(slot).map(|entry| (slot, entry)));
        let (mut denies, mut allows) = (Vec::new(), HashMap::<i32, Vec<(Slot, &Entry)>>::new());
        for (slot, entry) in live.filter(|(_, entry)| at < entry.expires_at) {
            match entry.rule.action {
                Action::Deny => denies.push(entry),
                Action::Allow => allows.entry(entry.rule.priority).or_default().push((slot, entry)),
            }
        }
        let mut indexes: HashMap<i32, Allows> = HashMap::new();
        let mut meetings = Meetings { engine: self, known: HashMap::new() };
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
            let [sources, destinations] = [SOURCE, DESTINATION].map(|side| meetings.of(side, deny));
            let fewest = [&sources, &destinations].into_iter().flatten().min_by_key(|set| set.count);
            let mut met: Vec<RuleId> = Vec::new();
            let mut look = |slot: Slot| {
                let meets = |set: &Option<Rc<Meeting>>| set.as_ref().is_none_or(|set| set.slots.contains(slot));
                if meets(&sources)
                    && meets(&destinations)
                    && let Some((id, theirs)) = index.services.get(&slot)
                    && theirs.meet(&services)
                {
                    met.push(*id);
                }
            };
            match fewest.filter(|set| set.count < by_service) {
                Some(set) => {
                    let other =
                        if sources.as_ref().is_some_and(|it| Rc::ptr_eq(it, set)) { &destinations } else { &sources };
                    each_common(&set.slots, other.as_ref().map(|other| &other.slots), &mut look);
                }
                None => index.meeting(&services, &mut look),
            }
            met.sort_unstable();
            met.dedup();
            conflicts.extend(met.into_iter().map(|allow| Conflict { deny: deny.order.1, allow }));
        }
        conflicts.truncate(limit);
        conflicts
    }

    /// The rules that name `*` or one of these selectors on a side; some may have been removed.
    pub(crate) fn with_any(&self, side: usize, selectors: &[u32]) -> Dense {
        let mut rules = self.sides[side].any.as_ref().clone();
        self.slots(side, selectors).into_iter().for_each(|slot| rules.insert(slot));
        rules
    }
}

fn each_common(some: &Dense, others: Option<&Dense>, visit: &mut impl FnMut(Slot)) {
    for (group, &mask) in some.masks.iter().enumerate() {
        for at in ones(mask & others.map_or(u64::MAX, |others| others.mask(group))) {
            let word = 64 * group + at;
            let bits = some.word(word) & others.map_or(u64::MAX, |others| others.word(word));
            ones(bits).for_each(|bit| visit((64 * word + bit) as Slot));
        }
    }
}

/// Rules that can match what another does on a side.
struct Meeting {
    slots: Dense,
    count: usize,
}

/// By side and the selectors that a rule names there.
struct Meetings<'a> {
    engine: &'a Engine,
    known: HashMap<(usize, &'a [u32]), Rc<Meeting>>,
}

impl<'a> Meetings<'a> {
    /// `None` is all rules.
    fn of(&mut self, side: usize, entry: &'a Entry) -> Option<Rc<Meeting>> {
        let selectors = if side == SOURCE { &entry.rule.sources } else { &entry.rule.destinations };
        if selectors.contains(&crate::Selector::Any) {
            return None;
        }
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let engine = self.engine;
        let meeting = self.known.entry((side, &entry.named[side])).or_insert_with(|| {
            let mut ids: Dense = entry.named[side].iter().copied().collect();
            // What else selects a peer that this one selects.
            for class in engine.selected(&entry.named[side]).filter_map(|index| engine.classes.get(index)) {
                class.signature.selectors.iter().for_each(|&id| ids.insert(id));
            }
            for range in selectors.iter().filter_map(crate::Selector::addresses) {
                engine.spans.meeting(range, &mut |_, id| ids.insert(id));
            }
            let slots = engine.with_any(side, &ids.iter().collect::<Vec<_>>());
            let count = slots.words.iter().map(|word| word.count_ones() as usize).sum();
            Rc::new(Meeting { slots, count })
        });
        Some(Rc::clone(meeting))
    }
}

/// Allows of one priority, to be found by protocol and port.
struct Allows {
    services: HashMap<Slot, (RuleId, Services)>,
    /// Those that name few protocols.
    naming: Ranges,
    /// All others.
    others: Ranges,
    all: Ranges,
}

impl Allows {
    fn new(allows: &[(Slot, &Entry)]) -> Self {
        let mut services = HashMap::new();
        let (mut naming, mut others, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for &(slot, entry) in allows {
            let of = Services::of(&entry.rule);
            let ports = || of.ports.0.iter().filter_map(|range| numbers(0, range.low, range.high));
            all.extend(ports().map(|range| (range, slot)));
            match combinations(&of) {
                Some(few) => naming.extend(few.into_iter().map(|range| (range, slot))),
                None => others.extend(ports().map(|range| (range, slot))),
            }
            services.insert(slot, (entry.order.1, of));
        }
        let [naming, others, all] = [naming, others, all].map(Ranges::new);
        Self { services, naming, others, all }
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
    fn meeting(&self, services: &Services, visit: &mut impl FnMut(Slot)) {
        self.search(services, |ranges, range| ranges.spans.meeting(range, &mut |_, slot| visit(slot)));
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
    fn new(ranges: Vec<(AddressRange, Slot)>) -> Self {
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

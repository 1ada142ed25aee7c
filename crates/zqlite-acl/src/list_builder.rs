//! Makes [`Lists`] and [`NameLists`] of the rules in order.

use std::collections::HashMap;

use ahash::RandomState;
use zqlite_cidr::{AddressRange, Family};

use crate::engine::{DESTINATION, Engine, SOURCE};
use crate::lanes::{Scalar, level};
use crate::lists::{Any, Half, Head, LONG_ANY, Lists, Made, NEARBY, RICHER, service};
use crate::names::NameLists;
use crate::ranks::Ranks;
use crate::rows::Slot;
use crate::rule::{Rule, RuleId};
use crate::store::{ALL, ALONE, Item, List, Range, Store};

/// A rule takes at most this many items in the list of one selector; else one that is [`RICHER`].
const MANY: usize = 16;

/// An interval that more selectors hold has no lists.
const SELECTORS: usize = 24;

/// Lists of rules with `*` are crossed when that makes at most so many lists, and items, for each rule.
const CROSSED: usize = 4;

/// Lists under construction.
struct Builder<'a> {
    engine: &'a Engine,
    /// By selector and side: the intervals that it holds.
    held: [Vec<Option<Range>>; 2],
    /// By side: how many intervals there are.
    intervals: [usize; 2],
    /// Whether who has no owner is asked about, to whom rules that compare owners say nothing.
    ownerless: bool,
    store: Store,
    /// Numbers that the lists may take, with what is beside them.
    room: usize,
    beside: usize,
    /// Items that were gathered for lists of rules with `*`.
    copied: usize,
}

impl Made for Lists {
    fn make(engine: &Engine) -> Option<Self> {
        let room = engine.options.row_memory.saturating_sub(engine.row_bytes());
        let mut this = unmerged(engine, room)?;
        this.merge(room.min(NEARBY).saturating_sub(this.taken()));
        this.bytes = this.taken();
        (this.bytes <= room).then_some(this)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Lists of the selectors of each interval, of at most so many bytes.
pub(crate) fn unmerged(engine: &Engine, room: usize) -> Option<Lists> {
    let (mut builder, ranks) = Builder::of_addresses(engine, room);
    if !builder.has_room() {
        return None;
    }
    let both = builder.any_both()?;
    let [source, destination] = ranks;
    let (source, sources) = builder.half(SOURCE, source)?;
    let (destination, destinations) = builder.half(DESTINATION, destination)?;
    let mut halves = [source, destination];
    let any = builder.any([sources, destinations], both, &mut halves);
    builder.store.numbers.shrink_to_fit();
    builder.store.turned.shrink_to_fit();
    Some(Lists { level: level(), halves, any, store: builder.store, ids: ids(engine), bytes: 0 })
}

impl Lists {
    /// Bytes that they take.
    fn taken(&self) -> usize {
        let half = |half: &Half| {
            half.ranks.bytes() + half.heads.capacity() * size_of::<Head>() + half.lists.capacity() * size_of::<List>()
        };
        self.halves.iter().map(half).sum::<usize>() + self.any.bytes() + self.store.bytes() + 8 * self.ids.capacity()
    }
}

impl Made for NameLists {
    fn make(engine: &Engine) -> Option<Self> {
        let room = engine.options.row_memory.saturating_sub(engine.row_bytes());
        let count = engine.selectors.len();
        // A selector is found by its number: an interval of its own.
        let held = [SOURCE, DESTINATION].map(|_| (0..count as u32).map(|id| Some((id, 0))).collect());
        let mut builder = Builder {
            engine,
            held,
            intervals: [count; 2],
            ownerless: false,
            store: Store::new(),
            room: numbers(room),
            beside: 4 * count * size_of::<List>() / size_of::<u32>(),
            copied: 0,
        };
        let any_both = builder.any_both()?;
        let any_both = builder.store.put(&any_both, ALONE);
        let mut any = [const { Vec::new() }; 2];
        let mut paired = [const { Vec::new() }; 2];
        for side in [SOURCE, DESTINATION] {
            for id in 0..count as u32 {
                let (with_other, without) = builder.items(side, id);
                paired[side].push(builder.put_paired(&with_other, count));
                let is_long = without.len() > LONG_ANY;
                any[side].push(if is_long {
                    List { at: 0, len: Head::NONE }
                } else {
                    builder.store.put(&without, ALONE)
                });
                if !builder.has_room() {
                    return None;
                }
            }
        }
        let ids = ids(engine);
        let mut this = Self { level: level(), paired, any, any_both, store: builder.store, ids, bytes: 0 };
        this.bytes = 4 * count * size_of::<List>() + this.store.bytes() + 8 * this.ids.capacity();
        (this.bytes <= room).then_some(this)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// How many numbers so many bytes are, and can be found by an offset.
fn numbers(bytes: usize) -> usize {
    (bytes / size_of::<u32>()).min(u32::MAX as usize)
}

/// The ids of the rules in order.
fn ids(engine: &Engine) -> Vec<RuleId> {
    (0..engine.ordered as Slot).map(|slot| engine.rule_in(slot).map_or(0, |rule| rule.id)).collect()
}

impl Half {
    /// Sets the lists of rules with `*`, of which each head has the number.
    fn set_any(&mut self, list: impl Fn(u32) -> Option<List>) {
        for head in self.heads.iter_mut().filter(|head| head.any.len != Head::NONE) {
            head.any = list(head.any.at).unwrap_or_default();
        }
    }
}

impl<'a> Builder<'a> {
    /// For lists by intervals of addresses, which both sides have.
    fn of_addresses(engine: &'a Engine, room: usize) -> (Self, [Ranks; 2]) {
        let mut ranges: Vec<Option<AddressRange>> = vec![None; engine.selectors.len()];
        for (selector, &id) in engine.by_selector.iter() {
            if let Some(range) = ranges.get_mut(id as usize) {
                *range = selector.addresses();
            }
        }
        let ranks = [SOURCE, DESTINATION].map(|side| {
            let (mut v4, mut v6) = (Vec::new(), Vec::new());
            for (id, range) in ranges.iter().enumerate() {
                let Some(range) = range.filter(|_| uses(engine, side, id as u32).next().is_some()) else { continue };
                let (first, last) = (range.first().bits(), range.last().bits());
                match range.first().family() {
                    Family::V4 => v4.extend([Some(first as u32), (last as u32).checked_add(1)].into_iter().flatten()),
                    Family::V6 => v6.extend([Some(first), last.checked_add(1)].into_iter().flatten()),
                }
            }
            Ranks::new(v4, v6)
        });
        let held = [SOURCE, DESTINATION].map(|side| {
            let hold = |(id, range): (usize, &Option<AddressRange>)| {
                let range = range.filter(|_| uses(engine, side, id as u32).next().is_some())?;
                let first = ranks[side].of(Scalar, range.first());
                Some((first, ranks[side].of(Scalar, range.last()) - first))
            };
            ranges.iter().enumerate().map(hold).collect()
        });
        let intervals = [ranks[SOURCE].len(), ranks[DESTINATION].len()];
        let bytes = ranks.iter().map(|ranks| ranks.bytes() + ranks.len() * size_of::<Head>()).sum::<usize>();
        let (room, beside) = (numbers(room), bytes / size_of::<u32>());
        (Builder { engine, held, intervals, ownerless: true, store: Store::new(), room, beside, copied: 0 }, ranks)
    }

    fn has_room(&self) -> bool {
        self.store.numbers.len() + self.store.turned.len() + ALONE * self.copied + self.beside <= self.room
    }

    fn put_paired(&mut self, items: &[Item], intervals: usize) -> List {
        self.store.put_paired(items, intervals, self.room.saturating_sub(self.beside))
    }

    /// The lists of a side, and those of its rules with `*` on the other side, of which each head has the number in place of the
    /// list; `None` when there is no room.
    fn half(&mut self, side: usize, ranks: Ranks) -> Option<(Half, Vec<Vec<Item>>)> {
        let count = self.held[side].len();
        let mut paired: Vec<List> = vec![List::default(); count];
        let mut any: Vec<Vec<Item>> = vec![Vec::new(); count];
        let mut events: Vec<(u32, bool, u32)> = Vec::new();
        for id in 0..count as u32 {
            let Some((first, following)) = self.held[side][id as usize] else { continue };
            let (with_other, without) = self.items(side, id);
            if with_other.is_empty() && without.is_empty() {
                continue;
            }
            paired[id as usize] = self.put_paired(&with_other, self.intervals[1 - side]);
            any[id as usize] = without;
            events.push((first, true, id));
            events.push((first + following + 1, false, id));
            if !self.has_room() {
                return None;
            }
        }
        events.sort_unstable();
        let mut heads = Vec::with_capacity(ranks.len());
        let mut lists: Vec<List> = Vec::new();
        let mut known: HashMap<Box<[u32]>, Head, RandomState> = HashMap::default();
        let mut alone: Vec<Vec<Item>> = Vec::new();
        let mut known_alone: HashMap<Box<[u32]>, List, RandomState> = HashMap::default();
        let mut holding: Vec<u32> = Vec::new();
        let mut place: Vec<u32> = vec![0; count];
        let mut events = events.into_iter().peekable();
        for rank in 0..ranks.len() as u32 {
            let mut changed = rank == 0;
            while let Some((_, begins, id)) = events.next_if(|event| event.0 == rank) {
                changed = true;
                if begins {
                    place[id as usize] = holding.len() as u32;
                    holding.push(id);
                } else {
                    let at = place[id as usize] as usize;
                    holding.swap_remove(at);
                    if let Some(&moved) = holding.get(at) {
                        place[moved as usize] = at as u32;
                    }
                }
            }
            if !changed {
                heads.push(heads.last().copied().unwrap_or(Head::EMPTY));
                continue;
            }
            if holding.len() > SELECTORS {
                heads.push(Head::MISSING);
                continue;
            }
            let mut key = holding.clone();
            key.sort_unstable();
            let head = match known.get(key.as_slice()) {
                Some(head) => *head,
                None => {
                    let of: Vec<u32> = key.iter().copied().filter(|&id| !any[id as usize].is_empty()).collect();
                    let any = *known_alone.entry(of.as_slice().into()).or_insert_with(|| {
                        // Before any is copied: many sets may share a selector that has many.
                        if of.iter().map(|&id| any[id as usize].len()).sum::<usize>() > LONG_ANY {
                            return List { at: 0, len: Head::NONE };
                        }
                        let mut items: Vec<Item> = of.iter().flat_map(|&id| any[id as usize].iter().copied()).collect();
                        self.copied += items.len();
                        items.sort_by_key(|item| item.mark);
                        alone.push(items);
                        List { at: alone.len() as u32 - 1, len: 0 }
                    });
                    let from = lists.len();
                    lists.extend(key.iter().map(|&id| paired[id as usize]).filter(|list| list.len > 0));
                    let items = lists[from..].iter().fold(0u32, |sum, list| sum.saturating_add(list.cost()));
                    let head = Head { lists: from as u32, count: (lists.len() - from) as u32, items, any };
                    // The lists, the key, and what a map takes for it.
                    self.beside += 2 * head.count as usize + key.len() + 16;
                    known.insert(key.into(), head);
                    head
                }
            };
            heads.push(head);
            if !self.has_room() {
                return None;
            }
        }
        lists.shrink_to_fit();
        Some((Half { ranks, heads, lists }, alone))
    }

    /// Rules with `*` on one side or both: crossed, where that takes little memory. In place of the numbers of their lists the heads
    /// get what [`Any`] wants.
    fn any(&mut self, alone: [Vec<Vec<Item>>; 2], both: Vec<Item>, halves: &mut [Half; 2]) -> Any {
        let counts = alone.each_ref().map(Vec::len);
        let sums = alone.each_ref().map(|lists| lists.iter().map(Vec::len).sum::<usize>());
        let pairs = counts[SOURCE] * counts[DESTINATION];
        let items = counts[DESTINATION] * sums[SOURCE] + counts[SOURCE] * sums[DESTINATION] + pairs * both.len();
        // Half of the room stays for lists as they are.
        let room = self.store.numbers.len() + self.store.turned.len() + ALONE * items + 2 * pairs + self.beside
            <= self.room / 2;
        if !room || items.max(pairs) > CROSSED * self.engine.ordered {
            for (half, lists) in halves.iter_mut().zip(alone) {
                let lists: Vec<List> = lists.iter().map(|items| self.store.put(items, ALONE)).collect();
                half.set_any(|number| lists.get(number as usize).copied());
            }
            return Any::Apart(self.store.put(&both, ALONE));
        }
        let [sources, destinations] = alone;
        let mut crossed = Vec::with_capacity(pairs);
        for source in &sources {
            for destination in &destinations {
                let mut items: Vec<Item> = both.iter().chain(source).chain(destination).copied().collect();
                items.sort_by_key(|item| item.mark);
                crossed.push(self.store.put(&items, ALONE));
            }
        }
        let row = destinations.len() as u32;
        halves[SOURCE].set_any(|number| Some(List { at: number * row, len: 0 }));
        Any::Crossed(crossed)
    }

    /// Rules with `*` on both sides; `None` when they are many.
    fn any_both(&self) -> Option<Vec<Item>> {
        let engine = self.engine;
        let slots = engine.any_both.iter().filter(|slot| (*slot as usize) < engine.ordered);
        let rules = slots.filter_map(|slot| Some((slot, engine.rule_in(slot)?)));
        let items: Vec<Item> = rules.flat_map(|(slot, rule)| self.alone(slot, rule)).collect();
        (items.len() <= LONG_ANY).then_some(items)
    }

    /// The items of a rule without the other side.
    fn alone(&self, slot: Slot, rule: &Rule) -> Vec<Item> {
        if rule.same_owner && self.ownerless {
            return Vec::new();
        }
        match services(rule).filter(|services| services.len() <= MANY) {
            Some(services) => {
                let mark = mark(slot, !rule.same_owner);
                services.into_iter().map(|service| Item { other: ALL, service, mark }).collect()
            }
            None => vec![Item { other: ALL, service: ALL, mark: mark(slot, false) }],
        }
    }

    /// The items of a selector's rules, with and without the other side.
    fn items(&self, side: usize, id: u32) -> (Vec<Item>, Vec<Item>) {
        let engine = self.engine;
        let (mut paired, mut any) = (Vec::new(), Vec::new());
        for slot in uses(engine, side, id) {
            let (Some(entry), Some(rule)) = (engine.entries.get(slot), engine.rule_in(slot)) else { continue };
            // A rule with `*` here as well stands elsewhere.
            if engine.sides[side].any.contains(slot) || (rule.same_owner && self.ownerless) {
                continue;
            }
            if engine.sides[1 - side].any.contains(slot) {
                any.extend(self.alone(slot, rule));
                continue;
            }
            let others = entry.named[1 - side].iter().filter_map(|&id| self.held[1 - side][id as usize]);
            let (services, exact) = services(rule).map_or((vec![ALL], false), |services| (services, true));
            let others: Vec<Range> = others.take(MANY + 1).collect();
            if others.len() * services.len() > MANY {
                paired.push(Item { other: ALL, service: ALL, mark: mark(slot, false) });
                continue;
            }
            let mark = mark(slot, exact && !rule.same_owner);
            paired.extend(
                others.into_iter().flat_map(|other| services.iter().map(move |&service| Item { other, service, mark })),
            );
        }
        (paired, any)
    }
}

/// The rules in order that name a selector on a side, ascending.
fn uses(engine: &Engine, side: usize, selector: u32) -> impl Iterator<Item = Slot> + '_ {
    let all = engine.selectors.get(selector).into_iter().flat_map(move |named| named.uses[side].iter().copied());
    all.filter(|slot| (*slot as usize) < engine.ordered)
}

/// How a rule stands in lists, and whether what stands beside it says all of it.
fn mark(slot: Slot, exact: bool) -> u32 {
    slot << 1 | if exact { 0 } else { RICHER }
}

/// The [services](service) of a rule as ranges; `None` when that is not all it takes.
fn services(rule: &Rule) -> Option<Vec<Range>> {
    if !rule.through.is_empty() || rule.family.is_some() {
        return None;
    }
    if rule.protocols.is_empty() {
        return rule.ports.is_empty().then(|| vec![ALL]);
    }
    if rule.protocols.len().saturating_mul(rule.ports.len()) > MANY {
        return None;
    }
    let of = |&protocol: &u8| {
        let whole = rule.ports.is_empty().then(|| (service(protocol, 0), u32::from(u16::MAX)));
        let parts =
            rule.ports.iter().map(move |range| (service(protocol, range.low), u32::from(range.high - range.low)));
        whole.into_iter().chain(parts)
    };
    Some(rule.protocols.iter().flat_map(of).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

    use super::*;
    use crate::rule::{Action, PortRange};

    /// `count` rules of one large network, with a port each and `*` as destination, and as many of an address each.
    fn many_of_one_network(count: u16, destination: &str) -> Engine {
        let rule = |id: u16, source: String, destination: &str, port: u16| Rule {
            id: id.into(),
            priority: 0,
            action: Action::Allow,
            enabled: true,
            sources: vec![source.parse().unwrap()],
            destinations: vec![destination.parse().unwrap()],
            protocols: vec![6],
            ports: vec![PortRange { low: port, high: port }],
            expires_at: None,
            same_owner: false,
            through: vec![],
            family: None,
        };
        let network = (0..count).map(|at| rule(at, "10.0.0.0/8".into(), "*", at));
        let hosts =
            (0..count).map(|at| rule(count + at, format!("10.1.{}.{}/32", at >> 7, (at & 0x7f) << 1), destination, 80));
        let mut engine = Engine::new();
        engine.set_rules(network.chain(hosts).collect()).unwrap();
        engine
    }

    /// Items that are gathered for lists of rules with `*` as destination.
    fn copied(engine: &Engine) -> usize {
        let (mut builder, [ranks, _]) = Builder::of_addresses(engine, usize::MAX);
        builder.half(SOURCE, ranks).unwrap();
        builder.copied
    }

    #[test]
    fn rules_of_a_selector_are_not_copied_for_each_address_in_it() {
        for count in [400, 500, 4000, 16_000] {
            assert!(copied(&many_of_one_network(count, "192.0.2.1/32")) <= usize::from(count));
            let copied = copied(&many_of_one_network(count, "*"));
            assert!(copied <= LONG_ANY * (usize::from(count) + 1), "{copied} items for {count} addresses");
        }
    }
}

//! Rules as short lists, for questions about addresses that belong to nobody: the quick way to the rule that decides.
//!
//! The addresses of a side fall into intervals ([`Ranks`]); for each interval it is known which selectors hold it, and each
//! selector has its rules as a list, with what they say of the other side and of protocol and port as ranges of numbers. So a
//! question reads the lists of one side, the one with fewer rules, and compares sixteen rules at once. Rules with `*` on the
//! other side need only protocol and port compared; they stand in lists of their own, which are read for both sides, as is
//! one list of rules with `*` on both. This is the linear search in small buckets of HiCuts (Gupta and McKeown, Hot
//! Interconnects 1999), with selectors for buckets, so that a rule is stored once for each selector that it names.
//!
//! Lists hold the rules in order alone, not the tail, and say nothing of who is enabled: they stay true until the rules
//! are put in order again. They are made when enough has been asked to be worth it. Where lists would be long, or a rule is
//! too rich for ranges, they say so, and the rows decide.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::RandomState;
use zqlite_cidr::{Address, AddressRange, Family};

use crate::engine::{DESTINATION, Engine, SOURCE};
use crate::lanes::{LANES, Lanes, Level, level, prefetch};
use crate::ranks::Ranks;
use crate::rows::Slot;
use crate::rule::{Rule, RuleId};

/// Marks a slot in a list whose rule is richer than the ranges beside it.
const RICHER: u32 = 1 << 31;

/// A rule takes at most this many items in the list of one selector; else one that is [`RICHER`].
const MANY: usize = 16;

/// An interval that more selectors hold has no lists.
const SELECTORS: usize = 24;

/// Items for one question in the lists of a side; with more, rows are quicker.
const LONG: usize = 2048;

/// The same, of rules with `*` on the other side, and with `*` on both.
const LONG_ANY: usize = 512;

/// Numbers of an item: a range of intervals of the other side, a range of services, a slot.
const PAIRED: usize = 5;

/// Numbers of an item without the other side.
const ALONE: usize = 3;

/// Lists that are made when they have become worth it. Snapshots share them.
#[derive(Debug, Default)]
pub(crate) struct LazyLists {
    asked: AtomicUsize,
    lists: OnceLock<Option<Lists>>,
}

impl LazyLists {
    /// The lists, if they are there; `more` questions are about to be asked.
    #[inline]
    pub(crate) fn get(&self, engine: &Engine, more: usize) -> Option<&Lists> {
        if let Some(lists) = self.lists.get() {
            return lists.as_ref();
        }
        // Making them takes less than half a microsecond for each rule.
        let asked = self.asked.fetch_add(more, Ordering::Relaxed) + more;
        if asked < 64 + engine.ordered / 16 {
            return None;
        }
        self.lists.get_or_init(|| Lists::new(engine)).as_ref()
    }

    /// Bytes that the lists take, 0 before they are made.
    pub(crate) fn bytes(&self) -> usize {
        self.lists.get().and_then(Option::as_ref).map_or(0, |lists| lists.bytes)
    }
}

/// A list: where its numbers begin, and how many items it has. Items lie sixteen together, number by number.
#[derive(Clone, Copy, Debug, Default)]
struct List {
    at: u32,
    len: u32,
}

/// What an interval of addresses leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Where the lists of its selectors stand among all, and how many there are.
    lists: u32,
    count: u32,
    /// Items in all of these.
    items: u32,
    /// Rules with `*` on the other side, by slot; [`NONE`](Head::NONE) when there are no lists for this interval.
    any: List,
}

impl Head {
    const NONE: u32 = u32::MAX;
    const EMPTY: Head = Head { lists: 0, count: 0, items: 0, any: List { at: 0, len: 0 } };
    const MISSING: Head = Head { any: List { at: 0, len: Self::NONE }, ..Self::EMPTY };
}

#[derive(Debug)]
struct Half {
    ranks: Ranks,
    /// By interval.
    heads: Vec<Head>,
    lists: Vec<List>,
}

#[derive(Debug)]
pub(crate) struct Lists {
    level: Level,
    halves: [Half; 2],
    /// Rules with `*` on both sides, by slot.
    any: List,
    numbers: Vec<u32>,
    /// By slot.
    ids: Vec<RuleId>,
    bytes: usize,
}

/// What the lists know.
pub(crate) enum Found {
    /// The slot of the rule that decides among those in order, if any does.
    Rule(Option<Slot>),
    /// Rows must be asked.
    Unsure,
}

/// What is asked, in the numbers of the lists.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    /// Intervals of source and destination.
    pub(crate) ranks: [u32; 2],
    /// See [`service`].
    pub(crate) service: u32,
    pub(crate) at: i64,
}

/// Protocol and port as one number.
#[inline]
pub(crate) fn service(protocol: u8, port: u16) -> u32 {
    u32::from(protocol) << 16 | u32::from(port)
}

/// A range of numbers as its first one and how many follow.
type Range = (u32, u32);

const ALL: Range = (0, u32::MAX);

impl Lists {
    #[inline]
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    pub(crate) fn rank(&self, side: usize, address: Address) -> u32 {
        self.halves[side].ranks.of(address)
    }

    #[inline(always)]
    pub(crate) fn ranks(&self, side: usize) -> &Ranks {
        &self.halves[side].ranks
    }

    #[inline(always)]
    pub(crate) fn prefetch_head(&self, side: usize, rank: u32) {
        prefetch(&self.halves[side].heads, rank as usize);
    }

    #[inline(always)]
    fn head(&self, side: usize, rank: u32) -> Head {
        self.halves[side].heads.get(rank as usize).copied().unwrap_or(Head::MISSING)
    }

    /// Asks for the memory that heads lead to.
    #[inline(always)]
    pub(crate) fn prefetch_lists(&self, ranks: [u32; 2]) {
        let heads = [self.head(SOURCE, ranks[SOURCE]), self.head(DESTINATION, ranks[DESTINATION])];
        let side = shorter(&heads);
        prefetch(&self.halves[side].lists, heads[side].lists as usize);
        heads.iter().for_each(|head| prefetch(&self.numbers, head.any.at as usize));
    }

    /// Asks for the memory of the first items.
    #[inline(always)]
    pub(crate) fn prefetch_items(&self, ranks: [u32; 2]) {
        let heads = [self.head(SOURCE, ranks[SOURCE]), self.head(DESTINATION, ranks[DESTINATION])];
        let side = shorter(&heads);
        for list in self.of(side, &heads[side]).iter().take(4) {
            prefetch(&self.numbers, list.at as usize);
            prefetch(&self.numbers, list.at as usize + 16);
        }
    }

    #[inline(always)]
    fn of(&self, side: usize, head: &Head) -> &[List] {
        let from = head.lists as usize;
        self.halves[side].lists.get(from..from + head.count as usize).unwrap_or(&[])
    }

    /// The id of the rule in a slot.
    #[inline]
    pub(crate) fn id(&self, slot: Slot) -> Option<RuleId> {
        self.ids.get(slot as usize).copied()
    }

    /// The rule that decides.
    #[inline(always)]
    pub(crate) fn first(&self, lanes: impl Lanes, engine: &Engine, asked: Asked) -> Found {
        let heads = [self.head(SOURCE, asked.ranks[SOURCE]), self.head(DESTINATION, asked.ranks[DESTINATION])];
        let side = shorter(&heads);
        if heads.iter().any(|head| head.any.len == Head::NONE) || heads[side].items as usize > LONG {
            return Found::Unsure;
        }
        let mut best = Best { engine, at: asked.at, slot: u32::MAX, unsure: false };
        for head in &heads {
            self.search_alone(lanes, head.any, asked.service, &mut best);
        }
        for list in self.of(side, &heads[side]) {
            self.search_paired(lanes, *list, asked.ranks[1 - side], asked.service, &mut best);
        }
        self.search_alone(lanes, self.any, asked.service, &mut best);
        if best.unsure {
            return Found::Unsure;
        }
        Found::Rule((best.slot != u32::MAX).then_some(best.slot))
    }

    #[inline(always)]
    fn search_alone(&self, lanes: impl Lanes, list: List, service: u32, best: &mut Best<'_>) {
        let (mut at, mut left) = (list.at as usize, list.len as usize);
        while left > 0 {
            let count = left.min(LANES);
            let Some(items) = self.numbers.get(at..at + ALONE * count) else { return };
            let (lows, rest) = items.split_at(count);
            let (spans, slots) = rest.split_at(count);
            if slots.first().is_none_or(|slot| slot & !RICHER >= best.slot) {
                return;
            }
            if best.take(lanes.within(lows, spans, service), slots) {
                return;
            }
            at += ALONE * count;
            left -= count;
        }
    }

    #[inline(always)]
    fn search_paired(&self, lanes: impl Lanes, list: List, rank: u32, service: u32, best: &mut Best<'_>) {
        let (mut at, mut left) = (list.at as usize, list.len as usize);
        while left > 0 {
            let count = left.min(LANES);
            let Some(items) = self.numbers.get(at..at + PAIRED * count) else { return };
            let (lows, rest) = items.split_at(count);
            let (spans, rest) = rest.split_at(count);
            let (service_lows, rest) = rest.split_at(count);
            let (service_spans, slots) = rest.split_at(count);
            let bits = lanes.within(lows, spans, rank) & lanes.within(service_lows, service_spans, service);
            if bits != 0 && best.take(bits, slots) {
                return;
            }
            at += PAIRED * count;
            left -= count;
        }
    }
}

/// The side whose lists are shorter.
#[inline(always)]
fn shorter(heads: &[Head; 2]) -> usize {
    if heads[SOURCE].items <= heads[DESTINATION].items { SOURCE } else { DESTINATION }
}

/// The best rule so far.
struct Best<'a> {
    engine: &'a Engine,
    at: i64,
    slot: Slot,
    unsure: bool,
}

impl Best<'_> {
    /// Looks at the items that match, ascending; `true` when no later one can be better.
    #[inline(always)]
    fn take(&mut self, mut bits: u32, slots: &[Slot]) -> bool {
        while bits != 0 {
            let Some(&marked) = slots.get(bits.trailing_zeros() as usize) else { return true };
            let slot = marked & !RICHER;
            if slot >= self.slot {
                return true;
            }
            if self.engine.is_live(slot, self.at) {
                if marked == slot {
                    self.slot = slot;
                } else {
                    self.unsure = true;
                }
                return true;
            }
            bits &= bits - 1;
        }
        false
    }
}

/// An item of a list before it is written.
#[derive(Clone, Copy)]
struct Item {
    other: Range,
    service: Range,
    slot: u32,
}

/// Lists under construction.
struct Builder<'a> {
    engine: &'a Engine,
    /// By selector and side: the intervals that it holds.
    held: [Vec<Option<Range>>; 2],
    numbers: Vec<u32>,
    /// Numbers that the lists may take.
    room: usize,
}

impl Lists {
    /// `None` when memory is short.
    fn new(engine: &Engine) -> Option<Self> {
        let room = engine.options.row_memory.saturating_sub(engine.rows.bytes());
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
                let first = ranks[side].of(range.first());
                Some((first, ranks[side].of(range.last()) - first))
            };
            ranges.iter().enumerate().map(hold).collect()
        });
        let mut builder = Builder { engine, held, numbers: Vec::new(), room: room / 4 };
        let both = engine.any_both.iter().filter(|slot| (*slot as usize) < engine.ordered);
        let both: Vec<Item> = both
            .filter_map(|slot| Some((slot, engine.rule_in(slot)?)))
            .flat_map(|(slot, rule)| alone(slot, rule))
            .collect();
        if both.len() > LONG_ANY {
            return None;
        }
        let any = builder.put(&both, ALONE);
        let [source, destination] = ranks;
        let halves = [builder.half(SOURCE, source)?, builder.half(DESTINATION, destination)?];
        let ids = (0..engine.ordered as Slot).map(|slot| engine.rule_in(slot).map_or(0, |rule| rule.id)).collect();
        let mut this = Self { level: level(), halves, any, numbers: builder.numbers, ids, bytes: 0 };
        let half = |half: &Half| {
            half.ranks.bytes() + half.heads.capacity() * size_of::<Head>() + half.lists.capacity() * size_of::<List>()
        };
        this.bytes =
            this.halves.iter().map(half).sum::<usize>() + 4 * this.numbers.capacity() + 8 * this.ids.capacity();
        (this.bytes <= room).then_some(this)
    }
}

impl Builder<'_> {
    /// The lists of a side; `None` when there is no room.
    fn half(&mut self, side: usize, ranks: Ranks) -> Option<Half> {
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
            paired[id as usize] = self.put(&with_other, PAIRED);
            any[id as usize] = without;
            events.push((first, true, id));
            events.push((first + following + 1, false, id));
            if self.numbers.len() > self.room {
                return None;
            }
        }
        events.sort_unstable();
        let mut heads = Vec::with_capacity(ranks.len());
        let mut lists: Vec<List> = Vec::new();
        let mut known: HashMap<Box<[u32]>, Head, RandomState> = HashMap::default();
        let mut known_any: HashMap<Box<[u32]>, List, RandomState> = HashMap::default();
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
                    let any = match known_any.get(of.as_slice()) {
                        Some(list) => *list,
                        None => {
                            let list = self.merged(of.iter().map(|&id| any[id as usize].as_slice()));
                            known_any.insert(of.into(), list);
                            list
                        }
                    };
                    let from = lists.len();
                    lists.extend(key.iter().map(|&id| paired[id as usize]).filter(|list| list.len > 0));
                    let items = lists[from..].iter().fold(0u32, |sum, list| sum.saturating_add(list.len));
                    let head = Head { lists: from as u32, count: (lists.len() - from) as u32, items, any };
                    known.insert(key.into(), head);
                    head
                }
            };
            heads.push(head);
            if self.numbers.len() > self.room {
                return None;
            }
        }
        Some(Half { ranks, heads, lists })
    }

    /// One list of several; without them when it would be long.
    fn merged<'b>(&mut self, lists: impl Iterator<Item = &'b [Item]>) -> List {
        let mut items: Vec<Item> = lists.flatten().copied().collect();
        if items.len() > LONG_ANY {
            return List { at: 0, len: Head::NONE };
        }
        items.sort_by_key(|item| item.slot & !RICHER);
        self.put(&items, ALONE)
    }

    /// The items of a selector's rules, with and without the other side.
    fn items(&self, side: usize, id: u32) -> (Vec<Item>, Vec<Item>) {
        let engine = self.engine;
        let (mut paired, mut any) = (Vec::new(), Vec::new());
        for slot in uses(engine, side, id) {
            let (Some(entry), Some(rule)) = (engine.entries.get(slot), engine.rule_in(slot)) else { continue };
            // A rule with `*` here as well stands elsewhere, and nobody's addresses have no owner.
            if engine.sides[side].any.contains(slot) || rule.same_owner {
                continue;
            }
            if engine.sides[1 - side].any.contains(slot) {
                any.extend(alone(slot, rule));
                continue;
            }
            let others = entry.named[1 - side].iter().filter_map(|&id| self.held[1 - side][id as usize]);
            let (services, exact) = services(rule).map_or((vec![ALL], false), |services| (services, true));
            let others: Vec<Range> = others.take(MANY + 1).collect();
            if others.len() * services.len() > MANY {
                paired.push(Item { other: ALL, service: ALL, slot: slot | RICHER });
                continue;
            }
            let slot = if exact { slot } else { slot | RICHER };
            paired.extend(
                others.into_iter().flat_map(|other| services.iter().map(move |&service| Item { other, service, slot })),
            );
        }
        (paired, any)
    }

    fn put(&mut self, items: &[Item], numbers: usize) -> List {
        let at = self.numbers.len() as u32;
        for items in items.chunks(LANES) {
            if numbers == PAIRED {
                self.numbers.extend(items.iter().map(|item| item.other.0));
                self.numbers.extend(items.iter().map(|item| item.other.1));
            }
            self.numbers.extend(items.iter().map(|item| item.service.0));
            self.numbers.extend(items.iter().map(|item| item.service.1));
            self.numbers.extend(items.iter().map(|item| item.slot));
        }
        List { at, len: items.len() as u32 }
    }
}

/// The rules in order that name a selector on a side, ascending.
fn uses(engine: &Engine, side: usize, selector: u32) -> impl Iterator<Item = Slot> + '_ {
    let all = engine.selectors.get(selector).into_iter().flat_map(move |named| named.uses[side].iter().copied());
    all.filter(|slot| (*slot as usize) < engine.ordered)
}

/// The items of a rule without the other side.
fn alone(slot: Slot, rule: &Rule) -> Vec<Item> {
    if rule.same_owner {
        return Vec::new();
    }
    match services(rule).filter(|services| services.len() <= MANY) {
        Some(services) => services.into_iter().map(|service| Item { other: ALL, service, slot }).collect(),
        None => vec![Item { other: ALL, service: ALL, slot: slot | RICHER }],
    }
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

impl Engine {
    /// Whether a rule takes part in decisions at a time.
    #[inline(always)]
    fn is_live(&self, slot: Slot, at: i64) -> bool {
        self.enabled.contains(slot)
            && (!self.expiring.contains(slot) || self.entries.get(slot).is_some_and(|entry| at < entry.expires_at))
    }
}

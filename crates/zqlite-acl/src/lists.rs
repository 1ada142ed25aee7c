//! Rules as short lists, for questions about addresses that belong to nobody: the quick way to the rule that decides.
//!
//! The addresses of a side fall into intervals ([`Ranks`]); for each interval it is known which selectors hold it, and each
//! selector has its rules as a list, with what they say of the other side and of protocol and port as ranges of numbers. So a
//! question reads the lists of one side, the one with fewer rules, and compares sixteen rules at once. Rules with `*` on the
//! other side need only protocol and port compared; they stand in lists of their own, which are read for both sides, as is
//! one list of rules with `*` on both. This is the linear search in small buckets of HiCuts (Gupta and McKeown, Hot
//! Interconnects 1999), with selectors for buckets, so that a rule is stored once for each selector that it names; only
//! where it takes little memory, the short lists of an interval are merged.
//!
//! Lists hold the rules in order alone, not the tail, and say nothing of who is enabled: they stay true until the rules
//! are put in order again. They are made when enough has been asked to be worth it. Where lists would be long, or a rule is
//! too rich for ranges, they say so, and the rows decide.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use zqlite_cidr::Address;

use crate::engine::{DESTINATION, Engine, SOURCE};
use crate::lanes::{Job, Lanes, Level, prefetch};
use crate::query::Query;
use crate::ranks::Ranks;
use crate::rows::Slot;
use crate::rule::RuleId;
use crate::store::{List, Store};

/// Rules stand in lists as marks, which are twice their slots: with this when a rule is richer than the ranges beside it.
pub(crate) const RICHER: u32 = 1;

/// In place of the lowest mark that matches: rows must be asked. To be [`RICHER`], it is a mark that nothing has.
pub(crate) const UNSURE: u32 = u32::MAX - 2;

/// How often the best rule may prove disabled or expired before rows are asked, which leave such rules out at once.
const TRIES: usize = 4;

/// Lists of at most so many bytes lie in the caches nearby.
pub(crate) const NEARBY: usize = 8 << 20;

/// Items for one question in the lists of a side; with more, rows are quicker.
pub(crate) const LONG: usize = 2048;

/// The same, of rules with `*` on the other side, and with `*` on both.
pub(crate) const LONG_ANY: usize = 512;

/// Lists that are made when they have become worth it. Snapshots share them.
#[derive(Debug)]
pub(crate) struct Lazy<T> {
    asked: AtomicUsize,
    lists: OnceLock<Option<T>>,
}

impl<T> Default for Lazy<T> {
    fn default() -> Self {
        Self { asked: AtomicUsize::new(0), lists: OnceLock::new() }
    }
}

/// What [`Lazy`] makes.
pub(crate) trait Made: Sized {
    /// Of the rules in order; `None` when memory is short.
    fn make(engine: &Engine) -> Option<Self>;

    fn bytes(&self) -> usize;
}

impl<T: Made> Lazy<T> {
    /// The lists, if they are there; `more` questions are about to be asked.
    #[inline]
    pub(crate) fn get(&self, engine: &Engine, more: usize) -> Option<&T> {
        if let Some(lists) = self.lists.get() {
            return lists.as_ref();
        }
        // Making them takes half a microsecond to two for each rule.
        let asked = self.asked.fetch_add(more, Ordering::Relaxed) + more;
        if asked < 64 + engine.ordered / 16 {
            return None;
        }
        self.lists.get_or_init(|| T::make(engine)).as_ref()
    }

    /// Bytes that the lists take, 0 before they are made.
    pub(crate) fn bytes(&self) -> usize {
        self.lists.get().and_then(Option::as_ref).map_or(0, T::bytes)
    }
}

/// What an interval of addresses leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Where the lists of its selectors stand among all, and how many there are.
    pub(crate) lists: u32,
    pub(crate) count: u32,
    /// What all of these [cost](List::cost).
    pub(crate) items: u32,
    /// Rules with `*` on the other side, by slot, or where they stand among those that are [crossed](Any::Crossed); of length
    /// [`NONE`](Head::NONE) when there are no lists for this interval.
    pub(crate) any: List,
}

impl Head {
    pub(crate) const NONE: u32 = u32::MAX;
    pub(crate) const EMPTY: Head = Head { lists: 0, count: 0, items: 0, any: List { at: 0, len: 0 } };
    pub(crate) const MISSING: Head = Head { any: List { at: 0, len: Self::NONE }, ..Self::EMPTY };
}

#[derive(Debug)]
pub(crate) struct Half {
    pub(crate) ranks: Ranks,
    /// By interval.
    pub(crate) heads: Vec<Head>,
    pub(crate) lists: Vec<List>,
}

impl Half {
    #[inline(always)]
    pub(crate) fn lists_from(&self, from: u32, count: u32) -> &[List] {
        let from = from as usize;
        self.lists.get(from..from + count as usize).unwrap_or(&[])
    }
}

#[derive(Debug)]
pub(crate) struct Lists {
    pub(crate) level: Level,
    pub(crate) halves: [Half; 2],
    pub(crate) any: Any,
    pub(crate) store: Store,
    /// By slot.
    pub(crate) ids: Vec<RuleId>,
    pub(crate) bytes: usize,
}

/// Rules with `*`, which every question is compared with.
#[derive(Debug)]
pub(crate) enum Any {
    /// Those with `*` on both sides. The others stand in the lists of [heads](Head::any).
    Apart(List),
    /// All of them that may match, by the sum of what the heads of both sides say.
    Crossed(Vec<List>),
}

impl Any {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Any::Apart(_) => 0,
            Any::Crossed(lists) => lists.capacity() * size_of::<List>(),
        }
    }
}

/// What the lists know.
pub(crate) enum Found {
    /// The slot of the rule that decides among those in order, if any does.
    Rule(Option<Slot>),
    /// Rows must be asked.
    Unsure,
}

/// Protocol and port as one number.
#[inline]
pub(crate) fn service(protocol: u8, port: u16) -> u32 {
    u32::from(protocol) << 16 | u32::from(port)
}

pub(crate) struct One<'a> {
    pub(crate) lists: &'a Lists,
    pub(crate) engine: &'a Engine,
    pub(crate) query: &'a Query<Address>,
}

impl Job for One<'_> {
    type Output = Found;

    #[inline(always)]
    fn run(self, lanes: impl Lanes) -> Found {
        let Self { lists, engine, query } = self;
        let ranks =
            [lists.ranks(SOURCE).of(lanes, query.source), lists.ranks(DESTINATION).of(lanes, query.destination)];
        let service = service(query.protocol, query.port);
        first_live(engine, query.at, |after| lists.lowest(lanes, ranks, service, after))
    }
}

impl Lists {
    #[inline]
    pub(crate) fn level(&self) -> Level {
        self.level
    }

    #[inline(always)]
    pub(crate) fn ranks(&self, side: usize) -> &Ranks {
        &self.halves[side].ranks
    }

    /// One question.
    #[inline]
    pub(crate) fn decide(&self, engine: &Engine, query: &Query<Address>) -> Found {
        self.level.run(One { lists: self, engine, query })
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
        match &self.any {
            Any::Crossed(lists) => prefetch(lists, (heads[SOURCE].any.at + heads[DESTINATION].any.at) as usize),
            Any::Apart(_) => heads.iter().for_each(|head| prefetch(&self.store.numbers, head.any.at as usize)),
        }
    }

    /// Asks for the memory of the first items.
    #[inline(always)]
    pub(crate) fn prefetch_items(&self, ranks: [u32; 2]) {
        let heads = [self.head(SOURCE, ranks[SOURCE]), self.head(DESTINATION, ranks[DESTINATION])];
        let side = shorter(&heads);
        for list in self.of(side, &heads[side]).iter().take(4) {
            if list.len == List::TURNED {
                prefetch(&self.store.numbers, self.store.turned_at(*list, ranks[1 - side]) as usize);
                continue;
            }
            prefetch(&self.store.numbers, list.at as usize);
            prefetch(&self.store.numbers, list.at as usize + 16);
        }
    }

    #[inline(always)]
    fn of(&self, side: usize, head: &Head) -> &[List] {
        self.halves[side].lists_from(head.lists, head.count)
    }

    /// The lowest mark from `after` on that matches.
    #[inline(always)]
    pub(crate) fn lowest(&self, lanes: impl Lanes, ranks: [u32; 2], service: u32, after: u32) -> u32 {
        let heads = [self.head(SOURCE, ranks[SOURCE]), self.head(DESTINATION, ranks[DESTINATION])];
        let side = shorter(&heads);
        if heads.iter().any(|head| head.any.len == Head::NONE) || heads[side].items as usize > LONG {
            return UNSURE;
        }
        // The later a list is read, the more of it comes behind what was found already, and is left out.
        let mut best = u32::MAX;
        match &self.any {
            Any::Crossed(lists) => {
                let list = lists.get((heads[SOURCE].any.at + heads[DESTINATION].any.at) as usize);
                best = self.store.search_alone(lanes, list.copied().unwrap_or_default(), service, best, after);
            }
            Any::Apart(both) => {
                for list in [*both, heads[SOURCE].any, heads[DESTINATION].any] {
                    best = self.store.search_alone(lanes, list, service, best, after);
                }
            }
        }
        for list in self.of(side, &heads[side]) {
            best = self.store.search_paired(lanes, *list, ranks[1 - side], service, best, after);
        }
        best
    }
}

/// The rule that decides, of what `search` finds: the lowest mark from a given one on that matches.
#[inline(always)]
pub(crate) fn first_live(engine: &Engine, at: i64, search: impl Fn(u32) -> u32) -> Found {
    let mut after = 0;
    for _ in 0..TRIES {
        let best = search(after);
        if best == UNSURE {
            return Found::Unsure;
        }
        if best == u32::MAX {
            return Found::Rule(None);
        }
        let slot = best >> 1;
        if engine.is_live(slot, at) {
            return if best & RICHER == 0 { Found::Rule(Some(slot)) } else { Found::Unsure };
        }
        after = best + 1;
    }
    Found::Unsure
}

/// The side whose lists are shorter.
#[inline(always)]
fn shorter(heads: &[Head; 2]) -> usize {
    if heads[SOURCE].items <= heads[DESTINATION].items { SOURCE } else { DESTINATION }
}

impl Engine {
    /// Whether a rule takes part in decisions at a time.
    #[inline(always)]
    fn is_live(&self, slot: Slot, at: i64) -> bool {
        self.enabled.contains(slot)
            && (!self.expiring.contains(slot) || self.entries.get(slot).is_some_and(|entry| at < entry.expires_at))
    }
}

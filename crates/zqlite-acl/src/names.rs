//! Rules as short lists by selector, for questions about peers.
//!
//! As [`Lists`](crate::lists::Lists), but where those find the selectors of an address by its interval, the class of a peer has
//! them in its signature; and the other side of an item is the number of a selector, of which the other peer has a few.

use crate::engine::{DESTINATION, Engine, SOURCE};
use crate::lanes::{Job, Lanes, Level};
use crate::lists::{Found, Head, LONG, List, Store, first_live};
use crate::rows::Slot;
use crate::rule::RuleId;

#[derive(Debug)]
pub(crate) struct NameLists {
    pub(crate) level: Level,
    /// By side and selector: rules that name it, and something on the other side.
    pub(crate) paired: [Vec<List>; 2],
    /// By side and selector: rules that name it, with `*` on the other side.
    pub(crate) any: [Vec<List>; 2],
    /// Rules with `*` on both sides.
    pub(crate) any_both: List,
    pub(crate) store: Store,
    /// By slot.
    pub(crate) ids: Vec<RuleId>,
    pub(crate) bytes: usize,
}

/// What is asked: the selectors of source and destination, [protocol and port](crate::lists::service), the time.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) selectors: [&'a [u32]; 2],
    pub(crate) service: u32,
    pub(crate) at: i64,
}

impl NameLists {
    #[inline]
    pub(crate) fn decide(&self, engine: &Engine, asked: Named<'_>) -> Found {
        self.level.run(One { lists: self, engine, asked })
    }

    /// The id of the rule in a slot.
    #[inline]
    pub(crate) fn id(&self, slot: Slot) -> Option<RuleId> {
        self.ids.get(slot as usize).copied()
    }

    /// The lists of these selectors that have items. A selector that is newer than the lists has none.
    #[inline(always)]
    fn of<'a>(lists: &'a [List], selectors: &'a [u32]) -> impl Iterator<Item = List> + 'a {
        let lists = selectors.iter().filter_map(|&id| lists.get(id as usize)).copied();
        lists.filter(|list| list.len > 0)
    }
}

struct One<'a> {
    lists: &'a NameLists,
    engine: &'a Engine,
    asked: Named<'a>,
}

impl Job for One<'_> {
    type Output = Found;

    #[inline(always)]
    fn run(self, lanes: impl Lanes) -> Found {
        let Self { lists, engine, asked: Named { selectors, service, at } } = self;
        let cost = |side: usize| {
            let items = NameLists::of(&lists.paired[side], selectors[side]).map(|list| list.cost() as usize);
            items.sum::<usize>().saturating_mul(selectors[1 - side].len())
        };
        let costs = [cost(SOURCE), cost(DESTINATION)];
        let side = if costs[SOURCE] <= costs[DESTINATION] { SOURCE } else { DESTINATION };
        let unsure = |side: usize| NameLists::of(&lists.any[side], selectors[side]).any(|list| list.len == Head::NONE);
        if costs[side] > LONG || unsure(SOURCE) || unsure(DESTINATION) {
            return Found::Unsure;
        }
        first_live(engine, at, |after| {
            let mut best = lists.store.search_alone(lanes, lists.any_both, service, u32::MAX, after);
            for side in [SOURCE, DESTINATION] {
                for list in NameLists::of(&lists.any[side], selectors[side]) {
                    best = lists.store.search_alone(lanes, list, service, best, after);
                }
            }
            for list in NameLists::of(&lists.paired[side], selectors[side]) {
                for &other in selectors[1 - side] {
                    best = lists.store.search_paired(lanes, list, other, service, best, after);
                }
            }
            best
        })
    }
}

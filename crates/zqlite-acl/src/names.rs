//! Rules as short lists by selector, for questions about peers.
//!
//! As [`Lists`](crate::lists::Lists), but where those find the selectors of an address by its interval, the class of a peer has
//! them in its signature; and the other side of an item is the number of a selector, of which the other peer has a few.

use crate::engine::{DESTINATION, Engine, SOURCE};
use crate::lanes::{Job, Lanes, Level};
use crate::lists::{Found, Head, LONG, UNSURE, first_live};
use crate::rule::RuleId;
use crate::store::{List, Store};

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

    /// The side whose lists are to be read; `None` when rows must be asked.
    #[inline(always)]
    fn side(&self, selectors: &[&[u32]; 2]) -> Option<usize> {
        let cost = |side: usize| {
            let items = Self::of(&self.paired[side], selectors[side]).map(|list| list.cost() as usize);
            items.sum::<usize>().saturating_mul(selectors[1 - side].len())
        };
        let costs = [cost(SOURCE), cost(DESTINATION)];
        let side = if costs[SOURCE] <= costs[DESTINATION] { SOURCE } else { DESTINATION };
        let is_long = |side: usize| Self::of(&self.any[side], selectors[side]).any(|list| list.len == Head::NONE);
        (costs[side] <= LONG && !is_long(SOURCE) && !is_long(DESTINATION)).then_some(side)
    }

    /// The lowest mark from `after` on that matches.
    #[inline(always)]
    pub(crate) fn lowest(&self, lanes: impl Lanes, asked: &Named<'_>, after: u32) -> u32 {
        let Named { selectors, service, .. } = *asked;
        let Some(side) = self.side(&selectors) else { return UNSURE };
        let mut best = self.store.search_alone(lanes, self.any_both, service, u32::MAX, after);
        for side in [SOURCE, DESTINATION] {
            for list in Self::of(&self.any[side], selectors[side]) {
                best = self.store.search_alone(lanes, list, service, best, after);
            }
        }
        // No rule in lists names a selector that is newer than they are; and turned lists end where the newer ones would stand.
        let known = |id: &&u32| (**id as usize) < self.paired[side].len();
        for list in Self::of(&self.paired[side], selectors[side]) {
            for &other in selectors[1 - side].iter().filter(known) {
                best = self.store.search_paired(lanes, list, other, service, best, after);
            }
        }
        best
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
        let Self { lists, engine, asked } = self;
        first_live(engine, asked.at, |after| lists.lowest(lanes, &asked, after))
    }
}

//! Who sees whom.
//!
//! Driven by rules: those that match one peer are walked once, and each allow leads to the classes that it selects on the
//! other side. Most pairs of peers are so never looked at. Where a deny could stand before an allow, the rules of that one
//! pair of classes are taken together, and their protocols and ports decide.

use std::collections::BTreeSet;

use crate::classes::ClassId;
use crate::decide::{Endpoint, Packets, Question};
use crate::engine::{ClassRef, DESTINATION, Engine, Named, SOURCE};
use crate::error::UnknownId;
use crate::lanes::{Job, Lanes, level, prefetch};
use crate::peer::{Peer, PeerId};
use crate::query::Direction;
use crate::rows::{Dense, FACTORED, Slot, ones};
use crate::rule::{Action, Rule};
use crate::selector::Selector;
use crate::traffic::some_passes;

impl Engine {
    /// Whether some protocol and port is allowed from one peer to the other, or to an address that it routes.
    pub fn reachable(&self, source: PeerId, destination: PeerId, at: i64) -> Result<bool, UnknownId> {
        Ok(self.reaches(self.member(source)?, self.member(destination)?, at))
    }

    /// The other peers that a peer sees, by ascending id.
    pub fn visible_peers(&self, peer: PeerId, direction: Direction, at: i64) -> Result<Vec<PeerId>, UnknownId> {
        let class = self.member(peer)?;
        let seen = self.seen(class, direction, at);
        Ok(self.members_of(&seen, peer))
    }

    /// The members of classes but for one peer, ascending.
    fn members_of(&self, classes: &Dense, except: PeerId) -> Vec<PeerId> {
        let lists: Vec<&[PeerId]> =
            classes.iter().filter_map(|index| self.classes.get(index)).map(|class| class.members.as_slice()).collect();
        let count: usize = lists.iter().map(|list| list.len()).sum();
        let most = lists.iter().filter_map(|list| list.iter().max()).max().copied().unwrap_or(0) as usize;
        // Ids are often dense; then setting bits sorts faster than comparing, by far.
        if count < 32 || most / 512 > count {
            let mut ids = lists.concat();
            ids.sort_unstable();
            ids.retain(|&id| id != except);
            return ids;
        }
        let mut bits = vec![0u64; most / 64 + 1];
        for &id in lists.into_iter().flatten() {
            bits[id as usize / 64] |= 1 << (id % 64);
        }
        if let Some(word) = bits.get_mut(except as usize / 64) {
            *word &= !(1 << (except % 64));
        }
        level().run(Ones { words: &bits, count })
    }

    /// The class of a peer. Peers of a class get the same answer to each question at each time.
    pub fn peer_class(&self, peer: PeerId) -> Result<ClassId, UnknownId> {
        let class = self.member(peer)?;
        self.classes.get(class).map(|class| class.number).ok_or(UnknownId::Peer(peer))
    }

    /// The classes whose peers a peer of this class sees, by ascending id. The class itself is one of them if its peers
    /// see each other, however many there are.
    pub fn visible_classes(&self, class: ClassId, direction: Direction, at: i64) -> Result<Vec<ClassId>, UnknownId> {
        let class = *self.by_class.get(&class).ok_or(UnknownId::Class(class))?;
        let seen = self.seen(class, direction, at);
        let mut numbers: Vec<ClassId> =
            seen.iter().filter_map(|index| self.classes.get(index)).map(|class| class.number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The indexes of the classes that a class sees.
    pub(crate) fn seen(&self, class: u32, direction: Direction, at: i64) -> Dense {
        let mut seen = Seen::default();
        if direction != Direction::From {
            self.search(self.class(SOURCE, class), SOURCE, at, &mut seen);
        }
        if direction != Direction::To {
            seen.decided = Dense::default();
            seen.decided_behind = Dense::default();
            self.search(self.class(DESTINATION, class), DESTINATION, at, &mut seen);
            if self.routes(class) {
                self.search_behind(class, at, &mut seen);
            }
        }
        seen.classes
    }

    /// The indexes of the classes that traffic from here may reach.
    pub(crate) fn reached(&self, source: Endpoint, at: i64) -> Dense {
        let mut seen = Seen::default();
        self.search(source, SOURCE, at, &mut seen);
        seen.classes
    }

    pub(crate) fn reaches(&self, source: u32, destination: u32, at: i64) -> bool {
        let from = self.class(SOURCE, source);
        self.some_traffic(from, self.class(DESTINATION, destination), at) || self.reaches_behind(from, destination, at)
    }

    fn some_traffic(&self, source: Endpoint, destination: Endpoint, at: i64) -> bool {
        let question =
            Question { source: Some(source), destination: Some(destination), service: None, packets: Packets::Any, at };
        some_passes(self.matching(&question).filter_map(|slot| self.rule_in(slot)))
    }

    fn reaches_behind(&self, source: Endpoint, destination: u32, at: i64) -> bool {
        if !self.routes(destination) {
            return false;
        }
        let Some(router) = self.representative(destination) else {
            return false;
        };
        let rules: Vec<&Rule> = self.one_sided(SOURCE, source, at).filter_map(|slot| self.rule_in(slot)).collect();
        let mut kinds = BTreeSet::new();
        for &route in &router.routes {
            kinds.insert(route.first());
            for range in rules.iter().flat_map(|rule| &rule.destinations).filter_map(Selector::addresses) {
                let ends = [Some(range.first()), range.last().next()];
                kinds.extend(ends.into_iter().flatten().filter(|end| route.contains(*end)));
            }
        }
        kinds.into_iter().any(|kind| self.some_traffic(source, self.behind(kind, destination), at))
    }

    /// One peer of a class, which can speak for all of them.
    pub(crate) fn representative(&self, class: u32) -> Option<&Peer> {
        self.peer(*self.classes.get(class)?.members.first()?)
    }

    /// The rules that match one side, whatever the other.
    pub(crate) fn one_sided(&self, side: usize, endpoint: Endpoint, at: i64) -> std::vec::IntoIter<Slot> {
        let (source, destination) = if side == SOURCE { (Some(endpoint), None) } else { (None, Some(endpoint)) };
        self.matching(&Question { source, destination, service: None, packets: Packets::Any, at })
    }

    /// Adds the classes that traffic may go to from here (`side` is [`SOURCE`]), or come from.
    fn search(&self, endpoint: Endpoint, side: usize, at: i64, seen: &mut Seen) {
        let other = 1 - side;
        let mut denies = Dense::default();
        let slots = self.one_sided(side, endpoint, at);
        self.prefetch_selected(slots.as_slice(), other);
        for slot in slots {
            // Sets are at hand, where rules are all over memory.
            let same_owner = self.compares_owners.contains(slot);
            if same_owner && endpoint.owner == 0 {
                continue;
            }
            if self.denies.contains(slot) {
                denies.insert(slot);
                continue;
            }
            let Some(entry) = self.entries.get(slot) else { continue };
            let everyone = self.sides[other].any.contains(slot);
            let open = denies.is_empty();
            let mut look = |candidate: u32| {
                if seen.classes.contains(candidate) || seen.decided.contains(candidate) {
                    return;
                }
                let there = self.class(other, candidate);
                if same_owner && there.owner != endpoint.owner {
                    return;
                }
                // Where the endpoint is the destination, its rules have been asked that already.
                if side == SOURCE && !self.goes_through(entry, candidate) {
                    return;
                }
                if open || !self.meets(other, there, &denies) {
                    seen.classes.insert(candidate);
                    return;
                }
                // All rules of the pair are looked at: that decides it.
                seen.decided.insert(candidate);
                let passes = match side {
                    SOURCE => self.some_traffic(endpoint, there, at),
                    _ => self.some_traffic(there, endpoint, at),
                };
                if passes {
                    seen.classes.insert(candidate);
                }
            };
            if everyone {
                (0..self.classes.len() as u32).filter(|&index| self.is_class(index)).for_each(&mut look);
            } else {
                self.selected(&entry.named[other]).for_each(&mut look);
            }
            // From here on, routers that may be seen for what is behind them.
            if side == SOURCE {
                let mut behind = |candidate: u32| {
                    if !seen.classes.contains(candidate) && !seen.decided_behind.contains(candidate) {
                        seen.decided_behind.insert(candidate);
                        if self.reaches_behind(endpoint, candidate, at) {
                            seen.classes.insert(candidate);
                        }
                    }
                };
                if everyone {
                    let routers =
                        (0..self.classes.len() as u32).filter(|&index| self.is_class(index) && self.routes(index));
                    routers.for_each(&mut behind);
                } else {
                    self.routing(&entry.named[other]).for_each(&mut behind);
                }
            }
        }
    }

    /// Asks for the memory of what rules select on a side, which is all over the place: step by step, so that the waits of a step
    /// overlap.
    fn prefetch_selected(&self, slots: &[Slot], side: usize) {
        let named: Vec<&[u32]> =
            slots.iter().filter_map(|&slot| self.entries.get(slot)).map(|entry| &*entry.named[side]).collect();
        let selectors: Vec<&Named> = named.into_iter().flatten().filter_map(|&id| self.selectors.get(id)).collect();
        let classes: Vec<&[ClassRef]> = selectors.into_iter().map(|named| &*named.classes).collect();
        classes.into_iter().for_each(|classes| prefetch(classes, 0));
    }

    /// Adds the classes that may reach what this one routes.
    fn search_behind(&self, class: u32, at: i64, seen: &mut Seen) {
        let Some(router) = self.representative(class) else { return };
        let mut slots: Vec<Slot> = self.sides[DESTINATION].any.iter().collect();
        for &route in &router.routes {
            self.spans.meeting(route.into(), &mut |_, id| slots.extend(self.slots(DESTINATION, &[id])));
        }
        let slots: Dense = slots.into_iter().filter(|slot| self.enabled.contains(*slot)).collect();
        for entry in slots.iter().filter_map(|slot| self.entries.get(slot).map(|entry| (slot, entry))) {
            let (slot, entry) = entry;
            if entry.rule.action == Action::Deny || entry.expires_at <= at || entry.rule.same_owner {
                continue;
            }
            let mut look = |candidate: u32| {
                if !seen.classes.contains(candidate) && !seen.decided_behind.contains(candidate) {
                    seen.decided_behind.insert(candidate);
                    if self.reaches_behind(self.class(SOURCE, candidate), class, at) {
                        seen.classes.insert(candidate);
                    }
                }
            };
            if self.sides[SOURCE].any.contains(slot) {
                (0..self.classes.len() as u32).filter(|&index| self.is_class(index)).for_each(&mut look);
            } else {
                self.selected(&entry.named[SOURCE]).for_each(&mut look);
            }
        }
    }

    pub(crate) fn is_class(&self, index: u32) -> bool {
        self.classes.get(index).is_some_and(|class| !class.members.is_empty())
    }

    /// The classes that some of these selectors select; some may come several times.
    pub(crate) fn selected<'a>(&'a self, named: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
        let lists = named.iter().filter_map(|&id| self.selectors.get(id)).flat_map(|named| named.classes.iter());
        lists
            .filter(|class| self.classes.get(class.index).is_some_and(|found| found.is(**class)))
            .map(|class| class.index)
    }

    /// The classes that route something that some of these selectors select.
    pub(crate) fn routing<'a>(&'a self, named: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
        let lists = named.iter().filter_map(|&id| self.selectors.get(id)).flat_map(|named| named.routers.iter());
        lists
            .filter(|class| self.classes.get(class.index).is_some_and(|found| found.is(**class)))
            .map(|class| class.index)
    }

    /// Whether one of these rules matches an endpoint on a side; `true` when that would have to be gathered.
    fn meets(&self, side: usize, endpoint: Endpoint, rules: &Dense) -> bool {
        if endpoint.row == FACTORED {
            return true;
        }
        let row = self.rows.view(endpoint.row);
        let any = &self.sides[side].any;
        rules.masks.iter().enumerate().filter(|(_, mask)| **mask != 0).any(|(index, &mask)| {
            let group = row.group(index);
            ones(mask & (group.mask | any.mask(index))).any(|at| {
                let word = index * 64 + at;
                rules.word(word) & (group.word(at) | any.word(word)) != 0
            })
        })
    }
}

/// The numbers of the bits that are set, ascending, of which there are at most `count`.
struct Ones<'a> {
    words: &'a [u64],
    count: usize,
}

/// So many numbers are written at once, whether or not a word has as many bits: how many it has cannot be foreseen.
const STEP: usize = 4;

impl Job for Ones<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run(self, _: impl Lanes) -> Vec<u32> {
        let mut numbers = vec![0; self.count + STEP];
        let mut len = 0;
        for (at, &word) in (0u32..).zip(self.words) {
            // What is written for bits that are not there means nothing, and may not fit.
            let (first, mut bits, mut left) = (64 * at, word, word.count_ones() as usize);
            while left > 0 {
                let Some(places) = numbers.get_mut(len..).and_then(|rest| rest.first_chunk_mut::<STEP>()) else {
                    break;
                };
                for place in places {
                    *place = first.wrapping_add(bits.trailing_zeros());
                    bits &= bits.wrapping_sub(1);
                }
                len += left.min(STEP);
                left = left.saturating_sub(STEP);
            }
        }
        numbers.truncate(len);
        numbers
    }
}

#[derive(Default)]
struct Seen {
    /// Indexes of classes that are seen.
    classes: Dense,
    /// Whose own rules have been looked at, all of them.
    decided: Dense,
    /// The same for what lies behind routers.
    decided_behind: Dense,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lanes::Level;

    proptest! {
        #[test]
        fn numbers_of_bits_ascend_whatever_the_words(
            words in proptest::collection::vec(
                prop_oneof![Just(0u64), Just(u64::MAX), any::<u64>(), (0u32..64).prop_map(|bit| 1 << bit)],
                0..40,
            ),
        ) {
            let plain: Vec<u32> = (0..).zip(&words).flat_map(|(at, &word)| ones(word).map(move |bit| 64 * at + bit as u32)).collect();
            for level in Level::all() {
                prop_assert_eq!(&level.run(Ones { words: &words, count: plain.len() }), &plain);
            }
        }
    }
}

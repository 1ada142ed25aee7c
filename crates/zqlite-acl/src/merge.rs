//! The short lists of an interval merged to one.
//!
//! A comparison takes sixteen items, whichever selectors they are of; and how many lists a question will read is what a
//! processor cannot foresee.

use std::collections::BTreeMap;

use crate::lanes::LANES;
use crate::lists::{Half, Lists};
use crate::store::{Item, List, PAIRED, Store};

/// Nothing is merged when that would take more than so many copies of each item.
const COPIES: usize = 3;

/// What becomes of the lists of an interval.
struct Merge {
    short: Vec<List>,
    long: Vec<List>,
}

impl Merge {
    /// The shortest lists that fit one comparison together; `None` when there are no two.
    fn of(lists: &[List]) -> Option<Self> {
        let mut short = lists.to_vec();
        short.sort_by_key(|list| list.len);
        let mut room = LANES as u32;
        let fits = |list: &&List| room.checked_sub(list.len).map(|left| room = left).is_some();
        let count = short.iter().take_while(fits).count();
        let long = short.split_off(count);
        (count > 1).then_some(Self { short, long })
    }

    fn items(&self) -> usize {
        self.short.iter().map(|list| list.len as usize).sum()
    }
}

impl Lists {
    /// Merges what is short, unless that takes more than so many bytes, or too much beside what there is.
    pub(crate) fn merge(&mut self, room: usize) {
        let most = (COPIES * self.store.numbers.len()).min(room / size_of::<u32>());
        if most == 0 {
            return;
        }
        let mut groups = self.halves.each_ref().map(Half::groups);
        let merges = self.halves.iter().zip(&groups).flat_map(|(half, groups)| {
            groups.iter().filter_map(|(&from, &count)| Merge::of(half.lists_from(from, count)))
        });
        let numbers = merges.map(|merge| PAIRED * merge.items()).sum();
        if numbers <= most {
            self.store.numbers.reserve_exact(numbers);
            for (half, groups) in self.halves.iter_mut().zip(&mut groups) {
                half.merge(groups, &mut self.store);
            }
        }
    }
}

impl Half {
    /// Where the lists of an interval begin, and how many they are, more than one. Those of others that the same selectors hold
    /// begin there too.
    fn groups(&self) -> BTreeMap<u32, u32> {
        self.heads.iter().filter(|head| head.count > 1).map(|head| (head.lists, head.count)).collect()
    }

    /// The merged list takes the place of the first, the long ones follow.
    fn merge(&mut self, groups: &mut BTreeMap<u32, u32>, store: &mut Store) {
        for (&from, count) in groups.iter_mut() {
            let Some(merge) = Merge::of(self.lists_from(from, *count)) else { continue };
            let mut items: Vec<Item> = merge.short.iter().flat_map(|&list| store.items(list)).collect();
            items.sort_by_key(|item| item.mark);
            *count = 1 + merge.long.len() as u32;
            let lists = [store.put(&items, PAIRED)].into_iter().chain(merge.long);
            self.lists.iter_mut().skip(from as usize).zip(lists).for_each(|(place, list)| *place = list);
        }
        for head in self.heads.iter_mut().filter(|head| head.count > 1) {
            head.count = groups.get(&head.lists).copied().unwrap_or(head.count);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

    use super::*;
    use crate::engine::{Engine, SOURCE};
    use crate::lanes::Scalar;
    use crate::rule::{Action, Rule};

    /// Whether there are lists that no head has any more.
    pub(crate) fn has_merged(half: &Half) -> bool {
        let heads = half.heads.iter().filter(|head| head.count > 0);
        let counts: BTreeMap<u32, u32> = heads.map(|head| (head.lists, head.count)).collect();
        counts.values().sum::<u32>() < half.lists.len() as u32
    }

    /// Networks one in the other, the widest first, with as many rules each as is said.
    fn nested(counts: &[u64]) -> Engine {
        let rule = |(length, at): (usize, u64)| Rule {
            id: 1000 * length as u64 + at,
            priority: at as i32,
            action: Action::Allow,
            enabled: true,
            sources: vec![format!("10.0.0.0/{length}").parse().unwrap()],
            destinations: vec![format!("192.0.2.{}", 2 * at).parse().unwrap()],
            protocols: vec![],
            ports: vec![],
            expires_at: None,
            same_owner: false,
            through: vec![],
            family: None,
        };
        let rules = (8..).zip(counts).flat_map(|(length, &count)| (0..count).map(move |at| (length, at)));
        let mut engine = Engine::new();
        engine.set_rules(rules.map(rule).collect()).unwrap();
        engine
    }

    /// How long the lists are that an address in all networks is answered from; whether all items ascend.
    fn lengths(engine: &Engine, room: usize) -> Vec<u32> {
        let mut lists = crate::list_builder::unmerged(engine, 1 << 20).unwrap();
        lists.merge(room);
        let rank = lists.ranks(SOURCE).of(Scalar, "10.0.0.1".parse().unwrap());
        let half = &lists.halves[SOURCE];
        let head = half.heads[rank as usize];
        let of = half.lists_from(head.lists, head.count);
        for list in of {
            assert!(lists.store.items(*list).map(|item| item.mark).is_sorted());
        }
        of.iter().map(|list| list.len).collect()
    }

    #[test]
    fn what_fits_one_comparison_is_merged_from_the_shortest_on() {
        assert_eq!(lengths(&nested(&[3, 2, 4]), 1 << 20), [9]);
        assert_eq!(lengths(&nested(&[3, 14, 2, 9]), 1 << 20), [14, 14]);
        assert_eq!(lengths(&nested(&[16, 16]), 1 << 20), [16, 16]);
        assert_eq!(lengths(&nested(&[7]), 1 << 20), [7]);
    }

    #[test]
    fn nothing_is_merged_without_room() {
        let mut lengths = lengths(&nested(&[3, 2, 4]), 100);
        lengths.sort_unstable();
        assert_eq!(lengths, [2, 3, 4]);
    }

    #[test]
    fn nothing_is_merged_that_takes_many_copies() {
        // Merging would copy the rules of the wide network for each narrow one in it.
        let mut engine = nested(&[15]);
        let wide = engine.rule(8000).unwrap().clone();
        let narrow = (0..40).map(|at| Rule {
            id: at,
            sources: vec![format!("10.0.0.{}", 2 * at + 1).parse().unwrap()],
            ..wide.clone()
        });
        engine.put_rules(narrow.collect()).unwrap();
        assert_eq!(lengths(&engine, 1 << 20).len(), 2);
    }
}

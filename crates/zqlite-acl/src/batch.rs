//! Questions in blocks: each step is taken for all of a block before the next, and asks for the memory that the next needs,
//! so that waits for memory overlap.

use zqlite_cidr::Address;

use crate::engine::{DESTINATION, Engine, SOURCE};
use crate::lanes::{Job, Lanes};
use crate::lists::{Asked, Found, Lists, service};
use crate::query::{Columns, Query};

/// Questions to a block.
const BLOCK: usize = 32;

/// Lists of at most so many bytes lie in the caches nearby, and asking for their memory would take longer than waiting for it.
const CACHED: usize = 8 << 20;

impl Lists {
    /// One question.
    #[inline]
    pub(crate) fn decide(&self, engine: &Engine, query: &Query<Address>) -> Found {
        self.level().run(One { lists: self, engine, query })
    }

    /// Many questions; `put` is called for each, ascending.
    pub(crate) fn decide_each(&self, engine: &Engine, columns: Columns<'_>, at: i64, put: impl FnMut(usize, Found)) {
        self.level().run(Many { lists: self, engine, columns, at, put });
    }
}

struct One<'a> {
    lists: &'a Lists,
    engine: &'a Engine,
    query: &'a Query<Address>,
}

impl Job for One<'_> {
    type Output = Found;

    #[inline(always)]
    fn run(self, lanes: impl Lanes) -> Found {
        let Self { lists, engine, query } = self;
        let ranks =
            [lists.ranks(SOURCE).of(lanes, query.source), lists.ranks(DESTINATION).of(lanes, query.destination)];
        let asked = Asked { ranks, service: service(query.protocol, query.port), at: query.at };
        lists.first(lanes, engine, asked)
    }
}

struct Many<'a, P> {
    lists: &'a Lists,
    engine: &'a Engine,
    columns: Columns<'a>,
    at: i64,
    put: P,
}

impl<P: FnMut(usize, Found)> Job for Many<'_, P> {
    type Output = ();

    #[inline(always)]
    fn run(mut self, lanes: impl Lanes) {
        let Self { lists, engine, columns, at, .. } = self;
        let far = lists.bytes > CACHED;
        let mut parts = [[(0u32, 0u32); BLOCK]; 2];
        let mut ranks = [[0u32; BLOCK]; 2];
        for from in (0..columns.len()).step_by(BLOCK) {
            let block = from..columns.len().min(from + BLOCK);
            let (Some(sources), Some(destinations), Some(protocols), Some(ports)) = (
                columns.sources.get(block.clone()),
                columns.destinations.get(block.clone()),
                columns.protocols.get(block.clone()),
                columns.ports.get(block),
            ) else {
                return;
            };
            let ends = [sources, destinations];
            for side in [SOURCE, DESTINATION] {
                for (part, &address) in parts[side].iter_mut().zip(ends[side]) {
                    *part = lists.ranks(side).part(address);
                    lists.ranks(side).prefetch(*part);
                }
            }
            for side in [SOURCE, DESTINATION] {
                for ((rank, &part), &address) in ranks[side].iter_mut().zip(&parts[side]).zip(ends[side]) {
                    *rank = lists.ranks(side).v4(lanes, part, address);
                    lists.prefetch_head(side, *rank);
                }
            }
            let pairs = || ranks[SOURCE].iter().zip(&ranks[DESTINATION]).take(sources.len());
            if far {
                pairs().for_each(|(&source, &destination)| lists.prefetch_lists([source, destination]));
                pairs().for_each(|(&source, &destination)| lists.prefetch_items([source, destination]));
            }
            for (index, ((&source, &destination), (&protocol, &port))) in
                pairs().zip(protocols.iter().zip(ports)).enumerate()
            {
                let asked = Asked { ranks: [source, destination], service: service(protocol, port), at };
                (self.put)(from + index, lists.first(lanes, engine, asked));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

    use std::cell::Cell;

    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;
    use zqlite_cidr::{AddressRange, Family, HostBits, Prefix};

    use super::*;
    use crate::lanes::Level;
    use crate::plain;
    use crate::rule::{Action, PortRange, Rule};
    use crate::selector::Selector;

    /// Addresses on both sides of where the upper half changes.
    fn v4(low: u32) -> Address {
        Address::v4(0x0a00_fe00 + low)
    }

    fn low() -> impl Strategy<Value = u32> {
        0u32..1024
    }

    /// Few addresses, so that rules meet; nested prefixes, ranges that overlap, both families.
    fn selector() -> impl Strategy<Value = Selector> {
        prop_oneof![
            2 => Just(Selector::Any),
            2 => (0u32..2).prop_map(|half| Selector::Prefix(Prefix::new(v4(512 * half), 23, HostBits::Mask).unwrap())),
            6 => (low(), 24u8..=32).prop_map(|(low, length)| {
                Selector::Prefix(Prefix::new(v4(low), length, HostBits::Mask).unwrap())
            }),
            2 => (low(), 0u32..200).prop_map(|(first, more)| {
                Selector::Range(AddressRange::new(v4(first), v4(first + more)).unwrap())
            }),
            1 => (any::<u8>(), 118u8..=128).prop_map(|(low, length)| {
                let address = Address::v6(0xfd00 << 112 | u128::from(low));
                Selector::Prefix(Prefix::new(address, length, HostBits::Mask).unwrap())
            }),
            1 => Just("tag:a".parse().unwrap()),
        ]
    }

    fn ports() -> impl Strategy<Value = PortRange> {
        (0u16..4, 0u16..4).prop_map(|(a, b)| PortRange { low: a.min(b) * 10, high: a.max(b) * 10 + 5 })
    }

    prop_compose! {
        fn rule(id: u64)(
            priority in 0..4,
            allow in any::<bool>(),
            enabled in proptest::bool::weighted(0.9),
            sources in proptest::collection::vec(selector(), 1..4),
            destinations in proptest::collection::vec(selector(), 1..8),
            protocols in proptest::sample::subsequence(vec![6, 17], 0..=2),
            ports in proptest::collection::vec(ports(), 0..4),
            expires_at in prop_oneof![4 => Just(None), 1 => (4i64..7).prop_map(Some)],
            same_owner in proptest::bool::weighted(0.05),
            through in proptest::bool::weighted(0.05),
            family in prop_oneof![18 => Just(None), 1 => Just(Some(Family::V4)), 1 => Just(Some(Family::V6))],
        ) -> Rule {
            let action = if allow { Action::Allow } else { Action::Deny };
            let through = if through && allow { vec!["tag:r".parse().unwrap()] } else { vec![] };
            let family = family.filter(|_| allow);
            Rule {
                id,
                priority,
                action,
                enabled,
                sources,
                destinations,
                protocols,
                ports,
                expires_at,
                same_owner,
                through,
                family,
            }
        }
    }

    fn address() -> impl Strategy<Value = Address> {
        prop_oneof![
            8 => low().prop_map(v4),
            1 => any::<u32>().prop_map(Address::v4),
            1 => any::<u8>().prop_map(|low| Address::v6(0xfd00 << 112 | u128::from(low))),
        ]
    }

    prop_compose! {
        fn query()(
            source in address(),
            destination in address(),
            protocol in proptest::sample::select(&[6u8, 17, 1]),
            port in 0u16..40,
        ) -> Query<Address> {
            Query { source, destination, protocol, port, at: 5 }
        }
    }

    #[test]
    fn lists_agree_with_the_plain_engine_whatever_the_instructions() {
        let (asked, answered, turned) = (Cell::new(0), Cell::new(0), Cell::new(0));
        // Many rules, and lists of some selectors are long.
        let cases = (
            prop_oneof![3 => 0..60u64, 1 => 150..300u64]
                .prop_flat_map(|count| (0..count).map(rule).collect::<Vec<_>>()),
            proptest::collection::vec((0..300u64, any::<bool>()), 0..40),
            proptest::collection::vec(query(), 200),
            proptest::collection::vec((0..80u64).prop_flat_map(rule), 0..6),
        );
        let mut runner = TestRunner::new(ProptestConfig::with_cases(96));
        let all = runner.run(&cases, |(rules, switched, queries, added)| {
            let (mut engine, mut plain) = (Engine::new(), plain::Engine::new());
            engine.set_rules(rules.clone()).unwrap();
            // What is switched after the lists were made counts too.
            let lists = engine.lists.get(&engine, 1 << 20).map(|_| std::sync::Arc::clone(&engine.lists)).unwrap();
            let mut now = rules;
            for (id, enabled) in switched {
                if let Some(rule) = now.iter_mut().find(|rule| rule.id == id) {
                    rule.enabled = enabled;
                    engine.set_enabled(id, enabled).unwrap();
                }
            }
            plain.set_rules(now.clone()).unwrap();
            let lists = lists.get(&engine, 0).unwrap();
            turned.set(turned.get() + usize::from(!lists.store.turned.is_empty()));
            let number = |address: Address| u32::try_from(address.bits()).unwrap_or(7);
            let columns: (Vec<u32>, Vec<u32>, Vec<u8>, Vec<u16>) = (
                queries.iter().map(|query| number(query.source)).collect(),
                queries.iter().map(|query| number(query.destination)).collect(),
                queries.iter().map(|query| query.protocol).collect(),
                queries.iter().map(|query| query.port).collect(),
            );
            let columns =
                Columns { sources: &columns.0, destinations: &columns.1, protocols: &columns.2, ports: &columns.3 };
            for level in Level::all() {
                for query in &queries {
                    asked.set(asked.get() + 1);
                    if let Found::Rule(slot) = level.run(One { lists, engine: &engine, query }) {
                        answered.set(answered.get() + 1);
                        let rule = slot.and_then(|slot| lists.id(slot));
                        prop_assert_eq!(rule, plain.decide_addresses(query).rule, "{:?} {:?}", level, query);
                    }
                }
                let mut count = 0;
                level.run(Many {
                    lists,
                    engine: &engine,
                    columns,
                    at: 5,
                    put: |index: usize, found: Found| {
                        assert_eq!(index, count);
                        count += 1;
                        let query = Query {
                            source: Address::v4(columns.sources[index]),
                            destination: Address::v4(columns.destinations[index]),
                            protocol: columns.protocols[index],
                            port: columns.ports[index],
                            at: 5,
                        };
                        if let Found::Rule(slot) = found {
                            let rule = slot.and_then(|slot| lists.id(slot));
                            assert_eq!(rule, plain.decide_addresses(&query).rule, "{level:?} {query:?}");
                        }
                    },
                });
                prop_assert_eq!(count, queries.len());
            }
            let mut answers = Vec::new();
            engine.decide_v4_batch(columns, 5, |_, decision| answers.push(decision));
            for (index, answer) in answers.iter().enumerate() {
                let query = Query {
                    source: Address::v4(columns.sources[index]),
                    destination: Address::v4(columns.destinations[index]),
                    protocol: columns.protocols[index],
                    port: columns.ports[index],
                    at: 5,
                };
                prop_assert_eq!(*answer, plain.decide_addresses(&query));
            }
            // Rules that came since, or in the place of others, stand in the tail.
            for rule in added {
                engine.put_rules(vec![rule.clone()]).unwrap();
                now.retain(|other| other.id != rule.id);
                now.push(rule);
            }
            plain.set_rules(now).unwrap();
            for query in &queries {
                prop_assert_eq!(engine.decide_addresses(query), plain.decide_addresses(query), "{:?}", query);
            }
            Ok(())
        });
        all.unwrap();
        // Whoever always says "unsure" is never wrong.
        assert!(answered.get() * 4 > asked.get(), "{} of {}", answered.get(), asked.get());
        assert!(turned.get() > 5, "{} sets of rules had lists that are turned", turned.get());
    }
}

//! Questions in blocks: each step is taken for all of a block before the next, so that waits for memory overlap.

use zqlite_cidr::Address;

use crate::engine::{DESTINATION, Engine, SOURCE};
use crate::lanes::{Job, Lanes};
use crate::lists::{Found, Lists, NEARBY, RICHER, UNSURE, service};
use crate::names::{NameLists, Named};
use crate::peer::PeerId;
use crate::query::{Columns, Query};
use crate::ranks::Ranks;
use crate::rows::DenseView;

/// Questions to a block.
const BLOCK: usize = 32;

impl Lists {
    /// Many questions; `put` is called for each, ascending.
    pub(crate) fn decide_each<E: End>(
        &self,
        engine: &Engine,
        columns: Columns<'_, E>,
        at: i64,
        put: impl FnMut(usize, Found),
    ) {
        self.level().run(Many { engine, questions: OfAddresses { lists: self, columns, at }, put });
    }
}

impl NameLists {
    /// Many questions; `put` is called for each, ascending. Of peers that there are not, nothing is known.
    pub(crate) fn decide_each(
        &self,
        engine: &Engine,
        columns: Columns<'_, PeerId>,
        at: i64,
        put: impl FnMut(usize, Found),
    ) {
        self.level.run(Many { engine, questions: OfPeers { lists: self, columns, at }, put });
    }
}

/// Questions of one kind.
trait Questions {
    fn len(&self) -> usize;

    /// The lowest marks that match, of as many questions as a block has, or fewer, from one on.
    fn lowest(&self, lanes: impl Lanes, engine: &Engine, from: usize, marks: &mut [u32; BLOCK]);

    /// One question alone. It is rarely needed, and not to be inlined.
    fn one(&self, engine: &Engine, index: usize) -> Found;
}

struct Many<'a, Q, P> {
    engine: &'a Engine,
    questions: Q,
    put: P,
}

impl<Q: Questions, P: FnMut(usize, Found)> Job for Many<'_, Q, P> {
    type Output = ();

    #[inline(always)]
    fn run(self, lanes: impl Lanes) {
        let Self { engine, questions, mut put } = self;
        let mut marks = [u32::MAX; BLOCK];
        let (enabled, expiring) = (engine.enabled.view(), engine.expiring.view());
        for from in (0..questions.len()).step_by(BLOCK) {
            questions.lowest(lanes, engine, from, &mut marks);
            for (index, &mark) in (from..questions.len()).zip(&marks) {
                put(index, plainly(enabled, expiring, mark).unwrap_or_else(|| questions.one(engine, index)));
            }
        }
    }
}

/// What the lowest mark that matches says, unless more must be known for it. Nothing branches on whether there is one.
#[inline(always)]
fn plainly(enabled: DenseView<'_>, expiring: DenseView<'_>, mark: u32) -> Option<Found> {
    let (none, slot) = (mark == u32::MAX, mark >> 1);
    let plain = enabled.contains(slot) & !expiring.contains(slot) & (mark & RICHER == 0);
    (none | plain).then(|| Found::Rule((!none).then_some(slot)))
}

/// One end of a question about addresses.
pub(crate) trait End: Copy {
    fn address(self) -> Address;

    /// The intervals of as many addresses as a block has, or fewer.
    fn ranks(lanes: impl Lanes, ranks: &Ranks, ends: &[Self], found: &mut [u32; BLOCK]);
}

/// IPv4.
impl End for u32 {
    #[inline(always)]
    fn address(self) -> Address {
        Address::v4(self)
    }

    #[inline(always)]
    fn ranks(lanes: impl Lanes, ranks: &Ranks, ends: &[Self], found: &mut [u32; BLOCK]) {
        let mut parts = [(0, 0); BLOCK];
        for (part, &address) in parts.iter_mut().zip(ends) {
            *part = ranks.part(address);
            ranks.prefetch(*part);
        }
        for ((rank, &part), &address) in found.iter_mut().zip(&parts).zip(ends) {
            *rank = ranks.v4(lanes, part, address);
        }
    }
}

/// The words of an IPv6 address, the highest first; those that are IPv4-mapped are IPv4.
impl End for [u32; 4] {
    #[inline(always)]
    fn address(self) -> Address {
        Address::v6(self.iter().fold(0, |bits, &word| bits << 32 | u128::from(word)))
    }

    #[inline(always)]
    fn ranks(lanes: impl Lanes, ranks: &Ranks, ends: &[Self], found: &mut [u32; BLOCK]) {
        for (rank, &end) in found.iter_mut().zip(ends) {
            *rank = ranks.of(lanes, end.address());
        }
    }
}

struct OfAddresses<'a, E> {
    lists: &'a Lists,
    columns: Columns<'a, E>,
    at: i64,
}

impl<E: End> Questions for OfAddresses<'_, E> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.columns.len()
    }

    #[inline(always)]
    fn lowest(&self, lanes: impl Lanes, _: &Engine, from: usize, marks: &mut [u32; BLOCK]) {
        let Columns { sources, destinations, protocols, ports } = self.columns.part(from, BLOCK);
        let mut ranks = [[0; BLOCK]; 2];
        for (side, ends) in [(SOURCE, sources), (DESTINATION, destinations)] {
            E::ranks(lanes, self.lists.ranks(side), ends, &mut ranks[side]);
            ranks[side].iter().take(ends.len()).for_each(|&rank| self.lists.prefetch_head(side, rank));
        }
        let mut pairs = [[0; 2]; BLOCK];
        for (pair, (&source, &destination)) in pairs.iter_mut().zip(ranks[SOURCE].iter().zip(&ranks[DESTINATION])) {
            *pair = [source, destination];
        }
        // Asking for memory that is nearby would take longer than waiting for it.
        if self.lists.bytes > NEARBY {
            pairs.iter().take(ports.len()).for_each(|&ranks| self.lists.prefetch_lists(ranks));
            pairs.iter().take(ports.len()).for_each(|&ranks| self.lists.prefetch_items(ranks));
        }
        let mut services = [0; BLOCK];
        for (item, (&protocol, &port)) in services.iter_mut().zip(protocols.iter().zip(ports)) {
            *item = service(protocol, port);
        }
        for question in 0..ports.len().min(BLOCK) {
            marks[question] = self.lists.lowest(lanes, pairs[question], services[question], 0);
        }
    }

    #[cold]
    #[inline(never)]
    fn one(&self, engine: &Engine, index: usize) -> Found {
        match self.columns.query(index, self.at) {
            Some(query) => self.lists.decide(engine, &query.map(End::address)),
            None => Found::Unsure,
        }
    }
}

struct OfPeers<'a> {
    lists: &'a NameLists,
    columns: Columns<'a, PeerId>,
    at: i64,
}

impl OfPeers<'_> {
    /// What is asked of the rules; `None` when there is not such a peer.
    #[inline(always)]
    fn named<'e>(&self, engine: &'e Engine, query: &Query<PeerId>) -> Option<Named<'e>> {
        let classes = [engine.member(query.source).ok()?, engine.member(query.destination).ok()?];
        engine.named(classes, query)
    }
}

impl Questions for OfPeers<'_> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.columns.len()
    }

    #[inline(always)]
    fn lowest(&self, lanes: impl Lanes, engine: &Engine, from: usize, marks: &mut [u32; BLOCK]) {
        for (index, mark) in (from..self.len()).zip(marks) {
            let named = self.columns.query(index, self.at).and_then(|query| self.named(engine, &query));
            *mark = named.map_or(UNSURE, |named| self.lists.lowest(lanes, &named, 0));
        }
    }

    #[cold]
    #[inline(never)]
    fn one(&self, engine: &Engine, index: usize) -> Found {
        match self.columns.query(index, self.at).and_then(|query| self.named(engine, &query)) {
            Some(named) => self.lists.decide(engine, named),
            None => Found::Unsure,
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
    use crate::lists::{Any, One};
    use crate::merge::tests::has_merged;
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
        let (asked, answered) = (Cell::new(0), Cell::new(0));
        let (turned, crossed, merged) = (Cell::new(0), Cell::new(0), Cell::new(0));
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
            crossed.set(crossed.get() + usize::from(matches!(lists.any, Any::Crossed(_))));
            turned.set(turned.get() + usize::from(!lists.store.turned.is_empty()));
            merged.set(merged.get() + usize::from(lists.halves.iter().any(has_merged)));
            let number = |address: Address| u32::try_from(address.bits()).unwrap_or(7);
            let columns: (Vec<u32>, Vec<u32>, Vec<u8>, Vec<u16>) = (
                queries.iter().map(|query| number(query.source)).collect(),
                queries.iter().map(|query| number(query.destination)).collect(),
                queries.iter().map(|query| query.protocol).collect(),
                queries.iter().map(|query| query.port).collect(),
            );
            let columns =
                Columns { sources: &columns.0, destinations: &columns.1, protocols: &columns.2, ports: &columns.3 };
            let words = |address: Address| {
                let mapped = if address.family() == Family::V4 { 0xffff << 32 } else { 0 };
                [96, 64, 32, 0].map(|shift| ((mapped | address.bits()) >> shift) as u32)
            };
            let (sources, destinations): (Vec<_>, Vec<_>) =
                queries.iter().map(|query| (words(query.source), words(query.destination))).unzip();
            let Columns { protocols, ports, .. } = columns;
            let v6 = Columns { sources: &sources, destinations: &destinations, protocols, ports };
            for level in Level::all() {
                for query in &queries {
                    asked.set(asked.get() + 1);
                    if let Found::Rule(slot) = level.run(One { lists, engine: &engine, query }) {
                        answered.set(answered.get() + 1);
                        let rule = slot.map(|slot| lists.ids[slot as usize]);
                        prop_assert_eq!(rule, plain.decide_addresses(query).rule, "{:?} {:?}", level, query);
                    }
                }
                let mut count = 0;
                level.run(Many {
                    engine: &engine,
                    questions: OfAddresses { lists, columns, at: 5 },
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
                            let rule = slot.map(|slot| lists.ids[slot as usize]);
                            assert_eq!(rule, plain.decide_addresses(&query).rule, "{level:?} {query:?}");
                        }
                    },
                });
                prop_assert_eq!(count, queries.len());
                level.run(Many {
                    engine: &engine,
                    questions: OfAddresses { lists, columns: v6, at: 5 },
                    put: |index: usize, found: Found| {
                        count -= 1;
                        if let Found::Rule(slot) = found {
                            let rule = slot.map(|slot| lists.ids[slot as usize]);
                            assert_eq!(rule, plain.decide_addresses(&queries[index]).rule, "{level:?} {index}");
                        }
                    },
                });
                prop_assert_eq!(count, 0);
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
            let mut answers = Vec::new();
            engine.decide_v6_batch(v6, 5, |_, decision| answers.push(decision));
            prop_assert_eq!(answers, queries.iter().map(|query| plain.decide_addresses(query)).collect::<Vec<_>>());
            Ok(())
        });
        all.unwrap();
        assert!((5..90).contains(&crossed.get()), "{} of 96 sets of rules had lists that are crossed", crossed.get());
        // Whoever always says "unsure" is never wrong.
        assert!(answered.get() * 4 > asked.get(), "{} of {}", answered.get(), asked.get());
        assert!(turned.get() > 5, "{} sets of rules had lists that are turned", turned.get());
        assert!(merged.get() > 5, "{} sets of rules had lists that are merged", merged.get());
    }
}

//! The fast engine against the plain one, after any sequence of changes.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod common;

use std::collections::BTreeMap;

use common::{
    PORTS, Parts, TIMES, behind, engine as plain_engine, lets_in, own, own_v6, pairs, peer, queries, rule, words,
};
use proptest::prelude::*;
use zqlite_acl::{Action, Conflict, Direction, Engine, FilterRule, Options, Peer, PeerId, Query, Rule, RuleId, plain};
use zqlite_cidr::{Address, Family};

const DIRECTIONS: [Direction; 3] = [Direction::To, Direction::From, Direction::Either];

#[derive(Clone, Debug)]
enum Change {
    SetRules(Vec<Rule>),
    PutRules(Vec<Rule>),
    RemoveRules(Vec<RuleId>),
    SetEnabled(RuleId, bool),
    Expire(i64),
    PutPeers(Vec<Peer>),
    RemovePeers(Vec<PeerId>),
}

fn some_rules(most: usize) -> impl Strategy<Value = Vec<Rule>> {
    proptest::collection::btree_set(0..9u64, 0..most).prop_flat_map(|ids| ids.into_iter().map(rule).collect::<Vec<_>>())
}

fn some_peers() -> impl Strategy<Value = Vec<Peer>> {
    proptest::collection::btree_set(0..6u32, 1..5).prop_flat_map(|ids| ids.into_iter().map(peer).collect::<Vec<_>>())
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => some_rules(8).prop_map(Change::SetRules),
        6 => some_rules(4).prop_map(Change::PutRules),
        2 => proptest::collection::vec(0..9u64, 1..3).prop_map(Change::RemoveRules),
        2 => (0..9u64, any::<bool>()).prop_map(|(id, enabled)| Change::SetEnabled(id, enabled)),
        1 => (-1i64..12).prop_map(Change::Expire),
        5 => some_peers().prop_map(Change::PutPeers),
        1 => proptest::collection::vec(0..6u32, 1..3).prop_map(Change::RemovePeers),
    ]
}

/// The state by the plainest means.
#[derive(Clone, Default)]
struct World {
    rules: BTreeMap<RuleId, Rule>,
    peers: BTreeMap<PeerId, Peer>,
}

impl World {
    fn apply(&mut self, change: &Change, engine: &mut Engine) {
        match change.clone() {
            Change::SetRules(rules) => {
                self.rules = rules.iter().cloned().map(|rule| (rule.id, rule)).collect();
                engine.set_rules(rules).unwrap();
            }
            Change::PutRules(rules) => {
                self.rules.extend(rules.iter().cloned().map(|rule| (rule.id, rule)));
                engine.put_rules(rules).unwrap();
            }
            Change::RemoveRules(ids) => {
                let before = self.rules.len();
                self.rules.retain(|id, _| !ids.contains(id));
                assert_eq!(engine.remove_rules(&ids), before - self.rules.len());
            }
            Change::SetEnabled(id, enabled) => match self.rules.get_mut(&id) {
                Some(rule) => {
                    rule.enabled = enabled;
                    engine.set_enabled(id, enabled).unwrap();
                }
                None => assert!(engine.set_enabled(id, enabled).is_err()),
            },
            Change::Expire(at) => engine.expire(at),
            Change::PutPeers(peers) => {
                self.peers.extend(peers.iter().cloned().map(|peer| (peer.id, peer)));
                engine.put_peers(peers).unwrap();
            }
            Change::RemovePeers(ids) => {
                let before = self.peers.len();
                self.peers.retain(|id, _| !ids.contains(id));
                assert_eq!(engine.remove_peers(&ids), before - self.peers.len());
            }
        }
    }

    fn peers(&self) -> Vec<Peer> {
        self.peers.values().cloned().collect()
    }

    fn plain(&self) -> plain::Engine {
        plain_engine(&self.rules.values().cloned().collect::<Vec<_>>(), &self.peers())
    }

    fn addresses(&self) -> Vec<Address> {
        let own = (0..6).flat_map(|id| [own(id, false), own(id, true), own_v6(id)]);
        own.chain(behind().step_by(3)).chain([Address::v4(0), Address::v6(u128::MAX)]).collect()
    }
}

fn same(engine: &Engine, world: &World) -> Result<(), TestCaseError> {
    let plain = world.plain();
    let peers = world.peers();
    for (id, rule) in &world.rules {
        prop_assert_eq!(engine.rule(*id), Some(rule.clone()));
    }
    for (a, b) in pairs(&peers) {
        for query in queries(a, b) {
            let expected = plain.explain(&query);
            prop_assert_eq!(engine.decide(&query), expected.clone().map(|it| it.decision));
            prop_assert_eq!(engine.explain(&query), expected);
        }
    }
    let addresses = world.addresses();
    for (index, &source) in addresses.iter().enumerate() {
        for &destination in addresses.iter().skip(index % 3).step_by(3) {
            for (protocol, at) in [(6, TIMES[0]), (99, TIMES[1])] {
                for port in PORTS.into_iter().step_by(3) {
                    let query = Query { source, destination, protocol, port, at };
                    prop_assert_eq!(engine.explain_addresses(&query), plain.explain_addresses(&query));
                    prop_assert_eq!(engine.decide_addresses(&query), plain.decide_addresses(&query));
                }
            }
        }
    }
    let stranger = 99;
    let ids = || peers.iter().map(|peer| peer.id).chain([stranger]);
    for at in TIMES {
        same_in_batches(engine, &plain, &ids().collect::<Vec<_>>(), &addresses, at)?;
    }
    Ok(())
}

/// Each peer with each, and each address with some, in batches.
fn same_in_batches(
    engine: &Engine,
    plain: &plain::Engine,
    peers: &[PeerId],
    addresses: &[Address],
    at: i64,
) -> Result<(), TestCaseError> {
    let asked: Vec<_> = peers.iter().flat_map(|&a| peers.iter().flat_map(move |&b| queries(a, b))).collect();
    let asked: Vec<_> = asked.into_iter().filter(|query| query.at == at).collect();
    let mut answers = Vec::new();
    engine.decide_batch(Parts::of(&asked, |id| id).columns(), at, |index, answer| {
        assert_eq!(index, answers.len());
        answers.push(answer);
    });
    prop_assert_eq!(answers, asked.iter().map(|query| plain.decide(query)).collect::<Vec<_>>());

    let ends = addresses.iter().flat_map(|&a| addresses.iter().step_by(3).map(move |&b| (a, b)));
    let asked: Vec<_> = ends.flat_map(|(a, b)| queries(a, b)).filter(|query| query.at == at).step_by(5).collect();
    let mut answers = Vec::new();
    engine.decide_v6_batch(Parts::of(&asked, words).columns(), at, |_, answer| answers.push(answer));
    prop_assert_eq!(answers, asked.iter().map(|query| plain.decide_addresses(query)).collect::<Vec<_>>());

    let is_v4 =
        |query: &&Query<Address>| query.source.family() == Family::V4 && query.destination.family() == Family::V4;
    let asked: Vec<_> = asked.iter().filter(is_v4).copied().collect();
    let mut answers = Vec::new();
    let number = |address: Address| address.bits() as u32;
    engine.decide_v4_batch(Parts::of(&asked, number).columns(), at, |_, answer| answers.push(answer));
    prop_assert_eq!(answers, asked.iter().map(|query| plain.decide_addresses(query)).collect::<Vec<_>>());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn decisions_after_any_changes(
        changes in proptest::collection::vec(change(), 1..14),
        memory in prop_oneof![Just(1 << 20), Just(0), Just(2000)],
        snapshot in any::<prop::sample::Index>(),
    ) {
        let mut engine = Engine::with_options(Options { row_memory: memory });
        let mut world = World::default();
        let kept_at = snapshot.index(changes.len());
        let mut kept = None;
        for (index, change) in changes.iter().enumerate() {
            if index == kept_at {
                kept = Some((engine.clone(), world.clone()));
            }
            world.apply(change, &mut engine);
        }
        same(&engine, &world)?;
        let (engine, world) = kept.unwrap();
        same(&engine, &world)?;
    }
}

fn same_visibility(engine: &Engine, world: &World) -> Result<(), TestCaseError> {
    let plain = world.plain();
    let peers = world.peers();
    for at in TIMES {
        for (a, b) in pairs(&peers) {
            prop_assert_eq!(engine.reachable(a, b, at), plain.reachable(a, b, at));
        }
        for direction in DIRECTIONS {
            for peer in &peers {
                let visible = engine.visible_peers(peer.id, direction, at);
                prop_assert_eq!(&visible, &plain.visible_peers(peer.id, direction, at));
                let classes = engine.visible_classes(engine.peer_class(peer.id).unwrap(), direction, at).unwrap();
                prop_assert!(classes.is_sorted());
                let others = peers.iter().map(|other| other.id).filter(|&other| other != peer.id);
                let seen: Vec<PeerId> =
                    others.filter(|&other| classes.contains(&engine.peer_class(other).unwrap())).collect();
                prop_assert_eq!(visible.unwrap(), seen);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn visibility_after_any_changes(
        changes in proptest::collection::vec(change(), 1..14),
        memory in prop_oneof![4 => Just(1 << 20), 1 => Just(0)],
    ) {
        let mut engine = Engine::with_options(Options { row_memory: memory });
        let mut world = World::default();
        for change in &changes {
            world.apply(change, &mut engine);
        }
        same_visibility(&engine, &world)?;
    }

    /// Straight after `set_rules` even the numbers are those of the plain engine.
    #[test]
    fn classes_are_those_of_the_plain_engine(
        rules in common::rules(), before in common::peers(), more in some_peers(), gone in 0..6u32,
    ) {
        let mut plain = plain_engine(&rules, &before);
        let mut engine = Engine::new();
        engine.put_peers(before.clone()).unwrap();
        engine.set_rules(rules).unwrap();
        plain.put_peers(more.clone()).unwrap();
        engine.put_peers(more).unwrap();
        plain.remove_peers(&[gone]);
        engine.remove_peers(&[gone]);
        for id in 0..6 {
            prop_assert_eq!(engine.peer_class(id), plain.peer_class(id));
        }
    }
}

/// The visible peers and packet filter of each peer.
fn everything(engine: &Engine, at: i64) -> BTreeMap<PeerId, (Vec<PeerId>, Vec<FilterRule>)> {
    let of = |id| {
        let visible = engine.visible_peers(id, Direction::Either, at).unwrap_or_default();
        (id, (visible, engine.packet_filter(id, at).unwrap_or_default()))
    };
    (0..6).map(of).collect()
}

fn as_one(changes: Vec<Change>, engine: &Engine) -> zqlite_acl::Change {
    let mut one = zqlite_acl::Change::default();
    for change in changes {
        match change {
            Change::PutRules(rules) if one.put_rules.is_empty() => one.put_rules = rules,
            Change::RemoveRules(ids) => one.remove_rules.extend(ids),
            Change::SetEnabled(id, enabled) if engine.rule(id).is_some() && !one.remove_rules.contains(&id) => {
                one.set_enabled.push((id, enabled));
            }
            Change::PutPeers(peers) if one.put_peers.is_empty() => one.put_peers = peers,
            Change::RemovePeers(ids) => one.remove_peers.extend(ids),
            _ => {}
        }
    }
    one.set_enabled.retain(|(id, _)| !one.remove_rules.contains(id));
    one
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn a_packet_filter_lets_in_what_is_allowed(changes in proptest::collection::vec(change(), 1..8)) {
        let mut engine = Engine::new();
        let mut world = World::default();
        changes.iter().for_each(|change| world.apply(change, &mut engine));
        for (id, peer) in &world.peers {
            // What arrives here: nobody else routes anything.
            let mut alone = engine.clone();
            let others = world.peers.values().filter(|other| other.id != *id);
            alone.put_peers(others.map(|other| Peer { routes: Vec::new(), ..other.clone() }).collect()).unwrap();
            for at in TIMES {
                let filter = engine.packet_filter(*id, at).unwrap();
                for rule in &filter {
                    prop_assert!(!rule.sources.is_empty() && !rule.destinations.is_empty());
                }
                for source in world.addresses() {
                    for &destination in &peer.addresses {
                        for query in queries(source, destination).filter(|query| query.at == at) {
                            prop_assert_eq!(lets_in(&filter, &query), alone.decide_addresses(&query).allowed);
                        }
                    }
                    for destination in behind().filter(|it| peer.routes.iter().any(|route| route.contains(*it))) {
                        for query in queries(source, destination).filter(|query| query.at == at) {
                            prop_assert_eq!(lets_in(&filter, &query), alone.decide_addresses(&query).allowed);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn affected_are_those_whose_view_or_filter_changes(
        changes in proptest::collection::vec(change(), 1..8),
        last in proptest::collection::vec(change(), 1..3),
    ) {
        let mut engine = Engine::new();
        let mut world = World::default();
        changes.iter().for_each(|change| world.apply(change, &mut engine));
        let change = as_one(last, &engine);
        for at in TIMES {
            let affected = engine.affected(&change, at).unwrap();
            let before = everything(&engine, at);
            let mut after = engine.clone();
            after.apply(change.clone()).unwrap();
            let after = everything(&after, at);
            let expected: Vec<PeerId> = (0..6).filter(|id| before[id] != after[id]).collect();
            prop_assert_eq!(affected, expected);
        }
    }

    /// What is unused may go.
    #[test]
    fn unused_rules_change_nothing(rules in common::rules(), peers in common::peers()) {
        let mut engine = Engine::new();
        engine.set_rules(rules.clone()).unwrap();
        engine.put_peers(peers.clone()).unwrap();
        for at in TIMES {
            let unused: Vec<RuleId> = engine.unused_rules(at).into_iter().map(|unused| unused.rule).collect();
            let mut rest = engine.clone();
            prop_assert_eq!(rest.remove_rules(&unused), unused.len());
            prop_assert_eq!(everything(&engine, at), everything(&rest, at));
            for (a, b) in pairs(&peers) {
                for query in queries(a, b).filter(|query| query.at == at) {
                    prop_assert_eq!(engine.decide(&query), rest.decide(&query));
                }
            }
        }
    }

    /// Whenever a deny goes before an allow of its priority, it is said so.
    #[test]
    fn conflicts_are_found(rules in common::rules(), peers in common::peers()) {
        let mut engine = Engine::new();
        engine.set_rules(rules.clone()).unwrap();
        engine.put_peers(peers.clone()).unwrap();
        for at in TIMES {
            let conflicts = engine.conflicts(at, usize::MAX);
            for (a, b) in pairs(&peers) {
                for query in queries(a, b).filter(|query| query.at == at) {
                    let matching = engine.explain(&query).unwrap().matching;
                    for deny in matching.iter().filter(|it| it.action == Action::Deny) {
                        for allow in matching.iter().filter(|it| it.action == Action::Allow && it.priority == deny.priority) {
                            let conflict = Conflict { deny: deny.rule, allow: allow.rule };
                            prop_assert!(conflicts.contains(&conflict));
                        }
                    }
                }
            }
        }
    }
}

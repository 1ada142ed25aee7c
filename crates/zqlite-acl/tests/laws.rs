//! What must hold of the rules' meaning, whatever the rules and the peers.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod common;

use std::collections::BTreeMap;

use common::{PORTS, PROTOCOLS, TIMES, engine, of_any_family, own, pairs, peers, queries, rule, rules};
use proptest::prelude::*;
use zqlite_acl::plain::Engine;
use zqlite_acl::{Action, Direction, Explanation, Peer, PeerId, Query, Rule, Selector};
use zqlite_cidr::{Address, HostBits, Prefix};

const DIRECTIONS: [Direction; 3] = [Direction::To, Direction::From, Direction::Either];

/// Whether traffic passes, for each question about these peers.
fn allowed(engine: &Engine, peers: &[Peer]) -> Vec<bool> {
    let queries = pairs(peers).flat_map(|(a, b)| queries(a, b));
    queries.map(|query| engine.decide(&query).unwrap().allowed).collect()
}

fn explanations(engine: &Engine, peers: &[Peer]) -> Vec<Explanation> {
    let queries = pairs(peers).flat_map(|(a, b)| queries(a, b));
    queries.map(|query| engine.explain(&query).unwrap()).collect()
}

fn visible(engine: &Engine, peers: &[Peer]) -> Vec<Vec<PeerId>> {
    let mut lists = Vec::new();
    for peer in peers {
        for direction in DIRECTIONS {
            lists.extend(TIMES.map(|at| engine.visible_peers(peer.id, direction, at).unwrap()));
        }
    }
    lists
}

/// For each peer the first one of its class: the classes, whatever their numbers.
fn partition(engine: &Engine, peers: &[Peer]) -> BTreeMap<PeerId, PeerId> {
    let class = |id| engine.peer_class(id).unwrap();
    let first = |id| peers.iter().map(|peer| peer.id).filter(|&other| class(other) == class(id)).min();
    peers.iter().map(|peer| (peer.id, first(peer.id).unwrap())).collect()
}

fn halves(selector: &Selector) -> Vec<Selector> {
    match selector {
        Selector::Prefix(prefix) if prefix.length() < prefix.family().width() => {
            let middle = prefix.first().bits() + (prefix.last().bits() - prefix.first().bits()) / 2 + 1;
            let upper = if prefix.family().width() == 32 { Address::v4(middle as u32) } else { Address::v6(middle) };
            [prefix.first(), upper]
                .map(|half| Selector::Prefix(Prefix::new(half, prefix.length() + 1, HostBits::Reject).unwrap()))
                .to_vec()
        }
        Selector::Range(range) => range.to_prefixes().into_iter().map(Selector::Prefix).collect(),
        other => vec![other.clone()],
    }
}

/// Nobody but this one routes anything.
fn alone_routing(peers: &[Peer], router: PeerId) -> Vec<Peer> {
    let without = |peer: &Peer| Peer { routes: Vec::new(), ..peer.clone() };
    peers.iter().map(|peer| if peer.id == router { peer.clone() } else { without(peer) }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_order_of_insertion_changes_nothing(
        (rules, shuffled) in rules().prop_flat_map(|rules| (Just(rules.clone()), Just(rules).prop_shuffle())),
        (peers, others) in peers().prop_flat_map(|peers| (Just(peers.clone()), Just(peers).prop_shuffle())),
    ) {
        let one = engine(&rules, &peers);
        let mut other = Engine::new();
        other.set_rules(shuffled).unwrap();
        for peer in others {
            other.put_peers(vec![peer]).unwrap();
        }
        prop_assert_eq!(explanations(&one, &peers), explanations(&other, &peers));
        prop_assert_eq!(visible(&one, &peers), visible(&other, &peers));
        prop_assert_eq!(partition(&one, &peers), partition(&other, &peers));
    }

    #[test]
    fn a_shadowed_rule_changes_nothing(rules in rules(), peers in peers(), chosen in any::<prop::sample::Index>(), lower in 0..2) {
        prop_assume!(!rules.is_empty());
        let shadowing = chosen.get(&rules).clone();
        // A deny cannot say through whom or of which family, so it could match more than the allow that is to shadow it.
        prop_assume!(lower == 0 || (shadowing.through.is_empty() && shadowing.family.is_none()));
        let shadowed = match (shadowing.action, lower) {
            // At equal priority deny shadows allow, and the lower id its equals.
            (Action::Deny, 0) => Rule { id: 99, action: Action::Allow, ..shadowing },
            (Action::Allow, 0) => Rule { id: 99, ..shadowing },
            (action, _) => Rule {
                id: 99,
                priority: shadowing.priority - 1,
                action: if action == Action::Allow { Action::Deny } else { Action::Allow },
                ..shadowing
            },
        };
        let more: Vec<Rule> = rules.iter().cloned().chain([shadowed]).collect();
        let (one, other) = (engine(&rules, &peers), engine(&more, &peers));
        for (before, after) in explanations(&one, &peers).into_iter().zip(explanations(&other, &peers)) {
            prop_assert_eq!(before.decision, after.decision);
            prop_assert!(after.matching.iter().filter(|rule| rule.rule == 99).all(|rule| rule.shadowed));
        }
        prop_assert_eq!(visible(&one, &peers), visible(&other, &peers));
    }

    #[test]
    fn splitting_addresses_changes_nothing(rules in rules(), peers in peers()) {
        let split: Vec<Rule> = rules.iter().cloned().map(|rule| Rule {
            sources: rule.sources.iter().flat_map(halves).collect(),
            destinations: rule.destinations.iter().flat_map(halves).collect(),
            ..rule
        }).collect();
        let (one, other) = (engine(&rules, &peers), engine(&split, &peers));
        prop_assert_eq!(allowed(&one, &peers), allowed(&other, &peers));
        prop_assert_eq!(visible(&one, &peers), visible(&other, &peers));
    }

    #[test]
    fn deny_wins_at_equal_priority(rules in rules(), peers in peers()) {
        let equal: Vec<Rule> = rules.into_iter().map(|rule| Rule { priority: 7, ..rule }).collect();
        for explanation in explanations(&engine(&equal, &peers), &peers) {
            let denies = explanation.matching.iter().any(|rule| rule.action == Action::Deny);
            prop_assert_eq!(explanation.decision.allowed, !denies && !explanation.matching.is_empty());
        }
    }

    #[test]
    fn the_first_of_the_matching_decides(rules in rules(), peers in peers()) {
        for explanation in explanations(&engine(&rules, &peers), &peers) {
            let order = |id| {
                let rule = rules.iter().find(|rule| rule.id == id).unwrap();
                (-rule.priority, rule.action == Action::Allow, rule.id)
            };
            prop_assert!(explanation.matching.is_sorted_by_key(|matching| order(matching.rule)));
            prop_assert_eq!(explanation.decision.rule, explanation.matching.first().map(|matching| matching.rule));
            for (index, matching) in explanation.matching.iter().enumerate() {
                let rule = rules.iter().find(|rule| rule.id == matching.rule).unwrap();
                prop_assert_eq!((matching.action, matching.priority), (rule.action, rule.priority));
                prop_assert_eq!(matching.shadowed, index > 0);
            }
        }
    }

    #[test]
    fn a_rule_matches_among_others_when_it_matches_alone(rules in rules(), peers in peers()) {
        let all = engine(&rules, &peers);
        let alone: Vec<Engine> = rules.iter().map(|rule| engine(std::slice::from_ref(rule), &peers)).collect();
        for (a, b) in pairs(&peers) {
            for query in queries(own(a, false), own(b, false)) {
                let mut expected: Vec<_> = alone.iter().filter_map(|one| one.decide_addresses(&query).rule).collect();
                expected.sort_unstable();
                let mut matching: Vec<_> = all.explain_addresses(&query).matching.iter().map(|rule| rule.rule).collect();
                matching.sort_unstable();
                prop_assert_eq!(matching, expected);
            }
        }
    }

    #[test]
    fn rules_that_are_not_live_might_as_well_not_be_there(rules in rules(), peers in peers()) {
        let all = engine(&rules, &peers);
        for at in TIMES {
            let live: Vec<Rule> = rules
                .iter()
                .filter(|rule| rule.enabled && rule.expires_at.unwrap_or(i64::MAX) > at)
                .map(|rule| Rule { expires_at: None, ..rule.clone() })
                .collect();
            let live = engine(&live, &peers);
            for (a, b) in pairs(&peers) {
                for query in queries(a, b).filter(|query| query.at == at) {
                    prop_assert_eq!(all.decide(&query).unwrap().allowed, live.decide(&query).unwrap().allowed);
                }
                prop_assert_eq!(all.reachable(a, b, at), live.reachable(a, b, at));
            }
        }
    }

    /// The ports of the world's rules lie at both ends, so that these questions meet each that could be answered differently.
    #[test]
    fn a_peer_is_visible_exactly_when_some_traffic_passes(rules in rules(), peers in peers()) {
        let engine = engine(&rules, &peers);
        for at in TIMES {
            let passes = |a, b| {
                PROTOCOLS.iter().any(|&protocol| PORTS.iter().any(|&port| {
                    engine.decide(&Query { source: a, destination: b, protocol, port, at }).unwrap().allowed
                }))
            };
            for (a, b) in pairs(&peers) {
                prop_assert_eq!(engine.reachable(a, b, at), Ok(passes(a, b)));
            }
            for peer in &peers {
                let seen = |wanted: &dyn Fn(PeerId) -> bool| -> Vec<PeerId> {
                    peers.iter().map(|other| other.id).filter(|&other| other != peer.id && wanted(other)).collect()
                };
                let a = peer.id;
                prop_assert_eq!(engine.visible_peers(a, Direction::To, at).unwrap(), seen(&|b| passes(a, b)));
                prop_assert_eq!(engine.visible_peers(a, Direction::From, at).unwrap(), seen(&|b| passes(b, a)));
                prop_assert_eq!(engine.visible_peers(a, Direction::Either, at).unwrap(), seen(&|b| passes(a, b) || passes(b, a)));
            }
        }
    }

    /// A peer is reached when its own address is, or one of those behind it: asked one by one, by address, where nobody else
    /// routes them.
    #[test]
    fn a_router_is_reached_when_some_address_behind_it_is(rules in rules(), peers in peers()) {
        for (a, b) in pairs(&peers) {
            let engine = engine(&of_any_family(&rules), &alone_routing(&peers, b));
            let find = |id| peers.iter().find(|peer| peer.id == id).unwrap();
            let (Some(&source), Some(&itself)) = (find(a).addresses.first(), find(b).addresses.first()) else { continue };
            let routed = common::behind().filter(|&address| find(b).routes.iter().any(|route| route.contains(address)));
            let destinations: Vec<Address> = routed.chain([itself]).collect();
            for query in queries(a, b) {
                let Query { protocol, port, at, .. } = query;
                let expected = destinations.iter().any(|&destination| {
                    engine.decide_addresses(&Query { source, destination, protocol, port, at }).allowed
                });
                let explanation = engine.explain(&query).unwrap();
                prop_assert_eq!(explanation.decision.allowed, expected);
                prop_assert_eq!(engine.decide(&query).unwrap(), explanation.decision);
                if let Some(destination) = explanation.routed {
                    prop_assert!(destinations.contains(&destination));
                    let by_address = engine.explain_addresses(&Query { source, destination, protocol, port, at });
                    prop_assert_eq!(by_address.matching, explanation.matching);
                }
            }
        }
    }

    /// What is allowed for an address that belongs to nobody is what at least one of its routers would let through.
    #[test]
    fn an_address_is_reached_through_one_of_its_routers(rules in rules(), peers in peers()) {
        let all = engine(&rules, &peers);
        for destination in common::behind() {
            let routes = |peer: &&Peer| peer.routes.iter().any(|route| route.contains(destination));
            let ways: Vec<Engine> =
                peers.iter().filter(routes).map(|peer| engine(&rules, &alone_routing(&peers, peer.id))).collect();
            for source in peers.iter().filter_map(|peer| peer.addresses.first()) {
                for query in queries(*source, destination).filter(|_| !ways.is_empty()) {
                    let expected = ways.iter().any(|one| one.decide_addresses(&query).allowed);
                    prop_assert_eq!(all.decide_addresses(&query).allowed, expected);
                }
            }
        }
    }

    #[test]
    fn each_address_of_a_peer_stands_for_it(rules in rules(), peers in peers()) {
        let engine = engine(&of_any_family(&rules), &peers);
        for a in &peers {
            for b in &peers {
                for query in queries(a.id, b.id) {
                    let Query { protocol, port, at, .. } = query;
                    let by_id = engine.explain(&query).unwrap();
                    for &source in &a.addresses {
                        for &destination in &b.addresses {
                            let by_address = engine.explain_addresses(&Query { source, destination, protocol, port, at });
                            if by_id.routed.is_none() {
                                prop_assert_eq!(&by_address, &by_id);
                            } else {
                                prop_assert!(!by_address.decision.allowed);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Between two addresses a rule of a family is there or not; between peers it is there.
    #[test]
    fn a_rule_of_a_family_is_for_its_packets(rules in rules(), peers in peers()) {
        let all = engine(&rules, &peers);
        let peer_level = engine(&of_any_family(&rules), &peers);
        prop_assert_eq!(explanations(&all, &peers), explanations(&peer_level, &peers));
        prop_assert_eq!(visible(&all, &peers), visible(&peer_level, &peers));
        let addresses: Vec<Address> = peers.iter().flat_map(|peer| peer.addresses.clone()).chain(common::behind().take(2)).collect();
        for &source in &addresses {
            for &destination in &addresses {
                let there = |rule: &&Rule| {
                    rule.family.is_none_or(|family| source.family() == family && destination.family() == family)
                };
                let some: Vec<Rule> = rules.iter().filter(there).cloned().collect();
                let some = engine(&of_any_family(&some), &peers);
                for query in queries(source, destination) {
                    prop_assert_eq!(all.explain_addresses(&query), some.explain_addresses(&query));
                }
            }
        }
    }

    #[test]
    fn peers_of_a_class_cannot_be_told_apart(rules in rules(), peers in peers()) {
        let engine = engine(&rules, &peers);
        let class = |id| engine.peer_class(id).unwrap();
        for (a, b) in pairs(&peers).filter(|&(a, b)| class(a) == class(b)) {
            for third in peers.iter().map(|peer| peer.id) {
                for (one, other) in queries(a, third).zip(queries(b, third)) {
                    prop_assert_eq!(engine.decide(&one), engine.decide(&other));
                }
                for (one, other) in queries(third, a).zip(queries(third, b)) {
                    prop_assert_eq!(engine.decide(&one), engine.decide(&other));
                }
            }
        }
    }

    #[test]
    fn a_peer_sees_the_peers_of_the_classes_that_its_class_sees(rules in rules(), peers in peers()) {
        let engine = engine(&rules, &peers);
        for peer in &peers {
            for (direction, at) in DIRECTIONS.into_iter().flat_map(|direction| TIMES.map(|at| (direction, at))) {
                let class = engine.peer_class(peer.id).unwrap();
                let classes = engine.visible_classes(class, direction, at).unwrap();
                prop_assert!(classes.is_sorted());
                let expected: Vec<PeerId> = peers
                    .iter()
                    .map(|other| other.id)
                    .filter(|&other| other != peer.id && classes.contains(&engine.peer_class(other).unwrap()))
                    .collect();
                prop_assert_eq!(engine.visible_peers(peer.id, direction, at).unwrap(), expected);
            }
        }
    }

    #[test]
    fn only_the_last_state_counts(
        earlier in rules(), rules in rules(), before in peers(), peers in peers(), removed in proptest::collection::vec(0..6u32, 0..4),
    ) {
        let mut changed = engine(&earlier, &before);
        changed.remove_peers(&removed);
        changed.set_rules(rules.clone()).unwrap();
        changed.remove_peers(&before.iter().map(|peer| peer.id).collect::<Vec<_>>());
        changed.put_peers(before).unwrap();
        changed.put_peers(peers.clone()).unwrap();
        let gone: Vec<PeerId> = (0..6).filter(|id| peers.iter().all(|peer| peer.id != *id)).collect();
        changed.remove_peers(&gone);
        let fresh = engine(&rules, &peers);
        prop_assert_eq!(explanations(&changed, &peers), explanations(&fresh, &peers));
        prop_assert_eq!(visible(&changed, &peers), visible(&fresh, &peers));
        prop_assert_eq!(partition(&changed, &peers), partition(&fresh, &peers));
    }

    #[test]
    fn without_a_matching_rule_everything_is_denied(peers in peers(), rule in rule(0)) {
        let nothing = engine(&[], &peers);
        prop_assert!(explanations(&nothing, &peers).iter().all(|it| !it.decision.allowed && it.decision.rule.is_none()));
        let disabled = engine(&[Rule { enabled: false, ..rule }], &peers);
        prop_assert!(explanations(&disabled, &peers).iter().all(|it| !it.decision.allowed && it.matching.is_empty()));
    }
}

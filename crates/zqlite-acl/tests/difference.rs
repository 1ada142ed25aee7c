//! What changes between two engines, against asking the plain engine every question before and after.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{PORTS, PROTOCOLS, TIMES, behind, engine as plain_engine, of_any_family, peers, rule};
use proptest::prelude::*;
use zqlite_acl::{Difference, Engine, PairCounts, Party, Passage, Peer, PeerId, Query, Rule, plain};
use zqlite_cidr::Address;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Peer(PeerId),
    Behind(Address),
}

type Services = BTreeSet<(u8, u16)>;

fn build(rules: &[Rule], peers: &[Peer]) -> Engine {
    let mut engine = Engine::new();
    engine.put_peers(peers.to_vec()).unwrap();
    engine.set_rules(rules.to_vec()).unwrap();
    engine
}

/// What passes between two ends, asked one by one. A peer stands for itself, not for what it routes.
fn passing(plain: &plain::Engine, peers: &[Peer], from: End, to: End, at: i64) -> Services {
    let routed = |end: End| match end {
        End::Peer(id) => peers.iter().any(|peer| peer.id == id),
        End::Behind(address) => peers.iter().flat_map(|peer| &peer.routes).any(|route| route.contains(address)),
    };
    // An address that is no peer's, put on a peer without one, so that there is one to ask by.
    let address = |end: End| match end {
        End::Peer(id) => peers.iter().find(|peer| peer.id == id).and_then(|peer| peer.addresses.first().copied()),
        End::Behind(address) => Some(address),
    };
    if !routed(from) || !routed(to) {
        return Services::new();
    }
    let services = PROTOCOLS.into_iter().flat_map(|protocol| PORTS.into_iter().map(move |port| (protocol, port)));
    let (source, destination) = (address(from).unwrap(), address(to).unwrap());
    let allowed = |&(protocol, port): &(u8, u16)| {
        plain.decide_addresses(&Query { source, destination, protocol, port, at }).allowed
    };
    services.filter(allowed).collect()
}

fn services(passages: &[Passage]) -> Services {
    let mut found = Services::new();
    for protocol in PROTOCOLS {
        for port in PORTS {
            let covers = |it: &&Passage| {
                (it.protocols.is_empty() || it.protocols.contains(&protocol))
                    && (it.ports.is_empty() || it.ports.iter().any(|range| range.contains(port)))
            };
            if passages.iter().any(|it| covers(&it)) {
                found.insert((protocol, port));
            }
        }
    }
    found
}

/// The rows, pair by pair. No pair may be in two of them.
fn by_pair(difference: &Difference) -> BTreeMap<(End, End), (Services, Services)> {
    let ends = |index: &u32| -> Vec<End> {
        match &difference.parties[*index as usize] {
            Party::Peers(ids) => ids.iter().map(|id| End::Peer(*id)).collect(),
            Party::Behind(range) => behind().filter(|it| range.contains(*it)).map(End::Behind).collect(),
        }
    };
    let mut pairs = BTreeMap::new();
    for row in &difference.rows {
        assert!(!row.gained.is_empty() || !row.lost.is_empty());
        for from in row.sources.iter().flat_map(ends) {
            for to in row.destinations.iter().flat_map(ends) {
                if from != to || matches!(from, End::Behind(_)) {
                    let found = (services(&row.gained), services(&row.lost));
                    assert!(pairs.insert((from, to), found).is_none(), "{from:?} to {to:?} twice");
                }
            }
        }
    }
    pairs
}

fn check(before: (&[Rule], &[Peer]), after: (&[Rule], &[Peer]), engines: [&Engine; 2]) -> Result<(), TestCaseError> {
    let sides = [before, after];
    // What passes between peers is asked by address, one of several.
    let plains = sides.map(|(rules, peers)| plain_engine(&of_any_family(rules), peers));
    let ids: BTreeSet<PeerId> = sides.iter().flat_map(|(_, peers)| peers.iter().map(|peer| peer.id)).collect();
    let ends: Vec<End> = ids.into_iter().map(End::Peer).chain(behind().map(End::Behind)).collect();
    for at in TIMES {
        let difference = engines[0].difference(engines[1], at, usize::MAX);
        prop_assert!(difference.complete);
        let found = by_pair(&difference);
        let mut expected = BTreeMap::new();
        let mut counts = PairCounts::default();
        let mut concerned = BTreeSet::new();
        for &from in &ends {
            for &to in &ends {
                if from == to && matches!(from, End::Peer(_)) {
                    continue;
                }
                let [old, new] = [0, 1].map(|side| passing(&plains[side], sides[side].1, from, to, at));
                if old == new {
                    continue;
                }
                let (gained, lost): (Services, Services) = (&new - &old, &old - &new);
                for end in [from, to] {
                    match end {
                        End::Peer(id) => {
                            concerned.insert(id);
                        }
                        End::Behind(address) => {
                            let routers = sides.iter().flat_map(|(_, peers)| peers.iter());
                            let routes = |peer: &&Peer| peer.routes.iter().any(|route| route.contains(address));
                            concerned.extend(routers.filter(routes).map(|peer| peer.id));
                        }
                    }
                }
                if let (End::Peer(_), End::Peer(_)) = (from, to) {
                    counts.gaining += u64::from(!gained.is_empty());
                    counts.losing += u64::from(!lost.is_empty());
                    counts.opened += u64::from(old.is_empty());
                    counts.closed += u64::from(new.is_empty());
                }
                expected.insert((from, to), (gained, lost));
            }
        }
        for pair in found.keys().chain(expected.keys()) {
            prop_assert_eq!(found.get(pair), expected.get(pair), "{:?}", pair);
        }
        prop_assert_eq!(difference.pairs, counts);
        prop_assert_eq!(&difference.concerned, &concerned.into_iter().collect::<Vec<_>>());

        // Cut rows are some of the rows; everything else stays.
        for limit in [0, 3, 9] {
            let cut = engines[0].difference(engines[1], at, limit);
            prop_assert_eq!((cut.pairs, cut.behind), (difference.pairs, difference.behind));
            prop_assert_eq!(&cut.concerned, &difference.concerned);
            prop_assert!(
                cut.rows.iter().map(|row| row.sources.len() + row.destinations.len()).sum::<usize>()
                    <= limit + ends.len() * 2
            );
            prop_assert!(!cut.complete || by_pair(&cut) == found);
        }
    }
    Ok(())
}

/// A peer that has no address cannot be asked about by address.
fn addressed(peers: Vec<Peer>) -> Vec<Peer> {
    peers.into_iter().filter(|peer| !peer.addresses.is_empty()).collect()
}

fn some_rules() -> impl Strategy<Value = Vec<Rule>> {
    proptest::collection::btree_set(0..9u64, 0..6).prop_flat_map(|ids| ids.into_iter().map(rule).collect::<Vec<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    /// Nothing in common: other rules, other peers.
    #[test]
    fn between_any_two(rules in some_rules(), others in some_rules(), before in peers(), after in peers()) {
        let (before, after) = (addressed(before), addressed(after));
        let engines = [build(&rules, &before), build(&others, &after)];
        check((&rules, &before), (&others, &after), [&engines[0], &engines[1]])?;
    }

    /// A few rules, or a few peers, of one engine.
    #[test]
    fn after_a_change(rules in some_rules(), more in some_rules(), peers in peers(), changed in peers(), which in 0..3) {
        let peers = addressed(peers);
        let engine = build(&rules, &peers);
        let mut next = engine.clone();
        let (mut new_rules, mut new_peers) = (rules.clone(), peers.clone());
        if which != 1 {
            // Under other numbers, as a policy that is compiled again has them.
            let more: Vec<Rule> = more.into_iter().take(2).collect();
            new_rules.retain(|rule| more.iter().all(|other| other.id != rule.id));
            new_rules.extend(more);
            new_rules.iter_mut().for_each(|rule| rule.id += 100);
            next.set_rules(new_rules.clone()).unwrap();
        }
        if which != 0 {
            let changed: Vec<Peer> = addressed(changed).into_iter().take(2).collect();
            new_peers.retain(|peer| changed.iter().all(|other| other.id != peer.id));
            new_peers.extend(changed.clone());
            next.put_peers(changed).unwrap();
        }
        check((&rules, &peers), (&new_rules, &new_peers), [&engine, &next])?;
    }
}

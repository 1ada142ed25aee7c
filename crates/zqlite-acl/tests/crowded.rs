//! Many rules on few pairs: what is worked out of all of them together, against the plain engine and against definitions.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod common;

use common::{TIMES, lets_in, own, own_v6, selector};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use zqlite_acl::{
    Action, Change, Conflict, Direction, Engine, Label, Options, Peer, PortRange, Query, Rule, RuleId, Selector,
    UnusedReason, UnusedRule, plain,
};
use zqlite_cidr::{Address, AddressRange};

/// Ports at which something may begin, end, or be between two that do.
fn ports() -> impl Iterator<Item = u16> {
    (0..40).chain(65_530..=65_535)
}

const PROTOCOLS: [u8; 5] = [0, 6, 17, 255, 99];

fn range() -> impl Strategy<Value = PortRange> {
    let port = prop_oneof![6 => 1u16..38, 1 => Just(0), 1 => 65_531u16..=65_535];
    let wide = (port.clone(), port.clone()).prop_map(|(a, b)| PortRange { low: a.min(b), high: a.max(b) });
    let narrow = (port, 0u16..3).prop_map(|(low, more)| PortRange { low, high: low.saturating_add(more) });
    prop_oneof![1 => wide, 4 => narrow]
}

/// Mostly of the few selectors that all peers have.
fn side() -> impl Strategy<Value = Vec<Selector>> {
    let label = select(&["tag:a", "tag:b"]).prop_map(|label| label.parse::<Selector>().unwrap());
    let one = prop_oneof![4 => Just(Selector::Any), 4 => label, 2 => selector()];
    proptest::collection::vec(one, 1..3)
}

prop_compose! {
    fn rule(id: RuleId)(
        priority in 0..3,
        allow in any::<bool>(),
        enabled in proptest::bool::weighted(0.9),
        sources in side(),
        destinations in side(),
        protocols in prop_oneof![
            8 => subsequence(vec![0, 6, 17, 255], 0..3),
            1 => Just((0..=255).collect::<Vec<u8>>()),
            1 => Just((0..=254).collect::<Vec<u8>>()),
        ],
        ports in proptest::collection::vec(range(), 0..4),
        expires_at in prop_oneof![4 => Just(None), 1 => select(&[0, 5, 10, 15]).prop_map(Some)],
        same_owner in proptest::bool::weighted(0.1),
    ) -> Rule {
        let action = if allow { Action::Allow } else { Action::Deny };
        Rule { id, priority, action, enabled, sources, destinations, protocols, ports, expires_at, same_owner, through: vec![], family: None }
    }
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    (0..60u64, any::<bool>()).prop_flat_map(|(count, alike)| {
        let rules = (0..count).map(rule).collect::<Vec<_>>();
        // One priority for all, or several.
        rules.prop_map(move |rules| {
            rules.into_iter().map(|rule| Rule { priority: if alike { 0 } else { rule.priority }, ..rule }).collect()
        })
    })
}

fn peers() -> Vec<Peer> {
    let peer = |id: u32, labels: &[&str], owner: Option<&str>| Peer {
        id,
        addresses: vec![own(id, false), own_v6(id)],
        labels: labels.iter().map(|label| label.parse().unwrap()).collect(),
        owner: owner.map(Into::into),
        routes: vec![],
    };
    vec![peer(0, &["tag:a"], Some("u")), peer(1, &["tag:b"], Some("u")), peer(2, &["tag:a", "tag:b"], None)]
}

/// Peers that bear each set of labels, so that a label selects many classes.
fn crowd_of_peers() -> Vec<Peer> {
    let labels = ["tag:a", "tag:b", "user:u", "group:g"];
    let peer = |id: u32| Peer {
        id,
        addresses: vec![own(id, false)],
        labels: (0..4).filter(|bit| id >> bit & 1 == 1).map(|bit| labels[bit].parse().unwrap()).collect(),
        owner: None,
        routes: vec![],
    };
    (0..40).map(peer).collect()
}

/// Some of the rules come later, one by one.
fn engine(rules: &[Rule], later: usize, memory: usize) -> Engine {
    let mut engine = Engine::with_options(Options { row_memory: memory });
    engine.put_peers(peers()).unwrap();
    let (first, rest) = rules.split_at(rules.len() - later.min(rules.len()));
    engine.set_rules(first.to_vec()).unwrap();
    rest.iter().for_each(|rule| engine.put_rules(vec![rule.clone()]).unwrap());
    engine
}

fn plain_engine(rules: &[Rule]) -> plain::Engine {
    common::engine(rules, &peers())
}

fn addresses(range: AddressRange) -> impl Iterator<Item = Address> {
    std::iter::successors(Some(range.first()), move |at| at.next().filter(|next| *next <= range.last()))
}

/// Whether some peer, or address, is selected by both.
fn can_meet(peers: &[Peer], a: &Selector, b: &Selector) -> bool {
    let selects = |selector: &Selector, peer: &Peer| match selector {
        Selector::Any => true,
        Selector::Label(label) => peer.labels.contains(label),
        other => peer.addresses.iter().any(|address| other.addresses().unwrap().contains(*address)),
    };
    *a == Selector::Any
        || *b == Selector::Any
        || a == b
        || a.addresses().zip(b.addresses()).is_some_and(|(a, b)| a.first() <= b.last() && b.first() <= a.last())
        || peers.iter().any(|peer| selects(a, peer) && selects(b, peer))
}

fn conflict(peers: &[Peer], deny: &Rule, allow: &Rule, at: i64) -> bool {
    let sides = [(&deny.sources, &allow.sources), (&deny.destinations, &allow.destinations)];
    deny.is_live(at)
        && allow.is_live(at)
        && (deny.action, allow.action) == (Action::Deny, Action::Allow)
        && deny.priority == allow.priority
        && sides.into_iter().all(|(some, others)| some.iter().any(|a| others.iter().any(|b| can_meet(peers, a, b))))
        && (0..=u8::MAX).any(|it| ports().any(|port| deny.covers(it, port) && allow.covers(it, port)))
}

/// One by one: each label, address, protocol and port.
fn covers(outer: &Rule, inner: &Rule) -> bool {
    let within = |outer: &[Selector], inner: &[Selector]| {
        let holds = |address| outer.iter().filter_map(Selector::addresses).any(|range| range.contains(address));
        outer.contains(&Selector::Any)
            || inner.iter().all(|inner| match inner {
                Selector::Any => false,
                Selector::Label(_) => outer.contains(inner),
                other => addresses(other.addresses().unwrap()).all(holds),
            })
    };
    (inner.same_owner || !outer.same_owner)
        && within(&outer.sources, &inner.sources)
        && within(&outer.destinations, &inner.destinations)
        && (0..=u8::MAX).all(|it| {
            let all = ports().chain([40, 41, 65_529]);
            all.into_iter().all(|port| !inner.covers(it, port) || outer.covers(it, port))
        })
}

fn unused(rules: &[Rule], at: i64) -> Vec<UnusedRule> {
    let borne = |label: &Label| peers().iter().any(|peer| peer.labels.contains(label));
    let selects =
        |selectors: &[Selector]| selectors.iter().any(|it| !matches!(it, Selector::Label(label) if !borne(label)));
    let order = |rule: &Rule| (-rule.priority, rule.action, rule.id);
    let reason = |rule: &Rule| {
        if !rule.enabled {
            return Some(UnusedReason::Disabled);
        }
        if !rule.is_live(at) {
            return Some(UnusedReason::Expired);
        }
        if !selects(&rule.sources) || !selects(&rule.destinations) {
            return Some(UnusedReason::SelectsNobody);
        }
        let earlier =
            rules.iter().filter(|other| other.is_live(at) && order(other) < order(rule) && covers(other, rule));
        earlier.min_by_key(|other| order(other)).map(|other| UnusedReason::Shadowed(other.id))
    };
    rules.iter().filter_map(|rule| Some(UnusedRule { rule: rule.id, reason: reason(rule)? })).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn visible_peers_and_filters_are_those_of_the_plain_engine(rules in rules(), later in 0..20usize) {
        let (engine, plain) = (engine(&rules, later, 1 << 20), plain_engine(&rules));
        for at in TIMES {
            for peer in peers() {
                for direction in [Direction::To, Direction::From, Direction::Either] {
                    prop_assert_eq!(engine.visible_peers(peer.id, direction, at), plain.visible_peers(peer.id, direction, at));
                }
                let filter = engine.packet_filter(peer.id, at).unwrap();
                let strangers = [Address::v4(0), Address::v4(0x0a00_0003), Address::v6(1)];
                for source in peers().iter().flat_map(|peer| peer.addresses.clone()).chain(strangers) {
                    for &destination in &peer.addresses {
                        for protocol in PROTOCOLS {
                            for port in ports() {
                                let query = Query { source, destination, protocol, port, at };
                                prop_assert_eq!(lets_in(&filter, &query), plain.decide_addresses(&query).allowed, "{:?}", query);
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn conflicts_are_all_pairs_that_can_meet(
        rules in rules(), later in 0..20usize, limit in 0..40usize, crowd in any::<bool>(),
    ) {
        let mut engine = engine(&rules, later, 1 << 20);
        let peers = if crowd { crowd_of_peers() } else { peers() };
        engine.put_peers(peers.clone()).unwrap();
        for at in TIMES {
            let mut expected: Vec<Conflict> = Vec::new();
            for deny in &rules {
                let allows = rules.iter().filter(|allow| conflict(&peers, deny, allow, at));
                expected.extend(allows.map(|allow| Conflict { deny: deny.id, allow: allow.id }));
            }
            prop_assert_eq!(&engine.conflicts(at, usize::MAX), &expected);
            expected.truncate(limit);
            prop_assert_eq!(engine.conflicts(at, limit), expected);
        }
    }

    #[test]
    fn unused_are_rules_that_the_first_of_others_covers(
        rules in rules(), later in 0..20usize, memory in prop_oneof![3 => Just(1 << 20), 1 => Just(0)],
    ) {
        let engine = engine(&rules, later, memory);
        for at in TIMES {
            prop_assert_eq!(engine.unused_rules(at), unused(&rules, at));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn affected_are_those_whose_view_or_filter_changes(rules in rules(), chosen in any::<prop::sample::Index>(), put in rule(7)) {
        prop_assume!(!rules.is_empty());
        let engine = engine(&rules, 0, 1 << 20);
        let switched = chosen.get(&rules);
        let changes = [
            Change { set_enabled: vec![(switched.id, !switched.enabled)], ..Change::default() },
            Change { put_rules: vec![put], ..Change::default() },
        ];
        for change in changes {
            let mut after = engine.clone();
            after.apply(change.clone()).unwrap();
            for at in TIMES {
                let of = |engine: &Engine, id| {
                    (engine.visible_peers(id, Direction::Either, at).unwrap(), engine.packet_filter(id, at).unwrap())
                };
                let expected: Vec<u32> = (0..3).filter(|&id| of(&engine, id) != of(&after, id)).collect();
                prop_assert_eq!(engine.affected(&change, at).unwrap(), expected);
            }
        }
    }
}

/// Parts that only together hold the whole of another rule.
#[test]
fn adjoining_ranges_cover_what_they_hold_together() {
    let rule = |id: RuleId, sources: &[&str], protocols: Vec<u8>, ports: &[(u16, u16)]| Rule {
        id,
        priority: -(id as i32),
        action: Action::Allow,
        enabled: true,
        sources: sources.iter().map(|text| text.parse().unwrap()).collect(),
        destinations: vec![Selector::Any],
        protocols,
        ports: ports.iter().map(|&(low, high)| PortRange { low, high }).collect(),
        expires_at: None,
        same_owner: false,
        through: vec![],
        family: None,
    };
    let covered = |outer: Rule, inner: Rule| {
        let mut engine = Engine::new();
        engine.set_rules(vec![outer, inner]).unwrap();
        engine.unused_rules(0) == [UnusedRule { rule: 2, reason: UnusedReason::Shadowed(1) }]
    };
    let ports = |outer: &[(u16, u16)], inner: &[(u16, u16)]| {
        covered(rule(1, &["*"], vec![6], outer), rule(2, &["*"], vec![6], inner))
    };
    assert!(ports(&[(1, 5), (6, 10)], &[(1, 10)]));
    assert!(ports(&[(6, 10), (1, 6)], &[(2, 3), (4, 9)]));
    assert!(!ports(&[(1, 5), (7, 10)], &[(1, 10)]));
    assert!(ports(&[(0, 40_000), (40_001, 65_535)], &[]));
    assert!(!ports(&[(1, 65_535)], &[]));

    let sources = |outer: &[&str], inner: &[&str]| covered(rule(1, outer, vec![], &[]), rule(2, inner, vec![], &[]));
    assert!(sources(&["10.0.0.0/9", "10.128.0.0/9"], &["10.0.0.0/8"]));
    assert!(sources(&["10.128.0.0/9", "10.0.0.0/9", "tag:a"], &["10.0.0.0/8", "tag:a"]));
    assert!(sources(&["10.0.0.0-10.0.0.6", "10.0.0.7"], &["10.0.0.0/29"]));
    assert!(sources(&["fd00::/65", "fd00:0:0:0:8000::/65"], &["fd00::/64"]));
    assert!(!sources(&["10.0.0.0/9", "10.128.0.0/10"], &["10.0.0.0/8"]));
    assert!(!sources(&["10.0.0.0/9", "10.128.0.0/9"], &["10.0.0.0/8", "tag:a"]));

    let protocols = |outer: Vec<u8>, inner: Vec<u8>| covered(rule(1, &["*"], outer, &[]), rule(2, &["*"], inner, &[]));
    assert!(protocols((0..=255).collect(), vec![]));
    assert!(!protocols((0..255).collect(), vec![]));
    assert!(protocols(vec![17, 6], vec![6, 17]));
}

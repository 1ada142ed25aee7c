//! Rules that were written to hurt: what they may cost. The limits of time leave room for busy machines, and eight times
//! that for builds without optimization; what is quadratic by mistake takes longer.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::time::{Duration, Instant};

use zqlite_acl::{Action, Change, Direction, Engine, Options, Peer, PortRange, Query, Rule, Selector};
use zqlite_cidr::{Address, AddressRange};

const MANY: u32 = 100_000;
const MIB: usize = 1 << 20;

fn rule(id: u32, source: Selector, destination: Selector) -> Rule {
    Rule {
        id: id.into(),
        priority: (id % 7) as i32,
        action: if id.is_multiple_of(5) { Action::Deny } else { Action::Allow },
        enabled: true,
        sources: vec![source],
        destinations: vec![destination],
        protocols: vec![6],
        ports: vec![PortRange { low: (id % 60_000) as u16, high: (id % 60_000) as u16 + 9 }],
        expires_at: None,
        same_owner: false,
        through: Vec::new(),
        family: None,
    }
}

fn peer(id: u32, labels: Vec<String>) -> Peer {
    Peer {
        id,
        addresses: vec![Address::v4(0x6440_0000 + id)],
        labels: labels.into_iter().map(|label| label.parse().unwrap()).collect(),
        owner: None,
        routes: vec![],
    }
}

fn timed<T>(limit: Duration, what: impl FnOnce() -> T) -> T {
    let limit = if cfg!(debug_assertions) { limit * 8 } else { limit };
    let start = Instant::now();
    let result = what();
    let time = start.elapsed();
    assert!(time < limit, "{time:?}");
    result
}

fn nested() -> Vec<Rule> {
    let range = |depth: u32| {
        let first = Address::v4(0x0a00_0000 + depth);
        Selector::Range(AddressRange::new(first, Address::v4(0x0b00_0000 - depth)).unwrap())
    };
    (0..MANY).map(|depth| rule(depth, range(depth), Selector::Any)).collect()
}

/// Each of 200,000 intervals of addresses has another set of up to 100,000 rules: written out that would be 2.5 GB.
#[test]
fn a_hundred_thousand_nested_ranges() {
    let mut engine = Engine::new();
    timed(Duration::from_secs(30), || engine.set_rules(nested()).unwrap());
    assert!(engine.row_bytes() < 160 * MIB, "{} MiB", engine.row_bytes() / MIB);
    let ask = |engine: &Engine, port| {
        let (source, destination) = (Address::v4(0x0a80_0000), Address::v4(1));
        engine.decide_addresses(&Query { source, destination, protocol: 6, port, at: 0 })
    };
    timed(Duration::from_secs(5), || (0..1000).for_each(|port| assert!(ask(&engine, port).rule.is_some())));
    // Within a small budget the answers are the same.
    let mut small = Engine::with_options(Options { row_memory: MIB });
    timed(Duration::from_secs(30), || small.set_rules(nested()).unwrap());
    assert!(small.row_bytes() < 3 * MIB, "{}", small.row_bytes());
    for port in [0, 17, 40_000] {
        assert_eq!(ask(&engine, port), ask(&small, port));
    }
}

#[test]
fn a_hundred_thousand_rules_for_one_peer() {
    let mut engine = Engine::new();
    let label = || "peer:one".parse().map(Selector::Label).unwrap();
    timed(Duration::from_secs(30), || {
        engine.set_rules((0..MANY).map(|id| rule(id, Selector::Any, label())).collect()).unwrap();
        engine.put_peers(vec![peer(1, vec!["peer:one".into()]), peer(2, vec![])]).unwrap();
    });
    assert!(engine.row_bytes() < 64 * MIB, "{}", engine.row_bytes());
    timed(Duration::from_secs(20), || {
        assert_eq!(engine.visible_peers(1, Direction::Either, 0), Ok(vec![2]));
        for port in 0..1000 {
            assert!(
                engine.decide(&Query { source: 2, destination: 1, protocol: 6, port, at: 0 }).unwrap().rule.is_some()
            );
        }
        // Its labels change, a rule more comes: each time 100,000 rules of one selector are in the way.
        for id in 0..20 {
            engine.put_peers(vec![peer(1, vec!["peer:one".into(), format!("tag:t{id}")])]).unwrap();
            engine.put_rules(vec![rule(MANY + id, Selector::Any, label())]).unwrap();
        }
    });
}

#[test]
fn ten_thousand_labels_on_a_peer() {
    let labels: Vec<String> = (0..10_000).map(|id| format!("tag:t{id}")).collect();
    let mut engine = Engine::new();
    timed(Duration::from_secs(30), || {
        let selector = |id: u32| format!("tag:t{}", id % 10_000).parse().map(Selector::Label).unwrap();
        engine.set_rules((0..MANY).map(|id| rule(id, selector(id), selector(id + 1))).collect()).unwrap();
        engine.put_peers(vec![peer(1, labels.clone()), peer(2, labels[5..].to_vec())]).unwrap();
    });
    assert!(engine.row_bytes() < 64 * MIB, "{}", engine.row_bytes());
    timed(Duration::from_secs(20), || {
        assert_eq!(engine.visible_peers(1, Direction::To, 0), Ok(vec![2]));
        for shorter in 0..20 {
            engine.put_peers(vec![peer(2, labels[shorter..].to_vec())]).unwrap();
        }
    });
    // Nobody has a label that was taken away.
    engine.put_peers(vec![peer(1, vec![])]).unwrap();
    assert_eq!(engine.visible_peers(1, Direction::Either, 0), Ok(vec![]));
}

/// What is worked out of all rules of a pair together, and of all rules. Going through them for each of them took 6 s for
/// visible peers, and more than 100 s for conflicts and unused rules, with optimization.
fn asked_of_all(rule: impl Fn(u32) -> Rule, visible: &[u32], unused: usize) {
    let mut engine = Engine::new();
    engine.set_rules((0..MANY).map(rule).collect()).unwrap();
    engine.put_peers(vec![peer(1, vec!["peer:one".into()]), peer(2, vec![])]).unwrap();
    let limit = Duration::from_secs(2);
    timed(limit, || assert_eq!(engine.visible_peers(1, Direction::Either, 0).unwrap(), visible));
    timed(limit, || assert_eq!(engine.packet_filter(1, 0).unwrap().is_empty(), visible.is_empty()));
    // Port 1 is allowed once more by a rule that decides later.
    let change = Change { set_enabled: vec![(1, false)], ..Change::default() };
    timed(limit, || assert_eq!(engine.affected(&change, 0).unwrap(), []));
    timed(limit, || assert_eq!(engine.conflicts(0, usize::MAX), []));
    timed(limit, || assert_eq!(engine.unused_rules(0).len(), unused));
}

fn for_one(id: u32, ports: Vec<PortRange>) -> Rule {
    let action = if id.is_multiple_of(2) { Action::Deny } else { Action::Allow };
    Rule { action, ports, ..rule(id, Selector::Any, "peer:one".parse().map(Selector::Label).unwrap()) }
}

fn range(low: u32, high: u32) -> PortRange {
    PortRange { low: low as u16, high: high as u16 }
}

/// Allows and denies by turns, of one port each.
#[test]
fn a_hundred_thousand_rules_of_one_port_for_one_peer() {
    let rule = |id: u32| Rule { priority: 0, ..for_one(id, vec![range(id % 65_536, id % 65_536)]) };
    asked_of_all(rule, &[2], (MANY - 65_536) as usize);
}

/// Each shares ports with all others, and few cover another.
#[test]
fn a_hundred_thousand_rules_whose_ports_overlap_for_one_peer() {
    let ports = |id: u32| vec![range(0, 1), range(2 + id % 65_000, 2 + id % 65_000), range(65_100, 65_535)];
    let rule = |id: u32| Rule { priority: -(id as i32), ..for_one(id, ports(id)) };
    asked_of_all(rule, &[2], (MANY - 65_000) as usize);
}

/// Rules for all protocols behind some that name one.
#[test]
fn a_hundred_thousand_rules_of_all_protocols_for_one_peer() {
    let protocols = |id: u32| if id < 32 { vec![id as u8] } else { vec![] };
    let one = |id: u32| for_one(id, vec![range(id % 65_536, id % 65_536)]);
    asked_of_all(|id| Rule { priority: 0, protocols: protocols(id), ..one(id) }, &[2], (MANY - 65_536 - 32) as usize);
}

/// Each deny meets all allows by its service and by its sources, and none by its destinations.
#[test]
fn a_hundred_thousand_nested_ranges_without_a_conflict() {
    let mut engine = Engine::new();
    let nested = nested().into_iter().map(|one| {
        let label = format!("tag:t{}", one.id).parse().map(Selector::Label).unwrap();
        Rule { priority: 0, ports: vec![], destinations: vec![label], ..one }
    });
    engine.set_rules(nested.collect()).unwrap();
    // Who is in all of the ranges.
    engine.put_peers(vec![Peer { addresses: vec![Address::v4(0x0a80_0000)], ..peer(1, vec![]) }]).unwrap();
    timed(Duration::from_secs(3), || assert_eq!(engine.conflicts(0, 1000), []));
}

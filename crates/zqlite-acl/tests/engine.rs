//! Single cases of the engine's rules, and each refusal.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use zqlite_acl::plain::Engine;
use zqlite_acl::{
    Action, Decision, Direction, Label, LabelError, LabelFault, Peer, PeerError, PeerFault, PeerField, PeerId,
    PortRange, Query, Rule, RuleError, RuleFault, RuleField, RuleId, Selector, SelectorError, UnknownId,
};
use zqlite_cidr::{Address, Family, Reason};

const TCP: u8 = 6;

fn rule(id: RuleId, priority: i32, action: Action, source: &str, destination: &str) -> Rule {
    Rule {
        id,
        priority,
        action,
        enabled: true,
        sources: source.split(' ').map(|text| text.parse().unwrap()).collect(),
        destinations: destination.split(' ').map(|text| text.parse().unwrap()).collect(),
        protocols: vec![],
        ports: vec![],
        expires_at: None,
        same_owner: false,
        through: Vec::new(),
        family: None,
    }
}

fn allow(id: RuleId, priority: i32, source: &str, destination: &str) -> Rule {
    rule(id, priority, Action::Allow, source, destination)
}

fn deny(id: RuleId, priority: i32, source: &str, destination: &str) -> Rule {
    rule(id, priority, Action::Deny, source, destination)
}

fn peer(id: PeerId, addresses: &str, labels: &str) -> Peer {
    Peer {
        id,
        addresses: addresses.split_whitespace().map(|text| text.parse().unwrap()).collect(),
        labels: labels.split_whitespace().map(|text| text.parse().unwrap()).collect(),
        owner: None,
        routes: vec![],
    }
}

fn router(id: PeerId, addresses: &str, labels: &str, routes: &str) -> Peer {
    let routes = routes.split_whitespace().map(|text| text.parse().unwrap()).collect();
    Peer { routes, ..peer(id, addresses, labels) }
}

fn engine(rules: Vec<Rule>, peers: Vec<Peer>) -> Engine {
    let mut engine = Engine::new();
    engine.set_rules(rules).unwrap();
    engine.put_peers(peers).unwrap();
    engine
}

fn tcp<E>(source: E, destination: E, port: u16) -> Query<E> {
    Query { source, destination, protocol: TCP, port, at: 0 }
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn by(rule: RuleId, allowed: bool) -> Decision {
    Decision { allowed, rule: Some(rule) }
}

const NOTHING: Decision = Decision { allowed: false, rule: None };

#[test]
fn labels_ports_and_protocols() {
    let engine = engine(
        vec![Rule {
            protocols: vec![TCP],
            ports: vec![PortRange { low: 22, high: 22 }, PortRange { low: 8000, high: 8999 }],
            ..allow(1, 0, "group:dev", "tag:web")
        }],
        vec![peer(1, "100.64.0.1", "group:dev"), peer(2, "100.64.0.2", "tag:web")],
    );
    for (port, decision) in [
        (21, NOTHING),
        (22, by(1, true)),
        (23, NOTHING),
        (7999, NOTHING),
        (8000, by(1, true)),
        (8999, by(1, true)),
        (9000, NOTHING),
    ] {
        assert_eq!(engine.decide(&tcp(1, 2, port)), Ok(decision), "{port}");
    }
    assert_eq!(engine.decide(&tcp(2, 1, 22)), Ok(NOTHING));
    assert_eq!(engine.decide(&Query { protocol: 17, ..tcp(1, 2, 22) }), Ok(NOTHING));
    assert_eq!(engine.visible_peers(1, Direction::To, 0), Ok(vec![2]));
    assert_eq!(engine.visible_peers(1, Direction::From, 0), Ok(vec![]));
    assert_eq!(engine.visible_peers(2, Direction::From, 0), Ok(vec![1]));
    assert_eq!(engine.visible_peers(2, Direction::Either, 0), Ok(vec![1]));
}

#[test]
fn a_rule_without_ports_matches_what_has_none() {
    let rules = vec![
        Rule { protocols: vec![1], ..allow(1, 0, "*", "*") },
        Rule { protocols: vec![58], ports: vec![PortRange { low: 1, high: 65535 }], ..allow(2, 0, "*", "*") },
    ];
    let engine = engine(rules, vec![peer(1, "", ""), peer(2, "", "")]);
    assert_eq!(engine.decide(&Query { protocol: 1, ..tcp(1, 2, 0) }), Ok(by(1, true)));
    assert_eq!(engine.decide(&Query { protocol: 58, ..tcp(1, 2, 0) }), Ok(NOTHING));
}

#[test]
fn a_rule_matches_until_it_expires() {
    let engine =
        engine(vec![Rule { expires_at: Some(1000), ..allow(1, 0, "*", "*") }], vec![peer(1, "", ""), peer(2, "", "")]);
    assert_eq!(engine.decide(&Query { at: 999, ..tcp(1, 2, 0) }), Ok(by(1, true)));
    assert_eq!(engine.decide(&Query { at: 1000, ..tcp(1, 2, 0) }), Ok(NOTHING));
    assert_eq!(engine.visible_peers(1, Direction::Either, 999), Ok(vec![2]));
    assert_eq!(engine.visible_peers(1, Direction::Either, 1000), Ok(vec![]));
}

#[test]
fn same_owner_needs_an_owner() {
    let owned = |id, owner: Option<&str>| Peer { owner: owner.map(Into::into), ..peer(id, "", "") };
    let engine = engine(
        vec![Rule { same_owner: true, ..allow(1, 0, "*", "*") }],
        vec![
            owned(1, Some("ann")),
            owned(2, Some("ann")),
            owned(3, Some("bob")),
            owned(4, None),
            owned(5, None),
            Peer { routes: vec!["10.0.0.0/8".parse().unwrap()], ..owned(6, Some("carl")) },
        ],
    );
    assert_eq!(engine.visible_peers(1, Direction::Either, 0), Ok(vec![2]));
    assert_eq!(engine.visible_peers(3, Direction::Either, 0), Ok(vec![]));
    assert_eq!(engine.visible_peers(4, Direction::Either, 0), Ok(vec![]));
    assert_eq!(engine.visible_peers(6, Direction::Either, 0), Ok(vec![]));
    let class = |id| engine.peer_class(id).unwrap();
    assert_eq!(class(1), class(2));
    assert_eq!(class(4), class(5));
    assert_ne!(class(1), class(3));
    assert_ne!(class(1), class(4));
}

#[test]
fn owners_do_not_divide_classes_unless_a_rule_compares_them() {
    let owned = |id, owner: &str| Peer { owner: Some(owner.into()), ..peer(id, "", "") };
    let engine = engine(vec![allow(1, 0, "*", "*")], vec![owned(1, "ann"), owned(2, "bob")]);
    assert_eq!(engine.peer_class(1), engine.peer_class(2));
}

#[test]
fn a_deny_for_one_address_of_a_peer_is_for_all_of_them() {
    let engine = engine(
        vec![allow(1, 0, "*", "*"), deny(2, 1, "*", "100.64.0.2")],
        vec![peer(1, "100.64.0.1 fd00::1", ""), peer(2, "100.64.0.2 fd00::2", "")],
    );
    assert_eq!(engine.decide(&tcp(1, 2, 80)), Ok(by(2, false)));
    assert_eq!(engine.decide_addresses(&tcp(address("fd00::1"), address("fd00::2"), 80)), by(2, false));
    assert_eq!(engine.decide_addresses(&tcp(address("fd00::1"), address("::ffff:100.64.0.2"), 80)), by(2, false));
    assert_eq!(engine.decide_addresses(&tcp(address("fd00::1"), address("fd00::3"), 80)), by(1, true));
    assert_eq!(engine.visible_peers(1, Direction::To, 0), Ok(vec![]));
    assert_eq!(engine.visible_peers(1, Direction::Either, 0), Ok(vec![2]));
}

#[test]
fn addresses_of_no_peer_have_no_labels() {
    let engine = engine(
        vec![allow(1, 1, "tag:a", "*"), allow(2, 0, "10.0.0.0-10.0.0.9", "*")],
        vec![peer(1, "100.64.0.1", "tag:a")],
    );
    let decide = |source, destination| engine.decide_addresses(&tcp(address(source), address(destination), 1));
    assert_eq!(decide("100.64.0.1", "8.8.8.8"), by(1, true));
    assert_eq!(decide("8.8.8.8", "100.64.0.1"), NOTHING);
    assert_eq!(decide("10.0.0.9", "100.64.0.1"), by(2, true));
    assert_eq!(decide("10.0.0.10", "100.64.0.1"), NOTHING);
}

#[test]
fn a_router_is_seen_by_who_may_reach_something_behind_it() {
    let peers = || vec![peer(1, "100.64.0.1", ""), router(2, "100.64.0.2", "tag:router", "10.20.0.0/16")];
    let sees = |rules| engine(rules, peers()).visible_peers(1, Direction::To, 0) == Ok(vec![2]);
    assert!(sees(vec![allow(1, 0, "*", "10.20.5.0/24")]));
    assert!(sees(vec![allow(1, 0, "*", "10.0.0.0/8")]));
    assert!(sees(vec![allow(1, 0, "*", "10.20.255.255-10.21.0.9")]));
    assert!(!sees(vec![allow(1, 0, "*", "10.21.0.0/16")]));
    // What comes from behind a router is not what comes from the router.
    let engine = |rules| engine(rules, peers());
    assert_eq!(engine(vec![allow(1, 0, "10.20.0.0/16", "*")]).visible_peers(2, Direction::To, 0), Ok(vec![]));
    // One denied host hides nothing else, even the first; the whole subnet denied, part by part, hides the router.
    let subnet = allow(1, 0, "*", "10.20.0.0/16");
    assert!(sees(vec![subnet.clone(), deny(2, 1, "*", "10.20.0.0")]));
    assert!(sees(vec![subnet.clone(), deny(2, 1, "*", "10.20.0.0-10.20.255.254")]));
    assert!(!sees(vec![subnet.clone(), deny(2, 1, "*", "10.0.0.0/8")]));
    assert!(!sees(vec![subnet.clone(), deny(2, 1, "*", "10.20.0.0/17"), deny(3, 1, "*", "10.20.128.0/17")]));
    // Labels are the router's own.
    assert!(sees(vec![subnet.clone(), deny(2, 1, "*", "tag:router")]));
    let explanation = engine(vec![subnet, deny(2, 1, "*", "tag:router 10.20.0.0")]).explain(&tcp(1, 2, 80)).unwrap();
    assert_eq!(explanation.decision, by(1, true));
    assert_eq!(explanation.routed, Some(address("10.20.0.1")));
    assert_eq!(explanation.matching.len(), 1);
}

#[test]
fn routes_divide_classes_as_far_as_rules_tell_them_apart() {
    let engine = engine(
        vec![allow(1, 0, "*", "10.20.0.0/16")],
        vec![
            router(1, "", "", "10.20.1.0/24"),
            router(2, "", "", "10.20.2.0/24 10.20.3.0/24"),
            router(3, "", "", "10.30.0.0/16"),
            router(4, "", "", "10.0.0.0/8"),
            peer(5, "", ""),
        ],
    );
    let class = |id| engine.peer_class(id).unwrap();
    assert_eq!(class(1), class(2));
    let mut classes: Vec<_> = [1, 3, 4, 5].map(class).to_vec();
    classes.sort_unstable();
    classes.dedup();
    assert_eq!(classes.len(), 4);
    assert_eq!(engine.visible_peers(5, Direction::To, 0), Ok(vec![1, 2, 4]));
}

/// The last IPv6 address before the mapped block is followed by the first behind it, which a boundary must not miss.
#[test]
fn a_route_across_the_mapped_block_is_looked_at_on_both_sides() {
    let engine = engine(
        vec![allow(1, 0, "*", "::/0"), deny(2, 1, "*", "::-::fffe:ffff:ffff")],
        vec![peer(1, "", ""), router(2, "", "", "::/79"), router(3, "", "", "::/80"), router(4, "", "", "0.0.0.0/0")],
    );
    assert_eq!(engine.visible_peers(1, Direction::To, 0), Ok(vec![2]));
}

#[test]
fn classes_keep_their_ids_while_rules_stay() {
    let mut engine = engine(vec![allow(1, 0, "tag:a", "tag:b")], vec![peer(1, "", "tag:a"), peer(2, "", "tag:b")]);
    let (a, b) = (engine.peer_class(1).unwrap(), engine.peer_class(2).unwrap());
    assert_ne!(a, b);
    engine.put_peers(vec![peer(3, "", "tag:a"), peer(2, "", "tag:b group:c")]).unwrap();
    assert_eq!((engine.peer_class(3), engine.peer_class(2)), (Ok(a), Ok(b)));
    assert_eq!(engine.visible_classes(a, Direction::Either, 0), Ok(vec![b]));
    assert_eq!(engine.remove_peers(&[2, 77]), 1);
    assert_eq!(engine.visible_classes(a, Direction::Either, 0), Ok(vec![]));
    assert_eq!(engine.visible_classes(b, Direction::Either, 0), Err(UnknownId::Class(b)));
    engine.put_peers(vec![peer(2, "", "tag:b")]).unwrap();
    let again = engine.peer_class(2).unwrap();
    assert!(again != a && again != b);
}

#[test]
fn unknown_ids_are_errors() {
    let engine = engine(vec![allow(1, 0, "*", "*")], vec![peer(1, "", "")]);
    assert_eq!(engine.decide(&tcp(1, 2, 1)), Err(UnknownId::Peer(2)));
    assert_eq!(engine.explain(&tcp(3, 1, 1)), Err(UnknownId::Peer(3)));
    assert_eq!(engine.reachable(1, 2, 0), Err(UnknownId::Peer(2)));
    assert_eq!(engine.visible_peers(2, Direction::Either, 0), Err(UnknownId::Peer(2)));
    assert_eq!(Engine::new().visible_peers(2, Direction::Either, 0), Err(UnknownId::Peer(2)));
    assert_eq!(engine.peer_class(2), Err(UnknownId::Peer(2)));
    assert_eq!(engine.visible_classes(9, Direction::Either, 0), Err(UnknownId::Class(9)));
    assert_eq!(UnknownId::Peer(2).to_string(), "there is no peer 2");
}

#[test]
fn a_set_of_rules_with_a_bad_one_changes_nothing() {
    let mut engine = engine(vec![allow(1, 0, "*", "*")], vec![peer(1, "", ""), peer(2, "", "")]);
    let bad = [
        (vec![allow(5, 0, "*", "*"), deny(5, 1, "tag:a", "*")], RuleField::Id, None, RuleFault::Duplicate),
        (
            vec![deny(6, 9, "*", "*"), Rule { sources: vec![], ..allow(5, 0, "*", "*") }],
            RuleField::Sources,
            None,
            RuleFault::Empty,
        ),
        (
            vec![Rule { through: vec!["tag:a".parse().unwrap()], ..deny(5, 0, "*", "*") }],
            RuleField::Through,
            None,
            RuleFault::AllowOnly,
        ),
        (
            vec![Rule { family: Some(Family::V4), ..deny(5, 0, "*", "*") }],
            RuleField::Family,
            None,
            RuleFault::AllowOnly,
        ),
        (vec![Rule { destinations: vec![], ..allow(5, 0, "*", "*") }], RuleField::Destinations, None, RuleFault::Empty),
        (
            vec![Rule {
                ports: vec![PortRange { low: 1, high: 1 }, PortRange { low: 90, high: 80 }],
                ..allow(5, 0, "*", "*")
            }],
            RuleField::Ports,
            Some(1),
            RuleFault::InvertedPorts(PortRange { low: 90, high: 80 }),
        ),
    ];
    for (rules, field, index, fault) in bad {
        assert_eq!(engine.set_rules(rules), Err(RuleError { rule: 5, field, index, fault }));
        assert_eq!(engine.decide(&tcp(1, 2, 80)), Ok(by(1, true)));
    }
    let error = RuleError {
        rule: 5,
        field: RuleField::Ports,
        index: Some(1),
        fault: RuleFault::InvertedPorts(PortRange { low: 90, high: 80 }),
    };
    assert_eq!(error.to_string(), "rule 5, ports[1]: the range 90 to 80 ends before it begins");
}

#[test]
fn peers_with_a_bad_one_change_nothing() {
    let mut engine =
        engine(vec![allow(1, 0, "tag:a", "*")], vec![peer(1, "100.64.0.1", "tag:a"), peer(2, "100.64.0.2", "")]);
    let taken = |by| PeerFault::AddressTaken { address: address("100.64.0.1"), by };
    let bad = [
        (vec![peer(1, "", ""), peer(7, "", ""), peer(7, "", "")], PeerField::Id, None, PeerFault::Duplicate),
        (
            vec![peer(1, "", ""), Peer { owner: Some("".into()), ..peer(7, "", "") }],
            PeerField::Owner,
            None,
            PeerFault::NamelessOwner,
        ),
        (vec![peer(7, "100.64.0.7 100.64.0.1", "")], PeerField::Addresses, Some(1), taken(1)),
        (
            vec![peer(1, "", ""), peer(3, "100.64.0.1", ""), peer(7, "100.64.0.1", "")],
            PeerField::Addresses,
            Some(0),
            taken(3),
        ),
    ];
    for (peers, field, index, fault) in bad {
        assert_eq!(engine.put_peers(peers), Err(PeerError { peer: 7, field, index, fault }));
        assert_eq!(engine.visible_peers(1, Direction::To, 0), Ok(vec![2]));
    }
    let error = PeerError { peer: 7, field: PeerField::Addresses, index: Some(1), fault: taken(1) };
    assert_eq!(error.to_string(), "peer 7, addresses[1]: peer 1 has the address 100.64.0.1");
}

#[test]
fn peers_may_exchange_addresses_in_one_step() {
    let mut engine = engine(
        vec![allow(1, 0, "tag:a", "tag:b")],
        vec![peer(1, "100.64.0.1", "tag:a"), peer(2, "100.64.0.2", "tag:b")],
    );
    engine.put_peers(vec![peer(1, "100.64.0.2 100.64.0.2", "tag:a"), peer(2, "100.64.0.1", "tag:b")]).unwrap();
    let decide = |source, destination| engine.decide_addresses(&tcp(address(source), address(destination), 1));
    assert_eq!(decide("100.64.0.2", "100.64.0.1"), by(1, true));
    assert_eq!(decide("100.64.0.1", "100.64.0.2"), NOTHING);
    engine.remove_peers(&[1]);
    let decide = |source, destination| engine.decide_addresses(&tcp(address(source), address(destination), 1));
    assert_eq!(decide("100.64.0.2", "100.64.0.1"), NOTHING);
    engine.put_peers(vec![peer(3, "100.64.0.2", "tag:a")]).unwrap();
    assert!(engine.decide(&tcp(3, 2, 1)).unwrap().allowed);
}

#[test]
fn selectors_read_back_as_printed() {
    for text in
        ["*", "10.0.0.0/8", "::/0", "10.0.0.1-10.0.0.9", "tag:a-b", "group:ops", "user:ann@example.com", "peer:é"]
    {
        assert_eq!(text.parse::<Selector>().unwrap().to_string(), text);
    }
    assert_eq!("10.0.0.1".parse::<Selector>().unwrap().to_string(), "10.0.0.1/32");
    assert_eq!("dead:beef::1".parse::<Selector>().unwrap().to_string(), "dead:beef::1/128");
}

#[test]
fn what_is_no_selector() {
    let reason = |text: &str| match text.parse::<Selector>().unwrap_err() {
        SelectorError::Addresses(error) => (error.position, error.reason),
        other => panic!("{other}"),
    };
    assert_eq!(reason(""), (0, Reason::Empty));
    assert_eq!(reason("10.0.0.1/8"), (9, Reason::HostBits));
    assert_eq!(reason("10.0.0.9-10.0.0.1"), (9, Reason::InvertedRange));
    assert_eq!(reason("everyone"), (0, Reason::UnexpectedCharacter));
    assert_eq!(reason("dead:"), (5, Reason::Incomplete));

    let fault = |text: &str| match text.parse::<Selector>().unwrap_err() {
        SelectorError::Label(LabelError { position, fault, .. }) => (position, fault),
        other => panic!("{other}"),
    };
    assert_eq!(fault("host:a"), (0, LabelFault::UnknownKind));
    assert_eq!(fault("TAG:a"), (0, LabelFault::UnknownKind));
    assert_eq!(fault("tag:"), (4, LabelFault::Unnamed));
    assert_eq!(fault("tag:a b"), (5, LabelFault::Character));
    assert_eq!(fault("user:a\n"), (6, LabelFault::Character));
    assert_eq!(fault(&format!("tag:{}", "a".repeat(256))), (4, LabelFault::TooLong));
    assert!(format!("tag:{}", "a".repeat(255)).parse::<Label>().is_ok());
    assert_eq!("web".parse::<Label>().unwrap_err().fault, LabelFault::UnknownKind);
    let long = format!("tag:{}", "a ".repeat(1 << 19)).parse::<Selector>().unwrap_err();
    assert_eq!(
        long.to_string(),
        format!("not a label: \"tag:{}\"…, byte 4: a name has at most 255 bytes", "a ".repeat(30))
    );
}

#[test]
fn actions_are_allow_and_deny() {
    for action in [Action::Allow, Action::Deny] {
        assert_eq!(action.to_string().parse(), Ok(action));
    }
    assert_eq!("Allow".parse::<Action>().unwrap_err().to_string(), "\"Allow\" is neither allow nor deny");
}

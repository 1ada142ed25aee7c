//! Random sequences of rules and peers: the fast engine answers as the plain one does.
#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use zqlite_acl::{Action, Direction, Engine, Label, Peer, PortRange, Query, Rule, Selector, plain};
use zqlite_cidr::{Address, AddressRange, Family, HostBits, Prefix};

const LABELS: [&str; 4] = ["tag:a", "tag:b", "user:u", "group:g"];

/// Reads decisions off the input; zeros when it has ended.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn below(&mut self, n: u8) -> u8 {
        self.byte() % n
    }

    fn address(&mut self) -> Address {
        if self.below(4) == 0 {
            Address::v6(0xfd00 << 112 | u128::from(self.below(8)))
        } else {
            Address::v4(0x6440_0000 + u32::from(self.below(16)))
        }
    }

    fn prefix(&mut self) -> Prefix {
        let address = self.address();
        let longest = if address < Address::v6(0) { 32 } else { 128 };
        let length = longest - self.below(5);
        Prefix::new(address, length, HostBits::Mask).unwrap_or_else(|_| Prefix::from(address))
    }

    fn selector(&mut self) -> Selector {
        match self.below(4) {
            0 => Selector::Any,
            1 => LABELS[usize::from(self.below(4))].parse().expect("a label"),
            2 => Selector::Prefix(self.prefix()),
            _ => {
                let (a, b) = (u32::from(self.below(16)), u32::from(self.below(16)));
                let end = |low| Address::v4(0x6440_0000 + low);
                Selector::Range(AddressRange::new(end(a.min(b)), end(a.max(b))).expect("in order"))
            }
        }
    }

    fn several<T>(&mut self, least: u8, most: u8, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..least + self.below(most - least + 1)).map(|_| one(self)).collect()
    }

    fn label(&mut self) -> Label {
        LABELS[usize::from(self.below(4))].parse().expect("a label")
    }

    fn rule(&mut self) -> Rule {
        let sources = self.several(1, 3, Self::selector);
        let action = if self.below(3) == 0 { Action::Deny } else { Action::Allow };
        Rule {
            id: self.below(12).into(),
            priority: self.below(3).into(),
            action,
            enabled: self.below(8) != 0,
            sources,
            destinations: self.several(1, 3, Self::selector),
            protocols: self.several(0, 2, |input| [1, 6, 17][usize::from(input.below(3))]),
            ports: self.several(0, 2, |input| {
                let (a, b) = (u16::from(input.below(5)), u16::from(input.below(5)));
                PortRange { low: a.min(b), high: a.max(b) }
            }),
            expires_at: (self.below(4) == 0).then(|| self.below(12).into()),
            same_owner: self.below(8) == 0,
            family: (action == Action::Allow && self.below(4) == 0).then(|| [Family::V4, Family::V6][usize::from(self.below(2))]),
            // A deny with labels is refused, which is to be met as well, but seldom.
            through: if action == Action::Allow || self.below(32) == 0 { self.several(0, 2, Self::label) } else { Vec::new() },
        }
    }

    fn peer(&mut self) -> Peer {
        let id = self.below(8);
        let mut labels: Vec<_> = self.several(0, 2, Self::label);
        labels.dedup();
        Peer {
            id: id.into(),
            addresses: vec![
                Address::v4(0x6440_0000 + 2 * u32::from(id)),
                Address::v6(0xfd00 << 112 | u128::from(id)),
            ],
            labels,
            owner: (self.below(2) == 0).then(|| ["u", "v"][usize::from(self.below(2))].into()),
            routes: self.several(0, 1, Self::prefix),
        }
    }
}

const SERVICES: [(u8, u16); 5] = [(6, 0), (6, 3), (17, 4), (1, 0), (99, 0)];

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mut engine = Engine::new();
    let (mut rules, mut peers) = (BTreeMap::new(), BTreeMap::new());
    while !input.0.is_empty() {
        match input.below(8) {
            0 | 1 => {
                let rule = input.rule();
                if engine.put_rules(vec![rule.clone()]).is_ok() {
                    rules.insert(rule.id, rule);
                }
            }
            2 | 3 => {
                let peer = input.peer();
                if engine.put_peers(vec![peer.clone()]).is_ok() {
                    peers.insert(peer.id, peer);
                }
            }
            4 => {
                let id = input.below(12).into();
                assert_eq!(engine.remove_rules(&[id]), usize::from(rules.remove(&id).is_some()));
            }
            5 => {
                let (id, enabled) = (input.below(12).into(), input.below(2) == 0);
                let known = rules.get_mut(&id).map(|rule: &mut Rule| rule.enabled = enabled);
                assert_eq!(engine.set_enabled(id, enabled).is_ok(), known.is_some());
            }
            6 => engine.expire(input.below(12).into()),
            _ => {
                let id = input.below(8).into();
                assert_eq!(engine.remove_peers(&[id]), usize::from(peers.remove(&id).is_some()));
            }
        }
    }
    let mut plain = plain::Engine::new();
    plain.set_rules(rules.values().cloned().collect()).expect("rules that the other took");
    plain.put_peers(peers.values().cloned().collect()).expect("peers that the other took");
    for source in peers.keys().copied() {
        for direction in [Direction::To, Direction::From, Direction::Either] {
            assert_eq!(engine.visible_peers(source, direction, 6), plain.visible_peers(source, direction, 6));
        }
        for destination in peers.keys().copied() {
            for (protocol, port) in SERVICES {
                let query = Query { source, destination, protocol, port, at: 6 };
                assert_eq!(engine.decide(&query), plain.decide(&query), "{query:?}");
            }
        }
    }
    let addresses = (0..16).map(|low| Address::v4(0x6440_0000 + low)).chain((0..8).map(|low| Address::v6(0xfd00 << 112 | low)));
    let addresses: Vec<Address> = addresses.collect();
    for source in addresses.iter().copied() {
        for destination in addresses.iter().copied() {
            let (protocol, port) = SERVICES[usize::from(source == destination)];
            let query = Query { source, destination, protocol, port, at: 6 };
            assert_eq!(engine.decide_addresses(&query), plain.decide_addresses(&query), "{query:?}");
        }
    }
});

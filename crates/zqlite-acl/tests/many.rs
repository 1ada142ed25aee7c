//! Hundreds of rules: lists are made, turned and merged, labels come that they do not know, and memory runs out on the way.

#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

mod common;

use std::collections::BTreeMap;

use common::{Parts, allow, words};
use proptest::prelude::*;
use zqlite_acl::{Action, Direction, Engine, Options, Peer, PeerId, PortRange, Query, Rule, RuleId, Selector, plain};
use zqlite_cidr::{Address, AddressRange, Family, HostBits, Prefix};

const PROTOCOLS: [u8; 4] = [1, 6, 17, 99];
/// Peers have ids below.
const PEERS: u32 = 12;

/// Numbers from a seed, as the shapes of hundreds of rules are too many for a strategy each (Marsaglia, Xorshift RNGs, 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % bound
    }

    fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn some<T>(&mut self, bound: usize, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(bound)).map(|_| one(self)).collect()
    }
}

/// Four blocks of addresses, and as many of IPv6.
fn v4(low: usize) -> Address {
    Address::v4(0x0a00_fe00 + low as u32)
}

fn v6(low: usize) -> Address {
    Address::v6(0xfd00 << 112 | low as u128)
}

/// How a set of rules is made.
struct Shape {
    /// How many labels there are.
    labels: usize,
    /// Networks one in the other rather than beside.
    nested: bool,
    /// How many selectors a side has, at most, mostly.
    wide: usize,
}

impl Shape {
    fn random(random: &mut Random) -> Self {
        Self { labels: random.one(&[3, 30]), nested: random.percent(50), wide: random.one(&[1, 2, 8]) }
    }

    fn label(&self, random: &mut Random) -> String {
        format!("tag:t{}", random.below(self.labels))
    }

    fn selector(&self, random: &mut Random) -> Selector {
        let prefix = |address, length| Selector::Prefix(Prefix::new(address, length, HostBits::Mask).unwrap());
        let range = |first, last| Selector::Range(AddressRange::new(first, last).unwrap());
        match random.below(20) {
            0 => Selector::Any,
            1..=3 => self.label(random).parse().unwrap(),
            4 => {
                let (first, more) = (random.below(1024), random.below(300));
                range(v4(first), v4(first + more))
            }
            5 => {
                let (first, more) = (random.below(256), random.below(30));
                range(v6(first), v6(first + more))
            }
            6 => prefix(v6(random.below(256)), 118 + random.below(11) as u8),
            _ if self.nested => prefix(v4(random.below(16)), 20 + random.below(13) as u8),
            _ => prefix(v4(random.below(1024)), 24 + random.below(9) as u8),
        }
    }

    fn selectors(&self, random: &mut Random) -> Vec<Selector> {
        let most = if random.percent(10) { 20 } else { self.wide };
        (0..=random.below(most)).map(|_| self.selector(random)).collect()
    }

    fn rule(&self, random: &mut Random, id: RuleId) -> Rule {
        let allow = random.percent(60);
        let ports = |random: &mut Random| {
            let low = random.below(40) as u16;
            PortRange { low, high: low + random.below(20) as u16 }
        };
        Rule {
            id,
            priority: random.below(5) as i32,
            action: if allow { Action::Allow } else { Action::Deny },
            enabled: random.percent(85),
            sources: self.selectors(random),
            destinations: self.selectors(random),
            protocols: random.some(3, |random| random.one(&PROTOCOLS)),
            ports: random.some(4, ports),
            expires_at: random.percent(15).then(|| 3 + random.below(5) as i64),
            same_owner: random.percent(5),
            through: if allow && random.percent(5) { vec![self.label(random).parse().unwrap()] } else { vec![] },
            family: (allow && random.percent(5)).then(|| random.one(&[Family::V4, Family::V6])),
        }
    }

    fn peer(&self, random: &mut Random, id: PeerId) -> Peer {
        let addresses = [v4(id as usize * 61), v6(id as usize * 9)];
        Peer {
            id,
            addresses: addresses.into_iter().take(random.below(3)).collect(),
            labels: random.some(5, |random| self.label(random).parse().unwrap()),
            owner: random.percent(60).then(|| random.one(&["x", "y"]).into()),
            routes: if random.percent(20) {
                vec![Prefix::new(v4(random.below(1024)), 26, HostBits::Mask).unwrap()]
            } else {
                vec![]
            },
        }
    }
}

#[derive(Clone)]
struct World {
    engine: Engine,
    rules: BTreeMap<RuleId, Rule>,
    peers: BTreeMap<PeerId, Peer>,
}

impl World {
    fn random(random: &mut Random, shape: &Shape, memory: usize) -> Self {
        let count = random.one(&[15, 16, 17, 32, 33, 60, 150, 400]);
        let mut rules: Vec<Rule> = (0..count).map(|id| shape.rule(random, id)).collect();
        // Lists of one length and the next.
        if random.percent(50) {
            let (sources, count) = (rules[0].sources.clone(), random.one(&[15, 16, 17, 32, 33]));
            rules.iter_mut().take(count).for_each(|rule| rule.sources = sources.clone());
        }
        let peers: Vec<Peer> = (0..random.one(&[0, PEERS])).map(|id| shape.peer(random, id)).collect();
        let mut engine = Engine::with_options(Options { row_memory: memory });
        engine.put_peers(peers.clone()).unwrap();
        engine.set_rules(rules.clone()).unwrap();
        let rules = rules.into_iter().map(|rule| (rule.id, rule)).collect();
        Self { engine, rules, peers: peers.into_iter().map(|peer| (peer.id, peer)).collect() }
    }

    fn change(&mut self, random: &mut Random, shape: &Shape) {
        let id = random.below(450) as RuleId;
        match random.below(5) {
            0 => {
                let enabled = random.percent(50);
                if self.rules.get_mut(&id).map(|rule| rule.enabled = enabled).is_some() {
                    self.engine.set_enabled(id, enabled).unwrap();
                }
            }
            1 => {
                self.rules.remove(&id);
                self.engine.remove_rules(&[id]);
            }
            2 => {
                let rule = shape.rule(random, id);
                self.rules.insert(id, rule.clone());
                self.engine.put_rules(vec![rule]).unwrap();
            }
            3 => self.engine.expire(random.below(9) as i64),
            _ if self.peers.is_empty() => {}
            _ => {
                let peer = shape.peer(random, random.0 as u32 % PEERS);
                self.peers.insert(peer.id, peer.clone());
                self.engine.put_peers(vec![peer]).unwrap();
            }
        }
    }

    fn plain(&self) -> plain::Engine {
        let mut plain = plain::Engine::new();
        plain.put_peers(self.peers.values().cloned().collect()).unwrap();
        plain.set_rules(self.rules.values().cloned().collect()).unwrap();
        plain
    }

    /// Asks each question alone and in batches.
    fn check(&self, random: &mut Random) -> Result<(), TestCaseError> {
        let (engine, plain, at) = (&self.engine, self.plain(), random.below(9) as i64);
        let address =
            |random: &mut Random| if random.percent(80) { v4(random.below(1024)) } else { v6(random.below(256)) };
        let asked: Vec<_> = (0..100).map(|_| query(random, at, address)).collect();
        let expected: Vec<_> = asked.iter().map(|query| plain.decide_addresses(query)).collect();
        prop_assert_eq!(&asked.iter().map(|query| engine.decide_addresses(query)).collect::<Vec<_>>(), &expected);
        let (mut answers, parts) = (Vec::new(), Parts::of(&asked, words));
        engine.decide_v6_batch(parts.columns(), at, |_, answer| answers.push(answer));
        prop_assert_eq!(&answers, &expected);

        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let asked: Vec<_> = (0..100).map(|_| query(random, at, |random| random.one(&ids))).collect();
        let expected: Vec<_> = asked.iter().map(|query| plain.decide(query)).collect();
        prop_assert_eq!(&asked.iter().map(|query| engine.decide(query)).collect::<Vec<_>>(), &expected);
        let (mut answers, parts) = (Vec::new(), Parts::of(&asked, |id| id));
        engine.decide_batch(parts.columns(), at, |_, answer| answers.push(answer));
        prop_assert_eq!(&answers, &expected);
        let peer = random.one(&ids);
        for direction in [Direction::To, Direction::From, Direction::Either] {
            prop_assert_eq!(engine.visible_peers(peer, direction, at), plain.visible_peers(peer, direction, at));
        }
        Ok(())
    }
}

fn query<E>(random: &mut Random, at: i64, mut end: impl FnMut(&mut Random) -> E) -> Query<E> {
    let (source, destination) = (end(random), end(random));
    Query { source, destination, protocol: random.one(&PROTOCOLS), port: random.below(64) as u16, at }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn many_rules_decide_as_the_plain_engine_says(
        seed in 1..u64::MAX,
        memory in prop::sample::select(&[0, 1 << 12, 1 << 14, 40_000, 1 << 16, 1 << 18, 1 << 20, 256 << 20]),
    ) {
        let mut random = Random(seed);
        let shape = Shape::random(&mut random);
        let mut world = World::random(&mut random, &shape, memory);
        world.check(&mut random)?;
        // From here on there are labels that no list knows.
        let shape = Shape { labels: shape.labels + random.one(&[0, 20]), ..shape };
        for _ in 0..3 {
            let snapshot = world.clone();
            (0..3).for_each(|_| world.change(&mut random, &shape));
            world.check(&mut random)?;
            snapshot.check(&mut random)?;
        }
    }
}

fn bearer(id: PeerId, labels: &[String]) -> Peer {
    let labels = labels.iter().map(|label| label.parse().unwrap()).collect();
    Peer { id, addresses: vec![], labels, owner: None, routes: vec![] }
}

/// A turned list has a place for each selector that there was, and the next turned list begins behind the last.
#[test]
fn a_label_that_came_after_the_lists_is_in_none() {
    let far = |at: u64| format!("tag:far-{at}");
    let of_a = (0..40).map(|at| allow(at, "tag:a", &far(at)));
    let of_c = (0..40).map(|at| allow(100 + at, "tag:c", &if at == 0 { "tag:a".into() } else { far(at) }));
    let of_z = (0..40).map(|at| allow(200 + at, &far(at), "tag:z"));
    let few = (0..4).map(|at| allow(300 + at, "tag:nobody", &format!("tag:few-{at}")));
    let mut engine = Engine::new();
    engine.set_rules(of_a.chain(of_c).chain(of_z).chain(few).collect()).unwrap();
    // So many that the lists of the other side are the shorter ones.
    let labels: Vec<String> = (0..4).map(|at| format!("tag:few-{at}")).chain(["tag:a".into()]).collect();
    engine.put_peers(vec![bearer(1, &labels), bearer(2, &["tag:z".into()])]).unwrap();
    let query = Query { source: 1, destination: 2, protocol: 6, port: 80, at: 0 };
    for _ in 0..200 {
        assert!(!engine.decide(&query).unwrap().allowed);
    }
    for at in 0..40 {
        let label = format!("tag:new-{at}");
        engine.put_rules(vec![allow(1000 + at, "tag:nobody", &label)]).unwrap();
        engine.put_peers(vec![bearer(2, &["tag:z".into(), label])]).unwrap();
        assert!(!engine.decide(&query).unwrap().allowed, "allowed by {:?}", engine.decide(&query));
    }
}

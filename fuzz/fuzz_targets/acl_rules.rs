//! Random sequences of changes and questions: the fast engine, and its snapshots, answer as the plain one does.
//!
//! Rules and peers come one by one off the input, or many at once from a seed that is on it: then one selector is in many of them,
//! so that its lists grow long. Between changes many questions are asked, singly and in batches, so that lists are made and then
//! stay while rules, selectors and peers change.
#![no_main]

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use libfuzzer_sys::fuzz_target;
use zqlite_acl::{
    Action, Columns, Decision, Direction, Engine, Label, Options, Peer, PeerId, PortRange, Query, Rule, RuleId,
    Selector, plain,
};
use zqlite_cidr::{Address, AddressRange, Family, HostBits, Prefix};

const PEERS: u8 = 16;
const LABELS: u8 = 96;
const SERVICES: [(u8, u16); 6] = [(6, 0), (6, 3), (17, 4), (17, 1), (1, 0), (99, 0)];

/// Bytes that an engine may take for rows and lists: for none, for some of what an input leads to, and for all of it.
const MEMORY: [usize; 6] = [0, 4 << 10, 24 << 10, 96 << 10, 512 << 10, 256 << 20];

/// Rules that the plain engine goes through for one input, about; an input makes no more rules than `RULES` together, and asks
/// no more often than `ASKS`: what keeps an execution short.
const WORK: usize = 24_000;
const RULES: usize = 500;
const ASKS: usize = 8;

fn v4(low: u8) -> Address {
    Address::v4(0x6440_0000 + u32::from(low))
}

fn v6(low: u8) -> Address {
    Address::v6(0xfd00 << 112 | u128::from(low))
}

fn label(number: u8) -> Label {
    let kind = ["tag", "user", "group", "peer"][usize::from(number % 4)];
    format!("{kind}:{number}").parse().expect("a label")
}

/// Where decisions come from.
trait Decisions {
    fn byte(&mut self) -> u8;

    fn below(&mut self, n: u8) -> u8 {
        self.byte() % n
    }

    fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    fn several<T>(&mut self, least: u8, most: u8, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..least + self.below(most - least + 1)).map(|_| one(self)).collect()
    }

    fn address(&mut self) -> Address {
        if self.below(4) == 0 { v6(self.below(16)) } else { v4(self.byte()) }
    }

    fn prefix(&mut self) -> Prefix {
        let address = self.address();
        let longest = if address.family() == Family::V4 { 32 } else { 128 };
        let length = longest - self.below(6);
        Prefix::new(address, length, HostBits::Mask).unwrap_or_else(|_| Prefix::from(address))
    }

    /// Few labels are common, many are rare.
    fn label(&mut self) -> Label {
        if self.below(2) == 0 { self.common_label() } else { label(self.below(LABELS)) }
    }

    fn common_label(&mut self) -> Label {
        label(self.below(4))
    }

    fn rare(&mut self) -> Selector {
        if self.below(2) == 0 {
            Selector::Label(label(self.below(LABELS)))
        } else {
            Selector::Prefix(Prefix::from(self.address()))
        }
    }

    fn selector(&mut self) -> Selector {
        match self.below(8) {
            0 => Selector::Any,
            1..=3 => Selector::Label(self.label()),
            4..=6 => Selector::Prefix(self.prefix()),
            _ => {
                let (a, b) = (self.byte(), self.byte());
                Selector::Range(AddressRange::new(v4(a.min(b)), v4(a.max(b))).expect("in order"))
            }
        }
    }

    fn rule(&mut self) -> Rule {
        let action = if self.below(3) == 0 { Action::Deny } else { Action::Allow };
        let allows = action == Action::Allow;
        Rule {
            id: (self.word() % 1024).into(),
            priority: self.below(32).into(),
            action,
            enabled: self.below(8) != 0,
            sources: self.several(1, 3, Self::selector),
            destinations: self.several(1, 3, Self::selector),
            protocols: self.several(0, 2, |from| from.pick(&[1, 6, 17])),
            ports: self.several(0, 2, |from| {
                let (a, b) = (u16::from(from.below(5)), u16::from(from.below(5)));
                PortRange { low: a.min(b), high: a.max(b) }
            }),
            expires_at: (self.below(4) == 0).then(|| self.below(12).into()),
            same_owner: self.below(8) == 0,
            family: (allows && self.below(8) == 0).then(|| self.pick(&[Family::V4, Family::V6])),
            // A deny with labels is refused, which is to be met as well, but seldom.
            through: if (allows && self.below(8) == 0) || self.below(128) == 1 {
                self.several(0, 2, Self::label)
            } else {
                Vec::new()
            },
        }
    }

    fn peer(&mut self) -> Peer {
        let id = self.below(PEERS);
        let mut labels = self.several(0, 4, Self::label);
        labels.sort();
        labels.dedup();
        Peer {
            id: id.into(),
            // Now and then one that another has.
            addresses: vec![v4((16 * id).wrapping_add(if self.below(32) == 1 { 16 } else { 0 })), v6(id)],
            labels,
            owner: (self.below(2) == 0).then(|| self.pick(&["u", "v"]).into()),
            routes: if self.below(4) == 0 { self.several(0, 2, Self::prefix) } else { Vec::new() },
        }
    }

    /// Others, as many as are wanted.
    fn seeded(&mut self) -> Seeded {
        Seeded(self.word().into())
    }

    /// An id of those that there are, or another.
    fn rule_id(&mut self, rules: &BTreeMap<RuleId, Rule>) -> RuleId {
        let word = self.word();
        rules.keys().nth(usize::from(word) % (rules.len() + 1)).copied().unwrap_or(RuleId::from(word % 1024))
    }
}

/// Zeros when it has ended.
struct Input<'a>(&'a [u8]);

impl Decisions for Input<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }
}

/// SplitMix64.
struct Seeded(u64);

impl Decisions for Seeded {
    fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as u8
    }
}

/// Many rules. Half of the time they name a few selectors again and again, and otherwise such as nearly nobody is selected by: then
/// lists are long, but what is found in them by mistake is not hidden behind rules that match anyway.
fn many_rules(input: &mut Input<'_>) -> Vec<Rule> {
    let (count, mut seeded) = (1 + usize::from(input.byte()) * 5 / 4, input.seeded());
    let is_sparse = seeded.below(2) == 0;
    let shared =
        seeded.several(1, 3, |from| if is_sparse { Selector::Label(from.common_label()) } else { from.selector() });
    let mut rules = BTreeMap::new();
    for _ in 0..count {
        let mut rule = seeded.rule();
        if is_sparse {
            rule = Rule {
                sources: vec![seeded.rare()],
                destinations: vec![seeded.rare()],
                same_owner: false,
                through: Vec::new(),
                ..rule
            };
            rule.protocols.truncate(1);
            rule.ports.truncate(1);
        }
        let one = shared[usize::from(seeded.byte()) % shared.len()].clone();
        match seeded.below(4) {
            0 => rule.sources = vec![one],
            1 => rule.destinations = vec![one],
            2 if !is_sparse => rule.sources.push(one),
            _ => {}
        }
        rules.insert(rule.id, rule);
    }
    rules.into_values().collect()
}

/// Half of them or more.
fn many_peers(input: &mut Input<'_>) -> Vec<Peer> {
    let mut seeded = input.seeded();
    let peers: BTreeMap<_, _> = (0..24).map(|_| seeded.peer()).map(|peer| (peer.id, peer)).collect();
    peers.into_values().collect()
}

/// An engine, and what is in it.
#[derive(Clone)]
struct World {
    engine: Engine,
    rules: BTreeMap<RuleId, Rule>,
    peers: BTreeMap<PeerId, Peer>,
    /// Made of them when it is asked for.
    plain: OnceCell<Rc<plain::Engine>>,
}

impl World {
    fn put_rules(&mut self, rules: Vec<Rule>) {
        if self.engine.put_rules(rules.clone()).is_ok() {
            self.rules.extend(rules.into_iter().map(|rule| (rule.id, rule)));
        }
    }

    fn put_peers(&mut self, peers: Vec<Peer>) {
        if self.engine.put_peers(peers.clone()).is_ok() {
            self.peers.extend(peers.into_iter().map(|peer| (peer.id, peer)));
        }
    }

    fn change(&mut self, input: &mut Input<'_>, made: &mut usize) {
        self.plain = OnceCell::new();
        match input.below(10) {
            0 => {
                *made += 1;
                self.put_rules(vec![input.rule()]);
            }
            1 => {
                *made += 1;
                self.put_rules(vec![input.seeded().rule()]);
            }
            2 => {
                let rules = many_rules(input);
                *made += rules.len();
                self.put_rules(rules);
            }
            3 => self.put_peers(vec![input.peer()]),
            4 => self.put_peers(many_peers(input)),
            5 => {
                let ids: Vec<_> = (0..=input.below(3)).map(|_| input.rule_id(&self.rules)).collect();
                let there = ids.iter().filter(|id| self.rules.remove(id).is_some()).count();
                assert_eq!(self.engine.remove_rules(&ids), there);
            }
            6 => {
                let (id, enabled) = (input.rule_id(&self.rules), input.below(2) == 0);
                let known = self.rules.get_mut(&id).map(|rule| rule.enabled = enabled);
                assert_eq!(self.engine.set_enabled(id, enabled).is_ok(), known.is_some());
            }
            7 => self.engine.expire(input.below(12).into()),
            8 => {
                let id = input.below(PEERS).into();
                assert_eq!(self.engine.remove_peers(&[id]), usize::from(self.peers.remove(&id).is_some()));
            }
            _ => {
                // All anew, without some.
                let keep = input.below(4);
                self.rules.retain(|id, _| keep == 0 || id % 4 != u64::from(keep));
                *made += self.rules.len();
                self.engine.set_rules(self.rules.values().cloned().collect()).expect("rules that it took");
            }
        }
    }

    fn plain(&self) -> &plain::Engine {
        self.plain.get_or_init(|| {
            let mut plain = plain::Engine::new();
            plain.set_rules(self.rules.values().cloned().collect()).expect("rules that the other took");
            plain.put_peers(self.peers.values().cloned().collect()).expect("peers that the other took");
            Rc::new(plain)
        })
    }

    /// Asks many questions, in batches and singly, and some of them of the plain engine too.
    fn ask(&self, kind: u8, from: &mut impl Decisions, work: usize) {
        let at = from.below(12).into();
        let batch_first = from.below(2) == 0;
        let mut seeded = from.seeded();
        let count = 48 + usize::from(seeded.below(48));
        let services: Vec<_> = (0..count).map(|_| seeded.pick(&SERVICES)).collect();
        let (protocols, ports): (Vec<u8>, Vec<u16>) = services.into_iter().unzip();
        let plain = self.plain();
        // As many as there is work for, spread over all.
        let each = (count * self.rules.len() / work).max(1);
        if kind == 0 {
            let known: Vec<PeerId> = self.peers.keys().copied().chain([PEERS.into()]).collect();
            let mut ends = || (0..count).map(|_| seeded.pick(&known)).collect::<Vec<_>>();
            let (sources, destinations) = (ends(), ends());
            let questions =
                Columns { sources: &sources, destinations: &destinations, protocols: &protocols, ports: &ports };
            let batch = || {
                let mut found = Vec::with_capacity(count);
                self.engine.decide_batch(questions, at, |index, decision| put(&mut found, index, decision));
                found
            };
            let early = batch_first.then(batch);
            let queries: Vec<_> = queries(&sources, &destinations, &protocols, &ports, at).collect();
            let singly: Vec<_> = queries.iter().map(|query| self.engine.decide(query)).collect();
            assert_eq!(early.unwrap_or_else(batch), singly, "batch, singly");
            for (index, (query, decision)) in queries.iter().zip(singly).enumerate() {
                let explained = self.engine.explain(query);
                assert_eq!(decision, explained.as_ref().map(|it| it.decision).map_err(|error| *error), "{query:?}");
                if index % each == 0 {
                    assert_eq!(explained, plain.explain(query), "{query:?}");
                }
            }
            return;
        }
        let end = if kind == 1 { |from: &mut Seeded| v4(from.byte()) } else { |from: &mut Seeded| from.address() };
        let mut ends = || (0..count).map(|_| end(&mut seeded)).collect::<Vec<_>>();
        let (sources, destinations) = (ends(), ends());
        let batch = || {
            let mut found = Vec::with_capacity(count);
            let put = |index, decision| put(&mut found, index, decision);
            if kind == 1 {
                let (sources, destinations) = (
                    sources.iter().map(v4_word).collect::<Vec<_>>(),
                    destinations.iter().map(v4_word).collect::<Vec<_>>(),
                );
                let questions =
                    Columns { sources: &sources, destinations: &destinations, protocols: &protocols, ports: &ports };
                self.engine.decide_v4_batch(questions, at, put);
            } else {
                let (sources, destinations) = (
                    sources.iter().map(v6_words).collect::<Vec<_>>(),
                    destinations.iter().map(v6_words).collect::<Vec<_>>(),
                );
                let questions =
                    Columns { sources: &sources, destinations: &destinations, protocols: &protocols, ports: &ports };
                self.engine.decide_v6_batch(questions, at, put);
            }
            found
        };
        let early = batch_first.then(batch);
        let queries: Vec<_> = queries(&sources, &destinations, &protocols, &ports, at).collect();
        let singly: Vec<Decision> = queries.iter().map(|query| self.engine.decide_addresses(query)).collect();
        assert_eq!(early.unwrap_or_else(batch), singly, "batch, singly");
        for (index, (query, decision)) in queries.iter().zip(singly).enumerate() {
            let explained = self.engine.explain_addresses(query);
            assert_eq!(decision, explained.decision, "{query:?}");
            if index % each == 0 {
                assert_eq!(explained, plain.explain_addresses(query), "{query:?}");
            }
        }
    }

    /// Who sees whom, of as many peers as there is work for.
    fn see(&self, at: i64, work: usize) {
        let plain = self.plain();
        let each = self.rules.len() * self.peers.len() * SERVICES.len() + 1;
        for (&peer, direction) in self
            .peers
            .keys()
            .take(work / each)
            .zip([Direction::Either, Direction::To, Direction::From].into_iter().cycle())
        {
            assert_eq!(
                self.engine.visible_peers(peer, direction, at),
                plain.visible_peers(peer, direction, at),
                "{peer} {direction:?}"
            );
        }
    }
}

/// Each question is answered once, in order.
fn put<T>(found: &mut Vec<T>, index: usize, decision: T) {
    assert_eq!(index, found.len());
    found.push(decision);
}

fn v4_word(address: &Address) -> u32 {
    v6_words(address)[3]
}

/// IPv4 as IPv4-mapped.
fn v6_words(address: &Address) -> [u32; 4] {
    let bits = match IpAddr::from(*address) {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
}

fn queries<E: Copy>(
    sources: &[E],
    destinations: &[E],
    protocols: &[u8],
    ports: &[u16],
    at: i64,
) -> impl Iterator<Item = Query<E>> {
    let ends = sources.iter().copied().zip(destinations.iter().copied());
    let services = protocols.iter().copied().zip(ports.iter().copied());
    ends.zip(services).map(move |((source, destination), (protocol, port))| Query {
        source,
        destination,
        protocol,
        port,
        at,
    })
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let engine = Engine::with_options(Options { row_memory: input.pick(&MEMORY) });
    let mut world = World { engine, rules: BTreeMap::new(), peers: BTreeMap::new(), plain: OnceCell::new() };
    let mut others: Vec<World> = Vec::new();
    let (mut made, mut asked) = (0, 0);
    let last = u64::from(input.word());
    if input.below(4) != 0 {
        let rules = many_rules(&mut input);
        made += rules.len();
        world.put_rules(rules);
        world.put_peers(many_peers(&mut input));
    }
    while !input.0.is_empty() && made < RULES && asked < ASKS {
        match input.below(8) {
            0..=4 => world.change(&mut input, &mut made),
            5 | 6 => {
                asked += 1;
                let kind = input.below(3);
                world.ask(kind, &mut input, WORK / ASKS);
            }
            // Snapshots, and going on with one of them.
            _ if others.len() < 2 => others.push(world.clone()),
            _ => {
                let other = usize::from(input.below(2));
                std::mem::swap(&mut world, &mut others[other]);
            }
        }
    }
    // All are asked everything in turn, so that what was made for one meets what has changed in another.
    others.push(world);
    let work = WORK / 4 / others.len();
    for kind in 0..3 {
        for (seed, world) in (last + u64::from(kind)..).zip(&others) {
            world.ask(kind, &mut Seeded(seed), work);
        }
    }
    for world in &others {
        world.see(6, work);
    }
});

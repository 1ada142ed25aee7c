//! A small world of peers, rules and questions, in which rules meet often.
#![allow(dead_code, reason = "not each test file uses each of these")]
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use zqlite_acl::plain::Engine;
use zqlite_acl::{Action, Columns, FilterRule, Peer, PeerId, PortRange, Query, Rule, RuleId, Selector};
use zqlite_cidr::{Address, AddressRange, Family, HostBits, Prefix};

pub(crate) const TIMES: [i64; 2] = [0, 10];
pub(crate) const PROTOCOLS: [u8; 4] = [1, 6, 17, 99];
pub(crate) const PORTS: [u16; 10] = [0, 1, 2, 3, 4, 5, 6, 65533, 65534, 65535];

const LABELS: [&str; 4] = ["tag:a", "tag:b", "user:u", "group:g"];

/// Peers' own addresses, two to an IPv4 block of two.
pub(crate) fn own(peer: PeerId, second: bool) -> Address {
    Address::v4(0x6440_0000 + peer * 2 + u32::from(second))
}

pub(crate) fn own_v6(peer: PeerId) -> Address {
    Address::v6(0xfd00 << 112 | u128::from(peer))
}

/// The sixteen addresses that lie behind routers.
pub(crate) fn behind() -> impl Iterator<Item = Address> {
    (0..16).map(|low| Address::v4(0x0a00_0000 + low))
}

fn behind_prefix() -> impl Strategy<Value = Prefix> {
    (0u32..16, 27u8..=32)
        .prop_map(|(low, length)| Prefix::new(Address::v4(0x0a00_0000 + low), length.max(28), HostBits::Mask).unwrap())
}

pub(crate) fn selector() -> impl Strategy<Value = Selector> {
    let prefix = |address: Address, length| Selector::Prefix(Prefix::new(address, length, HostBits::Mask).unwrap());
    prop_oneof![
        2 => Just(Selector::Any),
        3 => select(&LABELS).prop_map(|label| label.parse().unwrap()),
        3 => (0..6u32, 28u8..=32).prop_map(move |(peer, length)| prefix(own(peer, false), length)),
        1 => (0..6u32, 124u8..=128).prop_map(move |(peer, length)| prefix(own_v6(peer), length)),
        2 => behind_prefix().prop_map(Selector::Prefix),
        1 => (0u32..12, 0u32..12).prop_map(|(a, b)| {
            let end = |low| Address::v4(0x6440_0000 + low);
            Selector::Range(AddressRange::new(end(a.min(b)), end(a.max(b))).unwrap())
        }),
        1 => (0u32..16, 0u32..16).prop_map(|(a, b)| {
            let end = |low| Address::v4(0x0a00_0000 + low);
            Selector::Range(AddressRange::new(end(a.min(b)), end(a.max(b))).unwrap())
        }),
    ]
}

fn port_range() -> impl Strategy<Value = PortRange> {
    let ends = select(&[0u16, 1, 2, 3, 4, 65534, 65535]);
    (ends.clone(), ends).prop_map(|(a, b)| PortRange { low: a.min(b), high: a.max(b) })
}

prop_compose! {
    pub(crate) fn rule(id: RuleId)(
        priority in 0..3,
        action in select(&[Action::Allow, Action::Allow, Action::Deny]),
        enabled in proptest::bool::weighted(0.85),
        sources in proptest::collection::vec(selector(), 1..3),
        destinations in proptest::collection::vec(selector(), 1..3),
        protocols in subsequence(vec![1, 6, 17], 0..3),
        ports in proptest::collection::vec(port_range(), 0..3),
        expires_at in prop_oneof![3 => Just(None), 1 => select(&[0, 5, 10]).prop_map(Some)],
        same_owner in proptest::bool::weighted(0.15),
        through in prop_oneof![2 => Just(vec![]), 1 => subsequence(LABELS.to_vec(), 1..3)],
        family in prop_oneof![2 => Just(None), 1 => select(&[Family::V4, Family::V6]).prop_map(Some)],
    ) -> Rule {
        let family = family.filter(|_| action == Action::Allow);
        let through = through.into_iter().filter(|_| action == Action::Allow).map(|label| label.parse().unwrap()).collect();
        Rule { id, priority, action, enabled, sources, destinations, protocols, ports, expires_at, same_owner, through, family }
    }
}

/// Rules with the ids 0, 1, 2 …
pub(crate) fn rules() -> impl Strategy<Value = Vec<Rule>> {
    (0..7u64).prop_flat_map(|count| (0..count).map(rule).collect::<Vec<_>>())
}

prop_compose! {
    pub(crate) fn peer(id: PeerId)(
        first in proptest::bool::weighted(0.9),
        second in proptest::bool::weighted(0.3),
        v6 in proptest::bool::weighted(0.5),
        labels in subsequence(LABELS.to_vec(), 0..3),
        owner in select(&[None, Some("u"), Some("v")]),
        routes in prop_oneof![2 => Just(vec![]), 1 => proptest::collection::vec(behind_prefix(), 1..3)],
    ) -> Peer {
        let addresses = [first.then(|| own(id, false)), second.then(|| own(id, true)), v6.then(|| own_v6(id))];
        Peer {
            id,
            addresses: addresses.into_iter().flatten().collect(),
            labels: labels.into_iter().map(|label| label.parse().unwrap()).collect(),
            owner: owner.map(Into::into),
            routes,
        }
    }
}

/// Some of the peers 0 to 5.
pub(crate) fn peers() -> impl Strategy<Value = Vec<Peer>> {
    (0..6u32).map(peer).collect::<Vec<_>>().prop_flat_map(|peers| subsequence(peers, 0..=6))
}

/// The same without families, as questions about peers see them.
pub(crate) fn of_any_family(rules: &[Rule]) -> Vec<Rule> {
    rules.iter().map(|rule| Rule { family: None, ..rule.clone() }).collect()
}

pub(crate) fn engine(rules: &[Rule], peers: &[Peer]) -> Engine {
    let mut engine = Engine::new();
    engine.put_peers(peers.to_vec()).unwrap();
    engine.set_rules(rules.to_vec()).unwrap();
    engine
}

/// Each question that one can ask about two endpoints.
pub(crate) fn queries<E: Copy>(source: E, destination: E) -> impl Iterator<Item = Query<E>> {
    TIMES.into_iter().flat_map(move |at| {
        PROTOCOLS.into_iter().flat_map(move |protocol| {
            PORTS.into_iter().map(move |port| Query { source, destination, protocol, port, at })
        })
    })
}

pub(crate) fn pairs(peers: &[Peer]) -> impl Iterator<Item = (PeerId, PeerId)> {
    peers.iter().flat_map(|a| peers.iter().map(|b| (a.id, b.id)))
}

/// The words of an IPv6 address, or of the IPv6 address that an IPv4 address is mapped to.
pub(crate) fn words(address: Address) -> [u32; 4] {
    let bits = match address.family() {
        Family::V4 => 0xffff << 32 | address.bits(),
        Family::V6 => address.bits(),
    };
    [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
}

/// What [`Columns`] refers to.
pub(crate) struct Parts<E> {
    sources: Vec<E>,
    destinations: Vec<E>,
    protocols: Vec<u8>,
    ports: Vec<u16>,
}

impl<E: Copy> Parts<E> {
    pub(crate) fn of<F: Copy>(asked: &[Query<F>], end: impl Fn(F) -> E) -> Self {
        Self {
            sources: asked.iter().map(|query| end(query.source)).collect(),
            destinations: asked.iter().map(|query| end(query.destination)).collect(),
            protocols: asked.iter().map(|query| query.protocol).collect(),
            ports: asked.iter().map(|query| query.port).collect(),
        }
    }

    pub(crate) fn columns(&self) -> Columns<'_, E> {
        let Self { sources, destinations, protocols, ports } = self;
        Columns { sources, destinations, protocols, ports }
    }
}

/// A rule that allows all of one selector to reach another.
pub(crate) fn allow(id: RuleId, source: &str, destination: &str) -> Rule {
    Rule {
        id,
        priority: 0,
        action: Action::Allow,
        enabled: true,
        sources: vec![source.parse().unwrap()],
        destinations: vec![destination.parse().unwrap()],
        protocols: vec![],
        ports: vec![],
        expires_at: None,
        same_owner: false,
        through: vec![],
        family: None,
    }
}

/// What the filter says of an address, a protocol and a port.
pub(crate) fn lets_in(filter: &[FilterRule], query: &Query<Address>) -> bool {
    let within = |ranges: &[AddressRange], address| ranges.iter().any(|range| range.contains(address));
    filter.iter().any(|rule| {
        within(&rule.sources, query.source)
            && within(&rule.destinations, query.destination)
            && (rule.protocols.is_empty() || rule.protocols.contains(&query.protocol))
            && (rule.ports.is_empty() || rule.ports.iter().any(|range| range.contains(query.port)))
    })
}

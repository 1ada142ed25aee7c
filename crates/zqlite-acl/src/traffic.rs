//! Protocols and ports taken together: which of them a list of rules lets through.

use std::collections::BTreeMap;

use crate::rule::{Action, PortRange, Rule};

/// Ports as ranges that ascend and neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ports(pub(crate) Vec<PortRange>);

impl Ports {
    fn all() -> Self {
        Self(vec![PortRange { low: 0, high: u16::MAX }])
    }

    /// Those of a rule. Without any it has all.
    fn of(rule: &Rule) -> Self {
        if rule.ports.is_empty() {
            return Self::all();
        }
        let mut ranges = rule.ports.clone();
        ranges.sort_unstable();
        ranges.dedup_by(|next, last| {
            let joined = u32::from(next.low) <= u32::from(last.high) + 1;
            if joined {
                last.high = last.high.max(next.high);
            }
            joined
        });
        Self(ranges)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether each of these is one of the others.
    fn lie_in(&self, others: &Ports) -> bool {
        self.0.iter().all(|range| {
            let next = others.0.partition_point(|other| other.high < range.low);
            others.0.get(next).is_some_and(|other| other.low <= range.low && range.high <= other.high)
        })
    }

    /// Whether one of these is one of the others.
    fn meet(&self, others: &Ports) -> bool {
        let (few, many) = if self.0.len() <= others.0.len() { (self, others) } else { (others, self) };
        few.0.iter().any(|range| {
            let next = many.0.partition_point(|other| other.high < range.low);
            many.0.get(next).is_some_and(|other| other.low <= range.high)
        })
    }

    /// What is in both, and what is only in the first.
    fn split(&self, by: &Ports) -> (Ports, Ports) {
        let (mut both, mut rest) = (Vec::new(), Vec::new());
        let mut cutters = by.0.iter().peekable();
        for &range in &self.0 {
            let mut low = u32::from(range.low);
            while let Some(cutter) = cutters.peek() {
                if u32::from(cutter.high) < low {
                    cutters.next();
                    continue;
                }
                if cutter.low > range.high {
                    break;
                }
                let first = cutter.low.max(low as u16);
                let last = cutter.high.min(range.high);
                if low < u32::from(first) {
                    rest.push(PortRange { low: low as u16, high: first - 1 });
                }
                both.push(PortRange { low: first, high: last });
                low = u32::from(last) + 1;
                if cutter.high >= range.high {
                    break;
                }
            }
            if low <= u32::from(range.high) {
                rest.push(PortRange { low: low as u16, high: range.high });
            }
        }
        (Ports(both), Ports(rest))
    }
}

/// Protocols, a bit each.
pub(crate) type Protocols = [u64; 4];

/// The protocols and ports of a rule.
#[derive(Clone, Debug)]
pub(crate) struct Services {
    pub(crate) protocols: Protocols,
    pub(crate) ports: Ports,
}

impl Services {
    pub(crate) fn of(rule: &Rule) -> Self {
        let mut protocols = if rule.protocols.is_empty() { [u64::MAX; 4] } else { [0; 4] };
        rule.protocols.iter().for_each(|&protocol| protocols[usize::from(protocol) / 64] |= 1 << (protocol % 64));
        Self { protocols, ports: Ports::of(rule) }
    }

    pub(crate) fn has(&self, protocol: u8) -> bool {
        self.protocols[usize::from(protocol) / 64] >> (protocol % 64) & 1 == 1
    }

    /// Whether each of the others is one of these.
    pub(crate) fn cover(&self, others: &Services) -> bool {
        self.protocols.iter().zip(others.protocols).all(|(these, those)| those & !these == 0)
            && others.ports.lie_in(&self.ports)
    }

    /// Whether one of the others is one of these.
    pub(crate) fn meet(&self, others: &Services) -> bool {
        self.protocols.iter().zip(others.protocols).any(|(these, those)| these & those != 0)
            && self.ports.meet(&others.ports)
    }
}

/// What passes, by ports; equal when the same passes. No ports are empty or occur twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Traffic(pub(crate) Vec<(Ports, Protocols)>);

impl Traffic {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What passes here and not there.
    pub(crate) fn without(&self, other: &Traffic) -> Traffic {
        let mut parts: Vec<(Ports, Protocols)> = Vec::new();
        for (ports, protocols) in &self.0 {
            let mut left = *protocols;
            for (taken, of) in &other.0 {
                let both: Protocols = std::array::from_fn(|word| left[word] & of[word]);
                if both == [0; 4] {
                    continue;
                }
                left.iter_mut().zip(both).for_each(|(bits, gone)| *bits &= !gone);
                add(&mut parts, ports.split(taken).1, both);
            }
            if left != [0; 4] {
                add(&mut parts, ports.clone(), left);
            }
        }
        parts.sort_unstable();
        Traffic(parts)
    }

    /// Protocols and ports, ascending. Empty lists stand for all of them, and for no port at all.
    pub(crate) fn parts(self) -> impl Iterator<Item = (Vec<u8>, Vec<PortRange>)> {
        self.0.into_iter().map(|(ports, protocols)| {
            let named = |protocol: &u8| protocols[usize::from(*protocol) / 64] >> (protocol % 64) & 1 == 1;
            (
                if protocols == [u64::MAX; 4] { Vec::new() } else { (0..=u8::MAX).filter(named).collect() },
                if ports == Ports::all() { Vec::new() } else { ports.0 },
            )
        })
    }
}

fn add(traffic: &mut Vec<(Ports, Protocols)>, ports: Ports, protocols: Protocols) {
    match traffic.iter_mut().find(|known| known.0 == ports) {
        _ if ports.is_empty() => {}
        Some(known) => known.1.iter_mut().zip(protocols).for_each(|(bits, more)| *bits |= more),
        None => traffic.push((ports, protocols)),
    }
}

/// What these rules, in the order in which they decide, let through.
pub(crate) fn allowed(rules: &[&Rule]) -> Traffic {
    let mut naming: BTreeMap<u8, Vec<(usize, &Rule)>> = BTreeMap::new();
    let mut of_all = Vec::new();
    for (place, &rule) in rules.iter().enumerate() {
        if rule.protocols.is_empty() {
            of_all.push((place, rule));
        }
        for &protocol in &rule.protocols {
            naming.entry(protocol).or_default().push((place, rule));
        }
    }
    // Rules for all protocols are worked out once, however many protocols others name.
    let of_all = decided(&of_all);
    let mut others: Protocols = [u64::MAX; 4];
    let mut traffic: Vec<(Ports, Protocols)> = Vec::new();
    for (&protocol, rules) in &naming {
        let mut one: Protocols = [0; 4];
        one[usize::from(protocol) / 64] = 1 << (protocol % 64);
        others[usize::from(protocol) / 64] &= !one[usize::from(protocol) / 64];
        traffic.push((let_through(&decided(rules), &of_all), one));
    }
    if others != [0; 4] {
        traffic.push((let_through(&of_all, &[]), others));
    }
    traffic.sort_unstable();
    traffic.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1.iter_mut().zip(next.1).for_each(|(bits, more)| *bits |= more);
        }
        same
    });
    traffic.retain(|(ports, _)| !ports.is_empty());
    Traffic(traffic)
}

/// Whether these rules, in the order in which they decide, let anything through.
pub(crate) fn some_passes<'a>(mut rules: impl Iterator<Item = &'a Rule>) -> bool {
    // Nothing can stand before the first rule, and nothing against allows among themselves.
    match rules.next() {
        None => false,
        Some(first) if first.action == Action::Allow => true,
        Some(first) => {
            let all: Vec<&Rule> = std::iter::once(first).chain(rules).collect();
            all.iter().any(|rule| rule.action == Action::Allow) && !allowed(&all).is_empty()
        }
    }
}

/// Ports that one rule decides.
#[derive(Clone, Copy)]
struct Decided {
    ports: PortRange,
    /// The place of the rule among all of them.
    place: usize,
    allows: bool,
}

/// Which rule decides which ports, ascending: the first that has them. Each rule is given with its place, and these ascend.
fn decided(rules: &[(usize, &Rule)]) -> Vec<Decided> {
    let mut pieces = Vec::new();
    // Where each range that nobody has decided begins, and its end. What a rule takes away has been put there by one before,
    // so all takes O(n log n).
    let mut free: BTreeMap<u16, u16> = BTreeMap::from([(0, u16::MAX)]);
    for &(place, rule) in rules {
        let all = [PortRange { low: 0, high: u16::MAX }];
        for &PortRange { low, high } in if rule.ports.is_empty() { &all[..] } else { &rule.ports } {
            while let Some((&first, &last)) = free.range(..=high).next_back()
                && low <= last
            {
                free.remove(&first);
                if let Some(next) = high.checked_add(1).filter(|next| *next <= last) {
                    free.insert(next, last);
                }
                if first < low {
                    free.insert(first, low - 1);
                }
                let ports = PortRange { low: low.max(first), high: high.min(last) };
                pieces.push(Decided { ports, place, allows: rule.action == Action::Allow });
            }
        }
        if free.is_empty() {
            break;
        }
    }
    pieces.sort_unstable_by_key(|piece| piece.ports);
    pieces
}

/// What passes where of two lists the rule that comes first decides.
fn let_through(some: &[Decided], others: &[Decided]) -> Ports {
    let mut ports: Vec<PortRange> = Vec::new();
    let mut lists = [some, others];
    let mut next = Some(0u16);
    while let Some(low) = next {
        let (mut high, mut first) = (u16::MAX, None::<Decided>);
        for list in &mut lists {
            while let Some((_, rest)) = list.split_first().filter(|(piece, _)| piece.ports.high < low) {
                *list = rest;
            }
            match list.first() {
                Some(piece) if piece.ports.low <= low => {
                    high = high.min(piece.ports.high);
                    first = Some(first.filter(|first| first.place < piece.place).unwrap_or(*piece));
                }
                Some(piece) => high = high.min(piece.ports.low - 1),
                None => {}
            }
        }
        if first.is_some_and(|first| first.allows) {
            match ports.last_mut() {
                Some(last) if last.high.checked_add(1) == Some(low) => last.high = high,
                _ => ports.push(PortRange { low, high }),
            }
        }
        next = high.checked_add(1);
    }
    Ports(ports)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Many rules in few places, or all over the ports.
    fn rules() -> impl Strategy<Value = Vec<Rule>> {
        let port = prop_oneof![4 => 0u16..24, 1 => 65_530u16..=65_535, 1 => any::<u16>()];
        let range = (port.clone(), port).prop_map(|(a, b)| PortRange { low: a.min(b), high: a.max(b) });
        let ports = proptest::collection::vec(range, 0..4);
        let protocols =
            proptest::collection::vec(prop_oneof![Just(6u8), Just(17), Just(0), Just(255), any::<u8>()], 0..3);
        let rule = (any::<bool>(), ports, protocols).prop_map(|(allow, ports, protocols)| Rule {
            id: 0,
            priority: 0,
            action: if allow { Action::Allow } else { Action::Deny },
            enabled: true,
            sources: Vec::new(),
            destinations: Vec::new(),
            protocols,
            ports,
            expires_at: None,
            same_owner: false,
            through: Vec::new(),
            family: None,
        });
        proptest::collection::vec(rule, 0..80)
    }

    proptest! {
        /// Each protocol that is named and one that is not, at each port where something may begin or end.
        #[test]
        fn what_passes_is_what_the_first_rule_allows(rules in rules()) {
            let rules: Vec<&Rule> = rules.iter().collect();
            let traffic = allowed(&rules);
            let mut protocols: Vec<u8> = rules.iter().flat_map(|rule| rule.protocols.clone()).collect();
            protocols.extend((0..=u8::MAX).find(|protocol| !protocols.contains(protocol)));
            let ends = rules.iter().flat_map(|rule| &rule.ports);
            let ports: Vec<u16> = ends
                .flat_map(|range| [range.low, range.high, range.low.saturating_sub(1), range.high.saturating_add(1)])
                .chain([0, u16::MAX])
                .collect();
            let mut some = false;
            for &protocol in &protocols {
                for &port in &ports {
                    let first = rules.iter().find(|rule| rule.covers(protocol, port));
                    let expected = first.is_some_and(|rule| rule.action == Action::Allow);
                    let of = |bits: &Protocols| bits[usize::from(protocol) / 64] >> (protocol % 64) & 1 == 1;
                    let found = traffic.0.iter().filter(|(_, bits)| of(bits));
                    let found = found.filter(|(ports, _)| ports.0.iter().any(|range| range.contains(port))).count();
                    prop_assert_eq!(found, usize::from(expected), "{} {}", protocol, port);
                    some |= expected;
                }
            }
            prop_assert_eq!(some_passes(rules.iter().copied()), some);
            prop_assert!(traffic.0.is_sorted());
            for (index, (ports, bits)) in traffic.0.iter().enumerate() {
                prop_assert!(*bits != [0; 4] && !ports.is_empty());
                prop_assert!(ports.0.windows(2).all(|two| u32::from(two[0].high) + 1 < u32::from(two[1].low)));
                prop_assert!(traffic.0.iter().skip(index + 1).all(|(other, _)| other != ports));
            }
        }
    }
}

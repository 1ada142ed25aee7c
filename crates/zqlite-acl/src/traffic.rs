//! Protocols and ports taken together: which of them a list of rules lets through.

use crate::rule::{Action, PortRange, Rule};

/// Ports as ranges that ascend and neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ports(pub(crate) Vec<PortRange>);

impl Ports {
    pub(crate) const fn none() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn all() -> Self {
        Self(vec![PortRange { low: 0, high: u16::MAX }])
    }

    fn of(rule: &Rule) -> Self {
        if rule.ports.is_empty() { Self::all() } else { Self::none().union(&rule.ports) }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn union(&self, more: &[PortRange]) -> Self {
        let mut ranges: Vec<PortRange> = self.0.iter().chain(more).copied().collect();
        ranges.sort_unstable();
        let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if u32::from(range.low) <= u32::from(last.high) + 1 => last.high = last.high.max(range.high),
                _ => merged.push(range),
            }
        }
        Self(merged)
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
pub(crate) fn allowed<'a>(rules: impl Iterator<Item = &'a Rule> + Clone) -> Traffic {
    let mut mentioned = [0u64; 4];
    for &protocol in rules.clone().flat_map(|rule| &rule.protocols) {
        mentioned[usize::from(protocol) / 64] |= 1 << (protocol % 64);
    }
    let mut traffic: Vec<(Ports, Protocols)> = Vec::new();
    for protocol in 0..=u8::MAX {
        if mentioned[usize::from(protocol) / 64] >> (protocol % 64) & 1 == 1 {
            let covering = rules.clone().filter(|rule| rule.protocols.is_empty() || rule.protocols.contains(&protocol));
            let mut one = [0; 4];
            one[usize::from(protocol) / 64] = 1 << (protocol % 64);
            add(&mut traffic, allowed_ports(covering), one);
        }
    }
    if mentioned != [u64::MAX; 4] {
        let others = allowed_ports(rules.filter(|rule| rule.protocols.is_empty()));
        add(&mut traffic, others, mentioned.map(|bits| !bits));
    }
    traffic.sort_unstable();
    Traffic(traffic)
}

/// Whether these rules, in the order in which they decide, let anything through.
pub(crate) fn some_passes<'a>(mut rules: impl Iterator<Item = &'a Rule> + Clone) -> bool {
    // Nothing can stand before the first rule, and nothing against allows among themselves.
    let all = rules.clone();
    match rules.next().map(|rule| rule.action) {
        None => false,
        Some(Action::Allow) => true,
        Some(Action::Deny) => rules.any(|rule| rule.action == Action::Allow) && !allowed(all).is_empty(),
    }
}

fn allowed_ports<'a>(rules: impl Iterator<Item = &'a Rule>) -> Ports {
    let mut allowed = Ports::none();
    let mut undecided = Ports::all();
    for rule in rules {
        let (decided, rest) = undecided.split(&Ports::of(rule));
        if rule.action == Action::Allow {
            allowed = allowed.union(&decided.0);
        }
        undecided = rest;
        if undecided.is_empty() {
            break;
        }
    }
    allowed
}

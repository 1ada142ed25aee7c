//! Rules packed by `lib/acl-packed.ts` into numbers and a text.
//!
//! For each rule: its id, priority and flags, how many sources, destinations, labels that it goes through, protocols and ranges
//! of ports it has; then when it expires and of which family it is, if it says so; its protocols; the ranges, two numbers each. The text has a line for
//! each source, destination and label, in this order.

use zqlite_acl::Rule;
use zqlite_store::Error;

use super::given::{GivenRule, read_rule};

const ALLOW: u8 = 1;
const DISABLED: u8 = 2;
const SAME_OWNER: u8 = 4;
const EXPIRES: u8 = 8;
const OF_FAMILY: u8 = 16;

/// The rules; `None` when the lines are not as many as the numbers say, as when a selector has a line break within.
pub(super) fn unpack(numbers: &[f64], texts: &str) -> Result<Option<Vec<Rule>>, Error> {
    let packed = || {
        let mut packed = Packed { numbers, lines: texts.split('\n') };
        // No list has no lines, but no text is one.
        if texts.is_empty() {
            packed.lines.next();
        }
        packed
    };
    // Gone through twice: keeping what is given of each rule until all are known to be whole would take as much memory again.
    let (mut whole, mut count) = (packed(), 0);
    while !whole.numbers.is_empty() {
        if whole.rule().is_none() {
            return Ok(None);
        }
        count += 1;
    }
    if whole.lines.next().is_some() {
        return Ok(None);
    }
    let mut rules = Vec::with_capacity(count);
    let mut rest = packed();
    while let Some(given) = rest.rule() {
        rules.push(read_rule(given)?);
    }
    Ok(Some(rules))
}

struct Packed<'a> {
    numbers: &'a [f64],
    lines: std::str::Split<'a, char>,
}

impl<'a> Packed<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [f64]> {
        let (taken, rest) = self.numbers.split_at_checked(count)?;
        self.numbers = rest;
        Some(taken)
    }

    fn texts(&mut self, count: f64) -> Option<Vec<&'a str>> {
        let mut texts = Vec::new();
        for _ in 0..count as usize {
            texts.push(self.lines.next()?);
        }
        Some(texts)
    }

    fn rule(&mut self) -> Option<GivenRule<'a>> {
        let &[id, priority, flags, sources, destinations, through, protocols, ports] = self.take(8)? else {
            return None;
        };
        let has = |flag| flags as u8 & flag != 0;
        let expires_at = if has(EXPIRES) { self.take(1)?.first().copied() } else { None };
        let family = if has(OF_FAMILY) { self.take(1)?.first().copied() } else { None };
        let protocols = self.take(protocols as usize)?.to_vec();
        let ports = self.take(2 * ports as usize)?.chunks_exact(2).map(|ends| (ends[0], ends[1])).collect();
        Some(GivenRule {
            id,
            priority,
            action: if has(ALLOW) { "allow" } else { "deny" },
            enabled: !has(DISABLED),
            sources: self.texts(sources)?,
            destinations: self.texts(destinations)?,
            protocols,
            ports,
            expires_at,
            same_owner: has(SAME_OWNER),
            through: self.texts(through)?,
            family,
        })
    }
}

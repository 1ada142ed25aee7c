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
    // No list has no lines, but no text is one.
    let lines: Vec<&str> = if texts.is_empty() { Vec::new() } else { texts.split('\n').collect() };
    // Gone through twice: only when all are known to be whole may one be found wrong.
    let (mut whole, mut count) = (Packed { numbers, lines: &lines }, 0);
    while !whole.numbers.is_empty() {
        if whole.rule().is_none() {
            return Ok(None);
        }
        count += 1;
    }
    if !whole.lines.is_empty() {
        return Ok(None);
    }
    let mut rules = Vec::with_capacity(count);
    let mut rest = Packed { numbers, lines: &lines };
    while let Some(given) = rest.rule() {
        rules.push(read_rule(&given)?);
    }
    Ok(Some(rules))
}

struct Packed<'a> {
    numbers: &'a [f64],
    lines: &'a [&'a str],
}

impl<'a> Packed<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [f64]> {
        let (taken, rest) = self.numbers.split_at_checked(count)?;
        self.numbers = rest;
        Some(taken)
    }

    fn texts(&mut self, count: f64) -> Option<&'a [&'a str]> {
        let (taken, rest) = self.lines.split_at_checked(count as usize)?;
        self.lines = rest;
        Some(taken)
    }

    fn rule(&mut self) -> Option<GivenRule<'a, &'a str>> {
        let &[id, priority, flags, sources, destinations, through, protocols, ports] = self.take(8)? else {
            return None;
        };
        let has = |flag| flags as u8 & flag != 0;
        let expires_at = if has(EXPIRES) { self.take(1)?.first().copied() } else { None };
        let family = if has(OF_FAMILY) { self.take(1)?.first().copied() } else { None };
        let protocols = self.take(protocols as usize)?;
        let (ports, _) = self.take(2 * ports as usize)?.as_chunks();
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

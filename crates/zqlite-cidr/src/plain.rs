//! The prefix table in its plainest form: a list, and a scan of all of it for each question.
//!
//! It is the definition of what a prefix table answers, and the oracle that faster ones are compared with.

use crate::address::Address;
use crate::prefix::Prefix;

/// Values by prefix, IPv4 and IPv6 side by side. Each prefix has one value. Every operation takes O(n), or O(n log n)
/// where the answer is sorted.
#[derive(Clone, Debug)]
pub struct PrefixTable<V> {
    /// In no order; no prefix occurs twice.
    entries: Vec<(Prefix, V)>,
}

impl<V> Default for PrefixTable<V> {
    fn default() -> Self {
        Self { entries: Vec::new() }
    }
}

impl<V> PrefixTable<V> {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many prefixes the table holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the table holds no prefix.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Gives `prefix` this value; returns the one that it had.
    pub fn insert(&mut self, prefix: Prefix, value: V) -> Option<V> {
        match self.entries.iter_mut().find(|entry| entry.0 == prefix) {
            Some(entry) => Some(std::mem::replace(&mut entry.1, value)),
            None => {
                self.entries.push((prefix, value));
                None
            }
        }
    }

    /// Removes `prefix` itself, not those that it covers; returns its value.
    pub fn remove(&mut self, prefix: Prefix) -> Option<V> {
        let index = self.entries.iter().position(|entry| entry.0 == prefix)?;
        Some(self.entries.swap_remove(index).1)
    }

    /// The value of `prefix` itself.
    pub fn get(&self, prefix: Prefix) -> Option<&V> {
        self.entries.iter().find(|entry| entry.0 == prefix).map(|entry| &entry.1)
    }

    /// The longest prefix that holds `address`: the route that a packet takes.
    pub fn longest_match(&self, address: Address) -> Option<(Prefix, &V)> {
        self.matches(address).pop()
    }

    /// Each prefix that holds `address`, shortest to longest.
    pub fn matches(&self, address: Address) -> Vec<(Prefix, &V)> {
        self.sorted(|prefix| prefix.contains(address))
    }

    /// Each prefix that covers `prefix`, itself included, shortest to longest.
    pub fn covering(&self, prefix: Prefix) -> Vec<(Prefix, &V)> {
        self.sorted(|entry| entry.covers(prefix))
    }

    /// Each prefix that `prefix` covers, itself included, sorted.
    pub fn covered(&self, prefix: Prefix) -> Vec<(Prefix, &V)> {
        self.sorted(|entry| prefix.covers(entry))
    }

    /// All of the table, sorted: IPv4 first, a prefix before those that it covers.
    pub fn walk(&self) -> Vec<(Prefix, &V)> {
        self.sorted(|_| true)
    }

    fn sorted(&self, wanted: impl Fn(Prefix) -> bool) -> Vec<(Prefix, &V)> {
        let mut found: Vec<_> =
            self.entries.iter().filter(|entry| wanted(entry.0)).map(|(prefix, value)| (*prefix, value)).collect();
        found.sort_unstable_by_key(|entry| entry.0);
        found
    }
}

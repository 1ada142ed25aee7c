//! Which ranges of addresses meet a given one: the address selectors of all rules.
//!
//! A sorted list searched like a balanced tree, each part of which knows where its ranges end at most (an augmented
//! interval tree: Cormen et al., chapter on augmenting data structures). New ranges gather in a short list beside it.

use std::sync::Arc;

use zqlite_cidr::{Address, AddressRange, Family};

#[derive(Clone, Debug, Default)]
pub(crate) struct Spans {
    sorted: Arc<Vec<Span>>,
    recent: Vec<(AddressRange, u32)>,
}

#[derive(Clone, Copy, Debug)]
struct Span {
    range: AddressRange,
    value: u32,
    /// The furthest end in the part of the list whose middle this is.
    furthest: Address,
}

/// Longer, and the short list is sorted in.
const RECENT: usize = 64;

impl Spans {
    pub(crate) fn new(spans: impl IntoIterator<Item = (AddressRange, u32)>) -> Self {
        let mut sorted: Vec<Span> =
            spans.into_iter().map(|(range, value)| Span { range, value, furthest: range.last() }).collect();
        // By range. IPv4 comes first, where one number is quicker to compare than two of twice its length.
        sorted.sort_unstable_by_key(|span| span.range.first().family());
        let count = sorted.partition_point(|span| span.range.first().family() == Family::V4);
        let (v4, v6) = sorted.split_at_mut(count);
        v4.sort_unstable_by_key(|span| (span.range.first().bits() as u64) << 32 | span.range.last().bits() as u64);
        v6.sort_unstable_by_key(|span| span.range);
        augment(&mut sorted);
        Self { sorted: Arc::new(sorted), recent: Vec::new() }
    }

    pub(crate) fn insert(&mut self, range: AddressRange, value: u32) {
        self.recent.push((range, value));
        if self.recent.len() > RECENT {
            let all = self.sorted.iter().map(|span| (span.range, span.value));
            *self = Self::new(all.chain(std::mem::take(&mut self.recent)).collect::<Vec<_>>());
        }
    }

    /// Each range that shares an address with `wanted`: O(log n) and their number.
    pub(crate) fn meeting(&self, wanted: AddressRange, found: &mut impl FnMut(AddressRange, u32)) {
        search(&self.sorted, wanted, found);
        for &(range, value) in &self.recent {
            if range.first() <= wanted.last() && wanted.first() <= range.last() {
                found(range, value);
            }
        }
    }
}

fn augment(spans: &mut [Span]) -> Option<Address> {
    let middle = spans.len() / 2;
    let (left, rest) = spans.split_at_mut(middle);
    let (span, right) = rest.split_first_mut()?;
    let furthest = [augment(left), augment(right)].into_iter().flatten().fold(span.range.last(), Address::max);
    span.furthest = furthest;
    Some(furthest)
}

fn search(spans: &[Span], wanted: AddressRange, found: &mut impl FnMut(AddressRange, u32)) {
    let (left, rest) = spans.split_at(spans.len() / 2);
    let Some((span, right)) = rest.split_first() else {
        return;
    };
    if span.furthest < wanted.first() {
        return;
    }
    search(left, wanted, found);
    if span.range.first() <= wanted.last() {
        if wanted.first() <= span.range.last() {
            found(span.range, span.value);
        }
        search(right, wanted, found);
    }
}

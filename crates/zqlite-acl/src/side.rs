//! One side of the traffic, source or destination: which rules each address meets on it.

use std::sync::Arc;

use zqlite_cidr::{Address, AddressRange, Family};

use crate::intervals::Intervals;
use crate::rows::{Dense, EMPTY, Interned, RowId, Rows, Slot, Sweep};

#[derive(Clone, Debug)]
pub(crate) struct Side {
    /// Rules with `*` on this side; they are in no row.
    pub(crate) any: Arc<Dense>,
    v4: Intervals<u32, RowId>,
    v6: Intervals<u128, RowId>,
}

impl Default for Side {
    fn default() -> Self {
        Self { any: Arc::default(), v4: Intervals::new(EMPTY), v6: Intervals::new(EMPTY) }
    }
}

impl Side {
    /// The row of an address that belongs to nobody.
    #[inline]
    pub(crate) fn row(&self, address: Address) -> RowId {
        match address.family() {
            Family::V4 => self.v4.get(address.bits() as u32),
            Family::V6 => self.v6.get(address.bits()),
        }
        .unwrap_or(EMPTY)
    }

    /// Changes the rows of these addresses.
    pub(crate) fn update(&mut self, range: AddressRange, change: impl FnMut(RowId) -> RowId) {
        let (first, last) = (range.first().bits(), range.last().bits());
        match range.first().family() {
            Family::V4 => self.v4.update(first as u32, (last as u32).checked_add(1), change),
            Family::V6 => self.v6.update(first, last.checked_add(1), change),
        }
    }

    pub(crate) fn rows_mut(&mut self) -> impl Iterator<Item = &mut RowId> {
        self.v4.values_mut().chain(self.v6.values_mut())
    }

    /// From ranges with the rules that name them, built in one sweep.
    pub(crate) fn build(
        any: Dense,
        ranges: &[(AddressRange, &[Slot])],
        rows: &mut Rows,
        interned: &mut Interned,
    ) -> Self {
        let of = |family| ranges.iter().filter(move |(range, _)| range.first().family() == family);
        let v4 = of(Family::V4).map(|(range, slots)| {
            let end = (range.last().bits() as u32).checked_add(1);
            (range.first().bits() as u32, end, *slots)
        });
        let v4 = sweep(v4, rows, interned);
        let v6 =
            of(Family::V6).map(|(range, slots)| (range.first().bits(), range.last().bits().checked_add(1), *slots));
        Self { any: Arc::new(any), v4, v6: sweep(v6, rows, interned) }
    }
}

/// Rows of the intervals between the ends of ranges, each given as where it begins, where what lies behind it begins, and
/// the rules that name it. The work is in the changes from one interval to the next.
pub(crate) fn sweep<'a, K: Copy + Ord + Default>(
    ranges: impl Iterator<Item = (K, Option<K>, &'a [Slot])>,
    rows: &mut Rows,
    interned: &mut Interned,
) -> Intervals<K, RowId> {
    let mut events: Vec<(K, bool, &[Slot])> = Vec::new();
    for (first, end, slots) in ranges {
        events.push((first, true, slots));
        events.extend(end.map(|end| (end, false, slots)));
    }
    events.sort_unstable_by_key(|event| event.0);
    let end = events.iter().filter_map(|event| event.2.iter().max()).max().map_or(0, |slot| *slot as usize + 1);
    let mut sweep = Sweep::new(rows, interned);
    // A rule may name ranges that overlap.
    let mut counts = vec![0u32; end];
    let mut entries = vec![(K::default(), EMPTY)];
    let mut flips = Vec::new();
    for events in events.chunk_by(|a, b| a.0 == b.0) {
        for &(_, begins, slots) in events {
            for &slot in slots {
                let count = &mut counts[slot as usize];
                // Ends may come before the beginnings of the same place: counts wrap and come back.
                let before = *count;
                *count = if begins { count.wrapping_add(1) } else { count.wrapping_sub(1) };
                if (before == 0) != (*count == 0) {
                    flips.push(slot);
                }
            }
        }
        flips.drain(..).for_each(|slot| sweep.flip(slot));
        let row = sweep.row();
        let Some(&(key, _, _)) = events.first() else { continue };
        match entries.last_mut() {
            Some(last) if last.0 == key => last.1 = row,
            Some(last) if last.1 == row && row != crate::rows::FACTORED => {}
            _ => entries.push((key, row)),
        }
    }
    Intervals::from_sorted(entries)
}

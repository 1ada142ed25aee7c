//! The first steps of addresses through the flat form, eight to an instruction (AVX-512): the loads of a step are
//! gathers, and lanes that have arrived are masked out. DPDK's vector lookups of DIR-24-8 and its trie work so.
//!
//! Only the steps that most addresses take: behind them the ways part, and a gather costs as much for one lane as for
//! eight, so that the plain code, which lists the lanes that go on, was measured to be faster. All groups of a batch take a step before any takes the next, and each asks for its next lines at once, so that the
//! misses of all of them overlap.

use std::arch::x86_64::*;

use crate::batch::{LANES, prefetch};
use crate::flat::{GATE, REACH, Slot};

/// Addresses of a group.
const GROUP: usize = 8;

/// The parts of the flat form that one family goes through.
pub(crate) struct Form<'a> {
    pub(crate) root: &'a [Slot],
    /// The first slot of row 0.
    pub(crate) rows: *const Slot,
}

/// A group: the upper halves of its keys, and where each address is.
#[derive(Clone, Copy)]
struct Group {
    highs: __m512i,
    slots: __m256i,
}

/// Where the first `count` addresses are after `steps` rows, where FIRST bits lead to the first of them and each row
/// takes STEP; if ON, most go on to another. What is behind them in `slots` means nothing.
///
/// # Safety
/// Each slot that names a row, and is reached by fewer than `steps` of them, must name one of 2^STEP slots that begins so
/// many times that many slots behind `rows`; `root` must have a slot for each number of FIRST bits; `steps` must not lead
/// deeper than REACH.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,bmi1,bmi2,lzcnt,popcnt")]
pub(crate) unsafe fn descend<const FIRST: u32, const STEP: u32, const ON: bool>(
    form: &Form<'_>,
    highs: &[u64; LANES],
    count: usize,
    steps: usize,
    slots: &mut [Slot; LANES],
) {
    let mut groups = [Group { highs: _mm512_setzero_si512(), slots: _mm256_setzero_si256() }; LANES / GROUP];
    let groups = &mut groups[..count.div_ceil(GROUP).min(LANES / GROUP)];
    let mut depth = FIRST;
    for (group, highs) in groups.iter_mut().zip(highs.as_chunks::<GROUP>().0) {
        // SAFETY: the chunk has the 64 bytes that are read, and an unaligned load asks for nothing more.
        group.highs = unsafe { _mm512_loadu_si512(highs.as_ptr().cast()) };
        let index = _mm512_srlv_epi64(group.highs, set(REACH - FIRST));
        // SAFETY: the index has FIRST bits, and by the contract `root` has a slot for each such number.
        group.slots = unsafe { _mm512_i64gather_epi32::<4>(index, form.root.as_ptr().cast()) };
        ask_for::<STEP>(form, group, depth);
    }
    for step in 1..=steps {
        for group in groups.iter_mut() {
            let places = places::<STEP>(group, depth);
            // SAFETY: the lanes of the mask are at rows, which exist by the contract; a row has 2^STEP slots, and the
            // place within it STEP bits.
            group.slots =
                unsafe { _mm512_mask_i64gather_epi32::<4>(group.slots, is_row(group.slots), places, form.rows.cast()) };
            if ON || step < steps {
                ask_for::<STEP>(form, group, depth + STEP);
            }
        }
        depth += STEP;
    }
    for (group, slots) in groups.iter().zip(slots.as_chunks_mut::<GROUP>().0) {
        // SAFETY: the chunk has room for the 32 bytes.
        unsafe { _mm256_storeu_si256(slots.as_mut_ptr().cast(), group.slots) };
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn set(number: u32) -> __m512i {
    _mm512_set1_epi64(number.into())
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn is_row(slots: __m256i) -> __mmask8 {
    _mm256_cmpeq_epi32_mask(_mm256_srli_epi32::<30>(slots), _mm256_set1_epi32(2))
}

/// The numbers of rows.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn numbers(slots: __m256i) -> __m512i {
    _mm512_cvtepu32_epi64(_mm256_and_si256(slots, _mm256_set1_epi32(!GATE as i32)))
}

/// The places of the lanes' slots among the slots of all rows.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn places<const STEP: u32>(group: &Group, depth: u32) -> __m512i {
    let shift = set((REACH - STEP).saturating_sub(depth));
    let within = _mm512_and_si512(_mm512_srlv_epi64(group.highs, shift), set((1 << STEP) - 1));
    _mm512_or_si512(_mm512_slli_epi64::<STEP>(numbers(group.slots)), within)
}

/// Asks for the lines of the rows that these lanes are at.
#[inline]
#[target_feature(enable = "avx512f,avx512vl")]
fn ask_for<const STEP: u32>(form: &Form<'_>, group: &Group, depth: u32) {
    let mut lines = [0u64; GROUP];
    let base = _mm512_set1_epi64(form.rows.addr() as i64);
    let line =
        _mm512_mask_add_epi64(base, is_row(group.slots), base, _mm512_slli_epi64::<2>(places::<STEP>(group, depth)));
    // SAFETY: the array has room for the 64 bytes.
    unsafe { _mm512_storeu_si512(lines.as_mut_ptr().cast(), line) };
    for line in lines {
        prefetch(std::ptr::without_provenance::<u8>(line as usize));
    }
}

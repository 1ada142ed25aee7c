//! Sixteen rules compared at once: the only place of this crate that names instructions of a processor.
//!
//! Which are used is chosen when the process runs; `ZQLITE_SIMD=scalar` leaves them out, `bit-counting` AVX-512 alone. All
//! answer alike, which the tests below and those of the engine see to.

use std::sync::OnceLock;

use zqlite_cidr::{Instructions, instructions};

/// How many items [`Lanes::within`] takes at most.
pub(crate) const LANES: usize = 16;

/// How many items [`Lanes::at_most`] takes at most.
pub(crate) const SORTED: usize = 32;

/// Comparisons of one value with many.
pub(crate) trait Lanes: Copy {
    /// A bit for each item, of at most [`LANES`], where `lows[i] <= value <= lows[i] + spans[i]`.
    fn within(self, lows: &[u32], spans: &[u32], value: u32) -> u32;

    /// Of as many `items` the one of the lowest bit that is set; [`u32::MAX`] when none is. Whether one is cannot be foreseen, so
    /// this should not branch.
    #[inline(always)]
    fn pick(self, bits: u32, items: &[u32]) -> u32 {
        items.get(bits.trailing_zeros() as usize).copied().unwrap_or(u32::MAX)
    }

    /// How many of at most [`SORTED`] ascending items are at most `value`.
    fn at_most(self, sorted: &[u16], value: u16) -> usize;
}

/// With what every processor has.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

impl Lanes for Scalar {
    #[inline(always)]
    fn within(self, lows: &[u32], spans: &[u32], value: u32) -> u32 {
        let pairs = lows.iter().zip(spans).take(LANES).enumerate();
        pairs.fold(0, |bits, (at, (&low, &span))| bits | u32::from(value.wrapping_sub(low) <= span) << at)
    }

    #[inline(always)]
    fn at_most(self, sorted: &[u16], value: u16) -> usize {
        sorted.partition_point(|&item| item <= value)
    }
}

/// Work that is compiled for each kind of instructions. `run` is to be inlined, with all that it calls.
pub(crate) trait Job {
    type Output;

    fn run(self, lanes: impl Lanes) -> Self::Output;
}

/// The instructions in use.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Level {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(x86::Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(x86::Avx512),
}

impl Level {
    #[inline]
    pub(crate) fn run<J: Job>(self, job: J) -> J::Output {
        match self {
            Level::Scalar => job.run(Scalar),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(lanes) => lanes.run(job),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(lanes) => lanes.run(job),
        }
    }

    /// Each level that this processor has.
    #[cfg(test)]
    pub(crate) fn all() -> Vec<Level> {
        #[cfg(target_arch = "x86_64")]
        {
            let wide = [x86::Avx2::detected().map(Level::Avx2), x86::Avx512::detected().map(Level::Avx512)];
            [Level::Scalar].into_iter().chain(wide.into_iter().flatten()).collect()
        }
        #[cfg(not(target_arch = "x86_64"))]
        vec![Level::Scalar]
    }
}

/// The best that this processor has and the environment allows.
pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| instructions().map_or(Level::Scalar, best))
}

#[cfg(target_arch = "x86_64")]
fn best(allowed: Instructions) -> Level {
    let avx512 = || x86::Avx512::detected().map(Level::Avx512).filter(|_| allowed == Instructions::Avx512);
    let avx2 = || x86::Avx2::detected().map(Level::Avx2).filter(|_| allowed != Instructions::Scalar);
    avx512().or_else(avx2).unwrap_or(Level::Scalar)
}

#[cfg(not(target_arch = "x86_64"))]
fn best(_: Instructions) -> Level {
    Level::Scalar
}

/// Asks for the memory of an item that will be needed soon.
#[inline(always)]
pub(crate) fn prefetch<T>(items: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(item) = items.get(at) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of x86-64; the instruction reads nothing that the program could see and cannot fault.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(item).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (items, at);
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    //! x86-64 with wide registers.

    use std::arch::x86_64::{
        __m256i, _mm256_castsi256_ps, _mm256_cmpeq_epi32, _mm256_loadu_si256, _mm256_maskload_epi32, _mm256_min_epu32,
        _mm256_movemask_ps, _mm256_set1_epi32, _mm256_sub_epi32, _mm512_cvtsi512_si32, _mm512_mask_cmple_epu16_mask,
        _mm512_mask_cmple_epu32_mask, _mm512_mask_compress_epi32, _mm512_maskz_loadu_epi16, _mm512_maskz_loadu_epi32,
        _mm512_set1_epi16, _mm512_set1_epi32, _mm512_sub_epi32,
    };

    use super::{Job, LANES, Lanes, SORTED};

    /// AVX2; one of these exists only where the processor has it.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Avx2(());

    impl Avx2 {
        pub(crate) fn detected() -> Option<Self> {
            let there = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2");
            there.then_some(Self(()))
        }

        pub(crate) fn run<J: Job>(self, job: J) -> J::Output {
            // SAFETY: `self` exists, so that the processor has AVX2.
            unsafe { run_avx2(self, job) }
        }
    }

    /// AVX-512 with its parts F, BW and VL; one of these exists only where the processor has them.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Avx512(());

    impl Avx512 {
        pub(crate) fn detected() -> Option<Self> {
            let there = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl");
            (there && Avx2::detected().is_some()).then_some(Self(()))
        }

        pub(crate) fn run<J: Job>(self, job: J) -> J::Output {
            // SAFETY: `self` exists, so that the processor has AVX-512.
            unsafe { run_avx512(self, job) }
        }
    }

    #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
    fn run_avx2<J: Job>(lanes: Avx2, job: J) -> J::Output {
        job.run(lanes)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,popcnt,bmi1,bmi2")]
    fn run_avx512<J: Job>(lanes: Avx512, job: J) -> J::Output {
        job.run(lanes)
    }

    impl Lanes for Avx2 {
        #[inline(always)]
        fn within(self, lows: &[u32], spans: &[u32], value: u32) -> u32 {
            // SAFETY: `self` exists, so that the processor has AVX2.
            unsafe { within_avx2(lows, spans, value) }
        }

        #[inline(always)]
        fn at_most(self, sorted: &[u16], value: u16) -> usize {
            sorted.partition_point(|&item| item <= value)
        }
    }

    impl Lanes for Avx512 {
        #[inline(always)]
        fn within(self, lows: &[u32], spans: &[u32], value: u32) -> u32 {
            // SAFETY: `self` exists, so that the processor has AVX-512.
            unsafe { within_avx512(lows, spans, value) }
        }

        #[inline(always)]
        fn pick(self, bits: u32, items: &[u32]) -> u32 {
            // SAFETY: `self` exists, so that the processor has AVX-512.
            unsafe { pick_avx512(bits, items) }
        }

        #[inline(always)]
        fn at_most(self, sorted: &[u16], value: u16) -> usize {
            // SAFETY: `self` exists, so that the processor has AVX-512.
            unsafe { at_most_avx512(sorted, value) }
        }
    }

    /// Loading from the place 8 - n gives a mask of n items.
    static MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

    #[inline]
    #[target_feature(enable = "avx2,popcnt,bmi1,bmi2")]
    fn within_avx2(lows: &[u32], spans: &[u32], value: u32) -> u32 {
        let count = lows.len().min(spans.len()).min(LANES);
        let value = _mm256_set1_epi32(value as i32);
        let mut bits = 0;
        for from in [0, 8] {
            let items = count.saturating_sub(from).min(8);
            if items == 0 {
                break;
            }
            // SAFETY: `items` is at most 8, so that 8 of the 16 numbers are read. A masked load reads only the `items`
            // numbers from `from` on, which both slices have.
            let (low, span) = unsafe {
                let mask = _mm256_loadu_si256(MASKS.as_ptr().add(8 - items).cast::<__m256i>());
                (
                    _mm256_maskload_epi32(lows.as_ptr().add(from).cast(), mask),
                    _mm256_maskload_epi32(spans.as_ptr().add(from).cast(), mask),
                )
            };
            let distance = _mm256_sub_epi32(value, low);
            let inside = _mm256_cmpeq_epi32(_mm256_min_epu32(distance, span), distance);
            let inside = _mm256_movemask_ps(_mm256_castsi256_ps(inside)) as u32;
            bits |= (inside & ((1 << items) - 1)) << from;
        }
        bits
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,popcnt,bmi1,bmi2")]
    fn within_avx512(lows: &[u32], spans: &[u32], value: u32) -> u32 {
        let count = lows.len().min(spans.len()).min(LANES);
        let mask = ((1u32 << count) - 1) as u16;
        // SAFETY: a masked load reads only the first `count` numbers, which both slices have.
        let (low, span) = unsafe {
            (
                _mm512_maskz_loadu_epi32(mask, lows.as_ptr().cast()),
                _mm512_maskz_loadu_epi32(mask, spans.as_ptr().cast()),
            )
        };
        let distance = _mm512_sub_epi32(_mm512_set1_epi32(value as i32), low);
        u32::from(_mm512_mask_cmple_epu32_mask(mask, distance, span))
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,popcnt,bmi1,bmi2")]
    fn pick_avx512(bits: u32, items: &[u32]) -> u32 {
        let mask = bits as u16 & ((1u32 << items.len().min(LANES)) - 1) as u16;
        // SAFETY: a masked load reads only numbers of which the mask has a bit, and it has only such as the slice has.
        let items = unsafe { _mm512_maskz_loadu_epi32(mask, items.as_ptr().cast()) };
        _mm512_cvtsi512_si32(_mm512_mask_compress_epi32(_mm512_set1_epi32(-1), mask, items)) as u32
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,popcnt,bmi1,bmi2")]
    fn at_most_avx512(sorted: &[u16], value: u16) -> usize {
        let count = sorted.len().min(SORTED);
        let mask = ((1u64 << count) - 1) as u32;
        // SAFETY: a masked load reads only the first `count` numbers, which the slice has.
        let items = unsafe { _mm512_maskz_loadu_epi16(mask, sorted.as_ptr().cast()) };
        _mm512_mask_cmple_epu16_mask(mask, items, _mm512_set1_epi16(value as i16)).count_ones() as usize
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same(lanes: impl Lanes, items: &[(u32, u32)], sorted: &[u16], value: u32) {
        let (lows, spans): (Vec<u32>, Vec<u32>) = items.iter().copied().unzip();
        let inside = |(at, &(low, span)): (usize, &(u32, u32))| {
            u32::from((u64::from(low)..=u64::from(low) + u64::from(span)).contains(&u64::from(value))) << at
        };
        let plain = items.iter().enumerate().map(inside).fold(0, |bits, bit| bits | bit);
        assert_eq!(lanes.within(&lows, &spans, value), plain);
        for bits in [plain, 0, 1, !0, plain << 1] {
            let first = (0..).zip(&lows).find(|(at, _)| bits >> at & 1 == 1).map_or(u32::MAX, |(_, &low)| low);
            assert_eq!(lanes.pick(bits, &lows), first, "{bits:x}");
        }
        let below = sorted.iter().filter(|&&item| item <= value as u16).count();
        assert_eq!(lanes.at_most(sorted, value as u16), below);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn what_the_environment_allows_is_used() {
        assert!(matches!(best(Instructions::Scalar), Level::Scalar));
        if x86::Avx2::detected().is_some() {
            assert!(matches!(best(Instructions::BitCounting), Level::Avx2(_)));
        }
        if x86::Avx512::detected().is_some() {
            assert!(matches!(best(Instructions::Avx512), Level::Avx512(_)));
        }
    }

    proptest! {
        #[test]
        fn all_paths_answer_alike(
            items in proptest::collection::vec((any::<u32>(), any::<u32>(), 0u32..3), 0..=LANES),
            mut sorted in proptest::collection::vec(any::<u16>(), 0..=SORTED),
            value in any::<u32>(),
            near in any::<bool>(),
        ) {
            sorted.sort_unstable();
            let value = if near { sorted.first().map_or(value, |&first| u32::from(first)) } else { value };
            // Ends beyond the last number do not occur; ends that just hold or miss the value do.
            let items: Vec<(u32, u32)> = items
                .into_iter()
                .map(|(low, span, kind)| match kind {
                    0 => (low, span.min(u32::MAX - low)),
                    1 => (low.min(value), value - low.min(value)),
                    _ => (value.saturating_add(1), 0),
                })
                .collect();
            same(Scalar, &items, &sorted, value);
            #[cfg(target_arch = "x86_64")]
            {
                if let Some(lanes) = x86::Avx2::detected() {
                    same(lanes, &items, &sorted, value);
                }
                if let Some(lanes) = x86::Avx512::detected() {
                    same(lanes, &items, &sorted, value);
                }
            }
        }
    }
}

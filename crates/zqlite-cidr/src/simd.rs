//! Which instructions the lookups use, beyond those that every processor of the architecture has.
//!
//! They are chosen when the process runs, by what its processor has. `ZQLITE_SIMD=scalar` leaves them out, for
//! measurements and to test that both paths answer alike.

use std::sync::OnceLock;

/// The environment variable.
const VARIABLE: &str = "ZQLITE_SIMD";

/// The instructions in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    /// What every processor of the architecture has.
    Scalar,
    /// POPCNT, LZCNT, BMI1 and BMI2 of x86-64.
    BitCounting,
    /// These, and the parts F, VL, DQ and BW of AVX-512.
    Avx512,
}

impl Instructions {
    /// As users read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::BitCounting => "bit-counting",
            Self::Avx512 => "avx-512",
        }
    }
}

/// `ZQLITE_SIMD` has a value that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{VARIABLE} is {0:?}; it may be \"auto\" (what the processor has, the default), \"bit-counting\" (no more than that) or \"scalar\""
)]
pub struct UnknownChoice(String);

/// The instructions that this process uses, or what is wrong with the choice; until that is put right it is
/// [`Instructions::Scalar`]. The variable is read once.
pub fn instructions() -> Result<Instructions, UnknownChoice> {
    chosen().clone()
}

/// Whether the functions that count bits may be called.
#[inline]
pub(crate) fn bit_counting() -> bool {
    matches!(chosen(), Ok(Instructions::BitCounting | Instructions::Avx512))
}

/// Whether the functions that use AVX-512 may be called.
#[inline]
#[cfg(target_arch = "x86_64")]
pub(crate) fn avx512() -> bool {
    matches!(chosen(), Ok(Instructions::Avx512))
}

fn chosen() -> &'static Result<Instructions, UnknownChoice> {
    static CHOSEN: OnceLock<Result<Instructions, UnknownChoice>> = OnceLock::new();
    CHOSEN
        .get_or_init(|| choose(std::env::var_os(VARIABLE).map(|value| value.to_string_lossy().into_owned()).as_deref()))
}

fn choose(wanted: Option<&str>) -> Result<Instructions, UnknownChoice> {
    match wanted {
        None | Some("" | "auto") => Ok(best()),
        Some("scalar") => Ok(Instructions::Scalar),
        Some("bit-counting") if best() != Instructions::Scalar => Ok(Instructions::BitCounting),
        Some("bit-counting") => Ok(Instructions::Scalar),
        Some(other) => Err(UnknownChoice(other.into())),
    }
}

#[cfg(target_arch = "x86_64")]
fn best() -> Instructions {
    if is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
    {
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512bw");
        if avx512 { Instructions::Avx512 } else { Instructions::BitCounting }
    } else {
        Instructions::Scalar
    }
}

/// 64-bit ARM counts bits with what each of its processors has.
#[cfg(not(target_arch = "x86_64"))]
fn best() -> Instructions {
    Instructions::Scalar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_chooses_and_a_misspelled_one_is_an_error() {
        assert_eq!(choose(None), Ok(best()));
        assert_eq!(choose(Some("auto")), Ok(best()));
        assert_eq!(choose(Some("scalar")), Ok(Instructions::Scalar));
        let error = choose(Some("sclar")).unwrap_err().to_string();
        assert!(error.contains("\"sclar\"") && error.contains("\"scalar\""), "{error}");
    }
}

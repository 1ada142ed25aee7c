//! Numbers of JavaScript on their way to integers: napi would cut and wrap what does not fit.

use zqlite_store::{Error, ErrorCode};

/// The integers that JavaScript represents exactly.
pub(crate) const SAFE: i64 = (1 << 53) - 1;

/// The integer that `number` is, if it lies from `lowest` to `highest`, which are safe integers.
pub(crate) fn exact(number: f64, lowest: i64, highest: i64) -> Option<i64> {
    // The cast cuts and saturates; coming back from it is what `fract` is without SSE 4.1, and much quicker.
    let integer = number as i64;
    let fits = integer as f64 == number && (lowest..=highest).contains(&integer);
    fits.then_some(integer)
}

/// An argument that must be an integer of type `T`.
pub(crate) fn argument<T: TryFrom<i64> + Bounds>(name: &str, number: f64) -> Result<T, Error> {
    exact(number, T::LOWEST, T::HIGHEST).and_then(|integer| T::try_from(integer).ok()).ok_or_else(|| {
        let (lowest, highest) = (T::LOWEST, T::HIGHEST);
        Error::new(
            ErrorCode::Type,
            format!("{name} must be an integer from {lowest} to {highest}, not {}", show(number)),
        )
    })
}

/// A number as JavaScript writes it, or nearly so: all digits of a large one would be hundreds.
pub(crate) fn show(number: f64) -> String {
    if number.abs() >= 1e21 && number.is_finite() { format!("{number:e}") } else { number.to_string() }
}

/// The range of an integer type, or as much of it as JavaScript represents exactly.
pub(crate) trait Bounds {
    const LOWEST: i64;
    const HIGHEST: i64;
}

macro_rules! bounds {
    ($($integer:ty: $lowest:expr, $highest:expr;)*) => {
        $(impl Bounds for $integer { const LOWEST: i64 = $lowest; const HIGHEST: i64 = $highest; })*
    };
}

bounds! {
    u8: 0, u8::MAX as i64;
    u16: 0, u16::MAX as i64;
    u32: 0, u32::MAX as i64;
    i32: i32::MIN as i64, i32::MAX as i64;
    u64: 0, SAFE;
    i64: -SAFE, SAFE;
}

//! How one question and its answer cross the border: numbers in an array that both sides hold, texts without an allocation.

use napi::bindgen_prelude::{Float64Array, FunctionCallContext, JsValue, Unknown};
use zqlite_store::{Error, ErrorCode};

use crate::guard::to_napi;

/// The array of `lib/acl.ts` that questions and answers are written to.
pub(super) struct Exchange(Float64Array);

/// Where the answer stands, behind the question.
const ANSWER: usize = 4;

impl Exchange {
    pub(super) fn new(array: Float64Array) -> napi::Result<Self> {
        if array.len() == ANSWER + 1 {
            return Ok(Self(array));
        }
        Err(to_napi(&Error::new(ErrorCode::Type, "the array of questions and answers has five places")))
    }

    /// What the facade has written before it called.
    pub(super) fn question(&self) -> [f64; ANSWER] {
        self.0.first_chunk().copied().unwrap_or([f64::NAN; ANSWER])
    }

    /// For the facade to read after the call.
    pub(super) fn answer(&self, answer: f64) {
        let place = self.0.as_ptr().cast_mut().wrapping_add(ANSWER);
        // SAFETY: the array has this place, as `new` has seen, and lives as long as `self` refers to it; the facade gives it to
        // nobody, so that it is never detached. It is only touched on the thread of JavaScript, which waits for this call, and no
        // slice of it is alive: `question` copies.
        unsafe { place.write(answer) };
    }
}

/// The longest text of an address has 45 characters; what is longer is none, and stays so when it is cut here.
const LONGEST: usize = 48;

pub(super) struct ShortText {
    bytes: [u8; LONGEST],
    length: usize,
}

impl ShortText {
    pub(super) fn text(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }
}

/// A text without an allocation. Code units are copied in half the time that UTF-8 takes; only what has other characters than
/// ASCII, which no address has, is read as that.
pub(super) fn short_text(call: &FunctionCallContext<'_>, place: usize) -> napi::Result<ShortText> {
    let value = call.get::<Unknown<'_>>(place)?.value();
    let mut units = [0u16; LONGEST];
    let mut short = ShortText { bytes: [0; LONGEST], length: 0 };
    // SAFETY: `value` is a live value of this environment; the buffer has `LONGEST` units, of which N-API writes at most that
    // many, a closing zero included, and says in `length` how many it wrote before that. What is no string is an error.
    let status = unsafe {
        napi::sys::napi_get_value_string_utf16(value.env, value.value, units.as_mut_ptr(), LONGEST, &mut short.length)
    };
    napi::check_status!(status, "an address is a string")?;
    if units.iter().all(|unit| *unit < 0x80) {
        for (byte, unit) in short.bytes.iter_mut().zip(units) {
            *byte = unit as u8;
        }
        return Ok(short);
    }
    // SAFETY: as above, in bytes.
    let status = unsafe {
        napi::sys::napi_get_value_string_utf8(
            value.env,
            value.value,
            short.bytes.as_mut_ptr().cast(),
            LONGEST,
            &mut short.length,
        )
    };
    napi::check_status!(status)?;
    Ok(short)
}

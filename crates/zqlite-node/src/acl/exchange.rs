//! How one question and its answer cross the border: numbers in an array that both sides hold, texts without an allocation.

use napi::bindgen_prelude::{Float64Array, FunctionCallContext, JsValue, Unknown};
use zqlite_cidr::Address;
use zqlite_store::{Error, ErrorCode};

use super::given::address;
use crate::guard::to_napi;

/// The array of `lib/acl.ts` that questions and answers are written to.
pub(super) struct Exchange {
    /// Keeps the memory.
    _array: Float64Array,
    /// Of the array, which is read and written through this alone.
    places: *mut f64,
}

/// Places of a question; the answer stands behind them.
const QUESTION: usize = 4;

impl Exchange {
    pub(super) fn new(mut array: Float64Array) -> napi::Result<Self> {
        if array.len() != QUESTION + 1 {
            return Err(to_napi(&Error::new(ErrorCode::Type, "the array of questions and answers has five places")));
        }
        // SAFETY: nothing else reads or writes the array meanwhile: JavaScript runs on this thread and waits for the call.
        let places = unsafe { array.as_mut() }.as_mut_ptr();
        Ok(Self { _array: array, places })
    }

    /// What the facade has written before it called.
    pub(super) fn question(&self) -> [f64; QUESTION] {
        // SAFETY: the array has these places, as `new` has seen, and lives as long as `self`; the facade gives it to nobody, so
        // that it is never detached. It is only touched on the thread of JavaScript, which waits for this call.
        unsafe { self.places.cast::<[f64; QUESTION]>().read() }
    }

    /// For the facade to read after the call.
    pub(super) fn answer(&self, answer: f64) {
        // SAFETY: as above.
        unsafe { self.places.add(QUESTION).write(answer) };
    }
}

/// The longest text of an address has 45 characters; what is longer is none, and stays so when it is cut here.
const LONGEST: usize = 48;

/// An argument that is the text of an address, read without an allocation. By way of [`Text`](crate::text::Text), which is moved and
/// has room for more, a question took 300 ns instead of 240. Code units are copied in half the time that UTF-8
/// takes; only what has other characters than ASCII, which no address has, is read as that, for the error to show.
#[inline]
pub(super) fn address_at(call: &FunctionCallContext<'_>, place: usize) -> napi::Result<Result<Address, Error>> {
    let value = call.get::<Unknown<'_>>(place)?.value();
    let mut units = [0u16; LONGEST];
    let mut length = 0;
    // SAFETY: `value` is a live value of this environment; the buffer has `LONGEST` units, of which N-API writes at most that
    // many, a closing zero included, and says in `length` how many it wrote before that. What is no string is an error.
    let status = unsafe {
        napi::sys::napi_get_value_string_utf16(value.env, value.value, units.as_mut_ptr(), LONGEST, &mut length)
    };
    napi::check_status!(status, "an address is a string")?;
    // Most are of IPv4, whose texts are a register.
    if let Some(first) = units.first_chunk::<16>().filter(|_| length < 16)
        && let Some(text) = narrow(first).get(..length).filter(|_| is_ascii(first))
    {
        return Ok(address(text));
    }
    if is_ascii(&units) {
        return Ok(address(narrow(&units).get(..length).unwrap_or(&[])));
    }
    let mut bytes = [0u8; LONGEST];
    // SAFETY: as above, in bytes.
    let status = unsafe {
        napi::sys::napi_get_value_string_utf8(value.env, value.value, bytes.as_mut_ptr().cast(), LONGEST, &mut length)
    };
    napi::check_status!(status)?;
    Ok(address(bytes.get(..length).unwrap_or(&[])))
}

fn is_ascii(units: &[u16]) -> bool {
    units.iter().fold(0, |all, unit| all | unit) < 0x80
}

fn narrow<const N: usize>(units: &[u16; N]) -> [u8; N] {
    units.map(|unit| unit as u8)
}

//! Texts of JavaScript that are addresses or prefixes, nearly all of them short: read without an allocation.

use napi::bindgen_prelude::{Array, FromNapiValue};
use napi::sys;

/// The bytes of a short text on the stack: no address is longer. `String` would cost an allocation, and as much again as
/// the lookup.
pub enum Text {
    Short([u8; Text::ROOM], usize),
    Long(String),
}

impl Text {
    const ROOM: usize = 64;

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(bytes, length) => &bytes[..*length],
            Self::Long(text) => text.as_bytes(),
        }
    }
}

impl FromNapiValue for Text {
    unsafe fn from_napi_value(env: sys::napi_env, value: sys::napi_value) -> napi::Result<Self> {
        // Code units are copied in half the time that UTF-8 takes.
        let mut units = [0u16; Self::ROOM];
        let mut length = 0;
        // SAFETY: the caller gives a live environment and a value of it. The engine writes at most `ROOM` units, the closing
        // zero included, into the array of that size, and their number without it to `length`.
        let status =
            unsafe { sys::napi_get_value_string_utf16(env, value, units.as_mut_ptr(), Self::ROOM, &mut length) };
        // What fills the room may have been cut; what is no string has its error from `String`.
        if status == sys::Status::napi_ok
            && length < Self::ROOM - 1
            && units.iter().fold(0, |all, unit| all | unit) < 0x80
        {
            return Ok(Self::Short(units.map(|unit| unit as u8), length));
        }
        // SAFETY: as above.
        unsafe { String::from_napi_value(env, value) }.map(Self::Long)
    }
}

pub(crate) fn texts(array: &Array) -> napi::Result<Vec<Text>> {
    (0..array.len())
        .map(|at| array.get::<Text>(at)?.ok_or_else(|| napi::Error::from_reason("a text is missing")))
        .collect()
}

//! How one question and its answer cross the border: as numbers in an array that both sides hold.

use napi::bindgen_prelude::Float64Array;
use zqlite_store::{Error, ErrorCode};

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

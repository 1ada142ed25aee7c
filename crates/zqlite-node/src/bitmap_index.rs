//! An index of kind `bitmap` as JavaScript asks it; `lib/indexes.ts` names and documents it.

use std::cell::Cell;
use std::rc::Rc;

use napi::bindgen_prelude::BigInt64Array;
use napi_derive::napi;
use zqlite_store::BitmapIndex;

use crate::cidr_index::open;
use crate::guard::guard;

/// See `lib/indexes.ts`.
#[napi]
pub struct NativeBitmapIndex {
    index: BitmapIndex,
    /// Whether the database that it is of was closed here.
    closed: Rc<Cell<bool>>,
}

impl NativeBitmapIndex {
    pub(crate) fn of(index: BitmapIndex, closed: Rc<Cell<bool>>) -> Self {
        Self { index, closed }
    }
}

#[napi]
impl NativeBitmapIndex {
    #[napi]
    pub fn rows(&self, filter: String) -> napi::Result<BigInt64Array> {
        guard(|| {
            open(&self.closed)?;
            Ok(self.index.rows(&filter)?.into())
        })
    }

    #[napi]
    pub fn count(&self, filter: String) -> napi::Result<f64> {
        guard(|| {
            open(&self.closed)?;
            Ok(self.index.count(&filter)? as f64)
        })
    }
}

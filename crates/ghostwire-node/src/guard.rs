//! Errors on their way to JavaScript, where `code` tells their kind, and the wall that panics do not cross.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ghostwire_sync::SyncError;

/// The `code` of an error object.
pub struct Code(&'static str);

impl AsRef<str> for Code {
    fn as_ref(&self) -> &str {
        self.0
    }
}

pub(crate) type Error = napi::Error<Code>;

/// A bug of ours, or of a caller that passes what its types forbid.
const BUG: &str = "ERR_SERVER";

/// Runs `f`; a panic becomes an error.
pub(crate) fn guard<T>(f: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| Err(bug("ghostwire panicked; please report it")))
}

pub(crate) fn bug(message: impl std::fmt::Display) -> Error {
    Error::new(Code(BUG), message)
}

/// Whatever is wrong with a batch has one code.
pub(crate) fn in_batch(error: Error) -> Error {
    Error::new(Code("ERR_SYNC_BATCH"), &error.reason)
}

pub(crate) fn from_sync(error: SyncError) -> Error {
    Error::new(Code(error.code().name), error.to_string())
}

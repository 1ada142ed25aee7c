//! Errors on their way to JavaScript, and the wall that panics do not cross.

use std::panic::{AssertUnwindSafe, catch_unwind};

use zqlite_store::{Error, ErrorCode, Outcome};

/// Runs `f`; a panic becomes `ERR_INTERNAL`.
pub(crate) fn guard<T>(f: impl FnOnce() -> Result<T, Error>) -> napi::Result<T> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.map_err(|e| to_napi(&e)),
        Err(_) => Err(panicked()),
    }
}

/// What a panic becomes.
#[cold]
pub(crate) fn panicked() -> napi::Error {
    to_napi(&Error::new(ErrorCode::Internal, "zqlite panicked; please report it"))
}

/// An error whose message is JSON that `fromNative` of `lib/errors.ts` reads: napi has no room for more than a text.
pub(crate) fn to_napi(error: &Error) -> napi::Error {
    let fields = serde_json::json!({
        "code": error.code.entry().code,
        "message": error.message,
        "constraint": error.constraint,
        "statement": error.statement,
        "sqliteCode": error.sqlite_code,
        "unknown": error.outcome == Outcome::Unknown,
    });
    napi::Error::from_reason(fields.to_string())
}

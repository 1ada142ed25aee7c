//! The calls of SQLite's C interface that rusqlite does not wrap. All `unsafe` of this crate stands here.

use std::path::Path;

use rusqlite::{Connection, ffi};

use crate::{Error, Result};

/// Whether foreign-key violations are waiting for COMMIT in the connection's open transaction.
pub(crate) fn has_deferred_violations(connection: &Connection) -> bool {
    let (mut current, mut highwater) = (0, 0);
    // SAFETY: the handle is that of a live connection owned by the calling lane, on whose thread this runs; both out
    // parameters point to initialised integers that outlive the call; the call neither keeps pointers nor calls back.
    let code = unsafe {
        ffi::sqlite3_db_status(connection.handle(), ffi::SQLITE_DBSTATUS_DEFERRED_FKS, &mut current, &mut highwater, 0)
    };
    code == ffi::SQLITE_OK && current != 0
}

/// Makes `last_insert_rowid` 0, so that after a statement it tells whether that statement inserted.
pub(crate) fn clear_last_insert_rowid(connection: &Connection) {
    // SAFETY: the handle is that of a live connection owned by the calling lane, on whose thread this runs; the call
    // stores one integer in the connection and nothing else.
    unsafe { ffi::sqlite3_set_last_insert_rowid(connection.handle(), 0) };
}

/// Loads a shared library into the connection; its SQL functions stay, `load_extension()` in SQL stays off.
///
/// # Errors
/// `ERR_SQL` with the loader's words.
pub(crate) fn load_extension(connection: &Connection, path: &Path) -> Result<()> {
    // SAFETY: loading a library runs its code, which is what the caller of `open({ extensions })` asked for, naming the
    // file; loading is switched off again before any SQL of a caller can run.
    let loaded =
        unsafe { connection.load_extension_enable().and_then(|()| connection.load_extension(path, None::<&str>)) };
    connection.load_extension_disable()?;
    loaded.map_err(|e| {
        let mut error = Error::from(e);
        error.message = format!("extensions: {}: {}", path.display(), error.message);
        error
    })
}

//! The calls of SQLite's C interface that rusqlite does not wrap. All `unsafe` of this crate stands here.

use rusqlite::{Connection, ffi};

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

//! The calls of SQLite's C interface that rusqlite does not wrap. All `unsafe` of this crate stands here.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::path::Path;
use std::ptr;

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

/// The largest page. A VFS need not write more at a time, and SQLite's own does not.
const MOST_WRITTEN: usize = 64 << 10;

/// The write-ahead log that a connection has open. It is reached through the VFS, so that whoever stands in for the file
/// system sees these writes among SQLite's own.
pub(crate) struct LogFile<'c> {
    file: *mut ffi::sqlite3_file,
    methods: &'c ffi::sqlite3_io_methods,
    /// The file is the connection's.
    connection: PhantomData<&'c Connection>,
}

impl<'c> LogFile<'c> {
    /// `None` when the connection has no log open.
    pub(crate) fn of(connection: &'c Connection) -> Option<Self> {
        let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
        let out: *mut *mut ffi::sqlite3_file = &mut file;
        // SAFETY: the handle is that of a live connection owned by the calling lane, on whose thread this runs; the name is
        // a C string; this operation stores one pointer to where its argument points, which is such a pointer. What it
        // stores is null or a file object that lives as long as the connection keeps its log open, which it does outside of
        // calls into SQLite; its table of methods is null or a constant of the VFS.
        let methods = unsafe {
            let op = ffi::SQLITE_FCNTL_JOURNAL_POINTER;
            if ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), op, out.cast::<c_void>())
                != ffi::SQLITE_OK
            {
                return None;
            }
            file.as_ref()?.pMethods.as_ref()?
        };
        Some(Self { file, methods, connection: PhantomData })
    }

    /// Bytes of the file.
    pub(crate) fn len(&self) -> Result<u64> {
        let mut size = 0;
        // SAFETY: the method belongs to this open file, and stores one integer.
        told(self.methods.xFileSize.map(|f| unsafe { f(self.file, &mut size) }))?;
        Ok(size.cast_unsigned())
    }

    pub(crate) fn write_all_at(&mut self, bytes: &[u8], mut at: u64) -> Result<()> {
        for bytes in bytes.chunks(MOST_WRITTEN) {
            let (start, length, offset) = (bytes.as_ptr().cast::<c_void>(), bytes.len() as i32, at.cast_signed());
            // SAFETY: the method belongs to this open file, and only reads the given number of bytes from the pointer.
            told(self.methods.xWrite.map(|f| unsafe { f(self.file, start, length, offset) }))?;
            at += bytes.len() as u64;
        }
        Ok(())
    }

    pub(crate) fn sync_data(&mut self) -> Result<()> {
        let flags = ffi::SQLITE_SYNC_NORMAL | ffi::SQLITE_SYNC_DATAONLY;
        // SAFETY: the method belongs to this open file.
        told(self.methods.xSync.map(|f| unsafe { f(self.file, flags) }))
    }

    pub(crate) fn set_len(&mut self, length: u64) -> Result<()> {
        // SAFETY: the method belongs to this open file.
        told(self.methods.xTruncate.map(|f| unsafe { f(self.file, length.cast_signed()) }))
    }
}

fn told(code: Option<i32>) -> Result<()> {
    match code {
        Some(ffi::SQLITE_OK) => Ok(()),
        code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code.unwrap_or(ffi::SQLITE_IOERR)), None).into()),
    }
}

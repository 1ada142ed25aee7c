//! The calls of SQLite's C interface that rusqlite does not wrap. All `unsafe` of this crate stands here, and in
//! `index/tables.rs`, where rusqlite's traits for virtual tables ask for it.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Acquire};

use rusqlite::types::Value;
use rusqlite::{Connection, ffi};

use crate::index::{Noted, RowChange};
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

/// The head of the index of a write-ahead log: SQLite's own readers compare these words to find out whether anybody, in whatever
/// process, has committed or started the log anew (<https://sqlite.org/walformat.html#the_wal_index_header>).
pub(crate) type LogHead = [u32; 12];

/// Bytes that SQLite maps of a log's index at a time.
const INDEX_REGION: c_int = 32 << 10;

/// The head of the log's index as it stands in memory. To be asked of a connection that has read from a log already;
/// `None` where the index is not in shared memory.
pub(crate) fn log_head(connection: &Connection) -> Option<LogHead> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    let out: *mut *mut ffi::sqlite3_file = &mut file;
    // SAFETY: the handle is that of a live connection owned by the caller; the name is a C string; SQLITE_FCNTL_FILE_POINTER
    // stores one pointer to the file object of the main database, which lives as long as the connection.
    let code = unsafe {
        ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), ffi::SQLITE_FCNTL_FILE_POINTER, out.cast())
    };
    if code != ffi::SQLITE_OK || file.is_null() {
        return None;
    }
    // SAFETY: the file object is live (above), and SQLite requires its methods to be so as long as it is open.
    let methods = unsafe { (*file).pMethods.as_ref() }?;
    let map = methods.xShmMap.filter(|_| methods.iVersion >= 2)?;
    let mut region: *mut c_void = ptr::null_mut();
    // SAFETY: called as SQLite's own pager does, on the thread that uses the connection, without extending:
    // the region is the one that the connection maps when it first reads from the log, and stays mapped until it is closed.
    let code = unsafe { map(file, 0, INDEX_REGION, 0, &mut region) };
    if code != ffi::SQLITE_OK || region.is_null() {
        return None;
    }
    // SAFETY: the region is INDEX_REGION bytes long, aligned to a page, and other threads and processes only ever store
    // whole words there; it is read as atomics, since they may do so meanwhile.
    let words = unsafe { &*region.cast::<[AtomicU32; 12]>() };
    Some(words.each_ref().map(|word| word.load(Acquire)))
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

/// A second handle on the connection, with prepared statements of its own, to be dropped before the connection.
pub(crate) fn share(connection: &Connection) -> Result<Connection> {
    // SAFETY: the handle is that of a live connection. The new one does not close it, is used on the same lane's thread
    // only, and is dropped before it, as `Opened` sees to.
    Ok(unsafe { Connection::from_handle(connection.handle()) }?)
}

/// The collation of a column of the main file, in upper case.
pub(crate) fn collation(connection: &Connection, table: &str, column: &str) -> String {
    let text = |text: &str| std::ffi::CString::new(text).unwrap_or_default();
    let (table, column) = (text(table), text(column));
    let mut found: *const c_char = std::ptr::null();
    // SAFETY: the handle is that of a live connection, on whose lane's thread this runs; the names are closed by zero and
    // outlive the call, the out parameter that is wanted points to a pointer, and the others are allowed to be null.
    let code = unsafe {
        ffi::sqlite3_table_column_metadata(
            connection.handle(),
            c"main".as_ptr(),
            table.as_ptr(),
            column.as_ptr(),
            std::ptr::null_mut(),
            &mut found,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    if code != ffi::SQLITE_OK || found.is_null() {
        return "BINARY".into();
    }
    // SAFETY: SQLite gives a text closed by zero that lives until the schema changes; it is copied at once.
    unsafe { CStr::from_ptr(found) }.to_string_lossy().to_ascii_uppercase()
}

/// Has `noted` told of every row of an ordinary table before it changes; `None` ends that. `noted` must live until then.
pub(crate) fn on_row_change(connection: &Connection, noted: Option<&Arc<Noted>>) {
    let argument = noted.map_or(std::ptr::null(), |noted| Arc::as_ptr(noted).cast::<c_void>());
    let callback = noted.map(|_| {
        row_change
            as unsafe extern "C" fn(*mut c_void, *mut ffi::sqlite3, c_int, *const c_char, *const c_char, i64, i64)
    });
    // SAFETY: the handle is that of a live connection, on whose lane's thread this runs. The argument stays valid as long
    // as the callback is set: the keeper that sets it owns `noted`, and `Opened` ends it before the keeper goes.
    unsafe { ffi::sqlite3_preupdate_hook(connection.handle(), callback, argument.cast_mut()) };
}

unsafe extern "C" fn row_change(
    noted: *mut c_void,
    db: *mut ffi::sqlite3,
    operation: c_int,
    schema: *const c_char,
    table: *const c_char,
    old: i64,
    new: i64,
) {
    // SAFETY: `on_row_change` gave this pointer, and its target lives while the callback is set. It is only read.
    let noted = unsafe { &*noted.cast_const().cast::<Noted>() };
    // SAFETY: SQLite gives the names as texts closed by zero that live for the call.
    let (schema, table) = unsafe { (CStr::from_ptr(schema), CStr::from_ptr(table)) };
    let (Ok(schema), Ok(table)) = (schema.to_str(), table.to_str()) else { return };
    let change = RowChange {
        schema,
        table,
        old: (operation != ffi::SQLITE_INSERT).then_some(old),
        new: (operation != ffi::SQLITE_DELETE).then_some(new),
    };
    // A panic must not cross SQLite; what it left undone is made good by reading the table whole.
    if catch_unwind(AssertUnwindSafe(|| noted.note(&change, &|column| old_value(db, column)))).is_err() {
        noted.lose(table);
    }
}

/// A column of the row that is about to change, as it is now.
fn old_value(db: *mut ffi::sqlite3, column: c_int) -> Option<Value> {
    let mut value: *mut ffi::sqlite3_value = std::ptr::null_mut();
    // SAFETY: this runs within the pre-update callback of `db`, for an update or a deletion, where SQLite allows the call;
    // the value that it gives lives until the callback returns, and is copied at once. A blob or text is as long as
    // `sqlite3_value_bytes` says after the call that converts it, and has no address when it is empty.
    unsafe {
        if ffi::sqlite3_preupdate_old(db, column, &mut value) != ffi::SQLITE_OK || value.is_null() {
            return None;
        }
        let bytes = |start: *const u8| {
            let length = usize::try_from(ffi::sqlite3_value_bytes(value)).unwrap_or(0);
            if start.is_null() || length == 0 { &[][..] } else { std::slice::from_raw_parts(start, length) }
        };
        Some(match ffi::sqlite3_value_type(value) {
            ffi::SQLITE_INTEGER => Value::Integer(ffi::sqlite3_value_int64(value)),
            ffi::SQLITE_FLOAT => Value::Real(ffi::sqlite3_value_double(value)),
            // What is not UTF-8 is read again and then differs from this, which has the index made anew.
            ffi::SQLITE_TEXT => {
                Value::Text(String::from_utf8_lossy(bytes(ffi::sqlite3_value_text(value))).into_owned())
            }
            ffi::SQLITE_BLOB => Value::Blob(bytes(ffi::sqlite3_value_blob(value).cast()).to_vec()),
            _ => Value::Null,
        })
    }
}

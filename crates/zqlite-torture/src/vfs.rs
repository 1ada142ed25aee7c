//! A VFS in front of the system's own: every call that can change what is on disk, or asks how long a file is, passes a
//! [`Door`], which may refuse it and is told when it was done. All `unsafe` of this crate stands here.
//!
//! It is registered as SQLite's default, so that the store needs no setting for it: the connections that are opened while
//! it stands are all of the process's.

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Once};

use parking_lot::RwLock;
use rusqlite::ffi;

/// What a file is to SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A database.
    Database,
    /// A write-ahead log.
    Log,
    /// A rollback journal, or a temporary file with a name.
    Other,
}

/// A call to the file system, as SQLite makes it.
#[derive(Debug, Clone, Copy)]
pub enum Call<'a> {
    /// Opens a file, making it where there is none.
    Open(&'a Path, FileKind),
    /// Writes bytes at an offset.
    Write(&'a Path, u64, &'a [u8]),
    /// Makes a file shorter or longer.
    Truncate(&'a Path, u64),
    /// Waits until what was written is on disk; with `true` also until the names in its folder are.
    Sync(&'a Path, FileKind, bool),
    /// Removes a file; with `true` its absence is on disk afterwards.
    Delete(&'a Path, bool),
    /// Maps a part of the index of the log that processes share.
    ShmMap(&'a Path),
    /// Asks how long a file is.
    Size(&'a Path, FileKind),
}

impl<'a> Call<'a> {
    /// Which file it is about.
    pub fn path(&self) -> &'a Path {
        match *self {
            Self::Open(path, _)
            | Self::Write(path, ..)
            | Self::Truncate(path, _)
            | Self::Sync(path, ..)
            | Self::Delete(path, _)
            | Self::ShmMap(path)
            | Self::Size(path, _) => path,
        }
    }
}

/// Stands between SQLite and the file system.
pub trait Door: Send + Sync {
    /// Whether the call is made; otherwise the SQLite error code that it ends with.
    ///
    /// # Errors
    /// The code.
    fn before(&self, call: &Call<'_>) -> Result<(), c_int>;
    /// The call was made, and succeeded.
    fn after(&self, call: &Call<'_>);
}

static DOOR: RwLock<Option<Arc<dyn Door>>> = RwLock::new(None);

/// Puts a door in place, or takes it away. Registers the VFS when called for the first time.
pub fn set_door(door: Option<Arc<dyn Door>>) {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(register);
    *DOOR.write() = door;
}

/// Makes a call through the door.
fn through(call: Call<'_>, make: impl FnOnce() -> c_int) -> c_int {
    let door = DOOR.read().clone();
    let Some(door) = door else { return make() };
    if let Err(code) = door.before(&call) {
        return code;
    }
    let code = make();
    if code == ffi::SQLITE_OK {
        door.after(&call);
    }
    code
}

/// An open file; the system's own file object follows it in memory, at [`REAL`].
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    /// A boxed [`Name`], owned.
    name: *mut Name,
}

struct Name {
    path: PathBuf,
    kind: FileKind,
    /// Whether the system's VFS syncs the folder with the next sync of this file: it does so once for each log or journal
    /// that is opened to be made if it is missing.
    syncs_folder: AtomicBool,
}

/// Where the system's file object stands behind ours.
const REAL: usize = size_of::<File>().next_multiple_of(16);

/// # Safety
/// `file` is one that [`open`] has set up.
unsafe fn real(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: SQLite allocates `szOsFile` bytes for a file, which are REAL and the size of the system's object.
    unsafe { file.byte_add(REAL) }
}

/// # Safety
/// `file` is one that [`open`] has set up and [`close`] has not ended; the name lives until then.
unsafe fn name<'a>(file: *mut ffi::sqlite3_file) -> &'a Name {
    // SAFETY: by the caller's word, `name` is the box that `open` stored.
    unsafe { &*(*file.cast::<File>()).name }
}

/// # Safety
/// `vfs` is ours.
unsafe fn system(vfs: *mut ffi::sqlite3_vfs) -> *mut ffi::sqlite3_vfs {
    // SAFETY: `register` stored the system's VFS there, which is never unregistered.
    unsafe { (*vfs).pAppData.cast() }
}

fn register() {
    // SAFETY: the default VFS is a static object with all methods that this fills in below; ours is leaked, so it lives as
    // long as SQLite may use it. Registering takes SQLite's own lock.
    unsafe {
        ffi::sqlite3_initialize();
        let system = ffi::sqlite3_vfs_find(ptr::null());
        let mut ours = *system;
        ours.szOsFile += REAL as c_int;
        ours.zName = c"torture".as_ptr();
        ours.pNext = ptr::null_mut();
        ours.pAppData = system.cast();
        ours.xOpen = Some(open);
        ours.xDelete = Some(delete);
        ours.xAccess = Some(access);
        ours.xFullPathname = Some(full_pathname);
        ffi::sqlite3_vfs_register(Box::leak(Box::new(ours)), 1);
    }
}

macro_rules! forward {
    ($(#[doc = $doc:literal])* $name:ident = $method:ident($($arg:ident: $type:ty),*) -> $out:ty) => {
        unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file, $($arg: $type),*) -> $out {
            // SAFETY: SQLite calls this with a file that `open` has set up, and arguments as the system's method takes
            // them; a method that our table offers is one that the system's has, see `METHODS`.
            unsafe {
                let real = real(file);
                match (*(*real).pMethods).$method {
                    Some(f) => f(real, $($arg),*),
                    None => unreachable_method(),
                }
            }
        }
    };
}

/// A method that is missing cannot be made up for.
fn unreachable_method<T>() -> T {
    std::process::abort()
}

forward!(read = xRead(buffer: *mut c_void, amount: c_int, at: i64) -> c_int);
forward!(lock = xLock(level: c_int) -> c_int);
forward!(unlock = xUnlock(level: c_int) -> c_int);
forward!(check_reserved_lock = xCheckReservedLock(out: *mut c_int) -> c_int);
forward!(file_control = xFileControl(op: c_int, argument: *mut c_void) -> c_int);
forward!(sector_size = xSectorSize() -> c_int);
forward!(device_characteristics = xDeviceCharacteristics() -> c_int);
forward!(shm_lock = xShmLock(offset: c_int, n: c_int, flags: c_int) -> c_int);
forward!(shm_barrier = xShmBarrier() -> ());
forward!(shm_unmap = xShmUnmap(delete: c_int) -> c_int);
forward!(fetch = xFetch(at: i64, amount: c_int, out: *mut *mut c_void) -> c_int);
forward!(unfetch = xUnfetch(at: i64, page: *mut c_void) -> c_int);

/// The system's methods are of version 3 on every Unix.
static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 3,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: Some(fetch),
    xUnfetch: Some(unfetch),
};

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    path: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite hands over `szOsFile` bytes for the file and a C string or null for its name; the name, with what
    // SQLite keeps behind it, is passed on as it is. `pMethods` is set only where the system's own is, which tells SQLite
    // whether the file has to be closed.
    unsafe {
        (*file).pMethods = ptr::null();
        let system = system(vfs);
        let real = real(file);
        (*real).pMethods = ptr::null();
        let kind = match flags {
            f if f & ffi::SQLITE_OPEN_MAIN_DB != 0 => FileKind::Database,
            f if f & ffi::SQLITE_OPEN_WAL != 0 => FileKind::Log,
            _ => FileKind::Other,
        };
        let make = || match (*system).xOpen {
            Some(f) => f(system, path, real, flags, out_flags),
            None => unreachable_method(),
        };
        let (name, code) = if path.is_null() {
            (PathBuf::new(), make())
        } else {
            let name = path_of(path);
            let code = through(Call::Open(&name, kind), make);
            (name, code)
        };
        if !(*real).pMethods.is_null() {
            let journals = ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL;
            let syncs_folder = AtomicBool::new(flags & ffi::SQLITE_OPEN_CREATE != 0 && flags & journals != 0);
            (*file.cast::<File>()).name = Box::into_raw(Box::new(Name { path: name, kind, syncs_folder }));
            (*file).pMethods = &METHODS;
        }
        code
    }
}

/// # Safety
/// `path` is a C string.
unsafe fn path_of(path: *const c_char) -> PathBuf {
    // SAFETY: by the caller's word.
    PathBuf::from(OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes()))
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file once, and does not use it afterwards; the name is the box that `open` stored.
    unsafe {
        drop(Box::from_raw((*file.cast::<File>()).name));
        let real = real(file);
        let code = match (*(*real).pMethods).xClose {
            Some(f) => f(real),
            None => unreachable_method(),
        };
        (*file).pMethods = ptr::null();
        code
    }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, buffer: *const c_void, amount: c_int, at: i64) -> c_int {
    // SAFETY: SQLite calls this with a file that `open` has set up, and `amount` bytes to read from `buffer`.
    unsafe {
        let (name, real) = (name(file), real(file));
        let bytes = std::slice::from_raw_parts(buffer.cast::<u8>(), amount as usize);
        through(Call::Write(&name.path, at.cast_unsigned(), bytes), || match (*(*real).pMethods).xWrite {
            Some(f) => f(real, buffer, amount, at),
            None => unreachable_method(),
        })
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, size: i64) -> c_int {
    // SAFETY: SQLite calls this with a file that `open` has set up.
    unsafe {
        let (name, real) = (name(file), real(file));
        through(Call::Truncate(&name.path, size.cast_unsigned()), || match (*(*real).pMethods).xTruncate {
            Some(f) => f(real, size),
            None => unreachable_method(),
        })
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: SQLite calls this with a file that `open` has set up.
    unsafe {
        let (name, real) = (name(file), real(file));
        let folder_too = name.syncs_folder.load(Relaxed);
        through(Call::Sync(&name.path, name.kind, folder_too), || match (*(*real).pMethods).xSync {
            Some(f) => {
                name.syncs_folder.store(false, Relaxed);
                f(real, flags)
            }
            None => unreachable_method(),
        })
    }
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: SQLite calls this with a file that `open` has set up, and a place for the size.
    unsafe {
        let (name, real) = (name(file), real(file));
        through(Call::Size(&name.path, name.kind), || match (*(*real).pMethods).xFileSize {
            Some(f) => f(real, size),
            None => unreachable_method(),
        })
    }
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: SQLite calls this with a file that `open` has set up, and a place for a pointer, which is null unless the
    // system's method stores another.
    unsafe {
        let (name, real) = (name(file), real(file));
        *out = ptr::null_mut();
        through(Call::ShmMap(&name.path), || match (*(*real).pMethods).xShmMap {
            Some(f) => f(real, region, size, extend, out),
            None => unreachable_method(),
        })
    }
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, path: *const c_char, sync_folder: c_int) -> c_int {
    // SAFETY: SQLite hands over a C string.
    unsafe {
        let system = system(vfs);
        through(Call::Delete(&path_of(path), sync_folder != 0), || match (*system).xDelete {
            Some(f) => f(system, path, sync_folder),
            None => unreachable_method(),
        })
    }
}

unsafe extern "C" fn access(vfs: *mut ffi::sqlite3_vfs, path: *const c_char, flags: c_int, out: *mut c_int) -> c_int {
    // SAFETY: the arguments are passed on as they are, to the VFS that they are meant for.
    unsafe {
        let system = system(vfs);
        match (*system).xAccess {
            Some(f) => f(system, path, flags, out),
            None => unreachable_method(),
        }
    }
}

unsafe extern "C" fn full_pathname(
    vfs: *mut ffi::sqlite3_vfs,
    path: *const c_char,
    size: c_int,
    out: *mut c_char,
) -> c_int {
    // SAFETY: the arguments are passed on as they are, to the VFS that they are meant for.
    unsafe {
        let system = system(vfs);
        match (*system).xFullPathname {
            Some(f) => f(system, path, size, out),
            None => unreachable_method(),
        }
    }
}

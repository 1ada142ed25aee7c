//! One process owns a database file, or several that all agree to share it; within one, everybody shares one store.
//!
//! The lock is flock(2) on the database file itself: keyed by device and inode, so links and relative paths lead to the
//! same lock, and released by the kernel when the process dies. SQLite's own locks are fcntl(2) locks and do not meet it;
//! but closing any descriptor of a file drops all fcntl locks of the process on it (a rule of POSIX), so the descriptor
//! here is opened before SQLite's and closed after them, and the file is never opened twice.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::{Error, ErrorCode, Result};

/// What names a file, whatever its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// The file at `path`, if there is one.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|m| Self { device: m.dev(), inode: m.ino() })
    }
}

/// Ownership of a database file; ends when dropped.
#[derive(Debug)]
pub(crate) struct Owner {
    _file: File,
    pub(crate) identity: Identity,
}

impl Owner {
    /// Creates the file (mode 0600) if there is none, and takes it: for this process alone, or together with others that
    /// share it.
    ///
    /// # Errors
    /// `ERR_LOCKED_BY_PROCESS` naming the owner's pid, `ERR_CANNOT_OPEN`, `ERR_DISK_FULL`, `ERR_IO`.
    pub(crate) fn take(path: &Path, shared: bool) -> Result<Self> {
        let file = create(path)?;
        let metadata = file.metadata().map_err(|e| open_error(path, &e))?;
        if !metadata.is_file() {
            return Err(Error::new(ErrorCode::CannotOpen, format!("{} is not a regular file", path.display())));
        }
        let identity = Identity { device: metadata.dev(), inode: metadata.ino() };
        match if shared { file.try_lock_shared() } else { file.try_lock() } {
            Ok(()) => Ok(Self { _file: file, identity }),
            Err(TryLockError::WouldBlock) => {
                let who = holder(identity).map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
                let why = if shared { ", which does not share it" } else { "" };
                Err(Error::new(ErrorCode::LockedByProcess, format!("{} is in use by {who}{why}", path.display())))
            }
            Err(TryLockError::Error(e)) => Err(open_error(path, &e)),
        }
    }
}

/// Opens a file, created (mode 0600) if there is none.
pub(crate) fn create(path: &Path) -> Result<File> {
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    file.map_err(|e| open_error(path, &e))
}

/// The pid of the process that holds the flock, from the kernel's table; `None` where that cannot be told (another pid
/// namespace, another system).
fn holder(identity: Identity) -> Option<u32> {
    let table = std::fs::read_to_string("/proc/locks").ok()?;
    let (major, minor) = (libc::major(identity.device), libc::minor(identity.device));
    let file = format!("{major:02x}:{minor:02x}:{}", identity.inode);
    table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        match fields.as_slice() {
            [_, "FLOCK", _, _, pid, name, ..] if *name == file => pid.parse().ok(),
            _ => None,
        }
    })
}

/// What a failing open(2) means to the caller.
pub(crate) fn open_error(path: &Path, e: &io::Error) -> Error {
    let code = match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::DiskFull,
        io::ErrorKind::NotFound
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::NotADirectory => ErrorCode::CannotOpen,
        _ => ErrorCode::Io,
    };
    Error::new(code, format!("cannot open {}: {e}", path.display()))
}

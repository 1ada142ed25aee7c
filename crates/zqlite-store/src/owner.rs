//! One process owns a database file, or several that all agree to share it; within one, everybody shares one store.
//!
//! The lock is flock(2) on the database file itself: keyed by device and inode, so links and relative paths lead to the
//! same lock, and released by the kernel when the process dies. SQLite's own locks are fcntl(2) locks and do not meet it;
//! but closing any descriptor of a file drops all fcntl locks of the process on it (a rule of POSIX), after which another
//! program may take the log away under a living database. So it is noted which files this process has open in SQLite, and a
//! descriptor of one of them is closed when the last of its users is gone.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::LazyLock;

use parking_lot::Mutex;

use crate::{Error, ErrorCode, Result};

/// What names a file, whatever its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// The file at `path`, if there is one. Opens nothing.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|m| Self { device: m.dev(), inode: m.ino() })
    }

    /// Whether a database of this process uses the file.
    pub(crate) fn is_in_use(self) -> bool {
        FILES.lock().contains_key(&self)
    }
}

/// What this process has to do with a file that SQLite has open, or will have.
#[derive(Debug, Default)]
struct Users {
    count: usize,
    /// Whether one of them is an [`Owner`].
    owned: bool,
    /// Descriptors that nobody needs and that must stay open as long as there are users. The next owner takes one of them, so
    /// there are no more than one, or than files that took the name while it was being opened.
    idle: Vec<File>,
}

static FILES: LazyLock<Mutex<HashMap<Identity, Users>>> = LazyLock::new(Mutex::default);

/// One user of a file less; `file` is a descriptor that it had.
fn leave(identity: Identity, file: Option<File>) {
    let mut files = FILES.lock();
    let Some(users) = files.get_mut(&identity) else { return };
    users.count -= 1;
    users.owned &= file.is_none();
    users.idle.extend(file);
    if users.count == 0 {
        files.remove(&identity);
    }
}

/// Use of a file without owning it, for reading; ends when dropped, which must be after SQLite has closed the file.
#[derive(Debug)]
pub(crate) struct Use {
    identity: Identity,
}

impl Use {
    /// `None` where there is no file: SQLite will say so.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let mut files = FILES.lock();
        let identity = Identity::of(path)?;
        files.entry(identity).or_default().count += 1;
        Some(Self { identity })
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        leave(self.identity, None);
    }
}

/// How often a file is opened anew because another one took its name meanwhile.
const ATTEMPTS: usize = 100;

/// Ownership of a database file; ends when dropped, which must be after SQLite has closed the file.
#[derive(Debug)]
pub(crate) struct Owner {
    file: Option<File>,
    pub(crate) identity: Identity,
}

impl Owner {
    /// Creates the file (mode 0600) if there is none, and takes it: for this process alone, or together with others that
    /// share it.
    ///
    /// # Errors
    /// `ERR_LOCKED_BY_PROCESS` naming the owner's pid, `ERR_CANNOT_OPEN`, `ERR_DISK_FULL`, `ERR_IO`.
    pub(crate) fn take(path: &Path, shared: bool) -> Result<Self> {
        for _ in 0..ATTEMPTS {
            if let Some(owner) = Self::try_take(path, shared)? {
                return Ok(owner);
            }
        }
        Err(Error::new(ErrorCode::Busy, format!("{} is being replaced again and again", path.display())))
    }

    /// `None` when the file was replaced by another one while it was being taken.
    fn try_take(path: &Path, shared: bool) -> Result<Option<Self>> {
        let mut files = FILES.lock();
        let known = Identity::of(path);
        let mut users = known.and_then(|identity| files.get_mut(&identity));
        if users.as_ref().is_some_and(|users| users.owned) {
            let (path, pid) = (path.display(), std::process::id());
            let message = format!("{path} is in use by process {pid}, this one, in another database");
            return Err(Error::new(ErrorCode::LockedByProcess, message));
        }
        let (file, identity) = match (users.as_mut().and_then(|users| users.idle.pop()), known) {
            (Some(file), Some(identity)) => (file, identity),
            _ => create(path)?,
        };
        let result = match if shared { file.try_lock_shared() } else { file.try_lock() } {
            Ok(()) if Identity::of(path) == Some(identity) => {
                let users = files.entry(identity).or_default();
                users.count += 1;
                users.owned = true;
                return Ok(Some(Self { file: Some(file), identity }));
            }
            Ok(()) => file.unlock().map(|()| None).map_err(|e| open_error(path, &e)),
            Err(TryLockError::WouldBlock) => {
                let who = holder(identity).map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
                let why = if shared { ", which does not share it" } else { "" };
                Err(Error::new(ErrorCode::LockedByProcess, format!("{} is in use by {who}{why}", path.display())))
            }
            Err(TryLockError::Error(e)) => Err(open_error(path, &e)),
        };
        if let Some(users) = files.get_mut(&identity) {
            users.idle.push(file);
        }
        result
    }

    /// The file itself.
    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let file = self.file.take();
        if let Some(Err(error)) = file.as_ref().map(File::unlock) {
            tracing::warn!(%error, "a database file cannot be unlocked; it stays locked until it is closed");
        }
        leave(self.identity, file);
    }
}

/// Opens a file, created (mode 0600) if there is none.
fn create(path: &Path) -> Result<(File, Identity)> {
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
    let file = file.map_err(|e| open_error(path, &e))?;
    let metadata = file.metadata().map_err(|e| open_error(path, &e))?;
    if !metadata.is_file() {
        return Err(Error::new(ErrorCode::CannotOpen, format!("{} is not a regular file", path.display())));
    }
    Ok((file, Identity { device: metadata.dev(), inode: metadata.ino() }))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_stays_open_as_long_as_anybody_of_the_process_uses_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let owner = Owner::take(&path, false).unwrap();
        let identity = owner.identity;
        assert_eq!(Owner::take(&path, false).unwrap_err().code, ErrorCode::LockedByProcess);
        let reader = Use::of(&path).unwrap();
        drop(owner);
        assert_eq!(FILES.lock()[&identity].idle.len(), 1);
        // The lock is free again all the same.
        let again = Owner::take(&path, true).unwrap();
        drop(reader);
        assert!(identity.is_in_use());
        drop(again);
        assert!(!identity.is_in_use());
        assert!(Use::of(&folder.path().join("none.db")).is_none());
    }

    #[test]
    fn descriptors_do_not_gather_while_a_file_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let owner = Owner::take(&path, false).unwrap();
        let (identity, _reader) = (owner.identity, Use::of(&path).unwrap());
        drop(owner);
        for _ in 0..100 {
            drop(Owner::take(&path, false).unwrap());
            assert_eq!(FILES.lock()[&identity].idle.len(), 1);
        }
        // Nor while another program has the lock.
        let other = File::open(&path).unwrap();
        other.lock().unwrap();
        for _ in 0..100 {
            assert_eq!(Owner::take(&path, false).unwrap_err().code, ErrorCode::LockedByProcess);
        }
        assert_eq!(FILES.lock()[&identity].idle.len(), 1);
    }
}

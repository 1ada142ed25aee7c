//! A door at which the n-th call of a kind fails, once or from then on.

use std::ffi::c_int;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use rusqlite::ffi;

use crate::vfs::{Call, Door};

/// What fails, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A write that the disk reports as failed.
    Write,
    /// A write for which there is no space.
    Full,
    /// A sync.
    Sync,
    /// A change of a file's length.
    Truncate,
    /// Opening a file.
    Open,
    /// Mapping the log's index.
    ShmMap,
    /// Removing a file.
    Delete,
}

impl Fault {
    /// All of them, with their names.
    pub const ALL: [(Self, &str); 7] = [
        (Self::Write, "write"),
        (Self::Full, "full"),
        (Self::Sync, "sync"),
        (Self::Truncate, "truncate"),
        (Self::Open, "open"),
        (Self::ShmMap, "shm-map"),
        (Self::Delete, "delete"),
    ];

    fn is(self, call: &Call<'_>) -> bool {
        match self {
            Self::Write | Self::Full => matches!(call, Call::Write(..)),
            Self::Sync => matches!(call, Call::Sync(..)),
            Self::Truncate => matches!(call, Call::Truncate(..)),
            Self::Open => matches!(call, Call::Open(..)),
            Self::ShmMap => matches!(call, Call::ShmMap(_)),
            Self::Delete => matches!(call, Call::Delete(..)),
        }
    }

    fn code(self) -> c_int {
        match self {
            Self::Write => ffi::SQLITE_IOERR_WRITE,
            Self::Full => ffi::SQLITE_FULL,
            Self::Sync => ffi::SQLITE_IOERR_FSYNC,
            Self::Truncate => ffi::SQLITE_IOERR_TRUNCATE,
            Self::Open => ffi::SQLITE_CANTOPEN,
            Self::ShmMap => ffi::SQLITE_IOERR_SHMMAP,
            Self::Delete => ffi::SQLITE_IOERR_DELETE,
        }
    }

    /// Whether it can happen within a COMMIT that may have reached the disk all the same.
    fn can_leave_unknown(self) -> bool {
        matches!(self, Self::Write | Self::Sync | Self::ShmMap)
    }
}

/// The door.
#[derive(Debug)]
pub struct Failing {
    folder: PathBuf,
    fault: Fault,
    nth: u64,
    for_ever: bool,
    seen: AtomicU64,
    mended: AtomicBool,
    /// Whether a COMMIT is under way.
    committing: AtomicBool,
    struck_commit: AtomicBool,
}

impl Failing {
    /// The `nth` call in a folder fails, counted from 1; the ones after it too, if `for_ever`.
    pub fn new(folder: &Path, fault: Fault, nth: u64, for_ever: bool) -> Self {
        Self {
            folder: folder.to_owned(),
            fault,
            nth,
            for_ever,
            seen: AtomicU64::new(0),
            mended: AtomicBool::new(false),
            committing: AtomicBool::new(false),
            struck_commit: AtomicBool::new(false),
        }
    }

    /// Is told which fail points are reached: a COMMIT lies between two of them.
    pub fn reached(&self, point: &str) {
        match point {
            "writer.before-commit" => self.committing.store(true, SeqCst),
            "writer.committed" => self.committing.store(false, SeqCst),
            _ => {}
        }
    }

    /// Whether a call has failed while a COMMIT was under way, which may have reached the disk all the same.
    pub fn can_leave_unknown(&self) -> bool {
        self.fault.can_leave_unknown() && self.struck_commit.load(SeqCst)
    }

    /// From now on nothing fails.
    pub fn mend(&self) {
        self.mended.store(true, SeqCst);
    }

    /// Whether a call has failed.
    pub fn struck(&self) -> bool {
        self.seen.load(SeqCst) >= self.nth
    }
}

impl Door for Failing {
    fn before(&self, call: &Call<'_>) -> Result<(), c_int> {
        // A file without a name is SQLite's for the time of a statement.
        let concerned = call.path().as_os_str().is_empty() || call.path().starts_with(&self.folder);
        if !self.fault.is(call) || !concerned || self.mended.load(SeqCst) {
            return Ok(());
        }
        let seen = self.seen.fetch_add(1, SeqCst) + 1;
        let fails = if self.for_ever { seen >= self.nth } else { seen == self.nth };
        if !fails {
            return Ok(());
        }
        if self.committing.load(SeqCst) {
            self.struck_commit.store(true, SeqCst);
        }
        Err(self.fault.code())
    }

    fn after(&self, _: &Call<'_>) {}
}

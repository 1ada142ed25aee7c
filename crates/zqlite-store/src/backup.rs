//! A copy of the database while work goes on.
//!
//! The copy is of one moment: its source is a connection that holds a read transaction, so that writers neither wait for it
//! nor make it begin anew. It comes to be beside its destination and takes its name when it is complete and on disk.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::connection::{self, BUSY_TIMEOUT, Role};
use crate::fault::{fail_point, file_event};
use crate::job::Cancel;
use crate::owner::{Identity, Owner, open_error};
use crate::store::Shared;
use crate::{Error, ErrorCode, Result};

/// How a copy is made.
#[derive(Debug, Clone)]
pub struct BackupOptions {
    /// Where it goes.
    pub path: PathBuf,
    /// Whether a file that is there is replaced.
    pub overwrite: bool,
    /// Pages between two looks at the clock and at who cancels.
    pub pages: u32,
    /// Rest between them, to leave the disk to others.
    pub pause: Duration,
    /// Gives it up.
    pub cancel: Cancel,
    /// When it is given up.
    pub deadline: Option<Instant>,
}

/// How often a backup that rests looks whether it is given up.
const LOOK: Duration = Duration::from_millis(20);

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackupProgress {
    /// Pages to go.
    pub remaining: u32,
    /// Pages in all.
    pub total: u32,
}

/// Copies the database of `shared`.
///
/// # Errors
/// `ERR_CANNOT_OPEN` when the destination is there, comes to be meanwhile, is in use, or cannot be; `ERR_LOCKED_BY_PROCESS` when
/// another process uses it or another backup goes there; `ERR_BUSY` when another program keeps the unfinished copy locked;
/// `ERR_DISK_FULL`, `ERR_IO`, `ERR_CANCELLED`, `ERR_DEADLINE`; then nothing is left behind.
pub(crate) fn backup(
    shared: &Arc<Shared>,
    options: &BackupOptions,
    progress: &mut dyn FnMut(BackupProgress),
) -> Result<BackupProgress> {
    let path = &options.path;
    let replaced = destination(path, options.overwrite)?;
    // A second backup to the same place at the same time finds the file taken.
    let mut partial = Partial::take(path)?;
    fail_point!("backup.begun");
    let done = copy(shared, &partial.path, options, progress)?;
    fail_point!("backup.copied");
    partial.owner.file().map_or(Ok(()), File::sync_all).map_err(|e| open_error(&partial.path, &e))?;
    file_event!(crate::fault::FileEvent::Synced(&partial.path));
    fail_point!("backup.synced");
    // The copy took its time: what came to the place meanwhile stays, and so it is held until it is replaced.
    let replaced = destination_still(path, options.overwrite, replaced)?;
    partial.give_name(path, replaced.is_some())?;
    drop(replaced);
    file_event!(crate::fault::FileEvent::Renamed(&partial.path, path));
    fail_point!("backup.renamed");
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| open_error(folder, &e))?;
        file_event!(crate::fault::FileEvent::FolderSynced(folder));
    }
    Ok(done)
}

/// Makes sure that a copy may take this name, and takes the file that it replaces.
fn destination(path: &Path, overwrite: bool) -> Result<Option<Owner>> {
    has_no_log(path)?;
    let Some(identity) = Identity::of(path) else { return Ok(None) };
    if identity.is_in_use() {
        return Err(refused(path, "is a database that this process has open"));
    }
    if !overwrite {
        return Err(refused(path, "exists already"));
    }
    Owner::take(path, false).map(Some)
}

/// The same once more, where `taken` was found before.
fn destination_still(path: &Path, overwrite: bool, taken: Option<Owner>) -> Result<Option<Owner>> {
    match taken {
        Some(owner) if Identity::of(path) == Some(owner.identity) => has_no_log(path).map(|()| Some(owner)),
        _ => destination(path, overwrite),
    }
}

/// SQLite would take a log that is left there for the copy's, and mend the copy with it.
fn has_no_log(path: &Path) -> Result<()> {
    for suffix in ["-wal", "-journal"] {
        if std::fs::metadata(with(path, suffix)).is_ok_and(|log| log.len() > 0) {
            return Err(refused(path, &format!("has a log beside it ({suffix}): it is in use, or was not closed")));
        }
    }
    Ok(())
}

fn refused(path: &Path, why: &str) -> Error {
    Error::new(ErrorCode::CannotOpen, format!("{} {why}", path.display()))
}

/// Renames a file; what has the name is replaced only where that is said.
fn rename(from: &Path, to: &Path, replace: bool) -> Result<()> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    if !replace {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => return Err(refused(to, "came to be while the copy was made")),
            // Not every file system can; then a file that comes at this very moment is replaced.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            Err(error) => return Err(open_error(to, &error.into())),
        }
    }
    #[cfg(not(any(target_os = "linux", target_os = "macos")))]
    let _ = replace;
    std::fs::rename(from, to).map_err(|e| open_error(to, &e))
}

fn copy(
    shared: &Arc<Shared>,
    to: &Path,
    options: &BackupOptions,
    progress: &mut dyn FnMut(BackupProgress),
) -> Result<BackupProgress> {
    // It may take long, and writes must not wait for it.
    let _log_grows = shared.steward.leave_log_alone();
    let source = connection::open_lane(shared, Role::Reader)?;
    let source = source.lane();
    source.control("BEGIN")?;
    source.internal(|c| c.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())))?;
    let mut target = Connection::open(to)?;
    // Waiting is done here, where it is seen that the backup is given up.
    target.busy_timeout(Duration::ZERO)?;
    let copy = Backup::new(source.connection, &mut target)?;
    let mut went_on = Instant::now();
    loop {
        options.check()?;
        let step = copy.step(i32::try_from(options.pages).unwrap_or(i32::MAX))?;
        let at = copy.progress();
        let at = BackupProgress { remaining: at.remaining.max(0) as u32, total: at.pagecount.max(0) as u32 };
        progress(at);
        match step {
            StepResult::Done => return Ok(at),
            StepResult::More => went_on = Instant::now(),
            _ if went_on.elapsed() > BUSY_TIMEOUT => {
                let message = format!("another program keeps {} locked", to.display());
                return Err(Error::new(ErrorCode::Busy, message));
            }
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
        let mut rest = options.pause;
        while !rest.is_zero() {
            let part = rest.min(LOOK);
            std::thread::sleep(part);
            rest -= part;
            options.check()?;
        }
    }
}

impl BackupOptions {
    fn check(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::new(ErrorCode::Cancelled, "the backup was cancelled"));
        }
        if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Error::new(ErrorCode::Deadline, "the backup ran past its deadline"));
        }
        Ok(())
    }
}

/// The copy before it has its name; removed unless it got it.
struct Partial {
    path: PathBuf,
    owner: Owner,
    /// Whether it got it. What then stands under the old one is another backup's.
    named: bool,
}

impl Partial {
    /// Made with mode 0600, empty, whatever an earlier backup left there.
    fn take(path: &Path) -> Result<Self> {
        let path = with(path, "-partial");
        let owner = Owner::take(&path, false)?;
        owner.file().map_or(Ok(()), |file| file.set_len(0)).map_err(|e| open_error(&path, &e))?;
        for suffix in LEFT {
            let _ = std::fs::remove_file(with(&path, suffix));
        }
        Ok(Self { path, owner, named: false })
    }

    /// What stands there is replaced only when it is held.
    fn give_name(&mut self, name: &Path, replace: bool) -> Result<()> {
        rename(&self.path, name, replace)?;
        self.named = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if self.named {
            return;
        }
        let _ = std::fs::remove_file(&self.path);
        for suffix in LEFT {
            let _ = std::fs::remove_file(with(&self.path, suffix));
        }
    }
}

/// What SQLite may leave beside a file.
const LEFT: [&str; 3] = ["-journal", "-wal", "-shm"];

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

    use super::*;

    #[test]
    fn a_copy_that_has_its_name_leaves_the_next_one_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("copy.db");
        let mut first = Partial::take(&path).unwrap();
        assert_eq!(Partial::take(&path).err().unwrap().code, ErrorCode::LockedByProcess);
        first.give_name(&path, false).unwrap();
        let mut second = Partial::take(&path).unwrap();
        drop(first);
        assert!(path.exists() && second.path.exists());
        // It replaces nothing unless told to, and goes when it gets no name.
        assert_eq!(second.give_name(&path, false).unwrap_err().code, ErrorCode::CannotOpen);
        let name = second.path.clone();
        drop(second);
        assert!(path.exists() && !name.exists());
    }
}

//! A copy of the database while work goes on.
//!
//! The copy is of one moment: its source is a connection that holds a read transaction, so that writers neither wait for it
//! nor make it begin anew. It comes to be beside its destination and takes its name when it is complete and on disk.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::connection::{self, Role};
use crate::fault::{fail_point, file_event};
use crate::job::Cancel;
use crate::owner::open_error;
use crate::store::Shared;
use crate::{Error, ErrorCode, Result};
use std::sync::Arc;

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
}

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
/// `ERR_CANNOT_OPEN` when the destination is there or cannot be, `ERR_DISK_FULL`, `ERR_IO`, `ERR_CANCELLED`; then nothing
/// is left behind.
pub(crate) fn backup(
    shared: &Arc<Shared>,
    options: &BackupOptions,
    progress: &mut dyn FnMut(BackupProgress),
) -> Result<BackupProgress> {
    let path = &options.path;
    if path.exists() && !options.overwrite {
        return Err(Error::new(ErrorCode::CannotOpen, format!("{} exists already", path.display())));
    }
    let mut partial = path.clone().into_os_string();
    partial.push("-partial");
    let partial = Partial(partial.into());
    remove(&partial.0);
    fail_point!("backup.begun");
    let done = copy(shared, &partial.0, options, progress)?;
    fail_point!("backup.copied");
    let file = File::open(&partial.0).map_err(|e| open_error(&partial.0, &e))?;
    file.sync_all().map_err(|e| open_error(&partial.0, &e))?;
    file_event!(crate::fault::FileEvent::Synced(&partial.0));
    fail_point!("backup.synced");
    std::fs::rename(&partial.0, path).map_err(|e| open_error(path, &e))?;
    file_event!(crate::fault::FileEvent::Renamed(&partial.0, path));
    fail_point!("backup.renamed");
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder).and_then(|f| f.sync_all()).map_err(|e| open_error(folder, &e))?;
        file_event!(crate::fault::FileEvent::FolderSynced(folder));
    }
    Ok(done)
}

fn copy(
    shared: &Arc<Shared>,
    to: &Path,
    options: &BackupOptions,
    progress: &mut dyn FnMut(BackupProgress),
) -> Result<BackupProgress> {
    let source = connection::open_lane(shared, Role::Reader)?;
    let source = source.lane();
    source.control("BEGIN")?;
    source.internal(|c| c.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())))?;
    // Mode 0600 before SQLite writes to it.
    drop(crate::owner::create(to)?);
    let mut target = Connection::open(to)?;
    let copy = Backup::new(source.connection, &mut target)?;
    loop {
        if options.cancel.is_cancelled() {
            return Err(Error::new(ErrorCode::Cancelled, "the backup was cancelled"));
        }
        let step = copy.step(i32::try_from(options.pages).unwrap_or(i32::MAX))?;
        let at = copy.progress();
        let at = BackupProgress { remaining: at.remaining.max(0) as u32, total: at.pagecount.max(0) as u32 };
        progress(at);
        match step {
            StepResult::Done => return Ok(at),
            StepResult::More => {}
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
        if !options.pause.is_zero() {
            std::thread::sleep(options.pause);
        }
    }
}

/// A file that is removed unless it got its name.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(path: &Path) {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
}

//! Room ahead in the write-ahead log.
//!
//! A commit that makes its file longer has to make the new length durable too, which costs the file system a transaction
//! of its own: a commit of 4 to 32 KiB took 0.40 to 0.51 ms at the end of a file and 0.23 to 0.27 ms within it (ext4, a
//! disk with 0.2 ms fdatasync). So the writer keeps zeros ahead of the log. To SQLite they are what an earlier, longer log
//! leaves behind: frames whose salt and checksum do not fit, at which recovery stops.

use rusqlite::Connection;

use crate::fault::fail_point;
use crate::sqlite::LogFile;

/// Bytes that the log should at least have ahead.
const LEAST: u64 = 128 << 10;
/// Bytes written ahead at a time, at most: some milliseconds of the writer's time.
const MOST: u64 = 1 << 20;
/// A log this long is left to grow by itself: it is about to begin anew.
const LONGEST: u64 = 64 << 20;

/// Keeps room ahead of a log, through the file that SQLite itself has open.
#[derive(Debug)]
pub(crate) struct Room {
    wanted: bool,
    longest: u64,
    /// Bytes of the file when it was last asked; 0 is not known. Asking costs more than the call: since Linux 6.13 a file
    /// whose times were looked at gets new ones with its next write, which the next fdatasync may have to write too. A
    /// commit of one page took 130 us with a look each, and 95 us without (ext4 without a journal, 0.08 ms fdatasync).
    end: u64,
}

impl Room {
    /// For a log with this limit, in bytes. A database in memory has no log.
    pub(crate) fn new(wanted: bool, limit: u64) -> Self {
        Self { wanted, longest: LONGEST.min(limit), end: 0 }
    }

    /// Writes zeros behind the end of the file when the log, now `position` bytes long, comes near it. Only the writer
    /// appends to the log, so only it may call this, and not within a transaction.
    pub(crate) fn ahead_of(&mut self, connection: &Connection, position: u64) {
        if position == 0 {
            // A log that was made empty stays so until its next commit.
            self.end = 0;
        }
        // A file that was longer is cut to the limit when the log begins anew.
        let known = self.end <= self.longest;
        let enough = position.saturating_add(LEAST).min(self.longest) <= self.end;
        if !self.wanted || position == 0 || position >= self.longest || (known && enough) {
            return;
        }
        let Some(mut log) = LogFile::of(connection) else { return };
        let Ok(end) = log.len() else { return };
        self.end = end;
        if position > end || position + LEAST <= end || end >= self.longest {
            return;
        }
        let zeros = vec![0; end.clamp(2 * LEAST, MOST).min(self.longest - end) as usize];
        match log.write_all_at(&zeros, end).and_then(|()| log.sync_data()) {
            Ok(()) => self.end = end + zeros.len() as u64,
            Err(error) => {
                // What space is left is for commits.
                tracing::debug!(%error, "no room ahead of the write-ahead log");
                let _ = log.set_len(end);
                self.wanted = false;
            }
        }
        fail_point!("log.extended");
    }
}

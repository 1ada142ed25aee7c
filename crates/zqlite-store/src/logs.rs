//! The write-ahead logs of a store, one of each file that it writes: how long they are, and moving them.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use rusqlite::Connection;

use crate::connection::Lane;
use crate::setup::{Attached, pragma_of};
use crate::{Options, Result};

/// Bytes before the pages of the log, and before each of them (https://sqlite.org/fileformat2.html#walformat).
const WAL_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;
/// A log is moved, as far as readers allow, when it has grown by this much, or by a part of its limit.
const SOFT_BYTES: u64 = 4 << 20;
/// What the writer has appended meanwhile is left to it to move when it is no more than this.
const MOST_LEFT: u64 = 2 << 20;

/// See [`weight_of_statement`]; the least in bytes.
const PAGES: u64 = 4;
const LEAST_WEIGHT: usize = 16 << 10;

/// SQLite's name for the file that it opened first.
pub(crate) const MAIN: &str = "main";

/// Above this many bytes of a log the writer waits until it can begin anew. A commit may add the rest.
fn full(limit: u64) -> u64 {
    limit - limit / 4
}

/// What the members of a group may add to the log together, as far as that is known before.
pub(crate) fn largest_group(limit: u64) -> usize {
    usize::try_from(limit / 4).unwrap_or(usize::MAX)
}

/// What a statement may add to a log beside its values, for a guess: some pages.
pub(crate) fn weight_of_statement(logs: &[Log]) -> usize {
    let page_size = logs.iter().map(|log| log.page_size).max().unwrap_or(0);
    usize::try_from(page_size * PAGES).unwrap_or(usize::MAX).max(LEAST_WEIGHT)
}

/// The log of one file. Its sizes are in bytes.
pub(crate) struct Log {
    /// The name of the file's schema.
    schema: String,
    page_size: u64,
    limit: u64,
    /// After the last commit; kept by the writer's connection.
    bytes: AtomicU64,
    /// Whether the next commit begins it anew.
    anew: AtomicBool,
    /// From which size on the writer waits for it to begin anew.
    full: AtomicU64,
    /// Its size when it was last tried to move it, which is tried again when it has grown on; 0 at once.
    tried: AtomicU64,
    /// How much of it is in the file.
    moved: AtomicU64,
    /// Whether writes go on above its limit, up to where it is full now, while what a large commit left in it is moved.
    ahead: AtomicBool,
    /// What the steward left of it is the writer's to move, see [`Log::is_left_to_writer`].
    left: AtomicBool,
}

/// SQLite's answer to a checkpoint.
pub(crate) struct Row {
    /// Whether somebody was in the way.
    pub(crate) busy: bool,
    /// Whether all of the log is in the file.
    pub(crate) all: bool,
}

/// The logs of the files that a connection writes, which are told of its commits from now on; the main one first.
///
/// # Errors
/// As SQLite tells.
pub(crate) fn follow(connection: &mut Connection, options: &Options) -> Result<Arc<[Log]>> {
    let attached = options.setup.attach.iter().filter(|file| !file.readonly);
    let schemas = options.path.iter().map(|_| MAIN).chain(attached.map(|Attached { name, .. }| name.as_str()));
    let logs: Arc<[Log]> = if options.readonly {
        Arc::default()
    } else {
        schemas.map(|schema| Log::of(connection, schema, options.wal.limit)).collect::<Result<_>>()?
    };
    let told = logs.clone();
    connection.wal_hook(Some(move |wal: &mut rusqlite::hooks::Wal, frames: i32| {
        if let Some(log) = told.iter().find(|log| log.schema.as_bytes() == wal.name().to_bytes()) {
            log.committed(frames.max(0) as u64);
        }
        Ok(())
    }))?;
    Ok(logs)
}

impl Log {
    fn of(connection: &Connection, schema: &str, limit: u64) -> Result<Self> {
        let page_size: i64 = connection.query_row(&pragma_of(schema, "page_size"), [], |row| row.get(0))?;
        Ok(Self {
            schema: schema.to_owned(),
            page_size: page_size.unsigned_abs(),
            limit,
            bytes: AtomicU64::new(0),
            anew: AtomicBool::new(false),
            full: AtomicU64::new(full(limit)),
            tried: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            ahead: AtomicBool::new(false),
            left: AtomicBool::new(false),
        })
    }

    pub(crate) fn schema(&self) -> &str {
        &self.schema
    }

    pub(crate) fn is_of_main(&self) -> bool {
        self.schema == MAIN
    }

    /// A transaction has added to it, which now has so many frames.
    pub(crate) fn committed(&self, frames: u64) {
        self.bytes.store(self.size_of(frames), Relaxed);
        self.anew.store(false, Relaxed);
    }

    fn size_of(&self, frames: u64) -> u64 {
        WAL_HEADER + frames * (self.page_size + FRAME_HEADER)
    }

    /// Its size after the last commit.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// How much of it is in the way of what comes.
    fn used(&self) -> u64 {
        if self.anew.load(Relaxed) { 0 } else { self.bytes() }
    }

    /// The next commit begins it anew.
    pub(crate) fn begins_anew(&self) {
        self.anew.store(true, Relaxed);
        self.tried.store(0, Relaxed);
        self.moved.store(0, Relaxed);
        self.ahead.store(false, Relaxed);
        self.full.store(full(self.limit), Relaxed);
    }

    /// Its file was made empty.
    pub(crate) fn truncated(&self) {
        self.bytes.store(0, Relaxed);
        self.begins_anew();
    }

    /// It may grow to twice its size before the writer waits again.
    pub(crate) fn grows_on(&self) {
        let size = self.used();
        self.ahead.store(false, Relaxed);
        self.full.store(full(self.limit).max(2 * size), Relaxed);
        self.tried.store(size, Relaxed);
    }

    /// Nobody is known to be in its way any more.
    pub(crate) fn is_to_be_moved(&self) {
        self.tried.store(0, Relaxed);
        self.ahead.store(false, Relaxed);
    }

    /// Whether the writer should wait for it.
    pub(crate) fn is_full(&self) -> bool {
        self.used() >= self.full.load(Relaxed)
    }

    /// To be called after a commit. One that had grown beyond its limit and is small again is full where it usually is. One that
    /// a large commit took beyond it is not full yet, if nobody has tried so far to move what is in it: to wait for all of that
    /// would take long, and it is beyond its limit anyway. Writes may add as much as the limit meanwhile.
    pub(crate) fn look(&self) {
        let (usual, used) = (full(self.limit), self.used());
        if used < usual {
            if self.full.load(Relaxed) != usual {
                self.full.store(usual, Relaxed);
            }
            self.ahead.store(false, Relaxed);
        } else if used > self.limit && self.is_full() && self.unmoved() > self.limit / 4 && !self.ahead.load(Relaxed) {
            self.full.store(used + self.limit, Relaxed);
            self.tried.store(0, Relaxed);
            // Last: who sees it sees where it is full, and all of the commit.
            self.ahead.store(true, Release);
        }
    }

    /// How much is to be moved of it before the writer waits for it, if that is to be.
    pub(crate) fn ahead(&self) -> Option<u64> {
        (self.ahead.load(Acquire) && self.full.load(Relaxed) > full(self.limit)).then(|| self.unmoved())
    }

    /// To be called when it was moved for that, with what there was to move. Once more where writes have added much meanwhile,
    /// unless they have come to where it is full, or a reader was in the way; else the writer is to wait for what is left.
    pub(crate) fn was_moved_ahead(&self, of: u64) {
        let rest = self.unmoved();
        if rest > self.limit / 4 && rest <= of / 2 && !self.is_full() {
            self.tried.store(0, Relaxed);
        } else {
            self.full.store(full(self.limit), Relaxed);
        }
    }

    /// How much of it is not in the file yet.
    fn unmoved(&self) -> u64 {
        let (used, moved) = (self.used(), self.moved.load(Relaxed));
        // A log smaller than what was moved has been started anew.
        used - if moved > used { 0 } else { moved }
    }

    /// Whether it has grown enough to be moved.
    pub(crate) fn is_due(&self) -> bool {
        let (size, tried) = (self.used(), self.tried.load(Relaxed));
        // A log smaller than it was when it was tried has been started anew.
        size.saturating_sub(if tried > size { 0 } else { tried }) >= SOFT_BYTES.min(self.limit / 4)
    }

    /// Whether the writer, between two turns, should move the rest. A writer that never pauses has appended to the log by the
    /// time the steward has moved it, so it would never start it anew, and grow it up to its limit, where it had to make room
    /// ahead all the time.
    pub(crate) fn is_left_to_writer(&self) -> bool {
        self.left.load(Relaxed) && self.left.swap(false, Relaxed)
    }

    /// Moves it as far as readers allow, and waits for nobody; the steward's way.
    ///
    /// # Errors
    /// As SQLite tells.
    pub(crate) fn move_most(&self, lane: &Lane<'_>) -> Result<()> {
        let size = self.used();
        // Before it, as a reader that ends meanwhile may take that back.
        self.tried.store(size, Relaxed);
        let result = self.checkpoint(lane, "PASSIVE");
        let appended = self.used().saturating_sub(size);
        self.left.store(result.is_ok() && (1..=MOST_LEFT).contains(&appended), Relaxed);
        result.map(drop)
    }

    /// Moves it in one of SQLite's modes.
    ///
    /// # Errors
    /// As SQLite tells.
    pub(crate) fn checkpoint(&self, lane: &Lane<'_>, mode: &str) -> Result<Row> {
        lane.internal(|connection| {
            let sql = pragma_of(&self.schema, &format!("wal_checkpoint({mode})"));
            let (busy, frames, moved): (i64, i64, i64) =
                connection.query_row(&sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            // SQLite counts from the beginning of the log; -1 is none.
            self.moved.store(if moved > 0 { self.size_of(moved.unsigned_abs()) } else { 0 }, Relaxed);
            Ok(Row { busy: busy != 0, all: frames >= 0 && frames == moved })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::job::{Call, Want, Work};
    use crate::{Params, Store};

    #[test]
    fn what_a_reader_keeps_from_being_moved_does_not_count_as_moved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.db");
        let mut options = Options { path: Some(path.clone()), ..Options::default() };
        options.wal.limit = 16 << 20;
        let store = Store::open(options).unwrap();
        let log = &store.shared().steward.logs[0];
        let write = |sql: &str| {
            let call = Call { statement: store.statement(sql), params: Params::default(), want: Want::Rows };
            store.write_sync(Work::Run(call), None).unwrap();
        };
        let until = |what: &dyn Fn() -> bool| {
            let late = Instant::now() + Duration::from_secs(30);
            while !what() {
                assert!(Instant::now() < late, "{} of {} bytes are not moved", log.unmoved(), log.used());
                sleep(Duration::from_millis(1));
            }
        };
        write("CREATE TABLE t (a)");
        let reader = rusqlite::Connection::open(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
        write("INSERT INTO t VALUES (zeroblob(5000000))");
        until(&|| log.tried.load(Relaxed) >= 5_000_000 && log.moved.load(Relaxed) > 0);
        assert!(log.unmoved() >= 5_000_000, "{} of {} bytes are not moved", log.unmoved(), log.used());
        assert!(!log.is_due(), "it is tried again and again");
        drop(reader);
        write("INSERT INTO t VALUES (zeroblob(5000000))");
        until(&|| log.unmoved() == 0);
    }
}

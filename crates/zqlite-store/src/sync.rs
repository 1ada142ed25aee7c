//! Connections for synchronous reads: on the caller's own thread, reading only, waiting for nobody. A database in memory has
//! one connection, which a read borrows from the writer as a synchronous write does.
//!
//! SQLite locks the log for each read and lets go of it afterwards, two system calls each, a fifth of a point read. So a
//! connection keeps its snapshot from one call to the next while nobody commits, which it sees where SQLite itself
//! looks: in the head of the log's index. The steward lets go of snapshots before it moves the log, and at each of its ticks.

use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;

use crate::connection::{self, Lane, Ran, Role};
use crate::job::Work;
use crate::metrics::Operation;
use crate::seat::Seat;
use crate::sqlite::{LogHead, log_head};
use crate::store::Shared;
use crate::watch::Watch;
use crate::{Call, Error, ErrorCode, Record, Result};

/// Runs reading statements on the calling thread, within a budget of steps. A call sees all that was committed when it
/// began. To be dropped before its store.
pub struct SyncLane {
    shared: Arc<Shared>,
    /// `None` for a database in memory.
    reading: Option<Arc<Mutex<Reading>>>,
}

struct Reading {
    seat: Seat,
    kept: Kept,
}

/// The snapshot that a connection keeps.
#[derive(Default)]
struct Kept {
    /// Whether there may be one: not where the log, and so its index, may be missing, nor where it is not the only one.
    may: bool,
    /// The head of the log's index before the last call began.
    head: Option<LogHead>,
    /// Since when a transaction is open, if one is.
    since: Option<Instant>,
}

/// Those of a store, for the steward.
#[derive(Default)]
pub(crate) struct SyncLanes(Mutex<Vec<Weak<Mutex<Reading>>>>);

impl SyncLanes {
    /// Lets go of the snapshots that no call is using now.
    pub(crate) fn let_go(&self) {
        self.0.lock().retain(|lane| {
            let Some(reading) = lane.upgrade() else { return false };
            // One that is in use is not old: calls are bounded.
            if let Some(mut reading) = reading.try_lock() {
                let Reading { seat, kept } = &mut *reading;
                seat.with(|lane| kept.let_go(lane));
            }
            true
        });
    }
}

impl Kept {
    /// To be called before a statement runs; `waited_for` says whether the log waits for those who read from it, as nobody may
    /// commit then, and the head stay as it is.
    fn renew(&mut self, lane: &Lane<'_>, waited_for: bool) {
        let head = if self.may && !waited_for { log_head(lane.connection) } else { None };
        let same = head.is_some() && head == self.head;
        if self.since.is_some() && !same {
            self.let_go(lane);
        } else if self.since.is_none() && same {
            // Not after each commit, so that reads and writes in turn do not pay for it.
            let now = Instant::now();
            self.since = lane.control("BEGIN").is_ok().then_some(now);
        }
        // What is committed between this look and the snapshot makes the next call renew it once more than it must.
        self.head = head;
    }

    fn let_go(&mut self, lane: &Lane<'_>) {
        if self.since.take().is_some() {
            lane.rollback();
        }
    }
}

impl SyncLane {
    /// # Errors
    /// As opening a connection fails.
    pub(crate) fn open(shared: &Arc<Shared>) -> Result<Self> {
        if shared.options.path.is_none() {
            return Ok(Self { shared: shared.clone(), reading: None });
        }
        let seat = Seat::new(connection::open_lane(shared, Role::Sync)?);
        let reading = Arc::new(Mutex::new(Reading { seat, kept: Kept::default() }));
        shared.sync_lanes.0.lock().push(Arc::downgrade(&reading));
        Ok(Self { shared: shared.clone(), reading: Some(reading) })
    }

    /// Runs a reading statement, asked for then, and returns the pieces of its answer. On a database in memory it waits for
    /// what the writer is at.
    ///
    /// # Errors
    /// `ERR_NOT_ALLOWED` for a statement that writes, `ERR_STEP_BUDGET` for one that takes too long, and as SQLite tells.
    pub fn run(&mut self, call: Call, queued: Instant) -> Result<Vec<Record>> {
        let shared = &self.shared;
        if let Some(pragma) = &call.statement.pragma {
            return shared.pragma(pragma).map(|record| vec![record]);
        }
        let Some(reading) = &self.reading else {
            return shared.at_once(Work::Read(call), queued, None);
        };
        shared.bustle.note(queued);
        let mut reading = reading.lock();
        let Reading { seat, kept } = &mut *reading;
        seat.with(|lane| {
            lane.refresh(shared);
            kept.renew(lane, shared.steward.pressure.is_waited_for(1));
            lane.most_steps = Some(shared.options.sync_steps);
            lane.watch.set_started(kept.since.unwrap_or(queued));
            let mut records = Vec::new();
            let mut keep = |record: Record, _: &Watch| {
                records.push(record);
                Ok(())
            };
            let result = lane.run(&call, false, &mut keep);
            lane.watch.nothing();
            match result {
                Ok(Ran::Done { last, .. }) => {
                    // The writer keeps a log, which this connection has now read from. Attached files have logs of their own.
                    kept.may = !shared.options.readonly && shared.options.setup.attach.is_empty();
                    shared.counters.ran(Operation::Sync, queued.elapsed());
                    records.push(last);
                    Ok(records)
                }
                Ok(Ran::Writes) => {
                    Err(Error::new(ErrorCode::NotAllowed, "synchronous calls read; this statement writes"))
                }
                Err(error) => {
                    kept.let_go(lane);
                    shared.counters.failed(&error);
                    Err(error)
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

    use super::*;
    use crate::{Options, Params, Store, Want};

    #[test]
    fn what_is_asked_synchronously_is_work_that_long_statements_make_room_for() {
        let folder = tempfile::tempdir().unwrap();
        let call =
            |store: &Store, sql| Call { statement: store.statement(sql), params: Params::default(), want: Want::Rows };
        let open = |path| Store::open(Options { path, ..Options::default() }).unwrap();
        for path in [Some(folder.path().join("test.db")), None] {
            let store = open(path.clone());
            let mut lane = store.sync_lane().unwrap();
            assert_eq!(lane.shared.bustle.calm_at(), None);
            lane.run(call(&store, "SELECT 1"), Instant::now()).unwrap();
            let after_read = lane.shared.bustle.calm_at();
            assert!(after_read.is_some(), "{path:?}");
            store.write_sync(Work::Run(call(&store, "CREATE TABLE t (a)")), None).unwrap();
            assert!(lane.shared.bustle.calm_at() > after_read, "{path:?}");
        }
    }
}

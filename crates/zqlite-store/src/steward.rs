//! The steward: looks after a store beside its lanes. It moves the write-ahead log into the database file, away from the
//! writer, and keeps the log bounded; ends calls that have waited too long; and answers whether the database is well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::connection::{Lane, Opened};
use crate::fault::fail_point;
use crate::store::Shared;
use crate::{Error, ErrorCode, Result};

/// The log is moved, as far as readers allow, when it has grown by this much.
const SOFT_BYTES: u64 = 4 << 20;
/// What the writer has appended meanwhile is left to it to move when it is no more than this.
const MOST_LEFT: u64 = 2 << 20;
/// How long new reads wait for a log above its limit to be started anew.
const HOLD: Duration = Duration::from_millis(5);
/// How often waiting calls are looked through for those whose time is over.
const TICK: Duration = Duration::from_millis(50);

/// What the steward found.
#[derive(Debug, Clone)]
pub struct Health {
    /// Why the database cannot be read, if so.
    pub failure: Option<Error>,
    /// From the question to the answer.
    pub elapsed: Duration,
}

type Question = Box<dyn FnOnce(Health) + Send>;

/// Wakes the steward.
pub(crate) struct Signal {
    /// Size of the log after the last commit, in bytes; kept by the writer's connection.
    pub(crate) wal_bytes: Arc<AtomicU64>,
    /// Whether the log is above its limit, so that old reads end.
    pub(crate) pressure: Arc<AtomicBool>,
    moved: AtomicU64,
    /// What the steward left of the log is the writer's to move, see [`Signal::is_left_to_writer`].
    left: AtomicBool,
    closing: AtomicBool,
    questions: Mutex<Vec<(Instant, Question)>>,
    wake: Condvar,
}

impl Signal {
    pub(crate) fn new(pressure: Arc<AtomicBool>) -> Self {
        Self {
            wal_bytes: Arc::default(),
            pressure,
            moved: AtomicU64::new(0),
            left: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            questions: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    /// The log's file was made as short as could be. Where a reader kept it from that, the next commit says how long it is.
    pub(crate) fn truncated(&self) {
        self.wal_bytes.store(0, Relaxed);
        self.moved.store(0, Relaxed);
    }

    /// Called after each commit.
    pub(crate) fn look(&self) {
        if self.is_due() {
            self.wake.notify_one();
        }
    }

    /// Whether the writer, between two turns, should move the rest of the log. A writer that never pauses has appended to the
    /// log by the time the steward has moved it, so it would never start it anew, and grow it up to its limit, where it had
    /// to make room ahead all the time.
    pub(crate) fn is_left_to_writer(&self) -> bool {
        self.left.load(Relaxed) && self.left.swap(false, Relaxed)
    }

    pub(crate) fn ask(&self, answer: Question) {
        self.questions.lock().push((Instant::now(), answer));
        self.wake.notify_one();
    }

    fn is_due(&self) -> bool {
        let size = self.wal_bytes.load(Relaxed);
        let moved = self.moved.load(Relaxed);
        // A log smaller than what was moved has been started anew.
        size.saturating_sub(if moved > size { 0 } else { moved }) >= SOFT_BYTES
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Relaxed);
        self.wake.notify_one();
    }
}

/// Serves until the store closes. Without a connection of its own, for a database in memory, there is no log.
pub(crate) fn serve(shared: &Arc<Shared>, opened: Option<Opened>) {
    let lane = opened.as_ref().map(Opened::lane);
    let signal = &shared.steward;
    let mut checked = Instant::now();
    while !signal.closing.load(Relaxed) {
        let questions = {
            let mut questions = signal.questions.lock();
            if questions.is_empty() {
                signal.wake.wait_for(&mut questions, TICK);
            }
            std::mem::take(&mut *questions)
        };
        for (asked, answer) in questions {
            let failure = health(shared, lane.as_ref()).err();
            answer(Health { failure, elapsed: asked.elapsed() });
        }
        shared.expire();
        shared.sync_lanes.let_go();
        if checked.elapsed() >= shared.options.pool.health_check_interval {
            checked = Instant::now();
            if let Err(error) = health(shared, lane.as_ref()) {
                shared.counters.failed(&error);
                tracing::error!(%error, "the database cannot be read");
            }
        }
        if let Some(lane) = &lane
            && signal.is_due()
            && let Err(error) = checkpoint(shared, lane)
        {
            tracing::warn!(%error, "checkpoint failed; the log grows until one succeeds");
        }
    }
}

fn health(shared: &Arc<Shared>, lane: Option<&Lane<'_>>) -> Result<()> {
    if shared.failed.load(Relaxed) {
        return Err(Error::new(ErrorCode::Readonly, "the database went read-only after a failed commit; reopen it"));
    }
    let Some(lane) = lane else { return Ok(()) };
    lane.internal(|connection| {
        connection.prepare_cached("SELECT count(*) FROM sqlite_schema")?.query_row([], |_| Ok(()))
    })
}

fn checkpoint(shared: &Arc<Shared>, lane: &Lane<'_>) -> Result<()> {
    let started = Instant::now();
    let signal = &shared.steward;
    let size = signal.wal_bytes.load(Relaxed);
    let restart = size >= shared.options.wal.limit;
    signal.pressure.store(restart, Relaxed);
    if restart {
        shared.hold_reads(Some(started + HOLD));
        lane.connection.busy_timeout(HOLD).map_err(Error::from)?;
    }
    shared.sync_lanes.let_go();
    fail_point!("checkpoint.before");
    // A log that readers keep from being moved whole is reported as "busy" in the row, which is no failure here.
    let sql = if restart { "PRAGMA wal_checkpoint(RESTART)" } else { "PRAGMA wal_checkpoint(PASSIVE)" };
    let result = lane.internal(|connection| connection.query_row(sql, [], |row| row.get::<_, i64>(0)));
    fail_point!("checkpoint.done");
    if restart {
        shared.hold_reads(None);
    }
    // What could not be moved because of a reader is tried again when the log has grown on, or soon if it is too long.
    let stuck = restart && !matches!(result, Ok(0));
    signal.moved.store(if stuck { size.saturating_sub(SOFT_BYTES / 2) } else { size }, Relaxed);
    let appended = signal.wal_bytes.load(Relaxed).saturating_sub(size);
    signal.left.store(result.is_ok() && !stuck && (1..=MOST_LEFT).contains(&appended), Relaxed);
    shared.counters.checkpoints.add_time(started.elapsed());
    result.map(|_| ())
}

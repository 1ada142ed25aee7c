//! The steward: looks after a store beside its lanes. It moves the write-ahead log into the database file, away from the
//! writer, and keeps the log bounded; ends calls that have waited too long; and answers whether the database is well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::connection::{Lane, Opened};
use crate::fault::fail_point;
use crate::pressure::Pressure;
use crate::queue::Queue;
use crate::restart::{Found, Restart};
use crate::store::Shared;
use crate::{Error, ErrorCode, Result};

/// The log is moved, as far as readers allow, when it has grown by this much, or by a part of its limit.
const SOFT_BYTES: u64 = 4 << 20;
/// What the writer has appended meanwhile is left to it to move when it is no more than this.
const MOST_LEFT: u64 = 2 << 20;
/// How often waiting calls are looked through for those whose time is over.
const TICK: Duration = Duration::from_millis(50);

/// Above this many bytes of the log the writer waits until it can begin anew. A commit may add the rest.
fn full(limit: u64) -> u64 {
    limit - limit / 4
}

/// What the members of a group may add to the log together, as far as that is known before.
pub(crate) fn largest_group(limit: u64) -> usize {
    usize::try_from(limit / 4).unwrap_or(usize::MAX)
}

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
    pub(crate) pressure: Arc<Pressure>,
    limit: u64,
    /// From how many bytes on the writer waits for the log to begin anew.
    full: AtomicU64,
    /// Whether it does.
    waits: AtomicBool,
    /// Who needs the log as it is, however long it gets.
    backups: AtomicUsize,
    moved: AtomicU64,
    /// What the steward left of the log is the writer's to move, see [`Signal::is_left_to_writer`].
    left: AtomicBool,
    closing: AtomicBool,
    questions: Mutex<Vec<(Instant, Question)>>,
    wake: Condvar,
}

impl Signal {
    /// For a log with this limit, in bytes.
    pub(crate) fn new(pressure: Arc<Pressure>, limit: u64) -> Self {
        Self {
            wal_bytes: Arc::default(),
            pressure,
            limit,
            full: AtomicU64::new(full(limit)),
            waits: AtomicBool::new(false),
            backups: AtomicUsize::new(0),
            moved: AtomicU64::new(0),
            left: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            questions: Mutex::default(),
            wake: Condvar::new(),
        }
    }

    /// Size of the log after the last commit, in bytes.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.wal_bytes.load(Relaxed)
    }

    /// The log's file was made as short as could be. Where a reader kept it from that, the next commit says how long it is.
    pub(crate) fn truncated(&self) {
        self.wal_bytes.store(0, Relaxed);
        self.moved.store(0, Relaxed);
    }

    /// Called by the writer after each commit. Its next turn waits where the log is full.
    pub(crate) fn look(&self, writer: &Queue) {
        let size = self.log_bytes();
        if size < full(self.limit) {
            // Where it had grown beyond.
            self.full.store(full(self.limit), Relaxed);
        }
        if size >= self.full.load(Relaxed) && !self.is_left_alone() {
            writer.hold(true);
            self.waits.store(true, Relaxed);
            self.wake();
        } else if self.is_due() {
            self.wake();
        }
    }

    /// The log begins anew with the next commit, or grows on, since somebody is in the way who is not to be waited for.
    fn let_go(&self, writer: &Queue, size: u64, found: Found) {
        let next = if found == Found::Hopeless { 2 * size } else { 0 };
        self.full.store(next.max(full(self.limit)), Relaxed);
        self.moved.store(size, Relaxed);
        self.pressure.wait_for(0);
        self.waits.store(false, Relaxed);
        writer.hold(false);
        if self.log_bytes() != size {
            // A turn that was still going on has appended more, and its demand may just have been taken back.
            self.look(writer);
        }
    }

    /// As long as what is returned lives, the writer waits for nobody who reads the log.
    pub(crate) fn leave_log_alone(&self) -> LeftAlone<'_> {
        self.backups.fetch_add(1, Relaxed);
        LeftAlone(self)
    }

    pub(crate) fn is_left_alone(&self) -> bool {
        self.backups.load(Relaxed) > 0
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
        let size = self.log_bytes();
        let moved = self.moved.load(Relaxed);
        // A log smaller than what was moved has been started anew.
        size.saturating_sub(if moved > size { 0 } else { moved }) >= SOFT_BYTES.min(self.limit / 4)
    }

    /// Questions, or none when there is other work, or none at all for that long.
    fn next(&self, at_most: Duration, is_waiting: bool) -> Vec<(Instant, Question)> {
        let mut questions = self.questions.lock();
        let idle = is_waiting || !(self.is_due() || self.waits.load(Relaxed) || self.closing.load(Relaxed));
        if questions.is_empty() && idle {
            self.wake.wait_for(&mut questions, at_most);
        }
        std::mem::take(&mut *questions)
    }

    fn wake(&self) {
        // Not between a look of the steward's and its sleep.
        drop(self.questions.lock());
        self.wake.notify_one();
    }

    pub(crate) fn close(&self) {
        self.closing.store(true, Relaxed);
        self.wake();
    }
}

/// See [`Signal::leave_log_alone`].
pub(crate) struct LeftAlone<'a>(&'a Signal);

impl Drop for LeftAlone<'_> {
    fn drop(&mut self) {
        self.0.backups.fetch_sub(1, Relaxed);
    }
}

/// Serves until the store closes. Without a connection of its own, for a database in memory, there is no log.
pub(crate) fn serve(shared: &Arc<Shared>, opened: Option<Opened>) {
    let lane = opened.as_ref().map(Opened::lane);
    let signal = &shared.steward;
    let (mut ticked, mut checked) = (Instant::now(), Instant::now());
    let mut restart = None;
    while !signal.closing.load(Relaxed) {
        let pause = restart.as_ref().map_or(TICK, Restart::pause).min(TICK.saturating_sub(ticked.elapsed()));
        for (asked, answer) in signal.next(pause, restart.is_some()) {
            let failure = health(shared, lane.as_ref()).err();
            answer(Health { failure, elapsed: asked.elapsed() });
        }
        if ticked.elapsed() >= TICK {
            ticked = Instant::now();
            shared.expire();
            shared.sync_lanes.let_go();
        }
        if checked.elapsed() >= shared.options.pool.health_check_interval {
            checked = Instant::now();
            if let Err(error) = health(shared, lane.as_ref()) {
                shared.counters.failed(&error);
                tracing::error!(%error, "the database cannot be read");
            }
        }
        let Some(lane) = &lane else { continue };
        if signal.waits.load(Relaxed) {
            let attempt = restart.get_or_insert_with(|| Restart::begin(shared));
            if is_over(shared, lane, attempt) {
                restart = None;
            }
        } else if signal.is_due()
            && let Err(error) = checkpoint(shared, lane)
        {
            tracing::warn!(%error, "checkpoint failed; the log grows until one succeeds");
        }
    }
}

/// Tries to begin the log anew; returns whether the writer goes on.
fn is_over(shared: &Shared, lane: &Lane<'_>, restart: &mut Restart) -> bool {
    let found = restart.attempt(shared, lane).unwrap_or_else(|error| {
        tracing::warn!(%error, "checkpoint failed; the log grows beyond its limit until one succeeds");
        Found::Hopeless
    });
    if found == Found::Busy {
        return false;
    }
    if found == Found::Hopeless {
        tracing::warn!(
            bytes = restart.size(),
            "the log grows beyond its limit, since another program reads it all the time"
        );
    }
    shared.hold_reads(None);
    shared.steward.let_go(&shared.writer, restart.size(), found);
    shared.counters.checkpoints.add_time(restart.elapsed());
    true
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

/// Moves the log as far as readers allow, and waits for nobody.
fn checkpoint(shared: &Arc<Shared>, lane: &Lane<'_>) -> Result<()> {
    let started = Instant::now();
    let signal = &shared.steward;
    let size = signal.log_bytes();
    shared.sync_lanes.let_go();
    fail_point!("checkpoint.before");
    let result = lane.internal(|connection| connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())));
    fail_point!("checkpoint.done");
    // What could not be moved because of a reader is tried again when the log has grown on.
    signal.moved.store(size, Relaxed);
    let appended = signal.log_bytes().saturating_sub(size);
    signal.left.store(result.is_ok() && (1..=MOST_LEFT).contains(&appended), Relaxed);
    shared.counters.checkpoints.add_time(started.elapsed());
    result
}

//! The checkpoint lane: moves the write-ahead log into the database file, away from the writer, and keeps the log bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::connection::{Lane, Opened};
use crate::metrics::Counters;
use crate::store::Shared;
use crate::{Error, Result};

/// The log is moved, as far as readers allow, when it has grown by this much.
const SOFT_BYTES: u64 = 4 << 20;
/// Above this the log is started anew, for which new reads wait a moment.
const HARD_BYTES: u64 = 64 << 20;
/// How long new reads wait for that.
const HOLD: Duration = Duration::from_millis(5);
/// How often waiting calls are looked through for those whose time is over.
const TICK: Duration = Duration::from_millis(50);

/// Wakes the lane.
pub(crate) struct Signal {
    /// Size of the log after the last commit, in bytes; kept by the writer's connection.
    pub(crate) wal_bytes: Arc<AtomicU64>,
    moved: AtomicU64,
    closing: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

impl Signal {
    pub(crate) fn new() -> Self {
        Self {
            wal_bytes: Arc::default(),
            moved: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    /// Called after each commit.
    pub(crate) fn look(&self) {
        if self.is_due() {
            self.wake.notify_one();
        }
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

/// Serves until the store closes.
pub(crate) fn serve(shared: &Arc<Shared>, opened: Opened) {
    let lane = opened.lane();
    let signal = &shared.checkpoints;
    while !signal.closing.load(Relaxed) {
        {
            let mut guard = signal.lock.lock();
            signal.wake.wait_for(&mut guard, TICK);
        }
        let expired = shared.readers.expire() + shared.writer.expire();
        Counters::add(&shared.counters.expired, expired);
        if signal.is_due()
            && let Err(error) = checkpoint(shared, &lane)
        {
            tracing::warn!(%error, "checkpoint failed; the log grows until one succeeds");
        }
    }
}

fn checkpoint(shared: &Arc<Shared>, lane: &Lane<'_>) -> Result<()> {
    let started = Instant::now();
    let size = shared.checkpoints.wal_bytes.load(Relaxed);
    let restart = size >= HARD_BYTES;
    if restart {
        shared.readers.hold(Some(started + HOLD));
        lane.connection.busy_timeout(HOLD).map_err(Error::from)?;
    }
    // A log that readers keep from being moved whole is reported as "busy" in the row, which is no failure here.
    let sql = if restart { "PRAGMA wal_checkpoint(RESTART)" } else { "PRAGMA wal_checkpoint(PASSIVE)" };
    let result = lane.internal(|connection| connection.query_row(sql, [], |_| Ok(())));
    if restart {
        shared.readers.hold(None);
    }
    shared.checkpoints.moved.store(size, Relaxed);
    Counters::add(&shared.counters.checkpoints, 1);
    Counters::add(&shared.counters.checkpoint_ns, started.elapsed().as_nanos() as u64);
    result
}

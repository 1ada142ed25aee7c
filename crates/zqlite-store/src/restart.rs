//! Beginning the write-ahead log anew when it is at its limit, which needs its readers to end.
//!
//! SQLite begins a log anew when all of it is in the database file and nobody reads from it. While writes go on and reads
//! overlap neither comes about, so the writer waits:
//!
//! 1. until the reads that began before it stopped have ended, and so all of the log can be moved. Reads of what was last
//!    committed are in nobody's way here;
//! 2. until the reads that began before all of it was moved have ended. Those that begin afterwards read from the database
//!    file alone.
//!
//! Either ends by itself however many reads come, since each read ends: by itself, or because it is older than
//! `wal.max_read_age`. Reads of other programs cannot be ended, so nobody waits for those for long.

use std::time::{Duration, Instant};

use crate::Result;
use crate::connection::Lane;
use crate::fault::fail_point;
use crate::store::Shared;

/// How long new reads wait too, so that both may be over at once.
const HOLD: Duration = Duration::from_millis(5);
/// How long reads of other programs are waited for, once none of this store's is in the way.
const OTHERS: Duration = Duration::from_secs(1);
/// How often all of this store's reads must have been replaced by then. SQLite has few places for readers of different
/// moments, and one that finds none takes the place of an older one.
const ROUNDS: u32 = 4;
/// How often it is tried: in parts of the time that it took so far, within these bounds.
const PART: u32 = 8;
const SHORTEST: Duration = Duration::from_micros(200);
const LONGEST: Duration = Duration::from_millis(20);

/// A writer that waits for the log to begin anew.
pub(crate) struct Restart {
    began: Instant,
    /// Bytes of the log.
    size: u64,
    /// When the reads that are in the way began at the latest, see [`crate::pressure::Pressure`].
    before: u64,
    moved: bool,
    rounds: u32,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The next commit begins it anew.
    Anew,
    /// Somebody is in the way.
    Busy,
    /// A backup reads it, which is not waited for.
    LeftAlone,
    /// Somebody else does who cannot be ended.
    Hopeless,
}

/// SQLite's answer to a checkpoint.
struct Row {
    busy: bool,
    log: i64,
    moved: i64,
}

impl Restart {
    pub(crate) fn begin(shared: &Shared) -> Self {
        let began = Instant::now();
        shared.hold_reads(Some(began + HOLD));
        let before = shared.steward.pressure.now();
        let size = shared.steward.log_bytes();
        Self { began, size, before, moved: false, rounds: 0 }
    }

    /// When it is to be tried again.
    pub(crate) fn pause(&self) -> Duration {
        (self.began.elapsed() / PART).clamp(SHORTEST, LONGEST)
    }

    /// Bytes of the log that it is about.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Tries it.
    ///
    /// # Errors
    /// As SQLite tells of the checkpoint.
    pub(crate) fn attempt(&mut self, shared: &Shared, lane: &Lane<'_>) -> Result<Found> {
        let pressure = &shared.steward.pressure;
        if shared.steward.is_left_alone() {
            return Ok(Found::LeftAlone);
        }
        pressure.wait_for(self.before);
        shared.sync_lanes.let_go();
        // Before the checkpoint: what a turn that still goes on appends is not in it.
        let working = shared.writer.is_working();
        fail_point!("checkpoint.before");
        let row = checkpoint(lane)?;
        fail_point!("checkpoint.done");
        if !row.busy {
            return Ok(Found::Anew);
        }
        let moved = !working && row.log >= 0 && row.log == row.moved;
        if working || moved != self.moved {
            (self.before, self.moved, self.rounds) = (pressure.now(), moved, 0);
        } else if !pressure.is_read_since(self.before) {
            (self.before, self.rounds) = (pressure.now(), self.rounds + 1);
        }
        let others = self.rounds >= ROUNDS && self.elapsed() >= OTHERS;
        Ok(if others { Found::Hopeless } else { Found::Busy })
    }
}

/// Moves what can be moved without waiting for anybody.
fn checkpoint(lane: &Lane<'_>) -> Result<Row> {
    lane.set_busy_timeout(Some(Duration::ZERO))?;
    let row = lane.internal(|connection| {
        connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| {
            Ok(Row { busy: row.get::<_, i64>(0)? != 0, log: row.get(1)?, moved: row.get(2)? })
        })
    });
    lane.set_busy_timeout(None)?;
    row
}

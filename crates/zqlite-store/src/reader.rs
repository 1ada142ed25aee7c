//! A reader lane: runs reading statements on its own connection, each on its own snapshot. Short statements and long ones have
//! lanes of their own, so that nobody who asks for little waits behind, or for a core that is taken by, who asks for much.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rusqlite::OptionalExtension;

use crate::connection::{self, Lane, Opened, Ran, Role};
use crate::job::{Job, Outbox, Work};
use crate::metrics::{Counters, Operation, Waiting};
use crate::priority;
use crate::queue::Queue;
use crate::statement::LONG;
use crate::store::Shared;
use crate::watch::Watch;
use crate::{Error, ErrorCode, Record, Result};

/// How long answers wait for those of the jobs that were taken together.
const GATHER: Duration = Duration::from_micros(100);

/// Short statements that a lane takes at once, so that the first of them does not keep many waiting.
const MAX_SHARE: usize = 32;
/// How long nothing else must have been asked of a store for its long statements to take every core.
const CALM: Duration = Duration::from_millis(20);

/// Which statements a lane runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Short ones, of which each of so many lanes takes its share.
    Short { lanes: usize },
    /// Long ones, one at a time.
    Long,
    /// The same, but while nothing else is asked: the lane that would have them take the last core. A core that they leave alone
    /// is what lets a thread that wakes run at once; Linux moves one away from a busy core at a tick, milliseconds later.
    LastLong,
}

impl Pace {
    /// The paces of a store's reader lanes.
    pub(crate) fn of_lanes(short: usize, long: usize, cores: usize) -> impl Iterator<Item = Self> {
        let last = usize::from(long > 1 && long >= cores);
        let long = std::iter::repeat_n(Self::Long, long - last).chain(std::iter::repeat_n(Self::LastLong, last));
        std::iter::repeat_n(Self::Short { lanes: short }, short).chain(long)
    }

    pub(crate) fn role(self) -> Role {
        if matches!(self, Self::Short { .. }) { Role::Reader } else { Role::Long }
    }

    fn queue(self, shared: &Shared) -> &Queue {
        if matches!(self, Self::Short { .. }) { &shared.short } else { &shared.long }
    }

    fn take(self, shared: &Shared, until: Instant) -> Option<Vec<Job>> {
        match self {
            Self::Short { lanes } => shared.short.take_share(lanes, MAX_SHARE, until),
            Self::Long => shared.long.take_share(1, 1, until),
            Self::LastLong => shared.long.take_late(until, || shared.bustle.calm_at()),
        }
    }
}

/// When something short was last asked of a store: a short reading statement, a synchronous one, or a write.
pub(crate) struct Bustle {
    epoch: Instant,
    /// In nanoseconds after `epoch`; 0 is never.
    last: AtomicU64,
}

impl Default for Bustle {
    fn default() -> Self {
        Self { epoch: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl Bustle {
    pub(crate) fn note(&self, at: Instant) {
        self.last.store(at.saturating_duration_since(self.epoch).as_nanos() as u64, Relaxed);
    }

    pub(crate) fn calm_at(&self) -> Option<Instant> {
        let last = self.last.load(Relaxed);
        (last > 0).then(|| self.epoch + Duration::from_nanos(last) + CALM)
    }
}

/// Serves a queue of reading statements until it closes. The connection is replaced when it is too old or broken, between two
/// calls.
pub(crate) fn serve(shared: &Arc<Shared>, mut opened: Opened, pace: Pace) {
    if pace.role() == Role::Long {
        priority::lower();
    }
    loop {
        match serve_with(shared, &opened, pace) {
            Ended::Closed => return,
            Ended::Replace => match connection::open_lane(shared, pace.role()) {
                Ok(fresh) => opened = fresh,
                Err(error) => {
                    tracing::warn!(%error, "a reader's connection cannot be replaced yet");
                    opened.since = Instant::now();
                }
            },
        }
    }
}

enum Ended {
    Closed,
    Replace,
}

fn serve_with(shared: &Arc<Shared>, opened: &Opened, pace: Pace) -> Ended {
    let mut lane = opened.lane();
    lane.most_steps = matches!(pace, Pace::Short { .. }).then_some(LONG.unsigned_abs().into());
    let mut outbox = Outbox::default();
    let old = opened.since + shared.options.pool.max_lifetime;
    loop {
        let Some(jobs) = pace.take(shared, old) else { return Ended::Closed };
        if !jobs.is_empty() {
            lane.refresh(shared);
            let started = Instant::now();
            let mut flushed = started;
            shared.counters.active.fetch_add(1, Relaxed);
            let mut broken = false;
            // One snapshot for all: it begins after each of them was asked, so each sees what it must, and SQLite's locks on
            // the log, a fifth of the time of a point read, are taken once.
            let together = jobs.len() > 1 && lane.control("BEGIN").is_ok();
            for job in jobs {
                let now = Instant::now();
                if now.duration_since(flushed) > GATHER {
                    outbox.flush();
                    flushed = now;
                }
                broken |= answer(shared, &mut lane, pace, &mut outbox, job, now);
            }
            lane.watch.nothing();
            if together {
                lane.rollback();
            }
            outbox.flush();
            shared.counters.active.fetch_sub(1, Relaxed);
            Counters::add(&shared.counters.busy_ns, started.elapsed().as_nanos() as u64);
            if broken {
                return Ended::Replace;
            }
        }
        if Instant::now() >= old {
            return Ended::Replace;
        }
    }
}

/// Answers one job; returns whether the connection looks broken.
fn answer(shared: &Arc<Shared>, lane: &mut Lane<'_>, pace: Pace, outbox: &mut Outbox, job: Job, now: Instant) -> bool {
    if let Some(error) = pace.queue(shared).lateness(&job, now) {
        shared.counters.note_expired(&error);
        outbox.settle(job.ticket, Err(error));
        return false;
    }
    let Work::Run(call) = &job.work else {
        let error = Error::new(ErrorCode::Internal, "a reader lane was given a write");
        outbox.settle(job.ticket, Err(error));
        return false;
    };
    lane.watch_over(&job);
    let is_short = matches!(pace, Pace::Short { .. });
    let pieces = Cell::new(0);
    let mut deliver = |record: Record, _: &Watch| -> Result<()> {
        pieces.set(pieces.get() + 1);
        if is_short {
            return Err(Error::new(ErrorCode::StepBudget, "a result of more than one piece"));
        }
        outbox.gather(&job.ticket, record);
        Ok(())
    };
    let overran = |result: &Result<Ran>| matches!(result, Err(error) if error.code == ErrorCode::StepBudget);
    let mut result = lane.run(call, false, &mut deliver);
    if overran(&result) && pieces.get() == 0 && !call.statement.is_long() {
        // Not by its own steps: perhaps it had the schema read anew, which takes long where there are many tables.
        let schema =
            lane.internal(|c| c.query_row("SELECT count(*) FROM sqlite_schema LIMIT 0", [], |_| Ok(())).optional());
        result = schema.and_then(|_| lane.run(call, false, &mut deliver));
    }
    if pieces.get() > 0 || overran(&result) {
        call.statement.found_long();
    }
    if overran(&result) {
        // It begins again where nobody waits behind it. Nothing of it has been delivered.
        Counters::add(&shared.counters.refused, shared.long.push([job]));
        return false;
    }
    shared.counters.waited(Waiting::Reader, job.queued, now);
    match result {
        Ok(Ran::Done { last, .. }) => {
            shared.counters.ran(Operation::Read, job.queued.elapsed());
            outbox.finish(job.ticket, last);
            false
        }
        Ok(Ran::Writes) => {
            shared.submit_write(job);
            false
        }
        Err(error) => {
            let broken = error.is_of_connection();
            shared.counters.failed(&error);
            outbox.settle(job.ticket, Err(error));
            broken
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use super::{Bustle, CALM, Pace, answer};
    use crate::connection::{self, Role};
    use crate::job::{Call, Job, Outbox, Post, Ticket, Want, Work};
    use crate::statement::LONG;
    use crate::{Options, Params, Store};

    #[test]
    fn what_overran_by_its_rows_begins_again_elsewhere_and_not_here_too() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Options { path: Some(folder.path().join("test.db")), ..Options::default() }).unwrap();
        let shared = store.shared();
        let opened = connection::open_lane(shared, Role::Reader).unwrap();
        let mut lane = opened.lane();
        lane.most_steps = Some(LONG.unsigned_abs().into());
        let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT";
        // Few steps with much in each row; many steps with one row; little of either.
        for (sql, several, is_long) in [
            (format!("{numbers} 100) SELECT hex(zeroblob(2000)) FROM n"), true, true),
            (format!("{numbers} 50000) SELECT count(*) FROM n"), false, true),
            (format!("{numbers} 100) SELECT count(*) FROM n"), false, false),
        ] {
            let statement = store.statement(&sql);
            let post = Arc::<Post>::default();
            let call = Call { statement: statement.clone(), params: Params::default(), want: Want::Rows };
            let ticket = Ticket::new(post.clone(), 0);
            let job = Job { ticket, work: Work::Run(call), queued: Instant::now(), deadline: None, cancel: None };
            let mut outbox = Outbox::default();
            answer(shared, &mut lane, Pace::Short { lanes: 1 }, &mut outbox, job, Instant::now());
            outbox.flush();
            assert_eq!(post.wait().unwrap().len() > 1, several, "{sql}");
            assert_eq!(lane.runs_of(&statement), 1, "{sql}");
            assert_eq!(statement.is_long(), is_long, "{sql}");
        }
    }

    #[test]
    fn one_core_is_left_alone_while_something_short_is_asked() {
        let short = Pace::Short { lanes: 2 };
        let lanes = |short, long, cores| Pace::of_lanes(short, long, cores).collect::<Vec<_>>();
        assert_eq!(lanes(2, 2, 2), [short, short, Pace::Long, Pace::LastLong]);
        assert_eq!(lanes(2, 2, 4), [short, short, Pace::Long, Pace::Long]);
        // Long statements always have a lane.
        assert_eq!(lanes(1, 1, 1), [Pace::Short { lanes: 1 }, Pace::Long]);
        let (bustle, now) = (Bustle::default(), Instant::now() + Duration::from_secs(1));
        assert_eq!(bustle.calm_at(), None);
        bustle.note(now);
        assert_eq!(bustle.calm_at(), Some(now + CALM));
    }
}

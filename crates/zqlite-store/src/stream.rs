//! Stream lanes: each runs one stream on a connection of its own, so that a slow reader of a long result keeps nobody
//! waiting. They start when there are more streams than lanes, and end when idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::connection::{self, Lane, Ran, Role};
use crate::flow::{Flow, Room};
use crate::job::{Job, Outbox, Work};
use crate::metrics::{Operation, Waiting};
use crate::priority;
use crate::seat::Seat;
use crate::store::Shared;
use crate::watch::Watch;
use crate::{Call, Error, ErrorCode, Record, Result};

/// How often a paused stream looks whether it may go on.
const LOOK: Duration = Duration::from_millis(50);

/// How long writes wait for a stream whose reader takes nothing: it may itself wait for one of them.
const STALLED: Duration = Duration::from_secs(2);

/// How many stream lanes there are.
#[derive(Debug, Default)]
pub(crate) struct StreamLanes(AtomicUsize);

impl StreamLanes {
    /// Starts a lane unless one is idle or there are as many as may be.
    pub(crate) fn ensure(shared: &Arc<Shared>) {
        let lanes = &shared.stream_lanes.0;
        if shared.streams.has_idle() && shared.streams.len() < 2 {
            return;
        }
        let more = |n: usize| (n < shared.options.stream_lanes()).then_some(n + 1);
        if lanes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            return;
        }
        let (for_lane, guard) = (shared.clone(), Count(shared.clone()));
        let started = std::thread::Builder::new().name("zqlite-stream".into()).spawn(move || {
            {
                let _guard = guard;
                serve(&for_lane);
            }
            // What came while this lane left found it neither idle nor gone.
            if for_lane.streams.len() > 0 {
                Self::ensure(&for_lane);
            }
        });
        if let Err(error) = started {
            tracing::warn!(%error, "cannot start a thread for a stream");
        }
    }

    /// Whether an idle lane stays, because without it there would be fewer connections than the pool's minimum.
    fn is_kept(&self, shared: &Shared) -> bool {
        // The readers, the writer and the steward have one each, always.
        let others = shared.options.reader_lanes() + 2;
        others + self.count() <= shared.options.pool.min_connections as usize
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A lane's place in the count, given back also when it panics.
struct Count(Arc<Shared>);

impl Drop for Count {
    fn drop(&mut self) {
        self.0.stream_lanes.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn serve(shared: &Arc<Shared>) {
    priority::lower();
    let mut seat: Option<Seat> = None;
    let mut since = Instant::now();
    loop {
        let idle = Instant::now() + shared.options.pool.idle_timeout.max(LOOK);
        let Some(mut share) = shared.streams.take_share(1, 1, idle) else { return };
        let Some(job) = share.pop() else {
            if shared.stream_lanes.is_kept(shared) {
                continue;
            }
            return;
        };
        if seat.is_none() || since.elapsed() > shared.options.pool.max_lifetime {
            match connection::open_lane(shared, Role::Stream) {
                Ok(fresh) => {
                    since = fresh.since;
                    seat = Some(Seat::new(fresh));
                }
                Err(error) => {
                    job.ticket.fail(error);
                    continue;
                }
            }
        }
        let run = |lane: &mut Lane<'_>| {
            lane.refresh(shared);
            stream(shared, lane, job)
        };
        if seat.as_mut().is_some_and(|seat| seat.with(run)) {
            seat = None;
        }
    }
}

/// Runs one stream; returns whether the connection looks broken.
fn stream(shared: &Arc<Shared>, lane: &mut Lane<'_>, job: Job) -> bool {
    let mut outbox = Outbox::default();
    let now = Instant::now();
    let late = shared.streams.lateness(&job, now);
    let (Work::Stream(call, flow), None) = (&job.work, &late) else {
        let error = late.unwrap_or_else(|| Error::new(ErrorCode::Internal, "a stream lane was given another job"));
        outbox.settle(job.ticket, Err(error));
        return false;
    };
    shared.counters.waited(Waiting::Stream, job.queued, now);
    lane.watch_over(&job);
    shared.counters.active.fetch_add(1, Ordering::Relaxed);
    let result = run(shared, lane, call, flow, &job, &mut outbox);
    shared.counters.active.fetch_sub(1, Ordering::Relaxed);
    lane.watch.nothing();
    match result {
        Ok(last) => {
            shared.counters.ran(Operation::Stream, job.queued.elapsed());
            outbox.finish(job.ticket, last);
            false
        }
        Err(error) => {
            let broken = error.is_of_connection();
            if error.code != ErrorCode::Cancelled {
                shared.counters.failed(&error);
            }
            outbox.settle(job.ticket, Err(error));
            broken
        }
    }
}

fn run(
    shared: &Shared,
    lane: &mut Lane<'_>,
    call: &Call,
    flow: &Flow,
    job: &Job,
    outbox: &mut Outbox,
) -> Result<Record> {
    let mut deliver = |record: Record, watch: &Watch| {
        outbox.piece(&job.ticket, record);
        flow.sent();
        // Counted, since a process may be stopped for a while.
        let mut looks = 0;
        loop {
            match flow.room(Instant::now() + LOOK) {
                Room::Free => return Ok(()),
                Room::None if shared.streams.is_closed() => {
                    return Err(Error::new(ErrorCode::Closed, "the database was closed while a stream was paused"));
                }
                Room::None => {
                    watch.check()?;
                    looks += 1;
                    let stalled = STALLED.min(shared.options.wal.max_read_age);
                    if looks * LOOK >= stalled && watch.is_in_the_way() && shared.writer.has_waited(stalled) {
                        return Err(Error::new(
                            ErrorCode::SnapshotTooOld,
                            "writes wait for the write-ahead log, which the stream keeps at its limit while nobody takes its rows; \
                             take them before you write, read in smaller pieces, or raise wal.limit",
                        ));
                    }
                }
                Room::Ended => return Err(Error::new(ErrorCode::Cancelled, "the reader of the stream stopped")),
            }
        }
    };
    match lane.run(call, false, &mut deliver)? {
        Ran::Done { last, .. } => Ok(last),
        Ran::Writes => Err(Error::new(ErrorCode::NotAllowed, "a stream reads; this statement writes")),
    }
}

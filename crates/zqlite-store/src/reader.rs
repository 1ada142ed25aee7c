//! A reader lane: runs reading statements on its own connection, each on its own snapshot.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::connection::{self, Lane, Opened, Ran, Role};
use crate::job::{Job, Outbox, Work};
use crate::metrics::{Counters, Operation, Waiting};
use crate::store::Shared;
use crate::watch::Watch;
use crate::{Error, ErrorCode, Record, Result};

/// How long answers wait for those of the jobs that were taken together.
const GATHER: Duration = Duration::from_micros(100);

/// Serves the readers' queue until it closes. The connection is replaced when it is too old or broken, between two calls.
pub(crate) fn serve(shared: &Arc<Shared>, mut opened: Opened, lanes: usize) {
    loop {
        match serve_with(shared, &opened, lanes) {
            Ended::Closed => return,
            Ended::Replace => match connection::open_lane(shared, Role::Reader) {
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

fn serve_with(shared: &Arc<Shared>, opened: &Opened, lanes: usize) -> Ended {
    let mut lane = opened.lane();
    let mut outbox = Outbox::default();
    let old = opened.since + shared.options.pool.max_lifetime;
    loop {
        let Some(mut share) = shared.readers.take_share(lanes, old) else { return Ended::Closed };
        let jobs = share.take();
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
                broken |= answer(shared, &mut lane, &mut outbox, job, now);
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
fn answer(shared: &Arc<Shared>, lane: &mut Lane<'_>, outbox: &mut Outbox, job: Job, now: Instant) -> bool {
    if let Some(error) = shared.readers.lateness(&job, now) {
        shared.counters.note_expired(&error);
        outbox.settle(job.ticket, Err(error));
        return false;
    }
    shared.counters.waited(Waiting::Reader, job.queued, now);
    let Work::Run(call) = &job.work else {
        let error = Error::new(ErrorCode::Internal, "a reader lane was given a write");
        outbox.settle(job.ticket, Err(error));
        return false;
    };
    lane.watch_over(&job);
    let mut deliver = |record: Record, _: &Watch| -> Result<()> {
        outbox.piece(&job.ticket, record);
        Ok(())
    };
    match lane.run(call, false, &mut deliver) {
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

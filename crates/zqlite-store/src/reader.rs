//! A reader lane: runs reading statements on its own connection, each on its own snapshot.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::connection::{Lane, Opened, Ran};
use crate::job::{Job, Outbox, Work};
use crate::metrics::Counters;
use crate::store::Shared;
use crate::{Error, ErrorCode};

/// How long answers wait for those of the jobs that were taken together.
const GATHER: Duration = Duration::from_micros(100);

/// Serves the readers' queue until it closes.
pub(crate) fn serve(shared: &Arc<Shared>, opened: Opened, lanes: usize) {
    let mut lane = opened.lane();
    let mut outbox = Outbox::default();
    while let Some(jobs) = shared.readers.take_share(lanes) {
        let started = Instant::now();
        let mut flushed = started;
        shared.counters.active.fetch_add(1, Relaxed);
        for job in jobs {
            let now = Instant::now();
            if now.duration_since(flushed) > GATHER {
                outbox.flush();
                flushed = now;
            }
            answer(shared, &mut lane, &mut outbox, job, now);
        }
        outbox.flush();
        shared.counters.active.fetch_sub(1, Relaxed);
        Counters::add(&shared.counters.busy_ns, started.elapsed().as_nanos() as u64);
    }
}

fn answer(shared: &Arc<Shared>, lane: &mut Lane<'_>, outbox: &mut Outbox, job: Job, now: Instant) {
    if let Some(error) = shared.readers.lateness(&job, now) {
        Counters::add(&shared.counters.expired, 1);
        return outbox.settle(job.ticket, Err(error));
    }
    Counters::add(&shared.counters.queue_wait_ns, now.saturating_duration_since(job.queued).as_nanos() as u64);
    let Work::Run(call) = &job.work else {
        let error = Error::new(ErrorCode::Internal, "a reader lane was given a write");
        return outbox.settle(job.ticket, Err(error));
    };
    lane.set_deadline(job.deadline);
    match lane.run(call, false, &mut |record| outbox.piece(&job.ticket, record)) {
        Ok(Ran::Done { last, .. }) => {
            Counters::add(&shared.counters.reads, 1);
            outbox.finish(job.ticket, last);
        }
        Ok(Ran::Writes) => shared.submit_write(job),
        Err(error) => {
            Counters::add(&shared.counters.errors, 1);
            outbox.settle(job.ticket, Err(error));
        }
    }
}

//! A reader lane: runs reading statements on its own connection, each on its own snapshot.

use std::sync::Arc;
use std::time::Instant;

use crate::connection::{Lane, Opened, Ran};
use crate::job::{Job, Work};
use crate::metrics::Counters;
use crate::store::Shared;
use crate::{Error, ErrorCode};

/// Serves the readers' queue until it closes.
pub(crate) fn serve(shared: &Arc<Shared>, opened: Opened, lanes: usize) {
    let mut lane = opened.lane();
    while let Some(jobs) = shared.readers.take_share(lanes) {
        let started = Instant::now();
        shared.counters.active.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        for job in jobs {
            answer(shared, &mut lane, job);
        }
        shared.counters.active.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        Counters::add(&shared.counters.busy_ns, started.elapsed().as_nanos() as u64);
    }
}

fn answer(shared: &Arc<Shared>, lane: &mut Lane<'_>, job: Job) {
    let now = Instant::now();
    if let Some(error) = shared.readers.lateness(&job, now) {
        Counters::add(&shared.counters.expired, 1);
        return job.ticket.fail(error);
    }
    Counters::add(&shared.counters.queue_wait_ns, now.saturating_duration_since(job.queued).as_nanos() as u64);
    let Work::Run(call) = &job.work else {
        return job.ticket.fail(Error::new(ErrorCode::Internal, "a reader lane was given a write"));
    };
    lane.set_deadline(job.deadline);
    match lane.run(call, false, &mut |record| job.ticket.deliver(record)) {
        Ok(Ran::Done { last, .. }) => {
            Counters::add(&shared.counters.reads, 1);
            job.ticket.finish(last);
        }
        Ok(Ran::Writes) => shared.submit_write(job),
        Err(error) => {
            Counters::add(&shared.counters.errors, 1);
            job.ticket.fail(error);
        }
    }
}

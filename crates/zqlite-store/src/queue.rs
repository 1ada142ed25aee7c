//! Where calls wait for a lane: bounded, first come first served, taken several at a time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::job::{BeginMode, Cancel, Job, Maintenance, TransactionId, Work};
use crate::lock::{Condvar, Mutex};
use crate::{Error, ErrorCode};

/// A queue of jobs and, for the writer, the steps of the callback transaction that owns the lane.
pub(crate) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
    limit: usize,
    timeout: Duration,
    /// What the members of a group may weigh together, see [`Work::weight`].
    heaviest_group: usize,
    /// What a statement of theirs weighs beside its values.
    statement: usize,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    steps: VecDeque<Job>,
    owner: Option<TransactionId>,
    /// Whether a turn of the writer's is being worked off, on its own thread or on one that leads.
    working: bool,
    /// Owners that a timer ended, the latest last: their next step is told why it is refused.
    timed_out: VecDeque<TransactionId>,
    /// Nothing is handed out before then.
    held_until: Option<Instant>,
    /// Nothing is handed out until this is taken back.
    held: bool,
    /// Since when jobs have been waiting for that, or were until their time was over.
    waiting_since: Option<Instant>,
    /// Since when none has.
    waited_until: Option<Instant>,
    idle: usize,
    closed: bool,
}

/// How many ended owners are remembered.
const REMEMBERED: usize = 64;
/// Jobs wait one after the other when no more than this is between them.
const BETWEEN: Duration = Duration::from_secs(1);

/// What the writer does next.
pub(crate) enum Turn {
    /// Independent members that may share a commit.
    Group(Vec<Job>),
    /// A callback transaction takes the lane.
    Transaction(Job, TransactionId, BeginMode),
    /// Work on the file itself.
    Maintenance(Job, Maintenance),
}

/// What became of a job that its caller could work off itself.
pub(crate) enum Lead {
    /// The caller has the writer's turn, for this job.
    Turn(Job),
    /// It waits for the writer, or was refused and so counted.
    Waits { refused: u64 },
}

impl Queue {
    /// At most `limit` jobs wait, each at most `timeout`.
    pub(crate) fn new(limit: usize, timeout: Duration) -> Self {
        let (state, ready) = (Mutex::default(), Condvar::new());
        Self { state, ready, limit, timeout, heaviest_group: usize::MAX, statement: 0 }
    }

    /// Bounds what the members of a group weigh together, but for its first, where a statement weighs so much beside its values.
    #[must_use]
    pub(crate) fn with_groups_up_to(self, heaviest_group: usize, statement: usize) -> Self {
        Self { heaviest_group, statement, ..self }
    }

    /// Adds jobs; those that cannot wait here are failed, and counted in the result.
    pub(crate) fn push(&self, jobs: impl IntoIterator<Item = Job>) -> u64 {
        let mut refused = Vec::new();
        let mut state = self.state.lock();
        let mut added = 0;
        for job in jobs {
            let refusal = if state.closed {
                Some(Error::new(ErrorCode::Closed, "the database is closed"))
            } else if let Some(id) = step_of(&job.work) {
                if state.owner == Some(id) {
                    state.steps.push_back(job);
                    added += 1;
                    continue;
                }
                Some(ended(state.timed_out.contains(&id)))
            } else if state.jobs.len() >= self.limit {
                Some(Error::new(ErrorCode::QueueFull, format!("{} calls are waiting already", self.limit)))
            } else {
                None
            };
            match refusal {
                Some(error) => refused.push((job, error)),
                None => {
                    state.jobs.push_back(job);
                    added += 1;
                }
            }
        }
        state.note_waiting();
        // Who works a turn off on another thread than the lane's wakes the lane afterwards.
        let wake = if state.working && state.owner.is_none() { 0 } else { added.min(state.idle) };
        drop(state);
        for _ in 0..wake {
            self.ready.notify_one();
        }
        let count = refused.len() as u64;
        for (job, error) in refused {
            job.ticket.fail(error);
        }
        count
    }

    /// A fair share of the waiting jobs for one of `lanes` readers, at most `most` of them; waits for one, at most until then,
    /// when the share is empty. `None` when the queue is closed.
    pub(crate) fn take_share(&self, lanes: usize, most: usize, until: Instant) -> Option<Vec<Job>> {
        self.take(lanes, most, until, || None)
    }

    /// The next job, for a lane that must not have it before the time that `not_before` says, if any; waits as
    /// [`Self::take_share`] does.
    pub(crate) fn take_late(&self, until: Instant, not_before: impl Fn() -> Option<Instant>) -> Option<Vec<Job>> {
        self.take(1, 1, until, not_before)
    }

    fn take(
        &self,
        lanes: usize,
        most: usize,
        until: Instant,
        not_before: impl Fn() -> Option<Instant>,
    ) -> Option<Vec<Job>> {
        let mut state = self.state.lock();
        loop {
            if state.closed && state.jobs.is_empty() {
                return None;
            }
            let held = state.held_until.filter(|until| *until > Instant::now());
            if let (Some(until), false) = (held, state.closed) {
                self.ready.wait_until(&mut state, until);
                continue;
            }
            if !state.jobs.is_empty() {
                let now = Instant::now();
                if let (Some(begin), false) = (not_before().filter(|begin| *begin > now), state.closed) {
                    if now >= until {
                        return Some(Vec::new());
                    }
                    // It may have been woken in the place of a lane that need not wait.
                    self.ready.notify_one();
                    self.ready.wait_until(&mut state, begin.min(until));
                    continue;
                }
                let share = state.jobs.len().div_ceil(lanes.max(1)).min(most);
                return Some(state.jobs.drain(..share).collect());
            }
            state.idle += 1;
            let timed_out = self.ready.wait_until(&mut state, until).timed_out();
            state.idle -= 1;
            if timed_out && state.jobs.is_empty() && !state.closed {
                return Some(Vec::new());
            }
        }
    }

    /// Whether nothing is accepted any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Whether a lane waits for work here.
    pub(crate) fn has_idle(&self) -> bool {
        self.state.lock().idle > 0
    }

    /// As [`Self::push`] for one job, unless the writer has nothing to do and nothing waits: then the job comes back, and the
    /// caller has the turn, to be worked off where it is and ended with [`Self::turn_over`]. The lane's thread need not wake.
    pub(crate) fn push_or_lead(&self, job: Job) -> Lead {
        let mut state = self.state.lock();
        if !state.closed && !state.working && !state.held && state.jobs.is_empty() {
            state.working = true;
            return Lead::Turn(job);
        }
        drop(state);
        Lead::Waits { refused: self.push([job]) }
    }

    /// The turn that was taken last is worked off.
    pub(crate) fn turn_over(&self) {
        let mut state = self.state.lock();
        state.working = false;
        let wake = state.idle > 0 && (state.closed || !state.held && !state.jobs.is_empty());
        drop(state);
        if wake {
            self.ready.notify_one();
        }
    }

    /// The writer's next turn, to be ended with [`Self::turn_over`]; waits for one. A transaction and a group alternate where both wait (`after_transaction`).
    pub(crate) fn take_turn(&self, max: impl Fn() -> usize, after_transaction: bool) -> Option<Turn> {
        let mut state = self.state.lock();
        // What waits when the queue closes is served, held or not: nobody may be there any more to let it go.
        while state.working || state.jobs.is_empty() || state.held && !state.closed {
            if state.closed && !state.working {
                return None;
            }
            state.idle += 1;
            self.ready.wait(&mut state);
            state.idle -= 1;
        }
        let turn = state.next_turn(max(), (self.heaviest_group, self.statement), after_transaction);
        state.working = turn.is_some();
        turn
    }

    /// The next step of the owning transaction, or `None` when none came before `until` or the queue closed.
    pub(crate) fn take_step(&self, until: Instant) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            if let Some(job) = state.steps.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state.idle += 1;
            let timed_out = self.ready.wait_until(&mut state, until).timed_out();
            state.idle -= 1;
            if timed_out && state.steps.is_empty() {
                return None;
            }
        }
    }

    /// The owning transaction is over; steps that still wait are failed.
    pub(crate) fn end_transaction(&self, id: TransactionId, timed_out: bool) {
        let mut state = self.state.lock();
        state.owner = None;
        if timed_out {
            state.timed_out.push_back(id);
            if state.timed_out.len() > REMEMBERED {
                state.timed_out.pop_front();
            }
        }
        let left = std::mem::take(&mut state.steps);
        drop(state);
        for job in left {
            job.ticket.fail(ended(timed_out));
        }
    }

    /// Hands nothing out before `until`.
    pub(crate) fn hold_until(&self, until: Option<Instant>) {
        self.state.lock().held_until = until;
        if until.is_none() {
            self.ready.notify_all();
        }
    }

    /// Hands out no turn from now on, or does again. Steps of the transaction that owns the lane are handed out.
    pub(crate) fn hold(&self, held: bool) {
        let mut state = self.state.lock();
        state.held = held;
        state.note_waiting();
        drop(state);
        if !held {
            self.ready.notify_all();
        }
    }

    /// Whether a job waits, and jobs have been waiting for this long, one after the other, since the queue was last held: each
    /// of them may have less time.
    pub(crate) fn has_waited(&self, time: Duration) -> bool {
        let state = self.state.lock();
        !state.jobs.is_empty() && state.waiting_since.is_some_and(|since| since.elapsed() >= time)
    }

    /// Whether a turn is being worked off.
    pub(crate) fn is_working(&self) -> bool {
        self.state.lock().working
    }

    /// Fails the jobs that have waited too long or were given up, telling `note` of each. Lanes that are all at work do not look.
    pub(crate) fn expire(&self, note: impl Fn(&Error)) {
        let now = Instant::now();
        let mut late = Vec::new();
        let mut state = self.state.lock();
        let held = state.held;
        if state.jobs.iter().any(|j| self.late(j, now, held).is_some()) {
            for job in std::mem::take(&mut state.jobs) {
                match self.late(&job, now, held) {
                    Some(error) => late.push((job, error)),
                    None => state.jobs.push_back(job),
                }
            }
            state.note_waiting();
        }
        drop(state);
        for (job, error) in late {
            note(&error);
            job.ticket.fail(error);
        }
    }

    /// Why a waiting job must not start any more.
    pub(crate) fn lateness(&self, job: &Job, now: Instant) -> Option<Error> {
        self.late(job, now, false)
    }

    fn late(&self, job: &Job, now: Instant, held: bool) -> Option<Error> {
        let waited = now.saturating_duration_since(job.queued);
        if job.cancel.as_ref().is_some_and(Cancel::is_cancelled) {
            Some(Error::new(ErrorCode::Cancelled, "the call was cancelled before it began"))
        } else if job.deadline.is_some_and(|d| d <= now) {
            let waited = waited.as_millis();
            Some(Error::new(
                ErrorCode::Deadline,
                format!("the call's time ran out after waiting {waited} ms{}", why(held)),
            ))
        } else if waited > self.timeout {
            let waited = self.timeout.as_millis();
            Some(Error::new(ErrorCode::PoolTimeout, format!("no connection was free for {waited} ms{}", why(held))))
        } else {
            None
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().jobs.len()
    }

    /// Refuses what comes from now on; what waits is still served.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.ready.notify_all();
    }

    /// Refuses what comes from now on, and drops what waits: no lane will serve it.
    pub(crate) fn abort(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let State { jobs, steps, .. } = &mut *state;
        let dropped = [jobs, steps].map(std::mem::take);
        drop(state);
        drop(dropped);
        self.ready.notify_all();
    }
}

impl State {
    fn note_waiting(&mut self) {
        if !self.held {
            (self.waiting_since, self.waited_until) = (None, None);
        } else if self.jobs.is_empty() {
            self.waited_until = self.waited_until.or_else(|| Some(Instant::now()));
        } else {
            if self.waited_until.take().is_some_and(|until| until.elapsed() > BETWEEN) {
                self.waiting_since = None;
            }
            self.waiting_since = self.waiting_since.or_else(|| Some(Instant::now()));
        }
    }

    fn next_turn(
        &mut self,
        max: usize,
        (heaviest, statement): (usize, usize),
        after_transaction: bool,
    ) -> Option<Turn> {
        let first_member = self.jobs.iter().position(|j| is_member(&j.work));
        if let Some(from) = first_member.filter(|first| *first == 0 || after_transaction) {
            let mut weight = 0;
            let fits = |job: &&Job| {
                weight += job.work.weight(statement);
                is_member(&job.work) && weight <= heaviest
            };
            let members = self.jobs.iter().skip(from).take(max).take_while(fits).count().max(1);
            return Some(Turn::Group(self.jobs.drain(from..from + members).collect()));
        }
        let job = self.jobs.pop_front()?;
        Some(match job.work {
            Work::Begin(id, mode) => {
                self.owner = Some(id);
                Turn::Transaction(job, id, mode)
            }
            Work::Maintain(what) => Turn::Maintenance(job, what),
            _ => Turn::Group(vec![job]),
        })
    }
}

/// Whether it may share a commit.
fn is_member(work: &Work) -> bool {
    !matches!(work, Work::Begin(..) | Work::Maintain(_))
}

fn step_of(work: &Work) -> Option<TransactionId> {
    match work {
        Work::Step(id, _) | Work::StepBatch(id, _) | Work::Nest(id, _) | Work::Commit(id) | Work::Rollback(id) => {
            Some(*id)
        }
        Work::Run(_) | Work::Read(_) | Work::Stream(..) | Work::Batch(_) | Work::Maintain(_) | Work::Begin(..) => None,
    }
}

fn why(held: bool) -> &'static str {
    if held { ": reads kept the write-ahead log, which is at its limit, from beginning anew" } else { "" }
}

fn ended(timed_out: bool) -> Error {
    if timed_out {
        Error::new(
            ErrorCode::TransactionTimeout,
            "the transaction held the writer for too long, or left it idle, and was rolled back",
        )
    } else {
        Error::new(ErrorCode::TransactionState, "the transaction has ended")
    }
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

    use super::*;
    use crate::Params;
    use crate::job::{Call, Post, Ticket, Want};
    use crate::statement::Statements;

    fn job(deadline: Option<Instant>) -> Job {
        let statement = Statements::default().intern("SELECT 1");
        let work = Work::Run(Call { statement, params: Params::default(), want: Want::Rows });
        let ticket = Ticket::new(std::sync::Arc::<Post>::default(), 0);
        Job { ticket, work, queued: Instant::now(), deadline, cancel: None }
    }

    #[test]
    fn a_job_has_not_waited_for_the_time_of_one_long_before_it() {
        let queue = Queue::new(10, Duration::from_secs(10));
        let time = Duration::from_millis(300);
        for (pause, waited) in [(time, true), (BETWEEN + time, false)] {
            queue.hold(true);
            queue.push([job(Some(Instant::now()))]);
            std::thread::sleep(time);
            assert!(queue.has_waited(time));
            queue.expire(|_| ());
            assert!(!queue.has_waited(time) && queue.len() == 0);
            std::thread::sleep(pause);
            queue.push([job(None)]);
            assert_eq!(queue.has_waited(time), waited);
            std::thread::sleep(time);
            assert!(queue.has_waited(time));
            queue.hold(false);
            assert_eq!(queue.take_turn(|| 10, false).map(|_| queue.turn_over()), Some(()));
        }
    }

    #[test]
    fn a_lane_that_comes_late_takes_nothing_before_its_time() {
        let queue = Queue::new(10, Duration::from_secs(10));
        queue.push([job(None)]);
        let (now, later) = (Instant::now(), Duration::from_millis(30));
        assert!(queue.take_late(now + later, || Some(now + 1000 * later)).unwrap().is_empty());
        assert!(now.elapsed() >= later);
        assert_eq!(queue.take_late(now + 1000 * later, || Some(now + 2 * later)).unwrap().len(), 1);
        assert!(now.elapsed() >= 2 * later);
        queue.close();
        assert!(queue.take_late(now, || Some(now + 1000 * later)).is_none());
    }
}

//! The writer lane: independent writes that wait together share one commit. Between groups callback transactions and work on
//! the file take their turn.
//!
//! Members of a group must not hurt each other: nothing is delivered before COMMIT, a member that fails is undone alone, to
//! its savepoint, and if one takes the whole transaction down (`OR ROLLBACK`, `RAISE(ROLLBACK)`, an interrupt), the others
//! run again, each on its own.
//!
//! A savepoint costs as much as a small INSERT, since SQLite copies each page that is first changed within it. So
//! a single statement that was prepared before and has not failed lately stands in none. If it fails after all, what it has left behind cannot be told
//! (`OR FAIL`, triggers, a check after it): the whole transaction is rolled back, and all run again with savepoints.

mod maintenance;
mod transaction;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::connection::{BUSY_TIMEOUT, Lane, Opened};
use crate::fault::fail_point;
use crate::job::{BeginMode, Job, Outbox, Ticket, Work};
use crate::metrics::{Counters, Operation, Waiting};
use crate::queue::Turn;
use crate::seat::Seat;
use crate::statement::Route;
use crate::store::Shared;
use crate::wal::Room;
use crate::{Error, ErrorCode, Options, Record, Result, sqlite};

/// Members of one commit, so that the first does not wait for long.
const MAX_GROUP: usize = 512;

/// What a member will be told once its commit stands.
type Answer = Result<Vec<Record>>;

/// Which members of a group stand in savepoints.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Savepoints {
    /// Those that may have something to undo.
    Where,
    /// All.
    Always,
}

/// What became of a transaction of several members.
enum Outcome {
    /// It ended; every member has its answer.
    Ended,
    /// A member took it down: the answers that are there are errors that stand, and members without one have to run again.
    TakenDown,
    /// A member without a savepoint failed. It was rolled back, and nobody has an answer.
    Undone,
}

/// The writer's connection and what is kept beside it. Who has the turn of the writer's queue uses it.
pub(crate) struct Desk {
    seat: Seat,
    room: Room,
}

impl Desk {
    pub(crate) fn new(options: &Options, opened: Opened) -> Self {
        // Not where other processes append to the log.
        let ahead = options.path.is_some() && !options.readonly && !options.shared;
        Self { seat: Seat::new(opened), room: Room::new(ahead, options.wal.limit) }
    }
}

/// Serves the writer's queue until it closes.
pub(crate) fn serve(shared: &Arc<Shared>) {
    let mut after_transaction = false;
    while let Some(turn) = shared.writer.take_turn(|| shared.settings.group_limit(MAX_GROUP), after_transaction) {
        after_transaction = matches!(turn, Turn::Transaction(..));
        work(shared, turn);
        shared.writer.turn_over();
    }
    *shared.desk.lock() = None;
}

/// Works a turn off, on the thread that has it.
pub(crate) fn work(shared: &Arc<Shared>, turn: Turn) {
    let started = Instant::now();
    let mut desk = shared.desk.lock();
    // Without a connection the lane has died; tickets that are dropped say so.
    let Some(Desk { seat, room }) = desk.as_mut() else { return };
    shared.counters.active.fetch_add(1, Relaxed);
    seat.with(|lane| {
        lane.refresh(shared);
        let mut writer = Writer { shared, lane, outbox: Outbox::default() };
        match turn {
            Turn::Group(jobs) => writer.group(jobs),
            Turn::Transaction(job, id, mode) => writer.transaction(job, id, mode),
            Turn::Maintenance(job, what) => writer.maintain(job, what),
        }
        // Which hands its answers over.
        drop(writer);
        fail_point!("writer.answered");
        if shared.steward.is_left_to_writer() {
            move_rest(shared, lane);
        }
        room.ahead_of(lane.connection, shared.steward.wal_bytes.load(Relaxed));
    });
    shared.counters.active.fetch_sub(1, Relaxed);
    Counters::add(&shared.counters.busy_ns, started.elapsed().as_nanos() as u64);
}

/// Moves what the steward left of the log into the file, so that the next commit starts the log anew.
fn move_rest(shared: &Shared, lane: &Lane<'_>) {
    let started = Instant::now();
    shared.sync_lanes.let_go();
    if let Err(error) = lane.internal(|c| c.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))) {
        tracing::warn!(%error, "checkpoint failed; the log grows until one succeeds");
    }
    shared.counters.checkpoints.add_time(started.elapsed());
}

struct Writer<'a, 'c> {
    shared: &'a Arc<Shared>,
    lane: &'a mut Lane<'c>,
    outbox: Outbox,
}

impl Writer<'_, '_> {
    fn group(&mut self, jobs: Vec<Job>) {
        let now = Instant::now();
        let mut members = Vec::with_capacity(jobs.len());
        for job in jobs {
            if let Some(error) = self.shared.writer.lateness(&job, now).or_else(|| self.refusal(&job)) {
                self.shared.counters.note_expired(&error);
                self.outbox.settle(job.ticket, Err(error));
            } else {
                self.shared.counters.waited(Waiting::Writer, job.queued, now);
                members.push(job);
            }
        }
        #[cfg(feature = "fail_points")]
        if crate::fault::is_weak(crate::fault::Weakness::AcknowledgeEarly) {
            return self.acknowledge_early(members);
        }
        let mut answers: Vec<Option<Answer>> = Vec::new();
        answers.resize_with(members.len(), || None);
        let together = members.len() > 1;
        if !(together && self.together(&members, &mut answers)) {
            for (member, answer) in members.iter().zip(&mut answers) {
                if answer.is_none() {
                    Counters::add(&self.shared.counters.reruns, together.into());
                    *answer = Some(self.alone(member));
                }
            }
        }
        let now = Instant::now();
        let mut works = Vec::with_capacity(members.len());
        for (member, answer) in members.into_iter().zip(answers) {
            let unrun = || Err(Error::new(ErrorCode::Internal, "a member of a group was not run"));
            let Job { ticket, work, queued, .. } = member;
            let operation = if matches!(work, Work::Read(_)) { Operation::Sync } else { Operation::Write };
            self.tell(ticket, operation, now.saturating_duration_since(queued), answer.unwrap_or_else(unrun));
            works.push(work);
        }
        // Nobody waits until what was asked is freed.
        self.outbox.flush();
    }

    /// What a harness must notice: the answer is given before COMMIT.
    #[cfg(feature = "fail_points")]
    fn acknowledge_early(&mut self, members: Vec<Job>) {
        for member in members {
            let begun = self.lane.control("BEGIN IMMEDIATE");
            let answer = begun.and_then(|()| self.member(&member));
            let failed = answer.is_err();
            self.reply(member, Operation::Write, answer);
            self.outbox.flush();
            std::thread::sleep(Duration::from_millis(2));
            if failed {
                self.lane.rollback();
            } else {
                let _ = self.commit(1);
            }
        }
    }

    /// Runs the members in one transaction. False when it was taken down: then the answers that are there are errors
    /// that stand, and the members without one have to run again.
    fn together(&mut self, members: &[Job], answers: &mut [Option<Answer>]) -> bool {
        let mut outcome = self.attempt(members, answers, Savepoints::Where);
        if matches!(outcome, Outcome::Undone) {
            outcome = self.attempt(members, answers, Savepoints::Always);
        }
        matches!(outcome, Outcome::Ended)
    }

    fn attempt(&mut self, members: &[Job], answers: &mut [Option<Answer>], savepoints: Savepoints) -> Outcome {
        if let Err(error) = self.begin(BeginMode::Immediate, members) {
            // A member whose time ran out while another process wrote is no reason to fail the others.
            if matches!(error.code, ErrorCode::Deadline | ErrorCode::Cancelled | ErrorCode::PoolTimeout) {
                return Outcome::TakenDown;
            }
            answers.iter_mut().for_each(|a| *a = Some(Err(error.clone())));
            return Outcome::Ended;
        }
        fail_point!("writer.begun");
        for (i, member) in members.iter().enumerate() {
            let bare = savepoints == Savepoints::Where && needs_no_savepoint(member);
            let answer = if bare { self.member(member) } else { self.in_savepoint(member) };
            fail_point!("writer.member");
            if self.lane.connection.is_autocommit() {
                // This member ended the transaction. Its own error stands; the work of the others is undone.
                answers.iter_mut().for_each(|a| {
                    if matches!(a, Some(Ok(_))) {
                        *a = None;
                    }
                });
                answers[i] = answer.err().map(Err);
                return Outcome::TakenDown;
            }
            if bare && answer.is_err() && !only_reads(member) {
                self.lane.rollback();
                answers.iter_mut().for_each(|a| *a = None);
                Counters::add(&self.shared.counters.reruns, i as u64 + 1);
                return Outcome::Undone;
            }
            answers[i] = Some(answer);
        }
        if !answers.iter().any(|answer| matches!(answer, Some(Ok(_)))) {
            // Nothing to keep. A COMMIT could still fail, and with nobody to tell the store would go read-only.
            self.lane.rollback();
            return Outcome::Ended;
        }
        if let Err(error) = self.commit(members.len()) {
            answers.iter_mut().for_each(|a| {
                if matches!(a, Some(Ok(_))) {
                    *a = Some(Err(error.clone()));
                }
            });
        }
        Outcome::Ended
    }

    /// Begins a transaction for `members`. The lock is free unless another process shares the file.
    ///
    /// # Errors
    /// `ERR_BUSY`; `ERR_DEADLINE` or `ERR_CANCELLED` when one of the members cannot wait any longer.
    fn begin(&self, mode: BeginMode, members: &[Job]) -> Result<()> {
        let started = Instant::now();
        loop {
            match self.lane.control(mode.sql()) {
                Err(error) if error.code == ErrorCode::Busy && self.shared.options.shared => {
                    let now = Instant::now();
                    if let Some(late) = members.iter().find_map(|member| self.shared.writer.lateness(member, now)) {
                        return Err(late);
                    }
                    if now > started + BUSY_TIMEOUT {
                        return Err(error);
                    }
                }
                result => return result,
            }
        }
    }

    fn alone(&mut self, member: &Job) -> Answer {
        self.begin(BeginMode::Immediate, std::slice::from_ref(member))?;
        let answer = self.member(member);
        if answer.is_err() || self.lane.connection.is_autocommit() {
            self.lane.rollback();
            return answer.and_then(|_| Err(Error::new(ErrorCode::Sql, "the statement ended its transaction")));
        }
        self.commit(1)?;
        answer
    }

    /// Runs one member of several in the open transaction; when it fails, nothing of it is left there.
    fn in_savepoint(&mut self, member: &Job) -> Answer {
        self.lane.control("SAVEPOINT member")?;
        let answer = self.member(member);
        if !self.lane.connection.is_autocommit() {
            let undone = if answer.is_err() { self.lane.control("ROLLBACK TO member") } else { Ok(()) };
            if let Err(error) = undone.and_then(|()| self.lane.control("RELEASE member")) {
                // What cannot be undone alone must not be committed with the others.
                self.lane.rollback();
                return answer.and(Err(error));
            }
        }
        answer
    }

    fn member(&mut self, member: &Job) -> Answer {
        self.lane.watch_over(member);
        let mut records = Vec::with_capacity(1);
        let result = match &member.work {
            Work::Run(call) => self.lane.run_held(call, &mut records).map(|_| ()),
            Work::Read(call) => {
                self.lane.watch.set_started(member.queued);
                self.lane.most_steps = Some(self.shared.options.sync_steps);
                let result = self.lane.read_held(call, "synchronous calls read; this statement writes", &mut records);
                self.lane.most_steps = None;
                result
            }
            Work::Stream(call, _) => self.lane.read_held(call, "a stream reads; this statement writes", &mut records),
            Work::Batch(items) => self.lane.run_batch(items, &mut records),
            _ => Err(Error::new(ErrorCode::Internal, "not a member of a group")),
        };
        let result = result.and_then(|()| self.lane.check_indexes());
        self.lane.watch.nothing();
        let result = result.and_then(|()| {
            if !sqlite::has_deferred_violations(self.lane.connection) {
                return Ok(records);
            }
            let mut error = Error::new(ErrorCode::Constraint, "FOREIGN KEY constraint failed");
            error.constraint = Some("foreignkey");
            Err(error)
        });
        if let Work::Run(call) = &member.work {
            call.statement.wrote(result.is_ok());
        }
        result
    }

    fn commit(&mut self, members: usize) -> Result<()> {
        if let Err(error) = self.lane.prepare_indexes() {
            self.lane.rollback();
            return Err(error);
        }
        fail_point!("writer.before-commit");
        let started = Instant::now();
        let result = self.lane.control("COMMIT");
        fail_point!("writer.committed");
        Counters::add(&self.shared.counters.commit_ns, started.elapsed().as_nanos() as u64);
        if let Err(error) = result {
            let error = error.at_commit();
            self.lane.rollback();
            if error.code == ErrorCode::CommitUnknown {
                tracing::error!(%error, "the database is read-only from now on");
                self.shared.failed.store(true, Relaxed);
            }
            return Err(error);
        }
        self.lane.publish_indexes();
        self.shared.counters.group_sizes.add(members as u64);
        self.shared.steward.look(&self.shared.writer);
        Ok(())
    }

    /// Why no write may be tried.
    fn refusal(&self, job: &Job) -> Option<Error> {
        if only_reads(job) {
            return None;
        }
        if self.shared.options.readonly {
            Some(Error::new(ErrorCode::Readonly, "the database was opened read-only"))
        } else if self.shared.failed.load(Relaxed) {
            Some(Error::new(ErrorCode::Readonly, "the database went read-only after a failed commit; reopen it"))
        } else {
            None
        }
    }

    fn reply(&mut self, job: Job, operation: Operation, answer: Answer) {
        self.tell(job.ticket, operation, job.queued.elapsed(), answer);
    }

    fn tell(&mut self, ticket: Ticket, operation: Operation, took: Duration, answer: Answer) {
        match &answer {
            Ok(_) => self.shared.counters.ran(operation, took),
            Err(error) => self.shared.counters.failed(error),
        }
        self.outbox.settle(ticket, answer);
    }
}

/// Whether it is so unlikely to have to be undone that a savepoint does not pay.
fn needs_no_savepoint(member: &Job) -> bool {
    match &member.work {
        Work::Run(call) => call.statement.will_hardly_fail(),
        work => matches!(work, Work::Read(_)),
    }
}

/// Whether it leaves nothing to undo whatever becomes of it.
fn only_reads(member: &Job) -> bool {
    match &member.work {
        Work::Run(call) => call.statement.route() == Route::Read,
        work => matches!(work, Work::Read(_)),
    }
}

//! The steward: looks after a store beside its lanes. It moves the write-ahead log into the database file, away from the
//! writer, and keeps the log bounded; and answers whether the database is well. Beside it, as moving a long log takes its time,
//! the clock ends calls that have waited too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::connection::{Lane, Opened};
use crate::fault::fail_point;
use crate::logs::Log;
use crate::pressure::Pressure;
use crate::queue::Queue;
use crate::restart::{Found, Restart};
use crate::store::Shared;
use crate::{Error, ErrorCode, Result};

/// How often waiting calls are looked through for those whose time is over, and connections for those left with a snapshot.
const TICK: Duration = Duration::from_millis(50);

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
    pub(crate) logs: Arc<[Log]>,
    pub(crate) pressure: Arc<Pressure>,
    /// Taken to decide whether the writer waits for the logs.
    gate: Mutex<()>,
    /// Whether it does.
    waits: AtomicBool,
    /// Who needs the log as it is, however long it gets.
    backups: AtomicUsize,
    closing: AtomicBool,
    questions: Mutex<Vec<(Instant, Question)>>,
    wake: Condvar,
    /// Wakes the clock.
    close: Condvar,
}

impl Signal {
    pub(crate) fn new(pressure: Arc<Pressure>, logs: Arc<[Log]>) -> Self {
        Self {
            logs,
            pressure,
            gate: Mutex::default(),
            waits: AtomicBool::new(false),
            backups: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            questions: Mutex::default(),
            wake: Condvar::new(),
            close: Condvar::new(),
        }
    }

    /// Size of the largest log after the last commit, in bytes.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.logs.iter().map(Log::bytes).max().unwrap_or(0)
    }

    /// The same of the main file's.
    pub(crate) fn main_log_bytes(&self) -> u64 {
        self.logs.first().filter(|log| log.is_of_main()).map_or(0, Log::bytes)
    }

    /// Called by the writer after each commit. Its next turn waits where a log is full.
    pub(crate) fn look(&self, writer: &Queue) {
        self.logs.iter().for_each(Log::look);
        if self.full_log().is_some() && self.hold(writer) || self.is_due() {
            self.wake();
        }
    }

    /// One that the writer should wait for.
    pub(crate) fn full_log(&self) -> Option<&Log> {
        if self.is_left_alone() { None } else { self.logs.iter().find(|log| log.is_full()) }
    }

    /// Has the writer wait, but not while the store closes.
    fn hold(&self, writer: &Queue) -> bool {
        let _gate = self.gate.lock();
        let waits = !self.closing.load(Relaxed);
        if waits {
            self.waits.store(true, Relaxed);
            writer.hold(true);
        }
        waits
    }

    /// Has the writer go on unless there is still a log to wait for, as where a turn that was going on has filled one.
    fn let_go(&self, writer: &Queue) {
        self.pressure.wait_for(0);
        let _gate = self.gate.lock();
        if self.full_log().is_none() || self.closing.load(Relaxed) {
            self.waits.store(false, Relaxed);
            writer.hold(false);
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

    pub(crate) fn ask(&self, answer: Question) {
        self.questions.lock().push((Instant::now(), answer));
        self.wake.notify_one();
    }

    fn is_due(&self) -> bool {
        self.logs.iter().any(Log::is_due)
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
        self.close.notify_all();
    }

    /// Waits for that long. Whether the store goes on.
    fn rest(&self, time: Duration) -> bool {
        let mut questions = self.questions.lock();
        if !self.closing.load(Relaxed) {
            self.close.wait_for(&mut questions, time);
        }
        !self.closing.load(Relaxed)
    }
}

/// See [`Signal::leave_log_alone`].
pub(crate) struct LeftAlone<'a>(&'a Signal);

impl Drop for LeftAlone<'_> {
    fn drop(&mut self) {
        if self.0.backups.fetch_sub(1, Relaxed) == 1 {
            // What it kept from being moved is moved now, and not before some later write, which would wait for it.
            self.0.logs.iter().for_each(Log::is_to_be_moved);
            self.0.wake();
        }
    }
}

/// Serves until the store closes, and lets the writer go then: it has calls to answer. Without a connection of its own, for a
/// database in memory, there is no log.
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
            let Some(attempt) = restart.take().or_else(|| Restart::begin(shared)) else {
                signal.let_go(&shared.writer);
                continue;
            };
            restart = go_on(shared, lane, attempt);
        } else {
            checkpoint(shared, lane);
        }
    }
    shared.hold_reads(None);
    signal.let_go(&shared.writer);
}

/// Ends calls that have waited too long, until the store closes. No lane looks at those that wait for a log.
pub(crate) fn keep_time(shared: &Shared) {
    while shared.steward.rest(TICK) {
        shared.expire();
    }
}

/// Tries to begin a log anew. `None` when that is over, and the writer goes on.
fn go_on<'a>(shared: &'a Shared, lane: &Lane<'_>, mut restart: Restart<'a>) -> Option<Restart<'a>> {
    let log = restart.log();
    let found = restart.attempt(shared, lane);
    match &found {
        Ok(Found::Busy) => return Some(restart),
        Ok(Found::Anew) => log.begins_anew(),
        Ok(Found::LeftAlone) => {}
        Ok(Found::Hopeless) => tracing::warn!(
            schema = log.schema(),
            bytes = log.bytes(),
            "the log grows beyond its limit, since another program reads it all the time"
        ),
        Err(error) => tracing::warn!(
            schema = log.schema(),
            %error,
            "checkpoint failed; the log grows beyond its limit until one succeeds"
        ),
    }
    if matches!(found, Ok(Found::Hopeless) | Err(_)) {
        log.grows_on();
    }
    shared.hold_reads(None);
    shared.counters.checkpoints.add_time(restart.took());
    shared.steward.let_go(&shared.writer);
    None
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

/// Moves the logs that have grown as far as readers allow, and waits for nobody.
fn checkpoint(shared: &Arc<Shared>, lane: &Lane<'_>) {
    for log in shared.steward.logs.iter().filter(|log| log.is_due()) {
        let started = Instant::now();
        // Asked before: what a commit adds while it is moved is not moved with it.
        let ahead = log.ahead();
        shared.sync_lanes.let_go();
        fail_point!("checkpoint.before");
        let result = log.move_most(lane);
        fail_point!("checkpoint.done");
        shared.counters.checkpoints.add_time(started.elapsed());
        if let Err(error) = result {
            tracing::warn!(schema = log.schema(), %error, "checkpoint failed; the log grows until one succeeds");
        }
        if let Some(bytes) = ahead {
            log.was_moved_ahead(bytes);
            if shared.steward.full_log().is_some() {
                // For what is left, so that it begins anew. Other logs are looked at after that: nobody is to wait for them.
                shared.steward.hold(&shared.writer);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail anywhere")]

    use std::thread::sleep;

    use super::*;
    use crate::job::{Call, Job, Post, Ticket, Want, Work};
    use crate::queue::Lead;
    use crate::{Options, Params, Store};

    /// Frames that fill the log, and are within its limit.
    const MANY: u64 = 14_000;

    fn call(store: &Store, sql: &str) -> Call {
        Call { statement: store.statement(sql), params: Params::default(), want: Want::Rows }
    }

    fn lead(store: &Store) -> Lead {
        let ticket = Ticket::new(Arc::<Post>::default(), 0);
        let work = Work::Run(call(store, "SELECT 1"));
        let job = Job { ticket, work, queued: Instant::now(), deadline: None, cancel: None };
        store.shared().writer.push_or_lead(job)
    }

    #[test]
    fn a_log_that_a_turn_fills_is_begun_anew_after_it_and_nobody_gets_between() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Options { path: Some(folder.path().join("test.db")), ..Options::default() }).unwrap();
        let shared = store.shared();
        let (signal, writer) = (&shared.steward, &shared.writer);
        let log = &signal.logs[0];
        store.write_sync(Work::Run(call(&store, "CREATE TABLE t (a)")), None).unwrap();
        // Keeps the log from beginning anew.
        let other = rusqlite::Connection::open(folder.path().join("test.db")).unwrap();
        other.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
        let Lead::Turn(_job) = lead(&store) else { panic!("the writer is idle") };
        let (mut disturbed, mut left) = (false, true);
        for _ in 0..20 {
            log.committed(MANY);
            signal.look(writer);
            sleep(Duration::from_millis(5));
            // No read is in the way of a turn's log, and the steward leaves it alone.
            disturbed |= signal.pressure.is_waited_for(1);
            left &= log.is_full();
        }
        // What the steward decides when it finds a log full is that the writer goes on waiting.
        signal.let_go(writer);
        writer.turn_over();
        let between = matches!(lead(&store), Lead::Turn(_));
        if between {
            writer.turn_over();
        }
        drop(other);
        assert!(!disturbed && left && !between, "{disturbed} {left} {between}");
        let until = Instant::now() + Duration::from_secs(30);
        while log.is_full() || signal.waits.load(Relaxed) {
            assert!(Instant::now() < until);
            sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn calls_end_in_time_while_the_steward_has_something_else_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Options { path: Some(folder.path().join("test.db")), ..Options::default() }).unwrap();
        let writer = &store.shared().writer;
        writer.hold(true);
        // As moving a long log would.
        let (busy, ended) = (Duration::from_secs(3), Arc::new(AtomicBool::new(false)));
        let end = ended.clone();
        store.shared().steward.ask(Box::new(move |_| {
            sleep(busy);
            end.store(true, Relaxed);
        }));
        let deadline = Instant::now() + Duration::from_millis(100);
        let error = store.write_sync(Work::Run(call(&store, "CREATE TABLE t (a)")), Some(deadline)).unwrap_err();
        assert_eq!(error.code, ErrorCode::Deadline);
        assert!(!ended.load(Relaxed), "it waited for the steward");
        writer.hold(false);
    }

    #[test]
    fn nobody_waits_for_a_log_of_a_store_that_closes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Options { path: Some(folder.path().join("test.db")), ..Options::default() }).unwrap();
        let (signal, writer) = (&store.shared().steward, &store.shared().writer);
        signal.close();
        signal.logs[0].committed(MANY);
        signal.look(writer);
        assert!(matches!(lead(&store), Lead::Turn(_)));
        writer.turn_over();
    }
}

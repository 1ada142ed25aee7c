//! What a lane is asked to do, and where its answer goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use crate::flow::Flow;
use crate::lock::{Condvar, Mutex};
use crate::setup::pragma_of;
use crate::{Error, ErrorCode, Params, Record, Statement};

/// A piece of the answer to a call.
#[derive(Debug)]
pub struct Answer {
    /// Which call.
    pub token: u32,
    /// The piece, or why there is none; a failure is always the last, and voids what came before it.
    pub result: Result<Record, Error>,
    /// Whether it ends the answer.
    pub last: bool,
}

/// Where answers go. Called on lane threads; must not block.
pub trait Sink: Send + Sync {
    /// Takes all of `answers`, in order.
    fn deliver(&self, answers: &mut Vec<Answer>);
}

/// The promise of exactly one answer: a ticket that is dropped unanswered fails its call.
pub struct Ticket {
    sink: Option<Arc<dyn Sink>>,
    token: u32,
}

impl Ticket {
    /// A ticket for the call `token` of `sink`.
    pub fn new(sink: Arc<dyn Sink>, token: u32) -> Self {
        Self { sink: Some(sink), token }
    }

    /// Answers with a failure, at once.
    pub fn fail(self, error: Error) {
        self.answer(Err(error));
    }

    pub(crate) fn answer(mut self, result: Result<Record, Error>) {
        if let Some(sink) = self.sink.take() {
            sink.deliver(&mut vec![Answer { token: self.token, result, last: true }]);
        }
    }
}

/// Where one answer is waited for.
#[derive(Default)]
pub(crate) struct Post {
    answers: Mutex<Vec<Answer>>,
    arrived: Condvar,
}

impl Post {
    /// The pieces of the answer, once all are there. Every ticket is answered, so this ends.
    pub(crate) fn wait(&self) -> Result<Vec<Record>, Error> {
        let mut answers = self.answers.lock();
        while !answers.last().is_some_and(|answer| answer.last) {
            self.arrived.wait(&mut answers);
        }
        answers.drain(..).map(|answer| answer.result).collect()
    }
}

impl Sink for Post {
    fn deliver(&self, answers: &mut Vec<Answer>) {
        self.answers.lock().append(answers);
        self.arrived.notify_one();
    }
}

/// Pieces that wait for each other, of about 64 KiB each. A receiver that has all of a result at once keeps no part of it.
const GATHERED: usize = 8;

/// Answers on their way out of a lane. Handing over several at a time costs the receiver one wake-up instead of several.
#[derive(Default)]
pub(crate) struct Outbox {
    sink: Option<Arc<dyn Sink>>,
    answers: Vec<Answer>,
}

impl Outbox {
    /// A piece that is not the last; goes out at once with all that waits.
    pub(crate) fn piece(&mut self, ticket: &Ticket, record: Record) {
        self.add(ticket.sink.clone(), Answer { token: ticket.token, result: Ok(record), last: false });
        self.flush();
    }

    /// A piece that is not the last, of which some may wait for each other.
    pub(crate) fn gather(&mut self, ticket: &Ticket, record: Record) {
        self.add(ticket.sink.clone(), Answer { token: ticket.token, result: Ok(record), last: false });
        if self.answers.len() >= GATHERED {
            self.flush();
        }
    }

    pub(crate) fn finish(&mut self, mut ticket: Ticket, record: Record) {
        self.add(ticket.sink.take(), Answer { token: ticket.token, result: Ok(record), last: true });
    }

    /// All of an answer that was held back, or why there is none.
    pub(crate) fn settle(&mut self, mut ticket: Ticket, result: Result<Vec<Record>, Error>) {
        let token = ticket.token;
        let sink = ticket.sink.take();
        match result {
            Ok(mut records) => {
                let last = records.pop().unwrap_or_default();
                for record in records {
                    self.add(sink.clone(), Answer { token, result: Ok(record), last: false });
                }
                self.add(sink, Answer { token, result: Ok(last), last: true });
            }
            Err(error) => self.add(sink, Answer { token, result: Err(error), last: true }),
        }
    }

    fn add(&mut self, sink: Option<Arc<dyn Sink>>, answer: Answer) {
        let Some(sink) = sink else { return };
        if !self.sink.as_ref().is_some_and(|known| Arc::ptr_eq(known, &sink)) {
            self.flush();
            self.sink = Some(sink);
        }
        self.answers.push(answer);
    }

    pub(crate) fn flush(&mut self) {
        if let (Some(sink), false) = (&self.sink, self.answers.is_empty()) {
            sink.deliver(&mut self.answers);
            self.answers.clear();
        }
        // A lane that idles must not keep a receiver alive.
        self.sink = None;
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            let error = Error::new(ErrorCode::Internal, "the lane stopped before it answered");
            sink.deliver(&mut vec![Answer { token: self.token, result: Err(error), last: true }]);
        }
    }
}

/// How much of a statement's rows the caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Only the number of changes.
    Changes,
    /// The first row.
    First,
    /// All rows.
    Rows,
}

/// One execution of a statement.
pub struct Call {
    /// The SQL text.
    pub statement: Arc<Statement>,
    /// Its parameters.
    pub params: Params,
    /// What of its rows is delivered.
    pub want: Want,
}

/// A statement of a batch and what it must find for the batch to stand.
pub struct BatchItem {
    /// The execution.
    pub call: Call,
    /// The guard.
    pub expect: Expect,
}

/// A guard: the batch is rolled back unless its statement returned and changed this many rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expect {
    /// Rows returned.
    pub rows: Option<u64>,
    /// Rows changed.
    pub changes: Option<u64>,
}

/// Names a callback transaction; chosen by who begins it, unique within the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TransactionId(pub u64);

/// A request.
pub enum Work {
    /// One statement on its own.
    Run(Call),
    /// One reading statement within the budget of synchronous calls, where there is no connection but the writer's.
    Read(Call),
    /// One reading statement, whose rows are delivered as the caller takes them.
    Stream(Call, Arc<Flow>),
    /// Several statements, all or nothing.
    Batch(Vec<BatchItem>),
    /// Work on the file itself, between groups.
    Maintain(Maintenance),
    /// Take the writer lane for a callback transaction.
    Begin(TransactionId, BeginMode),
    /// One statement within a callback transaction.
    Step(TransactionId, Call),
    /// Several statements within a callback transaction, all or nothing.
    StepBatch(TransactionId, Vec<BatchItem>),
    /// Begin, keep or undo a transaction nested in it.
    Nest(TransactionId, Nest),
    /// End it, keeping its changes.
    Commit(TransactionId),
    /// End it, undoing its changes.
    Rollback(TransactionId),
}

impl Work {
    /// Bytes that its commit adds to the log, as far as that can be told before; each statement so many beside its values.
    pub(crate) fn weight(&self, statement: usize) -> usize {
        match self {
            Self::Run(call) => statement + call.params.len(),
            Self::Batch(items) => items.iter().map(|item| statement + item.call.params.len()).sum(),
            _ => 0,
        }
    }
}

/// What is done to the file as a whole. None of it can be done within a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maintenance {
    /// Rewrite the file without free pages.
    Vacuum,
    /// Move the write-ahead log of each file that is written into it; answers with SQLite's row of busy, frames in the log,
    /// frames moved: of the first file whose log was busy, else of the main one.
    Checkpoint(CheckpointMode),
}

/// How far a checkpoint goes, see <https://sqlite.org/pragma.html#pragma_wal_checkpoint>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointMode {
    /// As far as readers allow.
    Passive,
    /// Waits for readers of the log.
    Full,
    /// And has the next writer start the log anew.
    Restart,
    /// And makes the log's file empty.
    Truncate,
}

impl CheckpointMode {
    fn name(self) -> &'static str {
        match self {
            Self::Passive => "PASSIVE",
            Self::Full => "FULL",
            Self::Restart => "RESTART",
            Self::Truncate => "TRUNCATE",
        }
    }
}

impl Maintenance {
    /// Of the file of this schema.
    pub(crate) fn sql(self, schema: &str) -> String {
        match self {
            Self::Vacuum => "VACUUM".to_owned(),
            Self::Checkpoint(mode) => pragma_of(schema, &format!("wal_checkpoint({})", mode.name())),
        }
    }
}

/// When a callback transaction takes SQLite's write lock, see <https://sqlite.org/lang_transaction.html>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginMode {
    /// At once.
    Immediate,
    /// With its first write.
    Deferred,
    /// At once; with write-ahead logging the same as immediate.
    Exclusive,
}

impl BeginMode {
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Immediate => "BEGIN IMMEDIATE",
            Self::Deferred => "BEGIN DEFERRED",
            Self::Exclusive => "BEGIN EXCLUSIVE",
        }
    }
}

/// A step of a nested transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nest {
    /// Begin one.
    Begin,
    /// Keep what the innermost one did.
    Release,
    /// Undo what the innermost one did.
    Undo,
}

/// Tells a call that its caller gave it up. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    own: Arc<AtomicBool>,
    /// Of all calls of a sender together.
    sender: Option<Arc<AtomicBool>>,
}

impl Cancel {
    /// For one of the calls of a sender: given up on its own, or with all that carry `self`.
    #[must_use]
    pub fn of_one(&self) -> Self {
        Self { own: Arc::default(), sender: Some(self.own.clone()) }
    }

    /// Gives the call up: it does not start any more, or is interrupted and undone. A call that is past the point of no
    /// return is answered as if nothing had happened.
    pub fn cancel(&self) {
        self.own.store(true, Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.own.load(Relaxed) || self.sender.as_ref().is_some_and(|sender| sender.load(Relaxed))
    }
}

/// A request with its ticket and its place in time.
pub struct Job {
    /// Where the answer goes.
    pub ticket: Ticket,
    /// The request.
    pub work: Work,
    /// When it was handed over.
    pub queued: Instant,
    /// When the caller stops waiting, for waiting and running together.
    pub deadline: Option<Instant>,
    /// How the caller gives it up.
    pub cancel: Option<Cancel>,
}

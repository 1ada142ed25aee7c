//! What a lane is asked to do, and where its answer goes.

use std::sync::Arc;
use std::time::Instant;

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
    pub fn fail(mut self, error: Error) {
        if let Some(sink) = self.sink.take() {
            sink.deliver(&mut vec![Answer { token: self.token, result: Err(error), last: true }]);
        }
    }
}

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
    /// Several statements, all or nothing.
    Batch(Vec<BatchItem>),
    /// Take the writer lane for a callback transaction.
    Begin(TransactionId),
    /// One statement within a callback transaction.
    Step(TransactionId, Call),
    /// Several statements within a callback transaction, all or nothing.
    StepBatch(TransactionId, Vec<BatchItem>),
    /// End it, keeping its changes.
    Commit(TransactionId),
    /// End it, undoing its changes.
    Rollback(TransactionId),
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
}

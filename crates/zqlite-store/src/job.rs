//! What a lane is asked to do, and where its answer goes.

use std::sync::Arc;
use std::time::Instant;

use crate::{Error, ErrorCode, Params, Record, Statement};

/// Where answers go. Called on lane threads; must not block.
pub trait Sink: Send + Sync {
    /// A piece of the answer to the call `token`; `last` ends it.
    fn deliver(&self, token: u32, record: Record, last: bool);
    /// The call `token` failed; what was delivered of it before is void.
    fn fail(&self, token: u32, error: Error);
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

    pub(crate) fn deliver(&self, record: Record) {
        if let Some(sink) = &self.sink {
            sink.deliver(self.token, record, false);
        }
    }

    pub(crate) fn finish(mut self, record: Record) {
        if let Some(sink) = self.sink.take() {
            sink.deliver(self.token, record, true);
        }
    }

    /// Delivers all of an answer that was held back.
    pub(crate) fn finish_all(self, mut records: Vec<Record>) {
        let last = records.pop().unwrap_or_default();
        for record in records {
            self.deliver(record);
        }
        self.finish(last);
    }

    /// Answers with a failure.
    pub fn fail(mut self, error: Error) {
        if let Some(sink) = self.sink.take() {
            sink.fail(self.token, error);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.fail(self.token, Error::new(ErrorCode::Internal, "the lane stopped before it answered"));
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

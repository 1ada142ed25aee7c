//! A caller of the store, as the border to JavaScript is one: hands over jobs and waits for answers, but never for ever.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::types::Value;
use zqlite_store::{
    Answer, BatchItem, BeginMode, Call, Error, ErrorCode, Expect, Job, Maintenance, Options, Params, Record, Result,
    Sink, Store, Ticket, TransactionId, Want, Work,
};

use crate::decode;

/// An answer that takes longer is one that never comes. Counted in pieces, so that a process that was stopped for a while
/// has not waited.
const PATIENCE: Duration = Duration::from_secs(60);
const PIECE: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Inbox {
    partial: Mutex<HashMap<u32, Vec<Record>>>,
    done: Mutex<HashMap<u32, Result<Vec<Record>>>>,
    arrived: Condvar,
}

impl Sink for Inbox {
    fn deliver(&self, answers: &mut Vec<Answer>) {
        let mut partial = self.partial.lock();
        for Answer { token, result, last } in answers.drain(..) {
            match result {
                Ok(record) => partial.entry(token).or_default().push(record),
                Err(error) => {
                    partial.remove(&token);
                    self.done.lock().insert(token, Err(error));
                    continue;
                }
            }
            if last {
                let records = partial.remove(&token).unwrap_or_default();
                self.done.lock().insert(token, Ok(records));
            }
        }
        self.arrived.notify_all();
    }
}

/// One caller of a store.
pub struct Client {
    store: Arc<Store>,
    inbox: Arc<Inbox>,
    next: AtomicU32,
}

/// Rows of values.
pub type Rows = Vec<Vec<Value>>;

impl Client {
    /// Opens the database at `path`, with two lanes, which is as good as more and is cheaper.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(path: &Path, parallel_writes: bool) -> Result<Self> {
        let mut options = Options { path: Some(path.to_owned()), parallel_writes, ..Options::default() };
        options.pool.max_connections = 5;
        // A machine that has other things to do is no failure.
        options.transactions.idle = Duration::from_secs(300);
        options.transactions.total = Duration::from_secs(300);
        Ok(Self::of(Store::open(options)?))
    }

    /// Opens a database in memory.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn in_memory() -> Result<Self> {
        Ok(Self::of(Store::open(Options::default())?))
    }

    /// A caller of an open store.
    pub fn of(store: Arc<Store>) -> Self {
        Self { store, inbox: Arc::default(), next: AtomicU32::new(0) }
    }

    /// Another caller of the same store.
    #[must_use]
    pub fn other(&self) -> Self {
        Self::of(self.store.clone())
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// One execution of a statement.
    pub fn call(&self, sql: &str, values: &[Value]) -> Call {
        Call { statement: self.store.statement(sql), params: Params::from_values(values), want: Want::Rows }
    }

    /// A statement of a batch.
    pub fn item(&self, sql: &str, values: &[Value]) -> BatchItem {
        BatchItem { call: self.call(sql, values), expect: Expect::default() }
    }

    /// Does the work and waits for its rows.
    ///
    /// # Errors
    /// Those of the store; `ERR_INTERNAL` for an answer that does not come or cannot be read.
    pub fn run(&self, work: Work) -> Result<Rows> {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let ticket = Ticket::new(self.inbox.clone(), token);
        self.store.submit([Job { ticket, work, queued: Instant::now(), deadline: None, cancel: None }]);
        let mut waited = Duration::ZERO;
        let mut done = self.inbox.done.lock();
        let records = loop {
            if let Some(answer) = done.remove(&token) {
                break answer?;
            }
            if waited > PATIENCE {
                return Err(Error::new(ErrorCode::Internal, format!("hang: no answer within {PATIENCE:?}")));
            }
            if self.inbox.arrived.wait_for(&mut done, PIECE).timed_out() {
                waited += PIECE;
            }
        };
        drop(done);
        let mut rows = Vec::new();
        for (_, chunk) in records.iter().filter_map(|r| r.rows.as_ref()) {
            let unreadable = || Error::new(ErrorCode::Internal, "packed rows cannot be read");
            rows.extend(decode::rows(chunk).ok_or_else(unreadable)?);
        }
        Ok(rows)
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn sql(&self, sql: &str, values: &[Value]) -> Result<Rows> {
        self.run(Work::Run(self.call(sql, values)))
    }

    /// Runs statements all or nothing.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn batch(&self, items: Vec<BatchItem>) -> Result<Rows> {
        self.run(Work::Batch(items))
    }

    /// Work on the file.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn maintain(&self, what: Maintenance) -> Result<Rows> {
        self.run(Work::Maintain(what))
    }

    /// Takes the writer lane.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn begin(&self) -> Result<TransactionId> {
        static IDS: AtomicU32 = AtomicU32::new(1);
        let id = TransactionId(IDS.fetch_add(1, Ordering::Relaxed).into());
        self.run(Work::Begin(id, BeginMode::Immediate)).map(|_| id)
    }
}

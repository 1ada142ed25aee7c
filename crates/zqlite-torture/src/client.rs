//! A caller of the store that reads the rows of its answers.

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::Value;
use zqlite_store::{BatchItem, Error, ErrorCode, Expect, Maintenance, Options, Result, Store, Work};

use crate::decode;

/// One caller of a store.
pub struct Client(zqlite_client::Client);

/// Rows of values.
pub type Rows = Vec<Vec<Value>>;

impl Deref for Client {
    type Target = zqlite_client::Client;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Client {
    /// Opens the database at `path`, with two lanes, which is as good as more and is cheaper.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(path: &Path, parallel_writes: bool) -> Result<Self> {
        let mut options = Options { path: Some(path.to_owned()), parallel_writes, ..Options::default() };
        options.pool.max_connections = 5;
        // A machine that has other things to do is no failure. A call that hangs is seen by who waits for it.
        options.pool.connection_timeout = Duration::from_secs(300);
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
        Self(zqlite_client::Client::of(store))
    }

    /// Another caller of the same store.
    #[must_use]
    pub fn other(&self) -> Self {
        Self::of(self.store.clone())
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
        let records = self.one(work)?;
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
}

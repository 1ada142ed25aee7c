//! The store's own SQL on a lane's connection, beside or within a caller's statement.

use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::watch::Watch;
use crate::{Error, ErrorCode, Result};

/// A second owner of a lane's SQLite connection, with its own prepared statements. Used on the lane's thread only.
pub(crate) struct Own {
    /// Without it once the lane's connection is about to close.
    connection: Mutex<Option<Connection>>,
    watch: Arc<Watch>,
}

impl Own {
    pub(crate) fn of(connection: &Connection, watch: &Arc<Watch>) -> Result<Self> {
        let shared = crate::sqlite::share(connection)?;
        shared.set_prepared_statement_cache_capacity(64);
        Ok(Self { connection: Mutex::new(Some(shared)), watch: watch.clone() })
    }

    /// Reads as the running call would: it may be interrupted, and takes of its budget.
    pub(crate) fn read<T>(&self, f: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let connection = self.connection.lock();
        let closed = || Error::new(ErrorCode::Closed, "the connection is closing");
        f(connection.as_ref().ok_or_else(closed)?).map_err(|error| self.watch.explain(error))
    }

    /// Does what no caller may do, and is not interrupted.
    pub(crate) fn internal<T>(&self, f: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let before = self.watch.set_internal(true);
        let result = self.read(f);
        self.watch.set_internal(before);
        result
    }

    /// Gives up the prepared statements, without which the connection cannot close.
    pub(crate) fn close(&self) {
        *self.connection.lock() = None;
    }

    /// Keeps what a function failed with, as SQLite has room for a text only.
    pub(crate) fn fail(&self, error: Error) -> String {
        let message = error.message.clone();
        self.watch.fail(error);
        message
    }
}

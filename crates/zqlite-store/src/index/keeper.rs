//! The writer's side of indexes: follows the open transaction, makes the next snapshot before COMMIT, publishes it after.
//!
//! The hook notes row ids and what the rows held when the transaction began. The rows are read again when somebody asks, and
//! before COMMIT; so it does not matter in what order they changed, and what is undone needs no replay: everything noted
//! is looked at again, from the published snapshot on. What no hook tells of makes an index anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::Result;
use crate::index::changes::{Noted, TableChanges};
use crate::index::content::Content;
use crate::index::definitions;
use crate::index::own::Own;
use crate::index::refresh::watched;
use crate::index::shelf::{Generation, Indexes, Shelf};
use crate::index::statement::{Create, SchemaChange};

/// Keeps the indexes of one connection.
pub(crate) struct Keeper {
    pub(crate) own: Arc<Own>,
    shelf: Arc<Shelf>,
    pub(crate) noted: Arc<Noted>,
    state: Mutex<State>,
    /// Grows when statements that were prepared before must be prepared anew, because they would change rows unnoticed.
    pub(crate) epoch: AtomicU64,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) base: Arc<Generation>,
    /// What the open transaction has made of it, if it changed an index.
    pub(crate) next: Option<Arc<Indexes>>,
    /// Registered, and its COMMIT under way.
    pending: Option<Arc<Generation>>,
    /// The definitions have to be read again.
    pub(crate) definitions: bool,
    /// The open transaction has changed the schema.
    schema: bool,
    /// Rows that do not fit make an index unusable instead of failing the transaction: they were there before it.
    pub(crate) lenient: bool,
    /// Of the connection when the base was made.
    cookie: i64,
    data_version: i64,
    /// The data version that the open transaction found, if it is another.
    foreign: Option<i64>,
    pub(crate) hooked: bool,
}

impl State {
    pub(crate) fn indexes(&self) -> &Arc<Indexes> {
        self.next.as_ref().unwrap_or(&self.base.indexes)
    }

    pub(crate) fn next_mut(&mut self) -> &mut Indexes {
        Arc::make_mut(self.next.get_or_insert_with(|| self.base.indexes.clone()))
    }
}

impl Keeper {
    /// Makes the indexes of the file and publishes them.
    ///
    /// # Errors
    /// As reading fails. A row or definition that does not fit makes its index unusable and is no error.
    pub(crate) fn open(own: Arc<Own>, shelf: Arc<Shelf>) -> Result<Self> {
        let keeper = Self { own, shelf, noted: Arc::default(), state: Mutex::default(), epoch: AtomicU64::new(0) };
        keeper.own.internal(|connection| Ok(connection.execute_batch("BEGIN")?))?;
        let loaded = keeper.load();
        let ended = keeper.own.internal(|connection| Ok(connection.execute_batch("COMMIT")?));
        loaded.and(ended)?;
        Ok(keeper)
    }

    /// Makes the indexes of a file that others write, within whatever transaction is open.
    pub(crate) fn within(own: Arc<Own>) -> Result<Self> {
        let shelf = Arc::default();
        let keeper = Self { own, shelf, noted: Arc::default(), state: Mutex::default(), epoch: AtomicU64::new(0) };
        keeper.load()?;
        Ok(keeper)
    }

    fn load(&self) -> Result<()> {
        let mut state = self.state.lock();
        self.take_versions(&mut state)?;
        self.distrust(&mut state);
        state.lenient = true;
        self.refresh(&mut state)?;
        let number = self.own.internal(definitions::number)?;
        let generation = Arc::new(Generation { number, indexes: state.indexes().clone() });
        self.shelf.register(&generation);
        self.shelf.publish(generation.clone());
        (state.base, state.next, state.lenient) = (generation, None, false);
        self.noted.0.lock().clear();
        Ok(())
    }

    /// As [`Self::open`] for a connection that only reads: looks whether another process has changed the file.
    pub(crate) fn follow_others(&self) -> Result<()> {
        let version = self.own.internal(data_version)?;
        if version == self.state.lock().data_version { Ok(()) } else { self.load() }
    }

    fn take_versions(&self, state: &mut State) -> Result<()> {
        (state.cookie, state.data_version) = self.own.internal(|c| Ok((cookie(c)?, data_version(c)?)))?;
        Ok(())
    }

    /// Changes when prepared statements must go.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Relaxed)
    }

    /// A transaction has begun.
    pub(crate) fn begin(&self) -> Result<()> {
        let mut state = self.state.lock();
        if state.schema {
            // The one before was rolled back, and what it watched with it.
            let watched = watched(&state.base.indexes).into_iter();
            self.noted.0.lock().tables = watched.map(|(table, watched)| (table, TableChanges::of(watched))).collect();
        }
        self.noted.0.lock().clear();
        (state.next, state.pending, state.schema, state.lenient) = (None, None, false, false);
        state.definitions = false;
        let version = self.own.internal(data_version)?;
        state.foreign = (version != state.data_version).then_some(version);
        if state.foreign.is_some() {
            // Another process has written. The base is of before until this is committed, whatever becomes of it.
            self.distrust(&mut state);
            state.lenient = true;
        }
        Ok(())
    }

    fn distrust(&self, state: &mut State) {
        state.definitions = true;
        self.noted.0.lock().tables.values_mut().for_each(TableChanges::forget);
    }

    /// Something of the open transaction was undone.
    pub(crate) fn undone(&self) {
        self.undo(&mut self.state.lock());
    }

    pub(crate) fn undo(&self, state: &mut State) {
        state.next = None;
        state.definitions |= state.schema;
        self.noted.0.lock().reset();
    }

    /// The indexes with what the open transaction has changed.
    pub(crate) fn indexes(&self) -> Result<Arc<Indexes>> {
        let mut state = self.state.lock();
        self.refresh(&mut state)?;
        Ok(state.indexes().clone())
    }

    /// Whether all rows that were changed fit the indexes.
    ///
    /// # Errors
    /// `ERR_INDEX_ROW` naming the first that does not.
    pub(crate) fn check(&self) -> Result<()> {
        self.refresh(&mut self.state.lock())
    }

    /// Makes and registers the next snapshot; COMMIT follows.
    ///
    /// # Errors
    /// `ERR_INDEX_ROW`, or as reading fails; the transaction must not be committed.
    pub(crate) fn prepare(&self) -> Result<()> {
        let mut state = self.state.lock();
        if !state.hooked && !state.schema && !state.definitions {
            return Ok(());
        }
        let now = self.own.internal(cookie)?;
        if now != state.cookie && !state.schema {
            // VACUUM, another process, or a function of an extension: no statement that was seen.
            state.schema = true;
            self.distrust(&mut state);
        }
        self.refresh(&mut state)?;
        if state.schema {
            state.cookie = now;
        }
        let Some(indexes) = state.next.clone() else { return Ok(()) };
        let number = self.own.internal(definitions::advance)?;
        let generation = Arc::new(Generation { number, indexes });
        self.shelf.register(&generation);
        state.pending = Some(generation);
        Ok(())
    }

    /// The COMMIT stands.
    pub(crate) fn committed(&self) {
        let mut state = self.state.lock();
        if let Some(generation) = state.pending.take() {
            self.shelf.publish(generation.clone());
            state.base = generation;
        }
        if let Some(version) = state.foreign.take() {
            state.data_version = version;
        }
        (state.next, state.schema, state.lenient) = (None, false, false);
        self.noted.0.lock().clear();
    }

    /// Whether there is an index of ours with this name.
    pub(crate) fn has(&self, name: &str) -> Result<bool> {
        self.own.internal(|connection| definitions::has(connection, name))
    }

    /// Whether schema changes concern anything here.
    pub(crate) fn is_used(&self) -> bool {
        let state = self.state.lock();
        state.definitions || state.hooked
    }

    /// `CREATE INDEX … USING …`
    pub(crate) fn create(&self, create: &Create) -> Result<()> {
        let mut state = self.state.lock();
        let definition = &create.definition;
        let made = self.own.internal(|connection| {
            if definitions::is_taken(connection, definition, create.if_not_exists)? {
                return Ok(false);
            }
            Content::bind(connection, definition)?;
            definitions::insert(connection, definition)?;
            Ok(true)
        })?;
        if made {
            (state.schema, state.definitions) = (true, true);
            self.refresh(&mut state)?;
        }
        Ok(())
    }

    /// `DROP INDEX` of an index of ours.
    pub(crate) fn drop(&self, name: &str) -> Result<()> {
        let mut state = self.state.lock();
        self.own.internal(|connection| definitions::delete(connection, name))?;
        (state.schema, state.definitions) = (true, true);
        Ok(())
    }

    /// Follows a statement that SQLite has run.
    pub(crate) fn follow(&self, change: &SchemaChange) -> Result<()> {
        let mut state = self.state.lock();
        (state.schema, state.definitions) = (true, true);
        self.own.internal(|connection| definitions::follow(connection, change))?;
        match change {
            SchemaChange::Rewrite { table } => self.noted.0.lock().rewrite(table),
            // Its rows go unnoticed under the new name until the definitions are read again, and it may have the old one by then.
            SchemaChange::RenameTable { from, .. } => self.noted.0.lock().rewrite(from),
            _ => {}
        }
        Ok(())
    }

    /// Ends the hook, before the connection closes.
    pub(crate) fn close(&self) {
        let _ = self.own.internal(|connection| {
            crate::sqlite::on_row_change(connection, None);
            Ok(())
        });
    }
}

/// Changes with every change of the schema.
fn cookie(connection: &Connection) -> Result<i64> {
    Ok(connection.prepare_cached("PRAGMA main.schema_version")?.query_row([], |row| row.get(0))?)
}

/// Changes with every commit of another connection.
fn data_version(connection: &Connection) -> Result<i64> {
    Ok(connection.prepare_cached("PRAGMA main.data_version")?.query_row([], |row| row.get(0))?)
}

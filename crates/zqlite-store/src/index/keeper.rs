//! The writer's side of indexes: follows the open transaction, makes the next snapshot before COMMIT, publishes it after.
//!
//! The hook notes row ids and what the rows held when the transaction began. The rows are read again when somebody asks, and
//! before COMMIT; so it does not matter in what order they changed, and what is undone needs no replay: everything noted
//! is looked at again, from the published snapshot on. What no hook tells of makes an index anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension};

use crate::index::changes::{Noted, TableChanges, Values, Watched};
use crate::index::cidr::owned;
use crate::index::content::{BuildError, Content};
use crate::index::definitions;
use crate::index::own::Own;
use crate::index::shelf::{Broken, Generation, Index, Indexes, Shelf};
use crate::index::source::{Fault, Source, select};
use crate::index::statement::{Create, SchemaChange};
use crate::{Error, ErrorCode, Result};

/// Keeps the indexes of one connection.
pub(crate) struct Keeper {
    own: Arc<Own>,
    shelf: Arc<Shelf>,
    noted: Arc<Noted>,
    state: Mutex<State>,
    /// Grows when statements that were prepared before must be prepared anew, because they would change rows unnoticed.
    epoch: AtomicU64,
}

#[derive(Default)]
struct State {
    base: Arc<Generation>,
    /// What the open transaction has made of it, if it changed an index.
    next: Option<Arc<Indexes>>,
    /// Registered, and its COMMIT under way.
    pending: Option<Arc<Generation>>,
    /// The definitions have to be read again.
    definitions: bool,
    /// The open transaction has changed the schema.
    schema: bool,
    /// Rows that do not fit make an index unusable instead of failing the transaction: they were there before it.
    lenient: bool,
    /// Of the connection when the base was made.
    cookie: i64,
    data_version: i64,
    hooked: bool,
}

impl State {
    fn indexes(&self) -> &Arc<Indexes> {
        self.next.as_ref().unwrap_or(&self.base.indexes)
    }

    fn next_mut(&mut self) -> &mut Indexes {
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
        if self.own.internal(data_version)? != state.data_version {
            // Another process has written.
            self.take_versions(&mut state)?;
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

    fn undo(&self, state: &mut State) {
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
        if !state.hooked && !state.schema {
            return Ok(());
        }
        let now = self.own.internal(cookie)?;
        if now != state.cookie && !state.schema {
            tracing::warn!("the schema was changed by something other than a statement; indexes are made anew");
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
        state.definitions || !state.indexes().is_empty()
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
        if let SchemaChange::Rewrite { table } = change {
            self.noted.0.lock().rewrite(table);
        }
        Ok(())
    }

    /// Brings the transaction's own indexes up to date.
    fn refresh(&self, state: &mut State) -> Result<()> {
        let result = self.try_refresh(state);
        if result.is_err() {
            self.undo(state);
        }
        result
    }

    fn try_refresh(&self, state: &mut State) -> Result<()> {
        if state.definitions {
            self.read_definitions(state)?;
            state.definitions = false;
        }
        loop {
            let rebuild: Vec<String> = {
                let noted = self.noted.0.lock();
                noted.tables.iter().filter(|(_, changes)| changes.rebuild).map(|(table, _)| table.clone()).collect()
            };
            if !rebuild.is_empty() {
                self.rebuild(state, &rebuild)?;
            }
            let dirty: Vec<_> = {
                let mut noted = self.noted.0.lock();
                let dirty = noted.tables.iter_mut().filter(|(_, changes)| changes.is_pending());
                dirty.map(|(table, changes)| (table.clone(), changes.watched.clone(), changes.take_dirty())).collect()
            };
            let mut again = false;
            for (table, watched, rows) in dirty {
                again |= !self.read_again(state, &table, &watched, rows)?;
            }
            if !again {
                return self.settle(state);
            }
        }
    }

    fn settle(&self, state: &mut State) -> Result<()> {
        let unsettled = |index: &Index| index.content.as_ref().is_ok_and(Content::is_unsettled);
        let names: Vec<String> =
            state.indexes().iter().filter(|(_, index)| unsettled(index)).map(|(name, _)| name.clone()).collect();
        for name in names {
            if let Some(Index { definition, sources, content: Ok(content) }) = state.next_mut().get_mut(&name) {
                content.settle().map_err(|fault| fault.explain(definition, sources, None))?;
            }
        }
        Ok(())
    }

    /// Reads the definitions and finds their tables. Tables whose rows have to be read whole are marked.
    fn read_definitions(&self, state: &mut State) -> Result<()> {
        let found = self.own.internal(definitions::all)?;
        let before = state.indexes().clone();
        let mut indexes = Indexes::new();
        let mut fresh: Vec<String> = Vec::new();
        for (name, definition) in found {
            let bound = match &definition {
                Ok(definition) => self.own.internal(|connection| Content::bind(connection, definition)),
                Err(error) => Err(error.clone()),
            };
            let definition = match definition {
                Ok(definition) => Arc::new(definition),
                // Named, so that asking for it says why it cannot answer.
                Err(_) => Arc::new(definitions::nameless(&name)),
            };
            let index = match bound {
                Err(error) => {
                    let broken = Broken { error: Arc::new(error), row: None };
                    Index { definition, sources: Arc::default(), content: Err(broken) }
                }
                Ok(sources) => match before.get(&name) {
                    Some(known) if known.definition == definition && *known.sources == *sources => known.clone(),
                    _ => {
                        fresh.extend(sources.iter().map(|source| source.table.clone()));
                        let error = Error::new(ErrorCode::Internal, "the index was not made yet");
                        let broken = Broken { error: Arc::new(error), row: None };
                        Index { definition, sources: sources.into(), content: Err(broken) }
                    }
                },
            };
            indexes.insert(name, index);
        }
        let watched = watched(&indexes);
        let mut noted = self.noted.0.lock();
        let mut known = std::mem::take(&mut noted.tables);
        for (table, watched) in watched {
            let changes = match known.remove(&table) {
                Some(changes) if changes.watched == watched && !fresh.contains(&table) => changes,
                _ => {
                    let mut changes = TableChanges::of(watched);
                    changes.forget();
                    changes
                }
            };
            noted.tables.insert(table, changes);
        }
        drop(noted);
        if !state.hooked && !indexes.is_empty() {
            self.own.internal(|connection| {
                crate::sqlite::on_row_change(connection, Some(&self.noted));
                Ok(())
            })?;
            state.hooked = true;
            self.epoch.fetch_add(1, Relaxed);
        }
        let same =
            indexes.len() == before.len() && indexes.iter().zip(before.iter()).all(|((_, a), (_, b))| a.is_same(b));
        if !same {
            state.next = Some(Arc::new(indexes));
        }
        Ok(())
    }

    /// Makes anew the indexes that read one of these tables.
    fn rebuild(&self, state: &mut State, tables: &[String]) -> Result<()> {
        let concerned = |index: &Index| index.sources.iter().any(|source| tables.contains(&source.table));
        let names: Vec<String> =
            state.indexes().iter().filter(|(_, index)| concerned(index)).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(index) = state.indexes().get(&name).cloned() else { continue };
            let was_broken = state.base.indexes.get(&name).is_some_and(|index| index.content.is_err());
            let content = match self.build(&index) {
                Ok(content) => Ok(content),
                Err(BuildError::Read(error)) => return Err(error),
                Err(BuildError::Row(fault, values)) => {
                    let error = fault.explain(&index.definition, &index.sources, Some(&values));
                    if !(state.lenient || was_broken) {
                        return Err(error);
                    }
                    Err(Broken { error: Arc::new(error), row: Some((fault.source, fault.row)) })
                }
            };
            state.next_mut().insert(name, Index { content, ..index });
        }
        let mut noted = self.noted.0.lock();
        for table in tables {
            if let Some(changes) = noted.tables.get_mut(table) {
                changes.rebuilt();
            }
        }
        Ok(())
    }

    fn build(&self, index: &Index) -> std::result::Result<Content, BuildError> {
        let mut result = None;
        // The closure's own error type is the store's, so a row's fault goes around it.
        let read = self.own.read(|connection| {
            let built = Content::build(&index.definition, &index.sources, &mut |source, each| {
                let Some(source) = index.sources.get(source) else { return Ok(()) };
                let columns = source.columns.iter().map(|column| column.name.as_str());
                let mut statement = connection.prepare(&select(&source.table, &source.key, columns, false))?;
                let mut rows = statement.raw_query();
                while let Some(row) = rows.next()? {
                    each(row)?;
                }
                Ok(())
            });
            match built {
                Err(BuildError::Read(error)) => return Err(error),
                built => result = Some(built),
            }
            Ok(())
        });
        read?;
        result.unwrap_or_else(|| Err(BuildError::Read(Error::new(ErrorCode::Internal, "an index could not be made"))))
    }

    /// Reads these rows again and has the indexes follow. False when some index has to be made anew.
    fn read_again(&self, state: &mut State, table: &str, watched: &Watched, rows: Vec<i64>) -> Result<bool> {
        let sql = select(table, &watched.key, watched.columns.iter().map(|(name, _)| name.as_str()), true);
        for row in rows {
            let values: Option<Values> = self.own.internal(|connection| {
                let mut statement = connection.prepare_cached(&sql)?;
                let read = |row: &rusqlite::Row<'_>| {
                    (1..=watched.columns.len()).map(|i| row.get_ref(i).map(owned)).collect::<rusqlite::Result<Values>>()
                };
                Ok(statement.query_row([row], read).optional()?)
            })?;
            let held = self.noted.0.lock().tables.get(table).and_then(|changes| changes.held(row));
            if held == values {
                continue;
            }
            if !self.change(state, table, watched, row, held.as_deref(), values.as_deref())? {
                self.noted.0.lock().rewrite(table);
                return Ok(false);
            }
            if let Some(changes) = self.noted.0.lock().tables.get_mut(table) {
                changes.hold(row, values);
            }
        }
        Ok(true)
    }

    fn change(
        &self,
        state: &mut State,
        table: &str,
        watched: &Watched,
        row: i64,
        old: Option<&[Value]>,
        new: Option<&[Value]>,
    ) -> Result<bool> {
        let concerned: Vec<(String, usize)> = state
            .indexes()
            .iter()
            .flat_map(|(name, index)| {
                let sources = index.sources.iter().enumerate().filter(|(_, source)| source.table == table);
                sources.map(|(i, _)| (name.clone(), i))
            })
            .collect();
        for (name, source) in concerned {
            let Some(index) = state.indexes().get(&name) else { continue };
            let Some(columns) = index.sources.get(source).map(|source| &source.columns) else { continue };
            let pick = |values: Option<&[Value]>| {
                let place = |place: i32| watched.columns.iter().position(|(_, known)| *known == place);
                let value = |values: &[Value], at: i32| place(at).and_then(|at| values.get(at)).cloned();
                values.and_then(|values| columns.iter().map(|c| value(values, c.place)).collect::<Option<Vec<Value>>>())
            };
            let (old, new) = (pick(old), pick(new));
            if old == new {
                continue;
            }
            match &index.content {
                // It may be this row that does not fit, and does now.
                Err(broken) if broken.row == Some((source, row)) => return Ok(false),
                Err(_) => continue,
                Ok(_) => {}
            }
            let Some(index) = state.next_mut().get_mut(&name) else { continue };
            let Ok(content) = &mut index.content else { continue };
            match content.change(source, row, old.as_deref(), new.as_deref()) {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(index = name, row, "an index did not hold a row as it was; it is made anew");
                    return Ok(false);
                }
                Err(fault) => {
                    let Fault { row: at, .. } = fault;
                    let values = if at == row { new.as_deref() } else { None };
                    return Err(fault.explain(&index.definition, &index.sources, values));
                }
            }
        }
        Ok(true)
    }

    /// Ends the hook, before the connection closes.
    pub(crate) fn close(&self) {
        let _ = self.own.internal(|connection| {
            crate::sqlite::on_row_change(connection, None);
            Ok(())
        });
    }
}

impl Index {
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.definition, &other.definition) && Arc::ptr_eq(&self.sources, &other.sources)
    }
}

/// The tables that indexes read, with all columns that one of them does.
fn watched(indexes: &Indexes) -> HashMap<String, Watched> {
    let mut tables: HashMap<String, Watched> = HashMap::new();
    for Source { table, key, columns } in indexes.values().flat_map(|index| index.sources.iter()) {
        let watched = tables.entry(table.clone()).or_insert_with(|| Watched { key: key.clone(), columns: Vec::new() });
        for column in columns {
            let entry = (column.name.clone(), column.place);
            if !watched.columns.contains(&entry) {
                watched.columns.push(entry);
            }
        }
    }
    tables.values_mut().for_each(|watched| watched.columns.sort_by_key(|(_, place)| *place));
    tables
}

/// Changes with every change of the schema.
fn cookie(connection: &Connection) -> Result<i64> {
    Ok(connection.prepare_cached("PRAGMA main.schema_version")?.query_row([], |row| row.get(0))?)
}

/// Changes with every commit of another connection.
fn data_version(connection: &Connection) -> Result<i64> {
    Ok(connection.prepare_cached("PRAGMA main.data_version")?.query_row([], |row| row.get(0))?)
}

//! How the keeper brings the open transaction's indexes up to date: definitions, then tables to be read whole, then rows to
//! be read again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension};

use crate::index::changes::{TableChanges, Values, Watched};
use crate::index::cidr::owned;
use crate::index::content::{BuildError, Content};
use crate::index::definitions;
use crate::index::keeper::{Keeper, State};
use crate::index::shelf::{Broken, Index, Indexes};
use crate::index::source::{Fault, Source, select};
use crate::{Error, ErrorCode, Result};

impl Keeper {
    /// Brings the transaction's own indexes up to date.
    pub(crate) fn refresh(&self, state: &mut State) -> Result<()> {
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
            let Some(index) = state.next_mut().get_mut(&name) else { continue };
            let Ok(content) = &mut index.content else { continue };
            if let Err(fault) = content.settle() {
                return Err(self.unfit(index, &fault));
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
                Err(BuildError::Row(fault)) => {
                    let error = self.unfit(&index, &fault);
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
            let values = self.own.internal(|connection| values_of(connection, &sql, watched.columns.len(), row))?;
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
                Err(fault) => return Err(self.unfit(index, &fault)),
            }
        }
        Ok(true)
    }

    /// The error for a row that an index cannot hold, which names what stands there.
    fn unfit(&self, index: &Index, fault: &Fault) -> Error {
        let read = |source: &Source| {
            let columns = source.columns.iter().map(|column| column.name.as_str());
            let sql = select(&source.table, &source.key, columns, true);
            self.own.internal(|connection| values_of(connection, &sql, source.columns.len(), fault.row)).ok().flatten()
        };
        let values = index.sources.get(fault.source).and_then(read);
        fault.explain(&index.definition, &index.sources, values.as_deref())
    }
}

/// What these columns of a row hold; `sql` is of [`select`], for one row.
fn values_of(connection: &Connection, sql: &str, columns: usize, row: i64) -> Result<Option<Values>> {
    let mut statement = connection.prepare_cached(sql)?;
    let read = |row: &rusqlite::Row<'_>| (1..=columns).map(|i| row.get_ref(i).map(owned)).collect();
    Ok(statement.query_row([row], read).optional()?)
}

impl Index {
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.definition, &other.definition) && Arc::ptr_eq(&self.sources, &other.sources)
    }
}

/// The tables that indexes read, with all columns that one of them does.
pub(crate) fn watched(indexes: &Indexes) -> HashMap<String, Watched> {
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

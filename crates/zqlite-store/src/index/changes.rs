//! What the open transaction has changed, as the pre-update hook sees it: row ids by table, with what the rows held before.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::types::Value;

/// Rows of one table that are noted singly; with more the index is made anew.
const MOST_ROWS: usize = 1 << 18;

/// The values of a row in the columns that indexes read.
pub(crate) type Values = Arc<[Value]>;

/// A row that the transaction has touched.
#[derive(Debug)]
struct Row {
    /// When the transaction began; `None` when there was no such row.
    before: Option<Values>,
    /// In the transaction's own indexes.
    held: Option<Values>,
    /// Whether the two may be behind the table.
    dirty: bool,
}

/// What indexes read of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Watched {
    /// The column that is the row id.
    pub(crate) key: String,
    /// Columns and their places in the table.
    pub(crate) columns: Vec<(String, i32)>,
}

/// The touched rows of one table.
#[derive(Debug, Default)]
pub(crate) struct TableChanges {
    pub(crate) watched: Watched,
    rows: HashMap<i64, Row>,
    dirty: Vec<i64>,
    /// What was noted last may not have happened yet.
    last: [Option<i64>; 2],
    /// The rows may have changed unnoticed, now or since the transaction's own indexes were made.
    pub(crate) rebuild: bool,
    /// They were made anew, so that undoing something needs doing that again.
    rebuilt: bool,
}

impl TableChanges {
    pub(crate) fn of(watched: Watched) -> Self {
        Self { watched, ..Self::default() }
    }

    fn note(&mut self, row: i64, before: impl FnOnce() -> Option<Option<Values>>) {
        if self.rebuild {
            return;
        }
        if self.rows.len() >= MOST_ROWS {
            return self.forget();
        }
        match self.rows.entry(row) {
            std::collections::hash_map::Entry::Occupied(mut entry) => {
                if !std::mem::replace(&mut entry.get_mut().dirty, true) {
                    self.dirty.push(row);
                }
            }
            std::collections::hash_map::Entry::Vacant(entry) => {
                let Some(before) = before() else { return self.forget() };
                entry.insert(Row { held: before.clone(), before, dirty: true });
                self.dirty.push(row);
            }
        }
    }

    /// Gives up on single rows.
    pub(crate) fn forget(&mut self) {
        self.rebuild = true;
        self.rows = HashMap::new();
        self.dirty = Vec::new();
        self.last = [None; 2];
    }

    /// Everything of this transaction has to be looked at again.
    fn reset(&mut self) {
        if self.rebuilt {
            self.forget();
        }
        self.dirty = self.rows.keys().copied().collect();
        for row in self.rows.values_mut() {
            row.held.clone_from(&row.before);
            row.dirty = true;
        }
    }

    /// The rows were read whole.
    pub(crate) fn rebuilt(&mut self) {
        self.forget();
        self.rebuild = false;
        self.rebuilt = true;
    }

    /// The rows to read again. The last one noted stays among them, as the hook runs before the change.
    pub(crate) fn take_dirty(&mut self) -> Vec<i64> {
        let rows = std::mem::take(&mut self.dirty);
        for id in &rows {
            if let Some(row) = self.rows.get_mut(id) {
                row.dirty = false;
            }
        }
        for last in self.last.into_iter().flatten() {
            if let Some(row) = self.rows.get_mut(&last) {
                row.dirty = true;
                self.dirty.push(last);
            }
        }
        rows
    }

    pub(crate) fn held(&self, row: i64) -> Option<Values> {
        self.rows.get(&row).and_then(|row| row.held.clone())
    }

    pub(crate) fn hold(&mut self, row: i64, values: Option<Values>) {
        if let Some(row) = self.rows.get_mut(&row) {
            row.held = values;
        }
    }

    pub(crate) fn has(&self, row: i64) -> bool {
        self.rows.contains_key(&row)
    }

    pub(crate) fn is_pending(&self) -> bool {
        self.rebuild || !self.dirty.is_empty()
    }

    fn is_touched(&self) -> bool {
        self.rebuild || self.rebuilt || !self.rows.is_empty()
    }
}

/// The changes of the open transaction to tables that have indexes.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) tables: HashMap<String, TableChanges>,
}

impl Changes {
    /// A transaction begins.
    pub(crate) fn clear(&mut self) {
        for table in self.tables.values_mut().filter(|table| table.is_touched()) {
            *table = TableChanges::of(std::mem::take(&mut table.watched));
        }
    }

    /// Something of the transaction was undone, which no hook tells.
    pub(crate) fn reset(&mut self) {
        self.tables.values_mut().for_each(TableChanges::reset);
    }

    /// A table's rows may have changed unnoticed.
    pub(crate) fn rewrite(&mut self, table: &str) {
        for (_, changes) in self.tables.iter_mut().filter(|(name, _)| name.eq_ignore_ascii_case(table)) {
            changes.forget();
        }
    }
}

/// What the hook shares with the keeper.
#[derive(Debug, Default)]
pub(crate) struct Noted(pub(crate) Mutex<Changes>);

/// A row about to be changed, as the hook knows it.
pub(crate) struct RowChange<'a> {
    pub(crate) schema: &'a str,
    pub(crate) table: &'a str,
    /// The row id that goes, and the one that comes; the same for most updates.
    pub(crate) old: Option<i64>,
    pub(crate) new: Option<i64>,
}

impl Noted {
    /// What happens to a table is not known any more.
    pub(crate) fn lose(&self, table: &str) {
        self.0.lock().rewrite(table);
    }

    /// Called before a row changes. `value` reads a column of the old row.
    pub(crate) fn note(&self, change: &RowChange<'_>, value: &dyn Fn(i32) -> Option<Value>) {
        if change.schema != "main" {
            return;
        }
        let mut changes = self.0.lock();
        let Some(table) = changes.tables.get_mut(change.table) else { return };
        table.last = [change.old, change.new.filter(|_| change.old != change.new)];
        if let Some(old) = change.old {
            let places: Vec<i32> = if table.has(old) {
                Vec::new()
            } else {
                table.watched.columns.iter().map(|(_, place)| *place).collect()
            };
            table.note(old, || places.iter().map(|place| value(*place)).collect::<Option<Values>>().map(Some));
        }
        if let Some(new) = change.new.filter(|_| change.old != change.new) {
            table.note(new, || Some(None));
        }
    }
}

//! The kind `bitmap(columns)`: for each value of each column the set of rows that hold it. A filter is answered by joining
//! such sets; the table is not touched.

mod filter;
mod key;
mod rows;
mod sorted;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::types::{Value, ValueRef};

use crate::Result;
use crate::index::content::{BuildError, Scan};
use crate::index::definition::Definition;
use crate::index::source::{Column, Source};
use filter::Filter;
use key::Key;
use rows::{Found, Rows, Union};
pub(crate) use sorted::Sorted;

/// Rows by the values of columns.
#[derive(Debug, Clone)]
pub(crate) struct Bitmap {
    columns: Arc<[Column]>,
    values: Vec<Values>,
    all: Rows,
}

/// The rows by value of one column.
#[derive(Debug, Clone, Default)]
struct Values {
    rows: Sorted<Key, Rows>,
    nulls: Rows,
}

impl Values {
    fn set(&mut self, key: Option<Key>, row: i64, present: bool) -> bool {
        let Some(key) = key else { return self.nulls.set(row, present) };
        let mut changed = false;
        self.rows.alter(key, |rows| match rows {
            Some(mut rows) => {
                changed = rows.set(row, present);
                (!rows.is_empty()).then_some(rows)
            }
            None => {
                changed = present;
                present.then(|| Rows::one(row))
            }
        });
        changed
    }
}

impl Bitmap {
    /// Whether values can be put in the order in which SQLite compares them.
    pub(crate) fn check(connection: &Connection, definition: &Definition, source: &Source) -> Result<()> {
        let wrong = |why: String| Err(definition.kind.wrong(&definition.name, &why));
        let encoding: String = connection.pragma_query_value(None, "encoding", |row| row.get(0))?;
        if encoding != "UTF-8" {
            return wrong(format!("the file keeps its text as {encoding}; only UTF-8 is ordered as SQLite orders it"));
        }
        match source.columns.iter().find(|c| !["BINARY", "NOCASE", "RTRIM"].contains(&c.collation.as_str())) {
            Some(column) => wrong(format!("column {} has the collation {}", column.name, column.collation)),
            None => Ok(()),
        }
    }

    pub(crate) fn build(sources: &[Source], scan: Scan<'_>) -> std::result::Result<Self, BuildError> {
        let columns: Arc<[Column]> = sources.first().map(|source| source.columns.clone()).unwrap_or_default().into();
        let mut values: Vec<BTreeMap<Option<Key>, Vec<i64>>> = vec![BTreeMap::new(); columns.len()];
        let mut all = Vec::new();
        scan(0, &mut |row| {
            let id: i64 = row.get(0)?;
            all.push(id);
            for (i, (column, values)) in columns.iter().zip(&mut values).enumerate() {
                values.entry(Key::of(row.get_ref(i + 1)?, column)).or_default().push(id);
            }
            Ok(())
        })?;
        let values = values.into_iter().map(|values| {
            let mut column = Values::default();
            for (key, ids) in values {
                let rows = Rows::of_sorted(&ids);
                match key {
                    Some(key) => column.rows.alter(key, |_| Some(rows)),
                    None => column.nulls = rows,
                }
            }
            column
        });
        Ok(Self { values: values.collect(), columns, all: Rows::of_sorted(&all) })
    }

    /// False when the index did not hold the row so.
    pub(crate) fn change(&mut self, row: i64, old: Option<&[Value]>, new: Option<&[Value]>) -> bool {
        let mut consistent = true;
        if old.is_some() != new.is_some() {
            consistent &= self.all.set(row, new.is_some());
        }
        for (i, (column, values)) in self.columns.iter().zip(&mut self.values).enumerate() {
            let key = |values: Option<&[Value]>| {
                values.and_then(|values| values.get(i)).map(|value| Key::of(ValueRef::from(value), column))
            };
            let (old, new) = (key(old), key(new));
            if old == new {
                continue;
            }
            if let Some(old) = old {
                consistent &= values.set(old, row, false);
            }
            if let Some(new) = new {
                consistent &= values.set(new, row, true);
            }
        }
        consistent
    }

    /// The rows of which a filter is true.
    ///
    /// # Errors
    /// `ERR_FILTER_SYNTAX`
    fn find(&self, filter: &str) -> Result<Found> {
        let filter = Filter::parse(filter, &self.columns)?;
        Ok(self.rows(&filter, true))
    }

    /// The ids of the rows of which a filter is true, ascending.
    ///
    /// # Errors
    /// `ERR_FILTER_SYNTAX`
    pub(crate) fn ids(&self, filter: &str) -> Result<Vec<i64>> {
        self.find(filter).map(|found| found.ids())
    }

    /// How many they are.
    ///
    /// # Errors
    /// `ERR_FILTER_SYNTAX`
    pub(crate) fn count(&self, filter: &str) -> Result<usize> {
        self.find(filter).map(|found| found.len())
    }

    /// The rows of which `filter` is true, or those of which it is false; it can be neither.
    fn rows(&self, filter: &Filter, wanted: bool) -> Found {
        match (filter, wanted) {
            (Filter::Not(inner), _) => self.rows(inner, !wanted),
            (Filter::And(parts), true) | (Filter::Or(parts), false) => {
                let mut parts = parts.iter();
                let Some(first) = parts.next() else { return self.everything() };
                parts.fold(self.rows(first, wanted), |found, part| {
                    if found.len() == 0 { found } else { found.and(&self.rows(part, wanted)) }
                })
            }
            (Filter::And(parts), false) | (Filter::Or(parts), true) => {
                parts.iter().map(|part| self.rows(part, wanted)).fold(Found::default(), Found::or)
            }
            (Filter::Within { or_null: true, .. }, false) => Found::default(),
            (Filter::Within { column, spans, .. }, true) => self.within(*column, spans),
            (Filter::Within { column, spans, .. }, false) => {
                self.everything().without(&self.nulls(*column)).without(&self.within(*column, spans))
            }
            (Filter::Is { column, span: None }, true) => self.nulls(*column),
            (Filter::Is { column, span: Some(span) }, true) => self.within(*column, std::slice::from_ref(span)),
            (Filter::Is { .. }, false) => self.everything().without(&self.rows(filter, true)),
        }
    }

    fn everything(&self) -> Found {
        Found::of(&self.all)
    }

    fn nulls(&self, column: usize) -> Found {
        self.values.get(column).map(|values| Found::of(&values.nulls)).unwrap_or_default()
    }

    fn within(&self, column: usize, spans: &[filter::Span]) -> Found {
        let mut found = Union::default();
        let Some(values) = self.values.get(column) else { return Found::default() };
        for span in spans {
            if let (Bound::Included(low), Bound::Included(high)) = (&span.low, &span.high)
                && low == high
            {
                values.rows.get(low).into_iter().for_each(|rows| found.add(rows));
                continue;
            }
            for (_, rows) in values.rows.range(span.low.as_ref(), span.high.as_ref()) {
                found.add(rows);
            }
        }
        found.finish()
    }
}

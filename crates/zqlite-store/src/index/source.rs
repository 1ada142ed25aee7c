//! The tables that an index is made from: what SQLite knows of them, checked against what the definition says.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension};

use crate::index::definition::{Definition, quote};
use crate::{Error, ErrorCode, Result};

/// How SQLite converts values of a column, <https://sqlite.org/datatype3.html#determination_of_column_affinity>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Affinity {
    /// Also called NONE.
    Blob,
    Text,
    Numeric,
    Integer,
    Real,
}

impl Affinity {
    fn of(declared: &str) -> Self {
        let declared = declared.to_ascii_uppercase();
        let has = |words: &[&str]| words.iter().any(|word| declared.contains(word));
        if has(&["INT"]) {
            Self::Integer
        } else if has(&["CHAR", "CLOB", "TEXT"]) {
            Self::Text
        } else if declared.is_empty() || has(&["BLOB"]) {
            Self::Blob
        } else if has(&["REAL", "FLOA", "DOUB"]) {
            Self::Real
        } else {
            Self::Numeric
        }
    }
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// Its place in the table.
    pub(crate) place: i32,
    pub(crate) affinity: Affinity,
    /// The name of its collation, in upper case.
    pub(crate) collation: String,
}

/// A table with the columns of it that an index reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// As SQLite spells it.
    pub(crate) table: String,
    /// The column that is the row id.
    pub(crate) key: String,
    pub(crate) columns: Vec<Column>,
}

impl Source {
    /// Finds the table and columns that `definition` wants.
    ///
    /// # Errors
    /// `ERR_INDEX_DEFINITION` saying why the table cannot have such an index.
    pub(crate) fn bind<S: AsRef<str>>(
        connection: &Connection,
        definition: &Definition,
        table: &str,
        columns: &[S],
    ) -> Result<Self> {
        let wrong = |why: String| definition.kind.wrong(&definition.name, &why);
        let found = connection
            .prepare_cached(
                "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' AND name = ?1 COLLATE NOCASE",
            )?
            .query_row([table], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, bool>(2)?)))
            .optional()?;
        let Some((name, kind, without_rowid)) = found else {
            return Err(wrong(format!("there is no table {table} in the main file")));
        };
        if kind != "table" {
            let kind = if kind == "virtual" || kind == "shadow" { "virtual table" } else { kind.as_str() };
            return Err(wrong(format!("{name} is a {kind}, and only an ordinary table can have one")));
        }
        if without_rowid {
            return Err(wrong(format!("{name} is WITHOUT ROWID; the table needs an INTEGER PRIMARY KEY")));
        }
        let Some(key) = row_id_key(connection, &name)? else {
            return Err(wrong(format!("{name} has no INTEGER PRIMARY KEY, which keeps its row ids what they are")));
        };
        let mut known =
            connection.prepare_cached("SELECT cid, name, type, hidden FROM pragma_table_xinfo(?1, 'main')")?;
        let known = known
            .query_map([&name], |row| {
                Ok((row.get::<_, i32>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get::<_, i32>(3)?))
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let columns = columns.iter().map(|column| {
            let column = column.as_ref();
            let found = known.iter().find(|(_, name, ..)| name.eq_ignore_ascii_case(column));
            let Some((place, column, declared, hidden)) = found else {
                return Err(wrong(format!("table {name} has no column {column}")));
            };
            if *hidden == 2 {
                return Err(wrong(format!("column {column} is generated when it is read; make it STORED")));
            }
            Ok(Column {
                name: column.clone(),
                place: *place,
                affinity: Affinity::of(declared),
                collation: crate::sqlite::collation(connection, &name, column),
            })
        });
        let columns = columns.collect::<Result<_>>()?;
        Ok(Self { table: name, key, columns })
    }
}

/// The column that is the table's row id, without which VACUUM may change row ids.
fn row_id_key(connection: &Connection, table: &str) -> Result<Option<String>> {
    // INTEGER PRIMARY KEY DESC is no row id, for historical reasons, and has an index of its own instead.
    let sql = "SELECT name FROM pragma_table_info(?1, 'main') WHERE pk = 1 AND type = 'INTEGER' COLLATE NOCASE
       AND NOT EXISTS (SELECT 1 FROM pragma_table_info(?1, 'main') WHERE pk > 1)
       AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1, 'main') WHERE origin = 'pk')";
    Ok(connection.prepare_cached(sql)?.query_row([table], |row| row.get(0)).optional()?)
}

/// A row that an index cannot hold, or two rows that it cannot hold together.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Which of the sources.
    pub(crate) source: usize,
    pub(crate) row: i64,
    /// Which of the source's columns; `None` when it is the row id itself.
    pub(crate) column: Option<usize>,
    /// Why.
    pub(crate) reason: String,
}

impl Fault {
    /// The error that names table, row id, column and value.
    pub(crate) fn explain(&self, definition: &Definition, sources: &[Source], values: Option<&[Value]>) -> Error {
        let source = sources.get(self.source);
        let table = source.map_or("?", |s| s.table.as_str());
        let mut place = format!("table {table}, row {}", self.row);
        if let Some(at) = self.column {
            let column = source.and_then(|s| s.columns.get(at)).map_or("?", |c| c.name.as_str());
            place.push_str(&format!(", column {column}"));
            if let Some(value) = values.and_then(|values| values.get(at)) {
                place.push_str(&format!(", {}", show(value)));
            }
        }
        let (kind, name) = (definition.kind.text(), &definition.name);
        Error::new(ErrorCode::IndexRow, format!("{kind} index {name} cannot hold {place}: {}", self.reason))
    }
}

/// A value for an error message, never long.
pub(crate) fn show(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Integer(v) => v.to_string(),
        Value::Real(v) => v.to_string(),
        Value::Text(text) => zqlite_cidr::Excerpt::around(text.as_bytes(), 0).to_string(),
        Value::Blob(bytes) => format!("a blob of {} bytes", bytes.len()),
    }
}

/// Reads these columns behind the row id: of all rows in order, or of one.
pub(crate) fn select<'a>(table: &str, key: &str, columns: impl Iterator<Item = &'a str>, one: bool) -> String {
    let key = quote(key);
    let columns: String = columns.map(|column| format!(", {}", quote(column))).collect();
    let rows = if one { format!("WHERE {key} = ?1") } else { format!("ORDER BY {key}") };
    format!("SELECT {key}{columns} FROM main.{} {rows}", quote(table))
}

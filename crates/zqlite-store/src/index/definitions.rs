//! The tables in which definitions and the commit number are kept: ordinary ones, so that a stock SQLite sees no more than
//! two small tables.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension};

use crate::index::definition::{Definition, KindName};
use crate::index::statement::{Create, SchemaChange};
use crate::{Error, ErrorCode, Result};

/// Begins the names of the tables, which no caller may change.
pub(crate) const TABLES: &str = "zqlite_index";

const MAKE: &str = "
  CREATE TABLE IF NOT EXISTS main.zqlite_index (name TEXT PRIMARY KEY COLLATE NOCASE, tbl_name TEXT NOT NULL COLLATE NOCASE, sql TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS main.zqlite_index_commit (one INTEGER PRIMARY KEY CHECK (one = 1), number INTEGER NOT NULL);";

fn exists(connection: &Connection, table: &str) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM main.sqlite_schema WHERE type = 'table' AND name = ?1)";
    Ok(connection.prepare_cached(sql)?.query_row([table], |row| row.get(0))?)
}

/// Every definition by its name in lower case, or why it is none.
pub(crate) fn all(connection: &Connection) -> Result<Vec<(String, Result<Definition>)>> {
    if !exists(connection, TABLES)? {
        return Ok(Vec::new());
    }
    // Whoever wrote the file may have put anything there; it must open all the same.
    let sql = "SELECT CAST(name AS TEXT), coalesce(CAST(sql AS TEXT), '') FROM main.zqlite_index WHERE name IS NOT NULL ORDER BY name";
    let Ok(mut statement) = connection.prepare_cached(sql) else {
        tracing::warn!("the table zqlite_index is not one of definitions; there are no indexes");
        return Ok(Vec::new());
    };
    let text = |row: &rusqlite::Row<'_>, at: usize| match row.get_ref(at)? {
        ValueRef::Text(text) => Ok(String::from_utf8_lossy(text).into_owned()),
        _ => Ok::<_, rusqlite::Error>(String::new()),
    };
    let rows = statement.query_map([], |row| Ok((text(row, 0)?, text(row, 1)?)))?;
    rows.map(|row| {
        let (name, sql) = row?;
        let definition = match SchemaChange::parse(&sql) {
            Some(SchemaChange::Create(Ok(Create { definition, .. }))) if definition.name == name => Ok(definition),
            Some(SchemaChange::Create(Err(error))) => Err(error),
            _ => {
                let message = format!("the row of {name} in {TABLES} is not the statement that makes it");
                Err(Error::new(ErrorCode::IndexDefinition, message))
            }
        };
        Ok((name.to_ascii_lowercase(), definition))
    })
    .collect()
}

/// Stands in for a definition that cannot be read.
pub(crate) fn nameless(name: &str) -> Definition {
    let columns = Vec::new();
    Definition { name: name.into(), table: String::new(), kind: KindName::Cidr, columns, options: Vec::new() }
}

/// The number of the last commit that changed an index; 0 before the first.
pub(crate) fn number(connection: &Connection) -> Result<i64> {
    match connection.prepare_cached("SELECT CAST(number AS INTEGER) FROM main.zqlite_index_commit WHERE one = 1") {
        Ok(mut statement) => Ok(statement.query_row([], |row| row.get(0)).optional()?.unwrap_or(0)),
        Err(_) => Ok(0),
    }
}

/// Takes the next number.
pub(crate) fn advance(connection: &Connection) -> Result<i64> {
    let sql = "INSERT INTO main.zqlite_index_commit VALUES (1, 1) ON CONFLICT DO UPDATE SET number = number + 1 RETURNING number";
    if !exists(connection, "zqlite_index_commit")? {
        connection.execute_batch(MAKE)?;
    }
    Ok(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

pub(crate) fn has(connection: &Connection, name: &str) -> Result<bool> {
    if !exists(connection, TABLES)? {
        return Ok(false);
    }
    let sql = "SELECT EXISTS (SELECT 1 FROM main.zqlite_index WHERE name = ?1)";
    Ok(connection.prepare_cached(sql)?.query_row([name], |row| row.get(0))?)
}

/// Whether an index of this name is there already, and that is fine.
///
/// # Errors
/// `ERR_INDEX_DEFINITION` when it is not.
pub(crate) fn is_taken(connection: &Connection, definition: &Definition, if_not_exists: bool) -> Result<bool> {
    let name = &definition.name;
    let sql =
        "SELECT type FROM main.sqlite_schema WHERE name = ?1 COLLATE NOCASE AND type IN ('table', 'index', 'view')";
    let taken: Option<String> = connection.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()?;
    let taken = if has(connection, name)? { Some("index".to_owned()) } else { taken };
    match taken {
        None => Ok(false),
        Some(kind) if kind == "index" && if_not_exists => Ok(true),
        Some(kind) => Err(Error::new(
            ErrorCode::IndexDefinition,
            format!("there is already another {kind} with this name: {name}"),
        )),
    }
}

pub(crate) fn insert(connection: &Connection, definition: &Definition) -> Result<()> {
    connection.execute_batch(MAKE)?;
    let row = (&definition.name, &definition.table, definition.to_string());
    connection.prepare_cached("INSERT INTO main.zqlite_index VALUES (?1, ?2, ?3)")?.execute(row)?;
    Ok(())
}

pub(crate) fn delete(connection: &Connection, name: &str) -> Result<()> {
    connection.prepare_cached("DELETE FROM main.zqlite_index WHERE name = ?1")?.execute([name])?;
    Ok(())
}

/// Has the definitions follow a statement that SQLite has run.
///
/// # Errors
/// `ERR_INDEX_DEFINITION` when it took the name of an index; the statement is to be undone.
pub(crate) fn follow(connection: &Connection, change: &SchemaChange) -> Result<()> {
    if !exists(connection, TABLES)? {
        return Ok(());
    }
    match change {
        SchemaChange::RenameTable { from, to } => rewrite(connection, |definition| definition.rename_table(from, to))?,
        SchemaChange::RenameColumn { table, from, to } => {
            rewrite(connection, |definition| definition.rename_column(table, from, to))?;
        }
        SchemaChange::Rewrite { table } => {
            let sql = "DELETE FROM main.zqlite_index WHERE tbl_name = ?1
               AND NOT EXISTS (SELECT 1 FROM main.sqlite_schema s WHERE s.name = ?1 COLLATE NOCASE AND s.type = 'table')";
            connection.prepare_cached(sql)?.execute([table])?;
        }
        SchemaChange::Create(_) | SchemaChange::DropIndex { .. } | SchemaChange::Other => {}
    }
    let sql = "SELECT i.name FROM main.zqlite_index i JOIN main.sqlite_schema s ON s.name = i.name COLLATE NOCASE
       WHERE s.type IN ('table', 'index', 'view') LIMIT 1";
    let taken: Option<String> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    match taken {
        Some(name) => Err(Error::new(
            ErrorCode::IndexDefinition,
            format!("there is already another index with this name: {name}"),
        )),
        None => Ok(()),
    }
}

fn rewrite(connection: &Connection, mut change: impl FnMut(&mut Definition) -> bool) -> Result<()> {
    for definition in all(connection)?.into_iter().filter_map(|(_, definition)| definition.ok()) {
        let mut changed = definition;
        if change(&mut changed) {
            let row = (&changed.name, &changed.table, changed.to_string());
            let sql = "UPDATE main.zqlite_index SET tbl_name = ?2, sql = ?3 WHERE name = ?1";
            connection.prepare_cached(sql)?.execute(row)?;
        }
    }
    Ok(())
}

//! What every connection is set up with beyond the defaults: attached files, pragmas, limits, extensions.

use std::path::PathBuf;

use rusqlite::Connection;
use rusqlite::limits::Limit;

use crate::index::quote;
use crate::settings::{distance, is_own};
use crate::{Error, ErrorCode, Result};

/// Settings of each connection of a store.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Further database files, by the name of their schema.
    pub attach: Vec<Attached>,
    /// Names and values, as text; zqlite's own are settings of the store.
    pub pragmas: Vec<(String, String)>,
    /// Names as in [`LIMITS`] and values.
    pub limits: Vec<(String, i32)>,
    /// Shared libraries to load.
    pub extensions: Vec<PathBuf>,
}

/// A further database file.
#[derive(Debug, Clone)]
pub struct Attached {
    /// The name of its schema.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Whether it is only read.
    pub readonly: bool,
}

/// What a connection may do with attached files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// Also write those that there are.
    Write,
    /// Also make those that there are not.
    Make,
}

/// SQLite's run-time limits by name, see <https://sqlite.org/limits.html>.
pub const LIMITS: &[(&str, Limit)] = &[
    ("length", Limit::SQLITE_LIMIT_LENGTH),
    ("sqlLength", Limit::SQLITE_LIMIT_SQL_LENGTH),
    ("column", Limit::SQLITE_LIMIT_COLUMN),
    ("exprDepth", Limit::SQLITE_LIMIT_EXPR_DEPTH),
    ("compoundSelect", Limit::SQLITE_LIMIT_COMPOUND_SELECT),
    ("vdbeOp", Limit::SQLITE_LIMIT_VDBE_OP),
    ("functionArg", Limit::SQLITE_LIMIT_FUNCTION_ARG),
    ("attached", Limit::SQLITE_LIMIT_ATTACHED),
    ("likePatternLength", Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH),
    ("variableNumber", Limit::SQLITE_LIMIT_VARIABLE_NUMBER),
    ("triggerDepth", Limit::SQLITE_LIMIT_TRIGGER_DEPTH),
];

/// Pragmas that the store rests on, and so sets itself.
const OWN_PRAGMAS: &[&str] = &[
    "busy_timeout",
    "cache_size",
    "foreign_keys",
    "journal_mode",
    "locking_mode",
    "query_only",
    "synchronous",
    "temp_store",
    "trusted_schema",
    "wal_autocheckpoint",
    "wal_checkpoint",
    "writable_schema",
    "journal_size_limit",
    "schema_version",
    "data_version",
];

/// Pragmas that say how a new file is laid out, and so come before anything is written to it; in the order in which they are
/// set, as the later ones look at the file, which settles its encoding.
const FORMAT_PRAGMAS: &[&str] = &["encoding", "page_size", "auto_vacuum"];

fn is_among(names: &[&str], name: &str) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

impl Setup {
    /// Says how a new file is laid out; changes nothing in one that is there.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub(crate) fn format(&self, connection: &Connection) -> Result<()> {
        for format in FORMAT_PRAGMAS {
            for (name, value) in self.pragmas.iter().filter(|(name, _)| name.eq_ignore_ascii_case(format)) {
                set(connection, name, value)?;
            }
        }
        Ok(())
    }

    /// With that access to attached files, where they are not only read.
    ///
    /// # Errors
    /// `ERR_TYPE` naming the setting that cannot be; `ERR_SQL`, `ERR_CANNOT_OPEN` and others as SQLite tells.
    pub(crate) fn apply(&self, connection: &mut Connection, access: Access) -> Result<()> {
        self.load_extensions(connection)?;
        for Attached { name, path, readonly } in &self.attach {
            let mode = match access {
                Access::Make if !readonly => "rwc",
                Access::Write if !readonly => "rw",
                _ => "ro",
            };
            let uri = format!("file:{}?mode={mode}", escape(&path.to_string_lossy()));
            connection.execute("ATTACH ?1 AS ?2", [uri.as_str(), name]).map_err(|e| {
                let mut error = Error::from(e);
                error.message = format!("attach.{name}: {}: {}", path.display(), error.message);
                error
            })?;
            if mode == "rwc" {
                connection.execute_batch(&pragma_of(name, "journal_mode = wal"))?;
            }
            if mode != "ro" {
                connection.execute_batch(&pragma_of(name, "synchronous = full"))?;
            }
        }
        for (name, value) in self.pragmas.iter().filter(|(name, _)| !is_own(name)) {
            if is_among(OWN_PRAGMAS, name) {
                return Err(Error::new(ErrorCode::Type, format!("pragmas.{name} is set by zqlite itself")));
            }
            check_name(connection, name)?;
            if !is_among(FORMAT_PRAGMAS, name) {
                set(connection, name, value)?;
            }
        }
        for (name, value) in &self.limits {
            let known = LIMITS.iter().find(|(known, _)| known == name);
            let (_, limit) = known.ok_or_else(|| Error::new(ErrorCode::Type, format!("there is no limit {name:?}")))?;
            connection.set_limit(*limit, *value)?;
        }
        Ok(())
    }

    fn load_extensions(&self, connection: &mut Connection) -> Result<()> {
        for path in &self.extensions {
            crate::sqlite::load_extension(connection, path)?;
        }
        Ok(())
    }
}

/// A pragma of one schema, whose name may be any, such as `order`. (rusqlite quotes only what is no word.)
pub(crate) fn pragma_of(schema: &str, pragma: &str) -> String {
    format!("PRAGMA {}.{pragma}", quote(schema))
}

fn set(connection: &Connection, name: &str, value: &str) -> Result<()> {
    connection.pragma_update(None, name, value).map_err(|e| {
        let mut error = Error::from(e);
        error.message = format!("pragmas.{name}: {}", error.message);
        error
    })
}

/// SQLite ignores a pragma that it does not know.
fn check_name(connection: &Connection, name: &str) -> Result<()> {
    let mut statement = connection.prepare("SELECT name FROM pragma_pragma_list")?;
    let known: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    if known.iter().any(|known| known.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    let name_lower = name.to_ascii_lowercase();
    let near = known.iter().min_by_key(|known| distance(known, &name_lower)).map_or("", String::as_str);
    Err(Error::new(ErrorCode::Type, format!("pragmas.{name}: there is no such pragma; did you mean {near}?")))
}

/// A path within a URI, <https://sqlite.org/uri.html>.
fn escape(path: &str) -> String {
    path.replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}

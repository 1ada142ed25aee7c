//! One SQL text, shared by every lane that runs it, and what the lanes learned of it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

use crate::index::{SchemaChange, TABLES};
use crate::settings::{Pragma, skip_space};

/// Steps from which on a statement counts as long: some hundred microseconds. Readers take up to 32 shorter ones at once.
pub(crate) const LONG: i32 = 5_000;
/// Runs after which a failure is forgotten: the writer then takes its chance again that it may have to undo a whole group.
const LATELY: u16 = 1_000;

/// A SQL text.
#[derive(Debug)]
pub struct Statement {
    /// Never reused within a process; the key of the lanes' caches.
    pub(crate) id: u64,
    sql: Box<str>,
    route: AtomicU8,
    /// Steps of SQLite's virtual machine that it takes: rises at once, falls slowly. 0 before it first ran.
    steps: AtomicI32,
    /// Runs on the writer's lane until its last failure is forgotten.
    suspect: AtomicU16,
    /// Set when it is one of zqlite's own pragmas.
    pub(crate) pragma: Option<Pragma>,
    /// Set when it changes the schema.
    pub(crate) schema_change: Option<SchemaChange>,
}

/// Which lane a statement belongs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Route {
    /// Not prepared yet; the first word is the best guess.
    Unknown = 0,
    /// Does not change the database.
    Read = 1,
    /// Changes it, or may.
    Write = 2,
}

impl Statement {
    fn new(sql: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            sql: sql.into(),
            route: AtomicU8::new(Route::Unknown as u8),
            steps: AtomicI32::new(0),
            suspect: AtomicU16::new(0),
            pragma: Pragma::parse(sql),
            schema_change: SchemaChange::parse(sql),
        }
    }

    /// The text.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    pub(crate) fn route(&self) -> Route {
        match self.route.load(Ordering::Relaxed) {
            1 => Route::Read,
            2 => Route::Write,
            _ if looks_readonly(&self.sql) => Route::Unknown,
            _ => Route::Write,
        }
    }

    /// Notes how many steps it took. They tell better than the clock, which others' work on the machine moves too.
    pub(crate) fn took(&self, steps: i32) {
        let before = self.steps.load(Ordering::Relaxed);
        // Lanes that note at the same time may lose one of the values, which is no matter.
        self.steps.store(steps.max(before - before / 8).max(1), Ordering::Relaxed);
    }

    /// Notes that it took too long to have others wait behind it.
    pub(crate) fn found_long(&self) {
        self.took(LONG);
    }

    /// Whether others should not wait behind it. Of one that never ran it is found out.
    pub(crate) fn is_long(&self) -> bool {
        self.steps.load(Ordering::Relaxed) >= LONG
    }

    /// Notes how it ended on the writer's lane, where it runs once at a time.
    pub(crate) fn wrote(&self, well: bool) {
        let before = self.suspect.load(Ordering::Relaxed);
        if !well || before > 0 {
            self.suspect.store(if well { before - 1 } else { LATELY }, Ordering::Relaxed);
        }
    }

    /// Whether it will hardly fail now: not one that was never prepared, which may be no SQL at all. A change of the schema may be
    /// several statements to SQLite.
    pub(crate) fn will_hardly_fail(&self) -> bool {
        self.schema_change.is_none()
            && self.route.load(Ordering::Relaxed) != Route::Unknown as u8
            && self.suspect.load(Ordering::Relaxed) == 0
    }

    /// Called by a lane that has prepared the statement and so knows.
    pub(crate) fn learn(&self, readonly: bool) {
        self.route.store(if readonly { Route::Read } else { Route::Write } as u8, Ordering::Relaxed);
    }
}

/// Whether the first word is one that usually reads. A reader lane that prepares a writing statement all the same
/// passes it on.
fn looks_readonly(sql: &str) -> bool {
    let sql = skip_space(sql);
    let word = sql.trim_start_matches(|c: char| c.is_whitespace() || c == '(').get(..6).unwrap_or(sql);
    ["select", "values", "with", "explai", "pragma"]
        .iter()
        .any(|w| word.get(..w.len()).is_some_and(|p| p.eq_ignore_ascii_case(w)))
}

/// The statements in use, so that one text is one [`Statement`] whoever asks.
#[derive(Default)]
pub(crate) struct Statements(Mutex<HashMap<Box<str>, Weak<Statement>>>);

impl Statements {
    /// Entries of statements that nobody holds are swept when the table has doubled since the last sweep.
    const SWEEP_FROM: usize = 1024;

    pub(crate) fn intern(&self, sql: &str) -> Arc<Statement> {
        let mut table = self.0.lock();
        if let Some(statement) = table.get(sql).and_then(Weak::upgrade) {
            return statement;
        }
        if table.len() >= Self::SWEEP_FROM && table.len() == table.capacity() {
            table.retain(|_, s| s.strong_count() > 0);
        }
        let statement = Arc::new(Statement::new(sql));
        table.insert(sql.into(), Arc::downgrade(&statement));
        statement
    }
}

/// Why the authorizer refused a statement. SQLite itself only says "not authorized".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Refusal {
    None = 0,
    Transaction,
    Temp,
    Attach,
    Pragma,
    Function,
    Index,
    Own,
    Extension,
}

impl Refusal {
    pub(crate) fn from_u8(value: u8) -> Self {
        [
            Self::None,
            Self::Transaction,
            Self::Temp,
            Self::Attach,
            Self::Pragma,
            Self::Function,
            Self::Index,
            Self::Own,
            Self::Extension,
        ]
        .get(value as usize)
        .copied()
        .unwrap_or(Self::None)
    }

    pub(crate) fn message(self) -> &'static str {
        match self {
            Self::None => "the statement is not allowed",
            Self::Transaction => {
                "transaction control is not allowed here; use transaction() or executeBatchTransaction()"
            }
            Self::Temp => "TEMP objects belong to one connection, and calls share connections; use an ordinary table",
            Self::Attach => "ATTACH and DETACH change one connection, and calls share connections",
            Self::Pragma => {
                "this pragma changes one connection, and calls share connections; use the options of open()"
            }
            Self::Index => {
                "the tables whose names begin with zqlite_index are kept by CREATE INDEX … USING and DROP INDEX; they can be read"
            }
            Self::Own => {
                "a zqlite_ pragma is a call of its own, written PRAGMA zqlite_name [= value]: not within a transaction, a batch or a stream"
            }
            Self::Extension => "extensions are loaded into every connection by the option of open()",
            Self::Function => {
                "changes(), total_changes() and last_insert_rowid() are of a connection that calls share; use the call's result or RETURNING"
            }
        }
    }
}

/// Pragmas that only read, with or without an argument, or that change the file and not the connection.
const ALLOWED_PRAGMAS: &[&str] = &[
    "application_id",
    "collation_list",
    "compile_options",
    "database_list",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "module_list",
    "page_count",
    "pragma_list",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];

/// Decides on one action of a statement that a caller sent. `sqlite3_stmt_readonly` does not catch these: BEGIN,
/// ATTACH and most pragmas are "read-only" to it.
pub(crate) fn judge(context: &AuthContext<'_>) -> Refusal {
    match context.action {
        AuthAction::Transaction { .. } | AuthAction::Savepoint { .. } => Refusal::Transaction,
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => Refusal::Attach,
        AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateTempView { .. }
        | AuthAction::DropTempIndex { .. }
        | AuthAction::DropTempTable { .. }
        | AuthAction::DropTempTrigger { .. }
        | AuthAction::DropTempView { .. } => Refusal::Temp,
        AuthAction::Pragma { pragma_name, pragma_value } => {
            let name = pragma_name.to_ascii_lowercase();
            // Without a value these report a setting that is the same on every connection.
            let reports = pragma_value.is_none()
                && [
                    "journal_mode",
                    "synchronous",
                    "page_size",
                    "encoding",
                    "auto_vacuum",
                    "foreign_keys",
                    "schema_version",
                ]
                .contains(&name.as_str());
            if name.starts_with("zqlite_") {
                return Refusal::Own;
            }
            if reports || ALLOWED_PRAGMAS.contains(&name.as_str()) { Refusal::None } else { Refusal::Pragma }
        }
        AuthAction::Function { function_name } => {
            let connection_state = ["changes", "total_changes", "last_insert_rowid"];
            if function_name.eq_ignore_ascii_case("load_extension") {
                Refusal::Extension
            } else if connection_state.iter().any(|f| f.eq_ignore_ascii_case(function_name)) {
                Refusal::Function
            } else {
                Refusal::None
            }
        }
        AuthAction::Insert { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::Delete { table_name }
        | AuthAction::CreateTable { table_name }
        | AuthAction::DropTable { table_name }
        | AuthAction::AlterTable { table_name, .. }
        | AuthAction::CreateIndex { table_name, .. }
        | AuthAction::CreateTrigger { table_name, .. }
            if table_name.get(..TABLES.len()).is_some_and(|name| name.eq_ignore_ascii_case(TABLES)) =>
        {
            Refusal::Index
        }
        _ => Refusal::None,
    }
}

/// SQLite's word for a refusal.
pub(crate) fn authorization(refusal: Refusal) -> Authorization {
    if refusal == Refusal::None { Authorization::Allow } else { Authorization::Deny }
}

//! One catalogue of everything that can go wrong: the same list serves Rust, TypeScript and `docs/errors.md`.

use std::fmt;

/// The result of every fallible operation of the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A line of the catalogue, as shown to users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// The stable code, `ERR_…`.
    pub code: &'static str,
    /// Whether the same call may succeed later without being changed.
    pub retryable: bool,
    /// What happened, in one sentence.
    pub description: &'static str,
}

macro_rules! catalogue {
    ($($variant:ident $code:literal $retryable:literal $description:literal)*) => {
        /// What went wrong, as one word.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ErrorCode { $(#[doc = $description] $variant),* }

        /// Every error of zqlite, in the order of [`ErrorCode`].
        pub const CATALOGUE: &[CatalogueEntry] =
            &[$(CatalogueEntry { code: $code, retryable: $retryable, description: $description }),*];
    };
}

catalogue! {
    Sql "ERR_SQL" false "SQLite refused the statement: a syntax error, an unknown name, or a run-time failure such as an overflow."
    Constraint "ERR_CONSTRAINT" false "A UNIQUE, CHECK, NOT NULL, PRIMARY KEY, foreign-key or trigger constraint refused the change."
    ExpectationFailed "ERR_EXPECTATION_FAILED" false "A statement of a batch returned another number of rows or changes than it was told to expect; the batch was rolled back."
    Parameters "ERR_PARAMETERS" false "The parameters do not fit the statement: too few, too many, or an unknown name."
    Type "ERR_TYPE" false "A value or option has a type or range that is not accepted."
    NotAllowed "ERR_NOT_ALLOWED" false "The statement changes the state of a connection (transaction control, TEMP, ATTACH, a connection pragma, changes()), which calls share."
    Closed "ERR_CLOSED" false "The database is closed or closing."
    Busy "ERR_BUSY" true "Another process holds SQLite's lock on the file."
    LockedByProcess "ERR_LOCKED_BY_PROCESS" true "Another process owns the database file."
    QueueFull "ERR_QUEUE_FULL" true "Too many calls are waiting; nothing was started."
    Deadline "ERR_DEADLINE" true "The call's time ran out; it was rolled back."
    PoolTimeout "ERR_POOL_TIMEOUT" true "No connection was free within connectionTimeout; nothing was started."
    Cancelled "ERR_CANCELLED" false "The caller cancelled the call; it was rolled back."
    SnapshotTooOld "ERR_SNAPSHOT_TOO_OLD" true "A read held its snapshot for so long that the write-ahead log could not be kept within its limit."
    StepBudget "ERR_STEP_BUDGET" false "A synchronous call took more steps than it may take on the JavaScript thread; make it an asynchronous one."
    TransactionTimeout "ERR_TRANSACTION_TIMEOUT" true "A callback transaction held the writer lane for too long, or left it idle; it was rolled back."
    TransactionState "ERR_TRANSACTION_STATE" false "The call does not fit the state of the transaction: it has ended, or a database object was used within its own callback, or at once on its thread."
    Readonly "ERR_READONLY" false "The database was opened read-only, or went read-only after a failed commit; reopen it."
    CommitUnknown "ERR_COMMIT_UNKNOWN" false "The disk failed during COMMIT: the change may or may not survive. The database is read-only until it is reopened."
    DiskFull "ERR_DISK_FULL" true "The disk, or a limit on the size of the database, is full; nothing was changed."
    Io "ERR_IO" true "Reading or writing the file failed; nothing was changed."
    Corrupt "ERR_CORRUPT" false "The database file is damaged."
    NotADatabase "ERR_NOT_A_DATABASE" false "The file is not a SQLite database, or is encrypted."
    CannotOpen "ERR_CANNOT_OPEN" false "The database file cannot be opened: the folder is missing, or permission is denied."
    TooLarge "ERR_TOO_LARGE" false "A value, a statement or a request is larger than the limit."
    OutOfMemory "ERR_OUT_OF_MEMORY" true "There was not enough memory for the call."
    Migration "ERR_MIGRATION" false "The migrations given and those applied to the file do not agree: one was changed or is missing, or the file was migrated by newer code; nothing was changed."
    CidrSyntax "ERR_CIDR_SYNTAX" false "The text is not an address, prefix or range."
    AclRule "ERR_ACL_RULE" false "The access rule or peer is not valid."
    AclUnknown "ERR_ACL_UNKNOWN" false "No peer or class of the engine has this number."
    Addon "ERR_ADDON" false "The native addon does not load: no prebuilt binary is installed for this platform, or the system refuses it."
    IndexDefinition "ERR_INDEX_DEFINITION" false "The index cannot be: its kind, table, columns or options are wrong, or its name is taken."
    IndexRow "ERR_INDEX_ROW" false "A row does not fit an index of its table: a value does not parse; nothing was changed."
    IndexUnknown "ERR_INDEX_UNKNOWN" false "There is no index of this name and kind."
    IndexUnusable "ERR_INDEX_UNUSABLE" false "The index cannot answer: its definition no longer fits its table, or a row that was there before it was opened does not parse."
    FilterSyntax "ERR_FILTER_SYNTAX" false "The filter of a bitmap index is not understood."
    Internal "ERR_INTERNAL" false "A defect in zqlite; please report it."
}

impl ErrorCode {
    /// The catalogue's line of this code.
    pub fn entry(self) -> &'static CatalogueEntry {
        &CATALOGUE[self as usize]
    }
}

/// What is known of a failed change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// Nothing of it happened.
    #[default]
    RolledBack,
    /// It may or may not have happened.
    Unknown,
}

/// A failure with what a caller needs to act on it.
#[derive(Debug, Clone)]
pub struct Error {
    /// Which line of the catalogue.
    pub code: ErrorCode,
    /// What happened and to which input, in one sentence.
    pub message: String,
    /// For constraints: `unique`, `check`, `notnull`, `primarykey`, `foreignkey`, `trigger`, …
    pub constraint: Option<&'static str>,
    /// In a batch: the statement that failed, counted from 0.
    pub statement: Option<u32>,
    /// SQLite's extended result code, 0 where SQLite was not involved.
    pub sqlite_code: i32,
    /// What is known of the change.
    pub outcome: Outcome,
}

impl Error {
    /// A failure outside SQLite.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            constraint: None,
            statement: None,
            sqlite_code: 0,
            outcome: Outcome::default(),
        }
    }

    /// The same failure, naming the statement of the batch.
    #[must_use]
    pub fn at_statement(mut self, statement: u32) -> Self {
        self.statement = Some(statement);
        self
    }

    /// Whether the connection itself may be the cause, so that it is replaced.
    pub(crate) fn is_of_connection(&self) -> bool {
        matches!(self.code, ErrorCode::Io | ErrorCode::Corrupt | ErrorCode::NotADatabase | ErrorCode::OutOfMemory)
    }

    /// What a failing COMMIT means: the disk was full (nothing was written), or nobody can know.
    pub(crate) fn at_commit(mut self) -> Self {
        if !matches!(self.code, ErrorCode::DiskFull | ErrorCode::Busy | ErrorCode::Constraint) {
            self.message = format!("COMMIT failed: {}", self.message);
            self.code = ErrorCode::CommitUnknown;
            self.outcome = Outcome::Unknown;
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.entry().code, self.message)
    }
}

impl std::error::Error for Error {}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        match error {
            E::SqliteFailure(failure, message) => from_sqlite(failure.extended_code, message),
            E::SqlInputError { error, msg, sql, offset } => {
                let mut e = from_sqlite(error.extended_code, Some(msg));
                if let Ok(offset) = usize::try_from(offset) {
                    e.message = format!("{} (at byte {offset}, near {:?})", e.message, excerpt(&sql, offset));
                }
                e
            }
            E::MultipleStatement => Error::new(
                ErrorCode::Sql,
                "the text holds more than one statement; use executeBatch or executeBatchTransaction",
            ),
            E::NulError(_) => Error::new(ErrorCode::Sql, "the statement contains a NUL character"),
            E::InvalidPath(path) => {
                Error::new(ErrorCode::CannotOpen, format!("{} is not a usable path", path.display()))
            }
            other => Error::new(ErrorCode::Internal, other.to_string()),
        }
    }
}

fn from_sqlite(extended: i32, message: Option<String>) -> Error {
    use rusqlite::ffi;
    let code = match extended & 0xff {
        ffi::SQLITE_CONSTRAINT => ErrorCode::Constraint,
        ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED => ErrorCode::Busy,
        ffi::SQLITE_FULL => ErrorCode::DiskFull,
        ffi::SQLITE_IOERR => ErrorCode::Io,
        ffi::SQLITE_CORRUPT => ErrorCode::Corrupt,
        ffi::SQLITE_NOTADB => ErrorCode::NotADatabase,
        ffi::SQLITE_CANTOPEN | ffi::SQLITE_PERM => ErrorCode::CannotOpen,
        ffi::SQLITE_READONLY => ErrorCode::Readonly,
        ffi::SQLITE_TOOBIG => ErrorCode::TooLarge,
        ffi::SQLITE_NOMEM => ErrorCode::OutOfMemory,
        ffi::SQLITE_RANGE => ErrorCode::Parameters,
        ffi::SQLITE_AUTH => ErrorCode::NotAllowed,
        ffi::SQLITE_INTERRUPT => ErrorCode::Cancelled,
        ffi::SQLITE_MISUSE | ffi::SQLITE_INTERNAL => ErrorCode::Internal,
        _ => ErrorCode::Sql,
    };
    let message = message.unwrap_or_else(|| rusqlite::ffi::code_to_str(extended).to_owned());
    let mut error = Error::new(code, message);
    error.sqlite_code = extended;
    error.constraint = constraint_kind(extended);
    error
}

fn constraint_kind(extended: i32) -> Option<&'static str> {
    use rusqlite::ffi;
    if extended & 0xff != ffi::SQLITE_CONSTRAINT {
        return None;
    }
    Some(match extended {
        ffi::SQLITE_CONSTRAINT_UNIQUE => "unique",
        ffi::SQLITE_CONSTRAINT_PRIMARYKEY => "primarykey",
        ffi::SQLITE_CONSTRAINT_ROWID => "rowid",
        ffi::SQLITE_CONSTRAINT_CHECK => "check",
        ffi::SQLITE_CONSTRAINT_NOTNULL => "notnull",
        ffi::SQLITE_CONSTRAINT_FOREIGNKEY => "foreignkey",
        ffi::SQLITE_CONSTRAINT_TRIGGER => "trigger",
        ffi::SQLITE_CONSTRAINT_DATATYPE => "datatype",
        _ => "other",
    })
}

/// Up to 24 characters of the statement from a byte offset.
fn excerpt(sql: &str, offset: usize) -> String {
    sql.get(offset..).map(|rest| rest.chars().take(24).collect()).unwrap_or_default()
}

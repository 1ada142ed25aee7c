//! One configured connection and the statements it has prepared. A lane owns one and runs everything through it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashlink::LruCache;
use rusqlite::{Connection, OpenFlags, StatementStatus};

use crate::index::{Keeper, Local, Shelf};
use crate::job::{BatchItem, BeginMode, Call, Expect, Job, Want};
use crate::logs::{self, Log};
use crate::pressure::Pressure;
use crate::rows::{Item, Packer, Record, Shape};
use crate::settings::Applied;
use crate::setup::{Access, pragma_of};
use crate::statement::Statement;
use crate::store::Shared;
use crate::watch::Watch;
use crate::{Error, ErrorCode, Options, Result, sqlite};

/// Statements that a lane keeps prepared.
const CACHED_STATEMENTS: usize = 256;
/// How long a connection waits for a lock of another process or of the checkpoint.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for the writer of a shared file, which looks at its calls' deadlines in between.
const SHARED_BUSY_TIMEOUT: Duration = Duration::from_millis(10);

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Writer,
    Reader,
    /// A reader of long statements.
    Long,
    Stream,
    Steward,
    /// On the JavaScript thread: it waits for nobody.
    Sync,
}

/// An open connection, configured for its role; [`Lane`] borrows from it.
pub(crate) struct Opened {
    connection: Connection,
    role: Role,
    busy_timeout: Duration,
    watch: Arc<Watch>,
    local: Option<Arc<Local>>,
    pub(crate) since: Instant,
}

impl Drop for Opened {
    fn drop(&mut self) {
        if let Some(local) = &self.local {
            local.close();
        }
    }
}

/// Opens and configures a connection.
///
/// # Errors
/// As SQLite tells: `ERR_NOT_A_DATABASE`, `ERR_CORRUPT`, `ERR_CANNOT_OPEN`, `ERR_DISK_FULL`, `ERR_IO`.
pub(crate) fn open(path: Option<&Path>, role: Role, options: &Options, pressure: &Arc<Pressure>) -> Result<Opened> {
    let reads = matches!(role, Role::Reader | Role::Long | Role::Stream | Role::Sync);
    let writable = !reads && !options.readonly;
    // Each connection stays on its lane's thread, so SQLite's own mutex on it is not needed.
    let mut flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags |= if writable {
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE
    } else if options.readonly {
        OpenFlags::SQLITE_OPEN_READ_ONLY
    } else {
        OpenFlags::SQLITE_OPEN_READ_WRITE
    };
    let mut connection = match path {
        Some(path) => Connection::open_with_flags(path, flags)?,
        None => Connection::open_in_memory_with_flags(flags)?,
    };
    if writable && role == Role::Writer {
        // First of all: other pragmas read the file, and so settle how it is laid out.
        options.setup.format(&connection)?;
    }
    let busy_timeout = match role {
        Role::Sync => Duration::ZERO,
        Role::Writer if options.shared => SHARED_BUSY_TIMEOUT,
        _ => BUSY_TIMEOUT,
    };
    connection.busy_timeout(busy_timeout)?;
    connection.pragma_update(None, "cache_size", -options.cache_kib(role, options.cache_size))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    // What a commit beyond the limit made longer is given back when the log begins anew.
    connection.pragma_update(None, "journal_size_limit", options.wal.limit.cast_signed())?;
    if path.is_some() && writable && role == Role::Writer {
        let mode: String = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
        if mode != "wal" {
            return Err(Error::new(
                ErrorCode::CannotOpen,
                format!("the file system does not allow write-ahead logging (journal mode {mode:?})"),
            ));
        }
    }
    connection.pragma_update(None, "synchronous", "full")?;
    #[cfg(feature = "fail_points")]
    crate::fault::weaken(&connection)?;
    let access = match role {
        _ if !writable => Access::Read,
        Role::Writer => Access::Make,
        _ => Access::Write,
    };
    options.setup.apply(&mut connection, access)?;
    for attached in options.setup.attach.iter().filter(|file| writable && !file.readonly) {
        let limit = format!("journal_size_limit = {}", options.wal.limit.cast_signed());
        connection.execute_batch(&pragma_of(&attached.name, &limit))?;
    }
    if !writable {
        connection.pragma_update(None, "query_only", true)?;
    }
    let watch = Watch::new(pressure, reads.then_some(options.wal.max_read_age));
    watch.install(&mut connection)?;
    Ok(Opened { connection, role, busy_timeout, watch, local: None, since: Instant::now() })
}

/// Another connection for a lane of `shared`.
pub(crate) fn open_lane(shared: &Shared, role: Role) -> Result<Opened> {
    let path = shared.options.path.as_deref();
    open(path, role, &shared.options, &shared.steward.pressure)?.with_indexes(role, &shared.options, &shared.shelf)
}

impl Opened {
    /// The write-ahead logs of the files that the connection writes.
    pub(crate) fn logs(&mut self, options: &Options) -> Result<Arc<[Log]>> {
        logs::follow(&mut self.connection, options)
    }

    /// Gives the connection the functions of indexes; the writer's makes them.
    pub(crate) fn with_indexes(mut self, role: Role, options: &Options, shelf: &Arc<Shelf>) -> Result<Self> {
        let (connection, watch) = (&self.connection, &self.watch);
        self.local = Some(match role {
            Role::Writer => Local::writer(connection, watch, shelf)?,
            _ if options.readonly || options.shared => Local::alone(connection, watch)?,
            _ => Local::reader(connection, watch, shelf)?,
        });
        Ok(self)
    }

    pub(crate) fn lane(&self) -> Lane<'_> {
        let keeper = self.local.as_deref().and_then(Local::keeper);
        Lane {
            connection: &self.connection,
            role: self.role,
            busy_timeout: self.busy_timeout,
            watch: &self.watch,
            keeper,
            epoch: keeper.map_or(0, Keeper::epoch),
            statements: LruCache::new(CACHED_STATEMENTS),
            settings: Applied::default(),
            packer: Packer::default(),
            most_steps: None,
        }
    }
}

struct Prepared<'c> {
    statement: rusqlite::Statement<'c>,
    shape: Arc<Shape>,
    /// How often SQLite has prepared it again by itself; a change of the schema may change the columns.
    reprepared: i32,
    readonly: bool,
}

/// Runs statements on one connection.
pub(crate) struct Lane<'c> {
    pub(crate) connection: &'c Connection,
    role: Role,
    busy_timeout: Duration,
    pub(crate) watch: &'c Watch,
    /// Of the indexes, on the connection that writes.
    pub(crate) keeper: Option<&'c Keeper>,
    /// The keeper's when the statements were prepared.
    epoch: u64,
    statements: LruCache<u64, Prepared<'c>>,
    settings: Applied,
    packer: Packer,
    /// Steps that a statement may take here, if they are bounded.
    pub(crate) most_steps: Option<u64>,
}

/// What [`Lane::run`] found.
pub(crate) enum Ran {
    /// It ran.
    Done { last: Record, rows: u64, item: Item },
    /// It writes, and this lane may not: nothing was done.
    Writes,
}

impl<'c> Lane<'c> {
    /// Runs a statement of the lane's own, such as BEGIN.
    pub(crate) fn control(&self, sql: &'static str) -> Result<()> {
        self.internal(|connection| connection.prepare_cached(sql)?.raw_execute())?;
        match self.keeper {
            // One that leaves the lock to others reads nothing yet either: see `begin_indexes`.
            Some(_) if sql == BeginMode::Deferred.sql() => Ok(()),
            Some(keeper) if sql.starts_with("BEGIN") => keeper.begin().inspect_err(|_| self.rollback()),
            Some(keeper) if sql.starts_with("ROLLBACK TO") => {
                keeper.undone();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// How long it waits for a lock, by default as long as its role does.
    pub(crate) fn set_busy_timeout(&self, timeout: Option<Duration>) -> Result<()> {
        self.connection.busy_timeout(timeout.unwrap_or(self.busy_timeout)).map_err(Error::from)
    }

    /// Does something that no caller may do, such as controlling a transaction.
    pub(crate) fn internal<T>(&self, f: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        self.watch.set_internal(true);
        // Neither is it looked at whether to stop: nothing may end a COMMIT or a ROLLBACK half-way.
        let result = f(self.connection);
        self.watch.set_internal(false);
        result.map_err(Error::from)
    }

    /// Ends whatever transaction is open. Failing to is no error: SQLite has then ended it itself.
    pub(crate) fn rollback(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.control("ROLLBACK")
        {
            tracing::warn!(%error, "ROLLBACK failed");
        }
    }

    /// Sets when and by whom the statements that follow are interrupted.
    pub(crate) fn watch_over(&self, job: &Job) {
        self.watch.over(job, job.deadline);
    }

    /// Runs a statement; full chunks go to `emit` on the way, the last piece comes back.
    pub(crate) fn run(&mut self, call: &Call, may_write: bool, emit: Emit<'_>) -> Result<Ran> {
        self.watch.forget_failure();
        let result = match &call.statement.schema_change {
            Some(change) => self.run_schema_change(call, change, may_write, emit),
            None => self.run_prepared(call, may_write, emit),
        };
        if let (Err(_), Some(keeper)) = (&result, self.keeper) {
            // SQLite has undone what the statement did.
            keeper.undone();
        }
        result
    }

    pub(crate) fn run_prepared(&mut self, call: &Call, may_write: bool, emit: Emit<'_>) -> Result<Ran> {
        if let Some(keeper) = self.keeper
            && keeper.epoch() != self.epoch
        {
            // What was prepared before the first index may empty a table without telling of its rows.
            self.epoch = keeper.epoch();
            self.statements.clear();
        }
        let connection = self.connection;
        let prepared = prepare(connection, self.watch, &mut self.statements, &call.statement)?;
        if !prepared.readonly && !may_write {
            return Ok(Ran::Writes);
        }
        let readonly = prepared.readonly;
        let changed_before = connection.total_changes();
        if !readonly {
            sqlite::clear_last_insert_rowid(connection);
        }
        call.params.bind(&mut prepared.statement)?;
        // From here on: to prepare it may have meant to read the whole schema.
        self.watch.bound(self.most_steps);
        let result = step(prepared, call.want, &mut self.packer, self.watch, emit);
        if readonly {
            call.statement.took(prepared.statement.reset_status(StatementStatus::VmStep));
        }
        let (last, rows) = result.map_err(|e| self.watch.explain(e))?;
        let mut item = Item::default();
        if !readonly {
            item.last_insert_rowid = connection.last_insert_rowid();
            // A statement that is no INSERT, UPDATE or DELETE leaves the count of the one before it standing.
            if connection.total_changes() != changed_before {
                item.changes = connection.changes();
            }
        }
        Ok(Ran::Done { last: Record { rows: last, item: Some(item) }, rows, item })
    }

    /// How often a statement has run here.
    #[cfg(test)]
    pub(crate) fn runs_of(&self, statement: &Statement) -> i32 {
        self.statements.peek(&statement.id).map_or(0, |prepared| prepared.statement.get_status(StatementStatus::Run))
    }

    /// Takes over settings that were changed since this was last called.
    pub(crate) fn refresh(&mut self, shared: &Shared) {
        let mut settings = self.settings;
        let result =
            self.internal(|connection| shared.settings.bring(connection, &shared.options, self.role, &mut settings));
        self.settings = settings;
        if let Err(error) = result {
            tracing::warn!(%error, "a connection keeps its old settings");
        }
    }

    /// Runs a statement of the store's own that has rows, and that may be given up while it runs.
    pub(crate) fn run_own(&mut self, call: &Call, records: &mut Vec<Record>) -> Result<()> {
        let watch = self.watch;
        watch.set_privileged(true);
        let result = self.run_held(call, records).map(|_| ());
        watch.set_privileged(false);
        result
    }

    /// Runs a statement whose rows are held back.
    pub(crate) fn run_held(&mut self, call: &Call, records: &mut Vec<Record>) -> Result<(u64, Item)> {
        let ran = self.run(call, true, &mut keep(records))?;
        match ran {
            Ran::Done { last, rows, item } => {
                records.push(last);
                Ok((rows, item))
            }
            Ran::Writes => Err(Error::new(ErrorCode::Internal, "the writer lane was told not to write")),
        }
    }

    /// Runs a reading statement whose rows are held back; one that writes is refused with `refusal`.
    pub(crate) fn read_held(&mut self, call: &Call, refusal: &str, records: &mut Vec<Record>) -> Result<()> {
        let ran = self.run(call, false, &mut keep(records))?;
        match ran {
            Ran::Done { last, .. } => {
                records.push(last);
                Ok(())
            }
            Ran::Writes => Err(Error::new(ErrorCode::NotAllowed, refusal)),
        }
    }

    /// Runs the statements of a batch up to the first that fails or misses its guard.
    pub(crate) fn run_batch(&mut self, items: &[BatchItem], records: &mut Vec<Record>) -> Result<()> {
        for (i, BatchItem { call, expect }) in items.iter().enumerate() {
            let (rows, item) = self.run_held(call, records).map_err(|e| e.at_statement(i as u32))?;
            check(*expect, rows, item.changes).map_err(|e| e.at_statement(i as u32))?;
            if self.connection.is_autocommit() {
                // OR ROLLBACK and RAISE(ROLLBACK) report their constraint; this is for what does not.
                return Err(Error::new(ErrorCode::Sql, "the statement ended its transaction").at_statement(i as u32));
            }
        }
        Ok(())
    }
}

/// Takes a full chunk of rows while the statement runs; an error ends it.
pub(crate) type Emit<'a> = &'a mut dyn FnMut(Record, &Watch) -> Result<()>;

fn keep(records: &mut Vec<Record>) -> impl FnMut(Record, &Watch) -> Result<()> {
    |record, _| {
        records.push(record);
        Ok(())
    }
}

fn check(expect: Expect, rows: u64, changes: u64) -> Result<()> {
    for (what, expected, found) in [("return", expect.rows, rows), ("change", expect.changes, changes)] {
        if let Some(expected) = expected
            && expected != found
        {
            return Err(Error::new(
                ErrorCode::ExpectationFailed,
                format!("expected the statement to {what} {expected} rows, it was {found}"),
            ));
        }
    }
    Ok(())
}

fn prepare<'a, 'c>(
    connection: &'c Connection,
    watch: &Watch,
    statements: &'a mut LruCache<u64, Prepared<'c>>,
    statement: &Statement,
) -> Result<&'a mut Prepared<'c>> {
    use hashlink::lru_cache::Entry;
    match statements.entry(statement.id) {
        Entry::Occupied(entry) => {
            let mut_ref = entry.into_mut();
            Ok(mut_ref)
        }
        Entry::Vacant(entry) => {
            if statement.sql().contains('\0') {
                // SQLite would read no further, and run a part of what was meant.
                return Err(Error::new(ErrorCode::Sql, "the statement contains a NUL character"));
            }
            let prepared = connection.prepare(statement.sql()).map_err(|e| watch.explain(e.into()))?;
            if prepared.expanded_sql().is_none() {
                return Err(Error::new(ErrorCode::Sql, "the text holds no statement"));
            }
            let readonly = prepared.readonly();
            statement.learn(readonly);
            let shape = Shape::new(names(&prepared));
            Ok(entry.insert(Prepared { statement: prepared, shape, reprepared: 0, readonly }))
        }
    }
}

fn names(statement: &rusqlite::Statement<'_>) -> Vec<String> {
    statement.column_names().map(str::to_owned).collect()
}

type Rows = Option<(Arc<Shape>, crate::Chunk)>;

fn step(
    prepared: &mut Prepared<'_>,
    want: Want,
    packer: &mut Packer,
    watch: &Watch,
    emit: Emit<'_>,
) -> Result<(Rows, u64)> {
    let readonly = prepared.readonly;
    let mut shape = prepared.shape.clone();
    let mut count = 0u64;
    let mut rows = prepared.statement.raw_query();
    while let Some(row) = rows.next()? {
        if count == 0 && want != Want::Changes {
            let statement: &rusqlite::Statement<'_> = row.as_ref();
            let reprepared = statement.get_status(StatementStatus::RePrepare);
            if reprepared != prepared.reprepared {
                shape = Shape::new(names(statement));
                prepared.reprepared = reprepared;
                prepared.shape = shape.clone();
            }
            packer.start(shape.columns.len());
        }
        count += 1;
        match want {
            Want::Rows => {
                if packer.is_full() {
                    emit(Record { rows: Some((shape.clone(), packer.finish())), item: None }, watch)?;
                }
                packer.push(row)?;
            }
            Want::First if count == 1 => packer.push(row)?,
            // A writing statement runs to its end whatever the caller wants of its rows.
            Want::First if readonly => break,
            _ => {}
        }
    }
    drop(rows);
    if count == 0 && want == Want::Rows && !shape.columns.is_empty() {
        // Of a result without rows the caller still wants to know the columns.
        let reprepared = prepared.statement.get_status(StatementStatus::RePrepare);
        if reprepared != prepared.reprepared {
            shape = Shape::new(names(&prepared.statement));
            prepared.reprepared = reprepared;
            prepared.shape = shape.clone();
        }
        packer.start(shape.columns.len());
        return Ok((Some((shape, packer.finish())), 0));
    }
    let rows = (count > 0 && want != Want::Changes).then(|| (shape, packer.finish()));
    Ok((rows, count))
}

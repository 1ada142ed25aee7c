//! A database file and its lanes: opening, routing, closing.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::checkpoint::{self, Signal};
use crate::connection::{self, Opened, Role};
use crate::job::{Job, Work};
use crate::metrics::{Counters, LaneGauge, Snapshot};
use crate::owner::{Identity, Owner, open_error};
use crate::queue::Queue;
use crate::statement::{Route, Statement, Statements};
use crate::{Error, ErrorCode, Options, Result, reader, writer};

/// What the lanes share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) readers: Queue,
    pub(crate) writer: Queue,
    pub(crate) checkpoints: Signal,
    pub(crate) counters: Counters,
    /// A COMMIT failed in a way that leaves its outcome unknown: nothing is written any more.
    pub(crate) failed: AtomicBool,
    statements: Statements,
}

impl Shared {
    pub(crate) fn submit_write(&self, job: Job) {
        let refused = self.writer.push([job]);
        Counters::add(&self.counters.refused, refused);
    }
}

/// An open database. Clones share it; the last one to go closes it.
pub struct Store {
    shared: Arc<Shared>,
    lanes: Mutex<Vec<JoinHandle<()>>>,
    reader_lanes: usize,
    /// Last, because its descriptor must be closed after SQLite's.
    _owner: Option<Owner>,
}

/// Open stores of this process, so that several threads of JavaScript share one.
static OPEN: LazyLock<Mutex<HashMap<Identity, Weak<Store>>>> = LazyLock::new(Mutex::default);

/// How long opening waits for an earlier store of this process to finish closing the same file.
const CLOSING_PATIENCE: Duration = Duration::from_secs(10);

impl Store {
    /// Opens a database file, or joins the store that this process already has on it.
    ///
    /// # Errors
    /// `ERR_LOCKED_BY_PROCESS`, `ERR_CANNOT_OPEN`, `ERR_NOT_A_DATABASE`, `ERR_CORRUPT`, `ERR_DISK_FULL`, `ERR_IO`.
    pub fn open(options: Options) -> Result<Arc<Self>> {
        let Some(path) = options.path.clone() else {
            return Ok(Arc::new(Self::start(options, None)?));
        };
        if options.readonly {
            std::fs::File::open(&path).map_err(|e| open_error(&path, &e))?;
            return Ok(Arc::new(Self::start(options, None).map_err(|e| naming(&path, e))?));
        }
        let patience = Instant::now() + CLOSING_PATIENCE;
        loop {
            let mut open = OPEN.lock();
            if let Some(identity) = Identity::of(&path)
                && let Some(entry) = open.get(&identity)
            {
                if let Some(store) = entry.upgrade() {
                    return Ok(store);
                }
                // Closing: its descriptors are still open, and taking the file now would drop their locks.
                drop(open);
                if Instant::now() > patience {
                    return Err(Error::new(ErrorCode::Busy, format!("{} is still being closed", path.display())));
                }
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            let owner = Owner::take(&path)?;
            let identity = owner.identity;
            let store = Arc::new(Self::start(options, Some(owner)).map_err(|e| naming(&path, e))?);
            open.insert(identity, Arc::downgrade(&store));
            return Ok(store);
        }
    }

    fn start(options: Options, owner: Option<Owner>) -> Result<Self> {
        let reader_lanes = options.reader_lanes();
        let path = options.path.clone();
        let path = path.as_deref();
        let connections = reader_lanes + 1;
        let mut checkpoints = Signal::new();
        let mut opened = connection::open(path, Role::Writer, &options, connections)?;
        opened.on_commit(checkpoints.wal_bytes.clone())?;
        // Reads the schema, and so finds out now whether the file is what it should be.
        opened.lane().internal(|c| c.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())))?;
        let mut readers = Vec::new();
        for _ in 0..reader_lanes {
            readers.push(connection::open(path, Role::Reader, &options, connections)?);
        }
        let checkpointer = match path {
            Some(_) if !options.readonly => Some(connection::open(path, Role::Checkpoint, &options, usize::MAX)?),
            _ => {
                checkpoints = Signal::new();
                None
            }
        };
        let queue = || Queue::new(options.pool.queue_limit, options.pool.connection_timeout);
        let shared = Arc::new(Shared {
            readers: queue(),
            writer: queue(),
            checkpoints,
            counters: Counters::default(),
            failed: AtomicBool::new(false),
            statements: Statements::default(),
            options,
        });
        let store = Self { shared, lanes: Mutex::default(), reader_lanes, _owner: owner };
        store.spawn("zqlite-writer".into(), opened, writer::serve)?;
        for (i, opened) in readers.into_iter().enumerate() {
            store.spawn(format!("zqlite-read-{i}"), opened, move |shared, opened| {
                reader::serve(shared, opened, reader_lanes)
            })?;
        }
        if let Some(opened) = checkpointer {
            store.spawn("zqlite-checkpt".into(), opened, checkpoint::serve)?;
        }
        Ok(store)
    }

    fn spawn(
        &self,
        name: String,
        opened: Opened,
        serve: impl FnOnce(&Arc<Shared>, Opened) + Send + 'static,
    ) -> Result<()> {
        let shared = self.shared.clone();
        let lane = std::thread::Builder::new().name(name.clone()).spawn(move || {
            // A lane that dies must not leave its callers waiting: the queues close, and every ticket answers when dropped.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| serve(&shared, opened))) {
                tracing::error!(lane = name, panic = message(&*panic), "a lane died; the database closes");
                shared.failed.store(true, Relaxed);
                shared.readers.abort();
                shared.writer.abort();
            }
        });
        let lane = lane.map_err(|e| Error::new(ErrorCode::OutOfMemory, format!("cannot start a thread: {e}")))?;
        self.lanes.lock().push(lane);
        Ok(())
    }

    /// The statement of a SQL text; the same text gives the same statement while anybody holds it.
    pub fn statement(&self, sql: &str) -> Arc<Statement> {
        self.shared.statements.intern(sql)
    }

    /// Hands jobs to their lanes. Every one is answered through its ticket, also when it is refused here.
    pub fn submit(&self, jobs: impl IntoIterator<Item = Job>) {
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for job in jobs {
            let reads_only =
                self.reader_lanes > 0 && matches!(&job.work, Work::Run(call) if call.statement.route() != Route::Write);
            if reads_only { reads.push(job) } else { writes.push(job) }
        }
        let refused = self.shared.readers.push(reads) + self.shared.writer.push(writes);
        Counters::add(&self.shared.counters.refused, refused);
    }

    /// The counters now.
    pub fn metrics(&self) -> Snapshot {
        let waiting = (self.shared.readers.len() + self.shared.writer.len()) as u64;
        let mut snapshot =
            self.shared.counters.snapshot(LaneGauge { connections: self.reader_lanes as u64 + 1, waiting });
        snapshot.wal_bytes = self.shared.checkpoints.wal_bytes.load(Relaxed);
        snapshot
    }
}

impl Drop for Store {
    /// Serves what waits, then stops the lanes and closes the file: the readers first, the writer last, so that the last
    /// connection moves the log into the file.
    fn drop(&mut self) {
        self.shared.readers.close();
        self.shared.checkpoints.close();
        let mut lanes = std::mem::take(&mut *self.lanes.lock());
        let writer = (!lanes.is_empty()).then(|| lanes.remove(0));
        for lane in lanes {
            let _ = lane.join();
        }
        self.shared.writer.close();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
        if let Some(owner) = self._owner.take() {
            let mut open = OPEN.lock();
            open.remove(&owner.identity);
        }
    }
}

fn naming(path: &Path, mut error: Error) -> Error {
    if !error.message.contains(&*path.to_string_lossy()) {
        error.message = format!("{}: {}", path.display(), error.message);
    }
    error
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown")
}

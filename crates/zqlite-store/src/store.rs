//! A database file and its lanes: opening, routing, closing.

use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::backup::{self, BackupOptions, BackupProgress};
use crate::connection::{self, Opened, Role};
use crate::fault::fail_point;
use crate::index::{Indexes, Shelf};
use crate::job::{Job, Post, Ticket, Work};
use crate::logs;
use crate::metrics::{Counters, LaneGauge, Snapshot};
use crate::options::cores;
use crate::owner::{Identity, Owner, Use, open_error};
use crate::queue::{Lead, Queue, Turn};
use crate::reader::{Bustle, Pace};
use crate::settings::{Pragma, Settings};
use crate::setup::Attached;
use crate::statement::{Route, Statement, Statements};
use crate::steward::{self, Health, Signal};
use crate::stream::StreamLanes;
use crate::sync::{SyncLane, SyncLanes};
use crate::writer::Desk;
use crate::{Chunk, Error, ErrorCode, Item, Options, Record, Result, Shape, reader, writer};

/// What the lanes share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) settings: Settings,
    /// Reading statements that take little.
    pub(crate) short: Queue,
    /// Those that take long.
    pub(crate) long: Queue,
    pub(crate) bustle: Bustle,
    pub(crate) streams: Queue,
    pub(crate) writer: Queue,
    /// Of whoever has the writer's turn; `None` when the lane has ended.
    pub(crate) desk: Mutex<Option<Desk>>,
    pub(crate) sync_lanes: SyncLanes,
    pub(crate) steward: Signal,
    pub(crate) stream_lanes: StreamLanes,
    pub(crate) counters: Counters,
    /// A COMMIT failed in a way that leaves its outcome unknown: nothing is written any more.
    pub(crate) failed: AtomicBool,
    pub(crate) shelf: Arc<Shelf>,
    statements: Statements,
}

impl Shared {
    pub(crate) fn submit_write(&self, job: Job) {
        let refused = self.writer.push([job]);
        Counters::add(&self.counters.refused, refused);
    }

    fn queues(&self) -> [&Queue; 4] {
        [&self.short, &self.long, &self.streams, &self.writer]
    }

    /// Begins no reading statement before then.
    pub(crate) fn hold_reads(&self, until: Option<Instant>) {
        self.short.hold_until(until);
        self.long.hold_until(until);
    }

    /// Closes the database because a lane died.
    fn died(&self, lane: &str, panic: &(dyn Any + Send)) {
        tracing::error!(lane, panic = message(panic), "a lane died; the database closes");
        self.failed.store(true, Relaxed);
        for queue in self.queues() {
            queue.abort();
        }
    }

    pub(crate) fn statement(&self, sql: &str) -> Arc<Statement> {
        self.statements.intern(sql)
    }

    /// Does the writer's work on the calling thread where the writer is idle, else waits for it; returns the pieces of the answer.
    pub(crate) fn at_once(
        self: &Arc<Self>,
        work: Work,
        queued: Instant,
        deadline: Option<Instant>,
    ) -> Result<Vec<Record>> {
        self.bustle.note(queued);
        let post = Arc::<Post>::default();
        let ticket = Ticket::new(post.clone(), 0);
        match self.writer.push_or_lead(Job { ticket, work, queued, deadline, cancel: None }) {
            Lead::Turn(job) => {
                let turn = Turn::Group(vec![job]);
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| writer::work(self, turn))) {
                    self.died("a synchronous write", &*panic);
                }
                self.writer.turn_over();
            }
            Lead::Waits { refused } => Counters::add(&self.counters.refused, refused),
        }
        post.wait()
    }

    /// Fails the calls that have waited too long, or were given up while they waited.
    pub(crate) fn expire(&self) {
        for queue in self.queues() {
            queue.expire(|error| self.counters.note_expired(error));
        }
    }

    /// Answers one of zqlite's own pragmas.
    pub(crate) fn pragma(&self, pragma: &Pragma) -> Result<Record> {
        if self.options.readonly && pragma.writes() && pragma.column() == "zqlite_parallel_writes" {
            return Err(Error::new(ErrorCode::Readonly, "the database was opened read-only"));
        }
        let value = self.settings.run(pragma)?;
        let shape = Shape::new(vec![pragma.column().to_owned()]);
        Ok(Record { rows: Some((shape, Chunk::number(value as f64))), item: Some(Item::default()) })
    }
}

/// An open database. Clones share it; the last one to go closes it.
pub struct Store {
    number: u32,
    shared: Arc<Shared>,
    lanes: Mutex<Vec<JoinHandle<()>>>,
    reader_lanes: usize,
    /// Last, because their descriptors must be closed after SQLite's.
    files: Files,
}

/// The files of a store: the main one first among those that it owns.
#[derive(Default)]
struct Files {
    owned: Vec<Owner>,
    used: Vec<Use>,
}

impl Files {
    /// Takes those that are attached.
    fn take(&mut self, options: &Options) -> Result<()> {
        for Attached { path, readonly, .. } in &options.setup.attach {
            if *readonly || options.readonly {
                self.used.extend(Use::of(path));
            } else {
                self.owned.push(Owner::take(path, options.shared)?);
            }
        }
        Ok(())
    }
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
            let mut files = Files::default();
            files.take(&options)?;
            return Ok(Arc::new(Self::start(options, files)?));
        };
        if options.readonly {
            std::fs::metadata(&path).map_err(|e| open_error(&path, &e))?;
            let mut files = Files { owned: Vec::new(), used: Use::of(&path).into_iter().collect() };
            files.take(&options)?;
            return Ok(Arc::new(Self::start(options, files).map_err(|e| naming(&path, e))?));
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
            let owner = Owner::take(&path, options.shared)?;
            fail_point!("open.owned");
            let identity = owner.identity;
            let mut files = Files { owned: vec![owner], used: Vec::new() };
            files.take(&options)?;
            let store = Arc::new(Self::start(options, files).map_err(|e| naming(&path, e))?);
            open.insert(identity, Arc::downgrade(&store));
            fail_point!("open.ready");
            return Ok(store);
        }
    }

    fn start(options: Options, files: Files) -> Result<Self> {
        let reader_lanes = options.reader_lanes();
        let paces = || Pace::of_lanes(options.short_lanes(), options.long_lanes(), cores());
        let path = options.path.clone();
        let path = path.as_deref();
        let pressure = Arc::default();
        let mut opened = connection::open(path, Role::Writer, &options, &pressure)?;
        let steward = Signal::new(Arc::clone(&pressure), opened.logs(&options)?);
        // Reads the schema, and so finds out now whether the file is what it should be.
        opened.lane().internal(|c| c.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())))?;
        let settings = Settings::new(&options)?;
        let shelf = Arc::default();
        let opened = opened.with_indexes(Role::Writer, &options, &shelf)?;
        let mut readers = Vec::new();
        for pace in paces() {
            let reader = connection::open(path, pace.role(), &options, &pressure)?;
            readers.push((pace, reader.with_indexes(pace.role(), &options, &shelf)?));
        }
        let stewards = match path {
            // A database in memory too may have files attached to it.
            _ if !steward.logs.is_empty() => Some(connection::open(path, Role::Steward, &options, &pressure)?),
            Some(_) => Some(connection::open(path, Role::Reader, &options, &pressure)?),
            None => None,
        };
        let (group, statement) = (logs::largest_group(options.wal.limit), logs::weight_of_statement(&steward.logs));
        let queue = || Queue::new(options.pool.queue_limit, options.pool.connection_timeout);
        let shared = Arc::new(Shared {
            short: queue(),
            long: queue(),
            bustle: Bustle::default(),
            streams: queue(),
            writer: queue().with_groups_up_to(group, statement),
            desk: Mutex::new(Some(Desk::new(&options, opened))),
            sync_lanes: SyncLanes::default(),
            steward,
            stream_lanes: StreamLanes::default(),
            counters: Counters::default(),
            failed: AtomicBool::new(false),
            shelf,
            statements: Statements::default(),
            settings,
            options,
        });
        static NUMBERS: AtomicU32 = AtomicU32::new(1);
        let number = NUMBERS.fetch_add(1, Relaxed);
        let mut store = Self { number, shared, lanes: Mutex::default(), reader_lanes, files };
        if let Err(error) = store.spawn_all(readers, stewards) {
            // It is in no table yet, which is locked now and which closing would lock once more.
            let files = std::mem::take(&mut store.files);
            drop(store);
            drop(files);
            return Err(error);
        }
        Ok(store)
    }

    fn spawn_all(&self, readers: Vec<(Pace, Opened)>, steward: Option<Opened>) -> Result<()> {
        self.spawn("zqlite-writer".into(), writer::serve)?;
        for (i, (pace, opened)) in readers.into_iter().enumerate() {
            let kind = if pace.role() == Role::Long { "long" } else { "read" };
            self.spawn(format!("zqlite-{kind}-{i}"), move |shared| reader::serve(shared, opened, pace))?;
        }
        self.spawn("zqlite-clock".into(), |shared| steward::keep_time(shared))?;
        self.spawn("zqlite-steward".into(), move |shared| steward::serve(shared, steward))
    }

    fn spawn(&self, name: String, serve: impl FnOnce(&Arc<Shared>) + Send + 'static) -> Result<()> {
        let shared = self.shared.clone();
        let lane = std::thread::Builder::new().name(name.clone()).spawn(move || {
            // A lane that dies must not leave its callers waiting: the queues close, and every ticket answers when dropped.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| serve(&shared))) {
                shared.died(&name, &*panic);
            }
        });
        let lane = lane.map_err(|e| Error::new(ErrorCode::OutOfMemory, format!("cannot start a thread: {e}")))?;
        self.lanes.lock().push(lane);
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Tells it from all other stores of this process.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The statement of a SQL text; the same text gives the same statement while anybody holds it.
    pub fn statement(&self, sql: &str) -> Arc<Statement> {
        self.shared.statement(sql)
    }

    /// Hands jobs to their lanes. Every one is answered through its ticket, also when it is refused here.
    pub fn submit(&self, jobs: impl IntoIterator<Item = Job>) {
        let (mut short, mut long, mut streams, mut writes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let has_readers = self.reader_lanes > 0;
        for job in jobs {
            match &job.work {
                Work::Run(call) => {
                    if let Some(pragma) = &call.statement.pragma {
                        let answer = self.shared.pragma(pragma);
                        job.ticket.answer(answer);
                    } else if has_readers && call.statement.route() != Route::Write {
                        if call.statement.is_long() { &mut long } else { &mut short }.push(job);
                    } else {
                        writes.push(job);
                    }
                }
                Work::Stream(..) if has_readers => streams.push(job),
                _ => writes.push(job),
            }
        }
        let started = streams.len();
        let shared = &self.shared;
        if let Some(job) = short.last().or(writes.last()) {
            shared.bustle.note(job.queued);
        }
        let refused = shared.short.push(short)
            + shared.long.push(long)
            + shared.streams.push(streams)
            + shared.writer.push(writes);
        for _ in 0..started {
            StreamLanes::ensure(&self.shared);
        }
        Counters::add(&self.shared.counters.refused, refused);
    }

    /// Runs a writing statement or a batch on the calling thread, which waits for the commit, and returns the pieces of its
    /// answer. Where the writer is idle the caller does the lane's work itself; else the call waits among the others.
    ///
    /// # Errors
    /// As an asynchronous call is answered.
    pub fn write_sync(&self, work: Work, deadline: Option<Instant>) -> Result<Vec<Record>> {
        if let Work::Run(call) = &work
            && let Some(pragma) = &call.statement.pragma
        {
            return self.shared.pragma(pragma).map(|record| vec![record]);
        }
        if !matches!(work, Work::Run(_) | Work::Batch(_)) {
            return Err(Error::new(ErrorCode::Internal, "only a statement or a batch runs at once"));
        }
        self.shared.at_once(work, Instant::now(), deadline)
    }

    /// Ends the waiting of calls that were given up; those that run notice it themselves.
    pub fn sweep(&self) {
        self.shared.expire();
    }

    /// The indexes of kinds that SQLite lacks, as of the latest commit.
    pub fn indexes(&self) -> Indexes {
        Indexes { shelf: self.shared.shelf.clone() }
    }

    /// Asks, beside all lanes, whether the database can be read. `answer` is called on a thread of the store.
    pub fn health(&self, answer: impl FnOnce(Health) + Send + 'static) {
        self.shared.steward.ask(Box::new(answer));
    }

    /// A connection for synchronous calls of one thread, to be dropped before the store.
    ///
    /// # Errors
    /// As opening a file.
    pub fn sync_lane(&self) -> Result<SyncLane> {
        SyncLane::open(&self.shared)
    }

    /// Copies the database, of one moment, to another file while work goes on; takes as long as it takes.
    ///
    /// # Errors
    /// `ERR_CANNOT_OPEN`, `ERR_LOCKED_BY_PROCESS`, `ERR_BUSY`, `ERR_DISK_FULL`, `ERR_IO`, `ERR_CANCELLED`, `ERR_DEADLINE`; nothing
    /// is left behind then. `ERR_NOT_ALLOWED` for a database in memory.
    pub fn backup(&self, options: &BackupOptions, progress: &mut dyn FnMut(BackupProgress)) -> Result<BackupProgress> {
        if self.shared.options.path.is_none() {
            return Err(Error::new(ErrorCode::NotAllowed, "a database in memory cannot be copied to a file"));
        }
        backup::backup(&self.shared, options, progress)
    }

    /// The counters now.
    pub fn metrics(&self) -> Snapshot {
        let waiting = self.shared.queues().map(|queue| queue.len() as u64).iter().sum();
        let connections = (self.reader_lanes + self.shared.stream_lanes.count()) as u64 + 1;
        let mut snapshot = self.shared.counters.snapshot(LaneGauge { connections, waiting });
        snapshot.wal_bytes = self.shared.steward.log_bytes();
        snapshot
    }
}

impl Drop for Store {
    /// Serves what waits, then stops the lanes and closes the file: the readers first, the writer last, so that the last
    /// connection moves the log into the file.
    fn drop(&mut self) {
        self.shared.short.close();
        self.shared.streams.close();
        self.shared.steward.close();
        let mut lanes = std::mem::take(&mut *self.lanes.lock());
        let writer = (!lanes.is_empty()).then(|| lanes.remove(0));
        let others = lanes.split_off(lanes.len().min(self.shared.options.short_lanes()));
        for lane in lanes {
            let _ = lane.join();
        }
        // Not before: a lane for short statements may find one of those that wait there to be long.
        self.shared.long.close();
        for lane in others {
            let _ = lane.join();
        }
        // Stream lanes are not joined, because they come and go; a stream that is paused ends when it next looks.
        while self.shared.stream_lanes.count() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        fail_point!("close.readers-gone");
        self.shared.writer.close();
        if let Some(writer) = writer {
            let _ = writer.join();
        }
        // A writer that died has left its connection here, which must be closed before the file is given up.
        *self.shared.desk.lock() = None;
        fail_point!("close.writer-gone");
        let main = self.files.owned.first().filter(|_| self.shared.options.path.is_some()).map(|owner| owner.identity);
        // Before the entry: who finds none takes the file at once.
        self.files = Files::default();
        if let Some(identity) = main {
            OPEN.lock().remove(&identity);
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

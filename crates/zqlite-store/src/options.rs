//! How a store is opened.

use std::path::PathBuf;
use std::time::Duration;

use crate::connection::Role;
use crate::setup::Setup;

/// Settings of [`crate::Store::open`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the file is; `None` is a database in memory, served by one connection.
    pub path: Option<PathBuf>,
    /// Open without writing; the file must exist.
    pub readonly: bool,
    /// Let other processes that open it shared use the file too.
    pub shared: bool,
    /// The page cache of all connections together, in bytes.
    pub cache_size: u64,
    /// Whether independent writes that wait together share one commit.
    pub parallel_writes: bool,
    /// Bounds of lanes and waiting calls.
    pub pool: PoolOptions,
    /// Bounds of callback transactions.
    pub transactions: TransactionLimits,
    /// Bounds of the write-ahead log.
    pub wal: WalLimits,
    /// What every connection is set up with.
    pub setup: Setup,
    /// Steps of SQLite's virtual machine that a synchronous call may take: 100 million steps are some seconds.
    pub sync_steps: u64,
}

/// Bounds of lanes and waiting calls.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Connections that stay open however long they are idle, those of the lanes included.
    pub min_connections: u32,
    /// Lanes and waiting slots together never exceed this many connections.
    pub max_connections: u32,
    /// How long a call waits for a lane.
    pub connection_timeout: Duration,
    /// A stream's connection above the minimum that was idle this long is closed.
    pub idle_timeout: Duration,
    /// A connection older than this is replaced when it is next idle.
    pub max_lifetime: Duration,
    /// How often it is checked that the database can be read; what is wrong is logged and counted.
    pub health_check_interval: Duration,
    /// How many calls may wait; one more is refused.
    pub queue_limit: usize,
}

/// Bounds of callback transactions: they own the writer lane.
#[derive(Debug, Clone, Copy)]
pub struct TransactionLimits {
    /// From BEGIN to COMMIT.
    pub total: Duration,
    /// Between two calls.
    pub idle: Duration,
}

/// Bounds of the write-ahead log.
#[derive(Debug, Clone, Copy)]
pub struct WalLimits {
    /// In bytes. At three quarters of this writes wait until the log can begin anew, so only a commit of more than the last
    /// quarter makes it larger, and writes while that is moved, by as much as the limit.
    pub limit: u64,
    /// A read older than this is ended when they wait for it.
    pub max_read_age: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            path: None,
            readonly: false,
            shared: false,
            cache_size: 64 << 20,
            parallel_writes: true,
            pool: PoolOptions::default(),
            transactions: TransactionLimits::default(),
            wal: WalLimits::default(),
            setup: Setup::default(),
            sync_steps: 10_000_000,
        }
    }
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            min_connections: 10,
            max_connections: 100,
            connection_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(600),
            max_lifetime: Duration::from_secs(1800),
            health_check_interval: Duration::from_secs(60),
            queue_limit: 65_536,
        }
    }
}

impl Default for WalLimits {
    fn default() -> Self {
        Self { limit: 64 << 20, max_read_age: Duration::from_secs(30) }
    }
}

impl Default for TransactionLimits {
    fn default() -> Self {
        Self { total: Duration::from_secs(5), idle: Duration::from_secs(1) }
    }
}

impl Options {
    /// Streams that run at a time, each on a connection of its own; more wait.
    pub(crate) fn stream_lanes(&self) -> usize {
        (self.pool.max_connections as usize).saturating_sub(self.reader_lanes() + 2).clamp(1, 32)
    }

    /// Reader lanes of both kinds.
    pub(crate) fn reader_lanes(&self) -> usize {
        self.short_lanes() + self.long_lanes()
    }

    /// Reader lanes for short statements: as many as cores, within the pool's bounds.
    pub(crate) fn short_lanes(&self) -> usize {
        self.most_readers().div_ceil(2)
    }

    /// Reader lanes for long statements: the same.
    pub(crate) fn long_lanes(&self) -> usize {
        self.most_readers() / 2
    }

    fn most_readers(&self) -> usize {
        if self.path.is_none() {
            return 0;
        }
        // Beside them are the writer's connection, the steward's and at least one for streams.
        (2 * cores()).min((self.pool.max_connections.max(5) - 3) as usize)
    }

    /// What a connection of that role gets of a cache of `bytes`, in KiB, as SQLite's `cache_size` counts: streams an eighth
    /// among them all, since they seldom read a page twice; the lanes and a synchronous connection the rest, those for long
    /// statements half as much as the others, for the same reason.
    pub(crate) fn cache_kib(&self, role: Role, bytes: u64) -> i64 {
        let eighths = bytes / 1024 / 8;
        let halves = 2 * (self.short_lanes() + 2) + self.long_lanes();
        let kib = match role {
            Role::Writer | Role::Reader | Role::Sync => 2 * 7 * eighths / halves as u64,
            Role::Long => 7 * eighths / halves as u64,
            Role::Stream => eighths / self.stream_lanes() as u64,
            Role::Steward => 0,
        };
        kib.clamp(64, 1 << 30).cast_signed()
    }
}

pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

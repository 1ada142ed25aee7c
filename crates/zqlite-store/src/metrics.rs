//! Counters of a store: cheap to bump, read as one snapshot.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::error::CATALOGUE;
use crate::histogram::{DURATIONS, Histogram, Live, SIZES};
use crate::{Error, ErrorCode};

/// What is measured apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    /// A reading statement on a reader lane.
    Read,
    /// A writing statement or a batch.
    Write,
    /// A statement within a callback transaction.
    Transaction,
    /// A stream, from its first row to its last.
    Stream,
    /// A synchronous call.
    Sync,
}

impl Operation {
    /// All, in the order of their numbers, with their names.
    pub const ALL: [(Self, &str); 5] = [
        (Self::Read, "read"),
        (Self::Write, "write"),
        (Self::Transaction, "transaction"),
        (Self::Stream, "stream"),
        (Self::Sync, "sync"),
    ];
}

/// Where calls wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Waiting {
    /// For a reader lane.
    Reader,
    /// For a stream's connection.
    Stream,
    /// For the writer.
    Writer,
}

impl Waiting {
    /// All, in the order of their numbers, with the names of the lanes.
    pub const ALL: [(Self, &str); 3] = [(Self::Reader, "reader"), (Self::Stream, "stream"), (Self::Writer, "writer")];
}

macro_rules! counters {
    ($($name:ident: $doc:literal)*) => {
        /// The live counters.
        #[derive(Debug)]
        pub struct Counters {
            $(#[doc = $doc] pub $name: AtomicU64,)*
            durations: [Live; Operation::ALL.len()],
            waits: [Live; Waiting::ALL.len()],
            pub(crate) group_sizes: Live,
            pub(crate) checkpoints: Live,
            errors_by_code: [AtomicU64; CATALOGUE.len()],
        }

        /// The counters at one moment.
        #[derive(Debug, Clone)]
        pub struct Snapshot {
            $(#[doc = $doc] pub $name: u64,)*
            /// The lanes and their work.
            pub lanes: LaneGauge,
            /// From a call to its answer, by [`Operation`].
            pub durations: [Histogram; Operation::ALL.len()],
            /// From a call to its lane, by [`Waiting`].
            pub waits: [Histogram; Waiting::ALL.len()],
            /// Members of the writer's commits.
            pub group_sizes: Histogram,
            /// How long checkpoints took.
            pub checkpoints: Histogram,
            /// By [`ErrorCode`].
            pub errors_by_code: [u64; CATALOGUE.len()],
        }

        impl Default for Counters {
            fn default() -> Self {
                Self {
                    $($name: AtomicU64::new(0),)*
                    durations: std::array::from_fn(|_| Live::new(DURATIONS)),
                    waits: std::array::from_fn(|_| Live::new(DURATIONS)),
                    group_sizes: Live::new(SIZES),
                    checkpoints: Live::new(DURATIONS),
                    errors_by_code: std::array::from_fn(|_| AtomicU64::new(0)),
                }
            }
        }

        impl Counters {
            pub(crate) fn snapshot(&self, lanes: LaneGauge) -> Snapshot {
                Snapshot {
                    $($name: self.$name.load(Relaxed),)*
                    lanes,
                    durations: std::array::from_fn(|i| self.durations[i].now()),
                    waits: std::array::from_fn(|i| self.waits[i].now()),
                    group_sizes: self.group_sizes.now(),
                    checkpoints: self.checkpoints.now(),
                    errors_by_code: std::array::from_fn(|i| self.errors_by_code[i].load(Relaxed)),
                }
            }
        }
    };
}

counters! {
    reads: "Reading statements that ran."
    writes: "Writing members that ran: single statements and batches."
    errors: "Calls that failed."
    reruns: "Members that ran again because a neighbour took their transaction down."
    transactions_started: "Callback transactions begun."
    transactions_committed: "Callback transactions committed."
    transactions_timed_out: "Callback transactions rolled back by a timer."
    pool_timeouts: "Calls for which no lane was free within the connection timeout."
    expired: "Calls whose time ran out while they waited, or that were given up then."
    refused: "Calls refused because the queue was full."
    busy_ns: "Nanoseconds that lanes worked, in all."
    commit_ns: "Nanoseconds spent in COMMIT, in all."
    wal_bytes: "Bytes of the write-ahead log in use after the last commit."
    active: "Lanes at work now."
}

/// The lanes and their work at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct LaneGauge {
    /// Connections open, the writer's included.
    pub connections: u64,
    /// Calls waiting for a lane.
    pub waiting: u64,
}

impl Counters {
    /// Notes a call that ran, and how long it took with its waiting.
    pub(crate) fn ran(&self, operation: Operation, took: Duration) {
        let count = match operation {
            Operation::Write => &self.writes,
            _ => &self.reads,
        };
        if operation != Operation::Transaction {
            Self::add(count, 1);
        }
        self.durations[operation as usize].add_time(took);
    }

    /// Notes a call whose turn has come, handed over then.
    pub(crate) fn waited(&self, at: Waiting, queued: Instant, now: Instant) {
        self.waits[at as usize].add_time(now.saturating_duration_since(queued));
    }

    /// Notes a call that failed.
    pub(crate) fn failed(&self, error: &Error) {
        Self::add(&self.errors, 1);
        Self::add(&self.errors_by_code[error.code as usize], 1);
    }

    /// Notes a call that failed before it began.
    pub(crate) fn note_expired(&self, error: &Error) {
        Self::add(&self.expired, 1);
        if error.code == ErrorCode::PoolTimeout {
            Self::add(&self.pool_timeouts, 1);
        }
        self.failed(error);
    }

    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }
}

//! Counters of a store: cheap to bump, read as one snapshot.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use crate::error::CATALOGUE;
use crate::{Error, ErrorCode};

/// Upper bounds of the buckets of [`Histogram`], in nanoseconds.
pub const DURATION_BOUNDS: [u64; 18] = [
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
];

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

#[derive(Debug, Default)]
struct LiveHistogram {
    counts: [AtomicU64; DURATION_BOUNDS.len() + 1],
    sum_ns: AtomicU64,
}

/// How long the calls of one operation took, from being handed over to their answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Histogram {
    /// Calls by bucket, not cumulative; the last one is above all bounds.
    pub counts: [u64; DURATION_BOUNDS.len() + 1],
    /// Of all calls together.
    pub sum_ns: u64,
}

/// A counter for each line of the catalogue.
#[derive(Debug)]
struct ByCode([AtomicU64; CATALOGUE.len()]);

impl Default for ByCode {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; CATALOGUE.len()])
    }
}

macro_rules! counters {
    ($($name:ident: $doc:literal)*) => {
        /// The live counters.
        #[derive(Debug, Default)]
        pub struct Counters {
            $(#[doc = $doc] pub $name: AtomicU64,)*
            durations: [LiveHistogram; Operation::ALL.len()],
            errors_by_code: ByCode,
        }

        /// The counters at one moment.
        #[derive(Debug, Clone)]
        pub struct Snapshot {
            $(#[doc = $doc] pub $name: u64,)*
            /// The lanes and their work.
            pub lanes: LaneGauge,
            /// By [`Operation`].
            pub durations: [Histogram; Operation::ALL.len()],
            /// By [`ErrorCode`].
            pub errors_by_code: [u64; CATALOGUE.len()],
        }

        impl Counters {
            pub(crate) fn snapshot(&self, lanes: LaneGauge) -> Snapshot {
                let load = |h: &LiveHistogram| Histogram {
                    counts: std::array::from_fn(|i| h.counts[i].load(Relaxed)),
                    sum_ns: h.sum_ns.load(Relaxed),
                };
                Snapshot {
                    $($name: self.$name.load(Relaxed),)*
                    lanes,
                    durations: std::array::from_fn(|i| load(&self.durations[i])),
                    errors_by_code: std::array::from_fn(|i| self.errors_by_code.0[i].load(Relaxed)),
                }
            }
        }
    };
}

counters! {
    reads: "Reading statements that ran."
    writes: "Writing members that ran: single statements and batches."
    errors: "Calls that failed."
    groups: "Commits of the writer, each of one or more members."
    grouped_members: "Members that those commits held."
    reruns: "Members that ran again because a neighbour took their transaction down."
    transactions_started: "Callback transactions begun."
    transactions_committed: "Callback transactions committed."
    transactions_timed_out: "Callback transactions rolled back by a timer."
    pool_timeouts: "Calls for which no lane was free within the connection timeout."
    expired: "Calls whose time ran out while they waited, or that were given up then."
    refused: "Calls refused because the queue was full."
    queue_wait_ns: "Nanoseconds that calls waited for a lane, in all."
    busy_ns: "Nanoseconds that lanes worked, in all."
    commit_ns: "Nanoseconds spent in COMMIT, in all."
    checkpoints: "Checkpoints run."
    checkpoint_ns: "Nanoseconds spent in checkpoints, in all."
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
    /// Notes a call that ran, handed over then.
    pub(crate) fn ran(&self, operation: Operation, queued: Instant) {
        let count = match operation {
            Operation::Write => &self.writes,
            _ => &self.reads,
        };
        if operation != Operation::Transaction {
            Self::add(count, 1);
        }
        let ns = u64::try_from(queued.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let bucket = DURATION_BOUNDS.partition_point(|bound| *bound < ns);
        let histogram = &self.durations[operation as usize];
        Self::add(&histogram.counts[bucket], 1);
        Self::add(&histogram.sum_ns, ns);
    }

    /// Notes a call that failed.
    pub(crate) fn failed(&self, error: &Error) {
        Self::add(&self.errors, 1);
        Self::add(&self.errors_by_code.0[error.code as usize], 1);
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

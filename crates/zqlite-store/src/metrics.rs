//! Counters of a store: cheap to bump, read as one snapshot.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($name:ident: $doc:literal)*) => {
        /// The live counters.
        #[derive(Debug, Default)]
        pub struct Counters { $(#[doc = $doc] pub $name: AtomicU64),* }

        /// The counters at one moment.
        #[derive(Debug, Clone, Copy, Default)]
        pub struct Snapshot {
            $(#[doc = $doc] pub $name: u64,)*
            /// The lanes and their work.
            pub lanes: LaneGauge,
        }

        impl Counters {
            pub(crate) fn snapshot(&self, lanes: LaneGauge) -> Snapshot {
                Snapshot { $($name: self.$name.load(Relaxed),)* lanes }
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
    expired: "Calls whose time ran out while they waited."
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
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }
}

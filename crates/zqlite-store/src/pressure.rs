//! Who is in the way of a write-ahead log that is to begin anew. That needs a moment at which nobody reads from the log; so
//! the reads that began before some moment are waited for, and those among them that are too old end.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::Mutex;

use crate::watch::Watch;

/// What reads look at, and where they are seen. Times are in nanoseconds after `epoch`, from 1 on.
pub(crate) struct Pressure {
    epoch: Instant,
    /// When the reads that are waited for began at the latest; 0 is none.
    before: AtomicU64,
    /// Of the connections that read.
    readers: Mutex<Vec<Weak<Watch>>>,
}

impl Default for Pressure {
    fn default() -> Self {
        Self { epoch: Instant::now(), before: AtomicU64::new(0), readers: Mutex::default() }
    }
}

impl Pressure {
    pub(crate) fn now(&self) -> u64 {
        self.at(Instant::now())
    }

    pub(crate) fn at(&self, time: Instant) -> u64 {
        (time.saturating_duration_since(self.epoch).as_nanos() as u64).max(1)
    }

    pub(crate) fn join(&self, reader: &Arc<Watch>) {
        let mut readers = self.readers.lock();
        readers.retain(|reader| reader.strong_count() > 0);
        readers.push(Arc::downgrade(reader));
    }

    /// Waits for the reads that began until `before`; 0 is none.
    pub(crate) fn wait_for(&self, before: u64) {
        self.before.store(before, Relaxed);
    }

    /// Whether a read that began then is waited for.
    pub(crate) fn is_waited_for(&self, started: u64) -> bool {
        started <= self.before.load(Relaxed)
    }

    /// Whether a read of this store goes on that began until then.
    pub(crate) fn is_read_since(&self, before: u64) -> bool {
        self.readers.lock().iter().filter_map(Weak::upgrade).any(|reader| reader.started() <= before)
    }
}

//! How far a stream runs ahead of its reader: by a few chunks, whatever the size of the result.

use std::time::Instant;

use crate::lock::{Condvar, Mutex};

/// Chunks, of about 64 KiB each, that are on their way or unread.
const AHEAD: u32 = 4;

/// The rate of one stream, set by who reads it.
#[derive(Debug, Default)]
pub struct Flow {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    unread: u32,
    ended: bool,
}

impl Flow {
    /// The reader is done with a chunk.
    pub fn take(&self) {
        let mut state = self.state.lock();
        state.unread = state.unread.saturating_sub(1);
        self.changed.notify_one();
    }

    /// The reader wants no more.
    pub fn end(&self) {
        self.state.lock().ended = true;
        self.changed.notify_one();
    }

    /// Notes a chunk that was sent.
    pub(crate) fn sent(&self) {
        self.state.lock().unread += 1;
    }

    /// Waits for room for another chunk.
    pub(crate) fn room(&self, until: Instant) -> Room {
        let mut state = self.state.lock();
        loop {
            if state.ended {
                return Room::Ended;
            }
            if state.unread < AHEAD {
                return Room::Free;
            }
            if self.changed.wait_until(&mut state, until).timed_out() {
                return if state.ended { Room::Ended } else { Room::None };
            }
        }
    }
}

/// What a stream finds when it has more to send.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// Go on.
    Free,
    /// Not yet.
    None,
    /// The reader wants no more.
    Ended,
}

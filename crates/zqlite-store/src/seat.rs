//! A connection and its lane in one piece, that whichever thread has its lock may use: the writer's, which a synchronous
//! write borrows, and those of synchronous reads, whose snapshots the steward lets go of.

use self_cell::self_cell;

use crate::connection::{Lane, Opened};

self_cell!(
    struct Cell {
        owner: Opened,
        #[not_covariant]
        dependent: Lane,
    }
);

/// A lane with the connection that it borrows from.
pub(crate) struct Seat(Cell);

// SAFETY: `Opened` is `Send`, and what the lane adds to it are references into that same `Opened`, prepared statements of
// its connection and plain data; none of them leaves the cell, since `with` lends the lane for any lifetime only. So all that
// refers to the connection moves to another thread together, and `&mut self` of `with` keeps two threads from using it at once,
// which is what SQLite asks of a connection opened with SQLITE_OPEN_NOMUTEX. Neither SQLite nor the callbacks installed on the
// connection, which rusqlite requires to be `Send`, keep anything by thread.
// It pays: a durable write alone in flight took 163 us through the writer's thread and back.
unsafe impl Send for Seat {}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Opened>();
};

impl Seat {
    pub(crate) fn new(opened: Opened) -> Self {
        Self(Cell::new(opened, Opened::lane))
    }

    /// Uses the lane.
    pub(crate) fn with<T>(&mut self, f: impl FnOnce(&mut Lane<'_>) -> T) -> T {
        self.0.with_dependent_mut(|_, lane| f(lane))
    }
}

//! A connection for synchronous calls: on the caller's own thread, reading only, waiting for nobody.

use std::sync::Arc;
use std::time::Instant;

use self_cell::self_cell;

use crate::connection::{self, Lane, Opened, Ran, Role, Watch};
use crate::metrics::Operation;
use crate::store::Shared;
use crate::{Call, Error, ErrorCode, Record, Result};

self_cell!(
    struct Cell {
        owner: Opened,
        #[not_covariant]
        dependent: Lane,
    }
);

/// Runs reading statements on the calling thread, within a budget of steps. A call sees all that was committed when it
/// began. To be dropped before its store.
pub struct SyncLane {
    shared: Arc<Shared>,
    cell: Cell,
}

impl SyncLane {
    /// # Errors
    /// `ERR_NOT_ALLOWED` for a database in memory, whose one connection is the writer's.
    pub(crate) fn open(shared: &Arc<Shared>) -> Result<Self> {
        if shared.options.path.is_none() {
            let message =
                "a database in memory has one connection, which another thread uses; only asynchronous calls reach it";
            return Err(Error::new(ErrorCode::NotAllowed, message));
        }
        let opened = connection::open_lane(shared, Role::Sync)?;
        Ok(Self { shared: shared.clone(), cell: Cell::new(opened, Opened::lane) })
    }

    /// Runs a reading statement, asked for then, and returns the pieces of its answer.
    ///
    /// # Errors
    /// `ERR_NOT_ALLOWED` for a statement that writes, `ERR_STEP_BUDGET` for one that takes too long, and as SQLite tells.
    pub fn run(&mut self, call: &Call, queued: Instant) -> Result<Vec<Record>> {
        let shared = &self.shared;
        self.cell.with_dependent_mut(|_, lane| {
            lane.refresh(shared);
            lane.set_budget(shared.options.sync_steps);
            let mut records = Vec::new();
            let mut keep = |record: Record, _: &Watch| {
                records.push(record);
                Ok(())
            };
            let result = lane.run(call, false, &mut keep);
            lane.watch_nothing();
            match result {
                Ok(Ran::Done { last, .. }) => {
                    shared.counters.ran(Operation::Sync, queued);
                    records.push(last);
                    Ok(records)
                }
                Ok(Ran::Writes) => {
                    Err(Error::new(ErrorCode::NotAllowed, "synchronous calls read; this statement writes"))
                }
                Err(error) => {
                    shared.counters.failed(&error);
                    Err(error)
                }
            }
        })
    }
}

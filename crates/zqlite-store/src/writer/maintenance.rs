//! Work on the file as a whole, between groups: VACUUM, and checkpoints that a caller asks for.

use std::time::{Duration, Instant};

use super::Writer;
use crate::connection::BUSY_TIMEOUT;
use crate::fault::fail_point;
use crate::job::{Call, CheckpointMode, Job, Maintenance, Want};
use crate::metrics::Operation;
use crate::{Params, Record, Result};

/// How often a checkpoint that waits for readers looks whether it is given up.
const LOOK: Duration = Duration::from_millis(50);

impl Writer<'_, '_> {
    /// Work that no transaction may hold; the file is the writer's alone meanwhile.
    pub(super) fn maintain(&mut self, job: Job, what: Maintenance) {
        let late = self.shared.writer.lateness(&job, Instant::now()).or_else(|| self.refusal(&job));
        let mut records = Vec::with_capacity(1);
        let result = match late {
            Some(error) => Err(error),
            None => {
                let call =
                    Call { statement: self.shared.statement(what.sql()), params: Params::default(), want: Want::Rows };
                self.shared.sync_lanes.let_go();
                fail_point!("maintenance.before");
                self.lane.watch_over(&job);
                let result = self.run_maintenance(&call, what, &mut records);
                self.lane.watch.nothing();
                result
            }
        };
        fail_point!("maintenance.done");
        if result.is_ok() && what == Maintenance::Checkpoint(CheckpointMode::Truncate) {
            self.shared.steward.truncated();
        }
        self.reply(job, Operation::Write, result.map(|()| records));
    }

    fn run_maintenance(&mut self, call: &Call, what: Maintenance, records: &mut Vec<Record>) -> Result<()> {
        if !matches!(what, Maintenance::Checkpoint(mode) if mode != CheckpointMode::Passive) {
            return self.lane.run_own(call, records);
        }
        // It waits for readers. SQLite, which would do so, asks nobody meanwhile whether to go on.
        let patience = Instant::now() + BUSY_TIMEOUT;
        self.lane.set_busy_timeout(Some(LOOK))?;
        let result = loop {
            records.clear();
            let result = self.lane.run_own(call, records);
            let busy = records
                .first()
                .and_then(|r| r.rows.as_ref())
                .is_some_and(|(_, row)| row.number_at_first() != Some(0.0));
            if result.is_err() || !busy || Instant::now() >= patience {
                break result;
            }
            if let Err(stopped) = self.lane.watch.check() {
                break Err(stopped);
            }
        };
        self.lane.set_busy_timeout(None)?;
        result
    }
}

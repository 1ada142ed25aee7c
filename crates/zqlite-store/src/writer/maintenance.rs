//! Work on the file as a whole, between groups: VACUUM, and checkpoints that a caller asks for.

use std::time::{Duration, Instant};

use super::Writer;
use crate::connection::BUSY_TIMEOUT;
use crate::fault::fail_point;
use crate::job::{Call, CheckpointMode, Job, Maintenance, Want};
use crate::logs::MAIN;
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
                let call = |schema| {
                    let statement = self.shared.statement(&what.sql(schema));
                    Call { statement, params: Params::default(), want: Want::Rows }
                };
                // Not in one statement for all: that fails where another program has a log of a file that is only read here.
                let is_checkpoint = matches!(what, Maintenance::Checkpoint(_));
                let logs = || self.shared.steward.logs.iter().filter(|_| is_checkpoint);
                let main = (call(MAIN), logs().find(|log| log.is_of_main()));
                let others = logs().filter(|log| !log.is_of_main()).map(|log| (call(log.schema()), Some(log)));
                let calls: Vec<_> = std::iter::once(main).chain(others).collect();
                self.shared.sync_lanes.let_go();
                fail_point!("maintenance.before");
                self.lane.watch_over(&job);
                let result = calls.iter().try_for_each(|(call, log)| {
                    let busy = self.run_maintenance(call, what, &mut records)?;
                    if !busy && what == Maintenance::Checkpoint(CheckpointMode::Truncate) {
                        log.inspect(|log| log.truncated());
                    }
                    Ok(())
                });
                self.lane.watch.nothing();
                result
            }
        };
        fail_point!("maintenance.done");
        self.reply(job, Operation::Write, result.map(|()| records));
    }

    /// Leaves in `records` what the first call answered, or the first that found its log busy. Whether this one did.
    fn run_maintenance(&mut self, call: &Call, what: Maintenance, records: &mut Vec<Record>) -> Result<bool> {
        let mut answer = Vec::with_capacity(1);
        if matches!(what, Maintenance::Checkpoint(mode) if mode != CheckpointMode::Passive) {
            self.wait_for_readers(call, &mut answer)?;
        } else {
            self.lane.run_own(call, &mut answer)?;
        }
        let busy = is_busy(&answer);
        if records.is_empty() || !is_busy(records) && busy {
            *records = answer;
        }
        Ok(busy)
    }

    /// SQLite, which would do so, asks nobody meanwhile whether to go on.
    fn wait_for_readers(&mut self, call: &Call, records: &mut Vec<Record>) -> Result<()> {
        let patience = Instant::now() + BUSY_TIMEOUT;
        self.lane.set_busy_timeout(Some(LOOK))?;
        let result = loop {
            records.clear();
            let result = self.lane.run_own(call, records);
            if result.is_err() || !is_busy(records) || Instant::now() >= patience {
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

/// Whether a checkpoint answered that somebody was in its way.
fn is_busy(records: &[Record]) -> bool {
    records.first().and_then(|r| r.rows.as_ref()).is_some_and(|(_, row)| row.number_at_first() != Some(0.0))
}

//! Callback transactions: one owns the lane from its BEGIN to its end, and for no longer than it may.

use std::time::Instant;

use super::Writer;
use crate::fault::fail_point;
use crate::job::{BeginMode, Job, Nest, TransactionId, Work};
use crate::metrics::{Counters, Operation};
use crate::{BatchItem, Record, Result};

impl Writer<'_, '_> {
    /// A callback transaction owns the lane until it ends or its time runs out.
    pub(super) fn transaction(&mut self, begin: Job, id: TransactionId, mode: BeginMode) {
        let limits = self.shared.options.transactions;
        let now = Instant::now();
        let refused = self.shared.writer.lateness(&begin, now).or_else(|| self.refusal(&begin));
        if let Some(error) = refused.or_else(|| self.begin(mode, std::slice::from_ref(&begin)).err()) {
            self.shared.writer.end_transaction(id, false);
            return self.outbox.settle(begin.ticket, Err(error));
        }
        Counters::add(&self.shared.counters.transactions_started, 1);
        self.outbox.finish(begin.ticket, Record::default());
        self.outbox.flush();
        fail_point!("transaction.begun");
        let end = now + limits.total;
        let mut read_nothing = mode == BeginMode::Deferred;
        let timed_out = loop {
            let Some(job) = self.shared.writer.take_step(end.min(Instant::now() + limits.idle)) else {
                break true;
            };
            self.lane.watch.over(&job, Some(job.deadline.map_or(end, |d| d.min(end))));
            if std::mem::take(&mut read_nothing)
                && let Err(error) = self.lane.begin_indexes()
            {
                self.reply(job, Operation::Transaction, Err(error));
                break false;
            }
            let mut records = Vec::with_capacity(1);
            let result = match &job.work {
                Work::Step(_, call) => self.lane.run_held(call, &mut records).map(|_| ()),
                Work::StepBatch(_, items) => self.step_batch(items, &mut records),
                Work::Nest(_, step) => self.nest(*step),
                Work::Commit(_) => {
                    let result = self.commit(1);
                    self.shared.writer.end_transaction(id, false);
                    if result.is_ok() {
                        Counters::add(&self.shared.counters.transactions_committed, 1);
                    }
                    return self.reply(job, Operation::Transaction, result.map(|()| records));
                }
                _ => {
                    self.lane.rollback();
                    self.shared.writer.end_transaction(id, false);
                    return self.outbox.finish(job.ticket, Record::default());
                }
            };
            fail_point!("transaction.step");
            let ended = self.lane.connection.is_autocommit();
            let late = Instant::now() >= end;
            self.reply(job, Operation::Transaction, result.map(|()| records));
            self.outbox.flush();
            if ended {
                break late;
            }
        };
        self.lane.watch.nothing();
        self.lane.rollback();
        if timed_out {
            Counters::add(&self.shared.counters.transactions_timed_out, 1);
        }
        self.shared.writer.end_transaction(id, timed_out);
    }

    fn nest(&self, step: Nest) -> Result<()> {
        match step {
            Nest::Begin => self.lane.control("SAVEPOINT nested"),
            Nest::Release => self.lane.control("RELEASE nested"),
            Nest::Undo => {
                let undone = self.lane.control("ROLLBACK TO nested").and_then(|()| self.lane.control("RELEASE nested"));
                // What cannot be undone alone must not be committed with the rest.
                undone.inspect_err(|_| self.lane.rollback())
            }
        }
    }

    fn step_batch(&mut self, items: &[BatchItem], records: &mut Vec<Record>) -> Result<()> {
        self.lane.control("SAVEPOINT batch")?;
        let result = self.lane.run_batch(items, records);
        if !self.lane.connection.is_autocommit() {
            let undone = if result.is_err() { self.lane.control("ROLLBACK TO batch") } else { Ok(()) };
            if let Err(error) = undone.and_then(|()| self.lane.control("RELEASE batch")) {
                // What cannot be undone alone must not be committed with the rest.
                self.lane.rollback();
                return result.and(Err(error));
            }
        }
        result
    }
}

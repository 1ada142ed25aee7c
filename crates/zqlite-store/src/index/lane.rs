//! Where a lane meets the indexes: statements that SQLite cannot parse, and the steps around COMMIT.

use crate::connection::{Emit, Lane, Ran};
use crate::index::keeper::Keeper;
use crate::index::statement::SchemaChange;
use crate::{Call, Item, Record, Result};

impl Lane<'_> {
    /// Brings the indexes to the open transaction's state, where its BEGIN did not.
    pub(crate) fn begin_indexes(&self) -> Result<()> {
        self.keeper.map_or(Ok(()), Keeper::begin)
    }

    /// Makes the indexes that belong to the open transaction; COMMIT follows.
    pub(crate) fn prepare_indexes(&self) -> Result<()> {
        self.keeper.map_or(Ok(()), Keeper::prepare)
    }

    /// The COMMIT stands: they are what everybody asks from now on.
    pub(crate) fn publish_indexes(&self) {
        self.keeper.into_iter().for_each(Keeper::committed);
    }

    /// Whether the rows that the transaction has changed fit the indexes.
    pub(crate) fn check_indexes(&self) -> Result<()> {
        self.keeper.map_or(Ok(()), Keeper::check)
    }

    /// Runs what SQLite cannot parse, and has the indexes follow what it can.
    pub(crate) fn run_schema_change(
        &mut self,
        call: &Call,
        change: &SchemaChange,
        may_write: bool,
        emit: Emit<'_>,
    ) -> Result<Ran> {
        let Some(keeper) = self.keeper else {
            return match change {
                SchemaChange::Create(_) | SchemaChange::DropIndex { .. } => Ok(Ran::Writes),
                _ => self.run_prepared(call, may_write, emit),
            };
        };
        let ours = match change {
            SchemaChange::Create(_) => true,
            SchemaChange::DropIndex { name, .. } => keeper.has(name)?,
            _ => false,
        };
        if !may_write && ours {
            return Ok(Ran::Writes);
        }
        if !ours && (!may_write || !keeper.is_used()) {
            return self.run_prepared(call, may_write, emit);
        }
        self.control("SAVEPOINT schema")?;
        let done =
            || Ran::Done { last: Record { rows: None, item: Some(Item::default()) }, rows: 0, item: Item::default() };
        let result = match change {
            SchemaChange::Create(create) => create
                .clone()
                .and_then(|create| call.params.expect_none().and_then(|()| keeper.create(&create)))
                .map(|()| done()),
            SchemaChange::DropIndex { name, .. } if ours => {
                call.params.expect_none().and_then(|()| keeper.drop(name)).map(|()| done())
            }
            _ => self.run_prepared(call, may_write, emit).and_then(|ran| keeper.follow(change).map(|()| ran)),
        };
        if !self.connection.is_autocommit() {
            if result.is_err() {
                self.control("ROLLBACK TO schema")?;
            }
            self.control("RELEASE schema")?;
        }
        result
    }
}

//! SQLite behind lanes: one writer with group commit, many readers, nothing acknowledged before it is on disk.
//!
//! A [`Store`] owns one database file. Work is handed to it as [`Job`]s and comes back through a [`Sink`]; nothing here
//! knows that JavaScript exists. Layers, from the bottom:
//!
//! - [`error`]: the catalogue of everything that can go wrong.
//! - [`params`], [`rows`]: values on their way in and out, packed.
//! - [`statement`], [`connection`]: one SQL text; one configured connection with its statement cache.
//! - [`queue`], [`writer`], [`reader`], [`checkpoint`]: the lanes.
//! - [`store`]: opening, routing, closing. [`owner`]: one process to a file.

mod checkpoint;
mod connection;
mod error;
mod job;
mod metrics;
mod options;
mod owner;
mod params;
mod queue;
mod reader;
mod rows;
mod sqlite;
mod statement;
mod store;
mod wal;
mod writer;

pub use error::{CATALOGUE, CatalogueEntry, Error, ErrorCode, Outcome, Result};
pub use job::{Answer, BatchItem, Call, Expect, Job, Sink, Ticket, TransactionId, Want, Work};
pub use metrics::{Counters, LaneGauge, Snapshot};
pub use options::{Options, PoolOptions, TransactionLimits};
pub use params::Params;
pub use rows::{Chunk, Item, Record, Shape};
pub use statement::Statement;
pub use store::Store;

//! SQLite behind lanes: one writer with group commit, many readers, nothing acknowledged before it is on disk.
//!
//! A [`Store`] owns one database file. Work is handed to it as [`Job`]s and comes back through a [`Sink`]; nothing here
//! knows that JavaScript exists. Layers, from the bottom:
//!
//! - [`error`]: the catalogue of everything that can go wrong.
//! - [`params`], [`rows`]: values on their way in and out, packed.
//! - [`statement`], [`connection`]: one SQL text; one configured connection with its statement cache.
//! - [`index`]: index kinds that SQLite lacks, followed by the writer, asked by everybody.
//! - [`queue`], [`writer`], [`reader`], [`stream`], [`steward`]: the lanes; [`sync`]: reads on the caller's own thread;
//!   [`seat`]: a connection that threads hand to each other.
//! - [`store`]: opening, routing, closing. [`backup`]: a copy while work goes on. [`owner`]: one process to a file.

mod backup;
mod connection;
mod error;
#[cfg(feature = "fail_points")]
pub mod fault;
#[cfg(not(feature = "fail_points"))]
mod fault;
mod flow;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod histogram;
mod index;
#[cfg(all(test, feature = "shuttle"))]
mod interleaved;
mod job;
mod lock;
mod metrics;
mod options;
mod owner;
mod params;
mod pressure;
mod priority;
mod queue;
mod reader;
mod restart;
mod rows;
mod seat;
mod settings;
mod setup;
mod sqlite;
mod statement;
mod steward;
mod store;
mod stream;
mod sync;
mod wal;
mod watch;
mod writer;

pub use backup::{BackupOptions, BackupProgress};
pub use error::{CATALOGUE, CatalogueEntry, Error, ErrorCode, Outcome, Result};
pub use flow::Flow;
pub use histogram::Histogram;
pub use index::{AclIndex, AclQuestion, BitmapIndex, CidrIndex, CidrRow, Indexes, KindName};
pub use job::{
    Answer, BatchItem, BeginMode, Call, Cancel, CheckpointMode, Expect, Job, Maintenance, Nest, Sink, Ticket,
    TransactionId, Want, Work,
};
pub use metrics::{Counters, LaneGauge, Operation, Snapshot, Waiting};
pub use options::{Options, PoolOptions, TransactionLimits, WalLimits};
pub use params::Params;
pub use rows::{Chunk, Item, Record, Shape};
pub use rusqlite::types::Value as SqlValue;
pub use setup::{Attached, LIMITS, Setup};
pub use statement::Statement;
pub use steward::Health;
pub use store::Store;
pub use sync::SyncLane;

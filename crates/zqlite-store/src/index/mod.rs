//! Index kinds that SQLite lacks, declared in SQL (`CREATE INDEX … USING cidr(…)`), exact with every commit, answered from
//! memory.
//!
//! - [`token`], [`statement`], [`definition`], [`definitions`]: from SQL to a definition and to its row.
//! - [`source`]: the tables behind one. [`changes`]: what a transaction did to them.
//! - [`content`]: the kinds, [`cidr`], [`bitmap`] and [`acl`].
//! - [`keeper`], [`refresh`]: the writer's side; [`lane`]: where the writer's lane meets it. [`shelf`]: the snapshots. [`local`]: which of them a connection sees.
//! - [`functions`], [`tables`]: what SQL calls. [`handle`]: what everybody else does.

mod acl;
mod bitmap;
mod changes;
mod cidr;
mod content;
mod definition;
mod definitions;
mod functions;
mod handle;
mod keeper;
mod lane;
mod local;
mod own;
mod refresh;
mod shelf;
mod source;
mod statement;
mod tables;
mod token;

pub use acl::Question as AclQuestion;
pub(crate) use changes::{Noted, RowChange};
pub use definition::KindName;
pub(crate) use definition::quote;
pub(crate) use definitions::TABLES;
pub use handle::{AclIndex, BitmapIndex, CidrIndex, CidrRow, Indexes};
pub(crate) use keeper::Keeper;
pub(crate) use local::Local;
pub(crate) use shelf::Shelf;
pub(crate) use statement::SchemaChange;

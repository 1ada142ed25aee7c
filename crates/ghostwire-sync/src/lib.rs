//! Pushes bytes to many sockets: each recipient is told of the records that it may see, and of every change.
//!
//! Knows handles, ids and opaque JSON, nothing of what they mean. [`State`] is the model, pure and without
//! sockets; [`SyncServer`] carries it over WebSockets on threads of its own. The wire protocol is in `docs/protocol.md`.

mod batch;
mod connection;
mod digest;
mod error;
mod farewell;
mod filter;
mod frames;
mod hub;
mod metrics;
mod server;
mod state;
mod table;
mod tls;
mod tokens;
mod view;

pub use batch::{Batch, Put, RecipientChange, ViewChange};
pub use digest::Digest;
pub use error::{Code, SyncError};
pub use filter::Filter;
pub use frames::Frame;
pub use hub::Presence;
pub use metrics::Metrics;
pub use server::{Options, SyncServer};
pub use state::{Attached, Next, Outcome, Position, State, Update};
pub use tls::Certificate;
pub use tokens::Tokens;

/// Names a record and, where it receives, a recipient. Chosen by the caller and bound to one id for good.
pub type Handle = u32;

/// Names a view: a set of records shared by all the recipients who see exactly that set.
pub type ViewId = u32;

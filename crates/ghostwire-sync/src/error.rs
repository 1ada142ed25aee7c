//! What the owner of a server can get wrong or run into. What a peer is told when it is turned away is in farewell.rs.

use std::io;
use std::net::SocketAddr;

use crate::{Handle, ViewId};

/// An error of this crate. [`SyncError::code`] is its kind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages are the documentation of the variants and their fields
pub enum SyncError {
    #[error("{address} is already in use")]
    PortTaken { address: SocketAddr, source: io::Error },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("option {option}: {reason}")]
    InvalidOption { option: &'static str, reason: String },
    #[error("the certificate cannot be used: {reason}")]
    Certificate { reason: String },
    #[error("revision {revision} is behind the published revision {current}")]
    RevisionBehind { revision: u64, current: u64 },
    #[error("record of handle {handle}: {reason}")]
    InvalidRecord { handle: Handle, reason: String },
    #[error("self of recipient {handle}: {reason}")]
    InvalidSelf { handle: Handle, reason: String },
    #[error("filter: {reason}")]
    InvalidFilter { reason: String },
    #[error("handle {handle} stands for {held:?} and cannot become {wanted:?}")]
    HandleTaken { handle: Handle, held: String, wanted: String },
    #[error("id {id:?} already belongs to handle {held}, not {handle}")]
    IdTaken { id: String, held: Handle, handle: Handle },
    #[error("handle {handle} is both put and removed in one batch")]
    PutAndRemoved { handle: Handle },
    #[error("view {view} is to show handle {handle}, which has no record")]
    UnknownRecord { view: ViewId, handle: Handle },
    #[error("view {view} does not exist")]
    UnknownView { view: ViewId },
    #[error("view {view} is both edited and dropped in one batch")]
    EditedAndDropped { view: ViewId },
    #[error("view {view} cannot be dropped: {recipients} recipients still see it")]
    ViewInUse { view: ViewId, recipients: u64 },
    #[error("handle {handle} is not a recipient")]
    UnknownRecipient { handle: Handle },
    #[error("{limit} connection tokens are outstanding; try again when some were used or have expired")]
    TokensFull { limit: usize },
    #[error("the server is stopped")]
    Closed,
    #[error("the operating system failed: {0}")]
    System(io::Error),
}

/// The stable name of a kind of error, and whether the same call can succeed later without anything being put right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// Such as `ERR_PORT_TAKEN`.
    pub name: &'static str,
    /// See above.
    pub retryable: bool,
}

const fn code(name: &'static str, retryable: bool) -> Code {
    Code { name, retryable }
}

const PORT_TAKEN: Code = code("ERR_PORT_TAKEN", false);
const LISTEN: Code = code("ERR_LISTEN", false);
const OPTION: Code = code("ERR_SYNC_OPTION", false);
const CERTIFICATE: Code = code("ERR_CERTIFICATE", false);
const BATCH: Code = code("ERR_SYNC_BATCH", false);
const RECIPIENT: Code = code("ERR_SYNC_RECIPIENT", false);
const TOKENS_FULL: Code = code("ERR_SYNC_TOKENS_FULL", true);
const CLOSED: Code = code("ERR_SHUTTING_DOWN", true);
const SYSTEM: Code = code("ERR_SERVER", false);

impl SyncError {
    /// Every code there is.
    pub const CATALOGUE: [Code; 9] =
        [PORT_TAKEN, LISTEN, OPTION, CERTIFICATE, BATCH, RECIPIENT, TOKENS_FULL, CLOSED, SYSTEM];

    /// What kind of error this is.
    pub fn code(&self) -> Code {
        match self {
            Self::PortTaken { .. } => PORT_TAKEN,
            Self::Listen { .. } => LISTEN,
            Self::InvalidOption { .. } => OPTION,
            Self::Certificate { .. } => CERTIFICATE,
            Self::RevisionBehind { .. }
            | Self::InvalidRecord { .. }
            | Self::InvalidSelf { .. }
            | Self::InvalidFilter { .. }
            | Self::HandleTaken { .. }
            | Self::IdTaken { .. }
            | Self::PutAndRemoved { .. }
            | Self::UnknownRecord { .. }
            | Self::UnknownView { .. }
            | Self::EditedAndDropped { .. }
            | Self::ViewInUse { .. } => BATCH,
            Self::UnknownRecipient { .. } => RECIPIENT,
            Self::TokensFull { .. } => TOKENS_FULL,
            Self::Closed => CLOSED,
            Self::System(_) => SYSTEM,
        }
    }
}

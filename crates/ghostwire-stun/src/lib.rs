//! STUN (RFC 8489), the one method that hosts need to find each other through NATs: Binding.
//!
//! [`Responder`] tells whoever asks the address that he asked from. [`probe`] asks in the name of a UDP port that another
//! program owns, WireGuard's, because a NAT gives every port of a host a mapping of its own. Packets are made and
//! read by `stun-types`.

mod binding;
mod probe;
mod responder;

pub use binding::{answer, mapped_address, request};
pub use probe::{ProbeError, probe};
pub use responder::Responder;

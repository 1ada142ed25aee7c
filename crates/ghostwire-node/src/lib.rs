//! Ghostwire's N-API border: converts and forwards. What a call means is decided in `ghostwire-sync`; what it is named
//! and typed like in `ghostwire/src/sync.ts`.

// The macros export what they annotate to JavaScript; Rust sees none of it.
#![allow(unreachable_pub)]
// In a test build they export nothing.
#![cfg_attr(test, allow(dead_code))]

mod batch;
mod guard;
mod log;
mod number;
mod server;
mod stun;

//! zqlite's N-API border: converts and forwards. It holds no rules; what a call means is decided in the core crates,
//! what it is named and typed like in `lib/`.

// The macros export what they annotate to JavaScript; Rust sees none of it.
#![allow(unreachable_pub)]
// In a test build they export nothing.
#![cfg_attr(test, allow(dead_code))]

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod acl;
mod acl_index;
mod bitmap_index;
mod call;
mod catalogue;
mod cidr;
mod cidr_index;
mod database;
mod guard;
mod log;
mod mailbox;
mod number;
mod options;
mod request;
mod text;

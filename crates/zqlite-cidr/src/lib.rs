//! IP addresses, prefixes, ranges, and tables that map prefixes to values.
//!
//! # One space for each family
//! IPv4 and IPv6 are two spaces that never overlap: `::/0` holds no IPv4 address. The IPv4-mapped block `::ffff:0:0/96`
//! (RFC 4291, 2.5.5.2) does not exist in the IPv6 space: whatever lies in it *is* the IPv4 address, prefix or range that
//! it maps, however it was written. So `::ffff:10.0.0.1` equals `10.0.0.1`, `::ffff:10.0.0.0/104` equals `10.0.0.0/8`,
//! and a rule for the one cannot be passed by writing the other. A prefix shorter than /96 that surrounds the block stays
//! IPv6 and holds only the IPv6 addresses around it.

mod address;
mod arena;
mod batch;
mod bytes;
mod error;
mod flat;
mod huge;
mod lookup;
mod node;
mod octets;
mod ordinary;
mod parse;
pub mod plain;
mod pool;
mod prefix;
mod range;
mod rows;
mod simd;
mod slab;
mod table;
mod walk;
#[cfg(target_arch = "x86_64")]
mod wide;

/// What the fuzz targets in `fuzz/` reach of the inside. Not part of any other build.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::bytes::seal;
}

pub use address::{Address, Family};
pub use bytes::LoadError;
pub use error::{Excerpt, Expected, ParseError, Reason};
pub use lookup::{LookupTable, Mode};
pub use prefix::{HostBits, Prefix};
pub use range::AddressRange;
pub use rows::RowTable;
pub use simd::{Instructions, UnknownChoice, instructions};
pub use table::Table;
pub use walk::Walk;

//! The N-API border of zqlite

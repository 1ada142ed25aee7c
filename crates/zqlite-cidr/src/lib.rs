//! Addresses, prefixes and prefix tables

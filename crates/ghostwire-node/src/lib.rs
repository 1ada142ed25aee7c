//! The N-API border of ghostwire

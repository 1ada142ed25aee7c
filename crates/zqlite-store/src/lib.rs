//! SQLite behind lanes: one writer with group commit, many readers

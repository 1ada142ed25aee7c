//! A commit does not ask how long the log's file is: since Linux 6.13 the next sync would then write the inode too.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use zqlite_torture::client::Client;
use zqlite_torture::vfs::{Call, Door, FileKind, set_door};

/// Counts questions for the length of a log, and its syncs.
#[derive(Default)]
struct Counts {
    asked: AtomicUsize,
    synced: AtomicUsize,
}

impl Door for Counts {
    fn before(&self, _: &Call<'_>) -> Result<(), c_int> {
        Ok(())
    }

    fn after(&self, call: &Call<'_>) {
        match call {
            Call::Size(_, FileKind::Log) => self.asked.fetch_add(1, Relaxed),
            Call::Sync(_, FileKind::Log, _) => self.synced.fetch_add(1, Relaxed),
            _ => 0,
        };
    }
}

#[test]
fn commits_seldom_ask_how_long_the_log_is() {
    let folder = tempfile::tempdir().unwrap();
    let counts = Arc::<Counts>::default();
    set_door(Some(counts.clone()));
    let client = Client::open(&folder.path().join("t.db"), true).unwrap();
    client.sql("CREATE TABLE t (a)", &[]).unwrap();
    let (asked, synced) = (counts.asked.load(Relaxed), counts.synced.load(Relaxed));
    for _ in 0..500 {
        client.sql("INSERT INTO t VALUES (1)", &[]).unwrap();
    }
    let (asked, synced) = (counts.asked.load(Relaxed) - asked, counts.synced.load(Relaxed) - synced);
    assert!(synced >= 500, "{synced} syncs of 500 commits");
    // Once for each piece of room ahead of the log, which is enough for dozens of commits, and at its ends.
    assert!(asked <= 20, "{asked} questions of {synced} syncs");
    set_door(None);
}

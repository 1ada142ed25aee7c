//! What a large commit left in the log is moved while writes go on; they wait for no more than they added meanwhile.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::ffi::c_int;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use zqlite_store::{CheckpointMode, ErrorCode, Maintenance, Options, Result, Store, Work};
use zqlite_torture::client::Client;
use zqlite_torture::vfs::{Call, Door, set_door};

const MB: u64 = 1 << 20;
const LIMIT: u64 = 4 * MB;
/// For what must come about, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(10);

/// Nothing gets into the database file while it is shut.
struct Gate {
    file: PathBuf,
    shut: AtomicBool,
    reached: AtomicBool,
}

impl Door for Gate {
    fn before(&self, call: &Call<'_>) -> std::result::Result<(), c_int> {
        if matches!(call, Call::Write(path, ..) if *path == self.file) {
            self.reached.store(true, SeqCst);
            while self.shut.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    fn after(&self, _: &Call<'_>) {}
}

/// Opens the gate whatever becomes of the test: the store could not be closed otherwise.
struct Opening(Arc<Gate>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.shut.store(false, SeqCst);
        set_door(None);
    }
}

fn write(client: &Client, bytes: usize, at_most: Duration) -> Result<()> {
    let call = client.call("INSERT INTO t (b) VALUES (?)", &[Value::Blob(vec![7; bytes])]);
    client.store.write_sync(Work::Run(call), Some(Instant::now() + at_most)).map(drop)
}

#[test]
fn writes_go_on_while_the_rest_of_a_large_commit_is_moved_up_to_the_limit_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.db");
    let mut options = Options { path: Some(file.clone()), ..Options::default() };
    options.wal.limit = LIMIT;
    let gate = Arc::new(Gate { file, shut: AtomicBool::new(false), reached: AtomicBool::new(false) });
    set_door(Some(gate.clone()));
    let client = Client::of(Store::open(options).unwrap());
    // Dropped before the client.
    let _opening = Opening(gate.clone());
    let log = || client.store.metrics().wal_bytes;
    client.sql("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)", &[]).unwrap();

    for round in 1..=3 {
        // Nothing is left for the writer to move, between two turns.
        client.maintain(Maintenance::Checkpoint(CheckpointMode::Truncate)).unwrap();
        write(&client, 1, PATIENCE).unwrap();
        gate.shut.store(true, SeqCst);
        gate.reached.store(false, SeqCst);
        let megabyte = || client.item("INSERT INTO t (b) VALUES (?)", &[Value::Blob(vec![7; MB as usize])]);
        client.batch(std::iter::repeat_with(megabyte).take(12).collect()).unwrap();
        let large = log();
        assert!(large > 12 * MB, "{large} bytes");
        for _ in 0..20 {
            write(&client, 100, PATIENCE).unwrap();
        }
        let until = Instant::now() + PATIENCE;
        while !gate.reached.load(SeqCst) {
            assert!(Instant::now() < until, "nothing is moved");
            std::thread::sleep(Duration::from_millis(1));
        }

        // The log stays bounded all the same.
        let mut more = 0;
        let error = loop {
            match write(&client, 50_000, Duration::from_secs(1)) {
                Ok(()) => more += 1,
                Err(error) => break error,
            }
            assert!(log() <= large + LIMIT + 100_000, "{} bytes after one of {large}", log());
        };
        assert_eq!(error.code, ErrorCode::Deadline, "{error}");
        assert!(log() >= large + LIMIT, "writes wait at {} bytes already, after {large}", log());
        assert!(more > 5, "{more} writes");

        gate.shut.store(false, SeqCst);
        write(&client, 100, PATIENCE).unwrap();
        assert!(log() < MB, "the log has not begun anew in round {round}: {} bytes", log());
    }
}

//! The write-ahead log beside work, and work on the file as a whole. Its limit: `log_limit.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail anywhere")]

mod support;

use std::time::{Duration, Instant};

use support::{Client, with_table};
use zqlite_store::{CheckpointMode, Maintenance, Work};

#[test]
fn the_log_is_moved_into_the_file_while_writing_goes_on() {
    let (folder, client) = with_table();
    client.run("CREATE TABLE blobs (id INTEGER PRIMARY KEY, data BLOB)");
    for _ in 0..150 {
        client.run("INSERT INTO blobs (data) VALUES (randomblob(1000000))");
    }
    std::thread::sleep(Duration::from_millis(200));
    let metrics = client.store.metrics();
    assert!(metrics.checkpoints.count() >= 1);
    let wal = std::fs::metadata(folder.path().join("test.db-wal")).unwrap().len();
    assert!(wal < 80 << 20, "the log is {wal} bytes");
}

#[test]
fn room_ahead_of_the_log_is_no_part_of_it() {
    let (folder, client) = with_table();
    for i in 0..40 {
        client.try_run(&format!("INSERT INTO t VALUES ({i}, 'peer {i}')")).unwrap();
    }
    // The room is made after the answer.
    std::thread::sleep(Duration::from_millis(100));
    let path = folder.path().join("test.db");
    let wal = folder.path().join("test.db-wal");
    let (used, length) = (client.store.metrics().wal_bytes, std::fs::metadata(&wal).unwrap().len());
    assert!(length >= used + (100 << 10), "{used} of {length} bytes are used");
    // What a crash leaves behind, with the room and without it.
    for keep in [length, used] {
        let left = tempfile::tempdir().unwrap();
        let copy = left.path().join("test.db");
        std::fs::copy(&path, &copy).unwrap();
        std::fs::write(left.path().join("test.db-wal"), &std::fs::read(&wal).unwrap()[..keep as usize]).unwrap();
        let after = Client::open(&copy);
        assert_eq!(after.number("SELECT count(*) FROM t"), 40.0);
        after.run("INSERT INTO t VALUES (100, 'and on')");
        assert_eq!(after.number("SELECT count(*) FROM t"), 41.0);
    }
    // A log that was cut off has none, and gets it again with its next commit.
    client.one(Work::Maintain(Maintenance::Checkpoint(CheckpointMode::Truncate))).unwrap();
    assert_eq!(std::fs::metadata(&wal).unwrap().len(), 0);
    client.run("INSERT INTO t VALUES (101, 'anew')");
    let until = Instant::now() + Duration::from_secs(10);
    while std::fs::metadata(&wal).unwrap().len() < client.store.metrics().wal_bytes + (100 << 10) {
        assert!(Instant::now() < until, "no room ahead of a log that was begun anew");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn maintenance_runs_between_groups() {
    let (folder, client) = with_table();
    for i in 0..200 {
        client.try_run(&format!("INSERT OR IGNORE INTO t VALUES ({i}, hex(randomblob(2000)))")).unwrap();
    }
    client.run("DELETE FROM t");
    let (vacuum, mut job) = client.job(Work::Maintain(Maintenance::Vacuum));
    job.deadline = Some(Instant::now() + Duration::from_secs(10));
    client.store.submit([job]);
    client.wait(vacuum).unwrap();
    let checkpoint = client.one(Work::Maintain(Maintenance::Checkpoint(CheckpointMode::Truncate))).unwrap();
    let (shape, _) = checkpoint[0].rows.as_ref().unwrap();
    assert_eq!(shape.columns, ["busy", "log", "checkpointed"]);
    assert!(std::fs::metadata(folder.path().join("test.db")).unwrap().len() < 100_000);
    client.run("INSERT INTO t VALUES (1, 'after')");
    assert_eq!(client.number("SELECT count(*) FROM t"), 1.0);
}

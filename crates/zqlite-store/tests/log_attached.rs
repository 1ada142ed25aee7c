//! The write-ahead logs of attached files, and their limit: each file has a log of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail anywhere")]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use support::{Client, code, options};
use zqlite_store::{Attached, CheckpointMode, ErrorCode, Maintenance, Options, Store, Work};

const MB: u64 = 1 << 20;
const LIMIT: u64 = 8 * MB;

/// A store with a limit of 8 MB, and a file attached to it whose name has to be quoted.
fn opened(change: impl FnOnce(&mut Options)) -> (tempfile::TempDir, Client) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&folder.path().join("test.db"));
    options.wal.limit = LIMIT;
    let aux = Attached { name: "the \"other\"".into(), path: folder.path().join("aux.db"), readonly: false };
    options.setup.attach.push(aux);
    change(&mut options);
    let client = Client::of(Store::open(options).unwrap());
    client.run("CREATE TABLE main.t (a INTEGER PRIMARY KEY, b BLOB)");
    client.run(&format!("CREATE TABLE {AUX}.s (a INTEGER PRIMARY KEY, b BLOB)"));
    (folder, client)
}

const AUX: &str = "\"the \"\"other\"\"\"";
/// Reads from a table for as long as it may.
const ENDLESS: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) + (SELECT count(*) FROM ";

fn length(folder: &tempfile::TempDir, name: &str) -> u64 {
    std::fs::metadata(folder.path().join(name)).map_or(0, |file| file.len())
}

/// A megabyte to a table.
fn write_megabyte(client: &Client, table: &str, i: i64) {
    let values = [Value::Integer(i % 3), Value::Blob(vec![7; 1_000_000])];
    client.with(&format!("INSERT OR REPLACE INTO {table} VALUES (?, ?)"), &values);
}

#[test]
fn the_log_of_each_file_stays_within_the_limit_and_is_moved() {
    let (main, aux) = ("main.t".to_owned(), format!("{AUX}.s"));
    for tables in [vec![&aux], vec![&aux, &main], vec![&main, &main, &main, &aux]] {
        let (folder, client) = opened(|_| ());
        for i in 0..40 {
            for table in &tables {
                write_megabyte(&client, table, i);
            }
            for log in ["test.db-wal", "aux.db-wal"] {
                assert!(length(&folder, log) <= LIMIT, "{log}: {} bytes", length(&folder, log));
            }
        }
        assert!(length(&folder, "aux.db") > MB);
    }
}

#[test]
fn a_commit_to_both_files_says_how_long_either_log_is() {
    let (folder, client) = opened(|_| ());
    let mut largest = 0;
    for i in 0..40 {
        let both = client.transaction();
        both.run(&format!("INSERT OR REPLACE INTO main.t VALUES ({}, zeroblob(1000000))", i % 3));
        both.run(&format!("INSERT OR REPLACE INTO {AUX}.s VALUES (1, {i})"));
        both.commit().unwrap();
        largest = largest.max(client.store.metrics().wal_bytes);
        assert!(length(&folder, "test.db-wal") <= LIMIT, "{} bytes", length(&folder, "test.db-wal"));
    }
    assert!((4 * MB..=LIMIT).contains(&largest), "{largest} bytes");
    client.one(Work::Maintain(Maintenance::Checkpoint(CheckpointMode::Truncate))).unwrap();
    assert_eq!((length(&folder, "test.db-wal"), length(&folder, "aux.db-wal")), (0, 0));
    assert_eq!(client.store.metrics().wal_bytes, 0);
}

#[test]
fn a_read_that_keeps_the_log_of_one_file_ends_though_the_other_has_one_too() {
    for (read, written, log) in
        [("main.t", "main.t".to_owned(), "test.db-wal"), ("aux", format!("{AUX}.s"), "aux.db-wal")]
    {
        let (folder, client) = opened(|options| options.wal.max_read_age = Duration::from_millis(300));
        client.run("INSERT INTO main.t VALUES (9, 1)");
        client.run(&format!("INSERT INTO {AUX}.s VALUES (9, 1)"));
        let table = if read == "aux" { format!("{AUX}.s") } else { read.to_owned() };
        let (old, mut job) = client.job(client.member(&format!("{ENDLESS}{table}) FROM n")));
        // Where it is ended by nobody else.
        job.deadline = Some(Instant::now() + Duration::from_secs(60));
        client.store.submit([job]);
        while client.store.metrics().active == 0 {
            std::thread::yield_now();
        }
        for i in 0..20 {
            write_megabyte(&client, &written, i);
            assert!(length(&folder, log) <= LIMIT, "{} bytes", length(&folder, log));
        }
        assert_eq!(code(client.wait(old)), ErrorCode::SnapshotTooOld);
    }
}

#[test]
fn another_program_that_reads_one_file_lets_only_its_log_grow() {
    let (folder, client) = opened(|_| ());
    let other = rusqlite::Connection::open(folder.path().join("aux.db")).unwrap();
    other.execute_batch("BEGIN; SELECT count(*) FROM s").unwrap();
    let began = Instant::now();
    for i in 0..20 {
        write_megabyte(&client, &format!("{AUX}.s"), i);
        write_megabyte(&client, "main.t", i);
        assert!(length(&folder, "test.db-wal") <= LIMIT);
    }
    assert!(length(&folder, "aux.db-wal") > 15 * MB);
    assert!(began.elapsed() > Duration::from_secs(1));
    other.execute_batch("COMMIT").unwrap();
    for i in 0..40 {
        write_megabyte(&client, &format!("{AUX}.s"), i);
    }
    assert!(length(&folder, "aux.db-wal") <= LIMIT);
}

#[test]
fn what_is_attached_to_a_database_in_memory_has_a_log_within_the_limit() {
    let (folder, client) = opened(|options| options.path = None);
    for i in 0..40 {
        write_megabyte(&client, &format!("{AUX}.s"), i);
        assert!(length(&folder, "aux.db-wal") <= LIMIT, "{} bytes", length(&folder, "aux.db-wal"));
    }
    assert!(length(&folder, "aux.db") > MB);
}

#[test]
fn a_log_that_could_not_be_emptied_is_not_called_empty() {
    let (folder, client) = opened(|_| ());
    write_megabyte(&client, &format!("{AUX}.s"), 1);
    let other = rusqlite::Connection::open(folder.path().join("aux.db")).unwrap();
    other.execute_batch("BEGIN; SELECT count(*) FROM s").unwrap();
    write_megabyte(&client, &format!("{AUX}.s"), 2);
    write_megabyte(&client, "main.t", 1);
    let answer = client.one(Work::Maintain(Maintenance::Checkpoint(CheckpointMode::Truncate))).unwrap();
    assert_eq!(support::number(&answer), 1.0);
    assert_eq!(length(&folder, "test.db-wal"), 0);
    let left = client.store.metrics().wal_bytes;
    assert!(left > 2_000_000, "{left} bytes");
    other.execute_batch("COMMIT").unwrap();
    client.one(Work::Maintain(Maintenance::Checkpoint(CheckpointMode::Truncate))).unwrap();
    assert_eq!((client.store.metrics().wal_bytes, length(&folder, "aux.db-wal")), (0, 0));
}

#[test]
fn a_file_may_be_attached_by_a_name_that_is_a_word_of_sql() {
    for name in ["order", "group", "index", "select"] {
        let path = |folder: &Path| folder.join("word.db");
        let (folder, client) = opened(|options| {
            let path = path(options.path.as_ref().unwrap().parent().unwrap());
            options.setup.attach.push(Attached { name: name.into(), path, readonly: false });
        });
        client.run(&format!("CREATE TABLE \"{name}\".w (a INTEGER PRIMARY KEY, b BLOB)"));
        for i in 0..12 {
            write_megabyte(&client, &format!("\"{name}\".w"), i);
            assert!(length(&folder, "word.db-wal") <= LIMIT);
        }
        assert!(length(&folder, "word.db") > MB);
        client.one(Work::Maintain(Maintenance::Checkpoint(CheckpointMode::Truncate))).unwrap();
        assert_eq!(length(&folder, "word.db-wal"), 0);
    }
}

/// The file of a program that goes on, with a log that it has not moved.
fn of_another_program(path: &Path) -> rusqlite::Connection {
    let other = rusqlite::Connection::open(path).unwrap();
    other.execute_batch("PRAGMA journal_mode = wal; PRAGMA wal_autocheckpoint = 0; CREATE TABLE o (a)").unwrap();
    other
}

#[test]
fn a_file_that_is_only_read_is_nothing_to_move() {
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("other.db");
    let _other = of_another_program(&path);
    let (folder, client) =
        opened(|options| options.setup.attach.push(Attached { name: "seen".into(), path, readonly: true }));
    for i in 0..20 {
        write_megabyte(&client, "main.t", i);
        assert!(length(&folder, "test.db-wal") <= LIMIT, "{} bytes", length(&folder, "test.db-wal"));
    }
    assert!(length(&folder, "test.db") > MB);
    let answer = client.one(Work::Maintain(Maintenance::Checkpoint(CheckpointMode::Truncate))).unwrap();
    assert_eq!(support::number(&answer), 0.0);
    assert_eq!(length(&folder, "test.db-wal"), 0);
}

//! Backups: complete, of one moment, and in the way of nothing that is at their place.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail anywhere")]

mod support;

use std::time::{Duration, Instant};

use support::{Client, backup_to, code, with_table};
use zqlite_store::{BackupOptions, CheckpointMode, ErrorCode, Expect, Maintenance, Work};

#[test]
fn a_backup_is_of_one_moment_and_complete() {
    let (folder, client) = with_table();
    client.run("CREATE TABLE pair (a INTEGER, b INTEGER)");
    client.run("INSERT INTO pair VALUES (0, 0)");
    for i in 0..300 {
        client.try_run(&format!("INSERT INTO t VALUES ({i}, hex(randomblob(3000)))")).unwrap();
    }
    let to = folder.path().join("copy.db");
    let options = BackupOptions { pause: Duration::from_millis(2), ..backup_to(&to, 20) };
    let mut steps = 0;
    let writing = |i: u64| {
        let set = |column: &str| client.item(&format!("UPDATE pair SET {column} = {i}"), Expect::default());
        client.one(Work::Batch(vec![set("a"), set("b")])).unwrap();
    };
    let done = client
        .store
        .backup(&options, &mut |_| {
            steps += 1;
            writing(steps);
        })
        .unwrap();
    assert!(steps > 5 && done.remaining == 0 && done.total > 100, "{steps} steps, {done:?}");
    let copy = rusqlite::Connection::open(&to).unwrap();
    let check: String = copy.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    let same: bool = copy.query_row("SELECT a = b AND a <= 1 FROM pair", [], |row| row.get(0)).unwrap();
    assert!(check == "ok" && same);
    assert_eq!(client.store.backup(&options, &mut |_| {}).unwrap_err().code, ErrorCode::CannotOpen);
    options.cancel.cancel();
    let again = BackupOptions { overwrite: true, ..options };
    assert_eq!(client.store.backup(&again, &mut |_| {}).unwrap_err().code, ErrorCode::Cancelled);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("partial")), "{left:?}");
}

#[test]
fn a_backup_replaces_nothing_that_came_while_it_was_made() {
    let (folder, client) = with_table();
    for overwrite in [false, true] {
        let to = folder.path().join(format!("copy-{overwrite}.db"));
        let options = BackupOptions { overwrite, ..backup_to(&to, 1) };
        let mut came = None;
        let result = client.store.backup(&options, &mut |_| {
            came.get_or_insert_with(|| {
                let other = Client::open(&to);
                other.run("CREATE TABLE kept (a)");
                // Without a log beside it, too, it is in use.
                other.one(Work::Maintain(Maintenance::Checkpoint(CheckpointMode::Truncate))).unwrap();
                other
            });
        });
        assert_eq!(code(result), ErrorCode::CannotOpen);
        let other = came.unwrap();
        other.run("INSERT INTO kept VALUES (1)");
        drop(other);
        let other = rusqlite::Connection::open(&to).unwrap();
        assert_eq!(other.query_row("SELECT count(*) FROM kept", [], |row| row.get(0)), Ok(1));
        // A file that no database uses is replaced where that is asked for, and only there.
        let mut made = false;
        let options = BackupOptions { path: folder.path().join(format!("plain-{overwrite}.db")), ..options };
        let result = client.store.backup(&options, &mut |_| {
            if !std::mem::replace(&mut made, true) {
                std::fs::write(&options.path, "").unwrap();
            }
        });
        assert_eq!(result.map(|_| ()).map_err(|e| e.code), if overwrite { Ok(()) } else { Err(ErrorCode::CannotOpen) });
    }
}

#[test]
fn a_backup_waits_for_who_keeps_the_copy_locked_but_not_for_ever() {
    let (folder, client) = with_table();
    let options = backup_to(&folder.path().join("copy.db"), 10);
    // What an earlier backup left, which another program looks into.
    let partial = folder.path().join("copy.db-partial");
    let locked = || {
        let other = rusqlite::Connection::open(&partial).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        other
    };
    let other = locked();
    let began = Instant::now();
    let error = client.store.backup(&options, &mut |_| {}).unwrap_err();
    assert_eq!(error.code, ErrorCode::Busy, "{error}");
    assert!(error.message.contains("copy.db-partial"), "{error}");
    assert!((5..9).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    drop(other);
    assert!(!partial.exists() && !options.path.exists());
    // It looks meanwhile whether it is given up.
    let other = locked();
    let began = Instant::now();
    let bounded = BackupOptions { deadline: Some(began + Duration::from_millis(300)), ..options.clone() };
    assert_eq!(code(client.store.backup(&bounded, &mut |_| {})), ErrorCode::Deadline);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    drop(other);
    // Who goes in time is waited for.
    let other = locked();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(500));
            drop(other);
        });
        client.store.backup(&options, &mut |_| {}).unwrap();
    });
    assert!(options.path.exists());
}

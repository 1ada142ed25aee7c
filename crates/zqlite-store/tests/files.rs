//! The file of a store: opened, owned, closed, and connections that are replaced meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail anywhere")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use support::{Client, code, options, with_table};
use zqlite_store::{CheckpointMode, ErrorCode, Maintenance, Options, Store, Work};

#[test]
fn everything_is_there_after_closing_and_opening_again() {
    let (folder, client) = with_table();
    client.run("INSERT INTO t VALUES (1, 'kept')");
    drop(client);
    let path = folder.path().join("test.db");
    assert!(!folder.path().join("test.db-wal").exists(), "closing moves the log into the file");
    assert_eq!(Client::open(&path).number("SELECT id FROM t WHERE name = 'kept'"), 1.0);
}

#[test]
fn one_process_shares_one_store_whatever_the_path() {
    let (folder, client) = with_table();
    std::os::unix::fs::symlink(folder.path().join("test.db"), folder.path().join("link.db")).unwrap();
    let again = Store::open(options(&folder.path().join("link.db"))).unwrap();
    assert!(Arc::ptr_eq(&client.store, &again));
    assert_eq!(
        std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(folder.path().join("test.db")).unwrap()) & 0o777,
        0o600
    );
}

#[test]
fn a_readonly_store_reads_and_refuses_writes() {
    let (folder, client) = with_table();
    client.run("INSERT INTO t VALUES (1, 'x')");
    let readonly =
        Client::of(Store::open(Options { readonly: true, ..options(&folder.path().join("test.db")) }).unwrap());
    assert_eq!(readonly.number("SELECT id FROM t"), 1.0);
    assert_eq!(code(readonly.try_run("DELETE FROM t")), ErrorCode::Readonly);
}

#[test]
fn memory_databases_work_on_one_connection() {
    let client = Client::of(Store::open(Options::default()).unwrap());
    client.run("CREATE TABLE t (id INTEGER PRIMARY KEY)");
    client.run("INSERT INTO t VALUES (3)");
    assert_eq!(client.number("SELECT id FROM t"), 3.0);
}

#[test]
fn files_that_cannot_be_a_database_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let error = |path: &Path| Store::open(options(path)).err().unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(
        &text,
        "this is not a database, and it is long enough to hold a header of one hundred bytes or more .........",
    )
    .unwrap();
    for (path, expected) in [
        (text.clone(), ErrorCode::NotADatabase),
        (folder.path().join("no/such/folder.db"), ErrorCode::CannotOpen),
        (folder.path().to_owned(), ErrorCode::CannotOpen),
    ] {
        let error = error(&path);
        assert_eq!(error.code, expected, "{error}");
        assert!(error.message.contains(path.to_str().unwrap()), "{error}");
    }
    assert!(std::fs::read_to_string(&text).unwrap().starts_with("this is not"), "the foreign file is left alone");
}

#[test]
fn old_connections_are_replaced_between_calls() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&folder.path().join("test.db"));
    options.pool.max_lifetime = Duration::from_millis(20);
    let client = Client::of(Store::open(options).unwrap());
    for i in 0..60 {
        assert_eq!(client.number(&format!("SELECT {i}")), f64::from(i));
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_broken_connection_is_replaced_and_its_neighbours_are_served() {
    use std::os::unix::fs::FileExt;
    let (folder, client) = with_table();
    client.run("CREATE TABLE bad AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 2000) SELECT i FROM n");
    client.one(Work::Maintain(Maintenance::Checkpoint(CheckpointMode::Truncate))).unwrap();
    let page = client.number("SELECT rootpage FROM sqlite_schema WHERE name = 'bad'") as u64;
    let size = client.number("PRAGMA page_size") as u64;
    let file = std::fs::File::options().read(true).write(true).open(folder.path().join("test.db")).unwrap();
    let mut good = vec![0; size as usize];
    file.read_exact_at(&mut good, (page - 1) * size).unwrap();
    file.write_all_at(&vec![0xff; size as usize], (page - 1) * size).unwrap();
    // Another connection's commit has the readers look at the file again.
    client.run("INSERT INTO t VALUES (1, 'x')");
    let read = |sql: &str| Work::Run(client.call(sql, &[]));
    let works = (0..20).map(|i| read(if i % 2 == 0 { "SELECT count(*) FROM bad" } else { "SELECT count(*) FROM t" }));
    for (i, answer) in client.all(works.collect()).into_iter().enumerate() {
        if i % 2 == 0 {
            assert_eq!(code(answer), ErrorCode::Corrupt);
        } else {
            answer.unwrap();
        }
    }
    file.write_all_at(&good, (page - 1) * size).unwrap();
    for _ in 0..20 {
        assert_eq!(client.number("SELECT count(*) FROM bad"), 2000.0);
    }
}

//! The lanes as a caller sees them: what is answered, in what pieces, and what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail anywhere")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::types::Value;
use support::{Client, code, item_of, with_table};
use zqlite_store::{Cancel, ErrorCode, Expect, Flow, Sink, Ticket, Work};

#[test]
fn a_write_is_read_by_whoever_asks_after_it() {
    let (_folder, client) = with_table();
    for i in 1..=50 {
        let answer = client.try_run(&format!("INSERT INTO t VALUES ({i}, 'n{i}')"));
        assert_eq!((item_of(&answer).changes, item_of(&answer).last_insert_rowid), (1, i));
        assert_eq!(client.number("SELECT count(*) FROM t"), i as f64);
    }
}

#[test]
fn a_statement_that_is_no_insert_reports_no_earlier_counts() {
    let (_folder, client) = with_table();
    client.run("INSERT INTO t VALUES (7, 'x')");
    let item = item_of(&client.try_run("CREATE TABLE other (a)"));
    assert_eq!((item.changes, item.last_insert_rowid), (0, 0));
    let item = item_of(&client.try_run("UPDATE t SET name = 'y'"));
    assert_eq!((item.changes, item.last_insert_rowid), (1, 0));
}

#[test]
fn what_changes_a_connection_is_refused_with_the_reason() {
    let (_folder, client) = with_table();
    for (sql, word) in [
        ("BEGIN", "transaction()"),
        ("SAVEPOINT a", "transaction()"),
        ("CREATE TEMP TABLE x (a)", "TEMP"),
        ("ATTACH ':memory:' AS x", "ATTACH"),
        ("PRAGMA synchronous = OFF", "pragma"),
        ("PRAGMA foreign_keys = OFF", "pragma"),
        ("SELECT changes()", "changes()"),
        ("INSERT INTO t VALUES (last_insert_rowid(), 'x')", "changes()"),
    ] {
        let error = client.try_run(sql).unwrap_err();
        assert_eq!(error.code, ErrorCode::NotAllowed, "{sql}");
        assert!(error.message.contains(word), "{sql}: {}", error.message);
    }
    assert_eq!(client.number("PRAGMA foreign_keys"), 1.0);
    assert_eq!(client.number("PRAGMA synchronous").to_string(), "2");
}

#[test]
fn a_select_that_writes_finds_the_writer() {
    let (_folder, client) = with_table();
    let answer = client.try_run("WITH x(a) AS (VALUES (5)) INSERT INTO t SELECT a, 'w' FROM x RETURNING id");
    assert_eq!(item_of(&answer).changes, 1);
    assert_eq!(client.number("SELECT id FROM t"), 5.0);
}

#[test]
fn columns_follow_a_schema_that_changed_under_a_prepared_statement() {
    let (_folder, client) = with_table();
    client.run("INSERT INTO t VALUES (1, 'x')");
    let columns =
        |client: &Client| client.try_run("SELECT * FROM t").unwrap()[0].rows.as_ref().unwrap().0.columns.clone();
    for _ in 0..8 {
        assert_eq!(columns(&client), ["id", "name"]);
    }
    client.run("ALTER TABLE t ADD COLUMN extra");
    for _ in 0..8 {
        assert_eq!(columns(&client), ["id", "name", "extra"]);
    }
}

#[test]
fn a_large_result_comes_in_several_chunks() {
    let (_folder, client) = with_table();
    client.try_run("INSERT INTO t SELECT value, 'name of row ' || value FROM generate_series(1, 1)").unwrap_err();
    client.run("INSERT INTO t WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 20000) SELECT n, 'name of row ' || n FROM s");
    let records = client.try_run("SELECT * FROM t").unwrap();
    let rows = records
        .iter()
        .map(|r| r.rows.as_ref().map_or(0, |(_, c)| u32::from_le_bytes(c.words[..4].try_into().unwrap())))
        .sum::<u32>();
    assert_eq!(rows, 20000);
    assert!(records.len() > 3);
    assert!(records.iter().all(|r| r.rows.as_ref().is_none_or(|(_, c)| c.text.len() < 100 << 10)));
}

#[test]
fn the_pieces_of_a_result_come_together_but_not_without_end() {
    /// Counts the pieces of each delivery.
    #[derive(Default)]
    struct Deliveries(Mutex<Vec<usize>>, Condvar);
    impl Sink for Deliveries {
        fn deliver(&self, answers: &mut Vec<zqlite_store::Answer>) {
            let last = answers.drain(..).map(|answer| (1, answer.last)).fold((0, false), |a, b| (a.0 + b.0, a.1 | b.1));
            self.0.lock().push(last.0);
            if last.1 {
                self.1.notify_one();
            }
        }
    }
    let (_folder, client) = with_table();
    let deliveries = |rows: i64| {
        let sink = Arc::<Deliveries>::default();
        let sql =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?) SELECT hex(zeroblob(500)) FROM n";
        let (_, mut job) = client.job(Work::Run(client.call(sql, &[Value::Integer(rows)])));
        job.ticket = Ticket::new(sink.clone(), 0);
        let mut found = sink.0.lock();
        client.store.submit([job]);
        assert!(!sink.1.wait_for(&mut found, Duration::from_secs(20)).timed_out());
        found.clone()
    };
    // 1 KB a row: a chunk is about 64 of them.
    assert_eq!(deliveries(300), [5]);
    let many = deliveries(3_000);
    assert!(many.len() > 4 && many.iter().all(|pieces| *pieces <= 8), "{many:?}");
}

#[test]
fn a_stream_waits_for_its_reader_and_ends_with_it() {
    let (_folder, client) = with_table();
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000) SELECT i FROM n";
    let flow = Arc::new(Flow::default());
    let (token, job) = client.job(Work::Stream(client.call(many, &[]), flow.clone()));
    client.store.submit([job]);
    std::thread::sleep(Duration::from_millis(300));
    let pieces = client.pieces(token);
    assert!((1..=5).contains(&pieces), "{pieces} chunks went ahead");
    // Others are served meanwhile.
    assert_eq!(client.number("SELECT 1"), 1.0);
    flow.take();
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(client.pieces(token), pieces + 1);
    flow.end();
    assert_eq!(code(client.wait(token)), ErrorCode::Cancelled);
}

#[test]
fn the_synchronous_connection_sees_commits_and_has_a_budget() {
    let (folder, client) = with_table();
    client.run("INSERT INTO t VALUES (1, 'x')");
    let mut lane = client.store.sync_lane().unwrap();
    let mut run = |sql: &str| lane.run(client.call(sql, &[]), Instant::now()).map(|records| records.len());
    assert_eq!(run("SELECT * FROM t").unwrap(), 1);
    assert_eq!(run("INSERT INTO t VALUES (2, 'y')").unwrap_err().code, ErrorCode::NotAllowed);
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    assert_eq!(run(endless).unwrap_err().code, ErrorCode::StepBudget);
    assert_eq!(run("SELECT 1").unwrap(), 1);
    drop(lane);
    drop(client);
    assert!(!folder.path().join("test.db-wal").exists());
}

#[test]
fn health_is_answered_while_all_lanes_work() {
    let (_folder, client) = with_table();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let cancel = Cancel::default();
    let tokens: Vec<_> = (0..8)
        .map(|_| {
            let (token, mut job) = client.job(Work::Run(client.call(endless, &[])));
            job.cancel = Some(cancel.clone());
            client.store.submit([job]);
            token
        })
        .collect();
    let (sender, receiver) = std::sync::mpsc::channel();
    client.store.health(move |health| sender.send(health).unwrap());
    assert!(receiver.recv_timeout(Duration::from_secs(5)).unwrap().failure.is_none());
    cancel.cancel();
    client.store.sweep();
    for token in tokens {
        assert_eq!(code(client.wait(token)), ErrorCode::Cancelled);
    }
}

#[test]
fn own_pragmas_take_effect_and_unknown_ones_are_errors() {
    let (_folder, client) = with_table();
    assert_eq!(client.number("PRAGMA zqlite_cache_size = 268435456"), 268_435_456.0);
    assert_eq!(client.number("PRAGMA zqlite_cache_size"), 268_435_456.0);
    assert_eq!(code(client.try_run("PRAGMA zqlite_cash_size")), ErrorCode::Sql);
    let batch = client.one(Work::Batch(vec![client.item("PRAGMA zqlite_cache_size = 1000000", Expect::default())]));
    assert_eq!(code(batch), ErrorCode::NotAllowed);
    client.number("PRAGMA zqlite_parallel_writes = off");
    let insert = |i| Work::Run(client.call(&format!("INSERT INTO t VALUES ({i}, 'n{i}')"), &[]));
    let before = client.store.metrics().group_sizes.count();
    client.all((0..10).map(insert).collect());
    assert_eq!(client.store.metrics().group_sizes.count() - before, 10);
}

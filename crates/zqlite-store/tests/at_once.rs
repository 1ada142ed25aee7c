//! Synchronous calls: writes that borrow the writer's lane, and reads that keep their snapshot while nobody commits.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail anywhere")]

mod support;

use std::time::{Duration, Instant};

use rusqlite::types::Value;
use support::{Client, code};
use zqlite_store::{
    BatchItem, BeginMode, Call, CheckpointMode, Error, ErrorCode, Expect, Maintenance, Options, Params, Record, Store,
    TransactionId, Want, Work,
};

fn run(store: &Store, sql: &str, values: &[Value]) -> Result<Vec<Record>, Error> {
    store.write_sync(Work::Run(call(store, sql, values)), None)
}

fn call(store: &Store, sql: &str, values: &[Value]) -> Call {
    Call { statement: store.statement(sql), params: Params::from_values(values), want: Want::Rows }
}

/// The one number that a reading statement gives, read on this thread.
fn number(lane: &mut zqlite_store::SyncLane, store: &Store, sql: &str) -> f64 {
    support::number(&lane.run(call(store, sql, &[]), Instant::now()).unwrap())
}

#[test]
fn writes_of_many_threads_and_of_the_lane_are_each_done_once() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(&folder.path().join("t.db"));
    let store = client.store.clone();
    run(&store, "CREATE TABLE t (a INTEGER PRIMARY KEY, by TEXT)", &[]).unwrap();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let store = store.clone();
            std::thread::spawn(move || {
                for _ in 0..50 {
                    let records = run(&store, "INSERT INTO t (by) VALUES ('sync')", &[]).unwrap();
                    assert_eq!(records.last().unwrap().item.unwrap().changes, 1);
                }
            })
        })
        .collect();
    for _ in 0..50 {
        for answer in
            client.all((0..4).map(|_| Work::Run(client.call("INSERT INTO t (by) VALUES ('lane')", &[]))).collect())
        {
            answer.unwrap();
        }
    }
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let mut lane = store.sync_lane().unwrap();
    assert_eq!(number(&mut lane, &store, "SELECT count(*) FROM t WHERE by = 'sync'"), 200.0);
    assert_eq!(number(&mut lane, &store, "SELECT count(*) FROM t WHERE by = 'lane'"), 200.0);
}

#[test]
fn what_fails_leaves_nothing_and_the_lane_usable() {
    let folder = tempfile::tempdir().unwrap();
    let path = Some(folder.path().join("t.db"));
    for options in [Options::default(), Options { path, ..Options::default() }] {
        let store = Store::open(options).unwrap();
        run(&store, "CREATE TABLE p (id INTEGER PRIMARY KEY)", &[]).unwrap();
        run(&store, "CREATE TABLE c (p REFERENCES p DEFERRABLE INITIALLY DEFERRED)", &[]).unwrap();
        assert_eq!(code(run(&store, "INSERT INTO p VALUES (5), (5)", &[])), ErrorCode::Constraint);
        assert_eq!(code(run(&store, "INSERT INTO c VALUES (7)", &[])), ErrorCode::Constraint);
        assert_eq!(code(run(&store, "BEGIN", &[])), ErrorCode::NotAllowed);
        assert_eq!(code(run(&store, "INSERT INTO p VALUES (?)", &[])), ErrorCode::Parameters);
        let item =
            |sql: &str, changes| BatchItem { call: call(&store, sql, &[]), expect: Expect { rows: None, changes } };
        let guarded = vec![item("INSERT INTO p VALUES (1)", None), item("DELETE FROM p WHERE id = 9", Some(1))];
        assert_eq!(code(store.write_sync(Work::Batch(guarded), None)), ErrorCode::ExpectationFailed);
        let rollback = "INSERT OR ROLLBACK INTO p VALUES (2), (2)";
        assert_eq!(code(run(&store, rollback, &[])), ErrorCode::Constraint);
        let batch = vec![item("INSERT INTO p VALUES (3)", Some(1)), item("INSERT INTO c VALUES (3)", Some(1))];
        assert_eq!(store.write_sync(Work::Batch(batch), None).unwrap().len(), 2);
        let records =
            run(&store, "SELECT (SELECT group_concat(id) FROM p) || (SELECT group_concat(p) FROM c)", &[]).unwrap();
        assert_eq!(records[0].rows.as_ref().unwrap().1.text, b"33");
        assert_eq!(code(run(&store, "PRAGMA zqlite_cachesize = 1", &[])), ErrorCode::Sql);
    }
}

#[test]
fn a_write_waits_behind_a_transaction_no_longer_than_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(&folder.path().join("t.db"));
    run(&client.store, "CREATE TABLE t (a)", &[]).unwrap();
    let id = TransactionId(1);
    client.all(vec![Work::Begin(id, BeginMode::Immediate)]).remove(0).unwrap();
    let insert = || Work::Run(client.call("INSERT INTO t VALUES (1)", &[]));
    let began = Instant::now();
    let late = client.store.write_sync(insert(), Some(began + Duration::from_millis(100)));
    assert_eq!(code(late), ErrorCode::Deadline);
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    // The transaction is left idle, which ends it after a second; then it is this one's turn.
    client.store.write_sync(insert(), None).unwrap();
    let records = run(&client.store, "SELECT count(*) FROM t", &[]).unwrap();
    assert_eq!(support::number(&records), 1.0);
}

#[test]
fn a_statement_that_runs_too_long_is_ended_and_undone() {
    let store = Store::open(Options::default()).unwrap();
    run(&store, "CREATE TABLE t (a)", &[]).unwrap();
    let endless = "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    let late =
        store.write_sync(Work::Run(call(&store, endless, &[])), Some(Instant::now() + Duration::from_millis(50)));
    assert_eq!(code(late), ErrorCode::Deadline);
    let records = run(&store, "SELECT count(*) FROM t", &[]).unwrap();
    assert_eq!(support::number(&records), 0.0);
}

#[test]
fn a_read_sees_every_commit_that_was_answered_before_it() {
    let folder = tempfile::tempdir().unwrap();
    for shared in [false, true] {
        let path = folder.path().join(format!("{shared}.db"));
        let store = Store::open(Options { path: Some(path.clone()), shared, ..Options::default() }).unwrap();
        let client = Client::of(store.clone());
        run(&store, "CREATE TABLE t (a)", &[]).unwrap();
        let mut lane = store.sync_lane().unwrap();
        let mut expected = 0.0;
        for i in 0..300 {
            // Now the lane itself writes, now the lane of the caller, now nobody; now and then the log begins anew.
            match i % 5 {
                0 => drop(run(&store, "INSERT INTO t VALUES (1)", &[]).unwrap()),
                2 => drop(client.all(vec![Work::Run(client.call("INSERT INTO t VALUES (1)", &[]))]).remove(0).unwrap()),
                _ => expected -= 1.0,
            }
            expected += 1.0;
            if i % 50 == 49 {
                let truncate = Work::Maintain(Maintenance::Checkpoint(CheckpointMode::Truncate));
                client.all(vec![truncate]).remove(0).unwrap();
            }
            for _ in 0..4 {
                assert_eq!(number(&mut lane, &store, "SELECT count(*) FROM t"), expected, "round {i}");
            }
        }
        if shared {
            // Another connection, as another process would have.
            let other = rusqlite::Connection::open(&path).unwrap();
            other.execute("INSERT INTO t VALUES (1)", []).unwrap();
            assert_eq!(number(&mut lane, &store, "SELECT count(*) FROM t"), expected + 1.0);
        }
    }
}

#[test]
fn a_snapshot_that_is_kept_does_not_hold_a_checkpoint_up() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Options { path: Some(folder.path().join("t.db")), ..Options::default() }).unwrap();
    let client = Client::of(store.clone());
    run(&store, "CREATE TABLE t (a)", &[]).unwrap();
    let mut lane = store.sync_lane().unwrap();
    for _ in 0..3 {
        assert_eq!(number(&mut lane, &store, "SELECT count(*) FROM t"), 0.0);
    }
    run(&store, "INSERT INTO t VALUES (1)", &[]).unwrap();
    let began = Instant::now();
    let row = client.all(vec![Work::Maintain(Maintenance::Checkpoint(CheckpointMode::Truncate))]).remove(0).unwrap();
    assert_eq!(support::number(&row), 0.0, "busy");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert_eq!(number(&mut lane, &store, "SELECT count(*) FROM t"), 1.0);
}

#[test]
fn a_log_that_is_written_without_a_pause_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Options { path: Some(folder.path().join("t.db")), ..Options::default() }).unwrap();
    run(&store, "CREATE TABLE t (a)", &[]).unwrap();
    let mut most = 0;
    for _ in 0..2_500 {
        run(&store, "INSERT INTO t VALUES (randomblob(16000))", &[]).unwrap();
        most = most.max(store.metrics().wal_bytes);
    }
    assert!(most < 24 << 20, "{most} bytes of log");
}

#[test]
fn what_was_handed_over_before_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(&folder.path().join("t.db"));
    client.run("CREATE TABLE t (id INTEGER PRIMARY KEY, by TEXT)");
    for _ in 0..200 {
        // The writer's thread has to wake first, which the caller is quicker than.
        let before = client.start(vec![client.member("INSERT INTO t (by) VALUES ('lane')")]);
        let here = support::item_of(&run(&client.store, "INSERT INTO t (by) VALUES ('caller')", &[]));
        let there = support::item_of(&client.wait(before[0]));
        assert!(there.last_insert_rowid < here.last_insert_rowid);
    }
}

#[test]
fn what_comes_while_a_caller_writes_is_served_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(&folder.path().join("t.db"));
    client.run("CREATE TABLE t (a)");
    let store = client.store.clone();
    let long = std::thread::spawn(move || {
        let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000)";
        run(&store, &format!("INSERT INTO t {numbers} SELECT i FROM n"), &[]).unwrap();
    });
    while client.store.metrics().active == 0 && !long.is_finished() {
        std::thread::yield_now();
    }
    // Nothing more comes that could wake the writer's thread.
    client.run("INSERT INTO t VALUES (0)");
    long.join().unwrap();
    assert_eq!(client.number("SELECT count(*) FROM t"), 300_001.0);
}

#[test]
fn a_call_whose_time_is_over_does_not_begin() {
    let folder = tempfile::tempdir().unwrap();
    for options in [Options::default(), support::options(&folder.path().join("t.db"))] {
        let store = Store::open(options).unwrap();
        run(&store, "CREATE TABLE t (a)", &[]).unwrap();
        let insert = Work::Run(call(&store, "INSERT INTO t VALUES (1)", &[]));
        assert_eq!(code(store.write_sync(insert, Some(Instant::now()))), ErrorCode::Deadline);
        let mut lane = store.sync_lane().unwrap();
        assert_eq!(number(&mut lane, &store, "SELECT count(*) FROM t"), 0.0);
        let expired = store.metrics().expired;
        assert_eq!(expired, 1);
    }
}

#[test]
fn indexes_follow_a_write_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for options in [Options::default(), support::options(&folder.path().join("t.db"))] {
        let store = Store::open(options).unwrap();
        run(&store, "CREATE TABLE r (id INTEGER PRIMARY KEY, p TEXT)", &[]).unwrap();
        run(&store, "CREATE INDEX r_p ON r USING cidr (p)", &[]).unwrap();
        run(&store, "INSERT INTO r VALUES (1, '10.0.0.0/8')", &[]).unwrap();
        assert_eq!(code(run(&store, "INSERT INTO r VALUES (2, 'nowhere')", &[])), ErrorCode::IndexRow);
        run(&store, "INSERT INTO r VALUES (3, '10.1.0.0/16')", &[]).unwrap();
        let mut lane = store.sync_lane().unwrap();
        // The row id that an address is found under, here and in what is asked without SQL.
        assert_eq!(number(&mut lane, &store, "SELECT id FROM cidr_lookup('r_p', '10.1.2.3')"), 3.0);
        let index = store.indexes().cidr("r_p");
        let found = || index.lookup("10.1.2.3").unwrap().unwrap().1;
        assert_eq!(found(), [3]);
        run(&store, "DELETE FROM r WHERE id = 3", &[]).unwrap();
        assert_eq!(number(&mut lane, &store, "SELECT id FROM cidr_lookup('r_p', '10.1.2.3')"), 1.0);
        assert_eq!(found(), [1]);
        assert_eq!(number(&mut lane, &store, "SELECT count(*) FROM r"), 1.0);
    }
}

#[test]
fn a_database_in_memory_is_read_at_once_within_the_same_bounds() {
    let store = Store::open(Options { sync_steps: 10_000, ..Options::default() }).unwrap();
    let client = Client::of(store.clone());
    client.run("CREATE TABLE t (a)");
    let mut lane = store.sync_lane().unwrap();
    for i in 1..=50 {
        // Beside calls of the lane, whose group a read may then be part of.
        let waiting = client.start((0..4).map(|_| client.member("INSERT INTO t VALUES (1)")).collect());
        assert_eq!(number(&mut lane, &store, "SELECT count(*) FROM t"), 4.0 * f64::from(i));
        waiting.into_iter().for_each(|token| drop(client.wait(token).unwrap()));
    }
    let mut fails = |sql: &str| code(lane.run(call(&store, sql, &[]), Instant::now()));
    assert_eq!(fails("INSERT INTO t VALUES (2)"), ErrorCode::NotAllowed);
    assert_eq!(fails("DELETE FROM t RETURNING a"), ErrorCode::NotAllowed);
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    assert_eq!(fails(endless), ErrorCode::StepBudget);
    // The budget is of that call alone.
    let long =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT count(*) FROM n";
    assert_eq!(client.number(long), 100_000.0);
    assert_eq!(client.number("SELECT count(*) FROM t"), 200.0);
    // One that uses its budget up takes nobody with it.
    let reader = std::thread::spawn(move || code(lane.run(call(&store, endless, &[]), Instant::now())));
    while !reader.is_finished() {
        client.run("INSERT INTO t VALUES (3)");
    }
    assert_eq!(reader.join().unwrap(), ErrorCode::StepBudget);
}

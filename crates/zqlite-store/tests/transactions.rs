//! Callback transactions: they own the writer's lane, for no longer than they may.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail anywhere")]

mod support;

use std::time::{Duration, Instant};

use support::{Client, code, options, with_table};
use zqlite_store::{BeginMode, ErrorCode, Nest, Store, TransactionId, Work};

#[test]
fn a_callback_transaction_owns_the_lane_until_it_ends() {
    let (_folder, client) = with_table();
    let id = TransactionId(1);
    client.one(Work::Begin(id, BeginMode::Immediate)).unwrap();
    let (outside, job) = client.job(Work::Run(client.call("INSERT INTO t VALUES (100, 'outside')", &[])));
    client.store.submit([job]);
    client.one(Work::Step(id, client.call("INSERT INTO t VALUES (1, 'a')", &[]))).unwrap();
    assert_eq!(client.number("SELECT count(*) FROM t"), 0.0, "readers do not see it before COMMIT");
    client.one(Work::Commit(id)).unwrap();
    client.wait(outside).unwrap();
    assert_eq!(client.number("SELECT count(*) FROM t"), 2.0);
    assert_eq!(code(client.one(Work::Step(id, client.call("SELECT 1", &[])))), ErrorCode::TransactionState);
}

#[test]
fn an_idle_transaction_is_rolled_back_and_its_next_step_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&folder.path().join("test.db"));
    options.transactions.idle = Duration::from_millis(50);
    let client = Client::of(Store::open(options).unwrap());
    client.run("CREATE TABLE t (id INTEGER PRIMARY KEY)");
    let id = TransactionId(9);
    client.one(Work::Begin(id, BeginMode::Immediate)).unwrap();
    client.one(Work::Step(id, client.call("INSERT INTO t VALUES (1)", &[]))).unwrap();
    std::thread::sleep(Duration::from_millis(120));
    assert_eq!(code(client.one(Work::Commit(id))), ErrorCode::TransactionTimeout);
    assert_eq!(client.number("SELECT count(*) FROM t"), 0.0);
    client.run("INSERT INTO t VALUES (2)");
}

#[test]
fn a_transaction_that_runs_too_long_is_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&folder.path().join("test.db"));
    options.transactions.total = Duration::from_millis(100);
    let client = Client::of(Store::open(options).unwrap());
    client.run("CREATE TABLE t (id INTEGER PRIMARY KEY)");
    let id = TransactionId(9);
    client.one(Work::Begin(id, BeginMode::Immediate)).unwrap();
    let endless = "INSERT INTO t WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s) SELECT n FROM s";
    let started = Instant::now();
    assert_eq!(code(client.one(Work::Step(id, client.call(endless, &[])))), ErrorCode::Deadline);
    assert!(started.elapsed() < Duration::from_secs(2));
    client.run("INSERT INTO t VALUES (2)");
    assert_eq!(client.number("SELECT count(*) FROM t"), 1.0);
}

#[test]
fn transactions_and_groups_take_turns() {
    let (_folder, client) = with_table();
    let first = TransactionId(1);
    client.one(Work::Begin(first, BeginMode::Immediate)).unwrap();
    let (second, begin) = client.job(Work::Begin(TransactionId(2), BeginMode::Immediate));
    let (write, insert) = client.job(Work::Run(client.call("INSERT INTO t VALUES (1, 'group')", &[])));
    client.store.submit([begin, insert]);
    client.one(Work::Commit(first)).unwrap();
    // The group does not wait for the second transaction, which nobody ends.
    client.wait(write).unwrap();
    client.wait(second).unwrap();
    client.one(Work::Rollback(TransactionId(2))).unwrap();
}

#[test]
fn nested_transactions_are_undone_alone() {
    let (_folder, client) = with_table();
    let id = TransactionId(79);
    client.one(Work::Begin(id, BeginMode::Immediate)).unwrap();
    let step = |sql| client.one(Work::Step(id, client.call(sql, &[]))).unwrap();
    step("INSERT INTO t VALUES (1, 'outer')");
    client.one(Work::Nest(id, Nest::Begin)).unwrap();
    step("INSERT INTO t VALUES (2, 'kept')");
    client.one(Work::Nest(id, Nest::Begin)).unwrap();
    step("INSERT INTO t VALUES (3, 'undone')");
    client.one(Work::Nest(id, Nest::Undo)).unwrap();
    client.one(Work::Nest(id, Nest::Release)).unwrap();
    client.one(Work::Commit(id)).unwrap();
    assert_eq!(client.number("SELECT group_concat(id) = '1,2' FROM t"), 1.0);
}

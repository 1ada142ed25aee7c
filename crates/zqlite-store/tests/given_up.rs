//! Calls that end before they are done: by their deadline, their caller, or a queue that is full.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail anywhere")]

mod support;

use std::time::{Duration, Instant};

use support::{Client, code, options, with_table};
use zqlite_store::{BeginMode, Cancel, ErrorCode, Options, Store, TransactionId, Work};

#[test]
fn a_read_past_its_deadline_ends_and_the_next_is_untouched() {
    let (_folder, client) = with_table();
    let endless =
        client.call("WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s) SELECT count(*) FROM s", &[]);
    let (token, mut job) = client.job(Work::Run(endless));
    job.deadline = Some(Instant::now() + Duration::from_millis(50));
    client.store.submit([job]);
    assert_eq!(code(client.wait(token)), ErrorCode::Deadline);
    for _ in 0..10 {
        assert_eq!(client.number("SELECT 1"), 1.0);
    }
}

#[test]
fn a_full_queue_refuses_and_a_long_wait_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&folder.path().join("test.db"));
    options.pool.queue_limit = 2;
    options.pool.connection_timeout = Duration::from_millis(300);
    let client = Client::of(Store::open(options).unwrap());
    client.run("CREATE TABLE t (id INTEGER PRIMARY KEY)");
    client.one(Work::Begin(TransactionId(1), BeginMode::Immediate)).unwrap();
    let insert = || Work::Run(client.call("INSERT INTO t DEFAULT VALUES", &[]));
    let answers = client.all((0..3).map(|_| insert()).collect());
    let codes: Vec<_> = answers.into_iter().map(code).collect();
    assert_eq!(codes, [ErrorCode::PoolTimeout, ErrorCode::PoolTimeout, ErrorCode::QueueFull]);
    client.one(Work::Rollback(TransactionId(1))).unwrap();
    client.one(insert()).unwrap();
}

#[test]
fn a_call_that_is_given_up_ends_and_the_next_is_untouched() {
    let (_folder, client) = with_table();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let cancel = Cancel::default();
    let (token, mut job) = client.job(Work::Run(client.call(endless, &[])));
    job.cancel = Some(cancel.clone());
    client.store.submit([job]);
    std::thread::sleep(Duration::from_millis(50));
    cancel.cancel();
    assert_eq!(code(client.wait(token)), ErrorCode::Cancelled);
    // Past its time, a cancellation concerns nobody.
    cancel.cancel();
    for _ in 0..20 {
        assert_eq!(client.number("SELECT 1"), 1.0);
    }
}

#[test]
fn calls_end_with_their_sender_and_one_of_them_alone() {
    let sender = Cancel::default();
    let (one, other) = (sender.of_one(), sender.of_one());
    let (_folder, client) = with_table();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let start = |cancel: &Cancel| {
        let (token, mut job) = client.job(Work::Run(client.call(endless, &[])));
        job.cancel = Some(cancel.clone());
        client.store.submit([job]);
        token
    };
    let (first, second) = (start(&one), start(&other));
    one.cancel();
    assert_eq!(code(client.wait(first)), ErrorCode::Cancelled);
    assert!(!client.is_answered(second));
    sender.cancel();
    assert_eq!(code(client.wait(second)), ErrorCode::Cancelled);
}

#[test]
fn a_write_that_is_given_up_while_it_waits_is_never_made() {
    let (_folder, client) = with_table();
    let id = TransactionId(77);
    client.one(Work::Begin(id, BeginMode::Immediate)).unwrap();
    let cancel = Cancel::default();
    let (token, mut job) = client.job(Work::Run(client.call("INSERT INTO t VALUES (1, 'x')", &[])));
    job.cancel = Some(cancel.clone());
    client.store.submit([job]);
    cancel.cancel();
    client.store.sweep();
    assert_eq!(code(client.wait(token)), ErrorCode::Cancelled);
    client.one(Work::Rollback(id)).unwrap();
    assert_eq!(client.number("SELECT count(*) FROM t"), 0.0);
}

#[test]
fn waiting_calls_expire_on_a_database_in_memory_too() {
    let client = Client::of(Store::open(Options::default()).unwrap());
    let id = TransactionId(80);
    client.one(Work::Begin(id, BeginMode::Immediate)).unwrap();
    let (token, mut job) = client.job(Work::Run(client.call("SELECT 1", &[])));
    job.deadline = Some(Instant::now() + Duration::from_millis(30));
    let asked = Instant::now();
    client.store.submit([job]);
    assert_eq!(code(client.wait(token)), ErrorCode::Deadline);
    assert!(asked.elapsed() < Duration::from_millis(500), "it waited for the transaction");
}

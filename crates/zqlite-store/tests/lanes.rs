//! The lanes as a caller sees them: groups, poisonous members, batches with guards, callback transactions, ownership.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail anywhere")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rusqlite::types::Value;
use support::{Client, code, item_of, options};
use zqlite_store::{
    BackupOptions, BeginMode, Cancel, CheckpointMode, ErrorCode, Expect, Flow, Maintenance, Nest, Options, Sink, Store,
    Ticket, TransactionId, Work,
};

struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// A store with a table.
fn fresh() -> (tempfile::TempDir, Client) {
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(&folder.path().join("test.db"));
    client.run("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)");
    (folder, client)
}

#[test]
fn a_write_is_read_by_whoever_asks_after_it() {
    let (_folder, client) = fresh();
    for i in 1..=50 {
        let answer = client.try_run(&format!("INSERT INTO t VALUES ({i}, 'n{i}')"));
        assert_eq!((item_of(&answer).changes, item_of(&answer).last_insert_rowid), (1, i));
        assert_eq!(client.number("SELECT count(*) FROM t"), i as f64);
    }
}

#[test]
fn waiting_writes_share_a_commit_and_keep_their_own_counts() {
    let (_folder, client) = fresh();
    let before = client.store.metrics().group_sizes.count();
    let works = (0..200).map(|i| {
        Work::Run(client.call("INSERT INTO t VALUES (?, ?)", &[Value::Integer(i), Value::Text(format!("n{i}"))]))
    });
    let answers = client.all(works.collect());
    for (i, answer) in answers.iter().enumerate() {
        let item = item_of(answer);
        assert_eq!((item.changes, item.last_insert_rowid), (1, i as i64));
    }
    let groups = client.store.metrics().group_sizes.count() - before;
    assert!(groups < 100, "200 inserts took {groups} commits");
}

#[test]
fn without_parallel_writes_every_write_has_its_commit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("test.db");
    let client = Client::of(Store::open(Options { parallel_writes: false, ..options(&path) }).unwrap());
    client.run("CREATE TABLE t (id INTEGER PRIMARY KEY)");
    let before = client.store.metrics().group_sizes.count();
    client.all((0..20).map(|_| Work::Run(client.call("INSERT INTO t DEFAULT VALUES", &[]))).collect());
    assert_eq!(client.store.metrics().group_sizes.count() - before, 20);
}

/// Statements that fail in every way in which one can, beside rows 1 and 50, and what they fail with.
const POISONS: &[(&str, ErrorCode)] = &[
    ("INSERT INTO t VALUES (1, 'taken')", ErrorCode::Constraint),
    ("INSERT INTO t SELECT value, 'a' || value FROM json_each('[70, 71, 1]')", ErrorCode::Constraint),
    ("INSERT OR ROLLBACK INTO t VALUES (1, 'taken')", ErrorCode::Constraint),
    ("INSERT OR FAIL INTO t SELECT value, 'f' || value FROM json_each('[70, 71, 1]')", ErrorCode::Constraint),
    ("UPDATE OR FAIL t SET id = CASE id WHEN 1 THEN 80 ELSE 80 END", ErrorCode::Constraint),
    ("INSERT INTO boom VALUES ('rollback')", ErrorCode::Constraint),
    ("INSERT INTO boom VALUES ('fail')", ErrorCode::Constraint),
    ("INSERT INTO boom VALUES ('abort')", ErrorCode::Constraint),
    ("INSERT INTO boom VALUES ('fail') RETURNING x", ErrorCode::Constraint),
    ("INSERT INTO child VALUES (99)", ErrorCode::Constraint),
    ("DELETE FROM parent WHERE id = 5", ErrorCode::Constraint),
    ("INSERT INTO t VALUES (72, 'a row') RETURNING json(name)", ErrorCode::Sql),
    ("CREATE TABLE made AS SELECT json(name) FROM t", ErrorCode::Sql),
    ("INSERT INTO t (id) VALUES (?)", ErrorCode::Parameters),
    ("SELECT no_such_column FROM t", ErrorCode::Sql),
    ("SELECT abs(-9223372036854775808)", ErrorCode::Sql),
    ("BEGIN", ErrorCode::NotAllowed),
    ("ROLLBACK", ErrorCode::NotAllowed),
    ("PRAGMA defer_foreign_keys = 1", ErrorCode::NotAllowed),
];

/// A store for [`POISONS`].
fn poisoned() -> (tempfile::TempDir, Client) {
    let (folder, client) = fresh();
    client.run("INSERT INTO t VALUES (1, 'one')");
    client.run("CREATE TABLE boom (x)");
    client.run(
        "CREATE TRIGGER b BEFORE INSERT ON boom BEGIN
            INSERT INTO t VALUES (90, 'of the trigger');
            SELECT RAISE(ROLLBACK, 'boom') WHERE new.x = 'rollback';
            SELECT RAISE(FAIL, 'boom') WHERE new.x = 'fail';
            SELECT RAISE(ABORT, 'boom') WHERE new.x = 'abort';
        END",
    );
    client.run("CREATE TABLE parent (id INTEGER PRIMARY KEY)");
    client.run("INSERT INTO parent VALUES (5)");
    client.run("CREATE TABLE child (parent REFERENCES parent(id) DEFERRABLE INITIALLY DEFERRED)");
    client.run("INSERT INTO child VALUES (5)");
    (folder, client)
}

#[test]
fn a_poisonous_member_hurts_only_itself() {
    for (poison, expected) in POISONS {
        // In a batch, with and without something before it, and as a single statement.
        for (shape, batched) in
            [Some(&["INSERT INTO t VALUES (60, 'of the poisoned batch')"][..]), Some(&[]), None].into_iter().enumerate()
        {
            let (_folder, client) = poisoned();
            // More than once, since a statement that has failed is run otherwise from then on.
            for round in 0..3 {
                let id = 10 * round + 2;
                let work = match batched {
                    Some(before) => client.batch(&[before, &[poison]].concat()),
                    None => client.member(poison),
                };
                let answers = client.all(vec![
                    client.member(&format!("INSERT INTO t VALUES ({id}, 'before {round}')")),
                    client.batch(&[&format!("INSERT INTO t VALUES (5{round}, 'partial {round}')")]),
                    work,
                    client.member(&format!("INSERT INTO t VALUES ({}, 'after {round}')", id + 1)),
                ]);
                let told = format!("{poison}, shape {shape}, round {round}");
                assert_eq!(item_of(&answers[0]).last_insert_rowid, id, "{told}");
                assert_eq!(answers[2].as_ref().expect_err(&told).code, *expected, "{told}");
                assert_eq!(item_of(&answers[3]).last_insert_rowid, id + 1, "{told}");
            }
            let left = "SELECT group_concat(id) FROM (SELECT id FROM t ORDER BY id)";
            assert_eq!(client.text(left), "1,2,3,12,13,22,23,50,51,52", "{poison}, shape {shape}");
            let others = "SELECT (SELECT count(*) FROM boom) || (SELECT group_concat(parent) FROM child)
                || (SELECT group_concat(id) FROM parent) || (SELECT count(*) FROM sqlite_schema WHERE name = 'made')";
            assert_eq!(client.text(others), "0550", "{poison}, shape {shape}");
        }
    }
}

#[test]
fn a_member_that_fails_costs_its_neighbours_no_commit_of_their_own() {
    let (_folder, client) = poisoned();
    let sql = "INSERT INTO t (id) VALUES (?)";
    // What is known of a statement is kept as long as anybody holds it.
    let _held = client.store.statement(sql);
    let insert = |i: i64| Work::Run(client.call(sql, &[Value::Integer(i)]));
    let before = client.store.metrics();
    for round in 1..=10 {
        // The row that is there already stands among those of others; all come from one statement.
        let answers = client.all((0..64).map(|i| insert(if i == 32 { 1 } else { 1000 * round + i })).collect());
        for (i, answer) in answers.into_iter().enumerate() {
            assert_eq!(answer.is_err(), i == 32, "{i}");
        }
    }
    let now = client.store.metrics();
    // A turn of the writer may come while the members are still handed over, but not often.
    assert!(now.group_sizes.count() - before.group_sizes.count() <= 20);
    // Only the first failure was a surprise.
    assert!((1..=64).contains(&(now.reruns - before.reruns)), "{}", now.reruns - before.reruns);
    assert_eq!(client.number("SELECT count(*) FROM t"), 1.0 + 10.0 * 63.0);
    // Several that fail, each a surprise, are undone once together.
    let before = client.store.metrics();
    let answers =
        client.all((0..64).map(|i| client.member(&format!("INSERT INTO t (id) VALUES ({})", i % 2))).collect());
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let now = client.store.metrics();
    assert!(now.group_sizes.count() - before.group_sizes.count() <= 2);
    assert!(now.reruns - before.reruns <= 64, "{}", now.reruns - before.reruns);
}

#[test]
fn a_batch_is_all_or_nothing_and_names_the_statement_that_failed() {
    let (_folder, client) = fresh();
    let none = Expect::default();
    let answer = client.one(Work::Batch(vec![
        client.item("INSERT INTO t VALUES (1, 'a')", none),
        client.item("INSERT INTO t VALUES (2, 'b') RETURNING id, name", Expect { rows: Some(1), changes: Some(1) }),
    ]));
    let records = answer.unwrap();
    assert_eq!(records.iter().filter(|r| r.item.is_some()).count(), 2);
    assert_eq!(records[1].rows.as_ref().unwrap().0.columns, ["id", "name"]);
    let answer = client.one(Work::Batch(vec![
        client.item("INSERT INTO t VALUES (3, 'c')", none),
        client.item("SELECT 1 FROM t WHERE id = 99", Expect { rows: Some(1), changes: None }),
        client.item("INSERT INTO t VALUES (4, 'd')", none),
    ]));
    let error = answer.unwrap_err();
    assert_eq!((error.code, error.statement), (ErrorCode::ExpectationFailed, Some(1)));
    assert_eq!(client.number("SELECT count(*) FROM t"), 2.0);
}

#[test]
fn a_statement_that_is_no_insert_reports_no_earlier_counts() {
    let (_folder, client) = fresh();
    client.run("INSERT INTO t VALUES (7, 'x')");
    let item = item_of(&client.try_run("CREATE TABLE other (a)"));
    assert_eq!((item.changes, item.last_insert_rowid), (0, 0));
    let item = item_of(&client.try_run("UPDATE t SET name = 'y'"));
    assert_eq!((item.changes, item.last_insert_rowid), (1, 0));
}

#[test]
fn what_changes_a_connection_is_refused_with_the_reason() {
    let (_folder, client) = fresh();
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
    let (_folder, client) = fresh();
    let answer = client.try_run("WITH x(a) AS (VALUES (5)) INSERT INTO t SELECT a, 'w' FROM x RETURNING id");
    assert_eq!(item_of(&answer).changes, 1);
    assert_eq!(client.number("SELECT id FROM t"), 5.0);
}

#[test]
fn columns_follow_a_schema_that_changed_under_a_prepared_statement() {
    let (_folder, client) = fresh();
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
    let (_folder, client) = fresh();
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
    let (_folder, client) = fresh();
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
fn a_callback_transaction_owns_the_lane_until_it_ends() {
    let (_folder, client) = fresh();
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
    let (_folder, client) = fresh();
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
fn a_read_past_its_deadline_ends_and_the_next_is_untouched() {
    let (_folder, client) = fresh();
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
fn the_log_is_moved_into_the_file_while_writing_goes_on() {
    let (folder, client) = fresh();
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
fn everything_is_there_after_closing_and_opening_again() {
    let (folder, client) = fresh();
    client.run("INSERT INTO t VALUES (1, 'kept')");
    drop(client);
    let path = folder.path().join("test.db");
    assert!(!folder.path().join("test.db-wal").exists(), "closing moves the log into the file");
    assert_eq!(Client::open(&path).number("SELECT id FROM t WHERE name = 'kept'"), 1.0);
}

#[test]
fn room_ahead_of_the_log_is_no_part_of_it() {
    let (folder, client) = fresh();
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
fn one_process_shares_one_store_whatever_the_path() {
    let (folder, client) = fresh();
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
    let (folder, client) = fresh();
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
fn a_call_that_is_given_up_ends_and_the_next_is_untouched() {
    let (_folder, client) = fresh();
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
    let (_folder, client) = fresh();
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
    let (_folder, client) = fresh();
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
fn an_interrupted_member_of_a_group_takes_nobody_with_it() {
    let (_folder, client) = fresh();
    let endless = "INSERT INTO t SELECT i, 'n' || i FROM (WITH RECURSIVE n(i) AS (SELECT 1000 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n)";
    let id = TransactionId(78);
    client.one(Work::Begin(id, BeginMode::Immediate)).unwrap();
    let cancel = Cancel::default();
    let mut tokens = Vec::new();
    for (i, sql) in ["INSERT INTO t VALUES (1, 'a')", endless, "INSERT INTO t VALUES (2, 'b')"].iter().enumerate() {
        let (token, mut job) = client.job(Work::Run(client.call(sql, &[])));
        job.cancel = (i == 1).then(|| cancel.clone());
        client.store.submit([job]);
        tokens.push(token);
    }
    // All three wait for the transaction, so they share a group.
    client.one(Work::Rollback(id)).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    cancel.cancel();
    let answers: Vec<_> = tokens.into_iter().map(|t| client.wait(t)).collect();
    assert!(answers[0].is_ok() && answers[2].is_ok());
    assert_eq!(answers[1].as_ref().unwrap_err().code, ErrorCode::Cancelled);
    assert_eq!(client.number("SELECT count(*) FROM t"), 2.0);
}

#[test]
fn a_stream_waits_for_its_reader_and_ends_with_it() {
    let (_folder, client) = fresh();
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
fn nested_transactions_are_undone_alone() {
    let (_folder, client) = fresh();
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

#[test]
fn maintenance_runs_between_groups() {
    let (folder, client) = fresh();
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

#[test]
fn a_backup_is_of_one_moment_and_complete() {
    let (folder, client) = fresh();
    client.run("CREATE TABLE pair (a INTEGER, b INTEGER)");
    client.run("INSERT INTO pair VALUES (0, 0)");
    for i in 0..300 {
        client.try_run(&format!("INSERT INTO t VALUES ({i}, hex(randomblob(3000)))")).unwrap();
    }
    let to = folder.path().join("copy.db");
    let options = BackupOptions {
        path: to.clone(),
        overwrite: false,
        pages: 20,
        pause: Duration::from_millis(2),
        cancel: Cancel::default(),
        deadline: None,
    };
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
    let (folder, client) = fresh();
    for overwrite in [false, true] {
        let to = folder.path().join(format!("copy-{overwrite}.db"));
        let options = BackupOptions {
            path: to.clone(),
            overwrite,
            pages: 1,
            pause: Duration::ZERO,
            cancel: Cancel::default(),
            deadline: None,
        };
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
    let (folder, client) = fresh();
    let options = BackupOptions {
        path: folder.path().join("copy.db"),
        overwrite: false,
        pages: 10,
        pause: Duration::ZERO,
        cancel: Cancel::default(),
        deadline: None,
    };
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

#[test]
fn the_synchronous_connection_sees_commits_and_has_a_budget() {
    let (folder, client) = fresh();
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
fn a_read_that_keeps_the_log_above_its_limit_ends_and_the_log_starts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&folder.path().join("test.db"));
    options.wal.limit = 8 << 20;
    options.wal.max_read_age = Duration::from_millis(200);
    let client = Client::of(Store::open(options).unwrap());
    client.run("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)");
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) + (SELECT count(*) FROM t) FROM n";
    let (old, job) = client.job(Work::Run(client.call(endless, &[])));
    client.store.submit([job]);
    let largest = (0..60)
        .map(|_| {
            client.run("INSERT INTO t (b) VALUES (zeroblob(1000000))");
            client.run("DELETE FROM t");
            std::thread::sleep(Duration::from_millis(10));
            client.store.metrics().wal_bytes
        })
        .max();
    let error = client.wait(old).unwrap_err();
    assert_eq!(error.code, ErrorCode::SnapshotTooOld, "{error}");
    assert!(largest < Some(40 << 20), "{largest:?}");
    assert_eq!(client.number("SELECT 1"), 1.0);
}

#[test]
fn short_statements_wait_behind_no_long_ones() {
    let (_folder, client) = fresh();
    // What was learned of a statement is kept while somebody holds it.
    let _held = client.store.statement("SELECT count(*) FROM t");
    client.number("SELECT count(*) FROM t");
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let cancel = Cancel::default();
    let _when_it_fails = CancelOnDrop(cancel.clone());
    let long: Vec<_> = (0..50)
        .map(|_| {
            let (token, mut job) = client.job(Work::Run(client.call(endless, &[])));
            job.cancel = Some(cancel.clone());
            client.store.submit([job]);
            token
        })
        .collect();
    let started = Instant::now();
    for _ in 0..100 {
        assert_eq!(client.number("SELECT count(*) FROM t"), 0.0);
    }
    assert!(started.elapsed() < Duration::from_secs(5));
    cancel.cancel();
    for token in long {
        assert_eq!(code(client.wait(token)), ErrorCode::Cancelled);
    }
    // Nobody is left waiting for a turn.
    drop(client);
}

/// Keeps every lane for long statements busy until it is dropped.
struct Endless {
    cancel: CancelOnDrop,
}

impl Endless {
    const SQL: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";

    fn start(client: &Client) -> Self {
        let cancel = Cancel::default();
        for _ in 0..50 {
            let (_, mut job) = client.job(Work::Run(client.call(Self::SQL, &[])));
            job.cancel = Some(cancel.clone());
            client.store.submit([job]);
        }
        Self { cancel: CancelOnDrop(cancel) }
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.cancel.0.cancel();
    }
}

#[test]
fn a_statement_that_never_ran_waits_behind_no_long_one() {
    let (_folder, client) = fresh();
    let _busy = Endless::start(&client);
    for i in 0..100 {
        assert_eq!(client.number(&format!("SELECT {i}")), f64::from(i));
    }
}

#[test]
fn a_statement_that_turns_out_long_begins_again_and_is_answered_once() {
    let (_folder, client) = fresh();
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT ?) SELECT i, hex(zeroblob(?)) AS text FROM n";
    let held: Vec<_> = ["", " WHERE true"].map(|more| client.store.statement(&format!("{sql}{more}"))).into();
    // The one by its rows, the other by its steps, after both were short; then they are known to be long, whatever they do.
    for (which, rows, bytes) in
        [(0, 3, 1), (0, 300, 1000), (1, 3, 1), (1, 100_000, 1), (0, 3, 1), (1, 3, 1), (0, 300, 1000)]
    {
        let call = client.call(held[which].sql(), &[Value::Integer(rows), Value::Integer(bytes)]);
        // Beside others in one share, which must not notice.
        let mut works = vec![Work::Run(call)];
        works.extend((0..20).map(|_| Work::Run(client.call("SELECT 7", &[]))));
        let mut answers = client.all(works);
        let records = answers.remove(0).unwrap();
        let found: u32 = records
            .iter()
            .filter_map(|record| record.rows.as_ref())
            .map(|(_, chunk)| u32::from_le_bytes(chunk.words[..4].try_into().unwrap()))
            .sum();
        assert_eq!(i64::from(found), rows);
        assert!(answers.iter().all(Result::is_ok));
    }
}

#[test]
fn a_large_schema_makes_no_statement_long() {
    let (_folder, client) = fresh();
    let create = |name: String| client.item(&format!("CREATE TABLE {name} (a, b)"), Expect::default());
    client.one(Work::Batch((0..2_000).map(|i| create(format!("many_{i}"))).collect())).unwrap();
    let _busy = Endless::start(&client);
    for i in 0..10 {
        // Has each lane read the schema again.
        client.one(Work::Batch(vec![create(format!("one_more_{i}"))])).unwrap();
        let reads = (0..16).map(|_| Work::Run(client.call("SELECT count(*) FROM t", &[])));
        assert!(client.all(reads.collect()).iter().all(Result::is_ok));
    }
}

#[test]
fn long_statements_go_on_while_short_ones_and_writes_never_stop() {
    let (_folder, client) = fresh();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let client = Client::of(client.store.clone());
                while !ended.load(Ordering::Relaxed) {
                    client.number("SELECT count(*) FROM t");
                    client.run("INSERT OR REPLACE INTO t VALUES (1, 'x')");
                }
            });
        }
        let sum = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 300000) SELECT count(*) FROM n";
        let works = (0..8).map(|_| Work::Run(client.call(sum, &[]))).collect();
        let answers = client.all(works);
        ended.store(true, Ordering::Relaxed);
        answers.into_iter().for_each(|answer| drop(answer.unwrap()));
    });
}

#[cfg(target_os = "linux")]
#[test]
fn lanes_for_long_statements_have_a_lower_priority() {
    let (_folder, client) = fresh();
    client.number("SELECT 1");
    // Of every thread of this process: its name and its niceness, the 17th field after the name (proc_pid_stat(5)).
    let niceness = || -> Vec<(String, i32)> {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok())
            .map(|stat| {
                let (name, rest) = stat.split_once('(').unwrap().1.rsplit_once(')').unwrap();
                (name.to_owned(), rest.split_whitespace().nth(16).unwrap().parse().unwrap())
            })
            .collect()
    };
    let of = |kind: &str| niceness().into_iter().filter(|(name, _)| name.starts_with(kind)).map(|(_, nice)| nice).max();
    if of("zqlite-read") == Some(19) {
        eprintln!("SKIPPED: these tests have the lowest priority already, so that no lane can have a lower one");
        return;
    }
    let until = Instant::now() + Duration::from_secs(10);
    while of("zqlite-long") <= of("zqlite-read") && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(of("zqlite-long") > of("zqlite-read"), "{:?}", niceness());
    assert_eq!(of("zqlite-read"), of("zqlite-writer"));
}

#[test]
fn a_broken_connection_is_replaced_and_its_neighbours_are_served() {
    use std::os::unix::fs::FileExt;
    let (folder, client) = fresh();
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

#[test]
fn health_is_answered_while_all_lanes_work() {
    let (_folder, client) = fresh();
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
    let (_folder, client) = fresh();
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

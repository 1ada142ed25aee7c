//! Group commit: members share a commit and nothing else, whatever one of them does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail anywhere")]

mod support;

use std::time::Duration;

use rusqlite::types::Value;
use support::{Client, item_of, options, with_table};
use zqlite_store::{BeginMode, Cancel, ErrorCode, Expect, Options, Store, TransactionId, Work};

#[test]
fn waiting_writes_share_a_commit_and_keep_their_own_counts() {
    let (_folder, client) = with_table();
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
    let (folder, client) = with_table();
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
    let (_folder, client) = with_table();
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
fn an_interrupted_member_of_a_group_takes_nobody_with_it() {
    let (_folder, client) = with_table();
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

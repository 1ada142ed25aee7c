//! Long statements: on lanes of their own, in nobody's way, and always going on.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail anywhere")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use support::{Client, code, with_table};
use zqlite_store::{Cancel, ErrorCode, Expect, Work};

struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[test]
fn short_statements_wait_behind_no_long_ones() {
    let (_folder, client) = with_table();
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
    let (_folder, client) = with_table();
    let _busy = Endless::start(&client);
    for i in 0..100 {
        assert_eq!(client.number(&format!("SELECT {i}")), f64::from(i));
    }
}

#[test]
fn a_statement_that_turns_out_long_begins_again_and_is_answered_once() {
    let (_folder, client) = with_table();
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
    let (_folder, client) = with_table();
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
    let (_folder, client) = with_table();
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
    let (_folder, client) = with_table();
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

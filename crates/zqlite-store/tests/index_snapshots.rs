//! Readers join rows only to the index that belongs to them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test may fail anywhere")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use support::{Client, fresh, text};
use zqlite_store::{ErrorCode, Flow, Work};

#[test]
fn a_reader_never_sees_rows_of_one_commit_with_the_index_of_another() {
    let (_folder, client) = fresh();
    client.run("CREATE TABLE t (id INTEGER PRIMARY KEY, p TEXT, n INTEGER)");
    client.run("CREATE INDEX tp ON t USING cidr(p)");
    client.run("CREATE INDEX tn ON t USING bitmap(n)");
    client.run("INSERT INTO t VALUES (1, '10.0.0.0/8', 0)");
    let done = AtomicBool::new(false);
    let (mut reads, mut moments) = (0, std::collections::BTreeSet::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let writer = Client::of(client.store.clone());
            for i in 1..=1500 {
                // The row always moves on: prefix and number change together.
                let octet = i % 200;
                writer.run(&format!("UPDATE t SET p = '{octet}.0.0.0/8', n = {i}, id = id + 1"));
            }
            done.store(true, Ordering::Relaxed);
        });
        // The rows come from the table, the rest from the indexes; all of one statement.
        let sql = "SELECT t.id || ' ' || t.n || ' ' || t.p || ' ' || coalesce((SELECT group_concat(id || '=' || prefix) FROM cidr_range('tp', '0.0.0.0', '255.255.255.255')), '-')
           || ' ' || coalesce((SELECT group_concat(id) FROM bitmap_rows('tn', 'n = ' || t.n)), '-') FROM t";
        while !done.load(Ordering::Relaxed) {
            let answers = client.all((0..4).map(|_| client.member(sql)).collect());
            for answer in answers {
                let found = text(answer).unwrap();
                let parts: Vec<_> = found.split(' ').collect();
                let [id, n, p, held, bits] = parts[..] else { panic!("{found}") };
                assert_eq!(held, format!("{id}={p}"), "{found}");
                assert_eq!(bits, id, "{found}");
                reads += 1;
                moments.insert(n.to_owned());
            }
        }
    });
    assert!(reads > 20 && moments.len() > 5, "{reads} reads of {} moments", moments.len());
}

/// A stream whose rows each ask the index, paused after its first chunks.
fn paused(client: &Client, sql: &str) -> (u32, Arc<Flow>) {
    let flow = Arc::new(Flow::default());
    let token = client.start(vec![Work::Stream(client.call(sql, &[]), flow.clone())]).remove(0);
    std::thread::sleep(Duration::from_millis(300));
    (token, flow)
}

fn go_on(client: &Client, token: u32, flow: &Flow) -> support::Answer {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                flow.take();
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        let answer = client.wait(token);
        done.store(true, Ordering::Relaxed);
        answer
    })
}

#[test]
fn an_old_reader_keeps_the_old_index() {
    let (_folder, client) = fresh();
    client.run("CREATE TABLE t (id INTEGER PRIMARY KEY, p TEXT)");
    client.run("CREATE INDEX tp ON t USING cidr(p)");
    client.run("INSERT INTO t VALUES (1, '10.0.0.0/8')");
    client.run("CREATE TABLE big (i INTEGER PRIMARY KEY, address TEXT, pad TEXT)");
    client.run("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000) INSERT INTO big SELECT i, '10.0.0.' || (i % 250), hex(zeroblob(40)) FROM n");
    let sql = "SELECT (SELECT group_concat(id || p || prefix) FROM cidr_matches('tp', big.address) JOIN t USING (id)) || ' ' || pad FROM big";
    let (token, flow) = paused(&client, sql);
    for i in 2..600 {
        client.run(&format!("UPDATE t SET id = {i}, p = '10.0.0.0/{}'", 8 + i % 3));
    }
    let rows = text(go_on(&client, token, &flow)).unwrap();
    assert_eq!(
        rows.matches("110.0.0.0/810.0.0.0/8 ").count(),
        20_000,
        "each row joined to the index of its own moment"
    );
    // One that began before all that are kept, and asks only now, is told so.
    client.run("CREATE TABLE late (i INTEGER PRIMARY KEY, ask INTEGER, pad TEXT)");
    client.run("INSERT INTO late SELECT i, i > 19000, pad FROM big");
    let sql = "SELECT CASE WHEN ask THEN (SELECT count(*) || pad FROM cidr_matches('tp', '10.0.0.' || (i % 250))) ELSE pad END FROM late";
    let (token, flow) = paused(&client, sql);
    for i in 2..400 {
        client.run(&format!("UPDATE t SET p = '10.0.0.0/{}'", 8 + i % 3));
    }
    assert_eq!(go_on(&client, token, &flow).unwrap_err().code, ErrorCode::SnapshotTooOld);
}

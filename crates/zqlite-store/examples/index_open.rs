//! How long a database with an index takes to open, by kind. `cargo run --release -p zqlite-store --example index_open -- ROWS`

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "an example ends where it fails")]

use std::time::{Duration, Instant};

use rusqlite::Connection;
use zqlite_store::{Options, Store};

fn main() {
    let rows: u64 = std::env::args().nth(1).map_or(1_000_000, |rows| rows.parse().expect("rows are a number"));
    let folder = tempfile::tempdir().unwrap();
    for index in ["cidr(prefix)", "bitmap(priority, action, enabled)"] {
        let path = folder.path().join(format!("{}.db", index.split('(').next().unwrap()));
        let stock = Connection::open(&path).unwrap();
        stock
            .execute_batch(&format!(
                "PRAGMA journal_mode = wal; CREATE TABLE t (id INTEGER PRIMARY KEY, prefix TEXT, priority INTEGER, action TEXT, enabled INTEGER, note TEXT);
                 CREATE TABLE zqlite_index (name TEXT PRIMARY KEY COLLATE NOCASE, tbl_name TEXT NOT NULL COLLATE NOCASE, sql TEXT NOT NULL);
                 INSERT INTO zqlite_index VALUES ('i', 't', 'CREATE INDEX i ON t USING {index}');
                 BEGIN;
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
                 INSERT INTO t SELECT i, format('%d.%d.%d.0/24', (i * 7919 >> 16) % 223 + 1, i * 7919 >> 8 & 255, i * 7919 & 255), i % 500, iif(i % 3, 'allow', 'deny'), i % 5 > 0, 'note ' || i FROM n;
                 COMMIT;"
            ))
            .unwrap();
        drop(stock);
        let open = || {
            let (started, worked) = (Instant::now(), processor_time());
            let store = Store::open(Options { path: Some(path.clone()), ..Options::default() }).unwrap();
            (format!("{:.0?} ({:.0?} of processor time)", started.elapsed(), processor_time() - worked), store)
        };
        let times: Vec<_> = (0..3).map(|_| open().0).collect();
        let (_, store) = open();
        let worked = processor_time();
        let started = Instant::now();
        let asked = if index.starts_with("cidr") {
            let index = store.indexes().cidr("i");
            (0..100_000u32)
                .filter(|i| {
                    index.lookup(std::net::Ipv4Addr::from(i.wrapping_mul(2_654_435_761)).to_string()).unwrap().is_some()
                })
                .count()
        } else {
            let index = store.indexes().bitmap("i");
            (0..100)
                .map(|i| index.count(&format!("action = 'deny' AND enabled = 1 AND priority >= {i}")).unwrap() as usize)
                .sum()
        };
        println!(
            "{index}: opened {rows} rows in {}; questions {:.1?} ({:.0?}), found {asked}",
            times.join(", "),
            started.elapsed(),
            processor_time() - worked
        );
    }
}

/// Of all threads of this process, in steps of 10 ms: on a machine that does other things too, the better measure.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    Duration::from_millis(fields.map(|ticks| ticks.parse::<u64>().unwrap() * 10).sum())
}

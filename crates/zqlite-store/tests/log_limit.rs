//! The write-ahead log and its limit: kept however readers overlap, by writes that wait; and nobody waits for ever.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail anywhere")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use support::{Client, backup_to, code, options};
use zqlite_store::{
    BeginMode, Cancel, CheckpointMode, Error, ErrorCode, Flow, Maintenance, Options, Store, TransactionId, Work,
};

const MB: u64 = 1 << 20;

/// Options with a small limit.
fn limited(folder: &tempfile::TempDir, limit: u64) -> Options {
    let mut options = options(&folder.path().join("test.db"));
    options.wal.limit = limit;
    // A machine that was stopped for a while is no failure.
    options.wal.max_read_age = Duration::from_secs(600);
    options.pool.connection_timeout = Duration::from_secs(600);
    options
}

/// Some milliseconds of work on a snapshot of `t`, with this many rows of a few hundred bytes.
fn scan(rows: u32) -> String {
    format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {rows})
         SELECT i, hex(zeroblob(100)), (SELECT count(*) FROM t) FROM n"
    )
}

/// A megabyte a commit, as fast as it goes, beside scans of several kinds that overlap all the time. Returns the largest log.
fn megabytes_beside_scans(options: Options, commits: u32, spinners: u32) -> u64 {
    let client = Client::of(Store::open(options).unwrap());
    client.run("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)");
    client.run("INSERT INTO t VALUES (0, NULL)");
    let (ended, largest) = (AtomicBool::new(false), AtomicU64::new(0));
    let blob = || Value::Blob(vec![7; 1_000_000]);
    let look = |client: &Client| {
        largest.fetch_max(client.store.metrics().wal_bytes, Ordering::Relaxed);
    };
    std::thread::scope(|scope| {
        let (ended, client, look) = (&ended, &client, &look);
        let until_the_end = |f: &(dyn Fn(&Client) + Sync)| {
            let client = Client::of(client.store.clone());
            while !ended.load(Ordering::Relaxed) {
                f(&client);
            }
        };
        for _ in 0..spinners {
            scope.spawn(move || while !ended.load(Ordering::Relaxed) {});
        }
        for rows in [1_000, 1_700, 2_900] {
            scope.spawn(move || until_the_end(&|client| read_stream(client, &scan(rows), Duration::ZERO)));
        }
        scope.spawn(move || until_the_end(&|client| drop(client.try_run(&scan(2_000)).unwrap())));
        scope.spawn(move || until_the_end(&|client| drop(client.try_run("SELECT count(*) FROM t").unwrap())));
        scope.spawn(move || {
            let mut lane = client.store.sync_lane().unwrap();
            while !ended.load(Ordering::Relaxed) {
                lane.run(client.call("SELECT count(*) FROM t", &[]), Instant::now()).unwrap();
                std::thread::sleep(Duration::from_micros(50));
            }
        });
        let writers: Vec<_> = (1..=3)
            .map(|id| {
                scope.spawn(move || {
                    let client = Client::of(client.store.clone());
                    for _ in 0..commits / 3 {
                        client.with("INSERT OR REPLACE INTO t VALUES (?, ?)", &[Value::Integer(id), blob()]);
                        look(&client);
                    }
                })
            })
            .collect();
        // What panics must end the others too.
        let done: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        ended.store(true, Ordering::Relaxed);
        done.into_iter().for_each(|done| done.unwrap());
    });
    assert_eq!(client.number("SELECT count(*) FROM t"), 4.0);
    largest.load(Ordering::Relaxed)
}

/// Reads a stream to its end, each chunk after a rest.
fn read_stream(client: &Client, sql: &str, rest: Duration) {
    let flow = Arc::new(Flow::default());
    let token = client.start(vec![Work::Stream(client.call(sql, &[]), flow.clone())])[0];
    while !client.is_answered(token) {
        std::thread::sleep(rest.max(Duration::from_micros(200)));
        flow.take();
    }
    client.wait(token).unwrap();
}

#[test]
fn the_log_stays_within_its_limit_with_readers_overlapping_for_ever() {
    for limit in [4 * MB, 8 * MB] {
        let folder = tempfile::tempdir().unwrap();
        let largest = megabytes_beside_scans(limited(&folder, limit), 150, 0);
        assert!(largest <= limit, "{largest} bytes of log at a limit of {limit}");
        let log = std::fs::metadata(folder.path().join("test.db-wal")).map_or(0, |log| log.len());
        assert!(log <= limit, "{log} bytes of file at a limit of {limit}");
    }
}

#[test]
fn the_log_stays_within_its_limit_on_a_machine_that_has_other_things_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let largest = megabytes_beside_scans(limited(&folder, 8 * MB), 60, 6);
    assert!(largest <= 8 * MB, "{largest} bytes of log");
}

/// Megabytes of other rows, one a commit, until there are so many or one fails.
fn write_megabytes(client: &Client, count: i64) -> Result<(), Error> {
    for i in 0..count {
        let values = [Value::Integer(i % 3 + 1), Value::Blob(vec![7; 1_000_000])];
        client.one(Work::Run(client.call("INSERT OR REPLACE INTO t VALUES (?, ?)", &values)))?;
    }
    Ok(())
}

/// A store with a limit of 8 MB and rows to read.
fn filled(change: impl FnOnce(&mut Options)) -> (tempfile::TempDir, Client) {
    let folder = tempfile::tempdir().unwrap();
    let mut options = limited(&folder, LIMIT);
    change(&mut options);
    let client = Client::of(Store::open(options).unwrap());
    client.run("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)");
    client.run("CREATE TABLE many AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000) SELECT i, hex(zeroblob(500)) AS text FROM n");
    (folder, client)
}

const LIMIT: u64 = 8 * MB;
/// Reads for as long as it may.
const ENDLESS: &str =
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) + (SELECT count(*) FROM t) FROM n";

/// Up to where the next write waits for a reader that keeps the log from beginning anew.
fn fill_the_log(client: &Client) {
    while client.store.metrics().wal_bytes < LIMIT - LIMIT / 4 {
        write_megabytes(client, 1).unwrap();
    }
}

/// A stream whose reader has taken one chunk and takes no more.
fn paused_stream(client: &Client) -> (u32, Arc<Flow>) {
    let flow = Arc::new(Flow::default());
    let token = client.start(vec![Work::Stream(client.call("SELECT * FROM many", &[]), flow.clone())])[0];
    while client.pieces(token) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    flow.take();
    (token, flow)
}

#[test]
fn a_read_that_is_too_old_ends_and_the_writes_that_waited_for_it_go_on() {
    let (_folder, client) = filled(|options| options.wal.max_read_age = Duration::from_millis(300));
    let old = client.start(vec![client.member(ENDLESS)])[0];
    for _ in 0..20 {
        write_megabytes(&client, 1).unwrap();
        assert!(client.store.metrics().wal_bytes <= LIMIT);
    }
    let error = client.wait(old).unwrap_err();
    assert_eq!(error.code, ErrorCode::SnapshotTooOld, "{error}");
    assert_eq!(client.number("SELECT 1"), 1.0);
}

#[test]
fn a_stream_whose_reader_waits_for_a_write_ends_and_the_write_is_made() {
    // In both ways in which a caller waits.
    for at_once in [false, true] {
        let (_folder, client) = filled(|_| ());
        let (stream, _flow) = paused_stream(&client);
        let began = Instant::now();
        for _ in 0..12 {
            if at_once {
                let call = client.call("INSERT OR REPLACE INTO t VALUES (1, zeroblob(1000000))", &[]);
                client.store.write_sync(Work::Run(call), None).unwrap();
            } else {
                write_megabytes(&client, 1).unwrap();
            }
            assert!(client.store.metrics().wal_bytes <= LIMIT);
        }
        assert!(began.elapsed() >= Duration::from_millis(1_900), "{:?}", began.elapsed());
        let error = client.wait(stream).unwrap_err();
        assert_eq!(error.code, ErrorCode::SnapshotTooOld, "{error}");
        assert!(error.message.contains("writes wait"), "{error}");
    }
}

#[test]
fn a_stream_is_left_alone_while_no_write_waits_or_its_reader_goes_on() {
    let (_folder, client) = filled(|_| ());
    let (stream, flow) = paused_stream(&client);
    // The last of these fills the log, and nobody waits for it to begin anew.
    fill_the_log(&client);
    std::thread::sleep(Duration::from_millis(2_500));
    assert!(!client.is_answered(stream));
    let (write, job) = client.job(client.member("INSERT OR REPLACE INTO t VALUES (1, NULL)"));
    client.store.submit([job]);
    // Some 24 chunks, four of which are ahead: longer than a stream may stand still.
    while !client.is_answered(stream) {
        assert!(!client.is_answered(write), "the write did not wait");
        std::thread::sleep(Duration::from_millis(150));
        flow.take();
    }
    assert!(client.wait(stream).unwrap().len() > 20);
    client.wait(write).unwrap();
}

#[test]
fn a_write_waits_for_the_log_no_longer_than_it_may() {
    let (_folder, client) = filled(|options| options.pool.connection_timeout = Duration::from_millis(600));
    let cancel = Cancel::default();
    let (old, mut job) = client.job(client.member(ENDLESS));
    job.cancel = Some(cancel.clone());
    client.store.submit([job]);
    while client.store.metrics().active == 0 {
        std::thread::yield_now();
    }
    let error = write_megabytes(&client, 20).unwrap_err();
    assert_eq!(error.code, ErrorCode::PoolTimeout, "{error}");
    assert!(error.message.contains("log"), "{error}");
    let (token, mut job) = client.job(client.member("INSERT INTO t VALUES (9, NULL)"));
    let began = Instant::now();
    job.deadline = Some(began + Duration::from_millis(100));
    client.store.submit([job]);
    assert_eq!(code(client.wait(token)), ErrorCode::Deadline);
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    let insert = Work::Run(client.call("INSERT INTO t VALUES (9, NULL)", &[]));
    let late = client.store.write_sync(insert, Some(Instant::now() + Duration::from_millis(100)));
    assert_eq!(code(late), ErrorCode::Deadline);
    assert_eq!(code(client.one(Work::Begin(TransactionId(1), BeginMode::Deferred))), ErrorCode::PoolTimeout);
    // Reads go on meanwhile, and what was not told to be made is not made.
    assert_eq!(client.number("SELECT count(*) FROM t WHERE a = 9"), 0.0);
    cancel.cancel();
    assert_eq!(code(client.wait(old)), ErrorCode::Cancelled);
    client.run("INSERT INTO t VALUES (9, NULL)");
}

#[test]
fn readers_of_another_program_are_not_waited_for_for_long() {
    let (folder, client) = filled(|_| ());
    let other = rusqlite::Connection::open(folder.path().join("test.db")).unwrap();
    other.execute_batch("BEGIN; SELECT count(*) FROM t").unwrap();
    let began = Instant::now();
    write_megabytes(&client, 40).unwrap();
    // Once at 6 MB, at 12, and at 24.
    assert!(began.elapsed() > Duration::from_secs(1));
    assert!(client.store.metrics().wal_bytes > 30 * MB);
    other.execute_batch("COMMIT").unwrap();
    write_megabytes(&client, 40).unwrap();
    assert!(client.store.metrics().wal_bytes < LIMIT);
}

#[test]
fn a_backup_that_takes_its_time_keeps_no_write_waiting() {
    let (folder, client) = filled(|_| ());
    let options = backup_to(&folder.path().join("copy.db"), 100);
    let mut pieces = 0;
    client
        .store
        .backup(&options, &mut |_| {
            pieces += 1;
            // The backup goes on afterwards only, so a write that waited for it would never be answered.
            write_megabytes(&client, 4).unwrap();
        })
        .unwrap();
    assert!(pieces > 4, "{pieces} pieces");
    // Afterwards the log begins anew.
    write_megabytes(&client, 20).unwrap();
    assert!(client.store.metrics().wal_bytes < LIMIT);
}

#[test]
fn the_log_that_a_backup_kept_is_moved_as_soon_as_it_ends() {
    let (folder, client) = filled(|_| ());
    client.one(Work::Maintain(Maintenance::Checkpoint(CheckpointMode::Truncate))).unwrap();
    let file = || std::fs::metadata(folder.path().join("test.db")).unwrap().len();
    let before = file();
    let mut largest = 0;
    client
        .store
        .backup(&backup_to(&folder.path().join("copy.db"), 100), &mut |_| {
            if largest == 0 {
                fill_the_log(&client);
                largest = client.store.metrics().wal_bytes;
                // Until the steward has done what it can.
                std::thread::sleep(Duration::from_millis(200));
            }
        })
        .unwrap();
    // A row of a megabyte, which the backup did not see.
    let until = Instant::now() + Duration::from_secs(20);
    while file() < before + 1_000_000 {
        assert!(Instant::now() < until, "no write came, and the log of {largest} bytes is not moved");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_transaction_larger_than_the_limit_is_made_and_the_log_is_small_again() {
    let (folder, client) = filled(|_| ());
    let log = || std::fs::metadata(folder.path().join("test.db-wal")).unwrap().len();
    // A callback transaction, whose steps wait for nothing, and one statement.
    let transaction = client.transaction();
    for i in 0..20 {
        transaction.run(&format!("INSERT INTO t VALUES ({}, zeroblob(1000000))", 100 + i));
    }
    transaction.commit().unwrap();
    assert!(log() > 20_000_000);
    client.run("INSERT INTO t SELECT 200 + a, b FROM t");
    assert_eq!(client.number("SELECT count(*) FROM t"), 40.0);
    write_megabytes(&client, 20).unwrap();
    assert!(client.store.metrics().wal_bytes < LIMIT);
    assert!(log() <= LIMIT, "{} bytes of file", log());
}

#[test]
fn writes_that_come_together_share_no_commit_larger_than_the_rest_of_the_log() {
    let (_folder, client) = filled(|_| ());
    let blob =
        |i| Work::Run(client.call("INSERT INTO t VALUES (?, ?)", &[Value::Integer(i), Value::Blob(vec![1; 700_000])]));
    let tokens = client.start((0..64).map(blob).collect());
    for token in tokens {
        client.wait(token).unwrap();
        assert!(client.store.metrics().wal_bytes <= LIMIT);
    }
    assert_eq!(client.number("SELECT count(*) FROM t"), 64.0);
}

#[test]
fn writes_to_large_pages_share_no_commit_larger_than_the_rest_of_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = limited(&folder, LIMIT);
    options.setup.pragmas.push(("page_size".into(), "65536".into()));
    let client = Client::of(Store::open(options).unwrap());
    client.run("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)");
    // A page each.
    for a in 0..256 {
        client.run(&format!("INSERT INTO t VALUES ({a}, zeroblob(60000))"));
    }
    let works = (0..256).map(|a| client.member(&format!("UPDATE t SET b = zeroblob(60001) WHERE a = {a}"))).collect();
    for token in client.start(works) {
        client.wait(token).unwrap();
        let bytes = client.store.metrics().wal_bytes;
        assert!(bytes <= LIMIT, "{bytes} bytes");
    }
    assert_eq!(client.number("SELECT count(*) FROM t WHERE length(b) = 60001"), 256.0);
}

fn a_write_is_made_that_waits_while_it_closes(folder: &tempfile::TempDir, client: Client) {
    fill_the_log(&client);
    client.start(vec![client.member("INSERT INTO t VALUES (77, NULL)")]);
    drop(client);
    let again = Client::of(Store::open(limited(folder, LIMIT)).unwrap());
    assert_eq!(again.number("SELECT count(*) FROM t WHERE a = 77"), 1.0);
}

#[test]
fn what_waits_for_the_log_when_the_store_closes_is_made() {
    let (folder, client) = filled(|_| ());
    let (_stream, _flow) = paused_stream(&client);
    a_write_is_made_that_waits_while_it_closes(&folder, client);
}

#[test]
fn what_waits_for_the_log_when_the_store_closes_does_not_wait_for_a_long_read() {
    let (folder, client) = filled(|options| options.pool.connection_timeout = Duration::from_secs(3));
    let (_old, mut job) = client.job(client.member(ENDLESS));
    // Longer than any call may wait.
    job.deadline = Some(Instant::now() + Duration::from_secs(6));
    client.store.submit([job]);
    while client.store.metrics().active == 0 {
        std::thread::yield_now();
    }
    a_write_is_made_that_waits_while_it_closes(&folder, client);
}

#[test]
fn a_stalled_stream_ends_though_each_write_has_less_time_than_it() {
    for (timeout, deadline) in [(Some(Duration::from_millis(1_500)), None), (None, Some(Duration::from_millis(300)))] {
        let (_folder, client) = filled(|options| {
            options.pool.connection_timeout = timeout.unwrap_or(options.pool.connection_timeout);
        });
        let (stream, _flow) = paused_stream(&client);
        fill_the_log(&client);
        let mut failed = 0;
        while !client.is_answered(stream) {
            let (write, mut job) = client.job(client.member("INSERT OR REPLACE INTO t VALUES (1, NULL)"));
            job.deadline = deadline.map(|time| job.queued + time);
            client.store.submit([job]);
            failed += u32::from(client.wait(write).is_err());
            assert!(failed < 20, "{failed} writes failed and the stream goes on");
        }
        assert!(failed > 0);
        assert_eq!(code(client.wait(stream)), ErrorCode::SnapshotTooOld);
        write_megabytes(&client, 10).unwrap();
    }
}

#[test]
fn a_log_that_begins_anew_does_so_once_whatever_changes_nothing() {
    let (_folder, client) = filled(|_| ());
    let (stream, flow) = paused_stream(&client);
    fill_the_log(&client);
    let waits = client.start(vec![client.member("UPDATE t SET b = NULL WHERE a = 999")])[0];
    assert!(client.store.metrics().wal_bytes >= LIMIT - LIMIT / 4);
    flow.end();
    assert_eq!(code(client.wait(stream)), ErrorCode::Cancelled);
    client.wait(waits).unwrap();
    let before = client.store.metrics().checkpoints.count();
    for _ in 0..50 {
        client.run("UPDATE t SET b = NULL WHERE a = 999");
    }
    let after = client.store.metrics().checkpoints.count();
    assert!(after - before <= 1, "{} checkpoints", after - before);
}

#[test]
fn waiting_for_readers_is_no_time_that_a_checkpoint_took() {
    let (_folder, client) = filled(|_| ());
    let (stream, _flow) = paused_stream(&client);
    fill_the_log(&client);
    let before = client.store.metrics().checkpoints;
    client.run("INSERT OR REPLACE INTO t VALUES (1, NULL)");
    assert_eq!(code(client.wait(stream)), ErrorCode::SnapshotTooOld);
    // Counted before the writer goes on.
    let after = client.store.metrics().checkpoints;
    assert!(after.count() > before.count());
    let took = Duration::from_nanos(after.sum - before.sum);
    assert!(took < Duration::from_secs(1), "{took:?} of some two seconds");
}

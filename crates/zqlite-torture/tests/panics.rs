//! A panic on a caller's own thread, while it does the writer's work, closes the database and leaves nobody waiting.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail anywhere")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use zqlite_store::{Call, ErrorCode, Options, Params, Store, Want, Work};
use zqlite_torture::client::Client;

fn insert(store: &Store) -> Work {
    let statement = store.statement("INSERT INTO t VALUES (1)");
    Work::Run(Call { statement, params: Params::default(), want: Want::Changes })
}

#[test]
fn a_panic_within_a_write_at_once_closes_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.db");
    let armed = Arc::new(AtomicBool::new(false));
    let fuse = armed.clone();
    zqlite_store::fault::observe_points(move |point| {
        // Where the lane is at work still, it takes the call over.
        let by_the_lane = std::thread::current().name() == Some("zqlite-writer");
        if point == "writer.before-commit" && !by_the_lane && fuse.swap(false, SeqCst) {
            panic!("as a defect would");
        }
    });
    let client = Client::open(&path, true).unwrap();
    let store = client.store.clone();
    client.sql("CREATE TABLE t (a)", &[]).unwrap();
    store.write_sync(insert(&store), None).unwrap();
    let closed = |what: Result<(), zqlite_store::Error>| assert_eq!(what.unwrap_err().code, ErrorCode::Closed);

    armed.store(true, SeqCst);
    let began = Instant::now();
    let mut written = 1;
    let told = loop {
        match store.write_sync(insert(&store), None) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(began.elapsed() < Duration::from_secs(20), "no call did the writer's work");
    };
    assert_eq!(told.code, ErrorCode::Internal, "{told}");
    assert!(!armed.load(SeqCst));
    closed(store.write_sync(insert(&store), None).map(drop));
    closed(client.sql("INSERT INTO t VALUES (2)", &[]).map(drop));
    closed(client.sql("SELECT a FROM t", &[]).map(drop));
    assert!(began.elapsed() < Duration::from_secs(20));

    drop((client, store));
    let again = Client::of(Store::open(Options { path: Some(path), ..Options::default() }).unwrap());
    assert_eq!(again.sql("SELECT count(*) FROM t", &[]).unwrap(), [[written.into()]]);
    again.store.write_sync(insert(&again.store), None).unwrap();
}

//! A log that cannot be moved is told, whoever tries; writes go on all the same, and it begins anew when the disk is well again.

#![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

use std::ffi::c_int;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::ffi;
use rusqlite::types::Value;
use zqlite_store::{Options, Store};
use zqlite_torture::client::Client;
use zqlite_torture::vfs::{Call, Door, set_door};

const MB: usize = 1 << 20;

/// Writes to the database file fail, or wait.
#[derive(Default)]
struct Disk {
    file: PathBuf,
    fails: AtomicBool,
    /// Only those of the writer's thread.
    only_writer: AtomicBool,
    /// Those of the steward wait, and how many do.
    waits: AtomicBool,
    is_waiting: AtomicBool,
}

impl Door for Disk {
    fn before(&self, call: &Call<'_>) -> Result<(), c_int> {
        if !matches!(call, Call::Write(path, ..) if *path == self.file) {
            return Ok(());
        }
        let is_writer = std::thread::current().name() == Some("zqlite-writer");
        while !is_writer && self.waits.load(SeqCst) {
            self.is_waiting.store(true, SeqCst);
            std::thread::sleep(Duration::from_millis(1));
        }
        self.is_waiting.store(false, SeqCst);
        let fails = self.fails.load(SeqCst) && (is_writer || !self.only_writer.load(SeqCst));
        if fails { Err(ffi::SQLITE_IOERR_WRITE) } else { Ok(()) }
    }

    fn after(&self, _: &Call<'_>) {}
}

/// What was logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// The next line with this text, as JSON, once it is there.
    fn next(&self, text: &str) -> serde_json::Value {
        let late = Instant::now() + Duration::from_secs(30);
        loop {
            let all = String::from_utf8(self.0.lock().clone()).unwrap();
            if let Some(line) = all.lines().find(|line| line.contains(text)) {
                return serde_json::from_str(line).unwrap();
            }
            assert!(Instant::now() < late, "no line with {text:?} in {all:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn forget(&self) {
        self.0.lock().clear();
    }
}

/// Opens the way whatever becomes of the test: the store could not be closed otherwise.
struct Opening(Arc<Disk>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.waits.store(false, SeqCst);
        set_door(None);
    }
}

fn until(what: &str, is: impl Fn() -> bool) {
    let late = Instant::now() + Duration::from_secs(30);
    while !is() {
        assert!(Instant::now() < late, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_log_that_cannot_be_moved_is_told_and_writes_go_on() {
    let lines = Lines::default();
    let kept = lines.clone();
    tracing_subscriber::fmt().json().with_writer(move || kept.clone()).init();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.db");
    let disk = Arc::new(Disk { file: file.clone(), ..Disk::default() });
    set_door(Some(disk.clone()));
    let mut options = Options { path: Some(file), ..Options::default() };
    options.wal.limit = 8 << 20;
    let client = Client::of(Store::open(options).unwrap());
    let _opening = Opening(disk.clone());
    client.sql("CREATE TABLE t (a INTEGER PRIMARY KEY, secret BLOB)", &[]).unwrap();
    let write = |bytes: usize| {
        let text = Value::Text("a secret ".repeat(bytes / 9));
        client.sql("INSERT OR REPLACE INTO t VALUES (1, ?)", &[text]).unwrap();
    };
    let log = || client.store.metrics().wal_bytes;
    let told = |text: &str| {
        let line = lines.next(text);
        assert_eq!(line["level"], "WARN", "{line}");
        assert_eq!(
            line["target"].as_str().and_then(|target| target.split("::").next()),
            Some("zqlite_store"),
            "{line}"
        );
        assert_eq!(line["fields"]["schema"], "main", "{line}");
        let error = line["fields"]["error"].as_str().unwrap();
        assert!(error.contains("ERR_IO"), "{line}");
        assert!(!line.to_string().contains("secret"), "{line}");
        line["target"].as_str().unwrap().to_owned()
    };

    // The steward, beside the writes.
    disk.fails.store(true, SeqCst);
    write(3 * MB);
    assert_eq!(told("checkpoint failed; the log grows until one succeeds"), "zqlite_store::steward");
    // At the limit, where writes wait for it: they go on, and the log beyond it.
    while log() < 9 << 20 {
        write(MB);
    }
    told("checkpoint failed; the log grows beyond its limit until one succeeds");
    lines.forget();
    disk.fails.store(false, SeqCst);
    until("the log does not begin anew", || {
        write(MB);
        log() < 3 << 20
    });

    // The writer, which moves what was added while the steward was at work.
    disk.only_writer.store(true, SeqCst);
    disk.fails.store(true, SeqCst);
    disk.waits.store(true, SeqCst);
    until("the steward moves nothing", || {
        write(MB);
        disk.is_waiting.load(SeqCst)
    });
    write(MB / 2);
    disk.waits.store(false, SeqCst);
    until("the writer moves nothing", || {
        write(100);
        let all = String::from_utf8(lines.0.lock().clone()).unwrap();
        all.contains("zqlite_store::writer")
    });
    assert_eq!(told("checkpoint failed; the log grows until one succeeds"), "zqlite_store::writer");
    disk.fails.store(false, SeqCst);
    until("the log does not begin anew", || {
        write(MB);
        log() < 3 << 20
    });
}

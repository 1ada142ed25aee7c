//! What a commit of one row copies of a large index: counted by the allocator, as whatever is copied is allocated first.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used, reason = "a test may fail anywhere")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use support::{Client, fresh};

/// Bytes that Rust has asked for; SQLite has an allocator of its own.
struct Counting;

static ASKED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    /// What begins as zeros is no copy; the writer keeps such ahead of the log.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that one commit may copy.
const MOST: usize = 64 << 10;

/// Rows of the indexes.
const ROWS: u32 = 300_000;

fn filled(index: &str) -> (tempfile::TempDir, Client) {
    let (folder, client) = fresh();
    client.run("CREATE TABLE t (id INTEGER PRIMARY KEY, p TEXT, a INTEGER, b TEXT, c INTEGER)");
    client.run(&format!(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
         INSERT INTO t SELECT i, format('%d.%d.%d.0/24', 1 + i / 65536, i / 256 % 256, i % 256), i % 1000, 'value ' || (i % 7), i FROM n"
    ));
    client.run(index);
    (folder, client)
}

/// Each statement is a commit of its own.
fn costs(client: &Client, statements: impl Iterator<Item = String>) {
    let mut worst = (0, String::new());
    for sql in statements {
        let statement = client.member(&sql);
        let before = ASKED.load(Relaxed);
        client.one(statement).unwrap();
        let asked = ASKED.load(Relaxed) - before;
        if asked > worst.0 {
            worst = (asked, sql);
        }
    }
    println!("the worst commit of one row took {} bytes: {}", worst.0, worst.1);
    assert!(worst.0 <= MOST, "{} took {} bytes", worst.1, worst.0);
    assert!(worst.0 > 1000, "nothing was counted");
}

#[test]
fn a_commit_of_one_row_copies_little() {
    let (_folder, client) = filled("CREATE INDEX i ON t USING cidr(p)");
    costs(
        &client,
        (0..300u32).map(|i| {
            let row = i.wrapping_mul(2_654_435_761) % ROWS + 1;
            match i % 4 {
                0 => format!("UPDATE t SET p = '200.{}.{}.0/24' WHERE id = {row}", i % 256, i / 7),
                1 => format!("INSERT INTO t (p) VALUES ('10.0.0.{}')", i % 256),
                2 => format!("UPDATE t SET p = '99.0.0.0/8' WHERE id = {row}"),
                _ => format!("DELETE FROM t WHERE id = {row}"),
            }
        }),
    );
    drop(client);
    let (_folder, client) = filled("CREATE INDEX i ON t USING bitmap(a, b, c)");
    costs(
        &client,
        (0..300u32).map(|i| {
            let row = i.wrapping_mul(2_654_435_761) % ROWS + 1;
            match i % 4 {
                0 => format!("UPDATE t SET a = {}, b = 'value {}' WHERE id = {row}", i % 1000, i % 5),
                1 => format!("INSERT INTO t (a, b, c) VALUES ({i}, 'new', -{i})"),
                2 => format!("UPDATE t SET a = NULL, b = 7, c = c + 0.5 WHERE id = {row}"),
                _ => format!("DELETE FROM t WHERE id = {row}"),
            }
        }),
    );
}

//! Lanes for long statements let others go first, but not for ever. All of this process is kept on one core, hence a file of its own.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail anywhere")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use support::Client;

#[test]
fn a_long_statement_keeps_its_share_of_a_core_that_is_never_idle() {
    let allowed = sched_getaffinity(None).unwrap();
    let mut one = CpuSet::new();
    one.set(sched_getcpu());
    assert!(allowed.is_set(sched_getcpu()));
    // Threads that are started from now on inherit it.
    sched_setaffinity(None, &one).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(&folder.path().join("t.db"));
    let sum = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000) SELECT count(*) FROM n";
    let time = || {
        let began = Instant::now();
        assert_eq!(client.number(sum), 1_000_000.0);
        began.elapsed()
    };
    let alone = (0..3).map(|_| time()).min().unwrap();
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let contended = time();
        ended.store(true, Ordering::Relaxed);
        // A tenth, and what else may run here; a thread that yielded whenever its turn is over would get a hundredth at most.
        assert!(contended < 40 * alone, "{contended:?}, alone {alone:?}");
    });
}

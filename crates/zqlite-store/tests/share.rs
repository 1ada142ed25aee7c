//! Lanes for long statements let others go first, but not for ever. All of this process is kept on one core, hence a file of its own.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail anywhere")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use rustix::time::{ClockId, Timespec, clock_gettime};
use support::Client;

#[test]
fn a_long_statement_keeps_its_share_of_a_core_that_is_never_idle() {
    let mut one = CpuSet::new();
    one.set(sched_getcpu());
    // Threads that are started from now on inherit it.
    sched_setaffinity(None, &one).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let client = Client::open(&folder.path().join("t.db"));
    let sum = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000) SELECT count(*) FROM n";
    // Of all of this process's threads together, so that it matters little what else runs on the machine.
    let used = || Duration::try_from(clock_gettime(ClockId::ProcessCPUTime) - Timespec::default()).unwrap();
    let time = || {
        let began = used();
        assert_eq!(client.number(sum), 1_000_000.0);
        used() - began
    };
    let alone = (0..3).map(|_| time()).min().unwrap();
    // With its tenth it takes ten to twenty times as long. One that yielded whenever its turn is over took more than a thousand
    // times on a machine that did nothing else.
    let most = 50 * alone;
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let began = used();
            while !ended.load(Ordering::Relaxed) && used() - began < most {
                std::hint::spin_loop();
            }
        });
        let contended = time();
        ended.store(true, Ordering::Relaxed);
        assert!(contended < most, "{contended:?}, alone {alone:?}");
    });
}

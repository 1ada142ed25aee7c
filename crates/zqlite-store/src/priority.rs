//! The priority of threads that work for long, below that of JavaScript's thread and of the lanes whose callers wait for little.
//!
//! Niceness says how much of a core a thread gets, not when. Linux lets a thread that runs finish its slice, 3 ms and with a timer of
//! 250 Hz up to 4, before one that wakes, or waits, on the same core is let in, however much nicer the running one is. So a
//! lowered thread asks itself, every [`TURN`], whether another wants its core.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Added to the niceness. On a core that others want too such a thread still gets about a tenth.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;

/// How long a lowered thread works before it asks whether another wants its core. Asking is one system call.
const TURN: Duration = Duration::from_micros(100);
/// A lowered thread asks only while others had at most so many times what it had itself. On a core that is never idle it so
/// soon stops, and has what its niceness gives it: a thread that yields forfeits more than that, since Linux takes the whole slice
/// that it might have had off its account.
const PATIENCE: u32 = 3;
/// Of how long a time the thread remembers whose it was.
const MEMORY: Duration = Duration::from_millis(100);

thread_local! {
    /// Of a lowered thread.
    static TURNS: Cell<Option<Turns>> = const { Cell::new(None) };
}

/// Whose the time of a lowered thread was.
#[derive(Debug, Clone, Copy)]
struct Turns {
    since: Instant,
    worked: Duration,
    waited: Duration,
}

impl Turns {
    fn new(now: Instant) -> Self {
        Self { since: now, worked: Duration::ZERO, waited: Duration::ZERO }
    }

    /// Whether the thread should let others go first; counts its turn when that is over.
    fn is_over(&mut self, now: Instant) -> bool {
        let turn = now.saturating_duration_since(self.since);
        if turn < TURN {
            return false;
        }
        // It may have been idle, or waited without having asked; that is not work.
        self.worked += turn.min(10 * TURN);
        self.since = now;
        self.waited <= PATIENCE * self.worked
    }

    /// The thread goes on, having let others go first.
    fn goes_on(&mut self, now: Instant) {
        if self.worked + self.waited > MEMORY {
            self.worked /= 2;
            self.waited /= 2;
        }
        self.waited += now.saturating_duration_since(self.since).min(MEMORY);
        self.since = now;
    }
}

/// Has a lowered thread let others go first if its turn is over and they want its core; to be called now and then while it works.
pub(crate) fn give_way() {
    TURNS.with(|cell| {
        let Some(mut turns) = cell.get() else { return };
        if turns.is_over(Instant::now()) {
            std::thread::yield_now();
            turns.goes_on(Instant::now());
        }
        cell.set(Some(turns));
    });
}

/// Lowers the priority of the calling thread, also when a lowered thread has started it. For good: raising it again takes a
/// privilege.
pub(crate) fn lower() {
    // Elsewhere niceness is of a whole process.
    #[cfg(target_os = "linux")]
    match set() {
        Ok(()) => TURNS.set(Some(Turns::new(Instant::now()))),
        Err(error) => tracing::debug!(%error, "a thread keeps its priority"),
    }
}

/// A thread begins with the niceness of the one that started it, so what is added to is the niceness of the process's first thread,
/// which runs no lane.
#[cfg(target_os = "linux")]
fn set() -> rustix::io::Result<()> {
    use rustix::process::{getpid, getpriority_process, setpriority_process};
    let lowered = (getpriority_process(Some(getpid()))? + NICER).min(19);
    if getpriority_process(None)? < lowered { setpriority_process(None, lowered) } else { Ok(()) }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail anywhere")]

    use std::time::Instant;

    use rustix::process::getpriority_process;

    use super::{MEMORY, PATIENCE, TURN, Turns};

    #[test]
    fn a_thread_gives_way_after_a_turn_but_not_for_ever() {
        let mut now = Instant::now();
        let mut turns = Turns::new(now);
        assert!(!turns.is_over(now + TURN / 2));
        now += TURN;
        assert!(turns.is_over(now));
        // Nobody wanted the core: it goes on asking.
        turns.goes_on(now);
        now += TURN;
        assert!(turns.is_over(now));
        // Others took much of it, again and again.
        let begin = now;
        let (mut worked, mut asked) = (TURN, 0);
        for _ in 0..2_000 {
            now += MEMORY / 4;
            turns.goes_on(now);
            loop {
                now += TURN;
                worked += TURN;
                if turns.is_over(now) {
                    asked += 1;
                    break;
                }
            }
        }
        let total = now - begin;
        assert!(worked * (PATIENCE + 2) > total && worked * PATIENCE < total, "{worked:?} of {total:?}");
        assert_eq!(asked, 2_000);
        // What it did not work is no turn of its own.
        let before = turns.worked;
        turns.is_over(now + 1_000 * TURN);
        assert_eq!(turns.worked - before, 10 * TURN);
    }

    #[test]
    fn only_the_thread_that_asks_is_lowered() {
        let before = getpriority_process(None).unwrap();
        let lowered = std::thread::spawn(|| {
            super::lower();
            let started = std::thread::spawn(|| {
                super::lower();
                getpriority_process(None).unwrap()
            });
            (getpriority_process(None).unwrap(), started.join().unwrap())
        });
        let expected = (before + super::NICER).min(19);
        assert_eq!(lowered.join().unwrap(), (expected, expected));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}

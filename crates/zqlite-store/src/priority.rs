//! The priority of threads that work for long, below that of JavaScript's thread and of the lanes whose callers wait for little.

/// Added to the niceness. On a core that others want too such a thread still gets about a tenth.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;

/// Lowers the priority of the calling thread, also when a lowered thread has started it. For good: raising it again takes a
/// privilege.
pub(crate) fn lower() {
    // Elsewhere niceness is of a whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = set() {
        tracing::debug!(%error, "a thread keeps its priority");
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

    use rustix::process::getpriority_process;

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

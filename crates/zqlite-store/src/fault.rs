//! Places at which a test ends the process, promises that it weakens, and file operations that it is told of. Compiled in
//! by the feature `fail_points`, which no shipped build has; without it nothing of this is left.

/// Ends the process here when a test asked for it, see [`fault`](crate::fault).
macro_rules! fail_point {
    ($name:literal) => {
        #[cfg(feature = "fail_points")]
        $crate::fault::reach($name);
    };
}

/// Tells a test what was done to a file by other means than SQLite's.
macro_rules! file_event {
    ($event:expr) => {
        #[cfg(feature = "fail_points")]
        $crate::fault::tell(&$event);
    };
}

pub(crate) use {fail_point, file_event};

#[cfg(feature = "fail_points")]
pub use armed::*;

#[cfg(feature = "fail_points")]
mod armed {
    use std::path::Path;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use parking_lot::RwLock;
    use rusqlite::Connection;

    use crate::Result;

    /// The names that `fail_point!` stands at.
    pub const POINTS: &[&str] = &[
        "open.owned",
        "open.ready",
        "writer.begun",
        "writer.member",
        "writer.before-commit",
        "writer.committed",
        "writer.answered",
        "transaction.begun",
        "transaction.step",
        "maintenance.before",
        "maintenance.done",
        "log.extended",
        "checkpoint.before",
        "checkpoint.done",
        "backup.begun",
        "backup.copied",
        "backup.synced",
        "backup.renamed",
        "close.readers-gone",
        "close.writer-gone",
    ];

    /// A promise that is not kept, so that a harness can show that it would notice.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[repr(u64)]
    pub enum Weakness {
        /// All promises are kept.
        None = 0,
        /// Connections opened from now on do not wait for the disk.
        SynchronousOff = 1,
        /// Writes are answered before their COMMIT.
        AcknowledgeEarly = 2,
    }

    /// What was done to a file, after it was done.
    #[derive(Debug)]
    pub enum FileEvent<'a> {
        /// The file's content is on disk.
        Synced(&'a Path),
        /// The file has another name.
        Renamed(&'a Path, &'a Path),
        /// The names in the folder are on disk.
        FolderSynced(&'a Path),
    }

    type Observer = Box<dyn Fn(&FileEvent<'_>) + Send + Sync>;
    type PointObserver = Box<dyn Fn(&'static str) + Send + Sync>;

    /// Where and at which visit the process ends; `ZQLITE_FAIL_POINT=name:visit`.
    static ARMED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let value = std::env::var("ZQLITE_FAIL_POINT").ok()?;
        let (name, visit) = value.split_once(':')?;
        Some((name.to_owned(), visit.parse().ok()?))
    });
    static VISITS: AtomicU64 = AtomicU64::new(0);
    static OBSERVER: RwLock<Option<Observer>> = RwLock::new(None);
    static POINT_OBSERVER: RwLock<Option<PointObserver>> = RwLock::new(None);

    /// The weakness in force; `ZQLITE_WEAKNESS=acknowledge-early` or `synchronous-off` sets it from outside.
    static WEAKNESS: LazyLock<AtomicU64> = LazyLock::new(|| {
        AtomicU64::new(match std::env::var("ZQLITE_WEAKNESS").as_deref() {
            Ok("synchronous-off") => Weakness::SynchronousOff as u64,
            Ok("acknowledge-early") => Weakness::AcknowledgeEarly as u64,
            _ => Weakness::None as u64,
        })
    });

    pub(crate) fn reach(name: &'static str) {
        debug_assert!(POINTS.contains(&name), "{name} is not listed");
        if let Some(observer) = &*POINT_OBSERVER.read() {
            observer(name);
        }
        if let Some((armed, visit)) = &*ARMED
            && armed == name
            && VISITS.fetch_add(1, Relaxed) + 1 == *visit
        {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }

    pub(crate) fn tell(event: &FileEvent<'_>) {
        if let Some(observer) = &*OBSERVER.read() {
            observer(event);
        }
    }

    pub(crate) fn is_weak(weakness: Weakness) -> bool {
        WEAKNESS.load(Relaxed) == weakness as u64
    }

    pub(crate) fn weaken(connection: &Connection) -> Result<()> {
        if is_weak(Weakness::SynchronousOff) {
            connection.pragma_update(None, "synchronous", "off")?;
        }
        Ok(())
    }

    /// Puts a weakness in force for the whole process.
    pub fn set_weakness(weakness: Weakness) {
        WEAKNESS.store(weakness as u64, Relaxed);
    }

    /// Is told from now on what is done to files by other means than SQLite's.
    pub fn observe(observer: impl Fn(&FileEvent<'_>) + Send + Sync + 'static) {
        *OBSERVER.write() = Some(Box::new(observer));
    }

    /// Is told from now on which points are reached, on the thread that reaches them.
    pub fn observe_points(observer: impl Fn(&'static str) + Send + Sync + 'static) {
        *POINT_OBSERVER.write() = Some(Box::new(observer));
    }
}

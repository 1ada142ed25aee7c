//! What the callbacks of a connection look at while a statement runs: what is allowed, and when to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::job::{Cancel, Job};
use crate::pressure::Pressure;
use crate::priority;
use crate::statement::{Refusal, authorization, judge};
use crate::{Error, ErrorCode, Result};

/// Steps of SQLite's virtual machine between two looks at the clock: some tens of microseconds.
const STEPS_PER_LOOK: i32 = 1000;

/// Why a running statement was stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Deadline,
    Cancelled,
    TooOld,
    Budget,
}

/// What the callbacks of a connection look at; they outlive any one call.
pub(crate) struct Watch {
    /// Set while the lane runs a statement of its own, which may control transactions.
    internal: AtomicBool,
    /// Set while the lane runs a statement that no caller may, on behalf of one: it may be stopped.
    privileged: AtomicBool,
    /// Why the authorizer last refused.
    refusal: AtomicU8,
    /// When the running call ends, on the clock of `pressure`; `u64::MAX` is never.
    deadline: AtomicU64,
    /// When the running call began, on that clock; `u64::MAX` when none runs.
    started: AtomicU64,
    cancel: Mutex<Option<Cancel>>,
    /// Whether `cancel` holds one.
    may_be_cancelled: AtomicBool,
    /// Looks at the clock that the running call has left; `u64::MAX` is without end.
    looks: AtomicU64,
    /// Which reads keep the write-ahead log from beginning anew.
    pressure: Arc<Pressure>,
    /// In nanoseconds; `None` where nothing is in the way of the log, since it writes.
    max_read_age: Option<u64>,
    /// What a function of ours failed with; SQLite has room for a text only.
    failure: Mutex<Option<Error>>,
}

impl Watch {
    /// Looks on behalf of one connection, once installed there; one that reads may be in the way of the log, and not older than
    /// `max_read_age` then.
    pub(crate) fn new(pressure: &Arc<Pressure>, max_read_age: Option<Duration>) -> Arc<Self> {
        let watch = Arc::new(Self {
            internal: AtomicBool::new(false),
            privileged: AtomicBool::new(false),
            refusal: AtomicU8::new(Refusal::None as u8),
            deadline: AtomicU64::new(u64::MAX),
            started: AtomicU64::new(u64::MAX),
            cancel: Mutex::default(),
            may_be_cancelled: AtomicBool::new(false),
            looks: AtomicU64::new(u64::MAX),
            pressure: pressure.clone(),
            max_read_age: max_read_age.map(|age| age.as_nanos() as u64),
            failure: Mutex::default(),
        });
        if max_read_age.is_some() {
            pressure.join(&watch);
        }
        watch
    }

    /// Has the connection ask before it prepares a statement, and while it runs one.
    pub(crate) fn install(self: &Arc<Self>, connection: &mut Connection) -> Result<()> {
        let seen = self.clone();
        connection.authorizer(Some(move |context: rusqlite::hooks::AuthContext<'_>| {
            if seen.internal.load(Relaxed) || seen.privileged.load(Relaxed) {
                return rusqlite::hooks::Authorization::Allow;
            }
            let refusal = judge(&context);
            if refusal != Refusal::None {
                seen.refusal.store(refusal as u8, Relaxed);
            }
            authorization(refusal)
        }))?;
        let seen = self.clone();
        connection.progress_handler(STEPS_PER_LOOK, Some(move || seen.look()))?;
        Ok(())
    }

    /// Sets when and by whom the statements that follow are interrupted.
    pub(crate) fn over(&self, job: &Job, deadline: Option<Instant>) {
        self.deadline.store(deadline.map_or(u64::MAX, |deadline| self.pressure.at(deadline)), Relaxed);
        self.started.store(self.pressure.now(), Relaxed);
        if job.cancel.is_some() || self.may_be_cancelled.load(Relaxed) {
            self.may_be_cancelled.store(job.cancel.is_some(), Relaxed);
            (*self.cancel.lock()).clone_from(&job.cancel);
        }
    }

    /// The statements that follow are interrupted by nobody.
    pub(crate) fn nothing(&self) {
        self.started.store(u64::MAX, Relaxed);
        self.deadline.store(u64::MAX, Relaxed);
        if self.may_be_cancelled.swap(false, Relaxed) {
            *self.cancel.lock() = None;
        }
        self.looks.store(u64::MAX, Relaxed);
    }

    /// Bounds what follows to this many steps of SQLite's virtual machine, about.
    pub(crate) fn bound(&self, steps: Option<u64>) {
        self.looks.store(steps.map_or(u64::MAX, |steps| steps / STEPS_PER_LOOK as u64), Relaxed);
    }

    /// The next call began then.
    pub(crate) fn set_started(&self, began: Instant) {
        self.started.store(self.pressure.at(began), Relaxed);
    }

    /// When the running call began, on the clock of [`Pressure`]; `u64::MAX` when none runs.
    pub(crate) fn started(&self) -> u64 {
        self.started.load(Relaxed)
    }

    /// Whether what follows is the lane's own; returns what held before.
    pub(crate) fn set_internal(&self, internal: bool) -> bool {
        self.internal.swap(internal, Relaxed)
    }

    /// Whether what follows may do what a caller's statements may not.
    pub(crate) fn set_privileged(&self, privileged: bool) {
        self.privileged.store(privileged, Relaxed);
    }

    /// Keeps an error until the statement that it ends tells of it.
    pub(crate) fn fail(&self, error: Error) {
        *self.failure.lock() = Some(error);
    }

    /// A statement begins.
    pub(crate) fn forget_failure(&self) {
        *self.failure.lock() = None;
    }

    /// Says what SQLite only hints at: why the authorizer refused, and whose clock interrupted.
    pub(crate) fn explain(&self, mut error: Error) -> Error {
        let refusal = Refusal::from_u8(self.refusal.swap(Refusal::None as u8, Relaxed));
        if let (Some(failure), true) = (self.failure.lock().take(), error.sqlite_code != 0) {
            return failure;
        }
        match error.code {
            // A refused function is a plain error to SQLite, everything else that is refused SQLITE_AUTH.
            ErrorCode::NotAllowed | ErrorCode::Sql if refusal != Refusal::None => {
                error.code = ErrorCode::NotAllowed;
                error.message = refusal.message().to_owned();
            }
            // SQLite only says that it was interrupted.
            ErrorCode::Cancelled if error.sqlite_code != 0 => {
                if let Some(stop) = self.stop() {
                    let why = stopped(stop);
                    (error.code, error.message) = (why.code, why.message);
                }
            }
            _ => {}
        }
        error
    }

    /// Why the running call must stop. Looked at every [`STEPS_PER_LOOK`] steps.
    fn stop(&self) -> Option<Stop> {
        if self.may_be_cancelled.load(Relaxed) && self.cancel.lock().as_ref().is_some_and(Cancel::is_cancelled) {
            return Some(Stop::Cancelled);
        }
        let deadline = self.deadline.load(Relaxed);
        if deadline != u64::MAX && self.pressure.now() >= deadline {
            return Some(Stop::Deadline);
        }
        if let Some(age) = self.max_read_age
            && self.is_in_the_way()
            && self.pressure.now() >= self.started().saturating_add(age)
        {
            return Some(Stop::TooOld);
        }
        (self.looks.load(Relaxed) == 0).then_some(Stop::Budget)
    }

    /// Whether a call that is paused, and so takes no steps, may go on.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self) -> Result<()> {
        self.stop().map_or(Ok(()), |stop| Err(stopped(stop)))
    }

    /// Whether the running call keeps the write-ahead log from beginning anew.
    pub(crate) fn is_in_the_way(&self) -> bool {
        self.pressure.is_waited_for(self.started())
    }

    fn look(&self) -> bool {
        priority::give_way();
        let looks = self.looks.load(Relaxed);
        if looks != u64::MAX {
            self.looks.store(looks.saturating_sub(1), Relaxed);
        }
        !self.internal.load(Relaxed) && self.stop().is_some()
    }
}

fn stopped(stop: Stop) -> Error {
    let (code, message) = match stop {
        Stop::Deadline => (ErrorCode::Deadline, "the call ran past its deadline"),
        Stop::Cancelled => (ErrorCode::Cancelled, "the call was cancelled"),
        Stop::TooOld => (
            ErrorCode::SnapshotTooOld,
            "the read is too old, and keeps the write-ahead log at its limit; read in smaller pieces, or raise wal.limit",
        ),
        Stop::Budget => {
            (ErrorCode::StepBudget, "the call took too many steps for the JavaScript thread; use the asynchronous form")
        }
    };
    Error::new(code, message)
}

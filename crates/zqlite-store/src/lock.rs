//! The locks of the hand-over between callers and lanes: parking_lot's, or, under the feature `shuttle`, those of a scheduler
//! that tries many interleavings. There a wait has no end but a notification, so one that is lost shows as a deadlock.

#[cfg(not(feature = "shuttle"))]
pub(crate) use parking_lot::{Condvar, Mutex};

#[cfg(feature = "shuttle")]
pub(crate) use scheduled::{Condvar, Mutex};

#[cfg(feature = "shuttle")]
mod scheduled {
    use std::ops::{Deref, DerefMut};
    use std::sync::PoisonError;
    use std::time::Instant;

    use shuttle::sync;

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(sync::Mutex<T>);

    /// Empty only while it waits.
    pub(crate) struct Guard<'a, T>(Option<sync::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub(crate) fn lock(&self) -> Guard<'_, T> {
            Guard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
        }
    }

    impl<T> Deref for Guard<'_, T> {
        type Target = T;
        #[allow(clippy::expect_used, reason = "in a build for tests only")]
        fn deref(&self) -> &T {
            self.0.as_ref().expect("a guard that waits is not used")
        }
    }

    impl<T> DerefMut for Guard<'_, T> {
        #[allow(clippy::expect_used, reason = "in a build for tests only")]
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("a guard that waits is not used")
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Condvar(sync::Condvar);

    /// As parking_lot's.
    pub(crate) struct Waited;

    impl Waited {
        pub(crate) fn timed_out(&self) -> bool {
            false
        }
    }

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn wait<T>(&self, guard: &mut Guard<'_, T>) {
            if let Some(held) = guard.0.take() {
                guard.0 = Some(self.0.wait(held).unwrap_or_else(PoisonError::into_inner));
            }
        }

        pub(crate) fn wait_until<T>(&self, guard: &mut Guard<'_, T>, _: Instant) -> Waited {
            self.wait(guard);
            Waited
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }
}

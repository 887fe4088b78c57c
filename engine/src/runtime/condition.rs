//! What threads wait for that is not in a channel.
//!
//! In a program it is that of `parking_lot` and nothing else. A build for tests waits for its turn where threads take turns (`turns`).

use parking_lot::{Condvar, MutexGuard};

/// Something that may have come true. Whoever waits looks again, since it may not have.
#[derive(Debug)]
pub(crate) struct Condition {
    inner: Condvar,
    #[cfg(any(test, feature = "testing"))]
    event: u64,
}

impl Condition {
    pub(crate) fn new() -> Self {
        Self {
            inner: Condvar::new(),
            #[cfg(any(test, feature = "testing"))]
            event: super::turns::new_event(),
        }
    }

    /// Gives the lock back until somebody says that it may have come true.
    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        #[cfg(any(test, feature = "testing"))]
        if let Some(turns) = super::turns::current() {
            return MutexGuard::unlocked(guard, || turns.wait(self.event, None));
        }
        self.inner.wait(guard);
    }

    /// It may have come true, for one of those who wait.
    pub(crate) fn notify_one(&self) {
        self.inner.notify_one();
        self.notify_turns();
    }

    /// It may have come true, for all who wait.
    pub(crate) fn notify_all(&self) {
        self.inner.notify_all();
        self.notify_turns();
    }

    fn notify_turns(&self) {
        #[cfg(any(test, feature = "testing"))]
        if let Some(turns) = super::turns::current() {
            turns.notify(self.event);
        }
    }
}

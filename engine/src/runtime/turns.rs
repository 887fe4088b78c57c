//! Threads that take turns: in a simulation exactly one of them runs, and a seed chooses which one goes on.
//!
//! Whoever simulates says so for the thread that all of them share ([`take_turns`]). From then on everything in the engine that would block or
//! that others wait for (channels, the pool) comes here instead of to the operating system. No lock may be held across such a
//! place. Only tests are built with it.

use std::cell::RefCell;
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Who decides whose turn it is.
pub trait Turns: Debug {
    /// Others may run first.
    fn pass(&self);
    /// Others run until somebody notifies `event`, or until the monotonic clock shows `until_ns`. It may come back without any of these.
    fn wait(&self, event: u64, until_ns: Option<u64>);
    /// Whoever waits for `event` can go on.
    fn notify(&self, event: u64);
    /// The monotonic clock of whoever asks.
    fn monotonic_ns(&self) -> u64;
}

thread_local! {
    static TURNS: RefCell<Option<Rc<dyn Turns>>> = const { RefCell::new(None) };
}

static EVENTS: AtomicU64 = AtomicU64::new(1);

/// Does `work`, in which threads take turns as `turns` says.
pub fn take_turns<T>(turns: Rc<dyn Turns>, work: impl FnOnce() -> T) -> T {
    struct End(Option<Rc<dyn Turns>>);
    impl Drop for End {
        fn drop(&mut self) {
            let before = self.0.take();
            TURNS.with(|current| *current.borrow_mut() = before);
        }
    }
    let _end = End(TURNS.with(|current| current.borrow_mut().replace(turns)));
    work()
}

/// Who decides on this thread; `None` where the operating system does.
pub(super) fn current() -> Option<Rc<dyn Turns>> {
    // Not there any more while a thread's own values are dropped.
    TURNS.try_with(|current| current.borrow().clone()).ok().flatten()
}

/// Names something that can be waited for.
pub(super) fn new_event() -> u64 {
    EVENTS.fetch_add(1, Ordering::Relaxed)
}

//! The only door to time, randomness and threads.
//!
//! The caller hands a [`Runtime`] to the engine. Programs take [`Runtime::system`]; tests and simulations bring a
//! clock that stands still and seeded entropy, and get the same stored bytes each time. Where threads wait for one another they do so by
//! `channel`, `condition` and `pool`, so that a simulation can decide who goes on.

pub(crate) mod channel;
mod condition;
mod pool;
mod simulated;
mod system;
#[cfg(any(test, feature = "testing"))]
pub mod turns;

pub(crate) use condition::Condition;
pub(crate) use pool::{Pool, Scope};
pub use simulated::{SeededEntropy, StillClock};
pub use system::{SystemClock, SystemEntropy, SystemExecutor};

use crate::error::Result;
use std::fmt::Debug;
use std::sync::Arc;

/// A point in time: seconds since 1970-01-01T00:00:00Z, negative before, and nanoseconds (0..1_000_000_000) after that second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    /// Whole seconds since the epoch, rounded down.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 1_000_000_000.
    pub nanoseconds: u32,
}

/// Tells the time.
pub trait Clock: Send + Sync + Debug {
    /// The wall clock's time. Recorded and shown, never trusted: nothing is deleted because of it.
    fn now(&self) -> Timestamp;
    /// Nanoseconds of a clock that never goes back (boot time where there is one), from any fixed start.
    fn monotonic_ns(&self) -> u64;
    /// Waits until the monotonic clock has gone on by so much.
    fn sleep_ns(&self, nanoseconds: u64);
    /// Names the start that [`Clock::monotonic_ns`] counts from (machine and boot): only times of the same origin can be compared.
    fn origin(&self) -> [u8; 16] {
        [0; 16]
    }
}

/// Gives random bytes.
pub trait Entropy: Send + Sync + Debug {
    /// Fills `bytes` with random ones, good enough for keys.
    fn fill(&self, bytes: &mut [u8]);
}

/// Runs work on other threads.
pub trait Executor: Send + Sync + Debug {
    /// How many threads should work at once; at least 1.
    fn threads(&self) -> usize;
    /// Runs `work` on a thread of its own named `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`](crate::error::ErrorKind::Unavailable) where there is no thread to be had; `work` was dropped then.
    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> Result<()>;
}

/// Clock, entropy and executor, shared by everything that belongs to one repository handle.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Gives random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// Runs threads.
    pub executor: Arc<dyn Executor>,
}

impl Runtime {
    /// The operating system's clock, random source and threads, with `threads` workers (0: one for each core).
    pub fn system(threads: usize) -> Self {
        Self { clock: Arc::new(SystemClock), entropy: Arc::new(SystemEntropy), executor: Arc::new(SystemExecutor::new(threads)) }
    }

    /// A clock that stands still at `now`, entropy from `seed`, and `threads` real threads.
    pub fn seeded(seed: u64, now: Timestamp, threads: usize) -> Self {
        Self {
            clock: Arc::new(StillClock::new(now)),
            entropy: Arc::new(SeededEntropy::new(seed)),
            executor: Arc::new(SystemExecutor::new(threads)),
        }
    }

    /// `N` random bytes.
    pub fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }
}

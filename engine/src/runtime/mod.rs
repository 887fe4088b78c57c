//! The only door to time, randomness and threads.
//!
//! The caller hands a [`Runtime`] to the engine. Programs take [`Runtime::system`]; tests and simulations bring a
//! clock that stands still and seeded entropy, and get the same stored bytes each time. Where threads wait for one another they do so by
//! `channel`, `condition` and `pool`, so that a simulation can decide who goes on.

mod ask;
pub(crate) mod channel;
mod condition;
mod pool;
mod simulated;
mod system;
#[cfg(any(test, feature = "testing"))]
pub mod turns;

pub(crate) use ask::ask_all;
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

impl std::fmt::Display for Timestamp {
    /// Date and time of day in UTC, to the second: `2026-11-28 22:55:39 UTC`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (days, of_day) = (self.seconds.div_euclid(86_400), self.seconds.rem_euclid(86_400));
        // Years from March on, so that a leap day is the last of its year; 146,097 days are 400 years.
        let since_march = days + 719_468;
        let (era, of_era) = (since_march.div_euclid(146_097), since_march.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = 400 * era + year_of_era + i64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", of_day / 3_600, of_day / 60 % 60, of_day % 60)
    }
}

/// Tells the time.
pub trait Clock: Send + Sync + Debug {
    /// The wall clock's time. Recorded and shown, never trusted alone: nothing is deleted because of one reading.
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

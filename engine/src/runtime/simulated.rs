//! A clock that stands still and entropy from a seed, for tests and simulations.

use super::{Clock, Entropy, Timestamp};
use parking_lot::Mutex;

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct StillClock(Mutex<(Timestamp, u64)>);

impl StillClock {
    /// Stands at `now`; the monotonic clock starts at 0.
    pub fn new(now: Timestamp) -> Self {
        Self(Mutex::new((now, 0)))
    }

    /// Moves both clocks forward by whole seconds.
    pub fn advance(&self, seconds: u32) {
        let mut state = self.0.lock();
        state.0.seconds += i64::from(seconds);
        state.1 += u64::from(seconds) * 1_000_000_000;
    }
}

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        self.0.lock().0
    }

    fn monotonic_ns(&self) -> u64 {
        self.0.lock().1
    }

    /// Moves the monotonic clock at once.
    fn sleep_ns(&self, nanoseconds: u64) {
        self.0.lock().1 += nanoseconds;
    }
}

/// Bytes that depend only on a seed and on how many were taken before. Never for real keys.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<blake3::OutputReader>);

impl SeededEntropy {
    /// Starts the sequence that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("icecore seeded entropy for tests");
        hasher.update(&seed.to_le_bytes());
        Self(Mutex::new(hasher.finalize_xof()))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().fill(bytes);
    }
}

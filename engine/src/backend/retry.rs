//! How long a store is tried again, and what people are told meanwhile. Clock and random source are the runtime's.

use super::store::{Notice, StoreSettings};
use crate::runtime::Runtime;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// The first wait is at most so long, each further one at most twice the one before.
const WAIT_FIRST_NS: u64 = 200_000_000;
/// No wait is longer.
const WAIT_MAX_NS: u64 = 20_000_000_000;
/// A store that never answered yet is more likely misspelt than in trouble.
const PATIENCE_BEFORE_ANSWER: Duration = Duration::from_secs(20);
/// After so long people are told, and again each time that so much went by.
const NOTICE_EVERY_NS: u64 = 30_000_000_000;

/// Patience with one store.
pub(super) struct Patience {
    /// The store's address, for people.
    place: String,
    runtime: Runtime,
    patience: Duration,
    notice: Option<Notice>,
    has_answered: AtomicBool,
    /// When people were last told that the store keeps them waiting.
    told_ns: AtomicU64,
}

/// The tries of one request.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// How many there were that failed.
    pub(super) failed: u32,
    since_ns: Option<u64>,
}

impl Patience {
    pub(super) fn new(place: String, settings: &StoreSettings) -> Self {
        let (runtime, notice) = (settings.runtime.clone(), settings.notice.clone());
        let (has_answered, told_ns) = (AtomicBool::new(false), AtomicU64::new(0));
        Self { place, runtime, patience: settings.patience, notice, has_answered, told_ns }
    }

    /// Notes that the store is there.
    pub(super) fn answered(&self) {
        self.has_answered.store(true, Ordering::Relaxed);
    }

    /// Waits after a failure that may pass, `why`.
    ///
    /// # Errors
    /// Without waiting, what people should know, once patience is at its end.
    pub(super) fn wait(&self, tries: &mut Tries, why: &str) -> Result<(), String> {
        let now = self.runtime.clock.monotonic_ns();
        tries.failed += 1;
        let waited = Duration::from_nanos(now.saturating_sub(*tries.since_ns.get_or_insert(now)));
        let patience = match self.has_answered.load(Ordering::Relaxed) {
            true => self.patience,
            false => self.patience.min(PATIENCE_BEFORE_ANSWER),
        };
        if waited >= patience {
            let (place, tries, seconds) = (&self.place, tries.failed, waited.as_secs());
            return Err(format!(
                "{place}: {why}; given up after {tries} tries in {seconds} s. See that the store is up and can be reached from here (endpoint, \
                 network, proxy), and run it again: what was stored is found again, nothing is lost"
            ));
        }
        self.tell(why, now, waited, patience);
        // Half of a time that doubles with each try, and up to as much again by chance: many clients do not come back all at once.
        let most = WAIT_MAX_NS.min(WAIT_FIRST_NS << (tries.failed - 1).min(16));
        self.runtime.clock.sleep_ns(most / 2 + u64::from_le_bytes(self.runtime.random()) % (most / 2));
        Ok(())
    }

    fn tell(&self, why: &str, now: u64, waited: Duration, patience: Duration) {
        let Some(notice) = &self.notice else { return };
        let told = self.told_ns.load(Ordering::Relaxed);
        let is_due = waited.as_nanos() >= u128::from(NOTICE_EVERY_NS) && now.saturating_sub(told) >= NOTICE_EVERY_NS;
        if is_due && self.told_ns.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let (waited, minutes) = (waited.as_secs(), patience.as_secs().div_ceil(60));
            notice(&format!("{}: {why}; trying again for {waited} s so far, {minutes} minutes at most", self.place));
        }
    }
}

impl fmt::Debug for Patience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Patience").field("place", &self.place).finish_non_exhaustive()
    }
}

//! Time, randomness and threads of the operating system.

use super::{Clock, Entropy, Executor, Timestamp};
use crate::error::{Error, ErrorKind, Result};
use crate::id::from_hex;
use std::time::{SystemTime, UNIX_EPOCH};

/// The operating system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the door")]
    fn now(&self) -> Timestamp {
        let now = SystemTime::now();
        match now.duration_since(UNIX_EPOCH) {
            Ok(after) => Timestamp { seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nanoseconds: after.subsec_nanos() },
            Err(before) => {
                let before = before.duration();
                let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
                match before.subsec_nanos() {
                    0 => Timestamp { seconds, nanoseconds: 0 },
                    nanoseconds => Timestamp { seconds: seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds },
                }
            }
        }
    }

    fn monotonic_ns(&self) -> u64 {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
    }

    #[allow(clippy::disallowed_methods, reason = "this is the door")]
    fn sleep_ns(&self, nanoseconds: u64) {
        std::thread::sleep(std::time::Duration::from_nanos(nanoseconds));
    }

    fn origin(&self) -> [u8; 16] {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let id = from_hex(&boot.trim().replace('-', "")).and_then(|id| id.try_into().ok());
        // Without a name nothing that was seen earlier can be used.
        id.unwrap_or_else(|| {
            let mut id = [0; 16];
            SystemEntropy.fill(&mut id);
            id
        })
    }
}

/// The operating system's random source.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // Linux gives random bytes or blocks until it can; going on without would mean guessable keys.
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    }
}

/// Threads of the operating system.
#[derive(Debug, Clone, Copy)]
pub struct SystemExecutor {
    threads: usize,
}

impl SystemExecutor {
    /// `threads` workers; 0 takes one for each core that this process may use.
    pub fn new(threads: usize) -> Self {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        };
        Self { threads }
    }
}

impl Executor for SystemExecutor {
    fn threads(&self) -> usize {
        self.threads
    }

    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> Result<()> {
        let started = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        started.map(drop).map_err(|error| {
            let what = "the system gives no more threads; end other programs, raise the limit (`ulimit -u`), or ask for fewer";
            Error::io(what, error).with_kind(ErrorKind::Unavailable)
        })
    }
}

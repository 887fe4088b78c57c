//! Programs that icecore runs: waited for in a way that hears Ctrl-C, and never left behind.

use crate::interrupt;
use rustix::event::{Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Between two looks at a program that is waited for.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// Looks that a program which was asked to end is given before it is killed: five seconds.
const LOOKS_TO_END: usize = 250;

/// A program at work. Dropping the last handle stops it.
#[derive(Debug, Clone)]
pub(crate) struct Running(Arc<Guarded>);

#[derive(Debug)]
struct Guarded(Mutex<Child>);

impl Running {
    /// Starts `command`.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        Ok(Self(Arc::new(Guarded(Mutex::new(command.spawn()?)))))
    }

    /// What it writes to standard output, if that is piped; once.
    pub(crate) fn take_stdout(&self) -> Option<ChildStdout> {
        self.0.lock().stdout.take()
    }

    /// Waits for its end; fails when icecore is interrupted first and `hears_interrupt` says that this counts.
    pub(crate) fn wait(&self, hears_interrupt: bool) -> io::Result<ExitStatus> {
        loop {
            // The lock is not held between two looks, so that another thread can stop it.
            if let Some(status) = self.0.lock().try_wait()? {
                return Ok(status);
            }
            if hears_interrupt && interrupt::is_interrupted() {
                return Err(io::Error::other("interrupted"));
            }
            pause();
        }
    }

    /// Asks it to end, and kills it if it does not.
    pub(crate) fn stop(&self) {
        self.0.stop();
    }
}

impl Guarded {
    fn lock(&self) -> MutexGuard<'_, Child> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        let mut child = self.lock();
        // Not reaped yet, so the number is still its own.
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        // It may have ended meanwhile; killing is what follows if this does not work.
        let _ = kill_process(Pid::from_child(&child), Signal::TERM);
        for _ in 0..LOOKS_TO_END {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            pause();
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.stop();
    }
}

fn pause() {
    // A signal ends it early, which is as good.
    let _ = poll(&mut [], Some(&LOOK_EVERY));
}

/// How a program ended, as people call it.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

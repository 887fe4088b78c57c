//! Ctrl-C and SIGTERM: the first one asks the operation to stop, the second one ends the process at once.

use crate::exit::INTERRUPTED;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// How long a wait for input may take before it looks at the flag again.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

static INTERRUPTED_FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Catches the signals from now on. Until then they end the process, as they should while it waits for a passphrase.
pub(crate) fn catch() -> io::Result<()> {
    if INTERRUPTED_FLAG.get().is_some() {
        return Ok(());
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order: the first signal finds the flag not yet set.
        flag::register_conditional_shutdown(signal, INTERRUPTED.into(), Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    INTERRUPTED_FLAG.get_or_init(|| stop);
    Ok(())
}

/// Whether a signal came.
pub(crate) fn is_interrupted() -> bool {
    INTERRUPTED_FLAG.get().is_some_and(|stop| stop.load(Ordering::Relaxed))
}

/// A descriptor to read from that ends with an error after a signal, also while it waits.
#[derive(Debug)]
pub(crate) struct Interruptible<F>(pub(crate) F);

impl<F: AsFd> Read for Interruptible<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let fd = self.0.as_fd();
        loop {
            match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&LOOK_EVERY)) {
                Ok(0) | Err(Errno::INTR) if !is_interrupted() => continue,
                Err(error) if error != Errno::INTR => return Err(error.into()),
                _ => {}
            }
            let read = if is_interrupted() { Ok(0) } else { rustix::io::read(fd, &mut *buffer) };
            // Asked again: Ctrl-C ends the program that feeds this one too, and what it had not written yet must not look complete.
            match read {
                _ if is_interrupted() => return Err(io::Error::other("interrupted")),
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }
}

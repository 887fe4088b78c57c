//! Writing to the disk while a restore goes on, so that little is left to wait for at its end.
//!
//! A kernel keeps what was written in memory for half a minute or until a tenth of the memory is full of it. A restore that asks for
//! durability at its end only would let the disk stand still until then.

use super::Folder;
use crate::entry::Key;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Executor;
use crate::runtime::channel::{Receiver, Sender, bounded};
use std::os::fd::OwnedFd;

/// A thread that writes out the target's file system when asked to. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct WriteOut {
    orders: Sender<Order>,
    outcome: Receiver<Result<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Begin,
    End,
}

impl Folder {
    /// Starts the thread.
    ///
    /// # Errors
    /// As the file system says.
    pub(crate) fn write_out(&self, executor: &dyn Executor) -> Result<WriteOut> {
        // Always by this one descriptor: what the kernel failed to write is told once to each.
        let root = self.open_folder(&Key::new()).map_err(|e| e.context("target folder"))?;
        let (orders, ordered) = bounded(1);
        let (tell, outcome) = bounded(1);
        let work = move || {
            let mut done = Ok(());
            for order in ordered {
                done = done.and_then(|()| sync(&root));
                if order == Order::End {
                    // Nobody listens where the restore has ended meanwhile.
                    let _ = tell.send(done);
                    return;
                }
            }
        };
        executor.spawn("icecore-write-out", Box::new(work))?;
        Ok(WriteOut { orders, outcome })
    }
}

impl WriteOut {
    /// Asks to write out what is there, and does not wait.
    pub(crate) fn begin(&self) {
        // One that waits already will do.
        let _ = self.orders.try_send(Order::Begin);
    }

    /// Waits until everything on the target's file system is durable. Other file systems mounted below are not covered.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the file system lost something, now or earlier.
    pub(crate) fn end(self) -> Result<()> {
        let gone = || Error::new(ErrorKind::Internal, "the thread that writes out is gone");
        self.orders.send(Order::End).map_err(|_| gone())?;
        self.outcome.recv().map_err(|_| gone())?.map_err(|e| e.context("target folder"))
    }
}

pub(super) fn sync(root: &OwnedFd) -> Result<()> {
    rustix::fs::syncfs(root).map_err(|e| Error::io("write out", e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    /// Keeps work until a test runs it.
    #[derive(Default)]
    struct Held(Mutex<Vec<Box<dyn FnOnce() + Send>>>);

    impl std::fmt::Debug for Held {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Held")
        }
    }

    impl Executor for Held {
        fn threads(&self) -> usize {
            1
        }

        fn spawn(&self, _name: &str, work: Box<dyn FnOnce() + Send>) -> Result<()> {
            self.0.lock().push(work);
            Ok(())
        }
    }

    #[test]
    fn asking_never_waits_and_the_end_does() {
        let target = tempfile::tempdir().unwrap();
        let folder = Folder::open(target.path()).unwrap();
        let held = Held::default();
        let write_out = folder.write_out(&held).unwrap();
        (0..100).for_each(|_| write_out.begin());
        let work = held.0.lock().pop().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(work);
            write_out.end().unwrap();
        });
    }

    #[test]
    fn the_thread_ends_with_the_restore() {
        let target = tempfile::tempdir().unwrap();
        let folder = Folder::open(target.path()).unwrap();
        let held = Held::default();
        let write_out = folder.write_out(&held).unwrap();
        write_out.begin();
        drop(write_out);
        let work = held.0.lock().pop().unwrap();
        work();
        // One that is gone is said, and not waited for.
        let write_out = folder.write_out(&held).unwrap();
        drop(held.0.lock().pop());
        assert_eq!(write_out.end().unwrap_err().kind(), ErrorKind::Internal);
    }
}

//! The folders of a repository, reached from one handle on its root.
//!
//! Every step is taken with `O_NOFOLLOW`: nobody who can write to a repository makes icecore read, write or delete outside it.
//! Invariant: a folder that [`Folders::make`] returns has an entry in its parent, and so up to the root, that survives a power failure.

use parking_lot::Mutex;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result, retry_on_intr};
use std::collections::HashSet;

/// Nobody but the owner: names and sizes tell about the content.
const FOLDER_MODE: Mode = Mode::RWXU;

#[derive(Debug)]
pub(super) struct Folders {
    root: OwnedFd,
    /// Folders whose entry was made durable through this handle, or was found to be. Bound: the folders that this handle wrote to.
    durable: Mutex<HashSet<String>>,
}

impl Folders {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root, durable: Mutex::default() }
    }

    /// Whether the root was removed since it was opened. Without asking, everything in it would merely seem to be missing.
    pub(super) fn is_gone(&self) -> bool {
        rustix::fs::fstat(&self.root).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Opens the existing folder `path`, components joined by `/`.
    pub(super) fn open(&self, path: &str) -> Result<OwnedFd> {
        match path.rsplit_once('/') {
            Some((parent, name)) => open_in(&self.open(parent)?, name),
            None => open_in(&self.root, path),
        }
    }

    /// Opens the folder `path`, and makes it and its parents, durably, where they are missing.
    pub(super) fn make(&self, path: &str) -> Result<OwnedFd> {
        match path.rsplit_once('/') {
            Some((parent, name)) => self.make_in(&self.make(parent)?, name, path),
            None => self.make_in(&self.root, path, path),
        }
    }

    fn make_in(&self, parent: &OwnedFd, name: &str, path: &str) -> Result<OwnedFd> {
        let folder = match open_in(parent, name) {
            Err(Errno::NOENT) => {
                self.durable.lock().remove(path);
                match rustix::fs::mkdirat(parent, name, FOLDER_MODE) {
                    Ok(()) | Err(Errno::EXIST) => open_in(parent, name)?,
                    Err(error) => return Err(error),
                }
            }
            other => other?,
        };
        // One that was there already may have been made by somebody whose fsync is still to come.
        if !self.durable.lock().contains(path) {
            sync(parent)?;
            self.durable.lock().insert(path.into());
        }
        Ok(folder)
    }
}

/// Makes the entries of a folder durable.
pub(super) fn sync(folder: impl AsFd) -> Result<()> {
    match retry_on_intr(|| rustix::fs::fsync(folder.as_fd())) {
        // File systems without fsync for folders (SMB) send changes of names to the server at once.
        Err(Errno::INVAL) => Ok(()),
        other => other,
    }
}

fn open_in(parent: &OwnedFd, name: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| rustix::fs::openat(parent, name, flags, Mode::empty()))
}

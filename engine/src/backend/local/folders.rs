//! The folders of a repository, reached from one handle on its root.
//!
//! Every step is taken with `O_NOFOLLOW`: nobody who can write to a repository makes icecore read, write or delete outside it.
//! Invariant: a folder that [`Folders::make`] returns has an entry in its parent, and so up to the root, that survives a power failure.

use parking_lot::Mutex;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result, retry_on_intr};
use std::collections::{BTreeSet, HashSet};

/// Each costs a flush of the disk; of more folders the whole file system is synced once.
const SYNCED_SINGLY_MAX: usize = 16;

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

    /// Makes what is in these folders durable, and their own entries; those that are not there are passed over. Files are synced before they get their
    /// names, so folders are all that is in doubt.
    pub(super) fn sync_all(&self, mut paths: BTreeSet<String>) -> std::result::Result<(), (String, Errno)> {
        let parents: Vec<_> = paths.iter().filter_map(|path| path.rsplit_once('/')).map(|(parent, _)| parent.to_owned()).collect();
        paths.extend(parents);
        let synced = match paths.len() > SYNCED_SINGLY_MAX {
            true => retry_on_intr(|| rustix::fs::syncfs(&self.root)).map_err(|error| (".".to_owned(), error)),
            false => paths.into_iter().try_for_each(|path| match self.open(&path) {
                Err(Errno::NOENT) => Ok(()),
                folder => folder.and_then(sync).map_err(|error| (path, error)),
            }),
        };
        synced.and_then(|()| sync(&self.root).map_err(|error| (".".to_owned(), error)))
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

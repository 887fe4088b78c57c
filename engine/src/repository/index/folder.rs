//! The folder in which the index's files lie: whose it is, names, clearing.
//!
//! One process has it at a time, by a lock on a file in it. A second process gets a folder of its own inside, which goes when it
//! ends, and so does whoever gives no folder. Nothing but our own names is ever removed.

use crate::error::{Error, Result};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const LOCK_NAME: &str = "lock";
const MANIFEST_NAME: &str = "manifest";
const MANIFEST_NAME_NEW: &str = "manifest.new";
const FILE_PREFIX: &str = "records-";
const PRIVATE_PREFIX: &str = "private-";

/// A folder that this process alone uses.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Deletes the folder at the end, where it is a temporary one.
    temporary: Option<TempDir>,
    /// Held, not read.
    _lock: File,
}

impl Folder {
    /// Takes `path` (made where it is missing) for this process, or a temporary folder inside where another one has it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |error| Error::io(format!("the index cache in {}", path.display()), error);
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        match lock(path).map_err(failed)? {
            Some(lock) => {
                remove_orphans(path).map_err(failed)?;
                Ok(Self { path: path.to_owned(), temporary: None, _lock: lock })
            }
            None => Self::temporary(tempfile::Builder::new().prefix(PRIVATE_PREFIX).tempdir_in(path)).map_err(failed),
        }
    }

    /// A temporary folder where the operating system wants those.
    pub(super) fn open_temporary() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("icecore-index-").tempdir();
        Self::temporary(folder).map_err(|error| Error::io("a temporary folder for the index", error))
    }

    fn temporary(folder: io::Result<TempDir>) -> io::Result<Self> {
        let folder = folder?;
        let lock = lock(folder.path())?.ok_or_else(|| io::Error::other("a new temporary folder is already locked"))?;
        Ok(Self { path: folder.path().to_owned(), temporary: Some(folder), _lock: lock })
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn path_of(&self, number: u64) -> PathBuf {
        self.path.join(format!("{FILE_PREFIX}{number}"))
    }

    /// Creates file `number`, which no manifest names yet.
    pub(super) fn create(&self, number: u64) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.path_of(number))
    }

    /// Removes file `number`. A failure leaves a file that the next opening clears away.
    pub(super) fn remove(&self, number: u64) {
        let _ = fs::remove_file(self.path_of(number));
    }

    /// The manifest; `None` where there is none.
    pub(super) fn read_manifest(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(MANIFEST_NAME)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts `bytes` in the place of the manifest, in one step.
    pub(super) fn write_manifest(&self, bytes: &[u8]) -> io::Result<()> {
        let new = self.path.join(MANIFEST_NAME_NEW);
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?.write_all(bytes)?;
        fs::rename(new, self.path.join(MANIFEST_NAME))
    }

    /// Forgets what the folder holds, so that it is built anew.
    pub(super) fn remove_manifest(&self) {
        let _ = fs::remove_file(self.path.join(MANIFEST_NAME));
    }

    /// Removes the record files whose number `is_used` does not know: left over by a process that did not end well.
    pub(super) fn remove_unused(&self, is_used: impl Fn(u64) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(FILE_PREFIX)).and_then(|number| number.parse().ok());
            if let Some(number) = number.filter(|&number| !is_used(number)) {
                self.remove(number);
            }
        }
        Ok(())
    }
}

/// Locks `folder`; `None` where another process has it.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(LOCK_NAME))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Removes the private folders of processes that were killed.
fn remove_orphans(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_private = entry.file_type()?.is_dir() && entry.file_name().to_str().is_some_and(|name| name.starts_with(PRIVATE_PREFIX));
        if is_private && entry.path().join(LOCK_NAME).exists() && lock(&entry.path())?.is_some() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

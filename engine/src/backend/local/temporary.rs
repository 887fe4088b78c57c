//! Files on their way to becoming objects.
//!
//! A temporary file is locked from its first moment until it is published or dropped, so a file that can be locked
//! belongs to nobody: its process ended. Locks are `flock(2)` ones; they belong to the open file and end with it.
//!
//! Invariant: whoever removes a name in `tmp/` holds the lock of the very file that the name stands for.

use super::folders::Folders;
use crate::id::{from_hex, to_hex};
use crate::runtime::{Entropy, SystemEntropy};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::{Errno, Result, retry_on_intr};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const TEMPORARY_FOLDER: &str = "tmp";
/// Only names of this form are ever swept.
const PREFIX: &str = "icecore-";
/// At the end of a name.
const RANDOM_BYTES: usize = 8;
/// Nobody but the owner.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// Names that are taken, or swept before they were locked, are rare; this many are none.
const ATTEMPTS_MAX: u32 = 1000;

/// Tells this process' temporary files apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A locked file in `tmp/`; its name goes when this is dropped.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) file: File,
    pub(super) folder: OwnedFd,
    pub(super) name: String,
    /// Whether the name still stands for this file.
    named: bool,
}

impl Temporary {
    pub(super) fn create(folders: &Folders) -> Result<Self> {
        let folder = folders.make(TEMPORARY_FOLDER)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..ATTEMPTS_MAX {
            let name = Self::fresh_name();
            let file = match retry_on_intr(|| rustix::fs::openat(&folder, &name, flags, FILE_MODE)) {
                Err(Errno::EXIST) => continue,
                other => other?,
            };
            // A sweep may come between: it has the lock, or had it and removed the file. Without locks there are no sweeps either.
            if lock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) || rustix::fs::fstat(&file)?.st_nlink == 0 {
                continue;
            }
            return Ok(Self { file: file.into(), folder, name, named: true });
        }
        Err(Errno::EXIST)
    }

    /// A name that no other temporary file has, of whatever process or machine: `icecore-PID-N-` and random digits. Processes in containers have the
    /// same numbers, and where locks do not reach across machines a sweep may free a name that its owner still uses.
    pub(super) fn fresh_name() -> String {
        let mut random = [0; RANDOM_BYTES];
        SystemEntropy.fill(&mut random);
        format!("{PREFIX}{}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed), to_hex(&random))
    }

    /// Gives the file its name as an object, where that name is free; [`Errno::EXIST`] where it is not.
    pub(super) fn publish(&mut self, folder: &OwnedFd, name: &str) -> Result<()> {
        match self.link(folder, name) {
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.rename(folder, name),
            other => other,
        }
    }

    fn link(&self, folder: &OwnedFd, name: &str) -> Result<()> {
        match rustix::fs::linkat(&self.folder, &self.name, folder, name, AtFlags::empty()) {
            // A network file system may ask twice, and be told that the name is taken: by the first time.
            Err(Errno::EXIST) if self.is_at(folder, name)? => Ok(()),
            other => other,
        }
    }

    /// For file systems without hard links.
    fn rename(&mut self, folder: &OwnedFd, name: &str) -> Result<()> {
        rustix::fs::renameat_with(&self.folder, &self.name, folder, name, RenameFlags::NOREPLACE)?;
        self.named = false;
        Ok(())
    }

    /// Gives the file its name as an object, and takes it from whatever has it.
    pub(super) fn replace(&mut self, folder: &OwnedFd, name: &str) -> Result<()> {
        rustix::fs::renameat(&self.folder, &self.name, folder, name)?;
        self.named = false;
        Ok(())
    }

    fn is_at(&self, folder: &OwnedFd, name: &str) -> Result<bool> {
        let identity = |stat: Stat| (stat.st_dev, stat.st_ino);
        match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => Ok(identity(there) == identity(rustix::fs::fstat(&self.file)?)),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.named {
            // What cannot be removed now is swept later.
            let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}

/// Removes what ended processes left behind. It is a service to the disk and never a reason to fail.
pub(super) fn sweep(folders: &Folders) {
    let Ok(folder) = folders.open(TEMPORARY_FOLDER) else { return };
    let Ok(entries) = rustix::fs::Dir::read_from(&folder) else { return };
    for entry in entries.flatten() {
        if let Ok(name) = entry.file_name().to_str()
            && is_temporary(name)
        {
            let _ = sweep_file(&folder, name);
        }
    }
}

/// Whether a folder, if it is there, has nothing but what was written here on the way to becoming objects, and the reserve.
pub(super) fn has_no_other(path: &Path) -> std::io::Result<bool> {
    let is_ours = |name: &OsStr| name == super::reserve::NAME || name.as_bytes().starts_with(PREFIX.as_bytes());
    match std::fs::read_dir(path) {
        Ok(mut entries) => entries.try_fold(true, |all, entry| Ok(all && is_ours(&entry?.file_name()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(error),
    }
}

fn sweep_file(folder: &OwnedFd, name: &str) -> Result<()> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    lock(&file, FlockOperation::NonBlockingLockExclusive)?;
    // No link left: another sweep was faster, and the name may be a living file's by now.
    match rustix::fs::fstat(&file)?.st_nlink {
        0 => Ok(()),
        _ => rustix::fs::unlinkat(folder, name, AtFlags::empty()),
    }
}

fn is_temporary(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    match name.strip_prefix(PREFIX).map(|rest| rest.split('-').collect::<Vec<_>>()).as_deref() {
        // As they were called once.
        Some([process, number]) => is_number(process) && is_number(number),
        Some([process, number, random]) => {
            is_number(process) && is_number(number) && from_hex(random).is_some_and(|bytes| bytes.len() == RANDOM_BYTES)
        }
        _ => false,
    }
}

pub(super) fn lock(file: impl AsFd, operation: FlockOperation) -> Result<()> {
    retry_on_intr(|| rustix::fs::flock(file.as_fd(), operation))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn folders() -> (tempfile::TempDir, Folders) {
        let place = tempfile::tempdir().unwrap();
        let folders = Folders::new(File::open(place.path()).unwrap().into());
        (place, folders)
    }

    #[test]
    fn both_ways_to_publish_never_replace() {
        let (place, folders) = folders();
        let target = folders.make("index").unwrap();
        for by_rename in [false, true] {
            for (name, expected) in [("a", Ok(())), ("a", Err(Errno::EXIST))] {
                let name = format!("{name}{by_rename}");
                let mut temporary = Temporary::create(&folders).unwrap();
                temporary.file.write_all(if expected.is_ok() { b"first" } else { b"other" }).unwrap();
                let found = if by_rename { temporary.rename(&target, &name) } else { temporary.link(&target, &name) };
                assert_eq!(found, expected, "by rename: {by_rename}");
                drop(temporary);
                assert_eq!(std::fs::read(place.path().join("index").join(name)).unwrap(), b"first");
            }
        }
        assert_eq!(std::fs::read_dir(place.path().join(TEMPORARY_FOLDER)).unwrap().count(), 0);
    }

    #[test]
    fn link_that_had_worked_already_is_no_collision() {
        let (_place, folders) = folders();
        let target = folders.make("index").unwrap();
        let mut temporary = Temporary::create(&folders).unwrap();
        temporary.publish(&target, "a").unwrap();
        temporary.publish(&target, "a").unwrap();
    }

    #[test]
    fn sweep_takes_only_what_is_ours_and_unlocked() {
        let (place, folders) = folders();
        let alive = Temporary::create(&folders).unwrap();
        let path = place.path().join(TEMPORARY_FOLDER);
        // The last one is what somebody writes by SFTP: it is not locked, and not ours to sweep.
        let by_sftp = "icecore-0123456789abcdef0123456789abcdef";
        for name in ["icecore-1-0", "icecore-1-0-0123456789abcdef", "icecore-1-x", "icecore-1-0-1", "icecore-1", "notes.txt", by_sftp] {
            std::fs::write(path.join(name), b"left").unwrap();
        }
        sweep(&folders);
        let mut left: Vec<_> = std::fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let mut expected = ["icecore-1-x", "icecore-1-0-1", "icecore-1", "notes.txt", by_sftp, &alive.name].map(str::to_owned);
        expected.sort();
        assert_eq!(left, expected);
    }

    #[test]
    fn sweeps_never_take_a_living_file() {
        let (_place, folders) = folders();
        let target = folders.make("index").unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        sweep(&folders);
                    }
                });
            }
            let results: Vec<_> = (0..500)
                .map(|i| {
                    let mut temporary = Temporary::create(&folders)?;
                    temporary.publish(&target, &i.to_string())
                })
                .collect();
            stop.store(true, Ordering::Relaxed);
            assert!(results.iter().all(Result::is_ok), "{results:?}");
        });
    }
}

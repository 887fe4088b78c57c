//! Writes one object: temporary file, fsync, name, fsync of the folder.

use super::folders::{self, Folders};
use super::reserve::with_room;
use super::temporary::Temporary;
use super::{READ_ONLY, io_error, split, write_error};
use crate::backend::{ObjectName, ObjectWriter};
use crate::error::{Error, ErrorKind, Result};
use rustix::fs::Advice;
use rustix::io::{Errno, retry_on_intr};
use std::num::NonZeroU64;

/// After so many bytes the kernel is asked to start writing them, so that the fsync at the end of a pack has little left to wait for.
const WRITE_BACK_BYTES: u64 = 8 << 20;
/// A folder may be removed, being empty, each time before the object gets there; nobody is that unlucky this often.
const ATTEMPTS_MAX: u32 = 100;

#[derive(Debug)]
pub(super) struct LocalWriter<'a> {
    folders: &'a Folders,
    name: ObjectName,
    temporary: Temporary,
    written_bytes: u64,
    write_back_bytes: u64,
    /// After a failed write nobody knows what the file holds, and a later fsync would not tell.
    poisoned: bool,
    /// Whether what stands at the name gives way.
    replaces: bool,
}

impl<'a> LocalWriter<'a> {
    /// Writes the object `name`, which must not be there unless it `replaces` what is.
    pub(super) fn create(folders: &'a Folders, name: &ObjectName, replaces: bool) -> Result<Self> {
        let temporary = with_room(folders, name, || Temporary::create(folders)).map_err(|error| write_error(name, error))?;
        Ok(Self { folders, name: *name, temporary, written_bytes: 0, write_back_bytes: 0, poisoned: false, replaces })
    }

    fn check(&self) -> Result<()> {
        match self.poisoned {
            false => Ok(()),
            true => Err(Error::new(ErrorKind::Unavailable, format!("{}: an earlier write failed; write the object anew", self.name))),
        }
    }

    fn start_write_back(&mut self) {
        let pending = self.written_bytes - self.write_back_bytes;
        if pending >= WRITE_BACK_BYTES {
            // Linux starts to write dirty pages on this advice, and drops only clean ones. Advice may fail without harm.
            let _ = rustix::fs::fadvise(&self.temporary.file, self.write_back_bytes, NonZeroU64::new(pending), Advice::DontNeed);
            self.write_back_bytes = self.written_bytes;
        }
    }

    fn publish(&mut self) -> Result<()> {
        let path = self.name.to_string();
        let (parent, last) = split(&path);
        for _ in 0..ATTEMPTS_MAX {
            let folder = match with_room(self.folders, &self.name, || self.folders.make(parent)) {
                Err(Errno::NOENT) if !self.folders.is_gone() => continue,
                other => other.map_err(|error| write_error(self.name, error))?,
            };
            let temporary = &mut self.temporary;
            let published = with_room(self.folders, &self.name, || match self.replaces {
                true => temporary.replace(&folder, last),
                false => temporary.publish(&folder, last),
            });
            match published {
                // The other's fsync may still be to come, and our caller relies on what exists.
                Ok(()) | Err(Errno::EXIST) => folders::sync(&folder).map_err(|error| write_error(self.name, error))?,
                Err(Errno::NOENT) if !self.folders.is_gone() => continue,
                Err(error @ (Errno::INVAL | Errno::NOSYS | Errno::PERM | Errno::OPNOTSUPP)) => {
                    let what = format!(
                        "{}: this file system can neither link a file nor rename it without replacing another; put the repository on another one",
                        self.name
                    );
                    return Err(Error::io(what, error.into()).with_kind(ErrorKind::Unavailable));
                }
                Err(error) => return Err(write_error(self.name, error)),
            }
            return match published {
                Ok(()) => Ok(()),
                Err(_) => Err(Error::new(ErrorKind::AlreadyExists, format!("{}: exists already", self.name))),
            };
        }
        let message = format!("{}: its folder or its temporary file is removed again and again by another process", self.name);
        Err(Error::new(ErrorKind::Unavailable, message))
    }
}

impl ObjectWriter for LocalWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.check()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let file = &self.temporary.file;
            match with_room(self.folders, &self.name, || retry_on_intr(|| rustix::io::write(file, rest))) {
                Ok(written) if written > 0 => rest = &rest[written..],
                failed => {
                    self.poisoned = true;
                    let error = failed.err().unwrap_or(Errno::NOSPC);
                    return Err(io_error(self.name, error.into(), READ_ONLY).with_kind(ErrorKind::Unavailable));
                }
            }
        }
        self.written_bytes += bytes.len() as u64;
        self.start_write_back();
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.check()?;
        let synced = self.temporary.file.sync_all();
        synced.map_err(|error| io_error(format_args!("{}: fsync", self.name), error, READ_ONLY).with_kind(ErrorKind::Unavailable))?;
        self.publish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, LocalBackend};
    use std::fs::File;
    use std::os::fd::OwnedFd;

    fn backend() -> (tempfile::TempDir, LocalBackend) {
        let place = tempfile::tempdir().unwrap();
        let backend = LocalBackend::create(place.path()).unwrap();
        (place, backend)
    }

    #[test]
    fn failed_write_poisons_the_writer() {
        let (_place, backend) = backend();
        let name = ObjectName::config(1);
        let mut writer = LocalWriter::create(&backend.folders, &name, false).unwrap();
        let good = std::mem::replace(&mut writer.temporary.file, File::open("/dev/null").unwrap());
        assert_eq!(writer.write(b"lost").unwrap_err().kind(), ErrorKind::Unavailable);
        writer.temporary.file = good;
        assert_eq!(writer.write(b"more").unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(Box::new(writer).finish().unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(backend.size(&name).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn failed_fsync_publishes_nothing() {
        let (_place, backend) = backend();
        let name = ObjectName::config(1);
        let mut writer = LocalWriter::create(&backend.folders, &name, false).unwrap();
        let (_reader, pipe) = std::io::pipe().unwrap();
        writer.temporary.file = OwnedFd::from(pipe).into();
        writer.write(b"a pipe takes it, but has no fsync").unwrap();
        assert_eq!(Box::new(writer).finish().unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(backend.size(&name).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

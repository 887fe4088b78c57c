//! The content of one regular file, or of a block device that is read like one.

use super::folder::Folder;
use super::stat::{Facts, StatKey};
use crate::error::{Error, Result};
use crate::sys::read_more;
use rustix::fd::OwnedFd;
use rustix::fs::{Advice, FileType, Mode, OFlags, SeekFrom, fadvise, fstat, openat, seek};
use rustix::io::{Errno, pread};
use std::ffi::CStr;
use std::io;
use std::ops::Range;
use std::sync::Arc;

const REPLACED: &str = "another file took its place since it was found";

const MADE_WHEN_READ: &str = "its size is said to be 0 and it has content, which is made when it is read, as in /proc; it is left out (`backup --exec --name \
                              NAME -- cat FILE` stores what can be read)";

/// Below this the kernel reads all of it ahead anyway.
const ADVISE_SIZE_MIN: u64 = 128 << 10;

/// A regular file or block device that is open for reading. Several threads may read it at once.
#[derive(Debug)]
pub struct SourceFile {
    fd: OwnedFd,
    facts: Facts,
}

impl SourceFile {
    /// Opens `name` in `folder` if it is still the regular file (the device, with `is_device`) that `expected` was taken from.
    pub(crate) fn open(folder: &Arc<Folder>, name: &CStr, expected: &StatKey, is_device: bool) -> io::Result<Self> {
        let parent = folder.fd()?;
        if is_device {
            return open_device(&parent, name, expected).map(|(fd, facts)| Self { fd, facts });
        }
        // `O_NONBLOCK`: a pipe that took the file's place must not make us wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        // Allowed to the owner and to root; for all others the attempt costs one call.
        let fd = match openat(&parent, name, flags | OFlags::NOATIME, Mode::empty()) {
            Err(Errno::PERM) => openat(&parent, name, flags, Mode::empty())?,
            result => result?,
        };
        let facts = Facts::new(&fstat(&fd)?);
        if facts.kind != FileType::RegularFile || (facts.key.device, facts.key.inode) != (expected.device, expected.inode) {
            return Err(io::Error::other(REPLACED));
        }
        if facts.key.size == 0 && is_made_when_read(&fd) {
            return Err(io::Error::other(MADE_WHEN_READ));
        }
        if facts.key.size >= ADVISE_SIZE_MIN {
            // Only a hint; a file system that does not take it reads as well.
            let _ = fadvise(&fd, 0, None, Advice::Sequential);
        }
        Ok(Self { fd, facts })
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What it was when it was opened. Where this differs from the walk's, it changed since.
    pub fn stat(&self) -> StatKey {
        self.facts.key
    }

    /// Reads at `offset` until `buffer` is full or the file ends; gives the number of bytes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`] where the file system cannot read it.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match pread(&self.fd, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(length) => done += length,
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::io(format!("reading at offset {}", offset + done as u64), error.into())),
            }
        }
        Ok(done)
    }

    /// Appends `length` bytes at `offset` to `buffer`, or as many as there are; gives their number.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`] where the file system cannot read it.
    pub fn append_at(&self, offset: u64, length: usize, buffer: &mut Vec<u8>) -> Result<usize> {
        let mut done = 0;
        while done < length {
            match read_more(&self.fd, offset + done as u64, length - done, buffer) {
                Ok(0) => break,
                Ok(more) => done += more,
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::io(format!("reading at offset {}", offset + done as u64), error.into())),
            }
        }
        Ok(done)
    }

    /// The ranges outside holes, ascending, not touching, within the size at opening.
    ///
    /// Space that was set aside but never written counts as a hole. All of the file is one range where the file system does not tell, or
    /// says that it has allocated as much as the file is long.
    pub fn data_ranges(&self) -> DataRanges<'_> {
        let size = self.facts.key.size;
        DataRanges { fd: &self.fd, next: 0, size, is_dense: self.facts.kind == FileType::BlockDevice || self.facts.allocated >= size }
    }

    /// What it is now. Where this differs from [`SourceFile::stat`], it changed while it was read.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unavailable`] where the file system does not answer.
    pub fn stat_after(&self) -> Result<StatKey> {
        facts_of(&self.fd).map(|facts| facts.key).map_err(|error| Error::io("reading the file's state", error))
    }
}

/// Whether a file whose size is said to be 0 has content all the same. One that somebody has begun to write has a size by now.
fn is_made_when_read(fd: &OwnedFd) -> bool {
    matches!(pread(fd, &mut [0], 0), Ok(1)) && fstat(fd).is_ok_and(|stat| stat.st_size == 0)
}

/// Opens `name` in `folder` if it is still the block device that `expected` was taken from.
pub(crate) fn open_device(folder: &OwnedFd, name: &CStr, expected: &StatKey) -> io::Result<(OwnedFd, Facts)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let fd = openat(folder, name, flags, Mode::empty())?;
    let facts = facts_of(&fd)?;
    match facts.kind == FileType::BlockDevice && (facts.key.device, facts.key.inode) == (expected.device, expected.inode) {
        true => Ok((fd, facts)),
        false => Err(io::Error::other(REPLACED)),
    }
}

/// What an open file says of itself; of a device the size is that of what lies on it.
fn facts_of(fd: &OwnedFd) -> io::Result<Facts> {
    let mut facts = Facts::new(&fstat(fd)?);
    if facts.kind == FileType::BlockDevice {
        facts.key.size = seek(fd, SeekFrom::End(0))?;
    }
    Ok(facts)
}

/// Iterates over the ranges of a file outside its holes; see [`SourceFile::data_ranges`]. Not to be used by two threads at once.
#[derive(Debug)]
pub struct DataRanges<'a> {
    fd: &'a OwnedFd,
    next: u64,
    size: u64,
    is_dense: bool,
}

impl Iterator for DataRanges<'_> {
    type Item = Result<Range<u64>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.size {
            return None;
        }
        let start = if self.is_dense { Ok(self.next) } else { seek(self.fd, SeekFrom::Data(self.next)) };
        let end = match start {
            _ if self.is_dense => Ok(self.size),
            Ok(start) => seek(self.fd, SeekFrom::Hole(start)),
            Err(error) => Err(error),
        };
        match (start, end) {
            (Ok(start), Ok(end)) if start < self.size && start < end => {
                self.next = end.min(self.size);
                Some(Ok(start..self.next))
            }
            // The file became shorter, or what is left is a hole.
            (Ok(_), Ok(_)) | (_, Err(Errno::NXIO)) => {
                self.next = self.size;
                None
            }
            (_, Err(Errno::INVAL | Errno::OPNOTSUPP)) => {
                let start = self.next;
                self.next = self.size;
                Some(Ok(start..self.size))
            }
            (_, Err(error)) | (Err(error), _) => {
                self.next = self.size;
                Some(Err(Error::io("looking for holes", error.into())))
            }
        }
    }
}

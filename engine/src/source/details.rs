//! Extended attributes and inode flags.
//!
//! Regular files and folders are opened and asked through the descriptor. All else, and what may not be opened, is asked by name
//! through `/proc/self/fd/<folder>/<name>`: one name long, never following a link at its end, and without an open that a device or a
//! pipe could react to.

use super::stat::{Facts, StatKey};
use crate::entry::EntryKind;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{Mode, OFlags, fgetxattr, fgetxattr_query, flistxattr, flistxattr_query, fstat, openat};
use rustix::fs::{ioctl_getflags, lgetxattr, lgetxattr_query, llistxattr, llistxattr_query};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;

/// The flags of `FS_IOC_GETFLAGS` that a person sets with `chattr`, by its letters:
/// `s u c S i a d A`, `m` (0x400), `j t D T`, `C` (0x800000), `x` (0x2000000), `P F`.
/// The rest (extents, index, encryption, verity, inline data) tells how the file system stores the file.
pub(crate) const INODE_FLAGS: u32 =
    0x0000_00ff | 0x400 | 0x4000 | 0x8000 | 0x1_0000 | 0x2_0000 | 0x80_0000 | 0x200_0000 | 0x2000_0000 | 0x4000_0000;

/// What a list of names or a value usually fits into.
const BUFFER_SIZE: usize = 1 << 10;

/// How often to ask again when a list or a value grows between two calls.
const TRIES: usize = 8;

/// What was found out about one entry.
#[derive(Debug, Default)]
pub(crate) struct Details {
    pub(crate) inode_flags: u32,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// What could not be read; the rest stands.
    pub(crate) trouble: Option<String>,
}

/// Reads details; keeps its buffer from one entry to the next.
#[derive(Debug)]
pub(crate) struct Reader {
    list: Vec<u8>,
    value: Vec<u8>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { list: vec![0; BUFFER_SIZE], value: Vec::new() }
    }
}

/// How to ask for extended attributes.
enum Subject<'a> {
    Open(&'a OwnedFd),
    Named(CString),
}

impl Reader {
    /// Reads the details of `name` in `folder`, found before as `kind` and `stat`.
    pub(crate) fn read(&mut self, folder: &OwnedFd, name: &CStr, kind: &EntryKind, stat: &StatKey) -> io::Result<Details> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = match kind {
            EntryKind::File(_) => flags,
            EntryKind::Folder => flags | OFlags::DIRECTORY,
            _ => return Ok(self.read_named(folder, name)),
        };
        match openat(folder, name, flags, Mode::empty()) {
            Ok(fd) => {
                let now = Facts::new(&fstat(&fd)?).key;
                if (now.device, now.inode) != (stat.device, stat.inode) {
                    return Err(io::Error::other("another file took its place while it was read"));
                }
                Ok(self.read_open(&fd))
            }
            Err(Errno::NOENT) => Err(Errno::NOENT.into()),
            Err(_) => Ok(self.read_named(folder, name)),
        }
    }

    /// Reads the details of the file or folder that `fd` is open on.
    pub(crate) fn read_open(&mut self, fd: &OwnedFd) -> Details {
        let mut details = Details::default();
        match ioctl_getflags(fd) {
            Ok(flags) => details.inode_flags = flags.bits() & INODE_FLAGS,
            // The file system has no such flags, or does not show them here.
            Err(Errno::NOTTY | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            Err(error) => details.trouble = Some(format!("its inode flags cannot be read: {}", io::Error::from(error))),
        }
        self.read_xattrs(&Subject::Open(fd), &mut details);
        details
    }

    /// Reads the extended attributes of `name` in `folder` without opening it.
    pub(crate) fn read_named(&mut self, folder: &OwnedFd, name: &CStr) -> Details {
        let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
        path.extend_from_slice(name.to_bytes());
        let mut details = Details::default();
        if let Ok(path) = CString::new(path) {
            self.read_xattrs(&Subject::Named(path), &mut details);
        }
        details
    }

    fn read_xattrs(&mut self, subject: &Subject<'_>, details: &mut Details) {
        let length = match list(subject, &mut self.list) {
            Ok(0) | Err(Errno::OPNOTSUPP) => return,
            Ok(length) => length,
            Err(error) => {
                details.trouble = Some(format!("its extended attributes cannot be listed: {}", io::Error::from(error)));
                return;
            }
        };
        // Most entries have none, and most readers read one entry.
        self.value.resize(self.value.len().max(BUFFER_SIZE), 0);
        for name in self.list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let Ok(c_name) = CString::new(name) else { continue };
            match value(subject, &c_name, &mut self.value) {
                Ok(length) => details.xattrs.push((name.to_vec(), self.value[..length].to_vec())),
                // Taken away since it was listed.
                Err(Errno::NODATA) => {}
                Err(error) => {
                    let name = String::from_utf8_lossy(name);
                    details.trouble = Some(format!("its extended attribute `{name}` cannot be read: {}", io::Error::from(error)));
                }
            }
        }
        details.xattrs.sort_unstable();
        details.xattrs.dedup_by(|a, b| a.0 == b.0);
    }
}

fn list(subject: &Subject<'_>, buffer: &mut Vec<u8>) -> rustix::io::Result<usize> {
    match subject {
        Subject::Open(fd) => fill(buffer, |buffer| flistxattr(fd, buffer), || flistxattr_query(fd)),
        Subject::Named(path) => fill(buffer, |buffer| llistxattr(path, buffer), || llistxattr_query(path)),
    }
}

fn value(subject: &Subject<'_>, name: &CStr, buffer: &mut Vec<u8>) -> rustix::io::Result<usize> {
    match subject {
        Subject::Open(fd) => fill(buffer, |buffer| fgetxattr(fd, name, buffer), || fgetxattr_query(fd, name)),
        Subject::Named(path) => fill(buffer, |buffer| lgetxattr(path, name, buffer), || lgetxattr_query(path, name)),
    }
}

/// Fills `buffer`, making it larger where needed; the kernel allows 64 KiB.
fn fill(
    buffer: &mut Vec<u8>,
    read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    size: impl Fn() -> rustix::io::Result<usize>,
) -> rustix::io::Result<usize> {
    for _ in 0..TRIES {
        match read(buffer) {
            Err(Errno::RANGE) => {
                let size = size()?;
                buffer.resize(size.max(buffer.len()), 0);
            }
            result => return result,
        }
    }
    Err(Errno::RANGE)
}

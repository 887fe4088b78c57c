//! A file being restored.

use crate::entry::Key;
use crate::error::{Error, ErrorKind, Result};
use parking_lot::Mutex;
use rustix::io::Errno;
use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Bytes read at a time for comparing; on the stack.
const COMPARE_BYTES: usize = 16 * 1024;

/// A regular file in the target, open for reading and writing, for use from several threads.
#[derive(Debug)]
pub struct OutputFile {
    file: OwnedFd,
    /// Its key, where it is written out before it is closed.
    closing: Option<(Key, Arc<Closings>)>,
}

/// Files that could not be written out when they were closed: of some file systems only their own descriptors are told what went wrong.
#[derive(Debug, Default)]
pub(super) struct Closings(Mutex<HashMap<Key, Errno>>);

impl Closings {
    /// What went wrong with a file; it is asked for once.
    pub(super) fn take(&self, key: &[u8]) -> Option<Errno> {
        self.0.lock().remove(key)
    }

    pub(super) fn note(&self, key: Key, errno: Errno) {
        self.0.lock().insert(key, errno);
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some((key, closings)) = self.closing.take()
            && let Err(errno) = rustix::fs::fsync(&self.file)
        {
            closings.note(key, errno);
        }
    }
}

impl OutputFile {
    pub(super) fn new(file: OwnedFd) -> Self {
        Self { file, closing: None }
    }

    /// One that is written out before it is closed.
    pub(super) fn written_out(file: OwnedFd, key: &Key, closings: &Arc<Closings>) -> Self {
        Self { file, closing: Some((key.clone(), Arc::clone(closings))) }
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Writes all of `bytes` at `offset` (in bytes).
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`], for example on a full disk; then a part may be written.
    pub fn write_at(&self, mut offset: u64, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match rustix::io::pwrite(&self.file, bytes, offset) {
                Ok(0) => return Err(Error::new(ErrorKind::Unavailable, format!("write at {offset}: the file system takes no bytes"))),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(Error::io(format!("write at {offset}"), e.into())),
            }
        }
        Ok(())
    }

    /// Reads up to `bytes.len()` bytes at `offset`; fewer only at the end of the file. Returns how many.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`].
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            match rustix::io::pread(&self.file, &mut bytes[filled..], offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(Errno::INTR) => {}
                Err(e) => return Err(Error::io(format!("read at {offset}"), e.into())),
            }
        }
        Ok(filled)
    }

    /// Lets the kernel forget what it has of the file in memory, as far as it is on the disk already: the next read asks the disk. Only a hint.
    pub(crate) fn let_go(&self) {
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    /// Whether these ranges (offset, length) read as zeros; `false` where they cannot be read.
    pub(crate) fn has_zeros(&self, ranges: &[(u64, u64)]) -> bool {
        let mut buffer = [0; COMPARE_BYTES];
        ranges.iter().all(|&(offset, length)| {
            let (mut at, end) = (offset, offset.saturating_add(length));
            while at < end {
                match rustix::fs::seek(&self.file, rustix::fs::SeekFrom::Data(at)) {
                    // What lies before is a hole.
                    Ok(data) if data > at => at = data.min(end),
                    Err(Errno::NXIO) => at = end,
                    // It has data here, or the file system does not tell.
                    _ => {
                        let wanted = usize::try_from(end - at).unwrap_or(usize::MAX).min(COMPARE_BYTES);
                        match self.read_at(at, &mut buffer[..wanted]) {
                            Ok(read) if read == wanted && buffer[..read].iter().all(|byte| *byte == 0) => at += read as u64,
                            _ => return false,
                        }
                    }
                }
            }
            true
        })
    }

    /// Whether the file has exactly `bytes` at `offset`.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where it cannot be read.
    pub fn matches(&self, offset: u64, bytes: &[u8]) -> Result<bool> {
        let mut buffer = [0; COMPARE_BYTES];
        let mut at = offset;
        for wanted in bytes.chunks(COMPARE_BYTES) {
            let found = &mut buffer[..wanted.len()];
            if self.read_at(at, found)? != wanted.len() || found != wanted {
                return Ok(false);
            }
            at = at.saturating_add(wanted.len() as u64);
        }
        Ok(true)
    }
}

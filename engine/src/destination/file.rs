//! A file being restored.

use crate::error::{Error, ErrorKind, Result};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes read at a time for comparing; on the stack.
const COMPARE_BYTES: usize = 16 * 1024;

/// A regular file in the target, open for reading and writing, for use from several threads.
#[derive(Debug)]
pub struct OutputFile {
    file: OwnedFd,
}

impl OutputFile {
    pub(super) fn new(file: OwnedFd) -> Self {
        Self { file }
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

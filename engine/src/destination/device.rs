//! A block device or an image file that one file's content is written onto, in place.

use super::OutputFile;
use crate::error::{Error, ErrorKind, Result};
use rustix::fs::{FallocateFlags, FileType, Mode, OFlags, SeekFrom, fallocate, fsync, ftruncate, openat, seek, stat};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// How much of a hole is looked at and zeroed at a time.
const ZEROED_AT_ONCE: u64 = 1 << 20;

/// An open block device or image file.
#[derive(Debug)]
pub(crate) struct Device {
    path: PathBuf,
    file: OutputFile,
    is_block: bool,
    length: u64,
}

impl Device {
    /// Opens what stands at `path`; links to it are followed. Unless `force`, what this machine has in use (mounted, part of a volume,
    /// swap, the file of a loop device) is refused.
    pub(crate) fn open(path: &Path, may_write: bool, force: bool) -> Result<Self> {
        let failed = |e: Errno| Error::io(path.display(), e.into());
        let found = match stat(path) {
            Err(Errno::NOENT) => {
                let message = format!("{} does not exist; `truncate -s SIZE` makes an image file", path.display());
                return Err(Error::new(ErrorKind::NotFound, message));
            }
            found => found.map_err(failed)?,
        };
        let is_block = match FileType::from_raw_mode(found.st_mode) {
            FileType::BlockDevice => true,
            FileType::RegularFile => false,
            _ => return Err(Error::new(ErrorKind::Invalid, format!("{} is neither a block device nor an image file", path.display()))),
        };
        let in_use = || {
            let message = format!(
                "{} is in use: mounted, part of a volume, or opened by another program; free it, or use force (`--force`)",
                path.display()
            );
            Error::new(ErrorKind::Busy, message)
        };
        if may_write && !force && !is_block && is_behind_loop(path) {
            return Err(in_use());
        }
        let mut flags = if may_write { OFlags::RDWR } else { OFlags::RDONLY } | OFlags::CLOEXEC | OFlags::NOCTTY;
        if is_block && may_write && !force {
            // The kernel refuses this while anything else holds the device, a part of it, or all of it.
            flags |= OFlags::EXCL;
        }
        let file = match openat(rustix::fs::CWD, path, flags, Mode::empty()) {
            Err(Errno::BUSY) => return Err(in_use()),
            opened => opened.map_err(failed)?,
        };
        let length = seek(&file, SeekFrom::End(0)).map_err(failed)?;
        Ok(Self { path: path.to_owned(), file: OutputFile::new(file), is_block, length })
    }

    /// Where to read and write.
    pub(crate) fn file(&self) -> &OutputFile {
        &self.file
    }

    /// Whether it is a block device, whose length is given.
    pub(crate) fn is_block(&self) -> bool {
        self.is_block
    }

    /// Its length when it was opened, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Fails where `size` bytes do not fit.
    pub(crate) fn check_fits(&self, size: u64) -> Result<()> {
        match self.is_block && self.length < size {
            true => {
                let message = format!("{} is too small: it has {} bytes, and the file {size}", self.path.display(), self.length);
                Err(Error::new(ErrorKind::Invalid, message))
            }
            false => Ok(()),
        }
    }

    /// Gives an image file this length.
    pub(crate) fn fit(&self, size: u64) -> Result<()> {
        match self.is_block || self.length == size {
            true => Ok(()),
            false => ftruncate(self.file.descriptor(), size).map_err(|e| Error::io("set length", e.into())),
        }
    }

    /// Makes a range read as zeros, without space of its own where the file system or the device can do that. Calls `advance` with the
    /// bytes that were looked at and those among them that changed; that is how often it can be stopped.
    pub(crate) fn zero(&self, offset: u64, length: u64, mut advance: impl FnMut(u64, u64) -> Result<()>) -> Result<()> {
        let punch =
            |offset, length| fallocate(self.file.descriptor(), FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length);
        let end = offset.saturating_add(length);
        let mut at = offset;
        while at < end {
            let piece = (end - at).min(ZEROED_AT_ONCE - at % ZEROED_AT_ONCE);
            let is_zero = self.file.has_zeros(&[(at, piece)]);
            if !is_zero && punch(at, piece).is_err() {
                let zeros = vec![0; usize::try_from(piece).unwrap_or_default()];
                self.file.write_at(at, &zeros)?;
            }
            advance(piece, if is_zero { 0 } else { piece })?;
            at += piece;
        }
        if !self.is_block && length > 0 {
            // Zeros that took space give it back; where that does not work they are as good.
            let _ = punch(offset, length);
        }
        Ok(())
    }

    /// Waits until everything is durable.
    pub(crate) fn sync(&self) -> Result<()> {
        fsync(self.file.descriptor()).map_err(|e| Error::io(format!("write out {}", self.path.display()), e.into()))
    }
}

/// Whether a loop device of this machine has this file behind it, as far as the kernel tells.
fn is_behind_loop(path: &Path) -> bool {
    let (Ok(path), Ok(devices)) = (path.canonicalize(), std::fs::read_dir("/sys/block")) else { return false };
    devices.flatten().any(|device| {
        let behind = std::fs::read_to_string(device.path().join("loop/backing_file"));
        behind.is_ok_and(|behind| Path::new(behind.trim_end_matches('\n')) == path)
    })
}

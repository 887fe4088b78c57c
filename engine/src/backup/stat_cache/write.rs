//! Writing a stat cache while a backup runs.
//!
//! The new file grows under another name beside the old one, locked, and takes its place at the end. One that was left behind by a
//! process that was killed is no longer locked; the next builder removes it. Nothing is synced: what a power cut tears is a miss.

use super::record::put_record;
use super::{FENCE_LENGTH, MAGIC};
use crate::entry::{ChunkList, Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Timestamp;
use crate::source::StatKey;
use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// Records of a block.
const BLOCK_RECORDS_MAX: usize = 64;
/// A block that is longer takes no further record.
const BLOCK_LENGTH_ENOUGH: usize = 65_536;
/// Longer records are left out: their offsets must fit into four bytes, and reading such a file again is cheap beside its size.
const RECORD_LENGTH_MAX: usize = 67_108_864;
/// Chunks of a file that is remembered (about 32 GiB at usual chunk sizes).
const CHUNKS_MAX: usize = 1_000_000;
/// What lies between an entry's last change and the moment it was seen, at least: steps of clocks take a second, and what a program writes through memory into a page that
/// it has just written changes no time until the kernel has written that page back, after some 35 seconds and what the disk needs.
const AGE_MIN_SECONDS: i64 = 120;
/// Another process may remove a new file before it is locked; not this often.
const CREATE_TRIES: usize = 16;

/// Writes the stat cache of a backup; without [`StatCacheBuilder::finish`] the old one stays.
#[derive(Debug)]
pub(crate) struct StatCacheBuilder {
    path: PathBuf,
    context: [u8; 32],
    file: BufWriter<NamedTempFile>,
    block: Block,
    key_last: Option<Vec<u8>>,
    blocks_length: u64,
    fences: Vec<u8>,
    fence_keys: Vec<u8>,
}

/// The block that is being filled.
#[derive(Debug, Default)]
struct Block {
    key_first: Vec<u8>,
    ends: Vec<u8>,
    records: Vec<u8>,
}

impl StatCacheBuilder {
    /// Begins the file that will lie at `path`, bound to `context`. Missing folders above it are made, for this user only.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] or what else the file system says; [`ErrorKind::Invalid`] where `path` has no file name.
    pub(crate) fn create(path: &Path, context: [u8; 32]) -> Result<Self> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Error::new(ErrorKind::Invalid, format!("{} cannot be a stat cache: it names no file", path.display())));
        };
        let mut prefix = name.to_owned();
        prefix.push(".new-");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .and_then(|()| remove_orphans(folder, prefix.as_encoded_bytes()))
            .and_then(|()| create_locked(folder, &prefix))
            .map(|file| Self {
                path: path.to_owned(),
                context,
                file: BufWriter::new(file),
                block: Block::default(),
                key_last: None,
                blocks_length: 0,
                fences: Vec::new(),
                fence_keys: Vec::new(),
            })
            .map_err(|error| failed(path, error))
    }

    /// Adds an entry. Keys must ascend.
    ///
    /// `seen_at` is a moment not after `stat` was taken, by the clock that gives files their times. Entries that changed less than
    /// two minutes before it are never known again, since they may change without looking different (the module says more); files with
    /// more than 1,000,000 chunks are left out.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] where the key does not come after the last one, otherwise what the file system says.
    pub(crate) fn push(&mut self, stat: &StatKey, entry: &Entry, seen_at: Timestamp) -> Result<()> {
        if self.key_last.as_ref().is_some_and(|last| *last >= entry.key) {
            let key = String::from_utf8_lossy(&entry.key);
            return Err(Error::new(ErrorKind::Internal, format!("the stat cache was given {key:?} out of order")));
        }
        let key_last = self.key_last.get_or_insert_default();
        key_last.clear();
        key_last.extend_from_slice(&entry.key);
        if has_too_many_chunks(entry) {
            return Ok(());
        }
        if self.block.add(stat, entry, is_racy(stat, seen_at)) {
            self.end_block().map_err(|error| failed(&self.path, error))?;
        }
        Ok(())
    }

    /// Puts the new cache in the place of the old one, in one step.
    ///
    /// # Errors
    /// What the file system says; the old cache stays then.
    pub(crate) fn finish(mut self) -> Result<()> {
        let path = std::mem::take(&mut self.path);
        self.write_end(&path).map_err(|error| failed(&path, error))
    }

    fn write_end(mut self, path: &Path) -> io::Result<()> {
        self.end_block()?;
        let fence_count = (self.fences.len() / FENCE_LENGTH) as u64;
        let mut end = MAGIC.to_vec();
        for number in [self.blocks_length, fence_count, self.fence_keys.len() as u64] {
            end.extend_from_slice(&number.to_le_bytes());
        }
        let mut hasher = blake3::Hasher::new_keyed(&self.context);
        for part in [&self.fences, &self.fence_keys, &end] {
            hasher.update(part);
            self.file.write_all(part)?;
        }
        self.file.write_all(hasher.finalize().as_bytes())?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.persist(path)?;
        Ok(())
    }

    fn end_block(&mut self) -> io::Result<()> {
        let Block { key_first, ends, records } = &mut self.block;
        if ends.is_empty() {
            return Ok(());
        }
        let mut hasher = blake3::Hasher::new_keyed(&self.context);
        hasher.update(ends).update(records);
        self.file.write_all(ends)?;
        self.file.write_all(records)?;
        self.blocks_length += (ends.len() + records.len()) as u64;
        self.fence_keys.extend_from_slice(key_first);
        self.fences.extend_from_slice(&(self.fence_keys.len() as u64).to_le_bytes());
        self.fences.extend_from_slice(&self.blocks_length.to_le_bytes());
        self.fences.extend_from_slice(&((ends.len() / 4) as u32).to_le_bytes());
        self.fences.extend_from_slice(hasher.finalize().as_bytes());
        ends.clear();
        records.clear();
        // One large file must not hold its memory until the end.
        records.shrink_to(2 * BLOCK_LENGTH_ENOUGH);
        Ok(())
    }
}

impl Block {
    /// Adds a record; says whether the block is full.
    fn add(&mut self, stat: &StatKey, entry: &Entry, is_racy: bool) -> bool {
        if self.ends.is_empty() {
            self.key_first.clear();
            self.key_first.extend_from_slice(&entry.key);
        }
        let start = self.records.len();
        put_record(&mut self.records, &self.key_first, stat, entry, is_racy);
        if self.records.len() - start > RECORD_LENGTH_MAX {
            self.records.truncate(start);
            return false;
        }
        // Fits: what came before is less than BLOCK_LENGTH_ENOUGH.
        self.ends.extend_from_slice(&(self.records.len() as u32).to_le_bytes());
        self.ends.len() / 4 >= BLOCK_RECORDS_MAX || self.records.len() >= BLOCK_LENGTH_ENOUGH
    }
}

/// Whether the entry changed so shortly before it was seen that it may change again and look the same.
fn is_racy(stat: &StatKey, seen_at: Timestamp) -> bool {
    [stat.ctime, stat.modified].into_iter().any(|changed| {
        let settled = Timestamp { seconds: changed.seconds.saturating_add(AGE_MIN_SECONDS), nanoseconds: changed.nanoseconds };
        settled > seen_at
    })
}

fn has_too_many_chunks(entry: &Entry) -> bool {
    matches!(&entry.kind, EntryKind::File(content) if matches!(&content.chunks, ChunkList::Inline(chunks) if chunks.len() > CHUNKS_MAX))
}

/// Makes a file of a new name that no other process takes for left behind.
fn create_locked(folder: &Path, prefix: &std::ffi::OsStr) -> io::Result<NamedTempFile> {
    for _ in 0..CREATE_TRIES {
        let file = tempfile::Builder::new().prefix(prefix).permissions(Permissions::from_mode(0o600)).tempfile_in(folder)?;
        // Between the two lines another builder may have locked or removed it.
        if try_lock(file.as_file())? && file.as_file().metadata()?.nlink() == 1 {
            return Ok(file);
        }
    }
    Err(io::Error::other("other processes keep removing the new file"))
}

/// Removes what builders of this file left behind when they were killed.
fn remove_orphans(folder: &Path, prefix: &[u8]) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(prefix) || !entry.file_type()?.is_file() {
            continue;
        }
        // One that is gone or cannot be opened is not ours to remove.
        let Ok(file) = File::open(entry.path()) else { continue };
        if try_lock(&file)? {
            let _ = fs::remove_file(entry.path());
        }
    }
    Ok(())
}

/// Locks `file` until it is closed; says no where another one has it.
fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn failed(path: &Path, error: io::Error) -> Error {
    Error::io(format!("the stat cache {}", path.display()), error)
}

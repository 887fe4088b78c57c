//! The stat cache: what the last backup of a series saw and stored, so that unchanged files are not read again.
//!
//! A local file outside the format, free to change, written by one backup and read by the next. It may be lost or damaged
//! at any time: whatever is in doubt is a miss, which means reading the file again, never a wrong answer.
//!
//! ```text
//! blocks | fences | keys of the fences | end
//! block:  for each of up to 64 records where it ends (4 bytes), then the records (`record`)
//! fence:  where its key ends in the keys 8, where its block ends 8, records 4, keyed BLAKE3 of the block 32
//! end:    magic 16, length of the blocks 8, fences 8, length of the keys 8, keyed BLAKE3 of all from the fences to here 32
//! ```
//! Numbers are little-endian. A fence's key is that of its block's first record; keys ascend over the whole file.
//!
//! Invariants:
//! * The context is the key of every hash, so a file of another context is as good as none.
//! * Fences are proven when the file is opened, a block when it is first used, and nothing is read from either before that.
//! * A file is written under another name and renamed when it is whole. It never changes after that, so it may be mapped without a lock,
//!   and a reader keeps what it has when another process puts a new one in its place.
//!
//! # What stat cannot tell
//! Times of a file move in steps, of up to a second where a file system counts seconds. A file that changed in the step in
//! which it was seen may change once more and look the same. And what is written through a mapping (`mmap`) moves them only when a page is first
//! written to; what the program puts there until the kernel has written the page back, for some 35 seconds, does not. Such entries are marked as racy and never
//! known again: all whose ctime or mtime is not at least two minutes older than the moment they were seen. So only what changed within the two minutes before a
//! backup is read by the next one, too. Three things remain: a network file system whose clock is more than that behind ours, one that writes
//! nothing back (tmpfs), and a kernel that was told to write back much later. There only reading everything helps.

mod record;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use record::{CachedChunks, put_entry, read_entry};
pub(crate) use write::StatCacheBuilder;

use crate::entry::Entry;
use crate::source::{Known, StatKey};
use crate::sys::MappedFile;
use record::Record;
use std::cmp::Ordering;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{self, AtomicU8, AtomicUsize};

const MAGIC: &[u8; 16] = b"icecore-stat-01\n";
const HASH_LENGTH: usize = 32;
const FENCE_LENGTH: usize = 8 + 8 + 4 + HASH_LENGTH;
const END_LENGTH: usize = MAGIC.len() + 3 * 8 + HASH_LENGTH;

/// A block not looked at yet.
const UNPROVEN: u8 = 0;
const PROVEN: u8 = 1;
const DAMAGED: u8 = 2;

/// An entry as the last backup saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cached {
    /// What stat said.
    pub(crate) stat: StatKey,
    /// What was stored.
    pub(crate) entry: Entry,
    /// Whether the same stat proves the same entry; otherwise it must be read again.
    pub(crate) is_settled: bool,
}

/// What the last backup of a series saw; answers from many threads at once.
#[derive(Debug)]
pub(crate) struct StatCache {
    file: MappedFile,
    context: [u8; 32],
    fences: Range<usize>,
    /// Where the keys of the fences begin; they reach to the end's first byte at most.
    keys_start: usize,
    /// One of `UNPROVEN`, `PROVEN`, `DAMAGED` for each block. Relaxed suffices: the bytes it speaks of never change.
    states: Box<[AtomicU8]>,
    /// The block of the last answer. Only a hint, for keys that come nearly in order.
    last_block: AtomicUsize,
    ignores_device: bool,
}

/// What a fence says of its block.
struct Fence<'a> {
    key: &'a [u8],
    block: Range<usize>,
    records: usize,
    hash: [u8; HASH_LENGTH],
}

impl StatCache {
    /// Opens the file at `path` that was written in `context`; `None` where it is absent, torn, of another version or another context.
    pub(crate) fn open(path: &Path, context: [u8; 32]) -> Option<Self> {
        let file = File::open(path).ok()?;
        let length = file.metadata().ok().filter(std::fs::Metadata::is_file)?.len();
        let file = MappedFile::new(&file, length).ok()?;
        let end_start = file.len().checked_sub(END_LENGTH)?;
        let (proven, hash) = file.split_last_chunk::<HASH_LENGTH>()?;
        let (magic, lengths) = proven.get(end_start..)?.split_first_chunk::<{ MAGIC.len() }>()?;
        if magic != MAGIC {
            return None;
        }
        let blocks_length = number(lengths, 0)?;
        let fence_count = number(lengths, 8)?;
        let keys_start = fence_count.checked_mul(FENCE_LENGTH)?.checked_add(blocks_length)?;
        if keys_start.checked_add(number(lengths, 16)?)? != end_start {
            return None;
        }
        if blake3::keyed_hash(&context, proven.get(blocks_length..)?) != *hash {
            return None;
        }
        let fences = blocks_length..keys_start;
        // Bound: one byte for each fence, which takes more than that in the file.
        let states = (0..fence_count).map(|_| AtomicU8::new(UNPROVEN)).collect();
        Some(Self { file, context, fences, keys_start, states, last_block: AtomicUsize::new(0), ignores_device: false })
    }

    /// The same cache, which takes files of another device for the same. What else stat says is still enough: of two file systems at the
    /// same path it agrees to the nanosecond only where one is a snapshot of the other.
    pub(crate) fn ignoring_device(self) -> Self {
        Self { ignores_device: true, ..self }
    }

    /// Whether what stat says `now` is what it said when the file was `seen`.
    pub(crate) fn is_same(&self, seen: &StatKey, now: &StatKey) -> bool {
        let device = if self.ignores_device { now.device } else { seen.device };
        StatKey { device, ..*seen } == *now
    }

    /// What the last backup saw and stored at `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Cached> {
        self.find(key)?.read(key)
    }

    /// The chunks of the file at `key`, whatever stat says of it now.
    pub(crate) fn chunks(&self, key: &[u8]) -> Option<CachedChunks<'_>> {
        self.find(key)?.chunks()
    }

    fn find(&self, key: &[u8]) -> Option<Record<'_>> {
        let block = self.block_of(key)?;
        let fence = self.fence(block)?;
        self.find_in_block(self.proven_block(block, &fence)?, &fence, key)
    }

    /// The block in whose range `key` lies: the last whose fence is not above it.
    fn block_of(&self, key: &[u8]) -> Option<usize> {
        let last = self.last_block.load(atomic::Ordering::Relaxed);
        for block in [last, last.saturating_add(1)] {
            if self.fence_key(block).is_some_and(|fence| fence <= key) && self.fence_key(block + 1).is_none_or(|next| key < next) {
                self.remember(last, block);
                return Some(block);
            }
        }
        let (mut low, mut high) = (0, self.states.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.fence_key(middle)? <= key { low = middle + 1 } else { high = middle }
        }
        let block = low.checked_sub(1)?;
        self.remember(last, block);
        Some(block)
    }

    /// Writes only what changed: threads that ask for one block must not take the line from each other.
    fn remember(&self, last: usize, block: usize) {
        if last != block {
            self.last_block.store(block, atomic::Ordering::Relaxed);
        }
    }

    fn fence_bytes(&self, block: usize) -> Option<&[u8]> {
        let start = block.checked_mul(FENCE_LENGTH)?;
        self.file.get(self.fences.clone())?.get(start..)?.get(..FENCE_LENGTH)
    }

    fn fence_key(&self, block: usize) -> Option<&[u8]> {
        let end = number(self.fence_bytes(block)?, 0)?;
        let start = match block.checked_sub(1) {
            Some(before) => number(self.fence_bytes(before)?, 0)?,
            None => 0,
        };
        self.file.get(self.keys_start..)?.get(start..end)
    }

    fn fence(&self, block: usize) -> Option<Fence<'_>> {
        let bytes = self.fence_bytes(block)?;
        let start = match block.checked_sub(1) {
            Some(before) => number(self.fence_bytes(before)?, 8)?,
            None => 0,
        };
        let records = u32::from_le_bytes(*bytes.get(16..)?.first_chunk()?) as usize;
        Some(Fence { key: self.fence_key(block)?, block: start..number(bytes, 8)?, records, hash: *bytes.last_chunk()? })
    }

    /// The bytes of a block, if they are what was written.
    fn proven_block(&self, block: usize, fence: &Fence<'_>) -> Option<&[u8]> {
        let state = self.states.get(block)?;
        let bytes = self.file.get(fence.block.clone())?;
        match state.load(atomic::Ordering::Relaxed) {
            PROVEN => Some(bytes),
            UNPROVEN => {
                let is_whole = blake3::keyed_hash(&self.context, bytes) == fence.hash;
                state.store(if is_whole { PROVEN } else { DAMAGED }, atomic::Ordering::Relaxed);
                is_whole.then_some(bytes)
            }
            _ => None,
        }
    }

    fn find_in_block<'a>(&self, block: &'a [u8], fence: &Fence<'_>, key: &[u8]) -> Option<Record<'a>> {
        let (ends, records) = block.split_at_checked(fence.records.checked_mul(4)?)?;
        let (ends, _) = ends.as_chunks::<4>();
        let (mut low, mut high) = (0, ends.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let start = match middle.checked_sub(1) {
                Some(before) => u32::from_le_bytes(*ends.get(before)?) as usize,
                None => 0,
            };
            let end = u32::from_le_bytes(*ends.get(middle)?) as usize;
            let record = Record::new(records.get(start..end)?)?;
            match record.compare_key(fence.key, key)? {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Some(record),
            }
        }
        None
    }
}

impl Known for StatCache {
    fn is_known(&self, key: &[u8], stat: &StatKey) -> bool {
        self.find(key).and_then(|record| record.settled_stat()).is_some_and(|seen| self.is_same(&seen, stat))
    }
}

/// The eight-byte number at `offset`.
fn number(bytes: &[u8], offset: usize) -> Option<usize> {
    usize::try_from(u64::from_le_bytes(*bytes.get(offset..)?.first_chunk()?)).ok()
}

//! Immutable files of fixed-size records, read through memory maps and verified block by block.
//!
//! A file is its records in blocks of about 16 KiB, then a *fence* for each block: the first eight bytes of its first record
//! and 16 bytes of BLAKE3 of the block. Its [`FileName`] (which only the manifest holds) carries the number of records and the
//! hash of the fences. So opening a file reads a thousandth of it, and a block is verified when it is first touched: a torn or
//! rotten file is noticed before anything in it is believed, at no cost for the parts that nobody asks for.
//!
//! A search goes through the fences, which are few and lie together, and then through one block, unless it ends where the one before did: frames
//! are asked for in the order of their identities more often than not.

use super::fault::{Fault, Result};
use super::folder::Folder;
use super::search::{interpolate, partition_near, prefix};
use crate::sys::MappedFile;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes in a block, at most.
const BLOCK_LENGTH_MAX: usize = 16 << 10;
/// Bytes of the first record that are kept for each block.
const PREFIX_LENGTH: usize = 8;
/// Bytes kept for each block: the prefix, and 16 bytes of BLAKE3.
const FENCE_LENGTH: usize = PREFIX_LENGTH + 16;

/// What the manifest says of a file; enough to find and to verify it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileName {
    /// The number that makes up its name in the folder.
    pub(super) number: u64,
    /// How many records it holds; at least one.
    pub(super) records: u64,
    /// BLAKE3 of the fences of its blocks.
    pub(super) fences_hash: [u8; 32],
}

/// A file of records of `N` bytes.
pub(super) struct RecordFile<const N: usize> {
    name: FileName,
    map: MappedFile,
    /// A bit for each block that was found to match its sum.
    verified: Vec<AtomicU64>,
    /// Where the last search ended: the next one often ends there or one further.
    last: AtomicU64,
}

impl<const N: usize> RecordFile<N> {
    const RECORDS_PER_BLOCK: u64 = (BLOCK_LENGTH_MAX / N) as u64;
    const BLOCK_LENGTH: usize = Self::RECORDS_PER_BLOCK as usize * N;

    /// Opens the file that the manifest names.
    pub(super) fn open(folder: &Folder, name: FileName) -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let blocks = name.records.div_ceil(Self::RECORDS_PER_BLOCK);
        let data_length = name.records.checked_mul(N as u64);
        let length =
            data_length.and_then(|data| data.checked_add(blocks * FENCE_LENGTH as u64)).ok_or_else(|| invalid("too many records"))?;
        let map = MappedFile::new(&File::open(folder.path_of(name.number))?, length)?;
        // The map has `length` bytes, which thus fit a usize, and so do all positions below.
        if blake3::hash(&map[name.records as usize * N..]) != name.fences_hash {
            return Err(invalid("the fences do not match"));
        }
        let verified = (0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { name, map, verified, last: AtomicU64::new(0) })
    }

    pub(super) fn name(&self) -> FileName {
        self.name
    }

    pub(super) fn len(&self) -> u64 {
        self.name.records
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.map.len() as u64
    }

    /// Record `at`, which must be below [`RecordFile::len`], from a verified block.
    pub(super) fn get(&self, at: u64) -> Result<&[u8; N]> {
        Ok(&self.block(at / Self::RECORDS_PER_BLOCK)?[(at % Self::RECORDS_PER_BLOCK) as usize])
    }

    fn data(&self) -> &[u8] {
        &self.map[..self.name.records as usize * N]
    }

    fn blocks(&self) -> u64 {
        self.name.records.div_ceil(Self::RECORDS_PER_BLOCK)
    }

    /// The records of a block, verified.
    fn block(&self, block: u64) -> Result<&[[u8; N]]> {
        let data = self.data();
        let start = block as usize * Self::BLOCK_LENGTH;
        let bytes = &data[start..data.len().min(start + Self::BLOCK_LENGTH)];
        let is_verified = self.verified[(block / 64) as usize].load(Ordering::Relaxed) >> (block % 64) & 1 == 1;
        if !is_verified {
            self.verify(block, bytes)?;
        }
        let (records, _) = bytes.as_chunks::<N>();
        Ok(records)
    }

    #[cold]
    fn verify(&self, block: u64, bytes: &[u8]) -> Result<()> {
        if blake3::hash(bytes).as_bytes()[..FENCE_LENGTH - PREFIX_LENGTH] != self.fence(block)[PREFIX_LENGTH..] {
            return Err(Fault::Torn(format!("block {block} of file {} does not match its hash", self.name.number)));
        }
        self.verified[(block / 64) as usize].fetch_or(1 << (block % 64), Ordering::Relaxed);
        Ok(())
    }

    fn fence(&self, block: u64) -> &[u8] {
        &self.map[self.data().len() + block as usize * FENCE_LENGTH..][..FENCE_LENGTH]
    }

    /// The first eight bytes of the first record of a block, as a number.
    fn block_prefix(&self, block: u64) -> u64 {
        prefix(self.fence(block))
    }

    /// Calls `visit` with each record that starts with one of the keys, which are sorted, and with the number of that key, for a file whose
    /// records are sorted; cheap where the keys follow one another in it.
    pub(super) fn for_each_of_all(&self, keys: impl Iterator<Item = [u8; 8]>, mut visit: impl FnMut(usize, &[u8; N])) -> Result<()> {
        /// Records that are stepped over before a key is searched for: about what a search costs.
        const STEPS_MAX: u64 = 16;
        let mut block = Block { first: 0, records: &[] };
        let mut from = None;
        for (number, key) in keys.enumerate() {
            let key_prefix = prefix(&key);
            let mut at = match from {
                None => self.first_not_below(&key)?,
                Some(from) => {
                    let mut at = from;
                    while at < self.len() && at - from < STEPS_MAX && prefix(block.get(self, at)?) < key_prefix {
                        at += 1;
                    }
                    if at - from == STEPS_MAX { self.first_not_below(&key)? } else { at }
                }
            };
            from = Some(at);
            while at < self.len() {
                let record = block.get(self, at)?;
                if prefix(record) != key_prefix {
                    break;
                }
                visit(number, record);
                at += 1;
            }
        }
        Ok(())
    }

    /// The position of the first record that is not below `key`.
    fn first_not_below(&self, key: &[u8]) -> Result<u64> {
        let last = self.last.load(Ordering::Relaxed);
        let key_prefix = prefix(key);
        for at in [last, last + 1] {
            if at <= self.len()
                && (at == 0 || is_below(self.get(at - 1)?, key, key_prefix))
                && (at == self.len() || !is_below(self.get(at)?, key, key_prefix))
            {
                self.last.store(at, Ordering::Relaxed);
                return Ok(at);
            }
        }
        let found = self.search(key)?;
        self.last.store(found, Ordering::Relaxed);
        Ok(found)
    }

    fn search(&self, key: &[u8]) -> Result<u64> {
        let block = self.blocks_below(key)?.saturating_sub(1);
        let records = self.block(block)?;
        let key_prefix = prefix(key);
        let prefix_next = if block + 1 < self.blocks() { self.block_prefix(block + 1) } else { u64::MAX };
        let guess = interpolate(key_prefix, self.block_prefix(block), prefix_next, records.len() as u64);
        let at = partition_near(records.len() as u64, guess, |at| Ok(is_below(&records[at as usize], key, key_prefix)))?;
        Ok(block * Self::RECORDS_PER_BLOCK + at)
    }

    /// How many blocks begin with a record below `key`.
    fn blocks_below(&self, key: &[u8]) -> Result<u64> {
        let key_prefix = prefix(key);
        let blocks = self.blocks();
        let guess = interpolate(key_prefix, 0, u64::MAX, blocks);
        let below = partition_near(blocks, guess, |block| Ok(self.block_prefix(block) < key_prefix))?;
        if below == blocks || self.block_prefix(below) > key_prefix {
            return Ok(below);
        }
        // Only records that share eight bytes with the key need to be looked at in full.
        let equal = partition_near(blocks - below, 0, |block| Ok(self.block_prefix(below + block) == key_prefix))?;
        let equal_below = partition_near(equal, 0, |block| {
            let record = self.get((below + block) * Self::RECORDS_PER_BLOCK)?;
            Ok(record.as_slice() < key)
        })?;
        Ok(below + equal_below)
    }
}

/// The block that was looked at last, by which the next record is nearly always found.
struct Block<'a, const N: usize> {
    /// The position of its first record.
    first: u64,
    records: &'a [[u8; N]],
}

impl<'a, const N: usize> Block<'a, N> {
    /// [`RecordFile::get`].
    fn get(&mut self, file: &'a RecordFile<N>, at: u64) -> Result<&'a [u8; N]> {
        if let Some(record) = self.records.get(at.wrapping_sub(self.first) as usize) {
            return Ok(record);
        }
        let block = at / RecordFile::<N>::RECORDS_PER_BLOCK;
        self.records = file.block(block)?;
        self.first = block * RecordFile::<N>::RECORDS_PER_BLOCK;
        Ok(&self.records[(at - self.first) as usize])
    }
}

/// Whether a record stands before a key that begins with these eight bytes, which nearly always decide, without a call.
fn is_below<const N: usize>(record: &[u8; N], key: &[u8], key_prefix: u64) -> bool {
    let record_prefix = prefix(record);
    record_prefix < key_prefix || (record_prefix == key_prefix && record.as_slice() < key)
}

impl<const N: usize> fmt::Debug for RecordFile<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecordFile").field(&self.name).finish()
    }
}

/// Writes a [`RecordFile`].
pub(super) struct RecordFileWriter<'a, const N: usize> {
    folder: &'a Folder,
    number: u64,
    file: BufWriter<File>,
    block: Vec<u8>,
    records: u64,
    fences: Vec<u8>,
}

impl<'a, const N: usize> RecordFileWriter<'a, N> {
    pub(super) fn create(folder: &'a Folder, number: u64) -> io::Result<Self> {
        let file = BufWriter::with_capacity(256 << 10, folder.create(number)?);
        let block = Vec::with_capacity(RecordFile::<N>::BLOCK_LENGTH);
        Ok(Self { folder, number, file, block, records: 0, fences: Vec::new() })
    }

    pub(super) fn push(&mut self, record: &[u8; N]) -> io::Result<()> {
        self.block.extend_from_slice(record);
        self.records += 1;
        if self.block.len() == RecordFile::<N>::BLOCK_LENGTH { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> io::Result<()> {
        self.fences.extend_from_slice(&self.block[..PREFIX_LENGTH]);
        self.fences.extend_from_slice(&blake3::hash(&self.block).as_bytes()[..FENCE_LENGTH - PREFIX_LENGTH]);
        self.file.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }

    /// The finished file; `None`, and no file, where no record was pushed.
    pub(super) fn finish(mut self) -> io::Result<Option<RecordFile<N>>> {
        if self.records == 0 {
            self.folder.remove(self.number);
            return Ok(None);
        }
        if !self.block.is_empty() {
            self.end_block()?;
        }
        self.file.write_all(&self.fences)?;
        self.file.flush()?;
        let name = FileName { number: self.number, records: self.records, fences_hash: *blake3::hash(&self.fences).as_bytes() };
        RecordFile::open(self.folder, name).map(Some)
    }
}

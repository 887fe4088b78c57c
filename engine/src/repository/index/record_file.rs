//! Immutable files of fixed-size records, read through memory maps and verified block by block.
//!
//! A file is its records in blocks of about 16 KiB, then 16 bytes of BLAKE3 for each block. Its [`FileName`] (which only the
//! manifest holds) carries the number of records and the hash of those sums. So opening a file reads a thousandth of it, and a
//! block is verified when it is first touched: a torn or rotten file is noticed before anything in it is believed, at
//! no cost for the parts that nobody asks for.

use super::fault::{Fault, Result};
use super::folder::Folder;
use crate::sys::MappedFile;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes in a block, at most.
const BLOCK_LENGTH_MAX: usize = 16 << 10;
/// Bytes of BLAKE3 kept for each block.
const SUM_LENGTH: usize = 16;

/// What the manifest says of a file; enough to find and to verify it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileName {
    /// The number that makes up its name in the folder.
    pub(super) number: u64,
    /// How many records it holds; at least one.
    pub(super) records: u64,
    /// BLAKE3 of the sums of its blocks.
    pub(super) sums_hash: [u8; 32],
}

/// A file of records of `N` bytes.
pub(super) struct RecordFile<const N: usize> {
    name: FileName,
    map: MappedFile,
    /// A bit for each block that was found to match its sum.
    verified: Vec<AtomicU64>,
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
            data_length.and_then(|data| data.checked_add(blocks * SUM_LENGTH as u64)).ok_or_else(|| invalid("too many records"))?;
        let map = MappedFile::new(&File::open(folder.path_of(name.number))?, length)?;
        // The map has `length` bytes, which thus fit a usize, and so do all positions below.
        let sums = &map[name.records as usize * N..];
        if blake3::hash(sums) != name.sums_hash {
            return Err(invalid("the sums do not match"));
        }
        let verified = (0..blocks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { name, map, verified })
    }

    pub(super) fn name(&self) -> FileName {
        self.name
    }

    pub(super) fn len(&self) -> u64 {
        self.name.records
    }

    /// Record `at`, which must be below [`RecordFile::len`], from a verified block.
    pub(super) fn get(&self, at: u64) -> Result<&[u8; N]> {
        let block = at / Self::RECORDS_PER_BLOCK;
        let is_verified = self.verified[(block / 64) as usize].load(Ordering::Relaxed) >> (block % 64) & 1 == 1;
        if !is_verified {
            self.verify(block)?;
        }
        let (records, _) = self.data().as_chunks::<N>();
        Ok(&records[at as usize])
    }

    fn data(&self) -> &[u8] {
        &self.map[..self.name.records as usize * N]
    }

    #[cold]
    fn verify(&self, block: u64) -> Result<()> {
        let data = self.data();
        let start = block as usize * Self::BLOCK_LENGTH;
        let bytes = &data[start..data.len().min(start + Self::BLOCK_LENGTH)];
        let sum = &self.map[data.len() + block as usize * SUM_LENGTH..][..SUM_LENGTH];
        if blake3::hash(bytes).as_bytes()[..SUM_LENGTH] != *sum {
            return Err(Fault::Torn(format!("block {block} of file {} does not match its sum", self.name.number)));
        }
        self.verified[(block / 64) as usize].fetch_or(1 << (block % 64), Ordering::Relaxed);
        Ok(())
    }

    /// Calls `visit` with each record that starts with `key`, for a file whose records are sorted.
    pub(super) fn for_each_of(&self, key: &[u8], mut visit: impl FnMut(&[u8; N]) -> Result<()>) -> Result<()> {
        let mut at = self.first_not_below(key)?;
        while at < self.len() {
            let record = self.get(at)?;
            if !record.starts_with(key) {
                break;
            }
            visit(record)?;
            at += 1;
        }
        Ok(())
    }

    /// The position of the first record that is not below `key`.
    ///
    /// Ids are uniformly distributed, so a few guesses by interpolation land close by; doubling steps then bracket the place and
    /// halving finds it. Keys that are not uniform cost no more than a binary search and a few probes.
    fn first_not_below(&self, key: &[u8]) -> Result<u64> {
        const GUESSES: usize = 3;
        let key_prefix = prefix(key);
        let (mut low, mut low_prefix) = (0, 0);
        let (mut high, mut high_prefix) = (self.len(), u64::MAX);
        let mut is_low_nearer = true;
        for _ in 0..GUESSES {
            if high - low < 16 {
                break;
            }
            let share = u128::from(key_prefix.saturating_sub(low_prefix)) * u128::from(high - low);
            let guess = low + (share / (u128::from(high_prefix.saturating_sub(low_prefix)) + 1)) as u64;
            let guess = guess.min(high - 1);
            let record = self.get(guess)?;
            is_low_nearer = record.as_slice() < key;
            if is_low_nearer {
                (low, low_prefix) = (guess + 1, prefix(record));
            } else {
                (high, high_prefix) = (guess, prefix(record));
            }
        }
        let mut step = 4;
        while high - low > step {
            let probe = if is_low_nearer { low + step } else { high - step };
            let is_below = self.get(probe)?.as_slice() < key;
            if is_below {
                low = probe + 1;
            } else {
                high = probe;
            }
            if is_below != is_low_nearer {
                break;
            }
            step *= 2;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle)?.as_slice() < key {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

impl<const N: usize> fmt::Debug for RecordFile<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecordFile").field(&self.name).finish()
    }
}

/// The first eight bytes as a number.
fn prefix(key: &[u8]) -> u64 {
    key.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Writes a [`RecordFile`].
pub(super) struct RecordFileWriter<'a, const N: usize> {
    folder: &'a Folder,
    number: u64,
    file: BufWriter<File>,
    block: Vec<u8>,
    records: u64,
    sums: Vec<u8>,
}

impl<'a, const N: usize> RecordFileWriter<'a, N> {
    pub(super) fn create(folder: &'a Folder, number: u64) -> io::Result<Self> {
        let file = BufWriter::with_capacity(256 << 10, folder.create(number)?);
        let block = Vec::with_capacity(RecordFile::<N>::BLOCK_LENGTH);
        Ok(Self { folder, number, file, block, records: 0, sums: Vec::new() })
    }

    pub(super) fn push(&mut self, record: &[u8; N]) -> io::Result<()> {
        self.block.extend_from_slice(record);
        self.records += 1;
        if self.block.len() == RecordFile::<N>::BLOCK_LENGTH { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> io::Result<()> {
        self.sums.extend_from_slice(&blake3::hash(&self.block).as_bytes()[..SUM_LENGTH]);
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
        self.file.write_all(&self.sums)?;
        self.file.flush()?;
        let name = FileName { number: self.number, records: self.records, sums_hash: *blake3::hash(&self.sums).as_bytes() };
        RecordFile::open(self.folder, name).map(Some)
    }
}

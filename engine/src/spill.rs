//! What grows with a snapshot and must not grow in memory: records that are sorted, byte strings, and keys, beyond a limit in temporary files.
//!
//! Nothing is written while little is kept. The files have no name, so they go with the process however that ends; nothing in them outlives it,
//! and they are believed as memory is.

use crate::error::{Error, ErrorKind, Result};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, btree_set};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that one read of a file brings.
const READ_LENGTH: usize = 16 << 10;
/// Bytes that are collected for one write.
const WRITE_LENGTH: usize = 128 << 10;
/// Bytes of the hash by which a key is known.
const HASH_LENGTH: usize = 16;

/// Where temporary files are made.
#[derive(Debug, Clone, Default)]
pub(crate) struct SpillFolder(Option<PathBuf>);

impl SpillFolder {
    /// In the first of these folders that there is, otherwise where the operating system wants temporary files, which may be in memory.
    pub(crate) fn new<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Self {
        Self(folders.into_iter().find(|folder| folder.is_dir()).map(Path::to_owned))
    }

    /// A folder of its own for files that need a name; it goes when it is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where it cannot be made.
    pub(crate) fn folder(&self) -> Result<tempfile::TempDir> {
        let made = match &self.0 {
            Some(folder) => tempfile::tempdir_in(folder),
            None => tempfile::tempdir(),
        };
        made.map_err(|error| self.failed(error))
    }

    fn file(&self) -> Result<File> {
        let file = match &self.0 {
            Some(folder) => tempfile::tempfile_in(folder),
            None => tempfile::tempfile(),
        };
        file.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> Error {
        let place = self.0.as_ref().map_or_else(std::env::temp_dir, Clone::clone);
        Error::io(format!("temporary files in {}", place.display()), error).with_kind(ErrorKind::Unavailable)
    }
}

/// Records of `N` bytes, in the order of their bytes, each once.
#[derive(Debug)]
pub(crate) struct SortedRecords<const N: usize> {
    folder: SpillFolder,
    /// How many are kept in memory.
    young_max: usize,
    young: BTreeSet<[u8; N]>,
    /// The oldest first.
    runs: Vec<Run>,
}

/// A file of sorted records.
#[derive(Debug, Clone)]
struct Run {
    file: Arc<File>,
    records: u64,
}

impl<const N: usize> SortedRecords<N> {
    /// None yet. About `bytes_max` of them are kept in memory.
    pub(crate) fn new(folder: SpillFolder, bytes_max: usize) -> Self {
        // A set takes half as much again as what is in it.
        Self { folder, young_max: (bytes_max / (N * 3 / 2)).max(1), young: BTreeSet::new(), runs: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.young.is_empty() && self.runs.is_empty()
    }

    /// Adds a record, if it is not there.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where a temporary file cannot be written.
    pub(crate) fn push(&mut self, record: [u8; N]) -> Result<()> {
        self.young.insert(record);
        match self.young.len() >= self.young_max {
            true => self.flush(),
            false => Ok(()),
        }
    }

    /// Writes what is in memory to a run, with the runs that are not longer than it and those after them: so there are logarithmically many.
    fn flush(&mut self) -> Result<()> {
        let mut from = self.runs.len();
        let mut length = self.young.len() as u64;
        while from > 0 && self.runs[from - 1].records <= length {
            from -= 1;
            length += self.runs[from].records;
        }
        let mut writer = Appended::new(self.folder.clone());
        let mut records = 0;
        for record in Merged::new(&self.folder, &self.young, &self.runs[from..])? {
            writer.push(&record?)?;
            records += 1;
        }
        self.young.clear();
        self.runs.truncate(from);
        self.runs.extend(writer.into_file()?.map(|file| Run { file: Arc::new(file), records }));
        Ok(())
    }

    /// All records in order.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where a temporary file cannot be read, here and for each record.
    pub(crate) fn iter(&self) -> Result<impl Iterator<Item = Result<[u8; N]>> + use<'_, N>> {
        Merged::new(&self.folder, &self.young, &self.runs)
    }

    /// The first record that begins with `key`.
    ///
    /// # Errors
    /// As for [`SortedRecords::iter`].
    pub(crate) fn find(&self, key: &[u8]) -> Result<Option<[u8; N]>> {
        let mut from = [0; N];
        from[..key.len()].copy_from_slice(key);
        let mut found = self.young.range(from..).next().copied();
        for run in &self.runs {
            let (mut below, mut end) = (0, run.records);
            while below < end {
                let middle = below + (end - below) / 2;
                let is_below = run.get::<N>(middle).map_err(|error| self.folder.failed(error))? < from;
                (below, end) = if is_below { (middle + 1, end) } else { (below, middle) };
            }
            if below < run.records {
                let record = run.get(below).map_err(|error| self.folder.failed(error))?;
                found = Some(found.map_or(record, |found| found.min(record)));
            }
        }
        Ok(found.filter(|record| record.starts_with(key)))
    }
}

impl Run {
    fn get<const N: usize>(&self, at: u64) -> io::Result<[u8; N]> {
        let mut record = [0; N];
        self.file.read_exact_at(&mut record, at * N as u64)?;
        Ok(record)
    }
}

/// Records of memory and of runs, in one order.
struct Merged<'a, const N: usize> {
    folder: &'a SpillFolder,
    young: btree_set::Iter<'a, [u8; N]>,
    readers: Vec<RunReader<N>>,
    /// The next record of each source: of the readers, and after them of memory.
    next: BinaryHeap<Reverse<([u8; N], usize)>>,
}

impl<'a, const N: usize> Merged<'a, N> {
    fn new(folder: &'a SpillFolder, young: &'a BTreeSet<[u8; N]>, runs: &[Run]) -> Result<Self> {
        let readers = runs.iter().map(|run| RunReader { run: run.clone(), at: 0, records: Vec::new().into_iter() }).collect();
        let mut merged = Self { folder, young: young.iter(), readers, next: BinaryHeap::with_capacity(runs.len() + 1) };
        (0..=runs.len()).try_for_each(|source| merged.take_from(source))?;
        Ok(merged)
    }

    fn take_from(&mut self, source: usize) -> Result<()> {
        let record = match self.readers.get_mut(source) {
            Some(reader) => reader.next().map_err(|error| self.folder.failed(error))?,
            None => self.young.next().copied(),
        };
        self.next.extend(record.map(|record| Reverse((record, source))));
        Ok(())
    }
}

impl<const N: usize> Iterator for Merged<'_, N> {
    type Item = Result<[u8; N]>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((record, source)) = self.next.pop()?;
        if let Err(error) = self.take_from(source) {
            return Some(Err(error));
        }
        // The same one of another source.
        while let Some(&Reverse((other, source))) = self.next.peek()
            && other == record
        {
            self.next.pop();
            if let Err(error) = self.take_from(source) {
                return Some(Err(error));
            }
        }
        Some(Ok(record))
    }
}

struct RunReader<const N: usize> {
    run: Run,
    /// How many have been read.
    at: u64,
    records: std::vec::IntoIter<[u8; N]>,
}

impl<const N: usize> RunReader<N> {
    fn next(&mut self) -> io::Result<Option<[u8; N]>> {
        if let Some(record) = self.records.next() {
            return Ok(Some(record));
        }
        let count = (self.run.records - self.at).min((READ_LENGTH / N) as u64);
        let mut records = vec![[0; N]; count as usize];
        self.run.file.read_exact_at(records.as_flattened_mut(), self.at * N as u64)?;
        self.at += count;
        self.records = records.into_iter();
        Ok(self.records.next())
    }
}

/// Bytes that are written one behind the other.
#[derive(Debug)]
struct Appended {
    folder: SpillFolder,
    file: Option<File>,
    /// How many bytes the file has.
    written: u64,
    /// What comes behind them.
    rest: Vec<u8>,
}

impl Appended {
    fn new(folder: SpillFolder) -> Self {
        Self { folder, file: None, written: 0, rest: Vec::new() }
    }

    fn length(&self) -> u64 {
        self.written + self.rest.len() as u64
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.rest.extend_from_slice(bytes);
        if self.rest.len() >= WRITE_LENGTH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.folder.file()?,
        };
        let written = file.write_all_at(&self.rest, self.written);
        self.file = Some(file);
        written.map_err(|error| self.folder.failed(error))?;
        self.written += self.rest.len() as u64;
        self.rest.clear();
        Ok(())
    }

    /// The file with everything in it; `None` where there is nothing.
    fn into_file(mut self) -> Result<Option<File>> {
        if !self.rest.is_empty() {
            self.flush()?;
        }
        Ok(self.file)
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        // What was pushed at once is in one of the two.
        let read = match (offset.checked_sub(self.written), &self.file) {
            (Some(start), _) => {
                let rest = self.rest.get(start as usize..).and_then(|rest| rest.get(..bytes.len()));
                rest.map(|rest| bytes.copy_from_slice(rest)).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
            }
            (None, Some(file)) => file.read_exact_at(bytes, offset),
            (None, None) => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        read.map_err(|error| self.folder.failed(error))
    }
}

/// Byte strings, numbered from 0 in the order in which they came.
#[derive(Debug)]
pub(crate) struct SpilledList {
    bytes: Appended,
    /// Where each begins: 8 bytes.
    offsets: Appended,
    count: u64,
}

impl SpilledList {
    /// None yet.
    pub(crate) fn new(folder: SpillFolder) -> Self {
        Self { bytes: Appended::new(folder.clone()), offsets: Appended::new(folder), count: 0 }
    }

    pub(crate) fn len(&self) -> u64 {
        self.count
    }

    /// Adds one and gives its number.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where a temporary file cannot be written.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<u64> {
        self.offsets.push(&self.bytes.length().to_le_bytes())?;
        self.bytes.push(bytes)?;
        self.count += 1;
        Ok(self.count - 1)
    }

    /// Byte string number `at`, which was pushed.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where a temporary file cannot be read.
    pub(crate) fn get(&self, at: u64) -> Result<Vec<u8>> {
        let start = self.offset(at)?;
        let end = if at + 1 < self.count { self.offset(at + 1)? } else { self.bytes.length() };
        let mut bytes = vec![0; (end - start) as usize];
        self.bytes.read(start, &mut bytes)?;
        Ok(bytes)
    }

    fn offset(&self, at: u64) -> Result<u64> {
        let mut offset = [0; 8];
        self.offsets.read(8 * at, &mut offset)?;
        Ok(u64::from_le_bytes(offset))
    }
}

/// Keys of any length, each with a byte string. A key is known by 16 bytes of BLAKE3.
#[derive(Debug)]
pub(crate) struct SpilledMap {
    /// Hash of the key, and the number of its value, big-endian.
    places: SortedRecords<{ HASH_LENGTH + 8 }>,
    values: SpilledList,
}

impl SpilledMap {
    /// Empty. About `bytes_max` of it are kept in memory.
    pub(crate) fn new(folder: SpillFolder, bytes_max: usize) -> Self {
        Self { places: SortedRecords::new(folder.clone(), bytes_max), values: SpilledList::new(folder) }
    }

    /// Gives a key its value; false, and nothing, where it has one already.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where a temporary file cannot be written or read.
    pub(crate) fn insert(&mut self, key: &[u8], value: &[u8]) -> Result<bool> {
        let hash = hash_of(key);
        if self.places.find(&hash)?.is_some() {
            return Ok(false);
        }
        let number = self.values.push(value)?;
        let mut record = [0; HASH_LENGTH + 8];
        record[..HASH_LENGTH].copy_from_slice(&hash);
        record[HASH_LENGTH..].copy_from_slice(&number.to_be_bytes());
        self.places.push(record).map(|()| true)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// As for [`SpilledMap::insert`].
    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if self.places.is_empty() {
            return Ok(None);
        }
        let Some(record) = self.places.find(&hash_of(key))? else { return Ok(None) };
        let number = record.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        self.values.get(number).map(Some)
    }
}

fn hash_of(key: &[u8]) -> [u8; HASH_LENGTH] {
    blake3::hash(key).as_bytes().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;

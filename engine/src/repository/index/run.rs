//! Runs: immutable files of chunk entries, sorted.
//!
//! An entry says: some pack has a chunk with this *key*, the first 48 bits of its id. That is a hint and no proof: whoever finds one looks into
//! the pack's contents table.
//!
//! A run is two files. One has the entries in pages of 4 KiB, which are read one at a time and not mapped: a page that is read leaves nothing
//! behind in this process. The other, the *head*, is mapped and has what stands before each page:
//!
//! ```text
//! pages     each: first key 6, entries 2, each: key above the first `width`, pack 3; zeros
//! head      filters, one for each page | first keys 8 each | sums of pages 8 each | sums of filters 8 each
//! ```
//! Numbers are big-endian in pages, little-endian in the head. `width` is the same for all pages of a run: 4 for many entries, up to 6 for
//! few, so that the keys of a full page fit. Where keys lie further apart, a page ends early.
//!
//! The manifest holds the hash of all but the filters of the head, so opening a run reads little. Sums, eight bytes of BLAKE3, are compared when
//! a page or filter is first touched.

use super::fault::{Fault, Result};
use super::filter;
use super::folder::Folder;
use super::search::{interpolate, partition_near};
use crate::id::ChunkId;
use crate::sys::MappedFile;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const PAGE_LENGTH: usize = 4096;
/// Bytes of a page before its first entry.
const PAGE_HEADER_LENGTH: usize = 8;
/// Bytes of the number of a pack.
const PACK_LENGTH: usize = 3;
const KEY_BITS: u32 = 48;
/// So many packs can be numbered.
pub(super) const PACKS_MAX: u32 = 1 << (8 * PACK_LENGTH);
/// Bytes of the head for each page, without the filter.
const FENCE_LENGTH: usize = 24;
/// Pages that a merge reads at once of each run.
const PAGES_AT_ONCE: u64 = 64;

/// The first 48 bits of a chunk id.
pub(super) fn key_of(id: &ChunkId) -> u64 {
    super::search::prefix(id.as_bytes()) >> (u64::BITS - KEY_BITS)
}

/// A pack has a chunk of this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) key: u64,
    /// The number of the pack.
    pub(super) pack: u32,
}

/// What the manifest says of a run; enough to find and to verify it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunName {
    /// The number of the file of pages; the head has the next.
    pub(super) number: u64,
    /// Bytes of a key in a page.
    pub(super) width: u8,
    /// Pages; at least one.
    pub(super) pages: u64,
    /// Entries in all pages.
    pub(super) entries: u64,
    /// The numbers of the packs that were added to it.
    pub(super) packs: Range<u32>,
    /// BLAKE3 of all but the filters of the head.
    pub(super) fences_hash: [u8; 32],
}

impl RunName {
    /// Bytes of both files; `None` where that is no number of ours.
    fn lengths(&self) -> Option<(u64, u64)> {
        let head = (entries_max(usize::from(self.width)) + FENCE_LENGTH) as u64;
        Some((self.pages.checked_mul(PAGE_LENGTH as u64)?, self.pages.checked_mul(head)?))
    }

    /// Bytes of both files together.
    pub(super) fn bytes(&self) -> u64 {
        self.lengths().map_or(0, |(pages, head)| pages + head)
    }
}

/// Entries of a full page.
const fn entries_max(width: usize) -> usize {
    (PAGE_LENGTH - PAGE_HEADER_LENGTH) / (width + PACK_LENGTH)
}

/// The least width with which pages of so many evenly spread keys are full.
fn width_for(entries: u64) -> usize {
    let fits = |width: &usize| u128::from(entries) << (8 * width) >= (entries_max(*width) as u128) << KEY_BITS;
    (4..6).find(fits).unwrap_or(6)
}

/// A run.
pub(super) struct ChunkRun {
    name: RunName,
    width: usize,
    pages: File,
    head: MappedFile,
    /// Two bits for each page: it was found to match its sum; its filter was.
    verified: Vec<AtomicU64>,
}

impl ChunkRun {
    /// Opens the run that the manifest names.
    pub(super) fn open(folder: &Folder, name: RunName) -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let width = usize::from(name.width);
        if !(4..=6).contains(&width) {
            return Err(invalid("no width of ours"));
        }
        let (pages_length, head_length) = name.lengths().ok_or_else(|| invalid("too many pages"))?;
        let pages = File::open(folder.path_of(name.number))?;
        if pages.metadata()?.len() != pages_length {
            return Err(invalid("the file of pages does not have its length"));
        }
        let file = File::open(folder.path_of(name.number + 1))?;
        let head = MappedFile::new(&file, head_length)?;
        // Read and not touched through the map: what is hashed here need not stay resident.
        let (mut hasher, mut at, mut buffer) = (blake3::Hasher::new(), name.pages * entries_max(width) as u64, vec![0; 64 << 10]);
        while at < head_length {
            let length = buffer.len().min((head_length - at) as usize);
            file.read_exact_at(&mut buffer[..length], at)?;
            hasher.update(&buffer[..length]);
            at += length as u64;
        }
        if hasher.finalize() != name.fences_hash {
            return Err(invalid("the fences do not match"));
        }
        let verified = (0..name.pages.div_ceil(32)).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { name, width, pages, head, verified })
    }

    pub(super) fn name(&self) -> &RunName {
        &self.name
    }

    /// How many entries it has.
    pub(super) fn len(&self) -> u64 {
        self.name.entries
    }

    /// Calls `visit` with packs that have a chunk of this key.
    ///
    /// Where one of them `is_known`, perhaps with none: it is enough that the others are visited.
    pub(super) fn for_each_pack(&self, key: u64, is_known: bool, mut visit: impl FnMut(u32)) -> Result<()> {
        let wanted = if is_known { filter::twin(key) } else { key };
        let guess = interpolate(key, 0, 1 << KEY_BITS, self.name.pages);
        // The page before the first one that begins with the key may end with it.
        let first = partition_near(self.name.pages, guess, |page| Ok(self.fence(page) < key))?.saturating_sub(1);
        let mut after = first;
        let mut is_here = false;
        while after < self.name.pages && self.fence(after) <= key {
            is_here |= filter::contains(self.filter(after)?, wanted);
            after += 1;
        }
        if is_here {
            let mut bytes = [0; PAGE_LENGTH];
            for page in first..after {
                self.pages.read_exact_at(&mut bytes, page * PAGE_LENGTH as u64)?;
                self.verify_page(page, &bytes)?;
                let entries = Page { bytes: &bytes, width: self.width };
                let mut at = entries.first_not_below(key);
                while let Some(entry) = entries.get(at).filter(|entry| entry.key == key) {
                    visit(entry.pack);
                    at += 1;
                }
            }
        }
        Ok(())
    }

    fn filter(&self, page: u64) -> Result<&[u8]> {
        let length = entries_max(self.width);
        let filter = &self.head[page as usize * length..][..length];
        self.verify(2 * page + 1, filter)?;
        Ok(filter)
    }

    fn verify_page(&self, page: u64, bytes: &[u8]) -> Result<()> {
        self.verify(2 * page, bytes)
    }

    /// Compares bytes with their sum, unless they were before; `bit` is twice the page, and one more for its filter.
    fn verify(&self, bit: u64, bytes: &[u8]) -> Result<()> {
        let word = &self.verified[(bit / 64) as usize];
        if word.load(Ordering::Relaxed) >> (bit % 64) & 1 == 0 {
            if sum(bytes) != self.number(1 + bit % 2, bit / 2) {
                return Err(Fault::Torn(format!("page {} of file {} does not match its sum", bit / 2, self.name.number)));
            }
            word.fetch_or(1 << (bit % 64), Ordering::Relaxed);
        }
        Ok(())
    }

    /// The first key of a page.
    fn fence(&self, page: u64) -> u64 {
        self.number(0, page)
    }

    /// The number for a page out of one of the three lists at the end of the head.
    fn number(&self, list: u64, page: u64) -> u64 {
        let lists = self.name.pages as usize * entries_max(self.width);
        let at = lists + 8 * (list * self.name.pages + page) as usize;
        self.head[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }
}

impl fmt::Debug for ChunkRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChunkRun").field(&self.name).finish()
    }
}

/// A page that matches its sum.
struct Page<'a> {
    bytes: &'a [u8],
    width: usize,
}

impl Page<'_> {
    fn len(&self) -> usize {
        number(&self.bytes[6..PAGE_HEADER_LENGTH]) as usize
    }

    fn get(&self, at: usize) -> Option<Entry> {
        if at >= self.len() {
            return None;
        }
        let entry = &self.bytes[PAGE_HEADER_LENGTH + at * (self.width + PACK_LENGTH)..][..self.width + PACK_LENGTH];
        let (above, pack) = entry.split_at(self.width);
        Some(Entry { key: number(&self.bytes[..6]) + number(above), pack: number(pack) as u32 })
    }

    fn first_not_below(&self, key: u64) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.get(middle).is_some_and(|entry| entry.key < key) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// A big-endian number of up to eight bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn sum(bytes: &[u8]) -> u64 {
    blake3::hash(bytes).as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// Reads a run from its beginning to its end, a few pages at a time.
pub(super) struct RunReader {
    run: Arc<ChunkRun>,
    buffer: Vec<u8>,
    /// The page with which the buffer begins, and the one after its last.
    pages: Range<u64>,
    /// The page, and the entry in it, that come next.
    page: u64,
    at: usize,
}

impl RunReader {
    pub(super) fn new(run: &Arc<ChunkRun>) -> Self {
        Self { run: Arc::clone(run), buffer: Vec::new(), pages: 0..0, page: 0, at: 0 }
    }

    pub(super) fn next(&mut self) -> Result<Option<Entry>> {
        loop {
            if self.page == self.pages.end {
                let count = PAGES_AT_ONCE.min(self.run.name.pages - self.page);
                if count == 0 {
                    return Ok(None);
                }
                self.pages = self.page..self.page + count;
                self.buffer.resize(count as usize * PAGE_LENGTH, 0);
                self.run.pages.read_exact_at(&mut self.buffer, self.page * PAGE_LENGTH as u64)?;
            }
            let bytes = &self.buffer[(self.page - self.pages.start) as usize * PAGE_LENGTH..][..PAGE_LENGTH];
            if self.at == 0 {
                self.run.verify_page(self.page, bytes)?;
            }
            if let Some(entry) = (Page { bytes, width: self.run.width }).get(self.at) {
                self.at += 1;
                return Ok(Some(entry));
            }
            self.page += 1;
            self.at = 0;
        }
    }
}

/// Writes a [`ChunkRun`].
pub(super) struct RunWriter<'a> {
    folder: &'a Folder,
    number: u64,
    width: usize,
    pages: BufWriter<File>,
    head: BufWriter<File>,
    /// The page in the making.
    page: Vec<u8>,
    count: u16,
    filter: Vec<u8>,
    /// The three lists of the head.
    lists: [Vec<u64>; 3],
    entries: u64,
    last: Option<Entry>,
}

impl<'a> RunWriter<'a> {
    /// For about so many entries, into files `number` and the next.
    pub(super) fn create(folder: &'a Folder, number: u64, entries: u64) -> io::Result<Self> {
        let width = width_for(entries);
        Ok(Self {
            folder,
            number,
            width,
            pages: BufWriter::with_capacity(256 << 10, folder.create(number)?),
            head: BufWriter::with_capacity(64 << 10, folder.create(number + 1)?),
            page: Vec::with_capacity(PAGE_LENGTH),
            count: 0,
            filter: vec![0; entries_max(width)],
            lists: Default::default(),
            entries: 0,
            last: None,
        })
    }

    /// Adds an entry, which must not be below the one before; the same one again is left out.
    pub(super) fn push(&mut self, entry: Entry) -> io::Result<()> {
        let last = self.last.replace(entry);
        if last == Some(entry) {
            return Ok(());
        }
        let fits = usize::from(self.count) < entries_max(self.width) && (entry.key - self.base()) >> (8 * self.width) == 0;
        if self.count > 0 && !fits {
            self.end_page()?;
        }
        if self.count == 0 {
            self.page.extend_from_slice(&entry.key.to_be_bytes()[2..]);
            self.page.extend_from_slice(&[0; 2]);
            self.lists[0].push(entry.key);
        }
        let above = entry.key - self.base();
        self.page.extend_from_slice(&above.to_be_bytes()[8 - self.width..]);
        self.page.extend_from_slice(&entry.pack.to_be_bytes()[4 - PACK_LENGTH..]);
        self.count += 1;
        self.entries += 1;
        filter::insert(&mut self.filter, entry.key);
        if last.is_some_and(|last| last.key == entry.key) {
            filter::insert(&mut self.filter, filter::twin(entry.key));
        }
        Ok(())
    }

    /// The first key of the page in the making; that of the page before while it is empty.
    fn base(&self) -> u64 {
        self.lists[0].last().copied().unwrap_or(0)
    }

    fn end_page(&mut self) -> io::Result<()> {
        self.page[6..PAGE_HEADER_LENGTH].copy_from_slice(&self.count.to_be_bytes());
        self.page.resize(PAGE_LENGTH, 0);
        self.lists[1].push(sum(&self.page));
        self.lists[2].push(sum(&self.filter));
        self.pages.write_all(&self.page)?;
        self.head.write_all(&self.filter)?;
        self.page.clear();
        self.count = 0;
        self.filter.fill(0);
        Ok(())
    }

    /// The finished run of the packs with these numbers; `None`, and no files, where nothing was pushed.
    pub(super) fn finish(mut self, packs: Range<u32>) -> io::Result<Option<ChunkRun>> {
        if self.entries == 0 {
            self.folder.remove(self.number);
            self.folder.remove(self.number + 1);
            return Ok(None);
        }
        self.end_page()?;
        let mut hasher = blake3::Hasher::new();
        for number in self.lists.iter().flatten() {
            hasher.update(&number.to_le_bytes());
            self.head.write_all(&number.to_le_bytes())?;
        }
        self.pages.flush()?;
        self.head.flush()?;
        let name = RunName {
            number: self.number,
            width: self.width as u8,
            pages: self.lists[0].len() as u64,
            entries: self.entries,
            packs,
            fences_hash: *hasher.finalize().as_bytes(),
        };
        ChunkRun::open(self.folder, name).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Whatever keys a run has, each is found with all its packs, and nothing else is.
    fn check(keys: &[u64], packs: u32) {
        let folder = Folder::open_temporary().unwrap();
        let mut entries: Vec<_> = (0..).zip(keys).map(|(n, &key)| Entry { key, pack: PACKS_MAX - 1 - n % packs }).collect();
        entries.sort_unstable();
        let mut writer = RunWriter::create(&folder, 7, entries.len() as u64).unwrap();
        entries.iter().for_each(|entry| writer.push(*entry).unwrap());
        let run = writer.finish(0..PACKS_MAX).unwrap().unwrap();
        entries.dedup();
        assert_eq!(run.len(), entries.len() as u64);
        let mut model: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        entries.iter().for_each(|entry| model.entry(entry.key).or_default().push(entry.pack));
        let near = model.keys().flat_map(|key| [key.saturating_sub(1), *key, (key + 1).min((1 << KEY_BITS) - 1)]);
        for key in near {
            let expected = model.get(&key).cloned().unwrap_or_default();
            let mut found = Vec::new();
            run.for_each_pack(key, false, |pack| found.push(pack)).unwrap();
            assert_eq!(found, expected, "{key:x}");
            let mut others = Vec::new();
            run.for_each_pack(key, true, |pack| others.push(pack)).unwrap();
            assert!(others == expected || (others.is_empty() && expected.len() < 2), "{key:x}");
        }
        let (run, mut read) = (Arc::new(run), Vec::new());
        let mut reader = RunReader::new(&run);
        while let Some(entry) = reader.next().unwrap() {
            read.push(entry);
        }
        assert_eq!(read, entries);
    }

    fn spread(n: u64) -> u64 {
        key_of(&ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes()))
    }

    #[test]
    fn keys_of_any_kind_are_found() {
        let top = (1 << KEY_BITS) - 1;
        check(&[0], 1);
        check(&[top], 1);
        check(&[0, top, 1, top - 1], 2);
        check(&(0..20_000).map(spread).collect::<Vec<_>>(), 3);
        // All in one corner; few keys with many packs, over several pages.
        check(&(0..5_000).map(|n| top - n).collect::<Vec<_>>(), 5);
        check(&(0..5_000).map(|n| n / 2_000 + 0xab_cdef).collect::<Vec<_>>(), 5_000);
    }

    #[test]
    fn many_entries_take_seven_bytes_and_few_take_nine() {
        assert_eq!([1, 100_000, 200_000, 38_000_000, 39_000_000, 1 << 40].map(width_for), [6, 6, 5, 5, 4, 4]);
        assert_eq!([4, 5, 6].map(entries_max), [584, 511, 454]);
    }
}

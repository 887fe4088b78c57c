//! Leaves, read: entries as columns.
//!
//! A leaf is checked as a whole when it is opened and then gives its entries one by one. They are never all in memory:
//! a few bytes of runs and shared key bytes can stand for gigabytes of entries.

use super::super::cursor::Reader;
use super::super::node;
use super::columns::{self, Runs, Span, kind, number};
use crate::entry::{ChunkList, Entry, EntryKind, FileContent, Key, KeyKind, Metadata};
use crate::error::{Error, Result};
use std::sync::Arc;

/// A leaf, opened and checked: an iterator over its entries.
#[derive(Debug, Clone)]
pub(crate) struct TreeLeaf {
    bytes: Arc<[u8]>,
    columns: Columns,
    left: usize,
    facts: LeafFacts,
}

/// What is true of a leaf as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeafFacts {
    pub(crate) first_key: Key,
    pub(crate) last_key: Key,
    pub(crate) entries: u64,
    /// Sizes of the files, modulo 2^64.
    pub(crate) file_bytes: u64,
}

/// Where each column stands.
#[derive(Debug, Clone)]
struct Columns {
    key_kind: KeyKind,
    spans: [Span; number::END],
    key: Key,
    is_first: bool,
    seconds: i64,
    modes: Runs<u32>,
    owners: Runs<u32>,
    groups: Runs<u32>,
    owner_names: Runs<()>,
    group_names: Runs<()>,
    flags: Runs<u32>,
    attributes: Runs<()>,
    cutters: Runs<u32>,
}

impl TreeLeaf {
    /// Opens a leaf whose head was read; `reader` stands at the count, in `bytes`: TREE-2 to TREE-15.
    pub(super) fn open(bytes: Arc<[u8]>, at: usize, key_kind: KeyKind) -> Result<Self> {
        let mut whole = Span { at, end: bytes.len() };
        let count = whole.read(&bytes, |reader| node::read_count(reader, "TREE-2"))?;
        let mut columns = Columns::new(read_spans(&bytes, whole)?, key_kind);
        let facts = columns.clone().check(&bytes, count)?;
        // That keys are paths needs no second look.
        columns.key_kind = KeyKind::Objects;
        Ok(Self { bytes, columns, left: count, facts })
    }

    /// The next entry whose key is not below `start`. Those before it cost little; `skipped` is told the key of each and whether it is a folder.
    pub(crate) fn next_from(&mut self, start: &[u8], mut skipped: impl FnMut(&[u8], bool) -> Result<()>) -> Result<Option<Entry>> {
        while let Some(left) = self.left.checked_sub(1) {
            self.left = left;
            let entry = self.columns.next(&self.bytes, start)?;
            match self.columns.key.as_slice() {
                key if key < start => skipped(key, entry.kind == EntryKind::Folder)?,
                key => return Ok(Some(Entry { key: key.to_vec(), ..entry })),
            }
        }
        Ok(None)
    }

    /// What is true of the leaf as a whole.
    pub(crate) fn facts(&self) -> &LeafFacts {
        &self.facts
    }
}

impl Iterator for TreeLeaf {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        self.next_from(&[], |_, _| Ok(())).transpose()
    }
}

/// Finds the columns: TREE-3.
fn read_spans(bytes: &[u8], mut whole: Span) -> Result<[Span; number::END]> {
    let count = whole.read(bytes, |reader| reader.count(2))?;
    let mut spans = [Span::default(); number::END];
    let mut before = None;
    for _ in 0..count {
        let tag = whole.read(bytes, Reader::varint)?;
        if before.is_some_and(|before| before >= tag) {
            return Err(Error::rule("TREE-3", format!("column tag {tag} is not above the one before")));
        }
        before = Some(tag);
        let is_critical = tag & 1 == 1;
        let known = usize::try_from(tag / 2).ok().filter(|number| (number::KEYS..number::END).contains(number));
        match known {
            Some(number) if !is_critical => return Err(Error::rule("TREE-3", format!("column {number} is not critical"))),
            None if is_critical => return Err(Error::unsupported("TREE-3", format!("critical column {}", tag / 2))),
            _ => {}
        }
        let length = whole.read(bytes, Reader::blob)?.len();
        if let Some(span) = known.and_then(|number| spans.get_mut(number)) {
            *span = Span { at: whole.at - length, end: whole.at };
        }
    }
    whole.end(bytes)?;
    Ok(spans)
}

impl Columns {
    fn new(spans: [Span; number::END], key_kind: KeyKind) -> Self {
        Self {
            key_kind,
            spans,
            key: Key::new(),
            is_first: true,
            seconds: 0,
            modes: Runs::new(spans[number::MODES], columns::read_mode),
            owners: Runs::new(spans[number::OWNERS], columns::read_number),
            groups: Runs::new(spans[number::GROUPS], columns::read_number),
            owner_names: Runs::new(spans[number::OWNER_NAMES], columns::read_name),
            group_names: Runs::new(spans[number::GROUP_NAMES], columns::read_name),
            flags: Runs::new(spans[number::FLAGS], columns::read_number),
            attributes: Runs::new(spans[number::ATTRIBUTES], |reader| columns::read_attributes(reader, |_, _| ())),
            cutters: Runs::new(spans[number::CUTTERS], columns::read_number),
        }
    }

    /// Reads each column to its end, in the order of their numbers.
    fn check(mut self, bytes: &[u8], count: usize) -> Result<LeafFacts> {
        self.check_presence(number::KEYS, true)?;
        let key_links = self.clone();
        let mut first_key = None;
        for _ in 0..count {
            self.next_key(bytes)?;
            if first_key.is_none() {
                first_key = Some(self.key.clone());
            }
        }
        self.spans[number::KEYS].end(bytes)?;

        self.check_presence(number::KINDS, true)?;
        let mut counts = [0_usize; 9];
        for _ in 0..count {
            let kind = self.next_kind(bytes)?;
            if let Some(n) = counts.get_mut(usize::from(kind)) {
                *n += 1;
            }
        }
        self.spans[number::KINDS].end(bytes)?;
        let of = |kind: u8| counts.get(usize::from(kind)).copied().unwrap_or_default();

        self.check_metadata(bytes, count - of(kind::HARD_LINK))?;
        let file_bytes = self.check_files(bytes, of(kind::FILE))?;
        self.check_each(bytes, number::TARGETS, of(kind::SYMLINK), |reader| columns::read_target(reader).map(drop))?;
        let devices = of(kind::BLOCK_DEVICE) + of(kind::CHAR_DEVICE);
        self.check_each(bytes, number::DEVICES, devices, |reader| columns::read_device(reader).map(drop))?;
        key_links.check_links(bytes, count, of(kind::HARD_LINK))?;
        Ok(LeafFacts { first_key: first_key.unwrap_or_default(), last_key: self.key, entries: count as u64, file_bytes })
    }

    /// TREE-4 for one column.
    fn check_presence(&self, column: usize, is_expected: bool) -> Result<()> {
        // A column that is there is never empty, but a hostile one may be: its place is then not zero.
        let is_there = self.spans.get(column).is_some_and(|span| span.end > 0);
        match (is_there, is_expected) {
            (true, false) => Err(Error::rule("TREE-4", format!("column {column} is for nothing in this leaf"))),
            (false, true) => Err(Error::rule("TREE-4", format!("column {column} is missing"))),
            _ => Ok(()),
        }
    }

    fn check_metadata(&mut self, bytes: &[u8], count: usize) -> Result<()> {
        let is_expected = count > 0;
        self.check_presence(number::MODES, is_expected)?;
        self.modes.clone().check(bytes, count)?;
        self.check_presence(number::OWNERS, is_expected)?;
        self.owners.clone().check(bytes, count)?;
        self.check_presence(number::GROUPS, is_expected)?;
        self.groups.clone().check(bytes, count)?;
        self.check_presence(number::OWNER_NAMES, is_expected)?;
        self.owner_names.clone().check(bytes, count)?;
        self.check_presence(number::GROUP_NAMES, is_expected)?;
        self.group_names.clone().check(bytes, count)?;
        let mut seconds = 0;
        self.check_each(bytes, number::TIMES, count, |reader| columns::read_time(reader, &mut seconds).map(drop))?;
        self.check_presence(number::FLAGS, is_expected)?;
        self.flags.clone().check(bytes, count)?;
        self.check_presence(number::ATTRIBUTES, is_expected)?;
        self.attributes.clone().check(bytes, count)
    }

    /// Returns the sizes of all files, modulo 2^64.
    fn check_files(&mut self, bytes: &[u8], count: usize) -> Result<u64> {
        let mut data_bytes = Vec::with_capacity(count);
        self.check_each(bytes, number::SIZES, count, |reader| {
            data_bytes.push(reader.varint()?);
            Ok(())
        })?;
        let file_bytes = data_bytes.iter().fold(0_u64, |sum, size| sum.wrapping_add(*size));
        let mut files = data_bytes.iter_mut();
        self.check_each(bytes, number::HOLES, count, |reader| {
            if let Some(size) = files.next() {
                *size -= columns::read_holes(reader, *size, |_, _| ())?;
            }
            Ok(())
        })?;
        self.check_presence(number::CUTTERS, count > 0)?;
        self.cutters.clone().check(bytes, count)?;
        let mut files = data_bytes.iter();
        self.check_each(bytes, number::CHUNKS, count, |reader| {
            let data_bytes = files.next().copied().unwrap_or_default();
            columns::read_chunks(reader, data_bytes, |_| ()).map(drop)
        })?;
        Ok(file_bytes)
    }

    fn check_each(&self, bytes: &[u8], column: usize, count: usize, mut read: impl FnMut(&mut Reader<'_>) -> Result<()>) -> Result<()> {
        self.check_presence(column, count > 0)?;
        let mut reader = Reader::new(self.spans.get(column).copied().unwrap_or_default().of(bytes));
        for _ in 0..count {
            read(&mut reader)?;
        }
        reader.end()
    }

    /// Reads keys and kinds anew beside the links, which are compared with them.
    fn check_links(mut self, bytes: &[u8], count: usize, links: usize) -> Result<()> {
        self.check_presence(number::LINKS, links > 0)?;
        if links > 0 {
            for _ in 0..count {
                self.next_key(bytes)?;
                if self.next_kind(bytes)? == kind::HARD_LINK {
                    self.spans[number::LINKS].read(bytes, |reader| columns::read_link(reader, &self.key, self.key_kind))?;
                }
            }
        }
        self.spans[number::LINKS].end(bytes)
    }

    fn next_key(&mut self, bytes: &[u8]) -> Result<()> {
        let (key, is_first, key_kind) = (&mut self.key, std::mem::take(&mut self.is_first), self.key_kind);
        self.spans[number::KEYS].read(bytes, |reader| columns::read_key(reader, key, is_first, key_kind))
    }

    fn next_kind(&mut self, bytes: &[u8]) -> Result<u8> {
        match self.spans[number::KINDS].read(bytes, Reader::u8)? {
            kind @ kind::FILE..=kind::HARD_LINK => Ok(kind),
            kind => Err(Error::unsupported("TREE-7", format!("entry kind {kind}"))),
        }
    }

    /// Moves to the next entry. Its key is in `key` only; where that is below `start`, it has no names, lists and targets either.
    fn next(&mut self, bytes: &[u8], start: &[u8]) -> Result<Entry> {
        self.next_key(bytes)?;
        let is_wanted = self.key.as_slice() >= start;
        let owned = |slice: &[u8]| if is_wanted { slice.to_vec() } else { Vec::new() };
        let kind = self.next_kind(bytes)?;
        let metadata = if kind == kind::HARD_LINK { Metadata::default() } else { self.next_metadata(bytes, is_wanted)? };
        let spans = &mut self.spans;
        let kind = match kind {
            kind::FILE => EntryKind::File(self.next_file(bytes, is_wanted)?),
            kind::FOLDER => EntryKind::Folder,
            kind::SYMLINK => EntryKind::Symlink(owned(spans[number::TARGETS].read(bytes, columns::read_target)?)),
            kind::FIFO => EntryKind::Fifo,
            kind::SOCKET => EntryKind::Socket,
            kind::BLOCK_DEVICE | kind::CHAR_DEVICE => {
                let (major, minor) = spans[number::DEVICES].read(bytes, columns::read_device)?;
                if kind == kind::BLOCK_DEVICE { EntryKind::BlockDevice(major, minor) } else { EntryKind::CharDevice(major, minor) }
            }
            _ => {
                let link = spans[number::LINKS].read(bytes, |reader| columns::read_link(reader, &self.key, self.key_kind))?;
                EntryKind::HardLink(owned(link))
            }
        };
        Ok(Entry { key: Key::new(), kind, metadata })
    }

    fn next_metadata(&mut self, bytes: &[u8], is_wanted: bool) -> Result<Metadata> {
        let (mode, uid, gid) = (self.modes.next(bytes)?.0, self.owners.next(bytes)?.0, self.groups.next(bytes)?.0);
        let (user, group) = (self.owner_names.next(bytes)?.1, self.group_names.next(bytes)?.1);
        let modified = self.spans[number::TIMES].read(bytes, |reader| columns::read_time(reader, &mut self.seconds))?;
        let inode_flags = self.flags.next(bytes)?.0;
        let attributes = self.attributes.next(bytes)?.1;
        let mut metadata = Metadata { mode, uid, gid, modified, inode_flags, ..Metadata::default() };
        if is_wanted {
            let name = |span: Span| Reader::new(span.of(bytes)).blob().map(<[u8]>::to_vec);
            (metadata.user, metadata.group) = (name(user)?, name(group)?);
            let xattrs = &mut metadata.xattrs;
            columns::read_attributes(&mut Reader::new(attributes.of(bytes)), |name, value| xattrs.push((name.to_vec(), value.to_vec())))?;
        }
        Ok(metadata)
    }

    fn next_file(&mut self, bytes: &[u8], is_wanted: bool) -> Result<FileContent> {
        let size = self.spans[number::SIZES].read(bytes, Reader::varint)?;
        let (mut holes, mut chunks) = (Vec::new(), Vec::new());
        let mut keep_hole = |offset, length| {
            if is_wanted {
                holes.push((offset, length));
            }
        };
        let in_holes = self.spans[number::HOLES].read(bytes, |reader| columns::read_holes(reader, size, &mut keep_hole))?;
        let cutter = self.cutters.next(bytes)?.0;
        let mut keep_chunk = |chunk| {
            if is_wanted {
                chunks.push(chunk);
            }
        };
        let recipe = self.spans[number::CHUNKS].read(bytes, |reader| columns::read_chunks(reader, size - in_holes, &mut keep_chunk))?;
        Ok(FileContent { size, holes, cutter, chunks: recipe.map_or(ChunkList::Inline(chunks), ChunkList::Recipe) })
    }
}

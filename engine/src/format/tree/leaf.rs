//! Leaves: entries as columns.
//!
//! A leaf is checked as a whole when it is opened and then gives its entries one by one. They are never all in memory:
//! a few bytes of runs and shared key bytes can stand for gigabytes of entries.

use super::super::cursor::{Reader, Write};
use super::super::node;
use super::columns::{self, Runs, Span, kind, number};
use crate::entry::{ChunkList, Entry, EntryKind, FileContent, Key, KeyKind, Metadata};
use crate::error::{Error, Result};
use crate::runtime::Timestamp;
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
        let columns = Columns::new(read_spans(&bytes, whole)?, key_kind);
        let facts = columns.clone().check(&bytes, count)?;
        Ok(Self { bytes, columns, left: count, facts })
    }

    /// What is true of the leaf as a whole.
    pub(crate) fn facts(&self) -> &LeafFacts {
        &self.facts
    }
}

impl Iterator for TreeLeaf {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        self.left = self.left.checked_sub(1)?;
        // Everything was checked when the leaf was opened.
        self.columns.next(&self.bytes).ok()
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

    fn next(&mut self, bytes: &[u8]) -> Result<Entry> {
        self.next_key(bytes)?;
        let kind = self.next_kind(bytes)?;
        let metadata = if kind == kind::HARD_LINK { Metadata::default() } else { self.next_metadata(bytes)? };
        let spans = &mut self.spans;
        let kind = match kind {
            kind::FILE => EntryKind::File(self.next_file(bytes)?),
            kind::FOLDER => EntryKind::Folder,
            kind::SYMLINK => EntryKind::Symlink(spans[number::TARGETS].read(bytes, columns::read_target)?.to_vec()),
            kind::FIFO => EntryKind::Fifo,
            kind::SOCKET => EntryKind::Socket,
            kind::BLOCK_DEVICE | kind::CHAR_DEVICE => {
                let (major, minor) = spans[number::DEVICES].read(bytes, columns::read_device)?;
                if kind == kind::BLOCK_DEVICE { EntryKind::BlockDevice(major, minor) } else { EntryKind::CharDevice(major, minor) }
            }
            _ => {
                let link = spans[number::LINKS].read(bytes, |reader| columns::read_link(reader, &self.key, self.key_kind))?;
                EntryKind::HardLink(link.to_vec())
            }
        };
        Ok(Entry { key: self.key.clone(), kind, metadata })
    }

    fn next_metadata(&mut self, bytes: &[u8]) -> Result<Metadata> {
        let name = |span: Span| Reader::new(span.of(bytes)).blob().map(<[u8]>::to_vec);
        let (mode, uid, gid) = (self.modes.next(bytes)?.0, self.owners.next(bytes)?.0, self.groups.next(bytes)?.0);
        let user = name(self.owner_names.next(bytes)?.1)?;
        let group = name(self.group_names.next(bytes)?.1)?;
        let modified = self.spans[number::TIMES].read(bytes, |reader| columns::read_time(reader, &mut self.seconds))?;
        let inode_flags = self.flags.next(bytes)?.0;
        let mut xattrs = Vec::new();
        let mut attributes = Reader::new(self.attributes.next(bytes)?.1.of(bytes));
        columns::read_attributes(&mut attributes, |name, value| xattrs.push((name.to_vec(), value.to_vec())))?;
        Ok(Metadata { mode, uid, gid, user, group, modified, inode_flags, xattrs })
    }

    fn next_file(&mut self, bytes: &[u8]) -> Result<FileContent> {
        let size = self.spans[number::SIZES].read(bytes, Reader::varint)?;
        let mut holes = Vec::new();
        let in_holes = self.spans[number::HOLES]
            .read(bytes, |reader| columns::read_holes(reader, size, |offset, length| holes.push((offset, length))))?;
        let cutter = self.cutters.next(bytes)?.0;
        let mut chunks = Vec::new();
        let recipe =
            self.spans[number::CHUNKS].read(bytes, |reader| columns::read_chunks(reader, size - in_holes, |chunk| chunks.push(chunk)))?;
        Ok(FileContent { size, holes, cutter, chunks: recipe.map_or(ChunkList::Inline(chunks), ChunkList::Recipe) })
    }
}

/// Writes a leaf of entries with ascending keys. What it says is what the entries say: a reader checks it, this does not.
pub(crate) fn encode_tree_leaf(entries: &[Entry]) -> Vec<u8> {
    let mut out = vec![super::LEAF, 0];
    out.put_varint(entries.len() as u64);
    let (mut columns, mut column_count) = (Vec::with_capacity(entries.len() * 96), 0);
    let mut scratch = Vec::with_capacity(entries.len() * 48);
    let mut column = |number: usize, write: &dyn Fn(&mut Vec<u8>)| {
        scratch.clear();
        write(&mut scratch);
        // Each item of each column has at least one byte.
        if !scratch.is_empty() {
            columns.put_varint(number as u64 * 2 + 1);
            columns.put_blob(&scratch);
            column_count += 1;
        }
    };
    column(number::KEYS, &|out| write_keys(out, entries.iter().map(|entry| entry.key.as_slice())));
    column(number::KINDS, &|out| out.extend(entries.iter().map(|entry| kind_byte(&entry.kind))));
    column(number::MODES, &|out| write_runs(out, metadata(entries).map(|m| m.mode), put_number));
    column(number::OWNERS, &|out| write_runs(out, metadata(entries).map(|m| m.uid), put_number));
    column(number::GROUPS, &|out| write_runs(out, metadata(entries).map(|m| m.gid), put_number));
    column(number::OWNER_NAMES, &|out| write_runs(out, metadata(entries).map(|m| m.user.as_slice()), |out, name| out.put_blob(name)));
    column(number::GROUP_NAMES, &|out| write_runs(out, metadata(entries).map(|m| m.group.as_slice()), |out, name| out.put_blob(name)));
    column(number::TIMES, &|out| write_times(out, metadata(entries).map(|m| m.modified)));
    column(number::FLAGS, &|out| write_runs(out, metadata(entries).map(|m| m.inode_flags), put_number));
    column(number::ATTRIBUTES, &|out| write_runs(out, metadata(entries).map(|m| m.xattrs.as_slice()), put_attributes));
    column(number::SIZES, &|out| files(entries).for_each(|file| out.put_varint(file.size)));
    column(number::HOLES, &|out| files(entries).for_each(|file| put_holes(out, &file.holes)));
    column(number::CUTTERS, &|out| write_runs(out, files(entries).map(|file| file.cutter), put_number));
    column(number::CHUNKS, &|out| files(entries).for_each(|file| put_chunks(out, &file.chunks)));
    column(number::TARGETS, &|out| {
        entries.iter().for_each(|entry| match &entry.kind {
            EntryKind::Symlink(target) => out.put_blob(target),
            _ => {}
        });
    });
    column(number::DEVICES, &|out| {
        entries.iter().for_each(|entry| match &entry.kind {
            EntryKind::BlockDevice(major, minor) | EntryKind::CharDevice(major, minor) => {
                put_number(out, *major);
                put_number(out, *minor);
            }
            _ => {}
        });
    });
    column(number::LINKS, &|out| {
        entries.iter().for_each(|entry| match &entry.kind {
            EntryKind::HardLink(link) => out.put_blob(link),
            _ => {}
        });
    });
    out.put_varint(column_count);
    out.put_bytes(&columns);
    out
}

/// Writes keys, each with the length that it shares with the one before.
fn write_keys<'a>(out: &mut Vec<u8>, keys: impl Iterator<Item = &'a [u8]>) {
    let mut before: &[u8] = &[];
    for key in keys {
        put_key(out, before, key);
        before = key;
    }
}

/// Writes one key.
pub(super) fn put_key(out: &mut Vec<u8>, before: &[u8], key: &[u8]) {
    let shared = before.iter().zip(key).take_while(|(a, b)| a == b).count();
    out.put_varint(shared as u64);
    out.put_blob(key.get(shared..).unwrap_or_default());
}

fn write_runs<V: PartialEq + Copy>(out: &mut Vec<u8>, mut values: impl Iterator<Item = V>, put: impl Fn(&mut Vec<u8>, V)) {
    let Some(mut value) = values.next() else { return };
    let mut length = 1_u64;
    for next in values {
        if next == value {
            length += 1;
        } else {
            out.put_varint(length);
            put(out, value);
            (value, length) = (next, 1);
        }
    }
    out.put_varint(length);
    put(out, value);
}

fn write_times(out: &mut Vec<u8>, times: impl Iterator<Item = Timestamp>) {
    let mut before = 0_i64;
    for time in times {
        out.put_zigzag(time.seconds.wrapping_sub(before));
        out.put_varint(u64::from(time.nanoseconds));
        before = time.seconds;
    }
}

fn put_number(out: &mut Vec<u8>, value: u32) {
    out.put_varint(u64::from(value));
}

fn put_attributes(out: &mut Vec<u8>, attributes: &[(Vec<u8>, Vec<u8>)]) {
    out.put_varint(attributes.len() as u64);
    for (name, value) in attributes {
        out.put_blob(name);
        out.put_blob(value);
    }
}

fn put_holes(out: &mut Vec<u8>, holes: &[(u64, u64)]) {
    out.put_varint(holes.len() as u64);
    let mut end = 0_u64;
    for (offset, length) in holes {
        out.put_varint(offset.wrapping_sub(end));
        out.put_varint(*length);
        end = offset.wrapping_add(*length);
    }
}

fn put_chunks(out: &mut Vec<u8>, chunks: &ChunkList) {
    match chunks {
        ChunkList::Recipe(id) => {
            out.put_varint(0);
            out.put_bytes(id.as_bytes());
        }
        ChunkList::Inline(chunks) => {
            out.put_varint(chunks.len() as u64 + 1);
            for chunk in chunks {
                out.put_bytes(chunk.id.as_bytes());
                put_number(out, chunk.length);
            }
        }
    }
}

fn kind_byte(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::File(_) => kind::FILE,
        EntryKind::Folder => kind::FOLDER,
        EntryKind::Symlink(_) => kind::SYMLINK,
        EntryKind::Fifo => kind::FIFO,
        EntryKind::Socket => kind::SOCKET,
        EntryKind::BlockDevice(..) => kind::BLOCK_DEVICE,
        EntryKind::CharDevice(..) => kind::CHAR_DEVICE,
        EntryKind::HardLink(_) => kind::HARD_LINK,
    }
}

fn metadata(entries: &[Entry]) -> impl Iterator<Item = &Metadata> {
    entries.iter().filter(|entry| !matches!(entry.kind, EntryKind::HardLink(_))).map(|entry| &entry.metadata)
}

fn files(entries: &[Entry]) -> impl Iterator<Item = &FileContent> {
    entries.iter().filter_map(|entry| match &entry.kind {
        EntryKind::File(file) => Some(file),
        _ => None,
    })
}

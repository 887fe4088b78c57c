//! One record: what stat said of an entry, and the entry.
//!
//! ```text
//! bytes shared with the key of the block's fence, length of the rest of the key, that rest
//! device, inode, size, modified, ctime
//! kind 1 (bit 7: metadata.modified differs from stat's and comes first; bit 6: racy), mode, uid, gid, inode flags, user, group, attributes
//! what belongs to the kind
//! ```
//! Numbers are LEB128 varints (signed ones in zigzag), byte strings have their length before them. Sharing is with the fence and
//! not with the record before, so that a block can be searched by halves.

use super::Cached;
use crate::entry::{ChunkList, ChunkRef, Entry, EntryKind, FileContent, Metadata};
use crate::id::ChunkId;
use crate::runtime::Timestamp;
use crate::source::StatKey;
use std::cmp::Ordering;

const HAS_MODIFIED: u8 = 0x80;
const IS_RACY: u8 = 0x40;

/// A record as it lies in its block, read up to its key.
pub(super) struct Record<'a> {
    shared: usize,
    key_rest: &'a [u8],
    after_key: Reader<'a>,
}

impl<'a> Record<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        Some(Self { shared: reader.size()?, key_rest: reader.blob()?, after_key: reader })
    }

    /// How this record's key compares with `key`.
    pub(super) fn compare_key(&self, fence_key: &[u8], key: &[u8]) -> Option<Ordering> {
        let (head, rest) = key.split_at(self.shared.min(key.len()));
        // A head shorter than what is shared can at most equal its beginning, and then it is the smaller one.
        Some(fence_key.get(..self.shared)?.cmp(head).then_with(|| self.key_rest.cmp(rest)))
    }

    /// What stat said, unless it may say the same of another content.
    pub(super) fn settled_stat(&self) -> Option<StatKey> {
        let mut reader = self.after_key.clone();
        let stat = reader.stat()?;
        (reader.byte()? & IS_RACY == 0).then_some(stat)
    }

    /// The chunks, of a file that has them here.
    pub(super) fn chunks(self) -> Option<CachedChunks<'a>> {
        let mut reader = self.after_key;
        let stat = reader.stat()?;
        let tag = reader.byte()?;
        let modified = if tag & HAS_MODIFIED == 0 { stat.modified } else { reader.time()? };
        reader.metadata(modified)?;
        if tag & !(HAS_MODIFIED | IS_RACY) != 0 {
            return None;
        }
        let (_, cutter) = (reader.number()?, reader.small()?);
        for _ in 0..reader.count(2)? {
            let _hole = (reader.number()?, reader.number()?);
        }
        let left = reader.count(ChunkId::LENGTH + 1)?;
        Some(CachedChunks { cutter, left, reader })
    }

    /// The whole record, whose key is `key`.
    pub(super) fn read(self, key: &[u8]) -> Option<Cached> {
        let mut reader = self.after_key;
        let stat = reader.stat()?;
        let tag = reader.byte()?;
        let modified = if tag & HAS_MODIFIED == 0 { stat.modified } else { reader.time()? };
        let metadata = reader.metadata(modified)?;
        let kind = reader.kind(tag & !(HAS_MODIFIED | IS_RACY))?;
        let entry = Entry { key: key.to_vec(), kind, metadata };
        reader.0.is_empty().then_some(Cached { stat, entry, is_settled: tag & IS_RACY == 0 })
    }
}

/// The chunks of a file, one after the other out of its record.
pub(crate) struct CachedChunks<'a> {
    /// The cutter that made them.
    pub(crate) cutter: u32,
    left: usize,
    reader: Reader<'a>,
}

impl Iterator for CachedChunks<'_> {
    type Item = ChunkRef;

    fn next(&mut self) -> Option<ChunkRef> {
        self.left = self.left.checked_sub(1)?;
        self.reader.chunk()
    }
}

/// Appends the record of `entry` to `bytes`.
pub(super) fn put_record(bytes: &mut Vec<u8>, fence_key: &[u8], stat: &StatKey, entry: &Entry, is_racy: bool) {
    let shared = fence_key.iter().zip(&entry.key).take_while(|(a, b)| a == b).count();
    put_number(bytes, shared as u64);
    put_blob(bytes, &entry.key[shared..]);
    for value in [stat.device, stat.inode, stat.size] {
        put_number(bytes, value);
    }
    put_time(bytes, stat.modified);
    put_time(bytes, stat.ctime);
    let metadata = &entry.metadata;
    let racy = if is_racy { IS_RACY } else { 0 };
    if metadata.modified == stat.modified {
        bytes.push(tag(&entry.kind) | racy);
    } else {
        bytes.push(tag(&entry.kind) | racy | HAS_MODIFIED);
        put_time(bytes, metadata.modified);
    }
    for value in [metadata.mode, metadata.uid, metadata.gid, metadata.inode_flags] {
        put_number(bytes, value.into());
    }
    put_blob(bytes, &metadata.user);
    put_blob(bytes, &metadata.group);
    put_number(bytes, metadata.xattrs.len() as u64);
    for (name, value) in &metadata.xattrs {
        put_blob(bytes, name);
        put_blob(bytes, value);
    }
    match &entry.kind {
        EntryKind::File(content) => put_content(bytes, content),
        EntryKind::Symlink(target) | EntryKind::HardLink(target) => put_blob(bytes, target),
        EntryKind::BlockDevice(major, minor) | EntryKind::CharDevice(major, minor) => {
            put_number(bytes, (*major).into());
            put_number(bytes, (*minor).into());
        }
        EntryKind::Folder | EntryKind::Fifo | EntryKind::Socket => {}
    }
}

/// Appends `entry` by itself, for whoever keeps it for a while.
pub(crate) fn put_entry(bytes: &mut Vec<u8>, entry: &Entry) {
    let modified = entry.metadata.modified;
    put_record(bytes, &[], &StatKey { device: 0, inode: 0, ctime: modified, modified, size: 0 }, entry, false);
}

/// What [`put_entry`] put there; `None` where that is something else.
pub(crate) fn read_entry(bytes: &[u8]) -> Option<Entry> {
    let record = Record::new(bytes)?;
    let key = record.key_rest;
    record.read(key).map(|cached| cached.entry)
}

fn tag(kind: &EntryKind) -> u8 {
    match kind {
        EntryKind::File(FileContent { chunks: ChunkList::Inline(_), .. }) => 0,
        EntryKind::File(FileContent { chunks: ChunkList::Recipe(_), .. }) => 1,
        EntryKind::Folder => 2,
        EntryKind::Symlink(_) => 3,
        EntryKind::Fifo => 4,
        EntryKind::Socket => 5,
        EntryKind::BlockDevice(..) => 6,
        EntryKind::CharDevice(..) => 7,
        EntryKind::HardLink(_) => 8,
    }
}

fn put_content(bytes: &mut Vec<u8>, content: &FileContent) {
    put_number(bytes, content.size);
    put_number(bytes, content.cutter.into());
    put_number(bytes, content.holes.len() as u64);
    for &(offset, length) in &content.holes {
        put_number(bytes, offset);
        put_number(bytes, length);
    }
    match &content.chunks {
        ChunkList::Inline(chunks) => {
            put_number(bytes, chunks.len() as u64);
            for chunk in chunks {
                bytes.extend_from_slice(chunk.id.as_bytes());
                put_number(bytes, chunk.length.into());
            }
        }
        ChunkList::Recipe(root) => bytes.extend_from_slice(root.as_bytes()),
    }
}

fn put_number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn put_time(bytes: &mut Vec<u8>, time: Timestamp) {
    put_number(bytes, (time.seconds << 1 ^ time.seconds >> 63).cast_unsigned());
    bytes.extend_from_slice(&time.nanoseconds.to_le_bytes());
}

fn put_blob(bytes: &mut Vec<u8>, blob: &[u8]) {
    put_number(bytes, blob.len() as u64);
    bytes.extend_from_slice(blob);
}

/// Reads from front to back; `None` is damage.
#[derive(Clone)]
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn small(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    fn size(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    /// How many items of at least `size_min` bytes follow; memory for them is bounded by the bytes that are left.
    fn count(&mut self, size_min: usize) -> Option<usize> {
        self.size().filter(|&count| count <= self.0.len() / size_min)
    }

    fn blob(&mut self) -> Option<&'a [u8]> {
        let length = self.size()?;
        self.bytes(length)
    }

    fn time(&mut self) -> Option<Timestamp> {
        let seconds = self.number()?;
        let seconds = (seconds >> 1).cast_signed() ^ -(seconds & 1).cast_signed();
        Some(Timestamp { seconds, nanoseconds: u32::from_le_bytes(self.array()?) })
    }

    fn stat(&mut self) -> Option<StatKey> {
        let (device, inode, size) = (self.number()?, self.number()?, self.number()?);
        let (modified, ctime) = (self.time()?, self.time()?);
        Some(StatKey { device, inode, ctime, modified, size })
    }

    fn metadata(&mut self, modified: Timestamp) -> Option<Metadata> {
        let (mode, uid, gid, inode_flags) = (self.small()?, self.small()?, self.small()?, self.small()?);
        let (user, group) = (self.blob()?.to_vec(), self.blob()?.to_vec());
        let count = self.count(2)?;
        let xattrs = (0..count).map(|_| Some((self.blob()?.to_vec(), self.blob()?.to_vec()))).collect::<Option<_>>()?;
        Some(Metadata { mode, uid, gid, user, group, modified, inode_flags, xattrs })
    }

    fn kind(&mut self, tag: u8) -> Option<EntryKind> {
        Some(match tag {
            0 | 1 => EntryKind::File(self.content(tag == 1)?),
            2 => EntryKind::Folder,
            3 => EntryKind::Symlink(self.blob()?.to_vec()),
            4 => EntryKind::Fifo,
            5 => EntryKind::Socket,
            6 => EntryKind::BlockDevice(self.small()?, self.small()?),
            7 => EntryKind::CharDevice(self.small()?, self.small()?),
            8 => EntryKind::HardLink(self.blob()?.to_vec()),
            _ => return None,
        })
    }

    fn chunk(&mut self) -> Option<ChunkRef> {
        Some(ChunkRef { id: ChunkId(self.array()?), length: self.small()? })
    }

    fn content(&mut self, is_recipe: bool) -> Option<FileContent> {
        let (size, cutter) = (self.number()?, self.small()?);
        let count = self.count(2)?;
        let holes = (0..count).map(|_| Some((self.number()?, self.number()?))).collect::<Option<_>>()?;
        if is_recipe {
            return Some(FileContent { size, holes, cutter, chunks: ChunkList::Recipe(ChunkId(self.array()?)) });
        }
        let count = self.count(ChunkId::LENGTH + 1)?;
        let mut chunks = Vec::with_capacity(count);
        for _ in 0..count {
            chunks.push(self.chunk()?);
        }
        Some(FileContent { size, holes, cutter, chunks: ChunkList::Inline(chunks) })
    }
}

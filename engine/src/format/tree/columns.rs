//! The columns of a tree leaf, each read by one small cursor.
//!
//! A cursor remembers where it stands in the node's bytes and not the bytes themselves, so that a leaf can own its
//! bytes and be read entry by entry. Every cursor checks the rules of its column as it goes.

use super::super::cursor::Reader;
use super::super::recipe::read_chunk;
use crate::entry::{ChunkRef, KeyKind, is_path_key};
use crate::error::{Error, Result};
use crate::id::ChunkId;
use crate::limits::{ATTRIBUTES_MAX, INLINE_CHUNKS_MAX, KEY_MAX, TARGET_MAX};
use crate::runtime::Timestamp;

/// The numbers of the columns.
pub(super) mod number {
    pub(crate) const KEYS: usize = 1;
    pub(crate) const KINDS: usize = 2;
    pub(crate) const MODES: usize = 3;
    pub(crate) const OWNERS: usize = 4;
    pub(crate) const GROUPS: usize = 5;
    pub(crate) const OWNER_NAMES: usize = 6;
    pub(crate) const GROUP_NAMES: usize = 7;
    pub(crate) const TIMES: usize = 8;
    pub(crate) const FLAGS: usize = 9;
    pub(crate) const ATTRIBUTES: usize = 10;
    pub(crate) const SIZES: usize = 11;
    pub(crate) const HOLES: usize = 12;
    pub(crate) const CUTTERS: usize = 13;
    pub(crate) const CHUNKS: usize = 14;
    pub(crate) const TARGETS: usize = 15;
    pub(crate) const DEVICES: usize = 16;
    pub(crate) const LINKS: usize = 17;
    /// One above the last.
    pub(crate) const END: usize = 18;
}

/// The bytes of the kinds column.
pub(super) mod kind {
    pub(crate) const FILE: u8 = 1;
    pub(crate) const FOLDER: u8 = 2;
    pub(crate) const SYMLINK: u8 = 3;
    pub(crate) const FIFO: u8 = 4;
    pub(crate) const SOCKET: u8 = 5;
    pub(crate) const BLOCK_DEVICE: u8 = 6;
    pub(crate) const CHAR_DEVICE: u8 = 7;
    pub(crate) const HARD_LINK: u8 = 8;
}

/// The unread rest of a column: a place in the node's bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    pub(super) at: usize,
    pub(super) end: usize,
}

impl Span {
    /// The bytes.
    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.at..self.end).unwrap_or_default()
    }

    /// Reads on from here and moves past what was read.
    pub(super) fn read<'a, T>(&mut self, bytes: &'a [u8], read: impl FnOnce(&mut Reader<'a>) -> Result<T>) -> Result<T> {
        let mut reader = Reader::new(self.of(bytes));
        let value = read(&mut reader)?;
        self.at = self.end - reader.remaining();
        Ok(value)
    }

    /// The column must end here.
    pub(super) fn end(self, bytes: &[u8]) -> Result<()> {
        Reader::new(self.of(bytes)).end()
    }
}

/// A column of runs. `value` reads and checks what a run repeats.
#[derive(Debug, Clone)]
pub(super) struct Runs<V> {
    rest: Span,
    /// Entries of the run that are still to come.
    left: u64,
    value: V,
    /// The value as it is written: canonical, so equal bytes are equal values.
    written: Span,
    read: fn(&mut Reader<'_>) -> Result<V>,
}

impl<V: Copy + Default> Runs<V> {
    pub(super) fn new(rest: Span, read: fn(&mut Reader<'_>) -> Result<V>) -> Self {
        Self { rest, left: 0, value: V::default(), written: Span::default(), read }
    }

    /// Moves to the next entry: its value, and where that is written.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<(V, Span)> {
        if self.left == 0 {
            self.next_run(bytes, u64::MAX)?;
        }
        self.left -= 1;
        Ok((self.value, self.written))
    }

    /// Reads all runs, which must be for `count` entries.
    pub(super) fn check(mut self, bytes: &[u8], count: usize) -> Result<()> {
        let mut left = count as u64;
        while self.rest.at < self.rest.end {
            self.next_run(bytes, left)?;
            left -= self.left;
        }
        match left {
            0 => Ok(()),
            _ => Err(Error::rule("TREE-8", format!("runs of {} entries, expected {count}", count as u64 - left))),
        }
    }

    /// Reads a run of at most `length_max` entries.
    fn next_run(&mut self, bytes: &[u8], length_max: u64) -> Result<()> {
        let length = self.rest.read(bytes, Reader::varint)?;
        if length == 0 || length > length_max {
            return Err(Error::rule("TREE-8", format!("a run of {length} entries, {length_max} are left")));
        }
        let at = self.rest.at;
        self.value = self.rest.read(bytes, self.read)?;
        let written = Span { at, end: self.rest.at };
        if written.of(bytes) == self.written.of(bytes) {
            return Err(Error::rule("TREE-8", "neighbouring runs have the same value"));
        }
        (self.written, self.left) = (written, length);
        Ok(())
    }
}

/// Reads a key after the one in `key`, which it replaces: TREE-5, TREE-6.
pub(super) fn read_key(reader: &mut Reader<'_>, key: &mut Vec<u8>, is_first: bool, key_kind: KeyKind) -> Result<()> {
    let shared = reader.varint()?;
    let rest = reader.blob()?;
    let shared = match usize::try_from(shared) {
        Ok(n) if n <= key.len() => n,
        _ => return Err(Error::rule("TREE-5", format!("a key shares {shared} bytes with one of {}", key.len()))),
    };
    if shared + rest.len() > KEY_MAX {
        return Err(Error::rule("TREE-5", format!("a key of {} bytes, expected at most {KEY_MAX}", shared + rest.len())));
    }
    let is_above = match (rest.first(), key.get(shared)) {
        (Some(new), Some(old)) => new > old,
        (new, old) => old.is_none() && (new.is_some() || is_first),
    };
    if !is_above {
        return Err(Error::rule("TREE-5", "a key is not above the one before, or shares more bytes with it than it says"));
    }
    key.truncate(shared);
    // Components before the last zero byte that is shared were checked with the key before.
    let start = key.iter().rposition(|byte| *byte == 0).map_or(0, |zero| zero + 1);
    key.extend_from_slice(rest);
    let is_checked = key.is_empty() || key.get(start..).is_some_and(|rest| !rest.is_empty() && is_path_key(rest));
    match key_kind {
        KeyKind::Paths if !is_checked => Err(Error::rule("TREE-6", format!("`{}` is no path", key.escape_ascii()))),
        _ => Ok(()),
    }
}

/// Modes: TREE-9.
pub(super) fn read_mode(reader: &mut Reader<'_>) -> Result<u32> {
    match read_number(reader)? {
        mode @ 0..=0o7777 => Ok(mode),
        mode => Err(Error::rule("TREE-9", format!("mode {mode:o}"))),
    }
}

/// Owners, groups, flags, cutters, device numbers: TREE-9.
pub(super) fn read_number(reader: &mut Reader<'_>) -> Result<u32> {
    let value = reader.varint()?;
    u32::try_from(value).map_err(|_| Error::rule("TREE-9", format!("{value} exceeds 32 bits")))
}

/// A name of an owner or a group.
pub(super) fn read_name(reader: &mut Reader<'_>) -> Result<()> {
    reader.blob().map(drop)
}

/// The attributes of an entry, each given to `each`: TREE-11.
pub(super) fn read_attributes<'a>(reader: &mut Reader<'a>, mut each: impl FnMut(&'a [u8], &'a [u8])) -> Result<()> {
    let count = reader.count(2)?;
    let mut size = 0;
    let mut before: &[u8] = &[];
    for _ in 0..count {
        let (name, value) = (reader.blob()?, reader.blob()?);
        // Not empty is the same as above the empty name.
        if name <= before {
            return Err(Error::rule("TREE-11", format!("attribute `{}` is not above the one before", name.escape_ascii())));
        }
        size += name.len() + value.len();
        if size > ATTRIBUTES_MAX {
            return Err(Error::rule("TREE-11", format!("attributes of more than {ATTRIBUTES_MAX} bytes")));
        }
        before = name;
        each(name, value);
    }
    Ok(())
}

/// The time of an entry after that of the one before, whose seconds are in `seconds`: TREE-10.
pub(super) fn read_time(reader: &mut Reader<'_>, seconds: &mut i64) -> Result<Timestamp> {
    *seconds = seconds.wrapping_add(reader.zigzag()?);
    let nanoseconds = reader.varint()?;
    match u32::try_from(nanoseconds) {
        Ok(nanoseconds @ 0..1_000_000_000) => Ok(Timestamp { seconds: *seconds, nanoseconds }),
        _ => Err(Error::rule("TREE-10", format!("{nanoseconds} nanoseconds"))),
    }
}

/// The holes of a file of `size` bytes, each given to `each` as offset and length; returns the length of all: TREE-12.
pub(super) fn read_holes(reader: &mut Reader<'_>, size: u64, mut each: impl FnMut(u64, u64)) -> Result<u64> {
    let count = reader.count(2)?;
    let (mut end, mut total) = (0_u64, 0);
    for index in 0..count {
        let (distance, length) = (reader.varint()?, reader.varint()?);
        let start = end.checked_add(distance);
        match start.and_then(|start| start.checked_add(length)) {
            Some(past) if length > 0 && (distance > 0 || index == 0) && past <= size => {
                each(past - length, length);
                (end, total) = (past, total + length);
            }
            _ => return Err(Error::rule("TREE-12", format!("hole {index} of a file of {size} bytes"))),
        }
    }
    Ok(total)
}

/// The chunks of a file with `data_bytes` outside its holes, each given to `each`, or the recipe that has them: TREE-13.
pub(super) fn read_chunks(reader: &mut Reader<'_>, data_bytes: u64, mut each: impl FnMut(ChunkRef)) -> Result<Option<ChunkId>> {
    let Some(count) = reader.varint()?.checked_sub(1) else {
        return Ok(Some(ChunkId(reader.array()?)));
    };
    if count > INLINE_CHUNKS_MAX as u64 {
        return Err(Error::rule("TREE-13", format!("{count} chunks inline, expected at most {INLINE_CHUNKS_MAX}")));
    }
    let mut total = 0;
    for _ in 0..count {
        let chunk = read_chunk(reader, "TREE-13")?;
        total += u64::from(chunk.length);
        each(chunk);
    }
    match total == data_bytes {
        true => Ok(None),
        false => Err(Error::rule("TREE-13", format!("chunks of {total} bytes, the file has {data_bytes} outside its holes"))),
    }
}

/// The target of a symlink: TREE-14.
pub(super) fn read_target<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8]> {
    let target = reader.blob()?;
    match (1..=TARGET_MAX).contains(&target.len()) && !target.contains(&0) {
        true => Ok(target),
        false => {
            Err(Error::rule("TREE-14", format!("a symlink's target of {} bytes is empty, too long, or holds a zero byte", target.len())))
        }
    }
}

/// The numbers of a device: TREE-9.
pub(super) fn read_device(reader: &mut Reader<'_>) -> Result<(u32, u32)> {
    Ok((read_number(reader)?, read_number(reader)?))
}

/// What the hard link at `key` links to: TREE-15, and of the key that it names TREE-5 and TREE-6.
pub(super) fn read_link<'a>(reader: &mut Reader<'a>, key: &[u8], key_kind: KeyKind) -> Result<&'a [u8]> {
    let link = reader.blob()?;
    let broken = |rule, what| {
        let message = format!("`{}` links to `{}`, which {what}", key.escape_ascii(), link.escape_ascii());
        Err(Error::rule(rule, message))
    };
    if link >= key {
        return broken("TREE-15", "is no key below its own");
    }
    if key_kind == KeyKind::Paths && !is_path_key(link) {
        return broken("TREE-6", "is no path");
    }
    match link.len() <= KEY_MAX {
        true => Ok(link),
        false => broken("TREE-5", "is too long"),
    }
}

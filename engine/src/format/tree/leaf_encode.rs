//! Leaves, written.

use super::super::cursor::Write;
use super::columns::{kind, number};
use crate::entry::{ChunkList, Entry, EntryKind, FileContent, Metadata};
use crate::runtime::Timestamp;

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
        entries.iter().for_each(|entry| {
            if let EntryKind::Symlink(target) = &entry.kind {
                out.put_blob(target);
            }
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
        entries.iter().for_each(|entry| {
            if let EntryKind::HardLink(link) = &entry.kind {
                out.put_blob(link);
            }
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
    let shared = shared_length(before, key);
    out.put_varint(shared as u64);
    out.put_blob(key.get(shared..).unwrap_or_default());
}

fn shared_length(a: &[u8], b: &[u8]) -> usize {
    // In steps of eight bytes, which is several times as fast as byte by byte.
    let equal = a.chunks_exact(8).zip(b.chunks_exact(8)).take_while(|(a, b)| a == b).count() * 8;
    equal + a.iter().zip(b).skip(equal).take_while(|(a, b)| a == b).count()
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

//! For tests: random entries, and nodes in memory.

use super::{NodeKind, NodeSink, NodeSource, TreeBuilder, TreeRoot};
use crate::entry::{ChunkList, ChunkRef, Entry, EntryKind, FileContent, Key, KeyKind, Metadata, join_key};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use crate::runtime::Timestamp;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Nodes in memory.
#[derive(Debug, Default)]
pub(crate) struct Nodes(pub(crate) HashMap<ChunkId, Arc<[u8]>>);

impl NodeSink for Nodes {
    fn store(&mut self, kind: NodeKind, bytes: Vec<u8>) -> Result<ChunkId> {
        let id = ChunkId(*blake3::keyed_hash(&[kind as u8; 32], &bytes).as_bytes());
        self.0.insert(id, bytes.into());
        Ok(id)
    }
}

impl NodeSource for Nodes {
    fn load(&self, _kind: NodeKind, id: &ChunkId) -> Result<Arc<[u8]>> {
        self.0.get(id).cloned().ok_or_else(|| Error::new(ErrorKind::NotFound, format!("node {id}")))
    }
}

pub(crate) const BOUNDARY: [u8; 32] = [3; 32];

/// The tree of these entries.
pub(crate) fn build(entries: impl IntoIterator<Item = Entry>) -> (Nodes, TreeRoot) {
    let mut nodes = Nodes::default();
    let mut builder = TreeBuilder::new(BOUNDARY, KeyKind::Paths);
    for entry in entries {
        builder.push(entry, &mut nodes).unwrap();
    }
    let root = builder.finish(&mut nodes).unwrap();
    (nodes, root)
}

/// A folder.
pub(crate) fn folder(key: impl Into<Key>) -> Entry {
    Entry { key: key.into(), kind: EntryKind::Folder, metadata: Metadata::default() }
}

/// A file of one chunk.
pub(crate) fn file(key: impl Into<Key>, size: u32) -> Entry {
    let chunks = vec![ChunkRef { id: ChunkId(*blake3::hash(&size.to_le_bytes()).as_bytes()), length: size }];
    let content = FileContent { size: size.into(), cutter: 1, chunks: ChunkList::Inline(chunks), holes: Vec::new() };
    Entry { key: key.into(), kind: EntryKind::File(content), metadata: Metadata { mode: 0o644, ..Metadata::default() } }
}

/// Many files in folders of 50.
pub(crate) fn many(count: u32) -> Vec<Entry> {
    (0..count)
        .flat_map(|n| {
            let name = format!("{:05}", n / 50);
            let head = n.is_multiple_of(50).then(|| folder(name.clone()));
            head.into_iter().chain([file(join_key([name, format!("{n:05}.c")]), n + 1)])
        })
        .collect()
}

/// Entries with ascending path keys, each of any kind, none below one that is no folder.
pub(crate) fn entries(count: Range<usize>) -> impl Strategy<Value = Vec<Entry>> {
    let key = vec("[ab.]{1,2}x", 0..3).prop_map(join_key);
    btree_map(key, (kind(), metadata()), count).prop_map(|entries| {
        let mut list: Vec<Entry> = Vec::new();
        for (key, (kind, metadata)) in entries {
            let is_hidden = list.iter().any(|above| above.kind != EntryKind::Folder && crate::entry::is_below(&key, &above.key));
            let kind = match (kind, list.last()) {
                (EntryKind::HardLink(_), Some(before)) => EntryKind::HardLink(before.key.clone()),
                (EntryKind::HardLink(_), None) => EntryKind::Fifo,
                (kind, _) => kind,
            };
            let metadata = if matches!(kind, EntryKind::HardLink(_)) { Metadata::default() } else { metadata };
            if !is_hidden {
                list.push(Entry { key, kind, metadata });
            }
        }
        list
    })
}

fn kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        4 => any_file().prop_map(EntryKind::File),
        4 => Just(EntryKind::Folder),
        1 => vec(1..255_u8, 1..9).prop_map(EntryKind::Symlink),
        1 => prop_oneof![Just(EntryKind::Fifo), Just(EntryKind::Socket)],
        1 => (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| EntryKind::BlockDevice(major, minor)),
        1 => (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| EntryKind::CharDevice(major, minor)),
        1 => Just(EntryKind::HardLink(Key::new())),
    ]
}

/// A file of data and holes that take turns.
fn any_file() -> impl Strategy<Value = FileContent> {
    let parts = (any::<bool>(), vec(1..5_000_u64, 0..5), any::<bool>(), any::<[u8; 32]>(), 0..3_u32);
    parts.prop_map(|(starts_with_hole, lengths, in_recipe, id, cutter)| {
        let mut file = FileContent { cutter, ..FileContent::default() };
        let mut chunks = Vec::new();
        for (index, length) in lengths.into_iter().enumerate() {
            if (index % 2 == 0) == starts_with_hole {
                file.holes.push((file.size, length));
            } else {
                chunks.push(ChunkRef { id: ChunkId(id), length: length as u32 });
            }
            file.size += length;
        }
        file.chunks = if in_recipe { ChunkList::Recipe(ChunkId(id)) } else { ChunkList::Inline(chunks) };
        file
    })
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let numbers = (prop_oneof![Just(0o644), 0..=0o7777_u32], prop_oneof![Just(0), any::<u32>()], any::<bool>());
    let time = prop_oneof![any::<i64>(), 1_700_000_000..1_700_000_100_i64];
    let names = btree_set("[a-c]{1,2}", 0..3);
    (numbers, time, 0..1_000_000_000_u32, names).prop_map(|((mode, uid, is_root), seconds, nanoseconds, names)| Metadata {
        mode,
        uid,
        gid: uid / 2,
        user: if is_root { b"root".to_vec() } else { Vec::new() },
        group: Vec::new(),
        modified: Timestamp { seconds, nanoseconds },
        inode_flags: uid & 16,
        xattrs: names.into_iter().map(|name| (name.into_bytes(), vec![1; mode as usize % 3])).collect(),
    })
}

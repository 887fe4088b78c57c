//! Nodes alone and nodes from a root.

use super::Keys;
use super::decode::{Decoded, Reading};
use crate::entry::{ChunkRef, Entry, EntryKind, Key, KeyKind};
use crate::error::{Error, ErrorKind, Result};
use crate::format::FrameUse;
use crate::format::cursor::Reader;
use crate::format::recipe::{RecipeNode, decode_recipe_node, encode_recipe_inner, encode_recipe_leaf};
use crate::format::refs::{RefsNode, decode_refs_node, encode_refs_inner, encode_refs_leaf};
use crate::format::tree::{TreeNode, decode_tree_node, encode_tree_inner, encode_tree_leaf};
use crate::id::{ChunkId, FrameId};
use crate::repository::{ChunkIds, ChunkKind};
use crate::tree::{KeyRange, NodeKind, NodeSource, RecipeWalk, RefsWalk, TreeWalk, check_link};
use std::sync::Arc;

/// A few bytes can stand for gigabytes of entries; of more than so many bytes none are kept.
const ENTRY_BYTES_KEPT: usize = 16 << 20;
/// One above the columns of a tree leaf that are known.
const COLUMNS_END: u64 = 18;

/// The content of a node, or of all leaves below a root.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum NodeValue {
    /// Without entries where they would take too much memory; of a walk with the sizes of all files.
    Entries(Option<Vec<Entry>>, Option<u64>),
    /// Level; last key, id, entries and file bytes of each child.
    TreeChildren(u8, Vec<(Key, ChunkId, u64, u64)>),
    Chunks(Vec<ChunkRef>),
    /// Level; id, chunks and bytes of each child.
    RecipeChildren(u8, Vec<(ChunkId, u64, u64)>),
    Frames(Vec<FrameUse>),
    /// Level; last frame, id and frames of each child.
    RefsChildren(u8, Vec<(FrameId, ChunkId, u64)>),
}

fn reading(value: NodeValue, is_canonical: Option<bool>) -> Result<Reading> {
    Ok(Reading { value: Decoded::Node(value), object: None, is_canonical })
}

pub(super) fn tree(bytes: &[u8], key_kind: KeyKind, level: Option<u8>) -> Result<Reading> {
    match decode_tree_node(bytes.into(), level, key_kind)? {
        TreeNode::Leaf(leaf) => {
            let entries = keep(*leaf)?;
            let written = entries.as_ref().filter(|_| !has_unknown_columns(bytes)).map(|entries| encode_tree_leaf(entries));
            reading(NodeValue::Entries(entries, None), written.map(|written| written == bytes))
        }
        TreeNode::Inner(inner) => {
            let level = inner.facts().level;
            let children: Vec<_> = inner.collect();
            let is_canonical = Some(encode_tree_inner(level, &children) == bytes);
            let told = children.into_iter().map(|child| (child.last_key, child.id, child.entries, child.file_bytes));
            reading(NodeValue::TreeChildren(level, told.collect()), is_canonical)
        }
    }
}

/// A leaf of these entries, which nobody checks.
pub fn tree_leaf(entries: &[Entry]) -> Vec<u8> {
    encode_tree_leaf(entries)
}

/// All entries, if they do not take too much memory.
fn keep(entries: impl Iterator<Item = Result<Entry>>) -> Result<Option<Vec<Entry>>> {
    let (mut kept, mut weight) = (Some(Vec::new()), 0);
    for entry in entries {
        let entry = entry?;
        let attributes: usize = entry.metadata.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        weight += entry.key.len() + attributes + entry.metadata.user.len() + entry.metadata.group.len();
        match &mut kept {
            Some(entries) if weight <= ENTRY_BYTES_KEPT => entries.push(entry),
            _ => kept = None,
        }
    }
    Ok(kept)
}

/// Whether a leaf that was found right has columns that only a newer writer knows.
fn has_unknown_columns(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes.get(2..).unwrap_or_default());
    let columns = reader.varint().and_then(|_| reader.varint()).unwrap_or_default();
    (0..columns).any(|_| {
        let tag = reader.varint().unwrap_or_default();
        let _ = reader.blob();
        !(1..COLUMNS_END).contains(&(tag / 2))
    })
}

pub(super) fn recipe(bytes: &[u8], level: Option<u8>) -> Result<Reading> {
    match decode_recipe_node(bytes, level)? {
        RecipeNode::Leaf(chunks) => {
            let is_canonical = Some(encode_recipe_leaf(&chunks) == bytes);
            reading(NodeValue::Chunks(chunks), is_canonical)
        }
        RecipeNode::Inner(level, children) => {
            let is_canonical = Some(encode_recipe_inner(level, &children) == bytes);
            let told = children.into_iter().map(|child| (child.id, child.chunks, child.bytes));
            reading(NodeValue::RecipeChildren(level, told.collect()), is_canonical)
        }
    }
}

pub(super) fn refs(bytes: &[u8], level: Option<u8>) -> Result<Reading> {
    match decode_refs_node(bytes, level)? {
        RefsNode::Leaf(frames) => {
            let is_canonical = Some(encode_refs_leaf(&frames) == bytes);
            reading(NodeValue::Frames(frames), is_canonical)
        }
        RefsNode::Inner(level, children) => {
            let is_canonical = Some(encode_refs_inner(level, &children) == bytes);
            let told = children.into_iter().map(|child| (child.last, child.id, child.frames));
            reading(NodeValue::RefsChildren(level, told.collect()), is_canonical)
        }
    }
}

pub(super) fn tree_walk(keys: &Keys, bytes: &[u8], key_kind: KeyKind, root: &ChunkId) -> Result<Reading> {
    let nodes = Nodes::split(keys, bytes)?;
    let walk = TreeWalk::new(&nodes, root, key_kind, KeyRange::all())?;
    let file_bytes = walk.root().file_bytes;
    let linked = walk.map(|entry| {
        let entry = entry?;
        if let EntryKind::HardLink(link) = &entry.kind {
            check_link(&nodes, root, key_kind, &entry.key, link)?;
        }
        Ok(entry)
    });
    reading(NodeValue::Entries(keep(linked)?, Some(file_bytes)), None)
}

pub(super) fn recipe_walk(keys: &Keys, bytes: &[u8], root: &ChunkId, data_bytes: u64) -> Result<Reading> {
    let nodes = Nodes::split(keys, bytes)?;
    let chunks = RecipeWalk::new(&nodes, root, data_bytes, 0)?.map(|chunk| chunk.map(|(_, chunk)| chunk));
    reading(NodeValue::Chunks(chunks.collect::<Result<_>>()?), None)
}

pub(super) fn refs_walk(keys: &Keys, bytes: &[u8], root: &ChunkId) -> Result<Reading> {
    let nodes = Nodes::split(keys, bytes)?;
    reading(NodeValue::Frames(RefsWalk::new(&nodes, root)?.collect::<Result<_>>()?), None)
}

/// Nodes in memory.
#[derive(Debug)]
struct Nodes {
    ids: ChunkIds,
    nodes: Vec<Arc<[u8]>>,
}

impl Nodes {
    /// Takes apart what has the form of a frame's plaintext.
    fn split(keys: &Keys, bytes: &[u8]) -> Result<Self> {
        Ok(Self { ids: keys.ids.clone(), nodes: keys.split(bytes)?.into_iter().map(Arc::from).collect() })
    }
}

impl NodeSource for Nodes {
    fn load(&self, kind: NodeKind, id: &ChunkId) -> Result<Arc<[u8]>> {
        for node in &self.nodes {
            if self.ids.id_of(ChunkKind::from(kind), node)? == *id {
                return Ok(Arc::clone(node));
            }
        }
        Err(Error::new(ErrorKind::NotFound, format!("no {kind} node {id}")))
    }
}

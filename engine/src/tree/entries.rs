//! Trees of entries: built, walked, searched.

use super::descent::{Descent, Wanted};
use super::family::{Family, Node};
use super::levels::{Levels, WEIGHT_MAX, ends_node};
use super::{KeyRange, NodeKind, NodeSink, NodeSource, WalkCounters};
use crate::entry::{ChunkList, Entry, EntryKind, Key, KeyKind, is_below};
use crate::error::{Error, ErrorKind, Result};
use crate::format::tree::{TreeChild, TreeInner, TreeLeaf, TreeNode, decode_tree_node, encode_tree_inner, encode_tree_leaf};
use crate::id::ChunkId;
use crate::limits::NODE_SIZE_MAX;
use std::sync::Arc;

/// Entries of this weight are checked one by one, so that the error names them.
const HEAVY: usize = 65_536;

/// A tree as a snapshot knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeRoot {
    /// The root node.
    pub id: ChunkId,
    /// Entries in the tree.
    pub entries: u64,
    /// Sizes of all files, holes included, modulo 2^64.
    pub file_bytes: u64,
}

/// Builds a tree from entries in ascending order of their keys.
#[derive(Debug)]
pub struct TreeBuilder {
    order: Order,
    open: Vec<Entry>,
    weight: usize,
    levels: Levels<Entries>,
}

impl TreeBuilder {
    /// Starts a tree. `boundary_key` is what decides where nodes end: `derive("icecore 1 tree boundary", chunk-id key)`.
    pub fn new(boundary_key: [u8; 32], key_kind: KeyKind) -> Self {
        Self { order: Order::new(key_kind), open: Vec::new(), weight: 0, levels: Levels::new(Entries { boundary_key, key_kind }) }
    }

    /// Takes the next entry.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where the entry is not above the one before, stands below one that is no folder, or is one that
    /// [`check_entry`] refuses (of light entries this may show only some entries later); and whatever the sink fails with.
    pub fn push(&mut self, entry: Entry, sink: &mut dyn NodeSink) -> Result<()> {
        let key_kind = self.levels.family.key_kind;
        self.order.check_ascending(&entry.key)?;
        self.order.check_parent(&entry.key, entry.kind == EntryKind::Folder).map_err(|error| error.with_kind(ErrorKind::Invalid))?;
        let weight = entry_weight(&entry);
        if weight >= HEAVY {
            check_entry(&entry, key_kind)?;
        }
        self.weight += weight;
        let ends = self.levels.family.ends(0, &entry.key, self.open.len() + 1, self.weight);
        self.open.push(entry);
        if ends { self.end_leaf(sink) } else { Ok(()) }
    }

    /// Ends the tree.
    ///
    /// # Errors
    /// As [`Self::push`], and [`ErrorKind::Invalid`] where there was no entry.
    pub fn finish(mut self, sink: &mut dyn NodeSink) -> Result<TreeRoot> {
        if !self.open.is_empty() {
            self.end_leaf(sink)?;
        }
        match self.levels.finish(sink)? {
            Some(root) => Ok(root.into()),
            None => Err(Error::new(ErrorKind::Invalid, "a tree needs at least one entry")),
        }
    }

    fn end_leaf(&mut self, sink: &mut dyn NodeSink) -> Result<()> {
        let bytes = encode_tree_leaf(&self.open);
        let leaf = checked_leaf(&bytes, self.levels.family.key_kind).map_err(|error| {
            let keys = [self.open.first(), self.open.last()].map(|entry| entry.map_or(&[][..], |entry| &entry.key).escape_ascii());
            error.context(format!("an entry from `{}` to `{}`", keys[0], keys[1]))
        })?;
        let facts = leaf.facts();
        let child = TreeChild {
            last_key: facts.last_key.clone(),
            entries: facts.entries,
            file_bytes: facts.file_bytes,
            id: sink.store(NodeKind::Tree, bytes)?,
        };
        self.open.clear();
        self.weight = 0;
        self.levels.push(child, sink)
    }
}

/// Whether a tree can hold the entry: what readers would refuse is refused here.
///
/// # Errors
/// [`ErrorKind::Invalid`] with the rule of the format that the entry breaks.
pub fn check_entry(entry: &Entry, key_kind: KeyKind) -> Result<()> {
    let name = || format!("`{}`", entry.key.escape_ascii());
    let bytes = encode_tree_leaf(std::slice::from_ref(entry));
    checked_leaf(&bytes, key_kind).map_err(|error| error.context(name()))?;
    // Such an entry fits into a node that was about to end.
    let size_max = NODE_SIZE_MAX - WEIGHT_MAX;
    match bytes.len() <= size_max {
        true => Ok(()),
        false => {
            let message = format!("{}: names, attributes and holes take {} bytes, at most {size_max} can be stored", name(), bytes.len());
            Err(Error::new(ErrorKind::Invalid, message))
        }
    }
}

fn checked_leaf(bytes: &[u8], key_kind: KeyKind) -> Result<Box<TreeLeaf>> {
    match decode_tree_node(bytes.into(), Some(0), key_kind) {
        Ok(TreeNode::Leaf(leaf)) => Ok(leaf),
        Ok(TreeNode::Inner(_)) => Err(Error::new(ErrorKind::Internal, "a leaf was written as an inner node")),
        Err(error) => Err(error.with_kind(ErrorKind::Invalid)),
    }
}

/// About how many bytes an entry takes.
pub(crate) fn entry_weight(entry: &Entry) -> usize {
    let of_kind = match &entry.kind {
        EntryKind::Symlink(target) => target.len(),
        EntryKind::HardLink(link) => link.len(),
        EntryKind::File(file) => {
            let chunks = match &file.chunks {
                ChunkList::Inline(chunks) => chunks.len(),
                ChunkList::Recipe(_) => 0,
            };
            chunks * 40 + file.holes.len() * 16
        }
        _ => 0,
    };
    let metadata = &entry.metadata;
    let attributes: usize = metadata.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    64 + entry.key.len() + metadata.user.len() + metadata.group.len() + attributes + of_kind
}

/// Gives the entries of a tree in order, or those of a range; opens only nodes that may hold some of them.
#[derive(Debug)]
pub struct TreeWalk<'a> {
    descent: Descent<'a, Entries>,
    range: KeyRange,
    order: Order,
    leaf: Option<Box<TreeLeaf>>,
    is_done: bool,
}

impl<'a> TreeWalk<'a> {
    /// Opens the root.
    ///
    /// # Errors
    /// Whatever the source fails with, and a rule of the format that the root breaks.
    pub fn new(source: &'a dyn NodeSource, root: &ChunkId, key_kind: KeyKind, range: KeyRange) -> Result<Self> {
        let descent = Descent::new(Entries::reading(key_kind), source, root)?;
        Ok(Self { descent, range, order: Order::new(key_kind), leaf: None, is_done: false })
    }

    /// What the root says of the whole tree.
    pub fn root(&self) -> TreeRoot {
        self.descent.root.clone().into()
    }

    /// What was read so far.
    pub fn counters(&self) -> WalkCounters {
        self.descent.counters
    }

    /// After an error, goes on behind the node that is damaged or missing: what lies below it is left out. The walk still ends,
    /// since every error uses up a node or an entry.
    pub fn skip_damage(&mut self) {
        self.is_done = false;
    }

    fn read_next(&mut self) -> Result<Option<Entry>> {
        let range = &self.range;
        loop {
            if let Some(leaf) = &mut self.leaf
                && let Some(entry) = leaf.next_from(&range.start, |key, is_folder| self.order.check_parent(key, is_folder))?
            {
                self.order.check_parent(&entry.key, entry.kind == EntryKind::Folder)?;
                if range.is_past(&entry.key) {
                    return Ok(None);
                }
                self.descent.counters.items += 1;
                return Ok(Some(entry));
            }
            let wanted = |place: &Option<Key>, child: &TreeChild| match place {
                _ if child.last_key < range.start => Wanted::Skip,
                Some(before) if range.ends_after(before) => Wanted::Stop,
                _ => Wanted::Open,
            };
            self.leaf = match self.descent.next_leaf(wanted)? {
                Some((_, leaf)) => Some(leaf),
                None => return Ok(None),
            };
        }
    }
}

impl Iterator for TreeWalk<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let next = self.read_next().transpose();
        self.is_done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// The entry with this key.
///
/// # Errors
/// As for a walk; no entry is no error.
pub fn find_entry(source: &dyn NodeSource, root: &ChunkId, key_kind: KeyKind, key: &[u8]) -> Result<Option<Entry>> {
    TreeWalk::new(source, root, key_kind, KeyRange::exactly(key))?.next().transpose()
}

/// What one entry must be to the one before.
#[derive(Debug)]
pub(super) struct Order {
    key_kind: KeyKind,
    before: Option<Key>,
    is_folder: bool,
}

impl Order {
    pub(super) fn new(key_kind: KeyKind) -> Self {
        Self { key_kind, before: None, is_folder: false }
    }

    fn check_ascending(&self, key: &[u8]) -> Result<()> {
        match &self.before {
            Some(before) if before.as_slice() >= key => {
                let message = format!("entry `{}` came after `{}`; keys must ascend", key.escape_ascii(), before.escape_ascii());
                Err(Error::new(ErrorKind::Invalid, message))
            }
            _ => Ok(()),
        }
    }

    /// TREE-17. What lies below an entry follows it directly, so it is enough to know the entry before.
    pub(super) fn check_parent(&mut self, key: &[u8], is_folder: bool) -> Result<()> {
        if let Some(before) = self.before.as_ref().filter(|_| self.key_kind == KeyKind::Paths && !self.is_folder)
            && is_below(key, before)
        {
            let message = format!("`{}` is no folder, `{}` is below it", before.escape_ascii(), key.escape_ascii());
            return Err(Error::rule("TREE-17", message));
        }
        let before = self.before.get_or_insert_default();
        before.clear();
        before.extend_from_slice(key);
        self.is_folder = is_folder;
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Entries {
    boundary_key: [u8; 32],
    key_kind: KeyKind,
}

impl Entries {
    /// For whoever only reads: where nodes end does not matter then.
    pub(super) fn reading(key_kind: KeyKind) -> Self {
        Self { boundary_key: [0; 32], key_kind }
    }

    fn ends(&self, level: u8, key: &[u8], count: usize, weight: usize) -> bool {
        let hash = || *blake3::Hasher::new_keyed(&self.boundary_key).update(&[level]).update(key).finalize().as_bytes();
        ends_node(count, weight, hash)
    }
}

impl Family for Entries {
    const KIND: NodeKind = NodeKind::Tree;
    type Child = TreeChild;
    type Leaf = Box<TreeLeaf>;
    type Inner = TreeInner;
    /// The last key before.
    type Place = Option<Key>;

    fn encode_inner(level: u8, children: &[TreeChild]) -> Vec<u8> {
        encode_tree_inner(level, children)
    }

    fn sum(id: ChunkId, children: &[TreeChild]) -> TreeChild {
        TreeChild {
            last_key: children.last().map(|child| child.last_key.clone()).unwrap_or_default(),
            id,
            entries: children.iter().map(|child| child.entries).sum(),
            file_bytes: children.iter().fold(0, |sum, child| sum.wrapping_add(child.file_bytes)),
        }
    }

    fn ends_after(&self, level: u8, child: &TreeChild, count: usize, weight: usize) -> bool {
        self.ends(level, &child.last_key, count, weight)
    }

    fn weight(child: &TreeChild) -> usize {
        64 + child.last_key.len()
    }

    fn decode(&self, id: ChunkId, bytes: Arc<[u8]>, level_expected: Option<u8>) -> Result<(Node<Self>, TreeChild)> {
        Ok(match decode_tree_node(bytes, level_expected, self.key_kind)? {
            TreeNode::Leaf(leaf) => {
                let facts = leaf.facts();
                let last_key = facts.last_key.clone();
                let found = TreeChild { last_key, id, entries: facts.entries, file_bytes: facts.file_bytes };
                (Node::Leaf(leaf), found)
            }
            TreeNode::Inner(inner) => {
                let facts = inner.facts();
                let last_key = facts.last_key.clone();
                let found = TreeChild { last_key, id, entries: facts.entries, file_bytes: facts.file_bytes };
                (Node::Inner(facts.level, inner), found)
            }
        })
    }

    fn id(child: &TreeChild) -> ChunkId {
        child.id
    }

    fn after(_: &Option<Key>, child: &TreeChild) -> Option<Key> {
        Some(child.last_key.clone())
    }

    fn check(place: &Option<Key>, claim: Option<&TreeChild>, node: &Node<Self>, found: &TreeChild) -> Result<()> {
        if claim.is_some_and(|claim| claim != found) {
            return Err(Error::rule("TREE-16", "last key, entries or file bytes are not as the child has them"));
        }
        match (place, node) {
            (Some(before), Node::Leaf(leaf)) if leaf.facts().first_key <= *before => {
                Err(Error::rule("TREE-16", format!("a key of the child is not above `{}`", before.escape_ascii())))
            }
            _ => Ok(()),
        }
    }
}

impl From<TreeChild> for TreeRoot {
    fn from(root: TreeChild) -> Self {
        Self { id: root.id, entries: root.entries, file_bytes: root.file_bytes }
    }
}

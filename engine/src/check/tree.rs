//! Trees: every node once, and for every snapshot that every chunk stands in a frame that its refs name.
//!
//! A leaf that was found right is remembered with the chunks that it needs: the next snapshot that has it need not read it
//! again, if its refs name these chunks too.

use super::links::{Link, Links};
use super::snapshots::SnapshotCheck;
use super::uses::{Used, Uses};
use crate::entry::{ChunkList, Entry, EntryKind, FileContent, Key, KeyKind, is_below};
use crate::error::{Error, Result};
use crate::format::snapshot::{SnapshotBody, SnapshotHeader};
use crate::format::tree::{TreeChild, TreeNode, decode_tree_node};
use crate::id::ChunkId;
use crate::tree::NodeKind;
use std::collections::{HashMap, HashSet};

/// Bytes of nodes remembered; more are read again.
const MEMO_BYTES_MAX: usize = 48 << 20;

/// What is remembered of nodes that are right. Ids are cut in half, which leaves 128 bits.
#[derive(Debug, Default)]
pub(super) struct Memo {
    leaves: HashMap<[u8; 16], SeenLeaf>,
    pub(super) recipes: HashMap<[u8; 16], SeenRecipe>,
    bytes: usize,
}

/// A leaf of a tree.
#[derive(Debug, Clone)]
struct SeenLeaf {
    first_key: Key,
    last_key: Key,
    last_is_folder: bool,
    entries: u64,
    file_bytes: u64,
    uses: Uses,
    links: Box<[Link]>,
}

/// A node of a recipe.
#[derive(Debug, Clone)]
pub(super) struct SeenRecipe {
    pub(super) level: u8,
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    pub(super) uses: Uses,
}

impl Memo {
    /// Whether there is room for a node with so many bytes; counts them.
    pub(super) fn take_room(&mut self, bytes: usize) -> bool {
        let size = 200 + bytes;
        let fits = self.bytes + size <= MEMO_BYTES_MAX;
        if fits {
            self.bytes += size;
        }
        fits
    }

    /// The key under which a node is remembered.
    pub(super) fn key(id: &ChunkId) -> [u8; 16] {
        let mut key = [0; 16];
        key.copy_from_slice(&id.0[..16]);
        key
    }
}

/// One walk of a tree.
struct Walk<'w, 'a> {
    check: &'w mut SnapshotCheck<'a>,
    memo: &'w mut Memo,
    key_kind: KeyKind,
    /// The last entry before, and whether it is a folder.
    before: Option<(Key, bool)>,
    /// Inner nodes that were opened. None can stand twice in a tree whose keys ascend; without this a hostile one could keep us for ever.
    inner: HashSet<ChunkId>,
    links: Links,
}

/// What a node turned out to be.
struct Found {
    last_key: Key,
    entries: u64,
    file_bytes: u64,
}

impl SnapshotCheck<'_> {
    /// Walks the tree, and compares what the header says of it.
    pub(super) fn check_tree(&mut self, header: &SnapshotHeader, body: &SnapshotBody, memo: &mut Memo) -> Result<()> {
        let key_kind = if body.keys_are_paths { KeyKind::Paths } else { KeyKind::Objects };
        let mut walk =
            Walk { check: self, memo, key_kind, before: None, inner: HashSet::new(), links: Links::new(body.tree_root, key_kind) };
        let found = walk.node(&body.tree_root, None, None, (b"", header.entries))?;
        walk.links.look_up(walk.check)?;
        if let Some(found) = found
            && (found.entries, found.file_bytes) != (header.entries, header.file_bytes)
        {
            let message = format!(
                "its header tells of {} entries with {} bytes, its tree of {} with {}",
                header.entries, header.file_bytes, found.entries, found.file_bytes
            );
            self.accuse(&Error::new(crate::ErrorKind::Damaged, message), b"", 0);
        }
        Ok(())
    }
}

impl Walk<'_, '_> {
    /// Checks a node and what is below it. `range` tells who suffers where it is lost: last key and number of entries.
    /// `None` where it is lost. Levels sink by one from parent to child, so this comes to an end.
    fn node(&mut self, id: &ChunkId, level: Option<u8>, claim: Option<&TreeChild>, range: (&[u8], u64)) -> Result<Option<Found>> {
        if let Some(seen) = self.seen(id, level) {
            let found = Found { last_key: seen.last_key, entries: seen.entries, file_bytes: seen.file_bytes };
            if let Some(claim) = claim {
                self.check_claim(id, claim, &found);
            }
            self.check_first(&seen.first_key);
            self.before = Some((found.last_key.clone(), seen.last_is_folder));
            self.links.extend(&seen.links, self.check)?;
            return Ok(Some(found));
        }
        let (place, bytes) = match self.check.load(NodeKind::Tree, id)? {
            Ok(loaded) => loaded,
            Err(finding) => {
                self.check.hurt(finding, range.0, range.1);
                self.before = claim.map(|claim| (claim.last_key.clone(), true));
                return Ok(None);
            }
        };
        let mut used = Used::default();
        self.check.note_use(place, &mut used, range);
        let node = match decode_tree_node(bytes, level, self.key_kind) {
            Ok(node) => node,
            Err(error) => {
                self.check.accuse(&error.context(format!("tree node {id}")), range.0, range.1);
                self.before = claim.map(|claim| (claim.last_key.clone(), true));
                return Ok(None);
            }
        };
        let found = match node {
            TreeNode::Leaf(leaf) => {
                let facts = leaf.facts().clone();
                self.check_first(&facts.first_key);
                let mut links = Vec::new();
                for entry in leaf {
                    self.entry(&entry?, &mut used, &mut links)?;
                }
                self.links.extend(&links, self.check)?;
                let last_is_folder = self.before.as_ref().is_some_and(|(_, is_folder)| *is_folder);
                let found = Found { last_key: facts.last_key.clone(), entries: facts.entries, file_bytes: facts.file_bytes };
                self.remember(id, &facts.first_key, &found, last_is_folder, used, links);
                found
            }
            TreeNode::Inner(inner) => {
                let facts = inner.facts().clone();
                if !self.inner.insert(*id) {
                    self.check.accuse(&Error::rule("TREE-16", format!("tree node {id} stands twice in one tree")), range.0, range.1);
                    return Ok(None);
                }
                for child in inner {
                    self.node(&child.id, Some(facts.level - 1), Some(&child), (&child.last_key, child.entries))?;
                }
                Found { last_key: facts.last_key, entries: facts.entries, file_bytes: facts.file_bytes }
            }
        };
        if let Some(claim) = claim {
            self.check_claim(id, claim, &found);
        }
        Ok(Some(found))
    }

    fn seen(&self, id: &ChunkId, level: Option<u8>) -> Option<SeenLeaf> {
        let seen = self.memo.leaves.get(&Memo::key(id)).filter(|_| level.is_none_or(|level| level == 0))?;
        self.check.allowed.cover(&seen.uses).then(|| seen.clone())
    }

    fn remember(&mut self, id: &ChunkId, first_key: &[u8], found: &Found, last_is_folder: bool, used: Used, links: Vec<Link>) {
        // Keys of the other kind keep other rules, so only the common kind is remembered.
        let Some(uses) = used.finish().filter(|_| self.key_kind == KeyKind::Paths) else { return };
        let links_size: usize = links.iter().map(Link::size).sum();
        if self.memo.take_room(first_key.len() + found.last_key.len() + uses.size() + links_size) {
            let seen = SeenLeaf {
                first_key: first_key.to_vec(),
                last_key: found.last_key.clone(),
                last_is_folder,
                entries: found.entries,
                file_bytes: found.file_bytes,
                uses,
                links: links.into(),
            };
            self.memo.leaves.insert(Memo::key(id), seen);
        }
    }

    /// TREE-16, of one child.
    fn check_claim(&mut self, id: &ChunkId, claim: &TreeChild, found: &Found) {
        if (&claim.last_key, claim.entries, claim.file_bytes) != (&found.last_key, found.entries, found.file_bytes) {
            let error = Error::rule("TREE-16", format!("tree node {id} is not as its parent says"));
            self.check.accuse(&error, &found.last_key, found.entries);
        }
    }

    /// TREE-16 and TREE-17 between two leaves.
    fn check_first(&mut self, first_key: &[u8]) {
        let Some((before, is_folder)) = &self.before else { return };
        let error = if before.as_slice() >= first_key {
            Error::rule("TREE-16", format!("a key of a child is not above `{}`", before.escape_ascii()))
        } else if self.key_kind == KeyKind::Paths && !is_folder && is_below(first_key, before) {
            Error::rule("TREE-17", format!("`{}` is no folder, and something is below it", before.escape_ascii()))
        } else {
            return;
        };
        self.check.accuse(&error, first_key, 1);
    }

    fn entry(&mut self, entry: &Entry, used: &mut Used, links: &mut Vec<Link>) -> Result<()> {
        // Ascending keys within a leaf were checked when it was opened; this finds what lies below something that is no folder.
        if let Some((before, false)) = &self.before
            && self.key_kind == KeyKind::Paths
            && is_below(&entry.key, before)
        {
            let error = Error::rule("TREE-17", format!("`{}` is no folder, and something is below it", before.escape_ascii()));
            used.is_partial = true;
            self.check.accuse(&error, &entry.key, 1);
        }
        self.before = Some((entry.key.clone(), entry.kind == EntryKind::Folder));
        match &entry.kind {
            EntryKind::File(file) => self.file(&entry.key, file, used),
            EntryKind::HardLink(target) => {
                links.push(Link { target: target.clone(), key: entry.key.clone() });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn file(&mut self, key: &[u8], file: &FileContent, used: &mut Used) -> Result<()> {
        match &file.chunks {
            ChunkList::Inline(chunks) => {
                for chunk in chunks {
                    self.check.data_chunk(chunk, "TREE-13", key, used)?;
                }
            }
            ChunkList::Recipe(root) => {
                let holes = file.holes.iter().fold(0_u64, |sum, (_, length)| sum.saturating_add(*length));
                self.check.recipe(root, file.size.saturating_sub(holes), key, self.memo, used)?;
            }
        }
        Ok(())
    }
}

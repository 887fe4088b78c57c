//! Hard links: each must lead to an entry of the same tree that can be linked to (TREE-15).
//!
//! Links are collected while the tree is walked and looked up many at a time, in the order of where they lead, so that every node is opened
//! once for them all.

use super::snapshots::SnapshotCheck;
use crate::entry::{EntryKind, Key, KeyKind};
use crate::error::{Error, Result};
use crate::format::tree::{TreeNode, decode_tree_node};
use crate::id::ChunkId;
use crate::tree::NodeKind;

/// Bytes of links after which they are looked up.
const BYTES_MAX: usize = 8 << 20;

/// A hard link.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Link {
    pub(super) target: Key,
    pub(super) key: Key,
}

impl Link {
    /// Bytes of memory.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.target.len() + self.key.len()
    }
}

/// Links of one tree that were not looked up yet.
#[derive(Debug)]
pub(super) struct Links {
    root: ChunkId,
    key_kind: KeyKind,
    links: Vec<Link>,
    bytes: usize,
}

impl Links {
    pub(super) fn new(root: ChunkId, key_kind: KeyKind) -> Self {
        Self { root, key_kind, links: Vec::new(), bytes: 0 }
    }

    /// Takes links in, and looks all of them up when they are many.
    pub(super) fn extend(&mut self, links: &[Link], check: &mut SnapshotCheck<'_>) -> Result<()> {
        self.bytes += links.iter().map(Link::size).sum::<usize>();
        self.links.extend_from_slice(links);
        if self.bytes > BYTES_MAX { self.look_up(check) } else { Ok(()) }
    }

    /// Looks up what was collected.
    pub(super) fn look_up(&mut self, check: &mut SnapshotCheck<'_>) -> Result<()> {
        let mut links = std::mem::take(&mut self.links);
        self.bytes = 0;
        links.sort_unstable();
        if links.is_empty() { Ok(()) } else { self.below(&self.root, None, &links, check) }
    }

    /// Looks for the targets below a node. A node that cannot be had was said before; what lies below it is not known. Levels sink.
    fn below(&self, id: &ChunkId, level: Option<u8>, mut links: &[Link], check: &mut SnapshotCheck<'_>) -> Result<()> {
        let Ok((_, bytes)) = check.load(NodeKind::Tree, id)? else { return Ok(()) };
        match decode_tree_node(bytes, level, self.key_kind) {
            Ok(TreeNode::Inner(inner)) => {
                let level = inner.facts().level - 1;
                for child in inner {
                    let (here, rest) = links.split_at(links.partition_point(|link| link.target <= child.last_key));
                    if !here.is_empty() {
                        self.below(&child.id, Some(level), here, check)?;
                    }
                    links = rest;
                }
            }
            Ok(TreeNode::Leaf(leaf)) => {
                for entry in leaf {
                    let entry = entry?;
                    let (absent, rest) = links.split_at(links.partition_point(|link| link.target < entry.key));
                    accuse(absent, "is not there", check);
                    let (here, rest) = rest.split_at(rest.partition_point(|link| link.target == entry.key));
                    if matches!(entry.kind, EntryKind::Folder | EntryKind::HardLink(_)) {
                        accuse(here, "is a folder or itself a link", check);
                    }
                    links = rest;
                }
            }
            Err(_) => return Ok(()),
        }
        accuse(links, "is not there", check);
        Ok(())
    }
}

fn accuse(links: &[Link], what: &str, check: &SnapshotCheck<'_>) {
    for link in links {
        let message = format!("`{}` links to `{}`, which {what}", link.key.escape_ascii(), link.target.escape_ascii());
        check.accuse(&Error::rule("TREE-15", message), &link.key, 1);
    }
}

//! Tree nodes: the entries of a snapshot, sorted by key (`format-spec/tree.md`).

mod columns;
mod inner;
mod leaf;
mod leaf_encode;
#[cfg(test)]
mod tests;

pub(crate) use inner::{TreeChild, TreeInner, encode_tree_inner};
pub(crate) use leaf::TreeLeaf;
pub(crate) use leaf_encode::encode_tree_leaf;

use super::cursor::Reader;
use super::node;
use crate::entry::KeyKind;
use crate::error::{Error, Result};
use crate::limits::NODE_SIZE_MAX;
use std::sync::Arc;

const LEAF: u8 = 1;

/// A node of a tree, checked.
#[derive(Debug, Clone)]
pub(crate) enum TreeNode {
    /// Entries.
    Leaf(Box<TreeLeaf>),
    /// Children.
    Inner(TreeInner),
}

/// Opens a node, whose level must be the expected one where one is expected: TREE-1 to TREE-15.
pub(crate) fn decode_tree_node(bytes: Arc<[u8]>, level_expected: Option<u8>, key_kind: KeyKind) -> Result<TreeNode> {
    let mut reader = Reader::new(&bytes);
    let level = node::read_head(&mut reader, LEAF, level_expected, "TREE-1")?;
    if bytes.len() > NODE_SIZE_MAX {
        return Err(Error::rule("TREE-2", format!("a node of {} bytes, expected at most {NODE_SIZE_MAX}", bytes.len())));
    }
    let at = bytes.len() - reader.remaining();
    match level {
        0 => TreeLeaf::open(bytes, at, key_kind).map(Box::new).map(TreeNode::Leaf),
        _ => TreeInner::open(bytes, at, level, key_kind).map(TreeNode::Inner),
    }
}

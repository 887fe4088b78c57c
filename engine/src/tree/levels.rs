//! The inner nodes above a row of leaves.

use super::NodeSink;
use super::family::Family;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::{NODE_ITEMS_MAX, NODE_LEVEL_MAX};

/// Items that a node has at least, unless it is the last of its level or its items are heavy.
const ITEMS_MIN: usize = 256;
/// One item in so many ends a node that has enough.
const ITEMS_PER_BORDER: u64 = 1_024;
/// Items of this weight together end a node.
pub(super) const WEIGHT_MAX: usize = 524_288;

/// Whether a node of `count` items that weigh `weight` ends after the item to which `hash` belongs.
pub(super) fn ends_node(count: usize, weight: usize, hash: impl FnOnce() -> [u8; 32]) -> bool {
    let is_border = || hash().first_chunk().is_some_and(|first| u64::from_le_bytes(*first) % ITEMS_PER_BORDER == 0);
    count >= NODE_ITEMS_MAX || weight >= WEIGHT_MAX || (count >= ITEMS_MIN && is_border())
}

/// Builds inner nodes: one that is open for each level.
#[derive(Debug)]
pub(super) struct Levels<F: Family> {
    pub(super) family: F,
    /// The open nodes of level 1 and up.
    open: Vec<Open<F>>,
}

#[derive(Debug)]
struct Open<F: Family> {
    children: Vec<F::Child>,
    weight: usize,
}

impl<F: Family> Levels<F> {
    pub(super) fn new(family: F) -> Self {
        Self { family, open: Vec::new() }
    }

    /// Takes the next leaf.
    pub(super) fn push(&mut self, leaf: F::Child, sink: &mut dyn NodeSink) -> Result<()> {
        self.push_at(0, leaf, sink)
    }

    /// Ends all nodes and returns the root, which is the only node of its level; `None` where there was no leaf.
    pub(super) fn finish(mut self, sink: &mut dyn NodeSink) -> Result<Option<F::Child>> {
        let mut index = 0;
        while let Some(open) = self.open.get_mut(index) {
            let children = open.children.len();
            // A node that ends always leaves a child above it, so that the top has at least one.
            if index + 1 == self.open.len() && children == 1 {
                return Ok(self.open.pop().and_then(|mut top| top.children.pop()));
            }
            if children > 0 {
                self.end(index, sink)?;
            }
            index += 1;
        }
        Ok(None)
    }

    fn push_at(&mut self, index: usize, child: F::Child, sink: &mut dyn NodeSink) -> Result<()> {
        if index == self.open.len() {
            self.open.push(Open { children: Vec::new(), weight: 0 });
        }
        let Some(open) = self.open.get_mut(index) else {
            return Err(Error::new(ErrorKind::Internal, format!("no node is open at level {index}")));
        };
        open.weight += F::weight(&child);
        let ends = self.family.ends_after(index as u8 + 1, &child, open.children.len() + 1, open.weight);
        open.children.push(child);
        if ends { self.end(index, sink) } else { Ok(()) }
    }

    fn end(&mut self, index: usize, sink: &mut dyn NodeSink) -> Result<()> {
        let level = match u8::try_from(index + 1) {
            Ok(level) if level <= NODE_LEVEL_MAX => level,
            _ => return Err(Error::new(ErrorKind::Invalid, format!("too many items for a tree of {NODE_LEVEL_MAX} levels"))),
        };
        let Some(open) = self.open.get_mut(index) else { return Ok(()) };
        let children = std::mem::take(&mut open.children);
        open.weight = 0;
        let id = sink.store(F::KIND, F::encode_inner(level, &children))?;
        self.push_at(index + 1, F::sum(id, &children), sink)
    }
}

//! The way from a root down to its leaves.

use super::family::{Family, Node};
use super::{NodeSource, WalkCounters};
use crate::error::Result;
use crate::id::ChunkId;

/// What to do with a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Open,
    Skip,
    /// Neither this one nor any after it.
    Stop,
}

/// Opens leaves in order, holding one node for each level. What an inner node says of a child is compared with the child.
///
/// Levels sink by one from parent to child, so a descent ends, whatever the nodes say.
#[derive(Debug)]
pub(super) struct Descent<'a, F: Family> {
    source: &'a dyn NodeSource,
    family: F,
    /// What the root turned out to be.
    pub(super) root: F::Child,
    /// A root that is a leaf.
    only_leaf: Option<F::Leaf>,
    inner: Vec<Step<F>>,
    pub(super) counters: WalkCounters,
}

/// An inner node, and the place of its next child.
#[derive(Debug)]
struct Step<F: Family> {
    id: ChunkId,
    level: u8,
    children: F::Inner,
    place: F::Place,
}

impl<'a, F: Family> Descent<'a, F> {
    pub(super) fn new(family: F, source: &'a dyn NodeSource, root: &ChunkId) -> Result<Self> {
        let mut counters = WalkCounters::default();
        let place = F::Place::default();
        let (node, found) = open(&family, source, &mut counters, root, None)?;
        F::check(&place, None, &node, &found).map_err(|error| error.context(format!("{} node {root}", F::KIND)))?;
        let (only_leaf, inner) = match node {
            Node::Leaf(leaf) => (Some(leaf), Vec::new()),
            Node::Inner(level, children) => (None, vec![Step { id: *root, level, children, place }]),
        };
        Ok(Self { source, family, root: found, only_leaf, inner, counters })
    }

    /// Opens the next leaf of those that are wanted, with its place.
    pub(super) fn next_leaf(&mut self, wanted: impl Fn(&F::Place, &F::Child) -> Wanted) -> Result<Option<(F::Place, F::Leaf)>> {
        if let Some(leaf) = self.only_leaf.take() {
            return Ok(Some((F::Place::default(), leaf)));
        }
        while let Some(parent) = self.inner.last_mut() {
            let Some(claim) = parent.children.next() else {
                self.inner.pop();
                continue;
            };
            let after = F::after(&parent.place, &claim);
            let place = std::mem::replace(&mut parent.place, after);
            match wanted(&place, &claim) {
                Wanted::Skip => continue,
                Wanted::Stop => break,
                Wanted::Open => {}
            }
            let id = F::id(&claim);
            let (node, found) = open(&self.family, self.source, &mut self.counters, &id, Some(parent.level - 1))?;
            F::check(&place, Some(&claim), &node, &found)
                .map_err(|error| error.context(format!("{} node {}, of its child {id}", F::KIND, parent.id)))?;
            match node {
                Node::Leaf(leaf) => return Ok(Some((place, leaf))),
                Node::Inner(level, children) => self.inner.push(Step { id, level, children, place }),
            }
        }
        self.inner.clear();
        Ok(None)
    }

    /// Names the next leaf without opening it, and the place behind it.
    pub(super) fn pass_leaf(&mut self) -> Result<Option<(F::Place, ChunkId)>> {
        if self.only_leaf.take().is_some() {
            return Ok(Some((F::after(&F::Place::default(), &self.root), F::id(&self.root))));
        }
        while let Some(parent) = self.inner.last_mut() {
            let Some(claim) = parent.children.next() else {
                self.inner.pop();
                continue;
            };
            let (id, level) = (F::id(&claim), parent.level - 1);
            let after = F::after(&parent.place, &claim);
            let place = std::mem::replace(&mut parent.place, after.clone());
            if level == 0 {
                return Ok(Some((after, id)));
            }
            if let (Node::Inner(level, children), _) = open(&self.family, self.source, &mut self.counters, &id, Some(level))? {
                self.inner.push(Step { id, level, children, place });
            }
        }
        Ok(None)
    }
}

/// Loads and opens a node.
pub(super) fn open<F: Family>(
    family: &F,
    source: &dyn NodeSource,
    counters: &mut WalkCounters,
    id: &ChunkId,
    level_expected: Option<u8>,
) -> Result<(Node<F>, F::Child)> {
    let bytes = source.load(F::KIND, id)?;
    counters.nodes += 1;
    counters.node_bytes += bytes.len() as u64;
    family.decode(*id, bytes, level_expected).map_err(|error| error.context(format!("{} node {id}", F::KIND)))
}

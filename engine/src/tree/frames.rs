//! Refs: trees of the frames that a snapshot needs.

use super::descent::{Descent, Wanted};
use super::family::{Family, Node};
use super::levels::{Levels, ends_node};
use super::{NodeKind, NodeSink, NodeSource, WalkCounters};
use crate::error::{Error, ErrorKind, Result};
use crate::format::refs::{RefsChild, RefsNode, decode_refs_node, encode_refs_inner, encode_refs_leaf};
use crate::format::{FrameUse, Usage};
use crate::id::{ChunkId, FrameId};
use std::sync::Arc;

/// Refs as a snapshot knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefsRoot {
    /// The root node.
    pub id: ChunkId,
    /// Frames that are named.
    pub frames: u64,
}

/// Builds refs from frames in ascending order.
#[derive(Debug)]
pub struct RefsBuilder {
    before: Option<FrameId>,
    open: Vec<FrameUse>,
    weight: usize,
    levels: Levels<Frames>,
}

impl RefsBuilder {
    /// Starts refs. `boundary_key` is what decides where nodes end: `derive("icecore 1 refs boundary", token key)`.
    pub fn new(boundary_key: [u8; 32]) -> Self {
        Self { before: None, open: Vec::new(), weight: 0, levels: Levels::new(Frames { boundary_key }) }
    }

    /// Takes the next frame.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where the frame is not above the one before, or is one that readers would refuse (which may show only some
    /// frames later); and whatever the sink fails with.
    pub fn push(&mut self, used: FrameUse, sink: &mut dyn NodeSink) -> Result<()> {
        let frame = used.frame;
        if let Some(before) = self.before.replace(frame).filter(|before| *before >= frame) {
            return Err(Error::new(ErrorKind::Invalid, format!("frame {frame} came after {before}; frames must ascend")));
        }
        // Bitmaps alone can make a leaf of 4,096 frames larger than a chunk.
        self.weight += match &used.usage {
            Usage::Whole | Usage::Base => 32,
            Usage::Part { bitmap, .. } => 32 + bitmap.len(),
        };
        let ends = self.levels.family.ends(0, &frame, self.open.len() + 1, self.weight);
        self.open.push(used);
        if ends { self.end_leaf(sink) } else { Ok(()) }
    }

    /// Ends the refs.
    ///
    /// # Errors
    /// As [`Self::push`], and [`ErrorKind::Invalid`] where there was no frame.
    pub fn finish(mut self, sink: &mut dyn NodeSink) -> Result<RefsRoot> {
        if !self.open.is_empty() {
            self.end_leaf(sink)?;
        }
        match self.levels.finish(sink)? {
            Some(root) => Ok(root.into()),
            None => Err(Error::new(ErrorKind::Invalid, "refs need at least one frame")),
        }
    }

    fn end_leaf(&mut self, sink: &mut dyn NodeSink) -> Result<()> {
        let Some(last) = self.open.last().map(|used| used.frame) else { return Ok(()) };
        let bytes = encode_refs_leaf(&self.open);
        // What readers would refuse is not stored.
        decode_refs_node(&bytes, Some(0)).map_err(|error| error.with_kind(ErrorKind::Invalid))?;
        let frames = self.open.len() as u64;
        let leaf = RefsChild { last, id: sink.store(NodeKind::Refs, bytes)?, frames };
        self.open.clear();
        self.weight = 0;
        self.levels.push(leaf, sink)
    }
}

/// Gives the frames of refs in ascending order.
#[derive(Debug)]
pub struct RefsWalk<'a> {
    descent: Descent<'a, Frames>,
    leaf: std::vec::IntoIter<FrameUse>,
    is_done: bool,
}

impl<'a> RefsWalk<'a> {
    /// Opens the root.
    ///
    /// # Errors
    /// Whatever the source fails with, and a rule of the format that the root breaks.
    pub fn new(source: &'a dyn NodeSource, root: &ChunkId) -> Result<Self> {
        let descent = Descent::new(Frames { boundary_key: [0; 32] }, source, root)?;
        Ok(Self { descent, leaf: Vec::new().into_iter(), is_done: false })
    }

    /// What the root says of all frames.
    pub fn root(&self) -> RefsRoot {
        self.descent.root.into()
    }

    /// What was read so far.
    pub fn counters(&self) -> WalkCounters {
        self.descent.counters
    }

    fn read_next(&mut self) -> Result<Option<FrameUse>> {
        loop {
            if let Some(used) = self.leaf.next() {
                self.descent.counters.items += 1;
                return Ok(Some(used));
            }
            match self.descent.next_leaf(|_, _| Wanted::Open)? {
                Some((_, leaf)) => self.leaf = leaf.into_iter(),
                None => return Ok(None),
            }
        }
    }
}

impl Iterator for RefsWalk<'_> {
    type Item = Result<FrameUse>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let next = self.read_next().transpose();
        self.is_done = !matches!(next, Some(Ok(_)));
        next
    }
}

#[derive(Debug)]
struct Frames {
    boundary_key: [u8; 32],
}

impl Frames {
    fn ends(&self, level: u8, last: &FrameId, count: usize, weight: usize) -> bool {
        let hash = || {
            let mut hasher = blake3::Hasher::new_keyed(&self.boundary_key);
            hasher.update(&[level]).update(last.session.as_bytes()).update(&last.number.to_le_bytes());
            *hasher.finalize().as_bytes()
        };
        ends_node(count, weight, hash)
    }
}

impl Family for Frames {
    const KIND: NodeKind = NodeKind::Refs;
    type Child = RefsChild;
    type Leaf = Vec<FrameUse>;
    type Inner = std::vec::IntoIter<RefsChild>;
    /// The last frame before.
    type Place = Option<FrameId>;

    fn encode_inner(level: u8, children: &[RefsChild]) -> Vec<u8> {
        encode_refs_inner(level, children)
    }

    fn sum(id: ChunkId, children: &[RefsChild]) -> RefsChild {
        let last = children.last().map_or(FrameId { session: crate::id::SessionId([0; 16]), number: 0 }, |child| child.last);
        RefsChild { last, id, frames: children.iter().map(|child| child.frames).sum() }
    }

    fn ends_after(&self, level: u8, child: &RefsChild, count: usize, weight: usize) -> bool {
        self.ends(level, &child.last, count, weight)
    }

    fn weight(_: &RefsChild) -> usize {
        0
    }

    fn decode(&self, id: ChunkId, bytes: Arc<[u8]>, level_expected: Option<u8>) -> Result<(Node<Self>, RefsChild)> {
        let nothing = || Error::rule("REFS-2", "a node that names no frame");
        match decode_refs_node(&bytes, level_expected)? {
            RefsNode::Leaf(frames) => {
                let last = frames.last().ok_or_else(nothing)?.frame;
                let found = RefsChild { last, id, frames: frames.len() as u64 };
                Ok((Node::Leaf(frames), found))
            }
            RefsNode::Inner(level, children) => {
                let last = children.last().ok_or_else(nothing)?.last;
                let frames = children.iter().try_fold(0_u64, |sum, child| sum.checked_add(child.frames));
                let frames = frames.ok_or_else(|| Error::rule("REFS-5", "an inner node tells of more than 2^64 frames"))?;
                Ok((Node::Inner(level, children.into_iter()), RefsChild { last, id, frames }))
            }
        }
    }

    fn id(child: &RefsChild) -> ChunkId {
        child.id
    }

    fn after(_: &Option<FrameId>, child: &RefsChild) -> Option<FrameId> {
        Some(child.last)
    }

    fn check(place: &Option<FrameId>, claim: Option<&RefsChild>, node: &Node<Self>, found: &RefsChild) -> Result<()> {
        if claim.is_some_and(|claim| claim != found) {
            return Err(Error::rule("REFS-5", "last frame or frames are not as the child has them"));
        }
        match (place, node) {
            (Some(before), Node::Leaf(frames)) if frames.first().is_some_and(|first| first.frame <= *before) => {
                Err(Error::rule("REFS-5", format!("a frame of the child is not above {before}")))
            }
            _ => Ok(()),
        }
    }
}

impl From<RefsChild> for RefsRoot {
    fn from(root: RefsChild) -> Self {
        Self { id: root.id, frames: root.frames }
    }
}

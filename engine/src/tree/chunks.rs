//! Recipes: trees of the chunks of one file.

use super::descent::{Descent, Wanted};
use super::family::{Family, Node};
use super::levels::{Levels, ends_node};
use super::{NodeKind, NodeSink, NodeSource, WalkCounters};
use crate::entry::ChunkRef;
use crate::error::{Error, ErrorKind, Result};
use crate::format::recipe::{RecipeChild, RecipeNode, decode_recipe_node, encode_recipe_inner, encode_recipe_leaf};
use crate::id::ChunkId;
use crate::limits::CHUNK_SIZE_MAX;
use std::sync::Arc;

/// A recipe as its file knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecipeRoot {
    /// The root node.
    pub id: ChunkId,
    /// Chunks in the recipe.
    pub chunks: u64,
    /// Sum of their lengths.
    pub bytes: u64,
}

/// Builds a recipe from chunks in the order of the file.
#[derive(Debug)]
pub struct RecipeBuilder {
    open: Vec<ChunkRef>,
    levels: Levels<Chunks>,
}

impl Default for RecipeBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl RecipeBuilder {
    /// Starts a recipe.
    pub fn new() -> Self {
        Self { open: Vec::new(), levels: Levels::new(Chunks) }
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where a chunk cannot have that length, and whatever the sink fails with.
    pub fn push(&mut self, chunk: ChunkRef, sink: &mut dyn NodeSink) -> Result<()> {
        if !(1..=CHUNK_SIZE_MAX as u32).contains(&chunk.length) {
            return Err(Error::new(ErrorKind::Invalid, format!("chunk {} of {} bytes", chunk.id, chunk.length)));
        }
        self.open.push(chunk);
        if ends_node(self.open.len(), 0, || chunk.id.0) { self.end_leaf(sink) } else { Ok(()) }
    }

    /// Ends the recipe.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where there was no chunk, and whatever the sink fails with.
    pub fn finish(mut self, sink: &mut dyn NodeSink) -> Result<RecipeRoot> {
        if !self.open.is_empty() {
            self.end_leaf(sink)?;
        }
        match self.levels.finish(sink)? {
            Some(root) => Ok(root.into()),
            None => Err(Error::new(ErrorKind::Invalid, "a recipe needs at least one chunk")),
        }
    }

    fn end_leaf(&mut self, sink: &mut dyn NodeSink) -> Result<()> {
        let id = sink.store(NodeKind::Recipe, encode_recipe_leaf(&self.open))?;
        let leaf = sum_chunks(id, &self.open);
        self.open.clear();
        self.levels.push(leaf, sink)
    }
}

/// Gives the chunks of a recipe in order, each with its offset in the file's content (holes are not content).
#[derive(Debug)]
pub struct RecipeWalk<'a> {
    descent: Descent<'a, Chunks>,
    start: u64,
    offset: u64,
    leaf: std::vec::IntoIter<ChunkRef>,
    is_done: bool,
}

impl<'a> RecipeWalk<'a> {
    /// Opens the root of the recipe of a file with `data_bytes` outside its holes. The first chunk will be the one that has the
    /// byte at `start` (an offset in the content).
    ///
    /// # Errors
    /// Whatever the source fails with, and a rule of the format that the root breaks.
    pub fn new(source: &'a dyn NodeSource, root: &ChunkId, data_bytes: u64, start: u64) -> Result<Self> {
        let descent = Descent::new(Chunks, source, root)?;
        if descent.root.bytes != data_bytes {
            let message = format!("recipe {root} has {} bytes, the file has {data_bytes} outside its holes", descent.root.bytes);
            return Err(Error::rule("RECIPE-4", message));
        }
        Ok(Self { descent, start, offset: 0, leaf: Vec::new().into_iter(), is_done: false })
    }

    /// What the root says of the whole recipe.
    pub fn root(&self) -> RecipeRoot {
        self.descent.root.into()
    }

    /// What was read so far.
    pub fn counters(&self) -> WalkCounters {
        self.descent.counters
    }

    fn read_next(&mut self) -> Result<Option<(u64, ChunkRef)>> {
        let start = self.start;
        loop {
            for chunk in self.leaf.by_ref() {
                let offset = self.offset;
                self.offset += u64::from(chunk.length);
                if self.offset > start {
                    self.descent.counters.items += 1;
                    return Ok(Some((offset, chunk)));
                }
            }
            let wanted = |place: &u64, child: &RecipeChild| match place.saturating_add(child.bytes) > start {
                true => Wanted::Open,
                false => Wanted::Skip,
            };
            match self.descent.next_leaf(wanted)? {
                Some((offset, leaf)) => (self.offset, self.leaf) = (offset, leaf.into_iter()),
                None => return Ok(None),
            }
        }
    }
}

impl Iterator for RecipeWalk<'_> {
    type Item = Result<(u64, ChunkRef)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let next = self.read_next().transpose();
        self.is_done = !matches!(next, Some(Ok(_)));
        next
    }
}

fn sum_chunks(id: ChunkId, chunks: &[ChunkRef]) -> RecipeChild {
    RecipeChild { id, chunks: chunks.len() as u64, bytes: chunks.iter().map(|chunk| u64::from(chunk.length)).sum() }
}

#[derive(Debug)]
pub(super) struct Chunks;

impl Family for Chunks {
    const KIND: NodeKind = NodeKind::Recipe;
    type Child = RecipeChild;
    type Leaf = Vec<ChunkRef>;
    type Inner = std::vec::IntoIter<RecipeChild>;
    /// The bytes before.
    type Place = u64;

    fn encode_inner(level: u8, children: &[RecipeChild]) -> Vec<u8> {
        encode_recipe_inner(level, children)
    }

    fn sum(id: ChunkId, children: &[RecipeChild]) -> RecipeChild {
        RecipeChild { id, chunks: children.iter().map(|child| child.chunks).sum(), bytes: children.iter().map(|child| child.bytes).sum() }
    }

    fn ends_after(&self, _: u8, child: &RecipeChild, count: usize, _: usize) -> bool {
        ends_node(count, 0, || child.id.0)
    }

    fn weight(_: &RecipeChild) -> usize {
        0
    }

    fn decode(&self, id: ChunkId, bytes: Arc<[u8]>, level_expected: Option<u8>) -> Result<(Node<Self>, RecipeChild)> {
        match decode_recipe_node(&bytes, level_expected)? {
            RecipeNode::Leaf(chunks) => {
                let found = sum_chunks(id, &chunks);
                Ok((Node::Leaf(chunks), found))
            }
            RecipeNode::Inner(level, children) => {
                let sums = children.iter().try_fold((0_u64, 0_u64), |(chunks, bytes), child| {
                    Some((chunks.checked_add(child.chunks)?, bytes.checked_add(child.bytes)?))
                });
                let Some((chunks, bytes)) = sums else {
                    return Err(Error::rule("RECIPE-4", "an inner node tells of more than 2^64 chunks or bytes"));
                };
                Ok((Node::Inner(level, children.into_iter()), RecipeChild { id, chunks, bytes }))
            }
        }
    }

    fn id(child: &RecipeChild) -> ChunkId {
        child.id
    }

    fn after(place: &u64, child: &RecipeChild) -> u64 {
        place.saturating_add(child.bytes)
    }

    fn check(_: &u64, claim: Option<&RecipeChild>, _: &Node<Self>, found: &RecipeChild) -> Result<()> {
        match claim {
            Some(claim) if claim != found => Err(Error::rule("RECIPE-4", "chunks or bytes are not as the child has them")),
            _ => Ok(()),
        }
    }
}

impl From<RecipeChild> for RecipeRoot {
    fn from(root: RecipeChild) -> Self {
        Self { id: root.id, chunks: root.chunks, bytes: root.bytes }
    }
}

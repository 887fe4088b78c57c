//! Trees of nodes: the entries of a snapshot, the long chunk list of a file, the frames that a snapshot needs.
//!
//! Builders take items in order and end nodes where the items alone say so, so that equal ranges give equal nodes,
//! which are stored once. Walks give items back in order and check that inner nodes say the truth. Both hold
//! one node for each level, however many items there are. Where nodes are kept is the caller's: builders hand them to a
//! [`NodeSink`], walks ask a [`NodeSource`].

mod chunks;
mod compare;
mod cursor;
mod descent;
mod entries;
mod family;
mod frames;
mod leaves;
mod levels;
mod links;
mod range;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use chunks::{RecipeBuilder, RecipeRoot, RecipeWalk};
pub(crate) use compare::{TreeComparison, Unequal};
pub(crate) use cursor::{Head, TreeCursor};
pub(crate) use entries::entry_weight;
pub use entries::{TreeBuilder, TreeRoot, TreeWalk, check_entry, find_entry};
pub use frames::{RefsBuilder, RefsRoot, RefsWalk};
pub(crate) use leaves::{RecipeLeaves, TreeLeaves};
pub use links::check_link;
pub use range::KeyRange;

use crate::error::Result;
use crate::id::ChunkId;
use std::fmt;
use std::sync::Arc;

/// Which kind of tree a node belongs to; part of its chunk id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// Entries of a snapshot.
    Tree,
    /// Chunks of a file.
    Recipe,
    /// Frames of a snapshot.
    Refs,
}

impl fmt::Display for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tree => "tree",
            Self::Recipe => "recipe",
            Self::Refs => "refs",
        })
    }
}

/// Takes nodes to be stored.
pub trait NodeSink {
    /// Stores a node, or finds that it is stored, and returns its id. Children come before their parents.
    ///
    /// # Errors
    /// Whatever keeps the node from being stored.
    fn store(&mut self, kind: NodeKind, bytes: Vec<u8>) -> Result<ChunkId>;
}

/// Gives nodes back.
pub trait NodeSource: Send + Sync + fmt::Debug {
    /// The bytes of a node, which the source has compared with the id (CHUNK-2).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) where there is none, or whatever keeps it from being read.
    fn load(&self, kind: NodeKind, id: &ChunkId) -> Result<Arc<[u8]>>;
}

/// What a walk read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalkCounters {
    /// Nodes loaded.
    pub nodes: u64,
    /// Their bytes.
    pub node_bytes: u64,
    /// Entries, chunks or frames given.
    pub items: u64,
}

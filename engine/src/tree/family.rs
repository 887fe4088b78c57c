//! What the builder of inner nodes and the descent need to know of trees, recipes and refs.

use super::NodeKind;
use crate::error::Result;
use crate::id::ChunkId;
use std::fmt::Debug;
use std::sync::Arc;

/// One of the three kinds of tree.
pub(super) trait Family: Debug {
    const KIND: NodeKind;
    /// What an inner node says of a child, and what a node turns out to be.
    type Child: Debug + Clone;
    /// A leaf, opened.
    type Leaf: Debug;
    /// The children of an inner node, in order.
    type Inner: Debug + Iterator<Item = Self::Child>;
    /// What is known of where a node stands from what comes before it.
    type Place: Debug + Clone + Default;

    /// Writes an inner node.
    fn encode_inner(level: u8, children: &[Self::Child]) -> Vec<u8>;
    /// What a child of these children has to say of itself.
    fn sum(id: ChunkId, children: &[Self::Child]) -> Self::Child;
    /// Whether a node at `level` with `count` items that weigh `weight` ends after this one.
    fn ends_after(&self, level: u8, child: &Self::Child, count: usize, weight: usize) -> bool;
    /// What a child weighs.
    fn weight(child: &Self::Child) -> usize;

    /// Opens the node with this id and tells what it turns out to be.
    fn decode(&self, id: ChunkId, bytes: Arc<[u8]>, level_expected: Option<u8>) -> Result<(Node<Self>, Self::Child)>;
    /// The id of a child.
    fn id(child: &Self::Child) -> ChunkId;
    /// The place after a child that stands at `place`.
    fn after(place: &Self::Place, child: &Self::Child) -> Self::Place;
    /// Whether a node says of itself what its parent says, and belongs to its place.
    fn check(place: &Self::Place, claim: Option<&Self::Child>, node: &Node<Self>, found: &Self::Child) -> Result<()>;
}

/// A node, opened.
#[derive(Debug)]
pub(super) enum Node<F: Family + ?Sized> {
    Leaf(F::Leaf),
    Inner(u8, F::Inner),
}

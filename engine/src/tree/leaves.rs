//! The leaves of a tree by name, found in step with a tree that is being made: of a leaf that changed the last version is the best base.
//!
//! Inner nodes are read on the way, leaves are not. What is found is a guess: an error ends it, and nothing more is found.

use super::NodeSource;
use super::chunks::Chunks;
use super::descent::Descent;
use super::entries::Entries;
use super::family::Family;
use crate::entry::KeyKind;
use crate::error::Result;
use crate::id::ChunkId;

/// So many leaves of the last version are of use for one of the next.
const FOUND_MAX: usize = 4;

/// Names of the leaves of one tree, in order.
#[derive(Debug)]
struct Leaves<'a, F: Family> {
    descent: Descent<'a, F>,
    /// The leaf that was reached, and the place behind it.
    reached: Option<(F::Place, ChunkId)>,
}

impl<'a, F: Family> Leaves<'a, F> {
    fn new(family: F, source: &'a dyn NodeSource, root: &ChunkId) -> Result<Self> {
        let mut descent = Descent::new(family, source, root)?;
        Ok(Self { reached: descent.pass_leaf()?, descent })
    }

    /// The leaves that reach beyond `is_before`, up to the first that reaches `is_end`. Both must ascend from call to call.
    fn find(&mut self, is_before: impl Fn(&F::Place) -> bool, is_end: impl Fn(&F::Place) -> bool) -> Result<Vec<ChunkId>> {
        let mut found = Vec::new();
        while let Some((place, id)) = &self.reached {
            if !is_before(place) && found.len() < FOUND_MAX {
                found.push(*id);
            }
            if is_end(place) {
                break;
            }
            self.reached = self.descent.pass_leaf()?;
        }
        Ok(found)
    }
}

/// Leaves of entries, by key.
#[derive(Debug)]
pub(crate) struct TreeLeaves<'a>(Leaves<'a, Entries>);

impl<'a> TreeLeaves<'a> {
    /// Opens the root.
    ///
    /// # Errors
    /// Whatever the source fails with, and a rule of the format that the root breaks.
    pub(crate) fn new(source: &'a dyn NodeSource, root: &ChunkId) -> Result<Self> {
        Leaves::new(Entries::reading(KeyKind::Paths), source, root).map(Self)
    }

    /// Those with keys above `after` and up to `last`; `None` is before all keys. Both must ascend from call to call.
    ///
    /// # Errors
    /// As [`TreeLeaves::new`], of the nodes on the way.
    pub(crate) fn find(&mut self, after: Option<&[u8]>, last: &[u8]) -> Result<Vec<ChunkId>> {
        self.0.find(|place| place.as_deref() <= after, |place| place.as_deref() >= Some(last))
    }
}

/// Leaves of chunks, by offset in the content.
#[derive(Debug)]
pub(crate) struct RecipeLeaves<'a>(Leaves<'a, Chunks>);

impl<'a> RecipeLeaves<'a> {
    /// As [`TreeLeaves::new`].
    ///
    /// # Errors
    /// As [`TreeLeaves::new`].
    pub(crate) fn new(source: &'a dyn NodeSource, root: &ChunkId) -> Result<Self> {
        Leaves::new(Chunks, source, root).map(Self)
    }

    /// Those that have bytes of the content from `start` to `end`. Both must ascend from call to call.
    ///
    /// # Errors
    /// As [`TreeLeaves::find`].
    pub(crate) fn find(&mut self, start: u64, end: u64) -> Result<Vec<ChunkId>> {
        self.0.find(|place| *place <= start, |place| *place >= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::ChunkRef;
    use crate::tree::RecipeBuilder;
    use crate::tree::testing::{Nodes, build, many};
    use crate::tree::{NodeKind, NodeSink};

    /// Gives nodes on, and notes the leaves.
    #[derive(Default)]
    struct Noting(Nodes, Vec<ChunkId>);

    impl NodeSink for Noting {
        fn store(&mut self, kind: NodeKind, bytes: Vec<u8>) -> Result<ChunkId> {
            let is_leaf = bytes[1] == 0;
            let id = self.0.store(kind, bytes)?;
            self.1.extend(is_leaf.then_some(id));
            Ok(id)
        }
    }

    #[test]
    fn leaves_of_a_recipe_are_found_by_offset() {
        let chunk = |n: u32| ChunkRef { id: ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes()), length: 100 };
        let (mut nodes, mut recipe) = (Noting::default(), RecipeBuilder::new());
        (0..20_000).for_each(|n| recipe.push(chunk(n), &mut nodes).unwrap());
        let root = recipe.finish(&mut nodes).unwrap();
        let Noting(nodes, leaves) = nodes;
        assert!(leaves.len() > 6, "{}", leaves.len());
        let of = |ranges: &[(u64, u64)]| -> Vec<Vec<ChunkId>> {
            let mut found = RecipeLeaves::new(&nodes, &root.id).unwrap();
            ranges.iter().map(|(start, end)| found.find(*start, *end).unwrap()).collect()
        };
        let all = of(&[(0, u64::MAX)]).remove(0);
        assert_eq!(all, leaves[..FOUND_MAX], "no more than are of use");
        // Step by step each is met, in order, and those before the first step are passed.
        let mut met: Vec<_> = of(&(0..2000).map(|n| (n * 1000, n * 1000 + 1000)).collect::<Vec<_>>()).concat();
        met.dedup();
        assert_eq!(met, leaves);
        assert_eq!(of(&[(1_999_999, 2_000_000)]), [[*leaves.last().unwrap()]]);
        assert_eq!(of(&[(2_000_000, 2_000_001)]), [[]], "behind the end there is none");
    }

    #[test]
    fn leaves_of_a_tree_are_found_by_key() {
        let entries = many(6000);
        let keys: Vec<_> = entries.iter().map(|entry| entry.key.clone()).collect();
        let (nodes, root) = build(entries);
        let mut leaves = TreeLeaves::new(&nodes, &root.id).unwrap();
        let (mut after, mut met) = (None, Vec::new());
        for last in keys.iter().step_by(100) {
            let found = leaves.find(after, last).unwrap();
            assert!((1..=2).contains(&found.len()), "a hundred keys lie in one leaf or in two");
            met.extend(found);
            after = Some(last.as_slice());
        }
        met.dedup();
        assert!(met.len() > 3 && met.iter().all(|id| nodes.0.get(id).is_some_and(|bytes| bytes[1] == 0)));
        // Of a tree that is one leaf, that one.
        let (nodes, root) = build(many(3));
        assert_eq!(TreeLeaves::new(&nodes, &root.id).unwrap().find(None, b"zzz").unwrap(), [root.id]);
    }
}

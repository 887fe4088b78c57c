//! Recipes: every node once, and every chunk in a frame that the refs name.

use super::snapshots::SnapshotCheck;
use super::tree::{Memo, SeenRecipe};
use super::uses::Used;
use crate::error::{Error, Result};
use crate::format::recipe::{RecipeChild, RecipeNode, decode_recipe_node};
use crate::id::ChunkId;
use crate::tree::NodeKind;

impl SnapshotCheck<'_> {
    /// Checks the recipe of the file `key`, which must have `data_bytes` bytes.
    pub(super) fn recipe(&mut self, root: &ChunkId, data_bytes: u64, key: &[u8], memo: &mut Memo, used: &mut Used) -> Result<()> {
        self.forgotten.clear();
        match self.recipe_node(root, None, key, memo, used)? {
            Some(found) if found.bytes != data_bytes => {
                let message = format!("recipe {root} has {} bytes, the file has {data_bytes} outside its holes", found.bytes);
                self.accuse(&Error::rule("RECIPE-4", message), key, 1);
                used.is_partial = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks a node and what is below it, once for each id. `None` where it is lost, which was said.
    fn recipe_node(
        &mut self,
        id: &ChunkId,
        level: Option<u8>,
        key: &[u8],
        memo: &mut Memo,
        used_above: &mut Used,
    ) -> Result<Option<RecipeChild>> {
        if let Some(seen) = memo.recipes.get(&Memo::key(id)).filter(|seen| level.is_none_or(|level| level == seen.level))
            && self.allowed.cover(&seen.uses)
        {
            used_above.add_all(&seen.uses);
            return Ok(Some(RecipeChild { id: *id, chunks: seen.chunks, bytes: seen.bytes }));
        }
        if let Some(found) = self.forgotten.get(id) {
            used_above.is_partial = true;
            return Ok(*found);
        }
        let (place, bytes) = match self.load(NodeKind::Recipe, id)? {
            Ok(loaded) => loaded,
            Err(finding) => {
                self.hurt(finding, key, 1);
                used_above.is_partial = true;
                self.forgotten.insert(*id, None);
                return Ok(None);
            }
        };
        let mut used = Used::default();
        self.note_use(place, &mut used, (key, 1));
        let (level, found) = match decode_recipe_node(&bytes, level) {
            Ok(RecipeNode::Leaf(chunks)) => {
                for chunk in &chunks {
                    self.data_chunk(chunk, "RECIPE-3", key, &mut used)?;
                }
                let bytes = chunks.iter().map(|chunk| u64::from(chunk.length)).sum();
                (0, RecipeChild { id: *id, chunks: chunks.len() as u64, bytes })
            }
            Ok(RecipeNode::Inner(level, children)) => (level, self.recipe_children(id, level, &children, key, memo, &mut used)?),
            Err(error) => {
                self.accuse(&error.context(format!("recipe node {id}")), key, 1);
                used_above.is_partial = true;
                self.forgotten.insert(*id, None);
                return Ok(None);
            }
        };
        match used.finish() {
            Some(uses) => {
                used_above.add_all(&uses);
                if memo.take_room(uses.size()) {
                    memo.recipes.insert(Memo::key(id), SeenRecipe { level, chunks: found.chunks, bytes: found.bytes, uses });
                } else {
                    self.forgotten.insert(*id, Some(found));
                }
            }
            None => {
                used_above.is_partial = true;
                self.forgotten.insert(*id, Some(found));
            }
        }
        Ok(Some(found))
    }

    /// Checks the children of an inner node; gives what it says of them all.
    fn recipe_children(
        &mut self,
        id: &ChunkId,
        level: u8,
        children: &[RecipeChild],
        key: &[u8],
        memo: &mut Memo,
        used: &mut Used,
    ) -> Result<RecipeChild> {
        let mut sum = RecipeChild { id: *id, chunks: 0, bytes: 0 };
        for child in children {
            let is_true = self.recipe_node(&child.id, Some(level - 1), key, memo, used)?.is_none_or(|found| found == *child);
            let sums = (sum.chunks.checked_add(child.chunks), sum.bytes.checked_add(child.bytes));
            if let (Some(chunks), Some(bytes)) = sums {
                (sum.chunks, sum.bytes) = (chunks, bytes);
            }
            if !is_true || sums.0.is_none() || sums.1.is_none() {
                self.accuse(&Error::rule("RECIPE-4", format!("what recipe node {id} says of a child is not true")), key, 1);
                used.is_partial = true;
            }
        }
        Ok(sum)
    }
}

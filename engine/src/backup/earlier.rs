//! The leaves of the last snapshot's tree and recipes, against which new ones are compressed.
//!
//! Of a leaf that changed most is as it was: one file of a thousand is another one, or all have new times and the same chunks. The last snapshot is
//! looked for when the first new leaf comes, and its inner nodes are read on the way; what goes wrong in that is no failure of the backup.

use super::previous::newest;
use crate::entry::{ChunkList, EntryKind, Key, KeyKind};
use crate::error::Result;
use crate::id::ChunkId;
use crate::repository::{ChunkKind, NodeStore, Repository};
use crate::tree::{NodeKind, NodeSink, NodeSource, RecipeLeaves, TreeLeaves, find_entry};

/// The leaves of the last snapshot.
pub(super) struct Earlier<'a> {
    repository: &'a Repository,
    series: &'a str,
    source: &'a dyn NodeSource,
    /// The root of its tree, once it was looked for.
    root: Option<Option<ChunkId>>,
    tree: Option<TreeLeaves<'a>>,
    /// The last key of the last leaf, and of the entry that came last.
    leaf_key: Option<Key>,
    key: Key,
    file: OpenFile<'a>,
}

/// The file of which a recipe is being made.
#[derive(Default)]
struct OpenFile<'a> {
    /// `None` where it has no last version, or that is not known.
    key: Option<Key>,
    recipe: Option<RecipeLeaves<'a>>,
    /// Bytes of content in leaves, and in all chunks.
    start: u64,
    end: u64,
}

impl<'a> Earlier<'a> {
    /// Those of the newest snapshot of `series`, read from `source`.
    pub(super) fn new(repository: &'a Repository, series: &'a str, source: &'a dyn NodeSource) -> Self {
        Self { repository, series, source, root: None, tree: None, leaf_key: None, key: Key::new(), file: OpenFile::default() }
    }

    /// An entry comes.
    pub(super) fn entry(&mut self, key: &[u8]) {
        self.key.clear();
        self.key.extend_from_slice(key);
    }

    /// Chunks come, of the file at this key where that is known.
    pub(super) fn file(&mut self, key: Option<Key>) {
        self.file = OpenFile { key, ..OpenFile::default() };
    }

    /// A chunk of the file comes.
    pub(super) fn chunk(&mut self, length: u32) {
        self.file.end += u64::from(length);
    }

    /// The leaves in the place of the one that ends here.
    fn find(&mut self, kind: NodeKind) -> Result<Vec<ChunkId>> {
        let Some(root) = self.root() else { return Ok(Vec::new()) };
        match kind {
            NodeKind::Tree => {
                if self.tree.is_none() {
                    self.tree = Some(TreeLeaves::new(self.source, &root)?);
                }
                let Some(tree) = &mut self.tree else { return Ok(Vec::new()) };
                tree.find(self.leaf_key.as_deref(), &self.key)
            }
            NodeKind::Recipe => {
                if let Some(key) = self.file.key.take()
                    && let Some(entry) = find_entry(self.source, &root, KeyKind::Paths, &key)?
                    && let EntryKind::File(content) = entry.kind
                    && let ChunkList::Recipe(root) = content.chunks
                {
                    self.file.recipe = Some(RecipeLeaves::new(self.source, &root)?);
                }
                let Some(recipe) = &mut self.file.recipe else { return Ok(Vec::new()) };
                recipe.find(self.file.start, self.file.end)
            }
            NodeKind::Refs => Ok(Vec::new()),
        }
    }

    fn root(&mut self) -> Option<ChunkId> {
        *self.root.get_or_insert_with(|| {
            let snapshot = newest(self.repository, self.series).ok().flatten()?;
            snapshot.body.keys_are_paths.then_some(snapshot.body.tree_root)
        })
    }

    /// The leaf that was being made ended.
    fn end_leaf(&mut self, kind: NodeKind) {
        match kind {
            NodeKind::Tree => self.leaf_key = Some(self.key.clone()),
            _ => self.file.start = self.file.end,
        }
    }
}

/// Stores nodes, leaves against those of the last snapshot.
pub(super) struct NodesAgainst<'s, 'a> {
    pub(super) nodes: NodeStore<'s>,
    pub(super) earlier: Option<&'s mut Earlier<'a>>,
}

impl NodeSink for NodesAgainst<'_, '_> {
    fn store(&mut self, kind: NodeKind, bytes: Vec<u8>) -> Result<ChunkId> {
        let is_leaf = bytes.get(1) == Some(&0);
        let Some(earlier) = self.earlier.as_deref_mut().filter(|_| is_leaf) else { return self.nodes.store(kind, bytes) };
        let NodeStore { writer, refs } = &mut self.nodes;
        let chunk_kind = ChunkKind::from(kind);
        let id = writer.ids().id_of(chunk_kind, &bytes)?;
        let place = match writer.find(&id)? {
            Some(found) => found,
            None => {
                let found = earlier.find(kind).unwrap_or_default();
                let hints = writer.hints_of(&found, bytes.len() as u32)?;
                writer.add_against(chunk_kind, id, &bytes, hints)?
            }
        };
        earlier.end_leaf(kind);
        refs.mark(place.frame, place.position);
        Ok(id)
    }
}

//! Tree, recipe and refs nodes as chunks.

use super::{ChunkKind, FrameReader, RefsCollector, Repository, SnapshotChunks, Writer};
use crate::error::Result;
use crate::format::FrameUse;
use crate::id::ChunkId;
use crate::tree::{NodeKind, NodeSink, NodeSource, RefsWalk};
use std::sync::Arc;

impl From<NodeKind> for ChunkKind {
    fn from(kind: NodeKind) -> Self {
        match kind {
            NodeKind::Tree => Self::Tree,
            NodeKind::Recipe => Self::Recipe,
            NodeKind::Refs => Self::Refs,
        }
    }
}

/// Stores nodes and notes which frames they use.
pub(crate) struct NodeStore<'a> {
    pub(crate) writer: &'a mut Writer,
    pub(crate) refs: &'a mut RefsCollector,
}

impl NodeSink for NodeStore<'_> {
    fn store(&mut self, kind: NodeKind, bytes: Vec<u8>) -> Result<ChunkId> {
        let kind = ChunkKind::from(kind);
        let id = self.writer.ids().id_of(kind, &bytes)?;
        let place = self.writer.add(kind, id, &bytes)?;
        self.refs.mark(place.frame, place.position);
        Ok(id)
    }
}

impl NodeSource for SnapshotChunks<'_> {
    fn load(&self, kind: NodeKind, id: &ChunkId) -> Result<Arc<[u8]>> {
        self.chunk(kind.into(), id).map(Arc::from)
    }
}

/// Nodes out of whichever frame holds them: refs nodes, and those that are only a hint.
#[derive(Debug)]
pub(crate) struct AnyNodes<'a> {
    pub(crate) reader: &'a FrameReader,
}

impl NodeSource for AnyNodes<'_> {
    fn load(&self, kind: NodeKind, id: &ChunkId) -> Result<Arc<[u8]>> {
        self.reader.chunk(kind.into(), id, |_| Ok(true)).map(Arc::from)
    }
}

impl Repository {
    /// Calls `visit` for every frame that the refs below `root` name.
    pub(crate) fn walk_refs(&self, reader: &FrameReader, root: &ChunkId, mut visit: impl FnMut(FrameUse) -> Result<()>) -> Result<()> {
        let nodes = AnyNodes { reader };
        for used in RefsWalk::new(&nodes, root)? {
            visit(used?)?;
        }
        Ok(())
    }
}

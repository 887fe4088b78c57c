//! Salvage: of a snapshot that lost files, a new one of the same series without them.
//!
//! The tree is walked and written again. Nodes are taken from wherever they stand, since their ids prove them. Content is not read: a file stays
//! where each of its chunks stands in a pack that is not condemned, in a frame that the old snapshot names or in one of the own dedup domain. So
//! a file whose content was stored again after the damage is whole again. The old snapshot is left alone.
//!
//! Only damage that is known is left out: packs that are damaged were condemned just before.

use super::plan::RepairPlan;
use crate::backup::publish::{Draft, publish};
use crate::crypto::derive;
use crate::entry::{ChunkList, ChunkRef, Entry, EntryKind, Key, KeyKind};
use crate::error::{Error, ErrorKind, Result};
use crate::format::session::SessionKind;
use crate::id::{ChunkId, SnapshotId};
use crate::limits::INLINE_CHUNKS_MAX;
use crate::progress::{Event, Progress};
use crate::repository::{
    ChunkUse, FrameReader, NodeStore, RefsCollector, Repository, Session, Snapshot, SnapshotChunks, SnapshotListing, SnapshotState, Writer,
};
use crate::tree::{KeyRange, NodeKind, NodeSource, RecipeBuilder, RecipeWalk, TreeBuilder, TreeRoot, TreeWalk, find_entry};
use std::collections::HashSet;
use std::sync::Arc;

const PROGRAM: &str = concat!("icecore ", env!("CARGO_PKG_VERSION"), " repair");
const LEVEL: i32 = 3;

/// A snapshot that suffers, and what was saved of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Salvaged {
    /// The one that suffers; it is left alone.
    pub from: SnapshotId,
    /// The one that has what is left, from this repair or an earlier one; `None` where nothing is left.
    pub to: Option<SnapshotId>,
    /// Entries that it has.
    pub entries: u64,
    /// Entries that are lost.
    pub entries_lost: u64,
}

impl Repository {
    /// Salvages every snapshot that counts, can be read, and lost entries.
    pub(super) fn salvage(&self, plan: &RepairPlan, progress: &dyn Progress) -> Result<Vec<Salvaged>> {
        let mut salvaged = Vec::new();
        for hurt in plan.report.hurt.iter().filter(|hurt| hurt.paths_total > 0) {
            let listing = self.list_snapshots()?;
            let snapshot = match self.read_snapshot(hurt.snapshot, &listing) {
                Ok(snapshot) if snapshot.state == SnapshotState::Closed && !listing.withdrawn.contains(&snapshot.id) => snapshot,
                Ok(_) => continue,
                Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported | ErrorKind::NotFound) => continue,
                Err(error) => return Err(error),
            };
            progress.event(Event::Phase { name: "salvage", bytes_total: None, items_total: Some(snapshot.header.entries) });
            let session = Session::begin(self, SessionKind::Writer)?;
            match self.salvage_one(&session, &snapshot, &listing, progress) {
                Ok((saved, is_new)) => {
                    session.close(true, saved.to.filter(|_| is_new).into_iter().collect())?;
                    salvaged.push(saved);
                }
                Err(error) => {
                    let error = session.explain(error);
                    session.give_up();
                    return Err(error);
                }
            }
        }
        Ok(salvaged)
    }

    /// Gives what was saved, and whether the snapshot that has it is new.
    fn salvage_one(
        &self,
        session: &Session<'_>,
        snapshot: &Snapshot,
        listing: &SnapshotListing,
        progress: &dyn Progress,
    ) -> Result<(Salvaged, bool)> {
        let index = self.open_index()?;
        index.remove_packs(&self.condemned()?.1);
        let reader = FrameReader::new(self, Arc::clone(&index));
        let nodes = Nodes { reader: &reader };
        let key_kind = if snapshot.body.keys_are_paths { KeyKind::Paths } else { KeyKind::Objects };
        let chunk_id_key = self.credential.chunk_id_key.as_ref();
        let chunk_id_key = chunk_id_key.ok_or_else(|| Error::new(ErrorKind::Unauthorized, "this credential cannot name chunks"))?;
        let mut run = Salvage {
            nodes: &nodes,
            named: self.named_chunks(&reader, snapshot)?,
            root: snapshot.body.tree_root,
            key_kind,
            writer: Writer::start(self, session, index, LEVEL)?,
            refs: RefsCollector::default(),
            tree: Some(TreeBuilder::new(*derive("icecore 1 tree boundary", &[chunk_id_key.bytes()]).bytes(), key_kind)),
            lost: HashSet::new(),
            entries: 0,
            progress,
        };
        let tree = run.walk()?;
        let entries = tree.map_or(0, |tree| tree.entries);
        let mut saved = Salvaged { from: snapshot.id, to: None, entries, entries_lost: snapshot.header.entries.saturating_sub(entries) };
        let Some(tree) = tree else { return Ok((saved, false)) };
        saved.to = self.twin(snapshot, &tree, listing)?;
        if let Some(there) = saved.to {
            // `OthersDurable`: another run may have published it a moment ago.
            self.backend.make_durable(&listing.publications([there]))?;
            run.writer.finish()?;
            return Ok((saved, false));
        }
        let body = &snapshot.body;
        let draft = Draft {
            tree,
            keys_are_paths: body.keys_are_paths,
            source_kind: snapshot.header.source_kind,
            series: &body.series,
            host: &body.host,
            program: PROGRAM,
            paths: &body.paths,
            tags: &body.tags,
            time: snapshot.header.time,
            started: body.started,
            ended: None,
            whole: body.whole && saved.entries_lost == 0,
        };
        saved.to = Some(publish(self, session, &mut run.writer, run.refs, &draft)?.id);
        Ok((saved, true))
    }

    /// The chunks in those frames that the snapshot names and that stand in packs which are not condemned, as far as its refs can be read.
    fn named_chunks<'a>(&'a self, reader: &'a FrameReader, snapshot: &Snapshot) -> Result<SnapshotChunks<'a>> {
        let mut named = SnapshotChunks::new(self, reader, snapshot.header.refs_root);
        match self.walk_refs(reader, &snapshot.header.refs_root, |used| named.allow(&used).map(drop)) {
            Err(error) if !is_lost(&error) => Err(error),
            _ => Ok(named),
        }
    }

    /// Another snapshot of the same moment that has just this tree.
    fn twin(&self, snapshot: &Snapshot, tree: &TreeRoot, listing: &SnapshotListing) -> Result<Option<SnapshotId>> {
        let is_like = |header: &crate::format::snapshot::SnapshotHeader| {
            (header.series, header.time, header.entries) == (snapshot.header.series, snapshot.header.time, tree.entries)
        };
        for (id, header) in listing.headers().filter(|(id, header)| *id != snapshot.id && is_like(header)) {
            let counts = listing.state(id, header) == SnapshotState::Closed && !listing.withdrawn.contains(&id);
            match self.read_snapshot(id, listing) {
                Ok(other) if counts && other.body.tree_root == tree.id => return Ok(Some(id)),
                Err(error) if !is_lost(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(None)
    }
}

/// Whether something is not there any more, rather than out of reach for now.
fn is_lost(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Unsupported)
}

/// Nodes, wherever they stand: a node is what its id says.
#[derive(Debug)]
struct Nodes<'a> {
    reader: &'a FrameReader,
}

impl NodeSource for Nodes<'_> {
    fn load(&self, kind: NodeKind, id: &ChunkId) -> Result<Arc<[u8]>> {
        self.reader.chunk(kind.into(), id, |_| Ok(true)).map(Arc::from)
    }
}

/// A tree that is being written again.
struct Salvage<'a> {
    nodes: &'a Nodes<'a>,
    named: SnapshotChunks<'a>,
    root: ChunkId,
    key_kind: KeyKind,
    writer: Writer,
    refs: RefsCollector,
    tree: Option<TreeBuilder>,
    /// Keys of files that are lost, for the links to them.
    lost: HashSet<Key>,
    entries: u64,
    progress: &'a dyn Progress,
}

impl Salvage<'_> {
    /// Writes everything that is left; `None` where that is nothing.
    fn walk(&mut self) -> Result<Option<TreeRoot>> {
        let nodes = self.nodes;
        let mut walk = match TreeWalk::new(nodes, &self.root, self.key_kind, KeyRange::all()) {
            Ok(walk) => walk,
            Err(error) if is_lost(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        loop {
            if self.progress.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "salvaging was stopped; the snapshots are as they were"));
            }
            match walk.next() {
                Some(Ok(entry)) => self.take(entry)?,
                Some(Err(error)) if is_lost(&error) => walk.skip_damage(),
                Some(Err(error)) => return Err(error),
                None => break,
            }
            self.progress.event(Event::Advance { bytes: 0, items: 1 });
        }
        match self.tree.take().filter(|_| self.entries > 0) {
            Some(tree) => tree.finish(&mut NodeStore { writer: &mut self.writer, refs: &mut self.refs }).map(Some),
            None => Ok(None),
        }
    }

    fn take(&mut self, mut entry: Entry) -> Result<()> {
        let is_kept = match &mut entry.kind {
            EntryKind::File(content) => {
                let holes = content.holes.iter().fold(0_u64, |sum, (_, length)| sum.saturating_add(*length));
                self.take_chunks(&mut content.chunks, content.size.saturating_sub(holes))?
            }
            EntryKind::HardLink(target) => self.has_target(target)?,
            _ => true,
        };
        if !is_kept {
            self.lost.insert(entry.key);
            return Ok(());
        }
        self.entries += 1;
        match &mut self.tree {
            Some(tree) => tree.push(entry, &mut NodeStore { writer: &mut self.writer, refs: &mut self.refs }),
            None => Err(Error::new(ErrorKind::Internal, "the tree was ended")),
        }
    }

    /// Notes the chunks of a file as used, and writes its recipe again where it has one; false where a chunk is lost.
    fn take_chunks(&mut self, chunks: &mut ChunkList, data_bytes: u64) -> Result<bool> {
        match chunks {
            ChunkList::Inline(list) => {
                let mut uses = Vec::with_capacity(list.len().min(INLINE_CHUNKS_MAX));
                for chunk in list {
                    let Some(used) = self.find(&chunk.id)? else { return Ok(false) };
                    uses.push(used);
                }
                uses.iter().for_each(|used| self.refs.mark(used.frame, used.position));
                Ok(true)
            }
            ChunkList::Recipe(root) => {
                // Twice, so that nothing of a lost file is noted, however long it is.
                let root = *root;
                if !self.each_chunk(&root, data_bytes, &mut |run, chunk| Ok(run.find(&chunk.id)?.is_some()))? {
                    return Ok(false);
                }
                let mut recipe = RecipeBuilder::new();
                let is_there = self.each_chunk(&root, data_bytes, &mut |run, chunk| {
                    let Some(used) = run.find(&chunk.id)? else { return Ok(false) };
                    run.refs.mark(used.frame, used.position);
                    recipe.push(chunk, &mut NodeStore { writer: &mut run.writer, refs: &mut run.refs })?;
                    Ok(true)
                })?;
                if is_there {
                    *chunks = ChunkList::Recipe(recipe.finish(&mut NodeStore { writer: &mut self.writer, refs: &mut self.refs })?.id);
                }
                Ok(is_there)
            }
        }
    }

    /// Visits the chunks of a recipe until `visit` says no; false then, and where a node is lost.
    fn each_chunk(&mut self, root: &ChunkId, data_bytes: u64, visit: &mut dyn FnMut(&mut Self, ChunkRef) -> Result<bool>) -> Result<bool> {
        let nodes = self.nodes;
        let walk = match RecipeWalk::new(nodes, root, data_bytes, 0) {
            Ok(walk) => walk,
            Err(error) if is_lost(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        for chunk in walk {
            match chunk {
                Ok((_, chunk)) if visit(self, chunk)? => {}
                Ok(_) => return Ok(false),
                Err(error) if is_lost(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn find(&self, id: &ChunkId) -> Result<Option<ChunkUse>> {
        match self.named.find(id) {
            Ok(place) => Ok(Some(ChunkUse { frame: place.frame, position: place.position })),
            Err(error) if is_lost(&error) => self.writer.find(id),
            Err(error) => Err(error),
        }
    }

    /// Whether what a hard link leads to is kept.
    fn has_target(&self, target: &Key) -> Result<bool> {
        if self.lost.contains(target) {
            return Ok(false);
        }
        match find_entry(self.nodes, &self.root, self.key_kind, target) {
            Ok(found) => Ok(found.is_some_and(|entry| !matches!(entry.kind, EntryKind::Folder | EntryKind::HardLink(_)))),
            Err(error) if is_lost(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

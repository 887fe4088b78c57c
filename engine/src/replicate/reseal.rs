//! Into a repository with keys of its own: content is read, cut and sealed anew.
//!
//! Chunk ids and cuts are the target's, as if the files had been backed up to it, so that they deduplicate with whatever else is there. What describes a
//! snapshot is kept: paths, series, host, tags, times, kind. A snapshot that the target has of the same moment is not copied again: one of the same series,
//! time, kind, and counts of entries and bytes.
//!
//! The snapshot before, if it was copied from here ([`Memo`]), is a hint: where a file has the content that it has there, the target's chunks of that one
//! are taken, after each was found to stand, and nothing is read.

use super::memo::Memo;
use super::plan::{Chosen, choose};
use super::{ReplicateOptions, ReplicateSummary};
use crate::backup::Chunking;
use crate::backup::publish::{Draft, Published, publish};
use crate::crypto::derive;
use crate::entry::{ChunkList, ChunkRef, Entry, EntryKind, FileContent, Key, KeyKind};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::config::CutMethod;
use crate::format::session::SessionKind;
use crate::format::snapshot::series_token;
use crate::id::{ChunkId, SnapshotId};
use crate::limits::INLINE_CHUNKS_MAX;
use crate::progress::{Event, Progress};
use crate::repository::{
    ChunkKind, FrameReader, NodeStore, RefsCollector, Repository, Session, Snapshot, SnapshotChunks, SnapshotListing, SnapshotState, Writer,
};
use crate::restore::reading::{Reading, with_reader};
use crate::tree::{KeyRange, NodeSource, RecipeBuilder, RecipeWalk, TreeBuilder, TreeWalk};
use std::collections::{HashMap, HashSet};

const LEVEL: i32 = 3;

/// Copies snapshots into `target`, oldest first.
pub(super) fn replicate(
    source: &Repository,
    target: &Repository,
    options: &ReplicateOptions,
    progress: &dyn Progress,
) -> Result<ReplicateSummary> {
    target.require(Roles::BACKUP, "storing content anew")?;
    target.require_writable()?;
    source.require_newest_config()?;
    target.require_newest_config()?;
    with_reader(source, progress, |reading| {
        let Chosen { snapshots: chosen, damaged, problems } = choose(source, &source.list_snapshots()?, options)?;
        let mut summary = ReplicateSummary { resealed: true, snapshots_damaged: damaged, problems, ..ReplicateSummary::default() };
        let mut snapshots = Vec::new();
        for id in chosen {
            match reading.snapshot(id) {
                Ok(snapshot) => snapshots.push(snapshot),
                Err(error) if is_lost(&error) => summary.snapshots_damaged.push((id, error.to_string())),
                Err(error) => return Err(error),
            }
        }
        snapshots.sort_by_key(|snapshot| (snapshot.header.time, snapshot.id));
        let total = snapshots.iter().map(|snapshot| snapshot.header.file_bytes).sum();
        progress.event(Event::Phase { name: "replicate", bytes_total: Some(total), items_total: None });
        let (mut memo, mut taken) = (Memo::load(source, target), HashSet::new());
        // The newest of each series that was copied from here.
        let mut before: HashMap<&str, (&Snapshot, SnapshotId)> = HashMap::new();
        for snapshot in &snapshots {
            let base = before.get(snapshot.body.series.as_str()).copied();
            let listing = target.list_snapshots()?;
            match twin(target, &listing, snapshot, (memo.copy_of(&snapshot.id), &mut taken)) {
                Some((_, true)) => {
                    summary.snapshots_forgotten.push(snapshot.id);
                    continue;
                }
                Some((there, false)) => {
                    target.backend.make_durable(&listing.publications([there]))?;
                    summary.snapshots_present += 1;
                    progress.event(Event::Advance { bytes: snapshot.header.file_bytes, items: 1 });
                    if memo.copy_of(&snapshot.id) == Some(there) {
                        before.insert(&snapshot.body.series, (snapshot, there));
                    }
                    continue;
                }
                None if options.dry_run => {
                    summary.bytes_planned += snapshot.header.file_bytes;
                    summary.snapshots.push(snapshot.id);
                    continue;
                }
                None => {}
            }
            match copy(source, target, reading, snapshot, base, progress) {
                Ok((published, bytes_read)) => {
                    summary.bytes_planned += bytes_read;
                    summary.bytes_sent += published.bytes_stored;
                    summary.snapshots.push(snapshot.id);
                    memo.note(snapshot.id, published.id);
                    taken.insert(published.id);
                    before.insert(&snapshot.body.series, (snapshot, published.id));
                }
                Err(Failed::Source(error)) if is_lost(&error) => summary.snapshots_damaged.push((snapshot.id, error.to_string())),
                Err(Failed::Source(error) | Failed::Target(error)) => return Err(error),
            }
        }
        Ok(summary)
    })
}

/// Whether something at the source is damaged or gone, rather than out of reach for now.
fn is_lost(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Unsupported)
}

/// The snapshot of the same moment at the target, and whether it was forgotten: the one that is known to be the copy, or one that stands for no other
/// snapshot yet.
fn twin(
    target: &Repository,
    listing: &SnapshotListing,
    snapshot: &Snapshot,
    (known, taken): (Option<SnapshotId>, &mut HashSet<SnapshotId>),
) -> Option<(SnapshotId, bool)> {
    let (header, series) = (&snapshot.header, series_token(&target.credential.token_key, &snapshot.body.series));
    let twins = listing.headers().filter(|(_, other)| {
        let is_same_moment = other.series == series && other.time == header.time && other.source_kind == header.source_kind;
        is_same_moment && other.entries == header.entries && other.file_bytes == header.file_bytes
    });
    let counted = twins.filter(|(id, other)| listing.state(*id, other) == SnapshotState::Closed && !taken.contains(id));
    let twins = counted.map(|(id, _)| (id, listing.withdrawn.contains(&id)));
    let twin = twins.min_by_key(|(id, is_forgotten)| (Some(*id) != known, *is_forgotten, *id))?;
    taken.insert(twin.0);
    Some(twin)
}

/// On which side it failed: damage at the source concerns one snapshot.
enum Failed {
    Source(Error),
    Target(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Target(error)
    }
}

/// Copies one snapshot in a session of its own; gives how many bytes of content were read, too.
fn copy(
    source: &Repository,
    target: &Repository,
    reading: &Reading<'_>,
    snapshot: &Snapshot,
    base: Option<(&Snapshot, SnapshotId)>,
    progress: &dyn Progress,
) -> std::result::Result<(Published, u64), Failed> {
    let chunks = reading.chunks(snapshot, progress).map_err(Failed::Source)?;
    let session = Session::begin(target, SessionKind::Writer)?;
    match copy_in(source, target, reading, (snapshot, &chunks), base, &session, progress) {
        Ok((published, bytes_read)) => {
            session.close(true, vec![published.id])?;
            Ok((published, bytes_read))
        }
        Err(failed) => {
            session.give_up();
            Err(failed)
        }
    }
}

fn copy_in(
    source: &Repository,
    target: &Repository,
    reading: &Reading<'_>,
    (snapshot, chunks): (&Snapshot, &SnapshotChunks<'_>),
    base: Option<(&Snapshot, SnapshotId)>,
    session: &Session<'_>,
    progress: &dyn Progress,
) -> std::result::Result<(Published, u64), Failed> {
    let index = target.open_index()?;
    index.remove_packs(&target.condemned()?.1);
    let reader = FrameReader::new(target, std::sync::Arc::clone(&index));
    let writer = Writer::start(target, session, index, LEVEL)?;
    let key_kind = if snapshot.body.keys_are_paths { KeyKind::Paths } else { KeyKind::Objects };
    let key = target.credential.chunk_id_key.as_ref();
    let key = key.ok_or_else(|| Error::new(ErrorKind::Unauthorized, "this credential cannot name chunks"))?;
    let at_source;
    let at_target;
    let hint = match base.filter(|_| target.roles().contain(Roles::RESTORE)) {
        Some((before, there)) => {
            at_source = reading.chunks(before, progress).map_err(Failed::Source)?;
            let listing = target.list_snapshots()?;
            let there = target.read_snapshot(there, &listing)?;
            at_target = target.snapshot_chunks(&reader, &there.header)?;
            Hint::new((&at_source, &before.body.tree_root), (&at_target, &there.body.tree_root), key_kind).ok()
        }
        None => None,
    };
    let mut copying = Copying {
        source,
        chunks,
        chunking: Chunking::new(target, &writer)?,
        writer,
        refs: RefsCollector::default(),
        bytes_read: 0,
        progress,
    };
    let mut tree = TreeBuilder::new(*derive("icecore 1 tree boundary", &[key.bytes()]).bytes(), key_kind);
    copying.walk(snapshot, key_kind, hint, &mut tree)?;
    let tree = tree.finish(&mut NodeStore { writer: &mut copying.writer, refs: &mut copying.refs })?;
    let body = &snapshot.body;
    let draft = Draft {
        tree,
        keys_are_paths: body.keys_are_paths,
        source_kind: snapshot.header.source_kind,
        series: &body.series,
        host: &body.host,
        program: &body.program,
        paths: &body.paths,
        tags: &body.tags,
        time: snapshot.header.time,
        started: body.started,
        ended: Some(body.ended),
        whole: body.whole,
    };
    Ok((publish(target, session, &mut copying.writer, copying.refs, &draft)?, copying.bytes_read))
}

/// The snapshot before, as both have it, walked beside the one that is copied.
struct Hint<'a> {
    source: Beside<'a>,
    target: Beside<'a>,
    nodes: &'a SnapshotChunks<'a>,
}

impl<'a> Hint<'a> {
    fn new(source: (&'a SnapshotChunks<'a>, &ChunkId), target: (&'a SnapshotChunks<'a>, &ChunkId), key_kind: KeyKind) -> Result<Self> {
        let beside = |(nodes, root): (&'a SnapshotChunks<'a>, &ChunkId)| -> Result<Beside<'a>> {
            Ok(Beside { walk: TreeWalk::new(nodes, root, key_kind, KeyRange::all())?, next: None })
        };
        Ok(Self { source: beside(source)?, target: beside(target)?, nodes: target.0 })
    }

    /// What the target has for a file of this key and content; nothing where the snapshot before has another one.
    fn content(&mut self, key: &Key, content: &FileContent) -> Result<Option<FileContent>> {
        let (here, there) = (self.source.at(key)?, self.target.at(key)?);
        match (here.map(|entry| entry.kind), there.map(|entry| entry.kind)) {
            (Some(EntryKind::File(here)), Some(EntryKind::File(there))) => {
                let is_same = here == *content && (there.size, &there.holes) == (content.size, &content.holes);
                Ok(Some(there).filter(|_| is_same))
            }
            _ => Ok(None),
        }
    }
}

/// A walk that is asked for ascending keys.
struct Beside<'a> {
    walk: TreeWalk<'a>,
    next: Option<Entry>,
}

impl Beside<'_> {
    fn at(&mut self, key: &Key) -> Result<Option<Entry>> {
        loop {
            match self.next.take() {
                Some(entry) if entry.key == *key => return Ok(Some(entry)),
                Some(entry) if entry.key > *key => {
                    self.next = Some(entry);
                    return Ok(None);
                }
                _ => match self.walk.next() {
                    Some(entry) => self.next = Some(entry?),
                    None => return Ok(None),
                },
            }
        }
    }
}

/// A snapshot on its way.
struct Copying<'a> {
    source: &'a Repository,
    chunks: &'a SnapshotChunks<'a>,
    chunking: Chunking,
    writer: Writer,
    refs: RefsCollector,
    bytes_read: u64,
    progress: &'a dyn Progress,
}

impl Copying<'_> {
    fn walk(
        &mut self,
        snapshot: &Snapshot,
        key_kind: KeyKind,
        mut hint: Option<Hint<'_>>,
        tree: &mut TreeBuilder,
    ) -> std::result::Result<(), Failed> {
        let nodes = self.chunks;
        for entry in TreeWalk::new(nodes, &snapshot.body.tree_root, key_kind, KeyRange::all()).map_err(Failed::Source)? {
            let mut entry = entry.map_err(Failed::Source)?;
            if self.progress.is_cancelled() {
                return Err(Failed::Target(Error::new(
                    ErrorKind::Cancelled,
                    "it was stopped; what was copied is found again by the next run",
                )));
            }
            if let EntryKind::File(content) = &mut entry.kind {
                let known = match hint.as_mut().map(|hint| (hint.content(&entry.key, content), hint.nodes)) {
                    Some((Ok(Some(there)), nodes)) => self.take_over(&there, nodes).unwrap_or(None),
                    Some((Ok(None), _)) | None => None,
                    // A hint that cannot be read is none.
                    Some((Err(_), _)) => {
                        hint = None;
                        None
                    }
                };
                match known {
                    Some(known) => {
                        self.progress.event(Event::Advance { bytes: content.size, items: 0 });
                        *content = known;
                    }
                    None => self.store(content)?,
                }
            }
            tree.push(entry, &mut NodeStore { writer: &mut self.writer, refs: &mut self.refs })?;
            self.progress.event(Event::Advance { bytes: 0, items: 1 });
        }
        Ok(())
    }

    /// The content that the target has, if each of its chunks stands where it may be used.
    fn take_over(&mut self, there: &FileContent, nodes: &SnapshotChunks<'_>) -> Result<Option<FileContent>> {
        let mut uses = Vec::new();
        let is_there = for_each_chunk(nodes, there, |chunk| {
            let found = self.writer.find(&chunk.id)?;
            uses.extend(found.map(|used| (chunk, used)));
            Ok(found.is_some())
        })?;
        if !is_there {
            return Ok(None);
        }
        let mut list = Listed::default();
        for (chunk, used) in uses {
            self.refs.mark(used.frame, used.position);
            list.push(chunk, &mut NodeStore { writer: &mut self.writer, refs: &mut self.refs })?;
        }
        let chunks = list.finish(&mut NodeStore { writer: &mut self.writer, refs: &mut self.refs })?;
        Ok(Some(FileContent { chunks, ..there.clone() }))
    }

    /// Reads a file's content, range by range between its holes, and stores it as the target cuts it.
    fn store(&mut self, content: &mut FileContent) -> std::result::Result<(), Failed> {
        let cutters = &self.source.config.cutters;
        let is_fixed = cutters.iter().any(|cutter| cutter.id == content.cutter && matches!(cutter.method, CutMethod::Fixed(_)));
        content.cutter = self.chunking.cut(is_fixed).id;
        let mut ranges = data_lengths(content).into_iter();
        let (mut left, mut pending, mut list) = (ranges.next().unwrap_or(0), Vec::new(), Listed::default());
        let (chunks, mut failed) = (self.chunks, None);
        let walked = for_each_chunk(chunks, content, |chunk| {
            let bytes = chunks.chunk(ChunkKind::Data, &chunk.id)?;
            self.bytes_read += bytes.len() as u64;
            self.progress.event(Event::Advance { bytes: bytes.len() as u64, items: 0 });
            left = left.checked_sub(bytes.len() as u64).ok_or_else(|| Error::new(ErrorKind::Damaged, "a chunk reaches into a hole"))?;
            pending.extend_from_slice(&bytes);
            let is_last = left == 0;
            if let Err(error) = self.cut(&mut pending, is_fixed, is_last, &mut list) {
                failed = Some(error);
                return Ok(false);
            }
            if is_last {
                left = ranges.next().unwrap_or(0);
            }
            Ok(!self.progress.is_cancelled())
        });
        match (failed, walked) {
            (Some(error), _) => return Err(Failed::Target(error)),
            (None, Err(error)) => return Err(Failed::Source(error)),
            (None, Ok(false)) => return Err(Failed::Target(Error::new(ErrorKind::Cancelled, "it was stopped; run it again"))),
            (None, Ok(true)) => {}
        }
        content.chunks = list.finish(&mut NodeStore { writer: &mut self.writer, refs: &mut self.refs })?;
        Ok(())
    }

    /// Stores what can be cut of `pending`, all of it where `is_last`.
    fn cut(&mut self, pending: &mut Vec<u8>, is_fixed: bool, is_last: bool, list: &mut Listed) -> Result<()> {
        let length_max = self.chunking.cut(is_fixed).cutter.length_max();
        let mut at = 0;
        while is_last && at < pending.len() || pending.len() - at >= length_max {
            let Some(length) = self.chunking.cut(is_fixed).cutter.next_cut(&pending[at..], is_last) else { break };
            let bytes = &pending[at..at + length];
            let id = self.chunking.name(bytes)?;
            let used = self.writer.add(ChunkKind::Data, id, bytes)?;
            self.refs.mark(used.frame, used.position);
            let chunk = ChunkRef { id, length: length as u32 };
            list.push(chunk, &mut NodeStore { writer: &mut self.writer, refs: &mut self.refs })?;
            at += length;
        }
        pending.drain(..at);
        Ok(())
    }
}

/// Lengths of the ranges outside the holes, empty ones left out.
fn data_lengths(content: &FileContent) -> Vec<u64> {
    let (mut lengths, mut at) = (Vec::new(), 0);
    for (start, length) in &content.holes {
        lengths.push(start.saturating_sub(at));
        at = start.saturating_add(*length);
    }
    lengths.push(content.size.saturating_sub(at));
    lengths.retain(|length| *length > 0);
    lengths
}

/// Visits the chunks of a file in order, until `visit` says no; false then.
fn for_each_chunk(nodes: &dyn NodeSource, content: &FileContent, mut visit: impl FnMut(ChunkRef) -> Result<bool>) -> Result<bool> {
    match &content.chunks {
        ChunkList::Inline(chunks) => chunks.iter().try_fold(true, |goes_on, chunk| if goes_on { visit(*chunk) } else { Ok(false) }),
        ChunkList::Recipe(root) => {
            let holes = content.holes.iter().fold(0_u64, |sum, (_, length)| sum.saturating_add(*length));
            for chunk in RecipeWalk::new(nodes, root, content.size.saturating_sub(holes), 0)? {
                if !visit(chunk?.1)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
    }
}

/// A chunk list that becomes a recipe when it is long.
#[derive(Default)]
struct Listed {
    chunks: Vec<ChunkRef>,
    recipe: Option<RecipeBuilder>,
}

impl Listed {
    fn push(&mut self, chunk: ChunkRef, nodes: &mut NodeStore<'_>) -> Result<()> {
        if self.chunks.len() == INLINE_CHUNKS_MAX {
            let mut recipe = RecipeBuilder::new();
            self.chunks.drain(..).try_for_each(|chunk| recipe.push(chunk, nodes))?;
            self.recipe = Some(recipe);
        }
        match &mut self.recipe {
            Some(recipe) => recipe.push(chunk, nodes),
            None => {
                self.chunks.push(chunk);
                Ok(())
            }
        }
    }

    fn finish(self, nodes: &mut NodeStore<'_>) -> Result<ChunkList> {
        match self.recipe {
            Some(recipe) => Ok(ChunkList::Recipe(recipe.finish(nodes)?.id)),
            None => Ok(ChunkList::Inline(self.chunks)),
        }
    }
}

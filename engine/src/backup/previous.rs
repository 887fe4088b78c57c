//! The previous backup of a series, to tell new files from changed ones.
//!
//! The stat cache knows; without one the tree of the newest snapshot is walked beside the source, where the credential may read it.
//! This only decides what is counted, never what is stored.

use super::stat_cache::StatCache;
use crate::entry::{ChunkList, ChunkRef, Entry, EntryKind, FileContent, KeyKind};
use crate::error::Result;
use crate::format::Roles;
use crate::format::snapshot::series_token;
use crate::id::ChunkId;
use crate::repository::{FrameReader, Repository, Snapshot, SnapshotChunks};
use crate::tree::{KeyRange, TreeWalk};
use std::iter::Peekable;
use std::sync::Arc;

/// What the last backup of the series stored.
#[derive(Debug)]
pub(super) enum Previous<'a> {
    /// As the stat cache of this machine has it.
    Cache(Arc<StatCache>),
    /// As the newest snapshot has it.
    Tree(Box<Peekable<TreeWalk<'a>>>),
    /// There is none, or it cannot be read.
    Nothing,
}

/// A tree that can be walked.
#[derive(Debug)]
pub(super) struct PreviousTree<'a> {
    chunks: SnapshotChunks<'a>,
    root: ChunkId,
}

impl<'a> PreviousTree<'a> {
    /// The newest snapshot of `series`, if there is one that this credential may read.
    pub(super) fn newest(repository: &'a Repository, reader: &'a FrameReader, series: &str) -> Result<Option<Self>> {
        let Some(snapshot) = newest(repository, series)? else { return Ok(None) };
        Ok(Some(Self { chunks: repository.snapshot_chunks(reader, &snapshot.header)?, root: snapshot.body.tree_root }))
    }
}

/// The newest snapshot of `series`, if there is one that this credential may read.
pub(super) fn newest(repository: &Repository, series: &str) -> Result<Option<Snapshot>> {
    if !repository.roles().contain(Roles::RESTORE) {
        return Ok(None);
    }
    let token = series_token(&repository.credential.token_key, series);
    let listing = repository.list_snapshots()?;
    let headers = listing.headers().filter(|(id, header)| header.series == token && !listing.withdrawn.contains(id));
    let Some((id, _)) = headers.max_by_key(|(_, header)| (header.time, header.sequence)) else { return Ok(None) };
    repository.read_snapshot(id, &listing).map(Some)
}

impl<'a> Previous<'a> {
    /// From the stat cache where there is one, otherwise from the tree.
    pub(super) fn new(cache: Option<Arc<StatCache>>, tree: Option<&'a PreviousTree<'a>>) -> Self {
        match (cache, tree) {
            (Some(cache), _) => Self::Cache(cache),
            (None, Some(tree)) => match TreeWalk::new(&tree.chunks, &tree.root, KeyKind::Paths, KeyRange::all()) {
                Ok(walk) => Self::Tree(Box::new(walk.peekable())),
                Err(_) => Self::Nothing,
            },
            (None, None) => Self::Nothing,
        }
    }

    /// The stat cache.
    pub(super) fn cache(&self) -> Option<Arc<StatCache>> {
        match self {
            Self::Cache(cache) => Some(Arc::clone(cache)),
            _ => None,
        }
    }

    /// Whether the file was there, and if so whether it was the same in content and metadata. Entries come in key order. `chunks` are those of
    /// the file where a recipe holds them.
    pub(super) fn compare(&mut self, entry: &Entry, chunks: &[ChunkRef]) -> Option<bool> {
        match self {
            Self::Nothing => None,
            Self::Cache(cache) => {
                let cached = cache.get(&entry.key)?.entry;
                let EntryKind::File(content) = &cached.kind else { return Some(false) };
                let chunks = match &entry.kind {
                    EntryKind::File(FileContent { chunks: ChunkList::Inline(inline), .. }) => inline,
                    _ => chunks,
                };
                let is_same_content = matches!(&content.chunks, ChunkList::Inline(list) if list == chunks);
                Some(is_same_content && is_same_shape(entry, &cached))
            }
            Self::Tree(walk) => {
                // A damaged tree ends the comparison, not the backup.
                while walk.next_if(|other| other.as_ref().is_ok_and(|other| other.key < entry.key)).is_some() {}
                let Some(Ok(other)) = walk.next_if(|other| other.as_ref().is_ok_and(|other| other.key == entry.key)) else { return None };
                Some(entry == &other)
            }
        }
    }
}

/// Whether all but the chunk lists agree.
fn is_same_shape(entry: &Entry, other: &Entry) -> bool {
    match (&entry.kind, &other.kind) {
        (EntryKind::File(a), EntryKind::File(b)) => {
            (a.size, &a.holes, a.cutter) == (b.size, &b.holes, b.cutter) && entry.metadata == other.metadata
        }
        _ => false,
    }
}

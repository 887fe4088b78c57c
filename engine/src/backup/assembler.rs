//! The assembler: takes batches in order, stores what is new, builds the tree.

use super::batch::{Batch, Extent, Found, Item};
use super::collected::{Collected, Refused};
use super::earlier::{Earlier, NodesAgainst};
use super::previous::Previous;
use super::stat_cache::{StatCache, StatCacheBuilder};
use super::{BackupOptions, BackupSummary, Feed, stat_cache_context, stat_cache_path};
use crate::chunker::Seam;
use crate::crypto::derive;
use crate::entry::{ChunkList, ChunkRef, Entry, EntryKind, FileContent, Key, KeyKind};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use crate::limits::INLINE_CHUNKS_MAX;
use crate::progress::{Event, Progress};
use crate::repository::{BaseHint, ChunkKind, ChunkUse, NodeStore, RefsCollector, Repository, Writer};
use crate::runtime::Timestamp;
use crate::source::StatKey;
use crate::tree::{RecipeBuilder, TreeBuilder, check_entry};
use std::collections::HashSet;
use std::sync::Arc;

/// Files with more chunks are not remembered by the stat cache.
const CACHED_CHUNKS_MAX: usize = 1_000_000;

/// More bytes of extended attributes than that, and it is looked whether the tree can hold them.
const ATTRIBUTES_LENGTH_MANY: usize = 32 << 10;

/// A backup on its way.
pub(super) struct Assembler<'a> {
    pub(super) repository: &'a Repository,
    pub(super) options: &'a BackupOptions,
    pub(super) progress: &'a dyn Progress,
    pub(super) writer: Writer,
    /// How many batches may be between reading and storing.
    pub(super) in_flight: usize,
    pub(super) refs: RefsCollector,
    pub(super) tree: TreeBuilder,
    pub(super) summary: BackupSummary,
    pub(super) started: Timestamp,
    pub(super) feed: Feed,
    /// Entries that are not in key order, until the end.
    collected: Option<Collected>,
    /// What the last backup of the series saw.
    pub(super) cache: Option<Arc<StatCache>>,
    /// How the last snapshot's files were cut, where the stat cache does not tell.
    pub(super) recalled: Option<Arc<StatCache>>,
    /// What this one sees; `None` where there is no cache folder, or where writing to it failed.
    pub(super) next_cache: Option<StatCacheBuilder>,
    /// What the last snapshot of the series holds; tells new from changed files.
    previous: Previous<'a>,
    /// What leaves are compressed against; `None` where nothing is.
    pub(super) earlier: Option<Earlier<'a>>,
    /// What stands behind the chunk that was found last: if a new one follows it, that is likely what it was, wherever in the source that is. So
    /// what was moved and changed has bases.
    behind: Option<ChunkUse>,
    /// Files that could not be read and that have other names.
    lost: HashSet<Key>,
    file: OpenFile,
}

/// The chunks of the file whose entry is yet to come.
#[derive(Default)]
struct OpenFile {
    chunks: Vec<ChunkRef>,
    count: usize,
    recipe: Option<RecipeBuilder>,
    /// Between the extents of a large file.
    seam: Seam,
    /// Whether the end of the file was met.
    is_short: bool,
}

impl<'a> Assembler<'a> {
    pub(super) fn new(
        repository: &'a Repository,
        options: &'a BackupOptions,
        progress: &'a dyn Progress,
        feed: Feed,
        (writer, in_flight): (Writer, usize),
        previous: Previous<'a>,
        earlier: Option<Earlier<'a>>,
    ) -> Result<Self> {
        let chunk_id_key = repository.credential.chunk_id_key.as_ref();
        let chunk_id_key = chunk_id_key.ok_or_else(|| Error::new(ErrorKind::Unauthorized, "this credential cannot name chunks"))?;
        let boundary_key = derive("icecore 1 tree boundary", &[chunk_id_key.bytes()]);
        let path = if feed == Feed::Files { stat_cache_path(repository, &options.series) } else { None };
        // Without a cache a backup is slower and just as good.
        let next_cache = path.and_then(|path| StatCacheBuilder::create(&path, stat_cache_context(repository)).ok());
        Ok(Self {
            repository,
            options,
            progress,
            writer,
            in_flight,
            refs: RefsCollector::default(),
            tree: TreeBuilder::new(*boundary_key.bytes(), KeyKind::Paths),
            summary: BackupSummary::default(),
            started: repository.runtime.clock.now(),
            feed,
            collected: (feed == Feed::Tar).then(Collected::default),
            cache: previous.cache(),
            recalled: None,
            next_cache,
            previous,
            earlier,
            behind: None,
            lost: HashSet::new(),
            file: OpenFile::default(),
        })
    }

    /// Takes the next batch in the sequence.
    pub(super) fn take(&mut self, batch: Batch) -> Result<()> {
        if self.progress.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "interrupted; what was stored is kept and the next backup uses it"));
        }
        let Batch { data, items, bytes_read } = batch;
        let count = items.iter().filter(|item| matches!(item, Item::Entry { .. } | Item::Unmodified { .. })).count() as u64;
        let reused = items.iter().map(|item| if let Item::Unmodified { content, .. } = item { content.size } else { 0 }).sum::<u64>();
        for item in items {
            match item {
                Item::Begin(key) => self.begin_file(Some(key)),
                Item::Chunks(chunks) => self.take_chunks(&data, chunks)?,
                Item::Extent(extent) => self.take_extent(&data, extent)?,
                Item::Entry { entry, stat } => self.take_entry(entry, stat)?,
                Item::Unmodified { entry, stat, content, uses } => self.take_unmodified(entry, stat, content, &uses)?,
                Item::Failed { path, message } => {
                    self.file = OpenFile::default();
                    self.begin_file(None);
                    self.fail(&path, &message);
                }
                Item::Lost(key) => drop(self.lost.insert(key)),
            }
        }
        self.summary.bytes_read += bytes_read;
        self.progress.event(Event::Advance { bytes: bytes_read + reused, items: count });
        Ok(())
    }

    fn take_chunks(&mut self, data: &[u8], chunks: Vec<Found>) -> Result<()> {
        chunks.into_iter().try_for_each(|Found { id, range, place, bases }| self.take_chunk(&data[range], id, place, bases))
    }

    /// Takes what a worker cut, from where it meets the cuts before.
    fn take_extent(&mut self, data: &[u8], extent: Extent) -> Result<()> {
        if self.file.is_short {
            return Ok(());
        }
        let Extent { chunking, is_fixed, mut found, is_last, is_short } = extent;
        let cuts: Vec<_> = found.iter().map(|found| found.range.clone()).collect();
        let mut seam = std::mem::take(&mut self.file.seam);
        let met = seam.join(&chunking.cut(is_fixed).cutter, data, &cuts, is_last, |bytes| {
            let id = chunking.name(bytes)?;
            self.take_chunk(bytes, id, chunking.place(&id)?, Vec::new())
        })?;
        (self.file.seam, self.file.is_short) = (seam, is_short);
        self.take_chunks(data, found.split_off(met))
    }

    fn take_chunk(&mut self, bytes: &[u8], id: ChunkId, place: Option<ChunkUse>, bases: Vec<BaseHint>) -> Result<()> {
        let behind = |place: ChunkUse| ChunkUse { position: place.position + 1, ..place };
        let place = match (place, self.behind) {
            (Some(place), _) => {
                self.behind = Some(behind(place));
                place
            }
            (None, Some(was)) if bases.is_empty() => {
                self.behind = Some(behind(was));
                self.writer.add_guessing(id, bytes, was)?
            }
            (None, _) => {
                self.behind = None;
                self.writer.add_against(ChunkKind::Data, id, bytes, bases)?
            }
        };
        self.refs.mark(place.frame, place.position);
        self.push_chunk(ChunkRef { id, length: bytes.len() as u32 })
    }

    /// Few chunks stand in the entry itself, many in a recipe, which is written as they come.
    fn push_chunk(&mut self, chunk: ChunkRef) -> Result<()> {
        if let Some(earlier) = &mut self.earlier {
            earlier.chunk(chunk.length);
        }
        let file = &mut self.file;
        file.count += 1;
        let nodes = NodeStore { writer: &mut self.writer, refs: &mut self.refs };
        let mut nodes = NodesAgainst { nodes, earlier: self.earlier.as_mut() };
        if file.count == INLINE_CHUNKS_MAX + 1 {
            let mut recipe = RecipeBuilder::new();
            file.chunks.iter().try_for_each(|chunk| recipe.push(*chunk, &mut nodes))?;
            file.recipe = Some(recipe);
        }
        if let Some(recipe) = &mut file.recipe {
            recipe.push(chunk, &mut nodes)?;
        }
        if file.count <= CACHED_CHUNKS_MAX {
            file.chunks.push(chunk);
        }
        Ok(())
    }

    /// Chunks come, of the file at this key where that is known.
    fn begin_file(&mut self, key: Option<Key>) {
        if let Some(earlier) = &mut self.earlier {
            earlier.file(key);
        }
    }

    fn take_entry(&mut self, mut entry: Entry, stat: Option<StatKey>) -> Result<()> {
        if let EntryKind::HardLink(first) = &entry.kind
            && self.lost.contains(first)
        {
            self.fail_key(entry.key, "it is another name of a file that could not be read; the next backup tries it under this name");
            return Ok(());
        }
        let mut file = std::mem::take(&mut self.file);
        if let EntryKind::File(content) = &mut entry.kind {
            content.chunks = match file.recipe {
                Some(recipe) => {
                    let nodes = NodeStore { writer: &mut self.writer, refs: &mut self.refs };
                    ChunkList::Recipe(recipe.finish(&mut NodesAgainst { nodes, earlier: self.earlier.as_mut() })?.id)
                }
                None => ChunkList::Inline(std::mem::take(&mut file.chunks)),
            };
            if self.collected.is_none() {
                self.count(&entry, &file.chunks);
            }
            self.begin_file(None);
        }
        if let Some(stat) = stat.filter(|_| file.count <= CACHED_CHUNKS_MAX) {
            self.remember(&stat, &entry, file.chunks);
        }
        self.push_entry(entry)
    }

    fn take_unmodified(&mut self, mut entry: Entry, stat: StatKey, mut content: FileContent, uses: &[ChunkUse]) -> Result<()> {
        uses.iter().for_each(|place| self.refs.mark(place.frame, place.position));
        self.behind = uses.last().map(|last| ChunkUse { position: last.position + 1, ..*last });
        let ChunkList::Inline(chunks) = std::mem::take(&mut content.chunks) else {
            return Err(Error::new(ErrorKind::Internal, "the stat cache gave no chunk list"));
        };
        self.summary.files_unmodified += 1;
        let mut chunks_beside = Vec::new();
        content.chunks = match chunks.len() > INLINE_CHUNKS_MAX {
            true => {
                let mut nodes = NodeStore { writer: &mut self.writer, refs: &mut self.refs };
                let mut recipe = RecipeBuilder::new();
                chunks.iter().try_for_each(|chunk| recipe.push(*chunk, &mut nodes))?;
                chunks_beside = chunks;
                ChunkList::Recipe(recipe.finish(&mut nodes)?.id)
            }
            false => ChunkList::Inline(chunks),
        };
        entry.kind = EntryKind::File(content);
        self.remember(&stat, &entry, chunks_beside);
        self.push_entry(entry)
    }

    /// Counts a file that was read. `chunks` are all its chunks where a recipe holds them.
    fn count(&mut self, entry: &Entry, chunks: &[ChunkRef]) {
        let counter = match self.previous.compare(entry, chunks) {
            None => &mut self.summary.files_new,
            Some(false) => &mut self.summary.files_changed,
            Some(true) => &mut self.summary.files_unmodified,
        };
        *counter += 1;
    }

    /// Tells the next backup what this entry looked like, with its whole chunk list, which is `chunks` where a recipe holds it. Seen, for certain, not before the backup
    /// began: what changed after that may change again within the same timestamp.
    fn remember(&mut self, stat: &StatKey, entry: &Entry, chunks: Vec<ChunkRef>) {
        let Some(cache) = &mut self.next_cache else { return };
        let pushed = match &entry.kind {
            EntryKind::File(content) if matches!(content.chunks, ChunkList::Recipe(_)) => {
                let kind = EntryKind::File(FileContent { chunks: ChunkList::Inline(chunks), ..content.clone() });
                cache.push(stat, &Entry { kind, ..entry.clone() }, self.started)
            }
            _ => cache.push(stat, entry, self.started),
        };
        if pushed.is_err() {
            self.next_cache = None;
        }
    }

    fn fail(&mut self, path: &[u8], message: &str) {
        self.summary.files_failed += 1;
        self.progress.event(Event::ItemFailed { item: &String::from_utf8_lossy(path), message });
    }

    fn push_entry(&mut self, entry: Entry) -> Result<()> {
        if let Some(collected) = &mut self.collected {
            if let Some((key, message)) = collected.push(entry)? {
                self.fail_key(key, &message);
            }
            return Ok(());
        }
        let (entry, left_out) = match that_fits(entry) {
            Ok(fitting) => fitting,
            Err((key, message)) => {
                self.fail_key(key.clone(), &message);
                self.lost.insert(key);
                return Ok(());
            }
        };
        if let Some(message) = left_out {
            self.fail_key(entry.key.clone(), &message);
        }
        self.push_in_order(entry)
    }

    /// Puts the entries into the tree that could not be put there as they came.
    pub(super) fn push_collected(&mut self) -> Result<()> {
        let Some(collected) = self.collected.take() else { return Ok(()) };
        let (entries, refused) = collected.finish()?;
        refused.into_iter().for_each(|(key, message)| self.fail_key(key, &message));
        for entry in entries {
            if matches!(entry.kind, EntryKind::File(_)) {
                self.count(&entry, &[]);
            }
            self.push_in_order(entry)?;
        }
        Ok(())
    }

    fn fail_key(&mut self, mut key: Key, message: &str) {
        key.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b'/');
        self.fail(&key, message);
    }

    fn push_in_order(&mut self, entry: Entry) -> Result<()> {
        self.summary.entries += 1;
        if let Some(earlier) = &mut self.earlier {
            earlier.entry(&entry.key);
        }
        let nodes = NodeStore { writer: &mut self.writer, refs: &mut self.refs };
        self.tree.push(entry, &mut NodesAgainst { nodes, earlier: self.earlier.as_mut() })
    }
}

/// The entry as the tree can hold it: where its extended attributes are too much, without them, and a message that says so. Where it cannot be held at all, why: some file
/// systems have symlinks that point to nothing.
fn that_fits(mut entry: Entry) -> std::result::Result<(Entry, Option<String>), Refused> {
    let attributes: usize = entry.metadata.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
    let is_usual = attributes <= ATTRIBUTES_LENGTH_MANY && !matches!(entry.kind, EntryKind::Symlink(_));
    if is_usual || check_entry(&entry, KeyKind::Paths).is_ok() {
        return Ok((entry, None));
    }
    entry.metadata.xattrs.clear();
    match check_entry(&entry, KeyKind::Paths) {
        Ok(()) => {
            let message =
                format!("its extended attributes take {attributes} bytes, which is more than can be stored; it is stored without them");
            Ok((entry, Some(message)))
        }
        Err(error) => Err((entry.key, format!("it cannot be stored: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Metadata;
    use crate::limits::ATTRIBUTES_MAX;

    #[test]
    fn attributes_that_are_too_much_are_left_out_and_that_is_said() {
        let entry = |count: usize| {
            let xattrs = (0..count).map(|n| (format!("user.{n:03}").into_bytes(), vec![7; 65_536])).collect();
            Entry { key: b"file".to_vec(), kind: EntryKind::Fifo, metadata: Metadata { xattrs, ..Metadata::default() } }
        };
        for (count, fits) in [(0, true), (1, true), (14, true), (1 + ATTRIBUTES_MAX / 65_536, false)] {
            let (kept, message) = that_fits(entry(count)).unwrap();
            assert_eq!((kept.metadata.xattrs.len(), message.is_none()), (if fits { count } else { 0 }, fits), "{message:?}");
            check_entry(&kept, KeyKind::Paths).unwrap();
        }
    }

    #[test]
    fn what_cannot_be_stored_is_refused_by_itself() {
        let link =
            |target: &[u8]| Entry { key: b"link".to_vec(), kind: EntryKind::Symlink(target.to_vec()), metadata: Metadata::default() };
        that_fits(link(b"target")).unwrap();
        for target in [&b""[..], &[b'x'; 65_537], b"a\0b"] {
            let (key, message) = that_fits(link(target)).unwrap_err();
            assert_eq!((&key[..], message.contains("TREE-14")), (&b"link"[..], true), "{message}");
        }
    }
}

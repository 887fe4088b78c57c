//! The producer: walks folders, deals small files out to workers, reads large ones itself.

use super::batch::{Batch, Chunking, Cut, Dispatcher, Item, Numbered};
use super::stat_cache::StatCache;
use super::{BackupOptions, stat_cache_path};
use crate::entry::{ChunkList, EntryKind, FileContent};
use crate::error::{Error, ErrorKind, Result};
use crate::repository::{Repository, Writer};
use crate::runtime::channel::Receiver;
use crate::source::{Known, Roots, SourceEntry, SourceFile, SourceOptions, Walk, WalkItem};
use std::ops::Range;
use std::sync::Arc;

/// Holes of one file that are stored as such. More would not fit into an entry (`limits::NODE_SIZE_MAX`); they are read like content.
const HOLES_MAX: usize = 131_072;

/// Files up to this size are read by workers, many in one batch.
const SMALL_FILE_SIZE_MAX: u64 = 2 << 20;
/// What a worker reads of a file that was small when it was found.
const GROWN_FILE_SIZE_MAX: u64 = 16 << 20;
/// A batch ends when it has this many bytes to read, or this many entries.
const BATCH_BYTES: u64 = 1 << 20;
const BATCH_ENTRIES: usize = 512;
/// Of files that are likely not to be read, this part of their size counts.
const KNOWN_PART: u64 = 8;
/// Large files are read in pieces of this size.
const PIECE_LENGTH: usize = 4 << 20;

/// Opens the stat cache of a series.
pub(super) fn open_cache(repository: &Repository, options: &BackupOptions) -> Option<Arc<StatCache>> {
    let path = stat_cache_path(repository, &options.series)?;
    let cache = StatCache::open(&path, super::stat_cache_context(repository))?;
    Some(Arc::new(if options.ignore_device { cache.ignoring_device() } else { cache }))
}

/// Starts walking; the batches come out of what is returned.
pub(super) fn start(
    repository: &Repository,
    roots: &Roots,
    source: &SourceOptions,
    options: &BackupOptions,
    writer: &Writer,
    cache: Option<Arc<StatCache>>,
) -> Result<Receiver<Numbered>> {
    let known = cache.clone().filter(|_| !options.read_all).map(|cache| cache as Arc<dyn Known>);
    let walk = Walk::start(roots, source, known, &repository.runtime)?;
    let missing: Vec<_> =
        roots.failed().iter().map(|root| Ok(WalkItem::Failed { path: root.path.clone(), message: root.message.clone() })).collect();
    start_with(repository, missing.into_iter().chain(walk), writer, cache)
}

/// As [`start`], with what a walk gave.
pub(super) fn start_with(
    repository: &Repository,
    items: impl Iterator<Item = Result<WalkItem>> + Send + 'static,
    writer: &Writer,
    cache: Option<Arc<StatCache>>,
) -> Result<Receiver<Numbered>> {
    let (dispatcher, batches) = Dispatcher::new(repository)?;
    let chunking = Arc::new(Chunking::new(repository, writer)?);
    let producer = Producer { dispatcher, chunking, cache, small: Vec::new(), small_bytes: 0 };
    repository.runtime.executor.spawn("icecore-walk", Box::new(move || producer.run(items)));
    Ok(batches)
}

struct Producer {
    dispatcher: Dispatcher,
    chunking: Arc<Chunking>,
    cache: Option<Arc<StatCache>>,
    small: Vec<Step>,
    small_bytes: u64,
}

/// What the walk gave, on its way to a worker.
#[allow(clippy::large_enum_variant, reason = "nearly all are entries")]
enum Step {
    Entry(SourceEntry),
    Failed {
        path: Vec<u8>,
        message: String,
    },
    /// There is nothing left to do.
    Done(Item),
}

impl Producer {
    fn run(mut self, items: impl Iterator<Item = Result<WalkItem>>) {
        for item in items {
            let goes_on = match item {
                Ok(WalkItem::Entry(entry)) => self.take_entry(entry),
                Ok(WalkItem::Failed { path, message }) => self.take_small(Step::Failed { path, message }, 0),
                Err(error) => {
                    self.flush();
                    self.dispatcher.dispatch(|| Err(error));
                    return;
                }
            };
            if !goes_on {
                return;
            }
        }
        self.flush();
    }

    fn take_entry(&mut self, entry: SourceEntry) -> bool {
        let size = match &entry.entry.kind {
            EntryKind::File(content) => content.size,
            _ => 0,
        };
        match size > SMALL_FILE_SIZE_MAX {
            true => self.take_large(entry),
            false if entry.has_details => self.take_small(Step::Entry(entry), size),
            false => self.take_small(Step::Entry(entry), size / KNOWN_PART),
        }
    }

    /// Looks here whether a large file can be used again, since a worker would have to hold all of it if it cannot.
    fn take_large(&mut self, mut entry: SourceEntry) -> bool {
        let mut failed = None;
        if !entry.has_details {
            match reuse(&self.chunking, self.cache.as_deref(), &mut entry) {
                Ok(Some(item)) => {
                    let weight = item.weight();
                    return self.take_small(Step::Done(item), weight);
                }
                Ok(None) => failed = entry.read_details().err(),
                Err(error) => {
                    self.flush();
                    self.dispatcher.dispatch(|| Err(error));
                    return false;
                }
            }
        }
        if let Some(error) = failed {
            self.take_small(Step::Failed { path: entry.path(), message: error.to_string() }, 0);
        }
        self.flush() && self.read_large(entry)
    }

    fn take_small(&mut self, step: Step, size: u64) -> bool {
        self.small.push(step);
        self.small_bytes += size;
        match self.small_bytes >= BATCH_BYTES || self.small.len() >= BATCH_ENTRIES {
            true => self.flush(),
            false => true,
        }
    }

    fn flush(&mut self) -> bool {
        let steps = std::mem::take(&mut self.small);
        let bytes = std::mem::take(&mut self.small_bytes);
        if steps.is_empty() {
            return true;
        }
        let (chunking, cache) = (Arc::clone(&self.chunking), self.cache.clone());
        self.dispatcher.dispatch(move || small_batch(&chunking, cache.as_deref(), steps, bytes))
    }

    /// Reads and cuts here, in order; workers name the chunks and look them up.
    fn read_large(&mut self, mut entry: SourceEntry) -> bool {
        let chunking = Arc::clone(&self.chunking);
        let mut goes_on = true;
        let outcome = read_content(&chunking, &mut entry, u64::MAX, &mut Vec::new(), |data, ranges| {
            let chunking = Arc::clone(&chunking);
            let (data, bytes_read) = (std::mem::take(data), 0);
            goes_on = goes_on
                && self.dispatcher.dispatch(move || {
                    let found = chunking.find(&data, ranges)?;
                    let bytes_read = bytes_read + found.iter().map(|found| found.range.len() as u64).sum::<u64>();
                    Ok(Batch { data, items: vec![Item::Chunks(found)], bytes_read })
                });
            match goes_on {
                true => Ok(()),
                false => Err(Error::new(ErrorKind::Cancelled, "the backup has ended")),
            }
        });
        let mut items = Vec::new();
        end_file(&mut items, entry, outcome);
        goes_on && self.dispatcher.dispatch(move || Ok(Batch { items, ..Batch::default() }))
    }
}

/// Reads many small files, one after the other.
fn small_batch(chunking: &Chunking, cache: Option<&StatCache>, steps: Vec<Step>, bytes: u64) -> Result<Batch> {
    let mut batch = Batch { data: Vec::with_capacity(bytes as usize), ..Batch::default() };
    for step in steps {
        match step {
            Step::Failed { path, message } => batch.items.push(Item::Failed { path, message }),
            Step::Done(item) => batch.items.push(item),
            Step::Entry(entry) => small_entry(chunking, cache, entry, &mut batch)?,
        }
    }
    Ok(batch)
}

fn small_entry(chunking: &Chunking, cache: Option<&StatCache>, mut entry: SourceEntry, batch: &mut Batch) -> Result<()> {
    if !entry.has_details {
        if let Some(item) = reuse(chunking, cache, &mut entry)? {
            batch.items.push(item);
            return Ok(());
        }
        if let Err(error) = entry.read_details() {
            batch.items.push(Item::Failed { path: entry.path(), message: error.to_string() });
        }
    }
    if !matches!(entry.entry.kind, EntryKind::File(_)) {
        batch.items.push(Item::Entry { stat: Some(entry.stat), entry: entry.entry });
        return Ok(());
    }
    let start = batch.data.len();
    let mut data = std::mem::take(&mut batch.data);
    let mut chunks = Vec::new();
    let outcome = read_content(chunking, &mut entry, GROWN_FILE_SIZE_MAX, &mut data, |data, ranges| {
        chunks.append(&mut chunking.find(data, ranges)?);
        Ok(())
    });
    batch.bytes_read += (data.len() - start) as u64;
    batch.data = data;
    match &outcome {
        Ok(_) if !chunks.is_empty() => batch.items.push(Item::Chunks(chunks)),
        _ => {}
    }
    end_file(&mut batch.items, entry, outcome);
    Ok(())
}

/// What the last backup stored for an entry that has not changed, if all its chunks are still there.
fn reuse(chunking: &Chunking, cache: Option<&StatCache>, entry: &mut SourceEntry) -> Result<Option<Item>> {
    let Some(cache) = cache else { return Ok(None) };
    let cached = cache.get(&entry.entry.key).filter(|cached| cached.is_settled && cache.is_same(&cached.stat, &entry.stat));
    let Some(cached) = cached else { return Ok(None) };
    let (EntryKind::File(_), EntryKind::File(content)) = (&entry.entry.kind, cached.entry.kind) else {
        entry.entry.metadata.xattrs = cached.entry.metadata.xattrs;
        entry.entry.metadata.inode_flags = cached.entry.metadata.inode_flags;
        let (entry, stat) = (entry.entry.clone(), entry.stat);
        return Ok(Some(Item::Entry { entry, stat: Some(stat) }));
    };
    let ChunkList::Inline(chunks) = &content.chunks else { return Ok(None) };
    if content.cutter != chunking.cut(entry.is_fixed).id {
        return Ok(None);
    }
    let mut uses = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let Some(place) = chunking.place(&chunk.id)? else { return Ok(None) };
        uses.push(place);
    }
    entry.entry.metadata.xattrs = cached.entry.metadata.xattrs;
    entry.entry.metadata.inode_flags = cached.entry.metadata.inode_flags;
    Ok(Some(Item::Unmodified { entry: entry.entry.clone(), stat: entry.stat, content, uses }))
}

/// How reading a file went.
pub(super) enum Outcome {
    /// As it was found.
    Whole(FileContent),
    /// It changed meanwhile: what was read is stored, and why it may be torn.
    Torn(FileContent, String),
}

/// Pushes what follows the chunks of a file.
fn end_file(items: &mut Vec<Item>, mut entry: SourceEntry, outcome: Result<Outcome>) {
    let (content, torn) = match outcome {
        Ok(Outcome::Whole(content)) => (content, None),
        Ok(Outcome::Torn(content, why)) => (content, Some(why)),
        Err(error) => {
            // Chunks that were sent before belong to no entry; the assembler drops them.
            items.push(Item::Failed { path: entry.path(), message: error.to_string() });
            return;
        }
    };
    // What stat says of a device does not change when its content does.
    let stat = (torn.is_none() && !entry.is_device()).then_some(entry.stat);
    let torn = torn.map(|message| Item::Failed { path: entry.path(), message });
    entry.entry.kind = EntryKind::File(content);
    items.push(Item::Entry { entry: entry.entry, stat });
    // After the entry: a failure drops the chunks that came and belong to no entry.
    items.extend(torn);
}

/// Reads the ranges of a file outside its holes, up to `size_max`, appends them to `data` and hands out where they are cut. `take` may empty `data`.
pub(super) fn read_content(
    chunking: &Chunking,
    entry: &mut SourceEntry,
    size_max: u64,
    data: &mut Vec<u8>,
    mut take: impl FnMut(&mut Vec<u8>, Vec<Range<usize>>) -> Result<()>,
) -> Result<Outcome> {
    let file = entry.open()?;
    let opened = file.stat();
    // It may have changed since the walk saw it, as log files do all the time: then it is stored as it is now, which is whole as well.
    let is_as_found = opened == entry.stat || entry.refresh_from(&file)?;
    let cut = chunking.cut(entry.is_fixed);
    let mut content = FileContent { size: opened.size.min(size_max), cutter: cut.id, ..FileContent::default() };
    let mut end = 0;
    let mut ended_early = opened.size > size_max;
    for range in file.data_ranges() {
        let range = range?;
        let mut range = range.start..range.end.min(content.size);
        if range.is_empty() {
            break;
        }
        match range.start > end {
            true if content.holes.len() < HOLES_MAX => content.holes.push((end, range.start - end)),
            // Stored as the zeros that it reads as.
            true => range.start = end,
            false => {}
        }
        end = read_range(cut, &file, &range, data, &mut take)?;
        if end < range.end {
            ended_early = true;
            break;
        }
    }
    let after = file.stat_after()?;
    // What was cut off meanwhile is no hole.
    content.size = if ended_early { end } else { content.size.min(after.size).max(end) };
    if end < content.size {
        content.holes.push((end, content.size - end));
    }
    Ok(match is_as_found && !ended_early && after == opened {
        true => Outcome::Whole(content),
        false => Outcome::Torn(content, "it changed while it was read; what is stored may be a mixture of old and new".into()),
    })
}

/// Reads one range in pieces; gives where it ended, which is early where the file was cut short.
fn read_range(
    cut: &Cut,
    file: &SourceFile,
    range: &Range<u64>,
    data: &mut Vec<u8>,
    take: &mut impl FnMut(&mut Vec<u8>, Vec<Range<usize>>) -> Result<()>,
) -> Result<u64> {
    let mut offset = range.start;
    let mut start = data.len();
    loop {
        let wanted = usize::try_from(range.end - offset).unwrap_or(usize::MAX).min(PIECE_LENGTH);
        let filled = data.len();
        data.resize(filled + wanted, 0);
        let length = file.read_at(offset, &mut data[filled..])?;
        data.truncate(filled + length);
        offset += length as u64;
        let is_last = length < wanted || offset == range.end;
        let (ranges, cut_to) = cut.cut(data, start..data.len(), is_last);
        let rest = data[cut_to..].to_vec();
        if !ranges.is_empty() {
            take(data, ranges)?;
        }
        if is_last {
            return Ok(offset);
        }
        // What may go on beyond this piece begins the next one.
        match data.is_empty() {
            true => {
                data.extend_from_slice(&rest);
                start = 0;
            }
            false => start = cut_to,
        }
    }
}

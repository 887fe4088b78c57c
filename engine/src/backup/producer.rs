//! The producer: walks folders, deals small files out to workers, reads large ones itself.

use super::assembler::Assembler;
use super::batch::{Batch, Buffer, Chunking, Cut, Dispatcher, Found, Item, Numbered, PIECE_LENGTH};
use super::extents::Extents;
use super::hints::Hints;
use super::stat_cache::{Cached, StatCache};
use super::{BackupOptions, stat_cache_path};
use crate::chunker::Guide;
use crate::entry::{ChunkList, EntryKind, FileContent};
use crate::error::{Error, Result};
use crate::repository::{ChunkUse, Repository};
use crate::runtime::Timestamp;
use crate::runtime::channel::Receiver;
use crate::source::{Known, Roots, SourceEntry, SourceFile, SourceOptions, Walk, WalkItem};
use std::mem::discriminant;
use std::ops::Range;
use std::sync::Arc;

/// Holes of one file that are stored as such. More would not fit into an entry (`limits::NODE_SIZE_MAX`); they are read like content.
const HOLES_MAX: usize = 131_072;

/// Files up to this size are read by workers, many in one batch.
const SMALL_FILE_SIZE_MAX: u64 = 1 << 20;
/// What a worker reads of a file that was small when it was found.
const GROWN_FILE_SIZE_MAX: u64 = 16 << 20;
/// A batch ends when it has this many bytes to read, or this many entries.
const BATCH_BYTES: u64 = 1 << 20;
const BATCH_ENTRIES: usize = 512;
/// Of files that are likely not to be read, this part of their size counts.
const KNOWN_PART: u64 = 8;

/// Opens the stat cache of a series.
pub(super) fn open_cache(repository: &Repository, options: &BackupOptions) -> Option<Arc<StatCache>> {
    let path = stat_cache_path(repository, &options.series)?;
    let cache = StatCache::open(&path, super::stat_cache_context(repository))?;
    Some(Arc::new(if options.ignore_device { cache.ignoring_device() } else { cache }))
}

/// Starts walking; the batches come out of what is returned.
pub(super) fn start(roots: &Roots, source: &SourceOptions, options: &BackupOptions, run: &Assembler<'_>) -> Result<Receiver<Numbered>> {
    let known = run.cache.clone().filter(|_| !options.read_all).map(|cache| cache as Arc<dyn Known>);
    let walk = Walk::start(roots, source, known, &run.repository.runtime)?;
    let missing: Vec<_> =
        roots.failed().iter().map(|root| Ok(WalkItem::Failed { path: root.path.clone(), message: root.message.clone() })).collect();
    start_with(missing.into_iter().chain(walk), run)
}

/// As [`start`], with what a walk gave.
pub(super) fn start_with(
    items: impl Iterator<Item = Result<WalkItem>> + Send + 'static,
    run: &Assembler<'_>,
) -> Result<Receiver<Numbered>> {
    let (dispatcher, batches) = Dispatcher::new(run.repository, run.in_flight)?;
    let chunking = Arc::new(Chunking::new(run.repository, &run.writer)?);
    let cache = run.cache.clone().or_else(|| run.recalled.clone());
    let producer = Producer { dispatcher, chunking, cache, small: Vec::new(), small_bytes: 0 };
    run.repository.runtime.executor.spawn("icecore-walk", Box::new(move || producer.run(items)))?;
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
    /// Ends without the mark of the end where nobody wants more, and where the walk broke.
    fn run(mut self, items: impl Iterator<Item = Result<WalkItem>>) {
        for item in items {
            let goes_on = match item {
                Ok(WalkItem::Entry(entry)) => self.take_entry(entry),
                Ok(WalkItem::Failed { path, message }) => self.take_small(Step::Failed { path, message }, 0),
                Err(error) => {
                    self.flush();
                    self.dispatcher.dispatch(|_| Err(error));
                    return;
                }
            };
            if !goes_on {
                return;
            }
        }
        self.flush();
        self.dispatcher.end();
    }

    fn take_entry(&mut self, entry: SourceEntry) -> bool {
        let size = match &entry.entry.kind {
            EntryKind::File(content) => content.size,
            _ => 0,
        };
        match size > SMALL_FILE_SIZE_MAX {
            true => self.take_large(entry),
            false if entry.is_known => self.take_small(Step::Entry(entry), size / KNOWN_PART),
            false => self.take_small(Step::Entry(entry), size),
        }
    }

    /// Looks here whether a large file can be used again, since a worker would have to hold all of it if it cannot.
    fn take_large(&mut self, mut entry: SourceEntry) -> bool {
        if entry.is_known {
            match reuse(&self.chunking, self.cache.as_deref(), &mut entry) {
                Ok(Some(reused)) => {
                    let item = reused.item(entry);
                    let weight = item.weight();
                    return self.take_small(Step::Done(item), weight);
                }
                Ok(None) => {}
                Err(error) => {
                    self.flush();
                    self.dispatcher.dispatch(|_| Err(error));
                    return false;
                }
            }
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
        self.dispatcher.dispatch(move |data| small_batch(&chunking, cache.as_deref(), steps, bytes, data))
    }

    /// Deals out a large file, and waits until it was read.
    fn read_large(&mut self, mut entry: SourceEntry) -> bool {
        let begin = Item::Begin(entry.entry.key.clone());
        self.dispatcher.dispatch(move |data| Ok(Batch { data, items: vec![begin], bytes_read: 0 }));
        let cut = self.chunking.cut(entry.is_fixed);
        let hints = Hints::new(self.cache.as_deref(), &entry.entry.key, cut);
        let extents = Extents::new(&mut self.dispatcher, &self.chunking, hints, entry.is_fixed);
        let outcome = read_content(&self.chunking, &mut entry, u64::MAX, extents);
        let mut items = Vec::new();
        end_file(&mut items, entry, outcome);
        self.dispatcher.dispatch(move |data| Ok(Batch { data, items, bytes_read: 0 }))
    }
}

/// Reads many small files, one after the other.
fn small_batch(chunking: &Chunking, cache: Option<&StatCache>, steps: Vec<Step>, bytes: u64, mut data: Buffer) -> Result<Batch> {
    data.reserve_exact(bytes as usize);
    let mut batch = Batch { data, items: Vec::with_capacity(2 * steps.len()), bytes_read: 0 };
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
    if entry.is_known
        && let Some(reused) = reuse(chunking, cache, &mut entry)?
    {
        batch.items.push(reused.item(entry));
        return Ok(());
    }
    if !matches!(entry.entry.kind, EntryKind::File(_)) {
        let read = entry.read_details();
        if let Err(error) = &read {
            batch.items.push(Item::Failed { path: entry.path(), message: error.to_string() });
        }
        // What lacks something is looked at again next time.
        let stat = (read.is_ok() && !entry.is_incomplete).then_some(entry.stat);
        batch.items.push(Item::Entry { stat, entry: entry.entry });
        return Ok(());
    }
    let cut = chunking.cut(entry.is_fixed);
    let (_, guide) = Hints::new(cache, &entry.entry.key, cut).extent(0, GROWN_FILE_SIZE_MAX);
    let (start, mut chunks, mut inside) = (batch.data.len(), Vec::new(), Ok(()));
    let pieces = Pieces { chunking, guide, data: &mut batch.data, chunks: &mut chunks, inside: &mut inside };
    let outcome = read_content(chunking, &mut entry, GROWN_FILE_SIZE_MAX, pieces);
    inside?;
    batch.bytes_read += (batch.data.len() - start) as u64;
    match &outcome {
        Ok(_) if !chunks.is_empty() => batch.items.push(Item::Chunks(chunks)),
        _ => {}
    }
    end_file(&mut batch.items, entry, outcome);
    Ok(())
}

/// What the last backup stored for an entry that has not changed.
enum Reused {
    /// All that a walk does not tell, which the entry has now.
    Entry,
    /// The content of a file too, and where its chunks stand.
    File(FileContent, Vec<ChunkUse>),
}

impl Reused {
    fn item(self, entry: SourceEntry) -> Item {
        let SourceEntry { entry, stat, .. } = entry;
        match self {
            Self::Entry => Item::Entry { entry, stat: Some(stat) },
            Self::File(content, uses) => Item::Unmodified { entry, stat, content, uses },
        }
    }
}

/// Looks up what the last backup stored for an entry that has not changed, if all its chunks are still there.
fn reuse(chunking: &Chunking, cache: Option<&StatCache>, entry: &mut SourceEntry) -> Result<Option<Reused>> {
    let Some(cache) = cache else { return Ok(None) };
    let cached = cache.get(&entry.entry.key).filter(|cached| cached.is_settled && cache.is_same(&cached.stat, &entry.stat));
    // A name of an inode may have been a link to its first name, which is gone.
    let is_same_kind = |cached: &Cached| discriminant(&cached.entry.kind) == discriminant(&entry.entry.kind);
    let Some(cached) = cached.filter(is_same_kind) else { return Ok(None) };
    let EntryKind::File(content) = cached.entry.kind else {
        entry.entry.metadata.xattrs = cached.entry.metadata.xattrs;
        entry.entry.metadata.inode_flags = cached.entry.metadata.inode_flags;
        return Ok(Some(Reused::Entry));
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
    Ok(Some(Reused::File(content, uses)))
}

/// How reading a file went.
pub(super) struct Outcome {
    content: FileContent,
    /// What is missing or may be wrong: what was read is stored, and the file is read again next time.
    faults: Vec<String>,
}

/// Pushes what follows the chunks of a file.
fn end_file(items: &mut Vec<Item>, mut entry: SourceEntry, outcome: Result<Outcome>) {
    let Outcome { content, faults } = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            // Chunks that were sent before belong to no entry; the assembler drops them.
            items.push(Item::Failed { path: entry.path(), message: error.to_string() });
            if entry.has_other_names {
                items.push(Item::Lost(entry.entry.key));
            }
            return;
        }
    };
    // What stat says of a device does not change when its content does.
    let stat = (faults.is_empty() && !entry.is_device()).then_some(entry.stat);
    let failed: Vec<_> = faults.into_iter().map(|message| Item::Failed { path: entry.path(), message }).collect();
    entry.entry.kind = EntryKind::File(content);
    items.push(Item::Entry { entry: entry.entry, stat });
    // After the entry: a failure drops the chunks that came and belong to no entry.
    items.extend(failed);
}

/// What becomes of the ranges of a file outside its holes.
pub(super) trait ReadRanges {
    /// Takes the next range, to be cut on its own. Gives where it ended, which is early where the file was cut short.
    fn read(&mut self, cut: &Cut, file: &Arc<SourceFile>, range: Range<u64>) -> Result<u64>;

    /// Waits until all was read; gives where the file was cut short, if `read` did not say so.
    fn finish(self) -> Result<Option<u64>>;
}

/// Reads the ranges of a file outside its holes, up to `size_max`.
fn read_content(chunking: &Chunking, entry: &mut SourceEntry, size_max: u64, mut ranges: impl ReadRanges) -> Result<Outcome> {
    let file = Arc::new(entry.open()?);
    let opened = file.stat();
    match rest_of_step(opened.ctime, chunking.clock.now()) {
        0 => {}
        rest => chunking.clock.sleep_ns(rest),
    }
    // It may have changed since the walk saw it, as log files do all the time: then it is stored as it is now, which is whole as well.
    let is_as_found = opened == entry.stat || entry.refresh_from(&file);
    let mut faults: Vec<_> = entry.read_details_from(&file).err().iter().map(Error::to_string).collect();
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
        end = ranges.read(cut, &file, range.clone())?;
        if end < range.end {
            ended_early = true;
            break;
        }
    }
    if let Some(early) = ranges.finish()? {
        end = early;
        content.holes.retain(|(start, _)| *start < end);
        ended_early = true;
    }
    let after = file.stat_after()?;
    // What was cut off meanwhile is no hole.
    content.size = if ended_early { end } else { content.size.min(after.size).max(end) };
    if end < content.size {
        content.holes.push((end, content.size - end));
    }
    if !is_as_found || ended_early || after != opened {
        faults.push("it changed while it was read; what is stored may be a mixture of old and new".into());
    }
    Ok(Outcome { content, faults })
}

/// How many nanoseconds to wait before a file is read that changed at `ctime`, so that whatever changes it after that is seen by its ctime: times of files move in steps.
/// The kernel's are of 10 ms at most; file systems without nanoseconds have some of up to two seconds. A time that lies ahead by more is by another clock, of
/// which nothing is known.
fn rest_of_step(ctime: Timestamp, now: Timestamp) -> u64 {
    let nanoseconds = |time: Timestamp| i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let step = if ctime.nanoseconds == 0 { 2_000_000_000 } else { 20_000_000 };
    let rest = step - (nanoseconds(now) - nanoseconds(ctime));
    if (1..=2 * step).contains(&rest) { rest as u64 } else { 0 }
}

/// Reads into memory, behind what is there, and cuts, names and looks up on the way.
struct Pieces<'a> {
    chunking: &'a Chunking,
    guide: Guide,
    data: &'a mut Vec<u8>,
    chunks: &'a mut Vec<Found>,
    /// What failed beside reading, such as the repository's store: it is no fault of the file, and ends the backup.
    inside: &'a mut Result<()>,
}

impl ReadRanges for Pieces<'_> {
    fn read(&mut self, cut: &Cut, file: &Arc<SourceFile>, range: Range<u64>) -> Result<u64> {
        let mut offset = range.start;
        let mut start = self.data.len();
        loop {
            let wanted = usize::try_from(range.end - offset).unwrap_or(usize::MAX).min(PIECE_LENGTH);
            let length = file.append_at(offset, wanted, self.data)?;
            offset += length as u64;
            let is_last = length < wanted || offset == range.end;
            let (mut found, end) = match self.chunking.cut_and_find(cut, &mut self.guide, self.data, start, is_last) {
                Ok(found) => found,
                Err(error) => {
                    *self.inside = Err(error);
                    return Ok(offset);
                }
            };
            self.chunks.append(&mut found);
            start = end;
            if is_last {
                return Ok(offset);
            }
        }
    }

    fn finish(self) -> Result<Option<u64>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_within_the_last_step_is_waited_for() {
        let at = |seconds, nanoseconds| Timestamp { seconds, nanoseconds };
        assert_eq!(rest_of_step(at(9, 999_000_000), at(10, 1_000_000)), 18_000_000);
        assert_eq!(rest_of_step(at(10, 1), at(10, 20_000_001)), 0);
        assert_eq!(rest_of_step(at(10, 0), at(11, 999_999_999)), 1);
        assert_eq!(rest_of_step(at(10, 0), at(12, 0)), 0);
        // A little ahead, and far ahead.
        assert_eq!(rest_of_step(at(10, 5), at(10, 4)), 20_000_001);
        assert_eq!(rest_of_step(at(11, 5), at(10, 4)), 0);
        assert_eq!(rest_of_step(at(i64::MAX, 5), at(i64::MIN, 4)), 0);
    }
}

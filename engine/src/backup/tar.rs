//! A tar stream as a source: content is cut as it comes, members become entries.
//!
//! Members are not sorted, so the assembler puts their entries aside ([`super::collected`]) and the tree is built at the end.

use super::assembler::Assembler;
use super::batch::{Batch, Buffer, Chunking, Dispatcher, Item, Numbered, PIECE_LENGTH};
use super::hints::Hints;
use super::stat_cache::StatCache;
use crate::entry::{Entry, EntryKind, FileContent};
use crate::error::Result;
use crate::runtime::channel::Receiver;
use crate::source::tar::{Member, TarEntry, TarKind, TarReader};
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

/// Files up to this size go to workers together with others.
const SMALL_FILE_SIZE_MAX: u64 = 1 << 20;
/// A batch ends when it has this many bytes, or this many members.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_MEMBERS: usize = 512;

/// Starts reading; the batches come out of what is returned.
pub(super) fn start(stream: Box<dyn Read + Send>, run: &Assembler<'_>) -> Result<Receiver<Numbered>> {
    let (dispatcher, batches) = Dispatcher::new(run.repository, run.in_flight)?;
    let chunking = Arc::new(Chunking::new(run.repository, &run.writer)?);
    let data = dispatcher.buffer();
    let recalled = run.recalled.clone();
    let mut producer = Producer { dispatcher, chunking, tar: TarReader::new(stream), data, steps: Vec::new(), recalled };
    let work = move || match producer.run() {
        Ok(()) => producer.dispatcher.end(),
        Err(error) => drop(producer.dispatcher.dispatch(|_| Err(error))),
    };
    run.repository.runtime.executor.spawn("icecore-tar", Box::new(work))?;
    Ok(batches)
}

struct Producer {
    dispatcher: Dispatcher,
    chunking: Arc<Chunking>,
    tar: TarReader<Box<dyn Read + Send>>,
    /// Content of small files that waits for its batch, and what the batch holds.
    data: Buffer,
    steps: Vec<Step>,
    /// What the last snapshot has.
    recalled: Option<Arc<StatCache>>,
}

enum Step {
    /// An entry, and where the pieces of its content lie.
    Entry(Entry, Vec<Range<usize>>),
    Failed {
        path: Vec<u8>,
        message: String,
    },
}

impl Producer {
    fn run(&mut self) -> Result<()> {
        while let Some(member) = self.tar.next()? {
            let goes_on = match member {
                Member::Failed { path, message } => self.take(Step::Failed { path, message }),
                Member::Entry(TarEntry { key, kind: TarKind::File { size, data }, metadata }) => {
                    let cutter = self.chunking.cut(false).id;
                    let content = FileContent { size, holes: holes(&data, size), cutter, ..FileContent::default() };
                    self.take_file(Entry { key, kind: EntryKind::File(content), metadata }, &data)?
                }
                Member::Entry(TarEntry { key, kind, metadata }) => match kind_of(kind) {
                    Some(kind) => self.take(Step::Entry(Entry { key, kind, metadata }, Vec::new())),
                    None => true,
                },
            };
            if !goes_on {
                return Ok(());
            }
        }
        self.flush();
        Ok(())
    }

    fn take_file(&mut self, entry: Entry, data: &[Range<u64>]) -> Result<bool> {
        let length: u64 = data.iter().map(|range| range.end - range.start).sum();
        if length > SMALL_FILE_SIZE_MAX {
            return Ok(self.flush() && self.read_large(entry, data)?);
        }
        let mut pieces = Vec::with_capacity(data.len());
        for range in data {
            let start = self.data.len();
            self.data.resize(start + (range.end - range.start) as usize, 0);
            self.tar.read_data(&mut self.data[start..])?;
            pieces.push(start..self.data.len());
        }
        Ok(self.take(Step::Entry(entry, pieces)))
    }

    /// Reads and cuts here, in order; workers name the chunks and look them up.
    fn read_large(&mut self, entry: Entry, ranges: &[Range<u64>]) -> Result<bool> {
        let recalled = self.recalled.clone();
        let mut hints = Hints::new(recalled.as_deref(), &entry.key, self.chunking.cut(false));
        let mut cut_length = 0;
        let begin = Item::Begin(entry.key.clone());
        self.dispatcher.dispatch(move |data| Ok(Batch { data, items: vec![begin], bytes_read: 0 }));
        for range in ranges {
            let mut left = range.end - range.start;
            let mut data = self.dispatcher.buffer();
            while left > 0 {
                let start = data.len();
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_LENGTH);
                data.resize(start + length, 0);
                self.tar.read_data(&mut data[start..])?;
                left -= length as u64;
                let (cuts, cut_to) = self.chunking.cut(false).cut(&data, 0..data.len(), left == 0);
                let rest = data[cut_to..].to_vec();
                let (_, mut guide) = hints.extent(cut_length, cut_to as u64);
                cut_length += cut_to as u64;
                let (chunking, bytes_read) = (Arc::clone(&self.chunking), length as u64);
                let goes_on = self.dispatcher.send(move || {
                    let found = chunking.find(chunking.cut(false), &mut guide, &data, cuts)?;
                    Ok(Batch { data, items: vec![Item::Chunks(found)], bytes_read })
                });
                if !goes_on {
                    return Ok(false);
                }
                data = self.dispatcher.buffer();
                data.extend_from_slice(&rest);
            }
        }
        Ok(self.dispatcher.dispatch(move |data| Ok(Batch { data, items: vec![Item::Entry { entry, stat: None }], bytes_read: 0 })))
    }

    fn take(&mut self, step: Step) -> bool {
        self.steps.push(step);
        match self.data.len() >= BATCH_BYTES || self.steps.len() >= BATCH_MEMBERS {
            true => self.flush(),
            false => true,
        }
    }

    fn flush(&mut self) -> bool {
        let steps = std::mem::take(&mut self.steps);
        if steps.is_empty() {
            return true;
        }
        let next = self.dispatcher.buffer();
        let data = std::mem::replace(&mut self.data, next);
        let (chunking, recalled) = (Arc::clone(&self.chunking), self.recalled.clone());
        self.dispatcher.send(move || {
            let mut items = Vec::with_capacity(2 * steps.len());
            for step in steps {
                match step {
                    Step::Failed { path, message } => items.push(Item::Failed { path, message }),
                    Step::Entry(entry, pieces) => {
                        let cut = chunking.cut(false);
                        let (_, mut guide) = Hints::new(recalled.as_deref(), &entry.key, cut).extent(0, SMALL_FILE_SIZE_MAX);
                        for piece in pieces {
                            let (cuts, _) = cut.cut(&data, piece, true);
                            items.push(Item::Chunks(chunking.find(cut, &mut guide, &data, cuts)?));
                        }
                        items.push(Item::Entry { entry, stat: None });
                    }
                }
            }
            let bytes_read = data.len() as u64;
            Ok(Batch { data, items, bytes_read })
        })
    }
}

/// What lies between ranges of content.
fn holes(data: &[Range<u64>], size: u64) -> Vec<(u64, u64)> {
    let ends = std::iter::once(0).chain(data.iter().map(|range| range.end));
    let starts = data.iter().map(|range| range.start).chain(std::iter::once(size));
    ends.zip(starts).filter(|(end, start)| end < start).map(|(end, start)| (end, start - end)).collect()
}

/// All kinds but files.
fn kind_of(kind: TarKind) -> Option<EntryKind> {
    Some(match kind {
        TarKind::File { .. } => return None,
        TarKind::Folder => EntryKind::Folder,
        TarKind::Symlink(target) => EntryKind::Symlink(target),
        TarKind::HardLink(key) => EntryKind::HardLink(key),
        TarKind::Fifo => EntryKind::Fifo,
        TarKind::BlockDevice(major, minor) => EntryKind::BlockDevice(major, minor),
        TarKind::CharDevice(major, minor) => EntryKind::CharDevice(major, minor),
    })
}

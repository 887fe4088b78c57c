//! A stream as a source: one file, cut as it comes.

use super::assembler::Assembler;
use super::batch::{Batch, Chunking, Dispatcher, Item, Numbered, PIECE_LENGTH};
use super::hints::Hints;
use super::stat_cache::StatCache;
use crate::entry::{Entry, EntryKind, FileContent, KeyKind, Metadata};
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Timestamp;
use crate::runtime::channel::Receiver;
use std::io::Read;
use std::sync::Arc;

/// The key of a stream's entry: its name as a path below the root.
pub(super) fn key_of(name: &str) -> Result<Vec<u8>> {
    let key: Vec<u8> = name.trim_matches('/').bytes().map(|byte| if byte == b'/' { 0 } else { byte }).collect();
    let entry = Entry { key, kind: EntryKind::Folder, metadata: Metadata::default() };
    match crate::tree::check_entry(&entry, KeyKind::Paths) {
        Ok(()) if !entry.key.is_empty() && !name.contains('\0') => Ok(entry.key),
        _ => Err(Error::new(ErrorKind::Invalid, format!("`{name}` is no name for a stream; take one like `dump.sql` or `db/dump.sql`"))),
    }
}

/// Starts reading; the batches come out of what is returned.
pub(super) fn start(key: Vec<u8>, modified: Timestamp, stream: Box<dyn Read + Send>, run: &Assembler<'_>) -> Result<Receiver<Numbered>> {
    let (dispatcher, batches) = Dispatcher::new(run.repository, run.in_flight)?;
    let chunking = Arc::new(Chunking::new(run.repository, &run.writer)?);
    let metadata = Metadata { mode: 0o600, modified, ..Metadata::default() };
    let entry = Entry { key, kind: EntryKind::File(FileContent { cutter: chunking.cut(false).id, ..FileContent::default() }), metadata };
    let mut producer = Producer { dispatcher, chunking, entry, recalled: run.recalled.clone() };
    let work = move || match producer.read(stream) {
        Ok(()) => producer.dispatcher.end(),
        Err(error) => drop(producer.dispatcher.dispatch(|_| Err(error))),
    };
    run.repository.runtime.executor.spawn("icecore-stream", Box::new(work))?;
    Ok(batches)
}

struct Producer {
    dispatcher: Dispatcher,
    chunking: Arc<Chunking>,
    entry: Entry,
    /// What the last snapshot has.
    recalled: Option<Arc<StatCache>>,
}

impl Producer {
    fn read(&mut self, mut stream: Box<dyn Read + Send>) -> Result<()> {
        let recalled = self.recalled.clone();
        let mut hints = Hints::new(recalled.as_deref(), &self.entry.key, self.chunking.cut(false));
        let begin = Item::Begin(self.entry.key.clone());
        self.dispatcher.dispatch(move |data| Ok(Batch { data, items: vec![begin], bytes_read: 0 }));
        let (mut size, mut cut_size) = (0_u64, 0_u64);
        let length_max = self.chunking.cut(false).cutter.length_max();
        let mut data = self.dispatcher.buffer();
        loop {
            let before = data.len();
            data.reserve_exact((PIECE_LENGTH + length_max).saturating_sub(before));
            let limit = (PIECE_LENGTH + length_max).saturating_sub(before) as u64;
            let length = (&mut stream)
                .take(limit)
                .read_to_end(&mut data)
                .map_err(|error| Error::io("reading the stream", error).with_kind(ErrorKind::Unavailable))?;
            size += length as u64;
            let is_last = (length as u64) < limit;
            let (ranges, cut_to) = self.chunking.cut(false).cut(&data, 0..data.len(), is_last);
            let rest = data[cut_to..].to_vec();
            let (_, mut guide) = hints.extent(cut_size, cut_to as u64);
            cut_size += cut_to as u64;
            let (chunking, bytes_read) = (Arc::clone(&self.chunking), length as u64);
            let work = move || {
                let found = chunking.find(chunking.cut(false), &mut guide, &data, ranges)?;
                Ok(Batch { data, items: vec![Item::Chunks(found)], bytes_read })
            };
            if !self.dispatcher.send(work) {
                return Ok(());
            }
            if is_last {
                break;
            }
            data = self.dispatcher.buffer();
            data.extend_from_slice(&rest);
        }
        let mut entry = self.entry.clone();
        if let EntryKind::File(content) = &mut entry.kind {
            content.size = size;
        }
        self.dispatcher.dispatch(move |data| Ok(Batch { data, items: vec![Item::Entry { entry, stat: None }], bytes_read: 0 }));
        Ok(())
    }
}

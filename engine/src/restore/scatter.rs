//! From frames to files: reads are fetched by the calling thread, decoded on the pool, and what is in them goes to its places.
//!
//! The calling thread alone waits; the pool's tasks never do. Tokens bound the reads that are in memory.

use super::tally::{Tally, shown};
use super::window::{Item, Limits, Read, Use, Way, for_each_read};
use crate::backend::ObjectName;
use crate::destination::Folder;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use crate::progress::Event;
use crate::repository::{ChunkKind, Frame, SnapshotChunks};
use crate::runtime::Pool;
use crate::runtime::channel::{Sender, bounded};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What the tasks of one window share.
#[derive(Debug)]
pub(super) struct Scatter<'a> {
    pub(super) chunks: &'a SnapshotChunks<'a>,
    pub(super) folder: &'a Folder,
    pub(super) tally: &'a Tally<'a>,
    pub(super) items: &'a [Item],
    failure: Failure,
}

/// The first error that ends the restore.
#[derive(Debug, Default)]
pub(super) struct Failure {
    first: Mutex<Option<Error>>,
    is_there: AtomicBool,
}

impl Failure {
    pub(super) fn set(&self, error: Error) {
        self.first.lock().get_or_insert(error);
        self.is_there.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_set(&self) -> bool {
        self.is_there.load(Ordering::Relaxed)
    }

    pub(super) fn into_result(self) -> Result<()> {
        self.first.into_inner().map_or(Ok(()), Err)
    }
}

/// The right to have something in flight; given back when dropped.
#[derive(Debug)]
struct Token(Sender<()>);

impl Drop for Token {
    fn drop(&mut self) {
        // Nobody waits for it when the window has ended.
        let _ = self.0.send(());
    }
}

impl<'a> Scatter<'a> {
    pub(super) fn new(chunks: &'a SnapshotChunks<'a>, folder: &'a Folder, tally: &'a Tally<'a>, items: &'a [Item]) -> Self {
        Self { chunks, folder, tally, items, failure: Failure::default() }
    }

    /// Carries out the plan, which is in the order of reading.
    ///
    /// # Errors
    /// What ends the whole restore; damage and failures of items are noted with these.
    pub(super) fn run(self, plan: &[Use], pool: &Pool, limits: &Limits, mut on_read: impl FnMut(&Read)) -> Result<()> {
        let in_flight = pool.current_num_threads() + 1;
        let (give_back, tokens) = bounded(in_flight);
        let this = &self;
        let mut number = 0;
        let sent = pool.in_place_scope(|scope| {
            for_each_read(plan, this.chunks.reader, limits, |read| {
                number += 1;
                if number > in_flight && tokens.recv().is_err() {
                    return Err(Error::new(ErrorKind::Internal, "the threads of the restore are gone"));
                }
                let token = Token(give_back.clone());
                this.tally.check_cancelled()?;
                if this.failure.is_set() {
                    return Err(Error::new(ErrorKind::Internal, "stopped after a failure"));
                }
                on_read(&read);
                let bytes = this.fetch(&read)?;
                scope.spawn(move |_| {
                    let _token = token;
                    if let Err(error) = this.process(&read, bytes, plan) {
                        this.failure.set(error);
                    }
                });
                Ok(())
            })
        });
        // A task's failure is why the rest was not sent.
        self.failure.into_result().and(sent)
    }

    /// The bytes of a read; `None` where the pack is damaged, so that each frame has to be tried alone.
    fn fetch(&self, read: &Read) -> Result<Option<Vec<u8>>> {
        let name = ObjectName::pack(read.kind, read.pack);
        match self.chunks.repository.backend.get_range(&name, read.offset, usize::try_from(read.length).unwrap_or(usize::MAX)) {
            Ok(bytes) => {
                self.tally.bytes_fetched.fetch_add(read.length, Ordering::Relaxed);
                Ok(Some(bytes))
            }
            // Each frame will say for itself whether it is damaged.
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn process(&self, read: &Read, bytes: Option<Vec<u8>>, plan: &[Use]) -> Result<()> {
        let (reader, repository) = (self.chunks.reader, self.chunks.repository);
        let done = AtomicU64::new(0);
        for (place, range) in &read.frames {
            if self.failure.is_set() {
                return Ok(());
            }
            let start = usize::try_from(place.offset - read.offset).unwrap_or(usize::MAX);
            let sealed = bytes.as_ref().and_then(|bytes| bytes.get(start..start.checked_add(place.sealed_length as usize)?));
            let frame = match sealed {
                Some(sealed) => reader.decode(repository, place, &mut sealed.to_vec()),
                None => reader.read(repository, place),
            };
            self.tally.frames_decoded.fetch_add(1, Ordering::Relaxed);
            let frame = match frame {
                Ok(frame) => Opened { frame: Some(frame), checked: vec![None; place.chunk_count as usize] },
                Err(error) => self.tally.frame_damaged(error).map(|()| Opened { frame: None, checked: Vec::new() })?,
            };
            self.scatter(frame, plan.get(range.clone()).unwrap_or_default(), &done)?;
        }
        self.tally.progress.event(Event::Advance { bytes: done.into_inner(), items: 0 });
        Ok(())
    }

    /// Brings the chunks of one frame to their places.
    fn scatter(&self, mut frame: Opened, uses: &[Use], done: &AtomicU64) -> Result<()> {
        for of_item in uses.chunk_by(|one, other| one.item == other.item) {
            let item = of_item.first().and_then(|used| self.items.get(used.item as usize));
            let item = item.ok_or_else(|| Error::new(ErrorKind::Internal, "a plan names no item"))?;
            if item.has_failed() {
                continue;
            }
            done.fetch_add(of_item.iter().map(|used| u64::from(used.length)).sum(), Ordering::Relaxed);
            match item.way {
                Way::Small => self.write_small(&mut frame, item, of_item)?,
                Way::Prepared { .. } => self.write_part(&mut frame, item, of_item)?,
                Way::Bare => return Err(Error::new(ErrorKind::Internal, "content for something that is no file")),
            }
        }
        Ok(())
    }

    /// All content of the file is in this frame.
    fn write_small(&self, frame: &mut Opened, item: &Item, uses: &[Use]) -> Result<()> {
        if let [used] = uses {
            let bytes = self.content(frame, item, used)?;
            return bytes.map_or(Ok(()), |bytes| self.write_whole(item, &bytes));
        }
        let mut joined = Vec::with_capacity(uses.iter().map(|used| used.length as usize).sum());
        for used in uses {
            let Some(bytes) = self.content(frame, item, used)? else { return Ok(()) };
            joined.extend_from_slice(&bytes);
        }
        self.write_whole(item, &joined)
    }

    fn write_whole(&self, item: &Item, bytes: &[u8]) -> Result<()> {
        match self.folder.write_small(&item.entry, bytes) {
            Ok(written) => {
                let counter = if written.is_unchanged { &self.tally.bytes_unchanged } else { &self.tally.bytes_written };
                counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                self.tally.problems(&item.entry.key, &written.problems);
                Ok(())
            }
            Err(error) => self.refused(item, error),
        }
    }

    fn write_part(&self, frame: &mut Opened, item: &Item, uses: &[Use]) -> Result<()> {
        let file = match self.folder.file(&item.entry.key) {
            Ok(file) => file,
            Err(error) => return self.refused(item, error),
        };
        for used in uses {
            let Some(bytes) = self.content(frame, item, used)? else { return Ok(()) };
            if let Err(error) = file.write_at(used.offset, &bytes) {
                return self.refused(item, error);
            }
            self.tally.bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The bytes of a chunk, checked, from another frame where this one is damaged; `None` where that failed the item.
    fn content<'f>(&self, frame: &'f mut Opened, item: &Item, used: &Use) -> Result<Option<Cow<'f, [u8]>>> {
        if frame.check(self.chunks, used) {
            let bytes = frame.frame.as_ref().and_then(|frame| frame.chunk(used.position));
            return Ok(Some(Cow::Borrowed(bytes.unwrap_or_default())));
        }
        let other = self.chunks.chunk(ChunkKind::Data, &used.id).and_then(|bytes| match bytes.len() == used.length as usize {
            true => Ok(bytes),
            false => Err(Error::new(ErrorKind::Damaged, format!("chunk {} has {} bytes, not {}", used.id, bytes.len(), used.length))),
        });
        match other {
            Ok(bytes) => Ok(Some(Cow::Owned(bytes))),
            Err(error) => {
                let error = self.tally.damage(error)?;
                if item.fail() {
                    let message = format!("its content at {} is damaged, so it was not restored: {error}", used.offset);
                    self.tally.item_failed(&item.entry.key, &message);
                }
                Ok(None)
            }
        }
    }

    fn refused(&self, item: &Item, error: Error) -> Result<()> {
        let error = self.tally.refusal(error).map_err(|error| error.context(shown(&item.entry.key)))?;
        if item.fail() {
            self.tally.item_failed(&item.entry.key, &error.to_string());
        }
        Ok(())
    }
}

/// A decoded frame, or that it is damaged.
#[derive(Debug)]
struct Opened {
    frame: Option<Frame>,
    /// By position, the chunk that was found to stand there.
    checked: Vec<Option<ChunkId>>,
}

impl Opened {
    /// Whether the chunk stands there with its length (CHUNK-2); each is hashed once.
    fn check(&mut self, chunks: &SnapshotChunks<'_>, used: &Use) -> bool {
        let Some(frame) = &self.frame else { return false };
        let Some(checked) = self.checked.get_mut(used.position as usize) else { return false };
        if *checked != Some(used.id) {
            if chunks.reader.verified(frame, ChunkKind::Data, &used.id, used.position).is_err() {
                return false;
            }
            *checked = Some(used.id);
        }
        frame.chunk(used.position).is_some_and(|bytes| bytes.len() == used.length as usize)
    }
}

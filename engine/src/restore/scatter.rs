//! From frames to files: a read is fetched, each of its frames decoded once, and what is in them goes to its places. All this is one task
//! of the pool, which waits for nobody but who is decoding a frame that it needs as a base.

use super::tally::{Tally, shown};
use super::window::{Item, Read, Use, Way, Window};
use crate::backend::ObjectName;
use crate::destination::Folder;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use crate::progress::Event;
use crate::repository::index::FramePlace;
use crate::repository::{ChunkKind, Frame, SnapshotChunks};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// What all tasks of a restore share.
#[derive(Debug)]
pub(super) struct Scatter<'a> {
    pub(super) chunks: &'a SnapshotChunks<'a>,
    pub(super) folder: &'a Folder,
    pub(super) tally: &'a Tally<'a>,
    pub(super) failure: Failure,
    /// Room for tasks to come, one for each that runs at once.
    rooms: Mutex<Vec<Room>>,
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

    /// The error, once; others that ask later learn only that there was one.
    pub(super) fn check(&self) -> Result<()> {
        match self.is_set() {
            true => Err(self.first.lock().take().unwrap_or_else(|| Error::new(ErrorKind::Internal, "stopped after a failure"))),
            false => Ok(()),
        }
    }
}

/// Memory that tasks use again.
#[derive(Debug, Default)]
struct Room {
    sealed: Vec<u8>,
    opened: Opened,
    joined: Vec<u8>,
}

impl<'a> Scatter<'a> {
    pub(super) fn new(chunks: &'a SnapshotChunks<'a>, folder: &'a Folder, tally: &'a Tally<'a>) -> Self {
        Self { chunks, folder, tally, failure: Failure::default(), rooms: Mutex::default() }
    }

    /// Carries out what the plan of a window wants of one read.
    ///
    /// # Errors
    /// What ends the whole restore; damage and failures of items are noted with these.
    pub(super) fn process(&self, read: &Read, window: &Window) -> Result<()> {
        let mut room = self.rooms.lock().pop().unwrap_or_default();
        let done = self.process_in(&mut room, read, window);
        self.rooms.lock().push(room);
        done
    }

    fn process_in(&self, room: &mut Room, read: &Read, window: &Window) -> Result<()> {
        if self.failure.is_set() {
            return Ok(());
        }
        let mut bytes = self.fetch(read)?;
        for (place, range) in &read.frames {
            if self.failure.is_set() {
                return Ok(());
            }
            let uses = window.uses.get(range.clone()).unwrap_or_default();
            self.chunks.reader.bring_bases(place, &window.bases);
            self.open(room, read, place, bytes.as_mut())?;
            if !room.opened.is_damaged {
                self.chunks.reader.keep_bases(place, &room.opened.frame, &window.bases);
            }
            let bytes = self.scatter(&mut room.opened, &mut room.joined, uses, &window.items)?;
            self.tally.progress.event(Event::Advance { bytes, items: 0 });
        }
        Ok(())
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
            Err(error) if error.kind() == ErrorKind::Frozen => Ok(None),
            Err(error) => self.tally.tolerate(error).map(|_| None),
        }
    }

    /// Decodes a frame of a read; one that is damaged is noted.
    fn open(&self, room: &mut Room, read: &Read, place: &FramePlace, bytes: Option<&mut Vec<u8>>) -> Result<()> {
        let reader = self.chunks.reader;
        let Opened { frame, checked, is_damaged } = &mut room.opened;
        let hash = reader.index().hash_of(place);
        let decoded = match bytes {
            Some(bytes) if read.frames.len() == 1 => hash.and_then(|hash| reader.decode_into(place, &hash, bytes, frame)),
            Some(bytes) => {
                let start = usize::try_from(place.offset - read.offset).unwrap_or(usize::MAX);
                let sealed = start.checked_add(place.sealed_length as usize).and_then(|end| bytes.get(start..end));
                room.sealed.clear();
                room.sealed.extend_from_slice(sealed.unwrap_or_default());
                hash.and_then(|hash| reader.decode_into(place, &hash, &mut room.sealed, frame))
            }
            None => reader.read(place).map(|read| *frame = read),
        };
        self.tally.frames_decoded.fetch_add(1, Ordering::Relaxed);
        checked.clear();
        checked.resize(place.chunk_count as usize, None);
        *is_damaged = decoded.is_err();
        decoded.or_else(|error| self.tally.frame_damaged(error))
    }

    /// Brings the chunks of one frame to their places, and says how many bytes that were.
    fn scatter(&self, frame: &mut Opened, joined: &mut Vec<u8>, uses: &[Use], items: &[Item]) -> Result<u64> {
        let mut bytes = 0;
        for of_item in uses.chunk_by(|one, other| one.item == other.item) {
            let item = of_item.first().and_then(|used| items.get(used.item as usize));
            let item = item.ok_or_else(|| Error::new(ErrorKind::Internal, "a plan names no item"))?;
            if item.has_failed() {
                continue;
            }
            bytes += of_item.iter().map(|used| u64::from(used.length)).sum::<u64>();
            match item.way {
                Way::Small => self.write_small(frame, joined, item, of_item)?,
                Way::Prepared { .. } => self.write_part(frame, joined, item, of_item)?,
                Way::Bare => return Err(Error::new(ErrorKind::Internal, "content for something that is no file")),
            }
        }
        Ok(bytes)
    }

    /// All content of the file is in this frame.
    fn write_small(&self, frame: &mut Opened, joined: &mut Vec<u8>, item: &Item, uses: &[Use]) -> Result<()> {
        let Some(bytes) = self.content(frame, joined, item, uses)? else { return Ok(()) };
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

    /// Chunks that lie one behind the other in the frame and in the file are written at once.
    fn write_part(&self, frame: &mut Opened, joined: &mut Vec<u8>, item: &Item, uses: &[Use]) -> Result<()> {
        let file = match self.folder.file(&item.entry.key) {
            Ok(file) => file,
            Err(error) => return self.refused(item, error),
        };
        for row in uses.chunk_by(|one, other| follows(one, other) && one.offset.saturating_add(one.length.into()) == other.offset) {
            let Some(first) = row.first() else { continue };
            let Some(bytes) = self.content(frame, joined, item, row)? else { return Ok(()) };
            if let Err(error) = file.write_at(first.offset, bytes) {
                return self.refused(item, error);
            }
            self.tally.bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The bytes of chunks one behind the other, each checked, from another frame where this one is damaged; `None` where that failed the
    /// item.
    fn content<'f>(&self, frame: &'f mut Opened, joined: &'f mut Vec<u8>, item: &Item, uses: &[Use]) -> Result<Option<&'f [u8]>> {
        let is_row = uses.windows(2).all(|pair| matches!(pair, [one, other] if follows(one, other)));
        if is_row
            && uses.iter().all(|used| frame.check(self.chunks, used))
            && let (Some(first), Some(last)) = (uses.first(), uses.last())
        {
            return Ok(Some(frame.frame.chunks(first.position, last.position).unwrap_or_default()));
        }
        joined.clear();
        for used in uses {
            if frame.check(self.chunks, used) {
                joined.extend_from_slice(frame.frame.chunk(used.position).unwrap_or_default());
            } else {
                match self.content_elsewhere(item, used)? {
                    Some(bytes) => joined.extend_from_slice(&bytes),
                    None => return Ok(None),
                }
            }
        }
        Ok(Some(joined))
    }

    fn content_elsewhere(&self, item: &Item, used: &Use) -> Result<Option<Vec<u8>>> {
        let other = self.chunks.chunk(ChunkKind::Data, &used.id).and_then(|bytes| match bytes.len() == used.length as usize {
            true => Ok(bytes),
            false => Err(Error::new(ErrorKind::Damaged, format!("chunk {} has {} bytes, not {}", used.id, bytes.len(), used.length))),
        });
        match other {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) => {
                let error = self.tally.damage(error)?;
                if item.fail() {
                    let why = if error.kind() == ErrorKind::Frozen { "cannot be read yet" } else { "is damaged" };
                    // Half a file must not look like a whole one.
                    let is_removed = matches!(item.way, Way::Prepared { old } if old > 0);
                    let removed = if is_removed { ", and the file that stood there is removed" } else { "" };
                    self.tally.item_unreadable(&item.entry.key, &format!("its content at {} {why}", used.offset), removed, &error);
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

/// Whether a chunk lies behind another one in their frame.
fn follows(one: &Use, other: &Use) -> bool {
    one.position + 1 == other.position
}

/// A decoded frame, or that it is damaged.
#[derive(Debug, Default)]
struct Opened {
    frame: Frame,
    /// By position, the chunk that was found to stand there.
    checked: Vec<Option<ChunkId>>,
    is_damaged: bool,
}

impl Opened {
    /// Whether the chunk stands there with its length (CHUNK-2); each is hashed once.
    fn check(&mut self, chunks: &SnapshotChunks<'_>, used: &Use) -> bool {
        if self.is_damaged {
            return false;
        }
        let Some(checked) = self.checked.get_mut(used.position as usize) else { return false };
        if *checked != Some(used.id) {
            if chunks.reader.verified(&self.frame, ChunkKind::Data, &used.id, used.position).is_err() {
                return false;
            }
            *checked = Some(used.id);
        }
        self.frame.chunk(used.position).is_some_and(|bytes| bytes.len() == used.length as usize)
    }
}

//! One file to a writer: chunks go out in order, frames are decoded ahead on the pool.
//!
//! The calling thread plans ahead, waits for the frame of the next chunk, checks the chunk and writes it. A frame is kept while planned
//! chunks need it and for a while after, so that it is rarely decoded twice. Frames held are bounded, and so is the plan.

use super::RestoreSummary;
use super::layout::Layout;
use super::tally::{Tally, shown};
use crate::entry::{ChunkRef, Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::id::PackId;
use crate::progress::{Event, Progress};
use crate::repository::index::FrameOrdinal;
use crate::repository::{ChunkKind, Frame, Snapshot, SnapshotChunks};
use crossbeam_channel::{Receiver, bounded};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Write;
use std::sync::atomic::Ordering;

/// Chunks that are planned ahead at most.
const PLANNED_MAX: usize = 16_384;
/// Frames that no planned chunk needs and that are kept all the same.
const IDLE_MAX: usize = 8;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Writes the content of `entry`, a file, to `out`.
pub(super) fn write(
    chunks: &SnapshotChunks<'_>,
    snapshot: &Snapshot,
    entry: &Entry,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<RestoreSummary> {
    let EntryKind::File(content) = &entry.kind else {
        return Err(Error::new(ErrorKind::Invalid, format!("`{}` is no regular file", shown(&entry.key))));
    };
    progress.event(Event::Phase { name: "restore", bytes_total: Some(content.size), items_total: Some(1) });
    let tally = Tally::new(progress);
    let mut output = Output { out, position: 0, tally: &tally };
    let mut packs = HashSet::new();
    let mut layout = Layout::new(chunks, content)?;
    let pool = chunks.repository.pool()?;
    pool.in_place_scope(|scope| {
        let mut frames = Frames { scope, chunks, tally: &tally, held: HashMap::new(), clock: 0, packs: &mut packs };
        let mut planned: VecDeque<(u64, ChunkRef, FrameOrdinal, u32)> = VecDeque::new();
        let busy_max = 2 * pool.current_num_threads() + 2;
        let mut is_planned = false;
        loop {
            tally.check_cancelled()?;
            while !is_planned && planned.len() < PLANNED_MAX && frames.busy() < busy_max {
                match layout.next()? {
                    Some((offset, chunk)) => {
                        let place = chunks.find(&chunk.id)?;
                        frames.request(place.ordinal)?;
                        planned.push_back((offset, chunk, place.ordinal, place.position));
                    }
                    None => is_planned = true,
                }
            }
            let Some((offset, chunk, ordinal, position)) = planned.pop_front() else { break };
            output.zeros_until(offset)?;
            frames.with_chunk(ordinal, position, &chunk, |bytes| output.write(bytes))?;
        }
        output.zeros_until(content.size)
    })
    .map_err(|error| error.context(shown(&entry.key)))?;
    output.flush()?;
    tally.report_frames_damaged();
    let mut summary = RestoreSummary::new(snapshot.id);
    (summary.entries, summary.files, summary.bytes_total) = (1, 1, content.size);
    summary.packs_read = packs.len() as u64;
    summary.take(&tally);
    Ok(summary)
}

/// Where the bytes go.
struct Output<'a> {
    out: &'a mut dyn Write,
    position: u64,
    tally: &'a Tally<'a>,
}

impl Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(failed)?;
        self.position += bytes.len() as u64;
        self.tally.bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.tally.progress.event(Event::Advance { bytes: bytes.len() as u64, items: 0 });
        Ok(())
    }

    fn zeros_until(&mut self, end: u64) -> Result<()> {
        while self.position < end {
            self.tally.check_cancelled()?;
            let length = usize::try_from(end - self.position).unwrap_or(usize::MAX).min(ZEROS.len());
            self.write(&ZEROS[..length])?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.out.flush().map_err(failed)?;
        self.tally.progress.event(Event::Advance { bytes: 0, items: 1 });
        Ok(())
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::io("writing the output", error).with_kind(ErrorKind::Unavailable)
}

/// Frames that are decoded, or on their way.
struct Frames<'s, 'scope, 'a> {
    scope: &'s rayon::Scope<'scope>,
    chunks: &'scope SnapshotChunks<'scope>,
    tally: &'scope Tally<'scope>,
    held: HashMap<FrameOrdinal, Held>,
    clock: u64,
    packs: &'a mut HashSet<PackId>,
}

struct Held {
    state: State,
    /// Planned chunks that need it.
    needed: usize,
    used: u64,
}

enum State {
    Coming(Receiver<Result<Frame>>),
    Here(Frame),
    Damaged,
}

impl Frames<'_, '_, '_> {
    /// How many frames planned chunks need.
    fn busy(&self) -> usize {
        self.held.values().filter(|held| held.needed > 0).count()
    }

    /// Notes that a planned chunk needs the frame, and starts decoding it where it is not held.
    fn request(&mut self, ordinal: FrameOrdinal) -> Result<()> {
        self.clock += 1;
        let used = self.clock;
        if let Some(held) = self.held.get_mut(&ordinal) {
            held.needed += 1;
            held.used = used;
            return Ok(());
        }
        self.drop_idle();
        let place = self.chunks.reader.place(ordinal)?;
        self.packs.insert(place.pack);
        let (send, coming) = bounded(1);
        let (chunks, tally) = (self.chunks, self.tally);
        self.scope.spawn(move |_| {
            tally.frames_decoded.fetch_add(1, Ordering::Relaxed);
            tally.bytes_fetched.fetch_add(u64::from(place.sealed_length), Ordering::Relaxed);
            // Nobody listens after a failure.
            let _ = send.send(chunks.reader.read(chunks.repository, &place));
        });
        self.held.insert(ordinal, Held { state: State::Coming(coming), needed: 1, used });
        Ok(())
    }

    fn drop_idle(&mut self) {
        let idle = self.held.iter().filter(|(_, held)| held.needed == 0);
        if idle.clone().count() >= IDLE_MAX
            && let Some(oldest) = idle.min_by_key(|(_, held)| held.used).map(|(ordinal, _)| *ordinal)
        {
            self.held.remove(&oldest);
        }
    }

    /// Gives a planned chunk to `take`, once its frame is there; from another frame where that one is damaged.
    fn with_chunk(
        &mut self,
        ordinal: FrameOrdinal,
        position: u32,
        chunk: &ChunkRef,
        mut take: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let gone = || Error::new(ErrorKind::Internal, "a frame that was asked for did not come");
        let held = self.held.get_mut(&ordinal).ok_or_else(gone)?;
        held.needed -= 1;
        if let State::Coming(coming) = &held.state {
            held.state = match coming.recv().map_err(|_| gone())? {
                Ok(frame) => State::Here(frame),
                Err(error) => self.tally.frame_damaged(error).map(|()| State::Damaged)?,
            };
        }
        if let State::Here(frame) = &held.state
            && let Ok(bytes) = self.chunks.reader.verified(frame, ChunkKind::Data, &chunk.id, position)
            && bytes.len() == chunk.length as usize
        {
            return take(bytes);
        }
        let bytes = self.chunks.chunk(ChunkKind::Data, &chunk.id)?;
        match bytes.len() == chunk.length as usize {
            true => take(&bytes),
            false => Err(Error::new(ErrorKind::Damaged, format!("chunk {} has {} bytes, not {}", chunk.id, bytes.len(), chunk.length))),
        }
    }
}

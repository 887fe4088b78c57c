//! Content in order, for what is written from its beginning to its end: frames are decoded ahead on the pool.
//!
//! The calling thread plans ahead, waits for the frame of the next chunk, checks the chunk and gives it away. A frame is kept while planned
//! chunks need it and for a while after, so that it is rarely decoded twice. Frames held are bounded, and so is the plan.

use super::layout::Layout;
use super::tally::{Tally, shown};
use super::window::weight_of;
use crate::entry::{ChunkRef, Entry, FileContent, Key};
use crate::error::{Error, ErrorKind, Result};
use crate::id::PackId;
use crate::repository::index::FrameOrdinal;
use crate::repository::{ChunkKind, Frame, SnapshotChunks};
use crate::runtime::Scope;
use crate::runtime::channel::{Receiver, bounded};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;

/// Chunks and entries that are planned ahead at most.
const PLANNED_MAX: usize = 16_384;
/// Bytes of entries that are planned ahead at most.
const ENTRIES_BYTES_MAX: usize = 8 << 20;
/// Frames that no planned chunk needs and that are kept all the same.
const IDLE_MAX: usize = 8;

/// Takes entries and their content in order.
pub(super) trait Sink {
    /// An entry, whose content, if it is a file, follows.
    fn begin(&mut self, entry: &Entry) -> Result<()>;
    /// Whether a chunk that belongs at `offset` need not be fetched.
    fn has(&mut self, offset: u64, chunk: &ChunkRef) -> Result<bool> {
        let _ = (offset, chunk);
        Ok(false)
    }
    /// A chunk that belongs at `offset`.
    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()>;
    /// The entry is complete.
    fn end(&mut self) -> Result<()>;
}

/// One thing that is planned.
#[derive(Debug)]
enum Step {
    Begin(Box<Entry>),
    Chunk { offset: u64, chunk: ChunkRef, ordinal: FrameOrdinal, position: u32 },
    End,
}

/// Plans ahead and gives to the sink.
pub(super) struct Pipeline<'s, 'scope, 'a> {
    frames: Frames<'s, 'scope, 'a>,
    planned: VecDeque<Step>,
    /// Of the entries that are planned.
    bytes: usize,
    busy_max: usize,
    sink: &'a mut dyn Sink,
    current: Key,
}

/// Runs `work` with a pipeline into `sink`, and what it has planned to its end. `packs` gets the packs that were read.
pub(super) fn with_pipeline(
    chunks: &SnapshotChunks<'_>,
    tally: &Tally<'_>,
    packs: &mut HashSet<PackId>,
    sink: &mut dyn Sink,
    work: impl FnOnce(&mut Pipeline<'_, '_, '_>) -> Result<()> + Send,
) -> Result<()> {
    let pool = chunks.repository.pool()?;
    pool.in_place_scope(|scope| {
        let frames = Frames { scope, chunks, tally, held: HashMap::new(), clock: 0, packs };
        let busy_max = 2 * pool.current_num_threads() + 2;
        let mut pipeline = Pipeline { frames, planned: VecDeque::new(), bytes: 0, busy_max, sink, current: Key::new() };
        work(&mut pipeline)?;
        while pipeline.step()? {}
        Ok(())
    })
}

impl Pipeline<'_, '_, '_> {
    /// Plans an entry with its content, which `entry` itself need not have.
    pub(super) fn entry(&mut self, entry: Entry, content: Option<&FileContent>) -> Result<()> {
        let key = entry.key.clone();
        self.bytes += weight_of(&entry);
        self.plan(Step::Begin(Box::new(entry)))?;
        if let Some(content) = content {
            let named = |error: Error| error.context(shown(&key));
            let mut layout = Layout::new(self.frames.chunks, content).map_err(named)?;
            while let Some((offset, chunk)) = layout.next().map_err(named)? {
                if !self.sink.has(offset, &chunk)? {
                    let place = self.frames.chunks.find(&chunk.id).map_err(named)?;
                    self.make_room()?;
                    self.frames.request(place.ordinal)?;
                    self.planned.push_back(Step::Chunk { offset, chunk, ordinal: place.ordinal, position: place.position });
                }
            }
        }
        self.plan(Step::End)
    }

    fn plan(&mut self, step: Step) -> Result<()> {
        self.make_room()?;
        self.planned.push_back(step);
        Ok(())
    }

    fn make_room(&mut self) -> Result<()> {
        self.frames.tally.check_cancelled()?;
        while self.planned.len() >= PLANNED_MAX || self.bytes >= ENTRIES_BYTES_MAX || self.frames.busy() >= self.busy_max {
            if !self.step()? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Does what was planned first; `false` where nothing is planned.
    fn step(&mut self) -> Result<bool> {
        self.frames.tally.check_cancelled()?;
        let Some(step) = self.planned.pop_front() else { return Ok(false) };
        let Self { frames, sink, current, bytes, .. } = self;
        let done = match step {
            Step::Begin(entry) => {
                *bytes -= weight_of(&entry);
                current.clone_from(&entry.key);
                sink.begin(&entry)
            }
            Step::Chunk { offset, chunk, ordinal, position } => {
                frames.with_chunk(ordinal, position, &chunk, |bytes| sink.data(offset, bytes))
            }
            Step::End => sink.end(),
        };
        done.map(|()| true).map_err(|error| error.context(shown(current)))
    }
}

/// Frames that are decoded, or on their way.
struct Frames<'s, 'scope, 'a> {
    scope: &'s Scope<'s, 'scope>,
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
            let _ = send.send(chunks.reader.read(&place));
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

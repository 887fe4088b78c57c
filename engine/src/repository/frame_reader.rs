//! Reading frames and the chunks in them, verified.

use super::bases::KeptBases;
use super::contents_reader::ContentsReader;
use super::index::{ChunkPlace, FrameOrdinal, FramePlace, LookupIndex};
use super::{ChunkIds, ChunkKind, ReadThrough, Relocations, Repository};
use crate::backend::{Backend, ObjectName};
use crate::compress::Decompressor;
use crate::crypto::Sealer;
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame;
use crate::format::object::StructureKeys;
use crate::format::session::{SessionRecord, frame_sealer, refs_frame_sealer};
use crate::format::{FrameUse, Usage};
use crate::id::{ChunkId, FrameClass, SessionId};
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of decoded frames that are kept for the next look.
const CACHE_BYTES_MAX: usize = 16 << 20;
/// Frames that are decoded for their bases wait for each other where their ordinals leave the same remainder.
const BRINGING: usize = 16;

/// A decoded frame. One that is no longer needed is room for the next.
#[derive(Debug, Default)]
pub(crate) struct Frame {
    plaintext: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl Frame {
    /// The bytes of its chunk at `position`.
    pub(crate) fn chunk(&self, position: u32) -> Option<&[u8]> {
        self.plaintext.get(self.ranges.get(position as usize)?.clone())
    }

    /// All its chunks, one behind the other: what bases are stretches of.
    pub(crate) fn content(&self) -> &[u8] {
        let start = self.ranges.first().map_or(self.plaintext.len(), |first| first.start);
        self.plaintext.get(start..).unwrap_or_default()
    }

    /// Where in [`Frame::content`] the chunks from `first` to `last` stand.
    pub(crate) fn stretch(&self, first: u32, last: u32) -> Option<Range<usize>> {
        let start = self.ranges.first()?.start;
        Some(self.ranges.get(first as usize)?.start - start..self.ranges.get(last as usize)?.end - start)
    }

    /// The bytes of its chunks from `first` to `last`, which lie one behind the other.
    pub(crate) fn chunks(&self, first: u32, last: u32) -> Option<&[u8]> {
        self.plaintext.get(self.ranges.get(first as usize)?.start..self.ranges.get(last as usize)?.end)
    }
}

/// Reads frames of one repository.
#[derive(Debug)]
pub(crate) struct FrameReader {
    repository: Arc<dyn Backend>,
    index: Arc<LookupIndex>,
    ids: ChunkIds,
    keys: Keys,
    cache: Mutex<FrameCache>,
    decompressors: Mutex<Vec<Decompressor>>,
    kept_bases: Mutex<KeptBases>,
    /// Held while a frame of such an ordinal is decoded for its bases.
    bringing: [Mutex<()>; BRINGING],
    /// Once a frame was missed.
    relocations: Mutex<Option<Arc<Relocations>>>,
}

/// Session, commitment, structure epoch and class.
type SealerKey = (SessionId, [u8; 32], u32, FrameClass);

/// Opens session secrets when they are first needed.
#[derive(Debug)]
struct Keys {
    credential: Arc<crate::format::slot::Credential>,
    contents: ContentsReader,
    /// By what else of the record it depends on, too: whoever has the key of a session can sign another record under its id.
    sealers: Mutex<HashMap<SealerKey, Sealer>>,
}

#[derive(Debug, Default)]
struct FrameCache {
    bytes_max: usize,
    frames: HashMap<FrameOrdinal, (Arc<Frame>, u64)>,
    bytes: usize,
    clock: u64,
    /// One that made room: memory that was written before costs less than new one.
    spare: Option<Frame>,
}

impl FrameReader {
    /// For this repository, whose `index` agrees with what is listed.
    pub(crate) fn new(repository: &Repository, index: Arc<LookupIndex>) -> Self {
        Self::with_room(repository, index, CACHE_BYTES_MAX)
    }

    /// As [`FrameReader::new`], with decoded frames of so many bytes kept for the next look.
    pub(crate) fn with_room(repository: &Repository, index: Arc<LookupIndex>, cache_bytes: usize) -> Self {
        Self {
            repository: Arc::clone(&repository.backend),
            index,
            ids: ChunkIds::new(&repository.credential),
            keys: Keys {
                credential: Arc::clone(&repository.credential),
                contents: repository.contents_reader(),
                sealers: Mutex::default(),
            },
            cache: Mutex::new(FrameCache { bytes_max: cache_bytes, ..FrameCache::default() }),
            decompressors: Mutex::default(),
            kept_bases: Mutex::default(),
            bringing: Default::default(),
            relocations: Mutex::default(),
        }
    }

    /// The same, through damage.
    pub(super) fn through(mut self, through: &Arc<ReadThrough>) -> Self {
        self.keys.contents.through = Some(Arc::clone(through));
        self
    }

    /// The lookup index that frames are found by.
    pub(crate) fn index(&self) -> &LookupIndex {
        &self.index
    }

    /// The same, to be shared.
    pub(crate) fn shared_index(&self) -> Arc<LookupIndex> {
        Arc::clone(&self.index)
    }

    /// Bases that were kept for frames to come.
    pub(super) fn kept_bases(&self) -> MutexGuard<'_, KeptBases> {
        self.kept_bases.lock()
    }

    /// Keeps others from decoding the frame of this ordinal for its bases meanwhile.
    pub(super) fn bringing(&self, ordinal: FrameOrdinal) -> MutexGuard<'_, ()> {
        self.bringing[ordinal.get() as usize % BRINGING].lock()
    }

    /// How chunks are named.
    pub(crate) fn ids(&self) -> &ChunkIds {
        &self.ids
    }

    /// Where chunks of frames that were re-made stand now; read when first asked for.
    pub(crate) fn relocations(&self, repository: &Repository) -> Result<Arc<Relocations>> {
        let mut known = self.relocations.lock();
        match &*known {
            Some(relocations) => Ok(Arc::clone(relocations)),
            None => Ok(Arc::clone(known.insert(Arc::new(repository.read_relocations(self.keys.contents.through.as_deref())?)))),
        }
    }

    /// Makes the index agree with what is listed now.
    pub(crate) fn list_again(&self, repository: &Repository) -> Result<()> {
        repository.sync_index_by(&self.index, &self.keys.contents)?;
        self.forget_relocations();
        Ok(())
    }

    /// Packs were listed again: relocations are read again too when they are needed.
    pub(crate) fn forget_relocations(&self) {
        *self.relocations.lock() = None;
    }

    /// Where the frame with this ordinal lies.
    pub(crate) fn place(&self, ordinal: FrameOrdinal) -> Result<FramePlace> {
        let gone = || Error::new(ErrorKind::Damaged, "a frame that is needed is in no pack any more; run check");
        self.index.frame(ordinal)?.ok_or_else(gone)
    }

    /// Reads, opens and unpacks a frame (FRAME-1 to FRAME-6). Chunk ids are not checked yet.
    pub(crate) fn read(&self, place: &FramePlace) -> Result<Frame> {
        let mut frame = Frame::default();
        self.read_into(place, &mut frame).map(|()| frame)
    }

    /// As [`FrameReader::read`], into the room of another frame.
    fn read_into(&self, place: &FramePlace, frame: &mut Frame) -> Result<()> {
        let name = ObjectName::pack(place.kind, place.pack);
        let mut read_from = |backend: &dyn Backend| {
            let mut sealed = backend.get_range(&name, place.offset, place.sealed_length as usize)?;
            self.decode_into(place, &self.index.hash_of(place)?, &mut sealed, frame)
        };
        let contents = &self.keys.contents;
        match (read_from(&*self.repository), &contents.through) {
            (Err(error), Some(through)) => through.read(&*self.repository, &contents.trust, &name, error, |mended, _| read_from(mended)),
            (read, _) => read,
        }
    }

    /// As [`FrameReader::read`], for whoever has the sealed bytes and their `hash` already; the bytes are used as a buffer.
    pub(crate) fn decode(&self, place: &FramePlace, hash: &[u8; 32], sealed: &mut Vec<u8>) -> Result<Frame> {
        let mut frame = Frame::default();
        self.decode_into(place, hash, sealed, &mut frame).map(|()| frame)
    }

    /// As [`FrameReader::decode`], into the room of another frame. After an error the frame has no chunks.
    pub(crate) fn decode_into(&self, place: &FramePlace, hash: &[u8; 32], sealed: &mut Vec<u8>, frame: &mut Frame) -> Result<()> {
        let Frame { plaintext, ranges } = frame;
        ranges.clear();
        let mut decode = || {
            let sealer = self.keys.sealer(place)?;
            let bases = place.has_bases.then(|| self.read_bases(place)).transpose()?;
            let mut decompressor = match self.decompressors.lock().pop() {
                Some(decompressor) => decompressor,
                None => Decompressor::new()?,
            };
            let expected = frame::Expected { id: place.id, hash, plaintext_length: place.plaintext_length, bases: bases.as_deref() };
            let opened = frame::open(&sealer, expected, &mut decompressor, sealed, plaintext);
            self.decompressors.lock().push(decompressor);
            opened?;
            *ranges = frame::chunk_ranges(plaintext, place.chunk_count as usize)?;
            Ok(())
        };
        decode().map_err(|error: Error| error.context(ObjectName::pack(place.kind, place.pack)))
    }

    /// As [`FrameReader::read`], from a small cache where it is there.
    pub(crate) fn read_cached(&self, ordinal: FrameOrdinal) -> Result<Arc<Frame>> {
        if let Some(frame) = self.cache.lock().get(ordinal) {
            return Ok(frame);
        }
        let mut frame = self.cache.lock().spare.take().unwrap_or_default();
        self.read_into(&self.place(ordinal)?, &mut frame)?;
        let frame = Arc::new(frame);
        self.cache.lock().insert(ordinal, &frame);
        Ok(frame)
    }

    /// Shows a frame that is not kept, in memory that other frames had. One that cannot be read is not shown.
    pub(super) fn read_for_once(&self, place: &FramePlace, show: impl FnOnce(&Frame)) {
        let mut frame = self.cache.lock().spare.take().unwrap_or_default();
        if self.read_into(place, &mut frame).is_ok() {
            show(&frame);
        }
        self.cache.lock().spare = Some(frame);
    }

    /// The bytes of a chunk at a place, checked against its id (CHUNK-2).
    pub(crate) fn verified<'a>(&self, frame: &'a Frame, kind: ChunkKind, id: &ChunkId, position: u32) -> Result<&'a [u8]> {
        let bytes = frame.chunk(position).unwrap_or_default();
        self.ids.check(kind, id, bytes)?;
        Ok(bytes)
    }

    /// Reads a chunk from any place that `allowed` lets pass; a damaged copy gives way to a good one.
    pub(crate) fn chunk(&self, kind: ChunkKind, id: &ChunkId, allowed: impl Fn(&ChunkPlace) -> Result<bool>) -> Result<Vec<u8>> {
        let places = self.index.places_of(id)?;
        // Of a pack that is gone more can be hoped for than of one that is damaged.
        let mut problem = places.unread.into_iter().map(|(_, error)| error).min_by_key(|error| error.kind() != ErrorKind::NotFound);
        for place in places.found {
            if place.frame.class() != Some(kind.class()) || !allowed(&place)? {
                continue;
            }
            let bytes =
                self.read_cached(place.ordinal).and_then(|frame| self.verified(&frame, kind, id, place.position).map(<[u8]>::to_vec));
            match bytes {
                Ok(bytes) => return Ok(bytes),
                Err(error) if error.kind() == ErrorKind::NotFound => problem = Some(error),
                Err(error) => problem = problem.or(Some(error)),
            }
        }
        Err(problem
            .unwrap_or_else(|| Error::new(ErrorKind::Damaged, format!("{kind:?} chunk {id} is in no pack that may be used; run check"))))
    }
}

impl Keys {
    fn sealer(&self, place: &FramePlace) -> Result<Sealer> {
        let class = place.id.class().ok_or_else(|| Error::rule("PACK-7", format!("frame {} has no class", place.id)))?;
        let record = self.record(place)?;
        let key = (place.id.session, *record.commitment(), record.structure_epoch(), class);
        if let Some(sealer) = self.sealers.lock().get(&key) {
            return Ok(sealer.clone());
        }
        let sealer = match class {
            FrameClass::Refs => {
                let key = self.credential.structure_key(record.structure_epoch());
                let missing = || Error::new(ErrorKind::Unauthorized, "this credential is too old for these refs; ask for a newer one");
                refs_frame_sealer(key.ok_or_else(missing)?, &record.id())
            }
            FrameClass::Data | FrameClass::Meta => frame_sealer(&record.open_secret(&self.credential.restore_keys)?, &record.id(), class),
        };
        self.sealers.lock().insert(key, sealer.clone());
        Ok(sealer)
    }

    /// The record of the session that sealed a frame, from the tables of the pack where the frame lies.
    fn record(&self, place: &FramePlace) -> Result<SessionRecord> {
        let name = ObjectName::pack(place.kind, place.pack);
        if let Some(record) = self.contents.seen.record(&name, place.id.session) {
            return Ok(record);
        }
        let tail = match self.contents.read_any_tail(&name) {
            // Its end is damaged, its frames need not be: an index object or the cache told where they lie.
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unavailable) => {
                let record = self.contents.read_session(place.id.session).map_err(|_| error)?.record;
                self.contents.seen.note_records(&name, std::slice::from_ref(&record));
                return Ok(record);
            }
            tail => tail?,
        };
        let missing = || Error::rule("PACK-7", format!("{name}: no session record for frame {}", place.id));
        tail.tables.sessions.into_iter().find(|record| record.id() == place.id.session).ok_or_else(missing)
    }
}

impl FrameCache {
    fn get(&mut self, ordinal: FrameOrdinal) -> Option<Arc<Frame>> {
        self.clock += 1;
        let (frame, used) = self.frames.get_mut(&ordinal)?;
        *used = self.clock;
        Some(Arc::clone(frame))
    }

    fn insert(&mut self, ordinal: FrameOrdinal, frame: &Arc<Frame>) {
        self.clock += 1;
        if self.frames.insert(ordinal, (Arc::clone(frame), self.clock)).is_none() {
            self.bytes += frame.plaintext.len();
        }
        // Few frames fit, so looking at all of them for the oldest is cheap.
        while self.bytes > self.bytes_max && self.frames.len() > 1 {
            let Some(oldest) = self.frames.iter().min_by_key(|(_, (_, used))| *used).map(|(ordinal, _)| *ordinal) else { break };
            if let Some((frame, _)) = self.frames.remove(&oldest) {
                self.bytes -= frame.plaintext.len();
                self.spare = Arc::into_inner(frame).or(self.spare.take());
            }
        }
    }
}

/// The chunks that one snapshot may use: only those in frames that its refs name.
///
/// A pack that was condemned when the reader began may go while it reads (I7 holds only for those condemned later). What it held that is needed
/// stands elsewhere by then (I8), so it is looked for again.
#[derive(Debug)]
pub(crate) struct SnapshotChunks<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) reader: &'a FrameReader,
    refs_root: ChunkId,
    allowed: AllowedFrames,
    later: Mutex<Option<Arc<Later>>>,
}

/// How often a chunk is looked for again whose pack is gone: each time takes a sweep in between.
const LOOKS_MAX: usize = 8;

/// What is found after packs were listed again.
#[derive(Debug)]
struct Later {
    reader: FrameReader,
    allowed: AllowedFrames,
}

/// Frames, one bit for each ordinal of an index.
#[derive(Debug, Default)]
struct AllowedFrames {
    all: FrameSet,
    /// Those of them that others are compressed against.
    bases: FrameSet,
}

#[derive(Debug, Default)]
struct FrameSet(Vec<u64>);

impl FrameSet {
    fn insert(&mut self, ordinal: FrameOrdinal) {
        let (word, bit) = (ordinal.get() as usize / 64, ordinal.get() % 64);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << bit;
    }

    fn contains(&self, ordinal: FrameOrdinal) -> bool {
        self.0.get(ordinal.get() as usize / 64).is_some_and(|word| word >> (ordinal.get() % 64) & 1 == 1)
    }
}

impl AllowedFrames {
    /// Allows a frame, or where it was re-made the frames in which its used chunks stand now; false where any of these is in no listed pack.
    fn allow(&mut self, repository: &Repository, reader: &FrameReader, used: &FrameUse) -> Result<bool> {
        if self.allow_standing(&reader.index, used)? {
            return Ok(true);
        }
        let instead = reader.instead_of(repository, used)?;
        instead.uses.iter().try_for_each(|used| self.allow_standing(&reader.index, used).map(drop))?;
        Ok(instead.is_complete)
    }

    fn allow_standing(&mut self, index: &LookupIndex, used: &FrameUse) -> Result<bool> {
        let Some(ordinal) = index.ordinal_of(used.frame)? else { return Ok(false) };
        self.all.insert(ordinal);
        if used.usage == Usage::Base {
            self.bases.insert(ordinal);
        }
        Ok(true)
    }

    /// Whether a place is in an allowed frame that can be read.
    fn contain(&self, index: &LookupIndex, place: &ChunkPlace) -> Result<bool> {
        if place.has_bases && !index.stands_on_bases(place)? {
            return Ok(false);
        }
        Ok(index.ordinal_of(place.frame)?.is_some_and(|ordinal| self.all.contains(ordinal)))
    }
}

impl<'a> SnapshotChunks<'a> {
    /// For the snapshot with these refs. Nothing is allowed yet.
    pub(crate) fn new(repository: &'a Repository, reader: &'a FrameReader, refs_root: ChunkId) -> Self {
        Self { repository, reader, refs_root, allowed: AllowedFrames::default(), later: Mutex::default() }
    }

    /// Allows a frame, or where it was re-made the frames in which its used chunks stand now; false where any of these is in no listed pack.
    pub(crate) fn allow(&mut self, used: &FrameUse) -> Result<bool> {
        self.allowed.allow(self.repository, self.reader, used)
    }

    /// Whether another frame of the refs is compressed against the one of this ordinal.
    pub(crate) fn is_base(&self, ordinal: FrameOrdinal) -> bool {
        self.allowed.bases.contains(ordinal)
    }

    /// A place of the chunk in a frame of the refs.
    ///
    /// Where the pack that had it is gone by now, a place from which nothing can be read: [`SnapshotChunks::chunk`] looks again.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] where there is none.
    pub(crate) fn find(&self, id: &ChunkId) -> Result<ChunkPlace> {
        let index = &self.reader.index;
        let places = index.places_of(id)?;
        for place in places.found {
            if self.allowed.contain(index, &place)? {
                return Ok(place);
            }
        }
        if let Some((ordinal, _)) = places.unread.iter().find(|(_, error)| error.kind() == ErrorKind::NotFound) {
            let first = self.reader.place(*ordinal)?;
            return Ok(ChunkPlace {
                frame: first.id,
                position: u32::MAX,
                ordinal: *ordinal,
                domain: first.domain,
                has_bases: first.has_bases,
            });
        }
        if let Some((_, error)) = places.unread.into_iter().next() {
            return Err(error);
        }
        Err(Error::new(ErrorKind::Damaged, format!("chunk {id} is in no frame that the snapshot's refs name; run check")))
    }

    /// Reads a chunk from a frame of the refs, wherever that stands by now.
    pub(crate) fn chunk(&self, kind: ChunkKind, id: &ChunkId) -> Result<Vec<u8>> {
        let mut read = self.reader.chunk(kind, id, |place| self.allowed.contain(&self.reader.index, place));
        for look in 0..LOOKS_MAX {
            if !read.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound) {
                break;
            }
            let later = self.look_again(look > 0)?;
            read = later.reader.chunk(kind, id, |place| later.allowed.contain(&later.reader.index, place));
        }
        read
    }

    /// Packs as they are listed now, in an index of its own: what others have found by the first one keeps its meaning.
    fn look_again(&self, is_stale: bool) -> Result<Arc<Later>> {
        let mut known = self.later.lock();
        match &*known {
            Some(later) if !is_stale => Ok(Arc::clone(later)),
            _ => {
                let reader = match &self.reader.keys.contents.through {
                    Some(through) => self.repository.reader_through(through)?,
                    None => FrameReader::new(self.repository, self.repository.open_index()?),
                };
                let mut allowed = AllowedFrames::default();
                self.repository.walk_refs(&reader, &self.refs_root, |used| allowed.allow(self.repository, &reader, &used).map(drop))?;
                Ok(Arc::clone(known.insert(Arc::new(Later { reader, allowed }))))
            }
        }
    }
}

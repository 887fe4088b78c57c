//! Storing chunks: what is new goes into frames, frames are sealed in parallel, sealed frames go into packs.
//!
//! Everything is decided in the order in which chunks are added, by one thread: whether a chunk is new, in which frame and at which
//! position it stands, where a frame and a pack end. So the stored bytes do not depend on how many threads there are.
//!
//! ```text
//! add ─▶ frame in the making ─▶ compress + seal (pool) ─▶ packer: puts frames back in order, ends packs ─▶ one thread a pack
//!  ▲                                                                                                            │
//!  └── chunk ids of durable packs move from the pending map to the lookup index ◀── contents table ─────────────┘
//! ```
//! Tokens bound the frames between `add` and the disk.
//!
//! Chunks whose last version stands in the repository go into frames of their own, which are compressed against what they were
//! ([`super::bases`]) where that pays ([`Attempts`]).

use super::attempts::{Attempt, Attempts, Outcome};
use super::bases::{BaseHint, OpenBases, without_own};
use super::index::LookupIndex;
use super::pack_writer::{PackMaker, SealedFrame, WrittenPack};
use super::packer::Packer;
use super::{ChunkIds, ChunkKind, FrameReader, Repository, Session};
use crate::backend::ObjectKind;
use crate::compress::{Compressor, Effort};
use crate::crypto::{Sealer, derive};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{FramePlaintext, seal, seal_against};
use crate::format::session::{frame_sealer, refs_frame_sealer};
use crate::format::{FrameRecord, Roles};
use crate::id::{ChunkId, DomainId, FrameClass, FrameId, PackId, SessionId};
use crate::runtime::Pool;
use crate::runtime::channel::{Receiver, Sender, bounded, unbounded};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

const CLASSES: [FrameClass; 3] = [FrameClass::Data, FrameClass::Meta, FrameClass::Refs];
/// Frames in the making: one of each class, and those with bases.
const OPEN_FRAMES: usize = CLASSES.len() + WITH_BASES.len();
/// The last of these. Of data text has no zero bytes; what has any changes in other ways, and is tried by itself. So are guesses.
const WITH_BASES: [Kind; 4] = [
    Kind { class: FrameClass::Data, size_max: 512 << 10, effort: Effort::More },
    Kind { class: FrameClass::Data, size_max: 768 << 10, effort: Effort::Usual },
    Kind { class: FrameClass::Meta, size_max: 512 << 10, effort: Effort::More },
    Kind { class: FrameClass::Data, size_max: 512 << 10, effort: Effort::Usual },
];

/// A kind of frames with bases.
#[derive(Debug)]
struct Kind {
    class: FrameClass,
    /// They are smaller than others: matches far back in the bases are found better, what does not pay costs fewer others their saving, and who reads one chunk needs
    /// fewer bases.
    size_max: usize,
    /// The most that is made, as long as it pays.
    effort: Effort,
}

/// In which frame a chunk stands, and which of its chunks it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkUse {
    pub(crate) frame: FrameId,
    pub(crate) position: u32,
}

/// What was stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct WriterSummary {
    /// Content bytes of new data chunks.
    pub(crate) data_bytes_new: u64,
    /// Bytes of all packs written.
    pub(crate) bytes_stored: u64,
    /// The packs.
    pub(crate) packs: Vec<(ObjectKind, PackId, crate::format::ContentsTable)>,
}

/// A frame in the making.
#[derive(Debug, Default)]
struct OpenFrame {
    /// Among the frames of its class; means something once there is a chunk.
    counter: u32,
    plaintext: FramePlaintext,
    ids: Vec<ChunkId>,
    bases: OpenBases,
}

/// The frames of one class.
#[derive(Debug, Default)]
struct Frames {
    /// Chunk counts by counter; 0 for one in the making.
    counts: Vec<u32>,
    /// How many have ended.
    ended: u32,
}

/// Stores chunks of one session.
#[derive(Debug)]
pub(crate) struct Writer {
    session: SessionId,
    domain: DomainId,
    index: Arc<LookupIndex>,
    ids: ChunkIds,
    frame_sizes: [usize; 3],
    open: [OpenFrame; OPEN_FRAMES],
    frames: [Frames; 3],
    /// Frames with bases; `None` where none are made.
    attempts: Option<[Attempts; WITH_BASES.len()]>,
    /// Chunks of this session that the index does not know yet.
    pending: HashMap<ChunkId, (u32, u32)>,
    sealing: Arc<Sealing>,
    pool: Arc<Pool>,
    tokens: Receiver<()>,
    /// Dropped to say that no more frames come.
    to_packer: Option<Sender<(u32, SealedFrame)>>,
    written: Receiver<Result<WrittenPack>>,
    summary: WriterSummary,
    failed: bool,
}

/// What a worker needs to seal a frame.
#[derive(Debug)]
struct Sealing {
    sealers: [Sealer; 3],
    level: i32,
    /// Memory that goes from frame to frame: allocated anew for each it would be given back to the system and cleared by it every time.
    benches: Mutex<Vec<Bench>>,
    spare: Mutex<Vec<FramePlaintext>>,
}

/// What one worker seals with.
#[derive(Debug)]
struct Bench {
    compressor: Compressor,
    plaintext: Vec<u8>,
    /// What a frame is compressed against.
    bases: Vec<u8>,
}

impl Writer {
    /// Starts the threads that seal and write for `session`. `index` agrees with what is listed and holds no condemned pack.
    pub(crate) fn start(repository: &Repository, session: &Session<'_>, index: Arc<LookupIndex>, level: i32) -> Result<Self> {
        Self::start_with(repository, session, index, level, 2 * repository.runtime.executor.threads() + 2, None)
    }

    /// As [`Writer::start`], with at most `frames_in_flight` frames between `add` and the disk; `reader`, which has the same index, reads what new
    /// chunks are compressed against.
    pub(crate) fn start_with(
        repository: &Repository,
        session: &Session<'_>,
        index: Arc<LookupIndex>,
        level: i32,
        frames_in_flight: usize,
        reader: Option<Arc<FrameReader>>,
    ) -> Result<Self> {
        repository.require(Roles::BACKUP, "storing data")?;
        Compressor::new(level)?;
        let config = &repository.config;
        let executor = &repository.runtime.executor;
        let (id, secret) = (session.id(), session.secret()?);
        let structure_key = repository.structure_key()?;
        let sealers = [
            frame_sealer(secret, &id, FrameClass::Data),
            frame_sealer(secret, &id, FrameClass::Meta),
            refs_frame_sealer(structure_key, &id),
        ];
        let maker = PackMaker::new(repository, session)?;
        let (give_token, tokens) = bounded(frames_in_flight);
        for _ in 0..frames_in_flight {
            give_token.send(()).map_err(|_| internal("tokens"))?;
        }
        let (to_packer, sealed) = unbounded();
        let (report, written) = unbounded();
        let packer = Packer {
            maker,
            pack_ids: derive("icecore pack ids of a session", &[secret.bytes()]),
            pack_size: u64::from(config.pack_size),
            executor: Arc::clone(executor),
            tokens: give_token,
            report,
            lanes: Default::default(),
        };
        executor.spawn("icecore-packer", Box::new(move || packer.run(&sealed)))?;
        let meta = config.meta_frame_size as usize;
        let frame_sizes = [config.data_frame_size as usize, meta, meta];
        Ok(Self {
            session: id,
            domain: repository.credential.author.certificate.domain(),
            index,
            ids: ChunkIds::new(&repository.credential),
            frame_sizes,
            open: Default::default(),
            frames: Default::default(),
            attempts: reader.map(|reader| {
                WITH_BASES.map(|kind| Attempts::new(Arc::clone(&reader), frame_sizes[kind.class as usize].min(kind.size_max), kind.effort))
            }),
            pending: HashMap::new(),
            sealing: Arc::new(Sealing { sealers, level, benches: Mutex::default(), spare: Mutex::default() }),
            pool: repository.pool()?,
            tokens,
            to_packer: Some(to_packer),
            written,
            summary: WriterSummary::default(),
            failed: false,
        })
    }

    /// The lookup index, which agrees with what was listed and with the packs that are durable.
    pub(crate) fn index(&self) -> Arc<LookupIndex> {
        Arc::clone(&self.index)
    }

    /// How chunks are named.
    pub(crate) fn ids(&self) -> &ChunkIds {
        &self.ids
    }

    /// Whether it is of use to know the bases of a chunk.
    pub(crate) fn wants_bases(&self) -> bool {
        self.attempts.is_some()
    }

    /// Stores a chunk unless it is there already, and says where it stands.
    pub(crate) fn add(&mut self, kind: ChunkKind, id: ChunkId, bytes: &[u8]) -> Result<ChunkUse> {
        match self.find(&id)? {
            Some(found) => Ok(found),
            None => self.push(kind.class(), kind.class() as usize, id, bytes, &[]),
        }
    }

    /// As [`Writer::add`], of a data or meta chunk whose last version stands at `bases`.
    pub(crate) fn add_against(&mut self, kind: ChunkKind, id: ChunkId, bytes: &[u8], bases: Vec<BaseHint>) -> Result<ChunkUse> {
        let with_bases = match kind.class() {
            FrameClass::Data => usize::from(bytes.contains(&0)),
            FrameClass::Meta | FrameClass::Refs => 2,
        };
        self.add_in(with_bases, kind, id, bytes, bases)
    }

    /// As [`Writer::add`], of a data chunk whose last version may stand at `was`.
    pub(crate) fn add_guessing(&mut self, id: ChunkId, bytes: &[u8], was: ChunkUse) -> Result<ChunkUse> {
        let (first, last) = (was.position, was.position);
        self.add_in(3, ChunkKind::Data, id, bytes, vec![BaseHint::Chunks { frame: was.frame, first, last, length: bytes.len() as u32 }])
    }

    fn add_in(&mut self, with_bases: usize, kind: ChunkKind, id: ChunkId, bytes: &[u8], mut bases: Vec<BaseHint>) -> Result<ChunkUse> {
        if let Some(found) = self.find(&id)? {
            return Ok(found);
        }
        without_own(&mut bases, self.session);
        let class = kind.class();
        match !bases.is_empty() && self.has_frame_for(with_bases, bytes.len(), &bases)? {
            true => self.push(class, CLASSES.len() + with_bases, id, bytes, &bases),
            false => self.push(class, class as usize, id, bytes, &[]),
        }
    }

    /// Where these chunks stand that may be bases of one of `length` bytes; those that are missing are left out.
    pub(crate) fn hints_of(&self, chunks: &[ChunkId], length: u32) -> Result<Vec<BaseHint>> {
        let mut hints = Vec::new();
        for chunk in chunks {
            if let Some(place) = self.index.lookup(chunk, self.domain)? {
                self.index.base_hints(&place, length, &mut hints)?;
            }
        }
        Ok(hints)
    }

    /// Whether a frame with bases is open, or is to be begun, that takes a chunk of `length` bytes with these.
    fn has_frame_for(&mut self, with_bases: usize, length: usize, bases: &[BaseHint]) -> Result<bool> {
        let (lane, class) = (CLASSES.len() + with_bases, WITH_BASES[with_bases].class);
        let open = &self.open[lane];
        if open.plaintext.is_full_for(length, self.frame_size(class, lane)) || open.bases.is_full_for(bases) {
            self.end_frame(class, lane)?;
        }
        match &mut self.attempts {
            None => Ok(false),
            Some(attempts) => Ok(!self.open[lane].ids.is_empty() || attempts[with_bases].begin(length)?),
        }
    }

    /// Puts a new chunk into a frame in the making.
    fn push(&mut self, class: FrameClass, lane: usize, id: ChunkId, bytes: &[u8], bases: &[BaseHint]) -> Result<ChunkUse> {
        if self.open[lane].plaintext.is_full_for(bytes.len(), self.frame_size(class, lane)) {
            self.end_frame(class, lane)?;
        }
        let (open, frames) = (&mut self.open[lane], &mut self.frames[class as usize]);
        if open.ids.is_empty() {
            open.counter = frames.counts.len() as u32;
            frames.counts.push(0);
        }
        let number = FrameId::new(self.session, class, open.counter).number;
        let position = open.plaintext.count() as u32;
        // Bound: a frame has at most 16,384 chunks.
        open.bases.push(position as u16, bases);
        open.plaintext.push(bytes);
        open.ids.push(id);
        self.pending.insert(id, (number, position));
        if class == FrameClass::Data {
            self.summary.data_bytes_new += bytes.len() as u64;
        }
        Ok(ChunkUse { frame: FrameId { session: self.session, number }, position })
    }

    /// Plaintext bytes after which a frame ends.
    fn frame_size(&self, class: FrameClass, lane: usize) -> usize {
        let size = self.frame_sizes[class as usize];
        lane.checked_sub(CLASSES.len()).map_or(size, |with_bases| size.min(WITH_BASES[with_bases].size_max))
    }

    /// Where a chunk stands that this session or an earlier one stored.
    pub(crate) fn find(&self, id: &ChunkId) -> Result<Option<ChunkUse>> {
        if let Some((number, position)) = self.pending.get(id) {
            return Ok(Some(ChunkUse { frame: FrameId { session: self.session, number: *number }, position: *position }));
        }
        let place = self.index.lookup(id, self.domain)?;
        Ok(place.map(|place| ChunkUse { frame: place.frame, position: place.position }))
    }

    /// How many chunks a frame has that [`Writer::add`] or [`Writer::find`] named.
    pub(crate) fn chunk_count(&self, frame: FrameId) -> Result<u32> {
        if frame.session == self.session {
            let class = (frame.number >> 30) as usize % CLASSES.len();
            let ended = self.frames[class].counts.get(frame.counter() as usize).copied().filter(|count| *count > 0);
            let mut open = self.open.iter().zip(CLASSES.into_iter().chain(WITH_BASES.map(|kind| kind.class)));
            let open = open.find(|(open, of)| *of as usize == class && open.counter == frame.counter() && !open.ids.is_empty());
            let count = ended.or(open.map(|(open, _)| open.ids.len() as u32));
            return count.ok_or_else(|| internal("a frame of this session that nobody began"));
        }
        let place = self.index.ordinal_of(frame)?.map(|ordinal| self.index.frame(ordinal)).transpose()?.flatten();
        place.map(|place| place.chunk_count).ok_or_else(|| internal("a frame that is used is not in the index"))
    }

    /// Ends the frames in the making that may have bases, and waits until it is known which of them have.
    pub(crate) fn settle_bases(&mut self) -> Result<()> {
        self.end_frame(FrameClass::Data, FrameClass::Data as usize)?;
        self.end_frames_with_bases()?;
        self.attempts.iter_mut().flatten().try_for_each(Attempts::settle)
    }

    /// The frames that a frame is compressed against which [`Writer::add`] or [`Writer::find`] named; after [`Writer::settle_bases`].
    pub(crate) fn bases_of(&self, frame: FrameId) -> Result<Vec<FrameId>> {
        if frame.session == self.session {
            let bases = self.attempts.iter().flatten().find_map(|attempts| attempts.bases_of(frame.number));
            return Ok(bases.map(<[FrameId]>::to_vec).unwrap_or_default());
        }
        let missing = || internal("a frame that is used is not in the index");
        let ordinal = self.index.ordinal_of(frame)?.ok_or_else(missing)?;
        match self.index.frame(ordinal)?.ok_or_else(missing)?.has_bases {
            true => Ok(self.index.bases_of(ordinal, frame)?.into_iter().map(|base| base.frame).collect()),
            false => Ok(Vec::new()),
        }
    }

    fn end_frames_with_bases(&mut self) -> Result<()> {
        WITH_BASES.into_iter().enumerate().try_for_each(|(with_bases, kind)| self.end_frame(kind.class, CLASSES.len() + with_bases))
    }

    /// Ends a frame in the making and sends it on its way.
    fn end_frame(&mut self, class: FrameClass, lane: usize) -> Result<()> {
        let (open, frames) = (&mut self.open[lane], &mut self.frames[class as usize]);
        if open.ids.is_empty() {
            return Ok(());
        }
        let spare = self.sealing.spare.lock().pop().unwrap_or_default();
        let plaintext = std::mem::replace(&mut open.plaintext, spare);
        let chunks = std::mem::take(&mut open.ids);
        let bases = std::mem::take(&mut open.bases);
        let id = FrameId::new(self.session, class, open.counter);
        if let Some(count) = frames.counts.get_mut(open.counter as usize) {
            *count = chunks.len() as u32;
        }
        let order = frames.ended;
        frames.ended += 1;
        self.take_written()?;
        self.tokens.recv().map_err(|_| internal("the packer is gone"))?;
        let (sealing, to_packer) = (Arc::clone(&self.sealing), self.to_packer.clone());
        let with_bases = lane.checked_sub(CLASSES.len());
        let attempt = with_bases.and_then(|with_bases| Some(self.attempts.as_mut()?[with_bases].end()));
        self.pool.spawn(move || {
            let frame = sealing.seal(class, id, chunks, plaintext, attempt.as_ref().map(|attempt| (attempt, &bases)));
            if let Some(attempt) = attempt {
                let bases = frame.record.bases.iter().map(|base| base.frame).collect();
                attempt.tell(Outcome {
                    frame: id.number,
                    bases,
                    sealed: frame.bytes.len(),
                    plaintext: frame.record.plaintext_length as usize,
                });
            }
            if let Some(sender) = to_packer {
                // Where the packer is gone, the session has failed already.
                let _ = sender.send((order, frame));
            }
        });
        Ok(())
    }

    /// Moves the chunks of durable packs from the pending map to the index.
    fn take_written(&mut self) -> Result<()> {
        while let Ok(pack) = self.written.try_recv() {
            self.take_pack(pack)?;
        }
        match self.failed {
            true => Err(Error::new(ErrorKind::Unavailable, "a pack could not be written")),
            false => Ok(()),
        }
    }

    fn take_pack(&mut self, pack: Result<WrittenPack>) -> Result<()> {
        let pack = pack.inspect_err(|_| self.failed = true)?;
        let domain = self.domain;
        self.index.add_pack(pack.kind, pack.id, &pack.contents, |_| domain)?;
        for id in pack.contents.frames.iter().flat_map(|frame| &frame.chunks) {
            self.pending.remove(id);
        }
        self.summary.bytes_stored += pack.size;
        self.summary.packs.push((pack.kind, pack.id, pack.contents));
        Ok(())
    }

    /// Ends all frames and packs and waits until everything is durable. Nothing may be added afterwards.
    pub(crate) fn finish(&mut self) -> Result<WriterSummary> {
        self.end_frames_with_bases()?;
        for class in CLASSES {
            self.end_frame(class, class as usize)?;
        }
        self.to_packer = None;
        while let Ok(pack) = self.written.recv() {
            self.take_pack(pack)?;
        }
        if !self.pending.is_empty() {
            return Err(internal("frames were lost on their way into packs"));
        }
        // What is durable is worth remembering even if the snapshot fails; a cache that cannot be saved is no failure of the backup.
        let _ = self.index.save();
        let mut summary = std::mem::take(&mut self.summary);
        summary.packs.sort_unstable_by_key(|(kind, id, _)| (*kind, *id));
        Ok(summary)
    }
}

impl Sealing {
    /// Seals a frame; against these bases, where that pays.
    fn seal(
        &self,
        class: FrameClass,
        id: FrameId,
        chunks: Vec<ChunkId>,
        mut open: FramePlaintext,
        against: Option<(&Attempt, &OpenBases)>,
    ) -> SealedFrame {
        let pooled = self.benches.lock().pop();
        let mut bench = pooled.unwrap_or_else(|| {
            let compressor = Compressor::new(self.level).expect("start() has made one of this level");
            Bench { compressor, plaintext: Vec::new(), bases: Vec::new() }
        });
        open.encode_to(&mut bench.plaintext);
        open.clear();
        self.spare.lock().push(open);
        let Bench { compressor, plaintext, bases: base_bytes } = &mut bench;
        let sealer = &self.sealers[class as usize];
        let attempt = against.map(|(attempt, open)| (attempt.reader.gather(open, base_bytes), attempt.effort));
        let (bytes, bases) = match attempt {
            Some((bases, effort)) if !bases.is_empty() => {
                let (bytes, is_against) = seal_against(sealer, id.number, compressor, plaintext, (base_bytes, effort));
                (bytes, if is_against { bases } else { Vec::new() })
            }
            _ => (seal(sealer, id.number, compressor, plaintext), Vec::new()),
        };
        let plaintext_length = plaintext.len() as u32;
        self.benches.lock().push(bench);
        let record =
            FrameRecord { id, sealed_length: bytes.len() as u32, plaintext_length, hash: *blake3::hash(&bytes).as_bytes(), bases, chunks };
        SealedFrame { record, bytes }
    }
}

fn internal(what: &str) -> Error {
    Error::new(ErrorKind::Internal, what)
}

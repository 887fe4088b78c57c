//! Reframe: of frames of which little is used, the chunks that are used go into new frames, and relocations say where they are now.
//!
//! Only with the role restore: the frames have to be opened. Every chunk is checked against its id before it is sealed again, as the
//! collector answers for it from then on. Order: new frames durable and read back, then relocations, then the epoch that condemns the old packs.
//! A chunk that was dead when its frame was re-made is not mapped; where somebody used it meanwhile, the whole frame is rescued by a copy
//! (`RelocationByChunk`).

use super::mark::Mark;
use super::plan::Remake;
use super::repack::Copier;
use crate::backend::ObjectName;
use crate::compress::Compressor;
use crate::crypto::Sealer;
use crate::error::{Error, ErrorKind, Result};
use crate::format::FrameRecord;
use crate::format::frame::{FramePlaintext, seal};
use crate::format::relocations::{MovedChunk, RelocatedFrame, RelocationsBody};
use crate::format::session::{SessionRecord, frame_sealer};
use crate::id::{ChunkId, FrameClass, FrameId, RelocationsId};
use crate::limits::RELOCATED_FRAMES_MAX;
use crate::repository::index::FramePlace;
use crate::repository::{Frame, Repository, Session};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A frame is re-made when less than this share of its chunks is used, in percent. Chunk lengths stand inside the seal, and chunks are of similar
/// size, so they are counted. How much is written altogether is bounded by `dead_percent_max`, since the sparsest packs come first; this bounds
/// what stays in frames that are left alone (`docs/decisions/0012-*` has the figures).
const USED_PERCENT_MAX: u64 = 75;
/// zstd level of new frames: that of backups unless told otherwise.
const LEVEL: i32 = 3;
/// A relocations object ends when its frames take about so many bytes.
const RELOCATIONS_LENGTH_END: usize = 8 << 20;
const CLASSES: [FrameClass; 2] = [FrameClass::Data, FrameClass::Meta];

/// Whether a frame of `chunk_count` chunks of which `used` are used is re-made, and what that frees.
pub(super) fn remake(place: &FramePlace, used: &[u8]) -> Option<Remake> {
    let used: u64 = used.iter().map(|byte| u64::from(byte.count_ones())).sum();
    let (bytes, chunks) = (u64::from(place.sealed_length), u64::from(place.chunk_count));
    (used * 100 < chunks * USED_PERCENT_MAX).then(|| Remake { frames: 1, bytes, bytes_used: bytes * used / chunks })
}

/// Makes frames anew.
pub(super) struct Reframer<'a> {
    repository: &'a Repository,
    mark: &'a Mark<'a>,
    record: Arc<SessionRecord>,
    sealers: [Sealer; CLASSES.len()],
    compressor: Compressor,
    open: [OpenFrame; CLASSES.len()],
    /// Frames that were re-made, and where their chunks are now.
    remade: BTreeMap<FrameId, RelocatedFrame>,
    /// Sealed bytes of the new frames.
    pub(super) bytes_written: u64,
}

/// A new frame in the making.
#[derive(Default)]
struct OpenFrame {
    counter: u32,
    plaintext: FramePlaintext,
    ids: Vec<ChunkId>,
    positions: HashMap<ChunkId, u16>,
}

impl<'a> Reframer<'a> {
    /// For frames of the collector's `session`.
    pub(super) fn new(repository: &'a Repository, mark: &'a Mark<'a>, session: &Session<'_>) -> Result<Self> {
        let secret = session.secret()?;
        Ok(Self {
            repository,
            mark,
            record: Arc::clone(session.record()),
            sealers: CLASSES.map(|class| frame_sealer(secret, &session.id(), class)),
            compressor: Compressor::new(LEVEL)?,
            open: Default::default(),
            remade: BTreeMap::new(),
            bytes_written: 0,
        })
    }

    /// Puts the used chunks of a frame into new ones, which `copier` stores; false where it cannot be read, or is not to be re-made.
    pub(super) fn remake(&mut self, copier: &mut Copier<'_>, frame: &FrameRecord, place: &FramePlace) -> Result<bool> {
        let Some(used) = self.mark.remade(place) else { return Ok(false) };
        let Some(class) = CLASSES.iter().position(|class| frame.id.class() == Some(*class)) else { return Ok(false) };
        let Some(decoded) = self.read(class, frame, place, used)? else { return Ok(false) };
        // Bound: a frame has at most 16,384 chunks.
        let mut remade = RelocatedFrame { frame: frame.id, chunks: frame.chunks.len() as u16, moved: Vec::new() };
        for position in positions(used) {
            let (Some(id), Some(bytes)) = (frame.chunks.get(usize::from(position)), decoded.chunk(u32::from(position))) else { continue };
            let (counter, new_position) = self.add(copier, class, id, bytes)?;
            remade.moved.push(MovedChunk { position, counter, new_position });
        }
        self.remade.insert(frame.id, remade);
        Ok(true)
    }

    /// Opens a frame and checks the chunks that are used; `None` where anything is wrong with it, or this credential cannot open it.
    fn read(&self, class: usize, frame: &FrameRecord, place: &FramePlace, used: &[u8]) -> Result<Option<Frame>> {
        let reader = self.mark.reader();
        let read = reader.read(place).and_then(|decoded| {
            for position in positions(used) {
                let damaged = || Error::new(ErrorKind::Damaged, "a chunk is used that the frame does not have");
                let id = frame.chunks.get(usize::from(position)).ok_or_else(damaged)?;
                reader.ids().check_in_frame(CLASSES[class], id, decoded.chunk(u32::from(position)).ok_or_else(damaged)?)?;
            }
            Ok(decoded)
        });
        match read {
            Ok(decoded) => Ok(Some(decoded)),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged | ErrorKind::Unsupported) => Ok(None),
            Err(error) if error.kind() == ErrorKind::Unauthorized => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds a chunk and says where it stands.
    fn add(&mut self, copier: &mut Copier<'_>, class: usize, id: &ChunkId, bytes: &[u8]) -> Result<(u32, u16)> {
        let config = &self.repository.config;
        let size = [config.data_frame_size, config.meta_frame_size][class] as usize;
        // No id may stand twice in a frame.
        if let Some(position) = self.open[class].positions.get(id) {
            return Ok((self.open[class].counter, *position));
        }
        if self.open[class].plaintext.is_full_for(bytes.len(), size) {
            self.end_frame(copier, class)?;
        }
        let open = &mut self.open[class];
        let position = open.ids.len() as u16;
        open.plaintext.push(bytes);
        open.ids.push(*id);
        open.positions.insert(*id, position);
        Ok((open.counter, position))
    }

    fn end_frame(&mut self, copier: &mut Copier<'_>, class: usize) -> Result<()> {
        let counter = self.open[class].counter;
        let open = std::mem::replace(&mut self.open[class], OpenFrame { counter: counter + 1, ..OpenFrame::default() });
        let id = FrameId::new(self.record.id(), CLASSES[class], counter);
        let plaintext = open.plaintext.encode();
        let bytes = seal(&self.sealers[class], id.number, &mut self.compressor, &plaintext);
        let record = FrameRecord {
            id,
            sealed_length: bytes.len() as u32,
            plaintext_length: plaintext.len() as u32,
            hash: *blake3::hash(&bytes).as_bytes(),
            bases: Vec::new(),
            chunks: open.ids,
        };
        self.bytes_written += bytes.len() as u64;
        copier.put(class, &record, &self.record, &bytes)
    }

    /// Ends the frames in the making. They are durable once `copier` has finished.
    pub(super) fn finish(&mut self, copier: &mut Copier<'_>) -> Result<()> {
        for class in 0..CLASSES.len() {
            if !self.open[class].ids.is_empty() {
                self.end_frame(copier, class)?;
            }
        }
        Ok(())
    }

    /// Says where the chunks are now, after all new frames are durable and were read back. Gives how many frames were re-made.
    pub(super) fn publish(mut self) -> Result<u64> {
        let count = self.remade.len() as u64;
        let led = self.led();
        self.remade.extend(led);
        let (mut frames, mut length) = (Vec::new(), 0);
        for frame in std::mem::take(&mut self.remade).into_values() {
            length += 24 + usize::from(frame.chunks) / 8 + 8 * frame.moved.len();
            frames.push(frame);
            if frames.len() == RELOCATED_FRAMES_MAX || length >= RELOCATIONS_LENGTH_END {
                self.write(std::mem::take(&mut frames))?;
                length = 0;
            }
        }
        if !frames.is_empty() {
            self.write(frames)?;
        }
        Ok(count)
    }

    /// Of older frames, whose chunks led to frames that were re-made now: where they lead from now on. So no way has more than a few steps.
    fn led(&self) -> BTreeMap<FrameId, RelocatedFrame> {
        let mut led: BTreeMap<FrameId, (u16, BTreeMap<u16, MovedChunk>)> = BTreeMap::new();
        self.mark.for_each_relocation(|frame, chunks, position, target| {
            let moved = self.remade.get(&target.frame).and_then(|remade| {
                let at = remade.moved.binary_search_by_key(&target.position, |chunk| u32::from(chunk.position)).ok()?;
                remade.moved.get(at)
            });
            if let Some(moved) = moved.filter(|_| !self.remade.contains_key(&frame)) {
                led.entry(frame).or_insert((chunks, BTreeMap::new())).1.insert(position, MovedChunk { position, ..*moved });
            }
        });
        let frame = |(frame, (chunks, moved)): (FrameId, (u16, BTreeMap<u16, MovedChunk>))| {
            (frame, RelocatedFrame { frame, chunks, moved: moved.into_values().collect() })
        };
        led.into_iter().map(frame).collect()
    }

    fn write(&self, frames: Vec<RelocatedFrame>) -> Result<()> {
        let body = RelocationsBody { session: self.record.id(), now: self.repository.runtime.clock.now(), frames };
        let name = ObjectName::relocations(RelocationsId(self.repository.runtime.random()));
        self.repository.write_sealed(name, body.encode())?;
        match RelocationsBody::decode(&self.repository.read_sealed(&name)?.plaintext)? == body {
            true => Ok(()),
            false => {
                Err(Error::new(ErrorKind::Damaged, format!("{name}: was just written and reads back otherwise; nothing was condemned")))
            }
        }
    }
}

/// The positions of the bits that are set.
fn positions(bitmap: &[u8]) -> impl Iterator<Item = u16> + '_ {
    // Bound: bitmaps are at most 2,048 bytes long.
    bitmap.iter().zip(0_u16..).flat_map(|(byte, at)| (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| at * 8 + bit))
}

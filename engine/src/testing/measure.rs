//! Single steps of a backup, for measuring: each does one step as a backup does it, and nothing around it.

use crate::backend::ObjectKind;
use crate::compress::Compressor;
use crate::crypto::{Sealer, Secret};
use crate::error::{Error, ErrorKind, Result};
use crate::format::frame::{FramePlaintext, seal};
use crate::format::session::SessionKind;
use crate::format::{FrameRecord, FrameUse};
use crate::gc::Mark;
use crate::id::{ChunkId, FrameClass, FrameId, PackId};
use crate::progress::Silent;
use crate::repository::index::LookupIndex;
use crate::repository::{ChunkKind, PackMaker, Repository, SealedFrame, Session, Writer};
use crate::runtime::channel::unbounded;
use std::sync::Arc;

/// What one worker keeps to seal frames.
#[derive(Debug)]
pub struct FrameSealing {
    sealer: Sealer,
    compressor: Compressor,
}

impl FrameSealing {
    /// With a key, and a zstd level.
    ///
    /// # Errors
    /// As [`Compressor::new`].
    pub fn new(key: [u8; 32], level: i32) -> Result<Self> {
        Ok(Self { sealer: Sealer::new(&Secret::new(key)), compressor: Compressor::new(level)? })
    }

    /// Makes a frame of chunks of 1 byte to 4 MiB: the plaintext is put together, compressed and sealed.
    pub fn frame<'a>(&mut self, number: u32, chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut plaintext = FramePlaintext::default();
        chunks.into_iter().for_each(|chunk| plaintext.push(chunk));
        seal(&self.sealer, number, &mut self.compressor, &plaintext.encode())
    }

    /// Seals `buffer` in place, which grows by the tag.
    pub fn seal(&self, number: u32, buffer: &mut Vec<u8>) {
        self.sealer.seal(number, buffer);
    }
}

/// A pack about to be written: frames that are sealed and hashed, and what a session writes packs with.
#[derive(Debug)]
pub struct PackWriting {
    id: PackId,
    maker: PackMaker,
    frames: Vec<SealedFrame>,
}

impl PackWriting {
    /// Takes frames as they are; each counts as one chunk. Begins a session in `repository` and leaves it.
    ///
    /// # Errors
    /// What the backend says.
    pub fn prepare(repository: &Repository, frames: Vec<Vec<u8>>) -> Result<Self> {
        let session = Session::begin(repository, SessionKind::Writer)?;
        let of_bytes = |(counter, bytes): (usize, Vec<u8>)| {
            let hash = *blake3::hash(&bytes).as_bytes();
            let record = FrameRecord {
                id: FrameId::new(session.id(), FrameClass::Data, counter as u32),
                sealed_length: bytes.len() as u32,
                plaintext_length: bytes.len() as u32,
                hash,
                bases: Vec::new(),
                chunks: vec![ChunkId(hash)],
            };
            SealedFrame { record, bytes }
        };
        let frames = frames.into_iter().enumerate().map(of_bytes).collect();
        let maker = PackMaker::new(repository, &session)?;
        Ok(Self { id: PackId(session.id().0), maker, frames })
    }

    /// Writes the pack until it is durable; gives its size in bytes. Works once.
    ///
    /// # Errors
    /// What the backend says.
    pub fn write(&mut self) -> Result<u64> {
        let (sender, frames) = unbounded();
        let (tokens, _given_back) = unbounded();
        for frame in self.frames.drain(..) {
            sender.send(frame).map_err(|_| Error::new(ErrorKind::Internal, "frames of a pack"))?;
        }
        drop(sender);
        let written = self.maker.write(ObjectKind::DataPack, self.id, &frames, &tokens)?;
        Ok(written.size)
    }
}

/// Marking as garbage collection does it, of frames that an index knows. Frames are not re-made: nothing is kept of which chunks are used.
#[derive(Debug)]
pub struct Marking<'a>(Mark<'a>);

impl<'a> Marking<'a> {
    /// Nothing is marked yet.
    ///
    /// # Errors
    /// As [`LookupIndex::open`].
    pub fn new(repository: &'a Repository, index: Arc<LookupIndex>) -> Result<Self> {
        Mark::of_index(repository, index, &Silent).map(Self)
    }

    /// Marks what a leaf of refs names; false where a frame is in no pack.
    ///
    /// # Errors
    /// As [`LookupIndex::lookup`].
    pub fn mark(&mut self, uses: &[FrameUse]) -> Result<bool> {
        self.0.mark_uses(uses)
    }

    /// How many frames are needed by now.
    pub fn frames(&self) -> u64 {
        self.0.live_total().frames
    }
}

/// Stores data chunks in a session of its own, without a snapshot: ids, look-ups, frames and packs, until all is durable. Gives the
/// bytes of the packs.
///
/// # Errors
/// As [`Repository::backup`].
pub fn store_chunks<'a>(repository: &Repository, level: i32, chunks: impl IntoIterator<Item = &'a [u8]>) -> Result<u64> {
    let session = Session::begin(repository, SessionKind::Writer)?;
    let mut writer = Writer::start(repository, &session, repository.open_index()?, level)?;
    for chunk in chunks {
        let id = writer.ids().id_of(ChunkKind::Data, chunk)?;
        writer.add(ChunkKind::Data, id, chunk)?;
    }
    let summary = writer.finish()?;
    session.close(true, Vec::new())?;
    Ok(summary.bytes_stored)
}

//! Contents tables of packs, by which every answer about a chunk is confirmed.
//!
//! The index knows 48 bits of each chunk id and the pack. The rest is in the contents table of the pack, which is fetched where it is needed,
//! and some of which are kept: chunks are looked for again in the order in which they were stored, so the table that had the last one will have
//! the next one too. The kept ones take a bounded number of bytes, and of these the few that were of use last are looked into before anything else.

use super::search::{interpolate, partition_near, prefix};
use crate::backend::ObjectKind;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BaseRange, ContentsTable, FrameRecord};
use crate::id::{ChunkId, DomainId, FrameId, PackId};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

/// Where contents tables come from.
pub trait ContentsSource: fmt::Debug + Send + Sync {
    /// The contents table of a pack that was added to the index.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Damaged`] or [`ErrorKind::Unsupported`] where this pack cannot be had, any other kind where none can.
    fn contents(&self, kind: ObjectKind, pack: PackId) -> Result<ContentsTable>;

    /// A pack is added to the index. Whoever can fetch it from elsewhere has nothing to do.
    ///
    /// # Errors
    /// Where it could not be kept.
    fn keep(&self, _kind: ObjectKind, _pack: PackId, _table: &ContentsTable) -> Result<()> {
        Ok(())
    }
}

/// How many tables are looked into before anything else.
const RECENT_MAX: usize = 4;
/// What a pack costs that cannot be had.
const ABSENT_BYTES: usize = 200;

/// A chunk in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TableChunk {
    pub(super) id: ChunkId,
    /// Which of the pack's frames, from 0.
    pub(super) frame: u32,
    /// Which of the frame's chunks, from 0.
    pub(super) position: u32,
}

/// What copies of a frame have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// Of what a contents table says of a frame.
    pub fn of(frame: &FrameRecord) -> Self {
        Self::made_of((frame.sealed_length, frame.plaintext_length), &frame.hash, &frame.bases, frame.chunks.iter())
    }

    fn made_of<'a>(lengths: (u32, u32), hash: &[u8; 32], bases: &[BaseRange], chunks: impl Iterator<Item = &'a ChunkId>) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&lengths.0.to_le_bytes()).update(&lengths.1.to_le_bytes()).update(hash);
        for base in bases {
            hasher.update(&base.frame.session.0).update(&base.frame.number.to_le_bytes()).update(&base.chunk.to_le_bytes());
            hasher.update(&base.offset.to_le_bytes()).update(&base.length.to_le_bytes());
        }
        hasher.update(&(bases.len() as u32).to_le_bytes());
        for id in chunks {
            hasher.update(&id.0);
        }
        let mut short = [0; 16];
        short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(short)
    }
}

/// A frame in a table.
#[derive(Debug)]
pub(super) struct TableFrame {
    pub(super) id: FrameId,
    pub(super) domain: DomainId,
    pub(super) hash: [u8; 32],
    /// Sealed, and of the plaintext.
    lengths: (u32, u32),
    pub(super) bases: Box<[BaseRange]>,
    /// After how many removals of packs its bases were found to stand; 0 for never.
    pub(super) stood: AtomicU32,
}

/// A contents table by chunk.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) pack: (ObjectKind, PackId),
    pub(super) frames: Vec<TableFrame>,
    /// Sorted.
    chunks: Vec<TableChunk>,
}

impl Table {
    /// Of a pack, with the domain of each of its frames.
    pub(super) fn new(pack: (ObjectKind, PackId), table: &ContentsTable, domains: impl Iterator<Item = DomainId>) -> Self {
        let frames = table.frames.iter().zip(domains).map(|(frame, domain)| {
            let (lengths, bases) = ((frame.sealed_length, frame.plaintext_length), frame.bases.as_slice().into());
            TableFrame { id: frame.id, domain, hash: frame.hash, lengths, bases, stood: AtomicU32::new(0) }
        });
        let frames: Vec<_> = frames.collect();
        let mut chunks = Vec::with_capacity(table.frames.iter().map(|frame| frame.chunks.len()).sum());
        for (at, frame) in (0..).zip(&table.frames) {
            chunks.extend((0..).zip(&frame.chunks).map(|(position, id)| TableChunk { id: *id, frame: at, position }));
        }
        chunks.sort_unstable_by(|one, other| prefix(&one.id.0).cmp(&prefix(&other.id.0)).then_with(|| one.cmp(other)));
        Self { pack, frames, chunks }
    }

    /// What copies of the frame at this place have in common. Few frames are asked for, so it is made when they are.
    pub(super) fn fingerprint_of(&self, at: usize) -> Option<Fingerprint> {
        let frame = self.frames.get(at)?;
        let mut chunks: Vec<&TableChunk> = self.chunks.iter().filter(|chunk| chunk.frame as usize == at).collect();
        chunks.sort_unstable_by_key(|chunk| chunk.position);
        Some(Fingerprint::made_of(frame.lengths, &frame.hash, &frame.bases, chunks.into_iter().map(|chunk| &chunk.id)))
    }

    /// Where the chunk stands in the pack.
    pub(super) fn places_of(&self, id: &ChunkId) -> &[TableChunk] {
        let key = prefix(&id.0);
        let length = self.chunks.len() as u64;
        let is_below = |at: u64| {
            let chunk = &self.chunks[at as usize];
            let other = prefix(&chunk.id.0);
            // Eight bytes nearly always decide.
            Ok(other < key || (other == key && chunk.id < *id))
        };
        let first = partition_near(length, interpolate(key, 0, u64::MAX, length), is_below).map_or(0, |first| first as usize);
        let from = self.chunks.get(first..).unwrap_or_default();
        let count = from.iter().take_while(|chunk| chunk.id == *id).count();
        from.get(..count).unwrap_or_default()
    }

    fn bytes(&self) -> usize {
        let bases: usize = self.frames.iter().map(|frame| frame.bases.len()).sum();
        let frames = self.frames.len() * size_of::<TableFrame>() + bases * size_of::<BaseRange>();
        ABSENT_BYTES + self.chunks.len() * size_of::<TableChunk>() + frames
    }
}

/// A table, or why it cannot be had.
type Known = std::result::Result<Arc<Table>, (ErrorKind, String)>;

/// The tables that are kept.
#[derive(Debug)]
pub(super) struct TableCache {
    kept: Mutex<Kept>,
    recent: RwLock<Vec<Arc<Table>>>,
}

#[derive(Debug, Default)]
struct Kept {
    bytes_max: usize,
    tables: HashMap<(ObjectKind, PackId), (Known, u64)>,
    bytes: usize,
    clock: u64,
}

impl TableCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { kept: Mutex::new(Kept { bytes_max, ..Kept::default() }), recent: RwLock::default() }
    }

    /// What is kept already stays until the next table comes.
    pub(super) fn set_bytes_max(&self, bytes: usize) {
        self.kept.lock().bytes_max = bytes;
    }

    /// The table of a pack, or why it cannot be had, if that is known.
    pub(super) fn get(&self, pack: (ObjectKind, PackId)) -> Option<std::result::Result<Arc<Table>, Error>> {
        let mut kept = self.kept.lock();
        kept.clock += 1;
        let now = kept.clock;
        let (known, used) = kept.tables.get_mut(&pack)?;
        *used = now;
        Some(known.as_ref().map(Arc::clone).map_err(|(kind, message)| Error::new(*kind, message.clone())))
    }

    pub(super) fn insert(&self, table: Table) -> Arc<Table> {
        let table = Arc::new(table);
        self.put(table.pack, Ok(Arc::clone(&table)));
        table
    }

    /// Remembers that a table cannot be had.
    pub(super) fn insert_absent(&self, pack: (ObjectKind, PackId), error: &Error) {
        self.put(pack, Err((error.kind(), error.to_string())));
    }

    fn put(&self, pack: (ObjectKind, PackId), known: Known) {
        let mut kept = self.kept.lock();
        kept.clock += 1;
        let now = kept.clock;
        kept.bytes += bytes(&known);
        if let Some((old, _)) = kept.tables.insert(pack, (known, now)) {
            kept.bytes -= bytes(&old);
        }
        self.recent.write().retain(|table| table.pack != pack);
        // Tables are large, so there are few, and looking at all of them for the oldest is cheap beside fetching one.
        while kept.bytes > kept.bytes_max && kept.tables.len() > 1 {
            let oldest = kept.tables.iter().min_by_key(|(_, (_, used))| *used).map(|(pack, _)| *pack);
            let Some((old, _)) = oldest.and_then(|pack| kept.tables.remove(&pack)) else { break };
            kept.bytes -= bytes(&old);
        }
    }

    /// One of the tables that were of use last, where the chunk is in it.
    pub(super) fn recent_with(&self, id: &ChunkId) -> Option<Arc<Table>> {
        self.recent.read().iter().find(|table| !table.places_of(id).is_empty()).map(Arc::clone)
    }

    /// The table was of use: the next chunk may be in it too.
    pub(super) fn was_of_use(&self, table: &Arc<Table>) {
        let mut recent = self.recent.write();
        recent.retain(|other| other.pack != table.pack);
        recent.truncate(RECENT_MAX - 1);
        recent.insert(0, Arc::clone(table));
    }
}

fn bytes(known: &Known) -> usize {
    known.as_ref().map_or(ABSENT_BYTES, |table| table.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FrameRecord;
    use crate::id::SessionId;

    fn table(pack: u8, chunks: &[[u8; 32]]) -> Table {
        let id = FrameId { session: SessionId([1; 16]), number: 0 };
        let chunks = chunks.iter().copied().map(ChunkId).collect();
        let frame = FrameRecord { id, sealed_length: 1, plaintext_length: 1, hash: [0; 32], bases: Vec::new(), chunks };
        Table::new((ObjectKind::DataPack, PackId([pack; 16])), &ContentsTable { frames: vec![frame] }, std::iter::repeat(DomainId([0; 16])))
    }

    #[test]
    fn chunks_are_found_by_their_whole_ids() {
        let mut other = [7; 32];
        other[31] = 8;
        let table = table(0, &[[9; 32], [7; 32], other, [7; 32], [0; 32], [0xff; 32]]);
        let positions = |id| table.places_of(&ChunkId(id)).iter().map(|chunk| chunk.position).collect::<Vec<_>>();
        assert_eq!(positions([7; 32]), [1, 3]);
        assert_eq!([positions(other), positions([0; 32]), positions([0xff; 32]), positions([9; 32])], [[2], [4], [5], [0]]);
        other[31] = 9;
        assert!(positions(other).is_empty() && positions([8; 32]).is_empty());
    }

    #[test]
    fn a_fingerprint_is_that_of_the_record() {
        let id = |number| FrameId { session: SessionId([1; 16]), number };
        let record = |number: u32, chunks: &[u8]| FrameRecord {
            id: id(number),
            sealed_length: 10 + number,
            plaintext_length: 20 + number,
            hash: [number as u8; 32],
            bases: (0..number).map(|chunk| BaseRange { frame: id(77), chunk: chunk as u16, offset: 5, length: 6 }).collect(),
            chunks: chunks.iter().map(|byte| ChunkId([*byte; 32])).collect(),
        };
        // Chunks in no order, one of them twice, and in two frames.
        let contents = ContentsTable { frames: vec![record(0, &[9, 3, 9, 1]), record(1, &[]), record(2, &[3, 200, 2])] };
        let table = Table::new((ObjectKind::DataPack, PackId([1; 16])), &contents, std::iter::repeat(DomainId([0; 16])));
        let made: Vec<_> = (0..4).map(|at| table.fingerprint_of(at)).collect();
        let expected: Vec<_> = contents.frames.iter().map(Fingerprint::of).map(Some).chain([None]).collect();
        assert_eq!(made, expected);
        let swapped = Fingerprint::of(&record(0, &[3, 9, 9, 1]));
        assert!(expected[0] != Some(swapped) && expected[0] != expected[2]);
    }

    #[test]
    fn what_was_not_used_for_long_goes_first() {
        let one = table(0, &[[0; 32]; 100]).bytes();
        let cache = TableCache::new(3 * one);
        let pack = |n| (ObjectKind::DataPack, PackId([n; 16]));
        for n in 0..3 {
            cache.insert(table(n, &[[n; 32]; 100]));
        }
        assert!(cache.get(pack(0)).is_some());
        cache.insert(table(3, &[[3; 32]; 100]));
        assert!(cache.get(pack(1)).is_none());
        cache.insert_absent(pack(4), &Error::new(ErrorKind::NotFound, "gone"));
        assert!(cache.get(pack(2)).is_none() && cache.get(pack(0)).is_some());
        assert_eq!(cache.get(pack(4)).unwrap().unwrap_err().kind(), ErrorKind::NotFound);
        assert!(cache.kept.lock().bytes <= 3 * one);
    }
}

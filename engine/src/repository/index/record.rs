//! The records of the index's files.
//!
//! Fixed sizes, keys first, numbers big-endian: records sort by comparing their bytes.

use super::{FrameOrdinal, FramePlace};
use crate::format::FrameRecord;
use crate::id::{ChunkId, DomainId, FrameId, PackId, SessionId};

/// One place of one chunk: chunk id (32), ordinal of the frame (4), position in the frame (4).
pub(super) type ChunkRecord = [u8; 40];
/// One place of one frame: session (16), number (4), ordinal (4).
pub(super) type IdRecord = [u8; 24];
/// What is known of a frame, by ordinal: session (16), number (4), domain (16), hash (32), offset (8), sealed length (4), plaintext length (4),
/// chunk count (4).
pub(super) type PlaceRecord = [u8; 88];

pub(super) fn chunk_record(id: &ChunkId, ordinal: u32, position: u32) -> ChunkRecord {
    let mut record = [0; 40];
    record[..32].copy_from_slice(id.as_bytes());
    record[32..36].copy_from_slice(&ordinal.to_be_bytes());
    record[36..].copy_from_slice(&position.to_be_bytes());
    record
}

/// Ordinal of the frame and position in it.
pub(super) fn chunk_place(record: &ChunkRecord) -> (u32, u32) {
    (number(&record[32..36]), number(&record[36..]))
}

/// The key under which a frame's [`IdRecord`]s stand.
pub(super) fn id_key(id: FrameId) -> [u8; 20] {
    let mut key = [0; 20];
    key[..16].copy_from_slice(id.session.as_bytes());
    key[16..].copy_from_slice(&id.number.to_be_bytes());
    key
}

pub(super) fn id_record(id: FrameId, ordinal: u32) -> IdRecord {
    let mut record = [0; 24];
    record[..20].copy_from_slice(&id_key(id));
    record[20..].copy_from_slice(&ordinal.to_be_bytes());
    record
}

pub(super) fn id_ordinal(record: &IdRecord) -> u32 {
    number(&record[20..])
}

pub(super) fn place_record(frame: &FrameRecord, domain: DomainId, offset: u64) -> PlaceRecord {
    let mut record = [0; 88];
    record[..20].copy_from_slice(&id_key(frame.id));
    record[20..36].copy_from_slice(domain.as_bytes());
    record[36..68].copy_from_slice(&frame.hash);
    record[68..76].copy_from_slice(&offset.to_be_bytes());
    record[76..80].copy_from_slice(&frame.sealed_length.to_be_bytes());
    record[80..84].copy_from_slice(&frame.plaintext_length.to_be_bytes());
    record[84..].copy_from_slice(&(frame.chunks.len() as u32).to_be_bytes());
    record
}

pub(super) fn frame_place(record: &PlaceRecord, ordinal: FrameOrdinal, pack: PackId, kind: crate::backend::ObjectKind) -> FramePlace {
    FramePlace {
        ordinal,
        id: FrameId { session: SessionId(array(&record[..16])), number: number(&record[16..20]) },
        domain: DomainId(array(&record[20..36])),
        kind,
        pack,
        offset: u64::from_be_bytes(array(&record[68..76])),
        sealed_length: number(&record[76..80]),
        plaintext_length: number(&record[80..84]),
        chunk_count: number(&record[84..]),
        hash: array(&record[36..68]),
    }
}

/// Records that name a frame by its ordinal.
pub(super) trait NamesFrame {
    /// The ordinal.
    fn ordinal(&self) -> u32;
    /// The same record under another ordinal.
    fn set_ordinal(&mut self, ordinal: u32);
}

impl NamesFrame for ChunkRecord {
    fn ordinal(&self) -> u32 {
        number(&self[32..36])
    }

    fn set_ordinal(&mut self, ordinal: u32) {
        self[32..36].copy_from_slice(&ordinal.to_be_bytes());
    }
}

impl NamesFrame for IdRecord {
    fn ordinal(&self) -> u32 {
        id_ordinal(self)
    }

    fn set_ordinal(&mut self, ordinal: u32) {
        self[20..].copy_from_slice(&ordinal.to_be_bytes());
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(array(bytes))
}

/// The bytes of a slice whose length the caller has just chosen.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(bytes);
    array
}

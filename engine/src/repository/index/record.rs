//! The records of frames.
//!
//! Fixed sizes, keys first, numbers big-endian: records sort by comparing their bytes.

use super::packs::Pack;
use super::sessions::SessionTable;
use super::{FrameOrdinal, FramePlace};
use crate::format::FrameRecord;
use crate::id::FrameId;

/// One place of one frame: number of the session (4), number of the frame (4), ordinal (4).
pub(super) type IdRecord = [u8; 12];
/// What is known of a frame, by ordinal: number of the session (4), number of the frame (4), offset (8), sealed length (4), plaintext length (4),
/// chunk count (4), its highest bit for a frame with bases.
pub(super) type PlaceRecord = [u8; 28];

/// The bit of a frame that is compressed against others.
const HAS_BASES: u32 = 1 << 31;

/// The key under which the [`IdRecord`]s of a frame stand whose session has this number.
pub(super) fn id_key(session: u32, number: u32) -> [u8; 8] {
    (u64::from(session) << 32 | u64::from(number)).to_be_bytes()
}

pub(super) fn id_record(session: u32, number: u32, ordinal: u32) -> IdRecord {
    let mut record = [0; 12];
    record[..8].copy_from_slice(&id_key(session, number));
    record[8..].copy_from_slice(&ordinal.to_be_bytes());
    record
}

pub(super) fn ordinal_of(record: &IdRecord) -> u32 {
    number(&record[8..])
}

/// The same record under another ordinal.
pub(super) fn with_ordinal(mut record: IdRecord, ordinal: u32) -> IdRecord {
    record[8..].copy_from_slice(&ordinal.to_be_bytes());
    record
}

pub(super) fn place_record(session: u32, frame: &FrameRecord, offset: u64) -> PlaceRecord {
    let mut record = [0; 28];
    record[..8].copy_from_slice(&id_key(session, frame.id.number));
    record[8..16].copy_from_slice(&offset.to_be_bytes());
    record[16..20].copy_from_slice(&frame.sealed_length.to_be_bytes());
    record[20..24].copy_from_slice(&frame.plaintext_length.to_be_bytes());
    let has_bases = if frame.bases.is_empty() { 0 } else { HAS_BASES };
    record[24..].copy_from_slice(&(frame.chunks.len() as u32 | has_bases).to_be_bytes());
    record
}

/// What is known of the frame that lies in `pack`; `None` where its session is not known.
pub(super) fn frame_place(record: &PlaceRecord, ordinal: FrameOrdinal, pack: &Pack, sessions: &SessionTable) -> Option<FramePlace> {
    let (session, domain) = *sessions.get(number(&record[..4]))?;
    Some(FramePlace {
        ordinal,
        id: FrameId { session, number: number(&record[4..8]) },
        domain,
        kind: pack.kind,
        pack: pack.id,
        offset: record[8..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes)),
        sealed_length: number(&record[16..]),
        plaintext_length: number(&record[20..]),
        chunk_count: number(&record[24..]) & !HAS_BASES,
        has_bases: number(&record[24..]) & HAS_BASES != 0,
    })
}

/// The number with which the bytes begin.
fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

//! Chunks that nobody stored: what is in a pack follows from its number.

use icecore::backend::ObjectKind;
use icecore::format::{ContentsTable, FrameRecord};
use icecore::id::{ChunkId, DomainId, FrameClass, FrameId, PackId, RepositoryId, SessionId};
use icecore::repository::index::ContentsSource;
use icecore::{Error, ErrorKind, Result};

pub(crate) const CHUNKS_IN_A_PACK: u64 = 2_000;
const CHUNKS_IN_A_FRAME: u64 = 32;
const PACKS_IN_A_SESSION: u64 = 500;
pub(crate) const DOMAIN: DomainId = DomainId([0; 16]);
pub(crate) const REPOSITORY: RepositoryId = RepositoryId([2; 16]);

/// The id of chunk `number`, as evenly spread as real ones are.
pub(crate) fn chunk_id(number: u64) -> ChunkId {
    ChunkId(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

pub(crate) fn pack_id(pack: u64) -> PackId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&pack.to_be_bytes());
    PackId(id)
}

/// Frames of a pack; the last one is not full.
const FRAMES_IN_A_PACK: u64 = CHUNKS_IN_A_PACK.div_ceil(CHUNKS_IN_A_FRAME);

fn frame_id(pack: u64, frame: u64) -> FrameId {
    let mut session = [1; 16];
    session[..8].copy_from_slice(&(pack / PACKS_IN_A_SESSION).to_be_bytes());
    let counter = pack % PACKS_IN_A_SESSION * FRAMES_IN_A_PACK + frame;
    FrameId::new(SessionId(session), FrameClass::Data, counter as u32)
}

/// In which frame chunk `number` stands, and which of its chunks it is.
pub(crate) fn place_of(number: u64) -> (FrameId, u32) {
    let (pack, within) = (number / CHUNKS_IN_A_PACK, number % CHUNKS_IN_A_PACK);
    (frame_id(pack, within / CHUNKS_IN_A_FRAME), (within % CHUNKS_IN_A_FRAME) as u32)
}

/// Packs with the chunks 0 to `chunks`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Synthetic {
    pub(crate) chunks: u64,
}

impl Synthetic {
    /// The contents table of a pack.
    pub(crate) fn table(&self, pack: u64) -> ContentsTable {
        let first = pack * CHUNKS_IN_A_PACK;
        let frame = |frame: u64| {
            let from = first + frame * CHUNKS_IN_A_FRAME;
            let to = (from + CHUNKS_IN_A_FRAME).min(first + CHUNKS_IN_A_PACK);
            FrameRecord {
                id: frame_id(pack, frame),
                sealed_length: 1 << 19,
                plaintext_length: 1 << 20,
                hash: [0; 32],
                bases: Vec::new(),
                chunks: (from..to).map(chunk_id).collect(),
            }
        };
        ContentsTable { frames: (0..FRAMES_IN_A_PACK).map(frame).collect() }
    }
}

impl ContentsSource for Synthetic {
    fn contents(&self, _kind: ObjectKind, pack: PackId) -> Result<ContentsTable> {
        let number = pack.0[..8].first_chunk().map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes));
        match number < self.chunks / CHUNKS_IN_A_PACK {
            true => Ok(self.table(number)),
            false => Err(Error::new(ErrorKind::NotFound, "no pack of ours")),
        }
    }
}

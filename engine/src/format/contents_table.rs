//! Contents tables: the frames of a pack and the chunks in each (`format-spec/pack.md`).

use crate::id::{ChunkId, FrameId};

/// The frames of a pack in the order in which they lie there, the first directly after the pack's header, each directly after the one before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContentsTable {
    /// The frames.
    pub frames: Vec<FrameRecord>,
}

/// What a contents table says of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameRecord {
    /// Its identity.
    pub id: FrameId,
    /// Bytes in the pack, tag included.
    pub sealed_length: u32,
    /// Bytes once opened and decompressed, chunk lengths included.
    pub plaintext_length: u32,
    /// BLAKE3 of the sealed bytes, without key.
    pub hash: [u8; 32],
    /// What it is compressed against; empty for a frame that stands alone.
    pub bases: Vec<BaseRange>,
    /// The ids of its chunks in order; at least one.
    pub chunks: Vec<ChunkId>,
}

/// A stretch of an older frame's plaintext that a frame is compressed against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseRange {
    /// The older frame; itself without bases.
    pub frame: FrameId,
    /// Where the stretch begins in that frame's chunk bytes.
    pub offset: u32,
    /// How long it is.
    pub length: u32,
}

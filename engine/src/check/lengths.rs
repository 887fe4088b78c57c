//! How long the chunks are that scrub opened. Who names a chunk says how long it is, and a restore refuses one that is not (TREE-13, RECIPE-3).

use crate::error::{Error, Result};
use crate::spill::{SpillFolder, SpilledMap};
use parking_lot::Mutex;

/// Bytes of it in memory; the rest, 4 bytes for each chunk, is in temporary files.
const BYTES_MAX: usize = 4 << 20;

/// Lengths of chunks, by the number of their frame in the index.
#[derive(Debug)]
pub(super) struct Lengths(Mutex<(SpilledMap, Option<Error>)>);

impl Lengths {
    /// None is known.
    pub(super) fn new(folder: SpillFolder) -> Self {
        Self(Mutex::new((SpilledMap::new(folder, BYTES_MAX), None)))
    }

    /// The chunks of a frame are what their ids say, and so long.
    pub(super) fn note(&self, frame: u32, lengths: impl Iterator<Item = u32>) {
        let bytes: Vec<u8> = lengths.flat_map(u32::to_le_bytes).collect();
        let (known, failure) = &mut *self.0.lock();
        if let Err(error) = known.insert(&frame.to_le_bytes(), &bytes) {
            // No fault of the frame's.
            failure.get_or_insert(error);
        }
    }

    /// How long the chunks of a frame are; none where it was not opened.
    ///
    /// # Errors
    /// Where temporary files cannot be written or read; of what could not be written once.
    pub(super) fn of(&self, frame: u32) -> Result<Vec<u32>> {
        let (known, failure) = &mut *self.0.lock();
        let bytes = failure.take().map_or_else(|| known.get(&frame.to_le_bytes()), Err)?.unwrap_or_default();
        Ok(bytes.chunks_exact(4).filter_map(<[u8]>::first_chunk).map(|bytes| u32::from_le_bytes(*bytes)).collect())
    }
}

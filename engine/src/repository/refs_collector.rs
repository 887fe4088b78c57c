//! Which chunks of which frames are used, collected chunk by chunk.

use crate::error::{Error, ErrorKind, Result};
use crate::format::{FrameUse, Usage};
use crate::id::FrameId;
use std::collections::{HashMap, HashSet};

/// Collects uses; about 40 bytes and a bit a chunk for each frame, and 24 for each base.
#[derive(Debug, Default)]
pub(crate) struct RefsCollector {
    frames: HashMap<FrameId, Vec<u8>>,
    /// Frames that others are compressed against.
    bases: HashSet<FrameId>,
    last: Option<FrameId>,
}

impl RefsCollector {
    /// Chunk `position` of `frame` is used.
    pub(crate) fn mark(&mut self, frame: FrameId, position: u32) {
        self.last = Some(frame);
        let bitmap = self.frames.entry(frame).or_default();
        let byte = position as usize / 8;
        if bitmap.len() <= byte {
            bitmap.resize(byte + 1, 0);
        }
        bitmap[byte] |= 1 << (position % 8);
    }

    /// Adds what the frames that are used are compressed against, as `bases` says.
    pub(crate) fn mark_bases(&mut self, bases: impl Fn(FrameId) -> Result<Vec<FrameId>>) -> Result<()> {
        for frame in self.frames.keys() {
            self.bases.extend(bases(*frame)?);
        }
        Ok(())
    }

    /// The uses in order; `count` says how many chunks a frame has.
    pub(crate) fn into_uses(self, count: impl Fn(FrameId) -> Result<u32>) -> Result<Vec<FrameUse>> {
        let mut uses: Vec<_> = self.bases.iter().map(|frame| FrameUse { frame: *frame, usage: Usage::Base }).collect();
        for (frame, mut bitmap) in self.frames.into_iter().filter(|(frame, _)| !self.bases.contains(frame)) {
            let chunks = count(frame)?;
            if bitmap.len() > (chunks as usize).div_ceil(8) {
                return Err(Error::new(ErrorKind::Internal, format!("frame {frame} has fewer chunks than are used of it")));
            }
            bitmap.resize((chunks as usize).div_ceil(8), 0);
            let used: u32 = bitmap.iter().map(|byte| byte.count_ones()).sum();
            let usage = match used == chunks {
                true => Usage::Whole,
                false => Usage::Part {
                    chunks: u16::try_from(chunks).map_err(|_| Error::new(ErrorKind::Internal, "a frame has too many chunks"))?,
                    bitmap,
                },
            };
            uses.push(FrameUse { frame, usage });
        }
        uses.sort_unstable_by_key(|used| used.frame);
        Ok(uses)
    }
}

//! Which chunks are used of frames that no snapshot uses whole.
//!
//! Memory: a bit for each chunk of such frames, and some 50 bytes for each of them.

use crate::format::Usage;
use crate::repository::index::FrameOrdinal;
use std::collections::HashMap;

/// The used chunks, as bitmaps in the form of refs.
#[derive(Debug, Default)]
pub(super) struct Parts(HashMap<FrameOrdinal, Box<[u8]>>);

impl Parts {
    /// A frame is used; `is_first` says that it was not before. What is used whole, or as a base, is forgotten: it stays as it is.
    pub(super) fn add(&mut self, frame: FrameOrdinal, usage: &Usage, is_first: bool) {
        match usage {
            Usage::Whole | Usage::Base => drop(self.0.remove(&frame)),
            Usage::Part { bitmap, .. } if is_first => drop(self.0.insert(frame, bitmap.as_slice().into())),
            Usage::Part { bitmap, .. } => {
                let Some(known) = self.0.get_mut(&frame) else { return };
                match known.len() == bitmap.len() {
                    true => known.iter_mut().zip(bitmap).for_each(|(all, one)| *all |= one),
                    // One of the refs is wrong about the frame: all of it is kept.
                    false => drop(self.0.remove(&frame)),
                }
            }
        }
    }

    /// The chunks that are used of a frame which nobody uses whole.
    pub(super) fn get(&self, frame: FrameOrdinal) -> Option<&[u8]> {
        self.0.get(&frame).map(|bitmap| &**bitmap)
    }

    /// Frames that nobody uses whole.
    pub(super) fn frames(&self) -> impl Iterator<Item = FrameOrdinal> + '_ {
        self.0.keys().copied()
    }
}

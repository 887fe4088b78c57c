//! Which chunks of which frames: what the refs of a snapshot name, and what the pieces of its tree use.
//!
//! Frames are meant by their numbers in the index. Where the refs name a frame in part, garbage collection may keep that part only, so a chunk
//! that is used must be in it (REFS-7).

use crate::format::Usage;
use std::collections::{BTreeMap, HashMap};

/// Frames that a node may use and be remembered; what lies below a node with more is remembered all the same.
const FRAMES_MAX: usize = 16_384;

/// A set of frames by their numbers in the index.
#[derive(Debug, Default)]
pub(super) struct FrameSet(Vec<u64>);

impl FrameSet {
    pub(super) fn insert(&mut self, frame: u32) {
        let word = frame as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (frame % 64);
    }

    pub(super) fn contains(&self, frame: u32) -> bool {
        self.0.get(frame as usize / 64).is_some_and(|word| word >> (frame % 64) & 1 == 1)
    }
}

/// What the refs of one snapshot name. A bit for each frame of the index; for each frame that is used in part also its bitmap.
#[derive(Debug, Default)]
pub(super) struct Named {
    frames: FrameSet,
    parts: HashMap<u32, Box<[u8]>>,
}

impl Named {
    /// Adds what the refs name of a frame, or of one that relocations lead to, which may be added several times.
    pub(super) fn insert(&mut self, frame: u32, usage: &Usage) {
        let is_known = self.frames.contains(frame);
        self.frames.insert(frame);
        match (usage, self.parts.get_mut(&frame)) {
            (Usage::Whole | Usage::Base, _) => drop(self.parts.remove(&frame)),
            (Usage::Part { bitmap, .. }, Some(part)) => part.iter_mut().zip(bitmap).for_each(|(all, one)| *all |= one),
            (Usage::Part { bitmap, .. }, None) if !is_known => drop(self.parts.insert(frame, bitmap.as_slice().into())),
            (Usage::Part { .. }, None) => {}
        }
    }

    /// Whether the frame is named, whole or in part.
    pub(super) fn contains(&self, frame: u32) -> bool {
        self.frames.contains(frame)
    }

    /// Whether a chunk of the frame is named.
    pub(super) fn contains_chunk(&self, frame: u32, position: u32) -> bool {
        let is_in = |part: &[u8]| part.get(position as usize / 8).is_some_and(|byte| byte >> (position % 8) & 1 == 1);
        self.contains(frame) && self.part_of(frame).is_none_or(is_in)
    }

    /// Whether all these chunks are named.
    pub(super) fn cover(&self, uses: &Uses) -> bool {
        uses.iter().all(|(frame, bits)| {
            let covers = |part: &[u8]| bits.iter().enumerate().all(|(at, byte)| byte & !part.get(at).unwrap_or(&0) == 0);
            self.contains(frame) && self.part_of(frame).is_none_or(covers)
        })
    }

    /// The bitmap of a frame that is named in part.
    fn part_of(&self, frame: u32) -> Option<&[u8]> {
        self.parts.get(&frame).map(|part| &**part)
    }
}

/// The chunks that a node and what is below it use, small enough to be remembered.
#[derive(Debug, Clone, Default)]
pub(super) struct Uses {
    /// Each frame, and where its bits end.
    frames: Box<[(u32, u32)]>,
    /// One bit for each chunk up to the last one used, frame after frame.
    bits: Box<[u8]>,
}

impl Uses {
    fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let mut begin = 0;
        self.frames.iter().map(move |(frame, end)| {
            let bits = self.bits.get(begin..*end as usize).unwrap_or_default();
            begin = *end as usize;
            (*frame, bits)
        })
    }

    /// Bytes of memory.
    pub(super) fn size(&self) -> usize {
        size_of_val(&*self.frames) + self.bits.len()
    }
}

/// Collects what a node and what is below it use.
#[derive(Debug, Default)]
pub(super) struct Used {
    frames: BTreeMap<u32, Vec<u8>>,
    /// Something could not be had, is not named by the refs, or was not collected: the node is not remembered.
    pub(super) is_partial: bool,
}

impl Used {
    /// Takes a chunk in.
    pub(super) fn add(&mut self, (frame, position): (u32, u32)) {
        self.merge(frame, position as usize / 8, &[1 << (position % 8)]);
    }

    /// Takes in what was remembered.
    pub(super) fn add_all(&mut self, uses: &Uses) {
        uses.iter().for_each(|(frame, bits)| self.merge(frame, 0, bits));
    }

    fn merge(&mut self, frame: u32, at: usize, bits: &[u8]) {
        self.is_partial |= self.frames.len() >= FRAMES_MAX && !self.frames.contains_key(&frame);
        if self.is_partial {
            self.frames.clear();
            return;
        }
        let own = self.frames.entry(frame).or_default();
        own.resize(own.len().max(at + bits.len()), 0);
        own.iter_mut().skip(at).zip(bits).for_each(|(own, bits)| *own |= bits);
    }

    /// What is to be remembered; `None` where not all of it is known.
    pub(super) fn finish(self) -> Option<Uses> {
        if self.is_partial {
            return None;
        }
        let mut end = 0;
        let mut ends = |bits: &Vec<u8>| {
            end += bits.len() as u32;
            end
        };
        let frames = self.frames.iter().map(|(frame, bits)| (*frame, ends(bits))).collect();
        Some(Uses { frames, bits: self.frames.into_values().flatten().collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_covered_by_what_names_them_and_by_nothing_less() {
        let mut used = Used::default();
        [(7, 0), (7, 9), (3, 2), (7, 0)].into_iter().for_each(|chunk| used.add(chunk));
        let uses = used.finish().unwrap();
        let mut above = Used::default();
        above.add((3, 17));
        above.add_all(&uses);
        let above = above.finish().unwrap();
        let part = |bitmap: &[u8]| Usage::Part { chunks: 24, bitmap: bitmap.to_vec() };
        let mut named = Named::default();
        assert!(!named.cover(&uses));
        named.insert(7, &part(&[1, 2, 0]));
        assert!(!named.cover(&uses) && named.contains_chunk(7, 9) && !named.contains_chunk(7, 8));
        named.insert(3, &part(&[4, 0, 0]));
        assert!(named.cover(&uses) && !named.cover(&above));
        named.insert(3, &part(&[2, 0, 2]));
        assert!(named.cover(&uses) && named.cover(&above));
        named.insert(7, &Usage::Whole);
        named.insert(7, &part(&[1, 0, 0]));
        assert!(named.contains_chunk(7, 23));
        let mut whole = Named::default();
        [3, 7].into_iter().for_each(|frame| whole.insert(frame, &Usage::Whole));
        assert!(whole.cover(&above) && whole.contains_chunk(3, 5) && !whole.contains_chunk(4, 5));
    }

    #[test]
    fn what_uses_too_much_is_not_remembered() {
        let mut used = Used::default();
        (0..=FRAMES_MAX as u32).for_each(|frame| used.add((frame, 0)));
        assert!(used.finish().is_none());
    }
}

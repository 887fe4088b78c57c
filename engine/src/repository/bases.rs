//! Bases: stretches of older frames that a new one is compressed against.
//!
//! Whoever cuts content knows from hints where the last version of it stands ([`LookupIndex::base_hints`]). While a frame is put together its
//! hints are collected ([`OpenBases`]); where it is sealed the stretches are read out of the frames in which they lie ([`FrameReader::gather`]),
//! and whoever reads the frame reads them again ([`FrameReader::read_bases`]).
//!
//! A base has no bases itself. Where the last version of a chunk stands in a frame with bases, what that one was compressed against is the base
//! of the next version too.

use super::frame_reader::FrameReader;
use super::index::{ChunkPlace, FrameOrdinal, FramePlace, LookupIndex};
use crate::error::{Error, ErrorKind, Result};
use crate::format::BaseRange;
use crate::id::{FrameId, SessionId};
use crate::limits::{BASES_LENGTH_MAX, BASES_MAX};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

/// A frame ends when its bases would have more bytes: less than the format allows, since whoever seals holds them in memory.
const BASES_LENGTH_END: usize = 3 << 20;
/// Neighbours are joined to bases of up to about so many bytes, so that it stays known for which chunk what is there.
const JOINED_LENGTH_MAX: usize = 128 << 10;
/// Bytes of bases that are kept for frames to come.
pub(crate) const KEPT_BASES_LENGTH_MAX: usize = 40 << 20;

/// Of frames, the stretches that those of a plan are compressed against; one as often as it is wanted.
#[derive(Debug, Default)]
pub(crate) struct WantedBases {
    stretches: HashMap<FrameOrdinal, Vec<BaseRange>>,
    /// Frames that were decoded: how often the stretches of these are wanted yet, [`KeptBases`] knows.
    decoded: Mutex<HashSet<FrameOrdinal>>,
}

impl WantedBases {
    /// Notes that one more frame is compressed against this stretch of the frame with this ordinal.
    pub(crate) fn want(&mut self, ordinal: FrameOrdinal, base: BaseRange) {
        self.stretches.entry(ordinal).or_default().push(base);
    }
}

/// Where content stands that may be a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BaseHint {
    /// Chunks of a frame without bases, which lie one behind the other: the first, the last, and about how many bytes they are.
    Chunks { frame: FrameId, first: u32, last: u32, length: u32 },
    /// What is a base of another frame already.
    Stretch { frame: FrameId, offset: u32, length: u32 },
}

impl BaseHint {
    fn frame(&self) -> FrameId {
        match self {
            Self::Chunks { frame, .. } | Self::Stretch { frame, .. } => *frame,
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::Chunks { length, .. } | Self::Stretch { length, .. } => *length as usize,
        }
    }

    /// Makes one of this and `other` where they touch or overlap and do not become too long; whether that was done.
    fn join(&mut self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        let (Self::Chunks { frame, first, last, length }, Self::Chunks { frame: other_frame, first: start, last: end, length: more }) =
            (self, other)
        else {
            return false;
        };
        if frame != other_frame || *start < *first || *start > *last + 1 {
            return false;
        }
        if end <= last {
            return true;
        }
        let joins = *length as usize + *more as usize <= JOINED_LENGTH_MAX;
        if joins {
            // Where they overlap this is too much, and it is only a guess anyway.
            (*last, *length) = (*end, *length + *more);
        }
        joins
    }
}

impl LookupIndex {
    /// What to compress the next version of a chunk of `length` bytes against that stands at `place`.
    pub(crate) fn base_hints(&self, place: &ChunkPlace, length: u32, hints: &mut Vec<BaseHint>) -> Result<()> {
        if !place.has_bases {
            hints.push(BaseHint::Chunks { frame: place.frame, first: place.position, last: place.position, length });
            return Ok(());
        }
        let bases = self.bases_of(place.ordinal, place.frame)?;
        let for_it = bases.iter().rev().find(|base| u32::from(base.chunk) <= place.position).map(|base| base.chunk);
        for base in bases.iter().filter(|base| Some(base.chunk) == for_it) {
            hints.push(BaseHint::Stretch { frame: base.frame, offset: base.offset, length: base.length });
        }
        Ok(())
    }
}

/// The bases of a frame in the making, each with the first chunk that it is for.
#[derive(Debug, Default)]
pub(crate) struct OpenBases {
    hints: Vec<(u16, BaseHint)>,
    length: usize,
}

impl OpenBases {
    /// Whether more bases would make the frame's too many, or too long.
    pub(crate) fn is_full_for(&self, hints: &[BaseHint]) -> bool {
        let length: usize = hints.iter().map(BaseHint::length).sum();
        !self.hints.is_empty() && (self.hints.len() + hints.len() > BASES_MAX || self.length + length > BASES_LENGTH_END)
    }

    /// Adds those of chunk number `chunk` of the frame.
    pub(crate) fn push(&mut self, chunk: u16, hints: &[BaseHint]) {
        for hint in hints {
            let is_known = self.hints.iter().any(|(_, known)| known == hint);
            let joins = self.hints.last_mut().is_some_and(|(_, last)| {
                let before = last.length();
                let joins = last.join(hint);
                self.length += last.length() - before;
                joins
            });
            if !is_known && !joins && self.hints.len() < BASES_MAX {
                self.length += hint.length();
                self.hints.push((chunk, *hint));
            }
        }
    }
}

impl FrameReader {
    /// Reads the bases of a frame in the making out of the frames in which they lie; gives what the contents table is to say of them, and their bytes in `bytes`. What cannot be
    /// had, or cannot be a base, is left out: a frame is good without.
    pub(crate) fn gather(&self, open: &OpenBases, bytes: &mut Vec<u8>) -> Vec<BaseRange> {
        let mut bases = Vec::new();
        bytes.clear();
        for (chunk, hint) in &open.hints {
            let Ok(Some((frame, place))) = self.base_frame(hint.frame()) else { continue };
            let stretch = match *hint {
                BaseHint::Chunks { first, last, .. } => frame.stretch(first, last),
                BaseHint::Stretch { offset, length, .. } => Some(offset as usize..offset as usize + length as usize),
            };
            let Some((stretch, content)) = stretch.and_then(|stretch| Some((stretch.clone(), frame.content().get(stretch)?))) else {
                continue;
            };
            if place.has_bases || bytes.len() + content.len() > BASES_LENGTH_MAX {
                continue;
            }
            bytes.extend_from_slice(content);
            let (offset, length) = (stretch.start as u32, content.len() as u32);
            bases.push(BaseRange { frame: hint.frame(), chunk: *chunk, offset, length });
        }
        bases
    }

    fn base_frame(&self, id: FrameId) -> Result<Option<(std::sync::Arc<super::Frame>, FramePlace)>> {
        let Some(ordinal) = self.index().ordinal_of(id)? else { return Ok(None) };
        let place = self.place(ordinal)?;
        if place.has_bases || self.index().is_passed_over(place.kind, place.pack) {
            return Ok(None);
        }
        // Neighbours are sealed at the same time and stand on the same frames. This one has no bases, so nothing waits for another one meanwhile.
        let _one_at_a_time = self.bringing(ordinal);
        Ok(Some((self.read_cached(ordinal)?, place)))
    }

    /// Keeps what is wanted of a decoded frame for the frames to come that are compressed against it, as far as there is room.
    pub(crate) fn keep_bases(&self, place: &FramePlace, frame: &super::Frame, wanted: &WantedBases) {
        let Some(stretches) = wanted.stretches.get(&place.ordinal).filter(|_| !place.has_bases) else { return };
        let mut kept = self.kept_bases();
        if wanted.decoded.lock().insert(place.ordinal) {
            stretches.iter().filter(|base| base.frame == place.id).for_each(|base| kept.want(base));
        }
        for base in stretches.iter().filter(|base| base.frame == place.id) {
            if let Some(bytes) = frame.content().get(base.offset as usize..base.offset as usize + base.length as usize) {
                kept.put(base, bytes);
            }
        }
    }

    /// Sees that the bases of a frame that is about to be decoded are kept: where one is not, the frame in which it lies is decoded, and all that is wanted of
    /// that one is kept. Threads that want the same frame wait for each other. What cannot be had is missed where the frame is decoded.
    pub(crate) fn bring_bases(&self, place: &FramePlace, wanted: &WantedBases) {
        if !place.has_bases || wanted.stretches.is_empty() {
            return;
        }
        for base in self.index().bases_of(place.ordinal, place.id).unwrap_or_default() {
            let Ok(Some(ordinal)) = self.index().ordinal_of(base.frame) else { continue };
            let _one_at_a_time = self.bringing(ordinal);
            if self.kept_bases().has(&base) {
                continue;
            }
            if let Ok(of_base) = self.place(ordinal)
                && !of_base.has_bases
            {
                self.read_for_once(&of_base, |frame| self.keep_bases(&of_base, frame, wanted));
            }
        }
    }

    /// Where a frame lies, and behind it where its bases do: all that has to be there for it to be read.
    pub(crate) fn place_with_bases(&self, ordinal: FrameOrdinal) -> Result<Vec<FramePlace>> {
        let place = self.place(ordinal)?;
        let bases = if place.has_bases { self.index().bases_of(place.ordinal, place.id)? } else { Vec::new() };
        let missing =
            |base: FrameId| Error::new(ErrorKind::Damaged, format!("frame {base}, a base of frame {}, is in no pack; run check", place.id));
        let of_base = |base: &BaseRange| self.place(self.index().ordinal_of(base.frame)?.ok_or_else(|| missing(base.frame))?);
        let bases = bases.iter().map(of_base).collect::<Result<Vec<_>>>()?;
        Ok([place].into_iter().chain(bases).collect())
    }

    /// The bytes of a frame's bases, one behind the other (FRAME-8).
    pub(crate) fn read_bases(&self, place: &FramePlace) -> Result<Vec<u8>> {
        let bases = self.index().bases_of(place.ordinal, place.id)?;
        let mut bytes = Vec::with_capacity(bases.iter().map(|base| base.length as usize).sum());
        for base in bases {
            if let Some(kept) = self.kept_bases().take(&base) {
                bytes.extend_from_slice(&kept);
                continue;
            }
            let mut problem = None;
            let is_read = self.index().all_of(base.frame)?.into_iter().any(|ordinal| {
                let read = self.read_base(ordinal, &base, &mut bytes);
                // A damaged copy gives way to a good one.
                read.map_err(|error| problem = problem.take().or(Some(error.context(format!("a base of frame {}", place.id))))).is_ok()
            });
            if !is_read {
                let missing =
                    || Error::new(ErrorKind::Damaged, format!("frame {}, a base of frame {}, is in no pack", base.frame, place.id));
                return Err(problem.unwrap_or_else(missing));
            }
        }
        Ok(bytes)
    }

    fn read_base(&self, ordinal: FrameOrdinal, base: &BaseRange, bytes: &mut Vec<u8>) -> Result<()> {
        if self.place(ordinal)?.has_bases {
            return Err(Error::rule("FRAME-8", format!("frame {} has bases itself", base.frame)));
        }
        let frame = self.read_cached(ordinal)?;
        let end = base.offset as usize + base.length as usize;
        let short = || Error::rule("FRAME-8", format!("frame {} ends before {end} bytes", base.frame));
        bytes.extend_from_slice(frame.content().get(base.offset as usize..end).ok_or_else(short)?);
        Ok(())
    }
}

/// Frame, offset and length.
type Stretch = (FrameId, u32, u32);

fn key_of(base: &BaseRange) -> Stretch {
    (base.frame, base.offset, base.length)
}

/// Stretches of decoded frames, kept for those that are compressed against them until all had them: else their frames would be decoded again for each. The oldest make room,
/// and come back where their frame is decoded once more; what nobody wants any more does not.
#[derive(Debug, Default)]
pub(super) struct KeptBases {
    stretches: HashMap<Stretch, Kept>,
    order: VecDeque<Stretch>,
    length: usize,
}

#[derive(Debug, Default)]
struct Kept {
    /// `None` once it made room.
    bytes: Option<Arc<[u8]>>,
    /// How many frames want it yet.
    uses: u32,
}

impl KeptBases {
    /// One more frame wants it.
    fn want(&mut self, base: &BaseRange) {
        self.stretches.entry(key_of(base)).or_default().uses += 1;
    }

    fn has(&self, base: &BaseRange) -> bool {
        self.stretches.get(&key_of(base)).is_some_and(|kept| kept.bytes.is_some())
    }

    /// Keeps it where it is wanted.
    fn put(&mut self, base: &BaseRange, bytes: &[u8]) {
        let key = key_of(base);
        if self.stretches.get(&key).is_none_or(|kept| kept.bytes.is_some()) {
            return;
        }
        // Before it has bytes again: an older place of its own in the order goes, too.
        if self.order.len() >= 2 * self.stretches.len() {
            let stretches = &self.stretches;
            self.order.retain(|key| stretches.get(key).is_some_and(|kept| kept.bytes.is_some()));
        }
        self.stretches.entry(key).or_default().bytes = Some(bytes.into());
        self.length += bytes.len();
        self.order.push_back(key);
        while self.length > KEPT_BASES_LENGTH_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.drop_bytes(&oldest);
        }
    }

    /// Gives it to one of those that want it, if it is there.
    fn take(&mut self, base: &BaseRange) -> Option<Arc<[u8]>> {
        let key = key_of(base);
        let kept = self.stretches.get_mut(&key)?;
        kept.uses = kept.uses.saturating_sub(1);
        let (bytes, is_last) = (kept.bytes.clone(), kept.uses == 0);
        if is_last {
            self.drop_bytes(&key);
            self.stretches.remove(&key);
        }
        bytes
    }

    /// Its place in the order stays for a while, and means nothing.
    fn drop_bytes(&mut self, key: &Stretch) {
        if let Some(bytes) = self.stretches.get_mut(key).and_then(|kept| kept.bytes.take()) {
            self.length -= bytes.len();
        }
    }
}

/// Leaves out what stands in frames of this session: whether these are in the index yet depends on how fast packs are written.
pub(crate) fn without_own(hints: &mut Vec<BaseHint>, session: SessionId) {
    hints.retain(|hint| hint.frame().session != session);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_kept_for_those_that_want_it_and_comes_back_where_it_made_room() {
        let base = |number| BaseRange { frame: frame(number), chunk: 0, offset: 0, length: 1 << 20 };
        let (mut kept, bytes, count) = (KeptBases::default(), vec![7; 1 << 20], (KEPT_BASES_LENGTH_MAX >> 20) as u32);
        for number in 0..=count {
            (0..2).for_each(|_| kept.want(&base(number)));
            kept.put(&base(number), &bytes);
        }
        assert_eq!((kept.has(&base(0)), kept.has(&base(1)), kept.length), (false, true, KEPT_BASES_LENGTH_MAX));
        assert!(kept.take(&base(0)).is_none(), "it made room");
        assert!(kept.take(&base(1)).is_some() && kept.has(&base(1)) && kept.take(&base(1)).is_some() && !kept.has(&base(1)));
        // Its frame is decoded once more: one wants it yet, and of the other one nobody does.
        kept.put(&base(0), &bytes);
        kept.put(&base(1), &bytes);
        assert!(!kept.has(&base(1)) && kept.take(&base(0)).is_some() && !kept.has(&base(0)));
        for number in 2..=count {
            (0..2).for_each(|_| assert!(kept.take(&base(number)).is_some()));
        }
        assert_eq!((kept.length, kept.stretches.len()), (0, 0));
        for _ in 0..100 {
            kept.want(&base(0));
            kept.put(&base(0), &bytes);
            kept.take(&base(0));
        }
        assert!(kept.order.len() < 3);
    }

    fn frame(number: u32) -> FrameId {
        FrameId { session: SessionId([1; 16]), number }
    }

    fn chunks(number: u32, first: u32, last: u32, length: u32) -> BaseHint {
        BaseHint::Chunks { frame: frame(number), first, last, length }
    }

    #[test]
    fn neighbours_are_joined_and_nothing_stands_twice() {
        let mut open = OpenBases::default();
        open.push(0, &[chunks(7, 3, 3, 1000)]);
        open.push(1, &[chunks(7, 4, 4, 1000), chunks(7, 5, 5, 1000)]);
        open.push(2, &[chunks(7, 5, 5, 1000)]);
        assert_eq!((open.hints.as_slice(), open.length), (&[(0, chunks(7, 3, 5, 3000))][..], 3000));
        open.push(3, &[chunks(7, 6, 6, JOINED_LENGTH_MAX as u32)]);
        open.push(4, &[chunks(7, 2, 2, 10), chunks(8, 3, 3, 10)]);
        let stretch = BaseHint::Stretch { frame: frame(9), offset: 5, length: 6 };
        open.push(5, &[stretch]);
        open.push(6, &[stretch, chunks(8, 3, 3, 10)]);
        let chunks_of: Vec<u16> = open.hints.iter().map(|(chunk, _)| *chunk).collect();
        assert_eq!(chunks_of, [0, 3, 4, 4, 5]);
        assert_eq!(open.length, 3000 + JOINED_LENGTH_MAX + 26);
    }

    #[test]
    fn a_frame_ends_before_its_bases_are_too_many_or_too_long() {
        let mut open = OpenBases::default();
        let long = chunks(0, 0, 0, BASES_LENGTH_END as u32 + 1);
        assert!(!open.is_full_for(&[long]), "what is alone too long has to go somewhere");
        (0..BASES_MAX as u32 - 1).for_each(|number| open.push(number as u16, &[chunks(number, 0, 0, 1)]));
        assert!(!open.is_full_for(&[chunks(99, 0, 0, 1)]) && open.is_full_for(&[long]));
        open.push(99, &[chunks(99, 0, 0, 1)]);
        assert!(open.is_full_for(&[chunks(100, 0, 0, 1)]));
    }
}

//! A window: entries that are restored together, and the plan of which frame's chunks go where.
//!
//! A restore of any size goes through windows, so that its plan takes bounded memory. Within a window every frame is read once, in the
//! order of packs and offsets; what other windows may need of a frame as well waits until all are planned (`later`). The first windows are
//! small, so that the work begins at once; how windows are cut depends on the snapshot alone.

use crate::backend::ObjectKind;
use crate::entry::{Entry, EntryKind};
use crate::error::Result;
use crate::format::BaseRange;
use crate::id::{ChunkId, PackId};
use crate::progress::Change;
use crate::repository::index::{FrameOrdinal, FramePlace};
use crate::repository::{FrameReader, WantedBases};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How much a window holds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Entries of all kinds.
    pub(super) entries_max: usize,
    /// Bytes of entries and of the plan.
    pub(super) bytes_max: usize,
    /// Bytes that one request to the backend brings.
    pub(super) read_bytes_max: u64,
    /// Whether what frames to come are compressed against is kept when it is decoded. It is decoded again for them otherwise.
    pub(super) keeps_bases: bool,
}

impl Limits {
    /// What a restore uses: 14 MiB, which are 230,000 chunks, for each of the three windows that are in memory at once.
    pub(super) const DEFAULT: Self = Self { entries_max: 32_000, bytes_max: 14 << 20, read_bytes_max: 1 << 20, keeps_bases: true };

    /// With windows of so many bytes, if that is less, and as many fewer entries.
    pub(super) fn with_window_bytes(self, bytes: usize) -> Self {
        let bytes_max = bytes.min(self.bytes_max);
        Self { entries_max: (self.entries_max * (bytes_max >> 10) / (self.bytes_max >> 10)).max(1), bytes_max, ..self }
    }

    /// For the window of this number, counted from 0: each is twice as large as the one before, up to the limits.
    pub(super) fn of_window(self, number: u32) -> Self {
        let halvings = SMALLER_WINDOWS.saturating_sub(number);
        Self { entries_max: self.entries_max >> halvings, bytes_max: self.bytes_max >> halvings, ..self }
    }
}

/// Windows before the first one of full size.
const SMALLER_WINDOWS: u32 = 4;

/// Frames that lie so near to each other are read together, with what lies between them.
const GAP_MAX: u64 = 64 << 10;

/// A frame comes so many frames after its bases: they are decoded by then, by other threads.
const BEHIND: u32 = 4;

/// Bases that lie up to so many frames behind the middle one are waited for. Most lie near each other; for one that lies far from the others, where few frames have theirs, more
/// would be decoded twice than that one.
const NEAR: u32 = 128;

/// How an item is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Made, written and finished in one go, by whoever decodes its frame.
    Small,
    /// A prepared file; the first `old` bytes are worth comparing.
    Prepared { old: u64 },
    /// Prepared, and has no content.
    Bare,
}

/// An entry on its way, without its chunk list. Copies of it share whether it failed.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) entry: Entry,
    pub(super) way: Way,
    failed: Arc<AtomicBool>,
    /// In a dry run, what is known so far of what becomes of it: that and the bytes.
    pub(super) planned: (Option<Change>, u64),
    /// Its number among the entries that wait, where some of its content comes later: then it is finished later, too.
    pub(super) later: Option<u32>,
}

impl Item {
    pub(super) fn new(entry: Entry, way: Way) -> Self {
        Self { entry, way, failed: Arc::default(), planned: (None, 0), later: None }
    }

    /// The same that another window has, with the entry as it was kept.
    pub(super) fn again(entry: Entry, way: Way, number: u32, failed: Arc<AtomicBool>) -> Self {
        Self { failed, later: Some(number), ..Self::new(entry, way) }
    }

    /// Whether it failed, for copies of it.
    pub(super) fn share_failed(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.failed)
    }

    /// Whether it could not be restored.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Notes that it could not be restored; whether that is new.
    pub(super) fn fail(&self) -> bool {
        !self.failed.swap(true, Ordering::Relaxed)
    }
}

/// One chunk on its way to one place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Use {
    pub(super) ordinal: FrameOrdinal,
    pub(super) position: u32,
    pub(super) item: u32,
    pub(super) length: u32,
    pub(super) offset: u64,
    pub(super) id: ChunkId,
    /// The target has it already.
    pub(super) is_there: bool,
}

/// Frames that are read with one request.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) kind: ObjectKind,
    pub(super) pack: PackId,
    pub(super) offset: u64,
    pub(super) length: u64,
    /// The frames, with what of the plan they are for.
    pub(super) frames: Vec<(FramePlace, Range<usize>)>,
}

/// What is collected.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// Everything but folders and hard links.
    pub(super) items: Vec<Item>,
    pub(super) uses: Vec<Use>,
    /// Other names of earlier entries, in key order.
    pub(super) links: Vec<Entry>,
    /// Folders below which nothing comes any more, those below others first.
    pub(super) folders: Vec<Entry>,
    /// Of frames, the stretches that others of the plan are compressed against.
    pub(super) bases: WantedBases,
    bytes: usize,
}

impl Window {
    /// Notes that an entry is kept.
    pub(super) fn weigh(&mut self, entry: &Entry) {
        self.bytes += weight_of(entry);
    }

    /// Whether it has to be restored before more is collected.
    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        let entries = self.items.len() + self.links.len() + self.folders.len();
        entries >= limits.entries_max || self.bytes + self.uses.len() * size_of::<Use>() >= limits.bytes_max
    }

    /// Puts what is needed of each frame together, the frames of a pack one behind the other.
    pub(super) fn sort(&mut self) {
        self.uses.sort_unstable_by_key(|used| (used.ordinal, used.item, used.offset));
    }

    /// Puts the frames, whose uses are together, into the order of reading, and notes what others want of them as bases.
    pub(super) fn order(&mut self, reader: &FrameReader, keeps_bases: bool) -> Result<()> {
        let mut turns = HashMap::new();
        for of_frame in self.uses.chunk_by(|one, other| one.ordinal == other.ordinal) {
            let Some(place) = of_frame.first().map(|first| reader.place(first.ordinal)).transpose()?.filter(|place| place.has_bases) else {
                continue;
            };
            let turn = Turn::of(&place, reader, |ordinal, base| {
                if keeps_bases {
                    self.bases.want(ordinal, base);
                }
            })?;
            turns.insert(place.ordinal, turn);
        }
        if !turns.is_empty() {
            // Stable: the chunks of a frame stay in their order.
            self.uses.sort_by_key(|used| turns.get(&used.ordinal).copied().unwrap_or(Turn::without_bases(used.ordinal)));
        }
        Ok(())
    }
}

/// When a frame is read: in the order of ordinals, and one with bases soon after most of these, which are then at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    pub(super) behind: u32,
    pub(super) has_bases: bool,
    pub(super) ordinal: FrameOrdinal,
}

impl Turn {
    fn without_bases(ordinal: FrameOrdinal) -> Self {
        Self { behind: ordinal.get(), has_bases: false, ordinal }
    }

    /// The turn of a frame; `want` is told what it needs of which other frames.
    pub(super) fn of(place: &FramePlace, reader: &FrameReader, mut want: impl FnMut(FrameOrdinal, BaseRange)) -> Result<Self> {
        if !place.has_bases {
            return Ok(Self::without_bases(place.ordinal));
        }
        let mut bases = Vec::new();
        // What is wrong shows where the frame is read.
        for base in reader.index().bases_of(place.ordinal, place.id).unwrap_or_default() {
            let Some(ordinal) = reader.index().ordinal_of(base.frame)? else { continue };
            bases.push((ordinal.get(), base.length));
            want(ordinal, base);
        }
        let last = last_near(&mut bases).unwrap_or(place.ordinal.get());
        Ok(Self { behind: last.saturating_add(BEHIND), has_bases: true, ordinal: place.ordinal })
    }
}

/// The last ordinal near the one that has half of the bases' bytes before it, of ordinals and lengths.
fn last_near(bases: &mut [(u32, u32)]) -> Option<u32> {
    bases.sort_unstable();
    let half = bases.iter().map(|(_, length)| u64::from(*length)).sum::<u64>() / 2;
    let mut before = 0;
    let middle = bases.iter().find(|(_, length)| {
        before += u64::from(*length);
        before >= half
    });
    let end = middle?.0.saturating_add(NEAR);
    bases.iter().rev().map(|(ordinal, _)| *ordinal).find(|ordinal| *ordinal <= end)
}

/// About how many bytes an entry without its chunk list takes.
pub(super) fn weight_of(entry: &Entry) -> usize {
    let attributes: usize = entry.metadata.xattrs.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
    let of_kind = match &entry.kind {
        EntryKind::Symlink(target) => target.len(),
        EntryKind::HardLink(earlier) => earlier.len(),
        EntryKind::File(content) => 16 * content.holes.len(),
        _ => 0,
    };
    size_of::<Item>() + entry.key.len() + attributes + of_kind
}

/// Goes through a plan that is in the order of reading, read by read.
#[derive(Debug, Default)]
pub(super) struct Reads {
    at: usize,
    /// A frame that the read before did not take.
    ahead: Option<(FramePlace, Range<usize>)>,
}

impl Reads {
    /// The next read of the plan, which has to be the same each time; `None` at its end.
    pub(super) fn next(&mut self, plan: &[Use], reader: &FrameReader, limits: &Limits) -> Result<Option<Read>> {
        let Some((place, range)) = self.next_frame(plan, reader)? else { return Ok(None) };
        let mut read = Read::new(place, range);
        while let Some((place, range)) = self.next_frame(plan, reader)? {
            if !read.takes(&place, limits) {
                self.ahead = Some((place, range));
                break;
            }
            read.push(place, range);
        }
        Ok(Some(read))
    }

    fn next_frame(&mut self, plan: &[Use], reader: &FrameReader) -> Result<Option<(FramePlace, Range<usize>)>> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        let Some(of_frame) = plan.get(self.at..).and_then(|rest| rest.chunk_by(|one, other| one.ordinal == other.ordinal).next()) else {
            return Ok(None);
        };
        let range = self.at..self.at + of_frame.len();
        self.at = range.end;
        let place = of_frame.first().map(|first| reader.place(first.ordinal)).transpose()?;
        Ok(place.map(|place| (place, range)))
    }
}

impl Read {
    fn new(place: FramePlace, range: Range<usize>) -> Self {
        let (kind, pack, offset) = (place.kind, place.pack, place.offset);
        Self { kind, pack, offset, length: u64::from(place.sealed_length), frames: vec![(place, range)] }
    }

    fn takes(&self, place: &FramePlace, limits: &Limits) -> bool {
        let end = self.offset + self.length;
        (self.kind, self.pack) == (place.kind, place.pack)
            && (end..=end + GAP_MAX).contains(&place.offset)
            && place.offset + u64::from(place.sealed_length) - self.offset <= limits.read_bytes_max
    }

    fn push(&mut self, place: FramePlace, range: Range<usize>) {
        self.length = place.offset + u64::from(place.sealed_length) - self.offset;
        self.frames.push((place, range));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_waits_for_bases_that_lie_near_most_of_them() {
        let last = |bases: &[(u32, u32)]| last_near(&mut bases.to_vec());
        assert_eq!(last(&[]), None);
        assert_eq!(last(&[(7, 100)]), Some(7));
        assert_eq!(last(&[(9, 100), (7, 100), (8, 100)]), Some(9));
        assert_eq!(last(&[(7, 100), (7 + NEAR, 10)]), Some(7 + NEAR));
        assert_eq!(last(&[(5000, 10), (8, 50), (7, 50)]), Some(8), "one lies far away");
        assert_eq!(last(&[(1, 10), (5000, 100)]), Some(5000));
        assert_eq!(last(&[(u32::MAX, 1)]), Some(u32::MAX));
    }

    #[test]
    fn windows_grow_to_their_limits() {
        let sizes = |number| {
            let Limits { entries_max, bytes_max, read_bytes_max, .. } = Limits::DEFAULT.of_window(number);
            (entries_max, bytes_max, read_bytes_max)
        };
        assert_eq!(sizes(0), (2_000, 14 << 16, 1 << 20));
        assert_eq!(sizes(1), (4_000, 14 << 17, 1 << 20));
        assert_eq!(sizes(4), (32_000, 14 << 20, 1 << 20));
        assert_eq!(sizes(u32::MAX), sizes(4));
    }
}

//! What waits until everything is planned: content of frames that several windows may need, and what has to come after it.
//!
//! A window carries out at once what it needs of frames all of whose chunks it has. So a snapshot that was stored in one go is restored while
//! it is planned. Of other frames, which are what a snapshot has in common with older ones, or have bases or are some, the uses wait, sorted by frame in temporary files,
//! and in the end each of these frames is decoded once for all of them. A frame is decoded a second time only where whole copies of what is in it
//! stand far apart.
//!
//! ```text
//! windows of entries ─▶ uses of frames that are there in part, by frame ─▶ windows of frames
//!                   └─▶ files of theirs, then all links and folders, in the order of keys ────┴─▶ metadata, links, folders
//! ```

use super::run::{Last, Restore};
use super::tally::Tally;
use super::window::{Item, Limits, Turn, Use, Way, Window};
use super::work::Work;
use crate::backup::{put_entry, read_entry};
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::id::ChunkId;
use crate::limits::INLINE_CHUNKS_MAX;
use crate::repository::SnapshotChunks;
use crate::repository::index::{FrameOrdinal, FramePlace};
use crate::spill::{SortedRecords, SpillFolder, SpilledList};
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

/// Turn of the frame (9 bytes), item, offset, position, length, chunk id: in the order of reading, within a frame in that of items, within these in
/// that of offsets.
const USE_LENGTH: usize = 9 + 4 + 8 + 4 + 4 + ChunkId::LENGTH;

/// What waits.
#[derive(Debug)]
pub(super) struct Later {
    uses: SortedRecords<USE_LENGTH>,
    /// Each with a byte for its way before it; in an order in which they can be finished.
    entries: SpilledList,
    /// Whether those failed that are in windows now.
    failed: HashMap<u32, Weak<AtomicBool>>,
}

impl Later {
    /// Nothing waits. A quarter of a window is kept in memory.
    pub(super) fn new(folder: SpillFolder, limits: &Limits) -> Self {
        Self { uses: SortedRecords::new(folder.clone(), limits.bytes_max / 4), entries: SpilledList::new(folder), failed: HashMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.uses.is_empty()
    }

    /// Takes out of the window, whose plan is sorted, what waits.
    pub(super) fn take(&mut self, window: &mut Window, chunks: &SnapshotChunks<'_>) -> Result<()> {
        let reader = chunks.reader;
        let Window { items, uses, .. } = window;
        let mut kept = 0;
        let mut at = 0;
        while let Some(of_frame) = uses.get(at..).and_then(|rest| rest.chunk_by(|one, other| one.ordinal == other.ordinal).next()) {
            let range = at..at + of_frame.len();
            at = range.end;
            let place = of_frame.first().map(|first| reader.place(first.ordinal)).transpose()?;
            // One with bases waits, and so does what others are compressed against: it is decoded soon before them then, and not once more for them.
            let waits =
                |place: &FramePlace| place.has_bases || chunks.is_base(place.ordinal) || !has_all(of_frame, place.chunk_count as usize);
            let Some(place) = place.filter(waits) else {
                uses.copy_within(range.clone(), kept);
                kept += range.len();
                continue;
            };
            let turn = Turn::of(&place, reader, |_, _| {})?;
            for used in of_frame {
                let item = items.get_mut(used.item as usize);
                let item = item.ok_or_else(|| Error::new(ErrorKind::Internal, "a plan names no item"))?;
                let number = match item.later {
                    Some(number) => number,
                    None => *item.later.insert(keep(&mut self.entries, way_byte(item.way), &item.entry)?),
                };
                self.uses.push(encode(used, turn, number))?;
            }
        }
        uses.truncate(kept);
        if !self.is_empty() {
            for entry in window.links.drain(..).chain(window.folders.drain(..)) {
                keep(&mut self.entries, BARE, &entry)?;
            }
        }
        Ok(())
    }

    /// The item of that number, which shares with its copies in other windows whether it failed.
    fn item(&mut self, number: u32, tally: &Tally<'_>) -> Result<Item> {
        let (way, entry) = self.entry(number.into())?;
        if let Some(failed) = self.failed.get(&number).and_then(Weak::upgrade) {
            return Ok(Item::again(entry, way, number, failed));
        }
        let mut item = Item::new(entry, way);
        item.later = Some(number);
        if tally.is_lost(&item.entry.key)? {
            item.fail();
        }
        self.failed.insert(number, Arc::downgrade(&item.share_failed()));
        Ok(item)
    }

    fn entry(&self, number: u64) -> Result<(Way, Entry)> {
        let bytes = self.entries.get(number)?;
        let found = bytes.split_first().and_then(|(way, entry)| Some((way_of(*way)?, read_entry(entry)?)));
        found.ok_or_else(|| Error::new(ErrorKind::Internal, "what was kept of an entry cannot be read"))
    }
}

/// Whether each of the frame's chunks is among these uses of it.
fn has_all(uses: &[Use], chunk_count: usize) -> bool {
    let mut is_used = vec![false; chunk_count];
    for used in uses {
        // A chunk whose pack is gone stands at no position: it is looked for again when its turn comes.
        if let Some(is_used) = is_used.get_mut(used.position as usize) {
            *is_used = true;
        }
    }
    is_used.iter().all(|is_used| *is_used)
}

const SMALL: u8 = 0;
const PREPARED: u8 = 1;
const BARE: u8 = 2;

fn way_byte(way: Way) -> u8 {
    match way {
        Way::Small => SMALL,
        Way::Prepared { .. } => PREPARED,
        Way::Bare => BARE,
    }
}

fn way_of(byte: u8) -> Option<Way> {
    match byte {
        SMALL => Some(Way::Small),
        // What is there was compared before.
        PREPARED => Some(Way::Prepared { old: 0 }),
        BARE => Some(Way::Bare),
        _ => None,
    }
}

fn keep(entries: &mut SpilledList, way: u8, entry: &Entry) -> Result<u32> {
    let mut bytes = vec![way];
    put_entry(&mut bytes, entry);
    let number = entries.push(&bytes)?;
    u32::try_from(number)
        .map_err(|_| Error::new(ErrorKind::Unsupported, "more entries than can wait; restore the snapshot in parts (`path`)"))
}

fn encode(used: &Use, turn: Turn, item: u32) -> [u8; USE_LENGTH] {
    let mut record = [0; USE_LENGTH];
    let (numbers, id) = record.split_at_mut(USE_LENGTH - ChunkId::LENGTH);
    let parts: [&[u8]; 7] = [
        &turn.behind.to_be_bytes(),
        &[turn.has_bases.into()],
        &turn.ordinal.get().to_be_bytes(),
        &item.to_be_bytes(),
        &used.offset.to_be_bytes(),
        &used.position.to_be_bytes(),
        &used.length.to_be_bytes(),
    ];
    numbers.copy_from_slice(&parts.concat());
    id.copy_from_slice(used.id.as_bytes());
    record
}

/// The use, with the number of its entry in the place of the item.
fn decode(record: &[u8; USE_LENGTH]) -> Use {
    let number = |at: usize| record[at..].first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    Use {
        ordinal: FrameOrdinal::of(number(5)),
        item: number(9),
        offset: (u64::from(number(13)) << 32) | u64::from(number(17)),
        position: number(21),
        length: number(25),
        id: ChunkId(record.last_chunk().copied().unwrap_or_default()),
        is_there: false,
    }
}

impl Restore<'_, '_> {
    /// Carries out, or counts, what waited.
    pub(super) fn take_later(&mut self, mut later: Later) -> Result<()> {
        // From now on it is known what failed before.
        self.work.as_mut().map_or(Ok(()), Work::end)?;
        self.take_frames(&mut later)?;
        // A dry run told of these entries when they came.
        let Some(work) = &mut self.work else { return Ok(()) };
        work.end()?;
        for number in 0..later.entries.len() {
            self.tally.check_cancelled()?;
            self.go_on()?;
            let (way, entry) = later.entry(number)?;
            let is_item = !matches!(entry.kind, EntryKind::HardLink(_) | EntryKind::Folder);
            // A small file was finished with its content, and one that is lost was removed.
            if is_item && (way == Way::Small || self.tally.is_lost(&entry.key)?) {
                continue;
            }
            self.window.weigh(&entry);
            match entry.kind {
                EntryKind::HardLink(_) => self.window.links.push(entry),
                EntryKind::Folder => self.window.folders.push(entry),
                _ => self.window.items.push(Item::new(entry, way)),
            }
            self.give_if_full(self.limits)?;
        }
        self.give_all()
    }

    /// What waits in the order of frames, in windows between which no frame is split, unless it alone is too much for one.
    fn take_frames(&mut self, later: &mut Later) -> Result<()> {
        let uses = std::mem::replace(&mut later.uses, SortedRecords::new(SpillFolder::default(), 0));
        let twice = Limits { entries_max: 2 * self.limits.entries_max, bytes_max: 2 * self.limits.bytes_max, ..self.limits };
        let mut item_of = HashMap::new();
        let mut before = None;
        // How many uses of the frame by the same file came before. One with few of them may be written in one go, and is not split.
        let mut of_item = 0;
        for record in uses.iter()? {
            self.tally.check_cancelled()?;
            let mut used = decode(&record?);
            let now = (used.ordinal, used.item);
            let limits = if before.is_some_and(|(ordinal, _)| ordinal == now.0) { twice } else { self.limits };
            of_item = if before == Some(now) { of_item + 1 } else { 0 };
            if (of_item == 0 || of_item > INLINE_CHUNKS_MAX) && self.give_if_full(limits)? {
                item_of.clear();
                later.failed.retain(|_, failed| failed.strong_count() > 0);
            }
            before = Some(now);
            used.item = match item_of.get(&used.item) {
                Some(at) => *at,
                None => {
                    let item = later.item(used.item, self.tally)?;
                    self.window.weigh(&item.entry);
                    self.window.items.push(item);
                    // Bound: a window has at most `entries_max` items.
                    *item_of.entry(used.item).or_insert((self.window.items.len() - 1) as u32)
                }
            };
            self.window.uses.push(used);
        }
        self.give_all()
    }

    fn give_if_full(&mut self, limits: Limits) -> Result<bool> {
        match self.window.is_full(&limits) {
            true => self.give_all().map(|()| true),
            false => Ok(false),
        }
    }

    fn give_all(&mut self) -> Result<()> {
        let window = std::mem::take(&mut self.window);
        self.give(window, Last::IsWhole)
    }
}

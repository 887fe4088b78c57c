//! What the target has already: files that are there are read and their chunks named, so that nothing is fetched for what agrees.
//!
//! A chunk id is a keyed hash of the content, so that a range that has the id of the chunk has its bytes.

use super::scatter::Failure;
use super::tally::Tally;
use super::window::{Item, Use, Way, Window};
use crate::destination::{Folder, OutputFile, Prepared, Standing};
use crate::error::Result;
use crate::id::ChunkId;
use crate::progress::Event;
use crate::repository::{ChunkIds, ChunkKind};
use crate::runtime::Pool;
use std::sync::atomic::Ordering;

/// Chunks that are compared by one task.
const COMPARED_AT_ONCE: usize = 256;

/// Compares what is planned with what the target has.
#[derive(Debug)]
pub(super) struct Comparison<'a> {
    pub(super) folder: &'a Folder,
    pub(super) ids: &'a ChunkIds,
    pub(super) tally: &'a Tally<'a>,
    /// Whether files may be changed; if not, what is there is only looked at.
    pub(super) may_write: bool,
}

impl Comparison<'_> {
    /// Takes out of the plan, which is in the order of entries, what the target has.
    pub(super) fn run(&self, window: &mut Window, pool: &Pool) -> Result<()> {
        let failure = Failure::default();
        let items = &window.items;
        pool.in_place_scope(|scope| {
            for of_item in window.uses.chunk_by_mut(|one, other| one.item == other.item) {
                let Some(item) = of_item.first().and_then(|used| items.get(used.item as usize)) else { continue };
                if item.has_failed() || matches!(item.way, Way::Prepared { old: 0, .. } | Way::Bare) {
                    continue;
                }
                for some in of_item.chunks_mut(COMPARED_AT_ONCE) {
                    let failure = &failure;
                    scope.spawn(move |_| {
                        if !failure.is_set()
                            && let Err(error) = self.compare(item, some)
                        {
                            failure.set(error);
                        }
                    });
                }
            }
        });
        failure.check()?;
        for used in &window.uses {
            if used.is_there
                && let Some(item) = window.items.get_mut(used.item as usize)
                && item.way == Way::Small
            {
                item.way = Way::Prepared { old: u64::MAX };
            }
        }
        window.uses.retain(|used| !used.is_there);
        Ok(())
    }

    fn compare(&self, item: &Item, uses: &mut [Use]) -> Result<()> {
        self.tally.check_cancelled()?;
        let same = match item.way {
            Way::Small => self.compare_small(item, uses)?,
            Way::Prepared { old } => self.compare_part(item, old, uses)?,
            Way::Bare => 0,
        };
        self.tally.bytes_unchanged.fetch_add(same, Ordering::Relaxed);
        self.tally.progress.event(Event::Advance { bytes: same, items: 0 });
        Ok(())
    }

    /// A small file is there as a whole, or is written as a whole.
    fn compare_small(&self, item: &Item, uses: &mut [Use]) -> Result<u64> {
        // Whoever writes the file will say what is wrong.
        let Ok(Standing::Same { file: Some((file, length)), is_kept: true }) = self.folder.standing(&item.entry) else { return Ok(0) };
        if length != uses.iter().map(|used| u64::from(used.length)).sum::<u64>() {
            return Ok(0);
        }
        let mut buffer = Vec::new();
        for used in uses.iter() {
            if !has_chunk(&file, used.offset, used.length, &used.id, self.ids, &mut buffer)? {
                return Ok(0);
            }
        }
        if self.may_write && !matches!(self.folder.prepare(&item.entry), Ok(Prepared::Existing { length: kept }) if kept == length) {
            return Ok(0);
        }
        uses.iter_mut().for_each(|used| used.is_there = true);
        Ok(length)
    }

    fn compare_part(&self, item: &Item, old: u64, uses: &mut [Use]) -> Result<u64> {
        let Ok(file) = self.folder.reader(&item.entry.key) else { return Ok(0) };
        let (mut buffer, mut same) = (Vec::new(), 0);
        for used in uses.iter_mut().filter(|used| used.offset.saturating_add(u64::from(used.length)) <= old) {
            used.is_there = has_chunk(&file, used.offset, used.length, &used.id, self.ids, &mut buffer)?;
            same += if used.is_there { u64::from(used.length) } else { 0 };
        }
        Ok(same)
    }
}

/// Whether a file has this chunk at `offset`; what cannot be read is not there.
pub(super) fn has_chunk(file: &OutputFile, offset: u64, length: u32, id: &ChunkId, ids: &ChunkIds, buffer: &mut Vec<u8>) -> Result<bool> {
    buffer.resize(length as usize, 0);
    Ok(file.read_at(offset, buffer).is_ok_and(|read| read == buffer.len()) && ids.id_of(ChunkKind::Data, buffer)? == *id)
}

//! What was added since the last flush, in memory.

use super::fault::Result;
use super::folder::Folder;
use super::record::{self, IdRecord, PlaceRecord};
use super::record_file::{RecordFile, RecordFileWriter};
use super::run::{ChunkRun, Entry, RunWriter, key_of};
use crate::format::FrameRecord;
use std::collections::BTreeSet;
use std::ops::Range;

/// What is not in a file yet, sorted.
#[derive(Debug, Default)]
pub(super) struct Young {
    chunks: BTreeSet<Entry>,
    ids: BTreeSet<IdRecord>,
    places: Vec<PlaceRecord>,
}

impl Young {
    /// Adds the frame of that ordinal, sealed by the session of that number, at `offset` in the pack of that number; frames come in the order of
    /// their ordinals.
    pub(super) fn add(&mut self, (ordinal, session, pack): (u32, u32, u32), frame: &FrameRecord, offset: u64) {
        self.chunks.extend(frame.chunks.iter().map(|id| Entry { key: key_of(id), pack }));
        self.ids.insert(record::id_record(session, frame.id.number, ordinal));
        self.places.push(record::place_record(session, frame, offset));
    }

    /// Entries of chunks held.
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Frames held.
    pub(super) fn frames(&self) -> usize {
        self.places.len()
    }

    /// The packs that have a chunk of this key.
    pub(super) fn packs_of(&self, key: u64) -> impl Iterator<Item = u32> + '_ {
        self.chunks.range(Entry { key, pack: 0 }..=Entry { key, pack: u32::MAX }).map(|entry| entry.pack)
    }

    /// Calls `visit` with each record of the frames that have these [`record::id_key`]s, and with the number of that key.
    pub(super) fn for_each_id_of_all(&self, keys: impl Iterator<Item = [u8; 8]>, mut visit: impl FnMut(usize, &IdRecord)) {
        if self.ids.is_empty() {
            return;
        }
        for (number, key) in keys.enumerate() {
            let (mut first, mut last) = ([0; 12], [0xff; 12]);
            first[..8].copy_from_slice(&key);
            last[..8].copy_from_slice(&key);
            self.ids.range(first..=last).for_each(|record| visit(number, record));
        }
    }

    /// The record of the frame that was added as number `at`.
    pub(super) fn place(&self, at: u32) -> Option<&PlaceRecord> {
        self.places.get(at as usize)
    }

    /// Writes everything into files numbered from `number`, four at most; the packs have the numbers `packs`.
    pub(super) fn write(&self, folder: &Folder, number: u64, packs: Range<u32>) -> Result<YoungFiles> {
        let mut writer = RunWriter::create(folder, number, self.chunks.len() as u64)?;
        self.chunks.iter().try_for_each(|entry| writer.push(*entry))?;
        Ok(YoungFiles {
            chunks: writer.finish(packs)?,
            ids: write_records(folder, number + 2, self.ids.iter())?,
            places: write_records(folder, number + 3, self.places.iter())?,
        })
    }
}

/// The files that a flush makes; `None` where there is nothing to hold.
#[derive(Debug)]
pub(super) struct YoungFiles {
    pub(super) chunks: Option<ChunkRun>,
    pub(super) ids: Option<RecordFile<12>>,
    pub(super) places: Option<RecordFile<28>>,
}

fn write_records<'a, const N: usize>(
    folder: &Folder,
    number: u64,
    records: impl Iterator<Item = &'a [u8; N]>,
) -> Result<Option<RecordFile<N>>> {
    let mut writer = RecordFileWriter::create(folder, number)?;
    for record in records {
        writer.push(record)?;
    }
    Ok(writer.finish()?)
}

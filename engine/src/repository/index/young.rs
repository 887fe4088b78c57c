//! What was added since the last flush, in memory.

use super::fault::Result;
use super::folder::Folder;
use super::record::{self, ChunkRecord, IdRecord, PlaceRecord};
use super::record_file::{RecordFile, RecordFileWriter};
use crate::format::FrameRecord;
use crate::id::{ChunkId, DomainId, FrameId};
use std::collections::BTreeSet;

/// Sorted records that are not in a file yet.
#[derive(Debug, Default)]
pub(super) struct Young {
    chunks: BTreeSet<ChunkRecord>,
    ids: BTreeSet<IdRecord>,
    places: Vec<PlaceRecord>,
}

impl Young {
    /// Adds the frame of that ordinal; frames come in the order of their ordinals.
    pub(super) fn add(&mut self, ordinal: u32, frame: &FrameRecord, domain: DomainId, offset: u64) {
        for (position, id) in (0..).zip(&frame.chunks) {
            self.chunks.insert(record::chunk_record(id, ordinal, position));
        }
        self.ids.insert(record::id_record(frame.id, ordinal));
        self.places.push(record::place_record(frame, domain, offset));
    }

    /// Chunks held.
    pub(super) fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// Frames held.
    pub(super) fn frames(&self) -> usize {
        self.places.len()
    }

    pub(super) fn chunks_of(&self, id: &ChunkId) -> impl Iterator<Item = &ChunkRecord> {
        self.chunks.range(record::chunk_record(id, 0, 0)..=record::chunk_record(id, u32::MAX, u32::MAX))
    }

    pub(super) fn ids_of(&self, id: FrameId) -> impl Iterator<Item = &IdRecord> {
        self.ids.range(record::id_record(id, 0)..=record::id_record(id, u32::MAX))
    }

    /// The record of the frame that was added as number `at`.
    pub(super) fn place(&self, at: u32) -> Option<&PlaceRecord> {
        self.places.get(at as usize)
    }

    /// Writes everything into three files numbered from `number`.
    pub(super) fn write(&self, folder: &Folder, number: u64) -> Result<YoungFiles> {
        Ok(YoungFiles {
            chunks: write_records(folder, number, self.chunks.iter())?,
            ids: write_records(folder, number + 1, self.ids.iter())?,
            places: write_records(folder, number + 2, self.places.iter())?,
        })
    }
}

/// The files that a flush makes; `None` where there is nothing to hold.
#[derive(Debug)]
pub(super) struct YoungFiles {
    pub(super) chunks: Option<RecordFile<40>>,
    pub(super) ids: Option<RecordFile<24>>,
    pub(super) places: Option<RecordFile<88>>,
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

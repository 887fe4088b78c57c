//! Adding, flushing, merging, numbering anew, saving.
//!
//! Everything here runs under the writer's lock. Files are made while look-ups go on with the old ones; the state is
//! locked only to put in what is ready. A file that the saved manifest names stays until another manifest is saved.

use super::fault::Result;
use super::folder::Folder;
use super::merge::{join, merge_from, merge_ids, merge_runs};
use super::record_file::RecordFile;
use super::run::ChunkRun;
use super::state::Files;
use super::young::Young;
use super::{LookupIndex, PACK_HEADER_LENGTH, manifest};
use crate::backend::ObjectKind;
use crate::format::ContentsTable;
use crate::id::{DomainId, PackId, SessionId};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What only the one who changes the index needs.
#[derive(Debug)]
pub(super) struct Writer {
    number_next: u64,
    /// Files that the saved manifest names.
    saved: HashSet<u64>,
    /// Those of them that are no longer used.
    obsolete: Vec<u64>,
    /// Something changed since the manifest was saved.
    is_dirty: bool,
}

impl Writer {
    pub(super) fn new(number_next: u64, saved: impl Iterator<Item = u64>) -> Self {
        Self { number_next, saved: saved.collect(), obsolete: Vec::new(), is_dirty: false }
    }

    #[cfg(test)]
    pub(super) fn number_next(&self) -> u64 {
        self.number_next
    }

    pub(super) fn is_saved(&self, number: u64) -> bool {
        self.saved.contains(&number)
    }

    /// The first of `count` new file numbers.
    fn numbers(&mut self, count: u64) -> u64 {
        let first = self.number_next;
        self.number_next += count;
        first
    }

    fn retire<const N: usize>(&mut self, folder: &Folder, files: &[Arc<RecordFile<N>>]) {
        self.retire_numbers(folder, files.iter().map(|file| file.name().number));
    }

    fn retire_runs(&mut self, folder: &Folder, runs: &[Arc<ChunkRun>]) {
        self.retire_numbers(folder, runs.iter().flat_map(|run| [run.name().number, run.name().number + 1]));
    }

    /// Removes files that were replaced, now or with the next manifest.
    fn retire_numbers(&mut self, folder: &Folder, numbers: impl Iterator<Item = u64>) {
        for number in numbers {
            if self.is_saved(number) {
                self.obsolete.push(number);
            } else {
                folder.remove(number);
            }
        }
    }
}

impl LookupIndex {
    pub(super) fn add(
        &self,
        writer: &mut Writer,
        kind: ObjectKind,
        pack: PackId,
        table: &ContentsTable,
        domain_of: impl Fn(SessionId) -> DomainId,
    ) -> Result<()> {
        if self.state.read().packs.contains(kind, pack) {
            return Ok(());
        }
        let mut guard = self.state.write();
        let state = &mut *guard;
        let number = state.packs.len();
        let first = state.packs.add(kind, pack, table)?;
        writer.is_dirty = true;
        let mut offset = PACK_HEADER_LENGTH;
        for (ordinal, frame) in (first..).zip(&table.frames) {
            let session = state.sessions.add(frame.id.session, || domain_of(frame.id.session));
            state.young.add((ordinal, session, number), frame, offset);
            offset += u64::from(frame.sealed_length);
        }
        let is_full = state.young.chunks() >= self.young_chunks_max || state.young.frames() >= self.young_chunks_max;
        drop(guard);
        self.tables.insert(self.state.read().table_added((kind, pack), table));
        if is_full { self.flush(writer) } else { Ok(()) }
    }

    pub(super) fn remove(&self, writer: &mut Writer, packs: &HashSet<(ObjectKind, PackId)>) {
        let mut state = self.state.write();
        for &(kind, pack) in packs {
            writer.is_dirty |= state.packs.remove(kind, pack);
        }
    }

    /// Moves what is in memory into files, and merges where there are too many.
    fn flush(&self, writer: &mut Writer) -> Result<()> {
        if self.state.read().young.frames() > 0 {
            let files = {
                let state = self.state.read();
                let first = state.chunks.last().map_or(0, |run| run.name().packs.end);
                state.young.write(&self.folder, writer.numbers(4), first..state.packs.len())?
            };
            let mut state = self.state.write();
            state.chunks.extend(files.chunks.map(Arc::new));
            state.ids.extend(files.ids.map(Arc::new));
            state.places.extend(files.places.map(Arc::new));
            state.young = Young::default();
        }
        self.merge(writer)
    }

    fn merge(&self, writer: &mut Writer) -> Result<()> {
        let (chunks, ids, places) = self.files();
        if let Some(from) = merge_from(chunks.iter().map(|run| run.len())) {
            let old = &chunks[from..];
            let new = {
                let packs = &self.state.read().packs;
                merge_runs(&self.folder, writer.numbers(2), old, packs_of(old), |number| packs.get(number).map(|_| number))?
            };
            self.state.write().chunks.splice(from.., new.map(Arc::new));
            writer.retire_runs(&self.folder, old);
        }
        if let Some(from) = merge_from(lengths(&ids)) {
            let old = &ids[from..];
            let new = {
                let packs = &self.state.read().packs;
                merge_ids(&self.folder, writer.numbers(1), old, |ordinal| packs.of_ordinal(ordinal).map(|_| ordinal))?
            };
            self.state.write().ids.splice(from.., new.map(Arc::new));
            writer.retire(&self.folder, old);
        }
        if let Some(from) = merge_from(lengths(&places)) {
            let old = &places[from..];
            let new = join(&self.folder, writer.numbers(1), old, |_| true)?;
            self.state.write().places.splice(from.., new.map(Arc::new));
            writer.retire(&self.folder, old);
        }
        Ok(())
    }

    /// Gives out ordinals anew where more than half of them belong to packs that are no longer listed.
    fn compact(&self, writer: &mut Writer) -> Result<()> {
        let (chunks, ids, places) = self.files();
        let (packs, chunks_new, ids_new, places_new) = {
            let state = self.state.read();
            let listed = state.packs.frames_listed();
            if state.packs.frames() - listed <= listed {
                return Ok(());
            }
            let packs = state.packs.compacted();
            let renumber = |ordinal| state.packs.ordinal_in(&packs, ordinal);
            let number = writer.numbers(4);
            let chunks = merge_runs(&self.folder, number, &chunks, 0..packs.len(), |number| state.packs.number_in(&packs, number))?;
            let ids = merge_ids(&self.folder, number + 2, &ids, renumber)?;
            let places = join(&self.folder, number + 3, &places, |ordinal| renumber(ordinal).is_some())?;
            (packs, chunks, ids, places)
        };
        let mut state = self.state.write();
        state.packs = packs;
        state.chunks = chunks_new.map(Arc::new).into_iter().collect();
        state.ids = ids_new.map(Arc::new).into_iter().collect();
        state.places = places_new.map(Arc::new).into_iter().collect();
        drop(state);
        writer.retire_runs(&self.folder, &chunks);
        writer.retire(&self.folder, &ids);
        writer.retire(&self.folder, &places);
        Ok(())
    }

    pub(super) fn save_to_folder(&self, writer: &mut Writer) -> Result<()> {
        // Nobody opens a temporary one again.
        if !writer.is_dirty || self.is_temporary() || self.is_discarded.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.flush(writer)?;
        self.compact(writer)?;
        let state = self.state.read();
        let bytes = manifest::encode(self.repository, writer.number_next, &state);
        self.folder.write_manifest(&bytes)?;
        writer.saved = state.file_numbers().collect();
        for number in writer.obsolete.drain(..) {
            self.folder.remove(number);
        }
        writer.is_dirty = false;
        Ok(())
    }

    fn files(&self) -> (Vec<Arc<ChunkRun>>, Files<12>, Files<28>) {
        let state = self.state.read();
        (state.chunks.clone(), state.ids.clone(), state.places.clone())
    }
}

/// The packs of runs that follow one another.
fn packs_of(runs: &[Arc<ChunkRun>]) -> Range<u32> {
    runs.first().map_or(0, |run| run.name().packs.start)..runs.last().map_or(0, |run| run.name().packs.end)
}

fn lengths<const N: usize>(files: &Files<N>) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator + '_ {
    files.iter().map(|file| file.len())
}

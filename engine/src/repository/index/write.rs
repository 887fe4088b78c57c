//! Adding, flushing, merging, numbering anew, saving.
//!
//! Everything here runs under the writer's lock. Files are made while look-ups go on with the old ones; the state is
//! locked only to put in what is ready. A file that the saved manifest names stays until another manifest is saved.

use super::fault::Result;
use super::folder::Folder;
use super::merge::{join, merge_from, merge_sorted};
use super::record_file::RecordFile;
use super::state::{Files, State};
use super::young::Young;
use super::{LookupIndex, PACK_HEADER_LENGTH, manifest};
use crate::backend::ObjectKind;
use crate::format::ContentsTable;
use crate::id::{DomainId, PackId, SessionId};
use std::collections::HashSet;
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

    pub(super) fn is_saved(&self, number: u64) -> bool {
        self.saved.contains(&number)
    }

    /// The first of `count` new file numbers.
    fn numbers(&mut self, count: u64) -> u64 {
        let first = self.number_next;
        self.number_next += count;
        first
    }

    /// Removes files that were replaced, now or with the next manifest.
    fn retire<const N: usize>(&mut self, folder: &Folder, files: &[Arc<RecordFile<N>>]) {
        for number in files.iter().map(|file| file.name().number) {
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
        let mut state = self.state.write();
        if state.packs.contains(kind, pack) {
            return Ok(());
        }
        let first = state.packs.add(kind, pack, table.frames.len())?;
        writer.is_dirty = true;
        let mut offset = PACK_HEADER_LENGTH;
        for (ordinal, frame) in (first..).zip(&table.frames) {
            state.young.add(ordinal, frame, domain_of(frame.id.session), offset);
            offset += u64::from(frame.sealed_length);
        }
        let is_full = state.young.chunks() >= self.young_chunks_max || state.young.frames() >= self.young_chunks_max;
        drop(state);
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
            let files = self.state.read().young.write(&self.folder, writer.numbers(3))?;
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
        if let Some(from) = merge_from(lengths(&chunks)) {
            let old = &chunks[from..];
            let new = {
                let packs = &self.state.read().packs;
                merge_sorted(&self.folder, writer.numbers(1), old, |ordinal| packs.of_ordinal(ordinal).map(|_| ordinal))?
            };
            self.state.write().chunks.splice(from.., new.map(Arc::new));
            writer.retire(&self.folder, old);
        }
        if let Some(from) = merge_from(lengths(&ids)) {
            let old = &ids[from..];
            let new = {
                let packs = &self.state.read().packs;
                merge_sorted(&self.folder, writer.numbers(1), old, |ordinal| packs.of_ordinal(ordinal).map(|_| ordinal))?
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
        let new = {
            let state = self.state.read();
            let listed = state.packs.frames_listed();
            if state.packs.frames() - listed <= listed {
                return Ok(());
            }
            let packs = state.packs.compacted();
            let renumber = |ordinal| state.packs.ordinal_in(&packs, ordinal);
            let number = writer.numbers(3);
            State {
                chunks: merge_sorted(&self.folder, number, &chunks, renumber)?.map(Arc::new).into_iter().collect(),
                ids: merge_sorted(&self.folder, number + 1, &ids, renumber)?.map(Arc::new).into_iter().collect(),
                places: join(&self.folder, number + 2, &places, |ordinal| renumber(ordinal).is_some())?.map(Arc::new).into_iter().collect(),
                packs,
                young: Young::default(),
            }
        };
        *self.state.write() = new;
        writer.retire(&self.folder, &chunks);
        writer.retire(&self.folder, &ids);
        writer.retire(&self.folder, &places);
        Ok(())
    }

    pub(super) fn save_to_folder(&self, writer: &mut Writer) -> Result<()> {
        if !writer.is_dirty || self.is_discarded.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.flush(writer)?;
        self.compact(writer)?;
        if self.is_temporary() {
            return Ok(());
        }
        let state = self.state.read();
        let bytes = manifest::encode(self.repository, writer.number_next, &state.packs, state.file_names());
        self.folder.write_manifest(&bytes)?;
        writer.saved = state.file_numbers().collect();
        for number in writer.obsolete.drain(..) {
            self.folder.remove(number);
        }
        writer.is_dirty = false;
        Ok(())
    }

    fn files(&self) -> (Files<40>, Files<24>, Files<88>) {
        let state = self.state.read();
        (state.chunks.clone(), state.ids.clone(), state.places.clone())
    }
}

fn lengths<const N: usize>(files: &Files<N>) -> impl DoubleEndedIterator<Item = u64> + ExactSizeIterator + '_ {
    files.iter().map(|file| file.len())
}

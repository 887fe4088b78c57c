//! What look-ups read.

use super::fault::{Fault, Result};
use super::folder::Folder;
use super::packs::PackTable;
use super::record::{self, ChunkRecord, IdRecord, PlaceRecord};
use super::record_file::{FileName, RecordFile};
use super::young::Young;
use super::{ChunkPlace, FrameOrdinal, FramePlace, IndexSize, manifest};
use crate::id::{ChunkId, DomainId, FrameId, RepositoryId};
use std::sync::Arc;

/// Files of one family, oldest first.
pub(super) type Files<const N: usize> = Vec<Arc<RecordFile<N>>>;

/// The packs, the files, and what is not in files yet.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) packs: PackTable,
    pub(super) chunks: Files<{ size_of::<ChunkRecord>() }>,
    pub(super) ids: Files<{ size_of::<IdRecord>() }>,
    /// By ordinal: the first file begins with ordinal 0, each of the others where the one before ends, `young` after the last.
    pub(super) places: Files<{ size_of::<PlaceRecord>() }>,
    pub(super) young: Young,
}

impl State {
    /// What the folder holds for `repository`, with the next free file number; `None` where any part of it is in doubt.
    pub(super) fn load(folder: &Folder, repository: RepositoryId) -> Option<(Self, u64)> {
        let bytes = folder.read_manifest().ok()??;
        let manifest = manifest::decode(&bytes, repository)?;
        let state = Self {
            chunks: open_all(folder, manifest.chunks)?,
            ids: open_all(folder, manifest.ids)?,
            places: open_all(folder, manifest.places)?,
            packs: manifest.packs,
            young: Young::default(),
        };
        let places: u64 = state.places.iter().map(|file| file.len()).sum();
        (places == u64::from(state.packs.frames())).then_some((state, manifest.number_next))
    }

    pub(super) fn lookup(&self, id: &ChunkId, domain: DomainId) -> Result<Option<ChunkPlace>> {
        let mut best: Option<(ChunkPlace, FramePlace)> = None;
        self.visit_chunk(id, |place, frame| {
            let is_better = || best.as_ref().is_none_or(|(place_best, frame_best)| key(&place, &frame) < key(place_best, frame_best));
            if frame.domain == domain && is_better() {
                best = Some((place, frame));
            }
        })?;
        Ok(best.map(|(place, _)| place))
    }

    pub(super) fn places_of(&self, id: &ChunkId) -> Result<Vec<ChunkPlace>> {
        let mut places = Vec::new();
        self.visit_chunk(id, |place, frame| places.push((place, frame)))?;
        places.sort_unstable_by_key(|(place, frame)| key(place, frame));
        Ok(places.into_iter().map(|(place, _)| place).collect())
    }

    fn visit_chunk(&self, id: &ChunkId, mut visit: impl FnMut(ChunkPlace, FramePlace)) -> Result<()> {
        let mut visit_record = |record: &ChunkRecord| {
            let (ordinal, position) = record::chunk_place(record);
            if let Some(frame) = self.frame(ordinal)? {
                visit(ChunkPlace { frame: frame.id, position, ordinal: frame.ordinal }, frame);
            }
            Ok(())
        };
        self.young.chunks_of(id).try_for_each(&mut visit_record)?;
        self.chunks.iter().try_for_each(|file| file.for_each_of(id.as_bytes(), &mut visit_record))
    }

    pub(super) fn ordinal_of(&self, id: FrameId) -> Result<Option<FrameOrdinal>> {
        let mut best = None;
        let mut visit = |record: &IdRecord| {
            let ordinal = record::id_ordinal(record);
            if let Some(pack) = self.packs.of_ordinal(ordinal) {
                let found = (pack.kind, pack.id, ordinal);
                best = Some(best.map_or(found, |best| found.min(best)));
            }
            Ok(())
        };
        self.young.ids_of(id).try_for_each(&mut visit)?;
        let key = record::id_key(id);
        self.ids.iter().try_for_each(|file| file.for_each_of(&key, &mut visit))?;
        Ok(best.map(|(_, _, ordinal)| FrameOrdinal(ordinal)))
    }

    pub(super) fn frame(&self, ordinal: u32) -> Result<Option<FramePlace>> {
        let Some(pack) = self.packs.of_ordinal(ordinal) else { return Ok(None) };
        let record = self.place_record(ordinal)?;
        Ok(Some(record::frame_place(record, FrameOrdinal(ordinal), pack.id, pack.kind)))
    }

    fn place_record(&self, ordinal: u32) -> Result<&PlaceRecord> {
        let mut at = u64::from(ordinal);
        for file in &self.places {
            if at < file.len() {
                return file.get(at);
            }
            at -= file.len();
        }
        // `at` came from an ordinal and only became smaller.
        self.young.place(at as u32).ok_or_else(|| Fault::Torn(format!("nothing is known of frame {ordinal}")))
    }

    /// The numbers of all files.
    pub(super) fn file_numbers(&self) -> impl Iterator<Item = u64> + '_ {
        let chunks = self.chunks.iter().map(|file| file.name().number);
        let ids = self.ids.iter().map(|file| file.name().number);
        chunks.chain(ids).chain(self.places.iter().map(|file| file.name().number))
    }

    /// The names of all files, family by family.
    pub(super) fn file_names(&self) -> [Vec<FileName>; 3] {
        [
            self.chunks.iter().map(|file| file.name()).collect(),
            self.ids.iter().map(|file| file.name()).collect(),
            self.places.iter().map(|file| file.name()).collect(),
        ]
    }

    pub(super) fn size(&self) -> IndexSize {
        let chunks_young = self.young.chunks() as u64;
        let file_bytes = |names: &[FileName], record: usize| names.iter().map(|name| name.records * record as u64).sum::<u64>();
        let [chunks, ids, places] = self.file_names();
        IndexSize {
            packs: self.packs.listed().len(),
            frames: u64::from(self.packs.frames_listed()),
            chunks: chunks_young + chunks.iter().map(|name| name.records).sum::<u64>(),
            chunks_young,
            files: chunks.len() + ids.len() + places.len(),
            file_bytes: file_bytes(&chunks, size_of::<ChunkRecord>())
                + file_bytes(&ids, size_of::<IdRecord>())
                + file_bytes(&places, size_of::<PlaceRecord>()),
        }
    }
}

/// What decides between several places of one chunk.
fn key(place: &ChunkPlace, frame: &FramePlace) -> impl Ord + use<> {
    (place.frame, place.position, frame.kind, frame.pack, place.ordinal)
}

fn open_all<const N: usize>(folder: &Folder, names: Vec<FileName>) -> Option<Files<N>> {
    // A folder holds a few dozen files of a family at most; more than that would be no manifest of ours.
    const FILES_MAX: usize = 1000;
    if names.len() > FILES_MAX {
        return None;
    }
    names.into_iter().map(|name| RecordFile::open(folder, name).ok().map(Arc::new)).collect()
}

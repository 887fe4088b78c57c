//! What look-ups read.

use super::fault::{Fault, Result};
use super::folder::Folder;
use super::packs::{self, Pack, PackTable};
use super::record::{self, IdRecord, PlaceRecord};
use super::record_file::RecordFile;
use super::run::ChunkRun;
use super::sessions::SessionTable;
use super::tables::Table;
use super::young::Young;
use super::{FrameOrdinal, FramePlace, IndexSize, manifest};
use crate::backend::ObjectKind;
use crate::error::{Error, ErrorKind};
use crate::format::ContentsTable;
use crate::id::{DomainId, FrameId, PackId, RepositoryId};
use std::io;
use std::sync::Arc;

/// Files of one family, oldest first.
pub(super) type Files<const N: usize> = Vec<Arc<RecordFile<N>>>;

/// The packs, the files, and what is not in files yet.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) sessions: SessionTable,
    pub(super) packs: PackTable,
    /// Each with the packs that were added after those of the one before; `young` has the rest.
    pub(super) chunks: Vec<Arc<ChunkRun>>,
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
            chunks: open_all(manifest.chunks, |name| ChunkRun::open(folder, name))?,
            ids: open_all(manifest.ids, |name| RecordFile::open(folder, name))?,
            places: open_all(manifest.places, |name| RecordFile::open(folder, name))?,
            sessions: manifest.sessions,
            packs: manifest.packs,
            young: Young::default(),
        };
        let places: u64 = state.places.iter().map(|file| file.len()).sum();
        (places == u64::from(state.packs.frames())).then_some((state, manifest.number_next))
    }

    /// The listed packs that may have a chunk of this key; `known` is one that has, if it is listed, and is not looked for again.
    pub(super) fn packs_of(&self, key: u64, known: Option<(ObjectKind, PackId)>) -> Result<Vec<Pack>> {
        let known = known.and_then(|(kind, id)| self.packs.number_of(kind, id));
        let mut numbers = Vec::from_iter(known);
        let mut add = |number: u32| {
            if Some(number) != known {
                numbers.push(number);
            }
        };
        self.young.packs_of(key).for_each(&mut add);
        for run in &self.chunks {
            let is_known = known.is_some_and(|known| run.name().packs.contains(&known));
            run.for_each_pack(key, is_known, &mut add)?;
        }
        Ok(numbers.into_iter().filter_map(|number| self.packs.get(number).copied()).collect())
    }

    /// The table of a listed pack, which must be the one that was added.
    pub(super) fn table_of(&self, (kind, id): (ObjectKind, PackId), contents: &ContentsTable) -> std::result::Result<Table, Error> {
        let pack = self.packs.number_of(kind, id).and_then(|number| self.packs.get(number));
        let pack = pack.ok_or_else(|| Error::new(ErrorKind::NotFound, format!("pack {id} is no longer listed")))?;
        if contents.frames.len() != pack.frames as usize || packs::digest(contents) != pack.digest {
            return Err(Error::new(ErrorKind::Damaged, format!("pack {id} does not hold what it held when it was indexed")));
        }
        Ok(self.table_added((kind, id), contents))
    }

    /// The table of a pack that was just added.
    pub(super) fn table_added(&self, pack: (ObjectKind, PackId), contents: &ContentsTable) -> Table {
        let domain_of =
            |id: FrameId| self.sessions.number_of(id.session).and_then(|number| self.sessions.get(number)).map(|(_, domain)| *domain);
        // Every session of a pack that was added has a number.
        Table::new(pack, contents, contents.frames.iter().map(|frame| domain_of(frame.id).unwrap_or(DomainId([0xff; 16]))))
    }

    /// Adds the ordinal of each frame, in their order, and those of other copies with the position of their frame. Frames of one session that come in the
    /// order of their numbers are looked for together.
    pub(super) fn copies_of(
        &self,
        frames: &[FrameId],
        ordinals: &mut Vec<Option<FrameOrdinal>>,
        others: &mut Vec<(usize, FrameOrdinal)>,
    ) -> Result<()> {
        for stretch in frames.chunk_by(|one, next| one.session == next.session && one.number < next.number) {
            let start = ordinals.len();
            ordinals.resize(start + stretch.len(), None);
            let Some(session) = self.sessions.number_of(stretch[0].session) else { continue };
            let best = &mut ordinals[start..];
            let mut visit = |at: usize, record: &IdRecord| {
                let other = FrameOrdinal(record::ordinal_of(record));
                let first = self.first_of(best[at], other);
                // The one that is not the first, if it is listed.
                let second = if first == Some(other) { best[at] } else { Some(other) };
                others.extend(second.filter(|second| self.packs.of_ordinal(second.0).is_some()).map(|second| (start + at, second)));
                best[at] = first;
            };
            let keys = stretch.iter().map(|frame| record::id_key(session, frame.number));
            self.young.for_each_id_of_all(keys.clone(), &mut visit);
            self.ids.iter().try_for_each(|file| file.for_each_of_all(keys.clone(), &mut visit))?;
        }
        Ok(())
    }

    /// Of two copies of a frame the one in the listed pack with the lowest kind and id.
    fn first_of(&self, known: Option<FrameOrdinal>, other: FrameOrdinal) -> Option<FrameOrdinal> {
        let Some(pack) = self.packs.of_ordinal(other.0) else { return known };
        let of_known = known.and_then(|known| Some((known, self.packs.of_ordinal(known.0)?)));
        match of_known {
            Some((known, known_pack)) if (known_pack.kind, known_pack.id, known.0) < (pack.kind, pack.id, other.0) => Some(known),
            _ => Some(other),
        }
    }

    pub(super) fn frame(&self, ordinal: u32) -> Result<Option<FramePlace>> {
        let Some(pack) = self.packs.of_ordinal(ordinal) else { return Ok(None) };
        let place = record::frame_place(self.place_record(ordinal)?, FrameOrdinal(ordinal), pack, &self.sessions);
        place.map(Some).ok_or_else(|| Fault::Torn(format!("nothing is known of the session of frame {ordinal}")))
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
        let chunks = self.chunks.iter().flat_map(|run| [run.name().number, run.name().number + 1]);
        let ids = self.ids.iter().map(|file| file.name().number);
        chunks.chain(ids).chain(self.places.iter().map(|file| file.name().number))
    }

    pub(super) fn size(&self) -> IndexSize {
        let chunks_young = self.young.chunks() as u64;
        let ids: u64 = self.ids.iter().map(|file| file.bytes()).sum();
        let places: u64 = self.places.iter().map(|file| file.bytes()).sum();
        IndexSize {
            packs: self.packs.listed().len(),
            frames: u64::from(self.packs.frames_listed()),
            chunks: chunks_young + self.chunks.iter().map(|run| run.len()).sum::<u64>(),
            chunks_young,
            files: self.file_numbers().count(),
            file_bytes: self.chunks.iter().map(|run| run.name().bytes()).sum::<u64>() + ids + places,
        }
    }
}

/// Opens the files that a manifest names.
fn open_all<N, F>(names: Vec<N>, open: impl Fn(N) -> io::Result<F>) -> Option<Vec<Arc<F>>> {
    // A folder holds a few dozen files of a family at most; more than that would be no manifest of ours.
    const FILES_MAX: usize = 1000;
    if names.len() > FILES_MAX {
        return None;
    }
    names.into_iter().map(|name| open(name).ok().map(Arc::new)).collect()
}

//! The local lookup index: which frames hold a chunk, and where frames lie.
//!
//! A cache outside the format, built from contents tables: losing it costs time, never data, and its files may change with any
//! release. Whatever looks wrong with them makes it start empty.
//!
//! - Every pack has a number, and every frame in it an *ordinal*. A frame that lies in several packs (copies) has one for each.
//! - *Runs* hold 48 bits of each chunk id and the number of the pack, sorted, with a byte of filter for each chunk (`run`). That finds the pack.
//!   What is answered comes out of the pack's contents table, where the whole id stands (`tables`). So a chunk takes eight bytes of disk, and
//!   what is resident is the filter: one byte for each chunk.
//! - Two families of immutable files hold records of frames, sorted: identity to ordinal, and by ordinal what is known of the frame
//!   (`record_file`). They are read through memory maps.
//! - In memory are some words for each pack and each session, the tables that were of use last, and what was added since the last flush; these
//!   two have limits.
//! - Files are merged so that there are logarithmically many. A pack that is no longer listed is filtered out of every answer
//!   at once; its records go with the merges.
//! - A manifest names the files and their hashes. What it does not name does not exist; what does not match it is not believed.
//!
//! Look-ups run side by side from any number of threads and with one thread that adds.

mod fault;
mod filter;
mod folder;
mod manifest;
mod merge;
mod packs;
mod record;
mod record_file;
mod run;
mod search;
mod sessions;
mod spool;
mod state;
mod tables;
mod write;
mod young;

use crate::backend::ObjectKind;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{BaseRange, ContentsTable};
use crate::id::{ChunkId, DomainId, FrameId, PackId, RepositoryId, SessionId};
use fault::Fault;
use folder::Folder;
use packs::Pack;
use parking_lot::{Mutex, RwLock};
pub use spool::Spool;
use state::State;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
pub use tables::{ContentsSource, Fingerprint};
use tables::{Table, TableCache};
use write::Writer;

/// Bytes of a pack before its first frame.
const PACK_HEADER_LENGTH: u64 = 64;
/// How many chunks (or frames) are kept in memory before they are written to a file, unless told otherwise.
const YOUNG_CHUNKS_MAX: usize = 200_000;
/// Bytes of contents tables that are kept, unless told otherwise: those of some 200,000 chunks.
pub(crate) const TABLES_BYTES_MAX: usize = 8 << 20;
/// What should be kept of them where there is memory for it: where each of many backups stored a little of what is looked for, the tables of all of them are of use by turns, and
/// one that is not kept costs a thousand times a look. Those of 30 backups of a database of 1.5 GB take 14 MiB.
pub(crate) const TABLES_BYTES_WANTED: usize = 16 << 20;

/// A frame in a pack, as the index numbers them.
///
/// Valid for one [`LookupIndex`] value until its next [`LookupIndex::save`], which may number anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameOrdinal(u32);

impl FrameOrdinal {
    /// The frame with this number.
    pub(crate) fn of(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

/// Where a chunk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkPlace {
    /// The frame's identity.
    pub frame: FrameId,
    /// Which of the frame's chunks it is, from 0.
    pub position: u32,
    /// The frame as the index numbers it.
    pub ordinal: FrameOrdinal,
    /// The dedup domain of the session that sealed it.
    pub domain: DomainId,
    /// Whether the frame is compressed against others, which are needed to read it.
    pub has_bases: bool,
}

/// Where a chunk stands in listed packs, as far as their contents tables can be had.
#[derive(Debug, Default)]
pub struct ChunkPlaces {
    /// Every place, of any domain, in ascending order of frame identity; of a frame that was copied, one for each copy.
    pub found: Vec<ChunkPlace>,
    /// Packs that hold it too by what the index knows, and why they cannot be asked. Each is named by its first frame.
    pub unread: Vec<(FrameOrdinal, Error)>,
}

/// Where a frame lies, and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramePlace {
    /// The frame as the index numbers it.
    pub ordinal: FrameOrdinal,
    /// Its identity.
    pub id: FrameId,
    /// The dedup domain of the session that sealed it.
    pub domain: DomainId,
    /// The kind of pack that it lies in.
    pub kind: ObjectKind,
    /// The pack.
    pub pack: PackId,
    /// Where it begins in the pack, in bytes.
    pub offset: u64,
    /// Bytes in the pack, tag included.
    pub sealed_length: u32,
    /// Bytes once opened and decompressed, chunk lengths included.
    pub plaintext_length: u32,
    /// How many chunks it has.
    pub chunk_count: u32,
    /// Whether it is compressed against other frames ([`LookupIndex::bases_of`]).
    pub has_bases: bool,
}

/// How large an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexSize {
    /// Listed packs.
    pub packs: usize,
    /// Frames in listed packs, copies counted.
    pub frames: u64,
    /// Pairs of a chunk and a pack that has it, those of packs that are no longer listed included until a merge drops them.
    pub chunks: u64,
    /// Of these, those that are in memory only.
    pub chunks_young: u64,
    /// Files.
    pub files: usize,
    /// Bytes in these files.
    pub file_bytes: u64,
}

/// The local lookup index of one repository.
#[derive(Debug)]
pub struct LookupIndex {
    folder: Folder,
    repository: RepositoryId,
    young_chunks_max: usize,
    source: Arc<dyn ContentsSource>,
    tables: TableCache,
    /// What look-ups read. Written to for moments only, by the holder of `writer`.
    state: RwLock<State>,
    /// Taken by whoever changes anything; file work is done under it alone.
    writer: Mutex<Writer>,
    /// The files were found wanting; nothing is saved any more.
    is_discarded: AtomicBool,
    /// Data packs in which no chunk is found, although they are listed.
    passed_over: RwLock<HashSet<PackId>>,
    /// How often packs were taken out, from 1: what was found to stand before may have gone.
    removals: AtomicU32,
}

impl LookupIndex {
    /// Opens the index that `folder` caches for `repository`, or an empty one where the folder has none that can be trusted.
    ///
    /// The folder is made where it is missing, private to this user, and should hold nothing else. While another process has it, or
    /// without a folder, the index is a temporary one: empty at first and deleted at the end ([`LookupIndex::is_temporary`]).
    /// `source` gives again the contents tables of the packs that are added, by which answers are confirmed.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the folder cannot be made or read.
    pub fn open(folder: Option<&Path>, repository: RepositoryId, source: Arc<dyn ContentsSource>) -> Result<Self> {
        let folder = match folder {
            Some(path) => Folder::open(path)?,
            None => Folder::open_temporary()?,
        };
        let (state, number_next) = State::load(&folder, repository).unwrap_or_default();
        let writer = Writer::new(number_next, state.file_numbers());
        let failed = |error| Error::io(format!("the index cache in {}", folder.path().display()), error);
        folder.remove_unused(|number| writer.is_saved(number)).map_err(failed)?;
        Ok(Self {
            folder,
            repository,
            young_chunks_max: YOUNG_CHUNKS_MAX,
            source,
            tables: TableCache::new(TABLES_BYTES_MAX),
            state: RwLock::new(state),
            writer: Mutex::new(writer),
            is_discarded: AtomicBool::new(false),
            passed_over: RwLock::default(),
            removals: AtomicU32::new(1),
        })
    }

    /// Forgets what `folder` caches, so that it is built anew; false where another process uses it now.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the folder cannot be made or read.
    pub fn forget(folder: &Path) -> Result<bool> {
        let folder = Folder::open(folder)?;
        if !folder.is_temporary() {
            folder.remove_manifest();
        }
        Ok(!folder.is_temporary())
    }

    /// Keeps at most about `chunks` chunks in memory (at least 1) before writing them to a file; each takes about 20 bytes.
    #[must_use]
    pub fn with_young_chunks_max(mut self, chunks: usize) -> Self {
        self.young_chunks_max = chunks.max(1);
        self
    }

    /// Keeps at most about so many bytes of contents tables from the next one on, and at least one table; a chunk takes 40.
    pub fn set_tables_bytes_max(&self, bytes: usize) {
        self.tables.set_bytes_max(bytes);
    }

    /// Whether the index lies in a temporary folder.
    pub fn is_temporary(&self) -> bool {
        self.folder.is_temporary()
    }

    /// A place of the chunk in a listed pack, in a frame of `domain` whose bases, if it has any, stand in listed packs too (`DeltaWithBases`); neither in one that
    /// is passed over.
    ///
    /// Of several, the one with the lowest frame identity: what is found depends on what is listed, not on the history of the cache. A pack of
    /// which the contents table cannot be had counts as not listed.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the cache turns out to be damaged; it has then been dropped, and the next run builds it anew. What the
    /// source says where no table can be had.
    pub fn lookup(&self, id: &ChunkId, domain: DomainId) -> Result<Option<ChunkPlace>> {
        for place in self.places_of(id)?.found.into_iter().filter(|place| place.domain == domain) {
            if !place.has_bases || self.stands_on_bases(&place)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Whether every frame that the place's frame is compressed against stands in a listed pack that is not passed over.
    pub(crate) fn stands_on_bases(&self, place: &ChunkPlace) -> Result<bool> {
        let Some((table, at)) = self.table_frame(place.ordinal, place.frame)? else { return Ok(false) };
        let Some(frame) = table.frames.get(at) else { return Ok(false) };
        let removals = self.removals.load(Ordering::Relaxed);
        if frame.stood.load(Ordering::Relaxed) == removals {
            return Ok(true);
        }
        let mut before = None;
        for base in &frame.bases {
            if before != Some(base.frame) && !self.stands(base.frame)? {
                return Ok(false);
            }
            before = Some(base.frame);
        }
        // Packs that are added take no base away.
        frame.stood.store(removals, Ordering::Relaxed);
        Ok(true)
    }

    /// Whether a frame stands in a listed pack that is not passed over.
    fn stands(&self, id: FrameId) -> Result<bool> {
        let Some(ordinal) = self.ordinal_of(id)? else { return Ok(false) };
        Ok(self.frame(ordinal)?.is_some_and(|place| !self.is_passed_over(place.kind, place.pack)))
    }

    /// Whether nothing new may rely on what is in a pack.
    pub(crate) fn is_passed_over(&self, kind: ObjectKind, pack: PackId) -> bool {
        kind == ObjectKind::DataPack && self.passed_over.read().contains(&pack)
    }

    /// The table of the pack in which a frame lies, and which of its frames it is; `None` where the pack is no longer listed.
    fn table_frame(&self, ordinal: FrameOrdinal, id: FrameId) -> Result<Option<(Arc<Table>, usize)>> {
        let Some(pack) = self.state.read().packs.of_ordinal(ordinal.0).copied() else { return Ok(None) };
        let table = self.table(&pack)??;
        let at = (ordinal.0 - pack.first) as usize;
        Ok(table.frames.get(at).is_some_and(|frame| frame.id == id).then_some((table, at)))
    }

    /// Every place of the chunk in listed packs.
    ///
    /// # Errors
    /// As for [`LookupIndex::lookup`].
    pub fn places_of(&self, id: &ChunkId) -> Result<ChunkPlaces> {
        let recent = self.tables.recent_with(id);
        let known = recent.as_ref().map(|table| table.pack);
        let packs = self.state.read().packs_of(run::key_of(id), known).map_err(|fault| self.error_of(fault))?;
        let (mut found, mut unread) = (Vec::new(), Vec::new());
        for pack in packs {
            if self.is_passed_over(pack.kind, pack.id) {
                continue;
            }
            let table = match &recent {
                Some(recent) if recent.pack == (pack.kind, pack.id) => Arc::clone(recent),
                _ => match self.table(&pack)? {
                    Ok(table) => table,
                    Err(error) => {
                        unread.push((FrameOrdinal(pack.first), error));
                        continue;
                    }
                },
            };
            for chunk in table.places_of(id) {
                let Some(frame) = table.frames.get(chunk.frame as usize) else { continue };
                let ordinal = FrameOrdinal(pack.first + chunk.frame);
                let place = ChunkPlace {
                    frame: frame.id,
                    position: chunk.position,
                    ordinal,
                    domain: frame.domain,
                    has_bases: !frame.bases.is_empty(),
                };
                found.push((place, table.pack));
            }
            if known != Some(table.pack) && found.last().is_some_and(|(_, pack)| *pack == table.pack) {
                self.tables.was_of_use(&table);
            }
        }
        if found.len() > 1 {
            found.sort_unstable_by_key(|(place, pack)| (place.frame, place.position, *pack, place.ordinal));
        }
        Ok(ChunkPlaces { found: found.into_iter().map(|(place, _)| place).collect(), unread })
    }

    /// BLAKE3 of a frame's sealed bytes, without key, as the pack's contents table has it.
    ///
    /// # Errors
    /// As for [`LookupIndex::lookup`]; also why this one pack's table cannot be had, [`ErrorKind::NotFound`] where it is no longer listed.
    pub fn hash_of(&self, place: &FramePlace) -> Result<[u8; 32]> {
        let found = self.table_frame(place.ordinal, place.id)?;
        found.and_then(|(table, at)| table.frames.get(at).map(|frame| frame.hash)).ok_or_else(|| gone(place.id))
    }

    /// What a frame is compressed against, as the pack's contents table has it.
    ///
    /// # Errors
    /// As for [`LookupIndex::hash_of`].
    pub fn bases_of(&self, ordinal: FrameOrdinal, id: FrameId) -> Result<Vec<BaseRange>> {
        let found = self.table_frame(ordinal, id)?;
        found.and_then(|(table, at)| table.frames.get(at).map(|frame| frame.bases.to_vec())).ok_or_else(|| gone(id))
    }

    /// The contents table of a pack, or why this one cannot be had.
    fn table(&self, pack: &Pack) -> Result<std::result::Result<Arc<Table>, Error>> {
        if let Some(known) = self.tables.get((pack.kind, pack.id)) {
            return Ok(known);
        }
        // Without any lock: this may take as long as a store takes to answer.
        let table = match self.source.contents(pack.kind, pack.id) {
            Ok(contents) => self.state.read().table_of((pack.kind, pack.id), &contents),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged | ErrorKind::Unsupported) => Err(error),
            Err(error) => return Err(error),
        };
        Ok(table.map(|table| self.tables.insert(table)).inspect_err(|error| self.tables.insert_absent((pack.kind, pack.id), error)))
    }

    /// Where a frame lies; `None` where its pack is no longer listed.
    ///
    /// # Errors
    /// As for [`LookupIndex::lookup`].
    pub fn frame(&self, ordinal: FrameOrdinal) -> Result<Option<FramePlace>> {
        self.state.read().frame(ordinal.0).map_err(|fault| self.error_of(fault))
    }

    /// A copy of the frame in a listed pack; of several, the one in the pack with the lowest kind and id.
    ///
    /// # Errors
    /// As for [`LookupIndex::lookup`].
    pub fn ordinal_of(&self, id: FrameId) -> Result<Option<FrameOrdinal>> {
        let mut ordinals = Vec::with_capacity(1);
        self.ordinals_of(&[id], &mut ordinals)?;
        Ok(ordinals.pop().flatten())
    }

    /// Puts into `ordinals` for each frame what [`LookupIndex::ordinal_of`] gives: much cheaper for many frames that come in the order of their
    /// identities, as they do in refs.
    ///
    /// # Errors
    /// As for [`LookupIndex::lookup`].
    pub fn ordinals_of(&self, frames: &[FrameId], ordinals: &mut Vec<Option<FrameOrdinal>>) -> Result<()> {
        self.copies_of(frames, ordinals, &mut Vec::new())
    }

    /// As [`LookupIndex::ordinals_of`], and into `others` what else calls itself one of these frames in listed packs, with its position in `frames`. Whoever may back up can
    /// store something else under the identity of a frame of its own machine: two are the same only where their [`LookupIndex::fingerprint_of`] is.
    ///
    /// # Errors
    /// As for [`LookupIndex::lookup`].
    pub fn copies_of(
        &self,
        frames: &[FrameId],
        ordinals: &mut Vec<Option<FrameOrdinal>>,
        others: &mut Vec<(usize, FrameOrdinal)>,
    ) -> Result<()> {
        ordinals.clear();
        others.clear();
        self.state.read().copies_of(frames, ordinals, others).map_err(|fault| self.error_of(fault))
    }

    /// Everything under the identity of a frame in listed packs, as [`LookupIndex::copies_of`] gives it for many.
    ///
    /// # Errors
    /// As for [`LookupIndex::lookup`].
    pub fn all_of(&self, id: FrameId) -> Result<Vec<FrameOrdinal>> {
        let (mut ordinals, mut others) = (Vec::with_capacity(1), Vec::new());
        self.copies_of(&[id], &mut ordinals, &mut others)?;
        Ok(ordinals.into_iter().flatten().chain(others.into_iter().map(|(_, other)| other)).collect())
    }

    /// What copies of a frame have in common: a hash over all that the contents table says of it.
    ///
    /// # Errors
    /// As for [`LookupIndex::hash_of`].
    pub fn fingerprint_of(&self, ordinal: FrameOrdinal, id: FrameId) -> Result<Fingerprint> {
        let found = self.table_frame(ordinal, id)?;
        found.and_then(|(table, at)| table.fingerprint_of(at)).ok_or_else(|| gone(id))
    }

    /// The listed packs, in order of kind and id.
    pub fn packs(&self) -> Vec<(ObjectKind, PackId)> {
        let mut packs: Vec<_> = self.state.read().packs.listed().collect();
        packs.sort_unstable();
        packs
    }

    /// Adds the frames and chunks of a pack, which from now on count as listed. A pack that is listed already is left alone.
    ///
    /// `domain_of` gives the dedup domain of each session whose frames are in the table.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where a file cannot be written (the pack has then been added in memory all the same).
    pub fn add_pack(&self, kind: ObjectKind, pack: PackId, table: &ContentsTable, domain_of: impl Fn(SessionId) -> DomainId) -> Result<()> {
        let mut writer = self.writer.lock();
        self.source.keep(kind, pack, table)?;
        self.add(&mut writer, kind, pack, table, domain_of).map_err(|fault| self.error_of(fault))
    }

    /// Finds no chunk in these data packs from now on, by this value, nor in frames whose bases lie in them: they stay listed, and frames are found in them.
    pub fn pass_over(&self, packs: HashSet<PackId>) {
        *self.passed_over.write() = packs;
        // Bases that stood before may lie in these.
        self.removals.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes packs out: their frames are no longer found.
    pub fn remove_packs(&self, packs: &HashSet<(ObjectKind, PackId)>) {
        let mut writer = self.writer.lock();
        self.remove(&mut writer, packs);
        self.removals.fetch_add(1, Ordering::Relaxed);
    }

    /// Writes what is in memory only to files, and the manifest: the next [`LookupIndex::open`] finds what is known now.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where files cannot be written; the folder then still holds what was saved before.
    pub fn save(&self) -> Result<()> {
        let mut writer = self.writer.lock();
        self.save_to_folder(&mut writer).map_err(|fault| self.error_of(fault))
    }

    /// How large the index is.
    pub fn size(&self) -> IndexSize {
        self.state.read().size()
    }

    fn error_of(&self, fault: Fault) -> Error {
        let place = format!("the index cache in {}", self.folder.path().display());
        match fault {
            Fault::Torn(what) => {
                self.is_discarded.store(true, Ordering::Relaxed);
                self.folder.remove_manifest();
                Error::new(ErrorKind::Unavailable, format!("{place} was damaged and has been dropped: run again to rebuild it ({what})"))
            }
            Fault::Io(error) => Error::io(place, error).with_kind(ErrorKind::Unavailable),
            Fault::Full => Error::new(
                ErrorKind::Unsupported,
                format!("{place} is full: it cannot number more than {} packs and {} frames", run::PACKS_MAX, u32::MAX),
            ),
        }
    }
}

fn gone(frame: FrameId) -> Error {
    Error::new(ErrorKind::NotFound, format!("the pack of frame {frame} is no longer listed"))
}

#[cfg(test)]
mod tests;

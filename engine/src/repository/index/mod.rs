//! The local lookup index: which frames hold a chunk, and where frames lie.
//!
//! A cache outside the format, built from contents tables: losing it costs time, never data, and its files may change with any
//! release. Whatever looks wrong with them makes it start empty.
//!
//! - Every frame of every pack has an *ordinal*. A frame that lies in several packs (copies) has one for each.
//! - Three families of immutable files hold sorted records: chunk id to ordinal, frame id to ordinal, and by ordinal what is
//!   known of the frame. They are read through memory maps, so that what is resident is the page cache's affair: the process itself needs a few
//!   bytes for each pack, a bit for each 16 KiB of file, and what was added since the last flush, which has a limit.
//! - Files are merged so that there are logarithmically many. A pack that is no longer listed is filtered out of every answer
//!   at once; its records go with the merges.
//! - A manifest names the files and their hashes. What it does not name does not exist; what does not match it is not believed.
//!
//! Look-ups run side by side from any number of threads and with one thread that adds.

mod fault;
mod folder;
mod manifest;
mod merge;
mod packs;
mod record;
mod record_file;
mod state;
mod write;
mod young;

use crate::backend::ObjectKind;
use crate::error::{Error, ErrorKind, Result};
use crate::format::ContentsTable;
use crate::id::{ChunkId, DomainId, FrameId, PackId, RepositoryId, SessionId};
use fault::Fault;
use folder::Folder;
use parking_lot::{Mutex, RwLock};
use state::State;
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use write::Writer;

/// Bytes of a pack before its first frame.
const PACK_HEADER_LENGTH: u64 = 64;
/// How many chunks (or frames) are kept in memory before they are written to a file, unless told otherwise.
const YOUNG_CHUNKS_MAX: usize = 200_000;

/// A frame in a pack, as the index numbers them.
///
/// Valid for one [`LookupIndex`] value until its next [`LookupIndex::sync_with`] or [`LookupIndex::save`], which may number anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameOrdinal(u32);

impl FrameOrdinal {
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
    /// BLAKE3 of the sealed bytes, without key.
    pub hash: [u8; 32],
}

/// What [`LookupIndex::sync_with`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SyncSummary {
    /// Packs whose contents table was fetched.
    pub packs_added: usize,
    /// Packs that are no longer listed.
    pub packs_removed: usize,
}

/// How large an index is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexSize {
    /// Listed packs.
    pub packs: usize,
    /// Frames in listed packs, copies counted.
    pub frames: u64,
    /// Chunk places held, those of packs that are no longer listed included until a merge drops them.
    pub chunks: u64,
    /// Chunk places of these that are in memory only.
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
    /// What look-ups read. Written to for moments only, by the holder of `writer`.
    state: RwLock<State>,
    /// Taken by whoever changes anything; file work is done under it alone.
    writer: Mutex<Writer>,
    /// The files were found wanting; nothing is saved any more.
    is_discarded: AtomicBool,
}

impl LookupIndex {
    /// Opens the index that `folder` caches for `repository`, or an empty one where the folder has none that can be trusted.
    ///
    /// The folder is made where it is missing, private to this user, and should hold nothing else. While another process has it, or
    /// without a folder, the index is a temporary one: empty at first and deleted at the end ([`LookupIndex::is_temporary`]).
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the folder cannot be made or read.
    pub fn open(folder: Option<&Path>, repository: RepositoryId) -> Result<Self> {
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
            state: RwLock::new(state),
            writer: Mutex::new(writer),
            is_discarded: AtomicBool::new(false),
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

    /// Keeps at most about `chunks` chunks in memory (at least 1) before writing them to a file; each takes about 60 bytes.
    #[must_use]
    pub fn with_young_chunks_max(mut self, chunks: usize) -> Self {
        self.young_chunks_max = chunks.max(1);
        self
    }

    /// Whether the index lies in a temporary folder.
    pub fn is_temporary(&self) -> bool {
        self.folder.is_temporary()
    }

    /// A place of the chunk in a listed pack, in a frame of `domain`.
    ///
    /// Of several, the one with the lowest frame identity: what is found depends on what is listed, not on the history of the cache.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the cache turns out to be damaged; it has then been dropped, and the next run builds it anew.
    pub fn lookup(&self, id: &ChunkId, domain: DomainId) -> Result<Option<ChunkPlace>> {
        self.state.read().lookup(id, domain).map_err(|fault| self.error_of(fault))
    }

    /// Calls `visit` with every place of the chunk in listed packs, of any domain; a frame that was copied is visited once for each
    /// copy. In ascending order of frame identity.
    ///
    /// # Errors
    /// As for [`LookupIndex::lookup`].
    pub fn for_each_place(&self, id: &ChunkId, mut visit: impl FnMut(ChunkPlace)) -> Result<()> {
        // Collected first, so that `visit` may use the index without holding its lock twice.
        let places = self.state.read().places_of(id).map_err(|fault| self.error_of(fault))?;
        places.into_iter().for_each(&mut visit);
        Ok(())
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
        self.state.read().ordinal_of(id).map_err(|fault| self.error_of(fault))
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
        self.add(&mut writer, kind, pack, table, domain_of).map_err(|fault| self.error_of(fault))
    }

    /// Takes packs out: their frames are no longer found.
    pub fn remove_packs(&self, packs: &HashSet<(ObjectKind, PackId)>) {
        let mut writer = self.writer.lock();
        self.remove(&mut writer, packs);
    }

    /// Makes the index agree with `listing`, the packs that the backend has now, and saves it.
    ///
    /// Packs that are not in the listing are taken out; for each new one, in the order of the listing, `fetch` brings the contents
    /// table and a function that gives the dedup domain of its sessions. Must not be called from within `fetch`.
    ///
    /// # Errors
    /// What `fetch` returns; the packs up to there have been added and are saved with the next call that succeeds.
    /// [`ErrorKind::Unavailable`] where files cannot be written.
    pub fn sync_with<D: Fn(SessionId) -> DomainId>(
        &self,
        listing: &[(ObjectKind, PackId)],
        mut fetch: impl FnMut(ObjectKind, PackId) -> Result<(ContentsTable, D)>,
    ) -> Result<SyncSummary> {
        let mut writer = self.writer.lock();
        let listed: HashSet<_> = listing.iter().copied().collect();
        let gone: HashSet<_> = self.state.read().packs.listed().filter(|pack| !listed.contains(pack)).collect();
        self.remove(&mut writer, &gone);
        let mut summary = SyncSummary { packs_added: 0, packs_removed: gone.len() };
        for &(kind, pack) in listing {
            if self.state.read().packs.contains(kind, pack) {
                continue;
            }
            let (table, domain_of) = fetch(kind, pack)?;
            self.add(&mut writer, kind, pack, &table, domain_of).map_err(|fault| self.error_of(fault))?;
            summary.packs_added += 1;
        }
        self.save_to_folder(&mut writer).map_err(|fault| self.error_of(fault))?;
        Ok(summary)
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
            Fault::Full => Error::new(ErrorKind::Unsupported, format!("{place} is full: it cannot number more than {} frames", u32::MAX)),
        }
    }
}

#[cfg(test)]
mod tests;

//! Backup: what a source holds becomes a snapshot.
//!
//! ```text
//! producer thread            worker pool            calling thread (in sequence)
//! walk, divide large files ─▶ read, cut, hash,    ─▶ join cuts of large files, decide what is new, frames, tree, refs ─▶ packs
//!                             look chunks up         then: snapshot, `closed/`
//! ```
//! Batches are numbered by the producer and taken in that order, so that what is stored does not depend on the number of threads.
//! Tokens bound the batches in flight.

mod assembler;
mod batch;
mod collected;
mod earlier;
mod extents;
mod hints;
mod memory;
mod paths;
mod previous;
mod producer;
pub(crate) mod publish;
mod recall;
mod stat_cache;
mod stream;
mod tar;
#[cfg(test)]
mod tests;

use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::config::CutMethod;
use crate::format::session::SessionKind;
use crate::format::snapshot::SourceKind;
use crate::id::SnapshotId;
use crate::limits::{TAGS_LENGTH_MAX, TAGS_MAX, TEXT_MAX};
use crate::progress::{Event, Progress};
use crate::repository::{AnyNodes, FrameReader, LockEnd, Repository, Session, Writer};
use crate::runtime::Timestamp;
use crate::runtime::channel::Receiver;
use crate::source::{Roots, SourceOptions};
use assembler::Assembler;
pub(crate) use batch::Chunking;
use batch::{Batch, Numbered};
use earlier::Earlier;
use previous::{Previous, PreviousTree};
pub(crate) use publish::{last_of_series, put_snapshot};
use stat_cache::StatCacheBuilder;
pub(crate) use stat_cache::{put_entry, read_entry};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Notices about given paths that a backup shows; the rest is counted.
const NOTICES_MAX: usize = 20;

/// What a backup is called and how it is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BackupOptions {
    /// Name of the series.
    pub series: String,
    /// Host that it is made on; shown to people.
    pub host: String,
    /// Program that makes it, with version; shown to people.
    pub program: String,
    /// Tags.
    pub tags: Vec<String>,
    /// The snapshot's time; `None` for the time when the backup begins.
    pub time: Option<Timestamp>,
    /// zstd level.
    pub level: i32,
    /// Reads every file, also those that look unchanged.
    pub read_all: bool,
    /// Files may be unchanged although their file system has another device number than before, as each snapshot of btrfs and ZFS has.
    pub ignore_device: bool,
    /// Whether what changed is compressed against what it was, where that pays: needs the role restore, and reads from the repository, about as much as
    /// was changed and what lies around it.
    pub delta: bool,
    /// Bytes of memory that the process may take for what is under way; `None` for 64 MiB and 32 MiB for each worker. Less memory costs speed and changes
    /// nothing of what is stored. What grows with the source comes on top: 1 MB for each GB that is new, recipes of very large unchanged files, lists of hard links.
    pub memory: Option<u64>,
    /// Locks the snapshot for so long before the backup succeeds; this needs the role maintain.
    pub lock: Option<Duration>,
}

impl BackupOptions {
    /// A backup into `series`, at zstd level 3.
    pub fn new(series: impl Into<String>) -> Self {
        Self {
            series: series.into(),
            host: String::new(),
            program: concat!("icecore ", env!("CARGO_PKG_VERSION")).into(),
            tags: Vec::new(),
            time: None,
            level: 3,
            read_all: false,
            ignore_device: false,
            delta: true,
            memory: None,
            lock: None,
        }
    }

    fn check(&self) -> Result<()> {
        let texts = [&self.series, &self.host, &self.program];
        let too_long = texts.into_iter().chain(&self.tags).any(|text| text.len() > TEXT_MAX);
        let has_too_many = self.tags.len() > TAGS_MAX || self.tags.iter().map(String::len).sum::<usize>() > TAGS_LENGTH_MAX;
        if too_long || has_too_many || self.tags.iter().any(String::is_empty) || self.series.is_empty() {
            let message = format!(
                "series and tags must not be empty, texts have at most {TEXT_MAX} bytes, a snapshot at most {TAGS_MAX} tags of {TAGS_LENGTH_MAX} bytes in all"
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(())
    }
}

/// What a backup did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct BackupSummary {
    /// The snapshot that was made.
    pub snapshot: Option<SnapshotId>,
    /// Files that the last backup of the series from here did not have.
    pub files_new: u64,
    /// Files that it had, and that changed since.
    pub files_changed: u64,
    /// Files that it had, and that did not change.
    pub files_unmodified: u64,
    /// Items that are missing from the snapshot, or were read while they changed.
    pub files_failed: u64,
    /// Entries of the snapshot.
    pub entries: u64,
    /// Bytes of content that were read.
    pub bytes_read: u64,
    /// Sizes of all files in the snapshot, holes included.
    pub bytes_total: u64,
    /// Bytes of content that were not in the repository.
    pub bytes_unique: u64,
    /// Bytes of that, and of the tree, which were compressed against older ones.
    pub delta_bytes: u64,
    /// Bytes of packs, index object and snapshot that were written.
    pub bytes_stored: u64,
    /// Until when the snapshot is locked, if that was asked for.
    pub locked_until: Option<Timestamp>,
    /// How long it took, in nanoseconds of the caller's monotonic clock.
    pub duration_ns: u64,
}

/// Where entries come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Feed {
    /// Paths, in key order, with a stat cache.
    Files,
    /// A stream that is one file.
    Stream,
    /// A tar stream, in any order.
    Tar,
}

impl Feed {
    /// As a snapshot has it.
    fn kind(self) -> SourceKind {
        match self {
            Self::Files | Self::Tar => SourceKind::Files,
            Self::Stream => SourceKind::Stream,
        }
    }
}

impl Repository {
    /// Backs up the folders and files of `roots`.
    ///
    /// Items that cannot be read, given paths that are missing among them, are reported to `progress` and counted; the snapshot is then
    /// marked as not whole.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the role backup, [`ErrorKind::Invalid`] for less memory than a backup needs, [`ErrorKind::Cancelled`] when `progress` says so (completed packs stay and are
    /// used by the next backup), [`ErrorKind::Busy`] where garbage collection gave this session up, or admin changed the keys since the
    /// repository was opened, otherwise what the backend says.
    pub fn backup(&self, roots: &Roots, source: &SourceOptions, options: &BackupOptions, progress: &dyn Progress) -> Result<BackupSummary> {
        for notice in roots.notices().iter().take(NOTICES_MAX) {
            progress.event(Event::Notice { message: notice });
        }
        if let Some(more) = roots.notices().len().checked_sub(NOTICES_MAX).filter(|more| *more > 0) {
            progress.event(Event::Notice {
                message: &format!("{more} more paths are stored once or by their full path, for the same reasons"),
            });
        }
        self.run_backup(options, progress, Feed::Files, roots.paths(), |run| producer::start(roots, source, options, run))
    }

    /// Backs up a stream as a snapshot with one file called `name`.
    ///
    /// # Errors
    /// As [`Repository::backup`]; what `stream` returns ends the backup without a snapshot.
    pub fn backup_stream(
        &self,
        name: &str,
        stream: Box<dyn Read + Send>,
        options: &BackupOptions,
        progress: &dyn Progress,
    ) -> Result<BackupSummary> {
        let key = stream::key_of(name)?;
        let modified = options.time.unwrap_or_else(|| self.runtime.clock.now());
        self.run_backup(options, progress, Feed::Stream, &[name.as_bytes().to_vec()], |run| stream::start(key, modified, stream, run))
    }

    /// Backs up what a tar stream holds, as files and folders; `name` is what the snapshot says that it is of.
    ///
    /// Members may come in any order and more than once, the last one counts. Names that are absolute or lead upwards, members below
    /// something that is no folder, links to what did not come before them, and kinds that cannot be kept are reported to `progress`, counted
    /// and skipped; the snapshot is then marked as not whole. Entries are held in memory until the end, content is not.
    ///
    /// # Errors
    /// As [`Repository::backup`]. A stream that is no tar stream, ends early or fails ends the backup without a snapshot, and so do
    /// names and attributes of more than 512 MiB ([`ErrorKind::Unavailable`]).
    pub fn backup_tar(
        &self,
        name: &str,
        stream: Box<dyn Read + Send>,
        options: &BackupOptions,
        progress: &dyn Progress,
    ) -> Result<BackupSummary> {
        let start = |run: &Assembler<'_>| tar::start(stream, run);
        self.run_backup(options, progress, Feed::Tar, &[name.as_bytes().to_vec()], start)
    }

    fn run_backup(
        &self,
        options: &BackupOptions,
        progress: &dyn Progress,
        feed: Feed,
        paths: &[Vec<u8>],
        start: impl FnOnce(&Assembler<'_>) -> Result<Receiver<Numbered>>,
    ) -> Result<BackupSummary> {
        options.check()?;
        self.memory_share(options)?;
        self.require(Roles::BACKUP, "a backup")?;
        if options.lock.is_some() {
            self.require(Roles::MAINTAIN, "locking what a backup makes")?;
        }
        self.require_writable()?;
        self.require_newest_config()?;
        let began_ns = self.runtime.clock.monotonic_ns();
        let session = Session::begin(self, SessionKind::Writer)?;
        match self.run_session(&session, options, progress, feed, paths, start) {
            Ok((mut summary, cache)) => {
                session.close(true, summary.snapshot.into_iter().collect())?;
                // Only now: what the cache says must be in a snapshot that counts.
                if let Some(Err(error)) = cache.map(StatCacheBuilder::finish) {
                    progress.event(Event::Notice { message: &format!("the next backup will read all files again: {error}") });
                }
                summary.locked_until = self.lock_new(&summary, options, progress)?;
                summary.duration_ns = self.runtime.clock.monotonic_ns().saturating_sub(began_ns);
                Ok(summary)
            }
            Err(error) => {
                let error = session.explain(error);
                session.give_up();
                Err(error)
            }
        }
    }

    /// Locks what was made, if that is asked for. What cannot be locked counts all the same, and the backup fails.
    fn lock_new(&self, summary: &BackupSummary, options: &BackupOptions, progress: &dyn Progress) -> Result<Option<Timestamp>> {
        let (Some(length), Some(id)) = (options.lock, summary.snapshot) else { return Ok(None) };
        let locked = self.lock(&[id], LockEnd::After(length), "", progress).map_err(|error| {
            error.context(format_args!("snapshot {id} was made, but it is not locked; lock it with `icecore lock {id}`"))
        })?;
        Ok(Some(locked.until))
    }

    /// What its memory is for.
    fn memory_share(&self, options: &BackupOptions) -> Result<memory::Share> {
        self.memory_share_with(options, self.makes_deltas(options))
    }

    fn memory_share_with(&self, options: &BackupOptions, has_bases: bool) -> Result<memory::Share> {
        let threads = self.runtime.executor.threads();
        memory::share(options.memory, threads, u64::from(self.config.data_frame_size), options.level, has_bases)
    }

    /// Whether bases are used: whoever wants to read them needs the role restore, and room for them.
    fn makes_deltas(&self, options: &BackupOptions) -> bool {
        options.delta && self.roles().contain(Roles::RESTORE) && self.memory_share_with(options, true).is_ok()
    }

    fn run_session(
        &self,
        session: &Session<'_>,
        options: &BackupOptions,
        progress: &dyn Progress,
        feed: Feed,
        paths: &[Vec<u8>],
        start: impl FnOnce(&Assembler<'_>) -> Result<Receiver<Numbered>>,
    ) -> Result<(BackupSummary, Option<StatCacheBuilder>)> {
        self.tell_setbacks(progress)?;
        let index = self.open_index()?;
        let (_, condemned) = self.condemned()?;
        index.remove_packs(&condemned);
        // A new snapshot shall not depend on what is cold (`WriterAvoidsCold`).
        index.pass_over(self.tiers.view()?.packs().collect());
        let cache = if feed == Feed::Files { producer::open_cache(self, options) } else { None };
        let reader = FrameReader::new(self, Arc::clone(&index));
        let tree = match cache {
            Some(_) => None,
            // What is counted is not worth failing for.
            None => PreviousTree::newest(self, &reader, &options.series).unwrap_or_default(),
        };
        let memory::Share { in_flight, tables_bytes } = self.memory_share(options)?;
        index.set_tables_bytes_max(tables_bytes);
        let makes_deltas = self.makes_deltas(options);
        let of_bases = makes_deltas.then(|| Arc::new(FrameReader::with_room(self, index.clone(), memory::BASE_FRAMES_BYTES as usize)));
        let nodes = of_bases.as_deref().map(|reader| AnyNodes { reader });
        let earlier = nodes.as_ref().map(|nodes| Earlier::new(self, &options.series, nodes));
        let writer = Writer::start_with(self, session, index, options.level, in_flight, of_bases.clone())?;
        // A guess that cannot be had is none.
        let recall = |nodes| recall::recall(self, &options.series, nodes, stat_cache_context(self)).unwrap_or_default();
        let recalled = nodes.as_ref().filter(|_| cache.is_none()).and_then(|nodes| recall(nodes));
        let previous = Previous::new(cache, tree.as_ref());
        let mut run = Assembler::new(self, options, progress, feed, (writer, in_flight), previous, earlier)?;
        run.recalled = recalled;
        progress.event(Event::Phase { name: "backup", bytes_total: None, items_total: None });
        let batches = start(&run)?;
        let done = take_in_order(&batches, |batch| session.require_keys_unchanged().and_then(|()| run.take(batch)));
        // Ends the producer, whatever the outcome was.
        drop(batches);
        match done {
            Ok(()) => run.publish(session, paths),
            Err(error) => {
                // What was stored stays for the next run, as far as it can be completed.
                let _ = run.writer.finish();
                Err(error)
            }
        }
    }
}

/// Takes batches in the order of their numbers, until the end is marked.
fn take_in_order(batches: &Receiver<Numbered>, mut take: impl FnMut(Batch) -> Result<()>) -> Result<()> {
    let (mut waiting, mut next, mut has_ended) = (BTreeMap::new(), 0, false);
    for Numbered { number, batch } in batches {
        waiting.insert(number, batch);
        while let Some(batch) = waiting.remove(&next) {
            next += 1;
            match batch {
                Some(batch) => take(batch?)?,
                None => has_ended = true,
            }
        }
    }
    match has_ended && waiting.is_empty() {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Internal, "a part of the backup was lost between threads")),
    }
}

/// Where the stat cache of a series lies.
fn stat_cache_path(repository: &Repository, series: &str) -> Option<PathBuf> {
    let token = crate::format::snapshot::series_token(&repository.credential.token_key, series);
    Some(repository.cache_folder()?.join("stat").join(crate::id::to_hex(&token)))
}

/// What the stat cache is bound to: this repository, this credential's view of it, and how its cutters cut, since a hash proves a cut only
/// to the cutter that made it.
fn stat_cache_context(repository: &Repository) -> [u8; 32] {
    let mut cutters = Vec::new();
    for cutter in &repository.config.cutters {
        let sizes = match cutter.method {
            CutMethod::Content { min, average, max } => [min, average, max],
            CutMethod::Fixed(size) => [size; 3],
        };
        [cutter.id].iter().chain(&sizes).for_each(|number| cutters.extend_from_slice(&number.to_le_bytes()));
    }
    *crate::crypto::derive("icecore stat cache", &[repository.credential.token_key.bytes(), &repository.id.0, &cutters]).bytes()
}

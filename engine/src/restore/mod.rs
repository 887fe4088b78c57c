//! Restore: what a snapshot holds comes back.
//!
//! ```text
//! calling thread                           worker pool
//! walk the tree, prepare, plan a window ─▶ fetch packs in order, decode each frame once, verify, write its chunks to their places
//!        ▲                                     │
//!        └── the next window                   └─▶ when the window's content is there: metadata, hard links, folders that are done
//! ```
//! Invariants:
//! - Bytes reach a file only after their chunk id was checked, and only from frames that the snapshot's refs name.
//! - A file whose content is damaged is reported and not left in the target as if it were good; everything else is restored.
//! - A restore takes bounded memory, whatever the snapshot's size: the plan goes through windows (`window`), and what has to wait or to be
//!   remembered for longer goes to temporary files (`later`).

mod archive;
mod compare;
mod deletion;
mod finish;
mod flush;
mod folders;
mod later;
mod layout;
mod linked;
mod memory;
mod onto;
mod pipeline;
mod plan;
pub(crate) mod reading;
mod run;
mod scatter;
mod stream;
mod tally;
#[cfg(test)]
mod tests;
mod verify;
mod window;
mod work;

pub use onto::OntoOptions;

pub(crate) use layout::content_chunks;

use crate::destination::Folder;
use crate::entry::{Entry, EntryKind, Key, KeyKind, Metadata, join_key};
use crate::error::{Error, ErrorKind, Result, TierWait};
use crate::id::SnapshotId;
use crate::progress::{Progress, Silent};
use crate::repository::index::TABLES_BYTES_WANTED;
use crate::repository::{Repository, Snapshot, SnapshotChunks};
use crate::tree::{KeyRange, TreeWalk, find_entry};
use run::{Restore, Target};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use tally::{Tally, shown};
use window::Limits;

/// What is restored, and whether.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// Only this entry and what is below it, at the same path below the target. Components are parted by slashes or zero bytes.
    pub path: Option<Key>,
    /// Only plans: the numbers are filled, what would become of each item is told ([`Event::Change`](crate::progress::Event::Change)),
    /// and nothing is written.
    pub dry_run: bool,
    /// Deletes what the target has at and below `path` and the snapshot has not, before anything is restored. Not what is mounted below `path`.
    pub delete: bool,
    /// Reads back what was written when all is done; what differs from the snapshot counts as failed
    /// ([`RestoreSummary::items_failed`]). Nothing in a dry run.
    pub verify: bool,
    /// Restores owners and groups by number. Otherwise a name that an account of this machine has gives the number.
    pub numeric_owner: bool,
    /// Things in the target that are never deleted, such as the repository itself, with all that is in them.
    pub spare: Vec<PathBuf>,
    /// Bytes of memory to get along with; `None` for what is of use, at most about 100 MiB and 8 MiB for each worker thread. Less makes it
    /// slower, and changes nothing else.
    pub memory: Option<u64>,
}

/// What a dry run found: numbers of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RestorePlan {
    /// They are not in the target, or something else stands in their place.
    pub created: u64,
    /// Their content or metadata differs.
    pub changed: u64,
    /// They are as in the snapshot.
    pub unchanged: u64,
}

/// What a restore did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RestoreSummary {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Entries that were to be restored.
    pub entries: u64,
    /// Regular files among them, other names of the same file not counted.
    pub files: u64,
    /// Entries that were not restored, or only in part. Each was reported, those whose owner alone was not restored in one line.
    pub items_failed: u64,
    /// Something is missing because the repository is damaged (exit code 14), not because of the target. Damage that cost nothing, since
    /// there were other copies, is only told as a notice.
    pub damaged: bool,
    /// Something is missing because it lies frozen, or on a medium that is not there (exit code 15): the same restore goes on once it can be read.
    pub frozen: bool,
    /// For which tiers has to be waited, and how many entries do.
    pub waits: Vec<(TierWait, u64)>,
    /// Sizes of these files, holes included.
    pub bytes_total: u64,
    /// Things in the target that were deleted, or in a dry run would be.
    pub items_deleted: u64,
    /// What would become of the entries; `None` where this was no dry run.
    pub plan: Option<RestorePlan>,
    /// Bytes of content that were written, or in a dry run would be.
    pub bytes_written: u64,
    /// Bytes of content that the target had already.
    pub bytes_unchanged: u64,
    /// Frames that were decoded; a frame that was decoded twice counts twice.
    pub frames_decoded: u64,
    /// Data packs that were read.
    pub packs_read: u64,
    /// Bytes of data packs that were fetched.
    pub bytes_fetched: u64,
    /// How long it took, in nanoseconds of the caller's monotonic clock.
    pub duration_ns: u64,
}

impl RestoreSummary {
    fn new(snapshot: SnapshotId) -> Self {
        Self {
            snapshot,
            entries: 0,
            files: 0,
            items_failed: 0,
            damaged: false,
            frozen: false,
            waits: Vec::new(),
            bytes_total: 0,
            items_deleted: 0,
            plan: None,
            bytes_written: 0,
            bytes_unchanged: 0,
            frames_decoded: 0,
            packs_read: 0,
            bytes_fetched: 0,
            duration_ns: 0,
        }
    }

    fn take(&mut self, tally: &Tally<'_>) {
        self.items_failed = tally.items_failed.load(Ordering::Relaxed);
        self.damaged |= tally.damaged.load(Ordering::Relaxed);
        self.frozen |= tally.frozen.load(Ordering::Relaxed);
        self.waits = std::mem::take(&mut *tally.waits.lock()).into_iter().collect();
        self.items_deleted = tally.items_deleted.load(Ordering::Relaxed);
        self.bytes_written = tally.bytes_written.load(Ordering::Relaxed);
        self.bytes_unchanged = tally.bytes_unchanged.load(Ordering::Relaxed);
        self.frames_decoded = tally.frames_decoded.load(Ordering::Relaxed);
        self.bytes_fetched = tally.bytes_fetched.load(Ordering::Relaxed);
    }
}

impl Repository {
    /// Restores a snapshot into the folder `target`, which is made where it does not exist.
    ///
    /// Files that are there already are compared, and only what differs is fetched and written; what the snapshot does not have stays
    /// ([`RestoreOptions::delete`]). A restore that was interrupted goes on when it is run again. Folders above
    /// [`RestoreOptions::path`] that are not there are made as the snapshot has them; those that are there stay as they are. Items that
    /// cannot be restored are reported to `progress` and counted ([`RestoreSummary::items_failed`], [`RestoreSummary::damaged`]). A file
    /// with damaged content is not left in the target, except an old version of a small file, which is not touched.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the role restore, [`ErrorKind::NotFound`] where the snapshot is gone or has no such path,
    /// [`ErrorKind::Damaged`] where nothing of it can be read, [`ErrorKind::Cancelled`] when `progress` says so,
    /// [`ErrorKind::Unavailable`] where the backend fails or the target is full.
    pub fn restore(&self, snapshot: &Snapshot, target: &Path, options: &RestoreOptions, progress: &dyn Progress) -> Result<RestoreSummary> {
        let limits = memory::limits(options.memory, self.runtime.executor.threads(), self.config.data_frame_size.into())?;
        self.restore_within(snapshot, target, options, progress, limits)
    }

    fn restore_within(
        &self,
        snapshot: &Snapshot,
        target: &Path,
        options: &RestoreOptions,
        progress: &dyn Progress,
        limits: Limits,
    ) -> Result<RestoreSummary> {
        let began_ns = self.runtime.clock.monotonic_ns();
        require_paths(snapshot)?;
        reading::with_snapshot(self, snapshot.id, progress, |snapshot, chunks| {
            if limits.keeps_bases {
                chunks.reader.index().set_tables_bytes_max(TABLES_BYTES_WANTED);
            }
            let options = RestoreOptions { path: options.path.as_deref().map(path_key).transpose()?, ..options.clone() };
            if let Some(path) = &options.path {
                // A wrong path makes no target folder.
                find_path(chunks, snapshot, path)?;
            }
            let folder = if options.dry_run { Folder::find(target)? } else { Some(Folder::open(target)?.each_once()) };
            let tally = Tally::new(self, progress, self.spill_folder(folder.is_some().then_some(target)));
            let target = match &folder {
                Some(folder) if !options.dry_run => Target::Written(folder),
                folder => Target::Planned(folder.as_ref()),
            };
            let mut summary =
                self.pool()?.in_place_scope(|scope| Restore::new(scope, self, snapshot, chunks, target, &tally, limits).run(&options))?;
            summary.duration_ns = self.runtime.clock.monotonic_ns().saturating_sub(began_ns);
            Ok(summary)
        })
    }

    /// Writes the content of one file to `out`, in order, holes as zeros. `path` names it, with components parted by slashes or zero bytes;
    /// `None` where the snapshot has exactly one file, as that of a stream has.
    ///
    /// # Errors
    /// As [`Repository::restore`]; [`ErrorKind::Invalid`] where the path is no file, or none is given and there are several;
    /// [`ErrorKind::Damaged`] at the first chunk that cannot be read: what came before was written. [`ErrorKind::Unavailable`] with the
    /// [`std::io::Error`] as its source where `out` fails, for example as a broken pipe.
    pub fn restore_to_writer(
        &self,
        snapshot: &Snapshot,
        path: Option<&[u8]>,
        out: &mut dyn Write,
        progress: &dyn Progress,
    ) -> Result<RestoreSummary> {
        let began_ns = self.runtime.clock.monotonic_ns();
        reading::with_snapshot(self, snapshot.id, progress, |snapshot, chunks| {
            let entry = find_content(chunks, snapshot, path)?;
            let mut summary = stream::write(chunks, snapshot, &entry, out, progress)?;
            summary.duration_ns = self.runtime.clock.monotonic_ns().saturating_sub(began_ns);
            Ok(summary)
        })
    }

    /// Writes the content of one file onto the block device or image file that stands at `onto`, in place: what is there is compared, and
    /// only what differs is fetched and written; holes become zeros, without space where the device can do that. An image file gets the
    /// file's length, a longer device keeps the rest. `path` as for [`Repository::restore_to_writer`].
    ///
    /// # Errors
    /// As [`Repository::restore_to_writer`]; before anything is written [`ErrorKind::Invalid`] where `onto` is too small or something else,
    /// [`ErrorKind::NotFound`] where it does not exist, [`ErrorKind::Busy`] where this machine has it in use and [`OntoOptions::force`] is
    /// not set.
    pub fn restore_onto(
        &self,
        snapshot: &Snapshot,
        path: Option<&[u8]>,
        onto: &Path,
        options: &OntoOptions,
        progress: &dyn Progress,
    ) -> Result<RestoreSummary> {
        let began_ns = self.runtime.clock.monotonic_ns();
        reading::with_snapshot(self, snapshot.id, progress, |snapshot, chunks| {
            let entry = find_content(chunks, snapshot, path)?;
            let mut summary = onto::write(chunks, snapshot, &entry, onto, options, progress)?;
            summary.duration_ns = self.runtime.clock.monotonic_ns().saturating_sub(began_ns);
            Ok(summary)
        })
    }

    /// Writes a snapshot, or what stands at and below `path` of it, to `out` as a tar archive (POSIX pax, with extended attributes, ACLs,
    /// holes, hard links, devices). What an archive cannot hold, such as sockets, is reported and counted
    /// ([`RestoreSummary::items_failed`]). Components of `path` are parted by slashes or zero bytes.
    ///
    /// # Errors
    /// As [`Repository::restore_to_writer`]. An archive that ended with an error lacks the marks at its end.
    pub fn restore_to_tar(
        &self,
        snapshot: &Snapshot,
        path: Option<&[u8]>,
        out: &mut dyn Write,
        progress: &dyn Progress,
    ) -> Result<RestoreSummary> {
        let began_ns = self.runtime.clock.monotonic_ns();
        require_paths(snapshot)?;
        reading::with_snapshot(self, snapshot.id, progress, |snapshot, chunks| {
            let path = path.map(path_key).transpose()?;
            let mut summary = archive::write(chunks, snapshot, path.as_ref(), out, progress)?;
            summary.duration_ns = self.runtime.clock.monotonic_ns().saturating_sub(began_ns);
            Ok(summary)
        })
    }

    /// Calls `visit` with the entries of a snapshot in key order: all, or that at `path` and those below it. Components of `path` are parted
    /// by slashes or zero bytes.
    ///
    /// # Errors
    /// As [`Repository::restore`], and what `visit` returns. Damage ends the listing.
    pub fn for_each_entry(&self, snapshot: &Snapshot, path: Option<&[u8]>, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        reading::with_snapshot(self, snapshot.id, &Silent, |snapshot, chunks| {
            let range = match path {
                Some(path) => KeyRange::folder(&find_path(chunks, snapshot, &key_of(snapshot, path)?)?.key),
                None => KeyRange::all(),
            };
            TreeWalk::new(chunks, &snapshot.body.tree_root, key_kind(snapshot), range)?.try_for_each(|entry| visit(entry?))
        })
    }
}

fn require_paths(snapshot: &Snapshot) -> Result<()> {
    match snapshot.body.keys_are_paths {
        true => Ok(()),
        false => {
            let message = "this snapshot's keys are names of objects, not paths; it cannot be restored into a folder or an archive";
            Err(Error::new(ErrorKind::Unsupported, message))
        }
    }
}

/// What the keys of a snapshot are.
pub(crate) fn key_kind(snapshot: &Snapshot) -> KeyKind {
    if snapshot.body.keys_are_paths { KeyKind::Paths } else { KeyKind::Objects }
}

/// The key that a person's path means in a snapshot.
pub(crate) fn key_of(snapshot: &Snapshot, path: &[u8]) -> Result<Key> {
    if snapshot.body.keys_are_paths { path_key(path) } else { Ok(path.to_vec()) }
}

/// The key that a person's path means. Neither slashes nor zero bytes can stand in a component.
fn path_key(path: &[u8]) -> Result<Key> {
    let components: Vec<_> = path.split(|byte| matches!(byte, 0 | b'/')).filter(|name| !matches!(*name, b"" | b".")).collect();
    match components.contains(&&b".."[..]) {
        true => Err(Error::new(ErrorKind::Invalid, format!("`{}`: a path in a snapshot has no `..`", String::from_utf8_lossy(path)))),
        false => Ok(join_key(components)),
    }
}

/// The entry at a path.
pub(crate) fn find_path(chunks: &SnapshotChunks<'_>, snapshot: &Snapshot, key: &Key) -> Result<Entry> {
    let find = |key: &[u8]| find_entry(chunks, &snapshot.body.tree_root, key_kind(snapshot), key);
    if let Some(entry) = find(key)? {
        return Ok(entry);
    }
    if key.is_empty() {
        // The snapshot of a stream has no entry for its root; it can be named all the same.
        return Ok(Entry { key: Key::new(), kind: EntryKind::Folder, metadata: Metadata::default() });
    }
    let mut above = key.as_slice();
    while let Some(end) = above.iter().rposition(|byte| *byte == 0) {
        above = &above[..end];
        if let Some(entry) = find(above)? {
            let what = if entry.kind == EntryKind::Folder { "the folder" } else { "something that is no folder," };
            let message = format!("`{}` is not in the snapshot; the nearest that is: {what} `{}`", shown(key), shown(above));
            return Err(Error::new(ErrorKind::NotFound, message));
        }
    }
    let message = format!("`{}` is not in the snapshot, nor anything above it; the nearest that is: its root", shown(key));
    Err(Error::new(ErrorKind::NotFound, message))
}

/// The file that a person means.
fn find_content(chunks: &SnapshotChunks<'_>, snapshot: &Snapshot, path: Option<&[u8]>) -> Result<Entry> {
    match path {
        Some(path) => find_file(chunks, snapshot, &key_of(snapshot, path)?),
        None => only_file(chunks, snapshot),
    }
}

/// The file at a path, under its first name.
fn find_file(chunks: &SnapshotChunks<'_>, snapshot: &Snapshot, key: &Key) -> Result<Entry> {
    let mut entry = find_path(chunks, snapshot, key)?;
    if let EntryKind::HardLink(earlier) = &entry.kind {
        entry = find_path(chunks, snapshot, earlier)?;
    }
    match entry.kind {
        EntryKind::File(_) => Ok(entry),
        _ => Err(Error::new(ErrorKind::Invalid, format!("`{}` is no regular file", shown(key)))),
    }
}

/// The file of a snapshot that has no other.
fn only_file(chunks: &SnapshotChunks<'_>, snapshot: &Snapshot) -> Result<Entry> {
    let mut found: Option<Entry> = None;
    for entry in TreeWalk::new(chunks, &snapshot.body.tree_root, key_kind(snapshot), KeyRange::all())? {
        let entry = entry?;
        if !matches!(entry.kind, EntryKind::File(_)) {
            continue;
        }
        if let Some(first) = found {
            let message =
                format!("the snapshot has several files, for example `{}` and `{}`: name one", shown(&first.key), shown(&entry.key));
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        found = Some(entry);
    }
    found.ok_or_else(|| Error::new(ErrorKind::NotFound, "the snapshot has no file"))
}

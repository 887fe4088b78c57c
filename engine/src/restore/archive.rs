//! A snapshot, or a part of it, as a tar archive: entries come in key order, each with its content right behind it.
//!
//! An archive cannot take back what was written. A file whose content turns out to be damaged on the way ends the archive, without the
//! marks that a whole one has at its end; what is known to be missing before its header is written is left out and reported.

use super::pipeline::{Pipeline, Sink, with_pipeline};
use super::stream::failed;
use super::tally::{KEYS_BYTES, Tally, shown};
use super::{RestoreSummary, find_path};
use crate::destination::tar;
use crate::entry::{ChunkList, Entry, EntryKind, FileContent, Key, KeyKind};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Event, Progress};
use crate::repository::{Snapshot, SnapshotChunks};
use crate::spill::SpilledMap;
use crate::tree::{KeyRange, TreeWalk, find_entry};
use std::collections::HashSet;
use std::io::Write;
use std::sync::atomic::Ordering;

/// Writes what stands at and below `path` to `out`.
pub(super) fn write(
    chunks: &SnapshotChunks<'_>,
    snapshot: &Snapshot,
    path: Option<&Key>,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<RestoreSummary> {
    let range = match path {
        Some(path) => KeyRange::folder(&find_path(chunks, snapshot, path)?.key),
        None => KeyRange::all(),
    };
    let bytes_total = path.is_none().then_some(snapshot.header.file_bytes);
    progress.event(Event::Phase { name: "restore", bytes_total, items_total: None });
    let tally = Tally::new(chunks.repository, progress, chunks.repository.spill_folder(None));
    let mut packs = HashSet::new();
    let mut archive = Archive { out, length: 0, tally: &tally };
    let mut members = Members {
        chunks,
        snapshot,
        range,
        tally: &tally,
        stand_ins: SpilledMap::new(tally.spill.clone(), KEYS_BYTES),
        summary: RestoreSummary::new(snapshot.id),
    };
    with_pipeline(chunks, &tally, &mut packs, &mut archive, |pipeline| members.add_all(pipeline))?;
    let end = tar::tail(archive.length);
    archive.write(&end)?;
    archive.out.flush().map_err(failed)?;
    tally.report_frames_damaged();
    let mut summary = members.summary;
    summary.packs_read = packs.len() as u64;
    summary.take(&tally);
    Ok(summary)
}

/// Chooses what becomes a member.
struct Members<'a> {
    chunks: &'a SnapshotChunks<'a>,
    snapshot: &'a Snapshot,
    range: KeyRange,
    tally: &'a Tally<'a>,
    /// Of entries outside the range that have another name in it, the first such name.
    stand_ins: SpilledMap,
    summary: RestoreSummary,
}

impl Members<'_> {
    fn add_all(&mut self, pipeline: &mut Pipeline<'_, '_, '_>) -> Result<()> {
        let mut walk = TreeWalk::new(self.chunks, &self.snapshot.body.tree_root, KeyKind::Paths, self.range.clone())?;
        let mut last = Key::new();
        while let Some(entry) = walk.next() {
            match entry {
                Ok(entry) => {
                    last.clone_from(&entry.key);
                    self.summary.entries += 1;
                    self.add(pipeline, entry)?;
                }
                Err(error) => {
                    let error = self.tally.damage(error)?;
                    let message = format!("a part of the list of files is damaged; what stood in it after this entry is left out: {error}");
                    self.tally.item_failed(&last, &message);
                    walk.skip_damage();
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, pipeline: &mut Pipeline<'_, '_, '_>, entry: Entry) -> Result<()> {
        let mut entry = match self.with_first_name_inside(entry) {
            Ok(entry) => entry,
            Err((key, error)) => {
                return self.skip(&key, &self.tally.damage(error)?);
            }
        };
        if entry.kind == EntryKind::Folder && entry.metadata.is_of_way() {
            // Unpacking would change a folder that was not backed up; where it is missing, it is made.
            return Ok(());
        }
        if let EntryKind::HardLink(earlier) = &entry.kind
            && self.tally.is_lost(earlier)?
        {
            let error = Error::new(ErrorKind::NotFound, format!("{}, of which it is another name, is not in the archive", shown(earlier)));
            return self.skip(&entry.key, &error);
        }
        if let Err(error) = tar::head(&entry) {
            return self.skip(&entry.key, &error);
        }
        let EntryKind::File(content) = &mut entry.kind else { return pipeline.entry(entry, None) };
        if let ChunkList::Inline(chunks) = &content.chunks
            && let Some(error) = chunks.iter().find_map(|chunk| self.chunks.find(&chunk.id).err())
        {
            return self.skip(&entry.key, &self.tally.damage(error)?);
        }
        self.summary.files += 1;
        self.summary.bytes_total = self.summary.bytes_total.wrapping_add(content.size);
        let FileContent { size, holes, .. } = &*content;
        let outline = FileContent { size: *size, holes: holes.clone(), ..FileContent::default() };
        let content = std::mem::replace(content, outline);
        pipeline.entry(entry, Some(&content))
    }

    /// The first of the names of an entry that are in the range is its first name in the archive.
    fn with_first_name_inside(&mut self, mut entry: Entry) -> std::result::Result<Entry, (Key, Error)> {
        let EntryKind::HardLink(earlier) = &mut entry.kind else { return Ok(entry) };
        if self.range.contains(earlier) {
            return Ok(entry);
        }
        match self.stand_ins.get(earlier) {
            Ok(Some(name)) => {
                *earlier = name;
                return Ok(entry);
            }
            Ok(None) => {}
            Err(error) => return Err((entry.key, error)),
        }
        match find_entry(self.chunks, &self.snapshot.body.tree_root, KeyKind::Paths, earlier) {
            Ok(Some(first)) if !matches!(first.kind, EntryKind::Folder | EntryKind::HardLink(_)) => {
                if let Err(error) = self.stand_ins.insert(&first.key, &entry.key) {
                    return Err((entry.key, error));
                }
                Ok(Entry { key: entry.key, kind: first.kind, metadata: first.metadata })
            }
            Ok(_) => {
                let message = format!("is another name of {}, which is no file", shown(earlier));
                Err((entry.key, Error::new(ErrorKind::Damaged, message)))
            }
            Err(error) => Err((entry.key, error)),
        }
    }

    /// What is linked to it cannot be in the archive either.
    fn skip(&self, key: &[u8], error: &Error) -> Result<()> {
        self.tally.item_failed(key, &format!("it is not in the archive: {error}"));
        self.tally.lose(key).map(drop)
    }
}

/// The archive on its way out.
struct Archive<'a> {
    out: &'a mut dyn Write,
    length: u64,
    tally: &'a Tally<'a>,
}

impl Archive<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(failed)?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

impl Sink for Archive<'_> {
    fn begin(&mut self, entry: &Entry) -> Result<()> {
        self.write(&tar::head(entry)?)
    }

    fn data(&mut self, _: u64, bytes: &[u8]) -> Result<()> {
        self.write(bytes)?;
        self.tally.bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.tally.progress.event(Event::Advance { bytes: bytes.len() as u64, items: 0 });
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let padding = self.length.next_multiple_of(tar::BLOCK as u64) - self.length;
        self.write(&[0; tar::BLOCK][..usize::try_from(padding).unwrap_or_default()])?;
        self.tally.progress.event(Event::Advance { bytes: 0, items: 1 });
        Ok(())
    }
}

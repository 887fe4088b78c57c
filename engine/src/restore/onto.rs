//! One file onto a block device or an image file, in place: what is there is compared, and only what differs is fetched and written.

use super::RestoreSummary;
use super::compare::has_chunk;
use super::layout::Layout;
use super::pipeline::{Sink, with_pipeline};
use super::stream::file_content;
use super::tally::Tally;
use crate::destination::Device;
use crate::entry::{ChunkRef, Entry, FileContent};
use crate::error::{Error, Result};
use crate::progress::{Event, Progress};
use crate::repository::{Snapshot, SnapshotChunks};
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::Ordering;

/// How one file is written onto a device.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct OntoOptions {
    /// Also onto what this machine has mounted or otherwise in use.
    pub force: bool,
    /// Only compares and counts.
    pub dry_run: bool,
    /// Reads everything back in the end; where it differs that counts as failed ([`RestoreSummary::items_failed`]).
    pub verify: bool,
}

/// Writes the content of `entry`, a file, onto what stands at `path`.
pub(super) fn write(
    chunks: &SnapshotChunks<'_>,
    snapshot: &Snapshot,
    entry: &Entry,
    path: &Path,
    options: &OntoOptions,
    progress: &dyn Progress,
) -> Result<RestoreSummary> {
    let content = file_content(entry)?;
    let device = Device::open(path, !options.dry_run, options.force)?;
    device.check_fits(content.size)?;
    if device.is_block() && device.length() > content.size {
        let message = format!("{} has {} bytes more than the file; these stay as they are", path.display(), device.length() - content.size);
        progress.event(Event::Notice { message: &message });
    }
    progress.event(Event::Phase { name: "restore", bytes_total: Some(content.size), items_total: Some(1) });
    let tally = Tally::new(chunks.repository, progress, chunks.repository.spill_folder(None));
    let mut packs = HashSet::new();
    if !options.dry_run {
        device.fit(content.size)?;
    }
    let mut onto = Onto { device: &device, chunks, tally: &tally, is_dry_run: options.dry_run, buffer: Vec::new() };
    onto.make_holes(content)?;
    with_pipeline(chunks, &tally, &mut packs, &mut onto, |pipeline| pipeline.entry(entry.clone(), Some(content)))?;
    if !options.dry_run {
        device.sync()?;
        if options.verify {
            verify(&device, chunks, entry, content, &tally)?;
        }
    }
    tally.report_frames_damaged();
    let mut summary = RestoreSummary::new(snapshot.id);
    (summary.entries, summary.files, summary.bytes_total) = (1, 1, content.size);
    summary.packs_read = packs.len() as u64;
    summary.take(&tally);
    Ok(summary)
}

struct Onto<'a> {
    device: &'a Device,
    chunks: &'a SnapshotChunks<'a>,
    tally: &'a Tally<'a>,
    is_dry_run: bool,
    buffer: Vec<u8>,
}

impl Onto<'_> {
    fn make_holes(&self, content: &FileContent) -> Result<()> {
        let advance = |looked_at, written| {
            self.tally.check_cancelled()?;
            self.tally.bytes_written.fetch_add(written, Ordering::Relaxed);
            self.tally.bytes_unchanged.fetch_add(looked_at - written, Ordering::Relaxed);
            self.tally.progress.event(Event::Advance { bytes: looked_at, items: 0 });
            Ok(())
        };
        for &(offset, length) in &content.holes {
            match self.is_dry_run {
                false => self.device.zero(offset, length, advance)?,
                // What lies beyond the end of an image file will be a hole.
                true if offset >= self.device.length() || self.device.file().has_zeros(&[(offset, length)]) => advance(length, 0)?,
                true => advance(length, length)?,
            }
        }
        Ok(())
    }
}

impl Sink for Onto<'_> {
    fn begin(&mut self, _: &Entry) -> Result<()> {
        Ok(())
    }

    fn has(&mut self, offset: u64, chunk: &ChunkRef) -> Result<bool> {
        let has = has_chunk(self.device.file(), offset, chunk.length, &chunk.id, self.chunks.reader.ids(), &mut self.buffer)?;
        if !has && !self.is_dry_run {
            return Ok(false);
        }
        let counter = if has { &self.tally.bytes_unchanged } else { &self.tally.bytes_written };
        counter.fetch_add(u64::from(chunk.length), Ordering::Relaxed);
        self.tally.progress.event(Event::Advance { bytes: u64::from(chunk.length), items: 0 });
        // What a dry run would write need not be fetched.
        Ok(true)
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.device.file().write_at(offset, bytes)?;
        self.tally.bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.tally.progress.event(Event::Advance { bytes: bytes.len() as u64, items: 0 });
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.tally.progress.event(Event::Advance { bytes: 0, items: 1 });
        Ok(())
    }
}

/// Reports the first place where the device does not have what the snapshot has.
fn verify(device: &Device, chunks: &SnapshotChunks<'_>, entry: &Entry, content: &FileContent, tally: &Tally<'_>) -> Result<()> {
    tally.progress.event(Event::Phase { name: "verify", bytes_total: Some(content.size), items_total: None });
    device.file().let_go();
    let differs = |offset: u64| {
        tally.item_failed(&entry.key, &format!("what was restored differs from the snapshot: its content at {offset}; look at the disk"));
        Ok::<(), Error>(())
    };
    for hole in &content.holes {
        tally.check_cancelled()?;
        if !device.file().has_zeros(std::slice::from_ref(hole)) {
            return differs(hole.0);
        }
    }
    let (mut layout, mut buffer) = (Layout::new(chunks, content)?, Vec::new());
    while let Some((offset, chunk)) = layout.next()? {
        tally.check_cancelled()?;
        if !has_chunk(device.file(), offset, chunk.length, &chunk.id, chunks.reader.ids(), &mut buffer)? {
            return differs(offset);
        }
        tally.progress.event(Event::Advance { bytes: u64::from(chunk.length), items: 0 });
    }
    Ok(())
}

//! One file to a writer, holes as zeros.

use super::RestoreSummary;
use super::pipeline::{Sink, with_pipeline};
use super::tally::{Tally, shown};
use crate::entry::{Entry, EntryKind, FileContent};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Event, Progress};
use crate::repository::{Snapshot, SnapshotChunks};
use std::collections::HashSet;
use std::io::Write;
use std::sync::atomic::Ordering;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Writes the content of `entry`, a file, to `out`.
pub(super) fn write(
    chunks: &SnapshotChunks<'_>,
    snapshot: &Snapshot,
    entry: &Entry,
    out: &mut dyn Write,
    progress: &dyn Progress,
) -> Result<RestoreSummary> {
    let content = file_content(entry)?;
    progress.event(Event::Phase { name: "restore", bytes_total: Some(content.size), items_total: Some(1) });
    let tally = Tally::new(chunks.repository, progress, chunks.repository.spill_folder(None));
    let mut output = Output { out, position: 0, size: content.size, tally: &tally };
    let mut packs = HashSet::new();
    with_pipeline(chunks, &tally, &mut packs, &mut output, |pipeline| pipeline.entry(entry.clone(), Some(content)))?;
    tally.report_frames_damaged();
    let mut summary = RestoreSummary::new(snapshot.id);
    (summary.entries, summary.files, summary.bytes_total) = (1, 1, content.size);
    summary.packs_read = packs.len() as u64;
    summary.take(&tally);
    Ok(summary)
}

/// The content of an entry that is a file.
pub(super) fn file_content(entry: &Entry) -> Result<&FileContent> {
    match &entry.kind {
        EntryKind::File(content) => Ok(content),
        _ => Err(Error::new(ErrorKind::Invalid, format!("`{}` is no regular file", shown(&entry.key)))),
    }
}

/// Where the bytes go.
struct Output<'a> {
    out: &'a mut dyn Write,
    position: u64,
    size: u64,
    tally: &'a Tally<'a>,
}

impl Sink for Output<'_> {
    fn begin(&mut self, _: &Entry) -> Result<()> {
        Ok(())
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.zeros_until(offset)?;
        self.write(bytes)
    }

    fn end(&mut self) -> Result<()> {
        self.zeros_until(self.size)?;
        self.out.flush().map_err(failed)?;
        self.tally.progress.event(Event::Advance { bytes: 0, items: 1 });
        Ok(())
    }
}

impl Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(failed)?;
        self.position += bytes.len() as u64;
        self.tally.bytes_written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.tally.progress.event(Event::Advance { bytes: bytes.len() as u64, items: 0 });
        Ok(())
    }

    fn zeros_until(&mut self, end: u64) -> Result<()> {
        while self.position < end {
            self.tally.check_cancelled()?;
            let length = usize::try_from(end - self.position).unwrap_or(usize::MAX).min(ZEROS.len());
            self.write(&ZEROS[..length])?;
        }
        Ok(())
    }
}

/// The output cannot be written.
pub(super) fn failed(error: std::io::Error) -> Error {
    Error::io("writing the output", error).with_kind(ErrorKind::Unavailable)
}

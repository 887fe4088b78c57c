//! Large files: workers read, cut and name extents of them, all at once; the assembler joins what they cut.

use super::batch::{Batch, Buffer, Chunking, Cut, Dispatcher, Extent, Item, PIECE_LENGTH};
use super::hints::Hints;
use super::producer::ReadRanges;
use crate::chunker::Guide;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::channel::{Receiver, Sender, unbounded};
use crate::source::SourceFile;
use std::ops::Range;
use std::sync::Arc;

/// The extents of one file, which are dealt out as its ranges come.
pub(super) struct Extents<'a> {
    pub(super) dispatcher: &'a mut Dispatcher,
    pub(super) chunking: &'a Arc<Chunking>,
    hints: Hints<'a>,
    is_fixed: bool,
    /// Bytes of content before the next extent.
    start: u64,
    /// What workers say of reading: where it ended early, if it did.
    report: Sender<Result<Option<u64>>>,
    reports: Receiver<Result<Option<u64>>>,
}

impl<'a> Extents<'a> {
    pub(super) fn new(dispatcher: &'a mut Dispatcher, chunking: &'a Arc<Chunking>, hints: Hints<'a>, is_fixed: bool) -> Self {
        let (report, reports) = unbounded();
        Self { dispatcher, chunking, hints, is_fixed, start: 0, report, reports }
    }
}

impl ReadRanges for Extents<'_> {
    fn read(&mut self, cut: &Cut, file: &Arc<SourceFile>, range: Range<u64>) -> Result<u64> {
        let length_max = cut.cutter.length_max() as u64;
        // Fixed chunks then end where extents do.
        let length_wanted = (PIECE_LENGTH as u64 / length_max).max(1) * length_max;
        let mut offset = range.start;
        while offset < range.end {
            let (mut length, guide) = self.hints.extent(self.start, length_wanted);
            length = length.min(range.end - offset);
            let (chunking, file, report) = (Arc::clone(self.chunking), Arc::clone(file), self.report.clone());
            let (is_fixed, place, is_last) = (self.is_fixed, offset..offset + length, offset + length == range.end);
            let work = move |data| {
                let mut batch = Batch { data, items: Vec::new(), bytes_read: 0 };
                let ended = match read_extent(&chunking, is_fixed, &file, place, is_last, guide, &mut batch) {
                    Ok(ended) => Ok(ended),
                    // The file could not be read, which is no reason to end the backup: the producer says so after the last extent.
                    Err(Failure::Reading(error)) => Err(error),
                    Err(Failure::Inside(error)) => return Err(error),
                };
                // Only after the backup has ended, nobody listens.
                let _ = report.send(ended);
                Ok(batch)
            };
            if !self.dispatcher.dispatch(work) {
                return Err(Error::new(ErrorKind::Cancelled, "the backup has ended"));
            }
            self.start += length;
            offset += length;
        }
        Ok(range.end)
    }

    fn finish(self) -> Result<Option<u64>> {
        drop(self.report);
        let mut first = None;
        for ended in self.reports {
            first = first.into_iter().chain(ended?).min();
        }
        Ok(first)
    }
}

/// Why an extent is not there.
enum Failure {
    Reading(Error),
    Inside(Error),
}

/// Reads, cuts, names and looks up; says where the file ended, if that is within the extent.
fn read_extent(
    chunking: &Arc<Chunking>,
    is_fixed: bool,
    file: &SourceFile,
    place: Range<u64>,
    is_last: bool,
    mut guide: Guide,
    batch: &mut Batch,
) -> std::result::Result<Option<u64>, Failure> {
    let wanted = (place.end - place.start) as usize;
    let data: &mut Buffer = &mut batch.data;
    data.reserve_exact(wanted);
    let length = file.append_at(place.start, wanted, data).map_err(Failure::Reading)?;
    let is_short = length < wanted;
    let is_last = is_last || is_short;
    let (found, _) = chunking.cut_and_find(chunking.cut(is_fixed), &mut guide, data, 0, is_last).map_err(Failure::Inside)?;
    batch.items.push(Item::Extent(Extent { chunking: Arc::clone(chunking), is_fixed, found, is_last, is_short }));
    batch.bytes_read = length as u64;
    Ok(is_short.then_some(place.start + length as u64))
}

//! Merging files into one, streamed, so that their number stays logarithmic.

use super::fault::Result;
use super::folder::Folder;
use super::record;
use super::record_file::{RecordFile, RecordFileWriter};
use super::run::{ChunkRun, Entry, RunReader, RunWriter};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::ops::Range;
use std::sync::Arc;

/// From which file on the newest ones should be merged, given the lengths of all, oldest first.
///
/// Afterwards each file is longer than all newer ones together: there are at most log2 of the total, and each record is
/// rewritten about as often.
pub(super) fn merge_from(lengths: impl DoubleEndedIterator<Item = u64> + ExactSizeIterator) -> Option<usize> {
    let mut newer = 0;
    let mut from = None;
    for (at, length) in lengths.enumerate().rev() {
        if newer > 0 && length <= newer {
            from = Some(at);
        }
        newer += length;
    }
    from
}

/// Merges runs. `renumber` gives the number under which a pack goes on, `None` to drop its entries; it must keep order. `packs` are those of
/// the new run.
pub(super) fn merge_runs(
    folder: &Folder,
    number: u64,
    runs: &[Arc<ChunkRun>],
    packs: Range<u32>,
    renumber: impl Fn(u32) -> Option<u32>,
) -> Result<Option<ChunkRun>> {
    let mut writer = RunWriter::create(folder, number, runs.iter().map(|run| run.len()).sum())?;
    let mut readers: Vec<_> = runs.iter().map(RunReader::new).collect();
    let mut next = BinaryHeap::with_capacity(runs.len());
    for (source, reader) in readers.iter_mut().enumerate() {
        next.extend(reader.next()?.map(|entry| Reverse((entry, source))));
    }
    while let Some(mut first) = next.peek_mut() {
        let Reverse((entry, source)) = *first;
        // Put in the place of the first, which costs less than taking that out and adding this.
        match readers[source].next()? {
            Some(after) => *first = Reverse((after, source)),
            None => drop(PeekMut::pop(first)),
        }
        if let Some(pack) = renumber(entry.pack) {
            writer.push(Entry { pack, ..entry })?;
        }
    }
    Ok(writer.finish(packs)?)
}

/// Merges sorted files. `renumber` gives the ordinal under which a frame goes on, `None` to drop its records; it must keep order.
pub(super) fn merge_ids(
    folder: &Folder,
    number: u64,
    files: &[Arc<RecordFile<12>>],
    renumber: impl Fn(u32) -> Option<u32>,
) -> Result<Option<RecordFile<12>>> {
    let mut writer = RecordFileWriter::create(folder, number)?;
    let mut next = BinaryHeap::with_capacity(files.len());
    for (source, file) in files.iter().enumerate() {
        next.push(Reverse((*file.get(0)?, source, 0)));
    }
    while let Some(Reverse((record, source, at))) = next.pop() {
        let file = &files[source];
        if at + 1 < file.len() {
            next.push(Reverse((*file.get(at + 1)?, source, at + 1)));
        }
        if let Some(ordinal) = renumber(record::ordinal_of(&record)) {
            writer.push(&record::with_ordinal(record, ordinal))?;
        }
    }
    Ok(writer.finish()?)
}

/// Joins files of which record `i`, counted through all, is kept where `is_kept(i)` says so.
pub(super) fn join<const N: usize>(
    folder: &Folder,
    number: u64,
    files: &[Arc<RecordFile<N>>],
    is_kept: impl Fn(u32) -> bool,
) -> Result<Option<RecordFile<N>>> {
    let mut writer = RecordFileWriter::create(folder, number)?;
    let mut ordinal = 0u32;
    for file in files {
        for at in 0..file.len() {
            if is_kept(ordinal) {
                writer.push(file.get(at)?)?;
            }
            // Only the step after the very last ordinal could wrap, and that value is not used.
            ordinal = ordinal.wrapping_add(1);
        }
    }
    Ok(writer.finish()?)
}

#[cfg(test)]
mod tests {
    use super::merge_from;

    #[test]
    fn each_file_is_longer_than_all_newer_ones_together() {
        let mut lengths: Vec<u64> = Vec::new();
        for step in 0..10_000u64 {
            lengths.push(1 + step % 7);
            if let Some(from) = merge_from(lengths.iter().copied()) {
                let merged = lengths.drain(from..).sum();
                lengths.push(merged);
            }
            for at in 0..lengths.len() {
                assert!(lengths[at] > lengths[at + 1..].iter().sum());
            }
        }
        assert!(lengths.len() <= 16);
    }
}

//! Reading back: whether what stands in the target now is what the snapshot has.
//!
//! Kinds, lengths, content, holes, what links point to and which names are one file are compared. Content is asked for from the disk as
//! far as the kernel lets go of its copy. What of the metadata could not be restored was said when it was set.

use super::compare::has_chunk;
use super::layout::Layout;
use super::run::Restore;
use super::scatter::Failure;
use super::tally::{KEYS_BYTES, Tally};
use crate::destination::{Folder, Standing};
use crate::entry::{ChunkRef, Entry, EntryKind, Key, KeyKind};
use crate::error::Result;
use crate::progress::Event;
use crate::repository::ChunkIds;
use crate::spill::SpilledMap;
use crate::tree::find_entry;
use std::sync::atomic::{AtomicBool, Ordering};

/// Chunks that are read back between two looks at the tree.
const PARTS_MAX: usize = 16_384;
/// Chunks that are read back by one task.
const READ_AT_ONCE: usize = 128;

/// Chunks of files that are to be read back.
#[derive(Debug, Default)]
struct Batch {
    files: Vec<(Key, AtomicBool)>,
    /// File, offset, chunk.
    parts: Vec<(usize, u64, ChunkRef)>,
}

impl Restore<'_, '_> {
    /// Compares everything that was restored and did not fail; what differs is reported as failed.
    pub(super) fn verify(&self, folder: &Folder) -> Result<()> {
        let tally = self.tally;
        tally.progress.event(Event::Phase { name: "verify", bytes_total: Some(self.summary.bytes_total), items_total: None });
        // Of files whose first name is outside of what is restored, the name that took its place.
        let mut stand_ins = SpilledMap::new(tally.spill.clone(), KEYS_BYTES);
        let mut batch = Batch::default();
        let mut walk = self.walk()?;
        while let Some(entry) = walk.next() {
            tally.check_cancelled()?;
            let Ok(mut entry) = entry else {
                // Reported before.
                walk.skip_damage();
                continue;
            };
            if tally.is_lost(&entry.key)? {
                continue;
            }
            if let EntryKind::HardLink(earlier) = &mut entry.kind
                && !self.is_restored(earlier)
            {
                match stand_ins.get(earlier)? {
                    Some(name) => *earlier = name,
                    None => {
                        let root = &self.snapshot.body.tree_root;
                        // Where it is damaged that was reported before.
                        let Ok(Some(first)) = find_entry(self.chunks, root, KeyKind::Paths, earlier) else { continue };
                        stand_ins.insert(&first.key, &entry.key)?;
                        entry.kind = first.kind;
                    }
                }
            }
            self.verify_entry(folder, &entry, &mut batch)?;
            tally.progress.event(Event::Advance { bytes: 0, items: 1 });
        }
        self.read_back(folder, &mut batch).map(drop)
    }

    fn verify_entry(&self, folder: &Folder, entry: &Entry, batch: &mut Batch) -> Result<()> {
        let differs = |what: &str| {
            self.tally.item_failed(&entry.key, &format!("what was restored differs from the snapshot: {what}"));
            Ok(())
        };
        let found = match folder.standing(entry) {
            Ok(Standing::Nothing) => return differs("nothing is there"),
            Ok(Standing::Other) => return differs("something else is there"),
            Ok(Standing::Same { file, .. }) => file,
            Err(error) => return differs(&self.tally.refusal(error)?.to_string()),
        };
        let EntryKind::File(content) = &entry.kind else { return Ok(()) };
        let Some((file, length)) = found else {
            return differs("it cannot be read");
        };
        if length != content.size {
            return differs(&format!("it has {length} bytes, not {}", content.size));
        }
        file.let_go();
        if !file.has_zeros(&content.holes) {
            return differs("there is something where holes should be");
        }
        batch.files.push((entry.key.clone(), AtomicBool::new(false)));
        let mut layout = Layout::new(self.chunks, content)?;
        while let Some((offset, chunk)) = layout.next()? {
            batch.parts.push((batch.files.len() - 1, offset, chunk));
            if batch.parts.len() >= PARTS_MAX {
                // What was found of the file so far goes on.
                batch.files = self.read_back(folder, batch)?.into_iter().collect();
            }
        }
        if batch.files.len() >= PARTS_MAX {
            self.read_back(folder, batch)?;
        }
        Ok(())
    }

    /// Empties the batch; gives its last file, with whether it was found to differ.
    fn read_back(&self, folder: &Folder, batch: &mut Batch) -> Result<Option<(Key, AtomicBool)>> {
        let (failure, ids) = (Failure::default(), self.chunks.reader.ids());
        let pool = self.repository.pool()?;
        pool.in_place_scope(|scope| {
            for of_file in batch.parts.chunk_by(|one, other| one.0 == other.0) {
                for parts in of_file.chunks(READ_AT_ONCE) {
                    let Some((key, differs)) = parts.first().and_then(|part| batch.files.get(part.0)) else { continue };
                    let (failure, tally) = (&failure, self.tally);
                    scope.spawn(move |_| {
                        if !failure.is_set()
                            && let Err(error) = compare(folder, ids, tally, key, differs, parts)
                        {
                            failure.set(error);
                        }
                    });
                }
            }
        });
        failure.check()?;
        Ok(std::mem::take(batch).files.pop())
    }
}

fn compare(
    folder: &Folder,
    ids: &ChunkIds,
    tally: &Tally<'_>,
    key: &Key,
    differs: &AtomicBool,
    parts: &[(usize, u64, ChunkRef)],
) -> Result<()> {
    tally.check_cancelled()?;
    let fail = |what: &str| {
        if !differs.swap(true, Ordering::Relaxed) {
            tally.item_failed(key, &format!("what was restored differs from the snapshot: {what}"));
        }
        Ok(())
    };
    let file = match folder.reader(key) {
        Ok(file) => file,
        Err(error) => return fail(&tally.refusal(error)?.to_string()),
    };
    let mut buffer = Vec::new();
    for (_, offset, ChunkRef { id, length }) in parts {
        if !has_chunk(&file, *offset, *length, id, ids, &mut buffer)? {
            return fail(&format!("its content at {offset}, within {length} bytes; look at the disk and restore again"));
        }
        tally.progress.event(Event::Advance { bytes: u64::from(*length), items: 0 });
    }
    Ok(())
}

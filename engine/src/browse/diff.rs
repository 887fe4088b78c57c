//! What changed between two snapshots.

use crate::entry::{Entry, EntryKind, FileContent, Key};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::{Event, Progress};
use crate::repository::{Repository, Snapshot};
use crate::restore::reading::with_reader;
use crate::restore::{find_path, key_kind, key_of};
use crate::tree::{KeyRange, NodeSource, TreeComparison, Unequal};

/// One entry that is not the same in both snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// Only the second snapshot has it.
    Added(Entry),
    /// Only the first snapshot has it.
    Removed(Entry),
    /// Both have it, and it is not the same.
    Changed {
        /// As the first snapshot has it.
        before: Box<Entry>,
        /// As the second snapshot has it.
        after: Box<Entry>,
        /// It became something else, say a folder where a file was; nothing else is compared then.
        kind: bool,
        /// Content, target of a link, or device number.
        content: bool,
        /// Owner, mode, times, flags or attributes.
        metadata: bool,
    },
}

/// How two snapshots differ, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiffSummary {
    /// Entries that only the second snapshot has.
    pub added: u64,
    /// Sizes of the files among them.
    pub added_bytes: u64,
    /// Entries that only the first snapshot has.
    pub removed: u64,
    /// Sizes of the files among them.
    pub removed_bytes: u64,
    /// Entries that changed in any way.
    pub changed: u64,
    /// Entries of which content, kind or target changed.
    pub changed_content: u64,
    /// Sizes that these have in the first snapshot.
    pub changed_bytes_before: u64,
    /// Sizes that these have in the second snapshot.
    pub changed_bytes_after: u64,
    /// Nodes of both trees that were read; what both have in common is not.
    pub nodes_read: u64,
}

impl Repository {
    /// Compares two snapshots, or what both have at `path` and below it, and calls `visit` with every difference in key order.
    ///
    /// Components of `path` are parted by slashes or zero bytes. Content counts as changed where it is cut into other chunks. Of a file with
    /// several names only the first tells what changed; the others are links to it.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the role restore, [`ErrorKind::NotFound`] where neither snapshot has the path,
    /// [`ErrorKind::Invalid`] where one has paths and the other objects, [`ErrorKind::Damaged`] where what is needed is,
    /// [`ErrorKind::Cancelled`] when `progress` says so, and what `visit` returns.
    pub fn diff(
        &self,
        before: &Snapshot,
        after: &Snapshot,
        path: Option<&[u8]>,
        progress: &dyn Progress,
        visit: &mut dyn FnMut(Difference) -> Result<()>,
    ) -> Result<DiffSummary> {
        if key_kind(before) != key_kind(after) {
            return Err(Error::new(ErrorKind::Invalid, "one of the snapshots holds files and the other objects; they cannot be compared"));
        }
        progress.event(Event::Phase { name: "diff", bytes_total: None, items_total: None });
        with_reader(self, progress, |reading| {
            let (before, after) = (reading.snapshot(before.id)?, reading.snapshot(after.id)?);
            let chunks = (reading.chunks(&before, progress)?, reading.chunks(&after, progress)?);
            let range = match path.map(|path| key_of(&after, path)).transpose()? {
                Some(key) => {
                    find_path(&chunks.1, &after, &key).or_else(|error| find_path(&chunks.0, &before, &key).map_err(|_| error))?;
                    KeyRange::folder(&key)
                }
                None => KeyRange::all(),
            };
            let roots = (&before.body.tree_root, &after.body.tree_root);
            let sources: (&dyn NodeSource, &dyn NodeSource) = (&chunks.0, &chunks.1);
            let mut comparison = TreeComparison::new((sources.0, roots.0), (sources.1, roots.1), key_kind(&after), &range)?;
            let mut summary = DiffSummary::default();
            for unequal in comparison.by_ref() {
                let difference = Difference::of(unequal?);
                summary.count(&difference);
                visit(difference)?;
                progress.event(Event::Advance { bytes: 0, items: 1 });
                if progress.is_cancelled() {
                    return Err(Error::new(ErrorKind::Cancelled, "stopped"));
                }
            }
            summary.nodes_read = comparison.nodes_read();
            Ok(summary)
        })
    }
}

impl Difference {
    fn of(unequal: Unequal) -> Self {
        match unequal {
            Unequal::First(entry) => Self::Removed(entry),
            Unequal::Second(entry) => Self::Added(entry),
            Unequal::Both(both) => {
                let (before, after) = *both;
                let kind = std::mem::discriminant(&before.kind) != std::mem::discriminant(&after.kind);
                let content = !kind && !is_same_content(&before.kind, &after.kind);
                let metadata = !kind && before.metadata != after.metadata;
                Self::Changed { before: before.into(), after: after.into(), kind, content, metadata }
            }
        }
    }

    /// The key of the entry.
    pub fn key(&self) -> &Key {
        match self {
            Self::Added(entry) | Self::Removed(entry) => &entry.key,
            Self::Changed { after, .. } => &after.key,
        }
    }
}

fn is_same_content(before: &EntryKind, after: &EntryKind) -> bool {
    match (before, after) {
        (EntryKind::File(before), EntryKind::File(after)) => {
            // The same chunks are the same content, whichever cutter made them.
            let parts = |file: &FileContent| (file.size, file.holes.clone(), file.chunks.clone());
            parts(before) == parts(after)
        }
        _ => before == after,
    }
}

/// The size of a file; 0 for all else.
fn size_of(entry: &Entry) -> u64 {
    match &entry.kind {
        EntryKind::File(content) => content.size,
        _ => 0,
    }
}

impl DiffSummary {
    fn count(&mut self, difference: &Difference) {
        let add = |sum: &mut u64, entry: &Entry| *sum = sum.wrapping_add(size_of(entry));
        match difference {
            Difference::Added(entry) => {
                self.added += 1;
                add(&mut self.added_bytes, entry);
            }
            Difference::Removed(entry) => {
                self.removed += 1;
                add(&mut self.removed_bytes, entry);
            }
            Difference::Changed { before, after, kind, content, .. } => {
                self.changed += 1;
                if *kind || *content {
                    self.changed_content += 1;
                    add(&mut self.changed_bytes_before, before);
                    add(&mut self.changed_bytes_after, after);
                }
            }
        }
    }
}

//! One folder of a snapshot.

use crate::entry::{Entry, Key, KeyKind, join_key, key_components};
use crate::error::Result;
use crate::progress::Silent;
use crate::repository::{Repository, Snapshot, SnapshotChunks};
use crate::restore::reading::with_reader;
use crate::restore::{find_path, key_kind, key_of};
use crate::tree::{KeyRange, TreeWalk};

impl Repository {
    /// Calls `visit` with the entry at `path` (the root folder where `None`) and, if that is a folder, those directly in it. What lies deeper is
    /// not read. In a snapshot of objects, which knows no folders, with all whose keys begin so.
    ///
    /// # Errors
    /// As [`Repository::for_each_entry`].
    pub fn for_each_child(&self, snapshot: &Snapshot, path: Option<&[u8]>, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        if key_kind(snapshot) == KeyKind::Objects {
            return self.for_each_entry(snapshot, path, visit);
        }
        with_reader(self, &Silent, |reading| {
            let snapshot = reading.snapshot(snapshot.id)?;
            let chunks = reading.chunks(&snapshot, &Silent)?;
            let folder = match path {
                Some(path) => find_path(&chunks, &snapshot, &key_of(&snapshot, path)?)?.key,
                None => Key::new(),
            };
            let depth = key_components(&folder).count() + 1;
            let mut range = KeyRange::folder(&folder);
            while let Some(passed) = visit_shallow(&chunks, &snapshot, range, depth, visit)? {
                // Above all that lies below the folder.
                range = KeyRange::folder(&folder).starting_at([&passed[..], &[1]].concat());
            }
            Ok(())
        })
    }
}

/// Visits entries of at most so many components until one lies deeper; the folder in which that is, and `None` at the end.
fn visit_shallow(
    chunks: &SnapshotChunks<'_>,
    snapshot: &Snapshot,
    range: KeyRange,
    depth: usize,
    visit: &mut dyn FnMut(Entry) -> Result<()>,
) -> Result<Option<Key>> {
    for entry in TreeWalk::new(chunks, &snapshot.body.tree_root, key_kind(snapshot), range)? {
        let entry = entry?;
        if key_components(&entry.key).count() > depth {
            return Ok(Some(join_key(key_components(&entry.key).take(depth))));
        }
        visit(entry)?;
    }
    Ok(None)
}

//! Folders that are not done yet, while entries come in key order.

use super::window::weight_of;
use crate::backup::{put_entry, read_entry};
use crate::entry::{Entry, EntryKind, Key, is_below};
use crate::error::{Error, ErrorKind, Result};
use crate::spill::{SpillFolder, SpilledList};

/// Bytes of folders in memory. Those below go to a temporary file: there may be tens of thousands of them, each with a mebibyte of attributes.
const BYTES_MAX: usize = 4 << 20;

/// The folders around the entry that came last. What stands below a folder follows it, so each is left once, those below others first.
#[derive(Debug)]
pub(super) struct OpenFolders {
    /// The key of the deepest one; those of the others are its beginnings.
    path: Key,
    open: Vec<(usize, Kept)>,
    bytes: usize,
    bytes_max: usize,
    spilled: SpilledList,
}

/// A folder without its key.
#[derive(Debug)]
enum Kept {
    Here(Entry),
    /// Its number among those that were spilled.
    Spilled(u64),
}

impl OpenFolders {
    /// None is open. Temporary files are made in `folder`.
    pub(super) fn new(folder: SpillFolder) -> Self {
        Self { path: Key::new(), open: Vec::new(), bytes: 0, bytes_max: BYTES_MAX, spilled: SpilledList::new(folder) }
    }

    /// A folder that came.
    ///
    /// # Errors
    /// What the temporary file says.
    pub(super) fn enter(&mut self, folder: &Entry) -> Result<()> {
        self.path.clone_from(&folder.key);
        let entry = Entry { key: Key::new(), kind: EntryKind::Folder, metadata: folder.metadata.clone() };
        let weight = weight_of(&entry);
        let kept = if self.bytes + weight <= self.bytes_max {
            self.bytes += weight;
            Kept::Here(entry)
        } else {
            let mut bytes = Vec::new();
            put_entry(&mut bytes, &entry);
            Kept::Spilled(self.spilled.push(&bytes)?)
        };
        self.open.push((folder.key.len(), kept));
        Ok(())
    }

    /// Leaves the deepest folder, unless `next` is below it; `None` where no folder is to be left.
    ///
    /// # Errors
    /// As [`OpenFolders::enter`].
    pub(super) fn leave(&mut self, next: Option<&[u8]>) -> Result<Option<Entry>> {
        let Some((length, _)) = self.open.last() else { return Ok(None) };
        let folder = self.path.get(..*length).unwrap_or_default();
        if next.is_some_and(|next| is_below(next, folder)) {
            return Ok(None);
        }
        let key = folder.to_vec();
        let entry = match self.open.pop() {
            None => return Ok(None),
            Some((_, Kept::Here(entry))) => {
                self.bytes -= weight_of(&entry);
                entry
            }
            Some((_, Kept::Spilled(number))) => read_entry(&self.spilled.get(number)?)
                .ok_or_else(|| Error::new(ErrorKind::Internal, "what was kept of a folder cannot be read"))?,
        };
        Ok(Some(Entry { key, ..entry }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::shown;
    use super::*;
    use crate::entry::{Metadata, join_key};

    #[test]
    fn folders_are_left_once_and_deepest_first() {
        for bytes_max in [BYTES_MAX, 0, 2 * size_of::<Entry>()] {
            let mut folders = OpenFolders { bytes_max, ..OpenFolders::new(SpillFolder::default()) };
            let mut left = Vec::new();
            for path in ["", "a", "a/b", "a/b/c", "ab", "b"] {
                let key = join_key(path.split('/').filter(|name| !name.is_empty()));
                while let Some(folder) = folders.leave(Some(&key)).unwrap() {
                    left.push(folder);
                }
                let xattrs = vec![(path.as_bytes().to_vec(), b"value".to_vec())];
                folders.enter(&Entry { key, kind: EntryKind::Folder, metadata: Metadata { xattrs, ..Metadata::default() } }).unwrap();
            }
            while let Some(folder) = folders.leave(None).unwrap() {
                left.push(folder);
            }
            let names: Vec<_> = left.iter().map(|folder| shown(&folder.key)).collect();
            assert_eq!(names, ["a/b/c", "a/b", "a", "ab", "b", "."]);
            let path_of = |folder: &Entry| if folder.key.is_empty() { String::new() } else { shown(&folder.key) };
            assert!(left.iter().all(|folder| folder.metadata.xattrs[0].0 == path_of(folder).into_bytes()));
            assert_eq!(folders.bytes, 0);
        }
    }
}

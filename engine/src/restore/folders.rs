//! Folders that are not done yet, while entries come in key order.

use crate::entry::{Entry, EntryKind, Key, Metadata, is_below};

/// The folders around the entry that came last. What stands below a folder follows it, so each is left once, those below others first.
#[derive(Debug, Default)]
pub(super) struct OpenFolders {
    /// The key of the deepest one; those of the others are its beginnings.
    path: Key,
    open: Vec<(usize, Metadata)>,
}

impl OpenFolders {
    /// A folder that came.
    pub(super) fn enter(&mut self, folder: &Entry) {
        self.path.clone_from(&folder.key);
        self.open.push((folder.key.len(), folder.metadata.clone()));
    }

    /// Leaves the deepest folder, unless `next` is below it; `None` where no folder is to be left.
    pub(super) fn leave(&mut self, next: Option<&[u8]>) -> Option<Entry> {
        let folder = self.path.get(..self.open.last()?.0).unwrap_or_default();
        if next.is_some_and(|next| is_below(next, folder)) {
            return None;
        }
        let key = folder.to_vec();
        let (_, metadata) = self.open.pop()?;
        Some(Entry { key, kind: EntryKind::Folder, metadata })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::join_key;

    #[test]
    fn folders_are_left_once_and_deepest_first() {
        let mut folders = OpenFolders::default();
        let mut left = Vec::new();
        for path in ["", "a", "a/b", "a/b/c", "ab", "b"] {
            let key = join_key(path.split('/').filter(|name| !name.is_empty()));
            left.extend(std::iter::from_fn(|| folders.leave(Some(&key))).map(|folder| super::super::tally::shown(&folder.key)));
            folders.enter(&Entry { key, kind: EntryKind::Folder, metadata: Metadata::default() });
        }
        left.extend(std::iter::from_fn(|| folders.leave(None)).map(|folder| super::super::tally::shown(&folder.key)));
        assert_eq!(left, ["a/b/c", "a/b", "a", "ab", "b", "."]);
    }
}

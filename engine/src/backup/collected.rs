//! Entries that come in any order, put aside until all are there.
//!
//! Names lead to nodes as in a file system: a later entry of the same name takes its place and leaves other names of the old node
//! alone, a link is one more name of the node that its target means when the link comes. At the end the names are sorted, the first name of
//! each node gets the entry and the others link to it.
//!
//! Nothing here makes a backup fail but too much of it: what the tree could not hold is given back with the reason.

use crate::entry::{Entry, EntryKind, Key, KeyKind, Metadata, is_below, key_components};
use crate::error::{Error, ErrorKind, Result};
use crate::tree::{check_entry, entry_weight};
use std::collections::btree_map::Entry as Place;
use std::collections::{BTreeMap, BTreeSet};

/// What entries may come to in memory, roughly. Half a million of usual ones take half of it.
const WEIGHT_MAX: usize = 512 << 20;
/// What the lists take for each entry besides what [`entry_weight`] counts.
const OVERHEAD: usize = 200;
/// Deeper than this no program makes folders.
const DEPTH_MAX: usize = 2_048;

/// The entries so far.
#[derive(Debug, Default)]
pub(super) struct Collected {
    nodes: Vec<(EntryKind, Metadata)>,
    names: BTreeMap<Key, usize>,
    weight: usize,
}

/// An entry that the tree cannot hold, and why.
pub(super) type Refused = (Key, String);

impl Collected {
    /// Takes the next entry, or says why it cannot be kept.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where there are too many.
    pub(super) fn push(&mut self, entry: Entry) -> Result<Option<Refused>> {
        if let EntryKind::HardLink(target) = &entry.kind {
            return self.link(entry.key, target);
        }
        if entry.key.is_empty() && entry.kind != EntryKind::Folder {
            return Ok(Some((entry.key, "the root can only be a folder; skipped".into())));
        }
        if key_components(&entry.key).count() > DEPTH_MAX {
            return Ok(Some((entry.key, format!("it lies more than {DEPTH_MAX} folders deep; skipped"))));
        }
        if let Err(error) = check_entry(&entry, KeyKind::Paths) {
            return Ok(Some((entry.key, format!("{error}; skipped"))));
        }
        grow(&mut self.weight, entry_weight(&entry))?;
        self.names.insert(entry.key, self.nodes.len());
        self.nodes.push((entry.kind, entry.metadata));
        Ok(None)
    }

    fn link(&mut self, key: Key, target: &Key) -> Result<Option<Refused>> {
        let shown = String::from_utf8_lossy(target).replace('\0', "/");
        let Some(node) = self.names.get(target).copied() else {
            return Ok(Some((key, format!("it is a link to `{shown}`, which did not come before it; skipped"))));
        };
        if self.nodes[node].0 == EntryKind::Folder {
            return Ok(Some((key, format!("it is a link to the folder `{shown}`; skipped"))));
        }
        if key.is_empty() {
            return Ok(Some((key, "the root can only be a folder; skipped".into())));
        }
        grow(&mut self.weight, key.len())?;
        self.names.insert(key, node);
        Ok(None)
    }

    /// All entries in the order of their keys, with the folders that lead to them, and what lies below something that is no folder.
    ///
    /// # Errors
    /// As [`Collected::push`].
    pub(super) fn finish(mut self) -> Result<(impl Iterator<Item = Entry>, Vec<Refused>)> {
        let refused = self.refuse_below_files();
        self.add_missing_folders()?;
        let mut firsts: Vec<Option<Key>> = vec![None; self.nodes.len()];
        let mut nodes: Vec<Option<(EntryKind, Metadata)>> = self.nodes.into_iter().map(Some).collect();
        let entries = self.names.into_iter().filter_map(move |(key, node)| match &firsts[node] {
            Some(first) => Some(Entry { key, kind: EntryKind::HardLink(first.clone()), metadata: Metadata::default() }),
            None => {
                let (kind, metadata) = nodes[node].take()?;
                firsts[node] = Some(key.clone());
                Some(Entry { key, kind, metadata })
            }
        });
        Ok((entries, refused))
    }

    fn refuse_below_files(&mut self) -> Vec<Refused> {
        let mut refused = Vec::new();
        // What lies below a name follows it directly.
        let mut file: Option<Key> = None;
        let nodes = &self.nodes;
        self.names.retain(|key, node| {
            let around = file.take().filter(|file| is_below(key, file));
            if let Some(around) = around {
                let shown = String::from_utf8_lossy(&around).replace('\0', "/");
                refused.push((key.clone(), format!("`{shown}` is no folder, and it lies below; skipped")));
                file = Some(around);
                return false;
            }
            if nodes[*node].0 != EntryKind::Folder {
                file = Some(key.clone());
            }
            true
        });
        refused
    }

    fn add_missing_folders(&mut self) -> Result<()> {
        let mut missing = BTreeSet::from([Key::new()]);
        for key in self.names.keys() {
            let mut key = key.as_slice();
            while let Some(end) = key.iter().rposition(|byte| *byte == 0) {
                key = &key[..end];
                if self.names.contains_key(key) || !missing.insert(key.to_vec()) {
                    break;
                }
                grow(&mut self.weight, key.len())?;
            }
        }
        for key in missing {
            if let Place::Vacant(place) = self.names.entry(key) {
                place.insert(self.nodes.len());
                self.nodes.push((EntryKind::Folder, Metadata::of_way()));
            }
        }
        Ok(())
    }
}

fn grow(weight: &mut usize, by: usize) -> Result<()> {
    *weight += by + OVERHEAD;
    match *weight <= WEIGHT_MAX {
        true => Ok(()),
        false => {
            let max = WEIGHT_MAX >> 20;
            let message = format!("names and attributes in the archive take more than {max} MiB; unpack it and back up the folder");
            Err(Error::new(ErrorKind::Unavailable, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{FileContent, join_key};

    fn entry(path: &str, kind: EntryKind) -> Entry {
        let key = join_key(path.split('/').filter(|name| !name.is_empty()));
        Entry { key, kind, metadata: Metadata { mode: 0o700, ..Metadata::default() } }
    }

    fn file(path: &str, cutter: u32) -> Entry {
        entry(path, EntryKind::File(FileContent { cutter, ..FileContent::default() }))
    }

    fn link(path: &str, target: &str) -> Entry {
        entry(path, EntryKind::HardLink(join_key(target.split('/'))))
    }

    /// Names with what they are, and names that were refused.
    fn collect(entries: Vec<Entry>) -> (Vec<String>, Vec<String>) {
        let shown = |key: &Key| String::from_utf8(key.clone()).unwrap().replace('\0', "/");
        let mut collected = Collected::default();
        let mut refused: Vec<_> = entries.into_iter().filter_map(|entry| collected.push(entry).unwrap()).collect();
        let (kept, more) = collected.finish().unwrap();
        refused.extend(more);
        let kept = kept.map(|entry| match &entry.kind {
            EntryKind::HardLink(target) => format!("{} = {}", shown(&entry.key), shown(target)),
            EntryKind::File(content) => format!("{} {}", shown(&entry.key), content.cutter),
            EntryKind::Folder if entry.metadata.mode == 0o755 => format!("({}/)", shown(&entry.key)),
            EntryKind::Folder => format!("{}/", shown(&entry.key)),
            _ => format!("{} ?", shown(&entry.key)),
        });
        (kept.collect(), refused.iter().map(|(key, _)| shown(key)).collect())
    }

    #[test]
    fn entries_are_sorted_and_get_the_folders_that_lead_to_them() {
        let (kept, refused) =
            collect(vec![file("b/c/d", 1), file("b/c/e", 1), entry("b", EntryKind::Folder), file("a.b", 2), file("a", 3)]);
        assert_eq!(kept, ["(/)", "a 3", "a.b 2", "b/", "(b/c/)", "b/c/d 1", "b/c/e 1"]);
        assert!(refused.is_empty());
        assert_eq!(collect(vec![entry("", EntryKind::Folder)]).0, ["/"]);
        assert_eq!(collect(Vec::new()).0, ["(/)"]);
    }

    #[test]
    fn the_last_of_a_name_counts_and_links_keep_what_they_linked_to() {
        let (kept, refused) = collect(vec![file("z", 1), link("y", "z"), link("a", "y"), file("z", 2), link("m", "z"), file("m", 3)]);
        assert_eq!((kept, refused.len()), (vec!["(/)".to_owned(), "a 1".into(), "m 3".into(), "y = a".into(), "z 2".into()], 0));
    }

    #[test]
    fn what_a_tree_cannot_hold_is_refused_and_the_rest_kept() {
        let (kept, refused) = collect(vec![
            link("early", "file"),
            file("file", 1),
            file("file/below", 2),
            entry("link", EntryKind::Symlink(b"/etc".to_vec())),
            file("link/passwd", 3),
            entry("link/deep/er", EntryKind::Folder),
            entry("empty-link", EntryKind::Symlink(Vec::new())),
            entry("folder", EntryKind::Folder),
            link("of-folder", "folder"),
            file("", 4),
            file(&"d/".repeat(3000), 5),
            file("file.", 6),
        ]);
        assert_eq!(kept, ["(/)", "file 1", "file. 6", "folder/", "link ?"]);
        assert_eq!(refused.len(), 8, "{refused:?}");
    }

    #[test]
    fn a_file_whose_first_name_is_refused_keeps_its_others() {
        let (kept, refused) = collect(vec![file("a/b", 1), link("c", "a/b"), file("a", 2)]);
        assert_eq!((kept, refused), (vec!["(/)".to_owned(), "a 2".into(), "c 1".into()], vec!["a/b".to_owned()]));
    }

    #[test]
    fn too_many_names_end_the_backup() {
        let mut collected = Collected { weight: WEIGHT_MAX, ..Collected::default() };
        let error = collected.push(file("a", 1)).unwrap_err();
        assert!(error.to_string().contains("unpack it"), "{error}");
    }
}

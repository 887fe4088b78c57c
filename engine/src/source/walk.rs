//! The walk itself: puts together what tasks give, in key order.

use super::folder::{OPEN_MAX, OpenFolders};
use super::links::{Links, Name};
use super::owners::Owners;
use super::rules::Rules;
use super::visit::{Batch, Slot, Visitor, list_order};
use super::workers::Workers;
use super::{Known, Roots, SourceOptions, WalkItem};
use crate::entry::{EntryKind, Key, Metadata};
use crate::error::Result;
use crate::runtime::Runtime;
use std::sync::Arc;

/// Iterates over everything below [`Roots`], in strict key order.
///
/// Threads read ahead of it by a few megabytes of entries; dropping it stops them.
///
/// Memory: the names in the folders between the root and the current entry (8 bytes and the name each), the entries of one batch (256) for
/// each of those folders, what was read ahead, and a key for every inode of which more hard links may come.
/// Descriptors: 128 folders at most, and what threads hold while at work.
#[derive(Debug)]
pub struct Walk {
    workers: Workers,
    levels: Vec<Current>,
    /// Where to go down before the next item.
    descend: Option<Key>,
    links: Links,
    /// What is to be said after the entry that was given last.
    lost_link: Option<WalkItem>,
}

/// A folder that the walk is in.
#[derive(Debug)]
struct Current {
    slots: std::vec::IntoIter<Slot>,
    next: Option<Key>,
}

impl From<Batch> for Current {
    fn from(batch: Batch) -> Self {
        Self { slots: batch.slots.into_iter(), next: batch.next }
    }
}

impl Walk {
    /// Begins to read. `known` tells which entries the caller remembers well enough to do without their extended attributes and
    /// inode flags; with `None` all are read.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] naming a pattern or a name among the options that makes no sense.
    pub fn start(roots: &Roots, options: &SourceOptions, known: Option<Arc<dyn Known>>, runtime: &Runtime) -> Result<Self> {
        Self::start_with(roots, options, known, runtime, OPEN_MAX)
    }

    /// As [`Walk::start`], with another limit on open folders.
    pub(super) fn start_with(
        roots: &Roots,
        options: &SourceOptions,
        known: Option<Arc<dyn Known>>,
        runtime: &Runtime,
        open_max: usize,
    ) -> Result<Self> {
        let visitor = Visitor { rules: Rules::new(options)?, owners: Owners::of_system(), known, open: OpenFolders::new(open_max) };
        let workers = Workers::start(visitor, runtime.executor.as_ref())?;
        let mut batch = workers.visitor().begin(roots);
        workers.add(std::mem::take(&mut batch.tasks));
        Ok(Self { workers, levels: vec![batch.into()], descend: None, links: Links::default(), lost_link: None })
    }

    fn step(&mut self) -> Result<Option<Slot>> {
        loop {
            if let Some(order) = self.descend.take() {
                let batch = self.workers.take(&order)?;
                self.levels.push(batch.into());
            }
            let Some(level) = self.levels.last_mut() else { return Ok(None) };
            if let Some(slot) = level.slots.next() {
                // A folder that is done is left before going down, so that a deep chain needs no memory for its levels.
                if slot.descend && level.slots.len() == 0 && level.next.is_none() {
                    self.levels.pop();
                }
                return Ok(Some(slot));
            }
            match level.next.take() {
                Some(order) => *level = self.workers.take(&order)?.into(),
                None => drop(self.levels.pop()),
            }
        }
    }

    fn finish(&mut self, slot: Slot) -> WalkItem {
        let mut item = slot.item;
        if let WalkItem::Entry(entry) = &mut item {
            if slot.descend {
                self.descend = Some(list_order(&entry.entry.key));
            }
            let name = if slot.links > 1 { self.links.seen(&entry.entry.key, &entry.stat, slot.links) } else { Name::First };
            match name {
                Name::First => {}
                Name::Link(first) => {
                    entry.entry.kind = EntryKind::HardLink(first);
                    entry.entry.metadata = Metadata::default();
                    (entry.has_details, entry.is_known) = (true, false);
                }
                Name::Changed(first) => {
                    let first = String::from_utf8_lossy(&first).replace('\0', "/");
                    let message =
                        format!("it was another name of `{first}`, which has changed since that was found; each is stored by itself");
                    self.lost_link = Some(WalkItem::Failed { path: entry.path(), message });
                }
            }
        }
        item
    }
}

impl Iterator for Walk {
    type Item = Result<WalkItem>;

    /// The next item. An error means that the walk itself broke: it ends there.
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(item) = self.lost_link.take() {
            return Some(Ok(item));
        }
        match self.step() {
            Ok(slot) => slot.map(|slot| Ok(self.finish(slot))),
            Err(error) => {
                self.levels.clear();
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::StatKey;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn names_that_are_links_no_more_because_the_file_changed_are_told() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("b"), "x").unwrap();
        std::fs::hard_link(root.path().join("b"), root.path().join("c")).unwrap();
        let roots = Roots::resolve(&[root.path().join(".")]).unwrap();
        let mut walk = Walk::start(&roots, &SourceOptions::default(), None, &Runtime::system(1)).unwrap();
        // As if the file had changed since its name `a` was seen.
        let facts = root.path().join("b").metadata().unwrap();
        let time = crate::runtime::Timestamp::default();
        let before = StatKey { device: facts.dev(), inode: facts.ino(), ctime: time, modified: time, size: 0 };
        assert_eq!(walk.links.seen(&b"a".to_vec(), &before, 3), Name::First);
        let found: Vec<_> = walk
            .map(|item| match item.unwrap() {
                WalkItem::Entry(entry) => (entry.entry.key, format!("{:?}", std::mem::discriminant(&entry.entry.kind))),
                WalkItem::Failed { path, message } => (path, message),
            })
            .collect();
        assert_eq!(found.len(), 4, "the folder, `b`, what is said of it, and `c`");
        assert!(found[2].0.ends_with(b"/b") && found[2].1.contains("another name of `a`"), "{found:?}");
        assert_eq!(found[3].1, format!("{:?}", std::mem::discriminant(&EntryKind::HardLink(Key::new()))));
    }
}

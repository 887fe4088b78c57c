//! The walk itself: puts together what tasks give, in key order.

use super::folder::{OPEN_MAX, OpenFolders};
use super::links::Links;
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
        Ok(Self { workers, levels: vec![batch.into()], descend: None, links: Links::default() })
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
            if slot.links > 1
                && let Some(first) = self.links.seen(&entry.entry.key, &entry.stat, slot.links)
            {
                entry.entry.kind = EntryKind::HardLink(first);
                entry.entry.metadata = Metadata::default();
                (entry.has_details, entry.is_known) = (true, false);
            }
        }
        item
    }
}

impl Iterator for Walk {
    type Item = Result<WalkItem>;

    /// The next item. An error means that the walk itself broke: it ends there.
    fn next(&mut self) -> Option<Self::Item> {
        match self.step() {
            Ok(slot) => slot.map(|slot| Ok(self.finish(slot))),
            Err(error) => {
                self.levels.clear();
                Some(Err(error))
            }
        }
    }
}

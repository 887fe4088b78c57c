//! Deleting what the snapshot does not have: its entries and the names in the target are walked side by side, in the same order.
//!
//! Invariants:
//! - Nothing above or beside what is restored is deleted, and nothing outside the target; a link is deleted, not what it points to.
//! - Folders that are spared, and those where something is mounted, are not entered, whether the snapshot has them or not. The folder that
//!   was asked for may be a mount.
//! - Where a part of the list of entries is damaged nothing more is deleted: what seems not to be in the snapshot may be in that part.

use super::tally::{Tally, shown};
use crate::destination::{Folder, Name, Spared};
use crate::entry::{EntryKind, Key, is_below};
use crate::error::{ErrorKind, Result};
use crate::progress::{Change, Event};
use crate::tree::TreeWalk;
use std::cmp::Ordering;
use std::iter::Peekable;
use std::vec::IntoIter;

/// Deletes, or only tells what would be deleted.
#[derive(Debug)]
pub(super) struct Deletion<'a> {
    folder: &'a Folder,
    spared: &'a Spared,
    tally: &'a Tally<'a>,
    is_dry_run: bool,
    /// The folders of the target around the entry that came last.
    open: Vec<Listing>,
}

/// A folder of the target that is in the snapshot too.
#[derive(Debug)]
struct Listing {
    key: Key,
    names: Peekable<IntoIter<Name>>,
}

impl<'a> Deletion<'a> {
    pub(super) fn new(folder: &'a Folder, spared: &'a Spared, tally: &'a Tally<'a>, is_dry_run: bool) -> Self {
        Self { folder, spared, tally, is_dry_run, open: Vec::new() }
    }

    /// Walks the entries at and below `top`, of which `walk` gives all.
    pub(super) fn run(mut self, top: &Key, walk: TreeWalk<'_>) -> Result<()> {
        if self.folder.is_in_spared(top, self.spared) {
            let message = format!("{}: nothing is deleted, since it is, or is in, something that icecore itself needs", shown(top));
            self.tally.progress.event(Event::Notice { message: &message });
            return Ok(());
        }
        let mut is_first = true;
        for entry in walk {
            self.tally.check_cancelled()?;
            let Ok(entry) = entry else {
                let message = "a part of the list of files is damaged: nothing more is deleted, since it may be in that part";
                self.tally.progress.event(Event::Notice { message });
                return Ok(());
            };
            let is_folder = entry.kind == EntryKind::Folder;
            if std::mem::take(&mut is_first) {
                // The snapshot of a stream has no entry for its root.
                if is_folder || (top.is_empty() && !entry.key.is_empty()) {
                    self.enter(top.clone())?;
                }
                if entry.key == *top {
                    // What is restored is one file, and a folder stands there. One that cannot be listed fails when the file is made.
                    if !is_folder && !self.folder.names(top).unwrap_or_default().is_empty() {
                        delete(self.folder, self.spared, self.tally, self.is_dry_run, top.clone(), true)?;
                    }
                    continue;
                }
            }
            self.pass(&entry.key, is_folder)?;
        }
        while let Some(listing) = self.open.pop() {
            self.delete_rest(listing)?;
        }
        Ok(())
    }

    /// Goes on to an entry: names before it are not in the snapshot.
    fn pass(&mut self, key: &Key, is_folder: bool) -> Result<()> {
        while self.open.last().is_some_and(|listing| !is_below(key, &listing.key)) {
            if let Some(listing) = self.open.pop() {
                self.delete_rest(listing)?;
            }
        }
        // Mostly one round; more where a folder has no entry of its own.
        while let Some(listing) = self.open.last_mut() {
            let start = if listing.key.is_empty() { 0 } else { listing.key.len() + 1 };
            let rest = key.get(start..).unwrap_or_default();
            let length = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
            let (here, is_last) = (key[..start + length].to_vec(), length == rest.len());
            let found = loop {
                match listing.names.peek().map(|name| name.bytes.as_slice().cmp(&rest[..length])) {
                    Some(Ordering::Less) => {
                        let Some(name) = listing.names.next() else { break None };
                        let below = join(&listing.key, &name.bytes);
                        delete(self.folder, self.spared, self.tally, self.is_dry_run, below, name.is_folder)?;
                    }
                    Some(Ordering::Equal) => break listing.names.next(),
                    _ => break None,
                }
            };
            match (found, is_last && !is_folder) {
                (Some(Name { is_folder: true, .. }), false) if is_kept(self.folder, self.spared, self.tally, &here) => return Ok(()),
                (Some(Name { is_folder: true, .. }), false) => self.enter(here)?,
                // A folder where the snapshot has something else: it has to give way.
                (Some(Name { is_folder: true, .. }), true) => {
                    return delete(self.folder, self.spared, self.tally, self.is_dry_run, here, true);
                }
                _ => return Ok(()),
            }
            if is_last {
                return Ok(());
            }
        }
        Ok(())
    }

    fn enter(&mut self, key: Key) -> Result<()> {
        if !self.is_dry_run {
            self.folder.open_up(&key);
        }
        match self.folder.names(&key) {
            Ok(names) => self.open.push(Listing { key, names: names.into_iter().peekable() }),
            Err(error) => self.tally.item_failed(&key, &self.tally.refusal(error)?.to_string()),
        }
        Ok(())
    }

    fn delete_rest(&self, listing: Listing) -> Result<()> {
        for name in listing.names {
            delete(self.folder, self.spared, self.tally, self.is_dry_run, join(&listing.key, &name.bytes), name.is_folder)?;
        }
        Ok(())
    }
}

/// Deletes something with all that is below it, or tells that it would. A folder that keeps something stays.
fn delete(folder: &Folder, spared: &Spared, tally: &Tally<'_>, is_dry_run: bool, key: Key, is_folder: bool) -> Result<()> {
    let mut open: Vec<Listing> = Vec::new();
    let mut next = Some((key, is_folder));
    // How many of the innermost open folders keep something.
    let mut kept = 0;
    loop {
        tally.check_cancelled()?;
        let remove = match next.take() {
            Some((key, _)) if is_kept(folder, spared, tally, &key) => {
                kept = open.len();
                None
            }
            Some((key, true)) => {
                if !is_dry_run {
                    folder.open_up(&key);
                }
                let names = folder.names(&key).or_else(|error| {
                    tally.item_failed(&key, &tally.refusal(error)?.to_string());
                    kept = open.len() + 1;
                    Ok(Vec::new())
                })?;
                open.push(Listing { key, names: names.into_iter().peekable() });
                None
            }
            Some((key, false)) => Some(key),
            None => open.pop().and_then(|listing| {
                let is_kept = kept > open.len();
                kept = kept.min(open.len());
                (!is_kept).then_some(listing.key)
            }),
        };
        if let Some(key) = remove
            && !remove_one(folder, tally, is_dry_run, &key)?
        {
            kept = open.len();
        }
        match open.last_mut() {
            None => return Ok(()),
            Some(listing) => next = listing.names.next().map(|name| (join(&listing.key, &name.bytes), name.is_folder)),
        }
    }
}

/// Whether neither this nor anything below it may be deleted, which is said.
fn is_kept(folder: &Folder, spared: &Spared, tally: &Tally<'_>, key: &Key) -> bool {
    let reason = match () {
        () if folder.is_spared(key, spared) => "icecore itself needs it",
        () if folder.is_mount(key) => "another file system is mounted here",
        () => return false,
    };
    let message = format!("{} is not deleted, nor anything in it: {reason}", shown(key));
    tally.progress.event(Event::Notice { message: &message });
    true
}

/// Whether it is gone, or would be.
fn remove_one(folder: &Folder, tally: &Tally<'_>, is_dry_run: bool, key: &Key) -> Result<bool> {
    if !is_dry_run && let Err(error) = folder.remove(key) {
        match error.kind() {
            // What was made meanwhile, or was told of already.
            ErrorKind::AlreadyExists => tally.progress.event(Event::Notice { message: &error.to_string() }),
            _ => tally.item_failed(key, &tally.refusal(error)?.to_string()),
        }
        return Ok(false);
    }
    tally.items_deleted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    tally.progress.event(Event::Change { item: &shown(key), change: Change::Deleted, bytes: 0 });
    Ok(true)
}

fn join(folder: &[u8], name: &[u8]) -> Key {
    if folder.is_empty() { name.to_vec() } else { [folder, &[0], name].concat() }
}

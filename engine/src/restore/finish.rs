//! What comes after the content: metadata of what is whole, and inode flags that forbid every later step.

use super::folders::OpenFolders;
use super::run::Restore;
use super::tally::{Tally, shown};
use super::window::{Item, Way, Window};
use crate::destination::Folder;
use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Event;
use std::sync::atomic::Ordering;

impl Restore<'_, '_> {
    /// Inode flags that forbid every later step come last.
    pub(super) fn finish_flags(&self, folder: &Folder) -> Result<()> {
        let mut folders = OpenFolders::new(self.tally.spill.clone());
        let finish = |entry: &Entry| -> Result<()> {
            self.tally.check_cancelled()?;
            if self.tally.is_lost(&entry.key)? {
                return Ok(());
            }
            match folder.finish_flags(entry) {
                Ok(problems) => self.tally.problems(&entry.key, &problems),
                Err(error) => self.tally.item_failed(&entry.key, &self.tally.refusal(error)?.to_string()),
            }
            Ok(())
        };
        let mut walk = self.walk()?;
        while let Some(entry) = walk.next() {
            let Ok(entry) = entry else {
                // Reported before.
                walk.skip_damage();
                continue;
            };
            while let Some(left) = folders.leave(Some(&entry.key))? {
                finish(&left)?;
            }
            match entry.kind {
                EntryKind::Folder => folders.enter(&entry)?,
                _ => finish(&entry)?,
            }
        }
        while let Some(left) = folders.leave(None)? {
            finish(&left)?;
        }
        self.above.iter().rev().try_for_each(finish)
    }

    pub(super) fn report_owners(&self, folder: &Folder) {
        let count = folder.owners_left();
        if count == 0 {
            return;
        }
        let things = if count == 1 { "entry" } else { "entries" };
        let message = format!("this process had no right to restore the owner or group of {count} {things}");
        if folder.is_root() {
            self.tally.items_failed.fetch_add(count, Ordering::Relaxed);
            self.tally.progress.event(Event::ItemFailed { item: ".", message: &message });
        } else {
            self.tally.progress.event(Event::Notice { message: &message });
        }
    }
}

/// Restores the metadata of an item whose content is there, and removes one whose content is not. One with content that comes later is
/// finished later.
pub(super) fn finish_item(item: &Item, folder: &Folder, tally: &Tally<'_>) -> Result<()> {
    if item.later.is_some() && item.way != Way::Small {
        if item.has_failed() && tally.lose(&item.entry.key)? {
            remove_damaged(item, folder, tally);
        }
        return Ok(());
    }
    if !item.has_failed() && item.way != Way::Small {
        match folder.finish_metadata(&item.entry) {
            Ok(problems) => tally.problems(&item.entry.key, &problems),
            Err(error) => {
                let error = tally.refusal(error)?;
                if item.fail() {
                    tally.item_failed(&item.entry.key, &error.to_string());
                }
            }
        }
    } else {
        remove_damaged(item, folder, tally);
    }
    if item.has_failed() {
        tally.lose(&item.entry.key)?;
    }
    Ok(())
}

/// Half a file must not look like a whole one.
pub(super) fn remove_damaged(item: &Item, folder: &Folder, tally: &Tally<'_>) {
    if item.has_failed()
        && matches!(item.way, Way::Prepared { .. })
        && let Err(error) = folder.remove_file(&item.entry.key)
    {
        let message = format!("only a part of it was restored, and that part could not be removed: {error}");
        tally.progress.event(Event::Notice { message: &format!("{}: {message}", shown(&item.entry.key)) });
    }
}

/// Makes the links of a window whose items are finished, then finishes the folders below which nothing comes any more.
pub(super) fn finish_window(window: &Window, folder: &Folder, tally: &Tally<'_>) -> Result<()> {
    for link in &window.links {
        make_link(link, folder, tally)?;
    }
    for entry in &window.folders {
        match folder.finish_metadata(entry) {
            Ok(problems) => tally.problems(&entry.key, &problems),
            Err(error) => tally.refused(&entry.key, error)?,
        }
    }
    Ok(())
}

fn make_link(link: &Entry, folder: &Folder, tally: &Tally<'_>) -> Result<()> {
    let EntryKind::HardLink(earlier) = &link.kind else { return Ok(()) };
    let made = match tally.is_lost(earlier)? {
        true => Err(Error::new(ErrorKind::NotFound, format!("{}, of which it is another name, was not restored", shown(earlier)))),
        false => folder.prepare(link).map(drop),
    };
    made.or_else(|error| tally.refused(&link.key, error))
}

//! What comes after the content: metadata of what is whole, and inode flags that forbid every later step.

use super::folders::OpenFolders;
use super::run::Restore;
use super::scatter::Failure;
use super::tally::{Tally, shown};
use super::window::{Item, Way};
use crate::destination::Folder;
use crate::entry::{Entry, EntryKind};
use crate::error::Result;
use crate::progress::Event;
use crate::runtime::Pool;
use std::sync::atomic::Ordering;

/// Items that are finished by one task.
const FINISHED_AT_ONCE: usize = 256;

impl Restore<'_> {
    /// Inode flags that forbid every later step come last.
    pub(super) fn finish_flags(&self, folder: &Folder) -> Result<()> {
        let mut folders = OpenFolders::default();
        let finish = |entry: &Entry| -> Result<()> {
            self.tally.check_cancelled()?;
            if self.failed.contains(&entry.key) {
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
            while let Some(left) = folders.leave(Some(&entry.key)) {
                finish(&left)?;
            }
            match entry.kind {
                EntryKind::Folder => folders.enter(&entry),
                _ => finish(&entry)?,
            }
        }
        while let Some(left) = folders.leave(None) {
            finish(&left)?;
        }
        self.above.iter().rev().try_for_each(finish)
    }

    pub(super) fn report_owners(&self, folder: &Folder) {
        let count = folder.owners_left();
        if count == 0 {
            return;
        }
        let message = format!("this process had no right to restore the owner or group of {count} entries");
        if folder.is_root() {
            self.tally.items_failed.fetch_add(count, Ordering::Relaxed);
            self.tally.progress.event(Event::ItemFailed { item: ".", message: &message });
        } else {
            self.tally.progress.event(Event::Notice { message: &message });
        }
    }
}

/// Restores the metadata of what is whole, and removes what is not.
pub(super) fn finish_items(items: &[Item], folder: &Folder, tally: &Tally<'_>, pool: &Pool, goes_on: bool) -> Result<()> {
    let failure = Failure::default();
    let finish = |item: &Item| -> Result<()> {
        match item.way {
            Way::Prepared { .. } if item.has_failed() => {
                if let Err(error) = folder.remove_file(&item.entry.key) {
                    let message = format!("only a part of it was restored, and that part could not be removed: {error}");
                    tally.progress.event(Event::Notice { message: &format!("{}: {message}", shown(&item.entry.key)) });
                }
            }
            Way::Prepared { .. } | Way::Bare if goes_on && !item.has_failed() => match folder.finish_metadata(&item.entry) {
                Ok(problems) => tally.problems(&item.entry.key, &problems),
                Err(error) => {
                    let error = tally.refusal(error)?;
                    if item.fail() {
                        tally.item_failed(&item.entry.key, &error.to_string());
                    }
                }
            },
            _ => {}
        }
        Ok(())
    };
    pool.in_place_scope(|scope| {
        for some in items.chunks(FINISHED_AT_ONCE) {
            let (finish, failure) = (&finish, &failure);
            scope.spawn(move |_| {
                if let Err(error) = some.iter().try_for_each(finish) {
                    failure.set(error);
                }
            });
        }
    });
    failure.into_result()
}

//! A dry run: what would become of each item, by a look at the target.

use super::run::Restore;
use super::tally::shown;
use super::window::{Item, Reads, Way, Window};
use super::{RestorePlan, RestoreSummary};
use crate::destination::{Folder, Standing};
use crate::entry::{Entry, EntryKind};
use crate::error::Result;
use crate::progress::{Change, Event};
use std::sync::atomic::Ordering;

/// What would become of the entry, as far as that can be said without its content, `None` where nothing would; and whether what is there
/// would be kept.
fn foresee(folder: Option<&Folder>, entry: &Entry) -> (Option<Change>, bool) {
    let Some(folder) = folder else { return (Some(Change::Created), false) };
    match folder.standing(entry) {
        Ok(Standing::Nothing | Standing::Other) => (Some(Change::Created), false),
        Ok(Standing::Same { file, is_kept }) => {
            let has_length = match (&entry.kind, file) {
                (EntryKind::File(content), Some((file, length))) => length == content.size && file.has_zeros(&content.holes),
                (EntryKind::File(_), None) => false,
                _ => true,
            };
            ((!is_kept || !has_length || !folder.has_metadata(entry)).then_some(Change::Changed), is_kept)
        }
        // The restore will say what is wrong.
        Err(_) => (Some(Change::Changed), false),
    }
}

/// Notes in the item what would become of it, and whether its content is worth comparing.
pub(super) fn foresee_item(folder: Option<&Folder>, item: &mut Item) {
    let (change, is_kept) = foresee(folder, &item.entry);
    item.planned.0 = change;
    match item.way {
        Way::Small if !is_kept => item.way = Way::Prepared { old: 0 },
        Way::Prepared { .. } => item.way = Way::Prepared { old: if is_kept { u64::MAX } else { 0 } },
        Way::Small | Way::Bare => {}
    }
}

impl Restore<'_, '_> {
    /// Tells what would become of an entry that has no content.
    pub(super) fn foresee_bare(&mut self, folder: Option<&Folder>, entry: &Entry) {
        let (change, _) = foresee(folder, entry);
        self.tell(entry, change, 0);
    }

    /// The same for a folder above what is restored, whose metadata stays as it is where it is there.
    pub(super) fn foresee_above(&mut self, folder: Option<&Folder>, entry: &Entry) {
        if foresee(folder, entry).0 == Some(Change::Created) {
            self.tell(entry, Some(Change::Created), 0);
        }
    }

    /// Counts what would be written, and tells of items whose content is planned as a whole.
    pub(super) fn foresee_window(&mut self, folder: Option<&Folder>, window: &mut Window, whole: usize) {
        for used in &window.uses {
            self.tally.bytes_written.fetch_add(u64::from(used.length), Ordering::Relaxed);
            if let Some(item) = window.items.get_mut(used.item as usize) {
                item.planned.1 += u64::from(used.length);
            }
        }
        for item in window.items.iter().take(whole).filter(|item| !item.has_failed()) {
            let (change, bytes) = item.planned;
            self.tell(&item.entry, change.or((bytes > 0).then_some(Change::Changed)), bytes);
        }
        for link in &window.links {
            self.foresee_bare(folder, link);
        }
    }

    /// Counts what would be read.
    pub(super) fn count_reads(&mut self, window: &Window) -> Result<()> {
        let mut reads = Reads::default();
        while let Some(read) = reads.next(&window.uses, self.chunks.reader, &self.limits)? {
            self.packs.insert(read.pack);
            self.tally.bytes_fetched.fetch_add(read.length, Ordering::Relaxed);
            self.tally.frames_decoded.fetch_add(read.frames.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Counts what becomes of an entry, and tells of it.
    pub(super) fn tell(&mut self, entry: &Entry, change: Option<Change>, bytes: u64) {
        let RestoreSummary { plan, .. } = &mut self.summary;
        let plan = plan.get_or_insert_with(RestorePlan::default);
        let Some(change) = change else {
            plan.unchanged += 1;
            return;
        };
        match change {
            Change::Created => plan.created += 1,
            Change::Changed | Change::Deleted => plan.changed += 1,
        }
        self.tally.progress.event(Event::Change { item: &shown(&entry.key), change, bytes });
    }
}

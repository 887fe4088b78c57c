//! From a window that is planned to work: without what the target has, without what has to wait, and in the order of reading.

use super::compare::Comparison;
use super::later::Later;
use super::run::{Last, Restore, Target};
use super::window::Window;
use crate::error::Result;
use crate::spill::SpillFolder;

impl Restore<'_, '_> {
    pub(super) fn flush_if_full(&mut self) -> Result<()> {
        match self.window.is_full(&self.limits.of_window(self.windows)) {
            true => self.flush(Last::IsWhole),
            false => Ok(()),
        }
    }

    /// Gives what was planned to the pool, or counts it: what no other window may need a frame of as well.
    pub(super) fn flush(&mut self, last: Last) -> Result<()> {
        let mut window = self.complete_window(last)?;
        self.later.take(&mut window, self.chunks)?;
        if last == Last::GoesOn
            && let Some(item) = window.items.last()
        {
            self.window.weigh(&item.entry);
            self.window.items.push(item.clone());
        }
        self.give(window, last)
    }

    /// The same for the last window, and for what waited for it.
    pub(super) fn flush_last(&mut self) -> Result<()> {
        let mut window = self.complete_window(Last::IsWhole)?;
        if !self.later.is_empty() {
            self.later.take(&mut window, self.chunks)?;
        }
        self.give(window, Last::IsWhole)?;
        if self.later.is_empty() {
            return Ok(());
        }
        let later = std::mem::replace(&mut self.later, Later::new(SpillFolder::default(), &self.limits));
        self.take_later(later)
    }

    /// What was planned, without what the target has, by frame.
    fn complete_window(&mut self, last: Last) -> Result<Window> {
        let mut window = std::mem::take(&mut self.window);
        self.windows += 1;
        if let Some(folder) = self.target.folder().filter(|folder| !folder.is_new()) {
            let may_write = matches!(self.target, Target::Written(_));
            let comparison = Comparison { folder, ids: self.chunks.reader.ids(), tally: self.tally, may_write };
            comparison.run(&mut window, &*self.repository.pool()?)?;
        }
        window.sort();
        if let Target::Planned(folder) = self.target {
            let whole = window.items.len() - usize::from(last == Last::GoesOn && !window.items.is_empty());
            self.foresee_window(folder, &mut window, whole);
        }
        Ok(window)
    }

    /// Gives a window to the pool, or counts what it would read.
    pub(super) fn give(&mut self, mut window: Window, last: Last) -> Result<()> {
        window.order(self.chunks.reader, self.limits.keeps_bases)?;
        match &mut self.work {
            Some(work) => work.take(window, last),
            None => self.count_reads(&window),
        }
    }
}

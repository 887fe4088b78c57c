//! Windows on their way: the pool carries them out while the calling thread plans the next.
//!
//! Tasks never wait for one another; the calling thread alone knows what comes next, and looks for it between two entries that it plans.
//!
//! - Reads of all windows begin in the order of the plans; so many are on their way at once that memory is bounded.
//! - Only of the oldest window is the metadata finished, once all its content is there, and then its links and folders. So a folder is
//!   finished after everything in it, and a link comes after its first name.

use super::finish::{finish_item, finish_window, remove_damaged};
use super::run::Last;
use super::scatter::Scatter;
use super::tally::Tally;
use super::window::{Item, Limits, Reads, Window};
use crate::destination::{Folder, WriteOut};
use crate::error::{Error, ErrorKind, Result};
use crate::id::PackId;
use crate::repository::SnapshotChunks;
use crate::runtime::Scope;
use crate::runtime::channel::{Receiver, Sender, unbounded};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Windows that are carried out at once. One more is planned meanwhile.
const WINDOWS_MAX: usize = 2;
/// After so many bytes the disk is asked to begin with them.
const WRITTEN_OUT_AT_ONCE: u64 = 64 << 20;
/// Items that are finished by one task.
const FINISHED_AT_ONCE: usize = 256;

/// Carries windows out.
pub(super) struct Work<'s, 'a> {
    scope: &'s Scope<'s, 'a>,
    scatter: Arc<Scatter<'a>>,
    limits: Limits,
    /// The oldest first.
    windows: VecDeque<UnderWay>,
    /// How many windows there were before the oldest.
    windows_done: u64,
    reads: usize,
    reads_max: usize,
    ended: (Sender<Ended>, Receiver<Ended>),
    packs: HashSet<PackId>,
    /// Once there is something to write out, and how many bytes had been written when it was asked last.
    write_out: Option<WriteOut>,
    written_out: u64,
}

struct UnderWay {
    window: Arc<Window>,
    last: Last,
    reads: Reads,
    stage: Stage,
    /// Tasks of it that have not ended.
    tasks: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not all reads have begun.
    Reading,
    /// They have.
    Read,
    /// All content is there, and the metadata of items is on its way.
    Finishing,
    /// Links and folders are.
    Closing,
}

/// A task that ended: the number of its window, and whether it was a read.
struct Ended {
    window: u64,
    is_read: bool,
}

/// Tells that a task ended, however it did.
struct Task {
    ended: Option<Ended>,
    to: Sender<Ended>,
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            // Nobody listens any more where the calling thread panicked.
            let _ = self.to.send(ended);
        }
    }
}

impl<'s, 'a> Work<'s, 'a> {
    /// Into `folder`, by tasks of `scope`.
    pub(super) fn new(
        scope: &'s Scope<'s, 'a>,
        chunks: &'a SnapshotChunks<'a>,
        folder: &'a Folder,
        tally: &'a Tally<'a>,
        limits: Limits,
    ) -> Self {
        Self {
            scope,
            scatter: Arc::new(Scatter::new(chunks, folder, tally)),
            limits,
            windows: VecDeque::new(),
            windows_done: 0,
            reads: 0,
            // So many that no thread has to wait while the calling thread is planning.
            reads_max: 2 * chunks.repository.runtime.executor.threads() + 1,
            ended: unbounded(),
            packs: HashSet::new(),
            write_out: None,
            written_out: 0,
        }
    }

    /// Takes a window whose plan is in the order of reading, once there is room for it.
    ///
    /// # Errors
    /// What ends the restore, of this window or those before.
    pub(super) fn take(&mut self, window: Window, last: Last) -> Result<()> {
        self.go_on()?;
        while self.windows.len() >= WINDOWS_MAX {
            self.wait()?;
        }
        self.windows.push_back(UnderWay { window: Arc::new(window), last, reads: Reads::default(), stage: Stage::Reading, tasks: 0 });
        self.go_on()
    }

    /// Waits until all windows are done.
    ///
    /// # Errors
    /// As [`Work::take`].
    pub(super) fn end(&mut self) -> Result<()> {
        self.go_on()?;
        while !self.windows.is_empty() {
            self.wait()?;
        }
        Ok(())
    }

    /// After an error: waits for what has begun, and removes the files that are damaged.
    pub(super) fn abandon(&mut self) {
        while self.windows.iter().any(|of| of.tasks > 0) {
            let Ok(ended) = self.ended.1.recv() else { break };
            self.note(&ended);
        }
        let Scatter { folder, tally, .. } = *self.scatter;
        for item in self.windows.iter().flat_map(|of| &of.window.items) {
            remove_damaged(item, folder, tally);
        }
    }

    /// Waits until everything in the target is durable.
    ///
    /// # Errors
    /// As [`Folder::sync`].
    pub(super) fn make_durable(&mut self) -> Result<()> {
        match self.write_out.take() {
            Some(write_out) => write_out.end(),
            None => self.scatter.folder.sync(),
        }
    }

    /// The packs that were read.
    pub(super) fn into_packs(self) -> HashSet<PackId> {
        self.packs
    }

    /// Begins whatever can be begun now. After this something is on its way, or all is done.
    ///
    /// # Errors
    /// As [`Work::take`].
    pub(super) fn go_on(&mut self) -> Result<()> {
        while let Ok(ended) = self.ended.1.try_recv() {
            self.note(&ended);
        }
        self.scatter.failure.check()?;
        self.begin_reads()?;
        while self.finish_oldest() {}
        self.write_out()
    }

    fn write_out(&mut self) -> Result<()> {
        let Scatter { chunks, folder, tally, .. } = *self.scatter;
        let written = tally.bytes_written.load(Ordering::Relaxed);
        if written - self.written_out < WRITTEN_OUT_AT_ONCE {
            return Ok(());
        }
        self.written_out = written;
        if self.write_out.is_none() {
            self.write_out = Some(folder.write_out(&*chunks.repository.runtime.executor)?);
        }
        self.write_out.as_ref().into_iter().for_each(WriteOut::begin);
        Ok(())
    }

    fn wait(&mut self) -> Result<()> {
        let gone = |_| Error::new(ErrorKind::Internal, "the threads of the restore are gone");
        let ended = self.ended.1.recv().map_err(gone)?;
        self.note(&ended);
        self.go_on()
    }

    fn note(&mut self, ended: &Ended) {
        self.reads -= usize::from(ended.is_read);
        // Windows that are done have no tasks.
        if let Some(of) = self.windows.get_mut((ended.window - self.windows_done) as usize) {
            of.tasks -= 1;
        }
    }

    fn begin_reads(&mut self) -> Result<()> {
        let mut at = 0;
        while self.reads < self.reads_max
            && let Some(of) = self.windows.get_mut(at)
        {
            let read = match of.stage {
                Stage::Reading => of.reads.next(&of.window.uses, self.scatter.chunks.reader, &self.limits)?,
                _ => None,
            };
            let Some(read) = read else {
                if of.stage == Stage::Reading {
                    of.stage = Stage::Read;
                }
                at += 1;
                continue;
            };
            self.scatter.tally.check_cancelled()?;
            self.packs.insert(read.pack);
            self.reads += 1;
            let window = Arc::clone(&of.window);
            self.spawn(at, true, move |scatter| scatter.process(&read, &window));
        }
        Ok(())
    }

    /// Brings the oldest window to its next stage; false where that has to wait.
    fn finish_oldest(&mut self) -> bool {
        let Some(oldest) = self.windows.front_mut().filter(|oldest| oldest.tasks == 0) else { return false };
        match oldest.stage {
            Stage::Reading => return false,
            Stage::Read => {
                oldest.stage = Stage::Finishing;
                let window = Arc::clone(&oldest.window);
                let count = whole(&window, oldest.last).len();
                for start in (0..count).step_by(FINISHED_AT_ONCE) {
                    let window = Arc::clone(&window);
                    self.spawn(0, false, move |Scatter { folder, tally, .. }| {
                        let some = &window.items[start..count.min(start + FINISHED_AT_ONCE)];
                        some.iter().try_for_each(|item| finish_item(item, folder, tally))
                    });
                }
            }
            Stage::Finishing => {
                oldest.stage = Stage::Closing;
                let window = Arc::clone(&oldest.window);
                self.spawn(0, false, move |Scatter { folder, tally, .. }| finish_window(&window, folder, tally));
            }
            Stage::Closing => {
                self.windows.pop_front();
                self.windows_done += 1;
            }
        }
        true
    }

    /// Gives a task of the window at `at` to the pool.
    fn spawn(&mut self, at: usize, is_read: bool, work: impl FnOnce(&Scatter<'a>) -> Result<()> + Send + 'a) {
        let Some(of) = self.windows.get_mut(at) else { return };
        of.tasks += 1;
        let ended = Some(Ended { window: self.windows_done + at as u64, is_read });
        let task = Task { ended, to: self.ended.0.clone() };
        let scatter = Arc::clone(&self.scatter);
        self.scope.spawn(move |_| {
            if let Err(error) = work(&scatter) {
                scatter.failure.set(error);
            }
            drop(task);
        });
    }
}

/// The items of a window that are complete with it.
fn whole(window: &Window, last: Last) -> &[Item] {
    match (last, window.items.split_last()) {
        (Last::GoesOn, Some((_, others))) => others,
        _ => &window.items,
    }
}

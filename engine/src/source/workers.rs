//! Reading ahead: a pool of threads that does the walk's tasks in the order in which their results are needed.
//!
//! A task reads a folder, or the next batch of one, and gives entries and further tasks. Tasks are ordered by key, which is the order in
//! which the walk comes to them, and threads always take the first. Whoever walks and needs a task that nobody began does it
//! itself, so the walk goes on even without threads, and a full read-ahead can never block it.
//!
//! Bound: results that wait hold at most [`READ_AHEAD_BYTES`], and what the threads at work add. Tasks that wait are at most the folders
//! among those entries and among the entries that the walk holds.

use super::visit::{Batch, Scratch, Task, Visitor};
use crate::entry::Key;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::{Condition, Executor};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// About 10,000 entries: enough to keep threads busy while the walk's user looks elsewhere.
const READ_AHEAD_BYTES: usize = 4 << 20;

/// More threads than this do not make a disk faster.
const THREADS_MAX: usize = 8;

/// The pool of one walk.
#[derive(Debug)]
pub(crate) struct Workers {
    shared: Arc<Shared>,
    scratch: Scratch,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// A thread may find something to do.
    work: Condition,
    /// A result is there.
    done: Condition,
    visitor: Visitor,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<Key, Task>,
    done: BTreeMap<Key, Batch>,
    /// What `done` holds.
    bytes: usize,
    /// Threads that wait for work.
    idle: usize,
    /// The result that the walk waits for.
    wanted: Option<Key>,
    is_stopped: bool,
    is_broken: bool,
}

impl Workers {
    pub(crate) fn start(visitor: Visitor, executor: &dyn Executor) -> Result<Self> {
        let shared = Arc::new(Shared { state: Mutex::default(), work: Condition::new(), done: Condition::new(), visitor });
        // Dropped on failure, it stops those that have started.
        let workers = Self { shared: Arc::clone(&shared), scratch: Scratch::default() };
        for _ in 0..executor.threads().min(THREADS_MAX) {
            let shared = Arc::clone(&shared);
            executor.spawn("walk", Box::new(move || shared.work()))?;
        }
        Ok(workers)
    }

    /// What the tasks are done with.
    pub(crate) fn visitor(&self) -> &Visitor {
        &self.shared.visitor
    }

    /// Lets threads do `tasks`.
    pub(crate) fn add(&self, tasks: Vec<(Key, Task)>) {
        self.shared.add(&mut self.shared.state.lock(), tasks);
    }

    /// Gives the result of the task at `order`, which was added before and is taken once.
    pub(crate) fn take(&mut self, order: &Key) -> Result<Batch> {
        let mut state = self.shared.state.lock();
        loop {
            if let Some(batch) = state.done.remove(order) {
                state.bytes -= batch.bytes;
                if state.idle > 0 && state.bytes < READ_AHEAD_BYTES / 2 && !state.waiting.is_empty() {
                    self.shared.work.notify_all();
                }
                return Ok(batch);
            }
            if let Some(task) = state.waiting.remove(order) {
                drop(state);
                let mut batch = self.shared.visitor.visit(task, &mut self.scratch);
                self.add(std::mem::take(&mut batch.tasks));
                return Ok(batch);
            }
            if state.is_broken {
                return Err(Error::new(ErrorKind::Internal, "a thread that reads folders ahead ended early"));
            }
            // A thread is at it. Doing what comes next is better use of the time than sleeping.
            match state.next() {
                Some((other, task)) => {
                    drop(state);
                    let batch = self.shared.visitor.visit(task, &mut self.scratch);
                    state = self.shared.state.lock();
                    self.shared.finish(&mut state, other, batch);
                }
                None => {
                    state.wanted = Some(order.clone());
                    self.shared.done.wait(&mut state);
                    state.wanted = None;
                }
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.is_stopped = true;
        state.waiting.clear();
        state.done.clear();
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn add(&self, state: &mut State, tasks: Vec<(Key, Task)>) {
        if state.is_stopped || tasks.is_empty() {
            return;
        }
        state.waiting.extend(tasks);
        if state.idle > 0 && state.bytes < READ_AHEAD_BYTES {
            self.work.notify_all();
        }
    }

    fn finish(&self, state: &mut State, order: Key, mut batch: Batch) {
        self.add(state, std::mem::take(&mut batch.tasks));
        if state.is_stopped {
            return;
        }
        if state.wanted.as_ref() == Some(&order) {
            self.done.notify_one();
        }
        state.bytes += batch.bytes;
        state.done.insert(order, batch);
    }

    /// One thread: does the first task that waits, while there is room for results.
    fn work(&self) {
        let guard = Guard(self);
        let mut scratch = Scratch::default();
        let mut state = self.state.lock();
        while !state.is_stopped {
            let Some((order, task)) = state.next() else {
                state.idle += 1;
                self.work.wait(&mut state);
                state.idle -= 1;
                continue;
            };
            drop(state);
            let batch = self.visitor.visit(task, &mut scratch);
            state = self.state.lock();
            self.finish(&mut state, order, batch);
        }
        drop(state);
        std::mem::forget(guard);
    }
}

impl State {
    /// The first task that waits, if there is room for its result.
    fn next(&mut self) -> Option<(Key, Task)> {
        if self.bytes < READ_AHEAD_BYTES { self.waiting.pop_first() } else { None }
    }
}

/// Tells the walk when a thread dies at work, so that nobody waits for its result.
struct Guard<'a>(&'a Shared);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.state.lock().is_broken = true;
        self.0.done.notify_all();
    }
}

//! A process that stops at every single operation of the backend: nothing is lost, and the next run finishes.

use super::fixture::{Fixture, backup_state};
use super::{GcOptions, all, gc, gc_all};
use crate::backend::MemoryBackend;
use crate::backend::testing::{HookedBackend, Operation};
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Silent;
use crate::repository::Repository;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Lets so many changes through; after them none is answered any more, as for a process that was killed. Where it `does_last`, the last one is
/// done and its answer is lost. Reading changes nothing: a stop there is one at the next change.
fn stopping(inner: MemoryBackend, changes: u64, does_last: bool) -> HookedBackend {
    let left = AtomicU64::new(changes);
    HookedBackend::new(Arc::new(inner), move |call| {
        let stopped = || Error::new(ErrorKind::Unavailable, "the process was stopped");
        match (call.operation, call.is_done) {
            (Operation::Finish | Operation::Delete, false) => {
                left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).map(drop).map_err(|_| stopped())
            }
            (Operation::Finish | Operation::Delete, true) if does_last && left.load(Ordering::Relaxed) == 0 => Err(stopped()),
            _ => Ok(()),
        }
    })
}

/// Runs `work` on copies of the fixture, stopped at the first, the second, ... change that it makes, until it gets through; then looks.
fn at_every_change(start: &Fixture, work: impl Fn(&Repository) -> Result<()>, look: impl Fn(&mut Fixture)) -> u64 {
    for changes in 0..10_000 {
        let mut is_through = false;
        for does_last in [false, true] {
            let mut fixture = start.copy();
            let backend = stopping(fixture.backend.clone(), changes, does_last);
            let handle = fixture.handle_through(Arc::new(backend), 1000 + changes);
            is_through = work(&handle).is_ok();
            drop(handle);
            look(&mut fixture);
        }
        if is_through {
            return changes;
        }
    }
    panic!("it never gets through");
}

/// The next collection finishes, and the one after it finds nothing to do.
fn finishes(fixture: &mut Fixture) {
    fixture.assert_whole();
    let summary = gc(&fixture.repository);
    assert_eq!((summary.left.packs, summary.waits_for.len()), (0, 0), "{summary:?}");
    fixture.assert_whole();
    assert!(gc(&fixture.repository).plan.is_empty());
}

#[test]
fn a_collection_stopped_anywhere_loses_nothing_and_the_next_one_finishes() {
    let mut start = Fixture::with_states(0..4);
    start.forget(0);
    start.forget(2);
    let changes = at_every_change(&start, |handle| handle.gc(&GcOptions::default(), &Silent).map(drop), finishes);
    assert!(changes > 15, "{changes} changes are too few to show anything");
}

#[test]
fn a_collection_that_makes_frames_anew_may_be_stopped_anywhere() {
    let mut start = Fixture::scattered();
    for _ in 0..2 {
        assert!(start.repository.gc_plan(&all(), &Silent).unwrap().remake.frames > 0);
        let changes = at_every_change(&start, |handle| handle.gc(&all(), &Silent).map(drop), finishes);
        assert!(changes > 10, "{changes} changes are too few to show anything");
        // Once more, with frames that were made anew already.
        gc_all(&start.repository);
        if start.kept.len() > 1 {
            start.forget(2);
        }
    }
}

#[test]
fn a_backup_stopped_anywhere_leaves_a_snapshot_or_nothing() {
    let mut start = Fixture::with_states(0..2);
    start.forget(0);
    let changes = at_every_change(
        &start,
        |handle| backup_state(handle, "daily", 3).map(drop),
        |fixture| {
            finishes(fixture);
            for snapshot in fixture.repository.snapshots().unwrap() {
                let mut content = Vec::new();
                fixture.repository.restore_to_writer(&snapshot, None, &mut content, &Silent).unwrap();
            }
            assert_eq!(fixture.repository.list_snapshots().unwrap().missing(), []);
        },
    );
    assert!(changes > 5, "{changes}");
}

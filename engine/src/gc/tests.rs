//! Collections over small repositories in memory: what goes, what stays, what an interruption leaves.

mod crashes;
mod durable;
pub(crate) mod fixture;
mod forged;
mod reframe;
mod sessions;
mod sightings;
mod stores;

use super::*;
use crate::backend::testing::{HookedBackend, Operation};
use crate::backend::{Backend, BackendExt, ObjectKind};
use crate::format::session::SessionKind;
use crate::progress::Silent;
pub(crate) use fixture::client_with;
use fixture::{Fixture, Interrupter};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn gc(repository: &Repository) -> GcSummary {
    repository.gc(&GcOptions::default(), &Silent).unwrap()
}

/// Nothing dead is left.
fn all() -> GcOptions {
    GcOptions { dead_percent_max: 0 }
}

fn gc_all(repository: &Repository) -> GcSummary {
    repository.gc(&all(), &Silent).unwrap()
}

#[test]
fn nothing_is_done_where_nothing_is_dead() {
    let fixture = Fixture::with_states(0..3);
    let before = fixture.objects();
    let summary = gc(&fixture.repository);
    assert_eq!((summary.epoch, summary.deleted.packs, summary.left.packs), (None, 0, 0), "{summary:?}");
    assert_eq!(fixture.objects(), before);
}

#[test]
fn one_run_frees_what_a_forgotten_snapshot_alone_needed() {
    let mut fixture = Fixture::with_states(0..4);
    fixture.forget(0);
    fixture.forget(1);
    let before = fixture.pack_bytes();
    let plan = fixture.repository.gc_plan(&GcOptions::default(), &Silent).unwrap();
    assert!(plan.bytes_freed() > 0 && plan.snapshots == 2, "{plan:?}");
    let summary = gc(&fixture.repository);
    assert_eq!(summary.epoch, Some(1));
    assert!(summary.waits_for.is_empty() && summary.left.packs == 0, "{summary:?}");
    assert_eq!(before + summary.written.bytes - summary.deleted.bytes, fixture.pack_bytes());
    assert!(fixture.pack_bytes() < before);
    // Nothing is left of the forgotten but their markers, and nothing of the collector; the next run takes those.
    for (kind, count) in [(ObjectKind::Session, 2), (ObjectKind::Closed, 2), (ObjectKind::Snapshot, 2), (ObjectKind::Withdrawn, 2)] {
        assert_eq!(fixture.backend.list_sorted(kind).unwrap().len(), count, "{kind:?}");
    }
    assert_eq!(gc(&fixture.repository).objects_removed, 2);
    assert!(fixture.backend.list_sorted(ObjectKind::Withdrawn).unwrap().is_empty());
    fixture.assert_whole();
}

/// Nothing can be copied, and what needs no copy goes all the same.
#[test]
fn a_full_file_system_is_freed_of_what_is_wholly_garbage() {
    let mut fixture = Fixture::with_states(0..4);
    fixture.backup_stream(b"alone", 300_000);
    let alone = fixture.kept.pop().unwrap();
    fixture.repository.forget(&[alone.id], &Silent).unwrap();
    fixture.forget(0);
    fixture.forget(1);
    let plan = fixture.repository.gc_plan(&all(), &Silent).unwrap();
    let [copied, dead] = [true, false].map(|needs_copy| plan.condemn.iter().filter(|candidate| candidate.needs_copy == needs_copy).count());
    assert!(copied > 0 && dead > 0, "{copied} {dead}");
    let full =
        HookedBackend::new(Arc::new(fixture.backend.clone()), |call| match call.kind.is_pack() && call.operation == Operation::Create {
            true => Err(Error::io("full", std::io::ErrorKind::StorageFull.into())),
            false => Ok(()),
        });
    let summary = gc_all(&fixture.handle_through(Arc::new(full), 30));
    assert_eq!((summary.deleted.packs as usize, summary.written.packs), (dead, 0), "{summary:?}");
    fixture.assert_whole();
    assert!(gc_all(&fixture.repository).deleted.packs as usize >= copied);
    fixture.assert_whole();
}

#[test]
fn what_stays_is_at_most_a_quarter_more_than_what_is_needed() {
    let mut fixture = Fixture::with_states(0..1);
    for day in 1..12 {
        fixture.backup(day);
        if day >= 3 {
            fixture.forget(day - 3);
        }
        gc(&fixture.repository);
        let plan = fixture.repository.gc_plan(&GcOptions::default(), &Silent).unwrap();
        assert!(plan.packs.bytes <= plan.bytes_live / 4 * 5, "day {day}: {} for {}", plan.packs.bytes, plan.bytes_live);
    }
    fixture.assert_whole();
}

#[test]
fn small_packs_are_merged_and_index_objects_follow() {
    let mut fixture = Fixture::with_states(0..1);
    for _ in 0..12 {
        fixture.backup_stream(b"another small stream ", 3000);
    }
    let packs = fixture.packs().len();
    let summary = gc(&fixture.repository);
    assert!(summary.plan.small.packs >= 12 && fixture.packs().len() + 12 < packs, "{summary:?}");
    fixture.assert_whole();
    assert!(gc(&fixture.repository).plan.is_empty());
}

#[test]
fn maintain_alone_collects_and_others_do_not() {
    let mut fixture = Fixture::with_states(0..3);
    fixture.forget(0);
    let other = client_with(&fixture.repository, Roles::BACKUP.and(Roles::RESTORE), 71);
    assert_eq!(other.gc(&GcOptions::default(), &Silent).unwrap_err().kind(), ErrorKind::Unauthorized);
    let maintainer = client_with(&fixture.repository, Roles::MAINTAIN, 72);
    assert!(maintainer.credential.chunk_id_key.is_none() && maintainer.credential.restore_keys.is_empty());
    let summary = gc(&maintainer);
    assert!(summary.deleted.packs > 0 && summary.bytes_copied > 0, "{summary:?}");
    fixture.assert_whole();
}

#[test]
fn damage_comes_first() {
    let mut fixture = Fixture::with_states(0..3);
    fixture.forget(0);
    let snapshot = ObjectName::snapshot(fixture.kept[0].id);
    let bytes = fixture.backend.get(&snapshot, u64::MAX).unwrap();
    fixture.backend.delete(&snapshot).unwrap();
    let packs = fixture.packs();
    for damaged in [None, Some([&bytes[..100], &[bytes[100] ^ 1], &bytes[101..]].concat())] {
        if let Some(damaged) = damaged {
            fixture.backend.put(&snapshot, &damaged).unwrap();
        }
        assert_eq!(fixture.repository.gc(&GcOptions::default(), &Silent).unwrap_err().kind(), ErrorKind::Damaged);
        assert_eq!(fixture.packs(), packs);
    }
    fixture.backend.delete(&snapshot).unwrap();
    fixture.backend.put(&snapshot, &bytes).unwrap();
    assert!(gc(&fixture.repository).deleted.packs > 0);
    fixture.assert_whole();
}

#[test]
fn a_damaged_frame_keeps_its_pack() {
    let mut fixture = Fixture::with_states(0..3);
    fixture.forget(0);
    let plan = fixture.repository.gc_plan(&GcOptions::default(), &Silent).unwrap();
    let candidate = plan.condemn.iter().find(|candidate| candidate.live_bytes > 0).unwrap();
    let name = ObjectName::pack(candidate.pack.0, candidate.pack.1);
    fixture.change(&name, |bytes| bytes[64..64 + candidate.size as usize / 2].iter_mut().for_each(|byte| *byte ^= 1));
    let summary = gc(&fixture.repository);
    assert_eq!(summary.condemned.packs + 1, plan.condemn.len() as u64);
    assert!(fixture.packs().contains(&name));
}

#[test]
fn two_collectors_do_not_disturb_each_other() {
    let mut fixture = Fixture::with_states(0..3);
    fixture.forget(0);
    let other = fixture.other_handle(9);
    // The other one begins a round and never moves again: only its session tells of it.
    let stuck = Session::begin(&other, SessionKind::Collector).unwrap();
    let summary = gc(&fixture.repository);
    assert!(summary.epoch.is_some() && summary.deleted.packs == 0);
    assert_eq!(summary.waits_for.iter().map(|open| open.session).collect::<Vec<_>>(), [stuck.id()]);
    fixture.assert_whole();
    stuck.close(false, Vec::new()).unwrap();
    // It may finish the first one's sweep, whose epoch names the withdrawal.
    let finished = gc(&other);
    assert_eq!((finished.epoch, finished.deleted.packs, finished.left.packs), (None, summary.left.packs, 0));
    fixture.assert_whole();
}

#[test]
fn backups_beside_collections_lose_nothing() {
    let mut fixture = Fixture::with_states(0..2);
    std::thread::scope(|scope| {
        let collector = fixture.other_handle(1);
        let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
        let rounds = scope.spawn(move || {
            let mut rounds = 0;
            while stopped.try_recv() == Err(crossbeam_channel::TryRecvError::Empty) {
                gc(&collector);
                rounds += 1;
            }
            rounds
        });
        let writer = fixture.other_handle(2);
        let beside =
            scope.spawn(move || (0..12).map(|day| (fixture::backup_state(&writer, "beside", day).unwrap(), day)).collect::<Vec<_>>());
        for day in 2..14 {
            fixture.backup(day);
            fixture.forget(day - 2);
        }
        for (id, day) in beside.join().unwrap() {
            fixture.keep(id, day);
        }
        drop(stop);
        assert!(rounds.join().unwrap() > 1);
    });
    fixture.assert_whole();
    let summary = gc(&fixture.repository);
    assert_eq!((summary.left.packs, summary.waits_for.len()), (0, 0));
    fixture.assert_whole();
}

#[test]
fn a_collection_that_is_stopped_goes_on_later() {
    let mut fixture = Fixture::with_states(0..3);
    fixture.forget(0);
    for questions in 0.. {
        let stop = Interrupter::after(questions);
        match fixture.repository.gc(&GcOptions::default(), &stop) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled),
            Ok(_) => break,
        }
        fixture.assert_whole();
    }
    assert!(gc(&fixture.repository).plan.is_empty());
    fixture.assert_whole();
}

/// A collection moves what a check still has to read, after the check has looked again for what it missed first.
#[test]
fn what_moves_after_a_check_has_looked_again_is_no_finding() {
    let mut fixture = Fixture::with_states(0..8);
    fixture.forget(0);
    fixture.forget(1);
    let plan = fixture.repository.gc_plan(&all(), &Silent).unwrap();
    let moves: Vec<_> = plan.condemn.iter().filter(|candidate| candidate.needs_copy && candidate.pack.0 != ObjectKind::DataPack).collect();
    let moves: Vec<_> = moves.into_iter().map(|candidate| ObjectName::pack(candidate.pack.0, candidate.pack.1)).collect();
    assert!(!moves.is_empty(), "{plan:?}");
    let collector = fixture.other_handle(31);
    let (is_armed, has_missed, has_moved) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false), Arc::new(AtomicBool::new(false)));
    let hooked = HookedBackend::new(Arc::new(fixture.backend.clone()), {
        let (is_armed, has_moved) = (Arc::clone(&is_armed), Arc::clone(&has_moved));
        move |call| {
            let is_read = call.operation == Operation::GetRange && call.kind.is_pack() && !call.is_done;
            if !is_read || !is_armed.load(Ordering::Relaxed) {
                return Ok(());
            }
            if !has_missed.swap(true, Ordering::Relaxed) {
                // It looks again, and nothing has come or gone.
                return Err(Error::new(ErrorKind::NotFound, "missed"));
            }
            if call.name.is_some_and(|name| moves.contains(&name)) && !has_moved.swap(true, Ordering::Relaxed) {
                assert!(gc_all(&collector).deleted.packs > 0);
            }
            Ok(())
        }
    });
    let checker = fixture.handle_through(Arc::new(hooked), 32);
    let report = checker.check(&Arming { phase: "check snapshots", is_armed: &is_armed }).unwrap();
    assert!(has_moved.load(Ordering::Relaxed));
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}

/// Says when a phase begins.
#[derive(Debug)]
struct Arming<'a> {
    phase: &'static str,
    is_armed: &'a AtomicBool,
}

impl Progress for Arming<'_> {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::Phase { name, .. } if name == self.phase) {
            self.is_armed.store(true, Ordering::Relaxed);
        }
    }
}

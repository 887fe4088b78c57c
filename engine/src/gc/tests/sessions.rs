//! Sessions that are at work, dead, or wake after they were given up.

use super::fixture::{Fixture, NOW, backup_state, client_with};
use super::{GcOptions, gc};
use crate::backend::testing::HookedBackend;
use crate::backend::{Backend, BackendExt, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind};
use crate::format::Roles;
use crate::format::session::{BeatBody, SessionKind, TombstoneBody, WithdrawnBody, WithdrawnReason};
use crate::progress::{Event, Progress, Silent};
use crate::repository::{Repository, Session, Settings, SnapshotState};
use crate::restore::RestoreOptions;
use crate::runtime::{Runtime, StillClock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A collector on another machine than everybody else, with a clock that can be moved.
fn elsewhere(fixture: &Fixture, cache: &std::path::Path) -> (Repository, Arc<StillClock>) {
    let clock = Arc::new(StillClock::new(NOW));
    let mut repository = fixture.other_handle(31);
    repository.runtime = Runtime { clock: clock.clone(), ..repository.runtime };
    repository.settings = Settings::default().with_cache(cache).with_label("elsewhere process 1");
    (repository, clock)
}

#[test]
fn packs_of_a_running_backup_stay_and_the_sweep_waits_for_it() {
    let mut fixture = Fixture::with_states(0..3);
    let other = fixture.other_handle(3);
    let session = Session::begin(&other, SessionKind::Writer).unwrap();
    fixture.forget(0);
    let summary = gc(&fixture.repository);
    assert_eq!(summary.deleted.packs, 0);
    assert_eq!(summary.waits_for[0].session, session.id());
    session.close(true, Vec::new()).unwrap();
    assert_eq!(gc(&fixture.repository).left.packs, 0);
    fixture.assert_whole();
}

#[test]
fn a_session_without_a_process_is_given_up_at_once_and_its_packs_go() {
    let mut fixture = Fixture::with_states(0..3);
    let snapshot = fixture.kept.pop().unwrap();
    // As after a crash between the packs and the snapshot.
    let session = fixture.repository.read_snapshot_header(snapshot.id).unwrap().record.id();
    fixture.backend.delete(&ObjectName::snapshot(snapshot.id)).unwrap();
    fixture.backend.delete(&ObjectName::closed(session)).unwrap();
    let summary = gc(&fixture.repository);
    assert_eq!(summary.sessions_given_up, [session]);
    assert!(summary.deleted.packs > 0 && summary.left.packs == 0, "{summary:?}");
    assert!(fixture.backend.list_sorted(ObjectKind::Tombstone).unwrap().is_empty());
    fixture.assert_whole();
}

#[test]
fn suspect_snapshots_of_dead_sessions_are_settled() {
    let fixture = Fixture::with_states(0..3);
    let (first, last) = (fixture.kept[0].id, fixture.kept[2].id);
    for id in [first, last] {
        let session = fixture.repository.read_snapshot_header(id).unwrap().record.id();
        fixture.backend.delete(&ObjectName::closed(session)).unwrap();
    }
    let lost = ObjectName::pack(ObjectKind::DataPack, {
        // A pack that only the last one needs.
        let session = fixture.repository.read_snapshot_header(last).unwrap().record.id();
        let own = fixture.packs().into_iter().filter(|name| name.kind() == ObjectKind::DataPack).find(|name| {
            let tail = fixture.repository.read_pack_tail(name, fixture.backend.size(name).unwrap()).unwrap();
            tail.tables.sessions[0].id() == session
        });
        own.unwrap().pack_id().unwrap()
    });
    fixture.backend.delete(&lost).unwrap();
    let summary = gc(&fixture.repository);
    assert_eq!((&summary.snapshots_settled[..], &summary.snapshots_withdrawn[..]), (&[first][..], &[last][..]));
    let mut fixture = fixture;
    fixture.kept.pop();
    fixture.assert_whole();
    assert_eq!(fixture.repository.snapshots().unwrap().len(), 2);
}

#[test]
fn a_session_of_another_machine_is_dead_after_a_lease_without_a_beat() {
    let mut fixture = Fixture::with_states(0..3);
    let other = fixture.other_handle(3);
    let session = Session::begin(&other, SessionKind::Writer).unwrap();
    let id = session.id();
    drop(session);
    fixture.forget(0);
    let cache = tempfile::tempdir().unwrap();
    let (collector, clock) = elsewhere(&fixture, cache.path());
    assert_eq!(gc(&collector).waits_for.len(), 1);
    clock.advance(899);
    other.write_sealed(ObjectName::beat(id, 1), BeatBody { now: NOW }.encode()).unwrap();
    assert_eq!(gc(&collector).waits_for.len(), 1);
    clock.advance(899);
    assert_eq!(gc(&collector).waits_for.len(), 1);
    clock.advance(1);
    let summary = gc(&collector);
    assert_eq!((&summary.sessions_given_up[..], summary.left.packs), (&[id][..], 0));
    fixture.assert_whole();
}

#[test]
fn a_writer_that_wakes_after_its_tombstone_takes_its_snapshot_back() {
    for is_cleaned_up in [false, true] {
        let fixture = Fixture::with_states(0..2);
        let other = fixture.other_handle(3);
        let session = Session::begin(&other, SessionKind::Writer).unwrap();
        let cache = tempfile::tempdir().unwrap();
        let (collector, clock) = elsewhere(&fixture, cache.path());
        gc(&collector);
        clock.advance(900);
        assert_eq!(gc(&collector).sessions_given_up, [session.id()]);
        if !is_cleaned_up {
            let body = TombstoneBody { epoch: 1, now: NOW };
            collector.write_sealed(ObjectName::tombstone(session.id()), body.encode()).unwrap();
        }
        let published = crate::id::SnapshotId([9; 16]);
        let error = session.withdraw_if_given_up(published).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert!(fixture.repository.list_snapshots().unwrap().withdrawn.contains(&published));
    }
}

#[test]
fn a_session_that_is_given_up_before_it_is_held_starts_over() {
    let fixture = Fixture::with_states(0..1);
    let session = Session::begin(&fixture.repository, SessionKind::Reader).unwrap();
    // Closed by its own process and by nobody else: a second close is the same.
    let id = session.id();
    session.close(true, Vec::new()).unwrap();
    assert!(fixture.repository.has(&ObjectName::closed(id)).unwrap());
    gc(&fixture.repository);
    assert!(!fixture.repository.has(&ObjectName::closed(id)).unwrap());
    assert!(!fixture.repository.has(&ObjectName::session(id)).unwrap());
}

#[test]
fn what_a_slow_writer_used_of_a_condemned_pack_is_rescued() {
    let mut fixture = Fixture::with_states(0..2);
    // A writer that deduplicates against the first state, which is forgotten and condemned before the writer publishes.
    let slow = fixture.other_handle(3);
    let held = Session::begin(&slow, SessionKind::Writer).unwrap();
    let forgotten = fixture.kept.remove(0);
    fixture.repository.forget(&[forgotten.id], &Silent).unwrap();
    let summary = gc(&fixture.repository);
    assert!(summary.epoch.is_some() && summary.deleted.packs == 0);
    // Its snapshot names the frames of the forgotten one: the same object stands for it.
    fixture.backend.delete(&ObjectName::withdrawn(forgotten.id)).unwrap();
    held.close(true, Vec::new()).unwrap();
    fixture.kept.push(forgotten);
    let swept = gc(&fixture.repository);
    assert!(swept.bytes_copied > 0 && swept.left.packs == 0, "{swept:?}");
    fixture.assert_whole();
    assert!(fixture.repository.gc_plan(&GcOptions::default(), &Silent).unwrap().condemned.packs == 0);
}

#[test]
fn a_restore_goes_on_though_its_snapshot_is_forgotten_before_the_rescue() {
    let mut fixture = Fixture::with_states(0..2);
    let slow = fixture.other_handle(3);
    let held = Session::begin(&slow, SessionKind::Writer).unwrap();
    let forgotten = fixture.kept.remove(0);
    // As if the slow writer published this snapshot after the collection began.
    let late = fixture.take_away(forgotten.id);
    gc(&fixture.repository);
    fixture.put_back(&late);
    held.close(true, Vec::new()).unwrap();
    let reader = Session::begin(&slow, SessionKind::Reader).unwrap();
    assert_eq!(reader.epoch(), 1);
    fixture.repository.forget(&[forgotten.id], &Silent).unwrap();
    let left = gc(&fixture.repository).left.packs;
    let index = slow.open_index().unwrap();
    let header = slow.read_snapshot_header(forgotten.id).unwrap();
    slow.snapshot_chunks(&crate::repository::FrameReader::new(&slow, index), &header).unwrap();
    assert!(left > 0);
    reader.close(true, Vec::new()).unwrap();
    assert_eq!(gc(&fixture.repository).left.packs, 0);
    fixture.assert_whole();
}

/// Collects garbage once what is to be restored was found and before any content is read.
#[derive(Debug)]
struct Sweeping {
    collector: Repository,
    deleted: AtomicU64,
}

impl Progress for Sweeping {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::Phase { name: "restore", .. }) {
            self.deleted.fetch_add(gc(&self.collector).deleted.packs, Ordering::Relaxed);
        }
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// `CondemnedForEver` as a reader sees it.
#[test]
fn what_is_swept_while_it_is_read_is_found_in_its_copy() {
    for (into_folder, knows_the_index) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut fixture = Fixture::with_states(0..2);
        let cache = tempfile::tempdir().unwrap();
        // Whoever keeps an index between runs has not read the contents tables of what it knows.
        let slow = if knows_the_index { elsewhere(&fixture, cache.path()).0 } else { fixture.other_handle(3) };
        slow.open_index().unwrap();
        let held = Session::begin(&slow, SessionKind::Writer).unwrap();
        let forgotten = fixture.kept.remove(0);
        // As if the slow writer published this snapshot later: some of its frames stand in condemned packs only.
        let late = fixture.take_away(forgotten.id);
        assert!(gc(&fixture.repository).condemned.packs > 0);
        fixture.put_back(&late);
        held.close(true, Vec::new()).unwrap();
        // The restore begins after the epoch, so nobody waits for it.
        let progress = Sweeping { collector: fixture.other_handle(7), deleted: AtomicU64::new(0) };
        let snapshot = slow.snapshots().unwrap().into_iter().find(|snapshot| snapshot.id == forgotten.id).unwrap();
        let mut content = Vec::new();
        if into_folder {
            let target = tempfile::tempdir().unwrap();
            let summary = slow.restore(&snapshot, target.path(), &RestoreOptions::default(), &progress).unwrap();
            assert_eq!((summary.items_failed, summary.damaged), (0, false));
            content = std::fs::read(target.path().join("state")).unwrap();
        } else {
            slow.restore_to_writer(&snapshot, None, &mut content, &progress).unwrap();
        }
        assert!(content == forgotten.content && progress.deleted.load(Ordering::Relaxed) > 0, "{into_folder} {knows_the_index}");
    }
}

#[test]
fn withdrawals_are_cleaned_up_though_somebody_is_always_at_work() {
    let mut fixture = Fixture::with_states(0..1);
    // Nothing to condemn: both snapshots need the same frames, and their trees and refs are the same, too.
    let again = backup_state(&fixture.repository, "daily", 0).unwrap();
    fixture.keep(again, 0);
    let cache = tempfile::tempdir().unwrap();
    let (collector, _) = elsewhere(&fixture, cache.path());
    let other = fixture.other_handle(3);
    let older = Session::begin(&other, SessionKind::Reader).unwrap();
    let forgotten = ObjectName::snapshot(fixture.kept[0].id);
    fixture.forget(0);
    let first = gc(&collector);
    assert_eq!((first.epoch, first.condemned.packs), (Some(1), 0), "{first:?}");
    assert!(fixture.repository.has(&forgotten).unwrap());
    let younger = Session::begin(&other, SessionKind::Reader).unwrap();
    older.close(true, Vec::new()).unwrap();
    let second = gc(&collector);
    assert_eq!(second.epoch, None, "{second:?}");
    assert!(!fixture.repository.has(&forgotten).unwrap());
    younger.close(true, Vec::new()).unwrap();
    fixture.assert_whole();
}

#[test]
fn a_snapshot_whose_backup_failed_after_it_was_published_is_settled() {
    let mut fixture = Fixture::with_states(0..2);
    // The snapshot is there; whether the session was given up cannot be found out.
    let backend = HookedBackend::new(Arc::new(fixture.backend.clone()), |call| match call.kind {
        ObjectKind::Tombstone => Err(Error::new(ErrorKind::Unavailable, "the store does not answer")),
        _ => Ok(()),
    });
    let handle = fixture.handle_through(Arc::new(backend), 5);
    assert_eq!(backup_state(&handle, "daily", 2).unwrap_err().kind(), ErrorKind::Unavailable);
    let known: Vec<_> = fixture.kept.iter().map(|kept| kept.id).collect();
    let listed = fixture.repository.list_snapshots().unwrap().snapshots;
    let published: Vec<_> = listed.into_iter().filter(|id| !known.contains(id)).collect();
    assert_eq!((published.len(), gc(&fixture.repository).snapshots_settled), (1, published.clone()));
    fixture.keep(published[0], 2);
    fixture.assert_whole();
    let states: Vec<_> = fixture.repository.snapshots().unwrap().into_iter().map(|snapshot| snapshot.state).collect();
    assert_eq!(states, [SnapshotState::Closed; 3]);
}

#[test]
fn a_snapshot_that_is_published_after_its_session_was_cleaned_away_is_settled_and_nothing_is_missed() {
    let fixture = Fixture::with_states(0..3);
    let ids: Vec<_> = fixture.kept.iter().map(|kept| kept.id).collect();
    let session_of = |at: usize| fixture.repository.read_snapshot_header(ids[at]).unwrap().record.id();
    // As of a writer that died before it looked for its tombstone.
    let given_up = session_of(2);
    fixture.backend.delete(&ObjectName::closed(given_up)).unwrap();
    fixture.backend.delete(&ObjectName::session(given_up)).unwrap();
    assert_eq!(gc(&fixture.repository).snapshots_settled, [ids[2]]);
    let findings = || fixture.repository.check(&Silent).unwrap().findings;
    assert!(findings().is_empty(), "{:?}", findings());
    // Of a session that finished it is damage.
    let finished = ObjectName::session(session_of(1));
    fixture.backend.delete(&finished).unwrap();
    assert_eq!(findings().iter().map(|finding| finding.object).collect::<Vec<_>>(), [Some(finished)]);
}

#[test]
fn what_a_client_took_back_after_it_was_given_up_stays_taken_back() {
    for (is_cleaned_away, is_settled) in [(false, false), (false, true), (true, false), (true, true)] {
        let fixture = Fixture::with_states(0..1);
        let client = client_with(&fixture.repository, Roles::BACKUP, 71);
        let id = backup_state(&client, "client", 1).unwrap();
        let session = fixture.repository.read_snapshot_header(id).unwrap().record.id();
        fixture.backend.delete(&ObjectName::closed(session)).unwrap();
        if is_cleaned_away {
            fixture.backend.delete(&ObjectName::session(session)).unwrap();
        }
        if is_settled {
            assert_eq!(gc(&fixture.repository).snapshots_settled, [id]);
        } else if !is_cleaned_away {
            let body = TombstoneBody { epoch: 1, now: NOW };
            fixture.repository.write_sealed(ObjectName::tombstone(session), body.encode()).unwrap();
        }
        let body = WithdrawnBody { session, reason: WithdrawnReason::Tombstone, now: NOW };
        client.write_sealed(ObjectName::withdrawn(id), body.encode()).unwrap();
        (0..4).for_each(|_| drop(gc(&fixture.repository)));
        let findings = fixture.repository.check(&Silent).unwrap().findings;
        assert!(findings.is_empty(), "cleaned away {is_cleaned_away}, settled {is_settled}: {findings:?}");
        assert_eq!(fixture.repository.snapshots().unwrap().len(), 1);
        fixture.assert_whole();
    }
}

#[test]
fn damaged_observations_are_none() {
    let mut fixture = Fixture::with_states(0..3);
    let other = fixture.other_handle(3);
    drop(Session::begin(&other, SessionKind::Writer).unwrap());
    fixture.forget(0);
    let cache = tempfile::tempdir().unwrap();
    let (collector, clock) = elsewhere(&fixture, cache.path());
    clock.advance(1000);
    assert_eq!(gc(&collector).waits_for.len(), 1);
    let path = collector.place_cache_folder().unwrap().join("gc-observations");
    let text = std::fs::read_to_string(&path).unwrap();
    // Another time: the session would seem not to have beaten for longer.
    let since = text.trim_end().rsplit(' ').next().unwrap();
    std::fs::write(&path, text.trim_end().strip_suffix(since).unwrap().to_owned() + "1\n").unwrap();
    let summary = gc(&collector);
    assert_eq!((summary.waits_for.len(), summary.sessions_given_up.len()), (1, 0), "it is seen for the first time again");
    clock.advance(900);
    assert_eq!(gc(&collector).sessions_given_up.len(), 1);
    fixture.assert_whole();
}

#[test]
fn what_says_how_a_session_with_a_tombstone_ended_stays() {
    let mut fixture = Fixture::with_states(0..2);
    let last = fixture.kept.pop().unwrap();
    let session = fixture.repository.read_snapshot_header(last.id).unwrap().record.id();
    fixture.backend.delete(&ObjectName::closed(session)).unwrap();
    assert_eq!(gc(&fixture.repository).snapshots_settled, [last.id]);
    fixture.repository.forget(&[last.id], &Silent).unwrap();
    (0..3).for_each(|_| drop(gc(&fixture.repository)));
    assert!(!fixture.repository.has(&ObjectName::snapshot(last.id)).unwrap());
    assert!(!fixture.repository.has(&ObjectName::session(session)).unwrap());
    for name in [ObjectName::closed(session), ObjectName::tombstone(session), ObjectName::withdrawn(last.id)] {
        assert!(fixture.repository.has(&name).unwrap(), "{name}");
    }
    fixture.assert_whole();
}

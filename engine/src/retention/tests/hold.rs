//! Holds and locks: what they keep, from whom, until when, and who wins where they meet a withdrawal or a collection.

use super::forget::{Fixture, back_up, kind};
use crate::backend::testing::{HookedBackend, Operation, Order};
use crate::backend::{Backend, BackendExt, MemoryBackend, ObjectKind, ObjectName};
use crate::error::ErrorKind;
use crate::format::Roles;
use crate::format::hold::{HeldSnapshot, HoldAction, HoldBody};
use crate::format::session::{WithdrawnBody, WithdrawnReason};
use crate::gc::GcOptions;
use crate::id::{HoldId, SnapshotId};
use crate::progress::{Event, Progress, Silent};
use crate::repair::RepairOptions;
use crate::repository::{HoldState, LockEnd, Repository, Settings};
use crate::retention::{Policy, SnapshotFilter, TagChange};
use crate::runtime::{Runtime, Timestamp};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanoseconds: 0 }
}

/// The owner at another time of his clock.
fn at_time(fixture: &Fixture, seconds: i64) -> Repository {
    of_at_time(fixture, &fixture.repository, seconds)
}

/// The same client at another time of its clock.
fn of_at_time(fixture: &Fixture, client: &Repository, seconds: i64) -> Repository {
    over_at_time(Arc::new(fixture.backend.clone()), client, seconds)
}

/// The same client over another backend, too. It draws other names than it does at other times.
fn over_at_time(backend: Arc<dyn Backend>, client: &Repository, seconds: i64) -> Repository {
    let (credential, config) = ((*client.credential).clone(), client.config.clone());
    let runtime = Runtime::seeded(seconds as u64, at(seconds), 1);
    Repository::assemble(backend, runtime, credential, config, client.id, 1, client.settings.clone())
}

fn lock_until(repository: &Repository, ids: &[SnapshotId], seconds: i64) -> Option<HoldId> {
    repository.lock(ids, LockEnd::At(at(seconds)), "", &Silent).unwrap().hold
}

/// A marker of somebody who has the role maintain and does not ask for holds.
fn withdraw_anyway(repository: &Repository, id: SnapshotId) {
    let session = repository.read_snapshot_header(id).unwrap().record.id();
    let body = WithdrawnBody { session, reason: WithdrawnReason::Forgotten, now: at(NOW) };
    repository.write_sealed(ObjectName::withdrawn(id), body.encode()).unwrap();
}

fn body_of(repository: &Repository, action: HoldAction, id: SnapshotId) -> HoldBody {
    let header = repository.read_snapshot_header(id).unwrap();
    let held = HeldSnapshot { snapshot: id, session: header.record.id(), series: header.series };
    HoldBody { action, now: at(NOW), note: String::new(), snapshots: vec![held] }
}

fn gc(repository: &Repository) -> crate::gc::GcSummary {
    repository.gc(&GcOptions { dead_percent_max: 0 }, &Silent).unwrap()
}

/// Every byte of what is there is right.
#[track_caller]
fn assert_sound(fixture: &Fixture) {
    let report = fixture.repository.scrub(&Silent).unwrap();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}

#[test]
fn a_legal_hold_stays_until_admin_releases_it() {
    let (fixture, ids) = Fixture::with_snapshots(3);
    let maintain = fixture.other_client(Roles::MAINTAIN);
    let hold = maintain.hold(&[ids[1], ids[0]], "case 4711").unwrap();
    let error = maintain.forget(&[ids[0], ids[2]], &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Held);
    assert!(error.to_string().contains(&format!("legal hold {}", &hold.to_string()[..8])), "{error}");
    // All or nothing: what was named beside it stays as well.
    assert_eq!(fixture.shown(), ids);
    let mut change = TagChange::default();
    change.add.push("tag".into());
    assert_eq!(kind(fixture.repository.retag(&ids[..1], &change, &Silent)), ErrorKind::Held);
    assert_eq!(fixture.shown(), ids);
    // Neither who placed it nor anybody else without the role admin ends it.
    assert_eq!(kind(maintain.release(hold, "")), ErrorKind::Unauthorized);
    let forged = HoldBody { action: HoldAction::Release { hold }, snapshots: Vec::new(), ..body_of(&maintain, HoldAction::Legal, ids[0]) };
    let name = ObjectName::hold(HoldId([1; 16]));
    maintain.write_sealed(name, forged.encode()).unwrap();
    assert_eq!(kind(maintain.forget(&ids[..1], &Silent)), ErrorKind::Held);
    fixture.backend.delete(&name).unwrap();
    let (holds, problems) = fixture.repository.holds().unwrap();
    assert!(problems.is_empty() && holds.len() == 1 && holds[0].state == HoldState::InForce && holds[0].note == "case 4711");
    assert_eq!(holds[0].credential, maintain.credential.author.certificate.credential());
    fixture.repository.release(hold, "case closed").unwrap();
    assert_eq!(fixture.repository.holds().unwrap().0[0].state, HoldState::Released);
    // Again is no failure and writes nothing.
    let before = fixture.objects().len();
    fixture.repository.release(hold, "").unwrap();
    assert_eq!(fixture.objects().len(), before);
    maintain.forget(&ids[..2], &Silent).unwrap();
    assert_eq!(fixture.shown(), ids[2..]);
    fixture.notices();
}

#[test]
fn who_may_not_maintain_holds_nothing() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    let backup = fixture.other_client(Roles::BACKUP);
    assert_eq!(kind(backup.hold(&ids, "")), ErrorKind::Unauthorized);
    assert_eq!(kind(backup.lock(&ids, LockEnd::At(at(NOW + DAY)), "", &Silent)), ErrorKind::Unauthorized);
    let body = body_of(&backup, HoldAction::Legal, ids[0]);
    backup.write_sealed(ObjectName::hold(HoldId([1; 16])), body.encode()).unwrap();
    fixture.repository.forget(&ids[..1], &Silent).unwrap();
    assert_eq!(fixture.repository.snapshots_and_problems().unwrap().0.len(), 1);
    let report = fixture.repository.check(&Silent).unwrap();
    assert_eq!(report.findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(), [Some("OBJ-9")]);
}

#[test]
fn a_stolen_backup_credential_neither_ends_nor_shortens_a_hold_or_a_lock() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    let (maintain, thief) = (fixture.other_client(Roles::MAINTAIN), fixture.other_client(Roles::BACKUP));
    let legal = fixture.repository.hold(&ids[..1], "").unwrap();
    let lock = lock_until(&fixture.repository, &ids[1..], NOW + 10 * DAY).unwrap();
    for hold in [legal, lock] {
        assert_eq!(kind(thief.release(hold, "")), ErrorKind::Unauthorized);
    }
    assert_eq!(kind(thief.lock(&ids[1..], LockEnd::At(at(NOW + 1)), "", &Silent)), ErrorKind::Unauthorized);
    // What the engine writes for nobody: releases of both, a lock that ends at once, and each in the place of what is there.
    let release =
        |hold| HoldBody { action: HoldAction::Release { hold }, snapshots: Vec::new(), ..body_of(&thief, HoldAction::Legal, ids[0]) };
    let short = body_of(&thief, HoldAction::Lock { until: at(NOW + 1) }, ids[1]);
    let forged = [release(legal), release(lock), short];
    for (number, body) in (1..).zip(&forged) {
        thief.write_sealed(ObjectName::hold(HoldId([number; 16])), body.encode()).unwrap();
        for there in [legal, lock] {
            assert_eq!(kind(thief.write_sealed(ObjectName::hold(there), body.encode())), ErrorKind::AlreadyExists);
        }
    }
    for client in [&fixture.repository, &maintain, &at_time(&fixture, NOW + 2)] {
        for id in &ids {
            assert_eq!(kind(client.forget(&[*id], &Silent)), ErrorKind::Held);
        }
    }
    let (holds, problems) = fixture.repository.holds().unwrap();
    assert!(holds.len() == 2 && holds.iter().all(|hold| hold.state == HoldState::InForce), "{holds:?}");
    assert_eq!(problems.iter().map(crate::Error::broken_rule).collect::<Vec<_>>(), [Some("OBJ-9"); 3]);
    let report = fixture.repository.check(&Silent).unwrap();
    assert_eq!(report.findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(), [Some("OBJ-9"); 3]);
    assert_eq!(fixture.repository.snapshots_and_problems().unwrap().0.len(), 2);
}

/// Who may only back up writes times, too, and none of them makes the clock of who forgets a day older.
#[test]
fn false_times_of_a_stolen_backup_credential_end_no_lock() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    let (end, thief) = (NOW + 10 * DAY, fixture.other_client(Roles::BACKUP));
    lock_until(&fixture.repository, &ids[..1], end);
    for (number, seconds) in (2..).zip([end, end + DAY, end + 5 * DAY, end + 9_000 * DAY, crate::limits::LOCK_END_MAX - 1]) {
        back_up(&of_at_time(&fixture, &thief, seconds), "series", number, &[]);
        for owner in [NOW, NOW + 9 * DAY, end - 1, end, end + DAY / 2] {
            let error = at_time(&fixture, owner).forget(&ids[..1], &Silent).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Held, "{owner} {seconds}: {error}");
        }
    }
    assert!(fixture.shown().contains(&ids[0]));
}

#[test]
fn policies_skip_what_is_held_and_say_why() {
    let (fixture, ids) = Fixture::with_snapshots(4);
    lock_until(&fixture.repository, &ids[..1], NOW + 3 * DAY);
    let policy = Policy { keep_last: 2, ..Policy::default() };
    let calendar = |_| crate::retention::Civil { year: 1, month: 1, day: 1, hour: 0, iso_week_year: 1, iso_week: 1 };
    let plan = fixture.repository.plan_forget(&policy, &SnapshotFilter::default(), &calendar).unwrap();
    assert_eq!(plan.dropped(), ids[1..2]);
    let reasons = plan.snapshots.iter().find(|snapshot| snapshot.id == ids[0]).unwrap().verdict.reasons();
    assert_eq!(reasons, ["locked until 2027-01-18 08:00:00 UTC"]);
}

#[test]
fn nobody_shortens_a_lock_and_anybody_who_may_extends_it() {
    let (fixture, ids) = Fixture::with_snapshots(1);
    let repository = &fixture.repository;
    let lock = lock_until(repository, &ids, NOW + 10 * DAY).unwrap();
    assert_eq!(kind(repository.release(lock, "")), ErrorKind::Invalid);
    // A shorter one changes nothing, and writes nothing.
    let before = fixture.objects().keys().filter(|name| name.kind() == ObjectKind::Hold).count();
    assert_eq!(lock_until(repository, &ids, NOW + 5 * DAY), None);
    assert_eq!(lock_until(repository, &ids, NOW + 10 * DAY), None);
    assert_eq!(fixture.objects().keys().filter(|name| name.kind() == ObjectKind::Hold).count(), before);
    assert!(lock_until(repository, &ids, NOW + 20 * DAY).is_some());
    assert_eq!(repository.held().unwrap()[&ids[0]].until, Some(at(NOW + 20 * DAY)));
    for wrong in [NOW, NOW - 1, crate::limits::LOCK_END_MAX] {
        assert_eq!(kind(repository.lock(&ids, LockEnd::At(at(wrong)), "", &Silent)), ErrorKind::Invalid);
    }
    // A release by admin that names a lock says nothing.
    let author =
        HoldBody { action: HoldAction::Release { hold: lock }, snapshots: Vec::new(), ..body_of(repository, HoldAction::Legal, ids[0]) };
    let header = repository.header(ObjectName::hold(HoldId([2; 16])));
    let signer = crate::crypto::Signer::new(repository.credential.admin_seed.as_ref().unwrap());
    let certificate = crate::format::Certificate::of_admin(&signer, &repository.id, 1);
    let admin = crate::format::object::Author { certificate, signer };
    fixture.backend.put(&header.name, &admin.sealed_object(&header, repository.structure_key().unwrap(), author.encode())).unwrap();
    assert_eq!(kind(repository.forget(&ids, &Silent)), ErrorKind::Held);
}

#[test]
fn no_single_clock_ends_a_lock() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    let end = NOW + 10 * DAY;
    lock_until(&fixture.repository, &ids[..1], end);
    // Clocks that are right, behind, and far ahead.
    for seconds in [NOW + 9 * DAY, 0, end, end + 5 * DAY, end + 9_000 * DAY] {
        let repository = at_time(&fixture, seconds);
        let error = repository.forget(&ids[..1], &Silent).unwrap_err();
        assert_eq!((error.kind(), error.to_string().contains("one clock alone")), (ErrorKind::Held, seconds >= end), "{error}");
    }
    // What the false clock wrote is not believed by the same clock at once, nor by the right one.
    let ahead = at_time(&fixture, end + 9_000 * DAY);
    back_up(&ahead, "series", 2, &[]);
    assert_eq!(kind(ahead.forget(&ids[..1], &Silent)), ErrorKind::Held);
    assert_eq!(kind(at_time(&fixture, end + DAY / 2).forget(&ids[..1], &Silent)), ErrorKind::Held);
    // Something was written after the end, a day ago.
    back_up(&at_time(&fixture, end), "series", 3, &[]);
    assert_eq!(kind(at_time(&fixture, end + DAY - 1).forget(&ids[..1], &Silent)), ErrorKind::Held);
    at_time(&fixture, end + DAY).forget(&ids[..1], &Silent).unwrap();
}

#[test]
fn a_lock_ends_where_nothing_is_written_but_the_clock_was_read_a_day_before() {
    let folder = tempfile::tempdir().unwrap();
    let (mut fixture, ids) = Fixture::with_snapshots(1);
    fixture.repository.settings = Settings::default().with_sightings(folder.path());
    let end = NOW + DAY;
    lock_until(&fixture.repository, &ids, end);
    let forget = |seconds| at_time(&fixture, seconds).forget(&ids, &Silent).map_err(|error| error.kind()).map(drop);
    // A clock far ahead that is right again later has proven nothing.
    assert_eq!(forget(end + 900 * DAY), Err(ErrorKind::Held));
    assert_eq!(forget(end - 1), Err(ErrorKind::Held));
    assert_eq!(forget(end + DAY - 2), Err(ErrorKind::Held));
    assert_eq!(forget(end + DAY), Err(ErrorKind::Held));
    assert_eq!(forget(end + 2 * DAY), Ok(()));
}

#[test]
fn a_clock_that_is_behind_does_not_shorten_a_lock() {
    #[derive(Debug, Default)]
    struct Notices(Mutex<Vec<String>>);
    impl Progress for Notices {
        fn event(&self, event: Event<'_>) {
            if let Event::Notice { message } = event {
                self.0.lock().push(message.to_owned());
            }
        }
    }
    let (fixture, ids) = Fixture::with_snapshots(1);
    let (behind, notices) = (at_time(&fixture, NOW - 400 * DAY), Notices::default());
    let locked = behind.lock(&ids, LockEnd::After(Duration::from_secs(5 * DAY as u64)), "", &notices).unwrap();
    assert_eq!(locked.until, at(NOW + 5 * DAY));
    assert!(notices.0.lock()[0].contains("the lock counts from then"), "{:?}", notices.0.lock());
}

#[test]
fn a_withdrawal_against_a_hold_is_believed_by_nobody_and_can_be_removed() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    let maintain = fixture.other_client(Roles::MAINTAIN);
    lock_until(&fixture.repository, &ids[..1], NOW + DAY);
    withdraw_anyway(&maintain, ids[0]);
    assert!(fixture.repository.snapshots().is_err());
    let (shown, problems) = fixture.repository.snapshots_and_problems().unwrap();
    assert_eq!((shown.len(), problems[0].broken_rule()), (2, Some("HOLD-7")));
    let report = fixture.repository.check(&Silent).unwrap();
    assert_eq!(report.findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(), [Some("HOLD-7")]);
    gc(&maintain);
    fixture.repository.repair(&RepairOptions::default(), &Silent).unwrap();
    assert_eq!(fixture.shown(), ids);
    assert_sound(&fixture);
}

#[test]
fn a_hold_does_not_bring_back_what_was_forgotten() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    fixture.repository.forget(&ids[..1], &Silent).unwrap();
    let error = fixture.repository.hold(&ids, "").unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("was forgotten before"), "{error}");
    assert!(fixture.repository.held().unwrap().is_empty());
    assert_eq!(fixture.shown(), ids[1..]);
}

/// Runs `then` once, before the first write of an object of this kind, with whoever is not delayed by that.
fn delayed(fixture: &Fixture, kind: ObjectKind, then: impl Fn() + Send + Sync + 'static) -> Repository {
    let then = Mutex::new(Some(then));
    fixture.over(Arc::new(HookedBackend::new(Arc::new(fixture.backend.clone()), move |call| {
        if call.operation == Operation::Create && call.kind == kind && !call.is_done {
            let first = then.lock().take();
            first.iter().for_each(|then| then());
        }
        Ok(())
    })))
}

#[test]
fn a_hold_that_comes_while_a_snapshot_is_forgotten_wins() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    let (holder, held) = (fixture.over(Arc::new(fixture.backend.clone())), ids[0]);
    let forgets = delayed(&fixture, ObjectKind::Withdrawn, move || {
        holder.hold(&[held], "").unwrap();
    });
    let error = forgets.forget(&ids[..1], &Silent).unwrap_err();
    assert!(error.kind() == ErrorKind::Held && error.to_string().contains("while it was being forgotten"), "{error}");
    assert_eq!(fixture.shown(), ids);
    assert_sound(&fixture);
}

#[test]
fn a_hold_wins_over_a_withdrawal_and_a_collection_between_its_look_and_its_write() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    let (others, backend, held) = (at_time(&fixture, NOW + 1), fixture.backend.clone(), ids[0]);
    let holder = delayed(&fixture, ObjectKind::Hold, move || {
        others.forget(&[held], &Silent).unwrap();
        let packs = packs(&backend);
        // The holder's session keeps the gate closed.
        let summary = gc(&others);
        assert!(summary.deleted.packs == 0 && !summary.waits_for.is_empty() && packs.iter().all(|pack| backend.size(pack).is_ok()));
    });
    holder.hold(&ids[..1], "").unwrap();
    for _ in 0..2 {
        gc(&fixture.repository);
    }
    assert_eq!(fixture.shown(), ids);
    assert_sound(&fixture);
}

/// A collector takes the holder for dead while it looks, or while it writes, and sweeps then, or not.
#[test]
fn a_hold_of_who_was_given_up_brings_nothing_back() {
    for (is_writing, sweeps) in [(false, false), (true, true), (true, false)] {
        let (fixture, ids) = Fixture::with_snapshots(2);
        let sessions = |backend: &MemoryBackend| backend.list_sorted(ObjectKind::Session).unwrap();
        let before = sessions(&fixture.backend);
        let (others, backend, held) = (at_time(&fixture, NOW + 1), fixture.backend.clone(), ids[0]);
        let happens = Mutex::new(Some(move || {
            let own: Vec<_> = sessions(&backend).into_iter().filter(|session| !before.contains(session)).collect();
            assert_eq!(own.len(), 1);
            backend.delete(&own[0].name).unwrap();
            if sweeps {
                others.forget(&[held], &Silent).unwrap();
                (0..2).for_each(|_| drop(gc(&others)));
            }
        }));
        let hooked = HookedBackend::new(Arc::new(fixture.backend.clone()), move |call| {
            let comes = match is_writing {
                false => call.kind == ObjectKind::Hold && call.operation == Operation::List && call.is_done,
                true => call.kind == ObjectKind::Hold && call.operation == Operation::Create && !call.is_done,
            };
            if comes && let Some(happens) = happens.lock().take() {
                happens();
            }
            Ok(())
        });
        let placed = over_at_time(Arc::new(hooked), &fixture.repository, NOW + 2).hold(&ids[..1], "");
        let holds: Vec<_> = fixture.backend.list_sorted(ObjectKind::Hold).unwrap().into_iter().map(|object| object.name).collect();
        match is_writing && !sweeps {
            // It was in time: nobody had forgotten the snapshot when the hold was there.
            true => assert_eq!(holds, [ObjectName::hold(placed.unwrap())]),
            false => {
                let error = placed.unwrap_err();
                assert!(error.kind() == ErrorKind::Busy && error.to_string().contains("nothing is held"), "{error}");
                assert_eq!(holds, []);
            }
        }
        assert_eq!(fixture.shown(), ids[usize::from(sweeps)..]);
        assert_sound(&fixture);
    }
}

/// A store may do what it was asked for after it was said to have failed.
#[test]
fn nothing_is_swept_while_a_hold_may_still_arrive() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    let hooked = HookedBackend::new(Arc::new(fixture.backend.clone()), |call| match (call.operation, call.kind) {
        (Operation::Finish, ObjectKind::Hold) => Err(crate::error::Error::new(ErrorKind::Unavailable, "no answer")),
        _ => Ok(()),
    });
    assert_eq!(fixture.over(Arc::new(hooked)).hold(&ids[..1], "").unwrap_err().kind(), ErrorKind::Unavailable);
    fixture.repository.forget(&ids[..1], &Silent).unwrap();
    // On the same machine it would be known that nobody holds the session any more; what is asked there does not arrive later, either.
    let mut collector = at_time(&fixture, NOW + 1);
    collector.settings = Settings::default().with_label("elsewhere process 1");
    let summary = gc(&collector);
    assert!(summary.waits_for.len() == 1 && summary.left.packs > 0 && summary.deleted.packs == 0, "{summary:?}");
    fixture
        .repository
        .write_sealed(ObjectName::hold(HoldId([3; 16])), body_of(&fixture.repository, HoldAction::Legal, ids[0]).encode())
        .unwrap();
    assert_eq!(fixture.repository.snapshots_and_problems().unwrap().0.len(), 2);
    let report = fixture.repository.scrub(&Silent).unwrap();
    assert_eq!(report.findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(), [Some("HOLD-7")]);
}

/// Who placed it may find that it came too late.
#[test]
fn a_hold_that_met_a_withdrawal_is_not_missed_when_it_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let (mut fixture, ids) = Fixture::with_snapshots(2);
    fixture.repository.settings = Settings::default().with_sightings(folder.path());
    let hold = ObjectName::hold(HoldId([3; 16]));
    fixture.repository.write_sealed(hold, body_of(&fixture.repository, HoldAction::Legal, ids[0]).encode()).unwrap();
    withdraw_anyway(&fixture.repository, ids[0]);
    assert_eq!(fixture.repository.snapshots_and_problems().unwrap().0.len(), 2);
    fixture.backend.delete(&hold).unwrap();
    assert_eq!(fixture.shown(), ids[1..]);
}

/// Otherwise somebody would believe that it was never there.
#[test]
fn what_cannot_be_read_is_not_taken_for_what_does_not_count() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    let unread = Arc::new(Mutex::new(ObjectKind::Closed));
    let fails = Arc::clone(&unread);
    let client = fixture.over(Arc::new(HookedBackend::new(Arc::new(fixture.backend.clone()), move |call| {
        let is_read = call.kind == *fails.lock() && call.operation == Operation::GetRange;
        if is_read { Err(crate::error::Error::new(ErrorKind::Unavailable, "no answer")) } else { Ok(()) }
    })));
    for kind in [ObjectKind::Closed, ObjectKind::Snapshot] {
        *unread.lock() = kind;
        assert_eq!(client.hold(&ids[..1], "").unwrap_err().kind(), ErrorKind::Unavailable, "{kind:?}");
        let mut change = TagChange::default();
        change.add.push("tag".into());
        assert_eq!(client.retag(&ids[..1], &change, &Silent).unwrap_err().kind(), ErrorKind::Unavailable, "{kind:?}");
    }
    assert!(fixture.repository.held().unwrap().is_empty());
}

fn packs(backend: &MemoryBackend) -> Vec<ObjectName> {
    backend.list_sorted(ObjectKind::DataPack).unwrap().into_iter().map(|object| object.name).collect()
}

#[test]
fn a_collector_saves_what_is_held_since_it_looked() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    fixture.repository.forget(&ids[..1], &Silent).unwrap();
    let body = body_of(&fixture.repository, HoldAction::Legal, ids[0]).encode();
    let (holder, inner) = (fixture.over(Arc::new(fixture.backend.clone())), Arc::new(fixture.backend.clone()));
    // Somebody who had looked before the withdrawal writes now, and his session is over before the gate.
    let collector = fixture.over(Arc::new(HookedBackend::new(inner, move |call| {
        if call.operation == Operation::Finish && call.kind == ObjectKind::Epoch && call.is_done {
            holder.write_sealed(ObjectName::hold(HoldId([3; 16])), body.clone()).unwrap();
        }
        Ok(())
    })));
    let summary = gc(&collector);
    assert!(summary.epoch.is_some() && summary.condemned.packs > 0 && summary.left.packs == 0, "{summary:?}");
    gc(&fixture.repository);
    let (shown, _) = fixture.repository.snapshots_and_problems().unwrap();
    assert_eq!(shown.len(), 2);
    let report = fixture.repository.scrub(&Silent).unwrap();
    assert_eq!(report.findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(), [Some("HOLD-7")]);
}

#[test]
fn what_is_held_and_gone_is_missed_although_somebody_says_that_it_was_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let (mut fixture, ids) = Fixture::with_snapshots(2);
    fixture.repository.settings = Settings::default().with_sightings(folder.path());
    fixture.repository.hold(&ids[..1], "").unwrap();
    let session = fixture.repository.read_snapshot_header(ids[0]).unwrap().record.id();
    // Whoever may delete, and maintain, takes away all that tells of it, and says that it was withdrawn.
    withdraw_anyway(&fixture.repository, ids[0]);
    for name in [ObjectName::snapshot(ids[0]), ObjectName::closed(session), ObjectName::session(session)] {
        fixture.backend.delete(&name).unwrap();
    }
    let report = fixture.repository.check(&Silent).unwrap();
    assert!(report.findings.iter().any(|finding| finding.object == Some(ObjectName::snapshot(ids[0]))), "{:#?}", report.findings);
    assert_eq!(kind(fixture.repository.gc(&GcOptions::default(), &Silent)), ErrorKind::Damaged);
    assert_eq!(kind(fixture.repository.forget(&ids[..1], &Silent)), ErrorKind::Held);
    assert!(fixture.repository.snapshots().is_err());
    // Who never saw it hears of it.
    let stranger = fixture.over(Arc::new(fixture.backend.clone()));
    let report = stranger.check(&Silent).unwrap();
    assert!(report.notices.iter().any(|notice| notice.contains(&format!("{} is held and is not here", ids[0]))), "{:?}", report.notices);
}

#[test]
fn a_hold_that_is_gone_is_missed_by_who_saw_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut fixture, ids) = Fixture::with_snapshots(3);
    fixture.repository.settings = Settings::default().with_sightings(folder.path());
    let repository = &fixture.repository;
    let hold = repository.hold(&ids[..1], "").unwrap();
    let lock = lock_until(repository, &ids[1..2], NOW + DAY).unwrap();
    repository.held().unwrap();
    for (gone, snapshot) in [(hold, ids[0]), (lock, ids[1])] {
        let name = ObjectName::hold(gone);
        let bytes = fixture.backend.get(&name, u64::MAX).unwrap();
        fixture.backend.delete(&name).unwrap();
        // Twice: once seen, it is not taken for the state that ought to be.
        for _ in 0..2 {
            assert!(repository.snapshots().unwrap_err().to_string().contains(&gone.to_string()));
            assert_eq!(kind(repository.forget(&[snapshot], &Silent)), ErrorKind::Damaged);
            assert_eq!(kind(repository.gc(&GcOptions::default(), &Silent)), ErrorKind::Damaged);
            assert!(!repository.check(&Silent).unwrap().findings.is_empty());
        }
        fixture.backend.put(&name, &bytes).unwrap();
        assert_eq!(repository.snapshots().unwrap().len(), 3);
    }
    // A hold that was released, and a lock that is over, are missed by nobody.
    repository.release(hold, "").unwrap();
    repository.held().unwrap();
    fixture.backend.delete(&ObjectName::hold(hold)).unwrap();
    back_up(&at_time(&fixture, NOW + 2 * DAY), "series", 7, &[]);
    let later = at_time(&fixture, NOW + 4 * DAY);
    fixture.backend.delete(&ObjectName::hold(lock)).unwrap();
    assert_eq!(later.snapshots().unwrap().len(), 4);
}

#[test]
fn gc_removes_locks_a_month_after_they_are_over_and_legal_holds_never() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    let legal = fixture.repository.hold(&ids[..1], "").unwrap();
    fixture.repository.release(legal, "").unwrap();
    let lock = lock_until(&fixture.repository, &ids, NOW + DAY).unwrap();
    let is_there = |hold| fixture.backend.size(&ObjectName::hold(hold)).is_ok();
    back_up(&at_time(&fixture, NOW + 30 * DAY), "series", 2, &[]);
    gc(&at_time(&fixture, NOW + 90 * DAY));
    assert!(is_there(lock));
    back_up(&at_time(&fixture, NOW + 31 * DAY), "series", 3, &[]);
    gc(&at_time(&fixture, NOW + 32 * DAY));
    assert!(!is_there(lock) && is_there(legal));
    assert_sound(&fixture);
}

#[test]
fn only_what_counts_can_be_held() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    let closed = ObjectName::closed(fixture.repository.read_snapshot_header(ids[1]).unwrap().record.id());
    fixture.backend.delete(&closed).unwrap();
    assert_eq!(kind(fixture.repository.hold(&ids, "")), ErrorKind::Busy);
    assert_eq!(kind(fixture.repository.hold(&[SnapshotId([7; 16])], "")), ErrorKind::NotFound);
    assert_eq!(kind(fixture.repository.hold(&[], "")), ErrorKind::Invalid);
    assert_eq!(kind(fixture.repository.hold(&ids[..1], &"x".repeat(1_025))), ErrorKind::Invalid);
    assert!(fixture.objects().keys().all(|name| name.kind() != ObjectKind::Hold));
}

#[test]
fn a_backup_locks_what_it_makes_or_fails() {
    let (fixture, _) = Fixture::with_snapshots(1);
    let back_up = |repository: &Repository| {
        let mut options = crate::backup::BackupOptions::new("series");
        options.lock = Some(Duration::from_secs(30 * DAY as u64));
        repository.backup_stream("name", Box::new(std::io::Cursor::new(vec![7; 5_000])), &options, &Silent)
    };
    let made = back_up(&fixture.repository).unwrap();
    assert_eq!(made.locked_until, Some(at(NOW + 30 * DAY)));
    assert_eq!(fixture.repository.held().unwrap()[&made.snapshot.unwrap()].until, made.locked_until);
    // Who cannot lock is refused before anything is read or written.
    let before = fixture.objects();
    assert_eq!(kind(back_up(&fixture.other_client(Roles::BACKUP))), ErrorKind::Unauthorized);
    assert!(fixture.objects() == before);
    // Where the lock cannot be written the snapshot counts, and the backup did not work.
    let shown = fixture.shown().len();
    let fails = fixture.over(Arc::new(HookedBackend::new(Arc::new(fixture.backend.clone()), |call| {
        match call.operation == Operation::Create && call.kind == ObjectKind::Hold {
            true => Err(crate::Error::new(ErrorKind::Unavailable, "full")),
            false => Ok(()),
        }
    })));
    let error = back_up(&fails).unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("it is not locked"), "{error}");
    assert_eq!(fixture.shown().len(), shown + 1);
}

#[test]
fn what_others_said_is_durable_before_it_is_reported() {
    let (fixture, ids) = Fixture::with_snapshots(1);
    let lock = lock_until(&fixture.repository, &ids, NOW + DAY).unwrap();
    let legal = fixture.repository.hold(&ids, "").unwrap();
    fixture.repository.release(legal, "").unwrap();
    let (backend, order) = Order::of(Arc::new(fixture.backend.clone()));
    let other = fixture.over(backend);
    assert_eq!(lock_until(&other, &ids, NOW + DAY), None);
    order.at(Operation::MakeDurable, ObjectName::hold(lock));
    other.release(legal, "").unwrap();
    order.at(Operation::MakeDurable, ObjectName::hold(legal));
}

#[test]
fn what_releases_is_durable_before_what_was_held_goes() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    let hold = fixture.repository.hold(&ids[..1], "").unwrap();
    fixture.repository.release(hold, "").unwrap();
    let names: Vec<_> = fixture.backend.list_sorted(ObjectKind::Hold).unwrap().into_iter().map(|object| object.name).collect();
    let (backend, order) = Order::of(Arc::new(fixture.backend.clone()));
    fixture.over(backend).forget(&ids[..1], &Silent).unwrap();
    let goes = order.at(Operation::Finish, ObjectName::withdrawn(ids[0]));
    let (backend, collected) = Order::of(Arc::new(fixture.backend.clone()));
    gc(&fixture.over(backend));
    let swept = collected.first(Operation::Delete, |name| name.kind().is_pack()).unwrap();
    for name in names {
        assert!(order.at(Operation::MakeDurable, name) < goes && collected.at(Operation::MakeDurable, name) < swept, "{name}");
    }
}

//! A client that has seen a newer state notices an older one, and a snapshot that is gone with everything that told of it.

use super::fixture::{Fixture, NOW};
use super::{GcOptions, gc};
use crate::backend::testing::{HookedBackend, Operation, Order};
use crate::backend::{Backend, BackendExt, ObjectKind, ObjectName};
use crate::check::CheckReport;
use crate::error::{Error, ErrorKind};
use crate::format::Roles;
use crate::id::{SessionId, SnapshotId};
use crate::progress::{Event, Progress, Silent};
use crate::repository::{Repository, Settings};
use crate::retention::{Civil, KeepReason, Policy, SnapshotFilter, Verdict};
use crate::runtime::{Runtime, Timestamp};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A client that remembers in `folder` what it saw.
fn client(fixture: &Fixture, folder: &Path) -> Repository {
    try_client(fixture, folder).unwrap()
}

fn try_client(fixture: &Fixture, folder: &Path) -> crate::error::Result<Repository> {
    try_client_over(Arc::new(fixture.backend.clone()), fixture, folder)
}

fn try_client_over(backend: Arc<dyn Backend>, fixture: &Fixture, folder: &Path) -> crate::error::Result<Repository> {
    static SEED: AtomicU64 = AtomicU64::new(1 << 32);
    let runtime = Runtime::seeded(SEED.fetch_add(1, Ordering::Relaxed), NOW, 2);
    Repository::open(backend, runtime, fixture.key(), Settings::default().with_sightings(folder))
}

fn session_of(fixture: &Fixture, snapshot: SnapshotId) -> SessionId {
    fixture.repository.read_snapshot_header(snapshot).unwrap().record.id()
}

/// A pack of content that only the snapshot needs.
fn own_pack(fixture: &Fixture, snapshot: SnapshotId) -> ObjectName {
    let session = session_of(fixture, snapshot);
    let sessions = |name: &ObjectName| {
        let size = fixture.backend.size(name).unwrap();
        fixture.repository.read_pack_tail(name, size).unwrap().tables.sessions
    };
    let is_own = |name: &ObjectName| name.kind() == ObjectKind::DataPack && sessions(name)[0].id() == session;
    fixture.packs().into_iter().find(is_own).unwrap()
}

#[derive(Debug, Default)]
struct Notices(Mutex<Vec<String>>);

impl Progress for Notices {
    fn event(&self, event: Event<'_>) {
        if let Event::Notice { message } = event {
            self.0.lock().push(message.to_owned());
        }
    }

    fn is_cancelled(&self) -> bool {
        false
    }
}

/// How many snapshots rules let go that keep the last one. Where something is wrong they let none go, and say why.
fn dropped_by_rules(repository: &Repository) -> usize {
    let policy = Policy { keep_last: 1, ..Policy::default() };
    let civil = |_: Timestamp| Civil { year: 2027, month: 1, day: 1, hour: 0, iso_week_year: 2027, iso_week: 1 };
    let plan = repository.plan_forget(&policy, &SnapshotFilter::default(), &civil).unwrap();
    let is_spared = |verdict: &Verdict| *verdict == Verdict::Keep(vec![KeepReason::OtherState]);
    assert_eq!(plan.snapshots.iter().any(|snapshot| is_spared(&snapshot.verdict)), plan.dropped().is_empty());
    assert_eq!(plan.problems.is_empty(), !plan.dropped().is_empty());
    plan.dropped().len()
}

#[test]
fn a_snapshot_that_is_gone_without_a_trace_is_noticed_by_who_saw_it() {
    let mut fixture = Fixture::with_states(0..3);
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(client(&fixture, folder.path()).snapshots().unwrap().len(), 3);
    let lost = fixture.kept.pop().unwrap();
    let gone = fixture.take_away(lost.id)[0].0;
    // Nobody else can tell.
    fixture.assert_whole();
    let seeing = client(&fixture, folder.path());
    assert_eq!((dropped_by_rules(&fixture.repository), dropped_by_rules(&seeing)), (1, 0));
    assert_eq!(seeing.find_snapshot("latest", None, None).unwrap_err().kind(), ErrorKind::Damaged);
    let found = seeing.check(&Silent).unwrap().findings;
    assert_eq!((found.len(), found[0].object, &found[0].snapshots[..]), (1, Some(gone), &[lost.id][..]));
    let notices = Notices::default();
    let options = crate::backup::BackupOptions::new("other");
    seeing.backup_stream("state", Box::new(std::io::Cursor::new(b"x".to_vec())), &options, &notices).unwrap();
    assert!(notices.0.lock().iter().any(|message| message.contains(&lost.id.to_string())), "{notices:?}");
    let older = seeing.find_snapshot(&fixture.kept[0].id.to_string(), None, None).unwrap();
    seeing.restore_to_writer(&older, None, &mut Vec::new(), &notices).unwrap();
    assert_eq!(notices.0.lock().len(), 2, "{notices:?}");
    // What only it needed may be all that is left of it.
    assert_eq!(seeing.gc(&GcOptions::default(), &Silent).unwrap_err().kind(), ErrorKind::Damaged);
    // Giving it up settles it, for everybody.
    seeing.forget(&[lost.id], &Silent).unwrap();
    assert!(seeing.check(&Silent).unwrap().findings.is_empty());
    gc(&seeing);
    assert!(client(&fixture, folder.path()).check(&Silent).unwrap().findings.is_empty());
}

#[test]
fn own_snapshots_are_seen_when_they_count() {
    let mut fixture = Fixture::with_states(0..1);
    let folder = tempfile::tempdir().unwrap();
    let seeing = client(&fixture, folder.path());
    let id = super::fixture::backup_state(&seeing, "daily", 1).unwrap();
    fixture.keep(id, 1);
    fixture.take_away(id);
    assert_eq!(client(&fixture, folder.path()).snapshots().unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn a_lost_snapshot_of_another_series_does_not_hide_the_latest() {
    let mut fixture = Fixture::with_states(0..1);
    let folder = tempfile::tempdir().unwrap();
    let seeing = client(&fixture, folder.path());
    let latest = |client: &Repository, series| client.find_snapshot("latest", series, None).map(|found| found.id).map_err(|e| e.kind());
    let other = super::fixture::backup_state(&seeing, "other", 1).unwrap();
    let daily = super::fixture::backup_state(&seeing, "daily", 2).unwrap();
    let name = ObjectName::snapshot(other);
    let mut bytes = fixture.backend.get(&name, u64::MAX).unwrap();
    bytes[100] ^= 1;
    fixture.backend.delete(&name).unwrap();
    for state in ["damaged", "gone"] {
        if state == "damaged" {
            fixture.backend.put(&name, &bytes).unwrap();
        } else {
            fixture.backend.delete(&name).unwrap();
        }
        // Who made it knows of which series it was, also in a later run; nobody else does.
        let seeing = client(&fixture, folder.path());
        assert_eq!(latest(&seeing, Some("daily")), Ok(daily), "{state}");
        assert_eq!(latest(&seeing, Some("other")), Err(ErrorKind::Damaged), "{state}");
        assert_eq!(latest(&seeing, None), Err(ErrorKind::Damaged), "{state}");
        assert_eq!(latest(&fixture.repository, Some("daily")), Err(ErrorKind::Damaged), "{state}");
    }
    fixture.keep(daily, 2);
    seeing.forget(&[other], &Silent).unwrap();
    assert_eq!(latest(&seeing, None), Ok(daily));
}

#[test]
fn what_was_forgotten_and_collected_is_not_missed() {
    let mut fixture = Fixture::with_states(0..4);
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for folder in [&folder, &other] {
        client(&fixture, folder.path()).snapshots().unwrap();
    }
    fixture.forget(0);
    // Seen between forgetting and collecting, or not at all.
    client(&fixture, other.path()).snapshots().unwrap();
    gc(&fixture.repository);
    fixture.forget(1);
    gc(&fixture.repository);
    gc(&fixture.repository);
    assert!(fixture.backend.list_sorted(ObjectKind::Withdrawn).unwrap().is_empty(), "the epochs alone tell");
    for folder in [&folder, &other] {
        let seeing = client(&fixture, folder.path());
        assert_eq!(seeing.snapshots().unwrap().len(), 2);
        assert!(seeing.check(&Silent).unwrap().findings.is_empty());
        gc(&seeing);
    }
    fixture.assert_whole();
}

#[test]
fn an_older_state_is_noticed_by_who_saw_a_newer_one() {
    let mut fixture = Fixture::with_states(0..3);
    let before = fixture.objects();
    fixture.forget(0);
    gc(&fixture.repository);
    let folder = tempfile::tempdir().unwrap();
    client(&fixture, folder.path()).snapshots().unwrap();
    // All of it as it was.
    let now = fixture.objects();
    now.keys().filter(|name| !before.contains_key(name)).for_each(|name| fixture.backend.delete(name).unwrap());
    before.iter().filter(|(name, _)| !now.contains_key(name)).for_each(|(name, bytes)| fixture.backend.put(name, bytes).unwrap());
    let seeing = client(&fixture, folder.path());
    let (shown, problems) = seeing.snapshots_and_problems().unwrap();
    assert_eq!((shown.len(), problems.len()), (3, 1), "{problems:?}");
    assert_eq!((dropped_by_rules(&fixture.repository), dropped_by_rules(&seeing)), (2, 0));
    assert!(problems[0].to_string().contains("epoch 1"), "{}", problems[0]);
    assert_eq!(seeing.check(&Silent).unwrap().findings.len(), 1);
    assert_eq!(seeing.gc(&GcOptions::default(), &Silent).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(seeing.find_snapshot("latest", None, None).unwrap_err().kind(), ErrorKind::Damaged);
    // Accepted by removing what was seen, as the message says.
    std::fs::remove_file(folder.path().join(seeing.id().to_string())).unwrap();
    gc(&client(&fixture, folder.path()));
}

#[test]
fn another_epoch_of_the_same_number_is_noticed_when_it_goes_on() {
    let mut fixture = Fixture::with_states(0..3);
    let other = fixture.copy();
    fixture.forget(0);
    gc(&fixture.repository);
    let folder = tempfile::tempdir().unwrap();
    client(&fixture, folder.path()).snapshots().unwrap();
    // The other branch has epochs of its own.
    let mut other = other;
    for day in [1, 2] {
        other.forget(day);
        gc(&other.repository);
    }
    let seeing = client(&other, folder.path());
    let problems = seeing.snapshots_and_problems().unwrap().1;
    assert!(problems.iter().any(|problem| problem.to_string().contains("epoch 1 of garbage collection was another one")), "{problems:?}");
}

#[test]
fn an_older_config_is_refused_by_who_saw_a_newer_one() {
    let fixture = Fixture::with_states(0..1);
    let folder = tempfile::tempdir().unwrap();
    let before = fixture.objects();
    let seeing = client(&fixture, folder.path());
    seeing.rotate(&seeing.plan_rotation(None).unwrap()).unwrap();
    client(&fixture, folder.path());
    fixture.objects().keys().filter(|name| !before.contains_key(name)).for_each(|name| fixture.backend.delete(name).unwrap());
    let refused = try_client(&fixture, folder.path()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Damaged);
    assert!(refused.to_string().contains("generation 2 of the config"), "{refused}");
}

#[test]
fn a_config_that_others_saw_while_this_one_opened_is_looked_for_again() {
    let fixture = Fixture::with_states(0..1);
    let folder = tempfile::tempdir().unwrap();
    let (seeing, path) = (client(&fixture, folder.path()), folder.path().to_owned());
    let (backend, key) = (fixture.backend.clone(), fixture.key().clone());
    let (settings, runtime) = (move || Settings::default().with_sightings(&path), || Runtime::seeded(1 << 33, NOW, 1));
    let others = Mutex::new(Some((seeing, settings.clone())));
    // After the configs were listed the keys are rotated, and another process of this machine sees that.
    let hooked = HookedBackend::new(Arc::new(backend.clone()), move |call| {
        if call.kind == ObjectKind::Config && call.name.is_none() && call.is_done {
            let others = others.lock().take();
            if let Some((seeing, settings)) = others {
                seeing.rotate(&seeing.plan_rotation(None)?)?;
                Repository::open(Arc::new(backend.clone()), runtime(), &key, settings())?;
            }
        }
        Ok(())
    });
    let opened = Repository::open(Arc::new(hooked), runtime(), fixture.key(), settings()).unwrap();
    assert_eq!(opened.generation(), 2);
}

#[test]
fn damaged_sightings_are_said_and_believed_in_nothing() {
    let fixture = Fixture::with_states(0..2);
    let folder = tempfile::tempdir().unwrap();
    let seeing = client(&fixture, folder.path());
    seeing.snapshots().unwrap();
    let path = folder.path().join(seeing.id().to_string());
    let whole = std::fs::read(&path).unwrap();
    for at in [0, whole.len() / 2, whole.len() - 2] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (shown, problems) = client(&fixture, folder.path()).snapshots_and_problems().unwrap();
        assert_eq!((shown.len(), problems.len()), (2, 1));
        assert_eq!((dropped_by_rules(&fixture.repository), dropped_by_rules(&client(&fixture, folder.path()))), (1, 0));
        assert!(problems[0].to_string().contains(path.to_str().unwrap()), "{}", problems[0]);
    }
}

/// Others may have written it a moment ago: the next power failure takes it away, and nobody is to blame.
#[test]
fn what_is_new_is_made_durable_before_it_is_remembered() {
    let mut fixture = Fixture::with_states(0..2);
    fixture.forget(0);
    gc(&fixture.repository);
    let id = fixture.kept[0].id;
    let hold = fixture.repository.hold(&[id], "").unwrap();
    let session = fixture.repository.read_snapshot_header(id).unwrap().record.id();
    let folder = tempfile::tempdir().unwrap();
    let look = || {
        let (backend, order) = Order::of(Arc::new(fixture.backend.clone()));
        try_client_over(backend, &fixture, folder.path()).unwrap().list_snapshots().unwrap();
        order
    };
    let order = look();
    for name in [ObjectName::config(1), ObjectName::epoch(1), ObjectName::snapshot(id), ObjectName::closed(session), ObjectName::hold(hold)]
    {
        order.at(Operation::MakeDurable, name);
    }
    assert_eq!(look().first(Operation::MakeDurable, |_| true), None, "nothing is new any more");
}

#[test]
fn what_cannot_be_made_durable_is_said_and_not_remembered() {
    let mut fixture = Fixture::with_states(0..2);
    let before = fixture.objects();
    fixture.forget(0);
    gc(&fixture.repository);
    let folder = tempfile::tempdir().unwrap();
    let hooked = HookedBackend::new(Arc::new(fixture.backend.clone()), |call| match call.operation {
        Operation::MakeDurable => Err(Error::new(ErrorKind::Unavailable, "the disk could not")),
        _ => Ok(()),
    });
    let seeing = try_client_over(Arc::new(hooked), &fixture, folder.path()).unwrap();
    let listing = seeing.list_snapshots().unwrap();
    assert!(listing.setback.is_none() && listing.snapshots.len() == 1);
    assert!(listing.unkept.is_some_and(|message| message.contains("the disk could not")));
    assert!(seeing.check(&Silent).unwrap().notices.iter().any(|notice| notice.contains("the disk could not")));
    // As a power failure may leave it.
    let now = fixture.objects();
    now.keys().filter(|name| !before.contains_key(name)).for_each(|name| fixture.backend.delete(name).unwrap());
    before.iter().filter(|(name, _)| !now.contains_key(name)).for_each(|(name, bytes)| fixture.backend.put(name, bytes).unwrap());
    let taken = fixture.kept.pop().unwrap();
    fixture.take_away(taken.id);
    assert!(client(&fixture, folder.path()).check(&Silent).unwrap().findings.is_empty());
}

#[test]
fn a_snapshot_whose_end_goes_first_or_last_is_missed() {
    for is_end_first in [true, false] {
        let fixture = Fixture::with_states(0..2);
        let folder = tempfile::tempdir().unwrap();
        client(&fixture, folder.path()).snapshots().unwrap();
        let (lost, session) = (fixture.kept[1].id, session_of(&fixture, fixture.kept[1].id));
        let (snapshot, end) = (ObjectName::snapshot(lost), ObjectName::closed(session));
        let [first, last] = if is_end_first { [end, snapshot] } else { [snapshot, end] };
        fixture.backend.delete(&first).unwrap();
        let seeing = client(&fixture, folder.path());
        // Nothing is lost with its end alone.
        assert_eq!(seeing.snapshots().is_ok(), is_end_first);
        assert_eq!(seeing.check(&Silent).unwrap().findings.len(), usize::from(!is_end_first));
        fixture.backend.delete(&last).unwrap();
        fixture.backend.delete(&ObjectName::session(session)).unwrap();
        for _ in 0..2 {
            let seeing = client(&fixture, folder.path());
            let refused = seeing.snapshots().unwrap_err();
            assert!(refused.kind() == ErrorKind::Damaged && refused.to_string().contains(&format!("icecore forget {lost}")), "{refused}");
            let found = seeing.check(&Silent).unwrap().findings;
            assert_eq!((found.len(), &found[0].snapshots[..]), (1, &[lost][..]), "{found:?}");
            assert!(found[0].message.contains(&format!("icecore forget {lost}")), "{found:?}");
            assert_eq!(seeing.gc(&GcOptions::default(), &Silent).unwrap_err().kind(), ErrorKind::Damaged);
        }
    }
}

#[test]
fn a_snapshot_that_counted_and_lost_its_end_and_a_pack_is_no_interrupted_backup() {
    for is_given_up in [false, true] {
        let mut fixture = Fixture::with_states(0..3);
        let folder = tempfile::tempdir().unwrap();
        client(&fixture, folder.path()).snapshots().unwrap();
        let last = fixture.kept[2].id;
        let (end, pack) = (ObjectName::closed(session_of(&fixture, last)), own_pack(&fixture, last));
        let bytes = fixture.backend.get(&pack, u64::MAX).unwrap();
        [end, pack].iter().for_each(|name| fixture.backend.delete(name).unwrap());
        // Who never saw it cannot know better.
        assert_eq!(fixture.repository.snapshots().unwrap().len(), 2);
        assert!(fixture.repository.check(&Silent).unwrap().findings.is_empty());
        for _ in 0..2 {
            let seeing = client(&fixture, folder.path());
            let (shown, problems) = seeing.snapshots_and_problems().unwrap();
            assert_eq!((shown.len(), problems.len()), (2, 1), "{problems:?}");
            assert!(problems[0].to_string().contains(&format!("icecore forget {last}")), "{problems:?}");
            assert_eq!(seeing.find_snapshot("latest", None, None).unwrap_err().kind(), ErrorKind::Damaged);
            // What is left of it can be had.
            assert_eq!(seeing.find_snapshot(&last.to_string(), None, None).unwrap().id, last);
            let found = seeing.check(&Silent).unwrap().findings;
            assert!(!found.is_empty() && found.iter().all(|finding| finding.snapshots == [last]), "{found:?}");
            assert_eq!(seeing.gc(&GcOptions::default(), &Silent).unwrap_err().kind(), ErrorKind::Damaged);
            assert!(fixture.backend.size(&ObjectName::withdrawn(last)).is_err());
        }
        let seeing = client(&fixture, folder.path());
        if is_given_up {
            seeing.forget(&[last], &Silent).unwrap();
            fixture.kept.pop();
            gc(&seeing);
        } else {
            fixture.backend.put(&pack, &bytes).unwrap();
            assert!(seeing.check(&Silent).unwrap().findings.is_empty());
            assert_eq!(gc(&seeing).snapshots_settled, [last]);
        }
        assert!(client(&fixture, folder.path()).check(&Silent).unwrap().findings.is_empty());
        fixture.assert_whole();
    }
}

/// The end of a session goes after its snapshots, and their markers after that: all of it between two listings of who has seen them.
#[test]
fn what_is_forgotten_and_collected_between_two_listings_is_not_missed() {
    let looks: [fn(&Repository) -> usize; 2] =
        [|seeing| seeing.snapshots_and_problems().unwrap().1.len(), |seeing| seeing.check(&Silent).unwrap().findings.len()];
    for look in looks {
        for kind in [ObjectKind::Closed, ObjectKind::Withdrawn, ObjectKind::Hold, ObjectKind::Epoch] {
            let fixture = Fixture::with_states(0..3);
            let folder = tempfile::tempdir().unwrap();
            client(&fixture, folder.path()).snapshots().unwrap();
            let (oldest, other) = (fixture.kept[0].id, Mutex::new(Some(fixture.other_handle(51))));
            let hooked = HookedBackend::new(Arc::new(fixture.backend.clone()), move |call| {
                if call.operation == Operation::List && call.kind == kind && !call.is_done {
                    let other = other.lock().take();
                    if let Some(other) = other {
                        other.forget(&[oldest], &Silent)?;
                        (0..2).for_each(|_| drop(gc(&other)));
                    }
                }
                Ok(())
            });
            assert_eq!(look(&try_client_over(Arc::new(hooked), &fixture, folder.path()).unwrap()), 0, "{kind:?}");
            let seeing = client(&fixture, folder.path());
            assert_eq!((seeing.snapshots().unwrap().len(), look(&seeing)), (2, 0), "{kind:?}");
            assert!(!fixture.backend.list_sorted(ObjectKind::Snapshot).unwrap().iter().any(|object| object.name.id() == oldest.0));
        }
    }
}

#[test]
fn what_another_process_sees_meanwhile_stays_seen() {
    let fixture = Fixture::with_states(0..1);
    let folder = tempfile::tempdir().unwrap();
    client(&fixture, folder.path()).snapshots().unwrap();
    let made = Arc::new(Mutex::new(None));
    let other = client(&fixture, folder.path());
    let hooked = HookedBackend::new(Arc::new(fixture.backend.clone()), {
        let made = Arc::clone(&made);
        move |call| {
            let is_first = call.operation == Operation::List && call.kind == ObjectKind::Snapshot && call.is_done && made.lock().is_none();
            if is_first {
                let id = super::fixture::backup_state(&other, "daily", 1)?;
                *made.lock() = Some(id);
            }
            Ok(())
        }
    });
    try_client_over(Arc::new(hooked), &fixture, folder.path()).unwrap().tell_setbacks(&Silent).unwrap();
    fixture.take_away(made.lock().unwrap());
    assert_eq!(client(&fixture, folder.path()).snapshots().unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn who_can_remember_nothing_is_told_and_goes_on() {
    let fixture = Fixture::with_states(0..2);
    let folder = tempfile::tempdir().unwrap();
    // Holds for whoever may do everything, too.
    let nowhere = folder.path().join("no folder");
    std::os::unix::fs::symlink(folder.path().join("not/there"), &nowhere).unwrap();
    let seeing = client(&fixture, &nowhere);
    let is_told = |message: &String| message.contains("cannot be kept in") && message.contains("no folder");
    let report = seeing.check(&Silent).unwrap();
    assert!(report.findings.is_empty() && report.notices.iter().filter(|notice| is_told(notice)).count() == 1, "{:?}", report.notices);
    let notices = Notices::default();
    seeing.tell_setbacks(&notices).unwrap();
    assert!(notices.0.lock().iter().filter(|notice| is_told(notice)).count() == 1, "{:?}", notices.0.lock());
    assert_eq!(seeing.snapshots().unwrap().len(), 2);
    // Who can is told nothing.
    std::fs::remove_file(&nowhere).unwrap();
    let notices = Notices::default();
    seeing.tell_setbacks(&notices).unwrap();
    assert!(notices.0.lock().is_empty(), "{:?}", notices.0.lock());
}

#[test]
fn who_only_checks_or_scrubs_misses_snapshots_too() {
    let looks: [fn(&Repository) -> crate::error::Result<CheckReport>; 2] = [|seeing| seeing.check(&Silent), |seeing| seeing.scrub(&Silent)];
    for look in looks {
        for roles in [Roles::ALL, Roles::MAINTAIN] {
            let fixture = Fixture::with_states(0..2);
            let folder = tempfile::tempdir().unwrap();
            let snapshots_found = || {
                let mut seeing = super::client_with(&fixture.repository, roles, 61);
                seeing.settings = Settings::default().with_sightings(folder.path());
                let found = look(&seeing).unwrap().findings.into_iter().filter_map(|finding| finding.object);
                found.filter(|name| name.kind() == ObjectKind::Snapshot).collect::<Vec<_>>()
            };
            assert_eq!(snapshots_found(), []);
            let gone = fixture.take_away(fixture.kept[1].id)[0].0;
            assert_eq!(snapshots_found(), [gone]);
        }
    }
}

#[test]
fn another_epoch_of_the_same_number_is_noticed() {
    let mut fixture = Fixture::with_states(0..3);
    let mut other = fixture.copy();
    fixture.forget(0);
    gc(&fixture.repository);
    let folder = tempfile::tempdir().unwrap();
    client(&fixture, folder.path()).snapshots().unwrap();
    other.forget(1);
    gc(&other.repository);
    for _ in 0..2 {
        let seeing = client(&other, folder.path());
        let problems = seeing.snapshots_and_problems().unwrap().1;
        assert!(
            problems.iter().any(|problem| problem.to_string().contains("epoch 1 of garbage collection was another one")),
            "{problems:?}"
        );
        assert_eq!(seeing.gc(&GcOptions::default(), &Silent).unwrap_err().kind(), ErrorKind::Damaged);
    }
    assert!(client(&fixture, folder.path()).snapshots_and_problems().unwrap().1.is_empty());
}

#[test]
fn another_config_of_the_same_number_is_refused_also_when_it_goes_on() {
    let fixture = Fixture::with_states(0..1);
    let other = fixture.copy();
    let folder = tempfile::tempdir().unwrap();
    let rotate = |fixture: &Fixture, seed| {
        let admin = fixture.other_handle(seed);
        admin.rotate(&admin.plan_rotation(None).unwrap()).unwrap();
    };
    rotate(&fixture, 71);
    client(&fixture, folder.path());
    for seed in 72..75 {
        rotate(&other, seed);
        let refused = try_client(&other, folder.path()).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Damaged);
        assert!(refused.to_string().contains("generation 2 of the config was another one"), "{refused}");
    }
    // What was seen may go on.
    for seed in 75..78 {
        rotate(&fixture, seed);
        assert_eq!(client(&fixture, folder.path()).generation(), seed as u32 - 72);
    }
}

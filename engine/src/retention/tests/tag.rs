//! Changing tags: what stays the same, who may, and a stop at every step.

use super::forget::{Fixture, back_up, kind};
use crate::backend::testing::{FaultyBackend, Operation, Order};
use crate::backend::{Backend, ObjectName};
use crate::error::ErrorKind;
use crate::format::Roles;
use crate::id::SnapshotId;
use crate::progress::{Cancel, Silent};
use crate::repository::Snapshot;
use crate::retention::TagChange;
use std::sync::Arc;

const READS_AND_WRITES: Roles = Roles::BACKUP.and(Roles::RESTORE);

fn change(set: Option<&[&str]>, add: &[&str], remove: &[&str]) -> TagChange {
    let owned = |tags: &[&str]| tags.iter().map(|tag| (*tag).to_owned()).collect::<Vec<_>>();
    TagChange { set: set.map(owned), add: owned(add), remove: owned(remove) }
}

impl Fixture {
    fn snapshot(&self, id: SnapshotId) -> Snapshot {
        self.repository.find_snapshot(&id.to_string(), None, None).unwrap()
    }

    /// Tree and tags of all that count.
    fn told(&self) -> Vec<(crate::id::ChunkId, Vec<String>)> {
        self.repository.snapshots().unwrap().into_iter().map(|snapshot| (snapshot.body.tree_root, snapshot.body.tags)).collect()
    }
}

#[test]
fn another_snapshot_takes_the_place_and_only_tags_differ() {
    let (fixture, ids) = Fixture::with_snapshots(3);
    let old = fixture.snapshot(ids[1]);
    let tagged = fixture.repository.retag(&[ids[1], ids[1]], &change(None, &["b", "a", "c"], &["c"]), &Silent).unwrap();
    let [done] = &tagged[..] else { panic!("{tagged:?}") };
    assert_eq!((done.before, &done.tags), (ids[1], &vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(fixture.shown(), [ids[0], done.after, ids[2]]);
    let new = fixture.snapshot(done.after);
    let mut body = new.body.clone();
    body.tags.clear();
    assert_eq!((body, new.header.time, new.header.refs_root), (old.body, old.header.time, old.header.refs_root));
    assert_eq!((new.header.sequence, new.header.previous), (4, Some(ids[2])));
    let mut content = Vec::new();
    fixture.repository.restore_to_writer(&new, None, &mut content, &Silent).unwrap();
    assert_eq!(content.len(), 80 << 10);
    fixture.notices();

    let again = fixture.repository.retag(&[done.after], &change(None, &["a"], &["z"]), &Silent).unwrap();
    assert_eq!((again[0].before, again[0].after), (done.after, done.after), "nothing is written where nothing changes");
    let set = fixture.repository.retag(&[done.after, ids[0]], &change(Some(&["x"]), &["y"], &[]), &Silent).unwrap();
    assert_eq!(fixture.shown(), [set[1].after, set[0].after, ids[2]]);
    assert_eq!(set[0].tags, ["x", "y"]);
    let session = |id| fixture.snapshot(id).header.record.id();
    assert_ne!(session(set[0].after), session(set[1].after), "each can be copied without the other");
    fixture.repository.gc(&crate::gc::GcOptions::default(), &Silent).unwrap();
    fixture.repository.gc(&crate::gc::GcOptions::default(), &Silent).unwrap();
    assert_eq!(fixture.shown(), [set[1].after, set[0].after, ids[2]]);
    fixture.notices();
    let next = back_up(&fixture.repository, "series", 9, &[]);
    assert_eq!(fixture.snapshot(next).header.previous, Some(set[1].after));
}

#[test]
fn who_may_not_or_asks_for_nonsense_changes_nothing() {
    let (fixture, ids) = Fixture::with_snapshots(1);
    let add = change(None, &["t"], &[]);
    let before = fixture.objects();
    for roles in [Roles::BACKUP, Roles::RESTORE, READS_AND_WRITES] {
        assert_eq!(kind(fixture.other_client(roles).retag(&ids, &add, &Silent)), ErrorKind::Unauthorized, "{roles}");
    }
    assert_eq!(kind(fixture.repository.retag(&ids, &change(None, &[""], &[]), &Silent)), ErrorKind::Invalid);
    assert_eq!(kind(fixture.repository.retag(&[ids[0], SnapshotId([7; 16])], &add, &Silent)), ErrorKind::NotFound);
    let cancel = Cancel::default();
    cancel.cancel();
    assert_eq!(kind(fixture.repository.retag(&ids, &add, &cancel)), ErrorKind::Cancelled);
    assert!(fixture.objects() == before);

    let other = fixture.other_client(Roles::ALL);
    assert_eq!(other.retag(&ids, &add, &Silent).unwrap()[0].tags, ["t"], "those of others, too");
    fixture.notices();
}

#[test]
fn a_stop_at_any_step_loses_nothing_and_the_next_run_finishes() {
    let (fixture, ids) = Fixture::with_snapshots(1);
    let add = change(None, &["t"], &[]);
    let before = fixture.objects();
    let tree = fixture.snapshot(ids[0]).body.tree_root;
    let mut both = 0;
    for (operation, loses_answer) in [Operation::Create, Operation::Write, Operation::Finish, Operation::List]
        .into_iter()
        .flat_map(|operation| [(operation, false), (operation, true)])
    {
        for nth in 1.. {
            fixture.reset(&before);
            let faulty = Arc::new(FaultyBackend::new(Arc::new(fixture.backend.clone()), 1));
            let repository = fixture.over(faulty.clone());
            match loses_answer {
                true => faulty.lose_answer(operation, nth),
                false => faulty.fail(operation, nth),
            }
            let result = repository.retag(&ids, &add, &Silent);
            let left = fixture.told();
            assert!(!left.is_empty() && left.len() <= 2 && left.iter().all(|(root, _)| *root == tree), "{operation:?} {nth}: {left:?}");
            fixture.notices();
            if result.is_ok() {
                break;
            }
            both += u64::from(left.len() == 2);
            faulty.heal();
            if fixture.shown().contains(&ids[0]) {
                repository.retag(&ids, &add, &Silent).unwrap();
            }
            let told = fixture.told();
            assert!(!told.is_empty() && told.iter().all(|(_, tags)| tags == &["t"]), "{operation:?} {nth}: {told:?}");
            fixture.notices();
        }
    }
    // Between `closed/` of the new snapshot and the marker of the old one.
    assert!(both >= 3, "{both}");
}

#[test]
fn what_an_earlier_run_left_is_durable_before_the_old_snapshot_goes() {
    let (fixture, ids) = Fixture::with_snapshots(2);
    let done = fixture.repository.retag(&[ids[0]], &change(None, &["a"], &[]), &Silent).unwrap();
    let session = fixture.snapshot(done[0].after).header.record.id();
    // As if it had been stopped before that.
    fixture.backend.delete(&ObjectName::withdrawn(ids[0])).unwrap();
    let (backend, order) = Order::of(Arc::new(fixture.backend.clone()));
    let again = fixture.over(backend).retag(&[ids[0]], &change(None, &["a"], &[]), &Silent).unwrap();
    assert_eq!(again[0].after, done[0].after);
    let goes = order.at(Operation::Finish, ObjectName::withdrawn(ids[0]));
    for name in [ObjectName::snapshot(done[0].after), ObjectName::closed(session)] {
        assert!(order.at(Operation::MakeDurable, name) < goes, "{name}");
    }
}

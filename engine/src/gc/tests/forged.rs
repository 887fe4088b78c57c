//! What a thief of a backup credential stores under names and identities that his machine used before: it takes the place of nothing.

use super::fixture::{Fixture, NOW, backup_state, client_with};
use super::{all, gc, gc_all};
use crate::backend::testing::{HookedBackend, Operation};
use crate::backend::{Backend, BackendExt, ObjectKind, ObjectName};
use crate::error::ErrorKind;
use crate::format::index_object::IndexBody;
use crate::format::session::{ClosedBody, SessionKind, SessionRecord};
use crate::format::{FrameRecord, Roles};
use crate::id::{IndexId, PackId, SnapshotId};
use crate::progress::Silent;
use crate::repair::RepairOptions;
use crate::repository::{PackObject, Repository, Session};
use crate::runtime::{Entropy, SeededEntropy};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Gives this nonce first, then other bytes.
#[derive(Debug)]
struct SameNonce([u8; 32], AtomicBool, SeededEntropy);

impl Entropy for SameNonce {
    fn fill(&self, bytes: &mut [u8]) {
        match self.1.swap(true, Ordering::SeqCst) {
            false => bytes.copy_from_slice(&self.0),
            true => self.2.fill(bytes),
        }
    }
}

/// Another record with the same id, by whoever has the key that signed the first.
fn other_record(client: &Repository, record: &SessionRecord) -> SessionRecord {
    let nonce = record.bytes()[16..48].try_into().unwrap();
    let entropy = SameNonce(nonce, AtomicBool::new(false), SeededEntropy::new(99));
    let restore_key = client.config.restore_keys.last().unwrap();
    let made = SessionRecord::create(&client.credential.author, record.kind(), record.structure_epoch(), restore_key, &entropy);
    let (other, _) = made.unwrap();
    assert!(other.id() == record.id() && other != *record);
    other
}

/// For each pack one more, whose name comes before all others, that says that it has the same frames with the same chunks, and has rubbish.
fn forge(client: &Repository, packs: &[ObjectName], with_other_records: bool) {
    for (number, name) in (0..).zip(packs) {
        let tail = client.read_pack_tail(name, client.backend.size(name).unwrap()).unwrap();
        let mut low = [0; 16];
        low[15] = number;
        let mut pack = PackObject::create(&*client.backend, client.header(ObjectName::pack(name.kind(), PackId(low)))).unwrap();
        let rubbish = [number; 18];
        for frame in tail.tables.contents.frames {
            pack.push(FrameRecord { sealed_length: 18, hash: *blake3::hash(&rubbish).as_bytes(), ..frame }, &rubbish).unwrap();
        }
        let mut sessions = tail.tables.sessions;
        if with_other_records {
            sessions.iter_mut().for_each(|record| *record = other_record(client, record));
        }
        pack.finish(&client.credential.author, client.structure_key().unwrap(), sessions, None).unwrap();
    }
}

/// Days that the client itself has backed up.
fn with_days_of_a_client(days: u64) -> (Fixture, Repository) {
    let mut fixture = Fixture::empty();
    let client = client_with(&fixture.repository, Roles::BACKUP, 60);
    for day in 0..days {
        let id = backup_state(&client, "daily", day).unwrap();
        fixture.keep(id, day);
    }
    (fixture, client)
}

#[test]
fn rubbish_under_the_identity_of_frames_replaces_none() {
    for with_other_records in [false, true] {
        let (mut fixture, client) = with_days_of_a_client(4);
        forge(&client, &fixture.packs(), with_other_records);
        fixture.assert_contents(&fixture);
        fixture.forget(0);
        // The last one finds nothing left to do.
        for seed in 40..44 {
            gc_all(&fixture.other_handle(seed));
            fixture.assert_contents(&fixture);
        }
        assert!(fixture.repository.gc_plan(&all(), &Silent).unwrap().is_empty());
    }
}

/// An index object says that packs of others hold what his own holds (decision 0026).
#[test]
fn index_objects_of_who_may_not_maintain_are_not_believed_over_packs() {
    // Who may maintain is believed, which shows that the lie is there to be believed.
    for (roles, is_believed) in [(Roles::BACKUP, false), (Roles::BACKUP.and(Roles::MAINTAIN), true)] {
        let fixture = Fixture::with_states(0..3);
        let (thief, others) = (client_with(&fixture.repository, roles, 60), fixture.packs());
        backup_state(&thief, "rubbish", 9).unwrap();
        let own = fixture.packs().into_iter().find(|name| name.kind() == ObjectKind::DataPack && !others.contains(name)).unwrap();
        let tables = thief.read_pack_tail(&own, fixture.backend.size(&own).unwrap()).unwrap().tables;
        let theirs = others.iter().filter(|name| name.kind() == ObjectKind::DataPack);
        let packs = theirs.map(|name| (name.kind(), name.pack_id().unwrap(), tables.contents.clone())).collect();
        let lie = ObjectName::index(IndexId([1; 16]));
        thief.write_sealed(lie, IndexBody { sessions: tables.sessions, packs }.encode()).unwrap();
        let owner = fixture.other_handle(40);
        let mut out = Vec::new();
        let snapshot = owner.find_snapshot(&fixture.kept[0].id.to_string(), None, None).unwrap();
        let restored = owner.restore_to_writer(&snapshot, None, &mut out, &Silent);
        assert_eq!(restored.is_ok() && out == fixture.kept[0].content, !is_believed, "{restored:?}");
        let report = fixture.other_handle(41).check(&Silent).unwrap();
        assert!(report.findings.iter().any(|finding| finding.object == Some(lie)), "{:#?}", report.findings);
        if !is_believed {
            assert!(report.hurt.is_empty(), "{:?}", report.hurt);
            gc_all(&fixture.other_handle(42));
            fixture.assert_contents(&fixture);
        }
    }
}

/// Stored after the good frames were condemned, and before they were copied.
#[test]
fn rubbish_does_not_keep_what_is_condemned_from_being_rescued() {
    let (mut fixture, client) = with_days_of_a_client(3);
    let packs = fixture.packs();
    let objects = fixture.objects();
    fixture.forget(0);
    gc_all(&fixture.repository);
    // What was copied is lost, and what is condemned is still there.
    for pack in fixture.packs().iter().filter(|pack| !packs.contains(pack)) {
        fixture.backend.delete(pack).unwrap();
    }
    let gone: Vec<_> = packs.iter().filter(|pack| fixture.backend.size(pack).is_err()).copied().collect();
    assert!(!gone.is_empty());
    gone.iter().for_each(|pack| fixture.backend.put(pack, &objects[pack]).unwrap());
    forge(&client, &gone, false);
    gc_all(&fixture.other_handle(40));
    fixture.assert_contents(&fixture);
}

/// A mover, or a scrub that heals, was slower than the sweep.
#[test]
fn a_condemned_pack_that_comes_back_stands_for_nothing() {
    let mut fixture = Fixture::with_states(0..4);
    let before = fixture.objects();
    fixture.forget(0);
    assert!(gc_all(&fixture.repository).written.packs > 0);
    let swept: Vec<_> = before.into_iter().filter(|(name, _)| name.kind().is_pack() && fixture.backend.size(name).is_err()).collect();
    let (backend, lists) = (fixture.backend.clone(), AtomicU64::new(0));
    // Snapshots are listed after packs, and packs once more.
    let returning = HookedBackend::new(Arc::new(fixture.backend.clone()), move |call| {
        let lists_snapshots = call.operation == Operation::List && call.kind == ObjectKind::Snapshot && !call.is_done;
        if lists_snapshots && lists.fetch_add(1, Ordering::SeqCst) == 1 {
            swept.iter().for_each(|(name, bytes)| backend.put(name, bytes).unwrap());
        }
        Ok(())
    });
    gc_all(&fixture.handle_through(Arc::new(returning), 40));
    gc_all(&fixture.other_handle(41));
    fixture.assert_whole();
}

#[test]
fn an_empty_end_by_somebody_else_can_be_removed_and_the_snapshot_counts() {
    let (fixture, client) = with_days_of_a_client(2);
    let last = fixture.kept[1].id;
    let session = client.read_snapshot_header(last).unwrap().record.id();
    fixture.backend.delete(&ObjectName::closed(session)).unwrap();
    let thief = client_with(&fixture.repository, Roles::BACKUP, 61);
    let body = ClosedBody { finished: false, now: NOW, snapshots: Vec::new() };
    thief.write_sealed(ObjectName::closed(session), body.encode()).unwrap();
    gc(&fixture.repository);
    let owner = fixture.other_handle(40);
    let plan = owner.repair_plan(&RepairOptions::default(), &Silent).unwrap();
    assert!(plan.obstacles.iter().any(|obstacle| obstacle.object == ObjectName::closed(session)), "{plan:?}");
    owner.repair(&RepairOptions::default(), &Silent).unwrap();
    gc(&fixture.other_handle(41));
    fixture.assert_whole();
}

/// He says at the end of his session that he made what nobody has seen.
#[test]
fn a_ghost_snapshot_stands_in_the_way_of_latest_until_it_is_forgotten() {
    let fixture = Fixture::with_states(0..2);
    let thief = client_with(&fixture.repository, Roles::BACKUP, 60);
    let ghost = SnapshotId([9; 16]);
    Session::begin(&thief, SessionKind::Writer).unwrap().close(true, vec![ghost]).unwrap();
    let owner = fixture.other_handle(40);
    for series in [None, Some("daily")] {
        let error = owner.find_snapshot("latest", series, None).unwrap_err();
        assert!(error.kind() == ErrorKind::Damaged && error.to_string().contains(&ghost.to_string()), "{error}");
    }
    assert_eq!(owner.gc(&all(), &Silent).unwrap_err().kind(), ErrorKind::Damaged);
    // All others can be had by their ids meanwhile.
    for kept in &fixture.kept {
        let mut out = Vec::new();
        let snapshot = owner.find_snapshot(&kept.id.to_string(), None, None).unwrap();
        owner.restore_to_writer(&snapshot, None, &mut out, &Silent).unwrap();
        assert!(out == kept.content);
    }
    owner.forget(&[ghost], &Silent).unwrap();
    assert_eq!(fixture.other_handle(41).find_snapshot("latest", None, None).unwrap().id, fixture.kept[1].id);
    gc_all(&fixture.other_handle(42));
    fixture.assert_whole();
}

#[test]
fn what_is_needed_and_damaged_is_told() {
    let mut fixture = Fixture::with_states(0..4);
    fixture.forget(0);
    let plan = fixture.repository.gc_plan(&all(), &Silent).unwrap();
    assert!(plan.sparse.packs > 0);
    // Of all data packs the frames regions, so that whatever is copied meets it.
    for pack in fixture.packs().into_iter().filter(|pack| pack.kind() == ObjectKind::DataPack) {
        fixture.change(&pack, |bytes| bytes[64..200].fill(0));
    }
    let summary = gc_all(&fixture.repository);
    assert!(!summary.damaged.is_empty() && summary.plan.unreadable.is_empty(), "{summary:?}");
}

//! Replicas of small repositories in memory: what travels, what an interruption leaves, what damage does, and what comes back.

use super::*;
use crate::backend::testing::{FaultyBackend, HookedBackend, Operation, Order, RecordingBackend};
use crate::backend::{Backend, BackendExt, MemoryBackend, ObjectKind, ObjectName};
use crate::backup::BackupOptions;
use crate::backup::put_snapshot;
use crate::format::session::ClosedBody;
use crate::format::snapshot::SnapshotHeader;
use crate::gc::GcOptions;
use crate::gc::tests::fixture::{Fixture, Interrupter, Kept, NOW, backup_state, client_with};
use crate::id::SlotId;
use crate::progress::Silent;
use crate::repair::RepairOptions;
use crate::repository::{HoldState, Replica, Settings, Snapshot};
use crate::retention::{Civil, Policy, SnapshotFilter};
use crate::runtime::{Runtime, Timestamp};
use proptest::prelude::*;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn all() -> ReplicateOptions {
    ReplicateOptions::default()
}

fn replicate(from: &Fixture, to: &Fixture) -> ReplicateSummary {
    let summary = from.repository.replicate(&to.repository, &all(), &Silent).unwrap();
    assert!(!summary.has_damage(), "{summary:?}");
    summary
}

fn gc(fixture: &Fixture) {
    fixture.repository.gc(&GcOptions { dead_percent_max: 0 }, &Silent).unwrap();
}

/// A replica that has all, and what the first run did.
fn replicated(fixture: &Fixture) -> (Fixture, ReplicateSummary) {
    let mut replica = fixture.replica(101);
    let summary = replicate(fixture, &replica);
    replica.keep_as(fixture);
    (replica, summary)
}

/// Expects of the replica also what arrived.
fn keep_new(replica: &mut Fixture, fixture: &Fixture, summary: &ReplicateSummary) {
    for id in &summary.snapshots {
        let day = fixture.kept.iter().find(|kept| kept.id == *id).and_then(Kept::day).unwrap();
        if !replica.kept.iter().any(|kept| kept.id == *id) {
            replica.keep(*id, day);
        }
    }
}

#[test]
fn a_replica_has_every_snapshot_and_a_second_run_writes_nothing() {
    let fixture = Fixture::with_states(0..3);
    let before = fixture.pack_bytes();
    let planned = {
        let replica = fixture.replica(100);
        let plan = fixture.repository.replicate(&replica.repository, &ReplicateOptions { dry_run: true, ..all() }, &Silent).unwrap();
        assert!(replica.packs().is_empty() && replica.backend.list_sorted(ObjectKind::Session).unwrap().is_empty());
        plan
    };
    let (replica, summary) = replicated(&fixture);
    assert_eq!((summary.snapshots.len(), summary.snapshots_present), (3, 0));
    assert_eq!((summary.bytes_planned, &summary.snapshots), (planned.bytes_planned, &planned.snapshots));
    assert!(planned.bytes_planned < before && planned.frames_planned > 0);
    replica.assert_whole();
    let objects = replica.objects();
    let again = replicate(&fixture, &replica);
    assert_eq!((again.bytes_planned, again.bytes_sent, again.snapshots_present), (0, 0, 3));
    assert!(again.snapshots.is_empty());
    assert_eq!(replica.objects(), objects);
    fixture.assert_whole();
    // What is backed up to the replica itself finds its chunks there.
    let stored = fixture.repository.gc_plan(&GcOptions::default(), &Silent).unwrap();
    assert!(stored.is_empty(), "{stored:?}");
}

#[test]
fn maintain_replicates_without_reading_and_backup_only_what_is_its_own() {
    let fixture = Fixture::with_states(0..2);
    let mut replica = fixture.replica(102);
    let thin = |of: &Fixture, roles, seed| client_with(&of.repository, roles, seed);
    let other = thin(&replica, Roles::BACKUP, 61);
    let refused = thin(&fixture, Roles::MAINTAIN, 62).replicate(&other, &all(), &Silent).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthorized);
    assert!(replica.packs().is_empty() && replica.backend.list_sorted(ObjectKind::Snapshot).unwrap().is_empty());
    let maintainer = thin(&fixture, Roles::MAINTAIN, 63);
    assert!(maintainer.credential.restore_keys.is_empty() && maintainer.credential.chunk_id_key.is_none());
    let summary = maintainer.replicate(&thin(&replica, Roles::MAINTAIN, 64), &all(), &Silent).unwrap();
    assert_eq!(summary.snapshots.len(), 2);
    replica.keep_as(&fixture);
    replica.assert_whole();
    let reader = thin(&replica, Roles::RESTORE, 65);
    assert_eq!(fixture.repository.replicate(&reader, &all(), &Silent).unwrap_err().kind(), ErrorKind::Unauthorized);
}

#[test]
fn only_what_is_missing_travels() {
    let mut fixture = Fixture::with_states(0..2);
    fixture.backup_stream(b"large ", 3 << 20);
    let (replica, _) = replicated(&fixture);
    let before = fixture.objects();
    fixture.backup_stream(b"larger ", 2 << 20);
    let stored: usize = fixture.objects().iter().filter(|(name, _)| !before.contains_key(name)).map(|(_, bytes)| bytes.len()).sum();
    let counted = Arc::new(RecordingBackend::new(Arc::new(replica.backend.clone())));
    let read = Arc::new(RecordingBackend::new(Arc::new(fixture.backend.clone())));
    let target = replica.handle_through(Arc::clone(&counted) as Arc<dyn Backend>, 103);
    let source = fixture.handle_through(Arc::clone(&read) as Arc<dyn Backend>, 104);
    counted.reset();
    let summary = source.replicate(&target, &all(), &Silent).unwrap();
    let sent = counted.count(Operation::Write).bytes;
    assert!(sent <= stored as u64 * 102 / 100, "{sent} bytes were sent for {stored} that were missing");
    assert!(summary.bytes_sent <= sent && summary.bytes_planned <= summary.bytes_sent, "{summary:?}");
    assert_eq!(summary.snapshots.len(), 1);
}

#[test]
fn chosen_snapshots_alone_travel() {
    let fixture = Fixture::with_states(0..3);
    let mut replica = fixture.replica(105);
    let chosen = fixture.kept[1].id;
    let summary = fixture.repository.replicate(&replica.repository, &ReplicateOptions::of(vec![chosen]), &Silent).unwrap();
    assert_eq!(summary.snapshots, [chosen]);
    assert!(replica.pack_bytes() < fixture.pack_bytes());
    replica.keep_as(&fixture);
    replica.kept.retain(|kept| kept.id == chosen);
    replica.assert_whole();
    let unknown = ReplicateOptions::of(vec![SnapshotId([9; 16])]);
    assert_eq!(fixture.repository.replicate(&replica.repository, &unknown, &Silent).unwrap_err().kind(), ErrorKind::NotFound);
    replicate(&fixture, &replica);
    replica.keep_as(&fixture);
    replica.assert_whole();
}

#[test]
fn a_run_that_was_cut_off_anywhere_goes_on_with_what_arrived() {
    let fixture = Fixture::with_states(0..3);
    let whole = replicated(&fixture).1;
    for operation in [Operation::Finish, Operation::Write] {
        for nth in (1..).step_by(if operation == Operation::Finish { 1 } else { 17 }) {
            let mut replica = fixture.replica(106);
            let faulty = Arc::new(FaultyBackend::new(Arc::new(replica.backend.clone()), 1));
            let target = replica.handle_through(Arc::clone(&faulty) as Arc<dyn Backend>, 107 + nth);
            if nth % 2 == 0 {
                faulty.lose_answer(operation, nth)
            } else {
                faulty.fail(operation, nth)
            }
            let cut_off = fixture.repository.replicate(&target, &all(), &Silent);
            let arrived: u64 = replica.packs().iter().map(|name| replica.backend.size(name).unwrap()).sum();
            // Nobody sees half a snapshot.
            let report = replica.repository.check(&Silent).unwrap();
            assert!(cut_off.is_err() || report.findings.is_empty(), "{nth}: {:#?}", report.findings);
            faulty.heal();
            let rest = fixture.repository.replicate(&replica.other_handle(5000 + nth), &all(), &Silent).unwrap();
            assert!(rest.bytes_planned + arrived * 9 / 10 <= whole.bytes_planned.max(arrived), "{nth}: {rest:?} after {arrived}");
            replica.keep_as(&fixture);
            replica.assert_whole();
            if cut_off.is_ok() {
                break;
            }
        }
    }
}

#[test]
fn an_interruption_leaves_both_whole() {
    let fixture = Fixture::with_states(0..2);
    let mut replica = fixture.replica(108);
    for questions in (0..).step_by(9) {
        match fixture.repository.replicate(&replica.repository, &all(), &Interrupter::after(questions)) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled),
            Ok(_) => break,
        }
        replica.assert_whole();
        fixture.assert_whole();
    }
    replica.keep_as(&fixture);
    replica.assert_whole();
}

#[test]
fn what_was_remade_and_what_leads_there_goes_along() {
    let fixture = Fixture::scattered();
    gc(&fixture);
    assert!(!fixture.relocations().is_empty());
    let (replica, summary) = replicated(&fixture);
    assert_eq!(summary.snapshots.len(), 2);
    assert_eq!(replica.relocations(), fixture.relocations());
    replica.assert_whole();
    gc(&replica);
    gc(&fixture);
    assert_eq!(replicate(&fixture, &replica).bytes_sent, 0);
    replica.assert_whole();
}

#[test]
fn forgetting_stays_where_it_was_done() {
    let mut fixture = Fixture::with_states(0..4);
    let (mut replica, _) = replicated(&fixture);
    fixture.forget(0);
    replica.forget(1);
    gc(&fixture);
    gc(&fixture);
    let summary = replicate(&fixture, &replica);
    assert_eq!((summary.bytes_sent, summary.snapshots_forgotten.len()), (0, 1));
    replica.assert_whole();
    // When nothing is left of it but the epoch that names it, it is still not brought back.
    gc(&replica);
    gc(&replica);
    assert!(replica.backend.list_sorted(ObjectKind::Withdrawn).unwrap().is_empty());
    let summary = replicate(&fixture, &replica);
    assert_eq!((summary.bytes_sent, summary.snapshots_forgotten.len()), (0, 1));
    assert_eq!(replica.repository.snapshots().unwrap().len(), 3);
    replica.assert_whole();
    fixture.assert_whole();
}

#[test]
fn damage_at_the_source_is_named_and_does_not_spread() {
    let fixture = Fixture::with_states(0..1);
    let mut replica = fixture.replica(109);
    let good = fixture.packs();
    let mut fixture = fixture;
    fixture.backup_stream(b"a stream of its own ", 90_000);
    let damaged = *fixture.packs().iter().find(|name| !good.contains(name) && name.kind() == ObjectKind::DataPack).unwrap();
    fixture.change(&damaged, |bytes| bytes[100] ^= 1);
    let summary = fixture.repository.replicate(&replica.repository, &all(), &Silent).unwrap();
    assert_eq!((summary.packs_damaged.as_slice(), summary.snapshots.len()), ([damaged].as_slice(), 1), "{summary:?}");
    assert_eq!(summary.snapshots_damaged.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [fixture.kept[1].id]);
    replica.keep_as(&fixture);
    replica.kept.truncate(1);
    replica.assert_whole();
    // A pack that is gone, and a snapshot that cannot be read.
    fixture.backend.delete(&damaged).unwrap();
    fixture.change(&ObjectName::snapshot(fixture.kept[0].id), |bytes| bytes[80] ^= 1);
    let summary = fixture.repository.replicate(&replica.repository, &all(), &Silent).unwrap();
    assert_eq!((summary.snapshots_damaged.len(), summary.snapshots.len()), (2, 0), "{summary:?}");
    replica.assert_whole();
}

#[test]
fn what_the_target_lost_is_brought_again() {
    let fixture = Fixture::with_states(0..3);
    let (replica, first) = replicated(&fixture);
    let packs = replica.packs();
    replica.backend.delete(&packs[0]).unwrap();
    replica.backend.delete(&packs[packs.len() - 1]).unwrap();
    let objects = replica.take_away(replica.kept[2].id);
    let summary = replicate(&fixture, &replica);
    assert!(summary.bytes_planned > 0 && summary.bytes_planned < first.bytes_planned, "{summary:?}");
    replica.assert_whole();
    // An object that is there and damaged gets its own bytes back.
    replica.change(&objects[0].0, |bytes| bytes[70] ^= 1);
    replicate(&fixture, &replica);
    assert_eq!(replica.backend.get(&objects[0].0, u64::MAX).unwrap(), objects[0].1);
}

#[test]
fn a_repository_is_healed_by_its_replica() {
    let fixture = Fixture::with_states(0..3);
    let (replica, _) = replicated(&fixture);
    let packs = fixture.packs();
    let data: Vec<_> = packs.iter().filter(|name| name.kind() == ObjectKind::DataPack).collect();
    fixture.change(data[0], |bytes| bytes[64..4000].fill(7));
    fixture.backend.delete(data[1]).unwrap();
    fixture.backend.delete(packs.last().unwrap()).unwrap();
    fixture.change(&ObjectName::snapshot(fixture.kept[0].id), |bytes| bytes[90] ^= 4);
    fixture.backend.delete(&ObjectName::snapshot(fixture.kept[1].id)).unwrap();
    fixture.repository.repair(&RepairOptions::default(), &Silent).unwrap();
    let plan = fixture.repository.bring_back(&replica.repository, &[*data[0]], true, &Silent).unwrap();
    let summary = fixture.repository.bring_back(&replica.repository, &[*data[0]], false, &Silent).unwrap();
    assert_eq!((plan.bytes_planned, summary.snapshots.len()), (summary.bytes_planned, 3));
    gc(&fixture);
    fixture.assert_whole();
    assert_eq!(fixture.repository.bring_back(&replica.repository, &[*data[0]], false, &Silent).unwrap().bytes_sent, 0);
    // What was forgotten here stays so.
    let mut fixture = fixture;
    fixture.forget(1);
    fixture.repository.bring_back(&replica.repository, &[*data[0]], false, &Silent).unwrap();
    fixture.assert_whole();
}

#[test]
fn a_replica_follows_its_keys_and_nobody_elses() {
    let mut source = Fixture::with_states(0..1);
    let (mut replica, _) = replicated(&source);
    let backend: Arc<dyn Backend> = Arc::new(replica.backend.clone());
    for name in [ObjectName::config(2), ObjectName::slot(SlotId([9; 16]), 1)] {
        source.backend.put(&name, b"rubbish of somebody else").unwrap();
    }
    assert_eq!(source.repository.replica_in(&*backend).unwrap(), Replica::Current);
    source.repository.rotate(&source.repository.plan_rotation(None).unwrap()).unwrap();
    let newer = source.other_handle(110);
    assert_eq!(newer.replica_in(&*backend).unwrap(), Replica::Behind);
    newer.make_replica(&backend).unwrap();
    assert_eq!(newer.replica_in(&*backend).unwrap(), Replica::Current);
    // The handle that was opened before must not go on with the old keys.
    assert_eq!(newer.replicate(&replica.repository, &all(), &Silent).unwrap_err().kind(), ErrorKind::Busy);
    source.repository = newer;
    source.backup(1);
    replica.repository = replica.other_handle(111);
    replicate(&source, &replica);
    replica.keep_as(&source);
    replica.assert_whole();
    // Both changed by themselves.
    source.repository.rotate(&source.repository.plan_rotation(None).unwrap()).unwrap();
    replica.repository.rotate(&replica.repository.plan_rotation(None).unwrap()).unwrap();
    assert_eq!(source.repository.replica_in(&*backend).unwrap_err().kind(), ErrorKind::Damaged);
    let nothing: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    assert_eq!(source.repository.replica_in(&*nothing).unwrap(), Replica::Nothing);
    let key = crate::repository::Key::KeyFile(crate::crypto::Secret::new([6; 32]));
    let runtime = crate::runtime::Runtime::seeded(115, crate::runtime::Timestamp::default(), 1);
    let settings = crate::repository::Settings::default();
    let other = Repository::create(Arc::clone(&nothing), runtime, &key, &crate::repository::CreateOptions::default(), settings).unwrap();
    assert_eq!(source.repository.replica_in(&*nothing).unwrap(), Replica::Other);
    assert_eq!(source.repository.make_replica(&nothing).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(source.repository.bring_back(&other, &[], false, &Silent).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn garbage_collections_at_both_ends_take_nothing_away() {
    for kind in [ObjectKind::DataPack, ObjectKind::Snapshot, ObjectKind::Closed] {
        for is_done in [false, true] {
            let mut fixture = Fixture::with_states(0..4);
            let (mut replica, _) = replicated(&fixture);
            fixture.backup(4);
            fixture.backup(5);
            fixture.forget(1);
            replica.forget(0);
            let (collector, at_source) = (replica.other_handle(112), fixture.other_handle(113));
            let has_run = AtomicBool::new(false);
            let hooked = HookedBackend::new(Arc::new(replica.backend.clone()), move |call| {
                if call.operation == Operation::Finish
                    && call.kind == kind
                    && call.is_done == is_done
                    && !has_run.swap(true, Ordering::SeqCst)
                {
                    collector.gc(&GcOptions { dead_percent_max: 0 }, &Silent)?;
                    at_source.gc(&GcOptions { dead_percent_max: 0 }, &Silent)?;
                }
                Ok(())
            });
            let target = replica.handle_through(Arc::new(hooked), 114);
            let summary = fixture.repository.replicate(&target, &all(), &Silent).unwrap();
            assert_eq!(summary.snapshots.len(), 2);
            keep_new(&mut replica, &fixture, &summary);
            replica.assert_whole();
            gc(&replica);
            gc(&fixture);
            assert_eq!(replica.repository.snapshots().unwrap().len(), 5);
            replica.assert_whole();
            fixture.assert_whole();
        }
    }
}

#[test]
fn with_other_keys_content_is_stored_anew_and_only_what_is_new() {
    let mut fixture = Fixture::with_states(0..3);
    fixture.backup_stream(b"with a recipe ", 200_000);
    let cache = tempfile::tempdir().unwrap();
    let mut there = Fixture::other(7);
    there.reopen(crate::repository::Settings::default().with_cache(cache.path()).with_place("there"), 70);
    assert_ne!(there.repository.id(), fixture.repository.id());
    let plan = fixture.repository.replicate(&there.repository, &ReplicateOptions { dry_run: true, ..all() }, &Silent).unwrap();
    assert!(there.packs().is_empty() && plan.resealed && plan.snapshots.len() == 4);
    let first = replicate(&fixture, &there);
    assert_eq!((first.snapshots.len(), first.bytes_planned), (4, plan.bytes_planned));
    let names = |of: &Fixture| {
        let described = |snapshot: &Snapshot| {
            (snapshot.header.time, snapshot.header.source_kind, snapshot.header.entries, snapshot.body.series.clone())
        };
        of.repository.snapshots().unwrap().iter().map(described).collect::<Vec<_>>()
    };
    let sorted = |of: &Fixture| {
        let mut names = names(of);
        names.sort_by_key(|(.., series)| series.clone());
        names
    };
    assert_eq!(sorted(&there), sorted(&fixture));
    there.assert_contents(&fixture);
    // It deduplicates as if it had been backed up there: the three days have most in common.
    assert!(there.pack_bytes() < fixture.pack_bytes() * 105 / 100, "{} for {}", there.pack_bytes(), fixture.pack_bytes());
    let content = Box::new(std::io::Cursor::new(fixture.kept[1].content.clone()));
    let stored = there.repository.backup_stream("state", content, &crate::backup::BackupOptions::new("x"), &Silent).unwrap();
    assert_eq!(stored.bytes_unique, 0, "a backup there finds all that was copied");
    let again = replicate(&fixture, &there);
    assert_eq!((again.snapshots_present, again.bytes_planned, again.bytes_sent), (4, 0, 0));
    // What did not change is not read again.
    let day_alone = |fixture: &mut Fixture| {
        let id = backup_state(&fixture.repository, "alone", 2).unwrap();
        fixture.keep(id, 2);
    };
    day_alone(&mut fixture);
    replicate(&fixture, &there);
    day_alone(&mut fixture);
    let again_without =
        fixture.repository.replicate(&there.other_handle(71), &ReplicateOptions { dry_run: true, ..all() }, &Silent).unwrap();
    assert_eq!(again_without.snapshots.len(), 1);
    let next = replicate(&fixture, &there);
    assert_eq!((next.snapshots.len(), next.bytes_planned), (1, 0), "{next:?}");
    there.assert_contents(&fixture);
    assert!(there.repository.scrub(&Silent).unwrap().findings.is_empty());
}

#[test]
fn with_other_keys_damage_and_forgetting_stay_where_they_are() {
    let mut fixture = Fixture::with_states(0..1);
    let good = fixture.packs();
    fixture.backup_stream(b"apart ", 60_000);
    let damaged = *fixture.packs().iter().find(|name| !good.contains(name) && name.kind() == ObjectKind::DataPack).unwrap();
    fixture.change(&damaged, |bytes| bytes[100] ^= 1);
    let there = Fixture::other(8);
    let summary = fixture.repository.replicate(&there.repository, &all(), &Silent).unwrap();
    assert_eq!((summary.snapshots.len(), summary.snapshots_damaged.len()), (1, 1), "{summary:?}");
    let copied = there.repository.snapshots().unwrap()[0].id;
    there.repository.forget(&[copied], &Silent).unwrap();
    let summary = fixture.repository.replicate(&there.repository, &all(), &Silent).unwrap();
    assert_eq!((summary.snapshots.len(), summary.snapshots_forgotten.len()), (0, 1), "{summary:?}");
    let thin = client_with(&there.repository, Roles::MAINTAIN, 66);
    assert_eq!(fixture.repository.replicate(&thin, &all(), &Silent).unwrap_err().kind(), ErrorKind::Unauthorized);
    let thin = client_with(&fixture.repository, Roles::MAINTAIN, 67);
    assert_eq!(thin.replicate(&there.repository, &all(), &Silent).unwrap_err().kind(), ErrorKind::Unauthorized);
}

#[test]
fn with_other_keys_a_run_that_was_cut_off_goes_on() {
    let fixture = Fixture::with_states(0..2);
    for nth in [1, 3, 4, 7, 9, 11, 14] {
        let there = Fixture::other(9);
        let faulty = Arc::new(FaultyBackend::new(Arc::new(there.backend.clone()), 1));
        faulty.fail(Operation::Finish, nth);
        let target = there.handle_through(faulty, 130 + nth);
        assert!(fixture.repository.replicate(&target, &all(), &Silent).is_err());
        drop(target);
        replicate(&fixture, &there);
        assert_eq!(there.repository.snapshots().unwrap().len(), 2);
        there.assert_contents(&fixture);
        assert_eq!(replicate(&fixture, &there).bytes_sent, 0);
    }
}

#[test]
fn holds_go_along_and_so_do_releases() {
    let fixture = Fixture::with_states(0..3);
    let mut replica = fixture.replica(150);
    let ids: Vec<_> = fixture.kept.iter().map(|kept| kept.id).collect();
    let hold = fixture.repository.hold(&ids[..2], "case 7").unwrap();
    let some = ReplicateOptions::of(vec![ids[0], ids[2]]);
    for _ in 0..2 {
        fixture.repository.replicate(&replica.repository, &some, &Silent).unwrap();
        // What it holds and is not here must not look as if it had been taken away.
        assert!(replica.repository.check(&Silent).unwrap().findings.is_empty());
        let holds = replica.repository.holds().unwrap().0;
        assert_eq!(holds.iter().map(|hold| hold.snapshots.as_slice()).collect::<Vec<_>>(), [&ids[..1]]);
    }
    let refused = replica.repository.forget(&ids[..1], &Silent);
    assert!(refused.is_err(), "{refused:?}");
    replicate(&fixture, &replica);
    replica.keep_as(&fixture);
    replica.assert_whole();
    assert!(replica.repository.holds().unwrap().0.iter().any(|there| there.id == hold && there.snapshots == ids[..2]));
    fixture.repository.release(hold, "closed").unwrap();
    replicate(&fixture, &replica);
    let state = |of: &Fixture| of.repository.holds().unwrap().0.into_iter().find(|there| there.id == hold).unwrap().state;
    assert_eq!((state(&fixture), state(&replica)), (HoldState::Released, HoldState::Released));
    let objects = replica.objects();
    replicate(&fixture, &replica);
    assert_eq!(replica.objects(), objects);
}

#[test]
fn one_backup_reaches_several_replicas_and_is_not_read_back() {
    let mut fixture = Fixture::with_states(0..2);
    let (mut near, _) = replicated(&fixture);
    let mut far = fixture.replica(140);
    let first = fixture.other_handle(141).mirroring([&near.repository, &far.repository]).unwrap();
    let before = fixture.pack_bytes();
    let id = backup_state(&first, "daily", 2).unwrap();
    assert!(fixture.pack_bytes() > before);
    fixture.keep(id, 2);
    // All frames are there, so none is read back.
    let summary = first.acknowledge(id, &near.repository, &Silent).unwrap();
    assert_eq!((summary.frames_planned, summary.written.packs, summary.snapshots.as_slice()), (0, 0, [id].as_slice()), "{summary:?}");
    // One that lacked what came before gets that as well, and no more than that.
    let summary = first.acknowledge(id, &far.repository, &Silent).unwrap();
    assert!(summary.bytes_planned > 0 && summary.bytes_planned < before, "{summary:?}");
    near.keep_as(&fixture);
    near.assert_whole();
    far.keep(id, 2);
    far.assert_whole();
    fixture.assert_whole();
}

#[test]
fn a_replica_that_fails_does_nothing_to_the_others_and_another_one_goes_on() {
    for operation in [Operation::Create, Operation::Write, Operation::Finish] {
        for nth in [1, 2, 3] {
            let mut fixture = Fixture::with_states(0..1);
            let (mut good, _) = replicated(&fixture);
            let bad = fixture.replica(142);
            let faulty = Arc::new(FaultyBackend::new(Arc::new(bad.backend.clone()), 1));
            let failing = bad.handle_through(Arc::clone(&faulty) as Arc<dyn Backend>, 143);
            faulty.fail(operation, nth);
            let first = fixture.other_handle(144).mirroring([&failing, &good.repository]).unwrap();
            let id = backup_state(&first, "daily", 1).unwrap();
            first.acknowledge(id, &good.repository, &Silent).unwrap();
            fixture.keep(id, 1);
            good.keep_as(&fixture);
            good.assert_whole();
            fixture.assert_whole();
            // The other way round: where the first one fails, the next one has what was mirrored.
            let faulty = Arc::new(FaultyBackend::new(Arc::new(fixture.backend.clone()), 1));
            let first = fixture.handle_through(Arc::clone(&faulty) as Arc<dyn Backend>, 145).mirroring([&good.repository]).unwrap();
            faulty.fail(Operation::Finish, 3 + nth);
            if backup_state(&first, "daily", 2).is_err() {
                let id = backup_state(&good.other_handle(146), "daily", 2).unwrap();
                good.keep(id, 2);
                good.assert_whole();
            }
            fixture.assert_whole();
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Backup,
    ForgetHere,
    ForgetThere,
    GcHere,
    GcThere,
    LosePack(u8),
    Replicate,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Backup),
        1 => Just(Step::ForgetHere),
        1 => Just(Step::ForgetThere),
        1 => Just(Step::GcHere),
        1 => Just(Step::GcThere),
        1 => any::<u8>().prop_map(Step::LosePack),
        2 => Just(Step::Replicate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happened before, after one run the replica has what the source has, and a second run does nothing.
    #[test]
    fn twice_is_once(steps in proptest::collection::vec(step(), 1..9)) {
        let mut fixture = Fixture::empty();
        let mut replica = fixture.replica(120);
        let mut day = 0;
        for step in steps {
            match step {
                Step::Backup => {
                    fixture.backup(day);
                    day += 1;
                }
                Step::ForgetHere if !fixture.kept.is_empty() => drop(fixture.repository.forget(&[fixture.kept.remove(0).id], &Silent).unwrap()),
                Step::ForgetThere if !replica.kept.is_empty() => drop(replica.repository.forget(&[replica.kept.remove(0).id], &Silent).unwrap()),
                Step::GcHere => gc(&fixture),
                // Nothing is collected where something is lost.
                Step::GcThere => drop(replica.repository.gc(&GcOptions::default(), &Silent)),
                Step::LosePack(which) => {
                    let packs = replica.packs();
                    if !packs.is_empty() && replica.kept.iter().all(|kept| fixture.kept.iter().any(|here| here.id == kept.id)) {
                        replica.backend.delete(&packs[usize::from(which) % packs.len()]).unwrap();
                    }
                }
                Step::Replicate => {
                    let summary = replicate(&fixture, &replica);
                    keep_new(&mut replica, &fixture, &summary);
                }
                _ => {}
            }
        }
        let lost_for_good = replica.repository.scrub(&Silent).unwrap().hurt.iter().any(|hurt| !fixture.kept.iter().any(|kept| kept.id == hurt.snapshot));
        prop_assume!(!lost_for_good);
        let once = replicate(&fixture, &replica);
        let objects = replica.objects();
        let twice = replicate(&fixture, &replica);
        prop_assert_eq!((twice.bytes_planned, twice.bytes_sent), (0, 0));
        prop_assert_eq!(replica.objects(), objects);
        keep_new(&mut replica, &fixture, &once);
        replica.assert_whole();
        fixture.assert_whole();
    }
}

#[test]
fn what_is_there_already_is_made_durable() {
    let fixture = Fixture::with_states(0..2);
    let (replica, _) = replicated(&fixture);
    let (backend, order) = Order::of(Arc::new(replica.backend.clone()));
    let summary = fixture.repository.replicate(&replica.handle_through(backend, 40), &all(), &Silent).unwrap();
    assert_eq!((summary.snapshots.len(), summary.snapshots_present), (0, 2));
    for kept in &fixture.kept {
        let session = fixture.repository.read_snapshot_header(kept.id).unwrap().record.id();
        order.at(Operation::MakeDurable, ObjectName::snapshot(kept.id));
        order.at(Operation::MakeDurable, ObjectName::closed(session));
    }
}

/// Whoever looks at a replica sees all that came with one run at once, whenever it was made.
#[test]
fn rules_at_a_replica_count_the_days_of_what_was_copied() {
    let fixture = Fixture::empty();
    let replica = fixture.replica(160);
    let (mine, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |day: i64, second: i64| Timestamp { seconds: (NOW.seconds / 86_400 + day) * 86_400 + second, nanoseconds: 0 };
    let seed = Cell::new(161);
    let keeper = |of: &Fixture, day: i64, folder: &tempfile::TempDir, place: &str| {
        let runtime = Runtime::seeded(seed.replace(seed.get() + 1), at(day, 50_000), 2);
        let settings = Settings::default().with_sightings(folder.path()).with_place(place);
        let (credential, config) = ((*of.repository.credential).clone(), of.repository.config.clone());
        Repository::assemble(Arc::new(of.backend.clone()), runtime, credential, config, of.repository.id, 1, settings)
    };
    let machine = client_with(&fixture.repository, Roles::BACKUP, 68);
    let back_up = |day: i64, second: i64| {
        let options = BackupOptions { time: Some(at(day, second)), ..BackupOptions::new("series") };
        machine.backup_stream("name", Box::new(&b"content"[..]), &options, &Silent).unwrap().snapshot.unwrap()
    };
    let kept = |keeper: &Repository| -> BTreeSet<SnapshotId> {
        let day = |time: Timestamp| (time.seconds / 86_400) as i32;
        let civil = |time| Civil { year: day(time), month: 1, day: 1, hour: 0, iso_week_year: 0, iso_week: 1 };
        let policy = Policy { keep_daily: 3, ..Policy::default() };
        let plan = keeper.plan_forget(&policy, &SnapshotFilter::default(), &civil).unwrap();
        plan.snapshots.iter().filter(|snapshot| snapshot.verdict.is_keep()).map(|snapshot| snapshot.id).collect()
    };
    let replicate = |day| keeper(&fixture, day, &mine, "here").replicate(&keeper(&replica, day, &mine, "there"), &all(), &Silent).unwrap();
    let good: Vec<_> = (0..6).map(|day| back_up(day, 10_000)).collect();
    keeper(&replica, 5, &others, "there").list_snapshots().unwrap();
    assert_eq!(replicate(6).snapshots.len(), 6);
    for folder in [&mine, &others] {
        assert_eq!(kept(&keeper(&replica, 7, folder, "there")), good[3..].iter().copied().collect());
    }
    // A thief at the source makes snapshots of days that were. Whoever looks there and copies knows them here as well.
    for day in 0..6 {
        back_up(day, 80_000);
    }
    assert_eq!(replicate(8).snapshots.len(), 6);
    for (of, place) in [(&fixture, "here"), (&replica, "there")] {
        assert!(good[4..].iter().all(|id| kept(&keeper(of, 8, &mine, place)).contains(id)), "{place}");
    }
}

#[test]
fn damage_of_what_says_that_snapshots_count_or_are_held_is_told() {
    let fixture = Fixture::with_states(0..3);
    let ids: Vec<_> = fixture.kept.iter().map(|kept| kept.id).collect();
    let hold = fixture.repository.hold(&ids[2..], "case 7").unwrap();
    let session = fixture.repository.read_snapshot_header(ids[0]).unwrap().record.id();
    for name in [ObjectName::closed(session), ObjectName::hold(hold)] {
        fixture.change(&name, |bytes| *bytes.last_mut().unwrap() ^= 1);
    }
    let told = |target: &Fixture, options: &ReplicateOptions| {
        let summary = fixture.repository.replicate(&target.repository, options, &Silent).unwrap();
        assert!(summary.has_damage(), "{summary:?}");
        let damaged: Vec<_> = summary.snapshots_damaged.iter().map(|(id, _)| *id).collect();
        (summary.snapshots.len(), damaged, summary.problems.len())
    };
    let one = |id| ReplicateOptions::of(vec![id]);
    for target in [fixture.replica(170), Fixture::other(9)] {
        assert_eq!(told(&target, &one(ids[0])), (0, vec![ids[0]], 1));
        assert_eq!(told(&target, &one(ids[1])), (1, vec![], 1));
        assert_eq!(told(&target, &all()), (1, vec![ids[0]], 1));
    }
    // Nobody knows which snapshots it named.
    fixture.backend.delete(&ObjectName::snapshot(ids[0])).unwrap();
    assert_eq!(told(&fixture.replica(171), &all()), (2, vec![], 2));
}

/// Two snapshots of one session, as a change of tags made them once.
fn two_of_one_session(fixture: &Fixture) -> [SnapshotId; 2] {
    let repository = &fixture.repository;
    let session = Session::begin(repository, SessionKind::Writer).unwrap();
    let ids = [SnapshotId([1; 16]), SnapshotId([2; 16])];
    for (id, kept) in ids.into_iter().zip(&fixture.kept) {
        let Snapshot { header, body, .. } = repository.find_snapshot(&kept.id.to_string(), None, None).unwrap();
        let header = SnapshotHeader { record: (**session.record()).clone(), ..header };
        put_snapshot(repository, &session, id, &header, &body).unwrap();
    }
    session.close(true, ids.to_vec()).unwrap();
    ids
}

#[test]
fn a_session_that_ended_at_the_target_without_a_snapshot_keeps_no_other_from_being_copied() {
    let mut fixture = Fixture::with_states(0..2);
    let [first, second] = two_of_one_session(&fixture);
    let name = ObjectName::snapshot(second);
    let whole = fixture.backend.get(&name, u64::MAX).unwrap();
    fixture.change(&name, |bytes| bytes[100] ^= 1);
    let replica = fixture.replica(172);
    let summary = fixture.repository.replicate(&replica.repository, &all(), &Silent).unwrap();
    assert_eq!((summary.snapshots.len(), summary.snapshots_damaged[0].0), (3, second));
    // Mended at the source; and at another replica somebody else ended it between two steps.
    fixture.change(&name, |bytes| *bytes = whole);
    fixture.backup(2);
    let newest = fixture.kept[2].id;
    let summary = fixture.repository.replicate(&replica.repository, &all(), &Silent).unwrap();
    assert_eq!((&summary.snapshots[..], summary.snapshots_damaged[0].0, summary.has_damage()), (&[newest][..], second, true));
    let raced = fixture.replica(173);
    let (other, has_run) = (raced.other_handle(174), AtomicBool::new(false));
    let session = fixture.repository.read_snapshot_header(first).unwrap().record.id();
    let hooked = HookedBackend::new(Arc::new(raced.backend.clone()), move |call| {
        if call.operation == Operation::Finish && call.kind == ObjectKind::Closed && !call.is_done && !has_run.swap(true, Ordering::SeqCst)
        {
            other.write_sealed(ObjectName::closed(session), ClosedBody { finished: true, now: NOW, snapshots: vec![first] }.encode())?;
        }
        Ok(())
    });
    let target = raced.handle_through(Arc::new(hooked), 175);
    let summary = fixture.repository.replicate(&target, &all(), &Silent).unwrap();
    assert_eq!((summary.snapshots.len(), summary.snapshots_damaged[0].0, summary.snapshots_damaged.len()), (4, second, 1));
    for target in [&replica, &raced] {
        assert!(target.repository.check(&Silent).unwrap().findings.is_empty());
        let summary = fixture.repository.replicate(&target.repository, &ReplicateOptions::of(vec![second]), &Silent).unwrap();
        assert_eq!((summary.snapshots.len(), summary.snapshots_damaged[0].0), (0, second));
    }
    // What is advised helps.
    let mut tag = crate::retention::TagChange::default();
    tag.add.push("tag".into());
    let tagged = fixture.repository.retag(&[second], &tag, &Silent).unwrap();
    assert_eq!(replicate(&fixture, &replica).snapshots, [tagged[0].after]);
}

#[test]
fn what_another_run_made_of_a_replica_is_made_durable() {
    let fixture = Fixture::with_states(0..2);
    let ids: Vec<_> = fixture.kept.iter().map(|kept| kept.id).collect();
    fixture.repository.hold(&ids, "case 7").unwrap();
    let replica = fixture.replica(176);
    let some = ReplicateOptions::of(ids[..1].to_vec());
    fixture.repository.replicate(&replica.repository, &some, &Silent).unwrap();
    let (backend, order) = Order::of(Arc::new(replica.backend.clone()));
    fixture.repository.make_replica(&backend).unwrap();
    fixture.repository.replicate(&replica.handle_through(backend, 177), &some, &Silent).unwrap();
    for kind in [ObjectKind::Slot, ObjectKind::Config, ObjectKind::Hold] {
        for object in replica.backend.list_sorted(kind).unwrap() {
            order.at(Operation::MakeDurable, object.name);
        }
    }
}

//! Repositories in memory, damaged in every way, and what repair makes of them.

mod caches;
mod salvaging;
mod sectors;

use super::*;
use crate::backend::{Backend, BackendExt, MemoryBackend, ObjectKind, ObjectName};
use crate::backup::{BackupOptions, BackupSummary};
use crate::crypto::{PassphraseCost, Secret, Signer};
use crate::format::Certificate;
use crate::format::config::CutMethod;
use crate::format::index_object::IndexBody;
use crate::format::object::Author;
use crate::format::session::{TombstoneBody, WithdrawnBody, WithdrawnReason};
use crate::gc::GcOptions;
use crate::id::{DomainId, SessionId, SnapshotId};
use crate::progress::{Event, Silent};
use crate::repository::{CreateOptions, Key, Settings};
use crate::restore::RestoreOptions;
use crate::runtime::{Runtime, Timestamp};
use crate::source::{Roots, SourceOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanoseconds: 0 };

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn salvaging() -> RepairOptions {
    RepairOptions { salvage: true, ..RepairOptions::default() }
}

struct Fixture {
    backend: MemoryBackend,
    repository: Repository,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn empty() -> Self {
        let options = CreateOptions {
            pack_size: 64 << 10,
            data_frame_size: 16 << 10,
            meta_frame_size: 4 << 10,
            cut: CutMethod::Content { min: 512, average: 1024, max: 4096 },
            passphrase_cost: PassphraseCost::TEST,
            parity_percent: 0,
        };
        let backend = MemoryBackend::new();
        let key = Key::KeyFile(Secret::new([5; 32]));
        let runtime = Runtime::seeded(21, NOW, 2);
        let repository = Repository::create(Arc::new(backend.clone()), runtime, &key, &options, Settings::default()).unwrap();
        Self { backend, repository, folder: tempfile::tempdir().unwrap() }
    }

    /// Two snapshots of a folder. The first is of enough packs for an index object.
    fn with_snapshots() -> Self {
        let fixture = Self::empty();
        (0..40).for_each(|n| fixture.write(&format!("d{}/f{n}", n % 3), n));
        fixture.backup();
        (40..44).for_each(|n| fixture.write(&format!("d1/new{n}"), n));
        fixture.backup();
        assert!(!fixture.listed(ObjectKind::Index).is_empty());
        fixture
    }

    fn write(&self, name: &str, seed: u64) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, noise(seed, 9000 + 1000 * (seed as usize % 7))).unwrap();
    }

    fn backup(&self) -> BackupSummary {
        let roots = Roots::resolve(&[self.folder.path().join(".")]).unwrap();
        self.repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("tests"), &Silent).unwrap()
    }

    fn listed(&self, kind: ObjectKind) -> Vec<ObjectName> {
        self.backend.list_sorted(kind).unwrap().into_iter().map(|object| object.name).collect()
    }

    fn objects(&self) -> BTreeMap<ObjectName, Vec<u8>> {
        let names = ObjectKind::ALL.into_iter().flat_map(|kind| self.listed(kind));
        names.map(|name| (name, self.backend.get(&name, u64::MAX).unwrap())).collect()
    }

    fn set(&self, name: &ObjectName, bytes: Option<&[u8]>) {
        let _ = self.backend.delete(name);
        bytes.into_iter().for_each(|bytes| self.backend.put(name, bytes).unwrap());
    }

    /// Everything as it was in `objects`.
    fn reset(&self, objects: &BTreeMap<ObjectName, Vec<u8>>) {
        self.objects().keys().for_each(|name| self.set(name, None));
        objects.iter().for_each(|(name, bytes)| self.set(name, Some(bytes)));
    }

    fn flip(&self, name: &ObjectName, at: usize) {
        let mut bytes = self.backend.get(name, u64::MAX).unwrap();
        bytes[at] ^= 4;
        self.set(name, Some(&bytes));
    }

    /// A data pack of the first snapshot's session, which an index object tells of.
    fn data_pack(&self) -> ObjectName {
        self.listed(ObjectKind::DataPack).into_iter().max_by_key(|name| self.backend.size(name).unwrap()).unwrap()
    }

    fn repair(&self) -> RepairSummary {
        self.repository.repair(&RepairOptions::default(), &Silent).unwrap()
    }

    fn plan(&self) -> RepairPlan {
        self.repository.repair_plan(&RepairOptions::default(), &Silent).unwrap()
    }

    fn gc(&self) -> Result<crate::gc::GcSummary> {
        self.repository.gc(&GcOptions::default(), &Silent)
    }

    /// Entries that suffer, of each snapshot.
    fn hurt(&self) -> BTreeMap<SnapshotId, BTreeSet<Vec<u8>>> {
        let report = self.repository.scrub(&Silent).unwrap();
        report.hurt.into_iter().map(|hurt| (hurt.snapshot, hurt.paths.into_iter().collect())).collect()
    }

    /// Restores a snapshot and gives how many items failed; the others are as in the folder that was backed up.
    fn restore(&self, snapshot: SnapshotId) -> u64 {
        let target = tempfile::tempdir().unwrap();
        let snapshot = self.repository.find_snapshot(&snapshot.to_string(), None, None).unwrap();
        let summary = self.repository.restore(&snapshot, target.path(), &RestoreOptions::default(), &Silent).unwrap();
        compare(target.path(), self.folder.path());
        summary.items_failed
    }

    fn write_as(&self, roles: Roles, name: ObjectName, plaintext: Vec<u8>) {
        let credential = &self.repository.credential;
        let admin = Signer::new(credential.admin_seed.as_ref().unwrap());
        let signer = Signer::new(&Secret::new([99; 32]));
        let holder = credential.author.certificate.credential();
        let certificate = Certificate::sign(&admin, &self.repository.id, 1, roles, DomainId([0; 16]), holder, signer.verifying_key());
        let author = Author { certificate, signer };
        let object = author.sealed_object(&self.repository.header(name), self.repository.structure_key().unwrap(), plaintext);
        self.set(&name, Some(&object));
    }
}

/// Every file that was restored has its content.
fn compare(restored: &Path, source: &Path) {
    for entry in std::fs::read_dir(restored).unwrap() {
        let (path, twin) = (entry.as_ref().unwrap().path(), source.join(entry.unwrap().file_name()));
        if path.is_dir() {
            compare(&path, &twin);
        } else {
            assert!(std::fs::read(&path).unwrap() == std::fs::read(&twin).unwrap(), "{}", path.display());
        }
    }
}

#[test]
fn where_nothing_is_wrong_nothing_is_written() {
    for fixture in [Fixture::empty(), Fixture::with_snapshots()] {
        let before = fixture.objects();
        assert!(fixture.plan().is_empty() && fixture.plan().report.findings.is_empty());
        let summary = fixture.repository.repair(&salvaging(), &Silent).unwrap();
        assert!(summary.epoch.is_none() && summary.salvaged.is_empty(), "{summary:?}");
        assert_eq!(fixture.objects(), before);
    }
}

#[test]
fn good_frames_of_a_damaged_pack_are_copied_and_the_pack_goes_when_nobody_needs_it() {
    let fixture = Fixture::with_snapshots();
    let pack = fixture.data_pack();
    fixture.flip(&pack, 100);
    let (before, hurt) = (fixture.objects(), fixture.hurt());
    assert!(hurt.len() == 2 && hurt.values().all(|paths| (1..6).contains(&paths.len())), "{hurt:?}");
    let plan = fixture.plan();
    assert_eq!(plan.packs.len(), 1);
    assert!(plan.packs[0].pack == pack && plan.packs[0].frames_lost == 1 && plan.packs[0].frames_good > 2, "{:?}", plan.packs);
    assert_eq!(fixture.objects(), before, "a plan writes nothing");

    let summary = fixture.repair();
    assert_eq!((summary.epoch, summary.frames_copied), (Some(1), plan.packs[0].frames_good));
    assert!(fixture.listed(ObjectKind::DataPack).contains(&pack), "a damaged pack stays");
    assert_eq!(fixture.hurt(), hurt);
    // Nor is it hidden from who does not read everything: what was condemned and stands nowhere else is read.
    let told = fixture.repository.check(&Silent).unwrap();
    assert_eq!(told.findings.iter().map(|finding| finding.object).collect::<Vec<_>>(), [Some(pack)]);
    let told: BTreeMap<SnapshotId, BTreeSet<Vec<u8>>> =
        told.hurt.into_iter().map(|hurt| (hurt.snapshot, hurt.paths.into_iter().collect())).collect();
    assert_eq!(told, hurt);
    assert!(fixture.plan().is_empty(), "there is nothing left to mend");
    // Without the damaged pack nothing more is lost than is lost already.
    let whole = fixture.objects();
    fixture.set(&pack, None);
    assert_eq!(fixture.hurt(), hurt);
    fixture.reset(&whole);
    // Garbage collection does not take it either, as long as somebody may want what is in it.
    let collected = fixture.gc().unwrap();
    assert_eq!((collected.deleted.packs, collected.left.packs), (0, 1), "{collected:?}");
    let snapshots: Vec<_> = hurt.keys().copied().collect();
    fixture.repository.forget(&snapshots, &Silent).unwrap();
    fixture.gc().unwrap();
    assert!(!fixture.listed(ObjectKind::DataPack).contains(&pack));
    assert!(fixture.hurt().is_empty());
}

#[test]
fn the_next_backup_stores_anew_what_was_lost_but_only_after_a_repair() {
    let fixture = Fixture::with_snapshots();
    fixture.flip(&fixture.data_pack(), 100);
    let trusting = fixture.backup();
    assert_eq!(trusting.bytes_unique, 0, "it cannot know that the frame is damaged");
    assert!(fixture.restore(trusting.snapshot.unwrap()) > 0);
    fixture.repair();
    let anew = fixture.backup();
    assert!(anew.bytes_unique > 1000, "{anew:?}");
    assert_eq!(fixture.restore(anew.snapshot.unwrap()), 0);
    assert!(!fixture.hurt().contains_key(&anew.snapshot.unwrap()));
    assert!(fixture.hurt().contains_key(&trusting.snapshot.unwrap()), "older snapshots keep what they name");
}

#[test]
fn a_pack_whose_end_is_damaged_is_mended_by_an_index_object() {
    let fixture = Fixture::with_snapshots();
    let snapshots: Vec<_> = fixture.repository.snapshots().unwrap().iter().map(|snapshot| snapshot.id).collect();
    let whole = fixture.objects();
    let of_first = fixture.repository.read_snapshot_header(snapshots[0]).unwrap().record.id();
    for kind in [ObjectKind::DataPack, ObjectKind::MetaPack, ObjectKind::RefsPack] {
        let is_of_first = |name: &ObjectName| {
            let tail = fixture.repository.read_pack_tail(name, fixture.backend.size(name).unwrap()).unwrap();
            tail.tables.sessions[0].id() == of_first
        };
        let pack = fixture.listed(kind).into_iter().find(is_of_first).unwrap();
        let size = fixture.backend.size(&pack).unwrap() as usize;
        fixture.flip(&pack, size - 700);
        let plan = fixture.plan();
        let planned = &plan.packs[0];
        assert!(planned.has_bad_end && planned.frames_lost == 0 && planned.frames_good > 0, "{planned:?}");
        assert!(!plan.report.hurt.is_empty());
        // Whoever knows from the index object what is in it can read it as it is.
        snapshots.iter().for_each(|snapshot| assert_eq!(fixture.restore(*snapshot), 0));
        fixture.repair();
        snapshots.iter().for_each(|snapshot| assert_eq!(fixture.restore(*snapshot), 0));
        let collected = fixture.gc().unwrap();
        assert!(collected.deleted.packs > 0 && !fixture.listed(kind).contains(&pack), "{collected:?}");
        assert!(fixture.repository.scrub(&Silent).unwrap().findings.is_empty());
        fixture.reset(&whole);
    }
}

#[test]
fn an_index_object_that_lies_costs_no_frame() {
    let fixture = Fixture::with_snapshots();
    let pack = fixture.data_pack();
    let tell_of = |body: &IndexBody| body.packs.iter().any(|(kind, id, _)| ObjectName::pack(*kind, *id) == pack);
    let mut bodies = fixture.listed(ObjectKind::Index).into_iter().map(|name| {
        let plaintext = fixture.repository.read_sealed(&name).unwrap().plaintext;
        IndexBody::decode(&plaintext, &fixture.repository.id, &fixture.repository.trust).unwrap()
    });
    let body = bodies.find(tell_of).unwrap();
    // One that comes before it in the listing, and one after it.
    for (id, lies) in [([0; 16], usize::MAX), ([0xff; 16], 3)] {
        let mut body = body.clone();
        let frames = body.packs.iter_mut().flat_map(|(_, _, contents)| &mut contents.frames);
        frames.take(lies).for_each(|frame| frame.hash[0] ^= 1);
        fixture.repository.write_sealed(ObjectName::index(crate::id::IndexId(id)), body.encode()).unwrap();
    }
    let size = fixture.backend.size(&pack).unwrap() as usize;
    fixture.flip(&pack, size - 700);
    let planned = fixture.plan().packs.remove(0);
    assert!(planned.has_bad_end && planned.frames_lost == 0 && planned.frames_good > 1, "{planned:?}");
}

#[test]
fn a_pack_of_which_nothing_tells_is_condemned_and_who_suffers_is_named() {
    let fixture = Fixture::with_snapshots();
    let pack = fixture.data_pack();
    fixture.listed(ObjectKind::Index).iter().for_each(|name| fixture.set(name, None));
    let size = fixture.backend.size(&pack).unwrap() as usize;
    fixture.flip(&pack, size - 700);
    let hurt = fixture.hurt();
    let summary = fixture.repair();
    assert!(!summary.plan.packs[0].is_known && summary.epoch == Some(1) && summary.frames_copied == 0, "{:?}", summary.plan.packs);
    assert_eq!(summary.plan.report.hurt.len(), 2);
    assert!(summary.plan.report.hurt.iter().all(|hurt| hurt.paths_total > 1 && hurt.series.as_deref() == Some("tests")));
    assert_eq!(fixture.hurt(), hurt);
    // Nothing is collected while somebody misses what was in it: the pack may come back from a copy of the repository.
    let error = fixture.gc().unwrap_err();
    assert!(error.kind() == ErrorKind::Damaged && error.to_string().contains("icecore repair"), "{error}");
    fixture.flip(&pack, size - 700);
    assert!(fixture.repository.scrub(&Silent).unwrap().findings.is_empty());
    let collected = fixture.gc().unwrap();
    assert!(collected.bytes_copied > 0 && !fixture.listed(ObjectKind::DataPack).contains(&pack), "{collected:?}");
    assert!(fixture.hurt().is_empty());
}

#[test]
fn gc_runs_again_after_the_damaged_snapshot_was_forgotten() {
    let fixture = Fixture::with_snapshots();
    let snapshots = fixture.repository.snapshots().unwrap();
    let (lost, good) = (snapshots[0].id, snapshots[1].id);
    fixture.flip(&ObjectName::snapshot(lost), 400);
    let error = fixture.gc().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    for told in ["icecore repair", &format!("icecore forget {lost}")] {
        assert!(error.to_string().contains(told), "{told}: {error}");
    }
    assert!(fixture.plan().is_empty() && fixture.plan().report.hurt[0].snapshot == lost);
    fixture.repository.forget(&[lost], &Silent).unwrap();
    fixture.gc().unwrap();
    assert_eq!(fixture.restore(good), 0);
    assert!(fixture.hurt().is_empty());
}

#[test]
fn index_objects_that_are_lost_damaged_stale_or_lying_are_made_anew() {
    let fixture = Fixture::with_snapshots();
    let whole = fixture.objects();
    let index = fixture.listed(ObjectKind::Index)[0];
    let body = || {
        let plaintext = fixture.repository.read_sealed(&index).unwrap().plaintext;
        IndexBody::decode(&plaintext, &fixture.repository.id, &fixture.repository.trust).unwrap()
    };
    let write = |body: &IndexBody| {
        fixture.set(&index, None);
        fixture.repository.write_sealed(index, body.encode()).unwrap();
    };
    for way in ["lost", "damaged", "stale", "lying"] {
        fixture.reset(&whole);
        match way {
            "lost" => fixture.set(&index, None),
            "damaged" => fixture.flip(&index, 300),
            "stale" => {
                let mut body = body();
                body.packs[0].1 = PackId([0; 16]);
                write(&body);
            }
            _ => {
                let mut body = body();
                body.packs[0].2.frames[0].hash[0] ^= 1;
                write(&body);
            }
        }
        let plan = fixture.plan();
        assert!(!plan.is_empty() && plan.packs.is_empty(), "{way}: {plan:?}");
        let summary = fixture.repair();
        assert_eq!((summary.epoch, summary.index_objects_removed), (None, u64::from(way != "lost")), "{way}");
        let anew = fixture.listed(ObjectKind::Index);
        assert!(!anew.is_empty() && !anew.contains(&index), "{way}");
        assert!(fixture.plan().is_empty() && fixture.repository.check(&Silent).unwrap().findings.is_empty(), "{way}");
    }
}

#[test]
fn what_a_newer_release_may_understand_is_left_alone() {
    let fixture = Fixture::with_snapshots();
    let index = fixture.listed(ObjectKind::Index)[0];
    let mut plaintext = fixture.repository.read_sealed(&index).unwrap().plaintext;
    plaintext[0] = 1;
    let newer = ObjectName::index(crate::id::IndexId([1; 16]));
    fixture.repository.write_sealed(newer, plaintext).unwrap();
    let before = fixture.objects();
    let summary = fixture.repair();
    assert!(summary.plan.is_empty() && summary.plan.report.findings[0].kind == ErrorKind::Unsupported, "{:?}", summary.plan);
    assert_eq!(fixture.objects(), before);
}

#[test]
fn markers_that_stand_in_the_way_are_removed() {
    let fixture = Fixture::with_snapshots();
    let snapshots = fixture.repository.snapshots().unwrap();
    let (first, session) = (snapshots[0].id, snapshots[0].header.record.id());
    // Somebody who may not withdraw it has taken the name of the marker.
    let withdrawal = WithdrawnBody { session, reason: WithdrawnReason::Forgotten, now: NOW }.encode();
    fixture.write_as(Roles::RESTORE, ObjectName::withdrawn(first), withdrawal);
    assert!(fixture.repository.forget(&[first], &Silent).is_err());
    fixture.flip(&ObjectName::closed(snapshots[1].header.record.id()), 90);
    let summary = fixture.repair();
    assert_eq!(summary.obstacles_removed, 2, "{:?}", summary.plan.obstacles);
    fixture.repository.forget(&[first], &Silent).unwrap();
    assert_eq!(fixture.gc().unwrap().snapshots_settled, [snapshots[1].id]);
    assert!(fixture.plan().report.findings.is_empty());
}

#[test]
fn a_bad_end_of_a_session_that_was_given_up_stays_once_its_snapshot_was_forgotten() {
    let fixture = Fixture::with_snapshots();
    let snapshot = fixture.repository.snapshots().unwrap()[1].clone();
    let session = snapshot.header.record.id();
    fixture.repository.forget(&[snapshot.id], &Silent).unwrap();
    fixture.repository.write_sealed(ObjectName::tombstone(session), TombstoneBody { epoch: 0, now: NOW }.encode()).unwrap();
    fixture.flip(&ObjectName::closed(session), 90);
    let before = fixture.objects();
    assert!(fixture.repair().plan.report.findings.iter().any(|finding| finding.object == Some(ObjectName::closed(session))));
    assert_eq!(fixture.objects(), before);
}

#[test]
fn an_object_that_is_too_large_to_be_read_hurts_nothing_else() {
    let fixture = Fixture::with_snapshots();
    let [first, second] = fixture.repository.snapshots().unwrap().try_into().unwrap();
    let stray = SnapshotId([9; 16]);
    let names = [
        ObjectName::snapshot(stray),
        ObjectName::closed(SessionId([9; 16])),
        ObjectName::withdrawn(second.id),
        ObjectName::session(SessionId([9; 16])),
        ObjectName::tombstone(first.header.record.id()),
        ObjectName::epoch(1),
    ];
    for name in names {
        let size = name.kind().size_max() as usize + 1;
        fixture.set(&name, Some(&vec![0; size]));
    }
    let (shown, problems) = fixture.repository.snapshots_and_problems().unwrap();
    assert_eq!(shown.iter().map(|snapshot| snapshot.id).collect::<Vec<_>>(), [first.id, second.id]);
    assert!(problems.iter().all(|problem| problem.broken_rule() == Some("OBJ-1")), "{problems:?}");
    assert_eq!(problems.len(), 3);
    fixture.repository.forget(&[stray], &Silent).unwrap();
    assert_eq!(fixture.repair().obstacles_removed, 3);
    fixture.backup();
}

/// Stops at the n-th question whether to go on.
#[derive(Debug)]
struct Interrupter(AtomicU64);

impl Progress for Interrupter {
    fn event(&self, _: Event<'_>) {}
    fn is_cancelled(&self) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err()
    }
}

#[test]
fn a_repair_that_is_stopped_makes_nothing_worse_and_can_be_run_again() {
    let fixture = Fixture::with_snapshots();
    fixture.flip(&fixture.data_pack(), 100);
    fixture.flip(&fixture.listed(ObjectKind::Index)[0], 300);
    let hurt = fixture.hurt();
    let mut stops = 0;
    for questions in (0..).step_by(7) {
        match fixture.repository.repair(&RepairOptions::default(), &Interrupter(AtomicU64::new(questions))) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled),
            Ok(_) => break,
        }
        stops += 1;
    }
    assert!(stops > 5);
    assert_eq!(fixture.hurt(), hurt);
    assert!(fixture.plan().is_empty());
}

#[test]
fn no_damage_makes_it_panic_or_makes_things_worse() {
    let fixture = Fixture::with_snapshots();
    let whole = fixture.objects();
    let some = |kind| fixture.listed(kind).into_iter().take(4).collect::<Vec<_>>();
    for (number, name) in ObjectKind::ALL.into_iter().flat_map(some).enumerate() {
        let (name, bytes) = (&name, &whole[&name]);
        for turn in 0..2 {
            let random = u64::from_le_bytes(noise(number as u64 * 2 + turn, 8).try_into().unwrap());
            match turn {
                0 => fixture.flip(name, random as usize % bytes.len()),
                _ => fixture.set(name, random.is_multiple_of(2).then(|| &bytes[..random as usize % bytes.len()])),
            }
            let before = fixture.hurt();
            match fixture.repository.repair(&salvaging(), &Silent) {
                Ok(_) => {}
                Err(error) => assert!(matches!(error.kind(), ErrorKind::Busy | ErrorKind::Damaged), "{name}: {error}"),
            }
            let after = fixture.hurt();
            let is_worse = |(id, paths): (&SnapshotId, &BTreeSet<Vec<u8>>)| before.get(id).is_none_or(|known| !paths.is_subset(known));
            assert!(!after.iter().any(is_worse), "{name}: {before:?} {after:?}");
            fixture.reset(&whole);
        }
    }
}

#[test]
fn where_every_snapshot_is_damaged_they_are_named_and_nothing_is_done() {
    let fixture = Fixture::with_snapshots();
    let snapshots = fixture.listed(ObjectKind::Snapshot);
    snapshots.iter().for_each(|name| fixture.flip(name, 300));
    let before = fixture.objects();
    let summary = fixture.repository.repair(&salvaging(), &Silent).unwrap();
    assert_eq!(summary.plan.report.hurt.len(), snapshots.len());
    assert_eq!(fixture.objects(), before);
}

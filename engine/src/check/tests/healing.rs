//! Healing from sidecars: what is lost comes back byte for byte, and is said all the same.

use super::*;
use crate::backend::testing::{HookedBackend, Operation, Order};
use crate::format::index_object::IndexBody;
use crate::format::object::Header;
use crate::format::parity::{SidecarForm, SidecarHead, sidecar_of};
use crate::format::relocations::{MovedChunk, RelocatedFrame, RelocationsBody};
use crate::gc::GcOptions;
use crate::id::{FrameId, IndexId, PackId, RelocationsId};
use crate::repair::{Reads, RepairOptions};
use crate::repository::Sidecar;
use crate::tiers::TierPolicy;

/// A repository with parity that holds packs of more than a mebibyte, and objects of every kind.
fn fixture() -> Fixture {
    let fixture = Fixture::create(CreateOptions {
        pack_size: 1 << 20,
        data_frame_size: 64 << 10,
        meta_frame_size: 4 << 10,
        cut: CutMethod::Content { min: 4096, average: 8192, max: 32768 },
        passphrase_cost: PassphraseCost::TEST,
        parity_percent: 3,
    });
    let stream = |name: &str, seed: u64, length: usize| {
        let source = Box::new(std::io::Cursor::new(noise(seed, length)));
        fixture.repository.backup_stream(name, source, &BackupOptions::new("stream"), &Silent).unwrap().snapshot.unwrap()
    };
    stream("large", 1, 1200 << 10);
    let forgotten = stream("other", 2, 100 << 10);
    stream("third", 3, 50 << 10);
    fixture.repository.forget(&[forgotten], &Silent).unwrap();
    fixture.repository.gc(&GcOptions { dead_percent_max: 0 }, &Silent).unwrap();
    fixture.add_companions();
    let repository = &fixture.repository;
    let pack = repository.list_packs().unwrap().remove(0);
    let tables = repository.read_pack_tail(&pack.name, pack.size).unwrap().tables;
    let session = tables.sessions[0].id();
    let index = IndexBody { sessions: tables.sessions, packs: vec![(pack.name.kind(), pack.name.pack_id().unwrap(), tables.contents)] };
    repository.write_sealed(ObjectName::index(IndexId([4; 16])), index.encode()).unwrap();
    let moved = vec![MovedChunk { position: 0, counter: 0, new_position: 0 }];
    let frames = vec![RelocatedFrame { frame: FrameId { session, number: 7 }, chunks: 3, moved }];
    let relocations = RelocationsBody { session: SessionId([9; 16]), now: NOW, frames };
    repository.write_sealed(ObjectName::relocations(RelocationsId([4; 16])), relocations.encode()).unwrap();
    fixture
}

impl Fixture {
    fn heal(&self) -> CheckReport {
        self.repository.scrub_and_heal(&Silent).unwrap()
    }

    fn heal_keyless(&self) -> CheckReport {
        scrub_and_heal_keyless(&self.backend, &self.repository.runtime, &Silent).unwrap()
    }

    /// Damages, heals, compares; with and without keys.
    fn comes_back(&self, what: &str, whole: &BTreeMap<ObjectName, Vec<u8>>, damaged: &ObjectName, bytes: Option<&[u8]>) {
        for keyless in [false, true] {
            self.set(damaged, bytes);
            let report = if keyless { self.heal_keyless() } else { self.heal() };
            let of_object: Vec<_> = report.findings.iter().filter(|finding| finding.object == Some(*damaged)).collect();
            assert!(!of_object.is_empty() && of_object.iter().all(|finding| finding.healed), "{what}: {report:#?}");
            assert!(report.findings.iter().all(|finding| finding.healed) && report.hurt.is_empty(), "{what}: {report:#?}");
            assert!(self.backend.get(damaged, u64::MAX).ok().as_ref() == whole.get(damaged), "{what}, keyless {keyless}");
        }
    }
}

#[test]
fn every_object_has_a_sidecar_and_a_clean_repository_needs_no_healing() {
    let fixture = fixture();
    let objects = fixture.objects();
    let is_sidecar = |name: &&ObjectName| name.kind() == ObjectKind::Parity;
    for name in objects.keys().filter(|name| !is_sidecar(name)) {
        assert!(objects.contains_key(&sidecar_of(name)), "{name}");
    }
    assert_eq!(objects.keys().filter(is_sidecar).count() * 2, objects.len());
    let coded = objects.keys().filter(is_sidecar).filter(|name| {
        let sidecar = Sidecar::read(&fixture.backend, &fixture.repository.trust, name).unwrap();
        matches!(sidecar.head.form, SidecarForm::Code { .. })
    });
    assert!(coded.count() >= 1);
    for report in [fixture.scrub(), fixture.check(), fixture.scrub_keyless(), fixture.heal(), fixture.heal_keyless()] {
        assert!(report.findings.is_empty() && !report.notices.iter().any(|notice| notice.contains("sidecar")), "{report:#?}");
    }
    assert_eq!(fixture.objects(), objects);
    let stats = fixture.repository.stats(None, &Silent).unwrap();
    let sizes: usize = objects.iter().filter(|(name, _)| is_sidecar(name)).map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(stats.parity_bytes, sizes as u64);
}

#[test]
fn any_one_object_is_healed_byte_for_byte() {
    let fixture = fixture();
    let whole = fixture.objects();
    let mut kinds = BTreeSet::new();
    for (number, (name, bytes)) in whole.iter().filter(|(name, _)| name.kind() != ObjectKind::Parity).enumerate() {
        kinds.insert(name.kind());
        let at = pick(77, number as u64, bytes.len());
        fixture.comes_back(&format!("{name} byte {at}"), &whole, name, Some(&flipped(bytes, at)));
        match name.kind() {
            ObjectKind::DataPack if bytes.len() >= 1 << 20 => {
                fixture.comes_back(&format!("{name} without its end"), &whole, name, Some(&bytes[..bytes.len() - 1]));
                fixture.comes_back(&format!("{name} and more"), &whole, name, Some(&[&bytes[..], b"more"].concat()));
            }
            _ => fixture.comes_back(&format!("{name} gone"), &whole, name, None),
        }
    }
    assert!((1..=14).chain([17]).all(|kind| kinds.contains(&ObjectKind::from_number(kind).unwrap())), "{kinds:?}");
    assert_eq!(fixture.objects(), whole);
}

#[test]
fn a_mebibyte_lost_anywhere_in_a_pack_of_64_is_healed() {
    let fixture = Fixture::create(CreateOptions { parity_percent: 3, passphrase_cost: PassphraseCost::TEST, ..CreateOptions::default() });
    let source = Box::new(std::io::Cursor::new(noise(6, 65 << 20)));
    fixture.repository.backup_stream("s", source, &BackupOptions::new("stream"), &Silent).unwrap();
    let packs = fixture.backend.list_sorted(ObjectKind::DataPack).unwrap();
    let name = packs.iter().find(|pack| pack.size > 64 << 20).unwrap().name;
    let bytes = fixture.backend.get(&name, u64::MAX).unwrap();
    let sidecar = fixture.backend.size(&sidecar_of(&name)).unwrap();
    assert!(sidecar * 1000 < bytes.len() as u64 * 33, "{sidecar} for {}", bytes.len());
    // By whoever scrubs, with and without keys.
    let whole = fixture.objects();
    let mut damaged = bytes.clone();
    let at = pick(4, 0, bytes.len() - (1 << 20));
    damaged[at..at + (1 << 20)].fill(0x55);
    fixture.comes_back(&format!("a mebibyte from {at} on"), &whole, &name, Some(&damaged));
    let trust = &fixture.repository.trust;
    let random = (0..4).map(|turn| pick(5, turn, bytes.len() - (1 << 20)));
    for at in [0, 1, 65_537, bytes.len() - (1 << 20)].into_iter().chain(random) {
        let mut damaged = bytes.clone();
        damaged[at..at + (1 << 20)].fill(0x55);
        fixture.set(&name, Some(&damaged));
        crate::repository::heal(&fixture.backend, trust, &name).unwrap();
        assert!(fixture.backend.get(&name, u64::MAX).unwrap() == bytes, "{at}");
    }
    // And a byte in each of many places, as long as no codeword has too many of them.
    let mut damaged = bytes.clone();
    (0..24).for_each(|n| damaged[n * (2 << 20) + 65_536 * n] ^= 1);
    fixture.set(&name, Some(&damaged));
    crate::repository::heal(&fixture.backend, trust, &name).unwrap();
    assert!(fixture.backend.get(&name, u64::MAX).unwrap() == bytes);
    // Four mebibytes are too many: nothing is written, and it is said.
    damaged[10 << 20..14 << 20].fill(0);
    fixture.set(&name, Some(&damaged));
    let error = crate::repository::heal(&fixture.backend, trust, &name).unwrap_err();
    assert!(error.kind() == ErrorKind::Damaged && error.to_string().contains("blocks are lost"), "{error}");
    assert!(fixture.backend.get(&name, u64::MAX).unwrap() == damaged);
}

/// Its sidecar heals parts of it.
#[test]
fn a_large_pack_that_is_gone_is_named_with_the_files_that_are_lost() {
    let fixture = fixture();
    let packs = fixture.backend.list_sorted(ObjectKind::DataPack).unwrap();
    let name = packs.iter().find(|pack| pack.size >= 1 << 20).unwrap().name;
    fixture.set(&name, None);
    let report = fixture.heal();
    let finding = report.findings.iter().find(|finding| finding.object == Some(name)).unwrap();
    assert!(!finding.healed && report.notices.iter().any(|notice| notice.contains("cannot be healed")), "{report:#?}");
    let hurt: Vec<_> = report.hurt.iter().flat_map(|hurt| hurt.paths.clone()).collect();
    assert_eq!(hurt, [join_key(["large"])]);
    let keyless = fixture.heal_keyless();
    assert!(keyless.findings.iter().any(|finding| finding.object == Some(name) && !finding.healed), "{keyless:#?}");
    assert!(!fixture.objects().contains_key(&name));
}

/// Without them much more is lost than they hold.
#[test]
fn meta_packs_are_stored_twice_however_large() {
    let head = |kind, percent| SidecarHead::plan(ObjectName::pack(kind, PackId([1; 16])), 64 << 20, [0; 32], percent);
    for percent in [1, 3, 15] {
        let meta = head(ObjectKind::MetaPack, percent);
        assert!(meta.layout().is_none() && meta.body_length() > 64 << 20);
        assert!(head(ObjectKind::DataPack, percent).layout().is_some());
    }
}

/// Otherwise nobody finds the packs that moved.
#[test]
fn placement_is_healed_before_packs_are_missed() {
    let key = Key::KeyFile(Secret::new([5; 32]));
    let mut fixture = Fixture::create_for(&key, &CreateOptions { parity_percent: 3, ..small() });
    let shelf = MemoryBackend::new();
    let open = |backend: &MemoryBackend, seed| {
        let settings = Settings::default().with_tier_opener(Arc::new(Shelf(shelf.clone())));
        Repository::open(Arc::new(backend.clone()), Runtime::seeded(seed, NOW, 2), &key, settings).unwrap()
    };
    fixture.repository = open(&fixture.backend, 12);
    for seed in [1, 2] {
        let source = Box::new(std::io::Cursor::new(noise(seed, 9000)));
        fixture.repository.backup_stream("s", source, &BackupOptions::new("stream"), &Silent).unwrap();
    }
    fixture.repository.add_tier(&TierBody::new("cold", "shelf")).unwrap();
    assert!(fixture.repository.tier_apply(&TierPolicy::new("cold"), &Silent).unwrap().moved.packs > 0);
    let whole = fixture.objects();
    let placement: Vec<_> = whole.iter().filter(|(name, _)| name.kind() == ObjectKind::Placement).collect();
    assert!(placement.len() >= 2, "{placement:?}");
    for (turn, (name, bytes)) in (20..).step_by(10).zip(placement) {
        for (seed, damaged) in (turn..).zip([None, Some(flipped(bytes, bytes.len() / 2)), Some(bytes[..100].to_vec())]) {
            // By a process that knows of the placement only what is left.
            fixture.set(name, damaged.as_deref());
            fixture.repository = open(&fixture.backend, seed);
            fixture.comes_back(&format!("{name}, {:?} bytes", damaged.as_ref().map(Vec::len)), &whole, name, damaged.as_deref());
        }
    }
    assert!(fixture.scrub().findings.is_empty());
}

#[test]
fn a_damaged_sidecar_heals_nothing_and_repair_writes_it_anew() {
    let fixture = fixture();
    let whole = fixture.objects();
    for (number, (name, bytes)) in whole.iter().filter(|(name, _)| name.kind() == ObjectKind::Parity).enumerate() {
        fixture.set(name, Some(&flipped(bytes, pick(78, number as u64, bytes.len()))));
        let report = fixture.heal();
        assert!(names(&report, name) && report.findings.iter().all(|finding| !finding.healed), "{name}: {report:#?}");
        assert!(names(&fixture.scrub_keyless(), name));
        fixture.set(name, Some(bytes));
    }
    let (name, bytes) = whole.iter().rfind(|(name, _)| name.kind() == ObjectKind::Parity).unwrap();
    fixture.set(name, Some(&flipped(bytes, 100)));
    let options = RepairOptions { reads: Reads::Everything, salvage: false };
    assert!(fixture.repository.repair_plan(&options, &Silent).unwrap().sidecars.contains(name));
    assert_eq!(fixture.repository.repair(&options, &Silent).unwrap().sidecars_written, 1);
    assert!(fixture.scrub().findings.is_empty());
}

#[test]
fn a_missing_sidecar_is_a_notice_and_repair_writes_it() {
    let fixture = fixture();
    let whole = fixture.objects();
    for name in whole.keys().filter(|name| name.kind() != ObjectKind::Parity) {
        fixture.set(&sidecar_of(name), None);
        for report in [fixture.check(), fixture.scrub_keyless()] {
            assert!(report.findings.is_empty(), "{name}: {report:#?}");
            assert!(report.notices.iter().any(|notice| notice.contains("no sidecar") && notice.contains(&name.to_string())));
        }
        assert_eq!(fixture.repository.protect(&Silent).unwrap().sidecars_written, 1);
        assert!(!fixture.check().notices.iter().any(|notice| notice.contains("no sidecar")));
    }
}

#[test]
fn repair_heals_before_it_condemns() {
    let fixture = fixture();
    let whole = fixture.objects();
    for kind in [ObjectKind::DataPack, ObjectKind::MetaPack, ObjectKind::RefsPack, ObjectKind::Index, ObjectKind::Snapshot] {
        let Some((name, bytes)) = whole.iter().find(|(name, _)| name.kind() == kind) else { continue };
        fixture.set(name, Some(&flipped(bytes, bytes.len() / 2)));
        let summary = fixture.repository.repair(&RepairOptions::default(), &Silent).unwrap();
        assert!(summary.epoch.is_none() && summary.plan.report.findings.iter().all(|finding| finding.healed), "{summary:#?}");
        assert_eq!(fixture.backend.get(name, u64::MAX).unwrap(), *bytes);
    }
}

/// It may be the only copy of its object.
#[test]
fn a_sidecar_that_heals_nothing_today_stays() {
    use crate::backend::testing::{HookedBackend, Operation};
    let fixture = fixture();
    let whole = fixture.objects();
    let kinds = [ObjectKind::DataPack, ObjectKind::Index, ObjectKind::Closed, ObjectKind::Session, ObjectKind::Snapshot, ObjectKind::Hold];
    for (number, kind) in (1..).zip(kinds) {
        let (name, bytes) = whole.iter().find(|(name, _)| name.kind() == kind).unwrap();
        let (name, sidecar) = (*name, sidecar_of(name));
        // The store takes nothing of its name, or does not give the sidecar.
        for failing in [(Operation::Create, name), (Operation::GetRange, sidecar)] {
            let hooked = HookedBackend::new(Arc::new(fixture.backend.clone()), move |call| {
                match (call.operation, call.name) == (failing.0, Some(failing.1)) {
                    true => Err(Error::new(ErrorKind::Unavailable, "no space left on device")),
                    false => Ok(()),
                }
            });
            let key = Key::passphrase("correct horse").unwrap();
            let runtime = Runtime::seeded(100 + number, NOW, 2);
            let repository = Repository::open(Arc::new(hooked), runtime, &key, Settings::default()).unwrap();
            // It is gone, or its end is not what the sidecar says.
            for damaged in [None, Some(flipped(bytes, bytes.len() - 3))] {
                // What is left of a large pack heals no more than a part of it.
                if damaged.is_none() && kind == ObjectKind::DataPack {
                    continue;
                }
                fixture.set(&name, damaged.as_deref());
                let _ = repository.repair(&RepairOptions { reads: Reads::Everything, salvage: false }, &Silent);
                assert!(fixture.objects().get(&sidecar) == whole.get(&sidecar), "{name}, {failing:?}");
                crate::repository::heal(&fixture.backend, &fixture.repository.trust, &name).unwrap();
                assert!(fixture.objects().get(&name) == Some(bytes), "{name}, {failing:?}");
                fixture.objects().keys().filter(|name| !whole.contains_key(*name)).for_each(|name| fixture.set(name, None));
                whole.iter().for_each(|(name, bytes)| fixture.set(name, Some(bytes)));
            }
        }
    }
}

#[test]
fn what_is_deleted_by_the_rules_does_not_come_back() {
    let fixture = fixture();
    for name in fixture.objects().into_keys().filter(|name| name.kind() == ObjectKind::Beat || name.kind() == ObjectKind::Tombstone) {
        fixture.repository.backend.delete(&name).unwrap();
        assert!(!fixture.objects().contains_key(&sidecar_of(&name)));
        let report = fixture.heal();
        assert!(report.findings.is_empty() && !fixture.objects().contains_key(&name), "{name}: {report:#?}");
    }
}

#[test]
fn a_sidecar_by_somebody_else_heals_nothing() {
    let fixture = fixture();
    let name = *fixture.objects().keys().find(|name| name.kind() == ObjectKind::Snapshot).unwrap();
    let bytes = fixture.backend.get(&name, u64::MAX).unwrap();
    let sidecar = fixture.backend.get(&sidecar_of(&name), u64::MAX).unwrap();
    let body = &sidecar[64..sidecar.len() - 248];
    let resigned = |roles| {
        let author = fixture.author(roles, &Secret::new([roles.bits(); 32]));
        author.object(&Header { name: sidecar_of(&name), ..fixture.repository.header(name) }, body)
    };
    fixture.set(&name, Some(b"damaged"));
    fixture.set(&sidecar_of(&name), Some(&resigned(Roles::BACKUP)));
    let report = fixture.heal();
    assert!(report.notices.iter().any(|notice| notice.contains("PARITY-7")), "{report:#?}");
    assert_eq!(fixture.backend.get(&name, u64::MAX).unwrap(), b"damaged");
    fixture.set(&sidecar_of(&name), Some(&resigned(Roles::MAINTAIN)));
    assert!(fixture.heal().findings.iter().all(|finding| finding.healed));
    assert_eq!(fixture.backend.get(&name, u64::MAX).unwrap(), bytes);
}

#[test]
fn parity_is_switched_on_and_off() {
    let key = Key::KeyFile(Secret::new([5; 32]));
    let fixture = Fixture::empty_for(&key);
    let open = || Repository::open(Arc::new(fixture.backend.clone()), Runtime::seeded(12, NOW, 2), &key, Settings::default()).unwrap();
    let backup = |repository: &Repository, seed: u64| {
        let source = Box::new(std::io::Cursor::new(noise(seed, 20_000)));
        repository.backup_stream("s", source, &BackupOptions::new("stream"), &Silent).unwrap();
    };
    backup(&fixture.repository, 1);
    // Left from an earlier time when there was parity: its object may have been deleted since.
    let stale = ObjectName::parity(crate::id::SidecarId([3; 16]));
    fixture.set(&stale, Some(b"stale"));
    fixture.repository.set_parity(5).unwrap();
    assert!(!fixture.objects().contains_key(&stale));
    let repository = open();
    assert_eq!((repository.config().parity_percent(), repository.generation()), (5, 2));
    let objects = fixture.objects().len() as u64;
    assert_eq!(repository.protect(&Silent).unwrap().sidecars_written, objects);
    backup(&repository, 2);
    assert_eq!(repository.protect(&Silent).unwrap().sidecars_written, 0);
    repository.set_parity(0).unwrap();
    let repository = open();
    assert!(repository.protect(&Silent).unwrap().sidecars_removed > objects);
    assert!(repository.scrub_and_heal(&Silent).unwrap().findings.is_empty());
    assert!(fixture.objects().keys().all(|name| name.kind() != ObjectKind::Parity));
    assert_eq!(repository.set_parity(16).unwrap_err().kind(), ErrorKind::Invalid);
}

/// Otherwise the sidecar of what goes with the power says that it was lost.
#[test]
fn an_object_is_durable_before_it_gets_a_sidecar() {
    let key = Key::KeyFile(Secret::new([5; 32]));
    let fixture = Fixture::empty_for(&key);
    fixture.repository.set_parity(5).unwrap();
    let objects = fixture.objects();
    let (backend, order) = Order::of(Arc::new(fixture.backend.clone()));
    let repository = Repository::open(backend, Runtime::seeded(12, NOW, 2), &key, Settings::default()).unwrap();
    assert_eq!(repository.protect(&Silent).unwrap().sidecars_written, objects.len() as u64);
    for name in objects.keys() {
        assert!(order.at(Operation::MakeDurable, *name) < order.at(Operation::Finish, sidecar_of(name)), "{name}");
    }
}

/// After a stop between any two calls nothing is taken for damage, and nothing that was deleted comes back.
#[test]
fn a_stop_at_any_moment_leaves_no_damage() {
    use crate::backend::testing::FaultyBackend;
    use crate::backend::testing::Operation;
    let key = Key::KeyFile(Secret::new([5; 32]));
    let fixture = Fixture::create_for(&key, &CreateOptions { parity_percent: 3, ..small() });
    let backup = |repository: &Repository, seed: u64| {
        let source = Box::new(std::io::Cursor::new(noise(seed, 9000)));
        repository.backup_stream("s", source, &BackupOptions::new("stream"), &Silent).map(|made| made.snapshot.unwrap())
    };
    let forgotten = backup(&fixture.repository, 1).unwrap();
    backup(&fixture.repository, 2).unwrap();
    fixture.repository.forget(&[forgotten], &Silent).unwrap();
    let whole = fixture.objects();
    for operation in [Operation::Finish, Operation::Delete] {
        for nth in 1..40 {
            let faulty = Arc::new(FaultyBackend::new(Arc::new(fixture.backend.clone()), nth));
            let repository = Repository::open(faulty.clone(), Runtime::seeded(100 + nth, NOW, 1), &key, Settings::default()).unwrap();
            faulty.fail(operation, nth);
            let _ = backup(&repository, 100 + nth);
            let _ = repository.gc(&GcOptions::default(), &Silent);
            let report = fixture.heal();
            assert!(report.findings.is_empty(), "{operation:?} {nth}: {report:#?}");
            fixture.objects().keys().filter(|name| !whole.contains_key(*name)).for_each(|name| fixture.set(name, None));
            whole.iter().for_each(|(name, bytes)| fixture.set(name, Some(bytes)));
        }
    }
}

/// Also where it was read well before.
#[test]
fn an_object_that_cannot_be_compared_with_its_sidecar_is_named() {
    let fixture = fixture();
    for kind in [ObjectKind::Snapshot, ObjectKind::DataPack] {
        let is_compared = AtomicBool::new(false);
        let hooked = HookedBackend::new(Arc::new(fixture.backend.clone()), move |call| {
            if call.kind == ObjectKind::Parity && call.operation == Operation::GetRange {
                is_compared.store(true, Ordering::Relaxed);
            }
            let fails =
                call.kind == kind && call.operation == Operation::GetRange && !call.is_done && is_compared.swap(false, Ordering::Relaxed);
            if fails { Err(Error::new(ErrorKind::Unavailable, "the store does not answer")) } else { Ok(()) }
        });
        let report = opened(Arc::new(hooked)).scrub(&Silent).unwrap();
        assert!(!report.findings.is_empty());
        let is_right = |finding: &Finding| finding.kind == ErrorKind::Unavailable && finding.object.is_some_and(|name| name.kind() == kind);
        assert!(report.findings.iter().all(is_right), "{:#?}", report.findings);
    }
}

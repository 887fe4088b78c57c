//! Small repositories in memory, every object of them damaged in every way.

mod between;
mod healing;
mod rot;
mod shares;

use super::*;
use crate::backend::{Backend, BackendExt, MemoryBackend, ObjectKind};
use crate::backup::BackupOptions;
use crate::crypto::{PassphraseCost, Secret, Signer};
use crate::entry::{ChunkList, EntryKind, Key as EntryKey, KeyKind, join_key};
use crate::format::config::CutMethod;
use crate::format::epoch::EpochBody;
use crate::format::hold::{HoldAction, HoldBody};
use crate::format::object::Author;
use crate::format::placement::TierBody;
use crate::format::session::{BeatBody, SessionKind, TombstoneBody, WithdrawnBody, WithdrawnReason};
use crate::format::{Certificate, Roles};
use crate::id::{ChunkId, DomainId, HoldId, SessionId};
use crate::progress::{Cancel, Silent};
use crate::repository::{CreateOptions, FrameReader, Key, Session, Settings, TierOpener};
use crate::runtime::{Runtime, Timestamp};
use crate::source::{Roots, SourceOptions};
use crate::tree::{KeyRange, RecipeWalk, TreeWalk};
use crate::{Error, ErrorKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanoseconds: 0 };

/// Bytes that depend on `seed` and do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn opened(backend: Arc<dyn Backend>) -> Repository {
    Repository::open(backend, Runtime::seeded(12, NOW, 2), &Key::passphrase("correct horse").unwrap(), Settings::default()).unwrap()
}

/// A number below `end` that depends on `seed` and `turn`.
fn pick(seed: u64, turn: u64, end: usize) -> usize {
    let bytes: [u8; 8] = noise(seed << 32 | turn, 8).try_into().unwrap();
    (u64::from_le_bytes(bytes) % end as u64) as usize
}

/// Small packs, frames and chunks.
fn small() -> CreateOptions {
    CreateOptions {
        pack_size: 64 << 10,
        data_frame_size: 16 << 10,
        meta_frame_size: 4 << 10,
        cut: CutMethod::Content { min: 512, average: 1024, max: 4096 },
        passphrase_cost: PassphraseCost::TEST,
        parity_percent: 0,
    }
}

/// The place of the only tier, in memory.
#[derive(Debug, Clone)]
struct Shelf(MemoryBackend);

impl TierOpener for Shelf {
    fn open(&self, _: &TierBody, _: &str) -> Result<Arc<dyn Backend>> {
        Ok(Arc::new(self.0.clone()))
    }

    fn create(&self, tier: &TierBody, address: &str) -> Result<Arc<dyn Backend>> {
        self.open(tier, address)
    }
}

struct Fixture {
    backend: MemoryBackend,
    repository: Repository,
}

impl Fixture {
    /// A repository without any snapshot.
    fn empty() -> Self {
        Self::empty_for(&Key::passphrase("correct horse").unwrap())
    }

    fn empty_for(key: &Key) -> Self {
        Self::create_for(key, &small())
    }

    fn create(options: CreateOptions) -> Self {
        Self::create_for(&Key::passphrase("correct horse").unwrap(), &options)
    }

    fn create_for(key: &Key, options: &CreateOptions) -> Self {
        let backend = MemoryBackend::new();
        let runtime = Runtime::seeded(11, NOW, 2);
        let repository = Repository::create(Arc::new(backend.clone()), runtime, key, options, Settings::default()).unwrap();
        Self { backend, repository }
    }

    /// Three snapshots: a folder, the same folder changed, a stream.
    fn with_snapshots() -> Self {
        let fixture = Self::empty();
        let folder = tempfile::tempdir().unwrap();
        let write = |name: String, seed: u64, length: usize| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, noise(seed, length)).unwrap();
        };
        (0..24).for_each(|n| write(format!("d{}/f{n}", n % 3), n, 1 + (n as usize * 613) % 9000));
        write("large".into(), 1000, 300 << 10);
        fixture.backup(folder.path());
        write("d1/new".into(), 2000, 7000);
        std::fs::remove_file(folder.path().join("d2/f5")).unwrap();
        fixture.backup(folder.path());
        let stream = std::io::Cursor::new(noise(3000, 130 << 10));
        fixture.repository.backup_stream("dump.sql", Box::new(stream), &BackupOptions::new("stream"), &Silent).unwrap();
        fixture
    }

    /// As [`Fixture::with_snapshots`], with at least one object of every kind that is written.
    fn with_all_kinds() -> Self {
        let fixture = Self::with_snapshots();
        fixture.add_companions();
        fixture
    }

    /// Adds, of the kinds that backups alone do not write, some of each.
    fn add_companions(&self) {
        let repository = &self.repository;
        let session = Session::begin(repository, SessionKind::Writer).unwrap().id();
        for number in [1, 2] {
            repository.write_sealed(ObjectName::beat(session, number), BeatBody { now: NOW }.encode()).unwrap();
        }
        repository.write_sealed(ObjectName::tombstone(session), TombstoneBody { epoch: 1, now: NOW }.encode()).unwrap();
        let withdrawn = WithdrawnBody { session, reason: WithdrawnReason::Forgotten, now: NOW };
        repository.write_sealed(ObjectName::withdrawn(SnapshotId([5; 16])), withdrawn.encode()).unwrap();
        let newest = repository.newest_epoch().unwrap();
        let mut predecessor = if newest == 0 { [0; 32] } else { repository.read_sealed(&ObjectName::epoch(newest)).unwrap().hash };
        for number in newest + 1..newest + 3 {
            let epoch = EpochBody { predecessor, session, now: NOW, condemned: Vec::new(), withdrawn: Vec::new() };
            repository.write_sealed(ObjectName::epoch(number), epoch.encode()).unwrap();
            predecessor = repository.read_sealed(&ObjectName::epoch(number)).unwrap().hash;
        }
        let reserved = ObjectName::parse(&format!("scrubbed/{}", SnapshotId([6; 16]))).unwrap();
        repository.write_sealed(reserved, vec![1, 2, 3]).unwrap();
        // Of holds one that says nothing: a release by admin of what is not there.
        let signer = Signer::new(repository.credential.admin_seed.as_ref().unwrap());
        let admin = Author { certificate: Certificate::of_admin(&signer, &repository.id, 1), signer };
        let action = HoldAction::Release { hold: HoldId([7; 16]) };
        let release = HoldBody { action, now: NOW, note: "note".into(), snapshots: Vec::new() };
        let header = repository.header(ObjectName::hold(HoldId([6; 16])));
        let object = admin.sealed_object(&header, repository.structure_key().unwrap(), release.encode());
        self.repository.backend.put(&header.name, &object).unwrap();
    }

    fn backup(&self, folder: &std::path::Path) {
        let roots = Roots::resolve(&[folder.join(".")]).unwrap();
        // Tests here take frames apart that stand for themselves.
        let options = BackupOptions { delta: false, ..BackupOptions::new("tests") };
        self.repository.backup(&roots, &SourceOptions::default(), &options, &Silent).unwrap();
    }

    fn objects(&self) -> BTreeMap<ObjectName, Vec<u8>> {
        let kinds = ObjectKind::ALL.into_iter().flat_map(|kind| self.backend.list_sorted(kind).unwrap());
        kinds.map(|object| (object.name, self.backend.get(&object.name, u64::MAX).unwrap())).collect()
    }

    /// Replaces, makes or (`None`) removes an object.
    fn set(&self, name: &ObjectName, bytes: Option<&[u8]>) {
        set(&self.backend, name, bytes);
    }

    fn check(&self) -> CheckReport {
        self.repository.check(&Silent).unwrap()
    }

    fn scrub(&self) -> CheckReport {
        self.repository.scrub(&Silent).unwrap()
    }

    fn scrub_keyless(&self) -> CheckReport {
        scrub_keyless(&self.backend, &self.repository.runtime, &Silent).unwrap()
    }

    /// The same repository in the hands of a credential with these roles only.
    fn as_roles(&self, roles: Roles) -> Repository {
        let mut credential = (*self.repository.credential).clone();
        let seed = Secret::new([roles.bits(); 32]);
        credential.author = self.author(roles, &seed);
        credential.signing_seed = seed;
        credential.admin_seed = None;
        if !roles.contain(Roles::RESTORE) {
            credential.restore_keys.clear();
        }
        if !roles.intersect(Roles::RESTORE.and(Roles::BACKUP)) {
            credential.chunk_id_key = None;
        }
        let (config, id) = (self.repository.config.clone(), self.repository.id);
        let backend = Arc::new(self.backend.clone());
        Repository::assemble(backend, self.repository.runtime.clone(), credential, config, id, 1, Settings::default())
    }

    fn author(&self, roles: Roles, seed: &Secret) -> Author {
        let credential = &self.repository.credential;
        let admin = Signer::new(credential.admin_seed.as_ref().unwrap());
        let signer = Signer::new(seed);
        let name = credential.author.certificate.credential();
        let certificate = Certificate::sign(&admin, &self.repository.id, 1, roles, DomainId([0; 16]), name, signer.verifying_key());
        Author { certificate, signer }
    }

    /// Writes an object whose body is one sealed part as a credential with these roles.
    fn write_as(&self, roles: Roles, name: ObjectName, plaintext: Vec<u8>) {
        let author = self.author(roles, &Secret::new([99; 32]));
        let object = author.sealed_object(&self.repository.header(name), self.repository.structure_key().unwrap(), plaintext);
        self.backend.put(&name, &object).unwrap();
    }

    /// The keys of entries that use a data pack, for every data pack, over all snapshots.
    fn users(&self) -> BTreeMap<ObjectName, BTreeSet<EntryKey>> {
        let repository = &self.repository;
        let reader = FrameReader::new(repository, repository.open_index().unwrap());
        let mut users: BTreeMap<ObjectName, BTreeSet<EntryKey>> = BTreeMap::new();
        let mut note = |id: &ChunkId, key: &EntryKey| {
            for place in reader.index().places_of(id).unwrap().found {
                let place = reader.index().frame(place.ordinal).unwrap().unwrap();
                users.entry(ObjectName::pack(place.kind, place.pack)).or_default().insert(key.clone());
            }
        };
        for snapshot in repository.snapshots().unwrap() {
            let chunks = repository.snapshot_chunks(&reader, &snapshot.header).unwrap();
            for entry in TreeWalk::new(&chunks, &snapshot.body.tree_root, KeyKind::Paths, KeyRange::all()).unwrap() {
                let entry = entry.unwrap();
                let EntryKind::File(file) = &entry.kind else { continue };
                match &file.chunks {
                    ChunkList::Inline(list) => list.iter().for_each(|chunk| note(&chunk.id, &entry.key)),
                    ChunkList::Recipe(root) => {
                        RecipeWalk::new(&chunks, root, file.size, 0).unwrap().for_each(|chunk| note(&chunk.unwrap().1.id, &entry.key))
                    }
                }
            }
        }
        users
    }
}

/// Replaces, makes or (`None`) removes an object.
fn set(backend: &MemoryBackend, name: &ObjectName, bytes: Option<&[u8]>) {
    let _ = backend.delete(name);
    if let Some(bytes) = bytes {
        backend.put(name, bytes).unwrap();
    }
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[at] ^= 4;
    flipped
}

/// Another name of the same kind.
fn copy_of(name: &ObjectName) -> ObjectName {
    let copy = match name.kind() {
        ObjectKind::Config | ObjectKind::Epoch => format!("{}/0000000007", name.kind().folder()),
        ObjectKind::Slot | ObjectKind::Beat => format!("{}/{}/0000000007", name.kind().folder(), SessionId([0xcc; 16])),
        kind if kind.is_pack() || kind == ObjectKind::Parity => format!("{}/cc/{}", kind.folder(), SessionId([0xcc; 16])),
        kind => format!("{}/{}", kind.folder(), SessionId([0xcc; 16])),
    };
    ObjectName::parse(&copy).unwrap()
}

fn paths(report: &CheckReport) -> BTreeSet<EntryKey> {
    report.findings.iter().flat_map(|finding| finding.paths.clone()).collect()
}

fn names(report: &CheckReport, object: &ObjectName) -> bool {
    report.findings.iter().any(|finding| finding.object == Some(*object))
}

#[test]
fn a_clean_repository_has_no_findings_whoever_looks() {
    let fixture = Fixture::with_all_kinds();
    let report = fixture.scrub();
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    assert_eq!(report.objects as usize, fixture.objects().len());
    assert!(report.snapshots == 3 && report.packs > 10 && report.chunks > 300, "{report:?}");
    let stored: usize = fixture.objects().values().map(Vec::len).sum();
    assert_eq!(report.bytes_read as usize, stored);
    assert!(fixture.check().findings.is_empty());
    let keyless = fixture.scrub_keyless();
    assert!(keyless.findings.is_empty(), "{:#?}", keyless.findings);
    assert_eq!((keyless.objects as usize, keyless.bytes_read as usize), (fixture.objects().len(), stored));
    assert!(keyless.notices.iter().any(|notice| notice.contains("unpinned")), "{:?}", keyless.notices);
    for roles in [Roles::BACKUP, Roles::MAINTAIN, Roles::RESTORE, Roles::BACKUP.and(Roles::MAINTAIN)] {
        let report = fixture.as_roles(roles).scrub(&Silent).unwrap();
        assert!(report.findings.is_empty(), "{roles}: {:#?}", report.findings);
    }
}

#[test]
fn every_flipped_byte_is_found_with_and_without_keys() {
    let fixture = Fixture::with_all_kinds();
    let users = fixture.users();
    let mut kinds = BTreeSet::new();
    for (number, (name, bytes)) in fixture.objects().into_iter().enumerate() {
        kinds.insert(name.kind());
        let turns = if bytes.len() < 4000 { 6 } else { 4 };
        for turn in 0..turns {
            let at = if turn == 0 { bytes.len() - 1 } else { pick(number as u64, turn, bytes.len()) };
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << pick(number as u64, 100 + turn, 8);
            fixture.set(&name, Some(&flipped));
            let report = fixture.scrub();
            assert!(names(&report, &name), "{name}, byte {at} of {}: {:#?}", bytes.len(), report.findings);
            assert!(names(&fixture.scrub_keyless(), &name), "{name}, byte {at}, keyless");
            if let Some(expected) = users.get(&name) {
                let paths = paths(&report);
                assert!(!paths.is_empty() && paths.is_subset(expected), "{name}, byte {at}: {paths:?} of {expected:?}");
            }
        }
        fixture.set(&name, Some(&bytes));
    }
    assert_eq!(kinds.len(), 15, "{kinds:?}");
    assert!(fixture.scrub().findings.is_empty());
}

#[test]
fn truncated_lengthened_and_empty_objects_are_found() {
    let fixture = Fixture::with_all_kinds();
    for (name, bytes) in fixture.objects() {
        for changed in [&bytes[..bytes.len() - 1], &bytes[..bytes.len() / 2], b"", &[&bytes[..], &[0]].concat()] {
            fixture.set(&name, Some(changed));
            let report = fixture.check();
            assert!(names(&report, &name), "{name} with {} of {} bytes: {:#?}", changed.len(), bytes.len(), report.findings);
            assert!(names(&fixture.scrub_keyless(), &name), "{name} with {} of {} bytes, keyless", changed.len(), bytes.len());
        }
        fixture.set(&name, Some(&bytes));
    }
}

#[test]
fn removed_objects_are_found_where_they_must_be_there() {
    let fixture = Fixture::with_all_kinds();
    let users = fixture.users();
    let closed: BTreeSet<_> = fixture.backend.list_sorted(ObjectKind::Closed).unwrap().iter().map(|object| object.name.id()).collect();
    for (name, bytes) in fixture.objects() {
        fixture.set(&name, None);
        let report = fixture.check();
        let is_missed = match name.kind() {
            ObjectKind::Config | ObjectKind::Slot | ObjectKind::Snapshot => true,
            ObjectKind::DataPack | ObjectKind::MetaPack | ObjectKind::RefsPack => true,
            ObjectKind::Session => closed.contains(&name.id()),
            // The newest one is not missed.
            ObjectKind::Epoch => name.number() == 1,
            _ => false,
        };
        assert_eq!(!report.findings.is_empty(), is_missed, "{name}: {:#?}", report.findings);
        if name.kind() == ObjectKind::Closed {
            assert!(report.notices.iter().any(|notice| notice.contains("suspect")), "{:?}", report.notices);
        }
        if let Some(expected) = users.get(&name) {
            assert_eq!(&paths(&report), expected, "{name}: {:#?}", report.findings);
        }
        fixture.set(&name, Some(&bytes));
    }
    assert!(fixture.check().findings.is_empty());
}

#[test]
fn swapped_objects_and_copies_under_other_names_are_found() {
    let fixture = Fixture::with_all_kinds();
    let objects = fixture.objects();
    for (name, bytes) in &objects {
        let other = objects.iter().find(|(other, _)| other.kind() == name.kind() && *other > name);
        if let Some((other, other_bytes)) = other {
            fixture.set(name, Some(other_bytes));
            fixture.set(other, Some(bytes));
            for report in [fixture.check(), fixture.scrub_keyless()] {
                assert!(names(&report, name) && names(&report, other), "{name}, {other}: {:#?}", report.findings);
            }
            fixture.set(name, Some(bytes));
            fixture.set(other, Some(other_bytes));
        }
        let copy = copy_of(name);
        fixture.set(&copy, Some(bytes));
        for report in [fixture.check(), fixture.scrub_keyless()] {
            let finding = report.findings.iter().find(|finding| finding.object == Some(copy)).unwrap();
            assert_eq!(finding.rule, Some("OBJ-6"), "{finding:?}");
        }
        fixture.set(&copy, None);
    }
}

#[test]
fn a_lost_epoch_is_found() {
    let fixture = Fixture::with_all_kinds();
    fixture.set(&ObjectName::epoch(1), None);
    for report in [fixture.check(), fixture.scrub()] {
        let finding = report.findings.iter().find(|finding| finding.object == Some(ObjectName::epoch(1))).unwrap();
        assert_eq!(finding.rule, Some("EPOCH-2"), "{finding:?}");
    }
}

#[test]
fn a_damaged_data_pack_names_all_files_that_suffer_and_no_others() {
    let fixture = Fixture::with_snapshots();
    let objects = fixture.objects();
    for (name, expected) in fixture.users() {
        let bytes = &objects[&name];
        // Everything from the frames on but the header is overwritten.
        let broken = [&bytes[..64], &vec![7; bytes.len() - 64][..]].concat();
        fixture.set(&name, Some(&broken));
        for report in [fixture.check(), fixture.scrub()] {
            assert_eq!(paths(&report), expected, "{name}: {:#?}", report.findings);
            let finding = report.findings.iter().find(|finding| finding.object == Some(name)).unwrap();
            assert!(!finding.snapshots.is_empty() && finding.paths_total >= expected.len() as u64, "{finding:?}");
        }
        fixture.set(&name, Some(bytes));
    }
}

#[test]
fn a_lost_meta_or_refs_pack_is_laid_to_the_snapshots_that_need_it() {
    let fixture = Fixture::with_snapshots();
    let stream = fixture.repository.snapshots().unwrap().into_iter().find(|snapshot| snapshot.body.series == "stream").unwrap();
    let mut hurt = 0;
    for kind in [ObjectKind::MetaPack, ObjectKind::RefsPack] {
        for object in fixture.backend.list_sorted(kind).unwrap() {
            let bytes = fixture.backend.get(&object.name, u64::MAX).unwrap();
            fixture.set(&object.name, None);
            let report = fixture.check();
            assert!(!report.findings.is_empty());
            let snapshots: BTreeSet<_> = report.findings.iter().flat_map(|finding| finding.snapshots.clone()).collect();
            if snapshots.contains(&stream.id) {
                assert_eq!(snapshots.len(), 1, "{snapshots:?} {:#?}", report.findings);
                assert_eq!(report.findings.iter().map(|finding| finding.paths_total).max(), Some(1), "{:#?}", report.findings);
                hurt += 1;
            }
            fixture.set(&object.name, Some(&bytes));
        }
    }
    assert!(hurt >= 2, "{hurt}");
}

#[test]
fn objects_signed_by_the_wrong_role_are_found() {
    let fixture = Fixture::with_snapshots();
    let snapshot = fixture.repository.snapshots().unwrap().remove(0);
    let session = snapshot.header.record.id();
    let epoch = EpochBody { predecessor: [0; 32], session, now: NOW, condemned: Vec::new(), withdrawn: Vec::new() };
    fixture.write_as(Roles::BACKUP.and(Roles::RESTORE), ObjectName::epoch(1), epoch.encode());
    for report in [fixture.check(), fixture.scrub_keyless()] {
        assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
        assert_eq!((report.findings[0].object, report.findings[0].rule), (Some(ObjectName::epoch(1)), Some("OBJ-9")));
    }
    fixture.set(&ObjectName::epoch(1), None);
    // Of another's session only maintain may withdraw snapshots; and nobody may beat for it.
    let withdrawn = WithdrawnBody { session, reason: WithdrawnReason::Forgotten, now: NOW };
    fixture.write_as(Roles::BACKUP, ObjectName::withdrawn(snapshot.id), withdrawn.encode());
    fixture.write_as(Roles::BACKUP, ObjectName::beat(session, 1), BeatBody { now: NOW }.encode());
    let report = fixture.check();
    let rules: Vec<_> = report.findings.iter().map(|finding| (finding.object.map(|name| name.kind()), finding.rule)).collect();
    assert_eq!(rules, [(Some(ObjectKind::Beat), Some("SESS-3")), (Some(ObjectKind::Withdrawn), Some("SESS-3"))]);
    // The snapshot counts all the same, so what it needs is missed.
    fixture.set(&ObjectName::snapshot(snapshot.id), None);
    assert!(names(&fixture.check(), &ObjectName::snapshot(snapshot.id)));
}

#[test]
fn a_writer_may_withdraw_its_own_snapshot_before_its_session_is_closed() {
    let fixture = Fixture::with_snapshots();
    let snapshot = fixture.repository.snapshots().unwrap().remove(0);
    let session = snapshot.header.record.id();
    let only_backup = fixture.as_roles(Roles::BACKUP);
    let own = Session::begin(&only_backup, SessionKind::Writer).unwrap().id();
    let withdrawal = |session| WithdrawnBody { session, reason: WithdrawnReason::Tombstone, now: NOW }.encode();
    only_backup.write_sealed(ObjectName::withdrawn(SnapshotId([8; 16])), withdrawal(own)).unwrap();
    assert!(fixture.check().findings.is_empty());
    assert_eq!(fixture.repository.snapshots().unwrap().len(), 3);
    // Another's it may not, whichever session it claims.
    for claimed in [session, own] {
        only_backup.write_sealed(ObjectName::withdrawn(snapshot.id), withdrawal(claimed)).unwrap();
        assert_eq!(fixture.check().findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(), [Some("SESS-3")]);
        let (snapshots, problems) = fixture.repository.snapshots_and_problems().unwrap();
        assert_eq!((snapshots.len(), problems.len()), (3, 1));
        fixture.set(&ObjectName::withdrawn(snapshot.id), None);
    }
}

#[test]
fn credentials_that_cannot_read_find_flipped_bytes_too() {
    let fixture = Fixture::with_snapshots();
    for roles in [Roles::MAINTAIN, Roles::BACKUP] {
        let repository = fixture.as_roles(roles);
        for (number, (name, bytes)) in fixture.objects().into_iter().enumerate() {
            let mut flipped = bytes.clone();
            flipped[64 + pick(500 + number as u64, u64::from(roles.bits()), bytes.len() - 64)] ^= 0x10;
            fixture.set(&name, Some(&flipped));
            let report = repository.scrub(&Silent).unwrap();
            assert!(names(&report, &name), "{roles}: {name}");
            if name.kind() == ObjectKind::DataPack {
                let hurt = report.findings.iter().find(|finding| finding.object == Some(name)).unwrap();
                assert!(!hurt.snapshots.is_empty(), "{roles}: {hurt:?}");
            }
            fixture.set(&name, Some(&bytes));
        }
    }
}

/// Deletes a snapshot and what only it needs when packs are about to be checked, as forget and gc would.
#[derive(Debug)]
struct Collector<'a> {
    backend: &'a MemoryBackend,
    delete: Vec<ObjectName>,
    done: AtomicBool,
}

impl Progress for Collector<'_> {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::Phase { name: "check packs", .. }) && !self.done.swap(true, Ordering::Relaxed) {
            self.delete.iter().for_each(|name| self.backend.delete(name).unwrap());
        }
    }
}

#[test]
fn what_vanishes_meanwhile_is_no_finding_unless_it_is_needed() {
    let fixture = Fixture::with_snapshots();
    let stream = fixture.repository.snapshots().unwrap().into_iter().find(|snapshot| snapshot.body.series == "stream").unwrap();
    let users = fixture.users();
    let only = |name: &ObjectName| users.get(name).is_some_and(|keys| keys.iter().all(|key| *key == join_key(["dump.sql"])));
    let packs: Vec<_> = users.keys().filter(|name| only(name)).copied().collect();
    assert!(!packs.is_empty());
    let before = fixture.objects();
    let collect = |delete: Vec<ObjectName>| {
        let collector = Collector { backend: &fixture.backend, delete, done: AtomicBool::new(false) };
        fixture.repository.check(&collector).unwrap()
    };
    let report = collect([&packs[..], &[ObjectName::snapshot(stream.id), ObjectName::closed(stream.header.record.id())]].concat());
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    before.iter().for_each(|(name, bytes)| fixture.set(name, Some(bytes)));
    let report = collect(packs);
    assert_eq!(paths(&report), BTreeSet::from([join_key(["dump.sql"])]), "{:#?}", report.findings);
}

#[test]
fn a_config_chain_must_hold_together() {
    let fixture = Fixture::with_snapshots();
    let write_joining = |generation: u32, predecessor: [u8; 32], second_predecessor: [u8; 32]| {
        let credential = &fixture.repository.credential;
        let admin = Signer::new(credential.admin_seed.as_ref().unwrap());
        let author = Author { certificate: Certificate::of_admin(&admin, &fixture.repository.id, 1), signer: admin };
        let mut config = fixture.repository.config.clone();
        (config.predecessor, config.second_predecessor) = (predecessor, second_predecessor);
        let header = crate::format::object::Header { structure_epoch: 0, ..fixture.repository.header(ObjectName::config(generation)) };
        let object = author.object(&header, &config.encode());
        fixture.set(&header.name, Some(&object));
        *object.last_chunk::<32>().unwrap()
    };
    let write = |generation, predecessor| write_joining(generation, predecessor, [0; 32]);
    let first = fixture.backend.get(&ObjectName::config(1), u64::MAX).unwrap();
    let second = write(2, *first.last_chunk().unwrap());
    write(3, second);
    assert!(fixture.check().findings.is_empty());
    write(3, [9; 32]);
    for report in [fixture.check(), fixture.scrub_keyless()] {
        assert_eq!(report.findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(), [Some("CFG-2")]);
        assert!(names(&report, &ObjectName::config(3)));
    }
    // One that joins a fork names both ends; this copy of the repository has only one of them.
    for (predecessor, other) in [(second, [9; 32]), ([9; 32], second)] {
        write_joining(3, predecessor, other);
        assert!(fixture.check().findings.is_empty() && fixture.scrub_keyless().findings.is_empty());
    }
    write_joining(3, [9; 32], [8; 32]);
    assert!(names(&fixture.check(), &ObjectName::config(3)));
    write(3, second);
    fixture.set(&ObjectName::config(2), None);
    assert!(names(&fixture.check(), &ObjectName::config(2)));
}

#[test]
fn an_unusable_backend_and_a_caller_who_wants_to_stop_end_the_check() {
    let fixture = Fixture::with_snapshots();
    let cancel = Cancel::default();
    cancel.cancel();
    assert_eq!(fixture.repository.scrub(&cancel).unwrap_err().kind(), ErrorKind::Cancelled);
    let empty = MemoryBackend::new();
    let result: Result<CheckReport> = scrub_keyless(&empty, &fixture.repository.runtime, &Silent);
    assert_eq!(result.map_err(|error: Error| error.kind()).unwrap_err(), ErrorKind::NoRepository);
}

#[test]
fn stats_count_shared_content_once() {
    let fixture = Fixture::with_snapshots();
    let mut snapshots = fixture.repository.snapshots().unwrap();
    snapshots.sort_by_key(|snapshot| (snapshot.body.series == "stream", snapshot.header.sequence));
    let all = fixture.repository.stats(None, &Silent).unwrap();
    let each: Vec<_> = snapshots.iter().map(|snapshot| fixture.repository.stats(Some(snapshot), &Silent).unwrap()).collect();
    assert_eq!(all.snapshots, 3);
    assert_eq!(each.iter().map(|stats| stats.files).collect::<Vec<_>>(), [25, 25, 1]);
    assert_eq!(all.files, 51);
    assert_eq!(all.logical_bytes, each.iter().map(|stats| stats.logical_bytes).sum::<u64>());
    assert_eq!(all.objects as usize, fixture.objects().len());
    let content = (300 << 10) + (0..24).map(|n| 1 + (n * 613) % 9000).sum::<u64>();
    assert_eq!(each[0].logical_bytes, content);
    // Noise does not compress: what is unique is a little more than the content, and the second snapshot adds little.
    assert!((content..content + content / 8).contains(&each[0].unique_bytes), "{:?} {content}", each[0]);
    assert!(all.unique_bytes < each[0].unique_bytes + 7_000 + (130 << 10) + (40 << 10), "{all:?}");
    assert!(each[0].stored_bytes >= content && all.stored_bytes > each[0].stored_bytes, "{all:?}");
    assert!(each[0].unique_chunks > 300 && each[2].unique_chunks > 64, "{each:?}");
}

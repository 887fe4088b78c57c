//! Rot, in full: every kind of object, damaged in every way. What is asked each time:
//!
//! - it is detected and named, with keys and without;
//! - nothing wrong is ever restored;
//! - never late: what a restore cannot give back, scrub has laid to that snapshot and that path;
//! - contained: nobody suffers but who would suffer if the object were not there at all.

use super::*;
use crate::format::relocations::RelocationsBody;
use crate::gc::{GcOptions, refresh_index_objects};
use crate::restore::RestoreOptions;
use std::path::Path;

/// What a snapshot holds, by the keys of its files.
type Content = BTreeMap<EntryKey, Vec<u8>>;

/// A small repository with objects of every kind that is written, and what is in its snapshots.
struct Rot {
    fixture: Fixture,
    objects: BTreeMap<ObjectName, Vec<u8>>,
    /// The objects as they were after each of the snapshots was made.
    states: Vec<BTreeMap<ObjectName, Vec<u8>>>,
    snapshots: BTreeMap<SnapshotId, Content>,
    key: Key,
}

/// Of a snapshot, what a restore did not give back.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lost {
    /// These files.
    Files(BTreeSet<EntryKey>),
    /// All of it, or nobody knows how much.
    All,
}

type Outcome = BTreeMap<SnapshotId, Lost>;

impl Rot {
    fn new() -> Self {
        let key = Key::KeyFile(Secret::new([5; 32]));
        let fixture = Fixture::empty_for(&key);
        let mut rot = Self { fixture, objects: BTreeMap::new(), states: Vec::new(), snapshots: BTreeMap::new(), key };
        let common = noise(1, 12_000);
        let forgotten = rot.stream("s", common.clone());
        rot.snapshots.remove(&forgotten);
        rot.stream("s", [&common[..3000], &noise(2, 2000)].concat());
        // Of the frames of the first little is needed: what is, goes into new ones, to which relocations lead.
        rot.fixture.repository.forget(&[forgotten], &Silent).unwrap();
        rot.fixture.repository.gc(&GcOptions { dead_percent_max: 0 }, &Silent).unwrap();
        rot.states.push(rot.fixture.objects());
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("d")).unwrap();
        for (name, seed, length) in [("a", 10, 700), ("b", 11, 3100), ("d/c", 12, 1500), ("d/e", 13, 0)] {
            std::fs::write(folder.path().join(name), noise(seed, length)).unwrap();
        }
        rot.backup(folder.path());
        // Compressed against what it was.
        let mut edited = noise(11, 3100);
        edited[1700] ^= 1;
        std::fs::write(folder.path().join("b"), edited).unwrap();
        rot.backup(folder.path());
        let fixture = &rot.fixture;
        fixture.add_companions();
        let packs = fixture.repository.list_packs().unwrap();
        let packs: Vec<_> = packs.iter().map(|pack| (pack.name.kind(), pack.name.pack_id().unwrap())).collect();
        refresh_index_objects(&fixture.repository, &packs, &BTreeSet::new()).unwrap();
        rot.objects = fixture.objects();
        rot
    }

    fn stream(&mut self, name: &str, content: Vec<u8>) -> SnapshotId {
        let source = Box::new(std::io::Cursor::new(content.clone()));
        // Garbage collection makes no frame anew against which others are compressed.
        let mut options = BackupOptions::new("stream");
        options.delta = false;
        let made = self.fixture.repository.backup_stream(name, source, &options, &Silent).unwrap();
        self.keep(made.snapshot.unwrap(), Content::from([(join_key([name]), content)]))
    }

    fn backup(&mut self, folder: &Path) {
        let roots = Roots::resolve(&[folder.join(".")]).unwrap();
        self.fixture.repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("tests"), &Silent).unwrap();
        let known: BTreeSet<_> = self.snapshots.keys().copied().collect();
        let made = self.fixture.repository.snapshots().unwrap().into_iter().find(|snapshot| !known.contains(&snapshot.id)).unwrap();
        self.keep(made.id, content_of(folder));
    }

    fn keep(&mut self, id: SnapshotId, content: Content) -> SnapshotId {
        self.snapshots.insert(id, content);
        self.states.push(self.fixture.objects());
        id
    }

    /// Another client meets this store.
    fn open(&self) -> Result<Repository> {
        Repository::open(Arc::new(self.fixture.backend.clone()), Runtime::seeded(12, NOW, 2), &self.key, Settings::default())
    }

    /// Restores every snapshot. Panics where anything wrong comes out.
    fn restore(&self) -> Outcome {
        let before = self.fixture.objects();
        let Ok(repository) = self.open() else { return self.snapshots.keys().map(|id| (*id, Lost::All)).collect() };
        let lost = |(id, content): (&SnapshotId, &Content)| {
            let target = target();
            let restored = repository
                .find_snapshot(&id.to_string(), None, None)
                .and_then(|snapshot| repository.restore(&snapshot, target.path(), &RestoreOptions::default(), &Silent));
            let found = content_of(target.path());
            found.iter().for_each(|(path, bytes)| assert!(content.get(path) == Some(bytes), "{id}: {path:?} was restored wrong"));
            let lost: BTreeSet<_> = content.keys().filter(|path| !found.contains_key(*path)).cloned().collect();
            match restored {
                Err(_) => (*id, Lost::All),
                Ok(summary) => {
                    assert!(lost.is_empty() || summary.items_failed > 0 && summary.damaged, "{id}: silent about {lost:?}");
                    (*id, Lost::Files(lost))
                }
            }
        };
        let outcome = self.snapshots.iter().map(lost).collect();
        // A restore leaves its session behind.
        let added: Vec<_> = self.fixture.objects().into_keys().filter(|name| !before.contains_key(name)).collect();
        added.iter().for_each(|name| self.fixture.set(name, None));
        outcome
    }

    fn reset(&self) {
        self.fixture.objects().keys().for_each(|name| self.fixture.set(name, None));
        self.objects.iter().for_each(|(name, bytes)| self.fixture.set(name, Some(bytes)));
    }

    /// What a scrub says of what restores lose. `victims` would suffer if all that was damaged were gone.
    fn compare(&self, what: &str, report: &CheckReport, victims: &Outcome) {
        let is_openable = self.open().is_ok();
        for (id, lost) in self.restore() {
            let said = report.hurt.iter().find(|hurt| hurt.snapshot == id);
            match &lost {
                Lost::Files(files) if files.is_empty() => {}
                Lost::All if !is_openable => assert!(!report.findings.is_empty(), "{what}: nothing opens, and nothing was said"),
                Lost::All => assert!(said.is_some(), "{what}: {id} is lost, and scrub did not say so: {:#?}", report.findings),
                Lost::Files(files) => {
                    let said: BTreeSet<_> = said.iter().flat_map(|hurt| hurt.paths.clone()).collect();
                    assert!(files.is_subset(&said), "{what}: {id} lost {files:?}, and scrub said {said:?}");
                }
            }
        }
        for hurt in &report.hurt {
            let paths: BTreeSet<_> = hurt.paths.iter().cloned().collect();
            match victims.get(&hurt.snapshot) {
                // A name that no snapshot has: of what lies there scrub can only say that it is none.
                None if names(report, &ObjectName::snapshot(hurt.snapshot)) => {}
                Some(Lost::All) => {}
                Some(Lost::Files(files)) if !files.is_empty() => assert!(paths.is_subset(files), "{what}: {paths:?} suffer, not {files:?}"),
                _ => panic!("{what}: {} does not suffer: {:#?}", hurt.snapshot, report.findings),
            }
        }
    }

    /// What is lost where these objects are gone.
    fn victims_of(&self, names: &[ObjectName]) -> Outcome {
        names.iter().for_each(|name| self.fixture.set(name, None));
        let victims = self.restore();
        self.reset();
        victims
    }
}

fn content_of(folder: &Path) -> Content {
    let mut content = Content::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            content.extend(content_of(&entry.path()).into_iter().map(|(key, bytes)| ([name.as_bytes(), &[0], &key].concat(), bytes)));
        } else {
            content.insert(name.into_bytes(), std::fs::read(entry.path()).unwrap());
        }
    }
    content
}

/// In memory where that is possible: every restore waits for the file system.
fn target() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Lengths at which something ends: nothing, header, the least an object may have, parts of a pack, trailer, all but a byte.
fn lengths(name: &ObjectName, bytes: &[u8]) -> BTreeSet<usize> {
    let size = bytes.len();
    let mut lengths = BTreeSet::from([0, 1, 7, 63, 64, 65, 311, 312, size / 2, size - 248, size - 96, size - 32, size - 1]);
    if name.kind().is_pack() {
        let footer = &bytes[size - 264..];
        let length = |at: usize| u32::from_le_bytes(footer[at..at + 4].try_into().unwrap()) as usize;
        lengths.extend([64 + length(0) - 1, 64 + length(0), 64 + length(0) + length(4), size - 264]);
    }
    lengths.into_iter().filter(|length| *length < size).collect()
}

#[test]
fn the_small_repository_has_every_kind() {
    let rot = Rot::new();
    let kinds: BTreeSet<_> = rot.objects.keys().map(|name| name.kind()).collect();
    assert!((1..=14).chain([17]).all(|kind| kinds.contains(&ObjectKind::from_number(kind).unwrap())), "{kinds:?}");
    let relocations = rot.objects.keys().find(|name| name.kind() == ObjectKind::Relocation).unwrap();
    RelocationsBody::decode(&rot.fixture.repository.read_sealed(relocations).unwrap().plaintext).unwrap();
    assert!(rot.fixture.repository.stats(None, &Silent).unwrap().delta_bytes > 0);
    assert!(rot.fixture.scrub().findings.is_empty() && rot.fixture.scrub_keyless().findings.is_empty());
    assert!(rot.restore().values().all(|lost| *lost == Lost::Files(BTreeSet::new())));
}

/// Each byte of each object once, beside nothing but the configs and slots without which nothing is known: a keyless scrub checks every
/// object for itself.
#[test]
fn every_byte_of_every_object_counts() {
    let rot = Rot::new();
    let is_ground = |name: &&ObjectName| matches!(name.kind(), ObjectKind::Config | ObjectKind::Slot);
    for (number, (name, bytes)) in rot.objects.iter().enumerate() {
        let backend = MemoryBackend::new();
        rot.objects
            .iter()
            .filter(|(other, _)| is_ground(other) || *other == name)
            .for_each(|(name, bytes)| backend.put(name, bytes).unwrap());
        let scrub = || scrub_keyless(&backend, &rot.fixture.repository.runtime, &Silent).unwrap();
        assert!(!names(&scrub(), name));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << pick(number as u64, at as u64, 8);
            backend.delete(name).unwrap();
            backend.put(name, &flipped).unwrap();
            assert!(names(&scrub(), name), "{name}, byte {at} of {}", bytes.len());
        }
    }
}

#[test]
fn truncated_flipped_and_overwritten_objects_are_named_and_contained() {
    let rot = Rot::new();
    for (number, (name, bytes)) in rot.objects.iter().enumerate() {
        let victims = rot.victims_of(&[*name]);
        let cut = lengths(name, bytes).into_iter().map(|length| (format!("{name} cut to {length}"), bytes[..length].to_vec()));
        let longer = [(format!("{name} and a byte"), [&bytes[..], &[0]].concat()), (format!("{name} zeroed"), vec![0; bytes.len()])];
        let flips = (0..3).map(|turn| {
            let at = pick(900 + number as u64, turn, bytes.len());
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x20;
            (format!("{name} byte {at}"), flipped)
        });
        for (what, changed) in cut.chain(longer).chain(flips) {
            rot.fixture.set(name, Some(&changed));
            let report = rot.fixture.scrub();
            assert!(names(&report, name), "{what}: {:#?}", report.findings);
            assert!(names(&rot.fixture.scrub_keyless(), name), "{what}, keyless");
            rot.compare(&what, &report, &victims);
            rot.reset();
        }
    }
}

#[test]
fn swapped_and_duplicated_objects_are_named_and_contained() {
    let rot = Rot::new();
    for (name, bytes) in &rot.objects {
        let others = rot.objects.iter().filter(|(other, _)| other.kind() == name.kind() && *other > name);
        for (other, other_bytes) in others.take(2) {
            let victims = rot.victims_of(&[*name, *other]);
            rot.fixture.set(name, Some(other_bytes));
            rot.fixture.set(other, Some(bytes));
            let report = rot.fixture.scrub();
            for report in [&report, &rot.fixture.scrub_keyless()] {
                assert!(names(report, name) && names(report, other), "{name}, {other}: {:#?}", report.findings);
            }
            rot.compare(&format!("{name} and {other}"), &report, &victims);
            rot.reset();
        }
        let copy = copy_of(name);
        rot.fixture.set(&copy, Some(bytes));
        let report = rot.fixture.scrub();
        for report in [&report, &rot.fixture.scrub_keyless()] {
            assert!(report.findings.iter().any(|finding| finding.object == Some(copy) && finding.rule == Some("OBJ-6")), "{copy}");
        }
        // A config or slot that admin did not sign under that number may stop who opens the repository, and nobody else.
        rot.compare(&format!("a copy of {name}"), &report, &rot.victims_of(&[]));
        rot.reset();
    }
}

#[test]
fn removed_objects_hurt_nobody_who_was_not_told() {
    let rot = Rot::new();
    let closed: BTreeSet<_> = rot.objects.keys().filter(|name| name.kind() == ObjectKind::Closed).map(|name| name.id()).collect();
    for name in rot.objects.keys() {
        let victims = rot.victims_of(&[*name]);
        rot.fixture.set(name, None);
        let report = rot.fixture.scrub();
        rot.compare(&format!("{name} removed"), &report, &victims);
        let is_hurt = victims.values().any(|lost| *lost != Lost::Files(BTreeSet::new()));
        let is_missed = match name.kind() {
            ObjectKind::Config | ObjectKind::Slot | ObjectKind::Snapshot => true,
            ObjectKind::Session => closed.contains(&name.id()) && is_hurt,
            // The newest one is not missed.
            ObjectKind::Epoch => rot.objects.contains_key(&ObjectName::epoch(name.number() + 1)),
            _ => is_hurt,
        };
        assert!(!is_missed || !report.findings.is_empty(), "{name} removed");
        rot.reset();
    }
}

/// A store that serves what it had earlier: all of it, and of each kind alone.
#[test]
fn an_older_state_hurts_nobody_who_was_not_told() {
    let rot = Rot::new();
    for (age, state) in rot.states.iter().enumerate() {
        let kinds = ObjectKind::ALL.into_iter().map(|kind| vec![kind]).chain([ObjectKind::ALL.to_vec()]);
        for kinds in kinds {
            let is_old = |name: &ObjectName| kinds.contains(&name.kind());
            let lost: Vec<_> = rot.objects.keys().filter(|name| is_old(name) && !state.contains_key(*name)).copied().collect();
            let back = state.iter().filter(|(name, _)| is_old(name) && !rot.objects.contains_key(*name));
            let back: Vec<_> = back.collect();
            if lost.is_empty() && back.is_empty() {
                continue;
            }
            let put = || {
                lost.iter().for_each(|name| rot.fixture.set(name, None));
                back.iter().for_each(|(name, bytes)| rot.fixture.set(name, Some(bytes)));
            };
            put();
            let victims = rot.restore();
            let report = rot.fixture.scrub();
            if kinds.len() == 1 {
                rot.compare(&format!("{kinds:?} of state {age}"), &report, &victims);
            }
            rot.reset();
        }
    }
}

//! Rot, in full: every kind of object, damaged in every way. What is asked each time:
//!
//! - it is detected and named, with keys and without;
//! - nothing wrong is ever restored;
//! - never late: what a restore cannot give back, scrub has laid to that snapshot and that path;
//! - contained: nobody suffers but who would suffer if the object were not there at all.

use super::*;
use crate::format::relocations::{MovedChunk, RelocatedFrame, RelocationsBody};
use crate::format::tree::{TreeNode, decode_tree_node};
use crate::gc::{GcOptions, write_index_objects};
use crate::id::{FrameId, RelocationsId};
use crate::restore::RestoreOptions;
use crate::tiers::TierPolicy;
use crate::tree::{NodeKind, NodeSource};
use std::path::Path;

/// What a snapshot holds, by the keys of its files.
type Content = BTreeMap<EntryKey, Vec<u8>>;
type Objects = BTreeMap<ObjectName, Vec<u8>>;

/// Files of the folder whose tree has inner nodes. With these names, since the hash of a name ends a leaf.
const WIDE_FILES: u64 = 640;
const WIDE_PREFIX: &str = "f";

/// A small repository, and what is in its snapshots.
struct Rot {
    fixture: Fixture,
    /// Where packs lie that moved to the tier.
    shelf: MemoryBackend,
    moved: BTreeSet<ObjectName>,
    /// All objects, those of the shelf among them.
    objects: Objects,
    /// The objects beside the shelf as they were after each step.
    states: Vec<Objects>,
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
    fn empty(options: &CreateOptions) -> Self {
        let key = Key::KeyFile(Secret::new([5; 32]));
        let fixture = Fixture::create_for(&key, options);
        let (moved, objects, states, snapshots) = Default::default();
        Self { fixture, shelf: MemoryBackend::new(), moved, objects, states, snapshots, key }
    }

    /// With objects of every kind that is written, and several of most; but without parity.
    fn new() -> Self {
        let mut rot = Self::empty(&small());
        let common = noise(1, 12_000);
        let forgotten = rot.stream("stream", common.clone());
        rot.snapshots.remove(&forgotten);
        rot.stream("stream", [&common[..3000], &noise(2, 2000)].concat());
        // Of the frames of the first little is needed: what is, goes into new ones, to which relocations lead.
        rot.fixture.repository.forget(&[forgotten], &Silent).unwrap();
        rot.fixture.repository.gc(&GcOptions { dead_percent_max: 0 }, &Silent).unwrap();
        rot.states.push(rot.fixture.objects());
        rot.stream("moved", noise(3, 3000));
        rot.stream("moved", noise(4, 2000));
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("d")).unwrap();
        for (name, seed, length) in [("a", 10, 700), ("b", 11, 3100), ("d/c", 12, 1500), ("d/e", 13, 0)] {
            std::fs::write(folder.path().join(name), noise(seed, length)).unwrap();
        }
        rot.backup(folder.path());
        let rotation = rot.fixture.repository.plan_rotation(None).unwrap();
        rot.fixture.repository.rotate(&rotation).unwrap();
        rot.fixture.repository = rot.open_as(21, None).unwrap();
        // Compressed against what it was.
        let mut edited = noise(11, 3100);
        edited[1700] ^= 1;
        std::fs::write(folder.path().join("b"), edited).unwrap();
        let held = rot.backup(folder.path());
        rot.fixture.repository.hold(&[held], "note").unwrap();
        rot.states.push(rot.fixture.objects());
        rot.fixture.repository.add_tier(&TierBody::new("cold", "shelf")).unwrap();
        let moved = rot.fixture.repository.tier_apply(&TierPolicy::new("cold"), &Silent).unwrap();
        assert!(moved.moved.packs > 0, "{moved:#?}");
        rot.states.push(rot.fixture.objects());
        rot.add_companions();
        rot.finish()
    }

    /// Takes in what is stored now, on the shelf, too; not what says which shelf it is.
    fn finish(mut self) -> Self {
        let packs: Vec<_> = self.shelf.list_sorted(ObjectKind::DataPack).unwrap().into_iter().map(|object| object.name).collect();
        self.objects = self.fixture.objects();
        self.objects.extend(packs.iter().map(|name| (*name, self.shelf.get(name, u64::MAX).unwrap())));
        self.moved = packs.into_iter().collect();
        self
    }

    /// Adds what the above makes none or only one of.
    fn add_companions(&self) {
        self.fixture.add_companions();
        let repository = &self.fixture.repository;
        let session = Session::begin(repository, SessionKind::Writer).unwrap().id();
        repository.write_sealed(ObjectName::tombstone(session), TombstoneBody { epoch: 1, now: NOW }.encode()).unwrap();
        let withdrawn = WithdrawnBody { session, reason: WithdrawnReason::Forgotten, now: NOW };
        repository.write_sealed(ObjectName::withdrawn(SnapshotId([4; 16])), withdrawn.encode()).unwrap();
        let reserved = ObjectName::parse(&format!("scrubbed/{}", SnapshotId([4; 16]))).unwrap();
        repository.write_sealed(reserved, vec![4, 5, 6]).unwrap();
        let moved = vec![MovedChunk { position: 0, counter: 0, new_position: 0 }];
        let frames = vec![RelocatedFrame { frame: FrameId { session, number: 7 }, chunks: 3, moved }];
        let relocations = RelocationsBody { session: SessionId([9; 16]), now: NOW, frames };
        repository.write_sealed(ObjectName::relocations(RelocationsId([4; 16])), relocations.encode()).unwrap();
        let packs = repository.list_packs().unwrap();
        let packs: Vec<_> = packs.iter().map(|pack| (pack.name.kind(), pack.name.pack_id().unwrap())).collect();
        for half in packs.chunks(packs.len().div_ceil(2)) {
            write_index_objects(repository, &half.iter().copied().collect()).unwrap();
        }
    }

    /// Of few bytes.
    fn tiny() -> Self {
        let mut rot = Self::empty(&small());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), noise(10, 300)).unwrap();
        std::fs::write(folder.path().join("b"), noise(11, 900)).unwrap();
        rot.backup(folder.path());
        rot.stream("stream", noise(12, 700));
        rot.finish()
    }

    /// A folder whose tree has inner nodes, and a stream that has a recipe; with frames enough that most files do not stand in the same.
    fn wide() -> Self {
        let mut rot = Self::empty(&small());
        let folder = tempfile::tempdir().unwrap();
        for number in 0..WIDE_FILES {
            std::fs::write(folder.path().join(format!("{WIDE_PREFIX}{number}")), noise(number, 40 + number as usize % 80)).unwrap();
        }
        rot.backup(folder.path());
        rot.stream("stream", noise(1_000_000, 100_000));
        rot.finish()
    }

    fn with_parity() -> Self {
        let mut rot = Self::empty(&CreateOptions { parity_percent: 3, ..small() });
        rot.states.push(rot.fixture.objects());
        rot.stream("stream", noise(1, 3000));
        rot.stream("stream", noise(2, 3000));
        rot.finish()
    }

    fn stream(&mut self, series: &str, content: Vec<u8>) -> SnapshotId {
        let source = Box::new(std::io::Cursor::new(content.clone()));
        // Garbage collection makes no frame anew against which others are compressed.
        let options = BackupOptions { delta: false, ..BackupOptions::new(series) };
        let made = self.fixture.repository.backup_stream("s", source, &options, &Silent).unwrap();
        self.keep(made.snapshot.unwrap(), Content::from([(join_key(["s"]), content)]))
    }

    fn backup(&mut self, folder: &Path) -> SnapshotId {
        let roots = Roots::resolve(&[folder.join(".")]).unwrap();
        let made = self.fixture.repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("tests"), &Silent).unwrap();
        self.keep(made.snapshot.unwrap(), content_of(folder))
    }

    fn keep(&mut self, id: SnapshotId, content: Content) -> SnapshotId {
        self.snapshots.insert(id, content);
        self.states.push(self.fixture.objects());
        id
    }

    /// Opens the repository as a process of its own, which remembers what it saw in `sightings`.
    fn open_as(&self, seed: u64, sightings: Option<&Path>) -> Result<Repository> {
        let mut settings = Settings::default().with_tier_opener(Arc::new(Shelf(self.shelf.clone())));
        settings.sightings = sightings.map(Path::to_owned);
        Repository::open(Arc::new(self.fixture.backend.clone()), Runtime::seeded(seed, NOW, 2), &self.key, settings)
    }

    /// Another client meets this store.
    fn open(&self) -> Result<Repository> {
        self.open_as(12, None)
    }

    /// A scrub by another client; where nothing opens, by the one that was there before.
    fn scrub(&self) -> CheckReport {
        self.open().map_or_else(|_| self.fixture.scrub(), |repository| repository.scrub(&Silent).unwrap())
    }

    /// Replaces, makes or (`None`) removes an object, where it lies.
    fn set(&self, name: &ObjectName, bytes: Option<&[u8]>) {
        set(if self.moved.contains(name) { &self.shelf } else { &self.fixture.backend }, name, bytes);
    }

    fn reset(&self) {
        self.fixture.objects().keys().for_each(|name| self.fixture.set(name, None));
        self.objects.iter().for_each(|(name, bytes)| self.set(name, Some(bytes)));
    }

    /// Restores every snapshot. Panics where anything wrong comes out.
    fn restore(&self) -> Outcome {
        let before = self.fixture.objects();
        let is_told = |error: &Error| match error.kind() {
            // A byte in which the format is told.
            ErrorKind::Unsupported => error.broken_rule().is_some(),
            kind => matches!(kind, ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::Unauthorized),
        };
        let repository = match self.open() {
            Ok(repository) => repository,
            Err(error) => {
                assert!(is_told(&error), "{error:?}");
                return self.snapshots.keys().map(|id| (*id, Lost::All)).collect();
            }
        };
        let (listed, _) = repository.snapshots_and_problems().unwrap_or_default();
        let lost = |(id, content): (&SnapshotId, &Content)| {
            let target = target();
            let restored = match listed.iter().find(|snapshot| snapshot.id == *id) {
                Some(snapshot) => repository.restore(snapshot, target.path(), &RestoreOptions::default(), &Silent),
                None => Err(repository.find_snapshot(&id.to_string(), None, None).unwrap_err()),
            };
            let found = content_of(target.path());
            found.iter().for_each(|(path, bytes)| assert!(content.get(path) == Some(bytes), "{id}: {path:?} was restored wrong"));
            let lost: BTreeSet<_> = content.keys().filter(|path| !found.contains_key(*path)).cloned().collect();
            match restored {
                Err(error) => {
                    assert!(is_told(&error), "{id}: {error:?}");
                    (*id, Lost::All)
                }
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

    /// What a scrub says of what restores lose after objects of these names were `touched`; gives what they lose. `victims` would suffer if all that
    /// was damaged were gone; without any it is gone.
    fn compare(&self, what: &str, touched: &[ObjectName], report: &CheckReport, victims: Option<&Outcome>) -> Outcome {
        let outcome = self.restore();
        let is_of_ground = touched.iter().any(is_ground);
        assert!(is_of_ground || self.open().is_ok(), "{what}: nothing opens");
        for (id, lost) in &outcome {
            let said = report.hurt.iter().find(|hurt| hurt.snapshot == *id);
            match lost {
                Lost::Files(files) if files.is_empty() => {}
                // Nobody gets in, or not with the keys in force, and no snapshot is to blame.
                Lost::All if is_of_ground => {
                    let is_said = report.findings.iter().any(|finding| finding.object.as_ref().is_none_or(is_ground));
                    assert!(is_said, "{what}: {id} is lost, and nothing was said of that: {:#?}", report.findings);
                }
                Lost::All => {
                    let is_said = said.is_some_and(|hurt| hurt.paths_total > 0) || names(report, &ObjectName::snapshot(*id));
                    assert!(is_said, "{what}: {id} is lost, and scrub did not say so: {report:#?}");
                }
                Lost::Files(files) => {
                    let said = said.unwrap_or_else(|| panic!("{what}: {id} lost {files:?}, and scrub did not say so: {report:#?}"));
                    // Of a range of a tree that is lost the last key is told, and how many there were.
                    let is_said = |file: &EntryKey| match touched.iter().any(|name| name.kind() == ObjectKind::MetaPack) {
                        true => said.paths.last().is_some_and(|last| last >= file),
                        false => said.paths.binary_search(file).is_ok(),
                    };
                    assert!(files.iter().all(is_said), "{what}: {id} lost {files:?}, and scrub said {said:?}");
                    assert!(said.paths_total >= files.len() as u64, "{what}: {id} lost {files:?}, and scrub said {said:?}");
                }
            }
        }
        for hurt in &report.hurt {
            match victims.unwrap_or(&outcome).get(&hurt.snapshot) {
                // A name that no snapshot has: of what lies there scrub can only say that it is none.
                None if names(report, &ObjectName::snapshot(hurt.snapshot)) => {}
                Some(Lost::All) => {}
                Some(Lost::Files(files)) if !files.is_empty() => {
                    let is_contained = hurt.paths.iter().all(|path| files.contains(path)) && hurt.paths_total <= files.len() as u64;
                    assert!(is_contained, "{what}: {hurt:?} suffers, not {files:?}");
                }
                _ => panic!("{what}: {} does not suffer: {report:#?}", hurt.snapshot),
            }
        }
        outcome
    }

    /// Flips a byte of an object: it is named, and [`Rot::compare`]. Of content those are told to suffer who do, and no others of the pack.
    fn flip(&self, name: &ObjectName, at: usize, victims: &Outcome) -> Outcome {
        let bytes = &self.objects[name];
        self.set(name, Some(&flipped(bytes, at)));
        let (what, report) = (format!("{name} byte {at} of {}", bytes.len()), self.scrub());
        assert!(names(&report, name), "{what}: {:#?}", report.findings);
        let outcome = self.compare(&what, &[*name], &report, Some(victims));
        if name.kind() == ObjectKind::DataPack && at < frames_end(bytes) {
            for (id, lost) in &outcome {
                let said = report.hurt.iter().find(|hurt| hurt.snapshot == *id);
                let said: BTreeSet<_> = said.iter().flat_map(|hurt| hurt.paths.clone()).collect();
                // The header is of no frame.
                assert!(at < 64 || *lost == Lost::Files(said.clone()), "{what}: {id} lost {lost:?}, and scrub said {said:?}");
            }
        }
        self.set(name, Some(bytes));
        outcome
    }

    /// What is lost where these objects are gone.
    fn victims_of(&self, names: &[ObjectName]) -> Outcome {
        names.iter().for_each(|name| self.set(name, None));
        let victims = self.restore();
        names.iter().for_each(|name| self.set(name, self.objects.get(name).map(Vec::as_slice)));
        victims
    }

    fn of_kind(&self, kind: ObjectKind) -> Vec<&ObjectName> {
        self.objects.keys().filter(|name| name.kind() == kind).collect()
    }
}

/// Whether nothing opens without objects of this kind.
fn is_ground(name: &ObjectName) -> bool {
    matches!(name.kind(), ObjectKind::Config | ObjectKind::Slot)
}

/// All kinds that are written without parity.
fn kinds() -> impl Iterator<Item = ObjectKind> {
    ObjectKind::ALL.into_iter().filter(|kind| *kind <= ObjectKind::Hold)
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

/// Where the frames of a pack end.
fn frames_end(bytes: &[u8]) -> usize {
    64 + footer_number(bytes, 0)
}

fn footer_number(bytes: &[u8], at: usize) -> usize {
    let at = bytes.len() - 264 + at;
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
}

/// Lengths at which something ends: nothing, header, the least an object may have, parts of a pack, trailer, all but a byte.
fn lengths(name: &ObjectName, bytes: &[u8]) -> BTreeSet<usize> {
    let size = bytes.len();
    let mut lengths = BTreeSet::from([0, 1, 7, 63, 64, 65, 311, 312, size / 2, size - 248, size - 96, size - 32, size - 1]);
    if name.kind().is_pack() {
        let frames_end = frames_end(bytes);
        lengths.extend([frames_end - 1, frames_end, frames_end + footer_number(bytes, 4), size - 264]);
    }
    lengths.into_iter().filter(|length| *length < size).collect()
}

/// An object cut off, lengthened and overwritten, each with what was done.
fn mangled(name: &ObjectName, bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let cut = lengths(name, bytes).into_iter().map(|length| (format!("{name} cut to {length}"), bytes[..length].to_vec()));
    let longer = [(format!("{name} and a byte"), [bytes, &[0]].concat()), (format!("{name} zeroed"), vec![0; bytes.len()])];
    cut.chain(longer).collect()
}

/// Flips bytes of each object, `step` apart, and mangles it otherwise, beside nothing but the first config without which nothing is known: a keyless
/// scrub checks every object for itself.
fn rot_each_alone(rot: &Rot, step: usize) {
    let runtime = Runtime::seeded(13, NOW, 1);
    for (number, (name, bytes)) in rot.objects.iter().enumerate() {
        let backend = MemoryBackend::new();
        let beside = rot.objects.iter().filter(|(other, _)| **other == ObjectName::config(1) || *other == name);
        beside.for_each(|(name, bytes)| backend.put(name, bytes).unwrap());
        let is_named = || names(&scrub_keyless(&backend, &runtime, &Silent).unwrap(), name);
        assert!(!is_named());
        let ends = [0, bytes.len() - 1].into_iter();
        for at in ends.chain((number % step..bytes.len()).step_by(step)) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << pick(number as u64, at as u64, 8);
            set(&backend, name, Some(&flipped));
            assert!(is_named(), "{name}, byte {at} of {}", bytes.len());
        }
        for (what, changed) in mangled(name, bytes) {
            set(&backend, name, Some(&changed));
            assert!(is_named(), "{what}");
        }
    }
}

#[test]
fn the_small_repositories_have_every_kind() {
    let rot = Rot::new();
    assert!(kinds().all(|kind| rot.of_kind(kind).len() > 1), "{:#?}", rot.objects.keys());
    let relocations = rot.of_kind(ObjectKind::Relocation);
    relocations
        .iter()
        .for_each(|name| drop(RelocationsBody::decode(&rot.fixture.repository.read_sealed(name).unwrap().plaintext).unwrap()));
    assert!(rot.fixture.repository.stats(None, &Silent).unwrap().delta_bytes > 0);
    let (holds, problems) = rot.fixture.repository.holds().unwrap();
    assert!(holds.len() == 1 && problems.is_empty() && !rot.moved.is_empty(), "{holds:?}, {problems:?}, {:?}", rot.moved);
    let parity = Rot::with_parity();
    assert_eq!(parity.of_kind(ObjectKind::Parity).len() * 2, parity.objects.len());
    let wide = Rot::wide();
    let repository = &wide.fixture.repository;
    let reader = FrameReader::new(repository, repository.open_index().unwrap());
    let (mut inner, mut recipes) = (0, 0);
    for snapshot in repository.snapshots().unwrap() {
        let chunks = repository.snapshot_chunks(&reader, &snapshot.header).unwrap();
        let root = chunks.load(NodeKind::Tree, &snapshot.body.tree_root).unwrap();
        inner += usize::from(matches!(decode_tree_node(root, None, KeyKind::Paths).unwrap(), TreeNode::Inner(_)));
        let entries =
            TreeWalk::new(&chunks, &snapshot.body.tree_root, KeyKind::Paths, KeyRange::all()).unwrap().map(|entry| entry.unwrap());
        recipes +=
            entries.filter(|entry| matches!(&entry.kind, EntryKind::File(file) if matches!(file.chunks, ChunkList::Recipe(_)))).count();
    }
    assert_eq!((inner, recipes), (1, 1), "other names of files may be needed");
    for rot in [rot, parity, wide, Rot::tiny()] {
        assert!(rot.scrub().findings.is_empty() && rot.fixture.scrub_keyless().findings.is_empty());
        assert!(rot.restore().values().all(|lost| *lost == Lost::Files(BTreeSet::new())));
    }
}

#[test]
fn bytes_all_over_every_object_count() {
    rot_each_alone(&Rot::new(), 19);
}

/// As [`bytes_all_over_every_object_count`]; it takes minutes.
#[test]
#[ignore = "takes minutes"]
fn every_byte_of_every_object_counts() {
    rot_each_alone(&Rot::new(), 1);
}

/// With restores beside it; takes minutes.
#[test]
#[ignore = "takes minutes"]
fn every_byte_of_a_tiny_repository_is_missed_and_hurts_nobody_who_was_not_told() {
    let rot = Rot::tiny();
    let mut flips = 0;
    for (name, bytes) in &rot.objects {
        let victims = rot.victims_of(&[*name]);
        (0..bytes.len()).for_each(|at| drop(rot.flip(name, at, &victims)));
        flips += bytes.len();
    }
    println!("{flips} bytes of {} objects", rot.objects.len());
}

#[test]
fn flipped_bytes_of_every_kind_are_named_and_contained() {
    let rot = Rot::new();
    let mut victims = BTreeMap::new();
    for kind in kinds() {
        let of_kind = rot.of_kind(kind);
        let seed = 700 + u64::from(kind.number());
        for turn in 0..8 {
            let name = of_kind[pick(seed, turn, of_kind.len())];
            let victims = victims.entry(*name).or_insert_with(|| rot.victims_of(&[*name]));
            rot.flip(name, pick(seed, 100 + turn, rot.objects[name].len()), victims);
        }
    }
}

/// One byte in each frame, and what is around the frames.
#[test]
fn nodes_recipes_and_frames_hurt_who_needs_them_and_no_others() {
    let rot = Rot::wide();
    let mut in_part = BTreeMap::<_, u32>::new();
    for (number, (name, bytes)) in rot.objects.iter().filter(|(name, _)| name.kind().is_pack()).enumerate() {
        let victims = rot.victims_of(&[*name]);
        let tail = rot.fixture.repository.read_pack_tail(name, bytes.len() as u64).unwrap();
        let (mut begin, mut places) = (64, vec![30, frames_end(bytes) + 1, bytes.len() - 1]);
        for frame in &tail.tables.contents.frames {
            places.push(begin + pick(800 + number as u64, begin as u64, frame.sealed_length as usize));
            begin += frame.sealed_length as usize;
        }
        for at in places {
            let outcome = rot.flip(name, at, &victims);
            let is_less = |(id, lost): (&SnapshotId, &Lost)| match (lost, &victims[id]) {
                (Lost::Files(lost), Lost::Files(victims)) => !lost.is_empty() && lost.len() < victims.len(),
                (Lost::Files(lost), Lost::All) => !lost.is_empty(),
                (Lost::All, _) => false,
            };
            *in_part.entry(name.kind()).or_default() += u32::from(outcome.iter().any(is_less));
        }
    }
    assert!(in_part[&ObjectKind::DataPack] > 1 && in_part[&ObjectKind::MetaPack] > 1, "{in_part:?}");
}

#[test]
fn truncated_and_overwritten_objects_are_named_and_contained() {
    let rot = Rot::new();
    for (number, (name, bytes)) in rot.objects.iter().enumerate() {
        let victims = rot.victims_of(&[*name]);
        // What is in one part is whole or it is not; and there are many packs.
        let wanted = if name.kind().is_pack() { 5 } else { 2 };
        let mut damaged = mangled(name, bytes);
        while damaged.len() > wanted {
            damaged.remove(pick(900 + number as u64, damaged.len() as u64, damaged.len()));
        }
        for (what, changed) in damaged {
            rot.set(name, Some(&changed));
            let report = rot.scrub();
            assert!(names(&report, name), "{what}: {:#?}", report.findings);
            rot.compare(&what, &[*name], &report, Some(&victims));
        }
        rot.set(name, Some(bytes));
    }
}

#[test]
fn swapped_objects_are_named_and_contained() {
    let rot = Rot::new();
    let mut swaps = BTreeMap::<_, u32>::new();
    for (name, bytes) in &rot.objects {
        let others = rot.objects.iter().filter(|(other, _)| other.kind() == name.kind() && *other > name);
        for (other, other_bytes) in others.take(1) {
            let victims = rot.victims_of(&[*name, *other]);
            rot.set(name, Some(other_bytes));
            rot.set(other, Some(bytes));
            let report = rot.scrub();
            assert!(names(&report, name) && names(&report, other), "{name}, {other}: {:#?}", report.findings);
            let keyless = rot.fixture.scrub_keyless();
            let is_named = |name| rot.moved.contains(name) || names(&keyless, name);
            assert!(is_named(name) && is_named(other), "{name}, {other}, keyless: {:#?}", keyless.findings);
            rot.compare(&format!("{name} and {other}"), &[*name, *other], &report, Some(&victims));
            rot.set(name, Some(bytes));
            rot.set(other, Some(other_bytes));
            *swaps.entry(name.kind()).or_default() += 1;
        }
    }
    assert!(kinds().all(|kind| swaps.contains_key(&kind)), "{swaps:?}");
}

#[test]
fn copies_under_other_names_are_named_and_hurt_nobody() {
    let rot = Rot::new();
    let nobody = rot.restore();
    for (name, bytes) in &rot.objects {
        let copy = copy_of(name);
        rot.fixture.set(&copy, Some(bytes));
        let report = rot.scrub();
        for report in [&report, &rot.fixture.scrub_keyless()] {
            assert!(report.findings.iter().any(|finding| finding.object == Some(copy) && finding.rule == Some("OBJ-6")), "{copy}");
        }
        assert!(rot.open().is_ok(), "a copy of {name}");
        assert_eq!(rot.compare(&format!("a copy of {name}"), &[copy], &report, Some(&nobody)), nobody);
        rot.fixture.set(&copy, None);
    }
}

#[test]
fn removed_objects_hurt_nobody_who_was_not_told() {
    let rot = Rot::new();
    let snapshots = rot.fixture.repository.snapshots().unwrap();
    let published: BTreeSet<_> = snapshots.iter().map(|snapshot| snapshot.header.record.id().0).collect();
    let is_newest = |name: &ObjectName| rot.of_kind(name.kind()).last() == Some(&name);
    for (name, bytes) in &rot.objects {
        rot.set(name, None);
        let report = rot.scrub();
        let victims = rot.compare(&format!("{name} removed"), &[*name], &report, None);
        let is_hurt = victims.values().any(|lost| *lost != Lost::Files(BTreeSet::new()));
        // Where the newest config is gone, whoever had it still knows.
        let report = if name.kind() == ObjectKind::Config { rot.fixture.scrub() } else { report };
        let is_named = match name.kind() {
            ObjectKind::Config | ObjectKind::Snapshot => true,
            ObjectKind::Session => published.contains(&name.id()),
            // Index objects and placement tell what is gone.
            kind if kind.is_pack() => is_hurt,
            // The newest one is not missed.
            ObjectKind::Epoch => !is_newest(name),
            _ => false,
        };
        assert!(!is_named || names(&report, name), "{name} removed: {:#?}", report.findings);
        let is_missed = is_hurt || name.kind() == ObjectKind::Slot && is_newest(name);
        assert!(!is_missed || !report.findings.is_empty(), "{name} removed");
        if name.kind() == ObjectKind::Closed && published.contains(&name.id()) {
            assert!(report.notices.iter().any(|notice| notice.contains("suspect")), "{name} removed: {:?}", report.notices);
        }
        rot.set(name, Some(bytes));
    }
}

/// A store that serves what it had earlier: all of it, and of each kind alone. Whoever was here before tells.
#[test]
fn an_older_state_is_told_and_hurts_nobody_who_was_not() {
    let rot = Rot::new();
    let folder = tempfile::tempdir().unwrap();
    let seeing = || rot.open_as(14, Some(folder.path()));
    seeing().unwrap().snapshots().unwrap();
    let memory = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let seen = std::fs::read(&memory).unwrap();
    let in_force: BTreeSet<_> = rot.fixture.repository.holds().unwrap().0.iter().map(|hold| ObjectName::hold(hold.id)).collect();
    let is_remembered = |name: &ObjectName| match name.kind() {
        ObjectKind::Config | ObjectKind::Epoch => true,
        ObjectKind::Snapshot => rot.snapshots.contains_key(&SnapshotId(name.id())),
        ObjectKind::Hold => in_force.contains(name),
        _ => false,
    };
    // Of many kinds nothing changes from one state to the next.
    let (mut replays, mut done) = (BTreeMap::<_, u32>::new(), BTreeSet::new());
    for (age, state) in rot.states.iter().enumerate() {
        for of in kinds().map(Some).chain([None]) {
            let is_old = |name: &&ObjectName| of.is_none_or(|kind| kind == name.kind());
            let here = rot.objects.keys().filter(|name| !rot.moved.contains(name));
            let lost: Vec<_> = here.filter(is_old).filter(|name| !state.contains_key(name)).copied().collect();
            let back: Vec<_> =
                state.iter().filter(|(name, _)| is_old(name) && (!rot.objects.contains_key(name) || rot.moved.contains(name))).collect();
            let names_back: Vec<_> = back.iter().map(|(name, _)| **name).collect();
            if lost.is_empty() && back.is_empty() || !done.insert((of, lost.clone(), names_back.clone())) {
                continue;
            }
            lost.iter().for_each(|name| rot.fixture.set(name, None));
            back.iter().for_each(|(name, bytes)| rot.fixture.set(name, Some(bytes)));
            let what = format!("{of:?} of state {age}");
            match of {
                Some(kind) => {
                    rot.compare(&what, &[&lost[..], &names_back].concat(), &rot.scrub(), None);
                    *replays.entry(kind).or_default() += 1;
                }
                None => drop(rot.restore()),
            }
            std::fs::write(&memory, &seen).unwrap();
            let is_told = match seeing() {
                Ok(repository) => !repository.scrub(&Silent).unwrap().findings.is_empty(),
                Err(error) => error.kind() == ErrorKind::Damaged,
            };
            assert!(is_told || of.is_some() && !lost.iter().any(is_remembered), "{what}: {lost:?} are gone, and nobody said so");
            rot.reset();
        }
    }
    assert!(kinds().all(|kind| replays.contains_key(&kind)), "{replays:?}");
}

/// Sidecars, which help nobody while all else is whole.
#[test]
fn rotten_sidecars_are_named_and_hurt_nobody() {
    let rot = Rot::with_parity();
    let nobody = rot.restore();
    let sidecars = rot.of_kind(ObjectKind::Parity);
    let is_as_before = |what: &str, touched: &[ObjectName], report: &CheckReport| {
        assert_eq!(rot.compare(what, touched, report, Some(&nobody)), nobody);
    };
    for (number, name) in sidecars.iter().enumerate() {
        let bytes = &rot.objects[name];
        let random = (0..4).map(|turn| pick(1000 + number as u64, turn, bytes.len()));
        let flips = random.map(|at| (format!("{name} byte {at}"), flipped(bytes, at)));
        for (what, changed) in mangled(name, bytes).into_iter().chain(flips) {
            rot.set(name, Some(&changed));
            let report = rot.scrub();
            assert!(names(&report, name) && names(&rot.fixture.scrub_keyless(), name), "{what}: {:#?}", report.findings);
            assert!(report.hurt.is_empty(), "{what}: {report:#?}");
        }
        is_as_before(&format!("{name} mangled"), &[**name], &rot.scrub());
        let other = sidecars[(number + 1) % sidecars.len()];
        rot.set(name, Some(&rot.objects[other]));
        rot.set(other, Some(bytes));
        let report = rot.scrub();
        for report in [&report, &rot.fixture.scrub_keyless()] {
            assert!(names(report, name) && names(report, other), "{name}, {other}: {:#?}", report.findings);
        }
        is_as_before(&format!("{name} and {other}"), &[**name, *other], &report);
        rot.set(other, Some(&rot.objects[other]));
        rot.set(name, None);
        for report in [rot.scrub(), rot.fixture.scrub_keyless()] {
            assert!(report.findings.is_empty() && report.notices.iter().any(|notice| notice.contains("no sidecar")), "{name}: {report:#?}");
        }
        let copy = copy_of(name);
        rot.set(&copy, Some(bytes));
        let report = rot.scrub();
        assert!(names(&report, &copy) && names(&rot.fixture.scrub_keyless(), &copy));
        is_as_before(&format!("a copy of {name}"), &[copy], &report);
        rot.set(&copy, None);
        rot.set(name, Some(bytes));
    }
    // Of an older state those of younger objects are missing.
    for state in &rot.states[..rot.states.len() - 1] {
        let lost = sidecars.iter().filter(|name| !state.contains_key(**name)).copied();
        let lost: Vec<_> = lost.copied().collect();
        assert!(!lost.is_empty());
        lost.iter().for_each(|name| rot.set(name, None));
        let report = rot.scrub();
        assert!(report.notices.iter().any(|notice| notice.contains(&format!("{}, as", lost.len()))), "{:?}", report.notices);
        is_as_before("older sidecars", &lost, &report);
        rot.reset();
    }
}

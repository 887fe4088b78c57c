//! What changed is compressed against what it was: it costs little, comes back, and what it stands on stays.

use super::*;
use crate::backend::Backend;
use crate::backend::testing::{Call, HookedBackend, Operation};
use crate::check::CheckReport;
use crate::format::Usage;
use crate::gc::GcOptions;
use crate::id::{FrameClass, FrameId};
use crate::repository::{FrameReader, Snapshot};
use crate::restore::RestoreOptions;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

/// Files by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A repository with a cache, and a folder whose states are backed up.
pub(super) struct Fixture {
    backend: MemoryBackend,
    pub(super) repository: Repository,
    pub(super) folder: tempfile::TempDir,
    _cache: tempfile::TempDir,
    delta: bool,
    states: u64,
    pub(super) kept: Vec<(Snapshot, Files)>,
}

impl Fixture {
    pub(super) fn new(threads: usize, delta: bool) -> Self {
        Self::made(threads, delta, &options())
    }

    fn made(threads: usize, delta: bool, options: &CreateOptions) -> Self {
        let (backend, cache) = (MemoryBackend::new(), tempfile::tempdir().unwrap());
        let (key, settings) = (Key::passphrase("correct horse").unwrap(), Settings::default().with_cache(cache.path()));
        let runtime = Runtime::seeded(7, NOW, threads);
        let repository = Repository::create(Arc::new(backend.clone()), runtime, &key, options, settings).unwrap();
        Self { backend, repository, folder: tempfile::tempdir().unwrap(), _cache: cache, delta, states: 0, kept: Vec::new() }
    }

    /// Backs up a state.
    pub(super) fn backup(&mut self, files: &Files) -> BackupSummary {
        self.states += 1;
        for entry in std::fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if !files.contains_key(path.file_name().unwrap().to_str().unwrap()) {
                std::fs::remove_file(path).unwrap();
            }
        }
        for (name, bytes) in files {
            let path = self.folder.path().join(name);
            if std::fs::read(&path).ok().as_ref() != Some(bytes) {
                std::fs::write(&path, bytes).unwrap();
                let file = std::fs::File::options().write(true).open(&path).unwrap();
                file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_600_000_000 + 10 * self.states)).unwrap();
            }
        }
        let roots = Roots::resolve(&[self.folder.path().join(".")]).unwrap();
        let options = BackupOptions { delta: self.delta, ..BackupOptions::new("tests") };
        let summary = self.repository.backup(&roots, &SourceOptions::default(), &options, &Silent).unwrap();
        let snapshot = self.repository.snapshots().unwrap().into_iter().find(|snapshot| Some(snapshot.id) == summary.snapshot).unwrap();
        self.kept.push((snapshot, files.clone()));
        summary
    }

    pub(super) fn forget(&mut self, at: usize) {
        let (snapshot, _) = self.kept.remove(at);
        self.repository.forget(&[snapshot.id], &Silent).unwrap();
    }

    /// Collects until nothing is left to do.
    pub(super) fn gc(&self) -> u64 {
        let options = GcOptions { dead_percent_max: 0 };
        let mut remade = 0;
        for _ in 0..4 {
            let summary = self.repository.gc(&options, &Silent).unwrap();
            assert!(summary.waits_for.is_empty());
            remade += summary.frames_remade;
        }
        remade
    }

    /// Every kept state comes back, and nothing is wrong with the repository.
    pub(super) fn assert_whole(&self) {
        for (snapshot, files) in &self.kept {
            let target = tempfile::tempdir().unwrap();
            let summary = self.repository.restore(snapshot, target.path(), &RestoreOptions::default(), &Silent).unwrap();
            assert_eq!(summary.items_failed, 0);
            let back = std::fs::read_dir(target.path()).unwrap().map(|entry| entry.unwrap());
            let back: Files = back.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect();
            assert!(back == *files, "a state did not come back");
        }
        let report = self.scrub();
        assert!(report.findings.is_empty(), "{report:?}");
    }

    fn scrub(&self) -> CheckReport {
        self.repository.scrub(&Silent).unwrap()
    }

    fn reader(&self) -> FrameReader {
        FrameReader::new(&self.repository, self.repository.open_index().unwrap())
    }

    /// Frames of the class with bases that a snapshot needs, and the bases that its refs name.
    pub(super) fn bases_of(&self, snapshot: &Snapshot, class: FrameClass) -> (Vec<FrameId>, HashSet<FrameId>) {
        let reader = self.reader();
        let (mut deltas, mut bases) = (Vec::new(), HashSet::new());
        let visit = |used: crate::format::FrameUse| {
            let ordinal = reader.index().ordinal_of(used.frame).unwrap().unwrap();
            if reader.place(ordinal).unwrap().has_bases {
                deltas.push(used.frame);
            }
            if used.usage == Usage::Base {
                bases.insert(used.frame);
            }
            Ok(())
        };
        self.repository.walk_refs(&reader, &snapshot.header.refs_root, visit).unwrap();
        let is_of_class = |frame: &FrameId| frame.class() == Some(class);
        deltas.retain(is_of_class);
        bases.retain(is_of_class);
        (deltas, bases)
    }

    /// The same of data frames.
    fn bases(&self, snapshot: &Snapshot) -> (Vec<FrameId>, HashSet<FrameId>) {
        self.bases_of(snapshot, FrameClass::Data)
    }
}

/// Some files of many chunks and some of one.
fn files(count: u64) -> Files {
    let mut files: Files = (0..count).map(|n| (format!("f{n:03}"), noise(n, 3000 + (n as usize * 997) % 20_000))).collect();
    files.insert("large".into(), noise(9999, 3 << 20));
    files
}

/// One byte of each `step`th file is another one, and of the large file some.
fn edit(files: &mut Files, step: usize, salt: u8) {
    for bytes in files.values_mut().step_by(step) {
        let at = bytes.len() / 2;
        bytes[at] ^= salt;
        bytes.iter_mut().skip(usize::from(salt) * 1000).step_by(400_000).for_each(|byte| *byte ^= salt);
    }
}

#[test]
fn what_changed_little_costs_little_and_comes_back() {
    let (mut with, mut without) = (Fixture::new(2, true), Fixture::new(2, false));
    let mut state = files(120);
    let first = with.backup(&state);
    // The folders' times differ, and with them a few bytes of the tree.
    assert!(first.bytes_stored.abs_diff(without.backup(&state).bytes_stored) < 100);
    for salt in 1..4 {
        edit(&mut state, 2, salt);
        let (delta, whole) = (with.backup(&state).bytes_stored, without.backup(&state).bytes_stored);
        assert!(delta * 8 < whole, "state {salt}: {delta} with, {whole} without");
    }
    // Whatever the state, the bases are those of the first one.
    let first: HashSet<_> = with.bases(&with.kept[0].0).1;
    assert!(first.is_empty());
    for (snapshot, _) in &with.kept[1..] {
        let (deltas, bases) = with.bases(snapshot);
        assert!(!deltas.is_empty() && !bases.is_empty());
        let session = with.kept[0].0.header.record.id();
        assert!(bases.iter().all(|base| base.session == session) && deltas.iter().all(|delta| !bases.contains(delta)));
    }
    with.assert_whole();
    without.assert_whole();
}

/// Frames that were stored one after the other hold files that stand side by side, so that whatever changes stands on all of them.
#[test]
fn a_restore_decodes_a_base_once_whoever_stands_on_it() {
    let mut fixture = Fixture::made(2, true, &CreateOptions { passphrase_cost: PassphraseCost::TEST, ..CreateOptions::default() });
    let mut state = Files::new();
    for round in 0..12 {
        state.extend((0..64).map(|n| (format!("{n:02} {round:02}"), noise(100 * round + n, 32 << 10))));
        fixture.backup(&state);
    }
    state.values_mut().for_each(|bytes| bytes[100] ^= 1);
    fixture.backup(&state);
    let (snapshot, _) = fixture.kept.last().unwrap();
    let (deltas, bases) = fixture.bases(snapshot);
    assert!(deltas.len() > 24 && bases.len() >= 12, "{} {}", deltas.len(), bases.len());
    let (read, stored) = read_and_stored(&fixture, snapshot);
    // Tails of packs are read to make the index.
    assert!(read < stored * 5 / 4, "{read} of {stored} bytes were read");
}

/// All that a frame holds is needed in the first window, which has 2,000 entries, and those that stand on it wait until all are planned.
#[test]
fn what_is_a_base_waits_for_those_that_stand_on_it() {
    let mut fixture = Fixture::made(2, true, &CreateOptions { passphrase_cost: PassphraseCost::TEST, ..CreateOptions::default() });
    let mut state: Files = (0..1300).map(|n| (format!("z{n:04}"), noise(n, 24 << 10))).collect();
    fixture.backup(&state);
    // Each file stays under a name that comes first, and is changed under its own.
    let copies: Files = state.iter().map(|(name, bytes)| (name.replace('z', "a"), bytes.clone())).collect();
    state.values_mut().for_each(|bytes| bytes[100] ^= 1);
    state.extend(copies);
    fixture.backup(&state);
    let (snapshot, _) = fixture.kept.last().unwrap();
    let (deltas, bases) = fixture.bases(snapshot);
    assert!(deltas.len() > 30 && bases.len() > 10, "{} {}", deltas.len(), bases.len());
    let (read, stored) = read_and_stored(&fixture, snapshot);
    assert!(read < stored * 5 / 4, "{read} of {stored} bytes were read");
}

/// Bytes of data packs that restoring a snapshot reads, and all there are.
fn read_and_stored(fixture: &Fixture, snapshot: &Snapshot) -> (u64, u64) {
    let read = Arc::new(AtomicU64::new(0));
    let counting = HookedBackend::new(Arc::new(fixture.backend.clone()), {
        let read = Arc::clone(&read);
        move |call: &Call| {
            if call.is_done && call.kind == ObjectKind::DataPack && call.operation == Operation::GetRange {
                read.fetch_add(call.range.end - call.range.start, Ordering::Relaxed);
            }
            Ok(())
        }
    });
    let key = Key::passphrase("correct horse").unwrap();
    let reading = Repository::open(Arc::new(counting), Runtime::seeded(8, NOW, 2), &key, Settings::default()).unwrap();
    read.store(0, Ordering::Relaxed);
    let target = tempfile::tempdir().unwrap();
    reading.restore(snapshot, target.path(), &RestoreOptions::default(), &Silent).unwrap();
    let stored: u64 = fixture.backend.list_sorted(ObjectKind::DataPack).unwrap().iter().map(|object| object.size).sum();
    (read.load(Ordering::Relaxed), stored)
}

#[test]
fn what_is_stored_does_not_depend_on_the_number_of_threads() {
    let mut stored: Vec<Vec<(String, Vec<u8>)>> = Vec::new();
    for threads in [1, 2, 8] {
        let mut fixture = Fixture::new(threads, true);
        let mut state = files(60);
        state.insert("image".into(), noise(77, 6 << 20));
        fixture.backup(&state);
        edit(&mut state, 1, 3);
        state.insert("image".into(), noise(78, 6 << 20));
        fixture.backup(&state);
        assert!(!fixture.bases(&fixture.kept[1].0).0.is_empty());
        // Meta packs know when the folder was made, which is another one each time.
        let listed = fixture.backend.list_sorted(ObjectKind::DataPack).unwrap().into_iter();
        stored.push(listed.map(|object| (object.name.to_string(), fixture.backend.get(&object.name, u64::MAX).unwrap())).collect());
    }
    assert!(stored[1] == stored[0] && stored[2] == stored[0]);
}

#[test]
fn bases_outlive_the_snapshots_that_made_them_and_go_with_their_users() {
    let mut fixture = Fixture::new(2, true);
    let mut state = files(120);
    fixture.backup(&state);
    edit(&mut state, 1, 5);
    fixture.backup(&state);
    let packs = |fixture: &Fixture| fixture.backend.list_sorted(ObjectKind::DataPack).unwrap().iter().map(|pack| pack.size).sum::<u64>();
    fixture.forget(0);
    fixture.gc();
    fixture.assert_whole();
    let before = packs(&fixture);
    // Other files: nothing of what was is needed any more.
    let other: Files = (0..3).map(|n| (format!("g{n}"), noise(500 + n, 10_000))).collect();
    fixture.backup(&other);
    fixture.assert_whole();
    fixture.forget(0);
    fixture.gc();
    fixture.assert_whole();
    assert!(packs(&fixture) * 20 < before);
    // What was there once is stored again.
    fixture.backup(&state);
    fixture.assert_whole();
}

#[test]
fn a_frame_whose_base_is_gone_is_not_used_and_check_names_who_suffers() {
    let mut fixture = Fixture::new(2, true);
    let mut state = files(40);
    state.remove("large");
    fixture.backup(&state);
    edit(&mut state, 3, 5);
    fixture.backup(&state);
    let (deltas, bases) = fixture.bases(&fixture.kept[1].0);
    let reader = fixture.reader();
    let place = |frame: &FrameId| reader.place(reader.index().ordinal_of(*frame).unwrap().unwrap()).unwrap();
    let (packs_of_bases, pack_of_delta): (HashSet<_>, _) = (bases.iter().map(|base| place(base).pack).collect(), place(&deltas[0]).pack);
    assert!(!packs_of_bases.contains(&pack_of_delta));
    fixture.forget(0);
    for pack in packs_of_bases {
        fixture.backend.delete(&crate::backend::ObjectName::pack(ObjectKind::DataPack, pack)).unwrap();
    }
    for report in [fixture.scrub(), fixture.repository.check(&Silent).unwrap()] {
        let hurt = report.hurt.iter().find(|hurt| hurt.snapshot == fixture.kept[0].0.id).unwrap();
        let paths: HashSet<_> = hurt.paths.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
        for name in state.keys().step_by(3) {
            assert!(paths.iter().any(|path| path.ends_with(name)), "{name} is not among {paths:?}: {report:?}");
        }
    }
    // The next backup stores what it cannot rely on.
    fixture.kept.clear();
    fixture.backup(&state);
    let (snapshot, files) = &fixture.kept[0];
    let target = tempfile::tempdir().unwrap();
    fixture.repository.restore(snapshot, target.path(), &RestoreOptions::default(), &Silent).unwrap();
    files.iter().for_each(|(name, bytes)| assert!(std::fs::read(target.path().join(name)).unwrap() == *bytes));
}

#[test]
fn what_is_new_each_time_is_hardly_tried() {
    let mut fixture = Fixture::new(2, true);
    let image = |seed| Files::from([("image".to_owned(), noise(seed, 24 << 20))]);
    fixture.backup(&image(1));
    let stats = fixture.repository.stats(None, &Silent).unwrap();
    assert_eq!(stats.delta_bytes, 0);
    fixture.backup(&image(2));
    assert_eq!(fixture.bases(&fixture.kept[1].0), (Vec::new(), HashSet::new()));
    fixture.assert_whole();
}

#[derive(Debug, Clone)]
enum Step {
    /// Overwrites, inserts and appends in some files.
    Edit(u8, u64),
    Remove(u8),
    Add(u64),
    Rename(u8),
    Forget(u8),
    Gc,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..9_u8, any::<u64>()).prop_map(|(step, seed)| Step::Edit(step, seed)),
        1 => any::<u8>().prop_map(Step::Remove),
        1 => any::<u64>().prop_map(Step::Add),
        1 => any::<u8>().prop_map(Step::Rename),
        2 => any::<u8>().prop_map(Step::Forget),
        2 => Just(Step::Gc),
    ];
    proptest::collection::vec(step, 4..12)
}

fn change(bytes: &mut Vec<u8>, seed: u64) {
    let at = (seed >> 8) as usize % bytes.len();
    match seed % 5 {
        0 => bytes[at] ^= 1,
        1 => drop(bytes.splice(at..at, noise(seed, 100))),
        2 => bytes.extend(noise(seed, 2000)),
        3 => bytes.truncate(at + 1),
        _ => *bytes = noise(seed, bytes.len()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn every_kept_state_comes_back_whatever_was_forgotten_and_collected(steps in steps()) {
        for delta in [true, false] {
            let mut fixture = Fixture::new(2, delta);
            let mut state: Files = (0..40).map(|n| (format!("f{n}"), noise(n, 2000 + (n as usize * 997) % 60_000))).collect();
            fixture.backup(&state);
            for step in &steps {
                let nth = |files: &Files, n: u8| files.keys().nth(usize::from(n) % files.len()).unwrap().clone();
                match step {
                    Step::Edit(every, seed) => {
                        for (n, bytes) in state.values_mut().enumerate().filter(|(n, _)| n % usize::from(*every) == 0) {
                            change(bytes, seed.wrapping_add(n as u64));
                        }
                    }
                    Step::Remove(n) if state.len() > 5 => drop(state.remove(&nth(&state, *n))),
                    Step::Add(seed) => drop(state.insert(format!("n{seed}"), noise(*seed, 30_000))),
                    Step::Rename(n) => {
                        let bytes = state.remove(&nth(&state, *n)).unwrap();
                        state.insert(format!("r{n}"), bytes);
                    }
                    Step::Forget(n) if fixture.kept.len() > 1 => fixture.forget(usize::from(*n) % fixture.kept.len()),
                    Step::Gc => drop(fixture.gc()),
                    _ => {}
                }
                if !matches!(step, Step::Forget(_) | Step::Gc) {
                    fixture.backup(&state);
                }
            }
            fixture.gc();
            fixture.assert_whole();
        }
    }
}

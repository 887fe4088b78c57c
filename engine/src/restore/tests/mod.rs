//! Out of memory into folders, and compared with what went in.

mod existing;
mod later;
mod threads;
mod unreadable;

use super::*;
use crate::backend::testing::{FaultyBackend, Operation};
use crate::backend::{Backend, BackendExt, MemoryBackend, ObjectKind, ObjectName};
use crate::backup::{BackupOptions, BackupSummary};
use crate::crypto::PassphraseCost;
use crate::progress::{Cancel, Change, Event};
use crate::repository::{CreateOptions, FrameReader, Key as RepositoryKey, Settings};
use crate::runtime::{Runtime, Timestamp};
use crate::source::{Roots, SourceOptions};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanoseconds: 0 };

/// Windows so small that everything goes through several.
const TINY: Limits = Limits { entries_max: 3, bytes_max: 4_000, read_bytes_max: 200 << 10, keeps_bases: false };

/// Bytes that depend on `seed` and do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn random(seed: &mut u64, below: u64) -> u64 {
    *seed += 1;
    u64::from_le_bytes(noise(*seed, 8).try_into().unwrap()) % below
}

fn create(backend: Arc<dyn Backend>) -> Repository {
    let key = RepositoryKey::passphrase("correct horse").unwrap();
    let options = CreateOptions {
        pack_size: 512 << 10,
        data_frame_size: 128 << 10,
        meta_frame_size: 16 << 10,
        passphrase_cost: PassphraseCost::TEST,
        ..CreateOptions::default()
    };
    Repository::create(backend, Runtime::seeded(7, NOW, 2), &key, &options, Settings::default()).unwrap()
}

fn backup_at(repository: &Repository, folder: &Path, seconds: i64) -> BackupSummary {
    let roots = Roots::resolve(&[folder.join(".")]).unwrap();
    let mut options = BackupOptions::new("tests");
    options.time = Some(Timestamp { seconds, nanoseconds: 0 });
    repository.backup(&roots, &SourceOptions::default(), &options, &Silent).unwrap()
}

fn backed_up(repository: &Repository, folder: &Path) -> Snapshot {
    let summary = backup_at(repository, folder, NOW.seconds);
    assert_eq!(summary.files_failed, 0);
    repository.find_snapshot(&summary.snapshot.unwrap().to_string(), None, None).unwrap()
}

/// Remembers what it was told.
#[derive(Debug, Default)]
struct Listener {
    failed: Mutex<Vec<(String, String)>>,
    notices: Mutex<Vec<String>>,
    changes: Mutex<Vec<(String, Change, u64)>>,
    /// Stops after so many bytes.
    bytes_left: Mutex<Option<u64>>,
}

impl Listener {
    fn failed(&self) -> Vec<String> {
        let mut items: Vec<_> = self.failed.lock().iter().map(|(item, _)| item.clone()).collect();
        items.sort();
        items
    }
}

impl Progress for Listener {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::ItemWaits { item, tier } => self.failed.lock().push((item.into(), format!("waits for tier {tier}"))),
            Event::ItemFailed { item, message } => self.failed.lock().push((item.into(), message.into())),
            Event::Notice { message } => self.notices.lock().push(message.into()),
            Event::Advance { bytes, .. } => {
                if let Some(left) = &mut *self.bytes_left.lock() {
                    *left = left.saturating_sub(bytes);
                }
            }
            Event::Change { item, change, bytes } => self.changes.lock().push((item.into(), change, bytes)),
            Event::Phase { .. } => {}
        }
    }

    fn is_cancelled(&self) -> bool {
        *self.bytes_left.lock() == Some(0)
    }
}

/// What stands in a folder: by path, the kind with mode, time, content, and which paths are one file.
fn look(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut first_names = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    let mut paths = Vec::new();
    while let Some(folder) = folders.pop() {
        paths.push(folder.clone());
        for entry in std::fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => paths.push(entry.path()),
            }
        }
    }
    paths.sort();
    for path in paths {
        let stat = path.symlink_metadata().unwrap();
        let name = path.strip_prefix(root).unwrap().to_owned();
        let content = match stat.file_type() {
            kind if kind.is_symlink() => path.read_link().unwrap().display().to_string(),
            kind if kind.is_file() => blake3::hash(&std::fs::read(&path).unwrap()).to_hex().to_string(),
            _ => String::new(),
        };
        let first = match stat.nlink() > 1 && !stat.is_dir() {
            true => first_names.entry(stat.ino()).or_insert_with(|| name.clone()).display().to_string(),
            false => String::new(),
        };
        let what = format!("{:o} {}.{} {} {content} {first}", stat.mode(), stat.mtime(), stat.mtime_nsec(), stat.uid());
        found.insert(name, what);
    }
    found
}

fn write(path: &Path, bytes: &[u8], seed: u64) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(UNIX_EPOCH + Duration::new(1_700_000_000 + seed, 123_456_000)).unwrap();
    file.set_permissions(std::fs::Permissions::from_mode([0o644, 0o600, 0o755, 0o440][seed as usize % 4])).unwrap();
}

fn with_holes(path: &Path, seed: u64, parts: &[(u64, usize)], size: u64) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = std::fs::File::create(path).unwrap();
    file.set_len(size).unwrap();
    for (offset, length) in parts {
        file.write_all_at(&noise(seed + offset, *length), *offset).unwrap();
    }
}

/// Files of many sizes, duplicates, holes, links, empty things; `seed` decides.
fn random_tree(seed: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (root, mut state) = (folder.path(), seed * 1_000_000);
    for n in 0..60 + random(&mut state, 60) {
        let depth = random(&mut state, 4);
        let mut path = root.to_owned();
        (0..depth).for_each(|level| path.push(format!("d{}", (n + level) % 5)));
        path.push(format!("f{n}"));
        let length = [0, 1, 700, 20_000, 70_000, 300_000][random(&mut state, 6) as usize];
        // A third of them have the content of another one.
        let content = if n % 3 == 0 { n / 6 } else { 1_000 + n };
        write(&path, &noise(seed + content, length), n);
        match n % 11 {
            1 => std::fs::hard_link(&path, root.join(format!("z-other-name-{n}"))).unwrap(),
            2 => symlink(format!("f{n}"), root.join(format!("link{n}"))).unwrap(),
            3 => std::fs::create_dir_all(root.join(format!("empty{n}/below"))).unwrap(),
            _ => {}
        }
    }
    symlink("nowhere/at all", root.join("dangling")).unwrap();
    let large = [noise(seed, 5 << 20), vec![0; 1 << 20], noise(seed, 1 << 20)].concat();
    write(&root.join("large"), &large, 9);
    with_holes(&root.join("holes/only"), 0, &[], 1 << 20);
    with_holes(&root.join("holes/both-ends"), seed, &[(1 << 20, 300_000)], 3 << 20);
    with_holes(&root.join("holes/middle"), seed + 5, &[(0, 70_000), (2 << 20, 4 << 20)], 6 << 20);
    std::fs::set_permissions(root.join("holes"), std::fs::Permissions::from_mode(0o750)).unwrap();
    folder
}

fn target() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("deep/target");
    (folder, target)
}

#[test]
fn trees_come_back_whatever_the_windows() {
    for seed in 1..4 {
        let source = random_tree(seed);
        let repository = create(Arc::new(MemoryBackend::new()));
        let snapshot = backed_up(&repository, source.path());
        for limits in [Limits::DEFAULT, TINY, Limits { entries_max: 17, bytes_max: 30_000, ..Limits::DEFAULT }] {
            let (_folder, target) = target();
            let listener = Listener::default();
            let dry_run = RestoreOptions { dry_run: true, ..RestoreOptions::default() };
            let planned = repository.restore_within(&snapshot, &target, &dry_run, &Silent, limits).unwrap();
            assert!(!target.exists());
            let summary = repository.restore_within(&snapshot, &target, &RestoreOptions::default(), &listener, limits).unwrap();
            assert_eq!(listener.failed(), [""; 0]);
            assert_eq!(look(&target), look(source.path()), "seed {seed}, {limits:?}");
            assert_eq!((summary.items_failed, summary.damaged, summary.bytes_unchanged), (0, false, 0));
            assert_eq!((summary.entries, summary.bytes_total), (snapshot.header.entries, snapshot.header.file_bytes));
            if limits.bytes_max == Limits::DEFAULT.bytes_max {
                let frames = data_frames(&repository);
                assert_eq!(summary.frames_decoded, frames, "every frame is decoded once");
            }
            let plan = RestorePlan { created: snapshot.header.entries, ..RestorePlan::default() };
            assert_eq!((planned.plan, summary.plan), (Some(plan), None));
            let numbers = |of: &RestoreSummary| {
                let content = (of.entries, of.files, of.bytes_total, of.bytes_written);
                (content, of.frames_decoded, of.packs_read, of.bytes_fetched)
            };
            assert_eq!(numbers(&planned), numbers(&summary));
            let blocks = |root: &Path| root.join("holes/only").metadata().unwrap().blocks();
            assert_eq!(blocks(&target), 0);
        }
    }
}

fn data_frames(repository: &Repository) -> u64 {
    let mut frames = 0;
    for pack in repository.backend.list_sorted(ObjectKind::DataPack).unwrap() {
        frames += repository.read_pack_tail(&pack.name, pack.size).unwrap().tables.contents.frames.len() as u64;
    }
    frames
}

#[test]
fn onto_an_existing_tree_only_what_differs_is_written() {
    let source = random_tree(11);
    let repository = create(Arc::new(MemoryBackend::new()));
    let snapshot = backed_up(&repository, source.path());
    let (_folder, target) = target();
    let restore = |limits| repository.restore_within(&snapshot, &target, &RestoreOptions::default(), &Silent, limits).unwrap();
    let first = restore(Limits::DEFAULT);
    let again = restore(TINY);
    assert!(again.bytes_unchanged > 12 << 20, "{again:?}");
    assert_eq!((again.bytes_written, again.bytes_unchanged), (0, first.bytes_written));

    // One byte in the middle of the large file, a file cut short, a file gone, a longer one, other things in place of things.
    std::fs::File::options().write(true).open(target.join("large")).unwrap().write_all_at(b"!", 3 << 20).unwrap();
    std::fs::File::options().write(true).open(target.join("holes/middle")).unwrap().set_len(1 << 20).unwrap();
    std::fs::remove_file(target.join("dangling")).unwrap();
    std::fs::write(target.join("dangling"), b"a file").unwrap();
    std::fs::OpenOptions::new().append(true).open(target.join("holes/only")).unwrap().write_all_at(&[1; 5000], 77).unwrap();
    std::fs::write(target.join("not in the snapshot"), b"stays").unwrap();
    let mended = restore(Limits::DEFAULT);
    assert_eq!(mended.items_failed, 0);
    assert!((1..6 << 20).contains(&mended.bytes_written), "{mended:?}");
    assert_eq!(std::fs::read(target.join("not in the snapshot")).unwrap(), b"stays");
    std::fs::remove_file(target.join("not in the snapshot")).unwrap();
    let stamp = source.path().metadata().unwrap().modified().unwrap();
    std::fs::File::open(&target).unwrap().set_modified(stamp).unwrap();
    assert_eq!(look(&target), look(source.path()));
}

#[test]
fn a_part_is_restored_at_its_path() {
    let source = tempfile::tempdir().unwrap();
    let root = source.path();
    write(&root.join("a/first"), &noise(1, 50_000), 1);
    write(&root.join("b/c/own"), &noise(2, 200_000), 2);
    write(&root.join("bb"), b"not it", 3);
    for name in ["b/c/linked", "b/c/linked2"] {
        std::fs::hard_link(root.join("a/first"), root.join(name)).unwrap();
    }
    let repository = create(Arc::new(MemoryBackend::new()));
    let snapshot = backed_up(&repository, root);
    let part = |path: &str, dry_run| {
        let (folder, target) = target();
        let options = RestoreOptions { path: Some(path.into()), dry_run, ..RestoreOptions::default() };
        let result = repository.restore_within(&snapshot, &target, &options, &Silent, TINY);
        (folder, target, result)
    };

    let (_folder, target, summary) = part("/b/", false);
    assert_eq!((summary.as_ref().unwrap().entries, summary.as_ref().unwrap().items_failed), (5, 0));
    let found = look(&target.join("b"));
    assert_eq!(found.keys().map(|key| key.display().to_string()).collect::<Vec<_>>(), ["", "c", "c/linked", "c/linked2", "c/own"]);
    assert_eq!(std::fs::read(target.join("b/c/linked")).unwrap(), noise(1, 50_000));
    assert_eq!(std::fs::metadata(target.join("b/c/linked")).unwrap().nlink(), 2);
    assert!(!target.join("bb").exists() && !target.join("a").exists());

    let (_folder, target, summary) = part("b/c/own", false);
    assert_eq!((summary.unwrap().files, std::fs::read(target.join("b/c/own")).unwrap()), (1, noise(2, 200_000)));

    let (_folder, target, summary) = part("b", true);
    let summary = summary.unwrap();
    assert!(!target.exists() && summary.bytes_written == 250_000 && summary.frames_decoded > 0 && summary.packs_read > 0, "{summary:?}");

    let (_folder, target, missing) = part("b/x/y", false);
    let missing = missing.unwrap_err();
    assert!(missing.kind() == ErrorKind::NotFound && missing.to_string().contains("the folder `b`"), "{missing}");
    assert!(!target.exists());
    assert_eq!(part("b/../a", false).2.unwrap_err().kind(), ErrorKind::Invalid);

    let mut keys = Vec::new();
    let mut visit = |entry: Entry| {
        keys.push(shown(&entry.key));
        Ok(())
    };
    repository.for_each_entry(&snapshot, Some(b"b/c"), &mut visit).unwrap();
    assert_eq!(keys, ["b/c", "b/c/linked", "b/c/linked2", "b/c/own"]);
}

/// Takes so many bytes.
struct Pipe(usize);

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self.0.checked_sub(bytes.len()) {
            Some(left) => self.0 = left,
            None => return Err(std::io::ErrorKind::BrokenPipe.into()),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn files_and_streams_go_to_a_writer_in_order() {
    let source = random_tree(21);
    let repository = create(Arc::new(MemoryBackend::new()));
    let snapshot = backed_up(&repository, source.path());
    for path in ["large", "holes/only", "holes/both-ends", "holes/middle", "f0", "z-other-name-1"] {
        let Ok(wanted) = std::fs::read(source.path().join(path)) else { continue };
        let mut out = Vec::new();
        let summary = repository.restore_to_writer(&snapshot, Some(path.as_bytes()), &mut out, &Silent).unwrap();
        assert!(out == wanted, "{path}");
        assert_eq!(summary.bytes_total, wanted.len() as u64);
    }
    let several = repository.restore_to_writer(&snapshot, None, &mut Vec::new(), &Silent).unwrap_err();
    assert_eq!(several.kind(), ErrorKind::Invalid);
    let folder = repository.restore_to_writer(&snapshot, Some(b"holes"), &mut Vec::new(), &Silent).unwrap_err();
    assert_eq!(folder.kind(), ErrorKind::Invalid);

    let content = noise(5, 9 << 20);
    let stream = Box::new(std::io::Cursor::new(content.clone()));
    let summary = repository.backup_stream("db/dump", stream, &BackupOptions::new("dumps"), &Silent).unwrap();
    let snapshot = repository.find_snapshot("latest", Some("dumps"), None).unwrap();
    assert_eq!(Some(snapshot.id), summary.snapshot);
    let mut out = Vec::new();
    let summary = repository.restore_to_writer(&snapshot, None, &mut out, &Silent).unwrap();
    assert!(out == content);
    assert!(summary.bytes_fetched < content.len() as u64 + 100_000, "{summary:?}: frames are decoded once here");

    let broken = repository.restore_to_writer(&snapshot, None, &mut Pipe(3 << 20), &Silent).unwrap_err();
    let source = std::error::Error::source(&broken).unwrap().downcast_ref::<std::io::Error>().unwrap();
    assert_eq!((broken.kind(), source.kind()), (ErrorKind::Unavailable, std::io::ErrorKind::BrokenPipe));

    let (_folder, target) = target();
    repository.restore(&snapshot, &target, &RestoreOptions::default(), &Silent).unwrap();
    assert!(std::fs::read(target.join("db/dump")).unwrap() == content);
}

/// Repository with a tree of files of their own content, the tree, and by damaged byte which files suffer.
fn files_in_frames() -> (tempfile::TempDir, Arc<FaultyBackend>, Repository) {
    let source = tempfile::tempdir().unwrap();
    for n in 0..40_u64 {
        write(&source.path().join(format!("d{}/f{n:02}", n % 3)), &noise(n, 30_000), n);
    }
    std::fs::hard_link(source.path().join("d0/f00"), source.path().join("other-name")).unwrap();
    write(&source.path().join("large"), &noise(100, 4 << 20), 7);
    let backend = Arc::new(FaultyBackend::new(Arc::new(MemoryBackend::new()), 3));
    let repository = create(backend.clone());
    (source, backend, repository)
}

#[test]
fn a_damaged_frame_fails_exactly_the_files_that_need_it() {
    let (source, backend, repository) = files_in_frames();
    let snapshot = backed_up(&repository, source.path());
    let wanted = look(source.path());
    let packs = backend.list_sorted(ObjectKind::DataPack).unwrap();
    let mut suffered = std::collections::BTreeSet::new();
    for pack in &packs {
        let tail = repository.read_pack_tail(&pack.name, pack.size).unwrap();
        let mut offset = 64;
        for frame in &tail.tables.contents.frames {
            backend.flip(&pack.name, offset + u64::from(frame.sealed_length) / 2);
            offset += u64::from(frame.sealed_length);
            let expected = files_of(&repository, &snapshot, &frame.chunks);
            for limits in [Limits::DEFAULT, TINY] {
                let (_folder, target) = target();
                let listener = Listener::default();
                let summary = repository.restore_within(&snapshot, &target, &RestoreOptions::default(), &listener, limits).unwrap();
                assert!(summary.damaged && summary.items_failed == expected.len() as u64, "{summary:?}");
                assert_eq!(listener.failed(), expected);
                let mut found = look(&target);
                let mut whole = wanted.clone();
                // Without its other name a file is no longer one of two; folders keep their times all the same.
                for path in &expected {
                    whole.remove(Path::new(path));
                    assert!(!target.join(path).exists(), "{path} is left");
                }
                if expected.contains(&"other-name".into()) {
                    assert!(expected.contains(&"d0/f00".into()));
                }
                found.retain(|path, _| whole.contains_key(path));
                assert_eq!(found, whole);
            }
            suffered.extend(expected);
            backend.heal();
        }
    }
    assert_eq!(suffered.len(), 42);
}

/// The files, other names included, that use one of these chunks.
fn files_of(repository: &Repository, snapshot: &Snapshot, chunks: &[crate::id::ChunkId]) -> Vec<String> {
    let reader = FrameReader::new(repository, repository.open_index().unwrap());
    let source = repository.snapshot_chunks(&reader, &snapshot.header).unwrap();
    let mut files = std::collections::BTreeSet::new();
    for entry in TreeWalk::new(&source, &snapshot.body.tree_root, KeyKind::Paths, KeyRange::all()).unwrap() {
        let entry = entry.unwrap();
        let uses = match &entry.kind {
            EntryKind::File(content) => {
                let mut layout = layout::Layout::new(&source, content).unwrap();
                std::iter::from_fn(|| layout.next().unwrap()).any(|(_, chunk)| chunks.contains(&chunk.id))
            }
            EntryKind::HardLink(earlier) => files.contains(&shown(earlier)),
            _ => false,
        };
        if uses {
            files.insert(shown(&entry.key));
        }
    }
    files.into_iter().collect()
}

/// The same frames in a pack of another name, as a collector makes it.
fn copy_of_pack(repository: &Repository, name: &ObjectName, size: u64) -> ObjectName {
    let tail = repository.read_pack_tail(name, size).unwrap();
    let copy = ObjectName::pack(name.kind(), crate::id::PackId(repository.runtime.random()));
    let header = repository.header(copy);
    let bytes = repository.backend.get(name, size).unwrap();
    let frames = &bytes[64..64 + tail.footer.frames_length as usize];
    let mut groups = crate::format::pack::GroupHasher::default();
    groups.update(frames);
    let mut end = tail.tables.encode();
    header.part_sealer(repository.structure_key().unwrap(), 0).seal(0, &mut end);
    end.extend_from_slice(&groups.finish());
    end.extend_from_slice(&tail.footer.encode());
    let trailer = repository.credential.author.trailer(&header, &end);
    repository.backend.put(&copy, &[&header.encode()[..], frames, &end, &trailer].concat()).unwrap();
    copy
}

#[test]
fn a_damaged_copy_gives_way_to_a_good_one() {
    let (source, backend, repository) = files_in_frames();
    let snapshot = backed_up(&repository, source.path());
    let packs = backend.list_sorted(ObjectKind::DataPack).unwrap();
    // The same packs under other names: signed by the same session, so as good as the first ones.
    let mut names = Vec::new();
    for pack in &packs {
        names.push(copy_of_pack(&repository, &pack.name, pack.size));
    }
    let (_folder, target) = target();
    let tail = repository.read_pack_tail(&packs[0].name, packs[0].size).unwrap();
    let first = u64::from(tail.tables.contents.frames[0].sealed_length);
    for name in [packs[0].name, packs[1].name, names[2]] {
        backend.flip(&name, 64 + first / 2);
    }
    let listener = Listener::default();
    let summary = repository.restore(&snapshot, &target, &RestoreOptions::default(), &listener).unwrap();
    assert_eq!(look(&target), look(source.path()));
    assert_eq!((summary.items_failed, summary.damaged), (0, false));
    assert!(listener.notices.lock()[0].contains("damaged or not readable: "));
    let mut out = Vec::new();
    repository.restore_to_writer(&snapshot, Some(b"large"), &mut out, &Silent).unwrap();
    assert!(out == noise(100, 4 << 20));
}

#[test]
fn a_lost_pack_costs_only_what_was_in_it() {
    let (source, backend, repository) = files_in_frames();
    let snapshot = backed_up(&repository, source.path());
    let pack = backend.list_sorted(ObjectKind::DataPack).unwrap()[1].clone();
    let tail = repository.read_pack_tail(&pack.name, pack.size).unwrap();
    let chunks: Vec<_> = tail.tables.contents.frames.iter().flat_map(|frame| frame.chunks.clone()).collect();
    let expected = files_of(&repository, &snapshot, &chunks);
    backend.delete(&pack.name).unwrap();
    let (_folder, target) = target();
    let listener = Listener::default();
    let summary = repository.restore(&snapshot, &target, &RestoreOptions::default(), &listener).unwrap();
    assert!(summary.damaged && !expected.is_empty());
    assert_eq!(listener.failed(), expected);
    assert!(listener.notices.lock()[0].contains("are in no pack"));
    assert!(repository.find_snapshot(&snapshot.id.to_string(), None, None).is_ok());
}

#[test]
fn a_damaged_part_of_the_tree_costs_only_that_part() {
    let source = tempfile::tempdir().unwrap();
    for n in 0..3_000_u64 {
        let path = source.path().join(format!("d{:02}/f{n:04}", n / 100));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, n.to_le_bytes()).unwrap();
    }
    let backend = Arc::new(FaultyBackend::new(Arc::new(MemoryBackend::new()), 3));
    let repository = create(backend.clone());
    let snapshot = backed_up(&repository, source.path());
    let pack = backend.list_sorted(ObjectKind::MetaPack).unwrap()[0].clone();
    backend.flip(&pack.name, 64 + 100);
    let (_folder, target) = target();
    let listener = Listener::default();
    let summary = repository.restore(&snapshot, &target, &RestoreOptions::default(), &listener).unwrap();
    let (found, wanted) = (look(&target), look(source.path()));
    assert!(summary.damaged && summary.items_failed == 1 && listener.failed().len() == 1);
    assert!(found.len() > 200 && found.len() < wanted.len(), "{} of {}", found.len(), wanted.len());
    assert!(found.iter().filter(|(path, _)| path.components().count() == 2).all(|(path, what)| wanted.get(path) == Some(what)));
}

#[test]
fn only_frames_of_the_refs_are_used() {
    let source = tempfile::tempdir().unwrap();
    write(&source.path().join("one"), &noise(1, 20_000), 1);
    let backend = MemoryBackend::new();
    let repository = create(Arc::new(backend));
    let snapshot = backed_up(&repository, source.path());
    write(&source.path().join("two"), &noise(2, 20_000), 1);
    let second = backed_up(&repository, source.path());
    let reader = FrameReader::new(&repository, repository.open_index().unwrap());
    let (first, second) = [&snapshot, &second].map(|one| repository.snapshot_chunks(&reader, &one.header).unwrap()).into();
    let chunk = |bytes: &[u8]| reader.ids().id_of(crate::repository::ChunkKind::Data, bytes).unwrap();
    let mut found = Vec::new();
    for (seed, both) in [(1, true), (2, false)] {
        let mut ids = Vec::new();
        for entry in TreeWalk::new(&second, &second_root(&repository), KeyKind::Paths, KeyRange::all()).unwrap() {
            if let EntryKind::File(crate::entry::FileContent { chunks: crate::entry::ChunkList::Inline(chunks), .. }) = entry.unwrap().kind
            {
                ids.extend(chunks.into_iter().map(|chunk| chunk.id));
            }
        }
        let id = chunk(&noise(seed, 20_000));
        assert!(ids.contains(&id), "a file of this size is one chunk");
        assert!(second.find(&id).is_ok());
        assert_eq!(first.find(&id).is_ok(), both);
        assert_eq!(first.chunk(crate::repository::ChunkKind::Data, &id).is_ok(), both);
        found.push(id);
    }
    assert_ne!(found[0], found[1]);
}

fn second_root(repository: &Repository) -> crate::id::ChunkId {
    repository.snapshots().unwrap()[1].body.tree_root
}

#[test]
fn a_store_that_cannot_be_written_is_read_without_a_session() {
    let (source, backend, repository) = files_in_frames();
    let snapshot = backed_up(&repository, source.path());
    let sessions = || backend.list_sorted(ObjectKind::Session).unwrap().len();
    let before = sessions();
    backend.fail_some(Operation::Create, 1);
    let (_folder, target) = target();
    let listener = Listener::default();
    repository.restore(&snapshot, &target, &RestoreOptions::default(), &listener).unwrap();
    assert_eq!(look(&target), look(source.path()));
    assert!(listener.notices.lock()[0].contains("without a session"));
    assert_eq!(sessions(), before);
    backend.heal();
    repository.restore(&snapshot, &target, &RestoreOptions::default(), &Silent).unwrap();
    assert_eq!(sessions(), before + 1);
    assert_eq!(backend.list_sorted(ObjectKind::Closed).unwrap().len(), sessions());
}

#[test]
fn failures_of_the_backend_and_cancelling_end_it_with_the_session_closed() {
    let (source, backend, repository) = files_in_frames();
    let snapshot = backed_up(&repository, source.path());
    let (_folder, target) = target();
    let listener = Listener { bytes_left: Mutex::new(Some(1 << 20)), ..Listener::default() };
    let cancelled = repository.restore_within(&snapshot, &target, &RestoreOptions::default(), &listener, TINY).unwrap_err();
    assert_eq!(cancelled.kind(), ErrorKind::Cancelled);
    let cancel = Cancel::default();
    cancel.cancel();
    let mut out = Vec::new();
    let cancelled = repository.restore_to_writer(&snapshot, Some(b"large"), &mut out, &cancel).unwrap_err();
    assert_eq!((cancelled.kind(), out.len()), (ErrorKind::Cancelled, 0));

    let mut failures = 0;
    for nth in (1..60).step_by(7) {
        backend.fail(Operation::GetRange, nth);
        let _ = std::fs::remove_dir_all(&target);
        match repository.restore(&snapshot, &target, &RestoreOptions::default(), &Silent) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                failures += 1;
            }
            Ok(summary) if summary.items_failed == 0 => assert_eq!(look(&target), look(source.path())),
            Ok(summary) => assert!(summary.damaged),
        }
        backend.heal();
    }
    assert!(failures > 0);
    // What was interrupted goes on.
    repository.restore(&snapshot, &target, &RestoreOptions::default(), &Silent).unwrap();
    assert_eq!(look(&target), look(source.path()));
    let closed = backend.list_sorted(ObjectKind::Closed).unwrap().len();
    assert_eq!(closed, backend.list_sorted(ObjectKind::Session).unwrap().len());
}

#[test]
fn snapshots_are_found_by_what_people_type() {
    let source = tempfile::tempdir().unwrap();
    let backend = Arc::new(FaultyBackend::new(Arc::new(MemoryBackend::new()), 3));
    let repository = create(backend.clone());
    let find = |selector: &str, series, at: Option<i64>| {
        let found = repository.find_snapshot(selector, series, at.map(|seconds| Timestamp { seconds, nanoseconds: 0 }));
        found.map(|snapshot| snapshot.id).map_err(|error| error.kind())
    };
    assert_eq!(find("latest", None, None), Err(ErrorKind::NotFound));
    let mut ids = Vec::new();
    for n in 0..3 {
        write(&source.path().join("file"), &n.to_string().into_bytes(), 0);
        ids.push(backup_at(&repository, source.path(), 1_000 + n * 100).snapshot.unwrap());
    }
    assert_eq!(find("latest", None, None), Ok(ids[2]));
    assert_eq!(find("latest", Some("tests"), Some(1_150)), Ok(ids[1]));
    assert_eq!(find("latest", None, Some(1_100)), Ok(ids[1]));
    assert_eq!(find("latest", None, Some(999)), Err(ErrorKind::NotFound));
    assert_eq!(find("latest", Some("other"), None), Err(ErrorKind::NotFound));
    assert_eq!(find(&ids[0].to_string(), None, None), Ok(ids[0]));
    assert_eq!(find(&ids[1].to_string()[..8], Some("tests"), None), Ok(ids[1]));
    assert_eq!(find(&ids[1].to_string()[..8], Some("other"), None), Err(ErrorKind::NotFound));
    assert_eq!(find(&ids[1].to_string(), None, Some(5)), Err(ErrorKind::Invalid));
    assert_eq!(find("00000000", None, None), Err(ErrorKind::NotFound));
    for nonsense in ["", "abc", "LATEST", "xyz0", &"0".repeat(33)] {
        assert_eq!(find(nonsense, None, None), Err(ErrorKind::Invalid), "{nonsense}");
    }
    let twin = format!("snapshots/{}{}", &ids[0].to_string()[..8], "0".repeat(24));
    let twin = ObjectName::parse(&twin).unwrap();
    backend.put(&twin, b"rubbish").unwrap();
    assert_eq!(find(&ids[0].to_string()[..6], None, None), Err(ErrorKind::Invalid));
    backend.delete(&twin).unwrap();

    // The newest one breaks, then is gone: it never quietly gives way, and the others can still be named.
    let newest = ObjectName::snapshot(ids[2]);
    backend.flip(&newest, 200);
    for _ in 0..2 {
        assert_eq!(find("latest", None, None), Err(ErrorKind::Damaged));
        assert_eq!(find(&ids[2].to_string(), None, None), Err(ErrorKind::Damaged));
        assert_eq!(find(&ids[1].to_string()[..12], None, None), Ok(ids[1]));
        let _ = backend.delete(&newest);
    }
    let snapshot = repository.find_snapshot(&ids[1].to_string(), None, None).unwrap();
    let (_folder, target) = target();
    repository.restore(&snapshot, &target, &RestoreOptions::default(), &Silent).unwrap();
    assert_eq!(std::fs::read(target.join("file")).unwrap(), b"1");
}

//! Files that change between being found and being opened, and while they are read.

use super::*;
use crate::entry::{Entry, EntryKind};
use crate::restore::RestoreOptions;
use crate::runtime::Clock;
use crate::source::{SourceEntry, Walk, WalkItem};
use parking_lot::Mutex;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What is done to a file.
type Change = fn(&Path);

/// Remembers what failed; does something when the first bytes were taken.
struct Watch {
    failed: Mutex<Vec<(String, String)>>,
    when_begun: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch")
    }
}

impl Progress for Watch {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::ItemFailed { item, message } => self.failed.lock().push((item.to_owned(), message.to_owned())),
            Event::Advance { bytes, .. } if bytes > 0 => drop(self.when_begun.lock().take().map(|change| change())),
            _ => {}
        }
    }
}

fn watch(when_begun: Option<Box<dyn FnOnce() + Send>>) -> Watch {
    Watch { failed: Mutex::default(), when_begun: Mutex::new(when_begun) }
}

/// Backs up `folder`; `change` is done to each file after it was found and before it is opened.
fn backup_changing(
    repository: &Repository,
    folder: &Path,
    change: impl Fn(&str) + Send + 'static,
) -> (BackupSummary, Vec<(String, String)>) {
    let roots = Roots::resolve(&[folder.join(".")]).unwrap();
    let watch = watch(None);
    let walk = Walk::start(&roots, &SourceOptions::default(), None, &repository.runtime).unwrap();
    let items = walk.inspect(move |item| {
        if let Ok(WalkItem::Entry(entry)) = item {
            change(std::str::from_utf8(&entry.entry.key).unwrap());
        }
    });
    let options = BackupOptions::new("tests");
    let start = |run: &Assembler<'_>| producer::start_with(items, run);
    let summary = repository.run_backup(&options, &watch, Feed::Files, roots.paths(), start).unwrap();
    (summary, watch.failed.into_inner())
}

/// What the newest snapshot gives back.
fn restored(repository: &Repository) -> tempfile::TempDir {
    let target = tempfile::tempdir().unwrap();
    let snapshot = repository.find_snapshot("latest", None, None).unwrap();
    repository.restore(&snapshot, &target.path().join("t"), &RestoreOptions::default(), &Silent).unwrap();
    target
}

#[test]
fn a_file_that_changed_before_it_is_opened_is_stored_as_it_is_then() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // Small ones, which workers read, and large ones.
    for (name, length) in [("grown", 1000), ("grown-large", 5 << 20), ("shrunk", 1000), ("shrunk-large", 5 << 20), ("rewritten", 1000)] {
        fs::write(at(name), noise(1, length)).unwrap();
    }
    let base = folder.path().to_owned();
    let repository = repository(&MemoryBackend::new(), 2);
    let (summary, failed) = backup_changing(&repository, folder.path(), move |name| match name {
        "grown" | "grown-large" => fs::write(base.join(name), noise(2, 6 << 20)).unwrap(),
        "shrunk" | "shrunk-large" => File::options().write(true).open(base.join(name)).unwrap().set_len(10).unwrap(),
        "rewritten" => fs::write(base.join(name), noise(3, 1000)).unwrap(),
        _ => {}
    });
    assert!(failed.is_empty() && summary.files_failed == 0, "{failed:?}");
    let back = restored(&repository);
    for file in ["grown", "grown-large", "shrunk", "shrunk-large", "rewritten"] {
        let (now, stored) = (fs::read(at(file)).unwrap(), fs::read(back.path().join("t").join(file)).unwrap());
        assert!(now == stored, "{file}: {} bytes on disk, {} stored", now.len(), stored.len());
    }
    let modified = |path: &Path| path.metadata().unwrap().modified().unwrap();
    assert_eq!(modified(&back.path().join("t/shrunk")), modified(&at("shrunk")));
    assert!(repository.snapshots().unwrap()[0].body.whole);
}

#[test]
fn of_a_small_file_that_became_huge_a_beginning_is_stored_and_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    fs::write(&path, "small").unwrap();
    let repository = repository(&MemoryBackend::new(), 1);
    let grown = path.clone();
    let (summary, failed) = backup_changing(&repository, folder.path(), move |name| {
        if name == "log" {
            fs::write(&grown, noise(5, 40 << 20)).unwrap();
        }
    });
    assert_eq!((summary.files_failed, failed.len()), (1, 1), "{failed:?}");
    let stored = fs::read(restored(&repository).path().join("t/log")).unwrap();
    assert!(stored.len() == 16 << 20 && stored == fs::read(&path).unwrap()[..16 << 20], "{} bytes", stored.len());
}

#[test]
fn what_took_a_files_place_is_never_stored_as_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::write(elsewhere.path().join("secret"), "not to be stored").unwrap();
    let kinds = ["vanished", "a-folder", "a-pipe", "a-link", "another-file"];
    for (name, length) in kinds.iter().flat_map(|name| [(name.to_string(), 1000), (format!("{name}-large"), 5 << 20)]) {
        fs::write(folder.path().join(name), noise(1, length)).unwrap();
    }
    fs::write(folder.path().join("kept"), "kept").unwrap();
    let (base, secret) = (folder.path().to_owned(), elsewhere.path().join("secret"));
    let repository = repository(&MemoryBackend::new(), 2);
    let (summary, failed) = backup_changing(&repository, folder.path(), move |name| {
        let path = base.join(name);
        let kind = name.trim_end_matches("-large");
        if kinds.contains(&kind) {
            fs::remove_file(&path).unwrap();
        }
        match kind {
            "a-folder" => fs::create_dir(&path).unwrap(),
            "a-pipe" => mknodat(CWD, &path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
            "a-link" => std::os::unix::fs::symlink(&secret, &path).unwrap(),
            "another-file" => fs::hard_link(&secret, &path).unwrap(),
            _ => {}
        }
    });
    assert_eq!((summary.files_failed, failed.len()), (10, 10), "{failed:?}");
    assert!(failed.iter().all(|(item, _)| item.starts_with(folder.path().to_str().unwrap())), "{failed:?}");
    let back = restored(&repository);
    let names: Vec<_> = fs::read_dir(back.path().join("t")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["kept"]);
    assert!(!repository.snapshots().unwrap()[0].body.whole);
}

/// It was stored as a link to a name that is gone by now, and its inode did not change.
#[test]
fn a_name_that_was_a_link_can_become_the_first_one() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name);
    ["a", "b"].into_iter().for_each(|name| fs::create_dir(at(name)).unwrap());
    for (name, length) in [("small", 1000), ("large", 5 << 20)] {
        let (first, second) = (at("a").join(name), at("b").join(name));
        fs::write(&first, noise(1, length)).unwrap();
        File::options().write(true).open(&first).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        fs::hard_link(&first, &second).unwrap();
    }
    let (key, settings) = (Key::generate(&Runtime::system(1)), Settings::default().with_cache(cache.path()));
    let runtime = Runtime::seeded(7, NOW, 2);
    let repository = Repository::create(Arc::new(MemoryBackend::new()), runtime, &key, &super::options(), settings).unwrap();
    assert_eq!(backup(&repository, folder.path()).files_failed, 0);
    fs::rename(at("a"), at("c")).unwrap();
    for _ in 0..2 {
        assert_eq!(backup(&repository, folder.path()).files_failed, 0);
        let back = restored(&repository);
        for (name, length) in [("small", 1000), ("large", 5 << 20)] {
            let [first, second] = ["b", "c"].map(|folder| back.path().join("t").join(folder).join(name));
            assert!(fs::read(&first).unwrap() == noise(1, length));
            assert_eq!(first.metadata().unwrap().ino(), second.metadata().unwrap().ino());
        }
    }
}

/// The walk has told of all names before the first one is opened.
#[test]
fn other_names_of_a_file_that_vanished_are_named_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    for (name, length) in [("small", 1000), ("large", 5 << 20)] {
        fs::write(folder.path().join(format!("a-{name}")), noise(1, length)).unwrap();
        fs::hard_link(folder.path().join(format!("a-{name}")), folder.path().join(format!("b-{name}"))).unwrap();
    }
    fs::write(folder.path().join("kept"), "kept").unwrap();
    let repository = repository(&MemoryBackend::new(), 2);
    let base = folder.path().to_owned();
    let (summary, failed) = backup_changing(&repository, folder.path(), move |name| {
        if name.starts_with("a-") {
            fs::remove_file(base.join(name)).unwrap();
        }
    });
    assert_eq!((summary.files_failed, failed.len()), (4, 4), "{failed:?}");
    let names = |back: tempfile::TempDir| {
        let mut names: Vec<_> =
            fs::read_dir(back.path().join("t")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(restored(&repository)), ["kept"]);
    assert!(repository.check(&Silent).unwrap().findings.is_empty());
    assert_eq!(backup(&repository, folder.path()).files_failed, 0);
    assert_eq!(names(restored(&repository)), ["b-large", "b-small", "kept"]);
}

/// As where an attribute is listed that cannot be read: nothing of the kind can be made on every file system.
#[test]
fn what_lacks_attributes_is_looked_at_again_next_time() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(folder.path().join("incomplete")).unwrap();
    fs::create_dir(folder.path().join("whole")).unwrap();
    let (key, settings) = (Key::generate(&Runtime::system(1)), Settings::default().with_cache(cache.path()));
    let runtime = Runtime::seeded(7, NOW, 2);
    let repository = Repository::create(Arc::new(MemoryBackend::new()), runtime, &key, &super::options(), settings).unwrap();
    let roots = Roots::resolve(&[folder.path().join(".")]).unwrap();
    let mut walk: Vec<_> = Walk::start(&roots, &SourceOptions::default(), None, &repository.runtime).unwrap().collect();
    let stats = walk.iter_mut().filter_map(|item| {
        let Ok(WalkItem::Entry(entry)) = item else { return None };
        entry.is_incomplete = entry.entry.key == b"incomplete";
        Some((entry.entry.key.clone(), entry.stat))
    });
    let stats: std::collections::BTreeMap<_, _> = stats.collect();
    let options = BackupOptions::new("tests");
    let start = |run: &Assembler<'_>| producer::start_with(walk.into_iter(), run);
    repository.run_backup(&options, &Silent, Feed::Files, roots.paths(), start).unwrap();
    let cache = producer::open_cache(&repository, &options).unwrap();
    let is_known = |name: &[u8]| crate::source::Known::is_known(&*cache, name, &stats[name]);
    assert!(is_known(b"whole") && !is_known(b"incomplete"));
}

/// Some file systems have symlinks that point to nothing, which a tree cannot hold.
#[test]
fn what_a_tree_cannot_hold_is_left_out_and_named_with_its_other_names() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("x", folder.path().join("a")).unwrap();
    fs::hard_link(folder.path().join("a"), folder.path().join("b")).unwrap();
    fs::write(folder.path().join("kept"), "kept").unwrap();
    let repository = repository(&MemoryBackend::new(), 1);
    let roots = Roots::resolve(&[folder.path().join(".")]).unwrap();
    let mut walk: Vec<_> = Walk::start(&roots, &SourceOptions::default(), None, &repository.runtime).unwrap().collect();
    for item in walk.iter_mut() {
        if let Ok(WalkItem::Entry(SourceEntry { entry: Entry { kind: EntryKind::Symlink(target), .. }, .. })) = item {
            target.clear();
        }
    }
    let start = |run: &Assembler<'_>| producer::start_with(walk.into_iter(), run);
    let summary = repository.run_backup(&BackupOptions::new("tests"), &Silent, Feed::Files, roots.paths(), start).unwrap();
    assert_eq!((summary.files_failed, summary.entries), (2, 2));
    assert_eq!(fs::read(restored(&repository).path().join("t/kept")).unwrap(), b"kept");
    assert!(repository.check(&Silent).unwrap().findings.is_empty());
}

#[test]
fn a_file_that_changes_while_it_is_read_is_named_and_what_was_read_is_stored() {
    const LENGTH: usize = 40 << 20;
    // The pieces in flight reach less than 24 MiB beyond the first one.
    let cases: [(&str, Change); 4] = [
        ("shrinks", |path| File::options().write(true).open(path).unwrap().set_len(30 << 20).unwrap()),
        ("shrinks to nothing", |path| File::create(path).unwrap().set_len(0).unwrap()),
        ("grows", |path| File::options().write(true).open(path).unwrap().set_len(60 << 20).unwrap()),
        ("vanishes", |path| fs::remove_file(path).unwrap()),
    ];
    let content = noise(1, LENGTH);
    for (case, change) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large");
        fs::write(&path, &content).unwrap();
        let repository = repository(&MemoryBackend::new(), 1);
        let roots = Roots::resolve(std::slice::from_ref(&path)).unwrap();
        let watch = watch(Some(Box::new(move || change(&path))));
        let summary = repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("tests"), &watch).unwrap();
        let failed = watch.failed.into_inner();
        assert_eq!((summary.files_failed, failed.len()), (1, 1), "{case}: {failed:?}");
        assert!(failed[0].0.ends_with("large") && failed[0].1.contains("changed while it was read"), "{case}: {failed:?}");
        let stored = fs::read(restored(&repository).path().join("t/large")).unwrap();
        assert!(stored == content[..stored.len()], "{case}: {} bytes that the file never had in this place", stored.len());
        let lengths = match case {
            "shrinks" => 30 << 20..=30 << 20,
            "shrinks to nothing" => 4 << 20..=28 << 20,
            _ => LENGTH..=LENGTH,
        };
        assert!(lengths.contains(&stored.len()), "{case}: {} bytes", stored.len());
        assert!(!repository.snapshots().unwrap()[0].body.whole);
    }
}

/// Stands 5 ms after a moment, and notes how long is slept.
#[derive(Debug)]
struct ShortlyAfter(Timestamp, Mutex<Vec<u64>>);

impl Clock for ShortlyAfter {
    fn now(&self) -> Timestamp {
        let nanoseconds = u64::from(self.0.nanoseconds) + 5_000_000;
        Timestamp { seconds: self.0.seconds + (nanoseconds / 1_000_000_000) as i64, nanoseconds: (nanoseconds % 1_000_000_000) as u32 }
    }

    fn monotonic_ns(&self) -> u64 {
        0
    }

    fn sleep_ns(&self, nanoseconds: u64) {
        self.1.lock().push(nanoseconds);
    }
}

/// A change in the same step of the clock would not show in its ctime.
#[test]
fn a_file_that_has_just_changed_is_read_a_little_later() {
    for length in [1000, 5 << 20] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("fresh"), noise(2, length)).unwrap();
        let facts = folder.path().join("fresh").metadata().unwrap();
        let clock = ShortlyAfter(Timestamp { seconds: facts.ctime(), nanoseconds: facts.ctime_nsec() as u32 }, Mutex::default());
        let clock = Arc::new(clock);
        let runtime = Runtime { clock: clock.clone(), ..Runtime::seeded(7, NOW, 1) };
        let key = Key::generate(&Runtime::system(1));
        let repository = Repository::create(Arc::new(MemoryBackend::new()), runtime, &key, &super::options(), Settings::default()).unwrap();
        assert_eq!(backup(&repository, folder.path()).files_failed, 0);
        assert_eq!(*clock.1.lock(), [15_000_000]);
    }
}

#[test]
fn a_missing_path_makes_the_snapshot_incomplete() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("there"), "x").unwrap();
    let repository = repository(&MemoryBackend::new(), 1);
    let roots = Roots::resolve(&[folder.path().join("gone"), folder.path().join("there")]).unwrap();
    let watch = watch(None);
    let summary = repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("tests"), &watch).unwrap();
    assert_eq!(summary.files_failed, 1);
    assert!(watch.failed.into_inner()[0].0.ends_with("gone"));
    let snapshot = &repository.snapshots().unwrap()[0];
    assert!(!snapshot.body.whole && snapshot.body.paths.len() == 2);
    assert_eq!(fs::read(restored(&repository).path().join("t/there")).unwrap(), b"x");
}

#[test]
fn a_large_file_that_the_cache_knows_and_the_repository_does_not_is_read_in_pieces() {
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = folder.path().join("large");
    fs::write(&file, noise(1, 20 << 20)).unwrap();
    File::options().write(true).open(&file).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let backend = MemoryBackend::new();
    let key = Key::generate(&Runtime::system(1));
    let settings = Settings::default().with_cache(cache.path());
    let repository = Repository::create(Arc::new(backend), Runtime::seeded(7, NOW, 2), &key, &super::options(), settings).unwrap();
    let run = |fixed: &[&str]| {
        let roots = Roots::resolve(&[folder.path().join(".")]).unwrap();
        let source = SourceOptions { fixed: fixed.iter().map(|glob| glob.to_string()).collect(), ..SourceOptions::default() };
        repository.backup(&roots, &source, &BackupOptions::new("tests"), &Silent).unwrap()
    };
    assert_eq!(run(&[]).bytes_read, 20 << 20);
    assert_eq!(run(&[]).bytes_read, 0);
    // Cut anew, although stat says that nothing changed.
    assert_eq!(run(&["large"]).bytes_read, 20 << 20);
    assert_eq!(run(&["large"]).bytes_read, 0);
    assert!(fs::read(restored(&repository).path().join("t/large")).unwrap() == noise(1, 20 << 20));
}

//! Everything that Linux keeps of a file, out and back: random trees of all kinds of things, compared field by field by code that shares
//! nothing with the engine.
//!
//! As root everything is made and compared. As a plain user, which root plays by starting this program again, everything that he may make.

mod fidelity {
    pub(crate) mod facts;
    pub(crate) mod trees;
}

use fidelity::facts::{Facts, describe};
use fidelity::trees::{Tree, unlock};
use icecore::backend::{Backend, LocalBackend, MemoryBackend};
use icecore::backup::{BackupOptions, BackupSummary};
use icecore::progress::{Event, Progress};
use icecore::repository::{CreateOptions, Key, Repository, Settings};
use icecore::restore::{RestoreOptions, RestoreSummary};
use icecore::runtime::Runtime;
use icecore::source::{Roots, SourceOptions};
use rustix::process::geteuid;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

const NOBODY: u32 = 65_534;
/// Says to a child where its root put a repository.
const PREPARED: &str = "ICECORE_TEST_PREPARED";

/// Remembers which items failed, and what else it was told.
#[derive(Debug, Default)]
struct Listener {
    failed: Mutex<Vec<(String, String)>>,
    notices: Mutex<Vec<String>>,
}

impl Progress for Listener {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::ItemFailed { item, message } => self.failed.lock().unwrap().push((item.into(), message.into())),
            Event::Notice { message } => self.notices.lock().unwrap().push(message.into()),
            _ => {}
        }
    }
}

impl Listener {
    fn failed(&self) -> Vec<String> {
        let mut items: Vec<_> = self.failed.lock().unwrap().iter().map(|(item, _)| item.clone()).collect();
        items.sort();
        items
    }
}

fn create(backend: Arc<dyn Backend>, key: &Key) -> Repository {
    Repository::create(backend, Runtime::system(2), key, &CreateOptions::default(), Settings::default()).unwrap()
}

fn back_up(repository: &Repository, folder: &Path, listener: &Listener) -> BackupSummary {
    let roots = Roots::resolve(&[folder.join(".")]).unwrap();
    repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("fidelity"), listener).unwrap()
}

fn restore(repository: &Repository, target: &Path, options: &RestoreOptions, listener: &Listener) -> RestoreSummary {
    let snapshot = repository.find_snapshot("latest", None, None).unwrap();
    repository.restore(&snapshot, target, options, listener).unwrap()
}

/// Takes away what keeps a tree from being removed, also after a failed test.
struct Unlocked<'a>(&'a Path);

impl Drop for Unlocked<'_> {
    fn drop(&mut self) {
        unlock(self.0);
    }
}

#[track_caller]
fn assert_same(what: &str, wanted: &Facts, found: &Facts) {
    let mut differences = Vec::new();
    for (path, facts) in wanted {
        if found.get(path) != Some(facts) {
            differences.push(format!("{}\n  wanted {facts:?}\n  found  {:?}", path.escape_ascii(), found.get(path)));
        }
    }
    differences.extend(found.keys().filter(|path| !wanted.contains_key(*path)).map(|path| format!("{} is too much", path.escape_ascii())));
    assert!(differences.is_empty(), "{what}: {} of {} differ\n{}", differences.len(), wanted.len(), differences.join("\n"));
}

/// Random trees, restored into nothing, onto themselves, and onto what another one left.
fn trees_come_back(seeds: std::ops::Range<u64>) {
    let folder = tempfile::tempdir().unwrap();
    let _unlocked = Unlocked(folder.path());
    for seed in seeds {
        let source = folder.path().join(format!("source{seed}"));
        let may = Tree::make(&source, seed);
        eprintln!("seed {seed}: {} things, as root {}, flags {}, ACLs {}", may.things, may.is_root, may.has_flags, may.has_acls);
        let wanted = describe(&source);
        assert!(wanted.len() > 40);
        let repository = create(Arc::new(MemoryBackend::new()), &Key::generate(&Runtime::system(1)));
        let listener = Listener::default();
        let summary = back_up(&repository, &source, &listener);
        assert_eq!((listener.failed(), summary.files_failed), (Vec::new(), 0), "seed {seed}");
        let target = folder.path().join(format!("target{seed}"));
        let mut options = RestoreOptions::default();
        options.verify = true;
        for round in ["into nothing", "onto itself"] {
            let listener = Listener::default();
            let summary = restore(&repository, &target, &options, &listener);
            // What a plain user made he may not be able to read back.
            let failed: Vec<_> =
                listener.failed.lock().unwrap().iter().filter(|(_, why)| may.is_root || !why.contains("differs")).cloned().collect();
            assert!(failed.is_empty(), "seed {seed} {round}: {failed:?}");
            assert!(!summary.damaged && listener.notices.lock().unwrap().is_empty(), "{:?}", listener.notices);
            assert_same(&format!("seed {seed} {round}"), &wanted, &describe(&target));
        }
        // Another tree's leftovers give way, once they may be changed.
        let other = folder.path().join(format!("other{seed}"));
        Tree::make(&other, seed + 1_000);
        unlock(&other);
        options.delete = true;
        let listener = Listener::default();
        restore(&repository, &other, &options, &listener);
        assert_same(&format!("seed {seed} onto another tree"), &wanted, &describe(&other));
        for done in [source, target, other] {
            unlock(&done);
            fs::remove_dir_all(done).unwrap();
        }
    }
}

#[test]
fn everything_comes_back() {
    trees_come_back(0..6);
}

/// Starts this test program again as a plain user, for one test.
fn as_a_plain_user(test: &str, prepared: Option<&Path>) -> bool {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("fidelity");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let scratch = folder.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    chown(&scratch, Some(NOBODY), Some(NOBODY)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program).args(["--exact", test, "--nocapture"]);
    command.env("TMPDIR", &scratch).current_dir(&scratch);
    if let Some(prepared) = prepared {
        command.env(PREPARED, prepared);
    }
    match command.output() {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "as a plain user: {text}");
            true
        }
        Err(error) => {
            eprintln!("SKIPPED: setpriv, which plays a plain user, cannot be started: {error}");
            false
        }
    }
}

#[test]
fn everything_comes_back_to_a_plain_user() {
    match geteuid().is_root() {
        true => drop(as_a_plain_user("everything_comes_back_to_a_plain_user", None)),
        false => trees_come_back(100..104),
    }
}

/// What root stored and a plain user may not restore is named, once where it is a matter of course, and all else comes back.
#[test]
fn what_a_plain_user_may_not_restore_is_named() {
    if let Some(prepared) = std::env::var_os(PREPARED) {
        return restore_as_a_plain_user(Path::new(&prepared));
    }
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root can store what a plain user may not restore");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    for name in ["plain", "setuid", "capable"] {
        fs::write(source.join(name), name).unwrap();
    }
    fs::set_permissions(source.join("setuid"), fs::Permissions::from_mode(0o6755)).unwrap();
    let device = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(rustix::fs::CWD, source.join("device"), rustix::fs::FileType::CharacterDevice, 0o600.into(), device).unwrap();
    fs::hard_link(source.join("device"), source.join("device again")).unwrap();
    let mut capability = vec![0; 20];
    capability[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
    capability[4] = 1;
    rustix::fs::setxattr(source.join("capable"), "security.capability", &capability, rustix::fs::XattrFlags::empty()).unwrap();
    let key = Key::generate(&Runtime::system(1));
    fs::write(folder.path().join("key"), key.to_key_file().unwrap().as_bytes()).unwrap();
    let repository = create(Arc::new(LocalBackend::create(folder.path().join("repository")).unwrap()), &key);
    back_up(&repository, &source, &Listener::default());
    assert!(Command::new("chown").args(["-R", "65534:65534"]).arg(folder.path().join("repository")).status().unwrap().success());
    as_a_plain_user("what_a_plain_user_may_not_restore_is_named", Some(folder.path()));
}

fn restore_as_a_plain_user(prepared: &Path) {
    let backend = Arc::new(LocalBackend::open(prepared.join("repository")).unwrap());
    let key = Key::from_key_file(&fs::read_to_string(prepared.join("key")).unwrap()).unwrap();
    let repository = Repository::open(backend, Runtime::system(2), &key, Settings::default()).unwrap();
    let target = PathBuf::from("target");
    let listener = Listener::default();
    let summary = restore(&repository, &target, &RestoreOptions::default(), &listener);
    assert_eq!(listener.failed(), ["capable", "device", "device again"]);
    assert_eq!((summary.items_failed, summary.damaged), (3, false));
    let notices = listener.notices.lock().unwrap().clone();
    assert!(notices.len() == 1 && notices[0].contains("owner or group of 4 entries"), "{notices:?}");
    assert_eq!(fs::read_to_string(target.join("capable")).unwrap(), "capable");
    assert_eq!(target.join("setuid").metadata().unwrap().mode() & 0o7777, 0o755, "nobody is lent another one's rights");
}

/// A plain user's unreadable things are named, and all else is stored and comes back.
#[test]
fn unreadable_things_are_named() {
    if geteuid().is_root() {
        as_a_plain_user("unreadable_things_are_named", None);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    for path in ["locked/in it", "fine/file", "secret"] {
        fs::create_dir_all(source.join(path).parent().unwrap()).unwrap();
        fs::write(source.join(path), path).unwrap();
    }
    for path in ["locked", "secret"] {
        fs::set_permissions(source.join(path), fs::Permissions::from_mode(0o000)).unwrap();
    }
    let repository = create(Arc::new(MemoryBackend::new()), &Key::generate(&Runtime::system(1)));
    let listener = Listener::default();
    let summary = back_up(&repository, &source, &listener);
    assert!(summary.snapshot.is_some());
    let failed = listener.failed();
    assert!(failed.len() == 2 && failed[0].ends_with("locked") && failed[1].ends_with("secret"), "{failed:?}");
    let target = folder.path().join("target");
    restore(&repository, &target, &RestoreOptions::default(), &Listener::default());
    assert_eq!(fs::read_to_string(target.join("fine/file")).unwrap(), "fine/file");
    fs::set_permissions(source.join("locked"), fs::Permissions::from_mode(0o700)).unwrap();
}

/// A folder with this many entries.
fn a_large_folder_comes_back(entries: u32) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    for n in 0..entries {
        fs::File::create(source.join(format!("entry number {n:08}"))).unwrap();
    }
    let repository = create(Arc::new(MemoryBackend::new()), &Key::generate(&Runtime::system(1)));
    let listener = Listener::default();
    let summary = back_up(&repository, &source, &listener);
    assert_eq!(summary.files_failed, 0);
    let target = folder.path().join("target");
    let summary = restore(&repository, &target, &RestoreOptions::default(), &listener);
    assert_eq!((summary.entries, summary.items_failed), (u64::from(entries) + 1, 0));
    let names = |folder: &Path| {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert!(names(&target) == names(&source));
}

#[test]
fn a_folder_with_many_entries_comes_back() {
    a_large_folder_comes_back(50_000);
}

/// By hand: `cargo test -p icecore-tests --test fidelity -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn a_folder_with_a_million_entries_comes_back() {
    a_large_folder_comes_back(1_000_000);
}

/// A file of which every other block is a hole, restored with its holes or at least its content.
fn holes_come_back(holes: u64, with_holes: bool) {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    let file = fs::File::create(source.join("holes")).unwrap();
    file.set_len(holes * 8192).unwrap();
    for n in 0..holes {
        std::os::unix::fs::FileExt::write_all_at(&file, &n.to_le_bytes(), n * 8192).unwrap();
    }
    let repository = create(Arc::new(MemoryBackend::new()), &Key::generate(&Runtime::system(1)));
    let listener = Listener::default();
    back_up(&repository, &source, &listener);
    let target = folder.path().join("target");
    restore(&repository, &target, &RestoreOptions::default(), &listener);
    assert_eq!(listener.failed(), [""; 0]);
    match with_holes {
        true => assert_same("holes", &describe(&source), &describe(&target)),
        false => assert!(Command::new("cmp").args([source.join("holes"), target.join("holes")]).status().unwrap().success()),
    }
}

#[test]
fn a_file_with_many_holes_comes_back() {
    holes_come_back(40_000, true);
}

/// More than one entry can name.
#[test]
#[ignore = "writes a gigabyte"]
fn a_file_with_too_many_holes_comes_back_with_less_of_them() {
    holes_come_back(140_000, false);
}

//! The second reader restores and verifies what the engine writes, and notices a flipped byte.

use icecore::backend::LocalBackend;
use icecore::backup::BackupOptions;
use icecore::crypto::PassphraseCost;
use icecore::format::Roles;
use icecore::gc::GcOptions;
use icecore::progress::Silent;
use icecore::repository::{CreateOptions, Key, NewSlot, Recipient, Repository, Settings, SlotHolder};
use icecore::runtime::Runtime;
use icecore::source::{Roots, SourceOptions};
use icecore_tests::{folders, reader};
use rustix::fs::IFlags;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const PASSPHRASE: &str = "correct horse battery staple";

struct Made {
    folder: tempfile::TempDir,
    repository: Repository,
}

impl Made {
    /// Small packs and frames, so that a small folder fills several.
    fn new(key: &Key) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = CreateOptions::default();
        (options.pack_size, options.data_frame_size, options.meta_frame_size) = (1 << 20, 256 << 10, 16 << 10);
        options.passphrase_cost = PassphraseCost::TEST;
        let backend = Arc::new(LocalBackend::create(folder.path().join("repository")).unwrap());
        let repository = Repository::create(backend, Runtime::system(2), key, &options, Settings::default()).unwrap();
        fs::write(folder.path().join("passphrase"), format!("{PASSPHRASE}\n")).unwrap();
        if let Some(text) = key.to_key_file() {
            fs::write(folder.path().join("key"), text.as_bytes()).unwrap();
        }
        fs::create_dir(folder.path().join("source")).unwrap();
        Self { folder, repository }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn back_up(&self) -> String {
        let roots = Roots::resolve(&[self.path("source").join(".")]).unwrap();
        let summary = self.repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("tests"), &Silent).unwrap();
        assert_eq!(summary.files_failed, 0);
        summary.snapshot.unwrap().to_string()
    }

    fn read(&self, key: [&str; 2], arguments: &[&str]) -> std::process::Output {
        let file = self.path(key[1]);
        reader::read(&self.path("repository"), [key[0], file.to_str().unwrap()], arguments)
    }

    fn must_read(&self, key: [&str; 2], arguments: &[&str]) -> String {
        let output = self.read(key, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

const PASSWORD_FILE: [&str; 2] = ["--password-file", "passphrase"];
const KEY_FILE: [&str; 2] = ["--key-file", "key"];

#[test]
fn folders_come_back_byte_for_byte() {
    let made = Made::new(&Key::passphrase(PASSPHRASE).unwrap());
    folders::fill(&made.path("source"));
    let first = made.back_up();
    fs::write(made.path("source/text/poem"), "all new\n").unwrap();
    fs::remove_file(made.path("source/noise/large")).unwrap();
    let second = made.back_up();

    let listed = made.must_read(PASSWORD_FILE, &["snapshots"]);
    let ids: Vec<_> = listed.lines().map(|line| line.split_whitespace().next().unwrap_or_default()).collect();
    assert_eq!(ids, [first.as_str(), second.as_str()], "oldest first");
    made.must_read(PASSWORD_FILE, &["verify"]);
    made.must_read(PASSWORD_FILE, &["restore", "latest", "--target", made.path("latest").to_str().unwrap()]);
    folders::assert_same(&made.path("source"), &made.path("latest"));
    made.must_read(PASSWORD_FILE, &["restore", &first, "--target", made.path("first").to_str().unwrap()]);
    assert_eq!(fs::read(made.path("first/noise/large")).unwrap(), folders::noise(1, 3 << 20));
}

#[test]
fn inode_flags_come_back() {
    let made = Made::new(&Key::generate(&Runtime::system(1)));
    let is_root = rustix::process::geteuid().is_root();
    let flags = if is_root { IFlags::IMMUTABLE | IFlags::NODUMP } else { IFlags::NODUMP };
    let change = |path: PathBuf, change: fn(IFlags, IFlags) -> IFlags| {
        let file = fs::File::open(path)?;
        Ok::<_, std::io::Error>(rustix::fs::ioctl_setflags(&file, change(rustix::fs::ioctl_getflags(&file)?, flags))?)
    };
    fs::create_dir(made.path("source/folder")).unwrap();
    fs::write(made.path("source/folder/file"), "x").unwrap();
    let flagged = ["folder/file", "folder"];
    if let Err(error) = flagged.iter().try_for_each(|name| change(made.path("source").join(name), |has, flags| has | flags)) {
        eprintln!("SKIPPED: no inode flags here: {error}");
        return;
    }
    made.back_up();
    let restored = made.read(KEY_FILE, &["restore", "latest", "--target", made.path("target").to_str().unwrap()]);
    for name in flagged {
        let found = fs::File::open(made.path("target").join(name)).map(|file| rustix::fs::ioctl_getflags(&file).unwrap());
        for tree in ["source", "target"] {
            // So that the folder can be removed, whatever comes.
            let _ = change(made.path(tree).join(name), |has, flags| has - flags);
        }
        assert!(found.unwrap().contains(flags), "{name}");
    }
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
}

#[test]
fn what_is_kept_comes_back_after_forgetting_and_collecting() {
    let made = Made::new(&Key::generate(&Runtime::system(3)));
    folders::fill(&made.path("source"));
    let first = made.back_up();
    // Most of a large file goes, so that its packs are repacked; a file is new.
    fs::write(made.path("source/noise/large"), &folders::noise(1, 3 << 20)[..300_000]).unwrap();
    fs::write(made.path("source/more"), folders::noise(9, 2 << 20)).unwrap();
    let second = made.back_up();
    let listed = |id: &str| made.repository.find_snapshot_ids(&[id]).unwrap();
    made.repository.forget(&listed(&first), &Silent).unwrap();
    let verify = || made.must_read(KEY_FILE, &["verify"]);
    verify();
    let summary = made.repository.gc(&GcOptions::default(), &Silent).unwrap();
    assert!(summary.deleted.packs > 0 && summary.left.packs == 0, "{summary:?}");
    verify();
    let shown = made.must_read(KEY_FILE, &["snapshots"]);
    assert!(shown.contains(&second) && !shown.contains(&first), "{shown}");
    made.must_read(KEY_FILE, &["restore", &second, "--target", made.path("second").to_str().unwrap()]);
    folders::assert_same(&made.path("source"), &made.path("second"));
}

#[test]
fn a_long_stream_comes_back_with_a_key_file() {
    let made = Made::new(&Key::generate(&Runtime::system(1)));
    let bytes = folders::noise(3, 5 << 20);
    let stream = Box::new(std::io::Cursor::new(bytes.clone()));
    made.repository.backup_stream("dump.sql", stream, &BackupOptions::new("db"), &Silent).unwrap();
    made.must_read(KEY_FILE, &["verify"]);
    made.must_read(KEY_FILE, &["restore", "latest", "--target", made.path("out").to_str().unwrap()]);
    assert!(fs::read(made.path("out/dump.sql")).unwrap() == bytes);
}

#[test]
fn frames_that_garbage_collection_made_anew_are_found() {
    let made = Made::new(&Key::generate(&Runtime::system(1)));
    let back_up = |bytes: &[u8]| {
        let stream = Box::new(std::io::Cursor::new(bytes.to_vec()));
        made.repository.backup_stream("disk.img", stream, &BackupOptions::new("db"), &Silent).unwrap().snapshot.unwrap()
    };
    let (old, new) = (folders::noise(4, 6 << 20), folders::noise(5, 6 << 20));
    let first = back_up(&old);
    // A quarter of it is the same, here and there.
    let mixed: Vec<u8> = (0..old.len()).map(|at| if at % (512 << 10) < (128 << 10) { old[at] } else { new[at] }).collect();
    let second = back_up(&mixed);
    made.repository.forget(&[first], &Silent).unwrap();
    let summary = made.repository.gc(&GcOptions::default(), &Silent).unwrap();
    assert!(summary.frames_remade > 0 && summary.left.packs == 0, "{summary:?}");
    made.must_read(KEY_FILE, &["verify"]);
    made.must_read(KEY_FILE, &["restore", &second.to_string(), "--target", made.path("out").to_str().unwrap()]);
    assert!(fs::read(made.path("out/disk.img")).unwrap() == mixed);
}

#[test]
fn a_wrong_passphrase_and_no_repository_have_their_exit_codes() {
    let made = Made::new(&Key::passphrase(PASSPHRASE).unwrap());
    fs::write(made.path("wrong"), "wrong\n").unwrap();
    assert_eq!(made.read(["--password-file", "wrong"], &["snapshots"]).status.code(), Some(12));
    let nowhere = made.path("nowhere");
    let passphrase = made.path("passphrase");
    assert_eq!(reader::read(&nowhere, ["--password-file", passphrase.to_str().unwrap()], &["snapshots"]).status.code(), Some(10));
}

#[test]
fn added_removed_and_rotated_keys_read_what_they_should() {
    let mut made = Made::new(&Key::passphrase(PASSPHRASE).unwrap());
    fs::write(made.path("source/poem"), "old\n").unwrap();
    let first = made.back_up();
    let add = |made: &Made, name: &str, roles| {
        let key = Key::generate(&Runtime::system(1));
        fs::write(made.path(name), key.to_key_file().unwrap().as_bytes()).unwrap();
        let slot = made.repository.add_slot(&NewSlot::new(SlotHolder::Key(key.clone()), roles)).unwrap();
        (key, slot.id)
    };
    let (_, reader) = add(&made, "restore", Roles::RESTORE);
    let (client, gone) = add(&made, "client", Roles::BACKUP);
    let recipient = Recipient::of_key(&Key::generate(&Runtime::system(1))).unwrap();
    made.repository.add_slot(&NewSlot::new(SlotHolder::Recipient(recipient), Roles::ALL)).unwrap();
    let open = |made: &Made, key: &Key| {
        let backend = Arc::new(LocalBackend::open(made.path("repository")).unwrap());
        Repository::open(backend, Runtime::system(2), key, Settings::default()).unwrap()
    };
    let admin = Key::passphrase(PASSPHRASE).unwrap();
    made.repository = open(&made, &client);
    made.back_up();
    for removed in [None, Some(gone)] {
        made.repository = open(&made, &admin);
        let rotation = made.repository.plan_rotation(removed).unwrap();
        made.repository.rotate(&rotation).unwrap();
        made.repository = open(&made, &admin);
        fs::write(made.path("source/poem"), "new\n").unwrap();
        made.back_up();
    }

    for key in [PASSWORD_FILE, ["--key-file", "restore"]] {
        made.must_read(key, &["verify"]);
        assert_eq!(made.must_read(key, &["snapshots"]).lines().count(), 4, "what the removed client wrote before counts");
        for (snapshot, content) in [(first.as_str(), "old\n"), ("latest", "new\n")] {
            let target = made.path(&format!("{}-{}", key[1], &snapshot[..6]));
            made.must_read(key, &["restore", snapshot, "--target", target.to_str().unwrap()]);
            assert_eq!(fs::read_to_string(target.join("poem")).unwrap(), content);
        }
    }
    assert_eq!(made.read(["--key-file", "client"], &["snapshots"]).status.code(), Some(12));
    made.repository.rotate(&made.repository.plan_rotation(Some(reader)).unwrap()).unwrap();
    assert_eq!(made.read(["--key-file", "restore"], &["snapshots"]).status.code(), Some(12));
    made.must_read(PASSWORD_FILE, &["verify"]);
}

/// Every byte of a tiny repository is flipped by the reader's own tests; here, one byte of each object that the engine writes.
#[test]
fn a_flipped_byte_in_any_object_is_noticed() {
    let made = Made::new(&Key::generate(&Runtime::system(1)));
    fs::write(made.path("source/a"), folders::noise(4, 100_000)).unwrap();
    fs::write(made.path("source/b"), "text ".repeat(1000)).unwrap();
    made.back_up();
    let mut objects = Vec::new();
    collect(&made.path("repository"), &mut objects);
    // What is in there is no object.
    objects.retain(|path| !path.starts_with(made.path("repository/tmp")));
    assert!(objects.len() >= 7, "config, slot, three packs, session, closed, snapshot: {objects:?}");
    for (n, path) in objects.iter().enumerate() {
        let good = fs::read(path).unwrap();
        let at = (n * 7919 + 64) % good.len();
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        fs::write(path, bad).unwrap();
        let output = made.read(KEY_FILE, &["verify"]);
        assert!(!output.status.success(), "byte {at} of {} is flipped and verify is content", path.display());
        fs::write(path, good).unwrap();
    }
    made.must_read(KEY_FILE, &["verify"]);
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => collect(&path, files),
            false => files.push(path),
        }
    }
    files.sort();
}

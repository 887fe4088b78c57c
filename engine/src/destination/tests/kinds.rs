//! Every kind of thing, and paths of every kind.

use super::*;
use rustix::fs::{FileType, SeekFrom};
use std::os::unix::ffi::OsStrExt;

fn kind_of(path: &Path) -> FileType {
    FileType::from_raw_mode(stat(path).st_mode)
}

#[test]
fn every_kind_comes_out_as_it_was() {
    let (_dir, target) = scratch();
    let folder = Folder::open(&target).unwrap();
    let mut entries = vec![
        entry("", EntryKind::Folder),
        entry("a", EntryKind::Folder),
        file_entry("a/file", 5, &[]),
        entry("a/pipe", EntryKind::Fifo),
        hard_link("a/pipe2", "a/pipe"),
        entry("a/socket", EntryKind::Socket),
        entry("b", EntryKind::Symlink(b"/nowhere/\xff".to_vec())),
        hard_link("c", "a/file"),
        hard_link("d", "b"),
    ];
    if is_root() {
        entries.push(entry("e", EntryKind::CharDevice(1, 3)));
        entries.push(entry("f", EntryKind::BlockDevice(4095, 1_048_575)));
    }
    for entry in &entries {
        let expected = if entry.key.is_empty() { Prepared::Existing { length: 0 } } else { Prepared::New };
        assert_eq!(folder.prepare(entry).unwrap(), expected);
    }
    folder.file(&key("a/file")).unwrap().write_at(0, b"hello").unwrap();
    assert_eq!(finish(&folder, &entries), []);
    folder.sync().unwrap();

    assert_eq!(std::fs::read(target.join("a/file")).unwrap(), b"hello");
    assert_eq!(kind_of(&target.join("a/pipe")), FileType::Fifo);
    assert_eq!(kind_of(&target.join("a/socket")), FileType::Socket);
    assert_eq!(std::fs::read_link(target.join("b")).unwrap().as_os_str().as_bytes(), b"/nowhere/\xff");
    for (one, other) in [("a/file", "c"), ("a/pipe", "a/pipe2"), ("b", "d")] {
        let (one, other) = (stat(&target.join(one)), stat(&target.join(other)));
        assert_eq!((one.st_ino, one.st_nlink), (other.st_ino, 2));
    }
    for entry in &entries {
        let path = target.join(std::ffi::OsStr::from_bytes(path::shown(&entry.key).as_bytes()));
        let found = stat(&path);
        assert_eq!((found.st_mtime, found.st_mtime_nsec), (1_000_000_007, 123_456_789), "{}", path.display());
        if !matches!(entry.kind, EntryKind::Symlink(_) | EntryKind::HardLink(_)) {
            assert_eq!(found.st_mode & 0o7777, entry.metadata.mode, "{}", path.display());
        }
    }
    if is_root() {
        assert_eq!((kind_of(&target.join("e")), stat(&target.join("e")).st_rdev), (FileType::CharacterDevice, rustix::fs::makedev(1, 3)));
        let block = stat(&target.join("f"));
        assert_eq!((FileType::from_raw_mode(block.st_mode), block.st_rdev), (FileType::BlockDevice, rustix::fs::makedev(4095, 1_048_575)));
    }
    // The same once more keeps everything, but makes anew what has two names.
    let again: Vec<_> = entries.iter().map(|entry| folder.prepare(entry).unwrap()).collect();
    let kept = again.iter().filter(|prepared| matches!(prepared, Prepared::Existing { .. })).count();
    assert_eq!(entries.len() - kept, 6, "{again:?}");
    assert_eq!(finish(&folder, &entries), []);
}

#[test]
fn plain_users_cannot_make_devices_and_go_on() {
    let (_dir, target) = scratch();
    as_plain_user(|| {
        let folder = Folder::open(&target).unwrap();
        let error = folder.prepare(&entry("a", EntryKind::CharDevice(1, 3))).unwrap_err();
        assert!(error.to_string().starts_with("a: only root"), "{error}");
        restore(&folder, &[entry("b", EntryKind::Fifo), entry("c", EntryKind::Socket), entry("d", EntryKind::Symlink(b"b".to_vec()))]);
        assert_eq!(kind_of(&target.join("c")), FileType::Socket);
        assert_eq!(mode(&target.join("b")), 0o644);
    });
}

#[test]
fn device_numbers_that_do_not_exist_are_refused() {
    let (_dir, target) = scratch();
    let folder = Folder::open(&target).unwrap();
    for kind in [EntryKind::CharDevice(4096, 0), EntryKind::BlockDevice(0, 1 << 20), EntryKind::CharDevice(u32::MAX, u32::MAX)] {
        assert_eq!(folder.prepare(&entry("a", kind)).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn holes_stay_holes() {
    let (_dir, target) = scratch();
    let folder = Folder::open(&target).unwrap();
    let sparse = file_entry("sparse", 64 << 20, &[(1 << 20, 62 << 20)]);
    assert_eq!(folder.prepare(&sparse).unwrap(), Prepared::New);
    let file = folder.file(&sparse.key).unwrap();
    file.write_at(0, &[1; 1 << 20]).unwrap();
    file.write_at(63 << 20, &[2; 1 << 20]).unwrap();
    let found = stat(&target.join("sparse"));
    assert_eq!(found.st_size, 64 << 20);
    let end = rustix::fs::seek(file.descriptor(), SeekFrom::Hole(0)).unwrap();
    assert_eq!(end, 1 << 20);
    assert_eq!(rustix::fs::seek(file.descriptor(), SeekFrom::Data(end)).unwrap(), 63 << 20);
}

#[test]
fn paths_longer_than_the_system_limit_work() {
    for openat2 in [true, false] {
        let (_dir, target) = scratch();
        let folder = Folder::open(&target).unwrap();
        if !openat2 {
            folder.resolver.without_openat2();
        }
        let name = "x".repeat(255);
        let mut entries = Vec::new();
        let mut at = String::new();
        for depth in 0..80 {
            at = if depth == 0 { name.clone() } else { format!("{at}/{name}") };
            entries.push(entry(&at, EntryKind::Folder));
        }
        let content = vec![7; 100];
        let deep = file_entry(&format!("{at}/{name}"), 100, &[]);
        prepare_all(&folder, &entries);
        assert_eq!(folder.write_small(&deep, &content).unwrap().problems, []);
        assert_eq!(finish(&folder, &entries), []);

        // Afresh, so that nothing is open yet.
        let folder = Folder::open(&target).unwrap();
        if !openat2 {
            folder.resolver.without_openat2();
        }
        assert!(folder.file(&deep.key).unwrap().matches(0, &content).unwrap());
    }
}

#[test]
fn names_are_bytes_of_any_length_that_the_system_takes() {
    let (_dir, target) = scratch();
    let folder = Folder::open(&target).unwrap();
    for name in [vec![0xff; 255], b"a\nb\\".to_vec(), b"...".to_vec(), b"\x01".to_vec()] {
        let mut named = file_entry("", 3, &[]);
        named.key.clone_from(&name);
        assert_eq!(folder.write_small(&named, b"abc").unwrap().problems, []);
        assert_eq!(std::fs::read(target.join(std::ffi::OsStr::from_bytes(&name))).unwrap(), b"abc");
    }
    let mut long = file_entry("", 0, &[]);
    long.key = vec![b'a'; 256];
    assert!(folder.prepare(&long).is_err());
}

#[test]
fn folders_that_the_snapshot_left_out_are_made() {
    let (_dir, target) = scratch();
    let folder = Folder::open(&target.join("not/there/yet")).unwrap();
    assert_eq!(folder.write_small(&file_entry("a/b/c/file", 1, &[]), b"x").unwrap().problems, []);
    folder.prepare(&file_entry("a/b/d/e/file", 9, &[])).unwrap();
    assert_eq!(std::fs::read(target.join("not/there/yet/a/b/c/file")).unwrap(), b"x");
    for made in ["not", "not/there/yet", "not/there/yet/a", "not/there/yet/a/b/d/e"] {
        assert_eq!(mode(&target.join(made)), 0o700, "{made}");
    }
}

#[test]
fn open_descriptors_stay_bounded_and_threads_share_them() {
    let (_dir, target) = scratch();
    let folder = Folder::open(&target).unwrap();
    let entries: Vec<_> = (0..600).map(|n| file_entry(&format!("folder{n:03}/file"), 8, &[])).collect();
    prepare_all(&folder, &entries);
    std::thread::scope(|scope| {
        for half in 0..2_usize {
            let (folder, entries) = (&folder, &entries);
            scope.spawn(move || {
                for entry in entries.iter().rev() {
                    folder.file(&entry.key).unwrap().write_at(half as u64 * 4, &entry.key[6..10]).unwrap();
                }
            });
        }
    });
    assert_eq!(folder.files.len(), FILES_OPEN_MAX);
    for entry in &entries {
        let number = &entry.key[6..10];
        assert!(folder.file(&entry.key).unwrap().matches(0, &[number, number].concat()).unwrap());
    }
    assert_eq!(finish(&folder, &entries), []);
    assert_eq!(folder.files.len(), 0);
}

#[test]
fn write_small_takes_only_whole_files() {
    let (_dir, target) = scratch();
    let folder = Folder::open(&target).unwrap();
    for wrong in [file_entry("a", 3, &[]), file_entry("a", 2, &[(0, 1)]), entry("a", EntryKind::Fifo)] {
        assert_eq!(folder.write_small(&wrong, b"ab").unwrap_err().kind(), ErrorKind::Invalid);
    }
    assert!(!target.join("a").exists());
}

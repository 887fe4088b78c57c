//! Restoring onto what is there already.

use super::*;
use rustix::fs::SeekFrom;
use std::os::unix::fs::PermissionsExt;

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn existing_content_is_kept_for_comparison() {
    let wanted = b"0123456789".as_slice();
    for (old, kept) in [("01234", 5), ("0123456789", 10), ("0123456789abcdef", 10), ("", 0), ("XX23456789", 10)] {
        let (_dir, target) = scratch();
        std::fs::create_dir(&target).unwrap();
        let path = target.join("file");
        std::fs::write(&path, old).unwrap();
        let before = stat(&path).st_ino;
        let folder = Folder::open(&target).unwrap();
        let entry = file_entry("file", 10, &[]);
        assert_eq!(folder.prepare(&entry).unwrap(), Prepared::Existing { length: kept });
        let file = folder.file(&entry.key).unwrap();
        for at in [0, 5] {
            let piece = &wanted[at..at + 5];
            let same = file.matches(at as u64, piece).unwrap();
            assert_eq!(same, old.as_bytes().get(at..at + 5) == Some(piece), "{old} at {at}");
            if !same {
                file.write_at(at as u64, piece).unwrap();
            }
        }
        assert_eq!(finish(&folder, &[entry]), []);
        assert_eq!(std::fs::read(&path).unwrap(), wanted);
        assert_eq!(stat(&path).st_ino, before);
    }
}

#[test]
fn reading_and_comparing_stop_at_the_end() {
    let (_dir, target) = scratch();
    let folder = Folder::open(&target).unwrap();
    let content: Vec<u8> = (0..40_000_u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    assert_eq!(folder.write_small(&file_entry("file", 40_000, &[]), &content).unwrap().problems, []);
    let file = folder.file(&key("file")).unwrap();
    let mut found = vec![0; 50_000];
    assert_eq!(file.read_at(100, &mut found).unwrap(), 39_900);
    assert_eq!(found[..39_900], content[100..]);
    assert!(file.matches(0, &content).unwrap());
    assert!(file.matches(40_000, b"").unwrap());
    assert!(!file.matches(39_999, &[content[39_999], 0]).unwrap());
    let mut changed = content;
    changed[39_998] ^= 1;
    assert!(!file.matches(0, &changed).unwrap());
}

#[test]
fn small_files_are_written_only_where_they_differ() {
    let (_dir, target) = scratch();
    let folder = Folder::open(&target).unwrap();
    let entry = file_entry("file", 4, &[]);
    let path = target.join("file");
    assert_eq!(folder.write_small(&entry, b"same").unwrap().problems, []);
    // An inode number stays, and so does a hole that a write would have filled.
    let zeros = file_entry("zeros", 1 << 16, &[]);
    folder.prepare(&zeros).unwrap();
    assert_eq!(folder.write_small(&zeros, &[0; 1 << 16]).unwrap().problems, []);
    assert_eq!(stat(&target.join("zeros")).st_blocks, 0);
    let before = stat(&path).st_ino;
    for old in ["same", "diff", "longer than that", "s", ""] {
        std::fs::write(&path, old).unwrap();
        assert_eq!(folder.write_small(&entry, b"same").unwrap().problems, []);
        assert_eq!(std::fs::read(&path).unwrap(), b"same");
        assert_eq!((stat(&path).st_ino, stat(&path).st_mtime), (before, 1_000_000_007));
    }
}

#[test]
fn holes_are_made_in_existing_files() {
    let (_dir, target) = scratch();
    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("file"), vec![0xaa; 1 << 20]).unwrap();
    let folder = Folder::open(&target).unwrap();
    // One hole inside the old content, one across its end, one after it.
    let entry = file_entry("file", 4 << 20, &[(64 << 10, 256 << 10), (960 << 10, 128 << 10), (2 << 20, 1 << 20)]);
    assert_eq!(folder.prepare(&entry).unwrap(), Prepared::Existing { length: 1 << 20 });
    let file = folder.file(&entry.key).unwrap();
    assert!(file.matches(0, &vec![0xaa; 64 << 10]).unwrap());
    assert!(file.matches(64 << 10, &vec![0; 256 << 10]).unwrap());
    assert!(file.matches(320 << 10, &vec![0xaa; 640 << 10]).unwrap());
    assert!(file.matches(960 << 10, &vec![0; 3136 << 10]).unwrap());
    let hole = rustix::fs::seek(file.descriptor(), SeekFrom::Hole(0)).unwrap();
    assert_eq!(hole, 64 << 10);
    assert_eq!(rustix::fs::seek(file.descriptor(), SeekFrom::Data(hole)).unwrap(), 320 << 10);
}

/// Makes one thing of each kind under names that say what they are.
fn make_one_of_each(target: &Path, name: &str) {
    match name {
        "file" => std::fs::write(target.join("thing"), "old").unwrap(),
        "link" => std::os::unix::fs::symlink("../outside", target.join("thing")).unwrap(),
        "pipe" => rustix::fs::mknodat(rustix::fs::CWD, target.join("thing"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap(),
        "folder" => std::fs::create_dir(target.join("thing")).unwrap(),
        _ => {
            std::fs::create_dir(target.join("thing")).unwrap();
            std::fs::write(target.join("thing/inside"), "old").unwrap();
        }
    }
}

#[test]
fn things_of_another_kind_are_replaced_but_full_folders_are_not() {
    let kinds = [
        ("file", EntryKind::File(FileContent { size: 3, ..FileContent::default() })),
        ("link", EntryKind::Symlink(b"elsewhere".to_vec())),
        ("pipe", EntryKind::Fifo),
        ("folder", EntryKind::Folder),
        ("hard link", EntryKind::HardLink(b"earlier".to_vec())),
    ];
    for old in ["file", "link", "pipe", "folder", "full folder"] {
        for (new, kind) in &kinds {
            let (_dir, target) = scratch();
            let folder = Folder::open(&target).unwrap();
            make_one_of_each(&target, old);
            restore(&folder, &[file_entry("earlier", 0, &[])]);
            let entry = entry("thing", kind.clone());
            let prepared = folder.prepare(&entry);
            if old == "full folder" && *new != "folder" {
                assert_eq!(prepared.unwrap_err().kind(), ErrorKind::AlreadyExists, "{old} {new}");
                assert!(target.join("thing/inside").exists());
                continue;
            }
            let kept = *new != "link" && old.ends_with(new);
            assert_eq!(matches!(prepared.unwrap(), Prepared::Existing { .. }), kept, "{old} {new}");
            assert_eq!(finish(&folder, std::slice::from_ref(&entry)), [], "{old} {new}");
            let found = rustix::fs::FileType::from_raw_mode(stat(&target.join("thing")).st_mode);
            let wanted = match *new {
                "link" => rustix::fs::FileType::Symlink,
                "pipe" => rustix::fs::FileType::Fifo,
                "folder" => rustix::fs::FileType::Directory,
                _ => rustix::fs::FileType::RegularFile,
            };
            assert_eq!(found, wanted, "{old} {new}");
        }
    }
}

#[test]
fn read_only_files_and_folders_of_ones_own_are_no_obstacle() {
    let (_dir, target) = scratch();
    as_plain_user(|| {
        std::fs::create_dir_all(target.join("a/b")).unwrap();
        std::fs::write(target.join("a/b/file"), "old content").unwrap();
        std::fs::write(target.join("a/b/small"), "old content").unwrap();
        set_mode(&target.join("a/b/file"), 0o444);
        set_mode(&target.join("a/b/small"), 0);
        set_mode(&target.join("a/b"), 0o555);
        set_mode(&target.join("a"), 0);
        set_mode(&target, 0o500);
        let folder = Folder::open(&target).unwrap();
        let mut entries = vec![
            entry("", EntryKind::Folder),
            entry("a", EntryKind::Folder),
            entry("a/b", EntryKind::Folder),
            file_entry("a/b/file", 11, &[]),
            file_entry("a/b/new", 0, &[]),
        ];
        for (entry, mode) in entries.iter_mut().zip([0o500, 0o111, 0o555, 0o444, 0o400]) {
            entry.metadata.mode = mode;
        }
        prepare_all(&folder, &entries);
        assert!(folder.file(&key("a/b/file")).unwrap().matches(0, b"old content").unwrap());
        assert_eq!(folder.write_small(&file_entry("a/b/small", 3, &[]), b"new").unwrap().problems, []);
        assert_eq!(finish(&folder, &entries), []);
        assert_eq!((mode(&target), mode(&target.join("a"))), (0o500, 0o111));
        assert_eq!((mode(&target.join("a/b")), mode(&target.join("a/b/file"))), (0o555, 0o444));
        assert_eq!(std::fs::read(target.join("a/b/small")).unwrap(), b"new");
        assert_eq!(folder.owners_left(), 0);
        // So that the scratch folder can be removed.
        set_mode(&target, 0o700);
        set_mode(&target.join("a"), 0o700);
        set_mode(&target.join("a/b"), 0o700);
    });
}

#[test]
fn secrets_are_not_shown_through_an_old_mode_or_owner() {
    let (_dir, target) = scratch();
    std::fs::create_dir(&target).unwrap();
    for name in ["open", "setuid", "private"] {
        std::fs::write(target.join(name), "old").unwrap();
    }
    set_mode(&target.join("open"), 0o666);
    set_mode(&target.join("setuid"), 0o4755);
    set_mode(&target.join("private"), 0o600);
    let folder = Folder::open(&target).unwrap();
    for name in ["open", "setuid", "private"] {
        let mut entry = file_entry(name, 3, &[]);
        entry.metadata.mode = if name == "setuid" { 0o4755 } else { 0o640 };
        assert_eq!(folder.prepare(&entry).unwrap(), Prepared::Existing { length: 3 });
    }
    assert_eq!(["open", "setuid", "private"].map(|name| mode(&target.join(name))), [0o640, 0o755, 0o600]);
    folder.prepare(&file_entry("new", 3, &[])).unwrap();
    folder.prepare(&entry("newfolder", EntryKind::Folder)).unwrap();
    assert_eq!((mode(&target.join("new")), mode(&target.join("newfolder"))), (0o600, 0o700));

    if is_root() {
        // A file of somebody else, who may hold it open, is not written to.
        std::os::unix::fs::chown(target.join("open"), Some(NOBODY), None).unwrap();
        assert_eq!(folder.prepare(&file_entry("open", 3, &[])).unwrap(), Prepared::New);
        assert_eq!(stat(&target.join("open")).st_uid, 0);
    }
}

#[test]
fn in_a_new_target_nothing_of_another_entry_is_touched() {
    let (_dir, target) = scratch();
    let folder = Folder::open(&target).unwrap().each_once();
    // As where the target takes the names of two entries for the same.
    std::fs::write(target.join("file"), b"another").unwrap();
    std::fs::create_dir(target.join("folder")).unwrap();
    std::os::unix::fs::symlink("elsewhere", target.join("link")).unwrap();
    let small = file_entry("file", 3, &[]);
    let others = [
        small.clone(),
        entry("folder", EntryKind::Folder),
        hard_link("link", "file"),
        entry("link", EntryKind::Symlink(b"elsewhere".to_vec())),
    ];
    for entry in &others {
        assert_eq!(folder.prepare(entry).unwrap_err().kind(), ErrorKind::AlreadyExists, "{entry:?}");
    }
    assert_eq!(folder.write_small(&small, b"one").unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(target.join("file")).unwrap(), b"another");
    assert!(target.join("folder").is_dir() && target.join("link").is_symlink());
    // When it is restored again it is as anything else that was there before.
    assert!(!Folder::open(&target).unwrap().write_small(&small, b"one").unwrap().is_unchanged);
    assert_eq!(std::fs::read(target.join("file")).unwrap(), b"one");
}

#[test]
fn a_file_that_cannot_be_written_out_is_removed() {
    let (_dir, target) = scratch();
    let mut folder = Folder::open(&target).unwrap();
    // As on a file system that tells only each file what it lost.
    let closings = Arc::<Closings>::default();
    folder.closings = Some(Arc::clone(&closings));
    let [good, bad] = ["good", "bad"].map(|name| file_entry(name, 4, &[]));
    for lost in [false, true] {
        prepare_all(&Folder::open(&target).unwrap(), &[good.clone(), bad.clone()]);
        for entry in [&good, &bad] {
            folder.file(&entry.key).unwrap().write_at(0, b"data").unwrap();
        }
        if lost {
            closings.note(bad.key.clone(), rustix::io::Errno::IO);
        }
        assert_eq!(folder.finish_metadata(&good).unwrap(), []);
        assert_eq!(folder.finish_metadata(&bad).is_err(), lost);
        assert_eq!(target.join("bad").exists(), !lost);
        if lost {
            closings.note(bad.key.clone(), rustix::io::Errno::IO);
        }
        assert_eq!((folder.write_small(&bad, b"more").is_err(), target.join("bad").exists()), (lost, !lost));
    }
    assert_eq!(std::fs::read(target.join("good")).unwrap(), b"data");
}

#[test]
fn of_a_small_file_that_does_not_fit_nothing_is_left() {
    let (_dir, target) = scratch();
    std::fs::create_dir(&target).unwrap();
    let mount = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&target).output();
    if !mount.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no right to mount a small file system");
        return;
    }
    let folder = Folder::open(&target).unwrap();
    let large = file_entry("file", 200_000, &[]);
    let is_old: [bool; 2] = [false, true];
    let left = is_old.map(|is_old| {
        if is_old {
            std::fs::write(target.join("file"), b"old").unwrap();
        }
        let failed = folder.write_small(&large, &[7; 200_000]).is_err();
        (failed, target.join("file").exists())
    });
    drop(folder);
    assert!(std::process::Command::new("umount").arg(&target).status().unwrap().success());
    assert_eq!(left, [(true, false); 2]);
}

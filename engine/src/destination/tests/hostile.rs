//! Snapshots and targets that want to lead restore out of the target.

use super::*;
use proptest::prelude::*;
use std::os::unix::fs::PermissionsExt;

/// A folder outside the target with files that must stay as they are.
fn outside(dir: &Path) -> PathBuf {
    let outside = dir.join("outside");
    std::fs::create_dir_all(outside.join("b")).unwrap();
    std::fs::write(outside.join("file"), "untouched").unwrap();
    std::fs::write(outside.join("b/file"), "untouched").unwrap();
    outside
}

fn assert_untouched(outside: &Path) {
    let count = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    assert_eq!((count(outside), count(&outside.join("b"))), (2, 1));
    for name in ["file", "b/file"] {
        assert_eq!(std::fs::read(outside.join(name)).unwrap(), b"untouched");
    }
    for name in ["", "b", "file", "b/file"] {
        assert_ne!(stat(&outside.join(name)).st_mtime, 1_000_000_007, "{name}");
    }
}

/// All that can be done with an entry; true if nothing was refused.
fn do_all(folder: &Folder, entry: &Entry) -> bool {
    let small = folder.write_small(entry, b"evil").is_ok();
    let made = folder.prepare(entry).is_ok();
    let written = folder.file(&entry.key).and_then(|file| file.write_at(0, b"evil")).is_ok();
    let finished = folder.finish_metadata(entry).is_ok();
    let flagged = folder.finish_flags(entry).is_ok();
    small && made && written && finished && flagged
}

#[test]
fn keys_that_are_no_paths_are_refused() {
    let (dir, target) = scratch();
    let outside = outside(dir.path());
    let folder = Folder::open(&target).unwrap();
    let keys: [&[u8]; 14] = [
        b"..",
        b".",
        b"/",
        b"../outside/file",
        b"..\0outside\0file",
        b"a\0..\0..\0outside\0file",
        b"a\0.\0file",
        b"/etc/file",
        b"\0",
        b"\0outside",
        b"a\0",
        b"a\0\0b",
        b"a/b",
        b"a\0b/../../../outside/file",
    ];
    for wrong in keys {
        for kind in
            [EntryKind::File(FileContent { size: 4, ..FileContent::default() }), EntryKind::Folder, EntryKind::Symlink(b"/etc".to_vec())]
        {
            let mut hostile = entry("", kind);
            hostile.key = wrong.to_vec();
            assert_eq!(folder.prepare(&hostile).unwrap_err().kind(), ErrorKind::Damaged, "{wrong:?}");
            assert_eq!(folder.finish_metadata(&hostile).unwrap_err().kind(), ErrorKind::Damaged, "{wrong:?}");
            assert_eq!(folder.file(&hostile.key).unwrap_err().kind(), ErrorKind::Damaged, "{wrong:?}");
            assert!(!do_all(&folder, &hostile));
            let mut link = hard_link("zz", "");
            link.kind = EntryKind::HardLink(wrong.to_vec());
            assert_eq!(folder.prepare(&link).unwrap_err().kind(), ErrorKind::Damaged, "{wrong:?}");
        }
    }
    assert_untouched(&outside);
    assert_eq!(std::fs::read_dir(&target).unwrap().count(), 0);
}

#[test]
fn the_root_is_a_folder_only() {
    let (_dir, target) = scratch();
    let folder = Folder::open(&target).unwrap();
    for kind in
        [EntryKind::File(FileContent::default()), EntryKind::Fifo, EntryKind::Symlink(b"/etc".to_vec()), EntryKind::HardLink(Key::new())]
    {
        assert_eq!(folder.prepare(&entry("", kind)).unwrap_err().kind(), ErrorKind::Damaged);
    }
    assert_eq!(folder.prepare(&hard_link("a", "")).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(folder.prepare(&hard_link("a", "a")).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(folder.prepare(&hard_link("a", "b")).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn links_of_the_snapshot_are_not_followed() {
    for openat2 in [true, false] {
        let (dir, target) = scratch();
        let outside = outside(dir.path());
        let folder = Folder::open(&target).unwrap();
        if !openat2 {
            folder.resolver.without_openat2();
        }
        for to in ["../outside", outside.to_str().unwrap(), "/proc/self/cwd"] {
            folder.prepare(&entry("a", EntryKind::Symlink(to.as_bytes().to_vec()))).unwrap();
            assert!(!do_all(&folder, &file_entry("a/evil", 4, &[])));
            assert!(!do_all(&folder, &file_entry("a/b/file", 4, &[])));
            assert!(!do_all(&folder, &file_entry("a/b/c/evil", 4, &[])));
            assert!(folder.prepare(&entry("a/evil", EntryKind::Folder)).is_err());
            assert!(folder.prepare(&hard_link("b", "a/file")).is_err());
            // The link itself is still there.
            assert_eq!(std::fs::read_link(target.join("a")).unwrap(), Path::new(to));
        }
        assert_untouched(&outside);
    }
}

#[test]
fn links_in_an_existing_tree_are_not_followed_at_any_depth() {
    for openat2 in [true, false] {
        for at in ["a", "a/b", "a/b/file"] {
            for in_snapshot in [true, false] {
                let (dir, target) = scratch();
                let outside = outside(dir.path());
                // The link leads to a tree that has all the names which the snapshot has.
                std::fs::create_dir_all(target.join(at).parent().unwrap()).unwrap();
                let to = if at.ends_with("file") { outside.join("file") } else { outside.clone() };
                std::os::unix::fs::symlink(to, target.join(at)).unwrap();
                let folder = Folder::open(&target).unwrap();
                if !openat2 {
                    folder.resolver.without_openat2();
                }
                let mut entries = vec![file_entry("a/b/file", 4, &[])];
                if in_snapshot {
                    entries.splice(0..0, [entry("a", EntryKind::Folder), entry("a/b", EntryKind::Folder)]);
                }
                let prepared: Vec<_> = entries.iter().map(|entry| folder.prepare(entry).is_ok()).collect();
                let worked = folder.write_small(&entries[entries.len() - 1], b"evil").is_ok();
                entries.iter().for_each(|entry| drop(folder.finish_metadata(entry)));
                assert_untouched(&outside);
                // Folders of the snapshot replace the link; a folder that it left out does not.
                let expected = in_snapshot || at.ends_with("file");
                assert_eq!((prepared.iter().all(|ok| *ok), worked), (expected, expected), "{at}");
                assert_eq!(stat(&target.join(at)).st_mode & 0o170_000 == 0o120_000, !expected);
            }
        }
    }
}

#[test]
fn a_folder_swapped_for_a_link_meanwhile_is_not_followed() {
    for openat2 in [true, false] {
        let (dir, target) = scratch();
        let outside = outside(dir.path());
        let folder = Folder::open(&target).unwrap();
        let file = file_entry("a/b/file", 4, &[]);
        let entries = [entry("a", EntryKind::Folder), entry("a/b", EntryKind::Folder), file.clone()];
        prepare_all(&folder, &entries);
        std::fs::rename(target.join("a/b"), dir.path().join("moved")).unwrap();
        std::os::unix::fs::symlink(&outside, target.join("a/b")).unwrap();

        // What is open already goes on where it was made.
        folder.file(&file.key).unwrap().write_at(0, b"evil").unwrap();
        assert_eq!(std::fs::read(dir.path().join("moved/file")).unwrap(), b"evil");
        // What is not is refused.
        let fresh = Folder::open(&target).unwrap();
        if !openat2 {
            fresh.resolver.without_openat2();
        }
        assert!(!do_all(&fresh, &file));
        assert!(fresh.file(&file.key).unwrap_err().to_string().contains("links are not followed"));
        assert!(fresh.finish_metadata(&entries[1]).is_err());
        assert_untouched(&outside);
    }
}

#[test]
fn things_swapped_meanwhile_are_refused() {
    let (dir, target) = scratch();
    let outside = outside(dir.path());
    let (file, pipe) = (file_entry("file", 4, &[]), entry("pipe", EntryKind::Fifo));
    Folder::open(&target).unwrap().prepare(&file).unwrap();
    for swapped in 0..3 {
        for name in ["file", "pipe"] {
            let _ = std::fs::remove_file(target.join(name));
            match swapped {
                0 => std::os::unix::fs::symlink(outside.join("file"), target.join(name)).unwrap(),
                1 if name == "file" => {
                    rustix::fs::mknodat(rustix::fs::CWD, target.join(name), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
                }
                1 => std::fs::write(target.join(name), "").unwrap(),
                _ => std::fs::create_dir(target.join(name)).unwrap(),
            }
        }
        let fresh = Folder::open(&target).unwrap();
        assert_eq!(fresh.file(&file.key).unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(fresh.finish_metadata(&file).unwrap_err().kind(), ErrorKind::Unavailable);
        assert_eq!(fresh.finish_metadata(&pipe).unwrap_err().kind(), ErrorKind::Unavailable);
    }
    assert_untouched(&outside);
}

#[test]
fn another_name_of_a_file_outside_swapped_in_meanwhile_is_not_written() {
    let (dir, target) = scratch();
    let outside = outside(dir.path());
    let (file, folder) = (file_entry("file", 4, &[]), entry("folder", EntryKind::Folder));
    prepare_all(&Folder::open(&target).unwrap(), &[file.clone(), folder.clone()]);
    std::fs::remove_file(target.join("file")).unwrap();
    std::fs::remove_dir(target.join("folder")).unwrap();
    for name in ["file", "folder"] {
        std::fs::hard_link(outside.join("file"), target.join(name)).unwrap();
    }
    let before = mode(&outside.join("file"));
    let fresh = Folder::open(&target).unwrap();
    assert_eq!(fresh.file(&file.key).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(fresh.finish_metadata(&file).unwrap_err().kind(), ErrorKind::Unavailable);
    fresh.open_up(&folder.key);
    assert_eq!(mode(&outside.join("file")), before);
    assert_untouched(&outside);
}

#[test]
fn a_file_with_a_name_outside_is_replaced_not_written() {
    let (dir, target) = scratch();
    let outside = outside(dir.path());
    std::fs::create_dir(&target).unwrap();
    for name in ["small", "large"] {
        std::fs::hard_link(outside.join("file"), target.join(name)).unwrap();
    }
    let folder = Folder::open(&target).unwrap();
    assert_eq!(folder.write_small(&file_entry("small", 4, &[]), b"good").unwrap().problems, []);
    assert_eq!(folder.prepare(&file_entry("large", 4, &[])).unwrap(), Prepared::New);
    folder.file(&key("large")).unwrap().write_at(0, b"good").unwrap();
    assert_eq!(std::fs::read(target.join("small")).unwrap(), b"good");
    assert_untouched(&outside);
}

#[test]
fn the_mode_of_a_file_with_a_name_outside_stays_as_it_is() {
    let (dir, target) = scratch();
    std::fs::create_dir(&target).unwrap();
    let outside = dir.path().join("outside");
    std::fs::write(&outside, "outside").unwrap();
    std::fs::set_permissions(&outside, std::fs::Permissions::from_mode(0o444)).unwrap();
    std::fs::hard_link(&outside, target.join("file")).unwrap();
    if is_root() {
        [&outside, &target].into_iter().for_each(|path| std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap());
    }
    as_plain_user(|| {
        let folder = Folder::open(&target).unwrap();
        assert_eq!(folder.prepare(&file_entry("file", 4, &[])).unwrap(), Prepared::New);
    });
    assert_eq!(outside.metadata().unwrap().permissions().mode() & 0o7777, 0o444);
    assert_eq!(std::fs::read(&outside).unwrap(), b"outside");
}

#[test]
fn nonsense_in_metadata_is_reported_and_harms_nothing() {
    let (_dir, target) = scratch();
    let folder = Folder::open(&target).unwrap();
    let mut hostile = file_entry("a", 0, &[]);
    // UTIME_NOW, "leave as it is", a type in the mode, flags of the kernel's own, names that are none.
    hostile.metadata.modified.nanoseconds = 0x3fff_ffff;
    hostile.metadata.uid = u32::MAX;
    hostile.metadata.mode = 0xffff_f000 | 0o600;
    hostile.metadata.inode_flags = 0x0008_0000;
    hostile.metadata.xattrs = vec![(b"".to_vec(), vec![]), (b"a\0b".to_vec(), vec![]), (vec![b'x'; 300], vec![0; 1 << 20])];
    let aspects: Vec<_> = folder.write_small(&hostile, b"").unwrap().problems.into_iter().map(|problem| problem.aspect).collect();
    assert_eq!(aspects, [Aspect::Owner, Aspect::Attribute, Aspect::Attribute, Aspect::Attribute, Aspect::Times]);
    assert_eq!(mode(&target.join("a")), 0o600);
    let mut huge = file_entry("b", u64::MAX, &[(0, u64::MAX)]);
    assert!(folder.prepare(&huge).is_err());
    huge.kind = EntryKind::File(FileContent { size: 10, holes: vec![(u64::MAX - 1, 5), (3, u64::MAX)], ..FileContent::default() });
    folder.prepare(&huge).unwrap();
    assert!(folder.file(&huge.key).unwrap().write_at(u64::MAX - 3, b"overflow").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a snapshot says, in whatever order, the target's parent holds only what it held.
    #[test]
    fn nothing_leaves_the_target(
        things in prop::collection::vec((prop::collection::vec(prop::sample::select(vec!["a", "b", "..", ".", "", "a/b", "../outside"]), 0..4), 0..6_u8), 1..12)
    ) {
        let (dir, target) = scratch();
        let outside = outside(dir.path());
        let folder = Folder::open(&target).unwrap();
        for (components, kind) in things {
            let kind = match kind {
                0 => EntryKind::Folder,
                1 => EntryKind::Symlink(b"../outside".to_vec()),
                2 => EntryKind::Symlink(b"../../outside".to_vec()),
                3 => EntryKind::HardLink(b"a".to_vec()),
                _ => EntryKind::File(FileContent { size: 4, ..FileContent::default() }),
            };
            let mut hostile = entry("", kind);
            hostile.key = components.join("\0").into_bytes();
            do_all(&folder, &hostile);
        }
        assert_untouched(&outside);
        prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}

//! Kinds of entries and their metadata.

use super::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat, setxattr, utimensat};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

#[test]
fn all_kinds_are_told_apart() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["file", "folder/"]);
    symlink("any\u{1}where/../..", root.path().join("link")).unwrap();
    mknodat(CWD, root.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
    let seen = walk(root.path(), &SourceOptions::default());
    assert!(seen.failed.is_empty(), "{:?}", seen.failed);
    assert_eq!(seen.get("link").entry.kind, EntryKind::Symlink(b"any\x01where/../..".to_vec()));
    assert_eq!(seen.get("fifo").entry.kind, EntryKind::Fifo);
    assert_eq!(seen.get("socket").entry.kind, EntryKind::Socket);
    assert_eq!(seen.get("folder").entry.kind, EntryKind::Folder);
    assert!(matches!(&seen.get("file").entry.kind, EntryKind::File(content) if content.size == 1));
    let null = walk_roots(&resolve(&["/dev/null".into()]), &SourceOptions::default(), 1);
    assert_eq!(null.get("null").entry.kind, EntryKind::CharDevice(1, 3));
    assert!(seen.get("fifo").open().is_err(), "opening a pipe must neither wait nor work");
}

#[test]
fn metadata_is_complete() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["file", "folder/"]);
    let path = root.path().join("file");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o6751)).unwrap();
    std::fs::set_permissions(root.path().join("folder"), PermissionsExt::from_mode(0o1777)).unwrap();
    let value = vec![7; 3000];
    let has_xattrs = setxattr(&path, "user.zz", &value, XattrFlags::empty()).is_ok();
    if has_xattrs {
        setxattr(&path, "user.a", b"\0\xff", XattrFlags::empty()).unwrap();
        setxattr(root.path().join("folder"), "user.empty", b"", XattrFlags::empty()).unwrap();
    } else {
        eprintln!("skipped in part: the file system of the temporary folder takes no extended attributes");
    }
    let mut seen = walk(root.path(), &SourceOptions::default());
    assert!(seen.failed.is_empty(), "{:?}", seen.failed);
    seen.entries.iter_mut().for_each(|entry| entry.read_details().unwrap());
    let metadata = &seen.get("file").entry.metadata;
    let expected = std::fs::metadata(&path).unwrap();
    assert_eq!((metadata.mode, metadata.uid, metadata.gid), (0o6751, expected.uid(), expected.gid()));
    if is_root() {
        assert_eq!((metadata.user.as_slice(), metadata.group.as_slice()), (&b"root"[..], &b"root"[..]));
    }
    assert_eq!(seen.get("folder").entry.metadata.mode, 0o1777);
    if has_xattrs {
        assert_eq!(metadata.xattrs, [(b"user.a".to_vec(), b"\0\xff".to_vec()), (b"user.zz".to_vec(), value)]);
        assert_eq!(seen.get("folder").entry.metadata.xattrs, [(b"user.empty".to_vec(), Vec::new())]);
    }
}

#[test]
fn attributes_of_what_is_not_opened_are_read_too() {
    let root = tempfile::tempdir().unwrap();
    symlink("x", root.path().join("link")).unwrap();
    mknodat(CWD, root.path().join("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    if rustix::fs::lsetxattr(root.path().join("link"), "trusted.t", b"1", XattrFlags::empty()).is_err() {
        eprintln!("skipped: only root on a file system with trusted attributes can make what this test reads");
        return;
    }
    rustix::fs::lsetxattr(root.path().join("fifo"), "trusted.t", b"2", XattrFlags::empty()).unwrap();
    let seen = walk(root.path(), &SourceOptions::default());
    assert_eq!(seen.get("link").entry.metadata.xattrs, [(b"trusted.t".to_vec(), b"1".to_vec())]);
    assert_eq!(seen.get("fifo").entry.metadata.xattrs, [(b"trusted.t".to_vec(), b"2".to_vec())]);
}

#[test]
fn inode_flags_are_those_a_person_set() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["file", "plain"]);
    let nodump = rustix::fs::IFlags::NODUMP;
    let fd = std::fs::File::open(root.path().join("file")).unwrap();
    let set = rustix::fs::ioctl_getflags(&fd).and_then(|flags| rustix::fs::ioctl_setflags(&fd, flags | nodump));
    if set.is_err() {
        eprintln!("skipped: the file system of the temporary folder has no inode flags");
        return;
    }
    let mut seen = walk(root.path(), &SourceOptions::default());
    seen.entries.iter_mut().for_each(|entry| entry.read_details().unwrap());
    assert_eq!(seen.get("file").entry.metadata.inode_flags, nodump.bits());
    assert_eq!(seen.get("plain").entry.metadata.inode_flags, 0, "extents and the like are not a person's");
}

#[test]
fn times_before_1970_and_after_2038_are_kept() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["old", "new"]);
    for (name, seconds, nanoseconds) in [("old", -1_000, 1), ("new", 5_000_000_000, 999_999_999)] {
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, root.path().join(name), &times, AtFlags::empty()).unwrap();
    }
    let seen = walk(root.path(), &SourceOptions::default());
    assert_eq!(seen.get("old").entry.metadata.modified, Timestamp { seconds: -1_000, nanoseconds: 1 });
    assert_eq!(seen.get("new").entry.metadata.modified, Timestamp { seconds: 5_000_000_000, nanoseconds: 999_999_999 });
}

#[test]
fn hard_links_name_the_first_key() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["b/first", "c", "z"]);
    std::fs::hard_link(root.path().join("b/first"), root.path().join("b/second")).unwrap();
    std::fs::hard_link(root.path().join("b/first"), root.path().join("d")).unwrap();
    symlink("x", root.path().join("s1")).unwrap();
    std::fs::hard_link(root.path().join("s1"), root.path().join("s2")).unwrap();
    let seen = walk(root.path(), &SourceOptions::default());
    let first = b"b\0first".to_vec();
    assert!(matches!(seen.get("b/first").entry.kind, EntryKind::File(_)));
    for name in ["b/second", "d"] {
        assert_eq!(seen.get(name).entry.kind, EntryKind::HardLink(first.clone()));
        assert_eq!(seen.get(name).entry.metadata, crate::entry::Metadata::default());
    }
    assert_eq!(seen.get("s2").entry.kind, EntryKind::HardLink(b"s1".to_vec()));
    assert!(matches!(seen.get("c").entry.kind, EntryKind::File(_)));
}

#[test]
fn a_hard_link_whose_first_name_is_excluded_is_a_file() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["a"]);
    std::fs::hard_link(root.path().join("a"), root.path().join("b")).unwrap();
    let seen = walk(root.path(), &SourceOptions { excludes: vec!["a".into()], ..SourceOptions::default() });
    assert!(matches!(seen.get("b").entry.kind, EntryKind::File(_)));
}

#[test]
fn details_of_files_and_of_what_is_known_are_left_until_asked() {
    #[derive(Debug)]
    struct Some;
    impl Known for Some {
        fn is_known(&self, key: &[u8], stat: &super::super::StatKey) -> bool {
            key.starts_with(b"known") && stat.inode != 0
        }
    }
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["known", "known-folder/x", "other", "other-folder/x"]);
    for name in ["known", "known-folder", "other", "other-folder"] {
        if setxattr(root.path().join(name), "user.a", b"1", XattrFlags::empty()).is_err() {
            eprintln!("skipped: the file system of the temporary folder takes no extended attributes");
            return;
        }
    }
    let roots = resolve(&[root.path().join(".")]);
    let mut seen =
        finish(Walk::start(&roots, &SourceOptions::default(), std::option::Option::Some(std::sync::Arc::new(Some)), &runtime(2)).unwrap());
    for entry in &mut seen.entries[1..] {
        let is_known = entry.entry.key.starts_with(b"known");
        assert_eq!(entry.is_known, is_known);
        // Those of a file are left to whoever opens it.
        assert_eq!(entry.has_details, !is_known && entry.entry.kind == EntryKind::Folder);
        let has_attribute = !entry.entry.key.ends_with(b"x");
        assert_eq!(!entry.entry.metadata.xattrs.is_empty(), has_attribute && entry.has_details);
        if entry.entry.key == b"known" {
            let file = entry.open().unwrap();
            entry.read_details_from(&file).unwrap();
        } else {
            entry.read_details().unwrap();
        }
        assert_eq!(!entry.entry.metadata.xattrs.is_empty(), has_attribute);
    }
}

#[test]
fn an_unreadable_folder_is_reported_and_the_walk_goes_on() {
    if is_root() {
        eprintln!("skipped: root reads every folder");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["a", "closed/x", "z"]);
    std::fs::set_permissions(root.path().join("closed"), PermissionsExt::from_mode(0o0)).unwrap();
    let seen = walk(root.path(), &SourceOptions::default());
    std::fs::set_permissions(root.path().join("closed"), PermissionsExt::from_mode(0o700)).unwrap();
    assert_eq!(seen.names(), ["a", "closed/", "z"]);
    assert_eq!(seen.failed.len(), 1);
    assert_eq!(seen.failed[0].0, root.path().join("closed").into_os_string().into_encoded_bytes());
}

#[test]
fn what_vanishes_is_reported_by_name() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["given", "folder/x", "stays"]);
    let roots = resolve(&["given", "folder", "stays"].map(|name| root.path().join(name)));
    std::fs::remove_file(root.path().join("given")).unwrap();
    std::fs::remove_dir_all(root.path().join("folder")).unwrap();
    let seen = walk_roots(&roots, &SourceOptions::default(), 2);
    assert_eq!(seen.names(), ["stays"]);
    let failed: Vec<_> = seen.failed.iter().map(|(path, message)| (path.clone(), message.contains("vanished"))).collect();
    let path = |name| root.path().join(name).into_os_string().into_encoded_bytes();
    assert_eq!(failed, [(path("folder"), true), (path("given"), true)]);
}

#[test]
fn a_given_path_inside_another_that_vanishes_is_reported() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["folder/a", "folder/given"]);
    let roots = resolve(&[root.path().join("."), root.path().join("folder/given")]);
    std::fs::remove_file(root.path().join("folder/given")).unwrap();
    let seen = walk_roots(&roots, &SourceOptions::default(), 2);
    assert_eq!(seen.names(), ["folder/", "folder/a"]);
    assert!(matches!(&seen.failed[..], [(path, _)] if path.ends_with(b"/folder/given")));
}

#[test]
fn what_vanishes_between_listing_and_stat_is_reported() {
    #[derive(Debug)]
    struct Remove(PathBuf);
    impl Known for Remove {
        fn is_known(&self, _: &[u8], _: &super::super::StatKey) -> bool {
            let _ = std::fs::remove_file(&self.0);
            false
        }
    }
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["a", "b", "c"]);
    let known = std::sync::Arc::new(Remove(root.path().join("sub/b")));
    make(root.path(), &["sub/a", "sub/b", "sub/c/d"]);
    let known: std::sync::Arc<dyn Known> = known;
    #[derive(Debug)]
    struct Only(std::sync::Arc<dyn Known>);
    impl Known for Only {
        fn is_known(&self, key: &[u8], stat: &super::super::StatKey) -> bool {
            key == b"sub\0a" && self.0.is_known(key, stat)
        }
    }
    let roots = resolve(&[root.path().join(".")]);
    let seen = finish(Walk::start(&roots, &SourceOptions::default(), Some(std::sync::Arc::new(Only(known))), &runtime(1)).unwrap());
    assert_eq!(seen.names(), ["a", "b", "c", "sub/", "sub/a", "sub/c/", "sub/c/d"]);
    assert_eq!(seen.failed.len(), 1);
    assert!(seen.failed[0].0.ends_with(b"/sub/b") && seen.failed[0].1.contains("vanished"));
}

//! Owners, modes, times, attributes, inode flags.

use super::*;
use rustix::fs::IFlags;

/// An ACL: owner rw, user 65534 r, group r, mask r, others none; as Linux stores it.
fn acl() -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in [(1_u16, 6_u16, u32::MAX), (2, 4, NOBODY), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)] {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// An ACL that leaves the owner no right at all.
fn acl_without_owner() -> Vec<u8> {
    let mut bytes = acl();
    bytes[6] = 0;
    bytes
}

/// The capability `cap_net_raw=ep`, as Linux stores it.
fn capability() -> Vec<u8> {
    let mut bytes = vec![0; 20];
    bytes[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
    bytes[4..8].copy_from_slice(&(1_u32 << 13).to_le_bytes());
    bytes
}

fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    let mut value = vec![0; 4096];
    let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).ok()?;
    value.truncate(length);
    Some(value)
}

fn attributes(of: &[(&str, &[u8])]) -> Vec<(Vec<u8>, Vec<u8>)> {
    of.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec())).collect()
}

/// Restores a small file both ways: with one open, and step by step.
fn both_ways(folder: &Folder, entry: &Entry, mut check: impl FnMut(Vec<ItemProblem>)) {
    check(folder.write_small(entry, b"abc").unwrap().problems);
    folder.prepare(entry).unwrap();
    folder.file(&entry.key).unwrap().write_at(0, b"abc").unwrap();
    check(folder.finish_metadata(entry).unwrap());
    // Once more, without a descriptor that is still open.
    folder.prepare(entry).unwrap();
    folder.files.take(&entry.key).unwrap();
    check(folder.finish_metadata(entry).unwrap());
}

#[test]
fn root_restores_owners_setuid_capabilities_and_acls() {
    if !is_root() {
        return;
    }
    let (_dir, target) = scratch();
    let folder = Folder::open(&target).unwrap();
    let mut file = file_entry("file", 3, &[]);
    let path = target.join("file");
    (file.metadata.uid, file.metadata.gid, file.metadata.mode) = (1234, 70_000, 0o6745);
    file.metadata.xattrs = attributes(&[
        ("security.capability", &capability()),
        ("system.posix_acl_access", &acl()),
        ("trusted.t", b"\0\xff"),
        ("user.u", b""),
    ]);
    both_ways(&folder, &file, |problems| {
        assert_eq!(problems, []);
        let found = stat(&path);
        assert_eq!((found.st_uid, found.st_gid, found.st_mode & 0o7777), (1234, 70_000, 0o6745));
        assert_eq!(attribute(&path, "security.capability").unwrap(), capability());
        assert_eq!(attribute(&path, "trusted.t").unwrap(), b"\0\xff");
        assert_eq!(attribute(&path, "user.u").unwrap(), b"");
    });
    // The mode's group bits are the ACL's mask.
    file.metadata.mode = 0o640;
    both_ways(&folder, &file, |problems| {
        assert_eq!(problems, []);
        assert_eq!(attribute(&path, "system.posix_acl_access").unwrap(), acl());
        assert_eq!(mode(&path), 0o640);
    });
    assert_eq!(folder.owners_left(), 0);

    for (name, kind) in [("link", EntryKind::Symlink(b"file".to_vec())), ("pipe", EntryKind::Fifo), ("sub", EntryKind::Folder)] {
        let mut other = entry(name, kind);
        (other.metadata.uid, other.metadata.gid) = (1234, 70_000);
        if name == "sub" {
            other.metadata.mode = 0o3751;
        }
        other.metadata.xattrs = attributes(&[("trusted.t", b"x")]);
        restore(&folder, std::slice::from_ref(&other));
        let found = stat(&target.join(name));
        assert_eq!((found.st_uid, found.st_gid), (1234, 70_000), "{name}");
        assert_eq!(attribute(&target.join(name), "trusted.t").unwrap(), b"x", "{name}");
    }
    assert_eq!(mode(&target.join("sub")), 0o3751);
    // The link's metadata was not given to what it points to.
    assert_eq!(attribute(&path, "trusted.t").unwrap(), b"\0\xff");
}

#[test]
fn plain_users_keep_their_own_setuid_and_never_lend_their_rights() {
    let (_dir, target) = scratch();
    as_plain_user(|| {
        let folder = Folder::open(&target).unwrap();
        let mut own = file_entry("own", 3, &[]);
        own.metadata.mode = 0o6755;
        both_ways(&folder, &own, |problems| {
            assert_eq!(problems, []);
            assert_eq!(mode(&target.join("own")), 0o6755);
        });
        assert_eq!(folder.owners_left(), 0);

        let mut foreign = own.clone();
        foreign.key = key("foreign");
        foreign.metadata.uid = 0;
        both_ways(&folder, &foreign, |problems| {
            assert_eq!(problems, []);
            assert_eq!(mode(&target.join("foreign")), 0o2755);
        });
        foreign.metadata.gid = 0;
        both_ways(&folder, &foreign, |_| assert_eq!(mode(&target.join("foreign")), 0o755));
        let mut link = entry("link", EntryKind::Symlink(b"x".to_vec()));
        link.metadata.uid = 0;
        restore(&folder, &[link]);
        assert_eq!(folder.owners_left(), 7);
    });
}

#[test]
fn plain_users_get_what_they_have_a_right_to() {
    let (_dir, target) = scratch();
    as_plain_user(|| {
        let folder = Folder::open(&target).unwrap();
        let mut file = file_entry("file", 3, &[]);
        file.metadata.mode = 0o440;
        file.metadata.xattrs =
            attributes(&[("security.capability", &capability()), ("trusted.t", b"x"), ("user.a", b"kept"), ("wrong", b"")]);
        both_ways(&folder, &file, |problems| {
            let refused: Vec<_> = problems.iter().map(|problem| problem.message.split(':').next().unwrap_or("")).collect();
            assert_eq!(refused, ["attribute security.capability", "attribute trusted.t", "attribute wrong"]);
            assert!(problems.iter().all(|problem| problem.aspect == Aspect::Attribute));
            assert_eq!(attribute(&target.join("file"), "user.a").unwrap(), b"kept");
            assert_eq!((mode(&target.join("file")), stat(&target.join("file")).st_mtime), (0o440, 1_000_000_007));
        });
        file.metadata.xattrs = attributes(&[("system.posix_acl_access", &acl())]);
        both_ways(&folder, &file, |problems| {
            assert_eq!(problems, []);
            assert_eq!(mode(&target.join("file")), 0o440);
            // What the entry does not have is gone.
            assert_eq!(attribute(&target.join("file"), "user.a"), None);
        });
    });
}

#[test]
fn capabilities_that_an_entry_has_not_go_even_where_only_a_change_of_owner_takes_them_away() {
    if !is_root() {
        return;
    }
    let (_dir, target) = scratch();
    let write = || {
        let folder = Folder::open(&target).unwrap();
        folder.write_small(&file_entry("file", 3, &[]), b"abc").unwrap()
    };
    as_plain_user(|| assert_eq!(write(), SmallFile { is_unchanged: false, problems: vec![] }));
    rustix::fs::setxattr(target.join("file"), "security.capability", &capability(), rustix::fs::XattrFlags::empty()).unwrap();
    as_plain_user(|| assert_eq!(write(), SmallFile { is_unchanged: true, problems: vec![] }));
    assert_eq!(attribute(&target.join("file"), "security.capability"), None);
}

#[test]
fn default_acls_of_an_existing_folder_do_not_leak_into_what_is_restored() {
    let (_dir, target) = scratch();
    let folder = Folder::open(&target).unwrap();
    rustix::fs::setxattr(&target, "system.posix_acl_default", &acl(), rustix::fs::XattrFlags::empty()).unwrap();
    let file = file_entry("file", 3, &[]);
    both_ways(&folder, &file, |problems| {
        assert_eq!(problems, []);
        assert_eq!(attribute(&target.join("file"), "system.posix_acl_access"), None);
        assert_eq!(mode(&target.join("file")), 0o644);
    });
    let mut with_default = entry("sub", EntryKind::Folder);
    with_default.metadata.xattrs = attributes(&[("system.posix_acl_default", &acl())]);
    let entries = [entry("other", EntryKind::Folder), with_default, file_entry("sub/file", 0, &[]), entry("sub/pipe", EntryKind::Fifo)];
    restore(&folder, &entries);
    assert_eq!(attribute(&target.join("other"), "system.posix_acl_default"), None);
    assert_eq!(attribute(&target.join("sub"), "system.posix_acl_default").unwrap(), acl());
    assert_eq!(attribute(&target.join("sub/file"), "system.posix_acl_access"), None);
    assert_eq!(attribute(&target.join("sub/pipe"), "system.posix_acl_access"), None);
    assert_eq!((mode(&target.join("sub")), mode(&target.join("sub/pipe"))), (0o755, 0o644));
}

#[test]
fn default_acls_that_take_rights_from_the_owner_are_no_obstacle() {
    let (_dir, target) = scratch();
    as_plain_user(|| {
        let folder = Folder::open(&target).unwrap();
        rustix::fs::setxattr(&target, "system.posix_acl_default", &acl_without_owner(), rustix::fs::XattrFlags::empty()).unwrap();
        let entries = [entry("a", EntryKind::Folder), file_entry("a/file", 3, &[]), file_entry("b/c/file", 3, &[])];
        prepare_all(&folder, &entries);
        for entry in &entries[1..] {
            folder.files.take(&entry.key).unwrap();
            folder.file(&entry.key).unwrap().write_at(0, b"abc").unwrap();
            folder.files.take(&entry.key).unwrap();
        }
        assert_eq!(finish(&folder, &entries), []);
        assert_eq!((mode(&target.join("a")), mode(&target.join("a/file"))), (0o755, 0o644));
        assert_eq!(std::fs::read(target.join("b/c/file")).unwrap(), b"abc");
    });
}

#[test]
fn many_attributes_are_cleared_too() {
    let (_dir, target) = scratch();
    let folder = Folder::open(&target).unwrap();
    let mut file = file_entry("file", 3, &[]);
    // Names longer than fit on the stack, values small enough for every file system.
    file.metadata.xattrs = (0..12).map(|n| (format!("user.{n:02}{}", "x".repeat(120)).into_bytes(), vec![n])).collect();
    both_ways(&folder, &file, |problems| assert_eq!(problems, []));
    let kept = file.metadata.xattrs.split_off(11);
    file.metadata.xattrs = kept.clone();
    both_ways(&folder, &file, |problems| assert_eq!(problems, []));
    let mut names = vec![0; 4096];
    let length = rustix::fs::listxattr(target.join("file"), names.as_mut_slice()).unwrap();
    assert_eq!(names[..length], [kept[0].0.as_slice(), b"\0"].concat());
}

#[test]
fn times_go_back_before_1970_to_the_nanosecond() {
    let (_dir, target) = scratch();
    let folder = Folder::open(&target).unwrap();
    for (seconds, nanoseconds) in [(-1, 999_999_999), (-1_000_000_000, 1), (0, 0), (4_294_967_296, 5)] {
        let mut file = file_entry("file", 3, &[]);
        file.metadata.modified = Timestamp { seconds, nanoseconds };
        let (mut sub, mut link) = (entry("sub", EntryKind::Folder), entry("sub/link", EntryKind::Symlink(b"x".to_vec())));
        sub.metadata.modified = file.metadata.modified;
        // Without an owner's name and a time it would be a folder that was not backed up itself.
        sub.metadata.user = b"root".to_vec();
        link.metadata.modified = file.metadata.modified;
        both_ways(&folder, &file, |problems| assert_eq!(problems, []));
        restore(&folder, &[sub, link]);
        for name in ["file", "sub", "sub/link"] {
            let found = stat(&target.join(name));
            assert_eq!((found.st_mtime, found.st_mtime_nsec), (seconds, u64::from(nanoseconds)), "{name}");
        }
    }
}

#[test]
fn inode_flags_come_last_and_forbid_nothing_before() {
    let (_dir, target) = scratch();
    let folder = Folder::open(&target).unwrap();
    let noted = IFlags::NODUMP | IFlags::NOATIME;
    let mut entries = [
        entry("a", EntryKind::Folder),
        file_entry("a/file", 3, &[]),
        file_entry("a/log", 0, &[]),
        hard_link("a/other", "a/file"),
        entry("a/pipe", EntryKind::Fifo),
    ];
    let forbidding = if is_root() { IFlags::IMMUTABLE } else { IFlags::empty() };
    entries[0].metadata.inode_flags = (noted | forbidding).bits();
    entries[1].metadata.inode_flags = (noted | forbidding).bits();
    if is_root() {
        entries[2].metadata.inode_flags = IFlags::APPEND.bits();
    }
    folder.prepare(&entries[0]).unwrap();
    assert_eq!(folder.write_small(&entries[1], b"abc").unwrap().problems, []);
    prepare_all(&folder, &entries[2..]);
    // A small file has its own by now, and it has another name.
    let rest: Vec<_> = entries.iter().filter(|entry| entry.key != entries[1].key).cloned().collect();
    let mut problems = finish(&folder, &rest);
    problems.extend(folder.finish_flags(&entries[1]).unwrap());
    let flags = |name: &str| {
        let file = std::fs::File::open(target.join(name)).unwrap();
        rustix::fs::ioctl_getflags(&file)
    };
    if flags("a").is_err() {
        // A file system without inode flags says so for each item that has some.
        assert!(!problems.is_empty() && problems.iter().all(|problem| problem.aspect == Aspect::Flags));
        return;
    }
    assert_eq!(problems, []);
    let found = ["a", "a/file", "a/log"].map(|name| flags(name).unwrap() & (noted | IFlags::IMMUTABLE | IFlags::APPEND));
    if is_root() {
        // Onto itself: nothing can be done, and that is said for each item.
        assert!(folder.prepare(&entries[1]).unwrap_err().to_string().contains("lsattr"));
        assert!(folder.write_small(&entries[1], b"abc").is_err());
    }
    for name in ["a", "a/file", "a/log"] {
        let file = std::fs::File::open(target.join(name)).unwrap();
        rustix::fs::ioctl_setflags(&file, flags(name).unwrap() - (IFlags::IMMUTABLE | IFlags::APPEND)).unwrap();
    }
    let append = if is_root() { IFlags::APPEND } else { IFlags::empty() };
    assert_eq!(found, [noted | forbidding, noted | forbidding, append]);
    assert_eq!(stat(&target.join("a/other")).st_nlink, 2);
    assert_eq!(stat(&target.join("a")).st_mtime, 1_000_000_007);
}

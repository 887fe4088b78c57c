//! Random trees of everything that this process may make on the file system that temporary folders lie on.

use super::facts::deepest_first;
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, IFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, XattrFlags};
use rustix::fs::{chmodat, chownat, linkat, lsetxattr, mkdirat, mknodat, openat, symlinkat, utimensat};
use std::collections::BTreeSet;
use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;

const ALL_FLAGS: IFlags = IFlags::IMMUTABLE.union(IFlags::APPEND).union(IFlags::NODUMP).union(IFlags::NOATIME).union(IFlags::SYNC);

/// What could be made.
pub(crate) struct Tree {
    /// Things in it, other names included.
    pub(crate) things: usize,
    pub(crate) is_root: bool,
    pub(crate) has_flags: bool,
    pub(crate) has_acls: bool,
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn bytes(&mut self, length: u64) -> Vec<u8> {
        (0..length).map(|_| self.below(256) as u8).collect()
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

#[derive(Clone)]
struct Thing {
    above: Arc<OwnedFd>,
    name: CString,
    kind: FileType,
}

impl Thing {
    /// A path with one name behind a descriptor.
    fn path(&self) -> Vec<u8> {
        [format!("/proc/self/fd/{}/", self.above.as_raw_fd()).as_bytes(), self.name.to_bytes()].concat()
    }
}

impl Tree {
    /// Makes `root` and fills it; `seed` decides.
    pub(crate) fn make(root: &Path, seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1);
        let is_root = rustix::process::geteuid().is_root();
        let above = openat(rustix::fs::CWD, root.parent().unwrap(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let top = Thing {
            above: Arc::new(above),
            name: CString::new(root.file_name().unwrap().as_encoded_bytes()).unwrap(),
            kind: FileType::Directory,
        };
        let mut things = Vec::new();
        let mut folders = vec![make_folder(&top, &mut things)];
        // A path longer than the system takes at once.
        for n in 0..20 {
            let deep = Thing {
                above: folders.last().unwrap().clone(),
                name: CString::new(vec![b'a' + n; 255]).unwrap(),
                kind: FileType::Directory,
            };
            folders.push(make_folder(&deep, &mut things));
        }
        let mut used = BTreeSet::new();
        for _ in 0..90 {
            let above = folders[random.below(folders.len() as u64) as usize].clone();
            let name = random_name(&mut random);
            if !used.insert((above.as_raw_fd(), name.clone())) {
                continue;
            }
            let mut thing = Thing { above, name, kind: FileType::RegularFile };
            match random.below(if is_root { 11 } else { 9 }) {
                0 | 1 => {
                    thing.kind = FileType::Directory;
                    folders.push(make_folder(&thing, &mut things));
                    continue;
                }
                2 => {
                    let length = 1 + random.below(400);
                    let target: Vec<_> = random.bytes(length).into_iter().map(|byte| byte.max(1)).collect();
                    symlinkat(&target[..], &*thing.above, &thing.name).unwrap();
                    thing.kind = FileType::Symlink;
                }
                3 => make_node(&mut thing, FileType::Fifo, 0),
                4 => make_node(&mut thing, FileType::Socket, 0),
                5 => {
                    let others: Vec<&Thing> = things.iter().filter(|thing: &&Thing| thing.kind != FileType::Directory).collect();
                    if others.is_empty() {
                        continue;
                    }
                    let first = others[random.below(others.len() as u64) as usize];
                    linkat(&*first.above, &first.name, &*thing.above, &thing.name, AtFlags::empty()).unwrap();
                    continue;
                }
                9 => make_node(
                    &mut thing,
                    FileType::CharacterDevice,
                    rustix::fs::makedev(random.below(4096) as u32, random.below(1 << 20) as u32),
                ),
                10 => make_node(
                    &mut thing,
                    FileType::BlockDevice,
                    rustix::fs::makedev(random.below(4096) as u32, random.below(1 << 20) as u32),
                ),
                _ => make_file(&thing, &mut random),
            }
            things.push(thing);
        }
        let mut tree = Self { things: things.len(), is_root, has_flags: false, has_acls: true };
        // Deepest and latest first, since what is made in a folder moves its time.
        for thing in things.iter().rev() {
            tree.dress(thing, &mut random);
        }
        if is_root {
            for thing in things.iter().rev() {
                tree.lock(thing, &mut random);
            }
        }
        tree
    }

    /// Attributes, owner, mode, time.
    fn dress(&mut self, thing: &Thing, random: &mut Random) {
        let is_open = matches!(thing.kind, FileType::RegularFile | FileType::Directory);
        for _ in 0..if random.one_in(3) { random.below(4) } else { 0 } {
            let space = match is_open {
                true if !self.is_root || random.one_in(2) => "user.",
                _ if self.is_root => "trusted.",
                _ => continue,
            };
            let length = 1 + random.below(30);
            let name = [space.as_bytes(), &random.bytes(length).into_iter().map(|byte| byte.max(1)).collect::<Vec<_>>()].concat();
            let length = random.below(200);
            lsetxattr(&thing.path()[..], &name[..], &random.bytes(length), XattrFlags::empty()).unwrap();
        }
        if self.is_root {
            let ids = [0, 1000, 65_534, 3_000_000_000];
            let (user, group) = (ids[random.below(4) as usize], ids[random.below(4) as usize]);
            let (user, group) = (rustix::fs::Uid::from_raw(user), rustix::fs::Gid::from_raw(group));
            chownat(&*thing.above, &thing.name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        if thing.kind != FileType::Symlink {
            // A plain user must be able to get at what he backs up.
            let least = if self.is_root {
                0
            } else if thing.kind == FileType::Directory {
                0o700
            } else {
                0o400
            };
            chmodat(&*thing.above, &thing.name, Mode::from_raw_mode(random.below(0o10_000) as u32 | least), AtFlags::empty()).unwrap();
        }
        if is_open && random.one_in(5) {
            self.has_acls &= lsetxattr(&thing.path()[..], "system.posix_acl_access", &random_acl(random), XattrFlags::empty()).is_ok();
        }
        if thing.kind == FileType::Directory && random.one_in(4) {
            self.has_acls &= lsetxattr(&thing.path()[..], "system.posix_acl_default", &random_acl(random), XattrFlags::empty()).is_ok();
        }
        if self.is_root && thing.kind == FileType::RegularFile && random.one_in(5) {
            let mut capability = 0x0200_0001_u32.to_le_bytes().to_vec();
            capability.extend(random.bytes(4));
            capability.extend([0; 12]);
            lsetxattr(&thing.path()[..], "security.capability", &capability, XattrFlags::empty()).unwrap();
        }
        let seconds =
            [0, -1, -2_000_000_000, 1_700_000_000, 4_300_000_000, 14_000_000_000][random.below(6) as usize] + random.below(1000) as i64;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: seconds, tv_nsec: random.below(1_000_000_000) as i64 },
        };
        utimensat(&*thing.above, &thing.name, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }

    /// Inode flags; some forbid everything else.
    fn lock(&mut self, thing: &Thing, random: &mut Random) {
        if !matches!(thing.kind, FileType::RegularFile | FileType::Directory) || !random.one_in(4) {
            return;
        }
        let open = openat(&*thing.above, &thing.name, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty()).unwrap();
        // Together `ALL_FLAGS`.
        let flags = [IFlags::IMMUTABLE, IFlags::APPEND, IFlags::NODUMP, IFlags::NOATIME | IFlags::SYNC][random.below(4) as usize];
        let set = rustix::fs::ioctl_getflags(&open).and_then(|current| rustix::fs::ioctl_setflags(&open, current | flags));
        self.has_flags |= set.is_ok();
    }
}

fn make_folder(thing: &Thing, things: &mut Vec<Thing>) -> Arc<OwnedFd> {
    mkdirat(&*thing.above, &thing.name, Mode::RWXU).unwrap();
    things.push(thing.clone());
    Arc::new(openat(&*thing.above, &thing.name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap())
}

fn make_node(thing: &mut Thing, kind: FileType, device: u64) {
    mknodat(&*thing.above, &thing.name, kind, Mode::RUSR, device).unwrap();
    thing.kind = kind;
}

/// Empty, small, large, or mostly holes, at the beginning, at the end or in between.
fn make_file(thing: &Thing, random: &mut Random) {
    let file = openat(&*thing.above, &thing.name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, Mode::RUSR | Mode::WUSR).unwrap();
    let write = |offset: u64, length: u64, random: &mut Random| {
        let bytes = random.bytes(length);
        assert_eq!(rustix::io::pwrite(&file, &bytes, offset).unwrap(), bytes.len());
    };
    match random.below(5) {
        0 => {}
        1 => write(0, 1 + random.below(100), random),
        2 => write(0, 1 + random.below(200_000), random),
        _ => {
            rustix::fs::ftruncate(&file, random.below(3 << 20)).unwrap();
            for _ in 0..random.below(6) {
                write(random.below(2 << 20), 1 + random.below(20_000), random);
            }
        }
    }
}

/// Any bytes but a slash and zero: short, with line ends, as long as can be.
fn random_name(random: &mut Random) -> CString {
    let length = [1, 4, 12, 254, 255][random.below(5) as usize];
    let mut name: Vec<u8> = match random.one_in(2) {
        true => random.bytes(length),
        false => (0..length).map(|_| b"abc.\n \xff"[random.below(7) as usize]).collect(),
    };
    name.iter_mut().filter(|byte| matches!(**byte, 0 | b'/')).for_each(|byte| *byte = b'_');
    match &name[..] {
        b"." | b".." => c"dots".to_owned(),
        _ => CString::new(name).unwrap(),
    }
}

/// An ACL with one more user and group, as Linux stores it; the owner keeps what he needs.
fn random_acl(random: &mut Random) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    let (user, group) = (random.below(70_000) as u32, random.below(70_000) as u32);
    for (tag, id) in [(0x01_u16, u32::MAX), (0x02, user), (0x04, u32::MAX), (0x08, group), (0x10, u32::MAX), (0x20, u32::MAX)] {
        let rights = if tag == 1 { 7 } else { random.below(8) as u16 };
        bytes.extend([&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    bytes
}

/// Takes inode flags away, some of which keep things from being changed and removed.
pub(crate) fn unlock(root: &Path) {
    for (above, name) in deepest_first(root) {
        let Ok(stat) = rustix::fs::statat(&*above, &name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        if !matches!(FileType::from_raw_mode(stat.st_mode), FileType::RegularFile | FileType::Directory) {
            continue;
        }
        if let Ok(open) = openat(&*above, &name, OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty())
            && let Ok(flags) = rustix::fs::ioctl_getflags(&open)
            && flags.intersects(ALL_FLAGS)
        {
            let _ = rustix::fs::ioctl_setflags(&open, flags - ALL_FLAGS);
        }
    }
}

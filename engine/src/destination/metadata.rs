//! Owner, attributes, mode, times and inode flags, in the order in which none undoes another.
//!
//! Owner first: changing it takes away set-user-id, set-group-id and capabilities. Then attributes, while the mode still
//! lets us write them. Then the mode: an ACL changes its group bits, and the entry's are those of its ACL. Then times.
//! Inode flags last, and those that forbid further steps in a pass of their own.

use super::prepare::proc_path;
use super::resolve::Place;
use crate::entry::Metadata;
use rustix::fs::{AtFlags, Gid, IFlags, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;
use std::fmt::Display;
use std::os::fd::BorrowedFd;

/// Immutable and append-only: they forbid other names, so everything else comes first.
pub(super) const FORBIDDING_FLAGS: u32 = IFlags::IMMUTABLE.union(IFlags::APPEND).bits();
/// No copy-on-write and compressed: btrfs takes the first only on empty files, and the second matters while writing.
pub(super) const EARLY_FLAGS: u32 = IFlags::NOCOW.union(IFlags::COMPRESSED).bits();
/// What folders pass on to what is made in them, and an entry may not have; the early ones are passed on too, for reasons of the file system.
const INHERITED_FLAGS: u32 = IFlags::SYNC.union(IFlags::NODUMP).union(IFlags::NOATIME).union(IFlags::DIRSYNC).bits();
/// What a person may set; anything else in an entry is not passed on to the kernel. The two without names in the list
/// of constants are `FS_NOCOMP_FL` and `FS_DAX_FL`.
const SETTABLE_FLAGS: u32 = IFlags::SECURE_REMOVAL.bits()
    | IFlags::UNRM.bits()
    | IFlags::SYNC.bits()
    | IFlags::NODUMP.bits()
    | IFlags::NOATIME.bits()
    | IFlags::JOURNALING.bits()
    | IFlags::NOTAIL.bits()
    | IFlags::DIRSYNC.bits()
    | IFlags::TOPDIR.bits()
    | IFlags::PROJECT_INHERIT.bits()
    | 0x0000_0400
    | 0x0200_0000
    | EARLY_FLAGS
    | FORBIDDING_FLAGS;

/// The attribute that holds capabilities.
const CAPABILITY: &[u8] = b"security.capability";
/// Most attribute lists fit here, on the stack.
const LIST_BYTES: usize = 1024;
/// Linux gives no longer list of attribute names (`XATTR_LIST_MAX`).
const LIST_BYTES_MAX: usize = 64 * 1024;

/// What of an item could not be restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Aspect {
    /// Owner or group.
    Owner,
    /// Permission bits.
    Mode,
    /// The time of last modification.
    Times,
    /// An extended attribute, ACL or capability.
    Attribute,
    /// Inode flags.
    Flags,
}

/// Something of an item that could not be restored; the rest of it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemProblem {
    /// What it concerns.
    pub aspect: Aspect,
    /// What happened, for people, without the item's path.
    pub message: String,
}

/// Something whose metadata is restored.
#[derive(Debug)]
pub(super) enum Handle<'a> {
    /// A regular file or folder, open.
    Open(BorrowedFd<'a>),
    /// A link, pipe, socket or device, pinned (`O_PATH`), and where it stands.
    Node { node: BorrowedFd<'a>, place: &'a Place<'a>, is_link: bool },
}

impl Handle<'_> {
    fn stat_owner(&self) -> rustix::io::Result<(u32, u32)> {
        let (Self::Open(fd) | Self::Node { node: fd, .. }) = self;
        rustix::fs::fstat(fd).map(|stat| (stat.st_uid, stat.st_gid))
    }

    fn set_owner(&self, user: Option<Uid>, group: Option<Gid>) -> rustix::io::Result<()> {
        match self {
            Self::Open(fd) => rustix::fs::fchown(fd, user, group),
            Self::Node { node, .. } => rustix::fs::chownat(node, c"", user, group, AtFlags::EMPTY_PATH),
        }
    }

    fn set_mode(&self, mode: Mode) -> rustix::io::Result<()> {
        match self {
            Self::Open(fd) => rustix::fs::fchmod(fd, mode),
            Self::Node { is_link: true, .. } => Ok(()),
            Self::Node { node, .. } => rustix::fs::chmod(proc_path(*node), mode),
        }
    }

    fn set_times(&self, times: &Timestamps) -> rustix::io::Result<()> {
        match self {
            Self::Open(fd) => rustix::fs::futimens(fd, times),
            Self::Node { place, .. } => rustix::fs::utimensat(&place.folder, place.name, times, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    fn list_attributes(&self, names: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, names),
            Self::Node { node, .. } => rustix::fs::listxattr(proc_path(*node), names),
        }
    }

    fn get_attribute(&self, name: &[u8], value: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Open(fd) => rustix::fs::fgetxattr(fd, name, value),
            Self::Node { node, .. } => rustix::fs::getxattr(proc_path(*node), name, value),
        }
    }

    fn set_attribute(&self, name: &[u8], value: &[u8]) -> rustix::io::Result<()> {
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Node { node, .. } => rustix::fs::setxattr(proc_path(*node), name, value, XattrFlags::empty()),
        }
    }

    fn remove_attribute(&self, name: &[u8]) -> rustix::io::Result<()> {
        match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, name),
            Self::Node { node, .. } => rustix::fs::removexattr(proc_path(*node), name),
        }
    }
}

/// Restores everything but [`FORBIDDING_FLAGS`]; what fails goes to `problems`. Returns whether owner and group are
/// right, or wrong for another reason than that this process has no right to set them.
pub(super) fn restore(handle: &Handle<'_>, metadata: &Metadata, problems: &mut Vec<ItemProblem>) -> bool {
    let mut names = attribute_names(handle);
    let has_capability = names_in(&names).any(|name| name == CAPABILITY);
    let owner = restore_owner(handle, metadata, has_capability, problems);
    if has_capability {
        names = attribute_names(handle);
    }
    restore_attributes(handle, metadata, &names, problems);
    let mode = lent(metadata.mode, owner.user, owner.group);
    if let Err(e) = handle.set_mode(Mode::from_raw_mode(mode)) {
        report(problems, Aspect::Mode, format_args!("mode {mode:04o}"), e);
    }
    restore_times(handle, metadata, problems);
    let flags = metadata.inode_flags & !FORBIDDING_FLAGS;
    match handle {
        Handle::Open(fd) => change_flags(*fd, flags, INHERITED_FLAGS, problems),
        Handle::Node { .. } if flags != 0 => report(problems, Aspect::Flags, "inode flags", Errno::OPNOTSUPP),
        Handle::Node { .. } => {}
    }
    !owner.no_right
}

/// Whether everything is as [`restore`] and [`add_flags`] make it; `false` where that cannot be read. Who is not root cannot give things
/// away: for him another owner is as good.
pub(super) fn is_restored(handle: &Handle<'_>, metadata: &Metadata, is_root: bool) -> bool {
    let (Handle::Open(fd) | Handle::Node { node: fd, .. }) = handle;
    let Ok(stat) = rustix::fs::fstat(fd) else { return false };
    let is_link = matches!(handle, Handle::Node { is_link: true, .. });
    let wanted = IFlags::from_bits_retain(metadata.inode_flags & SETTABLE_FLAGS);
    let has_flags = || match handle {
        Handle::Open(fd) => match rustix::fs::ioctl_getflags(fd) {
            Ok(found) => found == with_flags(found, wanted, INHERITED_FLAGS),
            Err(_) => wanted.is_empty(),
        },
        Handle::Node { .. } => wanted.is_empty(),
    };
    let (has_user, has_group) = (stat.st_uid == metadata.uid, stat.st_gid == metadata.gid);
    ((has_user && has_group) || !is_root)
        && (is_link || stat.st_mode & 0o7777 == lent(metadata.mode, has_user, has_group))
        && (i128::from(stat.st_mtime), i128::from(stat.st_mtime_nsec))
            == (i128::from(metadata.modified.seconds), i128::from(metadata.modified.nanoseconds))
        && has_flags()
        && has_attributes(handle, metadata)
}

fn has_attributes(handle: &Handle<'_>, metadata: &Metadata) -> bool {
    let has_others = names_in(&attribute_names(handle)).any(|name| is_other_attribute(name, metadata));
    let mut value = Vec::new();
    !has_others
        && metadata.xattrs.iter().all(|(name, wanted)| {
            // One byte more, so that a longer value is noticed.
            value.resize(wanted.len() + 1, 0);
            handle.get_attribute(name, &mut value).is_ok_and(|length| value[..length] == wanted[..])
        })
}

/// The mode without what would lend the rights of whoever the thing belongs to instead.
fn lent(mode: u32, has_user: bool, has_group: bool) -> u32 {
    let mut mode = mode & 0o7777;
    if !has_user {
        mode &= !0o4000;
    }
    if !has_group {
        mode &= !0o2000;
    }
    mode
}

struct Owner {
    user: bool,
    group: bool,
    no_right: bool,
}

fn restore_owner(handle: &Handle<'_>, metadata: &Metadata, has_capability: bool, problems: &mut Vec<ItemProblem>) -> Owner {
    let mut owner = Owner { user: false, group: false, no_right: false };
    // All ones means "leave as it is" to the kernel.
    if metadata.uid == u32::MAX || metadata.gid == u32::MAX {
        report(problems, Aspect::Owner, format_args!("owner {}:{}", metadata.uid, metadata.gid), Errno::INVAL);
        return owner;
    }
    // Looking costs less than a change that changes nothing; but that one takes capabilities away, which a plain user cannot do otherwise.
    if !has_capability && handle.stat_owner() == Ok((metadata.uid, metadata.gid)) {
        return Owner { user: true, group: true, no_right: false };
    }
    let group = Gid::from_raw(metadata.gid);
    match handle.set_owner(Some(Uid::from_raw(metadata.uid)), Some(group)) {
        Ok(()) => return Owner { user: true, group: true, no_right: false },
        // No right, or (INVAL) a user namespace in which this owner does not exist.
        Err(Errno::PERM | Errno::INVAL) => owner.no_right = true,
        Err(e) => report(problems, Aspect::Owner, format_args!("owner {}:{}", metadata.uid, metadata.gid), e),
    }
    // The group alone may be one of ours.
    let _ = handle.set_owner(None, Some(group));
    if let Ok((user, group)) = handle.stat_owner() {
        owner.user = user == metadata.uid;
        owner.group = group == metadata.gid;
    }
    owner
}

fn restore_attributes(handle: &Handle<'_>, metadata: &Metadata, found: &[u8], problems: &mut Vec<ItemProblem>) {
    // What the item had before or took over from its folder (default ACLs), and the entry does not have.
    for name in names_in(found).filter(|name| is_other_attribute(name, metadata)) {
        match handle.remove_attribute(name) {
            Ok(()) | Err(Errno::NODATA) => {}
            Err(e) => report(problems, Aspect::Attribute, format_args!("remove attribute {}", String::from_utf8_lossy(name)), e),
        }
    }
    for (name, value) in &metadata.xattrs {
        if let Err(e) = handle.set_attribute(name, value) {
            report(problems, Aspect::Attribute, format_args!("attribute {}", String::from_utf8_lossy(name)), e);
        }
    }
}

/// The names of an item's attributes, each with a zero byte at its end; none on a file system without attributes: setting one will say so.
fn attribute_names(handle: &Handle<'_>) -> Vec<u8> {
    let mut few = [0; LIST_BYTES];
    match handle.list_attributes(&mut few) {
        Ok(length) => few[..length].to_vec(),
        Err(Errno::RANGE) => {
            let mut names = vec![0; LIST_BYTES_MAX];
            let length = handle.list_attributes(&mut names).unwrap_or(0);
            names.truncate(length);
            names
        }
        Err(_) => Vec::new(),
    }
}

fn names_in(names: &[u8]) -> impl Iterator<Item = &[u8]> {
    names.split(|&byte| byte == 0)
}

/// Whether an attribute that the entry does not have is a person's, root's, an ACL or a capability. What remains is for the kernel's own
/// modules, such as labels.
fn is_other_attribute(name: &[u8], metadata: &Metadata) -> bool {
    let is_ours = [&b"user."[..], b"trusted.", b"system.posix_acl_"].iter().any(|space| name.starts_with(space)) || name == CAPABILITY;
    is_ours && metadata.xattrs.binary_search_by(|(other, _)| other.as_slice().cmp(name)).is_err()
}

fn restore_times(handle: &Handle<'_>, metadata: &Metadata, problems: &mut Vec<ItemProblem>) {
    let modified = metadata.modified;
    // Some larger values have meanings of their own to the kernel.
    let set = match i64::from(modified.nanoseconds) {
        tv_nsec @ 0..1_000_000_000 => handle.set_times(&Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: modified.seconds, tv_nsec },
        }),
        _ => Err(Errno::INVAL),
    };
    if let Err(e) = set {
        report(problems, Aspect::Times, format_args!("time {}.{:09}", modified.seconds, modified.nanoseconds), e);
    }
}

/// Adds inode flags, as far as a person may set them.
pub(super) fn add_flags(file: BorrowedFd<'_>, flags: u32, problems: &mut Vec<ItemProblem>) {
    change_flags(file, flags, 0, problems);
}

/// Adds inode flags, as far as a person may set them, and takes away those of `unwanted` that are not added.
fn change_flags(file: BorrowedFd<'_>, flags: u32, unwanted: u32, problems: &mut Vec<ItemProblem>) {
    let wanted = IFlags::from_bits_retain(flags & SETTABLE_FLAGS);
    let set = match rustix::fs::ioctl_getflags(file) {
        // A file system without flags has none too many.
        Err(_) if wanted.is_empty() => return,
        Err(e) => Err(e),
        Ok(current) => match with_flags(current, wanted, unwanted) {
            changed if changed == current => return,
            changed => rustix::fs::ioctl_setflags(file, changed),
        },
    };
    if let Err(e) = set {
        report(problems, Aspect::Flags, format_args!("inode flags {}", named(wanted)), e);
    }
}

/// The flags by the letters that `lsattr` shows.
fn named(flags: IFlags) -> String {
    const LETTERS: [(IFlags, char); 13] = [
        (IFlags::SECURE_REMOVAL, 's'),
        (IFlags::UNRM, 'u'),
        (IFlags::SYNC, 'S'),
        (IFlags::DIRSYNC, 'D'),
        (IFlags::IMMUTABLE, 'i'),
        (IFlags::APPEND, 'a'),
        (IFlags::NODUMP, 'd'),
        (IFlags::NOATIME, 'A'),
        (IFlags::COMPRESSED, 'c'),
        (IFlags::JOURNALING, 'j'),
        (IFlags::NOTAIL, 't'),
        (IFlags::TOPDIR, 'T'),
        (IFlags::NOCOW, 'C'),
    ];
    let letters: String = LETTERS.iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, letter)| letter).collect();
    format!("+{letters} ({:#x})", flags.bits())
}

fn with_flags(current: IFlags, wanted: IFlags, unwanted: u32) -> IFlags {
    (current - IFlags::from_bits_retain(unwanted)) | wanted
}

/// Takes [`FORBIDDING_FLAGS`] away, as far as that is allowed.
pub(super) fn remove_forbidding_flags(file: BorrowedFd<'_>) {
    let forbidding = IFlags::from_bits_retain(FORBIDDING_FLAGS);
    if let Ok(current) = rustix::fs::ioctl_getflags(file)
        && current.intersects(forbidding)
    {
        let _ = rustix::fs::ioctl_setflags(file, current - forbidding);
    }
}

fn report(problems: &mut Vec<ItemProblem>, aspect: Aspect, what: impl Display, errno: Errno) {
    problems.push(ItemProblem { aspect, message: format!("{what}: {}", std::io::Error::from(errno)) });
}

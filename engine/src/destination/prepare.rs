//! Making things, and what happens to what stands there already.

use super::look;
use super::metadata;
use super::resolve::Place;
use crate::entry::{EntryKind, FileContent, Metadata};
use crate::error::{Error, ErrorKind, Result};
use rustix::fs::{AtFlags, FallocateFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What [`super::Folder::prepare`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prepared {
    /// It was made. A file reads as zeros.
    New,
    /// It was there and is kept. Of a file, the first `length` bytes (outside the entry's holes) are the old content and
    /// worth comparing; what follows reads as zeros. For everything else `length` is 0.
    Existing {
        /// Bytes of old content, at most the entry's size once prepared.
        length: u64,
    },
}

const KEPT: Prepared = Prepared::Existing { length: 0 };
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);

/// Takes immutable and append-only away from what stands there, if the entry has such a flag: an earlier restore set it, and this one will
/// set it again. What fails here fails at the next step, which says so.
pub(super) fn release(place: &Place<'_>, of: &Metadata) {
    if of.inode_flags & metadata::FORBIDDING_FLAGS == 0 {
        return;
    }
    // Of a file with other names, too: not even its name here can be taken away otherwise.
    let regular_or_folder =
        look(place).is_ok_and(|stat| stat.is_some_and(|stat| is(&stat, FileType::RegularFile) || is(&stat, FileType::Directory)));
    if regular_or_folder && let Ok(node) = open_to_read(place) {
        metadata::remove_forbidding_flags(node.as_fd());
    }
}

/// Makes a regular file or opens the one that is there. Length and content are left to the caller.
pub(super) fn file(place: &Place<'_>, of: &Metadata, user: u32) -> Result<(OwnedFd, Prepared)> {
    let make = || {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&place.folder, place.name, flags, PRIVATE_FILE)
    };
    match make() {
        Err(Errno::EXIST) => {
            place.require_old()?;
            if let Some(kept) = keep_file(place, of, user)? {
                return Ok(kept);
            }
            clear_way(place)?;
            make()
        }
        made => made,
    }
    .map(|file| {
        let flags = of.inode_flags & metadata::EARLY_FLAGS;
        if flags != 0 {
            // Tried again with the metadata, and reported then.
            metadata::add_flags(file.as_fd(), flags, &mut Vec::new());
        }
        (file, Prepared::New)
    })
    .map_err(|e| Error::io("create file", e.into()))
}

/// Opens an existing file for writing, if writing to it changes nothing but this entry and shows it to nobody else:
/// it has no other names (these could be outside the target), it belongs to us or to whom the entry belongs, and its
/// mode can be narrowed to what both allow.
fn keep_file(place: &Place<'_>, of: &Metadata, user: u32) -> Result<Option<(OwnedFd, Prepared)>> {
    // Looked at before it is opened, since opening a pipe or a device can do things.
    if !look(place)?.is_some_and(|stat| is(&stat, FileType::RegularFile)) {
        return Ok(None);
    }
    let Ok(Some((file, stat))) = open_existing(place, OFlags::RDWR) else { return Ok(None) };
    if !is_keepable(&stat, of, user) {
        return Ok(None);
    }
    let narrow = stat.st_mode & of.mode & 0o777 | 0o600;
    if stat.st_mode & 0o7777 != narrow && rustix::fs::fchmod(&file, Mode::from_raw_mode(narrow)).is_err() {
        return Ok(None);
    }
    Ok(Some((file, Prepared::Existing { length: u64::try_from(stat.st_size).unwrap_or(0) })))
}

/// Whether writing to an existing file changes nothing but this entry and shows it to nobody else.
pub(super) fn is_keepable(stat: &Stat, of: &Metadata, user: u32) -> bool {
    stat.st_nlink == 1 && (stat.st_uid == user || stat.st_uid == of.uid)
}

/// Opens the regular file at `place`; `None` where something else stands there. For writing, the owner is first given
/// the rights, which an old mode or a default ACL of the folder may have left out.
pub(super) fn open_existing(place: &Place<'_>, access: OFlags) -> rustix::io::Result<Option<(OwnedFd, Stat)>> {
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(&place.folder, place.name, flags, Mode::empty());
    let opened = match open() {
        Err(Errno::ACCESS) if access == OFlags::RDWR => {
            allow_owner(open_path(place)?.as_fd(), 0o600);
            open()
        }
        opened => opened,
    };
    let file = match opened {
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Ok(None),
        file => file?,
    };
    let stat = rustix::fs::fstat(&file)?;
    Ok(is(&stat, FileType::RegularFile).then_some((file, stat)))
}

/// Gives a file its full length and its holes, keeping what is worth comparing.
pub(super) fn fit(file: &OwnedFd, content: &FileContent, prepared: Prepared) -> rustix::io::Result<Prepared> {
    let old = match prepared {
        Prepared::New => 0,
        Prepared::Existing { length } => length,
    };
    if old != content.size {
        rustix::fs::ftruncate(file, content.size)?;
    }
    let kept = old.min(content.size);
    for &(offset, length) in content.holes.iter().take_while(|(offset, _)| *offset < kept) {
        let length = length.min(kept - offset);
        match rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length) {
            // Without punching, holes come only with a fresh start.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                rustix::fs::ftruncate(file, 0)?;
                rustix::fs::ftruncate(file, content.size)?;
                return Ok(Prepared::New);
            }
            punched => punched?,
        }
    }
    Ok(match prepared {
        Prepared::New => Prepared::New,
        Prepared::Existing { .. } => Prepared::Existing { length: kept },
    })
}

/// Makes a folder with this mode, or keeps the one that is there.
pub(super) fn folder(place: &Place<'_>, mode: Mode) -> Result<Prepared> {
    let make = || rustix::fs::mkdirat(&place.folder, place.name, mode);
    let made = match make() {
        Err(Errno::EXIST) => {
            place.require_old()?;
            if look(place)?.is_some_and(|stat| is(&stat, FileType::Directory)) {
                Ok(KEPT)
            } else {
                clear_way(place)?;
                make().map(|()| Prepared::New)
            }
        }
        made => made.map(|()| Prepared::New),
    };
    let prepared = made.map_err(|e| Error::io("create folder", e.into()))?;
    // New ones too: a default ACL of the folder above can take rights from the owner.
    if let Ok(node) = open_path(place) {
        allow_owner(node.as_fd(), 0o700);
    }
    Ok(prepared)
}

/// Gives the file `first` another name, or keeps the one that is there.
pub(super) fn hard_link(place: &Place<'_>, first: &Place<'_>) -> Result<Prepared> {
    let make = || rustix::fs::linkat(&first.folder, first.name, &place.folder, place.name, AtFlags::empty());
    match make() {
        Err(Errno::EXIST) => {
            place.require_old()?;
            if let (Some(here), Some(there)) = (look(place)?, look(first)?)
                && (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
            {
                return Ok(KEPT);
            }
            clear_way(place)?;
            make()
        }
        made => made,
    }
    .map(|()| Prepared::New)
    .map_err(|e| Error::io("create hard link", e.into()))
}

/// Makes a symbolic link, pipe, socket or device, or keeps the same one that is there.
pub(super) fn node(place: &Place<'_>, kind: &EntryKind) -> Result<Prepared> {
    if let EntryKind::BlockDevice(major, minor) | EntryKind::CharDevice(major, minor) = *kind
        && (major >= 1 << 12 || minor >= 1 << 20)
    {
        return Err(Error::new(ErrorKind::Unsupported, format!("Linux has no device {major}:{minor}")));
    }
    match make_node(place, kind) {
        Err(Errno::EXIST) => {
            place.require_old()?;
            if is_same_node(place, kind)? {
                return Ok(KEPT);
            }
            clear_way(place)?;
            make_node(place, kind)
        }
        made => made,
    }
    .map(|()| Prepared::New)
    .map_err(|e| match e {
        Errno::PERM => Error::io("only root can create this kind of thing", e.into()),
        _ => Error::io("create", e.into()),
    })
}

fn make_node(place: &Place<'_>, kind: &EntryKind) -> rustix::io::Result<()> {
    let (folder, name) = (&place.folder, place.name);
    if let EntryKind::Symlink(to) = kind {
        return rustix::fs::symlinkat(to.as_slice(), folder, name);
    }
    let (file_type, device) = node_type(kind);
    rustix::fs::mknodat(folder, name, file_type, PRIVATE_FILE, device)
}

fn is_same_node(place: &Place<'_>, kind: &EntryKind) -> Result<bool> {
    match look(place)? {
        Some(stat) if stat.st_nlink == 1 => is_alike(place, &stat, kind),
        _ => Ok(false),
    }
}

/// Whether `stat`, of what stands at `place`, is of something that is not opened to be read, and this very thing.
pub(super) fn is_alike(place: &Place<'_>, stat: &Stat, kind: &EntryKind) -> Result<bool> {
    let (file_type, device) = node_type(kind);
    if !is(stat, file_type) {
        return Ok(false);
    }
    match kind {
        EntryKind::Symlink(to) => match rustix::fs::readlinkat(&place.folder, place.name, Vec::new()) {
            Ok(found) => Ok(found.as_bytes() == to.as_slice()),
            Err(e) => Err(Error::io("read link", e.into())),
        },
        EntryKind::BlockDevice(..) | EntryKind::CharDevice(..) => Ok(stat.st_rdev == device),
        _ => Ok(true),
    }
}

/// The type, and for devices the number, of what is not opened to be read or written.
fn node_type(kind: &EntryKind) -> (FileType, u64) {
    match *kind {
        EntryKind::Symlink(_) => (FileType::Symlink, 0),
        EntryKind::Fifo => (FileType::Fifo, 0),
        EntryKind::Socket => (FileType::Socket, 0),
        EntryKind::BlockDevice(major, minor) => (FileType::BlockDevice, rustix::fs::makedev(major, minor)),
        EntryKind::CharDevice(major, minor) => (FileType::CharacterDevice, rustix::fs::makedev(major, minor)),
        EntryKind::Folder => (FileType::Directory, 0),
        EntryKind::File(_) | EntryKind::HardLink(_) => (FileType::RegularFile, 0),
    }
}

/// Pins a link, pipe, socket or device for its metadata, without opening it for input or output.
pub(super) fn open_node(place: &Place<'_>, kind: &EntryKind) -> Result<OwnedFd> {
    let opened = open_path(place).and_then(|node| Ok((rustix::fs::fstat(&node)?, node)));
    let (stat, node) = opened.map_err(|e| Error::io("open", e.into()))?;
    if is(&stat, node_type(kind).0) {
        Ok(node)
    } else {
        Err(Error::new(ErrorKind::Unavailable, "something else took this item's place while it was restored"))
    }
}

/// Opens a file or folder that was looked at before, to read its metadata.
pub(super) fn open_to_read(place: &Place<'_>) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::openat(&place.folder, place.name, flags, Mode::empty())
}

pub(super) fn open_path(place: &Place<'_>) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(&place.folder, place.name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Gives the owner the rights `wanted`, where they are missing; not of a file with several names, of which others may be outside of the target.
/// Root works without them, and where somebody else owns it the next step says what is wrong: a failure is no error here.
pub(super) fn allow_owner(node: BorrowedFd<'_>, wanted: u32) {
    if let Ok(stat) = rustix::fs::fstat(node)
        && stat.st_mode & wanted != wanted
        && (is(&stat, FileType::Directory) || is(&stat, FileType::RegularFile) && stat.st_nlink == 1)
    {
        let _ = rustix::fs::chmod(proc_path(node), Mode::from_raw_mode(stat.st_mode & 0o7777 | wanted));
    }
}

/// A path that means exactly what a descriptor pins, for the calls that take no such descriptor.
pub(super) fn proc_path(node: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", node.as_raw_fd())
}

/// Removes a regular file; nothing there, or something else, is left as it is.
pub(super) fn remove_file(place: &Place<'_>) -> rustix::io::Result<()> {
    match rustix::fs::statat(&place.folder, place.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if is(&stat, FileType::RegularFile) => match rustix::fs::unlinkat(&place.folder, place.name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            removed => removed,
        },
        Ok(_) | Err(Errno::NOENT) => Ok(()),
        Err(e) => Err(e),
    }
}

/// Removes what stands in the way: anything but a folder that is not empty. Links are removed, not followed.
fn clear_way(place: &Place<'_>) -> Result<()> {
    let flags = match look(place)? {
        None => return Ok(()),
        Some(stat) if is(&stat, FileType::Directory) => AtFlags::REMOVEDIR,
        Some(_) => AtFlags::empty(),
    };
    match rustix::fs::unlinkat(&place.folder, place.name, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {
            Err(Error::new(ErrorKind::AlreadyExists, "a folder with something in it stands here; remove it or restore elsewhere"))
        }
        Err(Errno::PERM) => Err(Error::io("remove what stands here (is it immutable? see lsattr)", Errno::PERM.into())),
        Err(e) => Err(Error::io("remove what stands here", e.into())),
    }
}

pub(super) fn is(stat: &Stat, wanted: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == wanted
}

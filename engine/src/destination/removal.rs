//! Removing what the snapshot does not have.

use super::prepare::{allow_owner, is, open_path};
use super::resolve::Missing;
use super::{Folder, look, path};
use crate::error::{Error, ErrorKind, Result};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A name in a folder of the target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    /// The name.
    pub(crate) bytes: Vec<u8>,
    /// Whether it is a folder; links to folders are none.
    pub(crate) is_folder: bool,
}

/// Things that are never removed, wherever they stand: device and inode numbers.
#[derive(Debug, Default)]
pub(crate) struct Spared(HashSet<(u64, u64)>);

impl Spared {
    /// What stands at these paths now; one that nothing stands at spares nothing.
    pub(crate) fn new<P: AsRef<Path>>(paths: &[P]) -> Self {
        let stats = paths.iter().filter_map(|path| rustix::fs::stat(path.as_ref()).ok());
        Self(stats.map(|stat| identity(&stat)).collect())
    }
}

#[allow(clippy::unnecessary_cast, reason = "the fields' types differ between processors")]
fn identity(stat: &rustix::fs::Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

impl Folder {
    /// The names in a folder, ascending; none where no folder stands there.
    ///
    /// # Errors
    /// As the file system says.
    pub(crate) fn names(&self, key: &[u8]) -> Result<Vec<Name>> {
        self.read_names(key).map_err(|e| e.context(path::shown(key)))
    }

    fn read_names(&self, key: &[u8]) -> Result<Vec<Name>> {
        let failed = |e: Errno| Error::io("list folder", e.into());
        let Some(place) = self.resolver.existing(key)? else { return Ok(Vec::new()) };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = match rustix::fs::openat(&place.folder, place.name, flags, Mode::empty()) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
            opened => opened.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let bytes = entry.file_name().to_bytes();
            if matches!(bytes, b"." | b"..") {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match rustix::fs::statat(&folder, OsStr::from_bytes(bytes), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(e) => return Err(failed(e)),
                },
                kind => kind,
            };
            names.push(Name { bytes: bytes.to_vec(), is_folder: kind == FileType::Directory });
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Gives the owner of a folder the rights to list it and remove from it, where they are missing.
    pub(crate) fn open_up(&self, key: &[u8]) {
        if let Ok(Some(place)) = self.resolver.existing(key)
            && let Ok(node) = open_path(&place)
        {
            allow_owner(node.as_fd(), 0o700);
        }
    }

    /// Whether what stands at `key` is one of `spared`.
    pub(crate) fn is_spared(&self, key: &[u8], spared: &Spared) -> bool {
        let found = self.resolver.existing(key).and_then(|place| place.map_or(Ok(None), |place| look(&place)));
        found.is_ok_and(|stat| stat.is_some_and(|stat| spared.0.contains(&identity(&stat))))
    }

    /// Whether what stands at `key`, or a folder that it is in, also one above the target, is one of `spared`.
    pub(crate) fn is_in_spared(&self, key: &[u8], spared: &Spared) -> bool {
        let ends = key.iter().enumerate().filter(|(_, byte)| **byte == 0).map(|(end, _)| end);
        if ends.chain([0, key.len()]).any(|end| self.is_spared(&key[..end], spared)) {
            return true;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let above = |folder: BorrowedFd<'_>| rustix::fs::openat(folder, c"..", flags, Mode::empty()).ok();
        let (mut below, mut next) = (None, above(self.resolver.root()));
        while let Some(folder) = next {
            let Ok(found) = rustix::fs::fstat(&folder).map(|stat| identity(&stat)) else { return false };
            // What is above the root of everything is that itself.
            if spared.0.contains(&found) || below == Some(found) {
                return below != Some(found);
            }
            (below, next) = (Some(found), above(folder.as_fd()));
        }
        false
    }

    /// Whether something is mounted at `key`, or what stands there is of another device than the folder that it is in. The target itself is
    /// no mount.
    pub(crate) fn is_mount(&self, key: &[u8]) -> bool {
        let Ok(Some(place)) = self.resolver.existing(key) else { return false };
        let (Ok(Some(here)), Ok(above)) = (look(&place), rustix::fs::fstat(&place.folder)) else { return false };
        if key.is_empty() || here.st_dev != above.st_dev {
            return !key.is_empty();
        }
        // A folder can be mounted elsewhere on its own device. Kernels before 5.8 do not tell, and some containers know no such call.
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let told = rustix::fs::statx(&place.folder, place.name, flags, StatxFlags::TYPE);
        told.is_ok_and(|told| told.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
    }

    /// Removes one thing: a folder only if it is empty, a link itself and never what it points to.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] for a folder with something in it, otherwise as the file system says. Nothing there is no error.
    pub(crate) fn remove(&self, key: &[u8]) -> Result<()> {
        self.remove_one(key).map_err(|e| e.context(path::shown(key)))
    }

    fn remove_one(&self, key: &[u8]) -> Result<()> {
        let Some(place) = self.resolver.place(key, Missing::Fail)? else {
            return Err(Error::new(ErrorKind::Internal, "the target itself is never removed"));
        };
        let Some(stat) = look(&place)? else { return Ok(()) };
        let flags = if is(&stat, FileType::Directory) { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        if flags == AtFlags::REMOVEDIR {
            self.resolver.forget(key);
        }
        match rustix::fs::unlinkat(&place.folder, place.name, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Err(Error::new(ErrorKind::AlreadyExists, "not removed: there is something in it")),
            Err(Errno::BUSY) => Err(Error::io("not removed (is something mounted here?)", Errno::BUSY.into())),
            Err(Errno::PERM) => Err(Error::io("not removed (is it immutable? see lsattr)", Errno::PERM.into())),
            Err(e) => Err(Error::io("not removed", e.into())),
        }
    }
}

//! Objects as files of a folder.
//!
//! ```text
//! REPOSITORY/config/0000000001    every object at its name
//! REPOSITORY/packs/ab/ab...
//! REPOSITORY/tmp/icecore-PID-...  objects being written
//! REPOSITORY/tmp/reserve          room for small objects when the file system is full
//! ```
//!
//! A crash leaves at most files in `tmp/`, which the first object made through any later handle sweeps. Opening and reading
//! write nothing, so a repository on a read-only file system can be read. Nothing is replaced and no link is followed.
//! Whoever shares the folder between machines needs a file system whose locks reach across them (NFS and SMB do), or keeps
//! to one writing machine at a time.

mod abilities;
mod folders;
mod handles;
mod reserve;
mod temporary;
mod writer;

use super::{Backend, ObjectInfo, ObjectKind, ObjectName, ObjectWriter};
use crate::error::{Error, ErrorKind, Result};
use folders::Folders;
use handles::Handles;
use rustix::buffer::spare_capacity;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use std::ffi::OsString;
use std::fmt::Display;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use temporary::TEMPORARY_FOLDER;
use writer::LocalWriter;

/// Keeps objects in a folder of a file system.
#[derive(Debug)]
pub struct LocalBackend {
    path: PathBuf,
    folders: Folders,
    handles: Handles,
    swept: Once,
    reserved: Once,
}

impl LocalBackend {
    /// Takes an empty folder, or makes it (readable by its owner only) and its missing parents.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] where there is a repository already, [`ErrorKind::Invalid`] where the folder holds anything else or
    /// is no folder, otherwise [`ErrorKind::Unavailable`].
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !Self::require_free(path)? {
            let making = format!("{}: making the folder", path.display());
            make_durably(path).map_err(|error| Error::io(making, error).with_kind(ErrorKind::Unavailable))?;
        }
        Self::at(path)
    }

    /// Looks whether [`LocalBackend::create`] would take this folder, and makes nothing; whether it is there.
    ///
    /// # Errors
    /// As [`LocalBackend::create`].
    pub(super) fn require_free(path: &Path) -> Result<bool> {
        let shown = path.display();
        match std::fs::read_dir(path) {
            Ok(entries) => refuse_content(path, entries).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                Err(Error::io(format!("{shown}: choose a folder"), error).with_kind(ErrorKind::Invalid))
            }
            Err(error) => Err(Error::io(shown, error)),
        }
    }

    /// Opens the folder of an existing repository. Writes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::NoRepository`] where there is none, otherwise [`ErrorKind::Unavailable`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let config = ObjectKind::Config.folder();
        let absent = |why: &str| {
            let message = format!("{}: {why}; correct the path, or create a repository there first", path.display());
            Error::new(ErrorKind::NoRepository, message)
        };
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => return Err(absent("this is no folder and so no repository")),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(absent("there is no such folder"));
            }
            Err(error) => return Err(Error::io(path.display(), error)),
        }
        let backend = Self::at(path)?;
        match backend.folders.open(config) {
            Ok(_) => Ok(backend),
            // It lost its config, which is said when it is opened: whoever takes it for nothing at all would make a new one.
            Err(Errno::NOENT) if backend.folders.open(ObjectKind::Session.folder()).is_ok() => Ok(backend),
            // Others have a file of this name.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Err(absent(&format!("this is no repository (it has no folder `{config}`)"))),
            Err(error) => Err(read_error(format!("{}/{config}", path.display()), error)),
        }
    }

    /// Opens any folder that is there. Writes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none, otherwise [`ErrorKind::Unavailable`].
    pub fn open_folder(path: impl AsRef<Path>) -> Result<Self> {
        Self::at(path.as_ref())
    }

    fn at(path: &Path) -> Result<Self> {
        // Resolved once: later the working folder may be another.
        let path = path.canonicalize().map_err(|error| Error::io(path.display(), error))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = retry_on_intr(|| rustix::fs::open(&path, flags, Mode::empty())).map_err(|error| read_error(path.display(), error))?;
        Ok(Self { path, folders: Folders::new(root), handles: Handles::default(), swept: Once::new(), reserved: Once::new() })
    }

    /// Gives an object's open file, which other readers may use too, and its size.
    fn shared_file(&self, name: &ObjectName) -> Result<(Arc<OwnedFd>, u64)> {
        if let Some(file) = self.handles.get(name) {
            let stat = rustix::fs::fstat(&*file).map_err(|error| read_error(name, error))?;
            if stat.st_nlink > 0 {
                return Ok((file, size_of(name, &stat)?));
            }
            // Deleted by another process.
            self.handles.remove(name);
        }
        let (file, size) = self.open_file(name)?;
        let file = Arc::new(file);
        if name.kind().is_pack() {
            self.handles.insert(name, &file);
        }
        Ok((file, size))
    }

    /// Reads, and once more without the open file where a network file system lost track of it: it was deleted by another machine, or moved, and only
    /// by its name that can be told.
    fn or_anew<T>(&self, name: &ObjectName, read: impl Fn() -> Result<T>) -> Result<T> {
        match read() {
            Err(error) if is_stale(&error) => {
                self.handles.remove(name);
                read()
            }
            done => done,
        }
    }

    /// Opens an object's file for the caller alone, and gives its size.
    fn open_file(&self, name: &ObjectName) -> Result<(OwnedFd, u64)> {
        let path = name.to_string();
        let (parent, last) = split(&path);
        // Without NONBLOCK the open of a fifo would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = self
            .folders
            .open(parent)
            .and_then(|folder| retry_on_intr(|| rustix::fs::openat(&folder, last, flags, Mode::empty())))
            .map_err(|error| read_error(name, error))?;
        let size = size_of(name, &rustix::fs::fstat(&file).map_err(|error| read_error(name, error))?)?;
        Ok((file, size))
    }

    fn gone(&self) -> Error {
        Error::new(ErrorKind::Unavailable, format!("{}: the repository folder was removed or unmounted", self.path.display()))
    }

    fn list_folder(
        &self,
        kind: ObjectKind,
        path: &str,
        visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
        stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let failed = |error| read_error(path, error);
        let folder = match self.folders.open(path) {
            Err(Errno::NOENT) if self.folders.is_gone() => return Err(self.gone()),
            Err(Errno::NOENT) => return Ok(()),
            other => other.map_err(failed)?,
        };
        for entry in rustix::fs::Dir::read_from(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                // Deleted since it was read from the folder.
                Err(Errno::NOENT) => continue,
                other => other.map_err(failed)?,
            };
            // A name that is no UTF-8 gets replacement characters, which no object name has.
            let name = name.to_string_lossy();
            let full = format!("{path}/{name}");
            match (FileType::from_raw_mode(stat.st_mode), ObjectName::parse(&full)) {
                (FileType::Directory, _) if path == kind.folder() && kind.has_folder(&name) => {
                    self.list_folder(kind, &full, visit, stranger)?;
                }
                (FileType::RegularFile, Ok(name)) => visit(ObjectInfo { name, size: size_of(&name, &stat)? })?,
                _ => stranger(&full)?,
            }
        }
        Ok(())
    }
}

impl Backend for LocalBackend {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        self.swept.call_once(|| temporary::sweep(&self.folders));
        if name.kind().is_pack() {
            self.reserved.call_once(|| reserve::keep(&self.folders));
        }
        Ok(Box::new(LocalWriter::create(&self.folders, name, false)?))
    }

    fn replace(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        self.swept.call_once(|| temporary::sweep(&self.folders));
        Ok(Box::new(LocalWriter::create(&self.folders, name, true)?))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        self.or_anew(name, || {
            let (file, size) = self.shared_file(name)?;
            let short = |size: u64| {
                let message = format!("{name}: {size} bytes, expected {length} more from {offset}");
                Error::new(ErrorKind::Damaged, message)
            };
            // Bound: the size of the file, so that a wrong length takes no memory.
            if offset.checked_add(length as u64).is_none_or(|end| end > size) {
                return Err(short(size));
            }
            let mut bytes = Vec::with_capacity(length);
            while bytes.len() < length {
                let at = offset + bytes.len() as u64;
                match retry_on_intr(|| rustix::io::pread(&*file, spare_capacity(&mut bytes), at))
                    .map_err(|error| read_error(name, error))?
                {
                    0 => return Err(short(at)),
                    _ => continue,
                }
            }
            // A vector may have taken more room than it was asked to.
            bytes.truncate(length);
            Ok(bytes)
        })
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        let path = name.to_string();
        let (parent, last) = split(&path);
        let stat = self.folders.open(parent).and_then(|folder| rustix::fs::statat(&folder, last, AtFlags::SYMLINK_NOFOLLOW));
        size_of(name, &stat.map_err(|error| read_error(name, error))?)
    }

    fn list(
        &self,
        kind: ObjectKind,
        visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
        stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        self.list_folder(kind, kind.folder(), visit, stranger)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        self.handles.remove(name);
        let path = name.to_string();
        let (parent, last) = split(&path);
        let folder = self.folders.open(parent).map_err(|error| read_error(name, error))?;
        let removed = rustix::fs::unlinkat(&folder, last, AtFlags::empty());
        if removed.is_ok() || removed == Err(Errno::NOENT) {
            folders::sync(&folder).map_err(|error| write_error(name, error))?;
        }
        removed.map_err(|error| match error {
            Errno::NOENT => read_error(name, error),
            _ => write_error(name, error),
        })?;
        // Folders of packs are few and used for ever; each session would leave one behind. It stays where it is not empty.
        if let Some((grandparent, own)) = parent.split_once('/')
            && !name.kind().is_pack()
            && let Ok(folder) = self.folders.open(grandparent)
        {
            let _ = rustix::fs::unlinkat(&folder, own, AtFlags::REMOVEDIR);
        }
        Ok(())
    }

    fn make_durable(&self, names: &[ObjectName]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        self.folders
            .sync_all(names.iter().map(|name| split(&name.to_string()).0.to_owned()).collect())
            .map_err(|(folder, error)| write_error(folder, error))
    }

    fn hold(&self, name: &ObjectName) -> Result<Option<Box<dyn Send>>> {
        let (file, _) = self.open_file(name)?;
        // Shared, so that a look by `is_held` only delays it for a moment.
        match temporary::lock(&file, FlockOperation::LockShared) {
            Ok(()) => Ok(Some(Box::new(Hold(file)))),
            Err(error) if cannot_lock(error) => Ok(None),
            Err(error) => Err(read_error(name, error)),
        }
    }

    fn is_held(&self, name: &ObjectName) -> Result<Option<bool>> {
        let (file, _) = self.open_file(name)?;
        match temporary::lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                drop(Hold(file));
                Ok(Some(false))
            }
            Err(Errno::WOULDBLOCK) => Ok(Some(true)),
            Err(error) if cannot_lock(error) => Ok(None),
            Err(error) => Err(read_error(name, error)),
        }
    }

    fn describe(&self) -> String {
        self.path.display().to_string()
    }
}

impl Drop for LocalBackend {
    /// What was written in the meantime may have taken the reserve.
    fn drop(&mut self) {
        if self.swept.is_completed() {
            reserve::keep(&self.folders);
        }
    }
}

/// A lock on an object's file. Unlocked before it is closed: a child process that is just being started may have a copy.
struct Hold(OwnedFd);

impl Drop for Hold {
    fn drop(&mut self) {
        let _ = temporary::lock(&self.0, FlockOperation::Unlock);
    }
}

/// Whether this file system has no locks, or (NFS) none on files that are open for reading only.
fn cannot_lock(error: Errno) -> bool {
    matches!(error, Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::BADF)
}

/// Splits an object's name into its folder and the name in there.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').expect("every object name has a folder")
}

fn size_of(name: &ObjectName, stat: &rustix::fs::Stat) -> Result<u64> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    match (kind, u64::try_from(stat.st_size)) {
        (FileType::RegularFile, Ok(size)) => Ok(size),
        _ => Err(Error::new(ErrorKind::Damaged, format!("{name}: expected a regular file, found a {kind:?}; icecore did not write it"))),
    }
}

fn read_error(what: impl Display, error: Errno) -> Error {
    match error {
        Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO => {
            let what = format!("{what}: something that icecore did not write stands in its place; see what it is and remove it");
            Error::io(what, error.into()).with_kind(ErrorKind::Damaged)
        }
        _ => io_error(what, error.into(), "this user may not read it; run as who may, or change its owner or mode"),
    }
}

fn is_stale(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    source.and_then(io::Error::raw_os_error) == Some(Errno::STALE.raw_os_error())
}

fn write_error(what: impl Display, error: Errno) -> Error {
    match error {
        Errno::NOENT | Errno::EXIST => Error::io(what, error.into()).with_kind(ErrorKind::Unavailable),
        Errno::LOOP | Errno::NOTDIR | Errno::ISDIR | Errno::NXIO => read_error(what, error),
        _ => io_error(what, error.into(), READ_ONLY),
    }
}

const READ_ONLY: &str = "the repository folder is read-only for this user; make it writable, or write to another";

/// An error of the file system with what to do about it; `not_permitted` where it is a matter of permissions.
fn io_error(what: impl Display, error: io::Error, not_permitted: &str) -> Error {
    let advice = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::ACCESS | Errno::PERM) => not_permitted,
        Some(Errno::ROFS) => READ_ONLY,
        Some(Errno::NOSPC) => "the repository's file system is full; free some space there and run it again, nothing is lost",
        Some(Errno::DQUOT) => "the quota on the repository's file system is used up; raise it or free some space, and run it again",
        Some(Errno::FBIG) => "the repository's file system, or a limit of this process (see ulimit -f), takes no files of this size",
        Some(Errno::STALE) => "the network file system lost track of it; mount the repository anew and run it again",
        Some(Errno::IO) => {
            "the disk could not do it; look at the kernel's messages, and copy the repository to another disk while it can be read"
        }
        Some(Errno::NOTCONN | Errno::TIMEDOUT | Errno::HOSTDOWN | Errno::NETUNREACH) => {
            "the repository's file system does not answer; see that it is mounted and reachable, and run it again"
        }
        Some(Errno::MFILE | Errno::NFILE) => "too many files are open (see ulimit -n)",
        _ => return Error::io(what, error),
    };
    Error::io(format!("{what}: {advice}"), error).with_kind(ErrorKind::Unavailable)
}

fn refuse_content(path: &Path, entries: std::fs::ReadDir) -> Result<()> {
    let shown = path.display();
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| Error::io(&shown, error))?.file_name();
        // Every fresh ext4 has one.
        if name != "lost+found" {
            found.push(name);
        }
    }
    if is_left_by_create(path, &found)? {
        return Ok(());
    }
    if let Some(found) = found.first() {
        if path.join(ObjectKind::Config.folder()).is_dir() {
            let message = format!("{shown}: there is a repository already; open it, or choose another folder");
            return Err(Error::new(ErrorKind::AlreadyExists, message));
        }
        let message = format!("{shown}: this folder is not empty (it has `{}`); choose an empty or a new one", found.display());
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    Ok(())
}

/// Whether a folder has nothing but what is left of a repository whose making was stopped before it had a config: what is no object of it is nobody's.
fn is_left_by_create(path: &Path, found: &[OsString]) -> Result<bool> {
    const KINDS: [ObjectKind; 3] = [ObjectKind::Config, ObjectKind::Slot, ObjectKind::Parity];
    let is_ours = |name: &OsString| name == TEMPORARY_FOLDER || KINDS.iter().any(|kind| name == kind.folder());
    if found.is_empty() || !found.iter().all(is_ours) {
        return Ok(false);
    }
    let (backend, mut is_left) = (LocalBackend::at(path)?, true);
    for kind in KINDS {
        let strangers = backend.list(
            kind,
            &mut |object| {
                is_left &= object.name.kind() != ObjectKind::Config;
                Ok(())
            },
            // Only to end there.
            &mut |name| Err(Error::new(ErrorKind::Invalid, name)),
        );
        match strangers {
            Err(error) if error.kind() == ErrorKind::Invalid => return Ok(false),
            // A file in the place of the folder.
            Err(_) if !path.join(kind.folder()).is_dir() => return Ok(false),
            listed => listed?,
        }
    }
    let has_no_other = temporary::has_no_other(&path.join(TEMPORARY_FOLDER)).map_err(|error| Error::io(path.display(), error))?;
    Ok(is_left && has_no_other)
}

/// Makes a folder and its parents, and makes their entries survive a power failure.
fn make_durably(path: &Path) -> io::Result<()> {
    let path = std::path::absolute(path)?;
    // The folders that get a new entry: up to the first that exists.
    let missing = path.ancestors().take_while(|folder| !folder.exists()).count();
    DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
    for folder in path.ancestors().skip(1).take(missing) {
        folders::sync(File::open(folder)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;

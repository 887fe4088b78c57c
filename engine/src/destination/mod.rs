//! What restore writes to: a folder of a file system; also tar archives (`tar`), and devices in place (`device`).
//!
//! Entries come from a snapshot that may be hostile, and the folder may hold anything already, and may be changed by
//! others meanwhile. The invariant: **nothing outside the target folder is created, written, removed or changed.** It
//! rests on descriptors, not on strings. Every key is split into components that are checked (`path`); every folder is
//! opened from the target's own descriptor without following any symbolic link (`resolve`); and everything else is one
//! component, made or opened in such a folder without following a link. Since paths are resolved in pieces, they may be
//! longer than the system's limit for one path.
//!
//! A restore goes through these steps, each for all entries before the next:
//!
//! 1. [`Folder::prepare`], in key order, makes things; folders get mode 0700 until their own metadata comes.
//!    [`Folder::write_small`] does this step and the next two for a file whose content is at hand.
//! 2. [`Folder::file`] and [`OutputFile::write_at`], from any thread in any order.
//! 3. [`Folder::finish_metadata`], for everything but folders in any order, then for folders, deepest first, since a
//!    change in a folder changes the folder's times and needs its write permission.
//! 4. [`Folder::finish_flags`], deepest first, for the inode flags that forbid every later step.
//! 5. [`Folder::sync`].
//!
//! A caller that has not all entries at hand may do 1 to 3 for some of them before the next ones, if a folder's metadata waits for
//! everything below it.
//!
//! What stands in the way of an entry is handled so:
//!
//! | in the target | entry | what happens |
//! |---|---|---|
//! | regular file | file | kept for comparison, unless it has other names, belongs to somebody else or cannot be opened: then replaced |
//! | folder | folder | kept, with all that is in it |
//! | immutable or append-only | the same flag | the flag is taken away, and set again in the end |
//! | the same link, pipe, socket, device, other name | the same | kept |
//! | empty folder | anything else | removed |
//! | folder with something in it | anything else | the item fails |
//! | anything else | anything else | removed; a symbolic link itself, never what it points to |
//! | anything but a folder | above an entry, and not in the snapshot | the item fails |
//! | anything, in a target that a restore made | anything | the item fails: it is another entry, or somebody else's |
//!
//! Owners are set by the numbers that entries have; `LocalOwners` puts those in that their names have on this machine. Without the right to change owners a program would fail at each file, so these are
//! counted ([`Folder::owners_left`]) for one line at the end; set-user-id and set-group-id are given only together with
//! the right owner and group.

mod descriptors;
mod device;
mod file;
mod metadata;
mod owners;
mod path;
mod prepare;
mod removal;
mod resolve;
mod standing;
pub(crate) mod tar;
#[cfg(test)]
mod tests;
mod write_out;

pub(crate) use device::Device;
use file::Closings;
pub use file::OutputFile;
pub use metadata::{Aspect, ItemProblem};
pub(crate) use owners::LocalOwners;
pub use prepare::Prepared;
pub(crate) use removal::{Name, Spared};
pub(crate) use standing::Standing;
pub(crate) use write_out::WriteOut;

use crate::entry::{Entry, EntryKind, FileContent, Key};
use crate::error::{Error, ErrorKind, Result};
use descriptors::DescriptorCache;
use metadata::Handle;
use resolve::{Missing, Place, Resolver};
use rustix::fs::{AtFlags, Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many files written lately stay open. Together with the cached folders well below the usual limit of 1024.
const FILES_OPEN_MAX: usize = 128;

/// The kernel passes no request to write out a whole file system on to most programs that serve one (FUSE).
const FUSE_MAGIC: u64 = 0x6573_5546;

/// What [`Folder::write_small`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmallFile {
    /// The file was there with this content; nothing of it was written.
    pub is_unchanged: bool,
    /// What only in part could be restored.
    pub problems: Vec<ItemProblem>,
}

/// A folder that entries are restored into, shared by all threads of a restore.
#[derive(Debug)]
pub struct Folder {
    resolver: Resolver,
    files: DescriptorCache<OutputFile>,
    user: u32,
    /// It was not there before.
    is_new: bool,
    /// Where writing out the file system does not tell what it lost, each file is written out.
    closings: Option<Arc<Closings>>,
    owners_left: AtomicU64,
}

impl Folder {
    /// Opens `target`, which is made first (mode 0700) with its parents where it does not exist.
    ///
    /// Symbolic links in `target` itself are followed: the caller named it.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] (or `NotFound`, `AlreadyExists`) where it cannot be made or opened, or is no folder.
    pub fn open(target: &Path) -> Result<Self> {
        let failed = |source| Error::io(format!("target folder {}", target.display()), source);
        let is_new = !target.exists();
        if is_new {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(target).map_err(failed)?;
        }
        let folder = Self::open_existing(target).map_err(|e| failed(e.into()))?;
        Ok(Self { is_new, ..folder })
    }

    fn open_existing(target: &Path) -> rustix::io::Result<Self> {
        let root = rustix::fs::open(target, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let tells_files_only = rustix::fs::fstatfs(&root).is_ok_and(|found| found.f_type as u64 == FUSE_MAGIC);
        Ok(Self {
            closings: tells_files_only.then(Arc::default),
            resolver: Resolver::new(root),
            files: DescriptorCache::new(FILES_OPEN_MAX),
            user: rustix::process::geteuid().as_raw(),
            is_new: false,
            owners_left: AtomicU64::new(0),
        })
    }

    /// Whether [`Folder::open`] made it.
    pub(crate) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Refuses entries whose names are taken, where the target is new: each has to come once from now on.
    pub(crate) fn each_once(mut self) -> Self {
        if self.is_new {
            self.resolver.begin_bare();
        }
        self
    }

    /// Makes what `entry` is, without its metadata: a file in full length with its holes, everything else whole.
    ///
    /// Entries come in key order. Folders above that did not come (restore of a part) are made with mode 0700. The
    /// mode of a file is 0600 until its metadata comes, or what both its old and its new mode allow.
    ///
    /// # Errors
    /// The item cannot be made: [`ErrorKind::Damaged`] for a key that leads out of the target or makes no sense,
    /// otherwise as the file system says. Other items are not affected, except those below or linked to it.
    pub fn prepare(&self, entry: &Entry) -> Result<Prepared> {
        self.prepare_item(entry).map_err(|e| e.context(path::shown(&entry.key)))
    }

    fn prepare_item(&self, entry: &Entry) -> Result<Prepared> {
        let Some(place) = self.resolver.place(&entry.key, Missing::Make)? else {
            return self.prepare_target(entry);
        };
        prepare::release(&place, &entry.metadata);
        match &entry.kind {
            EntryKind::File(content) => {
                let (file, prepared) = prepare::file(&place, &entry.metadata, self.user)?;
                let prepared = prepare::fit(&file, content, prepared).map_err(|e| Error::io("set length and holes", e.into()))?;
                self.files.insert(&entry.key, Arc::new(self.output(&entry.key, file)));
                Ok(prepared)
            }
            EntryKind::Folder => prepare::folder(&place, if entry.metadata.is_of_way() { Mode::from_raw_mode(0o755) } else { Mode::RWXU }),
            EntryKind::HardLink(earlier) => {
                if *earlier >= entry.key {
                    return Err(Error::new(ErrorKind::Damaged, format!("is another name of {}, which comes later", path::shown(earlier))));
                }
                let Some(first) = self.resolver.place(earlier, Missing::Fail)? else {
                    return Err(Error::new(ErrorKind::Damaged, "is another name of the root folder"));
                };
                prepare::hard_link(&place, &first).map_err(|e| e.context(format_args!("link to {}", path::shown(earlier))))
            }
            _ => prepare::node(&place, &entry.kind),
        }
    }

    fn prepare_target(&self, entry: &Entry) -> Result<Prepared> {
        match entry.kind {
            EntryKind::Folder if entry.metadata.is_of_way() => {
                if self.is_new {
                    prepare::allow_owner(self.resolver.root(), 0o755);
                }
                Ok(Prepared::Existing { length: 0 })
            }
            EntryKind::Folder => {
                prepare::release(&self.resolver.root_place(), &entry.metadata);
                prepare::allow_owner(self.resolver.root(), 0o700);
                Ok(Prepared::Existing { length: 0 })
            }
            _ => Err(Error::new(ErrorKind::Damaged, "the root of a snapshot must be a folder")),
        }
    }

    /// Opens a prepared file to write its content. Files used lately stay open; what is returned may be kept as long
    /// as wanted, but each one kept is a descriptor.
    ///
    /// # Errors
    /// As the file system says; [`ErrorKind::Unavailable`] where something else took the file's place meanwhile.
    pub fn file(&self, key: &Key) -> Result<Arc<OutputFile>> {
        if let Some(file) = self.files.get(key) {
            return Ok(file);
        }
        let file = self.open_regular(key, OFlags::RDWR).map_err(|e| e.context(path::shown(key)))?;
        let file = Arc::new(self.output(key, file));
        self.files.insert(key, Arc::clone(&file));
        Ok(file)
    }

    fn output(&self, key: &Key, file: OwnedFd) -> OutputFile {
        match &self.closings {
            Some(closings) => OutputFile::written_out(file, key, closings),
            None => OutputFile::new(file),
        }
    }

    /// Waits until a finished file is durable, where that is not left to [`Folder::sync`].
    fn write_out_file(&self, key: &Key, file: &OutputFile) -> rustix::io::Result<()> {
        let Some(closings) = &self.closings else { return Ok(()) };
        let written = rustix::fs::fsync(file.descriptor());
        closings.take(key).map_or(written, Err)
    }

    fn open_regular(&self, key: &Key, access: OFlags) -> Result<OwnedFd> {
        let Some(place) = self.resolver.place(key, Missing::Fail)? else {
            return Err(Error::new(ErrorKind::Damaged, "the root of a snapshot must be a folder"));
        };
        let file = prepare::open_existing(&place, access).map_err(|e| Error::io("open file", e.into()))?;
        match file {
            // Links are made when their file is done. Another name of what is written could be outside.
            Some((file, stat)) if access != OFlags::RDWR || stat.st_nlink == 1 => Ok(file),
            _ => Err(Error::new(ErrorKind::Unavailable, "something else took this file's place while it was restored")),
        }
    }

    /// Makes a file, writes all its content and restores its metadata (all but what [`Folder::finish_flags`] does)
    /// with one open. An existing file of the same content is not written.
    ///
    /// # Errors
    /// As [`Folder::prepare`]; [`ErrorKind::Invalid`] where the entry is no file without holes of the length of `bytes`. A file that could be
    /// written only in part is removed, also one that stood there before.
    pub fn write_small(&self, entry: &Entry, bytes: &[u8]) -> Result<SmallFile> {
        self.write_small_item(entry, bytes).map_err(|e| e.context(path::shown(&entry.key)))
    }

    fn write_small_item(&self, entry: &Entry, bytes: &[u8]) -> Result<SmallFile> {
        let whole =
            matches!(&entry.kind, EntryKind::File(FileContent { size, holes, .. }) if holes.is_empty() && *size == bytes.len() as u64);
        if !whole {
            return Err(Error::new(ErrorKind::Invalid, format!("{} bytes are not the whole content of this entry", bytes.len())));
        }
        let Some(place) = self.resolver.place(&entry.key, Missing::Make)? else {
            return Err(Error::new(ErrorKind::Damaged, "the root of a snapshot must be a folder"));
        };
        prepare::release(&place, &entry.metadata);
        let (file, prepared) = prepare::file(&place, &entry.metadata, self.user)?;
        let file = OutputFile::new(file);
        let is_unchanged = match prepared {
            Prepared::Existing { length } => length == bytes.len() as u64 && file.matches(0, bytes)?,
            Prepared::New => false,
        };
        let write = || {
            if !is_unchanged {
                if prepared != Prepared::New {
                    rustix::fs::ftruncate(file.descriptor(), bytes.len() as u64).map_err(|e| Error::io("set length", e.into()))?;
                }
                file.write_at(0, bytes)?;
            }
            let problems = self.restore_metadata(&Handle::Open(file.descriptor()), entry);
            self.write_out_file(&entry.key, &file).map_err(|e| Error::io("write out", e.into()))?;
            Ok(SmallFile { is_unchanged, problems })
        };
        write().map_err(|error| remove_part(&place, error))
    }

    /// Removes a prepared file whose content could not be restored: half a file must not look like a whole one.
    /// What is no regular file is left alone.
    ///
    /// # Errors
    /// As the file system says; nothing there is no error.
    pub fn remove_file(&self, key: &Key) -> Result<()> {
        self.files.take(key);
        let remove = || {
            let Some(place) = self.resolver.place(key, Missing::Fail)? else { return Ok(()) };
            prepare::remove_file(&place).map_err(|e| Error::io("remove what was restored of it", e.into()))
        };
        remove().map_err(|e: Error| e.context(path::shown(key)))
    }

    /// Whether this process is root, which has the right to restore owners.
    pub fn is_root(&self) -> bool {
        self.user == 0
    }

    /// Restores owner, attributes, mode, times and inode flags of a prepared entry, in an order in which none undoes
    /// another. Does nothing for another name of an earlier entry.
    ///
    /// Attributes that the entry does not have are removed, as far as they are a person's or root's (`user.`,
    /// `trusted.`), ACLs or capabilities. Inode flags are added; sync, nodump, noatime and dirsync, which new things
    /// take over from their folder, are also taken away. The time of last access stays as it is.
    ///
    /// # Errors
    /// The entry cannot be opened or is no longer what was prepared. On a file system that tells what it lost to each file only (FUSE), also what that
    /// says of a file, which is then removed. What only in part could be restored is returned.
    pub fn finish_metadata(&self, entry: &Entry) -> Result<Vec<ItemProblem>> {
        self.finish_item(entry).map_err(|e| e.context(path::shown(&entry.key)))
    }

    fn finish_item(&self, entry: &Entry) -> Result<Vec<ItemProblem>> {
        match &entry.kind {
            EntryKind::HardLink(_) => Ok(Vec::new()),
            // It is not in the snapshot, and what was there of this name is none of ours.
            EntryKind::Folder if entry.metadata.is_of_way() => Ok(Vec::new()),
            EntryKind::File(_) => {
                let file = match self.files.take(&entry.key) {
                    Some(file) => file,
                    None => Arc::new(OutputFile::new(self.open_regular(&entry.key, OFlags::RDWR)?)),
                };
                let problems = self.restore_metadata(&Handle::Open(file.descriptor()), entry);
                match self.write_out_file(&entry.key, &file) {
                    Ok(()) => Ok(problems),
                    Err(errno) => {
                        let error = Error::io("write out", errno.into());
                        Err(match self.resolver.place(&entry.key, Missing::Fail)? {
                            Some(place) => remove_part(&place, error),
                            None => error,
                        })
                    }
                }
            }
            EntryKind::Folder => Ok(self.restore_metadata(&Handle::Open(self.open_folder(&entry.key)?.as_fd()), entry)),
            kind => {
                let Some(place) = self.resolver.place(&entry.key, Missing::Fail)? else {
                    return Err(Error::new(ErrorKind::Damaged, "the root of a snapshot must be a folder"));
                };
                let node = prepare::open_node(&place, kind)?;
                Ok(self.restore_metadata(
                    &Handle::Node { node: node.as_fd(), place: &place, is_link: matches!(kind, EntryKind::Symlink(_)) },
                    entry,
                ))
            }
        }
    }

    fn restore_metadata(&self, handle: &Handle<'_>, entry: &Entry) -> Vec<ItemProblem> {
        let mut problems = Vec::new();
        if !metadata::restore(handle, &entry.metadata, &mut problems) {
            self.owners_left.fetch_add(1, Ordering::Relaxed);
        }
        problems
    }

    /// Opens the folder itself, for its metadata.
    fn open_folder(&self, key: &Key) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match self.resolver.place(key, Missing::Fail)? {
            Some(Place { folder, name, .. }) => rustix::fs::openat(&folder, name, flags, Mode::empty()),
            None => rustix::fs::openat(self.resolver.root(), c".", flags, Mode::empty()),
        }
        .map_err(|e| Error::io("open folder", e.into()))
    }

    /// Sets the inode flags immutable and append-only where the entry has them; after everything else, deepest first.
    ///
    /// # Errors
    /// As [`Folder::finish_metadata`].
    pub fn finish_flags(&self, entry: &Entry) -> Result<Vec<ItemProblem>> {
        if entry.metadata.inode_flags & metadata::FORBIDDING_FLAGS == 0 {
            return Ok(Vec::new());
        }
        let opened = match entry.kind {
            EntryKind::File(_) => {
                self.files.take(&entry.key);
                self.open_regular(&entry.key, OFlags::RDONLY)
            }
            EntryKind::Folder => self.open_folder(&entry.key),
            _ => return Ok(Vec::new()),
        };
        let mut problems = Vec::new();
        let opened = opened.map_err(|e| e.context(path::shown(&entry.key)))?;
        metadata::add_flags(opened.as_fd(), entry.metadata.inode_flags & metadata::FORBIDDING_FLAGS, &mut problems);
        Ok(problems)
    }

    /// Of how many items this process had no right to restore the owner or the group. A plain user expects that; root
    /// does not (file systems without owners, containers).
    pub fn owners_left(&self) -> u64 {
        self.owners_left.load(Ordering::Relaxed)
    }

    /// Waits until everything on the target's file system is durable. Other file systems mounted below are not covered.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the file system lost something.
    pub fn sync(&self) -> Result<()> {
        self.open_folder(&Key::new()).and_then(|root| write_out::sync(&root)).map_err(|e| e.context("target folder"))
    }
}

/// Removes a file whose content is not whole, also one that stood there before: it must not look like a whole one.
fn remove_part(place: &Place<'_>, error: Error) -> Error {
    match prepare::remove_file(place) {
        Ok(()) => error,
        Err(errno) => error.context(format_args!("only a part of it was restored, and that part could not be removed ({errno})")),
    }
}

/// Stats what stands at a place, not following a link; `None` where nothing does.
fn look(place: &Place<'_>) -> Result<Option<rustix::fs::Stat>> {
    match rustix::fs::statat(&place.folder, place.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(e) => Err(Error::io("look", e.into())),
    }
}

//! What a backup reads: file systems, as entries in key order.
//!
//! [`Roots`] says which paths are read and where each stands in the snapshot, [`SourceOptions`] what is left out, and
//! [`Walk`] yields one [`SourceEntry`] for everything that remains. The walk never reads the content of a file; whoever
//! wants it calls [`SourceEntry::open`] later, on any thread.
//!
//! Invariants:
//! * Keys come in strictly ascending byte order, each once, and do not depend on the number of threads.
//! * A folder comes before what it holds. A hard link names an entry that came before it.
//! * Nothing is left out silently: what was not asked to be excluded comes as an entry, as a [`WalkItem::Failed`], or both.
//! * No call into the system uses a path longer than one name (given paths apart), so depth is not limited by `PATH_MAX`.

mod details;
mod file;
mod folder;
mod links;
mod names;
mod options;
mod owners;
mod roots;
mod rules;
mod stat;
pub(crate) mod tar;
#[cfg(test)]
mod tests;
mod visit;
mod walk;
mod workers;

pub use file::{DataRanges, SourceFile};
pub use options::SourceOptions;
pub(crate) use owners::{GROUPS, USERS, local_accounts};
pub use roots::{FailedRoot, Roots};
pub use stat::StatKey;
pub use walk::Walk;

use crate::entry::{Entry, EntryKind};
use crate::error::{Error, ErrorKind, Result};
use folder::Folder;
use std::ffi::CString;
use std::sync::Arc;

/// What the caller remembers of earlier backups.
pub trait Known: Send + Sync + std::fmt::Debug {
    /// Whether the entry at `key` had exactly this `stat` in an earlier backup whose stored entry the caller will use again.
    ///
    /// Extended attributes and inode flags of such an entry are not read, which makes walking an unchanged tree faster.
    /// Changing either moves the inode's ctime, which is part of `stat`. What turns out not to be known after all can be
    /// completed by [`SourceEntry::read_details`]. Called on the walk's threads.
    fn is_known(&self, key: &[u8], stat: &StatKey) -> bool;
}

/// One step of a [`Walk`].
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all are entries; a box for each would cost more than it saves")]
pub enum WalkItem {
    /// The next entry.
    Entry(SourceEntry),
    /// Something could not be read; the walk goes on. An entry may still come for the same path, without what is missing.
    Failed {
        /// The absolute path, as bytes.
        path: Vec<u8>,
        /// What happened.
        message: String,
    },
}

/// An entry as found, and the way back to it.
#[derive(Debug)]
pub struct SourceEntry {
    /// The entry. A file has its size, no holes and no chunks yet.
    pub entry: Entry,
    /// What tells later whether it changed.
    pub stat: StatKey,
    /// Whether extended attributes and inode flags were read. Not so of regular files, since whoever reads their content has them open
    /// anyway ([`SourceEntry::read_details_from`]), nor where [`Known::is_known`] said yes.
    pub has_details: bool,
    /// Whether [`Known::is_known`] said yes.
    pub is_known: bool,
    /// Whether its content is to be cut at fixed sizes, see [`SourceOptions::fixed`].
    pub is_fixed: bool,
    /// Whether some of its extended attributes or inode flags could not be read, which was told.
    pub is_incomplete: bool,
    /// Whether names of the same inode may follow, as links to this one.
    pub has_other_names: bool,
    folder: Option<Arc<Folder>>,
    /// The name in `folder` of a block device that is read as a file; it need not be that in the key.
    device: Option<CString>,
}

impl SourceEntry {
    /// Whether it is a block device that was given by name and is read as a file. Its stat does not tell whether its content changed.
    pub fn is_device(&self) -> bool {
        self.device.is_some()
    }

    /// Opens the content of a regular file (of a hard link too) or of a device that is read as a file.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where it vanished, [`ErrorKind::Unavailable`] where it may not be read or is another file by now.
    pub fn open(&self) -> Result<SourceFile> {
        let (folder, name) = self.place()?;
        SourceFile::open(folder, &name, &self.stat, self.is_device()).map_err(|error| self.unreadable(error))
    }

    fn unreadable(&self, error: std::io::Error) -> Error {
        let what = if error.kind() == std::io::ErrorKind::NotFound { "it vanished before it was read" } else { "it cannot be read" };
        Error::io(format_args!("{}: {what}", self.shown_path()), error)
    }

    /// Reads extended attributes and inode flags that the walk left unread. Does nothing where it read them.
    ///
    /// # Errors
    /// As [`SourceEntry::open`].
    pub fn read_details(&mut self) -> Result<()> {
        if self.has_details {
            return Ok(());
        }
        let (folder, name) = self.place()?;
        let details = folder
            .fd()
            .and_then(|fd| details::Reader::default().read(&fd, &name, &self.entry.kind, &self.stat))
            .map_err(|error| self.unreadable(error))?;
        self.take_details(details)
    }

    /// As [`SourceEntry::read_details`], for a file that is open already: saves opening it once more.
    ///
    /// # Errors
    /// As [`SourceEntry::open`].
    pub fn read_details_from(&mut self, file: &SourceFile) -> Result<()> {
        if self.has_details {
            return Ok(());
        }
        let details = details::Reader::default().read_open(file.fd());
        self.take_details(details)
    }

    /// Takes over what the open file says of itself where it changed since it was found: the file is then backed up as it was when it
    /// was opened. Its details are to be read after that. False where it changed its owner, whose name only the walk knows.
    pub fn refresh_from(&mut self, file: &SourceFile) -> bool {
        let metadata = &mut self.entry.metadata;
        let facts = file.facts();
        metadata.mode = facts.mode;
        metadata.modified = facts.key.modified;
        let is_same_owner = (metadata.uid, metadata.gid) == (facts.uid, facts.gid);
        self.stat = facts.key;
        self.has_details = false;
        is_same_owner
    }

    /// Keeps what was read even where something could not be.
    fn take_details(&mut self, details: details::Details) -> Result<()> {
        self.entry.metadata.inode_flags = details.inode_flags;
        self.entry.metadata.xattrs = details.xattrs;
        self.has_details = true;
        self.is_incomplete = details.trouble.is_some();
        match details.trouble {
            Some(trouble) => Err(Error::new(ErrorKind::Unavailable, trouble).context(self.shown_path())),
            None => Ok(()),
        }
    }

    /// The absolute path, as bytes. Put together anew at each call.
    pub fn path(&self) -> Vec<u8> {
        match &self.folder {
            Some(folder) => folder::join(&folder.path(), self.reach()),
            None => b"/".to_vec(),
        }
    }

    fn shown_path(&self) -> String {
        format!("`{}`", String::from_utf8_lossy(&self.path()))
    }

    /// How `folder` reaches it: a folder's entry holds the folder itself, all else is found by its name in the folder above.
    fn reach(&self) -> &[u8] {
        match (&self.entry.kind, &self.device) {
            (EntryKind::Folder, _) => b".",
            (_, Some(device)) => device.to_bytes(),
            _ => self.entry.key.rsplit(|byte| *byte == 0).next().unwrap_or_default(),
        }
    }

    fn place(&self) -> Result<(&Arc<Folder>, CString)> {
        let folder =
            self.folder.as_ref().ok_or_else(|| Error::new(ErrorKind::Invalid, "the root of several paths is no folder on disk"))?;
        let name = CString::new(self.reach()).map_err(|_| Error::new(ErrorKind::Internal, "a key component holds a zero byte"))?;
        Ok((folder, name))
    }
}

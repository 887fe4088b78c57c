//! What stands in the target already, looked at without changing anything.

use super::metadata::{self, Handle};
use super::prepare::{self, is};
use super::resolve::Place;
use super::{Folder, OutputFile, look, path};
use crate::entry::{Entry, EntryKind, Key, Metadata};
use crate::error::{Error, Result};
use rustix::fs::{FileType, OFlags};
use std::os::fd::AsFd;
use std::path::Path;

/// What stands where an entry belongs.
#[derive(Debug)]
pub(crate) enum Standing {
    /// Nothing, or no way leads there.
    Nothing,
    /// Something else.
    Other,
    /// The same kind of thing: the link with this target, the device with this number, the same hard link, a folder, any regular file.
    Same {
        /// Of a regular file that can be read, its content and length.
        file: Option<(OutputFile, u64)>,
        /// [`Folder::prepare`] would keep it, not make it anew.
        is_kept: bool,
    },
}

impl Folder {
    /// As [`Folder::open`] for a target that may not exist, which is not made; `None` where nothing is there.
    ///
    /// # Errors
    /// As [`Folder::open`].
    pub(crate) fn find(target: &Path) -> Result<Option<Self>> {
        match Self::open_existing(target) {
            Ok(folder) => Ok(Some(folder)),
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(error) => Err(Error::io(format!("target folder {}", target.display()), error.into())),
        }
    }

    /// Looks at what stands at the entry's place.
    ///
    /// # Errors
    /// As the file system says; a key that leads out of the target.
    pub(crate) fn standing(&self, entry: &Entry) -> Result<Standing> {
        self.look_at(entry).map_err(|e| e.context(path::shown(&entry.key)))
    }

    fn look_at(&self, entry: &Entry) -> Result<Standing> {
        let Some(place) = self.resolver.existing(&entry.key)? else { return Ok(Standing::Nothing) };
        let Some(stat) = look(&place)? else { return Ok(Standing::Nothing) };
        let same = |is_same, is_kept| if is_same { Standing::Same { file: None, is_kept } } else { Standing::Other };
        Ok(match &entry.kind {
            EntryKind::File(_) if is(&stat, FileType::RegularFile) => {
                let opened = prepare::open_existing(&place, OFlags::RDONLY).ok().flatten();
                let is_kept = prepare::is_keepable(&stat, &entry.metadata, self.user);
                let file = opened.map(|(file, stat)| (OutputFile::new(file), u64::try_from(stat.st_size).unwrap_or(0)));
                Standing::Same { file, is_kept }
            }
            EntryKind::File(_) => Standing::Other,
            EntryKind::Folder => same(is(&stat, FileType::Directory), true),
            EntryKind::HardLink(earlier) => {
                let first = match self.resolver.existing(earlier)? {
                    Some(first) => look(&first)?,
                    None => None,
                };
                same(first.is_some_and(|first| (first.st_dev, first.st_ino) == (stat.st_dev, stat.st_ino)), true)
            }
            kind => same(prepare::is_alike(&place, &stat, kind)?, stat.st_nlink == 1),
        })
    }

    /// What stands for the thing at `key`, where it is one with other names beside this one, which may lie anywhere.
    pub(crate) fn with_other_names(&self, key: &Key) -> Option<[u8; 16]> {
        let place = self.resolver.existing(key).ok()??;
        let stat = look(&place).ok()?.filter(|stat| stat.st_nlink > 1 && !is(stat, FileType::Directory))?;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&stat.st_dev.to_le_bytes());
        id[8..].copy_from_slice(&stat.st_ino.to_le_bytes());
        Some(id)
    }

    /// Whether what stands at the entry's place has the entry's metadata; `false` where that cannot be read.
    pub(crate) fn has_metadata(&self, entry: &Entry) -> bool {
        let has = |metadata: &Metadata| -> Result<bool> {
            let Some(place) = self.resolver.existing(&entry.key)? else { return Ok(false) };
            let opened = match entry.kind {
                EntryKind::HardLink(_) => return Ok(true),
                EntryKind::Folder if metadata.is_of_way() => return Ok(true),
                EntryKind::File(_) | EntryKind::Folder => prepare::open_to_read(&place),
                _ => prepare::open_path(&place),
            };
            let node = opened.map_err(|e| Error::io("open", e.into()))?;
            let handle = match entry.kind {
                EntryKind::File(_) | EntryKind::Folder => Handle::Open(node.as_fd()),
                ref kind => Handle::Node { node: node.as_fd(), place: &place, is_link: matches!(kind, EntryKind::Symlink(_)) },
            };
            Ok(metadata::is_restored(&handle, metadata, self.is_root()))
        };
        has(&entry.metadata).unwrap_or(false)
    }

    /// Opens a regular file to read it; files that are written stay open elsewhere.
    ///
    /// # Errors
    /// As [`Folder::file`].
    pub(crate) fn reader(&self, key: &Key) -> Result<OutputFile> {
        self.open_regular(key, OFlags::RDONLY).map(OutputFile::new).map_err(|e| e.context(path::shown(key)))
    }

    /// Whether a folder stands at `key` that nobody but us has a right to, as a restore makes those whose own metadata is to come.
    pub(crate) fn is_private_folder(&self, key: &Key) -> bool {
        let stat = |place: Option<Place<'_>>| place.map_or(Ok(None), |place| look(&place));
        let found = self.resolver.existing(key).and_then(stat);
        found.is_ok_and(|stat| {
            stat.is_some_and(|stat| is(&stat, FileType::Directory) && stat.st_mode & 0o7777 == 0o700 && stat.st_uid == self.user)
        })
    }
}

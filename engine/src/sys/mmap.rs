//! Reading files of our own through memory maps.

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::ops::Deref;

/// The bytes of a file that this program wrote itself and never changes again.
///
/// Only for files in a folder that is private to this user (mode 0700) and that this process holds a lock on: see the safety
/// argument below. Never for the files of users, which shrink under us.
#[derive(Debug)]
pub(crate) struct MappedFile(Mmap);

impl MappedFile {
    /// Maps `file`, which must have exactly `length` bytes, at least one.
    pub(crate) fn new(file: &File, length: u64) -> io::Result<Self> {
        let length_found = file.metadata()?.len();
        if length == 0 || length_found != length {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length_found} bytes, expected {length}")));
        }
        // SAFETY: the map is sound as long as nobody changes or truncates the file while it exists. Files mapped here are written
        // completely before they are mapped, and no code of ours opens them for writing after that: they are only unlinked,
        // which leaves the mapped pages alone. They lie in a folder that only this user can enter and that a lock gives
        // to one process. A user who edits them against all this gets a wrong byte (which the checksums of the index notice) or a
        // bus error, as with any program that maps its own cache; no object of Rust other than `u8` is ever read from the map.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self(map))
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

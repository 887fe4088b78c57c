//! The names in a folder, sorted.
//!
//! Needs 8 bytes and the name with a zero byte for each: 24 MB for a million names of 15 bytes. What `stat` says is fetched later,
//! a batch at a time.

use rustix::fd::OwnedFd;
use rustix::fs::{FileType, RawDir};
use std::ffi::CStr;
use std::io;

/// Bytes asked of the kernel at once; what large folders gain beyond this is small.
const READ_SIZE: usize = 32 << 10;

/// Sorted names, each once, without `.` and `..`.
#[derive(Debug, Default)]
pub(crate) struct Names {
    bytes: Vec<u8>,
    index: Vec<Name>,
}

#[derive(Debug, Clone, Copy)]
struct Name {
    offset: u32,
    length: u16,
    /// Whether it is a folder, where the file system said so.
    is_folder: Option<bool>,
}

impl Names {
    /// Reads the folder that `fd` is open on, from where `fd` stands. `buffer` may be used again for other folders.
    pub(crate) fn read(fd: &OwnedFd, buffer: &mut Vec<u8>) -> io::Result<Self> {
        let mut names = Self::default();
        buffer.clear();
        buffer.reserve(READ_SIZE);
        let mut folder = RawDir::new(fd, buffer.spare_capacity_mut());
        while let Some(found) = folder.next() {
            let found = found?;
            let name = found.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            names.push(
                name,
                match found.file_type() {
                    FileType::Unknown => None,
                    kind => Some(kind == FileType::Directory),
                },
            )?;
        }
        names.sort();
        Ok(names)
    }

    /// Adds a name; [`Names::sort`] has to follow.
    pub(crate) fn push(&mut self, name: &CStr, is_folder: Option<bool>) -> io::Result<()> {
        let (Ok(offset), Ok(length)) = (u32::try_from(self.bytes.len()), u16::try_from(name.count_bytes())) else {
            return Err(io::Error::other("the names in this folder take more than 4 GiB"));
        };
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
        self.index.push(Name { offset, length, is_folder });
        Ok(())
    }

    /// Sorts by bytes and drops repetitions, which some file systems give while a folder changes.
    pub(crate) fn sort(&mut self) {
        let bytes = &self.bytes;
        self.index.sort_unstable_by(|a, b| slice(bytes, a).cmp(slice(bytes, b)));
        self.index.dedup_by(|a, b| slice(bytes, a) == slice(bytes, b));
    }

    /// Keeps the names for which `keep` says so.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&[u8]) -> bool) {
        let bytes = &self.bytes;
        self.index.retain(|name| keep(slice(bytes, name)));
    }

    pub(crate) fn contains(&self, name: &[u8]) -> bool {
        self.index.binary_search_by(|probe| slice(&self.bytes, probe).cmp(name)).is_ok()
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// The name at `position`.
    pub(crate) fn get(&self, position: usize) -> &CStr {
        let name = self.index[position];
        let start = name.offset as usize;
        CStr::from_bytes_with_nul(&self.bytes[start..=start + usize::from(name.length)]).unwrap_or_default()
    }

    /// Whether the thing at `position` is a folder, where the listing said so.
    pub(crate) fn is_folder(&self, position: usize) -> Option<bool> {
        self.index[position].is_folder
    }
}

fn slice<'a>(bytes: &'a [u8], name: &Name) -> &'a [u8] {
    let start = name.offset as usize;
    &bytes[start..start + usize::from(name.length)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_by_bytes_and_come_once() {
        let mut names = Names::default();
        for name in [c"b", c"a.b", c"\xff", c"a", c"a\n", c"b", c"B"] {
            names.push(name, None).unwrap();
        }
        names.sort();
        let sorted: Vec<_> = (0..names.len()).map(|at| names.get(at)).collect();
        assert_eq!(sorted, [c"B", c"a", c"a\n", c"a.b", c"b", c"\xff"]);
        assert!(names.contains(b"a.b") && !names.contains(b"a."));
        assert_eq!(size_of::<Name>(), 8);
    }
}

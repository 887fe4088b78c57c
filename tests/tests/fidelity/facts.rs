//! All that can be seen of what is below a folder, by system calls only.

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, SeekFrom, Stat};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::Read;

/// By path, whose names are joined by slashes and may be longer than any system call takes.
pub(crate) type Facts = BTreeMap<Vec<u8>, Fact>;

/// Length, ranges that are no holes, and what stands there.
type Content = (u64, Vec<(u64, u64)>, blake3::Hash);

/// What is compared of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    kind: FileType,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, u64),
    device: u64,
    content: Option<Content>,
    target: Vec<u8>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    flags: u32,
    /// All paths of the same thing.
    names: Vec<Vec<u8>>,
}

/// Describes `folder` and everything below it.
pub(crate) fn describe(folder: &std::path::Path) -> Facts {
    let mut facts = Facts::new();
    let mut same: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    let above = rustix::fs::open(folder.parent().unwrap(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    let name = CString::new(folder.file_name().unwrap().as_encoded_bytes()).unwrap();
    let mut todo = vec![(std::sync::Arc::new(above), name, Vec::new())];
    while let Some((above, name, path)) = todo.pop() {
        let stat = rustix::fs::statat(&*above, &name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let open = rustix::fs::openat(&*above, &name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty()).unwrap();
            let open = std::sync::Arc::new(open);
            for entry in Dir::read_from(&*open).unwrap() {
                let entry = entry.unwrap();
                let bytes = entry.file_name().to_bytes();
                if !matches!(bytes, b"." | b"..") {
                    let below = if path.is_empty() { bytes.to_vec() } else { [&path[..], b"/", bytes].concat() };
                    todo.push((open.clone(), entry.file_name().to_owned(), below));
                }
            }
        } else if stat.st_nlink > 1 {
            same.entry(stat.st_ino).or_default().push(path.clone());
        }
        facts.insert(path, look(&above, &name, kind, &stat));
    }
    for mut names in same.into_values() {
        names.sort();
        for name in &names {
            facts.get_mut(name).unwrap().names = names.clone();
        }
    }
    facts
}

fn look(above: &OwnedFd, name: &CString, kind: FileType, stat: &Stat) -> Fact {
    let is_file = kind == FileType::RegularFile;
    let open = (is_file || kind == FileType::Directory)
        .then(|| rustix::fs::openat(above, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NOATIME, Mode::empty()))
        .map(|open| open.unwrap_or_else(|error| panic!("{}: {error}", name.to_bytes().escape_ascii())));
    let content = open.as_ref().filter(|_| is_file).map(|file| content(file, u64::try_from(stat.st_size).unwrap()));
    let target = match kind {
        FileType::Symlink => rustix::fs::readlinkat(above, name, Vec::new()).unwrap().into_bytes(),
        _ => Vec::new(),
    };
    Fact {
        kind,
        mode: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
        modified: (stat.st_mtime, stat.st_mtime_nsec),
        device: stat.st_rdev,
        content,
        target,
        attributes: attributes(above, name),
        // Those that a person sets; the rest tells how the file system stores it.
        flags: open.map_or(0, |open| rustix::fs::ioctl_getflags(&open).map_or(0, |flags| flags.bits() & 0x1_00ff)),
        names: Vec::new(),
    }
}

fn content(file: &OwnedFd, size: u64) -> Content {
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Ok(start) = rustix::fs::seek(file, SeekFrom::Data(at)) {
        at = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap();
        ranges.push((start, at));
    }
    rustix::fs::seek(file, SeekFrom::Start(0)).unwrap();
    let mut bytes = Vec::new();
    std::fs::File::from(file.try_clone().unwrap()).read_to_end(&mut bytes).unwrap();
    (size, ranges, blake3::hash(&bytes))
}

fn attributes(above: &OwnedFd, name: &CString) -> BTreeMap<Vec<u8>, Vec<u8>> {
    // One name behind a descriptor, so that the path stays short.
    let path = [format!("/proc/self/fd/{}/", above.as_raw_fd()).as_bytes(), name.to_bytes()].concat();
    let mut names = vec![0; 65_536];
    let length = rustix::fs::llistxattr(&path[..], names.as_mut_slice()).unwrap_or(0);
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65_536];
        let length = rustix::fs::lgetxattr(&path[..], name, value.as_mut_slice()).unwrap();
        found.insert(name.to_vec(), value[..length].to_vec());
    }
    found
}

/// The folder with everything below it, deepest first: what holds each and its name there.
pub(crate) fn deepest_first(folder: &std::path::Path) -> Vec<(std::sync::Arc<OwnedFd>, CString)> {
    let Ok(cwd) = rustix::fs::openat(CWD, folder.parent().unwrap(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) else {
        return Vec::new();
    };
    let mut found = vec![(std::sync::Arc::new(cwd), CString::new(folder.file_name().unwrap().as_encoded_bytes()).unwrap())];
    let mut next = 0;
    while let Some((above, name)) = found.get(next).cloned() {
        next += 1;
        let Ok(open) = rustix::fs::openat(&*above, &name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW, Mode::empty()) else {
            continue;
        };
        let open = std::sync::Arc::new(open);
        for entry in Dir::read_from(&*open).unwrap().flatten() {
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                found.push((open.clone(), entry.file_name().to_owned()));
            }
        }
    }
    found.reverse();
    found
}

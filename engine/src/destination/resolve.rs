//! From keys to folder descriptors, beneath the target, following no link.
//!
//! A folder is reached from the nearest folder above it that is still open, in pieces that fit one system call.
//! `openat2` refuses links and anything outside by itself; kernels and containers without it get one call for each
//! component, which a link cannot pass either.

use super::descriptors::DescriptorCache;
use super::path;
use super::prepare::allow_owner;
use crate::error::{Error, ErrorKind, Result};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many folders used lately stay open.
const FOLDERS_OPEN_MAX: usize = 256;
/// Bytes of one path given to the kernel, below its limit of 4096 with the zero byte.
const PIECE_BYTES_MAX: usize = 4000;
/// How many folders above are looked for among the open ones; then the way starts at the target. Bounds the hashing of long keys.
const ABOVE_TRIED_MAX: usize = 16;

const FOLDER_FLAGS: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What to do about folders that do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Make them, mode 0700.
    Make,
    /// Fail.
    Fail,
}

/// A name in an open folder. The name is one checked component.
#[derive(Debug)]
pub(super) struct Place<'a> {
    /// The folder, usable for the `*at` calls only.
    pub(super) folder: Arc<OwnedFd>,
    /// The name in it.
    pub(super) name: &'a [u8],
    /// Nothing was in the target when the restore began, and each name comes once.
    is_bare: bool,
}

impl Place<'_> {
    /// Refuses to touch what stands here where everything was made by this restore: it is another entry, or somebody else's.
    pub(super) fn require_old(&self) -> Result<()> {
        let message = "something of this name was made while it was restored: another entry, where the target takes both names for the same \
                       (such as upper and lower case), or something of somebody else's; it was left as it is";
        if self.is_bare { Err(Error::new(ErrorKind::AlreadyExists, message)) } else { Ok(()) }
    }
}

/// Opens folders beneath the target.
#[derive(Debug)]
pub(super) struct Resolver {
    root: Arc<OwnedFd>,
    open: DescriptorCache<OwnedFd>,
    has_openat2: AtomicBool,
    is_bare: bool,
}

impl Resolver {
    /// Everything will be beneath `root`.
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root: Arc::new(root), open: DescriptorCache::new(FOLDERS_OPEN_MAX), has_openat2: AtomicBool::new(true), is_bare: false }
    }

    /// From now on nothing is beneath the root but what is made, each of it once.
    pub(super) fn begin_bare(&mut self) {
        self.is_bare = true;
    }

    /// The target folder, usable for the `*at` calls only.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The target folder as a place: `.` in itself.
    pub(super) fn root_place(&self) -> Place<'static> {
        Place { folder: Arc::clone(&self.root), name: b".", is_bare: false }
    }

    /// Goes component by component from now on, as on a kernel without `openat2`.
    #[cfg(test)]
    pub(super) fn without_openat2(&self) {
        self.has_openat2.store(false, Ordering::Relaxed);
    }

    /// The place of `key`; `None` for the root.
    pub(super) fn place<'a>(&self, key: &'a [u8], missing: Missing) -> Result<Option<Place<'a>>> {
        path::check(key)?;
        let Some((above, name)) = path::split(key) else { return Ok(None) };
        Ok(Some(Place { folder: self.folder(above, missing)?, name, is_bare: self.is_bare }))
    }

    /// As [`Resolver::place`] for what only is looked at: `None` where no folder is above `key`. The root is `.` in itself.
    pub(super) fn existing<'a>(&self, key: &'a [u8]) -> Result<Option<Place<'a>>> {
        path::check(key)?;
        let (above, name) = path::split(key).unwrap_or((&[], b"."));
        match self.find_folder(above, Missing::Fail) {
            Ok(folder) => Ok(Some(Place { folder, name, is_bare: self.is_bare })),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(folder_error(above, e)),
        }
    }

    /// Forgets a folder that is about to be removed.
    pub(super) fn forget(&self, key: &[u8]) {
        self.open.take(key);
    }

    fn folder(&self, key: &[u8], missing: Missing) -> Result<Arc<OwnedFd>> {
        self.find_folder(key, missing).map_err(|e| folder_error(key, e))
    }

    fn find_folder(&self, key: &[u8], missing: Missing) -> rustix::io::Result<Arc<OwnedFd>> {
        if key.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        if let Some(folder) = self.open.get(key) {
            return Ok(folder);
        }
        let (from, rest) = self.nearest_open(key);
        let found = match self.walk(&from, rest) {
            Err(Errno::NOENT) if missing == Missing::Make => make_walk(&from, rest),
            found => found,
        };
        let folder = Arc::new(found?);
        self.open.insert(key, Arc::clone(&folder));
        Ok(folder)
    }

    /// The nearest open folder above `key`, and what of the key is left from there.
    fn nearest_open<'a>(&self, key: &'a [u8]) -> (Arc<OwnedFd>, &'a [u8]) {
        let mut above = key;
        for _ in 0..ABOVE_TRIED_MAX {
            let Some((next, _)) = path::split(above) else { break };
            above = next;
            if above.is_empty() {
                break;
            }
            if let Some(folder) = self.open.get(above) {
                return (folder, &key[above.len() + 1..]);
            }
        }
        (Arc::clone(&self.root), key)
    }

    fn walk(&self, from: &OwnedFd, key: &[u8]) -> rustix::io::Result<OwnedFd> {
        if self.has_openat2.load(Ordering::Relaxed) {
            match walk_pieces(from, key) {
                // Containers answer "not permitted" for system calls that they do not know.
                Err(Errno::NOSYS | Errno::PERM) => self.has_openat2.store(false, Ordering::Relaxed),
                found => return found,
            }
        }
        let mut at = None;
        for name in key.split(|&byte| byte == 0) {
            at = Some(open_component(at.as_ref().unwrap_or(from), name)?);
        }
        at.ok_or(Errno::NOENT)
    }
}

fn walk_pieces(from: &OwnedFd, key: &[u8]) -> rustix::io::Result<OwnedFd> {
    let open = |at: Option<&OwnedFd>, piece: &[u8]| {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(at.unwrap_or(from), piece, FOLDER_FLAGS, Mode::empty(), resolve)
    };
    let mut at = None;
    let mut piece = Vec::with_capacity(key.len().min(PIECE_BYTES_MAX));
    for name in key.split(|&byte| byte == 0) {
        if !piece.is_empty() && piece.len() + 1 + name.len() > PIECE_BYTES_MAX {
            at = Some(open(at.as_ref(), &piece)?);
            piece.clear();
        }
        if !piece.is_empty() {
            piece.push(b'/');
        }
        piece.extend_from_slice(name);
    }
    open(at.as_ref(), &piece)
}

fn make_walk(from: &OwnedFd, key: &[u8]) -> rustix::io::Result<OwnedFd> {
    let mut at = None;
    for name in key.split(|&byte| byte == 0) {
        let above = at.as_ref().unwrap_or(from);
        let next = match open_component(above, name) {
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(above, name, Mode::RWXU) {
                    // Another thread was first.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(e),
                }
                let made = open_component(above, name)?;
                allow_owner(made.as_fd(), 0o700);
                made
            }
            next => next?,
        };
        at = Some(next);
    }
    at.ok_or(Errno::NOENT)
}

fn open_component(above: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(above, name, FOLDER_FLAGS, Mode::empty())
}

fn folder_error(key: &[u8], errno: Errno) -> Error {
    match errno {
        Errno::LOOP | Errno::NOTDIR => Error::new(
            ErrorKind::Unavailable,
            format!("in the way to {} stands something that is no folder; links are not followed", path::shown(key)),
        ),
        _ => Error::io(format!("open folder {}", path::shown(key)), errno.into()),
    }
}

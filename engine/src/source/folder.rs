//! Folders that stay reachable without a path.
//!
//! A [`Folder`] knows its parent and its name in it, and opens itself relative to the nearest ancestor that is still open. An
//! [`OpenFolders`] keeps the number of open descriptors below a limit: the one that was not used for longest is closed (by the clock
//! algorithm) and opened again when needed, with a check that it is still the same folder. So trees may be deeper than the limit on
//! descriptors, and paths longer than the kernel takes.

use super::stat::Facts;
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// Folders kept open by one walk. Small beside the usual limit of 1,024 descriptors of a process.
pub(crate) const OPEN_MAX: usize = 128;

/// The folders of one walk that are open.
#[derive(Debug)]
pub(crate) struct OpenFolders {
    queue: Mutex<VecDeque<Weak<Folder>>>,
    limit: usize,
    /// Whose files may be read without a trace in their access time.
    user: u32,
}

impl OpenFolders {
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), limit, user: rustix::process::geteuid().as_raw() })
    }

    /// Whether `O_NOATIME` is worth trying on what `owner` owns.
    fn may_hide_access(&self, owner: u32) -> bool {
        self.user == 0 || self.user == owner
    }

    /// Counts `folder` as open and closes others where that makes too many.
    fn opened(&self, folder: &Arc<Folder>) {
        let mut queue = self.queue.lock();
        queue.push_back(Arc::downgrade(folder));
        // Bound: every round takes one off the queue or clears one `used`, which is set again only by a folder in use.
        let mut chances = queue.len();
        while queue.len() > self.limit {
            let Some(oldest) = queue.pop_front() else { return };
            let Some(oldest) = oldest.upgrade() else { continue };
            if chances > 0 && oldest.used.swap(false, Ordering::Relaxed) {
                chances -= 1;
                queue.push_back(Arc::downgrade(&oldest));
            } else {
                oldest.state.lock().fd = None;
            }
        }
    }
}

/// Device and inode.
type Identity = (u64, u64);

/// A folder on disk.
#[derive(Debug)]
pub(crate) struct Folder {
    parent: Option<Arc<Folder>>,
    /// The name in `parent`, perhaps with `/.` to follow a symlink; without a parent an absolute path.
    reach: CString,
    hide_access: bool,
    /// What `stat` found, where that was asked.
    found: Option<Identity>,
    state: Mutex<State>,
    used: AtomicBool,
    open: Arc<OpenFolders>,
}

#[derive(Debug, Default)]
struct State {
    fd: Option<Arc<OwnedFd>>,
    /// Device and inode, once it was open.
    identity: Option<Identity>,
}

impl Folder {
    /// The folder at an absolute path. It need not be readable, only searchable.
    pub(crate) fn at(path: CString, open: &Arc<OpenFolders>) -> Arc<Self> {
        Arc::new(Self {
            parent: None,
            reach: path,
            hide_access: false,
            found: None,
            state: Mutex::default(),
            used: AtomicBool::new(true),
            open: open.clone(),
        })
    }

    /// The folder reached as `reach` from this one, of which these facts were found.
    pub(crate) fn below(self: &Arc<Self>, reach: &CStr, facts: &Facts) -> Arc<Self> {
        Arc::new(Self {
            parent: Some(self.clone()),
            reach: reach.to_owned(),
            hide_access: self.open.may_hide_access(facts.uid),
            found: Some((facts.key.device, facts.key.inode)),
            state: Mutex::default(),
            used: AtomicBool::new(true),
            open: self.open.clone(),
        })
    }

    /// An open descriptor; stays open while the caller holds it.
    pub(crate) fn fd(self: &Arc<Self>) -> io::Result<Arc<OwnedFd>> {
        if let Some(fd) = self.fd_if_open() {
            return Ok(fd);
        }
        let mut closed = vec![self];
        let mut fd = None;
        while let Some(parent) = closed.last().and_then(|folder| folder.parent.as_ref()) {
            fd = parent.fd_if_open();
            if fd.is_some() {
                break;
            }
            closed.push(parent);
        }
        for folder in closed.into_iter().rev() {
            fd = Some(folder.open_in(fd.as_deref())?);
        }
        fd.ok_or_else(|| io::Error::other("no folder to open"))
    }

    fn fd_if_open(&self) -> Option<Arc<OwnedFd>> {
        let fd = self.state.lock().fd.clone();
        if fd.is_some() {
            self.used.store(true, Ordering::Relaxed);
        }
        fd
    }

    fn open_in(self: &Arc<Self>, parent: Option<&OwnedFd>) -> io::Result<Arc<OwnedFd>> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match parent {
            None => openat(CWD, &self.reach, flags | OFlags::PATH, Mode::empty())?,
            Some(parent) => {
                let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW;
                let quiet = if self.hide_access { OFlags::NOATIME } else { OFlags::empty() };
                match openat(parent, &self.reach, flags | quiet, Mode::empty()) {
                    Err(Errno::PERM) if self.hide_access => openat(parent, &self.reach, flags, Mode::empty())?,
                    result => result?,
                }
            }
        };
        let key = Facts::new(&fstat(&fd)?).key;
        let opened = (key.device, key.inode);
        // On another device than was found: opening it mounted a file system there.
        let is_found = self.found.is_none_or(|found| found == opened || found.0 != opened.0);
        let fd = Arc::new(fd);
        {
            let mut state = self.state.lock();
            if !is_found || *state.identity.get_or_insert(opened) != opened {
                return Err(io::Error::other("another folder took its place while it was read"));
            }
            state.fd = Some(fd.clone());
        }
        self.open.opened(self);
        Ok(fd)
    }

    /// The device that the folder turned out to be on; `None` before it was opened.
    pub(crate) fn device(&self) -> Option<u64> {
        self.state.lock().identity.map(|(device, _)| device)
    }

    /// The absolute path.
    pub(crate) fn path(&self) -> Vec<u8> {
        let mut names = Vec::new();
        let mut folder = self;
        while let Some(parent) = &folder.parent {
            names.push(folder.reach.to_bytes());
            folder = parent;
        }
        let mut path = folder.reach.to_bytes().to_vec();
        for name in names.into_iter().rev() {
            path = join(&path, name.strip_suffix(b"/.").unwrap_or(name));
        }
        path
    }
}

impl Drop for Folder {
    /// Frees a long chain of ancestors one after the other: the default would recurse as deep as the tree is.
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        while let Some(mut folder) = parent.and_then(Arc::into_inner) {
            parent = folder.parent.take();
        }
    }
}

/// Puts `name` below `path`; `.` and nothing are the folder itself.
pub(crate) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = path.to_vec();
    if !matches!(name, b"" | b".") {
        if joined.last() != Some(&b'/') {
            joined.push(b'/');
        }
        joined.extend_from_slice(name);
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn chain(root: &std::path::Path, limit: usize, depth: usize) -> Vec<Arc<Folder>> {
        let open = OpenFolders::new(limit);
        let mut folders = vec![Folder::at(CString::new(root.as_os_str().as_bytes()).unwrap(), &open)];
        let mut path = root.to_owned();
        for _ in 0..depth {
            path.push("d");
            let facts = Facts::new(&rustix::fs::stat(&path).unwrap());
            folders.push(folders.last().unwrap().below(c"d", &facts));
        }
        folders
    }

    #[test]
    fn a_closed_folder_opens_again_and_few_stay_open() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("d/d/d/d/d/d")).unwrap();
        let folders = chain(root.path(), 2, 6);
        for folder in folders.iter().chain(folders.iter().rev()) {
            folder.fd().unwrap();
            assert!(folders.iter().filter(|folder| folder.state.lock().fd.is_some()).count() <= 2);
        }
        assert_eq!(folders[3].path(), root.path().join("d/d/d").as_os_str().as_bytes());
    }

    #[test]
    fn a_replaced_folder_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("d/d")).unwrap();
        let folders = chain(root.path(), 1, 2);
        folders[2].fd().unwrap();
        std::fs::rename(root.path().join("d/d"), root.path().join("old")).unwrap();
        std::fs::create_dir(root.path().join("d/d")).unwrap();
        folders[1].fd().unwrap();
        assert!(folders[2].fd().unwrap_err().to_string().contains("another folder"));
    }

    #[test]
    fn a_folder_that_is_replaced_before_it_is_opened_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("d")).unwrap();
        let folders = chain(root.path(), 1, 1);
        std::fs::rename(root.path().join("d"), root.path().join("old")).unwrap();
        std::fs::create_dir(root.path().join("d")).unwrap();
        assert!(folders[1].fd().unwrap_err().to_string().contains("another folder"));
    }
}

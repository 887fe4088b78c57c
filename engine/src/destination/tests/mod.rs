//! Everything out, and compared with what the system says.

mod existing;
mod hostile;
mod kinds;
mod metadata;

use super::*;
use crate::entry::Metadata;
use crate::runtime::Timestamp;
use rustix::fs::{Gid, Stat, Uid};
use std::path::PathBuf;

/// A plain user for tests that run as root.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A key from a path with slashes.
fn key(path: &str) -> Key {
    path.bytes().map(|byte| if byte == b'/' { 0 } else { byte }).collect()
}

/// An entry that belongs to us.
fn entry(path: &str, kind: EntryKind) -> Entry {
    let metadata = Metadata {
        mode: if kind == EntryKind::Folder { 0o755 } else { 0o644 },
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        modified: Timestamp { seconds: 1_000_000_007, nanoseconds: 123_456_789 },
        ..Metadata::default()
    };
    Entry { key: key(path), kind, metadata }
}

fn file_entry(path: &str, size: u64, holes: &[(u64, u64)]) -> Entry {
    entry(path, EntryKind::File(FileContent { size, holes: holes.to_vec(), ..FileContent::default() }))
}

fn hard_link(path: &str, earlier: &str) -> Entry {
    entry(path, EntryKind::HardLink(key(earlier)))
}

/// An empty folder that a plain user may write.
fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    if is_root() {
        std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let target = dir.path().join("target");
    (dir, target)
}

/// Runs `work` without any privilege, on a thread of its own where we have some.
fn as_plain_user(work: impl FnOnce() + Send) {
    if !is_root() {
        return work();
    }
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_res_gid(group, group, group).unwrap();
            rustix::thread::set_thread_res_uid(user, user, user).unwrap();
            work();
        });
        worker.join().unwrap();
    });
}

fn stat(path: &Path) -> Stat {
    rustix::fs::lstat(path).unwrap()
}

fn mode(path: &Path) -> u32 {
    stat(path).st_mode & 0o7777
}

/// Prepares and finishes entries given in key order, folders last and deepest first, without problems.
fn restore(folder: &Folder, entries: &[Entry]) {
    prepare_all(folder, entries);
    assert_eq!(finish(folder, entries), []);
}

fn prepare_all(folder: &Folder, entries: &[Entry]) {
    for entry in entries {
        folder.prepare(entry).unwrap();
    }
}

fn finish(folder: &Folder, entries: &[Entry]) -> Vec<ItemProblem> {
    let (folders, others): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| entry.kind == EntryKind::Folder);
    let mut problems = Vec::new();
    for entry in others.into_iter().chain(folders.into_iter().rev()) {
        problems.extend(folder.finish_metadata(entry).unwrap());
    }
    for entry in entries.iter().rev() {
        problems.extend(folder.finish_flags(entry).unwrap());
    }
    problems
}

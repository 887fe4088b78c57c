//! Walks over real folders.

mod excludes;
mod files;
mod kinds;
mod model;
mod order;
mod roots;

use super::{Known, Roots, SourceEntry, SourceOptions, Walk, WalkItem};
use crate::entry::{Entry, EntryKind, Key};
use crate::runtime::{Runtime, Timestamp};
use std::path::{Path, PathBuf};

/// What a walk gave.
#[derive(Debug, Default)]
struct Seen {
    entries: Vec<SourceEntry>,
    failed: Vec<(Vec<u8>, String)>,
}

impl Seen {
    /// The keys but the root's, with slashes; a folder ends in one.
    fn names(&self) -> Vec<String> {
        self.entries.iter().skip(1).map(|entry| shown(&entry.entry)).collect()
    }

    fn get(&self, key: &str) -> &SourceEntry {
        let key: Key = key.bytes().map(|byte| if byte == b'/' { 0 } else { byte }).collect();
        self.entries.iter().find(|entry| entry.entry.key == key).unwrap()
    }
}

fn shown(entry: &Entry) -> String {
    let key: Key = entry.key.iter().map(|byte| if *byte == 0 { b'/' } else { *byte }).collect();
    let end = if entry.kind == EntryKind::Folder { "/" } else { "" };
    format!("{}{end}", key.escape_ascii())
}

fn runtime(threads: usize) -> Runtime {
    Runtime::seeded(0, Timestamp::default(), threads)
}

fn walk_roots(roots: &Roots, options: &SourceOptions, threads: usize) -> Seen {
    finish(Walk::start(roots, options, None, &runtime(threads)).unwrap())
}

/// Takes all of a walk and checks what holds for every one.
fn finish(walk: Walk) -> Seen {
    let mut seen = Seen::default();
    for item in walk {
        match item.unwrap() {
            WalkItem::Entry(entry) => seen.entries.push(entry),
            WalkItem::Failed { path, message } => seen.failed.push((path, message)),
        }
    }
    assert!(seen.entries.windows(2).all(|pair| pair[0].entry.key < pair[1].entry.key), "{:?}", seen.names());
    for entry in &seen.entries {
        assert!(entry.entry.metadata.xattrs.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
    seen
}

/// Walks the content of `root`.
fn walk(root: &Path, options: &SourceOptions) -> Seen {
    walk_roots(&resolve(&[root.join(".")]), options, 2)
}

fn resolve(paths: &[PathBuf]) -> Roots {
    // `join(".")` keeps the dot, which `PathBuf` comparisons would not.
    Roots::resolve(paths).unwrap()
}

/// Makes files (and folders, where the name ends in a slash) with a byte of content.
fn make(root: &Path, names: &[&str]) {
    for name in names {
        let path = root.join(name);
        if name.ends_with('/') {
            std::fs::create_dir_all(path).unwrap();
        } else {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"x").unwrap();
        }
    }
}

/// A temporary folder for large trees: in memory where that can be had, since making them on a disk takes much longer than walking them.
fn quick_folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

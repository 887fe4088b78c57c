//! Which snapshot of a repository with other keys is the copy of which: a local cache. Losing it costs reading, nothing else (I11).
//!
//! Only what this machine copied itself is in it, so that a hint from it is as good as the copy was. What looks alike is never a hint.

use crate::error::Result;
use crate::id::SnapshotId;
use crate::repository::Repository;
use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

/// The copies of one repository's snapshots in another one.
#[derive(Debug, Default)]
pub(super) struct Memo {
    path: Option<PathBuf>,
    copies: HashMap<SnapshotId, SnapshotId>,
}

impl Memo {
    /// Empty where there is none, or where it is not as it was written.
    pub(super) fn load(source: &Repository, target: &Repository) -> Self {
        let path = target.place_cache_folder().map(|folder| folder.join("copies").join(source.id().to_string()));
        let text = path.as_ref().and_then(|path| fs::read_to_string(path).ok());
        let copies = text.and_then(|text| decode(&text)).unwrap_or_default();
        Self { path, copies }
    }

    /// The copy of a snapshot.
    pub(super) fn copy_of(&self, snapshot: &SnapshotId) -> Option<SnapshotId> {
        self.copies.get(snapshot).copied()
    }

    /// Notes a copy. Where that cannot be kept, the next run knows less.
    pub(super) fn note(&mut self, snapshot: SnapshotId, copy: SnapshotId) {
        self.copies.insert(snapshot, copy);
        let _ = self.save();
    }

    fn save(&self) -> std::io::Result<()> {
        let Some((path, folder)) = self.path.as_ref().and_then(|path| Some((path, path.parent()?))) else { return Ok(()) };
        fs::create_dir_all(folder)?;
        let mut lines: Vec<_> = self.copies.iter().map(|(snapshot, copy)| format!("{snapshot} {copy}\n")).collect();
        lines.sort_unstable();
        let text = lines.concat();
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(format!("{}\n{text}", checksum(&text)).as_bytes())?;
        file.persist(path)?;
        Ok(())
    }
}

fn decode(text: &str) -> Option<HashMap<SnapshotId, SnapshotId>> {
    let (sum, lines) = text.split_once('\n')?;
    let pair = |line: &str| -> Result<Option<(SnapshotId, SnapshotId)>> {
        let Some((snapshot, copy)) = line.split_once(' ') else { return Ok(None) };
        Ok(Some((SnapshotId::parse(snapshot)?, SnapshotId::parse(copy)?)))
    };
    if sum != checksum(lines) {
        return None;
    }
    lines.lines().map(|line| pair(line).ok().flatten()).collect()
}

fn checksum(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

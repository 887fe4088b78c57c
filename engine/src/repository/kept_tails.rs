//! Ends of packs that were read from a store that is far away, or written there, kept in the cache folder: whoever looks up a chunk reads the tables of its pack, and a
//! question costs a journey. What is kept is sealed as it is in the store and checked each time as if it came from there; whatever is wrong with it, the store is asked.

use super::objects::ClearTail;
use crate::backend::{ObjectInfo, ObjectName};
use crate::format::Trust;
use crate::format::object::HEADER_LENGTH;
use std::collections::HashSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// While they are written files have names that begin so.
const UNFINISHED_PREFIX: &str = "unfinished-";

/// A folder with a file for each pack: its header, and behind it everything after its frames.
#[derive(Debug)]
pub(crate) struct KeptTails {
    folder: PathBuf,
    written: AtomicU64,
}

impl KeptTails {
    /// In this folder, which is made once something is kept.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, written: AtomicU64::new(0) }
    }

    fn path(&self, name: &ObjectName) -> PathBuf {
        self.folder.join(file_name(name))
    }

    /// What was kept of a pack of `size` bytes, if it can be that.
    pub(crate) fn get(&self, trust: &Trust, name: &ObjectName, size: u64) -> Option<ClearTail> {
        let bytes = fs::read(self.path(name)).ok()?;
        let (header, tail) = bytes.split_at_checked(HEADER_LENGTH)?;
        ClearTail::from_parts(trust, name, size, header, tail.to_vec()).ok()
    }

    /// Keeps the end of a pack. Where that fails it is read again.
    pub(crate) fn put(&self, name: &ObjectName, tail: &ClearTail) {
        let _ = self.write(name, tail);
    }

    fn write(&self, name: &ObjectName, tail: &ClearTail) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.folder.join(format!("{UNFINISHED_PREFIX}{}-{number}", std::process::id()));
        let written = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished).and_then(|mut file| {
            file.write_all(&tail.header.encode())?;
            file.write_all(&tail.bytes)
        });
        let kept = written.and_then(|()| fs::rename(&unfinished, self.path(name)));
        if kept.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        kept
    }

    /// Removes what is kept of packs that are not listed any more, and what nobody finished.
    pub(crate) fn keep_only(&self, listed: &[ObjectInfo]) {
        let listed: HashSet<_> = listed.iter().map(|object| file_name(&object.name)).collect();
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| !listed.contains(name)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn file_name(name: &ObjectName) -> String {
    name.to_string().replace('/', "-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{BackendExt, MemoryBackend, ObjectKind};
    use crate::repository::tests::{back_up, repository};

    #[test]
    fn what_was_kept_is_taken_only_if_it_can_be_right() {
        let backend = MemoryBackend::new();
        let repository = repository(&backend);
        back_up(&repository, &[1; 5000]);
        back_up(&repository, &[2; 5000]);
        let packs = backend.list_sorted(ObjectKind::DataPack).unwrap();
        let trust = &repository.trust;
        let read = |object: &ObjectInfo| ClearTail::read(&backend, trust, &object.name, object.size).unwrap();
        let place = tempfile::tempdir().unwrap();
        let kept = KeptTails::new(place.path().join("tails"));
        assert!(kept.get(trust, &packs[0].name, packs[0].size).is_none());
        packs.iter().for_each(|object| kept.put(&object.name, &read(object)));
        for object in &packs {
            let got = kept.get(trust, &object.name, object.size).unwrap();
            assert_eq!((got.header, &got.bytes), (read(object).header, &read(object).bytes));
            got.check(trust).unwrap();
            assert!(kept.get(trust, &object.name, object.size + 1).is_none(), "of another size");
        }
        let path = kept.path(&packs[0].name);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(kept.get(trust, &packs[0].name, packs[0].size).is_none(), "{length}");
        }
        fs::copy(kept.path(&packs[1].name), &path).unwrap();
        assert!(kept.get(trust, &packs[0].name, packs[0].size).is_none_or(|got| got.check(trust).is_err()), "that of another pack");
        fs::write(place.path().join("tails/unfinished-1-1"), "half").unwrap();
        kept.keep_only(&packs[1..]);
        let left: Vec<_> = fs::read_dir(place.path().join("tails")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, [kept.path(&packs[1].name)]);
    }
}

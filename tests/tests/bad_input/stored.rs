//! A small repository in memory, what it holds, and what comes out of it.

use icecore::backend::{Backend, BackendExt, MemoryBackend, ObjectKind, ObjectName};
use icecore::backup::BackupOptions;
use icecore::crypto::Secret;
use icecore::format::config::CutMethod;
use icecore::id::SnapshotId;
use icecore::progress::{Event, Progress, Silent};
use icecore::repository::{CreateOptions, Key, Repository, Settings};
use icecore::runtime::{Runtime, Timestamp};
use icecore::source::{Roots, SourceOptions};
use icecore_tests::folders::{Facts, describe_portable, fill_small, noise};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanoseconds: 0 };
pub(crate) const STREAM: &str = "dump.sql";

/// Numbers that depend on a seed only (SplitMix64).
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) % end.max(1) as u64) as usize
    }
}

pub(crate) fn key() -> Key {
    Key::KeyFile(Secret::new([5; 32]))
}

/// Opens what is in `backend`.
pub(crate) fn open(backend: &MemoryBackend) -> icecore::Result<Repository> {
    Repository::open(Arc::new(backend.clone()), Runtime::seeded(2, NOW, 1), &key(), Settings::default())
}

/// A repository with two snapshots of a folder, and one of a stream between them.
pub(crate) struct Stored {
    pub(crate) objects: BTreeMap<ObjectName, Vec<u8>>,
    /// The snapshots in the order in which they were made, and what restoring each gives.
    pub(crate) snapshots: Vec<(SnapshotId, Facts)>,
}

impl Stored {
    pub(crate) fn new() -> Self {
        let backend = MemoryBackend::new();
        let mut options = CreateOptions::default();
        options.pack_size = 64 << 10;
        options.data_frame_size = 16 << 10;
        options.meta_frame_size = 4 << 10;
        options.cut = CutMethod::Content { min: 512, average: 1024, max: 4096 };
        let runtime = Runtime::seeded(1, NOW, 1);
        let repository = Repository::create(Arc::new(backend.clone()), runtime, &key(), &options, Settings::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut snapshots = Vec::new();
        for state in [0, 1] {
            fill_small(folder.path(), state);
            if state == 1 {
                let stream = noise(77, 90_000);
                let place = tempfile::tempdir().unwrap();
                std::fs::write(place.path().join(STREAM), &stream).unwrap();
                let made = repository.backup_stream(STREAM, Box::new(std::io::Cursor::new(stream)), &BackupOptions::new("s"), &Silent);
                snapshots.push((made.unwrap().snapshot.unwrap(), content_of(place.path())));
            }
            let roots = Roots::resolve(&[folder.path().join(".")]).unwrap();
            let made = repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("f"), &Silent).unwrap();
            snapshots.push((made.snapshot.unwrap(), content_of(folder.path())));
            if state == 0 {
                // Filled anew, since links are made that must not be there.
                std::fs::read_dir(folder.path()).unwrap().for_each(|entry| {
                    let path = entry.unwrap().path();
                    if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
                });
            }
        }
        let objects = objects(&backend);
        Self { objects, snapshots }
    }

    pub(crate) fn backend(&self) -> MemoryBackend {
        let backend = MemoryBackend::new();
        self.objects.iter().for_each(|(name, bytes)| backend.put(name, bytes).unwrap());
        backend
    }
}

/// All objects that a backend holds.
pub(crate) fn objects(backend: &dyn Backend) -> BTreeMap<ObjectName, Vec<u8>> {
    let names = ObjectKind::ALL.into_iter().flat_map(|kind| backend.list_sorted(kind).unwrap());
    names.map(|object| (object.name, backend.get(&object.name, u64::MAX).unwrap())).collect()
}

/// A folder to restore into. In memory where that is possible: every restore waits for the file system to write everything out.
pub(crate) fn target() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Kind, content and target of everything below a folder; nothing of the folder itself.
pub(crate) fn content_of(folder: &Path) -> Facts {
    describe_portable(folder).into_iter().filter(|(name, _)| !name.is_empty()).collect()
}

/// Keeps what failed.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<Vec<(String, String)>>);

impl Told {
    /// Items and why they failed.
    pub(crate) fn items(self) -> Vec<(String, String)> {
        self.0.into_inner().unwrap()
    }
}

impl Progress for Told {
    fn event(&self, event: Event<'_>) {
        if let Event::ItemFailed { item, message } = event {
            self.0.lock().unwrap().push((item.to_owned(), message.to_owned()));
        }
    }
}

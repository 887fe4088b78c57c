//! Backups into memory: what is stored, and what is stored again.

mod changing;
mod delta;
mod earlier;
mod guided;

use super::*;
use crate::backend::{BackendExt, MemoryBackend, ObjectKind};
use crate::crypto::PassphraseCost;
use crate::progress::Silent;
use crate::repository::{CreateOptions, Key, Settings, SnapshotState};
use crate::runtime::{Executor, Runtime};
use std::sync::Arc;

/// Later than any file here was changed: what has just been changed is not believed to be unchanged.
const NOW: Timestamp = Timestamp { seconds: 4_102_444_800, nanoseconds: 0 };

/// Bytes that depend on `seed` and do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// What two threads need with these options, so that no more than two batches and two frames are under way.
const MEMORY_LEAST: u64 = 48 << 20;

fn options() -> CreateOptions {
    CreateOptions {
        pack_size: 512 << 10,
        data_frame_size: 128 << 10,
        meta_frame_size: 16 << 10,
        passphrase_cost: PassphraseCost::TEST,
        ..CreateOptions::default()
    }
}

fn repository(backend: &MemoryBackend, threads: usize) -> Repository {
    let key = Key::passphrase("correct horse").unwrap();
    Repository::create(Arc::new(backend.clone()), Runtime::seeded(7, NOW, threads), &key, &options(), Settings::default()).unwrap()
}

fn tree() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..300_u64 {
        let path = folder.path().join(format!("d{}/f{n}", n % 7));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, noise(n, 1 + (n as usize * 37) % 9000)).unwrap();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000 + n)).unwrap();
    }
    std::fs::write(folder.path().join("large"), noise(1000, 7 << 20)).unwrap();
    folder
}

fn backup(repository: &Repository, folder: &std::path::Path) -> BackupSummary {
    let roots = Roots::resolve(&[folder.join(".")]).unwrap();
    repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("tests"), &Silent).unwrap()
}

#[test]
fn the_same_inputs_and_seed_store_the_same_bytes_whatever_the_threads_and_the_memory() {
    let folder = tree();
    let mut stored: Vec<Vec<(String, Vec<u8>)>> = Vec::new();
    for (threads, memory) in [(1, None), (2, None), (8, None), (2, Some(MEMORY_LEAST))] {
        let backend = MemoryBackend::new();
        let repository = repository(&backend, threads);
        let roots = Roots::resolve(&[folder.path().join(".")]).unwrap();
        let options = BackupOptions { memory, delta: false, ..BackupOptions::new("tests") };
        repository.backup(&roots, &SourceOptions::default(), &options, &Silent).unwrap();
        let mut objects = Vec::new();
        for kind in ObjectKind::ALL {
            for object in backend.list_sorted(kind).unwrap() {
                objects.push((object.name.to_string(), backend.get(&object.name, u64::MAX).unwrap()));
            }
        }
        stored.push(objects);
    }
    let packs = stored[0].iter().filter(|(name, _)| name.starts_with("packs/")).count();
    assert!(packs > 8, "{packs} packs are too few to show anything");
    let names = |objects: &[(String, Vec<u8>)]| objects.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    for other in &stored[1..] {
        assert_eq!(names(&stored[0]), names(other));
        assert!(stored[0] == *other, "the names agree, the bytes do not");
    }
}

#[test]
fn nothing_is_written_that_nobody_could_read() {
    let backend = MemoryBackend::new();
    let repository = repository(&backend, 1);
    let store = |tags: usize| {
        let tags = (0..tags).map(|n| format!("{n:04096}")).collect();
        let options = BackupOptions { tags, delta: false, ..BackupOptions::new("tests") };
        repository.backup_stream("stream", Box::new(std::io::empty()), &options, &Silent)
    };
    let error = store(65).unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("262144 bytes in all")), (ErrorKind::Invalid, true), "{error}");
    assert!(backend.list_sorted(ObjectKind::Session).unwrap().is_empty());
    store(64).unwrap();
    repository.snapshots().unwrap();
    let closed = crate::backend::ObjectName::closed(crate::id::SessionId([1; 16]));
    assert_eq!(repository.write_sealed(closed, vec![0; 1 << 20]).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(backend.list_sorted(ObjectKind::Closed).unwrap().len(), 1);
}

#[test]
fn a_stream_gets_through_with_the_least_memory_and_with_less_there_is_no_session() {
    let backend = MemoryBackend::new();
    let repository = repository(&backend, 2);
    let store = |memory| {
        let options = BackupOptions { memory: Some(memory), delta: false, ..BackupOptions::new("tests") };
        repository.backup_stream("stream", Box::new(std::io::Cursor::new(noise(1, 20 << 20))), &options, &Silent)
    };
    assert_eq!(store(MEMORY_LEAST - (2 << 20)).unwrap_err().kind(), ErrorKind::Invalid);
    assert!(backend.list_sorted(ObjectKind::Session).unwrap().is_empty());
    assert_eq!(store(MEMORY_LEAST).unwrap().bytes_unique, 20 << 20);
}

/// Threads, but for one that is not to be had, or that is gone without a word as one that panicked.
#[derive(Debug)]
struct Lacking {
    inner: Arc<dyn Executor>,
    name: &'static str,
    says_so: bool,
}

impl Executor for Lacking {
    fn threads(&self) -> usize {
        self.inner.threads()
    }

    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> Result<()> {
        match name == self.name {
            false => self.inner.spawn(name, work),
            true if self.says_so => Err(Error::new(ErrorKind::Unavailable, "no thread is to be had")),
            true => Ok(()),
        }
    }
}

#[test]
fn a_backup_that_lacks_a_thread_ends_and_makes_no_snapshot() {
    let folder = tree();
    for (name, says_so) in [("icecore-pack", true), ("icecore-pack", false), ("icecore-packer", false), ("icecore-walk", false)] {
        let backend = MemoryBackend::new();
        let mut runtime = Runtime::seeded(7, NOW, 2);
        runtime.executor = Arc::new(Lacking { inner: runtime.executor, name, says_so });
        let key = Key::passphrase("correct horse").unwrap();
        let repository = Repository::create(Arc::new(backend.clone()), runtime, &key, &options(), Settings::default()).unwrap();
        let roots = Roots::resolve(&[folder.path().join(".")]).unwrap();
        let error = repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("tests"), &Silent).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Internal), "{name}: {error}");
        assert!(backend.list_sorted(ObjectKind::Snapshot).unwrap().is_empty(), "{name}");
    }
}

#[test]
fn a_second_backup_stores_next_to_nothing_and_the_snapshots_follow_one_another() {
    let folder = tree();
    let backend = MemoryBackend::new();
    let repository = repository(&backend, 2);
    let first = backup(&repository, folder.path());
    assert!(first.bytes_unique > 7 << 20 && first.files_new == 301 && first.files_failed == 0, "{first:?}");
    let second = backup(&repository, folder.path());
    assert_eq!(second.bytes_unique, 0);
    assert!(second.bytes_stored < 16 << 10, "{second:?}");

    let snapshots = repository.snapshots().unwrap();
    assert_eq!(snapshots.iter().map(|snapshot| Some(snapshot.id)).collect::<Vec<_>>(), [first.snapshot, second.snapshot]);
    assert_eq!(snapshots[1].header.previous, first.snapshot);
    assert_eq!(snapshots[1].header.sequence, 2);
    assert!(snapshots.iter().all(|snapshot| snapshot.state == SnapshotState::Closed && snapshot.body.whole));
    assert_eq!(snapshots[0].body.tree_root, snapshots[1].body.tree_root);
    assert_eq!(snapshots[0].header.file_bytes, first.bytes_total);
}

#[test]
fn a_wrong_passphrase_opens_nothing() {
    let backend = MemoryBackend::new();
    repository(&backend, 1);
    let open = |key: &Key| Repository::open(Arc::new(backend.clone()), Runtime::system(1), key, Settings::default());
    assert_eq!(open(&Key::passphrase("wrong").unwrap()).unwrap_err().kind(), ErrorKind::Unauthorized);
    assert_eq!(open(&Key::generate(&Runtime::system(1))).unwrap_err().kind(), ErrorKind::Unauthorized);
    open(&Key::passphrase("correct horse").unwrap()).unwrap();
}

#[test]
fn files_are_counted_as_new_changed_or_unmodified_with_a_cache_and_without() {
    let folder = tree();
    let cache = tempfile::tempdir().unwrap();
    // With a cache; every file is younger than the still clock's second backup, so none is racy. Then without one, by the last tree.
    for settings in [Settings::default().with_cache(cache.path()), Settings::default()] {
        let backend = MemoryBackend::new();
        let key = Key::passphrase("correct horse").unwrap();
        let runtime = Runtime::seeded(7, NOW, 2);
        let repository = Repository::create(Arc::new(backend), runtime, &key, &options(), settings).unwrap();
        let counts = |summary: &BackupSummary| [summary.files_new, summary.files_changed, summary.files_unmodified];
        assert_eq!(counts(&backup(&repository, folder.path())), [301, 0, 0]);
        assert_eq!(counts(&backup(&repository, folder.path())), [0, 0, 301]);
        std::fs::write(folder.path().join("d1/f1"), "changed").unwrap();
        std::fs::write(folder.path().join("d1/new"), "new").unwrap();
        assert_eq!(counts(&backup(&repository, folder.path())), [1, 1, 300]);
        std::fs::remove_file(folder.path().join("d1/new")).unwrap();
        assert_eq!(counts(&backup(&repository, folder.path())), [0, 0, 301]);
    }
}

#[test]
fn a_cancelled_backup_closes_its_session_and_the_next_one_finds_what_was_stored() {
    /// Stops after so many batches.
    #[derive(Debug)]
    struct StopAfter(std::sync::atomic::AtomicI64);
    impl Progress for StopAfter {
        fn event(&self, _: Event<'_>) {}
        fn is_cancelled(&self) -> bool {
            self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) <= 0
        }
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("large"), noise(1, 40 << 20)).unwrap();
    let backend = MemoryBackend::new();
    let repository = repository(&backend, 2);
    let roots = Roots::resolve(&[folder.path().join(".")]).unwrap();
    let stop = StopAfter(11.into());
    let error = repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("tests"), &stop).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(repository.snapshots().unwrap().is_empty());
    assert_eq!(backend.list_sorted(ObjectKind::Session).unwrap().len(), backend.list_sorted(ObjectKind::Closed).unwrap().len());
    let stored: u64 = backend.list_sorted(ObjectKind::DataPack).unwrap().iter().map(|object| object.size).sum();
    assert!(stored > 12 << 20, "{stored}");
    let summary = backup(&repository, folder.path());
    let again = summary.bytes_unique + stored;
    assert!(again < (40 << 20) + (1 << 20), "{stored} bytes were stored, {} were stored again", again - (40 << 20));
}

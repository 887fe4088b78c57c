//! Packs that cannot be read, or only through their sidecars.

use super::*;
use crate::backend::testing::HookedBackend;
use crate::gc::GcOptions;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A store in which these objects cannot be read from these bytes on.
fn spoiled(inner: &MemoryBackend, bad: Vec<(ObjectName, u64)>) -> Arc<dyn Backend> {
    Arc::new(HookedBackend::new(Arc::new(inner.clone()), move |call| {
        let is_bad = |(name, from): &(ObjectName, u64)| call.name == Some(*name) && call.range.end > *from;
        match call.operation == Operation::GetRange && !call.is_done && bad.iter().any(is_bad) {
            true => Err(Error::new(ErrorKind::Unavailable, "the medium is bad here")),
            false => Ok(()),
        }
    }))
}

/// A tree in packs of 1 to 2 MiB, with their names and sizes.
struct Stored {
    source: tempfile::TempDir,
    backend: MemoryBackend,
    packs: Vec<(ObjectName, u64)>,
    clients: AtomicU64,
}

impl Stored {
    fn new(parity_percent: u8) -> Self {
        let source = tempfile::tempdir().unwrap();
        for n in 0..60_u64 {
            write(&source.path().join(format!("d{}/f{n:02}", n % 3)), &noise(n, 30_000), n);
        }
        write(&source.path().join("large"), &noise(100, 3 << 20), 7);
        let backend = MemoryBackend::new();
        let options = CreateOptions {
            pack_size: 1 << 20,
            data_frame_size: 128 << 10,
            meta_frame_size: 16 << 10,
            passphrase_cost: PassphraseCost::TEST,
            parity_percent,
            ..CreateOptions::default()
        };
        let key = RepositoryKey::passphrase("correct horse").unwrap();
        let made = Repository::create(Arc::new(backend.clone()), Runtime::seeded(7, NOW, 2), &key, &options, Settings::default()).unwrap();
        assert_eq!(backup_at(&made, source.path(), NOW.seconds).files_failed, 0);
        let packs = made.list_packs().unwrap().into_iter().map(|pack| (pack.name, pack.size)).collect();
        Self { source, backend, packs, clients: AtomicU64::default() }
    }

    /// Another client, without caches.
    fn open(&self, backend: Arc<dyn Backend>) -> Repository {
        let key = RepositoryKey::passphrase("correct horse").unwrap();
        let seed = 100 + self.clients.fetch_add(1, Ordering::Relaxed);
        Repository::open(backend, Runtime::seeded(seed, NOW, 2), &key, Settings::default()).unwrap()
    }

    /// All of it comes back, with a notice that names `damaged`.
    fn comes_back(&self, what: &str, backend: Arc<dyn Backend>, damaged: &ObjectName) {
        let repository = self.open(backend);
        let snapshot = repository.snapshots().unwrap().remove(0);
        let (_folder, target) = target();
        let listener = Listener::default();
        let summary = repository.restore(&snapshot, &target, &RestoreOptions::default(), &listener).unwrap();
        assert_eq!((summary.items_failed, summary.damaged), (0, false), "{what}: {:?}", listener.failed.lock());
        assert!(look(&target) == look(self.source.path()), "{what}");
        let notices = listener.notices.lock();
        assert!(notices.iter().any(|notice| notice.contains(&damaged.to_string()) && notice.contains("sidecar")), "{what}: {notices:?}");
        let mut out = Vec::new();
        repository.restore_to_writer(&snapshot, Some(b"large"), &mut out, &Silent).unwrap();
        assert!(out == noise(100, 3 << 20), "{what}");
        repository.restore_to_tar(&snapshot, None, &mut Vec::new(), &Silent).unwrap();
    }
}

#[test]
fn a_pack_that_cannot_be_read_costs_only_what_was_in_it() {
    let stored = Stored::new(0);
    let whole = stored.open(Arc::new(stored.backend.clone()));
    let snapshot = whole.snapshots().unwrap().remove(0);
    let mut suffered = 0;
    for (name, size) in stored.packs.iter().filter(|(name, _)| name.kind() == ObjectKind::DataPack) {
        let tail = whole.read_pack_tail(name, *size).unwrap();
        let chunks: Vec<_> = tail.tables.contents.frames.iter().flat_map(|frame| frame.chunks.clone()).collect();
        let expected = files_of(&whole, &snapshot, &chunks);
        // All of it; and all but its end, which says what is in it.
        for from in [0, 64] {
            let end = size - 300;
            let backend = spoiled(&stored.backend, vec![(*name, from)]);
            let middle: Arc<dyn Backend> = Arc::new(HookedBackend::new(Arc::new(stored.backend.clone()), {
                let name = *name;
                move |call| match call.name == Some(name) && !call.is_done && (64..end - (160 << 10)).contains(&call.range.start) {
                    true => Err(Error::new(ErrorKind::Unavailable, "the medium is bad here")),
                    false => Ok(()),
                }
            }));
            let repository = stored.open(if from == 0 { backend } else { middle });
            for limits in [Limits::DEFAULT, TINY] {
                let (_folder, target) = target();
                let listener = Listener::default();
                let summary = repository.restore_within(&snapshot, &target, &RestoreOptions::default(), &listener, limits).unwrap();
                let failed = listener.failed();
                assert!(summary.damaged && summary.items_failed == failed.len() as u64, "{summary:?}");
                assert!(failed.iter().all(|path| expected.contains(path)), "{failed:?} are not of {expected:?}");
                assert!(from != 0 || failed == expected, "{failed:?} are not {expected:?}");
                let mut found = look(&target);
                let mut wanted = look(stored.source.path());
                failed.iter().for_each(|path| assert!(!target.join(path).exists(), "{path} is left"));
                wanted.retain(|path, _| !failed.iter().any(|failed| Path::new(failed) == path));
                found.retain(|path, _| wanted.contains_key(path));
                assert_eq!(found, wanted);
                suffered += failed.len();
            }
        }
    }
    assert!(suffered > 61, "{suffered}");
}

#[test]
fn a_small_object_that_cannot_be_read_ends_no_restore() {
    let stored = Stored::new(0);
    let whole = stored.open(Arc::new(stored.backend.clone()));
    let first = whole.snapshots().unwrap().remove(0);
    let backup = |seed: u64| {
        write(&stored.source.path().join("new"), &noise(seed, 90_000), 1);
        backup_at(&whole, stored.source.path(), NOW.seconds + seed as i64).snapshot.unwrap()
    };
    let forgotten = [500, 501].map(backup);
    std::fs::remove_file(stored.source.path().join("new")).unwrap();
    for snapshot in forgotten {
        whole.forget(&[snapshot], &Silent).unwrap();
        // Of the last one the marker stays.
        if snapshot == forgotten[0] {
            whole.gc(&GcOptions::default(), &Silent).unwrap();
        }
    }
    backup_at(&whole, stored.source.path(), NOW.seconds + 502);
    whole.hold(&[first.id], "evidence").unwrap();
    let kinds = [ObjectKind::Closed, ObjectKind::Epoch, ObjectKind::Hold, ObjectKind::Session, ObjectKind::Snapshot, ObjectKind::Withdrawn];
    for kind in kinds {
        let names = whole.backend.list_sorted(kind).unwrap();
        assert!(!names.is_empty(), "{kind:?}");
        for name in names.into_iter().map(|object| object.name).filter(|name| *name != ObjectName::snapshot(first.id)).take(4) {
            let repository = stored.open(spoiled(&stored.backend, vec![(name, 0)]));
            let snapshot = repository.find_snapshot(&first.id.to_string(), None, None).unwrap();
            let (_folder, target) = target();
            let listener = Listener::default();
            let summary = repository.restore(&snapshot, &target, &RestoreOptions::default(), &listener).unwrap();
            assert_eq!((summary.items_failed, summary.damaged), (0, false), "{name}");
            // Which one is the newest cannot be told, and nothing is collected.
            if !matches!(kind, ObjectKind::Epoch | ObjectKind::Session) {
                assert!(listener.notices.lock().iter().any(|notice| notice.contains(&name.to_string())), "{name}");
                assert_eq!(repository.find_snapshot("latest", None, None).unwrap_err().kind(), ErrorKind::Damaged, "{name}");
            }
            if kind != ObjectKind::Session {
                assert_eq!(repository.gc(&GcOptions::default(), &Silent).unwrap_err().kind(), ErrorKind::Unavailable, "{name}");
            }
        }
    }
}

#[test]
fn a_store_that_does_not_answer_any_more_ends_the_restore() {
    let stored = Stored::new(0);
    let snapshot = stored.open(Arc::new(stored.backend.clone())).snapshots().unwrap().remove(0);
    let mut ended = 0;
    for nth in (10..100).step_by(15) {
        let reads = AtomicU64::new(0);
        let is_dying = Arc::new(AtomicBool::new(false));
        let dying: Arc<dyn Backend> = Arc::new(HookedBackend::new(Arc::new(stored.backend.clone()), {
            let is_dying = Arc::clone(&is_dying);
            move |call| {
                let reading = u64::from(is_dying.load(Ordering::Relaxed) && call.operation == Operation::GetRange);
                match reads.fetch_add(reading, Ordering::Relaxed) >= nth {
                    true => Err(Error::new(ErrorKind::Unavailable, "the store is gone")),
                    false => Ok(()),
                }
            }
        }));
        let repository = stored.open(dying);
        is_dying.store(true, Ordering::Relaxed);
        let (_folder, target) = target();
        let listener = Listener::default();
        match repository.restore(&snapshot, &target, &RestoreOptions::default(), &listener) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                ended += 1;
            }
            Ok(summary) => assert_eq!(summary.items_failed, 0),
        }
        assert!(listener.failed().is_empty(), "{:?}", listener.failed());
    }
    assert!(ended >= 3, "{ended}");
}

#[test]
fn what_a_sidecar_heals_is_restored_before_it_is_healed() {
    let stored = Stored::new(3);
    let mut coded = 0;
    for (number, (name, size)) in stored.packs.iter().enumerate() {
        let bytes = stored.backend.get(name, u64::MAX).unwrap();
        coded += usize::from(*size >= 1 << 20);
        let mut seed = 50 + number as u64;
        let mut flipped = bytes.clone();
        for at in [random(&mut seed, *size), size - 400] {
            flipped[at as usize] ^= 1;
        }
        for (what, changed) in [("flipped", flipped), ("cut off", bytes[..bytes.len() - 700].to_vec())] {
            stored.backend.delete(name).unwrap();
            stored.backend.put(name, &changed).unwrap();
            stored.comes_back(&format!("{name} {what}"), Arc::new(stored.backend.clone()), name);
            assert!(stored.backend.get(name, u64::MAX).unwrap() == changed, "nothing is written");
        }
        stored.backend.delete(name).unwrap();
        stored.backend.put(name, &bytes).unwrap();
        // The last bytes cannot be read, and of what has a copy nothing.
        let from = if *size >= 1 << 20 { size - 5000 } else { 0 };
        stored.comes_back(&format!("{name} unreadable"), spoiled(&stored.backend, vec![(*name, from)]), name);
    }
    assert!(coded >= 3 && coded < stored.packs.len() - 2, "{coded}");
}

#[test]
fn what_no_sidecar_heals_is_named_and_the_rest_is_restored() {
    let stored = Stored::new(3);
    let (name, size) = *stored.packs.iter().find(|(_, size)| *size >= 1 << 20).unwrap();
    let mut bytes = stored.backend.get(&name, u64::MAX).unwrap();
    let middle = bytes.len() / 2;
    bytes[64..middle].fill(0x55);
    stored.backend.delete(&name).unwrap();
    stored.backend.put(&name, &bytes).unwrap();
    let repository = stored.open(Arc::new(stored.backend.clone()));
    let snapshot = repository.snapshots().unwrap().remove(0);
    let tail = repository.read_pack_tail(&name, size).unwrap();
    let mut at = 64;
    let lost = tail.tables.contents.frames.iter().filter(|frame| {
        at += frame.sealed_length as usize;
        at - (frame.sealed_length as usize) < middle
    });
    let chunks: Vec<_> = lost.flat_map(|frame| frame.chunks.clone()).collect();
    let (_folder, target) = target();
    let listener = Listener::default();
    let summary = repository.restore(&snapshot, &target, &RestoreOptions::default(), &listener).unwrap();
    assert!(summary.damaged && !listener.failed().is_empty());
    assert_eq!(listener.failed(), files_of(&repository, &snapshot, &chunks));
}

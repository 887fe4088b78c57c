//! However many threads there are, the same comes back and the same is said.

use super::*;
use crate::backend::testing::HookedBackend;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

const THREADS: [usize; 3] = [1, 2, 8];

/// The same repository with so many threads each.
fn with_threads(backend: &Arc<dyn Backend>) -> [(usize, Repository); 3] {
    THREADS.map(|threads| {
        let key = RepositoryKey::passphrase("correct horse").unwrap();
        let runtime = Runtime::seeded(8 + threads as u64, NOW, threads);
        (threads, Repository::open(Arc::clone(backend), runtime, &key, Settings::default()).unwrap())
    })
}

/// Numbers that depend on the snapshot and the target alone.
fn numbers(of: &RestoreSummary) -> [u64; 8] {
    let RestoreSummary { entries, files, items_failed, bytes_total, bytes_written, bytes_unchanged, frames_decoded, packs_read, .. } = *of;
    [entries, files, items_failed, bytes_total, bytes_written, bytes_unchanged, frames_decoded, packs_read]
}

/// Windows of a single entry, and larger ones.
const LIMITS: [Limits; 2] = [TINY, Limits { entries_max: 300, bytes_max: 300_000, read_bytes_max: 100_000, keeps_bases: true }];

/// Files whose other names come at once, in another folder, and last of all; names of pipes and of links as well.
fn linked_tree() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for n in 0..120_u64 {
        let first = root.join(format!("d{}/f{n:03}", n % 7));
        let length = [10, 3_000, 90_000, 400_000][n as usize % 4];
        write(&first, &noise(n, length), n);
        let other = [format!("d{}/f{n:03}-again", n % 7), format!("e{}/f{n:03}", n % 3), format!("zz/f{n:03}")];
        for name in other.iter().take(n as usize % 4) {
            std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            std::fs::hard_link(&first, root.join(name)).unwrap();
        }
    }
    symlink("f000", root.join("d0/link")).unwrap();
    std::fs::hard_link(root.join("d0/link"), root.join("zz/link")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("d0/pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    std::fs::hard_link(root.join("d0/pipe"), root.join("zz/pipe")).unwrap();
    folder
}

#[test]
fn the_same_comes_back_with_any_number_of_threads() {
    for source in [random_tree(21), linked_tree()] {
        let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        let snapshot = backed_up(&create(Arc::clone(&backend)), source.path());
        let repositories = with_threads(&backend);
        for limits in LIMITS {
            let mut said = BTreeSet::new();
            for (threads, repository) in &repositories {
                let (_folder, target) = target();
                let listener = Listener::default();
                let summary = repository.restore_within(&snapshot, &target, &RestoreOptions::default(), &listener, limits).unwrap();
                assert_eq!(look(&target), look(source.path()), "{threads} threads, {limits:?}");
                assert_eq!(listener.failed(), [""; 0]);
                // A second time onto what is there.
                let again = repository.restore_within(&snapshot, &target, &RestoreOptions::default(), &listener, limits).unwrap();
                assert_eq!(look(&target), look(source.path()), "again, {threads} threads, {limits:?}");
                said.insert((numbers(&summary), again.entries, again.bytes_written + again.bytes_unchanged));
            }
            assert_eq!(said.len(), 1, "{said:?}");
        }
    }
}

#[test]
fn the_same_items_fail_with_any_number_of_threads() {
    let source = linked_tree();
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let snapshot = backed_up(&create(Arc::clone(&backend)), source.path());
    let repositories = with_threads(&backend);
    for limits in LIMITS {
        let mut said = BTreeSet::new();
        for (threads, repository) in &repositories {
            let (_folder, target) = target();
            // Small and large files, one of each with other names; a folder with a file in its way; a link.
            for name in ["d0/f000", "d1/f001", "d2/f002", "d3/f003", "d0/link"] {
                std::fs::create_dir_all(target.join(name).join("something")).unwrap();
            }
            std::fs::write(target.join("e1"), b"a file").unwrap();
            let listener = Listener::default();
            let summary = repository.restore_within(&snapshot, &target, &RestoreOptions::default(), &listener, limits).unwrap();
            let failed = listener.failed();
            assert_eq!(summary.items_failed, failed.len() as u64);
            let others = ["d1/f001-again", "d2/f002-again", "d3/f003-again", "e2/f002", "zz/f003", "e0/f003", "zz/link"];
            let expected: BTreeSet<_> = ["d0/f000", "d1/f001", "d2/f002", "d3/f003", "d0/link"].into_iter().chain(others).collect();
            assert_eq!(failed.iter().map(String::as_str).collect::<BTreeSet<_>>(), expected, "{threads} threads, {limits:?}");
            let mut wanted = look(source.path());
            wanted.retain(|path, _| path.parent() == Some(Path::new("e1")));
            let mut found = look(&target);
            found.retain(|path, _| path.parent() == Some(Path::new("e1")));
            assert_eq!(found, wanted);
            said.insert((failed, numbers(&summary)));
        }
        assert_eq!(said.len(), 1, "{said:?}");
    }
}

#[test]
fn what_was_interrupted_anywhere_goes_on() {
    let source = linked_tree();
    let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
    let snapshot = backed_up(&create(Arc::clone(&backend)), source.path());
    let wanted = look(source.path());
    for ((threads, repository), limits) in with_threads(&backend).into_iter().zip([TINY, Limits::DEFAULT, LIMITS[1]]) {
        let (_folder, target) = target();
        let mut interruptions = 0;
        for bytes in (1..).map(|n| n * 700_000) {
            let listener = Listener { bytes_left: Mutex::new(Some(bytes)), ..Listener::default() };
            match repository.restore_within(&snapshot, &target, &RestoreOptions::default(), &listener, limits) {
                Ok(_) => break,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Cancelled, "{error}"),
            }
            interruptions += 1;
            // What is there is private until it is finished, and then as wanted.
            for (path, what) in look(&target) {
                let mode = target.join(&path).symlink_metadata().unwrap().permissions().mode();
                let is_private = mode & 0o77 == 0;
                let content = |what: &str| what.split(' ').nth(3).unwrap_or_default().to_owned();
                assert!(is_private || mode & 0o170000 == 0o120000 || content(&what) == content(&wanted[&path]), "{path:?}: {what}");
            }
        }
        assert!(interruptions > 5, "{interruptions}");
        assert_eq!(look(&target), wanted, "{threads} threads");
    }
}

#[test]
fn a_failing_store_ends_it_whatever_is_under_way_and_it_goes_on() {
    let source = linked_tree();
    let reads_left = Arc::new(AtomicU64::new(u64::MAX));
    let shared: Arc<dyn Backend> = Arc::new(HookedBackend::new(Arc::new(MemoryBackend::new()), {
        let reads_left = Arc::clone(&reads_left);
        move |call| {
            let reads = u64::from(call.operation == Operation::GetRange && !call.is_done);
            match reads_left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| if left > 0 { Some(left - reads) } else { None }) {
                Ok(_) => Ok(()),
                Err(_) => Err(Error::new(ErrorKind::Unavailable, "the store is gone")),
            }
        }
    }));
    let snapshot = backed_up(&create(Arc::clone(&shared)), source.path());
    for (_, repository) in with_threads(&shared) {
        for limits in LIMITS {
            // Late enough to hit content, of the first window and of later ones.
            for nth in [8, 15, 30] {
                let (_folder, target) = target();
                reads_left.store(nth, Ordering::Relaxed);
                let done = repository.restore_within(&snapshot, &target, &RestoreOptions::default(), &Silent, limits);
                assert!(done.as_ref().is_ok_and(|_| nth > 8) || done.is_err_and(|error| error.kind() == ErrorKind::Unavailable));
                reads_left.store(u64::MAX, Ordering::Relaxed);
                repository.restore_within(&snapshot, &target, &RestoreOptions::default(), &Silent, limits).unwrap();
                assert_eq!(look(&target), look(source.path()));
            }
        }
    }
}

//! What windows have in common: each frame is decoded once all the same.

use super::*;

/// Windows so small that everything goes through several, and large enough for all that is in one frame.
const LIMITS: Limits = Limits { entries_max: 20, bytes_max: 6_000, read_bytes_max: 200 << 10, keeps_bases: true };

/// The last of some states of a tree with an image, of which a part changes from one to the next; files of one folder are linked from another.
fn churned(seed: u64) -> (Repository, Snapshot, tempfile::TempDir) {
    let repository = create(Arc::new(MemoryBackend::new()));
    let tree = tempfile::tempdir().unwrap();
    let mut image = noise(seed, 3 << 20);
    let mut chance = seed << 32;
    for number in 0..60 {
        let path = tree.path().join(format!("{}/{number}", number % 7));
        write(&path, &noise(seed + number, 5_000 + 100 * number as usize), number);
        if number % 7 == 2 {
            std::fs::create_dir_all(tree.path().join("z")).unwrap();
            std::fs::hard_link(&path, tree.path().join(format!("z/{number}"))).unwrap();
        }
    }
    let mut snapshot = None;
    for state in 0..6 {
        std::fs::write(tree.path().join("5/image"), &image).unwrap();
        snapshot = Some(backed_up(&repository, tree.path()));
        for _ in 0..8 {
            let at = random(&mut chance, image.len() as u64 - 4096) as usize;
            image[at..at + 4096].copy_from_slice(&noise(seed + 1000 + chance, 4096));
        }
        for _ in 0..5 {
            let number = random(&mut chance, 60);
            let path = tree.path().join(format!("{}/{number}", number % 7));
            write(&path, &noise(seed + 7_777 + chance, 6_000), 100 + state);
        }
    }
    (repository, snapshot.unwrap(), tree)
}

#[test]
fn a_frame_that_windows_have_in_common_is_decoded_once() {
    for seed in [11, 12] {
        let (repository, snapshot, _tree) = churned(seed);
        let restore = |limits: Limits, is_dry: bool| {
            let (folder, target) = target();
            let options = RestoreOptions { dry_run: is_dry, ..RestoreOptions::default() };
            let listener = Listener::default();
            let summary = repository.restore_within(&snapshot, &target, &options, &listener, limits).unwrap();
            assert_eq!((summary.items_failed, listener.failed()), (0, Vec::new()));
            (summary.frames_decoded, if is_dry { BTreeMap::new() } else { look(&target) }, folder)
        };
        let (frames, found, _) = restore(Limits::DEFAULT, false);
        assert!(frames > 20);
        for limits in [LIMITS, Limits { bytes_max: 10_000, ..LIMITS }] {
            let (decoded, found_too, _) = restore(limits, false);
            assert_eq!(found_too, found);
            assert_eq!(decoded, frames, "frames decoded, of as many that are needed");
            assert_eq!(restore(limits, true).0, frames, "and so says the plan");
        }
    }
}

#[test]
fn what_waits_fails_once_and_with_what_is_linked_to_it() {
    let (repository, snapshot, _tree) = churned(13);
    let backend = Arc::clone(&repository.backend);
    let packs = backend.list_sorted(ObjectKind::DataPack).unwrap();
    for pack in packs.iter().take(4) {
        let reopened = || repository.find_snapshot(&snapshot.id.to_string(), None, None).unwrap();
        let bytes = backend.get(&pack.name, pack.size).unwrap();
        let mut torn = bytes.clone();
        // Somewhere in its frames.
        torn[70_000.min(bytes.len() / 2)] ^= 1;
        backend.delete(&pack.name).unwrap();
        backend.put(&pack.name, &torn).unwrap();
        let failed = |limits: Limits| {
            let (_folder, target) = target();
            let listener = Listener::default();
            let options = RestoreOptions::default();
            let summary = repository.restore_within(&reopened(), &target, &options, &listener, limits).unwrap();
            let failed = listener.failed();
            assert_eq!(summary.items_failed, failed.len() as u64);
            assert!(failed.iter().all(|path| !target.join(path).exists()), "{failed:?}");
            (failed, look(&target))
        };
        assert_eq!(failed(TINY), failed(Limits::DEFAULT));
        backend.delete(&pack.name).unwrap();
        backend.put(&pack.name, &bytes).unwrap();
    }
}

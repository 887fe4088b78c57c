//! Local caches need no repair: lost or damaged, they cost time only.

use super::*;

/// All files below a folder.
fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// A command finds a damaged index cache at the latest while it runs; it then says so, and the next one builds it anew.
fn at_the_second_try<T>(run: impl Fn(&Repository) -> Result<T>, open: impl Fn() -> Repository) -> T {
    run(&open()).unwrap_or_else(|error| {
        assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("run again"), "{error}");
        run(&open()).unwrap()
    })
}

#[test]
fn lost_and_damaged_local_caches_cost_time_only() {
    let fixture = Fixture::with_snapshots();
    let cache = tempfile::tempdir().unwrap();
    let open = || {
        let settings = Settings::default().with_cache(cache.path());
        let key = Key::KeyFile(Secret::new([5; 32]));
        Repository::open(Arc::new(fixture.backend.clone()), Runtime::seeded(fresh_seed(&fixture), NOW, 2), &key, settings).unwrap()
    };
    let roots = Roots::resolve(&[fixture.folder.path().join(".")]).unwrap();
    let backup = |repository: &Repository| {
        repository
            .backup(&roots, &SourceOptions::default(), &BackupOptions::new("tests"), &Silent)
            .map(|summary| (summary.snapshot, summary.bytes_unique))
    };
    backup(&open()).unwrap();
    open().gc(&GcOptions::default(), &Silent).unwrap();
    let mut tried = 0;
    for (number, path) in files_below(cache.path()).into_iter().enumerate() {
        for way in 0..3 {
            let Ok(bytes) = std::fs::read(&path) else { continue };
            let mut flipped = bytes.clone();
            let at = bytes.len() * (way + 1) / 6;
            flipped.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 0x20);
            match way {
                0 => std::fs::remove_file(&path).unwrap(),
                1 => std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
                _ => std::fs::write(&path, &flipped).unwrap(),
            }
            tried += 1;
            fixture.write("changing", 1000 + number as u64 * 3 + way as u64);
            let (snapshot, bytes_unique) = at_the_second_try(backup, open);
            assert!(bytes_unique < 20_000, "{}: way {way}: {bytes_unique} bytes were stored", path.display());
            assert_eq!(fixture.restore(snapshot.unwrap()), 0, "{}: way {way}", path.display());
            if path.ends_with("gc-observations") {
                at_the_second_try(|repository| repository.gc(&GcOptions::default(), &Silent), open);
            }
        }
    }
    assert!(tried > 8, "{tried}");
    assert!(fixture.repository.scrub(&Silent).unwrap().findings.is_empty());
    // Repair forgets the index cache in any case.
    assert!(open().repair(&RepairOptions { reads: Reads::Nothing, ..RepairOptions::default() }, &Silent).unwrap().forgot_index_cache);
    assert_eq!(backup(&open()).unwrap().1, 0);
}

/// No two sessions may draw the same random bytes.
fn fresh_seed(fixture: &Fixture) -> u64 {
    fixture.objects().len() as u64 * 1000 + fixture.objects().values().map(Vec::len).sum::<usize>() as u64
}

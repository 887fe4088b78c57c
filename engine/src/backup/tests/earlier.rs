//! What is not content of files of a folder is compressed against what it was too: trees and recipes, streams, archives, files without a stat cache.

use super::delta::{Files, Fixture};
use super::*;
use crate::id::FrameClass;
use crate::repository::Snapshot;
use crate::restore::RestoreOptions;
use std::io::Cursor;

#[test]
fn a_tree_in_which_only_times_changed_costs_little() {
    let mut stored = Vec::new();
    for delta in [true, false] {
        let mut fixture = Fixture::new(2, delta);
        let files: Files = (0..1500).map(|n| (format!("f{n:04}"), noise(n, 10))).collect();
        fixture.backup(&files);
        for state in 1..4 {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_500_000_000 + state);
            for entry in std::fs::read_dir(fixture.folder.path()).unwrap() {
                std::fs::File::options().write(true).open(entry.unwrap().path()).unwrap().set_modified(time).unwrap();
            }
            stored.push(fixture.backup(&files).bytes_stored);
        }
        let (deltas, bases) = fixture.bases_of(&fixture.kept[3].0, FrameClass::Meta);
        assert_eq!((deltas.is_empty(), bases.is_empty()), (!delta, !delta));
        // The bases are those of the first state, and stay when it goes.
        let first = fixture.kept[0].0.header.record.id();
        assert!(bases.iter().all(|base| base.session == first));
        fixture.forget(1);
        fixture.forget(0);
        fixture.gc();
        fixture.assert_whole();
    }
    assert!((0..3).all(|state| stored[state] * 4 < stored[state + 3]), "{stored:?}");
}

#[test]
fn the_recipe_of_a_large_file_in_which_little_changed_costs_little() {
    let stored = [true, false].map(|delta| {
        let mut fixture = Fixture::new(2, delta);
        let mut files = Files::from([("large".to_owned(), noise(1, 24 << 20))]);
        fixture.backup(&files);
        // All chunks change that lie at one place, and with them one recipe leaf of those that are there.
        files.get_mut("large").unwrap()[9 << 20] ^= 1;
        let summary = fixture.backup(&files);
        assert_eq!(fixture.bases_of(&fixture.kept[1].0, FrameClass::Meta).0.is_empty(), !delta);
        fixture.assert_whole();
        summary.bytes_stored
    });
    assert!(stored[0] * 3 < stored[1], "{stored:?}");
}

/// A repository without a cache.
fn without_cache() -> Repository {
    repository(&MemoryBackend::new(), 2)
}

fn snapshot(repository: &Repository, summary: &BackupSummary) -> Snapshot {
    repository.snapshots().unwrap().into_iter().find(|snapshot| Some(snapshot.id) == summary.snapshot).unwrap()
}

/// Two versions of something of 5 MiB, the second with a few other bytes.
fn versions() -> [Vec<u8>; 2] {
    let (before, mut after) = (noise(1, 5 << 20), noise(1, 5 << 20));
    after.splice(1000..1000, [7; 10]);
    after.iter_mut().skip(5).step_by(300_000).for_each(|byte| *byte ^= 1);
    [before, after]
}

/// Where extents of a large file are joined a chunk may have no base; the rest is stored in a few bytes.
fn assert_small(summary: &BackupSummary) {
    assert!(summary.delta_bytes > 100_000 && summary.bytes_stored < 150_000, "{summary:?}");
}

#[test]
fn streams_are_compressed_against_the_last_one() {
    let (repository, [before, after]) = (without_cache(), versions());
    let back_up = |bytes: &[u8]| {
        repository.backup_stream("dump.sql", Box::new(Cursor::new(bytes.to_vec())), &BackupOptions::new("dump"), &Silent).unwrap()
    };
    back_up(&before);
    let summary = back_up(&after);
    assert_small(&summary);
    let mut back = Vec::new();
    repository.restore_to_writer(&snapshot(&repository, &summary), None, &mut back, &Silent).unwrap();
    assert!(back == after);
}

/// A tar stream of files.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[124..136].copy_from_slice(format!("{:011o}\0", content.len()).as_bytes());
        header[136..148].copy_from_slice(b"14000000000\0");
        header[148..156].fill(b' ');
        header[156] = b'0';
        header[257..265].copy_from_slice(b"ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

#[test]
fn archives_are_compressed_against_the_last_one_wherever_members_stand() {
    let (repository, [before, after]) = (without_cache(), versions());
    let back_up = |files: &[(&str, &[u8])]| {
        repository.backup_tar("files.tar", Box::new(Cursor::new(archive(files))), &BackupOptions::new("tar"), &Silent).unwrap()
    };
    let small = noise(9, 100_000);
    let mut small_after = small.clone();
    small_after[50_000] ^= 1;
    back_up(&[("small", &small), ("large", &before)]);
    let summary = back_up(&[("large", &after), ("small", &small_after)]);
    assert_small(&summary);
    let target = tempfile::tempdir().unwrap();
    repository.restore(&snapshot(&repository, &summary), target.path(), &RestoreOptions::default(), &Silent).unwrap();
    assert!(std::fs::read(target.path().join("large")).unwrap() == after);
    assert!(std::fs::read(target.path().join("small")).unwrap() == small_after);
}

#[test]
fn files_are_compressed_against_the_last_snapshot_where_there_is_no_cache() {
    for fixed in [false, true] {
        let (repository, folder) = (without_cache(), tempfile::tempdir().unwrap());
        let back_up = |bytes: &[u8]| {
            std::fs::write(folder.path().join("large"), bytes).unwrap();
            let source = match fixed {
                true => SourceOptions { fixed: vec!["large".into()], ..SourceOptions::default() },
                false => SourceOptions::default(),
            };
            let roots = Roots::resolve(&[folder.path().join(".")]).unwrap();
            repository.backup(&roots, &source, &BackupOptions::new("tests"), &Silent).unwrap()
        };
        let [before, mut after] = versions();
        if fixed {
            // Nothing moves in what is cut at fixed sizes.
            after = before.clone();
            after.iter_mut().skip(5).step_by(300_000).for_each(|byte| *byte ^= 1);
        }
        back_up(&before);
        let summary = back_up(&after);
        assert_small(&summary);
        let target = tempfile::tempdir().unwrap();
        repository.restore(&snapshot(&repository, &summary), target.path(), &RestoreOptions::default(), &Silent).unwrap();
        assert!(std::fs::read(target.path().join("large")).unwrap() == after);
    }
}

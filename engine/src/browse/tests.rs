//! What differs and what is found, in repositories in memory.

use super::*;
use crate::backend::MemoryBackend;
use crate::backup::BackupOptions;
use crate::crypto::PassphraseCost;
use crate::entry::join_key;
use crate::error::ErrorKind;
use crate::progress::{Cancel, Silent};
use crate::repository::{CreateOptions, Key as RepositoryKey, Repository, Settings, Snapshot};
use crate::runtime::{Runtime, Timestamp};
use crate::source::{Roots, SourceOptions};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanoseconds: 0 };

fn create() -> Repository {
    let key = RepositoryKey::passphrase("correct horse").unwrap();
    let options = CreateOptions { passphrase_cost: PassphraseCost::TEST, ..CreateOptions::default() };
    Repository::create(Arc::new(MemoryBackend::new()), Runtime::seeded(7, NOW, 2), &key, &options, Settings::default()).unwrap()
}

fn backup(repository: &Repository, folder: &Path, series: &str, day: i64) -> Snapshot {
    let mut options = BackupOptions::new(series);
    options.time = Some(Timestamp { seconds: NOW.seconds + day * 86_400, nanoseconds: 0 });
    let roots = Roots::resolve(&[folder.join(".")]).unwrap();
    let made = repository.backup(&roots, &SourceOptions::default(), &options, &Silent).unwrap();
    repository.find_snapshot(&made.snapshot.unwrap().to_string(), None, None).unwrap()
}

fn differences(repository: &Repository, before: &Snapshot, after: &Snapshot, path: Option<&[u8]>) -> (Vec<Difference>, DiffSummary) {
    let mut found = Vec::new();
    let visit = &mut |difference| {
        found.push(difference);
        Ok(())
    };
    let summary = repository.diff(before, after, path, &Silent, visit).unwrap();
    (found, summary)
}

/// `+a`, `-a`, `kind a`, `content metadata a`.
fn told(differences: &[Difference]) -> Vec<String> {
    let name = |difference: &Difference| String::from_utf8(difference.key().clone()).unwrap().replace('\0', "/");
    let tell = |difference: &Difference| match difference {
        Difference::Added(_) => format!("+{}", name(difference)),
        Difference::Removed(_) => format!("-{}", name(difference)),
        Difference::Changed { kind, content, metadata, .. } => {
            let words = [(*kind, "kind "), (*content, "content "), (*metadata, "metadata ")];
            words.iter().filter(|(is_so, _)| *is_so).map(|(_, word)| *word).collect::<String>() + &name(difference)
        }
    };
    differences.iter().map(tell).collect()
}

fn set_time(path: &Path, seconds: u64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn differences_say_what_they_are() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let repository = create();
    fs::create_dir_all(folder.join("a/deep")).unwrap();
    for (name, content) in [("a/deep/same", "1"), ("a/gone", "12"), ("content", "123"), ("mode", "1234"), ("kind", "12345")] {
        fs::write(folder.join(name), content).unwrap();
    }
    symlink("here", folder.join("link")).unwrap();
    let settle = || ["", "a", "a/deep"].iter().for_each(|name| set_time(&folder.join(name), 1_000));
    settle();
    let before = backup(&repository, folder, "one", 0);
    fs::remove_file(folder.join("a/gone")).unwrap();
    fs::write(folder.join("a/deep/fresh"), "123456").unwrap();
    fs::write(folder.join("content"), "321!").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(folder.join("mode"), mode).unwrap();
    fs::remove_file(folder.join("kind")).unwrap();
    fs::create_dir(folder.join("kind")).unwrap();
    fs::remove_file(folder.join("link")).unwrap();
    symlink("there", folder.join("link")).unwrap();
    settle();
    let after = backup(&repository, folder, "one", 1);

    let (found, summary) = differences(&repository, &before, &after, None);
    let expected = ["+a/deep/fresh", "-a/gone", "content metadata content", "kind kind", "content metadata link", "metadata mode"];
    assert_eq!(told(&found), expected);
    let numbers = [summary.added, summary.added_bytes, summary.removed, summary.removed_bytes];
    assert_eq!(numbers, [1, 6, 1, 2]);
    let numbers = [summary.changed, summary.changed_content, summary.changed_bytes_before, summary.changed_bytes_after];
    assert_eq!(numbers, [4, 3, 3 + 5, 4]);
    assert_eq!(told(&differences(&repository, &after, &before, Some(b"a")).0), ["-a/deep/fresh", "+a/gone"]);
    assert_eq!(told(&differences(&repository, &before, &after, Some(b"/a/deep/fresh")).0), ["+a/deep/fresh"]);
    assert_eq!(differences(&repository, &before, &before, None), (Vec::new(), DiffSummary::default()));

    let diff = |path, progress: &dyn crate::progress::Progress| repository.diff(&before, &after, path, progress, &mut |_| Ok(()));
    assert_eq!(diff(Some(b"nowhere"), &Silent).unwrap_err().kind(), ErrorKind::NotFound);
    let cancel = Cancel::default();
    cancel.cancel();
    assert_eq!(diff(None, &cancel).unwrap_err().kind(), ErrorKind::Cancelled);
}

fn query(patterns: &[&str]) -> FindQuery {
    FindQuery { patterns: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(), ..FindQuery::default() }
}

/// Each version as path, and the numbers of the snapshots that hold it.
fn holders(found: &Found, snapshots: &[Snapshot]) -> Vec<(String, Vec<usize>)> {
    let place = |id| snapshots.iter().position(|snapshot| snapshot.id == id).unwrap();
    let of_path = |path: &FoundPath| {
        let name = String::from_utf8(path.key.clone()).unwrap().replace('\0', "/");
        path.versions.iter().map(|version| (name.clone(), version.snapshots.iter().map(|id| place(*id)).collect())).collect::<Vec<_>>()
    };
    found.paths.iter().flat_map(of_path).collect()
}

#[test]
fn entries_are_found_in_all_snapshots_and_nodes_read_once() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let repository = create();
    fs::create_dir_all(folder.join("letters/old")).unwrap();
    for number in 0..3_000 {
        fs::write(folder.join(format!("letters/old/{number:05}.txt")), "x").unwrap();
    }
    let write = |content: &str, seconds| {
        fs::write(folder.join("letters/Ann.txt"), content).unwrap();
        set_time(&folder.join("letters/Ann.txt"), seconds);
    };
    write("Dear Ann", 1_000);
    let mut snapshots =
        vec![backup(&repository, folder, "one", 0), backup(&repository, folder, "two", 1), backup(&repository, folder, "one", 2)];
    write("Dear Ann, dear Bob", 2_000);
    snapshots.extend([backup(&repository, folder, "two", 3), backup(&repository, folder, "one", 4)]);

    let find = |query: &FindQuery| repository.find(&snapshots, query, &Silent).unwrap();
    let found = find(&query(&["Ann*"]));
    let ann = |holders: &[usize]| ("letters/Ann.txt".to_owned(), holders.to_vec());
    assert_eq!(holders(&found, &snapshots), [ann(&[0, 1, 2]), ann(&[3, 4])]);
    assert!(found.problems.is_empty() && found.snapshots == 5);
    let nodes_of_one = repository.find(&snapshots[..1], &query(&["Ann*"]), &Silent).unwrap().nodes_read;
    assert!(found.nodes_read <= nodes_of_one + 3 && found.nodes_known >= 4, "{} {nodes_of_one} {}", found.nodes_read, found.nodes_known);
    assert!(nodes_of_one > 3, "{nodes_of_one} nodes are too few to show anything");

    let with = |change: fn(&mut FindQuery)| {
        let mut query = query(&["letters/*", "nothing"]);
        change(&mut query);
        holders(&find(&query), &snapshots)
    };
    assert_eq!(with(|query| query.types = vec![EntryType::File]).len(), 2);
    assert_eq!(with(|query| query.larger = Some(9)), [ann(&[3, 4])]);
    assert_eq!(with(|query| query.smaller = Some(8)), [ann(&[0, 1, 2])]);
    assert_eq!(with(|query| query.older = Some(Timestamp { seconds: 1_000, nanoseconds: 0 })), [ann(&[0, 1, 2])]);
    let newer = with(|query| (query.newer, query.types) = (Some(Timestamp { seconds: 1_001, nanoseconds: 0 }), vec![EntryType::File]));
    assert_eq!(newer, [ann(&[3, 4])]);
    assert_eq!(find(&query(&["letters/**"])).paths.len(), 3_002);
    assert_eq!(find(&query(&["ann.*"])).paths.len(), 0);
    assert_eq!(find(&FindQuery { ignore_case: true, ..query(&["/LETTERS/ann.*"]) }).paths.len(), 1);
    assert_eq!(find(&query(&["0299?.txt"])).paths.first().map(|path| path.key.clone()), Some(join_key(["letters", "old", "02990.txt"])));
    let wrong = repository.find(&snapshots, &query(&["[a"]), &Silent).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Invalid);
}

#[test]
fn a_folder_is_listed_without_what_lies_deeper() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let repository = create();
    for name in ["a/b/c", "a/b-1", "a!/x", "d/e/f/g"] {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }
    let snapshot = backup(&repository, folder, "one", 0);
    let list = |path: Option<&[u8]>| {
        let mut keys = Vec::new();
        repository
            .for_each_child(&snapshot, path, &mut |entry| {
                keys.push(String::from_utf8(entry.key).unwrap().replace('\0', "/"));
                Ok(())
            })
            .map(|()| keys)
    };
    assert_eq!(list(None).unwrap(), ["", "a", "a!", "d"]);
    assert_eq!(list(Some(b"a")).unwrap(), ["a", "a/b", "a/b-1"]);
    assert_eq!(list(Some(b"/d/e/f")).unwrap(), ["d/e/f", "d/e/f/g"]);
    assert_eq!(list(Some(b"a/b/c")).unwrap(), ["a/b/c"]);
    assert_eq!(list(Some(b"b")).unwrap_err().kind(), ErrorKind::NotFound);
}

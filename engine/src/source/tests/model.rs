//! Random trees against a plain recursive walk.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

/// What the model says of one path.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    kind: String,
    mode: u32,
    modified: (i64, i64),
}

fn model(folder: &Path, key: &[u8], lines: &mut BTreeMap<Key, Line>) {
    let metadata = std::fs::symlink_metadata(folder).unwrap();
    let kind = match () {
        () if metadata.is_dir() => "folder".to_owned(),
        () if metadata.is_symlink() => format!("link to {:?}", std::fs::read_link(folder).unwrap()),
        () => format!("file of {}", metadata.len()),
    };
    lines.insert(key.to_vec(), Line { kind, mode: metadata.mode() & 0o7777, modified: (metadata.mtime(), metadata.mtime_nsec()) });
    if metadata.is_dir() {
        for child in std::fs::read_dir(folder).unwrap() {
            let name = child.unwrap().file_name();
            let below = if key.is_empty() { name.as_bytes().to_vec() } else { [key, b"\0", name.as_bytes()].concat() };
            model(&folder.join(name), &below, lines);
        }
    }
}

fn line(entry: &Entry) -> Line {
    let kind = match &entry.kind {
        EntryKind::Folder => "folder".to_owned(),
        EntryKind::Symlink(target) => format!("link to {:?}", Path::new(OsStr::from_bytes(target))),
        EntryKind::File(content) => format!("file of {}", content.size),
        other => format!("{other:?}"),
    };
    let modified = entry.metadata.modified;
    Line { kind, mode: entry.metadata.mode, modified: (modified.seconds, i64::from(modified.nanoseconds)) }
}

/// One thing to make: folders on the way, and what stands there.
fn thing() -> impl Strategy<Value = (Vec<Vec<u8>>, u8)> {
    // Few letters around the separator and its neighbours, so that names share prefixes.
    let letter = prop::sample::select(b"a\x01./0b\xff\n-".iter().copied().filter(|byte| *byte != b'/').collect::<Vec<_>>());
    let name = prop::collection::vec(letter, 1..4).prop_filter("a name", |name| name != b"." && name != b"..");
    (prop::collection::vec(name, 1..5), any::<u8>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, rng_algorithm: prop::test_runner::RngAlgorithm::ChaCha, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_trees_are_walked_as_a_plain_walk_would(things in prop::collection::vec(thing(), 0..60), threads in 1_usize..5) {
        let root = quick_folder();
        for (names, what) in things {
            let path = names.iter().fold(root.path().to_owned(), |path, name| path.join(OsStr::from_bytes(name)));
            // A file may stand where a folder is wanted: then this thing is not made.
            if std::fs::create_dir_all(path.parent().unwrap()).is_ok() && std::fs::symlink_metadata(&path).is_err() {
                match what % 3 {
                    0 => std::fs::create_dir(&path).unwrap(),
                    1 => std::os::unix::fs::symlink(OsStr::from_bytes(&names[0]), &path).unwrap(),
                    _ => std::fs::write(&path, vec![0; usize::from(what)]).unwrap(),
                }
            }
        }
        let mut expected = BTreeMap::new();
        model(root.path(), b"", &mut expected);
        let seen = walk_roots(&resolve(&[root.path().join(".")]), &SourceOptions::default(), threads);
        prop_assert!(seen.failed.is_empty());
        let got: Vec<(Key, Line)> = seen.entries.iter().map(|entry| (entry.entry.key.clone(), line(&entry.entry))).collect();
        prop_assert_eq!(got, expected.into_iter().collect::<Vec<_>>());
    }
}

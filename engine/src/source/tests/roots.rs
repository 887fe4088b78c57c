//! Where given paths stand.

use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

fn names(paths: &[PathBuf]) -> Vec<String> {
    let seen = walk_roots(&resolve(paths), &SourceOptions::default(), 2);
    assert!(seen.failed.is_empty(), "{:?}", seen.failed);
    seen.names()
}

#[test]
fn content_stands_at_the_root_with_the_folders_metadata() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["x/a", "x/sub/b"]);
    std::fs::set_permissions(root.path().join("x"), PermissionsExt::from_mode(0o711)).unwrap();
    for path in ["x/.", "x/./", "x/sub/..", "x//.", "./x/sub/../."] {
        let seen = walk_roots(&resolve(&[root.path().join(path)]), &SourceOptions::default(), 1);
        assert_eq!(seen.names(), ["a", "sub/", "sub/b"], "{path}");
        assert_eq!((seen.entries[0].entry.key.len(), seen.entries[0].entry.metadata.mode), (0, 0o711));
    }
    let here = std::env::current_dir().unwrap();
    let roots = resolve(&[".".into()]);
    assert_eq!(roots.paths(), [here.into_os_string().into_encoded_bytes()]);
    assert!(roots.plan.is_given && roots.plan.below.is_empty());
    let slash = resolve(&["/".into()]);
    assert!(slash.plan.is_given);
    assert_eq!(slash.paths(), [b"/".to_vec()]);
}

#[test]
fn a_path_stands_by_its_last_name_below_a_neutral_root() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["x/a", "x/file"]);
    for path in ["x", "x/", "x//", "./x"] {
        let roots = resolve(&[root.path().join(path)]);
        let seen = walk_roots(&roots, &SourceOptions::default(), 1);
        assert_eq!(seen.names(), ["x/", "x/a", "x/file"], "{path}");
        assert_eq!(seen.entries[0].entry.metadata, crate::entry::Metadata::of_way());
        assert_eq!(roots.paths(), [root.path().join("x").into_os_string().into_encoded_bytes()]);
        assert!(roots.notices().is_empty());
    }
    assert_eq!(names(&[root.path().join("x/file")]), ["file"]);
}

#[test]
fn colliding_names_are_kept_apart_by_full_path() {
    let root = tempfile::tempdir().unwrap();
    let base = root.path().canonicalize().unwrap();
    make(&base, &["p/x/a", "q/x/b", "p/other", "single"]);
    std::fs::set_permissions(base.join("q"), PermissionsExt::from_mode(0o710)).unwrap();
    let roots = resolve(&[base.join("p/x"), base.join("q/x"), base.join("single")]);
    let seen = walk_roots(&roots, &SourceOptions::default(), 2);
    let full = |name: &str| format!("{}/{name}", base.to_str().unwrap().strip_prefix('/').unwrap());
    let got = seen.names();
    for name in ["p/x/", "p/x/a", "q/x/", "q/x/b"] {
        assert!(got.contains(&full(name)), "{got:?}");
    }
    assert!(got.contains(&"single".to_owned()));
    assert!(!got.contains(&full("p/other")), "folders on the way hold nothing else");
    assert_eq!(seen.get(&full("q")).entry.metadata.mode, 0o710);
    assert_eq!(roots.notices().len(), 2);
    assert!(roots.notices()[0].contains(&full("p/x")));
}

#[test]
fn a_name_equal_to_the_start_of_a_full_path_is_kept_apart_too() {
    let root = tempfile::tempdir().unwrap();
    let base = root.path().canonicalize().unwrap();
    let first = base.components().nth(1).unwrap().as_os_str().to_str().unwrap().to_owned();
    make(&base, &["p/x", "q/x", &format!("{first}/y")]);
    let roots = resolve(&[base.join("p/x"), base.join("q/x"), base.join(&first)]);
    let got = walk_roots(&roots, &SourceOptions::default(), 2).names();
    let full = format!("{}/{first}/y", base.to_str().unwrap().strip_prefix('/').unwrap());
    assert!(got.contains(&full) && !got.contains(&format!("{first}/y")), "{got:?}");
    assert_eq!(roots.notices().len(), 3);
}

#[test]
fn the_same_path_and_inner_paths_are_stored_once() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["x/a/b", "x/c"]);
    symlink("x", root.path().join("alias")).unwrap();
    let path = |name: &str| root.path().join(name);
    let roots = resolve(&[path("x/a"), path("x"), path("x/."), path("alias/c"), path("x/a")]);
    assert_eq!(walk_roots(&roots, &SourceOptions::default(), 2).names(), ["x/", "x/a/", "x/a/b", "x/c"]);
    assert_eq!(roots.notices().len(), 4);
    assert_eq!(roots.paths().len(), 3);
    assert_eq!(names(&[path("."), path("x/a")]), ["alias", "x/", "x/a/", "x/a/b", "x/c"]);
    assert_eq!(names(&[path("x/a/"), path("x/.")]), ["a/", "a/b", "c"]);
}

#[test]
fn content_beside_other_paths_stands_by_its_name() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["x/y", "y/z"]);
    let roots = resolve(&[root.path().join("x/."), root.path().join("y")]);
    assert_eq!(walk_roots(&roots, &SourceOptions::default(), 2).names(), ["x/", "x/y", "y/", "y/z"]);
    assert_eq!(roots.notices().len(), 1);
}

#[test]
fn a_symlink_is_stored_as_such_unless_followed() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["real/a"]);
    symlink("real", root.path().join("link")).unwrap();
    symlink("nowhere", root.path().join("dangling")).unwrap();
    assert_eq!(names(&[root.path().join("link")]), ["link"]);
    assert_eq!(names(&[root.path().join("dangling")]), ["dangling"]);
    assert_eq!(names(&[root.path().join("link/")]), ["link/", "link/a"]);
    assert_eq!(names(&[root.path().join("link/.")]), ["a"]);
    assert_eq!(names(&[root.path().join("link"), root.path().join("real")]), ["link", "real/", "real/a"]);
    assert_eq!(names(&[root.path().join("link/"), root.path().join("real")]), ["link/", "link/a"], "the same folder");
    assert_eq!(names(&[root.path().join("link/a")]), ["a"]);
}

#[test]
fn a_missing_path_does_not_keep_the_others_from_being_read() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["file", "folder/inner"]);
    let path = |name: &str| root.path().join(name);
    let given = [path("gone"), path("file"), path("file/below"), path("gone"), path("folder")];
    let roots = resolve(&given);
    assert_eq!(walk_roots(&roots, &SourceOptions::default(), 1).names(), ["file", "folder/", "folder/inner"]);
    let failed: Vec<_> = roots.failed().iter().map(|failed| failed.path.as_slice()).collect();
    assert_eq!(failed, [&given[0], &given[2]].map(|path| path.as_os_str().as_encoded_bytes()));
    assert!(roots.failed()[0].message.contains("gone"), "{}", roots.failed()[0].message);
    assert_eq!(roots.paths().len(), 4, "the missing ones are part of what was asked for, each once");

    for none in [&given[..1], &given[2..4]] {
        let error = Roots::resolve(none).unwrap_err();
        assert!(error.kind() != crate::ErrorKind::Invalid && error.to_string().contains(root.path().to_str().unwrap()), "{error}");
    }
}

#[test]
fn what_cannot_be_backed_up_is_named() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["file"]);
    for path in [root.path().join("file/"), root.path().join("file/."), PathBuf::new(), "a\0b".into()] {
        let error = Roots::resolve(&[root.path().to_owned(), path.clone()]).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Invalid, "{path:?}: {error}");
    }
    assert_eq!(Roots::resolve(&[]).unwrap_err().kind(), crate::ErrorKind::Invalid);
}

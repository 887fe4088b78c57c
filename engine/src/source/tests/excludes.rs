//! What options leave out.

use super::*;

const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55\n# a cache\n";

fn excluding(patterns: &[&str]) -> SourceOptions {
    SourceOptions { excludes: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(), ..SourceOptions::default() }
}

#[test]
fn patterns_leave_out_and_take_back() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["a.o", "keep.o", "src/b.o", "src/b.c", "target/x/y", "src/target", "build/out/z", "sub/build/out", "etc/z"]);
    let anchored = format!("{}/etc", root.path().display());
    let seen = walk(root.path(), &excluding(&["*.o", "!keep.o", "target/", "build/out", &anchored]));
    assert_eq!(seen.names(), ["build/", "keep.o", "src/", "src/b.c", "src/target", "sub/", "sub/build/"]);
    assert!(seen.failed.is_empty());
}

#[test]
fn what_is_given_by_name_is_never_left_out() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["top/skip/deep/wanted/x.o", "top/skip/deep/other", "top/skip/more", "top/y.o", "z.o"]);
    let paths = [root.path().join("top"), root.path().join("top/skip/deep/wanted"), root.path().join("z.o")];
    let options = SourceOptions { exclude_larger_than: Some(0), ..excluding(&["skip", "top", "/**/*.o", "wanted"]) };
    let seen = walk_roots(&resolve(&paths), &options, 2);
    assert_eq!(seen.names(), ["top/", "top/skip/", "top/skip/deep/", "top/skip/deep/wanted/", "z.o"]);
    let seen = walk_roots(&resolve(&paths), &excluding(&["skip"]), 2);
    assert_eq!(
        seen.names(),
        ["top/", "top/skip/", "top/skip/deep/", "top/skip/deep/wanted/", "top/skip/deep/wanted/x.o", "top/y.o", "z.o"]
    );
}

#[test]
fn ignore_files_count_from_the_given_folder_down() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["t/a.log", "t/b.log", "t/sub/a.log", "t/sub/b.log", "t/sub/deep/only", "t/only", "t/other/only"]);
    std::fs::write(root.path().join(".ignore"), "*\n").unwrap();
    std::fs::write(root.path().join("t/.ignore"), "# logs\n*.log\n/only\n").unwrap();
    std::fs::write(root.path().join("t/sub/.ignore"), "!b.log\n").unwrap();
    let options = SourceOptions { exclude_files: vec![".ignore".to_owned()], ..SourceOptions::default() };
    let seen = walk(&root.path().join("t"), &options);
    assert_eq!(seen.names(), [".ignore", "other/", "other/only", "sub/", "sub/.ignore", "sub/b.log", "sub/deep/", "sub/deep/only"]);
    let all = walk(&root.path().join("t"), &SourceOptions::default());
    assert_eq!(all.names().len(), 12, "ignore files do nothing unless asked for");
    let seen = walk(&root.path().join("t"), &SourceOptions { excludes: vec!["!a.log".into()], ..options });
    assert!(seen.names().contains(&"sub/a.log".to_owned()), "options go before ignore files");
}

#[test]
fn an_ignore_file_that_cannot_be_used_is_reported() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["a", "b/"]);
    std::fs::write(root.path().join(".ignore"), b"a{\nb\n\xff\xfe\n").unwrap();
    std::fs::create_dir_all(root.path().join("c/.ignore")).unwrap();
    let options = SourceOptions { exclude_files: vec![".ignore".to_owned()], ..SourceOptions::default() };
    let seen = walk(root.path(), &options);
    assert_eq!(seen.names(), [".ignore", "a", "c/", "c/.ignore/"]);
    assert_eq!(seen.failed.len(), 3, "{:?}", seen.failed);
    assert!(seen.failed[0].1.contains("a{"));
    assert!(seen.failed[2].0.ends_with(b"/c/.ignore"));
}

#[test]
fn tagged_folders_keep_themselves_and_the_tag() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["cache/a", "cache/sub/b", "fake/CACHEDIR.TAG", "fake/a", "skip/.nobackup", "skip/a", "skip/b/c"]);
    std::fs::write(root.path().join("cache/CACHEDIR.TAG"), SIGNATURE).unwrap();
    let options = SourceOptions { exclude_caches: true, exclude_if_present: vec![".nobackup".to_owned()], ..SourceOptions::default() };
    let seen = walk(root.path(), &options);
    assert_eq!(seen.names(), ["cache/", "cache/CACHEDIR.TAG", "fake/", "fake/CACHEDIR.TAG", "fake/a", "skip/", "skip/.nobackup"]);
    let given = walk(&root.path().join("cache"), &options);
    assert_eq!(given.names(), ["CACHEDIR.TAG", "a", "sub/", "sub/b"], "given by name");
    let inner = walk_roots(&resolve(&[root.path().join("."), root.path().join("skip/b")]), &options, 2);
    assert!(inner.names().ends_with(&["skip/.nobackup".into(), "skip/b/".into(), "skip/b/c".into()]), "{:?}", inner.names());
}

#[test]
fn large_files_are_left_out() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("fits"), [0; 10]).unwrap();
    std::fs::write(root.path().join("large"), [0; 11]).unwrap();
    let seen = walk(root.path(), &SourceOptions { exclude_larger_than: Some(10), ..SourceOptions::default() });
    assert_eq!(seen.names(), ["fits"]);
}

#[test]
fn other_file_systems_are_kept_as_empty_folders() {
    let device = |path: &str| std::fs::metadata(path).map(|data| std::os::unix::fs::MetadataExt::dev(&data));
    let (Ok(dev), Ok(shm)) = (device("/dev"), device("/dev/shm")) else {
        eprintln!("skipped: there is no /dev/shm here");
        return;
    };
    if dev == shm {
        eprintln!("skipped: /dev/shm is no file system of its own here");
        return;
    }
    let Ok(inside) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("skipped: /dev/shm cannot be written here");
        return;
    };
    make(inside.path(), &["x"]);
    let inside_key = format!("shm/{}/", inside.path().file_name().unwrap().to_str().unwrap());
    let options = SourceOptions { one_file_system: true, ..SourceOptions::default() };
    let one = walk_roots(&resolve(&["/dev/.".into()]), &options, 2).names();
    assert!(one.contains(&"shm/".to_owned()) && !one.contains(&inside_key));
    assert_eq!(one.iter().filter(|name| name.starts_with("shm/")).count(), 1);
    let all = walk_roots(&resolve(&["/dev/.".into()]), &SourceOptions::default(), 2).names();
    assert!(all.contains(&inside_key));
    let both = walk_roots(&resolve(&["/dev/.".into(), inside.path().to_owned()]), &options, 2).names();
    let below: Vec<_> = both.iter().filter(|name| name.starts_with("shm/")).cloned().collect();
    assert_eq!(below, ["shm/".to_owned(), inside_key.clone(), format!("{inside_key}x")]);
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let roots = resolve(&[root.path().to_owned()]);
    for options in [
        excluding(&["a["]),
        SourceOptions { exclude_files: vec!["a/b".into()], ..SourceOptions::default() },
        SourceOptions { exclude_if_present: vec![String::new()], ..SourceOptions::default() },
    ] {
        assert_eq!(Walk::start(&roots, &options, None, &runtime(1)).unwrap_err().kind(), crate::ErrorKind::Invalid);
    }
}

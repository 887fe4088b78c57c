//! Key order, threads, depth, size.

use super::*;
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

#[test]
fn odd_names_come_in_strict_order() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["a/b", "a/b.c/d", "a.b", "a+", "a\nb", "a\u{1}/x", "A", "a/b-", "a0/", "\u{e4}", "..x", "-", " "]);
    let long = "n".repeat(255);
    make(root.path(), &[long.as_str()]);
    std::fs::write(root.path().join(OsStr::from_bytes(b"a\xff\xfe")), b"").unwrap();
    let seen = walk(root.path(), &SourceOptions::default());
    let expected = [
        " ",
        "-",
        "..x",
        "A",
        "a/",
        "a/b",
        "a/b-",
        "a/b.c/",
        "a/b.c/d",
        "a\\x01/",
        "a\\x01/x",
        "a\\nb",
        "a+",
        "a.b",
        "a0/",
        "a\\xff\\xfe",
        &long,
        "\\xc3\\xa4",
    ];
    assert_eq!(seen.names(), expected);
    assert!(seen.failed.is_empty());
}

#[test]
fn threads_do_not_change_the_sequence() {
    let root = quick_folder();
    for folder in 0..40 {
        for file in 0..(folder * 7 % 23) {
            make(root.path(), &[&format!("{}/{}/f{file}", folder % 7, folder), &format!("{}/g{file}", folder % 5)]);
        }
    }
    let entries = |threads| -> Vec<Entry> {
        let seen = walk_roots(&resolve(&[root.path().join(".")]), &SourceOptions::default(), threads);
        seen.entries.into_iter().map(|entry| entry.entry).collect()
    };
    let one = entries(1);
    assert!(one.len() > 400);
    for threads in [2, 8] {
        assert_eq!(entries(threads), one);
    }
}

#[test]
fn folders_larger_than_a_batch_are_whole() {
    let root = quick_folder();
    let count = super::super::visit::BATCH * 2 + 3;
    for number in 0..count {
        let name = format!("{number:05}");
        if number % 100 == 1 { make(root.path(), &[&format!("{name}/x")]) } else { make(root.path(), &[&name]) }
    }
    let seen = walk(root.path(), &SourceOptions::default());
    assert_eq!(seen.entries.len(), 1 + count + count.div_ceil(100));
}

#[test]
fn a_tree_deeper_than_any_path_is_walked_with_few_descriptors() {
    const DEPTH: usize = 12_000;
    let root = quick_folder();
    let mut fd = openat(rustix::fs::CWD, root.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..DEPTH {
        mkdirat(&fd, c"d", Mode::RWXU).unwrap();
        fd = openat(&fd, c"d", OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let file = openat(&fd, c"file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
    let roots = resolve(&[root.path().join(".")]);
    let seen = finish(Walk::start_with(&roots, &SourceOptions::default(), None, &runtime(2), 8).unwrap());
    assert!(seen.failed.is_empty(), "{:?}", seen.failed);
    assert_eq!(seen.entries.len(), 1 + DEPTH + 1);
    let last = seen.entries.last().unwrap();
    assert_eq!(last.entry.key.len(), DEPTH * 2 + 4);
    let mut content = [0; 8];
    assert_eq!(last.open().unwrap().read_at(0, &mut content).unwrap(), 4);
    assert_eq!(&content[..4], b"deep");
    // The standard library would need a descriptor for each level to remove it.
    remove_chain(root.path(), c"d", DEPTH);
}

#[test]
fn what_lies_deeper_than_a_key_can_tell_is_named_and_left_out() {
    const DEPTH: usize = 270;
    let root = quick_folder();
    let name = std::ffi::CString::new([b'd'; 250]).unwrap();
    let mut fd = openat(rustix::fs::CWD, root.path(), OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..DEPTH {
        mkdirat(&fd, &name, Mode::RWXU).unwrap();
        fd = openat(&fd, &name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    openat(&fd, c"file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    make(root.path(), &["other"]);
    let seen = walk(root.path(), &SourceOptions::default());
    let [(path, message)] = &seen.failed[..] else { panic!("{:?}", seen.failed) };
    assert!(path.len() > crate::limits::KEY_MAX && message.contains("left out with all that is in it"), "{message}");
    assert_eq!(seen.entries.len(), 1 + (crate::limits::KEY_MAX + 1) / 251 + 1);
    remove_chain(root.path(), &name, DEPTH);
}

/// Takes a chain of folders apart from the top, so that nothing has to recurse.
fn remove_chain(root: &Path, name: &std::ffi::CStr, depth: usize) {
    let top = openat(rustix::fs::CWD, root, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for level in 0..depth {
        rustix::fs::renameat(&top, name, &top, c"old").unwrap();
        let old = openat(&top, c"old", OFlags::DIRECTORY, Mode::empty()).unwrap();
        let next = if level + 1 < depth { name } else { c"file" };
        rustix::fs::renameat(&old, next, &top, next).unwrap();
        rustix::fs::unlinkat(&top, c"old", rustix::fs::AtFlags::REMOVEDIR).unwrap();
    }
}

#[test]
fn a_walk_can_be_left_early() {
    let root = quick_folder();
    for number in 0..300 {
        make(root.path(), &[&format!("{number}/x")]);
    }
    let mut walk = Walk::start(&resolve(&[root.path().join(".")]), &SourceOptions::default(), None, &runtime(8)).unwrap();
    assert!(matches!(walk.nth(5), Some(Ok(WalkItem::Entry(_)))));
}

#[test]
fn a_walk_goes_on_without_threads() {
    #[derive(Debug)]
    struct Lazy;
    impl crate::runtime::Executor for Lazy {
        fn threads(&self) -> usize {
            1
        }
        fn spawn(&self, _: &str, _: Box<dyn FnOnce() + Send>) -> crate::error::Result<()> {
            Ok(())
        }
    }
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["a/b/c", "d/e"]);
    let runtime = Runtime { executor: std::sync::Arc::new(Lazy), ..runtime(1) };
    let seen = finish(Walk::start(&resolve(&[root.path().join(".")]), &SourceOptions::default(), None, &runtime).unwrap());
    assert_eq!(seen.names(), ["a/", "a/b/", "a/b/c", "d/", "d/e"]);
}

#[test]
fn a_thread_that_dies_ends_the_walk_with_an_error() {
    #[derive(Debug)]
    struct Dies(crossbeam_channel::Sender<()>);
    impl Known for Dies {
        fn is_known(&self, _: &[u8], _: &super::super::StatKey) -> bool {
            if std::thread::current().name() == Some("walk") {
                self.0.send(()).unwrap();
                panic!("on purpose");
            }
            false
        }
    }
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &["a", "b"]);
    let (sender, receiver) = crossbeam_channel::unbounded();
    let known = std::sync::Arc::new(Dies(sender));
    let mut walk = Walk::start(&resolve(&[root.path().join(".")]), &SourceOptions::default(), Some(known), &runtime(1)).unwrap();
    // From here on the thread has the only task, and takes it to its grave.
    receiver.recv().unwrap();
    assert!(matches!(walk.next(), Some(Ok(WalkItem::Entry(_)))));
    assert_eq!(walk.next().unwrap().unwrap_err().kind(), crate::ErrorKind::Internal);
    assert!(walk.next().is_none());
}

//! Onto what is there already: what differs, what is not in the snapshot, what stands above.

use super::*;

/// What a dry run tells and what the restore does, sorted.
fn changes(repository: &Repository, snapshot: &Snapshot, target: &Path, options: &RestoreOptions) -> (Vec<String>, RestoreSummary) {
    let listener = Listener::default();
    let summary = repository.restore_within(snapshot, target, options, &listener, TINY).unwrap();
    assert_eq!(listener.failed(), [""; 0]);
    let mut changes: Vec<_> = listener.changes.lock().iter().map(|(item, change, bytes)| format!("{change:?} {item} {bytes}")).collect();
    changes.sort();
    (changes, summary)
}

fn planned(options: &RestoreOptions) -> RestoreOptions {
    RestoreOptions { dry_run: true, ..options.clone() }
}

/// What the dry run says has to be what the restore does, and after it nothing is left to do.
fn foreseen(repository: &Repository, snapshot: &Snapshot, target: &Path, options: &RestoreOptions) -> Vec<String> {
    let before = look(target);
    let (told, plan) = changes(repository, snapshot, target, &planned(options));
    assert_eq!(look(target), before, "a dry run changes nothing");
    let (done, summary) = changes(repository, snapshot, target, options);
    let deleted: Vec<_> = told.iter().filter(|line| line.starts_with("Deleted")).cloned().collect();
    assert_eq!(done, deleted);
    assert_eq!((plan.bytes_written, plan.bytes_unchanged), (summary.bytes_written, summary.bytes_unchanged));
    assert_eq!((plan.frames_decoded, plan.items_deleted), (summary.frames_decoded, summary.items_deleted));
    let of_plan = plan.plan.unwrap();
    assert_eq!(of_plan.created + of_plan.changed + of_plan.unchanged, snapshot.header.entries);
    told
}

#[test]
fn a_plan_is_what_happens_and_nothing_is_fetched_for_what_is_there() {
    let source = random_tree(31);
    let repository = create(Arc::new(MemoryBackend::new()));
    let snapshot = backed_up(&repository, source.path());
    let (_folder, target) = target();
    let options = RestoreOptions::default();
    std::fs::create_dir_all(&target).unwrap();
    assert_eq!(foreseen(&repository, &snapshot, &target, &options).len() as u64, snapshot.header.entries);
    assert_eq!(look(&target), look(source.path()));
    assert_eq!(foreseen(&repository, &snapshot, &target, &options), [""; 0]);

    let file = |path: &str| std::fs::File::options().write(true).open(target.join(path)).unwrap();
    file("large").write_all_at(b"!", 3 << 20).unwrap();
    file("holes/middle").set_len(1 << 20).unwrap();
    file("holes/only").write_all_at(b"no hole", 5000).unwrap();
    std::fs::set_permissions(target.join("holes/both-ends"), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::remove_file(target.join("dangling")).unwrap();
    std::fs::create_dir(target.join("dangling")).unwrap();
    std::fs::write(target.join("other"), b"stays").unwrap();
    let told = foreseen(&repository, &snapshot, &target, &options);
    let bytes_of =
        |item: &str| told.iter().find_map(|line| line.strip_prefix(&format!("Changed {item} "))).unwrap().parse::<u64>().unwrap();
    assert!((1..200_000).contains(&bytes_of("large")), "{told:?}");
    assert!(((4 << 20)..(5 << 20)).contains(&bytes_of("holes/middle")), "{told:?}");
    assert_eq!((bytes_of("holes/only"), bytes_of("holes/both-ends"), bytes_of(".")), (0, 0, 0));
    assert!(told.contains(&"Created dangling 0".into()) && told.len() == 6, "{told:?}");
    std::fs::remove_file(target.join("other")).unwrap();
    changes(&repository, &snapshot, &target, &options);
    assert_eq!(look(&target), look(source.path()));
}

#[test]
fn what_has_several_names_is_left_alone_or_made_anew_and_never_written_to() {
    let source = tempfile::tempdir().unwrap();
    let root = source.path();
    write(&root.join("a"), b"the same", 1);
    std::fs::hard_link(root.join("a"), root.join("b")).unwrap();
    write(&root.join("c"), b"the same", 1);
    write(&root.join("large"), &[7; 300_000], 1);
    std::fs::hard_link(root.join("large"), root.join("other name")).unwrap();
    symlink("a", root.join("link")).unwrap();
    std::fs::hard_link(root.join("link"), root.join("link too")).unwrap();
    let repository = create(Arc::new(MemoryBackend::new()));
    let snapshot = backed_up(&repository, root);
    let (folder, target) = target();
    let options = RestoreOptions::default();
    let restore = || changes(&repository, &snapshot, &target, &options);
    restore();
    let before = look(&target);
    let inodes = || ["a", "b", "c", "large", "other name", "link"].map(|name| target.join(name).symlink_metadata().unwrap().ino());
    let were = inodes();
    assert_eq!(foreseen(&repository, &snapshot, &target, &options), [""; 0]);
    assert_eq!((inodes(), look(&target)), (were, before.clone()));

    // A name outside keeps what it has, and so does the target as long as nothing differs.
    let outside = folder.path().join("outside");
    std::fs::hard_link(target.join("c"), &outside).unwrap();
    assert_eq!(restore().1.bytes_written, 0);
    assert_eq!(inodes(), were);
    std::fs::write(&outside, b"another").unwrap();
    assert_eq!(restore().1.bytes_written, 8);
    assert_eq!((std::fs::read(&outside).unwrap(), look(&target)), (b"another".to_vec(), before.clone()));

    // What are two files in the snapshot do not stay one.
    std::fs::remove_file(target.join("c")).unwrap();
    std::fs::hard_link(target.join("a"), target.join("c")).unwrap();
    restore();
    assert_eq!(look(&target), before);
    assert!(inodes()[2] != inodes()[0] && inodes()[0] == inodes()[1]);
}

#[test]
fn only_what_is_asked_for_is_deleted() {
    let source = tempfile::tempdir().unwrap();
    let root = source.path();
    for path in ["a/keep", "a/sub/keep", "a.b", "b/keep", "file", "z/deep/er/keep"] {
        write(&root.join(path), path.as_bytes(), 1);
    }
    let repository = create(Arc::new(MemoryBackend::new()));
    let snapshot = backed_up(&repository, root);
    let (folder, target) = target();
    let restore = |options: &RestoreOptions| changes(&repository, &snapshot, &target, options);
    restore(&RestoreOptions::default());
    let outside = folder.path().join("outside");
    write(&outside.join("never"), b"touched", 1);
    let litter = || {
        for path in ["0", "a/0/1/2", "a/0/x", "a/sub/new", "a.a", "b/zz", "zz/y/x"] {
            write(&target.join(path), b"litter", 2);
        }
        std::fs::remove_file(target.join("file")).unwrap();
        write(&target.join("file/with/something"), b"in the way", 1);
        symlink(&outside, target.join("b/link")).unwrap();
        symlink(&outside, target.join("link")).unwrap();
    };
    litter();
    let everything = look(folder.path());
    let of_a = RestoreOptions { delete: true, path: Some(b"a".to_vec()), ..RestoreOptions::default() };
    let (told, summary) = restore(&planned(&of_a));
    assert_eq!(look(folder.path()), everything);
    assert_eq!(summary.items_deleted, 5);
    let deleted = ["a/0", "a/0/1", "a/0/1/2", "a/0/x", "a/sub/new"].map(|path| format!("Deleted {path} 0"));
    assert!(deleted.iter().all(|line| told.contains(line)), "{told:?}");
    assert_eq!(restore(&of_a).0, deleted);
    for path in ["0", "a.a", "b/zz", "b/link", "link", "zz/y/x", "file/with/something"] {
        assert!(target.join(path).symlink_metadata().is_ok(), "{path}");
    }
    // A part that is a file deletes nothing, and so does a restore that was not asked to.
    restore(&RestoreOptions { path: Some(b"b/keep".to_vec()), ..of_a.clone() });
    assert!(target.join("b/zz").exists());

    // Unless a folder stands in its way.
    let one = RestoreOptions { path: Some(b"a.b".to_vec()), ..of_a };
    std::fs::remove_file(target.join("a.b")).unwrap();
    write(&target.join("a.b/in/the"), b"way", 1);
    assert_eq!(restore(&one).0, ["Deleted a.b 0", "Deleted a.b/in 0", "Deleted a.b/in/the 0"]);
    assert_eq!(std::fs::read(target.join("a.b")).unwrap(), b"a.b");

    let spared = target.join("zz/y");
    let all = RestoreOptions { delete: true, spare: vec![spared, "nowhere".into()], ..RestoreOptions::default() };
    let told = foreseen(&repository, &snapshot, &target, &all);
    let deleted: Vec<_> = told.iter().filter_map(|line| line.strip_prefix("Deleted ")).collect();
    assert_eq!(deleted, ["0 0", "a.a 0", "b/link 0", "b/zz 0", "file 0", "file/with 0", "file/with/something 0", "link 0"]);
    assert!(target.join("zz/y/x").exists() && outside.join("never").exists());
    restore(&RestoreOptions { delete: true, ..RestoreOptions::default() });
    assert_eq!(look(&target), look(root));
}

#[test]
fn what_is_spared_is_not_entered_either() {
    let source = tempfile::tempdir().unwrap();
    let root = source.path();
    std::fs::create_dir_all(root.join("mnt/usb/in")).unwrap();
    write(&root.join("file"), b"file", 1);
    let repository = create(Arc::new(MemoryBackend::new()));
    let snapshot = backed_up(&repository, root);
    let (_folder, target) = target();
    let usb = target.join("mnt/usb");
    for path in ["litter", "mnt/litter", "mnt/usb/config/1", "mnt/usb/in/data/pack", "mnt/usb/keys"] {
        write(&target.join(path), b"what nobody else has", 1);
    }
    let kept = look(&usb).into_keys().collect::<Vec<_>>();
    // A part of it, or something in it, or the target itself may be asked for.
    let deleted_of = |path: Option<&str>, spare: &Path, target: &Path| {
        let path = path.map(|path| path.as_bytes().to_vec());
        let options = RestoreOptions { delete: true, path, spare: vec![spare.to_owned()], ..RestoreOptions::default() };
        let listener = Listener::default();
        repository.restore(&snapshot, target, &planned(&options), &listener).unwrap();
        let summary = repository.restore(&snapshot, target, &options, &listener).unwrap();
        assert_eq!((listener.notices.lock().len(), listener.failed()), (2, vec![]), "{path:?}", path = options.path);
        assert!(listener.notices.lock().iter().all(|notice| notice.contains("icecore itself needs")));
        summary.items_deleted
    };
    for path in ["mnt/usb", "mnt/usb/in"] {
        assert_eq!(deleted_of(Some(path), &usb, &target), 0);
    }
    for spare in [target.as_path(), target.parent().unwrap()] {
        assert_eq!(deleted_of(None, spare, &target), 0);
        assert_eq!(deleted_of(Some("mnt"), spare, &target), 0);
    }
    assert_eq!(deleted_of(None, &usb, &target), 2);
    assert_eq!(look(&usb).into_keys().collect::<Vec<_>>(), kept);
}

#[test]
fn what_is_mounted_below_the_target_keeps_what_it_has() {
    let source = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(source.path().join("mnt/usb")).unwrap();
    let repository = create(Arc::new(MemoryBackend::new()));
    let snapshot = backed_up(&repository, source.path());
    let (folder, target) = target();
    let elsewhere = folder.path().join("elsewhere");
    write(&elsewhere.join("photo"), b"photo", 1);
    // One that the snapshot has as an empty folder, as a backup of one file system stores it; and one that it does not have.
    let mounts: Vec<_> = ["mnt/usb", "other/disk"].iter().filter_map(|path| Mount::bind(&elsewhere, &target.join(path))).collect();
    if mounts.len() < 2 {
        eprintln!("skipped: no right to mount");
        return;
    }
    write(&target.join("mnt/litter"), b"litter", 1);
    let options = RestoreOptions { delete: true, ..RestoreOptions::default() };
    for options in [planned(&options), options.clone()] {
        let listener = Listener::default();
        let summary = repository.restore(&snapshot, &target, &options, &listener).unwrap();
        assert_eq!((summary.items_deleted, listener.failed()), (1, vec![]));
        let notices = listener.notices.lock();
        assert!(notices.len() == 2 && notices.iter().all(|notice| notice.contains("mounted here")), "{notices:?}");
        assert!(elsewhere.join("photo").exists());
    }
    assert!(!target.join("mnt/litter").exists());
    // It may be asked for by name.
    let options = RestoreOptions { path: Some(b"mnt/usb".to_vec()), ..options };
    assert_eq!(repository.restore(&snapshot, &target, &options, &Silent).unwrap().items_deleted, 1);
}

/// A folder mounted in another place, until this is dropped.
struct Mount(PathBuf);

impl Mount {
    fn bind(from: &Path, to: &Path) -> Option<Self> {
        std::fs::create_dir_all(to).unwrap();
        let mounted = std::process::Command::new("mount").arg("--bind").args([from, to]).output();
        mounted.is_ok_and(|output| output.status.success()).then(|| Self(to.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_damaged_list_of_files_ends_the_deleting() {
    let source = tempfile::tempdir().unwrap();
    for n in 0..3_000_u64 {
        write(&source.path().join(format!("d{:02}/f{n:04}", n / 100)), &n.to_le_bytes(), 1);
    }
    let backend = Arc::new(FaultyBackend::new(Arc::new(MemoryBackend::new()), 3));
    let repository = create(backend.clone());
    let snapshot = backed_up(&repository, source.path());
    let (_folder, target) = target();
    repository.restore(&snapshot, &target, &RestoreOptions::default(), &Silent).unwrap();
    let whole = look(&target);
    let pack = backend.list_sorted(ObjectKind::MetaPack).unwrap()[0].clone();
    backend.flip(&pack.name, 64 + 100);
    let options = RestoreOptions { delete: true, ..RestoreOptions::default() };
    let listener = Listener::default();
    let summary = repository.restore(&snapshot, &target, &options, &listener).unwrap();
    assert!(summary.damaged && summary.items_deleted == 0);
    assert!(listener.notices.lock().iter().any(|notice| notice.contains("nothing more is deleted")));
    assert_eq!(look(&target).len(), whole.len());
}

#[test]
fn folders_above_a_part_come_back_as_they_were() {
    let source = tempfile::tempdir().unwrap();
    let root = source.path();
    write(&root.join("a/b/c/file"), b"content", 1);
    for (path, mode) in [("a", 0o751), ("a/b", 0o2775), ("a/b/c", 0o500)] {
        std::fs::set_permissions(root.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
        let file = std::fs::File::open(root.join(path)).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::new(1_500_000_000, 7)).unwrap();
    }
    let repository = create(Arc::new(MemoryBackend::new()));
    let snapshot = backed_up(&repository, root);
    let options = RestoreOptions { path: Some(b"a/b/c".to_vec()), ..RestoreOptions::default() };
    let (folder, target) = target();
    assert_eq!(changes(&repository, &snapshot, &target, &planned(&options)).0.len(), 5);
    changes(&repository, &snapshot, &target, &options);
    assert_eq!(look(&target), look(root));
    assert_eq!(changes(&repository, &snapshot, &target, &planned(&options)).0, [""; 0]);

    // One that is there already stays as it is, but for what an interrupted restore leaves behind.
    for (mode, wanted) in [(0o777, 0o777), (0o700, 0o751)] {
        let target = folder.path().join(format!("{mode:o}"));
        std::fs::create_dir_all(target.join("a")).unwrap();
        std::fs::set_permissions(target.join("a"), std::fs::Permissions::from_mode(mode)).unwrap();
        changes(&repository, &snapshot, &target, &options);
        assert_eq!(target.join("a").metadata().unwrap().mode() & 0o7777, wanted);
        assert_eq!(target.join("a/b").metadata().unwrap().mode() & 0o7777, 0o2775);
    }
}

/// Spoils what was restored just before it is read back.
#[derive(Debug)]
struct Spoiler {
    target: PathBuf,
    listener: Listener,
}

impl Progress for Spoiler {
    fn event(&self, event: Event<'_>) {
        if let Event::Phase { name: "verify", .. } = event {
            let file = |path: &str| std::fs::File::options().write(true).open(self.target.join(path)).unwrap();
            file("large").write_all_at(b"!", 3 << 20).unwrap();
            file("holes/only").write_all_at(b"!", 70_000).unwrap();
            file("holes/middle").set_len(1).unwrap();
            std::fs::remove_file(self.target.join("dangling")).unwrap();
            std::fs::remove_file(self.target.join("z-other-name-1")).unwrap();
            write(&self.target.join("z-other-name-1"), b"another file", 1);
        }
        self.listener.event(event);
    }
}

#[test]
fn what_does_not_read_back_is_named() {
    let source = random_tree(41);
    let repository = create(Arc::new(MemoryBackend::new()));
    let snapshot = backed_up(&repository, source.path());
    let (_folder, target) = target();
    let options = RestoreOptions { verify: true, ..RestoreOptions::default() };
    let spoiler = Spoiler { target: target.clone(), listener: Listener::default() };
    let summary = repository.restore(&snapshot, &target, &options, &spoiler).unwrap();
    assert_eq!(spoiler.listener.failed(), ["dangling", "holes/middle", "holes/only", "large", "z-other-name-1"]);
    assert_eq!((summary.items_failed, summary.damaged), (5, false));
    // Restored again, all of it reads back.
    let listener = Listener::default();
    repository.restore(&snapshot, &target, &options, &listener).unwrap();
    assert_eq!(listener.failed(), [""; 0]);
    assert_eq!(look(&target), look(source.path()));
}

#[test]
fn a_folder_that_was_not_backed_up_itself_stays_as_it_is() {
    let source = tempfile::tempdir().unwrap();
    for path in ["one/same/file", "two/same/file"] {
        write(&source.path().join(path), b"content", 1);
    }
    let repository = create(Arc::new(MemoryBackend::new()));
    let roots = Roots::resolve(&[source.path().join("one/same"), source.path().join("two/same")]).unwrap();
    let summary = repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("tests"), &Silent).unwrap();
    let snapshot = repository.find_snapshot(&summary.snapshot.unwrap().to_string(), None, None).unwrap();
    // Names that collide are kept apart by their full path; the root above them was not backed up.
    let way = source.path().strip_prefix("/").unwrap();
    let options = RestoreOptions::default();
    let stat = |path: &Path| {
        let stat = path.metadata().unwrap();
        (stat.mode(), stat.mtime() > 0)
    };

    let (folder, target) = target();
    assert_eq!(changes(&repository, &snapshot, &target, &planned(&options)).1.plan.unwrap().unchanged, 0);
    changes(&repository, &snapshot, &target, &options);
    assert_eq!(stat(&target), (0o40755, true));
    assert_eq!(look(&target.join(way).join("two/same")), look(&source.path().join("two/same")));
    assert_eq!(changes(&repository, &snapshot, &target, &planned(&options)).0, [""; 0]);

    let target = folder.path().join("there");
    std::fs::create_dir(&target).unwrap();
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o1770)).unwrap();
    changes(&repository, &snapshot, &target, &options);
    assert_eq!(stat(&target), (0o41770, true));

    let mut archive = Vec::new();
    repository.restore_to_tar(&snapshot, None, &mut archive, &Silent).unwrap();
    let name = |name: &str| archive.windows(name.len()).filter(|window| *window == name.as_bytes()).count();
    assert_eq!((name("./\0"), name("/one/same/\0")), (0, 1), "members of what was backed up only");
}

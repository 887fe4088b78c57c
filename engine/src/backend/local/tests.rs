use super::*;
use crate::backend::{BackendExt, testing::contract};
use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use tempfile::TempDir;

/// A backend whose folder goes with it.
struct Fixture {
    backend: LocalBackend,
    _place: TempDir,
}

fn backend() -> Fixture {
    let place = tempfile::tempdir().unwrap();
    Fixture { backend: LocalBackend::create(place.path().join("new/repository")).unwrap(), _place: place }
}

impl Fixture {
    fn path(&self, name: impl ToString) -> PathBuf {
        self.backend.path.join(name.to_string())
    }
}

impl std::ops::Deref for Fixture {
    type Target = LocalBackend;

    fn deref(&self) -> &LocalBackend {
        &self.backend
    }
}

/// Every path below a folder, with mode, size and time of the last change.
fn state(folder: &Path) -> Vec<(PathBuf, u32, u64, std::time::SystemTime)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        found.push((path.clone(), metadata.permissions().mode(), metadata.len(), metadata.modified().unwrap()));
        if metadata.is_dir() {
            found.extend(state(&path));
        }
    }
    found.sort();
    found
}

#[test]
fn keeps_the_contract() {
    let place = tempfile::tempdir().unwrap();
    let number = std::cell::Cell::new(0);
    contract::check(|| {
        number.set(number.get() + 1);
        Box::new(LocalBackend::create(place.path().join(number.get().to_string())).unwrap())
    });
}

#[test]
fn reports_strangers() {
    let backend = backend();
    contract::check_strangers(&*backend, |name| fs::write(backend.path(name), b"stranger").unwrap());
}

#[test]
fn what_is_no_file_of_ours_is_a_stranger_to_listings() {
    let backend = backend();
    let good = ObjectName::parse("packs/ab/ab000000000000000000000000000000").unwrap();
    backend.put(&good, b"good").unwrap();
    let strangers =
        ["packs/AB", "packs/ab/ab000000000000000000000000000001", "packs/ab/ab000000000000000000000000000002", "packs/ac", "packs/zz"];
    for folder in [strangers[0], strangers[1], strangers[4]] {
        fs::create_dir(backend.path(folder)).unwrap();
    }
    symlink(backend.path(good), backend.path(strangers[2])).unwrap();
    symlink("ab", backend.path(strangers[3])).unwrap();
    let (mut objects, mut found) = (vec![], vec![]);
    let visit = &mut |object: ObjectInfo| {
        objects.push(object.name);
        Ok(())
    };
    let stranger = &mut |name: &str| {
        found.push(name.to_owned());
        Ok(())
    };
    backend.list(ObjectKind::DataPack, visit, stranger).unwrap();
    found.sort();
    assert_eq!((objects, found), (vec![good], strangers.map(String::from).to_vec()));
}

#[test]
fn what_is_no_file_is_refused_in_place_of_an_object() {
    let backend = backend();
    type Plant = fn(&Path);
    let plant: [(&str, Plant); 4] = [
        ("symlink", |path| symlink("0000000001", path).unwrap()),
        ("folder", |path| fs::create_dir(path).unwrap()),
        ("fifo", |path| {
            rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, Mode::RWXU, 0).unwrap();
            assert!(path.symlink_metadata().unwrap().file_type().is_fifo());
        }),
        ("socket", |path| drop(std::os::unix::net::UnixListener::bind(path).unwrap())),
    ];
    backend.put(&ObjectName::config(1), b"real").unwrap();
    for (number, (what, plant)) in (2..).zip(plant) {
        let name = ObjectName::config(number);
        plant(&backend.path(name));
        assert_eq!(backend.get_range(&name, 0, 0).unwrap_err().kind(), ErrorKind::Damaged, "{what}");
        assert_eq!(backend.size(&name).unwrap_err().kind(), ErrorKind::Damaged, "{what}");
        assert_eq!(backend.hold(&name).err().unwrap().kind(), ErrorKind::Damaged, "{what}");
        assert_eq!(backend.put(&name, b"mine").unwrap_err().kind(), ErrorKind::AlreadyExists, "{what}");
    }
}

#[test]
fn no_folder_leads_outside() {
    let backend = backend();
    let outside = tempfile::tempdir().unwrap();
    let name = ObjectName::epoch(1);
    symlink(outside.path(), backend.path("epochs")).unwrap();
    fs::write(outside.path().join("0000000001"), b"outside").unwrap();
    assert_eq!(backend.get(&name, 100).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(backend.delete(&name).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(backend.put(&ObjectName::epoch(2), b"x").unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(backend.list_sorted(ObjectKind::Epoch).unwrap_err().kind(), ErrorKind::Damaged);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn first_write_sweeps_leftovers_but_no_living_file() {
    let backend = backend();
    let name = ObjectName::config(1);
    let mut living = backend.create(&name).unwrap();
    living.write(b"living").unwrap();
    let left = backend.path("tmp/icecore-1-1");
    fs::write(&left, b"left").unwrap();
    fs::create_dir(backend.path("config")).unwrap();
    let later = LocalBackend::open(backend.path("")).unwrap();
    assert!(left.exists(), "opening writes nothing");
    later.put(&ObjectName::config(2), b"later").unwrap();
    assert!(!left.exists());
    living.finish().unwrap();
    assert_eq!(backend.get(&name, 100).unwrap(), b"living");
    assert_eq!(fs::read_dir(backend.path("tmp")).unwrap().count(), 0);
}

#[test]
fn read_only_folder_is_read_without_a_trace() {
    let backend = backend();
    let name = ObjectName::config(1);
    backend.put(&name, b"kept").unwrap();
    fs::remove_dir(backend.path("tmp")).unwrap();
    let folders = [backend.path(""), backend.path("config")];
    let chmod = |mode| folders.iter().for_each(|folder| fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap());
    chmod(0o500);
    let before = state(&folders[0]);
    let reader = LocalBackend::open(&folders[0]).unwrap();
    assert_eq!(reader.get(&name, 100).unwrap(), b"kept");
    assert_eq!(reader.list_sorted(ObjectKind::Config).unwrap().len(), 1);
    assert_eq!(reader.list_sorted(ObjectKind::Snapshot).unwrap(), []);
    assert_eq!(state(&folders[0]), before);
    let put = reader.put(&ObjectName::config(2), b"new");
    chmod(0o700);
    // Nothing is read-only to root.
    if !rustix::process::geteuid().is_root() {
        let error = put.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("read-only"), "{error}");
    }
}

#[test]
fn errors_of_a_read_only_file_system_say_so() {
    for errno in [Errno::ROFS, Errno::ACCESS] {
        let error = write_error("config/0000000001", errno);
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("read-only"), "{error}");
    }
}

#[test]
fn open_says_where_there_is_no_repository() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("config");
    fs::write(&file, b"another program's").unwrap();
    for path in [place.path().join("missing"), file.join("below"), file, place.path().to_owned()] {
        let error = LocalBackend::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoRepository, "{error}");
        assert!(error.to_string().contains("create a repository"), "{error}");
    }
    assert!(!place.path().join("missing").exists());
}

#[test]
fn create_takes_only_what_is_empty_or_missing() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a/b");
    let backend = LocalBackend::create(&path).unwrap();
    for folder in [&path, &place.path().join("a")] {
        assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
    }
    fs::create_dir(path.join("lost+found")).unwrap();
    LocalBackend::create(&path).unwrap();
    backend.put(&ObjectName::config(1), b"config").unwrap();
    assert_eq!(fs::metadata(path.join("config/0000000001")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(LocalBackend::create(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    LocalBackend::open(&path).unwrap();
    assert_eq!(LocalBackend::create(place.path()).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(LocalBackend::create(path.join("config/0000000001")).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn create_takes_what_is_left_of_one_that_was_stopped_and_nothing_that_looks_like_it() {
    let place = tempfile::tempdir().unwrap();
    let (path, slot) = (place.path().join("left"), ObjectName::parse("keys/00112233445566778899aabbccddeeff/0000000001").unwrap());
    let backend = LocalBackend::create(&path).unwrap();
    fs::create_dir(path.join("tmp")).unwrap();
    for name in ["icecore-1-0-0123456789abcdef", "reserve"] {
        fs::write(path.join("tmp").join(name), "").unwrap();
    }
    LocalBackend::create(&path).unwrap();
    backend.put(&slot, b"slot").unwrap();
    fs::create_dir(path.join("config")).unwrap();
    LocalBackend::create(&path).unwrap();
    for stranger in ["notes", "tmp/notes", "keys/notes", "config/notes", "parity"] {
        fs::write(path.join(stranger), "").unwrap();
        let refused = LocalBackend::create(&path).unwrap_err().kind();
        assert!(matches!(refused, ErrorKind::Invalid | ErrorKind::AlreadyExists), "{stranger}: {refused:?}");
        fs::remove_file(path.join(stranger)).unwrap();
    }
    LocalBackend::create(&path).unwrap();
    backend.put(&ObjectName::config(1), b"config").unwrap();
    assert_eq!(LocalBackend::create(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
}

#[test]
fn short_object_is_damaged_also_through_an_open_handle() {
    let backend = backend();
    let name = ObjectName::parse("packs/ab/ab000000000000000000000000000000").unwrap();
    backend.put(&name, &[1; 1000]).unwrap();
    assert_eq!(backend.get_range(&name, 990, 10).unwrap(), [1; 10]);
    fs::OpenOptions::new().write(true).open(backend.path(name)).unwrap().set_len(995).unwrap();
    assert_eq!(backend.get_range(&name, 990, 10).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn what_another_process_deletes_is_gone_here_too() {
    let backend = backend();
    let name = ObjectName::parse("packs/ab/ab000000000000000000000000000000").unwrap();
    backend.put(&name, b"pack").unwrap();
    backend.get(&name, 100).unwrap();
    fs::remove_file(backend.path(name)).unwrap();
    assert_eq!(backend.get_range(&name, 0, 1).unwrap_err().kind(), ErrorKind::NotFound);
    // And folders that another process removes are made again.
    fs::remove_dir_all(backend.path("packs")).unwrap();
    backend.put(&name, b"again").unwrap();
    assert_eq!(backend.get(&name, 100).unwrap(), b"again");
}

#[test]
fn removed_repository_is_no_empty_one() {
    let backend = backend();
    backend.put(&ObjectName::config(1), b"config").unwrap();
    fs::remove_dir_all(backend.path("")).unwrap();
    assert_eq!(backend.list_sorted(ObjectKind::Snapshot).unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(backend.put(&ObjectName::config(2), b"new").unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn sessions_leave_no_empty_folders() {
    let backend = backend();
    let (first, second) = (ObjectName::beat(crate::id::SessionId([7; 16]), 1), ObjectName::beat(crate::id::SessionId([7; 16]), 2));
    backend.put(&first, b"").unwrap();
    backend.put(&second, b"").unwrap();
    backend.delete(&first).unwrap();
    assert_eq!(backend.size(&second).unwrap(), 0);
    backend.delete(&second).unwrap();
    assert_eq!(fs::read_dir(backend.path("beats")).unwrap().count(), 0);
}

#[test]
fn a_hold_is_seen_through_other_handles() {
    let backend = backend();
    let name = ObjectName::session(crate::id::SessionId([1; 16]));
    backend.put(&ObjectName::config(1), b"config").unwrap();
    backend.put(&name, b"session").unwrap();
    let other = LocalBackend::open(backend.path("")).unwrap();
    let hold = backend.hold(&name).unwrap();
    assert!(hold.is_some());
    assert_eq!(other.is_held(&name).unwrap(), Some(true));
    drop(hold);
    assert_eq!(other.is_held(&name).unwrap(), Some(false));
}

#[test]
fn a_file_of_which_a_network_file_system_lost_track_is_asked_for_by_its_name() {
    let backend = backend();
    let pack = ObjectName::parse("packs/ab/abababababababababababababababab").unwrap();
    backend.put(&pack, b"pack").unwrap();
    backend.get(&pack, 100).unwrap();
    fs::remove_file(backend.path("packs/ab/abababababababababababababababab")).unwrap();
    let read = || match backend.handles.get(&pack) {
        // What NFS says of the open file; here it only says that it has no name.
        Some(_) => Err(super::read_error(pack, Errno::STALE)),
        None => backend.get_range(&pack, 0, 1),
    };
    assert_eq!(backend.or_anew(&pack, read).unwrap_err().kind(), ErrorKind::NotFound);
    let refused = || -> crate::Result<()> { Err(super::read_error(pack, Errno::STALE)) };
    assert_eq!(backend.or_anew(&pack, refused).unwrap_err().kind(), ErrorKind::Unavailable, "once");
}

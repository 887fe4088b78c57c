use super::SftpBackend;
use super::connection::{Connection, Trouble};
use super::wire::{self, Fields, Packet};
use crate::backend::store::Remote;
use crate::backend::testing::contract;
use crate::backend::{Address, Backend, BackendExt, ObjectKind, ObjectName, StoreSettings, create, open, try_out};
use crate::error::ErrorKind;
use crate::runtime::{Executor, Runtime, SystemExecutor};
use parking_lot::Mutex;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// OpenSSH's server without ssh: it speaks over its standard input and output.
fn settings() -> StoreSettings {
    let places =
        ["/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/libexec/sftp-server", "/usr/lib/ssh/sftp-server"];
    let server = places.into_iter().find(|place| Path::new(place).exists());
    let mut settings = StoreSettings::new(Runtime::system(2));
    let server = server.expect("OpenSSH's sftp-server (package openssh-sftp-server)");
    settings.options = vec![("sftp_command".into(), server.into())];
    settings
}

fn address(folder: &Path) -> Address {
    Address::parse(OsStr::new(&format!("sftp://host{}", folder.display()))).unwrap()
}

fn backend(folder: &Path) -> Arc<dyn Backend> {
    create(&address(folder), &settings()).unwrap()
}

#[test]
fn keeps_the_contract() {
    let place = tempfile::tempdir().unwrap();
    let next = std::cell::Cell::new(0);
    contract::check(|| {
        next.set(next.get() + 1);
        let Address::Sftp(address) = address(&place.path().join(next.get().to_string())) else { panic!() };
        let backend = SftpBackend::connect(&address, &settings()).unwrap();
        backend.require_empty().unwrap();
        backend.make().unwrap();
        Box::new(backend)
    });
}

#[test]
fn what_nobody_finished_is_cleared_after_its_time() {
    let place = tempfile::tempdir().unwrap();
    let backend = backend(place.path());
    let mut writer = backend.create(&ObjectName::config(1)).unwrap();
    writer.write(&vec![7; 1 << 20]).unwrap();
    let files = || std::fs::read_dir(place.path().join("tmp")).unwrap().count();
    std::fs::write(place.path().join("tmp/notes.txt"), b"not ours").unwrap();
    assert_eq!((backend.clear_unfinished(Duration::from_secs(3_600)), files()), (0, 2));
    // As after a crash: it is there, and its writer is not.
    std::mem::forget(writer);
    assert_eq!((backend.clear_unfinished(Duration::ZERO), files()), (1, 1));
}

#[test]
fn strangers_are_reported() {
    let place = tempfile::tempdir().unwrap();
    contract::check_strangers(&*backend(place.path()), |name| std::fs::write(place.path().join(name), b"?").unwrap());
}

#[test]
fn only_an_empty_folder_is_taken_and_only_a_repository_opened() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("deep/er");
    assert_eq!(open(&address(&folder), &settings()).unwrap_err().kind(), ErrorKind::NoRepository);
    let backend = backend(&folder);
    assert_eq!(open(&address(&folder), &settings()).unwrap_err().kind(), ErrorKind::NoRepository);
    backend.put(&ObjectName::config(1), b"config").unwrap();
    open(&address(&folder), &settings()).unwrap();
    assert_eq!(create(&address(&folder), &settings()).unwrap_err().kind(), ErrorKind::AlreadyExists);
    std::fs::write(place.path().join("photo.jpg"), b"photo").unwrap();
    assert_eq!(create(&address(place.path()), &settings()).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_good_server_can_do_everything_and_nothing_is_left() {
    let place = tempfile::tempdir().unwrap();
    let backend = backend(place.path());
    backend.put(&ObjectName::config(1), b"config").unwrap();
    let abilities = try_out(&address(place.path()), &settings()).unwrap();
    assert!(abilities.iter().all(|ability| ability.missing().is_none()), "{abilities:?}");
    let left: Vec<_> = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name == "trial"), "{left:?}");
    // Where a repository is to come nothing needs to be there yet.
    let new = place.path().join("new/er");
    assert_eq!(try_out(&address(&new), &settings()).unwrap(), abilities);
    assert_eq!(std::fs::read_dir(&new).unwrap().count(), 0);
}

#[test]
fn a_connection_that_is_lost_is_made_anew() {
    let place = tempfile::tempdir().unwrap();
    let Address::Sftp(address) = address(place.path()) else { panic!() };
    let backend = SftpBackend::connect(&address, &settings()).unwrap();
    backend.put(&ObjectName::config(1), b"config").unwrap();
    let mut late = backend.create(&ObjectName::config(2)).unwrap();
    late.write(&vec![7; 1 << 20]).unwrap();
    // As if the server had ended.
    drop(backend.live.lock().take());
    assert_eq!(backend.get(&ObjectName::config(1), 100).unwrap(), b"config");
    late.finish().unwrap();
    assert_eq!(backend.list_sorted(ObjectKind::Config).unwrap().len(), 2);
}

#[test]
fn who_cannot_be_reached_is_told_why_at_once() {
    let mut settings = settings();
    settings.options = vec![("sftp_command".into(), "sh -c exec>&2;printf\\ %s\\ Denied;exit\\ 255".into())];
    let error = open(&address(Path::new("/tmp/x")), &settings).unwrap_err();
    assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("BatchMode"), "{error}");
    settings.options = vec![("sftp_command".into(), "/nonexistent/ssh".into())];
    let error = open(&address(Path::new("/tmp/x")), &settings).unwrap_err();
    assert!(error.to_string().contains("cannot be started"), "{error}");
}

/// OpenSSH's server behind a door, where each request is seen and can be meddled with. Connections come through two named pipes, one after the other.
struct Door {
    place: tempfile::TempDir,
    meddle: Arc<Mutex<Box<Meddle>>>,
}

/// By kind and rest of a request.
type Meddle = dyn FnMut(u8, &[u8]) -> Fault + Send;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// It is not done, and refused so.
    Refuse(u32),
    /// It is done, and then the connection is lost.
    HangUp,
}

impl Door {
    fn open() -> Self {
        let place = tempfile::tempdir().unwrap();
        let script = "exec 2>/dev/null; cat \"$1/out\" & exec cat >\"$1/in\"";
        std::fs::write(place.path().join("connect.sh"), script).unwrap();
        Self::make_pipes(place.path()).unwrap();
        let meddle: Arc<Mutex<Box<Meddle>>> = Arc::new(Mutex::new(Box::new(|_, _| Fault::None)));
        let (path, of_thread, server) = (place.path().to_owned(), Arc::clone(&meddle), settings().options[0].1.clone());
        // Waits at the pipes for ever once nobody connects any more.
        let work = move || while Self::serve(&path, &server, &of_thread).is_ok() {};
        SystemExecutor::new(1).spawn("sftp-door", Box::new(work)).unwrap();
        Self { place, meddle }
    }

    /// New ones, so that the next connection has nothing to do with the one before.
    fn make_pipes(path: &Path) -> std::io::Result<()> {
        for path in ["in", "out"].map(|pipe| path.join(pipe)) {
            let _ = std::fs::remove_file(&path);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)?;
        }
        Ok(())
    }

    /// One connection, until it ends.
    fn serve(path: &Path, server: &str, meddle: &Mutex<Box<Meddle>>) -> std::io::Result<()> {
        let mut to_client = File::options().write(true).open(path.join("out"))?;
        let mut from_client = File::open(path.join("in"))?;
        let mut server = Command::new(server).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (mut to, mut from) = (server.stdin.take().unwrap(), server.stdout.take().unwrap());
        while let Ok(request) = packet(&mut from_client) {
            let fault = (meddle.lock())(request[4], request.get(9..).unwrap_or_default());
            let answer = match fault {
                Fault::Refuse(code) => {
                    let answer =
                        Packet(vec![101]).u32(u32::from_be_bytes(request[5..9].try_into().unwrap())).u32(code).string(b"no").string(b"").0;
                    [&u32::try_from(answer.len()).unwrap().to_be_bytes(), &answer[..]].concat()
                }
                _ => {
                    to.write_all(&request)?;
                    packet(&mut from)?
                }
            };
            if fault == Fault::HangUp || to_client.write_all(&answer).is_err() {
                break;
            }
        }
        Self::make_pipes(path)?;
        drop((to_client, from_client, to));
        server.wait().map(drop)
    }

    fn meddle(&self, meddle: impl FnMut(u8, &[u8]) -> Fault + Send + 'static) {
        *self.meddle.lock() = Box::new(meddle);
    }

    fn root(&self) -> std::path::PathBuf {
        self.place.path().join("root")
    }

    fn backend(&self) -> SftpBackend {
        let mut settings = settings();
        let connect = self.place.path().join("connect.sh");
        settings.options[0].1 = format!("sh {} {}", connect.display(), self.place.path().display());
        let Address::Sftp(address) = address(&self.root()) else { panic!() };
        let backend = SftpBackend::connect(&address, &settings).unwrap();
        backend.make().unwrap();
        backend
    }
}

/// With its length before it.
fn packet(from: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    from.read_exact(&mut bytes)?;
    bytes.resize(4 + usize::try_from(u32::from_be_bytes(bytes[..].try_into().unwrap())).unwrap(), 0);
    from.read_exact(&mut bytes[4..])?;
    Ok(bytes)
}

/// Whether it syncs a file or a folder.
fn is_sync(kind: u8, rest: &[u8]) -> bool {
    kind == wire::EXTENDED && rest.get(4..).is_some_and(|rest| rest.starts_with(b"fsync@openssh.com"))
}

/// The folders below `root` that are opened to be synced, in order.
fn watch_folders(door: &Door) -> Arc<Mutex<Vec<String>>> {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let (of_door, root) = (Arc::clone(&seen), format!("{}", door.root().display()));
    door.meddle(move |kind, rest| {
        if kind == wire::OPEN
            && let Some(path) = Fields(rest).string().map(String::from_utf8_lossy)
            && let Some(below) = path.strip_prefix(&root)
            && Path::new(&*path).is_dir()
        {
            of_door.lock().push(below.to_owned());
        }
        Fault::None
    });
    seen
}

#[test]
fn folders_that_lead_to_an_object_are_synced_once_whoever_made_them() {
    let door = Door::open();
    let backend = door.backend();
    let seen = watch_folders(&door);
    // Somebody else made the folders.
    std::fs::create_dir_all(door.root().join("packs/ab")).unwrap();
    let pack = |last: &str| ObjectName::parse(&format!("packs/ab/ab{}{last}", "0".repeat(29))).unwrap();
    backend.put(&pack("1"), b"pack").unwrap();
    assert_eq!(std::mem::take(&mut *seen.lock()), ["/packs/ab", "/packs", ""]);
    backend.put(&pack("2"), b"pack").unwrap();
    assert_eq!(std::mem::take(&mut *seen.lock()), ["/packs/ab"]);
    backend.make_durable(&[pack("1"), pack("2"), ObjectName::config(1)]).unwrap();
    assert_eq!(std::mem::take(&mut *seen.lock()), ["", "/packs", "/packs/ab"]);
}

#[test]
fn what_the_server_does_not_sync_is_not_durable() {
    let door = Door::open();
    let backend = door.backend();
    let (first, second) = (ObjectName::config(1), ObjectName::config(2));
    let fail = |error: crate::Result<()>| assert_eq!(error.unwrap_err().kind(), ErrorKind::Unavailable);
    // The first sync is that of the file.
    let refuse_from = |number: u32, code: u32| {
        let mut count = 0;
        door.meddle(move |kind, rest| {
            count += u32::from(is_sync(kind, rest));
            if is_sync(kind, rest) && count >= number { Fault::Refuse(code) } else { Fault::None }
        });
    };
    for _ in 0..2 {
        // The second time it is there already.
        refuse_from(2, 4);
        fail(backend.put(&first, b"config"));
    }
    refuse_from(1, 4);
    fail(backend.make_durable(&[first]));
    fail(backend.delete(&first));
    // A server, or a file system, that cannot sync folders is as good as it gets.
    for code in [wire::STATUS_UNSUPPORTED, wire::STATUS_BAD_MESSAGE] {
        refuse_from(2, code);
        backend.put(&second, b"config").unwrap();
        refuse_from(2, code);
        assert_eq!(backend.put(&second, b"config").unwrap_err().kind(), ErrorKind::AlreadyExists);
        refuse_from(1, code);
        backend.make_durable(&[second]).unwrap();
        backend.delete(&second).unwrap();
    }
    // So is one that does not open folders; but one that does not open them for listing either is in trouble.
    let root = door.root();
    let of_folder = move |rest: &[u8]| Fields(rest).string().is_some_and(|path| root.join("config") == Path::new(OsStr::from_bytes(path)));
    let is_folder = of_folder.clone();
    door.meddle(move |kind, rest| if kind == wire::OPEN && is_folder(rest) { Fault::Refuse(4) } else { Fault::None });
    backend.put(&second, b"config").unwrap();
    door.meddle(
        move |kind, rest| if matches!(kind, wire::OPEN | wire::OPENDIR) && of_folder(rest) { Fault::Refuse(4) } else { Fault::None },
    );
    fail(backend.delete(&second));
}

#[test]
fn what_was_asked_of_a_connection_that_is_lost_is_asked_again() {
    let door = Door::open();
    let backend = door.backend();
    let name = ObjectName::config(1);
    let hang_up_once = |is_meant: fn(u8, &[u8]) -> bool| {
        let mut left = 1;
        door.meddle(move |kind, rest| {
            let is_meant = left > 0 && is_meant(kind, rest);
            left -= u32::from(is_meant);
            if is_meant { Fault::HangUp } else { Fault::None }
        });
    };
    backend.put(&name, b"config").unwrap();
    hang_up_once(is_sync);
    backend.make_durable(&[name]).unwrap();
    // Deleted by the first try, which had no answer.
    hang_up_once(|kind, _| kind == wire::REMOVE);
    backend.delete(&name).unwrap();
    hang_up_once(|_, _| false);
    assert_eq!(backend.delete(&name).unwrap_err().kind(), ErrorKind::NotFound);
    backend.put(&name, b"config").unwrap();
    hang_up_once(is_sync);
    backend.delete(&name).unwrap();
    // Nobody knows whether this one is durable.
    hang_up_once(is_sync);
    assert_eq!(backend.put(&name, b"config").unwrap_err().kind(), ErrorKind::Unavailable);
}

#[test]
fn a_root_that_is_gone_is_no_empty_repository_and_is_not_made_anew() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("disk/repository");
    let backend = backend(&root);
    backend.put(&ObjectName::config(1), b"config").unwrap();
    let mut late = backend.create(&ObjectName::config(2)).unwrap();
    late.write(b"late").unwrap();
    std::fs::rename(place.path().join("disk"), place.path().join("elsewhere")).unwrap();
    let unavailable = |result: crate::Result<()>| {
        let error = result.unwrap_err();
        assert!(error.kind() == ErrorKind::Unavailable && error.to_string().contains("unmounted"), "{error}");
    };
    unavailable(backend.list_sorted(ObjectKind::Config).map(drop));
    unavailable(backend.list_sorted(ObjectKind::Snapshot).map(drop));
    unavailable(late.finish());
    unavailable(backend.put(&ObjectName::config(2), b"config"));
    unavailable(backend.make_durable(&[ObjectName::config(1)]));
    assert!(!root.exists());
    // Others that come back with the disk are there.
    std::fs::rename(place.path().join("elsewhere"), place.path().join("disk")).unwrap();
    assert_eq!(backend.list_sorted(ObjectKind::Config).unwrap().len(), 1);
}

#[test]
fn a_server_that_hangs_is_given_up_and_its_program_ended() {
    let command: Vec<String> = ["sh", "-c", "printf '\\0\\0\\0\\5\\2\\0\\0\\0\\3'; exec sleep 1000"].map(str::to_owned).into();
    let executor = SystemExecutor::new(1);
    let connection = Connection::start(&command, &executor, Duration::from_millis(200)).unwrap().unwrap();
    // More than any pipe holds: nobody waits to be rid of it.
    let send = |_| connection.send(wire::WRITE, |packet| packet.string(&[0; wire::PIECE]));
    let tickets: Vec<_> = (0..200).map(send).collect();
    assert!(matches!(connection.wait(&tickets[0]), Err(Trouble::Lost(_))) && !connection.is_alive());
    assert!(matches!(connection.wait(&tickets[199]), Err(Trouble::Lost(_))));
    assert!(matches!(connection.wait(&send(0)), Err(Trouble::Lost(_))));
    // Neither does one come to be that does not even greet.
    let silent: Vec<String> = ["sleep", "1000"].map(str::to_owned).into();
    assert!(matches!(Connection::start(&silent, &executor, Duration::from_millis(20)).unwrap(), Err(Trouble::Lost(_))));
}

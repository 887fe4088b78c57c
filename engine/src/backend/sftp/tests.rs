use super::connection::{Connection, Trouble};
use super::wire;
use crate::backend::store::Remote;
use crate::backend::testing::contract;
use crate::backend::{Address, Backend, BackendExt, ObjectKind, ObjectName, StoreSettings, create, open, try_out};
use crate::error::ErrorKind;
use crate::runtime::{Runtime, SystemExecutor};
use std::ffi::OsStr;
use std::path::Path;
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
        let backend = super::SftpBackend::connect(&address, &settings()).unwrap();
        backend.require_empty().unwrap();
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
}

#[test]
fn a_connection_that_is_lost_is_made_anew() {
    let place = tempfile::tempdir().unwrap();
    let Address::Sftp(address) = address(place.path()) else { panic!() };
    let backend = super::SftpBackend::connect(&address, &settings()).unwrap();
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

//! Wrong keys, places that are no repository or no place to write to, and others at work.

use crate::home::{Home, PROGRAM, can, finish, noise};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

#[test]
fn a_wrong_key_or_passphrase_is_told_from_damage() {
    let home = Home::new();
    home.run(0, &["init", "-r", "other", "--new-key-file", "wrong"], &[]);
    home.run(12, &["snapshots", "--key-file", "wrong"], &["wrong", "key slot", "use another one"]);
    home.write("password", "not the one\n");
    home.run(12, &["snapshots", "--password-file", "password"], &["passphrase", "key slot", "use another one"]);
    home.run(0, &["init", "-r", "with-passphrase", "--password-file", "password"], &[]);
    home.write("password", "Not the one\n");
    let of_passphrase = ["snapshots", "-r", "with-passphrase", "--password-file", "password"];
    home.run(12, &of_passphrase, &["the passphrase is wrong", "with-passphrase", "use another one"]);
    home.write("empty", "");
    home.run(12, &["snapshots", "--key-file", "empty"], &["empty", "key file"]);
    home.run(2, &["snapshots", "--key-file", "s/large"], &["s/large", "no passphrase or key"]);
    home.run(12, &["snapshots", "--key-file", "absent"], &["absent", "No such file"]);
}

#[test]
fn what_is_no_repository_is_left_alone() {
    let home = Home::new();
    home.write("folder/file", "mine");
    for (place, word) in [("absent", "no such folder"), ("s/text", "no folder"), ("folder", "no repository")] {
        home.run(10, &["snapshots", "-r", place], &[place, word, "correct the path"]);
        home.run(10, &["backup", "s", "-r", place], &[place, word, "correct the path"]);
    }
    home.run(2, &["init", "-r", "folder", "--new-key-file", "k2"], &["folder", "`file`", "choose"]);
    assert_eq!(fs::read_dir(home.path("folder")).unwrap().count(), 1);
    // Other programs' repositories look so.
    for name in ["config", "keys/a", "data/00/b", "snapshots/c", "index/d"] {
        home.write(&format!("others/{name}"), "x");
    }
    home.run(10, &["snapshots", "-r", "others"], &["others", "no repository"]);
}

#[test]
fn what_somebody_else_put_there_is_named() {
    let home = Home::new();
    home.write("r/packs/note.txt", "mine");
    home.run(0, &["check"], &["packs/note.txt"]);
    let pack = home.only("meta");
    home.set(&pack, None);
    fs::create_dir(home.path("r").join(&pack)).unwrap();
    home.run(14, &["check"], &["snapshots/"]);
    home.run(14, &["restore", "latest", "--target", "t"], &["check"]);
}

/// Runs as somebody who is not root, as whom nothing is forbidden.
fn as_nobody(home: &Home, arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", PROGRAM]).args(arguments).arg("--no-cache");
    command.env_clear().env("HOME", "/nonexistent").env("PATH", "/usr/bin:/bin").current_dir(home.path(""));
    command.env("ICECORE_REPOSITORY", home.path("r")).env("ICECORE_KEY_FILE", home.path("k"));
    finish(&mut command)
}

fn open_to_all(path: &std::path::Path) {
    let mode = if path.is_dir() { 0o755 } else { 0o644 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| open_to_all(&entry.unwrap().path()));
    }
}

#[test]
fn without_permission_it_is_said_what_to_change() {
    let home = Home::new();
    let is_root = rustix::process::geteuid().is_root();
    let has_setpriv = Command::new("setpriv").arg("--version").output().is_ok();
    // Whoever is somebody else must get to the program as well.
    let reachable = fs::metadata(PROGRAM).is_ok() && finish_as_nobody_works();
    if !can("running as another user", is_root && has_setpriv && reachable) {
        return;
    }
    open_to_all(&home.path(""));
    let (code, said) = as_nobody(&home, &["snapshots"]);
    assert_eq!(code, 0, "{said}");
    for arguments in [&["backup", "s"][..], &["gc"]] {
        let (code, said) = as_nobody(&home, arguments);
        assert!(code == 1 && said.contains("make it writable") && said.contains("sessions/"), "{code}: {said}");
    }
    fs::create_dir(home.path("t")).unwrap();
    fs::set_permissions(home.path("t"), fs::Permissions::from_mode(0o777)).unwrap();
    let (code, said) = as_nobody(&home, &["restore", "latest", "--target", "t/in"]);
    assert!(code == 3 || code == 0, "{said}");
    assert!(said.contains("without a session"), "{said}");
    assert_eq!(home.restored("t/in"), 42);
    let (code, said) = as_nobody(&home, &["restore", "latest", "--target", "elsewhere"]);
    assert!(code == 1 && said.contains("elsewhere"), "{code}: {said}");
    let pack = home.only("packs");
    fs::set_permissions(home.path("r").join(&pack), fs::Permissions::from_mode(0o000)).unwrap();
    let (code, said) = as_nobody(&home, &["restore", "latest", "--target", "t/again"]);
    assert!(code == 14 && said.contains(&pack) && said.contains("may not read it"), "{code}: {said}");
    let (code, said) = as_nobody(&home, &["scrub"]);
    assert!(code == 14 && said.contains(&pack) && said.contains("may not read it"), "{code}: {said}");
}

fn finish_as_nobody_works() -> bool {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", PROGRAM, "version"]);
    command.output().is_ok_and(|output| output.status.success())
}

#[test]
fn two_writers_at_once_are_both_right() {
    let home = Home::new();
    home.write("s2/other", noise(500, 2 << 20));
    let spawn = |folder: &str| home.command(&["backup", folder]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = ["s", "s2", "s", "s2"].into_iter().map(spawn).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    home.run(0, &["scrub"], &["5 snapshots"]);
}

/// Runs the program with calls of the system that fail, all of them or those on one path.
fn with_faults(home: &Home, path: &str, faults: &[&str], arguments: &[&str]) -> (i32, String) {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]);
    if !path.is_empty() {
        command.args(["-P", path]);
    }
    command.args(faults.iter().map(|fault| format!("--inject={fault}")));
    command.arg(PROGRAM).args(arguments).arg("--no-cache").env_clear().current_dir(home.path(""));
    command.env("HOME", home.path("")).env("ICECORE_REPOSITORY", home.path("r")).env("PATH", "/usr/bin:/bin");
    if arguments[0] != "init" {
        command.env("ICECORE_KEY_FILE", home.path("k"));
    }
    finish(&mut command)
}

fn can_inject() -> bool {
    let tried = Command::new("strace").args(["-qq", "-o", "/dev/null", "-e", "inject=linkat:error=EPERM", "true"]).output();
    can("failing calls of the system (strace)", tried.is_ok_and(|output| output.status.success()))
}

#[test]
fn a_file_system_without_hard_links_does_and_one_without_either_is_refused() {
    if !can_inject() {
        return;
    }
    for error in ["EPERM", "EOPNOTSUPP", "ENOSYS"] {
        let home = Home::new();
        let no_links = format!("linkat:error={error}");
        let (code, said) = with_faults(&home, "", &[&no_links], &["backup", "s"]);
        assert_eq!(code, 0, "{error}: {said}");
        home.run(0, &["scrub"], &["2 snapshots"]);
        for without in ["EINVAL", "ENOSYS"] {
            let neither = [no_links.as_str(), &format!("renameat2:error={without}")];
            let objects = home.objects();
            let (code, said) = with_faults(&home, "", &neither, &["backup", "s"]);
            assert!(code == 1 && said.contains("neither link a file nor rename it") && said.contains("another one"), "{code}: {said}");
            assert_eq!(home.objects(), objects);
            let (code, said) = with_faults(&home, "", &neither, &["init", "-r", &format!("new-{without}"), "--new-key-file", "k2"]);
            assert!(code == 1 && said.contains("neither link a file nor rename it"), "{code}: {said}");
            let _ = fs::remove_file(home.path("k2"));
        }
    }
}

#[test]
fn errors_of_a_disk_and_of_a_network_file_system_say_what_to_do() {
    if !can_inject() {
        return;
    }
    let home = Home::new();
    let (pack, snapshot) = (home.path("r").join(home.only("packs")), home.path("r").join(home.only("snapshots")));
    let (pack, snapshot) = (pack.to_str().unwrap(), snapshot.to_str().unwrap());
    for (code, path, fault, command, words) in [
        (14, pack, "pread64:error=EIO", &["scrub"][..], ["the disk could not do it", "copy the repository"]),
        (14, pack, "pread64:error=EIO", &["restore", "latest", "--target", "t"], ["the disk could not do it", "copy the repository"]),
        (3, snapshot, "pread64:error=ESTALE", &["snapshots"], ["lost track of it", "mount the repository anew"]),
        (1, "", "fsync:error=EIO", &["backup", "s"], ["the disk could not do it", "config: "]),
        (1, "", "fsync:error=EDQUOT", &["backup", "s"], ["quota", "free some space"]),
    ] {
        let (found, said) = with_faults(&home, path, &[fault], command);
        assert!(found == code && words.iter().all(|word| said.contains(word)), "{fault}: {code}: {said}");
    }
    home.run(0, &["scrub"], &["no damage found"]);
}

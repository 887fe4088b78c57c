//! Where a restore can go: onto what is there, onto devices, into archives that other programs read; and a restore that is killed.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use rustix::fs::{XattrFlags, setxattr};
use rustix::process::geteuid;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, UNIX_EPOCH};

const PROGRAM: &str = env!("CARGO_BIN_EXE_icecore");

/// A folder with a repository `r` and its key file `k`.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        let mut made = Command::new(PROGRAM);
        succeed(made.args(["init", "-r", "r", "--new-key-file", "k"]).env("HOME", home.0.path()).current_dir(home.0.path()));
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn icecore(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).args(["-r", "r", "--key-file", "k"]);
        command.env_clear().env("HOME", self.0.path()).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    /// Runs it; the JSON lines, if it was asked for them.
    #[track_caller]
    fn run(&self, code: i32, arguments: &[&str]) -> (Vec<Value>, String) {
        let Output { status, stdout, stderr } = self.icecore(arguments).output().unwrap();
        let (stdout, stderr) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        assert_eq!(status.code(), Some(code), "{arguments:?}\n{stdout}{stderr}");
        (stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect(), stdout + &stderr)
    }
}

#[track_caller]
fn succeed(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Bytes that depend on `seed` and do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = (0..length.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(length).collect()
}

fn changes(lines: &[Value], change: &str) -> Vec<String> {
    let of_kind = lines.iter().filter(|line| line["message_type"] == "change" && line["change"] == change);
    let mut items: Vec<_> = of_kind.map(|line| line["item"].as_str().unwrap().to_owned()).collect();
    items.sort();
    items
}

#[test]
fn going_back_in_place_is_planned_then_done_and_the_repository_stays() {
    let home = Home::new();
    for name in ["data/a", "data/b/c", "data/b/d"] {
        home.write(name, name);
    }
    home.run(0, &["backup", "data"]);
    home.write("data/b/c", "data/X/c");
    home.write("data/new/er", "new");
    fs::remove_file(home.path("data/a")).unwrap();
    symlink("/", home.path("data/b/link")).unwrap();
    // The home folder is the target: the repository and its key stand in it.
    let dry = ["restore", "latest", "--target", ".", "--delete", "--dry-run"];
    let (lines, _) = home.run(0, &[&dry[..], &["--json"]].concat());
    assert_eq!(changes(&lines, "created"), ["data/a"]);
    assert_eq!(changes(&lines, "deleted"), ["data/b/link", "data/new", "data/new/er"]);
    assert!(changes(&lines, "changed").contains(&"data/b/c".to_owned()));
    let summary = lines.last().unwrap();
    assert_eq!((summary["items_deleted"].as_u64(), summary["plan"]["created"].as_u64()), (Some(3), Some(1)));
    assert_eq!(summary["bytes_written"].as_u64(), Some(14));
    let (_, told) = home.run(0, &dry);
    assert!(told.contains("delete  data/new/er") && !told.contains("create  data/a") && told.contains("r is not deleted"), "{told}");
    let (_, told) = home.run(0, &[&dry[..], &["-v"]].concat());
    assert!(told.contains("create  data/a") && told.contains("change  data/b/c"), "{told}");
    assert!(home.path("data/new/er").exists());

    let (lines, _) = home.run(0, &["restore", "latest", "--target", ".", "--delete", "--verify", "--json"]);
    assert_eq!(changes(&lines, "deleted"), ["data/b/link", "data/new", "data/new/er"]);
    assert_eq!(fs::read(home.path("data/b/c")).unwrap(), b"data/b/c");
    assert!(!home.path("data/new").exists() && home.path("data/a").exists());
    home.run(0, &["check"]);
    for wrong in [&["--stdout", "--delete"][..], &["--tar", "--verify"], &["--target", "t", "--force"], &["--target", "t", "--output", "f"]]
    {
        home.run(2, &[&["restore", "latest"], wrong].concat());
    }
}

/// Everything below a folder, read by `stat`, for a comparison of two folders.
fn describe(folder: &Path) -> Vec<String> {
    let mut todo = vec![folder.to_owned()];
    let mut found = Vec::new();
    while let Some(path) = todo.pop() {
        let stat = path.symlink_metadata().unwrap();
        let content = match stat.file_type() {
            kind if kind.is_dir() => {
                todo.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                String::new()
            }
            kind if kind.is_symlink() => format!("{:?}", path.read_link().unwrap()),
            kind if kind.is_file() => {
                let bytes = fs::read(&path).unwrap();
                let sum = bytes.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
                format!("{} {sum:x}, sparse {}", bytes.len(), stat.blocks() * 512 < stat.size())
            }
            _ => format!("{:x}", stat.rdev()),
        };
        let times = (stat.mtime(), stat.mtime_nsec());
        let links = if stat.is_dir() { 0 } else { stat.nlink() };
        let name = path.strip_prefix(folder).unwrap();
        found.push(format!("{name:?} {:o} {}:{} {links} {times:?} {content} {:?}", stat.mode(), stat.uid(), stat.gid(), attributes(&path)));
    }
    found.sort();
    found
}

fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 65_536];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice()).unwrap_or(0);
    let mut found: Vec<_> = names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 65_536];
            let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap_or(0);
            (String::from_utf8_lossy(name).into_owned(), value[..length].to_vec())
        })
        .collect();
    found.sort();
    found
}

/// An ACL: owner rw, user 65534 r, group r, mask r, others none; as Linux stores it.
fn acl() -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in [(1_u16, 6_u16, u32::MAX), (2, 4, 65_534), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)] {
        bytes.extend([&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    bytes
}

fn set_time(path: &Path, seconds: i64, nanoseconds: u32) {
    let time = match u64::try_from(seconds) {
        Ok(seconds) => UNIX_EPOCH + Duration::new(seconds, nanoseconds),
        Err(_) => UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()) + Duration::new(0, nanoseconds),
    };
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}

/// One of each thing that an archive holds; what needs root only where we are.
fn fill_for_archive(home: &Home) -> PathBuf {
    let root = home.path("source");
    let long = format!("source/{}/{}", "long".repeat(40), "er".repeat(120));
    home.write(&long, "long path");
    home.write("source/text", "some text\n".repeat(10_000));
    home.write("source/empty", "");
    home.write("source/new\nline", "x");
    home.write("source/folder/large", noise(1, 3 << 20));
    fs::write(root.join(OsStr::from_bytes(b"latin \xe9")), b"bytes").unwrap();
    let mut long_bytes = b"latin \xe9 ".to_vec();
    long_bytes.resize(250, 0xe9);
    fs::write(root.join(OsStr::from_bytes(&long_bytes)), b"more bytes").unwrap();
    fs::hard_link(root.join("text"), root.join("folder/zz other name")).unwrap();
    symlink("text", root.join("link")).unwrap();
    symlink("x".repeat(300), root.join("long link")).unwrap();
    fs::create_dir(root.join("empty folder")).unwrap();
    for (name, parts, size) in [
        ("hole at end", &[0_u64, 1 << 20][..], 4 << 20),
        ("only holes", &[], 1 << 20),
        ("folder/hole first", &[2 << 20], (2 << 20) + 70_000),
    ] {
        let file = fs::File::create(root.join(name)).unwrap();
        file.set_len(size).unwrap();
        parts.iter().for_each(|offset| file.write_all_at(&noise(*offset, 70_000), *offset).unwrap());
    }
    rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), rustix::fs::FileType::Fifo, 0o640.into(), 0).unwrap();
    for (name, value) in [("user.plain", &b"value"[..]), ("user.od=d%", b"a\0b\xff\n"), ("system.posix_acl_access", &acl())] {
        setxattr(root.join("text"), name, value, XattrFlags::empty()).unwrap();
    }
    setxattr(root.join("folder"), "system.posix_acl_default", &acl(), XattrFlags::empty()).unwrap();
    if geteuid().is_root() {
        for (name, kind, device) in
            [("null", rustix::fs::FileType::CharacterDevice, (1, 3)), ("disk", rustix::fs::FileType::BlockDevice, (259, 70_000))]
        {
            rustix::fs::mknodat(rustix::fs::CWD, root.join(name), kind, 0o600.into(), rustix::fs::makedev(device.0, device.1)).unwrap();
        }
        std::os::unix::fs::chown(root.join("empty"), Some(3_000_000_000), Some(2_100_000)).unwrap();
        let mut capability = vec![0; 20];
        capability[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
        capability[4..8].copy_from_slice(&(1_u32 << 13).to_le_bytes());
        setxattr(root.join("hole at end"), "security.capability", &capability, XattrFlags::empty()).unwrap();
    }
    fs::set_permissions(root.join("new\nline"), fs::Permissions::from_mode(0o6751)).unwrap();
    fs::set_permissions(root.join("empty folder"), fs::Permissions::from_mode(0o1777)).unwrap();
    set_time(&root.join("new\nline"), -86_401, 750_000_000);
    set_time(&root.join("only holes"), 12_000_000_000, 1);
    set_time(&root.join("empty folder"), 1_000_000_000, 123_456_789);
    root
}

#[test]
fn archives_are_read_by_other_programs() {
    let home = Home::new();
    let root = fill_for_archive(&home);
    home.run(0, &["backup", "source"]);
    let (lines, _) = home.run(0, &["restore", "latest", "--tar", "--output", "a.tar", "--path", "source", "--json"]);
    assert_eq!(lines.last().unwrap()["items_failed"].as_u64(), Some(0));
    let piped = succeed(&mut home.icecore(&["restore", "latest", "--tar", "--path", "source"]));
    assert!(piped == fs::read(home.path("a.tar")).unwrap() && piped.len().is_multiple_of(10_240) && piped.len() < 5 << 20);

    // GNU tar brings back everything there is.
    fs::create_dir(home.path("gnu")).unwrap();
    let mut gnu = Command::new("tar");
    gnu.args(["-xpf", "a.tar", "-C", "gnu", "--xattrs", "--xattrs-include=*", "--acls"])
        .current_dir(home.path(""))
        .env("LC_ALL", "C.UTF-8");
    if geteuid().is_root() {
        gnu.args(["--same-owner", "--numeric-owner"]);
    }
    succeed(&mut gnu);
    assert_eq!(describe(&home.path("gnu/source")), describe(&root));
    let listed = String::from_utf8(succeed(Command::new("tar").args(["-tvf"]).arg(home.path("a.tar")).env("LC_ALL", "C.UTF-8"))).unwrap();
    assert!(listed.lines().any(|line| line.contains("4194304") && line.ends_with("source/hole at end")), "{listed}");

    // Python's reader shares no code with it.
    let script = r#"
import os, sys, tarfile
with tarfile.open("a.tar", encoding="utf-8", errors="surrogateescape") as archive:
    members = {os.fsencode(member.name): member for member in archive.getmembers()}
    def content(name):
        return archive.extractfile(members[os.fsencode(name)]).read()
    for folder, folders, files in os.walk("source"):
        for name in files + folders:
            path = os.path.join(folder, name)
            found, stat = members.pop(os.fsencode(path)), os.lstat(path)
            assert found.mode == stat.st_mode & 0o7777 or found.islnk(), path
            assert (found.uid, found.gid) == (stat.st_uid, stat.st_gid) or found.islnk(), path
            assert abs(found.mtime - stat.st_mtime) < 1e-5 or found.islnk(), path
            if found.isfile():
                assert archive.extractfile(found).read() == open(path, "rb").read(), path
            elif found.issym():
                assert found.linkname == os.readlink(path), path
            elif found.islnk():
                assert os.path.samefile(found.linkname, path), path
            elif found.ischr() or found.isblk():
                assert os.makedev(found.devmajor, found.devminor) == stat.st_rdev, path
            headers = found.pax_headers
            # Two names of one file; the first has the attributes.
            if name in ("text", "zz other name") and not found.islnk():
                assert headers["SCHILY.xattr.user.plain"] == "value"
                assert headers["SCHILY.xattr.user.od%3Dd%25"].encode("utf-8", "surrogateescape") == b"a\0b\xff\n"
                assert headers["SCHILY.acl.access"] == "user::rw-,user:65534:r--,group::r--,mask::r--,other::---"
            assert len(os.fsencode(name)) < 250 or headers["hdrcharset"] == "BINARY"
    assert list(members) == [b"source"], members
"#;
    succeed(Command::new("python3").args(["-c", script]).current_dir(home.path("")));

    // A part; what an archive cannot hold; and a file that cannot be written.
    let part = succeed(&mut home.icecore(&["restore", "latest", "--tar", "--path", "source/folder"]));
    fs::write(home.path("part.tar"), part).unwrap();
    let names = String::from_utf8(succeed(Command::new("tar").arg("-tf").arg(home.path("part.tar")))).unwrap();
    assert!(names.lines().all(|name| name.starts_with("source/folder/")) && names.lines().count() == 4, "{names}");
    std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
    home.run(0, &["backup", "source"]);
    let (lines, _) = home.run(3, &["restore", "latest", "--tar", "--output", "b.tar", "--json"]);
    assert!(lines.iter().any(|line| line["message_type"] == "item_failed" && line["item"] == "source/socket"));
    home.run(1, &["restore", "latest", "--tar", "--output", "no/such/folder"]);
}

#[test]
fn an_archive_that_is_there_stays_until_the_new_one_is_whole() {
    let home = Home::new();
    home.write("source/file", noise(1, 1 << 20));
    home.run(0, &["backup", "source"]);
    home.write("old.tar", b"the only one");
    fs::set_permissions(home.path("old.tar"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("old.tar", home.path("link.tar")).unwrap();
    let names = || {
        let mut names: Vec<_> = fs::read_dir(home.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    for wrong in ["old.tar", "link.tar", "new.tar"] {
        home.run(1, &["restore", "latest", "--tar", "--output", wrong, "--path", "source/not there"]);
    }
    assert_eq!((fs::read(home.path("old.tar")).unwrap(), names()), (b"the only one".to_vec(), before.clone()));
    home.run(0, &["restore", "latest", "--tar", "--output", "link.tar"]);
    assert_eq!(home.path("old.tar").metadata().unwrap().permissions().mode() & 0o777, 0o640);
    assert!(fs::read(home.path("old.tar")).unwrap().len() > 1 << 20 && names() == before);
    home.run(0, &["restore", "latest", "--tar", "--output", "/dev/null"]);
    assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
}

#[test]
fn an_image_is_restored_in_place() {
    let home = Home::new();
    let size = 24 << 20;
    home.write("image", noise(1, 5 << 20));
    let image = fs::File::options().write(true).open(home.path("image")).unwrap();
    image.set_len(size).unwrap();
    image.write_all_at(&noise(2, 3 << 20), 15 << 20).unwrap();
    home.run(0, &["backup", "image"]);
    let wanted = fs::read(home.path("image")).unwrap();

    home.write("other", noise(3, 20 << 20));
    let onto = |name: &str, more: &[&str]| {
        let (lines, _) = home.run(0, &[&["restore", "latest", "--path", "image", "--json", "--onto", name], more].concat());
        ["bytes_written", "bytes_unchanged", "packs_read"].map(|field| lines.last().unwrap()[field].as_u64().unwrap())
    };
    let planned = onto("other", &["--dry-run"]);
    assert_eq!(fs::read(home.path("other")).unwrap(), noise(3, 20 << 20));
    assert!(planned[0] >= 8 << 20 && planned[2] == 0, "{planned:?}");
    onto("other", &["--verify"]);
    assert!(fs::read(home.path("other")).unwrap() == wanted);
    assert!(home.path("other").metadata().unwrap().blocks() * 512 < 9 << 20, "holes take no space");
    assert_eq!(onto("other", &["--verify"]), [0, size, 0], "nothing is fetched for what is there");
    let other = fs::File::options().write(true).open(home.path("other")).unwrap();
    other.write_all_at(b"!", 1 << 20).unwrap();
    other.write_all_at(b"!", 10 << 20).unwrap();
    let [written, ..] = onto("other", &[]);
    assert!((2..2 << 20).contains(&written) && fs::read(home.path("other")).unwrap() == wanted, "{written}");

    let (_, told) = home.run(1, &["restore", "latest", "--path", "image", "--onto", "missing"]);
    assert!(told.contains("truncate"), "{told}");
    assert!(!home.path("missing").exists());
    home.run(2, &["restore", "latest", "--path", "image", "--onto", "r"]);
}

/// A loop device, let go of when dropped; `None`, said aloud, where this machine has none to give.
struct Loop(String);

impl Loop {
    fn new(file: &Path) -> Option<Self> {
        let made = Command::new("losetup").args(["--find", "--show"]).arg(file).output();
        match made {
            Ok(made) if made.status.success() => Some(Self(String::from_utf8(made.stdout).unwrap().trim().to_owned())),
            other => {
                eprintln!("SKIPPED: no loop device can be made here: {other:?}");
                None
            }
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

#[test]
fn a_device_is_restored_in_place_unless_it_is_in_use() {
    let home = Home::new();
    home.write("image", noise(1, 4 << 20));
    fs::File::options().write(true).open(home.path("image")).unwrap().set_len(12 << 20).unwrap();
    home.run(0, &["backup", "image"]);
    home.write("behind", noise(2, 16 << 20));
    let Some(device) = Loop::new(&home.path("behind")) else { return };
    let onto = ["restore", "latest", "--path", "image", "--verify", "--onto"];
    let (_, told) = home.run(0, &[&onto[..], &[&device.0]].concat());
    assert!(told.contains("4194304 bytes more"), "{told}");
    let bytes = fs::read(&device.0).unwrap();
    assert!(bytes[..12 << 20] == fs::read(home.path("image")).unwrap() && bytes[12 << 20..] == noise(2, 16 << 20)[12 << 20..]);
    // The file behind it is in use as well.
    let (_, told) = home.run(1, &[&onto[..], &["behind"]].concat());
    assert!(told.contains("in use"), "{told}");

    home.write("small", noise(3, 2 << 20));
    let Some(small) = Loop::new(&home.path("small")) else { return };
    let (_, told) = home.run(2, &[&onto[..], &[&small.0]].concat());
    assert!(told.contains("too small") && told.contains("12582912"), "{told}");
    assert!(fs::read(&small.0).unwrap() == noise(3, 2 << 20));

    fs::create_dir(home.path("mounted")).unwrap();
    succeed(Command::new("mke2fs").args(["-q", "-F", &device.0]));
    let mounted = Command::new("mount").args([&device.0, home.path("mounted").to_str().unwrap()]).output();
    if !mounted.as_ref().is_ok_and(|mounted| mounted.status.success()) {
        eprintln!("SKIPPED: nothing can be mounted here: {mounted:?}");
        return;
    }
    let refused = home.icecore(&[&onto[..], &[&device.0]].concat()).output().unwrap();
    succeed(Command::new("umount").arg(home.path("mounted")));
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("in use"));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "when a process is killed decides nothing that is tested")]
fn a_killed_restore_goes_on_and_ends_the_same() {
    let home = Home::new();
    for n in 0..400_u64 {
        home.write(&format!("source/{}/{n}", n % 7), noise(n, (n as usize * 977) % 60_000));
    }
    home.write("source/large", noise(1000, 24 << 20));
    fs::hard_link(home.path("source/large"), home.path("source/zz")).unwrap();
    let sparse = fs::File::create(home.path("source/sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    sparse.write_all_at(&noise(7, 100_000), 4 << 20).unwrap();
    fs::set_permissions(home.path("source/3"), fs::Permissions::from_mode(0o550)).unwrap();
    home.run(0, &["backup", "source"]);
    let wanted = describe(&home.path("source"));
    let whole = std::time::Instant::now();
    home.run(0, &["restore", "latest", "--target", "first"]);
    let whole = whole.elapsed();

    let mut seed = 11_u64;
    for round in 0..8 {
        let target = format!("target{}", round / 4);
        for arguments in
            [&["restore", "latest", "--target", &target][..], &["restore", "latest", "--path", "source/large", "--target", &target]]
        {
            let mut killed = home.icecore(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(whole.mul_f64((seed >> 40) as f64 / f64::from(1 << 24)));
            killed.kill().unwrap();
            killed.wait().unwrap();
        }
        if round % 4 == 3 {
            let (lines, _) = home.run(0, &["restore", "latest", "--target", &target, "--verify", "--json"]);
            assert_eq!(lines.last().unwrap()["items_failed"].as_u64(), Some(0));
            // No name is left that is not in the snapshot.
            assert_eq!(describe(&home.path(&target).join("source")), wanted);
            assert_eq!(fs::read_dir(home.path(&target)).unwrap().count(), 1);
        }
    }
    // What was there is not fetched again, the file with two names included.
    let (lines, _) = home.run(0, &["restore", "latest", "--target", "first", "--json"]);
    let summary = lines.last().unwrap();
    assert_eq!(summary["bytes_written"].as_u64(), Some(0));
}

#[test]
fn owners_are_restored_by_name_unless_asked_otherwise() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root restores owners");
        return;
    }
    let home = Home::new();
    home.write("source/file", "x");
    std::os::unix::fs::chown(home.path("source/file"), Some(65_534), Some(65_534)).unwrap();
    home.run(0, &["backup", "source"]);
    // Another machine: one whose nobody has another number.
    let elsewhere = |list: &str, number: &str| {
        let text = fs::read_to_string(list).unwrap();
        text.lines().map(|line| line.replace(":65534:", number) + "\n").collect::<String>()
    };
    home.write("passwd", elsewhere("/etc/passwd", ":4711:"));
    home.write("group", elsewhere("/etc/group", ":4712:"));
    for (options, wanted) in [("", (4711, 4712)), ("--numeric-owner", (65_534, 65_534))] {
        let script = format!(
            "mount --bind passwd /etc/passwd && mount --bind group /etc/group && exec {PROGRAM} restore latest --target target{options} {options} -r r --key-file k"
        );
        let run =
            Command::new("unshare").args(["--mount", "sh", "-c", &script]).current_dir(home.path("")).env("HOME", home.path("")).output();
        if !run.as_ref().is_ok_and(|run| run.status.success()) {
            eprintln!("SKIPPED: no other machine can be played here: {run:?}");
            return;
        }
        let stat = home.path(&format!("target{options}/source/file")).metadata().unwrap();
        assert_eq!((stat.uid(), stat.gid()), wanted, "{options}");
    }
}

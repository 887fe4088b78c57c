//! `--tar`, with archives that GNU tar makes.

use crate::home::{Home, Run, finish, noise};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat, setxattr};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::{Duration, UNIX_EPOCH};

/// Runs `tar` in the home folder.
#[track_caller]
fn tar(home: &Home, arguments: &[&str]) {
    let output = Command::new("tar").args(arguments).current_dir(home.0.path()).output().unwrap();
    assert!(output.status.success(), "tar {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn has_tar() -> bool {
    let found = Command::new("tar").arg("--version").output().is_ok_and(|output| output.stdout.starts_with(b"tar (GNU tar)"));
    if !found {
        eprintln!("!!! SKIPPED: GNU tar is not installed, so --tar was not tested with it");
    }
    found
}

/// A folder `tree` with a bit of everything; true where it has extended attributes too.
fn make_tree(home: &Home) -> bool {
    let long = format!("tree/{}/{}", "d".repeat(120), "n".repeat(200));
    for (name, content) in [
        ("tree/a.file", b"small".to_vec()),
        ("tree/a/inner", noise(1, 70_000)),
        ("tree/large", noise(2, 3 << 20)),
        ("tree/empty", Vec::new()),
        ("tree/odd \u{e9}\nname", b"odd".to_vec()),
        (&long, b"long".to_vec()),
    ] {
        home.write(name, content);
    }
    fs::create_dir(home.path("tree/empty folder")).unwrap();
    fs::set_permissions(home.path("tree/a"), PermissionsExt::from_mode(0o1750)).unwrap();
    fs::set_permissions(home.path("tree/a.file"), PermissionsExt::from_mode(0o4711)).unwrap();
    fs::hard_link(home.path("tree/large"), home.path("tree/a/again")).unwrap();
    fs::hard_link(home.path("tree/large"), home.path("tree/zzz")).unwrap();
    symlink("t".repeat(300), home.path("tree/link")).unwrap();
    mknodat(CWD, home.path("tree/fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    if rustix::process::geteuid().is_root() {
        mknodat(CWD, home.path("tree/device"), FileType::CharacterDevice, Mode::RUSR, makedev(1, 3)).unwrap();
        std::os::unix::fs::chown(home.path("tree/empty"), Some(3_000_000), Some(70_000)).unwrap();
    }
    let sparse = File::create(home.path("tree/sparse")).unwrap();
    for block in [0, 3, 9] {
        sparse.write_all_at(&noise(block, 65_536), (block + 1) * 131_072).unwrap();
    }
    sparse.set_len(5_000_000).unwrap();
    sparse.set_modified(UNIX_EPOCH + Duration::new(1_600_000_000, 123_456_789)).unwrap();
    setxattr(home.path("tree/a.file"), "user.key", b"a\0=\n", XattrFlags::empty()).is_ok()
}

/// Everything that the newest snapshot says.
fn entries(home: &Home) -> Vec<Value> {
    let listed = home.run(0, &["ls", "latest", "-R", "--json"]).stdout;
    let mut lines: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.pop();
    lines
}

#[test]
fn an_archive_becomes_the_snapshot_that_its_files_would_be() {
    if !has_tar() {
        return;
    }
    let home = Home::new();
    let has_xattrs = make_tree(&home);
    home.run(0, &["backup", "tree"]);
    let direct = entries(&home);
    for (format, more) in [
        ("pax", &["--xattrs", "--xattrs-include=*", "--sparse", "--sparse-version=1.0"][..]),
        ("pax", &["--sparse", "--sparse-version=0.1"]),
        ("pax", &["--sparse", "--sparse-version=0.0", "--no-xattrs"]),
        ("gnu", &["--sparse"]),
        ("gnu", &[]),
    ] {
        let format_option = format!("--format={format}");
        tar(&home, &[&["-cf", "made.tar", &format_option][..], more, &["tree"]].concat());
        let summary = home.run(0, &["backup", "--tar", "made.tar", "--json"]).last("summary");
        assert_eq!(summary["files_failed"], 0);
        // The root is no folder on disk in both, and what a format cannot say is not compared.
        let same = |entry: &Value| {
            let mut entry = entry.clone();
            let fields = entry.as_object_mut().unwrap();
            fields.retain(|name, _| !name.starts_with("inode_flags"));
            if format != "pax" {
                fields.retain(|name, _| name != "modified" && name != "mtime");
            }
            if !more.contains(&"--xattrs") {
                fields.retain(|name, _| name != "xattrs");
            }
            entry
        };
        let (direct, from_tar): (Vec<_>, Vec<_>) = (direct.iter().map(same).collect(), entries(&home).iter().map(same).collect());
        assert_eq!(direct, from_tar, "{format} {more:?}");
    }
    if !has_xattrs {
        eprintln!("skipped in part: the file system of the temporary folder takes no extended attributes");
    }
    // All content was there already, except where holes were stored as zeros.
    let again = home.run(0, &["backup", "--tar", "made.tar", "--json"]).last("summary");
    assert_eq!((&again["bytes_unique"], &again["files_new"], &again["files_changed"]), (&0.into(), &0.into(), &0.into()));

    tar(&home, &["-cf", "made.tar", "--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "tree"]);
    home.run(0, &["backup", "--tar", "made.tar"]);
    home.run(0, &["restore", "latest", "--target", "back"]);
    assert!(
        Command::new("diff")
            .args(["-r", "--no-dereference", "tree", "back/tree", "--exclude=fifo", "--exclude=device"])
            .current_dir(home.0.path())
            .status()
            .unwrap()
            .success()
    );
    let (sparse, back) = (home.path("tree/sparse").metadata().unwrap(), home.path("back/tree/sparse").metadata().unwrap());
    assert_eq!((sparse.mtime(), sparse.mtime_nsec()), (back.mtime(), back.mtime_nsec()));
    assert!(back.blocks() <= sparse.blocks().max(1024), "holes came back as zeros: {} of {}", back.blocks(), sparse.blocks());
    home.run(0, &["check"]);
    home.run(0, &["scrub"]);
}

#[test]
fn an_archive_comes_from_a_pipe_and_from_a_program_too() {
    if !has_tar() {
        return;
    }
    let home = Home::new();
    home.write("d/x", "1");
    home.write("d/y", noise(5, 2 << 20));
    let feed = |code, input: &[u8]| home.feed(code, &["backup", "--stdin", "--tar", "--name", "archive", "--json"], input);
    tar(&home, &["-cf", "a.tar", "d"]);
    let bytes = fs::read(home.path("a.tar")).unwrap();
    assert_eq!(feed(0, &bytes).last("summary")["files_new"], 2);
    assert_eq!(home.listed(), ["./", "d/", "d/x", "d/y"]);
    home.run(0, &["backup", "--exec", "--tar", "--name", "archive", "--", "tar", "-c", "d"]);
    assert!(home.cat("d/y") == noise(5, 2 << 20));

    let before = home.snapshots();
    let failed = |run: Run| run.last("exit_error")["message"].as_str().unwrap().to_owned();
    assert!(failed(feed(1, &bytes[..1 << 20])).contains("ends early"));
    assert!(failed(feed(1, b"no archive")).contains("tar stream"));
    let exec = ["backup", "--json", "--exec", "--tar", "--name", "n", "--", "sh", "-c"];
    assert!(failed(home.run(1, &[&exec[..], &["tar -c d; exit 3"]].concat())).contains("exit code 3"));
    home.run(1, &["backup", "--tar", "nowhere.tar"]);
    home.run(2, &["backup", "--tar", "a.tar", "d"]);
    home.run(2, &["backup", "--tar", "a.tar", "--exclude", "*.o"]);
    assert_eq!(home.snapshots(), before);
}

#[test]
fn hostile_members_are_named_and_skipped() {
    if !has_tar() {
        return;
    }
    let home = Home::new();
    home.write("d/good", "good");
    home.write("d/sub/f", "first");
    symlink("/etc", home.path("d/escape")).unwrap();
    tar(&home, &["-cf", "a.tar", "d"]);
    // The same name again, names that lead elsewhere, and something below a link.
    home.write("d/sub/f", "second");
    tar(&home, &["-rf", "a.tar", "d/sub/f"]);
    for name in ["/absolute", "../up", "d/../../up", "d/escape/passwd"] {
        tar(&home, &["-rPf", "a.tar", "--transform", &format!("flags=r;s,^d/good$,{name},"), "d/good"]);
    }
    let said = home.run(3, &["backup", "--tar", "a.tar"]);
    for name in ["/absolute", "../up", "d/../../up", "d/escape/passwd"] {
        assert!(said.stderr.contains(&format!("warning: {name}: ")), "{name}: {}", said.stderr);
    }
    assert_eq!(home.listed(), ["./", "d/", "d/escape", "d/good", "d/sub/", "d/sub/f"]);
    assert_eq!(home.cat("d/sub/f"), b"second");
    home.run(0, &["restore", "latest", "--target", "back"]);
    home.run(0, &["check"]);
    // An archive without its end mark may have lost members.
    let bytes = fs::read(home.path("a.tar")).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(512);
    let cut = File::create(home.path("cut.tar")).unwrap();
    cut.write_all_at(&bytes[..end], 0).unwrap();
    assert!(home.run(3, &["backup", "--tar", "cut.tar"]).stderr.contains("no end mark"));
}

#[test]
fn memory_does_not_grow_with_the_archive() {
    if !has_tar() {
        return;
    }
    let home = Home::new();
    File::create(home.path("zeros")).unwrap().set_len(600 << 20).unwrap();
    let script = r#"ulimit -d 409600 && exec "$@""#;
    let command = home.command(&["backup", "--exec", "--tar", "--name", "n", "--", "tar", "-c", "zeros"]);
    let mut limited = Command::new("sh");
    limited.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    limited.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).current_dir(home.0.path());
    finish(0, &mut limited);
}

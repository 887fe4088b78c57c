//! What `icecore backup` takes: lists of paths, programs, devices, images and archives; and what it runs around a backup.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod home;
mod memory;
mod programs;
mod tar;

use home::{Home, noise};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[test]
fn a_missing_path_is_named_and_the_others_are_backed_up() {
    let home = Home::new();
    home.write("data/file", "x");
    home.run(0, &["backup", "data"]);
    let said = home.run(3, &["backup", "data", "gone", "gone/too"]);
    assert!(said.stderr.contains("gone`: No such file") && said.stderr.contains("2 items"), "{}", said.stderr);
    assert_eq!(home.listed(), ["./", "data/", "data/file"]);
    assert!(home.run(0, &["snapshots"]).stdout.contains("(incomplete)"));

    // It belongs to the series of the same paths, whether they are all there or not.
    let series = |code, arguments: &[&str]| home.run(code, arguments).last("summary")["series"].clone();
    let incomplete = series(3, &["backup", "data", "gone", "--json"]);
    home.write("gone", "y");
    assert_eq!(series(0, &["backup", "data", "gone", "--json"]), incomplete);

    let before = home.snapshots();
    let none = home.run(1, &["backup", "nowhere", "nowhere/else", "--json"]).last("exit_error");
    assert!(none["message"].as_str().unwrap().contains("none of the 2 paths"), "{none}");
    home.run(1, &["backup", "nowhere"]);
    home.run(2, &["backup", "data", "data/file/"]);
    assert_eq!(home.snapshots(), before);
}

#[test]
fn lists_name_paths_and_not_patterns() {
    let home = Home::new();
    for name in ["one", "*", "with space ", "d/inner", "odd\nname", "other"] {
        home.write(name, name);
    }
    home.write("list", "one\n\n*\nwith space \n");
    home.run(0, &["backup", "--files-from", "list", "d"]);
    assert_eq!(home.listed(), ["./", "*", "d/", "d/inner", "one", "with space "]);
    assert_eq!(home.cat("*"), b"*");

    let fed = home.feed(0, &["backup", "--files-from0", "-", "--files-from", "list", "--json"], "odd\nname\0other\0");
    assert_eq!(fed.last("summary")["files_new"], 5);
    let raw = home.run(0, &["ls", "latest", "-R", "--json"]).stdout;
    assert!(raw.contains("odd\\nname"), "{raw}");

    // The list names the series, not what is in it, which changes.
    home.write("list", "other\n");
    let series = |list: &str| {
        home.write("list", list);
        home.run(0, &["backup", "--files-from", "list", "--json"]).last("summary")["series"].clone()
    };
    assert_eq!(series("one\n"), series("other\none\n"));

    home.feed(3, &["backup", "--files-from", "-"], "one\ngone\n");
    home.feed(2, &["backup", "--files-from", "-"], "\n");
    home.feed(2, &["backup", "--files-from", "-", "--files-from0", "-"], "one\n");
    home.run(1, &["backup", "--files-from", "nowhere"]);
    home.run(2, &["backup", "--files-from", "list", "--stdin", "--name", "x"]);
}

#[test]
fn more_paths_than_a_snapshot_records_are_backed_up_all_the_same() {
    let home = Home::new();
    let names: Vec<String> = (0..5000).map(|n| format!("d/{n}")).collect();
    names.iter().for_each(|name| drop(home.write(name, "")));
    home.feed(0, &["backup", "--files-from", "-", "--series", "many"], names.join("\n"));
    assert_eq!(home.listed().len(), 5001);
    let line = home.run(0, &["snapshots", "--json"]).stdout;
    let snapshot: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
    assert_eq!(snapshot["paths"], serde_json::json!([home.path("d")]));
}

#[test]
fn what_a_program_writes_is_stored_if_it_ends_well() {
    let home = Home::new();
    let data = noise(1, 3 << 20);
    home.write("data", &data);
    let said = home.run(0, &["backup", "--exec", "--name", "db/dump", "--", "sh", "-c", "echo from the program >&2; cat data"]);
    assert!(said.stderr.contains("from the program"), "{}", said.stderr);
    assert!(home.cat("db/dump") == data);
    // Options after -- are the program's.
    home.run(0, &["backup", "--exec", "--name", "dump", "--", "printf", "%s", "--json"]);
    assert_eq!(home.cat("dump"), b"--json");

    let before = home.snapshots();
    for (script, expected) in [
        ("cat data; exit 7", "`sh` ended with exit code 7"),
        ("cat data; exec >&-; exit 8", "exit code 8"),
        ("kill -9 $$", "`sh` was ended by signal 9"),
    ] {
        let error = home.run(1, &["backup", "--json", "--exec", "--name", "dump", "--", "sh", "-c", script]).last("exit_error");
        assert!(error["message"].as_str().unwrap().contains(expected), "{error}");
    }
    let missing = home.run(1, &["backup", "--exec", "--name", "dump", "--", "no-such-program"]);
    assert!(missing.stderr.contains("`no-such-program` cannot be started"), "{}", missing.stderr);
    for wrong in [
        &["backup", "--exec", "--", "true"][..],
        &["backup", "--exec", "--name", "x"],
        &["backup", "data", "--", "true"],
        &["backup", "--exec", "--stdin", "--name", "x", "--", "true"],
        &["backup", "data", "--name", "x"],
    ] {
        home.run(2, wrong);
    }
    assert_eq!(home.snapshots(), before);
    home.run(0, &["check"]);
}

#[test]
fn an_interrupted_backup_ends_the_program_that_feeds_it() {
    let home = Home::new();
    let script = "echo $$ > pid.new; mv pid.new pid; exec sleep 1000";
    let arguments = ["backup", "--exec", "--name", "x", "--after", "echo $ICECORE_OUTCOME > outcome", "--", "sh", "-c", script];
    let mut child = home.command(&arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while !home.path("pid").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended early");
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let pid = fs::read_to_string(home.path("pid")).unwrap().trim().parse().ok().and_then(Pid::from_raw).unwrap();
    assert!(test_kill_process(pid).is_err(), "the program is still at work");
    assert_eq!(fs::read_to_string(home.path("outcome")).unwrap(), "interrupted\n");
    assert_eq!(home.snapshots(), 0);
}

#[test]
fn commands_run_before_and_after() {
    let home = Home::new();
    let after = "echo after; echo $ICECORE_OUTCOME $ICECORE_EXIT_CODE ${#ICECORE_SNAPSHOT} > outcome";
    let outcome = || fs::read_to_string(home.path("outcome")).unwrap();
    let run = |code, before: &str, after: &str, paths: &[&str]| {
        home.run(code, &[&["backup", "--json", "--series", "s", "--before", before, "--after", after][..], paths].concat())
    };
    let make = "mkdir volume && echo x > volume/file";
    let done = run(0, make, &format!("rm -r volume; {after}"), &["volume"]);
    assert_eq!((outcome().as_str(), done.last("summary")["after_failed"].as_bool()), ("done 0 32\n", Some(false)));
    assert!(done.stderr.contains("after\n"), "what it prints goes to standard error");
    assert_eq!(home.cat("volume/file"), b"x\n");

    run(3, make, &format!("rm -r volume; {after}"), &["volume", "gone"]);
    assert_eq!(outcome(), "incomplete 3 32\n");

    let before = home.snapshots();
    let failed = run(1, "exit 5", after, &["k"]);
    assert!(failed.last("exit_error")["message"].as_str().unwrap().contains("--before ended with exit code 5"));
    assert_eq!(outcome(), "failed 1 0\n");
    run(1, "true", after, &["gone"]);
    assert_eq!((outcome().as_str(), home.snapshots()), ("failed 1 0\n", before));

    let failed = run(3, "true", "exit 6", &["k"]);
    assert!(failed.last("summary")["after_failed"] == true && failed.stdout.contains("--after ended with exit code 6"));
    assert_eq!(home.snapshots(), before + 1);
    home.run(3, &["backup", "--stdin", "--name", "x", "--after", "false"]);
}

#[test]
fn images_are_cut_at_fixed_sizes_where_that_is_asked_for() {
    const BLOCK: usize = 16 << 10;
    let home = Home::new();
    let blocks: Vec<Vec<u8>> = (0..40).map(|n| noise(n, BLOCK)).collect();
    home.write("images/disk.img", blocks.concat());
    home.write("images/other", blocks.concat());
    let back_up = || home.run(0, &["backup", "images", "--fixed", "*.img", "--json"]).last("summary")["bytes_unique"].as_u64().unwrap();
    back_up();
    // Blocks that change places are known, which they would not be if their content said where to cut.
    let moved: Vec<u8> = blocks.iter().rev().flatten().copied().collect();
    home.write("images/disk.img", &moved);
    assert_eq!(back_up(), 0);
    assert!(home.cat("images/disk.img") == moved && home.cat("images/other") == blocks.concat());
    home.run(0, &["scrub"]);
    home.run(2, &["backup", "images", "--fixed", "a["]);
}

#[test]
fn a_device_is_stored_as_a_file_with_what_lies_on_it() {
    let home = Home::new();
    let data = noise(3, (2 << 20) + 512);
    let image = home.write("image", &data);
    let Some(device) = LoopDevice::of(&image) else {
        eprintln!("!!! SKIPPED: no loop device can be had here, so block devices were not tested");
        return;
    };
    let path = device.0.to_str().unwrap();
    let name = device.0.file_name().unwrap().to_str().unwrap();
    let summary = home.run(0, &["backup", path, "--json"]).last("summary");
    assert_eq!((&summary["bytes_total"], &summary["files_new"]), (&data.len().into(), &1.into()));
    assert!(home.cat(name) == data);
    // Its stat says nothing of its content, so it is read again.
    assert_eq!(home.run(0, &["backup", path, "--json"]).last("summary")["bytes_read"], data.len());

    fs::create_dir(home.path("by-name")).unwrap();
    std::os::unix::fs::symlink(&device.0, home.path("by-name/volume")).unwrap();
    home.run(0, &["backup", "by-name/volume"]);
    assert!(home.cat("volume") == data, "a link to a device stands for it");
    home.run(0, &["backup", "by-name"]);
    assert!(home.run(0, &["ls", "latest", "-lR"]).stdout.contains("by-name/volume -> "), "in a folder it is a link");
}

/// A file as a block device.
struct LoopDevice(PathBuf);

impl LoopDevice {
    fn of(image: &Path) -> Option<Self> {
        let output = Command::new("losetup").args(["--find", "--show", "--read-only"]).arg(image).output().ok()?;
        let path = output.stdout.strip_suffix(b"\n").filter(|_| output.status.success())?;
        Some(Self(OsStr::from_bytes(path).into())).filter(|device| fs::File::open(&device.0).is_ok())
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.0).status();
    }
}

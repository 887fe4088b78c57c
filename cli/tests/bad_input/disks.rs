//! Full and read-only file systems. Needs the right to mount; who has not skips these tests loudly.

use crate::home::{Home, can, copy, finish, noise};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system in memory; unmounted when this is dropped.
struct Disk(PathBuf);

impl Disk {
    fn new(path: PathBuf, kib: u64) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let is_mounted = mount(&path, &format!("size={kib}k"), &["-t", "tmpfs", "tmpfs"]);
        can("mounting a small file system", is_mounted).then_some(Self(path))
    }

    fn resize(&self, kib: u64) {
        assert!(mount(&self.0, &format!("remount,size={kib}k"), &[]));
    }

    fn read_only(&self) {
        assert!(mount(&self.0, "remount,ro", &[]));
    }

    fn used_kib(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize / 1024
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

fn mount(path: &Path, options: &str, more: &[&str]) -> bool {
    Command::new("mount").args(["-o", options]).args(more).arg(path).output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_full_disk_ends_backup_and_gc_and_harms_nothing() {
    let home = Home::new();
    let Some(disk) = Disk::new(home.path("disk"), 20_000) else { return };
    let (place, options) = (home.path("disk/r"), ["-r", "disk/r"]);
    copy(&home.path("r"), &place);
    let with = |arguments: &[&'static str]| [arguments, &options].concat();
    for more in 0..3 {
        home.write(&format!("s/more-{more}"), noise(200 + more, 1 << 20));
    }
    // At every point where the disk may be full: with no room at all, and with some.
    for room in [0, 4, 64, 800, 2_000] {
        disk.resize(disk.used_kib() + room);
        home.run(1, &with(&["backup", "s"]), &["is full", "free some space", "run it again"]);
        home.run(0, &with(&["scrub"]), &["no damage found"]);
        home.run(0, &with(&["snapshots"]), &[]);
        if room == 0 {
            // Without what was kept back for the backup, which took it.
            disk.resize(disk.used_kib());
            home.run(1, &with(&["doctor"]), &["fail  space", "0 B of", "1 failed"]);
        }
        disk.resize(20_000);
    }
    home.run(0, &with(&["backup", "s"]), &[]);
    home.run(0, &with(&["restore", "latest", "--target", "t"]), &[]);
    assert_eq!(home.restored("t"), 45);
    // A collection needs a little room for what it writes down.
    let first = home.only("snapshots").split_once('/').unwrap().1.to_owned();
    home.run(0, &["forget", &first, "-r", "disk/r"], &[]);
    for room in [0, 4, 12] {
        disk.resize(disk.used_kib() + room);
        let (code, said) = finish(&mut home.command(&with(&["gc"])));
        assert!(code == 0 || code == 1 && said.contains("is full"), "{code}: {said}");
        home.run(0, &with(&["scrub"]), &["no damage found"]);
        disk.resize(20_000);
    }
    home.run(0, &with(&["gc"]), &[]);
    home.run(0, &with(&["scrub"]), &["no damage found", "1 snapshot "]);
    home.run(0, &with(&["restore", "latest", "--target", "t"]), &[]);
    assert_eq!(home.restored("t"), 45);
}

/// What writes large packs leaves some room to those who free it. The snapshot that was copied is of another series.
#[test]
fn a_disk_without_any_room_can_be_freed() {
    let home = Home::new();
    let Some(disk) = Disk::new(home.path("disk"), 40_000) else { return };
    let options = ["-r", "disk/r"];
    copy(&home.path("r"), &home.path("disk/r"));
    let with = |arguments: &[&'static str]| [arguments, &options].concat();
    for state in 0..4 {
        home.write("s/large", noise(300 + state, 3 << 20));
        home.run(0, &with(&["backup", "s"]), &[]);
    }
    disk.resize(disk.used_kib());
    home.write("s/large", noise(400, 3 << 20));
    home.run(1, &with(&["backup", "s"]), &["is full"]);
    disk.resize(disk.used_kib());
    let used = disk.used_kib();
    home.run(0, &with(&["forget", "--keep-last", "1"]), &[]);
    home.run(0, &with(&["gc"]), &[]);
    assert!(disk.used_kib() + 6_000 < used, "{} of {used} KiB", disk.used_kib());
    home.run(0, &with(&["gc"]), &[]);
    home.run(0, &with(&["scrub"]), &["no damage found", "2 snapshots "]);
    home.run(0, &with(&["backup", "s"]), &[]);
}

#[test]
fn a_full_target_ends_a_restore_which_goes_on_with_room() {
    let home = Home::new();
    let Some(disk) = Disk::new(home.path("disk"), 1_000) else { return };
    for room in [0, 16, 1_000, 2_500] {
        disk.resize(room + 8);
        home.run(1, &["restore", "latest", "--target", "disk/t"], &["s/", "the target is full", "free some space", "restore again"]);
        home.restored_in_part("disk/t");
    }
    disk.resize(20_000);
    home.run(0, &["restore", "latest", "--target", "disk/t"], &[]);
    assert_eq!(home.restored("disk/t"), 42);
    disk.read_only();
    home.run(1, &["restore", "latest", "--target", "disk/other"], &["disk/other", "Read-only"]);
}

#[test]
fn a_read_only_repository_can_be_read_and_says_so_to_whoever_writes() {
    let home = Home::new();
    let Some(disk) = Disk::new(home.path("disk"), 20_000) else { return };
    copy(&home.path("r"), &home.path("disk/r"));
    disk.read_only();
    let with = |arguments: &[&'static str]| [arguments, &["-r", "disk/r"]].concat();
    home.run(0, &with(&["snapshots"]), &[]);
    home.run(0, &with(&["ls", "latest", "-R"]), &["s/large"]);
    home.run(0, &with(&["check"]), &["no damage found"]);
    home.run(0, &with(&["scrub"]), &["no damage found"]);
    home.run(0, &with(&["stats"]), &[]);
    home.run(0, &with(&["forget", "--keep-last", "1", "--dry-run"]), &[]);
    home.run(0, &with(&["restore", "latest", "--target", "t"]), &["without a session", "no garbage collection"]);
    assert_eq!(home.restored("t"), 42);
    let snapshot = home.only("snapshots").split_once('/').unwrap().1.to_owned();
    for arguments in [&["backup", "s"][..], &["gc"], &["forget", &snapshot], &["key", "rotate"]] {
        home.run(1, &[arguments, &["-r", "disk/r"]].concat(), &["read-only", "make it writable"]);
    }
}

//! The commands of `docs/guide.md` are run as they stand there, in their order; the units of `docs/examples` are shown to systemd.

use super::home::PROGRAM;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

/// Programs that a test must not run for real, and what stands in for them.
const STAND_INS: [(&str, &str); 5] = [
    ("systemctl", "exit 0"),
    ("loginctl", "exit 0"),
    ("lp", "cat \"$1\" > /dev/null"),
    ("pg_dump", "echo 'create table layers (depth integer);'"),
    ("psql", "grep -q 'create table layers'"),
];

/// The shell commands of a page, one text for each block.
fn blocks(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.trim_start() == "```sh" {
            blocks.push(lines.by_ref().take_while(|line| line.trim_start() != "```").map(|line| format!("{line}\n")).collect());
        }
    }
    blocks
}

/// A home with the program where systemd and the shell look for it.
fn home() -> (tempfile::TempDir, PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let programs = home.path().join(".cargo/bin");
    fs::create_dir_all(&programs).unwrap();
    symlink(PROGRAM, programs.join("icecore")).unwrap();
    (home, programs)
}

/// Runs shell commands, each of which has to succeed.
fn run(commands: &str, home: &Path, programs: &Path) {
    let mut shell = Command::new("bash");
    shell.args(["-euxo", "pipefail", "-c", commands]).env_clear().env("HOME", home).current_dir(home);
    shell.env("PATH", format!("{}:/usr/bin:/bin", programs.display()));
    let output = shell.output().unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{commands}\n{said}");
}

/// The tour of the README and its sections on keys, in one shell: what one block exports the next one uses. What to do with damage is run in
/// `repair.rs`, the second reader in `tests/tests/second_reader.rs`.
#[test]
fn the_tour_can_be_followed() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let section = |from: &str, to: &str| {
        let section = page.split_once(from).unwrap().1;
        blocks(section.split_once(to).unwrap().0)
    };
    let mut tour = section("\n## Five minutes of use\n", "\n### When damage is found\n");
    tour.retain(|block| !block.contains("icecore_reader.py"));
    assert_eq!(tour.len(), 9);
    tour.extend(section("\n### Keys that can do only what they must\n", "\n### Caches\n"));
    let (home, programs) = home();
    fs::write(programs.join("cargo"), "#!/bin/sh\ntest \"$*\" = 'install --locked --path cli'\n").unwrap();
    fs::set_permissions(programs.join("cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    run(&tour.concat(), home.path(), &programs);
    let changed = fs::read_to_string(home.path().join("icecore-tour/again/include/stdio.h")).unwrap();
    assert!(changed.ends_with("/* changed */\n"));
}

#[test]
fn the_guide_can_be_followed() {
    let page = fs::read_to_string(Path::new(DOCS).join("guide.md")).unwrap();
    let blocks = blocks(&page);
    assert!(blocks.len() > 15, "{} blocks", blocks.len());
    let (home, programs) = home();
    for (name, script) in STAND_INS {
        fs::write(programs.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    symlink(DOCS, home.path().join("docs")).unwrap();
    fs::create_dir(home.path().join("Documents")).unwrap();
    fs::write(home.path().join("Documents/letter.txt"), "Dear Ann").unwrap();
    for block in blocks {
        run(&block, home.path(), &programs);
    }
    assert_eq!(fs::read(home.path().join("restored/Documents/letter.txt")).unwrap(), b"Dear Ann");
    assert_eq!(fs::read(home.path().join("slowly/Documents/letter.txt")).unwrap(), b"Dear Bob\n");
}

#[test]
fn systemd_takes_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("skipped: there is no systemd-analyze");
        return;
    }
    let (home, _programs) = home();
    let units = fs::read_dir(Path::new(DOCS).join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let units: Vec<_> = units.filter(|path| path.extension().is_some_and(|kind| kind == "service" || kind == "timer")).collect();
    assert_eq!(units.len(), 4);
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--user", "--man=no"]).args(&units).env("HOME", home.path()).env("XDG_RUNTIME_DIR", home.path());
    let output = verify.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let about_units: Vec<_> = said.lines().filter(|line| line.contains("icecore-")).collect();
    assert!(output.status.success() && about_units.is_empty(), "{said}");
}

//! A backup that is killed: the repository stays usable, nothing has to be unlocked, and what was completed is used again.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_icecore");

/// Bytes of the file that is backed up; several packs.
const LENGTH: usize = 300 << 20;

fn icecore(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).args(["-r", "r", "--key-file", "k"]);
    command.env_clear().env("HOME", home).current_dir(home).stdin(Stdio::null());
    command
}

fn must_run(home: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = icecore(home, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Number and bytes of complete data packs.
fn packs(home: &Path) -> (usize, u64) {
    let folders = fs::read_dir(home.join("r/packs")).into_iter().flatten();
    let sizes: Vec<_> = folders
        .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|pack| pack.unwrap().metadata().unwrap().len())
        .collect();
    (sizes.len(), sizes.iter().sum())
}

#[test]
fn a_killed_backup_leaves_its_packs_to_the_next_one() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let output =
        Command::new(PROGRAM).args(["init", "-r", "r", "--new-key-file", "k"]).env("HOME", home).current_dir(home).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Bytes that do not compress, always the same.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..LENGTH / 8).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    fs::create_dir(home.join("source")).unwrap();
    fs::write(home.join("source/large"), words.collect::<Vec<_>>()).unwrap();

    let mut killed = icecore(home, &["backup", "source"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while packs(home).0 < 2 {
        assert!(killed.try_wait().unwrap().is_none(), "the backup ended before it could be killed");
        std::thread::yield_now();
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let (_, completed) = packs(home);

    assert!(must_run(home, &["snapshots", "--json"]).iter().all(|line| line["message_type"] != "snapshot"));
    let summary = must_run(home, &["backup", "source", "--json"]).pop().unwrap();
    let stored_again = summary["bytes_unique"].as_u64().unwrap() + completed - LENGTH as u64;
    assert!(stored_again * 20 < completed, "of {completed} bytes in completed packs {stored_again} were stored again");
    must_run(home, &["check", "--json"]);
    must_run(home, &["restore", "latest", "--target", "target", "--json"]);
    assert!(fs::read(home.join("source/large")).unwrap() == fs::read(home.join("target/source/large")).unwrap());
}

//! A second copy, as the guide says it: made, kept up to date, and used when the first one is damaged or gone.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_icecore");

/// A home folder with a repository of two snapshots.
struct Home(tempfile::TempDir);

impl Home {
    fn with_snapshots() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.run(0, "icecore init -r first --new-key-file key");
        fs::create_dir(home.path("data")).unwrap();
        for n in 0..40_u64 {
            fs::write(home.path("data").join(format!("f{n}")), noise(n, 30_000 + 700 * n as usize)).unwrap();
        }
        home.run(0, "icecore backup --series data --tag old data");
        fs::write(home.path("data/later"), noise(99, 400_000)).unwrap();
        home.run(0, "icecore backup --series data data");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs a line of a shell, and gives what it printed.
    #[track_caller]
    fn run(&self, code: i32, line: &str) -> String {
        let home = self.0.path();
        let path = format!("{}:/usr/bin:/bin", Path::new(PROGRAM).parent().unwrap().display());
        let mut command = Command::new("sh");
        command.args(["-c", line]).env_clear().env("PATH", path).env("HOME", home).current_dir(home).stdin(Stdio::null());
        if !line.contains("init -r") {
            command.env("ICECORE_REPOSITORY", home.join("first")).env("ICECORE_KEY_FILE", home.join("key"));
        }
        let output = command.output().unwrap();
        let (said, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{line}\n{said}{errors}");
        said + &errors
    }

    fn summary(&self, code: i32, line: &str) -> Value {
        let said = self.run(code, &format!("{line} --json"));
        said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(|line| line["message_type"] == "summary").unwrap()
    }

    /// Restores the newest snapshot and compares it with what was backed up.
    #[track_caller]
    fn restores_from(&self, repository: &str) {
        self.run(0, &format!("icecore restore -r {repository} latest --target back --verify && diff -r data back/data && rm -r back"));
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed + 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    (0..length).map(next).collect()
}

/// The files below a folder, largest first.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    found
}

#[test]
fn a_second_copy_is_made_kept_and_used() {
    let home = Home::with_snapshots();
    let plan = home.summary(0, "icecore replicate --to second --dry-run");
    assert!(!home.path("second").exists(), "a dry run makes nothing");
    assert_eq!((&plan["snapshots_copied"], &plan["target_made"], &plan["target_empty"]), (&2.into(), &false.into(), &true.into()));
    let first = home.summary(0, "icecore replicate --to second");
    assert_eq!((&first["snapshots_copied"], &first["target_made"]), (&2.into(), &true.into()));
    assert_eq!(first["bytes_planned"], plan["bytes_planned"]);
    assert!(first["bytes_sent"].as_u64().unwrap() >= first["bytes_planned"].as_u64().unwrap());
    home.run(0, "icecore scrub -r second");
    home.restores_from("second");
    let again = home.summary(0, "icecore replicate --to second");
    assert_eq!((&again["snapshots_copied"], &again["bytes_sent"], &again["target_made"]), (&0.into(), &0.into(), &false.into()));
    // What a person sees names both figures.
    fs::write(home.path("data/new"), noise(7, 50_000)).unwrap();
    home.run(0, "icecore backup --series data data");
    let said = home.run(0, "icecore replicate --to second");
    assert!(said.contains("1 snapshot copied") && said.contains("were missing") && said.contains("were sent"), "{said}");
    // The first one is lost: the second one is a repository like any other, also to back up to, and to replicate back from.
    fs::rename(home.path("first"), home.path("lost")).unwrap();
    home.restores_from("second");
    home.run(0, "icecore backup -r second --series data data");
    home.run(0, "icecore replicate -r second --to first");
    home.restores_from("first");
}

#[test]
fn snapshots_are_chosen_as_elsewhere() {
    let home = Home::with_snapshots();
    home.run(0, "icecore replicate --to by-tag --tag old");
    assert_eq!(home.summary(0, "icecore snapshots -r by-tag")["snapshots"], 1);
    let plan = home.summary(0, "icecore replicate --to by-tag --latest 1 --dry-run");
    assert_eq!((&plan["snapshots_copied"], &plan["bytes_sent"]), (&1.into(), &0.into()));
    home.run(0, "icecore replicate --to by-tag $(icecore snapshots --json --latest 1 | grep -o '\"id\":\"[0-9a-f]*' | cut -d'\"' -f4)");
    assert_eq!(home.summary(0, "icecore snapshots -r by-tag")["snapshots"], 2);
    home.run(2, "icecore replicate --to by-tag --latest 1 12345678");
    home.run(2, "icecore replicate --to first");
    home.run(1, "icecore replicate --to by-tag ffffffff");
}

#[test]
fn keys_follow_and_strangers_are_refused() {
    let home = Home::with_snapshots();
    home.run(0, "icecore replicate --to second");
    home.run(0, "icecore key add --role maintain --new-key-file upkeep && icecore key rotate");
    home.run(0, "icecore backup --series data data");
    home.run(0, "icecore replicate --to second --key-file upkeep");
    home.restores_from("second");
    home.run(0, "icecore init -r other --new-key-file other-key");
    let said = home.run(12, "icecore replicate --to other");
    assert!(said.contains("--to-key-file"), "{said}");
    fs::create_dir(home.path("taken")).unwrap();
    fs::write(home.path("taken/note"), "mine").unwrap();
    home.run(2, "icecore replicate --to taken");
    home.run(2, "icecore replicate --to taken --dry-run");
    // A disk that is not mounted.
    fs::create_dir(home.path("mount")).unwrap();
    let said = home.run(0, "icecore replicate --to mount --dry-run");
    assert!(said.contains("mount is empty: a new replica would be made"), "{said}");
    let said = home.run(10, "icecore backup --series data data --also mount");
    assert!(said.contains("icecore replicate --to mount"), "{said}");
    assert_eq!(fs::read_dir(home.path("mount")).unwrap().count(), 0);
    assert!(home.run(0, "icecore replicate --to mount").contains("mount was empty: made a new replica"));
}

#[test]
fn what_the_first_copy_lost_the_second_one_gives_back() {
    let home = Home::with_snapshots();
    home.run(0, "icecore replicate --to second");
    let packs = files(&home.path("first/packs"));
    fs::set_permissions(&packs[0], fs::Permissions::from_mode(0o600)).unwrap();
    let mut bytes = fs::read(&packs[0]).unwrap();
    bytes[500] ^= 1;
    fs::write(&packs[0], bytes).unwrap();
    fs::remove_file(&packs[1]).unwrap();
    fs::remove_file(&files(&home.path("first/snapshots"))[0]).unwrap();
    home.run(14, "icecore scrub");
    // Damage does not travel.
    let said = home.run(14, "icecore replicate --to third");
    assert!(said.contains("was not copied"), "{said}");
    let plan = home.run(14, "icecore repair --from second");
    assert!(plan.contains("would be brought back"), "{plan}");
    home.run(14, "icecore scrub");
    let done = home.run(0, "icecore repair --from second --apply");
    assert!(done.contains("brought back from"), "{done}");
    home.run(0, "icecore gc");
    home.run(0, "icecore scrub");
    home.restores_from("first");
    assert_eq!(home.summary(0, "icecore snapshots")["snapshots"], 2);
}

#[test]
fn one_backup_goes_to_several_places() {
    let home = Home::with_snapshots();
    fs::write(home.path("data/more"), noise(5, 200_000)).unwrap();
    home.run(0, "icecore replicate --to second && icecore replicate --to third && icecore replicate --to data/inside");
    let done = home.summary(0, "icecore backup --series data data --also second,third");
    let copies = done["copies"].as_array().unwrap();
    assert!(copies.len() == 3 && copies.iter().all(|copy| copy["acknowledged"] == true), "{copies:?}");
    for repository in ["first", "second", "third"] {
        home.run(0, &format!("icecore scrub -r {repository}"));
        home.restores_from(repository);
    }
    // A place that cannot be written to: enough for a quorum of two, not for all.
    fs::remove_dir_all(home.path("third/refs")).unwrap();
    fs::write(home.path("third/refs"), "no folder").unwrap();
    fs::write(home.path("data/more"), noise(6, 200_000)).unwrap();
    home.run(1, "icecore backup --series data data --also second --also third");
    let partial = home.summary(3, "icecore backup --series data data --also second,third --quorum 2");
    let has = |name: &str| {
        let copies = partial["copies"].as_array().unwrap();
        copies.iter().find(|copy| copy["repository"].as_str().unwrap().ends_with(name)).unwrap()["acknowledged"].clone()
    };
    assert_eq!((has("first"), has("second"), has("third")), (true.into(), true.into(), false.into()));
    assert_eq!(home.summary(0, "icecore snapshots -r second")["snapshots"], 5);
    home.run(2, "icecore backup --series data data --also second --quorum 3");
    home.run(0, "icecore init -r other --new-key-file other-key");
    let said = home.run(2, "icecore backup --series data data --also other");
    assert!(said.contains("icecore replicate --to"), "{said}");
    // A replica within what is backed up is left out.
    let inside = home.run(0, "icecore backup --series data data --also data/inside");
    assert!(inside.contains("a replica in"), "{inside}");
    home.run(0, "icecore replicate --to other --to-key-file other-key --series data");
    home.run(0, "icecore snapshots -r other --key-file other-key");
}

//! What a person does when damage is found, as the README says it.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_icecore");

/// A home folder with a repository in which series `headers` has two snapshots of the folder `include`.
struct Home(tempfile::TempDir);

impl Home {
    fn with_snapshots() -> Self {
        Self::made_by("icecore init -r repository --new-key-file key")
    }

    fn made_by(init: &str) -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.run(0, init);
        fs::create_dir(home.path("include")).unwrap();
        for n in 0..50_u64 {
            fs::write(home.path("include").join(format!("h{n}")), noise(n, 20_000 + 500 * n as usize)).unwrap();
        }
        home.run(0, "icecore backup --series headers include");
        fs::write(home.path("include/later"), "later").unwrap();
        home.run(0, "icecore backup --series headers include");
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
        if !line.contains("-r repository") {
            command.env("ICECORE_REPOSITORY", home.join("repository")).env("ICECORE_KEY_FILE", home.join("key"));
        }
        if let Ok(damaged) = fs::read_to_string(home.join("damaged")) {
            command.env("damaged", damaged);
        }
        let output = command.output().unwrap();
        let (said, errors) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{line}\n{said}{errors}");
        said + &errors
    }

    fn json(&self, code: i32, line: &str) -> Vec<Value> {
        let said = self.run(code, line);
        said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Flips a byte of the largest object below a folder of the repository; gives its name.
    fn damage(&self, folder: &str, at: usize) -> String {
        let mut files = Vec::new();
        let mut folders = vec![self.path("repository").join(folder)];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { folders.push(path) } else { files.push(path) }
            }
        }
        let largest = files.into_iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
        let mut bytes = fs::read(&largest).unwrap();
        bytes[at] ^= 1;
        fs::write(&largest, bytes).unwrap();
        largest.strip_prefix(self.path("repository")).unwrap().to_str().unwrap().to_owned()
    }
}

/// Bytes that depend on `seed` and do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ (seed << 32);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// The commands of a section of the README.
fn commands_of(section: &str) -> Vec<String> {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let begin = readme.find(&format!("### {section}\n")).unwrap();
    let text = &readme[begin + 4..];
    let text = &text[..text.find("\n### ").unwrap()];
    let blocks = text.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    blocks.flat_map(str::lines).map(str::to_owned).collect()
}

#[test]
fn the_readme_leads_from_damage_to_a_whole_repository() {
    let home = Home::with_snapshots();
    home.damage("packs", 1000);
    home.run(14, "icecore scrub");
    for command in commands_of("When damage is found") {
        let code = match command.as_str() {
            "icecore repair" | "icecore repair --apply" | "icecore repair --apply --salvage" => 14,
            _ => 0,
        };
        let said = home.run(code, &command);
        if command == "icecore repair" {
            for told in ["plan: packs/", "lost: snapshot", "of series headers", "include/h", "nothing was changed"] {
                assert!(said.contains(told), "{told}: {said}");
            }
        }
        if command == "icecore repair --apply" {
            assert!(said.contains("condemned by epoch 1") && said.contains("Run the backup of series headers again"), "{said}");
        }
        if command.contains("--salvage") {
            assert!(said.contains("salvaged: snapshot"), "{said}");
            let lost: Vec<_> = home.json(14, "icecore repair --json").into_iter().filter(|line| line["message_type"] == "lost").collect();
            let ids: Vec<_> = lost.iter().map(|line| line["snapshot"].as_str().unwrap()).collect();
            assert_eq!(ids.len(), 2);
            // The README shows how one is given up.
            fs::write(home.path("damaged"), ids[0]).unwrap();
            home.run(0, &format!("icecore forget {}", ids[1]));
        }
    }
    home.run(0, "icecore scrub");
    home.run(0, "icecore repair");
    home.run(0, "icecore restore latest --target back && diff -r include back/include");
    assert_eq!(home.json(0, "icecore snapshots --json").iter().filter(|line| line["message_type"] == "snapshot").count(), 3);
}

#[test]
fn repair_tells_programs_what_it_would_do_and_what_it_did() {
    let home = Home::with_snapshots();
    let plan = home.json(0, "icecore repair --quick --json").pop().unwrap();
    assert_eq!((&plan["message_type"], &plan["applied"], plan["packs"].as_array().unwrap().len()), (&"summary".into(), &false.into(), 0));
    home.damage("packs", 1000);
    let found = home.json(0, "icecore repair --quick --json").pop().unwrap();
    assert_eq!(found["packs"].as_array().unwrap().len(), 0, "what check does not see");
    let plan = home.json(14, "icecore repair --json").pop().unwrap();
    let pack = plan["packs"][0]["pack"].as_str().unwrap().to_owned();
    assert_eq!((&plan["packs"][0]["frames_lost"], &plan["snapshots_hurt"]), (&1.into(), &2.into()));
    let done = home.json(14, &format!("icecore repair --apply --json --pack {pack}")).pop().unwrap();
    assert_eq!((&done["applied"], &done["done"]["epoch"]), (&true.into(), &1.into()));
    assert_eq!(done["done"]["frames_copied"], plan["packs"][0]["frames_good"]);
    home.run(2, "icecore repair --salvage");
    home.run(2, "icecore repair --pack nonsense");
    // What only costs time is mended without a loss.
    let home = Home::with_snapshots();
    home.damage("closed", 90);
    home.run(14, "icecore check");
    let done = home.json(0, "icecore repair --apply --quick --json").pop().unwrap();
    assert_eq!(done["done"]["obstacles_removed"], 1);
    home.run(0, "icecore gc && icecore check");
}

/// Each snapshot that suffers with its files, after the findings.
#[test]
fn check_and_scrub_tell_programs_which_files_suffer() {
    let home = Home::with_snapshots();
    let suffering = |lines: &[Value]| lines.iter().filter(|line| line["message_type"] == "suffers").cloned().collect::<Vec<_>>();
    assert!(suffering(&home.json(0, "icecore scrub --json")).is_empty());
    let snapshots = home.json(0, "icecore snapshots --json");
    let ids: Vec<_> = snapshots.iter().filter(|line| line["message_type"] == "snapshot").map(|line| line["id"].clone()).collect();
    let name = home.damage("packs", 1000);
    for command in ["icecore scrub --no-heal --json", "icecore check --json", "icecore scrub --json"] {
        let suffering = suffering(&home.json(14, command));
        assert_eq!(suffering.len(), 2, "{command}: {suffering:?}");
        for line in &suffering {
            assert!(ids.contains(&line["snapshot"]) && line["series"] == "headers", "{command}: {line}");
            let paths: Vec<_> = line["paths"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
            assert!(paths.len() >= 50 && paths.iter().all(|path| path.starts_with("include/")), "{command}: {line}");
            assert_eq!(line["paths_total"], paths.len(), "{command}: {line}");
        }
        // What check sees, too.
        let _ = fs::remove_file(home.path("repository").join(&name));
    }
}

/// What is gone and was not damaged is not for repair alone.
#[test]
fn check_does_not_send_to_repair_for_what_was_taken_away() {
    let home = Home::with_snapshots();
    let repository = home.path("repository");
    let snapshots = fs::read_dir(repository.join("snapshots")).unwrap().map(|entry| entry.unwrap().path());
    fs::remove_file(snapshots.max().unwrap()).unwrap();
    for command in ["icecore check", "icecore scrub"] {
        let said = home.run(14, command);
        assert!(said.contains("was published and is gone") && said.contains("`icecore repair` alone does not bring back"), "{said}");
        assert!(!said.contains("`icecore repair` says what can be done"), "{said}");
    }
    home.damage("packs", 1000);
    assert!(home.run(14, "icecore scrub").contains("`icecore repair` says what can be done"));
}

#[test]
fn a_repository_made_with_parity_heals_and_names_what_was_healed() {
    for (parity, percent) in [("--parity", 3), ("--parity=7", 7)] {
        let home = Home::made_by(&format!("icecore init -r repository --new-key-file key {parity}"));
        let config = home.json(0, "icecore config --json").pop().unwrap();
        assert_eq!(config["parity_percent"], percent);
        for folder in ["packs", "meta", "snapshots", "config"] {
            let name = home.damage(folder, 100);
            let damaged = fs::read(home.path("repository").join(&name)).unwrap();
            let command = if folder == "config" { "icecore scrub --keyless --json" } else { "icecore scrub --json" };
            let lines = home.json(14, command);
            let healed = lines.iter().filter(|line| line["message_type"] == "finding" && line["healed"] == true);
            let healed: Vec<_> = healed.map(|line| line["object"].as_str().unwrap()).collect();
            assert!(!healed.is_empty() && healed.iter().all(|object| *object == name), "{name}: {lines:?}");
            assert_eq!(lines.last().unwrap()["healed"], healed.len(), "{lines:?}");
            assert_ne!(fs::read(home.path("repository").join(&name)).unwrap(), damaged);
        }
        home.run(0, "icecore scrub");
        home.run(0, "icecore restore latest --target back && diff -r include back/include");
    }
}

#[test]
fn scrub_heals_where_there_is_parity_and_says_so() {
    let home = Home::with_snapshots();
    let changed = home.json(0, "icecore config --parity 3 --json").pop().unwrap();
    assert!(changed["sidecars_written"].as_u64().unwrap() > 10 && changed["parity_percent"] == 3, "{changed}");
    home.damage("packs", 5000);
    assert!(home.run(14, "icecore scrub --no-heal").contains("damaged: "));
    let lines = home.json(14, "icecore scrub --json");
    let summary = lines.last().unwrap();
    assert!(summary["healed"] == summary["findings"] && summary["healed"].as_u64().unwrap() > 0, "{lines:?}");
    assert!(lines.iter().any(|line| line["message_type"] == "finding" && line["healed"] == true), "{lines:?}");
    home.run(0, "icecore scrub");
    // Without its config nothing opens; healing needs no key.
    home.damage("config", 100);
    home.run(14, "icecore snapshots");
    assert!(home.run(14, "icecore scrub --keyless").contains("DAMAGE, HEALED"));
    assert!(home.run(0, "icecore snapshots").contains("headers"));
    assert!(home.run(0, "icecore stats").contains("parity"));
    home.run(0, "icecore config --parity 0");
    assert!(!home.run(0, "icecore stats").contains("parity"));
}

//! Holds, locks and costs on the command line: what is said, and with which exit code.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::PathBuf;
use std::process::Command;

struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(home.path("data")).unwrap();
        std::fs::write(home.path("data/file"), "content").unwrap();
        home.run(0, &["init", "-r", "r", "--new-key-file", "k"]);
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What was printed, on both outputs.
    #[track_caller]
    fn run(&self, code: i32, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_icecore"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.0.path())
            .env("TZ", "UTC")
            .current_dir(self.0.path());
        let output = command.output().unwrap();
        let text = format!("{}{}", String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{text}");
        text
    }

    #[track_caller]
    fn with(&self, code: i32, arguments: &[&str]) -> String {
        self.run(code, &[arguments, &["-r", "r", "--key-file", "k"]].concat())
    }

    fn backup(&self) -> String {
        self.with(0, &["backup", "data", "--series", "s"]);
        let listed = self.with(0, &["snapshots", "--ungrouped", "--latest", "1"]);
        listed.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
    }
}

#[test]
fn a_legal_hold_is_placed_listed_and_released() {
    let home = Home::new();
    let (first, second) = (home.backup(), home.backup());
    let placed = home.with(0, &["hold", "add", &first, "--note", "case 4711"]);
    let hold = placed.strip_prefix("hold ").unwrap()[..8].to_owned();
    let listed = home.with(0, &["hold", "list"]);
    assert!(listed.contains("legal hold") && listed.contains("case 4711") && listed.contains(&first), "{listed}");
    assert!(home.with(0, &["snapshots"]).lines().any(|line| line.contains(&first) && line.contains("(legal hold)")));
    let refused = home.with(13, &["forget", &first, &second]);
    assert!(refused.contains(&format!("legal hold {hold}")) && refused.contains("nothing was changed"), "{refused}");
    assert!(!refused.contains("drop"), "what was not done is not shown: {refused}");
    let refused = home.with(13, &["forget", &first, "--json"]);
    assert!(!refused.contains("\"drop\"") && refused.contains("\"exit_error\""), "{refused}");
    let planned = home.with(0, &["forget", "--keep-last", "1", "--dry-run"]);
    assert!(planned.lines().any(|line| line.contains("keep") && line.contains(&first) && line.contains("legal hold")), "{planned}");
    assert_eq!(home.with(13, &["tag", &first, "--add", "t"]).matches("must not go").count(), 1);
    // A key without the admin's role places holds, and releases none.
    home.with(0, &["key", "add", "--role", "maintain", "--new-key-file", "m"]);
    home.run(12, &["hold", "release", &hold, "-r", "r", "--key-file", "m"]);
    home.run(0, &["hold", "add", &second, "-r", "r", "--key-file", "m"]);
    home.with(1, &["hold", "release", "0000"]);
    home.with(2, &["hold", "release", "0"]);
    assert!(home.with(0, &["hold", "release", &hold, "--dry-run"]).contains("would be released"));
    let released = home.with(0, &["hold", "release", &hold]);
    assert!(released.contains("0 stay held"), "{released}");
    home.with(0, &["forget", &first]);
    assert!(home.with(1, &["hold", "add", &first]).contains("was forgotten before"));
    let all = home.with(0, &["hold", "list", "--all"]);
    assert!(all.contains("released"), "{all}");
}

#[test]
fn a_bill_adds_up_to_what_is_stored() {
    let home = Home::new();
    home.backup();
    home.with(0, &["backup", "data", "--series", "t", "--lock", "1h"]);
    std::fs::write(home.path("p.toml"), "currency = 'EUR'\ngigabyte = 1\n[[tier]]\nname = 'warm'\nstorage = 0.000001").unwrap();
    let run = home.with(0, &["cost", "--prices", "p.toml", "--json"]);
    let lines: Vec<serde_json::Value> = run.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str, key: &str| {
        lines.iter().filter(|line| line["message_type"] == kind).map(|line| line[key].as_u64().unwrap()).sum::<u64>()
    };
    // Without the room that is kept back.
    let files = walk(&home.path("r")).into_iter().filter(|file| !file.ends_with("tmp/reserve"));
    let stored: u64 = files.map(|file| file.metadata().unwrap().len()).sum();
    assert_eq!(of("series", "bytes") + of("tier", "bytes_rest") + of("tier", "bytes_others"), stored);
    assert_eq!(of("tier", "bytes"), stored);
    // One millionth for each byte.
    assert_eq!(of("summary", "storage_millionths"), stored);
    assert_eq!(of("series", "storage_millionths") + of("tier", "rest_millionths") + of("tier", "others_millionths"), stored);
    assert_eq!(lines.iter().filter(|line| line["message_type"] == "series").count(), 2);
    home.with(2, &["cost", "--prices", "p.toml", "--what-if"]);
    home.with(2, &["cost", "--prices", "p.toml", "--what-if", "--cold-after", "3d"]);
    home.with(2, &["cost", "--prices", "none.toml"]);
    assert!(home.with(0, &["cost", "--prices", "p.toml", "--what-if", "--keep-last", "1"]).contains("instead of"));
}

fn walk(folder: &std::path::Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_lock_is_extended_and_never_shortened() {
    let home = Home::new();
    let first = home.backup();
    let dry = home.with(0, &["lock", &first, "--until", "2150-12-31", "--beyond-ten-years", "--dry-run"]);
    assert!(dry.contains("would be locked until 2150-12-31 23:59:59") && home.with(0, &["lock"]).contains("nothing is held"), "{dry}");
    assert!(home.with(2, &["lock", &first, "--until", "2150-12-31"]).contains("--beyond-ten-years"));
    home.with(2, &["lock", &first]);
    home.with(2, &["lock", "--for", "3d"]);
    home.with(2, &["lock", &first, "--until", "2020-01-01"]);
    let locked = home.with(0, &["lock", "latest", "--for", "30d"]);
    assert!(locked.contains("1 snapshot locked until"), "{locked}");
    let shorter = home.with(0, &["lock", &first, "--for", "2d"]);
    let until = &locked.split_once("locked until ").unwrap().1[..19];
    assert!(shorter.contains(&format!("locked until {until} already")) && shorter.contains("nothing to lock"), "{shorter}");
    home.with(0, &["lock", &first, "--for", "60d"]);
    assert!(home.with(0, &["lock"]).matches("lock until").count() == 2);
    assert!(home.with(0, &["snapshots"]).contains("(locked until 20"));
    let lock = home.with(0, &["hold", "list"]).lines().next().unwrap()[..8].to_owned();
    assert!(home.with(2, &["hold", "release", &lock]).contains("nobody can end"));
    assert!(home.with(13, &["forget", &first]).contains("locked until"));
    home.with(0, &["gc"]);
    home.with(0, &["check"]);
}

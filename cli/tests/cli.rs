//! The program as people run it: few tests, from end to end, each in a home folder of its own.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_icecore");

/// Someone's home folder.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file with this content, with the folders above it.
    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// The program with these arguments, in this home and nothing else of the environment.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.0.path()).current_dir(self.0.path());
        command.stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn run(&self, code: i32, arguments: &[&str]) -> Run {
        finish(code, &mut self.command(arguments))
    }

    /// A repository `r` with the key file `k`, and the options that open it.
    fn with_repository(&self) -> [&'static str; 4] {
        self.run(0, &["init", "-r", "r", "--new-key-file", "k"]);
        ["-r", "r", "--key-file", "k"]
    }
}

/// What a run printed.
struct Run {
    stdout: String,
    stderr: String,
}

impl Run {
    fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The last JSON line, which is of this type.
    #[track_caller]
    fn last(&self, message_type: &str) -> Value {
        let last = self.json().pop().unwrap();
        assert_eq!(last["message_type"], message_type, "{}", self.stdout);
        last
    }
}

#[track_caller]
fn finish(code: i32, command: &mut Command) -> Run {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let run = Run { stdout: String::from_utf8(stdout).unwrap(), stderr: String::from_utf8(stderr).unwrap() };
    assert_eq!(status.code(), Some(code), "{command:?}\n{}{}", run.stdout, run.stderr);
    run
}

fn plus<'a>(options: &[&'a str], arguments: &[&'a str]) -> Vec<&'a str> {
    [arguments, options].concat()
}

/// Bytes that do not compress, always the same.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// All files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

#[test]
fn the_default_repository_is_made_on_first_use_and_used_from_then_on() {
    let home = Home::new();
    home.write("docs/a/letter", "Dear Ann");
    let none = home.run(10, &["snapshots"]);
    assert!(none.stderr.contains("icecore backup PATH") && none.stderr.contains("-r REPO"), "{}", none.stderr);
    home.run(1, &["backup", "mistyped"]);
    assert!(!home.path(".local").exists(), "a request that cannot work makes no repository");

    let first = home.run(0, &["backup", "docs"]);
    let key = home.path(".local/share/icecore/key");
    assert_eq!(key.metadata().unwrap().mode() & 0o777, 0o600);
    assert_eq!(key.parent().unwrap().metadata().unwrap().mode() & 0o777, 0o700);
    for said in [key.to_str().unwrap(), "share/icecore/repository", "icecore restore latest --target", "Keep a copy of the key file"] {
        assert!(first.stderr.contains(said), "{said}: {}", first.stderr);
    }
    let second = home.run(0, &["backup", "docs"]);
    assert!(second.stdout.contains("new      0 B") && second.stderr.is_empty(), "{}{}", second.stdout, second.stderr);
    home.run(0, &["restore", "latest", "--target", "back"]);
    assert_eq!(fs::read(home.path("back/docs/a/letter")).unwrap(), b"Dear Ann");
    fs::remove_file(key).unwrap();
    assert!(home.run(12, &["snapshots"]).stderr.contains("--key-file"));
}

#[test]
fn what_was_backed_up_comes_back_by_series_time_path_and_id() {
    let home = Home::new();
    let options = home.with_repository();
    home.write("data/x", noise(300_000));
    home.write("data/y/z", "old");
    let backup =
        |series, time| home.run(0, &plus(&options, &["backup", "data", "--series", series, "--time", time, "--tag", "t", "--json"]));
    let first = backup("one", "2026-01-01T00:00:00Z").last("summary");
    assert_eq!([&first["files_new"], &first["files_changed"], &first["files_unmodified"], &first["files_failed"]], [2, 0, 0, 0]);
    assert!(first["bytes_read"] == 300_003 && first["bytes_unique"] == 300_003 && first["bytes_stored"].as_u64().unwrap() > 300_000);
    assert!(first["duration_s"].is_f64());
    home.write("data/y/z", "newer");
    backup("one", "2026-01-02T00:00:00.5Z");
    home.write("data/y/z", "of the other series");
    backup("two", "2026-01-03T00:00:00Z");

    let lines = home.run(0, &plus(&options, &["snapshots", "--json"])).json();
    let [one, later, other, summary] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(one["id"], first["snapshot_id"]);
    assert_eq!((&one["message_type"], &one["series"], &one["time"]), (&"snapshot".into(), &"one".into(), &"2026-01-01T00:00:00Z".into()));
    assert_eq!((&one["paths"], &one["tags"]), (&serde_json::json!([home.path("data")]), &serde_json::json!(["t"])));
    assert!(one["bytes_total"] == 300_003 && one["bytes_stored"].as_u64().unwrap() > 300_000);
    assert_eq!((&later["series"], &other["series"], &summary["message_type"]), (&"one".into(), &"two".into(), &"summary".into()));

    let z = |arguments: &[&str]| home.run(0, &plus(&options, &plus(arguments, &["restore", "--path", "/data/y/z", "--stdout"]))).stdout;
    assert_eq!(z(&["latest"]), "of the other series");
    assert_eq!(z(&["latest", "--series", "one"]), "newer");
    assert_eq!(z(&["latest", "--at", "2026-01-02T00:00:00Z"]), "newer", "a second is all of that second");
    assert_eq!(z(&["latest", "--at", "2026-01-01T12:00:00Z"]), "old");
    assert_eq!(z(&[&one["id"].as_str().unwrap()[..8]]), "old");
    assert_eq!(home.run(0, &plus(&options, &["cat", "latest", "data/y/z"])).stdout, "of the other series");
    let table = home.run(0, &plus(&options, &["snapshots", "--series", "two"])).stdout;
    assert!(table.lines().count() == 3 && table.contains(&other["id"].as_str().unwrap()[..8]), "{table}");

    let restored = home.run(0, &plus(&options, &["restore", "latest", "--target", "back", "--json"])).last("summary");
    assert_eq!((&restored["entries"], &restored["files"], &restored["items_failed"]), (&5.into(), &2.into(), &0.into()), "{restored}");
    assert_eq!(fs::read(home.path("back/data/x")).unwrap(), noise(300_000));
    let listing = home.run(0, &plus(&options, &["ls", "latest", "data/y"])).stdout;
    assert_eq!(listing, "data/y/\ndata/y/z\n");
    for command in ["check", "scrub", "stats"] {
        home.run(0, &plus(&options, &[command, "--json"])).last("summary");
    }
}

#[test]
fn forget_says_why_and_drops_only_what_no_rule_keeps() {
    let home = Home::new();
    let options = home.with_repository();
    let backup = |series: &str, day: u8| {
        home.write("data/x", noise(40_000 + 10_000 * usize::from(day)));
        let time = format!("2026-01-0{day}T12:00:00Z");
        let arguments = ["backup", "data", "--series", series, "--time", &time, "--json"];
        home.run(0, &plus(&options, &arguments)).last("summary")["snapshot_id"].as_str().unwrap().to_owned()
    };
    let one: Vec<_> = (1..=4).map(|day| backup("one", day)).collect();
    let other = backup("two", 1);
    let run = |code, arguments: &[&str]| home.run(code, &plus(&options, arguments));
    let shown = || run(0, &["snapshots", "--json"]).last("summary")["snapshots"].as_u64().unwrap();

    for wrong in [&["forget"][..], &["forget", "--dry-run"], &["forget", "--keep-last", "0"], &["forget", "latest"]] {
        run(2, wrong);
    }
    run(2, &["forget", &one[0], "--keep-last", "1"]);
    run(1, &["forget", &one[0], "0123456789"]);
    run(2, &["forget", "--keep-within", "soon"]);
    assert_eq!(shown(), 5);

    let dry = run(0, &["forget", "--keep-last", "1", "--keep-within", "1d", "--dry-run"]);
    assert!(dry.stdout.contains("one: 2 of 4 stay") && dry.stdout.contains("two: 1 of 1 stay"), "{}", dry.stdout);
    assert!(dry.stdout.contains(&format!("keep  {}", &one[3][..8])) && dry.stdout.contains("newest, last 1 of 1"), "{}", dry.stdout);
    assert!(dry.stdout.contains("last: 1 newer, more than 1 d before the newest") && dry.stdout.contains("nothing was changed"));
    assert_eq!(shown(), 5);
    let freed = run(0, &["stats", "--if-forgotten", "--keep-last", "1", "--series", "one", "--json"]).last("summary");
    assert_eq!(freed["snapshot_ids"], serde_json::json!(one[..3]));
    let by_id = run(0, &["stats", "--json", "--if-forgotten", &one[0], &one[1], &one[2][..8]]).last("summary");
    assert_eq!(by_id, freed);
    assert!(freed["bytes_freed"].as_u64().unwrap() + freed["bytes_freed_in_part"].as_u64().unwrap() > 0, "{freed}");
    run(2, &["stats", "--if-forgotten"]);
    run(2, &["stats", "--keep-last", "1"]);

    let lines = run(0, &["forget", "--keep-daily", "2", "--series", "one", "--json"]).json();
    let said: Vec<_> =
        lines.iter().map(|line| (line["id"].as_str().unwrap_or_default(), line["action"].as_str().unwrap_or_default())).collect();
    let expected = [(&*one[0], "drop"), (&*one[1], "drop"), (&*one[2], "keep"), (&*one[3], "keep"), ("", "")];
    assert_eq!(said, expected);
    assert_eq!((&lines[0]["series"], &lines[0]["reasons"]), (&"one".into(), &serde_json::json!(["daily: 2 newer"])));
    assert_eq!((&lines[4]["forgotten"], &lines[4]["snapshots_kept"]), (&2.into(), &2.into()));
    let named = run(0, &["forget", &one[3][..8], &other]);
    assert!(named.stdout.contains("2 snapshots forgotten") && named.stdout.contains("icecore gc"), "{}", named.stdout);
    assert_eq!(run(0, &["forget", &one[3], "--json"]).last("summary")["withdrawn_before"], 1);
    assert_eq!(shown(), 1);
    assert!(run(0, &["check"]).stderr.contains("withdrawn snapshots that are still there and do not count: 4"));
    run(0, &["restore", &one[2][..8], "--target", "back"]);
    assert_eq!(fs::read(home.path("back/data/x")).unwrap(), noise(70_000));
}

#[test]
fn a_folder_is_restored_into_the_target_or_by_its_name() {
    let home = Home::new();
    let options = home.with_repository();
    home.write("X/file", "1");
    home.write("b/X/file", "2");
    let layout = |paths: &[&str], target: &str| {
        let said = home.run(0, &plus(&options, &plus(paths, &["backup"])));
        home.run(0, &plus(&options, &["restore", "latest", "--target", target]));
        let mut files = files_below(&home.path(target));
        files.sort();
        let below = |file: PathBuf| file.strip_prefix(home.path(target)).unwrap().to_str().unwrap().to_owned();
        (files.into_iter().map(below).collect::<Vec<_>>(), said.stderr)
    };
    assert_eq!(layout(&["X/."], "content").0, ["file"]);
    assert_eq!(layout(&["X"], "relative").0, ["X/file"]);
    assert_eq!(layout(&[home.path("X").to_str().unwrap()], "absolute").0, ["X/file"]);
    let (files, said) = layout(&["X", "b/X"], "both");
    assert!(files.len() == 2 && files.iter().all(|file| file.ends_with("X/file")) && said.contains('X'), "{files:?} {said}");
}

#[test]
fn a_stream_comes_back_byte_for_byte() {
    let home = Home::new();
    let options = home.with_repository();
    let content = noise(3_000_000);
    home.write("stream", &content);
    let stdin = fs::File::open(home.path("stream")).unwrap();
    finish(0, home.command(&plus(&options, &["backup", "--stdin", "--name", "db/dump.sql"])).stdin(stdin));
    for arguments in [&["restore", "latest", "--stdout"][..], &["cat", "latest", "db/dump.sql", "--json"]] {
        let output = home.command(&plus(&options, arguments)).output().unwrap();
        assert!(output.status.success() && output.stdout == content, "{arguments:?}");
        if arguments[0] == "cat" {
            let lines = String::from_utf8(output.stderr).unwrap();
            assert!(lines.trim_end().lines().last().unwrap().contains("\"summary\""), "{lines}");
        }
    }
}

#[test]
fn passphrases_come_from_a_file_a_command_or_the_environment() {
    let home = Home::new();
    home.write("pass", "correct horse\n");
    home.run(0, &["init", "-r", "r", "--password-file", "pass"]);
    home.run(0, &["snapshots", "-r", "r", "--password-command", "cat pass"]);
    finish(0, home.command(&["snapshots"]).env("ICECORE_REPOSITORY", "r").env("ICECORE_PASSWORD", "correct horse"));
    finish(0, home.command(&["snapshots", "-r", "r"]).env("ICECORE_PASSWORD_FILE", "pass"));
    let wrong = finish(12, home.command(&["snapshots", "-r", "r", "--json"]).env("ICECORE_PASSWORD", "wrong"));
    let error = wrong.last("exit_error");
    assert_eq!((&error["code"], &error["kind"]), (&12.into(), &"unauthorized".into()));
    assert!(home.run(2, &["snapshots", "-r", "r"]).stderr.contains("--password-file"));
    home.run(2, &["snapshots", "-r", "r", "--password-file", "pass", "--key-file", "pass"]);
    home.run(12, &["snapshots", "-r", "r", "--key-file", "pass"]);
    home.run(1, &["init", "-r", "r", "--password-file", "pass"]);
    home.run(1, &["init", "-r", "r2", "--new-key-file", "pass"]);
    assert_eq!(fs::read(home.path("pass")).unwrap(), b"correct horse\n", "nothing is overwritten");
}

#[test]
fn exit_codes_say_what_happened() {
    let home = Home::new();
    assert_eq!(home.run(2, &["backup", "--json"]).last("exit_error")["code"], 2);
    assert_eq!(home.run(10, &["snapshots", "-r", "nowhere", "--json"]).last("exit_error")["kind"], "no_repository");
    assert!(home.run(1, &["snapshots", "-r", "rest:http://host/x"]).stderr.contains("no kind of place"));

    let options = home.with_repository();
    home.write("data/file", noise(200_000));
    home.run(0, &plus(&options, &["backup", "data"]));
    let pack = files_below(&home.path("r/packs")).pop().unwrap();
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[100_000] ^= 1;
    fs::write(&pack, bytes).unwrap();
    let found = home.run(14, &plus(&options, &["scrub", "--json"]));
    let finding = found.json().into_iter().find(|line| line["message_type"] == "finding").unwrap();
    assert!(finding["paths"] == serde_json::json!(["data/file"]) && finding["snapshots"].as_array().unwrap().len() == 1, "{finding}");
    assert!(found.last("summary")["findings"].as_u64().unwrap() > 0);
    let said = home.run(14, &plus(&options, &["scrub"]));
    assert!(said.stdout.contains("data/file"), "{}", said.stdout);
    home.run(14, &["scrub", "--keyless", "-r", "r"]);
    home.run(14, &plus(&options, &["restore", "latest", "--target", "back"]));
}

#[test]
fn what_cannot_be_read_gives_three_and_the_rest_is_stored() {
    let home = Home::new();
    home.write("data/secret", "x");
    home.write("data/plain", "y");
    fs::set_permissions(home.path("data/secret"), fs::Permissions::from_mode(0o000)).unwrap();
    let program = home.path("icecore");
    fs::copy(PROGRAM, &program).unwrap();
    let run = |code, arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).env_clear().env("HOME", home.0.path()).current_dir(home.0.path()).stdin(Stdio::null());
        if geteuid().is_root() {
            // Root may read everything.
            command.uid(65_534).gid(65_534);
        }
        finish(code, &mut command)
    };
    if geteuid().is_root() {
        for path in ["", "data", "data/secret", "data/plain"] {
            chown(home.path(path), Some(65_534), Some(65_534)).unwrap();
        }
    }
    let backup = run(3, &["backup", "data", "--json"]);
    assert_eq!(backup.last("summary")["files_failed"], 1);
    let failed = backup.json().into_iter().find(|line| line["message_type"] == "item_failed").unwrap();
    assert!(failed["item"].as_str().unwrap().ends_with("data/secret"), "{failed}");
    assert!(run(0, &["snapshots"]).stdout.contains("(incomplete)"));
    run(0, &["restore", "latest", "--path", "data/plain", "--target", "back"]);
    assert_eq!(fs::read(home.path("back/data/plain")).unwrap(), b"y");
}

#[test]
fn the_repository_and_the_cache_are_not_backed_up_into_it() {
    let home = Home::new();
    home.write("all/data", "x");
    let repository = "all/we[i]rd *\\repo {a,b}!";
    home.run(0, &["init", "-r", repository, "--new-key-file", "k"]);
    let options = ["-r", repository, "--key-file", "k", "--cache-dir", "all/cache"];
    let said = home.run(0, &plus(&options, &["backup", "all"]));
    assert!(said.stderr.contains("the repository in") && said.stderr.contains("the cache in"), "{}", said.stderr);
    assert_eq!(home.run(0, &plus(&options, &["ls", "latest", "-R"])).stdout, "./\nall/\nall/data\n");
    home.run(2, &plus(&options, &["backup", repository]));
}

#[test]
fn whoever_stops_reading_is_no_failure() {
    let home = Home::new();
    let options = home.with_repository();
    home.write("data/file", noise(2_000_000));
    home.run(0, &plus(&options, &["backup", "data"]));
    let mut child =
        home.command(&plus(&options, &["cat", "latest", "data/file"])).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 10]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}

#[test]
fn an_interrupted_backup_makes_no_snapshot_and_harms_nothing() {
    let home = Home::new();
    let options = home.with_repository();
    let arguments = plus(&options, &["backup", "--stdin", "--name", "s", "--json"]);
    let mut child = home.command(&arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // More than a pipe holds: when it is written, the program reads and hence catches signals.
    stdin.write_all(&noise(8_000_000)).unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8(output.stdout).unwrap().contains("\"exit_error\""));
    assert_eq!(home.run(0, &plus(&options, &["snapshots", "--json"])).last("summary")["snapshots"], 0);
    home.write("data", "x");
    home.run(0, &plus(&options, &["backup", "data"]));
    home.run(0, &plus(&options, &["check"]));
}

#[test]
fn names_that_are_no_text_are_shown_safely_and_exactly() {
    use std::os::unix::ffi::OsStrExt;
    let home = Home::new();
    let options = home.with_repository();
    fs::create_dir(home.path("data")).unwrap();
    fs::write(home.path("data").join(std::ffi::OsStr::from_bytes(b"a\x1b[2J\n\xff")), "x").unwrap();
    home.run(0, &plus(&options, &["backup", "data"]));
    let listing = home.run(0, &plus(&options, &["ls", "latest", "-lR"])).stdout;
    assert!(!listing.contains('\x1b') && listing.lines().count() == 3, "{listing}");
    let entries = home.run(0, &plus(&options, &["ls", "latest", "-R", "--json"])).json();
    assert!(entries.iter().any(|entry| entry["path_hex"] == "646174612f611b5b324a0aff"), "{entries:?}");
}

#[test]
fn keys_do_what_their_roles_allow_and_no_more() {
    let home = Home::new();
    let admin = home.with_repository();
    home.write("data/file", "layers of ice");
    let add = |role: &'static str, file: &'static str| {
        let made = home.run(0, &plus(&admin, &["key", "add", "--role", role, "--new-key-file", file, "--json"])).last("summary");
        assert_eq!((&made["roles"], &made["kind"], &made["key_file"]), (&serde_json::json!([role]), &"key file".into(), &file.into()));
        assert_eq!(home.path(file).metadata().unwrap().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(home.path(file)).unwrap().starts_with("icecore-key-1:"));
        (["-r", "r", "--no-cache", "--key-file", file], made["id"].as_str().unwrap().to_owned())
    };
    let ((backup, id), (maintain, _), (restore, _)) = (add("backup", "b"), add("maintain", "m"), add("restore", "x"));
    home.run(0, &plus(&backup, &["backup", "data"]));
    let again = home.run(0, &plus(&backup, &["backup", "data", "--json"])).last("summary");
    assert_eq!(again["bytes_unique"], 0);
    for refused in [&["restore", "latest", "--target", "t"][..], &["snapshots"], &["ls", "latest"], &["key", "rotate"]] {
        let error = home.run(12, &plus(&backup, &plus(&["--json"], refused))).last("exit_error");
        assert_eq!(error["kind"], "unauthorized", "{refused:?}");
    }
    home.run(12, &plus(&backup, &["cat", "latest", "data/file"]));
    home.run(12, &plus(&backup, &["key", "add", "--new-key-file", "theirs"]));
    assert!(!home.path("theirs").exists(), "a key that opens nothing is not left behind");
    home.run(0, &plus(&maintain, &["check"]));
    home.run(0, &plus(&maintain, &["scrub"]));
    home.run(12, &plus(&maintain, &["backup", "data"]));
    home.run(12, &plus(&maintain, &["ls", "latest"]));
    assert_eq!(home.run(0, &plus(&restore, &["cat", "latest", "data/file"])).stdout, "layers of ice");
    home.run(12, &plus(&restore, &["backup", "data"]));

    let table = home.run(0, &plus(&admin, &["key", "list"])).stdout;
    assert!(table.lines().count() == 5 && table.contains(&id[..8]) && table.contains(" *"), "{table}");
    let plan = home.run(0, &plus(&admin, &["key", "remove", &id[..8], "--dry-run", "--json"])).last("summary");
    assert_eq!((&plan["dry_run"], &plan["removed"]["id"], &plan["kept"]), (&true.into(), &id.as_str().into(), &3.into()));
    home.run(0, &plus(&backup, &["backup", "data"]));
    home.run(0, &plus(&admin, &["key", "remove", &id]));
    assert!(home.run(12, &plus(&backup, &["backup", "data"])).stderr.contains("was removed"));
    home.run(1, &plus(&admin, &["key", "remove", &id]));
    home.run(1, &plus(&admin, &["key", "remove", "0000"]));
    let rotated = home.run(0, &plus(&admin, &["key", "rotate", "--json"])).last("summary");
    assert_eq!((&rotated["config_generation"], &rotated["structure_epoch"], &rotated["kept"]), (&3.into(), &3.into(), &3.into()));
    home.run(0, &plus(&admin, &["backup", "data"]));
    assert_eq!(home.run(0, &plus(&restore, &["cat", "latest", "data/file"])).stdout, "layers of ice");
    home.run(0, &plus(&maintain, &["scrub"]));
    let lines = home.run(0, &plus(&restore, &["key", "list", "--json"])).json();
    let states: Vec<_> =
        lines.iter().filter(|line| line["message_type"] == "key_slot").map(|line| line["active"].as_bool().unwrap()).collect();
    assert_eq!((states.len(), states.iter().filter(|active| !**active).count()), (4, 1));
}

#[test]
fn passphrases_recipients_and_commands_are_ways_in_too() {
    let home = Home::new();
    let admin = home.with_repository();
    home.write("data", "x");
    home.write("pass", "correct horse\n");
    let add = |arguments: &[&str]| home.run(0, &plus(&admin, &plus(arguments, &["key", "add"])));
    add(&["--new-password-file", "pass"]);
    home.run(0, &["backup", "data", "-r", "r", "--password-file", "pass"]);

    let recipient = home.run(0, &["key", "new-recipient", "ann.key"]).stdout;
    home.write("ann.recipient", &recipient);
    add(&["--recipient", "ann.recipient", "--role", "restore"]);
    assert_eq!(home.run(0, &["cat", "latest", "data", "-r", "r", "--key-file", "ann.key"]).stdout, "x");
    assert_eq!(files_below(&home.path(".local/share/icecore/known-admins")).len(), 1);
    home.run(0, &["init", "-r", "r2", "--new-key-file", "k2"]);
    home.run(0, &["key", "add", "-r", "r2", "--key-file", "k2", "--recipient", recipient.trim()]);
    assert!(home.run(14, &["snapshots", "-r", "r2", "--key-file", "ann.key"]).stderr.contains("SLOT-11"));
    home.run(2, &plus(&admin, &["key", "add", "--recipient", "pass"]));

    let command = "printf '%064d' 7";
    add(&["--new-key-command", command, "--role", "backup", "--domain", "laptops"]);
    home.run(0, &["backup", "data", "-r", "r", "--key-command", command]);
    home.run(12, &["backup", "data", "-r", "r", "--key-command", "printf '%064d' 8"]);
    home.run(12, &["backup", "data", "-r", "r", "--key-command", "echo no key"]);
    home.run(2, &plus(&admin, &["key", "add"]));
    home.run(2, &plus(&admin, &["key", "add", "--new-key-file", "r/inside"]));
    home.run(1, &plus(&admin, &["key", "add", "--new-key-file", "pass"]));
}

#[test]
fn every_command_has_help_with_an_example() {
    let home = Home::new();
    let commands = [
        "init",
        "backup",
        "restore",
        "snapshots",
        "ls",
        "cat",
        "stats",
        "forget",
        "check",
        "scrub",
        "repair",
        "gc",
        "key",
        "completions",
        "version",
    ];
    for command in commands {
        let help = home.run(0, &[command, "--help"]).stdout;
        assert!(help.contains(&format!("\n  icecore {command}")), "{command}: {help}");
    }
    for command in ["add", "list", "remove", "rotate", "new-recipient"] {
        let help = home.run(0, &["key", command, "--help"]).stdout;
        assert!(help.contains(&format!("\n  icecore key {command}")), "{command}: {help}");
    }
    assert!(home.run(0, &["completions", "bash"]).stdout.contains("icecore"));
    for arguments in [["version", "--json"].as_slice(), &["completions", "zsh", "--json"]] {
        home.run(0, arguments).last("summary");
    }
}

//! The program over an object store: a small S3 server in this process, which fails as it is told.

#![cfg(feature = "object-store")]
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use icecore::backend::testing::s3::{ACCESS_KEY, Asked, Fault, S3Server};
use icecore::runtime::SystemClock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

/// A home folder, and a bucket with a repository that is opened by the key file in there.
struct World {
    home: tempfile::TempDir,
    server: S3Server,
}

/// What a run printed.
struct Run {
    stdout: String,
    stderr: String,
}

impl Run {
    fn summary(&self) -> Value {
        let line = self.stdout.lines().last().unwrap();
        serde_json::from_str(line).unwrap()
    }
}

impl World {
    fn new() -> Self {
        let world = Self { home: tempfile::tempdir().unwrap(), server: S3Server::start() };
        world.run(0, &["init", "--new-key-file", "k"]);
        world.write("data/noise", &noise(1, 3 << 20));
        world.write("data/words", "it was a dark and stormy night\n".repeat(9_999).as_bytes());
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_icecore"));
        command.args(arguments);
        if arguments.first() != Some(&"init") {
            command.args(["--key-file", "k"]);
        }
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("ICECORE_REPOSITORY", "s3://bucket/some/prefix")
            .env("HOME", self.home.path())
            .current_dir(self.home.path());
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", "secret").env("AWS_ENDPOINT_URL", self.server.endpoint());
        command.stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn run(&self, code: i32, arguments: &[&str]) -> Run {
        finish(code, &mut self.command(arguments))
    }

    /// Everything that was backed up comes back, and nothing is damaged.
    #[track_caller]
    fn proves(&self, folder: &str) {
        let target = tempfile::tempdir_in(self.home.path()).unwrap();
        self.run(0, &["restore", "latest", "--target", target.path().to_str().unwrap(), "--no-cache"]);
        for file in ["noise", "words"] {
            let found = fs::read(target.path().join(folder).join(file)).unwrap();
            assert!(found == fs::read(self.path(folder).join(file)).unwrap(), "{file}");
        }
        self.run(0, &["check", "--no-cache"]);
    }
}

#[track_caller]
fn finish(code: i32, command: &mut Command) -> Run {
    let output = command.output().unwrap();
    let run = Run { stdout: String::from_utf8(output.stdout).unwrap(), stderr: String::from_utf8(output.stderr).unwrap() };
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{}{}", run.stdout, run.stderr);
    run
}

/// Bytes that do not compress, always the same for a seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Writes that belong to packs.
fn writes_pack(asked: &Asked) -> bool {
    asked.method == "PUT" && asked.key.contains("/packs/")
}

#[test]
fn a_bucket_is_a_place_like_any_other() {
    let world = World::new();
    let first = world.run(0, &["backup", "data", "--json"]).summary();
    assert!(first["store"]["requests_put"].as_u64().unwrap() >= 5, "{first}");
    assert!(first["store"]["bytes_sent"].as_u64().unwrap() > 3 << 20, "{first}");
    world.proves("data");
    world.write("data/words", b"now it is day\n");
    let second = world.run(0, &["backup", "data", "--json"]).summary();
    assert!(second["store"]["bytes_sent"].as_u64().unwrap() < 100_000, "only what is new travels: {second}");
    let said = world.run(0, &["snapshots", "-v"]);
    assert!(
        said.stderr.contains("requests to the store: 0 put") || said.stderr.contains("requests to the store: 2 put"),
        "{}",
        said.stderr
    );
    world.proves("data");
    world.run(0, &["forget", "--keep-last", "1"]);
    world.run(0, &["gc"]);
    world.run(0, &["scrub"]);
    world.proves("data");
    // The address is no folder, and no secret is asked of it.
    world.run(10, &["snapshots", "-r", "s3://bucket/empty"]);
}

#[test]
fn several_clients_back_up_while_garbage_is_collected() {
    many_clients(&World::new(), &["cache-gc", "cache-gc2"]);
}

/// Then one machine collects; backups of others go on beside it.
#[test]
fn several_clients_back_up_beside_one_collector_where_nothing_is_created_only_if_absent() {
    let world = World::new();
    world.server.ignore_conditions();
    many_clients(&world, &["cache-gc"]);
}

/// So many collectors at once.
fn many_clients(world: &World, collectors: &[&str]) {
    world.run(0, &["backup", "data", "--series", "data"]);
    world.run(0, &["backup", "data", "--series", "data", "--tag", "old"]);
    for client in ["one", "two", "three"] {
        world.write(&format!("{client}/noise"), &noise(client.len() as u64, 2 << 20));
        world.write(&format!("{client}/words"), client.as_bytes());
    }
    for round in 0..2 {
        let start = |arguments: &[&str]| world.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let backups =
            ["one", "two", "three"].map(|client| start(&["backup", client, "--series", client, "--cache-dir", &format!("cache-{client}")]));
        world.run(0, &["forget", "--tag", "old", "--keep-last", "1"]);
        let running: Vec<Child> = collectors.iter().map(|cache| start(&["gc", "--cache-dir", cache])).collect();
        for child in backups.into_iter().chain(running) {
            ends_well(child, round);
        }
    }
    for client in ["one", "two", "three", "data"] {
        let target = world.path(&format!("restored-{client}"));
        world.run(0, &["restore", "latest", "--series", client, "--target", target.to_str().unwrap()]);
        assert!(fs::read(target.join(client).join("noise")).unwrap() == fs::read(world.path(client).join("noise")).unwrap(), "{client}");
    }
    world.run(0, &["gc"]);
    world.run(0, &["check"]);
}

fn ends_well(child: Child, round: u32) {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "round {round}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_client_that_is_killed_leaves_nothing_to_unlock() {
    let world = World::new();
    let child = Arc::new(Mutex::new(None::<Pid>));
    let victim = Arc::clone(&child);
    let (told, killed) = mpsc::channel();
    world.server.fail_by(move |asked| {
        let is_meant = writes_pack(asked);
        if is_meant && let Some(pid) = victim.lock().unwrap().take() {
            kill_process(pid, Signal::KILL).unwrap();
            told.send(()).unwrap();
        }
        is_meant.then_some(Fault::NoAnswer)
    });
    let mut running = {
        let mut pid = child.lock().unwrap();
        let running = world.command(&["backup", "data"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        *pid = Pid::from_raw(i32::try_from(running.id()).unwrap());
        running
    };
    killed.recv().unwrap();
    assert!(!running.wait().unwrap().success());
    world.server.fail_no_more();
    let again = world.run(0, &["backup", "data", "--json"]).summary();
    assert!(again["store"]["bytes_sent"].as_u64().unwrap() < 1 << 20, "what was stored is found again: {again}");
    world.proves("data");
    world.run(0, &["gc"]);
    world.proves("data");
}

#[test]
fn bad_days_end_with_clear_errors_and_the_next_run_goes_on() {
    let world = World::new();
    for (status, code, hint) in [
        (400, "ExpiredToken", "get new ones"),
        (403, "QuotaExceeded", "no more room"),
        (403, "RequestTimeTooSkewed", "clock"),
        (403, "AccessDenied", "may not do that"),
    ] {
        world.server.fail_by(move |asked| writes_pack(asked).then_some(Fault::Refuse(status, code)));
        let failed = world.run(1, &["backup", "data"]);
        assert!(failed.stderr.contains(hint) && failed.stderr.contains(code), "{code}: {}", failed.stderr);
        world.server.fail_no_more();
    }
    // A store that is busy for a moment, and one that hangs up after it did what was asked, are not even noticed.
    let mut busy = 4;
    world.server.fail_by(move |asked| {
        let fault =
            if asked.number.is_multiple_of(7) { Some(Fault::NoAnswer) } else { (busy > 0).then_some(Fault::Refuse(503, "SlowDown")) };
        busy -= i32::from(fault == Some(Fault::Refuse(503, "SlowDown")));
        fault
    });
    world.run(0, &["backup", "data"]);
    world.server.fail_by(|asked| (asked.method == "GET" && asked.number.is_multiple_of(5)).then_some(Fault::CutShort));
    world.proves("data");
    world.server.fail_no_more();

    let failed = finish(1, world.command(&["snapshots"]).env("AWS_ACCESS_KEY_ID", "nobody"));
    assert!(failed.stderr.contains("does not know this access key"), "{}", failed.stderr);
    let failed = finish(2, world.command(&["snapshots"]).args(["--store-option", "colour=red"]));
    assert!(failed.stderr.contains("colour"), "{}", failed.stderr);
}

#[test]
fn packs_that_a_lifecycle_rule_deleted_are_damage_and_come_back_with_the_next_backup() {
    let world = World::new();
    world.run(0, &["backup", "data"]);
    let packs: Vec<String> = world.server.keys().into_iter().filter(|key| key.contains("/packs/")).collect();
    packs.iter().for_each(|key| world.server.plant(key, None));
    world.run(14, &["check"]);
    let target = world.path("lost");
    let lost = world.command(&["restore", "latest", "--target", target.to_str().unwrap()]).output().unwrap();
    assert!(!lost.status.success());
    // Nothing is taken for there that is not.
    world.run(0, &["backup", "data"]);
    let target = tempfile::tempdir_in(world.home.path()).unwrap();
    world.run(0, &["restore", "latest", "--target", target.path().to_str().unwrap(), "--no-cache"]);
    assert!(fs::read(target.path().join("data/noise")).unwrap() == fs::read(world.path("data/noise")).unwrap());
}

#[test]
fn doctor_says_what_a_store_can_do() {
    let world = World::new();
    let before = world.server.keys();
    let said = world.run(0, &["doctor"]);
    assert!(said.stdout.contains("create if absent") && said.stdout.contains("uploads in parts"), "{}", said.stdout);
    assert_eq!((world.server.keys(), world.server.uploads()), (before, 0), "the scratch prefix is empty again");
    for extra in ["list after write", "conditional delete", "no object lock (it is not switched on", "no storage classes (the store has"] {
        assert!(said.stdout.contains(extra), "{extra}: {}", said.stdout);
    }
    world.server.ignore_conditions();
    world.server.have_extras();
    let said = world.run(0, &["doctor", "--json"]);
    let abilities: Vec<Value> = said.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ability = |name: &str| abilities.iter().find(|line| line["message_type"] == "ability" && line["name"] == name).unwrap();
    assert_eq!((&ability("create if absent")["found"], &ability("list after write")["found"]), (&"no".into(), &"yes".into()));
    assert_eq!(ability("storage classes")["detail"], "STANDARD_IA, GLACIER_IR");
    assert!(said.stdout.contains("no create if absent") && said.stdout.contains("only one machine"), "{}", said.stdout);
    let home = tempfile::tempdir_in(world.home.path()).unwrap();
    let key = home.path().join("key");
    let made = finish(0, world.command(&["init", "--new-key-file", key.to_str().unwrap()]).args(["-r", "s3://bucket/other"]));
    assert!(made.stderr.contains("only one machine"), "{}", made.stderr);
    world.server.fail_by(|asked| (asked.method == "PUT").then_some(Fault::Refuse(403, "AccessDenied")));
    let said = world.run(0, &["doctor"]);
    assert!(said.stdout.contains("may not do that"), "{}", said.stdout);
}

#[test]
fn listings_that_lag_behind_are_waited_for_by_every_command() {
    let world = World::new();
    world.server.lag_listings(Arc::new(SystemClock), 150_000_000);
    let lag = ["--listing-lag", "0.15"];
    world.run(0, &[&["backup", "data"][..], &lag].concat());
    world.write("data/words", b"now it is day\n");
    world.run(0, &[&["backup", "data"][..], &lag].concat());
    world.run(0, &[&["forget", "--keep-last", "1"][..], &lag].concat());
    world.run(0, &[&["gc"][..], &lag].concat());
    world.run(0, &[&["check"][..], &lag].concat());
    world.proves("data");
    world.run(2, &["snapshots", "--listing-lag", "soon"]);
}

#[test]
fn a_replica_stands_in_another_store_with_credentials_of_its_own() {
    let world = World::new();
    let other = S3Server::start();
    world.run(0, &["backup", "data"]);
    let replicate = |more: &[&str]| {
        let mut command = world.command(&["replicate", "--to", "s3://bucket/copy", "--to-endpoint", &other.endpoint(), "--json"]);
        command.args(more).env("ICECORE_TO_AWS_ACCESS_KEY_ID", ACCESS_KEY).env("ICECORE_TO_AWS_SECRET_ACCESS_KEY", "other");
        command
    };
    // Those of the first place do not count there.
    let failed = finish(1, replicate(&[]).env("ICECORE_TO_AWS_ACCESS_KEY_ID", "nobody"));
    assert!(failed.stderr.contains("does not know this access key"), "{}", failed.stderr);
    let first = finish(0, &mut replicate(&[])).summary();
    let (planned, sent) = (first["bytes_planned"].as_u64().unwrap(), first["bytes_sent"].as_u64().unwrap());
    assert!(planned > 3 << 20 && sent <= planned + planned / 50, "{first}");
    assert!(
        world.server.keys().iter().all(|key| !key.starts_with("copy/")) && other.keys().iter().any(|key| key.starts_with("copy/packs/"))
    );
    assert_eq!(finish(0, &mut replicate(&[])).summary()["bytes_sent"], 0);
    let target = world.path("back");
    let mut restore = world.command(&["restore", "latest", "-r", "s3://bucket/copy", "--endpoint", &other.endpoint()]);
    finish(0, restore.args(["--target", target.to_str().unwrap()]));
    assert!(fs::read(target.join("data/noise")).unwrap() == fs::read(world.path("data/noise")).unwrap());
}

#[test]
fn gc_takes_back_uploads_that_nobody_finishes() {
    let world = World::new();
    world.run(0, &["backup", "data"]);
    world.server.plant_upload("some/prefix/packs/ab/abababababababababababababababab");
    world.server.plant_upload("elsewhere/packs/ab/abababababababababababababababab");
    world.run(0, &["gc"]);
    assert_eq!(world.server.uploads(), 1, "those of others stay");
}

#[test]
fn a_time_that_lies_warm_frozen_and_in_a_drawer_is_planned_and_restored() {
    let world = World::new();
    let backup = |series: &str, day: u32, files: &[(&str, u64)]| {
        let _ = fs::remove_dir_all(world.path("state"));
        files.iter().for_each(|(name, seed)| world.write(&format!("state/{name}"), &noise(*seed, 200_000)));
        world.run(0, &["backup", "state", "--series", series, "--time", &format!("2026-01-{day:02}T12:00:00Z")]);
    };
    let (a, b, c) = (("a", 11), ("b", 12), ("c", 13));
    backup("s", 1, &[a]);
    backup("s", 2, &[a, b]);
    backup("s", 3, &[a, b, c]);
    backup("s", 4, &[("d", 14)]);
    backup("keeps b", 5, &[b]);
    backup("keeps c", 6, &[c]);
    // First what only `s` needs goes to a disk; then `b`, which nobody needs to be warm any more, into an archive class of the bucket.
    world.run(0, &["tier", "add", "disk", "drawer/disk", "--rank", "2", "--removable", "--label", "disk 7"]);
    world.run(0, &["tier", "add", "glacier", "s3://bucket/cold", "--storage-class", "GLACIER", "--thaw-class", "bulk:12:2.5:0"]);
    let lives = ["--series", "keeps b=never", "--series", "keeps c=never"];
    let moved = |tier: &str| world.run(0, &[&["tier", "apply", tier, "--json"], &lives[..]].concat()).summary()["moved"]["packs"].clone();
    assert_eq!(moved("disk"), 1);
    backup("keeps b", 7, &[("x", 15)]);
    let lives = &lives[2..];
    assert_eq!(world.run(0, &[&["tier", "apply", "glacier", "--json"], lives].concat()).summary()["moved"]["packs"], 1);
    fs::rename(world.path("drawer"), world.path("elsewhere")).unwrap();

    let at = ["latest", "--series", "s", "--at", "2026-01-03T23:00:00Z"];
    let planned = world.run(0, &[&["restore"], &at[..], &["--plan", "--json"]].concat()).summary();
    let of = |name: &str| planned["tiers"].as_array().unwrap().iter().find(|tier| tier["name"] == name).unwrap().clone();
    assert!(planned["warm"]["packs"] == 1 && planned["is_ready"] == false, "{planned}");
    assert!(of("disk")["absent"].as_str().unwrap().contains("disk 7") && of("glacier")["frozen"]["packs"] == 1, "{planned}");
    assert_eq!(of("glacier")["classes"][0]["seconds"], 43_200);
    let restore = |code| world.run(code, &[&["restore"], &at[..], &["--target", "back"]].concat());
    let is_back = |name: &str, seed| fs::read(world.path(&format!("back/state/{name}"))).is_ok_and(|bytes| bytes == noise(seed, 200_000));
    assert!(restore(15).stderr.contains("disk 7"));
    assert_eq!([is_back("a", 11), is_back("b", 12), is_back("c", 13)], [false, false, true]);
    // What is in the bucket thaws meanwhile.
    let asked = world.run(15, &[&["thaw"], &at[..], &["--class", "bulk", "--json"]].concat());
    assert_eq!((asked.summary()["asked"]["packs"].clone(), world.server.asked_to_thaw().len()), (1.into(), 1));
    world.server.pass_time(1);
    restore(15);
    assert_eq!([is_back("a", 11), is_back("b", 12), is_back("c", 13)], [false, true, true]);
    let elsewhere = ["--target", "back", "--tier-at", "disk=elsewhere/disk"];
    world.run(0, &[&["restore"], &at[..], &elsewhere].concat());
    assert_eq!([is_back("a", 11), is_back("b", 12), is_back("c", 13)], [true, true, true]);
    // What it costs adds up over all places.
    world.write(
        "p.toml",
        b"currency = 'X'\n[[tier]]\nname = 'warm'\nstorage = 20\n[[tier]]\nname = 'glacier'\nstorage = 4\n[[tier]]\nname = 'none'\n",
    );
    let told = world.run(0, &["cost", "--prices", "p.toml", "--what-if", "--cold-after", "30d", "--cold-tier", "glacier", "--json"]);
    let lines: Vec<Value> = told.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_tiers: Vec<_> = lines.iter().filter(|line| line["message_type"] == "tier").collect();
    let names: Vec<_> = of_tiers.iter().map(|tier| tier["tier"].as_str().unwrap()).collect();
    assert_eq!(names, ["warm", "glacier", "disk"]);
    let sum = |key: &str| of_tiers.iter().map(|tier| tier[key].as_u64().unwrap()).sum::<u64>();
    let summary = told.summary();
    assert_eq!(
        (sum("bytes"), sum("storage_millionths")),
        (summary["bytes"].as_u64().unwrap(), summary["storage_millionths"].as_u64().unwrap())
    );
    let of_series = lines.iter().filter(|line| line["message_type"] == "series").map(|line| line["bytes"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(of_series + sum("bytes_rest") + sum("bytes_others"), sum("bytes"));
    let stats = world.run(0, &["stats", "--json"]).summary();
    let cold: Vec<_> = stats["tiers"].as_array().unwrap().iter().map(|tier| format!("{} {}", tier["name"], tier["packs"])).collect();
    assert_eq!(cold, ["\"glacier\" 1", "\"disk\" 1"]);
}

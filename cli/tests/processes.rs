//! Many processes on one folder: backups, collections, checks, forgetting and restores at once, each of them killed now and then. What was
//! acknowledged comes back, check finds nothing, and nobody has to unlock anything.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_icecore");
const WRITERS: usize = 3;
/// Backups of each writer.
const ROUNDS: usize = 80;
/// Of so many processes one is killed.
const KILLED: usize = 6;
/// Snapshots that are left alone, so that there are always some to restore.
const KEPT_MIN: usize = 6;
const LENGTH: usize = 400_000;

/// Numbers that depend on a seed only.
struct Chance(u64);

impl Chance {
    fn new(seed: usize) -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (seed as u64 + 1) << 17)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 11) as usize % end
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).take(length).collect()
    }
}

/// A home folder with a repository in it, and what has to be there.
struct World {
    home: tempfile::TempDir,
    /// Content of the one file of each snapshot that was acknowledged and that nobody has set out to forget.
    kept: Mutex<BTreeMap<String, Vec<u8>>>,
    writers_at_work: AtomicUsize,
    has_failed: AtomicBool,
    ran: Mutex<BTreeMap<&'static str, Ran>>,
}

/// How often a command ended by itself and how often it was killed, and how long it took when it ended last.
#[derive(Debug, Default)]
struct Ran {
    ended: u32,
    killed: u32,
    last: Duration,
}

#[allow(clippy::disallowed_methods, reason = "when a process is killed decides nothing that is tested")]
fn now() -> Instant {
    Instant::now()
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).args(["-r", "r", "--key-file", "k", "--json"]);
        command.env_clear().env("HOME", self.home.path()).current_dir(self.home.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it; `None` where it was killed before it could end.
    fn run(&self, chance: &mut Chance, name: &'static str, arguments: &[&str]) -> Option<Output> {
        let mut child = self.command(&[&[name], arguments].concat()).spawn().unwrap();
        let began = now();
        if chance.below(KILLED) == 0 {
            // At any moment of as much time as it took last time; by then it may have ended.
            let last = self.ran.lock().unwrap().get(name).map_or(Duration::ZERO, |ran| ran.last);
            let end = began + last.mul_f64(chance.below(1000) as f64 / 1000.0);
            while now() < end {
                std::thread::yield_now();
            }
            let _ = child.kill();
        }
        let output = child.wait_with_output().unwrap();
        let was_killed = output.status.code().is_none();
        let mut all = self.ran.lock().unwrap();
        let ran = all.entry(name).or_default();
        match was_killed {
            true => ran.killed += 1,
            false => (ran.ended, ran.last) = (ran.ended + 1, now() - began),
        }
        (!was_killed).then_some(output)
    }

    fn is_over(&self) -> bool {
        self.writers_at_work.load(Ordering::SeqCst) == 0 || self.has_failed.load(Ordering::SeqCst)
    }

    fn write(&self, number: usize) {
        let mut chance = Chance::new(number);
        let folder = format!("source-{number}");
        fs::create_dir(self.path(&folder)).unwrap();
        // All writers begin with the same bytes, so that they deduplicate against each other's packs.
        let mut content = Chance::new(1000).bytes(LENGTH);
        for _ in 0..ROUNDS {
            let at = chance.below(LENGTH - 40_000);
            let length = chance.below(40_000);
            content[at..at + length].copy_from_slice(&chance.bytes(length));
            fs::write(self.path(&folder).join("file"), &content).unwrap();
            if let Some(output) = self.run(&mut chance, "backup", &[&folder]) {
                let summary = must_end_well("backup", &output).pop().unwrap();
                let id = summary["snapshot_id"].as_str().unwrap().to_owned();
                self.kept.lock().unwrap().insert(id, content.clone());
            }
            if self.has_failed.load(Ordering::SeqCst) {
                return;
            }
        }
    }

    /// The id of a snapshot that is kept, and whether others would be left.
    fn choose(&self, chance: &mut Chance) -> Option<(String, bool)> {
        let kept = self.kept.lock().unwrap();
        let id = kept.keys().nth(chance.below(kept.len().max(1)))?;
        Some((id.clone(), kept.len() > KEPT_MIN))
    }

    fn forget(&self) {
        let mut chance = Chance::new(2000);
        while !self.is_over() {
            if let Some((id, true)) = self.choose(&mut chance) {
                self.kept.lock().unwrap().remove(&id);
                if let Some(output) = self.run(&mut chance, "forget", &[&id]) {
                    must_end_well("forget", &output);
                }
            }
        }
    }

    fn restore(&self) {
        let mut chance = Chance::new(3000);
        while !self.is_over() {
            let Some((id, _)) = self.choose(&mut chance) else { continue };
            let _ = fs::remove_dir_all(self.path("target"));
            let Some(content) = self.kept.lock().unwrap().get(&id).cloned() else { continue };
            let Some(output) = self.run(&mut chance, "restore", &[&id, "--target", "target"]) else { continue };
            if output.status.success() {
                assert!(self.restored() == content, "snapshot {id} came back otherwise");
            } else if self.kept.lock().unwrap().contains_key(&id) {
                must_end_well("restore", &output);
            }
        }
    }

    fn restored(&self) -> Vec<u8> {
        let mut folders = fs::read_dir(self.path("target")).unwrap();
        fs::read(folders.next().unwrap().unwrap().path().join("file")).unwrap()
    }

    fn repeat(&self, seed: usize, name: &'static str) {
        let mut chance = Chance::new(seed);
        while !self.is_over() {
            let Some(output) = self.run(&mut chance, name, &[]) else { continue };
            let is_beaten = String::from_utf8_lossy(&output.stderr).contains("other collectors keep beginning rounds");
            if !(name == "gc" && output.status.code() == Some(1) && is_beaten) {
                must_end_well(name, &output);
            }
        }
    }

    /// Number of objects of a kind.
    fn count(&self, kind: &str) -> usize {
        fn files(folder: &Path) -> usize {
            let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap());
            entries.map(|entry| if entry.file_type().unwrap().is_dir() { files(&entry.path()) } else { 1 }).sum()
        }
        files(&self.path("r").join(kind))
    }
}

/// The JSON lines of a run that has to have ended with 0.
#[track_caller]
fn must_end_well(name: &str, output: &Output) -> Vec<Value> {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name} ended with {}:\n{stdout}{stderr}", output.status);
    stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Notes that something failed, so that all others stop.
struct Alarm<'a>(&'a World);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.has_failed.store(true, Ordering::SeqCst);
        }
    }
}

#[test]
fn hundreds_of_rounds_of_everything_at_once() {
    let world = World {
        home: tempfile::tempdir().unwrap(),
        kept: Mutex::default(),
        writers_at_work: AtomicUsize::new(WRITERS),
        has_failed: AtomicBool::new(false),
        ran: Mutex::default(),
    };
    let mut init = Command::new(PROGRAM);
    init.args(["init", "-r", "r", "--new-key-file", "k"]).env("HOME", world.home.path()).current_dir(world.home.path());
    assert!(init.output().unwrap().status.success());
    std::thread::scope(|scope| {
        let world = &world;
        let start = |work: Box<dyn FnOnce() + Send>| {
            scope.spawn(move || {
                let _alarm = Alarm(world);
                work();
            })
        };
        for number in 0..WRITERS {
            start(Box::new(move || {
                world.write(number);
                world.writers_at_work.fetch_sub(1, Ordering::SeqCst);
            }));
        }
        start(Box::new(|| world.forget()));
        start(Box::new(|| world.restore()));
        start(Box::new(|| world.repeat(4000, "gc")));
        start(Box::new(|| world.repeat(4001, "gc")));
        start(Box::new(|| world.repeat(5000, "check")));
    });
    println!("ended and killed: {:?}", world.ran.lock().unwrap());
    for (name, ran) in &*world.ran.lock().unwrap() {
        assert!(ran.ended > 2 && ran.killed > 0, "{name}: {ran:?}");
    }
    // With nobody else there, two runs take all that is free; nothing has to be unlocked.
    let run = |arguments: &[&str]| must_end_well(arguments[0], &world.command(arguments).output().unwrap());
    run(&["gc"]);
    let summary = run(&["gc"]).pop().unwrap();
    assert_eq!((summary["left"]["packs"].as_u64(), summary["waits_for"].as_array().map(Vec::len)), (Some(0), Some(0)), "{summary}");
    run(&["check"]);
    let snapshots = world.count("snapshots");
    assert_eq!(world.count("beats"), 0);
    assert!(world.count("sessions") <= snapshots, "sessions that have ended are gone");
    let kept = world.kept.lock().unwrap();
    assert!(kept.len() >= KEPT_MIN && kept.len() <= snapshots);
    for (id, content) in &*kept {
        fs::remove_dir_all(world.path("target")).unwrap_or_default();
        run(&["restore", id, "--target", "target"]);
        assert!(world.restored() == *content, "snapshot {id} came back otherwise");
    }
}

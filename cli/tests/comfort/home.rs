//! A home folder, and the program run in it.

use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_icecore");

/// Someone's home folder, with a repository `r` and its key file `k`.
pub(crate) struct Home(pub(crate) tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.run(0, &["init", "-r", "r", "--new-key-file", "k"]);
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file with this content, with the folders above it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// The program with these arguments, in this home and nothing else of the environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.0.path()).current_dir(self.0.path());
        command.stdin(Stdio::null());
        command
    }

    #[track_caller]
    pub(crate) fn run(&self, code: i32, arguments: &[&str]) -> Run {
        finish(code, &mut self.command(arguments))
    }

    /// As [`Home::run`], with the repository and its key.
    #[track_caller]
    pub(crate) fn with(&self, code: i32, arguments: &[&str]) -> Run {
        self.run(code, &[arguments, &["-r", "r", "--key-file", "k"]].concat())
    }

    /// Makes a snapshot of `data`; its id.
    #[track_caller]
    pub(crate) fn backup(&self, arguments: &[&str]) -> String {
        let made = self.with(0, &[&["backup", "data", "--json"], arguments].concat());
        made.last("summary")["snapshot_id"].as_str().unwrap().to_owned()
    }
}

/// What a run printed.
pub(crate) struct Run {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn json(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The last JSON line, which is of this type.
    #[track_caller]
    pub(crate) fn last(&self, message_type: &str) -> Value {
        let last = self.json().pop().unwrap();
        assert_eq!(last["message_type"], message_type, "{}", self.stdout);
        last
    }
}

#[track_caller]
pub(crate) fn finish(code: i32, command: &mut Command) -> Run {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let run = Run { stdout: String::from_utf8_lossy(&stdout).into_owned(), stderr: String::from_utf8_lossy(&stderr).into_owned() };
    assert_eq!(status.code(), Some(code), "{command:?}\n{}{}", run.stdout, run.stderr);
    run
}

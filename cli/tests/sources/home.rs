//! A home folder with a repository, and the program run in it.

use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_icecore");

/// A home folder with a repository `r` and its key file `k`.
pub(crate) struct Home(pub(crate) tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.run(0, &["init", "--new-key-file", "k"]);
        home
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", self.0.path());
        command.env("ICECORE_REPOSITORY", self.path("r")).current_dir(self.0.path()).stdin(Stdio::null());
        if arguments[0] != "init" {
            command.env("ICECORE_KEY_FILE", self.path("k"));
        }
        command
    }

    #[track_caller]
    pub(crate) fn run(&self, code: i32, arguments: &[&str]) -> Run {
        finish(code, &mut self.command(arguments))
    }

    /// Runs with `input` as standard input.
    #[track_caller]
    pub(crate) fn feed(&self, code: i32, arguments: &[&str], input: impl AsRef<[u8]>) -> Run {
        let input = fs::File::open(self.write("fed", input)).unwrap();
        finish(code, self.command(arguments).stdin(input))
    }

    /// The paths in the newest snapshot.
    #[track_caller]
    pub(crate) fn listed(&self) -> Vec<String> {
        self.run(0, &["ls", "latest", "-R"]).stdout.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    pub(crate) fn snapshots(&self) -> usize {
        self.run(0, &["snapshots", "--json"]).last("summary")["snapshots"].as_u64().unwrap() as usize
    }

    /// The content of a file in the newest snapshot.
    #[track_caller]
    pub(crate) fn cat(&self, path: &str) -> Vec<u8> {
        let output = self.command(&["cat", "latest", path]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

/// What a run printed.
pub(crate) struct Run {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn last(&self, message_type: &str) -> Value {
        let last: Value = serde_json::from_str(self.stdout.lines().last().unwrap()).unwrap();
        assert_eq!(last["message_type"], message_type, "{}", self.stdout);
        last
    }
}

#[track_caller]
pub(crate) fn finish(code: i32, command: &mut Command) -> Run {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let run = Run { stdout: String::from_utf8(stdout).unwrap(), stderr: String::from_utf8(stderr).unwrap() };
    assert_eq!(status.code(), Some(code), "{command:?}\n{}{}", run.stdout, run.stderr);
    run
}

/// Bytes that do not compress; others for another seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

//! A home folder with a repository that is whole to begin with, and the program run in it with little memory.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_icecore");
/// Gives the program that follows 256 MiB for everything that it may write to, its stacks among it.
const LIMITED: &str = "ulimit -d 262144 && exec \"$0\" \"$@\"";

/// A home folder with a repository `r` that holds one snapshot of the folder `s`, and its key file `k`.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        static TEMPLATE: OnceLock<Home> = OnceLock::new();
        let home = Self(tempfile::tempdir().unwrap());
        copy(TEMPLATE.get_or_init(Self::template).0.path(), home.0.path());
        home
    }

    /// Without a repository.
    pub(crate) fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn template() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        home.run(0, &["init", "--new-key-file", "k"], &[]);
        for number in 0..40 {
            home.write(&format!("s/many/{}/{number}", number % 4), noise(number, 1 + number as usize * 300));
        }
        home.write("s/large", noise(100, 3 << 20));
        home.write("s/text", "Fresh layers on top, cold ones below.\n".repeat(3000));
        home.run(0, &["backup", "s"], &[]);
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

    /// The program, in this home and nothing else of the environment.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", LIMITED, PROGRAM]).args(arguments).args(["--no-cache", "--threads", "2"]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", self.0.path());
        command.env("ICECORE_REPOSITORY", self.path("r")).current_dir(self.0.path()).stdin(Stdio::null());
        if arguments[0] != "init" {
            command.env("ICECORE_KEY_FILE", self.path("k"));
        }
        command
    }

    /// Runs it; all of `words` must be said.
    #[track_caller]
    pub(crate) fn run(&self, code: i32, arguments: &[&str], words: &[&str]) -> String {
        let (found, said) = finish(&mut self.command(arguments));
        assert_eq!(found, code, "{arguments:?}\n{said}");
        for word in words {
            assert!(said.contains(word), "{arguments:?} does not say `{word}`:\n{said}");
        }
        said
    }

    /// The objects of the repository by their names; what is being written is none.
    pub(crate) fn objects(&self) -> Vec<String> {
        let repository = self.path("r");
        let names = files_below(&repository).into_keys();
        names.filter(|name| !name.starts_with("tmp/")).collect()
    }

    /// The only object in a folder of the repository.
    #[track_caller]
    pub(crate) fn only(&self, folder: &str) -> String {
        let names: Vec<_> = self.objects().into_iter().filter(|name| name.starts_with(&format!("{folder}/"))).collect();
        assert_eq!(names.len(), 1, "{names:?}");
        names[0].clone()
    }

    pub(crate) fn object(&self, name: &str) -> Vec<u8> {
        fs::read(self.path("r").join(name)).unwrap()
    }

    /// Replaces, makes or (`None`) removes an object.
    pub(crate) fn set(&self, name: &str, bytes: Option<&[u8]>) {
        let path = self.path("r").join(name);
        let _ = fs::remove_file(&path);
        if let Some(bytes) = bytes {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }

    /// The files of a folder that are as in `s`; fails where one is not.
    #[track_caller]
    pub(crate) fn restored(&self, folder: &str) -> usize {
        let (source, target) = (files_below(&self.path("s")), files_below(&self.path(folder).join("s")));
        for (name, bytes) in &target {
            assert!(source.get(name) == Some(bytes), "{name} came back otherwise");
        }
        target.len()
    }

    /// As [`Home::restored`] where a restore stopped: what is not written yet reads as zeros, or the file ends before it.
    #[track_caller]
    pub(crate) fn restored_in_part(&self, folder: &str) {
        let source = files_below(&self.path("s"));
        for (name, bytes) in files_below(&self.path(folder).join("s")) {
            let same = |(found, right): (&u8, &u8)| found == right || *found == 0;
            assert!(bytes.len() <= source[&name].len() && bytes.iter().zip(&source[&name]).all(same), "{name} has wrong bytes");
        }
    }
}

/// The program's exit code and all that it said; it neither panicked nor was it killed.
#[track_caller]
pub(crate) fn finish(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    for word in ["panicked", "memory allocation", "RUST_BACKTRACE"] {
        assert!(!said.contains(word), "{command:?}\n{said}");
    }
    (status.code().unwrap_or_else(|| panic!("{command:?} {status}\n{said}")), said)
}

/// Content by path below a folder.
pub(crate) fn files_below(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut files, mut todo) = (BTreeMap::new(), vec![folder.to_path_buf()]);
    while let Some(path) = todo.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => todo.push(path),
                false => drop(files.insert(path.strip_prefix(folder).unwrap().display().to_string(), fs::read(&path).unwrap())),
            }
        }
    }
    files
}

pub(crate) fn copy(from: &Path, to: &Path) {
    for (name, bytes) in files_below(from) {
        let path = to.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// Bytes that do not compress; others for another seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ seed << 20;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Whether what a test needs is there; if not, the test says so and does not count.
pub(crate) fn can(what: &str, is_there: bool) -> bool {
    if !is_there {
        eprintln!("!!! SKIPPED: {what} is not possible here");
    }
    is_there
}

//! The second reader of the format, run as a program. What it needs is installed once, in a virtual environment below `target/`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The project's first folder.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies below the project")
}

/// A Python that has the reader's packages.
///
/// # Panics
/// Where it cannot be set up; the message says what failed.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let requirements = project().join("format-spec/reader/requirements.txt");
        let wanted = fs::read(&requirements).expect("the reader has requirements");
        let folder = project().join("target/second-reader");
        fs::create_dir_all(&folder).expect("target/ can be written");
        // Test programs run side by side; the first one installs, the others wait.
        let lock = File::create(folder.join("lock")).expect("target/ can be written");
        lock.lock().expect("files can be locked");
        let (python, done) = (folder.join("venv/bin/python"), folder.join("installed"));
        if fs::read(&done).ok().as_ref() != Some(&wanted) {
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder.join("venv")));
            run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements));
            fs::write(&done, wanted).expect("target/ can be written");
        }
        python
    })
}

/// Runs the reader on a repository with `key` (`["--password-file", path]` or `["--key-file", path]`).
///
/// # Panics
/// Where Python cannot be started.
pub fn read(repository: &Path, key: [&str; 2], arguments: &[&str]) -> Output {
    Command::new(python())
        .arg(project().join("format-spec/reader/icecore_reader.py"))
        .arg("-r")
        .arg(repository)
        .args(key)
        .args(arguments)
        .output()
        .expect("Python starts")
}

/// Runs a command that must succeed.
///
/// # Panics
/// With what it printed, where it does not.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

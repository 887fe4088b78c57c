//! A repository at scale: what the commands take of memory and time where it has very many chunk records. Prints, last, one line of JSON.
//!
//! ```sh
//! cargo build --release -p icecore-cli && cargo run --release -p icecore-benches --bin repository_scale -- --chunks 100000000 \
//!     [--program target/release/icecore] [--folder FOLDER]
//! cargo run --release -p icecore-benches --bin repository_scale -- --chunks 10000000 --make FOLDER
//! ```
//!
//! The repository is made by ordinary backups, of streams that are cut every 512 bytes, most of them zeros: so a chunk costs a record as any other
//! does, and little else. A frame has 32 of them and a pack some 2,000; a backup stores 2,000,000, or a twentieth of all if that is less. Then the
//! program `icecore` runs one command after the other, each as a process of its own, with a key file: a backup of a small folder, whose lookup
//! index is not there yet, the same again, `snapshots`, `check`, a restore of that folder and one of a stream, `forget` of nine tenths, two rounds
//! of `gc`, and `check` again. For each the seconds and the most memory that the process had, pages of mapped files included. 100 million take
//! some 13 GB of disk. The second command only makes the repository, `FOLDER/r` with the key file `FOLDER/k`: `tests/stores/far.py` measures it
//! in an object store.

use icecore::backend::LocalBackend;
use icecore::backup::BackupOptions;
use icecore::format::config::CutMethod;
use icecore::progress::Silent;
use icecore::repository::{CreateOptions, Key, Repository, Settings};
use icecore::runtime::{Clock, Runtime, SystemClock};
use icecore::testing::process::wait_for_peak;
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const CHUNK: usize = 512;
/// Of these bytes of a chunk differ from those of others; the rest compresses.
const NOISE: usize = 16;
const CHUNKS_IN_A_BACKUP_MAX: u64 = 2_000_000;
const BACKUPS_MIN: u64 = 20;
/// Of so many backups one is kept.
const KEPT: u64 = 10;

/// Chunks from one number to another, each other than all others.
struct Chunks {
    next: u64,
    end: u64,
    chunk: [u8; CHUNK],
    at: usize,
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut length = 0;
        while length < buffer.len() {
            if self.at == CHUNK {
                if self.next == self.end {
                    break;
                }
                // Odd factors lead from different numbers to different ones.
                let noise = u128::from(self.next).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
                self.chunk[..NOISE].copy_from_slice(&noise.to_le_bytes());
                self.next += 1;
                self.at = 0;
            }
            let some = (buffer.len() - length).min(CHUNK - self.at);
            buffer[length..length + some].copy_from_slice(&self.chunk[self.at..self.at + some]);
            length += some;
            self.at += some;
        }
        Ok(length)
    }
}

fn main() -> ExitCode {
    match measure() {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("repository_scale: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Arguments {
    chunks: u64,
    program: PathBuf,
    folder: Option<PathBuf>,
    make: Option<PathBuf>,
}

fn arguments() -> Result<Arguments> {
    let mut arguments =
        Arguments { chunks: 1_000_000, program: std::env::current_exe()?.with_file_name("icecore"), folder: None, make: None };
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{} needs a value", word.display()))?;
        match word.to_str() {
            Some("--chunks") => arguments.chunks = value.to_string_lossy().parse()?,
            Some("--program") => arguments.program = value.into(),
            Some("--folder") => arguments.folder = Some(value.into()),
            Some("--make") => arguments.make = Some(value.into()),
            _ => return Err(format!("{} is no option; see the head of repository_scale.rs", word.display()).into()),
        }
    }
    Ok(arguments)
}

fn measure() -> Result<Value> {
    let arguments = arguments()?;
    if let Some(folder) = arguments.make {
        let home = Home { program: PathBuf::new(), folder };
        let backups = home.fill(arguments.chunks)?;
        return Ok(json!({"chunks": arguments.chunks, "backups": backups, "repository_bytes": bytes_in(&home.folder.join("r"))?}));
    }
    let temporary = match &arguments.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let home = Home { program: fs::canonicalize(&arguments.program)?, folder: temporary.path().to_owned() };
    let clock = SystemClock;
    let started = clock.monotonic_ns();
    let backups = home.fill(arguments.chunks)?;
    let build_seconds = (clock.monotonic_ns() - started) as f64 / 1e9;
    let bytes = bytes_in(&home.folder.join("r"))?;
    eprintln!("{} chunks in {backups} backups, {bytes} bytes, {build_seconds:.0} s", arguments.chunks);
    for number in 0..100 {
        let file = home.folder.join(format!("small/{number}"));
        fs::create_dir_all(home.folder.join("small"))?;
        fs::write(file, format!("a small file, number {number}"))?;
    }
    let part = format!("part-{}", (backups - 1) / KEPT * KEPT);
    let mut forget = vec!["forget".to_owned()];
    forget.extend(home.snapshots()?.into_iter().filter(|(series, _)| is_forgotten(series)).map(|(_, id)| id));
    let forget: Vec<&str> = forget.iter().map(String::as_str).collect();
    let steps: [(&str, &[&str]); 10] = [
        ("backup without index", &["backup", "small", "--series", "small"]),
        ("backup", &["backup", "small", "--series", "small"]),
        ("snapshots", &["snapshots"]),
        ("check", &["check"]),
        ("restore of the small folder", &["restore", "latest", "--series", "small", "--target", "restored-small"]),
        ("restore of a stream", &["restore", "latest", "--series", &part, "--target", "restored-part"]),
        ("forget", &forget),
        ("gc", &["gc"]),
        ("gc again", &["gc"]),
        ("check again", &["check"]),
    ];
    let mut commands = serde_json::Map::new();
    let mut peak_max = 0;
    for (name, words) in steps {
        let (seconds, peak) = home.run(words)?;
        eprintln!("{name}: {seconds:.2} s, {} MiB", peak >> 20);
        peak_max = peak_max.max(peak);
        commands.insert(name.to_owned(), json!({"seconds": seconds, "peak_bytes": peak}));
    }
    Ok(json!({
        "chunks": arguments.chunks,
        "backups": backups,
        "repository_bytes": bytes,
        "repository_bytes_after": bytes_in(&home.folder.join("r"))?,
        "build_seconds": build_seconds,
        "peak_bytes": peak_max,
        "commands": commands,
    }))
}

fn is_forgotten(series: &str) -> bool {
    let number = series.strip_prefix("part-").and_then(|number| number.parse::<u64>().ok());
    number.is_some_and(|number| number % KEPT != 0)
}

/// A folder with a repository `r` and its key file `k`, and the program that runs in it.
struct Home {
    program: PathBuf,
    folder: PathBuf,
}

impl Home {
    /// Makes the repository; gives the number of backups.
    fn fill(&self, chunks: u64) -> Result<u64> {
        let runtime = Runtime::system(0);
        let key = Key::generate(&runtime);
        fs::write(self.folder.join("k"), key.to_key_file().ok_or("a key file has a text")?)?;
        let mut options = CreateOptions::default();
        options.pack_size = 64 << 10;
        options.data_frame_size = 32 * CHUNK as u32;
        options.cut = CutMethod::Fixed(CHUNK as u32);
        let backend = Arc::new(LocalBackend::create(self.folder.join("r"))?);
        // The program finds no lookup index of ours.
        let settings = Settings::default().with_cache(self.folder.join("cache"));
        let repository = Repository::create(backend, runtime, &key, &options, settings)?;
        let of_each = chunks.div_ceil(BACKUPS_MIN).clamp(1, CHUNKS_IN_A_BACKUP_MAX);
        let backups = chunks.div_ceil(of_each);
        for number in 0..backups {
            let next = number * of_each;
            let stream = Chunks { next, end: chunks.min(next + of_each), chunk: [0; CHUNK], at: CHUNK };
            let options = BackupOptions::new(format!("part-{number}"));
            repository.backup_stream("stream", Box::new(stream), &options, &Silent)?;
        }
        fs::remove_dir_all(self.folder.join("cache"))?;
        Ok(backups)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).env_clear().env("HOME", &self.folder).env("PATH", "/usr/bin:/bin").current_dir(&self.folder);
        command.env("ICECORE_REPOSITORY", self.folder.join("r")).env("ICECORE_KEY_FILE", self.folder.join("k"));
        command
    }

    /// Seconds, and the most memory in bytes.
    fn run(&self, words: &[&str]) -> Result<(f64, u64)> {
        let clock = SystemClock;
        let started = clock.monotonic_ns();
        let mut child = self.command(words).stdout(Stdio::null()).spawn()?;
        let (status, peak) = wait_for_peak(&mut child)?;
        match status.success() {
            true => Ok(((clock.monotonic_ns() - started) as f64 / 1e9, peak)),
            false => Err(format!("{words:?}: {status}").into()),
        }
    }

    /// Series and id of each.
    fn snapshots(&self) -> Result<Vec<(String, String)>> {
        let output = self.command(&["snapshots", "--json"]).output()?;
        let lines = String::from_utf8(output.stdout)?;
        let lines = lines.lines().map(serde_json::from_str).collect::<std::result::Result<Vec<Value>, _>>()?;
        let text = |line: &Value, field: &str| line[field].as_str().map(str::to_owned);
        Ok(lines.iter().filter_map(|line| Some((text(line, "series")?, text(line, "id")?))).collect())
    }
}

fn bytes_in(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { bytes_in(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

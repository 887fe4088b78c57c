//! Repositories by somebody hostile, made from bytes: fuzzing and seeded tests run the same.
//!
//! `owner` holds all keys, and everything he writes keeps the outer rules: nothing may panic, and nothing outside the target of a restore may
//! be touched; where he changes nothing, all comes back. `thief` holds a backup credential and a store to which he can only add: what others have stored may not suffer in any way.

mod owner;
mod thief;

use icecore::format::config::CutMethod;
use icecore::gc::GcOptions;
use icecore::repository::CreateOptions;
use icecore::runtime::Timestamp;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const NOW: Timestamp = Timestamp { seconds: 1_800_000_000, nanoseconds: 0 };
/// Nothing that is stored here is large, and so must be what it takes.
pub const MEMORY_MOST_MIB: u64 = 100;
/// Bytes that a seed becomes.
const INPUT_LENGTH: usize = 400;

/// How often what was reached: a test that reaches nothing shows nothing.
#[derive(Debug, Default)]
pub struct Reached(pub BTreeMap<&'static str, u64>);

impl Reached {
    fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }
}

/// Runs what `data` asks for; its first byte chooses who is hostile.
///
/// # Panics
/// Where something is wrong.
pub fn run(data: &[u8], reached: &mut Reached) {
    match data.split_first() {
        Some((first, rest)) if first & 1 == 1 => thief::run(rest, reached),
        Some((_, rest)) => owner::run(rest, reached),
        None => {}
    }
}

/// What a seed asks for.
pub fn input(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; INPUT_LENGTH];
    blake3::Hasher::new().update(b"hostile").update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The most memory that this process had at once.
///
/// # Panics
/// Where the system does not say.
pub fn memory_most_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the system tells");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the most is told");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("it is a number") / 1024
}

/// Small packs, frames and chunks: most of the time goes into signatures and secrets.
fn options() -> CreateOptions {
    let mut options = CreateOptions::default();
    options.pack_size = 65_536;
    options.data_frame_size = 4_096;
    options.meta_frame_size = 4_096;
    options.cut = CutMethod::Content { min: 64, average: 256, max: 1_024 };
    options
}

/// Everything that is not needed goes.
fn collecting() -> GcOptions {
    let mut options = GcOptions::default();
    options.dead_percent_max = 0;
    options
}

/// Bytes that are used up; zeros after their end.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % end.max(1)
    }

    /// A few of the names with `separator` between them.
    fn path(&mut self, names: &[&[u8]; 16], separator: u8) -> Vec<u8> {
        let count = self.byte() % 4;
        let names: Vec<&[u8]> = (0..count).map(|_| names[usize::from(self.byte() % 16)]).collect();
        names.join(&separator)
    }
}

/// A change of some bytes of one piece.
struct Change {
    piece: u8,
    how: u8,
    at: usize,
    value: u8,
}

impl Change {
    fn read(input: &mut Input<'_>) -> Self {
        let (piece, how) = (input.byte(), input.byte());
        Self { piece, how, at: usize::from(input.byte()) << 8 | usize::from(input.byte()), value: input.byte() }
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let at = self.at % bytes.len();
        match self.how % 5 {
            0 => bytes[at] = self.value,
            1 => bytes[at] ^= 1 << (self.value % 8),
            2 => bytes.insert(at, self.value),
            3 => drop(bytes.remove(at)),
            _ => bytes.truncate(at),
        }
    }
}

/// A folder with the targets of restores, and beside them what must stay as it is.
struct Folder {
    folder: tempfile::TempDir,
    before: [About; 2],
}

/// What the system says of a file: change of any of its content, metadata and names shows.
#[derive(Debug, PartialEq, Eq)]
struct About {
    modified: (i64, i64),
    changed: (i64, i64),
    mode: u32,
    owner: (u32, u32),
    nlink: u64,
    size: u64,
}

impl About {
    fn of(path: &Path) -> Self {
        let about = fs::symlink_metadata(path).expect("it is there");
        Self {
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
            mode: about.mode(),
            owner: (about.uid(), about.gid()),
            nlink: about.nlink(),
            size: about.size(),
        }
    }
}

impl Folder {
    fn make() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder is made");
        fs::create_dir(folder.path().join("targets")).expect("a folder is made");
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).expect("a folder is made");
        fs::write(outside.join("sentinel"), b"untouched").expect("a file is written");
        let before = [About::of(&outside), About::of(&outside.join("sentinel"))];
        Self { folder, before }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What nothing may touch: a folder, and a file in it.
    fn outside(&self) -> [PathBuf; 2] {
        [self.path().join("outside"), self.path().join("outside/sentinel")]
    }

    /// Where the restore of that number goes.
    fn target(&self, number: usize) -> PathBuf {
        self.path().join("targets").join(number.to_string())
    }

    fn check(&self) {
        let names = |path: &Path| {
            let mut names: Vec<_> =
                fs::read_dir(path).expect("the folder is there").map(|entry| entry.expect("it is listed").file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(self.path()), ["outside", "targets"]);
        assert!(names(&self.path().join("targets")).iter().all(|name| name.as_bytes().iter().all(u8::is_ascii_digit)));
        let [outside, sentinel] = self.outside();
        assert_eq!(names(&outside), ["sentinel"]);
        assert_eq!(fs::read(&sentinel).expect("the sentinel is there"), b"untouched");
        assert_eq!([About::of(&outside), About::of(&sentinel)], self.before);
    }
}

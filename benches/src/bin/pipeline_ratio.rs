//! What a backup costs beside the sum of its parts: CPU seconds per GB of each step alone, of the whole, and the ratio, for data that
//! compresses, data that does not, and data that the repository already has, as one large file and as many small ones.
//!
//! ```sh
//! cargo run --release -p icecore-benches --bin pipeline_ratio -- [--mib N] [--rounds N]
//! ```
//! Files and repositories are made below `TMPDIR` from seeds and removed at the end. A step alone is one thread that does it as a backup
//! does, from the page cache: `read` opens and reads the files, `cut` finds the ends of chunks, `hash` names them, `seal` puts frames
//! together, compresses and seals them, `write` hashes and writes packs until they are durable. Of each, and of the whole, the least of
//! all rounds counts, which alternate. `use` is CPU over wall time of the whole: how many cores were at work.

use icecore::backend::LocalBackend;
use icecore::backup::BackupOptions;
use icecore::chunker::ContentCutter;
use icecore::progress::Silent;
use icecore::repository::{CreateOptions, Key, Repository, Settings};
use icecore::runtime::Runtime;
use icecore::source::{Roots, SourceOptions};
use icecore::testing::Keys;
use icecore::testing::measure::{FrameSealing, PackWriting};
use icecore_benches::{KIB, MIB, data};
use rustix::time::{ClockId, clock_gettime};
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DATA_CHUNK: u8 = 1;
const LEVEL: i32 = 3;
const READ_LENGTH: usize = 4 * MIB;
/// Sizes of the small files, in turn.
const SMALL_KIB: [usize; 6] = [1, 4, 8, 16, 64, 99];
const STEPS: [&str; 5] = ["read", "cut", "hash", "seal", "write"];

fn main() {
    let (mut mib, mut rounds) = (256, 3);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let number = arguments.next().and_then(|value| value.parse().ok());
        match (argument.as_str(), number) {
            ("--mib", Some(number)) => mib = number,
            ("--rounds", Some(number)) => rounds = number,
            _ => panic!("--mib N: data of each kind; --rounds N"),
        }
    }
    println!("CPU seconds per GB; {mib} MiB of each kind, best of {rounds}");
    print!("{:<28}", "");
    STEPS.iter().for_each(|step| print!("{step:>8}"));
    println!("{:>8}{:>8}{:>8}{:>8}", "sum", "whole", "ratio", "use");
    for kind in ["text", "noise"] {
        for shape in [Shape::Large, Shape::Small] {
            measure(kind, shape, mib * MIB, rounds);
        }
    }
}

#[derive(Clone, Copy)]
enum Shape {
    Large,
    Small,
}

/// CPU and wall seconds.
#[derive(Clone, Copy)]
struct Cost {
    cpu: f64,
    wall: f64,
}

impl Cost {
    const NONE: Self = Self { cpu: f64::INFINITY, wall: f64::INFINITY };

    fn take_less(&mut self, other: Self) {
        if other.cpu < self.cpu {
            *self = other;
        }
    }
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn cost_of<T>(work: impl FnOnce() -> T) -> (Cost, T) {
    let (cpu, wall) = (seconds(ClockId::ProcessCPUTime), seconds(ClockId::Monotonic));
    let done = work();
    (Cost { cpu: seconds(ClockId::ProcessCPUTime) - cpu, wall: seconds(ClockId::Monotonic) - wall }, done)
}

/// Makes files of one kind; gives their paths.
fn make_files(folder: &Path, kind: &str, shape: Shape, length: usize) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    let mut left = length;
    while left > 0 {
        let size = match shape {
            Shape::Large => left,
            Shape::Small => left.min(SMALL_KIB[paths.len() % SMALL_KIB.len()] * KIB),
        };
        let below = folder.join(format!("{:04}", paths.len() / 1000));
        fs::create_dir_all(&below).expect("a folder can be made");
        paths.push(below.join(format!("{}", paths.len())));
        fs::write(&paths[paths.len() - 1], data(kind, left as u64, size)).expect("a file can be written");
        left -= size;
    }
    paths
}

fn measure(kind: &str, shape: Shape, length: usize, rounds: usize) {
    let place = tempfile::tempdir().expect("a temporary folder");
    let source = place.path().join("source");
    let paths = make_files(&source, kind, shape, length);
    let mut parts = [Cost::NONE; STEPS.len()];
    let (mut first, mut again) = (Cost::NONE, Cost::NONE);
    for round in 0..rounds {
        let target = place.path().join(format!("repository {round}"));
        let repository = create(&target);
        first.take_less(cost_of(|| back_up(&repository, &source)).0);
        again.take_less(cost_of(|| back_up(&repository, &source)).0);
        for (part, cost) in parts.iter_mut().zip(alone(&repository, &paths, length)) {
            part.take_less(cost);
        }
        drop(repository);
        fs::remove_dir_all(&target).expect("the repository can be removed");
    }
    let name = match shape {
        Shape::Large => format!("{kind}, one file"),
        Shape::Small => format!("{kind}, {} files", paths.len()),
    };
    show(&name, &parts, first, length);
    show(&format!("{name}, known"), &parts[..3], again, length);
}

fn show(name: &str, parts: &[Cost], whole: Cost, length: usize) {
    let gigabytes = length as f64 / 1e9;
    let sum: f64 = parts.iter().map(|part| part.cpu).sum();
    print!("{name:<28}");
    for step in 0..STEPS.len() {
        match parts.get(step) {
            Some(part) => print!("{:>8.3}", part.cpu / gigabytes),
            None => print!("{:>8}", ""),
        }
    }
    println!("{:>8.3}{:>8.3}{:>8.2}{:>8.2}", sum / gigabytes, whole.cpu / gigabytes, whole.cpu / sum, whole.cpu / whole.wall);
}

fn create(target: &Path) -> Repository {
    let runtime = Runtime::system(0);
    let key = Key::generate(&runtime);
    let backend = Arc::new(LocalBackend::create(target).expect("a folder can be made"));
    Repository::create(backend, runtime, &key, &CreateOptions::default(), Settings::default()).expect("a repository can be made")
}

fn back_up(repository: &Repository, folder: &Path) {
    let roots = Roots::resolve(&[folder.to_owned()]).expect("the folder is there");
    let summary = repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("bench"), &Silent).expect("a backup");
    assert_eq!(summary.files_failed, 0, "nothing is left out");
}

/// Each step alone, on what the one before it gives.
fn alone(repository: &Repository, paths: &[PathBuf], length: usize) -> [Cost; STEPS.len()] {
    let mut buffer = vec![0; READ_LENGTH];
    let (read, _) = cost_of(|| paths.iter().for_each(|path| read(path, &mut buffer)));
    let mut content = Vec::with_capacity(length);
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let start = content.len();
        content.extend(fs::read(path).expect("the file is there"));
        files.push(start..content.len());
    }
    let (kib, key) = (KIB as u32, [7; 32]);
    let cutter = ContentCutter::new(16 * kib, 32 * kib, 128 * kib, &key).expect("sizes of a cutter");
    let (cut, chunks) = cost_of(|| files.iter().flat_map(|file| cut(&cutter, &content, file)).collect::<Vec<_>>());
    let keys = Keys::of_repository(repository);
    let (hash, _) = cost_of(|| {
        let ids = chunks.iter().map(|range| keys.chunk_id(DATA_CHUNK, &content[range.clone()]).expect("an id"));
        ids.map(|id| id.0[0]).fold(0, u8::wrapping_add)
    });
    let mut sealing = FrameSealing::new(key, LEVEL).expect("a level of zstd");
    let (seal, frames) = cost_of(|| {
        let frames = frames_of(&chunks).into_iter().enumerate();
        frames.map(|(number, chunks)| sealing.frame(number as u32, chunks.iter().map(|range| &content[range.clone()]))).collect::<Vec<_>>()
    });
    let mut packs: Vec<_> = frames.chunks(64).map(|frames| PackWriting::prepare(repository, frames.to_vec()).expect("a pack")).collect();
    let (write, _) = cost_of(|| packs.iter_mut().map(|pack| pack.write().expect("a pack")).sum::<u64>());
    [read, cut, hash, seal, write]
}

fn read(path: &Path, buffer: &mut [u8]) {
    let mut file = File::open(path).expect("the file is there");
    while file.read(buffer).expect("the file can be read") > 0 {}
}

fn cut(cutter: &ContentCutter, content: &[u8], file: &Range<usize>) -> Vec<Range<usize>> {
    let (mut chunks, mut start) = (Vec::new(), file.start);
    while let Some(length) = cutter.next_cut(&content[start..file.end], true) {
        chunks.push(start..start + length);
        start += length;
    }
    chunks
}

/// Chunks by frames of a mebibyte.
fn frames_of(chunks: &[Range<usize>]) -> Vec<&[Range<usize>]> {
    let (mut frames, mut start, mut length) = (Vec::new(), 0, 0);
    for (number, chunk) in chunks.iter().enumerate() {
        if length + chunk.len() > MIB {
            frames.push(&chunks[start..number]);
            (start, length) = (number, 0);
        }
        length += chunk.len();
    }
    frames.push(&chunks[start..]);
    frames
}

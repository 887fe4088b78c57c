//! The lookup index at scale: fills one with synthetic chunks, opens it in a process of its own that may have 1.3 bytes of memory for each chunk
//! (in a memory cgroup, where this user may make one), looks chunks up, and prints, last, one line of JSON.
//!
//! ```sh
//! cargo run --release -p icecore-benches --bin index_scale -- --chunks 100000000 [--folder FOLDER] [--memory BYTES]
//! ```
//!
//! A chunk is one of 32 in a frame and of 2,000 in a pack; a session stored 500 packs. Contents tables are made anew when the index asks for
//! them, as a repository would read them: that is part of the time of a hit. What is measured:
//!
//! - `memory_bytes_per_chunk`: resident memory of the process after all look-ups, pages of mapped files included, the program itself too;
//! - `disk_bytes_per_chunk`: all files in the folder of the index;
//! - `build_seconds`: adding all packs and saving; `merge_seconds` is the part of it in which files were written and merged;
//! - `hits_per_second`: chunks in the order in which they were stored, in stretches of 20,000 from all over the index, ten packs at a time;
//! - `scattered_hits_per_second`: chunks in no order: each costs a contents table;
//! - `misses_per_second`: chunks that are not there, enough to touch every page of the filters.

mod synthetic;

use icecore::backend::ObjectKind;
use icecore::repository::index::LookupIndex;
use icecore::runtime::{Clock, SystemClock};
use icecore::testing::process::MemoryGroup;
use icecore_benches::resident_bytes;
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use synthetic::{CHUNKS_IN_A_PACK, DOMAIN, REPOSITORY, Synthetic, chunk_id, pack_id, place_of};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Memory for each chunk, in tenths of a byte.
const BUDGET_TENTHS: u64 = 13;
/// Less than this no process of ours needs, however few chunks there are.
const BUDGET_MIN: u64 = 32 << 20;
const STRETCHES: u64 = 100;
const STRETCH: u64 = 20_000;
const SCATTERED: u64 = 2_000;

/// What the command line says.
#[derive(Debug, Default)]
struct Arguments {
    chunks: u64,
    folder: Option<PathBuf>,
    /// Bytes for the process that looks up.
    memory: Option<u64>,
    /// This is that process.
    look_up: bool,
}

fn main() -> ExitCode {
    let done = arguments().and_then(|arguments| if arguments.look_up { look_up(&arguments) } else { measure(&arguments) });
    match done {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("index_scale: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<Arguments> {
    let mut arguments = Arguments::default();
    let mut words = std::env::args_os().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{} needs a value", word.display()));
        let number = |value: std::ffi::OsString| value.to_string_lossy().parse::<u64>();
        match word.to_str() {
            Some("--chunks") => arguments.chunks = number(value()?)?,
            Some("--memory") => arguments.memory = Some(number(value()?)?),
            Some("--folder") => arguments.folder = Some(value()?.into()),
            Some("--look-up") => arguments.look_up = true,
            _ => return Err(format!("{} is no option; see the head of index_scale/main.rs", word.display()).into()),
        }
    }
    // Whole packs, and enough for a stretch.
    arguments.chunks = arguments.chunks.next_multiple_of(CHUNKS_IN_A_PACK).max(2 * STRETCH);
    Ok(arguments)
}

/// Builds, and has another process look up.
fn measure(arguments: &Arguments) -> Result<Value> {
    let temporary = tempfile::tempdir()?;
    let folder = arguments.folder.clone().unwrap_or_else(|| temporary.path().to_owned());
    let chunks = arguments.chunks;
    let built = build(&folder, chunks)?;
    let disk = forget_pages(&folder)?;
    let memory = arguments.memory.unwrap_or((chunks * BUDGET_TENTHS / 10).max(BUDGET_MIN));
    let group = MemoryGroup::new(memory).inspect_err(|error| eprintln!("no memory cgroup, so nothing limits memory: {error}")).ok();
    let program = std::env::current_exe()?;
    let mut command = group.as_ref().map_or_else(|| Command::new(&program), |group| group.command(&program));
    command.arg("--look-up").arg("--chunks").arg(chunks.to_string()).arg("--folder").arg(&folder).stdout(Stdio::piped());
    let output = command.spawn()?.wait_with_output()?;
    if !output.status.success() {
        return Err(format!("the process that looks up failed: {}", output.status).into());
    }
    let mut line: Value = serde_json::from_slice(&output.stdout)?;
    let limit = group.as_ref().map(|_| memory);
    let rest = json!({
        "chunks": chunks,
        "memory_limit_bytes": limit,
        "memory_bytes_per_chunk": line["resident_bytes"].as_u64().unwrap_or(0) as f64 / chunks as f64,
        "disk_bytes_per_chunk": disk as f64 / chunks as f64,
        "build_resident_bytes": built.resident_max,
        "build_seconds": built.seconds,
        "merge_seconds": built.merge_seconds,
        "files": built.files,
    });
    if let (Value::Object(line), Value::Object(rest)) = (&mut line, rest) {
        line.extend(rest);
    }
    Ok(line)
}

struct Built {
    seconds: f64,
    merge_seconds: f64,
    files: usize,
    /// The largest resident memory that was seen, in bytes.
    resident_max: u64,
}

fn build(folder: &Path, chunks: u64) -> Result<Built> {
    let clock = SystemClock;
    let source = Synthetic { chunks };
    let index = LookupIndex::open(Some(folder), REPOSITORY, Arc::new(source))?;
    if !index.packs().is_empty() {
        return Err(format!("{} holds an index already", folder.display()).into());
    }
    let started = clock.monotonic_ns();
    let (mut merging, mut resident_max) = (0, 0);
    for pack in 0..chunks / CHUNKS_IN_A_PACK {
        let table = source.table(pack);
        let before = (index.size().files, clock.monotonic_ns());
        index.add_pack(ObjectKind::DataPack, pack_id(pack), &table, |_| DOMAIN)?;
        if index.size().chunks_young == 0 {
            merging += clock.monotonic_ns() - before.1;
            resident_max = resident_max.max(resident_bytes());
        }
    }
    let saving = clock.monotonic_ns();
    index.save()?;
    let ended = clock.monotonic_ns();
    let files = index.size().files;
    Ok(Built { seconds: seconds(ended - started), merge_seconds: seconds(merging + ended - saving), files, resident_max })
}

/// Has the operating system forget what it keeps of the files in memory, and gives their length together.
fn forget_pages(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let file = fs::File::open(entry?.path())?;
        bytes += file.metadata()?.len();
        file.sync_all()?;
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    Ok(bytes)
}

/// Opens the index and looks chunks up.
fn look_up(arguments: &Arguments) -> Result<Value> {
    let clock = SystemClock;
    let chunks = arguments.chunks;
    let started = clock.monotonic_ns();
    let index = LookupIndex::open(arguments.folder.as_deref(), REPOSITORY, Arc::new(Synthetic { chunks }))?;
    let open_seconds = seconds(clock.monotonic_ns() - started);
    if index.size().chunks != chunks {
        return Err(format!("{} chunks were found", index.size().chunks).into());
    }
    let find = |number: u64| -> Result<()> {
        let found = index.lookup(&chunk_id(number), DOMAIN)?;
        let (frame, position) = place_of(number);
        match found.is_some_and(|place| place.frame == frame && place.position == position) {
            true => Ok(()),
            false => Err(format!("chunk {number} was not found where it stands").into()),
        }
    };
    let misses = (chunks / 100).clamp(1_000_000, 20_000_000);
    let started = clock.monotonic_ns();
    for number in chunks..chunks + misses {
        if index.lookup(&chunk_id(number), DOMAIN)?.is_some() {
            return Err("a chunk was found that is not there".into());
        }
    }
    let misses_per_second = misses as f64 / seconds(clock.monotonic_ns() - started);
    let started = clock.monotonic_ns();
    for stretch in 0..STRETCHES {
        let first = (chunks - STRETCH) / STRETCHES * stretch;
        (first..first + STRETCH).try_for_each(find)?;
    }
    let hits_per_second = (STRETCHES * STRETCH) as f64 / seconds(clock.monotonic_ns() - started);
    let started = clock.monotonic_ns();
    // Strides that lead all over the index.
    (0..SCATTERED).try_for_each(|n| find(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % chunks))?;
    let scattered_hits_per_second = SCATTERED as f64 / seconds(clock.monotonic_ns() - started);
    Ok(json!({
        "open_seconds": open_seconds,
        "misses_per_second": misses_per_second,
        "hits_per_second": hits_per_second,
        "scattered_hits_per_second": scattered_hits_per_second,
        "resident_bytes": resident_bytes(),
    }))
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

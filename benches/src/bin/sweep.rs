//! Stored bytes and CPU time for one way of cutting, framing and compressing after another, on real data.
//!
//! ```text
//! cargo run --release -p icecore-benches --bin sweep -- CORPUS... [--only TEXT] [--json FILE]
//! ```
//!
//! A corpus is a folder with the states of a source, `0`, `1`, ..., as `benches/compare/corpora.py` makes them. Two tables for each:
//!
//! - *whole repositories*, in memory: each setting that a config or a backup can have, changed alone and some together;
//! - *frames alone*: orders of files and parameters of zstd that no backup can choose yet. New chunks of all states are put into frames
//!   in this order and compressed; nothing else is counted, so these figures compare with each other only.
//!
//! CPU seconds are of the whole process (first table) or of compression alone (second).

use icecore::backend::MemoryBackend;
use icecore::backup::BackupOptions;
use icecore::chunker::ContentCutter;
use icecore::format::config::CutMethod;
use icecore::progress::Silent;
use icecore::repository::{CreateOptions, Key, Repository, Settings};
use icecore::runtime::Runtime;
use icecore::source::{Roots, SourceOptions};
use icecore_benches::{KIB, MIB, collect_files, each_chunk, thread_cpu_s};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, Strategy};

/// Settings of a repository and of the backups into it.
struct Setting {
    name: String,
    create: CreateOptions,
    level: i32,
}

fn setting(name: impl Into<String>, change: impl FnOnce(&mut CreateOptions), level: i32) -> Setting {
    let mut create = CreateOptions::default();
    change(&mut create);
    Setting { name: name.into(), create, level }
}

fn cut(average_kib: u32) -> CutMethod {
    CutMethod::Content { min: average_kib << 9, average: average_kib << 10, max: average_kib << 12 }
}

fn settings() -> Vec<Setting> {
    let mut all = vec![setting("default", |_| {}, 3)];
    all.extend([16, 64].map(|kib| setting(format!("chunks of {kib} KiB"), |create| create.cut = cut(kib), 3)));
    all.extend([512, 1024, 4096].map(|kib| setting(format!("data frames of {kib} KiB"), |create| create.data_frame_size = kib << 10, 3)));
    all.extend([1024].map(|kib| setting(format!("meta frames of {kib} KiB"), |create| create.meta_frame_size = kib << 10, 3)));
    all.extend([1, 4, 5, 6, 7].map(|level| setting(format!("level {level}"), |_| {}, level)));
    for (kib, frame, level) in [(16, 2048, 3), (16, 4096, 3), (16, 2048, 1), (64, 4096, 3), (32, 2048, 6), (32, 4096, 6)] {
        let name = format!("chunks of {kib} KiB, data frames of {frame} KiB, level {level}");
        let change = |create: &mut CreateOptions| (create.cut, create.data_frame_size) = (cut(kib), frame << 10);
        all.push(setting(name, change, level));
    }
    all
}

/// Bytes stored after the first and after all states, and CPU seconds for the first and for all.
fn stored(setting: &Setting, states: &[PathBuf]) -> Value {
    let runtime = Runtime::system(0);
    let key = Key::generate(&runtime);
    let backend = Arc::new(MemoryBackend::new());
    let repository = Repository::create(backend, runtime, &key, &setting.create, Settings::default()).expect("a repository can be made");
    let mut options = BackupOptions::new("sweep");
    options.level = setting.level;
    let before = process_cpu_s();
    let (mut bytes, mut after_each) = (0, Vec::new());
    for state in states {
        let roots = Roots::resolve(std::slice::from_ref(state)).expect("the folder is there");
        let summary = repository.backup(&roots, &SourceOptions::default(), &options, &Silent).expect("a backup");
        assert_eq!(summary.files_failed, 0, "nothing is left out");
        bytes += summary.bytes_stored;
        after_each.push((bytes, process_cpu_s() - before));
    }
    let ((first_bytes, first_s), (all_bytes, all_s)) = (after_each[0], after_each[after_each.len() - 1]);
    json!({"setting": setting.name, "first_bytes": first_bytes, "all_bytes": all_bytes, "first_cpu_s": first_s, "all_cpu_s": all_s})
}

/// How zstd is asked to compress a frame.
struct Tuning {
    name: &'static str,
    level: i32,
    parameters: &'static [CParameter],
}

const TUNINGS: [Tuning; 8] = [
    Tuning { name: "level 3", level: 3, parameters: &[] },
    Tuning { name: "level 1", level: 1, parameters: &[] },
    Tuning { name: "level 3, long distance matching", level: 3, parameters: &[CParameter::EnableLongDistanceMatching(true)] },
    Tuning { name: "level 3, hash tables of 2^18", level: 3, parameters: &[CParameter::HashLog(18), CParameter::ChainLog(18)] },
    Tuning { name: "level 3, greedy", level: 3, parameters: &[CParameter::Strategy(Strategy::ZSTD_greedy)] },
    Tuning { name: "level 4", level: 4, parameters: &[] },
    Tuning { name: "level 5", level: 5, parameters: &[] },
    Tuning { name: "level 6", level: 6, parameters: &[] },
];

/// The files of a state in some order.
type Order = (&'static str, fn(&mut Vec<PathBuf>));

const ORDERS: [Order; 4] = [
    ("as walked", |files| files.sort()),
    ("by extension", |files| files.sort_by_cached_key(|file| (file.extension().map(ToOwned::to_owned), file.clone()))),
    ("by extension and name", |files| {
        files.sort_by_cached_key(|file| (file.extension().map(ToOwned::to_owned), file.file_name().map(ToOwned::to_owned), file.clone()));
    }),
    ("by extension and size", |files| {
        files.sort_by_cached_key(|file| {
            let size = file.symlink_metadata().expect("the file is there").len();
            (file.extension().map(ToOwned::to_owned), size.checked_ilog2(), file.clone())
        });
    }),
];

/// Compresses frames by all tunings at once.
struct Frames {
    size: usize,
    frame: Vec<u8>,
    known: HashSet<[u8; 16]>,
    compressors: Vec<Compressor<'static>>,
    /// Bytes and CPU seconds of each tuning.
    sums: Vec<(u64, f64)>,
}

impl Frames {
    fn new(size: usize, tunings: &[Tuning]) -> Self {
        let compressor = |tuning: &Tuning| {
            let mut compressor = Compressor::new(tuning.level).expect("a level of zstd");
            for parameter in tuning.parameters {
                compressor.set_parameter(*parameter).expect("a parameter of zstd");
            }
            compressor
        };
        let compressors = tunings.iter().map(compressor).collect();
        Self { size, frame: Vec::with_capacity(size), known: HashSet::new(), compressors, sums: vec![(0, 0.0); tunings.len()] }
    }

    fn add(&mut self, chunk: &[u8]) {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::hash(chunk).as_bytes()[..16]);
        if self.known.insert(id) {
            if !self.frame.is_empty() && self.frame.len() + chunk.len() > self.size {
                self.end();
            }
            self.frame.extend_from_slice(chunk);
        }
    }

    fn end(&mut self) {
        for (compressor, (bytes, seconds)) in self.compressors.iter_mut().zip(&mut self.sums) {
            let before = thread_cpu_s();
            let length = compressor.compress(&self.frame).expect("compression").len().min(self.frame.len());
            *seconds += thread_cpu_s() - before;
            *bytes += length as u64;
        }
        self.frame.clear();
    }
}

/// Figures of tunings for one order and size of frames.
fn framed(order: &Order, size: usize, tunings: &[Tuning], states: &[PathBuf]) -> Vec<Value> {
    let cutter = ContentCutter::new(16 << 10, 32 << 10, 128 << 10, &[7; 32]).expect("sizes of a cutter");
    let mut frames = Frames::new(size, tunings);
    let mut first = Vec::new();
    for state in states {
        let mut files = Vec::new();
        collect_files(state, &mut files);
        order.1(&mut files);
        for file in &files {
            each_chunk(file, &cutter, |chunk| frames.add(chunk));
        }
        frames.end();
        if first.is_empty() {
            first.clone_from(&frames.sums);
        }
    }
    let name = |tuning: &Tuning| format!("{}, frames of {} KiB, {}", order.0, size / KIB, tuning.name);
    let figures = tunings.iter().zip(first).zip(frames.sums);
    let line = |tuning: &Tuning, first: (u64, f64), all: (u64, f64)| {
        let (first_bytes, first_cpu_s) = first;
        json!({"setting": name(tuning), "first_bytes": first_bytes, "all_bytes": all.0, "first_cpu_s": first_cpu_s, "all_cpu_s": all.1})
    };
    figures.map(|((tuning, first), all)| line(tuning, first, all)).collect()
}

/// User and system seconds of this process so far, by the hundredth.
fn process_cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = stat.rsplit_once(')').expect("a name in brackets");
    let ticks = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().expect("a number"));
    ticks.sum::<u64>() as f64 / 100.0
}

fn print(title: &str, lines: &[Value]) {
    println!("\n### {title}\n\n| setting | first, MB | all, MB | first, CPU s | all, CPU s |\n|---|---:|---:|---:|---:|");
    for line in lines {
        let number = |key: &str| line[key].as_f64().expect("a number");
        println!(
            "| {} | {:.1} | {:.1} | {:.2} | {:.2} |",
            line["setting"].as_str().unwrap_or_default(),
            number("first_bytes") / 1e6,
            number("all_bytes") / 1e6,
            number("first_cpu_s"),
            number("all_cpu_s")
        );
    }
}

fn main() {
    let (mut corpora, mut only, mut json_to) = (Vec::new(), String::new(), None);
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--only" => only = arguments.next().expect("a text after --only"),
            "--json" => json_to = Some(File::create(arguments.next().expect("a file after --json")).expect("a file that can be made")),
            _ => corpora.push(PathBuf::from(argument)),
        }
    }
    for corpus in &corpora {
        let states: Vec<PathBuf> = (0..).map(|number| corpus.join(number.to_string())).take_while(|state| state.exists()).collect();
        assert!(!states.is_empty(), "{} has no states", corpus.display());
        let name = corpus.file_name().unwrap_or_default().to_string_lossy();
        let chosen = settings().into_iter().filter(|setting| setting.name.contains(&only));
        let whole: Vec<Value> = chosen.map(|setting| stored(&setting, &states)).collect();
        print(&format!("{name}: whole repositories"), &whole);
        // All tunings where files are in the order of today, orders with the first tuning only.
        let kinds = [(&ORDERS[0], MIB, &TUNINGS[..]), (&ORDERS[0], 4 * MIB, &TUNINGS[..])];
        let kinds = kinds.into_iter().chain(ORDERS[1..].iter().map(|order| (order, MIB, &TUNINGS[..1])));
        let kinds = kinds.filter(|_| only.is_empty());
        let parts: Vec<Value> = kinds.flat_map(|(order, size, tunings)| framed(order, size, tunings, &states)).collect();
        if !parts.is_empty() {
            print(&format!("{name}: frames alone"), &parts);
        }
        if let Some(file) = &mut json_to {
            writeln!(file, "{}", json!({"corpus": name, "whole": whole, "frames": parts})).expect("a file that can be written");
        }
    }
}

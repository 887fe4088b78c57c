//! Fuzzing on the stable toolchain: seeds, changed at random from a seeded generator, for a given time.
//!
//! ```text
//! stable seeds                       writes fuzz/corpus/
//! stable run TARGET|all SECONDS [SEED]
//! stable repeat TARGET FILE          runs one input
//! stable targets                     names the targets
//! stable corpus FOLDER               runs what lies in FOLDER/<target>/, once, as for coverage
//! ```
//! Without coverage it finds less than libFuzzer in the same time; it needs nothing but cargo. What fails is written to
//! `fuzz/artifacts/<target>/`.

#![allow(clippy::disallowed_methods, reason = "this is a program, and measures real time")]

use icecore_fuzz::{SEED_LENGTH_MAX, TARGETS, run, write_seeds};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["seeds"] => seeds(),
        ["targets"] => TARGETS.iter().for_each(|(target, _)| println!("{target}")),
        ["corpus", folder] => return run_corpus(Path::new(folder)),
        ["run", target, seconds, seed @ ..] => {
            let seconds = seconds.parse().expect("SECONDS is a number");
            let seed = seed.first().map_or(1, |seed| seed.parse().expect("SEED is a number"));
            return run_for(target, Duration::from_secs_f64(seconds), seed);
        }
        ["repeat", target, file] => run(target, &fs::read(file).expect("the file can be read")),
        _ => {
            eprintln!("usage: stable seeds | targets | corpus FOLDER | run TARGET|all SECONDS [SEED] | repeat TARGET FILE");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn seeds() {
    write_seeds(&folder("../format-spec/vectors"), &folder("corpus")).expect("seeds can be written");
}

fn run_for(name: &str, time: Duration, seed: u64) -> ExitCode {
    seeds();
    let mut failed = 0;
    for (target, _) in TARGETS.iter().filter(|(target, _)| name == "all" || name == *target) {
        failed += usize::from(!run_target(target, time, seed));
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Each input once.
fn run_corpus(folder: &Path) -> ExitCode {
    let mut count = 0_u64;
    for (target, _) in TARGETS {
        let files = fs::read_dir(folder.join(target)).into_iter().flatten();
        for file in files {
            run(target, &fs::read(file.expect("it is listed").path()).expect("an input can be read"));
            count += 1;
        }
    }
    println!("{count} inputs");
    ExitCode::SUCCESS
}

/// False where an input failed.
fn run_target(target: &str, time: Duration, seed: u64) -> bool {
    let corpus: Vec<Vec<u8>> = fs::read_dir(folder("corpus").join(target))
        .map(|files| files.map(|file| fs::read(file.expect("it is listed").path()).expect("a seed can be read")).collect())
        .unwrap_or_default();
    let (began, mut random, mut count) = (Instant::now(), Random(seed), 0_u64);
    let mut inputs = corpus.iter().cloned();
    loop {
        // All seeds as they are, then changed ones for the time that is left.
        let input = match inputs.next() {
            Some(seed) => seed,
            None if began.elapsed() >= time => break,
            None => mutate(&corpus, &mut random),
        };
        count += 1;
        if std::panic::catch_unwind(|| run(target, &input)).is_err() {
            let path = folder("artifacts").join(target).join(blake3::hash(&input).to_hex().as_str());
            fs::create_dir_all(path.parent().expect("the path has a folder")).expect("a folder can be made");
            fs::write(&path, &input).expect("the input can be kept");
            println!("{target}: FAILED after {count} inputs; repeat with `stable repeat {target} {}`", path.display());
            return false;
        }
    }
    println!("{target}: {count} inputs from {} seeds in {:.1} s", corpus.len(), began.elapsed().as_secs_f64());
    true
}

fn mutate(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = if corpus.is_empty() { Vec::new() } else { corpus[random.below(corpus.len())].clone() };
    for _ in 0..1 + random.below(4) {
        let at = random.below(input.len() + 1);
        match random.below(9) {
            0 if at < input.len() => input[at] = random.byte(),
            1 if at < input.len() => input[at] ^= 1 << random.below(8),
            2 => input.insert(at, random.byte()),
            3 if at < input.len() => drop(input.remove(at)),
            4 => input.truncate(at),
            5 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
            6 => {
                let end = (at + random.below(40)).min(input.len());
                let piece = input[at..end].to_vec();
                let to = random.below(input.len() + 1);
                input.splice(to..to, piece);
            }
            7 if !corpus.is_empty() => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => (0..random.below(64)).for_each(|_| input.push(random.byte())),
        }
    }
    input.truncate(SEED_LENGTH_MAX);
    input
}

/// The generator SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.next() as u8
    }
}

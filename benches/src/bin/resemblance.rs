//! Whether it pays to look for what a new chunk resembles, where nothing else tells its last version.
//!
//! ```text
//! cargo run --release -p icecore-benches --bin resemblance -- CORPUS...
//! ```
//!
//! A corpus is a folder with the states of a source, `0`, `1`, ..., as `benches/compare/corpora.py` makes them. Of each state but the first, new chunks of
//! files of which the last state has no version are what a sketch could find bases for. The guess that icecore makes without one (what follows a chunk that
//! was found is likely what followed it before) goes first. A sketch is made of features: a rolling hash is taken where it ends in six zero bits, and each feature is the
//! largest value that one linear function of these hashes has (Zou and others, "Odess", 2021). Some features together are a super-feature, and two
//! chunks resemble each other where one of these is the same (Broder, 1997; Shilane and others, "WAN optimized replication", 2012).
//!
//! What is printed for each state, in MB and compressed as icecore does it, in frames of 512 KiB: `new` is all new chunks, of which `no version` are those of files
//! without a version of before; `guess` is what these take with the guess alone, and `sketch` what they take with both. Then how much of the new content was `found` by the sketch,
//! CPU seconds of sketching (of all new chunks, since each may be asked for later) and of compressing, and bytes of memory for the sketches so far.

use icecore::chunker::ContentCutter;
use icecore::compress::{Compressor, Effort};
use icecore_benches::{KIB, MIB, collect_files, each_chunk, thread_cpu_s};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const FRAME: usize = 512 * KIB;
const BASES_MAX: usize = 3 * MIB;
const FEATURES: usize = 12;

/// How many super-features, of how many features each.
const SKETCHES: [(&str, usize); 3] = [("3 of 4", 4), ("4 of 3", 3), ("6 of 2", 2)];

/// Where a chunk stands: in which file, and its number there.
#[derive(Clone, Copy)]
struct Place {
    file: usize,
    chunk: usize,
}

/// A file of some state and where its chunks begin; its length stands at the end.
struct Cut {
    path: PathBuf,
    begins: Vec<u64>,
}

impl Cut {
    fn read(&self, chunk: usize) -> Option<Vec<u8>> {
        let (begin, end) = (*self.begins.get(chunk)?, *self.begins.get(chunk + 1)?);
        let mut bytes = vec![0; (end - begin) as usize];
        File::open(&self.path).and_then(|file| file.read_exact_at(&mut bytes, begin)).expect("a file that is as it was");
        Some(bytes)
    }
}

struct Gear {
    table: [u64; 256],
    functions: [(u64, u64); FEATURES],
}

impl Gear {
    fn new() -> Self {
        let mut bytes = [0; 8 * 256 + 16 * FEATURES];
        blake3::Hasher::new_derive_key("icecore benches: resemblance").finalize_xof().fill(&mut bytes);
        let mut numbers = bytes.chunks_exact(8).map(|number| u64::from_le_bytes(number.try_into().expect("eight bytes")));
        let table = std::array::from_fn(|_| numbers.next().expect("enough"));
        let functions = std::array::from_fn(|_| (numbers.next().expect("enough") | 1, numbers.next().expect("enough")));
        Self { table, functions }
    }

    /// `None` for what has no place where the hash is taken.
    fn features(&self, chunk: &[u8]) -> Option<[u64; FEATURES]> {
        let (mut hash, mut features, mut is_any) = (0_u64, [0; FEATURES], false);
        for byte in chunk {
            hash = (hash << 1).wrapping_add(self.table[usize::from(*byte)]);
            // The upper bits hold most of what was read.
            if hash >> 58 == 0 {
                is_any = true;
                for (feature, (factor, addend)) in features.iter_mut().zip(&self.functions) {
                    *feature = (*feature).max(hash.wrapping_mul(*factor).wrapping_add(*addend));
                }
            }
        }
        is_any.then_some(features)
    }
}

/// Of chunks of before: by number and value of a super-feature, the newest that has it.
type Sketches = HashMap<u64, Place>;

fn super_features(features: &[u64; FEATURES], size: usize) -> impl Iterator<Item = u64> {
    features.chunks(size).enumerate().map(|(number, some)| {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[number as u8]);
        some.iter().for_each(|feature| {
            hasher.update(&feature.to_le_bytes());
        });
        u64::from_le_bytes(hasher.finalize().as_bytes()[..8].try_into().expect("eight bytes"))
    })
}

/// Chunks on their way into frames: with bases, and without.
struct Frames {
    compressor: Compressor,
    with: (Vec<u8>, Vec<u8>),
    without: Vec<u8>,
    bytes: u64,
    found: u64,
    cpu_s: f64,
}

impl Frames {
    fn new() -> Self {
        let compressor = Compressor::new(3).expect("a level of zstd");
        Self { compressor, with: Default::default(), without: Vec::new(), bytes: 0, found: 0, cpu_s: 0.0 }
    }

    fn add(&mut self, chunk: &[u8], base: Option<&[u8]>) {
        match base {
            Some(base) => {
                if self.with.0.len() + chunk.len() > FRAME || self.with.1.len() + base.len() > BASES_MAX {
                    self.end_with();
                }
                self.with.0.extend_from_slice(chunk);
                self.with.1.extend_from_slice(base);
            }
            None => {
                if self.without.len() + chunk.len() > FRAME {
                    self.end_without();
                }
                self.without.extend_from_slice(chunk);
            }
        }
    }

    fn end_with(&mut self) {
        let before = thread_cpu_s();
        self.bytes += self.compressor.compress_against(&self.with.0, &self.with.1, Effort::Usual).1.len() as u64;
        self.cpu_s += thread_cpu_s() - before;
        self.with.0.clear();
        self.with.1.clear();
    }

    fn end_without(&mut self) {
        let before = thread_cpu_s();
        self.bytes += self.compressor.compress(&self.without).1.len() as u64;
        self.cpu_s += thread_cpu_s() - before;
        self.without.clear();
    }

    fn end(&mut self) {
        self.end_with();
        self.end_without();
    }
}

/// All that is known of the states so far.
struct Corpus {
    cutter: ContentCutter,
    gear: Gear,
    files: Vec<Cut>,
    known: HashMap<[u8; 16], Place>,
    sketches: [Sketches; SKETCHES.len()],
}

impl Corpus {
    fn add_state(&mut self, state: &Path, paths_before: &HashSet<PathBuf>) -> HashSet<PathBuf> {
        let mut paths = Vec::new();
        collect_files(state, &mut paths);
        paths.sort();
        let first_of_state = self.files.len();
        let mut all = Frames::new();
        let mut guessed = Frames::new();
        let mut sketched: [Frames; SKETCHES.len()] = std::array::from_fn(|_| Frames::new());
        let mut sketching_s = [0.0; SKETCHES.len()];
        let (mut featuring_s, mut no_version) = (0.0, Frames::new());
        let mut fresh: [Vec<(u64, Place)>; SKETCHES.len()] = Default::default();
        for path in &paths {
            let has_version = path.strip_prefix(state).is_ok_and(|path| paths_before.contains(path));
            let file = self.files.len();
            let (mut cut, mut new) = (Cut { path: path.clone(), begins: vec![0] }, Vec::new());
            let mut found_last = None;
            each_chunk(path, &self.cutter, |chunk| {
                let place = Place { file, chunk: cut.begins.len() - 1 };
                cut.begins.push(cut.begins[place.chunk] + chunk.len() as u64);
                let mut id = [0; 16];
                id.copy_from_slice(&blake3::hash(chunk).as_bytes()[..16]);
                if let Some(known) = self.known.get(&id) {
                    found_last = Some(*known);
                    return;
                }
                self.known.insert(id, place);
                // What follows what was found, if that is of before.
                let guess = found_last.take().map(|last| Place { chunk: last.chunk + 1, ..last });
                let guess = guess.filter(|guess| guess.file < first_of_state);
                let guess = guess.and_then(|guess| self.files.get(guess.file)?.read(guess.chunk).map(|bytes| (guess, bytes)));
                found_last = guess.as_ref().map(|(guess, _)| *guess);
                new.push((chunk.to_vec(), place, guess.map(|(_, bytes)| bytes)));
            });
            self.files.push(cut);
            for (chunk, place, guess) in new {
                all.add(&chunk, None);
                let before = thread_cpu_s();
                let features = self.gear.features(&chunk);
                featuring_s += thread_cpu_s() - before;
                if !has_version {
                    no_version.add(&chunk, None);
                    guessed.add(&chunk, guess.as_deref());
                }
                for (number, (_, size)) in SKETCHES.iter().enumerate() {
                    let before = thread_cpu_s();
                    let of_chunk: Vec<u64> = features.iter().flat_map(|features| super_features(features, *size)).collect();
                    let found = of_chunk.iter().find_map(|one| self.sketches[number].get(one)).copied();
                    fresh[number].extend(of_chunk.iter().map(|one| (*one, place)));
                    sketching_s[number] += thread_cpu_s() - before;
                    if !has_version {
                        let base = match (&guess, found) {
                            (None, Some(found)) => self.files[found.file].read(found.chunk),
                            _ => None,
                        };
                        sketched[number].found += base.as_ref().map_or(0, |_| chunk.len() as u64);
                        sketched[number].add(&chunk, base.as_deref().or(guess.as_deref()));
                    }
                }
            }
        }
        // What is new in a state is no base in it.
        for (sketches, fresh) in self.sketches.iter_mut().zip(fresh) {
            sketches.extend(fresh);
        }
        for frames in [&mut all, &mut no_version, &mut guessed].into_iter().chain(&mut sketched) {
            frames.end();
        }
        if !paths_before.is_empty() {
            for (number, (name, _)) in SKETCHES.iter().enumerate() {
                let of_sketch = &sketched[number];
                println!(
                    "| {} | {name} | {:.2} | {:.2} | {:.2} | **{:.2}** | {:.1} | {:.2} | {:.2} | {:.2} | {} |",
                    state.file_name().unwrap_or_default().to_string_lossy(),
                    all.bytes as f64 / 1e6,
                    no_version.bytes as f64 / 1e6,
                    guessed.bytes as f64 / 1e6,
                    of_sketch.bytes as f64 / 1e6,
                    of_sketch.found as f64 / 1e6,
                    featuring_s + sketching_s[number],
                    guessed.cpu_s,
                    of_sketch.cpu_s,
                    self.sketches[number].len() * size_of::<(u64, Place)>()
                );
            }
        }
        paths.iter().filter_map(|path| path.strip_prefix(state).ok()).map(Path::to_owned).collect()
    }
}

fn main() {
    for corpus in std::env::args().skip(1).map(PathBuf::from) {
        let states: Vec<PathBuf> = (0..).map(|number| corpus.join(number.to_string())).take_while(|state| state.exists()).collect();
        assert!(states.len() > 1, "{} has not two states", corpus.display());
        println!("\n### {}\n", corpus.file_name().unwrap_or_default().to_string_lossy());
        println!(
            "| state | features | new | no version | guess | sketch | found | sketching, s | compressing with guess, s | with both, s | bytes of memory |"
        );
        println!("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|");
        let cutter = ContentCutter::new(16 << 10, 32 << 10, 128 << 10, &[7; 32]).expect("sizes of a cutter");
        let mut known = Corpus { cutter, gear: Gear::new(), files: Vec::new(), known: HashMap::new(), sketches: Default::default() };
        let mut paths = HashSet::new();
        for state in &states {
            paths = known.add_state(state, &paths);
        }
    }
}

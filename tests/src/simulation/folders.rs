//! The folders that machines back up: real ones, which change between two rounds, so that a backup finds much of what the last one saw.
//!
//! A file changes by another one that takes its name: two writes of one file may leave the same times and look like none. Times of files are set,
//! since what is stored must not depend on when a schedule runs.

use super::random::Random;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

/// How many machines there are.
pub const MACHINES: u64 = 2;
const FILES_MAX: u64 = 6;

/// What a machine has.
#[derive(Debug, Default)]
struct Machine {
    files: BTreeMap<String, Vec<u8>>,
    /// The round of the last change, and how many there were.
    round: Option<u64>,
    version: u64,
}

/// The folders of all machines.
#[derive(Debug)]
pub struct Folders {
    place: PathBuf,
    round: Mutex<u64>,
    machines: Mutex<[Machine; MACHINES as usize]>,
}

impl Folders {
    /// Below `place`; made when they are first asked for.
    pub fn new(place: PathBuf) -> Self {
        Self { place, round: Mutex::new(0), machines: Mutex::default() }
    }

    /// Nobody reads a folder just now: they may change.
    pub fn next_round(&self) {
        *self.round.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += 1;
    }

    /// The folder of a machine, a name for what is in it, and what that is.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn of(&self, machine: u64, random: &mut Random) -> io::Result<(PathBuf, String, Vec<u8>)> {
        let round = *self.round.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut machines = self.machines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = &mut machines[machine as usize];
        let folder = self.place.join(machine.to_string());
        if known.round.is_none() || known.round != Some(round) && random.one_in(2) {
            known.change(&folder, random)?;
        }
        known.round = Some(round);
        Ok((folder, format!("{} version {}", series(machine), known.version), flat(known.files.iter())))
    }
}

/// The series of a machine's folder.
pub fn series(machine: u64) -> String {
    format!("folder {machine}")
}

impl Machine {
    fn change(&mut self, folder: &Path, random: &mut Random) -> io::Result<()> {
        self.version += 1;
        for _ in 0..if self.files.is_empty() { FILES_MAX } else { 1 + random.below(3) } {
            let name = format!("{}/file {}", random.below(2), random.below(FILES_MAX));
            let path = folder.join(&name);
            if random.one_in(5) {
                if self.files.remove(&name).is_some() {
                    fs::remove_file(path)?;
                }
                continue;
            }
            let content = match self.files.get(&name) {
                // Most changes are small ones: what they change is compressed against what it was.
                Some(content) if !random.one_in(3) => edited(content, random),
                _ => super::actors::content(random, 1 + self.version % 3, super::actors::NEW_PIECES),
            };
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            fs::write(folder.with_extension("new"), &content)?;
            fs::rename(folder.with_extension("new"), &path)?;
            self.files.insert(name, content);
        }
        fs::create_dir_all(folder)?;
        let time = UNIX_EPOCH + Duration::from_secs(1_000_000_000 + self.version);
        let folders = ["0", "1"].map(|name| folder.join(name)).into_iter().filter(|path| path.is_dir());
        let files = self.files.keys().map(|name| folder.join(name));
        files.chain(folders).chain([folder.to_owned()]).try_for_each(|path| File::open(path)?.set_modified(time))
    }
}

/// With a few other bytes, in the same place or inserted.
pub(super) fn edited(content: &[u8], random: &mut Random) -> Vec<u8> {
    let mut content = content.to_vec();
    for _ in 0..1 + random.below(2) {
        let at = random.below(content.len() as u64) as usize;
        match random.one_in(2) {
            true => content[at] = content[at].wrapping_add(1),
            false => content.insert(at, 7),
        }
    }
    content
}

/// All files of a folder, in one row.
///
/// # Errors
/// Where it cannot be read.
pub fn read(folder: &Path) -> io::Result<Vec<u8>> {
    let mut files = BTreeMap::new();
    for below in fs::read_dir(folder)? {
        let below = below?;
        for file in fs::read_dir(below.path())? {
            let file = file?;
            let name = format!("{}/{}", below.file_name().display(), file.file_name().display());
            files.insert(name, fs::read(file.path())?);
        }
    }
    Ok(flat(files.iter()))
}

fn flat<'a>(files: impl Iterator<Item = (&'a String, &'a Vec<u8>)>) -> Vec<u8> {
    files.flat_map(|(name, content)| [format!("{name} of {} bytes\n", content.len()).as_bytes(), content].concat()).collect()
}

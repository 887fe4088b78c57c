//! What is backed up: a folder that churns, and a file like that of a database.

use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// How much there is, and how much of it changes.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Days, with a backup of the folder and of the database on each of them.
    pub days: u32,
    /// Files of the folder, of 4 to 44 kB.
    pub files: u64,
    /// Pages of 4 KiB of the database.
    pub pages: u64,
    /// Pages that change every day.
    pub pages_changed: u64,
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 += 1;
        let hash = blake3::hash(&self.0.to_le_bytes());
        u64::from_le_bytes(hash.as_bytes().first_chunk().copied().unwrap_or_default()) % end.max(1)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        self.0 += 1;
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&self.0.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }
}

/// Where it is now.
pub(super) struct Source {
    dice: Dice,
    workload: Workload,
    day: u64,
    pub(super) folder: tempfile::TempDir,
    pub(super) database: Vec<u8>,
}

const PAGE: usize = 4096;

impl Source {
    pub(super) fn new(workload: Workload) -> Self {
        let (folder, mut dice) = (tempfile::tempdir().expect("a folder"), Dice(0));
        let database = dice.bytes(workload.pages as usize * PAGE);
        let mut source = Self { dice, workload, day: 0, folder, database };
        (0..workload.files).for_each(|file| source.replace(file));
        source
    }

    fn replace(&mut self, file: u64) {
        let length = 4_000 + self.dice.below(40_000) as usize;
        let bytes = self.dice.bytes(length);
        self.write(file, &bytes);
    }

    fn write(&self, file: u64, bytes: &[u8]) {
        let path = self.path_of(file);
        fs::write(&path, bytes).expect("a file is written");
        // Days pass within the step of the machine's clock.
        let changed = UNIX_EPOCH + Duration::from_secs(1_600_000_000 + self.day * 86_400);
        fs::File::options().write(true).open(&path).and_then(|file| file.set_modified(changed)).expect("its time is set");
    }

    fn path_of(&self, file: u64) -> std::path::PathBuf {
        self.folder.path().join(format!("file{file}"))
    }

    /// Of a hundred files two change in a stretch and one is replaced, at least; pages of the database change.
    pub(super) fn pass_day(&mut self) {
        self.day += 1;
        for _ in 0..self.workload.files.div_ceil(50) {
            let file = self.dice.below(self.workload.files);
            let mut bytes = fs::read(self.path_of(file)).expect("the file is there");
            let at = self.dice.below(bytes.len() as u64) as usize;
            let end = (at + 2_000).min(bytes.len());
            let fresh = self.dice.bytes(end - at);
            bytes[at..end].copy_from_slice(&fresh);
            self.write(file, &bytes);
        }
        for _ in 0..self.workload.files.div_ceil(100) {
            let file = self.dice.below(self.workload.files);
            self.replace(file);
        }
        for change in 0..self.workload.pages_changed {
            // Three of four in the hottest tenth.
            let end = if change % 4 == 3 { self.workload.pages } else { self.workload.pages.div_ceil(10) };
            let at = self.dice.below(end) as usize * PAGE;
            let fresh = self.dice.bytes(PAGE);
            self.database[at..at + PAGE].copy_from_slice(&fresh);
        }
    }
}

/// Stands for all files of a folder, with their names.
pub(super) fn digest(folder: &Path) -> blake3::Hash {
    let mut paths: Vec<_> = fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let mut hasher = blake3::Hasher::new();
    for path in paths {
        hasher.update(path.file_name().unwrap_or_default().as_encoded_bytes()).update(&[0]);
        hasher.update(blake3::hash(&fs::read(&path).expect("a file is read")).as_bytes());
    }
    hasher.finalize()
}

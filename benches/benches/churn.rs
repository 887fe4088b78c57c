//! What is stored after churn: 30 daily states of a changing tree and a changing image, of which 7 are kept, with forget and gc every day.
//!
//! ```text
//! cargo bench -p icecore-benches --bench churn -- [--days 30] [--keep 7] [--image-mib 64] [--tree-mib 32] [--pack-mib 8] [--max-dead 10]
//! ```
//! Prints a line for each day and at the end one JSON line. `stored` counts all objects of the repository. `live` are the sealed frames that the
//! kept snapshots need; `fresh` is a repository made anew of the kept states alone, in the same order: what `stored` has beyond that, chunks in
//! frames that are partly needed among it, is the cost of churn. In the end the last state is restored three times from `stored` and from a repository
//! that has it alone, in turns: the fastest of each, and the frames that were decoded.

use icecore::backend::{Backend, BackendExt, LocalBackend, ObjectKind};
use icecore::backup::BackupOptions;
use icecore::gc::GcOptions;
use icecore::id::SnapshotId;
use icecore::progress::Silent;
use icecore::repository::{CreateOptions, Key, Repository, Settings};
use icecore::restore::RestoreOptions;
use icecore::runtime::{Runtime, Timestamp};
use icecore::source::{Roots, SourceOptions};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Bytes of an edit in the image.
const EDIT: usize = 4096;

struct Options {
    days: u64,
    keep: usize,
    image_mib: usize,
    tree_mib: usize,
    pack_mib: u32,
    max_dead: u8,
}

fn options() -> Options {
    let mut options =
        Options { days: 30, keep: 7, image_mib: 64, tree_mib: 32, pack_mib: 8, max_dead: GcOptions::default().dead_percent_max };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        // As cargo calls a benchmark.
        if name == "--bench" {
            continue;
        }
        let value: u64 = arguments.next().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} needs a number"));
        match name.as_str() {
            "--days" => options.days = value,
            "--keep" => options.keep = value as usize,
            "--image-mib" => options.image_mib = value as usize,
            "--tree-mib" => options.tree_mib = value as usize,
            "--pack-mib" => options.pack_mib = value as u32,
            "--max-dead" => options.max_dead = value as u8,
            _ => panic!("unknown option {name}"),
        }
    }
    options
}

/// Numbers that depend on a seed only.
struct Chance(blake3::OutputReader);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof())
    }

    fn below(&mut self, end: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        (u64::from_le_bytes(bytes) % end as u64) as usize
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.0.fill(&mut bytes);
        bytes
    }
}

/// What is backed up.
struct Source {
    folder: PathBuf,
    image: Vec<u8>,
    files: Vec<PathBuf>,
    next: usize,
    chance: Chance,
}

impl Source {
    fn new(folder: &Path, options: &Options) -> Self {
        let mut chance = Chance::new(1);
        let image = chance.bytes(options.image_mib << 20);
        let mut source = Self { folder: folder.to_owned(), image, files: Vec::new(), next: 0, chance };
        let mut bytes = 0;
        while bytes < options.tree_mib << 20 {
            bytes += source.add_file();
        }
        source.save_image();
        source
    }

    /// Sizes of files: many small, few large.
    fn add_file(&mut self) -> usize {
        let length = 1 << (8 + self.chance.below(13));
        let length = length + self.chance.below(length);
        let path = self.folder.join(format!("tree/d{}/f{}", self.next % 37, self.next));
        self.next += 1;
        std::fs::create_dir_all(path.parent().expect("it has a folder")).expect("the folder is made");
        std::fs::write(&path, self.chance.bytes(length)).expect("the file is written");
        self.files.push(path);
        length
    }

    fn save_image(&self) {
        std::fs::write(self.folder.join("image"), &self.image).expect("the image is written");
    }

    /// A day passes: of the files 3 % are edited, 1 % written anew, 1 % removed, 1 % new; of the image about 1 % in scattered pages, and one stretch.
    fn change(&mut self) {
        let count = self.files.len() / 100;
        for _ in 0..3 * count {
            let at = self.chance.below(self.files.len());
            let path = self.files[at].clone();
            let mut content = std::fs::read(&path).expect("the file is there");
            let edit = self.chance.below(content.len());
            let insert = self.chance.below(200);
            content.splice(edit..edit, self.chance.bytes(insert));
            std::fs::write(&path, content).expect("the file is written");
        }
        for _ in 0..count {
            let at = self.chance.below(self.files.len());
            std::fs::remove_file(self.files.swap_remove(at)).expect("the file is there");
            self.add_file();
            let at = self.chance.below(self.files.len());
            let length = std::fs::metadata(&self.files[at]).expect("the file is there").len() as usize;
            std::fs::write(&self.files[at], self.chance.bytes(length)).expect("the file is written");
        }
        for _ in 0..self.image.len() / EDIT / 100 {
            let at = self.chance.below(self.image.len() / EDIT) * EDIT;
            let bytes = self.chance.bytes(EDIT);
            self.image[at..at + EDIT].copy_from_slice(&bytes);
        }
        let stretch = self.image.len() / 50;
        let at = self.chance.below(self.image.len() - stretch);
        let bytes = self.chance.bytes(stretch);
        self.image[at..at + stretch].copy_from_slice(&bytes);
        self.save_image();
    }
}

/// A repository and how much is in it.
struct Store {
    backend: Arc<LocalBackend>,
    repository: Repository,
}

impl Store {
    fn new(folder: &Path, name: &str, options: &Options) -> Self {
        let backend = Arc::new(LocalBackend::create(folder.join(name)).expect("an empty folder"));
        let runtime = Runtime::system(0);
        let key = Key::generate(&runtime);
        let mut create = CreateOptions::default();
        create.pack_size = options.pack_mib << 20;
        let settings = Settings::default().with_cache(folder.join(format!("{name}-cache")));
        let repository = Repository::create(backend.clone(), runtime, &key, &create, settings).expect("a repository");
        Self { backend, repository }
    }

    fn back_up(&self, folder: &Path, day: u64) -> SnapshotId {
        let roots = Roots::resolve(&[folder.join(".")]).expect("the folder is there");
        let mut options = BackupOptions::new("churn");
        options.time = Some(Timestamp { seconds: 1_800_000_000 + day as i64 * 86_400, nanoseconds: 0 });
        let summary = self.repository.backup(&roots, &SourceOptions::default(), &options, &Silent).expect("a backup");
        summary.snapshot.expect("it made a snapshot")
    }

    /// Restores the newest snapshot; gives seconds and the frames that were decoded.
    fn restore(&self, target: &Path) -> (f64, u64) {
        let snapshot = self.repository.find_snapshot("latest", None, None).expect("a snapshot");
        let summary = self.repository.restore(&snapshot, target, &RestoreOptions::default(), &Silent).expect("a restore");
        assert_eq!(summary.items_failed, 0, "everything comes back");
        std::fs::remove_dir_all(target).expect("what was restored can be removed");
        (summary.duration_ns as f64 / 1e9, summary.frames_decoded)
    }

    fn stored(&self) -> u64 {
        let objects = ObjectKind::ALL.into_iter().flat_map(|kind| self.backend.list_sorted(kind).expect("a listing"));
        objects.map(|object| self.backend.size(&object.name).unwrap_or(0)).sum()
    }
}

fn main() {
    let options = options();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut source = Source::new(&folder.path().join("source"), &options);
    let store = Store::new(folder.path(), "repository", &options);
    let fresh = Store::new(folder.path(), "fresh", &options);
    let mut gc_options = GcOptions::default();
    gc_options.dead_percent_max = options.max_dead;
    let mut kept = VecDeque::new();
    let clock = Runtime::system(0).clock;
    let (mut written, mut gc_time, mut worst) = (0, Duration::ZERO, 0.0_f64);
    for day in 0..options.days {
        if day > 0 {
            source.change();
        }
        kept.push_back(store.back_up(&source.folder, day));
        if day + options.keep as u64 >= options.days {
            fresh.back_up(&source.folder, day);
        }
        if kept.len() > options.keep {
            let id = kept.pop_front().expect("it is not empty");
            store.repository.forget(&[id], &Silent).expect("it is forgotten");
        }
        let began = clock.monotonic_ns();
        let summary = store.repository.gc(&gc_options, &Silent).expect("a collection");
        gc_time += Duration::from_nanos(clock.monotonic_ns() - began);
        written += summary.bytes_copied + summary.bytes_remade;
        let (stored, live) = (store.stored(), store.repository.gc_plan(&gc_options, &Silent).expect("a plan").bytes_live);
        worst = worst.max(stored as f64 / live as f64);
        println!(
            "day {day:2}: stored {:7.2} MiB, live {:7.2} MiB, ratio {:.3}; gc wrote {:6.2} MiB, deleted {} packs, {} packs are left",
            stored as f64 / 1_048_576.0,
            live as f64 / 1_048_576.0,
            stored as f64 / live as f64,
            (summary.bytes_copied + summary.bytes_remade) as f64 / 1_048_576.0,
            summary.deleted.packs,
            summary.plan.packs.packs + summary.written.packs - summary.deleted.packs
        );
    }
    let report = store.repository.check(&Silent).expect("a check");
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    let stored = store.stored();
    let live = store.repository.gc_plan(&gc_options, &Silent).expect("a plan").bytes_live;
    let alone = Store::new(folder.path(), "alone", &options);
    alone.back_up(&source.folder, options.days - 1);
    let restored = [&store, &alone, &store, &alone, &store, &alone].map(|store| store.restore(&folder.path().join("restored")));
    let [of_churned, of_fresh] = [0, 1].map(|at| {
        let seconds = restored.iter().skip(at).step_by(2).map(|(seconds, _)| *seconds);
        (seconds.fold(f64::INFINITY, f64::min), restored[at].1)
    });
    let line = serde_json::json!({
        "restore_seconds": of_churned.0,
        "restore_frames": of_churned.1,
        "restore_fresh_seconds": of_fresh.0,
        "restore_fresh_frames": of_fresh.1,
        "restore_rate_of_fresh": of_fresh.0 / of_churned.0,
        "days": options.days,
        "kept": kept.len(),
        "stored_bytes": stored,
        "live_bytes": live,
        "fresh_bytes": fresh.stored(),
        "stored_per_live": stored as f64 / live as f64,
        "stored_per_live_worst": worst,
        "stored_per_fresh": stored as f64 / fresh.stored() as f64,
        "gc_written_bytes": written,
        "gc_seconds": gc_time.as_secs_f64(),
    });
    println!("{line}");
}

//! Years of daily backups in minutes: what lies in which tier, and what that costs.
//!
//! Time is compressed: a clock that stands still is moved on by a day, and a folder that churns and a file like that of a database are backed up. Once a week snapshots are
//! forgotten, garbage is collected, and packs move to a cold tier, as a lifecycle says. Chunks, frames and packs are [`SHRUNK`] times smaller than by default, so that a small
//! source behaves as one that is so many times larger. Stores are in memory; the cold one freezes. At the end every snapshot that is kept is thawed, restored, and compared.

use icecore::backend::testing::{Call, FreezingBackend, HookedBackend, Operation};
use icecore::backend::{Backend, BackendExt, MemoryBackend, ObjectKind, ObjectName};
use icecore::backup::BackupOptions;
use icecore::cost::{Money, Prices};
use icecore::crypto::{PassphraseCost, Secret};
use icecore::format::config::CutMethod;
use icecore::gc::GcOptions;
use icecore::id::SnapshotId;
use icecore::progress::Silent;
use icecore::repository::{CreateOptions, Key, Repository, Settings, TierOpener};
use icecore::restore::RestoreOptions;
use icecore::retention::{Civil, Policy, SnapshotFilter};
use icecore::runtime::{Runtime, SeededEntropy, StillClock, SystemExecutor, Timestamp};
use icecore::source::{Roots, SourceOptions};
use icecore::tiers::{SnapshotLife, ThawClass, TierBody, TierPolicy};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Chunks, frames and packs are so many times smaller than by default.
pub const SHRUNK: u64 = 32;
const DAY_S: u32 = 86_400;
const BEGIN: i64 = 1_800_000_000;
const MONTH_DAYS: u128 = 30;

/// What is backed up, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// Days, with a backup of each series on each of them.
    pub days: u32,
    /// Files of the folder.
    pub files: u64,
    /// Bytes of the file that is like a database's.
    pub database: usize,
    /// Pages of 4 KiB of it that change every day.
    pub pages: usize,
}

/// What becomes of snapshots.
#[derive(Debug, Clone)]
pub struct Life {
    /// How it is called.
    pub name: &'static str,
    /// Goes cold at this age; `None` for never.
    pub cold_after: Option<u32>,
    /// Is kept for so many days; `None` for ever.
    pub kept: Option<u32>,
    /// Rules besides: so many days, weeks, months.
    pub calendar: (u32, u32, u32),
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Snapshots that are kept at the end, each of which was restored and compared.
    pub snapshots: u64,
    /// Bytes in the warm place and in the cold tier at the end.
    pub bytes: [u64; 2],
    /// Bytes times days, likewise.
    pub byte_days: [u128; 2],
    /// Requests that write and list, and that read, likewise.
    pub requests: [[u64; 2]; 2],
    /// Bytes that garbage collection wrote again.
    pub repacked: u64,
    /// Bytes that moved to the cold tier.
    pub moved: u64,
    /// Packs that left the cold tier before their minimum days, and their bytes times the days that were left.
    pub early: (u64, u128),
    /// The same as the engine told it, in millionths.
    pub early_told: u64,
    /// Bytes that have to thaw to restore the newest snapshots, and all there are.
    pub newest_cold: [u64; 2],
}

/// All data in the cold place from the beginning, lists and trees in both: what tools with a hot and a cold repository do. By a model, from a run with all of it warm.
#[derive(Debug, Clone, Default)]
pub struct HotCold {
    /// Bytes in the hot and the cold place at the end.
    pub bytes: [u64; 2],
    /// Bytes times days, likewise.
    pub byte_days: [u128; 2],
    /// Packs that were written to the cold place, and read again to be repacked.
    pub cold_puts: u64,
    /// Bytes that had to be read from the cold place so that they could be repacked.
    pub repacked: u64,
    /// Packs that were deleted before their minimum days, and their bytes times the days that were left.
    pub early: (u64, u128),
    /// Bytes that have to thaw to restore the newest snapshots.
    pub newest_cold: u64,
}

/// One cold place, whatever its address.
#[derive(Debug)]
struct Shelf(Arc<dyn Backend>);

impl TierOpener for Shelf {
    fn open(&self, _: &TierBody, _: &str) -> icecore::Result<Arc<dyn Backend>> {
        Ok(Arc::clone(&self.0))
    }

    fn create(&self, _: &TierBody, _: &str) -> icecore::Result<Arc<dyn Backend>> {
        Ok(Arc::clone(&self.0))
    }
}

#[derive(Debug, Default)]
struct Requests([AtomicU64; 2]);

/// Counts requests as stores bill them; deletions cost nothing.
fn counted(inner: Arc<dyn Backend>) -> (Arc<dyn Backend>, Arc<Requests>) {
    let requests = Arc::new(Requests::default());
    let counter = Arc::clone(&requests);
    let count = move |call: &Call| {
        let which = match call.operation {
            Operation::Finish | Operation::List => 0,
            Operation::GetRange | Operation::Size => 1,
            _ => return Ok(()),
        };
        counter.0[which].fetch_add(u64::from(call.is_done), Ordering::Relaxed);
        Ok(())
    };
    (Arc::new(HookedBackend::new(inner, count)), requests)
}

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below.max(1)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&self.next(u64::MAX).to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }
}

/// What is backed up.
struct Source {
    dice: Dice,
    workload: Workload,
    folder: tempfile::TempDir,
    database: Vec<u8>,
}

impl Source {
    fn new(workload: Workload) -> Self {
        let mut source = Self { dice: Dice(7), workload, folder: tempfile::tempdir().expect("a folder"), database: Vec::new() };
        source.database = source.dice.bytes(workload.database);
        (0..workload.files).for_each(|file| source.write(file));
        source
    }

    fn write(&mut self, file: u64) {
        let length = 4_000 + self.dice.next(40_000) as usize;
        fs::write(self.folder.path().join(format!("file{file}")), self.dice.bytes(length)).expect("a file is written");
    }

    /// Two files of a hundred change in a stretch, one is replaced; pages of the database change.
    fn pass_day(&mut self) {
        for _ in 0..self.workload.files.div_ceil(50) {
            let path = self.folder.path().join(format!("file{}", self.dice.next(self.workload.files)));
            let mut bytes = fs::read(&path).expect("the file is there");
            let at = self.dice.next(bytes.len() as u64) as usize;
            let end = (at + 2_000).min(bytes.len());
            let fresh = self.dice.bytes(end - at);
            bytes[at..end].copy_from_slice(&fresh);
            fs::write(&path, bytes).expect("a file is written");
        }
        let replaced = self.dice.next(self.workload.files);
        self.write(replaced);
        for _ in 0..self.workload.pages {
            let page = self.dice.next((self.database.len() / 4096) as u64) as usize * 4096;
            let fresh = self.dice.bytes(4096);
            self.database[page..page + 4096].copy_from_slice(&fresh);
        }
    }
}

/// Of all files of a folder, in the order of their names.
fn digest(folder: &Path) -> blake3::Hash {
    let mut names: Vec<_> = fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry").path()).collect();
    names.sort();
    let mut hasher = blake3::Hasher::new();
    for name in names {
        hasher.update(name.file_name().unwrap_or_default().as_encoded_bytes()).update(&[0]);
        hasher.update(blake3::hash(&fs::read(&name).expect("a file is read")).as_bytes());
    }
    hasher.finalize()
}

/// When packs came, by their names.
#[derive(Debug, Default)]
struct Packs(HashMap<ObjectName, (u32, u64)>);

impl Packs {
    /// Looks what is there now; gives what is gone: its size and how many days it stayed.
    fn look(&mut self, place: &dyn Backend, day: u32) -> Vec<(u64, u32)> {
        let there: BTreeMap<_, _> = place
            .list_sorted(ObjectKind::DataPack)
            .expect("packs are listed")
            .into_iter()
            .map(|object| (object.name, object.size))
            .collect();
        let gone: BTreeSet<_> = self.0.keys().filter(|name| !there.contains_key(*name)).copied().collect();
        for (name, size) in there {
            self.0.entry(name).or_insert((day, size));
        }
        gone.iter().filter_map(|name| self.0.remove(name)).map(|(came, size)| (size, day - came)).collect()
    }
}

fn early(gone: &[(u64, u32)], minimum_days: u32) -> (u64, u128) {
    let left = gone.iter().filter(|(_, stayed)| *stayed < minimum_days);
    left.fold((0, 0), |(packs, sum), (size, stayed)| (packs + 1, sum + u128::from(*size) * u128::from(minimum_days - stayed)))
}

fn bytes_of(place: &dyn Backend, kinds: &[ObjectKind]) -> u64 {
    let sizes = |kind: &ObjectKind| place.list_sorted(*kind).expect("objects are listed").iter().map(|object| object.size).sum::<u64>();
    kinds.iter().map(sizes).sum()
}

/// Days of 24 hours, weeks of seven and months of thirty of them.
fn calendar(time: Timestamp) -> Civil {
    let day = time.seconds.div_euclid(i64::from(DAY_S));
    Civil {
        year: (day / 360) as i32,
        month: (day / 30 % 12 + 1) as u8,
        day: (day % 30 + 1) as u8,
        hour: 0,
        iso_week_year: (day / 364) as i32,
        iso_week: (day / 7 % 52 + 1) as u8,
    }
}

/// Runs a lifecycle. The second result is what a hot and a cold repository would hold, where all of this one is warm.
///
/// # Panics
/// Where anything fails, or a snapshot that is kept comes back otherwise than it was.
pub fn run(workload: Workload, life: &Life, prices: &Prices) -> (Outcome, HotCold) {
    let cold_prices = prices.tier(1).map(|(_, tier)| *tier).unwrap_or_default();
    let (clock, cache) = (Arc::new(StillClock::new(Timestamp { seconds: BEGIN, nanoseconds: 0 })), tempfile::tempdir().expect("a folder"));
    let runtime = Runtime { clock: clock.clone(), entropy: Arc::new(SeededEntropy::new(1)), executor: Arc::new(SystemExecutor::new(2)) };
    let (warm, cold) = (Arc::new(MemoryBackend::new()), Arc::new(FreezingBackend::new(Arc::new(MemoryBackend::new()))));
    let (warm_counted, warm_requests) = counted(warm.clone());
    let (cold_counted, cold_requests) = counted(cold.clone());
    let mut options = CreateOptions::default();
    (options.pack_size, options.data_frame_size) = (((64 << 20) / SHRUNK) as u32, ((2 << 20) / SHRUNK) as u32);
    (options.meta_frame_size, options.passphrase_cost) = (16 << 10, PassphraseCost::TEST);
    options.cut = CutMethod::Content { min: 512, average: 1024, max: 4096 };
    let settings = Settings::default().with_cache(cache.path()).with_tier_opener(Arc::new(Shelf(cold_counted)));
    let key = Key::KeyFile(Secret::new([5; 32]));
    let repository = Repository::create(warm_counted, runtime, &key, &options, settings).expect("a repository can be made");
    let mut tier = TierBody::new("cold", "cold");
    (tier.is_frozen, tier.minimum_days) = (true, cold_prices.minimum_days);
    // Of 10^12 bytes, in millionths: billionths of 10^9 bytes.
    tier.prices.storage = (u128::from(cold_prices.storage.billionths()) * 1_000_000_000 / u128::from(prices.gigabyte)) as u64;
    tier.classes = vec![ThawClass { name: "bulk".into(), seconds: 43_200, bytes_price: 0, requests_price: 0 }];
    if life.cold_after.is_some() {
        repository.add_tier(&tier).expect("a tier");
    }
    let mut moves = TierPolicy::new("cold");
    moves.life = SnapshotLife { warm_days: life.cold_after, kept_days: life.kept };
    let mut policy = Policy::default();
    (policy.keep_daily, policy.keep_weekly, policy.keep_monthly) = life.calendar;
    policy.keep_within = life.kept.map(|days| Duration::from_secs(u64::from(days) * u64::from(DAY_S)));

    let (mut source, mut outcome, mut model) = (Source::new(workload), Outcome::default(), HotCold::default());
    let (mut warm_packs, mut cold_packs) = (Packs::default(), Packs::default());
    let mut made: HashMap<SnapshotId, blake3::Hash> = HashMap::new();
    let all: Vec<_> = ObjectKind::ALL.to_vec();
    let lists: Vec<_> = all.iter().copied().filter(|kind| *kind != ObjectKind::DataPack).collect();
    for day in 0..workload.days {
        source.pass_day();
        let roots = Roots::resolve(&[source.folder.path().join(".")]).expect("the folder is there");
        let tree = repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("tree"), &Silent).expect("a backup");
        made.insert(tree.snapshot.expect("a snapshot"), digest(source.folder.path()));
        let stream = Box::new(std::io::Cursor::new(source.database.clone()));
        let database = repository.backup_stream("data", stream, &BackupOptions::new("database"), &Silent).expect("a backup");
        made.insert(database.snapshot.expect("a snapshot"), blake3::hash(&source.database));
        if day % 7 == 6 {
            if !policy.is_empty() {
                let dropped = repository.plan_forget(&policy, &SnapshotFilter::default(), &calendar).expect("a plan").dropped();
                if !dropped.is_empty() {
                    repository.forget(&dropped, &Silent).expect("snapshots are forgotten");
                }
                let collected = repository.gc(&GcOptions::default(), &Silent).expect("garbage is collected");
                outcome.repacked += collected.bytes_copied + collected.bytes_remade;
                model.repacked += collected.bytes_copied + collected.bytes_remade;
                outcome.early_told += collected.plan.early_cost;
            }
            if life.cold_after.is_some() {
                let moved = repository.tier_apply(&moves, &Silent).expect("packs move");
                assert_eq!(moved.failed.packs, 0, "{moved:?}");
                outcome.moved += moved.moved.bytes;
            }
        }
        let (before, gone) = (warm_packs.0.len(), warm_packs.look(&*warm, day));
        model.cold_puts += (warm_packs.0.len() + gone.len() - before) as u64;
        let fees = early(&gone, cold_prices.minimum_days);
        model.early = (model.early.0 + fees.0, model.early.1 + fees.1);
        let fees = early(&cold_packs.look(&*cold, day), cold_prices.minimum_days);
        outcome.early = (outcome.early.0 + fees.0, outcome.early.1 + fees.1);
        outcome.bytes = [bytes_of(&*warm, &all), bytes_of(&*cold, &all)];
        model.bytes = [bytes_of(&*warm, &lists), outcome.bytes[0]];
        for place in 0..2 {
            outcome.byte_days[place] += u128::from(outcome.bytes[place]);
            model.byte_days[place] += u128::from(model.bytes[place]);
        }
        clock.advance(DAY_S);
    }
    for (place, requests) in [warm_requests, cold_requests].into_iter().enumerate() {
        outcome.requests[place] = [0, 1].map(|which| requests.0[which].load(Ordering::Relaxed));
    }
    for series in ["tree", "database"] {
        let newest = repository.find_snapshot("latest", Some(series), None).expect("a snapshot");
        let plan = repository.cold_plan(&newest, &[], &Silent).expect("a plan");
        let frozen: u64 = plan.tiers.iter().map(|needs| needs.needed.bytes).sum();
        outcome.newest_cold[0] += frozen;
        outcome.newest_cold[1] += frozen + plan.warm.bytes;
        model.newest_cold += frozen + plan.warm.bytes;
    }
    outcome.snapshots = prove(&repository, &cold, &made);
    (outcome, model)
}

/// Thaws and restores every snapshot that is kept, and compares it with what was backed up; gives how many there are.
fn prove(repository: &Repository, cold: &FreezingBackend, made: &HashMap<SnapshotId, blake3::Hash>) -> u64 {
    let snapshots = repository.snapshots().expect("snapshots");
    for snapshot in &snapshots {
        let plan = repository.cold_plan(snapshot, &[], &Silent).expect("a plan");
        if !plan.is_ready() {
            repository.thaw(&plan, "bulk", 1, &Silent).expect("it thaws");
            cold.pass_time(usize::MAX);
        }
        let back = match snapshot.body.series.as_str() {
            "database" => {
                let mut bytes = Vec::new();
                repository.restore_to_writer(snapshot, None, &mut bytes, &Silent).expect("a restore");
                blake3::hash(&bytes)
            }
            _ => {
                let target = tempfile::tempdir().expect("a folder");
                let summary = repository.restore(snapshot, target.path(), &RestoreOptions::default(), &Silent).expect("a restore");
                assert!(summary.items_failed == 0 && !summary.frozen && !summary.damaged, "{summary:?}");
                digest(target.path())
            }
        };
        assert_eq!(Some(&back), made.get(&snapshot.id), "snapshot {} is other than it was", snapshot.id);
        // The next one has to thaw what it needs by itself.
        cold.expire();
    }
    snapshots.len() as u64
}

/// What storing so many bytes for so many days costs.
pub fn storage(byte_days: u128, prices: &Prices, tier: usize) -> Money {
    let rate = prices.tier(tier).map(|(_, tier)| tier.storage.billionths()).unwrap_or_default();
    let millionths = byte_days * u128::from(rate) / MONTH_DAYS / u128::from(prices.gigabyte.max(1)) / 1_000;
    Money::from_millionths(u64::try_from(millionths).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use icecore::cost::{Rate, TierPrices};

    /// Six weeks of a few files: every kept snapshot comes back, and both ways to count what is deleted early agree.
    #[test]
    fn a_season_of_backups_comes_back_from_the_cold() {
        let workload = Workload { days: 42, files: 3, database: 16 << 10, pages: 1 };
        let cold = TierPrices { storage: Rate::from_billionths(1_000_000_000_000), minimum_days: 20, ..TierPrices::default() };
        let tiers = vec![("warm".into(), TierPrices::default()), ("cold".into(), cold)];
        let prices = Prices { currency: "X".into(), gigabyte: 1_000_000_000, tiers };
        let life = Life { name: "", cold_after: Some(7), kept: Some(30), calendar: (0, 0, 0) };
        let (outcome, _) = run(workload, &life, &prices);
        assert!((2 * 30..2 * 40).contains(&outcome.snapshots), "{outcome:?}");
        assert!(outcome.moved > 0 && outcome.bytes[1] > 0 && outcome.newest_cold[0] == 0, "{outcome:?}");
        let counted = storage(outcome.early.1, &prices, 1).millionths();
        assert!(outcome.early_told.abs_diff(counted) <= outcome.early.0, "{outcome:?} {counted}");
        let all_warm = Life { cold_after: None, ..life };
        let (warm, model) = run(workload, &all_warm, &prices);
        assert_eq!((warm.snapshots, warm.bytes[1], warm.moved), (outcome.snapshots, 0, 0));
        assert!(model.bytes[0] > 0 && model.bytes[1] == warm.bytes[0] && model.newest_cold > 0, "{model:?}");
    }
}

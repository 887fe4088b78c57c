//! Years of daily backups in minutes: what lies in which tier, and what that costs.
//!
//! Time is compressed: a clock that stands still is moved on by a day, and a folder that churns and a file like that of a database are backed up. Once
//! a week snapshots are forgotten, garbage is collected, and packs move to colder tiers, as a lifecycle says; each week is a process of its own. Chunks,
//! frames and packs are smaller than by default, so that a small source behaves as a large one; quick hashes stand in for signatures. Stores are in memory; the coldest tier freezes. At the end every
//! snapshot that is kept is planned, thawed, restored, and compared with what was backed up.

mod money;
mod places;
mod source;

pub use money::{Costs, TIMES, magnified, reading};
pub use places::{Counted, Early, Requests};
pub use source::Workload;

use icecore::backup::BackupOptions;
use icecore::cost::{Money, Prices, bill, forecast};
use icecore::crypto::{PassphraseCost, Secret, use_stand_ins};
use icecore::format::config::CutMethod;
use icecore::gc::GcOptions;
use icecore::id::SnapshotId;
use icecore::progress::Silent;
use icecore::repository::{CreateOptions, Key, Repository, Settings, Snapshot};
use icecore::restore::RestoreOptions;
use icecore::retention::{Civil, Policy, SnapshotFilter};
use icecore::runtime::{Clock, Executor, Runtime, SeededEntropy, StillClock, SystemExecutor, Timestamp};
use icecore::source::{Roots, SourceOptions};
use icecore::tiers::{SnapshotLife, ThawClass, ThawOptions, TierBody, TierPolicy};
use places::{Place, Shelf};
use source::{Source, digest};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const PACK_SIZE: u32 = 128 << 10;
const DAY_S: u32 = 86_400;
const BEGIN: i64 = 1_800_000_000;

/// What becomes of snapshots.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    /// How it is called.
    pub name: &'static str,
    /// Days after which snapshots go to the first tier, to the second one, and so on. Those after the warm one in the prices.
    pub cold_after: Vec<u32>,
    /// Snapshots are kept for so many days at most: what `tier plan` is told.
    pub kept_days: u32,
    /// Of these so many days, weeks and months are kept; `None` for all of them.
    pub calendar: Option<(u32, u32, u32)>,
}

impl Lifecycle {
    /// Whether what is in a place has to thaw: in the coldest tier, since from one that freezes nothing goes on.
    fn freezes(&self, number: usize) -> bool {
        number > 0 && number == self.cold_after.len()
    }

    fn policy(&self) -> Policy {
        let mut policy = Policy::default();
        match self.calendar {
            Some(rules) => (policy.keep_daily, policy.keep_weekly, policy.keep_monthly) = rules,
            None => policy.keep_within = Some(Duration::from_secs(u64::from(self.kept_days) * u64::from(DAY_S))),
        }
        policy
    }
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Snapshots that are kept at the end, each of which was restored and compared.
    pub snapshots: u64,
    /// The warm place, then the tiers.
    pub places: Vec<Counted>,
    /// Bytes that moved to tiers.
    pub moved: u64,
    /// Bytes that garbage collection wrote again.
    pub repacked: u64,
    /// Bytes in tiers that no snapshot needs at the end, because others of their packs are needed.
    pub cold_unneeded: u64,
    /// What was deleted too early, as garbage collection told it.
    pub early_told: Money,
    /// Bytes of packs that restoring the newest snapshots needs, of each place.
    pub newest: Vec<u64>,
    /// The same for the oldest ones.
    pub oldest: Vec<u64>,
    /// Bytes in all at the end, as a forecast told them half way.
    pub foretold: Option<u64>,
}

/// Threads that make do with stand-ins for signatures, which would take nearly all of the time.
#[derive(Debug)]
struct MakingDo(SystemExecutor);

impl Executor for MakingDo {
    fn threads(&self) -> usize {
        self.0.threads()
    }

    fn spawn(&self, name: &str, work: Box<dyn FnOnce() + Send>) -> icecore::Result<()> {
        let work = move || {
            use_stand_ins();
            work();
        };
        self.0.spawn(name, Box::new(work))
    }
}

/// A run under way.
struct Run<'a> {
    life: &'a Lifecycle,
    prices: &'a Prices,
    clock: Arc<StillClock>,
    runtime: Runtime,
    cache: tempfile::TempDir,
    places: Vec<Place>,
    source: Source,
    /// What was backed up.
    made: HashMap<SnapshotId, blake3::Hash>,
    outcome: Outcome,
}

/// Runs a lifecycle, with prices of [`magnified`] bytes.
///
/// # Panics
/// Where anything fails: a snapshot that is kept comes back otherwise than it was, a young one needs what is cold, something thaws that was not asked for, or what
/// `icecore cost` says is not what was counted.
pub fn run(workload: Workload, life: &Lifecycle, prices: &Prices) -> Outcome {
    use_stand_ins();
    let mut run = Run::begin(workload, life, prices);
    let mut repository = run.open();
    for day in 0..workload.days {
        run.back_up(&repository);
        if day % 7 == 6 {
            run.maintain(&repository);
            repository = run.open();
        }
        if day == workload.days / 2 {
            run.foretell(workload.days - day);
        }
        run.places.iter_mut().for_each(|place| place.pass_day(day));
        run.clock.advance(DAY_S);
    }
    run.maintain(&repository);
    run.places.iter_mut().for_each(|place| place.pass_day(workload.days));
    run.end()
}

impl<'a> Run<'a> {
    fn begin(workload: Workload, life: &'a Lifecycle, prices: &'a Prices) -> Self {
        let clock = Arc::new(StillClock::new(Timestamp { seconds: BEGIN, nanoseconds: 0 }));
        let runtime = Runtime {
            clock: clock.clone(),
            entropy: Arc::new(SeededEntropy::new(1)),
            executor: Arc::new(MakingDo(SystemExecutor::new(2))),
        };
        let minimum_days = |number: usize| money::tier(prices, number).minimum_days;
        let places = (0..=life.cold_after.len()).map(|number| Place::new(life.freezes(number), minimum_days(number), minimum_days(1)));
        let run = Self {
            life,
            prices,
            clock,
            runtime,
            cache: tempfile::tempdir().expect("a folder"),
            places: places.collect(),
            source: Source::new(workload),
            made: HashMap::new(),
            outcome: Outcome::default(),
        };
        let mut options = CreateOptions::default();
        (options.pack_size, options.data_frame_size, options.meta_frame_size) = (PACK_SIZE, 16 << 10, 8 << 10);
        options.cut = CutMethod::Content { min: 512, average: 1024, max: 4096 };
        options.passphrase_cost = PassphraseCost::TEST;
        let repository = Repository::create(Arc::clone(&run.places[0].door), run.runtime.clone(), &key(), &options, run.settings());
        let repository = repository.expect("a repository can be made");
        (1..run.places.len()).for_each(|number| _ = repository.add_tier(&run.tier(number)).expect("a tier can be made"));
        run
    }

    fn settings(&self) -> Settings {
        let tiers = self.places.iter().enumerate().skip(1);
        let shelf = Shelf(tiers.map(|(number, place)| (number.to_string(), Arc::clone(&place.door))).collect());
        Settings::default().with_cache(self.cache.path()).with_tier_opener(Arc::new(shelf))
    }

    fn open(&self) -> Repository {
        Repository::open(Arc::clone(&self.places[0].door), self.runtime.clone(), &key(), self.settings()).expect("the repository opens")
    }

    fn tier(&self, number: usize) -> TierBody {
        let (name, prices) = self.prices.tiers.get(number).expect("there is a price for each tier");
        let mut tier = TierBody::new(name, number.to_string());
        tier.rank = u8::try_from(number).expect("tiers are few");
        (tier.is_frozen, tier.minimum_days) = (self.life.freezes(number), prices.minimum_days);
        // Of 10^12 bytes, in millionths: as many as there are billionths of 10^9 bytes.
        let storage = u128::from(prices.storage.billionths()) * 1_000_000_000 / u128::from(self.prices.gigabyte);
        tier.prices.storage = u64::try_from(storage).expect("no price is so high");
        tier.classes = vec![ThawClass { name: "bulk".into(), seconds: 43_200, bytes_price: 0, requests_price: 0 }];
        tier
    }

    fn back_up(&mut self, repository: &Repository) {
        self.source.pass_day();
        let folder = self.source.folder.path();
        let roots = Roots::resolve(&[folder.join(".")]).expect("the folder is there");
        let tree = repository.backup(&roots, &SourceOptions::default(), &BackupOptions::new("tree"), &Silent).expect("a backup");
        self.made.insert(tree.snapshot.expect("a snapshot"), digest(folder));
        let stream = Box::new(std::io::Cursor::new(self.source.database.clone()));
        let database = repository.backup_stream("data", stream, &BackupOptions::new("database"), &Silent).expect("a backup");
        self.made.insert(database.snapshot.expect("a snapshot"), blake3::hash(&self.source.database));
    }

    fn maintain(&mut self, repository: &Repository) {
        let plan = repository.plan_forget(&self.life.policy(), &SnapshotFilter::default(), &calendar).expect("a plan");
        let dropped = plan.dropped();
        if !dropped.is_empty() {
            repository.forget(&dropped, &Silent).expect("snapshots are forgotten");
        }
        let collected = repository.gc(&GcOptions::default(), &Silent).expect("garbage is collected");
        self.outcome.repacked += collected.bytes_copied + collected.bytes_remade;
        self.outcome.early_told += Money::from_millionths(collected.plan.early_cost);
        // The coldest first: what is old enough for it need not lie in the others before.
        for (number, after) in self.life.cold_after.iter().enumerate().rev() {
            let mut policy = TierPolicy::new(&self.prices.tiers[number + 1].0);
            policy.life = SnapshotLife { warm_days: Some(*after), kept_days: Some(self.life.kept_days) };
            let done = repository.tier_apply(&policy, &Silent).expect("packs move");
            assert_eq!((done.failed.packs, done.plan.stranded.packs), (0, 0), "{}: {done:?}", self.life.name);
            self.outcome.moved += done.moved.bytes;
        }
    }

    fn foretell(&mut self, days: u32) {
        let repository = self.open();
        let map = repository.tier_map().expect("a map");
        let shares = repository.shares(&|name| map.of(name), &Silent).expect("shares");
        let mut lifecycle = icecore::cost::Lifecycle::default();
        lifecycle.policy = self.life.policy();
        lifecycle.cold_after = self.life.cold_after.first().map(|days| Duration::from_secs(u64::from(*days) * u64::from(DAY_S)));
        let ahead = forecast(&shares, self.prices, &lifecycle, u64::from(days / 30), self.clock.now(), &calendar);
        self.outcome.foretold = ahead.months.last().map(|month| month.bytes.iter().sum());
    }

    fn end(mut self) -> Outcome {
        let repository = self.open();
        self.outcome.places = self.places.iter().map(Place::counted).collect();
        let asked: usize = self.places.iter().filter_map(|place| place.freezer.as_ref()).map(|freezer| freezer.asked().len()).sum();
        assert_eq!(asked, 0, "nothing thaws by itself");
        self.agree_with_cost(&repository);
        (self.outcome.newest, self.outcome.oldest) = (vec![0; self.places.len()], vec![0; self.places.len()]);
        let mut snapshots = repository.snapshots().expect("snapshots");
        snapshots.sort_by_key(|snapshot| snapshot.header.time);
        for series in ["tree", "database"] {
            let of_series = || snapshots.iter().filter(|snapshot| snapshot.body.series == series);
            if let (Some(oldest), Some(newest)) = (of_series().next(), of_series().next_back()) {
                add_needs(&repository, newest, &mut self.outcome.newest);
                add_needs(&repository, oldest, &mut self.outcome.oldest);
            }
        }
        snapshots.iter().for_each(|snapshot| self.prove(&repository, snapshot));
        self.outcome.snapshots = snapshots.len() as u64;
        self.outcome
    }

    /// What `icecore cost` says is what was counted at the stores.
    fn agree_with_cost(&mut self, repository: &Repository) {
        let map = repository.tier_map().expect("a map");
        let shares = repository.shares(&|name| map.of(name), &Silent).expect("shares");
        let tiers: Vec<_> = map.tiers.iter().map(|(tier, _)| &**tier).collect();
        let prices = self.prices.for_tiers(&tiers);
        let bill = bill(&shares, &prices, PACK_SIZE.into(), self.clock.now());
        for (number, counted) in self.outcome.places.iter().enumerate() {
            // A tier's own place has the object by which it was made, too.
            let bytes = if number == 0 { counted.bytes() } else { counted.data };
            let billed = bill.tiers.get(&number).map(|tier| (tier.share.total(), tier.total)).unwrap_or_default();
            let rate = money::tier(self.prices, number).storage;
            assert_eq!(billed, (bytes, self.prices.of_bytes(bytes, rate)), "{}: tier {number}", self.life.name);
            if number > 0 {
                self.outcome.cold_unneeded += bill.tiers.get(&number).map_or(0, |tier| tier.share.rest);
            }
        }
    }

    /// A snapshot is planned, thawed, restored, and compared; a young one is warm.
    fn prove(&self, repository: &Repository, snapshot: &Snapshot) {
        let plan = repository.cold_plan(snapshot, &[], &Silent).expect("a plan");
        let age_days = (self.clock.now().seconds - snapshot.header.time.seconds) / i64::from(DAY_S);
        let is_young = self.life.cold_after.first().is_none_or(|after| age_days <= i64::from(*after));
        assert!(!is_young || plan.tiers.is_empty(), "{}: a snapshot of {age_days} days needs what is cold: {plan:?}", self.life.name);
        if !plan.is_ready() {
            repository.thaw(&plan, &ThawOptions::new("bulk"), &Silent).expect("it thaws");
        }
        let freezers = || self.places.iter().filter_map(|place| place.freezer.as_ref());
        freezers().for_each(|freezer| _ = freezer.pass_time(usize::MAX));
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
        assert_eq!(Some(&back), self.made.get(&snapshot.id), "snapshot {} is other than it was", snapshot.id);
        // The next one has to thaw what it needs by itself.
        freezers().for_each(|freezer| freezer.expire());
    }
}

/// Adds the packs that restoring a snapshot needs, by place.
fn add_needs(repository: &Repository, snapshot: &Snapshot, bytes: &mut [u64]) {
    let plan = repository.cold_plan(snapshot, &[], &Silent).expect("a plan");
    bytes[0] += plan.warm.bytes;
    plan.tiers.iter().for_each(|needs| bytes[usize::from(needs.tier.rank)] += needs.needed.bytes);
}

fn key() -> Key {
    Key::KeyFile(Secret::new([5; 32]))
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

#[cfg(test)]
mod tests {
    use super::*;
    use icecore::cost::{Rate, TierPrices};

    /// Sixty days of a few files and pages. What is checked day by day and at the end is in [`run`].
    #[test]
    fn a_season_of_backups_comes_back_from_the_cold() {
        let workload = Workload { days: 60, files: 4, pages: 8, pages_changed: 1 };
        let tier = |storage: u64, minimum_days| TierPrices {
            storage: Rate::from_billionths(storage),
            put: Rate::from_billionths(5_000_000),
            minimum_days,
            ..TierPrices::default()
        };
        let tiers = vec![("warm".into(), tier(20_000_000, 0)), ("cold".into(), tier(4_000_000, 14))];
        let prices = magnified(&Prices { currency: "X".into(), gigabyte: 1_000_000_000, tiers });
        let life = Lifecycle { name: "cold after 7, kept 30 days", cold_after: vec![7], kept_days: 30, calendar: None };
        let outcome = run(workload, &life, &prices);
        let (warm, cold) = (&outcome.places[0], &outcome.places[1]);
        assert!((2 * 30..=2 * 31).contains(&outcome.snapshots), "{outcome:?}");
        assert!(outcome.moved > 0 && cold.data > 0 && warm.data > 0, "{outcome:?}");
        assert_eq!((cold.early, outcome.early_told), (Early::default(), Money::default()));
        assert_eq!(outcome.newest[1], 0);
        assert!(outcome.oldest[1] > 0);
        let costs = Costs::of(&outcome, &prices);
        assert_eq!(costs.total(), costs.storage + costs.requests);

        // Said to be kept for long, and forgotten after thirty days: what goes early is told as it is counted.
        let life = Lifecycle { name: "cold after 7, said to be kept for long", kept_days: 365, calendar: Some((30, 0, 0)), ..life };
        let mut prices = prices;
        prices.tiers[1].1.minimum_days = 60;
        let outcome = run(workload, &life, &prices);
        let early = outcome.places[1].early;
        let counted = Costs::of(&outcome, &prices).early;
        assert!(early.packs > 0 && counted.millionths().abs_diff(outcome.early_told.millionths()) <= early.packs, "{outcome:?}");
    }
}

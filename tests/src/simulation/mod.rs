//! Deterministic simulation: the engine as it is, many processes of it over one store that fails, in an order that a seed chooses.
//!
//! A *schedule* is one run: a repository that is there already, one or two rounds of processes with their fates, then a process that nothing
//! happens to and that everything has to be right for. It is a function of its seed. [`turns`] says who goes on, [`store`] what the store does, [`actors`] what
//! processes do, [`watch`] which steps the protocol allows, [`oracle`] what has to come out.

pub mod actors;
pub mod oracle;
pub mod random;
pub mod store;
pub mod turns;
pub mod watch;

use actors::{Actor, Deed, End, World, content, key, recover};
use icecore::backend::testing::Operation;
use icecore::backend::{BackendExt, MemoryBackend, ObjectKind, ObjectName};
use icecore::backup::BackupOptions;
use icecore::crypto::PassphraseCost;
use icecore::format::config::CutMethod;
use icecore::gc::GcOptions;
use icecore::progress::Silent;
use icecore::repository::{CreateOptions, Repository, Settings};
use icecore::runtime::{Runtime, Timestamp};
use oracle::Oracle;
use random::Random;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use store::{Fate, Fault, Mutant, Store};
use turns::Scheduler;

/// A repository that was there before.
#[derive(Debug, Clone)]
pub struct Start {
    objects: BTreeMap<ObjectName, Arc<[u8]>>,
    oracle: Oracle,
}

impl Start {
    /// Some of them: empty, with snapshots, with garbage, with garbage that is condemned.
    pub fn all() -> Vec<Self> {
        (0..4).map(Self::make).collect()
    }

    #[allow(clippy::unwrap_used, reason = "nothing fails in memory")]
    fn make(number: u64) -> Self {
        let mut options = CreateOptions::default();
        (options.pack_size, options.data_frame_size, options.meta_frame_size) = (64 << 10, 8 << 10, 4 << 10);
        options.cut = CutMethod::Content { min: 512, average: 1024, max: 4096 };
        options.passphrase_cost = PassphraseCost::TEST;
        let backend = MemoryBackend::new();
        let runtime = Runtime::seeded(number, Timestamp { seconds: 1_800_000_000, nanoseconds: 0 }, 1);
        let settings = Settings::default().with_label("machine8 process 1");
        let repository = Repository::create(Arc::new(backend.clone()), runtime, &key(), &options, settings).unwrap();
        let (mut random, mut oracle) = (Random::new(number), Oracle::default());
        for day in 0..[0, 2, 4, 5][number as usize] {
            let (series, content) = (format!("start {day}"), content(&mut random));
            let stream = Box::new(std::io::Cursor::new(content.clone()));
            let made = repository.backup_stream("state", stream, &BackupOptions::new(series.as_str()), &Silent).unwrap();
            oracle.contents.insert(series.clone(), content);
            oracle.acknowledge(made.snapshot.unwrap(), &series);
        }
        for _ in 0..[0, 0, 2, 3][number as usize] {
            let id = oracle.possible()[0];
            repository.forget(&[id], &Silent).unwrap();
            oracle.forget(id);
        }
        if number == 3 {
            repository.gc(&GcOptions::default(), &Silent).unwrap();
            let id = oracle.possible()[0];
            repository.forget(&[id], &Silent).unwrap();
            oracle.forget(id);
        }
        let all = ObjectKind::ALL.into_iter().flat_map(|kind| backend.list_sorted(kind).unwrap());
        let objects = all.map(|object| (object.name, backend.get(&object.name, u64::MAX).unwrap().into())).collect();
        Self { objects, oracle }
    }
}

/// What happened in schedules.
#[derive(Debug, Default)]
pub struct Tally {
    /// Schedules.
    pub schedules: u64,
    /// Turns.
    pub steps: u64,
    /// Times that the clock leapt.
    pub leaps: u64,
    /// Times that a process was suspended.
    pub sleeps: u64,
    /// How deeds ended.
    pub ends: BTreeMap<(Deed, End), u64>,
    /// Faults that were reached.
    pub faults: BTreeMap<Fault, u64>,
    /// Calls that the store answered well.
    pub calls: BTreeMap<(Operation, ObjectKind), u64>,
    /// How often each rule was looked at.
    pub rules: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// What has to be reached, and was not.
    pub fn missed(&self) -> Vec<String> {
        let writes = [
            ObjectKind::DataPack,
            ObjectKind::MetaPack,
            ObjectKind::RefsPack,
            ObjectKind::Snapshot,
            ObjectKind::Session,
            ObjectKind::Beat,
            ObjectKind::Closed,
            ObjectKind::Tombstone,
            ObjectKind::Withdrawn,
            ObjectKind::Epoch,
            ObjectKind::Relocation,
            ObjectKind::Config,
            ObjectKind::Slot,
        ];
        let deletions = [ObjectKind::DataPack, ObjectKind::MetaPack, ObjectKind::RefsPack, ObjectKind::Snapshot, ObjectKind::Session];
        let calls = writes.map(|kind| (Operation::Finish, kind)).into_iter().chain(deletions.map(|kind| (Operation::Delete, kind)));
        let calls = calls.filter(|call| !self.calls.contains_key(call)).map(|call| format!("{call:?}"));
        let faults = Fault::ALL.into_iter().filter(|fault| !self.faults.contains_key(fault)).map(|fault| format!("{fault:?}"));
        let ends = Deed::ALL.into_iter().flat_map(|deed| [(deed, End::Done), (deed, End::Failed)]);
        let ends = ends.filter(|end| !self.ends.contains_key(end)).map(|end| format!("{end:?}"));
        calls.chain(faults).chain(ends).collect()
    }

    fn add(&mut self, world: &World) {
        self.schedules += 1;
        let turned = world.scheduler.turned();
        self.steps += turned.steps;
        self.leaps += turned.leaps;
        self.sleeps += turned.sleeps;
        let counts = world.store.counts();
        add(&mut self.faults, counts.faults);
        add(&mut self.calls, counts.calls);
        add(&mut self.rules, counts.rules);
        add(&mut self.ends, world.ends.lock().map(|ends| ends.clone()).unwrap_or_default());
    }
}

fn add<K: Ord>(to: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
    for (key, count) in from {
        *to.entry(key).or_default() += count;
    }
}

/// How a schedule ended.
#[derive(Debug)]
pub struct Outcome {
    /// What is wrong; `None` where all is well.
    pub finding: Option<String>,
    /// The calls, where they were noted.
    pub trace: Vec<String>,
    /// The same for the same schedule.
    pub hash: u64,
}

/// Runs one schedule. `cache` is a folder for it alone.
pub fn run(seed: u64, starts: &[Start], cache: &Path, mutant: Option<Mutant>, keeps_trace: bool, tally: &mut Tally) -> Outcome {
    let mut random = Random::new(seed);
    random.next_number();
    let start = &starts[random.below(starts.len() as u64) as usize];
    let scheduler = Scheduler::new(random.fork());
    let store = Store::new(&start.objects, Arc::clone(&scheduler), random.fork(), mutant);
    if keeps_trace {
        store.keep_trace();
    }
    let world = Arc::new(World {
        store,
        scheduler,
        oracle: Mutex::new(start.oracle.clone()),
        ends: Mutex::default(),
        findings: Mutex::default(),
        cache: cache.to_owned(),
        has_rotated: Mutex::new(false),
    });
    let finding = run_rounds(&world, &mut random).err();
    let broken = world.store.broken().filter(|_| mutant.is_none() || finding.is_none());
    tally.add(&world);
    let (trace, hash) = world.store.trace();
    Outcome { finding: broken.or(finding), trace, hash }
}

fn run_rounds(world: &Arc<World>, random: &mut Random) -> Result<(), String> {
    let first_finding = || world.findings.lock().ok().and_then(|findings| findings.first().cloned()).map_or(Ok(()), Err);
    for _ in 0..1 + random.below(2) {
        for _ in 0..2 + random.below(3) {
            let process = world.scheduler.process();
            let actor = Actor { process, deed: Deed::choose(random), machine: random.below(2), fate: fate(random), random: random.fork() };
            let shared = Arc::clone(world);
            world.scheduler.spawn(process, Box::new(move || actor.act(&shared)));
        }
        world.scheduler.run()?;
        first_finding()?;
        world.scheduler.leap(random.below(2) * 1000);
    }
    let is_thorough = random.one_in(4);
    recover(world, random, is_thorough);
    world.scheduler.run()?;
    first_finding()
}

fn fate(random: &mut Random) -> Fate {
    let mut fate = Fate::default();
    match random.below(14) {
        0..=2 => fate.dies_at = Some(1 + random.below(120)),
        3 => (fate.dies_at, fate.power_cut) = (Some(1 + random.below(150)), true),
        4 => fate.fails_one_in = 10 + random.below(100),
        5 => {
            let from = random.below(120);
            fate.full = from..from + 1 + random.below(60);
        }
        6..=9 => fate.fails_at = Some(1 + random.below(150)),
        10 => fate.slow_one_in = 5 + random.below(40),
        _ => {}
    }
    fate
}

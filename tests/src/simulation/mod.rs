//! Deterministic simulation: the engine as it is, many processes of it over one store that fails, in an order that a seed chooses.
//!
//! A *schedule* is one run: a repository that is there already, one or two rounds of processes with their fates, then a process that nothing
//! happens to and that everything has to be right for. It is a function of its seed. [`turns`] says who goes on, [`store`] what the store does, [`actors`] what
//! processes do, [`recovery`] what comes after them, [`watch`] which steps the protocol allows, [`oracle`] what has to come out.

pub mod actors;
pub mod folders;
pub mod oracle;
pub mod random;
pub mod recovery;
pub mod store;
pub mod turns;
pub mod watch;

use actors::{Actor, Deed, End, Holder, LARGE_PIECES, OLD_PIECES, World, content};
use folders::{Folders, MACHINES};
use icecore::backend::testing::Operation;
use icecore::backend::{BackendExt, MemoryBackend, ObjectKind};
use icecore::backup::BackupOptions;
use icecore::crypto::{PassphraseCost, use_stand_ins};
use icecore::format::config::CutMethod;
use icecore::gc::GcOptions;
use icecore::progress::Silent;
use icecore::repository::{CreateOptions, NewSlot, Repository, Settings, SlotHolder};
use icecore::runtime::{Runtime, Timestamp};
use icecore::testing::Keys;
use oracle::{Finding, Oracle};
use random::Random;
use recovery::recover;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use store::{Fate, Fault, Mutant, Objects, Store};
use turns::Scheduler;
use watch::{Condemned, RULES, add_condemned};

/// One schedule in so many begins with a repository that is so large that it has index objects.
const LARGE_STARTS_ONE_IN: u64 = 60;
/// In one round in so many there is one process.
const ALONE_ONE_IN: u64 = 8;
/// Where there were so many calls of a kind, a process died at one of them.
const OFTEN: u64 = 200_000;

/// A repository that was there before.
#[derive(Debug, Clone)]
pub struct Start {
    objects: Objects,
    /// What its epochs condemn.
    condemned: Condemned,
    oracle: Oracle,
}

impl Start {
    /// Some of them: empty, with snapshots, with garbage, with garbage that is condemned, with parity, with index objects.
    pub fn all() -> Vec<Self> {
        use_stand_ins();
        (0..6).map(Self::make).collect()
    }

    /// One of `starts`; that in which everything is twice seldom, and the last one, which is large, more so.
    fn choose<'a>(starts: &'a [Self], random: &mut Random) -> &'a Self {
        let small = starts.len() as u64 - 1;
        let number = if random.one_in(LARGE_STARTS_ONE_IN) { small } else { random.below(2 * small - 1) / 2 };
        &starts[number as usize]
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
        options.parity_percent = if number == 4 { 3 } else { 0 };
        let repository = Repository::create(Arc::new(backend.clone()), runtime, &Holder::Owner.key(), &options, settings).unwrap();
        for holder in Holder::OTHERS {
            repository.add_slot(&NewSlot::new(SlotHolder::Key(holder.key()), holder.roles())).unwrap();
        }
        let (mut random, mut oracle) = (Random::new(number), Oracle::default());
        for day in 0..[0, 2, 4, 5, 3, 3][number as usize] {
            let series = actors::stream_series(day % MACHINES);
            let pieces = if number == 5 && day < 2 { LARGE_PIECES } else { 10 };
            let (name, content) = (format!("{series} version {day}"), content(&mut random, pieces, OLD_PIECES));
            let stream = Box::new(std::io::Cursor::new(content.clone()));
            let made = repository.backup_stream("state", stream, &BackupOptions::new(series.as_str()), &Silent).unwrap();
            oracle.contents.insert(name.clone(), content);
            oracle.acknowledge(made.snapshot.unwrap(), &name);
        }
        for _ in 0..[0, 0, 2, 3, 1, 1][number as usize] {
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
        let objects: Objects = all.map(|object| (object.name, backend.get(&object.name, u64::MAX).unwrap().into())).collect();
        let (keys, mut condemned) = (Keys::of_repository(&repository), Condemned::new());
        for (name, bytes) in objects.iter().filter(|(name, _)| name.kind() == ObjectKind::Epoch) {
            add_condemned(&mut condemned, &keys, name, bytes).unwrap();
        }
        Self { objects, condemned, oracle }
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
    /// Times that a clock jumped by years.
    pub jumps: u64,
    /// How deeds ended.
    pub ends: BTreeMap<(Deed, End), u64>,
    /// Who did what.
    pub holders: BTreeMap<(Deed, Holder), u64>,
    /// Faults that were reached.
    pub faults: BTreeMap<Fault, u64>,
    /// Calls that the store answered well.
    pub calls: BTreeMap<(Operation, ObjectKind), u64>,
    /// At how many of each a process died.
    pub deaths: BTreeMap<(Operation, ObjectKind), u64>,
    /// How often each rule was looked at.
    pub rules: BTreeMap<&'static str, u64>,
    /// Backups that compressed something against what it was.
    pub deltas: u64,
    /// Collections for whose copies there was no room.
    pub without_copies: u64,
}

impl Tally {
    /// What has to be reached, and was not.
    pub fn missed(&self) -> Vec<String> {
        let writes = [
            ObjectKind::DataPack,
            ObjectKind::MetaPack,
            ObjectKind::RefsPack,
            ObjectKind::Index,
            ObjectKind::Snapshot,
            ObjectKind::Session,
            ObjectKind::Beat,
            ObjectKind::Closed,
            ObjectKind::Tombstone,
            ObjectKind::Withdrawn,
            ObjectKind::Epoch,
            ObjectKind::Relocation,
            ObjectKind::Hold,
            ObjectKind::Config,
            ObjectKind::Slot,
            ObjectKind::Parity,
        ];
        let deletions = [
            ObjectKind::DataPack,
            ObjectKind::MetaPack,
            ObjectKind::RefsPack,
            ObjectKind::Index,
            ObjectKind::Snapshot,
            ObjectKind::Session,
            ObjectKind::Parity,
        ];
        let calls = writes.map(|kind| (Operation::Finish, kind)).into_iter().chain(deletions.map(|kind| (Operation::Delete, kind)));
        let calls = calls.filter(|call| !self.calls.contains_key(call)).map(|call| format!("{call:?}"));
        let faults = Fault::ALL.into_iter().filter(|fault| !self.faults.contains_key(fault)).map(|fault| format!("{fault:?}"));
        let ends = Deed::ALL.into_iter().flat_map(|deed| [(deed, End::Done), (deed, End::Failed)]);
        let ends = ends.filter(|end| !self.ends.contains_key(end)).map(|end| format!("{end:?}"));
        let holders =
            Deed::ALL.into_iter().flat_map(|deed| [Holder::Owner].iter().chain(Holder::others(deed)).map(move |holder| (deed, *holder)));
        let holders = holders.filter(|holder| !self.holders.contains_key(holder)).map(|(deed, holder)| format!("{deed:?} by {holder:?}"));
        let rules = RULES.into_iter().filter(|rule| !self.rules.contains_key(rule)).map(|rule| format!("a look at rule {rule}"));
        let often = self.calls.iter().filter(|(_, count)| **count >= OFTEN).map(|(call, _)| call);
        let immortal = often.filter(|call| !self.deaths.contains_key(call)).map(|call| format!("a death at {call:?}"));
        let others = [
            (self.deltas, "a backup that compressed something against what it was"),
            (self.without_copies, "a collection for whose copies there was no room"),
            (self.leaps, "a leap of the clock"),
            (self.sleeps, "a process that was suspended"),
            (self.jumps, "a clock that jumped by years"),
        ];
        let others = others.into_iter().filter(|(count, _)| *count == 0).map(|(_, what)| what.to_owned());
        calls.chain(faults).chain(ends).chain(holders).chain(rules).chain(immortal).chain(others).collect()
    }

    /// Adds what happened in others.
    pub fn absorb(&mut self, other: Self) {
        self.schedules += other.schedules;
        self.steps += other.steps;
        self.leaps += other.leaps;
        self.sleeps += other.sleeps;
        self.jumps += other.jumps;
        self.deltas += other.deltas;
        self.without_copies += other.without_copies;
        add(&mut self.ends, other.ends);
        add(&mut self.holders, other.holders);
        add(&mut self.faults, other.faults);
        add(&mut self.calls, other.calls);
        add(&mut self.deaths, other.deaths);
        add(&mut self.rules, other.rules);
    }

    fn add(&mut self, world: &World) {
        self.schedules += 1;
        let turned = world.scheduler.turned();
        self.steps += turned.steps;
        self.leaps += turned.leaps;
        self.sleeps += turned.sleeps;
        self.jumps += turned.jumps;
        self.deltas += world.deltas.load(Ordering::Relaxed);
        self.without_copies += world.without_copies.load(Ordering::Relaxed);
        let counts = world.store.counts();
        add(&mut self.faults, counts.faults);
        add(&mut self.calls, counts.calls);
        add(&mut self.deaths, counts.deaths);
        add(&mut self.rules, counts.rules);
        add(&mut self.ends, world.ends.lock().map(|ends| ends.clone()).unwrap_or_default());
        add(&mut self.holders, world.holders.lock().map(|holders| holders.clone()).unwrap_or_default());
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
    pub finding: Option<Finding>,
    /// The calls, where they were noted.
    pub trace: Vec<String>,
    /// The same for the same schedule.
    pub hash: u64,
}

/// Runs one schedule. `cache` is a folder for it alone.
pub fn run(seed: u64, starts: &[Start], cache: &Path, mutant: Option<Mutant>, keeps_trace: bool, tally: &mut Tally) -> Outcome {
    use_stand_ins();
    let mut random = Random::new(seed);
    random.next_number();
    let start = Start::choose(starts, &mut random);
    let scheduler = Scheduler::new(random.fork());
    let store = Store::new(&start.objects, &start.condemned, Arc::clone(&scheduler), random.fork(), mutant);
    if keeps_trace {
        store.keep_trace();
    }
    let world = Arc::new(World {
        scheduler,
        oracle: Mutex::new(start.oracle.clone()),
        ends: Mutex::default(),
        holders: Mutex::default(),
        findings: Mutex::default(),
        cache: cache.to_owned(),
        folders: Folders::new(cache.join("folders")),
        has_sightings: random.one_in(4),
        rotations: Mutex::default(),
        old: start.oracle.snapshots.keys().copied().collect(),
        deltas: AtomicU64::new(0),
        without_copies: AtomicU64::new(0),
        store,
    });
    let finding = run_rounds(&world, &mut random, mutant.is_some()).err();
    // A mutant breaks a rule by being there: it has to be found by what comes of that.
    let broken = world.store.broken().filter(|_| mutant.is_none()).map(Finding::new);
    tally.add(&world);
    let (trace, hash) = world.store.trace();
    Outcome { finding: broken.or(finding), trace, hash }
}

/// `losses_only`: whatever else is found, it goes on.
fn run_rounds(world: &Arc<World>, random: &mut Random, losses_only: bool) -> Result<(), Finding> {
    let first_finding = || {
        let findings = actors::locked(&world.findings);
        findings.iter().find(|finding| finding.is_loss || !losses_only).cloned().map_or(Ok(()), Err)
    };
    for _ in 0..1 + random.below(2) {
        world.folders.next_round();
        // Now and then nobody else is at work.
        let processes = if random.one_in(ALONE_ONE_IN) { 1 } else { 2 + random.below(3) };
        for _ in 0..processes {
            let process = world.scheduler.process();
            let actor = Actor {
                process,
                deed: Deed::choose(random),
                machine: random.below(MACHINES),
                fate: fate(random, world.has_sightings),
                random: random.fork(),
                began: 0,
                about: None,
            };
            let shared = Arc::clone(world);
            world.scheduler.spawn(process, Box::new(move || actor.act(&shared)));
        }
        world.scheduler.run().map_err(Finding::new)?;
        first_finding()?;
        world.scheduler.leap(random.below(2) * 1000);
    }
    // What was reported outlives the power.
    if !world.has_sightings && world.store.has_loose() && !random.one_in(3) {
        world.store.cut_power();
    }
    let is_thorough = random.one_in(4);
    recover(world, random, is_thorough);
    world.scheduler.run().map_err(Finding::new)?;
    first_finding()
}

/// `spares_power`: who saw what is lost with the power says that the store serves an older state, and is right.
fn fate(random: &mut Random, spares_power: bool) -> Fate {
    let mut fate = Fate::default();
    match random.below(16) {
        0 => fate.dies_at = Some(call(random)),
        1..=2 => (fate.counts_changes, fate.dies_at) = (true, Some(change(random))),
        3 | 9 => {
            // Early enough that the process is still there, in the midst of others.
            (fate.dies_at, fate.power_cut) = (Some(1 + call(random) / 4), !spares_power);
            // Something that is half done, or what others have done meanwhile in reliance on it.
            fate.power_patience = if random.one_in(2) { 0 } else { random.below(200) };
        }
        4 => fate.fails_one_in = 10 + random.below(100),
        5 => {
            let from = call(random);
            fate.full_for_packs = random.one_in(2);
            fate.full = from..from + 1 + random.below(if fate.full_for_packs { 1000 } else { 60 });
        }
        6 => fate.fails_at = Some(call(random)),
        7 => (fate.counts_changes, fate.fails_at) = (true, Some(change(random))),
        8 => fate.slow_one_in = 5 + random.below(40),
        _ => {}
    }
    fate
}

/// The number of a call at which something happens: the first ones as often as the later ones.
fn call(random: &mut Random) -> u64 {
    let bound = 16 << random.below(8);
    1 + random.below(bound)
}

/// The same of those calls that change something, which are few.
fn change(random: &mut Random) -> u64 {
    let bound = 2 << random.below(7);
    1 + random.below(bound)
}

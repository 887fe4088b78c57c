//! A store that processes share, that fails as the seed says, and forgets in a power cut what was not durable.
//!
//! It gives what the contract of a backend demands, and no more: an object may be seen before it is durable, and a deletion may be undone by a
//! power cut until it has returned; a listing shows what is made or deleted meanwhile or does not; a call that fails may have done its work.

mod faults;
mod handle;

pub use faults::{Fate, Fault, Mutant};

use super::actors::Deed;
use super::random::Random;
use super::turns::Scheduler;
use super::watch::{Condemned, Watch};
use handle::Handle;
use icecore::backend::testing::Operation;
use icecore::backend::{Backend, ObjectInfo, ObjectKind, ObjectName, PatientBackend};
use icecore::runtime::Clock;
use icecore::testing::Keys;
use icecore::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// Names and bytes.
pub type Objects = BTreeMap<ObjectName, Arc<[u8]>>;

/// One store in so many has listings that lag behind.
const LAGS_ONE_IN: u64 = 8;
/// In one store in so many a sync may take long.
const SYNCS_LATE_ONE_IN: u64 = 2;
/// A power cut waits for something to lose for so many calls at most.
const POWER_WAITS: u64 = 100;
/// What a call was told had failed may be done so many calls later.
pub const LATE_MAX: u64 = 400;

/// A process as the store knows it.
#[derive(Debug, Default)]
struct Process {
    fate: Fate,
    calls: u64,
    /// Those of the calls that make or delete something.
    changes: u64,
    is_dead: bool,
    /// What it is about to do; `None` for one that only looks.
    deed: Option<Deed>,
    has_suffered: bool,
    /// Objects of which a read failed and none went well since.
    unread: BTreeSet<ObjectName>,
    /// Objects of which a read was answered.
    read: BTreeSet<ObjectName>,
    /// Its first call and its last one, among those of all.
    active: Option<(u64, u64)>,
    holds: Vec<ObjectName>,
    /// For mutants: objects that only it sees.
    own: BTreeMap<ObjectName, Arc<[u8]>>,
    /// For mutants: what was listed first, by collectors since the session began.
    listed: HashMap<ObjectKind, Vec<ObjectInfo>>,
    /// For mutants: whether it last began to look for snapshots or for sessions.
    looks_for: Option<ObjectKind>,
    epochs_listed: u32,
    open_writers: usize,
}

impl Process {
    fn is_collector(&self) -> bool {
        self.deed == Some(Deed::Collect)
    }
}

/// What a call was told had failed, and what is done later all the same.
#[derive(Debug)]
struct Late {
    process: usize,
    /// When, counted in calls of all.
    at: u64,
    name: ObjectName,
    /// What is to be there; `None` for a deletion.
    bytes: Option<Arc<[u8]>>,
}

#[derive(Debug, Clone)]
struct Object {
    bytes: Arc<[u8]>,
    /// Later ones have higher numbers.
    number: u64,
    is_durable: bool,
    /// How many calls there had been when it was made or deleted.
    since: u64,
    /// When it was made.
    made_ns: u64,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<ObjectName, Object>,
    /// Deleted, and not durably so.
    deleted: BTreeMap<ObjectName, Object>,
    /// Deleted, and when; kept for listings that lag behind.
    gone: BTreeMap<ObjectName, (u64, u64)>,
    /// Left by a call that failed.
    left: BTreeSet<ObjectName>,
    /// Not done yet.
    late: Vec<Late>,
    processes: Vec<Process>,
    /// One sync in so many takes long; 0 for none.
    syncs_late_one_in: u64,
    random: Random,
    numbers: u64,
    /// Calls of all processes.
    calls_all: u64,
    watch: Watch,
    faults: BTreeMap<Fault, u64>,
    calls: BTreeMap<(Operation, ObjectKind), u64>,
    deaths: BTreeMap<(Operation, ObjectKind), u64>,
    mutant: Option<Mutant>,
    trace: Option<Vec<String>>,
    hash: u64,
}

/// What all processes reach.
#[derive(Debug)]
pub struct Store {
    state: Mutex<State>,
    scheduler: Arc<Scheduler>,
    /// How far listings may lag behind.
    lag_ns: u64,
}

/// What happened in a store.
#[derive(Debug, Default)]
pub struct Counts {
    /// How often each fault was reached.
    pub faults: BTreeMap<Fault, u64>,
    /// How often each call was answered well.
    pub calls: BTreeMap<(Operation, ObjectKind), u64>,
    /// At how many of each a process died.
    pub deaths: BTreeMap<(Operation, ObjectKind), u64>,
    /// How often each rule was looked at.
    pub rules: BTreeMap<&'static str, u64>,
}

fn unavailable(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, text.into())
}

fn full() -> Error {
    Error::io("the store", io::Error::from(io::ErrorKind::StorageFull))
}

fn missing(name: &ObjectName) -> Error {
    Error::new(ErrorKind::NotFound, format!("{name}: no such object"))
}

/// No name of this kind comes before it.
fn first_of(kind: ObjectKind) -> ObjectName {
    let numbered = |number| ObjectName::from_parts(kind, [0; 16], number);
    numbered(0).or_else(|| numbered(1)).expect("every kind has a name with one of these numbers")
}

/// What a call is about to meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    /// It is done, or some of it, and answered with a failure.
    Lost,
    /// It is done, and the process dies.
    Dies,
}

impl Store {
    /// With these objects, some of which are condemned.
    pub fn new(
        objects: &Objects,
        condemned: &Condemned,
        scheduler: Arc<Scheduler>,
        mut random: Random,
        mutant: Option<Mutant>,
    ) -> Arc<Self> {
        let whole = |bytes: &Arc<[u8]>| Object { bytes: Arc::clone(bytes), number: 0, is_durable: true, since: 0, made_ns: 0 };
        let lag_ns = if random.one_in(LAGS_ONE_IN) { (1 + random.below(60)) * 1_000_000_000 } else { 0 };
        let syncs_late_one_in = if random.one_in(SYNCS_LATE_ONE_IN) { 5 + random.below(40) } else { 0 };
        let objects: BTreeMap<_, _> = objects.iter().map(|(name, bytes)| (*name, whole(bytes))).collect();
        let watch = Watch::new(objects.keys(), condemned);
        let state = State {
            objects,
            deleted: BTreeMap::new(),
            gone: BTreeMap::new(),
            left: BTreeSet::new(),
            late: Vec::new(),
            processes: Vec::new(),
            syncs_late_one_in,
            random,
            numbers: 1,
            calls_all: 0,
            watch,
            faults: BTreeMap::new(),
            calls: BTreeMap::new(),
            deaths: BTreeMap::new(),
            mutant,
            trace: None,
            hash: 0,
        };
        Arc::new(Self { state: Mutex::new(state), scheduler, lag_ns })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Notes every call from now on.
    pub fn keep_trace(&self) {
        self.state().trace = Some(Vec::new());
    }

    /// The calls that were noted, and a number that tells schedules apart.
    pub fn trace(&self) -> (Vec<String>, u64) {
        let mut state = self.state();
        (state.trace.take().unwrap_or_default(), state.hash)
    }

    /// What a process with this fate reaches the store by. The scheduler knows it by the same number, `clock` is its own.
    pub fn reach(self: &Arc<Self>, process: usize, fate: Fate, deed: Option<Deed>, clock: Arc<dyn Clock>) -> Arc<dyn Backend> {
        let is_impatient = {
            let mut state = self.state();
            while state.processes.len() <= process {
                state.processes.push(Process::default());
            }
            let entry = &mut state.processes[process];
            (entry.fate, entry.deed) = (fate, deed);
            state.mutant == Some(Mutant::Impatience)
        };
        let handle = Arc::new(Handle { store: Arc::clone(self), process });
        if self.lag_ns == 0 || is_impatient { handle } else { Arc::new(PatientBackend::new(handle, self.lag_ns, clock)) }
    }

    /// The process holds these keys: what it writes can be looked into.
    pub fn learn(&self, process: usize, keys: Keys) {
        self.state().watch.learn(process, keys);
    }

    /// All are over: whatever mutant there was, the store tells the truth from now on, and nothing is done late.
    pub fn come_to_rest(&self) {
        let now_ns = self.scheduler.now_ns();
        let state = &mut *self.state();
        state.mutant = None;
        state.land(u64::MAX, now_ns);
    }

    /// Whether the power takes anything away that is seen, or brings back what is not.
    pub fn has_loose(&self) -> bool {
        let state = self.state();
        !state.deleted.is_empty() || state.objects.values().any(|object| !object.is_durable)
    }

    /// The power goes, for all.
    pub fn cut_power(&self) {
        let state = &mut *self.state();
        state.note(0, Operation::Finish, ObjectKind::Config, None, "power cut at the end");
        state.cut_power();
    }

    /// How many calls there were.
    pub fn calls(&self) -> u64 {
        self.state().calls_all
    }

    /// Whether another process did anything between the first and the last call of this one.
    pub fn had_company(&self, process: usize) -> bool {
        let state = self.state();
        let Some((first, last)) = state.processes[process].active else { return false };
        let others = state.processes.iter().enumerate().filter(|(number, _)| *number != process);
        others.filter_map(|(_, other)| other.active).any(|other| other.1 > first && other.0 < last)
    }

    /// An object that is there, and was before this many calls, and that the process could not read.
    pub fn unread(&self, process: usize, calls: u64) -> Option<ObjectName> {
        let state = self.state();
        let was_there = |name: &&ObjectName| state.objects.get(*name).is_some_and(|object| object.since <= calls);
        state.processes[process].unread.iter().find(was_there).copied()
    }

    /// Whether there are packs that an epoch condemns.
    pub fn has_condemned(&self) -> bool {
        let state = self.state();
        state.objects.keys().any(|name| state.watch.is_condemned(name))
    }

    /// Whether it died.
    pub fn is_dead(&self, process: usize) -> bool {
        self.state().processes[process].is_dead
    }

    /// Whether it died or met a failure.
    pub fn has_suffered(&self, process: usize) -> bool {
        let process = &self.state().processes[process];
        process.is_dead || process.has_suffered
    }

    /// Whether a collector gave its session up.
    pub fn was_given_up(&self, process: usize) -> bool {
        self.state().watch.was_given_up(process)
    }

    /// The process ended: it holds nothing any more.
    pub fn ended(&self, process: usize) {
        self.state().processes[process].holds.clear();
    }

    /// The first rule that was broken.
    pub fn broken(&self) -> Option<String> {
        self.state().watch.broken.first().cloned()
    }

    /// What happened.
    pub fn counts(&self) -> Counts {
        let state = self.state();
        Counts { faults: state.faults.clone(), calls: state.calls.clone(), deaths: state.deaths.clone(), rules: state.watch.looked.clone() }
    }
}

impl State {
    fn count(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    fn note(&mut self, process: usize, operation: Operation, kind: ObjectKind, name: Option<&ObjectName>, what: &str) {
        let number = name.map_or(0, |name| u64::from(name.id()[0]) << 32 | u64::from(name.number()));
        let word = (process as u64) << 48 ^ (operation as u64) << 40 ^ u64::from(kind.number()) << 56 ^ number ^ what.len() as u64;
        self.hash = (self.hash.rotate_left(7) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if let Some(trace) = &mut self.trace {
            let name = name.map_or_else(|| kind.folder().to_owned(), ToString::to_string);
            trace.push(format!("{process} {operation:?} {name} {what}"));
        }
    }

    /// Whether the process goes on, and how.
    fn enter(&mut self, process: usize, operation: Operation, kind: ObjectKind, name: Option<&ObjectName>) -> Result<Verdict> {
        let dead = || unavailable("this process is dead");
        let entry = &mut self.processes[process];
        if entry.is_dead {
            return Err(dead());
        }
        let is_change = matches!(operation, Operation::Finish | Operation::Delete);
        entry.calls += 1;
        entry.changes += u64::from(is_change);
        self.calls_all += 1;
        entry.active = Some((entry.active.map_or(self.calls_all, |(first, _)| first), self.calls_all));
        let fate = entry.fate.clone();
        let call = match (fate.counts_changes, is_change) {
            (false, _) => entry.calls,
            (true, true) => entry.changes,
            (true, false) => 0,
        };
        let is_old = |object: &Object| object.since + fate.power_patience <= self.calls_all;
        let is_loose = || self.deleted.values().any(is_old) || self.objects.values().any(|object| !object.is_durable && is_old(object));
        if fate.dies_at.is_some_and(|at| call >= at && (!fate.power_cut || call >= at + POWER_WAITS || is_loose())) {
            let is_done = self.random.one_in(2);
            self.note(process, operation, kind, name, if is_done { "dies after" } else { "dies before" });
            *self.deaths.entry((operation, kind)).or_default() += 1;
            if fate.power_cut {
                self.cut_power();
                return Err(dead());
            }
            if is_done {
                self.count(Fault::DiedAfter);
                return Ok(Verdict::Dies);
            }
            self.count(Fault::DiedBefore);
            self.die(process);
            return Err(dead());
        }
        let writes = matches!(operation, Operation::Create | Operation::Write | Operation::Finish);
        if writes && fate.full.contains(&call) && (kind.is_pack() || !fate.full_for_packs) {
            self.count(Fault::Full);
            self.processes[process].has_suffered = true;
            self.note(process, operation, kind, name, "no room");
            return Err(full());
        }
        let fails = fate.fails_at == Some(call) || fate.fails_one_in > 0 && self.random.one_in(fate.fails_one_in);
        if fails {
            self.processes[process].has_suffered = true;
            let is_done = (is_change || matches!(operation, Operation::List | Operation::MakeDurable)) && self.random.one_in(2);
            self.note(process, operation, kind, name, if is_done { "done and failed" } else { "failed" });
            let Process { unread, read, .. } = &mut self.processes[process];
            match operation {
                Operation::GetRange => unread.extend(name),
                // Whether it is there still says nothing of what was read of it.
                Operation::Size => unread.extend(name.filter(|name| !read.contains(*name))),
                _ => {}
            }
            self.count(match (is_done, operation) {
                (false, _) => Fault::FailedUndone,
                (true, Operation::List) => Fault::ListingBrokenOff,
                (true, Operation::MakeDurable) => Fault::SyncedInPart,
                (true, _) => Fault::FailedDone,
            });
            return if is_done { Ok(Verdict::Lost) } else { Err(unavailable("input/output error")) };
        }
        self.note(process, operation, kind, name, "");
        Ok(Verdict::Good)
    }

    /// What the process is told after its call was done.
    fn leave(&mut self, process: usize, verdict: Verdict) -> Result<()> {
        match verdict {
            Verdict::Good => Ok(()),
            Verdict::Lost => Err(unavailable("the answer was lost")),
            Verdict::Dies => {
                self.die(process);
                Err(unavailable("this process is dead"))
            }
        }
    }

    /// Whether the process died between the two halves of a call: what it did is seen, and not durable yet.
    fn dies_between(&mut self, process: usize) -> bool {
        let Process { fate, calls, is_dead, .. } = &self.processes[process];
        if !is_dead && fate.power_cut && fate.dies_at.is_some_and(|at| *calls >= at) {
            self.note(process, Operation::Finish, ObjectKind::Config, None, "power cut");
            self.cut_power();
        }
        self.processes[process].is_dead
    }

    /// Whether what a call did can be seen and nobody makes it durable: its sync failed, or its process died before.
    fn stays_loose(&mut self, verdict: Verdict, name: &ObjectName) -> bool {
        let stays = verdict != Verdict::Good && !self.random.one_in(4);
        let is_loose = self.deleted.contains_key(name) || self.objects.get(name).is_some_and(|object| !object.is_durable);
        if stays && is_loose {
            self.count(Fault::FailedSync);
        }
        stays
    }

    /// Whether what a call was told had failed is done later.
    fn comes_late(&mut self, process: usize, verdict: Verdict, name: ObjectName, bytes: Option<&[u8]>) -> bool {
        let is_late = verdict == Verdict::Lost && self.random.one_in(2);
        if is_late {
            let at = self.calls_all + 1 + self.random.below(LATE_MAX);
            self.late.push(Late { process, at, name, bytes: bytes.map(Arc::from) });
        }
        is_late
    }

    /// Does what was to be done by then.
    fn land(&mut self, by: u64, now_ns: u64) {
        if self.late.iter().all(|late| late.at > by) {
            return;
        }
        for Late { process, at, name, bytes } in std::mem::take(&mut self.late) {
            if let Some((_, last)) = self.processes[process].active.as_mut().filter(|_| at <= by) {
                *last = by;
            }
            match bytes {
                _ if at > by => self.late.push(Late { process, at, name, bytes }),
                // No request stays on its way for longer than a lease, and a hold is the only object against which nothing helps that does.
                Some(_) if name.kind() == ObjectKind::Hold && self.watch.was_given_up(process) => {}
                Some(bytes) if !self.objects.contains_key(&name) => {
                    self.count(Fault::LandedLate);
                    self.note(process, Operation::Finish, name.kind(), Some(&name), "done late");
                    self.watch.shown(process, &name, &bytes);
                    self.left.insert(name);
                    self.insert(name, bytes, now_ns);
                }
                None if self.objects.contains_key(&name) => {
                    self.count(Fault::LandedLate);
                    self.note(process, Operation::Delete, name.kind(), Some(&name), "done late");
                    self.watch.lost(&name);
                    self.remove(&name, now_ns);
                }
                _ => {}
            }
        }
    }

    /// For mutants: a session begins.
    fn begins(&mut self, process: usize, name: &ObjectName) {
        let process = &mut self.processes[process];
        if process.is_collector() {
            process.listed.clear();
        }
        if self.mutant == Some(Mutant::TombstoneIgnored)
            && let Some(object) = self.objects.get(name)
        {
            process.own.insert(*name, Arc::clone(&object.bytes));
        }
    }

    /// For mutants: where a process keeps an object of this name that nobody else is to see, and what answers from then on.
    fn kept_for_itself(&mut self, process: usize, name: &ObjectName) -> Option<&mut BTreeMap<ObjectName, Arc<[u8]>>> {
        let process = &mut self.processes[process];
        match (self.mutant?, name.kind()) {
            (Mutant::UnwrittenEpoch, ObjectKind::Epoch) if process.is_collector() => Some(&mut process.own),
            _ => None,
        }
    }

    /// An object is seen from now on. It is as durable as what it stands in the place of.
    fn insert(&mut self, name: ObjectName, bytes: Arc<[u8]>, now_ns: u64) {
        let number = self.numbers;
        self.numbers += 1;
        let before = self.objects.get(&name);
        // What stands in the place of something is seen as that was.
        let made_ns = before.map_or(now_ns, |before| before.made_ns);
        self.objects.insert(name, Object { bytes, number, is_durable: before.is_some(), since: self.calls_all, made_ns });
    }

    /// An object is not seen from now on; false where there was none.
    fn remove(&mut self, name: &ObjectName, now_ns: u64) -> bool {
        let Some(mut object) = self.objects.remove(name) else { return false };
        self.gone.insert(*name, (object.bytes.len() as u64, now_ns));
        if object.is_durable {
            object.since = self.calls_all;
            self.deleted.insert(*name, object);
        }
        true
    }

    fn die(&mut self, process: usize) {
        let entry = &mut self.processes[process];
        entry.is_dead = true;
        entry.holds.clear();
        if entry.open_writers > 0 {
            self.count(Fault::WriteBrokenOff);
        }
    }

    /// All processes die. What is not durable is there afterwards or is not, each for itself.
    fn cut_power(&mut self) {
        self.count(Fault::PowerCut);
        self.late.clear();
        for process in 0..self.processes.len() {
            if !self.processes[process].is_dead {
                self.die(process);
            }
        }
        let loose: Vec<_> =
            self.objects.iter().filter(|(_, object)| !object.is_durable).map(|(name, object)| (*name, object.number)).collect();
        let (mut kept, mut lost) = (0, u64::MAX);
        for (name, number) in loose {
            if self.random.one_in(2) {
                self.count(Fault::WriteLost);
                self.objects.remove(&name);
                self.watch.lost(&name);
                lost = lost.min(number);
            } else {
                kept = kept.max(number);
            }
        }
        if kept > lost {
            self.count(Fault::WritesReordered);
        }
        for object in self.objects.values_mut() {
            object.is_durable = true;
        }
        for (name, object) in std::mem::take(&mut self.deleted) {
            if self.random.one_in(2) {
                self.count(Fault::DeletionLost);
                self.watch.back(&name);
                self.objects.insert(name, object);
            }
        }
    }
}

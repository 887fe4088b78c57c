//! A store that processes share, that fails as the seed says, and forgets in a power cut what was not durable.
//!
//! It gives what the contract of a backend demands, and no more: an object may be seen before it is durable, and a deletion may be undone by a
//! power cut until it has returned; a listing shows what is made or deleted meanwhile or does not; a call that fails may have done its work.

use super::random::Random;
use super::turns::Scheduler;
use super::watch::{Step, Watch};
use icecore::backend::testing::Operation;
use icecore::backend::{Backend, ObjectInfo, ObjectKind, ObjectName, ObjectWriter};
use icecore::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

/// What may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A process died before a call.
    DiedBefore,
    /// A process died after a call.
    DiedAfter,
    /// A process died with an object half written.
    TornWrite,
    /// The power went, for all.
    PowerCut,
    /// An object that had been seen was not durable when the power went.
    WriteLost,
    /// A later object outlived the power cut, an earlier one did not.
    WritesReordered,
    /// A deletion that had been seen was not durable when the power went.
    DeletionLost,
    /// A call failed and did nothing.
    FailedUndone,
    /// A call failed and was done.
    FailedDone,
    /// A finish failed: the object is seen, and will never be durable by itself.
    FailedSync,
    /// The store was full.
    Full,
    /// An answer took minutes.
    Slow,
    /// A listing did not show all that was made meanwhile.
    PartialListing,
    /// An object was there already, left by a call that had failed.
    Duplicate,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::DiedBefore,
        Self::DiedAfter,
        Self::TornWrite,
        Self::PowerCut,
        Self::WriteLost,
        Self::WritesReordered,
        Self::DeletionLost,
        Self::FailedUndone,
        Self::FailedDone,
        Self::FailedSync,
        Self::Full,
        Self::Slow,
        Self::PartialListing,
        Self::Duplicate,
    ];
}

/// Something that the engine, or a store, could do wrong; the simulation has to find each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// Objects are not synced before success is reported.
    MissingSync,
    /// A writer does not look for its tombstone (`LookForTombstone`, `LookForSession`).
    TombstoneIgnored,
    /// What failed to be written is taken for written.
    ErrorIgnored,
    /// Writers do not see what is condemned (`AvoidCondemned`).
    Uncondemned,
    /// Collectors do not see sessions (`Gate`).
    NoGate,
    /// Collectors do not list snapshots again (`Relist`).
    NoRelist,
    /// A session does not read the newest epoch again (`RereadEpoch`).
    NoReread,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::MissingSync, Self::TombstoneIgnored, Self::ErrorIgnored, Self::Uncondemned, Self::NoGate, Self::NoRelist, Self::NoReread];
}

/// A power cut waits for something to lose for so many calls at most.
const POWER_WAITS: u64 = 100;

/// What happens to a process.
#[derive(Debug, Clone, Default)]
pub struct Fate {
    /// It dies at this call.
    pub dies_at: Option<u64>,
    /// And everybody with it, in a power cut.
    pub power_cut: bool,
    /// One call in so many fails; 0 for none.
    pub fails_one_in: u64,
    /// Only this call fails.
    pub fails_at: Option<u64>,
    /// From which call to which the store is full for it.
    pub full: std::ops::Range<u64>,
    /// One answer in so many takes minutes; 0 for none.
    pub slow_one_in: u64,
}

/// A process as the store knows it.
#[derive(Debug, Default)]
struct Process {
    fate: Fate,
    calls: u64,
    is_dead: bool,
    is_collector: bool,
    has_suffered: bool,
    holds: Vec<ObjectName>,
    /// For mutants: what was listed first since the session began.
    listed: HashMap<ObjectKind, Vec<ObjectInfo>>,
    epochs_listed: u32,
    open_writers: usize,
}

#[derive(Debug, Clone)]
struct Object {
    bytes: Arc<[u8]>,
    /// Later ones have higher numbers.
    number: u64,
    is_durable: bool,
}

#[derive(Debug)]
struct State {
    objects: BTreeMap<ObjectName, Object>,
    /// Deleted, and not durably so.
    deleted: BTreeMap<ObjectName, Object>,
    /// Left by a call that failed.
    left: BTreeSet<ObjectName>,
    processes: Vec<Process>,
    random: Random,
    numbers: u64,
    watch: Watch,
    faults: BTreeMap<Fault, u64>,
    calls: BTreeMap<(Operation, ObjectKind), u64>,
    mutant: Option<Mutant>,
    trace: Option<Vec<String>>,
    hash: u64,
}

/// What all processes reach.
#[derive(Debug)]
pub struct Store {
    state: Mutex<State>,
    scheduler: Arc<Scheduler>,
}

/// What happened in a store.
#[derive(Debug, Default)]
pub struct Counts {
    /// How often each fault was reached.
    pub faults: BTreeMap<Fault, u64>,
    /// How often each call was answered well.
    pub calls: BTreeMap<(Operation, ObjectKind), u64>,
    /// How often each rule was looked at.
    pub rules: BTreeMap<&'static str, u64>,
}

fn unavailable(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unavailable, text.into())
}

fn missing(name: &ObjectName) -> Error {
    Error::new(ErrorKind::NotFound, format!("{name}: no such object"))
}

/// What a call is about to meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    /// It is done and answered with a failure.
    Lost,
    /// It is done, and the process dies.
    Dies,
}

impl Store {
    /// With these objects.
    pub fn new(objects: &BTreeMap<ObjectName, Arc<[u8]>>, scheduler: Arc<Scheduler>, random: Random, mutant: Option<Mutant>) -> Arc<Self> {
        let whole = |bytes: &Arc<[u8]>| Object { bytes: Arc::clone(bytes), number: 0, is_durable: true };
        let objects: BTreeMap<_, _> = objects.iter().map(|(name, bytes)| (*name, whole(bytes))).collect();
        let watch = Watch::new(objects.keys());
        let state = State {
            objects,
            deleted: BTreeMap::new(),
            left: BTreeSet::new(),
            processes: Vec::new(),
            random,
            numbers: 1,
            watch,
            faults: BTreeMap::new(),
            calls: BTreeMap::new(),
            mutant,
            trace: None,
            hash: 0,
        };
        Arc::new(Self { state: Mutex::new(state), scheduler })
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

    /// A process with this fate, which the scheduler knows by the same number.
    pub fn handle(self: &Arc<Self>, process: usize, fate: Fate, is_collector: bool) -> Arc<Handle> {
        let mut state = self.state();
        while state.processes.len() <= process {
            state.processes.push(Process::default());
        }
        let entry = &mut state.processes[process];
        (entry.fate, entry.is_collector) = (fate, is_collector);
        Arc::new(Handle { store: Arc::clone(self), process })
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
        Counts { faults: state.faults.clone(), calls: state.calls.clone(), rules: state.watch.looked.clone() }
    }

    /// Names and bytes of what is there.
    pub fn objects(&self) -> BTreeMap<ObjectName, Arc<[u8]>> {
        self.state().objects.iter().map(|(name, object)| (*name, Arc::clone(&object.bytes))).collect()
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
        entry.calls += 1;
        let (call, fate) = (entry.calls, entry.fate.clone());
        let is_loose = !self.deleted.is_empty() || self.objects.values().any(|object| !object.is_durable);
        if fate.dies_at.is_some_and(|at| call >= at && (!fate.power_cut || is_loose || call >= at + POWER_WAITS)) {
            let is_done = self.random.one_in(2);
            self.note(process, operation, kind, name, if is_done { "dies after" } else { "dies before" });
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
        if writes && fate.full.contains(&call) {
            self.count(Fault::Full);
            self.processes[process].has_suffered = true;
            return Err(unavailable("no space left on device"));
        }
        let fails = fate.fails_at == Some(call) || fate.fails_one_in > 0 && self.random.one_in(fate.fails_one_in);
        if fails {
            self.processes[process].has_suffered = true;
            let is_done = self.random.one_in(2) && matches!(operation, Operation::Finish | Operation::Delete);
            self.note(process, operation, kind, name, if is_done { "done and failed" } else { "failed" });
            self.count(if is_done { Fault::FailedDone } else { Fault::FailedUndone });
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

    fn die(&mut self, process: usize) {
        let entry = &mut self.processes[process];
        entry.is_dead = true;
        entry.holds.clear();
        if entry.open_writers > 0 {
            self.count(Fault::TornWrite);
        }
    }

    /// All processes die. What is not durable is there afterwards or is not, each for itself.
    fn cut_power(&mut self) {
        self.count(Fault::PowerCut);
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

/// The store as one process reaches it.
#[derive(Debug)]
pub struct Handle {
    store: Arc<Store>,
    process: usize,
}

impl Handle {
    /// Waits for its turn, and asks what becomes of a call.
    fn enter(&self, operation: Operation, kind: ObjectKind, name: Option<&ObjectName>) -> Result<Verdict> {
        self.store.scheduler.pass();
        let slow = {
            let state = &mut *self.store.state();
            let slow = state.processes[self.process].fate.slow_one_in;
            let is_slow = slow > 0 && state.random.one_in(slow);
            if is_slow {
                state.count(Fault::Slow);
            }
            is_slow
        };
        if slow {
            self.store.scheduler.leap(600);
            self.store.scheduler.pass();
        }
        self.store.state().enter(self.process, operation, kind, name)
    }

    fn done(&self, state: &mut State, step: Step, operation: Operation, kind: ObjectKind, name: Option<&ObjectName>) {
        *state.calls.entry((operation, kind)).or_default() += 1;
        state.watch.step(self.process, step, kind, name);
    }

    fn object(&self, operation: Operation, name: &ObjectName) -> Result<Arc<[u8]>> {
        let verdict = self.enter(operation, name.kind(), Some(name))?;
        let state = &mut *self.store.state();
        self.done(state, Step::Asked, operation, name.kind(), Some(name));
        let hides = state.mutant == Some(Mutant::TombstoneIgnored) && !state.processes[self.process].is_collector;
        let object = state.objects.get(name).filter(|_| !(hides && name.kind() == ObjectKind::Tombstone)).cloned();
        state.leave(self.process, verdict)?;
        object.map(|object| object.bytes).ok_or_else(|| missing(name))
    }

    fn names(state: &State, kind: ObjectKind) -> BTreeMap<ObjectName, u64> {
        let of_kind = state.objects.iter().filter(|(name, _)| name.kind() == kind);
        of_kind.map(|(name, object)| (*name, object.bytes.len() as u64)).collect()
    }

    /// What a mutant makes of a listing.
    fn distort(&self, state: &mut State, kind: ObjectKind, found: &mut Vec<ObjectInfo>) {
        let mutant = state.mutant;
        let process = &mut state.processes[self.process];
        if kind == ObjectKind::Epoch {
            process.epochs_listed += 1;
        }
        match mutant {
            Some(Mutant::Uncondemned) if kind == ObjectKind::Epoch && !process.is_collector && process.epochs_listed > 2 => found.clear(),
            Some(Mutant::NoGate) if kind == ObjectKind::Session && process.is_collector => found.clear(),
            Some(Mutant::NoRelist) if kind == ObjectKind::Snapshot && process.is_collector => {
                *found = process.listed.entry(kind).or_insert_with(|| found.clone()).clone();
            }
            Some(Mutant::NoReread) if kind == ObjectKind::Epoch && !process.is_collector => {
                *found = process.listed.entry(kind).or_insert_with(|| found.clone()).clone();
            }
            _ => {}
        }
    }
}

impl Backend for Handle {
    fn create(&self, name: &ObjectName) -> Result<Box<dyn ObjectWriter + '_>> {
        let verdict = self.enter(Operation::Create, name.kind(), Some(name))?;
        let state = &mut *self.store.state();
        state.leave(self.process, verdict)?;
        state.processes[self.process].open_writers += 1;
        self.done(state, Step::Began, Operation::Create, name.kind(), Some(name));
        Ok(Box::new(Writer { handle: self, name: *name, bytes: Vec::new(), is_poisoned: false }))
    }

    fn get_range(&self, name: &ObjectName, offset: u64, length: usize) -> Result<Vec<u8>> {
        let object = self.object(Operation::GetRange, name)?;
        let range = usize::try_from(offset).ok().and_then(|start| object.get(start..start.checked_add(length)?));
        range.map(<[u8]>::to_vec).ok_or_else(|| Error::new(ErrorKind::Damaged, format!("{name}: {} bytes, too short", object.len())))
    }

    fn size(&self, name: &ObjectName) -> Result<u64> {
        Ok(self.object(Operation::Size, name)?.len() as u64)
    }

    fn list(
        &self,
        kind: ObjectKind,
        visit: &mut dyn FnMut(ObjectInfo) -> Result<()>,
        _stranger: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<()> {
        let verdict = self.enter(Operation::List, kind, None)?;
        let before = {
            let state = &mut *self.store.state();
            state.leave(self.process, verdict)?;
            state.watch.lists(self.process, kind);
            Self::names(state, kind)
        };
        self.store.scheduler.pass();
        let mut found = {
            let state = &mut *self.store.state();
            let after = Self::names(state, kind);
            let mut found = Vec::new();
            for (name, size) in before.iter().chain(after.iter().filter(|(name, _)| !before.contains_key(name))) {
                let is_steady = before.contains_key(name) && after.contains_key(name);
                if is_steady || state.random.one_in(2) {
                    found.push(ObjectInfo { name: *name, size: *size });
                } else {
                    state.count(Fault::PartialListing);
                }
            }
            self.distort(state, kind, &mut found);
            self.done(state, Step::Listed, Operation::List, kind, None);
            found
        };
        found.drain(..).try_for_each(visit)
    }

    fn delete(&self, name: &ObjectName) -> Result<()> {
        let verdict = self.enter(Operation::Delete, name.kind(), Some(name))?;
        {
            let state = &mut *self.store.state();
            let Some(object) = state.objects.remove(name) else {
                state.leave(self.process, verdict)?;
                return Err(missing(name));
            };
            if object.is_durable {
                state.deleted.insert(*name, object);
            }
            self.done(state, Step::Deleted, Operation::Delete, name.kind(), Some(name));
        }
        self.store.scheduler.pass();
        let state = &mut *self.store.state();
        if state.dies_between(self.process) {
            return Err(unavailable("this process is dead"));
        }
        state.leave(self.process, verdict)?;
        state.deleted.remove(name);
        Ok(())
    }

    fn hold(&self, name: &ObjectName) -> Result<Option<Box<dyn Send>>> {
        self.store.scheduler.pass();
        let state = &mut *self.store.state();
        if !state.objects.contains_key(name) {
            return Err(missing(name));
        }
        if !state.processes[self.process].is_dead {
            state.processes[self.process].holds.push(*name);
        }
        Ok(Some(Box::new(Hold { store: Arc::clone(&self.store), process: self.process, name: *name })))
    }

    fn is_held(&self, name: &ObjectName) -> Result<Option<bool>> {
        self.store.scheduler.pass();
        let state = self.store.state();
        if !state.objects.contains_key(name) {
            return Err(missing(name));
        }
        Ok(Some(state.processes.iter().any(|process| process.holds.contains(name))))
    }

    fn describe(&self) -> String {
        "simulation".into()
    }
}

struct Hold {
    store: Arc<Store>,
    process: usize,
    name: ObjectName,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let holds = &mut self.store.state().processes[self.process].holds;
        if let Some(at) = holds.iter().position(|name| *name == self.name) {
            holds.remove(at);
        }
    }
}

struct Writer<'a> {
    handle: &'a Handle,
    name: ObjectName,
    bytes: Vec<u8>,
    is_poisoned: bool,
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        self.handle.store.state().processes[self.handle.process].open_writers -= 1;
    }
}

impl Writer<'_> {
    fn check(&self) -> Result<()> {
        if self.is_poisoned { Err(unavailable("an earlier write failed")) } else { Ok(()) }
    }
}

impl ObjectWriter for Writer<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.check()?;
        let entered = self.handle.enter(Operation::Write, self.name.kind(), Some(&self.name));
        let left = entered.and_then(|verdict| self.handle.store.state().leave(self.handle.process, verdict));
        self.is_poisoned = left.is_err();
        self.bytes.extend_from_slice(bytes);
        left
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        self.check()?;
        let (handle, name) = (self.handle, self.name);
        let entered = handle.enter(Operation::Finish, name.kind(), Some(&name));
        let ignores = handle.store.state().mutant == Some(Mutant::ErrorIgnored) && name.kind().is_pack();
        let verdict = match entered {
            Ok(Verdict::Lost) if ignores => {
                handle.done(&mut handle.store.state(), Step::Made, Operation::Finish, name.kind(), Some(&name));
                return Ok(());
            }
            // The engine would go on as if it had been written.
            Err(_) if ignores && !handle.store.is_dead(handle.process) => {
                handle.done(&mut handle.store.state(), Step::Made, Operation::Finish, name.kind(), Some(&name));
                return Ok(());
            }
            entered => entered?,
        };
        let is_there = {
            let state = &mut *handle.store.state();
            let is_there = state.objects.contains_key(&name);
            if !is_there {
                let bytes = std::mem::take(&mut self.bytes).into();
                let number = state.numbers;
                state.numbers += 1;
                state.objects.insert(name, Object { bytes, number, is_durable: false });
                state.watch.seen(handle.process, &name);
                if verdict == Verdict::Lost {
                    state.left.insert(name);
                }
            }
            is_there
        };
        // Others see it now, and the power may go.
        handle.store.scheduler.pass();
        let state = &mut *handle.store.state();
        if state.dies_between(handle.process) {
            return Err(unavailable("this process is dead"));
        }
        if verdict == Verdict::Lost && state.random.one_in(2) {
            state.count(Fault::FailedSync);
            return state.leave(handle.process, verdict);
        }
        if state.mutant != Some(Mutant::MissingSync)
            && let Some(object) = state.objects.get_mut(&name)
        {
            object.is_durable = true;
        }
        state.leave(handle.process, verdict)?;
        if is_there {
            if state.left.contains(&name) {
                state.count(Fault::Duplicate);
            }
            return Err(Error::new(ErrorKind::AlreadyExists, format!("{name}: exists already")));
        }
        handle.done(state, Step::Made, Operation::Finish, name.kind(), Some(&name));
        Ok(())
    }
}

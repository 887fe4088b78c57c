//! What processes do: each opens the repository as a program does, does one thing, and tells the oracle what it was told.

use super::folders::{self, Folders};
use super::oracle::{Finding, Oracle};
use super::random::Random;
use super::store::{Fate, LATE_MAX, Store};
use super::turns::{MachineClock, Scheduler, Threads};
use icecore::backup::{BackupOptions, BackupSummary};
use icecore::crypto::Secret;
use icecore::format::Roles;
use icecore::format::snapshot::SourceKind;
use icecore::gc::GcOptions;
use icecore::id::SnapshotId;
use icecore::progress::{Event, Progress, Silent};
use icecore::repair::RepairOptions;
use icecore::repository::{Key, Repository, Settings, Snapshot};
use icecore::restore::RestoreOptions;
use icecore::retention::TagChange;
use icecore::runtime::{Runtime, SeededEntropy};
use icecore::source::{Roots, SourceOptions};
use icecore::testing::Keys;
use icecore::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// Backs a stream up.
    Backup,
    /// Collects garbage.
    Collect,
    /// Restores a snapshot.
    Restore,
    /// Forgets a snapshot.
    Forget,
    /// Puts a legal hold on a snapshot.
    Hold,
    /// Changes the tags of a snapshot.
    Tag,
    /// Checks the structure.
    Check,
    /// Checks every byte.
    Scrub,
    /// Puts new keys in force.
    Rotate,
    /// Looks for damage and mends.
    Repair,
}

impl Deed {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Backup,
        Self::Collect,
        Self::Restore,
        Self::Forget,
        Self::Hold,
        Self::Tag,
        Self::Check,
        Self::Scrub,
        Self::Rotate,
        Self::Repair,
    ];

    /// One of them, what is interesting more often.
    pub fn choose(random: &mut Random) -> Self {
        match random.below(20) {
            0..=5 => Self::Backup,
            6..=10 => Self::Collect,
            11..=12 => Self::Restore,
            13..=14 => Self::Forget,
            15 if random.one_in(2) => Self::Hold,
            15 => Self::Tag,
            16 => Self::Check,
            17 => Self::Scrub,
            18 => Self::Rotate,
            _ => Self::Repair,
        }
    }
}

/// How a deed ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Success was reported.
    Done,
    /// There was nothing to do it to.
    Nothing,
    /// It has to be run again, or what it was about is gone.
    Refused,
    /// It failed, or its process died.
    Failed,
}

/// What all processes of a schedule share.
#[derive(Debug)]
pub struct World {
    /// Where the objects are.
    pub store: Arc<Store>,
    /// Who goes on.
    pub scheduler: Arc<Scheduler>,
    /// What was told.
    pub oracle: Mutex<Oracle>,
    /// How deeds ended.
    pub ends: Mutex<BTreeMap<(Deed, End), u64>>,
    /// Who did what.
    pub holders: Mutex<BTreeMap<(Deed, Holder), u64>>,
    /// What was found to be wrong.
    pub findings: Mutex<Vec<Finding>>,
    /// Where processes keep what they know for the next one; by machine.
    pub cache: PathBuf,
    /// What machines back up.
    pub folders: Folders,
    /// Whether what was seen is remembered, and an older state noticed.
    pub has_sightings: bool,
    /// Who changed keys, and from when to when, counted in calls of the store.
    pub rotations: Mutex<Vec<(usize, Range<u64>)>>,
    /// Snapshots that were there before.
    pub old: BTreeSet<SnapshotId>,
    /// Backups that compressed something against what it was.
    pub deltas: AtomicU64,
    /// Collections for whose copies there was no room.
    pub without_copies: AtomicU64,
}

impl World {
    fn find(&self, text: impl Into<String>) {
        locked(&self.findings).push(Finding::new(text));
    }
}

/// Counts collections that go on without copies.
#[derive(Debug)]
struct Listener<'a>(&'a World);

impl Progress for Listener<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Notice { message } = event
            && message.starts_with("nothing was copied this time")
        {
            self.0.without_copies.fetch_add(1, Ordering::Relaxed);
        }
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Who opens the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holder {
    /// Who made it: all roles, and admin.
    Owner,
    /// May back up and nothing else.
    Client,
    /// May collect garbage and forget, and sees no content.
    Maintainer,
    /// May restore.
    Reader,
}

impl Holder {
    /// Those whose slots the owner makes.
    pub const OTHERS: [Self; 3] = [Self::Client, Self::Maintainer, Self::Reader];

    /// What opens it.
    pub fn key(self) -> Key {
        Key::KeyFile(Secret::new([5 + self as u8; 32]))
    }

    /// What its credential may do.
    pub fn roles(self) -> Roles {
        match self {
            Self::Owner => Roles::ALL,
            Self::Client => Roles::BACKUP,
            Self::Maintainer => Roles::MAINTAIN,
            Self::Reader => Roles::RESTORE,
        }
    }

    /// Who may do this, beside the owner.
    pub fn others(deed: Deed) -> &'static [Self] {
        match deed {
            Deed::Backup => &[Self::Client],
            Deed::Collect | Deed::Forget | Deed::Hold => &[Self::Maintainer],
            Deed::Restore => &[Self::Reader],
            Deed::Check | Deed::Scrub => &[Self::Reader, Self::Maintainer],
            Deed::Tag | Deed::Rotate | Deed::Repair => &[],
        }
    }

    /// Somebody who may do this.
    fn choose(deed: Deed, random: &mut Random) -> Self {
        match Self::others(deed) {
            others if !others.is_empty() && random.one_in(3) => others[random.below(others.len() as u64) as usize],
            _ => Self::Owner,
        }
    }
}

/// Pieces of so much content that its packs get an index object.
pub const LARGE_PIECES: u64 = 400;
/// The first of the pieces that were made with what is there before.
pub const OLD_PIECES: u64 = 1 << 32;
/// The first of those that are made in a schedule.
pub const NEW_PIECES: u64 = 1 << 33;
/// One new stream in so many is so large.
const LARGE_ONE_IN: u64 = 16;

/// The pieces that content is made of; most of a state is in others, too. Some are `shared` only with what was made at the same time, so that what one process
/// has just begun to store another one relies on.
pub fn content(random: &mut Random, count: u64, shared: u64) -> Vec<u8> {
    let from = random.below(20);
    let mut content = Vec::new();
    for number in from..from + count {
        let number = match random.below(6) {
            0 => random.next_number(),
            1 | 2 => shared + random.below(8),
            _ => number,
        };
        let mut piece = vec![0; 700 + (number % 900) as usize];
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut piece);
        content.extend_from_slice(&piece);
    }
    content
}

/// The series of what a machine stores as a stream, again and again.
pub(super) fn stream_series(machine: u64) -> String {
    format!("stream {machine}")
}

/// A process and where it runs.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Its number.
    pub process: usize,
    /// What it does.
    pub deed: Deed,
    /// On which machine.
    pub machine: u64,
    /// What happens to it.
    pub fate: Fate,
    /// Its own numbers.
    pub random: Random,
    /// When it began, counted in calls of the store.
    pub began: u64,
    /// What it is about, and where that has to be there, how often somebody had begun to forget it.
    pub about: Option<(SnapshotId, Option<u64>)>,
}

/// Everything that a process takes from outside of the store.
pub(super) fn runtime(world: &World, process: usize, random: &mut Random) -> Runtime {
    let scheduler = || Arc::clone(&world.scheduler);
    Runtime {
        clock: Arc::new(MachineClock { scheduler: scheduler(), off: Mutex::new((0, random.fork())) }),
        entropy: Arc::new(SeededEntropy::new(random.next_number())),
        executor: Arc::new(Threads { scheduler: scheduler(), process, count: 1 + random.below(2) as usize }),
    }
}

pub(super) fn settings(world: &World, has_cache: bool, machine: u64, process: usize) -> Settings {
    let mut settings = Settings::default().with_label(format!("machine{machine} process {process}"));
    if has_cache {
        settings = settings.with_cache(world.cache.join(machine.to_string()));
    }
    if world.has_sightings {
        settings = settings.with_sightings(world.cache.join(format!("seen by {machine}")));
    }
    settings
}

impl Actor {
    /// Does it.
    pub fn act(mut self, world: &World) {
        self.began = world.store.calls();
        let ended = self.open(world).and_then(|repository| self.run(world, &repository));
        let end = match &ended {
            Ok(end) => *end,
            Err(error) => self.judge(world, error),
        };
        *locked(&world.ends).entry((self.deed, end)).or_default() += 1;
        world.store.ended(self.process);
    }

    fn open(&mut self, world: &World) -> Result<Repository> {
        let holder = Holder::choose(self.deed, &mut self.random);
        *locked(&world.holders).entry((self.deed, holder)).or_default() += 1;
        let runtime = runtime(world, self.process, &mut self.random);
        let backend = world.store.reach(self.process, self.fate.clone(), Some(self.deed), Arc::clone(&runtime.clock));
        // Without what it saw before a collector gives nobody of other machines up; others may keep a cache or not.
        let has_cache = self.deed == Deed::Collect || self.random.one_in(2);
        let repository = Repository::open(backend, runtime, &holder.key(), settings(world, has_cache, self.machine, self.process))?;
        world.store.learn(self.process, Keys::of_repository(&repository));
        Ok(repository)
    }

    /// Whether this error may be.
    fn judge(&self, world: &World, error: &Error) -> End {
        let has_suffered = world.store.has_suffered(self.process);
        let (end, is_right) = match error.kind() {
            // Somebody else was at work; or left what is to be swept, on which no new snapshot may rely.
            ErrorKind::Busy => {
                (End::Refused, world.store.had_company(self.process) || self.deed == Deed::Tag && world.store.has_condemned())
            }
            ErrorKind::NotFound => (End::Refused, self.may_be_gone(world)),
            ErrorKind::Held => {
                let is_held = |(id, _)| locked(&world.oracle).maybe_held.contains(&id);
                (End::Refused, matches!(self.deed, Deed::Forget | Deed::Tag) && self.about.is_some_and(is_held))
            }
            ErrorKind::Unauthorized => (End::Refused, self.met_rotation(world)),
            ErrorKind::Unavailable => (End::Failed, has_suffered),
            // It stood still for longer than a lease: what it read may have been swept. A restore goes on past what cannot be read, and names it.
            ErrorKind::Damaged => (End::Failed, world.store.was_given_up(self.process) || (self.deed == Deed::Restore && has_suffered)),
            _ => (End::Failed, false),
        };
        if !is_right && !world.store.is_dead(self.process) {
            world.find(format!("{:?} of process {} fails without a reason: {:?}: {error}", self.deed, self.process, error.kind()));
        }
        end
    }

    /// Whether what it is about need not be there, or somebody else began to forget it.
    fn may_be_gone(&self, world: &World) -> bool {
        self.about.is_some_and(|(id, doubts)| doubts != Some(locked(&world.oracle).doubts(id)))
    }

    /// Whether somebody else changed keys since it opened the repository.
    fn met_rotation(&self, world: &World) -> bool {
        locked(&world.rotations).iter().any(|(process, calls)| *process != self.process && calls.end >= self.began)
    }

    fn run(&mut self, world: &World, repository: &Repository) -> Result<End> {
        match self.deed {
            Deed::Backup => self.back_up(world, repository),
            Deed::Collect => self.collect(world, repository),
            Deed::Restore => return self.restore(world, repository),
            Deed::Forget => return self.forget(world, repository),
            Deed::Hold => return self.hold(world, repository),
            Deed::Tag => return self.tag(world, repository),
            Deed::Check => repository.check(&Silent).map(|report| self.report(world, &report)),
            Deed::Scrub => repository.scrub(&Silent).map(|report| self.report(world, &report)),
            Deed::Rotate => self.rotate(world, repository),
            Deed::Repair => repository.repair(&RepairOptions::default(), &Silent).map(drop),
        }
        .map(|()| End::Done)
    }

    fn rotate(&mut self, world: &World, repository: &Repository) -> Result<()> {
        let number = {
            let rotations = &mut *locked(&world.rotations);
            rotations.push((self.process, world.store.calls()..u64::MAX));
            rotations.len() - 1
        };
        let rotated = repository.plan_rotation(None).and_then(|plan| repository.rotate(&plan));
        // What failed may come late.
        locked(&world.rotations)[number].1.end = world.store.calls() + if rotated.is_ok() { 0 } else { LATE_MAX };
        rotated
    }

    fn collect(&mut self, world: &World, repository: &Repository) -> Result<()> {
        let mut options = GcOptions::default();
        options.dead_percent_max = self.random.below(30) as u8;
        repository.gc(&options, &Listener(world)).map(drop)
    }

    fn back_up(&mut self, world: &World, repository: &Repository) -> Result<()> {
        if self.random.one_in(3) {
            return self.back_up_folder(world, repository);
        }
        let (series, name, content) = if self.random.one_in(2) { self.new_stream() } else { self.next_stream(world) };
        locked(&world.oracle).contents.insert(name.clone(), content.clone());
        let stream = Box::new(std::io::Cursor::new(content));
        let made = repository.backup_stream("state", stream, &BackupOptions::new(series.as_str()), &Silent)?;
        self.succeeded(world, &made, &name);
        Ok(())
    }

    /// A series, a name for what it is to hold, and that: of a series of its own.
    fn new_stream(&mut self) -> (String, String, Vec<u8>) {
        let count = if self.random.one_in(LARGE_ONE_IN) { LARGE_PIECES } else { 6 + self.random.below(8) };
        let series = format!("series {}", self.random.next_number());
        (series.clone(), series, content(&mut self.random, count, NEW_PIECES))
    }

    /// The same of what the machine has stored before and what changed a little since, so that it is compressed against that.
    fn next_stream(&mut self, world: &World) -> (String, String, Vec<u8>) {
        let series = stream_series(self.machine);
        let oracle = locked(&world.oracle);
        let version_of = |name: &str| name.strip_prefix(&series)?.strip_prefix(" version ")?.parse::<u64>().ok();
        let versions = oracle.contents.iter().filter_map(|(name, content)| Some((version_of(name)?, content)));
        let (version, content) = match versions.max_by_key(|(version, _)| *version) {
            Some((version, last)) => (version + 1, folders::edited(last, &mut self.random)),
            None => (0, content(&mut self.random, 10, NEW_PIECES)),
        };
        (series.clone(), format!("{series} version {version}"), content)
    }

    fn back_up_folder(&mut self, world: &World, repository: &Repository) -> Result<()> {
        let made = world.folders.of(self.machine, &mut self.random);
        let (folder, name, content) = made.map_err(|error| Error::io("a folder of the simulation", error))?;
        locked(&world.oracle).contents.insert(name.clone(), content);
        let roots = Roots::resolve(&[folder.join(".")])?;
        let options = BackupOptions::new(folders::series(self.machine));
        let made = repository.backup(&roots, &SourceOptions::default(), &options, &Silent)?;
        if made.files_failed > 0 {
            world.find(format!("the backup of {name} could not read everything"));
        }
        self.succeeded(world, &made, &name);
        Ok(())
    }

    fn succeeded(&self, world: &World, made: &BackupSummary, content: &str) {
        world.deltas.fetch_add(u64::from(made.delta_bytes > 0), Ordering::Relaxed);
        match made.snapshot {
            Some(_) if world.store.is_dead(self.process) => {}
            Some(id) => locked(&world.oracle).acknowledge(id, content),
            None => world.find(format!("the backup of {content} reports success without a snapshot")),
        }
    }

    /// One that may be there. `forgets` it: then it may be gone from now on, for others.
    fn target(&mut self, world: &World, forgets: bool) -> Option<SnapshotId> {
        let oracle = &mut *locked(&world.oracle);
        let possible = oracle.possible();
        if possible.is_empty() {
            return None;
        }
        let id = possible[self.random.below(possible.len() as u64) as usize];
        let is_certain = oracle.is_certain(id);
        if forgets {
            oracle.doubt(id);
        }
        self.about = Some((id, is_certain.then(|| oracle.doubts(id))));
        Some(id)
    }

    fn restore(&mut self, world: &World, repository: &Repository) -> Result<End> {
        let Some(id) = self.target(world, false) else { return Ok(End::Nothing) };
        let content = restore(world, repository, id)?;
        let oracle = locked(&world.oracle);
        let (series, _) = &oracle.snapshots[&id];
        if oracle.contents.get(series) != Some(&content) {
            locked(&world.findings).push(Finding::loss(format!("restoring {id} of {series} reports success and gives other bytes")));
        }
        Ok(End::Done)
    }

    fn forget(&mut self, world: &World, repository: &Repository) -> Result<End> {
        let Some(id) = self.target(world, true) else { return Ok(End::Nothing) };
        let was_held = locked(&world.oracle).is_held(id);
        repository.forget(&[id], &Silent)?;
        if !world.store.is_dead(self.process) {
            if was_held {
                world.find(format!("snapshot {id} is held, and forgetting it reports success"));
            }
            locked(&world.oracle).forget(id);
        }
        Ok(End::Done)
    }

    fn hold(&mut self, world: &World, repository: &Repository) -> Result<End> {
        let Some(id) = self.target(world, false) else { return Ok(End::Nothing) };
        locked(&world.oracle).may_hold(id);
        repository.hold(&[id], "")?;
        if !world.store.is_dead(self.process) {
            locked(&world.oracle).hold(id);
        }
        Ok(End::Done)
    }

    fn tag(&mut self, world: &World, repository: &Repository) -> Result<End> {
        let Some(id) = self.target(world, true) else { return Ok(End::Nothing) };
        let was_held = locked(&world.oracle).is_held(id);
        let tag = format!("tag{}", self.random.below(3));
        let mut change = TagChange::default();
        change.add.push(tag);
        let made = repository.retag(&[id], &change, &Silent)?;
        if !world.store.is_dead(self.process) {
            let mut oracle = locked(&world.oracle);
            let series = oracle.snapshots[&id].0.clone();
            // Where it had the tag already others may have begun to forget it.
            for pair in made.into_iter().filter(|pair| pair.before != pair.after) {
                if was_held {
                    world.find(format!("snapshot {id} is held, and giving it other tags reports success"));
                }
                oracle.forget(pair.before);
                oracle.acknowledge(pair.after, &series);
            }
        }
        Ok(End::Done)
    }

    /// Nothing was damaged, so nothing may be found; what could not be read has to be said.
    fn report(&self, world: &World, report: &icecore::check::CheckReport) {
        // Who has the keys of before cannot read what was stored since.
        let has_suffered = world.store.has_suffered(self.process) || self.met_rotation(world);
        // A marker that met a hold stands until one of the two has removed it, or repair has.
        let is_right =
            |finding: &icecore::check::Finding| finding.rule == Some("HOLD-7") || has_suffered && finding.kind == ErrorKind::Unavailable;
        if let Some(finding) = report.findings.iter().find(|finding| !is_right(finding)) {
            world.find(format!("{:?} of process {} finds what is not so: {finding:?}", self.deed, self.process));
        }
        // What came since it began need not be looked at: what it holds may have been found elsewhere.
        if let Some(name) = world.store.unread(self.process, self.began)
            && report.findings.is_empty()
            && report.notices.is_empty()
            && !world.store.is_dead(self.process)
        {
            world.find(format!("{:?} of process {} could not read {name}, and says nothing", self.deed, self.process));
        }
    }
}

/// Restores the only file of a snapshot.
fn restore(world: &World, repository: &Repository, id: SnapshotId) -> Result<Vec<u8>> {
    restored(world, repository, &repository.find_snapshot(&id.to_string(), None, None)?)
}

pub(super) fn restored(world: &World, repository: &Repository, snapshot: &Snapshot) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    if snapshot.header.source_kind == SourceKind::Stream {
        repository.restore_to_writer(snapshot, None, &mut content, &Silent)?;
        return Ok(content);
    }
    let failed = |error| Error::io("a folder of the simulation", error);
    std::fs::create_dir_all(&world.cache).map_err(failed)?;
    let target = tempfile::tempdir_in(&world.cache).map_err(failed)?;
    let made = repository.restore(snapshot, target.path(), &RestoreOptions::default(), &Silent)?;
    match (made.damaged, made.items_failed) {
        (false, 0) => folders::read(target.path()).map_err(failed),
        (true, _) => Err(Error::new(ErrorKind::Damaged, "the repository is damaged")),
        (false, items) => Err(Error::new(ErrorKind::Unavailable, format!("{items} items were not restored"))),
    }
}

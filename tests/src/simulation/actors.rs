//! What processes do: each opens the repository as a program does, does one thing, and tells the oracle what it was told.

use super::folders::{self, Folders};
use super::oracle::Oracle;
use super::random::Random;
use super::store::{Fate, Store};
use super::turns::{MachineClock, Scheduler, Threads};
use icecore::backup::{BackupOptions, BackupSummary};
use icecore::crypto::Secret;
use icecore::format::Roles;
use icecore::format::snapshot::SourceKind;
use icecore::gc::GcOptions;
use icecore::id::SnapshotId;
use icecore::progress::Silent;
use icecore::repair::RepairOptions;
use icecore::repository::{Key, Repository, Settings, Snapshot};
use icecore::restore::RestoreOptions;
use icecore::retention::TagChange;
use icecore::runtime::{Runtime, SeededEntropy};
use icecore::source::{Roots, SourceOptions};
use icecore::{Error, ErrorKind, Result};
use std::collections::{BTreeMap, BTreeSet};
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
    pub findings: Mutex<Vec<String>>,
    /// Where processes keep what they know for the next one; by machine.
    pub cache: PathBuf,
    /// What machines back up.
    pub folders: Folders,
    /// Whether what was seen is remembered, and an older state noticed.
    pub has_sightings: bool,
    /// Whether keys were changed.
    pub has_rotated: Mutex<bool>,
    /// Snapshots that were there before.
    pub old: BTreeSet<SnapshotId>,
    /// Backups that compressed something against what it was.
    pub deltas: AtomicU64,
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

    /// Somebody who may do this.
    fn choose(deed: Deed, random: &mut Random) -> Self {
        let other = match deed {
            Deed::Backup => Self::Client,
            Deed::Collect | Deed::Forget | Deed::Hold => Self::Maintainer,
            Deed::Restore => Self::Reader,
            Deed::Check | Deed::Scrub if random.one_in(2) => Self::Reader,
            Deed::Check | Deed::Scrub => Self::Maintainer,
            Deed::Tag | Deed::Rotate | Deed::Repair => Self::Owner,
        };
        if random.one_in(3) { other } else { Self::Owner }
    }
}

/// The pieces that content is made of; most of a state is in others, too.
pub fn content(random: &mut Random, count: u64) -> Vec<u8> {
    let from = random.below(20);
    let mut content = Vec::new();
    for number in from..from + count {
        let number = if random.one_in(5) { random.next_number() } else { number };
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
        let ended = self.open(world).and_then(|repository| self.run(world, &repository));
        let end = match &ended {
            Ok(()) => End::Done,
            Err(error) => self.judge(world, error),
        };
        *locked(&world.ends).entry((self.deed, end)).or_default() += 1;
        world.store.ended(self.process);
    }

    fn open(&mut self, world: &World) -> Result<Repository> {
        let is_collector = self.deed == Deed::Collect;
        let holder = Holder::choose(self.deed, &mut self.random);
        *locked(&world.holders).entry((self.deed, holder)).or_default() += 1;
        let runtime = runtime(world, self.process, &mut self.random);
        let backend = world.store.reach(self.process, self.fate.clone(), is_collector, Arc::clone(&runtime.clock));
        // Without what it saw before a collector gives nobody of other machines up; others may keep a cache or not.
        let has_cache = is_collector || self.random.one_in(2);
        Repository::open(backend, runtime, &holder.key(), settings(world, has_cache, self.machine, self.process))
    }

    /// Whether this error may be.
    fn judge(&self, world: &World, error: &Error) -> End {
        let has_suffered = world.store.has_suffered(self.process);
        let (end, is_right) = match error.kind() {
            ErrorKind::Busy => (End::Refused, true),
            ErrorKind::NotFound => (End::Refused, matches!(self.deed, Deed::Restore | Deed::Forget | Deed::Hold | Deed::Tag)),
            ErrorKind::Held => {
                (End::Refused, matches!(self.deed, Deed::Forget | Deed::Tag) && !locked(&world.oracle).maybe_held.is_empty())
            }
            ErrorKind::Unauthorized => (End::Refused, *locked(&world.has_rotated)),
            ErrorKind::Unavailable => (End::Failed, has_suffered),
            // It stood still for longer than a lease: what it read may have been swept. A restore goes on past what cannot be read, and names it.
            ErrorKind::Damaged => (End::Failed, world.store.was_given_up(self.process) || (self.deed == Deed::Restore && has_suffered)),
            _ => (End::Failed, false),
        };
        if !is_right && !world.store.is_dead(self.process) {
            let text = format!("{:?} of process {} fails without a reason: {:?}: {error}", self.deed, self.process, error.kind());
            locked(&world.findings).push(text);
        }
        end
    }

    fn run(&mut self, world: &World, repository: &Repository) -> Result<()> {
        match self.deed {
            Deed::Backup => self.back_up(world, repository),
            Deed::Collect => self.collect(repository),
            Deed::Restore => self.restore(world, repository),
            Deed::Forget => self.forget(world, repository),
            Deed::Hold => self.hold(world, repository),
            Deed::Tag => self.tag(world, repository),
            Deed::Check => self.report(world, &repository.check(&Silent)?),
            Deed::Scrub => self.report(world, &repository.scrub(&Silent)?),
            Deed::Rotate => {
                *locked(&world.has_rotated) = true;
                repository.rotate(&repository.plan_rotation(None)?)
            }
            Deed::Repair => repository.repair(&RepairOptions::default(), &Silent).map(drop),
        }
    }

    fn collect(&mut self, repository: &Repository) -> Result<()> {
        let mut options = GcOptions::default();
        options.dead_percent_max = self.random.below(30) as u8;
        repository.gc(&options, &Silent).map(drop)
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
        let count = 6 + self.random.below(8);
        let series = format!("series {}", self.random.next_number());
        (series.clone(), series, content(&mut self.random, count))
    }

    /// The same of what the machine has stored before and what changed a little since, so that it is compressed against that.
    fn next_stream(&mut self, world: &World) -> (String, String, Vec<u8>) {
        let series = stream_series(self.machine);
        let oracle = locked(&world.oracle);
        let version_of = |name: &str| name.strip_prefix(&series)?.strip_prefix(" version ")?.parse::<u64>().ok();
        let versions = oracle.contents.iter().filter_map(|(name, content)| Some((version_of(name)?, content)));
        let (version, content) = match versions.max_by_key(|(version, _)| *version) {
            Some((version, last)) => (version + 1, folders::edited(last, &mut self.random)),
            None => (0, content(&mut self.random, 10)),
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
            locked(&world.findings).push(format!("the backup of {name} could not read everything"));
        }
        self.succeeded(world, &made, &name);
        Ok(())
    }

    fn succeeded(&self, world: &World, made: &BackupSummary, content: &str) {
        world.deltas.fetch_add(u64::from(made.delta_bytes > 0), Ordering::Relaxed);
        match made.snapshot {
            Some(_) if world.store.is_dead(self.process) => {}
            Some(id) => locked(&world.oracle).acknowledge(id, content),
            None => locked(&world.findings).push(format!("the backup of {content} reports success without a snapshot")),
        }
    }

    /// One that may be there, those that have to be more often.
    fn target(&mut self, world: &World) -> Option<SnapshotId> {
        let possible = locked(&world.oracle).possible();
        (!possible.is_empty()).then(|| possible[self.random.below(possible.len() as u64) as usize])
    }

    fn restore(&mut self, world: &World, repository: &Repository) -> Result<()> {
        let Some(id) = self.target(world) else { return Ok(()) };
        let certainty = locked(&world.oracle).certainty(id);
        let result = restore(world, repository, id);
        let oracle = locked(&world.oracle);
        let (series, _) = &oracle.snapshots[&id];
        match result {
            Ok(content) if oracle.contents.get(series) == Some(&content) => Ok(()),
            Ok(_) => {
                locked(&world.findings).push(format!("restoring {id} of {series} reports success and gives other bytes"));
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::NotFound && certainty.is_some() && certainty == oracle.certainty(id) => {
                locked(&world.findings).push(format!("restoring {id} of {series}, which is acknowledged: {error}"));
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    fn forget(&mut self, world: &World, repository: &Repository) -> Result<()> {
        let Some(id) = self.target(world) else { return Ok(()) };
        locked(&world.oracle).doubt(id);
        repository.forget(&[id], &Silent)?;
        if !world.store.is_dead(self.process) {
            locked(&world.oracle).forget(id);
        }
        Ok(())
    }

    fn hold(&mut self, world: &World, repository: &Repository) -> Result<()> {
        let Some(id) = self.target(world) else { return Ok(()) };
        locked(&world.oracle).may_hold(id);
        repository.hold(&[id], "")?;
        if !world.store.is_dead(self.process) {
            locked(&world.oracle).hold(id);
        }
        Ok(())
    }

    fn tag(&mut self, world: &World, repository: &Repository) -> Result<()> {
        let Some(id) = self.target(world) else { return Ok(()) };
        locked(&world.oracle).doubt(id);
        let tag = format!("tag{}", self.random.below(3));
        let mut change = TagChange::default();
        change.add.push(tag);
        let made = repository.retag(&[id], &change, &Silent)?;
        if !world.store.is_dead(self.process) {
            let mut oracle = locked(&world.oracle);
            let series = oracle.snapshots[&id].0.clone();
            for pair in made {
                match pair.before == pair.after {
                    // It had the tag already; others may have begun to forget it.
                    true => {}
                    false => {
                        oracle.forget(pair.before);
                        oracle.acknowledge(pair.after, &series);
                    }
                }
            }
        }
        Ok(())
    }

    /// Nothing was damaged, so nothing may be found; what could not be read may be said.
    fn report(&self, world: &World, report: &icecore::check::CheckReport) -> Result<()> {
        let has_suffered = world.store.has_suffered(self.process);
        // A marker that met a hold stands until one of the two has removed it, or repair has.
        let is_held = |finding: &&icecore::check::Finding| finding.rule == Some("HOLD-7");
        let findings = report.findings.iter().filter(|finding| !is_held(finding));
        let wrong = findings.into_iter().find(|finding| !(has_suffered && finding.kind == ErrorKind::Unavailable));
        if let Some(finding) = wrong
            && !has_suffered
        {
            locked(&world.findings).push(format!("{:?} finds what is not so: {finding:?}", self.deed));
        }
        Ok(())
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

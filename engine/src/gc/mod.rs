//! Garbage collection: space comes back beside running backups and restores, and no clock is trusted.
//!
//! ```text
//! session ─▶ epochs ─▶ packs, then sessions, then snapshots ─▶ mark ─▶ plan ─▶ copies and new frames, durable and read back ─▶ relocations
//!    ─▶ epoch (create-if-absent): condemned for ever ─▶ gate ─▶ snapshots again ─▶ rescue by copy ─▶ delete ─▶ clean up
//! ```
//! Who may rely on what:
//! - A writer that began in the newest epoch uses no condemned pack. Who began earlier may, so nothing is deleted before all sessions older than the
//!   condemning epoch are closed, or dead and given up by a tombstone (the gate). A writer that finds its tombstone, or its session gone, withdraws.
//! - What such a session published is seen after the gate, because snapshots are listed again, and what it needs is copied.
//! - Decisions are taken one after the other: an epoch that another collector published first makes this one start over.
//! - Condemned is for ever, so any collector may finish the sweep of any epoch, or stop anywhere.
//!
//! Nobody waits: where the gate is closed, the sweep is left to a later run, and the summary names who is waited for. Damage comes first: while a
//! snapshot that counts cannot be read or lacks frames, nothing is condemned or deleted, since what is lost now might be found in what would go.
//! Only the role maintain is needed; neither names nor content are seen. With the role restore as well, frames of which little is needed are re-made.

mod epochs;
mod mark;
mod observations;
mod parts;
mod plan;
mod reframe;
mod repack;
mod sessions;
mod settle;
mod snapshots;
mod sweep;
#[cfg(test)]
pub(crate) mod tests;

pub use plan::{GcPlan, PackGroup, Remake};
pub use sessions::OpenSession;
pub(crate) use snapshots::Snapshots;

pub(crate) use epochs::{Epochs, Pack};
pub(crate) use mark::Mark;
pub(crate) use repack::Copier;
pub(crate) use settle::remove_own;
pub(crate) use sweep::{INDEXED_PACKS_MIN, delete, refresh_index_objects, write as write_index_objects};

use crate::backend::{BackendExt, ObjectInfo, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::parity::sidecar_of;
use crate::format::session::SessionKind;
use crate::id::{DomainId, SessionId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::{Repository, Session};
use observations::Observations;
use reframe::Reframer;
use sessions::Sessions;
use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

/// How often a collector starts over because another one was faster.
const STARTS_MAX: u32 = 4;
/// What a client left unfinished for so long it does not go on with: whoever writes sends something every few minutes.
const UNFINISHED_AGE: Duration = Duration::from_secs(86_400);
/// A dedup domain that no writer has.
const NO_DOMAIN: DomainId = DomainId([0xff; 16]);

/// How garbage is collected.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GcOptions {
    /// Packs are repacked until the frames that nobody needs, in packs that hold others that are needed, are at most this share of the
    /// bytes that are needed, in percent. With the role restore the unneeded part of frames of which less than three quarters are needed counts likewise, and
    /// such frames are re-made. Less frees more and copies more.
    pub dead_percent_max: u8,
}

impl Default for GcOptions {
    fn default() -> Self {
        Self { dead_percent_max: 10 }
    }
}

/// What a garbage collection did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct GcSummary {
    /// What it had planned.
    pub plan: GcPlan,
    /// The epoch that it published; `None` where there was nothing to condemn.
    pub epoch: Option<u32>,
    /// Packs that this epoch condemns.
    pub condemned: PackGroup,
    /// Packs that were written with copies and new frames.
    pub written: PackGroup,
    /// Bytes of frames that were copied.
    pub bytes_copied: u64,
    /// Frames that were re-made.
    pub frames_remade: u64,
    /// Bytes of the new frames that hold what was needed of them.
    pub bytes_remade: u64,
    /// Packs that were deleted.
    pub deleted: PackGroup,
    /// Condemned packs that are left for a later run.
    pub left: PackGroup,
    /// Sessions that are waited for; empty where the sweep was done.
    pub waits_for: Vec<OpenSession>,
    /// Dead sessions that were given up.
    pub sessions_given_up: Vec<SessionId>,
    /// Snapshots of dead sessions that were found to be whole and count from now on.
    pub snapshots_settled: Vec<SnapshotId>,
    /// Snapshots of dead sessions that lack frames and were withdrawn.
    pub snapshots_withdrawn: Vec<SnapshotId>,
    /// Packs, standing or condemned, that hold something needed which could not be read for damage: they stay, and `repair` tells more. With what [`GcPlan::unreadable`]
    /// names this is what a collection found damaged; nothing of it was deleted.
    pub damaged: BTreeSet<ObjectName>,
    /// Other objects that were removed: of sessions that have ended, of snapshots that were withdrawn, index objects that were replaced, relocations
    /// that nobody needs, locks that have been over for a month.
    pub objects_removed: u64,
    /// How long it took, in nanoseconds of the caller's monotonic clock.
    pub duration_ns: u64,
}

impl Repository {
    /// Collects garbage.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the role maintain, [`ErrorKind::Damaged`] where a snapshot that counts cannot be read or lacks frames
    /// (nothing was condemned then), [`ErrorKind::Busy`] where other collectors keep being faster, [`ErrorKind::Cancelled`] when `progress` says so,
    /// otherwise what the backend says. After any of them the repository is whole, and the next run goes on.
    pub fn gc(&self, options: &GcOptions, progress: &dyn Progress) -> Result<GcSummary> {
        self.require(Roles::MAINTAIN, "garbage collection")?;
        self.require_writable()?;
        self.require_newest_config()?;
        let began_ns = self.runtime.clock.monotonic_ns();
        let mut has_looked_again = false;
        for _ in 0..STARTS_MAX {
            let session = Session::begin(self, SessionKind::Collector)?;
            let own = session.id();
            let run = Run {
                repository: self,
                options,
                progress,
                own: Some(own),
                observations: Observations::load(self),
                summary: GcSummary::default(),
            };
            let result = run.collect(&session).map_err(|error| session.explain(error));
            let closed = session.close(matches!(result, Ok(Some(_))), Vec::new());
            match result {
                Ok(Some(mut summary)) => {
                    closed?;
                    remove_own(self, own)?;
                    // Not the round's: what clients left that were killed.
                    self.backend.clear_unfinished(UNFINISHED_AGE);
                    summary.duration_ns = self.runtime.clock.monotonic_ns().saturating_sub(began_ns);
                    return Ok(summary);
                }
                Ok(None) => {}
                // Another collector may have moved what was missed.
                Err(error) if error.kind() == ErrorKind::Damaged && !std::mem::replace(&mut has_looked_again, true) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::Busy, "other collectors keep beginning rounds of garbage collection; one of them does the work"))
    }

    /// What [`Repository::gc`] would do now. Writes nothing to the repository.
    ///
    /// # Errors
    /// As [`Repository::gc`].
    pub fn gc_plan(&self, options: &GcOptions, progress: &dyn Progress) -> Result<GcPlan> {
        self.require(Roles::MAINTAIN, "planning garbage collection")?;
        let observations = Observations::load(self);
        let mut run = Run { repository: self, options, progress, own: None, observations, summary: GcSummary::default() };
        let epochs = Epochs::read(self)?;
        let (_, dead) = Sessions::observe(self, None, &mut run.observations)?;
        run.observations.save();
        Ok(run.plan(&epochs, &dead)?.plan)
    }

    /// The sessions that are at work, or look as if they were, by name. Those that are known to be dead are left out.
    ///
    /// # Errors
    /// As [`Repository::gc`].
    pub fn open_sessions(&self) -> Result<Vec<OpenSession>> {
        self.require(Roles::MAINTAIN, "looking at sessions")?;
        let mut observations = Observations::load(self);
        let (sessions, dead) = Sessions::observe(self, None, &mut observations)?;
        observations.save();
        Ok(sessions.open.into_iter().filter(|open| !dead.contains(&open.session)).collect())
    }
}

/// One run.
struct Run<'a> {
    repository: &'a Repository,
    options: &'a GcOptions,
    progress: &'a dyn Progress,
    own: Option<SessionId>,
    observations: Observations,
    summary: GcSummary,
}

/// What marking and planning found.
struct Planned<'a> {
    mark: Mark<'a>,
    snapshots: Snapshots,
    plan: GcPlan,
    /// Packs as they were listed before sessions and snapshots.
    listed: Vec<ObjectInfo>,
    /// Relocations that nobody needs.
    relocations_over: Vec<ObjectName>,
}

impl Planned<'_> {
    /// Removes relocations that nobody needs and that were `there` before packs were listed. Their frames were in no pack by then, so whoever
    /// could have named them had ended, and what he published was marked.
    fn remove_relocations(&self, repository: &Repository, there: &[ObjectInfo], summary: &mut GcSummary) -> Result<()> {
        let still_over = self.mark.relocations_over(&self.listed)?;
        for name in self.relocations_over.iter().filter(|name| still_over.contains(name)) {
            if there.iter().any(|object| object.name == *name) {
                summary.objects_removed += u64::from(sweep::delete(repository, name)?);
            }
        }
        Ok(())
    }
}

impl<'a> Run<'a> {
    /// All of it; `None` where another collector published an epoch first.
    fn collect(mut self, session: &Session<'_>) -> Result<Option<GcSummary>> {
        let (repository, own) = (self.repository, session.id());
        let mut epochs = Epochs::read(repository)?;
        // `OthersDurable`: what an epoch condemns is about to be swept.
        if epochs.newest > 0 {
            repository.backend.make_durable(&[ObjectName::epoch(epochs.newest)])?;
        }
        if !self.give_up_dead(own, &mut epochs)? {
            return Ok(None);
        }
        let markers = settle::Markers::list(repository)?;
        let relocations = repository.backend.list_sorted(ObjectKind::Relocation)?;
        let mut planned = self.plan(&epochs, &BTreeSet::new())?;
        // `OthersDurable`: what nothing but these need is about to go.
        repository.backend.make_durable(&planned.snapshots.markers())?;
        if repository.newest_epoch()? != epochs.newest {
            // What was found to stand may be condemned by now.
            return Ok(None);
        }
        let mut copier = Copier::new(repository, self.progress);
        let (condemned, mut unsaved) = match self.copy(&planned, &mut copier, session) {
            Err(error) if error.is_full() => {
                copier = Copier::new(repository, self.progress);
                self.without_copies(&planned, &error)
            }
            copied => copied?,
        };
        // Who began before a withdrawal may still read its snapshot: an epoch, even an empty one, tells those from the ones that begin now.
        let begins_round = markers.all().any(|snapshot| !epochs.name_withdrawn(&snapshot, epochs.newest));
        if begins_round || !condemned.is_empty() {
            self.summary.condemned = condemned_sizes(&planned.plan, &condemned);
            if !epochs.publish(repository, own, condemned.into_iter().collect(), markers.all())? {
                return Ok(None);
            }
            self.summary.epoch = Some(epochs.newest);
        }
        let gate = self.pass_gate(&epochs)?;
        let spared = self.spare(&mut planned, &gate)?;
        unsaved.extend(self.rescue_new(&mut planned, &epochs, &mut copier)?);
        self.sweep(&epochs, &gate, &unsaved.union(&spared).copied().collect())?;
        self.summary.bytes_copied = copier.bytes_copied;
        copier.written.iter().for_each(|(_, size)| self.summary.written.add(*size));
        let copies: Vec<Pack> = copier.written.iter().map(|(pack, _)| *pack).collect();
        self.summary.objects_removed += refresh_index_objects(repository, &copies, &BTreeSet::new())?;
        self.settle(&planned.snapshots, &epochs, unsaved.is_empty())?;
        // Who is not open any more, and who begins now and looks for the marker, relies on nothing that was withdrawn.
        let swept = if gate.open.is_empty() { u32::MAX } else { swept_up_to(&epochs, &gate) };
        self.summary.objects_removed += settle::clean_up(repository, own, &epochs, &markers, swept)?;
        self.summary.objects_removed += settle::remove_locks(repository)?;
        planned.remove_relocations(repository, &relocations, &mut self.summary)?;
        self.observations.save();
        self.summary.plan = planned.plan;
        Ok(Some(self.summary))
    }

    /// Gives up sessions that are dead by now; false where another collector published an epoch first.
    fn give_up_dead(&mut self, own: SessionId, epochs: &mut Epochs) -> Result<bool> {
        let (mut sessions, dead) = Sessions::observe(self.repository, Some(own), &mut self.observations)?;
        // Kept at once: a run that is interrupted has seen what it saw.
        self.observations.save();
        let begins_round = sessions.open.iter().any(|open| dead.contains(&open.session) && open.epoch >= epochs.newest);
        if begins_round && !epochs.publish(self.repository, own, Vec::new(), std::iter::empty())? {
            return Ok(false);
        }
        sessions.give_up(self.repository, &dead, epochs.newest)?;
        self.summary.sessions_given_up.extend(dead);
        Ok(true)
    }

    /// Lists packs, then sessions, then snapshots; marks; chooses. `dead` sessions count as if they had been given up.
    fn plan(&mut self, epochs: &Epochs, dead: &BTreeSet<SessionId>) -> Result<Planned<'a>> {
        let repository = self.repository;
        self.progress.event(Event::Phase { name: "mark", bytes_total: None, items_total: None });
        let listed = repository.list_packs()?;
        let mut mark = Mark::new(repository, epochs, self.progress)?;
        let mut sessions = Sessions::list(repository, self.own)?;
        sessions.open.retain(|open| !dead.contains(&open.session));
        let mut snapshots = Snapshots::list(repository, self.progress)?;
        mark.take_late(epochs)?;
        snapshots.mark(&mut mark, self.progress)?;
        for snapshot in &snapshots.withdrawn {
            mark.keep_relocations_of(&snapshot.header)?;
        }
        let mut plan = GcPlan::choose(repository, self.options, &listed, epochs, &sessions, &mark)?;
        plan.bytes_to_copy += mark.rescue_bytes()?;
        plan.snapshots = snapshots.kept.len() as u64;
        plan.snapshots_suspect = snapshots.kept.iter().filter(|snapshot| !snapshot.is_closed).count() as u64;
        plan.unsettled = snapshots.unsettled(&sessions).map(|snapshot| snapshot.id).collect();
        let epoch_last = if plan.condemn.is_empty() { epochs.newest } else { epochs.newest.saturating_add(1) };
        plan.waits_for = sessions.open.iter().filter(|open| open.epoch < epoch_last).cloned().collect();
        for name in &plan.unreadable {
            self.progress.event(Event::Notice { message: &format!("{name} cannot be read and is left alone; run check") });
        }
        let relocations_over = mark.relocations_over(&listed)?;
        Ok(Planned { mark, snapshots, plan, listed, relocations_over })
    }

    /// Copies or re-makes what is needed of the packs that are to be condemned, and copies what is needed of those that are. Gives the packs that may
    /// be condemned, and the doomed ones that hold something that could not be copied.
    fn copy(&mut self, planned: &Planned<'_>, copier: &mut Copier<'_>, session: &Session<'_>) -> Result<(HashSet<Pack>, HashSet<Pack>)> {
        let (plan, mark) = (&planned.plan, &planned.mark);
        let bytes = plan.bytes_to_copy + plan.remake.bytes;
        self.progress.event(Event::Phase { name: "copy", bytes_total: Some(bytes), items_total: None });
        let mut reframer = match plan.remake.frames {
            0 => None,
            _ => Some(Reframer::new(self.repository, mark, session)?),
        };
        let unsaved = self.rescue(mark, copier)?;
        let mut condemned = HashSet::new();
        for candidate in &plan.condemn {
            if !candidate.needs_copy || copier.copy_marked(candidate, mark, reframer.as_mut())? {
                condemned.insert(candidate.pack);
            } else {
                self.say_unsaved(&candidate.pack);
            }
        }
        if let Some(reframer) = &mut reframer {
            reframer.finish(copier)?;
        }
        copier.finish()?;
        if let Some(reframer) = reframer {
            // New frames are sealed for the restore key that was in force.
            self.repository.require_newest_config()?;
            self.summary.bytes_remade = reframer.bytes_written;
            self.summary.frames_remade = reframer.publish()?;
        }
        Ok((condemned, unsaved))
    }

    /// What can go without anything being copied: a full file system is to be freed first. Gives what [`Run::copy`] gives.
    fn without_copies(&self, planned: &Planned<'_>, error: &Error) -> (HashSet<Pack>, HashSet<Pack>) {
        let message =
            format!("nothing was copied this time, so only what is wholly garbage goes; run garbage collection again afterwards ({error})");
        self.progress.event(Event::Notice { message: &message });
        let condemned = planned.plan.condemn.iter().filter(|candidate| !candidate.needs_copy).map(|candidate| candidate.pack);
        (condemned.collect(), planned.mark.rescue().keys().copied().collect())
    }

    /// Copies marked frames that stand in doomed packs only; gives the packs from which that was not possible.
    fn rescue(&mut self, mark: &Mark<'_>, copier: &mut Copier<'_>) -> Result<HashSet<Pack>> {
        let mut unsaved = HashSet::new();
        for (pack, frames) in mark.rescue() {
            if !copier.copy_these(*pack, frames)? {
                self.say_unsaved(pack);
                unsaved.insert(*pack);
            }
        }
        copier.finish()?;
        Ok(unsaved)
    }

    fn say_unsaved(&mut self, (kind, pack): &Pack) {
        let name = ObjectName::pack(*kind, *pack);
        let is_cold = *kind == ObjectKind::DataPack && self.repository.tiers.is_cold(*pack);
        let message = match is_cold {
            true => format!("{name} lies cold and cannot be read now; what is needed of it stays there"),
            false => format!("{name} holds frames that are needed and cannot be copied; it stays; see `icecore repair`"),
        };
        self.progress.event(Event::Notice { message: &message });
        if !is_cold {
            self.summary.damaged.insert(name);
        }
    }

    /// Gives up older sessions that are dead and notes for whom the sweep has to wait.
    fn pass_gate(&mut self, epochs: &Epochs) -> Result<Sessions> {
        let (mut sessions, mut dead) = Sessions::observe(self.repository, self.own, &mut self.observations)?;
        let young = |sessions: &Sessions, id| sessions.open.iter().any(|open| open.session == id && open.epoch >= epochs.newest);
        dead.retain(|id| !young(&sessions, *id));
        sessions.give_up(self.repository, &dead, epochs.newest)?;
        // `OthersDurable`: a writer that outlives the power of the store finds its tombstone.
        let tombstones: Vec<_> = sessions.tombstoned.iter().map(|id| ObjectName::tombstone(*id)).collect();
        self.repository.backend.make_durable(&tombstones)?;
        self.summary.sessions_given_up.extend(dead);
        Ok(sessions)
    }

    /// Doomed packs that a withdrawn snapshot needs, which somebody may be reading who began before it was withdrawn.
    fn spare(&self, planned: &mut Planned<'a>, gate: &Sessions) -> Result<HashSet<Pack>> {
        let mut spared = HashSet::new();
        if !gate.open.is_empty() {
            for snapshot in &planned.snapshots.withdrawn {
                spared.extend(planned.mark.doomed_packs_of(&snapshot.header)?);
            }
        }
        Ok(spared)
    }

    /// After the gate: lists snapshots again and copies what the new ones need out of doomed packs.
    fn rescue_new(&mut self, planned: &mut Planned<'a>, epochs: &Epochs, copier: &mut Copier<'_>) -> Result<HashSet<Pack>> {
        let mut fresh = Snapshots::list(self.repository, self.progress)?.since(&planned.snapshots);
        if fresh.kept.is_empty() {
            return Ok(HashSet::new());
        }
        planned.mark.look_again(epochs)?;
        fresh.mark(&mut planned.mark, self.progress)?;
        self.rescue(&planned.mark, copier)
    }

    /// Deletes what epochs condemn whose gate is open.
    fn sweep(&mut self, epochs: &Epochs, gate: &Sessions, unsaved: &HashSet<Pack>) -> Result<()> {
        let (mut sweepable, mut gone) = (Vec::new(), HashSet::new());
        let mut newest_left = 0;
        for object in self.repository.list_packs()? {
            let pack = (object.name.kind(), crate::id::PackId(object.name.id()));
            let Some(epoch) = epochs.condemned.get(&pack) else { continue };
            if gate.is_gate_open(*epoch) && !unsaved.contains(&pack) {
                sweepable.push(object);
            } else {
                self.summary.left.add(object.size);
                newest_left = newest_left.max(*epoch);
            }
        }
        self.summary.waits_for = gate.open.iter().filter(|open| open.epoch < newest_left).cloned().collect();
        if !sweepable.is_empty() {
            self.repository.renew_deadlines(self.progress)?;
        }
        let bytes = sweepable.iter().map(|object| object.size).sum();
        self.progress.event(Event::Phase { name: "sweep", bytes_total: Some(bytes), items_total: Some(sweepable.len() as u64) });
        for object in sweepable {
            if self.progress.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "garbage collection was stopped; the next run goes on"));
            }
            match delete(self.repository, &object.name) {
                Ok(is_deleted) => {
                    if is_deleted {
                        self.summary.deleted.add(object.size);
                    }
                    gone.extend(object.name.pack_id());
                }
                // Its medium is not there; it goes when that is.
                Err(error) if error.kind() == ErrorKind::Frozen => {
                    self.progress.event(Event::Notice { message: &format!("{} stays for now: {error}", object.name) });
                    self.summary.left.add(object.size);
                }
                Err(error) => return Err(error),
            }
            self.progress.event(Event::Advance { bytes: object.size, items: 1 });
        }
        self.summary.objects_removed += self.repository.forget_places(|_, pack| gone.contains(&pack))?;
        self.sweep_sidecars(epochs, gate)
    }

    /// Deletes the sidecars of condemned packs that are gone: those were lost, and nobody shall bring them back.
    fn sweep_sidecars(&mut self, epochs: &Epochs, gate: &Sessions) -> Result<()> {
        let backend = &self.repository.backend;
        let sidecars: HashSet<_> = backend.list_sorted(ObjectKind::Parity)?.into_iter().map(|object| object.name).collect();
        for ((kind, pack), _) in epochs.condemned.iter().filter(|(_, epoch)| gate.is_gate_open(**epoch)) {
            let (name, sidecar) = (ObjectName::pack(*kind, *pack), sidecar_of(&ObjectName::pack(*kind, *pack)));
            if sidecars.contains(&sidecar) && !self.repository.has(&name)? {
                self.summary.objects_removed += u64::from(delete(self.repository, &sidecar)?);
            }
        }
        Ok(())
    }

    /// Decides about snapshots of dead sessions. With `all_saved` all that the whole ones need stands in packs that nobody condemned. Where
    /// another collector condemned more meanwhile, nobody knows (`SettleByNewEpochs`), and a later run decides.
    fn settle(&mut self, snapshots: &Snapshots, epochs: &Epochs, all_saved: bool) -> Result<()> {
        if self.repository.newest_epoch()? != epochs.newest {
            return Ok(());
        }
        let sessions = Sessions::list(self.repository, self.own)?;
        let settled = settle::settle(self.repository, snapshots.unsettled(&sessions), all_saved)?;
        self.summary.snapshots_settled = settled.closed;
        self.summary.snapshots_withdrawn = settled.withdrawn;
        Ok(())
    }
}

/// Sizes of the packs that are condemned, of those that were planned.
fn condemned_sizes(plan: &GcPlan, condemned: &HashSet<Pack>) -> PackGroup {
    let mut sizes = PackGroup::default();
    plan.condemn.iter().filter(|candidate| condemned.contains(&candidate.pack)).for_each(|candidate| sizes.add(candidate.size));
    sizes
}

/// The newest epoch whose gate is open, 0 for none.
fn swept_up_to(epochs: &Epochs, gate: &Sessions) -> u32 {
    gate.open.iter().map(|open| open.epoch).fold(epochs.newest, u32::min)
}

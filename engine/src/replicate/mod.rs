//! Replicate: snapshots also stand in another repository.
//!
//! ```text
//! session in each ─▶ snapshots of both, then packs of both ─▶ mark at the source what the snapshots need
//!     ─▶ frames that stand in no pack of the target: copied, sealed as they are, checked against their hashes, durable
//!     ─▶ index objects ─▶ relocations ─▶ look for the own tombstone ─▶ snapshots ─▶ holds ─▶ look again ─▶ `closed/` of their sessions
//!     ─▶ session objects
//! ```
//! - Between replicas, which have the same id and keys, nothing is opened and nothing is sealed anew but the tables of the packs that hold the copies.
//! - What the target has does not travel: frames are looked for by their identity, which is the same everywhere. So a run that was stopped goes on
//!   with the packs that arrived, and a second one after the first does nothing.
//! - At the target this is a writer like any other (I2, I3, I6, I9): it relies on no condemned pack, garbage collection waits for its session, and a
//!   snapshot is published after all that it needs. At the source it is a reader.
//! - Neither takes anything away. What was forgotten at the source stays at the target; what was forgotten at the target does not come back.
//! - Damage does not spread: a frame without its hash is not copied, its pack is named, and snapshots that need it are not published.
//! - A repository with other keys gets the content instead, cut and sealed with its own (see `reseal`).
//! - The other way round it heals: what a repository lost comes back from its replica ([`Repository::bring_back`]).

mod also;
mod copies;
mod memo;
mod plan;
mod publish;
mod reseal;
#[cfg(test)]
mod tests;

use crate::backend::ObjectName;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::session::SessionKind;
use crate::gc::{Pack, PackGroup, refresh_index_objects, remove_own};
use crate::id::{PackId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::{Repository, Session, SnapshotState};
use copies::Way;
use plan::{ENDED_WITHOUT, Plan};
use publish::Publisher;
use std::collections::{BTreeSet, HashSet};

/// What is replicated.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ReplicateOptions {
    /// Which snapshots; `None` for all that count. Those that the same session published go along.
    pub snapshots: Option<Vec<SnapshotId>>,
    /// Only looks what would be done, and writes nothing.
    pub dry_run: bool,
    /// What the target has in condemned packs or these only is brought all the same: they are damaged.
    distrusted: Option<HashSet<Pack>>,
}

impl ReplicateOptions {
    /// These snapshots only.
    #[must_use]
    pub fn of(snapshots: Vec<SnapshotId>) -> Self {
        Self { snapshots: Some(snapshots), ..Self::default() }
    }
}

/// What was replicated, or would be.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ReplicateSummary {
    /// Snapshots that the target has since, oldest first.
    pub snapshots: Vec<SnapshotId>,
    /// Snapshots that it had.
    pub snapshots_present: u64,
    /// Snapshots that were forgotten at the target, and so were left out.
    pub snapshots_forgotten: Vec<SnapshotId>,
    /// Snapshots that could not be copied, and why.
    pub snapshots_damaged: Vec<(SnapshotId, String)>,
    /// Packs of the source of which something could not be read.
    pub packs_damaged: Vec<ObjectName>,
    /// What is wrong at the source with other objects, by which something may have been left out: holds, ends of sessions whose snapshots are not known; or
    /// that the source is in an older state than was seen before.
    pub problems: Vec<String>,
    /// Content was stored anew, because the target has keys of its own.
    pub resealed: bool,
    /// Frames that the target lacks; 0 where content is stored anew.
    pub frames_planned: u64,
    /// Bytes of these frames. Where content is stored anew: bytes of content that were read for it, in a dry run at most that many.
    pub bytes_planned: u64,
    /// Bytes of everything that was written to the target.
    pub bytes_sent: u64,
    /// Packs that were written.
    pub written: PackGroup,
    /// How long it took, in nanoseconds of the caller's monotonic clock.
    pub duration_ns: u64,
}

impl ReplicateSummary {
    /// Whether something of what was asked for is damaged, or may have been left out.
    pub fn has_damage(&self) -> bool {
        !self.snapshots_damaged.is_empty() || !self.packs_damaged.is_empty() || !self.problems.is_empty()
    }
}

impl Repository {
    /// Copies snapshots to `target`: a replica of this repository (see [`Repository::make_replica`]), where frames are copied as they are sealed, or a
    /// repository with keys of its own, where their content is stored anew.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for a snapshot that does not count,
    /// [`ErrorKind::Unauthorized`] where `target` was not opened for maintain (or for backup, which may bring what it has sealed itself); with other keys,
    /// where this one was not opened for restore and `target` for backup;
    /// [`ErrorKind::Busy`] where garbage collection gave this session up or keys were changed meanwhile, [`ErrorKind::Cancelled`] when `progress` says
    /// so, otherwise what the backends say. After any of them both repositories are whole, and the next run goes on. Damage at the source is no
    /// error; the summary names it.
    pub fn replicate(&self, target: &Self, options: &ReplicateOptions, progress: &dyn Progress) -> Result<ReplicateSummary> {
        let began_ns = self.runtime.clock.monotonic_ns();
        let mut summary = match options.dry_run {
            _ if self.id != target.id => reseal::replicate(self, target, options, progress)?,
            true => summarize(&Plan::make(self, target, options, progress)?),
            false => self.replicate_in_sessions(target, options, progress)?,
        };
        summary.duration_ns = self.runtime.clock.monotonic_ns().saturating_sub(began_ns);
        Ok(summary)
    }

    /// Brings back from `replica` what this repository lacks of its snapshots, be they damaged, here or gone without having been forgotten: their
    /// objects and their frames, also those that stand here only in packs that are condemned, or that are `damaged` as [`Repository::repair`] found.
    /// Repair comes first: it condemns damaged packs.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where `replica` is none, otherwise as [`Repository::replicate`].
    pub fn bring_back(&self, replica: &Self, damaged: &[ObjectName], dry_run: bool, progress: &dyn Progress) -> Result<ReplicateSummary> {
        if self.id != replica.id {
            let message = format!("{} is no replica of {}: it has keys of its own", replica.describe(), self.describe());
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let own = self.list_snapshots()?;
        let mut lost: BTreeSet<_> = own.missing().into_iter().collect();
        lost.extend(own.snapshots.iter().filter(|id| !own.withdrawn.contains(id)));
        let there = replica.list_snapshots()?;
        let counts = |id: &SnapshotId| there.header(*id).is_some_and(|header| there.state(*id, header) == SnapshotState::Closed);
        let snapshots = lost.into_iter().filter(|id| counts(id) && !there.withdrawn.contains(id)).collect();
        let distrusted = damaged.iter().map(|name| (name.kind(), PackId(name.id()))).collect();
        let options = ReplicateOptions { snapshots: Some(snapshots), dry_run, distrusted: Some(distrusted) };
        replica.replicate(self, &options, progress)
    }

    fn replicate_in_sessions(&self, target: &Self, options: &ReplicateOptions, progress: &dyn Progress) -> Result<ReplicateSummary> {
        let kind = match target.roles().contain(Roles::MAINTAIN) {
            true => SessionKind::Collector,
            false => {
                target.require(Roles::BACKUP, "storing copies of snapshots")?;
                SessionKind::Writer
            }
        };
        target.require_writable()?;
        self.require_newest_config()?;
        target.require_newest_config()?;
        let reading = Session::begin_to_read(self, progress)?;
        let writing = Session::begin(target, kind)?;
        let own = writing.id();
        let result = self.replicate_to(target, &writing, options, progress);
        let closed = writing.close(result.is_ok(), Vec::new());
        let read = reading.map_or(Ok(()), |reading| reading.close(result.is_ok(), Vec::new()));
        let summary = result?;
        closed.and(read)?;
        if kind == SessionKind::Collector {
            remove_own(target, own)?;
        }
        Ok(summary)
    }

    fn replicate_to(
        &self,
        target: &Self,
        session: &Session<'_>,
        options: &ReplicateOptions,
        progress: &dyn Progress,
    ) -> Result<ReplicateSummary> {
        let mut plan = Plan::make(self, target, options, progress)?;
        progress.event(Event::Phase { name: "replicate", bytes_total: Some(plan.bytes), items_total: Some(plan.frame_count) });
        let way = Way { source: self, target, session, progress };
        let copies = way.copy(&plan.frames, plan.bytes)?;
        if target.roles().contain(Roles::MAINTAIN) {
            let packs: Vec<_> = copies.written.iter().map(|(pack, _)| *pack).collect();
            refresh_index_objects(target, &packs, &BTreeSet::new())?;
        }
        plan.give_up(&copies.lost, "it needs what is damaged in a pack of the source")?;
        let mut publisher = Publisher { source: self, target, session, progress, bytes: 0 };
        let left_out = publisher.publish(&plan)?;
        plan.wanted.retain(|wanted| !left_out.contains(&wanted.id));
        plan.damaged.extend(left_out.into_iter().map(|id| (id, ENDED_WITHOUT.to_owned())));
        let mut summary = summarize(&plan);
        copies.written.iter().for_each(|(_, size)| summary.written.add(*size));
        summary.bytes_sent = summary.written.bytes + publisher.bytes;
        summary.packs_damaged = copies.packs_damaged;
        Ok(summary)
    }
}

/// What the plan says.
fn summarize(plan: &Plan<'_>) -> ReplicateSummary {
    ReplicateSummary {
        snapshots: plan.wanted.iter().map(|wanted| wanted.id).collect(),
        snapshots_present: plan.present.len() as u64,
        snapshots_forgotten: plan.forgotten.clone(),
        snapshots_damaged: plan.damaged.clone(),
        problems: plan.problems.clone(),
        frames_planned: plan.frame_count,
        bytes_planned: plan.bytes,
        ..ReplicateSummary::default()
    }
}

//! Repair: what can be mended is mended, what is lost is named, and nothing becomes worse.
//!
//! ```text
//! check or scrub, healing ─▶ plan ─▶ session ─▶ good frames of damaged packs copied, durable and read back ─▶ epoch: damaged packs condemned
//!     ─▶ index objects written anew ─▶ what stands in the way removed ─▶ local index cache forgotten ─▶ salvage, where asked for
//! ```
//! - Where there are sidecars, what they heal is healed first, and what then has none gets one.
//! - A damaged pack that is not healed is never deleted here. It is condemned, so that writers rely on it no more: the next backup stores anew
//!   what was lost in it, where the files are still there. Garbage collection deletes it when no snapshot needs any frame that stands in it alone (I7, I8).
//! - Damage that shows once and not when looked at again costs a copy: what was condemned and can be read after all is rescued by garbage collection.
//! - Nothing is believed that garbage collection would not believe: the table of a pack whose end is damaged comes from an index object that its
//!   writer or maintain signed. Frames tell neither their length nor their chunks, so without a table nothing can be done.
//! - What a newer release may understand, and what somebody wrote who may not, is left alone.
//! - Snapshots are never changed. A salvaged one is a new one of the same series, marked as not whole, without the files that are lost.
//!
//! Looking needs what check needs, mending the role maintain, salvaging backup and restore as well.

mod mend;
mod obstacles;
mod plan;
mod salvage;
#[cfg(test)]
mod tests;

pub use plan::{Obstacle, PackRepair, RepairPlan};
pub use salvage::Salvaged;

use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::session::SessionKind;
use crate::gc::{PackGroup, delete, refresh_index_objects, remove_own};
use crate::id::PackId;
use crate::progress::Progress;
use crate::repository::index::LookupIndex;
use crate::repository::{Repository, Session};

/// How often mending starts over because a garbage collection was faster.
const STARTS_MAX: u32 = 4;

/// Of which packs every byte is read to find damage.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Reads {
    /// None: only what `check` finds is mended.
    Nothing,
    /// These.
    Packs(Vec<PackId>),
    /// All, as `scrub` does.
    #[default]
    Everything,
}

/// How a repository is repaired.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RepairOptions {
    /// Where damage is looked for.
    pub reads: Reads,
    /// Publishes for each snapshot that lost files a new one without them.
    pub salvage: bool,
}

/// What a repair did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RepairSummary {
    /// What was found and planned.
    pub plan: RepairPlan,
    /// The epoch that condemns the damaged packs; `None` where there was none to condemn.
    pub epoch: Option<u32>,
    /// Packs that were written with what is good of the damaged ones.
    pub written: PackGroup,
    /// Frames that were copied.
    pub frames_copied: u64,
    /// Index objects that were removed; what they told of packs that are right was written anew.
    pub index_objects_removed: u64,
    /// Other objects that stood in the way and were removed.
    pub obstacles_removed: u64,
    /// Sidecars that were written for objects that had none, or a damaged one.
    pub sidecars_written: u64,
    /// Whether the local index cache was forgotten.
    pub forgot_index_cache: bool,
    /// Snapshots that were salvaged.
    pub salvaged: Vec<Salvaged>,
    /// How long it took, in nanoseconds of the caller's monotonic clock.
    pub duration_ns: u64,
}

impl Repository {
    /// Looks for damage and mends what can be mended.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the role maintain (and backup and restore for salvaging), [`ErrorKind::Busy`] where collectors keep being
    /// faster, [`ErrorKind::Cancelled`] when `progress` says so, otherwise what the backend says. After any of them the repository is no worse than
    /// before, and the next run goes on. Damage that cannot be mended is no error; the plan in the summary names it.
    pub fn repair(&self, options: &RepairOptions, progress: &dyn Progress) -> Result<RepairSummary> {
        self.require(Roles::MAINTAIN, "repair")?;
        if options.salvage {
            self.require(Roles::BACKUP.and(Roles::RESTORE), "salvaging snapshots")?;
        }
        self.require_writable()?;
        self.require_newest_config()?;
        let began_ns = self.runtime.clock.monotonic_ns();
        let mut summary = RepairSummary { plan: self.plan_repair(options, progress, true)?, ..RepairSummary::default() };
        if !summary.plan.is_empty() {
            self.mend(&mut summary, progress)?;
        }
        if self.config.parity_percent() > 0 {
            summary.sidecars_written = self.protect(progress)?.sidecars_written;
        }
        if let Some(folder) = self.place_cache_folder() {
            // It may believe an index object that was wrong. Whoever has it open keeps what he has.
            summary.forgot_index_cache = LookupIndex::forget(&folder.join("index"))?;
        }
        if options.salvage {
            summary.salvaged = self.salvage(&summary.plan, progress)?;
        }
        summary.duration_ns = self.runtime.clock.monotonic_ns().saturating_sub(began_ns);
        Ok(summary)
    }

    /// Does what is planned, in a session of its own.
    fn mend(&self, summary: &mut RepairSummary, progress: &dyn Progress) -> Result<()> {
        for _ in 0..STARTS_MAX {
            let session = Session::begin(self, SessionKind::Collector)?;
            let own = session.id();
            let result = mend::condemn(self, &summary.plan, own, progress).and_then(|mended| match mended {
                Some(mended) => self.replace(summary, &mended).map(|()| Some(mended)),
                None => Ok(None),
            });
            let result = result.map_err(|error| session.explain(error));
            let closed = session.close(matches!(result, Ok(Some(_))), Vec::new());
            if let Some(mended) = result? {
                closed?;
                remove_own(self, own)?;
                (summary.epoch, summary.written, summary.frames_copied) = (mended.epoch, mended.written, mended.frames_copied);
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Busy, "garbage collections keep beginning new rounds; run repair again when they have ended"))
    }

    /// Writes index objects anew and removes what stands in the way.
    fn replace(&self, summary: &mut RepairSummary, mended: &mend::Mended) -> Result<()> {
        let plan = &summary.plan;
        let fresh: Vec<_> = mended.packs.iter().chain(&plan.unindexed).copied().collect();
        summary.index_objects_removed = refresh_index_objects(self, &fresh, &plan.index_objects)?;
        summary.obstacles_removed = obstacles::remove(self, &plan.obstacles)?;
        plan.sidecars.iter().try_for_each(|name| delete(self, name).map(drop))?;
        Ok(())
    }
}

//! Check and scrub: is everything there and as it should be, and if not, whose files suffer?
//!
//! `check` reads small objects wholly and of packs all but the frames, then walks refs, trees and recipes of every snapshot: each
//! frame and chunk that a snapshot needs must lie where it should. `scrub` reads every byte of the frames too: with the role
//! restore it opens every frame and compares every chunk with its id, otherwise it compares hashes. [`scrub_keyless`] needs no credential.
//!
//! ```text
//! list all ─▶ config, slots, sessions, epochs ─▶ packs (tails; scrub: all bytes) ─▶ index objects ─▶ snapshots: refs, tree, recipes
//!                                                  │                                   │              │
//!                                                  └──▶ index of what is right         └▶ what was lost ◀┘ whom it hurts
//! ```
//! A damaged object is a finding and never stops the check of the others; only a backend that cannot be listed or read any more does. What
//! vanishes meanwhile was deleted by others: it is looked up again before it counts. Nothing is believed of a pack but its own table;
//! index objects only help to say who suffers from a pack that is lost.
//!
//! # What cannot be seen
//! Every changed byte of any object is found. Of removed objects these are not missed, because they may go for good reasons:
//! - beats, tombstones, the newest epochs, index objects, markers of withdrawn snapshots, packs and relocations that no snapshot needs;
//! - key slots, as long as one of the credential in hand is left that has the keys in force; session objects that published no snapshot;
//! - `closed/`: its snapshot is then suspect, which is a notice; `closed/` together with the snapshots that it names;
//! - the newest config generations, back to the one with which the repository was opened.
//!
//! With sidecars, where the config wants them, `scrub` heals: what is gone while its sidecar stands, and what is not what was written, is put
//! back. Of removed objects then only those are not missed whose sidecar is gone, too. `check` reads no sidecars.
//!
//! An older state of the whole store is noticed only by clients that saw a newer one. Without the role restore trees are not walked:
//! that the refs name all that a tree needs is then not known. `check` does not read data frames, so damage inside them is for `scrub`.

mod clear;
mod companions;
mod damage;
mod findings;
mod freed;
mod keyless;
mod lengths;
mod links;
mod packs;
mod reading;
mod recipes;
mod scrub;
mod shares;
mod sidecars;
mod snapshots;
mod stats;
mod survey;
#[cfg(test)]
mod tests;
mod tree;
mod uses;

pub use freed::Freed;
pub use keyless::{scrub_and_heal_keyless, scrub_keyless};
pub use shares::{Added, NewestShare, SeriesShare, Shares, TierOf, TierShare, Unneeded};
pub use stats::Stats;
pub(crate) use survey::{BadPack, Depth, Survey};

use crate::backend::{BackendExt, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{PackId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::index::LookupIndex;
use crate::repository::{FrameReader, Repository, keys_changed};
use damage::Damage;
use lengths::Lengths;
use reading::{Listing, Reading};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use survey::SurveyInProgress;

/// Something that is not as it should be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Finding {
    /// The object that it is about; `None` where it is about several or about none.
    pub object: Option<ObjectName>,
    /// The rule of the format that is broken, where it is one.
    pub rule: Option<&'static str>,
    /// What is wrong, in one sentence.
    pub message: String,
    /// [`ErrorKind::Damaged`]; or [`ErrorKind::Unsupported`] where a newer release may understand it, [`ErrorKind::Unavailable`] where it could not
    /// be read.
    pub kind: ErrorKind,
    /// Whether the object was healed from its sidecar, so that nobody suffers any more. The medium that lost it may lose more.
    pub healed: bool,
    /// Snapshots that suffer.
    pub snapshots: Vec<SnapshotId>,
    /// Keys of entries that suffer, ascending, at most 1,000. Where a whole range of a tree is lost, the key of its last entry.
    pub paths: Vec<Vec<u8>>,
    /// How many entries suffer, over all snapshots; an entry counts once for each snapshot.
    pub paths_total: u64,
}

/// A snapshot that suffers from something.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HurtSnapshot {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its series, where the credential may know.
    pub series: Option<String>,
    /// Keys of entries that suffer, ascending, at most 1,000 (and 50,000 of all snapshots). Where a whole range of a tree is lost, the key of
    /// its last entry.
    pub paths: Vec<Vec<u8>>,
    /// How many entries suffer. 0 where nothing that can be restored suffers, or where the credential cannot tell.
    pub paths_total: u64,
}

/// Packs of which nothing could be read, because they are frozen or their medium is not there. What they hold was told by others.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnreadPacks {
    /// The name of the tier in which they lie.
    pub tier: String,
    /// How many.
    pub packs: u64,
}

/// What a check found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CheckReport {
    /// What is damaged, missing or not allowed. Empty: all is well.
    pub findings: Vec<Finding>,
    /// The snapshots that suffer.
    pub hurt: Vec<HurtSnapshot>,
    /// What a person should know and what is no damage.
    pub notices: Vec<String>,
    /// Objects checked, packs among them.
    pub objects: u64,
    /// Packs, those that could not be read among them.
    pub packs: u64,
    /// The latter, by tier.
    pub unread: Vec<UnreadPacks>,
    /// Snapshots checked.
    pub snapshots: u64,
    /// Frames in the packs that are right.
    pub frames: u64,
    /// Chunks in these frames.
    pub chunks: u64,
    /// Bytes read from the backend, except by walks.
    pub bytes_read: u64,
    /// How long it took, in nanoseconds of the caller's monotonic clock.
    pub duration_ns: u64,
}

/// One check with a credential.
#[derive(Debug)]
struct Keyed<'a> {
    repository: &'a Repository,
    reading: Reading<'a>,
    /// Reads frames of packs whose tables are right.
    reader: FrameReader,
    damage: Damage,
    lengths: Lengths,
    /// Packs that were condemned before anything was listed: what of them is needed stands elsewhere, or they were damaged.
    condemned: HashSet<(ObjectKind, PackId)>,
    survey: SurveyInProgress,
    /// Whether what is damaged is healed where that can be done.
    heals: bool,
    /// How often in a row packs were listed again and nothing had come or gone.
    idle_looks: AtomicU32,
}

impl Repository {
    /// Checks the structure: everything but the content of data frames and of nodes that no snapshot uses.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where the backend cannot be listed or read any more, [`ErrorKind::Busy`] where admin changed the keys since the
    /// repository was opened, and something cannot be read without the new ones, [`ErrorKind::Cancelled`] when `progress` says so. Damage is no
    /// error but a finding.
    pub fn check(&self, progress: &dyn Progress) -> Result<CheckReport> {
        self.examine(progress, &Depth::Structure, false)
    }

    /// Checks the structure and every byte, as far as the credential can.
    ///
    /// # Errors
    /// As [`Repository::check`].
    pub fn scrub(&self, progress: &dyn Progress) -> Result<CheckReport> {
        self.examine(progress, &Depth::Everything, false)
    }

    /// As [`Repository::scrub`], and puts the bytes of damaged and lost objects back where their sidecars allow it. Any credential may: what comes
    /// out of a sidecar is checked against the object's own hashes and signature.
    ///
    /// # Errors
    /// As [`Repository::check`]. What cannot be healed is a finding without [`Finding::healed`], and a notice says why.
    pub fn scrub_and_heal(&self, progress: &dyn Progress) -> Result<CheckReport> {
        self.examine(progress, &Depth::Everything, true)
    }

    fn examine(&self, progress: &dyn Progress, depth: &Depth, heals: bool) -> Result<CheckReport> {
        match self.survey(progress, depth, heals) {
            Err(error) if error.kind() == ErrorKind::Unauthorized && self.structure_key().is_err() => self.examine_keys(progress, &error),
            Err(error) if error.kind() == ErrorKind::Unauthorized && self.has_newer_config() => Err(keys_changed()),
            surveyed => surveyed.map(|(report, _)| report),
        }
    }

    /// Without the keys in force not even where packs lie is known: only what tells of keys is checked.
    fn examine_keys(&self, progress: &dyn Progress, why: &Error) -> Result<CheckReport> {
        let started = self.runtime.clock.monotonic_ns();
        let reading = Reading::new(&*self.backend, progress);
        let list = |kind| Ok((kind, self.backend.list_sorted(kind)?));
        let listing = [ObjectKind::Config, ObjectKind::Slot].into_iter().map(list).collect::<Result<Listing>>()?;
        check_keys(&reading, self, &listing)?;
        reading.findings.notice(format!("nothing but configs and key slots was checked: {why}"));
        Ok(reading.finish(self.runtime.clock.monotonic_ns().saturating_sub(started)))
    }

    /// Checks, and tells what mending needs to know.
    pub(crate) fn survey(&self, progress: &dyn Progress, depth: &Depth, heals: bool) -> Result<(CheckReport, Survey)> {
        let started = self.runtime.clock.monotonic_ns();
        // What cannot be read of epochs is said where they are checked.
        let condemned = self.condemned().map(|(_, packs)| packs).unwrap_or_default();
        let reading = Reading::new(&*self.backend, progress);
        let reader = FrameReader::new(self, Arc::new(LookupIndex::open(None, self.id, Arc::new(self.contents_reader()))?));
        let heals = heals && self.config.parity_percent() > 0;
        let keyed = Keyed {
            repository: self,
            reading,
            reader,
            damage: Damage::new(self.id)?,
            lengths: Lengths::new(self.spill_folder(None)),
            condemned,
            survey: Default::default(),
            heals,
            idle_looks: AtomicU32::new(0),
        };
        keyed.run(depth)?;
        let report = keyed.reading.finish(self.runtime.clock.monotonic_ns().saturating_sub(started));
        Ok((report, keyed.survey.finish(&keyed.damage)))
    }
}

impl Keyed<'_> {
    fn run(&self, depth: &Depth) -> Result<()> {
        let (reading, repository) = (&self.reading, self.repository);
        let mut listing = reading.list()?;
        if self.heals && sidecars::heal_small(reading, &listing, &repository.trust, false)? {
            listing = reading.list()?;
        }
        reading.progress.event(Event::Phase { name: "check objects", bytes_total: None, items_total: None });
        check_keys(reading, repository, &listing)?;
        let sessions = companions::check_sessions(reading, repository, &listing)?;
        companions::check_epochs(reading, repository, &listing)?;
        companions::check_relocations(reading, repository, &listing)?;
        companions::check_placement(reading, repository, &listing)?;
        companions::check_reserved(reading, repository, &listing)?;
        let is_demanded = repository.config.parity_percent() > 0;
        sidecars::check_sidecars(reading, &repository.trust, &listing, *depth == Depth::Everything, is_demanded)?;
        let digests = self.check_packs(&listing, depth)?;
        self.check_index_objects(&listing, &digests)?;
        // They come back, and every byte of them is read, when something is missed ([`Keyed::refresh`]).
        self.reader.index().remove_packs(&self.condemned);
        self.check_snapshots(&listing, &sessions)
    }
}

/// Checks configs and key slots, and that the keys in force are in hand.
fn check_keys(reading: &Reading<'_>, repository: &Repository, listing: &Listing) -> Result<()> {
    // Admin's objects are checked as whoever opens the repository does: nothing that admin signed is revoked.
    clear::check_configs(reading, listing, &repository.trust, repository.generation())?;
    let credential = repository.credential.author.certificate.credential();
    clear::check_slots(reading, listing, &repository.trust, Some(credential))?;
    if let Err(error) = repository.structure_key() {
        // Keys are in every slot before a config puts them in force (I14).
        reading.findings.say(None, None, format!("the newest key slot of this credential is missing: {error}"));
    }
    Ok(())
}

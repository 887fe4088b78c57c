//! Plan: which packs to condemn, and what has to be copied or re-made first.
//!
//! A pack counts by what it would give back: frames that nobody needs, and the unneeded part of frames that are to be re-made. Frames are re-made
//! only in packs that are condemned for that.

use super::GcOptions;
use super::epochs::{Epochs, Pack};
use super::mark::Mark;
use super::sessions::{OpenSession, Sessions};
use crate::backend::{ObjectInfo, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::object::TRAILER_LENGTH;
use crate::format::pack::{FOOTER_LENGTH, Footer};
use crate::id::{PackId, SessionId, SnapshotId};
use crate::limits::EPOCH_PACKS_MAX;
use crate::repository::{PackTail, Placement, Repository};
use std::collections::{HashMap, HashSet};

/// A pack with less dead weight than this share of its frames is not worth copying.
const DEAD_PERCENT_MIN: u64 = 5;
/// So many small packs of a kind are merged at least.
const MERGED_PACKS_MIN: usize = 4;

/// Packs and their sizes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackGroup {
    /// How many.
    pub packs: u64,
    /// Bytes of these objects.
    pub bytes: u64,
}

impl PackGroup {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.packs += 1;
        self.bytes += bytes;
    }
}

/// Frames of which less than three quarters are needed, and of which only that is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Remake {
    /// How many.
    pub frames: u64,
    /// Bytes of these frames.
    pub bytes: u64,
    /// The part of these bytes that falls to the chunks that are needed, an estimate.
    pub bytes_used: u64,
}

impl Remake {
    pub(super) fn add(&mut self, other: &Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
        self.bytes_used += other.bytes_used;
    }

    fn bytes_freed(&self) -> u64 {
        self.bytes - self.bytes_used
    }
}

/// What garbage collection would do now.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct GcPlan {
    /// Snapshots that are kept.
    pub snapshots: u64,
    /// Those of them whose session is not closed.
    pub snapshots_suspect: u64,
    /// Packs that nobody condemned yet.
    pub packs: PackGroup,
    /// Bytes of the frames in them that snapshots need.
    pub bytes_live: u64,
    /// Packs of which nothing is needed: to be condemned.
    pub dead: PackGroup,
    /// Packs with too much dead weight: what is needed of them is copied, then they are condemned.
    pub sparse: PackGroup,
    /// Small packs that are merged likewise.
    pub small: PackGroup,
    /// Bytes of frames to copy, those among them that stand only in condemned packs too.
    pub bytes_to_copy: u64,
    /// Frames in these packs that are made anew instead of being copied; none without the role restore.
    pub remake: Remake,
    /// Packs that were condemned earlier and are still there.
    pub condemned: PackGroup,
    /// Packs that would be in one of the groups above, but belong to a session that is open.
    pub protected: PackGroup,
    /// Packs in tiers of which something is needed: they stay as they are.
    pub cold: PackGroup,
    /// Packs in tiers that are to be condemned, or were, before their minimum days have passed.
    pub early: PackGroup,
    /// What the store takes for the days that are left, in millionths of the unit of money.
    pub early_cost: u64,
    /// Packs that cannot be read. They are left alone.
    pub unreadable: Vec<ObjectName>,
    /// Sessions that have to end before anything that is condemned now can be deleted.
    pub waits_for: Vec<OpenSession>,
    /// Snapshots that were published by sessions that died, and will be settled.
    pub unsettled: Vec<SnapshotId>,
    pub(super) condemn: Vec<Candidate>,
}

impl GcPlan {
    /// Bytes that the packs to be condemned now, and those condemned earlier, will give back.
    pub fn bytes_freed(&self) -> u64 {
        let written = self.bytes_to_copy + self.remake.bytes_used;
        (self.dead.bytes + self.sparse.bytes + self.small.bytes + self.condemned.bytes).saturating_sub(written)
    }

    /// Whether there is nothing to condemn and nothing to delete.
    pub fn is_empty(&self) -> bool {
        self.condemn.is_empty() && self.condemned.packs == 0
    }
}

/// A pack to be condemned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub(super) pack: Pack,
    pub(super) size: u64,
    /// Sealed bytes of its frames that are needed.
    pub(super) live_bytes: u64,
    /// Those of them that are to be re-made.
    pub(super) remake: Remake,
    /// Frames have to be copied, or other copies of them to be read, before it may be condemned.
    pub(super) needs_copy: bool,
    group: Group,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    Dead,
    Sparse,
    Small,
}

/// Packs by what becomes of them.
#[derive(Debug, Default)]
struct Choice {
    dead: Vec<Candidate>,
    /// With the bytes that nobody needs: of whole frames, and of frames that are to be re-made.
    sparse: Vec<(Candidate, u64)>,
    small: Vec<Candidate>,
    /// Frames of each pack that are to be re-made.
    remakes: HashMap<Pack, Remake>,
}

impl GcPlan {
    /// Chooses packs. `listed` was listed before the sessions, and these before the snapshots that are marked.
    pub(super) fn choose(
        repository: &Repository,
        options: &GcOptions,
        listed: &[ObjectInfo],
        epochs: &Epochs,
        sessions: &Sessions,
        mark: &Mark<'_>,
    ) -> Result<Self> {
        let mut plan = Self { bytes_live: mark.live_total().bytes, ..Self::default() };
        let (known, open) = (mark.packs(), sessions.open.iter().map(|open| open.session).collect());
        let mut choice = Choice { remakes: mark.remakes()?, ..Choice::default() };
        let placement = repository.tiers.view()?;
        let now = crate::tiers::seconds(repository.runtime.clock.now());
        let mut dead_bytes = 0;
        for object in listed {
            let pack = (object.name.kind(), PackId(object.name.id()));
            if epochs.condemned.contains_key(&pack) {
                plan.condemned.add(object.size);
                plan.count_early(&placement, object, now);
                continue;
            }
            plan.packs.add(object.size);
            if !known.contains(&pack) {
                if repository.has(&object.name)? {
                    plan.unreadable.push(object.name);
                }
                continue;
            }
            if is_cold(repository, &pack) {
                // What is copied out of it would be warm again, and early deletion costs as much as leaving it.
                match mark.live(&pack).bytes {
                    0 => plan.count_early(&placement, object, now),
                    _ => {
                        plan.cold.add(object.size);
                        continue;
                    }
                }
            }
            dead_bytes += choice.take(repository, object, mark.live(&pack).bytes)?;
        }
        let bytes_freed: u64 = choice.remakes.values().map(Remake::bytes_freed).sum();
        let dead_bytes_max = plan.bytes_live.saturating_sub(bytes_freed) / 100 * u64::from(options.dead_percent_max);
        plan.take_all(repository, choice.dead, mark, &open)?;
        let left = plan.take_sparse(repository, choice.sparse, dead_bytes, dead_bytes_max, mark, &open)?;
        choice.small.extend(left);
        plan.take_small(repository, choice.small, mark, &open)?;
        plan.condemn.truncate(EPOCH_PACKS_MAX);
        plan.condemn.iter().for_each(|candidate| plan.remake.add(&candidate.remake));
        plan.bytes_to_copy = plan.condemn.iter().map(|candidate| candidate.live_bytes).sum::<u64>() - plan.remake.bytes;
        Ok(plan)
    }

    fn take_all(&mut self, repository: &Repository, candidates: Vec<Candidate>, mark: &Mark<'_>, open: &HashSet<SessionId>) -> Result<()> {
        for candidate in candidates {
            if let Some(candidate) = self.look_at(repository, candidate, mark, open)? {
                self.add(candidate);
            }
        }
        Ok(())
    }

    /// The sparsest packs, until what is dead in all others is less than allowed. Gives back those small ones that stay.
    fn take_sparse(
        &mut self,
        repository: &Repository,
        mut candidates: Vec<(Candidate, u64)>,
        mut dead_bytes: u64,
        dead_bytes_max: u64,
        mark: &Mark<'_>,
        open: &HashSet<SessionId>,
    ) -> Result<Vec<Candidate>> {
        let kept = |candidate: &Candidate| candidate.live_bytes - candidate.remake.bytes_freed();
        candidates.sort_by_key(|(candidate, dead)| (kept(candidate) * 1000 / (kept(candidate) + dead).max(1), candidate.pack));
        let mut left = Vec::new();
        for (candidate, dead) in candidates {
            let is_worth_it = dead * 100 >= (kept(&candidate) + dead) * DEAD_PERCENT_MIN;
            if dead_bytes > dead_bytes_max && is_worth_it {
                if let Some(candidate) = self.look_at(repository, candidate, mark, open)? {
                    dead_bytes -= dead;
                    self.add(candidate);
                }
            } else if is_small(repository, candidate.size) {
                left.push(Candidate { group: Group::Small, remake: Remake::default(), ..candidate });
            }
        }
        Ok(left)
    }

    /// Small packs, kind by kind: as many of the smallest as make a pack at least twice as large as the largest of them, so that no byte
    /// is copied more often than its pack can double.
    fn take_small(&mut self, repository: &Repository, small: Vec<Candidate>, mark: &Mark<'_>, open: &HashSet<SessionId>) -> Result<()> {
        for kind in [ObjectKind::DataPack, ObjectKind::MetaPack, ObjectKind::RefsPack] {
            let mut packs = Vec::new();
            for candidate in small.iter().filter(|candidate| candidate.pack.0 == kind) {
                packs.extend(self.look_at(repository, *candidate, mark, open)?);
            }
            packs.sort_unstable_by_key(|candidate| (candidate.size, candidate.pack));
            let (mut below, mut merged) = (0, 0);
            for (position, candidate) in packs.iter().enumerate() {
                if candidate.size <= below && position + 1 >= MERGED_PACKS_MIN {
                    merged = position + 1;
                }
                below += candidate.size;
            }
            packs.into_iter().take(merged).for_each(|candidate| self.add(candidate));
        }
        Ok(())
    }

    /// The candidate, if it may be condemned: no open session has frames in it, and its own table agrees with what was marked.
    fn look_at(
        &mut self,
        repository: &Repository,
        candidate: Candidate,
        mark: &Mark<'_>,
        open: &HashSet<SessionId>,
    ) -> Result<Option<Candidate>> {
        let name = ObjectName::pack(candidate.pack.0, candidate.pack.1);
        let tail = match repository.read_pack_tail(&name, candidate.size) {
            Ok(tail) => tail,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            // Frozen: no index object tells what is in it, as it should.
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported | ErrorKind::Frozen) => {
                self.unreadable.push(name);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if tail.tables.sessions.iter().any(|session| open.contains(&session.id())) {
            self.protected.add(candidate.size);
            return Ok(None);
        }
        let needs_copy = check_table(&name, &candidate, &tail, mark)?;
        if needs_copy && is_cold(repository, &candidate.pack) {
            self.cold.add(candidate.size);
            return Ok(None);
        }
        Ok(Some(Candidate { needs_copy, ..candidate }))
    }

    fn count_early(&mut self, placement: &Placement, object: &ObjectInfo, now: u64) {
        let places = object.name.pack_id().map_or(&[][..], |pack| placement.places(pack));
        let costs = places
            .iter()
            .filter(|(_, placed)| placed.until > now)
            .filter_map(|(tier, placed)| Some(crate::tiers::storage_cost(placement.tiers.get(tier)?, object.size, placed.until - now)));
        let costs: Vec<u64> = costs.collect();
        if !costs.is_empty() {
            self.early.add(object.size);
            self.early_cost = self.early_cost.saturating_add(costs.iter().sum());
        }
    }

    fn add(&mut self, candidate: Candidate) {
        match candidate.group {
            Group::Dead => self.dead.add(candidate.size),
            Group::Sparse => self.sparse.add(candidate.size),
            Group::Small => self.small.add(candidate.size),
        }
        self.condemn.push(candidate);
    }
}

impl Choice {
    /// Takes a pack of which so much is needed; gives the bytes that nobody needs and that only copying and re-making can free.
    fn take(&mut self, repository: &Repository, object: &ObjectInfo, live_bytes: u64) -> Result<u64> {
        let pack = (object.name.kind(), PackId(object.name.id()));
        let remake = self.remakes.get(&pack).copied().unwrap_or_default();
        let candidate = |group| Candidate { pack, size: object.size, live_bytes, remake, needs_copy: true, group };
        if live_bytes == 0 {
            self.dead.push(candidate(Group::Dead));
            return Ok(0);
        }
        let dead = match frames_length(repository, object) {
            Ok(length) => length.saturating_sub(live_bytes) + remake.bytes_freed(),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => return Ok(0),
            Err(error) => return Err(error),
        };
        if dead > 0 {
            self.sparse.push((candidate(Group::Sparse), dead));
        } else if is_small(repository, object.size) {
            self.small.push(candidate(Group::Small));
        }
        Ok(dead)
    }
}

/// Whether a pack lies in tiers only.
fn is_cold(repository: &Repository, pack: &Pack) -> bool {
    pack.0 == ObjectKind::DataPack && repository.tiers.is_cold(pack.1)
}

fn is_small(repository: &Repository, size: u64) -> bool {
    size < u64::from(repository.config.pack_size) / 2
}

/// Bytes of a pack's frames, as its footer says.
fn frames_length(repository: &Repository, object: &ObjectInfo) -> Result<u64> {
    let length = FOOTER_LENGTH + TRAILER_LENGTH;
    let offset = object.size.checked_sub(length as u64).ok_or_else(|| Error::rule("OBJ-1", format!("{}: too short", object.name)))?;
    let bytes = repository.backend.get_range(&object.name, offset, FOOTER_LENGTH)?;
    let bytes = bytes.first_chunk().ok_or_else(|| Error::rule("OBJ-1", format!("{}: too short", object.name)))?;
    Ok(u64::from(Footer::decode(bytes, object.size)?.frames_length))
}

/// What was marked came from an index object or a cache perhaps; what a pack's own table says decides. Gives whether any of its frames is needed,
/// here or where another copy stands.
fn check_table(name: &ObjectName, candidate: &Candidate, tail: &PackTail, mark: &Mark<'_>) -> Result<bool> {
    let (mut live_bytes, mut is_needed) = (0, false);
    for frame in &tail.tables.contents.frames {
        let Some(place) = mark.place_of(frame.id)? else { continue };
        is_needed = true;
        if (place.kind, place.pack) == candidate.pack || mark.also_marks(frame.id, candidate.pack)? {
            live_bytes += u64::from(frame.sealed_length);
        }
    }
    match live_bytes == candidate.live_bytes {
        true => Ok(is_needed),
        false => {
            let message =
                format!("{name}: an index object or the cache tells something else of it than its own table; see `icecore repair`");
            Err(Error::new(ErrorKind::Damaged, message))
        }
    }
}

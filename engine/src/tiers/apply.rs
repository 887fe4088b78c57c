//! Apply: packs move, some at a time. Each step is durable before the next; stopped anywhere, the next run goes on.
//!
//! A copy counts once it was read back from where it is. What is said of it (placement) comes before the copy of a lower rank goes, so whoever misses
//! the pack there finds it by looking again. A pack that is condemned and swept meanwhile leaves a copy that placement names, and gc deletes that.

use super::{TierPlan, TierPolicy, packs_of, seconds};
use crate::backend::{Backend, Frost, ObjectInfo, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::placement::{PlacedPack, TierBody};
use crate::gc::{Epochs, PackGroup, write_index_objects};
use crate::id::{PackId, TierId};
use crate::progress::{Event, Progress};
use crate::repository::{Locks, Repository, Tiers, verify};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Packs after whose copies is said where they are.
const BATCH: usize = 64;
/// Bytes copied at once.
const PIECE: usize = 4 << 20;

/// What moving packs did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TierSummary {
    /// What was planned.
    pub plan: TierPlan,
    /// Packs that were moved.
    pub moved: PackGroup,
    /// Moves that others had begun and that were finished.
    pub finished: PackGroup,
    /// Packs that could not be moved; each was named.
    pub failed: PackGroup,
    /// Copies in the tier that nothing tells of, which interrupted moves of packs had left that are gone by now: they were deleted.
    pub orphans: PackGroup,
    /// How long it took, in nanoseconds of the caller's monotonic clock.
    pub duration_ns: u64,
}

/// One run.
struct Mover<'a> {
    repository: &'a Repository,
    progress: &'a dyn Progress,
    tier: Arc<TierBody>,
    place: Arc<dyn Backend>,
    /// Copies of lower rank that are gone, and of which placement tells still.
    left: HashSet<(TierId, PackId)>,
    /// The index object that tells the truth of each pack.
    tellers: HashMap<ObjectName, ObjectName>,
    /// Index objects that were made durable.
    durable: HashSet<ObjectName>,
    /// What locks keep.
    locks: Locks,
    summary: TierSummary,
}

impl Repository {
    /// Moves what [`Repository::tier_plan`] tells. Others may back up, restore, collect garbage and move packs meanwhile.
    ///
    /// # Errors
    /// As [`Repository::tier_plan`]; [`ErrorKind::Frozen`] where the tier's medium is not there, [`ErrorKind::Cancelled`] when `progress` says so. After any of
    /// them nothing is lost, and the next run goes on. A pack that cannot be moved is named and counted, and the others are moved.
    pub fn tier_apply(&self, policy: &TierPolicy, progress: &dyn Progress) -> Result<TierSummary> {
        let began_ns = self.runtime.clock.monotonic_ns();
        self.require_writable()?;
        self.require_newest_config()?;
        let plan = self.tier_plan(policy, progress)?;
        let tier = Arc::clone(self.tiers.view()?.tier(&policy.tier)?);
        let place = self.tiers.place(&tier)?;
        let summary = TierSummary { plan: plan.clone(), ..TierSummary::default() };
        let (left, tellers, durable, locks) = Default::default();
        let mut mover = Mover { repository: self, progress, tier, place, left, tellers, durable, locks, summary };
        progress.event(Event::Phase { name: "move", bytes_total: Some(plan.moves.bytes), items_total: Some(plan.moves.packs) });
        mover.finish_others(&plan.leftovers)?;
        for batch in plan.packs.chunks(BATCH) {
            mover.take(batch)?;
        }
        mover.remove_orphans()?;
        let mut summary = mover.summary;
        summary.duration_ns = self.runtime.clock.monotonic_ns().saturating_sub(began_ns);
        Ok(summary)
    }
}

impl Mover<'_> {
    fn tiers(&self) -> &Tiers {
        &self.repository.tiers
    }

    fn fail(&mut self, object: &ObjectInfo, error: &Error) {
        self.summary.failed.add(object.size);
        self.progress.event(Event::ItemFailed { item: &object.name.to_string(), message: &format!("was not moved: {error}") });
    }

    /// Notes an error of one pack; fails where it is not the pack's.
    fn tolerate<T>(&mut self, object: &ObjectInfo, done: Result<T>) -> Result<Option<T>> {
        match done {
            Ok(done) => Ok(Some(done)),
            // Swept meanwhile: nobody needs it any more.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported | ErrorKind::Frozen) => {
                self.fail(object, &error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn take(&mut self, batch: &[ObjectInfo]) -> Result<()> {
        self.tiers().look(&self.tier, &*self.place)?;
        let condemned = Epochs::read(self.repository)?.condemned;
        let mut copied: Vec<(ObjectInfo, [u8; 32])> = Vec::new();
        let mut is_cancelled = false;
        for object in batch.iter().filter(|object| !condemned.contains_key(&(object.name.kind(), PackId(object.name.id())))) {
            is_cancelled = self.progress.is_cancelled();
            if is_cancelled {
                break;
            }
            let done = self.copy(object);
            if let Some(hash) = self.tolerate(object, done)? {
                copied.push((object.clone(), hash));
            }
        }
        // What was copied until somebody wanted to stop is moved.
        self.settle(copied)?;
        match is_cancelled {
            true => Err(Error::new(ErrorKind::Cancelled, "moving packs was stopped; the next run goes on")),
            false => Ok(()),
        }
    }

    /// Copies a pack and reads the copy back; gives the last 32 bytes of the object.
    fn copy(&self, object: &ObjectInfo) -> Result<[u8; 32]> {
        let (source, name) = (&self.repository.backend, &object.name);
        let end = object.size.saturating_sub(32);
        let hash = |place: &dyn Backend| -> Result<[u8; 32]> {
            place.get_range(name, end, 32)?.try_into().map_err(|_| Error::new(ErrorKind::Damaged, format!("{name}: too short")))
        };
        let expected = hash(&**source)?;
        match self.place.size(name) {
            Ok(size) if size == object.size && self.is_frozen(name)? => {
                // It was read back before it froze.
                self.progress.event(Event::Advance { bytes: object.size, items: 1 });
                return Ok(expected);
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => match copy(&**source, &*self.place, object, self.progress) {
                // Another mover was faster.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                done => done?,
            },
            Err(error) => return Err(error),
        }
        verify(&*self.place, &self.repository.trust, object)
            .map_err(|error| error.context(format!("the copy in tier {}", self.tier.name)))?;
        if hash(&*self.place)? != expected {
            return Err(Error::new(ErrorKind::Damaged, format!("{name}: tier {} has another object of this name", self.tier.name)));
        }
        Ok(expected)
    }

    fn is_frozen(&self, name: &ObjectName) -> Result<bool> {
        match self.place.thawing() {
            Some(thawing) => Ok(matches!(thawing.frost(name)?, Frost::Frozen | Frost::Thawing | Frost::Thawed(_))),
            None => Ok(false),
        }
    }

    /// Copies that were read back take the place of those of lower rank.
    fn settle(&mut self, mut copied: Vec<(ObjectInfo, [u8; 32])>) -> Result<()> {
        let told = self.told(&copied.iter().map(|(object, _)| object.clone()).collect::<Vec<_>>())?;
        copied.retain(|(object, _)| told.contains(&object.name));
        if copied.is_empty() {
            return Ok(());
        }
        // `OthersDurable`: another mover may have made the copy, and died.
        self.place.make_durable(&copied.iter().map(|(object, _)| object.name).collect::<Vec<_>>())?;
        if let Some(thawing) = self.place.thawing() {
            copied.iter().try_for_each(|(object, _)| thawing.freeze(&object.name))?;
        }
        let since = seconds(self.repository.runtime.clock.now());
        let until = since.saturating_add(u64::from(self.tier.minimum_days) * super::DAY_S);
        let placed = copied.iter().map(|(object, hash)| PlacedPack {
            pack: PackId(object.name.id()),
            // Bound: no pack is larger than 2^28 bytes (OBJ-1).
            size: object.size as u32,
            hash: *hash,
            since,
            until,
        });
        self.repository.write_places(self.tier.tier, placed.collect())?;
        let copied: Vec<_> = copied.into_iter().map(|(object, _)| object).collect();
        let moved = self.leave_all(&copied)?;
        moved.into_iter().for_each(|size| self.summary.moved.add(size));
        Ok(())
    }

    /// Says no more of copies that they are where they were.
    fn forget_left(&mut self) -> Result<()> {
        if !self.left.is_empty() {
            self.repository.forget_places(|tier, pack| self.left.contains(&(tier, pack)))?;
            self.left.clear();
        }
        Ok(())
    }

    /// Sees to it that index objects tell what is in packs before they go where nobody can ask them; gives those of which that is so.
    fn told(&mut self, packs: &[ObjectInfo]) -> Result<HashSet<ObjectName>> {
        let mut is_written = false;
        loop {
            let told = self.repository.told_agrees(packs.iter(), &self.tellers)?;
            let untold = packs.iter().map(|object| object.name).filter(|name| !told.contains_key(name));
            let untold: BTreeSet<_> = untold.map(|name| (ObjectKind::DataPack, PackId(name.id()))).collect();
            if !untold.is_empty() && !std::mem::replace(&mut is_written, true) {
                write_index_objects(self.repository, &untold)?;
                continue;
            }
            let fresh: BTreeSet<_> = told.values().map(|(teller, _)| *teller).filter(|teller| !self.durable.contains(teller)).collect();
            if !fresh.is_empty() {
                // `OthersDurable`: who wrote them may have died. Then they are asked for again: they may have gone with the power before.
                self.repository.backend.make_durable(&fresh.iter().copied().collect::<Vec<_>>())?;
                self.durable.extend(fresh);
                continue;
            }
            let agrees = |object: &&ObjectInfo| told.get(&object.name).is_some_and(|(_, agrees)| *agrees);
            let untrue: Vec<_> = packs.iter().filter(|object| !agrees(object)).collect();
            if !untrue.is_empty() {
                // What was swept meanwhile nobody needs any more.
                let condemned = Epochs::read(self.repository)?.condemned;
                for object in untrue.into_iter().filter(|object| !condemned.contains_key(&(object.name.kind(), PackId(object.name.id())))) {
                    let message =
                        "no index object tells the truth of it, which is needed once it is cold; run `icecore check` and `icecore repair`";
                    self.fail(object, &Error::new(ErrorKind::Damaged, message));
                }
            }
            let agree: HashMap<_, _> =
                told.into_iter().filter(|(_, (_, agrees))| *agrees).map(|(pack, (teller, _))| (pack, teller)).collect();
            let packs = agree.keys().copied().collect();
            self.tellers.extend(agree);
            return Ok(packs);
        }
    }

    /// Deletes the copies of lower rank of packs that placement names by now, as far as index objects tell of them: whoever removed one meanwhile did
    /// not know that they go cold (`ToldBeforeCold`). Gives the sizes of those of which that was done.
    fn leave_all(&mut self, packs: &[ObjectInfo]) -> Result<Vec<u64>> {
        let told = self.told(packs)?;
        let packs: Vec<_> = packs.iter().filter(|object| told.contains(&object.name)).cloned().collect();
        if packs.is_empty() {
            return Ok(Vec::new());
        }
        self.repository.renew_deadlines_of(&packs, &mut self.locks, self.progress)?;
        let mut left = Vec::new();
        for object in &packs {
            let done = self.leave(object);
            left.extend(self.tolerate(object, done)?.map(|()| object.size));
        }
        self.forget_left()?;
        Ok(left)
    }

    /// Deletes the copies of a pack of lower rank than its coldest one, which is looked at before.
    fn leave(&mut self, object: &ObjectInfo) -> Result<()> {
        // `OthersDurable`: another mover may have said where the pack is.
        let view = self.tiers().reload_durable()?;
        let (name, pack) = (&object.name, PackId(object.name.id()));
        let Some((coldest, placed)) = view.coldest(pack) else {
            return Err(Error::new(ErrorKind::Busy, format!("{name}: its tier is gone; run it again")));
        };
        if coldest.is_retired {
            return Err(Error::new(ErrorKind::Frozen, format!("tier {} is being removed", coldest.name)));
        }
        let place = self.tiers().place(coldest)?;
        self.tiers().look(coldest, &*place)?;
        match place.size(name) {
            Ok(size) if size == u64::from(placed.size) => {}
            Ok(_) => return Err(Error::new(ErrorKind::Damaged, format!("{name}: its copy in tier {} has another size", coldest.name))),
            // Nothing is deleted for a copy that is not there.
            Err(error) => return Err(error.with_kind(ErrorKind::Damaged).context(format!("{name}: its copy in tier {}", coldest.name))),
        }
        gone(self.tiers().warm.delete(name))?;
        self.tiers().note_gone([pack]);
        for tier in view.warmer(pack) {
            let place = self.tiers().place(tier)?;
            match place.delete(name) {
                // What is missing in another place is not gone.
                Err(error) if error.kind() == ErrorKind::NotFound => self.tiers().look(tier, &*place)?,
                deleted => deleted?,
            }
            self.left.insert((tier.tier, pack));
        }
        Ok(())
    }

    /// Finishes moves that were interrupted, or that others are at work at.
    fn finish_others(&mut self, leftovers: &[ObjectInfo]) -> Result<()> {
        for batch in leftovers.chunks(BATCH) {
            let mut good = Vec::new();
            for object in batch {
                let read_back = self.read_back(object);
                good.extend(self.tolerate(object, read_back)?.map(|()| object.clone()));
            }
            let finished = self.leave_all(&good)?;
            finished.into_iter().for_each(|size| self.summary.finished.add(size));
        }
        Ok(())
    }

    /// Reads the coldest copy of a pack.
    fn read_back(&self, object: &ObjectInfo) -> Result<()> {
        let view = self.tiers().reload()?;
        let gone = || Error::new(ErrorKind::NotFound, format!("{}: it is in no tier any more", object.name));
        let (coldest, _) = view.coldest(PackId(object.name.id())).ok_or_else(gone)?;
        let place = self.tiers().place(coldest)?;
        match verify(&*place, &self.repository.trust, object) {
            // It was read back before it froze.
            Err(error) if error.kind() == ErrorKind::Frozen => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.tiers().look(coldest, &*place)?;
                Err(error.with_kind(ErrorKind::Damaged).context(format!("its copy in tier {}", coldest.name)))
            }
            verified => verified.map(drop),
        }
    }

    /// Deletes copies in the tier that nothing tells of, of packs that are condemned and nowhere else: they were swept while they were being moved.
    fn remove_orphans(&mut self) -> Result<()> {
        let there = packs_of(&*self.place)?;
        // Afterwards: a move that is under way has its pack in the warm place, or placement tells of it.
        let listed: HashSet<_> = packs_of(&*self.tiers().warm)?.into_iter().map(|object| object.name).collect();
        let view = self.tiers().reload()?;
        let is_known = |object: &ObjectInfo| listed.contains(&object.name) || !view.places(PackId(object.name.id())).is_empty();
        let unknown: Vec<_> = there.iter().filter(|object| !is_known(object)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        // What is not condemned here may be a pack of somebody who has a copy of this repository.
        let condemned = Epochs::read(self.repository)?.condemned;
        for object in unknown.into_iter().filter(|object| condemned.contains_key(&(object.name.kind(), PackId(object.name.id())))) {
            gone(self.place.delete(&object.name))?;
            self.summary.orphans.add(object.size);
        }
        Ok(())
    }
}

fn gone(deleted: Result<()>) -> Result<()> {
    match deleted {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn copy(source: &dyn Backend, place: &dyn Backend, object: &ObjectInfo, progress: &dyn Progress) -> Result<()> {
    let mut writer = place.create(&object.name)?;
    let mut at = 0;
    while at < object.size {
        let length = PIECE.min(usize::try_from(object.size - at).unwrap_or(PIECE));
        writer.write(&source.get_range(&object.name, at, length)?)?;
        at += length as u64;
        progress.event(Event::Advance { bytes: length as u64, items: 0 });
    }
    writer.finish()?;
    progress.event(Event::Advance { bytes: 0, items: 1 });
    Ok(())
}

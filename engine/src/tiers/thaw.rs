//! Thaw: what a restore needs from tiers, what that costs and how long it takes; and asking for it.

use super::{bytes_cost, requests_cost};
use crate::backend::{Frost, ObjectKind, ObjectName};
use crate::entry::{EntryKind, KeyKind};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::placement::TierBody;
use crate::gc::PackGroup;
use crate::id::{PackId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::{FrameReader, Repository, Snapshot};
use crate::restore::{content_chunks, find_path, key_of};
use crate::tree::{KeyRange, TreeWalk};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

/// Seconds between two looks whether something has thawed, at most; at first they are shorter.
const LOOK_AGAIN_S: u64 = 60;

/// What restoring something needs, by where it lies.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ColdPlan {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Data packs in the warm place.
    pub warm: PackGroup,
    /// Tiers in which packs lie that are needed, the warmest first.
    pub tiers: Vec<TierNeeds>,
}

/// What is needed of one tier.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TierNeeds {
    /// The tier.
    pub tier: Arc<TierBody>,
    /// Data packs and their sizes, in order of their names.
    pub packs: Vec<(PackId, u64)>,
    /// All of them.
    pub needed: PackGroup,
    /// Those that are frozen and were not asked for.
    pub frozen: PackGroup,
    /// Those that are on their way.
    pub thawing: PackGroup,
    /// Why the place cannot be reached now, which names the medium; nothing is known of how many are frozen then.
    pub absent: Option<String>,
    /// What asking for the frozen ones costs and how long it takes, by way to thaw.
    pub classes: Vec<ClassCost>,
    /// What reading all of them costs besides, in millionths of the unit of money.
    pub read_cost: u64,
}

/// What a way to thaw takes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassCost {
    /// As the store calls it.
    pub name: String,
    /// Seconds until all of it is there.
    pub seconds: u32,
    /// Millionths of the unit of money.
    pub cost: u64,
}

/// What a thaw did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThawSummary {
    /// Packs that were asked for now.
    pub asked: PackGroup,
    /// Packs that are on their way, those just asked for included.
    pub thawing: PackGroup,
    /// Packs that can be read.
    pub ready: PackGroup,
    /// What was asked for costs so much, in millionths of the unit of money.
    pub cost: u64,
    /// Media that have to be plugged in.
    pub absent: Vec<String>,
}

impl ColdPlan {
    /// Whether all of it can be read now.
    pub fn is_ready(&self) -> bool {
        self.tiers.iter().all(|needs| needs.absent.is_none() && needs.frozen.packs == 0 && needs.thawing.packs == 0)
    }
}

impl Repository {
    /// Where what a restore of `paths` needs lies (nothing: of all), and what getting it costs. Thaws nothing, and asks frozen tiers only for the state of
    /// the packs that are needed.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the role restore, [`ErrorKind::NotFound`] where the snapshot has no such path, [`ErrorKind::Damaged`] where the list
    /// of files is, otherwise what the store says.
    pub fn cold_plan(&self, snapshot: &Snapshot, paths: &[Vec<u8>], progress: &dyn Progress) -> Result<ColdPlan> {
        self.require(Roles::RESTORE, "planning a restore")?;
        progress.event(Event::Phase { name: "plan", bytes_total: None, items_total: Some(snapshot.header.entries) });
        let packs = self.packs_needed(snapshot, paths, progress)?;
        let view = self.tiers.reload()?;
        let mut plan = ColdPlan { snapshot: snapshot.id, warm: PackGroup::default(), tiers: Vec::new() };
        // By rank and name.
        let mut of_tiers: BTreeMap<_, (_, Vec<(PackId, u64)>)> = BTreeMap::new();
        for pack in packs {
            match view.coldest(pack).filter(|_| self.tiers.is_cold(pack)) {
                None => plan.warm.add(self.backend.size(&name_of(pack))?),
                Some((tier, placed)) => {
                    let of_tier = of_tiers.entry((tier.rank, tier.name.clone())).or_insert_with(|| (Arc::clone(tier), Vec::new()));
                    of_tier.1.push((pack, placed.size.into()));
                }
            }
        }
        for (tier, packs) in of_tiers.into_values() {
            plan.tiers.push(self.needs(tier, packs)?);
        }
        Ok(plan)
    }

    fn packs_needed(&self, snapshot: &Snapshot, paths: &[Vec<u8>], progress: &dyn Progress) -> Result<BTreeSet<PackId>> {
        let reader = FrameReader::new(self, self.open_index()?);
        let chunks = self.snapshot_chunks(&reader, &snapshot.header)?;
        let (mut packs, mut seen) = (BTreeSet::new(), HashSet::new());
        let key_kind = if snapshot.body.keys_are_paths { KeyKind::Paths } else { KeyKind::Objects };
        let all = [Vec::new()];
        for path in if paths.is_empty() { &all[..] } else { paths } {
            let key = find_path(&chunks, snapshot, &key_of(snapshot, path)?)?.key;
            let range = if key.is_empty() { KeyRange::all() } else { KeyRange::folder(&key) };
            for entry in TreeWalk::new(&chunks, &snapshot.body.tree_root, key_kind, range)? {
                if let EntryKind::File(content) = entry?.kind {
                    content_chunks(&chunks, &content, |id| {
                        let ordinal = chunks.find(&id)?.ordinal;
                        if seen.insert(ordinal) {
                            reader.place_with_bases(ordinal)?.into_iter().for_each(|place| _ = packs.insert(place.pack));
                        }
                        Ok(())
                    })?;
                }
                progress.event(Event::Advance { bytes: 0, items: 1 });
                if progress.is_cancelled() {
                    return Err(Error::new(ErrorKind::Cancelled, "stopped"));
                }
            }
        }
        Ok(packs)
    }

    fn needs(&self, tier: Arc<TierBody>, packs: Vec<(PackId, u64)>) -> Result<TierNeeds> {
        let (mut needed, mut frozen, mut thawing, mut absent) = (PackGroup::default(), PackGroup::default(), PackGroup::default(), None);
        packs.iter().for_each(|(_, size)| needed.add(*size));
        match self.tiers.place(&tier).and_then(|place| self.tiers.look(&tier, &*place).map(|()| place)) {
            Ok(place) => {
                for (pack, size) in &packs {
                    match place.thawing().map_or(Ok(Frost::Warm), |thaw| thaw.frost(&name_of(*pack)))? {
                        Frost::Frozen => frozen.add(*size),
                        Frost::Thawing => thawing.add(*size),
                        Frost::Warm | Frost::Thawed(_) => {}
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::Frozen => absent = Some(error.to_string()),
            Err(error) => return Err(error),
        }
        let cost = |price: (u64, u64)| bytes_cost(frozen.bytes, price.0).saturating_add(requests_cost(frozen.packs, price.1));
        let classes = tier.classes.iter().filter(|_| frozen.packs > 0).map(|class| ClassCost {
            name: class.name.clone(),
            seconds: class.seconds,
            cost: cost((class.bytes_price, class.requests_price)),
        });
        let classes = classes.collect();
        let read_cost = bytes_cost(needed.bytes, tier.prices.retrieval).saturating_add(requests_cost(needed.packs, tier.prices.reads));
        Ok(TierNeeds { tier, packs, needed, frozen, thawing, absent, classes, read_cost })
    }

    /// Asks for the frozen packs of a plan, to stay readable for `days`. Those that were asked for before are not asked for again, so an interrupted
    /// thaw goes on. Does not wait.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where a tier has no way to thaw called `class` (nothing was asked for then), [`ErrorKind::Cancelled`] when `progress` says so,
    /// otherwise what the store says.
    pub fn thaw(&self, plan: &ColdPlan, class: &str, days: u32, progress: &dyn Progress) -> Result<ThawSummary> {
        for needs in plan.tiers.iter().filter(|needs| needs.frozen.packs > 0 && !needs.tier.classes.is_empty()) {
            if !needs.tier.classes.iter().any(|known| known.name == class) {
                let known: Vec<_> = needs.tier.classes.iter().map(|class| class.name.as_str()).collect();
                let message = format!("tier {} does not thaw by `{class}`; it knows {}", needs.tier.name, known.join(", "));
                return Err(Error::new(ErrorKind::Invalid, message));
            }
        }
        let bytes = plan.tiers.iter().map(|needs| needs.frozen.bytes).sum();
        progress.event(Event::Phase { name: "thaw", bytes_total: Some(bytes), items_total: None });
        let mut summary = ThawSummary::default();
        for needs in &plan.tiers {
            if let Some(absent) = &needs.absent {
                summary.absent.push(absent.clone());
                continue;
            }
            let place = self.tiers.place(&needs.tier)?;
            let mut asked = PackGroup::default();
            for (pack, size) in &needs.packs {
                if progress.is_cancelled() {
                    return Err(Error::new(ErrorKind::Cancelled, "stopped; the same again asks for the rest"));
                }
                let name = name_of(*pack);
                let Some(thaw) = place.thawing() else {
                    summary.ready.add(*size);
                    continue;
                };
                match thaw.frost(&name)? {
                    Frost::Warm | Frost::Thawed(_) => summary.ready.add(*size),
                    Frost::Thawing => summary.thawing.add(*size),
                    Frost::Frozen => {
                        thaw.thaw(&name, class, days)?;
                        asked.add(*size);
                        summary.asked.add(*size);
                        summary.thawing.add(*size);
                        progress.event(Event::Advance { bytes: *size, items: 1 });
                    }
                }
            }
            if let Some(price) = needs.tier.classes.iter().find(|known| known.name == class) {
                let cost = bytes_cost(asked.bytes, price.bytes_price).saturating_add(requests_cost(asked.packs, price.requests_price));
                summary.cost = summary.cost.saturating_add(cost);
            }
        }
        Ok(summary)
    }

    /// Waits until nothing of a plan is frozen or on its way any more.
    ///
    /// # Errors
    /// [`ErrorKind::Frozen`] where something was not asked for, or a medium is not there; [`ErrorKind::Cancelled`] when `progress` says so; otherwise what the
    /// store says.
    pub fn wait_for_thaw(&self, plan: &ColdPlan, progress: &dyn Progress) -> Result<()> {
        self.wait(plan, progress, 0)
    }

    /// As [`Repository::wait_for_thaw`], until less is on its way than now.
    ///
    /// # Errors
    /// As [`Repository::wait_for_thaw`].
    pub fn wait_for_some(&self, plan: &ColdPlan, progress: &dyn Progress) -> Result<()> {
        let thawing: u64 = plan.tiers.iter().map(|needs| needs.thawing.packs).sum();
        self.wait(plan, progress, usize::try_from(thawing).unwrap_or(usize::MAX).saturating_sub(1))
    }

    /// Until at most so many packs are on their way.
    fn wait(&self, plan: &ColdPlan, progress: &dyn Progress, left_max: usize) -> Result<()> {
        let bytes = plan.tiers.iter().map(|needs| needs.needed.bytes).sum();
        progress.event(Event::Phase { name: "wait", bytes_total: Some(bytes), items_total: None });
        let mut waiting: Vec<_> = plan.tiers.iter().flat_map(|needs| needs.packs.iter().map(|pack| (&needs.tier, *pack))).collect();
        let mut pause = 1;
        loop {
            let mut left = Vec::new();
            for (tier, (pack, size)) in waiting {
                let place = self.tiers.place(tier)?;
                match place.thawing().map_or(Ok(Frost::Warm), |thaw| thaw.frost(&name_of(pack)))? {
                    Frost::Thawing => left.push((tier, (pack, size))),
                    Frost::Frozen => {
                        let message = format!("{} in tier {} was not asked for, or froze again; ask for it", name_of(pack), tier.name);
                        return Err(Error::new(ErrorKind::Frozen, message));
                    }
                    Frost::Warm | Frost::Thawed(_) => progress.event(Event::Advance { bytes: size, items: 1 }),
                }
            }
            if left.len() <= left_max {
                return Ok(());
            }
            waiting = left;
            // Short sleeps, so that whoever wants to stop need not wait.
            for _ in 0..pause {
                if progress.is_cancelled() {
                    return Err(Error::new(ErrorKind::Cancelled, "stopped waiting; what was asked for is on its way all the same"));
                }
                self.runtime.clock.sleep_ns(1_000_000_000);
            }
            pause = LOOK_AGAIN_S.min(pause * 2);
        }
    }
}

fn name_of(pack: PackId) -> ObjectName {
    ObjectName::pack(ObjectKind::DataPack, pack)
}

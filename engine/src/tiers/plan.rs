//! Plan: which packs may go cold, and what that costs.
//!
//! A snapshot *may go cold* when it is old enough for its series, not one of the newest of it, and of a class that may. A pack may when all snapshots that need
//! anything in it may (so a chunk is as warm as its warmest user), when one of them will be kept for the tier's minimum days, when enough of it is needed, and
//! when the minimum days of where it lies have passed.

use super::thaw::ColdPack;
use super::{bytes_cost, requests_cost, seconds, storage_cost};
use crate::backend::{BackendExt, Frost, ObjectInfo, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::placement::TierBody;
use crate::format::snapshot::{SnapshotHeader, series_token};
use crate::gc::{Epochs, Mark, PackGroup, Snapshots};
use crate::id::{PackId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::{Placement, Repository, Tiers};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// How long snapshots stay warm, and how long they are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotLife {
    /// Those that are younger stay warm; `None`: all of them do. A time ahead of this machine's clock counts as now.
    pub warm_days: Option<u32>,
    /// At this age they are forgotten, by whoever forgets, where that is known: what only those need that go before the tier's minimum days stays warm.
    pub kept_days: Option<u32>,
}

/// Which packs move to a tier.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TierPolicy {
    /// Name of the tier.
    pub tier: String,
    /// What counts for all series but those below.
    pub life: SnapshotLife,
    /// What counts for series, by their names.
    pub series: BTreeMap<String, SnapshotLife>,
    /// So many of the newest snapshots of each series, by each signer, stay warm; at least 1.
    pub keep_newest: u32,
    /// Only snapshots of these retention classes may go cold; empty for all.
    pub retention_classes: Vec<u8>,
    /// A pack of which less than this share is needed stays, in percent of its bytes: gc makes a smaller one of it.
    pub live_percent_min: u8,
}

impl TierPolicy {
    /// All but the newest snapshot of each series goes to this tier.
    pub fn new(tier: impl Into<String>) -> Self {
        Self {
            tier: tier.into(),
            life: SnapshotLife { warm_days: Some(0), kept_days: None },
            series: BTreeMap::new(),
            keep_newest: 1,
            retention_classes: Vec::new(),
            live_percent_min: 50,
        }
    }
}

/// What moving packs to a tier would do.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TierPlan {
    /// Snapshots that may go cold.
    pub snapshots_cold: u64,
    /// Snapshots that stay warm.
    pub snapshots_warm: u64,
    /// Snapshots that could go cold, and will be forgotten before the tier's minimum days are over: what only they need stays.
    pub snapshots_short: u64,
    /// Data packs to move.
    pub moves: PackGroup,
    /// Packs that have moved and of which a copy still stands where they were: it is deleted.
    pub unfinished: PackGroup,
    /// Packs that stay because warm snapshots need them.
    pub needed_warm: PackGroup,
    /// Packs that stay because all snapshots that need them will be forgotten before the tier's minimum days are over.
    pub needed_short: PackGroup,
    /// Packs that stay because too little of them is needed.
    pub sparse: PackGroup,
    /// Packs that stay because no snapshot needs them: gc deletes them.
    pub unneeded: PackGroup,
    /// Packs that stay in a warmer tier because its minimum days have not passed.
    pub too_early: PackGroup,
    /// Packs that stay because they lie frozen in a warmer tier: only what has thawed can go on.
    pub frozen: PackGroup,
    /// Packs that stay because the store where they are keeps them until the end of a lock, and the tier cannot.
    pub locked: PackGroup,
    /// Packs that are in this tier, or in one as cold.
    pub there: PackGroup,
    /// Packs in this tier, or in one as cold, that warm snapshots need: those were made while the packs moved, or the policy was another one.
    pub stranded: PackGroup,
    /// Requests that write, and that read.
    pub requests: (u64, u64),
    /// What the move costs once, in millionths of the unit of money.
    pub move_cost: u64,
    /// What the tier takes for these packs for 30 days, likewise.
    pub month_cost: u64,
    /// What it takes in all if they stay no longer than its minimum days, likewise.
    pub minimum_cost: u64,
    pub(super) packs: Vec<ObjectInfo>,
    pub(super) leftovers: Vec<ObjectInfo>,
}

impl Repository {
    /// What [`Repository::tier_apply`] would do now. Writes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the role maintain, [`ErrorKind::Invalid`] where the policy makes no sense, [`ErrorKind::NotFound`] without such a
    /// tier, [`ErrorKind::Damaged`] where a snapshot that counts cannot be read or lacks frames, otherwise what the store says.
    pub fn tier_plan(&self, policy: &TierPolicy, progress: &dyn Progress) -> Result<TierPlan> {
        self.require(Roles::MAINTAIN, "moving packs")?;
        if policy.keep_newest == 0 {
            let message = "at least the newest snapshot of each series has to stay warm: the next backup builds on it";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let tier = Arc::clone(self.tiers.reload()?.tier(&policy.tier)?);
        if tier.is_retired {
            return Err(Error::new(ErrorKind::Invalid, format!("tier {} is being removed; nothing moves there", tier.name)));
        }
        progress.event(Event::Phase { name: "mark", bytes_total: None, items_total: None });
        let epochs = Epochs::read(self)?;
        let listed = self.list_packs()?;
        let mut mark = Mark::new(self, &epochs, progress)?;
        let snapshots = Snapshots::list(self, progress)?;
        mark.take_late(&epochs)?;
        let lives = self.lives(policy, &tier, &snapshots, progress);
        let mut plan = TierPlan::default();
        let (mut needed_warm, mut needed_long) = (HashSet::new(), HashSet::new());
        // In this order: what is marked after the warm ones is needed warm, what is marked after the cold ones is needed for long enough.
        for life in [Life::Warm, Life::Cold, Life::Short] {
            let is_so = |id: &SnapshotId| lives.get(id).copied().unwrap_or(Life::Warm) == life;
            for snapshot in snapshots.kept.iter().filter(|snapshot| is_so(&snapshot.id)) {
                if let Some(lack) = mark.mark(&snapshot.header)?
                    && snapshot.is_closed
                {
                    return Err(lack.context(format!("snapshot {} is damaged, so nothing moves", snapshot.id)));
                }
                *match life {
                    Life::Warm => &mut plan.snapshots_warm,
                    Life::Cold => &mut plan.snapshots_cold,
                    Life::Short => &mut plan.snapshots_short,
                } += 1;
                progress.event(Event::Advance { bytes: 0, items: 1 });
            }
            let marked = || listed.iter().filter(|object| mark.live(&key(object)).frames > 0).map(|object| object.name).collect();
            match life {
                Life::Warm => needed_warm = marked(),
                Life::Cold => needed_long = marked(),
                Life::Short => {}
            }
        }
        let (view, now) = (self.tiers.view()?, seconds(self.runtime.clock.now()));
        let locked = self.locked_where_they_are(&tier, &view, progress)?;
        for object in
            listed.into_iter().filter(|object| object.name.kind() == ObjectKind::DataPack && !epochs.condemned.contains_key(&key(object)))
        {
            let pack = PackId(object.name.id());
            let place = view.coldest(pack);
            let (live, is_needed_warm) = (mark.live(&key(&object)).bytes, needed_warm.contains(&object.name));
            if let Some((coldest, placed)) = place {
                if is_needed_warm && coldest.rank >= tier.rank {
                    plan.stranded.add(object.size);
                }
                if !self.tiers.is_cold(pack) || view.warmer(pack).next().is_some() {
                    plan.unfinished.add(object.size);
                    plan.leftovers.push(object);
                    continue;
                }
                if coldest.rank >= tier.rank {
                    plan.there.add(object.size);
                    continue;
                }
                if placed.until > now {
                    plan.too_early.add(object.size);
                    continue;
                }
            }
            let group = match (live, is_needed_warm) {
                (_, true) => &mut plan.needed_warm,
                (0, _) => &mut plan.unneeded,
                _ if !needed_long.contains(&object.name) => &mut plan.needed_short,
                _ if locked.contains(&object.name) => &mut plan.locked,
                _ if live * 100 < object.size * u64::from(policy.live_percent_min) => &mut plan.sparse,
                _ => {
                    plan.packs.push(object.clone());
                    &mut plan.moves
                }
            };
            group.add(object.size);
        }
        self.leave_frozen(&mut plan, &view, progress)?;
        plan.add_costs(&tier);
        Ok(plan)
    }

    /// What lies frozen in a warmer tier cannot be copied.
    fn leave_frozen(&self, plan: &mut TierPlan, view: &Placement, progress: &dyn Progress) -> Result<()> {
        let frozen_at = |object: &ObjectInfo| {
            let pack = PackId(object.name.id());
            view.coldest(pack).filter(|(tier, _)| tier.is_frozen).map(|(tier, _)| ColdPack { tier, pack, size: object.size })
        };
        let asked: Vec<_> = plan.packs.iter().filter_map(frozen_at).collect();
        let frosts = self.frosts(&asked, progress)?;
        let frozen = asked.iter().zip(frosts).filter(|(_, frost)| matches!(frost, Frost::Frozen | Frost::Thawing));
        let frozen: HashSet<_> = frozen.map(|(pack, _)| pack.pack).collect();
        plan.packs.retain(|object| !frozen.contains(&PackId(object.name.id())));
        for pack in asked.iter().filter(|pack| frozen.contains(&pack.pack)) {
            plan.frozen.add(pack.size);
        }
        plan.moves = PackGroup::default();
        plan.packs.iter().for_each(|object| plan.moves.add(object.size));
        Ok(())
    }

    /// Packs that locks keep, of those that lie where the store has object lock, while the tier has none.
    fn locked_where_they_are(&self, tier: &TierBody, view: &Placement, progress: &dyn Progress) -> Result<HashSet<ObjectName>> {
        if self.backend.list_sorted(ObjectKind::Hold)?.is_empty() {
            return Ok(HashSet::new());
        }
        let keeps = |tier: &TierBody| match self.tiers.place(tier).and_then(|place| Tiers::shows_object_lock(&*place)) {
            Err(error) if error.kind() == ErrorKind::Frozen => Ok(false),
            keeps => keeps,
        };
        let is_warm_kept = Tiers::shows_object_lock(&*self.tiers.warm)?;
        let mut keeping = HashSet::new();
        for warmer in view.tiers.values().filter(|other| other.rank < tier.rank) {
            if keeps(warmer)? {
                keeping.insert(warmer.tier);
            }
        }
        if !is_warm_kept && keeping.is_empty() || keeps(tier)? {
            return Ok(HashSet::new());
        }
        let is_kept = |name: &ObjectName| match view.coldest(PackId(name.id())) {
            Some((coldest, _)) => keeping.contains(&coldest.tier),
            None => is_warm_kept,
        };
        let locked = self.locked_objects(&self.list_snapshots()?, progress)?.into_keys();
        Ok(locked.filter(|name| name.kind() == ObjectKind::DataPack && is_kept(name)).collect())
    }

    /// What becomes of snapshots; those that are not in it stay warm, as do those of sessions that did not end.
    fn lives(&self, policy: &TierPolicy, tier: &TierBody, snapshots: &Snapshots, progress: &dyn Progress) -> HashMap<SnapshotId, Life> {
        let now = seconds(self.runtime.clock.now());
        let token = |name: &str| series_token(&self.credential.token_key, name);
        let lives: BTreeMap<_, _> = policy.series.iter().map(|(name, life)| (token(name), *life)).collect();
        let mut series: BTreeMap<_, Vec<(SnapshotId, &SnapshotHeader)>> = BTreeMap::new();
        for snapshot in snapshots.kept.iter().filter(|snapshot| snapshot.is_closed) {
            let key = (snapshot.header.series, *snapshot.header.record.certificate().verifying_key());
            series.entry(key).or_default().push((snapshot.id, &snapshot.header));
        }
        for name in policy.series.keys().filter(|name| !series.keys().any(|(known, _)| *known == token(name))) {
            progress.event(Event::Notice { message: &format!("there is no snapshot of series `{name}`") });
        }
        let mut all = HashMap::new();
        for ((token, _), mut snapshots) in series {
            snapshots.sort_by_key(|(id, header)| std::cmp::Reverse((header.time, header.sequence, *id)));
            let life = lives.get(&token).unwrap_or(&policy.life);
            let is_of_class = |class| policy.retention_classes.is_empty() || policy.retention_classes.contains(&class);
            let older = snapshots.into_iter().skip(policy.keep_newest as usize).filter(|(_, header)| is_of_class(header.retention_class));
            all.extend(older.map(|(id, header)| (id, life.at(seconds(header.time), now, tier.minimum_days))));
        }
        all
    }
}

/// What a policy says of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// It stays warm.
    Warm,
    /// It may go cold.
    Cold,
    /// It may, and will be forgotten too soon for that to pay.
    Short,
}

impl SnapshotLife {
    fn at(&self, made: u64, now: u64, minimum_days: u32) -> Life {
        let days = |days: u32| u64::from(days) * super::DAY_S;
        let is_old = self.warm_days.is_some_and(|warm| warm == 0 || made.saturating_add(days(warm)) < now);
        let is_kept = |kept| now.max(made).saturating_add(days(minimum_days)) <= made.saturating_add(days(kept));
        match (is_old, self.kept_days.is_none_or(is_kept)) {
            (false, _) => Life::Warm,
            (true, true) => Life::Cold,
            (true, false) => Life::Short,
        }
    }
}

impl TierPlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.leftovers.is_empty()
    }

    fn add_costs(&mut self, tier: &TierBody) {
        let packs = self.moves.packs;
        // Of each pack: it is written; read back whole and looked at before it is deleted elsewhere; and where it has a class of its own, written once more into that.
        self.requests =
            (packs * (1 + u64::from(tier.is_frozen || !tier.storage_class.is_empty())), packs * 2 + self.moves.bytes.div_ceil(1 << 20));
        self.move_cost =
            requests_cost(self.requests.0, tier.prices.writes).saturating_add(requests_cost(self.requests.1, tier.prices.reads));
        if !tier.is_frozen {
            self.move_cost = self.move_cost.saturating_add(bytes_cost(self.moves.bytes, tier.prices.retrieval));
        }
        self.month_cost = storage_cost(tier, self.moves.bytes, 30 * super::DAY_S);
        self.minimum_cost = storage_cost(tier, self.moves.bytes, u64::from(tier.minimum_days) * super::DAY_S);
    }
}

fn key(object: &ObjectInfo) -> (ObjectKind, PackId) {
    (object.name.kind(), PackId(object.name.id()))
}

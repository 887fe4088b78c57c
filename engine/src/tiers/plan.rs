//! Plan: which packs may go cold, and what that costs.
//!
//! A snapshot *may go cold* when it is old enough, not one of the newest of its series, and of a class that may. A pack may when all snapshots that need
//! anything in it may (so a chunk is as warm as its warmest user), when enough of it is needed, and when the minimum days of where it lies have passed.

use super::{bytes_cost, requests_cost, seconds, storage_cost};
use crate::backend::{ObjectInfo, ObjectKind};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::placement::TierBody;
use crate::format::snapshot::SnapshotHeader;
use crate::gc::{Epochs, Mark, PackGroup, Snapshots};
use crate::id::{PackId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::Repository;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Which packs move to a tier.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TierPolicy {
    /// Name of the tier.
    pub tier: String,
    /// Snapshots that are younger stay warm. A time ahead of this machine's clock counts as now.
    pub older_than_days: u32,
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
        Self { tier: tier.into(), older_than_days: 0, keep_newest: 1, retention_classes: Vec::new(), live_percent_min: 50 }
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
    /// Data packs to move.
    pub moves: PackGroup,
    /// Packs that have moved and of which a copy still stands where they were: it is deleted.
    pub unfinished: PackGroup,
    /// Packs that stay because warm snapshots need them.
    pub needed_warm: PackGroup,
    /// Packs that stay because too little of them is needed.
    pub sparse: PackGroup,
    /// Packs that stay because no snapshot needs them: gc deletes them.
    pub unneeded: PackGroup,
    /// Packs that stay in a warmer tier because its minimum days have not passed.
    pub too_early: PackGroup,
    /// Packs that are in this tier, or in one as cold.
    pub there: PackGroup,
    /// Packs in any tier that warm snapshots need: those were made while the packs moved, or the policy was another one.
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
        mark.take_late()?;
        let cold = self.may_go_cold(policy, &snapshots);
        let mut plan = TierPlan::default();
        let mut needed_warm = HashSet::new();
        // The warm ones first: what is marked by then is needed warm.
        for is_cold in [false, true] {
            for snapshot in snapshots.kept.iter().filter(|snapshot| cold.contains(&snapshot.id) == is_cold) {
                if let Some(lack) = mark.mark(&snapshot.header)?
                    && snapshot.is_closed
                {
                    return Err(lack.context(format!("snapshot {} is damaged, so nothing moves", snapshot.id)));
                }
                *(if is_cold { &mut plan.snapshots_cold } else { &mut plan.snapshots_warm }) += 1;
                progress.event(Event::Advance { bytes: 0, items: 1 });
            }
            if !is_cold {
                needed_warm = listed.iter().filter(|object| mark.live(&key(object)).frames > 0).map(|object| object.name).collect();
            }
        }
        let (view, now) = (self.tiers.view()?, seconds(self.runtime.clock.now()));
        for object in
            listed.into_iter().filter(|object| object.name.kind() == ObjectKind::DataPack && !epochs.condemned.contains_key(&key(object)))
        {
            let pack = PackId(object.name.id());
            let place = view.coldest(pack);
            let (live, is_needed_warm) = (mark.live(&key(&object)).bytes, needed_warm.contains(&object.name));
            if let Some((coldest, placed)) = place {
                if is_needed_warm {
                    plan.stranded.add(object.size);
                }
                if !self.tiers.is_cold(pack) || view.places(pack).len() > 1 {
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
                _ if live * 100 < object.size * u64::from(policy.live_percent_min) => &mut plan.sparse,
                _ => {
                    plan.packs.push(object.clone());
                    &mut plan.moves
                }
            };
            group.add(object.size);
        }
        plan.add_costs(&tier);
        Ok(plan)
    }

    /// The snapshots that may go cold. Those of sessions that did not end stay warm.
    fn may_go_cold(&self, policy: &TierPolicy, snapshots: &Snapshots) -> HashSet<SnapshotId> {
        let oldest_warm = seconds(self.runtime.clock.now()).saturating_sub(u64::from(policy.older_than_days) * super::DAY_S);
        let mut series: BTreeMap<_, Vec<(SnapshotId, &SnapshotHeader)>> = BTreeMap::new();
        for snapshot in snapshots.kept.iter().filter(|snapshot| snapshot.is_closed) {
            let key = (snapshot.header.series, *snapshot.header.record.certificate().verifying_key());
            series.entry(key).or_default().push((snapshot.id, &snapshot.header));
        }
        let mut cold = HashSet::new();
        for mut snapshots in series.into_values() {
            snapshots.sort_by_key(|(id, header)| std::cmp::Reverse((header.time, header.sequence, *id)));
            let older = snapshots.into_iter().skip(policy.keep_newest as usize);
            let may = |header: &SnapshotHeader| {
                let is_of_class = policy.retention_classes.is_empty() || policy.retention_classes.contains(&header.retention_class);
                is_of_class && (policy.older_than_days == 0 || seconds(header.time) < oldest_warm)
            };
            cold.extend(older.filter(|(_, header)| may(header)).map(|(id, _)| id));
        }
        cold
    }
}

impl TierPlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.leftovers.is_empty()
    }

    fn add_costs(&mut self, tier: &TierBody) {
        let packs = self.moves.packs;
        // Of each pack: it is written; read back whole and looked at before it is deleted elsewhere; and where it freezes, written once more in its class.
        self.requests = (packs * (1 + u64::from(tier.is_frozen)), packs * 2 + self.moves.bytes.div_ceil(1 << 20));
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

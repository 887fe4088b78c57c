//! Tiers: packs move to where they cost less, and come back with a plan, a time and a price that are known beforehand.
//!
//! ```text
//! plan   snapshots that may go cold ─▶ packs that only these need ─▶ bytes, requests, money
//! apply  copy ─▶ read back ─▶ index object ─▶ freeze ─▶ placement ─▶ look ─▶ delete the warm copy
//! thaw   what a restore needs ─▶ asked for, many at a time ─▶ ready
//! ```
//! Packs move one way, to higher ranks, and **the copy of the highest rank is never deleted by a move** (I17): only gc deletes it, as a pack that an
//! epoch condemns. So movers need no lock: whoever finds a copy of a lower rank beside one of a higher may finish what another began. Nothing but data
//! packs moves. Nothing thaws but by [`crate::repository::Repository::thaw`].

mod apply;
mod map;
mod plan;
#[cfg(test)]
mod tests;
mod thaw;

pub use crate::format::placement::{Prices, ThawClass, TierBody};
pub use apply::TierSummary;
pub use map::TierMap;
pub use plan::{SnapshotLife, TierPlan, TierPolicy};
pub use thaw::{ClassCost, ColdPlan, ThawOptions, ThawSummary, TierNeeds};

use crate::backend::{Backend, BackendExt, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::placement::{PlacedPack, PlacedPacks, PlacementBody};
use crate::gc::{PackGroup, delete};
use crate::id::{PackId, PlacementId, TierId};
use crate::limits::PLACED_PACKS_MAX;
use crate::progress::counted;
use crate::repository::{Placement, Repository, marker};
use crate::runtime::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const DAY_S: u64 = 86_400;
/// Bytes for which prices are given.
const PRICED_BYTES: u128 = 1_000_000_000_000;
/// Requests for which prices are given.
const PRICED_REQUESTS: u128 = 1_000_000;
/// Placement objects of one tier, beyond which small ones are merged.
const OBJECTS_MAX: usize = 64;

/// A tier and what lies in it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TierInfo {
    /// What it is.
    pub tier: Arc<TierBody>,
    /// Where it is on this machine.
    pub address: String,
    /// Packs of which it is the coldest place.
    pub packs: PackGroup,
    /// Whether its place can be reached now; otherwise why not.
    pub absent: Option<String>,
    /// What storing these packs costs for 30 days, in millionths of the unit of money.
    pub month_cost: u64,
}

impl TierBody {
    /// A tier that can be read at once, of rank 1, for nothing.
    pub fn new(name: impl Into<String>, address: impl Into<String>) -> Self {
        Self {
            rank: 1,
            is_frozen: false,
            is_removable: false,
            is_retired: false,
            tier: TierId([0; 16]),
            revision: 1,
            minimum_days: 0,
            latency_s: 0,
            prices: Prices::default(),
            name: name.into(),
            label: String::new(),
            address: address.into(),
            storage_class: String::new(),
            classes: Vec::new(),
        }
    }
}

/// Seconds since 1970; 0 before.
pub(crate) fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.seconds).unwrap_or(0)
}

/// What it costs to store so many bytes for so long.
pub(crate) fn storage_cost(tier: &TierBody, bytes: u64, seconds: u64) -> u64 {
    let month = u128::from(30 * DAY_S);
    money(u128::from(bytes) * u128::from(seconds), tier.prices.storage, PRICED_BYTES * month)
}

fn bytes_cost(bytes: u64, price: u64) -> u64 {
    money(bytes.into(), price, PRICED_BYTES)
}

fn requests_cost(requests: u64, price: u64) -> u64 {
    money(requests.into(), price, PRICED_REQUESTS)
}

fn money(amount: u128, price: u64, per: u128) -> u64 {
    u64::try_from(amount.saturating_mul(price.into()) / per).unwrap_or(u64::MAX)
}

impl Repository {
    /// All tiers, the warmest first.
    ///
    /// # Errors
    /// What the store says.
    pub fn tiers(&self) -> Result<Vec<TierInfo>> {
        let info = |(tier, packs): (Arc<TierBody>, PackGroup)| {
            let place = self.tiers.place(&tier).and_then(|place| self.tiers.look(&tier, &*place));
            TierInfo {
                address: self.tiers.address(&tier).to_owned(),
                packs,
                absent: place.err().map(|error| error.to_string()),
                month_cost: storage_cost(&tier, packs.bytes, 30 * DAY_S),
                tier,
            }
        };
        Ok(self.tier_map()?.tiers.into_iter().map(info).collect())
    }

    /// Makes a tier; its id and revision are chosen here. Its place is made where it does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the role maintain, [`ErrorKind::Invalid`] where it breaks a rule of the format,
    /// [`ErrorKind::AlreadyExists`] where there is one of this name, otherwise what the stores say.
    pub fn add_tier(&self, tier: &TierBody) -> Result<TierId> {
        self.require(Roles::MAINTAIN, "making a tier")?;
        self.require_writable()?;
        self.require_newest_config()?;
        let id = TierId(self.runtime.random());
        let body = TierBody { tier: id, revision: 1, is_retired: false, ..tier.clone() };
        let plaintext = checked(&body)?;
        if self.tiers.reload()?.tiers.values().any(|known| known.name == body.name) {
            return Err(Error::new(ErrorKind::AlreadyExists, format!("there is a tier `{}` already; choose another name", body.name)));
        }
        let place = self.tiers.make_place(&body)?;
        let name = marker(id);
        let object = self.credential.author.sealed_object(&self.header(name), self.structure_key()?, plaintext);
        // First where it is: a tier that is known has its place.
        place.put(&name, &object)?;
        self.backend.put(&name, &object)?;
        self.tiers.reload()?;
        Ok(id)
    }

    /// Takes a tier away in which nothing lies.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the role maintain, [`ErrorKind::NotFound`] without such a tier, [`ErrorKind::Busy`] where packs lie in it,
    /// otherwise what the stores say.
    pub fn remove_tier(&self, name: &str) -> Result<()> {
        self.require(Roles::MAINTAIN, "removing a tier")?;
        self.require_writable()?;
        let view = self.tiers.reload_durable()?;
        let tier = Arc::clone(view.tier(name)?);
        require_empty(&view, &tier)?;
        if !tier.is_retired {
            let retired = TierBody { is_retired: true, revision: tier.revision.saturating_add(1), ..(*tier).clone() };
            self.write_sealed(ObjectName::placement(PlacementId(self.runtime.random())), checked(&retired)?)?;
        }
        // Whoever moves looks for this after he said where he moved what: one of both sees the other.
        require_empty(&*self.tiers.reload_durable()?, &tier)?;
        match self.tiers.place(&tier).and_then(|place| place.delete(&marker(tier.tier))) {
            Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Frozen) => return Err(error),
            _ => {}
        }
        let view = self.tiers.reload()?;
        let of_tier = |body: &PlacementBody| matches!(body, PlacementBody::Tier(body) if body.tier == tier.tier);
        let mut revisions: Vec<_> = view.objects.iter().filter(|(_, body)| of_tier(body)).collect();
        // The one that retires it last.
        revisions.sort_by_key(|(name, body)| (matches!(&***body, PlacementBody::Tier(body) if body.is_retired), **name));
        for (name, _) in revisions {
            delete(self, name)?;
        }
        self.tiers.reload().map(drop)
    }

    /// The tier that [`Repository::remove_tier`] would take away now. Writes nothing.
    ///
    /// # Errors
    /// As [`Repository::remove_tier`].
    pub fn plan_remove_tier(&self, name: &str) -> Result<Arc<TierBody>> {
        self.require(Roles::MAINTAIN, "removing a tier")?;
        let view = self.tiers.reload()?;
        let tier = view.tier(name)?;
        require_empty(&view, tier).map(|()| Arc::clone(tier))
    }

    /// Says where packs lie.
    fn write_places(&self, tier: TierId, mut packs: Vec<PlacedPack>) -> Result<()> {
        packs.sort_by_key(|placed| placed.pack);
        packs.dedup_by_key(|placed| placed.pack);
        for packs in packs.chunks(PLACED_PACKS_MAX) {
            let body = PlacementBody::Packs(PlacedPacks { tier, packs: packs.to_vec() });
            self.write_sealed(ObjectName::placement(PlacementId(self.runtime.random())), body.encode())?;
        }
        Ok(())
    }

    /// Says no more where copies lay that are gone, and merges small objects; gives how many were removed. A copy `is_gone` when it was deleted, or missed
    /// in the tier's place: that there is one of a higher rank is no reason, since that may be damaged or lost.
    pub(crate) fn forget_places(&self, is_gone: impl Fn(TierId, PackId) -> bool) -> Result<u64> {
        let view = self.tiers.reload_durable()?;
        let mut of_tiers: BTreeMap<TierId, Vec<(ObjectName, &PlacedPacks)>> = BTreeMap::new();
        for (name, body) in &view.objects {
            if let PlacementBody::Packs(placed) = &**body {
                of_tiers.entry(placed.tier).or_default().push((*name, placed));
            }
        }
        let mut removed = 0;
        for (tier, objects) in of_tiers {
            if !view.tiers.contains_key(&tier) {
                continue;
            }
            let merges = objects.len() > OBJECTS_MAX;
            let stale = |placed: &PlacedPacks| placed.packs.iter().any(|placed| is_gone(tier, placed.pack));
            let replaced: Vec<_> = objects.into_iter().filter(|(_, placed)| merges || stale(placed)).collect();
            let left = replaced.iter().flat_map(|(_, placed)| &placed.packs).filter(|placed| !is_gone(tier, placed.pack));
            self.write_places(tier, left.copied().collect())?;
            for (name, _) in replaced {
                removed += u64::from(delete(self, &name)?);
            }
        }
        self.tiers.reload()?;
        Ok(removed)
    }
}

fn require_empty(view: &Placement, tier: &TierBody) -> Result<()> {
    let packs = view.packs().filter(|pack| view.places(*pack).iter().any(|(place, _)| *place == tier.tier)).count();
    match packs {
        0 => Ok(()),
        _ => Err(Error::new(
            ErrorKind::Busy,
            format!(
                "{} still lie in tier {}; they go when no snapshot needs them (forget and gc), or to a colder tier",
                counted(packs as u64, "pack"),
                tier.name
            ),
        )),
    }
}

/// The plaintext of a tier that keeps the rules.
fn checked(tier: &TierBody) -> Result<Vec<u8>> {
    let plaintext = PlacementBody::Tier(Box::new(tier.clone())).encode();
    PlacementBody::decode(&plaintext).map_err(|error| error.with_kind(ErrorKind::Invalid).context(format!("tier `{}`", tier.name)))?;
    Ok(plaintext)
}

/// Data packs of a place.
fn packs_of(place: &dyn Backend) -> Result<Vec<crate::backend::ObjectInfo>> {
    place.list_sorted(ObjectKind::DataPack)
}

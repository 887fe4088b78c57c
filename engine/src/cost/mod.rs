//! What storage costs: prices and sizes become money. Pure computation, with integers only.
//!
//! Money is counted in millionths of the currency, prices in billionths, and what is shared out is rounded so that the parts add up to the whole
//! ([`Ledger`]). Where something is estimated, [`forecast`] says by what model.

mod forecast;
mod money;
#[cfg(test)]
mod tests;

pub use forecast::{Forecast, Lifecycle, Month, forecast};
pub use money::{Ledger, Money, Rate};

use crate::check::{NewestShare, Shares, TierShare, Unneeded};
use crate::runtime::Timestamp;
use crate::tiers::{DAY_S, TierBody, seconds};
use std::collections::BTreeMap;

/// Days of a month, by which prices a month are meant.
pub const MONTH_DAYS: u64 = 30;

/// What one tier costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TierPrices {
    /// One gigabyte for a month.
    pub storage: Rate,
    /// A thousand requests that write or list.
    pub put: Rate,
    /// A thousand requests that read.
    pub get: Rate,
    /// One gigabyte that is read back.
    pub retrieval: Rate,
    /// One gigabyte that leaves the store.
    pub egress: Rate,
    /// What is deleted earlier is paid for so many days.
    pub minimum_days: u32,
}

/// What a store costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prices {
    /// How the currency is called.
    pub currency: String,
    /// Bytes of a gigabyte: 1,000,000,000 or 1,073,741,824.
    pub gigabyte: u64,
    /// The tiers, warmest first, with their names.
    pub tiers: Vec<(String, TierPrices)>,
}

impl Prices {
    /// What so many bytes cost at a rate for a gigabyte, exactly, in units for [`Ledger::take`] with [`Prices::per_gigabyte`].
    fn exact(bytes: u64, rate: Rate) -> u128 {
        u128::from(bytes) * u128::from(rate.billionths())
    }

    /// What divides [`Prices::exact`] into millionths.
    fn per_gigabyte(&self) -> u128 {
        u128::from(self.gigabyte.max(1)) * 1_000
    }

    /// What bytes cost at a rate for a gigabyte.
    pub fn of_bytes(&self, bytes: u64, rate: Rate) -> Money {
        Ledger::default().take(Self::exact(bytes, rate), self.per_gigabyte())
    }

    /// What requests cost at a rate for a thousand.
    pub fn of_requests(requests: u64, rate: Rate) -> Money {
        Ledger::default().take(u128::from(requests) * u128::from(rate.billionths()), 1_000_000)
    }

    /// The same for a repository with these tiers, by [`crate::tiers::TierMap::of`]: each has the prices that stand here under its name, behind the first
    /// ones, which are those of the warm place; otherwise those that it was made with, of which the cheapest way to thaw is part of reading. What is
    /// left of the prices here comes after them.
    #[must_use]
    pub fn for_tiers(&self, tiers: &[&TierBody]) -> Self {
        let mut left = self.tiers.clone();
        let mut all: Vec<_> = left.drain(..left.len().min(1)).collect();
        for tier in tiers {
            let named = left.iter().position(|(name, _)| *name == tier.name);
            all.push(named.map_or_else(|| (tier.name.clone(), self.own_prices(tier)), |at| left.remove(at)));
        }
        all.append(&mut left);
        Self { tiers: all, ..self.clone() }
    }

    /// Prices that a tier was made with: millionths for 10^12 bytes, or for a million requests, are billionths for 10^9 bytes, or for a thousand.
    fn own_prices(&self, tier: &TierBody) -> TierPrices {
        let gigabytes = |price: u64| {
            let billionths = u128::from(price) * u128::from(self.gigabyte) / 1_000_000_000;
            Rate::from_billionths(u64::try_from(billionths).unwrap_or(u64::MAX))
        };
        let thaw = tier.classes.iter().map(|class| class.bytes_price).min().unwrap_or(0);
        TierPrices {
            storage: gigabytes(tier.prices.storage),
            put: Rate::from_billionths(tier.prices.writes),
            get: Rate::from_billionths(tier.prices.reads),
            retrieval: gigabytes(tier.prices.retrieval.saturating_add(thaw)),
            egress: Rate::default(),
            minimum_days: tier.minimum_days,
        }
    }

    /// What is still to be paid for a pack that is deleted now, as [`Prices::exact`]; all of the least time where nothing tells when it came.
    fn early_deletion(pack: &Unneeded, tier: &TierPrices, now: Timestamp) -> u128 {
        let least = u64::from(tier.minimum_days) * DAY_S;
        let left = pack.since.map_or(least, |since| since.saturating_add(least).saturating_sub(seconds(now)).min(least));
        Self::exact(pack.bytes, tier.storage) * u128::from(left) / u128::from(MONTH_DAYS * DAY_S)
    }

    /// What reading so many bytes back once costs, and bringing them out of the store.
    fn read_back(&self, bytes: u64, tier: &TierPrices) -> Money {
        self.of_bytes(bytes, tier.retrieval) + self.of_bytes(bytes, tier.egress)
    }

    /// The prices of a tier; those of the coldest that is priced where it has none.
    pub fn tier(&self, tier: usize) -> Option<&(String, TierPrices)> {
        self.tiers.get(tier).or_else(|| self.tiers.last())
    }
}

/// What one tier costs a month.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierBill {
    /// What it stores.
    pub share: TierShare,
    /// What falls to each series, in the order of [`Shares::series`].
    pub series: Vec<Money>,
    /// What is paid for what no snapshot needs, and the packs' tables.
    pub rest: Money,
    /// What is paid for all other objects.
    pub others: Money,
    /// All of it, which is the sum of the others.
    pub total: Money,
    /// What reading all of its packs back once costs, as a restore of everything would.
    pub read_back: Money,
    /// What deleting the packs that nobody needs would cost now, because they are paid for a least time.
    pub early_deletion: Money,
    /// Whether it costs just that. It may cost less where nothing tells when packs came: in the warm place.
    pub early_deletion_is_exact: bool,
}

/// What a repository costs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bill {
    /// Storage of each tier, for a month.
    pub tiers: BTreeMap<usize, TierBill>,
    /// Storage of all of them, for a month.
    pub storage: Money,
    /// Requests that backups of the last month made, at least.
    pub puts: u64,
    /// What they cost.
    pub requests: Money,
    /// What restoring the newest snapshot of each series costs: bytes read back and out of the store, and requests.
    pub restore: Vec<Money>,
}

/// Objects that a backup writes beside its packs: session, a beat, refs, meta, snapshot, end.
const OBJECTS_OF_A_BACKUP: u64 = 6;

/// Makes out the bill. `pack_size` tells how many packs new bytes fill, `now` which backups are of the last month.
pub fn bill(shares: &Shares, prices: &Prices, pack_size: u64, now: Timestamp) -> Bill {
    let mut bill = Bill::default();
    for (number, share) in &shares.tiers {
        let Some((_, tier)) = prices.tier(*number) else { continue };
        let mut ledger = Ledger::default();
        let mut take = |bytes: u64| ledger.take(Prices::exact(bytes, tier.storage), prices.per_gigabyte());
        let series: Vec<_> = share.series.iter().map(|bytes| take(*bytes)).collect();
        let (rest, others) = (take(share.rest), take(share.others));
        let total = series.iter().copied().sum::<Money>() + rest + others;
        let early_deletion = share.unneeded.iter().map(|pack| Prices::early_deletion(pack, tier, now)).sum::<u128>();
        let early_deletion = Ledger::default().take(early_deletion, prices.per_gigabyte());
        let early_deletion_is_exact = tier.minimum_days == 0 || share.unneeded.iter().all(|pack| pack.since.is_some());
        bill.storage += total;
        let read_back = prices.read_back(share.total() - share.others, tier);
        let share = share.clone();
        let of_tier = TierBill { share, series, rest, others, total, read_back, early_deletion, early_deletion_is_exact };
        bill.tiers.insert(*number, of_tier);
    }
    let month_ago = now.seconds.saturating_sub((MONTH_DAYS * DAY_S) as i64);
    let of_month = shares.series.iter().flat_map(|series| &series.snapshots).filter(|added| added.time.seconds > month_ago);
    bill.puts = of_month.map(|added| OBJECTS_OF_A_BACKUP + added.bytes.div_ceil(pack_size.max(1))).sum();
    let warm = prices.tier(0).map(|(_, tier)| *tier).unwrap_or_default();
    bill.requests = Prices::of_requests(bill.puts, warm.put);
    let restore = |series: &crate::check::SeriesShare| {
        let of_tier = |(number, newest): (&usize, &NewestShare)| {
            let (_, tier) = prices.tier(*number)?;
            // Packs are read in a few pieces each.
            Some(prices.read_back(newest.bytes, tier) + Prices::of_requests(newest.packs * 4, tier.get))
        };
        series.newest.iter().filter_map(of_tier).sum()
    };
    bill.restore = shares.series.iter().map(restore).collect();
    bill
}

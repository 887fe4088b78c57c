//! What was counted, as money.

use super::places::{Counted, Early, Requests};
use super::{Outcome, PACK_SIZE};
use icecore::cost::{MONTH_DAYS, Money, Prices, Rate, TierPrices};

/// Money is that of so many times the bytes: a mebibyte stands for a tebibyte.
pub const TIMES: u64 = 1 << 20;
/// Packs are so many times smaller than by default.
const SHRUNK: u64 = (64 << 20) / PACK_SIZE as u64;

/// What it costs, by what it is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Costs {
    /// What lies there, day by day.
    pub storage: Money,
    /// Requests that write, list and read.
    pub requests: Money,
    /// Bytes that were read back from where that costs.
    pub retrieval: Money,
    /// What was deleted before its minimum days.
    pub early: Money,
}

impl Costs {
    /// All of it.
    pub fn total(&self) -> Money {
        self.storage + self.requests + self.retrieval + self.early
    }

    /// Of a run. Prices are of [`magnified`] bytes.
    pub fn of(outcome: &Outcome, prices: &Prices) -> Self {
        let mut costs = Self::default();
        for (number, counted) in outcome.places.iter().enumerate() {
            let tier = tier(prices, number);
            costs.storage += storage(counted.data_days + counted.others_days, tier.storage, prices);
            costs.requests += requests(counted.requests, &tier);
            costs.early += early(counted.early, &tier, prices);
        }
        costs
    }

    /// Of a model of a repository with a hot and a cold part, which has the packs of a run that kept all of them warm: lists are in both parts, packs of
    /// data come into the cold one, and what is repacked is read from there.
    pub fn of_hot_and_cold(outcome: &Outcome, prices: &Prices) -> Self {
        let [hot, cold] = [0, 1].map(|number| tier(prices, number));
        let Some(Counted { data_days, others_days, requests: made, early_if_cold, .. }) = outcome.places.first() else {
            return Self::default();
        };
        let of_hot = Requests { of_data: [0; 2], ..*made };
        let of_cold = Requests {
            of_data: [made.of_data[0], outcome.repacked / PACK_SIZE as u64],
            of_lists: [made.of_lists[0], 0],
            of_others: [made.of_others[0], 0],
        };
        Self {
            storage: storage(*others_days, hot.storage, prices) + storage(data_days + others_days, cold.storage, prices),
            requests: requests(of_hot, &hot) + requests(of_cold, &cold),
            retrieval: prices.of_bytes(outcome.repacked, cold.retrieval),
            early: early(*early_if_cold, &cold, prices),
        }
    }
}

/// Reading back so many bytes of each place.
pub fn reading(bytes: &[u64], prices: &Prices) -> Money {
    bytes.iter().enumerate().map(|(number, bytes)| prices.of_bytes(*bytes, tier(prices, number).retrieval)).sum()
}

/// Prices by which bytes cost as much as [`TIMES`] so many.
#[must_use]
pub fn magnified(prices: &Prices) -> Prices {
    let times = |rate: Rate| Rate::from_billionths(rate.billionths().saturating_mul(TIMES));
    let tier = |tier: &TierPrices| TierPrices {
        storage: times(tier.storage),
        retrieval: times(tier.retrieval),
        egress: times(tier.egress),
        ..*tier
    };
    Prices { tiers: prices.tiers.iter().map(|(name, prices)| (name.clone(), tier(prices))).collect(), ..prices.clone() }
}

pub(super) fn tier(prices: &Prices, number: usize) -> TierPrices {
    prices.tiers.get(number).map(|(_, tier)| *tier).unwrap_or_default()
}

fn storage(byte_days: u128, rate: Rate, prices: &Prices) -> Money {
    let billionths = byte_days * u128::from(rate.billionths()) / u128::from(MONTH_DAYS * prices.gigabyte.max(1));
    Money::from_millionths(u64::try_from(billionths / 1_000).unwrap_or(u64::MAX))
}

pub(super) fn early(early: Early, tier: &TierPrices, prices: &Prices) -> Money {
    storage(early.byte_days, tier.storage, prices)
}

/// There are more packs by as much as there are more bytes, and fewer since they are larger; other objects are as many.
fn requests(made: Requests, tier: &TierPrices) -> Money {
    let of = |which: usize, rate: Rate| {
        let packs = (made.of_data[which] + made.of_lists[which]).saturating_mul(TIMES) / SHRUNK;
        Prices::of_requests(packs + made.of_others[which], rate)
    };
    of(0, tier.put) + of(1, tier.get)
}

//! How much there will be, and what it will cost, if things go on as they did.
//!
//! The model, for each series: backups go on at the average distance of its snapshots and each adds, on the average, what those after the first added. What is kept
//! takes what the newest snapshot needs, and for each older one that is kept what was added since the one before it that is kept, but never more than
//! the newest needs. Scaled, so that it gives for today what is stored today. A series whose newest snapshot is older than three distances adds nothing any more.
//! What is in no pack and what falls to no series stays as it is, and where it is.

use super::{Ledger, MONTH_DAYS, Money, Prices};
use crate::check::{Added, SeriesShare, Shares};
use crate::id::SnapshotId;
use crate::retention::{Calendar, Candidate, Policy, decide};
use crate::runtime::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// Snapshots that are made up for one series at most; where more would come, they count as further apart.
const MADE_UP_MAX: i64 = 4_000;

/// What becomes of snapshots with time.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Lifecycle {
    /// Which are kept; without rules all of them.
    pub policy: Policy,
    /// What only snapshots need that are older lies in `cold_tier`, and all else is warm; without it, what is cold stays where it is, and what comes is warm.
    pub cold_after: Option<Duration>,
    /// Place of that tier in the prices; 1 unless it is said.
    pub cold_tier: usize,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { policy: Policy::default(), cold_after: None, cold_tier: 1 }
    }
}

/// A month ahead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Month {
    /// How many months ahead its beginning lies; the first one is today.
    pub number: u64,
    /// Snapshots that are kept then.
    pub snapshots: u64,
    /// Bytes in each tier.
    pub bytes: Vec<u64>,
    /// What storing them for this month costs.
    pub storage: Money,
    /// What is paid for a least time although it was deleted in the month before.
    pub early_deletion: Money,
}

/// The months ahead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forecast {
    /// The months, from today.
    pub months: Vec<Month>,
    /// Series that add nothing any more, or have too few snapshots to tell.
    pub series_at_rest: u64,
}

/// A snapshot, made or made up.
#[derive(Debug, Clone, Copy)]
struct Point {
    seconds: i64,
    added: u64,
}

/// How a series goes on.
struct Course {
    points: Vec<Point>,
    newest_bytes: u64,
    /// What it takes today, as shares tell.
    bytes: u64,
    /// What it takes today, as the model tells.
    modelled: u64,
    is_at_rest: bool,
}

/// Tells `months` months ahead, of what is stored now and how it came.
pub fn forecast(shares: &Shares, prices: &Prices, lifecycle: &Lifecycle, months: u64, now: Timestamp, calendar: &Calendar<'_>) -> Forecast {
    let end = now.seconds.saturating_add_unsigned(months * MONTH_DAYS * 86_400);
    let bytes_of = |number: usize| shares.tiers.values().filter_map(|tier| tier.series.get(number)).sum::<u64>();
    let courses: Vec<_> = shares.series.iter().enumerate().map(|(number, series)| Course::of(series, bytes_of(number), now, end)).collect();
    let of_shares = shares.tiers.keys().max().map_or(1, |coldest| coldest + 1);
    let tiers = if lifecycle.cold_after.is_some() { of_shares.max(lifecycle.cold_tier + 1) } else { of_shares };
    let mut forecast = Forecast { series_at_rest: courses.iter().filter(|course| course.is_at_rest).count() as u64, ..Forecast::default() };
    let mut before: Vec<BTreeSet<usize>> = Vec::new();
    for number in 0..=months {
        let at = now.seconds.saturating_add_unsigned(number * MONTH_DAYS * 86_400);
        let still = (0..tiers).map(|tier| shares.tiers.get(&tier).map_or(0, |share| share.rest + share.others));
        let mut month = Month { number, bytes: still.collect(), ..Month::default() };
        let cold_before = lifecycle.cold_after.map(|after| at.saturating_sub_unsigned(after.as_secs()));
        let kept: Vec<_> = courses.iter().map(|course| course.kept(&lifecycle.policy, at, calendar)).collect();
        for (series, (course, kept)) in courses.iter().zip(&kept).enumerate() {
            month.snapshots += kept.len() as u64;
            let (warm, cold) = course.bytes_of(kept, cold_before);
            let (mut warm, cold) = (course.scaled(warm), course.scaled(cold));
            if lifecycle.cold_after.is_some() {
                month.bytes[lifecycle.cold_tier] += cold;
            } else {
                for tier in (1..tiers).rev() {
                    let stays = shares.tiers.get(&tier).and_then(|share| share.series.get(series)).map_or(0, |bytes| warm.min(*bytes));
                    month.bytes[tier] += stays;
                    warm -= stays;
                }
            }
            month.bytes[0] += warm;
        }
        let mut ledger = Ledger::default();
        for (tier, bytes) in month.bytes.iter().enumerate() {
            let rate = prices.tier(tier).map(|(_, tier)| tier.storage).unwrap_or_default();
            month.storage += ledger.take(Prices::exact(*bytes, rate), prices.per_gigabyte());
        }
        for ((course, kept), before) in courses.iter().zip(&kept).zip(&before) {
            month.early_deletion += course.early_deletion(before, kept, at, lifecycle, prices);
        }
        before = kept;
        forecast.months.push(month);
    }
    forecast
}

impl Course {
    fn of(series: &SeriesShare, bytes: u64, now: Timestamp, end: i64) -> Self {
        let made: Vec<_> = series.snapshots.iter().map(|Added { time, bytes }| Point { seconds: time.seconds, added: *bytes }).collect();
        let mut course = Self { points: made, newest_bytes: series.newest_bytes(), bytes, modelled: 0, is_at_rest: true };
        course.modelled = course.bytes_of(&(0..course.points.len()).collect(), None).0;
        let (Some(first), Some(last)) = (course.points.first().copied(), course.points.last().copied()) else { return course };
        let count = course.points.len() as i64 - 1;
        let distance = if count > 0 { last.seconds.saturating_sub(first.seconds) / count } else { 0 };
        if distance <= 0 || now.seconds.saturating_sub(last.seconds) > distance.saturating_mul(3) {
            return course;
        }
        course.is_at_rest = false;
        let sum: u128 = course.points.iter().skip(1).map(|point| u128::from(point.added)).sum();
        // Bound: an average of numbers of 64 bits.
        let average = (sum / count as u128) as u64;
        let step = distance.max(end.saturating_sub(last.seconds) / MADE_UP_MAX);
        let added = (u128::from(average) * step as u128 / distance as u128).min(u128::from(u64::MAX)) as u64;
        let mut at = last.seconds.saturating_add(step);
        while at <= end {
            course.points.push(Point { seconds: at, added });
            at = at.saturating_add(step);
        }
        course
    }

    /// The points that are kept at a time, of those that are there by then.
    fn kept(&self, policy: &Policy, at: i64, calendar: &Calendar<'_>) -> BTreeSet<usize> {
        let there = self.points.iter().enumerate().filter(|(_, point)| point.seconds <= at);
        let candidate = |(number, point): (usize, &Point)| {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&(number as u64).to_be_bytes());
            Candidate {
                id: SnapshotId(id),
                series: [0; 16],
                signer: [0; 32],
                sequence: number as u64 + 1,
                time: Timestamp { seconds: point.seconds, nanoseconds: 0 },
                first_seen: None,
                not_there: None,
                may_only_back_up: false,
                tags: Vec::new(),
                is_suspect: false,
                held: None,
            }
        };
        let candidates: Vec<_> = there.map(candidate).collect();
        let verdicts = decide(&candidates, policy, Timestamp { seconds: at, nanoseconds: 0 }, calendar);
        verdicts.iter().enumerate().filter(|(_, verdict)| verdict.is_keep()).map(|(number, _)| number).collect()
    }

    /// What kept points take, warm and cold, as the model has it.
    fn bytes_of(&self, kept: &BTreeSet<usize>, cold_before: Option<i64>) -> (u64, u64) {
        let Some(newest) = kept.last() else { return (0, 0) };
        let (mut warm, mut cold) = (self.newest_bytes, 0_u64);
        for (older, added) in self.gaps(kept) {
            // What came after the older one replaced what it needs.
            let is_cold = older != *newest && cold_before.is_some_and(|before| self.points[older].seconds < before);
            let side = if is_cold { &mut cold } else { &mut warm };
            *side = side.saturating_add(added);
        }
        (warm, cold)
    }

    /// Every kept point but the newest, with what it alone needs.
    fn gaps<'a>(&'a self, kept: &'a BTreeSet<usize>) -> impl Iterator<Item = (usize, u64)> + 'a {
        kept.iter().zip(kept.iter().skip(1)).map(|(older, newer)| {
            let added = self.points[older + 1..=*newer].iter().fold(0_u64, |sum, point| sum.saturating_add(point.added));
            (*older, added.min(self.newest_bytes))
        })
    }

    fn scaled(&self, modelled: u64) -> u64 {
        let scaled = u128::from(modelled) * u128::from(self.bytes) / u128::from(self.modelled.max(1));
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }

    /// What is still to be paid for what was cold and is kept no more.
    fn early_deletion(&self, before: &BTreeSet<usize>, kept: &BTreeSet<usize>, at: i64, lifecycle: &Lifecycle, prices: &Prices) -> Money {
        let (Some(after), Some((_, tier))) = (lifecycle.cold_after, prices.tier(lifecycle.cold_tier)) else { return Money::default() };
        let least = i64::from(tier.minimum_days) * 86_400;
        let mut ledger = Ledger::default();
        let gone = self.gaps(before).filter(|(point, _)| !kept.contains(point));
        gone.map(|(point, bytes)| {
            let cold_for = at.saturating_sub(self.points[point].seconds).saturating_sub_unsigned(after.as_secs());
            let left_days = if (0..least).contains(&cold_for) { (least - cold_for) / 86_400 } else { 0 };
            let exact = Prices::exact(self.scaled(bytes), tier.storage) * left_days as u128 / u128::from(MONTH_DAYS);
            ledger.take(exact, prices.per_gigabyte())
        })
        .sum()
    }
}

//! Sums that match, and forecasts whose answers are known.

use super::*;
use crate::check::{Added, NewestShare, SeriesShare};
use crate::retention::{Civil, Policy};
use crate::runtime::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;
const GB: u64 = 1_000_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanoseconds: 0 }
}

fn rate(text: &str) -> Rate {
    Rate::parse(text).unwrap()
}

fn tier(storage: &str, minimum_days: u32) -> TierPrices {
    TierPrices {
        storage: rate(storage),
        put: rate("0.005"),
        get: rate("0.0004"),
        retrieval: rate("0.01"),
        egress: rate("0.09"),
        minimum_days,
    }
}

fn prices() -> Prices {
    let tiers = vec![("warm".into(), tier("0.023", 0)), ("cold".into(), tier("0.001", 180))];
    Prices { currency: "USD".into(), gigabyte: GB, tiers }
}

/// One series whose newest snapshot needs all of `bytes`, backed up daily; each backup but the first added `added`.
fn daily(days: i64, bytes: u64, newest_bytes: u64, added: u64) -> Shares {
    let snapshots =
        (0..days).map(|day| Added { time: at(NOW - (days - 1 - day) * DAY), bytes: if day == 0 { newest_bytes } else { added } });
    let series = SeriesShare {
        token: [1; 16],
        name: None,
        snapshots: snapshots.collect(),
        newest: BTreeMap::from([(0, NewestShare { bytes: newest_bytes, packs: 3 })]),
    };
    let share = TierShare { series: vec![bytes], rest: 7, unneeded: Vec::new(), others: 5, objects: 9 };
    Shares { series: vec![series], tiers: BTreeMap::from([(0, share)]) }
}

fn calendar(time: Timestamp) -> Civil {
    let day = time.seconds.div_euclid(DAY);
    Civil {
        year: (day / 10_000) as i32,
        month: (day / 100 % 100) as u8,
        day: (day % 100) as u8,
        hour: 0,
        iso_week_year: (day / 7) as i32,
        iso_week: 1,
    }
}

#[test]
fn rates_are_read_exactly_or_not_at_all() {
    assert_eq!(["0.023", "5", "0.000000001", "12.5"].map(|text| rate(text).billionths()), [23_000_000, 5_000_000_000, 1, 12_500_000_000]);
    for wrong in ["", ".5", "5.", "-1", "1e3", "0.0000000001", "1,5", "99999999999999999999", " 1", "+1"] {
        assert_eq!(Rate::parse(wrong), None, "{wrong}");
    }
    assert_eq!(Money::from_millionths(1_234_500).to_string(), "1.234500");
}

#[test]
fn prices_are_of_gigabytes_and_thousands() {
    let prices = prices();
    assert_eq!(prices.of_bytes(100 * GB, rate("0.023")), Money::from_millionths(2_300_000));
    assert_eq!(Prices::of_requests(10_000, rate("0.005")), Money::from_millionths(50_000));
    assert_eq!(prices.of_bytes(u64::MAX, Rate::parse("9999999999").unwrap()).millionths(), u64::MAX);
}

proptest! {
    #[test]
    fn what_is_shared_out_adds_up(bytes in vec(0..1_u64 << 50, 1..30), rest in 0..1_u64 << 40, others in 0..1_u64 << 40, billionths in 0..1_u64 << 40) {
        let mut prices = prices();
        prices.tiers[0].1.storage = Rate::parse(&format!("{}.{:09}", billionths / 1_000_000_000, billionths % 1_000_000_000)).unwrap();
        let series = bytes.iter().map(|_| SeriesShare { token: [0; 16], name: None, snapshots: Vec::new(), newest: BTreeMap::new() });
        let share = TierShare { series: bytes.clone(), rest, others, ..TierShare::default() };
        let shares = Shares { series: series.collect(), tiers: BTreeMap::from([(0, share.clone())]) };
        let bill = bill(&shares, &prices, 1, at(NOW));
        let tier = &bill.tiers[&0];
        prop_assert_eq!(tier.series.iter().copied().sum::<Money>() + tier.rest + tier.others, tier.total);
        prop_assert_eq!(bill.storage, tier.total);
        // And it is what the whole costs, not what the rounded parts cost.
        prop_assert_eq!(tier.total, prices.of_bytes(share.total(), prices.tiers[0].1.storage));
    }
}

#[test]
fn a_bill_has_requests_restores_and_early_deletions() {
    let mut shares = daily(40, 100 * GB, 60 * GB, GB);
    let unneeded = |since: Option<i64>| Unneeded { bytes: 10 * GB, since: since.map(|since| since as u64) };
    shares.tiers.get_mut(&0).unwrap().unneeded = vec![unneeded(None)];
    // 60 and 90 days ago, ahead of this clock, and long ago.
    let times = [NOW - 60 * DAY, NOW - 90 * DAY, NOW + DAY, 5];
    let cold = TierShare { series: vec![0], unneeded: times.map(|time| unneeded(Some(time))).into(), ..TierShare::default() };
    shares.tiers.insert(1, cold);
    let mut prices = prices();
    prices.tiers[0].1.minimum_days = 90;
    let bill = bill(&shares, &prices, 64 << 20, at(NOW));
    // 30 backups of the last month, each of six objects and 15 packs.
    assert_eq!(bill.puts, 30 * (6 + GB.div_ceil(64 << 20)));
    assert_eq!(bill.restore, [prices.of_bytes(60 * GB, rate("0.1")) + Prices::of_requests(12, rate("0.0004"))]);
    let early = |tier: usize| (bill.tiers[&tier].early_deletion, bill.tiers[&tier].early_deletion_is_exact);
    assert_eq!(early(0), (prices.of_bytes(30 * GB, rate("0.023")), false));
    // Of 180 days 120, 90, all and none are left: 13 months of 10 GB.
    assert_eq!(early(1), (prices.of_bytes(130 * GB, rate("0.001")), true));
}

#[test]
fn a_forecast_goes_on_as_it_was() {
    // The model gives what is stored: 50 GB and 20 times 1 GB.
    let shares = daily(21, 70 * GB, 50 * GB, GB);
    let forecast = forecast(&shares, &prices(), &Lifecycle::default(), 12, at(NOW), &calendar);
    let bytes: Vec<_> = forecast.months.iter().map(|month| month.bytes[0]).collect();
    assert_eq!(bytes, (0..=12).map(|month| (70 + 30 * month) * GB + 12).collect::<Vec<_>>());
    assert_eq!(forecast.months[12].snapshots, 21 + 360);
    assert_eq!(forecast.months[1].storage, prices().of_bytes(100 * GB + 12, rate("0.023")));
}

#[test]
fn what_is_at_rest_adds_nothing() {
    let mut shares = daily(21, 70 * GB, 50 * GB, GB);
    shares.series[0].snapshots.iter_mut().for_each(|added| added.time.seconds -= 10 * DAY);
    for shares in [shares, daily(1, 50 * GB, 50 * GB, 0), daily(0, 0, 0, 0)] {
        let forecast = forecast(&shares, &prices(), &Lifecycle::default(), 3, at(NOW), &calendar);
        assert_eq!(forecast.series_at_rest, 1);
        assert!(forecast.months.iter().all(|month| month.bytes == forecast.months[0].bytes));
    }
}

#[test]
fn rules_bound_what_is_kept() {
    let shares = daily(21, 70 * GB, 50 * GB, GB);
    let lifecycle = Lifecycle { policy: Policy { keep_daily: 10, ..Policy::default() }, ..Lifecycle::default() };
    let forecast = forecast(&shares, &prices(), &lifecycle, 6, at(NOW), &calendar);
    assert!(forecast.months.iter().all(|month| month.snapshots == 10 && month.bytes == [59 * GB + 12]), "{:?}", forecast.months);
}

#[test]
fn what_only_old_snapshots_need_grows_cold_and_is_paid_for_its_least_time() {
    let shares = daily(61, 110 * GB, 50 * GB, GB);
    let lifecycle = |keep_within| Lifecycle {
        policy: Policy { keep_within, ..Policy::default() },
        cold_after: Some(Duration::from_secs(30 * DAY as u64)),
        ..Lifecycle::default()
    };
    let all = forecast(&shares, &prices(), &lifecycle(None), 2, at(NOW), &calendar);
    // 30 of 61 are older than 30 days, and each of them alone needs one GB.
    assert_eq!(all.months[0].bytes, [80 * GB + 12, 30 * GB]);
    assert_eq!(all.months[2].bytes, [80 * GB + 12, 90 * GB]);
    assert!(all.months.iter().all(|month| month.early_deletion == Money::default()));
    let within = forecast(&shares, &prices(), &lifecycle(Some(Duration::from_secs(60 * DAY as u64))), 2, at(NOW), &calendar);
    assert_eq!(within.months[1].bytes, [80 * GB + 12, 30 * GB]);
    // Thirty days' worth went after 31 to 60 days in the cold, of 180 that are paid for.
    assert!(
        within.months[1].early_deletion > Money::default()
            && within.months[1].early_deletion < prices().of_bytes(30 * GB * 6, rate("0.001"))
    );
}

#[test]
fn tiers_have_the_prices_of_their_name_or_their_own() {
    let mut own = TierBody::new("shelf", "somewhere");
    own.prices = crate::tiers::Prices { storage: 4_000_000, retrieval: 1_000_000, writes: 5_000_000, reads: 400_000 };
    own.minimum_days = 30;
    own.classes = [7, 3]
        .map(|price| crate::tiers::ThawClass { name: "x".into(), seconds: 1, bytes_price: price * 1_000_000, requests_price: 0 })
        .into();
    let named = TierBody::new("cold", "elsewhere");
    let all = prices().for_tiers(&[&own, &named]);
    assert_eq!(all.tiers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["warm", "shelf", "cold"]);
    assert_eq!(all.tiers[2], prices().tiers[1]);
    // 4 units for a terabyte are 0.004 for a gigabyte; reading costs what the cheapest way to thaw costs, too.
    let (_, shelf) = &all.tiers[1];
    assert_eq!((shelf.storage, shelf.retrieval, shelf.put, shelf.get), (rate("0.004"), rate("0.004"), rate("0.005"), rate("0.0004")));
    assert_eq!(shelf.minimum_days, 30);
    let binary = Prices { gigabyte: 1 << 30, ..prices() }.for_tiers(&[&own]);
    assert_eq!(binary.tiers[1].1.storage, rate("0.004294967"));
    assert_eq!(prices().for_tiers(&[]), prices());
}

#[test]
fn what_lies_cold_is_billed_and_read_there_and_stays_there() {
    let mut shares = daily(21, 40 * GB, 50 * GB, GB);
    let cold = TierShare { series: vec![30 * GB], rest: 2 * GB, objects: 3, ..TierShare::default() };
    shares.tiers.insert(1, cold);
    shares.series[0].newest = BTreeMap::from([(0, NewestShare { bytes: 45 * GB, packs: 3 }), (1, NewestShare { bytes: 5 * GB, packs: 1 })]);
    let bill = bill(&shares, &prices(), 64 << 20, at(NOW));
    assert_eq!(bill.tiers[&1].total, prices().of_bytes(32 * GB, rate("0.001")));
    assert_eq!(bill.storage, bill.tiers[&0].total + bill.tiers[&1].total);
    assert_eq!(bill.tiers[&1].read_back, prices().of_bytes(32 * GB, rate("0.1")));
    assert_eq!(
        bill.restore,
        [prices().of_bytes(50 * GB, rate("0.1")) + Prices::of_requests(12, rate("0.0004")) + Prices::of_requests(4, rate("0.0004"))]
    );
    // Nobody moves anything: what comes is warm.
    let as_now = forecast(&shares, &prices(), &Lifecycle::default(), 2, at(NOW), &calendar);
    let bytes: Vec<_> = as_now.months.iter().map(|month| (month.bytes[0], month.bytes[1])).collect();
    assert_eq!(bytes, (0..=2).map(|month| ((40 + 30 * month) * GB + 12, 32 * GB)).collect::<Vec<_>>());
    assert_eq!(as_now.months[0].storage, prices().of_bytes(40 * GB + 12, rate("0.023")) + prices().of_bytes(32 * GB, rate("0.001")));
}

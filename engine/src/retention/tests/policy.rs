//! What a policy keeps: tables over calendars, and what holds whatever comes.

use crate::id::SnapshotId;
use crate::retention::{Candidate, Civil, DropReason, KeepReason, Period, Policy, Verdict, decide};
use crate::runtime::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::Duration;

const NOW: Timestamp = Timestamp { seconds: 1_900_000_000, nanoseconds: 0 };
/// Central Europe: one hour more from the last Sunday of March to that of October.
const BERLIN: &str = "CET-1CEST,M3.5.0,M10.5.0/3";

/// Series, signer, sequence, time, first sight, tag and whether suspect, as numbers.
type Facts = (u8, u8, u64, i64, Option<i64>, u8, u8);

/// What a clock on the wall of a zone shows.
fn civil(zone: &TimeZone, time: Timestamp) -> Civil {
    let zoned = jiff::Timestamp::from_second(time.seconds).unwrap().to_zoned_datetime(zone.clone());
    let week = zoned.date().iso_week_date();
    Civil {
        year: zoned.year().into(),
        month: zoned.month() as u8,
        day: zoned.day() as u8,
        hour: zoned.hour() as u8,
        iso_week_year: week.year().into(),
        iso_week: week.week() as u8,
    }
}

fn decide_in(zone: &str, candidates: &[Candidate], policy: &Policy) -> Vec<Verdict> {
    let zone = TimeZone::posix(zone).unwrap();
    decide(candidates, policy, NOW, &|time| civil(&zone, time))
}

fn at(time: &str) -> Timestamp {
    Timestamp { seconds: time.parse::<jiff::Timestamp>().unwrap().as_second(), nanoseconds: 0 }
}

/// A snapshot of the one series and signer; its number also orders it.
fn made(number: u8, time: Timestamp) -> Candidate {
    let id = SnapshotId([number; 16]);
    Candidate {
        id,
        series: [0; 16],
        signer: [0; 32],
        sequence: number.into(),
        time,
        first_seen: None,
        not_there: None,
        may_only_back_up: false,
        tags: Vec::new(),
        is_suspect: false,
        held: None,
    }
}

fn keep(set: impl FnOnce(&mut Policy)) -> Policy {
    let mut policy = Policy::default();
    set(&mut policy);
    policy
}

/// The times of those that stay.
#[track_caller]
fn assert_kept(zone: &str, policy: &Policy, times: &[&str], kept: &[&str]) {
    let candidates: Vec<_> = times.iter().enumerate().map(|(number, time)| made(number as u8 + 1, at(time))).collect();
    let verdicts = decide_in(zone, &candidates, policy);
    let stay: Vec<_> = times.iter().zip(&verdicts).filter(|(_, verdict)| verdict.is_keep()).map(|(time, _)| *time).collect();
    assert_eq!(stay, kept, "{policy:?}: {verdicts:#?}");
}

#[test]
fn a_day_is_a_day_of_the_zone() {
    let times = ["2026-06-01T21:30:00Z", "2026-06-01T22:30:00Z", "2026-06-02T21:30:00Z", "2026-06-02T22:30:00Z"];
    let daily = keep(|policy| policy.keep_daily = 9);
    assert_kept("UTC0", &daily, &times, &[times[1], times[3]]);
    // Two hours ahead of UTC the days of summer end at 22:00.
    assert_kept(BERLIN, &daily, &times, &[times[0], times[2], times[3]]);
}

#[test]
fn days_of_23_and_25_hours_are_one_day_and_the_hour_that_comes_twice_is_one() {
    let daily = keep(|policy| policy.keep_daily = 2);
    // Clocks go forward: the 29th begins at 23:00 UTC and ends 23 hours later.
    let spring = ["2026-03-28T22:59:59Z", "2026-03-28T23:00:00Z", "2026-03-29T21:59:59Z"];
    assert_kept(BERLIN, &daily, &spring, &[spring[0], spring[2]]);
    // Clocks go back: the 25th begins at 22:00 UTC and ends 25 hours later.
    let autumn = ["2026-10-24T21:59:59Z", "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z", "2026-10-25T23:00:00Z"];
    assert_kept(BERLIN, &daily, &autumn, &[autumn[2], autumn[3]]);
    let hours = ["2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"];
    assert_kept(BERLIN, &keep(|policy| policy.keep_hourly = 9), &hours, &[hours[0], hours[2], hours[3]]);
    // Where clocks go back over midnight, two dates come twice. Each is one day all the same.
    let newfoundland = "NST3:30NDT,M4.1.0/0:01,M10.5.0/0:01";
    let midnight = ["2026-10-25T01:00:00Z", "2026-10-25T02:30:30Z", "2026-10-25T02:40:00Z", "2026-10-25T03:40:00Z"];
    assert_kept(newfoundland, &keep(|policy| policy.keep_daily = 9), &midnight, &midnight[2..]);
}

#[test]
fn weeks_are_iso_weeks_which_do_not_end_with_the_year() {
    let weekly = keep(|policy| policy.keep_weekly = 9);
    // 2025-W01 begins on Monday 2024-12-30.
    let times = ["2024-12-29T12:00:00Z", "2024-12-30T12:00:00Z", "2025-01-05T12:00:00Z", "2025-01-06T12:00:00Z"];
    assert_kept("UTC0", &weekly, &times, &[times[0], times[2], times[3]]);
    // 2026 has a week 53, up to Sunday 2027-01-03; the first week of 2026 is another one than the first of 2027.
    let times = ["2025-12-29T12:00:00Z", "2026-12-28T12:00:00Z", "2027-01-03T12:00:00Z", "2027-01-04T12:00:00Z"];
    assert_kept("UTC0", &weekly, &times, &[times[0], times[2], times[3]]);
    let yearly = keep(|policy| policy.keep_yearly = 9);
    assert_kept("UTC0", &yearly, &times, &[times[0], times[1], times[3]]);
}

#[test]
fn leap_days_and_years_before_1970_are_days_and_years() {
    let daily = keep(|policy| policy.keep_daily = 9);
    let times = ["2028-02-28T12:00:00Z", "2028-02-29T12:00:00Z", "2028-02-29T13:00:00Z", "2028-03-01T12:00:00Z"];
    assert_kept("UTC0", &daily, &times, &[times[0], times[2], times[3]]);
    assert_kept("UTC0", &keep(|policy| policy.keep_monthly = 9), &times, &times[2..]);
    let times = ["1967-05-01T00:00:00Z", "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"];
    assert_kept("UTC0", &keep(|policy| policy.keep_yearly = 2), &times, &times[1..]);
}

#[test]
fn rules_add_up_and_each_says_what_it_thinks() {
    let candidates: Vec<_> = [1_u8, 2, 3, 4, 5]
        .into_iter()
        .map(|day| {
            let time = at(&format!("2026-05-0{day}T12:00:00Z"));
            Candidate { tags: if day == 2 { vec!["release".into()] } else { Vec::new() }, ..made(day, time) }
        })
        .collect();
    let within = Duration::from_secs(86_400);
    let policy = keep(|policy| {
        policy.keep_last = 1;
        policy.keep_weekly = 2;
        policy.keep_within = Some(within);
        policy.keep_tags = vec!["release".into(), "other".into()];
    });
    let weekly = |place| KeepReason::Period { period: Period::Week, place, of: 2 };
    let taken = |by| DropReason::PeriodTaken { period: Period::Week, by: SnapshotId([by; 16]) };
    let last = DropReason::LastFull { of: 1 };
    let verdicts = decide_in("UTC0", &candidates, &policy);
    // Friday the 1st to Sunday the 3rd are one week, the 4th and 5th the next.
    assert_eq!(
        verdicts,
        [
            Verdict::Drop(vec![last, taken(3), DropReason::TooOld { within }, DropReason::Untagged]),
            Verdict::Keep(vec![KeepReason::Tag("release".into())]),
            Verdict::Keep(vec![weekly(2)]),
            Verdict::Keep(vec![KeepReason::Within { within }]),
            Verdict::Keep(vec![KeepReason::Newest, KeepReason::Last { place: 1, of: 1 }, weekly(1), KeepReason::Within { within }]),
        ]
    );
    assert_eq!(
        verdicts[0].reasons(),
        ["last: 1 newer", "weekly: 03030303 is newer", "more than 1 d before the newest", "no tag that is kept"]
    );
    assert_eq!(verdicts[4].reasons(), ["newest", "last 1 of 1", "weekly 1 of 2", "within 1 d of the newest"]);
}

#[test]
fn every_series_and_every_signer_counts_alone() {
    let time = |day: u8| at(&format!("2026-05-0{day}T12:00:00Z"));
    let mut candidates: Vec<_> = (1..=6).map(|day| made(day, time(day))).collect();
    candidates[0].series = [1; 16];
    candidates[1].series = [1; 16];
    candidates[2].signer = [1; 32];
    let kept: Vec<_> = decide_in("UTC0", &candidates, &keep(|policy| policy.keep_last = 1)).iter().map(Verdict::is_keep).collect();
    assert_eq!(kept, [false, true, true, false, false, true]);
}

#[test]
fn without_rules_all_is_kept_and_a_count_of_zero_is_no_rule() {
    let candidates = [made(1, at("2026-05-01T12:00:00Z")), made(2, at("2026-05-02T12:00:00Z"))];
    assert!(Policy::default().is_empty());
    assert_eq!(decide_in("UTC0", &candidates, &Policy::default()), vec![Verdict::Keep(vec![KeepReason::NoRule]); 2]);
    let none_is_tagged = keep(|policy| policy.keep_tags = vec!["x".into()]);
    assert_eq!(decide_in("UTC0", &candidates, &none_is_tagged)[1], Verdict::Keep(vec![KeepReason::Newest]));
}

#[test]
fn a_false_time_in_the_future_buries_nothing() {
    let good: Vec<_> = (1..=4).map(|day| made(day, at(&format!("2026-05-0{day}T12:00:00Z")))).collect();
    let policy = keep(|policy| policy.keep_last = 2);
    let alone = decide_in("UTC0", &good, &policy);
    let ahead = made(9, at("2099-01-01T00:00:00Z"));
    let beside = decide_in("UTC0", &[good.clone(), vec![ahead.clone()]].concat(), &policy);
    assert_eq!((&beside[..4], &beside[4]), (&alone[..], &Verdict::Keep(vec![KeepReason::Ahead])));
    // Once somebody noted when it was first seen, it counts as made then.
    let seen = Candidate { first_seen: Some(at("2026-05-02T18:00:00Z")), ..ahead };
    let beside = decide_in("UTC0", &[good.clone(), vec![seen]].concat(), &policy);
    assert_eq!((&beside[..4], &beside[4]), (&alone[..], &Verdict::Keep(vec![KeepReason::LastMade])));
    // A clock of ours that stands before everything drops nothing.
    let zone = TimeZone::UTC;
    let early = decide(&good, &policy, at("1970-01-01T00:00:00Z"), &|time| civil(&zone, time));
    assert_eq!(early, vec![Verdict::Keep(vec![KeepReason::Ahead]); 4]);
    // First seen after it was made, as is usual, its own time counts.
    let usual: Vec<_> = good.iter().map(|made| Candidate { first_seen: Some(NOW), ..made.clone() }).collect();
    assert_eq!(decide_in("UTC0", &usual, &policy), alone);
}

#[test]
fn suspects_and_what_a_client_with_a_slow_clock_made_last_stay() {
    let mut candidates: Vec<_> = (1..=5).map(|day| made(day, at(&format!("2026-05-0{day}T12:00:00Z")))).collect();
    candidates[4].time = at("1970-01-01T00:00:07Z");
    candidates[2].is_suspect = true;
    let verdicts = decide_in("UTC0", &candidates, &keep(|policy| policy.keep_last = 2));
    let last = |place| KeepReason::Last { place, of: 2 };
    assert_eq!(verdicts[1..3], [Verdict::Keep(vec![last(2)]), Verdict::Keep(vec![KeepReason::Suspect])]);
    assert_eq!(verdicts[3..], [Verdict::Keep(vec![KeepReason::Newest, last(1)]), Verdict::Keep(vec![KeepReason::LastMade])]);
    assert!(!verdicts[0].is_keep());
}

/// Whoever looks at a replica sees what was copied since as if it had been made at once.
#[test]
fn what_is_copied_late_keeps_its_days() {
    const DAY: i64 = 86_400;
    let seconds = |seconds: i64| Timestamp { seconds, nanoseconds: 0 };
    let late = |number: u8| Candidate {
        not_there: Some(NOW),
        first_seen: Some(NOW),
        may_only_back_up: true,
        ..made(number, seconds(NOW.seconds - DAY * i64::from(60 - number)))
    };
    let copied: Vec<_> = (0..40).map(late).collect();
    let alone: Vec<_> = copied.iter().map(|copied| Candidate { not_there: None, ..copied.clone() }).collect();
    let policies = [
        keep(|policy| policy.keep_last = 7),
        keep(|policy| policy.keep_daily = 7),
        keep(|policy| (policy.keep_daily, policy.keep_weekly, policy.keep_monthly) = (3, 4, 12)),
    ];
    for policy in &policies {
        assert_eq!(kept(&copied, policy), kept(&alone, policy), "{policy:?}");
    }
}

/// A thief makes as many snapshots as he likes, with whatever times and numbers, after the last look of whoever forgets.
#[test]
fn a_stolen_backup_key_buries_no_earlier_day() {
    const DAY: i64 = 86_400;
    let seconds = |seconds: i64| Timestamp { seconds, nanoseconds: 0 };
    let looked = NOW.seconds - DAY / 2;
    let by_thief = |number: u8, time: i64, not_there: i64, first_seen: i64| Candidate {
        not_there: Some(seconds(not_there)),
        first_seen: Some(seconds(first_seen)),
        may_only_back_up: true,
        ..made(number, seconds(time))
    };
    let good: Vec<_> =
        (1..=60).map(|n| (n, looked - 600 - DAY * i64::from(n))).map(|(n, at)| by_thief(100 - n, at, at - 50, at + 50)).collect();
    let honest = [by_thief(101, looked + 60, looked, NOW.seconds), by_thief(102, NOW.seconds - 5, looked, NOW.seconds)];
    let policies = [
        keep(|policy| policy.keep_last = 7),
        keep(|policy| policy.keep_daily = 7),
        keep(|policy| policy.keep_weekly = 4),
        keep(|policy| policy.keep_monthly = 2),
        keep(|policy| policy.keep_within = Some(Duration::from_secs(7 * 86_400))),
        keep(|policy| (policy.keep_last, policy.keep_daily, policy.keep_weekly) = (3, 5, 3)),
    ];
    for policy in &policies {
        let usual = decide_in("UTC0", &[&good[..], &honest].concat(), policy);
        assert!(usual[..good.len()].iter().filter(|verdict| verdict.is_keep()).count() >= 1, "{policy:?}");
        for seed in 0..40_u64 {
            let number = |turn: u64| {
                let hash = blake3::hash(&(seed << 32 | turn).to_le_bytes());
                i64::from(u32::from_le_bytes(hash.as_bytes()[..4].try_into().unwrap()))
            };
            let forged = (0..100).map(|turn| Candidate {
                sequence: number(turn) as u64 % 200,
                ..by_thief(120 + turn as u8, NOW.seconds - 60 * DAY + number(1000 + turn) % (120 * DAY), looked, NOW.seconds)
            });
            let all: Vec<_> = good.iter().cloned().chain(forged).collect();
            let verdicts = decide_in("UTC0", &all, policy);
            for (number, verdict) in verdicts[..good.len()].iter().enumerate() {
                assert!(verdict.is_keep() || !usual[number].is_keep(), "{policy:?}, seed {seed}: {:?}", good[number]);
            }
        }
    }
    // Without the second key nobody has a reason to: the newest few are what was asked for.
    let own: Vec<_> = (0..20).map(|n| made(n + 1, seconds(NOW.seconds - 60 * i64::from(n)))).collect();
    let of_thief: Vec<_> = own.iter().map(|made| Candidate { may_only_back_up: true, ..made.clone() }).collect();
    for many in [own, of_thief] {
        let verdicts = decide_in("UTC0", &many, &policies[0]);
        assert!((7..=8).contains(&verdicts.iter().filter(|verdict| verdict.is_keep()).count()));
    }
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    const SPAN: i64 = 3 * 366 * 86_400;
    let one = (0..2_u8, 0..2_u8, 0..20_u64, NOW.seconds - SPAN..NOW.seconds + SPAN / 8, proptest::option::of(0..SPAN), 0..4_u8, 0..10_u8);
    proptest::collection::vec(one, 0..60).prop_map(|many| {
        let numbered = many.into_iter().enumerate();
        let candidate = |(number, (series, signer, sequence, seconds, seen, tag, suspect)): (usize, Facts)| Candidate {
            id: SnapshotId([number as u8; 16]),
            series: [series; 16],
            signer: [signer; 32],
            sequence,
            time: Timestamp { seconds, nanoseconds: 0 },
            first_seen: seen.map(|seen| Timestamp { seconds: NOW.seconds - seen, nanoseconds: 0 }),
            not_there: None,
            may_only_back_up: false,
            tags: if tag == 0 { vec!["a".into()] } else { Vec::new() },
            is_suspect: suspect == 0,
            held: None,
        };
        numbered.map(candidate).collect()
    })
}

fn policies() -> impl Strategy<Value = Policy> {
    let counts = proptest::array::uniform6(prop_oneof![Just(0), 1..8_u32]);
    (counts, proptest::option::of(0..400 * 86_400_u64), any::<bool>()).prop_map(|(counts, within, tagged)| {
        let [keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly] = counts;
        let keep_tags = if tagged { vec!["a".into()] } else { Vec::new() };
        let keep_within = within.map(Duration::from_secs);
        Policy { keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly, keep_within, keep_tags }
    })
}

/// A policy that asks for at least as much as both.
fn both(a: &Policy, b: &Policy) -> Policy {
    Policy {
        keep_last: a.keep_last.max(b.keep_last),
        keep_hourly: a.keep_hourly.max(b.keep_hourly),
        keep_daily: a.keep_daily.max(b.keep_daily),
        keep_weekly: a.keep_weekly.max(b.keep_weekly),
        keep_monthly: a.keep_monthly.max(b.keep_monthly),
        keep_yearly: a.keep_yearly.max(b.keep_yearly),
        keep_within: a.keep_within.max(b.keep_within),
        keep_tags: if a.keep_tags.is_empty() { b.keep_tags.clone() } else { a.keep_tags.clone() },
    }
}

fn kept(candidates: &[Candidate], policy: &Policy) -> BTreeSet<SnapshotId> {
    let verdicts = decide_in(BERLIN, candidates, policy);
    candidates.iter().zip(verdicts).filter(|(_, verdict)| verdict.is_keep()).map(|(candidate, _)| candidate.id).collect()
}

proptest! {
    #[test]
    fn asking_for_more_never_drops_more(candidates in candidates(), a in policies(), b in policies()) {
        prop_assume!(!a.is_empty() && !b.is_empty());
        let more = kept(&candidates, &both(&a, &b));
        prop_assert!(kept(&candidates, &a).is_subset(&more) && kept(&candidates, &b).is_subset(&more));
    }

    #[test]
    fn the_order_in_which_snapshots_come_does_not_matter(
        (candidates, mixed) in candidates().prop_flat_map(|candidates| (Just(candidates.clone()), Just(candidates).prop_shuffle())),
        policy in policies(),
    ) {
        let by_id = |candidates: &[Candidate]| {
            let verdicts = decide_in(BERLIN, candidates, &policy);
            let mut verdicts: Vec<_> = candidates.iter().map(|candidate| candidate.id).zip(verdicts).collect();
            verdicts.sort_by_key(|(id, _)| *id);
            verdicts
        };
        prop_assert_eq!(by_id(&candidates), by_id(&mixed));
    }

    #[test]
    fn every_group_keeps_its_newest_and_what_its_rules_count(candidates in candidates(), policy in policies()) {
        let verdicts = decide_in(BERLIN, &candidates, &policy);
        for (candidate, verdict) in candidates.iter().zip(&verdicts) {
            prop_assert!(!verdict.reasons().is_empty());
            let rivals: Vec<_> = candidates
                .iter()
                .zip(&verdicts)
                .filter(|(rival, _)| (rival.series, rival.signer) == (candidate.series, candidate.signer) && !rival.is_suspect)
                .filter(|(rival, _)| rival.first_seen.map_or(rival.time, |seen| rival.time.min(seen)) <= NOW)
                .collect();
            let made = |rival: &Candidate| rival.first_seen.map_or(rival.time, |seen| rival.time.min(seen)).seconds;
            if let (Some(within), Some(newest)) = (policy.keep_within, rivals.iter().map(|(rival, _)| made(rival)).max()) {
                let mut recent = rivals.iter().filter(|(rival, _)| newest - made(rival) <= within.as_secs() as i64);
                prop_assert!(recent.all(|(_, verdict)| verdict.is_keep()), "all of the last {within:?} stay");
            }
            let stay = rivals.iter().filter(|(_, verdict)| verdict.is_keep()).count();
            prop_assert!(stay >= rivals.len().min((policy.keep_last as usize).max(1)), "{} of {}", stay, rivals.len());
        }
    }

    #[test]
    fn snapshots_of_others_and_of_the_future_change_nothing(
        candidates in candidates(),
        policy in policies(),
        seconds in proptest::collection::vec(1..1_000_000_000_i64, 0..5),
    ) {
        let mut more = candidates.clone();
        for (number, seconds) in seconds.into_iter().enumerate() {
            let ahead = Timestamp { seconds: NOW.seconds + seconds, nanoseconds: 0 };
            more.push(Candidate { id: SnapshotId([200 + number as u8; 16]), ..made(100, ahead) });
            more.push(Candidate { id: SnapshotId([220 + number as u8; 16]), series: [7; 16], ..made(100, NOW) });
            // Of the same series, by somebody else, at any time.
            let past = Timestamp { seconds: NOW.seconds - seconds, nanoseconds: 0 };
            for (id, time) in [(210, past), (230, NOW), (240, ahead)] {
                let series = [number as u8 % 2; 16];
                more.push(Candidate { id: SnapshotId([id + number as u8; 16]), series, signer: [7; 32], ..made(100, time) });
            }
        }
        prop_assert_eq!(&decide_in(BERLIN, &more, &policy)[..candidates.len()], &decide_in(BERLIN, &candidates, &policy)[..]);
    }
}

#[test]
fn dates_are_those_of_the_calendar() {
    let shown = |seconds| Timestamp { seconds, nanoseconds: 0 }.to_string();
    assert_eq!(shown(0), "1970-01-01 00:00:00 UTC");
    assert_eq!(shown(-1), "1969-12-31 23:59:59 UTC");
    assert_eq!(shown(951_782_399), "2000-02-28 23:59:59 UTC");
    assert_eq!(shown(951_782_400), "2000-02-29 00:00:00 UTC");
    assert_eq!(shown(4_107_542_400), "2100-03-01 00:00:00 UTC");
    assert_eq!(shown(253_402_300_799), "9999-12-31 23:59:59 UTC");
    assert_eq!(shown(-62_167_219_200), "0000-01-01 00:00:00 UTC");
    // No panic at the ends of time.
    assert!(!shown(i64::MAX).is_empty() && !shown(i64::MIN).is_empty());
}

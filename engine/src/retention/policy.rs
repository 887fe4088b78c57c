//! The rules, and what they say of each snapshot. Pure computation.

use super::reasons::{DropReason, KeepReason, Verdict};
use crate::format::snapshot::Token;
use crate::id::SnapshotId;
use crate::repository::Held;
use crate::runtime::Timestamp;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A moment in the caller's time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Civil {
    /// Year of the date.
    pub year: i32,
    /// Month, from 1.
    pub month: u8,
    /// Day of the month, from 1.
    pub day: u8,
    /// Hour of the day, from 0. An hour that comes twice, when clocks are set back, counts once.
    pub hour: u8,
    /// Year of the ISO 8601 week, which at the turn of a year differs from `year`.
    pub iso_week_year: i32,
    /// ISO 8601 week, from 1.
    pub iso_week: u8,
}

/// Turns moments into local time.
pub type Calendar<'a> = dyn Fn(Timestamp) -> Civil + 'a;

/// A stretch of the calendar, of which the newest snapshot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Period {
    /// An hour of the clock.
    Hour,
    /// A day of the calendar.
    Day,
    /// An ISO 8601 week, from Monday.
    Week,
    /// A month of the calendar.
    Month,
    /// A year of the calendar.
    Year,
}

impl Period {
    /// The period of this kind in which a moment lies.
    fn of(self, at: Civil) -> [i32; 4] {
        let (month, day, hour) = (i32::from(at.month), i32::from(at.day), i32::from(at.hour));
        match self {
            Self::Hour => [at.year, month, day, hour],
            Self::Day => [at.year, month, day, 0],
            Self::Week => [at.iso_week_year, i32::from(at.iso_week), 0, 0],
            Self::Month => [at.year, month, 0, 0],
            Self::Year => [at.year, 0, 0, 0],
        }
    }
}

/// Which snapshots to keep: those that at least one rule wants. A count of 0 is no rule; a policy without rules keeps all.
///
/// Counts are of periods that have snapshots, so that `keep_daily: 7` spans more than a week where days are missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Policy {
    /// So many of the newest; of a signer that may only back up also the newest of each of so many days.
    pub keep_last: u32,
    /// The newest of each of so many hours.
    pub keep_hourly: u32,
    /// The newest of each of so many days.
    pub keep_daily: u32,
    /// The newest of each of so many ISO weeks.
    pub keep_weekly: u32,
    /// The newest of each of so many months.
    pub keep_monthly: u32,
    /// The newest of each of so many years.
    pub keep_yearly: u32,
    /// All that are at most so much older than the newest.
    pub keep_within: Option<Duration>,
    /// All that have one of these tags.
    pub keep_tags: Vec<String>,
}

impl Policy {
    /// Whether it has no rule.
    pub fn is_empty(&self) -> bool {
        self.keep_last == 0 && self.periods().next().is_none() && self.keep_within.is_none() && self.keep_tags.is_empty()
    }

    /// The rules that count periods.
    fn periods(&self) -> impl Iterator<Item = (Period, u32)> {
        let rules = [
            (Period::Hour, self.keep_hourly),
            (Period::Day, self.keep_daily),
            (Period::Week, self.keep_weekly),
            (Period::Month, self.keep_monthly),
            (Period::Year, self.keep_yearly),
        ];
        rules.into_iter().filter(|(_, count)| *count > 0)
    }
}

/// What retention needs to know of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub id: SnapshotId,
    /// Stands for its series.
    pub series: Token,
    /// The public key that signed it.
    pub signer: [u8; 32],
    /// Number in its series by its signer.
    pub sequence: u64,
    /// When it was made, as its client says.
    pub time: Timestamp,
    /// When somebody who can be trusted first saw it; `None` where nobody noted that.
    pub first_seen: Option<Timestamp>,
    /// When he had looked before, and it was not there; `None` where nobody noted that.
    pub not_there: Option<Timestamp>,
    /// Its signer may make snapshots and not forget any, so that what rules make of its snapshots must not be up to it.
    pub may_only_back_up: bool,
    /// Its tags, at least those that the policy names.
    pub tags: Vec<String>,
    /// Its session is not closed.
    pub is_suspect: bool,
    /// Why it must not go, whatever rules say; it takes its place among the others all the same.
    pub held: Option<Held>,
}

impl Candidate {
    /// When it was made as its client says, but not after it was seen first.
    fn said(&self) -> Timestamp {
        self.first_seen.map_or(self.time, |seen| self.time.min(seen))
    }

    /// When it counts as made: as is said, but not before somebody looked who did not see it, if its signer has a reason to say so.
    /// (Whoever may forget gives tags and salvages under the old times.)
    fn made(&self) -> Timestamp {
        self.not_there.filter(|_| self.may_only_back_up).map_or(self.said(), |looked| self.said().max(looked))
    }
}

/// Says of each of the candidates, in their order, whether the policy keeps it.
pub fn decide(candidates: &[Candidate], policy: &Policy, now: Timestamp, calendar: &Calendar<'_>) -> Vec<Verdict> {
    if policy.is_empty() {
        return vec![Verdict::Keep(vec![KeepReason::NoRule]); candidates.len()];
    }
    let mut reasons = vec![(Vec::new(), Vec::new()); candidates.len()];
    let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (number, candidate) in candidates.iter().enumerate() {
        reasons[number].0.extend(candidate.held.clone().map(KeepReason::Held));
        if candidate.is_suspect {
            reasons[number].0.push(KeepReason::Suspect);
        } else if candidate.made() > now {
            reasons[number].0.push(KeepReason::Ahead);
        } else {
            groups.entry((candidate.series, candidate.signer)).or_default().push(number);
        }
    }
    for mut members in groups.into_values() {
        let mut count = |made: Made| -> Vec<(usize, Reasons)> {
            members.sort_by_key(|&number| Reverse((made(&candidates[number]), candidates[number].sequence, candidates[number].id)));
            let newest_first: Vec<_> = members.iter().map(|&number| &candidates[number]).collect();
            members.iter().copied().zip(decide_group(&newest_first, made, policy, calendar)).collect()
        };
        let counted = count(Candidate::made);
        let came_late = counted.iter().any(|(number, _)| candidates[*number].made() != candidates[*number].said());
        for (number, (keep, drop)) in counted {
            reasons[number].0.extend(keep);
            reasons[number].1.extend(drop);
        }
        // What came late may tell a false time, or may have been copied here: then all that came with it would count as made in one moment.
        // So what rules keep by the times that are said stays as well.
        let by_said = if came_late { count(Candidate::said) } else { Vec::new() };
        for (number, (keep, _)) in by_said {
            if reasons[number].0.is_empty() {
                reasons[number].0 = keep;
            }
        }
    }
    reasons.into_iter().map(|(keep, drop)| if keep.is_empty() { Verdict::Drop(drop) } else { Verdict::Keep(keep) }).collect()
}

/// When a snapshot counts as made.
type Made = fn(&Candidate) -> Timestamp;

/// What speaks for keeping a snapshot, and what each rule that does not keep it says.
type Reasons = (Vec<KeepReason>, Vec<DropReason>);

/// The reasons for each snapshot of one series and signer, which come newest first.
fn decide_group(newest_first: &[&Candidate], made: Made, policy: &Policy, calendar: &Calendar<'_>) -> Vec<Reasons> {
    let Some(newest) = newest_first.first() else { return Vec::new() };
    let last_made = newest_first.iter().map(|candidate| (candidate.sequence, candidate.id)).max();
    let mut taken: Vec<(Period, u32, BTreeMap<_, SnapshotId>)> =
        policy.periods().map(|(period, count)| (period, count, BTreeMap::new())).collect();
    let mut days = BTreeSet::new();
    let mut decide_one = |(place, candidate): (usize, &&Candidate)| {
        let (mut keep, mut drop) = (Vec::new(), Vec::new());
        if place == 0 {
            keep.push(KeepReason::Newest);
        } else if last_made == Some((candidate.sequence, candidate.id)) {
            keep.push(KeepReason::LastMade);
        }
        match policy.keep_last {
            0 => {}
            of if place < of as usize => keep.push(KeepReason::Last { place: place as u32 + 1, of }),
            of => drop.push(DropReason::LastFull { of }),
        }
        let at = calendar(made(candidate));
        // Whoever stole a key that only backs up can make as many snapshots as he likes, but not more days.
        if candidate.may_only_back_up && days.len() < policy.keep_last as usize && days.insert(Period::Day.of(at)) {
            keep.push(KeepReason::LastOfDay { place: days.len() as u32, of: policy.keep_last });
        }
        for (period, of, taken) in &mut taken {
            let (period, of, key) = (*period, *of, period.of(at));
            if let Some(by) = taken.get(&key) {
                drop.push(DropReason::PeriodTaken { period, by: *by });
            } else if taken.len() < of as usize {
                taken.insert(key, candidate.id);
                keep.push(KeepReason::Period { period, place: taken.len() as u32, of });
            } else {
                drop.push(DropReason::PeriodFull { period, of });
            }
        }
        if let Some(within) = policy.keep_within {
            match nanoseconds(made(newest)) - nanoseconds(made(candidate)) <= within.as_nanos() as i128 {
                true => keep.push(KeepReason::Within { within }),
                false => drop.push(DropReason::TooOld { within }),
            }
        }
        let tags = policy.keep_tags.iter().filter(|tag| candidate.tags.contains(tag));
        let before = keep.len();
        keep.extend(tags.map(|tag| KeepReason::Tag(tag.clone())));
        if keep.len() == before && !policy.keep_tags.is_empty() {
            drop.push(DropReason::Untagged);
        }
        (keep, drop)
    };
    newest_first.iter().enumerate().map(&mut decide_one).collect()
}

fn nanoseconds(time: Timestamp) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
}

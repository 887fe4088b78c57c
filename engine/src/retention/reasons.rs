//! Why a snapshot is kept or dropped, for people and programs.

use super::policy::Period;
use crate::id::SnapshotId;
use crate::repository::Held;
use std::fmt;
use std::time::Duration;

/// What a policy says of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It stays, for each of these reasons.
    Keep(Vec<KeepReason>),
    /// It goes: this is what each rule said.
    Drop(Vec<DropReason>),
}

impl Verdict {
    /// Whether it stays.
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep(_))
    }

    /// The reasons, as people read them.
    pub fn reasons(&self) -> Vec<String> {
        match self {
            Self::Keep(reasons) => reasons.iter().map(KeepReason::to_string).collect(),
            Self::Drop(reasons) => reasons.iter().map(DropReason::to_string).collect(),
        }
    }
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeepReason {
    /// The policy has no rule.
    NoRule,
    /// It is the newest of its series and signer.
    Newest,
    /// It is the last that its signer made of its series, though its time is not the newest.
    LastMade,
    /// It is held.
    Held(Held),
    /// Its session is not closed.
    Suspect,
    /// Rules would let it go, but the store shows another state than was seen before, or what was seen cannot be read.
    OtherState,
    /// Its time lies in the future.
    Ahead,
    /// One of the newest.
    Last {
        /// Which, from 1.
        place: u32,
        /// How many are kept.
        of: u32,
    },
    /// The newest of one of as many days as newest snapshots are kept: its signer may only back up, and can make any number of newer ones.
    LastOfDay {
        /// Which day, from 1 for the newest.
        place: u32,
        /// How many are kept.
        of: u32,
    },
    /// The newest of a period.
    Period {
        /// The kind of period.
        period: Period,
        /// Which of the periods kept, from 1 for the newest.
        place: u32,
        /// How many are kept.
        of: u32,
    },
    /// Not much older than the newest.
    Within {
        /// How much older it may be.
        within: Duration,
    },
    /// It has this tag.
    Tag(String),
}

/// Why a rule does not keep a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DropReason {
    /// There are so many newer ones.
    LastFull {
        /// How many are kept.
        of: u32,
    },
    /// Another snapshot of the same period is newer.
    PeriodTaken {
        /// The kind of period.
        period: Period,
        /// The other.
        by: SnapshotId,
    },
    /// So many newer periods have a snapshot.
    PeriodFull {
        /// The kind of period.
        period: Period,
        /// How many are kept.
        of: u32,
    },
    /// Too much older than the newest.
    TooOld {
        /// How much older it might be.
        within: Duration,
    },
    /// It has none of the tags that are kept.
    Untagged,
}

/// Digits of an id in a reason.
const ID_DIGITS: usize = 8;

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => f.write_str("no rule was given"),
            Self::Newest => f.write_str("newest"),
            Self::LastMade => f.write_str("last made"),
            Self::Held(held) => held.fmt(f),
            Self::Suspect => f.write_str("its backup did not end, or still runs"),
            Self::OtherState => {
                f.write_str("rules drop nothing while the store shows another state than was seen before, or what was seen cannot be read")
            }
            Self::Ahead => f.write_str("its time lies in the future"),
            Self::Last { place, of } => write!(f, "last {place} of {of}"),
            Self::LastOfDay { place, of } => write!(f, "newest of day {place} of {of}, by a key that only backs up"),
            Self::Period { period, place, of } => write!(f, "{} {place} of {of}", adverb(*period)),
            Self::Within { within } => write!(f, "within {} of the newest", Shown(*within)),
            Self::Tag(tag) => write!(f, "tag {}", tag.escape_debug()),
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LastFull { of } => write!(f, "last: {of} newer"),
            Self::PeriodTaken { period, by } => write!(f, "{}: {} is newer", adverb(*period), &by.to_string()[..ID_DIGITS]),
            Self::PeriodFull { period, of } => write!(f, "{}: {of} newer", adverb(*period)),
            Self::TooOld { within } => write!(f, "more than {} before the newest", Shown(*within)),
            Self::Untagged => f.write_str("no tag that is kept"),
        }
    }
}

fn adverb(period: Period) -> &'static str {
    match period {
        Period::Hour => "hourly",
        Period::Day => "daily",
        Period::Week => "weekly",
        Period::Month => "monthly",
        Period::Year => "yearly",
    }
}

/// A duration in the largest unit that gives a whole number.
struct Shown(Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
        let (unit, name) = units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit)).unwrap_or((1, "s"));
        write!(f, "{} {name}", seconds / unit)
    }
}

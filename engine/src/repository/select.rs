//! Choosing a snapshot by what a person types.

use super::snapshots::{Problem, SnapshotListing, missing_snapshot};
use super::{Repository, Snapshot, SnapshotState};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::snapshot::{Token, series_token};
use crate::id::SnapshotId;
use crate::runtime::Timestamp;

/// Digits of an id that a person must give at least.
const PREFIX_DIGITS_MIN: usize = 4;
/// Snapshots that an error names at most.
const NAMED_MAX: usize = 8;

impl Repository {
    /// Finds a snapshot: `latest`, a full id, or the beginning of an id (at least 4 digits) that no other snapshot's id has.
    ///
    /// `latest` is the newest by time of those in `series` (of any where `None`), made at or before `at` (at any time where `None`).
    /// A snapshot named by id may be in any series where `series` is `None`; other damage in the repository does not hide it.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none, [`ErrorKind::Invalid`] where the selector fits several or is no selector,
    /// [`ErrorKind::Damaged`] where the snapshot breaks a rule or was removed from the store, or where it is asked for the latest while any
    /// snapshot is damaged of which it is not known that it is of another series: it could be the one, and an older one must not quietly take its
    /// place. Otherwise what the backend says.
    pub fn find_snapshot(&self, selector: &str, series: Option<&str>, at: Option<Timestamp>) -> Result<Snapshot> {
        self.require(Roles::RESTORE, "reading snapshots")?;
        match selector {
            "latest" => self.find_latest(series, at),
            _ if at.is_some() => Err(Error::new(ErrorKind::Invalid, "a time selects among snapshots; with an id leave it out")),
            _ => self.find_by_id(selector, series),
        }
    }

    fn find_latest(&self, series: Option<&str>, at: Option<Timestamp>) -> Result<Snapshot> {
        let (snapshots, problems) = self.snapshots_and_problems_of_series()?;
        let wanted = series.map(|series| series_token(&self.credential.token_key, series));
        let is_of_other = |of: Option<Token>| wanted.is_some() && of.is_some() && of != wanted;
        if let Some(Problem { error: problem, .. }) = problems.into_iter().find(|problem| !is_of_other(problem.series)) {
            let advice = "the latest snapshot cannot be told while snapshots are damaged; name the one that you want by its id";
            return Err(problem.context(advice).with_kind(ErrorKind::Damaged));
        }
        let mut others: Vec<String> = snapshots.iter().map(|snapshot| snapshot.body.series.clone()).collect();
        let fits = |snapshot: &Snapshot| {
            series.is_none_or(|series| snapshot.body.series == series) && at.is_none_or(|at| snapshot.header.time <= at)
        };
        // Oldest first.
        snapshots.into_iter().rev().find(fits).ok_or_else(|| {
            others.sort_unstable();
            others.dedup();
            let wanted = match (series, at) {
                (Some(series), Some(_)) => format!("no snapshot in series `{series}` at or before that time"),
                (Some(series), None) => format!("no snapshot in series `{series}`"),
                (None, Some(_)) => "no snapshot at or before that time".to_owned(),
                (None, None) => "there is no snapshot yet".to_owned(),
            };
            let message = match others.is_empty() {
                true => wanted,
                false => format!("{wanted}; there are snapshots of {}", shown(others.iter().map(|series| format!("`{series}`")))),
            };
            Error::new(ErrorKind::NotFound, message)
        })
    }

    /// Finds snapshots to forget, each by a full id or the beginning of one. Also those that break a rule, are suspect, were removed from
    /// the store, or were forgotten before and left a marker.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is none, [`ErrorKind::Invalid`] where a selector fits several or is no id.
    pub fn find_snapshot_ids<S: AsRef<str>>(&self, selectors: &[S]) -> Result<Vec<SnapshotId>> {
        let listing = self.list_snapshots()?;
        let find = |selector: &S| {
            let selector = selector.as_ref();
            let mut fitting = listing.fitting(selector)?;
            if fitting.is_empty() {
                fitting = listing.withdrawn.iter().filter(|id| id.to_string().starts_with(selector)).copied().collect();
                fitting.sort_unstable();
            }
            only(selector, &fitting)
        };
        selectors.iter().map(find).collect()
    }

    fn find_by_id(&self, selector: &str, series: Option<&str>) -> Result<Snapshot> {
        let listing = self.list_snapshots_to_read()?;
        let id = only(selector, &listing.fitting(selector)?)?;
        match listing.missing().contains(&id) {
            true => Err(missing_snapshot(id)),
            false => self.read_named(id, &listing, series),
        }
    }

    fn read_named(&self, id: SnapshotId, listing: &SnapshotListing, series: Option<&str>) -> Result<Snapshot> {
        let snapshot = self.read_snapshot(id, listing)?;
        if let Some(series) = series.filter(|series| snapshot.body.series != *series) {
            let message = format!("snapshot {id} is of series `{}`, not of `{series}`", snapshot.body.series);
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        // What was seen to count does, and what is left of it can be had.
        if snapshot.state == SnapshotState::Suspect && !listing.unclosed.contains(&id) {
            // It counts only once its frames were found.
            self.snapshot_chunks(&self.standing_reader()?, &snapshot.header).map_err(|error| {
                error.context(format_args!("snapshot {id} is of a backup that did not end, or still runs, and is not complete"))
            })?;
        }
        Ok(snapshot)
    }
}

impl SnapshotListing {
    /// The snapshots, missing ones included and withdrawn ones not, whose id begins so.
    fn fitting(&self, selector: &str) -> Result<Vec<SnapshotId>> {
        let is_prefix = selector.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_prefix || !(PREFIX_DIGITS_MIN..=2 * SnapshotId::LENGTH).contains(&selector.len()) {
            let message =
                format!("`{selector}` is neither `latest` nor the first {PREFIX_DIGITS_MIN} to 32 lower-case hex digits of an id");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        let mut fitting: Vec<_> = self.snapshots.iter().copied().chain(self.missing()).collect();
        fitting.retain(|id| id.to_string().starts_with(selector) && !self.withdrawn.contains(id));
        Ok(fitting)
    }
}

/// The one that fits.
fn only(selector: &str, fitting: &[SnapshotId]) -> Result<SnapshotId> {
    match fitting {
        [] => Err(Error::new(ErrorKind::NotFound, format!("no snapshot's id begins with {selector}"))),
        [id] => Ok(*id),
        _ => {
            let message = format!("{selector} begins the ids of several snapshots: {}", shown(fitting.iter().map(SnapshotId::to_string)));
            Err(Error::new(ErrorKind::Invalid, message))
        }
    }
}

fn shown(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMED_MAX);
    let mut text = names.take(NAMED_MAX).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

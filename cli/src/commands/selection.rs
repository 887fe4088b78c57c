//! Which snapshot is meant; the same for all commands that read one.

use super::snapshots::short_id;
use crate::names::shown;
use crate::nearest::advice;
use crate::time;
use icecore::repository::{Repository, Snapshot};
use icecore::{Error, ErrorKind};

/// Which snapshot is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Selection {
    /// `latest`, or an id or the first digits of one, as `icecore snapshots` shows them
    #[arg(value_name = "SNAPSHOT|latest")]
    snapshot: String,
    #[command(flatten)]
    filter: Filter,
}

/// What narrows `latest` down.
#[derive(Debug, clap::Args)]
pub(crate) struct Filter {
    /// Takes `latest` to mean the newest snapshot of this series
    #[arg(long, value_name = "NAME")]
    series: Option<String>,
    /// Takes `latest` to mean the newest snapshot at this time: 2026-10-03T12:30:00Z, or local time as 2026-10-03 (the end of that day) or
    /// "2026-10-03 12:30"
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    at: Option<time::Typed>,
}

/// Adds the series that may have been meant.
pub(super) fn advise(error: Error, repository: &Repository, series: &str) -> Error {
    let Ok((snapshots, _)) = repository.snapshots_and_problems() else { return error };
    with_advice(error, &advice(series, snapshots.iter().map(|snapshot| snapshot.body.series.as_str())))
}

fn with_advice(error: Error, advice: &str) -> Error {
    if advice.is_empty() { error } else { Error::new(error.kind(), format!("{error}{advice}")) }
}

impl Selection {
    /// Finds it.
    pub(crate) fn find(&self, repository: &Repository) -> icecore::Result<Snapshot> {
        self.filter.find(repository, &self.snapshot)
    }
}

impl Filter {
    /// Finds the snapshot of this name among those that fit.
    pub(crate) fn find(&self, repository: &Repository, snapshot: &str) -> icecore::Result<Snapshot> {
        let found = repository.find_snapshot(snapshot, self.series.as_deref(), self.at.map(|at| at.last));
        found.map_err(|error| match error.kind() {
            ErrorKind::NotFound => self.advise(error, repository, snapshot),
            ErrorKind::Damaged if snapshot == "latest" => self.offer_readable(error, repository),
            _ => error,
        })
    }

    /// Adds the series or the id that may have been meant.
    fn advise(&self, error: Error, repository: &Repository, snapshot: &str) -> Error {
        match (&self.series, snapshot) {
            (Some(series), "latest") => advise(error, repository, series),
            (_, "latest") => error,
            (_, digits) => {
                let Ok((snapshots, _)) = repository.snapshots_and_problems() else { return error };
                let ids: Vec<String> = snapshots.iter().map(|snapshot| snapshot.id.to_string()).collect();
                with_advice(error, &advice(digits, ids.iter().filter_map(|id| id.get(..digits.len()))))
            }
        }
    }

    /// Adds the newest snapshot that fits and can be read. Which one is meant somebody has to say.
    fn offer_readable(&self, error: Error, repository: &Repository) -> Error {
        let Ok((snapshots, _)) = repository.snapshots_and_problems() else { return error };
        let is_of_series = |snapshot: &&Snapshot| self.series.as_ref().is_none_or(|series| snapshot.body.series == *series);
        let is_early = |snapshot: &&Snapshot| self.at.is_none_or(|at| snapshot.header.time <= at.last);
        // Oldest first.
        let Some(newest) = snapshots.iter().rev().find(|snapshot| is_of_series(snapshot) && is_early(snapshot)) else { return error };
        let (id, time, series) = (short_id(&newest.id), time::local(newest.header.time), shown(newest.body.series.as_bytes()));
        let message = format!(
            "{error}; the newest that can be read is {id} of {time}, series {series}: say {id} instead of `latest` to take it. `icecore forget` with the id of one \
             that is gone or damaged accepts its loss"
        );
        Error::new(ErrorKind::Damaged, message)
    }

    /// The series.
    pub(crate) fn series(&self) -> Option<&str> {
        self.series.as_deref()
    }

    /// Whether it narrows anything down.
    pub(crate) fn is_given(&self) -> bool {
        self.series.is_some() || self.at.is_some()
    }
}

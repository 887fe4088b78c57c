//! Which snapshot is meant; the same for all commands that read one.

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
            _ => error,
        })
    }

    /// Adds the series or the id that may have been meant.
    fn advise(&self, error: Error, repository: &Repository, snapshot: &str) -> Error {
        let Ok((snapshots, _)) = repository.snapshots_and_problems() else { return error };
        let advice = match (&self.series, snapshot) {
            (Some(series), "latest") => advice(series, snapshots.iter().map(|snapshot| snapshot.body.series.as_str())),
            (_, "latest") => return error,
            (_, digits) => {
                let ids: Vec<String> = snapshots.iter().map(|snapshot| snapshot.id.to_string()).collect();
                advice(digits, ids.iter().filter_map(|id| id.get(..digits.len())))
            }
        };
        if advice.is_empty() { error } else { Error::new(error.kind(), format!("{error}{advice}")) }
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

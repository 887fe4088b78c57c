//! `--also`: one backup into several replicas, of which a stated number must have it.

use crate::context::Context;
use crate::exit::usage;
use crate::output::Output;
use crate::second::{Second, kind_of};
use crate::size::bytes;
use crate::store::SecondStoreOptions;
use icecore::id::SnapshotId;
use icecore::repository::{Key, Repository};
use icecore::{Error, ErrorKind};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::path::PathBuf;

/// Where else the snapshot goes.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Several places")]
pub(super) struct Also {
    /// Replica that gets the snapshot, too, while the source is read but once; `icecore replicate --to REPO` makes it (can be repeated, or separated by commas)
    #[arg(long, value_name = "REPO", value_delimiter = ',')]
    also: Vec<OsString>,
    /// In how many repositories the snapshot must be for success, the first one counted; without it in all
    #[arg(long, value_name = "N", requires = "also", value_parser = clap::value_parser!(u64).range(1..))]
    quorum: Option<u64>,
    #[command(flatten)]
    store: SecondStoreOptions,
}

impl Also {
    /// Opens the replicas. One that cannot be reached now counts as one that failed, where not all are needed; one that is something else is refused.
    pub(super) fn open(&self, first: Repository, key: &Key, context: &Context) -> anyhow::Result<Copies> {
        let total = 1 + self.also.len();
        let quorum = self.quorum.map_or(total, |quorum| usize::try_from(quorum).unwrap_or(usize::MAX));
        if quorum > total {
            return Err(usage(format!("--quorum {quorum}: there are only {total} repositories")));
        }
        let (mut replicas, mut outcomes) = (Vec::new(), Vec::new());
        for name in &self.also {
            match open(name, &self.store, &first, key, context) {
                Ok(replica) => replicas.push(replica),
                Err(error) if is_about_the_store(&error) && quorum < total => {
                    context.output.warn(format_args!("{error:#}"));
                    outcomes.push(Outcome { repository: name.display().to_string(), bytes_sent: 0, error: Some(format!("{error:#}")) });
                }
                Err(error) => return Err(error),
            }
        }
        let copies = Copies { first: first.mirroring(&replicas)?, replicas, outcomes, quorum, is_asked_for: total > 1 };
        copies.require_possible()?;
        Ok(copies)
    }
}

fn open(name: &OsString, store: &SecondStoreOptions, first: &Repository, key: &Key, context: &Context) -> anyhow::Result<Repository> {
    let second = Second::find_replica(name, store, first, context)?;
    // Keys and settings that were changed since.
    first.make_replica(&second.backend)?;
    second.open_replica(first, key, context)
}

/// Whether another repository may do better.
fn is_about_the_store(error: &anyhow::Error) -> bool {
    matches!(
        kind_of(error),
        Some(ErrorKind::Unavailable | ErrorKind::Damaged | ErrorKind::NotFound | ErrorKind::NoRepository | ErrorKind::Busy)
    )
}

/// What became of the snapshot in one repository.
struct Outcome {
    repository: String,
    bytes_sent: u64,
    error: Option<String>,
}

/// The repositories that are to have the snapshot.
pub(super) struct Copies {
    first: Repository,
    replicas: Vec<Repository>,
    outcomes: Vec<Outcome>,
    quorum: usize,
    is_asked_for: bool,
}

impl Copies {
    /// The one that is backed up to.
    pub(super) fn first(&self) -> &Repository {
        &self.first
    }

    /// The folders of the others.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        self.replicas.iter().map(|replica| PathBuf::from(replica.describe())).collect()
    }

    fn failed(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.error.is_some()).count()
    }

    /// Whether every repository has it.
    pub(super) fn are_complete(&self) -> bool {
        self.failed() == 0
    }

    /// Refuses to go on once too many have failed.
    fn require_possible(&self) -> anyhow::Result<()> {
        let possible = 1 + self.replicas.len();
        if possible >= self.quorum {
            return Ok(());
        }
        let message = format!("only {possible} of the repositories can have the snapshot, and {} must", self.quorum);
        Err(Error::new(ErrorKind::Unavailable, message).into())
    }

    /// After the first one failed: whether the next one took its place. It has what was written until then.
    pub(super) fn go_on_without_first(&mut self, error: &anyhow::Error, output: &Output) -> anyhow::Result<bool> {
        if !is_about_the_store(error) || self.replicas.is_empty() || self.replicas.len() < self.quorum {
            return Ok(false);
        }
        let failed = self.first.describe();
        let next = self.replicas.remove(0);
        output.warn(format_args!("{failed}: {error:#}; the backup goes on into {}", next.describe()));
        self.outcomes.push(Outcome { repository: failed, bytes_sent: 0, error: Some(format!("{error:#}")) });
        self.first = next.mirroring(&self.replicas)?;
        Ok(true)
    }

    /// Sees to it that all have the snapshot.
    ///
    /// # Errors
    /// Where fewer than must have it do.
    pub(super) fn acknowledge(&mut self, snapshot: SnapshotId, context: &Context) -> anyhow::Result<()> {
        self.outcomes.push(Outcome { repository: self.first.describe(), bytes_sent: 0, error: None });
        for replica in &self.replicas {
            let progress = context.progress()?;
            let result = self.first.acknowledge(snapshot, replica, &progress);
            drop(progress);
            let repository = replica.describe();
            match result {
                Ok(summary) => self.outcomes.push(Outcome { repository, bytes_sent: summary.bytes_sent, error: None }),
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error.into()),
                Err(error) => {
                    context.output.warn(format_args!("{repository} does not have the snapshot: {error}"));
                    self.outcomes.push(Outcome { repository, bytes_sent: 0, error: Some(error.to_string()) });
                }
            }
        }
        let have = self.outcomes.len() - self.failed();
        if have >= self.quorum {
            return Ok(());
        }
        let named = |has: bool| self.outcomes.iter().filter(move |outcome| outcome.error.is_none() == has);
        let list = |has| named(has).map(|outcome| outcome.repository.as_str()).collect::<Vec<_>>().join(", ");
        let message = format!(
            "snapshot {snapshot} is in {have} of {} repositories ({}), and {} must have it; not in {}. `icecore replicate` brings it there",
            self.outcomes.len(),
            list(true),
            self.quorum,
            list(false)
        );
        Err(Error::new(ErrorKind::Unavailable, message).into())
    }

    /// For people.
    pub(super) fn report(&self, output: &Output) -> anyhow::Result<()> {
        for outcome in self.outcomes.iter().filter(|_| self.is_asked_for) {
            match &outcome.error {
                None if outcome.repository == self.first.describe() => {}
                None => output.report(format_args!(
                    "  also     in {}, {} beyond what was written with it",
                    outcome.repository,
                    bytes(outcome.bytes_sent)
                ))?,
                Some(_) => output.report(format_args!("  not in   {}; `icecore replicate --to` it later", outcome.repository))?,
            }
        }
        Ok(())
    }

    /// For programs; nothing where there is but one repository.
    pub(super) fn as_json(&self) -> Option<Value> {
        let line =
            |outcome: &Outcome| json!({"repository": outcome.repository, "acknowledged": outcome.error.is_none(), "error": outcome.error});
        self.is_asked_for.then(|| self.outcomes.iter().map(line).collect())
    }
}

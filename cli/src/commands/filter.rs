//! Which of all snapshots are meant; the same for all commands that look at many.

use crate::context::Context;
use crate::exit::usage;
use crate::nearest::advice;
use crate::time;
use icecore::repository::Snapshot;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Which snapshots.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Which snapshots")]
pub(crate) struct SnapshotFilter {
    /// Only the snapshots of this series (can be repeated: of one of them)
    #[arg(long, value_name = "NAME")]
    series: Vec<String>,
    /// Only snapshots with this tag (can be repeated: with all of them)
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only snapshots of this host
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Only snapshots for which this path was backed up, or a folder above it
    #[arg(long, value_name = "PATH")]
    path: Option<OsString>,
    /// Only snapshots made at this time or later: 2026-10-03T12:30:00Z, 2026-10-03, or "2026-10-03 12:30" (local time)
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    since: Option<time::Typed>,
    /// Only snapshots made at this time or earlier
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    until: Option<time::Typed>,
    /// Only the N newest of each series that fit all else
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
}

impl SnapshotFilter {
    /// Whether it leaves any out.
    pub(crate) fn is_given(&self) -> bool {
        let times = self.since.is_some() || self.until.is_some() || self.latest.is_some();
        !self.series.is_empty() || !self.tag.is_empty() || self.host.is_some() || self.path.is_some() || times
    }

    /// Those that fit, in the order in which they were, which is oldest first. Warns of a series that no snapshot is of.
    ///
    /// # Errors
    /// Usage, where the newest 0 are asked for.
    pub(crate) fn choose(&self, snapshots: Vec<Snapshot>, context: &Context) -> anyhow::Result<Vec<Snapshot>> {
        for series in &self.series {
            let known: BTreeSet<&str> = snapshots.iter().map(|snapshot| snapshot.body.series.as_str()).collect();
            if !known.contains(series.as_str()) {
                context.output.warn(format_args!("no snapshot is of series `{series}`{}", advice(series, known)));
            }
        }
        if self.latest == Some(0) {
            return Err(usage("--latest takes at least 1"));
        }
        let mut chosen: Vec<Snapshot> = snapshots.into_iter().filter(|snapshot| self.fits(snapshot)).collect();
        if let Some(latest) = self.latest {
            let mut newer: HashMap<String, usize> = HashMap::new();
            // Oldest first, so the newest ones are counted from the end.
            let is_kept: Vec<bool> = chosen
                .iter()
                .rev()
                .map(|snapshot| {
                    let count = newer.entry(snapshot.body.series.clone()).or_default();
                    *count += 1;
                    *count <= latest
                })
                .collect();
            let mut is_kept = is_kept.into_iter().rev();
            chosen.retain(|_| is_kept.next().unwrap_or(true));
        }
        Ok(chosen)
    }

    fn fits(&self, snapshot: &Snapshot) -> bool {
        let (time, body) = (snapshot.header.time, &snapshot.body);
        (self.series.is_empty() || self.series.contains(&body.series))
            && self.tag.iter().all(|tag| body.tags.contains(tag))
            && self.host.as_ref().is_none_or(|host| *host == body.host)
            && self.path.as_ref().is_none_or(|path| body.paths.iter().any(|root| is_at_or_below(path.as_bytes(), root)))
            && self.since.is_none_or(|since| time >= since.first)
            && self.until.is_none_or(|until| time <= until.last)
    }
}

/// Whether a path is `root`, or lies below it.
fn is_at_or_below(path: &[u8], root: &[u8]) -> bool {
    let trim = |path: &[u8]| {
        let end = path.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        path[..end].to_vec()
    };
    let (path, root) = (trim(path), trim(root));
    path.strip_prefix(&root[..]).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lie_below_folders_not_names() {
        for (path, root) in [("/home", "/home"), ("/home/", "/home"), ("/home/ann", "/home/"), ("/etc", "/")] {
            assert!(is_at_or_below(path.as_bytes(), root.as_bytes()), "{path} {root}");
        }
        for (path, root) in [("/homes", "/home"), ("/", "/home"), ("/hom", "/home")] {
            assert!(!is_at_or_below(path.as_bytes(), root.as_bytes()), "{path} {root}");
        }
    }
}

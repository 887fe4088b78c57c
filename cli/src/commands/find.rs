//! `find`: in which snapshots something is.

use super::filter::SnapshotFilter;
use super::ls;
use super::snapshots::{report_problems, short_id};
use crate::context::Context;
use crate::exit::Outcome;
use crate::names::{path_of, shown};
use crate::output::Output;
use crate::size::{self, bytes, count, counted};
use crate::time;
use clap::ValueEnum;
use icecore::browse::{EntryType, FindQuery, FoundPath, FoundVersion};
use icecore::entry::EntryKind;
use icecore::id::SnapshotId;
use icecore::repository::Snapshot;
use serde_json::json;
use std::collections::HashMap;

/// Finds files and folders in all snapshots, by name, time and size
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore find 'letter*.odt'\n  \
    icecore find 'home/*/.ssh/**' --type file --newer 2026-10-01\n  \
    icecore find --larger 1G --latest 1\n\n\
    A pattern without a slash is compared with names, one with a slash with whole paths, where * stays within a folder and ** does not. \
    What several snapshots have in common is read once.")]
pub(crate) struct Args {
    /// Globs like *.txt or home/*/Documents/**; one of them must fit (none: everything fits)
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
    /// Takes upper and lower case for the same
    #[arg(short, long)]
    ignore_case: bool,
    /// Last modified at this time or later: 2026-10-03T12:30:00Z, 2026-10-03, or "2026-10-03 12:30" (local time)
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    newer: Option<time::Typed>,
    /// Last modified at this time or earlier
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    older: Option<time::Typed>,
    /// Files of at least this size, as 500M or 2G
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    larger: Option<u64>,
    /// Files of at most this size
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    smaller: Option<u64>,
    /// Only of this type (can be repeated)
    #[arg(long = "type", value_name = "TYPE", value_enum)]
    types: Vec<Type>,
    /// Only in this snapshot: `latest`, or an id or its first digits (can be repeated)
    #[arg(long, value_name = "SNAPSHOT", help_heading = "Which snapshots")]
    snapshot: Vec<String>,
    #[command(flatten)]
    filter: SnapshotFilter,
}

/// Types of entries as people name them.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Type {
    #[value(alias = "f")]
    File,
    #[value(alias = "d")]
    Folder,
    #[value(alias = "l")]
    Symlink,
    #[value(alias = "p")]
    Fifo,
    #[value(alias = "s")]
    Socket,
    #[value(alias = "b")]
    BlockDevice,
    #[value(alias = "c")]
    CharDevice,
    HardLink,
}

impl From<Type> for EntryType {
    fn from(named: Type) -> Self {
        match named {
            Type::File => Self::File,
            Type::Folder => Self::Folder,
            Type::Symlink => Self::Symlink,
            Type::Fifo => Self::Fifo,
            Type::Socket => Self::Socket,
            Type::BlockDevice => Self::BlockDevice,
            Type::CharDevice => Self::CharDevice,
            Type::HardLink => Self::HardLink,
        }
    }
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open()?;
    let (mut snapshots, mut problems) = repository.snapshots_and_problems()?;
    if !args.snapshot.is_empty() {
        let find = |name: &String| repository.find_snapshot(name, None, None).map(|snapshot| snapshot.id);
        let named = args.snapshot.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        snapshots.retain(|snapshot| named.contains(&snapshot.id));
    }
    let snapshots = args.filter.choose(snapshots, context)?;
    let mut query = FindQuery::default();
    query.patterns.clone_from(&args.patterns);
    query.ignore_case = args.ignore_case;
    query.newer = args.newer.map(|time| time.first);
    query.older = args.older.map(|time| time.last);
    (query.larger, query.smaller) = (args.larger, args.smaller);
    query.types = args.types.iter().map(|named| (*named).into()).collect();
    let progress = context.progress()?;
    let found = repository.find(&snapshots, &query, &progress)?;
    drop(progress);

    let output = &context.output;
    let known: HashMap<SnapshotId, &Snapshot> = snapshots.iter().map(|snapshot| (snapshot.id, snapshot)).collect();
    for path in &found.paths {
        print_path(path, &known, output)?;
    }
    if found.paths.is_empty() {
        output.note(format_args!("nothing found in {}", counted(found.snapshots, "snapshot")));
    }
    problems.extend(found.problems);
    let outcome = report_problems(&problems, output);
    let line = json!({
        "snapshots": found.snapshots,
        "paths": found.paths.len(),
        "versions": found.paths.iter().map(|path| path.versions.len()).sum::<usize>(),
        "nodes_read": found.nodes_read,
        "nodes_known": found.nodes_known,
        "problems": problems.len(),
    });
    output.json("summary", line)?;
    Ok(outcome)
}

/// The path, and below it one line for each version.
fn print_path(path: &FoundPath, known: &HashMap<SnapshotId, &Snapshot>, output: &Output) -> anyhow::Result<()> {
    output.line(shown(&path_of(&path.key)))?;
    for version in &path.versions {
        output.line(format_args!("  {}", version_text(version, known)))?;
        let mut line = ls::as_json(&version.entry);
        line["snapshots"] = version.snapshots.iter().map(ToString::to_string).collect();
        output.json("match", line)?;
    }
    Ok(())
}

fn version_text(version: &FoundVersion, known: &HashMap<SnapshotId, &Snapshot>) -> String {
    let what = match &version.entry.kind {
        EntryKind::File(content) => bytes(content.size),
        kind => ls::kind_of(kind).1.replace('_', " "),
    };
    let modified = match &version.entry.kind {
        EntryKind::HardLink(_) => String::new(),
        _ => time::local(version.entry.metadata.modified),
    };
    let when = |id: &SnapshotId| {
        let time = known.get(id).map(|snapshot| time::local(snapshot.header.time)).unwrap_or_default();
        format!("{} ({time})", short_id(id))
    };
    let holders = match &version.snapshots[..] {
        [] => String::new(),
        [only] => format!("in {}", when(only)),
        [first, .., last] => format!("in {} snapshots, {} to {}", count(version.snapshots.len() as u64), when(first), when(last)),
    };
    format!("{what:>10}  {modified:19}  {holders}")
}

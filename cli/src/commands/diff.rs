//! `diff`: what changed between two snapshots.

use super::ls::{kind_of, short_line};
use super::selection::Filter;
use super::snapshots::short_id;
use crate::context::Context;
use crate::exit::{Outcome, usage};
use crate::names::{path_of, put_path};
use crate::output::Output;
use crate::size::{bytes, count};
use crate::table::{Colour, coloured, has_colours};
use icecore::Error;
use icecore::browse::{DiffSummary, Difference};
use icecore::entry::{Entry, EntryKind};
use icecore::repository::{Repository, Snapshot};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Says what changed between two snapshots
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore diff latest                      what the last backup of the newest series changed\n  \
    icecore diff 3f2a9c1d 77b0e2aa\n  \
    icecore diff 3f2a9c1d latest --path home/ann\n\n\
    Each line has a mark: + added, - removed, C content changed, M only owner, mode, time or attributes changed, T became something else. \
    What both snapshots have in common is not read, so this is quick however large they are.")]
pub(crate) struct Args {
    /// `latest`, or an id or the first digits of one
    #[arg(value_name = "SNAPSHOT|latest")]
    before: String,
    /// The later one; without it the first one is compared with the snapshot of its series before it
    #[arg(value_name = "SNAPSHOT|latest")]
    after: Option<String>,
    #[command(flatten)]
    filter: Filter,
    /// Only what is at this path and below it
    #[arg(long, value_name = "PATH")]
    path: Option<OsString>,
    /// Leaves out those of which only owner, mode, time or attributes changed
    #[arg(long)]
    no_metadata: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open()?;
    let (before, after) = find_both(args, &repository)?;
    let output = &context.output;
    let has_colours = has_colours();
    let progress = context.progress()?;
    let path = args.path.as_ref().map(|path| path.as_bytes());
    let summary = repository.diff(&before, &after, path, &progress, &mut |difference| {
        if args.no_metadata && matches!(difference, Difference::Changed { kind: false, content: false, .. }) {
            return Ok(());
        }
        let written = match output.is_json() {
            true => output.json("difference", as_json(&difference)),
            false => output.line(line_of(&difference, has_colours)),
        };
        written.map_err(|error| Error::io("listing", error))
    })?;
    drop(progress);
    report(&summary, &before, &after, output)?;
    Ok(Outcome::Done)
}

/// Both snapshots, the earlier one first where one was left out.
fn find_both(args: &Args, repository: &Repository) -> anyhow::Result<(Snapshot, Snapshot)> {
    let first = args.filter.find(repository, &args.before)?;
    if let Some(after) = &args.after {
        return Ok((first, args.filter.find(repository, after)?));
    }
    let place = |snapshot: &Snapshot| (snapshot.header.time, snapshot.header.sequence, snapshot.id);
    let (all, _) = repository.snapshots_and_problems()?;
    let earlier = all.into_iter().rev().find(|other| other.body.series == first.body.series && place(other) < place(&first));
    match earlier {
        Some(earlier) => Ok((earlier, first)),
        None => {
            let message = format!("snapshot {} is the first of its series; name two snapshots to compare", short_id(&first.id));
            Err(usage(message))
        }
    }
}

/// The mark, and the size or both sizes.
fn line_of(difference: &Difference, has_colours: bool) -> String {
    let (mark, colour, entry, sizes) = match difference {
        Difference::Added(entry) => ("+", Colour::Green, entry, size_text(entry)),
        Difference::Removed(entry) => ("-", Colour::Red, entry, size_text(entry)),
        Difference::Changed { before, after, kind, content, .. } => {
            let mark = match (kind, content) {
                (true, _) => "T",
                (false, true) => "C",
                (false, false) => "M",
            };
            let (old, new) = (size_text(before), size_text(after));
            let sizes = if old == new { new } else { format!("{old} -> {new}") };
            (mark, Colour::Yellow, &**after, sizes)
        }
        _ => return String::new(),
    };
    format!("{}  {sizes:>24}  {}", coloured(mark, colour, has_colours), short_line(entry))
}

fn size_of(entry: &Entry) -> Option<u64> {
    match &entry.kind {
        EntryKind::File(content) => Some(content.size),
        _ => None,
    }
}

fn size_text(entry: &Entry) -> String {
    size_of(entry).map(bytes).unwrap_or_default()
}

fn as_json(difference: &Difference) -> Value {
    let (mut line, entry) = match difference {
        Difference::Added(entry) => (json!({"change": "added", "kind": kind_of(&entry.kind).1, "size": size_of(entry)}), entry),
        Difference::Removed(entry) => (json!({"change": "removed", "kind": kind_of(&entry.kind).1, "size": size_of(entry)}), entry),
        Difference::Changed { before, after, kind, content, metadata } => {
            let line = json!({
                "change": "changed",
                "kind": kind_of(&after.kind).1,
                "kind_before": kind_of(&before.kind).1,
                "size": size_of(after),
                "size_before": size_of(before),
                "kind_changed": kind,
                "content_changed": content,
                "metadata_changed": metadata,
            });
            (line, &**after)
        }
        _ => return json!({}),
    };
    put_path(&mut line, &path_of(&entry.key));
    line
}

fn report(summary: &DiffSummary, before: &Snapshot, after: &Snapshot, output: &Output) -> anyhow::Result<()> {
    output.report(format_args!(
        "{} to {}: {} added ({}), {} removed ({}), {} changed, {} of them in content ({} -> {})",
        short_id(&before.id),
        short_id(&after.id),
        count(summary.added),
        bytes(summary.added_bytes),
        count(summary.removed),
        bytes(summary.removed_bytes),
        count(summary.changed),
        count(summary.changed_content),
        bytes(summary.changed_bytes_before),
        bytes(summary.changed_bytes_after)
    ))?;
    let line = json!({
        "snapshot_before": before.id.to_string(),
        "snapshot_after": after.id.to_string(),
        "added": summary.added,
        "added_bytes": summary.added_bytes,
        "removed": summary.removed,
        "removed_bytes": summary.removed_bytes,
        "changed": summary.changed,
        "changed_content": summary.changed_content,
        "changed_bytes_before": summary.changed_bytes_before,
        "changed_bytes_after": summary.changed_bytes_after,
        "nodes_read": summary.nodes_read,
    });
    output.json("summary", line)?;
    Ok(())
}

//! `stats`: how much there is, how much of it is unique, how much is stored.

use super::selection::Filter;
use crate::context::Context;
use crate::exit::{Outcome, usage};
use crate::size::{bytes, count};
use serde_json::json;

/// Says how much there is, how much of it is unique, and how much is stored
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore stats           all snapshots together\n  \
    icecore stats latest")]
pub(crate) struct Args {
    /// Only this snapshot: `latest`, or the first digits of an id
    snapshot: Option<String>,
    #[command(flatten)]
    filter: Filter,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open()?;
    let snapshot = match &args.snapshot {
        Some(snapshot) => Some(args.filter.find(&repository, snapshot)?),
        None if args.filter.is_given() => return Err(usage("--series and --at choose among snapshots; add `latest`")),
        None => None,
    };
    let progress = context.progress()?;
    let stats = repository.stats(snapshot.as_ref(), &progress)?;
    drop(progress);
    let output = &context.output;
    output.line(format_args!("snapshots  {}", count(stats.snapshots)))?;
    output.line(format_args!("entries    {}, {} files among them", count(stats.entries), count(stats.files)))?;
    output.line(format_args!("content    {}", bytes(stats.logical_bytes)))?;
    output.line(format_args!("unique     {} in {} chunks", bytes(stats.unique_bytes), count(stats.unique_chunks)))?;
    output.line(format_args!("stored     {} in {} packs", bytes(stats.stored_bytes), count(stats.packs)))?;
    if snapshot.is_none() {
        output.line(format_args!("objects    {}", count(stats.objects)))?;
    }
    let summary = json!({
        "snapshot_id": snapshot.map(|snapshot| snapshot.id.to_string()),
        "snapshots": stats.snapshots,
        "entries": stats.entries,
        "files": stats.files,
        "logical_bytes": stats.logical_bytes,
        "unique_chunks": stats.unique_chunks,
        "unique_bytes": stats.unique_bytes,
        "stored_bytes": stats.stored_bytes,
        "packs": stats.packs,
        "objects": stats.objects,
    });
    output.json("summary", summary)?;
    Ok(Outcome::Done)
}

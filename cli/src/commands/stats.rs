//! `stats`: how much there is, how much of it is unique, how much is stored.

use super::forget::{find, plan};
use super::rules::Rules;
use super::selection::Filter;
use super::snapshots::{report_problems, short_id};
use crate::context::Context;
use crate::exit::{Outcome, usage};
use crate::names::shown;
use crate::size::{bytes, count, counted};
use crate::table::{Column, Table, terminal_width};
use crate::time;
use icecore::check::Stats;
use icecore::gc::PackGroup;
use icecore::repository::Snapshot;
use icecore::tiers::TierBody;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Says how much there is, how much of it is unique, and how much is stored
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore stats           all snapshots together\n  \
    icecore stats latest\n  \
    icecore stats --by series\n  \
    icecore stats --if-forgotten 3f2a9c1d 77b0e2aa\n  \
    icecore stats --if-forgotten --keep-daily 7 --keep-weekly 4")]
pub(crate) struct Args {
    /// Only this snapshot: `latest`, or the first digits of an id
    snapshot: Option<String>,
    #[command(flatten)]
    filter: Filter,
    /// One line for each snapshot, or for each series with what its snapshots share counted once
    #[arg(long, value_name = "WHAT", value_enum, conflicts_with_all = ["snapshot", "at", "if_forgotten"])]
    by: Option<By>,
    /// Says how much forgetting these snapshots would free, or those that the rules would drop
    #[arg(long, value_name = "ID", num_args = 0.., conflicts_with_all = ["snapshot", "at"])]
    if_forgotten: Option<Vec<String>>,
    #[command(flatten)]
    rules: Rules,
    /// With rules: asks them only about snapshots with this tag (can be repeated: with all of them)
    #[arg(long, value_name = "TAG", requires = "if_forgotten")]
    tag: Vec<String>,
}

/// What a line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum By {
    Snapshot,
    Series,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    match &args.if_forgotten {
        Some(ids) => return if_forgotten(ids, args, context),
        None if !args.rules.policy().is_empty() => return Err(usage("rules say what would be forgotten; add --if-forgotten")),
        None => {}
    }
    if let Some(by) = args.by {
        return each(by, args, context);
    }
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
    output.line(format_args!("entries    {}, {} among them", count(stats.entries), counted(stats.files, "file")))?;
    output.line(format_args!("content    {}", bytes(stats.logical_bytes)))?;
    output.line(format_args!("unique     {} in {}", bytes(stats.unique_bytes), counted(stats.unique_chunks, "chunk")))?;
    if stats.delta_bytes > 0 {
        output.line(format_args!("as deltas  {} of it, stored in {}", bytes(stats.delta_bytes), bytes(stats.delta_stored_bytes)))?;
    }
    output.line(format_args!("stored     {} in {}", bytes(stats.stored_bytes), counted(stats.packs, "pack")))?;
    if snapshot.is_none() {
        if stats.parity_bytes > 0 {
            output.line(format_args!("parity     {}", bytes(stats.parity_bytes)))?;
        }
        output.line(format_args!("objects    {}", count(stats.objects)))?;
    }
    let tiers = if snapshot.is_none() { repository.tier_map()?.tiers } else { Vec::new() };
    for (tier, packs) in &tiers {
        output.line(format_args!("in tier    {}: {} of it in {}", tier.name, bytes(packs.bytes), counted(packs.packs, "pack")))?;
    }
    let mut summary = as_json(&stats);
    summary["snapshot_id"] = snapshot.map(|snapshot| snapshot.id.to_string()).into();
    summary["objects"] = stats.objects.into();
    summary["parity_bytes"] = stats.parity_bytes.into();
    let tier = |(tier, packs): &(Arc<TierBody>, PackGroup)| json!({"name": tier.name, "packs": packs.packs, "bytes": packs.bytes});
    summary["tiers"] = tiers.iter().map(tier).collect::<Vec<_>>().into();
    output.json("summary", summary)?;
    Ok(Outcome::Done)
}

fn as_json(stats: &Stats) -> Value {
    json!({
        "snapshots": stats.snapshots,
        "entries": stats.entries,
        "files": stats.files,
        "logical_bytes": stats.logical_bytes,
        "unique_chunks": stats.unique_chunks,
        "unique_bytes": stats.unique_bytes,
        "delta_bytes": stats.delta_bytes,
        "delta_stored_bytes": stats.delta_stored_bytes,
        "stored_bytes": stats.stored_bytes,
        "packs": stats.packs,
    })
}

/// A line for each snapshot or series.
fn each(by: By, args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open()?;
    let (mut snapshots, problems) = repository.snapshots_and_problems()?;
    snapshots.retain(|snapshot| args.filter.series().is_none_or(|series| snapshot.body.series == series));
    let mut groups: BTreeMap<String, Vec<Snapshot>> = BTreeMap::new();
    for (number, snapshot) in snapshots.into_iter().enumerate() {
        let group = if by == By::Series { snapshot.body.series.clone() } else { format!("{number:020}") };
        groups.entry(group).or_default().push(snapshot);
    }
    let names = [("id", Column::Left), ("time", Column::Left), ("series", Column::Shortened)];
    let [id, time, series] = if by == By::Series { [("snapshots", Column::Right), ("newest", Column::Left), names[2]] } else { names };
    let numbers = ["entries", "content", "unique", "stored"].map(|name| (name, Column::Right));
    let mut table = Table::new([id, time, numbers[0], numbers[1], numbers[2], numbers[3], series]);
    let progress = context.progress()?;
    let output = &context.output;
    for snapshots in groups.values() {
        let (Some(newest), stats) = (snapshots.last(), repository.stats_of(snapshots, &progress)?) else { continue };
        let first = if by == By::Series { count(stats.snapshots) } else { short_id(&newest.id) };
        let sizes = [stats.logical_bytes, stats.unique_bytes, stats.stored_bytes].map(bytes);
        let [content, unique, stored] = sizes;
        let series = shown(newest.body.series.as_bytes());
        table.push([first, time::local(newest.header.time), count(stats.entries), content, unique, stored, series]);
        let mut line = as_json(&stats);
        line["series"] = newest.body.series.as_str().into();
        line["newest"] = time::rfc3339(newest.header.time).into();
        if by == By::Snapshot {
            line["snapshot_id"] = newest.id.to_string().into();
        }
        output.json(if by == By::Series { "series" } else { "snapshot" }, line)?;
    }
    drop(progress);
    table.lines(terminal_width()).into_iter().try_for_each(|line| output.line(line))?;
    let outcome = report_problems(&problems, output);
    output.json("summary", json!({"lines": groups.len(), "problems": problems.len()}))?;
    Ok(outcome)
}

/// What forgetting would free.
fn if_forgotten(ids: &[String], args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let policy = args.rules.policy();
    if ids.is_empty() == policy.is_empty() {
        return Err(usage("--if-forgotten takes either ids or rules like --keep-daily 7"));
    }
    let repository = context.open()?;
    let output = &context.output;
    let (ids, problems) = if ids.is_empty() {
        let plan = plan(&repository, &args.rules, args.filter.series(), &args.tag)?;
        (plan.dropped(), plan.problems)
    } else {
        (find(&repository, ids)?, Vec::new())
    };
    let progress = context.progress()?;
    let freed = repository.stats_if_forgotten(&ids, &progress)?;
    drop(progress);
    output.line(format_args!("snapshots  {}", count(freed.snapshots)))?;
    output.line(format_args!("freed      {} in {} that nothing else needs", bytes(freed.bytes), counted(freed.frames, "frame")))?;
    output.line(format_args!("in part    about {} of frames that others need, too", bytes(freed.bytes_in_part)))?;
    let outcome = report_problems(&problems, output);
    let summary = json!({
        "snapshot_ids": ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "snapshots": freed.snapshots,
        "frames_freed": freed.frames,
        "bytes_freed": freed.bytes,
        "bytes_freed_in_part": freed.bytes_in_part,
        "problems": problems.len(),
    });
    output.json("summary", summary)?;
    Ok(outcome)
}

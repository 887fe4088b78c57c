//! `replicate`: copies snapshots to another repository.

use super::filter::SnapshotFilter;
use super::snapshots::{report_problems, short_id};
use crate::context::Context;
use crate::exit::{self, Outcome, usage};
use crate::output::Output;
use crate::second::{Second, SecondSecret};
use crate::size::{bytes, count, counted};
use crate::store::SecondStoreOptions;
use crate::time;
use icecore::id::SnapshotId;
use icecore::replicate::{ReplicateOptions, ReplicateSummary};
use icecore::repository::{Replica, Repository};
use serde_json::{Value, json};
use std::ffi::OsString;

/// Copies snapshots to another repository; only what is missing there travels
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore replicate --to /mnt/second                        all snapshots; an empty folder becomes a replica with the same keys\n  \
    icecore replicate --to /mnt/second --series web --latest 3\n  \
    icecore replicate --to /mnt/second 3f2a9c1d --dry-run     says what would travel\n  \
    ICECORE_TO_AWS_PROFILE=away icecore replicate --to s3://second/backups --to-endpoint https://s3.example.org\n\n\
    What opens the repository opens its replica, and a key that can only maintain is enough to replicate. It can be stopped and run again at any \
    time: what arrived is used. What is forgotten at one place stays at the other, so each has its own `icecore forget` and `icecore gc`.\n\
    The way back: `icecore repair --from /mnt/second` mends this repository with what its replica has.\n\n\
    Exit code 14 says that something could not be copied because it is damaged; the rest was.")]
pub(crate) struct Args {
    /// Ids or their first digits, as `icecore snapshots` shows them; without any, all snapshots that fit
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// The other repository; where there is none, an empty folder that becomes a replica
    #[arg(long, value_name = "REPO")]
    to: OsString,
    #[command(flatten)]
    secret: SecondSecret,
    #[command(flatten)]
    store: SecondStoreOptions,
    #[command(flatten)]
    filter: SnapshotFilter,
    /// Only says what would be copied
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    if !args.ids.is_empty() && args.filter.is_given() {
        return Err(usage("name snapshots or say which ones fit, not both"));
    }
    let (source, key) = context.open_to_read_with_key()?;
    let output = &context.output;
    let (snapshots, chosen) = choose(args, &source, context)?;
    let mut second = match args.dry_run {
        true => Second::find_or_imagine(&args.to, &args.store, context)?,
        false => Second::find_or_make(&args.to, &args.store, context)?,
    };
    let was = second.replica_of(&source)?;
    let is_empty = was == Replica::Nothing;
    if is_empty && args.dry_run {
        second = Second::imagined(second.name);
    }
    let target = match was {
        Replica::Other => second.open_other(&args.secret, context)?,
        _ => {
            if is_empty || !args.dry_run {
                source.make_replica(&second.backend)?;
            }
            second.open_replica(&source, &key, context)?
        }
    };
    if is_empty {
        let what = if args.dry_run { "is empty: a new replica would be made" } else { "was empty: made a new replica" };
        output.note(format_args!("{} {what}; what opens {} opens it, too", second.name, source.describe()));
    }
    let mut options = ReplicateOptions::default();
    options.snapshots = snapshots;
    options.dry_run = args.dry_run;
    let summary = source.replicate(&target, &options, &context.progress()?)?;
    print(&summary, args.dry_run, &second.name, output)?;
    let mut line = as_json(&summary);
    line["dry_run"] = args.dry_run.into();
    line["target"] = second.name.into();
    line["target_made"] = (is_empty && !args.dry_run).into();
    line["target_empty"] = is_empty.into();
    output.json("summary", line)?;
    Ok(match summary.has_damage() {
        true => Outcome::DamageFound,
        false => chosen,
    })
}

/// The snapshots that are meant, `None` for all; and how the command ends where some of those to choose from are damaged.
fn choose(args: &Args, source: &Repository, context: &Context) -> anyhow::Result<(Option<Vec<SnapshotId>>, Outcome)> {
    if !args.ids.is_empty() {
        return Ok((Some(source.find_snapshot_ids(&args.ids)?), Outcome::Done));
    }
    if !args.filter.is_given() {
        return Ok((None, Outcome::Done));
    }
    let (snapshots, problems) = source.snapshots_and_problems()?;
    let chosen = args.filter.choose(snapshots, context)?;
    Ok((Some(chosen.iter().map(|snapshot| snapshot.id).collect()), report_problems(&problems, &context.output)))
}

/// Says what was copied.
pub(super) fn print(summary: &ReplicateSummary, dry_run: bool, target: &str, output: &Output) -> anyhow::Result<()> {
    for id in &summary.snapshots {
        output.line(format_args!("{}  {}", if dry_run { "would copy" } else { "copied" }, short_id(id)))?;
        output.json("snapshot", json!({"id": id.to_string(), "action": if dry_run { "copy" } else { "copied" }}))?;
    }
    for id in &summary.snapshots_forgotten {
        output.note(format_args!("snapshot {} was forgotten there and is left out", short_id(id)));
    }
    for (id, why) in &summary.snapshots_damaged {
        output.warn(format_args!("snapshot {} was not copied: {why}", short_id(id)));
        output.json("snapshot", json!({"id": id.to_string(), "action": "left_out", "reason": why}))?;
    }
    for pack in &summary.packs_damaged {
        output.warn(format_args!("{pack} is damaged, and was not copied"));
    }
    for problem in &summary.problems {
        output.warn(problem);
    }
    if summary.has_damage() {
        output.note(exit::DAMAGED);
    }
    let copied = counted(summary.snapshots.len() as u64, "snapshot");
    let (planned, frames) = (bytes(summary.bytes_planned), counted(summary.frames_planned, "frame"));
    let there = count(summary.snapshots_present);
    match dry_run {
        true => output.report(format_args!("{copied}, {planned} in {frames} would travel to {target}; {there} are there")),
        false => output.report(format_args!(
            "{copied} copied to {target} in {}, {there} were there: {planned} in {frames} were missing, {} were sent",
            time::duration(summary.duration_ns),
            bytes(summary.bytes_sent)
        )),
    }?;
    Ok(())
}

pub(super) fn as_json(summary: &ReplicateSummary) -> Value {
    json!({
        "snapshots_copied": summary.snapshots.len(),
        "snapshots_present": summary.snapshots_present,
        "snapshots_forgotten": summary.snapshots_forgotten.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "snapshots_damaged": summary.snapshots_damaged.len(),
        "problems": summary.problems.len(),
        "packs_damaged": summary.packs_damaged.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "frames_planned": summary.frames_planned,
        "bytes_planned": summary.bytes_planned,
        "bytes_sent": summary.bytes_sent,
        "packs_written": summary.written.packs,
        "duration_s": summary.duration_ns as f64 / 1e9,
    })
}

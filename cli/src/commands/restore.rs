//! `restore`: writes what a snapshot holds into a folder, or one file of it to standard output.

use super::selection::Selection;
use super::snapshots::short_id;
use crate::context::Context;
use crate::exit::Outcome;
use crate::names::shown;
use crate::size::{bytes, count};
use crate::time;
use icecore::repository::Snapshot;
use icecore::restore::{RestoreOptions, RestoreSummary};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Writes what a snapshot holds into a folder, or one file of it to standard output
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("destination").required(true),
    after_help = "Examples:\n  \
    icecore restore latest --target /tmp/restored\n  \
    icecore restore latest --series web:/var/www --at 2026-10-03 --target /tmp/restored\n  \
    icecore restore 3f2a9c1d --path home/ann/letter.txt --target /tmp/restored    as /tmp/restored/home/ann/letter.txt\n  \
    icecore restore latest --series db:shop.sql --stdout | psql shop\n\n\
    Of files that are in the target already only what differs is written; what the snapshot does not have stays. A restore \
    that was interrupted goes on when it is run again."
)]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Only this file, or this folder and what is in it, as `icecore ls` shows it
    #[arg(long, value_name = "PATH")]
    path: Option<OsString>,
    /// Folder to restore into; made where it does not exist
    #[arg(long, value_name = "FOLDER", group = "destination")]
    target: Option<PathBuf>,
    /// Writes the content of the one file to standard output
    #[arg(long, group = "destination")]
    stdout: bool,
    /// Only says what would be restored
    #[arg(long, conflicts_with = "stdout")]
    dry_run: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    match &args.target {
        Some(target) => to_folder(args, target, context),
        None => to_stdout(&args.selection, args.path.clone(), context),
    }
}

fn to_folder(args: &Args, target: &Path, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open()?;
    let snapshot = args.selection.find(&repository)?;
    let mut options = RestoreOptions::default();
    options.path = args.path.clone().map(OsString::into_vec);
    options.dry_run = args.dry_run;
    let progress = context.progress()?;
    let summary = repository.restore(&snapshot, target, &options, &progress)?;
    drop(progress);
    report(&summary, &snapshot, target, args.dry_run, context)?;
    let mut line = as_json(&summary, &snapshot);
    line["target"] = target.display().to_string().into();
    line["dry_run"] = args.dry_run.into();
    context.output.json("summary", line)?;
    Ok(if summary.damaged { Outcome::DamageFound } else { Outcome::of_items_failed(summary.items_failed) })
}

/// Writes one file of a snapshot to standard output.
pub(super) fn to_stdout(selection: &Selection, path: Option<OsString>, context: &Context) -> anyhow::Result<Outcome> {
    let mut data = context.output.begin_data();
    let repository = context.open()?;
    let snapshot = selection.find(&repository)?;
    let path = path.map(OsString::into_vec);
    let progress = context.progress()?;
    let summary = repository.restore_to_writer(&snapshot, path.as_deref(), &mut data, &progress)?;
    drop(progress);
    data.flush()?;
    context.output.json("summary", as_json(&summary, &snapshot))?;
    Ok(Outcome::Done)
}

fn report(summary: &RestoreSummary, snapshot: &Snapshot, target: &Path, is_dry_run: bool, context: &Context) -> anyhow::Result<()> {
    let output = &context.output;
    let (did, written) = if is_dry_run { ("would restore", "would be written into an empty folder") } else { ("restored", "written") };
    output.report(format_args!(
        "{did} snapshot {} of {} ({}) into {}",
        short_id(&snapshot.id),
        time::local(snapshot.header.time),
        shown(snapshot.body.series.as_bytes()),
        target.display()
    ))?;
    output.report(format_args!("  entries  {}, {} files among them", count(summary.entries), count(summary.files)))?;
    let unchanged = match summary.bytes_unchanged {
        0 => String::new(),
        unchanged => format!(", {} were there already", bytes(unchanged)),
    };
    output.report(format_args!("  content  {}: {} {written}{unchanged}", bytes(summary.bytes_total), bytes(summary.bytes_written)))?;
    output.report(format_args!("  time     {}", time::duration(summary.duration_ns)))?;
    if !output.is_json() && summary.items_failed > 0 {
        output.warn(format_args!("{} items were not restored, or only in part (see above)", count(summary.items_failed)));
    }
    if !output.is_json() && summary.damaged {
        output.warn("the repository is damaged; `icecore scrub` says what else that concerns");
    }
    Ok(())
}

fn as_json(summary: &RestoreSummary, snapshot: &Snapshot) -> Value {
    json!({
        "snapshot_id": summary.snapshot.to_string(),
        "series": snapshot.body.series,
        "time": time::rfc3339(snapshot.header.time),
        "entries": summary.entries,
        "files": summary.files,
        "items_failed": summary.items_failed,
        "damaged": summary.damaged,
        "bytes_total": summary.bytes_total,
        "bytes_written": summary.bytes_written,
        "bytes_unchanged": summary.bytes_unchanged,
        "bytes_fetched": summary.bytes_fetched,
        "frames_decoded": summary.frames_decoded,
        "packs_read": summary.packs_read,
        "duration_s": summary.duration_ns as f64 / 1e9,
    })
}

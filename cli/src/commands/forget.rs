//! `forget`: drops snapshots that were named, or that no rule keeps.

use super::key::credential_name;
use super::rules::Rules;
use super::selection::advise;
use super::snapshots::{report_problems, short_id};
use crate::context::Context;
use crate::exit::{Outcome, usage};
use crate::names::shown;
use crate::output::Output;
use crate::size::{count, counted};
use crate::time;
use icecore::ErrorKind;
use icecore::id::{SnapshotId, to_hex};
use icecore::repository::Repository;
use icecore::retention::{ForgetPlan, ForgetSummary, PlannedSnapshot, SnapshotFilter};
use serde_json::json;

/// Drops snapshots: those that are named, or those that no rule keeps
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore forget 3f2a9c1d\n  \
    icecore forget --keep-daily 7 --keep-weekly 4 --keep-monthly 12 --dry-run    says what would go, and why\n  \
    icecore forget --series web:/var/www --keep-within 30d --keep-tag release\n\n\
    Rules count within each series, and within it for each credential that backs up. A snapshot stays if one of the rules keeps it; the \
    newest of a series always stays, unless it is named. Space comes back with `icecore gc`.")]
pub(crate) struct Args {
    /// Ids or their first digits, as `icecore snapshots` shows them
    #[arg(value_name = "ID", conflicts_with_all = ["rules", "series", "tag"])]
    ids: Vec<String>,
    #[command(flatten)]
    rules: Rules,
    /// Asks the rules only about the snapshots of this series
    #[arg(long, value_name = "NAME")]
    series: Option<String>,
    /// Asks the rules only about snapshots with this tag (can be repeated: with all of them)
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only says what would be forgotten
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let policy = args.rules.policy();
    if args.ids.is_empty() && policy.is_empty() {
        return Err(usage("say which snapshots to forget: their ids, or at least one rule like --keep-daily 7; nothing was forgotten"));
    }
    let repository = context.open()?;
    let output = &context.output;
    let plan = match args.ids.is_empty() {
        true => Some(plan(&repository, &args.rules, args.series.as_deref(), &args.tag)?),
        false => None,
    };
    let ids = plan.as_ref().map_or_else(|| find(&repository, &args.ids), |plan| Ok(plan.dropped()))?;
    let summary = match args.dry_run || ids.is_empty() {
        true => ForgetSummary::default(),
        false => repository.forget(&ids, &context.progress()?)?,
    };
    // Only now: what is shown as dropped was dropped.
    match &plan {
        Some(plan) => print_plan(plan, &repository, output)?,
        None => print_named(&ids, output)?,
    }
    print_summary(&summary, ids.len(), args.dry_run, output)?;
    let problems = plan.as_ref().map_or(&[][..], |plan| &plan.problems);
    let kept = plan.as_ref().map_or(0, |plan| plan.snapshots.len() - ids.len());
    let outcome = report_problems(problems, output);
    let line = json!({
        "dry_run": args.dry_run,
        "snapshots_kept": kept,
        "snapshots_dropped": ids.len(),
        "forgotten": summary.forgotten,
        "withdrawn_before": summary.withdrawn_before,
        "problems": problems.len(),
    });
    output.json("summary", line)?;
    Ok(outcome)
}

/// What rules say of the snapshots of a series, or of all, that have these tags.
pub(super) fn plan(repository: &Repository, rules: &Rules, series: Option<&str>, tags: &[String]) -> icecore::Result<ForgetPlan> {
    let mut filter = SnapshotFilter::default();
    filter.series = series.map(str::to_owned);
    filter.tags = tags.to_vec();
    repository.plan_forget(&rules.policy(), &filter, &time::civil).map_err(|error| match (error.kind(), series) {
        (ErrorKind::NotFound, Some(series)) => advise(error, repository, series),
        _ => error,
    })
}

/// The snapshots with these ids. Whatever may be the latest one at the moment is not forgotten by that name.
pub(super) fn find(repository: &Repository, ids: &[String]) -> anyhow::Result<Vec<SnapshotId>> {
    if ids.iter().any(|id| id == "latest") {
        return Err(usage("`latest` may be another snapshot by now; name it by its id"));
    }
    Ok(repository.find_snapshot_ids(ids)?)
}

fn print_named(ids: &[SnapshotId], output: &Output) -> anyhow::Result<()> {
    for id in ids {
        output.line(format_args!("drop  {}  named", short_id(id)))?;
        output.json("snapshot", json!({"id": id.to_string(), "action": "drop", "reasons": ["named"]}))?;
    }
    Ok(())
}

fn print_plan(plan: &ForgetPlan, repository: &Repository, output: &Output) -> anyhow::Result<()> {
    let (slots, _) = repository.slots()?;
    let signer_of = |snapshot: &PlannedSnapshot| *snapshot.header.record.certificate().verifying_key();
    let groups = plan.snapshots.chunk_by(|a, b| a.header.series == b.header.series && signer_of(a) == signer_of(b));
    for group in groups {
        let first = &group[0];
        let is_only_signer = |other: &PlannedSnapshot| other.header.series != first.header.series || signer_of(other) == signer_of(first);
        let signer = match plan.snapshots.iter().all(is_only_signer) {
            true => String::new(),
            false => format!(", made with {}", credential_name(first.header.record.certificate().credential(), &slots)),
        };
        let kept = group.iter().filter(|snapshot| snapshot.verdict.is_keep()).count();
        output.line(format_args!("{}{signer}: {} of {} stay", name_of(first), count(kept as u64), count(group.len() as u64)))?;
        group.iter().try_for_each(|snapshot| print_snapshot(snapshot, output))?;
    }
    Ok(())
}

fn print_snapshot(snapshot: &PlannedSnapshot, output: &Output) -> anyhow::Result<()> {
    let reasons = snapshot.verdict.reasons();
    let action = if snapshot.verdict.is_keep() { "keep" } else { "drop" };
    let time = time::local(snapshot.header.time);
    output.line(format_args!("  {action}  {}  {time}  {}", short_id(&snapshot.id), reasons.join(", ")))?;
    let body = snapshot.body.as_ref();
    let line = json!({
        "id": snapshot.id.to_string(),
        "series": body.map(|body| &body.series),
        "series_token": to_hex(&snapshot.header.series),
        "credential": snapshot.header.record.certificate().credential().to_string(),
        "time": time::rfc3339(snapshot.header.time),
        "tags": body.map(|body| &body.tags),
        "action": action,
        "reasons": reasons,
    });
    output.json("snapshot", line)?;
    Ok(())
}

/// The name of the snapshot's series, or where the credential may not know it what stands for it.
fn name_of(snapshot: &PlannedSnapshot) -> String {
    match &snapshot.body {
        Some(body) => shown(body.series.as_bytes()),
        None => format!("series {}", to_hex(&snapshot.header.series)),
    }
}

fn print_summary(summary: &ForgetSummary, dropped: usize, is_dry_run: bool, output: &Output) -> anyhow::Result<()> {
    if is_dry_run {
        output.report(format_args!("{} would be forgotten; nothing was changed", counted(dropped as u64, "snapshot")))?;
        return Ok(());
    }
    let before = match summary.withdrawn_before {
        0 => String::new(),
        before => format!(", {} had been already", count(before)),
    };
    let advice = if dropped > 0 { "; `icecore gc` brings back the space that only they needed" } else { "" };
    output.report(format_args!("{} forgotten{before}{advice}", counted(summary.forgotten, "snapshot")))?;
    Ok(())
}

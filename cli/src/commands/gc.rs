//! `gc`: brings back the space that no snapshot needs any more.

use crate::context::Context;
use crate::exit::{self, Outcome};
use crate::money;
use crate::names::shown;
use crate::output::Output;
use crate::size::{bytes, count, counted};
use crate::time;
use icecore::gc::{GcOptions, GcPlan, GcSummary, OpenSession, PackGroup};
use serde_json::{Value, json};

/// Brings back the space that no snapshot needs any more
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore gc --dry-run    says what would go\n  \
    icecore gc\n\n\
    Backups and restores may run at the same time. What they may still need stays until they have ended: gc then says whom it waits for, \
    exits with 0, and the next gc goes on.\n\n\
    Where the passphrase or key may also restore, frames of which less than three quarters are needed are made anew without what nobody needs. A key that may \
    only maintain copies whole frames.")]
pub(crate) struct Args {
    /// Only says what would be done
    #[arg(long)]
    dry_run: bool,
    /// Copies until the unneeded bytes in packs that stay are at most this share of the needed ones, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = GcOptions::default().dead_percent_max)]
    max_dead: u8,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open()?;
    let mut options = GcOptions::default();
    options.dead_percent_max = args.max_dead;
    let progress = context.progress()?;
    let output = &context.output;
    let (plan, damaged) = if args.dry_run {
        let plan = repository.gc_plan(&options, &progress)?;
        drop(progress);
        print_plan(&plan, output)?;
        say_waiting(&plan.waits_for, output)?;
        let mut line = plan_as_json(&plan);
        line["dry_run"] = true.into();
        output.json("summary", line)?;
        (plan, 0)
    } else {
        let summary = repository.gc(&options, &progress)?;
        drop(progress);
        print_summary(&summary, output)?;
        say_waiting(&summary.waits_for, output)?;
        output.json("summary", summary_as_json(&summary))?;
        (summary.plan, summary.damaged.len())
    };
    Ok(outcome(&plan, damaged, output))
}

/// Damage was found where something that is needed could not be read; nothing of it went.
fn outcome(plan: &GcPlan, damaged: usize, output: &Output) -> Outcome {
    let damaged = (damaged + plan.unreadable.len()) as u64;
    if damaged == 0 {
        return Outcome::Done;
    }
    output.warn(format_args!("{} damaged and left alone", counted(damaged, "pack")));
    output.note(exit::DAMAGED);
    Outcome::DamageFound
}

fn print_plan(plan: &GcPlan, output: &Output) -> anyhow::Result<()> {
    output.line(format_args!(
        "snapshots     {}, {} of them of sessions that did not end",
        count(plan.snapshots),
        count(plan.snapshots_suspect)
    ))?;
    output.line(format_args!("packs         {}; {} are needed", group(plan.packs), bytes(plan.bytes_live)))?;
    output.line(format_args!("delete        {} of which nothing is needed", group(plan.dead)))?;
    output.line(format_args!("repack        {} of which little is needed", group(plan.sparse)))?;
    output.line(format_args!("merge         {} that are small", group(plan.small)))?;
    output.line(format_args!("copy          {}", bytes(plan.bytes_to_copy)))?;
    if plan.remake.frames > 0 {
        output.line(format_args!(
            "make anew     {} ({}) of which about {} are needed",
            counted(plan.remake.frames, "frame"),
            bytes(plan.remake.bytes),
            bytes(plan.remake.bytes_used)
        ))?;
    }
    output.line(format_args!("sweep         {} that an earlier gc condemned", group(plan.condemned)))?;
    if plan.cold.packs > 0 {
        output.line(format_args!("leave cold    {} in tiers, of which something is needed", group(plan.cold)))?;
    }
    if plan.early.packs > 0 {
        let cost = money::shown(plan.early_cost);
        output.line(format_args!(
            "early         {} in tiers before their minimum days have passed: {cost} are paid all the same",
            group(plan.early)
        ))?;
    }
    if plan.protected.packs > 0 {
        output.line(format_args!("leave alone   {} of sessions that are at work", group(plan.protected)))?;
    }
    output.report(format_args!("{} would come back; nothing was changed", bytes(plan.bytes_freed())))?;
    Ok(())
}

fn print_summary(summary: &GcSummary, output: &Output) -> anyhow::Result<()> {
    for session in &summary.sessions_given_up {
        output.detail(format_args!("session {session} was dead and was given up"));
    }
    for snapshot in &summary.snapshots_settled {
        output.note(format_args!("snapshot {snapshot} of a backup that was interrupted at its very end is whole and counts from now on"));
    }
    for snapshot in &summary.snapshots_withdrawn {
        output.note(format_args!("snapshot {snapshot} of a backup that was interrupted is not whole and was withdrawn"));
    }
    let freed = summary.deleted.bytes.saturating_sub(summary.written.bytes);
    output.report(format_args!(
        "{} came back in {}: {} deleted, {} written with what was needed of them",
        bytes(freed),
        time::duration(summary.duration_ns),
        group(summary.deleted),
        group(summary.written)
    ))?;
    if summary.frames_remade > 0 {
        output.report(format_args!(
            "made anew: {} of which little was needed, in {}",
            counted(summary.frames_remade, "frame"),
            bytes(summary.bytes_remade)
        ))?;
    }
    if summary.left.packs > 0 {
        output.report(format_args!("{} are condemned and go with a later gc", group(summary.left)))?;
    }
    Ok(())
}

fn say_waiting(sessions: &[OpenSession], output: &Output) -> anyhow::Result<()> {
    for open in sessions {
        let since = open.started.map(|started| format!(", since {}", time::local(started))).unwrap_or_default();
        output.report(format_args!("waiting for   session {} ({}{since})", open.session, shown(open.label.as_bytes())))?;
    }
    Ok(())
}

fn group(group: PackGroup) -> String {
    format!("{} ({})", counted(group.packs, "pack"), bytes(group.bytes))
}

fn group_as_json(group: PackGroup) -> Value {
    json!({"packs": group.packs, "bytes": group.bytes})
}

fn plan_as_json(plan: &GcPlan) -> Value {
    json!({
        "snapshots": plan.snapshots,
        "snapshots_suspect": plan.snapshots_suspect,
        "packs": group_as_json(plan.packs),
        "bytes_live": plan.bytes_live,
        "dead": group_as_json(plan.dead),
        "sparse": group_as_json(plan.sparse),
        "small": group_as_json(plan.small),
        "bytes_to_copy": plan.bytes_to_copy,
        "remake": {"frames": plan.remake.frames, "bytes": plan.remake.bytes, "bytes_used": plan.remake.bytes_used},
        "condemned_before": group_as_json(plan.condemned),
        "protected": group_as_json(plan.protected),
        "cold": group_as_json(plan.cold),
        "early": group_as_json(plan.early),
        "early_cost": money::as_number(plan.early_cost),
        "unreadable": plan.unreadable.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "bytes_to_free": plan.bytes_freed(),
        "waits_for": sessions_as_json(&plan.waits_for),
    })
}

fn summary_as_json(summary: &GcSummary) -> Value {
    json!({
        "dry_run": false,
        "plan": plan_as_json(&summary.plan),
        "epoch": summary.epoch,
        "condemned": group_as_json(summary.condemned),
        "written": group_as_json(summary.written),
        "bytes_copied": summary.bytes_copied,
        "frames_remade": summary.frames_remade,
        "bytes_remade": summary.bytes_remade,
        "deleted": group_as_json(summary.deleted),
        "left": group_as_json(summary.left),
        "waits_for": sessions_as_json(&summary.waits_for),
        "sessions_given_up": summary.sessions_given_up.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "snapshots_settled": summary.snapshots_settled.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "snapshots_withdrawn": summary.snapshots_withdrawn.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "damaged": summary.damaged.len(),
        "objects_removed": summary.objects_removed,
        "duration_s": summary.duration_ns as f64 / 1e9,
    })
}

fn sessions_as_json(sessions: &[OpenSession]) -> Value {
    let line = |open: &OpenSession| {
        json!({
            "session": open.session.to_string(),
            "label": open.label,
            "started": open.started.map(time::rfc3339),
            "epoch": open.epoch,
            "last_beat": open.last_beat,
        })
    };
    sessions.iter().map(line).collect()
}

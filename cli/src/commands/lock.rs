//! `lock`: snapshots that must not go until a date, which nobody can shorten.

use super::hold::short;
use super::snapshots::{report_problems, short_id};
use crate::context::Context;
use crate::exit::{Outcome, usage};
use crate::names::shown;
use crate::size::{count, counted};
use crate::time;
use icecore::id::SnapshotId;
use icecore::repository::{Hold, HoldState, LockEnd, Repository};
use serde_json::json;
use std::time::Duration;

/// A lock beyond this has to be asked for twice: nobody can take it back.
const LONG: Duration = Duration::from_secs(10 * 366 * 86_400);

/// Locks snapshots until a date; without snapshots lists the locks
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore lock latest --for 30d\n  \
    icecore lock 3f2a9c1d 77b0e2aa --until 2027-12-31 --dry-run\n  \
    icecore lock                                                   lists the locks\n\n\
    A lock can be made longer, by locking again, and never shorter: neither by the admin nor by deleting keys. A shorter one changes nothing. \
    It is over when the clock says so and something that was written to the repository a day before says so, too. `icecore hold` holds without a date.")]
pub(crate) struct Args {
    /// `latest`, or ids or the first digits of them
    #[arg(value_name = "SNAPSHOT|latest")]
    snapshots: Vec<String>,
    /// So long from now: 12h, 30d, 8w, or 1y (366 days)
    #[arg(long = "for", value_name = "DURATION", value_parser = time::parse_duration, conflicts_with = "until")]
    length: Option<Duration>,
    /// Until then: 2027-12-31 (the end of that day, local time), or 2027-12-31T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    until: Option<time::Typed>,
    /// Why; every credential of the repository can read it
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// Takes `latest` to mean the newest snapshot of this series
    #[arg(long, value_name = "NAME")]
    series: Option<String>,
    /// Allows more than ten years
    #[arg(long)]
    beyond_ten_years: bool,
    /// Only says what would be locked, and until when
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let end = match (args.length, args.until) {
        (Some(length), _) => LockEnd::After(length),
        (None, Some(until)) => LockEnd::At(until.last),
        (None, None) if args.snapshots.is_empty() => return list(context, false, true),
        (None, None) => return Err(usage("say how long: --for 30d, or --until 2027-12-31; nothing was locked")),
    };
    if args.snapshots.is_empty() {
        return Err(usage("say which snapshots to lock: `latest`, or their ids"));
    }
    let repository = context.open()?;
    let ids = find(&repository, &args.snapshots, args.series.as_deref())?;
    let progress = context.progress()?;
    let planned = repository.plan_lock(&ids, end, &progress)?;
    if !args.beyond_ten_years && planned.until.seconds.saturating_sub(planned.now.seconds) > LONG.as_secs() as i64 {
        let until = time::local(planned.until);
        return Err(usage(format!(
            "until {until} is more than ten years, and nobody can take it back; if that is meant, add --beyond-ten-years"
        )));
    }
    let locked = if args.dry_run { planned } else { repository.lock(&ids, end, &args.note, &progress)? };
    drop(progress);
    let output = &context.output;
    let until = time::local(locked.until);
    let held = repository.held()?;
    for id in &ids {
        let is_new = locked.snapshots.contains(id);
        let end = held.get(id).and_then(|held| held.until).filter(|_| !is_new).unwrap_or(locked.until);
        let what = match is_new {
            true => "locked".to_owned(),
            false => format!("locked until {} already", time::local(end)),
        };
        output.line(format_args!("{}  {what}", short_id(id)))?;
        output.json("snapshot", json!({"id": id.to_string(), "changed": is_new, "until": time::rfc3339(end)}))?;
    }
    let number = counted(locked.snapshots.len() as u64, "snapshot");
    match args.dry_run {
        _ if locked.snapshots.is_empty() => output.report(format_args!("nothing to lock until {until}: it is locked as long already"))?,
        true => output.report(format_args!("{number} would be locked until {until}; nothing was changed"))?,
        false => output.report(format_args!("{number} locked until {until}; nobody can shorten that"))?,
    }
    if locked.kept_objects > 0 {
        output.report(format_args!("the store itself keeps {} until then", counted(locked.kept_objects, "object")))?;
    }
    let line = json!({
        "dry_run": args.dry_run,
        "hold": locked.hold.map(|hold| hold.to_string()),
        "until": time::rfc3339(locked.until),
        "snapshots": ids.len(),
        "changed": locked.snapshots.len(),
        "kept_objects": locked.kept_objects,
    });
    output.json("summary", line)?;
    Ok(Outcome::Done)
}

/// The snapshots that are named, each once.
pub(super) fn find(repository: &Repository, names: &[String], series: Option<&str>) -> anyhow::Result<Vec<SnapshotId>> {
    let mut ids = Vec::new();
    for name in names {
        let found = match name.as_str() {
            "latest" => vec![repository.find_snapshot(name, series, None)?.id],
            _ => repository.find_snapshot_ids(&[name])?,
        };
        found.into_iter().for_each(|id| {
            if !ids.contains(&id) {
                ids.push(id)
            }
        });
    }
    Ok(ids)
}

/// Lists what holds snapshots.
pub(super) fn list(context: &Context, with_over: bool, only_locks: bool) -> anyhow::Result<Outcome> {
    let repository = context.open()?;
    let (mut holds, problems) = repository.holds()?;
    let is_shown = |hold: &Hold| with_over || matches!(hold.state, HoldState::InForce | HoldState::Unproven);
    holds.retain(|hold| is_shown(hold) && (!only_locks || hold.until.is_some()));
    holds.sort_by_key(|hold| (hold.until, hold.placed, hold.id));
    let output = &context.output;
    if holds.is_empty() {
        output.note("nothing is held");
    }
    for hold in &holds {
        let what = match hold.until {
            None => "legal hold".to_owned(),
            Some(until) => format!("lock until {}", time::local(until)),
        };
        let state = match hold.state {
            HoldState::InForce => "",
            HoldState::Unproven => ", whose end is not proven yet",
            HoldState::Over => ", over",
            HoldState::Released => ", released",
        };
        let note = if hold.note.is_empty() { String::new() } else { format!("  {}", shown(hold.note.as_bytes())) };
        output.line(format_args!("{}  {what}{state}, {}{note}", short(hold.id), counted(hold.snapshots.len() as u64, "snapshot")))?;
        for id in &hold.snapshots {
            output.line(format_args!("  {}", short_id(id)))?;
        }
        output.json("hold", as_json(hold))?;
    }
    output.report(format_args!("{} in all", count(holds.len() as u64)))?;
    let outcome = report_problems(&problems, output);
    output.json("summary", json!({"holds": holds.len(), "problems": problems.len()}))?;
    Ok(outcome)
}

fn as_json(hold: &Hold) -> serde_json::Value {
    json!({
        "id": hold.id.to_string(),
        "kind": if hold.until.is_some() { "lock" } else { "legal" },
        "state": match hold.state {
            HoldState::InForce => "in_force",
            HoldState::Unproven => "unproven",
            HoldState::Over => "over",
            HoldState::Released => "released",
        },
        "until": hold.until.map(time::rfc3339),
        "placed": time::rfc3339(hold.placed),
        "note": hold.note,
        "credential": hold.credential.to_string(),
        "snapshots": hold.snapshots.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

//! `check`: is everything there, and as it should be?

use super::snapshots::short_id;
use crate::context::Context;
use crate::exit::Outcome;
use crate::names::{path_of, put_paths, shown};
use crate::output::Output;
use crate::size::{bytes, count, counted};
use crate::time;
use icecore::backend::{ObjectKind, ObjectName};
use icecore::check::{CheckReport, Finding, HurtSnapshot};
use icecore::id::SnapshotId;
use serde_json::json;

/// Paths of one snapshot that people see.
const PATHS_SHOWN: usize = 10;

/// Checks that everything is there and in order, without reading the content of files
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  icecore check\n\nExit code 14 says that damage was found. `icecore scrub` reads and checks every byte."
)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open_to_read()?;
    let progress = context.progress()?;
    let found = repository.check(&progress)?;
    drop(progress);
    report(&found, &context.output)
}

/// Shows what a check or scrub found.
pub(super) fn report(found: &CheckReport, output: &Output) -> anyhow::Result<Outcome> {
    for notice in &found.notices {
        output.note(shown(notice.as_bytes()));
    }
    for finding in &found.findings {
        print(finding, output)?;
        output.json("finding", as_json(finding))?;
    }
    print_hurt(&found.hurt, output)?;
    let checked = format!(
        "{}, {}, and {} checked, {} read in {}",
        counted(found.objects, "object"),
        packs(found),
        counted(found.snapshots, "snapshot"),
        bytes(found.bytes_read),
        time::duration(found.duration_ns)
    );
    let healed = found.findings.iter().filter(|finding| finding.healed).count();
    match found.findings.len() {
        n if n > 0 && n == healed => output.line(format_args!(
            "DAMAGE, HEALED: {}; {checked}\nAll of it is back, byte for byte. What lost it may lose more: look at the disk, and copy the repository.",
            counted(n as u64, "finding")
        ))?,
        0 => output.report(format_args!("no damage found: {checked}"))?,
        n if found.findings.iter().all(|finding| finding.healed || is_gone(finding)) => output.line(format_args!(
            "DAMAGE: {}; {checked}\nWhat is not named above can still be restored. What was taken away, or is older than it was, `icecore repair` alone does not \
             bring back: it is said above what does.",
            counted(n as u64, "finding")
        ))?,
        n => output.line(format_args!(
            "DAMAGE: {}; {checked}\nWhat is not named above can still be restored. `icecore repair` says what can be done, and changes nothing.",
            counted(n as u64, "finding")
        ))?,
    }
    let summary = json!({
        "findings": found.findings.len(),
        "healed": healed,
        "notices": found.notices.len(),
        "objects": found.objects,
        "packs": found.packs,
        "packs_unread": found.unread.iter().map(|unread| unread.packs).sum::<u64>(),
        "snapshots": found.snapshots,
        "frames": found.frames,
        "chunks": found.chunks,
        "bytes_read": found.bytes_read,
        "duration_s": found.duration_ns as f64 / 1e9,
    });
    output.json("summary", summary)?;
    Ok(if found.findings.is_empty() { Outcome::Done } else { Outcome::DamageFound })
}

/// Whether it tells of something that was taken away whole or is older than it was, by all that can be told: repair makes nothing of that.
fn is_gone(finding: &Finding) -> bool {
    let is_itself = |name: ObjectName| name.kind() == ObjectKind::Snapshot && finding.snapshots == [SnapshotId(name.id())];
    finding.rule.is_none() && finding.paths_total == 0 && finding.object.is_none_or(is_itself)
}

fn print(finding: &Finding, output: &Output) -> anyhow::Result<()> {
    // Most messages name it themselves.
    let rule = finding.rule.map(|rule| format!(" (format rule {rule})")).filter(|rule| !finding.message.contains(rule));
    let rule = rule.unwrap_or_default();
    let object = finding.object.map(|object| object.to_string()).filter(|object| !finding.message.contains(object));
    let object = object.map(|object| format!("{object}: ")).unwrap_or_default();
    let what = if finding.healed { "healed" } else { "damaged" };
    output.line(format_args!("{what}: {object}{}{rule}", shown(finding.message.as_bytes())))?;
    if !finding.snapshots.is_empty() {
        let ids: Vec<_> = finding.snapshots.iter().map(short_id).collect();
        output.line(format_args!("  snapshots that suffer: {}", ids.join(", ")))?;
    }
    Ok(())
}

/// How many packs there are, and how many of them were not read.
fn packs(found: &CheckReport) -> String {
    let unread: u64 = found.unread.iter().map(|unread| unread.packs).sum();
    if unread == 0 {
        return format!("{} among them", counted(found.packs, "pack"));
    }
    let tiers: Vec<_> = found.unread.iter().map(|unread| format!("{} in {} not", count(unread.packs), unread.tier)).collect();
    format!("{} of {} read, {}", count(found.packs.saturating_sub(unread)), counted(found.packs, "pack"), tiers.join(", "))
}

/// The files that suffer, snapshot by snapshot. Programs are told of those, too, of which no file is known to suffer.
fn print_hurt(hurt: &[HurtSnapshot], output: &Output) -> anyhow::Result<()> {
    for hurt in hurt {
        output.json("suffers", hurt_as_json(hurt))?;
    }
    for hurt in hurt.iter().filter(|hurt| hurt.paths_total > 0) {
        let series = hurt.series.as_deref().map(|series| format!(" of series {}", shown(series.as_bytes()))).unwrap_or_default();
        output.line(format_args!("suffers: snapshot {}{series}: {}", short_id(&hurt.snapshot), counted(hurt.paths_total, "entry")))?;
        print_paths(hurt, output)?;
    }
    Ok(())
}

/// The entries of a snapshot that suffer, as many as people read.
pub(super) fn print_paths(hurt: &HurtSnapshot, output: &Output) -> anyhow::Result<()> {
    for path in hurt.paths.iter().take(PATHS_SHOWN) {
        output.line(format_args!("  {}", shown(&path_of(path))))?;
    }
    match hurt.paths_total.saturating_sub(hurt.paths.len().min(PATHS_SHOWN) as u64) {
        0 => {}
        more => output.line(format_args!("  and {} more (--json lists up to 1,000)", count(more)))?,
    }
    Ok(())
}

/// A snapshot that suffers, as JSON lines have it.
fn hurt_as_json(hurt: &HurtSnapshot) -> serde_json::Value {
    let mut line = json!({"snapshot": hurt.snapshot.to_string(), "series": hurt.series, "paths_total": hurt.paths_total});
    put_paths(&mut line, &hurt.paths.iter().map(|key| path_of(key)).collect::<Vec<_>>());
    line
}

fn as_json(finding: &Finding) -> serde_json::Value {
    let mut line = json!({
        "object": finding.object.map(|object| object.to_string()),
        "rule": finding.rule,
        "message": finding.message,
        "healed": finding.healed,
        "snapshots": finding.snapshots.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "paths_total": finding.paths_total,
    });
    put_paths(&mut line, &finding.paths.iter().map(|key| path_of(key)).collect::<Vec<_>>());
    line
}

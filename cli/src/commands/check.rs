//! `check`: is everything there, and as it should be?

use super::snapshots::short_id;
use crate::context::Context;
use crate::exit::Outcome;
use crate::names::{path_of, put_paths, shown};
use crate::output::Output;
use crate::size::{bytes, count, counted};
use crate::time;
use icecore::check::{CheckReport, Finding};
use serde_json::json;

/// Paths of one finding that people see.
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
    let checked = format!(
        "{}, {} among them, and {} checked, {} read in {}",
        counted(found.objects, "object"),
        counted(found.packs, "pack"),
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
        n => output
            .line(format_args!("DAMAGE: {}; {checked}\nWhat is not named above can still be restored.", counted(n as u64, "finding")))?,
    }
    let summary = json!({
        "findings": found.findings.len(),
        "healed": healed,
        "notices": found.notices.len(),
        "objects": found.objects,
        "packs": found.packs,
        "snapshots": found.snapshots,
        "frames": found.frames,
        "chunks": found.chunks,
        "bytes_read": found.bytes_read,
        "duration_s": found.duration_ns as f64 / 1e9,
    });
    output.json("summary", summary)?;
    Ok(if found.findings.is_empty() { Outcome::Done } else { Outcome::DamageFound })
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
    for path in finding.paths.iter().take(PATHS_SHOWN) {
        output.line(format_args!("  suffers: {}", shown(&path_of(path))))?;
    }
    match finding.paths_total.saturating_sub(finding.paths.len().min(PATHS_SHOWN) as u64) {
        0 => {}
        more => output.line(format_args!("  and {} more (--json lists up to 1,000)", count(more)))?,
    }
    Ok(())
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

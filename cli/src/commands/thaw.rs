//! `thaw`: asks for what a restore needs from frozen tiers; `restore --plan` says what that is.

use super::selection::Selection;
use super::snapshots::short_id;
use super::tier::{group, group_as_json};
use crate::context::Context;
use crate::exit::Outcome;
use crate::money;
use crate::names::shown;
use crate::output::Output;
use crate::size::{self, counted};
use crate::time;
use icecore::repository::Snapshot;
use icecore::tiers::{ColdPlan, ThawOptions, TierNeeds};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Asks for what restoring a snapshot needs from frozen tiers
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore restore latest --at 2025-10-03 --plan             what has to thaw, what it costs, how long it takes\n  \
    icecore thaw latest --at 2025-10-03 --class bulk\n  \
    icecore thaw 3f2a9c1d srv/www home/ann --class standard --wait\n  \
    icecore thaw latest --batch 500G         asks for so much; run it again for more, once that has thawed and was restored\n\n\
    Interrupted, the same again asks for the rest; nothing is asked for twice. Restores that begin before all has thawed write what they can, end with 15, \
    and go on when they are run again.")]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// Only what these files and folders need, as `icecore ls` shows them
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// How to thaw, as `restore --plan` lists the ways
    #[arg(long, value_name = "CLASS", default_value = "bulk")]
    class: String,
    /// So many days it can be read
    #[arg(long, value_name = "DAYS", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    days: u32,
    /// At most so much is on its way at a time, as 500G: run it again for the rest, or add --wait
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    batch: Option<u64>,
    /// Waits until all of it can be read; with --batch asks for the next batch when one has thawed
    #[arg(long)]
    wait: bool,
    /// Only says what would be asked for
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open()?;
    let snapshot = args.selection.find(&repository)?;
    let paths: Vec<_> = args.paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    let progress = context.progress()?;
    let plan = repository.cold_plan(&snapshot, &paths, &progress)?;
    if args.dry_run {
        drop(progress);
        return report(&plan, &snapshot, &context.output);
    }
    let mut options = ThawOptions::new(&args.class);
    (options.days, options.batch_bytes, options.wait) = (args.days, args.batch, args.wait);
    let done = repository.thaw(&plan, &options, &progress)?;
    drop(progress);
    let output = &context.output;
    let is_ready = done.absent.is_empty() && done.thawing.packs == 0 && done.left.packs == 0;
    output.report(format_args!("asked for {}, which costs {}", group(done.asked), money::shown(done.cost)))?;
    match is_ready {
        true => output.report("all of it can be read")?,
        false => output.report(format_args!("on their way: {}; can be read: {}", group(done.thawing), group(done.ready)))?,
    }
    if done.left.packs > 0 {
        output.report(format_args!("not asked for yet: {}; run it again when these have thawed", group(done.left)))?;
    }
    for absent in &done.absent {
        output.warn(absent);
    }
    output.json(
        "summary",
        json!({
            "snapshot_id": snapshot.id.to_string(),
            "asked": group_as_json(done.asked),
            "thawing": group_as_json(done.thawing),
            "ready": group_as_json(done.ready),
            "left": group_as_json(done.left),
            "cost": money::as_number(done.cost),
            "absent": done.absent,
            "is_ready": is_ready,
        }),
    )?;
    // What was asked for is on its way: that is what was wanted, unless a medium is missing.
    Ok(if done.absent.is_empty() { Outcome::Done } else { Outcome::Frozen })
}

/// Says what a restore needs from where.
pub(super) fn report(plan: &ColdPlan, snapshot: &Snapshot, output: &Output) -> anyhow::Result<Outcome> {
    let (id, made) = (short_id(&snapshot.id), time::local(snapshot.header.time));
    output.line(format_args!("snapshot {id} of {made} ({}) needs", shown(snapshot.body.series.as_bytes())))?;
    output.line(format_args!("  warm      {}", group(plan.warm)))?;
    for needs in &plan.tiers {
        print_needs(needs, output)?;
    }
    match plan.is_ready() {
        true => output.report("all of it can be read now")?,
        false => output.report("nothing was changed and nothing was asked for")?,
    }
    output.json(
        "summary",
        json!({
            "snapshot_id": snapshot.id.to_string(),
            "dry_run": true,
            "warm": group_as_json(plan.warm),
            "tiers": plan.tiers.iter().map(needs_as_json).collect::<Vec<_>>(),
            "is_ready": plan.is_ready(),
        }),
    )?;
    Ok(Outcome::Done)
}

fn print_needs(needs: &TierNeeds, output: &Output) -> anyhow::Result<()> {
    let read = money::shown(needs.read_cost);
    output.line(format_args!("  {:<9} {}; reading them costs {read}", needs.tier.name, group(needs.needed)))?;
    if let Some(absent) = &needs.absent {
        output.line(format_args!("            {absent}"))?;
    }
    if needs.thawing.packs > 0 {
        output.line(format_args!("            on their way: {}", group(needs.thawing)))?;
    }
    if needs.frozen.packs > 0 {
        output.line(format_args!("            have to thaw: {}", group(needs.frozen)))?;
    }
    for class in &needs.classes {
        let hours = counted(u64::from(class.seconds).div_ceil(3600), "hour");
        output.line(format_args!("            thaw by {}: {} within {hours}", class.name, money::shown(class.cost)))?;
    }
    for (pack, size) in &needs.packs {
        output.detail(format_args!("            {pack}  {}", size::bytes(*size)));
    }
    Ok(())
}

fn needs_as_json(needs: &TierNeeds) -> Value {
    let classes =
        needs.classes.iter().map(|class| json!({"name": class.name, "seconds": class.seconds, "cost": money::as_number(class.cost)}));
    json!({
        "name": needs.tier.name,
        "label": needs.tier.label,
        "needed": group_as_json(needs.needed),
        "frozen": group_as_json(needs.frozen),
        "thawing": group_as_json(needs.thawing),
        "absent": needs.absent,
        "read_cost": money::as_number(needs.read_cost),
        "classes": classes.collect::<Vec<_>>(),
        "packs": needs.packs.iter().map(|(pack, size)| json!({"pack": pack.to_string(), "bytes": size})).collect::<Vec<_>>(),
    })
}

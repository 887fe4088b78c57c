//! `tier plan` and `tier apply`: what would move, and moving it.

use super::{group, group_as_json};
use crate::context::Context;
use crate::exit::Outcome;
use crate::money;
use crate::output::Output;
use crate::size::count;
use crate::time;
use icecore::tiers::{SnapshotLife, TierPlan, TierPolicy, TierSummary};
use serde_json::{Value, json};

/// What may go cold.
#[derive(Debug, clap::Args)]
struct Policy {
    /// Name of the tier that packs move to
    #[arg(value_name = "TIER")]
    tier: String,
    /// Snapshots that are younger stay warm, and all that they need
    #[arg(long, value_name = "DAYS", default_value_t = 0)]
    older_than: u32,
    /// Snapshots are forgotten at this age: what nobody needs for the tier's minimum days stays warm
    #[arg(long, value_name = "DAYS")]
    kept_for: Option<u32>,
    /// What counts for one series instead (can be repeated): NAME=30 goes cold after 30 days, NAME=30:365 and is forgotten after 365, NAME=never stays warm
    #[arg(long, value_name = "NAME=LIFE", value_parser = parse_life)]
    series: Vec<(String, SnapshotLife)>,
    /// So many of the newest snapshots of each series stay warm, and all that they need
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    keep_newest: u32,
    /// Only snapshots of this retention class may go cold (can be repeated); without it all
    #[arg(long, value_name = "CLASS")]
    retention_class: Vec<u8>,
    /// A pack of which less than this share is needed stays until gc has made a smaller one of it, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = TierPolicy::new("").live_percent_min)]
    min_live: u8,
}

/// Says which packs would move to a tier, and what that costs
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  icecore tier plan archive --older-than 90 --keep-newest 3\n  \
    icecore tier plan archive --older-than 90 --series accounts=30:365 --series photos=never\n\n\
    A pack may move when every snapshot that needs anything of it may go cold. Nothing is changed.")]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    policy: Policy,
}

/// Moves packs that only old snapshots need to a tier
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore tier apply archive --older-than 90 --keep-newest 3 --dry-run\n  \
    icecore tier apply archive --older-than 90 --keep-newest 3\n\n\
    Each pack is copied, the copy is read back, and only then the pack goes from where it was. Interrupted anywhere, the same again goes on. \
    Backups, restores and gc may run at the same time.")]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    policy: Policy,
    /// Only says what would be done, as `icecore tier plan`
    #[arg(long)]
    dry_run: bool,
}

/// `accounts=30:365`; the last `=` counts, since names of series may have some.
fn parse_life(text: &str) -> Result<(String, SnapshotLife), String> {
    let wrong = "write it as NAME=DAYS, NAME=DAYS:DAYS or NAME=never";
    let (name, life) = text.rsplit_once('=').filter(|(name, _)| !name.is_empty()).ok_or(wrong)?;
    let days = |text: &str| text.parse::<u32>().map_err(|_| format!("`{text}` is no number of days; {wrong}"));
    let life = match (life, life.split_once(':')) {
        ("never", _) => SnapshotLife::default(),
        (_, Some((warm, kept))) => SnapshotLife { warm_days: Some(days(warm)?), kept_days: Some(days(kept)?) },
        (warm, None) => SnapshotLife { warm_days: Some(days(warm)?), kept_days: None },
    };
    Ok((name.to_owned(), life))
}

impl Policy {
    fn of_engine(&self) -> TierPolicy {
        let mut policy = TierPolicy::new(&self.tier);
        policy.life = SnapshotLife { warm_days: Some(self.older_than), kept_days: self.kept_for };
        policy.series = self.series.iter().cloned().collect();
        (policy.keep_newest, policy.live_percent_min) = (self.keep_newest, self.min_live);
        policy.retention_classes.clone_from(&self.retention_class);
        policy
    }
}

pub(super) fn plan(args: &PlanArgs, context: &Context) -> anyhow::Result<Outcome> {
    say_plan(&args.policy, context)
}

fn say_plan(policy: &Policy, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open()?;
    let progress = context.progress()?;
    let plan = repository.tier_plan(&policy.of_engine(), &progress)?;
    drop(progress);
    print_plan(&plan, &policy.tier, &context.output)?;
    let mut line = plan_as_json(&plan);
    line["tier"] = policy.tier.clone().into();
    line["dry_run"] = true.into();
    context.output.json("summary", line)?;
    Ok(Outcome::Done)
}

pub(super) fn apply(args: &ApplyArgs, context: &Context) -> anyhow::Result<Outcome> {
    if args.dry_run {
        return say_plan(&args.policy, context);
    }
    let repository = context.open()?;
    let progress = context.progress()?;
    let summary = repository.tier_apply(&args.policy.of_engine(), &progress)?;
    drop(progress);
    print_summary(&summary, &args.policy.tier, &context.output)?;
    context.output.json("summary", summary_as_json(&summary, &args.policy.tier))?;
    Ok(Outcome::of_items_failed(summary.failed.packs))
}

fn print_plan(plan: &TierPlan, tier: &str, output: &Output) -> anyhow::Result<()> {
    let short = match plan.snapshots_short {
        0 => String::new(),
        short => format!(", {} will be forgotten before the minimum days are over", count(short)),
    };
    output.line(format_args!(
        "snapshots     {} may go cold, {} stay warm{short}",
        count(plan.snapshots_cold),
        count(plan.snapshots_warm)
    ))?;
    output.line(format_args!("move          {} to {tier}", group(plan.moves)))?;
    let stays = [
        ("stay", plan.needed_warm, "that warm snapshots need"),
        ("", plan.needed_short, "whose snapshots will all be forgotten before the minimum days are over"),
        ("", plan.sparse, "of which too little is needed; gc makes smaller ones of them"),
        ("", plan.unneeded, "that no snapshot needs; gc deletes them"),
        ("", plan.too_early, "whose minimum days have not passed where they are"),
        ("", plan.frozen, "that lie frozen in a warmer tier; what has thawed can go on"),
        ("", plan.locked, "that the store keeps where they are until the end of a lock"),
        ("there", plan.there, "in this tier or a colder one"),
        ("finish", plan.unfinished, "whose move was interrupted"),
        ("stranded", plan.stranded, "that lie cold and that warm snapshots need"),
    ];
    for (name, packs, why) in stays.into_iter().filter(|(name, packs, _)| packs.packs > 0 || *name == "stay") {
        output.line(format_args!("{name:<14}{} {why}", group(packs)))?;
    }
    output.line(format_args!(
        "cost          {} once ({} requests that write, {} that read), {} a month, {} for the minimum days",
        money::shown(plan.move_cost),
        count(plan.requests.0),
        count(plan.requests.1),
        money::shown(plan.month_cost),
        money::shown(plan.minimum_cost)
    ))?;
    output.report("nothing was changed")?;
    Ok(())
}

fn print_summary(summary: &TierSummary, tier: &str, output: &Output) -> anyhow::Result<()> {
    output.report(format_args!("moved {} to {tier} in {}", group(summary.moved), time::duration(summary.duration_ns)))?;
    if summary.finished.packs > 0 {
        output.report(format_args!("finished {} whose move was interrupted", group(summary.finished)))?;
    }
    if summary.orphans.packs > 0 {
        output.report(format_args!("deleted {} that interrupted moves had left there", group(summary.orphans)))?;
    }
    if summary.failed.packs > 0 && !output.is_json() {
        output.warn(format_args!("not moved: {} (see above)", group(summary.failed)));
    }
    Ok(())
}

fn plan_as_json(plan: &TierPlan) -> Value {
    json!({
        "snapshots_cold": plan.snapshots_cold,
        "snapshots_warm": plan.snapshots_warm,
        "snapshots_short": plan.snapshots_short,
        "moves": group_as_json(plan.moves),
        "needed_warm": group_as_json(plan.needed_warm),
        "needed_short": group_as_json(plan.needed_short),
        "sparse": group_as_json(plan.sparse),
        "unneeded": group_as_json(plan.unneeded),
        "too_early": group_as_json(plan.too_early),
        "frozen": group_as_json(plan.frozen),
        "locked": group_as_json(plan.locked),
        "there": group_as_json(plan.there),
        "unfinished": group_as_json(plan.unfinished),
        "stranded": group_as_json(plan.stranded),
        "requests": {"writes": plan.requests.0, "reads": plan.requests.1},
        "move_cost": money::as_number(plan.move_cost),
        "month_cost": money::as_number(plan.month_cost),
        "minimum_cost": money::as_number(plan.minimum_cost),
    })
}

fn summary_as_json(summary: &TierSummary, tier: &str) -> Value {
    json!({
        "tier": tier,
        "dry_run": false,
        "plan": plan_as_json(&summary.plan),
        "moved": group_as_json(summary.moved),
        "finished": group_as_json(summary.finished),
        "failed": group_as_json(summary.failed),
        "orphans": group_as_json(summary.orphans),
        "duration_s": summary.duration_ns as f64 / 1e9,
    })
}

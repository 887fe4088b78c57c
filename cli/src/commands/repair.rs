//! `repair`: says what can be mended and what is lost; with `--apply` mends it.

use super::check::print_paths;
use super::replicate;
use super::snapshots::short_id;
use crate::context::Context;
use crate::exit::Outcome;
use crate::names::{path_of, put_paths, shown};
use crate::output::Output;
use crate::second::Second;
use crate::size::{bytes, count, counted};
use crate::store::SecondStoreOptions;
use crate::time;
use icecore::check::HurtSnapshot;
use icecore::id::PackId;
use icecore::progress::Progress;
use icecore::repair::{PackRepair, Reads, RepairOptions, RepairPlan, RepairSummary, Salvaged};
use icecore::replicate::ReplicateSummary;
use icecore::repository::Repository;
use serde_json::{Value, json};
use std::ffi::OsString;

/// Says what can be mended and which files are lost; with --apply mends it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore repair                      reads everything and says what would be done\n  \
    icecore repair --apply              does it\n  \
    icecore repair --apply --salvage    also makes of each snapshot that lost files one without them\n  \
    icecore repair --pack packs/ab/ab01f3...    looks only at what a scrub has named\n  \
    icecore repair --apply --from /mnt/second   also brings back from a replica what is lost\n\n\
    What is damaged is not deleted: the next `icecore gc` does that, once no snapshot needs it. After --apply back up again what is still \
    there: what was lost in the repository is stored anew.\n\n\
    Exit code 14 says that there is damage that was not mended, or that could not be.")]
pub(crate) struct Args {
    /// Does what is planned
    #[arg(long)]
    apply: bool,
    /// Makes of each snapshot that lost files a new one of the same series without them; the old one stays
    #[arg(long, requires = "apply")]
    salvage: bool,
    /// Brings back what is lost from this replica of the repository, as `icecore replicate` makes one
    #[arg(long, value_name = "REPO", conflicts_with = "salvage")]
    from: Option<OsString>,
    #[command(flatten)]
    store: SecondStoreOptions,
    /// Reads no content, so that only what `check` finds is mended
    #[arg(long, conflicts_with = "packs")]
    quick: bool,
    /// Reads the content of this pack only; its name or id as `scrub` shows it (can be repeated)
    #[arg(long = "pack", value_name = "PACK", value_parser = pack_id)]
    packs: Vec<PackId>,
}

/// The id at the end of a pack's name.
fn pack_id(text: &str) -> Result<PackId, String> {
    let id = text.rsplit('/').next().unwrap_or(text);
    PackId::parse(id).map_err(|_| "a pack is named by 32 hex digits, or as `packs/ab/ab01...`".to_owned())
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let (repository, key) = context.open_with_key()?;
    let replica =
        args.from.as_deref().map(|from| Second::find(from, &args.store, context)?.open_replica(&repository, &key, context)).transpose()?;
    let mut options = RepairOptions::default();
    options.salvage = args.salvage;
    options.reads = match (args.quick, args.packs.is_empty()) {
        (true, _) => Reads::Nothing,
        (false, false) => Reads::Packs(args.packs.clone()),
        (false, true) => Reads::Everything,
    };
    let progress = context.progress()?;
    let output = &context.output;
    let summary = match args.apply {
        true => Some(repository.repair(&options, &progress)?),
        false => None,
    };
    let plan = match &summary {
        Some(summary) => &summary.plan,
        None => &repository.repair_plan(&options, &progress)?,
    };
    let brought_back = match &replica {
        Some(replica) => Some(bring_back(&repository, replica, plan, args.apply, &progress)?),
        None => None,
    };
    drop(progress);
    print_plan(plan, output)?;
    print_lost(&plan.report.hurt, output)?;
    if let Some(summary) = &summary {
        print_done(summary, output)?;
    }
    match &brought_back {
        Some(back) => back.print(args.apply, output)?,
        None => advise(plan, summary.as_ref(), output)?,
    }
    let mut line = plan_as_json(plan);
    if let Some(summary) = &summary {
        line["done"] = done_as_json(summary);
    }
    line["applied"] = args.apply.into();
    if let Some(back) = &brought_back {
        line["brought_back"] = replicate::as_json(&back.summary);
    }
    output.json("summary", line)?;
    let is_mended = plan.report.hurt.is_empty() && (plan.report.findings.is_empty() || args.apply && all_mended(plan));
    let is_well = brought_back.map_or(is_mended, |back| back.is_well);
    Ok(if is_well { Outcome::Done } else { Outcome::DamageFound })
}

/// What came back from a replica.
struct BroughtBack {
    replica: String,
    summary: ReplicateSummary,
    /// No snapshot lacks anything now, and all that is still damaged is of no use any more.
    is_well: bool,
}

/// Brings back what is lost from `replica`, or looks what could be, and checks what it came to.
fn bring_back(
    repository: &Repository,
    replica: &Repository,
    plan: &RepairPlan,
    apply: bool,
    progress: &dyn Progress,
) -> anyhow::Result<BroughtBack> {
    let damaged: Vec<_> = plan.packs.iter().map(|repair| repair.pack).collect();
    let summary = repository.bring_back(replica, &damaged, !apply, progress)?;
    let report = if apply { &repository.check(progress)? } else { &plan.report };
    let is_over = |object| apply && damaged.contains(&object);
    let is_well = report.hurt.is_empty() && report.findings.iter().all(|finding| finding.object.is_some_and(is_over));
    Ok(BroughtBack { replica: replica.describe(), summary, is_well })
}

impl BroughtBack {
    fn print(&self, apply: bool, output: &Output) -> anyhow::Result<()> {
        let Self { replica, summary, is_well } = self;
        for (id, why) in &summary.snapshots_damaged {
            output.warn(format_args!("snapshot {} cannot be brought back: {why}", short_id(id)));
        }
        for pack in &summary.packs_damaged {
            output.warn(format_args!("{replica}: {pack} is damaged there, too"));
        }
        for problem in &summary.problems {
            output.warn(format_args!("{replica}: {problem}"));
        }
        let what = format!(
            "{} with what {} lacked: {} in {}",
            counted(summary.snapshots.len() as u64, "snapshot"),
            if summary.snapshots.len() == 1 { "it" } else { "they" },
            bytes(summary.bytes_planned),
            counted(summary.frames_planned, "frame")
        );
        match (apply, is_well) {
            (false, _) => output.report(format_args!(
                "{what} would be brought back from {replica}; nothing was changed, `icecore repair --apply --from` does what is planned"
            )),
            (true, true) => output.report(format_args!("{what}, brought back from {replica}; `icecore gc` removes what was replaced")),
            (true, false) => {
                output.report(format_args!("{what}, brought back from {replica}; not everything stands there: see `icecore check`"))
            }
        }?;
        Ok(())
    }
}

/// Whether each finding is about something that was mended.
fn all_mended(plan: &RepairPlan) -> bool {
    let is_mended = |object| {
        let of_pack = |repair: &PackRepair| repair.pack == object && repair.is_known && repair.frames_lost == 0;
        plan.index_objects.contains(&object)
            || plan.obstacles.iter().any(|obstacle| obstacle.object == object)
            || plan.sidecars.contains(&object)
            || plan.packs.iter().any(of_pack)
    };
    plan.report.findings.iter().all(|finding| finding.healed || finding.object.is_some_and(is_mended))
}

fn print_plan(plan: &RepairPlan, output: &Output) -> anyhow::Result<()> {
    for notice in &plan.report.notices {
        output.note(shown(notice.as_bytes()));
    }
    for finding in &plan.report.findings {
        let what = if finding.healed { "healed" } else { "found" };
        output.line(format_args!("{what}: {}", shown(finding.message.as_bytes())))?;
    }
    for repair in &plan.packs {
        let what = match repair {
            PackRepair { is_condemned: true, .. } => "was condemned before; it goes when no snapshot needs what is in it".to_owned(),
            PackRepair { is_known: false, .. } => {
                "nothing tells what is in it: condemn it; a good copy of this object would help".to_owned()
            }
            _ => format!(
                "copy {} that {} good ({}), condemn it; lost: {}",
                counted(repair.frames_good, "frame"),
                if repair.frames_good == 1 { "is" } else { "are" },
                bytes(repair.bytes_good),
                counted(repair.frames_lost, "frame")
            ),
        };
        output.line(format_args!("plan: {}: {what}", repair.pack))?;
    }
    for object in &plan.index_objects {
        output.line(format_args!("plan: {object}: write anew"))?;
    }
    if plan.packs_to_index() > 0 {
        output.line(format_args!("plan: write the lost index object of {}", counted(plan.packs_to_index(), "pack")))?;
    }
    for obstacle in &plan.obstacles {
        output.line(format_args!("plan: {}: remove it; nobody believes it, and it stands in the way", obstacle.object))?;
    }
    for sidecar in &plan.sidecars {
        output.line(format_args!("plan: {sidecar}: remove it, and write it anew where its object is whole"))?;
    }
    for suspect in &plan.suspects {
        output.note(format_args!(
            "snapshot {} is of a session that did not end; `icecore gc` settles it once the session is dead",
            short_id(suspect)
        ));
    }
    Ok(())
}

fn print_lost(hurt: &[HurtSnapshot], output: &Output) -> anyhow::Result<()> {
    for hurt in hurt {
        let series = hurt.series.as_deref().map(|series| format!(" of series {}", shown(series.as_bytes()))).unwrap_or_default();
        let total = match hurt.paths_total {
            0 => "is damaged".to_owned(),
            total => format!("lost {}", counted(total, "entry")),
        };
        output.line(format_args!("lost: snapshot {}{series} {total}", short_id(&hurt.snapshot)))?;
        print_paths(hurt, output)?;
        output.json("lost", lost_as_json(hurt))?;
    }
    Ok(())
}

fn print_done(summary: &RepairSummary, output: &Output) -> anyhow::Result<()> {
    if let Some(epoch) = summary.epoch {
        output.report(format_args!(
            "{} copied into {} ({}); the damaged packs are condemned by epoch {epoch}",
            counted(summary.frames_copied, "frame"),
            counted(summary.written.packs, "pack"),
            bytes(summary.written.bytes)
        ))?;
    }
    if summary.index_objects_removed + summary.obstacles_removed > 0 {
        let (index, other) = (counted(summary.index_objects_removed, "index object"), counted(summary.obstacles_removed, "other object"));
        output.report(format_args!("{index} replaced, {other} removed"))?;
    }
    if summary.sidecars_written > 0 {
        output.report(format_args!("{} written", counted(summary.sidecars_written, "sidecar")))?;
    }
    for saved in &summary.salvaged {
        let (from, lost) = (short_id(&saved.from), count(saved.entries_lost));
        match &saved.to {
            Some(to) => output.report(format_args!(
                "salvaged: snapshot {} has what is left of {from}: {}, lost: {lost}",
                short_id(to),
                counted(saved.entries, "entry")
            ))?,
            None => output.report(format_args!("nothing is left of snapshot {from}"))?,
        }
    }
    output.report(format_args!("done in {}", time::duration(summary.duration_ns)))?;
    Ok(())
}

/// What the user can do next.
fn advise(plan: &RepairPlan, summary: Option<&RepairSummary>, output: &Output) -> anyhow::Result<()> {
    if plan.report.findings.is_empty() && plan.is_empty() {
        output.report("nothing to repair")?;
        return Ok(());
    }
    match summary {
        None if !plan.is_empty() => output.report("nothing was changed; `icecore repair --apply` does what is planned")?,
        None => output.report("there is nothing that could be mended")?,
        Some(summary) if !plan.report.hurt.is_empty() => {
            let mut series: Vec<_> = plan.report.hurt.iter().filter_map(|hurt| hurt.series.as_deref()).collect();
            series.sort_unstable();
            series.dedup();
            let names = series.iter().map(|name| shown(name.as_bytes())).collect::<Vec<_>>().join(", ");
            let names = if names.is_empty() { String::new() } else { format!(" of series {names}") };
            output.report(format_args!("Run the backup{names} again now: what was lost and is still there is stored anew."))?;
            if summary.salvaged.is_empty() {
                let message = "Then `icecore repair --apply --salvage` makes of each snapshot that suffers one that can be restored whole, and \
                               `icecore forget ID` gives the old one up.";
                output.report(message)?;
            } else {
                output.report("`icecore forget ID` gives up the snapshots that suffer; then `icecore gc` removes what is damaged.")?;
            }
        }
        Some(_) => output.report("`icecore gc` removes what was replaced")?,
    }
    Ok(())
}

fn lost_as_json(hurt: &HurtSnapshot) -> Value {
    let mut line = json!({"snapshot": hurt.snapshot.to_string(), "series": hurt.series, "paths_total": hurt.paths_total});
    put_paths(&mut line, &hurt.paths.iter().map(|key| path_of(key)).collect::<Vec<_>>());
    line
}

fn plan_as_json(plan: &RepairPlan) -> Value {
    let pack = |repair: &PackRepair| {
        json!({
            "pack": repair.pack.to_string(),
            "contents_known": repair.is_known,
            "end_damaged": repair.has_bad_end,
            "frames_good": repair.frames_good,
            "bytes_good": repair.bytes_good,
            "frames_lost": repair.frames_lost,
            "condemned_before": repair.is_condemned,
        })
    };
    json!({
        "findings": plan.report.findings.iter().map(|finding| finding.message.as_str()).collect::<Vec<_>>(),
        "packs": plan.packs.iter().map(pack).collect::<Vec<_>>(),
        "index_objects": plan.index_objects.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "packs_to_index": plan.packs_to_index(),
        "obstacles": plan.obstacles.iter().map(|obstacle| obstacle.object.to_string()).collect::<Vec<_>>(),
        "sidecars": plan.sidecars.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "healed": plan.report.findings.iter().filter(|finding| finding.healed).count(),
        "suspects": plan.suspects.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "snapshots_hurt": plan.report.hurt.len(),
    })
}

fn done_as_json(summary: &RepairSummary) -> Value {
    let salvaged = |saved: &Salvaged| {
        json!({
            "from": saved.from.to_string(),
            "to": saved.to.map(|id| id.to_string()),
            "entries": saved.entries,
            "entries_lost": saved.entries_lost,
        })
    };
    json!({
        "epoch": summary.epoch,
        "packs_written": summary.written.packs,
        "bytes_written": summary.written.bytes,
        "frames_copied": summary.frames_copied,
        "index_objects_removed": summary.index_objects_removed,
        "obstacles_removed": summary.obstacles_removed,
        "sidecars_written": summary.sidecars_written,
        "index_cache_forgotten": summary.forgot_index_cache,
        "salvaged": summary.salvaged.iter().map(salvaged).collect::<Vec<_>>(),
        "duration_s": summary.duration_ns as f64 / 1e9,
    })
}

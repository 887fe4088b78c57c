//! `hold`: snapshots that must not go until somebody says so.

use super::lock::{find, list};
use super::snapshots::short_id;
use crate::context::Context;
use crate::exit::{Outcome, usage};
use crate::output::Output;
use crate::size::counted;
use icecore::id::HoldId;
use icecore::repository::{Hold, HoldState};
use icecore::{Error, ErrorKind};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Places and releases legal holds, and lists all that holds snapshots
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Examples:\n  \
    icecore hold add 3f2a9c1d 77b0e2aa --note 'case 4711'\n  \
    icecore hold list\n  \
    icecore hold release 9be01c77 --note 'case closed'\n\n\
    A snapshot that is held cannot be forgotten by anybody. Holds are placed with the role maintain and released by the admin only. `icecore lock` holds \
    until a date instead. Notes can be read by every credential of the repository.")]
pub(crate) enum Command {
    Add(AddArgs),
    List(ListArgs),
    Release(ReleaseArgs),
}

/// Places a legal hold: these snapshots stay until it is released
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore hold add 3f2a9c1d 77b0e2aa --note 'case 4711'")]
pub(crate) struct AddArgs {
    /// `latest`, or ids or the first digits of them
    #[arg(value_name = "SNAPSHOT|latest", required = true)]
    snapshots: Vec<String>,
    /// Why; every credential of the repository can read it
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// Takes `latest` to mean the newest snapshot of this series
    #[arg(long, value_name = "NAME")]
    series: Option<String>,
}

/// Lists legal holds and locks
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore hold list\n  \
    icecore hold list --all --json")]
pub(crate) struct ListArgs {
    /// Lists those that are over or released, too
    #[arg(long)]
    all: bool,
}

/// Releases a legal hold, which only the admin may
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore hold release 9be01c77 --dry-run\n  \
    icecore hold release 9be01c77 --note 'case closed'")]
pub(crate) struct ReleaseArgs {
    /// The hold, or the first digits of its id, as `icecore hold list` shows it
    #[arg(value_name = "HOLD")]
    hold: String,
    /// Why; every credential of the repository can read it
    #[arg(long, value_name = "TEXT", default_value = "")]
    note: String,
    /// Only says what would be done
    #[arg(long)]
    dry_run: bool,
}

impl Command {
    /// Does it.
    pub(crate) fn run(&self, context: &Context) -> anyhow::Result<Outcome> {
        match self {
            Self::Add(args) => add(args, context),
            Self::List(args) => list(context, args.all, false),
            Self::Release(args) => release(args, context),
        }
    }
}

fn add(args: &AddArgs, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open()?;
    let ids = find(&repository, &args.snapshots, args.series.as_deref())?;
    let hold = repository.hold(&ids, &args.note)?;
    let output = &context.output;
    output.report(format_args!(
        "hold {}: {} cannot be forgotten until the admin releases it",
        short(hold),
        counted(ids.len() as u64, "snapshot")
    ))?;
    output.json("summary", json!({"hold": hold.to_string(), "snapshots": ids.iter().map(ToString::to_string).collect::<Vec<_>>()}))?;
    Ok(Outcome::Done)
}

fn release(args: &ReleaseArgs, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open()?;
    let (holds, _) = repository.holds()?;
    if args.hold.len() < 4 {
        return Err(usage("give at least 4 digits of the hold's id; `icecore hold list` shows them"));
    }
    let fits: Vec<_> = holds.iter().filter(|hold| hold.id.to_string().starts_with(&args.hold)).collect();
    let hold = match fits[..] {
        [hold] => hold,
        [] => {
            let message = format!("no hold's id begins with {}; `icecore hold list` shows them", args.hold);
            return Err(Error::new(ErrorKind::NotFound, message).into());
        }
        _ => return Err(usage(format!("the ids of several holds begin with {}; give more digits", args.hold))),
    };
    if args.dry_run {
        return say_release(&holds, hold, repository.plan_release(hold.id)?, &context.output);
    }
    repository.release(hold.id, &args.note)?;
    let still = repository.held()?;
    let held = hold.snapshots.iter().filter(|id| still.contains_key(id)).count();
    let output = &context.output;
    output.report(format_args!(
        "hold {} is released; of its {}, {held} stay held otherwise",
        short(hold.id),
        counted(hold.snapshots.len() as u64, "snapshot")
    ))?;
    for id in &hold.snapshots {
        if let Some(why) = still.get(id) {
            output.line(format_args!("  {}  {why}", short_id(id)))?;
        }
    }
    output.json("summary", summary(hold, held, false))?;
    Ok(Outcome::Done)
}

fn say_release(holds: &[Hold], hold: &Hold, is_to_release: bool, output: &Output) -> anyhow::Result<Outcome> {
    let others = holds.iter().filter(|other| other.id != hold.id && matches!(other.state, HoldState::InForce | HoldState::Unproven));
    let others: BTreeSet<_> = others.flat_map(|other| &other.snapshots).collect();
    let held = hold.snapshots.iter().filter(|id| others.contains(id)).count();
    let number = counted(hold.snapshots.len() as u64, "snapshot");
    match is_to_release {
        true => output.report(format_args!(
            "hold {} would be released; of its {number}, {held} would stay held otherwise; nothing was changed",
            short(hold.id)
        ))?,
        false => output.report(format_args!("hold {} was released before; nothing was changed", short(hold.id)))?,
    }
    output.json("summary", summary(hold, held, true))?;
    Ok(Outcome::Done)
}

fn summary(hold: &Hold, held: usize, is_dry_run: bool) -> Value {
    json!({"hold": hold.id.to_string(), "snapshots": hold.snapshots.len(), "held_otherwise": held, "dry_run": is_dry_run})
}

/// The digits of a hold's id that people see.
pub(super) fn short(id: HoldId) -> String {
    id.to_string()[..super::snapshots::ID_DIGITS].to_owned()
}

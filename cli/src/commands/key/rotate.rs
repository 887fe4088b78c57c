//! `key rotate` and `key remove`: new keys for everything that is written from now on, for all who stay.

use super::{as_json, kind_name, short};
use crate::context::Context;
use crate::exit::{Outcome, usage};
use crate::size::counted;
use icecore::format::Roles;
use icecore::id::SlotId;
use icecore::repository::Repository;
use icecore::{Error, ErrorKind};
use serde_json::json;

/// Puts new keys in force for everything that is written from now on
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  icecore key rotate -r REPO\n\n\
    Needs an admin key with all roles. What is stored stays as it is, and all keys of the repository go on to open all of it. Backups that \
    are at work stop and have to be run again; what they stored is found again.")]
pub(crate) struct RotateArgs {
    /// Says what would be done, and does nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// Takes a key away, and puts new keys in force for everybody else
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  icecore key remove -r REPO 1a2b3c4d\n\n\
    Whoever kept the removed key opens nothing that is written afterwards. What was written before it can still read, if it can get at the \
    store. Run this with another key than the one to be removed.")]
pub(crate) struct RemoveArgs {
    /// The key slot, as `icecore key list` shows it
    id: String,
    /// Says what would be done, and does nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub(super) fn rotate(args: &RotateArgs, context: &Context) -> anyhow::Result<Outcome> {
    run(&context.open()?, None, args.dry_run, context)
}

pub(super) fn remove(args: &RemoveArgs, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open()?;
    let id = find(&repository, &args.id)?;
    run(&repository, Some(id), args.dry_run, context)
}

fn find(repository: &Repository, text: &str) -> anyhow::Result<SlotId> {
    let (slots, _) = repository.slots()?;
    let found: Vec<_> = slots.iter().map(|slot| slot.id).filter(|id| !text.is_empty() && id.to_string().starts_with(text)).collect();
    match found[..] {
        [id] => Ok(id),
        [] => Err(Error::new(ErrorKind::NotFound, format!("there is no key slot {text}; `icecore key list` shows all")).into()),
        _ => Err(usage(format!("{text} is the beginning of several key slots; give more digits"))),
    }
}

fn run(repository: &Repository, removed: Option<SlotId>, dry_run: bool, context: &Context) -> anyhow::Result<Outcome> {
    let rotation = repository.plan_rotation(removed)?;
    if !dry_run {
        repository.rotate(&rotation)?;
    }
    let output = &context.output;
    let would = if dry_run { "would be " } else { "" };
    if let Some(slot) = &rotation.removed {
        output.line(format_args!("{would}removed: key slot {} ({}) for {}", short(slot.id), kind_name(&slot.kind), slot.roles))?;
        output.note("What was written before can still be read by whoever kept that key.");
        if slot.roles.contain(Roles::ADMIN) {
            output.warn(
                "that key could sign as admin, which no rotation takes back: where it may be in wrong hands, make a new repository with a \
                 new admin",
            );
        }
    }
    let (kept, epoch) = (rotation.kept.len(), rotation.structure_epoch);
    output.report(format_args!("{would}in force from now on: keys of epoch {epoch}, sealed to {}", counted(kept as u64, "key slot")))?;
    for slot in &rotation.kept {
        output.json("key_slot_kept", as_json(slot))?;
    }
    let summary = json!({
        "dry_run": dry_run,
        "removed": rotation.removed.as_ref().map(as_json),
        "kept": kept,
        "config_generation": rotation.generation,
        "structure_epoch": epoch,
        "restore_epoch": rotation.restore_epoch,
    });
    for problem in &rotation.problems {
        output.warn(format_args!("passed over: {problem}; whoever it belongs to gets no new keys by it, also if it is whole again later"));
    }
    output.json("summary", summary)?;
    Ok(if rotation.problems.is_empty() { Outcome::Done } else { Outcome::DamageFound })
}

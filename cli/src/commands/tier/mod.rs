//! `tier`: colder and cheaper places, and moving packs there.

mod add;
mod list;
mod moves;
mod remove;

use crate::context::Context;
use crate::exit::Outcome;
use crate::money;
use crate::size::{bytes, counted};
use icecore::gc::PackGroup;
use icecore::tiers::TierBody;
use serde_json::{Value, json};

/// Makes and shows tiers (colder, cheaper places), and moves what only old snapshots need to them
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Examples:\n  \
    icecore tier add archive /mnt/archive --minimum-days 30 --storage-price 4\n  \
    icecore tier plan archive --older-than 90 --keep-newest 3      what would move, and what that costs\n  \
    icecore tier apply archive --older-than 90 --keep-newest 3\n  \
    icecore tier list\n\n\
    Only packs of data move; lists of files, snapshots and all else stay in the repository, so that listing, comparing and planning need no tier. \
    Packs go to colder tiers only. What comes back comes back by restoring it.")]
pub(crate) enum Command {
    Add(Box<add::Args>),
    List(list::Args),
    Remove(remove::Args),
    Plan(moves::PlanArgs),
    Apply(moves::ApplyArgs),
}

impl Command {
    /// Does it.
    pub(crate) fn run(&self, context: &Context) -> anyhow::Result<Outcome> {
        match self {
            Self::Add(args) => add::run(args, context),
            Self::List(args) => list::run(args, context),
            Self::Remove(args) => remove::run(args, context),
            Self::Plan(args) => moves::plan(args, context),
            Self::Apply(args) => moves::apply(args, context),
        }
    }
}

/// `12 packs (3.4 GiB)`
pub(super) fn group(group: PackGroup) -> String {
    format!("{} ({})", counted(group.packs, "pack"), bytes(group.bytes))
}

pub(super) fn group_as_json(group: PackGroup) -> Value {
    json!({"packs": group.packs, "bytes": group.bytes})
}

fn as_json(tier: &TierBody) -> Value {
    let classes = tier.classes.iter().map(|class| {
        json!({
            "name": class.name,
            "seconds": class.seconds,
            "price_per_tb": money::as_number(class.bytes_price),
            "price_per_million_requests": money::as_number(class.requests_price),
        })
    });
    json!({
        "name": tier.name,
        "id": tier.tier.to_string(),
        "rank": tier.rank,
        "frozen": tier.is_frozen,
        "removable": tier.is_removable,
        "retired": tier.is_retired,
        "label": tier.label,
        "storage_class": tier.storage_class,
        "minimum_days": tier.minimum_days,
        "latency_s": tier.latency_s,
        "prices": {
            "storage_per_tb_month": money::as_number(tier.prices.storage),
            "retrieval_per_tb": money::as_number(tier.prices.retrieval),
            "per_million_writes": money::as_number(tier.prices.writes),
            "per_million_reads": money::as_number(tier.prices.reads),
        },
        "thaw_classes": classes.collect::<Vec<_>>(),
    })
}

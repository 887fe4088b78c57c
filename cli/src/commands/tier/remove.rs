//! `tier remove`: takes a tier away in which nothing lies.

use crate::context::Context;
use crate::exit::Outcome;
use crate::names::shown;
use serde_json::json;

/// Takes away a tier in which nothing lies
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  icecore tier remove archive --dry-run\n  icecore tier remove archive\n\nIts folder stays, empty. A tier in which packs lie stays as it is."
)]
pub(crate) struct Args {
    /// Name of the tier
    #[arg(value_name = "NAME")]
    name: String,
    /// Only says what would be done, or why it cannot be
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let repository = context.open()?;
    let output = &context.output;
    match args.dry_run {
        true => {
            let tier = repository.plan_remove_tier(&args.name)?;
            output.report(format_args!(
                "tier {} at {} would be removed; nothing was changed",
                tier.name,
                shown(tier.address.as_bytes())
            ))?;
        }
        false => {
            repository.remove_tier(&args.name)?;
            output.report(format_args!("removed tier {}", args.name))?;
        }
    }
    output.json("summary", json!({"name": args.name, "dry_run": args.dry_run}))?;
    Ok(Outcome::Done)
}

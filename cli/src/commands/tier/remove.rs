//! `tier remove`: takes a tier away in which nothing lies.

use crate::context::Context;
use crate::exit::Outcome;
use serde_json::json;

/// Takes away a tier in which nothing lies
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  icecore tier remove archive\n\nIts folder stays, empty. A tier in which packs lie stays as it is.")]
pub(crate) struct Args {
    /// Name of the tier
    #[arg(value_name = "NAME")]
    name: String,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    context.open()?.remove_tier(&args.name)?;
    context.output.report(format_args!("removed tier {}", args.name))?;
    context.output.json("summary", json!({"name": args.name}))?;
    Ok(Outcome::Done)
}

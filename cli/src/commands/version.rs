//! `version`: which release this is, and which format it reads and writes.

use crate::context::Context;
use crate::exit::Outcome;
use icecore::format::object::VERSION;
use serde_json::json;

/// Prints the release, and the format version that it reads and writes
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  icecore version --json")]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let release = env!("CARGO_PKG_VERSION");
    context.output.line(format_args!("icecore {release}, reads and writes format version {VERSION}"))?;
    context.output.json("summary", json!({"version": release, "format_version": VERSION}))?;
    Ok(Outcome::Done)
}

//! `man`: manual pages, made from the same definitions as the help.

use crate::commands::Cli;
use crate::context::Context;
use crate::exit::Outcome;
use anyhow::Context as _;
use clap::CommandFactory;
use clap_mangen::generate_to;
use serde_json::json;
use std::path::PathBuf;

/// Writes manual pages, one for each command
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  icecore man --out ~/.local/share/man/man1")]
pub(crate) struct Args {
    /// Folder that they are written to, made where it is missing
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let folder = args.out.display();
    std::fs::create_dir_all(&args.out).with_context(|| format!("folder {folder}"))?;
    generate_to(Cli::command().disable_help_subcommand(true), &args.out).with_context(|| format!("manual pages in {folder}"))?;
    context.output.report(format_args!("manual pages were written to {folder}"))?;
    context.output.json("summary", json!({"folder": folder.to_string()}))?;
    Ok(Outcome::Done)
}

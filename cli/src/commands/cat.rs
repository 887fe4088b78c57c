//! `cat`: writes a file of a snapshot to standard output.

use super::selection::Selection;
use crate::context::Context;
use crate::exit::Outcome;
use std::ffi::OsString;

/// Writes a file of a snapshot to standard output
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore cat latest home/ann/letter.txt\n  \
    icecore cat 3f2a9c1d etc/fstab | diff - /etc/fstab\n\n\
    With --json the JSON lines go to standard error.")]
pub(crate) struct Args {
    #[command(flatten)]
    selection: Selection,
    /// The file, as `icecore ls` shows it
    path: OsString,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    super::restore::to_stdout(&args.selection, Some(args.path.clone()), context)
}

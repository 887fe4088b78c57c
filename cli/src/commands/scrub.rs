//! `scrub`: reads and checks every byte.

use super::check::report;
use crate::context::Context;
use crate::exit::Outcome;
use icecore::check::scrub_keyless;

/// Reads and checks every byte of the repository
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore scrub\n  \
    icecore scrub -r /mnt/disk/backups --keyless    on a machine that must not have the key\n\n\
    Exit code 14 says that damage was found.")]
pub(crate) struct Args {
    /// Checks what can be checked without passphrase or key: that every object is as it was written
    #[arg(long)]
    keyless: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let found = if args.keyless {
        let backend = context.limited(context.place()?.open()?);
        let progress = context.progress()?;
        scrub_keyless(&*backend, &context.runtime(), &progress)?
    } else {
        let repository = context.open()?;
        let progress = context.progress()?;
        repository.scrub(&progress)?
    };
    report(&found, &context.output)
}

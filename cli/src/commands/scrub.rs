//! `scrub`: reads and checks every byte, and heals what it can.

use super::check::report;
use crate::context::Context;
use crate::exit::Outcome;
use icecore::check::{scrub_and_heal_keyless, scrub_keyless};

/// Reads and checks every byte of the repository, and heals damage where there is parity
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore scrub\n  \
    icecore scrub -r /mnt/disk/backups --keyless    on a machine that must not have the key\n\n\
    With parity (`icecore init --parity`, `icecore config --parity`) damaged and lost objects get their own bytes back, which needs no key.\n\n\
    Exit code 14 says that damage was found, also where all of it was healed: a disk that lost something may lose more.")]
pub(crate) struct Args {
    /// Checks what can be checked without passphrase or key: that every object is as it was written
    #[arg(long)]
    keyless: bool,
    /// Changes nothing: damage is named and left as it is
    #[arg(long)]
    no_heal: bool,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let found = if args.keyless {
        let backend = context.backend(&context.place()?)?;
        let progress = context.progress()?;
        let scrub = if args.no_heal { scrub_keyless } else { scrub_and_heal_keyless };
        scrub(&*backend, &context.runtime(), &progress)?
    } else {
        let repository = context.open_to_read()?;
        let progress = context.progress()?;
        if args.no_heal { repository.scrub(&progress)? } else { repository.scrub_and_heal(&progress)? }
    };
    report(&found, &context.output)
}

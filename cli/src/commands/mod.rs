//! The commands: one file each, with its arguments and what it does.

mod backup;
mod cat;
mod check;
mod completions;
mod config;
mod cost;
mod diff;
mod doctor;
mod filter;
mod find;
mod forget;
mod gc;
mod hold;
mod init;
mod key;
mod lock;
mod ls;
mod man;
mod profile;
mod repair;
mod replicate;
mod restore;
mod rules;
mod scrub;
mod selection;
mod snapshots;
mod stats;
mod tag;
mod thaw;
mod tier;
mod version;

use crate::context::{Context, GlobalOptions};
use crate::exit::Outcome;
use clap::{Parser, Subcommand};

/// Backs up into repositories that are encrypted and store each piece of content once
#[derive(Debug, Parser)]
#[command(
    name = "icecore",
    version,
    max_term_width = 110,
    arg_required_else_help = true,
    after_help = "The first steps:\n  \
        icecore backup ~/Documents                    into a default repository, made on first use\n  \
        icecore snapshots                             what there is\n  \
        icecore restore latest --target ~/restored    all of it back\n\n\
        Exit codes: 0 all of it worked, 1 failed, 2 usage, 3 finished but items were skipped or failed, 10 no repository, \
        12 wrong passphrase or key, 13 a snapshot is held, 14 damage found, 15 has to thaw or be plugged in first, 130 interrupted."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: GlobalOptions,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Init(init::Args),
    Backup(Box<backup::Args>),
    Restore(restore::Args),
    Snapshots(snapshots::Args),
    Ls(ls::Args),
    Cat(cat::Args),
    Diff(diff::Args),
    Find(Box<find::Args>),
    Stats(Box<stats::Args>),
    Cost(Box<cost::Args>),
    Tag(tag::Args),
    #[command(subcommand)]
    Hold(hold::Command),
    Lock(lock::Args),
    Forget(Box<forget::Args>),
    Check(check::Args),
    Scrub(scrub::Args),
    Repair(Box<repair::Args>),
    Replicate(Box<replicate::Args>),
    Gc(gc::Args),
    #[command(subcommand)]
    Tier(Box<tier::Command>),
    Thaw(thaw::Args),
    Config(config::Args),
    #[command(subcommand)]
    Key(Box<key::Command>),
    #[command(subcommand)]
    Profile(profile::Command),
    Doctor(doctor::Args),
    Completions(completions::Args),
    Man(man::Args),
    Version(version::Args),
}

impl Command {
    /// Does it.
    pub(crate) fn run(&self, context: &Context) -> anyhow::Result<Outcome> {
        match self {
            Self::Init(args) => init::run(args, context),
            Self::Backup(args) => backup::run(args, context),
            Self::Restore(args) => restore::run(args, context),
            Self::Snapshots(args) => snapshots::run(args, context),
            Self::Ls(args) => ls::run(args, context),
            Self::Cat(args) => cat::run(args, context),
            Self::Diff(args) => diff::run(args, context),
            Self::Find(args) => find::run(args, context),
            Self::Stats(args) => stats::run(args, context),
            Self::Cost(args) => cost::run(args, context),
            Self::Tag(args) => tag::run(args, context),
            Self::Hold(command) => command.run(context),
            Self::Lock(args) => lock::run(args, context),
            Self::Forget(args) => forget::run(args, context),
            Self::Check(args) => check::run(args, context),
            Self::Scrub(args) => scrub::run(args, context),
            Self::Repair(args) => repair::run(args, context),
            Self::Replicate(args) => replicate::run(args, context),
            Self::Gc(args) => gc::run(args, context),
            Self::Tier(command) => command.run(context),
            Self::Thaw(args) => thaw::run(args, context),
            Self::Config(args) => config::run(args, context),
            Self::Key(command) => command.run(context),
            Self::Profile(command) => command.run(context),
            Self::Doctor(args) => doctor::run(args, context),
            Self::Completions(args) => completions::run(args, context),
            Self::Man(args) => man::run(args, context),
            Self::Version(args) => version::run(args, context),
        }
    }
}

//! `completions`: a script that completes commands and options in a shell.

use crate::commands::Cli;
use crate::context::Context;
use crate::exit::Outcome;
use clap::CommandFactory;
use clap_complete::Shell;
use serde_json::json;

/// Prints a script that completes commands and options in a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    icecore completions bash > ~/.local/share/bash-completion/completions/icecore\n  \
    icecore completions fish > ~/.config/fish/completions/icecore.fish")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "icecore", &mut script);
    let script = String::from_utf8(script)?;
    context.output.line(script.trim_end())?;
    context.output.json("summary", json!({"shell": args.shell.to_string(), "script": script}))?;
    Ok(Outcome::Done)
}

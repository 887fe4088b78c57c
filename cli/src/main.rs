//! Command line of icecore: reads arguments, asks the engine, shows what came of it.
//!
//! Standard output is the result, standard error everything else. All work on a repository is done by the engine; what lives here
//! is what the engine must not have: a terminal, an environment, a home folder, signals.

mod child;
mod commands;
mod context;
mod environment;
mod exit;
mod interrupt;
mod money;
mod names;
mod nearest;
mod output;
mod place;
mod profile;
mod progress;
mod second;
mod secrets;
mod size;
mod store;
mod table;
mod tiers;
mod time;

use output::Output;
use profile::Refused;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (cli, profile) = match profile::parse(std::env::args_os().collect()) {
        Ok(parsed) => parsed,
        Err(Refused::Arguments(error)) => return refuse(&error),
        Err(Refused::Profile(problem)) => return Output::new(wants_json(), false, false).end(Err(problem.into())),
    };
    let context = context::Context::new(cli.options, profile);
    let result = cli.command.run(&context);
    context.output.end(result)
}

/// Arguments that make no sense; also `--help` and `--version`, which clap treats as errors that are none.
fn refuse(error: &clap::Error) -> ExitCode {
    // Nothing is left to tell anyone where even this cannot be written.
    let _ = error.print();
    let code = u8::try_from(error.exit_code()).unwrap_or(exit::USAGE);
    if code != 0 && wants_json() {
        Output::new(true, false, false).exit_error(code, "usage", error.render().to_string().trim());
    }
    ExitCode::from(code)
}

/// Whether JSON is asked for by arguments that could not be understood as a whole.
fn wants_json() -> bool {
    std::env::args_os().any(|argument| argument == "--json")
}

//! `profile`: what a profile comes to.

use crate::context::Context;
use crate::exit::Outcome;
use crate::profile::settings;
use crate::secrets::Secret;
use crate::table::{Column, Table, terminal_width};
use clap::Subcommand;
use serde_json::json;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// Profiles of the configuration file
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  icecore profile show -P home\n\n\
    Profiles stand in ~/.config/icecore/icecore.toml, otherwise in /etc/icecore/icecore.toml:\n\n  \
    default-profile = \"home\"\n\n  \
    [profiles.home]                           options of all commands\n  \
    repository = \"/mnt/disk/backups\"\n  \
    key-file = \"~/.config/icecore/key\"\n\n  \
    [profiles.home.backup]                    options of one command\n  \
    paths = [\"~/Documents\", \"~/Pictures\"]\n  \
    exclude = [\"*.tmp\"]\n  \
    series = \"home\"\n\n  \
    [profiles.home.forget]\n  \
    keep-daily = 7\n\n\
    A key is the long name of an option. An option that is given, or set in the environment, takes the place of the profile's; \
    --SWITCH=false takes back a switch.")]
pub(crate) enum Command {
    Show(ShowArgs),
}

/// Prints what the profile comes to, and where each value comes from
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  icecore profile show\n  icecore profile show -P home --command restore")]
pub(crate) struct ShowArgs {
    /// Command whose options are shown (can be repeated)
    #[arg(long, value_name = "COMMAND", default_values = ["backup", "forget"])]
    command: Vec<String>,
}

impl Command {
    /// Does it.
    pub(crate) fn run(&self, context: &Context) -> anyhow::Result<Outcome> {
        match self {
            Self::Show(args) => show(args, context),
        }
    }
}

fn show(args: &ShowArgs, context: &Context) -> anyhow::Result<Outcome> {
    let (profile, output) = (context.profile(), &context.output);
    let commands: Vec<&str> = args.command.iter().map(String::as_str).collect();
    let found = settings(profile, &commands)?;
    let file = profile.file.as_ref().map(|file| file.display().to_string());
    output.line(format_args!("file     {}", file.as_deref().unwrap_or("none")))?;
    output.line(format_args!("profile  {}", profile.name.as_deref().unwrap_or("none")))?;
    if !profile.names.is_empty() {
        output.line(format_args!("there are {}", profile.names.join(", ")))?;
    }
    let mut table = Table::new([("command", Column::Left), ("option", Column::Left), ("value", Column::Shortened), ("from", Column::Left)]);
    let mut tell = |command: Option<&str>, option: &str, values: Vec<String>, source: &str| {
        let value = match &values[..] {
            [only] => only.clone(),
            several => several.join(", "),
        };
        table.push([command.unwrap_or("").to_owned(), option.to_owned(), value, source.to_owned()]);
        output.json("setting", json!({"command": command, "option": option, "values": values, "source": source}))
    };
    if !found.iter().any(|setting| setting.option == "repository") {
        tell(None, "repository", vec![context.place()?.address().to_string()], "default")?;
    }
    for setting in &found {
        let values = setting.values.iter().map(|value| crate::names::shown(OsStr::as_bytes(value))).collect();
        tell(setting.command.as_deref(), &setting.option, values, setting.source)?;
    }
    if let Some(secret) = Secret::of_environment()
        .filter(|_| !found.iter().any(|setting| setting.option.starts_with("key-") || setting.option.starts_with("password-")))
    {
        tell(None, secret.option(), vec![secret.describe()], "environment")?;
    }
    table.lines(terminal_width()).into_iter().try_for_each(|line| output.line(line))?;
    output.json("summary", json!({"file": file, "profile": profile.name, "profiles": profile.names}))?;
    Ok(Outcome::Done)
}

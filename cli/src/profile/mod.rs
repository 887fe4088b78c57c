//! Profiles: what a user does not want to type again, from `icecore.toml`.
//!
//! ```toml
//! default-profile = "home"
//!
//! [profiles.home]                      # options of all commands
//! repository = "/mnt/disk/backups"
//! key-file = "~/.config/icecore/key"
//!
//! [profiles.home.backup]               # options of one command
//! paths = ["~/Documents"]
//! exclude = ["*.tmp"]
//! ```
//! A key is the long name of an option, so there is one list of them and it is the program's help. What a profile says is put among the
//! arguments as if it had been typed, unless an argument or the environment says otherwise; a list takes the place of the other, it is not
//! added to it. Files are read at most once, nothing is written.

mod file;
mod merge;

pub(crate) use merge::settings;

use crate::commands::Cli;
use crate::exit::Usage;
use clap::error::ErrorKind;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};
use file::{Chosen, ConfigFile};
use std::ffi::OsString;
use std::path::PathBuf;

/// Commands that are run without profiles: they touch no repository, and must work where the configuration file is broken.
const WITHOUT_PROFILES: [&str; 4] = ["completions", "man", "version", "help"];

/// Which profile counts, and where it comes from.
#[derive(Debug, Default, Clone)]
pub(crate) struct Profile {
    /// The configuration file that was found.
    pub(crate) file: Option<PathBuf>,
    /// The name of the profile that counts.
    pub(crate) name: Option<String>,
    /// All that the file has.
    pub(crate) names: Vec<String>,
    /// What is wrong with the file; commands that need it have failed before.
    pub(crate) problem: Option<String>,
    /// The arguments as they were typed, but for the switches that were taken back.
    pub(crate) typed: Vec<OsString>,
    /// Switches of the profile that were taken back, by their long names.
    declined: Vec<String>,
}

/// Why the arguments are none.
#[derive(Debug)]
pub(crate) enum Refused {
    /// As clap says.
    Arguments(clap::Error),
    /// What is wrong with the configuration file, or with what it says.
    Profile(Usage),
}

impl From<clap::Error> for Refused {
    fn from(error: clap::Error) -> Self {
        Self::Arguments(error)
    }
}

/// Reads arguments, with what the profile adds to them.
pub(crate) fn parse(typed: Vec<OsString>) -> Result<(Cli, Profile), Refused> {
    let command = command();
    let (typed, declined) = take_back(&command, typed);
    // What is missing the profile may have.
    let (matches, first) = match command.clone().try_get_matches_from(&typed) {
        Ok(matches) => (matches, None),
        Err(error) if error.kind() == ErrorKind::MissingRequiredArgument => (lenient(&command, &typed)?, Some(error)),
        Err(error) => return Err(error.into()),
    };
    let (name, _) = leaf(&matches);
    let mut profile = Profile { typed: typed.clone(), declined, ..Profile::default() };
    let is_without = name.first().is_some_and(|name| WITHOUT_PROFILES.contains(name));
    let chosen = match choose(&command, &matches, &mut profile) {
        _ if is_without => Chosen::default(),
        Ok(chosen) => chosen,
        Err(problem) if name.first() == Some(&"doctor") => {
            profile.problem = Some(problem.0);
            Chosen::default()
        }
        Err(problem) => return Err(Refused::Profile(problem)),
    };
    let added = merge::added(&command, &matches, &chosen).map_err(Refused::Profile)?;
    match (added.is_empty(), first) {
        (true, None) => Ok((Cli::from_arg_matches(&matches)?, profile)),
        (true, Some(first)) => Err(first.into()),
        (false, first) => match command.try_get_matches_from(merge::put_in(&typed, added)) {
            Ok(matches) => Ok((Cli::from_arg_matches(&matches)?, profile)),
            // What was missing without the profile and is missing with it is not its fault.
            Err(error) => Err(match first {
                Some(first) if error.kind() == ErrorKind::MissingRequiredArgument => first.into(),
                _ => Refused::Profile(Usage(format!("{}: {}", chosen.describe(), error.to_string().trim().trim_start_matches("error: ")))),
            }),
        },
    }
}

/// The program's arguments.
fn command() -> Command {
    let mut command = Cli::command();
    command.build();
    command
}

/// The arguments as far as they go.
fn lenient(command: &Command, typed: &[OsString]) -> Result<ArgMatches, clap::Error> {
    command.clone().ignore_errors(true).try_get_matches_from(typed)
}

/// The file that is named or found, and the profile in it that counts.
fn choose(command: &Command, matches: &ArgMatches, profile: &mut Profile) -> Result<Chosen, Usage> {
    let leaf = leaf(matches).1;
    let text = |id: &str| leaf.get_one::<String>(id).filter(|text| !text.is_empty()).cloned();
    let named = leaf.get_one::<PathBuf>("config").filter(|path| !path.as_os_str().is_empty());
    if leaf.get_flag("no_config") {
        return Ok(Chosen::default());
    }
    let Some(file) = ConfigFile::find(named.map(PathBuf::as_path))? else {
        return match text("profile") {
            Some(name) => Err(Usage(format!("there is no configuration file and so no profile `{name}`; make {}", ConfigFile::hint()))),
            None => Ok(Chosen::default()),
        };
    };
    profile.file = Some(file.path.clone());
    file.check(command)?;
    profile.names = file.profile_names();
    let chosen = file.choose(text("profile").as_deref())?;
    profile.name.clone_from(&chosen.name);
    Ok(chosen.without(&profile.declined))
}

/// Splits off `--switch=false`, which takes back a switch of the profile; `--switch=true` is the switch itself.
fn take_back(command: &Command, typed: Vec<OsString>) -> (Vec<OsString>, Vec<String>) {
    let is_command = |at: &Command, word: &OsString| at.find_subcommand(word).cloned();
    let leaf = typed.iter().take_while(|word| *word != "--").fold(command.clone(), |at, word| is_command(&at, word).unwrap_or(at));
    let is_switch = |name: &str| leaf.get_arguments().any(|option| option.get_long() == Some(name) && !file::takes_value(option));
    let (mut kept, mut declined, mut is_over) = (Vec::new(), Vec::new(), false);
    for argument in typed {
        is_over |= argument == "--";
        let split = argument.to_str().filter(|_| !is_over).and_then(|text| text.strip_prefix("--")?.split_once('='));
        match split.filter(|(name, _)| is_switch(name)) {
            Some((name, "false")) => declined.push(name.to_owned()),
            Some((name, "true")) => kept.push(format!("--{name}").into()),
            _ => kept.push(argument),
        }
    }
    (kept, declined)
}

/// The innermost command that was named: the names of commands down to it, and what was given to it.
fn leaf(matches: &ArgMatches) -> (Vec<&str>, &ArgMatches) {
    let (mut names, mut at) = (Vec::new(), matches);
    while let Some((name, below)) = at.subcommand() {
        names.push(name);
        at = below;
    }
    (names, at)
}

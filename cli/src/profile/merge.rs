//! What a profile adds to the arguments, and where each value comes from.

use super::file::{Chosen, global_options, key_of, options_of, takes_value};
use super::{Profile, choose, command, leaf, lenient};
use crate::environment;
use crate::exit::Usage;
use crate::secrets::Secret;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};
use icecore::backend::Address;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use toml::Value;

/// What opens a repository: one of them at most, and only for the repository that it belongs to.
const SECRETS: [&str; 4] = ["password_file", "password_command", "key_file", "key_command"];

/// Arguments of `backup` that say what is backed up: paths, and streams, of which nothing can be left out.
const SOURCES: [&str; 3] = ["paths", "files_from", "files_from0"];
const STREAMS: [&str; 3] = ["stdin", "exec", "tar"];

/// Heading of the rules of `forget` and of all that asks what they would do.
const RULES: &str = "Rules";

/// The value of an option, and where it comes from.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The command, where the option is not for all.
    pub(crate) command: Option<String>,
    /// The long name.
    pub(crate) option: String,
    /// What it is; `true` for a switch.
    pub(crate) values: Vec<OsString>,
    /// `flag`, `environment`, `profile` or `default`.
    pub(crate) source: &'static str,
}

/// The arguments that a profile adds to those that were given.
pub(super) fn added(command: &Command, matches: &ArgMatches, chosen: &Chosen) -> Result<Vec<OsString>, Usage> {
    let (names, given) = leaf(matches);
    let mut at = command;
    for name in &names {
        at = at.find_subcommand(name).unwrap_or(at);
    }
    let mut added = Vec::new();
    for (key, value) in &chosen.table {
        let option = global_options(command).into_iter().find(|option| key_of(option) == Some(key));
        if let Some(option) = option.filter(|option| may_add_secret(option, given, chosen) && may_add(option, at, given)) {
            put(option, value, chosen, &mut added)?;
        }
    }
    let mut section = (!names.is_empty()).then_some(&chosen.table);
    for name in &names {
        section = section.and_then(|table| table.get(*name)).and_then(Value::as_table);
    }
    let mut last = Vec::new();
    for (key, value) in section.into_iter().flatten() {
        let Some(option) = options_of(at).into_iter().find(|option| key_of(option) == Some(key)) else { continue };
        let is_of_other = names == ["backup"] && belongs_to_other_source(option, given);
        if !is_of_other && may_add(option, at, given) {
            let list = if option.is_positional() { &mut last } else { &mut added };
            put(option, value, chosen, list)?;
        }
    }
    added.append(&mut last);
    Ok(added)
}

/// Puts what was added behind the arguments that were typed, but before a `--` and what follows it.
pub(super) fn put_in(typed: &[OsString], added: Vec<OsString>) -> Vec<OsString> {
    let end = typed.iter().position(|argument| argument == "--").unwrap_or(typed.len());
    let (before, after) = typed.split_at(end);
    before.iter().cloned().chain(added).chain(after.iter().cloned()).collect()
}

/// Whether somebody said it in the arguments or in the environment.
fn is_given(id: &str, given: &ArgMatches) -> bool {
    let is_known = given.ids().any(|known| known.as_str() == id);
    is_known && matches!(given.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

/// Whether an option that was not given can stand beside those that were.
fn may_add(option: &Arg, command: &Command, given: &ArgMatches) -> bool {
    if is_given(option.get_id().as_str(), given) {
        return false;
    }
    // Rules make one policy: those that were typed take the place of all.
    let is_rule = |option: &Arg| option.get_help_heading() == Some(RULES);
    if is_rule(option) && command.get_arguments().any(|other| is_rule(other) && is_given(other.get_id().as_str(), given)) {
        return false;
    }
    let excludes = |one: &Arg, other: &Arg| command.get_arg_conflicts_with(one).iter().any(|excluded| excluded.get_id() == other.get_id());
    let is_other = |other: &&Arg| other.get_id() != option.get_id() && is_given(other.get_id().as_str(), given);
    !command.get_arguments().filter(is_other).any(|other| excludes(option, other) || excludes(other, option))
}

fn may_add_secret(option: &Arg, given: &ArgMatches, chosen: &Chosen) -> bool {
    if !SECRETS.contains(&option.get_id().as_str()) {
        return true;
    }
    let is_of_other_repository = chosen.table.contains_key("repository") && is_given("repository", given);
    !is_of_other_repository && Secret::of_environment().is_none() && !SECRETS.iter().any(|secret| is_given(secret, given))
}

/// Whether an option of `backup` is about what the profile backs up, and something else is to be backed up.
fn belongs_to_other_source(option: &Arg, given: &ArgMatches) -> bool {
    let is_any_given = |ids: &[&str]| ids.iter().any(|id| is_given(id, given));
    let heading = option.get_help_heading().unwrap_or_default();
    let names_source = ["paths", "series"].contains(&option.get_id().as_str());
    let is_about_source = names_source || ["What is backed up", "Commands around the backup"].contains(&heading);
    let is_other = is_any_given(&SOURCES) || is_any_given(&STREAMS);
    (is_about_source && is_other) || (heading == "What is left out" && is_any_given(&STREAMS))
}

/// Adds an option with a value, or with each of several.
fn put(option: &Arg, value: &Value, chosen: &Chosen, added: &mut Vec<OsString>) -> Result<(), Usage> {
    let values = match value {
        Value::Array(values) => values.as_slice(),
        value => std::slice::from_ref(value),
    };
    for value in values {
        let text: OsString = match value {
            Value::Boolean(true) => {
                added.push(format!("--{}", option.get_long().unwrap_or_default()).into());
                continue;
            }
            Value::Boolean(false) => continue,
            Value::String(text) if is_path(option) => resolve(text, &chosen.path)?,
            Value::String(text) => text.into(),
            Value::Integer(number) => number.to_string().into(),
            Value::Float(number) => number.to_string().into(),
            // Refused when the file was read.
            _ => continue,
        };
        let mut argument = OsString::new();
        if let Some(long) = option.get_long() {
            argument.push(format!("--{long}="));
        }
        argument.push(text);
        added.push(argument);
    }
    Ok(())
}

/// Whether its values are files or folders of this machine.
fn is_path(option: &Arg) -> bool {
    let names = option.get_value_names().unwrap_or_default();
    option.get_id() == "paths" || names.iter().any(|name| matches!(name.as_str(), "FILE" | "FOLDER" | "REPO"))
}

/// `~/` is the home folder, and what is relative counts from the folder of the configuration file.
fn resolve(text: &str, file: &Path) -> Result<OsString, Usage> {
    if text == "~" || text.starts_with("~/") {
        let home = environment::home_folder().ok_or_else(|| Usage(format!("`{text}`: there is no home folder (HOME is not set)")))?;
        return Ok(home.join(text.trim_start_matches('~').trim_start_matches('/')).into());
    }
    if Address::has_scheme(OsStr::new(text)) {
        return Ok(text.into());
    }
    Ok(file.parent().unwrap_or(Path::new("/")).join(text).into())
}

/// What counts for all commands and for each of these, and where it comes from. `profile` has the arguments that were typed.
pub(crate) fn settings(profile: &Profile, commands: &[&str]) -> Result<Vec<Setting>, Usage> {
    let command = command();
    let parse = |arguments: &[OsString]| lenient(&command, arguments).map_err(|error| Usage(error.to_string()));
    let typed = parse(&profile.typed)?;
    let globals = retyped(&command, leaf(&typed).1);
    let mut found = Vec::new();
    for (number, name) in commands.iter().enumerate() {
        let arguments: Vec<OsString> = ["icecore".into()].into_iter().chain(globals.clone()).chain([name.into()]).collect();
        let first = parse(&arguments)?;
        let mut declined = Profile { declined: profile.declined.clone(), ..Profile::default() };
        let chosen = choose(&command, &first, &mut declined)?;
        let second = parse(&put_in(&arguments, added(&command, &first, &chosen)?))?;
        let (before, after) = (leaf(&first).1, leaf(&second).1);
        let Some(of_command) = command.find_subcommand(name) else { continue };
        if number == 0 {
            found.extend(global_options(&command).into_iter().filter_map(|option| setting(option, None, before, after)));
        }
        found.extend(options_of(of_command).into_iter().filter_map(|option| setting(option, Some(name), before, after)));
    }
    Ok(found)
}

fn setting(option: &Arg, command: Option<&str>, before: &ArgMatches, after: &ArgMatches) -> Option<Setting> {
    let id = option.get_id().as_str();
    let name = key_of(option)?;
    if !after.ids().any(|known| known.as_str() == id) {
        return None;
    }
    let source = match (after.value_source(id)?, is_given(id, before)) {
        (ValueSource::EnvVariable, _) => "environment",
        (ValueSource::CommandLine, true) => "flag",
        (ValueSource::CommandLine, false) => "profile",
        _ => "default",
    };
    let values: Vec<OsString> = after.get_raw(id).into_iter().flatten().map(OsStr::to_owned).collect();
    // Switches that nobody touched say nothing.
    let is_silent = source == "default" && (!takes_value(option) || values.is_empty());
    let command = command.map(str::to_owned);
    (!is_silent).then(|| Setting {
        command,
        option: name.to_owned(),
        values: if takes_value(option) { values } else { vec!["true".into()] },
        source,
    })
}

/// The options of all commands that were typed, typed anew.
fn retyped(command: &Command, given: &ArgMatches) -> Vec<OsString> {
    let mut arguments = Vec::new();
    for option in global_options(command) {
        let id = option.get_id().as_str();
        let is_known = given.ids().any(|known| known.as_str() == id);
        let Some(long) = option.get_long().filter(|_| is_known && given.value_source(id) == Some(ValueSource::CommandLine)) else {
            continue;
        };
        if !takes_value(option) {
            arguments.push(format!("--{long}").into());
            continue;
        }
        for value in given.get_raw(id).into_iter().flatten() {
            let mut argument = OsString::from(format!("--{long}="));
            argument.push(value);
            arguments.push(argument);
        }
    }
    arguments
}

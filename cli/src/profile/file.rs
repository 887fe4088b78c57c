//! The configuration file: where it is, and whether it says what can be said.

use crate::environment;
use crate::exit::Usage;
use crate::nearest::advice;
use clap::{Arg, Command};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// For all users of the machine.
const OF_MACHINE: &str = "/etc/icecore/icecore.toml";
const DEFAULT_PROFILE: &str = "default-profile";
const PROFILES: &str = "profiles";
/// The profile that counts where none is named.
const NAME_OF_DEFAULT: &str = "default";
/// Options that choose the profile, or are for one run only.
const NOT_IN_PROFILES: [&str; 7] = ["config", "no-config", "profile", "json", "help", "version", "dry-run"];

/// A configuration file that was read.
#[derive(Debug)]
pub(crate) struct ConfigFile {
    /// Where it is.
    pub(crate) path: PathBuf,
    table: Table,
}

/// The profile that counts.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    pub(super) path: PathBuf,
    pub(super) name: Option<String>,
    pub(super) table: Table,
}

impl Chosen {
    /// The same without some switches.
    pub(super) fn without(mut self, switches: &[String]) -> Self {
        fn without(table: &mut Table, switches: &[String]) {
            table.retain(|key, value| value.is_table() || !switches.iter().any(|switch| switch == key));
            table.iter_mut().filter_map(|(_, value)| value.as_table_mut()).for_each(|section| without(section, switches));
        }
        without(&mut self.table, switches);
        self
    }

    /// Names it, for people.
    pub(super) fn describe(&self) -> String {
        format!("profile `{}` in {}", self.name.as_deref().unwrap_or_default(), self.path.display())
    }
}

impl ConfigFile {
    /// Reads the file that was named, otherwise the user's, otherwise the machine's; `None` where there is none.
    pub(crate) fn find(named: Option<&Path>) -> Result<Option<Self>, Usage> {
        if let Some(path) = named {
            return Self::read(path).map(Some);
        }
        let of_user = environment::config_folder().map(|folder| folder.join("icecore").join("icecore.toml"));
        for path in of_user.into_iter().chain([PathBuf::from(OF_MACHINE)]) {
            // One that cannot be looked at says what it may be about; passing it over could do something else than was meant.
            if path.try_exists().map_err(|error| Usage(format!("configuration file {}: {error}", path.display())))? {
                return Self::read(&path).map(Some);
            }
        }
        Ok(None)
    }

    /// Where one may be made.
    pub(crate) fn hint() -> String {
        let folder = environment::config_folder().map(|folder| folder.join("icecore").join("icecore.toml"));
        folder.unwrap_or_else(|| OF_MACHINE.into()).display().to_string()
    }

    fn read(path: &Path) -> Result<Self, Usage> {
        let text = std::fs::read_to_string(path).map_err(|error| Usage(format!("configuration file {}: {error}", path.display())))?;
        let table = text.parse().map_err(|error| Usage(format!("configuration file {}: {error}", path.display())))?;
        // Relative paths count from where the file is, also when the working folder is another.
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        Ok(Self { path, table })
    }

    pub(super) fn profile_names(&self) -> Vec<String> {
        self.profiles().map(|profiles| profiles.keys().cloned().collect()).unwrap_or_default()
    }

    fn profiles(&self) -> Option<&Table> {
        self.table.get(PROFILES)?.as_table()
    }

    fn wrong(&self, place: &str, what: impl std::fmt::Display) -> Usage {
        Usage(format!("configuration file {}: {place}{what}", self.path.display()))
    }

    /// Refuses keys that mean nothing.
    pub(super) fn check(&self, command: &Command) -> Result<(), Usage> {
        for (key, value) in &self.table {
            match (key.as_str(), value) {
                (DEFAULT_PROFILE, Value::String(_)) | (PROFILES, Value::Table(_)) => {}
                (DEFAULT_PROFILE, _) => return Err(self.wrong("", format!("`{DEFAULT_PROFILE}` must be the name of a profile"))),
                (PROFILES, _) => {
                    return Err(self.wrong("", format!("`{PROFILES}` must hold tables, one for each profile: [profiles.NAME]")));
                }
                _ => {
                    let advice = advice(key, [DEFAULT_PROFILE, PROFILES]);
                    return Err(self.wrong("", format!("there is no key `{key}`{advice} (options belong into [profiles.NAME])")));
                }
            }
        }
        for (name, profile) in self.profiles().into_iter().flatten() {
            let Value::Table(profile) = profile else {
                return Err(self.wrong("", format!("profile `{name}` must be a table: [profiles.{name}]")));
            };
            self.check_profile(name, profile, command)?;
        }
        Ok(())
    }

    fn check_profile(&self, name: &str, profile: &Table, command: &Command) -> Result<(), Usage> {
        for (key, value) in profile {
            let place = format!("profile `{name}`: ");
            match value {
                Value::Table(section) => self.check_section(&format!("profile `{name}`"), key, section, command)?,
                _ => self.check_key(&place, key, value, &global_options(command)).map_err(|error| {
                    let owner = command.get_subcommands().find(|command| options_of(command).iter().any(|arg| key_of(arg) == Some(key)));
                    match owner {
                        Some(owner) => self.wrong(
                            &place,
                            format!("`{key}` is an option of `{0}` and belongs into [profiles.{name}.{0}]", owner.get_name()),
                        ),
                        None => error,
                    }
                })?,
            }
        }
        Ok(())
    }

    /// A table for one command; `tier` and others that have commands of their own have tables for these.
    fn check_section(&self, place: &str, name: &str, section: &Table, command: &Command) -> Result<(), Usage> {
        let place = format!("{place}, command `{name}`: ");
        let Some(of_command) = command.find_subcommand(name) else {
            let advice = advice(name, command.get_subcommands().map(Command::get_name));
            return Err(
                self.wrong(place.split_once(", ").map_or("", |(profile, _)| profile), format!(": there is no command `{name}`{advice}"))
            );
        };
        for (key, value) in section {
            match value {
                Value::Table(inner) if of_command.has_subcommands() => {
                    self.check_section(place.trim_end_matches(": "), key, inner, of_command)?;
                }
                _ => self.check_key(&place, key, value, &options_of(of_command))?,
            }
        }
        Ok(())
    }

    fn check_key(&self, place: &str, key: &str, value: &Value, options: &[&Arg]) -> Result<(), Usage> {
        let Some(option) = options.iter().find(|option| key_of(option) == Some(key)) else {
            return Err(
                self.wrong(place, format!("there is no key `{key}`{}", advice(key, options.iter().filter_map(|option| key_of(option)))))
            );
        };
        let is_simple = |value: &Value| matches!(value, Value::String(_) | Value::Integer(_) | Value::Float(_));
        let fits = match value {
            Value::Boolean(_) => !takes_value(option),
            Value::Array(values) => takes_value(option) && values.iter().all(is_simple),
            value => takes_value(option) && is_simple(value),
        };
        match (fits, takes_value(option)) {
            (true, _) => Ok(()),
            (false, true) => Err(self.wrong(place, format!("`{key}` must be a text or a number, or a list of them"))),
            (false, false) => Err(self.wrong(place, format!("`{key}` must be true or false"))),
        }
    }

    /// The profile that was named, otherwise the default one; where there is none, an empty one.
    pub(super) fn choose(self, named: Option<&str>) -> Result<Chosen, Usage> {
        let by_file = self.table.get(DEFAULT_PROFILE).and_then(Value::as_str);
        let is_there = |name: &&str| self.profiles().is_some_and(|profiles| profiles.contains_key(*name));
        let Some(name) = named.or(by_file).or(Some(NAME_OF_DEFAULT).filter(is_there)) else { return Ok(Chosen::default()) };
        match self.profiles().and_then(|profiles| profiles.get(name)) {
            Some(Value::Table(table)) => Ok(Chosen { path: self.path.clone(), name: Some(name.to_owned()), table: table.clone() }),
            _ => {
                let names = self.profile_names();
                let advice = match advice(name, names.iter().map(String::as_str)) {
                    advice if advice.is_empty() && !names.is_empty() => format!("; there are {}", names.join(", ")),
                    advice => advice,
                };
                Err(self.wrong("", format!("there is no profile `{name}`{advice}")))
            }
        }
    }
}

/// The name by which a profile may set an argument.
pub(super) fn key_of(argument: &Arg) -> Option<&str> {
    match argument.get_long() {
        Some(long) => Some(long).filter(|long| !NOT_IN_PROFILES.contains(long)),
        // What is backed up is the one thing without a name that belongs into a profile.
        None => Some(argument.get_id().as_str()).filter(|id| *id == "paths"),
    }
}

pub(super) fn global_options(command: &Command) -> Vec<&Arg> {
    command.get_arguments().filter(|argument| argument.is_global_set()).collect()
}

/// The options that only this command has.
pub(super) fn options_of(command: &Command) -> Vec<&Arg> {
    command.get_arguments().filter(|argument| !argument.is_global_set()).collect()
}

/// Whether it is more than a switch.
pub(super) fn takes_value(option: &Arg) -> bool {
    option.get_action().takes_values()
}

//! The environment and the user's folders. Read here and in the definitions of the arguments, nowhere else.

use std::ffi::OsString;
use std::path::PathBuf;

/// An environment variable; empty counts as unset.
pub(crate) fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// All variables whose names begin so and that are plain text; empty ones count as unset.
pub(crate) fn variables(prefix: &str) -> Vec<(String, String)> {
    let plain = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    plain.filter(|(name, value)| name.starts_with(prefix) && !value.is_empty()).collect()
}

/// The user's folder for data that is to be kept.
pub(crate) fn data_folder() -> Option<PathBuf> {
    base_folder("XDG_DATA_HOME", ".local/share")
}

/// The user's folder for what can be made again.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    base_folder("XDG_CACHE_HOME", ".cache")
}

/// The user's folder for configuration.
pub(crate) fn config_folder() -> Option<PathBuf> {
    base_folder("XDG_CONFIG_HOME", ".config")
}

/// The user's home folder.
pub(crate) fn home_folder() -> Option<PathBuf> {
    variable("HOME").map(PathBuf::from).filter(|path| path.is_absolute())
}

/// As the XDG base directory specification says: a relative path counts as unset.
fn base_folder(name: &str, below_home: &str) -> Option<PathBuf> {
    let named = variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    named.or_else(|| Some(home_folder()?.join(below_home)))
}

/// The machine's name.
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

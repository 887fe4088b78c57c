//! Where the repository is: as named, or the default one in the user's data folder.

use crate::environment;
use crate::exit::usage;
use icecore::backend::{Address, LocalBackend};
use icecore::{Error, ErrorKind};
use std::ffi::OsStr;
use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where the repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// One that was named.
    Named(Address),
    /// The default repository.
    Default(DefaultPlace),
}

/// The repository that is used where none is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DefaultPlace {
    /// The folder of the repository.
    pub(crate) repository: PathBuf,
    /// The key file that opens it.
    pub(crate) key_file: PathBuf,
}

impl Place {
    /// The place that was named by option or environment, otherwise the default one.
    pub(crate) fn of(named: Option<&OsStr>) -> anyhow::Result<Self> {
        match named.filter(|name| !name.is_empty()) {
            Some(name) => Ok(Self::Named(Address::parse(name)?)),
            None => DefaultPlace::of_user().map(Self::Default),
        }
    }

    /// The address.
    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Named(address) => address.clone(),
            Self::Default(default) => Address::Folder(default.repository.clone()),
        }
    }

    /// The folder, where it is one of this machine.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Named(address) => address.folder(),
            Self::Default(default) => Some(&default.repository),
        }
    }

    /// Says of a default repository that is missing what to do.
    pub(crate) fn explain(&self, error: Error) -> anyhow::Error {
        match self {
            Self::Default(_) if error.kind() == ErrorKind::NoRepository => {
                let message = "no repository was named and there is no default one yet; name one with -r REPO or ICECORE_REPOSITORY, \
                               or make the default one with `icecore backup PATH`";
                Error::new(ErrorKind::NoRepository, message).into()
            }
            _ => error.into(),
        }
    }
}

impl DefaultPlace {
    fn of_user() -> anyhow::Result<Self> {
        let folder = environment::data_folder()
            .ok_or_else(|| usage("no repository was named, and without HOME there is no default one; name one with -r REPO"))?
            .join("icecore");
        Ok(Self { repository: folder.join("repository"), key_file: folder.join("key") })
    }

    /// Whether nothing is there yet.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(LocalBackend::open(&self.repository), Err(error) if error.kind() == ErrorKind::NoRepository)
    }

    /// Makes the folder that holds both, for its owner only.
    pub(crate) fn make_folder(&self) -> anyhow::Result<()> {
        private_folder(self.key_file.parent().unwrap_or(Path::new("/"))).map_err(Into::into)
    }
}

/// Makes a folder for its owner only, with its missing parents. One that is there stays as it is.
pub(crate) fn private_folder(folder: &Path) -> icecore::Result<()> {
    let make = || {
        if folder.is_dir() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        std::fs::set_permissions(folder, Permissions::from_mode(0o700))
    };
    make().map_err(|error| Error::io(folder.display(), error).with_kind(ErrorKind::Unavailable))
}

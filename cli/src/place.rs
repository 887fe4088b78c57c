//! Where the repository is: as named, or the default one in the user's data folder.

use crate::environment;
use crate::exit::usage;
use icecore::backend::LocalBackend;
use icecore::{Error, ErrorKind};
use std::ffi::OsStr;
use std::fs::{DirBuilder, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How addresses of stores begin that other backup tools or later releases know.
const SCHEMES: [&str; 11] = ["s3:", "sftp:", "ssh:", "http:", "https:", "rest:", "b2:", "gs:", "azure:", "rclone:", "file:"];

/// Where the repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A folder that was named.
    Folder(PathBuf),
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
            Some(name) => Self::parse(name),
            None => DefaultPlace::of_user().map(Self::Default),
        }
    }

    fn parse(name: &OsStr) -> anyhow::Result<Self> {
        if let Some(scheme) = scheme_of(name) {
            let name = name.display();
            let message =
                format!("{name}: a repository must be a folder; `{scheme}` is not supported yet (a folder of that name: `./{name}`)");
            return Err(Error::new(ErrorKind::Unsupported, message).into());
        }
        Ok(Self::Folder(PathBuf::from(name)))
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder,
            Self::Default(default) => &default.repository,
        }
    }

    /// Opens the backend of a repository that must be there.
    pub(crate) fn open(&self) -> anyhow::Result<LocalBackend> {
        LocalBackend::open(self.folder()).map_err(|error| match self {
            Self::Default(_) if error.kind() == ErrorKind::NoRepository => {
                let message = "no repository was named and there is no default one yet; name one with -r REPO or ICECORE_REPOSITORY, \
                               or make the default one with `icecore backup PATH`";
                Error::new(ErrorKind::NoRepository, message).into()
            }
            _ => error.into(),
        })
    }
}

/// Whether it is the address of a store that is no folder.
pub(crate) fn has_scheme(name: &OsStr) -> bool {
    scheme_of(name).is_some()
}

fn scheme_of(name: &OsStr) -> Option<&'static str> {
    SCHEMES.into_iter().find(|scheme| name.as_bytes().starts_with(scheme.as_bytes()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_not_taken_for_folders() {
        for name in ["s3://bucket/path", "sftp:host:/path", "rest:https://host/"] {
            let error = Place::parse(OsStr::new(name)).unwrap_err();
            assert_eq!(error.downcast::<Error>().unwrap().kind(), ErrorKind::Unsupported, "{name}");
        }
        for name in ["/mnt/backup", "relative", "./s3:bucket", "s3"] {
            assert_eq!(Place::parse(OsStr::new(name)).unwrap(), Place::Folder(name.into()));
        }
    }
}

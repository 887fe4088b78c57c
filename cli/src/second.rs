//! The second repository of a command that works with two: a replica, or one with keys of its own.

use crate::context::Context;
use crate::exit::usage;
use crate::place::Place;
use crate::secrets::Secret;
use crate::store::SecondStoreOptions;
use icecore::backend::{self, Address, Backend, MemoryBackend};
use icecore::repository::{Key, Replica, Repository, Settings};
use icecore::{Error, ErrorKind};
use std::ffi::OsStr;
use std::path::PathBuf;
use std::sync::Arc;

/// What opens it, where it is no replica.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct SecondSecret {
    /// File that holds the passphrase of the second repository, where it has keys of its own
    #[arg(long, value_name = "FILE")]
    to_password_file: Option<PathBuf>,
    /// Key file of the second repository, where it has keys of its own
    #[arg(long, value_name = "FILE", conflicts_with = "to_password_file")]
    to_key_file: Option<PathBuf>,
}

impl SecondSecret {
    /// The key; `None` where none is named.
    fn key(&self) -> anyhow::Result<Option<(Key, Secret)>> {
        let file = self.to_password_file.clone().map(Secret::PasswordFile);
        let secret = file.or_else(|| self.to_key_file.clone().map(Secret::KeyFile));
        secret.map(|secret| Ok((secret.key(false)?, secret))).transpose()
    }
}

/// The place of a second repository: the one way from what a person types to a backend.
pub(crate) struct Second {
    pub(crate) backend: Arc<dyn Backend>,
    /// Where it is, for people.
    pub(crate) name: String,
    is_far: bool,
    /// It stands for an empty place, of which nothing is made.
    is_imagined: bool,
}

impl Second {
    /// A repository that is there.
    pub(crate) fn find(name: &OsStr, store: &SecondStoreOptions, context: &Context) -> anyhow::Result<Self> {
        let place = place(name)?;
        let address = place.address();
        let opened = backend::open(&address, &context.second_store_settings(&address, store)?);
        Ok(Self::at(&address, opened.map_err(|error| place.explain(error))?, context))
    }

    /// A replica that was made before. A disk that is not mounted is an empty folder, which must not become one.
    pub(crate) fn find_replica(name: &OsStr, store: &SecondStoreOptions, first: &Repository, context: &Context) -> anyhow::Result<Self> {
        let absent = || {
            let shown = name.display();
            let message =
                format!("{shown}: there is no replica; see whether its disk is mounted, or make it with `icecore replicate --to {shown}`");
            Error::new(ErrorKind::NoRepository, message).into()
        };
        let second = match Self::find(name, store, context) {
            Err(error) if kind_of(&error) == Some(ErrorKind::NoRepository) => return Err(absent()),
            found => found?,
        };
        match second.replica_of(first)? {
            Replica::Nothing => Err(absent()),
            Replica::Current | Replica::Behind => Ok(second),
            Replica::Other => {
                let message = format!(
                    "{}: it has keys of its own, so that content would have to be cut and sealed anew; use `icecore replicate --to` for it after the backup",
                    second.name
                );
                Err(Error::new(ErrorKind::Invalid, message).into())
            }
        }
    }

    /// A repository that is there, or an empty or missing place for one.
    pub(crate) fn find_or_make(name: &OsStr, store: &SecondStoreOptions, context: &Context) -> anyhow::Result<Self> {
        let address = place(name)?.address();
        let settings = context.second_store_settings(&address, store)?;
        let backend = match backend::open(&address, &settings) {
            Err(error) if error.kind() == ErrorKind::NoRepository => backend::create(&address, &settings)?,
            opened => opened?,
        };
        Ok(Self::at(&address, backend, context))
    }

    /// A repository that is there, or what stands for one in a place where [`Second::find_or_make`] would make it.
    pub(crate) fn find_or_imagine(name: &OsStr, store: &SecondStoreOptions, context: &Context) -> anyhow::Result<Self> {
        let address = place(name)?.address();
        let settings = context.second_store_settings(&address, store)?;
        match backend::open(&address, &settings) {
            Err(error) if error.kind() == ErrorKind::NoRepository => {
                backend::require_free(&address, &settings)?;
                Ok(Self::imagined(address.to_string()))
            }
            opened => Ok(Self::at(&address, opened?, context)),
        }
    }

    fn at(address: &Address, backend: Arc<dyn Backend>, context: &Context) -> Self {
        Self { name: backend.describe(), backend: context.limited(backend), is_far: address.folder().is_none(), is_imagined: false }
    }

    /// What stands for an empty place of this name, so that nothing is written there.
    pub(crate) fn imagined(name: String) -> Self {
        Self { name, backend: Arc::new(MemoryBackend::new()), is_far: false, is_imagined: true }
    }

    fn open(&self, key: &Key, context: &Context) -> icecore::Result<Repository> {
        if self.is_imagined {
            // Without caches and all else that is remembered of a place.
            return Repository::open(Arc::clone(&self.backend), context.runtime(), key, Settings::default());
        }
        context.open_with(Arc::clone(&self.backend), key, context.runtime_to_wait(self.is_far))
    }

    /// Opens a replica of `first` with the key that opened that.
    pub(crate) fn open_replica(&self, first: &Repository, key: &Key, context: &Context) -> anyhow::Result<Repository> {
        if self.name == first.describe() {
            return Err(usage(format!("{}: this is the repository itself; name another one", self.name)));
        }
        let repository = self.open(key, context).map_err(|error| error.context(&self.name))?;
        if repository.id() != first.id() {
            let message = format!("{} is no replica of {}: it has keys of its own", repository.describe(), first.describe());
            return Err(Error::new(ErrorKind::Invalid, message).into());
        }
        Ok(repository)
    }

    /// Opens a repository with keys of its own.
    pub(crate) fn open_other(&self, secret: &SecondSecret, context: &Context) -> anyhow::Result<Repository> {
        let Some((key, secret)) = secret.key()? else {
            let message = format!(
                "{} has keys of its own; say with --to-password-file or --to-key-file what opens it (an empty place becomes a replica with the same keys)",
                self.name
            );
            return Err(Error::new(ErrorKind::Unauthorized, message).into());
        };
        Ok(self.open(&key, context).map_err(|error| error.context(secret.describe()))?)
    }

    /// What it is to `first`.
    pub(crate) fn replica_of(&self, first: &Repository) -> icecore::Result<Replica> {
        first.replica_in(&*self.backend)
    }
}

/// The kind of an error of the engine.
pub(crate) fn kind_of(error: &anyhow::Error) -> Option<ErrorKind> {
    error.downcast_ref::<Error>().map(Error::kind)
}

fn place(name: &OsStr) -> anyhow::Result<Place> {
    if name.is_empty() {
        return Err(usage("the second repository has no name"));
    }
    Place::of(Some(name))
}

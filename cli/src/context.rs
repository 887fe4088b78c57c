//! What every command needs: the options that all of them have, and the way from them to an open repository.

use crate::environment;
use crate::exit::usage;
use crate::output::Output;
use crate::place::{DefaultPlace, Place, private_folder};
use crate::profile::Profile;
use crate::progress::Display;
use crate::secrets::{Secret, SecretOptions, write_key_file};
use crate::size;
use crate::store::{SecondStoreOptions, StoreOptions};
use crate::tiers::{TierDoor, TierOptions, limited};
use clap::{ArgAction, Args};
use icecore::backend::{self, Address, Backend, Limits, StoreSettings};
use icecore::repository::{CreateOptions, Key, Repository, Settings};
use icecore::runtime::Runtime;
use icecore::{Error, ErrorKind};
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;

/// Options of all commands, before or after the command.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct GlobalOptions {
    /// The repository: a folder, or s3://, az://, gs:// or sftp:// (see `icecore init --help`); without it the default one in your data folder
    #[arg(short, long, alias = "repo", global = true, value_name = "REPO", env = "ICECORE_REPOSITORY", hide_env_values = true)]
    repository: Option<OsString>,
    #[command(flatten)]
    secrets: SecretOptions,
    #[command(flatten)]
    store: StoreOptions,
    /// Profile of the configuration file that fills in what is not given; without it `default-profile`, or the one called `default`
    #[arg(short = 'P', long, global = true, value_name = "NAME", env = "ICECORE_PROFILE", hide_env_values = true)]
    profile: Option<String>,
    /// Configuration file; without it ~/.config/icecore/icecore.toml, otherwise /etc/icecore/icecore.toml (`icecore profile --help` says more)
    #[arg(long, global = true, value_name = "FILE", env = "ICECORE_CONFIG", hide_env_values = true, help_heading = "Machine")]
    config: Option<PathBuf>,
    /// Reads no configuration file
    #[arg(long, global = true, conflicts_with_all = ["config", "profile"], help_heading = "Machine")]
    no_config: bool,
    /// Folder for caches, which make the next backup faster and can be deleted at any time
    #[arg(long, global = true, value_name = "FOLDER", env = "ICECORE_CACHE_DIR", hide_env_values = true, help_heading = "Machine")]
    cache_dir: Option<PathBuf>,
    /// Keeps no caches
    #[arg(long, global = true, conflicts_with = "cache_dir", help_heading = "Machine")]
    no_cache: bool,
    #[command(flatten)]
    tiers: TierOptions,
    /// Worker threads; 0 takes one for each core
    #[arg(long, global = true, value_name = "N", default_value_t = 0, help_heading = "Machine")]
    threads: usize,
    /// Leaves the processor to others: 0 (as ever) to 19 (only when nobody else wants it)
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(i32).range(0..=19), help_heading = "Machine")]
    nice: Option<i32>,
    /// Writes at most so many bytes a second to the repository, as 500K or 2M
    #[arg(long, global = true, value_name = "RATE", value_parser = size::parse_rate, help_heading = "Machine")]
    limit_upload: Option<NonZeroU64>,
    /// Reads at most so many bytes a second from the repository
    #[arg(long, global = true, value_name = "RATE", value_parser = size::parse_rate, help_heading = "Machine")]
    limit_download: Option<NonZeroU64>,
    /// Writes JSON lines to standard output
    #[arg(long, global = true, help_heading = "Output")]
    json: bool,
    /// Says only what went wrong, and what was asked for
    #[arg(short, long, global = true, help_heading = "Output")]
    quiet: bool,
    /// Says more
    #[arg(short, long, global = true, action = ArgAction::SetTrue, conflicts_with = "quiet", help_heading = "Output")]
    verbose: bool,
}

/// The options of all commands, and the outputs.
#[derive(Debug)]
pub(crate) struct Context {
    /// Where results and messages go.
    pub(crate) output: Arc<Output>,
    options: GlobalOptions,
    profile: Profile,
}

impl Context {
    pub(crate) fn new(options: GlobalOptions, profile: Profile) -> Self {
        let context = Self { output: Arc::new(Output::new(options.json, options.quiet, options.verbose)), options, profile };
        if let (Some(name), Some(file)) = (&context.profile.name, &context.profile.file) {
            context.output.detail(format_args!("profile {name} of {}", file.display()));
        }
        // Before there are other threads: each takes over what its maker has. Nobody may become less nice than he is.
        let lower = |nice| match rustix::process::getpriority_process(None)? < nice {
            true => rustix::process::setpriority_process(None, nice),
            false => Ok(()),
        };
        if let Some(Err(error)) = context.options.nice.map(lower) {
            context.output.warn(format_args!("--nice: {}", std::io::Error::from(error)));
        }
        context
    }

    /// Which profile counts.
    pub(crate) fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Starts showing progress; from now on Ctrl-C asks to stop.
    pub(crate) fn progress(&self) -> anyhow::Result<Display<'_>> {
        Ok(Display::start(&self.output)?)
    }

    /// The system's clock, random source and threads.
    pub(crate) fn runtime(&self) -> Runtime {
        Runtime::system(self.options.threads)
    }

    /// Where the repository is.
    pub(crate) fn place(&self) -> anyhow::Result<Place> {
        Place::of(self.options.repository.as_deref())
    }

    /// The place, for a command that makes a repository: one that was named.
    pub(crate) fn place_of_new(&self) -> anyhow::Result<Address> {
        match self.place()? {
            Place::Named(address) => Ok(address),
            Place::Default(_) => Err(usage(
                "say where the repository is to be: -r REPO or ICECORE_REPOSITORY (or just run `icecore backup PATH`, which makes a default one)",
            )),
        }
    }

    /// What the user gives to open a repository at `place`.
    pub(crate) fn secret(&self, place: Option<&Place>) -> anyhow::Result<Secret> {
        if let Some(named) = self.options.secrets.named()? {
            return Ok(named);
        }
        if let Some(Place::Default(default)) = place
            && default.key_file.exists()
        {
            return Ok(Secret::KeyFile(default.key_file.clone()));
        }
        Ok(Secret::of_environment().unwrap_or(Secret::Prompt))
    }

    /// What the options name to open a repository; the environment is not asked.
    pub(crate) fn named_secret(&self) -> anyhow::Result<Option<Secret>> {
        self.options.secrets.named()
    }

    /// Opens the repository.
    pub(crate) fn open(&self) -> anyhow::Result<Repository> {
        Ok(self.open_with_key()?.0)
    }

    /// Opens the repository for a command that reads most of the time.
    pub(crate) fn open_to_read(&self) -> anyhow::Result<Repository> {
        Ok(self.open_to_read_with_key()?.0)
    }

    /// The same, and gives the key that opened it.
    pub(crate) fn open_to_read_with_key(&self) -> anyhow::Result<(Repository, Key)> {
        self.open_on(self.runtime_to_wait(self.place()?.folder().is_none()))
    }

    /// For work where each worker waits for what it reads or writes: over a store that is far away there are as many of them as there may be
    /// requests, unless somebody said how many.
    pub(crate) fn runtime_to_wait(&self, is_far: bool) -> Runtime {
        if is_far && self.options.threads == 0 { Runtime::system(self.options.store.connections()) } else { self.runtime() }
    }

    /// Opens the repository, and gives the key that opened it.
    pub(crate) fn open_with_key(&self) -> anyhow::Result<(Repository, Key)> {
        self.open_on(self.runtime())
    }

    fn open_on(&self, runtime: Runtime) -> anyhow::Result<(Repository, Key)> {
        let place = self.place()?;
        let backend = self.backend(&place)?;
        let secret = self.secret(Some(&place))?;
        if let (Place::Default(default), Secret::Prompt) = (&place, &secret) {
            let message = format!(
                "the key file {} of the default repository is missing; copy it back, or name your copy with --key-file",
                default.key_file.display()
            );
            return Err(Error::new(ErrorKind::Unauthorized, message).into());
        }
        let key = secret.key(false)?;
        let repository = self.open_with(backend, &key, runtime).map_err(|error| match error.kind() {
            ErrorKind::Unauthorized => error.context(secret.describe()),
            _ => error,
        })?;
        self.output.detail(format!("repository {} opened with {}", repository.describe(), secret.describe()));
        Ok((repository, key))
    }

    /// Opens the repository in `backend`.
    pub(crate) fn open_with(&self, backend: Arc<dyn Backend>, key: &Key, runtime: Runtime) -> icecore::Result<Repository> {
        let settings = self.settings().with_place(backend.describe());
        Repository::open(backend, runtime, key, settings)
    }

    /// Opens the repository; where none is named and the default one is missing, makes that. Then says where it is.
    pub(crate) fn open_or_make_default(&self) -> anyhow::Result<(Repository, Key, Option<DefaultPlace>)> {
        match self.place()? {
            Place::Default(default) if default.is_absent() => {
                if self.named_secret()?.is_some() {
                    return Err(usage("a passphrase or key was given but no repository; name it with -r REPO or ICECORE_REPOSITORY"));
                }
                default.make_folder()?;
                if !default.key_file.exists() {
                    write_key_file(&default.key_file, &Key::generate(&self.runtime()))?;
                }
                let key = Secret::KeyFile(default.key_file.clone()).key(true)?;
                let repository = self.create(&Address::Folder(default.repository.clone()), &key, &CreateOptions::default())?;
                Ok((repository, key, Some(default)))
            }
            _ => self.open_with_key().map(|(repository, key)| (repository, key, None)),
        }
    }

    /// Makes a repository that `key` opens.
    pub(crate) fn create(&self, address: &Address, key: &Key, options: &CreateOptions) -> anyhow::Result<Repository> {
        let backend = self.limited(backend::create(address, &self.store_settings(address)?)?);
        let settings = self.settings().with_place(backend.describe());
        Ok(Repository::create(backend, self.runtime(), key, options, settings)?)
    }

    /// The store of a repository that is there, no faster than the options allow.
    pub(crate) fn backend(&self, place: &Place) -> anyhow::Result<Arc<dyn Backend>> {
        let address = place.address();
        let opened = backend::open(&address, &self.store_settings(&address)?);
        Ok(self.limited(opened.map_err(|error| place.explain(error))?))
    }

    /// What the store at `address` is reached with.
    pub(crate) fn store_settings(&self, address: &Address) -> anyhow::Result<StoreSettings> {
        self.options.store.settings(address, self.runtime(), &self.output)
    }

    /// What the store of a second repository at `address` is reached with.
    pub(crate) fn second_store_settings(&self, address: &Address, second: &SecondStoreOptions) -> anyhow::Result<StoreSettings> {
        self.options.store.of_second(second).settings(address, self.runtime(), &self.output)
    }

    /// The store, no faster than the options allow.
    pub(crate) fn limited(&self, backend: Arc<dyn Backend>) -> Arc<dyn Backend> {
        limited(backend, self.limits(), self.runtime())
    }

    fn limits(&self) -> Limits {
        Limits { upload: self.options.limit_upload, download: self.options.limit_download }
    }

    /// The folder for caches; `None` where none are kept.
    pub(crate) fn cache_folder(&self) -> Option<PathBuf> {
        let default = || Some(environment::cache_folder()?.join("icecore"));
        let named = self.options.cache_dir.clone().filter(|folder| !folder.as_os_str().is_empty());
        if self.options.no_cache { None } else { named.or_else(default) }
    }

    fn settings(&self) -> Settings {
        let mut settings = Settings::default().with_label(format!("{} process {}", environment::host(), std::process::id()));
        if let Some(folder) = environment::data_folder() {
            let folder = folder.join("icecore");
            settings = settings.with_known_admins(folder.join("known-admins")).with_sightings(folder.join("sightings"));
        }
        for (name, address) in self.options.tiers.places() {
            settings = settings.with_tier(name, address);
        }
        let (stores, tiers, limits) = (self.options.store.clone(), self.options.tiers.clone(), self.limits());
        // Of a default repository, which is a folder, that is not to be found nothing is asked here.
        let repository = self.place().ok().map(|place| place.address());
        let door = TierDoor { stores, tiers, repository, limits, runtime: self.runtime(), output: Arc::clone(&self.output) };
        settings = settings.with_tier_opener(Arc::new(door));
        let Some(folder) = self.cache_folder() else { return settings };
        match private_folder(&folder) {
            Ok(()) => settings.with_cache(folder),
            Err(error) => {
                // A full or read-only home must not keep anybody from restoring.
                self.output.warn(format!("working without caches, which is slower: {error}"));
                settings
            }
        }
    }
}

//! The way from a tier's address to its place: the same as that of a repository, with options of its own.

use crate::output::Output;
use crate::store::StoreOptions;
use clap::Args;
use icecore::backend::{self, Address, Backend, LimitedBackend, Limits, StoreSettings};
use icecore::repository::TierOpener;
use icecore::runtime::Runtime;
use icecore::tiers::TierBody;
use icecore::{Error, ErrorKind};
use std::ffi::OsStr;
use std::sync::Arc;

/// Options about tiers.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TierOptions {
    /// Where a tier is on this machine, where that is not where the repository says (can be repeated)
    #[arg(long, global = true, value_name = "NAME=PLACE", value_parser = parse_at, help_heading = "Machine")]
    tier_at: Vec<(String, String)>,
    /// An option of the store in which a tier is, where it is not that of the repository, as glacier:endpoint=https://s3.example.org; the keys are
    /// those of --store-option, and `endpoint` and `region` (can be repeated)
    #[arg(long, global = true, value_name = "NAME:KEY=VALUE", value_parser = parse_option, help_heading = "Store")]
    tier_option: Vec<(String, String, String)>,
}

impl TierOptions {
    /// Tiers that are elsewhere on this machine, and where.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&str, &str)> {
        self.tier_at.iter().map(|(name, address)| (name.as_str(), address.as_str()))
    }
}

fn parse_at(text: &str) -> Result<(String, String), String> {
    let (name, place) = text.split_once('=').ok_or("write it as NAME=PLACE")?;
    Ok((name.to_owned(), place.to_owned()))
}

fn parse_option(text: &str) -> Result<(String, String, String), String> {
    let split = text.split_once(':').and_then(|(name, option)| option.split_once('=').map(|(key, value)| (name, key, value)));
    let (name, key, value) = split.ok_or("write it as NAME:KEY=VALUE")?;
    Ok((name.to_owned(), key.to_owned(), value.to_owned()))
}

/// Opens tiers wherever a repository could be.
#[derive(Debug)]
pub(crate) struct TierDoor {
    pub(crate) stores: StoreOptions,
    pub(crate) tiers: TierOptions,
    /// Where the repository is: options about its store are meant for tiers of the same kind, too.
    pub(crate) repository: Option<Address>,
    pub(crate) limits: Limits,
    pub(crate) runtime: Runtime,
    pub(crate) output: Arc<Output>,
}

impl TierDoor {
    fn settings(&self, tier: &TierBody, address: &Address) -> icecore::Result<StoreSettings> {
        let is_other = match (&self.repository, address) {
            (Some(Address::Bucket(one)), Address::Bucket(other)) => one.kind != other.kind,
            (Some(Address::Sftp(_)), Address::Bucket(_)) | (Some(Address::Bucket(_)), Address::Sftp(_)) => true,
            _ => false,
        };
        let stores = if is_other { StoreOptions::default() } else { self.stores.clone() };
        let settings = stores.settings(address, self.runtime.clone(), &self.output);
        let mut settings = settings.map_err(|error| Error::new(ErrorKind::Invalid, format!("tier {}: {error:#}", tier.name)))?;
        let own = self.tiers.tier_option.iter().filter(|(name, ..)| *name == tier.name);
        settings.options.extend(own.map(|(_, key, value)| (key.clone(), value.clone())));
        settings.storage_class.clone_from(&tier.storage_class);
        Ok(settings)
    }

    fn at(
        &self,
        tier: &TierBody,
        address: &str,
        open: impl Fn(&Address, &StoreSettings) -> icecore::Result<Arc<dyn Backend>>,
    ) -> icecore::Result<Arc<dyn Backend>> {
        let address = Address::parse(OsStr::new(address))?;
        Ok(limited(open(&address, &self.settings(tier, &address)?)?, self.limits, self.runtime.clone()))
    }
}

impl TierOpener for TierDoor {
    fn open(&self, tier: &TierBody, address: &str) -> icecore::Result<Arc<dyn Backend>> {
        self.at(tier, address, backend::open_place)
    }

    fn create(&self, tier: &TierBody, address: &str) -> icecore::Result<Arc<dyn Backend>> {
        self.at(tier, address, backend::create)
    }
}

/// A store, no faster than `limits` allow.
pub(crate) fn limited(backend: Arc<dyn Backend>, limits: Limits, runtime: Runtime) -> Arc<dyn Backend> {
    if limits == Limits::default() { backend } else { Arc::new(LimitedBackend::new(backend, limits, runtime.clock)) }
}

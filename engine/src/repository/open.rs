//! Opening a repository: find the slot that the key opens, then believe only what the pinned admin key signed.

use super::{Key, Repository, Settings};
use crate::backend::{Backend, BackendExt, ObjectInfo, ObjectKind};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Trust;
use crate::format::config::Config;
use crate::format::object::{HEADER_LENGTH, Header, Opened, TRAILER_LENGTH};
use crate::format::slot::{Credential, Slot};
use crate::runtime::Runtime;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Repository {
    /// Opens the repository in `backend` with `key`.
    ///
    /// # Errors
    /// [`ErrorKind::NoRepository`] where there is none, [`ErrorKind::Unauthorized`] where the key opens no slot, [`ErrorKind::Damaged`]
    /// where config or slot break a rule, [`ErrorKind::Unsupported`] for a newer format, otherwise what the backend says.
    pub fn open(backend: Arc<dyn Backend>, runtime: Runtime, key: &Key, settings: Settings) -> Result<Self> {
        let configs = backend.list_sorted(ObjectKind::Config)?;
        let Some(newest) = configs.last() else {
            let message = format!("{}: there is no repository here; make one with `init`, or correct the place", backend.describe());
            return Err(Error::new(ErrorKind::NoRepository, message));
        };
        let config_bytes = backend.get(&newest.name, newest.name.kind().size_max())?;
        let claimed = Header::decode(&newest.name, config_bytes.len() as u64, &config_bytes).map_err(|error| error.context(newest.name))?;
        let credential = open_slot(&*backend, key, &claimed)?;

        let mut trust = Trust { repository: Some(claimed.repository), admin_key: Some(credential.admin_key), revoked: Vec::new() };
        let opened = Opened::check(&newest.name, &config_bytes, &trust)?;
        let generation = newest.name.number();
        let config = Config::decode(generation, opened.body, Some(&credential.admin_key)).map_err(|error| error.context(newest.name))?;
        if generation > 1 {
            check_predecessor(&*backend, &configs, generation, &config, &trust)?;
        }
        trust.revoked.clone_from(&config.revoked);
        Ok(Self::assemble(backend, runtime, credential, config, claimed.repository, generation, settings))
    }
}

/// The generation before must be there, be admin's, and end in the hash that this one names (CFG-2).
fn check_predecessor(backend: &dyn Backend, configs: &[ObjectInfo], generation: u32, config: &Config, trust: &Trust) -> Result<()> {
    let before = configs.iter().find(|object| object.name.number() + 1 == generation);
    let before = before.ok_or_else(|| Error::rule("CFG-2", format!("config generation {} is missing", generation - 1)))?;
    let bytes = backend.get(&before.name, before.name.kind().size_max())?;
    match Opened::check(&before.name, &bytes, trust)?.hash == config.predecessor {
        true => Ok(()),
        false => Err(Error::rule("CFG-2", format!("config generation {generation} names another predecessor than the one that is here"))),
    }
}

/// Tries the key on every active slot of its kind, of each slot the newest generation.
fn open_slot(backend: &dyn Backend, key: &Key, config_header: &Header) -> Result<Credential> {
    let mut newest = BTreeMap::new();
    for object in backend.list_sorted(ObjectKind::Slot)? {
        newest.insert(object.name.id(), object.name);
    }
    let mut first_problem = None;
    for name in newest.into_values() {
        let try_slot = || -> Result<Option<Credential>> {
            let bytes = backend.get(&name, name.kind().size_max())?;
            let header = Header::decode(&name, bytes.len() as u64, &bytes)?;
            let body = bytes.get(HEADER_LENGTH..bytes.len() - TRAILER_LENGTH).unwrap_or_default();
            let slot = Slot::decode(body)?;
            let Some(seed) = key.seed_for(&slot.kind)? else { return Ok(None) };
            let credential = slot.open(&header, &seed)?;
            let trust = Trust { repository: Some(config_header.repository), admin_key: Some(credential.admin_key), revoked: Vec::new() };
            Opened::check(&name, &bytes, &trust)?;
            slot.check_pin(&header, &seed, &credential)?;
            Ok(Some(credential))
        };
        match try_slot() {
            Ok(Some(credential)) => return Ok(credential),
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Unauthorized => {}
            Err(error) => first_problem = first_problem.or(Some(error.context(name))),
        }
    }
    Err(first_problem.unwrap_or_else(|| {
        let what = match key {
            Key::Passphrase(_) => "the passphrase is wrong",
            Key::KeyFile(_) => "the key file does not belong to this repository",
        };
        Error::new(ErrorKind::Unauthorized, format!("{}: {what}: it opens no key slot", backend.describe()))
    }))
}

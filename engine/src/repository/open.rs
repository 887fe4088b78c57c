//! Opening a repository: find the slot that the key opens, then believe only what the pinned admin key signed.

use super::{Key, Repository, Settings, known_admins};
use crate::backend::{Backend, BackendExt, ObjectInfo, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Trust;
use crate::format::config::Config;
use crate::format::object::{Header, Opened, check_keyless};
use crate::format::slot::{Credential, Slot, SlotKind};
use crate::id::RepositoryId;
use crate::runtime::Runtime;
use std::collections::BTreeMap;
use std::path::Path;
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
        let (credential, slot) = open_slot(&*backend, key, &claimed, settings.known_admins.as_deref())?;

        let mut trust = Trust { repository: Some(claimed.repository), admin_key: Some(credential.admin_key), revoked: Vec::new() };
        let opened = Opened::check(&newest.name, &config_bytes, &trust)?;
        let generation = newest.name.number();
        let config = Config::decode(generation, opened.body, Some(&credential.admin_key)).map_err(|error| error.context(newest.name))?;
        if generation > 1 {
            check_predecessor(&*backend, &configs, generation, &config, &trust)?;
        }
        trust.revoked.clone_from(&config.revoked);
        Ok(Self::assemble(backend, runtime, credential, config, claimed.repository, generation, settings).opened_by(slot))
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

/// Tries the key on every slot of its kind, of each slot on the newest generation that is in order.
///
/// The config is listed before the slots: whatever keys it calls for were sealed into all slots before (see [`super::slots`]).
fn open_slot(backend: &dyn Backend, key: &Key, config_header: &Header, known_admins: Option<&Path>) -> Result<(Credential, ObjectName)> {
    let mut slots: BTreeMap<_, Vec<ObjectName>> = BTreeMap::new();
    for object in backend.list_sorted(ObjectKind::Slot)? {
        slots.entry(object.name.id()).or_default().push(object.name);
    }
    let mut first_problem = None;
    for generations in slots.into_values() {
        for name in generations.into_iter().rev() {
            match try_slot(backend, key, &config_header.repository, &name, known_admins) {
                Ok(Some(credential)) => return Ok((credential, name)),
                Ok(None) => break,
                Err(error) => {
                    // What breaks a rule only uses up its number; the generation before it counts.
                    let goes_on = error.kind() == ErrorKind::Damaged;
                    first_problem = first_problem.or(Some(error.context(name)));
                    if !goes_on {
                        break;
                    }
                }
            }
        }
    }
    Err(first_problem.unwrap_or_else(|| {
        let what = match key {
            Key::Passphrase(_) => "the passphrase is wrong",
            Key::KeyFile(_) => "the key file does not belong to this repository",
            Key::Command(_) => "the key that the command printed does not belong to this repository",
        };
        Error::new(ErrorKind::Unauthorized, format!("{}: {what}: it opens no key slot", backend.describe()))
    }))
}

/// The credential in this slot generation; `None` where it is not for this key.
fn try_slot(
    backend: &dyn Backend,
    key: &Key,
    repository: &RepositoryId,
    name: &ObjectName,
    known_admins: Option<&Path>,
) -> Result<Option<Credential>> {
    let bytes = backend.get(name, name.kind().size_max())?;
    let (header, body) = check_keyless(name, &bytes, repository)?;
    let slot = Slot::decode(body)?;
    let Some(seed) = key.seed_for(&slot.kind)?.filter(|seed| slot.is_for(seed)) else { return Ok(None) };
    let credential = slot.open(&header, &seed)?;
    let trust = Trust { repository: Some(*repository), admin_key: Some(credential.admin_key), revoked: Vec::new() };
    Opened::check(name, &bytes, &trust)?;
    slot.check_pin(&header, &seed, &credential)?;
    if slot.kind == SlotKind::Recipient {
        known_admins::check(known_admins, &seed, &credential.admin_key)?;
    }
    Ok(Some(credential))
}

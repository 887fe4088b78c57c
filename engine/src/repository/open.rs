//! Opening a repository: find the slot that the key opens, then believe only what the pinned admin key signed.

use super::{Key, Repository, Settings, known_admins, sightings};
use crate::backend::{Backend, BackendExt, ObjectKind, ObjectName};
use crate::crypto::{PUBLIC_KEY_LENGTH, Secret};
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
            return Err(without_config(&*backend)?);
        };
        let config_bytes = backend.get(&newest.name, newest.name.kind().size_max())?;
        let unusable = |error: Error| match error.kind() {
            ErrorKind::Damaged => error.context(
                "the config is damaged, without which nothing can be opened; bring it back from a copy of the \
                           repository, or with parity by `icecore scrub --keyless`",
            ),
            _ => error,
        };
        let claimed = Header::decode(&newest.name, config_bytes.len() as u64, &config_bytes);
        let claimed = claimed.map_err(|error| unusable(error.context(newest.name)))?;
        let (credential, slot) = open_slot(&*backend, key, &claimed.repository, settings.known_admins.as_deref())?;

        let mut trust = Trust { repository: Some(claimed.repository), admin_key: Some(credential.admin_key), revoked: Vec::new() };
        let opened = Opened::check(&newest.name, &config_bytes, &trust).map_err(unusable)?;
        let generation = newest.name.number();
        let config = Config::decode(generation, opened.body, Some(&credential.admin_key));
        let config = config.map_err(|error| unusable(error.context(newest.name)))?;
        if generation > 1 {
            check_predecessor(&*backend, generation, &config, &trust)?;
        }
        if let Some(folder) = &settings.sightings {
            let path = folder.join(settings.local_name(claimed.repository));
            let seen = sightings::check_config(&path, &*backend, generation, &opened.hash);
            if let Err(error) = seen {
                // Another process here may have seen what was written since this one listed: look again before saying so (I13).
                let now = backend.list_sorted(ObjectKind::Config)?;
                return match now.last().is_some_and(|newest| newest.name.number() > generation) {
                    true => Self::open(backend, runtime, key, settings),
                    false => Err(error),
                };
            }
        }
        trust.revoked.clone_from(&config.revoked);
        Ok(Self::assemble(backend, runtime, credential, config, claimed.repository, generation, settings).opened_by(slot))
    }
}

/// No session begins before there is a config, and configs are never deleted. A key slot alone may be what an interrupted `init` left.
fn without_config(backend: &dyn Backend) -> Result<Error> {
    let place = backend.describe();
    for kind in [ObjectKind::Session, ObjectKind::Snapshot] {
        if let Some(object) = backend.list_sorted(kind)?.first() {
            let message = format!(
                "{place}: the config objects are gone, while others are there (as {}); bring the folder `config` back from a copy of the \
                 repository. Make no new repository here: its keys would open nothing of this one",
                object.name
            );
            return Ok(Error::new(ErrorKind::Damaged, message));
        }
    }
    let message = format!("{place}: there is no repository here; make one with `init`, or correct the place");
    Ok(Error::new(ErrorKind::NoRepository, message))
}

/// The generation before must be there, be admin's, and end in the hash that this one names (CFG-2). Asked for by name: a list that was made while two
/// generations were written may have the later one alone.
fn check_predecessor(backend: &dyn Backend, generation: u32, config: &Config, trust: &Trust) -> Result<()> {
    let before = ObjectName::config(generation - 1);
    let bytes = backend.get(&before, before.kind().size_max()).map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::rule("CFG-2", format!("config generation {} is missing", generation - 1)),
        _ => error,
    })?;
    match config.follows(&Opened::check(&before, &bytes, trust)?.hash) {
        true => Ok(()),
        false => Err(Error::rule("CFG-2", format!("config generation {generation} names another predecessor than the one that is here"))),
    }
}

/// Tries the key on all slots: on the newest generation of each, then on the ones before.
///
/// Whoever can write to the store can put a newer generation in front of a slot. Only one that admin signed counts, and who admin is comes
/// out of an older one. The config is listed before the slots: whatever keys it calls for were sealed into all slots before
/// (see [`super::slots`]).
fn open_slot(backend: &dyn Backend, key: &Key, repository: &RepositoryId, known_admins: Option<&Path>) -> Result<(Credential, ObjectName)> {
    let mut slots: BTreeMap<_, Vec<ObjectName>> = BTreeMap::new();
    for object in backend.list_sorted(ObjectKind::Slot)? {
        slots.entry(object.name.id()).or_default().insert(0, object.name);
    }
    if slots.is_empty() {
        let message = format!(
            "{}: there is no key slot any more, without which nothing can be opened; bring the folder `keys` back from a copy of the \
             repository",
            backend.describe()
        );
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    let mut attempt = Attempt { backend, key, repository, refused: Vec::new() };
    let mut first_problem = None;
    for depth in 0..slots.values().map(Vec::len).max().unwrap_or(0) {
        for generations in slots.values().filter(|generations| generations.len() > depth) {
            let (newer, name) = (&generations[..depth], generations[depth]);
            let opened = attempt.open(&name).and_then(|opened| match opened {
                Some((seed, slot, credential)) if !attempt.is_ended(newer, &credential)? => {
                    if slot.kind == SlotKind::Recipient {
                        known_admins::check(known_admins, &seed, &credential.admin_key)?;
                    }
                    Ok(Some(credential))
                }
                _ => Ok(None),
            });
            match opened {
                Ok(Some(credential)) => return Ok((credential, name)),
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
                Err(error) => first_problem = first_problem.or(Some(error.context(name))),
            }
        }
    }
    if let Some(problem) = first_problem {
        return Err(match problem.kind() {
            ErrorKind::Damaged => problem.context(
                "the key opens no key slot that is whole, and one is damaged, which may be its own; bring that back from a copy of the \
                 repository, or use another passphrase or key",
            ),
            _ => problem,
        });
    }
    let what = match key {
        Key::Passphrase(_) => "the passphrase is wrong",
        Key::KeyFile(_) => "the key file does not belong to this repository",
        Key::Command(_) => "the key that the command printed does not belong to this repository",
    };
    let message = format!("{}: {what}: it opens no key slot; use another one, or correct which repository is meant", backend.describe());
    Err(Error::new(ErrorKind::Unauthorized, message))
}

/// A key that is tried on slots.
struct Attempt<'a> {
    backend: &'a dyn Backend,
    key: &'a Key,
    repository: &'a RepositoryId,
    /// Passphrase slots for which it was the wrong one: finding that out is slow on purpose, and all generations of a slot are alike.
    refused: Vec<(SlotKind, Box<[u8; PUBLIC_KEY_LENGTH]>)>,
}

impl Attempt<'_> {
    /// The credential in this slot generation; `None` where it is not for this key.
    fn open(&mut self, name: &ObjectName) -> Result<Option<(Secret, Slot, Credential)>> {
        let bytes = self.backend.get(name, name.kind().size_max())?;
        let (header, body) = check_keyless(name, &bytes, self.repository)?;
        let slot = Slot::decode(body)?;
        let is_same = |(kind, public_key): &(SlotKind, _)| *kind == slot.kind && *public_key == slot.public_key;
        if self.refused.iter().any(is_same) {
            return Ok(None);
        }
        let Some(seed) = self.key.seed_for(&slot.kind)? else { return Ok(None) };
        if !slot.is_for(&seed) {
            self.refused.push((slot.kind, slot.public_key));
            return Ok(None);
        }
        let credential = slot.open(&header, &seed)?;
        Opened::check(name, &bytes, &self.trust(&credential))?;
        slot.check_pin(&header, &seed, &credential)?;
        Ok(Some((seed, slot, credential)))
    }

    /// Whether admin signed one of these newer generations: then what is in the older one is over.
    fn is_ended(&self, newer: &[ObjectName], credential: &Credential) -> Result<bool> {
        for name in newer {
            match self.backend.get(name, name.kind().size_max()) {
                Ok(bytes) if Opened::check(name, &bytes, &self.trust(credential)).is_ok() => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
                _ => {}
            }
        }
        Ok(false)
    }

    fn trust(&self, credential: &Credential) -> Trust {
        Trust { repository: Some(*self.repository), admin_key: Some(credential.admin_key), revoked: Vec::new() }
    }
}

//! Opening a repository: find the slot that the key opens, then believe only what the pinned admin key signed.

use super::generations::Signed;
use super::{Key, Repository, Settings, known_admins, sightings};
use crate::backend::{Backend, BackendExt, ObjectInfo, ObjectKind, ObjectName};
use crate::crypto::{PUBLIC_KEY_LENGTH, Secret};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Trust;
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
        if configs.is_empty() {
            return Err(without_config(&*backend)?);
        }
        let unusable = |error: Error| match error.kind() {
            ErrorKind::Damaged => error.context(
                "the config is damaged, without which nothing can be opened; bring it back from a copy of the \
                           repository, or with parity by `icecore scrub --keyless`",
            ),
            _ => error,
        };
        let claimed = Claimed::read(&*backend, &configs).map_err(unusable)?;
        let (credential, slot) = open_slot(&*backend, &runtime, key, &claimed, settings.known_admins.as_deref())?;

        let repository = claimed.repository;
        let trust = Trust { repository: Some(repository), admin_key: Some(credential.admin_key), revoked: Vec::new() };
        let newest = Signed::newest(&*backend, &configs, &trust).map_err(unusable)?;
        if let Some(folder) = &settings.sightings {
            let path = folder.join(settings.local_name(repository));
            let seen = sightings::check_config(&path, &*backend, &trust, &newest);
            if let Err(error) = seen {
                // Another process here may have seen what was written since this one listed: look again before saying so (I13).
                return match backend.list_sorted(ObjectKind::Config)? == configs {
                    true => Err(error),
                    false => Self::open(backend, runtime, key, settings),
                };
            }
        }
        let Signed { generation, config, .. } = newest;
        Ok(Self::assemble(backend, runtime, credential, config, repository, generation, settings).opened_by(slot))
    }
}

/// What the oldest config says, before anything is believed. Nobody could put anything before the first one.
struct Claimed {
    repository: RepositoryId,
    /// `None` where it is damaged.
    admin_key: Option<[u8; 32]>,
}

impl Claimed {
    fn read(backend: &dyn Backend, configs: &[ObjectInfo]) -> Result<Self> {
        let mut problem = None;
        // Generations count from 1.
        for name in configs.iter().map(|object| &object.name).filter(|name| name.number() > 0) {
            let read = backend.get(name, name.kind().size_max()).and_then(|bytes| {
                let header = Header::decode(name, bytes.len() as u64, &bytes).map_err(|error| error.context(name))?;
                let opened = Opened::check(name, &bytes, &Trust::default());
                Ok(Self { repository: header.repository, admin_key: opened.ok().map(|opened| *opened.certificate.verifying_key()) })
            });
            match read {
                Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unsupported | ErrorKind::NotFound) => {
                    problem = problem.or(Some(error));
                }
                read => return read,
            }
        }
        Err(problem.unwrap_or_else(|| Error::rule("CFG-2", "there is no config generation 1")))
    }

    fn trust(&self, admin_key: Option<[u8; 32]>) -> Trust {
        Trust { repository: Some(self.repository), admin_key, revoked: Vec::new() }
    }
}

/// No session begins before there is a config, and configs are never deleted. A key slot alone may be what an interrupted `init` left.
pub(super) fn without_config(backend: &dyn Backend) -> Result<Error> {
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

/// Tries the key on all slots: on the newest generation of each, then on the ones before.
///
/// Whoever can write to the store can put a newer generation in front of a slot. Only one that admin signed counts, and who admin is comes
/// out of an older one. The config is listed before the slots: whatever keys it calls for were sealed into all slots before
/// (see [`super::slots`]).
///
/// First come those that are signed by whom the config calls admin, which decides nothing but the order: others may be without number, and finding out
/// that a passphrase is the wrong one for a slot is slow on purpose.
fn open_slot(
    backend: &dyn Backend,
    runtime: &Runtime,
    key: &Key,
    claimed: &Claimed,
    known_admins: Option<&Path>,
) -> Result<(Credential, ObjectName)> {
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
    let depth_max = slots.values().map(Vec::len).max().unwrap_or(0);
    let mut attempt = Attempt { backend, runtime, key, claimed, refused: Vec::new() };
    let mut first_problem = None;
    for (of_claimed, depth) in [true, false].into_iter().flat_map(|of_claimed| (0..depth_max).map(move |depth| (of_claimed, depth))) {
        for generations in slots.values().filter(|generations| generations.len() > depth) {
            let (newer, name) = (&generations[..depth], generations[depth]);
            let opened = attempt.open(&name, of_claimed).and_then(|opened| match opened {
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
    runtime: &'a Runtime,
    key: &'a Key,
    claimed: &'a Claimed,
    /// Passphrase slots for which it was the wrong one: finding that out is slow on purpose, and all generations of a slot are alike.
    refused: Vec<(SlotKind, Box<[u8; PUBLIC_KEY_LENGTH]>)>,
}

impl Attempt<'_> {
    /// The credential in this slot generation; `None` where it is not for this key, or not one of those that are to be tried now.
    fn open(&mut self, name: &ObjectName, of_claimed: bool) -> Result<Option<(Secret, Slot, Credential)>> {
        let bytes = self.backend.get(name, name.kind().size_max())?;
        let is_of_claimed = self.claimed.admin_key.is_some_and(|key| Opened::check(name, &bytes, &self.claimed.trust(Some(key))).is_ok());
        if is_of_claimed != of_claimed {
            return Ok(None);
        }
        let (header, body) = check_keyless(name, &bytes, &self.claimed.repository)?;
        let slot = Slot::decode(body)?;
        let is_same = |(kind, public_key): &(SlotKind, _)| *kind == slot.kind && *public_key == slot.public_key;
        if self.refused.iter().any(is_same) {
            return Ok(None);
        }
        let Some(seed) = self.key.seed_for(&slot.kind, self.runtime)? else { return Ok(None) };
        if !slot.is_for(&seed) {
            self.refused.push((slot.kind, slot.public_key));
            return Ok(None);
        }
        let credential = slot.open(&header, &seed)?;
        Opened::check(name, &bytes, &self.claimed.trust(Some(credential.admin_key)))?;
        slot.check_pin(&header, &seed, &credential)?;
        Ok(Some((seed, slot, credential)))
    }

    /// Whether admin signed one of these newer generations: then what is in the older one is over.
    fn is_ended(&self, newer: &[ObjectName], credential: &Credential) -> Result<bool> {
        for name in newer {
            match self.backend.get(name, name.kind().size_max()) {
                Ok(bytes) => match Opened::check(name, &bytes, &self.claimed.trust(Some(credential.admin_key))) {
                    Ok(_) => return Ok(true),
                    // Admin signed it, as another version.
                    Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(true),
                    Err(_) => {}
                },
                Err(error) if error.kind() == ErrorKind::Unavailable => return Err(error),
                _ => {}
            }
        }
        Ok(false)
    }
}

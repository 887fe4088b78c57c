//! Replicas: the same keys and the same id in another place.
//!
//! A replica begins with the config generations and key slots of its repository, copied as they are, so whatever opens the one opens the other, and
//! what was sealed for the one is right in the other. Later it follows: new generations and slots are copied in the order in which they were
//! written, slots before the config that relies on them (I14).

use super::{Repository, protect};
use crate::backend::{Backend, BackendExt, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Trust;
use crate::format::object::{Header, Opened, check_keyless};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a backend is to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replica {
    /// Nothing yet: there is no config.
    Nothing,
    /// A replica, which has all keys and settings, or newer ones.
    Current,
    /// A replica that lacks keys or settings which were made since.
    Behind,
    /// Another repository, with keys of its own.
    Other,
}

impl Repository {
    /// Looks what `backend` is to this repository.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] where the two have different configs of one generation: keys or settings were changed in both.
    pub fn replica_in(&self, backend: &dyn Backend) -> Result<Replica> {
        let there = numbers(backend)?;
        let Some(first) = there.first() else { return Ok(Replica::Nothing) };
        let bytes = get(backend, &ObjectName::config(*first))?;
        let header = Header::decode(&ObjectName::config(*first), bytes.len() as u64, &bytes)?;
        if header.repository != self.id {
            return Ok(Replica::Other);
        }
        let here = numbers(&*self.backend)?;
        for number in here.intersection(&there) {
            let name = ObjectName::config(*number);
            if get(&*self.backend, &name)? != get(backend, &name)? {
                let message = format!(
                    "{}: its keys or settings were changed by themselves ({name} differs), so it follows {} no more; change keys and settings in one \
                     place only, and make a new replica in an empty place",
                    backend.describe(),
                    self.describe()
                );
                return Err(Error::new(ErrorKind::Damaged, message));
            }
        }
        let lacks = |kind| -> Result<bool> {
            let there: BTreeSet<_> = backend.list_sorted(kind)?.into_iter().map(|object| object.name).collect();
            Ok(self.backend.list_sorted(kind)?.iter().any(|object| !there.contains(&object.name)))
        };
        Ok(if lacks(ObjectKind::Config)? || lacks(ObjectKind::Slot)? { Replica::Behind } else { Replica::Current })
    }

    /// Makes a replica in `backend`, where there is nothing, or brings keys and settings of one up to date. No snapshots are copied
    /// (see [`Repository::replicate`]). Stopped anywhere, it is to be called again.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] for another repository, [`ErrorKind::Damaged`] as [`Repository::replica_in`] or where an object breaks a rule, otherwise
    /// what the backends say.
    pub fn make_replica(&self, backend: &Arc<dyn Backend>) -> Result<()> {
        match self.replica_in(&**backend)? {
            // `OthersDurable`: another run may be making it.
            Replica::Current => return make_durable(&**backend),
            Replica::Other => {
                return Err(Error::new(ErrorKind::AlreadyExists, format!("{}: there is another repository already", backend.describe())));
            }
            Replica::Nothing | Replica::Behind => {}
        }
        let guarded = protect::guard(Arc::clone(backend), &self.credential, &self.config, self.id, self.generation);
        // The config is listed first: whatever keys it calls for were sealed into all slots before.
        let configs = self.backend.list_sorted(ObjectKind::Config)?;
        let trust = Trust { revoked: Vec::new(), ..(*self.trust).clone() };
        for slot in self.backend.list_sorted(ObjectKind::Slot)? {
            let bytes = get(&*self.backend, &slot.name)?;
            // A slot that breaks a rule only uses up its number, here as there.
            check_keyless(&slot.name, &bytes, &self.id).map_err(|error| error.context(slot.name))?;
            put(&*guarded, &slot.name, &bytes)?;
        }
        for config in configs {
            let bytes = get(&*self.backend, &config.name)?;
            Opened::check(&config.name, &bytes, &trust)?;
            put(&*guarded, &config.name, &bytes)?;
        }
        Ok(())
    }
}

fn numbers(backend: &dyn Backend) -> Result<BTreeSet<u32>> {
    Ok(backend.list_sorted(ObjectKind::Config)?.into_iter().map(|object| object.name.number()).collect())
}

fn get(backend: &dyn Backend, name: &ObjectName) -> Result<Vec<u8>> {
    backend.get(name, name.kind().size_max())
}

fn make_durable(backend: &dyn Backend) -> Result<()> {
    let (slots, configs) = (backend.list_sorted(ObjectKind::Slot)?, backend.list_sorted(ObjectKind::Config)?);
    backend.make_durable(&slots.iter().chain(&configs).map(|object| object.name).collect::<Vec<_>>())
}

/// Writes an object that may be there already.
fn put(backend: &dyn Backend, name: &ObjectName, bytes: &[u8]) -> Result<()> {
    match backend.put(name, bytes) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && get(backend, name)? == bytes => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(Error::new(ErrorKind::AlreadyExists, format!("{}: {name} is there and says something else", backend.describe())))
        }
        other => other,
    }
}

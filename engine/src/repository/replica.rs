//! Replicas: the same keys and the same id in another place.
//!
//! A replica begins with the config generations and key slots of its repository, copied as they are, so whatever opens the one opens the other, and
//! what was sealed for the one is right in the other. Later it follows: new generations and slots are copied in the order in which they were
//! written, slots before the config that relies on them (I14).

use super::{Repository, protect};
use crate::backend::{Backend, BackendExt, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Trust;
use crate::format::object::{Header, Opened};
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
        let there = names(backend, ObjectKind::Config)?;
        // Generations count from 1.
        let Some(first) = there.iter().find(|name| name.number() > 0) else { return Ok(Replica::Nothing) };
        let bytes = get(backend, first)?;
        let header = Header::decode(first, bytes.len() as u64, &bytes)?;
        if header.repository != self.id {
            return Ok(Replica::Other);
        }
        let here = self.signed_by_admin(ObjectKind::Config)?;
        for (name, bytes) in here.iter().filter(|(name, _)| there.contains(name)) {
            if *bytes != get(backend, name)? {
                let message = format!(
                    "{}: its keys or settings were changed by themselves ({name} differs), so it follows {} no more; change keys and settings in one \
                     place only, and make a new replica in an empty place",
                    backend.describe(),
                    self.describe()
                );
                return Err(Error::new(ErrorKind::Damaged, message));
            }
        }
        let slots_there = names(backend, ObjectKind::Slot)?;
        let lacks = here.iter().any(|(name, _)| !there.contains(name))
            || self.signed_by_admin(ObjectKind::Slot)?.iter().any(|(name, _)| !slots_there.contains(name));
        Ok(if lacks { Replica::Behind } else { Replica::Current })
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
        let configs = self.signed_by_admin(ObjectKind::Config)?;
        let slots = self.signed_by_admin(ObjectKind::Slot)?;
        slots.iter().chain(&configs).try_for_each(|(name, bytes)| put(&*guarded, name, bytes))
    }

    /// Configs or slots that admin signed, in the order of their names; anything else only uses up its number.
    fn signed_by_admin(&self, kind: ObjectKind) -> Result<Vec<(ObjectName, Vec<u8>)>> {
        let trust = Trust { revoked: Vec::new(), ..(*self.trust).clone() };
        let mut signed = Vec::new();
        for name in names(&*self.backend, kind)? {
            match get(&*self.backend, &name).and_then(|bytes| Opened::check(&name, &bytes, &trust).map(drop).map(|()| bytes)) {
                Ok(bytes) => signed.push((name, bytes)),
                Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(signed)
    }
}

fn names(backend: &dyn Backend, kind: ObjectKind) -> Result<BTreeSet<ObjectName>> {
    Ok(backend.list_sorted(kind)?.into_iter().map(|object| object.name).collect())
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

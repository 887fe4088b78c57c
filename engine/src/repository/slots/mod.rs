//! Key slots in admin's hands: who has a way in, new ways in, and new keys for those who keep theirs.
//!
//! # Why no credential is ever locked out
//! Slots and config are separate objects, and several admins may be at work at once, each on a machine that may stop at any moment.
//! [`rotate`](Repository::rotate) therefore keeps this order:
//!
//! 1. list all slots; refuse unless the credential at hand came from the newest generation of its own slot (ROTATE-1);
//! 2. seal the new keys, beside all old ones, into every slot that stays, and end the one that goes: each as the first generation after
//!    the one listed that nobody has, the own slot first; give up at the first number that an admin took (ROTATE-2; what admin did not sign only
//!    uses up its number);
//! 3. publish the config generation that puts the new keys in force (ROTATE-3);
//! 4. list the slots again and seal the new keys into those that were added meanwhile (ROTATE-4).
//!
//! Stopped before 3, the old keys are in force and every slot still holds them. From 3 on every slot that stays holds the new ones. Of two
//! admins who meet, at most one reaches 3: both need the same number of at least one of their two own slots, or the later one has read a
//! credential that holds the earlier one's new keys already, and passes them on. [`add_slot`](Repository::add_slot) looks for a newer
//! config after it wrote its slot, so that either it sees 3, or 4 sees its slot. `docs/decisions/0009` has the whole argument.

mod add;
mod rotate;
#[cfg(test)]
mod tests;

pub use add::{NewSlot, SlotHolder};
pub use rotate::Rotation;

use super::{Repository, generations};
use crate::backend::{BackendExt, ObjectKind, ObjectName};
use crate::crypto::{Secret, Signer};
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::Config;
use crate::format::object::{Author, Header, Opened};
use crate::format::slot::{Credential, Slot, SlotKind};
use crate::format::{Certificate, Roles, Trust};
use crate::id::{CredentialId, DomainId, SlotId};
use std::collections::BTreeMap;

/// Whether a slot can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotState {
    /// It can.
    Active,
    /// It was removed.
    Removed,
}

/// What can be told of a slot without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotInfo {
    /// The slot.
    pub id: SlotId,
    /// Its newest generation.
    pub generation: u32,
    /// How it is opened.
    pub kind: SlotKind,
    /// Roles of the credential inside, with [`Roles::ADMIN`] added where it can hand out and take away.
    pub roles: Roles,
    /// The credential inside.
    pub credential: CredentialId,
    /// The dedup domain of the credential.
    pub domain: DomainId,
    /// Whether it can be opened.
    pub state: SlotState,
    /// Whether the repository was opened with it.
    pub is_own: bool,
}

/// A slot as it is stored, its newest generation that is in order.
#[derive(Debug, Clone)]
struct StoredSlot {
    id: SlotId,
    generation: u32,
    slot: Slot,
}

impl StoredSlot {
    fn is_active(&self) -> bool {
        self.slot.sealed.is_some()
    }
}

impl Repository {
    /// All key slots, by id, with what is wrong with those that break a rule.
    ///
    /// # Errors
    /// What the backend says.
    pub fn slots(&self) -> Result<(Vec<SlotInfo>, Vec<Error>)> {
        let (slots, problems) = self.stored_slots()?;
        Ok((slots.iter().map(|slot| self.slot_info(slot)).collect(), problems))
    }

    /// The newest generation that is in order of every slot that admin signed.
    fn stored_slots(&self) -> Result<(Vec<StoredSlot>, Vec<Error>)> {
        let mut listed: BTreeMap<_, Vec<ObjectName>> = BTreeMap::new();
        for object in self.backend.list_sorted(ObjectKind::Slot)? {
            listed.entry(object.name.id()).or_default().push(object.name);
        }
        let (mut slots, mut problems) = (Vec::new(), Vec::new());
        for (id, generations) in listed {
            for name in generations.iter().rev() {
                match self.read_slot(name) {
                    Ok(slot) => {
                        slots.push(StoredSlot { id: SlotId(id), generation: name.number(), slot });
                        break;
                    }
                    Err(error) if error.kind() == ErrorKind::Damaged => problems.push(error),
                    // Passing it over would lock its holder out.
                    Err(error) => return Err(error),
                }
            }
        }
        Ok((slots, problems))
    }

    fn read_slot(&self, name: &ObjectName) -> Result<Slot> {
        let bytes = self.backend.get(name, name.kind().size_max())?;
        let trust = Trust { revoked: Vec::new(), ..(*self.trust).clone() };
        let opened = Opened::check(name, &bytes, &trust)?;
        Slot::decode(opened.body).map_err(|error| error.context(name))
    }

    fn slot_info(&self, stored: &StoredSlot) -> SlotInfo {
        let Slot { kind, roles, credential, .. } = stored.slot;
        SlotInfo {
            id: stored.id,
            generation: stored.generation,
            kind,
            roles,
            credential,
            domain: self.domain_of(&credential),
            state: if stored.is_active() { SlotState::Active } else { SlotState::Removed },
            is_own: self.slot.is_some_and(|own| own.id() == stored.id.0),
        }
    }

    /// The dedup domain of a credential: known of the own one, told by the name of others.
    fn domain_of(&self, credential: &CredentialId) -> DomainId {
        let own = &self.credential.author.certificate;
        if own.credential() == *credential { own.domain() } else { credential.domain(&self.id) }
    }

    /// Admin, as who signs slots, certificates and configs.
    fn admin(&self) -> Result<Admin<'_>> {
        self.require_writable()?;
        let Some(seed) = &self.credential.admin_seed else {
            let message =
                format!("handing out and taking away keys needs a credential with the role admin; this one is for {}", self.roles());
            return Err(Error::new(ErrorKind::Unauthorized, message));
        };
        let signer = Signer::new(seed);
        let certificate = Certificate::of_admin(&signer, &self.id, self.generation);
        Ok(Admin { repository: self, seed, author: Author { certificate, signer } })
    }
}

/// A repository whose admin signing key is at hand.
struct Admin<'a> {
    repository: &'a Repository,
    seed: &'a Secret,
    author: Author,
}

impl Admin<'_> {
    /// A credential called `name` with what `keys` holds for these roles, and nothing else.
    fn hand_out(&self, keys: &Credential, name: CredentialId, roles: Roles, domain: DomainId) -> Result<Credential> {
        let repository = self.repository;
        let is_for = |role| roles.contain(role);
        let names_chunks = roles.intersect(Roles::BACKUP.and(Roles::RESTORE));
        let has_all = (keys.chunk_id_key.is_some() || !names_chunks)
            && (keys.cutting_key.is_some() || !is_for(Roles::BACKUP))
            && (!keys.restore_keys.is_empty() || !is_for(Roles::RESTORE));
        if !has_all {
            let message = format!(
                "a key slot for {roles} needs keys that this credential, for {}, does not hold itself; use an admin credential that has these roles",
                keys.slot_roles()
            );
            return Err(Error::new(ErrorKind::Unauthorized, message));
        }
        let (author, signing_seed) = match roles.without(Roles::ADMIN) {
            None => (self.author.clone(), self.seed.clone()),
            Some(roles) => {
                let seed = name.signing_seed(&repository.id, self.seed);
                let (admin, signer) = (&self.author.signer, Signer::new(&seed));
                let key = signer.verifying_key();
                let certificate = Certificate::sign(admin, &repository.id, repository.generation, roles, domain, name, key);
                (Author { certificate, signer }, seed)
            }
        };
        Ok(Credential {
            admin_key: keys.admin_key,
            structure_keys: keys.structure_keys.clone(),
            token_key: keys.token_key.clone(),
            author,
            signing_seed,
            chunk_id_key: keys.chunk_id_key.clone().filter(|_| names_chunks),
            cutting_key: keys.cutting_key.clone().filter(|_| is_for(Roles::BACKUP)),
            restore_keys: if is_for(Roles::RESTORE) { keys.restore_keys.clone() } else { Vec::new() },
            admin_seed: Some(self.seed.clone()).filter(|_| is_for(Roles::ADMIN)),
        })
    }

    fn header(&self, name: ObjectName) -> Header {
        Header { name, repository: self.repository.id, structure_epoch: 0 }
    }

    /// Writes what `make` makes as the next generation of a slot, under the first number that nobody has.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] where admin wrote one meanwhile.
    fn put_next_slot(&self, slot: &StoredSlot, make: impl Fn(&Header) -> Result<Slot>) -> Result<()> {
        let repository = self.repository;
        let make = |name: &ObjectName| {
            let header = self.header(*name);
            Ok(self.author.object(&header, &make(&header)?.encode()))
        };
        let first = generations::next(slot.generation)?;
        generations::put_next(&*repository.backend, &repository.trust, first, |number| ObjectName::slot(slot.id, number), make).map(drop)
    }

    /// Publishes a config as the first number that nobody has.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] where admin published one meanwhile.
    fn put_config(&self, config: &Config) -> Result<()> {
        let repository = self.repository;
        let make = |name: &ObjectName| Ok(self.author.object(&self.header(*name), &config.encode()));
        let first = generations::next(repository.generation)?;
        generations::put_next(&*repository.backend, &repository.trust, first, ObjectName::config, make).map(drop)
    }
}

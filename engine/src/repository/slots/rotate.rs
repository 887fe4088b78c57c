//! New keys for everybody who stays.

use super::{Admin, Repository, SlotInfo, StoredSlot, generations};
use crate::backend::{BackendExt, ObjectName};
use crate::crypto::{Secret, public_key_of};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::config::{Config, RestoreKey};
use crate::format::object::Opened;
use crate::format::slot::Credential;
use crate::id::{CredentialId, SlotId};
use crate::limits::RESTORE_KEYS_MAX;

/// New keys that are to be put in force, and who gets them.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Rotation {
    /// The config generation to be; a later one where somebody else put something there.
    pub generation: u32,
    /// The structure key epoch to be; nothing that the removed credential writes in it counts.
    pub structure_epoch: u32,
    /// The restore key epoch to be.
    pub restore_epoch: u32,
    /// The slot that is removed.
    pub removed: Option<SlotInfo>,
    /// The slots that stay and get the new keys, the own one first.
    pub kept: Vec<SlotInfo>,
    /// What is wrong with objects of slots that are passed over. Where such a slot is whole again later it lacks the new keys: its holder needs another one.
    pub problems: Vec<String>,
    kept_slots: Vec<StoredSlot>,
    removed_slot: Option<StoredSlot>,
}

impl Repository {
    /// Plans new structure and restore keys for everything that is written from then on. With `removed`, that slot does not get them.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the admin key or without all keys of a slot that stays, [`ErrorKind::NotFound`] for an unknown slot
    /// or one that was removed already, [`ErrorKind::Invalid`] for the own slot, [`ErrorKind::Busy`] where the keys were changed since the
    /// repository was opened, otherwise what the backend says.
    pub fn plan_rotation(&self, removed: Option<SlotId>) -> Result<Rotation> {
        self.admin()?;
        self.require(Roles::RESTORE, "making new keys")?;
        let (slots, problems) = self.stored_slots()?;
        self.require_newest_config()?;
        let own = self.slot.ok_or_else(|| Error::new(ErrorKind::Internal, "the credential came out of no slot"))?;
        // ROTATE-1
        if slots.iter().find(|slot| slot.id.0 == own.id()).is_none_or(|slot| slot.generation != own.number() || !slot.is_active()) {
            return Err(busy());
        }
        let removed_slot = removed.map(|id| self.slot_to_remove(&slots, id)).transpose()?;
        let mut kept_slots: Vec<_> = slots.into_iter().filter(|slot| self.gets_new_keys(slot) && Some(slot.id) != removed).collect();
        kept_slots.sort_by_key(|slot| slot.id.0 != own.id());
        let next = |epochs: &[(u32, Secret)], in_force: u32| {
            let newest = epochs.last().map_or(0, |(epoch, _)| *epoch).max(in_force);
            newest.checked_add(1).ok_or_else(|| Error::new(ErrorKind::Invalid, "the key epochs are used up"))
        };
        Ok(Rotation {
            generation: generations::next(self.generation)?,
            structure_epoch: next(&self.credential.structure_keys, self.config.structure_epoch)?,
            restore_epoch: next(&self.credential.restore_keys, self.config.restore_epoch)?,
            removed: removed_slot.as_ref().map(|slot| self.slot_info(slot)),
            kept: kept_slots.iter().map(|slot| self.slot_info(slot)).collect(),
            problems: problems.iter().map(ToString::to_string).collect(),
            kept_slots,
            removed_slot,
        })
    }

    /// Whether a slot opens the repository, and is to go on doing so: the end of one whose credential was removed may be damaged.
    fn gets_new_keys(&self, slot: &StoredSlot) -> bool {
        slot.is_active() && !self.is_revoked(&slot.slot.credential)
    }

    fn is_revoked(&self, credential: &CredentialId) -> bool {
        self.config.revoked.iter().any(|(revoked, _)| revoked == credential)
    }

    fn slot_to_remove(&self, slots: &[StoredSlot], id: SlotId) -> Result<StoredSlot> {
        let Some(slot) = slots.iter().find(|slot| slot.id == id) else {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no key slot {id}")));
        };
        if self.slot.is_some_and(|own| own.id() == id.0) {
            let message =
                "this is the key slot that the repository was opened with; open it with another admin credential to remove this one";
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        // One that was removed and not revoked is left of a removal that was interrupted: it goes on.
        match !slot.is_active() && self.is_revoked(&slot.slot.credential) {
            true => Err(Error::new(ErrorKind::NotFound, format!("key slot {id} was removed already"))),
            false => Ok(slot.clone()),
        }
    }

    /// Puts new keys in force as planned. Whatever is stored stays as it is, readable with the old keys, which all slots that stay keep.
    ///
    /// This handle keeps the old keys: open the repository again to write. Sessions that are at work notice, and end with
    /// [`ErrorKind::Busy`] before they publish a snapshot. Interrupted at any point, all slots that stay open the repository.
    ///
    /// # Errors
    /// As [`Repository::plan_rotation`].
    pub fn rotate(&self, rotation: &Rotation) -> Result<()> {
        let admin = self.admin()?;
        let mut keys = (*self.credential).clone();
        keys.structure_keys.push((rotation.structure_epoch, Secret::new(self.runtime.random())));
        let restore_seed = Secret::new(self.runtime.random());
        let restore_key = RestoreKey { epoch: rotation.restore_epoch, public_key: public_key_of(&restore_seed) };
        keys.restore_keys.push((rotation.restore_epoch, restore_seed));
        let config = self.next_config(rotation, restore_key)?;
        // All of them before the first is written: one that cannot be made must not stop it half-way.
        let credentials = rotation.kept_slots.iter().map(|slot| admin.credential_for(&keys, slot)).collect::<Result<Vec<_>>>()?;

        // ROTATE-2
        for (slot, credential) in rotation.kept_slots.iter().zip(&credentials) {
            admin.seal_anew(slot, credential).map_err(lost_race)?;
        }
        match &rotation.removed_slot {
            Some(slot) if slot.is_active() => admin.put_next_slot(slot, |_| Ok(slot.slot.removed())).map_err(lost_race)?,
            // `OthersDurable`: whoever ended it may have died.
            Some(slot) => self.backend.make_durable(&[ObjectName::slot(slot.id, slot.generation)])?,
            None => {}
        }
        // ROTATE-3
        admin.put_config(&config).map_err(lost_race)?;
        // ROTATE-4
        let is_known = |id| rotation.kept.iter().chain(&rotation.removed).any(|known: &SlotInfo| known.id == id);
        for slot in self.stored_slots()?.0.iter().filter(|slot| self.gets_new_keys(slot) && !is_known(slot.id)) {
            match admin.credential_for(&keys, slot).and_then(|credential| admin.seal_anew(slot, &credential)) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn next_config(&self, rotation: &Rotation, restore_key: RestoreKey) -> Result<Config> {
        let name = ObjectName::config(self.generation);
        let bytes = self.backend.get(&name, name.kind().size_max())?;
        let mut config = Config {
            created: self.runtime.clock.now(),
            predecessor: Opened::check(&name, &bytes, &self.trust)?.hash,
            second_predecessor: [0; 32],
            structure_epoch: rotation.structure_epoch,
            restore_epoch: rotation.restore_epoch,
            ..self.config.clone()
        };
        if config.restore_keys.len() == RESTORE_KEYS_MAX {
            // Nobody seals to a public key that is not in force.
            config.restore_keys.remove(0);
        }
        config.restore_keys.push(restore_key);
        // Admin's own certificate names no credential; what a holder of the admin key signs can only be kept out by a new repository.
        let gone = rotation.removed.as_ref().map(|slot| slot.credential).filter(|credential| credential.0 != [0; CredentialId::LENGTH]);
        if let Some(credential) = gone {
            config.revoked.retain(|(known, _)| *known != credential);
            config.revoked.push((credential, rotation.structure_epoch));
            config.revoked.sort_unstable();
        }
        Config::decode(rotation.generation, &config.encode(), Some(&self.credential.admin_key))
            .map_err(|error| error.with_kind(ErrorKind::Invalid))
    }
}

impl Admin<'_> {
    /// What the holder of a slot gets of these keys.
    fn credential_for(&self, keys: &Credential, slot: &StoredSlot) -> Result<Credential> {
        let repository = self.repository;
        match repository.slot.is_some_and(|own| own.id() == slot.id.0) {
            true => Ok(keys.clone()),
            false => {
                let name = slot.slot.credential;
                self.hand_out(keys, name, slot.slot.roles, repository.domain_of(&name))
                    .map_err(|error| error.context(format_args!("key slot {}", slot.id)))
            }
        }
    }

    fn seal_anew(&self, slot: &StoredSlot, credential: &Credential) -> Result<()> {
        self.put_next_slot(slot, |header| slot.slot.seal_anew(header, credential, &*self.repository.runtime.entropy))
    }
}

/// A number that is taken was taken by another admin.
fn lost_race(error: Error) -> Error {
    if error.kind() == ErrorKind::AlreadyExists { busy() } else { error }
}

fn busy() -> Error {
    let message = "another admin is changing the keys of the repository, or did since it was opened; run it again";
    Error::new(ErrorKind::Busy, message)
}

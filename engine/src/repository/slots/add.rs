//! A new way in.

use super::SlotInfo;
use super::{Admin, Repository, StoredSlot};
use crate::backend::{BackendExt, ObjectName};
use crate::crypto::{PassphraseCost, public_key_of};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::slot::Slot;
use crate::id::{CredentialId, DomainId, SlotId};
use crate::repository::{Key, Recipient};

/// Who is to open a new slot.
#[derive(Debug, Clone)]
pub enum SlotHolder {
    /// Whoever has this passphrase, key file or command.
    Key(Key),
    /// Whoever has the key file of this recipient.
    Recipient(Recipient),
}

/// A way in that is to be made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NewSlot {
    /// Who is to open it.
    pub holder: SlotHolder,
    /// What its credential may do.
    pub roles: Roles,
    /// The dedup domain: it deduplicates only against what credentials of the same one stored. See [`DomainId::of_name`].
    pub domain: DomainId,
    /// What guessing costs, where it is opened by a passphrase.
    pub passphrase_cost: PassphraseCost,
}

impl NewSlot {
    /// For `holder`, with `roles`, in the default domain.
    pub fn new(holder: SlotHolder, roles: Roles) -> Self {
        Self { holder, roles, domain: DomainId::of_name(""), passphrase_cost: PassphraseCost::RECOMMENDED }
    }
}

impl Repository {
    /// Makes a key slot with a credential of its own, which holds the keys of its roles and no others.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the admin key or without the keys to be given away, [`ErrorKind::Invalid`] for a public key that is
    /// none or a domain that [`DomainId::of_name`] does not make, [`ErrorKind::Busy`] where the keys were changed meanwhile (no slot is left),
    /// otherwise what the backend says.
    pub fn add_slot(&self, new: &NewSlot) -> Result<SlotInfo> {
        let admin = self.admin()?;
        self.require_newest_config()?;
        let (slots, _) = self.stored_slots()?;
        let name = match new.roles == Roles::ADMIN {
            true => CredentialId([0; CredentialId::LENGTH]),
            false => self.new_credential_id(&slots, &new.domain)?,
        };
        let credential = admin.hand_out(&self.credential, name, new.roles, new.domain)?;
        let id = SlotId(self.runtime.random());
        let header = admin.header(ObjectName::slot(id, 1));
        let entropy = &*self.runtime.entropy;
        let slot = match &new.holder {
            SlotHolder::Recipient(recipient) => Slot::seal_for_recipient(&header, recipient.0.clone(), &credential, entropy)?,
            SlotHolder::Key(key) => {
                let kind = key.slot_kind(new.passphrase_cost, &self.runtime);
                let seed = key
                    .seed_for(&kind, &self.runtime)?
                    .ok_or_else(|| Error::new(ErrorKind::Internal, "a key does not fit its own slot"))?;
                let public_key = public_key_of(&seed);
                if slots.iter().any(|other| other.is_active() && other.slot.public_key == public_key) {
                    return Err(Error::new(ErrorKind::AlreadyExists, "this key opens a key slot of the repository already"));
                }
                Slot::seal(&header, kind, &seed, &credential, entropy)?
            }
        };
        self.backend.put(&header.name, &admin.author.object(&header, &slot.encode()))?;
        self.unless_keys_changed(&admin, &header.name)?;
        Ok(self.slot_info(&StoredSlot { id, generation: 1, slot }))
    }

    /// Takes a slot back that was just made where a rotation may have passed it by: it would lack the new keys.
    fn unless_keys_changed(&self, admin: &Admin<'_>, name: &ObjectName) -> Result<()> {
        let Err(error) = admin.repository.require_newest_config() else { return Ok(()) };
        match self.backend.delete(name) {
            Err(failed) if failed.kind() != ErrorKind::NotFound => Err(failed),
            _ => Err(error),
        }
    }

    fn new_credential_id(&self, slots: &[StoredSlot], domain: &DomainId) -> Result<CredentialId> {
        loop {
            let id = CredentialId::generate(&self.id, domain, &*self.runtime.entropy);
            if id.domain(&self.id) != *domain {
                return Err(Error::new(ErrorKind::Invalid, format!("{domain} is no dedup domain that a name gives")));
            }
            let is_known = |credential: &CredentialId| *credential == id;
            if !slots.iter().any(|slot| is_known(&slot.slot.credential)) && !self.config.revoked.iter().any(|(known, _)| is_known(known)) {
                return Ok(id);
            }
        }
    }
}

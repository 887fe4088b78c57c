//! Key slots and the credentials inside (`format-spec/keys.md`).

use super::certificate::{Certificate, Roles, Trust};
use super::cursor::{Reader, Write};
use super::object::{Author, Header, StructureKeys};
use crate::crypto::{
    ENCAPSULATED_LENGTH, KEM_X_WING, PUBLIC_KEY_LENGTH, PassphraseCost, Secret, Signer, TAG_LENGTH, derive, keyed, public_key_of, unwrap,
    wrap,
};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{CredentialId, RepositoryId};
use crate::limits::{ARGON2_LANES_MAX, ARGON2_MEMORY_KIB_MAX, ARGON2_PASSES_MAX, SLOT_SEALED_MAX};
use crate::runtime::Entropy;
use zeroize::Zeroizing;

const INFO: &[u8] = b"icecore 1 slot";
const CLEAR_LENGTH: usize = 1312;

/// How whoever opens a slot comes by its seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotKind {
    /// From a passphrase, with this salt and cost.
    Passphrase {
        /// Random.
        salt: [u8; 32],
        /// What Argon2id is asked for.
        cost: PassphraseCost,
    },
    /// From a key file.
    KeyFile,
    /// From a key file too; whoever made the slot had only its public half.
    Recipient,
    /// From an external command.
    Command,
}

/// A key slot as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// How its seed comes about.
    pub kind: SlotKind,
    /// Roles of the credential inside, with [`Roles::ADMIN`] added where it holds the admin signing key.
    pub roles: Roles,
    /// The credential inside.
    pub credential: CredentialId,
    /// Shows that whoever knew the seed made the slot for this repository and admin key; zeros for a recipient's.
    pub pin: [u8; 32],
    /// X-Wing public key of the seed.
    pub public_key: Box<[u8; PUBLIC_KEY_LENGTH]>,
    /// The sealed credential; `None` where the slot was removed.
    pub sealed: Option<(Box<[u8; ENCAPSULATED_LENGTH]>, Vec<u8>)>,
}

impl Slot {
    /// Seals `credential` to the public key of `seed`. `header` is that of the slot object to be.
    pub(crate) fn seal(header: &Header, kind: SlotKind, seed: &Secret, credential: &Credential, entropy: &dyn Entropy) -> Result<Self> {
        let pin = pin(seed, &header.repository, &credential.admin_key);
        Self::seal_to(header, kind, public_key_of(seed), pin, credential, entropy)
    }

    /// Seals `credential` to somebody of whom only the public key is known.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where that is no public key.
    pub(crate) fn seal_for_recipient(
        header: &Header,
        public_key: Box<[u8; PUBLIC_KEY_LENGTH]>,
        credential: &Credential,
        entropy: &dyn Entropy,
    ) -> Result<Self> {
        Self::seal_to(header, SlotKind::Recipient, public_key, [0; 32], credential, entropy)
    }

    /// The next generation of this slot, for the same holder and with his pin. The caller has checked that admin signed the one at hand.
    pub(crate) fn seal_anew(&self, header: &Header, credential: &Credential, entropy: &dyn Entropy) -> Result<Self> {
        Self::seal_to(header, self.kind, self.public_key.clone(), self.pin, credential, entropy)
    }

    fn seal_to(
        header: &Header,
        kind: SlotKind,
        public_key: Box<[u8; PUBLIC_KEY_LENGTH]>,
        pin: [u8; 32],
        credential: &Credential,
        entropy: &dyn Entropy,
    ) -> Result<Self> {
        let (roles, name) = (credential.slot_roles(), credential.author.certificate.credential());
        let mut slot = Self { kind, roles, credential: name, pin, public_key, sealed: None };
        let plaintext = credential.encode();
        if plaintext.len() + TAG_LENGTH > SLOT_SEALED_MAX {
            return Err(Error::new(ErrorKind::Invalid, "the keys of so many epochs do not fit into a key slot"));
        }
        slot.sealed = Some(wrap(&slot.public_key, &slot.info(header), &plaintext, entropy)?);
        Ok(slot)
    }

    /// The generation of this slot that ends it.
    pub(crate) fn removed(&self) -> Self {
        Self { sealed: None, ..self.clone() }
    }

    /// Whether it was made for this seed (SLOT-6).
    pub(crate) fn is_for(&self, seed: &Secret) -> bool {
        public_key_of(seed) == self.public_key
    }

    /// The body of a slot object.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.encode_clear();
        match &self.sealed {
            Some((encapsulated, ciphertext)) => {
                bytes.put_bytes(&encapsulated[..]);
                bytes.put_u32(ciphertext.len() as u32);
                bytes.put_bytes(ciphertext);
            }
            None => bytes.put_bytes(&[0; ENCAPSULATED_LENGTH + 4]),
        }
        bytes
    }

    fn encode_clear(&self) -> Vec<u8> {
        let (kind, salt, cost) = match self.kind {
            SlotKind::Passphrase { salt, cost } => (1, salt, cost),
            SlotKind::KeyFile => (2, [0; 32], NO_COST),
            SlotKind::Recipient => (3, [0; 32], NO_COST),
            SlotKind::Command => (4, [0; 32], NO_COST),
        };
        let mut bytes = Vec::with_capacity(CLEAR_LENGTH);
        bytes.put_u8(kind);
        bytes.put_u8(if self.sealed.is_some() { 1 } else { 2 });
        bytes.put_u8(self.roles.bits());
        bytes.put_u8(0);
        bytes.put_u32(cost.memory_kib);
        bytes.put_u32(cost.passes);
        bytes.put_u32(cost.lanes);
        bytes.put_bytes(&salt);
        bytes.put_bytes(&self.credential.0);
        bytes.put_bytes(&self.pin);
        bytes.put_bytes(&self.public_key[..]);
        bytes
    }

    fn info(&self, header: &Header) -> Vec<u8> {
        let mut active = self.clone();
        active.sealed.get_or_insert_with(|| (Box::new([0; ENCAPSULATED_LENGTH]), Vec::new()));
        [INFO, &header.encode(), &active.encode_clear()].concat()
    }

    /// Reads the body of a slot object (SLOT-1 to SLOT-5). Takes no memory that the slot asks for.
    ///
    /// # Errors
    /// The rule that is broken; [`ErrorKind::Unsupported`] for an unknown kind of slot.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let (kind, state, roles, reserved) = (reader.u8()?, reader.u8()?, reader.u8()?, reader.u8()?);
        if !(1..=4).contains(&kind) {
            return Err(Error::unsupported("SLOT-1", format!("key slot of kind {kind} is not known here; a newer icecore opens it")));
        }
        if !(1..=2).contains(&state) {
            return Err(Error::rule("SLOT-2", format!("state {state}")));
        }
        let roles = match Roles::from_bits(roles) {
            Some(roles) if reserved == 0 => roles,
            _ => return Err(Error::rule("SLOT-3", format!("roles {roles:#04x}, reserved byte {reserved}"))),
        };
        let cost = PassphraseCost { memory_kib: reader.u32()?, passes: reader.u32()?, lanes: reader.u32()? };
        let salt: [u8; 32] = reader.array()?;
        let allowed = if kind == 1 { cost.is_allowed() } else { cost == NO_COST && salt == [0; 32] };
        if !allowed {
            return Err(Error::rule(
                "SLOT-4",
                format!(
                    "the slot asks Argon2id for {} KiB, {} passes and {} lanes, which is not allowed",
                    cost.memory_kib, cost.passes, cost.lanes
                ),
            ));
        }
        let credential = CredentialId(reader.array()?);
        let pin = reader.array()?;
        let public_key = Box::new(reader.array()?);
        let encapsulated: Box<[u8; ENCAPSULATED_LENGTH]> = Box::new(reader.array()?);
        let length = reader.u32()? as usize;
        let ciphertext = reader.take_rest();
        if length != ciphertext.len() || length > SLOT_SEALED_MAX || (length == 0) != (state == 2) {
            return Err(Error::rule("SLOT-5", format!("{length} sealed bytes where {} follow", ciphertext.len())));
        }
        if state == 2 && encapsulated[..] != [0; ENCAPSULATED_LENGTH] {
            return Err(Error::rule("SLOT-5", "a removed slot holds an encapsulated key"));
        }
        let kind = match kind {
            1 => SlotKind::Passphrase { salt, cost },
            2 => SlotKind::KeyFile,
            3 => SlotKind::Recipient,
            _ => SlotKind::Command,
        };
        let sealed = (state == 1).then(|| (encapsulated, ciphertext.to_vec()));
        Ok(Self { kind, roles, credential, pin, public_key, sealed })
    }

    /// Opens the slot with its seed (SLOT-6 to SLOT-9). `header` is that of the slot object. The caller then checks the object (SLOT-10)
    /// and the pin ([`Slot::check_pin`]).
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] where the seed is not that of this slot or the slot was removed; otherwise the rule that is broken.
    pub(crate) fn open(&self, header: &Header, seed: &Secret) -> Result<Credential> {
        if !self.is_for(seed) {
            return Err(Error::new(ErrorKind::Unauthorized, "this passphrase or key file does not open the slot"));
        }
        let Some((encapsulated, ciphertext)) = &self.sealed else {
            return Err(Error::new(ErrorKind::Unauthorized, "this key slot was removed"));
        };
        let plaintext = unwrap(seed, &self.info(header), encapsulated, ciphertext)
            .ok_or_else(|| Error::rule("SLOT-7", "the sealed credential does not open"))?;
        let credential = Credential::decode(&header.repository, &plaintext)?;
        credential.check_slot(self.roles, &self.credential)?;
        Ok(credential)
    }
}

impl Slot {
    /// Whether the admin key inside is the one that was there when the slot was made (SLOT-11).
    ///
    /// # Errors
    /// SLOT-11 where it is not: somebody else made this slot, or the whole repository.
    pub(crate) fn check_pin(&self, header: &Header, seed: &Secret, credential: &Credential) -> Result<()> {
        let expected = match self.kind {
            SlotKind::Recipient => [0; 32],
            _ => pin(seed, &header.repository, &credential.admin_key),
        };
        match self.pin == expected {
            true => Ok(()),
            false => Err(Error::rule(
                "SLOT-11",
                "this slot was not made by somebody who knew the passphrase or key file: the store may be serving a forgery",
            )),
        }
    }
}

fn pin(seed: &Secret, repository: &RepositoryId, admin_key: &[u8; 32]) -> [u8; 32] {
    keyed(derive("icecore 1 slot pin", &[seed.bytes()]).bytes(), &[&repository.0[..], admin_key].concat())
}

const NO_COST: PassphraseCost = PassphraseCost { memory_kib: 0, passes: 0, lanes: 0 };

impl PassphraseCost {
    /// Whether SLOT-4 allows it.
    pub fn is_allowed(&self) -> bool {
        (1..=ARGON2_LANES_MAX).contains(&self.lanes)
            && (1..=ARGON2_PASSES_MAX).contains(&self.passes)
            && (8 * self.lanes..=ARGON2_MEMORY_KIB_MAX).contains(&self.memory_kib)
    }
}

/// Everything that a key slot opens: what its holder can do, by cryptography.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The pinned admin verifying key.
    pub(crate) admin_key: [u8; 32],
    /// Structure keys, epochs ascending; at least one.
    pub(crate) structure_keys: Vec<(u32, Secret)>,
    /// Keys refs ids and the tokens of series and tags.
    pub(crate) token_key: Secret,
    /// Certificate and signing key.
    pub(crate) author: Author,
    /// The seed of that signing key.
    pub(crate) signing_seed: Secret,
    /// Names chunks; backup and restore.
    pub(crate) chunk_id_key: Option<Secret>,
    /// Decides where content is cut; backup.
    pub(crate) cutting_key: Option<Secret>,
    /// X-Wing seeds that session secrets are sealed to, epochs ascending; restore.
    pub(crate) restore_keys: Vec<(u32, Secret)>,
    /// Signs config, slots and certificates; admin.
    pub(crate) admin_seed: Option<Secret>,
}

impl StructureKeys for Credential {
    fn structure_key(&self, epoch: u32) -> Option<&Secret> {
        self.structure_keys.iter().find(|(e, _)| *e == epoch).map(|(_, key)| key)
    }
}

impl Credential {
    /// What its certificate allows.
    pub fn roles(&self) -> Roles {
        self.author.certificate.roles()
    }

    /// Whether it holds the admin signing key.
    pub fn is_admin(&self) -> bool {
        self.admin_seed.is_some()
    }

    /// The newest structure key that it holds is of this epoch.
    pub(crate) fn newest_structure_epoch(&self) -> u32 {
        self.structure_keys.last().map_or(0, |(epoch, _)| *epoch)
    }

    /// What its slot says of it.
    pub(crate) fn slot_roles(&self) -> Roles {
        if self.is_admin() { self.roles().and(Roles::ADMIN) } else { self.roles() }
    }

    /// Whether it belongs into a slot with these roles and this credential's name (SLOT-9).
    pub(crate) fn check_slot(&self, roles: Roles, credential: &CredentialId) -> Result<()> {
        let has_admin_seed = self.is_admin() == roles.contain(Roles::ADMIN);
        match self.author.certificate.credential() == *credential && self.slot_roles() == roles && has_admin_seed {
            true => Ok(()),
            false => Err(Error::rule("SLOT-9", "slot and credential disagree")),
        }
    }

    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Reserved up front, so that growing leaves no copies of secrets behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(SLOT_SEALED_MAX));
        let mut field = |tag: u8, pieces: &[&[u8]]| {
            bytes.put_u8(tag);
            bytes.put_u16(pieces.iter().map(|piece| piece.len()).sum::<usize>() as u16);
            pieces.iter().for_each(|piece| bytes.put_bytes(piece));
        };
        field(1, &[&self.admin_key]);
        self.structure_keys.iter().for_each(|(epoch, key)| field(2, &[&epoch.to_le_bytes(), key.bytes()]));
        field(3, &[self.token_key.bytes()]);
        field(4, &[self.author.certificate.bytes(), self.signing_seed.bytes()]);
        self.chunk_id_key.iter().for_each(|key| field(5, &[key.bytes()]));
        self.cutting_key.iter().for_each(|key| field(6, &[key.bytes()]));
        self.restore_keys.iter().for_each(|(epoch, seed)| field(7, &[&epoch.to_le_bytes(), &KEM_X_WING.to_le_bytes(), seed.bytes()]));
        self.admin_seed.iter().for_each(|seed| field(8, &[seed.bytes()]));
        bytes
    }

    /// Reads a credential's plaintext (SLOT-8, SLOT-9).
    ///
    /// # Errors
    /// The rule that is broken; [`ErrorKind::Unsupported`] for an unknown field.
    pub fn decode(repository: &RepositoryId, bytes: &[u8]) -> Result<Self> {
        let broken = |what: &str| Error::rule("SLOT-8", format!("credential: {what}"));
        let mut fields = Fields::default();
        let mut reader = Reader::new(bytes);
        let mut last_tag = 0;
        while reader.remaining() > 0 {
            let tag = reader.u8()?;
            let length = usize::from(reader.u16()?);
            let mut field = Reader::new(reader.bytes(length)?);
            let repeats = matches!(tag, 2 | 7) || tag > 127;
            if tag < last_tag || tag == last_tag && !repeats || tag == 0 {
                return Err(broken("fields are not ascending"));
            }
            last_tag = tag;
            if tag > 127 {
                continue;
            }
            if tag > 8 {
                return Err(Error::unsupported("SLOT-8", format!("credential field {tag} is not known here; a newer icecore reads it")));
            }
            fields.take(tag, &mut field).and_then(|()| field.end()).map_err(|_| broken(&format!("field {tag} is malformed")))?;
        }
        let ascending = |keys: &[(u32, Secret)]| keys.is_sorted_by(|a, b| a.0 < b.0) && keys.iter().all(|(epoch, _)| *epoch != 0);
        if fields.structure_keys.is_empty() || !ascending(&fields.structure_keys) || !ascending(&fields.restore_keys) {
            return Err(broken("key epochs are not ascending"));
        }
        let (Some(admin_key), Some(token_key), Some((certificate, signing_seed))) = (fields.admin_key, fields.token_key, fields.author)
        else {
            return Err(broken("a field is missing"));
        };
        let trust = Trust { repository: Some(*repository), admin_key: Some(admin_key), revoked: Vec::new() };
        let certificate = Certificate::decode(&certificate, repository, 0, &trust)?;
        let signer = Signer::new(&signing_seed);
        let roles = certificate.roles();
        let agree = signer.verifying_key() == *certificate.verifying_key()
            && fields.chunk_id_key.is_some() == roles.intersect(Roles::BACKUP.and(Roles::RESTORE))
            && fields.cutting_key.is_some() == roles.contain(Roles::BACKUP)
            && fields.restore_keys.is_empty() != roles.contain(Roles::RESTORE)
            && fields.admin_seed.as_ref().is_none_or(|seed| Signer::new(seed).verifying_key() == admin_key);
        if !agree {
            return Err(Error::rule("SLOT-9", format!("the credential's keys are not those of its roles ({roles})")));
        }
        Ok(Self {
            admin_key,
            structure_keys: fields.structure_keys,
            token_key,
            author: Author { certificate, signer },
            signing_seed,
            chunk_id_key: fields.chunk_id_key,
            cutting_key: fields.cutting_key,
            restore_keys: fields.restore_keys,
            admin_seed: fields.admin_seed,
        })
    }
}

/// The fields of a credential as they come.
#[derive(Default)]
struct Fields {
    admin_key: Option<[u8; 32]>,
    structure_keys: Vec<(u32, Secret)>,
    token_key: Option<Secret>,
    author: Option<([u8; Certificate::LENGTH], Secret)>,
    chunk_id_key: Option<Secret>,
    cutting_key: Option<Secret>,
    restore_keys: Vec<(u32, Secret)>,
    admin_seed: Option<Secret>,
}

impl Fields {
    fn take(&mut self, tag: u8, field: &mut Reader<'_>) -> Result<()> {
        let secret = |field: &mut Reader<'_>| field.array().map(Secret::new);
        match tag {
            1 => self.admin_key = Some(field.array()?),
            2 => self.structure_keys.push((field.u32()?, secret(field)?)),
            3 => self.token_key = Some(secret(field)?),
            4 => self.author = Some((field.array()?, secret(field)?)),
            5 => self.chunk_id_key = Some(secret(field)?),
            6 => self.cutting_key = Some(secret(field)?),
            7 => {
                let (epoch, kem) = (field.u32()?, field.u16()?);
                if kem != KEM_X_WING {
                    return Err(Error::rule("SLOT-8", format!("KEM {kem:#06x}")));
                }
                self.restore_keys.push((epoch, secret(field)?));
            }
            _ => self.admin_seed = Some(secret(field)?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::ObjectName;
    use crate::id::{DomainId, SlotId};
    use crate::runtime::SeededEntropy;

    const REPOSITORY: RepositoryId = RepositoryId([1; 16]);

    fn credential(n: u8) -> Credential {
        let (admin_seed, signing_seed) = (Secret::new([n; 32]), Secret::new([n + 1; 32]));
        let (admin, signer) = (Signer::new(&admin_seed), Signer::new(&signing_seed));
        let name = CredentialId([n; 16]);
        let certificate = Certificate::sign(&admin, &REPOSITORY, 1, Roles::ALL, DomainId([0; 16]), name, signer.verifying_key());
        let key = || Secret::new([n + 2; 32]);
        Credential {
            admin_key: admin.verifying_key(),
            structure_keys: vec![(1, key())],
            token_key: key(),
            author: Author { certificate, signer },
            signing_seed,
            chunk_id_key: Some(key()),
            cutting_key: Some(key()),
            restore_keys: vec![(1, key())],
            admin_seed: Some(admin_seed),
        }
    }

    #[test]
    fn a_slot_that_a_store_sealed_to_our_public_key_is_refused() {
        let entropy = SeededEntropy::new(1);
        let header = Header { name: ObjectName::slot(SlotId([2; 16]), 1), repository: REPOSITORY, structure_epoch: 0 };
        let seed = Secret::new([9; 32]);
        let honest = Slot::seal(&header, SlotKind::KeyFile, &seed, &credential(10), &entropy).unwrap();
        let opened = honest.open(&header, &seed).unwrap();
        honest.check_pin(&header, &seed, &opened).unwrap();

        // Whoever sees the slot knows its public key and pin, and can seal a credential of his own to it.
        let theirs = credential(20);
        let mut forged = Slot { credential: theirs.author.certificate.credential(), sealed: None, ..honest };
        let sealed = wrap(&forged.public_key, &forged.info(&header), &theirs.encode(), &entropy).unwrap();
        forged.sealed = Some(sealed);
        let forged = Slot::decode(&forged.encode()).unwrap();
        let opened = forged.open(&header, &seed).unwrap();
        assert_eq!(forged.check_pin(&header, &seed, &opened).unwrap_err().broken_rule(), Some("SLOT-11"));
    }
}

//! Certificates: admin says which roles a key has (`format-spec/object.md`).

use super::cursor::{Reader, Write};
use super::object::Header;
use crate::backend::ObjectKind;
use crate::crypto::{SIGNATURE_LENGTH, Signer, verify_repeated};
use crate::error::{Error, Result};
use crate::id::{CredentialId, DomainId, RepositoryId};
use std::fmt;

const SIGNATURE_CONTEXT: &str = "icecore 1 certificate";

/// What a credential may do, as a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// Store and deduplicate, read nothing back.
    pub const BACKUP: Self = Self(1);
    /// Collect garbage, move tiers, scrub and heal, without names or content.
    pub const MAINTAIN: Self = Self(2);
    /// Read.
    pub const RESTORE: Self = Self(4);
    /// Sign configuration, slots and certificates.
    pub const ADMIN: Self = Self(8);
    /// Backup, maintain and restore.
    pub const ALL: Self = Self(7);

    /// The set with these bits; `None` where it is empty or has unknown ones.
    pub fn from_bits(bits: u8) -> Option<Self> {
        (bits != 0 && bits & !0x0f == 0).then_some(Self(bits))
    }

    /// The bits.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without `other`; `None` where nothing is left.
    #[must_use]
    pub fn without(self, other: Self) -> Option<Self> {
        Self::from_bits(self.0 & !other.0)
    }

    /// Whether everything in `other` is in this set.
    pub fn contain(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the sets have a role in common.
    pub fn intersect(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(Self::BACKUP, "backup"), (Self::MAINTAIN, "maintain"), (Self::RESTORE, "restore"), (Self::ADMIN, "admin")];
        let mut separator = "";
        for (_, name) in names.into_iter().filter(|(role, _)| self.contain(*role)) {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        Ok(())
    }
}

impl ObjectKind {
    /// Whose objects of this kind count (OBJ-9).
    pub fn writers(self) -> Roles {
        match self {
            Self::Config | Self::Slot => Roles::ADMIN,
            Self::Snapshot | Self::Journal => Roles::BACKUP,
            Self::DataPack | Self::MetaPack | Self::RefsPack | Self::Index => Roles::BACKUP.and(Roles::MAINTAIN),
            Self::Parity => Roles::ALL.and(Roles::ADMIN),
            Self::Session | Self::Beat | Self::Closed | Self::Withdrawn => Roles::ALL,
            Self::Tombstone | Self::Epoch | Self::Relocation | Self::Placement | Self::Scrubbed => Roles::MAINTAIN,
            Self::Hold => Roles::MAINTAIN.and(Roles::ADMIN),
            Self::Attest => Roles::MAINTAIN.and(Roles::RESTORE),
        }
    }

    /// Largest size of an object of this kind in bytes (OBJ-1).
    pub fn size_max(self) -> u64 {
        match self {
            Self::DataPack | Self::MetaPack | Self::RefsPack => 201_326_592,
            Self::Parity => 201_327_616,
            Self::Index => 50_331_648,
            Self::Slot => 131_072,
            Self::Config | Self::Snapshot | Self::Session | Self::Beat | Self::Closed | Self::Withdrawn => 1_048_576,
            _ => 16_777_216,
        }
    }
}

/// What an object is checked against.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The repository; `None` until config generation 1 has said which.
    pub repository: Option<RepositoryId>,
    /// The pinned admin key; `None` takes what comes (a look without any credential).
    pub admin_key: Option<[u8; 32]>,
    /// Credentials that were removed, ascending, each with the structure epoch from which on nothing that it wrote counts.
    pub revoked: Vec<(CredentialId, u32)>,
}

impl Trust {
    /// OBJ-7.
    pub(crate) fn check_repository(&self, header: &Header) -> Result<()> {
        match self.repository {
            Some(repository) if repository != header.repository => {
                Err(Error::rule("OBJ-7", format!("it belongs to repository {}, not to {repository}", header.repository)))
            }
            _ => Ok(()),
        }
    }
}

/// Says which roles a key has; signed by admin.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    bytes: Box<[u8; Self::LENGTH]>,
    roles: Roles,
    domain: DomainId,
    credential: CredentialId,
    verifying_key: [u8; 32],
}

impl Certificate {
    /// Bytes of a certificate.
    pub const LENGTH: usize = 152;

    /// Makes and signs one. `roles` is [`Roles::ADMIN`] alone or a set without it.
    pub(crate) fn sign(
        admin: &Signer,
        repository: &RepositoryId,
        generation: u32,
        roles: Roles,
        domain: DomainId,
        credential: CredentialId,
        verifying_key: [u8; 32],
    ) -> Self {
        let mut bytes = Vec::with_capacity(Self::LENGTH);
        bytes.put_u8(roles.bits());
        bytes.put_bytes(&[0; 3]);
        bytes.put_u32(generation);
        bytes.put_bytes(&repository.0);
        bytes.put_bytes(&domain.0);
        bytes.put_bytes(&credential.0);
        bytes.put_bytes(&verifying_key);
        let signature = admin.sign(SIGNATURE_CONTEXT, &bytes);
        bytes.put_bytes(&signature);
        let bytes = bytes.try_into().expect("the fields above have 152 bytes");
        Self { bytes: Box::new(bytes), roles, domain, credential, verifying_key }
    }

    /// Admin's own.
    pub(crate) fn of_admin(admin: &Signer, repository: &RepositoryId, generation: u32) -> Self {
        Self::sign(admin, repository, generation, Roles::ADMIN, DomainId([0; 16]), CredentialId([0; 16]), admin.verifying_key())
    }

    /// Reads one that stands in an object or session record of this repository and structure epoch (CERT-1 to CERT-6).
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn decode(bytes: &[u8; Self::LENGTH], repository: &RepositoryId, structure_epoch: u32, trust: &Trust) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let roles = reader.u8()?;
        let roles = match Roles::from_bits(roles) {
            Some(roles) if roles == Roles::ADMIN || !roles.contain(Roles::ADMIN) => roles,
            _ => return Err(Error::rule("CERT-1", format!("roles {roles:#04x} are no roles of a certificate"))),
        };
        reader.reserved(3, "CERT-2")?;
        let _generation = reader.u32()?;
        let named = RepositoryId(reader.array()?);
        if named != *repository {
            return Err(Error::rule("CERT-3", format!("the certificate is for repository {named}")));
        }
        let (domain, credential) = (DomainId(reader.array()?), CredentialId(reader.array()?));
        let verifying_key: [u8; 32] = reader.array()?;
        let admin_key = trust.admin_key.unwrap_or(verifying_key);
        if roles == Roles::ADMIN && (verifying_key != admin_key || domain.0 != [0; 16] || credential.0 != [0; 16]) {
            return Err(Error::rule("CERT-4", "the certificate claims to be admin's and does not carry the pinned admin key"));
        }
        let signature: [u8; SIGNATURE_LENGTH] = reader.array()?;
        let signed_by_admin = verify_repeated(&admin_key, SIGNATURE_CONTEXT, &bytes[..Self::LENGTH - SIGNATURE_LENGTH], &signature);
        if !signed_by_admin && (trust.admin_key.is_some() || roles == Roles::ADMIN) {
            return Err(Error::rule("CERT-5", "the certificate is not signed by the pinned admin key"));
        }
        if trust.revoked.iter().any(|(revoked, epoch)| *revoked == credential && structure_epoch >= *epoch) {
            return Err(Error::rule("CERT-6", format!("credential {credential} was removed before this was written")));
        }
        Ok(Self { bytes: Box::new(*bytes), roles, domain, credential, verifying_key })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; Self::LENGTH] {
        &self.bytes
    }

    /// What the key may do.
    pub fn roles(&self) -> Roles {
        self.roles
    }

    /// The dedup domain.
    pub fn domain(&self) -> DomainId {
        self.domain
    }

    /// The credential that holds the key.
    pub fn credential(&self) -> CredentialId {
        self.credential
    }

    /// The public key that signs.
    pub fn verifying_key(&self) -> &[u8; 32] {
        &self.verifying_key
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({}: {})", self.credential, self.roles)
    }
}

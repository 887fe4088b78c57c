//! How admin names credentials and finds their signing keys again, so that he can seal a slot anew without being able to open it
//! (`format-spec/keys.md`, "Sealing anew").

use crate::crypto::{Secret, derive};
use crate::id::{CredentialId, DomainId, RepositoryId};
use crate::runtime::Entropy;

/// Bytes of a domain's id that are not zero; a credential's id begins with them.
const DOMAIN_BYTES: usize = 8;
/// Bytes before the check bytes of a credential's id.
const NAMED_BYTES: usize = 12;

impl DomainId {
    /// The domain of this name; the empty name is that of the default domain.
    pub fn of_name(name: &str) -> Self {
        let mut id = [0; Self::LENGTH];
        if !name.is_empty() {
            id[..DOMAIN_BYTES].copy_from_slice(&derive("icecore 1 domain", &[name.as_bytes()]).bytes()[..DOMAIN_BYTES]);
        }
        Self(id)
    }
}

impl CredentialId {
    /// A new credential of this domain. Two of one domain are the same by chance only.
    pub(crate) fn generate(repository: &RepositoryId, domain: &DomainId, entropy: &dyn Entropy) -> Self {
        let mut id = [0; Self::LENGTH];
        id[..DOMAIN_BYTES].copy_from_slice(&domain.0[..DOMAIN_BYTES]);
        entropy.fill(&mut id[DOMAIN_BYTES..NAMED_BYTES]);
        let check = check_bytes(repository, &id);
        id[NAMED_BYTES..].copy_from_slice(&check);
        Self(id)
    }

    /// The domain that its name tells; the default one where it tells none.
    pub fn domain(&self, repository: &RepositoryId) -> DomainId {
        let mut id = [0; DomainId::LENGTH];
        if self.0[NAMED_BYTES..] == check_bytes(repository, &self.0) {
            id[..DOMAIN_BYTES].copy_from_slice(&self.0[..DOMAIN_BYTES]);
        }
        DomainId(id)
    }

    /// The signing seed that admin gives to this credential, every time the same.
    pub(crate) fn signing_seed(&self, repository: &RepositoryId, admin_seed: &Secret) -> Secret {
        derive("icecore 1 credential signing seed", &[admin_seed.bytes(), &repository.0, &self.0])
    }
}

fn check_bytes(repository: &RepositoryId, id: &[u8; CredentialId::LENGTH]) -> [u8; CredentialId::LENGTH - NAMED_BYTES] {
    let check = derive("icecore 1 credential check", &[&repository.0, &id[..NAMED_BYTES]]);
    let mut bytes = [0; CredentialId::LENGTH - NAMED_BYTES];
    bytes.copy_from_slice(&check.bytes()[..CredentialId::LENGTH - NAMED_BYTES]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::SeededEntropy;

    #[test]
    fn a_name_tells_its_domain_and_any_other_name_tells_none() {
        let (repository, entropy) = (RepositoryId([1; 16]), SeededEntropy::new(3));
        let domain = DomainId::of_name("laptops");
        assert_ne!(domain, DomainId::of_name("servers"));
        assert_eq!(DomainId::of_name("").0, [0; 16]);
        let id = CredentialId::generate(&repository, &domain, &entropy);
        assert_ne!(id, CredentialId::generate(&repository, &domain, &entropy));
        assert_eq!(id.domain(&repository), domain);
        assert_eq!(id.domain(&RepositoryId([2; 16])), DomainId([0; 16]));
        assert_eq!(CredentialId([7; 16]).domain(&repository), DomainId([0; 16]));
    }
}

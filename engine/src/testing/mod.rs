//! Beneath the seal: every decoder and every primitive, for this project's vectors and fuzz targets.
//!
//! Nothing here is part of the library's API. [`Keys`] stands for somebody who holds all keys of a repository: it decodes any
//! structure from its bare bytes, and seals and signs anew what a test has changed, so that a change gets past the first check.

mod decode;
pub mod measure;
mod nodes;
pub mod primitives;
pub mod process;
mod rewrite;
mod seal;
mod tar;

pub use decode::{CredentialParts, Decoded, Piece, Reading};
pub use nodes::{NodeValue, tree_leaf};
pub use rewrite::Part;
pub use tar::{TarFile, read_tar};

use crate::error::{Error, Result};
use crate::format::Trust;
use crate::format::cursor::Reader;
use crate::format::frame::chunk_ranges;
use crate::format::slot::Credential;
use crate::id::{CredentialId, RepositoryId};
use crate::repository::ChunkIds;

/// All keys of one repository.
#[derive(Debug, Clone)]
pub struct Keys {
    credential: Credential,
    trust: Trust,
    repository: RepositoryId,
    ids: ChunkIds,
}

impl Keys {
    /// Takes the keys out of a credential's plaintext, as a slot holds it.
    ///
    /// # Errors
    /// The rule that the credential breaks.
    pub fn new(repository: RepositoryId, credential: &[u8]) -> Result<Self> {
        let credential = Credential::decode(&repository, credential)?;
        Ok(Self::of(repository, credential))
    }

    pub(crate) fn of(repository: RepositoryId, credential: Credential) -> Self {
        let trust = Trust { repository: Some(repository), admin_key: Some(credential.admin_key), revoked: Vec::new() };
        let ids = ChunkIds::new(&credential);
        Self { credential, trust, repository, ids }
    }

    /// The same keys, but whatever is written with them is signed by the credential of `signer`.
    #[must_use]
    pub fn signing_as(mut self, signer: &Self) -> Self {
        self.credential.author = signer.credential.author.clone();
        self
    }

    /// Forgets all structure keys but those of these epochs.
    #[must_use]
    pub fn with_structure_epochs(mut self, epochs: &[u32]) -> Self {
        self.credential.structure_keys.retain(|(epoch, _)| epochs.contains(epoch));
        self
    }

    /// Forgets all restore keys but those of these epochs.
    #[must_use]
    pub fn with_restore_epochs(mut self, epochs: &[u32]) -> Self {
        self.credential.restore_keys.retain(|(epoch, _)| epochs.contains(epoch));
        self
    }

    /// Credentials that were removed, each with the structure epoch from which on nothing that it wrote counts.
    #[must_use]
    pub fn with_revoked(mut self, revoked: Vec<(CredentialId, u32)>) -> Self {
        self.trust.revoked = revoked;
        self
    }

    /// The repository.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// Takes apart what has the form of a frame's plaintext.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn split(&self, plaintext: &[u8]) -> Result<Vec<Vec<u8>>> {
        let count = usize::try_from(Reader::new(plaintext).varint()?).unwrap_or(usize::MAX);
        Ok(chunk_ranges(plaintext, count)?.into_iter().map(|range| plaintext[range].to_vec()).collect())
    }

    /// The decoded value of a piece, and whether it is the only encoding of that value.
    ///
    /// # Errors
    /// The rule that is broken; [`crate::ErrorKind::Unauthorized`] where a key is missing or the wrong one.
    pub fn decode(&self, piece: &Piece, bytes: &[u8]) -> Result<Reading> {
        decode::decode(self, piece, bytes)
    }
}

/// `condition` must hold, otherwise `rule` is broken.
fn require(condition: bool, rule: &'static str, what: &str) -> Result<()> {
    if condition { Ok(()) } else { Err(Error::rule(rule, what)) }
}

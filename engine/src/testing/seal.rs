//! Sealing and signing anew what a test has changed.

use super::Keys;
use crate::backend::{ObjectKind, ObjectName};
use crate::crypto::{SIGNATURE_LENGTH, Sealer, Secret, Signer};
use crate::error::{Error, Result};
use crate::format::object::{Author, HEADER_LENGTH, Header, Opened, TRAILER_LENGTH, check_keyless};
use crate::format::pack::{FOOTER_LENGTH, Footer, GroupHasher};
use crate::format::{Certificate, snapshot};

impl Keys {
    /// The credential's certificate.
    pub fn own_certificate(&self) -> [u8; Certificate::LENGTH] {
        *self.credential.author.certificate.bytes()
    }

    /// What lies beneath the seal of an object that is no pack: a clear body, a snapshot's header, otherwise the sealed part.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn open(&self, name: &ObjectName, bytes: &[u8]) -> Result<Vec<u8>> {
        match name.kind() {
            ObjectKind::Config | ObjectKind::Slot => check_keyless(name, bytes, &self.repository).map(|(_, body)| body.to_vec()),
            ObjectKind::Snapshot => {
                let opened = Opened::check(name, bytes, &self.trust)?;
                opened.open_part(&self.credential, 0, snapshot::split(opened.body)?.0)
            }
            _ => {
                let opened = Opened::check(name, bytes, &self.trust)?;
                opened.open_part(&self.credential, 0, opened.body)
            }
        }
    }

    /// A whole object that holds `plaintext` as its body (config, slot) or as its one sealed part, signed by whoever may write it.
    ///
    /// # Errors
    /// Where the credential lacks a key for that.
    pub fn seal(&self, name: ObjectName, plaintext: Vec<u8>) -> Result<Vec<u8>> {
        match name.kind() {
            ObjectKind::Config | ObjectKind::Slot => {
                let header = Header { name, repository: self.repository, structure_epoch: 0 };
                Ok(self.admin()?.object(&header, &plaintext))
            }
            _ => {
                let (epoch, key) = self.structure_key()?;
                let header = Header { name, repository: self.repository, structure_epoch: *epoch };
                Ok(self.credential.author.sealed_object(&header, key, plaintext))
            }
        }
    }

    /// An object of these bytes before the trailer, whatever they are, hashed and signed by the credential. Of a pack, what its footer says
    /// to be the frames region is not covered, and gets new group hashes.
    pub fn sign(&self, kind: ObjectKind, before_trailer: &[u8]) -> Vec<u8> {
        let mut bytes = before_trailer.to_vec();
        let frames = if kind.is_pack() { renew_groups(&mut bytes) } else { 0 };
        let (head, rest) = bytes.split_at(bytes.len().min(HEADER_LENGTH));
        let body = rest.get(frames..).unwrap_or_default();
        let trailer = self.credential.author.trailer_of(head, body);
        bytes.extend_from_slice(&trailer);
        bytes
    }

    /// A certificate whose signature is made anew by admin.
    ///
    /// # Errors
    /// Where the credential does not hold the admin signing key.
    pub fn sign_certificate(&self, mut bytes: [u8; Certificate::LENGTH]) -> Result<[u8; Certificate::LENGTH]> {
        let (covered, signature) = bytes.split_at_mut(Certificate::LENGTH - SIGNATURE_LENGTH);
        signature.copy_from_slice(&self.admin()?.signer.sign("icecore 1 certificate", covered));
        Ok(bytes)
    }

    /// A session record whose signature is made anew by the credential; what is too short stays as it is.
    pub fn sign_record(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if let Some(covered) = bytes.len().checked_sub(SIGNATURE_LENGTH) {
            let signature = self.credential.author.signer.sign("icecore 1 session record", &bytes[..covered]);
            bytes.truncate(covered);
            bytes.extend_from_slice(&signature);
        }
        bytes
    }

    /// A payload sealed as frame `number` with a key, and the hash of the sealed bytes.
    pub fn seal_frame(&self, key: &Secret, number: u32, mut payload: Vec<u8>) -> (Vec<u8>, [u8; 32]) {
        Sealer::new(key).seal(number, &mut payload);
        let hash = *blake3::hash(&payload).as_bytes();
        (payload, hash)
    }

    pub(super) fn admin(&self) -> Result<Author> {
        let seed = self.credential.admin_seed.as_ref().ok_or_else(|| Error::rule("SLOT-9", "the admin signing key is not there"))?;
        let signer = Signer::new(seed);
        Ok(Author { certificate: Certificate::of_admin(&signer, &self.repository, 1), signer })
    }

    pub(super) fn structure_key(&self) -> Result<&(u32, Secret)> {
        self.credential.structure_keys.first().ok_or_else(|| Error::rule("SLOT-8", "no structure key is there"))
    }
}

/// Writes the group hashes of a pack's frames region anew where its footer has place for them; gives the length of that region.
fn renew_groups(bytes: &mut [u8]) -> usize {
    let size = (bytes.len() + TRAILER_LENGTH) as u64;
    let Some(Ok(footer)) = bytes.last_chunk::<FOOTER_LENGTH>().map(|footer| Footer::decode(footer, size)) else { return 0 };
    let frames = footer.frames_length as usize;
    let end = bytes.len() - FOOTER_LENGTH;
    let mut hasher = GroupHasher::default();
    hasher.update(&bytes[HEADER_LENGTH..HEADER_LENGTH + frames]);
    bytes[end - 32 * footer.group_count()..end].copy_from_slice(&hasher.finish());
    frames
}

//! Ed25519 (RFC 8032) with a context before what is signed.

use super::Secret;
use super::memory::{note, remembered};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use std::fmt;

/// Bytes of a signature.
pub(crate) const SIGNATURE_LENGTH: usize = 64;

/// Signs with one key.
#[derive(Clone)]
pub(crate) struct Signer(Box<SigningKey>);

impl Signer {
    /// From the 32-byte seed of RFC 8032.
    pub(crate) fn new(seed: &Secret) -> Self {
        Self(remembered("signer", &[seed.bytes()], || Box::new(SigningKey::from_bytes(seed.bytes()))))
    }

    /// The public half.
    pub(crate) fn verifying_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// `sign(key, context, bytes)`
    pub(crate) fn sign(&self, context: &str, bytes: &[u8]) -> [u8; SIGNATURE_LENGTH] {
        let (key, context) = (self.verifying_key(), context.as_bytes());
        let signature = remembered("sign", &[&key, context, bytes], || self.0.sign(&[context, bytes].concat()).to_bytes());
        note("verify", &[&key, context, bytes, &signature], || true);
        signature
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

/// Whether `signature` is that of `verifying_key` over `context ‖ bytes`; keys of small order are refused.
pub(crate) fn verify(verifying_key: &[u8; 32], context: &str, bytes: &[u8], signature: &[u8; SIGNATURE_LENGTH]) -> bool {
    remembered("verify", &[verifying_key, context.as_bytes(), bytes, signature], || {
        VerifyingKey::from_bytes(verifying_key)
            .is_ok_and(|key| key.verify_strict(&[context.as_bytes(), bytes].concat(), &Signature::from_bytes(signature)).is_ok())
    })
}

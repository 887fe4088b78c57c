//! Ed25519 (RFC 8032) with a context before what is signed.

use super::Secret;
#[cfg(any(test, feature = "testing"))]
use super::stand_in;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use std::fmt;

/// Bytes of a signature.
pub(crate) const SIGNATURE_LENGTH: usize = 64;

/// Signs with one key.
#[derive(Clone)]
pub(crate) enum Signer {
    Real(Box<SigningKey>),
    /// The public half, which is all that it takes.
    #[cfg(any(test, feature = "testing"))]
    StandIn([u8; 32]),
}

impl Signer {
    /// From the 32-byte seed of RFC 8032.
    pub(crate) fn new(seed: &Secret) -> Self {
        #[cfg(any(test, feature = "testing"))]
        if stand_in::is_used() {
            return Self::StandIn(stand_in::verifying_key(seed));
        }
        Self::Real(Box::new(SigningKey::from_bytes(seed.bytes())))
    }

    /// The public half.
    pub(crate) fn verifying_key(&self) -> [u8; 32] {
        match self {
            Self::Real(key) => key.verifying_key().to_bytes(),
            #[cfg(any(test, feature = "testing"))]
            Self::StandIn(key) => *key,
        }
    }

    /// `sign(key, context, bytes)`
    pub(crate) fn sign(&self, context: &str, bytes: &[u8]) -> [u8; SIGNATURE_LENGTH] {
        match self {
            Self::Real(key) => key.sign(&[context.as_bytes(), bytes].concat()).to_bytes(),
            #[cfg(any(test, feature = "testing"))]
            Self::StandIn(key) => stand_in::signature(key, context, bytes),
        }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

/// Whether `signature` is that of `verifying_key` over `context ‖ bytes`; keys of small order are refused.
pub(crate) fn verify(verifying_key: &[u8; 32], context: &str, bytes: &[u8], signature: &[u8; SIGNATURE_LENGTH]) -> bool {
    #[cfg(any(test, feature = "testing"))]
    if stand_in::is_used() {
        return stand_in::signature(verifying_key, context, bytes) == *signature;
    }
    VerifyingKey::from_bytes(verifying_key)
        .is_ok_and(|key| key.verify_strict(&[context.as_bytes(), bytes].concat(), &Signature::from_bytes(signature)).is_ok())
}

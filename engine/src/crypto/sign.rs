//! Ed25519 (RFC 8032) with a context before what is signed.

use super::Secret;
#[cfg(any(test, feature = "testing"))]
use super::stand_in;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;

/// Bytes of a signature.
pub(crate) const SIGNATURE_LENGTH: usize = 64;
/// So many signatures that were right are remembered.
const REMEMBERED_MAX: usize = 256;
/// Names of what [`verify_repeated`] found right. Whether a signature is right depends on what its name is the hash of, on nothing else, so it is the same for all repositories of a process.
static REMEMBERED: Mutex<VecDeque<[u8; 32]>> = Mutex::new(VecDeque::new());

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

/// As [`verify`], for what stands in many objects, as certificates and session records do: looking a right one up again costs a hash instead of two curve multiplications.
pub(crate) fn verify_repeated(verifying_key: &[u8; 32], context: &str, bytes: &[u8], signature: &[u8; SIGNATURE_LENGTH]) -> bool {
    #[cfg(any(test, feature = "testing"))]
    if stand_in::is_used() {
        return verify(verifying_key, context, bytes, signature);
    }
    let mut name = blake3::Hasher::new();
    name.update(verifying_key).update(signature).update(&(context.len() as u64).to_le_bytes()).update(context.as_bytes()).update(bytes);
    let name = *name.finalize().as_bytes();
    if REMEMBERED.lock().contains(&name) {
        return true;
    }
    let is_right = verify(verifying_key, context, bytes, signature);
    if is_right {
        let mut remembered = REMEMBERED.lock();
        if remembered.len() == REMEMBERED_MAX {
            remembered.pop_front();
        }
        remembered.push_back(name);
    }
    is_right
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_that_was_right_is_right_again_and_for_nothing_else() {
        let (signer, other) = (Signer::new(&Secret::new([1; 32])), Signer::new(&Secret::new([2; 32])));
        let signature = signer.sign("context", b"bytes");
        for _ in 0..2 {
            assert!(verify_repeated(&signer.verifying_key(), "context", b"bytes", &signature));
            assert!(!verify_repeated(&other.verifying_key(), "context", b"bytes", &signature));
            assert!(!verify_repeated(&signer.verifying_key(), "other context", b"bytes", &signature));
            assert!(!verify_repeated(&signer.verifying_key(), "context", b"byte", &signature));
            let mut wrong = signature;
            wrong[0] ^= 1;
            assert!(!verify_repeated(&signer.verifying_key(), "context", b"bytes", &wrong));
        }
    }

    #[test]
    fn more_than_is_remembered_is_verified() {
        let signer = Signer::new(&Secret::new([3; 32]));
        for number in (0..REMEMBERED_MAX as u32 + 8).chain(0..8) {
            let bytes = number.to_le_bytes();
            let signature = signer.sign("many", &bytes);
            assert!(verify_repeated(&signer.verifying_key(), "many", &bytes, &signature));
        }
        assert!(REMEMBERED.lock().len() <= REMEMBERED_MAX);
    }
}

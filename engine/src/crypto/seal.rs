//! AES-256-GCM-SIV (RFC 8452).

use super::Secret;
use aes_gcm_siv::aead::AeadInOut;
use aes_gcm_siv::{Aes256GcmSiv, KeyInit};
use std::fmt;

/// Bytes that sealing adds.
pub(crate) const TAG_LENGTH: usize = 16;

/// Seals and opens with one key.
#[derive(Clone)]
pub(crate) struct Sealer(Box<Aes256GcmSiv>);

impl Sealer {
    /// For this key.
    pub(crate) fn new(key: &Secret) -> Self {
        Self(Box::new(Aes256GcmSiv::new(key.bytes().into())))
    }

    /// Replaces the plaintext by the sealed bytes. `number` is the first four bytes of the nonce, the rest is zero.
    pub(crate) fn seal(&self, number: u32, buffer: &mut Vec<u8>) {
        let nonce = nonce(number);
        self.0.encrypt_in_place((&nonce).into(), b"", buffer).expect("a vector grows, and no buffer reaches 64 GiB");
    }

    /// Replaces the sealed bytes by the plaintext; false where they do not open, and then nothing in the buffer may be used.
    #[must_use]
    pub(crate) fn open(&self, number: u32, buffer: &mut Vec<u8>) -> bool {
        let nonce = nonce(number);
        self.0.decrypt_in_place((&nonce).into(), b"", buffer).is_ok()
    }
}

fn nonce(number: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    nonce
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_what_it_sealed() {
        let sealer = Sealer::new(&Secret::new([1; 32]));
        let mut bytes = b"layers".to_vec();
        sealer.seal(7, &mut bytes);
        assert_eq!(bytes.len(), 6 + TAG_LENGTH);
        for (number, flip) in [(8, 0), (7, 1)] {
            let mut copy = bytes.clone();
            copy[0] ^= flip;
            assert!(!sealer.open(number, &mut copy), "nonce {number}, flipped {flip}");
        }
        assert!(!Sealer::new(&Secret::new([2; 32])).open(7, &mut bytes.clone()));
        assert!(sealer.open(7, &mut bytes));
        assert_eq!(bytes, b"layers");
    }
}

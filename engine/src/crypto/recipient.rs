//! HPKE (RFC 9180) with X-Wing: sealing a little to somebody's public key.

use super::Secret;
#[cfg(any(test, feature = "testing"))]
use super::stand_in;
use crate::error::{Error, ErrorKind, Result};
use crate::runtime::Entropy;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use std::convert::Infallible;
use zeroize::Zeroizing;

/// The KEM's number in the HPKE registry.
pub(crate) const KEM_X_WING: u16 = 0x647a;
/// Bytes of a public key.
pub(crate) const PUBLIC_KEY_LENGTH: usize = 1216;
/// Bytes of an encapsulated key.
pub(crate) const ENCAPSULATED_LENGTH: usize = 1120;

/// An encapsulated key and a ciphertext.
pub(super) type Wrapped = (Box<[u8; ENCAPSULATED_LENGTH]>, Vec<u8>);
/// Random bytes that one encapsulation takes.
const DRAWN_LENGTH: usize = 64;

type PrivateKey = <XWing as Kem>::PrivateKey;
type PublicKey = <XWing as Kem>::PublicKey;
type EncappedKey = <XWing as Kem>::EncappedKey;

/// The public key that belongs to a private key's seed.
pub(crate) fn public_key_of(seed: &Secret) -> Box<[u8; PUBLIC_KEY_LENGTH]> {
    #[cfg(any(test, feature = "testing"))]
    if stand_in::is_used() {
        return stand_in::public_key(seed);
    }
    let public = XWing::sk_to_pk(&private_key(seed));
    let mut bytes = Box::new([0; PUBLIC_KEY_LENGTH]);
    public.write_exact(&mut bytes[..]);
    bytes
}

/// Seals `plaintext` to `public_key`: the encapsulated key and the ciphertext.
///
/// # Errors
/// [`ErrorKind::Invalid`] where that is no public key.
pub(crate) fn wrap(public_key: &[u8; PUBLIC_KEY_LENGTH], info: &[u8], plaintext: &[u8], entropy: &dyn Entropy) -> Result<Wrapped> {
    let mut drawn = Zeroizing::new([0; DRAWN_LENGTH]);
    entropy.fill(&mut drawn[..]);
    #[cfg(any(test, feature = "testing"))]
    if stand_in::is_used()
        && let Some(drawn) = drawn.first_chunk()
    {
        return Ok(stand_in::wrap(public_key, info, plaintext, drawn));
    }
    wrap_with(public_key, info, plaintext, &drawn[..]).ok_or_else(|| Error::new(ErrorKind::Invalid, "this is no X-Wing public key"))
}

fn wrap_with(public_key: &[u8; PUBLIC_KEY_LENGTH], info: &[u8], plaintext: &[u8], drawn: &[u8]) -> Option<Wrapped> {
    let public = PublicKey::from_bytes(public_key).ok()?;
    let (encapsulated, ciphertext) = hpke::single_shot_seal_with_rng::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeS::Base,
        &public,
        info,
        plaintext,
        b"",
        &mut Drawn(drawn),
    )
    .ok()?;
    let mut bytes = Box::new([0; ENCAPSULATED_LENGTH]);
    encapsulated.write_exact(&mut bytes[..]);
    Some((bytes, ciphertext))
}

/// Opens what [`wrap`] sealed; `None` where it does not open.
pub(crate) fn unwrap(
    seed: &Secret,
    info: &[u8],
    encapsulated: &[u8; ENCAPSULATED_LENGTH],
    ciphertext: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    #[cfg(any(test, feature = "testing"))]
    if stand_in::is_used() {
        return stand_in::unwrap(seed, info, encapsulated, ciphertext).map(Zeroizing::new);
    }
    let encapsulated = EncappedKey::from_bytes(encapsulated).ok()?;
    let private = private_key(seed);
    let opened =
        hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(&OpModeR::Base, &private, &encapsulated, info, ciphertext, b"");
    opened.ok().map(Zeroizing::new)
}

fn private_key(seed: &Secret) -> PrivateKey {
    PrivateKey::from_bytes(seed.bytes()).expect("every 32 bytes are an X-Wing private key")
}

/// Random bytes as the library wants them: drawn before, and no more than that.
struct Drawn<'a>(&'a [u8]);

impl TryRng for Drawn<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> std::result::Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> std::result::Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> std::result::Result<(), Infallible> {
        let (taken, rest) = self.0.split_at(bytes.len());
        bytes.copy_from_slice(taken);
        self.0 = rest;
        Ok(())
    }
}

impl TryCryptoRng for Drawn<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::SeededEntropy;

    #[test]
    fn opens_only_with_the_right_seed_and_info() {
        let seed = Secret::new([3; 32]);
        let (encapsulated, ciphertext) = wrap(&public_key_of(&seed), b"info", b"secret", &SeededEntropy::new(1)).unwrap();
        assert_eq!(unwrap(&seed, b"info", &encapsulated, &ciphertext).unwrap()[..], *b"secret");
        assert!(unwrap(&seed, b"other", &encapsulated, &ciphertext).is_none());
        assert!(unwrap(&Secret::new([4; 32]), b"info", &encapsulated, &ciphertext).is_none());
    }
}

//! In a simulation quick hashes stand in for signatures and for what is sealed to public keys.
//!
//! The real ones take much of the time of a process that stores a few kilobytes. A simulation, in which nobody forges, wants of them only that they are
//! the same for the same input and refuse any other by chance, as these do. Anybody can make them, so they are built into tests alone, and used
//! only by a thread that asks for it.

use super::Secret;
use super::recipient::{ENCAPSULATED_LENGTH, PUBLIC_KEY_LENGTH, Wrapped};
use super::sign::SIGNATURE_LENGTH;
use std::cell::Cell;

/// Bytes that show whether something was sealed so.
const TAG_LENGTH: usize = 16;

thread_local! {
    static IS_USED: Cell<bool> = const { Cell::new(false) };
}

/// From now on this thread makes do with stand-ins, and takes nothing else for right.
pub fn use_stand_ins() {
    IS_USED.set(true);
}

pub(super) fn is_used() -> bool {
    IS_USED.get()
}

/// Bytes that depend on every byte of what goes in, and on where its pieces end.
fn fill(purpose: u64, material: &[&[u8]], out: &mut [u8]) {
    let mut state = purpose;
    let mut mix = |word: u64| state = (state.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for piece in material {
        mix(piece.len() as u64);
        let (words, rest) = piece.as_chunks::<8>();
        words.iter().for_each(|word| mix(u64::from_le_bytes(*word)));
        mix(rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    }
    for out in out.chunks_mut(8) {
        // The finish of SplitMix64 (Steele, Lea and Flood, 2014).
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        out.copy_from_slice(&(mixed ^ mixed >> 31).to_le_bytes()[..out.len()]);
    }
}

fn bytes_of<const LENGTH: usize>(purpose: u64, material: &[&[u8]]) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    fill(purpose, material, &mut bytes);
    bytes
}

pub(super) fn verifying_key(seed: &Secret) -> [u8; 32] {
    bytes_of(1, &[seed.bytes()])
}

pub(super) fn signature(verifying_key: &[u8; 32], context: &str, bytes: &[u8]) -> [u8; SIGNATURE_LENGTH] {
    bytes_of(2, &[verifying_key, context.as_bytes(), bytes])
}

pub(super) fn public_key(seed: &Secret) -> Box<[u8; PUBLIC_KEY_LENGTH]> {
    Box::new(bytes_of(3, &[seed.bytes()]))
}

/// What is drawn stands at the front of the encapsulated key, and nothing behind it.
pub(super) fn wrap(public_key: &[u8; PUBLIC_KEY_LENGTH], info: &[u8], plaintext: &[u8], drawn: &[u8; 32]) -> Wrapped {
    let mut encapsulated = Box::new([0; ENCAPSULATED_LENGTH]);
    encapsulated[..drawn.len()].copy_from_slice(drawn);
    let key = shared_key(public_key, info, drawn);
    let mut ciphertext = masked(&key, plaintext);
    ciphertext.extend_from_slice(&tag(&key, &ciphertext));
    (encapsulated, ciphertext)
}

pub(super) fn unwrap(seed: &Secret, info: &[u8], encapsulated: &[u8; ENCAPSULATED_LENGTH], ciphertext: &[u8]) -> Option<Vec<u8>> {
    let (drawn, rest) = encapsulated.split_first_chunk()?;
    let (ciphertext, its_tag) = ciphertext.split_last_chunk()?;
    let key = shared_key(&public_key(seed), info, drawn);
    let is_right = rest.iter().all(|byte| *byte == 0) && tag(&key, ciphertext) == *its_tag;
    is_right.then(|| masked(&key, ciphertext))
}

fn shared_key(public_key: &[u8; PUBLIC_KEY_LENGTH], info: &[u8], drawn: &[u8; 32]) -> [u8; 32] {
    bytes_of(4, &[public_key, drawn, info])
}

fn tag(key: &[u8; 32], ciphertext: &[u8]) -> [u8; TAG_LENGTH] {
    bytes_of(6, &[key, ciphertext])
}

fn masked(key: &[u8; 32], bytes: &[u8]) -> Vec<u8> {
    let mut mask = vec![0; bytes.len()];
    fill(5, &[key], &mut mask);
    bytes.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect()
}

#[cfg(test)]
mod tests {
    use super::TAG_LENGTH;
    use crate::crypto::{Secret, Signer, public_key_of, unwrap, use_stand_ins, verify, wrap};
    use crate::runtime::SeededEntropy;

    /// What these give for some inputs, and whether each of them is refused where one thing differs.
    fn assert_right() {
        let [seed, other] = [3, 4].map(|byte| Secret::new([byte; 32]));
        let signer = Signer::new(&seed);
        let (key, signature) = (signer.verifying_key(), signer.sign("context", b"bytes"));
        assert_eq!(Signer::new(&seed).sign("context", b"bytes"), signature);
        assert!(verify(&key, "context", b"bytes", &signature));
        let mut wrong = signature;
        wrong[63] ^= 1;
        assert!(!verify(&key, "context", b"bytes", &wrong) && !verify(&key, "contextb", b"ytes", &wrong));
        assert!(
            !verify(&key, "context", b"other", &signature)
                && !verify(&Signer::new(&other).verifying_key(), "context", b"bytes", &signature)
        );
        let (encapsulated, sealed) = wrap(&public_key_of(&seed), b"info", b"secret", &SeededEntropy::new(1)).unwrap();
        assert_eq!(sealed.len(), 6 + TAG_LENGTH);
        assert_eq!(unwrap(&seed, b"info", &encapsulated, &sealed).unwrap()[..], *b"secret");
        assert!(unwrap(&seed, b"else", &encapsulated, &sealed).is_none() && unwrap(&other, b"info", &encapsulated, &sealed).is_none());
        for at in 0..sealed.len() {
            let mut wrong = sealed.clone();
            wrong[at] ^= 1;
            assert!(unwrap(&seed, b"info", &encapsulated, &wrong).is_none());
        }
        for at in [0, 31, 32, 1119] {
            let mut wrong = encapsulated.clone();
            wrong[at] ^= 1;
            assert!(unwrap(&seed, b"info", &wrong, &sealed).is_none());
        }
    }

    #[test]
    fn stand_ins_do_what_they_stand_in_for_and_nothing_of_the_other() {
        assert_right();
        let real = Signer::new(&Secret::new([3; 32]));
        let signature = real.sign("context", b"bytes");
        use_stand_ins();
        assert_right();
        assert!(!verify(&real.verifying_key(), "context", b"bytes", &signature));
    }
}

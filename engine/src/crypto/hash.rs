//! BLAKE3 in its keyed and key-deriving modes.

use super::Secret;

/// `keyed(key, bytes)`
pub(crate) fn keyed(key: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    *blake3::keyed_hash(key, bytes).as_bytes()
}

/// `derive(context, a ‖ b ‖ …)`
pub(crate) fn derive(context: &str, material: &[&[u8]]) -> Secret {
    let mut out = Secret::zero();
    derive_into(context, material, out.bytes_mut());
    out
}

/// As [`derive`], with as many bytes of output as `out` holds.
pub(crate) fn derive_into(context: &str, material: &[&[u8]], out: &mut [u8]) {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for piece in material {
        hasher.update(piece);
    }
    hasher.finalize_xof().fill(out);
    zeroize::Zeroize::zeroize(&mut hasher);
}

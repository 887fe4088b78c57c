//! Argon2id: a passphrase becomes a seed.

use super::Secret;
use crate::error::{Error, ErrorKind, Result};
use argon2::{Algorithm, Argon2, Params, Version};

/// What deriving a seed from a passphrase costs whoever guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PassphraseCost {
    /// Memory in KiB: 8 for each lane to 65,536.
    pub memory_kib: u32,
    /// Passes over that memory: 1 to 16.
    pub passes: u32,
    /// Lanes: 1 to 16.
    pub lanes: u32,
}

impl PassphraseCost {
    /// The second choice that RFC 9106 recommends: 64 MiB, three passes, four lanes.
    pub const RECOMMENDED: Self = Self { memory_kib: 65_536, passes: 3, lanes: 4 };
    /// As cheap as it gets. For tests only.
    pub const TEST: Self = Self { memory_kib: 8, passes: 1, lanes: 1 };
}

/// Derives a slot's seed. The caller has checked the cost against the limits of SLOT-4.
///
/// # Errors
/// [`ErrorKind::Invalid`] where the cost is outside what Argon2 allows.
pub(crate) fn seed_from_passphrase(passphrase: &[u8], salt: &[u8; 32], cost: PassphraseCost) -> Result<Secret> {
    let invalid = |error: argon2::Error| Error::new(ErrorKind::Invalid, format!("Argon2id: {error}"));
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32)).map_err(invalid)?;
    let mut seed = Secret::zero();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(passphrase, salt, seed.bytes_mut()).map_err(invalid)?;
    Ok(seed)
}

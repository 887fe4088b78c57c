//! Primitives of the format under the names of `format-spec/conventions.md`: hash, seal, sign, wrap, derive.
//!
//! Nothing here knows of objects or files, and nothing else in the crate calls a cryptographic library. Secrets are
//! [`Secret`]s: cleared when dropped, never shown.

mod hash;
mod passphrase;
mod recipient;
mod seal;
mod secret;
mod sign;
#[cfg(any(test, feature = "testing"))]
mod stand_in;

pub(crate) use hash::{derive, derive_into, keyed};
pub use passphrase::PassphraseCost;
pub(crate) use passphrase::seed_from_passphrase;
pub(crate) use recipient::{ENCAPSULATED_LENGTH, KEM_X_WING, PUBLIC_KEY_LENGTH, public_key_of, unwrap, wrap};
pub(crate) use seal::{Sealer, TAG_LENGTH};
pub use secret::Secret;
pub(crate) use sign::{SIGNATURE_LENGTH, Signer, verify, verify_repeated};
#[cfg(any(test, feature = "testing"))]
pub use stand_in::use_stand_ins;

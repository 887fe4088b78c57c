//! Thirty-two secret bytes.

use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Thirty-two secret bytes: boxed so that moving leaves no copies, cleared when dropped, never shown.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(Box<[u8; 32]>);

impl Secret {
    /// Takes bytes that the caller should clear where they came from.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Box::new(bytes))
    }

    /// Copies the bytes of a slice; `None` where they are not thirty-two.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut secret = Self::zero();
        (bytes.len() == secret.0.len()).then(|| {
            secret.0.copy_from_slice(bytes);
            secret
        })
    }

    pub(crate) fn zero() -> Self {
        Self(Box::new([0; 32]))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; 32] {
        &mut self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

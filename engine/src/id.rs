//! Identifiers: newtypes over bytes, shown as lower-case hex, with no conversion between kinds.

use crate::error::{Error, ErrorKind, Result};
use std::fmt;

/// Writes bytes as lower-case hex.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// Reads lower-case hex; `None` where a character is none or the length is odd.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    bytes.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $length:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            /// Length in bytes.
            pub const LENGTH: usize = $length;

            /// The bytes.
            pub fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }

            /// Reads the full lower-case hex form.
            ///
            /// # Errors
            /// [`ErrorKind::Invalid`] where the text is not that.
            pub fn parse(text: &str) -> Result<Self> {
                from_hex(text)
                    .and_then(|bytes| bytes.try_into().ok())
                    .map(Self)
                    .ok_or_else(|| Error::new(ErrorKind::Invalid, format!("`{text}` is not {} lower-case hex digits", $length * 2)))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), to_hex(&self.0))
            }
        }
    };
}

id!(
    /// Names a repository; random.
    RepositoryId, 16
);
id!(
    /// Names a chunk by its content: keyed BLAKE3 with the chunk's kind bound in.
    ChunkId, 32
);
id!(
    /// Names a pack object; random.
    PackId, 16
);
id!(
    /// Names an index object; random.
    IndexId, 16
);
id!(
    /// Names a relocations object; random.
    RelocationsId, 16
);
id!(
    /// Names a tier; random.
    TierId, 16
);
id!(
    /// Names a placement object; random, or that of the tier that it makes.
    PlacementId, 16
);
id!(
    /// Names a sidecar: a hash of the name of what it heals.
    SidecarId, 16
);
id!(
    /// Names a snapshot; random.
    SnapshotId, 16
);
id!(
    /// Names a hold; random.
    HoldId, 16
);
id!(
    /// Names a session: a hash of the credential's signing key and a nonce.
    SessionId, 16
);
id!(
    /// Names a key slot; random, kept when the slot is sealed again.
    SlotId, 16
);
id!(
    /// Names a credential and tells its dedup domain; zero for admin.
    CredentialId, 16
);
id!(
    /// Names a dedup domain; all zero is the default domain. [`DomainId::of_name`] makes it.
    DomainId, 16
);

/// What a frame holds; the two highest bits of its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FrameClass {
    /// Chunks of content, in `packs/`.
    Data,
    /// Tree and recipe nodes, in `meta/`.
    Meta,
    /// Refs nodes, in `refs/`.
    Refs,
}

/// A frame's identity for ever: the session that sealed it and its number within that session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameId {
    /// The session that sealed the frame.
    pub session: SessionId,
    /// The number within the session; the two highest bits give the class.
    pub number: u32,
}

impl FrameId {
    /// The class that the number carries; `None` for the reserved fourth one.
    pub fn class(&self) -> Option<FrameClass> {
        match self.number >> 30 {
            0 => Some(FrameClass::Data),
            1 => Some(FrameClass::Meta),
            2 => Some(FrameClass::Refs),
            _ => None,
        }
    }
}

impl fmt::Display for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.session, self.number)
    }
}

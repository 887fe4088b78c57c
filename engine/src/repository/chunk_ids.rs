//! Chunk ids (`format-spec/chunking.md`).

use crate::crypto::{Secret, derive, keyed};
use crate::error::{Error, ErrorKind, Result};
use crate::format::slot::Credential;
use crate::id::{ChunkId, FrameClass};
use crate::limits::CHUNK_SIZE_MAX;

/// What a chunk is; bound into its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ChunkKind {
    Data = 1,
    Tree = 2,
    Recipe = 3,
    Refs = 4,
}

impl ChunkKind {
    /// In frames of which class such chunks stand.
    pub(crate) fn class(self) -> FrameClass {
        match self {
            Self::Data => FrameClass::Data,
            Self::Tree | Self::Recipe => FrameClass::Meta,
            Self::Refs => FrameClass::Refs,
        }
    }
}

/// Names chunks by their content.
#[derive(Debug, Clone)]
pub(crate) struct ChunkIds {
    keys: Option<[Secret; 3]>,
    refs: Secret,
}

impl ChunkIds {
    /// With the keys of a credential.
    pub(crate) fn new(credential: &Credential) -> Self {
        let of_kind = |key: &Secret| {
            [ChunkKind::Data, ChunkKind::Tree, ChunkKind::Recipe].map(|kind| derive("icecore 1 chunk id", &[key.bytes(), &[kind as u8]]))
        };
        Self { keys: credential.chunk_id_key.as_ref().map(of_kind), refs: derive("icecore 1 refs id", &[credential.token_key.bytes()]) }
    }

    /// The id of a chunk.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] where the credential lacks the chunk-id key.
    pub(crate) fn id_of(&self, kind: ChunkKind, bytes: &[u8]) -> Result<ChunkId> {
        let key = match (kind, &self.keys) {
            (ChunkKind::Refs, _) => &self.refs,
            (_, Some(keys)) => &keys[kind as usize - 1],
            (_, None) => {
                return Err(Error::new(
                    ErrorKind::Unauthorized,
                    "this credential cannot name chunks; use one with the role backup or restore",
                ));
            }
        };
        Ok(ChunkId(keyed(key.bytes(), bytes)))
    }

    /// Whether these bytes are the chunk with this id (CHUNK-1, CHUNK-2).
    ///
    /// # Errors
    /// The rule that is broken, or as [`Self::id_of`].
    pub(crate) fn check(&self, kind: ChunkKind, id: &ChunkId, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() || bytes.len() > CHUNK_SIZE_MAX {
            return Err(Error::rule("CHUNK-1", format!("chunk {id} has {} bytes", bytes.len())));
        }
        match self.id_of(kind, bytes)? == *id {
            true => Ok(()),
            false => Err(Error::rule("CHUNK-2", format!("the bytes stored for chunk {id} are not that chunk"))),
        }
    }

    /// Whether a chunk in a frame of `class` has the id that the contents table gives (FRAME-7).
    ///
    /// # Errors
    /// FRAME-7, or as [`Self::id_of`].
    pub(crate) fn check_in_frame(&self, class: FrameClass, id: &ChunkId, bytes: &[u8]) -> Result<()> {
        let kinds: &[ChunkKind] = match class {
            FrameClass::Data => &[ChunkKind::Data],
            FrameClass::Meta => &[ChunkKind::Tree, ChunkKind::Recipe],
            FrameClass::Refs => &[ChunkKind::Refs],
        };
        for kind in kinds {
            if self.id_of(*kind, bytes)? == *id {
                return Ok(());
            }
        }
        Err(Error::rule("FRAME-7", format!("chunk {id} has other bytes than its id says")))
    }
}

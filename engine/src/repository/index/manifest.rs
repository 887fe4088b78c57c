//! The manifest: which files make up the index and which packs are in it.
//!
//! ```text
//! magic 16 | repository 16 | next file number 8
//! packs 8, each: kind 1, id 16, frames 4, listed 1
//! three times (chunks, ids, places): files 4, each: number 8, records 8, hash of fences 32
//! BLAKE3 of all before 32
//! ```
//! Numbers are little-endian. Written under another name and renamed, so there is an old one or a new one, never a half.

use super::packs::PackTable;
use super::record_file::FileName;
use crate::backend::ObjectKind;
use crate::id::{PackId, RepositoryId};

const MAGIC: &[u8; 16] = b"icecore-index-1\n";

/// What a manifest says.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) number_next: u64,
    pub(super) packs: PackTable,
    pub(super) chunks: Vec<FileName>,
    pub(super) ids: Vec<FileName>,
    pub(super) places: Vec<FileName>,
}

/// The bytes of a manifest of these parts.
pub(super) fn encode(repository: RepositoryId, number_next: u64, packs: &PackTable, files: [Vec<FileName>; 3]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256 + packs.iter().len() * 22);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(repository.as_bytes());
    bytes.extend_from_slice(&number_next.to_le_bytes());
    bytes.extend_from_slice(&(packs.iter().len() as u64).to_le_bytes());
    for pack in packs.iter() {
        bytes.push(pack.kind as u8);
        bytes.extend_from_slice(pack.id.as_bytes());
        bytes.extend_from_slice(&pack.frames.to_le_bytes());
        bytes.push(u8::from(pack.is_listed));
    }
    for names in files {
        bytes.extend_from_slice(&(names.len() as u32).to_le_bytes());
        for name in names {
            bytes.extend_from_slice(&name.number.to_le_bytes());
            bytes.extend_from_slice(&name.records.to_le_bytes());
            bytes.extend_from_slice(&name.fences_hash);
        }
    }
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

/// Reads a manifest of `repository`; `None` where the bytes are anything else.
pub(super) fn decode(bytes: &[u8], repository: RepositoryId) -> Option<Manifest> {
    let (body, hash) = bytes.split_last_chunk::<32>()?;
    if blake3::hash(body) != *hash {
        return None;
    }
    let mut rest = body.strip_prefix(MAGIC)?.strip_prefix(repository.as_bytes())?;
    let mut manifest = Manifest { number_next: u64::from_le_bytes(take(&mut rest)?), ..Manifest::default() };
    for _ in 0..u64::from_le_bytes(take(&mut rest)?) {
        let [kind] = take(&mut rest)?;
        let kind = ObjectKind::ALL.into_iter().find(|&known| known as u8 == kind)?;
        let id = PackId(take(&mut rest)?);
        let frames = u32::from_le_bytes(take(&mut rest)?);
        let [is_listed] = take(&mut rest)?;
        manifest.packs.restore(kind, id, frames, is_listed == 1).ok()?;
    }
    for names in [&mut manifest.chunks, &mut manifest.ids, &mut manifest.places] {
        for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
            names.push(FileName {
                number: u64::from_le_bytes(take(&mut rest)?),
                records: u64::from_le_bytes(take(&mut rest)?),
                fences_hash: take(&mut rest)?,
            });
        }
    }
    rest.is_empty().then_some(manifest)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

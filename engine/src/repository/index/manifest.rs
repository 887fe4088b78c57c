//! The manifest: which files make up the index and which packs are in it.
//!
//! ```text
//! magic 16 | repository 16 | next file number 8
//! sessions 4, each: id 16, domain 16
//! packs 8, each: kind 1, id 16, frames 4, digest 4, listed 1
//! runs 4, each: number 8, width 1, pages 8, entries 8, first pack 4, pack after the last 4, hash of fences 32
//! twice (ids, places): files 4, each: number 8, records 8, hash of fences 32
//! BLAKE3 of all before 32
//! ```
//! Numbers are little-endian. Written under another name and renamed, so there is an old one or a new one, never a half.

use super::packs::{Pack, PackTable};
use super::record_file::FileName;
use super::run::RunName;
use super::sessions::SessionTable;
use super::state::State;
use crate::backend::ObjectKind;
use crate::id::{DomainId, PackId, RepositoryId, SessionId};

const MAGIC: &[u8; 16] = b"icecore-index-2\n";

/// What a manifest says.
#[derive(Debug, Default)]
pub(super) struct Manifest {
    pub(super) number_next: u64,
    pub(super) sessions: SessionTable,
    pub(super) packs: PackTable,
    pub(super) chunks: Vec<RunName>,
    pub(super) ids: Vec<FileName>,
    pub(super) places: Vec<FileName>,
}

/// The bytes of the manifest of a state, of which nothing is in memory only.
pub(super) fn encode(repository: RepositoryId, number_next: u64, state: &State) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(256 + state.packs.iter().len() * 26 + state.sessions.iter().len() * 32);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(repository.as_bytes());
    bytes.extend_from_slice(&number_next.to_le_bytes());
    bytes.extend_from_slice(&(state.sessions.iter().len() as u32).to_le_bytes());
    for (session, domain) in state.sessions.iter() {
        bytes.extend_from_slice(session.as_bytes());
        bytes.extend_from_slice(domain.as_bytes());
    }
    bytes.extend_from_slice(&(state.packs.iter().len() as u64).to_le_bytes());
    for pack in state.packs.iter() {
        bytes.push(pack.kind as u8);
        bytes.extend_from_slice(pack.id.as_bytes());
        bytes.extend_from_slice(&pack.frames.to_le_bytes());
        bytes.extend_from_slice(&pack.digest.to_le_bytes());
        bytes.push(u8::from(pack.is_listed));
    }
    bytes.extend_from_slice(&(state.chunks.len() as u32).to_le_bytes());
    for name in state.chunks.iter().map(|run| run.name()) {
        bytes.extend_from_slice(&name.number.to_le_bytes());
        bytes.push(name.width);
        bytes.extend_from_slice(&name.pages.to_le_bytes());
        bytes.extend_from_slice(&name.entries.to_le_bytes());
        bytes.extend_from_slice(&name.packs.start.to_le_bytes());
        bytes.extend_from_slice(&name.packs.end.to_le_bytes());
        bytes.extend_from_slice(&name.fences_hash);
    }
    let ids: Vec<_> = state.ids.iter().map(|file| file.name()).collect();
    let places: Vec<_> = state.places.iter().map(|file| file.name()).collect();
    for names in [ids, places] {
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
    for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
        let (session, domain) = (SessionId(take(&mut rest)?), DomainId(take(&mut rest)?));
        manifest.sessions.add(session, || domain);
    }
    for _ in 0..u64::from_le_bytes(take(&mut rest)?) {
        let [kind] = take(&mut rest)?;
        let kind = ObjectKind::ALL.into_iter().find(|&known| known as u8 == kind)?;
        let id = PackId(take(&mut rest)?);
        let frames = u32::from_le_bytes(take(&mut rest)?);
        let digest = u32::from_le_bytes(take(&mut rest)?);
        let [is_listed] = take(&mut rest)?;
        manifest.packs.restore(Pack { kind, id, first: 0, frames, digest, is_listed: is_listed == 1 }).ok()?;
    }
    for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
        let number = u64::from_le_bytes(take(&mut rest)?);
        let [width] = take(&mut rest)?;
        manifest.chunks.push(RunName {
            number,
            width,
            pages: u64::from_le_bytes(take(&mut rest)?),
            entries: u64::from_le_bytes(take(&mut rest)?),
            packs: u32::from_le_bytes(take(&mut rest)?)..u32::from_le_bytes(take(&mut rest)?),
            fences_hash: take(&mut rest)?,
        });
    }
    for names in [&mut manifest.ids, &mut manifest.places] {
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

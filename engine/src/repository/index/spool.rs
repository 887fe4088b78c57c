//! Contents tables of packs that cannot be fetched again, kept in a temporary file for as long as the index lives.

use super::tables::ContentsSource;
use crate::backend::ObjectKind;
use crate::error::{Error, ErrorKind, Result};
use crate::format::{ContentsTable, FrameRecord};
use crate::id::{ChunkId, FrameId, PackId, SessionId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of a frame before its chunk ids.
const FRAME_LENGTH: usize = 64;

/// Keeps what is added. Bases are left out: nothing is read by what is looked up here.
#[derive(Debug)]
pub struct Spool {
    file: File,
    tables: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    /// Where a table begins, and how long it is.
    of_pack: HashMap<(ObjectKind, PackId), (u64, usize)>,
    length: u64,
}

impl Spool {
    /// An empty one, where the operating system wants temporary files.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where there can be no such file.
    pub fn new() -> Result<Self> {
        Ok(Self { file: tempfile::tempfile().map_err(failed)?, tables: Mutex::default() })
    }
}

impl ContentsSource for Spool {
    fn contents(&self, kind: ObjectKind, pack: PackId) -> Result<ContentsTable> {
        let place = self.tables.lock().of_pack.get(&(kind, pack)).copied();
        let (offset, length) = place.ok_or_else(|| Error::new(ErrorKind::NotFound, "this pack was not added"))?;
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset).map_err(failed)?;
        Ok(decode(&bytes))
    }

    fn keep(&self, kind: ObjectKind, pack: PackId, table: &ContentsTable) -> Result<()> {
        let bytes = encode(table);
        let mut tables = self.tables.lock();
        self.file.write_all_at(&bytes, tables.length).map_err(failed)?;
        let place = (tables.length, bytes.len());
        tables.of_pack.insert((kind, pack), place);
        tables.length += bytes.len() as u64;
        Ok(())
    }
}

fn failed(error: io::Error) -> Error {
    Error::io("a temporary file of the index", error).with_kind(ErrorKind::Unavailable)
}

/// For each frame: session 16, number 4, sealed length 4, plaintext length 4, chunk count 4, hash 32, chunk ids 32 each.
fn encode(table: &ContentsTable) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in &table.frames {
        bytes.extend_from_slice(frame.id.session.as_bytes());
        for number in [frame.id.number, frame.sealed_length, frame.plaintext_length, frame.chunks.len() as u32] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&frame.hash);
        frame.chunks.iter().for_each(|id| bytes.extend_from_slice(id.as_bytes()));
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> ContentsTable {
    let mut frames = Vec::new();
    while let Some((frame, after)) = bytes.split_at_checked(FRAME_LENGTH) {
        let number = |at: usize| frame[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
        let (ids, after) = after.split_at(after.len().min(number(28) as usize * ChunkId::LENGTH));
        frames.push(FrameRecord {
            id: FrameId { session: SessionId(array(frame)), number: number(16) },
            sealed_length: number(20),
            plaintext_length: number(24),
            hash: array(&frame[32..]),
            bases: Vec::new(),
            chunks: ids.as_chunks().0.iter().map(|id| ChunkId(*id)).collect(),
        });
        bytes = after;
    }
    ContentsTable { frames }
}

/// The bytes with which a slice begins, which has as many.
fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_come_back() {
        let frame = |n: u8| FrameRecord {
            id: FrameId { session: SessionId([n; 16]), number: 3 << 20 | u32::from(n) },
            sealed_length: 1 + u32::from(n),
            plaintext_length: 1000,
            hash: [0xf0 | n; 32],
            bases: Vec::new(),
            chunks: (0..n).map(|chunk| ChunkId([chunk; 32])).collect(),
        };
        let tables = [0, 1, 5].map(|frames| ContentsTable { frames: (0..frames).map(frame).collect() });
        let spool = Spool::new().unwrap();
        for (n, table) in (0..).zip(&tables) {
            spool.keep(ObjectKind::MetaPack, PackId([n; 16]), table).unwrap();
        }
        for (n, table) in (0..).zip(&tables) {
            assert_eq!(&spool.contents(ObjectKind::MetaPack, PackId([n; 16])).unwrap(), table);
        }
        assert_eq!(spool.contents(ObjectKind::DataPack, PackId([0; 16])).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

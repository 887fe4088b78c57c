//! Index objects: the contents tables of many packs (`format-spec/index.md`).

use super::certificate::Trust;
use super::contents_table::{ContentsTable, FrameRecord, Named, Positions};
use super::cursor::{Reader, Write};
use super::session::SessionRecord;
use crate::backend::ObjectKind;
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId, RepositoryId};
use crate::limits::INDEX_PACKS_MAX;

/// The contents tables of many packs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexBody {
    /// Session records in the order in which frames first use them.
    pub sessions: Vec<SessionRecord>,
    /// Packs with their contents, ascending by kind and id.
    pub packs: Vec<(ObjectKind, PackId, ContentsTable)>,
}

impl IndexBody {
    /// Bytes of contents after which a writer begins another object: so much whoever reads them has in memory at once. No rule of the format.
    pub(crate) const LENGTH_END: usize = 16 << 20;

    /// About how many bytes the contents of a pack take in one.
    pub(crate) fn length_of(contents: &ContentsTable) -> usize {
        contents.frames.iter().map(FrameRecord::table_length).sum()
    }

    /// Takes the packs of one object: the next ones, until their contents have `length_end` bytes.
    pub(crate) fn take_packs(
        packs: &mut impl Iterator<Item = (ObjectKind, PackId, ContentsTable)>,
        length_end: usize,
    ) -> Vec<(ObjectKind, PackId, ContentsTable)> {
        let (mut taken, mut length) = (Vec::new(), 0);
        while length < length_end
            && taken.len() < INDEX_PACKS_MAX
            && let Some(pack) = packs.next()
        {
            length += Self::length_of(&pack.2);
            taken.push(pack);
        }
        taken
    }

    /// The plaintext of the sealed part.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.put_bytes(&[0; 8]);
        bytes.put_bytes(&[0; ChunkId::LENGTH]);
        bytes.put_bytes(&[0xff; ChunkId::LENGTH]);
        let positions = Positions::encode(&self.sessions, self.packs.iter().map(|(_, _, contents)| contents), &mut bytes);
        bytes.put_varint(self.packs.len() as u64);
        for (kind, pack, contents) in &self.packs {
            bytes.put_u8(kind.number());
            bytes.put_bytes(&pack.0);
            positions.encode_frames(contents, &mut bytes);
        }
        bytes
    }

    /// Reads it (INDEX-1 to INDEX-5).
    ///
    /// # Errors
    /// The rule that is broken; [`crate::ErrorKind::Unsupported`] for another level.
    pub fn decode(bytes: &[u8], repository: &RepositoryId, trust: &Trust) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let level = reader.u8()?;
        if level != 0 {
            return Err(Error::unsupported("INDEX-1", format!("index object of level {level}; a newer icecore reads it")));
        }
        reader.reserved(7, "INDEX-2")?;
        if reader.array()? != [0; ChunkId::LENGTH] || reader.array()? != [0xff; ChunkId::LENGTH] {
            return Err(Error::rule("INDEX-2", "the range of a level 0 index object is not everything"));
        }
        let mut named = Named::decode(&mut reader, repository, trust)?;
        let count = reader.varint()?;
        if count == 0 || count > INDEX_PACKS_MAX as u64 {
            return Err(Error::rule("INDEX-4", format!("{count} packs")));
        }
        let mut packs: Vec<(ObjectKind, PackId, ContentsTable)> = Vec::new();
        for _ in 0..count {
            let (kind, pack) = (reader.u8()?, PackId(reader.array()?));
            let kind = ObjectKind::from_number(kind).filter(|kind| kind.is_pack());
            let kind = kind.filter(|kind| packs.last().is_none_or(|(k, p, _)| (*k, *p) < (*kind, pack)));
            let kind = kind.ok_or_else(|| Error::rule("INDEX-4", "packs are not ascending, or are no packs"))?;
            packs.push((kind, pack, named.decode_frames(&mut reader, kind)?));
        }
        reader.end()?;
        Ok(Self { sessions: named.all_used()?, packs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{FrameClass, FrameId, SessionId};

    #[test]
    fn an_object_ends_after_so_many_bytes() {
        let contents = |chunks: usize| ContentsTable {
            frames: vec![FrameRecord {
                id: FrameId::new(SessionId([1; 16]), FrameClass::Data, 0),
                sealed_length: 1,
                plaintext_length: 1,
                hash: [0; 32],
                bases: Vec::new(),
                chunks: vec![ChunkId([0; 32]); chunks],
            }],
        };
        let packs = (0..7).map(|n| (ObjectKind::DataPack, PackId([n; 16]), contents(10)));
        let mut packs = packs.chain([(ObjectKind::MetaPack, PackId([0; 16]), contents(1000))]);
        let mut counts = Vec::new();
        loop {
            let taken = IndexBody::take_packs(&mut packs, 1000);
            match taken.len() {
                0 => break,
                count => counts.push(count),
            }
        }
        assert_eq!(counts, [3, 3, 2], "384 bytes for each pack but the last");
    }
}

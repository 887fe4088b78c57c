//! Contents tables: the frames of a pack and the chunks in each, and the sessions that sealed them (`format-spec/pack.md`).

use super::certificate::{Roles, Trust};
use super::cursor::{Reader, Write};
use super::session::SessionRecord;
use crate::backend::ObjectKind;
use crate::error::{Error, Result};
use crate::id::{ChunkId, FrameClass, FrameId, RepositoryId, SessionId};
use crate::limits::{
    BASES_LENGTH_MAX, BASES_MAX, FRAME_CHUNKS_MAX, FRAME_PLAINTEXT_MAX, FRAME_SEALED_MAX, PACK_FRAMES_MAX, PACK_SESSIONS_MAX,
};
use std::collections::{HashMap, HashSet};

/// Bits of a frame number that count; the two above are the class.
const COUNTER_BITS: u32 = 30;

/// The frames of a pack in the order in which they lie there, the first directly after the pack's header, each directly after the one before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContentsTable {
    /// The frames.
    pub frames: Vec<FrameRecord>,
}

/// What a contents table says of one frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameRecord {
    /// Its identity.
    pub id: FrameId,
    /// Bytes in the pack, tag included.
    pub sealed_length: u32,
    /// Bytes once opened and decompressed, chunk lengths included.
    pub plaintext_length: u32,
    /// BLAKE3 of the sealed bytes, without key.
    pub hash: [u8; 32],
    /// What it is compressed against; empty for a frame that stands alone.
    pub bases: Vec<BaseRange>,
    /// The ids of its chunks in order; at least one.
    pub chunks: Vec<ChunkId>,
}

/// A stretch of an older frame's plaintext that a frame is compressed against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseRange {
    /// The older frame; itself without bases.
    pub frame: FrameId,
    /// The first chunk of the frame with the base that it is meant for, counted from 0: where to look for a base of what comes after that chunk's version.
    pub chunk: u16,
    /// Where the stretch begins in that frame's chunk bytes.
    pub offset: u32,
    /// How long it is.
    pub length: u32,
}

impl FrameRecord {
    /// About how many bytes it takes in a table, and not less.
    pub(crate) fn table_length(&self) -> usize {
        64 + ChunkId::LENGTH * self.chunks.len() + 36 * self.bases.len()
    }
}

impl ObjectKind {
    /// The class of the frames in a pack of this kind; `None` for what is no pack.
    pub fn frame_class(self) -> Option<FrameClass> {
        match self {
            Self::DataPack => Some(FrameClass::Data),
            Self::MetaPack => Some(FrameClass::Meta),
            Self::RefsPack => Some(FrameClass::Refs),
            _ => None,
        }
    }
}

impl FrameId {
    /// Frame `counter` of `class` in `session`.
    pub fn new(session: SessionId, class: FrameClass, counter: u32) -> Self {
        Self { session, number: (class as u32) << COUNTER_BITS | counter }
    }

    /// The number without its class.
    pub fn counter(&self) -> u32 {
        self.number & ((1 << COUNTER_BITS) - 1)
    }
}

/// The sealed tables of a pack: who sealed its frames, and the contents table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// Session records in the order in which frames first use them.
    pub sessions: Vec<SessionRecord>,
    /// The frames.
    pub contents: ContentsTable,
}

impl Tables {
    /// The plaintext of a pack's sealed part.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let positions = Positions::encode(&self.sessions, [&self.contents], &mut bytes);
        positions.encode_frames(&self.contents, &mut bytes);
        bytes
    }

    /// Reads it, for a pack of `kind` with `frames_length` bytes of frames, written by a key with `writer_roles` (PACK-5 to PACK-12).
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn decode(
        bytes: &[u8],
        kind: ObjectKind,
        frames_length: u64,
        writer: (&[u8; 32], Roles),
        repository: &RepositoryId,
        trust: &Trust,
    ) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        let mut named = Named::decode(&mut reader, repository, trust)?;
        let contents = named.decode_frames(&mut reader, kind)?;
        reader.end()?;
        let sessions = named.all_used()?;
        let sum: u64 = contents.frames.iter().map(|frame| u64::from(frame.sealed_length)).sum();
        if sum != frames_length {
            return Err(Error::rule("PACK-9", format!("frames of {sum} bytes in all, {frames_length} are there")));
        }
        check_writer(&sessions, writer)?;
        Ok(Self { sessions, contents })
    }
}

/// Only maintain may write frames of other sessions (PACK-12).
pub(crate) fn check_writer(sessions: &[SessionRecord], (key, roles): (&[u8; 32], Roles)) -> Result<()> {
    match roles.contain(Roles::MAINTAIN) || sessions.iter().all(|session| session.certificate().verifying_key() == key) {
        true => Ok(()),
        false => Err(Error::rule("PACK-12", "it holds frames of another session and was not written by maintain")),
    }
}

/// Where the sessions of frames and of bases stand in front of them, as frames name them.
pub(crate) struct Positions {
    sessions: HashMap<SessionId, u64>,
    bases: HashMap<SessionId, u64>,
}

impl Positions {
    /// Writes the sessions table, and the sessions of all bases of `contents` in the order in which bases first name them.
    pub(crate) fn encode<'a>(
        sessions: &[SessionRecord],
        contents: impl IntoIterator<Item = &'a ContentsTable>,
        bytes: &mut Vec<u8>,
    ) -> Self {
        bytes.put_varint(sessions.len() as u64);
        sessions.iter().for_each(|session| bytes.put_bytes(session.bytes()));
        let sessions = sessions.iter().enumerate().map(|(position, session)| (session.id(), position as u64)).collect();
        let (mut bases, mut ids) = (HashMap::new(), Vec::new());
        for base in contents.into_iter().flat_map(|contents| &contents.frames).flat_map(|frame| &frame.bases) {
            bases.entry(base.frame.session).or_insert_with(|| {
                ids.push(base.frame.session);
                ids.len() as u64 - 1
            });
        }
        bytes.put_varint(ids.len() as u64);
        ids.iter().for_each(|id| bytes.put_bytes(&id.0));
        Self { sessions, bases }
    }

    /// Writes the frames of one pack.
    pub(crate) fn encode_frames(&self, contents: &ContentsTable, bytes: &mut Vec<u8>) {
        bytes.put_varint(contents.frames.len() as u64);
        for frame in &contents.frames {
            bytes.put_varint(self.sessions[&frame.id.session]);
            bytes.put_varint(u64::from(frame.id.counter()));
            bytes.put_varint(u64::from(frame.sealed_length));
            bytes.put_varint(u64::from(frame.plaintext_length));
            bytes.put_bytes(&frame.hash);
            bytes.put_varint(frame.bases.len() as u64);
            for base in &frame.bases {
                bytes.put_varint(self.bases[&base.frame.session]);
                bytes.put_varint(u64::from(base.frame.counter()));
                bytes.put_varint(u64::from(base.chunk));
                bytes.put_varint(u64::from(base.offset));
                bytes.put_varint(u64::from(base.length));
            }
            bytes.put_varint(frame.chunks.len() as u64);
            frame.chunks.iter().for_each(|id| bytes.put_bytes(&id.0));
        }
    }
}

/// The sessions that frames and bases name by their position, and how many of them were named so far.
pub(crate) struct Named {
    sessions: Vec<SessionRecord>,
    used: usize,
    bases: Vec<SessionId>,
    bases_used: usize,
}

impl Named {
    /// Reads both lists (PACK-5, but for what the frames show).
    pub(crate) fn decode(reader: &mut Reader<'_>, repository: &RepositoryId, trust: &Trust) -> Result<Self> {
        let count = reader.varint()?;
        if count == 0 || count > PACK_SESSIONS_MAX as u64 {
            return Err(Error::rule("PACK-5", format!("{count} session records")));
        }
        let mut sessions = Vec::new();
        let mut seen = HashSet::new();
        for _ in 0..count {
            let session = SessionRecord::decode(reader, repository, trust)?;
            if !seen.insert(session.id()) {
                return Err(Error::rule("PACK-5", format!("session {} stands twice", session.id())));
            }
            sessions.push(session);
        }
        seen.clear();
        let mut bases = Vec::new();
        for _ in 0..reader.count(SessionId::LENGTH)? {
            let session = SessionId(reader.array()?);
            if !seen.insert(session) {
                return Err(Error::rule("PACK-5", format!("session {session} of bases stands twice")));
            }
            bases.push(session);
        }
        Ok(Self { sessions, used: 0, bases, bases_used: 0 })
    }

    /// Gives the session records, once all frames were read (the rest of PACK-5).
    pub(crate) fn all_used(self) -> Result<Vec<SessionRecord>> {
        match (self.used == self.sessions.len(), self.bases_used == self.bases.len()) {
            (true, true) => Ok(self.sessions),
            (false, _) => Err(Error::rule("PACK-5", "a session record is used by no frame")),
            (true, false) => Err(Error::rule("PACK-5", "a session of bases is named by none")),
        }
    }

    /// Reads the frames of one pack (PACK-6 to PACK-8, PACK-10, PACK-11).
    pub(crate) fn decode_frames(&mut self, reader: &mut Reader<'_>, kind: ObjectKind) -> Result<ContentsTable> {
        let count = reader.varint()?;
        if count == 0 || count > PACK_FRAMES_MAX as u64 {
            return Err(Error::rule("PACK-6", format!("{count} frames")));
        }
        let class = kind.frame_class().ok_or_else(|| Error::rule("PACK-7", "frames outside a pack"))?;
        let mut contents = ContentsTable::default();
        let mut ids = HashSet::new();
        for _ in 0..count {
            let frame = self.decode_frame(reader, class)?;
            if !ids.insert(frame.id) {
                return Err(Error::rule("PACK-7", format!("frame {} stands twice", frame.id)));
            }
            contents.frames.push(frame);
        }
        Ok(contents)
    }

    fn decode_frame(&mut self, reader: &mut Reader<'_>, class: FrameClass) -> Result<FrameRecord> {
        let position = reader.varint()?;
        let session = usize::try_from(position).ok().and_then(|position| self.sessions.get(position));
        let session = session.ok_or_else(|| Error::rule("PACK-7", format!("session {position} of {}", self.sessions.len())))?.id();
        first_use(position, &mut self.used)?;
        let counter = reader.varint()?;
        if counter >> COUNTER_BITS != 0 {
            return Err(Error::rule("PACK-7", format!("frame counter {counter}")));
        }
        let (sealed_length, plaintext_length) = (reader.varint()?, reader.varint()?);
        if !(18..=FRAME_SEALED_MAX as u64).contains(&sealed_length) || !(2..=FRAME_PLAINTEXT_MAX as u64).contains(&plaintext_length) {
            return Err(Error::rule("PACK-8", format!("a frame of {sealed_length} sealed and {plaintext_length} plaintext bytes")));
        }
        let hash = reader.array()?;
        let id = FrameId::new(session, class, counter as u32);
        let bases = self.decode_bases(reader, id, class)?;
        let count = reader.varint()?;
        if count == 0 || count > FRAME_CHUNKS_MAX as u64 {
            return Err(Error::rule("PACK-11", format!("{count} chunks in a frame")));
        }
        let bytes = reader.bytes(count as usize * ChunkId::LENGTH)?;
        if bases.last().is_some_and(|base| u64::from(base.chunk) >= count) {
            return Err(Error::rule("PACK-11", "a base is meant for a chunk that the frame does not have"));
        }
        let chunks: Vec<ChunkId> = bytes.as_chunks::<{ ChunkId::LENGTH }>().0.iter().map(|id| ChunkId(*id)).collect();
        let mut sorted = chunks.clone();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::rule("PACK-11", "a chunk stands twice in one frame"));
        }
        Ok(FrameRecord { id, sealed_length: sealed_length as u32, plaintext_length: plaintext_length as u32, hash, bases, chunks })
    }

    /// Reads the bases of frame `id` (PACK-10).
    fn decode_bases(&mut self, reader: &mut Reader<'_>, id: FrameId, class: FrameClass) -> Result<Vec<BaseRange>> {
        let wrong = |what: String| Error::rule("PACK-10", format!("frame {id}: {what}"));
        let count = reader.varint()?;
        if count > BASES_MAX as u64 || (count > 0 && class == FrameClass::Refs) {
            return Err(wrong(format!("{count} bases")));
        }
        let mut bases: Vec<BaseRange> = Vec::with_capacity(count as usize);
        let mut sum = 0;
        for _ in 0..count {
            let (position, counter) = (reader.varint()?, reader.varint()?);
            let (chunk, offset, length) = (reader.varint()?, reader.varint()?, reader.varint()?);
            let session = usize::try_from(position).ok().and_then(|position| self.bases.get(position));
            let session = *session.ok_or_else(|| wrong(format!("session {position} of {} of bases", self.bases.len())))?;
            first_use(position, &mut self.bases_used)?;
            if counter >> COUNTER_BITS != 0 {
                return Err(wrong(format!("a base with the counter {counter}")));
            }
            let frame = FrameId::new(session, class, counter as u32);
            if frame == id {
                return Err(wrong("it is its own base".to_owned()));
            }
            if chunk >= FRAME_CHUNKS_MAX as u64 || bases.last().is_some_and(|before| u64::from(before.chunk) > chunk) {
                return Err(wrong(format!("a base for chunk {chunk}, which comes too late or too early")));
            }
            if length == 0 || offset.checked_add(length).is_none_or(|end| end > FRAME_PLAINTEXT_MAX as u64) {
                return Err(wrong(format!("a base of {length} bytes from {offset}")));
            }
            sum += length;
            if sum > BASES_LENGTH_MAX as u64 {
                return Err(wrong(format!("bases of more than {BASES_LENGTH_MAX} bytes")));
            }
            bases.push(BaseRange { frame, chunk: chunk as u16, offset: offset as u32, length: length as u32 });
        }
        Ok(bases)
    }
}

/// What stands at `position` of a list, of which the first `used` were named so far, is named (the order of PACK-5).
fn first_use(position: u64, used: &mut usize) -> Result<()> {
    if position > *used as u64 {
        return Err(Error::rule("PACK-5", "sessions are not in the order of first use"));
    }
    *used = (*used).max(position as usize + 1);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{BASES_MAX, TABLES_LENGTH_MAX};

    #[test]
    fn a_frame_takes_no_more_in_a_table_than_is_reckoned() {
        let session = SessionId([1; 16]);
        let id = FrameId::new(session, FrameClass::Data, (1 << 30) - 1);
        let base = |n: usize| BaseRange {
            frame: FrameId { session: SessionId([n as u8; 16]), ..id },
            chunk: FRAME_CHUNKS_MAX as u16 - 1,
            offset: FRAME_PLAINTEXT_MAX as u32,
            length: FRAME_PLAINTEXT_MAX as u32,
        };
        for (bases, chunks) in [(0, 1), (BASES_MAX, 1), (BASES_MAX, FRAME_CHUNKS_MAX)] {
            let record = FrameRecord {
                id,
                sealed_length: FRAME_SEALED_MAX as u32,
                plaintext_length: FRAME_PLAINTEXT_MAX as u32,
                hash: [0; 32],
                bases: (0..bases).map(base).collect(),
                chunks: vec![ChunkId([0; 32]); chunks],
            };
            let (reckoned, mut bytes, contents) = (record.table_length(), Vec::new(), ContentsTable { frames: vec![record] });
            let mut positions = Positions::encode(&[], [&contents], &mut bytes);
            positions.sessions.insert(session, 4095);
            // No pack has more sessions of bases than fit its tables.
            positions.bases.values_mut().for_each(|position| *position = (TABLES_LENGTH_MAX / SessionId::LENGTH) as u64);
            positions.encode_frames(&contents, &mut bytes);
            assert!(bytes.len() <= reckoned, "{} bytes, {reckoned} reckoned", bytes.len());
        }
    }
}

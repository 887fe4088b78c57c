//! A whole repository written anew: every piece may be changed beneath its seal, and what names it follows.

use super::Keys;
use crate::backend::{BackendExt, MemoryBackend, ObjectKind, ObjectName};
use crate::compress::Decompressor;
use crate::crypto::{Sealer, Secret};
use crate::error::{Error, Result};
use crate::format::frame::{self, FramePlaintext};
use crate::format::object::{HEADER_LENGTH, Header, Opened, StructureKeys};
use crate::format::pack::{Footer, GroupHasher};
use crate::format::session::{SessionRecord, frame_sealer, refs_frame_sealer, snapshot_sealer};
use crate::format::snapshot::{self, SnapshotHeader};
use crate::format::{ContentsTable, FrameRecord, Tables};
use crate::id::{ChunkId, FrameClass, SessionId, SnapshotId};
use crate::limits::CHUNK_SIZE_MAX;
use crate::repository::{ChunkKind, Repository};
use std::collections::HashMap;

/// What a piece of a repository is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A chunk of content.
    Data,
    /// A tree node.
    Tree,
    /// A recipe node.
    Recipe,
    /// A refs node.
    Refs,
    /// The plaintext of a frame, around its chunks.
    Frame,
    /// The plaintext of a pack's tables.
    Tables,
    /// The plaintext of a snapshot's header.
    SnapshotHeader,
    /// The plaintext of a snapshot's body.
    SnapshotBody,
    /// The body of a config, or the plaintext of another object of this kind.
    Object(ObjectKind),
}

impl Keys {
    /// The keys of an open repository.
    pub fn of_repository(repository: &Repository) -> Self {
        Self::of(repository.id, (*repository.credential).clone())
    }

    /// Writes all that `from` holds into a new backend. Each piece is given to `change` beneath its seal; ids, hashes, seals and
    /// signatures are then made anew, also where they stand in other pieces. Slots stay as they are, index objects are left out.
    ///
    /// # Errors
    /// Where `from` does not hold what was written with these keys.
    pub fn rewrite(&self, from: &MemoryBackend, change: &mut dyn FnMut(Part, &mut Vec<u8>)) -> Result<MemoryBackend> {
        let mut run = Rewrite { keys: self, from, to: MemoryBackend::new(), ids: HashMap::new(), sealers: HashMap::new(), change };
        for kind in [ObjectKind::DataPack, ObjectKind::MetaPack, ObjectKind::RefsPack] {
            run.each(kind, Rewrite::pack)?;
        }
        run.each(ObjectKind::Snapshot, Rewrite::snapshot)?;
        run.each(ObjectKind::Slot, |run, name, bytes| run.to.put(name, bytes))?;
        for kind in ObjectKind::ALL {
            if !kind.is_pack() && !matches!(kind, ObjectKind::Snapshot | ObjectKind::Slot | ObjectKind::Index) {
                run.each(kind, Rewrite::object)?;
            }
        }
        Ok(run.to)
    }
}

struct Rewrite<'a> {
    keys: &'a Keys,
    from: &'a MemoryBackend,
    to: MemoryBackend,
    /// What chunks are called now. Children were written before their parents, so that parents learn of it in time.
    ids: HashMap<ChunkId, ChunkId>,
    /// What seals the frames of each session and class.
    sealers: HashMap<(SessionId, Option<FrameClass>), Sealer>,
    change: &'a mut dyn FnMut(Part, &mut Vec<u8>),
}

impl Rewrite<'_> {
    fn each(&mut self, kind: ObjectKind, write: impl Fn(&mut Self, &ObjectName, &[u8]) -> Result<()>) -> Result<()> {
        for object in self.from.list_sorted(kind)? {
            let bytes = self.from.get(&object.name, u64::MAX)?;
            write(self, &object.name, &bytes)?;
        }
        Ok(())
    }

    fn changed(&mut self, part: Part, mut bytes: Vec<u8>) -> Vec<u8> {
        rename(&self.ids, &mut bytes);
        (self.change)(part, &mut bytes);
        bytes
    }

    fn object(&mut self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        let plaintext = self.changed(Part::Object(name.kind()), self.keys.open(name, bytes)?);
        self.to.put(name, &self.keys.seal(*name, plaintext)?)
    }

    fn snapshot(&mut self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        let keys = self.keys;
        let opened = Opened::check(name, bytes, &keys.trust)?;
        let (sealed_header, sealed_body) = snapshot::split(opened.body)?;
        let header = opened.open_part(&keys.credential, 0, sealed_header)?;
        let record = SnapshotHeader::decode(&header, &keys.repository, &keys.trust)?.record;
        let secret = record.open_secret(&keys.credential.restore_keys)?;
        let sealer = snapshot_sealer(&secret, &record.id(), &SnapshotId(name.id()));
        let mut body = sealed_body.to_vec();
        if !sealer.open(0, &mut body) {
            return Err(Error::rule("SNAP-8", "the sealed body does not open"));
        }
        let mut header = self.changed(Part::SnapshotHeader, header);
        let mut body = self.changed(Part::SnapshotBody, body);
        sealer.seal(0, &mut body);
        let (_, structure_key) = keys.structure_key()?;
        opened.header.part_sealer(structure_key, 0).seal(0, &mut header);
        self.to.put(name, &keys.credential.author.object(&opened.header, &snapshot::join(&header, &body)))
    }

    fn pack(&mut self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        let keys = self.keys;
        let repository = keys.repository_with(name, bytes)?;
        let tables = repository.read_pack_tail(name, bytes.len() as u64)?.tables;
        let (mut frames, mut contents, mut at) = (Vec::new(), ContentsTable::default(), HEADER_LENGTH);
        for record in &tables.contents.frames {
            let end = at + record.sealed_length as usize;
            let (sealed, record) = self.frame(&tables.sessions, record, &bytes[at..end])?;
            frames.extend_from_slice(&sealed);
            contents.frames.push(record);
            at = end;
        }
        let mut tail = self.changed(Part::Tables, Tables { contents, ..tables }.encode());
        let (epoch, structure_key) = keys.structure_key()?;
        let header = Header { name: *name, repository: keys.repository, structure_epoch: *epoch };
        header.part_sealer(structure_key, 0).seal(0, &mut tail);
        let footer = Footer { frames_length: frames.len() as u32, tables_length: tail.len() as u32 };
        let mut groups = GroupHasher::default();
        groups.update(&frames);
        tail.extend_from_slice(&groups.finish());
        tail.extend_from_slice(&footer.encode());
        let trailer = keys.credential.author.trailer(&header, &tail);
        self.to.put(name, &[&header.encode()[..], &frames, &tail, &trailer].concat())
    }

    fn frame(&mut self, sessions: &[SessionRecord], record: &FrameRecord, sealed: &[u8]) -> Result<(Vec<u8>, FrameRecord)> {
        let sealer = self.sealer(sessions, record)?;
        let (mut sealed, mut plaintext) = (sealed.to_vec(), Vec::new());
        let mut decompressor = Decompressor::new()?;
        let expected = frame::Expected { id: record.id, hash: &record.hash, plaintext_length: record.plaintext_length, bases: None };
        frame::open(&sealer, expected, &mut decompressor, &mut sealed, &mut plaintext)?;
        let (mut anew, mut chunks) = (FramePlaintext::default(), Vec::new());
        for (range, id) in frame::chunk_ranges(&plaintext, record.chunks.len())?.into_iter().zip(&record.chunks) {
            let (kind, part) = kind_of(record.id.class(), &plaintext[range.clone()]);
            let mut chunk = self.changed(part, plaintext[range].to_vec());
            chunk.truncate(CHUNK_SIZE_MAX);
            if chunk.is_empty() {
                chunk.push(0);
            }
            let mut new_id = self.keys.ids.id_of(kind, &chunk)?;
            // Two chunks of a frame that became equal: the second is called something that it is not.
            if chunks.contains(&new_id) {
                new_id = *id;
            }
            self.ids.insert(*id, new_id);
            anew.push(&chunk);
            chunks.push(new_id);
        }
        let plaintext = self.changed(Part::Frame, anew.encode());
        let mut payload = [&[0], &plaintext[..]].concat();
        sealer.seal(record.id.number, &mut payload);
        let hash = *blake3::hash(&payload).as_bytes();
        let (sealed_length, plaintext_length) = (payload.len() as u32, plaintext.len() as u32);
        Ok((payload, FrameRecord { sealed_length, plaintext_length, hash, chunks, ..record.clone() }))
    }
}

impl Rewrite<'_> {
    fn sealer(&mut self, sessions: &[SessionRecord], record: &FrameRecord) -> Result<Sealer> {
        let key = (record.id.session, record.id.class());
        if let Some(sealer) = self.sealers.get(&key) {
            return Ok(sealer.clone());
        }
        let sealer = self.keys.sealer(sessions, record)?;
        self.sealers.insert(key, sealer.clone());
        Ok(sealer)
    }
}

impl Keys {
    /// What seals a frame.
    fn sealer(&self, sessions: &[SessionRecord], record: &FrameRecord) -> Result<Sealer> {
        let session = sessions.iter().find(|session| session.id() == record.id.session);
        let session = session.ok_or_else(|| Error::rule("PACK-7", "no session record for a frame"))?;
        let secret = || session.open_secret(&self.credential.restore_keys);
        let zero = Secret::zero();
        Ok(match record.id.class() {
            Some(FrameClass::Refs) => {
                let key = self.credential.structure_key(session.structure_epoch()).unwrap_or(&zero);
                refs_frame_sealer(key, &session.id())
            }
            Some(class) => frame_sealer(&secret()?, &session.id(), class),
            None => return Err(Error::rule("PACK-7", "a frame of the reserved class")),
        })
    }
}

/// What a chunk is, by its frame's class and its first byte.
fn kind_of(class: Option<FrameClass>, chunk: &[u8]) -> (ChunkKind, Part) {
    match (class, chunk.first()) {
        (Some(FrameClass::Data), _) => (ChunkKind::Data, Part::Data),
        (Some(FrameClass::Meta), Some(1 | 2)) => (ChunkKind::Tree, Part::Tree),
        (Some(FrameClass::Meta), _) => (ChunkKind::Recipe, Part::Recipe),
        _ => (ChunkKind::Refs, Part::Refs),
    }
}

/// Puts the new ids in the place of the old ones, wherever they stand.
fn rename(ids: &HashMap<ChunkId, ChunkId>, bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(window) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<{ ChunkId::LENGTH }>()) {
        match ids.get(&ChunkId(*window)) {
            Some(new) => {
                *window = new.0;
                at += ChunkId::LENGTH;
            }
            None => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::BackupOptions;
    use crate::crypto::Secret;
    use crate::progress::Silent;
    use crate::repository::{CreateOptions, Key, Settings};
    use crate::runtime::{Runtime, Timestamp};
    use std::sync::Arc;

    fn stored() -> (MemoryBackend, Keys, Key) {
        let (backend, key) = (MemoryBackend::new(), Key::KeyFile(Secret::new([5; 32])));
        let options = CreateOptions { data_frame_size: 4_096, meta_frame_size: 4_096, ..CreateOptions::default() };
        let runtime = Runtime::seeded(1, Timestamp { seconds: 1_800_000_000, nanoseconds: 0 }, 1);
        let made = Repository::create(Arc::new(backend.clone()), runtime, &key, &options, Settings::default()).unwrap();
        let stream: Vec<u8> = (0..2_500_000_u32).flat_map(u32::to_le_bytes).collect();
        made.backup_stream("s", Box::new(std::io::Cursor::new(stream)), &BackupOptions::new("s"), &Silent).unwrap();
        (backend, Keys::of_repository(&made), key)
    }

    fn opened(backend: MemoryBackend, key: &Key) -> Repository {
        Repository::open(Arc::new(backend), Runtime::system(1), key, Settings::default()).unwrap()
    }

    #[test]
    fn unchanged_it_is_as_good_as_before() {
        let (backend, keys, key) = stored();
        let mut parts = Vec::new();
        let anew = keys.rewrite(&backend, &mut |part, _| parts.push(part)).unwrap();
        for part in [Part::Data, Part::Tree, Part::Recipe, Part::Refs, Part::Frame, Part::Tables, Part::SnapshotHeader, Part::SnapshotBody]
        {
            assert!(parts.contains(&part), "{part:?} was not shown");
        }
        let report = opened(anew, &key).scrub(&Silent).unwrap();
        assert!(report.findings.is_empty() && report.snapshots == 1, "{report:?}");
    }

    #[test]
    fn a_change_of_content_is_followed_up_to_the_snapshot() {
        let (backend, keys, key) = stored();
        let anew = keys
            .rewrite(&backend, &mut |part, bytes| {
                if part == Part::Data {
                    bytes[0] ^= 1
                }
            })
            .unwrap();
        let repository = opened(anew, &key);
        assert!(repository.scrub(&Silent).unwrap().findings.is_empty());
        let (mut out, snapshot) = (Vec::new(), repository.snapshots().unwrap().remove(0));
        repository.restore_to_writer(&snapshot, None, &mut out, &Silent).unwrap();
        assert_eq!((out.len(), out[0], out[4]), (10_000_000, 1, 1));
    }
}

//! A whole repository written anew: every piece may be changed beneath its seal, and what names it follows.

use super::Keys;
use crate::backend::{BackendExt, MemoryBackend, ObjectKind, ObjectName};
use crate::compress::{Compressor, Decompressor, Effort};
use crate::crypto::{Sealer, Secret};
use crate::error::{Error, Result};
use crate::format::frame::{self, FramePlaintext};
use crate::format::index_object::IndexBody;
use crate::format::object::{HEADER_LENGTH, Header, Opened, StructureKeys};
use crate::format::pack::{Footer, GroupHasher};
use crate::format::parity::{HEAD_LENGTH, SidecarForm, SidecarHead};
use crate::format::session::{SessionRecord, frame_sealer, refs_frame_sealer, snapshot_sealer};
use crate::format::snapshot::{self, SnapshotHeader};
use crate::format::{ContentsTable, FrameRecord, Tables};
use crate::id::{ChunkId, FrameClass, FrameId, SnapshotId};
use crate::limits::CHUNK_SIZE_MAX;
use crate::repository::{ChunkKind, Repository};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

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
    /// The body of a config, a slot or a sidecar, or the plaintext of another object of this kind.
    Object(ObjectKind),
}

impl Keys {
    /// The keys of an open repository.
    pub fn of_repository(repository: &Repository) -> Self {
        Self::of(repository.id, (*repository.credential).clone())
    }

    /// Writes all that `from` holds into a new backend. Each piece is given to `change` beneath its seal; ids, hashes, seals and
    /// signatures are then made anew, also where they stand in other pieces: in trees, tables, index objects and sidecars. Sidecars of large packs
    /// are left out where the pack has changed.
    ///
    /// # Errors
    /// Where `from` does not hold what was written with these keys.
    pub fn rewrite(&self, from: &MemoryBackend, change: &mut dyn FnMut(Part, &mut Vec<u8>)) -> Result<MemoryBackend> {
        let mut run = Rewrite { keys: self, from, to: MemoryBackend::new(), ids: HashMap::new(), contents: HashMap::new(), change };
        run.packs()?;
        run.each(ObjectKind::Snapshot, Rewrite::snapshot)?;
        for kind in ObjectKind::ALL {
            match kind {
                ObjectKind::Snapshot | ObjectKind::Parity => {}
                ObjectKind::Index => run.each(kind, Rewrite::index)?,
                _ if kind.is_pack() => {}
                _ => run.each(kind, Rewrite::object)?,
            }
        }
        run.each(ObjectKind::Parity, Rewrite::sidecar)?;
        Ok(run.to)
    }
}

struct Rewrite<'a> {
    keys: &'a Keys,
    from: &'a MemoryBackend,
    to: MemoryBackend,
    /// What chunks are called now. Children are written before their parents, so that parents learn of it in time.
    ids: HashMap<ChunkId, ChunkId>,
    /// What is in packs now, before their tables are changed.
    contents: HashMap<ObjectName, ContentsTable>,
    change: &'a mut dyn FnMut(Part, &mut Vec<u8>),
}

/// A frame as it was, and its chunks as they are now.
struct OldFrame {
    record: FrameRecord,
    sealer: Sealer,
    sealed: Vec<u8>,
    method: u8,
    plaintext: Vec<u8>,
    ranges: Vec<Range<usize>>,
    chunks: Vec<Option<(ChunkId, Vec<u8>)>>,
}

impl OldFrame {
    /// What bases are stretches of.
    fn content(&self) -> &[u8] {
        content(&self.plaintext, self.ranges.len())
    }
}

/// All chunks of a frame's plaintext, one behind the other; nothing where it has another form.
fn content(plaintext: &[u8], count: usize) -> &[u8] {
    let ranges = frame::chunk_ranges(plaintext, count).unwrap_or_default();
    ranges.first().map_or(&[], |first| &plaintext[first.start..])
}

/// Which chunks, by their ids, stand where: number of the frame, and position in it.
type Holders = HashMap<ChunkId, Vec<(usize, usize)>>;

impl Rewrite<'_> {
    fn each(&mut self, kind: ObjectKind, write: impl Fn(&mut Self, &ObjectName, &[u8]) -> Result<()>) -> Result<()> {
        for object in self.from.list_sorted(kind)? {
            let bytes = self.from.get(&object.name, u64::MAX)?;
            write(self, &object.name, &bytes)?;
        }
        Ok(())
    }

    fn changed(&mut self, part: Part, mut bytes: Vec<u8>) -> Vec<u8> {
        if part != Part::Data {
            rename(&self.ids, &mut bytes);
        }
        (self.change)(part, &mut bytes);
        bytes
    }

    fn object(&mut self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        let plaintext = self.changed(Part::Object(name.kind()), self.keys.open(name, bytes)?);
        self.to.put(name, &self.keys.seal(*name, plaintext)?)
    }

    /// It says of packs what is in them now.
    fn index(&mut self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        let mut body = IndexBody::decode(&self.keys.open(name, bytes)?, &self.keys.repository, &self.keys.trust)?;
        for (kind, pack, contents) in &mut body.packs {
            if let Some(now) = self.contents.get(&ObjectName::pack(*kind, *pack)) {
                contents.clone_from(now);
            }
        }
        let plaintext = self.changed(Part::Object(ObjectKind::Index), body.encode());
        self.to.put(name, &self.keys.seal(*name, plaintext)?)
    }

    /// It holds what its object is now.
    fn sidecar(&mut self, name: &ObjectName, bytes: &[u8]) -> Result<()> {
        let opened = Opened::check(name, bytes, &self.keys.trust)?;
        let mut head = SidecarHead::decode(name, &opened.body[..HEAD_LENGTH], opened.body.len() as u64)?;
        let object = self.to.get(&head.object, u64::MAX)?;
        let body = match head.form {
            SidecarForm::Copy => {
                (head.size, head.hash) = (object.len() as u64, *object.last_chunk().unwrap_or(&[0; 32]));
                [&head.encode()[..], &object].concat()
            }
            SidecarForm::Code { .. } if object.last_chunk() == Some(&head.hash) => opened.body.to_vec(),
            SidecarForm::Code { .. } => return Ok(()),
        };
        let header = opened.header;
        let body = self.changed(Part::Object(ObjectKind::Parity), body);
        let bytes = match head.object.kind() {
            ObjectKind::Config | ObjectKind::Slot => self.keys.admin()?.object(&header, &body),
            _ => self.keys.credential.author.object(&header, &body),
        };
        self.to.put(name, &bytes)
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

    /// All packs, in the order in which they are listed.
    fn packs(&mut self) -> Result<()> {
        let (mut packs, mut sealed, mut sealers) = (Vec::new(), Vec::new(), HashMap::new());
        for kind in [ObjectKind::DataPack, ObjectKind::MetaPack, ObjectKind::RefsPack] {
            for object in self.from.list_sorted(kind)? {
                let bytes = self.from.get(&object.name, u64::MAX)?;
                let repository = self.keys.repository_with(&object.name, &bytes)?;
                let tables = repository.read_pack_tail(&object.name, bytes.len() as u64)?.tables;
                let mut at = HEADER_LENGTH;
                for record in &tables.contents.frames {
                    let end = at + record.sealed_length as usize;
                    let sealer = match sealers.entry((record.id.session, record.id.class())) {
                        Entry::Occupied(known) => known.into_mut(),
                        Entry::Vacant(free) => free.insert(self.keys.sealer(&tables.sessions, record)?),
                    };
                    sealed.push((record.clone(), sealer.clone(), bytes[at..end].to_vec()));
                    at = end;
                }
                packs.push((object.name, tables));
            }
        }
        let mut frames = open_frames(sealed)?;
        let mut holders = Holders::new();
        for (number, frame) in frames.iter().enumerate() {
            frame.record.chunks.iter().enumerate().for_each(|(at, id)| holders.entry(*id).or_default().push((number, at)));
        }
        for number in 0..frames.len() {
            (0..frames[number].ranges.len()).try_for_each(|at| self.chunk(&mut frames, &holders, (number, at)))?;
        }
        let mut anew = self.frames(&frames)?.into_iter();
        for (name, tables) in packs {
            let frames = anew.by_ref().take(tables.contents.frames.len()).collect();
            self.pack(&name, tables, frames)?;
        }
        Ok(())
    }

    /// Changes a chunk, after those that it names.
    fn chunk(&mut self, frames: &mut [OldFrame], holders: &Holders, (number, at): (usize, usize)) -> Result<()> {
        let frame = &frames[number];
        if frame.chunks[at].is_some() {
            return Ok(());
        }
        let (class, id) = (frame.record.id.class(), frame.record.chunks[at]);
        let bytes = frame.plaintext[frame.ranges[at].clone()].to_vec();
        let (kind, part) = kind_of(class, &bytes);
        if part != Part::Data {
            for window in bytes.array_windows::<{ ChunkId::LENGTH }>() {
                let held = holders.get(&ChunkId(*window)).into_iter().flatten();
                held.filter(|held| **held != (number, at)).try_for_each(|held| self.chunk(frames, holders, *held))?;
            }
        }
        let mut chunk = self.changed(part, bytes);
        chunk.truncate(CHUNK_SIZE_MAX);
        if chunk.is_empty() {
            chunk.push(0);
        }
        let mut new_id = self.keys.ids.id_of(kind, &chunk)?;
        // Two chunks of a frame that became equal: the second is called something that it is not.
        if frames[number].chunks.iter().flatten().any(|(known, _)| *known == new_id) {
            new_id = id;
        }
        self.ids.insert(id, new_id);
        frames[number].chunks[at] = Some((new_id, chunk));
        Ok(())
    }

    /// All frames with their chunks as they are now, packed as they were where that is possible. What others are compressed against comes first.
    fn frames(&mut self, frames: &[OldFrame]) -> Result<Vec<(Vec<u8>, FrameRecord)>> {
        let old: HashMap<_, _> = frames.iter().map(|frame| (frame.record.id, frame)).collect();
        let (mut anew, mut plaintexts) = (vec![None; frames.len()], HashMap::new());
        let mut compressor = Compressor::new(3)?;
        for has_bases in [false, true] {
            for (number, frame) in frames.iter().enumerate().filter(|(_, frame)| frame.record.bases.is_empty() != has_bases) {
                let mut plaintext = FramePlaintext::default();
                frame.chunks.iter().flatten().for_each(|(_, chunk)| plaintext.push(chunk));
                let plaintext = self.changed(Part::Frame, plaintext.encode());
                let chunks = frame.chunks.iter().flatten().map(|(id, _)| *id).collect();
                let (mut bases, mut is_as_it_was) = (Vec::new(), plaintext == frame.plaintext);
                for base in &frame.record.bases {
                    let stretch = |content: &[u8]| {
                        let start = content.len().min(base.offset as usize);
                        content[start..content.len().min(start + base.length as usize)].to_vec()
                    };
                    let now =
                        plaintexts.get(&base.frame).map_or(&[][..], |(plaintext, count): &(Vec<u8>, usize)| content(plaintext, *count));
                    is_as_it_was &= old.get(&base.frame).is_some_and(|old| stretch(old.content()) == stretch(now));
                    bases.extend(stretch(now));
                }
                let (sealer, id) = (&frame.sealer, frame.record.id.number);
                let mut record = FrameRecord { chunks, ..frame.record.clone() };
                let sealed = match frame.method {
                    _ if is_as_it_was => frame.sealed.clone(),
                    0 => {
                        let mut payload = [&[0], &plaintext[..]].concat();
                        sealer.seal(id, &mut payload);
                        payload
                    }
                    1 => frame::seal(sealer, id, &mut compressor, &plaintext),
                    _ => {
                        let (sealed, needs_bases) = frame::seal_against(sealer, id, &mut compressor, &plaintext, (&bases, Effort::Usual));
                        if !needs_bases {
                            record.bases.clear();
                        }
                        sealed
                    }
                };
                record.hash = *blake3::hash(&sealed).as_bytes();
                (record.sealed_length, record.plaintext_length) = (sealed.len() as u32, plaintext.len() as u32);
                plaintexts.insert(record.id, (plaintext, record.chunks.len()));
                anew[number] = Some((sealed, record));
            }
        }
        Ok(anew.into_iter().flatten().collect())
    }

    fn pack(&mut self, name: &ObjectName, tables: Tables, parts: Vec<(Vec<u8>, FrameRecord)>) -> Result<()> {
        let keys = self.keys;
        let (sealed, records): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let (frames, contents) = (sealed.concat(), ContentsTable { frames: records });
        self.contents.insert(*name, contents.clone());
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
}

/// Opens frames; what others are compressed against comes first.
fn open_frames(sealed: Vec<(FrameRecord, Sealer, Vec<u8>)>) -> Result<Vec<OldFrame>> {
    let (mut frames, mut decompressor): (Vec<Option<OldFrame>>, _) = (sealed.iter().map(|_| None).collect(), Decompressor::new()?);
    let mut by_id: HashMap<FrameId, usize> = HashMap::new();
    for has_bases in [false, true] {
        for (number, (record, sealer, bytes)) in sealed.iter().enumerate().filter(|(_, (record, ..))| record.bases.is_empty() != has_bases)
        {
            let mut bases = Vec::new();
            for base in &record.bases {
                let frame = by_id.get(&base.frame).and_then(|number| frames[*number].as_ref());
                let stretch = frame.and_then(|frame| frame.content().get(base.offset as usize..)?.get(..base.length as usize));
                bases.extend_from_slice(stretch.ok_or_else(|| Error::rule("FRAME-8", "a base is not there"))?);
            }
            let (mut payload, mut plaintext) = (bytes.clone(), Vec::new());
            let (bases, plaintext_length) = (has_bases.then_some(&bases[..]), record.plaintext_length);
            let expected = frame::Expected { id: record.id, hash: &record.hash, plaintext_length, bases };
            frame::open(sealer, expected, &mut decompressor, &mut payload, &mut plaintext)?;
            let ranges = frame::chunk_ranges(&plaintext, record.chunks.len())?;
            let (chunks, method) = (vec![None; ranges.len()], payload[0]);
            let (record, sealer, sealed) = (record.clone(), sealer.clone(), bytes.clone());
            by_id.insert(record.id, number);
            frames[number] = Some(OldFrame { record, sealer, sealed, method, plaintext, ranges, chunks });
        }
    }
    Ok(frames.into_iter().flatten().collect())
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

    /// Two versions of a stream, the second against the first, in packs enough for an index object, and sidecars of both forms.
    fn stored() -> (MemoryBackend, Keys, Key) {
        let (backend, key) = (MemoryBackend::new(), Key::KeyFile(Secret::new([5; 32])));
        let sizes = CreateOptions { pack_size: 1 << 20, data_frame_size: 64 << 10, meta_frame_size: 4_096, ..CreateOptions::default() };
        let options = CreateOptions { parity_percent: 5, ..sizes };
        let runtime = Runtime::seeded(1, Timestamp { seconds: 1_800_000_000, nanoseconds: 0 }, 1);
        let made = Repository::create(Arc::new(backend.clone()), runtime, &key, &options, Settings::default()).unwrap();
        let mut stream: Vec<u8> = (0..2_500_000_u32).flat_map(|n| (n ^ n.wrapping_mul(n) << 16).to_le_bytes()).collect();
        let mut deltas = 0;
        for _ in 0..2 {
            let source = Box::new(std::io::Cursor::new(stream.clone()));
            deltas = made.backup_stream("s", source, &BackupOptions::new("s"), &Silent).unwrap().delta_bytes;
            (0..4).for_each(|at| stream[at * 2_000_000 + 1_000] ^= 2);
        }
        assert!(deltas > 0);
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
        for kind in [ObjectKind::Config, ObjectKind::Slot, ObjectKind::Index, ObjectKind::Parity] {
            assert!(parts.contains(&Part::Object(kind)), "{kind:?} was not shown");
        }
        for kind in ObjectKind::ALL {
            let listed = backend.list_sorted(kind).unwrap();
            assert_eq!(listed, anew.list_sorted(kind).unwrap());
            for object in listed {
                assert!(backend.get(&object.name, u64::MAX).unwrap() == anew.get(&object.name, u64::MAX).unwrap(), "{}", object.name);
            }
        }
        let report = opened(anew, &key).scrub(&Silent).unwrap();
        assert!(report.findings.is_empty() && report.snapshots == 2, "{report:?}");
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
        for snapshot in repository.snapshots().unwrap() {
            let mut out = Vec::new();
            repository.restore_to_writer(&snapshot, None, &mut out, &Silent).unwrap();
            assert_eq!((out.len(), out[0], out[4]), (10_000_000, 1, 1));
        }
    }
}

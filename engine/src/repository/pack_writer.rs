//! Writing packs: frames in, one durable object out.

use super::kept_tails::KeptTails;
use super::{ClearTail, Repository, Session};
use crate::backend::{Backend, ObjectKind, ObjectName, ObjectWriter};
use crate::crypto::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::format::object::{Author, HEADER_LENGTH, Header};
use crate::format::pack::{Footer, GroupHasher};
use crate::format::session::SessionRecord;
use crate::format::{ContentsTable, FrameRecord, Tables};
use crate::id::PackId;
use crate::limits::{FRAMES_LENGTH_MAX, TABLES_LENGTH_MAX};
use crate::runtime::channel::{Receiver, Sender};
use std::sync::Arc;

/// A sealed frame and what the contents table says of it.
#[derive(Debug)]
pub(crate) struct SealedFrame {
    pub(crate) record: FrameRecord,
    pub(crate) bytes: Vec<u8>,
}

/// A pack that is durable.
#[derive(Debug)]
pub(crate) struct WrittenPack {
    pub(crate) kind: ObjectKind,
    pub(crate) id: PackId,
    pub(crate) contents: ContentsTable,
    /// Bytes of the whole object.
    pub(crate) size: u64,
}

/// Everything that packs of one session are written with.
#[derive(Debug, Clone)]
pub(crate) struct PackMaker {
    backend: Arc<dyn Backend>,
    author: Author,
    structure_key: Secret,
    /// Header of any object of the repository; the name is put in.
    template: Header,
    session: Arc<SessionRecord>,
    kept: Option<Arc<KeptTails>>,
}

impl PackMaker {
    /// For packs of `session`.
    pub(crate) fn new(repository: &Repository, session: &Session<'_>) -> Result<Self> {
        Ok(Self {
            backend: Arc::clone(&repository.backend),
            author: repository.credential.author.clone(),
            structure_key: repository.structure_key()?.clone(),
            template: repository.header(ObjectName::config(1)),
            session: Arc::clone(session.record()),
            kept: repository.kept_tails.clone(),
        })
    }

    /// Writes one pack of the frames that come from `frames` until its other end is dropped. Each frame written gives back a
    /// token. After a failure, and a panic, frames are still taken and their tokens given back, so that nobody waits for ever.
    pub(crate) fn write(&self, kind: ObjectKind, id: PackId, frames: &Receiver<SealedFrame>, tokens: &Sender<()>) -> Result<WrittenPack> {
        let _rest = Rest { frames, tokens };
        self.write_frames(kind, id, frames, tokens)
    }

    fn write_frames(&self, kind: ObjectKind, id: PackId, frames: &Receiver<SealedFrame>, tokens: &Sender<()>) -> Result<WrittenPack> {
        let mut pack = PackObject::create(&*self.backend, Header { name: ObjectName::pack(kind, id), ..self.template })?;
        for frame in frames {
            let token = Token(tokens);
            pack.push(frame.record, &frame.bytes)?;
            drop(token);
        }
        pack.finish(&self.author, &self.structure_key, vec![(*self.session).clone()], self.kept.as_deref())
    }
}

/// A pack on its way into the backend.
pub(crate) struct PackObject<'a> {
    header: Header,
    writer: Box<dyn ObjectWriter + 'a>,
    groups: GroupHasher,
    contents: ContentsTable,
    frames_length: u64,
}

impl<'a> PackObject<'a> {
    /// Begins the pack that `header` names.
    pub(crate) fn create(backend: &'a dyn Backend, header: Header) -> Result<Self> {
        let mut writer = backend.create(&header.name)?;
        writer.write(&header.encode())?;
        Ok(Self { header, writer, groups: GroupHasher::default(), contents: ContentsTable::default(), frames_length: 0 })
    }

    /// Adds a sealed frame, and to the contents table what is said of it.
    pub(crate) fn push(&mut self, record: FrameRecord, bytes: &[u8]) -> Result<()> {
        self.groups.update(bytes);
        self.frames_length += bytes.len() as u64;
        self.writer.write(bytes)?;
        self.contents.frames.push(record);
        Ok(())
    }

    /// Bytes of the frames so far.
    pub(crate) fn frames_length(&self) -> u64 {
        self.frames_length
    }

    /// Frames so far.
    pub(crate) fn frame_count(&self) -> usize {
        self.contents.frames.len()
    }

    /// Ends it; when this returns the pack is durable. `sessions` are the records of all sessions whose frames are in it, in the order of first use. Its end
    /// goes to `kept`, too, where that is wanted.
    pub(crate) fn finish(
        mut self,
        author: &Author,
        structure_key: &Secret,
        sessions: Vec<SessionRecord>,
        kept: Option<&KeptTails>,
    ) -> Result<WrittenPack> {
        let tables = Tables { sessions, contents: self.contents };
        let mut tail = tables.encode();
        self.header.part_sealer(structure_key, 0).seal(0, &mut tail);
        // What readers would refuse (PACK-1) is never made.
        let within = |length: u64, length_max: usize| match length <= length_max as u64 {
            true => Ok(length as u32),
            false => {
                Err(Error::new(ErrorKind::Internal, format!("a pack outgrew its limits: {length} bytes where {length_max} are allowed")))
            }
        };
        let footer = Footer {
            frames_length: within(self.frames_length, FRAMES_LENGTH_MAX)?,
            tables_length: within(tail.len() as u64, TABLES_LENGTH_MAX)?,
        };
        tail.extend_from_slice(&self.groups.finish());
        tail.extend_from_slice(&footer.encode());
        let trailer = author.trailer(&self.header, &tail);
        tail.extend_from_slice(&trailer);
        self.writer.write(&tail)?;
        self.writer.finish()?;
        let (kind, id) = (self.header.name.kind(), PackId(self.header.name.id()));
        let size = HEADER_LENGTH as u64 + self.frames_length + tail.len() as u64;
        if let Some(kept) = kept {
            kept.put(&self.header.name, &ClearTail { header: self.header, footer, bytes: tail });
        }
        Ok(WrittenPack { kind, id, contents: tables.contents, size })
    }
}

/// The token of a frame, which goes back when it is dropped.
struct Token<'a>(&'a Sender<()>);

impl Drop for Token<'_> {
    fn drop(&mut self) {
        // The receiver may be gone when the writer has given up; then nobody waits for tokens either.
        let _ = self.0.send(());
    }
}

/// The frames that are still to come, whose tokens go back when it is dropped.
struct Rest<'a> {
    frames: &'a Receiver<SealedFrame>,
    tokens: &'a Sender<()>,
}

impl Drop for Rest<'_> {
    fn drop(&mut self) {
        self.frames.iter().for_each(|_| drop(Token(self.tokens)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{BackendExt, MemoryBackend};
    use crate::crypto::PassphraseCost;
    use crate::format::session::SessionKind;
    use crate::id::{ChunkId, FrameClass, FrameId, SessionId};
    use crate::repository::{CreateOptions, Key, Settings};
    use crate::runtime::channel::{bounded, unbounded};
    use crate::runtime::{Runtime, Timestamp};

    fn frame(session: SessionId, chunks: usize) -> SealedFrame {
        let id = FrameId::new(session, FrameClass::Data, 0);
        let (hash, chunks) = ([0; 32], vec![ChunkId([0; 32]); chunks]);
        let record = FrameRecord { id, sealed_length: 1, plaintext_length: 1, hash, bases: Vec::new(), chunks };
        SealedFrame { record, bytes: vec![0] }
    }

    #[test]
    fn a_pack_is_not_made_whose_tables_nobody_would_read() {
        let backend = MemoryBackend::new();
        let (runtime, key) = (Runtime::seeded(1, Timestamp::default(), 1), Key::passphrase("x").unwrap());
        let options = CreateOptions { passphrase_cost: PassphraseCost::TEST, ..CreateOptions::default() };
        let repository = Repository::create(Arc::new(backend.clone()), runtime, &key, &options, Settings::default()).unwrap();
        let session = Session::begin(&repository, SessionKind::Writer).unwrap();
        let maker = PackMaker::new(&repository, &session).unwrap();
        let write = |number: u8, chunks: usize| {
            let ((sender, frames), (tokens, _given_back)) = (bounded(1), unbounded());
            sender.send(frame(session.id(), chunks)).unwrap();
            drop(sender);
            maker.write(ObjectKind::DataPack, PackId([number; 16]), &frames, &tokens)
        };
        write(1, 1000).unwrap();
        assert_eq!(write(2, TABLES_LENGTH_MAX / ChunkId::LENGTH).unwrap_err().kind(), ErrorKind::Internal);
        assert_eq!(backend.list_sorted(ObjectKind::DataPack).unwrap().len(), 1);
    }

    #[test]
    fn a_thread_that_panics_gives_back_the_tokens_of_all_its_frames() {
        let ((sender, frames), (tokens, given_back)) = (bounded(4), unbounded());
        (0..3).for_each(|_| sender.send(frame(SessionId([1; 16]), 1)).unwrap());
        drop(sender);
        let dies = move || {
            let _rest = Rest { frames: &frames, tokens: &tokens };
            let _first = (&frames).into_iter().next();
            let _token = Token(&tokens);
            panic!("as a fault in here would");
        };
        assert!(std::panic::catch_unwind::<_, ()>(std::panic::AssertUnwindSafe(dies)).is_err());
        assert_eq!(given_back.iter().count(), 3);
    }
}

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
    /// token. After a failure frames are still taken and their tokens given back, so that nobody waits for ever.
    pub(crate) fn write(&self, kind: ObjectKind, id: PackId, frames: &Receiver<SealedFrame>, tokens: &Sender<()>) -> Result<WrittenPack> {
        let written = self.write_frames(kind, id, frames, tokens);
        for _ in frames {
            give_back(tokens);
        }
        written
    }

    fn write_frames(&self, kind: ObjectKind, id: PackId, frames: &Receiver<SealedFrame>, tokens: &Sender<()>) -> Result<WrittenPack> {
        let mut pack = PackObject::create(&*self.backend, Header { name: ObjectName::pack(kind, id), ..self.template })?;
        for frame in frames {
            let result = pack.push(frame.record, &frame.bytes);
            give_back(tokens);
            result?;
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
        let too_large = |_| Error::new(ErrorKind::Internal, "a pack outgrew its limits");
        let footer = Footer {
            frames_length: u32::try_from(self.frames_length).map_err(too_large)?,
            tables_length: u32::try_from(tail.len()).map_err(too_large)?,
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

/// The receiver may be gone when the writer has given up; then nobody waits for tokens either.
fn give_back(tokens: &Sender<()>) {
    let _ = tokens.send(());
}

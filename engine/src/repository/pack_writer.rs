//! Writing packs: frames in, one durable object out.

use super::{Repository, Session};
use crate::backend::{Backend, ObjectKind, ObjectName};
use crate::crypto::Secret;
use crate::error::{Error, ErrorKind, Result};
use crate::format::object::{Author, Header};
use crate::format::pack::{Footer, GroupHasher};
use crate::format::session::SessionRecord;
use crate::format::{ContentsTable, FrameRecord, Tables};
use crate::id::PackId;
use crossbeam_channel::{Receiver, Sender};
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
        let header = Header { name: ObjectName::pack(kind, id), ..self.template };
        let mut writer = self.backend.create(&header.name)?;
        writer.write(&header.encode())?;
        let mut groups = GroupHasher::default();
        let mut contents = ContentsTable::default();
        let mut frames_length = 0_u64;
        for frame in frames {
            groups.update(&frame.bytes);
            frames_length += frame.bytes.len() as u64;
            let result = writer.write(&frame.bytes);
            give_back(tokens);
            result?;
            contents.frames.push(frame.record);
        }
        let tables = Tables { sessions: vec![(*self.session).clone()], contents };
        let mut tail = tables.encode();
        header.part_sealer(&self.structure_key, 0).seal(0, &mut tail);
        let too_large = |_| Error::new(ErrorKind::Internal, "a pack outgrew its limits");
        let footer = Footer {
            frames_length: u32::try_from(frames_length).map_err(too_large)?,
            tables_length: u32::try_from(tail.len()).map_err(too_large)?,
        };
        tail.extend_from_slice(&groups.finish());
        tail.extend_from_slice(&footer.encode());
        let trailer = self.author.trailer(&header, &tail);
        tail.extend_from_slice(&trailer);
        writer.write(&tail)?;
        writer.finish()?;
        let size = header.encode().len() as u64 + frames_length + tail.len() as u64;
        Ok(WrittenPack { kind, id, contents: tables.contents, size })
    }
}

/// The receiver may be gone when the writer has given up; then nobody waits for tokens either.
fn give_back(tokens: &Sender<()>) {
    let _ = tokens.send(());
}

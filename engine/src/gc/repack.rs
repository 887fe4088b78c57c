//! Repack: frames that are needed are copied, sealed as they are, into packs under new names. Those of which little is needed may be re-made
//! instead (see [`super::reframe`]). Copies go into the same repository or into a replica of it.
//!
//! In the same repository a copy counts when it is durable and was read back: what it was copied from may be deleted then. In a replica it counts
//! when it is durable. A pack of which any needed frame cannot be copied is left alone.

use super::epochs::Pack;
use super::mark::Mark;
use super::plan::Candidate;
use super::reframe::Reframer;
use crate::backend::{ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::object::HEADER_LENGTH;
use crate::format::session::SessionRecord;
use crate::format::{FrameRecord, Roles, Tables};
use crate::id::{FrameId, PackId, SessionId};
use crate::limits::{FRAMES_LENGTH_MAX, PACK_FRAMES_MAX, PACK_SESSIONS_MAX, TABLES_LENGTH_MAX};
use crate::progress::{Event, Progress};
use crate::repository::index::FramePlace;
use crate::repository::{PackObject, Repository, WrittenPack};
use std::collections::{HashMap, HashSet};

const KINDS: [ObjectKind; 3] = [ObjectKind::DataPack, ObjectKind::MetaPack, ObjectKind::RefsPack];
/// A pack also ends when its tables would reach a quarter of what they may have.
const TABLES_LENGTH_END: usize = TABLES_LENGTH_MAX / 4;

/// Copies frames.
pub(crate) struct Copier<'a> {
    /// Where frames are read.
    source: &'a Repository,
    /// Where they are written.
    repository: &'a Repository,
    progress: &'a dyn Progress,
    open: [Option<OpenCopy<'a>>; KINDS.len()],
    /// Packs that were written and read back, with their sizes.
    pub(crate) written: Vec<(Pack, u64)>,
    /// Bytes of frames that were copied.
    pub(crate) bytes_copied: u64,
    /// Frames that could not be copied.
    pub(crate) failed: HashSet<FrameId>,
}

/// A pack of copies on its way.
struct OpenCopy<'a> {
    pack: PackObject<'a>,
    sessions: Vec<SessionRecord>,
    frames: HashSet<FrameId>,
    tables_length: usize,
}

/// What becomes of a frame of a pack that goes.
enum Fate {
    /// Nobody needs it, or another copy of it stands.
    Goes,
    Copied,
    /// What is used of it goes into new frames; copied where that cannot be done.
    Remade(FramePlace),
}

/// Frames of one pack, with the records of their sessions.
struct Source<'a> {
    name: ObjectName,
    sessions: HashMap<SessionId, &'a SessionRecord>,
}

impl<'a> Copier<'a> {
    /// Copies within one repository.
    pub(crate) fn new(repository: &'a Repository, progress: &'a dyn Progress) -> Self {
        Self::between(repository, repository, progress)
    }

    /// Copies from `source` to `repository`, which has the same keys.
    pub(crate) fn between(source: &'a Repository, repository: &'a Repository, progress: &'a dyn Progress) -> Self {
        Self { source, repository, progress, open: Default::default(), written: Vec::new(), bytes_copied: 0, failed: HashSet::new() }
    }

    /// Copies what is marked of a standing pack; false where the pack has to stay, because something of it cannot be copied.
    pub(super) fn copy_marked(&mut self, candidate: &Candidate, mark: &Mark<'_>, reframer: Option<&mut Reframer<'_>>) -> Result<bool> {
        let fate = |frame: &FrameRecord, copier: &Self| match mark.place_of(frame.id)? {
            None => Ok(Fate::Goes),
            Some(place) if (place.kind, place.pack) == candidate.pack && candidate.remake.frames > 0 => Ok(Fate::Remade(place)),
            Some(place) if (place.kind, place.pack) == candidate.pack => Ok(Fate::Copied),
            // It only has the same identity.
            Some(place) if !mark.is_same(&place, frame)? => Ok(Fate::Copied),
            // Another copy stands for it, if that one can be read.
            Some(place) => {
                let name = ObjectName::pack(place.kind, place.pack);
                let hash = mark.reader().index().hash_of(&place);
                let is_good = match hash.and_then(|hash| read(copier.source, &name, place.offset, &hash, place.sealed_length)) {
                    Ok(bytes) => bytes.is_some(),
                    Err(error) if copier.lets_freeze(&error) => false,
                    Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged | ErrorKind::Unsupported) => false,
                    Err(error) => return Err(error),
                };
                Ok(if is_good { Fate::Goes } else { Fate::Copied })
            }
        };
        self.copy(candidate.pack, fate, reframer)
    }

    /// Copies these frames of a pack; false where any of them cannot be copied.
    pub(crate) fn copy_these(&mut self, pack: Pack, frames: &HashSet<FrameId>) -> Result<bool> {
        self.copy(pack, |frame, _| Ok(if frames.contains(&frame.id) { Fate::Copied } else { Fate::Goes }), None)
    }

    fn copy(
        &mut self,
        pack: Pack,
        fate: impl Fn(&FrameRecord, &Self) -> Result<Fate>,
        reframer: Option<&mut Reframer<'_>>,
    ) -> Result<bool> {
        let name = ObjectName::pack(pack.0, pack.1);
        let read = self.source.backend.size(&name).and_then(|size| self.source.read_pack_tail(&name, size));
        let tail = match read {
            Ok(tail) => tail,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged | ErrorKind::Unsupported) => return Ok(false),
            Err(error) if self.lets_freeze(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        self.copy_frames(name, &tail.tables, fate, reframer)
    }

    /// Whether a pack simply stays where it is because it is frozen: nothing thaws for a collection. Whoever wants it elsewhere has to hear of it.
    fn lets_freeze(&self, error: &Error) -> bool {
        error.kind() == ErrorKind::Frozen && std::ptr::eq(self.source, self.repository)
    }

    /// Copies frames of a pack of which `tables` tell; false where any of them cannot be copied.
    pub(crate) fn copy_of(
        &mut self,
        name: ObjectName,
        tables: &Tables,
        is_wanted: impl Fn(&FrameRecord, &Self) -> Result<bool>,
    ) -> Result<bool> {
        let fate = |frame: &FrameRecord, copier: &Self| Ok(if is_wanted(frame, copier)? { Fate::Copied } else { Fate::Goes });
        self.copy_frames(name, tables, fate, None)
    }

    fn copy_frames(
        &mut self,
        name: ObjectName,
        tables: &Tables,
        fate: impl Fn(&FrameRecord, &Self) -> Result<Fate>,
        mut reframer: Option<&mut Reframer<'_>>,
    ) -> Result<bool> {
        let sessions = tables.sessions.iter().map(|session| (session.id(), session)).collect();
        let source = Source { name, sessions };
        let mut offset = HEADER_LENGTH as u64;
        let mut is_complete = true;
        for frame in &tables.contents.frames {
            let is_done = match (fate(frame, self)?, &mut reframer) {
                (Fate::Goes, _) => true,
                (Fate::Remade(place), Some(reframer)) => self.remake(reframer, frame, &place)?,
                (Fate::Remade(_) | Fate::Copied, _) => false,
            };
            if !is_done && !self.copy_frame(&source, frame, offset)? {
                self.failed.insert(frame.id);
                is_complete = false;
            }
            offset += u64::from(frame.sealed_length);
        }
        Ok(is_complete)
    }

    fn remake(&mut self, reframer: &mut Reframer<'_>, frame: &FrameRecord, place: &FramePlace) -> Result<bool> {
        self.go_on()?;
        let is_done = reframer.remake(self, frame, place)?;
        if is_done {
            self.progress.event(Event::Advance { bytes: u64::from(frame.sealed_length), items: 1 });
        }
        Ok(is_done)
    }

    fn copy_frame(&mut self, source: &Source<'_>, frame: &FrameRecord, offset: u64) -> Result<bool> {
        self.go_on()?;
        let Some(record) = source.sessions.get(&frame.id.session) else { return Ok(false) };
        self.require_right_to(record)?;
        let bytes = match read(self.source, &source.name, offset, &frame.hash, frame.sealed_length) {
            Err(error) if self.lets_freeze(&error) => None,
            bytes => bytes?,
        };
        let Some(bytes) = bytes else { return Ok(false) };
        let Some(lane) = KINDS.iter().position(|kind| *kind == source.name.kind()) else { return Ok(false) };
        self.put(lane, frame, record, &bytes)?;
        self.bytes_copied += bytes.len() as u64;
        self.progress.event(Event::Advance { bytes: bytes.len() as u64, items: 1 });
        Ok(true)
    }

    /// Stores a sealed frame in a pack of the kind with number `lane`. It is durable when [`Copier::finish`] has returned.
    pub(super) fn put(&mut self, lane: usize, frame: &FrameRecord, record: &SessionRecord, bytes: &[u8]) -> Result<()> {
        if self.open[lane].as_ref().is_some_and(|open| !open.has_room_for(frame, record)) {
            self.end(lane)?;
        }
        let open = match &mut self.open[lane] {
            Some(open) => open,
            closed => {
                let name = ObjectName::pack(KINDS[lane], PackId(self.repository.runtime.random()));
                let pack = PackObject::create(&*self.repository.backend, self.repository.header(name))?;
                closed.insert(OpenCopy { pack, sessions: Vec::new(), frames: HashSet::new(), tables_length: 0 })
            }
        };
        open.push(frame, record, bytes)?;
        if open.pack.frames_length() >= u64::from(self.repository.config.pack_size) {
            self.end(lane)?;
        }
        Ok(())
    }

    /// Only maintain may store frames that somebody else sealed (PACK-12).
    fn require_right_to(&self, record: &SessionRecord) -> Result<()> {
        let is_own = record.certificate().verifying_key() == self.repository.credential.author.certificate.verifying_key();
        if is_own { Ok(()) } else { self.repository.require(Roles::MAINTAIN, "storing what another credential has sealed") }
    }

    fn end(&mut self, lane: usize) -> Result<()> {
        let Some(open) = self.open[lane].take() else { return Ok(()) };
        let repository = self.repository;
        let written = open.pack.finish(
            &repository.credential.author,
            repository.structure_key()?,
            open.sessions,
            repository.kept_tails.as_deref(),
        )?;
        // A scrub reads what a replica has; what is copied from stays.
        if std::ptr::eq(self.source, self.repository) {
            self.verify(&written)?;
        }
        self.written.push(((written.kind, written.id), written.size));
        Ok(())
    }

    /// Reads a pack back: what is about to be condemned must stand in it.
    fn verify(&self, written: &WrittenPack) -> Result<()> {
        let name = ObjectName::pack(written.kind, written.id);
        let tail = self.repository.read_pack_tail(&name, written.size)?;
        let mut offset = HEADER_LENGTH as u64;
        let mut is_right = tail.tables.contents == written.contents;
        for frame in &written.contents.frames {
            is_right = is_right && read(self.repository, &name, offset, &frame.hash, frame.sealed_length)?.is_some();
            offset += u64::from(frame.sealed_length);
        }
        match is_right {
            true => Ok(()),
            false => {
                Err(Error::new(ErrorKind::Damaged, format!("{name}: was just written and reads back otherwise; nothing was condemned")))
            }
        }
    }

    fn go_on(&self) -> Result<()> {
        match self.progress.is_cancelled() {
            true => Err(Error::new(ErrorKind::Cancelled, "it was stopped while frames were copied; nothing was condemned")),
            false => Ok(()),
        }
    }

    /// Ends all packs; everything that was copied is durable and was read back when this returns.
    pub(crate) fn finish(&mut self) -> Result<()> {
        (0..KINDS.len()).try_for_each(|lane| self.end(lane))
    }
}

/// A frame's sealed bytes; `None` where they cannot be read or do not have the hash that its contents table says.
fn read(repository: &Repository, name: &ObjectName, offset: u64, hash: &[u8; 32], length: u32) -> Result<Option<Vec<u8>>> {
    match repository.backend.get_range(name, offset, length as usize) {
        Ok(bytes) => Ok(Some(bytes).filter(|bytes| blake3::hash(bytes).as_bytes() == hash)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Damaged) => Ok(None),
        Err(error) => Err(error),
    }
}

impl OpenCopy<'_> {
    fn has_room_for(&self, frame: &FrameRecord, session: &SessionRecord) -> bool {
        let known = self.sessions.iter().find(|known| known.id() == session.id());
        let knows_session = known.is_some();
        // Whoever has the key of a session can sign another record under its id, with which nobody opens the frames of the first one (PACK-5).
        known.is_none_or(|known| known == session)
            && !self.frames.contains(&frame.id)
            && self.pack.frames_length() + u64::from(frame.sealed_length) <= FRAMES_LENGTH_MAX as u64
            && self.pack.frame_count() < PACK_FRAMES_MAX
            && (knows_session || self.sessions.len() < PACK_SESSIONS_MAX)
            && self.tables_length < TABLES_LENGTH_END
    }

    fn push(&mut self, frame: &FrameRecord, session: &SessionRecord, bytes: &[u8]) -> Result<()> {
        if !self.sessions.iter().any(|known| known.id() == session.id()) {
            self.tables_length += session.bytes().len();
            self.sessions.push(session.clone());
        }
        self.frames.insert(frame.id);
        self.tables_length += frame.table_length();
        self.pack.push(frame.clone(), bytes)
    }
}

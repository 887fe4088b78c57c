//! Every byte of a pack's frames: read in order in big pieces by one thread, checked by the workers meanwhile.
//!
//! A piece ends at the end of a group. Frames do not, so the bytes of a frame that goes on are given to the next piece too.
//! Tokens bound the pieces in memory.

use super::Keyed;
use super::damage::Lost;
use super::findings::FindingId;
use crate::backend::{ObjectInfo, ObjectKind};
use crate::error::{Error, ErrorKind, Result};
use crate::format::object::HEADER_LENGTH;
use crate::format::{FrameRecord, Roles};
use crate::id::{FrameClass, PackId};
use crate::limits::GROUP_SIZE;
use crate::progress::Event;
use crate::repository::index::{ChunkPlace, FrameOrdinal, FramePlace};
use crate::repository::{Frame, PackTail, WantedBases};
use crate::runtime::channel::bounded;
use parking_lot::Mutex;
use std::sync::atomic::Ordering;

/// Bytes read at once.
pub(super) const PIECE_LENGTH: usize = 4 * GROUP_SIZE;
/// Frames with bases are opened when so many bases of them are known: some MB of memory.
const BASES_AT_ONCE: usize = 20_000;

/// Bytes of a frames region that belong together.
struct Piece<'t> {
    /// From `start` in the region on: what is left of a frame, and what was read.
    bytes: Vec<u8>,
    start: usize,
    /// Where in `bytes` the groups begin.
    fresh: usize,
    /// Frames that end in this piece, each with its place in the region.
    frames: &'t [(usize, &'t FrameRecord)],
}

/// A frame with bases that is to be opened.
struct WithBases<'a> {
    /// By the first frame that it stands on.
    turn: u32,
    object: &'a ObjectInfo,
    at: usize,
    record: FrameRecord,
}

impl Keyed<'_> {
    /// Reads and checks all frames of a pack whose tail is right.
    pub(super) fn scrub_pack(&self, object: &ObjectInfo, tail: &PackTail) -> Result<()> {
        let pool = self.repository.pool()?;
        let length = tail.footer.frames_length as usize;
        let mut at = 0;
        let frames: Vec<(usize, &FrameRecord)> = tail.tables.contents.frames.iter().map(|frame| (step(&mut at, frame), frame)).collect();
        let failed = Mutex::new(None);
        let (give_back, tokens) = bounded(pool.current_num_threads() + 1);
        for _ in 0..=pool.current_num_threads() {
            give_back.send(()).map_err(|_| Error::new(ErrorKind::Internal, "tokens of the scrub"))?;
        }
        pool.in_place_scope(|scope| {
            let mut rest = &frames[..];
            let (mut carry, mut end) = (Vec::new(), 0);
            while end < length && failed.lock().is_none() {
                self.reading.go_on()?;
                let piece_length = PIECE_LENGTH.min(length - end);
                let read = self.reading.backend.get_range(&object.name, (HEADER_LENGTH + end) as u64, piece_length);
                let fresh = read.and_then(|fresh| match fresh.len() == piece_length {
                    true => Ok(fresh),
                    false => Err(Error::new(ErrorKind::Damaged, format!("{}: the store gives fewer bytes than it has", object.name))),
                });
                let fresh = match fresh {
                    Ok(fresh) => fresh,
                    Err(error) if self.reading.is_gone_by(&object.name, &error) => {
                        return self.reading.judge::<()>(&object.name, Err(error)).map(drop);
                    }
                    Err(error) => {
                        carry.clear();
                        let begun = rest.partition_point(|(at, _)| *at < end + piece_length);
                        self.check_one_by_one(object, &rest[..begun], &self.reading.tolerate(error)?)?;
                        rest = &rest[begun..];
                        end += piece_length;
                        continue;
                    }
                };
                let start = end - carry.len();
                end += fresh.len();
                self.reading.counts.bytes_read.fetch_add(fresh.len() as u64, Ordering::Relaxed);
                self.reading.progress.event(Event::Advance { bytes: fresh.len() as u64, items: 0 });
                let done = rest.partition_point(|(at, frame)| at + frame.sealed_length as usize <= end);
                let (ended, later) = rest.split_at(done);
                rest = later;
                let fresh_at = carry.len();
                let mut bytes = std::mem::take(&mut carry);
                bytes.extend_from_slice(&fresh);
                drop(fresh);
                if let Some((next, _)) = later.first() {
                    carry = bytes.get(next.saturating_sub(start)..).unwrap_or_default().to_vec();
                }
                let piece = Piece { bytes, start, fresh: fresh_at, frames: ended };
                tokens.recv().map_err(|_| Error::new(ErrorKind::Internal, "tokens of the scrub"))?;
                let (give_back, failed) = (give_back.clone(), &failed);
                scope.spawn(move |_| {
                    if let Err(error) = self.check_piece(object, tail, &piece) {
                        failed.lock().get_or_insert(error);
                    }
                    // Nobody waits for tokens after a failure.
                    let _ = give_back.send(());
                });
            }
            Ok(())
        })?;
        failed.into_inner().map_or(Ok(()), Err)
    }

    /// Reads frames each for itself, after `error` has come in the place of all of them: what cannot be read is as good as damaged.
    fn check_one_by_one(&self, object: &ObjectInfo, frames: &[(usize, &FrameRecord)], error: &Error) -> Result<()> {
        let pack = (object.name.kind(), PackId(object.name.id()));
        let finding = self.reading.findings.add(object.name, error);
        for (at, record) in frames {
            self.reading.go_on()?;
            let read = self.reading.backend.get_range(&object.name, (HEADER_LENGTH + at) as u64, record.sealed_length as usize);
            if read.and_then(|sealed| self.check_frame(pack, *at, record, &sealed)).is_err() {
                self.damage.lose_frame(pack, record.id, || finding);
            }
        }
        Ok(())
    }

    fn check_piece(&self, object: &ObjectInfo, tail: &PackTail, piece: &Piece<'_>) -> Result<()> {
        let pack = (object.name.kind(), PackId(object.name.id()));
        let first_group = (piece.start + piece.fresh) / GROUP_SIZE;
        let mut said: Option<FindingId> = None;
        let groups = piece.bytes.get(piece.fresh..).unwrap_or_default().chunks(GROUP_SIZE);
        for (number, bytes) in groups.enumerate() {
            let number = first_group + number;
            let expected = tail.groups.get(32 * number..32 * (number + 1)).unwrap_or_default();
            if blake3::hash(bytes).as_bytes() != expected {
                let message = format!("{}: group {number} of 1 MiB does not have its hash", object.name);
                said = Some(self.reading.findings.add(object.name, &Error::rule("PACK-4", message)));
            }
        }
        for (at, record) in piece.frames {
            let sealed = at.checked_sub(piece.start).and_then(|at| piece.bytes.get(at..at + record.sealed_length as usize));
            let result = match sealed {
                Some(sealed) => self.check_frame(pack, *at, record, sealed),
                None => Err(Error::rule("PACK-9", format!("frame {} is not where it should be", record.id))),
            };
            match result {
                Ok(()) => {}
                Err(error) if error.broken_rule().is_some() => {
                    // One finding for each damaged pack carries whom it hurts; a group that is damaged says it already.
                    let name = object.name;
                    let add = || said.unwrap_or_else(|| self.reading.findings.add(name, &error.context(name)));
                    self.damage.lose_frame(pack, record.id, add);
                }
                Err(error) => drop(self.reading.judge::<()>(&object.name, Err(error))?),
            }
        }
        Ok(())
    }

    /// Checks a sealed frame as far as the credential can (FRAME-1 to FRAME-7).
    fn check_frame(&self, pack: (ObjectKind, PackId), at: usize, record: &FrameRecord, sealed: &[u8]) -> Result<()> {
        let is_refs = record.id.class() == Some(FrameClass::Refs);
        let is_opened = is_refs || self.repository.roles().contain(Roles::RESTORE);
        // Bases may lie in packs that are not known yet ([`Keyed::scrub_frames_with_bases`]).
        if !is_opened || !record.bases.is_empty() {
            return match blake3::hash(sealed).as_bytes() == &record.hash {
                true => Ok(()),
                false => Err(Error::rule("FRAME-1", format!("frame {} does not have the hash of its contents table", record.id))),
            };
        }
        // The index knows the pack; only the number by which it would cache the frame is taken from it.
        let ordinal = self.reader.index().ordinal_of(record.id)?.ok_or_else(|| Error::new(ErrorKind::Internal, "a pack is not indexed"))?;
        let place = self.place_of(pack, at, record, ordinal);
        let frame = self.reader.decode(&place, &record.hash, &mut sealed.to_vec())?;
        self.check_chunks(record, ordinal, &frame)
    }

    /// Opens the frames with bases of packs that were scrubbed, after all packs are known. What is wrong with a base is said of that alone.
    pub(super) fn scrub_frames_with_bases(&self, packs: &[&ObjectInfo]) -> Result<()> {
        let (mut frames, mut bases) = (Vec::new(), 0);
        for object in packs {
            let Some(tail) = self.reading.judge(&object.name, self.repository.read_pack_tail(&object.name, object.size))? else { continue };
            let mut at = 0;
            for record in tail.tables.contents.frames {
                let at = step(&mut at, &record);
                if let Some(first) = record.bases.first() {
                    // Frames that stand on the same ones follow each other.
                    let turn = self.reader.index().ordinal_of(first.frame)?.map_or(u32::MAX, FrameOrdinal::get);
                    bases += record.bases.len();
                    frames.push(WithBases { turn, object, at, record });
                }
            }
            if bases > BASES_AT_ONCE {
                self.scrub_in_turn(std::mem::take(&mut frames))?;
                bases = 0;
            }
        }
        self.scrub_in_turn(frames)
    }

    fn scrub_in_turn(&self, mut frames: Vec<WithBases<'_>>) -> Result<()> {
        frames.sort_by_key(|frame| frame.turn);
        let mut wanted = WantedBases::default();
        for base in frames.iter().flat_map(|frame| &frame.record.bases) {
            if let Some(ordinal) = self.reader.index().ordinal_of(base.frame)? {
                wanted.want(ordinal, *base);
            }
        }
        let pool = self.repository.pool()?;
        let failed = Mutex::new(None);
        let share = frames.len().div_ceil(pool.current_num_threads()).max(1);
        pool.in_place_scope(|scope| {
            for share in frames.chunks(share) {
                let (failed, wanted) = (&failed, &wanted);
                scope.spawn(move |_| {
                    if let Err(error) = share.iter().try_for_each(|frame| self.scrub_frame_with_bases(frame, wanted)) {
                        failed.lock().get_or_insert(error);
                    }
                });
            }
        });
        failed.into_inner().map_or(Ok(()), Err)
    }

    fn scrub_frame_with_bases(&self, frame: &WithBases<'_>, wanted: &WantedBases) -> Result<()> {
        self.reading.go_on()?;
        let WithBases { object, at, record, .. } = frame;
        let pack = (object.name.kind(), PackId(object.name.id()));
        let index = self.reader.index();
        let Some(ordinal) = index.ordinal_of(record.id)? else { return Ok(()) };
        let (frame, domain) = (record.id, crate::id::DomainId([0; 16]));
        let place = self.place_of(pack, *at, record, ordinal);
        let chunk = ChunkPlace { frame, position: 0, ordinal, domain, has_bases: true };
        if self.damage.of_place(&place).is_some() || self.damage.of_bases(index, &chunk)? != Lost::No {
            return Ok(());
        }
        self.reader.bring_bases(&place, wanted);
        match self.reader.read(&place).and_then(|frame| self.check_chunks(record, ordinal, &frame)) {
            Err(error) if error.broken_rule().is_some() || error.kind() == ErrorKind::Damaged => {
                let add = || self.reading.findings.add(object.name, &error.context(object.name));
                self.damage.lose_frame(pack, record.id, add);
                Ok(())
            }
            // A base went since packs were listed, and so nothing that counts needs this frame (I8).
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            read => self.reading.judge(&object.name, read).map(drop),
        }
    }

    fn place_of(&self, pack: (ObjectKind, PackId), at: usize, record: &FrameRecord, ordinal: FrameOrdinal) -> FramePlace {
        FramePlace {
            ordinal,
            id: record.id,
            domain: crate::id::DomainId([0; 16]),
            kind: pack.0,
            pack: pack.1,
            offset: (HEADER_LENGTH + at) as u64,
            sealed_length: record.sealed_length,
            plaintext_length: record.plaintext_length,
            chunk_count: record.chunks.len() as u32,
            has_bases: !record.bases.is_empty(),
        }
    }

    /// FRAME-7. A meta chunk is a tree node or a recipe node, which its type byte tells and its id must agree with.
    fn check_chunks(&self, record: &FrameRecord, ordinal: FrameOrdinal, frame: &Frame) -> Result<()> {
        let class = record.id.class().ok_or_else(|| Error::rule("PACK-7", format!("frame {} has no class", record.id)))?;
        for (position, id) in record.chunks.iter().enumerate() {
            let bytes = frame.chunk(position as u32).unwrap_or_default();
            self.reader.ids().check_in_frame(class, id, bytes).map_err(|error| error.context(format!("frame {}", record.id)))?;
        }
        if class == FrameClass::Data {
            let length = |position| frame.chunk(position).map_or(0, |bytes| bytes.len() as u32);
            self.lengths.note(ordinal.get(), (0..record.chunks.len() as u32).map(length));
        }
        Ok(())
    }
}

/// Where a frame begins; moves on to the next.
fn step(at: &mut usize, frame: &FrameRecord) -> usize {
    let begin = *at;
    *at += frame.sealed_length as usize;
    begin
}

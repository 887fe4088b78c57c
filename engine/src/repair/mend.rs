//! Damaged packs: what is good is copied under a new name, and the pack is condemned.

use super::plan::{PackRepair, RepairPlan};
use crate::backend::{BackendExt, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::index_object::IndexBody;
use crate::format::object::HEADER_LENGTH;
use crate::format::{FrameRecord, Roles, Tables, check_writer};
use crate::gc::{Copier, Epochs, Pack, PackGroup};
use crate::id::{FrameId, PackId, SessionId};
use crate::progress::{Event, Progress};
use crate::repository::Repository;
use std::collections::HashSet;

/// What mending packs did.
#[derive(Debug, Default)]
pub(super) struct Mended {
    /// Packs of copies.
    pub(super) packs: Vec<Pack>,
    pub(super) written: PackGroup,
    pub(super) frames_copied: u64,
    pub(super) epoch: Option<u32>,
}

/// Copies what is good of the damaged packs, and condemns them. `None` where a collector published an epoch first: what was copied may then be
/// condemned as well (`EpochOnce`, `CopyNotCondemned`).
pub(super) fn condemn(repository: &Repository, plan: &RepairPlan, own: SessionId, progress: &dyn Progress) -> Result<Option<Mended>> {
    let mut epochs = Epochs::read(repository)?;
    let key = |repair: &PackRepair| (repair.pack.kind(), PackId(repair.pack.id()));
    let damaged: Vec<_> = plan.packs.iter().filter(|repair| !epochs.condemned.contains_key(&key(repair))).collect();
    let mut mended = Mended::default();
    if damaged.is_empty() {
        return Ok(Some(mended));
    }
    let bytes_total = Some(damaged.iter().map(|repair| repair.bytes_good).sum());
    progress.event(Event::Phase { name: "copy", bytes_total, items_total: None });
    let mut copier = Copier::new(repository, progress);
    for repair in &damaged {
        let Some(tables) = tables_of(repository, &repair.pack)? else { continue };
        let sorted = sort_frames(repository, repair, &tables, progress)?;
        let good: HashSet<FrameId> = sorted.into_iter().filter(|(_, is_good)| *is_good).map(|(frame, _)| frame.id).collect();
        if !copier.copy_of(repair.pack, &tables, |frame, _| Ok(good.contains(&frame.id)))? {
            let message = format!("{}: what could be read a moment ago cannot be read now; run repair again", repair.pack);
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        mended.frames_copied += good.len() as u64;
    }
    copier.finish()?;
    for (pack, size) in &copier.written {
        mended.packs.push(*pack);
        mended.written.packs += 1;
        mended.written.bytes += size;
    }
    if !epochs.publish(repository, own, damaged.into_iter().map(key).collect(), std::iter::empty())? {
        return Ok(None);
    }
    mended.epoch = Some(epochs.newest);
    Ok(Some(mended))
}

/// What a pack holds, as its own table says or, where its end is damaged, an index object. `None` where nothing tells.
pub(super) fn tables_of(repository: &Repository, name: &ObjectName) -> Result<Option<Tables>> {
    match repository.backend.size(name).and_then(|size| repository.read_pack_tail(name, size)) {
        Ok(tail) => Ok(Some(tail.tables)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if matches!(error.kind(), ErrorKind::Damaged | ErrorKind::Unavailable) => told_by_index_object(repository, name),
        Err(error) => Err(error),
    }
}

/// What index objects tell of a pack. Anybody who makes backups may have written one that lies: maintain's telling counts first, where anything in
/// the pack is as it says, and then that of which most is.
fn told_by_index_object(repository: &Repository, name: &ObjectName) -> Result<Option<Tables>> {
    let mut best: Option<((bool, usize), Tables)> = None;
    for object in repository.backend.list_sorted(ObjectKind::Index)? {
        let read = repository.read_sealed(&object.name).and_then(|unsealed| {
            let body = IndexBody::decode(&unsealed.plaintext, &repository.id, &repository.trust)?;
            let roles = unsealed.certificate.roles();
            check_writer(&body.sessions, (unsealed.certificate.verifying_key(), roles))?;
            Ok((body, roles.contain(Roles::MAINTAIN)))
        });
        let Ok((body, is_by_maintain)) = read else { continue };
        let told = body.packs.into_iter().find(|(kind, pack, _)| (*kind, pack.0) == (name.kind(), name.id()));
        let Some((_, _, contents)) = told else { continue };
        let good = with_offsets(&contents.frames).filter(|(offset, frame)| is_whole(repository, name, *offset, frame)).count();
        let weight = (is_by_maintain && good > 0, good);
        if best.as_ref().is_none_or(|(known, _)| weight > *known) {
            best = Some((weight, Tables { sessions: body.sessions, contents }));
        }
    }
    Ok(best.map(|(_, tables)| tables))
}

/// Frames with where they stand in their pack.
fn with_offsets(frames: &[FrameRecord]) -> impl Iterator<Item = (u64, &FrameRecord)> {
    frames.iter().scan(HEADER_LENGTH as u64, |offset, frame| {
        let here = *offset;
        *offset += u64::from(frame.sealed_length);
        Some((here, frame))
    })
}

/// Whether a frame can be read and has its hash.
fn is_whole(repository: &Repository, pack: &ObjectName, offset: u64, frame: &FrameRecord) -> bool {
    let read = repository.backend.get_range(pack, offset, frame.sealed_length as usize);
    read.is_ok_and(|bytes| blake3::hash(&bytes).as_bytes() == &frame.hash)
}

/// The frames of a pack, each with whether it can be read and is what was written.
pub(super) fn sort_frames(
    repository: &Repository,
    repair: &PackRepair,
    tables: &Tables,
    progress: &dyn Progress,
) -> Result<Vec<(FrameRecord, bool)>> {
    let mut sorted = Vec::with_capacity(tables.contents.frames.len());
    for (offset, frame) in with_offsets(&tables.contents.frames) {
        if progress.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "repair was stopped; nothing was condemned"));
        }
        // A frame can have its hash and be wrong all the same, if it was written so.
        let is_good = !repair.bad.contains(&frame.id) && is_whole(repository, &repair.pack, offset, frame);
        sorted.push((frame.clone(), is_good));
    }
    Ok(sorted)
}

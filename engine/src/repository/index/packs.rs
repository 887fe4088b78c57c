//! Which packs the index knows, and which numbers they and their frames have.
//!
//! Packs are numbered in the order in which they were added. The frames of a pack have consecutive ordinals, in the order in which they lie
//! there, after those of the packs before. A pack that is removed keeps its numbers, unlisted, until all are given out anew.

use super::fault::{Fault, Result};
use super::run::PACKS_MAX;
use crate::backend::ObjectKind;
use crate::format::ContentsTable;
use crate::id::PackId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};

/// One pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pack {
    pub(super) kind: ObjectKind,
    pub(super) id: PackId,
    /// The ordinal of its first frame.
    pub(super) first: u32,
    pub(super) frames: u32,
    /// Of the frames' identities, see [`digest`].
    pub(super) digest: u32,
    pub(super) is_listed: bool,
}

/// Four bytes of BLAKE3 of the identities of a pack's frames, by which a contents table is recognised that was seen before.
pub(super) fn digest(table: &ContentsTable) -> u32 {
    let mut hasher = blake3::Hasher::new();
    for frame in &table.frames {
        hasher.update(frame.id.session.as_bytes()).update(&frame.id.number.to_le_bytes());
    }
    hasher.finalize().as_bytes().first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// All packs, by number.
#[derive(Debug, Default)]
pub(super) struct PackTable {
    packs: Vec<Pack>,
    listed: HashMap<(ObjectKind, PackId), u32>,
    frames_listed: u32,
    /// The pack in which the last ordinal was: the next one is often there too.
    last: AtomicU32,
}

impl PackTable {
    /// Adds a pack and gives the ordinal of its first frame. The pack must not be listed yet.
    pub(super) fn add(&mut self, kind: ObjectKind, id: PackId, table: &ContentsTable) -> Result<u32> {
        let first = self.frames();
        let frames = u32::try_from(table.frames.len()).map_err(|_| Fault::Full)?;
        self.restore(Pack { kind, id, first, frames, digest: digest(table), is_listed: true })?;
        Ok(first)
    }

    fn push(&mut self, pack: Pack) {
        if pack.is_listed {
            self.listed.insert((pack.kind, pack.id), self.len());
            self.frames_listed += pack.frames;
        }
        self.packs.push(pack);
    }

    /// Adds a pack that may be unlisted already, as the manifest gives it; the ordinal of its first frame follows from those before.
    pub(super) fn restore(&mut self, pack: Pack) -> Result<()> {
        let first = self.frames();
        first.checked_add(pack.frames).filter(|_| self.len() < PACKS_MAX).ok_or(Fault::Full)?;
        self.push(Pack { first, ..pack });
        Ok(())
    }

    /// Unlists a pack; whether it was listed.
    pub(super) fn remove(&mut self, kind: ObjectKind, id: PackId) -> bool {
        let Some(at) = self.listed.remove(&(kind, id)) else { return false };
        let pack = &mut self.packs[at as usize];
        pack.is_listed = false;
        self.frames_listed -= pack.frames;
        true
    }

    pub(super) fn contains(&self, kind: ObjectKind, id: PackId) -> bool {
        self.listed.contains_key(&(kind, id))
    }

    /// The pack in which the frame of that ordinal lies, if it is listed.
    pub(super) fn of_ordinal(&self, ordinal: u32) -> Option<&Pack> {
        let has = |pack: &Pack| ordinal.checked_sub(pack.first).is_some_and(|within| within < pack.frames);
        let last = self.packs.get(self.last.load(Ordering::Relaxed) as usize).filter(|pack| has(pack));
        if let Some(pack) = last {
            return Some(pack).filter(|pack| pack.is_listed);
        }
        let at = self.packs.partition_point(|pack| pack.first <= ordinal).checked_sub(1)?;
        self.last.store(at as u32, Ordering::Relaxed);
        self.packs.get(at).filter(|pack| pack.is_listed && has(pack))
    }

    /// The number of the next pack.
    pub(super) fn len(&self) -> u32 {
        self.packs.len() as u32
    }

    /// The pack of that number, if it is listed.
    pub(super) fn get(&self, number: u32) -> Option<&Pack> {
        self.packs.get(number as usize).filter(|pack| pack.is_listed)
    }

    /// The number of a listed pack.
    pub(super) fn number_of(&self, kind: ObjectKind, id: PackId) -> Option<u32> {
        self.listed.get(&(kind, id)).copied()
    }

    /// All packs, by number, the unlisted ones too.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Pack> {
        self.packs.iter()
    }

    pub(super) fn listed(&self) -> impl ExactSizeIterator<Item = (ObjectKind, PackId)> + '_ {
        self.listed.keys().copied()
    }

    /// Frames in all packs; the next ordinal.
    pub(super) fn frames(&self) -> u32 {
        self.packs.last().map_or(0, |pack| pack.first + pack.frames)
    }

    /// Frames in listed packs.
    pub(super) fn frames_listed(&self) -> u32 {
        self.frames_listed
    }

    /// The number that a pack of this table has in `compacted`; `None` where it is unlisted.
    pub(super) fn number_in(&self, compacted: &Self, number: u32) -> Option<u32> {
        self.get(number).and_then(|pack| compacted.number_of(pack.kind, pack.id))
    }

    /// The same listed packs with numbers given out anew, without gaps and in the same order.
    pub(super) fn compacted(&self) -> Self {
        let mut compacted = Self::default();
        for pack in self.packs.iter().filter(|pack| pack.is_listed) {
            compacted.push(Pack { first: compacted.frames(), ..*pack });
        }
        compacted
    }

    /// The ordinal that a frame of this table has in `compacted`; `None` where its pack is unlisted.
    pub(super) fn ordinal_in(&self, compacted: &Self, ordinal: u32) -> Option<u32> {
        let pack = self.of_ordinal(ordinal)?;
        let number = compacted.number_of(pack.kind, pack.id)?;
        Some(compacted.get(number)?.first + (ordinal - pack.first))
    }
}

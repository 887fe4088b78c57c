//! Which packs the index knows, and which ordinals their frames have.
//!
//! The frames of a pack have consecutive ordinals, in the order in which they lie there; packs have theirs in the order in
//! which they were added. A pack that is removed keeps its range, unlisted, until the ordinals are given out anew.

use super::fault::{Fault, Result};
use crate::backend::ObjectKind;
use crate::id::PackId;
use std::collections::HashMap;

/// One pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pack {
    pub(super) kind: ObjectKind,
    pub(super) id: PackId,
    /// The ordinal of its first frame.
    pub(super) first: u32,
    pub(super) frames: u32,
    pub(super) is_listed: bool,
}

/// All packs, by ordinal.
#[derive(Debug, Default)]
pub(super) struct PackTable {
    packs: Vec<Pack>,
    listed: HashMap<(ObjectKind, PackId), usize>,
    frames_listed: u32,
}

impl PackTable {
    /// Adds a pack and gives the ordinal of its first frame. The pack must not be listed yet.
    pub(super) fn add(&mut self, kind: ObjectKind, id: PackId, frames: usize) -> Result<u32> {
        let first = self.frames();
        let frames = u32::try_from(frames).ok().filter(|&frames| first.checked_add(frames).is_some()).ok_or(Fault::Full)?;
        self.push(Pack { kind, id, first, frames, is_listed: true });
        Ok(first)
    }

    fn push(&mut self, pack: Pack) {
        if pack.is_listed {
            self.listed.insert((pack.kind, pack.id), self.packs.len());
            self.frames_listed += pack.frames;
        }
        self.packs.push(pack);
    }

    /// Adds a pack that may be unlisted already, as the manifest gives it.
    pub(super) fn restore(&mut self, kind: ObjectKind, id: PackId, frames: u32, is_listed: bool) -> Result<()> {
        let first = self.frames();
        first.checked_add(frames).ok_or(Fault::Full)?;
        self.push(Pack { kind, id, first, frames, is_listed });
        Ok(())
    }

    /// Unlists a pack; whether it was listed.
    pub(super) fn remove(&mut self, kind: ObjectKind, id: PackId) -> bool {
        let Some(at) = self.listed.remove(&(kind, id)) else { return false };
        let pack = &mut self.packs[at];
        pack.is_listed = false;
        self.frames_listed -= pack.frames;
        true
    }

    pub(super) fn contains(&self, kind: ObjectKind, id: PackId) -> bool {
        self.listed.contains_key(&(kind, id))
    }

    /// The pack in which the frame of that ordinal lies, if it is listed.
    pub(super) fn of_ordinal(&self, ordinal: u32) -> Option<&Pack> {
        let at = self.packs.partition_point(|pack| pack.first <= ordinal);
        self.packs.get(at.checked_sub(1)?).filter(|pack| pack.is_listed && ordinal - pack.first < pack.frames)
    }

    /// All packs, by ordinal, the unlisted ones too.
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

    /// The same listed packs with ordinals given out anew, without gaps and in the same order.
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
        let at = *compacted.listed.get(&(pack.kind, pack.id))?;
        Some(compacted.packs[at].first + (ordinal - pack.first))
    }
}

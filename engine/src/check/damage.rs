//! What is known to be lost, and which finding says so.

use super::findings::{FindingId, Findings};
use super::survey;
use crate::backend::ObjectKind;
use crate::error::Result;
use crate::format::ContentsTable;
use crate::id::{ChunkId, DomainId, FrameClass, FrameId, PackId, RepositoryId};
use crate::repository::index::{ChunkPlace, FramePlace, LookupIndex, Spool};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Damaged packs and frames.
#[derive(Debug)]
pub(super) struct Damage {
    /// What lay in packs that cannot be used, as index objects or what is left of them tell.
    lost: LookupIndex,
    packs: Mutex<HashMap<(ObjectKind, PackId), BadPack>>,
}

#[derive(Debug)]
struct BadPack {
    finding: FindingId,
    extent: Extent,
}

/// How much of a pack cannot be used.
#[derive(Debug)]
enum Extent {
    /// All of it; what lay in it is in `lost`.
    Whole,
    /// All of it, and nobody knows what lay in it.
    Unknown,
    /// These frames.
    Frames(HashSet<FrameId>),
}

/// Whether something is lost, and which finding says so if any does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    No,
    Yes(Option<FindingId>),
}

impl Damage {
    /// Nothing is lost.
    pub(super) fn new(repository: RepositoryId) -> Result<Self> {
        Ok(Self { lost: LookupIndex::open(None, repository, Arc::new(Spool::new()?))?, packs: Mutex::default() })
    }

    /// A pack cannot be used at all; `table` is what is known of its contents.
    pub(super) fn lose_pack(&self, pack: (ObjectKind, PackId), finding: FindingId, table: Option<&ContentsTable>) -> Result<()> {
        let extent = match table {
            Some(table) => {
                self.lost.add_pack(pack.0, pack.1, table, |_| DomainId([0; 16]))?;
                Extent::Whole
            }
            None => Extent::Unknown,
        };
        self.packs.lock().insert(pack, BadPack { finding, extent });
        Ok(())
    }

    /// An index object tells what was in a pack of which that was unknown.
    pub(super) fn tell(&self, pack: (ObjectKind, PackId), table: &ContentsTable) -> Result<()> {
        let mut packs = self.packs.lock();
        if let Some(bad) = packs.get_mut(&pack).filter(|bad| matches!(bad.extent, Extent::Unknown)) {
            self.lost.add_pack(pack.0, pack.1, table, |_| DomainId([0; 16]))?;
            bad.extent = Extent::Whole;
        }
        Ok(())
    }

    /// A frame of a pack is damaged; `finding` is asked for when it is the pack's first. Gives the finding that stands for the pack.
    pub(super) fn lose_frame(&self, pack: (ObjectKind, PackId), frame: FrameId, finding: impl FnOnce() -> FindingId) -> FindingId {
        let mut packs = self.packs.lock();
        let bad = packs.entry(pack).or_insert_with(|| BadPack { finding: finding(), extent: Extent::Frames(HashSet::new()) });
        if let Extent::Frames(frames) = &mut bad.extent {
            frames.insert(frame);
        }
        bad.finding
    }

    /// Which finding says that what lies at a place is damaged.
    pub(super) fn of_place(&self, place: &FramePlace) -> Option<FindingId> {
        let packs = self.packs.lock();
        let bad = packs.get(&(place.kind, place.pack))?;
        match &bad.extent {
            Extent::Frames(frames) if !frames.contains(&place.id) => None,
            _ => Some(bad.finding),
        }
    }

    /// Whether a frame that a place's frame is compressed against is damaged, or in no pack of `good`.
    pub(super) fn of_bases(&self, good: &LookupIndex, place: &ChunkPlace) -> Result<Lost> {
        if !place.has_bases || (self.is_empty() && good.stands_on_bases(place)?) {
            return Ok(Lost::No);
        }
        for base in good.bases_of(place.ordinal, place.frame)? {
            match good.ordinal_of(base.frame)?.map(|ordinal| good.frame(ordinal)).transpose()?.flatten() {
                None => return Ok(Lost::Yes(self.of_frame(base.frame)?)),
                Some(of_base) => {
                    if let Some(finding) = self.of_place(&of_base) {
                        return Ok(Lost::Yes(Some(finding)));
                    }
                }
            }
        }
        Ok(Lost::No)
    }

    /// A pack is healed.
    pub(super) fn forget(&self, pack: (ObjectKind, PackId)) {
        self.packs.lock().remove(&pack);
    }

    /// Whether anything is lost.
    pub(super) fn is_empty(&self) -> bool {
        self.packs.lock().is_empty()
    }

    /// Every pack with which something is wrong, and which of its frames where it is only some; sorted.
    pub(super) fn packs(&self) -> Vec<survey::BadPack> {
        let frames = |bad: &BadPack| if let Extent::Frames(frames) = &bad.extent { Some(frames.clone()) } else { None };
        let bad_packs = self.packs.lock();
        let mut packs: Vec<_> = bad_packs.iter().map(|(pack, bad)| survey::BadPack { pack: *pack, frames: frames(bad) }).collect();
        packs.sort_unstable_by_key(|bad| bad.pack);
        packs
    }

    /// Whether something is wrong with a pack.
    pub(super) fn knows(&self, pack: (ObjectKind, PackId)) -> bool {
        self.packs.lock().contains_key(&pack)
    }

    /// Which finding explains that a chunk is not in `good`, which holds the packs that can be used.
    pub(super) fn of_chunk(&self, good: &LookupIndex, id: &ChunkId, class: FrameClass) -> Result<Option<FindingId>> {
        for index in [good, &self.lost] {
            let places = index.places_of(id)?;
            let found = places.found.into_iter().filter(|place| place.frame.class() == Some(class)).map(|place| place.ordinal);
            for ordinal in found.chain(places.unread.into_iter().map(|(ordinal, _)| ordinal)) {
                if let Some(finding) = index.frame(ordinal)?.and_then(|place| self.of_place(&place)) {
                    return Ok(Some(finding));
                }
            }
        }
        Ok(self.only_unknown(class))
    }

    /// Which finding explains that a frame is in no pack that can be used.
    pub(super) fn of_frame(&self, frame: FrameId) -> Result<Option<FindingId>> {
        if let Some(ordinal) = self.lost.ordinal_of(frame)?
            && let Some(finding) = self.lost.frame(ordinal)?.and_then(|place| self.of_place(&place))
        {
            return Ok(Some(finding));
        }
        Ok(frame.class().and_then(|class| self.only_unknown(class)))
    }

    /// The one pack of a class of which nobody knows what was in it: what is missing otherwise was there.
    fn only_unknown(&self, class: FrameClass) -> Option<FindingId> {
        let packs = self.packs.lock();
        let mut unknown =
            packs.iter().filter(|((kind, _), bad)| kind.frame_class() == Some(class) && matches!(bad.extent, Extent::Unknown));
        let only = unknown.next().map(|(_, bad)| bad.finding);
        if unknown.next().is_some() { None } else { only }
    }

    /// Packs of which index objects tell and that are not listed: a finding only where a snapshot still needs them.
    pub(super) fn lose_ghost(&self, findings: &Findings, pack: (ObjectKind, PackId), table: &ContentsTable) -> Result<()> {
        if self.packs.lock().contains_key(&pack) {
            return Ok(());
        }
        let name = crate::backend::ObjectName::pack(pack.0, pack.1);
        let message = format!("{name} is gone: an index object tells what was in it, and a snapshot needs some of that");
        self.lose_pack(pack, findings.say_if_needed(name, message), Some(table))
    }
}

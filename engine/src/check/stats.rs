//! How much there is: what people put in, what of it is unique, what is stored.

use super::uses::FrameSet;
use crate::backend::{BackendExt, ObjectKind};
use crate::entry::{EntryKind, KeyKind};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Roles, Usage};
use crate::id::{ChunkId, FrameClass, FrameId};
use crate::progress::{Event, Progress};
use crate::repository::index::{FrameOrdinal, FramePlace};
use crate::repository::{AnyNodes, FrameReader, Repository, Snapshot};
use crate::tree::{KeyRange, RefsWalk, TreeWalk};
use std::collections::HashMap;

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Snapshots counted.
    pub snapshots: u64,
    /// Entries of all of them.
    pub entries: u64,
    /// Files of all of them.
    pub files: u64,
    /// Sizes of these files in bytes, holes included.
    pub logical_bytes: u64,
    /// Data chunks used, each frame's once.
    pub unique_chunks: u64,
    /// Plaintext bytes of the data and meta frames used. Of a frame used in part the share of its chunks that are used counts, an estimate.
    pub unique_bytes: u64,
    /// Plaintext bytes of those frames among them that are compressed against others.
    pub delta_bytes: u64,
    /// Sealed bytes of these frames.
    pub delta_stored_bytes: u64,
    /// Bytes of all packs; for some snapshots only, the sealed bytes of the frames that they use, shared out likewise.
    pub stored_bytes: u64,
    /// Packs; for some snapshots only, those in which their frames lie.
    pub packs: u64,
    /// Bytes of sidecars; 0 for some snapshots only.
    pub parity_bytes: u64,
    /// Objects of all kinds.
    pub objects: u64,
}

/// The frames that some snapshots use.
#[derive(Default)]
pub(super) struct FramesUsed {
    whole: FrameSet,
    /// Bitmaps of the chunks used, of frames that nobody uses whole.
    parts: HashMap<u32, Vec<u8>>,
    frames: Vec<FrameOrdinal>,
}

impl Repository {
    /// Counts what one snapshot, or all that count, hold.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the role restore, [`ErrorKind::Damaged`] where what is needed is (run check), otherwise what the
    /// backend says.
    pub fn stats(&self, snapshot: Option<&Snapshot>, progress: &dyn Progress) -> Result<Stats> {
        if let Some(snapshot) = snapshot {
            return self.stats_of(std::slice::from_ref(snapshot), progress);
        }
        self.require(Roles::RESTORE, "counting what snapshots hold")?;
        let (mut stats, ..) = self.count_used(&self.snapshots()?, progress)?;
        for kind in ObjectKind::ALL.into_iter().filter(|kind| kind.is_pack()) {
            let objects = self.backend.list_sorted(kind)?;
            stats.packs += objects.len() as u64;
            stats.stored_bytes += objects.iter().map(|object| object.size).sum::<u64>();
        }
        stats.parity_bytes = self.backend.list_sorted(ObjectKind::Parity)?.iter().map(|object| object.size).sum();
        Ok(stats)
    }

    /// Counts what these snapshots hold together; what they share counts once.
    ///
    /// # Errors
    /// As [`Repository::stats`].
    pub fn stats_of(&self, snapshots: &[Snapshot], progress: &dyn Progress) -> Result<Stats> {
        self.require(Roles::RESTORE, "counting what snapshots hold")?;
        let (stats, used, reader) = self.count_used(snapshots, progress)?;
        let (packs, stored_bytes) = used.stored(&reader)?;
        Ok(Stats { packs, stored_bytes, ..stats })
    }

    /// All but packs and what is stored in them.
    fn count_used(&self, snapshots: &[Snapshot], progress: &dyn Progress) -> Result<(Stats, FramesUsed, FrameReader)> {
        progress.event(Event::Phase { name: "stats", bytes_total: None, items_total: Some(snapshots.len() as u64) });
        let reader = FrameReader::new(self, self.open_index()?);
        let mut stats = Stats { snapshots: snapshots.len() as u64, ..Stats::default() };
        let mut used = FramesUsed::default();
        for snapshot in snapshots {
            stats.entries += snapshot.header.entries;
            stats.logical_bytes = stats.logical_bytes.wrapping_add(snapshot.header.file_bytes);
            stats.files += self.count_files(&reader, snapshot, progress)?;
            let gone = |frame| Err(Error::new(ErrorKind::Damaged, format!("frame {frame} is in no pack; run check")));
            self.mark_used(&reader, &snapshot.header.refs_root, &mut used, gone)?;
            progress.event(Event::Advance { bytes: 0, items: 1 });
        }
        used.count(&reader, &mut stats)?;
        for kind in ObjectKind::ALL {
            stats.objects += self.backend.list_sorted(kind)?.len() as u64;
        }
        Ok((stats, used, reader))
    }

    fn count_files(&self, reader: &FrameReader, snapshot: &Snapshot, progress: &dyn Progress) -> Result<u64> {
        let chunks = self.snapshot_chunks(reader, &snapshot.header)?;
        let key_kind = if snapshot.body.keys_are_paths { KeyKind::Paths } else { KeyKind::Objects };
        let mut files = 0;
        for entry in TreeWalk::new(&chunks, &snapshot.body.tree_root, key_kind, KeyRange::all())? {
            files += u64::from(matches!(entry?.kind, EntryKind::File(_)));
            if progress.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "stopped"));
            }
        }
        Ok(files)
    }

    /// Marks the frames that the refs below `root` name, or those into which they were re-made; of those that are in no listed pack `gone` decides.
    pub(super) fn mark_used(
        &self,
        reader: &FrameReader,
        root: &ChunkId,
        used: &mut FramesUsed,
        gone: impl Fn(FrameId) -> Result<()>,
    ) -> Result<()> {
        let nodes = AnyNodes { reader };
        for frame in RefsWalk::new(&nodes, root)? {
            let frame = frame?;
            if let Some(ordinal) = reader.index().ordinal_of(frame.frame)? {
                used.mark(ordinal, frame.usage);
                continue;
            }
            let instead = reader.instead_of(self, &frame)?;
            for used_instead in instead.uses {
                if let Some(ordinal) = reader.index().ordinal_of(used_instead.frame)? {
                    used.mark(ordinal, used_instead.usage);
                }
            }
            if !instead.is_complete {
                gone(frame.frame)?;
            }
        }
        Ok(())
    }
}

impl FramesUsed {
    fn mark(&mut self, frame: FrameOrdinal, usage: Usage) {
        let ordinal = frame.get();
        if self.whole.contains(ordinal) {
            return;
        }
        let known = self.parts.contains_key(&ordinal);
        match usage {
            Usage::Whole | Usage::Base => {
                self.parts.remove(&ordinal);
                self.whole.insert(ordinal);
            }
            Usage::Part { bitmap, .. } => {
                let part = self.parts.entry(ordinal).or_default();
                part.resize(part.len().max(bitmap.len()), 0);
                part.iter_mut().zip(bitmap).for_each(|(all, one)| *all |= one);
            }
        }
        if !known {
            self.frames.push(frame);
        }
    }

    /// How many of a frame's chunks are used here and not by `others`; `None` where they do not use the frame at all.
    pub(super) fn chunks_of_one(&self, place: &FramePlace, others: &Self) -> Option<u64> {
        let ones = |part: &[u8]| part.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
        let ordinal = place.ordinal.get();
        if others.whole.contains(ordinal) {
            return Some(0);
        }
        let theirs = others.parts.get(&ordinal)?;
        Some(match self.parts.get(&ordinal) {
            None => u64::from(place.chunk_count).saturating_sub(ones(theirs)),
            Some(ours) => {
                let theirs = theirs.iter().copied().chain(std::iter::repeat(0));
                ours.iter().zip(theirs).map(|(ours, theirs)| u64::from((ours & !theirs).count_ones())).sum()
            }
        })
    }

    /// Calls `visit` for every frame with the number of its chunks that are used.
    pub(super) fn for_each(&self, reader: &FrameReader, mut visit: impl FnMut(&FramePlace, u64)) -> Result<()> {
        for frame in &self.frames {
            let Some(place) = reader.index().frame(*frame)? else { continue };
            let bits = self.parts.get(&frame.get()).map(|part| part.iter().map(|byte| u64::from(byte.count_ones())).sum());
            visit(&place, bits.unwrap_or(u64::from(place.chunk_count)));
        }
        Ok(())
    }

    fn count(&self, reader: &FrameReader, stats: &mut Stats) -> Result<()> {
        self.for_each(reader, |place, chunks| {
            if place.id.class() == Some(FrameClass::Data) {
                stats.unique_chunks += chunks;
            }
            stats.unique_bytes += share(place.plaintext_length, chunks, place.chunk_count);
            if place.has_bases {
                stats.delta_bytes += u64::from(place.plaintext_length);
                stats.delta_stored_bytes += u64::from(place.sealed_length);
            }
        })
    }

    /// Packs, and sealed bytes in them.
    fn stored(&self, reader: &FrameReader) -> Result<(u64, u64)> {
        let mut packs = std::collections::HashSet::new();
        let mut bytes = 0;
        self.for_each(reader, |place, chunks| {
            packs.insert((place.kind, place.pack));
            bytes += share(place.sealed_length, chunks, place.chunk_count);
        })?;
        Ok((packs.len() as u64, bytes))
    }
}

/// The part of a frame's bytes that falls to so many of its chunks.
pub(super) fn share(bytes: u32, part: u64, whole: u32) -> u64 {
    u64::from(bytes) * part.min(u64::from(whole)) / u64::from(whole.max(1))
}

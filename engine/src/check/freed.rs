//! What forgetting snapshots would free: the frames that nobody else needs, as the refs tell.

use super::stats::{FramesUsed, share};
use crate::backend::ObjectKind;
use crate::error::{Error, ErrorKind, Result};
use crate::id::SnapshotId;
use crate::progress::{Event, Progress};
use crate::repository::{FrameReader, Repository, SnapshotState};
use std::collections::BTreeSet;

/// What forgetting some snapshots would free. Refs and small objects are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Freed {
    /// The snapshots, without those that were withdrawn already.
    pub snapshots: u64,
    /// Frames that no other snapshot needs.
    pub frames: u64,
    /// Bytes of these frames in their packs.
    pub bytes: u64,
    /// Of frames that others need in part: the share of the chunks that nobody else needs, an estimate in bytes. It comes back only where
    /// garbage collection makes these frames anew.
    pub bytes_in_part: u64,
}

impl Repository {
    /// Counts what forgetting these snapshots together would free. Every credential may ask.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where one is unknown, [`ErrorKind::Damaged`] where the refs of a snapshot that counts cannot be read,
    /// [`ErrorKind::Cancelled`] when `progress` says so, otherwise what the backend says.
    pub fn stats_if_forgotten(&self, snapshots: &[SnapshotId], progress: &dyn Progress) -> Result<Freed> {
        let listing = self.list_snapshots()?;
        let ids: BTreeSet<_> = snapshots.iter().copied().collect();
        let (known, missing): (BTreeSet<_>, _) = (listing.snapshots.iter().collect(), listing.missing());
        let is_known = |id: &SnapshotId| known.contains(id) || listing.withdrawn.contains(id) || missing.contains(id);
        if let Some(unknown) = ids.iter().find(|id| !is_known(id)) {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no snapshot {unknown}")));
        }
        for (name, error) in listing.problems.iter().filter(|(name, _)| name.kind() == ObjectKind::Snapshot) {
            progress.event(Event::Notice { message: &format!("what {name} needs is not known: {error}") });
        }
        progress.event(Event::Phase { name: "refs", bytes_total: None, items_total: Some(known.len() as u64) });
        let reader = FrameReader::new(self, self.open_index()?);
        let (mut freed, mut theirs, mut others) = (Freed::default(), FramesUsed::default(), FramesUsed::default());
        for (id, header) in listing.headers().filter(|(id, _)| !listing.withdrawn.contains(id)) {
            if progress.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, "stopped"));
            }
            let goes = ids.contains(&id);
            freed.snapshots += u64::from(goes);
            let used = if goes { &mut theirs } else { &mut others };
            // What is in no pack takes no space.
            match self.mark_used(&reader, &header.refs_root, used, |_| Ok(())) {
                // Incomplete, as its backup did not end.
                Err(error) if error.kind() == ErrorKind::Damaged && listing.state(id, header) == SnapshotState::Suspect => {}
                marked => marked.map_err(|error| error.context(format_args!("snapshot {id}")))?,
            }
            progress.event(Event::Advance { bytes: 0, items: 1 });
        }
        theirs.for_each(&reader, |place, _| match theirs.chunks_of_one(place, &others) {
            None => {
                freed.frames += 1;
                freed.bytes += u64::from(place.sealed_length);
            }
            Some(chunks) => freed.bytes_in_part += share(place.sealed_length, chunks, place.chunk_count),
        })?;
        Ok(freed)
    }
}

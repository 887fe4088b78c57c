//! What a replica lacks of the snapshots that it is to have.

use super::ReplicateOptions;
use crate::backend::{ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::SnapshotHeader;
use crate::gc::{Epochs, Mark, Pack};
use crate::id::{FrameId, SessionId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::{Repository, SnapshotListing, SnapshotState};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// A snapshot that cannot be copied, and why.
pub(super) type Unfit = (SnapshotId, String);

/// Why a snapshot is left out whose session ended at the target without it. An end is written once.
pub(super) const ENDED_WITHOUT: &str = "the target says of the session that made it that it has ended without this snapshot, as when it could not be copied \
                                        with others of the session; `icecore tag` makes another one of it, which is copied";

/// A snapshot that is to be published.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) id: SnapshotId,
    pub(super) header: SnapshotHeader,
}

impl Wanted {
    pub(super) fn session(&self) -> SessionId {
        self.header.record.id()
    }
}

/// What is to be done.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    /// What the snapshots need, at the source.
    pub(super) mark: Mark<'a>,
    /// As the source has them.
    pub(super) source: SnapshotListing,
    /// As the target has them.
    pub(super) target: SnapshotListing,
    /// Snapshots to publish, oldest first.
    pub(super) wanted: Vec<Wanted>,
    /// Snapshots that the target has.
    pub(super) present: Vec<SnapshotId>,
    /// Snapshots that were forgotten at the target.
    pub(super) forgotten: Vec<SnapshotId>,
    /// Snapshots that cannot be copied, and why.
    pub(super) damaged: Vec<Unfit>,
    /// What else is wrong at the source.
    pub(super) problems: Vec<String>,
    /// Frames to copy, by the pack of the source where they stand.
    pub(super) frames: BTreeMap<Pack, HashSet<FrameId>>,
    pub(super) frame_count: u64,
    /// Sealed bytes of these frames.
    pub(super) bytes: u64,
}

impl<'a> Plan<'a> {
    /// Lists snapshots of both, then packs of both, and compares.
    pub(super) fn make(
        source: &'a Repository,
        target: &'a Repository,
        options: &ReplicateOptions,
        progress: &'a dyn Progress,
    ) -> Result<Self> {
        progress.event(Event::Phase { name: "compare", bytes_total: None, items_total: None });
        let at_source = source.list_snapshots()?;
        at_source.tell_setbacks(progress);
        let at_target = target.list_snapshots()?;
        let Chosen { snapshots, mut damaged, problems } = choose(source, &at_source, options)?;
        let epochs = Epochs::read(target)?;
        let mut at = Mark::new(target, &epochs, progress)?;
        if let Some(packs) = &options.distrusted {
            at.distrust(packs);
        }
        let (mut wanted, mut present, mut forgotten) = (Vec::new(), Vec::new(), Vec::new());
        for id in snapshots {
            let Some(header) = at_source.header(id) else { continue };
            if at_target.withdrawn.contains(&id) || epochs.name_withdrawn(&id, u32::MAX) {
                forgotten.push(id);
            } else if at_target.closed.get(&header.record.id()).is_some_and(|closed| !closed.snapshots.contains(&id)) {
                damaged.push((id, ENDED_WITHOUT.to_owned()));
            } else if is_whole(target, &at_target, &mut at, id, options.distrusted.is_some())? {
                present.push(id);
            } else {
                wanted.push(Wanted { id, header: header.clone() });
            }
        }
        wanted.sort_by_key(|wanted| (wanted.header.time, wanted.id));
        let mark = mark_readable(source, &mut wanted, &mut damaged, progress)?;
        let (mut frames, mut frame_count, mut bytes) = (BTreeMap::<Pack, HashSet<FrameId>>::new(), 0, 0);
        mark.for_each_needed(|place| {
            if !at.stands(place.id)? && frames.entry((place.kind, place.pack)).or_default().insert(place.id) {
                frame_count += 1;
                bytes += u64::from(place.sealed_length);
            }
            Ok(())
        })?;
        frames.retain(|_, frames| !frames.is_empty());
        Ok(Self { mark, source: at_source, target: at_target, wanted, present, forgotten, damaged, problems, frames, frame_count, bytes })
    }

    /// Takes out snapshots that need any of these frames, which could not be copied.
    pub(super) fn give_up(&mut self, lost: &HashSet<FrameId>, why: &str) -> Result<()> {
        if lost.is_empty() {
            return Ok(());
        }
        for wanted in std::mem::take(&mut self.wanted) {
            match self.mark.needs_any(&wanted.header, lost)? {
                true => self.damaged.push((wanted.id, why.to_owned())),
                false => self.wanted.push(wanted),
            }
        }
        Ok(())
    }
}

/// What is meant by [`ReplicateOptions`].
pub(super) struct Chosen {
    /// The snapshots. All of a session go together, because its `closed/`, which is written once, names them all.
    pub(super) snapshots: BTreeSet<SnapshotId>,
    /// Those that are meant and cannot be copied: they cannot be read or are gone, or nothing says any more whether they count.
    pub(super) damaged: Vec<Unfit>,
    /// What else is wrong, so that something may be left out of which nothing is known.
    pub(super) problems: Vec<String>,
}

/// Finds in a listing of the source what is meant. A marker that withdraws nothing leaves nothing out, and is for `check` to tell.
pub(super) fn choose(source: &Repository, listing: &SnapshotListing, options: &ReplicateOptions) -> Result<Chosen> {
    let (mut damaged, mut problems): (Vec<Unfit>, Vec<String>) = (Vec::new(), listing.setback.iter().map(ToString::to_string).collect());
    for (name, error) in &listing.problems {
        if name.kind() == ObjectKind::Withdrawn || !source.has(name)? {
            continue;
        }
        let of_session = |header: &SnapshotHeader| *name == ObjectName::closed(header.record.id());
        let ended: Vec<_> = listing.headers().filter(|(_, header)| of_session(header)).map(|(id, _)| id).collect();
        match name.kind() {
            ObjectKind::Snapshot => damaged.push((SnapshotId(name.id()), error.to_string())),
            _ if !ended.is_empty() => {
                let standing = ended.into_iter().filter(|id| !listing.withdrawn.contains(id));
                damaged.extend(standing.map(|id| (id, error.to_string())));
            }
            ObjectKind::Closed if options.snapshots.is_some() => {}
            _ => problems.push(error.to_string()),
        }
    }
    let gone = |id: &SnapshotId| (*id, "it was published, and somebody or something removed it from the store".to_owned());
    damaged.extend(listing.missing().iter().map(gone));
    let counts: BTreeMap<SnapshotId, SessionId> = listing
        .headers()
        .filter(|(id, header)| listing.state(*id, header) == SnapshotState::Closed && !listing.withdrawn.contains(id))
        .map(|(id, header)| (id, header.record.id()))
        .collect();
    let Some(named) = &options.snapshots else {
        return Ok(Chosen { snapshots: counts.into_keys().collect(), damaged, problems });
    };
    damaged.retain(|(id, _)| named.contains(id));
    if let Some(id) = named.iter().find(|id| !counts.contains_key(id) && !damaged.iter().any(|(damaged, _)| damaged == *id)) {
        let message = match listing.withdrawn.contains(id) {
            true => format!("snapshot {id} was forgotten"),
            false => format!("snapshot {id} is not one that counts: it is not there, or its backup did not end"),
        };
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    let sessions: BTreeSet<_> = named.iter().filter_map(|id| counts.get(id)).collect();
    let snapshots = counts.iter().filter(|(_, session)| sessions.contains(session)).map(|(id, _)| *id).collect();
    Ok(Chosen { snapshots, damaged, problems })
}

/// Whether the target has the snapshot and all that it needs.
fn is_whole(target: &Repository, listing: &SnapshotListing, at: &mut Mark<'_>, id: SnapshotId, distrusts_condemned: bool) -> Result<bool> {
    let Some(header) = listing.header(id) else { return Ok(false) };
    if listing.state(id, header) != SnapshotState::Closed || !target.has(&ObjectName::session(header.record.id()))? {
        return Ok(false);
    }
    let doomed = at.doomed_frames();
    let lack = at.mark(header)?;
    Ok(lack.is_none() && !(distrusts_condemned && at.doomed_frames() > doomed))
}

/// Marks what the snapshots need. Those that lack something at the source are taken out, and nothing is marked for them.
fn mark_readable<'a>(
    source: &'a Repository,
    wanted: &mut Vec<Wanted>,
    damaged: &mut Vec<Unfit>,
    progress: &'a dyn Progress,
) -> Result<Mark<'a>> {
    let epochs = Epochs::read(source)?;
    loop {
        let mut mark = Mark::new(source, &epochs, progress)?;
        let mut lacking = BTreeMap::new();
        for snapshot in wanted.iter() {
            if let Some(lack) = mark.mark(&snapshot.header)? {
                lacking.insert(snapshot.id, lack.to_string());
            }
            progress.event(Event::Advance { bytes: 0, items: 1 });
        }
        if lacking.is_empty() {
            return Ok(mark);
        }
        wanted.retain(|snapshot| !lacking.contains_key(&snapshot.id));
        damaged.extend(lacking);
    }
}

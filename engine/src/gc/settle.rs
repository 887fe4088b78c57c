//! Snapshots of dead sessions, and what is left of sessions that have ended.
//!
//! Order: a snapshot before `closed/` that names it; of a session the object before `closed/` and before the tombstone, so that a writer that
//! wakes finds its tombstone or finds its session gone. What says how a session with a tombstone ended stays for ever: a writer that wakes
//! just before it closes must not say anew what was forgotten since. And a snapshot stays that its own session took back, which had been given up: the
//! marker carries the session's certificate, and without snapshot and session nobody could tell whose that is (`ProofStays`). Each step may be the last one of an interrupted run.

use super::epochs::Epochs;
use super::sessions::Sessions;
use super::snapshots::Kept;
use super::sweep::delete;
use crate::backend::{BackendExt, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::session::{ClosedBody, WithdrawnBody, WithdrawnReason};
use crate::id::{SessionId, SnapshotId};
use crate::repository::{Repository, SnapshotListing};
use std::collections::{BTreeMap, BTreeSet};

/// So long a lock stays that is over: whoever saw it in force sees it over before it is gone.
const LOCK_STAYS_SECONDS: u64 = 30 * 86_400;

/// What became of snapshots of dead sessions.
#[derive(Debug, Default)]
pub(super) struct Settled {
    pub(super) closed: Vec<SnapshotId>,
    pub(super) withdrawn: Vec<SnapshotId>,
}

/// Settles snapshots whose session was given up or is gone: those that are whole count from now on, unless not all could be saved; the others are withdrawn.
pub(super) fn settle<'a>(repository: &Repository, unsettled: impl Iterator<Item = &'a Kept>, all_saved: bool) -> Result<Settled> {
    let mut settled = Settled::default();
    let mut whole: BTreeMap<SessionId, BTreeSet<SnapshotId>> = BTreeMap::new();
    let now = repository.runtime.clock.now();
    for kept in unsettled {
        if kept.is_whole {
            whole.entry(kept.session).or_default().insert(kept.id);
            continue;
        }
        let body = WithdrawnBody { session: kept.session, reason: WithdrawnReason::Settled, now };
        if publish(repository, ObjectName::withdrawn(kept.id), body.encode())? {
            settled.withdrawn.push(kept.id);
        }
    }
    if !all_saved {
        return Ok(settled);
    }
    // `OthersDurable`: their writers may never have heard that they were stored.
    let names: Vec<_> = whole.values().flatten().map(|id| ObjectName::snapshot(*id)).collect();
    repository.backend.make_durable(&names)?;
    for (session, mut snapshots) in whole {
        // A client may outlive the power of the store: what is still there now is durable.
        for id in snapshots.clone() {
            if !repository.has(&ObjectName::snapshot(id))? {
                snapshots.remove(&id);
            }
        }
        if snapshots.is_empty() {
            continue;
        }
        // Given up, whatever became of its snapshots: its object may be gone.
        let body = ClosedBody { finished: false, now, snapshots: snapshots.iter().copied().collect() };
        if publish(repository, ObjectName::closed(session), body.encode())? {
            settled.closed.extend(snapshots);
        }
    }
    Ok(settled)
}

/// Writes an object; false where somebody else has.
fn publish(repository: &Repository, name: ObjectName, plaintext: Vec<u8>) -> Result<bool> {
    match repository.write_sealed(name, plaintext) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes what the collector's own session leaves, after it was closed.
pub(crate) fn remove_own(repository: &Repository, own: SessionId) -> Result<()> {
    let beats: Vec<_> = repository.backend.list_sorted(ObjectKind::Beat)?.into_iter().map(|object| object.name).collect();
    for name in beats.into_iter().filter(|name| name.id() == own.0) {
        delete(repository, &name)?;
    }
    delete(repository, &ObjectName::session(own))?;
    delete(repository, &ObjectName::closed(own)).map(drop)
}

/// Markers of withdrawn snapshots, as they were listed when the run began.
#[derive(Debug)]
pub(super) struct Markers {
    /// Each with whether the snapshot, or `closed/` that names it, was still there.
    markers: BTreeMap<SnapshotId, bool>,
}

impl Markers {
    pub(super) fn list(repository: &Repository) -> Result<Self> {
        let listing = repository.list_snapshots()?;
        let named: BTreeSet<_> = listing.snapshots.iter().chain(listing.closed.values().flat_map(|closed| &closed.snapshots)).collect();
        Ok(Self { markers: listing.withdrawn.iter().map(|id| (*id, named.contains(id))).collect() })
    }

    pub(super) fn all(&self) -> impl Iterator<Item = SnapshotId> + '_ {
        self.markers.keys().copied()
    }

    /// Whether nothing stood for the marker any more.
    fn stands_alone(&self, id: &SnapshotId) -> bool {
        self.markers.get(id) == Some(&false)
    }
}

/// Removes withdrawn snapshots, what sessions have left that ended and that no listed snapshot needs, and markers. Only what an epoch up to
/// `swept`, whose gate is open, names as withdrawn is touched. Gives how many objects.
pub(super) fn clean_up(repository: &Repository, own: SessionId, epochs: &Epochs, markers: &Markers, swept: u32) -> Result<u64> {
    let mut removed = 0;
    let listing = repository.list_snapshots()?;
    let is_over = |id: &SnapshotId| epochs.name_withdrawn(id, swept);
    let marked = read_markers(repository, &listing)?;
    // What its own session took back stays (`ProofStays`).
    let is_proof = |id: &SnapshotId| marked.get(id).is_none_or(|marker| !marker.by_maintain);
    let over: Vec<_> = listing.snapshots.iter().filter(|id| listing.withdrawn.contains(id) && is_over(id) && !is_proof(id)).collect();
    // `OthersDurable`: a hold may have removed the marker that an epoch named, and this is a later one.
    repository.backend.make_durable(&over.iter().map(|id| ObjectName::withdrawn(**id)).collect::<Vec<_>>())?;
    for id in over {
        removed += u64::from(delete(repository, &ObjectName::snapshot(*id))?);
    }
    let (removed_of_sessions, staying) = remove_sessions(repository, own, &marked.values().map(|marker| marker.session).collect())?;
    removed += removed_of_sessions;
    let mut alone: Vec<_> = listing.withdrawn.iter().filter(|id| is_over(id) && markers.stands_alone(id)).collect();
    alone.retain(|id| marked.get(id).is_some_and(|marker| !staying.contains(&marker.session)));
    // `OthersDurable`: what another collector has removed, and what the marker stands for, must not come back without it.
    let gone =
        |id: &&SnapshotId| [ObjectName::snapshot(**id)].into_iter().chain(marked.get(*id).map(|marker| ObjectName::closed(marker.session)));
    repository.backend.make_durable(&alone.iter().flat_map(gone).collect::<Vec<_>>())?;
    for id in alone {
        let mut names = gone(&id);
        if names.try_fold(false, |is_back, name| Ok::<_, Error>(is_back || repository.has(&name)?))? {
            continue;
        }
        removed += u64::from(delete(repository, &ObjectName::withdrawn(*id))?);
    }
    Ok(removed)
}

/// Removes locks that have been over for long. Gives how many.
pub(super) fn remove_locks(repository: &Repository) -> Result<u64> {
    let listing = repository.list_snapshots()?;
    let over: Vec<_> = listing.holds.over_for(LOCK_STAYS_SECONDS).collect();
    over.into_iter().try_fold(0, |removed, hold| Ok(removed + u64::from(delete(repository, &ObjectName::hold(hold))?)))
}

/// What a marker says that is believed.
struct Marker {
    /// Whose snapshot was withdrawn.
    session: SessionId,
    /// By maintain, whose word is enough; by the session otherwise, which the snapshot has to prove.
    by_maintain: bool,
}

fn read_markers(repository: &Repository, listing: &SnapshotListing) -> Result<BTreeMap<SnapshotId, Marker>> {
    let mut marked = BTreeMap::new();
    for id in &listing.withdrawn {
        match repository.read_withdrawn(*id, listing) {
            Ok((body, certificate)) => {
                let by_maintain = certificate.roles().contain(Roles::MAINTAIN);
                marked.insert(*id, Marker { session: body.session, by_maintain });
            }
            Err(error) if error.kind() == ErrorKind::NotFound || error.broken_rule().is_some() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(marked)
}

/// Removes what sessions have left; `marked` ones had snapshots that were withdrawn. Gives how many objects, and the sessions with a tombstone whose
/// ends stay (`EndsStay`).
fn remove_sessions(repository: &Repository, own: SessionId, marked: &BTreeSet<SessionId>) -> Result<(u64, BTreeSet<SessionId>)> {
    let mut beats: BTreeMap<SessionId, Vec<ObjectName>> = BTreeMap::new();
    for object in repository.backend.list_sorted(ObjectKind::Beat)? {
        beats.entry(SessionId(object.name.id())).or_default().push(object.name);
    }
    let companions = |kind| -> Result<BTreeSet<SessionId>> {
        Ok(repository.backend.list_sorted(kind)?.iter().map(|object| SessionId(object.name.id())).collect())
    };
    let tombstoned = companions(ObjectKind::Tombstone)?;
    let closed = companions(ObjectKind::Closed)?;
    let objects = companions(ObjectKind::Session)?;
    // After the companions: who is open had published its session before. And before the snapshots: who has ended had published those.
    let sessions = Sessions::list(repository, Some(own))?;
    let needed = needed_sessions(&repository.list_snapshots()?);
    let open: BTreeSet<_> = sessions.open.iter().map(|open| open.session).chain([own]).collect();
    let all: BTreeSet<_> = beats.keys().chain(&tombstoned).chain(&closed).chain(&objects).copied().collect();
    let (mut removed, mut staying) = (0, BTreeSet::new());
    for session in all.into_iter().filter(|session| !open.contains(session)) {
        for beat in beats.get(&session).into_iter().flatten() {
            removed += u64::from(delete(repository, beat)?);
        }
        let ends_stay = tombstoned.contains(&session) && (closed.contains(&session) || marked.contains(&session));
        if ends_stay {
            staying.insert(session);
        }
        if needed.contains(&session) {
            continue;
        }
        removed += u64::from(delete(repository, &ObjectName::session(session))?);
        if !ends_stay {
            for name in [ObjectName::closed(session), ObjectName::tombstone(session)] {
                removed += u64::from(delete(repository, &name)?);
            }
        }
    }
    Ok((removed, staying))
}

/// Sessions of listed snapshots, and those whose `closed/` names snapshots that are there or that are missing for no reason.
fn needed_sessions(listing: &SnapshotListing) -> BTreeSet<SessionId> {
    let mut needed: BTreeSet<_> = listing.snapshots.iter().filter_map(|id| listing.header(*id)).map(|header| header.record.id()).collect();
    let is_needed = |id: &SnapshotId| !listing.withdrawn.contains(id);
    needed.extend(listing.closed.iter().filter(|(_, closed)| closed.snapshots.iter().any(is_needed)).map(|(session, _)| *session));
    needed
}

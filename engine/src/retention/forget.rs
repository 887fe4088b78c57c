//! Forgetting: a snapshot is withdrawn for ever, then its object goes. What only it needed is garbage from then on.
//!
//! The order, each step durable before the next:
//! 1. `withdrawn/<snapshot>`. From here on the snapshot is not shown and needs no frames.
//! 2. The snapshot's object is deleted. `closed/` names a snapshot that is gone, which the marker explains.
//! 3. With the role maintain, once all snapshots of the session are gone and maintain withdrew them: its beats, `sessions/`, and last
//!    `closed/`. In any other order a session that ended would look like one at work, for which garbage collection waits. Without the role
//!    this step is left to garbage collection: who withdrew is then believed because of what `sessions/` says.
//!
//! After a stop anywhere all is well, and forgetting the same again finishes. The marker is removed by garbage collection, an epoch later.

use crate::backend::{BackendExt, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::session::{WithdrawnBody, WithdrawnReason};
use crate::format::snapshot::SnapshotHeader;
use crate::id::{SessionId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::{Repository, SnapshotListing};
use std::collections::BTreeSet;

/// What forgetting did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForgetSummary {
    /// Snapshots that were forgotten.
    pub forgotten: u64,
    /// Snapshots that had been withdrawn before; whatever was left to do was done.
    pub withdrawn_before: u64,
}

impl Repository {
    /// Forgets these snapshots for ever, good or not; their space comes back with garbage collection.
    ///
    /// All of them are looked for before the first one goes. Stopped, or after an error, those done so far are forgotten, and the same call
    /// finishes the rest.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where one is unknown, [`ErrorKind::Unauthorized`] without the role maintain for a snapshot that this
    /// credential did not make, [`ErrorKind::Damaged`] where nothing tells which session made a damaged one, or where somebody who may not
    /// has put a marker in the way; [`ErrorKind::Cancelled`] when `progress` says so, otherwise what the backend says.
    pub fn forget(&self, snapshots: &[SnapshotId], progress: &dyn Progress) -> Result<ForgetSummary> {
        self.require_forgetter()?;
        self.require_writable()?;
        let listing = self.list_snapshots()?;
        let ids: BTreeSet<_> = snapshots.iter().copied().collect();
        let targets = ids.iter().map(|id| Ok((*id, self.session_of(*id, &listing)?))).collect::<Result<Vec<_>>>()?;
        progress.event(Event::Phase { name: "forget", bytes_total: None, items_total: Some(targets.len() as u64) });
        let mut summary = ForgetSummary::default();
        for (id, session) in &targets {
            if progress.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, format!("stopped after {} snapshots were forgotten", summary.forgotten)));
            }
            self.withdraw(*id, *session, &listing)?;
            delete(self, &ObjectName::snapshot(*id))?;
            match listing.withdrawn.contains(id) {
                true => summary.withdrawn_before += 1,
                false => summary.forgotten += 1,
            }
            progress.event(Event::Advance { bytes: 0, items: 1 });
        }
        if self.roles().contain(Roles::MAINTAIN) {
            self.remove_sessions(targets.into_iter().map(|(_, session)| session).collect(), &listing)?;
        }
        Ok(summary)
    }

    /// Refuses whoever may not withdraw any snapshot.
    pub(super) fn require_forgetter(&self) -> Result<()> {
        match self.roles().contain(Roles::BACKUP) {
            true => Ok(()),
            false => self.require(Roles::MAINTAIN, "forgetting snapshots"),
        }
    }

    /// Whether this credential may withdraw a snapshot (SESS-3).
    pub(super) fn may_forget(&self, header: &SnapshotHeader) -> bool {
        self.roles().contain(Roles::MAINTAIN) || header.record.certificate() == &self.credential.author.certificate
    }

    /// The session of a snapshot that may be forgotten: from its header, from `closed/`, or from the marker of one that was withdrawn.
    fn session_of(&self, id: SnapshotId, listing: &SnapshotListing) -> Result<SessionId> {
        let refused = || {
            let message =
                format!("snapshot {id} was made by another credential; forgetting it needs one with the role {}", Roles::MAINTAIN);
            Error::new(ErrorKind::Unauthorized, message)
        };
        if let Some(header) = listing.header(id) {
            return if self.may_forget(header) { Ok(header.record.id()) } else { Err(refused()) };
        }
        let closed = listing.closed.iter().find(|(_, closed)| closed.snapshots.contains(&id)).map(|(session, _)| *session);
        let session = match closed {
            Some(session) => session,
            None if listing.withdrawn.contains(&id) => self.read_withdrawn(id, listing)?.0.session,
            None if listing.snapshots.contains(&id) => {
                let message = format!("snapshot {id} cannot be read, and nothing else tells which session made it; run check");
                return Err(Error::new(ErrorKind::Damaged, message));
            }
            None => return Err(Error::new(ErrorKind::NotFound, format!("there is no snapshot {id}"))),
        };
        if self.roles().contain(Roles::MAINTAIN) {
            return Ok(session);
        }
        // Its header cannot be read: only of a snapshot that is gone would this credential's word be believed.
        let own = self.read_session(session).is_ok_and(|body| body.record.certificate() == &self.credential.author.certificate);
        if own && !listing.snapshots.contains(&id) { Ok(session) } else { Err(refused()) }
    }

    /// Publishes the marker. One that is there already is enough, if it is believed: writing it again made sure that it is durable.
    fn withdraw(&self, id: SnapshotId, session: SessionId, listing: &SnapshotListing) -> Result<()> {
        let name = ObjectName::withdrawn(id);
        let body = WithdrawnBody { session, reason: WithdrawnReason::Forgotten, now: self.runtime.clock.now() };
        match self.write_sealed(name, body.encode()) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.read_withdrawn(id, listing).map(drop).map_err(|error| {
                error.context(format_args!("{name} stands in the way: snapshot {id} cannot be forgotten, because it would then be missed"))
            }),
            written => written,
        }
    }

    /// Removes what is left of sessions whose snapshots are all gone and withdrawn by maintain.
    fn remove_sessions(&self, mut sessions: BTreeSet<SessionId>, listing: &SnapshotListing) -> Result<()> {
        let mut settled = BTreeSet::new();
        while let Some(session) = sessions.pop_first() {
            // A session that is not closed may be at work: garbage collection settles it.
            let Some(closed) = listing.closed.get(&session) else { continue };
            let mut is_settled = true;
            for id in &closed.snapshots {
                is_settled = is_settled && self.is_settled(*id, listing)?;
            }
            if is_settled {
                settled.insert(session);
            }
        }
        if settled.is_empty() {
            return Ok(());
        }
        for beat in self.backend.list_sorted(ObjectKind::Beat)? {
            if settled.contains(&SessionId(beat.name.id())) {
                delete(self, &beat.name)?;
            }
        }
        for session in settled {
            delete(self, &ObjectName::session(session))?;
            delete(self, &ObjectName::closed(session))?;
        }
        Ok(())
    }

    /// Whether a snapshot is gone, and maintain withdrew it.
    fn is_settled(&self, id: SnapshotId, listing: &SnapshotListing) -> Result<bool> {
        match self.backend.size(&ObjectName::snapshot(id)) {
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match self.read_withdrawn(id, listing) {
            Ok((_, certificate)) => Ok(certificate.roles().contain(Roles::MAINTAIN)),
            Err(error) if error.kind() == ErrorKind::NotFound || error.broken_rule().is_some() => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Deletes an object that may be gone already.
fn delete(repository: &Repository, name: &ObjectName) -> Result<()> {
    match repository.backend.delete(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        deleted => deleted,
    }
}

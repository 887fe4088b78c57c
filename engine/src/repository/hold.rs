//! Holding snapshots: legal holds, locks, and releases.
//!
//! Steps, each durable before the next: session; list snapshots, withdrawals and holds (what is to be held counts and is not withdrawn); `holds/`; look for
//! a tombstone (I9); `closed/`. The session stands from before the look until after the hold, so that no collector passes its gate in between: after
//! the gate it lists holds again and saves what they need (`HoldsAtRelist`). Whoever withdraws meanwhile finds the hold, or is not believed; the marker is
//! removed by whoever of the two comes last.

use super::holds::{DAY_SECONDS, Hold, HoldState, seconds_after};
use super::{Repository, Session, SnapshotListing, SnapshotState};
use crate::backend::{BackendExt, ObjectName};
use crate::crypto::{Secret, Signer};
use crate::error::{Error, ErrorKind, Result};
use crate::format::hold::{HeldSnapshot, HoldAction, HoldBody};
use crate::format::object::Author;
use crate::format::session::SessionKind;
use crate::format::{Certificate, Roles};
use crate::id::{HoldId, SnapshotId};
use crate::limits::{HELD_SNAPSHOTS_MAX, LOCK_END_MAX, NOTE_MAX};
use crate::progress::{Event, Progress};
use crate::runtime::Timestamp;
use std::collections::BTreeSet;
use std::time::Duration;

/// When a lock ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockEnd {
    /// At this time.
    At(Timestamp),
    /// So long from now. A clock that is behind what this credential or maintenance wrote here before does not shorten it.
    After(Duration),
}

/// What locking did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Locked {
    /// The lock; `None` where all of the snapshots were locked as long already.
    pub hold: Option<HoldId>,
    /// Until when.
    pub until: Timestamp,
    /// What the clock here says.
    pub now: Timestamp,
    /// The snapshots that were not locked so long before, ascending.
    pub snapshots: Vec<SnapshotId>,
    /// Objects that the stores themselves keep until then, where they have object lock.
    pub kept_objects: u64,
}

impl Repository {
    /// Puts a legal hold on snapshots: they stay until an admin releases it. When this returns, the hold is durable and binds everybody.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the role maintain, [`ErrorKind::NotFound`] where a snapshot is unknown or was forgotten,
    /// [`ErrorKind::Busy`] where its backup has not ended, or where this was given up for dead (then the hold may have come too late),
    /// [`ErrorKind::Invalid`] for too many snapshots or too long a note, otherwise what the backend says.
    pub fn hold(&self, snapshots: &[SnapshotId], note: &str) -> Result<HoldId> {
        let place = |session: &Session<'_>, listing: &SnapshotListing, ids: &BTreeSet<SnapshotId>| {
            let body =
                HoldBody { action: HoldAction::Legal, now: self.runtime.clock.now(), note: note.to_owned(), snapshots: held(listing, ids) };
            self.write_hold(session, &body).map(|hold| (Some(hold), hold))
        };
        self.under_session("placing a legal hold", snapshots, note, place)
    }

    /// Locks snapshots: until then they stay, and nobody can shorten that. Those that are locked as long already are left as they are, so
    /// that this extends a lock, too. Where a store has object lock, it keeps all that these snapshots need until then before this returns.
    ///
    /// # Errors
    /// As [`Repository::hold`]; [`ErrorKind::Invalid`] for an end that lies in the past or beyond the year 9999.
    pub fn lock(&self, snapshots: &[SnapshotId], end: LockEnd, note: &str, progress: &dyn Progress) -> Result<Locked> {
        let place = |session: &Session<'_>, listing: &SnapshotListing, ids: &BTreeSet<SnapshotId>| {
            let until = self.lock_end(end, listing, progress)?;
            let fresh = not_locked_until(listing, ids, until);
            if fresh.len() < ids.len() {
                self.make_durable_holds(listing)?;
            }
            let hold = match fresh.is_empty() {
                true => None,
                false => {
                    let (now, snapshots) = (self.runtime.clock.now(), held(listing, &fresh));
                    Some(self.write_hold(session, &HoldBody { action: HoldAction::Lock { until }, now, note: note.to_owned(), snapshots })?)
                }
            };
            // Of all of them: a store may have got object lock since, and an earlier run may have been stopped here.
            let kept_objects = self.keep_in_stores(listing, ids.iter().copied(), until, progress)?;
            Ok((hold, Locked { hold, until, now: self.runtime.clock.now(), snapshots: fresh.into_iter().collect(), kept_objects }))
        };
        self.under_session("locking snapshots", snapshots, note, place)
    }

    /// What [`Repository::lock`] would do now: until when, and which of the snapshots are not locked so long. Writes nothing.
    ///
    /// # Errors
    /// As [`Repository::lock`].
    pub fn plan_lock(&self, snapshots: &[SnapshotId], end: LockEnd, progress: &dyn Progress) -> Result<Locked> {
        self.require(Roles::MAINTAIN, "locking snapshots")?;
        let listing = self.list_snapshots()?;
        let ids: BTreeSet<_> = snapshots.iter().copied().collect();
        ids.iter().try_for_each(|id| require_counting(&listing, *id))?;
        let until = self.lock_end(end, &listing, progress)?;
        Ok(Locked {
            hold: None,
            until,
            now: self.runtime.clock.now(),
            snapshots: not_locked_until(&listing, &ids, until).into_iter().collect(),
            kept_objects: 0,
        })
    }

    /// Ends a legal hold. Other holds and locks of its snapshots stay.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the role admin, [`ErrorKind::NotFound`] where there is no such hold, [`ErrorKind::Invalid`] for a lock,
    /// which ends by itself, otherwise what the backend says.
    pub fn release(&self, hold: HoldId, note: &str) -> Result<()> {
        self.require_writable()?;
        self.require_newest_config()?;
        check_note(note)?;
        let seed = self.releasing_seed()?;
        if !is_to_release(&self.holds()?.0, hold)? {
            return self.make_durable_holds(&self.list_snapshots()?);
        }
        let signer = Signer::new(seed);
        let author = Author { certificate: Certificate::of_admin(&signer, &self.id, self.generation()), signer };
        let action = HoldAction::Release { hold };
        let body = HoldBody { action, now: self.runtime.clock.now(), note: note.to_owned(), snapshots: Vec::new() };
        let header = self.header(ObjectName::hold(HoldId(self.runtime.random())));
        self.backend.put(&header.name, &author.sealed_object(&header, self.structure_key()?, body.encode()))
    }

    /// Whether [`Repository::release`] would end this hold now; false where it was released before. Writes nothing.
    ///
    /// # Errors
    /// As [`Repository::release`].
    pub fn plan_release(&self, hold: HoldId) -> Result<bool> {
        self.releasing_seed()?;
        is_to_release(&self.holds()?.0, hold)
    }

    fn releasing_seed(&self) -> Result<&Secret> {
        self.credential.admin_seed.as_ref().ok_or_else(|| {
            let message = format!("releasing a legal hold needs a credential with the role admin; this one is for {}", self.roles());
            Error::new(ErrorKind::Unauthorized, message)
        })
    }

    fn write_hold(&self, session: &Session<'_>, body: &HoldBody) -> Result<HoldId> {
        let id = HoldId(self.runtime.random());
        session.may_hold(true);
        self.write_sealed(ObjectName::hold(id), body.encode())?;
        session.may_hold(false);
        Ok(id)
    }

    /// What is said to hold, or to be released, was said by others and stays so (`OthersDurable`).
    pub(crate) fn make_durable_holds(&self, listing: &SnapshotListing) -> Result<()> {
        self.backend.make_durable(&listing.holds.names())
    }

    /// Looks at the snapshots and writes, under a session that makes collectors wait before they delete. `place` gives the hold that it wrote, if any.
    ///
    /// What a collector has swept since it took this process for dead, no hold may bring back as a snapshot that counts and is damaged: there is a look
    /// before it is written, and where it turns out afterwards that it may have come too late, it is taken back.
    fn under_session<T>(
        &self,
        what: &str,
        snapshots: &[SnapshotId],
        note: &str,
        place: impl FnOnce(&Session<'_>, &SnapshotListing, &BTreeSet<SnapshotId>) -> Result<(Option<HoldId>, T)>,
    ) -> Result<T> {
        self.require(Roles::MAINTAIN, what)?;
        self.require_writable()?;
        self.require_newest_config()?;
        check_note(note)?;
        let ids: BTreeSet<_> = snapshots.iter().copied().collect();
        if ids.is_empty() || ids.len() > HELD_SNAPSHOTS_MAX {
            return Err(Error::new(ErrorKind::Invalid, format!("name 1 to {HELD_SNAPSHOTS_MAX} snapshots, not {}", ids.len())));
        }
        let session = Session::begin(self, SessionKind::Reader)?;
        let placed = self.list_snapshots().and_then(|listing| {
            ids.iter().try_for_each(|id| require_counting(&listing, *id))?;
            match session.is_given_up()? {
                true => Err(too_late("")),
                false => place(&session, &listing, &ids),
            }
        });
        let is_late = placed.is_ok() && session.is_given_up()? && !self.all_count_still(&ids)?;
        match placed {
            Ok((_, placed)) if !is_late => {
                self.settle_held(&ids)?;
                session.close(true, Vec::new()).map(|()| placed)
            }
            Ok((hold, _)) => {
                let taken_back = hold.map_or(Ok(()), |hold| self.backend.delete(&ObjectName::hold(hold)));
                session.give_up();
                let more =
                    taken_back.map_or_else(|error| format!(" What was written could not be taken back: {error}"), |()| String::new());
                Err(too_late(&more))
            }
            Err(error) => {
                session.give_up();
                Err(error)
            }
        }
    }

    fn all_count_still(&self, ids: &BTreeSet<SnapshotId>) -> Result<bool> {
        ids.iter().try_fold(true, |all, id| Ok(all && self.counts_still(*id)? == Some(true)))
    }

    /// The moment at which a lock ends.
    fn lock_end(&self, end: LockEnd, listing: &SnapshotListing, progress: &dyn Progress) -> Result<Timestamp> {
        let now = self.runtime.clock.now();
        let until = match end {
            LockEnd::At(until) => until,
            LockEnd::After(duration) => seconds_after(self.not_before(now, listing, progress), duration.as_secs()),
        };
        if until <= now || until.seconds >= LOCK_END_MAX {
            let message = format!("a lock until {until} is over already, or ends beyond the year 9999; the clock here says {now}");
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(until)
    }

    /// Now, or later if this credential or maintenance wrote here by a later clock: a lock must not be too short because the clock here is behind.
    fn not_before(&self, now: Timestamp, listing: &SnapshotListing, progress: &dyn Progress) -> Timestamp {
        let own = self.credential.author.certificate.credential();
        let own_sessions =
            listing.headers().filter(|(_, header)| header.record.certificate().credential() == own).map(|(_, header)| header.record.id());
        let closed = own_sessions.filter_map(|session| Some(listing.closed.get(&session)?.now));
        let newest = closed.chain(listing.holds.times()).max().unwrap_or(now);
        if newest > seconds_after(now, DAY_SECONDS) {
            let message = format!(
                "the clock here says {now}, but something was written here at {newest} by its writer's clock: the lock counts from then; \
                 set the clock, or say until when"
            );
            progress.event(Event::Notice { message: &message });
        }
        newest.max(now)
    }
}

fn too_late(more: &str) -> Error {
    let message = "garbage collection took this process for dead (it did not beat for 15 minutes), so nothing is held: it would have come too late for \
                   what was forgotten meanwhile; run it again";
    Error::new(ErrorKind::Busy, format!("{message}.{more}"))
}

fn check_note(note: &str) -> Result<()> {
    match note.len() <= NOTE_MAX {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::Invalid, format!("a note has at most {NOTE_MAX} bytes"))),
    }
}

/// False where it was released before.
fn is_to_release(all: &[Hold], hold: HoldId) -> Result<bool> {
    let found = all.iter().find(|found| found.id == hold);
    match found.map(|found| (found.until, found.state)) {
        None => Err(Error::new(ErrorKind::NotFound, format!("there is no hold {hold}"))),
        Some((Some(until), _)) => {
            let message = format!("{hold} is a lock until {until}, which nobody can end before");
            Err(Error::new(ErrorKind::Invalid, message))
        }
        Some((None, state)) => Ok(state != HoldState::Released),
    }
}

/// Refuses what cannot be held.
fn require_counting(listing: &SnapshotListing, id: SnapshotId) -> Result<()> {
    if listing.withdrawn.contains(&id) {
        let message = format!("snapshot {id} was forgotten before, and a hold does not bring it back; nothing was held");
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    let state = listing.header(id).map(|header| listing.state(id, header));
    if let Some((name, error)) = listing.unread().next().filter(|_| state != Some(SnapshotState::Closed)) {
        let message = format!("{name} cannot be read now, so it is not known whether snapshot {id} counts; nothing was held: {error}");
        return Err(Error::new(ErrorKind::Unavailable, message));
    }
    match state {
        Some(SnapshotState::Closed) => Ok(()),
        Some(SnapshotState::Suspect) => {
            let message = format!("the backup that makes snapshot {id} has not ended, or was interrupted; it does not count yet");
            Err(Error::new(ErrorKind::Busy, message))
        }
        None if listing.problems.iter().any(|(name, _)| *name == ObjectName::snapshot(id)) => {
            Err(Error::new(ErrorKind::Damaged, format!("snapshot {id} cannot be read; run check")))
        }
        None => {
            Err(Error::new(ErrorKind::NotFound, format!("there is no snapshot {id}, or it was forgotten or is gone; nothing was held")))
        }
    }
}

/// Those that are not locked as long.
fn not_locked_until(listing: &SnapshotListing, ids: &BTreeSet<SnapshotId>, until: Timestamp) -> BTreeSet<SnapshotId> {
    let is_shorter = |id: &SnapshotId| listing.holds.held(*id).and_then(|held| held.until).is_none_or(|now| now < until);
    ids.iter().copied().filter(is_shorter).collect()
}

fn held(listing: &SnapshotListing, ids: &BTreeSet<SnapshotId>) -> Vec<HeldSnapshot> {
    let of = |id: &SnapshotId| {
        let header = listing.header(*id)?;
        Some(HeldSnapshot { snapshot: *id, session: header.record.id(), series: header.series })
    };
    ids.iter().filter_map(of).collect()
}

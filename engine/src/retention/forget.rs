//! Forgetting: a snapshot is withdrawn for ever. What only it needed is garbage from then on.
//!
//! `withdrawn/<snapshot>` is all that is written, and nothing is deleted (I4, `WithdrawnFirst`, `WithdrawalNextEpoch`). The snapshot is not
//! shown any more. Garbage collection removes it with all else of its session, once no restore that began before can be cut short by that.
//!
//! What is held stays: holds are looked for before and after (`HoldsAfterWithdrawals`). A hold that comes in between wins, because a withdrawal of
//! what is held is not believed.
//!
//! After a stop anywhere some snapshots are forgotten and some are not, none half; forgetting the same again finishes.

use crate::backend::ObjectName;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::session::{WithdrawnBody, WithdrawnReason};
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
    /// Snapshots that had been withdrawn before.
    pub withdrawn_before: u64,
}

impl Repository {
    /// Forgets these snapshots for ever, good or not; their space comes back with garbage collection.
    ///
    /// All of them are looked for before the first one goes. A snapshot whose backup still runs may be forgotten, too.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where one is unknown, [`ErrorKind::Held`] where one is held (none is forgotten then, unless the hold came while this
    /// ran), [`ErrorKind::Unauthorized`] without the role maintain (who can only back up cannot take
    /// back what it stored, SESS-5), [`ErrorKind::Damaged`] where nothing tells which session made a damaged one, or where somebody who may not
    /// has put a marker in the way; [`ErrorKind::Cancelled`] when `progress` says so, otherwise what the backend says.
    pub fn forget(&self, snapshots: &[SnapshotId], progress: &dyn Progress) -> Result<ForgetSummary> {
        self.require(Roles::MAINTAIN, "forgetting snapshots")?;
        self.require_writable()?;
        self.require_newest_config()?;
        let listing = self.list_snapshots()?;
        let ids: BTreeSet<_> = snapshots.iter().copied().collect();
        let targets = ids.iter().map(|id| Ok((*id, self.session_of(*id, &listing)?))).collect::<Result<Vec<_>>>()?;
        listing.require_free(ids.iter().copied())?;
        // `OthersDurable`: a release that the next power failure takes away has released nothing.
        self.make_durable_holds(&listing)?;
        progress.event(Event::Phase { name: "forget", bytes_total: None, items_total: Some(targets.len() as u64) });
        let mut summary = ForgetSummary::default();
        for (id, session) in &targets {
            if progress.is_cancelled() {
                return Err(Error::new(ErrorKind::Cancelled, format!("stopped after {} snapshots were forgotten", summary.forgotten)));
            }
            self.withdraw(*id, *session, &listing)?;
            match listing.withdrawn.contains(id) {
                true => summary.withdrawn_before += 1,
                false => summary.forgotten += 1,
            }
            progress.event(Event::Advance { bytes: 0, items: 1 });
        }
        self.require_not_held_meanwhile(&ids)?;
        Ok(summary)
    }

    /// After the withdrawals: a hold that came while they were written wins.
    fn require_not_held_meanwhile(&self, ids: &BTreeSet<SnapshotId>) -> Result<()> {
        match self.settle_held(ids)?.first() {
            None => Ok(()),
            Some((id, held)) => {
                let message = format!("snapshot {id} was held while it was being forgotten, so it stays: {held}; others were forgotten");
                Err(Error::new(ErrorKind::Held, message))
            }
        }
    }

    /// The session of a snapshot that may be forgotten: from its header, from `closed/`, or from the marker of one that was withdrawn.
    fn session_of(&self, id: SnapshotId, listing: &SnapshotListing) -> Result<SessionId> {
        if let Some(header) = listing.header(id) {
            return Ok(header.record.id());
        }
        let closed = listing.closed.iter().find(|(_, closed)| closed.snapshots.contains(&id)).map(|(session, _)| *session);
        match closed.or_else(|| listing.vanished.get(&id).copied()) {
            Some(session) => Ok(session),
            None if listing.withdrawn.contains(&id) => Ok(self.read_withdrawn(id, listing)?.0.session),
            None if listing.snapshots.contains(&id) => match self.read_snapshot_header(id) {
                Ok(header) => Ok(header.record.id()),
                Err(error) if error.broken_rule().is_some() => Ok(WithdrawnBody::SESSION_UNKNOWN),
                Err(error) => Err(error),
            },
            None => Err(Error::new(ErrorKind::NotFound, format!("there is no snapshot {id}"))),
        }
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
}

//! Snapshots as a collector sees them.

use super::mark::Mark;
use super::sessions::Sessions;
use crate::backend::{ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::SnapshotHeader;
use crate::id::{SessionId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::{Repository, SnapshotListing, SnapshotState};
use std::collections::HashSet;

/// A snapshot.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) id: SnapshotId,
    pub(crate) session: SessionId,
    /// Its session was closed and names it.
    pub(crate) is_closed: bool,
    /// It was seen to count, and nothing says so any more.
    is_unclosed: bool,
    /// All that it needs is there.
    pub(super) is_whole: bool,
    pub(crate) header: SnapshotHeader,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Snapshots {
    pub(crate) kept: Vec<Kept>,
    /// Withdrawn ones that are still there: what they need in doomed packs may still be read by whoever began before.
    pub(super) withdrawn: Vec<Kept>,
    listed: HashSet<SnapshotId>,
    /// Holds, and what released them.
    holds: Vec<ObjectName>,
}

impl Snapshots {
    /// Lists snapshots.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] where one that may count cannot be read or is gone: what it needs is then unknown.
    pub(crate) fn list(repository: &Repository, progress: &dyn Progress) -> Result<Self> {
        let listing = repository.list_snapshots()?;
        for (name, error) in &listing.problems {
            if name.kind() != ObjectKind::Snapshot || error.is_refusal() {
                progress.event(Event::Notice { message: &format!("{error}; it is ignored, run check") });
            } else if !listing.withdrawn.contains(&SnapshotId(name.id())) && repository.has(name)? {
                return Err(blocked(&SnapshotId(name.id()), error));
            }
        }
        if let Some(setback) = listing.setback {
            return Err(setback.context("nothing is condemned or deleted"));
        }
        if let Some(message) = &listing.unkept {
            progress.event(Event::Notice { message });
        }
        for id in listing.missing() {
            if is_missing(repository, id, &listing)? {
                return Err(blocked(&id, "it was published and is gone"));
            }
        }
        let (mut kept, mut withdrawn) = (Vec::new(), Vec::new());
        for id in &listing.snapshots {
            if let Some(header) = listing.header(*id) {
                let session = header.record.id();
                let is_closed = listing.state(*id, header) == SnapshotState::Closed;
                let group = if listing.withdrawn.contains(id) { &mut withdrawn } else { &mut kept };
                let is_unclosed = listing.unclosed.contains(id);
                group.push(Kept { id: *id, session, is_closed, is_unclosed, is_whole: false, header: header.clone() });
            }
        }
        Ok(Self { kept, withdrawn, listed: listing.snapshots.into_iter().collect(), holds: listing.holds.names() })
    }

    /// Marks what they need.
    ///
    /// # Errors
    /// [`ErrorKind::Damaged`] where one that counts, or was seen to, lacks something.
    pub(super) fn mark(&mut self, mark: &mut Mark<'_>, progress: &dyn Progress) -> Result<()> {
        for snapshot in &mut self.kept {
            match mark.mark(&snapshot.header)? {
                None => snapshot.is_whole = true,
                Some(lack) if snapshot.is_closed || snapshot.is_unclosed => return Err(blocked(&snapshot.id, lack)),
                // It may be a dead session's; it counts once it is whole.
                Some(_) => {}
            }
            progress.event(Event::Advance { bytes: 0, items: 1 });
        }
        Ok(())
    }

    /// Those that `before` does not know. What was withdrawn meanwhile counts: it sets nothing free before the next epoch. So does what was
    /// withdrawn before and is held by now (`HoldsAtRelist`).
    pub(super) fn since(mut self, before: &Self) -> Self {
        let is_held_now = |id| before.withdrawn.iter().any(|snapshot| snapshot.id == id);
        let (held, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.kept).into_iter().partition(|snapshot| is_held_now(snapshot.id));
        self.kept = kept;
        self.kept.append(&mut self.withdrawn);
        self.kept.retain(|snapshot| !before.contains(snapshot.id));
        self.kept.extend(held);
        self
    }

    /// What withdraws those that are still there, and what says that they are not held.
    pub(super) fn markers(&self) -> Vec<ObjectName> {
        self.withdrawn.iter().map(|snapshot| ObjectName::withdrawn(snapshot.id)).chain(self.holds.iter().copied()).collect()
    }

    /// Whether the snapshot was listed.
    fn contains(&self, id: SnapshotId) -> bool {
        self.listed.contains(&id)
    }

    /// Snapshots whose session has neither closed nor is at work.
    pub(super) fn unsettled<'b>(&'b self, sessions: &'b Sessions) -> impl Iterator<Item = &'b Kept> {
        let is_open = |session| sessions.open.iter().any(|open| open.session == session);
        self.kept.iter().filter(move |kept| !kept.is_closed && !sessions.closed.contains(&kept.session) && !is_open(kept.session))
    }
}

/// Whether a snapshot that a closed session names is gone for no reason. Asked by name (`AskByName`): it may have been published, or
/// forgotten and cleaned up, while others were listed.
fn is_missing(repository: &Repository, id: SnapshotId, listing: &SnapshotListing) -> Result<bool> {
    if repository.has(&ObjectName::snapshot(id))? {
        return Ok(false);
    }
    match repository.read_withdrawn(id, listing) {
        Ok(_) => return Ok(false),
        Err(error) if error.broken_rule().is_some() || error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if listing.vanished.contains_key(&id) {
        return Ok(true);
    }
    let mut sessions = listing.closed.iter().filter(|(_, closed)| closed.snapshots.contains(&id));
    sessions.try_fold(false, |is_named, (session, _)| Ok(is_named || repository.has(&ObjectName::closed(*session))?))
}

fn blocked(id: &SnapshotId, why: impl std::fmt::Display) -> Error {
    let message = format!(
        "snapshot {id} is damaged ({why}), so nothing is condemned or deleted: what is needed to mend it might go. \
         See what can be mended with `icecore repair`, or give the snapshot up with `icecore forget {id}`"
    );
    Error::new(ErrorKind::Damaged, message)
}

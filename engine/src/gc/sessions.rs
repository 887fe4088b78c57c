//! Who else is in the repository, and who of them is dead.
//!
//! No wall clock decides. A session is dead when this machine sees that no process holds it, twice with a fresh listing in between; or
//! when it did not beat for a full lease on this collector's own monotonic clock. What was seen is remembered between runs. Being wrong
//! costs the session its work, never data: it gets a tombstone before anything is deleted, and withdraws its snapshot when it finds it.

use super::observations::Observations;
use crate::backend::{BackendExt, ObjectKind, ObjectName};
use crate::error::{ErrorKind, Result};
use crate::format::session::{ClosedBody, SessionBody, TombstoneBody};
use crate::format::{Certificate, Roles};
use crate::id::SessionId;
use crate::repository::Repository;
use crate::runtime::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// A session without a beat for so long is dead.
const LEASE_NS: u64 = 900 * 1_000_000_000;

/// A session that is neither closed nor given up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenSession {
    /// Its name.
    pub session: SessionId,
    /// The newest epoch when it began.
    pub epoch: u32,
    /// When it began, by its own clock; `None` where its object cannot be read.
    pub started: Option<Timestamp>,
    /// Host and process, as it says.
    pub label: String,
    /// The number of its last beat, 0 before the first.
    pub last_beat: u32,
}

/// All sessions that are listed.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    pub(super) open: Vec<OpenSession>,
    /// Given up by a collector.
    pub(super) tombstoned: BTreeSet<SessionId>,
    /// Closed by themselves or by maintain.
    pub(super) closed: BTreeSet<SessionId>,
}

impl Sessions {
    /// Lists all sessions but `own`.
    pub(super) fn list(repository: &Repository, own: Option<SessionId>) -> Result<Self> {
        let mut bodies: BTreeMap<SessionId, Option<SessionBody>> = BTreeMap::new();
        let listed = |kind| -> Result<Vec<SessionId>> {
            Ok(repository.backend.list_sorted(kind)?.into_iter().map(|object| SessionId(object.name.id())).collect())
        };
        let ids = listed(ObjectKind::Session)?;
        let read = repository.ask_each(&ids, |id| repository.read_session(*id))?;
        for (id, read) in ids.into_iter().zip(read) {
            match read {
                Ok(body) => drop(bodies.insert(id, Some(body))),
                Err(error) if error.kind() == ErrorKind::NotFound || error.is_refusal() => {}
                // Damaged: somebody may be at work all the same.
                Err(error) if error.broken_rule().is_some() || error.kind() == ErrorKind::Unsupported => drop(bodies.insert(id, None)),
                Err(error) => return Err(error),
            }
        }
        let mut beats: BTreeMap<SessionId, Vec<ObjectName>> = BTreeMap::new();
        for object in repository.backend.list_sorted(ObjectKind::Beat)? {
            beats.entry(SessionId(object.name.id())).or_default().push(object.name);
        }
        let mut sessions = Self::default();
        let certificate = |id: &SessionId| bodies.get(id).and_then(|body| body.as_ref().map(|body| body.record.certificate()));
        let ids = listed(ObjectKind::Closed)?;
        let are_closed = repository.ask_each(&ids, |id| is_closed(repository, *id, certificate(id)))?;
        for (id, is_closed) in ids.into_iter().zip(are_closed) {
            if is_closed? {
                sessions.closed.insert(id);
            }
        }
        let ids = listed(ObjectKind::Tombstone)?;
        let are_dead = repository.ask_each(&ids, |id| has_tombstone(repository, &ObjectName::tombstone(*id)))?;
        for (id, is_dead) in ids.into_iter().zip(are_dead) {
            if is_dead? {
                sessions.tombstoned.insert(id);
            }
        }
        let ended = |id: &SessionId| sessions.closed.contains(id) || sessions.tombstoned.contains(id) || own == Some(*id);
        let open: Vec<_> = bodies.iter().filter(|(id, _)| !ended(id)).collect();
        let last_beats = repository.ask_each(&open, |(id, body)| {
            let own = body.as_ref().map(|body| body.record.certificate());
            last_beat(repository, beats.get(*id).map_or(&[], Vec::as_slice), own)
        })?;
        for ((id, body), last_beat) in open.into_iter().zip(last_beats) {
            sessions.open.push(OpenSession {
                session: *id,
                epoch: body.as_ref().map_or(0, |body| body.epoch),
                started: body.as_ref().map(|body| body.started),
                label: body.as_ref().map_or_else(|| "its object is damaged".to_owned(), |body| body.label.clone()),
                last_beat: last_beat?,
            });
        }
        Ok(sessions)
    }

    /// Lists sessions, looks who of them is dead, and gives `(sessions, the dead among them)`.
    pub(super) fn observe(
        repository: &Repository,
        own: Option<SessionId>,
        observations: &mut Observations,
    ) -> Result<(Self, BTreeSet<SessionId>)> {
        let first = Self::list(repository, own)?;
        let mut unheld = BTreeSet::new();
        for open in &first.open {
            if is_unheld(repository, open)? {
                unheld.insert(open.session);
            }
        }
        // Again: who published itself a moment ago holds its session by now, and who closed it is no longer open.
        let sessions = if first.open.is_empty() { first } else { Self::list(repository, own)? };
        let mut dead = BTreeSet::new();
        for open in &sessions.open {
            let silent_ns = observations.see(open);
            if silent_ns >= LEASE_NS || (unheld.contains(&open.session) && is_unheld(repository, open)?) {
                dead.insert(open.session);
            }
        }
        observations.keep_only(&sessions.open);
        Ok((sessions, dead))
    }

    /// Gives sessions up. All of them must be older than epoch `newest`, which is published.
    pub(super) fn give_up(&mut self, repository: &Repository, dead: &BTreeSet<SessionId>, newest: u32) -> Result<()> {
        for id in dead {
            let body = TombstoneBody { epoch: newest, now: repository.runtime.clock.now() };
            match repository.write_sealed(ObjectName::tombstone(*id), body.encode()) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => drop(self.tombstoned.insert(*id)),
            }
        }
        self.open.retain(|open| !dead.contains(&open.session));
        Ok(())
    }

    /// Whether no session is older than `epoch`: what that epoch condemns may then be swept.
    pub(super) fn is_gate_open(&self, epoch: u32) -> bool {
        self.open.iter().all(|open| open.epoch >= epoch)
    }
}

/// The number of the last of these that is a beat of the session, 0 for none: others may put something there, which neither keeps it alive nor
/// hides that it lives. Where it is not known whose session it is the names are believed.
fn last_beat(repository: &Repository, beats: &[ObjectName], own: Option<&Certificate>) -> Result<u32> {
    for name in beats.iter().rev() {
        let read = own.map(|own| repository.read_sealed(name).map(|beat| beat.certificate == *own));
        match read.transpose() {
            Ok(Some(false)) => {}
            Ok(None | Some(true)) => return Ok(name.number()),
            Err(error) if error.broken_rule().is_some() || error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(0)
}

/// Whether the session was closed by itself or by maintain. Of one whose object is gone, whoever says so is believed: nothing depends on it.
fn is_closed(repository: &Repository, id: SessionId, own: Option<&Certificate>) -> Result<bool> {
    let read = repository.read_sealed(&ObjectName::closed(id)).and_then(|closed| {
        ClosedBody::decode(&closed.plaintext)?;
        Ok(closed.certificate)
    });
    match read {
        Ok(certificate) => Ok(own.is_none_or(|own| *own == certificate) || certificate.roles().contain(Roles::MAINTAIN)),
        Err(error) if error.broken_rule().is_some() || error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a tombstone is one: readable and written by maintain.
fn has_tombstone(repository: &Repository, name: &ObjectName) -> Result<bool> {
    match repository.read_sealed(name).and_then(|tombstone| TombstoneBody::decode(&tombstone.plaintext)) {
        Ok(_) => Ok(true),
        Err(error) if error.broken_rule().is_some() || error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a session of this machine has no process behind it.
fn is_unheld(repository: &Repository, open: &OpenSession) -> Result<bool> {
    if machine(&open.label) != machine(&repository.settings.label) {
        return Ok(false);
    }
    match repository.backend.is_held(&ObjectName::session(open.session)) {
        Ok(held) => Ok(held == Some(false)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The machine that a label names.
fn machine(label: &str) -> &str {
    label.split_once(" process ").map_or(label, |(host, _)| host)
}

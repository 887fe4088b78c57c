//! Small objects, copied as they are: a snapshot is published at the target only after everything that it needs is durable there.

use super::plan::Plan;
use crate::backend::{BackendExt, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::hold::{HoldAction, HoldBody};
use crate::format::object::Opened;
use crate::format::session::ClosedBody;
use crate::id::{HoldId, SessionId, SnapshotId};
use crate::progress::{Event, Progress};
use crate::repository::{Repository, Session};
use crate::runtime::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Copies small objects from one repository to another one with the same keys.
pub(super) struct Publisher<'a> {
    pub(super) source: &'a Repository,
    pub(super) target: &'a Repository,
    pub(super) session: &'a Session<'a>,
    pub(super) progress: &'a dyn Progress,
    /// Bytes that were written.
    pub(super) bytes: u64,
}

impl Publisher<'_> {
    /// Publishes the snapshots of the plan; those that do not count then, because another run ended their session without them. Frames are durable by now.
    pub(super) fn publish(&mut self, plan: &Plan<'_>) -> Result<BTreeSet<SnapshotId>> {
        for name in plan.mark.relocations_needed()? {
            self.copy(&name)?;
        }
        self.require_alive()?;
        let mut sessions: BTreeMap<SessionId, Vec<SnapshotId>> = BTreeMap::new();
        for wanted in &plan.wanted {
            self.copy(&ObjectName::snapshot(wanted.id))?;
            sessions.entry(wanted.session()).or_default().push(wanted.id);
        }
        // Before the locks are there: whoever is stopped in between does it again.
        let locked = self.locked_longer(plan);
        self.target.keep_each(&locked, self.progress)?;
        // Before they count: no rule forgets a suspect.
        self.copy_holds(plan)?;
        // Who was given up may have relied on packs that are going: the snapshots stay suspect, and the next run finds what is missing.
        self.require_alive()?;
        let mut left_out = BTreeSet::new();
        for (session, snapshots) in &sessions {
            left_out.extend(self.close(*session, snapshots, plan)?);
            // Last of all: a session that is not closed would look as if it were at work.
            match self.copy(&ObjectName::session(*session)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let message =
                        format!("session {session}, which made snapshots that were copied, is gone at the source; run check there");
                    self.progress.event(Event::Notice { message: &message });
                }
                copied => copied?,
            }
        }
        // `OthersDurable`: what was there already.
        let mut there = plan.target.publications(plan.present.iter().copied());
        there.extend(sessions.keys().map(|session| ObjectName::closed(*session)));
        self.target.backend.make_durable(&there)?;
        let sight = |id| if plan.target.series.contains_key(&id) { &plan.target } else { &plan.source }.sights.get(&id).copied();
        let copied = plan.wanted.iter().filter(|wanted| !left_out.contains(&wanted.id));
        self.target.see_copies(copied.map(|wanted| (wanted.id, &wanted.header, sight(wanted.id))));
        self.target.keep_rest_of_each(&locked, self.progress)?;
        Ok(left_out)
    }

    /// The snapshots that are locked for longer at the source than at the target, and until when.
    fn locked_longer(&self, plan: &Plan<'_>) -> Vec<(SnapshotId, Timestamp)> {
        let longer = |id: SnapshotId| plan.source.locked_until(id).filter(|until| plan.target.locked_until(id) < Some(*until));
        standing(plan).into_iter().filter_map(|id| Some((id, longer(id)?))).collect()
    }

    /// What holds a snapshot at the source holds it at the target, and what was released is released. A hold that names others, too, which the target does
    /// not have, is placed anew for those that it has: what is held and not there would look as if it had been taken away.
    fn copy_holds(&mut self, plan: &Plan<'_>) -> Result<()> {
        let there = standing(plan);
        for (id, body, is_in_force) in plan.source.holds.listed() {
            let is_release = matches!(body.action, HoldAction::Release { .. });
            let held: Vec<_> = body.snapshots.iter().filter(|held| there.contains(&held.snapshot)).copied().collect();
            if is_release || is_in_force && !held.is_empty() && held.len() == body.snapshots.len() {
                self.copy(&ObjectName::hold(id))?;
            } else if is_in_force && !held.is_empty() {
                let is_same = |other: &HoldBody| (other.action, &other.note, &other.snapshots) == (body.action, &body.note, &held);
                if let Some((there, ..)) = plan.target.holds.listed().find(|(_, other, _)| is_same(other)) {
                    // `OthersDurable`: another run may have placed it a moment ago.
                    self.target.backend.make_durable(&[ObjectName::hold(there)])?;
                } else {
                    self.target.require(Roles::MAINTAIN, "placing a hold for a part of the snapshots that it names")?;
                    let body = HoldBody { now: self.target.runtime.clock.now(), snapshots: held, ..body.clone() };
                    self.target.write_sealed(ObjectName::hold(HoldId(self.target.runtime.random())), body.encode())?;
                }
            }
        }
        Ok(())
    }

    fn require_alive(&self) -> Result<()> {
        self.session.require_keys_unchanged()?;
        match self.session.is_given_up()? {
            false => Ok(()),
            true => {
                let message = format!(
                    "{}: garbage collection took this process for dead (it did not beat for 15 minutes); run it again: what arrived is found again where \
                     it is still there",
                    self.target.describe()
                );
                Err(Error::new(ErrorKind::Busy, message))
            }
        }
    }

    /// Says that the snapshots of a session count: in its own words where all of them are at the target, else in this credential's. Gives those of which
    /// somebody else has said otherwise.
    fn close(&mut self, session: SessionId, snapshots: &[SnapshotId], plan: &Plan<'_>) -> Result<Vec<SnapshotId>> {
        let name = ObjectName::closed(session);
        if self.not_closed_with(session, snapshots)?.is_empty() {
            return Ok(Vec::new());
        }
        let published = plan.wanted.iter().map(|wanted| wanted.id).chain(plan.present.iter().copied());
        let there: BTreeSet<_> = published.chain(plan.target.withdrawn.iter().copied()).collect();
        let named = plan.source.closed.get(&session).map(|closed| closed.snapshots.as_slice()).unwrap_or_default();
        let done = match named.iter().all(|id| there.contains(id)) {
            true => self.copy(&name),
            false => {
                let named = named.iter().filter(|id| there.contains(id)).copied().collect();
                let body = ClosedBody { finished: true, now: self.target.runtime.clock.now(), snapshots: named };
                self.target.write_sealed(name, body.encode())
            }
        };
        match done {
            // A collector may have settled the snapshot between the two steps.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => self.not_closed_with(session, snapshots),
            done => done.map(|()| Vec::new()),
        }
    }

    /// Those of the snapshots that `closed/` at the target does not name.
    fn not_closed_with(&self, session: SessionId, snapshots: &[SnapshotId]) -> Result<Vec<SnapshotId>> {
        let read = self.target.read_sealed(&ObjectName::closed(session)).and_then(|unsealed| ClosedBody::decode(&unsealed.plaintext));
        match read {
            Ok(body) => Ok(snapshots.iter().filter(|id| !body.snapshots.contains(id)).copied().collect()),
            Err(error) if error.kind() == ErrorKind::NotFound || error.broken_rule().is_some() => Ok(snapshots.to_vec()),
            Err(error) => Err(error),
        }
    }

    /// Copies an object that keeps its rules at the source. One that is damaged at the target is healed: its own bytes take its place.
    fn copy(&mut self, name: &ObjectName) -> Result<()> {
        let bytes = self.source.backend.get(name, name.kind().size_max())?;
        Opened::check(name, &bytes, &self.source.trust).map_err(|error| error.context(self.source.describe()))?;
        let error = match self.target.backend.put(name, &bytes) {
            Ok(()) => {
                self.bytes += bytes.len() as u64;
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => error,
            Err(error) => return Err(error),
        };
        match self.target.backend.get(name, name.kind().size_max()) {
            Ok(there) if there == bytes => Ok(()),
            Ok(there) if Opened::check(name, &there, &self.target.trust).is_ok() => Err(error),
            Err(error) if error.kind() != ErrorKind::Damaged => Err(error),
            _ => {
                let mut writer = self.target.backend.replace(name)?;
                writer.write(&bytes)?;
                writer.finish()?;
                self.bytes += bytes.len() as u64;
                Ok(())
            }
        }
    }
}

/// The snapshots that stand at the target once those of the plan do.
fn standing(plan: &Plan<'_>) -> BTreeSet<SnapshotId> {
    let before = plan.target.snapshots.iter().filter(|id| !plan.target.withdrawn.contains(id));
    before.copied().chain(plan.wanted.iter().map(|wanted| wanted.id)).collect()
}

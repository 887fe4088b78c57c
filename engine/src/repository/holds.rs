//! Which snapshots must not go, and when a lock is over.
//!
//! Holds are objects of their own (`format-spec/holds.md`). What they hold cannot be withdrawn: a marker is not believed while one of them is in force
//! (HOLD-7), whoever wrote it. So all that honours withdrawals honours holds.
//!
//! No clock ends a lock alone (I10). What is *proven* is a time that somebody wrote into the repository, or that this user noted in an earlier run, at
//! least a day before the clock here: one reading that is false, however far ahead, proves nothing.

use super::Repository;
use super::snapshots::SnapshotListing;
use crate::backend::{BackendExt, ObjectKind, ObjectName};
use crate::error::{Error, ErrorKind, Result};
use crate::format::hold::{HoldAction, HoldBody};
use crate::id::{CredentialId, HoldId, SnapshotId};
use crate::runtime::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// So much older than now must be what proves that a lock is over.
pub(crate) const DAY_SECONDS: u64 = 86_400;

/// A moment so many seconds after another one.
pub(crate) fn seconds_after(time: Timestamp, seconds: u64) -> Timestamp {
    Timestamp { seconds: time.seconds.saturating_add_unsigned(seconds), ..time }
}

/// What is known of a legal hold or a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hold {
    /// Its name.
    pub id: HoldId,
    /// When it was placed, by its writer's clock.
    pub placed: Timestamp,
    /// Until when, of a lock.
    pub until: Option<Timestamp>,
    /// Why, for people.
    pub note: String,
    /// Who placed it; zeros for admin.
    pub credential: CredentialId,
    /// What it holds, ascending.
    pub snapshots: Vec<SnapshotId>,
    /// Whether it still holds.
    pub state: HoldState,
}

/// Whether a hold still holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldState {
    /// It holds.
    InForce,
    /// A lock whose end has come by the clock here, and that holds until that is proven: a day later, when something was written in between.
    Unproven,
    /// A lock that is over.
    Over,
    /// A legal hold that was released.
    Released,
}

/// Why a snapshot must not go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Held {
    /// Legal holds that are not released.
    pub legal: Vec<HoldId>,
    /// The latest end of the locks that are not over.
    pub until: Option<Timestamp>,
    /// That end has come by the clock here, and nothing proves it yet.
    pub is_unproven: bool,
}

impl Held {
    /// What a withdrawal comes to: nothing.
    pub(super) fn refusal(&self) -> Error {
        Error::rule("HOLD-7", format!("the snapshot is held ({self}), so its withdrawal does not count"))
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(hold) = self.legal.first() {
            write!(f, "legal hold {}", &hold.to_string()[..8])?;
            if self.legal.len() > 1 {
                write!(f, " and {} more", self.legal.len() - 1)?;
            }
        }
        if let Some(until) = self.until {
            let separator = if self.legal.is_empty() { "" } else { ", " };
            write!(f, "{separator}locked until {until}")?;
        }
        if self.is_unproven {
            f.write_str(", which one clock alone does not prove to be over; try again when something was written in the repository and a day has passed")?;
        }
        Ok(())
    }
}

/// What is known of the time, where it decides whether a lock is over.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Proof {
    /// The clock here.
    pub(crate) now: Timestamp,
    /// Not before this moment; `None` where nothing proves any.
    pub(crate) proven: Option<Timestamp>,
}

impl Proof {
    pub(crate) fn at(now: Timestamp) -> Self {
        Self { now, ..Self::default() }
    }

    /// Takes what somebody says who wrote or noted it then.
    pub(crate) fn hear(&mut self, time: Timestamp) {
        if seconds_after(time, DAY_SECONDS) <= self.now {
            self.proven = self.proven.max(Some(time));
        }
    }

    /// Whether what ends at `until` is over.
    pub(crate) fn is_over(&self, until: Timestamp) -> bool {
        self.proven.is_some_and(|proven| until <= proven)
    }
}

/// All holds.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    all: BTreeMap<HoldId, (HoldBody, CredentialId)>,
    released: BTreeSet<HoldId>,
    /// The holds and locks that name each snapshot.
    of: BTreeMap<SnapshotId, Vec<HoldId>>,
    pub(crate) proof: Proof,
    /// They were listed, all of them.
    pub(crate) are_listed: bool,
    /// Holds that were seen in force before and that are gone: what they held may go unnoticed.
    pub(crate) gone: Vec<HoldId>,
}

impl Holds {
    pub(crate) fn add(&mut self, id: HoldId, body: HoldBody, credential: CredentialId) {
        if let HoldAction::Release { hold } = body.action {
            self.released.insert(hold);
        }
        for held in &body.snapshots {
            self.of.entry(held.snapshot).or_default().push(id);
        }
        self.all.insert(id, (body, credential));
    }

    /// Whether a hold is listed, in force or not.
    pub(crate) fn is_listed(&self, id: HoldId) -> bool {
        self.all.contains_key(&id)
    }

    fn state(&self, id: HoldId, body: &HoldBody) -> HoldState {
        match body.action {
            HoldAction::Lock { until } if self.proof.is_over(until) => HoldState::Over,
            HoldAction::Lock { until } if until <= self.proof.now => HoldState::Unproven,
            HoldAction::Legal if self.released.contains(&id) => HoldState::Released,
            HoldAction::Release { .. } => HoldState::Over,
            _ => HoldState::InForce,
        }
    }

    /// All that is listed, each with whether it is in force.
    pub(crate) fn listed(&self) -> impl Iterator<Item = (HoldId, &HoldBody, bool)> {
        self.all.iter().map(|(id, (body, _))| (*id, body, self.is_in_force(*id, body)))
    }

    /// All that is listed, releases included.
    pub(crate) fn names(&self) -> Vec<ObjectName> {
        self.all.keys().map(|id| ObjectName::hold(*id)).collect()
    }

    fn is_in_force(&self, id: HoldId, body: &HoldBody) -> bool {
        matches!(self.state(id, body), HoldState::InForce | HoldState::Unproven)
    }

    /// Why a snapshot must not go; `None` where it may.
    pub(crate) fn held(&self, snapshot: SnapshotId) -> Option<Held> {
        let mut held = Held::default();
        for id in self.of.get(&snapshot)? {
            let Some((body, _)) = self.all.get(id).filter(|(body, _)| self.is_in_force(*id, body)) else { continue };
            match body.action {
                HoldAction::Lock { until } => held.until = held.until.max(Some(until)),
                _ => held.legal.push(*id),
            }
        }
        held.is_unproven = held.legal.is_empty() && held.until.is_some_and(|until| until <= self.proof.now);
        (held != Held::default()).then_some(held)
    }

    /// Every snapshot that is held, as often as there are holds.
    pub(crate) fn all_held(&self) -> impl Iterator<Item = SnapshotId> + '_ {
        let in_force = self.all.iter().filter(|(id, (body, _))| self.is_in_force(**id, body));
        in_force.flat_map(|(_, (body, _))| &body.snapshots).map(|held| held.snapshot)
    }

    /// What a hold names.
    pub(super) fn snapshots_of(&self, hold: HoldId) -> Vec<SnapshotId> {
        self.all.get(&hold).map_or_else(Vec::new, |(body, _)| body.snapshots.iter().map(|held| held.snapshot).collect())
    }

    /// Holds in force, each with its end, if it has one.
    pub(super) fn in_force(&self) -> impl Iterator<Item = (HoldId, Option<Timestamp>)> + '_ {
        let in_force = self.all.iter().filter(|(id, (body, _))| self.is_in_force(**id, body));
        in_force.map(|(id, (body, _))| (*id, end_of(body)))
    }

    /// Locks that ended at least so many seconds before what is proven.
    pub(crate) fn over_for(&self, seconds: u64) -> impl Iterator<Item = HoldId> + '_ {
        let is_over = move |body: &HoldBody| end_of(body).is_some_and(|until| self.proof.is_over(seconds_after(until, seconds)));
        self.all.iter().filter(move |(_, (body, _))| is_over(body)).map(|(id, _)| *id)
    }

    /// The times that its objects tell.
    pub(crate) fn times(&self) -> impl Iterator<Item = Timestamp> + '_ {
        self.all.values().map(|(body, _)| body.now)
    }

    /// Whether the end of a lock has come by the clock here.
    fn has_ending(&self) -> bool {
        self.all.values().filter_map(|(body, _)| end_of(body)).any(|until| until <= self.proof.now)
    }
}

fn end_of(body: &HoldBody) -> Option<Timestamp> {
    match body.action {
        HoldAction::Lock { until } => Some(until),
        _ => None,
    }
}

impl SnapshotListing {
    /// Takes what is held out of what is withdrawn, and says why.
    pub(crate) fn disbelieve_held(&mut self) -> Vec<(SnapshotId, Error)> {
        let held = self.withdrawn.iter().filter_map(|id| Some((*id, self.holds.held(*id)?.refusal()))).collect::<Vec<_>>();
        for (id, _) in &held {
            self.withdrawn.remove(id);
        }
        held
    }

    /// Refuses to let snapshots go that are held, or any while holds that were seen before are gone.
    ///
    /// # Errors
    /// [`ErrorKind::Held`], and [`ErrorKind::Damaged`] where holds are gone.
    pub(crate) fn require_free(&self, snapshots: impl Iterator<Item = SnapshotId>) -> Result<()> {
        let held: Vec<_> = snapshots.filter_map(|id| Some((id, self.holds.held(id)?))).collect();
        if let Some((id, why)) = held.first() {
            let more = match held.len() - 1 {
                0 => String::new(),
                more => format!(" ({more} more of those named are held, too)"),
            };
            let message = format!("snapshot {id} must not go: {why}{more}; nothing was changed");
            return Err(Error::new(ErrorKind::Held, message));
        }
        match (self.holds.gone.first(), &self.setback) {
            (Some(_), Some(setback)) => Err(Error::new(ErrorKind::Damaged, setback.to_string())),
            _ => Ok(()),
        }
    }
}

impl Repository {
    /// Lists holds; `keep` gets what was read of each, and gives what is to be believed.
    pub(crate) fn list_holds(
        &self,
        mut keep: impl FnMut(ObjectName, Result<(HoldBody, CredentialId)>) -> Result<Option<(HoldBody, CredentialId)>>,
    ) -> Result<Holds> {
        let mut holds = Holds { proof: Proof::at(self.runtime.clock.now()), are_listed: true, ..Holds::default() };
        self.for_each_sealed(ObjectKind::Hold, |name, read| {
            let read = read.and_then(|unsealed| {
                let body = HoldBody::decode(&unsealed.plaintext, &unsealed.certificate).map_err(|error| error.context(name))?;
                Ok((body, unsealed.certificate.credential()))
            });
            if let Some((body, credential)) = keep(name, read)? {
                holds.add(HoldId(name.id()), body, credential);
            }
            Ok(())
        })?;
        Ok(holds)
    }

    /// Hears what tells the time, where the end of a lock has come by the clock here.
    pub(crate) fn prove_time(&self, listing: &mut SnapshotListing) -> Result<()> {
        let mut proof = Proof::at(self.runtime.clock.now());
        let told = listing.closed.values().map(|closed| closed.now).chain(listing.holds.times());
        told.for_each(|time| proof.hear(time));
        listing.holds.proof = proof;
        if listing.holds.has_ending() {
            self.clock_readings().into_iter().for_each(|time| listing.holds.proof.hear(time));
        }
        Ok(())
    }

    /// After a write that may have met another one: removes withdrawals of these snapshots that nobody believes because they are held, and gives those that are.
    /// Whoever holds and whoever forgets does this, so that no marker stays that would count once the hold has ended.
    pub(crate) fn settle_held(&self, ids: &BTreeSet<SnapshotId>) -> Result<Vec<(SnapshotId, Held)>> {
        if self.backend.list_sorted(ObjectKind::Hold)?.is_empty() {
            return Ok(Vec::new());
        }
        let listing = self.list_snapshots()?;
        let held: Vec<_> = ids.iter().filter_map(|id| Some((*id, listing.holds.held(*id)?))).collect();
        for (id, _) in &held {
            let name = ObjectName::withdrawn(*id);
            let is_disbelieved = |(problem, error): &(ObjectName, Error)| *problem == name && error.broken_rule() == Some("HOLD-7");
            if listing.problems.iter().any(is_disbelieved) {
                match self.backend.delete(&name) {
                    Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(held)
    }

    /// All legal holds and locks, by name: those that are over and are still there, too.
    ///
    /// # Errors
    /// What the backend says, and [`ErrorKind::Damaged`] where one that was seen before is gone or one breaks a rule.
    pub fn holds(&self) -> Result<(Vec<Hold>, Vec<Error>)> {
        let listing = self.list_snapshots()?;
        let holds = &listing.holds;
        let shown = holds.all.iter().filter(|(_, (body, _))| !matches!(body.action, HoldAction::Release { .. }));
        let list = shown.map(|(id, (body, credential))| Hold {
            id: *id,
            placed: body.now,
            until: end_of(body),
            note: body.note.clone(),
            credential: *credential,
            snapshots: body.snapshots.iter().map(|held| held.snapshot).collect(),
            state: holds.state(*id, body),
        });
        let list = list.collect();
        let problems =
            listing.problems.into_iter().filter(|(name, error)| name.kind() == ObjectKind::Hold || error.broken_rule() == Some("HOLD-7"));
        Ok((list, problems.map(|(_, error)| error).chain(listing.setback).collect()))
    }

    /// Why each of these snapshots must not go, of those that are held.
    ///
    /// # Errors
    /// What the backend says.
    pub fn held(&self) -> Result<BTreeMap<SnapshotId, Held>> {
        let listing = self.list_snapshots()?;
        let ids: BTreeSet<_> = listing.holds.all_held().collect();
        Ok(ids.into_iter().filter_map(|id| Some((id, listing.holds.held(id)?))).collect())
    }
}

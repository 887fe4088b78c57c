//! Tags that change afterwards: a new snapshot with the other tags takes the place of the old one.
//!
//! Snapshots are written once (I1). So the same tree and refs are published again, each under a session of its own, with the same times and the
//! new tags; when that snapshot counts, the old one is withdrawn. Data is neither read nor written. Steps, each durable before the next:
//! sessions; list snapshots, packs and epochs; every frame stands in a pack that no epoch condemns (I6, I8); the snapshots; look for a tombstone
//! (I9); `closed/` naming them (I3); only then `withdrawn/` of each old one.
//!
//! After a stop anywhere the old snapshot counts, or the new one, or both. Doing the same again finds the new one and finishes.

use crate::backup::{last_of_series, put_snapshot};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Roles;
use crate::format::session::SessionKind;
use crate::format::snapshot::{SnapshotBody, SnapshotHeader, Token, tag_token};
use crate::id::SnapshotId;
use crate::limits::{TAGS_LENGTH_MAX, TAGS_MAX, TEXT_MAX};
use crate::progress::{Event, Progress, Silent};
use crate::repository::{FrameReader, Repository, Session, Snapshot, SnapshotState};
use std::collections::{BTreeSet, HashMap};

/// Snapshots that are published at once: each has a session, because what is copied of a session elsewhere can be copied only together, and each session has
/// a thread.
const PUBLISHED_AT_ONCE: usize = 32;

/// What becomes of a snapshot's tags.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TagChange {
    /// These take the place of all that there are.
    pub set: Option<Vec<String>>,
    /// These are added.
    pub add: Vec<String>,
    /// These are taken away, last.
    pub remove: Vec<String>,
}

/// A snapshot and what took its place.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retagged {
    /// The snapshot as it was named.
    pub before: SnapshotId,
    /// The one that counts now; the same where it had these tags already.
    pub after: SnapshotId,
    /// Its tags, ascending.
    pub tags: Vec<String>,
}

/// A snapshot that is to have other tags.
struct Target {
    snapshot: Snapshot,
    tags: Vec<String>,
    /// One that is as it is to be, left by a run that was interrupted.
    there: Option<SnapshotId>,
}

impl TagChange {
    /// The tags that come of these; ascending, each once.
    fn apply(&self, tags: &[String]) -> Result<Vec<String>> {
        let kept = self.set.as_deref().unwrap_or(tags);
        let changed: BTreeSet<&String> = kept.iter().chain(&self.add).filter(|tag| !self.remove.contains(tag)).collect();
        let is_wrong = |tag: &&String| tag.is_empty() || tag.len() > TEXT_MAX;
        let length: usize = changed.iter().map(|tag| tag.len()).sum();
        if changed.len() > TAGS_MAX || length > TAGS_LENGTH_MAX || changed.iter().any(is_wrong) {
            let message = format!(
                "tags must not be empty and have at most {TEXT_MAX} bytes, a snapshot at most {TAGS_MAX} of them of {TAGS_LENGTH_MAX} bytes in all"
            );
            return Err(Error::new(ErrorKind::Invalid, message));
        }
        Ok(changed.into_iter().cloned().collect())
    }
}

impl Repository {
    /// Gives these snapshots other tags. Each gets a new id; all else of it stays as it is, but that this credential signs it and that it
    /// stores nothing new.
    ///
    /// # Errors
    /// [`ErrorKind::Unauthorized`] without the roles backup, restore and maintain, [`ErrorKind::NotFound`] where one is unknown or does not count, [`ErrorKind::Invalid`] where a tag is none, [`ErrorKind::Held`] where one is
    /// held, [`ErrorKind::Busy`] where garbage collection is about to move what one needs, [`ErrorKind::Cancelled`] when `progress` says so before the first is written,
    /// otherwise what the backend says.
    pub fn retag(&self, snapshots: &[SnapshotId], change: &TagChange, progress: &dyn Progress) -> Result<Vec<Retagged>> {
        self.require(Roles::BACKUP, "changing tags, which publishes a snapshot,")?;
        self.require(Roles::RESTORE, "changing tags, which reads a snapshot,")?;
        self.require(Roles::MAINTAIN, "changing tags, which withdraws a snapshot,")?;
        self.require_writable()?;
        self.require_newest_config()?;
        let targets = self.tag_targets(snapshots, change)?;
        // What takes the place of a snapshot withdraws it.
        let replaced = targets.iter().filter(|target| target.there != Some(target.snapshot.id)).map(|target| target.snapshot.id);
        self.list_snapshots()?.require_free(replaced)?;
        progress.event(Event::Phase { name: "tag", bytes_total: None, items_total: Some(targets.len() as u64) });
        if progress.is_cancelled() {
            return Err(Error::new(ErrorKind::Cancelled, "stopped; nothing was changed"));
        }
        let mut done = Vec::with_capacity(targets.len());
        for targets in targets.chunks(PUBLISHED_AT_ONCE) {
            let replaced = self.publish_retagged(targets)?;
            let pairs: Vec<_> = targets.iter().zip(replaced).collect();
            let is_replaced = |(target, after): &&(&Target, SnapshotId)| target.snapshot.id != *after;
            let old: Vec<_> = pairs.iter().filter(is_replaced).map(|(target, _)| target.snapshot.id).collect();
            if !old.is_empty() {
                self.make_durable_there(targets)?;
                self.forget(&old, &Silent)?;
            }
            done.extend(pairs.into_iter().map(|(target, after)| Retagged { before: target.snapshot.id, after, tags: target.tags.clone() }));
            progress.event(Event::Advance { bytes: 0, items: targets.len() as u64 });
        }
        Ok(done)
    }

    /// Sees to it that what another run has left in the place of a snapshot stays (`OthersDurable`).
    fn make_durable_there(&self, targets: &[Target]) -> Result<()> {
        let there = targets.iter().filter_map(|target| target.there.filter(|there| *there != target.snapshot.id));
        let there: Vec<_> = there.collect();
        match there.is_empty() {
            true => Ok(()),
            false => self.backend.make_durable(&self.list_snapshots()?.publications(there)),
        }
    }

    /// The snapshots, with what is to become of each.
    fn tag_targets(&self, ids: &[SnapshotId], change: &TagChange) -> Result<Vec<Target>> {
        let (snapshots, problems) = self.snapshots_and_problems()?;
        let mut unread = problems.into_iter().filter(|error| error.kind() == ErrorKind::Unavailable);
        let mut seen = BTreeSet::new();
        let fresh = ids.iter().filter(|id| seen.insert(**id));
        let target = |id: &SnapshotId| {
            let snapshot = snapshots.iter().find(|snapshot| snapshot.id == *id && snapshot.state == SnapshotState::Closed);
            let unknown = || Error::new(ErrorKind::NotFound, format!("there is no snapshot {id} that counts"));
            // What could not be read may be what says that it does.
            let snapshot = snapshot.ok_or_else(|| unread.next().unwrap_or_else(unknown))?;
            let tags = change.apply(&snapshot.body.tags)?;
            let there = if tags == snapshot.body.tags {
                Some(*id)
            } else {
                let body = SnapshotBody { tags: tags.clone(), ..snapshot.body.clone() };
                let is_same = |other: &&Snapshot| {
                    let state_and_time = (other.state, other.header.time) == (SnapshotState::Closed, snapshot.header.time);
                    state_and_time && other.header.refs_root == snapshot.header.refs_root && other.body == body
                };
                snapshots.iter().find(is_same).map(|other| other.id)
            };
            Ok(Target { snapshot: snapshot.clone(), tags, there })
        };
        fresh.map(target).collect()
    }

    /// Publishes what is not there yet; the id of each that counts then.
    fn publish_retagged(&self, targets: &[Target]) -> Result<Vec<SnapshotId>> {
        if let Some(there) = targets.iter().map(|target| target.there).collect::<Option<Vec<_>>>() {
            return Ok(there);
        }
        let mut sessions = Vec::new();
        let mut fresh = targets.iter().filter(|target| target.there.is_none());
        let begun = fresh.try_for_each(|_| Session::begin(self, SessionKind::Writer).map(|session| sessions.push(session)));
        match begun.and_then(|()| self.put_retagged(&sessions, targets)) {
            Ok(published) => {
                let mut pairs = sessions.into_iter().zip(&published);
                pairs.try_for_each(|(session, id)| session.close(true, vec![*id]))?;
                let mut published = published.into_iter();
                Ok(targets.iter().filter_map(|target| target.there.or_else(|| published.next())).collect())
            }
            Err(error) => {
                sessions.into_iter().for_each(Session::give_up);
                Err(error)
            }
        }
    }

    /// Publishes each target that is not there yet under one of the sessions, which are as many; the ids.
    fn put_retagged(&self, sessions: &[Session<'_>], targets: &[Target]) -> Result<Vec<SnapshotId>> {
        // Under the sessions what counts now stays readable, if it stands in packs that no epoch condemned before.
        let listing = self.list_snapshots()?;
        let index = self.open_index()?;
        index.remove_packs(&self.condemned()?.1);
        let reader = FrameReader::new(self, index);
        let mut last: HashMap<Token, (u64, Option<SnapshotId>)> = HashMap::new();
        let mut published = Vec::new();
        for (session, target) in sessions.iter().zip(targets.iter().filter(|target| target.there.is_none())) {
            let old = &target.snapshot;
            if listing.withdrawn.contains(&old.id) {
                return Err(Error::new(ErrorKind::NotFound, format!("snapshot {} was forgotten meanwhile", old.id)));
            }
            self.require_standing(&reader, &old.header)?;
            let last = match last.entry(old.header.series) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(unknown) => unknown.insert(last_of_series(self, session, &old.header.series)?),
            };
            let id = SnapshotId(self.runtime.random());
            let (header, body) = self.retagged(session, target, *last);
            session.require_keys_unchanged()?;
            put_snapshot(self, session, id, &header, &body)?;
            *last = (header.sequence, Some(id));
            published.push(id);
        }
        self.require_newest_config()?;
        sessions.iter().zip(&published).try_for_each(|(session, id)| session.withdraw_if_given_up(*id))?;
        Ok(published)
    }

    /// Every frame that the snapshot needs stands where it stays.
    fn require_standing(&self, reader: &FrameReader, header: &SnapshotHeader) -> Result<()> {
        self.snapshot_chunks(reader, header).map(drop).map_err(|error| match error.kind() {
            ErrorKind::Damaged | ErrorKind::NotFound => error
                .context("garbage collection is about to move what the snapshot needs, or it is damaged; run gc, then try again")
                .with_kind(ErrorKind::Busy),
            _ => error,
        })
    }

    /// Header and body of what takes the place of a snapshot.
    fn retagged(&self, session: &Session<'_>, target: &Target, last: (u64, Option<SnapshotId>)) -> (SnapshotHeader, SnapshotBody) {
        let old = &target.snapshot;
        let mut tokens: Vec<Token> = target.tags.iter().map(|tag| tag_token(&self.credential.token_key, tag)).collect();
        tokens.sort_unstable();
        let header = SnapshotHeader {
            sequence: last.0 + 1,
            previous: last.1,
            epoch: session.epoch(),
            new_bytes: 0,
            tags: tokens,
            record: (**session.record()).clone(),
            ..old.header.clone()
        };
        (header, SnapshotBody { tags: target.tags.clone(), ..old.body.clone() })
    }
}

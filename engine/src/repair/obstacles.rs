//! Small objects that break a rule and have a name that somebody may need: nobody believes them, and while they are there nobody can write what
//! ought to be there.
//!
//! - A bad `withdrawn/` keeps its snapshot from being forgotten.
//! - A bad `closed/` keeps the snapshot of its session suspect; garbage collection closes the session once it knows that it is over. Where there is
//!   a tombstone, even a bad end stays: the session might wake and say anew what was forgotten since (`EndsStay`); but not where its snapshot is there.
//! - A bad tombstone keeps a dead session from being given up for good.
//!
//! Everything else that breaks a rule is left alone: beats go with their sessions, snapshots by being forgotten, and epochs, configs and slots
//! must never be used twice.

use super::plan::{Obstacle, may_heal, untried};
use crate::backend::{ObjectKind, ObjectName};
use crate::check::Finding;
use crate::error::{ErrorKind, Result};
use crate::format::session::{ClosedBody, TombstoneBody};
use crate::gc::delete;
use crate::id::SessionId;
use crate::repository::{Repository, SnapshotListing};

/// Those among the findings.
pub(super) fn find(repository: &Repository, findings: &[Finding]) -> Result<Vec<Obstacle>> {
    let untried = untried(findings);
    let mut obstacles: Vec<Obstacle> = Vec::new();
    for finding in findings {
        let is_bad = finding.kind == ErrorKind::Damaged && finding.rule.is_some() && !finding.healed;
        let Some(object) = finding.object.filter(|object| is_bad && !may_heal(&untried, object)) else { continue };
        let stands_in_the_way = match object.kind() {
            ObjectKind::Tombstone | ObjectKind::Withdrawn => true,
            ObjectKind::Closed => {
                let session = SessionId(object.id());
                !repository.has(&ObjectName::tombstone(session))? || has_standing(&repository.list_snapshots()?, session)
            }
            _ => false,
        };
        if stands_in_the_way && obstacles.iter().all(|known| known.object != object) {
            obstacles.push(Obstacle { object, message: finding.message.clone() });
        }
    }
    Ok(obstacles)
}

/// Whether a snapshot of the session is there that nobody withdrew: what says that it counts is then nothing that was forgotten.
fn has_standing(listing: &SnapshotListing, session: SessionId) -> bool {
    listing.headers().any(|(id, header)| header.record.id() == session && !listing.withdrawn.contains(&id))
}

/// Removes those that are still there and still break a rule; gives how many.
pub(super) fn remove(repository: &Repository, obstacles: &[Obstacle]) -> Result<u64> {
    let mut removed = 0;
    if obstacles.is_empty() {
        return Ok(removed);
    }
    let listing = repository.list_snapshots()?;
    for obstacle in obstacles {
        let name = &obstacle.object;
        let is_bad = match name.kind() {
            ObjectKind::Tombstone => breaks_a_rule(repository, name, |plaintext| TombstoneBody::decode(plaintext).map(drop))?,
            _ if listing.problems.iter().any(|(problem, error)| problem == name && error.kind() == ErrorKind::Damaged) => true,
            ObjectKind::Closed => breaks_a_rule(repository, name, |plaintext| ClosedBody::decode(plaintext).map(drop))?,
            _ => false,
        };
        if is_bad {
            removed += u64::from(delete(repository, name)?);
        }
    }
    Ok(removed)
}

fn breaks_a_rule(repository: &Repository, name: &ObjectName, decode: impl Fn(&[u8]) -> Result<()>) -> Result<bool> {
    match repository.read_sealed(name).and_then(|unsealed| decode(&unsealed.plaintext)) {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) if error.broken_rule().is_some() => Ok(error.kind() == ErrorKind::Damaged),
        Err(error) => Err(error),
    }
}

//! One source, several replicas: it is read, cut and sealed once, and every replica says for itself that it has the snapshot.
//!
//! Packs go to all of them as they are written. The snapshot is then replicated to each, which costs what a replica lacked before and the few small objects,
//! and keeps all that replicating promises. So one that fails, or joins late, does nothing to the others.

use super::{ReplicateOptions, ReplicateSummary};
use crate::backend::{Backend, MirrorBackend};
use crate::error::{Error, ErrorKind, Result};
use crate::id::SnapshotId;
use crate::progress::Progress;
use crate::repository::Repository;
use std::sync::Arc;

impl Repository {
    /// From now on, packs that are written here go to these replicas, too. What became of a snapshot there [`Repository::acknowledge`] says.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] where one of them is no replica.
    pub fn mirroring<'r>(mut self, replicas: impl IntoIterator<Item = &'r Self>) -> Result<Self> {
        let mut mirrors: Vec<Arc<dyn Backend>> = Vec::new();
        for replica in replicas {
            if replica.id != self.id {
                let message = format!("{} is no replica of {}: it has keys of its own", replica.describe(), self.describe());
                return Err(Error::new(ErrorKind::Invalid, message));
            }
            mirrors.push(Arc::clone(&replica.backend));
        }
        if !mirrors.is_empty() {
            self.backend = Arc::new(MirrorBackend::new(self.backend, mirrors));
        }
        Ok(self)
    }

    /// Sees to it that a replica has a snapshot of this repository: when this returns, it counts there, and all that it needs is durable.
    ///
    /// # Errors
    /// As [`Repository::replicate`], and [`ErrorKind::Damaged`] where the snapshot could not be copied.
    pub fn acknowledge(&self, snapshot: SnapshotId, replica: &Self, progress: &dyn Progress) -> Result<ReplicateSummary> {
        let summary = self.replicate(replica, &ReplicateOptions::of(vec![snapshot]), progress)?;
        if let Some((id, why)) = summary.snapshots_damaged.first() {
            return Err(Error::new(ErrorKind::Damaged, format!("snapshot {id} was not copied: {why}")));
        }
        match summary.snapshots_forgotten.first() {
            Some(id) => Err(Error::new(ErrorKind::NotFound, format!("snapshot {id} was forgotten there"))),
            None => Ok(summary),
        }
    }
}

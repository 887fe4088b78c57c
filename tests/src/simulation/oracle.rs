//! What has to be true: which snapshots were acknowledged, what is in them, and who forgot what.

use icecore::id::SnapshotId;
use std::collections::BTreeMap;

/// What is known of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Success was reported: it is there.
    Acknowledged,
    /// Somebody began to forget it, and did not report success: it is there or it is not.
    Doubtful,
    /// Success was reported to whoever forgot it: it is not there.
    Forgotten,
}

/// What processes were told.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    /// Content by series; each backup has a series of its own.
    pub contents: BTreeMap<String, Vec<u8>>,
    /// Snapshots of which somebody was told, with their series.
    pub snapshots: BTreeMap<SnapshotId, (String, Standing)>,
}

impl Oracle {
    /// Success was reported for a snapshot.
    pub fn acknowledge(&mut self, id: SnapshotId, series: &str) {
        self.snapshots.entry(id).or_insert((series.to_owned(), Standing::Acknowledged));
    }

    /// Somebody is about to forget it.
    pub fn doubt(&mut self, id: SnapshotId) {
        if let Some((_, standing)) = self.snapshots.get_mut(&id)
            && *standing == Standing::Acknowledged
        {
            *standing = Standing::Doubtful;
        }
    }

    /// It was forgotten.
    pub fn forget(&mut self, id: SnapshotId) {
        if let Some((_, standing)) = self.snapshots.get_mut(&id) {
            *standing = Standing::Forgotten;
        }
    }

    /// Whether it has to be there.
    pub fn is_certain(&self, id: SnapshotId) -> bool {
        self.snapshots.get(&id).is_some_and(|(_, standing)| *standing == Standing::Acknowledged)
    }

    /// Snapshots that may be there.
    pub fn possible(&self) -> Vec<SnapshotId> {
        self.snapshots.iter().filter(|(_, (_, standing))| *standing != Standing::Forgotten).map(|(id, _)| *id).collect()
    }

    /// What is wrong with what a fresh process is shown: the snapshots with their series and, where one was restored, what came back.
    pub fn judge(&self, shown: &[(SnapshotId, String, Option<Vec<u8>>)]) -> Result<(), String> {
        for (id, series, content) in shown {
            if content.as_ref().is_some_and(|content| self.contents.get(series) != Some(content)) {
                return Err(format!("snapshot {id} of {series} comes back with other content"));
            }
            if self.snapshots.get(id).is_some_and(|(_, standing)| *standing == Standing::Forgotten) {
                return Err(format!("snapshot {id} of {series} was forgotten and is shown"));
            }
        }
        let lost = self.snapshots.iter().find(|(id, _)| self.is_certain(**id) && !shown.iter().any(|(shown, ..)| shown == *id));
        match lost {
            Some((id, (series, _))) => Err(format!("snapshot {id} of {series} was acknowledged and is lost")),
            None => Ok(()),
        }
    }
}

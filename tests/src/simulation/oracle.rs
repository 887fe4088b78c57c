//! What has to be true: which snapshots were acknowledged, what is in them, and who forgot what.

use icecore::id::SnapshotId;
use std::collections::{BTreeMap, BTreeSet};

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What.
    pub text: String,
    /// Whether what was stored is lost or damaged; that alone tells of a mutant.
    pub is_loss: bool,
}

impl Finding {
    /// Somebody was told what is not so.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_loss: false }
    }

    /// What was stored is lost or damaged.
    pub fn loss(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_loss: true }
    }
}

/// What is known of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Success was reported: it is there.
    Acknowledged,
    /// Somebody began to forget it, and did not report success: it is there or it is not.
    Doubtful,
    /// Success was reported to whoever forgot it: it is not there.
    Forgotten,
    /// Success was reported to whoever holds it: it is there, whoever forgets it.
    Held,
}

/// What processes were told.
#[derive(Debug, Clone, Default)]
pub struct Oracle {
    /// Content by name: a series, and of a folder its version, too.
    pub contents: BTreeMap<String, Vec<u8>>,
    /// Snapshots of which somebody was told, with the names of what is in them.
    pub snapshots: BTreeMap<SnapshotId, (String, Standing)>,
    /// How often somebody began to forget it.
    doubts: BTreeMap<SnapshotId, u64>,
    /// Those that somebody began to hold.
    pub maybe_held: BTreeSet<SnapshotId>,
}

impl Oracle {
    /// Success was reported for a snapshot.
    pub fn acknowledge(&mut self, id: SnapshotId, content: &str) {
        self.snapshots.entry(id).or_insert((content.to_owned(), Standing::Acknowledged));
    }

    /// Somebody is about to forget it.
    pub fn doubt(&mut self, id: SnapshotId) {
        *self.doubts.entry(id).or_default() += 1;
        if let Some((_, standing)) = self.snapshots.get_mut(&id)
            && *standing == Standing::Acknowledged
        {
            *standing = Standing::Doubtful;
        }
    }

    /// It was forgotten.
    pub fn forget(&mut self, id: SnapshotId) {
        let is_maybe_held = self.maybe_held.contains(&id);
        if let Some((_, standing)) = self.snapshots.get_mut(&id)
            && *standing != Standing::Held
        {
            // A hold that was not reported may bring it back.
            *standing = if is_maybe_held { Standing::Doubtful } else { Standing::Forgotten };
        }
    }

    /// Somebody is about to hold it.
    pub fn may_hold(&mut self, id: SnapshotId) {
        self.maybe_held.insert(id);
        if let Some((_, standing)) = self.snapshots.get_mut(&id)
            && *standing == Standing::Forgotten
        {
            *standing = Standing::Doubtful;
        }
    }

    /// It is held.
    pub fn hold(&mut self, id: SnapshotId) {
        if let Some((_, standing)) = self.snapshots.get_mut(&id) {
            *standing = Standing::Held;
        }
    }

    /// How often somebody began to forget it.
    pub fn doubts(&self, id: SnapshotId) -> u64 {
        self.doubts.get(&id).copied().unwrap_or_default()
    }

    /// Whether it is held for certain.
    pub fn is_held(&self, id: SnapshotId) -> bool {
        self.snapshots.get(&id).is_some_and(|(_, standing)| *standing == Standing::Held)
    }

    /// Whether it has to be there. Whoever looks for it from now on has to find it for as long as nobody begins to forget it, whether a hold wins or not:
    /// a withdrawal counts until the hold is there.
    pub fn is_certain(&self, id: SnapshotId) -> bool {
        self.snapshots.get(&id).is_some_and(|(_, standing)| matches!(standing, Standing::Acknowledged | Standing::Held))
    }

    /// Snapshots that may be there.
    pub fn possible(&self) -> Vec<SnapshotId> {
        self.snapshots.iter().filter(|(_, (_, standing))| *standing != Standing::Forgotten).map(|(id, _)| *id).collect()
    }

    /// Whether this may come out of a snapshot. Of one that nobody was told of only the series is known.
    fn is_content(&self, id: SnapshotId, series: &str, content: &[u8]) -> bool {
        match self.snapshots.get(&id) {
            Some((name, _)) => self.contents.get(name).is_some_and(|known| known == content),
            None => self.contents.iter().any(|(name, known)| name.starts_with(series) && known == content),
        }
    }

    /// What is wrong with what a fresh process is shown: the snapshots with their series and, where one was restored, what came back.
    pub fn judge(&self, shown: &[(SnapshotId, String, Option<Vec<u8>>)]) -> Result<(), Finding> {
        for (id, series, content) in shown {
            if content.as_ref().is_some_and(|content| !self.is_content(*id, series, content)) {
                return Err(Finding::loss(format!("snapshot {id} of {series} comes back with other content")));
            }
            if self.snapshots.get(id).is_some_and(|(_, standing)| *standing == Standing::Forgotten) {
                return Err(Finding::new(format!("snapshot {id} of {series} was forgotten and is shown")));
            }
        }
        let lost = self.snapshots.iter().find(|(id, _)| self.is_certain(**id) && !shown.iter().any(|(shown, ..)| shown == *id));
        match lost {
            Some((id, (series, _))) => Err(Finding::loss(format!("snapshot {id} of {series} was acknowledged and is lost"))),
            None => Ok(()),
        }
    }
}

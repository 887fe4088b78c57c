//! What a check collects: findings, whom they hurt, and notices.

use super::Finding;
use crate::backend::ObjectName;
use crate::error::Error;
use crate::id::SnapshotId;
use parking_lot::Mutex;

/// Paths that one finding lists.
const PATHS_MAX: usize = 1_000;
/// Findings that are kept; more are only counted.
const FINDINGS_MAX: usize = 10_000;
/// Notices that are kept; more are only counted.
const NOTICES_MAX: usize = 1_000;

/// Names a finding while the check runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct FindingId(usize);

/// Collects findings and notices, from several threads.
#[derive(Debug, Default)]
pub(super) struct Findings(Mutex<Collected>);

#[derive(Debug, Default)]
struct Collected {
    drafts: Vec<Draft>,
    more_findings: u64,
    notices: Vec<String>,
    more_notices: u64,
}

#[derive(Debug)]
struct Draft {
    finding: Finding,
    /// Counts only once somebody turns out to suffer from it.
    is_latent: bool,
    /// The last entry that was counted, so that a file with many lost chunks counts once.
    last: Option<(SnapshotId, Vec<u8>)>,
}

impl Findings {
    /// Something is wrong with `object`.
    pub(super) fn add(&self, object: ObjectName, error: &Error) -> FindingId {
        self.push(Some(object), error.broken_rule(), error.to_string(), false)
    }

    /// Something is wrong that no error says.
    pub(super) fn say(&self, object: Option<ObjectName>, rule: Option<&'static str>, message: impl Into<String>) -> FindingId {
        self.push(object, rule, message.into(), false)
    }

    /// As [`Findings::say`], but it counts only where a snapshot suffers from it.
    pub(super) fn say_if_needed(&self, object: ObjectName, message: impl Into<String>) -> FindingId {
        self.push(Some(object), None, message.into(), true)
    }

    fn push(&self, object: Option<ObjectName>, rule: Option<&'static str>, message: String, is_latent: bool) -> FindingId {
        let mut collected = self.0.lock();
        if collected.drafts.len() == FINDINGS_MAX {
            // The last one stands for all that follow.
            collected.more_findings += 1;
            return FindingId(FINDINGS_MAX - 1);
        }
        let finding = Finding { object, rule, message, snapshots: Vec::new(), paths: Vec::new(), paths_total: 0 };
        collected.drafts.push(Draft { finding, is_latent, last: None });
        FindingId(collected.drafts.len() - 1)
    }

    /// A snapshot suffers from it.
    pub(super) fn blame(&self, id: FindingId, snapshot: SnapshotId) {
        if let Some(draft) = self.0.lock().drafts.get_mut(id.0) {
            draft.hurts(snapshot);
        }
    }

    /// `entries` entries of a snapshot suffer from it, of which `key` is one (or the last).
    pub(super) fn blame_entries(&self, id: FindingId, snapshot: SnapshotId, key: &[u8], entries: u64) {
        if let Some(draft) = self.0.lock().drafts.get_mut(id.0) {
            draft.hurts(snapshot);
            if draft.last.as_ref().is_some_and(|(last, path)| *last == snapshot && path == key) {
                return;
            }
            draft.last = Some((snapshot, key.to_vec()));
            draft.finding.paths_total = draft.finding.paths_total.saturating_add(entries);
            let paths = &mut draft.finding.paths;
            if let Err(at) = paths.binary_search_by(|path| path.as_slice().cmp(key))
                && paths.len() < PATHS_MAX
            {
                paths.insert(at, key.to_vec());
            }
        }
    }

    /// Something that a person should know and that is no damage.
    pub(super) fn notice(&self, message: impl Into<String>) {
        let message = message.into();
        let mut collected = self.0.lock();
        if collected.notices.last() == Some(&message) {
            return;
        }
        match collected.notices.len() < NOTICES_MAX {
            true => collected.notices.push(message),
            false => collected.more_notices += 1,
        }
    }

    /// Everything that was collected.
    pub(super) fn finish(&self) -> (Vec<Finding>, Vec<String>) {
        let mut collected = std::mem::take(&mut *self.0.lock());
        let mut findings: Vec<_> = collected.drafts.into_iter().filter(|draft| !draft.is_latent).map(|draft| draft.finding).collect();
        findings.iter_mut().for_each(|finding| finding.snapshots.sort_unstable());
        if collected.more_findings > 0 {
            let message = format!("{} more findings are not listed", collected.more_findings);
            findings.push(Finding { object: None, rule: None, message, snapshots: Vec::new(), paths: Vec::new(), paths_total: 0 });
        }
        if collected.more_notices > 0 {
            collected.notices.push(format!("{} more notices are not listed", collected.more_notices));
        }
        (findings, collected.notices)
    }
}

impl Draft {
    fn hurts(&mut self, snapshot: SnapshotId) {
        self.is_latent = false;
        if !self.finding.snapshots.contains(&snapshot) {
            self.finding.snapshots.push(snapshot);
        }
    }
}

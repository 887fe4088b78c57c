//! What a check collects: findings, whom they hurt, and notices.

use super::{Finding, HurtSnapshot};
use crate::backend::ObjectName;
use crate::error::{Error, ErrorKind};
use crate::id::SnapshotId;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};

/// Paths that one finding lists.
const PATHS_MAX: usize = 1_000;
/// Findings that are kept; more are only counted.
const FINDINGS_MAX: usize = 10_000;
/// Paths that are listed of all snapshots together; one snapshot lists as many as one finding.
const PATHS_OF_ALL_MAX: usize = 50_000;
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
    hurt: BTreeMap<SnapshotId, HurtSnapshot>,
    paths_of_all: usize,
    series: HashMap<SnapshotId, String>,
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
        self.push(Some(object), error.broken_rule(), error.to_string(), error.kind(), false)
    }

    /// Something was wrong with `object`, and is healed.
    pub(super) fn add_healed(&self, object: ObjectName, error: &Error) {
        self.add(object, error);
        self.mark_healed(&object);
    }

    /// Whether anything was found about `object`.
    pub(super) fn is_about(&self, object: &ObjectName) -> bool {
        self.0.lock().drafts.iter().any(|draft| draft.finding.object == Some(*object))
    }

    /// Whether `object` could not be read.
    pub(super) fn is_unread(&self, object: &ObjectName) -> bool {
        let is_unread = |finding: &Finding| finding.object == Some(*object) && finding.kind == ErrorKind::Unavailable;
        self.0.lock().drafts.iter().any(|draft| is_unread(&draft.finding))
    }

    /// What was found about `object` so far is healed.
    pub(super) fn mark_healed(&self, object: &ObjectName) {
        let mut collected = self.0.lock();
        let of_object = collected.drafts.iter_mut().filter(|draft| draft.finding.object == Some(*object));
        of_object.for_each(|draft| draft.finding.healed = true);
    }

    /// Something is wrong that no error says.
    pub(super) fn say(&self, object: Option<ObjectName>, rule: Option<&'static str>, message: impl Into<String>) -> FindingId {
        self.push(object, rule, message.into(), ErrorKind::Damaged, false)
    }

    /// As [`Findings::say`], but it counts only where a snapshot suffers from it.
    pub(super) fn say_if_needed(&self, object: ObjectName, message: impl Into<String>) -> FindingId {
        self.push(Some(object), None, message.into(), ErrorKind::Damaged, true)
    }

    fn push(&self, object: Option<ObjectName>, rule: Option<&'static str>, message: String, kind: ErrorKind, is_latent: bool) -> FindingId {
        let mut collected = self.0.lock();
        if collected.drafts.len() == FINDINGS_MAX {
            // The last one stands for all that follow.
            collected.more_findings += 1;
            return FindingId(FINDINGS_MAX - 1);
        }
        let finding = Finding { object, rule, message, kind, healed: false, snapshots: Vec::new(), paths: Vec::new(), paths_total: 0 };
        collected.drafts.push(Draft { finding, is_latent, last: None });
        FindingId(collected.drafts.len() - 1)
    }

    /// A snapshot suffers from it.
    pub(super) fn blame(&self, id: FindingId, snapshot: SnapshotId) {
        let mut collected = self.0.lock();
        if let Some(draft) = collected.drafts.get_mut(id.0) {
            draft.hurts(snapshot);
            collected.hurt(snapshot);
        }
    }

    /// What series a snapshot is of, as far as that may be known.
    pub(super) fn introduce(&self, snapshot: SnapshotId, series: &str) {
        self.0.lock().series.insert(snapshot, series.to_owned());
    }

    /// `entries` entries of a snapshot suffer from it, of which `key` is one (or the last).
    pub(super) fn blame_entries(&self, id: FindingId, snapshot: SnapshotId, key: &[u8], entries: u64) {
        let mut collected = self.0.lock();
        if let Some(draft) = collected.drafts.get_mut(id.0) {
            draft.hurts(snapshot);
            if draft.last.as_ref().is_some_and(|(last, path)| *last == snapshot && path == key) {
                return;
            }
            draft.last = Some((snapshot, key.to_vec()));
            draft.finding.paths_total = draft.finding.paths_total.saturating_add(entries);
            note_path(&mut draft.finding.paths, key, PATHS_MAX);
            collected.hurt_entries(snapshot, key, entries);
        }
    }

    /// Whether anything was found that a snapshot suffers from, or that is wrong with it.
    pub(super) fn accuse(&self, snapshot: SnapshotId) -> bool {
        let is_hurt = self.0.lock().hurt.contains_key(&snapshot);
        is_hurt || self.is_about(&ObjectName::snapshot(snapshot))
    }

    /// The snapshot was taken away by the rules meanwhile: what it missed does not count.
    pub(super) fn acquit(&self, snapshot: SnapshotId) {
        let mut collected = self.0.lock();
        let name = ObjectName::snapshot(snapshot);
        for draft in &mut collected.drafts {
            draft.finding.snapshots.retain(|other| *other != snapshot);
            draft.is_latent |= draft.finding.object == Some(name);
        }
        collected.hurt.remove(&snapshot);
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
    pub(super) fn finish(&self) -> (Vec<Finding>, Vec<HurtSnapshot>, Vec<String>) {
        let mut collected = std::mem::take(&mut *self.0.lock());
        let mut findings: Vec<_> = collected.drafts.into_iter().filter(Draft::counts).map(|draft| draft.finding).collect();
        findings.iter_mut().for_each(|finding| finding.snapshots.sort_unstable());
        if collected.more_findings > 0 {
            let message = format!("{} more findings are not listed", collected.more_findings);
            let kind = ErrorKind::Damaged;
            let (snapshots, paths) = Default::default();
            findings.push(Finding { object: None, rule: None, message, kind, healed: false, snapshots, paths, paths_total: 0 });
        }
        if collected.more_notices > 0 {
            collected.notices.push(format!("{} more notices are not listed", collected.more_notices));
        }
        let hurt = collected.hurt.into_values().map(|hurt| HurtSnapshot { series: collected.series.remove(&hurt.snapshot), ..hurt });
        (findings, hurt.collect(), collected.notices)
    }
}

/// Puts a key into an ascending list, unless it is there or the list is long enough; whether it did.
fn note_path(paths: &mut Vec<Vec<u8>>, key: &[u8], paths_max: usize) -> bool {
    match paths.binary_search_by(|path| path.as_slice().cmp(key)) {
        Err(at) if paths.len() < paths_max => {
            paths.insert(at, key.to_vec());
            true
        }
        _ => false,
    }
}

impl Collected {
    fn hurt(&mut self, snapshot: SnapshotId) -> &mut HurtSnapshot {
        let new = || HurtSnapshot { snapshot, series: None, paths: Vec::new(), paths_total: 0 };
        self.hurt.entry(snapshot).or_insert_with(new)
    }

    /// An entry that suffers from several findings counts once, unless others came between.
    fn hurt_entries(&mut self, snapshot: SnapshotId, key: &[u8], entries: u64) {
        let paths_max = if self.paths_of_all < PATHS_OF_ALL_MAX { PATHS_MAX } else { 0 };
        let hurt = self.hurt(snapshot);
        if entries <= 1 && hurt.paths.binary_search_by(|path| path.as_slice().cmp(key)).is_ok() {
            return;
        }
        hurt.paths_total = hurt.paths_total.saturating_add(entries);
        let is_new = note_path(&mut hurt.paths, key, paths_max);
        self.paths_of_all += usize::from(is_new);
    }
}

impl Draft {
    fn counts(&self) -> bool {
        !self.is_latent || !self.finding.snapshots.is_empty()
    }

    fn hurts(&mut self, snapshot: SnapshotId) {
        if !self.finding.snapshots.contains(&snapshot) {
            self.finding.snapshots.push(snapshot);
        }
    }
}
